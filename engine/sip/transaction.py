"""The four transaction machines (RFC 3261 §17 with RFC 6026) as tables, and the transactions that run.

A table maps (state, input) to (state, act); an absent pair is ignored, never an exception. Timers belong to states:
entering one starts its retransmission and its end, leaving it stops both (`Machine.ends`, `Machine.repeats_in`).
A finished transaction lingers for up to 32 s and there are many of them, so it keeps the bytes it may have to repeat
and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from engine.sip import timers
from engine.sip.forward import Hop
from engine.sip.grammar import MAGIC_COOKIE
from engine.sip.message import Request
from engine.sip.timers import T1, T2, T4, TRANSACTION_S, Deadlines, Timed


class State(IntEnum):
    TRYING = 1
    CALLING = 2
    PROCEEDING = 3
    ACCEPTED = 4
    COMPLETED = 5
    CONFIRMED = 6
    TERMINATED = 7


class Input(IntEnum):
    """REPEAT is the timer that retransmits (A, E, G), END the one that ends a state (B, D, F, H, I, J, K, L, M)."""

    REQUEST = 1
    ACK = 2
    PROVISIONAL = 3
    SUCCESS = 4
    FAILURE = 5
    REPEAT = 6
    END = 7
    TRANSPORT_ERROR = 8


class Act(IntEnum):
    SEND = 1  # send the response at hand
    RESEND = 2  # send the last message again
    ABSORB = 3
    PASS = 4  # hand the message to the proxy core
    PASS_AND_ACK = 5
    ACK_AGAIN = 6
    TIME_OUT = 7  # tell the proxy core that nothing final came
    FAIL = 8  # tell the proxy core that the transport failed
    FINISH = 9


# The compiled core reads these straight; asking an enumeration for its member costs it more than the step itself.
TRYING: Final = State.TRYING
CALLING: Final = State.CALLING
PROCEEDING: Final = State.PROCEEDING
ACCEPTED: Final = State.ACCEPTED
COMPLETED: Final = State.COMPLETED
TERMINATED: Final = State.TERMINATED
_REQUEST: Final = Input.REQUEST
_ACK: Final = Input.ACK
_END: Final = Input.END
_REPEAT: Final = Input.REPEAT
_SEND: Final = Act.SEND
_RESEND: Final = Act.RESEND
_ABSORB: Final = Act.ABSORB
_ACK_AGAIN: Final = Act.ACK_AGAIN
_FINISH: Final = Act.FINISH
_TIME_OUT: Final = Act.TIME_OUT
PASS: Final = Act.PASS
PASS_AND_ACK: Final = Act.PASS_AND_ACK

Table = dict[tuple[State, Input], tuple[State, Act]]

INVITE_CLIENT: Table = {  # RFC 3261 Figure 5 with the Accepted state of RFC 6026 §7.2
    (State.CALLING, Input.REPEAT): (State.CALLING, Act.RESEND),  # timer A
    (State.CALLING, Input.END): (State.TERMINATED, Act.TIME_OUT),  # timer B
    (State.CALLING, Input.TRANSPORT_ERROR): (State.TERMINATED, Act.FAIL),
    (State.CALLING, Input.PROVISIONAL): (State.PROCEEDING, Act.PASS),
    (State.CALLING, Input.SUCCESS): (State.ACCEPTED, Act.PASS),
    (State.CALLING, Input.FAILURE): (State.COMPLETED, Act.PASS_AND_ACK),
    (State.PROCEEDING, Input.PROVISIONAL): (State.PROCEEDING, Act.PASS),
    (State.PROCEEDING, Input.SUCCESS): (State.ACCEPTED, Act.PASS),
    (State.PROCEEDING, Input.FAILURE): (State.COMPLETED, Act.PASS_AND_ACK),
    (State.COMPLETED, Input.FAILURE): (State.COMPLETED, Act.ACK_AGAIN),
    (State.COMPLETED, Input.END): (State.TERMINATED, Act.FINISH),  # timer D
    (State.ACCEPTED, Input.SUCCESS): (State.ACCEPTED, Act.PASS),
    (State.ACCEPTED, Input.END): (State.TERMINATED, Act.FINISH),  # timer M
}

NON_INVITE_CLIENT: Table = {  # RFC 3261 Figure 6
    (State.TRYING, Input.REPEAT): (State.TRYING, Act.RESEND),  # timer E
    (State.TRYING, Input.END): (State.TERMINATED, Act.TIME_OUT),  # timer F
    (State.TRYING, Input.TRANSPORT_ERROR): (State.TERMINATED, Act.FAIL),
    (State.TRYING, Input.PROVISIONAL): (State.PROCEEDING, Act.PASS),
    (State.TRYING, Input.SUCCESS): (State.COMPLETED, Act.PASS),
    (State.TRYING, Input.FAILURE): (State.COMPLETED, Act.PASS),
    (State.PROCEEDING, Input.REPEAT): (State.PROCEEDING, Act.RESEND),  # timer E at T2
    (State.PROCEEDING, Input.END): (State.TERMINATED, Act.TIME_OUT),  # timer F, running since Trying
    (State.PROCEEDING, Input.TRANSPORT_ERROR): (State.TERMINATED, Act.FAIL),
    (State.PROCEEDING, Input.PROVISIONAL): (State.PROCEEDING, Act.PASS),
    (State.PROCEEDING, Input.SUCCESS): (State.COMPLETED, Act.PASS),
    (State.PROCEEDING, Input.FAILURE): (State.COMPLETED, Act.PASS),
    (State.COMPLETED, Input.END): (State.TERMINATED, Act.FINISH),  # timer K
}

INVITE_SERVER: Table = {  # RFC 3261 Figure 7 with the Accepted state of RFC 6026 §7.1
    (State.PROCEEDING, Input.REQUEST): (State.PROCEEDING, Act.RESEND),
    (State.PROCEEDING, Input.PROVISIONAL): (State.PROCEEDING, Act.SEND),
    (State.PROCEEDING, Input.SUCCESS): (State.ACCEPTED, Act.SEND),
    (State.PROCEEDING, Input.FAILURE): (State.COMPLETED, Act.SEND),
    (State.ACCEPTED, Input.REQUEST): (State.ACCEPTED, Act.ABSORB),
    (State.ACCEPTED, Input.ACK): (State.ACCEPTED, Act.PASS),
    (State.ACCEPTED, Input.SUCCESS): (State.ACCEPTED, Act.SEND),  # the proxy core passes 2xx retransmissions
    (State.ACCEPTED, Input.END): (State.TERMINATED, Act.FINISH),  # timer L
    (State.COMPLETED, Input.REQUEST): (State.COMPLETED, Act.RESEND),
    (State.COMPLETED, Input.REPEAT): (State.COMPLETED, Act.RESEND),  # timer G
    (State.COMPLETED, Input.ACK): (State.CONFIRMED, Act.ABSORB),
    (State.COMPLETED, Input.END): (State.TERMINATED, Act.FINISH),  # timer H: a proxy has nobody to tell
    (State.CONFIRMED, Input.ACK): (State.CONFIRMED, Act.ABSORB),
    (State.CONFIRMED, Input.END): (State.TERMINATED, Act.FINISH),  # timer I
}

NON_INVITE_SERVER: Table = {  # RFC 3261 Figure 8
    (State.TRYING, Input.REQUEST): (State.TRYING, Act.ABSORB),
    (State.TRYING, Input.PROVISIONAL): (State.PROCEEDING, Act.SEND),
    (State.TRYING, Input.SUCCESS): (State.COMPLETED, Act.SEND),
    (State.TRYING, Input.FAILURE): (State.COMPLETED, Act.SEND),
    (State.PROCEEDING, Input.REQUEST): (State.PROCEEDING, Act.RESEND),
    (State.PROCEEDING, Input.PROVISIONAL): (State.PROCEEDING, Act.SEND),
    (State.PROCEEDING, Input.SUCCESS): (State.COMPLETED, Act.SEND),
    (State.PROCEEDING, Input.FAILURE): (State.COMPLETED, Act.SEND),
    (State.COMPLETED, Input.REQUEST): (State.COMPLETED, Act.RESEND),
    (State.COMPLETED, Input.END): (State.TERMINATED, Act.FINISH),  # timer J
}


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """A table with its timers. `ends`: state -> (seconds on UDP, seconds on a stream) until END; 0 is at once.

    A state missing in `ends` has no end of its own; one in `keeps` leaves the end running that came before.
    """

    table: Table
    ends: dict[State, tuple[float, float]]
    repeats_in: frozenset[State] = frozenset()
    longest_interval_s: float = T2
    keeps: frozenset[State] = frozenset()


_ALWAYS = (TRANSACTION_S, TRANSACTION_S)
_ON_UDP = (TRANSACTION_S, 0.0)
INVITE_CLIENT_MACHINE = Machine(
    INVITE_CLIENT,
    {State.CALLING: _ALWAYS, State.ACCEPTED: _ALWAYS, State.COMPLETED: _ON_UDP},
    frozenset({State.CALLING}),
    timers.MAX_INTERVAL_A_S,
)
NON_INVITE_CLIENT_MACHINE = Machine(
    NON_INVITE_CLIENT,
    {State.TRYING: _ALWAYS, State.COMPLETED: (T4, 0.0)},
    frozenset({State.TRYING, State.PROCEEDING}),
    keeps=frozenset({State.PROCEEDING}),
)
INVITE_SERVER_MACHINE = Machine(
    INVITE_SERVER,
    {State.ACCEPTED: _ALWAYS, State.COMPLETED: _ALWAYS, State.CONFIRMED: (T4, 0.0)},
    frozenset({State.COMPLETED}),
)
NON_INVITE_SERVER_MACHINE = Machine(NON_INVITE_SERVER, {State.COMPLETED: _ON_UDP})


class Repeat(Timed):
    """A running retransmission; dropped with its bytes when the state is left."""

    __slots__ = ("data", "interval", "transaction")

    def __init__(self, transaction: "Transaction", data: bytes) -> None:
        super().__init__()
        self.transaction = transaction
        self.data = data
        self.interval = T1


class Transaction(Timed):
    """What client and server transactions share. `hop` is where this transaction's messages go."""

    __slots__ = ("hop", "is_reliable", "key", "machine", "repeat", "state")

    def __init__(self, key: bytes, machine: Machine, state: State, hop: Hop) -> None:
        Timed.__init__(self)
        self.key = key
        self.machine = machine
        self.state = state
        self.hop = hop
        self.is_reliable = hop.transport != "udp"
        self.repeat: Repeat | None = None


