"""What is done with a request, whatever fails on the way: the hook's own decision, then plainer and plainer ones.

A fault of ours between reading a request and sending it must neither keep a 911 call here nor leave its caller waiting:
each way out that fails gives way to the next at the same instant, and the last one is an answer, upon which a PBX tries
its next route.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

from engine.e911.hook import Decision, Hook
from engine.sip.events import RequestReceived
from engine.sip.stack import SipStack

Way = Callable[[], Decision]
Act = Callable[[Decision], None]


def ways_out(hook: Hook, event: RequestReceived, at: datetime, first: Way | None = None) -> Iterable[Way]:
    """How to decide, from all that is known to the least. `first`: in place of the hook's own; `at` is UTC."""
    request, source = event.request, event.source
    yield first or (lambda: hook.decide(request, source, at))
    yield lambda: hook.decide_plainly(request, source, at)
    yield lambda: hook.decide_barely(request, source, at)


def decide_and_act(
    ways: Iterable[Way],
    act: Act,
    *,
    event: RequestReceived,
    stack: SipStack,
    now: float,
    on_fault: Callable[[str], None],
) -> None:
    """Decide by the first way that works, and act on it; answer 500 at once when none does.

    Args:
        now: On the stack's clock.
        on_fault: Told what failed, in words. What fails once the request has left is told and changes nothing.
    """
    for way in ways:
        try:
            act(way())
        except Exception as fault:  # noqa: BLE001 - whatever it is: a fault of ours must not end a 911 call
            on_fault(repr(fault)[:500])
            if stack.is_under_way(event.transaction):
                return
        else:
            return
    stack.give_up(event.transaction, now)
