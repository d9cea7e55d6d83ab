"""The way of a 911 is gone for nothing while there is nothing else to do, so that the next caller finds it warm.

Between two emergency calls the processor's caches fill with what other calls leave there, and a 911 then takes two to
three times as long for the same steps: it waits for its own code to come from memory. So a made-up one is read, decided
and written every few messages, by a hook of its own: nothing is sent, lent, recorded or remembered of it. It never
takes its turn while a message waits, and a node that is asked for nothing does nothing.
"""

from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

from engine.e911.hook import Hook
from engine.e911.location import LocationTable
from engine.sip.edit import Routing, forwarded_request
from engine.sip.forward import Hop
from engine.sip.message import Request, parse_message
from engine.sip.passage import Passage

MESSAGES_BETWEEN = 16  # of some three calls: by a hundred messages most of the way is forgotten
APART_S = 0.003  # less than a tenth of the processor, of what nobody else wants at that moment
NOBODY_S = 1.0  # until it is looked again whether there is an account that can place one
CALL_ID = "call_00000000000000000000000000"
_ROUTING = Routing([], b"", is_marked=False)
_SDP = (
    b"v=0\r\no=- 0 0 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8 101\r\n"
    b"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
)


@dataclass(frozen=True, slots=True)
class Part:
    """Who calls, and what of. No row of the table is kept by it: one that is replaced must be free to go."""

    account_id: str
    revision: int
    invite: bytes
    source: Hop


def give_up(detail: str) -> None:
    """A real call goes on with a plainer INVITE; nothing depends on this one."""
    raise RuntimeError(detail)


class Rehearsal:
    """Goes the way when `due` and the loop has nothing else to do.

    Args:
        hook: one that nobody else uses, on the same table, whose `on_fault` is `give_up`.
        log: `Lines.log`. What fails is told there, and the account left out until it is loaded anew.

    `gone` counts how often.
    """

    def __init__(
        self,
        hook: Hook,
        table: LocationTable,
        passage: Passage,
        loop: AbstractEventLoop,
        log: Callable[..., None],
        *,
        apart_s: float = APART_S,
    ) -> None:
        self._hook, self._table, self._passage, self._loop, self._log = hook, table, passage, loop, log
        self._apart_s = apart_s
        self._part: Part | None = None
        self._failed: dict[str, int] = {}  # accounts, and the revision of which they failed
        self._at = -inf
        self._is_waiting = False
        self.due = MESSAGES_BETWEEN  # at so many messages; a real 911 puts it off
        self.gone = 0

    def put_off(self) -> None:
        """The way was gone just now."""
        self.due = self._passage.messages + MESSAGES_BETWEEN

    def prompt(self) -> None:
        """It is due: go as soon as nothing waits to be read."""
        if not self._is_waiting:
            self._is_waiting = True
            self._loop.call_soon(self._go_if_idle, self._passage.messages)

    def _go_if_idle(self, messages: int) -> None:
        """The loop has asked the sockets once more since `prompt`; what they had has counted."""
        self._is_waiting = False
        now = self._loop.time()
        if now - self._at < self._apart_s:
            self.put_off()
        elif self._passage.messages == messages:
            self.put_off()
            self._at = now
            if self.go(datetime.now(UTC)) is None:
                self._at = now + NOBODY_S

    def go(self, now: datetime) -> bytes | None:
        """The INVITE that would leave, None when there is no account that could place one."""
        part = self._part
        account = self._table.accounts.get(part.account_id) if part is not None else None
        if part is None or account is None or account.revision != part.revision:
            part = self._part = self._cast()
        if part is None:
            return None
        try:
            sent = self._written(part.invite, part.source, now)
        except Exception as fault:  # noqa: BLE001 - whatever it is: the real call has plainer ways out
            self._part, self._failed[part.account_id] = None, part.revision
            why = "its 911 calls go out by plainer ways than its own, should they fail the same way"
            error = repr(fault)[:300]
            self._log("rehearsal_failed", level="error", account_id=part.account_id, error=error, meaning=why)
            return None
        self.gone += 1
        return sent

    def _written(self, data: bytes, source: Hop, now: datetime) -> bytes | None:
        request = parse_message(data)
        assert isinstance(request, Request)
        forward = self._hook.decide(request, source, now).forward
        if forward is None or not forward.emergency:
            return None
        target = forward.targets[0]
        return forwarded_request(
            request, via=b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK", record_route=b"Record-Route: <sip:192.0.2.1;lr>",
            received=b"", routing=_ROUTING, edit=target.edit,
        )  # fmt: skip

    def _cast(self) -> Part | None:
        """The first account with a trunk and a PBX that its address alone proves, and one of its lines to call."""
        for account in self._table.accounts.values():
            if self._failed.get(account.account_id) == account.revision:
                continue
            if not any(trunk.enabled for trunk in account.trunks):
                continue
            for pbx in account.pbxs.values():
                ip = next((str(network.network_address) for network in pbx.sources if network.version == 4), "")
                if ip and not pbx.auth_user:
                    user = account.lines[0].sip_user if account.lines else "100"
                    return Part(account.account_id, account.revision, _invite(user, ip), Hop("udp", ip, 5060))
        return None


def _invite(user: str, ip: str) -> bytes:
    head = (
        f"INVITE sip:911@{ip} SIP/2.0\r\nVia: SIP/2.0/UDP {ip}:5060;branch=z9hG4bKrehearsal\r\nMax-Forwards: 70\r\n"
        f'From: "Rehearsal" <sip:{user}@{ip}>;tag=rehearsal\r\nTo: <sip:911@{ip}>\r\nCall-ID: rehearsal@{ip}\r\n'
        f"CSeq: 1 INVITE\r\nContact: <sip:{user}@{ip}:5060>\r\nSupported: timer, replaces\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n\r\n"
    )
    return head.encode("utf-8", "surrogateescape") + _SDP