class ServerTransaction(Transaction):
    """A request we answer. `request` is there until the final response, `last` is the response to repeat.

    `owner` is the proxy core's response context; `source` the hop the request came from; `received` what belongs at
    `request.via.received_at` (RFC 3261 §18.2.1, RFC 3581).
    """

    __slots__ = ("last", "method", "owner", "received", "request", "source")

    def __init__(self, key: bytes, request: Request, source: Hop, hop: Hop, received: bytes) -> None:
        if request.method == "INVITE":
            super().__init__(key, INVITE_SERVER_MACHINE, PROCEEDING, hop)
        else:
            super().__init__(key, NON_INVITE_SERVER_MACHINE, TRYING, hop)
        self.request: Request | None = request
        self.method = request.cseq_method
        self.source = source
        self.received = received
        self.last = b""
        self.owner: object = None


class ClientTransaction(Transaction):
    """A request we sent. `sent` is it, byte for byte, until the final response; then `ack` may have to be repeated."""

    __slots__ = ("ack", "owner", "sent")

    def __init__(self, key: bytes, sent: bytes, hop: Hop, owner: object) -> None:
        if key.startswith(_INVITE):
            super().__init__(key, INVITE_CLIENT_MACHINE, CALLING, hop)
        else:
            super().__init__(key, NON_INVITE_CLIENT_MACHINE, TRYING, hop)
        self.sent = sent
        self.ack = b""
        self.owner = owner

    def key_of(self, method: bytes) -> bytes:
        """Of the transaction of that method with the same branch: its CANCEL's."""
        return with_method(self.key, method)

    @property
    def is_waiting(self) -> bool:
        """Nothing was heard of it yet."""
        return self.state in (CALLING, TRYING)

    @property
    def is_final(self) -> bool:
        return self.state >= ACCEPTED


