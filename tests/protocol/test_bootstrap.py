"""P-20: phones that know TFTP or a bare HTTP server alone are told their URL there, and boot by it.

Real clients ask: curl and tftp-hpa. The askers' ranges are the loopback's own.
"""

import asyncio
import contextlib
import re
import shutil
import socket
import struct
import sys

import aiohttp
import pytest
from sqlalchemy import select

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.bootstrap_server import BootstrapDesk, BootstrapDoors, base_of
from engine.config import Bootstrap, Listen
from engine.models import Account, ProvisioningEvent
from engine.provisioning import phones, vendors
from engine.provisioning.booting import FileResult, Memory, Wire
from engine.provisioning.bootstrap import Pace
from engine.provisioning.fetchlog import FetchLog
from engine.provisioning.simulate import FAMILIES, simulate
from tests.factories import add_account
from tests.node import Node
from tests.ports import free_port

SOURCES = {"sources": ["127.0.0.1/32"]}
PHONES = (
    ("yealink", "T46U", "805ec0123456"),
    ("poly", "VVX 450", "64167f123456"),
    ("grandstream", "GXP2170", "000b82123456"),
    ("cisco_spa", "SPA504G", "0002fd123456"),
    ("snom", "D785", "000413123456"),
    ("mitel", "6867i", "00085d123456"),
)
BOOTED = PHONES[:1]  # from the bootstrap to all a REGISTER needs, against a whole node


async def run(*command, stdin=b""):
    program = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(program.communicate(stdin), 60)
    return program.returncode, out, err.decode(errors="replace")


async def tftp_get(address, name, *options):
    """What curl gets; None: TFTP error 1, file not found (its exit code 68)."""
    url = f"tftp://{address.host}:{address.port}/{name}"
    code, out, err = await run("curl", "-sS", "--max-time", "50", *options, url)
    assert code in {0, 68}, err
    return out if code == 0 else None


async def open_doors(doors):
    """Run them until both are open; returns the task."""
    task = asyncio.create_task(doors.run())
    async with asyncio.timeout(60):
        while not (doors.tftp and doors.http):
            await asyncio.sleep(0.01)
    return task


@pytest.fixture
async def account(database, keys):
    async with database.sessions.begin() as session:
        made = await add_account(session, provisioning_policy=SOURCES)
        token = await phones.generate_token(session, SYSTEM, made, keys)
    return made, token


@pytest.fixture
async def log(database):
    return FetchLog(database)


@pytest.fixture
async def doors(database, account, log):
    desk = BootstrapDesk(
        database, vendors.known(), log, base_of("https://phones.example.com", is_tls=False, port=8080),
        Pace(per_s=1000, burst=1000),
    )  # fmt: skip
    opened = BootstrapDoors(Bootstrap(tftp="127.0.0.1:0", http="127.0.0.1:0"), desk)
    task = await open_doors(opened)
    yield opened
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert (opened.tftp, opened.http) == (None, None)


async def http_get(address, path, method="GET"):
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, f"http://{address}{path}") as answer,
    ):
        return answer.status, await answer.read(), dict(answer.headers)


async def test_both_doors_tell_the_url_and_nothing_else(doors, account):
    """P-20: the same bytes over TFTP, with and without options, and over HTTP."""
    _, token = account
    url = f"https://phones.example.com/p/{token}/"
    plain = await tftp_get(doors.tftp, "y000000000108.cfg", "--tftp-no-options")
    sized = await tftp_get(doors.tftp, "y000000000108.cfg", "--tftp-blksize", "1024")
    small = await tftp_get(doors.tftp, "y000000000108.cfg", "--tftp-blksize", "8")  # many blocks
    status, body, headers = await http_get(doors.http, "/y000000000108.cfg")
    assert plain == sized == small == body
    assert f"static.auto_provision.server.url = {url}\n" in body.decode()
    assert status == 200
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers
    assert await tftp_get(doors.tftp, "nothing.cfg") is None
    assert await tftp_get(doors.tftp, "../../etc/passwd") is None


