"""The main job, end to end, through the real doors of a whole running node."""

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from engine.agents import Carrier, Placed, Placing, place_call
from engine.db import BUSY_TIMEOUT_S
from tests.node import Node
from tests.sink import MailSink

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAC, POLY_MAC = "0015654aa937", "0004f2aabbcc"
HEADQUARTERS = {
    "country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203",
    "FLR": "4",
}  # fmt: skip
WAREHOUSE = HEADQUARTERS | {"HNO": "9", "RD": "Dock", "STS": "Rd", "FLR": "1"}


@dataclass(slots=True)
class Site:
    """A node with an account, two locations, a phone, a PBX at 127.0.0.1 and one carrier."""

    node: Node
    carrier: Carrier
    sink: MailSink
    headquarters: dict[str, Any]
    warehouse: dict[str, Any]

    async def dial(self, number: str, caller: str = "101", *headers: tuple[str, str]) -> Placed:
        return await place_call(Placing(number, caller, self.node.udp, headers=headers))

    async def record_of(self, placed: Placed) -> dict[str, Any]:
        """The record of that call, once it is there and knows how the call ended."""

        def found(answer: dict[str, Any]) -> list[dict[str, Any]]:
            return [
                row for row in answer["data"] if row["call_id"] == placed.call_id and row["outcome"] != "in_progress"
            ]

        calls = await self.node.wait_for("emergency-calls", found)
        return await self.node.api("GET", f"emergency-calls/{found(calls)[0]['id']}")

    async def until_loaded(self, *headers: tuple[str, str]) -> None:
        """A change in the pages reaches the SIP process a moment after its commit: wait until a 933 is answered."""
        async with asyncio.timeout(60):
            while not (await self.dial("933", "101", *headers)).is_answered:
                await asyncio.sleep(0.05)


async def started_sink() -> MailSink:
    server = MailSink()
    await server.start()
    return server


async def started_carrier() -> Carrier:
    far_end = Carrier(ring_s=0.01)
    await far_end.start()
    return far_end


@asynccontextmanager
async def furnished(folder: Path, *, is_mail_up: bool = True) -> AsyncIterator[Site]:
    """A node of its own with everything that a call needs."""
    sink, carrier = await started_sink(), await started_carrier()
    mail = {
        "CALLPOINT_MAIL__HOST": "127.0.0.1",
        "CALLPOINT_MAIL__PORT": str(sink.port),
        "CALLPOINT_MAIL__SECURITY": "none",
    }
    if not is_mail_up:
        await sink.stop()
    try:
        async with Node(folder, mail) as node:
            yield await furnish(node, carrier, sink)
    finally:
        await carrier.stop()
        await sink.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with furnished(tmp_path_factory.mktemp("node")) as site:
        await site.sink.wait_for(1)
        yield site


@pytest.fixture
def site(shared: Site) -> Site:
    """The module's node, with nothing heard yet."""
    shared.carrier.invites.clear()
    shared.sink.messages.clear()
    return shared


async def furnish(node: Node, carrier: Carrier, sink: MailSink) -> Site:
    await node.set_up_by_command()
    headquarters = await node.api("POST", "locations", {"name": "Headquarters", "civic_address": HEADQUARTERS})
    warehouse = await node.api(
        "POST",
        "locations",
        {
            "name": "Warehouse",
            "civic_address": WAREHOUSE,
            "notification_recipients": ["dock@example.com", "Desk@example.com"],
        },
    )
    await node.api("POST", "networks", {"kind": "subnet", "value": "10.9.0.0/16", "location_id": warehouse["id"]})
    await node.api("POST", "notification-recipients", {"email": "desk@example.com"})
    await node.api("POST", "pbxs", {"name": "PBX", "sources": ["127.0.0.1/32"], "registrar_host": "127.0.0.1"})
    host, port = carrier.address
    await node.api("POST", "trunks", {"name": "Carrier", "host": host, "port": port, "transport": "udp"})
    line = await node.api(
        "POST",
        "lines",
        {
            "extension": "101",
            "sip_user": "101",
            "display_name": "Ann Lee",
            "secret": "s3cret-of-101",
            "callback_number": "+15185550101",
        },
    )
    for vendor, model, mac in (("yealink", "T46U", MAC), ("poly", "VVX_450", POLY_MAC)):
        phone = {"vendor": vendor, "model": model, "mac": mac, "label": "Ann", "location_id": headquarters["id"]}
        await node.api("POST", "phones", phone | {"lines": [line["id"]]})
    site = Site(node, carrier, sink, headquarters, warehouse)
    await site.until_loaded()
    await node.wait_for("trunks", lambda answer: answer["data"][0]["is_up"])  # as the pages show it
    return site


