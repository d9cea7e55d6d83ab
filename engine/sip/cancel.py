"""CANCEL, hop by hop (RFC 3261 §9.2, §16.10): which INVITE it ends, and that nobody but the caller ends a call."""

from collections.abc import Callable

from engine.sip.context import ResponseContext
from engine.sip.forward import Hop
from engine.sip.message import Request
from engine.sip.proxy import Proxy
from engine.sip.reply import unopened
from engine.sip.transaction import ServerTransaction, Transactions


class Cancels:
    """Finds what a CANCEL may end, and has the proxy end it."""

    __slots__ = ("_is_trusted", "_proxy", "_transactions")

    def __init__(self, *, transactions: Transactions, proxy: Proxy, is_trusted: Callable[[Hop], bool]) -> None:
        self._transactions, self._proxy, self._is_trusted = transactions, proxy, is_trusted

    def invite_of(self, cancel: ServerTransaction, *, is_trusted: bool = False) -> ServerTransaction | None:
        """What this CANCEL may end. An element with several addresses, or whose path changed, is believed when it is a
        peer of ours; `is_trusted`: as another process of ours says.
        """
        invite = self._transactions.invite_of(cancel)
        if invite is None or not repeats_invite(cancel, invite):
            return None
        is_from_there = cancel.source.ip == invite.source.ip
        return invite if is_from_there or is_trusted or self._is_trusted(cancel.source) else None

    def end(self, invite: ServerTransaction, now: float) -> None:
        """Pass the CANCEL on along the branches of that INVITE; nothing happens to one that has its answer."""
        if invite.request is not None and isinstance(invite.owner, ResponseContext):
            self._proxy.cancel(invite.owner, now)

    def may_end(self, cancel: Request, source: Hop) -> bool:
        """Is there anything here for that CANCEL to end? Of several processes another may have its INVITE."""
        return self.invite_of(unopened(cancel, source)) is not None

    def end_by(self, cancel: Request, source: Hop, now: float, *, is_trusted: bool) -> bool:
        """A CANCEL that another process received and answers: its INVITE ends here; False when there is none."""
        invite = self.invite_of(unopened(cancel, source), is_trusted=is_trusted)
        if invite is None:
            return False
        self.end(invite, now)
        return True


def repeats_invite(cancel: ServerTransaction, invite: ServerTransaction) -> bool:
    """Nobody but the caller may end a call: whoever overheard a branch, or made up the same, is not the caller.

    A CANCEL repeats its INVITE in every field of §9.1, wherever it comes from: behind one address there may be many
    phones. After the final response there is nothing left to compare, and nothing to end: the address must do.
    """
    wish, invited = cancel.request, invite.request
    if wish is None or invited is None:
        return cancel.source.ip == invite.source.ip
    # not the To tag, though §9.1 names it: some senders repeat the 180's there, and a caller who hung up is heard
    return (wish.call_id_bytes, wish.from_tag_bytes, wish.cseq_number) == (
        invited.call_id_bytes, invited.from_tag_bytes, invited.cseq_number,
    )  # fmt: skip
