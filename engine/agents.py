"""Two small user agents over UDP: `place_call`, the caller of `callpoint call` and of the demo, and `Carrier`.

They speak real SIP over real sockets, so that what they show is what a PBX and a carrier would see. They are no part of
the 911 path. RFC 3261 §8 (behaviour), §13 (INVITE), §17.1.1 (the caller's retransmissions).
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.errors import EngineError
from engine.sip.message import BadMessage, Request, Response, parse_message
from engine.sip.uri import bracketed, parse_name_addr

T1_S = 0.5  # RFC 3261 §17.1.1.1
TIMER_B_S = 32.0  # 64*T1: how long an unanswered INVITE is repeated
WITHDRAW_S = 4.0  # how long the end of a call that we cancelled is waited for
_SDP = (
    "v=0\r\no=callpoint 1 1 IN IP4 {ip}\r\ns=call\r\nc=IN IP4 {ip}\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
)


class CallFailed(EngineError):
    """The call got no answer, or a refusal."""

    title = "The call was not answered"


@dataclass(frozen=True, slots=True)
class Placing:
    """Who calls what, through which address; `headers` are added to the INVITE."""

    dialed: str
    caller: str
    via: tuple[str, int]
    display_name: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    call_id: str = field(default_factory=lambda: f"{secrets.token_hex(12)}@callpoint")
    talk_s: float = 0.2
    silence_s: float = TIMER_B_S  # how long to wait for the first word of anybody
    answer_s: float = TIMER_B_S  # and, once there was one, for the final response; then the call is cancelled


@dataclass(frozen=True, slots=True)
class Heard:
    """One response the caller heard, and when: seconds after its INVITE left."""

    status: int
    reason: str
    after_s: float


@dataclass(frozen=True, slots=True)
class Placed:
    """How a placed call went: the last of `heard` is the final response."""

    call_id: str
    heard: tuple[Heard, ...]

    @property
    def status(self) -> int:
        return self.heard[-1].status if self.heard else 408

    @property
    def is_answered(self) -> bool:
        return 200 <= self.status < 300


class _Datagrams(asyncio.DatagramProtocol):
    """Parsed messages in a queue; what is no SIP is passed over."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[tuple[Request | Response, tuple[str, int]]] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            self.arrived.put_nowait((parse_message(data), addr[:2]))
        except BadMessage:
            return