def parts_of(invite: Any) -> dict[str, bytes]:
    """The body's parts by type, read by the standard library's own MIME parser."""
    head = f"Content-Type: {invite.header('Content-Type')}\r\n\r\n".encode()
    message = message_from_bytes(head + invite.body, policy=policy.HTTP)
    return {part.get_content_type(): part.get_payload(decode=True) for part in message.iter_parts()}


async def test_a_911_goes_out_with_the_callers_location_and_staff_are_told(site: Site) -> None:
    """E-02, S0-11, S0-15: PIDF-LO and callback number to the carrier; mail with dialled number, caller, location."""
    placed = await site.dial("911", "101", ("X-Callpoint-Device", MAC))
    assert placed.is_answered
    (invite,) = site.carrier.invites
    assert invite.request_uri.startswith("sip:911@")
    assert "+15185550101" in (invite.header("P-Asserted-Identity") or "")
    assert (invite.header("Geolocation") or "").startswith("<cid:")
    assert invite.header("Geolocation-Routing") == "yes"
    assert invite.header("X-Callpoint-Device") is None
    parts = parts_of(invite)
    assert list(parts) == ["application/sdp", "application/pidf+xml"]
    assert b"<ca:FLR>4</ca:FLR>" in parts["application/pidf+xml"] or b">4</" in parts["application/pidf+xml"]
    assert parts["application/sdp"].startswith(b"v=0\r\n")
    ((recipients, mail),) = await site.sink.wait_for(1)
    assert recipients == ["desk@example.com"]
    text = mail.get_body(("plain",)).get_content()
    for told in ("911", "Ann Lee", "101", "+15185550101", "Headquarters", "120", "Washington"):
        assert told in text, told
    call = await site.record_of(placed)
    assert (call["kind"], call["dialed"], call["location_source"]) == ("emergency", "911", "phone")
    assert call["location"]["name"] == "Headquarters"
    assert [attempt["outcome"] for attempt in call["attempts"]] == ["answered"]
    assert call["notifications"][0]["state"] == "sent"


async def test_the_phones_own_subnet_wins_and_both_recipient_lists_are_told_once(site: Site) -> None:
    """S0-16, S0-17, E-05: union of both lists, one mail for an address on both; the subnet goes before the phone."""
    headers = (("X-Callpoint-Device", MAC), ("X-Callpoint-Source", "10.9.4.7"))
    placed = await site.dial("911", "101", *headers)
    assert placed.is_answered
    told = await site.sink.wait_for(2)
    assert sorted(address.lower() for recipients, _ in told for address in recipients) == [
        "desk@example.com",
        "dock@example.com",
    ]
    call = await site.record_of(placed)
    assert call["location_source"] == "subnet"
    assert call["location"]["name"] == "Warehouse"
    assert "disagreement" in call["flags"]


async def test_933_takes_the_same_path_and_is_marked_a_test(site: Site) -> None:
    """S0-18: the carrier's test line notifies the same recipients, marked TEST, and is audited."""
    placed = await site.dial("933", "101", ("X-Callpoint-Device", MAC))
    assert placed.is_answered
    ((recipients, mail),) = await site.sink.wait_for(1)
    assert recipients == ["desk@example.com"]
    assert "TEST" in mail["Subject"]
    assert (await site.record_of(placed))["kind"] == "test"
    log = await site.node.api("GET", "audit-log?limit=20")
    assert "emergency_call.create" in [entry["event"] for entry in log["data"]]


