"""The SIP process itself: who may, the control channel, pings, starting, stopping, and a disk that refuses."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from collections import Counter

import pytest

from engine import crypto
from engine.e911 import snapshot
from engine.e911.trunks import UNASKED
from engine.sip.message import Request
from tests.protocol.edgetest import (
    CARRIER_IP,
    PBX_IP,
    ROOT,
    SECOND_IP,
    STRANGER_IP,
    WITHIN_S,
    Carrier,
    Pbx,
    account,
    answering,
    edge,
    trunk,
)
from tests.siptest import response


def pbx_with(route):
    pbxs = account()["pbxs"]
    return [pbxs[0] | {"default_route": route}]


async def test_other_calls_of_a_pbx_go_to_its_default_route(tmp_path, keys, parties):
    """Design §3.6: with a default route they are forwarded, without a location, and not recorded; without one 404."""
    switch = await parties(Carrier("tcp", SECOND_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    routed = account(pbxs=pbx_with(f"sip:{SECOND_IP}:{switch.port};transport=tcp"))
    async with edge(tmp_path, keys, routed) as running:
        call = await pbx.call(running.udp, "sip:15185550123@callpoint.example.com", added=("X-Callpoint-Device: 101",))
        answer = await call.final()
        assert answer.status == 200
        await call.within("BYE", answer, 2)
        await pbx.expect(lambda m: not isinstance(m, Request) and m.cseq == (2, "BYE"))
        await running.save(account())
        refused = await pbx.call(running.udp, "sip:15185550123@callpoint.example.com")
        assert (await refused.final()).status == 404
    (invite,) = switch.invites
    assert invite.request_uri == "sip:15185550123@callpoint.example.com"
    assert (invite.header("Geolocation"), invite.headers("X-Callpoint-Device")) == (None, [])
    assert not list((tmp_path / "journal").glob("*"))


async def test_a_default_route_may_answer_as_fast_as_calls_come(tmp_path, keys, parties):
    """E-04: the limit on strangers does not touch those we send calls to."""
    switch = await parties(Carrier("udp", SECOND_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(pbxs=pbx_with(f"sip:{SECOND_IP}:{switch.port}"))) as running:
        for _ in range(5):
            calls = [await pbx.call(running.udp, "sip:15185550123@callpoint.example.com") for _ in range(15)]
            assert {(await call.final()).status for call in calls} == {200}
        assert (await running.settled())["strangers_unheard"] == 0


async def test_options_are_answered_to_those_we_know(tmp_path, keys, parties):
    """Design §3.6: 200 to a PBX and a trunk, 403 to a stranger."""
    pbx = await parties(Pbx("udp", PBX_IP))
    carrier = await parties(Pbx("udp", CARRIER_IP))
    stranger = await parties(Pbx("udp", STRANGER_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        for party, status in ((pbx, 200), (carrier, 200), (stranger, 403)):
            await party.call(running.udp, "sip:callpoint@127.0.0.1", method="OPTIONS", body=b"")
            answer = await party.expect(lambda m: not isinstance(m, Request) and m.cseq[1] == "OPTIONS")
            assert answer.status == status


async def test_a_flood_of_a_stranger_is_not_answered_in_full_and_not_recorded_in_full(tmp_path, keys, parties):
    """E-04: on UDP rate limited; a PBX's 911 call goes through it."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    stranger = await parties(Pbx("udp", STRANGER_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        for _ in range(200):
            await stranger.call(running.udp, "sip:100@callpoint", method="REGISTER", body=b"")
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        entries = await running.journal(lambda found: sum(e["type"] == "outcome" for e in found) >= 1)
    assert 1 <= len(stranger.statuses()) < 200
    assert sum(entry["type"] == "stranger" for entry in entries) == 1