async def place_call(
    placing: Placing, *, local_ip: str = "", on_heard: Callable[[Heard], None] | None = None
) -> Placed:
    """Place one call: INVITE with SDP, ACK, BYE after `talk_s`. Its status is 408 when nobody answered.

    Args:
        local_ip: The address to call from; empty: the route's own.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in placing.via[0] else socket.AF_INET
    transport, protocol = await loop.create_datagram_endpoint(
        _Datagrams, remote_addr=placing.via, local_addr=(local_ip, 0) if local_ip else None, family=family
    )
    try:
        ip, port = transport.get_extra_info("sockname")[:2]
        return await _Caller(placing, transport, protocol, f"{bracketed(ip)}:{port}", ip, on_heard).run()
    finally:
        transport.close()


async def ping(target: tuple[str, int], *, within_s: float) -> bool:
    """Whether anybody answers an OPTIONS there, with whatever status. Sent twice: a datagram may be lost."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Datagrams, remote_addr=target)
    try:
        ip, port = transport.get_extra_info("sockname")[:2]
        own, branch = f"{bracketed(ip)}:{port}", secrets.token_hex(8)
        uri = f"sip:{bracketed(target[0])}:{target[1]}"
        options = (
            f"OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{branch};rport\r\nMax-Forwards: 70\r\n"
            f"From: <sip:doctor@{own}>;tag={branch}\r\nTo: <{uri}>\r\nCall-ID: {branch}@{bracketed(ip)}\r\n"
            "CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        for _ in range(2):
            transport.sendto(options)
            try:
                async with asyncio.timeout(within_s / 2):
                    await protocol.arrived.get()
            except TimeoutError:
                continue
            return True
        return False
    finally:
        transport.close()


class _Caller:
    """One call's user agent client."""

    def __init__(
        self,
        placing: Placing,
        transport: asyncio.DatagramTransport,
        protocol: _Datagrams,
        own: str,
        ip: str,
        on_heard: Callable[[Heard], None] | None,
    ) -> None:
        self._placing, self._transport, self._protocol = placing, transport, protocol
        self._own, self._ip, self._on_heard = own, ip, on_heard
        self._branch = f"z9hG4bK{secrets.token_hex(8)}"
        self._tag = secrets.token_hex(6)
        self._uri = f"sip:{placing.dialed}@{bracketed(placing.via[0])}:{placing.via[1]}"

    async def run(self) -> Placed:
        """Nothing is left ringing, however this ends: a call without a final answer is cancelled, one with it ended."""
        sdp = _SDP.format(ip=self._ip).encode()
        invite = self._request("INVITE", self._uri, self._branch, 1, "", self._placing.headers, sdp)
        heard: list[Heard] = []
        final: Response | None = None
        try:
            final = await self._final(invite, heard)
        finally:
            if final is None:
                await self._withdraw(is_heard=bool(heard))
        if final is not None:
            await self._finish(final)
        return Placed(self._placing.call_id, tuple(heard))

    async def _final(self, invite: bytes, heard: list[Heard]) -> Response | None:
        """Send the INVITE, repeat it until anything is heard, and wait for the final response; None: none came."""
        started = time.monotonic()
        wait_s, resend = T1_S, True
        self._transport.sendto(invite)
        while True:
            patience_s = self._placing.answer_s if heard else self._placing.silence_s
            left_s = started + patience_s - time.monotonic()
            if left_s <= 0:
                return None
            try:
                message, _addr = await asyncio.wait_for(self._protocol.arrived.get(), min(wait_s, left_s))
            except TimeoutError:
                if resend:
                    self._transport.sendto(invite)
                    wait_s *= 2
                continue
            if not isinstance(message, Response) or message.cseq[1] != "INVITE":
                continue
            resend, wait_s = False, TIMER_B_S
            found = Heard(message.status, message.reason, time.monotonic() - started)
            heard.append(found)
            if self._on_heard is not None:
                self._on_heard(found)
            if message.status >= 200:
                return message

    async def _withdraw(self, *, is_heard: bool) -> None:
        """CANCEL the INVITE (RFC 3261 §9.1), and acknowledge how it ended; a 200 that crossed is ended by a BYE.

        It goes out even when nothing was heard, which §9.1 would not have: the answers may be what was lost, and
        whoever never saw the INVITE says 481.
        """
        cancel = self._request("CANCEL", self._uri, self._branch, 1, "")
        until, wait_s, repeats = time.monotonic() + WITHDRAW_S, T1_S, True
        self._transport.sendto(cancel)
        while (left_s := until - time.monotonic()) > 0:
            try:
                message, _addr = await asyncio.wait_for(self._protocol.arrived.get(), min(left_s, wait_s))
            except TimeoutError:
                if repeats:
                    self._transport.sendto(cancel)
                    wait_s *= 2
                continue
            if not isinstance(message, Response):
                continue
            method = message.cseq[1]
            if method == "INVITE" and message.status >= 200:
                await self._finish(message, talk_s=0.0)
                return
            if method == "CANCEL" and message.status >= 200:
                repeats = False
                if message.status >= 300 and not is_heard:
                    return  # it knows of no such call

    async def _finish(self, final: Response, *, talk_s: float | None = None) -> None:
        """ACK, and after a 2xx BYE, whether or not we are cancelled while we talk."""
        to = final.header("To") or ""
        if final.status >= 300:
            self._transport.sendto(self._request("ACK", self._uri, self._branch, 1, to))
            return
        target = self._target_of(final)
        routes = tuple(("Route", value) for value in reversed(_values(final, "Record-Route")))
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        self._transport.sendto(self._request("ACK", target, branch, 1, to, routes))
        try:
            await asyncio.sleep(self._placing.talk_s if talk_s is None else talk_s)
        finally:
            await self._hang_up(self._request("BYE", target, f"z9hG4bK{secrets.token_hex(8)}", 2, to, routes))

    async def _hang_up(self, bye: bytes) -> None:
        for wait_s in (T1_S, 2 * T1_S, 4 * T1_S):
            self._transport.sendto(bye)
            if await self._hears_bye_answer(wait_s):
                return

    def _target_of(self, final: Response) -> str:
        """The answer's Contact; where that cannot be read what we dialed, so that ACK and BYE leave at all."""
        try:
            return parse_name_addr(final.header("Contact") or "").uri.raw or self._uri
        except BadMessage:
            return self._uri

    async def _hears_bye_answer(self, within_s: float) -> bool:
        until = time.monotonic() + within_s
        while (left := until - time.monotonic()) > 0:
            try:
                message, _addr = await asyncio.wait_for(self._protocol.arrived.get(), left)
            except TimeoutError:
                return False
            if isinstance(message, Response) and message.cseq[1] == "BYE":
                return True
        return False

    def _request(
        self,
        method: str,
        uri: str,
        branch: str,
        cseq: int,
        to: str,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> bytes:
        placing = self._placing
        shown = f'"{placing.display_name}" ' if placing.display_name else ""
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self._own};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: {shown}<sip:{placing.caller}@{self._own}>;tag={self._tag}",
            f"To: {to or f'<{self._uri}>'}",
            f"Call-ID: {placing.call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:{placing.caller}@{self._own}>",
            *(f"{name}: {value}" for name, value in headers),
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _values(message: Response, name: str) -> list[str]:
    return [value.strip() for line in message.headers(name) for value in line.split(",")]


@dataclass(slots=True)
class Carrier:
    """A far end that answers: 100, 180, then 200 with SDP; 200 to BYE, CANCEL and OPTIONS. Keeps what it was sent."""

    invites: list[Request] = field(default_factory=list)
    address: tuple[str, int] = ("", 0)
    ring_s: float = 0.15
    _transport: asyncio.DatagramTransport | None = None
    _task: asyncio.Task[None] | None = None
    _seen: dict[str, bytes] = field(default_factory=dict)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(_Datagrams, local_addr=(host, port))
        self._transport, self.address = transport, transport.get_extra_info("sockname")[:2]
        self._task = asyncio.create_task(self._serve(protocol), name="carrier")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()

    async def _serve(self, protocol: _Datagrams) -> None:
        while True:
            message, addr = await protocol.arrived.get()
            if isinstance(message, Request) and message.method != "ACK":
                await self._answer(message, addr)

    async def _answer(self, request: Request, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        key = f"{request.header('Via')} {request.method}"
        if key in self._seen:  # a retransmission gets the same answer (RFC 3261 §17.2)
            self._transport.sendto(self._seen[key], addr)
            return
        if request.method == "INVITE":
            self.invites.append(request)
            self._transport.sendto(_response(request, 100, "Trying"), addr)
            self._transport.sendto(_response(request, 180, "Ringing", tag="carrier"), addr)
            await asyncio.sleep(self.ring_s)
            ip, port = self.address
            sdp = _SDP.format(ip=ip).encode()
            final = _response(request, 200, "OK", tag="carrier", contact=f"<sip:psap@{ip}:{port}>", body=sdp)
        else:
            final = _response(request, 200, "OK", tag="carrier")
        self._seen[key] = final
        self._transport.sendto(final, addr)


def _response(
    request: Request, status: int, reason: str, *, tag: str = "", contact: str = "", body: bytes = b""
) -> bytes:
    to = request.header("To") or ""
    lines = [
        f"SIP/2.0 {status} {reason}",
        *(f"Via: {value}" for value in request.headers("Via")),
        *(f"Record-Route: {value}" for value in request.headers("Record-Route")),
        f"From: {request.header('From')}",
        f"To: {to}{f';tag={tag}' if tag and ';tag=' not in to else ''}",
        f"Call-ID: {request.call_id}",
        f"CSeq: {request.header('CSeq')}",
        *([f"Contact: {contact}"] if contact else []),
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
