"""The four transactions run beside models written from the text of RFC 3261 §17 and RFC 6026, step by step.

The models know nothing of tables: each is the prose of its section, with timers by their letters. Hypothesis drives
both through the same inputs and the same passing of time and compares what was sent, what the transaction user was
told, and in which state both are.
"""

from collections.abc import Iterator

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from engine.sip.forward import Hop
from engine.sip.transaction import Act, ClientTransaction, ServerTransaction, Transactions, client_key, server_key
from tests.siptest import PBX, read_request, request

T1, T2, T4 = 0.5, 4.0, 5.0
UDP, TCP = Hop("udp", "192.0.2.30", 5060), Hop("tcp", "192.0.2.30", 5060)
FINISHED = "Terminated"
waits = st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.77, 1.0, 2.3, 3.9, 4.4, 5.0, 7.0, 16.1, 31.9, 33.0])


class Model:
    """A transaction in the words of the RFC. `says` collects what leaves: to the wire or to the transaction user."""

    def __init__(self, *, is_reliable: bool) -> None:
        self.is_reliable = is_reliable
        self.now = 0.0
        self.timers: dict[str, float] = {}
        self.says: list[tuple[float, str]] = []

    def say(self, what: str) -> None:
        self.says.append((self.now, what))

    def set(self, letter: str, duration: float) -> None:
        self.timers[letter] = self.now + duration

    def become(self, state: str, *, keeps: str = "") -> None:
        self.state = state
        self.timers = {letter: due for letter, due in self.timers.items() if letter in keeps}

    def linger(self, state: str, letter: str, on_datagrams: float, on_streams: float) -> None:
        """Enter a state that one timer ends; a timer of zero ends it at once."""
        self.become(state)
        duration = on_streams if self.is_reliable else on_datagrams
        if duration:
            self.set(letter, duration)
        else:
            self.become(FINISHED)

    def advance(self, until: float) -> None:
        """Fire what is due in its order; retransmissions before what ends, where both are due at once."""
        while self.timers:
            letter = min(self.timers, key=lambda each: (self.timers[each], each not in "AEG"))
            if self.timers[letter] > until:
                break
            self.now = self.timers.pop(letter)
            getattr(self, f"fire_{letter}")()
        self.now = until


class InviteClient(Model):
    """§17.1.1.2 with RFC 6026 §7.2 and §8.4."""

    def start(self) -> None:
        self.state = "Calling"
        self.say("request")
        if not self.is_reliable:
            self.interval = T1
            self.set("A", T1)
        self.set("B", 64 * T1)

    def fire_A(self) -> None:  # noqa: N802 - the RFC's name
        self.say("request")
        self.interval *= 2
        self.set("A", self.interval)

    def fire_B(self) -> None:  # noqa: N802
        self.say("timeout")
        self.become(FINISHED)

    def fire_D(self) -> None:  # noqa: N802
        self.become(FINISHED)

    fire_M = fire_D  # noqa: N815

    def response(self, status: int) -> None:
        if self.state in {"Calling", "Proceeding"}:
            if status >= 300:
                self.say(f"pass {status}")
                self.say("ack")
                self.linger("Completed", "D", 64 * T1, 0.0)
                return
            self.say(f"pass {status}")
            if status >= 200:
                self.linger("Accepted", "M", 64 * T1, 64 * T1)
            else:
                self.become("Proceeding")
        elif self.state == "Completed" and status >= 300:
            self.say("ack")
        elif self.state == "Accepted" and 200 <= status < 300:
            self.say(f"pass {status}")

    def transport_error(self) -> None:
        if self.state == "Calling":  # of an ACK's failure (Completed) a proxy has nobody to tell; timer D goes on
            self.say("failed")
            self.become(FINISHED)