async def test_trunks_are_pinged_and_a_silent_one_is_tried_last(tmp_path, keys, parties):
    """E-08: one that is down is tried after those that are up, never skipped."""
    first = await parties(Carrier("udp", CARRIER_IP, answering))
    second = await parties(Carrier("tcp", SECOND_IP, answering))
    first.is_silent = True
    pbx = await parties(Pbx("udp", PBX_IP))
    both = account(trunk(first.hop), trunk(second.hop, "trunk_second", 20))
    async with edge(tmp_path, keys, both, ping_s=0.5) as running:
        up = await running.hear("trunk", lambda message: message["trunk_id"] == "trunk_second")
        down = await running.hear("trunk", lambda message: message["trunk_id"] == "trunk_first")
        assert (up["up"], down["up"]) == (True, False)
        assert (down["account_id"], down["detail"]) == ("account_acme", "OPTIONS was not answered")
        assert (await running.settled())["trunks_down"] == ["trunk_first"]
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        assert first.invites == []
        entries = await running.journal(lambda found: any(e["type"] == "outcome" for e in found))
        attempts = [(e["number"], e["trunk_id"], e["outcome"]) for e in entries if e["type"] == "attempt"]
        assert attempts == [(1, "trunk_second", "answered")]  # no time went into the one that is down
        first.is_silent = False
        await running.hear("trunk", lambda message: message["trunk_id"] == "trunk_first" and message["up"])
        await (await pbx.call(running.udp)).final()
    assert len(first.invites) == 1


async def test_a_carrier_that_answers_calls_and_no_options_keeps_its_place_when_it_is_not_asked(
    tmp_path, keys, parties
):
    """E-08: with the asking switched off, its silence puts no other trunk before it."""
    first = await parties(Carrier("udp", CARRIER_IP, answering))
    second = await parties(Carrier("tcp", SECOND_IP, answering))
    first.answers_options = False
    pbx = await parties(Pbx("udp", PBX_IP))
    both = account(trunk(first.hop, pings=False), trunk(second.hop, "trunk_second", 20))
    async with edge(tmp_path, keys, both, ping_s=0.5) as running:
        told = await running.hear("trunk", lambda message: message["trunk_id"] == "trunk_first")
        assert (told["up"], told["detail"]) == (True, UNASKED)
        while len(second.requests("OPTIONS")) < 2:  # as often as the first would have been asked
            await asyncio.sleep(0.05)
        assert (await running.settled())["trunks_down"] == []
        assert (await (await pbx.call(running.udp)).final()).status == 200
    assert (len(first.invites), second.invites) == (1, [])
    assert first.requests("OPTIONS") == []


