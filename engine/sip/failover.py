"""The rules by which the proxy goes from target to target: how long each may take, what is tried after which answer,
and which answer is the best in the end (RFC 3261 §16.6 to §16.8). Pure.
"""

from collections.abc import Sequence
from dataclasses import replace

from engine.sip import edit
from engine.sip.context import Branch, ResponseContext
from engine.sip.disguise import undress
from engine.sip.edit import Routing
from engine.sip.forward import Edit, Forward, Hop, Target
from engine.sip.message import Request, Response
from engine.sip.timers import EMERGENCY_TIMER_C_S, OWN_TEST_S, TIMER_C_S

CHALLENGES = frozenset({401, 407})
PREFERRED_4XX = frozenset({401, 407, 415, 420, 484})  # §16.7 step 6
DOUBT_S = 300.0
MAX_DOUBTS = 4_096
MAX_UNHEARD = 2  # targets asked again without a location: their time is lost to a caller whom nobody hears
MAX_ADDRESSES = 3  # of one name, tried for a request in a dialog
# How long such an address may be silent before the next is tried: timers B and F would outlast the caller's own. An
# INVITE is answered by a 100 at once; anything else by its final response, or by a 100 after T2 (RFC 4320 §4.1).
ADDRESS_S_OF_INVITE, ADDRESS_S = 2.0, 4.5
_UNAVAILABLE = frozenset({503})  # RFC 3263 §4.3


class Doubts:
    """Addresses that said nothing lately; each is doubted for `DOUBT_S`. Bounded."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[tuple[str, int], float] = {}

    def add(self, hop: Hop, now: float) -> None:
        if len(self._until) >= MAX_DOUBTS:
            self._until.clear()
        self._until[hop.ip, hop.port] = now + DOUBT_S

    def holds(self, hop: Hop, now: float) -> bool:
        return self._until.get((hop.ip, hop.port), now) > now


def rank(status: int, data: bytes | None) -> tuple[int, bool, bool, int]:
    """The lowest is the best final response (§16.7 step 6); `data` None: one of our own making."""
    group = 0 if status >= 600 else status // 100
    return group, data is None, status not in PREFERRED_4XX, status


def keep_better(context: ResponseContext, status: int, data: bytes | None, target: Target | None) -> None:
    """Keep the better of two final responses (§16.7 step 6); one that came is better than one of our making."""
    best = context.best
    if best is None or rank(status, data) < rank(best[0], best[1]):
        context.best = (status, data, target)


def keep_refusal(context: ResponseContext, response: Response, target: Target) -> None:
    """Take a final response that is no 2xx into the choice of the best."""
    data = upward(context, response)
    if response.status in CHALLENGES:
        if context.challenges is None:
            context.challenges = []
        context.challenges.append((data, edit.challenges_of(response)))
    keep_better(context, response.status, data, target)


def chosen(context: ResponseContext) -> tuple[int, bytes | None, Target | None]:
    """(status, response, target) that the sender gets in the end; without a response it is ours to make."""
    status, data, target = context.best or (408, None, None)
    if data is None and context.is_cancelled:
        status = 487
    elif data is None and status == 408 and not context.targets:
        status = 480
    if context.challenges is not None and data is not None and status in CHALLENGES:
        data = with_all_challenges(data, context.challenges)
    if status == 503:  # §16.7 step 6: it would say that we are overloaded
        status = 500
        data = edit.with_status(data, 500) if data is not None else None
    return status, data, target


def with_all_challenges(data: bytes, challenges: list[tuple[bytes | None, bytes]]) -> bytes:
    """The chosen 401 or 407 with the challenges of all the others (§16.7 step 7)."""
    others = [lines for response, lines in challenges if response is not data]
    return edit.with_challenges(data, others) if others else data


def upward(context: ResponseContext, response: Response) -> bytes | None:
    """The response on its way to whoever sent the request, in the words it used."""
    data = edit.forwarded_response(response, on_stream=context.server.is_reliable)
    return undress(data, response, context.restore) if context.restore and data is not None else data


def keeps_sips(target: Target) -> bool:
    """May a request to a sips URI go there: by TLS, or because the URI is another then (RFC 3261 §26.2.2)."""
    return target.hop.transport == "tls" or target.edit.request_uri is not None


def leaves_as_sips(request: Request, routing: Routing, changes: Edit) -> bool:
    """Has it a sips URI in its topmost Route or its Request-URI as it leaves?"""
    if routing.next_uri != request.request_uri_bytes and routing.next_uri[:5].lower() == b"sips:":
        return True
    if changes.request_uri is not None:
        return changes.request_uri[:5].lower() == "sips:"
    return request.scheme == b"sips"


def patience(branch: Branch, status: int, now: float) -> float:
    """How long a branch may take for its final response after this provisional one."""
    context = branch.context
    longest = TIMER_C_S
    if context.is_own_test:  # counted from its start: ringing that is told again and again does not prolong it
        longest = max(0.0, branch.started_at + OWN_TEST_S - now)
    elif context.is_emergency and not context.is_test and status > 100:
        longest = EMERGENCY_TIMER_C_S
    # a 100 says that the next hop lives, not that anybody behind it does
    return min(branch.target.progress_s, longest) if status == 100 and may_have_company(branch) else longest


def may_have_company(branch: Branch) -> bool:
    """Is another target tried beside this one, should it say nothing but 100? An emergency call's, if there is one."""
    context = branch.context
    return (
        context.is_emergency
        and context.is_invite
        and not (branch.has_progressed or branch.is_over or branch.is_cancel_wanted)
        and context.index < len(context.targets)
    )


def note_unheard(branch: Branch) -> None:
    """It said nothing at all to an emergency call. Where the call had a location with it, that may be why: what is
    larger than a packet is lost whole where fragments are dropped, and some border elements drop bodies they do not
    know. The first of each name, up to a bound.
    """
    context, target = branch.context, branch.target
    if (
        context.is_emergency
        and context.is_invite
        and not (branch.is_heard or branch.is_retry)
        and target.retry_edit is not None
        and len(context.unheard) < MAX_UNHEARD
        and all(each.target.name != target.name for each in context.unheard)
    ):
        context.unheard.append(branch)


def one_after_another(hops: Sequence[Hop], *, is_invite: bool) -> Forward:
    """A Forward to the addresses of one name; the last has all the time that is left."""
    limit = ADDRESS_S_OF_INVITE if is_invite else ADDRESS_S
    first = [Target("", hop, first_response_s=limit) for hop in hops[:-1]]
    return Forward((*first, Target("", hops[-1], first_response_s=0.0, connect_s=0.0)), fail_over=_UNAVAILABLE)


def for_half_the_time(target: Target, hop: Hop) -> Target:
    """The target by that hop, given up after half the time it has: another transport has the other half."""
    return replace(target, hop=hop, first_response_s=target.first_response_s / 2)


def fails_over(branch: Branch, status: int) -> bool:
    """Is the next target tried after this final status? What a target says of itself, else the whole request's rule."""
    target = branch.target
    chosen = branch.context.fail_over if target.fail_over is None else target.fail_over
    return status in chosen or (status in target.fail_over_unrung and not branch.is_rung)
