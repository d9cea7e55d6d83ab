"""Dismissing an alarm of Home (change and audit): what had happened up to then is told no more, what comes after is."""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.e911 import mail, store_unplaced
from engine.e911.alarms import DISMISSIBLE
from engine.errors import FieldFault, Invalid, NotFound
from engine.ids import new_id
from engine.models import AlarmDismissal


async def dismiss(session: AsyncSession, actor: Actor, account_id: str, kind: str, until: str) -> AlarmDismissal:
    """Tell no more of what an alarm of that kind rests on.

    Args:
        until: RFC 3339: the newest thing that whoever dismisses it was shown. What came since is told all the same.
    Raises:
        NotFound: no alarm of that kind can be dismissed; its cause is to be mended.
        Invalid: `until` is no time.
    """
    if kind not in DISMISSIBLE:
        raise NotFound("There is no alarm of that kind that can be dismissed: mend its cause, and it goes by itself.")
    try:
        shown = dt.datetime.fromisoformat(until)
    except ValueError:
        shown = None
    if shown is None or shown.tzinfo is None:
        fault = FieldFault("until", "Expected a time with its zone, such as 2026-11-21T20:00:00Z.")
        raise Invalid("The alarm was not dismissed.", fields=(fault,))
    row = await store_unplaced.dismissal_of(session, account_id, kind)
    if row is None:
        row = AlarmDismissal(id=new_id("alarm"), account_id=account_id, kind=kind)
        session.add(row)
    row.until, row.at = min(shown.astimezone(dt.UTC), utc_now()), utc_now()
    row.by = mail.one_line(actor.display_name or actor.name)[:320]
    record(session, actor, Event.ALARM_DISMISS, row, resource=("alarm", row.id, kind), account_id=account_id)
    await session.flush()
    return row
