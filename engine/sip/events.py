"""What the element reports: facts in the past tense, frozen. `at` is the loop's clock as handed to the doors."""

from dataclasses import dataclass
from typing import Any, Literal

from engine.sip.forward import Hop, Target
from engine.sip.message import Request
from engine.sip.transaction import ServerTransaction

AttemptOutcome = Literal["answered", "refused", "challenged", "timeout", "unreachable", "cancelled"]
RefusedBecause = Literal[
    "syntax", "scheme", "max_forwards", "loop", "proxy_require", "stray_cancel", "stray_ack", "stray_response"
]


class RequestReceived:
    """A new request outside the dialogs we record-routed. Answer with `SipStack.forward` or `SipStack.respond`.

    One for each call: made by hand, at a quarter of what a frozen dataclass costs.
    """

    __slots__ = ("request", "source", "transaction")

    def __init__(self, transaction: ServerTransaction, request: Request, source: Hop) -> None:
        self.transaction = transaction
        self.request = request
        self.source = source


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """A request left for a target; `number` counts from 1 per call, `sent` is what left, byte for byte."""

    tag: Any
    target: Target
    number: int
    with_location: bool
    sent: bytes
    at: float


@dataclass(frozen=True, slots=True)
class ProvisionalReceived:
    """A target answered 1xx (100 too: it is heard, the deadline is off)."""

    tag: Any
    target: Target
    status: int
    at: float


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """A target is done with. `status` is its final status, None when it sent none. `is_trying_only`: it said 100, and
    nothing more.
    """

    tag: Any
    target: Target
    number: int
    status: int | None
    outcome: AttemptOutcome
    at: float
    is_trying_only: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """The caller got a final response. `target` is the one it came from, None when it is ours (408, 487, 500)."""

    tag: Any
    outcome: Literal["answered", "failed", "cancelled"]
    status: int
    target: Target | None
    at: float


@dataclass(frozen=True, slots=True)
class AnsweredLate:
    """A 2xx of a target that had been given up, or that came when the caller had a final response already (after a
    timeout or a CANCEL, or from a second leg).

    It went up all the same (RFC 3261 §16.7 step 5). The attempt was begun at `started_at` and has been reported as
    ended; this is its true end.
    """

    tag: Any
    target: Target
    number: int
    status: int
    with_location: bool
    started_at: float
    at: float


@dataclass(frozen=True, slots=True)
class DialogEnded:
    """A BYE of a tagged dialog went through."""

    tag: Any
    at: float


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """Bytes that are no message, or a request that a proxy must refuse (RFC 3261 §16.3). `status` 0: dropped."""

    source: Hop
    detail: str
    status: int
    method: str | None
    request_uri: str | None
    at: float


@dataclass(frozen=True, slots=True)
class OwnRequestEnded:
    """A request of `SipStack.send_request` was answered, or not: then `status` is None."""

    token: Any
    status: int | None
    at: float


Event = (
    RequestReceived
    | AttemptStarted
    | ProvisionalReceived
    | AttemptEnded
    | Finished
    | AnsweredLate
    | DialogEnded
    | MessageRefused
    | OwnRequestEnded
)
