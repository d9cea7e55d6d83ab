"""Looks through the accounts' logs for what is unlike them, keeps hints and queues their mails.

Theory of operation. Twice a minute the newest number of every chain is asked for; an account whose chain has moved is
looked at from where the last look ended. Its position moves in the transaction that keeps the hints, from the very
value it was read at: of two nodes one keeps them. The first look at an account only notes where it stands, so that an
upgrade is no alarm. No request waits for any of it.
"""

import asyncio
import datetime as dt
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store_anomalies as store
from engine.audit import anomalies
from engine.audit import store as audit_store
from engine.audit.anomalies import Act, Hint
from engine.audit.events import Event
from engine.audit.record import SYSTEM, Actor, record
from engine.db import Database, utc_now
from engine.ids import new_id
from engine.models import Account, Anomaly

EVERY_S = 30.0
SLACK = dt.timedelta(seconds=5)  # clocks of nodes, and of entries and sessions of one request
_log = structlog.get_logger()


@dataclass(slots=True)
class AnomalyWatch:
    """`run` as a background task; `look` once, for whoever cannot wait."""

    database: Database
    every_s: float = EVERY_S
    on_found: asyncio.Event = field(default_factory=asyncio.Event)  # there may be mails to send
    _looked: dt.datetime | None = None

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away: the next look goes on where the last one ended."""
        while True:
            try:
                await self.look(utc_now())
            except Exception as exc:  # noqa: BLE001  # a loop that lives as long as the process: log it and go on
                _log.warning("anomalies_wait", error=type(exc).__name__, detail=str(exc)[:200])
            await asyncio.sleep(self.every_s)

    async def look(self, now: dt.datetime) -> int:
        """Look through what is new in every account; returns how many hints were kept."""
        async with self.database.sessions() as session:
            known = await store.positions(session)
            heads = await audit_store.heads(session, list(known))
        kept = 0
        for account_id, seq in known.items():
            head = heads.get(account_id, 0)
            if seq is None or head > seq:
                kept += await self._look_at(account_id, seq, head, now)
        if kept:
            self.on_found.set()
        return kept

    async def _look_at(self, account_id: str, seq: int | None, head: int, now: dt.datetime) -> int:
        until = head if seq is None else min(head, seq + store.MAX_FRESH)
        hints: list[Hint] = []
        if seq is not None:
            async with self.database.sessions() as session:
                account = await session.get(Account, account_id)
                if account is not None:
                    hints = await hints_of(session, account, seq, until, now)
        async with self.database.sessions.begin() as session:
            if not await store.move_position(session, account_id, seq, until):
                return 0
            return await keep(session, account_id, hints, now)


async def keep(session: AsyncSession, account_id: str, hints: list[Hint], now: dt.datetime) -> int:
    """Keep hints that were not given before, each with its entry in the log and its mail to the owners."""
    known = await store.known_keys(session, account_id, [hint.key for hint in hints])
    fresh = {hint.key: hint for hint in hints if hint.key not in known}
    owners = await store.owners_to_tell(session, account_id) if fresh else []
    for hint in fresh.values():
        row = Anomaly(
            id=new_id("anomaly"), account_id=account_id, kind=hint.kind.value, key=hint.key[:200], at=hint.at,
            actor_id=hint.actor_id, actor_name=hint.actor_name[:320], ip=hint.ip, headline=hint.headline,
            evidence=list(hint.evidence), query=hint.query, mail_to=owners, mail_next_at=now if owners else None,
        )  # fmt: skip
        session.add(row)
        record(
            session, SYSTEM, Event.ANOMALY_CREATE, row, resource=("anomaly", row.id, hint.headline),
            account_id=account_id,
        )  # fmt: skip
    return len(fresh)


async def hints_of(session: AsyncSession, account: Account, seq: int, until: int, now: dt.datetime) -> list[Hint]:
    """Every rule over what is new between two numbers of the account's chain."""
    since = await _time_of(session, account.id, seq)
    acts = await store.fresh_acts(session, account.id, seq, until)
    return [
        *await _of_sign_ins(session, account.id, since, now),
        *await _of_deletions(session, account.id, acts),
        *await _of_places(session, account.id, acts),
        *await _of_exports(session, account, acts),
    ]


