"""The SIP process with trunks over TLS and names in dialogs: ready ahead of calls, and a 911 goes whatever TLS does."""

import asyncio
import datetime as dt
import math
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from engine.crypto import KeyRing
from engine.e911.flood import DATAGRAMS_PER_S
from engine.sip.tls import TlsFiles, server_context
from tests.certificates import files_of
from tests.protocol.edgetest import CARRIER_IP, PBX_IP, STRANGER_IP, Carrier, Pbx, account, edge, trunk
from tests.protocol.elements import StreamPeer, UdpPeer
from tests.siptest import read_request, request, response

pytestmark = pytest.mark.enable_socket


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def pbx() -> AsyncIterator[Pbx]:
    made = Pbx("udp", PBX_IP)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def second() -> AsyncIterator[Carrier]:
    made = Carrier("udp", CARRIER_IP, lambda _: [180, 200])
    await made.open()
    yield made
    await made.close()


def settings(files: TlsFiles) -> dict[str, object]:
    named = {
        "tls_cert": files.certificate,
        "tls_key": files.key,
        "client_ca": files.client_ca,
        "tls_ca": files.server_ca,
    }
    return {"tls": "127.0.0.1:0"} | {name: str(path or "") for name, path in named.items()}


async def answered(carrier: StreamPeer) -> list[str]:
    """Serve a carrier until an INVITE was answered; the methods in the order they came, OPTIONS left out."""
    methods: list[str] = []
    while "INVITE" not in methods:
        data = await carrier.next()
        got = read_request(data)
        carrier.writer.write(response(data, 200, contact=f"sip:psap@127.0.0.1:{carrier.hop.port};transport=tls"))
        methods += [got.method] if got.method != "OPTIONS" else []
    return methods


async def test_a_911_goes_by_a_tls_connection_that_stood_before_it(
    tmp_path: Path, keys: KeyRing, authority: trustme.CA, pbx: Pbx
) -> None:
    """E-08: no handshake in the call's way; the trunk is up by its pings over that very connection."""
    carrier = StreamPeer(server_context(files_of(tmp_path, authority, "localhost")))
    await carrier.listen()
    first = trunk(carrier.hop, host="localhost")
    own = files_of(tmp_path, authority, "callpoint.example", server_ca=authority)
    async with edge(tmp_path, keys, account(first), **settings(own)) as running:
        data = await carrier.next()
        assert read_request(data).method == "OPTIONS"
        carrier.writer.write(response(data, 200))
        told = await running.hear("trunk")
        assert told["up"]
        assert carrier.connections == 1
        call = await pbx.call(running.udp)
        serving = asyncio.create_task(answered(carrier))
        assert (await call.final()).status == 200
        assert await serving == ["INVITE"]
        assert carrier.connections == 1
    await carrier.close()


async def test_a_trunk_that_proves_another_name_is_told_and_the_911_goes_to_the_next(
    tmp_path: Path, keys: KeyRing, authority: trustme.CA, pbx: Pbx, second: Carrier
) -> None:
    """E-03: the operator reads why, the caller notices nothing."""
    carrier = StreamPeer(server_context(files_of(tmp_path, authority, "other.example")))
    await carrier.listen()
    first = trunk(carrier.hop, host="localhost")
    own = files_of(tmp_path, authority, "callpoint.example", server_ca=authority)
    trunks = (first, trunk(second.hop, "trunk_second", 20))
    async with edge(tmp_path, keys, account(*trunks), **settings(own)) as running:
        told = await running.hear("trunk", lambda message: message["trunk_id"] == "trunk_first")
        assert not told["up"]
        assert "not valid for 'localhost'" in told["detail"]
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        assert len(second.invites) == 1
    await carrier.close()


async def serve(carrier: StreamPeer, *, until: str) -> list[str]:
    """Answer whatever comes over whichever connection, until that method came; the methods, OPTIONS left out."""
    methods: list[str] = []
    while until not in methods:
        if not (data := await carrier.next()):
            continue  # a connection that was ended for its certificate
        got = read_request(data)
        if got.method != "ACK":
            carrier.writer.write(response(data, 200, contact=f"sip:psap@127.0.0.1:{carrier.hop.port};transport=tls"))
        methods += [got.method] if got.method != "OPTIONS" else []
    return methods


