"""The SIP side of `callpoint doctor`: our listeners, our certificate, and whether each trunk can be reached."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509

from engine import native
from engine.accounts.telephony import credentials_warning
from engine.agents import ping
from engine.config import Config, Listen, parse_listens
from engine.edge.workers import OWN_PORTS_AFTER
from engine.findings import Finding
from engine.sip.forward import Hop
from engine.sip.resolve import Resolver
from engine.sip.tls import TlsFiles, client_context, server_context, tls_reason

CONNECT_S = 2.0
EXPIRES_SOON = timedelta(days=21)


def tls_files(config: Config) -> TlsFiles:
    """The PEM files that SIP over TLS rests on."""
    sip = config.sip
    return TlsFiles(sip.tls_cert, sip.tls_key, sip.client_ca, sip.tls_ca)


async def listener_findings(config: Config) -> list[Finding]:
    """Whether we answer where the configuration says; TLS with the certificate of the configuration."""
    sip = config.sip
    return [
        *[_listener("udp", each, is_up=await answers_sip(each.from_here)) for each in parse_listens(sip.udp)],
        *[
            _listener("tcp", each, is_up=await answers(each.from_here.host, each.port))
            for each in parse_listens(sip.tcp)
        ],
        *[_listener("tls", each, is_up=await _shakes_hands(each.from_here)) for each in parse_listens(sip.tls)],
        *[finding for worker in range(sip.workers) if sip.workers > 1 for finding in await _worker(worker, config)],
    ]


async def _worker(worker: int, config: Config) -> list[Finding]:
    """Whether one of several SIP processes has the ports of its own that responses and requests in a call come to."""
    sip = config.sip
    look = {"udp": answers_sip, "tcp": _connects, "tls": _shakes_hands}
    found = []
    for transport, listens in (("udp", sip.udp), ("tcp", sip.tcp), ("tls", sip.tls)):
        for shared in parse_listens(listens):
            own = own_place(shared, transport, worker)
            if own is not None and not await look[transport](own.from_here):
                detail = (
                    f"worker {worker} is not on {transport} {own}: it is down, or took another port because this one "
                    "was taken; a firewall in between keeps answers from it then. Free the port and start again."
                )
                found.append(Finding("SIP", "warning", detail))
    return found


def own_place(shared: Listen, transport: str, worker: int) -> Listen | None:
    """Where a worker listens alone beside a shared address; None where it takes any port."""
    port = shared.port + OWN_PORTS_AFTER[transport] + worker
    return Listen(shared.host, port) if shared.port and port <= 65_535 else None


def credentials_findings(what: str, user: str | None, *, has_secret: bool) -> list[Finding]:
    """A user name without a password answers no challenge, and nothing else would say so before a call fails."""
    detail = credentials_warning(user, has_secret=has_secret)
    return [Finding(what, "warning", detail)] if detail is not None else []


def core_finding() -> Finding:
    """Whether the SIP core runs as machine code; both are well."""
    if native.compiled() is not None:
        return Finding("SIP core", "good", "compiled")
    detail = "Python source. `python3 run.py compile` makes it machine code; a call then costs less than half."
    return Finding("SIP core", "good", detail)


def certificate_findings(config: Config, now: datetime) -> list[Finding]:
    """The certificate PBXs and trunks see: usable, ours by its key, not about to expire. `now`: UTC."""
    sip = config.sip
    if sip.tls_cert is None or sip.tls_key is None:
        if not sip.tls:
            return []
        detail = "[sip] tls is set without tls_cert and tls_key: nothing is served there. Name both."
        return [Finding("SIP certificate", "bad", detail)]
    try:
        server_context(tls_files(config))
        client_context(tls_files(config))
        certificate = x509.load_pem_x509_certificates(sip.tls_cert.read_bytes())[0]
    except (OSError, ValueError, ssl.SSLError) as exc:
        detail = (
            f"{sip.tls_cert} with {sip.tls_key}: {tls_reason(exc)}. SIP over TLS is refused with it. "
            "Put the certificate, its chain and its own key there."
        )
        return [Finding("SIP certificate", "bad", detail)]
    return [_lifetime(certificate, now), *_client_authority(config)]


async def trunk_finding(
    what: str, host: str, port: int | None, transport: str, config: Config, *, pings: bool = True, is_up: bool = False
) -> Finding:
    """Whether a trunk's name leads somewhere, and somebody is there who is what TLS wants proven.

    Args:
        pings: It may be asked by OPTIONS. is_up: The node says that it answers: by its calls, where it is silent here.
    """
    hops = await _hops(host, port, transport)
    if not hops:
        return Finding(what, "bad", f"{host} has no address: calls would skip it. Correct the host.")
    first = hops[0]
    place = str(Listen(first.ip, first.port))
    if transport == "tcp" and not await answers(first.ip, first.port):
        return Finding(what, "bad", f"{place} refuses TCP: calls fail over from it.")
    if transport == "udp" and pings and not await answers_sip(Listen(first.ip, first.port)):
        but = "though a call was answered there lately" if is_up else "so calls may not get through"
        detail = (
            f"{place} does not answer OPTIONS, {but}. Where the carrier answers none, switch the asking off on the "
            "trunk's page: until then it is tried behind those that answer."
        )
        return Finding(what, "warning" if is_up else "bad", detail)
    if transport == "tls":
        fault = await trunk_tls_fault(first, tls_files(config))
        if fault:
            detail = f"{place} over TLS: {fault}. Calls fail over from it. Ask the carrier, or set [sip] tls_ca."
            return Finding(what, "bad", detail)
        if not config.sip.tls:
            detail = (
                f"{place} over TLS answers, but [sip] tls is not served: the carrier's requests inside a call reach us "
                "only by the connection we opened. Serve TLS too."
            )
            return Finding(what, "warning", detail)
    return Finding(what, "good", f"{place} over {transport}{'' if pings else ', not asked whether it answers'}")


async def trunk_tls_fault(hop: Hop, files: TlsFiles) -> str:
    """Why a TLS connection to that hop cannot be had, "" when it can."""
    try:
        return await _handshake(hop.ip, hop.port, client_context(files), hop.host or hop.ip)
    except (OSError, ValueError) as exc:
        return tls_reason(exc)


async def answers_sip(listen: Listen) -> bool:
    """Whether anybody answers an OPTIONS over UDP, with whatever status (RFC 3261 §11)."""
    if not listen.port:
        return False
    try:
        return await ping((listen.host, listen.port), within_s=CONNECT_S)
    except OSError:
        return False


async def answers(host: str, port: int) -> bool:
    """Whether a TCP connection can be had."""
    try:
        _reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_S)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _connects(listen: Listen) -> bool:
    return await answers(listen.host, listen.port)


def _listener(transport: str, listen: Listen, *, is_up: bool) -> Finding:
    if is_up:
        return Finding("SIP", "good", f"answers on {transport} {listen}")
    return Finding("SIP", "warning", f"does not answer on {transport} {listen}: no 911 call is carried there now")


def _lifetime(certificate: x509.Certificate, now: datetime) -> Finding:
    expires = certificate.not_valid_after_utc
    names = ", ".join(_names(certificate)) or "nobody by name"
    day = expires.astimezone(UTC).date().isoformat()
    if expires <= now:
        detail = f"expired on {day}: PBXs and trunks refuse it. Renew it; it is read again without a restart."
        return Finding("SIP certificate", "bad", detail)
    if certificate.not_valid_before_utc > now:
        return Finding("SIP certificate", "bad", "is not valid yet: PBXs and trunks refuse it. Look at this clock.")
    if expires - now < EXPIRES_SOON:
        return Finding("SIP certificate", "warning", f"for {names} expires on {day}. Renew it; no restart is needed.")
    return Finding("SIP certificate", "good", f"for {names}, until {day}")


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = (str(each) for each in found.get_values_for_type(x509.IPAddress))
    return [*found.get_values_for_type(x509.DNSName), *addresses]


def _client_authority(config: Config) -> Iterable[Finding]:
    if config.sip.tls and config.sip.client_ca is None:
        detail = "[sip] client_ca is empty: no PBX can prove itself by certificate, only by address or password."
        yield Finding("PBX certificates", "warning", detail)


async def _hops(host: str, port: int | None, transport: str) -> tuple[Hop, ...]:
    resolver = Resolver()
    resolver.watch(host, port, transport)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2 * CONNECT_S):
            await resolver.refresh(0.0)
    return resolver.hops(host, port, transport)


async def _shakes_hands(listen: Listen) -> bool:
    """Of our own listener: anybody's certificate will do, the handshake is what counts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return not await _handshake(listen.host, listen.port, context, None)


async def _handshake(host: str, port: int, context: ssl.SSLContext, name: str | None) -> str:
    try:
        async with asyncio.timeout(CONNECT_S):
            _reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name or "")
    except TimeoutError:
        return f"no answer within {CONNECT_S:g} s"
    except OSError as exc:
        return tls_reason(exc)
    writer.close()
    return ""