class NonInviteClient(Model):
    """§17.1.2.2."""

    def start(self) -> None:
        self.state = "Trying"
        self.say("request")
        if not self.is_reliable:
            self.interval = T1
            self.set("E", T1)
        self.set("F", 64 * T1)

    def fire_E(self) -> None:  # noqa: N802
        self.say("request")
        self.interval = T2 if self.state == "Proceeding" else min(2 * self.interval, T2)
        self.set("E", self.interval)

    def fire_F(self) -> None:  # noqa: N802
        self.say("timeout")
        self.become(FINISHED)

    def fire_K(self) -> None:  # noqa: N802
        self.become(FINISHED)

    def response(self, status: int) -> None:
        if self.state not in {"Trying", "Proceeding"}:
            return
        self.say(f"pass {status}")
        if status >= 200:
            self.linger("Completed", "K", T4, 0.0)
        else:
            self.become("Proceeding", keeps="EF")

    def transport_error(self) -> None:
        if self.state in {"Trying", "Proceeding"}:
            self.say("failed")
            self.become(FINISHED)


class InviteServer(Model):
    """§17.2.1 with RFC 6026 §7.1 and §8.5. Its 100 is the proxy core's to send."""

    def start(self) -> None:
        self.state = "Proceeding"
        self.last = ""

    def respond(self, status: int) -> None:
        if self.state == "Proceeding":
            self.say(f"send {status}")
            self.last = f"send {status}"
            if status >= 300:
                self.linger("Completed", "H", 64 * T1, 64 * T1)
                if not self.is_reliable:
                    self.interval = T1
                    self.set("G", T1)
            elif status >= 200:
                self.linger("Accepted", "L", 64 * T1, 64 * T1)
        elif self.state == "Accepted" and 200 <= status < 300:
            self.say(f"send {status}")

    def request(self) -> None:
        if self.state in {"Proceeding", "Completed"} and self.last:
            self.say(self.last)

    def ack(self) -> None:
        if self.state == "Accepted":
            self.say("pass ack")
        elif self.state == "Completed":
            self.linger("Confirmed", "I", T4, 0.0)

    def fire_G(self) -> None:  # noqa: N802
        self.say(self.last)
        self.interval = min(2 * self.interval, T2)
        self.set("G", self.interval)

    def fire_H(self) -> None:  # noqa: N802
        self.become(FINISHED)

    fire_I = fire_L = fire_H  # noqa: N815


class NonInviteServer(Model):
    """§17.2.2."""

    def start(self) -> None:
        self.state = "Trying"
        self.last = ""

    def respond(self, status: int) -> None:
        if self.state in {"Trying", "Proceeding"}:
            self.say(f"send {status}")
            self.last = f"send {status}"
            if status >= 200:
                self.linger("Completed", "J", 64 * T1, 0.0)
            else:
                self.become("Proceeding")

    def request(self) -> None:
        if self.state in {"Proceeding", "Completed"}:
            self.say(self.last)

    def fire_J(self) -> None:  # noqa: N802
        self.become(FINISHED)


class Beside(RuleBasedStateMachine):
    """The real transaction beside its model."""

    model: Model

    def begin(self, model: Model) -> None:
        self.model = model
        self.now = 0.0
        self.said: list[tuple[float, str]] = []
        self.at = 0.0
        self.transactions = Transactions(lambda data, _: self.said.append((self.at, data.decode())))

    @property
    def real(self) -> ClientTransaction | ServerTransaction:
        raise NotImplementedError

    @rule(seconds=waits)
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        for due in self._due(until):
            self.at = due
            for _ in self.transactions.handle_timer(due):
                self.said.append((due, "timeout"))
        self.now = self.at = until
        self.model.advance(until)

    def _due(self, until: float) -> Iterator[float]:
        while (due := self.transactions.next_timer()) is not None and due <= until:
            assert self.transactions.soonest_timer <= due
            yield due

    @invariant()
    def both_said_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        assert [(round(at, 6), what) for at, what in self.said] == [
            (round(at, 6), what) for at, what in self.model.says
        ]
        assert self.real.state.name.capitalize() == self.model.state
        is_kept = self.real.key in (self.transactions.clients | self.transactions.servers)  # type: ignore[operator]
        assert is_kept == (self.model.state != FINISHED)

    def teardown(self) -> None:
        """However it was left: nothing runs for ever. Only a server that nobody answers waits, as §17.2 has it."""
        if not hasattr(self, "model"):
            return
        self.time_passes(100.0)
        self.both_said_the_same()
        if self.model.state not in {"Proceeding", "Trying"}:
            assert self.transactions.next_timer() is None
            assert self.transactions.clients == self.transactions.servers == {}


