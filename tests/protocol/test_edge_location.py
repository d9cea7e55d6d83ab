"""Where a caller is, through the SIP process on real sockets: references with a deadline, sightings, disagreement.

That a call does not wait is shown by a deadline that is far away, not by how long it took: what that takes on a busy
machine is more than the 300 ms it would have to be told from.
"""

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest

from engine.e911 import snapshot, waiting
from engine.e911.dereference import Dereferencer
from engine.e911.waiting import ANSWER_WITHIN_S
from tests.protocol.edgetest import CARRIER_IP, CIVIC, PBX_IP, SDP, Carrier, Pbx, account, answering, edge, trunk
from tests.protocol.lis import lis, pidf
from tests.protocol.test_dereference import BILLION

WAIT_S = 0.3
CLOCKS_S = 0.01  # the loop's clock times the wait, the wall's the record
LONG = {"location_wait_s": 2.0}  # enough to say something meanwhile, and less than a stop waits for calls
FAR = {"location_wait_s": 600.0}  # who waits for a reference waits until its question is forgotten, after 10 s
BEYOND = "P-Asserted-Identity: <sip:999@pbx>"  # a caller nobody knows: there is but the account's default


def with_default(*trunks, **changes):
    return account(*trunks, **{"default_location_id": "location_hq"} | changes)


def other_place(name, number, **changes):
    row = account()["locations"][0] | {"id": f"location_{name}", "name": name, "civic_address": CIVIC | {"HNO": number}}
    return row | {"geo": None} | changes


@contextlib.asynccontextmanager
async def serving(running, *hosts):
    """The main process's part: what the edge asks for is fetched, and the answer told."""

    def located(token, found, detail, max_age_s):
        running.say(do="located", token=token, pidf=found, detail=detail, max_age_s=max_age_s)

    asks = Dereferencer(hosts, located=located)

    async def forever():
        served = 0
        while True:
            fresh, served = running.said[served:], len(running.said)
            for message in fresh:
                if message["is"] == "dereference":
                    asks.ask(message)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(forever())
    try:
        yield asks
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asks.close()


async def place_call(running, pbx, carrier, *added, **more):
    """(the INVITE that the carrier had, the journal's entry) of one more 911 call."""
    count = len(carrier.invites) + 1
    call = await pbx.call(running.udp, added=added, **more)
    invite = await carrier.expect(lambda m: getattr(m, "method", "") == "INVITE" and m.call_id == call.call_id)
    await call.final()
    assert len(carrier.invites) == count
    return invite, await running.entry("call", lambda entry: entry["call_id"] == call.call_id)


def held_s(entry):
    """Seconds between the call coming in and leaving, by the element."""
    return (datetime.fromisoformat(entry["sent_at"]) - datetime.fromisoformat(entry["received_at"])).total_seconds()


def did_not_wait(entry):
    """Under the deadline `FAR`: thousands of times what a call takes on an idle machine."""
    return held_s(entry) < ANSWER_WITHIN_S - 1


def rung(entry, source):
    return next(said for said in entry["verdict"] if said["source"] == source)


async def test_a_reference_that_answers_soon_gives_the_call_its_location(tmp_path, keys, parties):
    """E-02: the only wait there is: it ends with the answer, and the next call of that reference waits for nothing."""
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    async with lis() as server:
        server.delay_s = 0.1
        table, hosts = with_default(trunk(carrier.hop)), [server.host]
        async with (
            edge(tmp_path, keys, table, location_hosts=hosts, **FAR) as running,
            serving(running, server.host),
        ):
            refers = (BEYOND, f"Geolocation: <{server.uri()}>")
            invite, entry = await place_call(running, pbx, carrier, *refers)
            assert held_s(entry) >= 0.1 - CLOCKS_S
            assert (entry["location_source"], entry["flags"]) == ("reference", [])
            assert entry["location"]["civic_address"]["RD"] == "River"
            assert b"River" in invite.body
            assert rung(entry, "reference")["why"] == f"{server.host} answered"
            server.delay_s = 600.0
            _, entry = await place_call(running, pbx, carrier, *refers)
            assert did_not_wait(entry)
            assert entry["location_source"] == "reference"
            stats = await running.settled()
            assert (stats["references_asked"], stats["references_late"]) == (1, 0)