async def test_no_credential_of_a_call_is_kept_or_given_out(site: Site) -> None:
    """E-12: what the PBX proves itself with reaches neither the record, nor the API, nor exports; the rest stays."""
    headers = (
        ("Authorization", "Basic Y2FuYXJ5OnNlY3JldC1vbmU="),
        ("Proxy-Authorization", 'Digest username="pbx", realm="x", nonce="n", uri="sip:911@x", response="5ec7e7"'),
        ("X-Note", "kept as it came"),
    )
    record = await site.record_of(await site.dial("911", "101", *headers))
    assert "(masked)" in record["invite"]
    assert "X-Note: kept as it came" in record["invite"]
    texts = [json.dumps(record)]
    auth = {"Authorization": f"Bearer {site.node.api_key}"}
    async with aiohttp.ClientSession(headers=auth) as client:
        for kind in ("csv", "jsonl"):
            async with client.get(f"{site.node.admin}/api/v1/exports/emergency-calls/{kind}") as answer:
                texts.append(await answer.text())
        async with client.get(f"{site.node.admin}/api/v1/emergency-calls") as answer:
            texts.append(await answer.text())
    for text in texts:
        assert record["id"] in text
        assert "Y2FuYXJ5OnNlY3JldC1vbmU" not in text
        assert "5ec7e7" not in text


async def test_an_unknown_location_never_stops_a_911_call(site: Site) -> None:
    """E-03: the first law. No record of the caller, no default: the call goes out, flagged."""
    placed = await site.dial("911", "nobody-we-know")
    assert placed.is_answered
    assert site.carrier.invites[-1].header("Geolocation") is None
    call = await site.record_of(placed)
    assert call["location"] is None
    assert "location_unknown" in call["flags"]
    await site.sink.wait_for(1)


