"""A fault of ours between reading an emergency request and sending it, at every place where we are handed something.

The faults come by the arguments that the element, the hook and the table take anyway: a callback that raises, a row
that holds what no row should. Nothing of ours is replaced.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import pytest

from engine.e911.carriers import load_profiles
from engine.e911.civic import CivicAddress, DispatchableLocation
from engine.e911.hook import Hook
from engine.e911.location import AccountTable, Line, LocationTable, Pbx, Trunk
from engine.e911.route import Deadlines
from engine.edge.decide import decide_and_act, ways_out
from engine.sip.dialog import NextHop
from engine.sip.events import RequestReceived
from engine.sip.forward import Hop
from engine.sip.message import Request, parse_message
from engine.sip.stack import SipStack
from tests.siptest import CARRIER, PBX, SECOND, make_stack, read_request, read_response, request, response, route_set

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
RELAY = Hop("udp", "192.0.2.32", 5060)
PLACE = DispatchableLocation("location_hq", "HQ", CivicAddress.of({"country": "US", "A1": "NY", "RD": "Main"}))
TRUNKS = (
    Trunk("first", "First", 10, CARRIER.ip),
    Trunk("second", "Second", 20, SECOND.ip),
    Trunk("relay", "Relay", 1, RELAY.ip, last_resort=True),
)
ACCOUNT = AccountTable(
    "account_1", locations={PLACE.id: PLACE}, default_location_id=PLACE.id, trunks=TRUNKS,
    lines=(Line("line_1", "101", "101", "Ada", "+15185550101"),),
    pbxs={"pbx_1": Pbx("pbx_1", "PBX", (ip_network(f"{PBX.ip}/32"),))},
)  # fmt: skip


class Broken(Exception):
    """What no code of ours expects."""


@dataclass
class Failing:
    """A callback that raises at its n-th call (from 1), at every one (0), or never (-1)."""

    works: Callable[..., Any]
    at: int = -1
    calls: int = 0

    def __call__(self, *given: Any) -> Any:
        self.calls += 1
        if self.at in (0, self.calls):
            raise Broken(f"call {self.calls}")
        return self.works(*given)


class Element:
    """Stack and hook wired as the SIP process wires them; `outgoing` holds what was sent at the very same moment."""

    def __init__(self, account: AccountTable = ACCOUNT, /, **faults: int) -> None:
        counter = itertools.count(1)
        works: dict[str, Callable[..., Any]] = {
            "hops_of": lambda host, port, transport: (Hop(transport, host, port or 5060),),
            "make_call_id": lambda: f"call_{next(counter)}",
            "reference_of": lambda *_: None,
            "addresses": lambda _: ("192.0.2.10", 5060),
            "make_branch": lambda: f"z9hG4bKp{next(counter)}",
            "make_tag": lambda: f"proxy-{next(counter)}",
            "tcp_is_up": lambda *_: False,
            "meet": lambda _: None,
            "resolve": lambda _: (),
            "credentials_of": lambda _: None,
        }
        self.seams = {name: Failing(each, faults.get(name, -1)) for name, each in works.items()}
        seams: dict[str, Any] = dict(self.seams)
        self.faults: list[str] = []
        table = LocationTable()
        table.put(account)
        self.hook = Hook(
            table,
            profiles=load_profiles(),
            down=set(),
            trunk_ips={CARRIER.ip, SECOND.ip, RELAY.ip},
            deadlines=Deadlines(),
            proof_key=b"k" * 32,
            on_fault=self.faults.append,
            **{name: seams.pop(name) for name in ("hops_of", "make_call_id", "reference_of")},
        )
        trust: dict[str, Any] = {"is_trusted": self.hook.is_trusted, "is_emergency": self.hook.is_emergency}
        trust = {name: Failing(each, faults[name]) if name in faults else each for name, each in trust.items()}
        self.stack: SipStack = make_stack(on_fault=self.faults.append, **trust, **seams)
        self.sent: list[tuple[bytes, Hop]] = []
        self.tags: list[Any] = []

    def fails_next(self, seam: str) -> None:
        """Its next call raises, and none after that."""
        self.seams[seam].at = self.seams[seam].calls + 1

    def receive(self, data: bytes, source: Hop = PBX, now: float = 0.0) -> None:
        self.stack.receive(data, source, now)
        self.pump(now)

    def pump(self, now: float) -> None:
        while (event := self.stack.next_event()) is not None:
            if isinstance(event, RequestReceived):
                self._decide(event, now)
        self.sent += self.stack.take_outgoing()

    def _decide(self, event: RequestReceived, now: float) -> None:
        def act(decision: Any) -> None:
            self.tags.append(decision.call)
            if decision.forward is not None:
                self.stack.forward(event.transaction, decision.forward, now)
                if decision.lend is not None:
                    decision.lend()
            else:
                self.stack.respond(event.transaction, decision.status, decision.reason, decision.headers, now=now)

        ways = ways_out(self.hook, event, NOW)
        decide_and_act(ways, act, event=event, stack=self.stack, now=now, on_fault=self.faults.append)

    def invites(self) -> list[tuple[Request, Hop]]:
        messages = [(parse_message(data), hop) for data, hop in self.sent]
        return [(each, hop) for each, hop in messages if isinstance(each, Request) and each.method == "INVITE"]

    def final(self) -> int:
        """The caller's final status; 0: none yet."""
        answers = [read_response(data).status for data, hop in self.sent if hop == PBX and data[:4] == b"SIP/"]
        return next((status for status in answers if status >= 200), 0)