FAULTS = ["another name", "expired", "another authority", "our own authorities unreadable"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_carrier_that_cannot_prove_its_name_takes_the_911_that_nobody_else_takes(
    tmp_path: Path, keys: KeyRing, authority: trustme.CA, pbx: Pbx, fault: str
) -> None:
    """E-03: with proof first, without when nothing is left; the whole dialog goes by; the trunk stays told as down."""
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    theirs = {
        "another name": lambda: files_of(tmp_path, authority, "other.example"),
        "expired": lambda: files_of(tmp_path, authority, "localhost", not_after=yesterday),
        "another authority": lambda: files_of(tmp_path, trustme.CA(), "localhost"),
    }.get(fault, lambda: files_of(tmp_path, authority, "localhost"))()
    carrier = StreamPeer(server_context(theirs))
    await carrier.listen()
    own = files_of(tmp_path, authority, "callpoint.example", server_ca=authority)
    if fault == "our own authorities unreadable":
        assert own.server_ca is not None
        own.server_ca.write_text("no certificate\n")
    async with edge(tmp_path, keys, account(trunk(carrier.hop, host="localhost")), **settings(own)) as running:
        told = await running.hear("trunk", lambda message: message["trunk_id"] == "trunk_first")
        assert not told["up"]
        call = await pbx.call(running.udp)
        serving = asyncio.create_task(serve(carrier, until="BYE"))
        answer = await call.final()
        assert answer.status == 200
        await call.within("ACK", answer, 1)
        await call.within("BYE", answer, 2)
        assert await serving == ["INVITE", "ACK", "BYE"]
        entries = await running.journal(lambda found: any(entry["type"] == "outcome" for entry in found))
        attempts = [(entry["outcome"], entry["hop"]) for entry in entries if entry["type"] == "attempt"]
        place = f"tls:127.0.0.1:{carrier.hop.port}"
        assert attempts == [("unreachable", place), ("answered", f"{place} unproven")]
        assert not any(message["is"] == "trunk" and message["up"] for message in running.said)
    await carrier.close()


async def test_an_ordinary_call_and_a_trunk_that_proved_itself_are_not_tried_without_proof(
    tmp_path: Path, keys: KeyRing, authority: trustme.CA, pbx: Pbx
) -> None:
    """E-04: only an emergency goes where nobody proves anything, and only where the certificate may be the reason."""
    servers = (server_context(files_of(tmp_path, authority, name)) for name in ("localhost", "other.example"))
    carrier, route = (StreamPeer(server) for server in servers)
    await carrier.listen()
    await route.listen()
    own = files_of(tmp_path, authority, "callpoint.example", server_ca=authority)
    known = account(trunk(carrier.hop, host="localhost"))
    known["pbxs"][0]["default_route"] = f"sip:localhost:{route.hop.port};transport=tls"
    async with edge(tmp_path, keys, known, **settings(own)) as running:
        data = await carrier.next()
        carrier.writer.write(response(data, 200))
        await running.hear("trunk", lambda message: message["up"])
        await carrier.close()
        assert (await (await pbx.call(running.udp, "sip:2125550100@callpoint.example.com")).final()).status >= 400
        assert not any(route.inbox.get_nowait() for _ in range(route.inbox.qsize()))
        assert (await (await pbx.call(running.udp)).final()).status >= 400
        entries = await running.journal(lambda found: any(entry["type"] == "outcome" for entry in found))
        assert not any("unproven" in entry["hop"] for entry in entries if entry["type"] == "attempt")
    await route.close()


async def test_a_broken_certificate_keeps_no_911_from_going(
    tmp_path: Path, keys: KeyRing, authority: trustme.CA, pbx: Pbx, second: Carrier
) -> None:
    """E-03: the process is up, says what is wrong, and serves UDP."""
    own = files_of(tmp_path, authority, "callpoint.example")
    assert own.key is not None
    own.key.write_text("no key\n")
    async with edge(tmp_path, keys, account(trunk(second.hop)), **settings(own)) as running:
        ready = next(message for message in running.said if message["is"] == "ready")
        assert any("SIP over TLS is refused until then" in fault for fault in ready["faults"])
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200


async def test_a_dialog_whose_contact_is_a_host_name_is_acknowledged_and_ended(
    tmp_path: Path, keys: KeyRing, pbx: Pbx
) -> None:
    """E-18: RFC 3263 inside a dialog; the name was looked up when the 2xx came, before it was needed."""
    carrier = UdpPeer()
    await carrier.open()

    async def starting(method: str) -> bytes:
        while not (data := await carrier.next()).startswith(method.encode() + b" "):
            carrier.send(response(data, 200), running.udp[1])
        return data

    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        call = await pbx.call(running.udp)
        invite = await starting("INVITE")
        carrier.send(response(invite, 200, contact=f"sip:psap@localhost:{carrier.hop.port}"), running.udp[1])
        answer = await call.final()
        for cseq, method in ((1, "ACK"), (2, "BYE")):
            for _ in range(240):  # an ACK that comes before the look-up has ended is sent again with the next 2xx
                await call.within(method, answer, cseq)
                try:
                    async with asyncio.timeout(0.25):
                        assert (await starting(method)).startswith(f"{method} sip:psap@localhost:".encode())
                    break
                except TimeoutError:
                    continue
            else:
                raise AssertionError(f"no {method} at the carrier")
    carrier.transport.close()


async def test_a_stranger_over_tcp_is_heard_no_more_than_over_udp(tmp_path: Path, keys: KeyRing) -> None:
    """E-04: a stream is no way around the rate; the connection that brings a flood stays one stranger's."""
    stranger = StreamPeer(ip=STRANGER_IP)
    async with edge(tmp_path, keys, account()) as running:
        await stranger.connect(running.tcp[1])
        started = time.monotonic()
        for number in range(3 * DATAGRAMS_PER_S):
            stranger.writer.write(
                request("INVITE", source=stranger.hop, branch=f"z9hG4bK{number}", call_id=f"{number}@x")
            )
        await stranger.writer.drain()
        stranger.writer.write(b"\r\n\r\n")
        await running.settled()
        async with asyncio.timeout(60):
            while not stranger.inbox.qsize():
                await asyncio.sleep(0.01)
        await running.settled()
        answered = stranger.inbox.qsize()
        seconds = 1 + math.ceil(time.monotonic() - started)  # they may begin in the middle of one
        assert 0 < answered <= seconds * DATAGRAMS_PER_S
        assert (await running.settled())["connections_refused"] == 0
    await stranger.close()
