"""A call through the proxy, whatever happens in whatever order: what must hold always, and what at the end.

Hypothesis answers, refuses, cancels, breaks connections and lets time pass at random on up to three targets. The rules
are those of RFC 3261 §16.6 to §16.10 as a caller and its carriers see them from outside, from the messages alone.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.sip.forward import Edit, Forward, Hop, Target
from engine.sip.message import Request, Response, parse_message
from engine.sip.stack import AttemptEnded, AttemptStarted, Event, Finished, RequestReceived
from engine.sip.transaction import State, client_key
from tests.siptest import PBX, drain, make_stack, read_request, request, response

HOPS = (
    Hop("udp", "192.0.2.30", 5060),
    Hop("tcp", "192.0.2.31", 5060),
    Hop("udp", "192.0.2.32", 5060),
)
EDITS = (Edit(), Edit(add=(("Geolocation", "<cid:a@b>"),)), Edit(add=(("X-Large", "x" * 1400),)))
FAIL_OVER = frozenset({404, 408, 424, 480, 488, 500, 503, 603})
REFUSALS = [302, 401, 404, 407, 408, 424, 480, 486, 487, 488, 491, 500, 503, 600, 603]
seldom = st.sampled_from([False, False, False, True])  # for what would end most calls before anything happened


@st.composite
def some_targets(draw: st.DrawFn) -> list[Target]:
    order = draw(st.sampled_from([(0, 1, 2), (0, 2, 1), (2, 0, 1), (0, 2), (2, 0), (1, 2), (0,), ()]))
    return [
        Target(
            f"t{number}", HOPS[number], draw(st.sampled_from(EDITS)), draw(st.sampled_from([2.0, 2.0, 5.0, 0.0])), 1.0,
            draw(st.sampled_from([None, None, Edit()])),
        )
        for number in order
    ]  # fmt: skip


class Call(RuleBasedStateMachine):
    """One request from a PBX, its targets, and everything that was sent."""

    @initialize(
        method=st.sampled_from(["INVITE", "INVITE", "INVITE", "MESSAGE"]),
        source=st.sampled_from([PBX, Hop("tcp", "192.0.2.20", 40_000, 3)]),
        given=some_targets(),
        fails_over=st.booleans(),
        emergency=st.booleans(),
        tcp_is_up=st.booleans(),
        hesitates=seldom,
    )
    def begin(
        self, method: str, source: Hop, given: list[Target], fails_over: bool, emergency: bool, tcp_is_up: bool,
        hesitates: bool,
    ) -> None:  # fmt: skip
        self.now = 0.0
        self.source, self.method, self.given = source, method, given
        self.forward = Forward(tuple(given), "call", FAIL_OVER if fails_over else frozenset(), emergency)
        self.stack = make_stack(tcp_is_up=lambda *_: tcp_is_up)
        self.events: list[Event] = []
        self.invites: dict[bytes, tuple[bytes, Hop]] = {}  # by branch: what the targets were sent
        self.heard: set[bytes] = set()  # branches that answered 1xx
        self.cancels: dict[bytes, bytes] = {}
        self.acks: list[bytes] = []
        self.up: list[Response] = []  # final responses of the request itself, retransmissions left out
        self.up_data: list[bytes] = []
        self.is_cancelled = self.is_decided = False
        self.data = request(method, source=source)
        self.receive(self.data, source)
        (received,) = (event for event in self.events if isinstance(event, RequestReceived))
        self.transaction = received.transaction
        if not hesitates:
            self.the_hook_decides()

    # -- the wire ------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, source: Hop) -> None:
        self.stack.receive(data, source, self.now)
        self.collect()

    def collect(self) -> None:
        events, outgoing = drain(self.stack)
        self.events += events
        for data, hop in outgoing:
            message = parse_message(data)
            if isinstance(message, Request):
                self.take_down(message, data, hop)
            else:
                assert hop.ip == self.source.ip
                if message.cseq[1] == self.method and message.status >= 200:
                    self.take_up(message, data)

    def take_down(self, message: Request, data: bytes, hop: Hop) -> None:
        branch = message.via.branch
        if message.method == "ACK":
            self.acks.append(branch)
        elif message.method == "CANCEL":
            assert branch in self.heard, "§9.1: a CANCEL before any 1xx"
            assert self.cancels.setdefault(branch, data) == data
        elif branch in self.invites:
            assert self.invites[branch] == (data, hop), "a retransmission is the same bytes to the same place"
        else:
            assert self.is_decided
            assert not self.up, "no target is tried after a final response went up"
            assert not self.is_cancelled or self.method != "INVITE", "nor after a CANCEL"
            self.invites[branch] = (data, hop)

    def take_up(self, message: Response, data: bytes) -> None:
        if data in self.up_data:
            return
        is_success = message.status < 300
        finals = [answer.status for answer in self.up]
        if not is_success:
            assert finals == [], "one final response, and none but 2xx after a 2xx"
        elif self.method != "INVITE":
            assert finals == []
        assert message.status != 408 or self.method == "INVITE", "RFC 4320 §4.2"
        assert message.status != 503, "§16.7 step 6"
        self.up.append(message)
        self.up_data.append(data)

    # -- what may happen -----------------------------------------------------------------------------------------

    @precondition(lambda self: not self.is_decided and self.now < 5.0)
    @rule()
    def the_hook_decides(self) -> None:
        self.is_decided = True
        self.stack.forward(self.transaction, self.forward, self.now)
        self.collect()

    @precondition(lambda self: self.invites)
    @rule(status=st.sampled_from([None, 180, 200, 200, 486]))
    def a_target_is_given_up(self, status: int | None) -> None:
        """And wakes when it is too late."""
        self.run(self.now + 2.1)
        if status is not None:
            self.a_target_says(0, status, "x")

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.1, 4.0, 33.0, 186.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.now + seconds)

    def run(self, until: float) -> None:
        while (due := self.stack.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.stack.handle_timer(self.now)
            self.collect()
        self.now = until

    @precondition(lambda self: self.invites)
    @rule(which=st.integers(0, 2), status=st.sampled_from([100, 180, 183, 199]))
    def a_target_rings(self, which: int, status: int) -> None:
        self.a_target_says(which, status, "x")

    @precondition(lambda self: self.invites)
    @rule(which=st.integers(0, 2), status=st.sampled_from([200, 200, 202]), tag=st.sampled_from(["x", "y"]))
    def a_target_answers(self, which: int, status: int, tag: str) -> None:
        self.a_target_says(which, status, tag)

    @precondition(lambda self: self.invites)
    @rule(which=st.integers(0, 2), status=st.sampled_from(REFUSALS))
    def a_target_refuses(self, which: int, status: int) -> None:
        self.a_target_says(which, status, "x")

    def a_target_says(self, which: int, status: int, tag: str) -> None:
        branch = list(self.invites)[which % len(self.invites)]
        sent, hop = self.invites[branch]
        client = self.stack._transactions.clients.get(client_key(branch, self.method.encode()))
        before = client.state if client is not None else State.TERMINATED
        if status < 200 and client is not None:
            self.heard.add(branch)
        seen, acknowledged = len(self.up), len(self.acks)
        answer = response(sent, status, to_tag=tag)
        known = list(self.up_data)
        self.receive(answer, hop)
        if self.method != "INVITE":
            assert len(self.acks) == acknowledged
            return
        is_refused = status >= 300 and before in (State.CALLING, State.PROCEEDING, State.COMPLETED)
        assert self.acks[acknowledged:] == ([branch] if is_refused else []), "every refusal is acknowledged"
        if 200 <= status < 300 and before in (State.CALLING, State.PROCEEDING, State.ACCEPTED):
            ours = sent[sent.index(b"Via: ") : sent.index(b"\r\n", sent.index(b"Via: ")) + 2]
            # a second try at the same server has a number of its own, which its caller never learns
            number = b"\r\nCSeq: %d " % read_request(sent).cseq[0]
            passed = answer.replace(ours, b"", 1).replace(number, b"\r\nCSeq: 1 ", 1)
            assert passed in self.up_data, "every 2xx goes up, byte for byte"
            assert passed in known or len(self.up) == seen + 1

    @rule(at_once=seldom)
    def the_caller_gives_up(self, at_once: bool) -> None:
        if not (self.heard or at_once):
            return
        self.receive(request("CANCEL", source=self.source), self.source)
        if self.method == "INVITE":
            self.is_cancelled = True

    @rule()
    def the_caller_repeats_itself(self) -> None:
        if self.transaction.key in self.stack._transactions.servers:  # later it would be a new request
            self.receive(self.data, self.source)

    @precondition(lambda self: self.up and self.up[0].status >= 300 and self.method == "INVITE")
    @rule()
    def the_caller_acknowledges(self) -> None:
        self.receive(request("ACK", source=self.source, to_tag=self.up[0].to_tag or "", body=b""), self.source)

    @rule(hop=st.sampled_from([*HOPS, HOPS[0]._replace(transport="tcp"), HOPS[1]._replace(connection=9)]), it=seldom)
    def a_transport_fails(self, hop: Hop, it: bool) -> None:
        if not it:
            return
        self.stack.transport_failed(hop, self.now)
        self.collect()

    @rule(hop=st.sampled_from([HOPS[1], HOPS[0]._replace(transport="tcp")]))
    def a_stream_stands(self, hop: Hop) -> None:
        self.stack.transport_connected(hop, self.now)
        self.collect()

    # -- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def the_events_tell_a_story(self) -> None:
        if not hasattr(self, "events"):
            return
        started = [event for event in self.events if isinstance(event, AttemptStarted)]
        ended = [event.number for event in self.events if isinstance(event, AttemptEnded)]
        assert [event.number for event in started] == list(range(1, len(started) + 1))
        assert len(set(ended)) == len(ended)
        assert set(ended) <= {event.number for event in started}
        order = [[target.name for target in self.given].index(event.target.name) for event in started]
        assert list(dict.fromkeys(order)) == sorted(set(order))
        assert order == sorted(order) or self.forward.emergency  # who said nothing is asked again, without location
        assert all(order.count(each) <= 5 for each in order)  # as asked, without location, each once more by UDP
        assert len([event for event in self.events if isinstance(event, Finished)]) <= 1

    def teardown(self) -> None:
        """In the end: nothing runs, everything began has ended, and the caller was told."""
        if not hasattr(self, "events"):
            return
        self.run(self.now + 4_000.0)
        assert self.stack.transaction_counts == (0, 0)
        assert self.stack.next_timer() is None
        assert self.stack._transactions._on_streams == {}
        if not self.is_decided:
            self.the_hook_decides()
        started = [event.number for event in self.events if isinstance(event, AttemptStarted)]
        ended = [event.number for event in self.events if isinstance(event, AttemptEnded)]
        assert sorted(ended) == started
        (finished,) = (event for event in self.events if isinstance(event, Finished))
        if self.method == "INVITE":
            assert self.up
            first = self.up[0].status
            assert (finished.outcome == "answered") == (first < 300)
            assert finished.status == first
        elif not self.up:
            assert finished.status == 408


Call.TestCase.settings = settings(max_examples=400, stateful_step_count=25, deadline=None)
TestCall = Call.TestCase
