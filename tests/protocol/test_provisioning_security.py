"""What guards the phones' files on the wire: encrypted files through whole boots, client certificates in real TLS
handshakes, address ranges, and limits under a flood.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import aiohttp
import http_ece
import pytest
import trustme
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select

from engine import config as configuration
from engine.app import tls_context
from engine.audit.events import Event
from engine.audit.record import SYSTEM
from engine.models import Account, AuditEntry, Phone, ProvisioningEvent
from engine.provisioning import envelope, phones, safeguards
from engine.provisioning.admission import Admission
from engine.provisioning.certificates import Authorities
from engine.provisioning.envelope import Scheme
from engine.provisioning.http import PhonesPort, make_phones_port
from engine.provisioning.simulate import Memory, simulate
from tests.factories import add_account, add_line, add_pbx

AGENT = "Yealink SIP-T46U 108.86.0.20"
YEALINK, SECOND = "805ec0aabb01", "805ec0aabb02"
FLEET = {  # vendor, model and address of one phone of each family and template that decrypts
    "yealink": ("yealink", "T46U", YEALINK),
    "gxp": ("grandstream", "GXP2135", "000b82aabb01"),
    "grp": ("grandstream", "GRP2614", "000b82aabb02"),
    "ht": ("grandstream", "HT802", "000b82aabb03"),
    "spa": ("cisco_spa", "SPA504G", "0002fdaabb01"),
    "mpp": ("cisco_mpp", "8851", "00562baabb01"),
    "obi": ("obihai", "OBi300", "9cadefaabb01"),
}
OWN_FILE = {
    "yealink": "{mac}.cfg", "gxp": "cfg{mac}.xml", "grp": "cfg{mac}.xml", "ht": "cfg{mac}.xml", "spa": "spa{mac}.xml",
    "mpp": "{mac}.xml", "obi": "{MAC}.xml",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Site:
    """One account with a phone of each family that decrypts, behind a plain and a TLS listener."""

    port: PhonesPort
    database: object
    keys: object
    account_id: str
    token: str
    http: str
    https: str
    trust: ssl.SSLContext

    def url(self, *, tls: bool = True, folder: str = "") -> str:
        return f"{self.https if tls else self.http}/p/{self.token}/{folder}"

    async def policy(self, **changes: object) -> None:
        async with self.database.sessions.begin() as session:
            account = await session.get(Account, self.account_id)
            await safeguards.update_policy(session, SYSTEM, account, changes, sees_certificates=True)

    async def phone(self, mac: str) -> Phone:
        async with self.database.sessions() as session:
            return await session.scalar(select(Phone).where(Phone.mac == mac))

    async def events(self) -> list[ProvisioningEvent]:
        await self.port.log.flush()
        async with self.database.sessions() as session:
            return list(await session.scalars(select(ProvisioningEvent).order_by(ProvisioningEvent.id)))


@pytest.fixture(scope="module")
def server_ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def maker() -> trustme.CA:
    """The maker of the phones."""
    return trustme.CA(organization_name="Maker of Phones")


@pytest.fixture
def authorities(maker, tmp_path) -> Authorities:
    folder = tmp_path / "makers"
    folder.mkdir()
    maker.cert_pem.write_to_path(folder / "maker.pem")
    (folder / "README").write_text("not a certificate")
    return Authorities.load(folder)


@pytest.fixture
async def site(database, keys, server_ca, authorities, tmp_path) -> AsyncIterator[Site]:
    async with database.sessions.begin() as session:
        account = await add_account(session, phone_admin_password="Desk-Pass-w0rd")
        token = await phones.generate_token(session, SYSTEM, account, keys)
        await add_pbx(session, account, registrar_host="pbx.example.net")
        line = await add_line(session, account, "101")
        await session.flush()
        for vendor, model, mac in FLEET.values():
            await phones.create_phone(
                session, SYSTEM, account, phones.PhoneFields(mac, vendor, model, lines=(line.id,))
            )
        await phones.create_phone(session, SYSTEM, account, phones.PhoneFields(SECOND, "yealink", "T46U"))
    port = replace(make_phones_port(configuration.Provisioning(), keys, database), admission=Admission(authorities))
    issued = server_ca.issue_cert("127.0.0.1", "localhost")
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    for pem in issued.cert_chain_pems:
        pem.write_to_path(certificate, append=True)
    issued.private_key_pem.write_to_path(key)
    context = tls_context(certificate, key)
    authorities.ask_for_certificates(context)
    runner = port.runner()
    await runner.setup()
    addresses = []
    for ssl_context in (None, context):
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener, ssl_context=ssl_context).start()
        addresses.append(f"127.0.0.1:{listener.getsockname()[1]}")
    trust = ssl.create_default_context()
    server_ca.configure_trust(trust)
    yield Site(
        port, database, keys, account.id, token, f"http://{addresses[0]}", f"https://{addresses[1]}", trust
    )  # fmt: skip
    await runner.cleanup()
    await port.close()


@contextlib.asynccontextmanager
async def client_of(site: Site, shown: trustme.LeafCert | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """A phone's HTTP client, with its certificate."""
    trust = ssl.create_default_context()
    trust.load_verify_locations(cadata="".join(ssl.DER_cert_to_PEM_cert(der) for der in site.trust.get_ca_certs(True)))
    if shown is not None:
        shown.configure_cert(trust)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        yield session


