"""Leaving a chain's oldest entries behind: signed, recorded in the same commit, their rows taken away afterwards.

Theory of operation. What goes is always the oldest entries up to a number, never one out of the middle. One short
transaction signs the chain's new beginning (its last entry left behind, by number and hash) and records
`audit_log.prune` at the chain's end with the range, the count, that hash and the setting. From that commit on nothing
before the beginning is part of the log: no page, search or export reads it, and a verifier holds the two statements
against each other. A million rows cannot be deleted in one commit without stopping every writer, so they go later, some
at a time; the database's own triggers let those go and no others. Whatever moment a process dies at, the chain is
whole: before the commit with all of it, behind the commit without.
"""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit import store_beginnings
from engine.audit.changes import rfc3339
from engine.audit.checkpoints import Signer
from engine.audit.events import Event
from engine.audit.record import PLATFORM, SYSTEM, record
from engine.audit.store_beginnings import Prefix
from engine.db import utc_now
from engine.ids import new_id
from engine.models import AuditBeginning


async def leave_behind(
    session: AsyncSession, signer: Signer, chain: str, end: dt.datetime, *, days: int
) -> Prefix | None:
    """Let the chain begin behind its entries older than `end`. Returns what was left behind; None: nothing is older.

    Args:
        days: The setting that asks for it, told in the entry.
    """
    prefix = await store_beginnings.older_than(session, chain, end)
    if prefix is None:
        return None
    signed = signer.sign_beginning(chain, prefix.last, prefix.hash, prefix.until, utc_now())
    session.add(
        AuditBeginning(
            id=new_id("checkpoint"), chain=chain, seq=signed.seq, hash=signed.hash, until=prefix.until, at=signed.at,
            text=signed.text, public_key=signed.public_key, signature=signed.signature,
        )
    )  # fmt: skip
    record(
        session, SYSTEM, Event.AUDIT_LOG_PRUNE, resource=("audit_log", chain, ""),
        account_id=None if chain == PLATFORM else chain,
        details={
            "first": prefix.first, "last": prefix.last, "count": prefix.count, "last_hash": prefix.hash,
            "until": rfc3339(prefix.until), "kept_days": days,
        },
    )  # fmt: skip
    return prefix