async def test_tftp_hpa_reads_it_too(doors, account, tmp_path):
    if shutil.which("tftp") is None:
        pytest.skip("tftp-hpa is not on PATH; `python3 run.py test` brings it")
    into = tmp_path / "got.cfg"
    command = (
        "tftp",
        "-m",
        "binary",
        doors.tftp.host,
        str(doors.tftp.port),
        "-c",
        "get",
        "000000000000.cfg",
        str(into),
    )
    code, _out, err = await run(*command)
    assert code == 0, err
    assert b"callpoint-poly.cfg" in into.read_bytes()


async def test_nothing_is_taken(doors, tmp_path):
    file = tmp_path / "y000000000108.cfg"
    file.write_text("mine")
    code, _, _ = await run("curl", "-sS", "-T", str(file), f"tftp://{doors.tftp.host}:{doors.tftp.port}/")
    assert code != 0
    status, body, _ = await http_get(doors.http, "/y000000000108.cfg", "PUT")
    assert (status, body) == (404, b"Not found.\n")


@pytest.mark.parametrize(
    "policy", [{}, {"sources": ["10.0.0.0/8"]}, {"sources": ["not a network"]}], ids=["none", "others", "unreadable"]
)
async def test_an_address_that_is_no_accounts_gets_file_not_found(doors, account, database, policy):
    """P-20: and the same 404 that every wrong URL gets."""
    async with database.sessions.begin() as session:
        row = await session.get(Account, account[0].id)
        row.provisioning_policy = policy
        record(session, SYSTEM, Event.PROVISIONING_POLICY_UPDATE, row)
    assert await tftp_get(doors.tftp, "y000000000108.cfg") is None
    assert (await http_get(doors.http, "/y000000000108.cfg"))[:2] == (404, b"Not found.\n")


async def test_an_address_in_the_ranges_of_two_accounts_gets_nothing(doors, account, database, keys):
    async with database.sessions.begin() as session:
        other = await add_account(session, email="b@example.com", provisioning_policy={"sources": ["127.0.0.0/8"]})
        await phones.generate_token(session, SYSTEM, other, keys)
    assert await tftp_get(doors.tftp, "y000000000108.cfg") is None
    assert (await http_get(doors.http, "/y000000000108.cfg"))[0] == 404


async def test_what_was_asked_is_in_the_fetch_log_without_the_token(doors, account, database, log):
    """P-20: who asked what, told and refused; never the token."""
    made, token = account
    await tftp_get(doors.tftp, "805ec0123456.cfg")
    await tftp_get(doors.tftp, "pxelinux.0")
    await http_get(doors.http, f"/p/{token}/y000000000108.cfg")
    await log.flush()
    async with database.sessions() as session:
        rows = (await session.scalars(select(ProvisioningEvent).order_by(ProvisioningEvent.id))).all()
    assert [(row.method, row.status_code, row.kind, row.reason, row.file) for row in rows] == [
        ("TFTP", 200, "fetch", "bootstrap", "805ec0123456.cfg"),
        ("TFTP", 404, "denied", "bootstrap", "(unknown)"),
        ("GET", 404, "denied", "bootstrap", "(unknown)"),
    ]
    assert {row.account_id for row in rows} == {made.id}
    assert token not in "".join(str(vars(row)) for row in rows)