ELEMENT = ("addresses", "make_branch", "make_tag", "tcp_is_up", "meet", "is_trusted", "is_emergency")
HOOK = ("hops_of", "make_call_id", "reference_of")
EVER, NAMED = 0, ["Contact: <sip:101@pbx.example>"]  # a name, so that it is met


def emergency(**fields: Any) -> bytes:
    return request(added=NAMED, max_forwards="0", **fields)  # which asks whether it is an emergency


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("seam", [*ELEMENT, *HOOK])
def test_one_fault_anywhere_and_the_call_leaves_for_a_trunk_at_the_same_moment(seam: str, at: int) -> None:
    """E-03: the first, second … call of anything we are handed fails; nobody waits for a timer."""
    element = Element(**{seam: at})
    element.receive(emergency())
    invites = element.invites()
    assert invites, (seam, at, element.faults, element.sent)
    got, hop = invites[0]
    assert hop.ip in (CARRIER.ip, SECOND.ip, RELAY.ip)
    assert got.request_uri.startswith("sip:911@")
    assert element.final() == 0


@pytest.mark.parametrize("seam", [*ELEMENT, *HOOK])
def test_a_fault_that_does_not_go_away_ends_at_a_trunk_or_at_once(seam: str) -> None:
    """E-03, E-08: without a branch or an address nothing can be sent, and the PBX hears that now."""
    element = Element(**{seam: EVER})
    element.receive(emergency())
    if seam in {"addresses", "make_branch", "hops_of"}:
        assert (element.invites(), element.final()) == ([], 500)
    else:
        assert element.invites(), (seam, element.faults)
    assert element.faults or seam in {"make_tag", "tcp_is_up", "reference_of"}


def test_every_pair_of_faults_ends_at_a_trunk_or_at_once() -> None:
    """E-03: the way out of one fault is no place for another."""
    for one, other in itertools.combinations((*ELEMENT, *HOOK), 2):
        for first, second in itertools.product((EVER, 1, 2), repeat=2):
            element = Element(**{one: first, other: second})
            element.receive(emergency())
            assert element.invites() or element.final() >= 500, (one, first, other, second, element.faults)


def test_a_row_that_no_row_should_be_is_passed_over() -> None:
    """E-03: a trunk whose priority is no number, a hold that is no time: a plainer way still leaves."""
    poisoned = replace(TRUNKS[0], priority=None)  # type: ignore[arg-type]
    element = Element(replace(ACCOUNT, trunks=(poisoned, *TRUNKS[1:])))
    element.receive(request())
    assert [hop.ip for _, hop in element.invites()] == [CARRIER.ip]
    (call,) = [tag for tag in element.tags if tag is not None]
    assert "neither caller nor location could be looked up" in call.faults
    timeless = Element(replace(ACCOUNT, elin_hold_minutes="three hours"))  # type: ignore[arg-type]
    timeless.receive(request())
    assert [hop.ip for _, hop in timeless.invites()] == [CARRIER.ip]
    assert timeless.faults


def test_the_barest_call_still_fails_over_and_names_nothing_of_ours() -> None:
    """E-03, E-08: its trunks are tried in turn, the last resort last; our own headers stay here, the caller's number
    goes on.
    """
    element = Element(make_call_id=EVER)
    element.receive(request(added=["P-Asserted-Identity: <sip:+15185550101@pbx>", "X-Callpoint-Device: 0015654aa937"]))
    assert element.tags == [None]
    assert "without a record" in " ".join(element.faults)
    hops = []
    for now in range(1, 4):
        got, hop = element.invites()[-1]
        hops.append(hop.ip)
        assert got.header("X-Callpoint-Device") is None
        assert got.header("P-Asserted-Identity") == "<sip:+15185550101@pbx>"
        element.receive(response(got.raw, 503), hop, float(now))
    assert hops == [CARRIER.ip, SECOND.ip, RELAY.ip]
    assert element.final() == 500


