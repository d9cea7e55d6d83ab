"""Whole SIP calls, both ends in one tight loop: INVITE, 100, 180, 200, ACK, BYE, 200.

The caller keeps to a schedule and never sends anything twice: what is lost stays lost and is counted, what the element
in between repeats is counted too. Calls go to `number`; every `emergency_every`-th goes to 911 instead, whose INVITE is
timed from the caller's socket to the callee's.
"""

import gc
import select
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_hex

from tests.bench.machine import percentile
from tests.bench.wires import Datagrams, Wire

GRACE_S = 2.0  # after the last call was due: what is not done by then is lost
MAX_LATE_S = 0.25  # of the schedule, and of the last call: what was put off into some buffer was not held
MAX_PER_TURN = 32
_KEPT = frozenset({b"Via", b"Rec", b"Fro", b"To:", b"Cal", b"CSe"})  # what a response repeats, RFC 3261 §8.2.6.2
_SDP = (
    "v=0\r\no=- 3900000000 3900000000 IN IP4 {ip}\r\ns=call\r\nc=IN IP4 {ip}\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
)
_NEW, _ANSWERED, _DONE = 0, 1, 2
_FIRST_USER = 2_000_000  # an emergency call's caller is nobody's line, so that its own name is told


@dataclass(frozen=True, slots=True)
class Load:
    """What to offer: `rate` calls each second for `seconds`."""

    rate: float
    seconds: float
    number: str = "5185550100"
    emergency_every: int = 0
    hold: bool = False  # answered calls stay up: ACK, and no BYE


@dataclass(slots=True)
class Outcome:
    """What became of a load. `answers_ms` is INVITE to 200, `delays_ms` INVITE out to INVITE in.

    `late_s`: how far the generator fell behind its schedule; `behind_s`: how long after its end the last call was over.
    `emergencies`: how many of the calls offered were to 911; `emergencies_whole`: how many ended as they should.
    """

    offered: int = 0
    completed: int = 0
    refused: int = 0
    repeated: int = 0
    strange: int = 0
    late_s: float = 0.0
    behind_s: float = 0.0
    took_s: float = 0.0
    with_location: int = 0
    answers_ms: list[float] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)
    emergency_delays_ms: list[float] = field(default_factory=list)
    emergencies: int = 0
    emergencies_whole: int = 0

    @property
    def lost(self) -> int:
        return self.offered - self.completed - self.refused

    @property
    def is_clean(self) -> bool:
        """Every call whole, nothing twice, and both the schedule and the pace were kept."""
        is_whole = self.completed == self.offered and not self.repeated and not self.strange
        return is_whole and self.late_s < MAX_LATE_S and self.behind_s < MAX_LATE_S

    @property
    def fault(self) -> str:
        """Why it is not clean, in a few words."""
        words = {"lost": self.lost, "refused": self.refused, "repeated": self.repeated, "strange": self.strange}
        said = [f"{count} {word}" for word, count in words.items() if count]
        if self.late_s >= MAX_LATE_S:
            said.append(f"schedule {self.late_s:.1f} s late")
        elif self.behind_s >= MAX_LATE_S and not said:
            said.append(f"{self.behind_s:.1f} s behind")
        return ", ".join(said)

    @property
    def rate(self) -> float:
        return self.completed / self.took_s if self.took_s else 0.0

    def answer_ms(self, share: float) -> float:
        return percentile(self.answers_ms, share)