async def test_a_flood_is_answered_at_its_pace_and_garbage_harms_nothing(database, account, log):
    """P-20: no amplification: a forged request costs four datagrams of one block at most, and floods far less."""
    desk = BootstrapDesk(database, vendors.known(), log, lambda _a: "http://127.0.0.1:8080", Pace(per_s=0.001, burst=2))
    opened = BootstrapDoors(Bootstrap(tftp="127.0.0.1:0", http="127.0.0.1:0"), desk)
    task = await open_doors(opened)
    loop = asyncio.get_running_loop()
    where = (opened.tftp.host, opened.tftp.port)
    received = []

    class Heard(asyncio.DatagramProtocol):
        def datagram_received(self, data, _addr):
            received.append(data)

    transport, _ = await loop.create_datagram_endpoint(Heard, local_addr=("127.0.0.1", 0))
    try:
        for junk in (b"", b"\x00", b"\x00\x01", b"\x00\x09x", b"\xff" * 600, b"\x00\x04\x00\x01", b"\x00\x01\x00\x00"):
            transport.sendto(junk, where)
        wanted = struct.pack("!H", 1) + b"y000000000108.cfg\x00octet\x00windowsize\x0064\x00blksize\x0065464\x00"
        answered = await tftp_get(opened.tftp, "y000000000108.cfg")
        assert answered is not None, "garbage has closed the door"
        for _ in range(50):
            transport.sendto(wanted, where)
        await asyncio.sleep(0.5)  # what is sent in half a second, first tries and repeats
        sent = sum(map(len, received))
        assert sent < 50 * len(wanted), "more is sent than was asked with"
        assert all(len(data) <= 1432 for data in received)
    finally:
        transport.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_door_that_cannot_open_says_so_and_opens_when_it_can(database, account, log):
    """P-20: a dead bootstrap hurts nothing, and comes back."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    desk = BootstrapDesk(database, vendors.known(), log, lambda _a: "http://127.0.0.1:8080")
    doors = BootstrapDoors(Bootstrap(http=f"127.0.0.1:{taken.getsockname()[1]}"), desk)
    task = asyncio.create_task(doors.run())
    try:
        async with asyncio.timeout(60):
            while not doors.fault:
                await asyncio.sleep(0.01)
        assert "It is tried again" in doors.fault
        assert "911 calls, go on" in doors.fault
        taken.close()
        async with asyncio.timeout(60):
            while not doors.http:
                await asyncio.sleep(0.01)
        assert (await http_get(doors.http, "/y000000000108.cfg"))[0] == 200
    finally:
        taken.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_is_off_until_it_is_given_an_address(database, log):
    desk = BootstrapDesk(database, vendors.known(), log, lambda _a: "http://127.0.0.1:8080")
    doors = BootstrapDoors(Bootstrap(), desk)
    await asyncio.wait_for(doors.run(), 30)
    assert (doors.tftp, doors.http) == (None, None)


class TftpWire(Wire):
    """A phone's client that speaks TFTP: everything else of the boot is the family's own."""

    __slots__ = ("server",)

    async def get(self, name):
        body = await tftp_get(self.server, name)
        self.files.append(FileResult("GET", name, 200 if body is not None else 404, len(body or b""), 0.0))
        return body

    async def put(self, name, data):
        """A phone without a URL has no log worth sending."""


async def boot_over_tftp(address, vendor, model, mac):
    """What a phone of that family, asking over TFTP alone, takes for its next URL: place and token."""
    family, found = FAMILIES[vendor], vendors.known().profiles[vendor].model(model)
    async with aiohttp.ClientSession() as session:
        wire = TftpWire(session, "", family.agent(found, mac), 0.01)
        wire.server = address
        flash = Memory()
        await family.boot(wire, flash, found, mac)
    following = family.next_url(flash.settings)
    assert following, (vendor, [(one.name, one.status) for one in wire.files], flash.settings)
    return re.search(r"(?:https?://)?([^/]+)/p/([A-Za-z0-9_-]{43})", following).groups()


@pytest.mark.parametrize(("vendor", "model", "mac"), PHONES, ids=lambda each: str(each).replace(" ", "_"))
async def test_each_familys_own_boot_finds_the_url_over_tftp(doors, account, vendor, model, mac):
    """P-20: in the family's own order of files."""
    place, token = await boot_over_tftp(doors.tftp, vendor, model, mac)
    assert (place.removesuffix(":443"), token) == ("phones.example.com", account[1])