_INVITE: Final = b"INVITE "


def server_key(request: Request) -> bytes:
    """Where the server transaction of a request is found (RFC 3261 §17.2.3): its method, branch, sent-by and Call-ID.

    An ACK finds its INVITE, a CANCEL its own: all three have one Call-ID (§9.1, §17.1.1.3). The rule itself trusts a
    branch to be unique; a PBX that uses one again, or two behind one private address that begin to count alike, would
    have their next call taken for a repetition and never answered.

    A branch without the magic cookie, or of the cookie alone (RFC 4475 §3.2.1), identifies nothing: then the fields
    of RFC 3261 §17.2.3 do (the To tag, which an ACK has and its INVITE has not, is left out).
    """
    via = request.via
    method = request.cseq_method
    if method == b"ACK":
        method = b"INVITE"
    branch = via.branch
    if branch[:7] != MAGIC_COOKIE or len(branch) == 7:
        branch = b"\0".join(
            (
                request.request_uri_bytes,
                request.from_tag_bytes,
                b"%d" % request.cseq_number,
                request.lines[request.shape.via][via.start : via.end].strip(),
            )
        )
    return b" ".join((method, branch, via.sent_by, request.call_id_bytes))


def client_key(branch: bytes, method: bytes) -> bytes:
    """Where the client transaction of a response is found (§17.1.3): the branch is ours, and unique."""
    return method + b" " + branch