async def test_a_reference_that_takes_longer_leaves_the_call_its_default_after_300_ms(tmp_path, keys, parties):
    """E-02: and a flag says so; when the answer does come, the next call has it."""
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    async with lis() as server:
        server.may_answer.clear()
        table = with_default(trunk(carrier.hop))
        async with edge(tmp_path, keys, table, location_hosts=[server.host]) as running, serving(running, server.host):
            refers = (BEYOND, f"Geolocation: <{server.uri()}>")
            _, entry = await place_call(running, pbx, carrier, *refers)
            assert held_s(entry) >= WAIT_S - CLOCKS_S
            assert (entry["location_source"], entry["flags"]) == ("account_default", ["reference_unresolved"])
            assert "did not answer in time" in rung(entry, "reference")["why"]
            assert entry["received_at"] < entry["sent_at"]
            _, entry = await place_call(running, pbx, carrier, *refers)
            assert "reference_unresolved" in entry["flags"]
            assert (await running.settled())["references_late"] == 1  # the second one did not wait
            server.may_answer.set()
            async with asyncio.timeout(60):
                while entry["location_source"] != "reference":
                    await asyncio.sleep(0.2)
                    _, entry = await place_call(running, pbx, carrier, *refers)
            assert await running.logs("location_reference_unresolved")


@pytest.mark.parametrize("fault", ["dead", "hostile", "not found"])
async def test_a_reference_that_fails_holds_no_call(tmp_path, keys, parties, fault):
    """E-03: a dead or hostile location server never stops a 911, and not even for 300 ms."""
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    async with lis() as server:
        server.say("/here", BILLION if fault == "hostile" else b"", 200 if fault == "hostile" else 404)
        host = "127.0.0.1:9" if fault == "dead" else server.host
        table = with_default(trunk(carrier.hop))
        async with edge(tmp_path, keys, table, location_hosts=[host], **FAR) as running, serving(running, host):
            refers = (BEYOND, f"Geolocation: <http://{host}/here>")
            _, entry = await place_call(running, pbx, carrier, *refers)
            assert did_not_wait(entry)
            assert (entry["location_source"], entry["flags"]) == ("account_default", ["reference_unresolved"])
            why = rung(entry, "reference")["why"]
            assert {"dead": "cannot be reached", "hostile": "doctype", "not found": "404"}[fault] in why


async def test_nobody_is_asked_for_a_reference_of_a_server_that_is_not_listed(tmp_path, keys, parties):
    """E-05: a request cannot make us call just anybody; it leaves at once."""
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    hosts = ["lis.example.com"]
    async with edge(tmp_path, keys, with_default(trunk(carrier.hop)), location_hosts=hosts, **FAR) as running:
        refers = (BEYOND, "Geolocation: <https://169.254.169.254/latest>")
        _, entry = await place_call(running, pbx, carrier, *refers)
        assert did_not_wait(entry)
        assert "169.254.169.254 is not asked: its host is not listed" in rung(entry, "reference")["why"]
        assert (await running.settled())["references_asked"] == 0
        assert not [message for message in running.said if message["is"] == "dereference"]


