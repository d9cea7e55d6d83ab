"""Somebody says of a call: I have seen it. The first one counts; whoever comes later is told who that was.

What is acknowledged stays in the list and stops ringing on every page that watches (`admin.pages.alerts`). It says
nothing to the carrier, and a call that nobody acknowledged is a call like any other (docs/decisions/0032).
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.e911 import mail, store_escalation
from engine.errors import FieldFault, Invalid
from engine.models import EmergencyCall

MAX_NOTE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What came of it. `is_first` False: somebody had done so before, and the call stays as it was."""

    call: EmergencyCall
    is_first: bool


async def acknowledge(session: AsyncSession, actor: Actor, call: EmergencyCall, *, note: str = "") -> Acknowledged:
    """Note who has seen the call, when, and what they say of it. `call` is read for an update.

    Escalation ends with it: no further step is taken, and what of one has not left is taken back.
    Repeating it changes nothing, so that two people who press at once are both answered.

    Raises:
        Invalid: the note is too long.
    """
    note = note.strip()
    if len(note) > MAX_NOTE_CHARS:
        expected = f"Expected at most {MAX_NOTE_CHARS} characters, got {len(note)}."
        raise Invalid("The note is too long; the call was not acknowledged.", fields=(FieldFault("note", expected),))
    is_first, withdrawn = call.acknowledged_at is None, 0
    if is_first:
        call.escalation_due_at = None
        withdrawn = await store_escalation.withdraw(session, call.id, utc_now())
        call.acknowledged_at = utc_now()
        call.acknowledged_by = (actor.display_name or actor.name)[:320]
        call.acknowledged_by_id = actor.id[:80]
        call.acknowledgement_note = note or None
    record(
        session, actor, Event.EMERGENCY_CALL_ACKNOWLEDGE, call,
        resource=("call", call.id, mail.one_line(f"{call.dialed} from {caller_of(call)}")),
        details={"is_first": is_first}
        | ({} if is_first else {"first": call.acknowledged_by})
        | ({"withdrawn": withdrawn} if withdrawn else {}),
    )  # fmt: skip
    await session.flush()
    return Acknowledged(call, is_first)


def caller_of(call: EmergencyCall) -> str:
    """The caller's name, else the extension, as one line."""
    caller = call.caller
    return mail.one_line(str(caller.get("name") or caller.get("extension") or "an unknown caller"))