async def get(session: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with session.get(url, headers={"User-Agent": AGENT, "Accept-Encoding": "identity", **headers}) as answer:
        told = {name.lower(): value for name, value in answer.headers.items() if name != "Date"}
        return answer.status, told, await answer.read()


# --- Encrypted files ------------------------------------------------------------------------------------------------


async def test_phones_take_their_keys_over_tls_and_boot_encrypted_from_then_on(site):
    """P-12, P-21: the first boot in clear over TLS brings the key; the next comes from `sealed/`, and what leaves there
    over plain HTTP tells a listener nothing.
    """
    await site.policy(encrypt_files=True)
    async with client_of(site) as session:
        for name, (vendor, model, mac) in FLEET.items():
            flash = Memory()
            first = await simulate(vendor, model, mac, site.url(), memory=flash, session=session)
            assert first.is_ready, (name, first.fault)
            assert first.provisioning_url.endswith(f"{site.token}/sealed/"), name
            file = OWN_FILE[name].format(mac=mac, MAC=mac.upper())
            status, headers, body = await get(
                session, site.url(tls=False, folder="sealed/") + file, **{"User-Agent": ""}
            )
            assert (status, headers["content-type"]) == (200, "application/octet-stream"), name
            assert b"secret-of-101" not in body
            assert site.token.encode() not in body
            flash.digests.clear()  # as if the file had changed
            again = await simulate(vendor, model, mac, site.url(), memory=flash, session=session)
            assert again.is_ready, (name, again.fault)
            assert [line.secret for line in again.lines] == ["secret-of-101"], name
            assert any(one.status == 200 and one.is_applied for one in again.files), name
            assert not any(one.status == 404 and one.name == file for one in again.files), name


async def test_the_openssl_command_opens_what_a_grandstream_is_sent(site):
    """P-12: the file off the wire, by somebody else's program, with the key that an administrator is shown."""
    vendor, _model, mac = FLEET["gxp"]
    await site.policy(encrypt_files=True)
    async with site.database.sessions.begin() as session:
        phone = await session.scalar(select(Phone).where(Phone.mac == mac))
        shown = await safeguards.reveal_file_key(session, SYSTEM, phone)
    assert (shown.scheme, shown.folder, shown.iv) == (Scheme.OPENSSL, "sealed/", "")
    async with aiohttp.ClientSession() as session:
        _, _, body = await get(session, site.url(tls=False, folder="sealed/") + f"cfg{mac}.xml", **{"User-Agent": ""})
    command = ["openssl", "enc", "-d", "-aes-256-cbc", "-md", "md5", "-pass", f"pass:{shown.key}"]
    done = await asyncio.to_thread(subprocess.run, command, input=body, capture_output=True, check=True)
    clear = done.stdout
    assert clear.startswith(b"<?xml")
    assert b"<P34>secret-of-101</P34>" in clear
    assert f"<P1359>{shown.key}</P1359>".encode() in clear
    assert vendor == "grandstream"


async def test_an_mpp_that_asks_for_rfc_8188_gets_it(site):
    """P-12: Content-Encoding: aes128gcm, opened by another library."""
    _vendor, _model, mac = FLEET["mpp"]
    await site.policy(encrypt_files=True)
    key = envelope.phone_key(Scheme.AES128GCM, (await site.phone(mac)).file_key)
    url = site.url(tls=False, folder="sealed/") + f"{mac}.xml"
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        status, headers, body = await get(session, url, **{"Accept-Encoding": "aes128gcm", "User-Agent": ""})
        _, plain_headers, other = await get(session, url, **{"User-Agent": ""})
    assert (status, headers["content-encoding"], headers["vary"]) == (200, "aes128gcm", "Accept-Encoding")
    assert b"secret-of-101" in http_ece.decrypt(body, key=key.encode(), version="aes128gcm")
    assert other.startswith(b"Salted__")
    assert headers["etag"] != plain_headers["etag"]


async def test_the_etag_of_an_encrypted_file_holds_until_the_file_changes(site):
    """P-13: 304 for an encrypted file."""
    await site.policy(encrypt_files=True)
    url = site.url(tls=False, folder="sealed/") + f"{YEALINK}.cfg"
    async with aiohttp.ClientSession() as session:
        _, headers, body = await get(session, url)
        assert (await get(session, url, **{"If-None-Match": headers["etag"]}))[0] == 304
        await site.policy(resync_per_minute=30)
        _, again, same = await get(session, url)
        assert (again["etag"], same) == (headers["etag"], body)
        await site.policy(encrypt_files=False)
        status, other, changed = await get(session, url)
        assert status == 200, "a phone that still asks there still holds its key"
        assert other["etag"] != headers["etag"]
    key = envelope.phone_key(Scheme.YEALINK, (await site.phone(YEALINK)).file_key)
    told = envelope.open_sealed(Scheme.YEALINK, changed, key).decode()
    assert f"/p/{site.token}/\n" in told, "it is sent back to the plain URL"


async def test_in_clear_a_file_leaves_over_tls_alone_and_elsewhere_is_the_one_404(site):
    """P-12, P-02: plain HTTP, and `sealed/` without a key, look like any wrong request."""
    async with client_of(site) as session:
        expected = await get(session, f"{site.http}/p/nothing/nothing")
        assert expected[0] == 404
        assert await get(session, site.url(folder="sealed/") + f"{YEALINK}.cfg") == expected, "it has no key yet"
        await site.policy(encrypt_files=True)
        assert await get(session, site.url(tls=False) + f"{YEALINK}.cfg") == expected
        assert await get(session, site.url(tls=False, folder="sealed/") + "805ec0999999.cfg") == expected
        assert await get(session, site.url(tls=False, folder="sealed/sealed/") + f"{YEALINK}.cfg") == expected
        status, _, body = await get(session, site.url() + f"{YEALINK}.cfg")
        assert (status, b"aes_key.mac = " in body) == (200, True)
        for file in (f"{YEALINK}.boot", "y000000000108.cfg"):
            assert (await get(session, site.url(tls=False) + file))[0] == 200, "no secret is in it"
    reasons = [event.reason for event in await site.events()]
    assert reasons.count("plaintext") == 1


async def test_keys_reach_no_log_no_audit_entry_and_no_masked_page(site):
    """P-23: neither the stored key nor what is derived from it."""
    await site.policy(encrypt_files=True)
    phone = await site.phone(YEALINK)
    shown = await site.port.files(phone.id, site.url())
    text = shown[f"{YEALINK}.cfg"].decode()
    key = envelope.phone_key(Scheme.YEALINK, phone.file_key)
    assert "aes_key.mac = ••••••••" in text
    assert "/sealed/" in text
    async with site.database.sessions.begin() as session:
        await safeguards.reveal_file_key(session, SYSTEM, await session.get(Phone, phone.id))
    async with aiohttp.ClientSession() as session:
        await get(session, site.url(tls=False, folder="sealed/") + f"{YEALINK}.cfg")
    rows = [f"{event.file}{event.evidence}{event.user_agent}" for event in await site.events()]
    async with site.database.sessions() as session:
        entries = list(await session.scalars(select(AuditEntry)))
    rows += [entry.entry for entry in entries]
    assert [entry.event for entry in entries].count(Event.PHONE_FILE_KEY_REVEAL.value) == 1
    for secret in (key, phone.file_key):
        assert not any(secret in row for row in [text, *rows])


async def test_a_phone_added_later_has_a_key_from_the_start_and_none_is_ever_replaced(site):
    """P-12: a phone that holds a key could open no file of another."""
    await site.policy(encrypt_files=True)
    before = (await site.phone(YEALINK)).file_key
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, site.account_id)
        fields = phones.PhoneFields("805ec0aabb03", "yealink", "T46U")
        await phones.create_phone(session, SYSTEM, account, fields)
    await site.policy(encrypt_files=False)
    await site.policy(encrypt_files=True)
    assert (await site.phone("805ec0aabb03")).file_key
    assert (await site.phone(YEALINK)).file_key == before