async def test_a_call_that_no_trunk_is_known_to_take_tries_the_silent_one_all_the_same(tmp_path, keys, parties):
    """E-08: down is an order, not a verdict."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    carrier.is_silent = True
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop)), ping_s=60) as running:
        await running.hear("trunk", lambda message: not message["up"])
        carrier.is_silent = False
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        assert (await running.hear("trunk", lambda message: message["up"]))["detail"] == "a call was answered (200)"


async def test_a_changed_account_is_taken_up_and_a_bad_snapshot_changes_nothing(tmp_path, keys, parties):
    """Decision 2: account by account; the old table serves until the new one is read, and on when that is
    unreadable.
    """
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys) as running:
        assert (await (await pbx.call(running.udp)).final()).status == 403
        await running.save(account(trunk(carrier.hop)))
        assert (await (await pbx.call(running.udp)).final()).status == 200
        (tmp_path / "snapshot" / "account_acme.sealed").write_bytes(b"torn")
        running.say(do="load", account_id="account_acme")
        running.say(do="load", account_id="../../etc/passwd")
        running.say(do="fly")
        running.say(nothing=1)
        assert "account_acme" in (await running.hear("fault"))["detail"]
        assert (await (await pbx.call(running.udp)).final()).status == 200
        running.say(do="drop", account_id="account_acme")
        assert (await running.settled())["accounts"] == 0
        assert (await (await pbx.call(running.udp)).final()).status == 403


async def test_a_long_line_of_the_main_process_is_no_reason_to_stop_listening(tmp_path, keys, parties):
    """E-05: a location server may answer with 64 kB, each character of which is escaped on the way; what is longer
    than any line is refused, and the next one is obeyed.
    """
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys) as running:
        running.say(do="located", token="d1", pidf="\u00e9" * 65_536, detail="")
        await running.settled()
        running.say(do="located", token="d1", pidf="x" * (5 * 1024 * 1024), detail="")
        await running.save(account(trunk(carrier.hop)))
        assert "command_refused" in await running.logs("limit")
        assert (await (await pbx.call(running.udp)).final()).status == 200


async def test_a_notify_is_sent_for_the_main_process(tmp_path, keys, parties):
    """P-03: the answer's status comes back under the token; nobody there is 408; a line break is refused."""
    phone = await parties(Carrier("udp", PBX_IP, answering))

    def answer(message, data, source):
        if isinstance(message, Request) and message.method == "NOTIFY":
            phone._reply(data, 481 if "gone" in message.request_uri else 200, source)

    phone.on_message = answer
    async with edge(tmp_path, keys, account()) as running:
        target = {"transport": "udp", "ip": PBX_IP, "port": phone.port}
        event = [["Event", "check-sync;reboot=false"]]
        for token, uri, status in (("a", "sip:101@10.0.0.5:5060", 200), ("b", "sip:gone@10.0.0.5", 481)):
            running.say(do="notify", token=token, target=target, request_uri=uri, headers=event)
            assert (await running.hear("notified", lambda m, t=token: m["token"] == t))["status"] == status
        running.say(do="notify", token="c", target=target, request_uri="sip:a\r\nEvil: 1", headers=event)
        assert "line breaks" in await running.logs("command_refused")
        phone.on_message = lambda *_: None
        running.say(do="notify", token="d", target=target, request_uri="sip:101@10.0.0.5", headers=event)
        assert (await running.hear("notified", lambda m: m["token"] == "d"))["status"] == 408
    first = phone.requests("NOTIFY")[0]
    assert (first.request_uri, first.header("Event")) == ("sip:101@10.0.0.5:5060", "check-sync;reboot=false")


@pytest.mark.parametrize("how", ["SIGTERM", "stop"])
async def test_a_stop_lets_a_ringing_call_be_answered_and_its_record_be_kept(tmp_path, keys, parties, how):
    """Item 2: calls in progress keep their transactions until answered; no other new work; the journal is flushed;
    exit 0.
    """
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [100, 180]))
    pbx = await parties(Pbx("udp", PBX_IP))
    routed = account(trunk(carrier.hop), pbxs=pbx_with(f"sip:{CARRIER_IP}:{carrier.port}"))
    async with edge(tmp_path, keys, routed) as running:
        call = await pbx.call(running.udp)
        await call.ringing()
        if how == "SIGTERM":
            running.process.send_signal(signal.SIGTERM)
        else:
            running.say(do="stop")
        await running.hear("stopping")
        other = await pbx.call(running.udp, "sip:15185550123@callpoint.example.com")
        assert (await other.final()).status == 503
        assert running.process.returncode is None
        carrier.answer(call.call_id, 200, running.udp)
        assert (await call.final()).status == 200
        assert await running.ended() == 0
        await running.hear("stopped")
        entries = await running.journal(lambda found: any(e["type"] == "outcome" for e in found))
    assert [entry["type"] for entry in entries] == ["call", "attempt", "outcome"]


async def test_an_idle_process_stops_at_once(tmp_path, keys):
    """E-03: only calls in progress are waited for; one that waited for nothing would say so in its log."""
    async with edge(tmp_path, keys, account()) as running:
        running.say(do="stop")
        assert await running.ended() == 0
        await running.hear("stopped")
    assert not [line for line in running.logged if "calls_in_progress" in line]


