"""What is refused, with which answer, and how often; and what is not quite SIP and taken all the same.

A message that cannot be read is answered where it says who sent it: a peer's always, strangers' up to a number in all.
An emergency request of a peer, what belongs to its call and the answers to it are mended first (`repair`) and go on.
"""

from collections import Counter
from collections.abc import Callable

from engine.sip import edit
from engine.sip.context import Branch
from engine.sip.events import Event, MessageRefused, RefusedBecause
from engine.sip.forward import Hop
from engine.sip.inside import Inside
from engine.sip.message import BadMessage, Request, Response
from engine.sip.repair import dialed, repair
from engine.sip.reply import reply_hop
from engine.sip.transaction import Transactions, client_key

MAX_REFUSALS_PER_S = 50  # answers to what cannot be read, over all strangers: nobody is worth more of our bandwidth


class Refusals:
    """Refuses, counts and tells. `counts`: by (why, status sent); 0 is silence.

    Args:
        inside: knows what belongs to a call that went by us.
        is_emergency: does this request, from this hop, name an emergency service?
        is_trusted: is this a peer of ours?
        make_tag: a new tag. `send`: takes (answer, hop). `emit`: takes what was refused.
    """

    __slots__ = (
        "_answered", "_emit", "_inside", "_is_emergency", "_is_trusted", "_make_tag", "_send", "_since",
        "_transactions", "counts",
    )  # fmt: skip

    def __init__(
        self,
        *,
        transactions: Transactions,
        inside: Inside,
        is_emergency: Callable[[Request, Hop], bool],
        is_trusted: Callable[[Hop], bool],
        make_tag: Callable[[], str],
        send: Callable[[bytes, Hop], None],
        emit: Callable[[Event], None],
    ) -> None:
        self._transactions, self._inside = transactions, inside
        self._is_emergency, self._is_trusted = is_emergency, is_trusted
        self._make_tag, self._send, self._emit = make_tag, send, emit
        self._answered, self._since = 0, 0.0  # strangers in this second
        self.counts: Counter[tuple[RefusedBecause, int]] = Counter()

    def mended(self, data: bytes, fault: BadMessage, source: Hop) -> Request | Response | None:
        """What goes on although it could not be read: a peer's emergency request, what belongs to a call that left, or
        an answer to an emergency request.
        """
        repaired = repair(data, source) if self._is_trusted(source) else None
        if isinstance(repaired, Request):
            is_wanted = self._is_emergency(repaired, source) or self._inside.is_of_call(
                repaired, source, self._transactions.servers
            )
            if is_wanted:
                repaired.faults = (fault.detail, *repaired.faults)
                return repaired
        elif isinstance(repaired, Response):
            client = self._transactions.clients.get(client_key(repaired.via.branch, repaired.cseq_method))
            owner = client.owner if client is not None else None
            if isinstance(owner, Branch) and owner.context.is_emergency:
                return repaired
        return None

    def refuse(self, data: bytes, fault: BadMessage, source: Hop, now: float) -> None:
        """Answer what could not be read, where it can be answered, and tell of it."""
        request, status = fault.request, fault.sip_status
        method = getattr(request, "method", None)
        is_answered = (
            request is not None
            and method not in (None, "ACK")
            and b"via" in request.names
            and (self._is_trusted(source) or self._may_answer(now))
        )
        if request is not None and is_answered:
            hop, received = reply_hop(request, source) if hasattr(request, "via") else (source, b"")
            self._send(edit.response_to(request, status, to_tag=self._make_tag().encode(), received=received), hop)
        said = dialed(data) if method is None and self._is_trusted(source) else None
        self.note(request, fault.detail, status if is_answered else 0, source, now, said=said)

    def note(
        self,
        request: Request | None,
        detail: str,
        status: int,
        source: Hop,
        now: float,
        because: RefusedBecause = "syntax",
        said: tuple[str, str] | None = None,
    ) -> None:
        """Count what was refused, and tell of it. `said`: method and Request-URI of what is no request."""
        self.counts[because, status] += 1
        method, uri = said or (getattr(request, "method", None), None)
        if request is not None and said is None and method is not None:
            uri = request.request_uri
        self._emit(MessageRefused(source, detail, status, method, uri, now))

    def _may_answer(self, now: float) -> bool:
        if now - self._since >= 1.0:
            self._since, self._answered = now, 0
        self._answered += 1
        return self._answered <= MAX_REFUSALS_PER_S
