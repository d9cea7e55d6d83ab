"""What becomes of an emergency call is recorded after its messages have left: the element's events, told to the journal
and to whoever watches the trunks.
"""

from datetime import UTC, datetime, timedelta

from engine.e911.callback import Callback
from engine.e911.entries import CallEvent, CallRecorder, EmergencyCall
from engine.e911.location import DISAGREEMENT, REFERENCE_UNRESOLVED
from engine.e911.trunks import TrunkWatch
from engine.edge.line import Lines
from engine.sip.events import AnsweredLate, AttemptEnded, AttemptStarted, DialogEnded, Finished
from engine.sip.forward import Target


class CallRecord:
    """Takes the events of a wake-up together, when everything has been sent."""

    def __init__(self, recorder: CallRecorder, trunks: TrunkWatch, lines: Lines) -> None:
        self._recorder, self._trunks, self._lines = recorder, trunks, lines
        self._left: dict[str, tuple[datetime, datetime]] = {}  # calls of this wake-up: heard, and sent on (UTC)
        self.disagreements = 0  # emergency calls whose sources of location contradicted each other

    def has_left(self, call: EmergencyCall, decided_at: datetime, here_s: float) -> None:
        """The call's first INVITE was handed to the network just now, which its events cannot know.

        Args:
            decided_at: UTC; long before now where the call had to wait for its location.
            here_s: Since the message that it leaves upon was read from the network.
        """
        left = datetime.now(UTC)
        self._left[call.id] = (min(decided_at, left - timedelta(seconds=here_s)), left)

    def take(self, events: list[CallEvent], now: float) -> None:
        """Record each of them; `now` on the clock of their `at`."""
        utc = datetime.now(UTC)
        left, self._left = self._left, {}
        for event in events:
            try:
                at = utc - timedelta(seconds=max(0.0, now - event.at))
                if isinstance(event, AttemptStarted) and event.number == 1 and isinstance(event.tag, EmergencyCall):
                    self._take_first(event, event.tag, left.get(event.tag.id), at)
                else:
                    self._take_one(event, utc, at)
            except Exception as exc:  # noqa: BLE001 - what cannot be recorded must not keep the next from being
                self._lines.log("record_failed", level="critical", of=type(event).__name__, error=repr(exc)[:500])

    def _take_first(
        self, event: AttemptStarted, call: EmergencyCall, known: tuple[datetime, datetime] | None, at: datetime
    ) -> None:
        heard, left = known or (call.received_at, max(at, call.received_at))  # no attempt comes before its cause
        self._recorder.attempt_started(event, left, heard)
        self._raise_alarm(call)

    def _take_one(self, event: CallEvent, utc: datetime, at: datetime) -> None:
        if isinstance(event.tag, Callback):
            self._take_callback(event, event.tag, at)
            return
        match event:
            case AttemptStarted():
                self._recorder.attempt_started(event, max(at, getattr(event.tag, "received_at", utc)))
            case AttemptEnded():
                self._recorder.attempt_ended(event, at)
                self._learn_from(event)
            case Finished():
                self._recorder.finished(event, at)
            case AnsweredLate():
                self._recorder.answered_late(event, at - timedelta(seconds=event.at - event.started_at), at)
                self._answers(event.target, event.status, event.at)
            case DialogEnded():
                self._recorder.dialog_ended(event, at)

    def _take_callback(self, event: CallEvent, callback: Callback, at: datetime) -> None:
        match event:
            case AttemptStarted() if event.number == 1:
                self._recorder.callback_received(callback)
            case Finished():
                self._recorder.callback_finished(callback, event.outcome, event.status, event.target, at)
            case DialogEnded():
                self._recorder.callback_ended(callback, at)

    def _raise_alarm(self, call: EmergencyCall) -> None:
        """Sources that contradict each other: responders may be on their way to the wrong place."""
        flags = call.flags
        if DISAGREEMENT in flags:
            self.disagreements += 1
            said = [each.source.value for each in call.resolved.verdict if each.said is not None]
            self._lines.log(
                "location_sources_disagree",
                level="warning",
                call_id=call.id,
                account_id=call.account_id,
                taken=call.resolved.source.value,
                said=said,
                meaning="the call went out with what was taken; correct the source that is wrong",
            )
        for flag in call.number_flags:
            self._lines.log(
                flag,
                level="warning",
                call_id=call.id,
                account_id=call.account_id,
                number=call.elin,
                meaning="add numbers to this location's pool, or callers cannot be told apart when a PSAP calls back",
            )
        if REFERENCE_UNRESOLVED in flags:
            self._lines.log("location_reference_unresolved", level="warning", call_id=call.id)

    def _learn_from(self, event: AttemptEnded) -> None:
        """A call tells about its trunk sooner than the next ping, and more: its edge alone answers OPTIONS."""
        if event.outcome == "timeout" and event.is_trying_only:
            self._trunks.stalls(event.target.name, event.at)
        elif event.outcome == "answered" and event.status is not None:
            self._answers(event.target, event.status, event.at)
        elif event.outcome != "cancelled":
            is_up = event.outcome in {"refused", "challenged"} and event.status != 503
            is_up = is_up and not event.target.hop.is_unproven
            detail = f"a call was {event.outcome}" + (f" ({event.status})" if event.status else "")
            self._trunks.called(event.target.name, event.at, is_up=is_up, detail=detail)

    def _answers(self, target: Target, status: int, at: float) -> None:
        if not target.hop.is_unproven:  # it may have been anybody
            self._trunks.progressed(target.name)
            self._trunks.called(target.name, at, is_up=True, detail=f"a call was answered ({status})")
