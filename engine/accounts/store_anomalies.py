"""SQL of the hints: what is new in an account's logs, its history as far as a rule asks for it, and the hints kept.

Every question is bounded: by an index of an event, an actor or an account, and by a number of rows.
"""

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit import store as audit_store
from engine.audit.anomalies import Act, Refusal, Seen, SignIn
from engine.audit.events import FACTS, Access, Event
from engine.errors import NotFound
from engine.models import Account, Anomaly, AnomalyPosition, AuditEntry, Role, Session, User, UserStatus

SHOWN = 200
MAX_FRESH = 5_000  # entries of one look; the next one goes on behind them
MAX_HISTORY = 5_000
MAX_OF_EVENT = 1_000
ACTS_OF_ONE = 2_000  # an actor's newest acts: from where they came is their history
REVEALS = frozenset(event.value for event in Event if event.value.endswith(".reveal"))
EXPORTS = frozenset(event.value for event in Event if event.value.endswith(".export"))
DELETIONS = frozenset(
    event.value for event, facts in FACTS.items() if facts.verb == "delete" and facts.access is Access.WRITE
) - {Event.SESSION_DELETE.value}  # signing out deletes nothing


_ACT = (  # in the order of `Act`
    AuditEntry.at, AuditEntry.event, AuditEntry.actor_type, AuditEntry.actor_id, AuditEntry.actor_name, AuditEntry.ip,
)  # fmt: skip


async def positions(session: AsyncSession) -> dict[str, int | None]:
    """How far every account's chain was looked through; None: never."""
    query = select(Account.id, AnomalyPosition.seq).join(
        AnomalyPosition, AnomalyPosition.account_id == Account.id, isouter=True
    )
    return {row[0]: row[1] for row in await session.execute(query)}


async def move_position(session: AsyncSession, account_id: str, before: int | None, seq: int) -> bool:
    """Take what lies between as looked through; False: another node did."""
    if before is None:
        if await session.get(AnomalyPosition, account_id) is not None:
            return False
        session.add(AnomalyPosition(account_id=account_id, seq=seq))
        return True
    moved = await session.execute(
        update(AnomalyPosition)
        .where(AnomalyPosition.account_id == account_id, AnomalyPosition.seq == before)
        .values(seq=seq)
        .execution_options(synchronize_session=False)
    )
    return bool(moved.rowcount)  # type: ignore[attr-defined]  # a CursorResult, which an update always gives


async def fresh_acts(session: AsyncSession, chain: str, after: int, until: int) -> list[Act]:
    """What happened between two numbers that a rule looks at, oldest first: successes alone."""
    query = select(*_ACT, AuditEntry.outcome).where(
        AuditEntry.chain == chain, AuditEntry.seq > after, AuditEntry.seq <= until,
        or_(AuditEntry.event.in_(REVEALS | EXPORTS | DELETIONS), AuditEntry.actor_type == "api_key"),
    )  # fmt: skip
    rows = (await session.execute(query.order_by(AuditEntry.seq))).all()
    return [Act(*row[:-1]) for row in rows if row.outcome == "success"]


async def deletions_since(session: AsyncSession, chain: str, since: dt.datetime) -> list[Act]:
    """What was deleted since then, oldest first; of each event the newest MAX_OF_EVENT."""
    low = await audit_store.first_since(session, chain, since)
    found = [act for event in sorted(DELETIONS) for act in await _newest(session, chain, event, low)]
    return sorted((act for act in found if act.at >= since), key=lambda act: act.at)


async def _newest(session: AsyncSession, chain: str, event: str, low: int) -> list[Act]:
    """The newest successes of one event: its own index, walked backwards. Event by event, as no planner is asked to
    choose.
    """
    query = select(*_ACT, AuditEntry.outcome).where(
        AuditEntry.chain == chain, AuditEntry.event == event, AuditEntry.seq >= low
    )
    rows = (await session.execute(query.order_by(AuditEntry.seq.desc()).limit(MAX_OF_EVENT))).all()
    return [Act(*row[:-1]) for row in rows if row.outcome == "success"]


async def acts_of(session: AsyncSession, chain: str, actor_id: str, until: dt.datetime) -> list[Seen]:
    """From where somebody acted last, up to that time."""
    query = select(AuditEntry.at, AuditEntry.ip, AuditEntry.outcome).where(
        AuditEntry.chain == chain, AuditEntry.actor_id == actor_id
    )
    rows = await session.execute(query.order_by(AuditEntry.seq.desc()).limit(ACTS_OF_ONE))
    return [Seen(at, ip) for at, ip, outcome in rows if at <= until and outcome == "success"]


async def exports_of(session: AsyncSession, chain: str, actor_id: str, since: dt.datetime) -> list[Seen]:
    """When and from where somebody took data out."""
    low = await audit_store.first_since(session, chain, since)
    acts = [act for event in sorted(EXPORTS) for act in await _newest(session, chain, event, low)]
    return [Seen(act.at, act.ip) for act in acts if act.actor_id == actor_id]