def test_a_fault_on_the_way_to_the_next_trunk_tries_the_one_behind_it() -> None:
    """E-08: the first refuses, the second's INVITE cannot be written."""
    element = Element()
    element.receive(request())
    first, hop = element.invites()[0]
    element.seams["make_branch"].at = EVER
    element.receive(response(first.raw, 503), hop, 0.1)
    assert len(element.invites()) == 1
    assert element.final() == 500  # none of the two could be written, and the caller knows at once


def test_what_is_in_a_dialog_or_a_cancel_is_answered_at_once_too() -> None:
    """E-18: a BYE whose own Via cannot be written is not left to its sender's timer."""
    element = Element()
    element.receive(request())
    got, hop = element.invites()[0]
    element.receive(response(got.raw, 200), hop, 0.1)
    answer = next(read_response(data) for data, to in element.sent if to == PBX and b" 200 " in data[:12])
    element.seams["make_branch"].at = EVER
    bye = request("BYE", "sip:psap@192.0.2.30", routes=route_set(answer), to_tag="carrier", cseq=2, branch="z9hG4bKbye")
    element.sent.clear()
    element.receive(bye, PBX, 0.2)
    assert [read_response(data).status for data, _ in element.sent] == [500]


def test_a_deadline_that_fails_takes_no_other_with_it() -> None:
    """E-03: two calls wait for a silent trunk; what goes wrong with the first one's next try is not the second's."""
    element = Element()
    element.receive(request(branch="z9hG4bKone", call_id="one"))
    element.receive(request(branch="z9hG4bKtwo", call_id="two"))
    element.sent.clear()
    element.fails_next("make_branch")
    element.stack.handle_timer(2.5)
    element.pump(2.5)
    tried = [(got.call_id, hop.ip) for got, hop in element.invites() if hop.ip != CARRIER.ip]
    assert sorted(tried) == [("one", SECOND.ip), ("two", SECOND.ip)]


def test_a_stranger_gains_nothing_by_a_fault_of_ours() -> None:
    """E-04: what fails for a stranger is answered, and goes to no trunk."""
    stranger = Hop("udp", "198.51.100.66", 5060)
    for seam, at in itertools.product((*ELEMENT, *HOOK), (EVER, 1, 2)):
        if seam == "is_trusted":  # who is trusted is the hook's to say, which is asked again
            continue
        element = Element(**{seam: at})
        element.receive(request(source=stranger, added=NAMED), stranger)
        assert element.invites() == [], (seam, at)


def test_names_that_cannot_be_asked_for_stop_nobody() -> None:
    """E-18: `meet` and `resolve` are the shell's; a BYE to a name that nobody can look up is refused at once."""
    element = Element(resolve=EVER)
    element.receive(request())
    got, hop = element.invites()[0]
    element.receive(response(got.raw, 200, contact="sip:psap@psap.example"), hop, 0.1)
    answer = next(read_response(data) for data, to in element.sent if to == PBX and b" 200 " in data[:12])
    element.sent.clear()
    bye = request("BYE", "sip:psap@psap.example", routes=route_set(answer), to_tag="carrier", cseq=2, branch="z9hG4bKb")
    element.receive(bye, PBX, 0.2)
    assert [read_response(data).status for data, _ in element.sent] == [500]


def test_the_request_that_was_left_alone_is_byte_for_byte_the_callers() -> None:
    """E-18: the way out changes the number, our Via and Route, and nothing else."""
    element = Element(make_call_id=EVER)
    data = request()
    element.receive(data)
    got, _ = element.invites()[0]
    came = read_request(data)
    for header in ("From", "To", "Call-ID", "CSeq", "Contact", "Content-Type"):
        assert got.header(header) == came.header(header)
    assert got.body == came.body


def test_a_next_hop_is_what_the_tests_think_it_is() -> None:
    """The seam `meet` is called with what the element reads of a name."""
    met: list[NextHop] = []
    stack = make_stack(meet=met.append)
    stack.receive(request(added=NAMED), PBX, 0.0)
    assert [each.host for each in met] == ["pbx.example"]