async def test_a_call_that_is_placed_already_waits_for_no_reference(tmp_path, keys, parties):
    """E-02: only when nothing but a default is known otherwise; it is asked for the next call's sake."""
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    hosts = ["lis.example.com"]
    async with edge(tmp_path, keys, with_default(trunk(carrier.hop)), location_hosts=hosts, **FAR) as running:
        _, entry = await place_call(
            running, pbx, carrier, "X-Callpoint-Device: 0015654aa937", "Geolocation: <https://lis.example.com/r/1>"
        )
        assert did_not_wait(entry)
        assert (entry["location_source"], entry["flags"]) == ("phone", [])
        asked = await running.hear("dereference")
        assert (asked["account_id"], asked["uri"], asked["deadline_s"]) == (
            "account_acme", "https://lis.example.com/r/1", FAR["location_wait_s"],
        )  # fmt: skip


async def test_without_the_main_process_no_call_waits(tmp_path, keys, parties):
    """E-03: the main process is killed: nobody can be asked, and the call leaves at once."""
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    hosts = ["lis.example.com"]
    async with edge(tmp_path, keys, with_default(trunk(carrier.hop)), location_hosts=hosts, **FAR) as running:
        refers = (BEYOND, "Geolocation: <https://lis.example.com/r/1>")
        first = await pbx.call(running.udp, added=refers)
        await running.hear("dereference")
        running.process.stdin.close()  # as when it dies while a call waits for it
        assert (await first.final()).status == 200
        assert did_not_wait(await running.entry("call", lambda entry: entry["call_id"] == first.call_id))
        await running.logs("main_process_gone")
        _, entry = await place_call(running, pbx, carrier, *refers)
        assert did_not_wait(entry)
        assert (entry["location_source"], entry["flags"]) == ("account_default", ["reference_unresolved"])


async def test_a_call_that_is_given_up_while_it_waits_goes_nowhere(tmp_path, keys, parties):
    """E-02: CANCEL works as ever: 487 at once, no INVITE to any trunk, and a record."""
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    table = with_default(trunk(carrier.hop))
    async with edge(tmp_path, keys, table, location_hosts=["lis.example.com"], **LONG) as running:
        call = await pbx.call(running.udp, added=(BEYOND, "Geolocation: <https://lis.example.com/r/1>"))
        await running.hear("dereference")
        await call.cancel()
        assert (await call.final()).status == 487
        entry = await running.entry("call", lambda entry: entry["call_id"] == call.call_id)
        outcome = await running.entry("outcome", lambda outcome: outcome["call"] == entry["id"])
        assert (outcome["outcome"], outcome["status"]) == ("cancelled", 487)
        assert carrier.invites == []


async def test_a_waiting_call_is_answered_before_the_process_stops(tmp_path, keys, parties):
    """E-03: a stop takes nothing from a caller."""
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    table = with_default(trunk(carrier.hop))
    async with edge(tmp_path, keys, table, location_hosts=["lis.example.com"], **LONG) as running:
        call = await pbx.call(running.udp, added=(BEYOND, "Geolocation: <https://lis.example.com/r/1>"))
        await running.hear("dereference")
        running.process.terminate()
        assert (await call.final()).status == 200
        assert await running.ended() == 0


async def test_a_location_in_the_request_itself_is_used(tmp_path, keys, parties):
    """E-05: PIDF-LO by value, in a multipart body of its PBX."""
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    body = (
        b"--x\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--x\r\nContent-Type: application/pidf+xml\r\n"
        b"Content-ID: <here@pbx>\r\n\r\n" + pidf() + b"\r\n--x--\r\n"
    )

    def edit(data):
        return data.replace(b"Content-Type: application/sdp\r\n", b"Content-Type: multipart/mixed;boundary=x\r\n", 1)

    async with edge(tmp_path, keys, with_default(trunk(carrier.hop))) as running:
        _, entry = await place_call(running, pbx, carrier, BEYOND, "Geolocation: <cid:here@pbx>", body=body, edit=edit)
        assert (entry["location_source"], entry["location"]["civic_address"]["RD"]) == ("request", "River")
        assert rung(entry, "request")["said"] == "42 River, Troy"