# --- Client certificates --------------------------------------------------------------------------------------------

YEARS = dt.timedelta(days=365)


def issued(authority: trustme.CA, name: str, *, ended: bool = False) -> trustme.LeafCert:
    now = dt.datetime.now(dt.UTC)
    if not ended:
        return authority.issue_cert(common_name=name)
    return authority.issue_cert(common_name=name, not_before=now - 9 * YEARS, not_after=now - YEARS)


SPELLINGS = ("805EC0AABB01", "80:5e:c0:aa:bb:01", "SEP805EC0AABB01", "T46U-805EC0AABB01.maker")


async def test_a_phone_proves_its_address_by_the_certificate_of_its_maker(site, maker):
    """P-18: real handshakes; the vendors' spellings of a MAC."""
    await site.policy(client_certificates="required")
    for spelling in SPELLINGS:
        async with client_of(site, issued(maker, spelling)) as session:
            status, _, _ = await get(session, site.url() + f"{YEALINK}.cfg")
            assert status == 200, spelling
            assert (await get(session, site.url() + "y000000000108.cfg"))[0] == 200, spelling
    events = await site.events()
    assert len(events) >= len(SPELLINGS)
    for event in events:
        assert event.evidence["sentences"][0].endswith(f"proves {YEALINK}")


async def test_another_phone_s_certificate_gets_the_one_404_and_is_told_as_a_mismatch(site, maker):
    """P-18, P-05: a contradiction, with the evidence in the log and the audit entry."""
    async with client_of(site, issued(maker, SECOND.upper())) as session:
        expected = await get(session, f"{site.https}/p/nothing/nothing")
        assert await get(session, site.url() + f"{YEALINK}.cfg") == expected
        assert (await get(session, site.url() + f"{SECOND}.cfg"))[0] == 200
    event = next(each for each in await site.events() if each.reason == "certificate")
    assert event.kind == "mismatch"
    assert f"the certificate is {SECOND}'s" in event.evidence["sentences"][0]
    async with site.database.sessions() as session:
        entry = await session.scalar(select(AuditEntry).where(AuditEntry.event == Event.PHONE_MISMATCH.value))
    assert entry is not None


