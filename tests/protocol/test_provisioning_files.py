"""Logos, firmware, phonebooks and compression on the phones' port: real bytes over a real socket."""

import asyncio
import gzip
import hashlib
import io
import logging
import random
import socket
import ssl
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import aiohttp
import pytest
import trustme
import uvloop
from aiohttp import web
from sqlalchemy import select

from engine import config as configuration
from engine.audit.record import SYSTEM
from engine.crypto import KeyRing
from engine.db import Database
from engine.models import Account, Phone, ProvisioningEvent
from engine.provisioning import assets, contacts, phones, sending, vendors
from engine.provisioning.assets import AssetFields
from engine.provisioning.assetstore import AssetStore
from engine.provisioning.contacts import ContactFields
from engine.provisioning.http import PhonesPort, make_phones_port
from engine.provisioning.phones import PhoneFields
from tests.factories import add_account, add_line, add_pbx, add_phone

YEALINK_MAC, POLY_MAC = "805ec0aabb01", "64167faabb02"
YEALINK = "Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:01"
YEALINK_T48 = "Yealink SIP-T48U 108.86.0.20 80:5e:c0:aa:bb:99"
POLY = "FileTransport PolycomVVX-VVX_450-UA/6.4.0.1234 Type/Application"
ROM = "T46U-108.86.0.90.rom"
FIRMWARE = random.Random(7).randbytes(3_000_001)
TAG = f'"{hashlib.sha256(FIRMWARE).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class Site:
    port: PhonesPort
    database: Database
    keys: KeyRing
    account: Account
    token: str
    base: str
    store: AssetStore

    def url(self, file: str, token: str | None = None) -> str:
        return f"{self.base}/p/{token if token is not None else self.token}/{file}"


async def pieces(data: bytes):
    for at in range(0, len(data), 65_536):
        yield data[at : at + 65_536]


async def put_file(database, store, account, fields: AssetFields, data: bytes):
    received = await store.receive(pieces(data), most_bytes=10_000_000)
    async with database.sessions.begin() as session:
        return await assets.create_asset(session, SYSTEM, account, fields, received, store=store)


async def furnished(database, keys, store):
    async with database.sessions.begin() as session:
        account = await add_account(session)
        token = await phones.generate_token(session, SYSTEM, account, keys)
        await add_pbx(session, account, registrar_host="pbx.example.net")
        lines = [await add_line(session, account, extension) for extension in ("101", "102")]
        await add_phone(session, account, *lines, mac=YEALINK_MAC, vendor="yealink", model="T46U")
        await add_phone(session, account, lines[1], mac=POLY_MAC, vendor="poly", model="VVX 450")
        await contacts.create_contact(session, SYSTEM, account, ContactFields("Ann & Bob <x>", "+1 (518) 555-0142"))
    await put_file(
        database, store, account, AssetFields(ROM, "firmware", "yealink", ("T46U",), "108.86.0.90"), FIRMWARE
    )
    await put_file(database, store, account, AssetFields("logo.png", "logo"), b"\x89PNG" + bytes(2000))
    return account, token


async def listening(port, context=None):
    runner = port.runner()
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener, ssl_context=context).start()
    scheme = "https" if context is not None else "http"
    return runner, f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
async def site(database, keys, tmp_path):
    store = AssetStore(tmp_path / "assets")
    account, token = await furnished(database, keys, store)
    port = make_phones_port(configuration.Provisioning(), keys, database, store)
    runner, base = await listening(port)
    yield Site(port, database, keys, account, token, base, store)
    await runner.cleanup()
    await port.close()