async def test_an_orphan_serves_on_until_a_younger_process_takes_over(tmp_path, keys, parties):
    """E-03: the main process may die; 911 is carried; a new pair of processes relieves the old edge."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as old:
        old.process.stdin.close()
        await old.logs("main_process_gone")
        assert (await (await pbx.call(old.udp)).final()).status == 200
        async with edge(tmp_path, keys, udp=f"127.0.0.1:{old.udp[1]}", tcp=f"127.0.0.1:{old.tcp[1]}") as young:
            assert young.udp == old.udp
            assert await old.ended() == 0
            assert (await (await pbx.call(young.udp)).final()).status == 200
            entries = await young.journal(lambda found: sum(e["type"] == "outcome" for e in found) >= 2)
    assert len({entry["id"] for entry in entries if entry["type"] == "call"}) == 2


async def test_no_call_is_lost_between_an_orphan_and_the_process_that_relieves_it(tmp_path, keys, parties):
    """E-03: both listen on one address for a while, and the kernel deals the carrier's answers out to either. A call
    that rang at the old one goes on there until it is answered, new ones are taken by whoever hears of them first.
    """
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [100, 180]))
    pbxs = [await parties(Pbx("udp", PBX_IP)) for _ in range(8)]
    mouths = [await parties(Carrier("udp", CARRIER_IP, answering)) for _ in pbxs]  # each another way to the kernel

    async def talk(calls, at):
        for call, mouth in zip(calls, mouths, strict=True):
            (invite,) = [each for each in carrier.invites if each.call_id == call.call_id]
            await mouth.send(response(invite.raw, 200, contact=f"sip:psap@{mouth.ip}:{mouth.port}"), at)
            answer = await call.final()
            assert answer.status == 200
            await call.within("ACK", answer, 1)
            await mouth.expect(lambda m: isinstance(m, Request) and m.method == "ACK")
            while not any(m.cseq == (2, "BYE") for m in call.pbx.inbox):  # sent again, as PBXs do: a socket is closing
                await call.within("BYE", answer, 2)
                with contextlib.suppress(TimeoutError):
                    await call.pbx.expect(lambda m: m.cseq == (2, "BYE"), within_s=0.5)
            mouth.inbox.clear()
            call.pbx.inbox.clear()

    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as old:
        ringing = [await pbx.call(old.udp) for pbx in pbxs]
        for call in ringing:
            await call.ringing()
        old.process.stdin.close()
        await old.logs("main_process_gone")
        async with edge(tmp_path, keys, udp=f"127.0.0.1:{old.udp[1]}", tcp=f"127.0.0.1:{old.tcp[1]}") as young:
            await old.logs("taken_over")
            for call in ringing:
                call.pbx.inbox.clear()
            begun = [await pbx.call(young.udp) for pbx in pbxs]
            for call in begun:
                await call.ringing()
            assert old.process.returncode is None
            await talk(ringing, young.udp)
            await talk(begun, young.udp)
            assert await old.ended() == 0
            enough = 2 * len(pbxs)
            entries = await young.journal(lambda found: sum(e["type"] == "outcome" for e in found) >= enough)
    told = Counter(entry["type"] for entry in entries)
    assert [told[kind] for kind in ("call", "attempt", "outcome")] == [2 * len(pbxs)] * 3
    assert {entry["outcome"] for entry in entries if entry["type"] == "outcome"} == {"answered"}
    assert [path.name for path in tmp_path.glob("edge.*.relief")] == []


async def test_a_disk_that_refuses_delays_the_record_and_never_the_call(tmp_path, keys, parties):
    """E-02: the journal's place is taken by a file; calls go on, entries wait, and are written once there is room."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    (tmp_path / "journal").write_text("in the way")
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        for _ in range(3):
            assert (await (await pbx.call(running.udp)).final()).status == 200
        fault = await running.hear("journal", lambda message: bool(message.get("fault")))
        assert "cannot be written" in fault["fault"]
        (tmp_path / "journal").unlink()
        entries = await running.journal(lambda found: sum(e["type"] == "outcome" for e in found) >= 3)
        await running.hear("journal", lambda message: message.get("fault") == "")
    assert sum(entry["type"] == "call" for entry in entries) == 3