async def test_an_expired_device_certificate_counts_by_policy(site, maker):
    """P-18: the handshake leaves the times alone; the account decides."""
    async with client_of(site, issued(maker, YEALINK, ended=True)) as session:
        for accepts, status in ((True, 200), (False, 404)):
            await site.policy(client_certificates="required", expired_certificates=accepts)
            assert (await get(session, site.url() + f"{YEALINK}.cfg"))[0] == status
    first, second = (event.evidence["sentences"][0] for event in await site.events())
    assert f"proves {YEALINK}, though it ended on" in first
    assert second.startswith("the certificate of ")


async def test_a_certificate_of_nobody_s_maker_ends_in_the_handshake(site):
    """P-18: a wrong authority never gets as far as a request."""
    stranger = trustme.CA(organization_name="Nobody")
    async with client_of(site, issued(stranger, YEALINK)) as session:
        with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
            await get(session, site.url() + f"{YEALINK}.cfg")
    assert await site.events() == []


async def test_a_phone_without_a_certificate_is_served_unless_one_is_required(site):
    """P-18: optional in the handshake, the account's choice after it; plain HTTP shows none either."""
    async with client_of(site) as session:
        assert (await get(session, site.url() + f"{YEALINK}.cfg"))[0] == 200
        await site.policy(client_certificates="required")
        expected = await get(session, f"{site.https}/p/nothing/nothing")
        assert await get(session, site.url() + f"{YEALINK}.cfg") == expected
        assert await get(session, site.url(tls=False) + f"{YEALINK}.cfg") == expected


