"""A scripted SIP world in memory: user agents, a link that loses and reorders, and the stack between them.

`Network` moves datagrams by a clock of its own: no sockets, no sleeping, the same every time. A `UserAgent` has an
address on it and keeps what it received; `Caller` and `Callee` behave like a PBX and a carrier through whole calls,
with retransmission, so that they come through on a bad link.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.sip.auth import Credentials
from engine.sip.dialog import NextHop
from engine.sip.forward import Forward, Hop, Target
from engine.sip.message import Request, Response, parse_message
from engine.sip.stack import Event, RequestReceived, SipStack

PROXY = Hop("udp", "192.0.2.10", 5060)
PBX = Hop("udp", "192.0.2.20", 5060)
CARRIER = Hop("udp", "192.0.2.30", 5060)
SECOND = Hop("udp", "192.0.2.31", 5060)
PROXY_TCP = Hop("tcp", "192.0.2.10", 5060)
SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n"
TRIP_S = 0.01


def make_stack(
    *,
    is_emergency: Callable[[Request, Hop], bool] = lambda request, _: "911" in request.request_uri,
    is_trusted: Callable[[Hop], bool] = lambda _: True,
    mark_key: bytes = b"mark key of the tests, 32 bytes.",
    own: Hop = PROXY,
    resolve: Callable[[NextHop], Sequence[Hop]] | None = None,
    credentials_of: Callable[[str], Credentials | None] = lambda _: None,
    tcp_is_up: Callable[[str, int], bool] = lambda _ip, _port: False,
    **seams: Callable[..., Any],
) -> SipStack:
    """`seams`: any other of the element's callbacks, in place of what stands here."""
    counter = itertools.count(1)
    given: dict[str, Any] = {
        "addresses": lambda _: (own.ip, own.port),
        "make_branch": lambda: f"z9hG4bKp{next(counter)}",
        "make_tag": lambda: f"proxy-{next(counter)}",
        "mark_key": mark_key,
        "is_emergency": is_emergency,
        "is_trusted": is_trusted,
        "tcp_is_up": tcp_is_up,
        "credentials_of": credentials_of,
    }
    more = {} if resolve is None else {"resolve": resolve}
    return SipStack(**given | more | seams)


def drain(stack: SipStack) -> tuple[list[Event], list[tuple[bytes, Hop]]]:
    """Everything the stack has to say right now."""
    events = []
    while (event := stack.next_event()) is not None:
        events.append(event)
    return events, stack.take_outgoing()


def request(
    method: str = "INVITE",
    uri: str = "sip:911@192.0.2.10",
    *,
    source: Hop = PBX,
    branch: str = "z9hG4bKcaller1",
    call_id: str = "call-1@192.0.2.20",
    cseq: int = 1,
    from_tag: str = "alice",
    to_tag: str = "",
    routes: Iterable[str] = (),
    added: Iterable[str] = (),
    body: bytes | None = None,
    max_forwards: str | None = "70",
    via_more: str = "",
) -> bytes:
    """A request as a PBX would write it."""
    if body is None:
        body = SDP if method == "INVITE" else b""
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{source.transport.upper()} {source.ip}:{source.port};branch={branch}{via_more}",
        *(f"Route: {route}" for route in routes),
        f'From: "Alice" <sip:101@192.0.2.20>;tag={from_tag}',
        "To: <sip:911@192.0.2.10>" + (f";tag={to_tag}" if to_tag else ""),
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        *([] if max_forwards is None else [f"Max-Forwards: {max_forwards}"]),
        f"Contact: <sip:101@{source.ip}:{source.port};transport={source.transport}>",
        *added,
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def response(
    data: bytes,
    status: int,
    reason: str = "Whatever",
    *,
    to_tag: str = "carrier",
    added: Iterable[str] = (),
    body: bytes = b"",
    contact: str = "sip:psap@192.0.2.30:5060",
) -> bytes:
    """The answer a UAS gives to a request it received."""
    got = parse_message(data)
    assert isinstance(got, Request)
    to = got.lines_of(b"to")
    if got.to_tag is None and status > 100 and to_tag:
        to = to[:-2] + f";tag={to_tag}\r\n".encode()
    head = b"".join(
        (
            f"SIP/2.0 {status} {reason}\r\n".encode(),
            got.lines_of(b"via"),
            got.lines_of(b"record-route"),
            got.lines_of(b"from"),
            to,
            got.lines_of(b"call-id"),
            got.lines_of(b"cseq"),
            *(f"{line}\r\n".encode() for line in added),
        )
    )
    if status < 300:
        head += f"Contact: <{contact}>\r\n".encode()
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def read_request(data: bytes) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