class Generator:
    """A caller at one socket and a callee at another, both facing `element`; None: each other, the direct path."""

    def __init__(self, caller_ip: str, callee_ip: str, wires: tuple[Wire, Wire] | None = None) -> None:
        self._caller, self._callee = wires or (Datagrams(caller_ip), Datagrams(callee_ip))
        self.callee_address = self._callee.address
        self._own = "{}:{}".format(*self._caller.address)
        self._via = f"Via: SIP/2.0/{self._caller.name} {self._own}"
        ending = "" if self._callee.name == "UDP" else f";transport={self._callee.name.lower()}"
        self._contact = "<sip:callee@{}:{}{}>".format(*self.callee_address, ending).encode()
        self._sdp = _SDP.format(ip=caller_ip).encode()
        self._answer_sdp = _SDP.format(ip=callee_ip).encode()
        self._outcome = Outcome()

    @property
    def has_direct_path(self) -> bool:
        """Whether caller and callee can face each other: a TLS handshake between them would wait for itself."""
        return self._caller.name != "TLS"

    def close(self) -> None:
        self._caller.close()
        self._callee.close()

    def run(self, load: Load, element: tuple[str, int] | None) -> Outcome:
        """Offer the load and wait for its end, `GRACE_S` longer than it takes at most."""
        self._callee.face(element or self._caller.address)
        self._caller.face(element or self.callee_address)
        total = int(load.rate * load.seconds)
        self._begin(load, total, "{}:{}".format(*(element or self.callee_address)))
        collects = gc.isenabled()
        gc.disable()
        try:
            self._loop(load.rate, total)
        finally:
            if collects:
                gc.enable()
        outcome = self._outcome
        outcome.offered = total
        outcome.emergencies = len(range(0, total, self._every)) if self._every else 0
        return outcome

    # --- step by step, for a driver that has the element in its own process ---------------------------------------

    def face(self, element: tuple[str, int], calls: int, every: int = 0) -> None:
        """Be ready for that many calls through an element that answers only when its driver lets it."""
        self._caller.face(element)
        self._callee.face(element)
        self._begin(Load(1.0, calls, emergency_every=every), calls, "{}:{}".format(*element))

    def place(self, number: int) -> None:
        self._place(number)

    def answer(self) -> None:
        """All that has come to the callee."""
        while self._drain(self._callee, self._heard_by_callee):
            pass

    def acknowledge(self) -> None:
        """All that has come to the caller."""
        while self._drain(self._caller, self._heard_by_caller):
            pass

    @property
    def outcome(self) -> Outcome:
        return self._outcome

    def emergencies_sent_at(self) -> dict[str, float]:
        """When each emergency call of the last run left, on the clock of `time.perf_counter`, by its caller's name."""
        return {caller_name(number): self._sent_at[number] for number in range(0, len(self._sent_at), self._every)}

    def is_known(self, element: tuple[str, int]) -> bool:
        """Whether the element answers an OPTIONS of this caller with 200 at once."""
        self._caller.face(element)
        branch = token_hex(8)
        self._caller.send(
            f"OPTIONS sip:{element[0]} SIP/2.0\r\n{self._via};branch=z9hG4bK{branch}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:101@{self._own}>;tag=o\r\nTo: <sip:{element[0]}>\r\n"
            f"Call-ID: {branch}@bench\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode(),
        )
        select.select(self._caller.sockets(), (), (), 0.5)
        return (self._caller.receive() or b"").startswith(b"SIP/2.0 200")

    def _begin(self, load: Load, total: int, host: str) -> None:
        self._outcome = Outcome()
        self._state = bytearray(total)
        self._rung = bytearray(total)
        self._reached = bytearray(total)
        self._closing = bytearray(total)
        self._sent_at = array("d", bytes(8 * total))
        self._every, self._hold = load.emergency_every, load.hold
        self._run = token_hex(4)
        self._host, self._number = host, load.number

    def _loop(self, rate: float, total: int) -> None:
        clock, outcome = time.perf_counter, self._outcome
        started = clock()
        give_up = started + total / rate + GRACE_S
        placed = finished = 0
        while finished < total:
            now = clock()
            if now > give_up:
                break
            due = min(total, int((now - started) * rate) + 1, placed + MAX_PER_TURN)
            for number in range(placed, due):
                self._place(number)
            if due > placed:
                placed = due
                if placed == total:
                    outcome.late_s = max(0.0, clock() - started - total / rate)
            busy = self._drain(self._callee, self._heard_by_callee) + self._drain(self._caller, self._heard_by_caller)
            finished = outcome.completed + outcome.refused
            if not busy and (wait_s := started + placed / rate - clock()) > 0:
                select.select(
                    self._caller.sockets() + self._callee.sockets(),
                    (),
                    (),
                    min(wait_s, 0.05) if placed < total else 0.01,
                )
        outcome.took_s = max(clock() - started, total / rate)
        outcome.behind_s = outcome.took_s - total / rate

    def _place(self, number: int) -> None:
        is_emergency = self._every and number % self._every == 0
        dialed = "911" if is_emergency else self._number
        user = f"{_FIRST_USER + number}" if is_emergency else "101"
        message = (
            f"INVITE sip:{dialed}@{self._host} SIP/2.0\r\n"
            f"{self._via};branch=z9hG4bK{self._run}i{number}\r\nMax-Forwards: 70\r\n"
            f'From: "{caller_name(number)}" <sip:{user}@{self._own}>;tag=c{number}\r\n'
            f"To: <sip:{dialed}@{self._host}>\r\n"
            f"Call-ID: {number:08d}-{self._run}@bench\r\nCSeq: 1 INVITE\r\nContact: <sip:101@{self._own}>\r\n"
            "User-Agent: bench\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nSupported: timer, replaces\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(self._sdp)}\r\n\r\n"
        ).encode() + self._sdp
        self._sent_at[number] = time.perf_counter()
        self._caller.send(message)

    def _drain(self, wire: Wire, heard: Callable[[bytes], None]) -> int:
        for count in range(MAX_PER_TURN):
            data = wire.receive()
            if data is None:
                return count
            heard(data)
        return MAX_PER_TURN

    def _number_in(self, data: bytes) -> int:
        """Which call a message is of; -1 when of none of this run."""
        at = data.find(b"\r\nCall-ID: ")
        if data[at + 20 : at + 28] != self._run.encode():
            return -1
        return int(data[at + 11 : at + 19])

    # --- the caller ---------------------------------------------------------------------------------------------------

    def _heard_by_caller(self, data: bytes) -> None:
        number, outcome, status = self._number_in(data), self._outcome, data[8:11]
        if number < 0:
            return
        if data[:8] != b"SIP/2.0 ":
            outcome.strange += 1
        elif status == b"180":
            self._rung[number] = 1
        elif status == b"100":
            return
        elif b"\r\nCSeq: 1 " in data:
            self._answered(number, data, status)
        elif self._state[number] == _DONE or status != b"200":
            outcome.repeated += 1
        else:
            self._state[number] = _DONE
            outcome.emergencies_whole += bool(self._every) and number % self._every == 0
            outcome.completed += self._rung[number]
            outcome.strange += not self._rung[number]

    def _answered(self, number: int, data: bytes, status: bytes) -> None:
        outcome = self._outcome
        if self._state[number] != _NEW:
            outcome.repeated += 1
            return
        if status != b"200":
            self._state[number] = _DONE
            outcome.refused += 1
            return
        outcome.answers_ms.append((time.perf_counter() - self._sent_at[number]) * 1000)
        self._state[number] = _ANSWERED
        self._caller.send(self._in_dialog(number, "ACK", 1, data))
        if self._hold:
            self._state[number] = _DONE
            outcome.completed += 1
            return
        self._caller.send(self._in_dialog(number, "BYE", 2, data))

    def _in_dialog(self, number: int, method: str, cseq: int, answer: bytes) -> bytes:
        """ACK or BYE to the callee's Contact along the route set (RFC 3261 §12.2.1.1)."""
        is_emergency = self._every and number % self._every == 0
        dialed = "911" if is_emergency else self._number
        user = f"{_FIRST_USER + number}" if is_emergency else "101"
        target = self._contact[1:-1].decode()
        return (
            f"{method} {target} SIP/2.0\r\n"
            f"{self._via};branch=z9hG4bK{self._run}{method[0]}{number}\r\n"
            f"{_route_set(answer)}Max-Forwards: 70\r\n"
            f'From: "{caller_name(number)}" <sip:{user}@{self._own}>;tag=c{number}\r\n'
            f"To: <sip:{dialed}@{self._host}>;tag=d{number}\r\n"
            f"Call-ID: {number:08d}-{self._run}@bench\r\nCSeq: {cseq} {method}\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    # --- the callee ---------------------------------------------------------------------------------------------------

    def _heard_by_callee(self, data: bytes) -> None:
        now = time.perf_counter()
        if data[:7] == b"OPTIONS":  # the element asks whether this trunk is alive
            self._callee.send(_response(b"200 OK", data, b"", b""))
            return
        number, outcome = self._number_in(data), self._outcome
        if number < 0:
            return
        if data[:6] == b"INVITE":
            if self._reached[number]:
                outcome.repeated += 1
                return
            self._reached[number] = 1
            self._note_delay(number, data, (now - self._sent_at[number]) * 1000)
            tag, contact = b";tag=d%d" % number, b"Contact: " + self._contact + b"\r\n"
            self._callee.send(_response(b"100 Trying", data, b"", b""))
            self._callee.send(_response(b"180 Ringing", data, tag, contact))
            self._callee.send(_response(b"200 OK", data, tag, contact, self._answer_sdp))
        elif data[:3] == b"ACK":
            outcome.repeated += self._closing[number] & 1
            self._closing[number] |= 1
        elif data[:3] == b"BYE":
            outcome.repeated += self._closing[number] >> 1
            outcome.strange += not self._closing[number] & 1  # the ACK was sent before it
            self._closing[number] |= 2
            self._callee.send(_response(b"200 OK", data, b"", b""))
        else:
            outcome.strange += 1

    def _note_delay(self, number: int, data: bytes, delay_ms: float) -> None:
        if self._every and number % self._every == 0:
            self._outcome.emergency_delays_ms.append(delay_ms)
            self._outcome.with_location += b"application/pidf+xml" in data
        else:
            self._outcome.delays_ms.append(delay_ms)


def caller_name(number: int) -> str:
    """The display name of that call's caller."""
    return f"Bench {number:07d}"


def _route_set(answer: bytes) -> str:
    if b"\r\nRecord-Route: " not in answer:
        return ""
    lines = answer[: answer.find(b"\r\n\r\n")].decode("latin-1").split("\r\n")
    values = [value for line in lines if line.startswith("Record-Route: ") for value in line[14:].split(",")]
    return "".join(f"Route: {value.strip()}\r\n" for value in reversed(values))


def _response(status: bytes, request: bytes, tag: bytes, contact: bytes, body: bytes = b"") -> bytes:
    head = request[: request.find(b"\r\n\r\n")]
    lines = [line for line in head.split(b"\r\n")[1:] if line[:3] in _KEPT]
    if tag:
        lines = [line + tag if line[:3] == b"To:" else line for line in lines]
    kind = b"Content-Type: application/sdp\r\n" if body else b""
    return b"SIP/2.0 %b\r\n%b\r\n%b%bContent-Length: %d\r\n\r\n%b" % (
        status, b"\r\n".join(lines), contact, kind, len(body), body,
    )  # fmt: skip
