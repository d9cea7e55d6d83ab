"""The ladder of a call as a drawing: who is a column, what happened is an arrow, from top to bottom (pure).

Points are SVG user units. The same facts stand in the attempts table, so the drawing's text is a summary of it. A
screen too narrow for columns shows the same steps as a list.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from engine.models import CHATS, WEBHOOKS, CallAttempt, Channel, EmergencyCall, Notification

LEFT = 170  # room for the times
GAP = 240  # between two columns
TOP = 80
STEP = 44
MARK_TEXT = 330  # room for the words beside a mark
_MAILS: dict[str, str] = {
    Channel.CORRECTION: "Second mail",
    Channel.ALL_CLEAR: "Mail, answered after all,",
    Channel.CALLED_BACK: "Mail, called back in vain,",
    Channel.ESCALATION: "Escalation",
}
MAX_NOTES = 6  # messages drawn one by one; more are one line


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    x: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """An arrow from x1 to x2, or a mark where they are equal. `kind`: sent, ok, bad or mail (with ok or bad).

    `way`: between whom, in words, for where the drawing has no room; of a mark nothing.
    """

    x1: int
    x2: int
    y: int
    text: str
    when: str
    kind: str
    way: str = ""

    @property
    def direction(self) -> int:
        return 1 if self.x2 > self.x1 else -1


@dataclass(frozen=True, slots=True)
class Ladder:
    width: int
    height: int
    columns: tuple[Column, ...]
    steps: tuple[Drawn, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class _Moment:
    at: dt.datetime
    source: int
    target: int
    text: str
    kind: str


def draw(call: EmergencyCall, attempts: Sequence[CallAttempt], notes: Sequence[Notification]) -> Ladder:
    """The call's ladder: the PBX, Callpoint, every trunk that was tried, and the messages to staff."""
    names = ["PBX", "Callpoint"]
    trunk_column: dict[str, int] = {}
    for attempt in attempts:
        if attempt.trunk_id not in trunk_column:
            trunk_column[attempt.trunk_id] = len(names)
            names.append(attempt.trunk_name)
    moments = [_Moment(call.received_at, 0, 1, f"INVITE {call.dialed}", "sent")]
    for attempt in attempts:
        moments += _of_attempt(attempt, trunk_column[attempt.trunk_id])
    moments += _of_outcome(call, attempts)
    moments += _of_messages(notes)
    if call.ended_at is not None:
        moments.append(_Moment(call.ended_at, 1, 1, "Call ended", "mail"))
    if call.acknowledged_at is not None:
        moments.append(_Moment(call.acknowledged_at, 1, 1, f"Acknowledged by {call.acknowledged_by}", "mail ok"))
    moments.sort(key=lambda moment: moment.at)  # stable: what happened at one instant keeps its order
    columns = tuple(Column(_short(name), LEFT + GAP * at) for at, name in enumerate(names))
    steps = [
        Drawn(
            columns[moment.source].x,
            columns[moment.target].x,
            TOP + STEP * row,
            moment.text,
            _after(moment.at - call.received_at),
            moment.kind,
            f"{names[moment.source]} to {names[moment.target]}" if moment.source != moment.target else "",
        )
        for row, moment in enumerate(moments)
    ]
    steps += _unsent(notes, len(steps), columns[1].x)
    width = max(columns[-1].x + 100, columns[1].x + MARK_TEXT)
    return Ladder(width, TOP + STEP * len(steps), columns, tuple(steps), _summary(call, attempts))


def _of_attempt(attempt: CallAttempt, column: int) -> list[_Moment]:
    sent = "INVITE with location" if attempt.with_location else "INVITE without location"
    moments = [_Moment(attempt.started_at, 1, column, sent, "sent")]
    if attempt.ended_at is None:
        return moments
    if attempt.status_code is not None:
        kind = {"answered": "ok", "challenged": "sent"}.get(attempt.outcome, "bad")
        moments.append(_Moment(attempt.ended_at, column, 1, _answer(attempt), kind))
    else:
        words = {"timeout": "no answer in time", "unreachable": "cannot be reached", "cancelled": "CANCEL"}
        moments.append(_Moment(attempt.ended_at, 1, column, words.get(attempt.outcome, attempt.outcome), "bad"))
    return moments


def _answer(attempt: CallAttempt) -> str:
    return f"{attempt.status_code} {attempt.outcome}"


def _of_outcome(call: EmergencyCall, attempts: Sequence[CallAttempt]) -> list[_Moment]:
    ends = [attempt.ended_at for attempt in attempts if attempt.ended_at is not None]
    at = call.answered_at or max(ends, default=call.sent_at)
    if call.outcome == "answered":
        return [_Moment(at, 1, 0, f"{call.status_code or 200} answered", "ok")]
    if call.outcome == "failed":
        return [_Moment(at, 1, 0, f"{call.status_code or ''} failed".strip(), "bad")]
    if call.outcome == "cancelled":
        return [_Moment(at, 0, 1, "CANCEL: caller hung up", "bad")]
    return []


def _of_messages(notes: Sequence[Notification]) -> list[_Moment]:
    sent = sorted(
        (note for note in notes if note.sent_at is not None), key=lambda note: note.sent_at or note.created_at
    )
    moments = [
        _Moment(note.sent_at, 1, 1, _message_to(note), "mail ok")
        for note in sent[:MAX_NOTES]
        if note.sent_at is not None
    ]
    if len(sent) > MAX_NOTES and sent[MAX_NOTES].sent_at is not None:
        at = sent[MAX_NOTES].sent_at or sent[MAX_NOTES].created_at
        moments.append(_Moment(at, 1, 1, f"and {len(sent) - MAX_NOTES} more mails", "mail ok"))
    return moments


def _message_to(note: Notification) -> str:
    if note.channel in WEBHOOKS:
        return f"{'Webhook' if note.channel == Channel.WEBHOOK else 'Correction to webhook'} {note.subject}"
    if note.channel in CHATS:
        kind = {Channel.CHAT: "Message", Channel.CHAT_ESCALATION: "Escalation"}.get(Channel(note.channel), "Correction")
        return f"{kind} to {note.subject}"
    return f"{_MAILS.get(note.channel, 'Mail')} to {note.recipient}"


def _unsent(notes: Sequence[Notification], row: int, x: int) -> list[Drawn]:
    """What still waits stands last and has no time."""
    count = sum(note.sent_at is None for note in notes)
    words = f"{count} message{'s' if count > 1 else ''} not sent yet"
    return [Drawn(x, x, TOP + STEP * row, words, "", "mail bad")] if count else []


def _after(delta: dt.timedelta) -> str:
    milliseconds = delta.total_seconds() * 1000
    if abs(milliseconds) < 10:
        return f"+{milliseconds:.2f} ms" if milliseconds else "0 ms"
    if abs(milliseconds) < 100:
        return f"+{milliseconds:.1f} ms"
    return f"+{milliseconds:,.0f} ms" if milliseconds < 10_000 else f"+{milliseconds / 1000:,.1f} s"


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


def _summary(call: EmergencyCall, attempts: Sequence[CallAttempt]) -> str:
    tried = "; ".join(
        f"{attempt.trunk_name}: {attempt.status_code or ''} {attempt.outcome}".replace("  ", " ")
        for attempt in attempts
    )
    end = call.outcome.replace("_", " ")
    return f"{call.dialed} came from the PBX. {tried or 'No trunk was tried'}. The call is {end}."