async def test_a_dead_database_never_stops_a_911_call_and_loses_no_record(site: Site) -> None:
    """E-02, E-03: the second law. The database is locked; the call leaves at once, record and mail follow."""
    lock = sqlite3.connect(site.node.folder / "data" / "callpoint.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        placed = await site.dial("911", "101", ("X-Callpoint-Device", MAC))
        assert placed.is_answered  # while nobody can read or write
        assert placed.heard[-1].after_s < BUSY_TIMEOUT_S  # what asks a locked database waits for so long
        assert len(site.carrier.invites) == 1
        async with aiohttp.ClientSession() as client, client.get(f"{site.node.admin}/login") as page:
            said = await page.text()
            assert page.status == 503
            assert "911" in said
        assert not site.sink.messages
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    await site.sink.wait_for(1)
    assert (await site.record_of(placed))["outcome"] == "answered"


async def test_a_node_that_starts_without_its_database_still_routes_911(tmp_path: Path) -> None:
    """E-03, design decision 5: a stop is clean, and the location table's copy on disk is enough for a start."""
    async with furnished(tmp_path) as site:
        node = site.node
        assert await node.stop() == 0
        database = node.folder / "data" / "callpoint.db"
        for path in database.parent.glob("callpoint.db*"):
            path.rename(path.with_name(f"away-{path.name}"))
        database.mkdir()  # no file can be opened there
        await node.start()
        placed = await site.dial("911", "101", ("X-Callpoint-Device", MAC))
        assert placed.is_answered
        assert site.carrier.invites[-1].header("Geolocation") is not None
        async with aiohttp.ClientSession() as client, client.get(f"{node.admin}/login") as page:
            assert page.status == 503
        database.rmdir()
        for path in database.parent.glob("away-callpoint.db*"):
            path.rename(path.with_name(path.name.removeprefix("away-")))
        call = await site.record_of(placed)
        assert call["location"]["name"] == "Headquarters"


async def test_a_dead_mail_server_never_stops_a_911_call_and_the_messages_wait(tmp_path: Path) -> None:
    """E-03: the third law. Nobody listens where the mail server should be: the call leaves, the message waits."""
    async with furnished(tmp_path, is_mail_up=False) as site:
        placed = await site.dial("911", "101")
        assert placed.is_answered

        def tried(answer: dict[str, Any]) -> list[dict[str, Any]]:
            return [one for one in answer["data"] if "911" in one["subject"] and one["tries"] and one["last_error"]]

        waiting = await site.node.wait_for("notifications", tried)
        assert {one["state"] for one in tried(waiting)} == {"waiting"}


async def test_without_a_mail_server_messages_wait_the_test_call_proves_itself_and_strangers_are_refused(
    tmp_path: Path,
) -> None:
    """S0-11, E-04, design decision 19: no PBX and no mail server are set; `callpoint call` needs neither."""
    carrier = await started_carrier()
    async with Node(tmp_path) as node:
        await node.set_up()
        refused = await place_call(Placing("911", "101", node.udp))
        assert refused.status == 403
        host, port = carrier.address
        await node.api("POST", "trunks", {"name": "Carrier", "host": host, "port": port, "transport": "udp"})
        await node.api("POST", "lines", {"extension": "101", "sip_user": "101", "secret": "s3cret-of-101"})
        await node.api("POST", "notification-recipients", {"email": "desk@example.com"})
        udp = f"{node.udp[0]}:{node.udp[1]}"
        said = json.loads(await node.command("call", "933", "--from", "101", "--via", udp, "--json"))
        assert said["answered"]
        waiting = await node.wait_for("notifications", lambda answer: answer["data"])
        assert {one["state"] for one in waiting["data"]} == {"waiting"}
        assert "TEST" in waiting["data"][0]["subject"]
        async with asyncio.timeout(60):
            while "emergency_call.refuse" not in await node.command("audit", "export", "--account", "platform"):
                await asyncio.sleep(0.1)
    await carrier.stop()


async def boot(site: Site, vendor: str, model: str, mac: str, url: str) -> dict[str, Any]:
    return json.loads(
        await site.node.command(
            "phone", "simulate", "--vendor", vendor, "--model", model, "--mac", mac, "--url", url, "--json"
        )
    )


async def test_phones_of_both_families_boot_from_the_url_and_a_rotated_token_is_dead(site: Site) -> None:
    """P-01, P-03, S0-26, S0-27: both vendors boot ready; after Rotate the old URL is 404 and the new one works."""
    made = await site.node.api("POST", "provisioning-token/generate")
    url = made["provisioning_url"]
    assert made["token"] in url
    for vendor, model, mac in (("yealink", "T46U", MAC), ("poly", "VVX_450", POLY_MAC)):
        booted = await boot(site, vendor, model, mac, url)
        assert booted["is_ready"], booted
        assert booted["dials"] == {"911": "immediate", "933": "immediate"}
    rotated = await site.node.api("POST", "provisioning-token/rotate")
    assert rotated["token"] != made["token"]
    async with aiohttp.ClientSession() as client:
        async with client.get(f"{url.rstrip('/')}/{MAC}.cfg") as old:
            assert old.status == 404
        async with client.get(f"{rotated['provisioning_url'].rstrip('/')}/{MAC}.cfg") as new:
            assert new.status == 200
    said = "".join(site.node.output)
    assert made["token"] not in said
    assert rotated["token"] not in said


async def test_the_audit_chain_of_a_whole_day_verifies_off_line(site: Site) -> None:
    """S0-30: every operation stands in the log, exported and verified by the command."""
    assert (await site.dial("911", "101", ("X-Callpoint-Device", MAC))).is_answered
    await site.sink.wait_for(1)
    exported = await site.node.command("audit", "export", "--account", site.node.account_id)
    file = site.node.folder / "audit.jsonl"
    file.write_text(exported)
    assert "entries hold" in await site.node.command("audit", "verify", str(file))
    lines = [json.loads(line) for line in exported.splitlines()]
    events = [line["entry"]["event"] for line in lines if "entry" in line]  # signed checkpoints stand before them
    for event in (
        "account.create",
        "location.create",
        "phone.create",
        "trunk.create",
        "emergency_call.create",
        "audit_log.export",
    ):
        assert event in events


def edge_pid_of(node: Node) -> int:
    """The SIP process: the main process's only child."""
    assert node.process is not None
    (child,) = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
    return int(child)


async def test_a_sip_process_that_dies_is_started_again_from_what_is_on_disk(site: Site) -> None:
    """E-03: killed without warning, 911 is carried again within seconds, with the location."""
    os.kill(edge_pid_of(site.node), signal.SIGKILL)
    async with asyncio.timeout(60):
        while not (placed := await site.dial("933", "101", ("X-Callpoint-Device", MAC))).is_answered:
            await asyncio.sleep(0.05)
    assert site.carrier.invites[-1].header("Geolocation") is not None
    assert (await site.record_of(placed))["location"]["name"] == "Headquarters"


async def test_a_call_that_a_dead_sip_process_left_ringing_is_told_to_staff(site: Site) -> None:
    """E-12, E-11: not in progress for ever: the record says what is known, and staff are to call back."""
    site.carrier.ring_s, calling = 60.0, asyncio.create_task(site.dial("911"))
    try:
        async with asyncio.timeout(30):
            while not site.carrier.invites:
                await asyncio.sleep(0.02)
        newest = await site.node.wait_for(
            "emergency-calls?limit=1", lambda page: page["data"][0]["outcome"] == "in_progress"
        )
        os.kill(edge_pid_of(site.node), signal.SIGKILL)
        path = f"emergency-calls/{newest['data'][0]['id']}"
        record = await site.node.wait_for(path, lambda call: call["outcome"] == "cut_off", within_s=30.0)
    finally:
        site.carrier.ring_s = 0.01
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
    assert "cut_by_restart" in record["flags"]
    assert record["ended_at"]
    async with asyncio.timeout(30):
        while not any("CALL CUT BY A RESTART" in str(mail["Subject"]) for _, mail in site.sink.messages):
            await asyncio.sleep(0.05)
    await site.until_loaded()


async def test_a_node_told_to_stop_the_moment_it_runs_leaves_nothing_behind(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.start()
    edge = edge_pid_of(node)
    assert await node.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(edge, 0)


async def test_a_second_start_on_the_same_folder_or_address_takes_no_call_away(site: Site, tmp_path: Path) -> None:
    """E-03: two nodes on one SIP address would share out the calls between them, so the second one refuses."""
    folder = {"CALLPOINT_CORE__DATA_DIR": str(site.node.folder / "data")}
    address = {"CALLPOINT_SIP__UDP": "{}:{}".format(*site.node.udp), "CALLPOINT_SIP__TCP": ""}
    for environment, complaint in ((folder, "already running"), (address, "is taken by")):
        second = Node(tmp_path, environment)
        with pytest.raises(AssertionError, match="did not start"):
            await second.start()
        assert complaint in "".join(second.output)
        for _ in range(5):
            assert (await site.dial("933", "101", ("X-Callpoint-Device", MAC))).is_answered


async def test_calls_go_on_when_the_main_process_dies_and_a_restart_takes_over(tmp_path: Path) -> None:
    """E-03: the SIP process outlives the main process; the next one takes over its address and its folder."""
    async with furnished(tmp_path) as site:
        node, elder = site.node, edge_pid_of(site.node)
        host, port = node.udp
        node.environment["CALLPOINT_SIP__UDP"] = f"{host}:{port}"
        await node.stop(signal.SIGKILL)
        orphaned = await site.dial("911", "101", ("X-Callpoint-Device", MAC))
        assert orphaned.is_answered
        await node.start()
        assert (await site.dial("911", "101", ("X-Callpoint-Device", MAC))).is_answered
        assert (await site.record_of(orphaned))["location"]["name"] == "Headquarters"
        async with asyncio.timeout(60):
            while Path(f"/proc/{elder}").exists() and not is_zombie(elder):  # noqa: ASYNC240  # the kernel's, not a disk's
                await asyncio.sleep(0.05)


def is_zombie(pid: int) -> bool:
    """Ended, and only waiting for its parent to ask (the parent was killed: that is whoever adopted it)."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
