"""A request that asks where to go: decided, forwarded or answered, and put on record after it has left."""

from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial

from engine.e911.entries import CallRecorder
from engine.e911.hook import Decision, Hold, Hook
from engine.e911.waiting import ReferenceWait
from engine.edge.claims import Claims
from engine.edge.decide import Way, decide_and_act, ways_out
from engine.edge.faults import Faults
from engine.edge.line import Lines
from engine.edge.record import CallRecord
from engine.edge.rehearsal import Rehearsal
from engine.edge.relief import Offer
from engine.edge.senders import Senders
from engine.sip.events import RequestReceived
from engine.sip.passage import Passage
from engine.sip.proxy import is_pending
from engine.sip.stack import SipStack
from engine.sip.transaction import ServerTransaction


class Requests:
    """Has the hook decide, and does what it says. `is_stopping`: take nothing new but emergencies.

    Args:
        offer: gives a message to the process that relieves us.
        begun: of several processes, where a 911 that has left is noted for the others; else None.
        clock: the loop's. `pump`: called when the stack has something to send.
    """

    def __init__(
        self,
        *,
        hook: Hook,
        stack: SipStack,
        passage: Passage,
        record: CallRecord,
        recorder: CallRecorder,
        senders: Senders,
        references: ReferenceWait,
        rehearsal: Rehearsal,
        offer: Offer,
        begun: Claims | None,
        lines: Lines,
        faults: Faults,
        clock: Callable[[], float],
        pump: Callable[[], None],
    ) -> None:
        self._hook, self._stack, self._passage = hook, stack, passage
        self._record, self._recorder, self._senders = record, recorder, senders
        self._references, self._rehearsal, self._begun = references, rehearsal, begun
        self._lines, self._faults, self._offer = lines, faults, offer
        self._clock, self._pump = clock, pump
        self._others: deque[ServerTransaction] = deque(maxlen=1024)  # those that are no emergency, for a clean stop
        self.is_stopping = False

    @property
    def are_pending(self) -> bool:
        """Does anybody still wait for an answer?"""
        return bool(self._recorder.unanswered or self._references.holding) or any(map(is_pending, self._others))

    def receive(self, event: RequestReceived, now: float) -> None:
        """Decide it and act on it; never raises for what one request holds."""
        if self.is_stopping and self._offer(event.request.raw, event.source):
            self._stack.forget(event.transaction)  # whoever relieves us has it, and the whole call with it
            return
        at = datetime.now(UTC)
        self._decide(event, ways_out(self._hook, event, at), now, at)

    def _decide(self, event: RequestReceived, ways: Iterable[Way], now: float, at: datetime) -> None:
        act = partial(self._act, event, now, at)
        decide_and_act(ways, act, event=event, stack=self._stack, now=now, on_fault=self._faults.decision)

    def _act(self, event: RequestReceived, now: float, at: datetime, decision: Decision) -> None:
        if decision.hold is not None:
            hold = decision.hold
            self._references.hold(hold.account_id, hold.uri, partial(self._go_on, event, hold, at))
            return
        if decision.forward is not None and (decision.forward.emergency or not self.is_stopping):
            self._stack.forward(event.transaction, decision.forward, now)
            if decision.call is None:
                self._others.append(event.transaction)
                return
            self._passage.send_newest_first()  # all that is done for its call but the INVITE itself comes after it
            self._record.has_left(decision.call, at, self._clock() - now)
            self._rehearsal.put_off()
            if self._begun is not None:
                self._begun.take_call(event.request, now)
            if decision.lend is not None:
                decision.lend()
            if decision.ask is not None:
                self._references.ask(*decision.ask)
            return
        self._answer(event, decision, now, at)

    def _go_on(self, event: RequestReceived, hold: Hold, at: datetime) -> None:
        """A call that waited for its location leaves, with it or without. After a CANCEL meanwhile it goes nowhere."""
        self._decide(event, ways_out(self._hook, event, at, hold.again), self._clock(), at)
        self._pump()

    def _answer(self, event: RequestReceived, decision: Decision, now: float, at: datetime) -> None:
        status, reason = decision.status or 503, decision.reason or "Service Unavailable"
        self._stack.respond(
            event.transaction, status, reason, decision.headers, now=now, is_stateless=decision.is_stateless
        )
        if decision.call is not None:
            self._recorder.unroutable(decision.call, event.request.raw, status, at)
            self._lines.log(
                "emergency_call_unroutable", level="critical", call_id=decision.call.id, headers=decision.headers
            )
        if decision.callback is not None:
            self._recorder.callback_received(decision.callback)
            self._recorder.callback_finished(decision.callback, "failed", status, None, at)
        if decision.stranger is not None:
            self._senders.note(decision.stranger, now)