async def test_a_sighting_counts_from_the_moment_it_is_told(tmp_path, keys, parties):
    """E-05: switch port, told over the line ahead of any snapshot; the disagreement it brings is an alarm."""
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    networks = [
        {"id": "network_1", "kind": "switch_port", "value": "001122334455/gi1/0/7", "location_id": "location_lab",
         "pbx_id": None},
        {"id": "network_2", "kind": "bssid", "value": "00156d123456", "location_id": "location_cafe", "pbx_id": None},
    ]  # fmt: skip
    places = [*account()["locations"], other_place("lab", "7"), other_place("cafe", "9")]
    table = with_default(trunk(carrier.hop), networks=networks, locations=places)
    async with edge(tmp_path, keys, table) as running:
        phone = ("X-Callpoint-Device: 0015654aa937",)
        _, entry = await place_call(running, pbx, carrier, *phone)
        assert (entry["location"]["name"], entry["flags"]) == ("Headquarters", [])
        running.say(
            do="seen", account_id="account_acme", phone_id="phone_1", chassis="00:11:22:33:44:55", port="Gi1/0/7",
            bssid=None, ip=None, source="snmp", seen_at=datetime.now(UTC).isoformat(),
        )  # fmt: skip
        await running.settled()
        _, entry = await place_call(running, pbx, carrier, *phone)
        assert (entry["location_source"], entry["location"]["name"]) == ("switch_port", "lab")
        assert "disagreement" in entry["flags"]
        assert {said["elsewhere"]["name"] for said in entry["verdict"] if "elsewhere" in said} == {"Headquarters"}
        assert '"taken":"switch_port"' in await running.logs("location_sources_disagree")
        wifi = (*phone, "P-Access-Network-Info: IEEE-802.11;i-wlan-node-id=00156D123456")
        _, entry = await place_call(running, pbx, carrier, *wifi)
        assert (entry["location_source"], entry["location"]["name"]) == ("bssid", "cafe")
        assert "has another address now" in rung(entry, "switch_port")["why"]
        assert (await running.settled())["location_disagreements"] == 2
        running.say(do="seen", account_id="account_acme", phone_id="phone_1", source="snmp", seen_at="yesterday")
        assert await running.logs("command_refused")
        assert (await place_call(running, pbx, carrier, *phone))[1]["location"]["name"] == "lab"


OVERTAKING = 6  # several times what can go before and behind a table that is read in one piece


async def test_a_table_is_swapped_under_calls(tmp_path, keys, parties):
    """Decision 2: every call has the location of the old table or the new, none is without; and many begin and end
    while one table is read: one that was read between two calls would let none by.
    """
    carrier, pbx = await parties(Carrier("udp", CARRIER_IP, answering)), await parties(Pbx("udp", PBX_IP))
    phones = [
        {"id": f"phone_{n}", "mac": f"{n:012x}", "label": "", "location_id": "location_hq", "line_ids": []}
        for n in range(16_000)
    ]
    async with edge(tmp_path, keys, with_default(trunk(carrier.hop))) as running:
        swaps, calls, during = 0, 0, []

        async def swap():
            nonlocal swaps
            while True:
                moved = other_place("hq", str(swaps)) | {"name": "Headquarters"}
                table = with_default(trunk(carrier.hop), locations=[moved], phones=phones, revision=swaps)
                await asyncio.to_thread(snapshot.save, running.folder / "snapshot", table, running.keys)
                running.say(do="load", account_id="account_acme")
                before = calls
                await running.settled()
                during.append(calls - before)
                swaps += 1

        swapping = asyncio.create_task(swap())
        try:
            async with asyncio.timeout(60):
                while swaps < 3 or max(during) < OVERTAKING:
                    _, entry = await place_call(running, pbx, carrier)
                    assert entry["location"]["name"] == "Headquarters"
                    assert not swapping.done()
                    calls += 1
        finally:
            swapping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await swapping


def test_the_wait_is_what_the_feature_says():
    """E-02: 300 ms."""
    assert waiting.WAIT_S == WAIT_S