class ClientBeside(Beside):
    method = b""
    kind: type[InviteClient] | type[NonInviteClient]

    @initialize(hop=st.sampled_from([UDP, TCP]))
    def start(self, hop: Hop) -> None:
        self.begin(self.kind(is_reliable=hop is TCP))
        self.client = ClientTransaction(client_key(b"z9hG4bKx", self.method), b"request", hop, None)
        self.transactions.open_client(self.client, 0.0)
        self.model.start()  # type: ignore[attr-defined]

    @property
    def real(self) -> ClientTransaction:
        return self.client

    @rule(status=st.sampled_from([100, 180, 200, 202, 302, 404, 486, 503, 603]))
    def a_response_comes(self, status: int) -> None:
        if self.client.key in self.transactions.clients:
            act = self.transactions.receive_response(self.client, status, self.now)
            if act in (Act.PASS, Act.PASS_AND_ACK):
                self.said.append((self.now, f"pass {status}"))
            if act is Act.PASS_AND_ACK:
                self.transactions.acknowledge(self.client, b"ack")
        self.model.response(status)  # type: ignore[attr-defined]

    @rule()
    def the_transport_fails(self) -> None:
        if self.client.key in self.transactions.clients and self.transactions.fail(self.client, self.now):
            self.said.append((self.now, "failed"))
        self.model.transport_error()  # type: ignore[attr-defined]


class ServerBeside(Beside):
    method = ""
    kind: type[InviteServer] | type[NonInviteServer]

    @initialize(hop=st.sampled_from([UDP, TCP]))
    def start(self, hop: Hop) -> None:
        self.begin(self.kind(is_reliable=hop is TCP))
        got = read_request(request(self.method))
        self.server = ServerTransaction(server_key(got), got, PBX, hop, b"")
        self.transactions.open_server(self.server)
        self.model.start()  # type: ignore[attr-defined]

    @property
    def real(self) -> ServerTransaction:
        return self.server

    @rule(status=st.sampled_from([100, 180, 183, 200, 202, 302, 404, 486, 503, 603]))
    def the_core_answers(self, status: int) -> None:
        self.transactions.respond(self.server, status, b"send %d" % status, self.now)
        self.model.respond(status)  # type: ignore[attr-defined]

    @rule()
    def the_request_comes_again(self) -> None:
        if self.server.key in self.transactions.servers:
            act = self.transactions.receive_again(self.server, is_ack=False, now=self.now)
            assert act is not Act.PASS
        self.model.request()  # type: ignore[attr-defined]


class InviteServerBeside(ServerBeside):
    method, kind = "INVITE", InviteServer

    @rule()
    def an_ack_comes(self) -> None:
        if self.server.key in self.transactions.servers:
            act = self.transactions.receive_again(self.server, is_ack=True, now=self.now)
            if act is Act.PASS:
                self.said.append((self.now, "pass ack"))
        assert isinstance(self.model, InviteServer)
        self.model.ack()


class InviteClientBeside(ClientBeside):
    method, kind = b"INVITE", InviteClient


class NonInviteClientBeside(ClientBeside):
    method, kind = b"OPTIONS", NonInviteClient


class NonInviteServerBeside(ServerBeside):
    method, kind = "OPTIONS", NonInviteServer


for _machine in (InviteClientBeside, NonInviteClientBeside, InviteServerBeside, NonInviteServerBeside):
    _machine.TestCase.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
TestInviteClient = InviteClientBeside.TestCase
TestNonInviteClient = NonInviteClientBeside.TestCase
TestInviteServer = InviteServerBeside.TestCase
TestNonInviteServer = NonInviteServerBeside.TestCase