async def test_a_resumed_tls_session_still_knows_whose_certificate_it_was(site, maker):
    """P-18: phones resume sessions; the certificate is not shown again then."""
    await site.policy(client_certificates="required")
    context = ssl.create_default_context()
    context.load_verify_locations(cadata="".join(ssl.DER_cert_to_PEM_cert(d) for d in site.trust.get_ca_certs(True)))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    issued(maker, YEALINK).configure_cert(context)

    def ask(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession, bool]:
        host, port = site.https.removeprefix("https://").split(":")
        with (
            socket.create_connection((host, int(port)), timeout=60) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as tls,
        ):
            path = f"/p/{site.token}/{YEALINK}.cfg"
            tls.sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\nUser-Agent: {AGENT}\r\nConnection: close\r\n\r\n".encode())
            return tls.recv(64), tls.session, tls.session_reused

    first, session, _ = await asyncio.to_thread(ask, None)
    again, _, is_resumed = await asyncio.to_thread(ask, session)
    assert first.startswith(b"HTTP/1.1 200")
    assert again.startswith(b"HTTP/1.1 200")
    assert is_resumed


def openssl_phone(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """A maker as of 2008: a root and a phone of 1024 bits, signed with SHA-1."""
    run = lambda *words: subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)  # noqa: E731
    run("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-sha1", "-keyout", "ca.key", "-out", "old-ca.pem", "-days",
        "3650", "-subj", "/O=Old Maker/CN=Old Root", "-addext", "basicConstraints=critical,CA:TRUE")  # fmt: skip
    run("req", "-newkey", "rsa:1024", "-nodes", "-sha1", "-keyout", "p.key", "-out", "p.csr", "-subj", f"/CN={name}")
    run("x509", "-req", "-sha1", "-in", "p.csr", "-CA", "old-ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
        "p.pem", "-days", "365")  # fmt: skip
    return folder / "old-ca.pem", folder / "p.pem", folder / "p.key"


async def test_phones_of_2008_with_sha_1_and_1024_bits_can_still_prove_themselves(site, tmp_path, server_ca):
    """P-18: makers' old authorities are below OpenSSL's default level; the handshake takes them, TLS stays 1.2."""
    ca, certificate, key = await asyncio.to_thread(openssl_phone, tmp_path, YEALINK.upper())
    authorities = Authorities.load(ca)
    context = tls_context(tmp_path / "server.pem", tmp_path / "server.key")
    authorities.ask_for_certificates(context)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    client = ssl.create_default_context()
    client.set_ciphers("DEFAULT@SECLEVEL=0")
    server_ca.configure_trust(client)
    client.load_cert_chain(certificate, key)
    ours, theirs = _handshaken(context, client)
    assert theirs.version() in {"TLSv1.2", "TLSv1.3"}
    der = ours.getpeercert(binary_form=True)
    assert x509.load_der_x509_certificate(der).signature_hash_algorithm.name == "sha1"
    assert authorities.vouch_for(x509.load_der_x509_certificate(der))