async def sign_ins_since(session: AsyncSession, account_id: str, since: dt.datetime) -> list[SignIn]:
    """The account's sign-ins since then, oldest first; the newest MAX_HISTORY of them."""
    query = (
        select(Session.id, Session.created_at, User.id, User.name, User.email, Session.ip, Session.user_agent)
        .join(User, User.id == Session.user_id)
        .where(Session.account_id == account_id, Session.created_at >= since)
        .order_by(Session.id.desc())
        .limit(MAX_HISTORY)
    )
    rows = (await session.execute(query)).all()
    return [
        SignIn(identity, at, user_id, name or email, ip, user_agent)
        for identity, at, user_id, name, email, ip, user_agent in sorted(rows, key=lambda row: row[1])
    ]


async def refusals_since(session: AsyncSession, chain: str, since: dt.datetime) -> list[Refusal]:
    """The account's refused sign-ins since then, oldest first; the newest MAX_HISTORY of them."""
    low = await audit_store.first_since(session, chain, since)
    query = select(AuditEntry).where(
        AuditEntry.chain == chain, AuditEntry.event == Event.SESSION_CREATE.value, AuditEntry.outcome != "success",
        AuditEntry.seq >= low,
    )  # fmt: skip
    rows = (await session.scalars(query.order_by(AuditEntry.seq.desc()).limit(MAX_HISTORY))).all()
    return [Refusal(row.at, _who(row), row.ip) for row in reversed(rows) if row.at >= since]


def _who(row: AuditEntry) -> str:
    if row.resource_type == "user":
        return row.resource_id
    return str(json.loads(row.entry)["details"].get("email", "")) or "unknown"


def by_actor(acts: Sequence[Act]) -> dict[str, list[dt.datetime]]:
    """The times of acts, by who did them."""
    found: dict[str, list[dt.datetime]] = defaultdict(list)
    for act in acts:
        found[act.actor_id].append(act.at)
    return found


async def known_keys(session: AsyncSession, account_id: str, keys: Collection[str]) -> set[str]:
    """Which of these hints were given already."""
    query = select(Anomaly.key).where(Anomaly.account_id == account_id, Anomaly.key.in_(keys))
    return set(await session.scalars(query))


async def owners_to_tell(session: AsyncSession, account_id: str) -> list[str]:
    """The e-mail addresses of the account's active owners."""
    query = select(User.email).where(
        User.account_id == account_id, User.role == Role.OWNER, User.status == UserStatus.ACTIVE
    )
    return list(await session.scalars(query.order_by(User.id)))


async def open_count(session: AsyncSession, account_id: str) -> int:
    """How many hints nobody has dismissed yet."""
    query = select(func.count()).where(Anomaly.account_id == account_id, Anomaly.dismissed_at.is_(None))
    return await session.scalar(query) or 0


async def anomalies_of(session: AsyncSession, account_id: str, *, is_open: bool) -> Sequence[Anomaly]:
    """The account's hints, newest first: those nobody has dismissed, or those that somebody has."""
    state = Anomaly.dismissed_at.is_(None) if is_open else Anomaly.dismissed_at.is_not(None)
    query = select(Anomaly).where(Anomaly.account_id == account_id, state)
    return (await session.scalars(query.order_by(Anomaly.id.desc()).limit(SHOWN))).all()


async def anomaly_by_id(session: AsyncSession, account_id: str, anomaly_id: str) -> Anomaly:
    """One hint; nobody else changes it before the commit.

    Raises:
        NotFound
    """
    query = select(Anomaly).where(Anomaly.id == anomaly_id, Anomaly.account_id == account_id).with_for_update()
    row = await session.scalar(query)
    if row is None:
        raise NotFound("This account has no hint of that id.")
    return row


async def claim_mails(
    session: AsyncSession, now: dt.datetime, until: dt.datetime, *, limit: int
) -> list[tuple[Anomaly, Account]]:
    """Hints whose mail is due, ours until then."""
    query = (
        select(Anomaly, Account)
        .join(Account, Account.id == Anomaly.account_id)
        .where(
            Anomaly.mail_next_at <= now,
            or_(Anomaly.mail_claimed_until.is_(None), Anomaly.mail_claimed_until < now),
        )
        .order_by(Anomaly.mail_next_at)
        .limit(limit)
        .with_for_update(of=Anomaly, skip_locked=True)
    )
    rows = [(row[0], row[1]) for row in await session.execute(query)]
    for anomaly, _account in rows:
        anomaly.mail_claimed_until = until
    return rows


async def has_mail_due(session: AsyncSession, now: dt.datetime) -> bool:
    """Whether any hint waits to be mailed: asked without a writer's lock."""
    return await session.scalar(select(Anomaly.id).where(Anomaly.mail_next_at <= now).limit(1)) is not None