@pytest.fixture
async def client():
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def fetch(client, url, *, agent=YEALINK, method="GET", **headers):
    sent = {"User-Agent": agent, "Accept-Encoding": "identity"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.request(method, url, headers=sent) as answer:
        body = await answer.read()
        return answer.status, {name.lower(): value for name, value in answer.headers.items() if name != "Date"}, body


async def events(site: Site):
    await site.port.log.flush()
    async with site.database.sessions.begin() as session:
        return list(await session.scalars(select(ProvisioningEvent).order_by(ProvisioningEvent.id)))


# --- Whole and in part -----------------------------------------------------------------------------------------------


async def test_a_firmware_is_served_whole_with_its_tag_and_size(site, client):
    """P-13, P-07: every byte, a strong ETag, Accept-Ranges, and nothing that names the server."""
    status, headers, body = await fetch(client, site.url(ROM))
    assert (status, hashlib.sha256(body).digest()) == (200, hashlib.sha256(FIRMWARE).digest())
    assert (headers["etag"], headers["accept-ranges"], headers["content-length"]) == (TAG, "bytes", str(len(FIRMWARE)))
    assert (headers["content-type"], headers["cache-control"]) == ("application/octet-stream", "no-store")
    assert "server" not in headers
    assert "content-encoding" not in (await fetch(client, site.url(ROM), Accept_Encoding="gzip"))[1]


async def test_head_tells_all_of_it_and_sends_nothing(site, client):
    """P-13."""
    status, headers, body = await fetch(client, site.url(ROM), method="HEAD")
    assert (status, body, headers["content-length"], headers["etag"]) == (200, b"", str(len(FIRMWARE)), TAG)
    part = await fetch(client, site.url(ROM), method="HEAD", Range="bytes=10-19")
    assert (part[0], part[2], part[1]["content-length"]) == (200, b"", str(len(FIRMWARE)))  # RFC 9110 §14.2


async def test_a_range_is_answered_with_exactly_its_bytes(site, client):
    """P-13: RFC 9110 §14.4; parts that end within, at and over the pieces that are read."""
    for asked, first, last in (
        ("bytes=0-99", 0, 99),
        ("bytes=2999990-", 2_999_990, 3_000_000),
        ("bytes=-7", 2_999_994, 3_000_000),
        ("bytes=16380-131080", 16_380, 131_080),
    ):
        status, headers, body = await fetch(client, site.url(ROM), Range=asked)
        assert (status, headers["content-range"]) == (206, f"bytes {first}-{last}/{len(FIRMWARE)}")
        assert body == FIRMWARE[first : last + 1]
        assert headers["content-length"] == str(last - first + 1)


async def test_a_range_beyond_the_end_is_told_the_size(site, client):
    """P-13: 416 with `bytes */size`, so that the phone can begin anew."""
    status, headers, body = await fetch(client, site.url(ROM), Range="bytes=3000001-")
    assert (status, body, headers["content-range"]) == (416, b"", f"bytes */{len(FIRMWARE)}")


async def test_the_same_file_is_not_sent_again(site, client):
    """P-13: If-None-Match before Range."""
    status, headers, body = await fetch(client, site.url(ROM), If_None_Match=TAG, Range="bytes=0-9")
    assert (status, body, headers["etag"]) == (304, b"", TAG)


async def test_a_download_that_broke_off_goes_on_where_it_stopped(site, client):
    """P-13: the connection is cut in the middle, the rest fetched with Range and If-Range, and the whole is right."""
    host, _, port = site.base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = site.url(ROM).removeprefix(site.base)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {YEALINK}\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert head.startswith(b"HTTP/1.1 200")
    got = await asyncio.wait_for(reader.readexactly(1_000_003), 30)
    writer.transport.abort()
    status, headers, rest = await fetch(client, site.url(ROM), Range=f"bytes={len(got)}-", If_Range=TAG)
    assert (status, headers["content-range"]) == (206, f"bytes {len(got)}-3000000/3000001")
    assert hashlib.sha256(got + rest).digest() == hashlib.sha256(FIRMWARE).digest()


async def test_another_file_under_the_name_begins_anew(site, client):
    """P-13: If-Range with the tag of a firmware that was replaced gets all of the new one."""
    status, _, body = await fetch(client, site.url(ROM), Range="bytes=100-", If_Range='"0000"')
    assert (status, len(body)) == (200, len(FIRMWARE))


async def test_many_phones_at_once_and_one_that_takes_nothing(site, client, monkeypatch):
    """P-13: a phone that stalls is let go, and holds nobody up."""
    monkeypatch.setattr(sending, "STALL_S", 0.4)
    host, _, port = site.base.removeprefix("http://").partition(":")
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(lazy, (host, int(port)))
    path = site.url(ROM).removeprefix(site.base)
    await loop.sock_sendall(lazy, f"GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: {YEALINK}\r\n\r\n".encode())
    bodies = await asyncio.gather(*(fetch(client, site.url(ROM)) for _ in range(12)))
    assert {hashlib.sha256(body).digest() for _, _, body in bodies} == {hashlib.sha256(FIRMWARE).digest()}

    async def let_go():
        while True:
            fetched = [event for event in await events(site) if event.file == ROM]
            if sum(event.evidence["count"] for event in fetched) == 13:
                return fetched
            await asyncio.sleep(0.05)

    fetched = await asyncio.wait_for(let_go(), 30)
    lazy.close()
    assert min(event.size_bytes for event in fetched) < len(FIRMWARE) == max(event.size_bytes for event in fetched)
    assert sum("and let go" in str(event.evidence.get("sentences")) for event in fetched) == 1


async def test_over_tls_the_bytes_are_the_same(database, keys, tmp_path):
    """P-13: where the kernel cannot send, pieces are read and sent."""
    store = AssetStore(tmp_path / "assets")
    _, token = await furnished(database, keys, store)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    port = make_phones_port(configuration.Provisioning(), keys, database, store)
    runner, base = await listening(port, context)
    async with (
        aiohttp.ClientSession() as client,
        client.get(
            f"{base}/p/{token}/{ROM}", headers={"User-Agent": YEALINK, "Range": "bytes=5-2500000"}, ssl=trusting
        ) as answer,
    ):
        assert (answer.status, await answer.read() == FIRMWARE[5:2_500_001]) == (206, True)
    await runner.cleanup()
    await port.close()


def test_on_uvloop_the_bytes_are_the_same(tmp_path):
    """P-13: the loop of a node in service has no sendfile."""

    async def served() -> bool:
        path = tmp_path / "rom"
        path.write_bytes(FIRMWARE)

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            with path.open("rb") as file:
                part = sending.part_for(request, len(FIRMWARE), TAG)
                return (await sending.send_part(request, file, len(FIRMWARE), part, {"ETag": TAG}))[0]

        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        async with aiohttp.ClientSession() as client, client.get(url, headers={"Range": "bytes=3-"}) as got:
            is_same = await got.read() == FIRMWARE[3:]
        await runner.cleanup()
        return is_same

    assert uvloop.run(served())


# --- To whom ---------------------------------------------------------------------------------------------------------


async def test_a_firmware_reaches_only_phones_of_its_vendor_and_models(site, client):
    """P-07, P-02: another vendor, another model: the one 404; a phone that says nothing is served."""
    refused = await fetch(client, site.url("nothing-here.bin"))
    assert refused[0] == 404
    for agent in (POLY, YEALINK_T48):
        assert await fetch(client, site.url(ROM), agent=agent) == refused
    assert (await fetch(client, site.url(ROM), agent="curl/8"))[0] == 200
    assert (await fetch(client, site.url("logo.png"), agent=POLY))[1]["content-type"] == "image/png"
    denied = [event for event in await events(site) if event.status_code == 404 and event.file == ROM]
    assert denied


async def test_a_file_needs_the_account_s_token(site, client, database, keys):
    """P-02, P-03: a wrong token, another account's token: the same 404, byte for byte."""
    async with database.sessions.begin() as session:
        other = await add_account(session, name="Other")
        token = await phones.generate_token(session, SYSTEM, other, keys)
    expected = await fetch(client, site.url("nothing-here.bin"))
    for wrong in ("A" * 43, token):
        assert await fetch(client, site.url(ROM, wrong)) == expected
        assert await fetch(client, site.url("..%2f..%2fcallpoint.db", wrong)) == expected
    assert await fetch(client, site.url(ROM), method="PUT") == expected


async def test_after_a_rotation_no_download_begins_and_one_under_way_goes_on(site, client):
    """P-03: the token is asked at the start of the answer; a firmware half written would brick the phone."""
    host, _, port = site.base.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
    path = site.url(ROM).removeprefix(site.base)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {YEALINK}\r\n\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        fresh = await phones.rotate_token(session, SYSTEM, account, site.keys)
    assert (await fetch(client, site.url(ROM)))[0] == 404
    assert (await fetch(client, site.url(ROM, fresh), Range="bytes=0-9"))[0] == 206
    got = await asyncio.wait_for(reader.readexactly(len(FIRMWARE)), 60)
    assert got == FIRMWARE
    writer.close()


async def test_a_deleted_file_is_gone_at_once_and_its_bytes_with_the_next_sweep(site, client):
    """P-07: bytes that no row names are removed; those of another account's same file stay."""
    async with site.database.sessions.begin() as session:
        other = await add_account(session, name="Other")
    twin = await put_file(
        site.database, site.store, other, AssetFields("same.rom", "firmware", "yealink", (), "1"), FIRMWARE
    )
    sweeping = assets.Sweeping(site.database, site.store)
    now = max(path.stat().st_mtime for path in site.store.folder.iterdir()) + site.store.spare_s + 1
    async with site.database.sessions.begin() as session:
        asset = await assets.store_assets.asset_by_name(session, site.account.id, ROM)
        await assets.delete_asset(session, SYSTEM, asset)
    assert (await fetch(client, site.url(ROM)))[0] == 404
    assert await sweeping.sweep(now) == 0
    async with site.database.sessions.begin() as session:
        await assets.delete_asset(session, SYSTEM, await assets.store_assets.asset_of(session, other.id, twin.id))
    assert await sweeping.sweep(now - 3_000) == 0  # young files are spared: a row may be on its way
    assert await sweeping.sweep(now) == 1
    assert not (site.store.folder / hashlib.sha256(FIRMWARE).hexdigest()).exists()


async def test_bytes_that_are_missing_are_told_and_the_phone_comes_back(site, client):
    """Bad input: 503 and Retry-After, and the fetch log says which file is not there."""
    (site.store.folder / hashlib.sha256(FIRMWARE).hexdigest()).unlink()
    status, headers, _ = await fetch(client, site.url(ROM))
    assert (status, "retry-after" in headers) == (503, True)
    failed = [event for event in await events(site) if event.kind == "failed"]
    assert ROM in failed[-1].evidence["sentences"][0]


async def test_no_token_reaches_a_log(site, client):
    """Decision 17: a download, a broken one and a refused one leave no token anywhere."""
    caught = io.StringIO()
    handler = logging.StreamHandler(caught)
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        await fetch(client, site.url(ROM))
        await fetch(client, site.url(ROM), Range="bytes=9000000-")
        await fetch(client, site.url("yealink-phonebook.xml"))
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger().setLevel(logging.WARNING)
    told = caught.getvalue() + repr([(event.file, event.evidence, event.user_agent) for event in await events(site)])
    assert site.token not in told


# --- Phonebooks ------------------------------------------------------------------------------------------------------


async def test_every_family_s_phonebook_is_served_with_lines_and_contacts(site, client):
    """P-07: under the file name its phones are told, in its own format, by name, with an ETag."""
    families = [
        profile for profile in vendors.known().profiles.values() if profile.phonebook and profile.name != "poly"
    ]
    assert len(families) >= 10
    for profile in families:
        url = site.url(profile.phonebook)
        agent = "Grandstream Model HW GXP2170 SW 1.0.11.1" if profile.name == "grandstream" else "x/1"
        status, headers, body = await fetch(client, url, agent=agent)
        assert (status, b"101" in body, b"+1518555-0142" in body) == (200, True, True), profile.name
        text = body.decode()
        assert ("Ann &amp; Bob &lt;x&gt;" in text) or ("Ann & Bob <x>" in text), profile.name
        again = await fetch(client, url, agent=agent, If_None_Match=headers["etag"])
        assert (again[0], again[2]) == (304, b""), profile.name


async def test_a_new_contact_is_in_the_next_answer(site, client):
    url = site.url("yealink-phonebook.xml")
    first = await fetch(client, url)
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        await contacts.create_contact(session, SYSTEM, account, ContactFields("Zed", "999"))
    second = await fetch(client, url, If_None_Match=first[1]["etag"])
    assert (second[0], b"Zed" in second[2]) == (200, True)


async def test_a_poly_s_directory_is_its_own_file_and_off_means_absent(site, client):
    """P-07: `<mac>-directory.xml`; with `phonebook: off` the phone keeps what it has."""
    url = site.url(f"{POLY_MAC}-directory.xml")
    status, _, body = await fetch(client, url, agent=POLY)
    numbers = {item.findtext("ct") for item in ET.fromstring(body).iter("item")}
    assert (status, numbers) == (200, {"101", "102", "+1518555-0142"})
    async with site.database.sessions.begin() as session:
        phone = await session.scalar(select(Phone).where(Phone.mac == POLY_MAC))
        fields = await PhoneFields.of(session, phone)
        fields.settings["phonebook"] = "off"
        await phones.update_phone(session, SYSTEM, phone, fields)
    assert (await fetch(client, url, agent=POLY))[0] == 404
    assert (await fetch(client, site.url("000000000000-directory.xml"), agent=POLY))[0] == 404


async def test_a_dect_base_s_question_is_answered_with_everything(site, client):
    """P-07: Gigaset bases ask `?command=get_list&type=pb&first=1&count=20`."""
    url = site.url("gigaset-phonebook.xml") + "?command=get_list&type=pb&first=1&count=20"
    status, _, body = await fetch(client, url, agent="Gigaset N870 IP PRO/83.V2.11.0+build.a546b91;7C2F80E0D605")
    root = ET.fromstring(body)
    assert (status, root.get("total"), len(list(root.iter("entry")))) == (200, "3", 3)


# --- Compression -----------------------------------------------------------------------------------------------------


async def test_a_file_is_compressed_where_the_phone_asks_with_a_tag_of_its_own(site, client):
    """P-13: RFC 9110 §8.8.3.3: another representation, another ETag; Vary on both; the text is the same."""
    url = site.url(f"{YEALINK_MAC}.cfg")
    plain = await fetch(client, url)
    packed = await fetch(client, url, Accept_Encoding="gzip, deflate")
    assert (plain[1]["vary"], packed[1]["vary"]) == ("Accept-Encoding", "Accept-Encoding")
    assert "content-encoding" not in plain[1]
    assert packed[1]["content-encoding"] == "gzip"
    assert gzip.decompress(packed[2]) == plain[2]
    assert len(packed[2]) < len(plain[2]) / 2
    assert packed[1]["etag"] != plain[1]["etag"]
    assert (await fetch(client, url, Accept_Encoding="gzip", If_None_Match=packed[1]["etag"]))[0] == 304
    assert (await fetch(client, url, Accept_Encoding="gzip", If_None_Match=plain[1]["etag"]))[0] == 200
    assert (await fetch(client, url, If_None_Match=packed[1]["etag"]))[0] == 200
    kept = [one for one in site.port.kept._files.values() if one.gzipped is not None]
    assert site.port.kept.size_bytes == sum(one.size_bytes for one in site.port.kept._files.values())
    assert kept[0].gzipped.body == packed[2]  # kept: compressed once, not for every phone


@pytest.mark.parametrize(
    ("asked", "is_gzip"),
    [
        ("gzip", True), ("*", True), ("gzip;q=0.5, identity", True), ("GZIP", True), ("x-gzip", True),
        ("gzip;q=0", False), ("identity", False), ("deflate, br", False), ("", False), ("gzip;q=x", False),
        ("*;q=0", False), ("gzip;q=0, *", False),
    ],
)  # fmt: skip
def test_compression_is_for_who_asks_for_it(asked, is_gzip):
    """P-13: RFC 9110 §12.5.3."""
    assert sending.wants_gzip(asked) is is_gzip


async def test_small_files_and_bytes_are_never_compressed(site, client):
    """P-13: a boot file of 70 bytes, a picture."""
    for file in (f"{YEALINK_MAC}.boot", "logo.png", ROM):
        status, headers, _ = await fetch(client, site.url(file), Accept_Encoding="gzip")
        assert (status, headers.get("content-encoding"), headers.get("vary")) == (200, None, None)
    assert not sending.is_compressible("application/octet-stream", 100_000)
