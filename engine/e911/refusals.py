"""Refused requests of strangers in the audit log: the first of each source at once, a flood in powers of ten.

A scanner sends hundreds of requests a second and may forge every source address; the log must show that it was there
and must not be filled by it. Within a window each source has an entry for its 1st, 10th, 100th … request, and only so
many sources are told apart; all others count together. An INVITE for an emergency number is told apart from the rest:
it may be a PBX nobody has entered yet.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import PLATFORM, Actor, record
from engine.e911 import dial
from engine.models import Account, AuditEntry
from engine.numbers import EVERYWHERE

WINDOW = dt.timedelta(minutes=10)
MAX_SOURCES = 50  # told apart in a window; at 7 entries for a million requests each, a window is 350 entries at most
LOOKED = 500  # of the newest entries, when a refused emergency call is looked for
ALL_OTHERS = "many sources"
STRANGE = "The sender is no PBX or trunk of any account"
UNREADABLE = "An emergency call that could not be forwarded"
ELSEWHERE = "An emergency number of other countries alone; the PBX has no default route that would take it"


@dataclass(slots=True)
class Tally:
    """How many requests each source has had refused, by (window, source, whether for an emergency number)."""

    counts: dict[tuple[int, str, bool], int] = field(default_factory=dict)

    def copy(self) -> "Tally":
        return Tally(dict(self.counts))

    def add(self, at: dt.datetime, source: str, *, is_emergency: bool) -> tuple[str, int, int]:
        """Count one request; returns the source it counts for, the window and the count."""
        window = int(at.timestamp() // WINDOW.total_seconds())
        key = (window, source, is_emergency)
        if key not in self.counts:
            self.counts = {old: count for old, count in self.counts.items() if old[0] >= window - 1}
            known = sum(1 for other in self.counts if other[0] == window and other[2] == is_emergency)
            key = key if known < MAX_SOURCES else (window, ALL_OTHERS, is_emergency)
        self.counts[key] = self.counts.get(key, 0) + 1
        return key[1], window, self.counts[key]


async def note_refusal(session: AsyncSession, tally: Tally, entry: Mapping[str, Any], at: dt.datetime) -> None:
    """Put a journal's `stranger` entry into the platform's audit chain, when its count is worth one; what a PBX sent
    for an emergency number and what went nowhere all the same, into its account's.
    """
    account_id = str(entry.get("account_id") or "") or None
    if account_id is not None and await session.get(Account, account_id) is None:
        return
    source = entry.get("source")
    hop = source if isinstance(source, dict) else {}
    ip = str(hop.get("ip") or "unknown")[:45]
    is_emergency = bool(entry.get("emergency"))
    uri = str(entry.get("request_uri") or "")
    digits = dial.classify(uri, "", EVERYWHERE).digits if account_id is not None else ""
    counted = ip if account_id is None else f"{digits} {ip} {account_id}"
    name, window, count = tally.add(at, counted, is_emergency=is_emergency)
    name = f"{digits} {ip}" if account_id is not None and name == counted else name
    identity = f"{name}@{window}{'!' if is_emergency else ''}#{count}"
    if not _is_power_of_ten(count) or await _is_known(session, account_id or PLATFORM, identity):  # or read again
        return
    agent, method = str(entry.get("user_agent") or "")[:400], str(entry.get("method") or "")[:40]
    kind, who = ("anonymous", name) if account_id is None else ("phone", f"a caller by {ip}")
    facts = {
        "refused": count,
        "emergency": is_emergency,
        "transport": str(hop.get("transport") or ""),
        "port": hop.get("port"),
        "at": str(entry.get("at") or ""),
    }
    record(
        session,
        Actor(kind, name, who, ip, account_id, user_agent=agent, method=method, route="sip"),
        Event.EMERGENCY_CALL_REFUSE,
        resource=("stranger" if account_id is None else "pbx", identity, uri[:200]),
        outcome="denied",
        status=403 if account_id is None else _status_of(entry),
        reason=STRANGE if account_id is None else _reason_of(entry),
        details=facts if account_id is None else facts | {"pbx_id": entry.get("pbx_id")},
    )


def _status_of(entry: Mapping[str, Any]) -> int:
    status = entry.get("status", 404)
    return status if isinstance(status, int) and 0 <= status < 700 else 404


def _reason_of(entry: Mapping[str, Any]) -> str:
    detail = str(entry.get("detail") or "")[:200]
    return f"{UNREADABLE}: {detail}" if detail else ELSEWHERE


async def _is_known(session: AsyncSession, chain: str, identity: str) -> bool:
    query = select(AuditEntry.id).where(AuditEntry.chain == chain, AuditEntry.resource_id == identity)
    return await session.scalar(query) is not None


@dataclass(frozen=True, slots=True)
class Refused:
    """An emergency call that went nowhere: from where and when; of a PBX, the number that was dialled, and what was
    wrong with it where it could not be read.
    """

    ip: str
    at: dt.datetime
    dialed: str = ""
    fault: str = ""


async def latest_emergency_refused(session: AsyncSession, since: dt.datetime, chain: str = PLATFORM) -> Refused | None:
    """The newest emergency call of a stranger that was refused since then, or, in an account's chain, of its PBX that
    went nowhere; None: no such call came lately.
    """
    newest = (
        select(AuditEntry.resource_id, AuditEntry.ip, AuditEntry.at, AuditEntry.id)
        .where(AuditEntry.chain == chain, AuditEntry.event == Event.EMERGENCY_CALL_REFUSE)
        .order_by(AuditEntry.seq.desc())
        .limit(LOOKED)
    )
    for identity, ip, at, entry_id in await session.execute(newest):
        if at < since:
            break
        if "!#" in identity:
            dialed, blank, _ = identity.partition(" ")
            is_named = bool(blank) and not identity.startswith(ALL_OTHERS)
            fault = await _fault_in(session, entry_id) if is_named else ""
            return Refused(ip, at, dialed if is_named else "", fault)
    return None


async def _fault_in(session: AsyncSession, entry_id: str) -> str:
    """What was wrong with the request that an entry tells of; "" where nothing was."""
    entry = await session.scalar(select(AuditEntry.entry).where(AuditEntry.id == entry_id))
    reason = str(json.loads(entry or "{}").get("reason") or "")
    return reason.removeprefix(f"{UNREADABLE}: ") if reason.startswith(UNREADABLE) else ""


def _is_power_of_ten(count: int) -> bool:
    return str(count).strip("0") == "1"
