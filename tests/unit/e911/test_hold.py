"""Emergency requests that refer to a location: which wait, for whom, and what is decided after."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

from engine.e911 import waiting
from engine.e911.carriers import load_profiles
from engine.e911.hook import Hook
from engine.e911.location import (
    AccountTable,
    CivicAddress,
    DispatchableLocation,
    Line,
    LocationTable,
    Pbx,
    Trunk,
)
from engine.e911.location_uris import LocationUris
from engine.e911.pidf import write_pidf
from engine.e911.route import Deadlines
from engine.e911.waiting import MAX_OPEN, ReferenceWait
from engine.sip.forward import Hop
from tests.siptest import read_request, request

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
PBX = Hop("udp", "192.0.2.20", 5060)
URI = "https://lis.example.com/r/1"
KEY = ("account_1", URI)
CIVIC = CivicAddress.of({"country": "US", "A1": "NY"})
RIVER = DispatchableLocation("x", "", CivicAddress.of({"RD": "River", "HNO": "42"}))
PIDF = write_pidf(RIVER, "pres:a@b", NOW)
REFERS = f"Geolocation: <{URI}>"


def hook(uris, **changes):
    values = {
        "account_id": "account_1",
        "locations": {"location_hq": DispatchableLocation("location_hq", "hq", CIVIC)},
        "default_location_id": "location_hq",
        "pbxs": {"pbx_1": Pbx("pbx_1", "PBX", (ip_network("192.0.2.20/32"),))},
        "trunks": (Trunk("trunk_1", "Carrier", 10, "203.0.113.1"),),
    }
    table = LocationTable()
    table.put(AccountTable(**values | changes))
    return Hook(
        table,
        profiles=load_profiles(),
        hops_of=lambda host, port, transport: (Hop(transport, host, port or 5060),),
        down=set(),
        trunk_ips=set(),
        deadlines=Deadlines(),
        proof_key=b"k" * 32,
        make_call_id=lambda: "call_1",
        location_uris=uris,
    )


def decide(at, *added, now=NOW, body=b""):
    return at.decide(read_request(request(source=PBX, added=list(added), body=body)), PBX, now)


def uris():
    return LocationUris(frozenset({"lis.example.com"}))


def test_a_call_with_but_a_default_is_held_and_then_decided_with_what_came():
    """E-02: hold, answer, go."""
    known = uris()
    held = decide(hook(known), REFERS)
    assert (held.forward, held.status, held.call) == (None, 0, None)
    assert (held.hold.account_id, held.hold.uri) == KEY
    known.answered(KEY, NOW, PIDF, "", None)
    decision = held.hold.again()
    assert decision.hold is None
    assert decision.call.resolved.location.name == "42 River"
    assert (decision.call.received_at, decision.call.flags, decision.ask) == (NOW, (), None)
    assert [target.name for target in decision.forward.targets] == ["trunk_1"]


def test_without_an_answer_it_goes_with_the_default_and_a_flag():
    """E-02: and says so."""
    decision = decide(hook(uris()), REFERS).hold.again()
    assert decision.call.flags == ("reference_unresolved",)
    assert (decision.call.resolved.source, decision.ask) == ("account_default", KEY)


def test_a_call_that_is_placed_already_is_not_held():
    """E-02: only when nothing but a default is known otherwise."""
    decision = decide(hook(uris(), lines=(Line("line_1", "101", "101", location_id="location_hq"),)), REFERS)
    assert (decision.hold, decision.call.resolved.source, decision.ask) == (None, "line", KEY)


def test_a_call_without_a_reference_asks_nobody():
    decision = decide(hook(uris()))
    assert (decision.hold, decision.ask, decision.call.flags) == (None, None, ())


def test_a_933_waits_like_a_911():
    """Law: 933 takes the same way to the last branch."""
    at = hook(uris())
    held = at.decide(read_request(request(uri="sip:933@192.0.2.10", source=PBX, added=[REFERS])), PBX, NOW)
    assert held.hold is not None
    assert held.hold.again().call.dialed.kind == "test"


def test_another_call_is_never_held():
    at = hook(uris())
    assert at.decide(read_request(request(uri="sip:102@x", source=PBX, added=[REFERS])), PBX, NOW).hold is None


def test_a_location_in_the_request_that_cannot_be_read_is_a_flag():
    """E-03: and the call goes."""
    data = request(source=PBX, body=b"<!DOCTYPE x><x/>").replace(b"application/sdp", b"application/pidf+xml")
    decision = hook(uris()).decide(read_request(data), PBX, NOW)
    assert decision.call.flags[0].startswith("malformed:a location in the request cannot be read")
    assert decision.forward.targets


def test_an_account_that_is_replaced_while_its_call_waits_is_asked_anew():
    """E-02: the old table is taken apart meanwhile: the call is decided with the new one, caller and number known."""
    lines = (Line("line_1", "101", "101", "Ada", callback_number="+15185550101"),)
    at = hook(uris(), lines=lines)
    data = request(source=PBX, added=[REFERS, "P-Asserted-Identity: <sip:101@pbx>"])
    held = at.decide(read_request(data), PBX, NOW)
    old = at._table.accounts["account_1"]
    at._table.put(replace(old))
    old.dissolve()
    call = held.hold.again().call
    assert (call.callback_number, call.resolved.line.id) == ("+15185550101", "line_1")
    at._table.drop("account_1")
    assert held.hold.again().forward is not None


# --- the element's own clock ------------------------------------------------------------------------------------------


class Said:
    """A line to the main process."""

    def __init__(self):
        self.lines = []

    def __call__(self, **line):
        self.lines.append(line)


def waits(**more):
    said, known = Said(), uris()
    return ReferenceWait(known, tell=said, **more), said, known


def look(known):
    return known.look(AccountTable("account_1"), Pbx("p", "p"), URI, datetime.now(UTC), has_waited=False)


async def test_each_call_goes_on_exactly_once():
    """E-02: by the answer, by the clock, whichever is first."""
    wait, said, known = waits()
    look(known)
    went = []
    wait.hold(*KEY, lambda: went.append("first"))
    wait.hold(*KEY, lambda: went.append("second"))
    assert (wait.holding, len(said.lines), went) == (2, 1, [])
    assert said.lines[0] == {
        "is": "dereference", "token": "d1", "account_id": "account_1", "uri": URI, "deadline_s": 0.3,
    }  # fmt: skip
    wait.located({"token": "d1", "pidf": PIDF.decode(), "detail": "", "max_age_s": None})
    wait.located({"token": "d1", "pidf": None, "detail": "again"})
    await asyncio.sleep(waiting.WAIT_S + 0.05)
    assert went == ["first", "second"]
    assert (wait.asked, wait.resolved, wait.late, wait.holding) == (1, 1, 0, 0)


async def test_the_clock_is_the_element_s_own():
    """E-02: 300 ms; the answer is kept when it comes later."""
    wait, _, known = waits()
    look(known)
    gone = asyncio.Event()
    order = []
    loop = asyncio.get_running_loop()
    loop.call_later(0.29, order.append, "0.29 s")
    wait.hold(*KEY, lambda: order.append("the call"))
    loop.call_later(0.31, lambda: (order.append("0.31 s"), gone.set()))
    await asyncio.wait_for(gone.wait(), 30)
    assert order == ["0.29 s", "the call", "0.31 s"]  # a loop that is late keeps the order of its timers
    assert (wait.late, look(known).may_wait) == (1, False)
    wait.located({"token": "d1", "pidf": PIDF.decode(), "detail": ""})
    assert look(known).rung.location.name == "42 River"


async def test_one_call_that_fails_to_go_on_holds_up_no_other():
    """E-02: those behind it go on by their own clocks at the latest."""
    wait, _, known = waits()
    look(known)
    gone = asyncio.Event()

    def fails():
        raise RuntimeError("a fault of ours")

    wait.hold(*KEY, fails)
    wait.hold(*KEY, gone.set)
    with contextlib.suppress(RuntimeError):
        wait.located({"token": "d1", "pidf": PIDF.decode(), "detail": ""})
    await asyncio.wait_for(gone.wait(), 30)
    assert wait.holding == 0


async def test_the_main_process_gone_lets_everybody_go():
    wait, said, _ = waits()
    went = []
    wait.hold(*KEY, lambda: went.append(1))
    wait.main_gone()
    wait.hold(*KEY, lambda: went.append(2))
    assert (went, wait.ask(*KEY), len(said.lines)) == ([1, 2], False, 1)


async def test_open_questions_are_bounded_and_forgotten():
    """E-02: a main process that answers nothing costs no memory, and in the end no wait."""
    wait, said, _ = waits(answer_within_s=0.05)
    for number in range(MAX_OPEN + 5):
        wait.ask("account_1", f"{URI}{number}")
    assert len(said.lines) == MAX_OPEN
    went = []
    wait.hold("account_1", "https://lis.example.com/another", lambda: went.append(1))
    assert went == [1]
    await asyncio.sleep(0.1)
    assert wait.ask("account_1", "https://lis.example.com/another")


async def test_what_is_about_to_go_stale_is_asked_for_ahead():
    """E-05: dereferenced ahead of the next call."""
    wait, said, known = waits()
    look(known)
    told = datetime.now(UTC) - timedelta(seconds=70)
    known.answered(KEY, told, write_pidf(RIVER, "pres:a@b", told), "", 80.0)
    wait.refresh(100.0)
    wait.refresh(101.0)
    assert [line["uri"] for line in said.lines] == [URI]
