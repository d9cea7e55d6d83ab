"""A browser that stands at the front desk for weeks: it shows alerts, lets people acknowledge, and can do nothing else.

A person signs in as always and then turns that browser into a display. Its session has no idle end and lasts
`store.DISPLAY_FOR`; it is the person's own (their leaving, a disabled user, a new password end it), stands in the list
of sessions and the authentication log, and can be ended from there. It reaches only the routes marked for it
(docs/decisions/0032).
"""

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import signin, store
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.errors import Forbidden
from engine.models import Session, User

DISPLAY_SCOPES = frozenset({Scope.CALLS_READ, Scope.CALLS_WRITE})


async def become_display(session: AsyncSession, actor: Actor, user: User, row: Session) -> str:
    """End that browser's session and open one of a display in its place. Returns the new cookie's clear text.

    Raises:
        Forbidden: it is a display already; its time does not begin anew by itself.
    """
    if row.method == store.DISPLAY:
        raise Forbidden("This browser is a display already. Sign in again when its 30 days are over.")
    signin.replace_session(row)
    cookie = await signin.start_session(
        session, user, ip=actor.ip, user_agent=actor.user_agent, method=store.DISPLAY, proven_at=row.proven_at
    )
    record(session, actor, Event.ALERT_DISPLAY_CREATE, row, resource=("session", row.id, actor.name))
    return cookie


def is_display(row: Session | None) -> bool:
    return row is not None and row.method == store.DISPLAY