def read_response(data: bytes) -> Response:
    message = parse_message(data)
    assert isinstance(message, Response)
    return message


def route_set(answer: Response) -> list[str]:
    """The caller's route set from the Record-Routes of a 2xx (reversed, RFC 3261 §12.1.2)."""
    return answer.headers("Record-Route")[::-1]


@dataclass
class Network:
    """Moves datagrams between agents and the stack. `loss` and `reorder` are chances per datagram."""

    stack: SipStack
    loss: float = 0.0
    reorder: float = 0.0
    seed: int = 1
    now: float = 0.0
    decide: Callable[["Network", RequestReceived], None] = lambda network, event: None
    events: list[Event] = field(default_factory=list)
    lost: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._queue: list[tuple[float, int, bytes, Hop, Hop]] = []
        self._order = itertools.count()
        self._agents: dict[Hop, UserAgent] = {}
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []

    def join(self, agent: "UserAgent") -> None:
        self._agents[agent.hop] = agent

    def send(self, data: bytes, source: Hop, target: Hop) -> None:
        if self._random.random() < self.loss:
            self.lost += 1
            return
        delay = TRIP_S + (self._random.random() * 0.2 if self._random.random() < self.reorder else 0.0)
        heapq.heappush(self._queue, (self.now + delay, next(self._order), data, source, target))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._alarms, (self.now + delay, next(self._order), action))

    def pump(self) -> None:
        """Handle the stack's events, then put on the link what it sends, until it is silent."""
        while True:
            events, outgoing = drain(self.stack)
            for event in events:
                self.events.append(event)
                if isinstance(event, RequestReceived):
                    self.decide(self, event)
            for data, hop in outgoing:
                own = Hop(hop.transport, PROXY.ip, PROXY.port)
                self.send(data, own, hop._replace(connection=0))
            if not events and not outgoing:
                return

    def run(self, until: float) -> None:
        """Let everything happen up to that time."""
        self.pump()
        while (at := self._next()) is not None and at <= until:
            self.now = max(self.now, at)
            while self._alarms and self._alarms[0][0] <= self.now:
                heapq.heappop(self._alarms)[2]()
            timer = self.stack.next_timer()
            if timer is not None and timer <= self.now:
                self.stack.handle_timer(self.now)
            while self._queue and self._queue[0][0] <= self.now:
                _, _, data, source, target = heapq.heappop(self._queue)
                self._deliver(data, source, target)
            self.pump()
        self.now = until

    def of(self, kind: type) -> list:
        """The events of one type, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def _next(self) -> float | None:
        times = [self._queue[0][0]] if self._queue else []
        times += [self._alarms[0][0]] if self._alarms else []
        timer = self.stack.next_timer()
        return min([*times, timer]) if timer is not None else min(times, default=None)

    def _deliver(self, data: bytes, source: Hop, target: Hop) -> None:
        if target.ip == PROXY.ip:
            self.stack.receive(data, source, self.now)
        elif target in self._agents:
            self._agents[target].receive(data)


@dataclass
class UserAgent:
    """An address on the network that keeps what it gets and answers by `script`."""

    network: Network
    hop: Hop
    script: Callable[["UserAgent", Request], None] = lambda agent, got: None

    def __post_init__(self) -> None:
        self.requests: list[Request] = []
        self.responses: list[Response] = []
        self.network.join(self)

    def send(self, data: bytes) -> None:
        self.network.send(data, self.hop, PROXY._replace(transport=self.hop.transport))

    def receive(self, data: bytes) -> None:
        message = parse_message(data)
        if isinstance(message, Request):
            self.requests.append(message)
            self.script(self, message)
        else:
            self.responses.append(message)
            self.on_response(message)

    def on_response(self, answer: Response) -> None:
        """For callers to react."""

    def methods(self) -> list[str]:
        return [got.method for got in self.requests]

    def statuses(self) -> list[int]:
        return [answer.status for answer in self.responses]


class Caller(UserAgent):
    """A PBX making one call: INVITE until heard, ACK for every 2xx, BYE after `talk_s` until answered."""

    def __init__(
        self,
        network: Network,
        hop: Hop = PBX,
        *,
        call_id: str = "call-1",
        talk_s: float = 1.0,
    ) -> None:
        super().__init__(network, hop)
        self.call_id = call_id
        self.talk_s = talk_s
        self.answer: Response | None = None
        self.is_heard = False
        self.is_ended = False

    def call(self, **fields: object) -> None:
        self.invite = request(source=self.hop, branch=f"z9hG4bK{self.call_id}i", call_id=self.call_id, **fields)
        self._repeat(self.invite, 0.5, lambda: self.is_heard)

    def cancel(self) -> None:
        data = request("CANCEL", source=self.hop, branch=f"z9hG4bK{self.call_id}i", call_id=self.call_id)
        self._repeat(data, 0.5, lambda: any(r.cseq[1] == "CANCEL" for r in self.responses))

    def on_response(self, answer: Response) -> None:
        method = answer.cseq[1]
        if method == "INVITE":
            self.is_heard = True
            if answer.status >= 300:
                self._acknowledge_failure(answer)
            elif answer.status >= 200:
                self._acknowledge(answer)
        elif method == "BYE" and answer.status >= 200:
            self.is_ended = True

    def bye(self) -> None:
        assert self.answer is not None
        self._repeat(self._in_dialog("BYE", self.answer, cseq=2), 0.5, lambda: self.is_ended)

    def _acknowledge(self, answer: Response) -> None:
        self.send(self._in_dialog("ACK", answer, cseq=1))
        if self.answer is None:
            self.answer = answer
            self.network.after(self.talk_s, self.bye)

    def _in_dialog(self, method: str, answer: Response, *, cseq: int) -> bytes:
        contact = answer.header("Contact")
        assert contact is not None
        return request(
            method,
            contact.strip("<>"),
            source=self.hop,
            branch=f"z9hG4bK{self.call_id}{method}{cseq}",
            call_id=self.call_id,
            cseq=cseq,
            to_tag=answer.to_tag or "",
            routes=route_set(answer),
        )

    def _acknowledge_failure(self, answer: Response) -> None:
        self.send(
            request(
                "ACK", source=self.hop, branch=f"z9hG4bK{self.call_id}i", call_id=self.call_id,
                to_tag=answer.to_tag or "", body=b"",
            )
        )  # fmt: skip

    def _repeat(self, data: bytes, interval: float, is_done: Callable[[], bool]) -> None:
        if is_done() or interval > 16:
            return
        self.send(data)
        self.network.after(interval, lambda: self._repeat(data, min(interval * 2, 4.0), is_done))


class Callee(UserAgent):
    """A carrier: 180 and, after `ring_s`, `status`; a 2xx is repeated until its ACK came. Answers BYE and CANCEL."""

    def __init__(self, network: Network, hop: Hop = CARRIER, *, ring_s: float = 0.2, status: int = 200) -> None:
        super().__init__(network, hop)
        self.ring_s = ring_s
        self.status = status
        self.is_acknowledged = False
        self._answered: dict[bytes, bytes] = {}

    def receive(self, data: bytes) -> None:
        message = parse_message(data)
        if not isinstance(message, Request):
            self.responses.append(message)
            return
        self.requests.append(message)
        key = message.via.branch + message.method.encode()
        if message.method == "ACK":
            self.is_acknowledged = True
        elif key in self._answered:
            self.send(self._answered[key])
        elif message.method == "INVITE":
            self._reply(key, data, 180)
            self.network.after(self.ring_s, lambda: self._final(key, data, 0.5))
        else:
            self._reply(key, data, 200)
            if message.method == "CANCEL":
                invite = message.via.branch + b"INVITE"
                self.status = 487
                self._answered.pop(invite, None)

    def _reply(self, key: bytes, data: bytes, status: int) -> None:
        contact = f"sip:psap@{self.hop.ip}:{self.hop.port}"
        body = SDP if status == 200 and b" INVITE\r\n" in data else b""
        self._answered[key] = response(data, status, contact=contact, body=body)
        self.send(self._answered[key])

    def _final(self, key: bytes, data: bytes, interval: float) -> None:
        if self.is_acknowledged or interval > 16:
            return
        self._reply(key, data, self.status)
        self.network.after(interval, lambda: self._final(key, data, min(interval * 2, 4.0)))


def forward_to(
    *targets: Target, tag: object = "call", fail_over: Iterable[int] = ()
) -> Callable[[Network, RequestReceived], None]:
    """A hook that sends every request to these targets."""
    answer = Forward(targets, tag=tag, fail_over=frozenset(fail_over))
    return lambda network, event: network.stack.forward(event.transaction, answer, network.now)