async def test_a_phone_boots_from_tftp_to_its_url_to_ready_for_register(tmp_path):
    """P-20, P-21: TFTP bootstrap, then provisioning over HTTP, then all a REGISTER needs; and P-22 on the way: the
    phone has no address, says so, dials 911 all the same, and stops saying so when it is given one.
    """
    tftp, http = Listen("127.0.0.1", free_port()), Listen("127.0.0.1", free_port())
    environment = {"CALLPOINT_BOOTSTRAP__TFTP": str(tftp), "CALLPOINT_BOOTSTRAP__HTTP": str(http)}
    async with Node(tmp_path, environment) as node:
        await node.set_up()
        await node.api("POST", "provisioning-token/generate")
        assert await tftp_get(tftp, "y000000000108.cfg") is None, "the account has named no range yet"
        await put_policy(node, SOURCES)
        await node.api("POST", "pbxs", {"name": "PBX", "sources": ["127.0.0.1/32"], "registrar_host": "127.0.0.1"})
        line = await node.api("POST", "lines", {"extension": "101", "secret": "s3cret-of-101", "display_name": "Desk"})
        for vendor, model, mac in BOOTED:
            await node.api("POST", "phones", {"mac": mac, "vendor": vendor, "model": model, "lines": [line["id"]]})
            place, token = await boot_over_tftp(tftp, vendor, model, mac)
            result = await simulate(vendor, model, mac, f"http://{place}/p/{token}/")
            assert result.is_ready, (vendor, result.fault)
            assert set(result.dials.values()) == {"immediate"}
            assert "911: no address" in " ".join([*result.settings.values()]), vendor
        assert f"callpoint_phones_without_location {float(len(BOOTED))}" in await metric(node, float(len(BOOTED)))
        doctor = await doctor_of(node)
        assert f"{len(BOOTED)}: their 911 calls reach a dispatcher who is told no place" in doctor
        place = await node.api("POST", "locations", {"name": "HQ", "civic_address": ADDRESS})
        version = await etag_of(node, "account")
        await node.api("PATCH", "account", {"default_location_id": place["id"]}, If_Match=version)
        await metric(node, 0.0)
        result = await simulate(*BOOTED[0], f"http://127.0.0.1:{node.phones.rsplit(':', 1)[1]}/p/{token}/")
        assert result.is_ready
        assert "no address" not in " ".join(result.settings.values())
        events = [one["event"] for one in (await node.api("GET", "audit-log?limit=200"))["data"]]
        assert events.count("phone.location_missing") == events.count("phone.location_found") == len(BOOTED)
        assert token not in "".join(node.output)


ADDRESS = {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203"}


async def put_policy(node, policy):
    """Change the provisioning policy as a script would."""
    version = await etag_of(node, "provisioning-policy")
    await node.api("PATCH", "provisioning-policy", policy, If_Match=version)


async def etag_of(node, path):
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {node.api_key}"}) as client,
        client.get(f"{node.admin}/api/v1/{path}") as answer,
    ):
        assert answer.status == 200, await answer.text()
        return answer.headers["ETag"]


async def metric(node, value):
    """The metrics' text, once the number of phones without an address is that."""
    wanted = f"callpoint_phones_without_location {value}"
    text = ""
    for _ in range(600):
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {node.api_key}"}) as client,
            client.get(f"{node.admin}/metrics") as answer,
        ):
            text = await answer.text()
        if wanted in text:
            return text
        await asyncio.sleep(0.1)
    raise AssertionError(re.findall(r"callpoint_phones_without\S+ \S+", text))


async def doctor_of(node):
    """What the doctor says; a finding makes its exit code 1."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engine", "doctor", cwd=node.folder, env=node.environ(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(program.communicate(), 60)
    return out.decode()