async def _time_of(session: AsyncSession, chain: str, seq: int) -> dt.datetime:
    """When the entry of that number was written; long ago when there is none."""
    rows = await audit_store.entries_behind(session, {chain: max(0, seq - 1)}, limit=1)
    return rows[0].at if rows else dt.datetime(1971, 1, 1, tzinfo=dt.UTC)


async def _of_sign_ins(session: AsyncSession, account_id: str, since: dt.datetime, now: dt.datetime) -> list[Hint]:
    """The rules that look at who signed in, and who was refused. Most looks find neither, and read no history."""
    fresh = await store.sign_ins_since(session, account_id, since - SLACK)
    latest = await store.refusals_since(session, account_id, since - SLACK)
    found: list[Hint | None] = []
    if fresh:
        refusals = await store.refusals_since(session, account_id, now - anomalies.HISTORY)
        sign_ins = await store.sign_ins_since(session, account_id, now - anomalies.HISTORY)
        for one in fresh:
            earlier = [each for each in sign_ins if each.at < one.at]
            mine = [each for each in earlier if each.user_id == one.user_id]
            others = [each for each in earlier if each.user_id != one.user_id]
            refused = [each for each in refusals if each.who == one.user_id]
            found += [
                anomalies.unfamiliar_sign_in(one, mine, others),
                anomalies.sign_in_after_failures(one, refused, mine),
            ]
    if latest:
        edge = since - anomalies.FAILURES_WITHIN
        refusals = await store.refusals_since(session, account_id, now - anomalies.HABITS)
        found += anomalies.passwords_tried(
            [each for each in refusals if each.at >= edge], [each for each in refusals if each.at < edge]
        )
    return [hint for hint in found if hint is not None]


async def _of_deletions(session: AsyncSession, account_id: str, acts: list[Act]) -> list[Hint]:
    fresh = [act for act in acts if act.event in store.DELETIONS]
    if not fresh:
        return []
    edge = fresh[0].at - anomalies.DELETIONS_WITHIN
    every = await store.deletions_since(session, account_id, fresh[0].at - anomalies.HABITS)
    history = store.by_actor([act for act in every if act.at < edge])
    return anomalies.mass_deletion([act for act in every if act.at >= edge], history)


async def _of_places(session: AsyncSession, account_id: str, acts: list[Act]) -> list[Hint]:
    """Secrets that were shown, and keys that were used: each compared with where its actor acted before."""
    asked: dict[tuple[str, str], Act] = {}  # of each actor and network the first act, a reveal before anything else
    for act in sorted(acts, key=lambda one: one.event not in store.REVEALS):
        if act.event in store.REVEALS or act.actor_type == "api_key":
            asked.setdefault((act.actor_id, anomalies.network_of(act.ip)), act)
    found = []
    for act in asked.values():
        history = await store.acts_of(session, account_id, act.actor_id, act.at)
        is_reveal = act.event in store.REVEALS
        rule = anomalies.reveal_from_new_network if is_reveal else anomalies.key_from_new_network
        found.append(rule(act, history))
    return [hint for hint in found if hint is not None]


async def _of_exports(session: AsyncSession, account: Account, acts: list[Act]) -> list[Hint]:
    exports = [act for act in acts if act.event in store.EXPORTS]
    if not exports:
        return []
    try:
        zone = ZoneInfo(account.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        zone = ZoneInfo("UTC")
    found = []
    for act in exports:
        since = act.at - anomalies.HABITS
        habits = [one.at for one in await store.sign_ins_since(session, account.id, since) if one.at <= act.at]
        earlier = await store.exports_of(session, account.id, act.actor_id, since)
        found.append(anomalies.export_by_night(act, habits, [one for one in earlier if one.at < act.at], zone))
    return [hint for hint in found if hint is not None]


def dismiss(session: AsyncSession, actor: Actor, row: Anomaly) -> None:
    """Somebody looked at it: it is no alarm any more. Dismissing twice changes nothing more."""
    if row.dismissed_at is None:
        row.dismissed_at, row.dismissed_by = utc_now(), actor.display_name or actor.name
        row.mail_next_at = None  # who has not been told yet need not be
    record(session, actor, Event.ANOMALY_DISMISS, row, resource=("anomaly", row.id, row.headline))