async def test_a_disk_that_fills_up_in_the_middle_of_a_line_loses_nothing_of_a_911_that_is_up(tmp_path, keys, parties):
    """E-02, E-12: the kernel takes a few bytes and refuses the rest, in each file anew; the call goes on, another is
    carried, it is told, and all of it is on record once there is room.
    """
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [100, 180]))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        pid = running.process.pid
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        before = await pbx.call(running.udp)
        await before.ringing()
        await running.entry("call")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (100, unlimited[1]))
        carrier.answer(before.call_id, 200)
        answer = await before.final()
        await before.within("ACK", answer, 1)
        during = await pbx.call(running.udp)
        await during.ringing()
        carrier.answer(during.call_id, 200)
        assert (await during.final()).status == 200
        fault = await running.hear("journal", lambda message: bool(message.get("fault")))
        assert "cannot be written (File too large)" in fault["fault"]
        torn = list((tmp_path / "journal").glob("*.sealed"))[1:]
        assert {path.stat().st_size for path in torn} <= {0, 100}
        await before.within("BYE", answer, 2)
        await pbx.expect(lambda m: not isinstance(m, Request) and m.cseq == (2, "BYE") and m.status == 200)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        await running.hear("journal", lambda message: message.get("fault") == "")
        entries = await running.journal(lambda found: {"call", "attempt", "outcome", "ended"} <= kinds_of(found))
        assert (await running.settled())["journal_lost"] == 0
    told = Counter(entry["type"] for entry in entries)
    assert (told["call"], told["attempt"], told["outcome"], told["ended"]) == (2, 2, 2, 1)


def kinds_of(entries):
    return {entry["type"] for entry in entries}


async def test_a_main_process_that_stops_reading_holds_up_no_call(tmp_path, keys, parties):
    """E-03: the control channel is full and nobody reads it; calls go on."""
    carrier = await parties(Carrier("udp", CARRIER_IP, answering))
    pbx = await parties(Pbx("udp", PBX_IP))
    snapshot.save(tmp_path / "snapshot", account(trunk(carrier.hop)), keys)
    read_end, write_end = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engine.edge", cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=write_end, stderr=write_end
    )
    os.close(write_end)
    start = {"data_dir": str(tmp_path), "key_file": str(tmp_path / "keys.toml"), "udp": "127.0.0.1:0", "ping_s": 0}
    process.stdin.write(json.dumps({"do": "start"} | start).encode() + b"\n")
    said = b""
    while b'"ready"' not in said or not said.endswith(b"\n"):
        said += await asyncio.to_thread(os.read, read_end, 4096)
    ready = next(json.loads(line) for line in said.splitlines() if b'"ready"' in line)
    at = ("127.0.0.1", int(ready["udp"].rpartition(":")[2]))
    try:
        for number in range(3000):
            process.stdin.write(json.dumps({"do": "stats", "token": "x" * 60 + str(number)}).encode() + b"\n")
        await process.stdin.drain()
        for _ in range(20):
            assert (await (await pbx.call(at)).final()).status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        os.close(read_end)
        assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0


@pytest.mark.parametrize(
    ("start", "word"),
    [
        ({"do": "start"}, "data_dir"),
        ({"do": "sing"}, "was expected as the first line"),
        ([1], "was expected as the first line"),
        ({"do": "start", "data_dir": "/nowhere", "key_file": "/nowhere/keys"}, "no key file"),
        ({"do": "start", "data_dir": "{tmp}", "key_file": "{tmp}/keys.toml", "udp": "192.0.2.1:5060"}, "assign"),
        ({"do": "start", "data_dir": "{tmp}", "key_file": "{tmp}/keys.toml", "connect_s": "soon"}, "soon"),
    ],
)
async def test_a_process_that_cannot_start_says_why(tmp_path, start, word):
    """Bad input: start refused with the reason."""
    crypto.create(tmp_path / "keys.toml")
    line = json.dumps(start).replace("{tmp}", str(tmp_path)).encode() + b"\n"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engine.edge", cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(line), WITHIN_S)
    assert process.returncode == 1
    assert word in json.loads(out)["detail"]