def with_method(key: bytes, method: bytes) -> bytes:
    """The key of the transaction of that method with the same branch: of a CANCEL's INVITE, or of its CANCEL."""
    return method + key[key.index(b" ") :]


_Invited = tuple[str, bytes, bytes, bytes, int]


def _invited(transaction: ServerTransaction) -> _Invited | None:
    """What an INVITE and its CANCEL have in common on any connection; None after the final response."""
    request = transaction.request
    if request is None:
        return None
    return (
        transaction.source.ip, request.via.branch, request.call_id_bytes, request.from_tag_bytes,
        request.cseq_number,
    )  # fmt: skip


def _let_go(transaction: Transaction) -> None:
    """Part an ended request of ours and its owner, which know each other: a cycle is freed by the collector alone."""
    if isinstance(transaction, ClientTransaction):
        transaction.owner = None


_INPUT_OF_CLASS: Final = (Input.PROVISIONAL, Input.SUCCESS, Input.FAILURE, Input.FAILURE, Input.FAILURE, Input.FAILURE)


def input_of(status: int) -> Input:
    """The machines' input for a response's status (100 to 699)."""
    return _INPUT_OF_CLASS[status // 100 - 1]


class Transactions:
    """The running transactions and their timers. Sends by `send`; tells its owner by what its methods return."""

    __slots__ = ("_ends", "_invites_on_streams", "_on_streams", "_repeats", "_send", "clients", "servers")

    def __init__(self, send: Callable[[bytes, Hop], None]) -> None:
        self._send = send
        self._ends = Deadlines()
        self._repeats = Deadlines()
        self.servers: dict[bytes, ServerTransaction] = {}
        self.clients: dict[bytes, ClientTransaction] = {}
        self._on_streams: dict[tuple[str, str, int], dict[ClientTransaction, None]] = {}  # so that a closed stream
        # finds its own, however many others there are
        self._invites_on_streams: dict[_Invited, ServerTransaction] = {}  # those without a final response

    def open_server(self, transaction: ServerTransaction) -> None:
        self.servers[transaction.key] = transaction
        if transaction.is_reliable and transaction.machine is INVITE_SERVER_MACHINE:
            invited = _invited(transaction)
            if invited is not None:
                self._invites_on_streams[invited] = transaction

    def invite_of(self, cancel: ServerTransaction) -> ServerTransaction | None:
        """The INVITE that a CANCEL follows (RFC 3261 §9.2).

        Over TCP and TLS some peers name in Via the port of each connection: after another one was opened their INVITE
        is found by its branch, which is unique to that peer (§8.1.1.7), and by all else that CANCEL repeats (§9.1):
        several phones behind one address may have had the same idea of a branch.
        """
        known = self.servers.get(with_method(cancel.key, b"INVITE"))
        if known is None and cancel.is_reliable:
            invited = _invited(cancel)
            known = self._invites_on_streams.get(invited) if invited is not None else None
        return known

    def open_client(self, transaction: ClientTransaction, now: float) -> None:
        """Send the request and start its timers (A and B, or E and F)."""
        self.clients[transaction.key] = transaction
        self._ends.arm(transaction, TRANSACTION_S, now)
        if not transaction.is_reliable:
            self._start_repeat(transaction, transaction.sent, now)
        else:
            self._on_streams.setdefault(transaction.hop[:3], {})[transaction] = None
        self._send(transaction.sent, transaction.hop)

    def respond(self, transaction: ServerTransaction, status: int, data: bytes, now: float) -> bool:
        """Send a response through its server transaction; False when its state allows none any more."""
        act = self._step(transaction, input_of(status), now)
        if act is not _SEND:
            return False
        self._send(data, transaction.hop)
        if status < 200:
            transaction.last = data
        else:
            self._forget_invite(transaction)
            transaction.request = None
            is_kept = transaction.state is COMPLETED
            transaction.last = data if is_kept else b""
            if is_kept and transaction.machine is INVITE_SERVER_MACHINE and not transaction.is_reliable:
                self._start_repeat(transaction, data, now)
        return True

    def receive_again(self, transaction: ServerTransaction, *, is_ack: bool, now: float) -> Act | None:
        """A retransmitted request, or the ACK of an INVITE. PASS: an ACK of a 2xx, for the proxy core to route."""
        act = self._step(transaction, _ACK if is_ack else _REQUEST, now)
        if act is _RESEND and transaction.last:
            self._send(transaction.last, transaction.hop)
        elif act is _ABSORB and is_ack:
            transaction.last = b""
        return act

    def receive_response(self, transaction: ClientTransaction, status: int, now: float) -> Act | None:
        """A response to our request. PASS: for the proxy core; PASS_AND_ACK: it hands us the ACK by `acknowledge`."""
        act = self._step(transaction, input_of(status), now)
        if act is _ACK_AGAIN:
            self._send(transaction.ack, transaction.hop)
        return act

    def acknowledge(self, transaction: ClientTransaction, ack: bytes) -> None:
        transaction.ack = ack
        self._send(ack, transaction.hop)

    def forget_sent(self, transaction: ClientTransaction) -> None:
        """The request's bytes are not needed after its final response."""
        transaction.sent = b""

    def stop_repeating(self, transaction: Transaction) -> None:
        if transaction.repeat is not None:
            self._repeats.disarm(transaction.repeat)
            transaction.repeat = None

    def fail(self, transaction: ClientTransaction, now: float) -> bool:
        """The transport failed; True when that ends the transaction (nothing was heard of it yet)."""
        return self._step(transaction, Input.TRANSPORT_ERROR, now) is Act.FAIL

    def abandon(self, transaction: Transaction) -> None:
        """Forget a transaction without a word."""
        self._remove(transaction)
        _let_go(transaction)

    def silence(self, transaction: ServerTransaction, now: float) -> None:
        """End a request without a final response: RFC 4320 §4.2 has no 408 for anything but INVITE.

        Its retransmissions are absorbed as long as the client may send any; each would be a new request otherwise.
        """
        transaction.request = None
        transaction.last = b""
        transaction.state = COMPLETED
        self._enter(transaction, transaction.machine, COMPLETED, now)

    def waiting_on(self, hop: Hop) -> list[ClientTransaction]:
        """Client transactions towards that hop of which nothing was heard; of one stream when it has a number. Over
        TLS, those that asked for the same proof of who is there.

        By UDP, those that still repeat their request: a refused trunk reports each of its datagrams, and the many
        transactions that only linger need not be looked at each time.
        """
        known = (
            (each.transaction for each in self._repeats.running() if isinstance(each, Repeat))
            if hop.transport == "udp"
            else self._on_streams.get(hop[:3], ())
        )
        return [
            item
            for item in known
            if isinstance(item, ClientTransaction)
            and item.is_waiting
            and item.hop[:3] == hop[:3]
            and (item.hop.host == hop.host or not (item.hop.host and hop.host))
            and (not hop.connection or item.hop.connection in (0, hop.connection))
        ]

    @property
    def soonest_timer(self) -> float:
        """Nothing is due before; perhaps nothing then."""
        return min(self._ends.soonest, self._repeats.soonest)

    def next_timer(self) -> float | None:
        end, repeat = self._ends.next(), self._repeats.next()
        if end is None or (repeat is not None and repeat < end):
            return repeat
        return end

    def handle_timer(self, now: float) -> list[ClientTransaction]:
        """Retransmit what is due; returns the client transactions that timed out (timers B and F)."""
        for repeat in self._repeats.take_due(now):
            assert isinstance(repeat, Repeat)
            self._repeat(repeat, now)
        timed_out = []
        for transaction in self._ends.take_due(now):
            assert isinstance(transaction, Transaction)
            act = self._step(transaction, _END, now)
            if act is _TIME_OUT and isinstance(transaction, ClientTransaction):
                timed_out.append(transaction)
            elif act is _FINISH:
                _let_go(transaction)
        return timed_out

    def _repeat(self, repeat: Repeat, now: float) -> None:
        transaction = repeat.transaction
        if self._step(transaction, _REPEAT, now) is not _RESEND:
            return
        self._send(repeat.data, transaction.hop)
        if transaction.state is PROCEEDING:  # §17.1.2.2: timer E fired there starts again with T2
            repeat.interval = T2
        else:
            repeat.interval = min(repeat.interval * 2, transaction.machine.longest_interval_s)
        self._repeats.arm(repeat, repeat.interval, now)

    def _start_repeat(self, transaction: Transaction, data: bytes, now: float) -> None:
        transaction.repeat = repeat = Repeat(transaction, data)
        self._repeats.arm(repeat, T1, now)

    def _step(self, transaction: Transaction, given: Input, now: float) -> Act | None:
        machine = transaction.machine
        step = machine.table.get((transaction.state, given))
        if step is None:
            return None
        state, act = step
        if state is not transaction.state:
            transaction.state = state
            self._enter(transaction, machine, state, now)
        return act

    def _enter(self, transaction: Transaction, machine: Machine, state: State, now: float) -> None:
        if state in machine.keeps:
            return
        if transaction.repeat is not None:
            self.stop_repeating(transaction)
        ends = machine.ends.get(state)
        if ends is None:
            self._ends.disarm(transaction)
            if state is TERMINATED:
                self._remove(transaction)
            return
        duration = ends[transaction.is_reliable]
        if duration:
            self._ends.arm(transaction, duration, now)
        else:
            self._remove(transaction)

    def _remove(self, transaction: Transaction) -> None:
        transaction.state = TERMINATED
        self.stop_repeating(transaction)
        self._ends.disarm(transaction)
        if isinstance(transaction, ServerTransaction):
            self.servers.pop(transaction.key, None)
            self._forget_invite(transaction)
            return
        self.clients.pop(transaction.key, None)
        if transaction.is_reliable and isinstance(transaction, ClientTransaction):
            known = self._on_streams.get(transaction.hop[:3])
            if known is not None:
                known.pop(transaction, None)
                if not known:
                    del self._on_streams[transaction.hop[:3]]

    def _forget_invite(self, transaction: ServerTransaction) -> None:
        """Nothing can be cancelled any more: what is kept is bounded by the calls that ring."""
        if transaction.is_reliable and transaction.machine is INVITE_SERVER_MACHINE:
            invited = _invited(transaction)
            if invited is not None and self._invites_on_streams.get(invited) is transaction:
                del self._invites_on_streams[invited]