def _handshaken(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a handshake in memory."""
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(one, other, server_side=True)
    theirs = client.wrap_bio(other, one, server_hostname="127.0.0.1")
    for _ in range(10):
        for end in (theirs, ours):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ours, theirs


def as_pem(leaf: trustme.LeafCert) -> bytes:
    return leaf.cert_chain_pems[0].bytes()


def as_der(leaf: trustme.LeafCert) -> str:
    der = x509.load_pem_x509_certificate(as_pem(leaf)).public_bytes(Encoding.DER)
    return base64.b64encode(der).decode()


def headers_with(leaf: trustme.LeafCert) -> list[dict[str, str]]:
    """The certificate as RFC 9440, nginx and HAProxy hand it on."""
    der = as_der(leaf)
    return [{"Client-Cert": f":{der}:"}, {"X-Client-Cert": quote(as_pem(leaf))}, {"X-Client-Cert": der}]


async def test_a_trusted_proxy_hands_the_certificate_on(site, maker):
    """P-18: behind a proxy that ends TLS; the maker's signature is held against our authorities."""
    await site.policy(client_certificates="required")
    networks = configuration.Provisioning(trusted_proxies=("127.0.0.0/8",)).trusted_proxies
    object.__setattr__(site.port, "trusted_proxies", networks)
    stranger = trustme.CA(organization_name="Nobody")
    cases = (
        (issued(maker, YEALINK, ended=True), 200), (issued(maker, SECOND), 404), (issued(stranger, YEALINK), 404),
    )  # fmt: skip
    async with aiohttp.ClientSession() as session:
        url = site.url(tls=False) + f"{YEALINK}.cfg"
        for leaf, status in cases:
            for header in headers_with(leaf):
                object.__setattr__(site.port, "client_cert_header", next(iter(header)))
                assert (await get(session, url, **header))[0] == status, header
        assert (await get(session, url, **{"Client-Cert": ":bm9uc2Vuc2U=:"}))[0] == 404
        assert (await get(session, url))[0] == 404


async def test_only_the_one_configured_header_of_a_proxy_is_believed(site, maker):
    """P-18: certificates are public. What a proxy passes on of the client's own making proves nothing: a header that it
    does not set, both at once, or its own twice.
    """
    await site.policy(client_certificates="required")
    networks = configuration.Provisioning(trusted_proxies=("127.0.0.0/8",)).trusted_proxies
    object.__setattr__(site.port, "trusted_proxies", networks)
    forged, set_by_proxy = headers_with(issued(maker, YEALINK))[0], headers_with(issued(maker, SECOND))[1]
    true = headers_with(issued(maker, YEALINK))[1]
    async with aiohttp.ClientSession() as session:
        url = site.url(tls=False) + f"{YEALINK}.cfg"
        assert (await get(session, url, **true))[0] == 404  # none is configured
        object.__setattr__(site.port, "client_cert_header", "X-Client-Cert")
        assert (await get(session, url, **true))[0] == 200
        assert (await get(session, url, **forged))[0] == 404
        assert (await get(session, url, **forged, **set_by_proxy))[0] == 404
        assert (await get(session, url, **forged, **true))[0] == 404
        twice = [*true.items(), *set_by_proxy.items()]
        async with session.get(url, headers=twice) as answer:
            assert answer.status == 404


async def test_a_stranger_s_header_is_no_certificate(site, maker):
    """P-18: only a trusted proxy is believed; the phone's own connection counts for everybody else."""
    await site.policy(client_certificates="required")
    header = {"Client-Cert": f":{as_der(issued(maker, YEALINK))}:"}
    async with client_of(site) as session:
        assert (await get(session, site.url() + f"{YEALINK}.cfg", **header))[0] == 404
        assert (await get(session, site.url(tls=False) + f"{YEALINK}.cfg", **header))[0] == 404


# --- Address ranges and limits --------------------------------------------------------------------------------------


async def test_from_outside_the_account_s_ranges_every_request_is_the_one_404(site):
    """P-18, P-02: CIDR."""
    async with aiohttp.ClientSession() as session:
        url = site.url(tls=False) + f"{YEALINK}.cfg"
        expected = await get(session, f"{site.http}/p/nothing/nothing")
        await site.policy(sources=["192.0.2.0/24"])
        assert await get(session, url) == expected
        await site.policy(sources=["192.0.2.0/24", "127.0.0.0/8"])
        assert (await get(session, url))[0] == 200
    event = next(each for each in await site.events() if each.reason == "source")
    assert event.evidence["sentences"][0] == "127.0.0.1 is outside the account's address ranges"


async def test_a_flood_with_a_live_token_takes_no_phone_off_the_air_and_fills_no_log(site):
    """P-18: 600 unknown addresses from the phone's own NAT; the phone is served, a new one is not, the log stays
    small, and every refusal is byte for byte the same.
    """
    async with aiohttp.ClientSession() as session:
        expected = await get(session, f"{site.http}/p/nothing/nothing")
        assert (await get(session, site.url(tls=False) + f"{YEALINK}.cfg"))[0] == 200
        await site.port.log.flush()  # from here on it is at home there
        for number in range(600):
            assert await get(session, site.url(tls=False) + f"805ec1{number:06x}.cfg") == expected
        assert (await get(session, site.url(tls=False) + f"{YEALINK}.cfg"))[0] == 200
        assert await get(session, site.url(tls=False) + f"{SECOND}.cfg") == expected
    events = await site.events()
    assert len(events) < 300
    assert "limited" in {event.reason for event in events}
    assert sum(event.evidence["count"] for event in events) == 604


async def test_a_policy_that_cannot_be_read_serves_nobody_and_says_so(site):
    """P-18: damaged rules are no open door: phones keep what they have."""
    async with site.database.engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE account SET provisioning_policy = '{\"sources\": 7}'")
    async with aiohttp.ClientSession() as session:
        status, headers, _ = await get(session, site.url(tls=False) + f"{YEALINK}.cfg")
    assert (status, headers["retry-after"]) == (503, "60")
    assert (await site.events())[0].kind == "failed"


async def test_what_a_phone_was_answered_before_holds_no_longer_than_the_next_commit(site):
    """P-03, P-05: on one connection, served again and again, a phone is refused with the first request after the rules
    change, and served with the first one after they change back.
    """
    name = f"{YEALINK}.cfg"
    async with aiohttp.ClientSession(headers={"User-Agent": f"{AGENT} 80:5e:c0:aa:bb:01"}) as client:

        async def status(times: int = 4, **headers: str) -> set[int]:
            found = set()
            for _ in range(times):
                async with client.get(site.url(tls=False) + name, headers=headers) as answer:
                    await answer.read()
                    found.add(answer.status)
            return found

        async with client.get(site.url(tls=False) + name) as first:
            tag = first.headers["ETag"]
        assert await status() == {200}
        assert await status(**{"If-None-Match": tag}) == {304}
        for refusing, before in (({"sources": ["198.51.100.0/24"]}, {"sources": []}), ({"encrypt_files": True}, {})):
            await site.policy(**refusing)
            assert await status() == {404}
            assert await status(**{"If-None-Match": tag}) == {404}
            await site.policy(**before or {"encrypt_files": False})
            assert await status() == {200}
        async with site.database.sessions.begin() as session:
            account = await session.get(Account, site.account_id)
            await phones.rotate_token(session, SYSTEM, account, site.keys)
        assert await status() == {404}
    counted = [event for event in await site.events() if event.status_code == 200]
    assert sum(event.evidence["count"] for event in counted) == 1 + 4 + 2 * 4
