"""What the proxy keeps of a request on its way (RFC 3261 §16): the response context and its branches."""

from collections.abc import Sequence
from typing import NamedTuple

from engine.sip.disguise import Disguise, Restore
from engine.sip.edit import Routing
from engine.sip.forward import Edit, Target
from engine.sip.message import Request
from engine.sip.timers import Timed
from engine.sip.transaction import ClientTransaction, ServerTransaction

OPENS_DIALOG = frozenset({"INVITE", "SUBSCRIBE", "REFER"})  # what we stay in the path of (RFC 3261 §12.1, RFC 6665)


class ByDatagram(NamedTuple):
    """How a request that went by TCP for its size would go by UDP."""

    target: Target
    routing: Routing
    token: bytes


class ResponseContext(Timed):
    """One request's way through the proxy. `request` is dropped when the final response has gone up."""

    __slots__ = (
        "best", "branches", "challenges", "disguise", "fail_over", "index", "is_cancelled", "is_done", "is_emergency",
        "is_invite", "is_own_test", "is_test", "loop", "record_routed", "request", "restore", "routing", "server",
        "spare", "tag", "targets", "unheard",
    )  # fmt: skip

    def __init__(self, server: ServerTransaction, request: Request, routing: Routing, loop: bytes) -> None:
        super().__init__()
        self.server = server
        self.request: Request | None = request
        self.routing = routing
        self.loop = loop
        self.is_invite = request.method == "INVITE"
        self.record_routed = not routing.is_marked and request.method in OPENS_DIALOG
        self.targets: Sequence[Target] = ()
        self.tag: object = None
        self.fail_over: frozenset[int] = frozenset()
        self.is_emergency = False
        self.is_own_test = False
        self.is_test = False
        self.index = 0
        self.spare: list[Target] = []  # left for one that progressed, and tried again should that one fail
        self.unheard: list[Branch] = []  # of an emergency call, one of each target that said nothing at all
        self.branches: list[Branch] = []
        self.disguise: tuple[Disguise, bool] | None = None  # of its dialog, and whether the sender is the caller
        self.restore: Restore = ()
        self.best: tuple[int, bytes | None, Target | None] | None = None
        self.challenges: list[tuple[bytes | None, bytes]] | None = None  # (response, its challenges) of 401s and 407s
        self.is_cancelled = False
        self.is_done = False


class Branch(Timed):
    """One try of one target. `is_over`: its attempt has ended, by a final response or because it was given up.

    `is_kept`: nothing but 100 was heard for so long that the next target is tried beside it; it is told as over, and
    may have the call still. `has_progressed`: a 101 to 199 was heard.

    `by_datagram` is set while the request goes by TCP for its size alone.
    """

    __slots__ = (
        "ahead", "by_datagram", "client", "context", "edit", "has_progressed", "is_cancel_sent", "is_cancel_wanted",
        "is_heard", "is_kept", "is_over", "is_retry", "is_rung", "number", "proofs", "started_at", "target",
    )  # fmt: skip

    client: ClientTransaction

    def __init__(
        self, context: ResponseContext, target: Target, changes: Edit, number: int, now: float, *, is_retry: bool
    ) -> None:
        super().__init__()
        self.context = context
        self.target = target
        self.edit = changes
        self.number = number
        self.started_at = now
        self.is_retry = is_retry
        self.by_datagram: ByDatagram | None = None
        self.ahead = 0  # by how much its CSeq is higher because the request went out before
        self.proofs = 0  # challenges answered for it
        self.is_heard = False
        self.has_progressed = False
        self.is_rung = False
        self.is_over = False
        self.is_kept = False
        self.is_cancel_wanted = False
        self.is_cancel_sent = False

    @property
    def is_awaited(self) -> bool:
        """May the call still become its? One that lost to another may not, and its end is not waited for."""
        return (self.is_kept or not self.is_over) and (self.context.is_cancelled or not self.is_cancel_wanted)

    @property
    def given(self) -> Target:
        """The target as it was decided on, whichever transport the request took."""
        return self.by_datagram.target if self.by_datagram is not None else self.target
