"""Leaving a chain's oldest entries behind: proved first, signed, recorded in the same commit, the rows taken later.

Theory of operation. What goes is always the oldest entries up to a number, never one out of the middle. First they are
read as a stranger's export would be, believing no column that is not hashed: each text's hash, number and time, and
every checkpoint on the way. They go only up to a checkpoint that this installation itself signed before the time is
over: whoever can write to the database but has no key can make no entry older than it is. Then one short transaction
signs the chain's new beginning (its last entry left behind, by number and hash) and records `audit_log.prune` at the
chain's end with the range, the count, that hash and the setting. From that commit on nothing
before the beginning is part of the log: no page, search or export reads it, and a verifier holds the two statements
against each other. A million rows cannot be deleted in one commit without stopping every writer, so they go later, some
at a time; the database's own triggers let those go and no others. Whatever moment a process dies at, the chain is
whole: before the commit with all of it, behind the commit without.
"""

import asyncio
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit import store_beginnings
from engine.audit.changes import rfc3339
from engine.audit.checkpoints import Signer, beginning_line, checkpoint_line
from engine.audit.events import Event
from engine.audit.record import GENESIS, PLATFORM, SYSTEM, chain_hash, record
from engine.audit.store_beginnings import Link, Prefix
from engine.audit.verify import LEAST_KEPT, SLACK, Broken, checked_beginning, checked_note, time_of
from engine.db import Database, utc_now
from engine.ids import new_id
from engine.models import AuditBeginning, AuditCheckpoint

GROUP = 200  # entries looked at together: some milliseconds
LONG_AGO = dt.datetime.min.replace(tzinfo=dt.UTC)
MOST = 1_000_000  # entries that leave at a time; the rest a day later


class Unproved(Exception):
    """What would leave cannot be proved to be the old entries that were written; the text says why. Nothing leaves."""


@dataclass(slots=True)
class _Walk:
    """How far the proof has come. `prefix`: what may leave by what was read so far."""

    chain: str
    end: dt.datetime
    public_key: str
    begin: int
    seq: int
    hash: str
    until: dt.datetime
    noted: int = 0
    newest_note: dt.datetime = LONG_AGO
    newest_below: dt.datetime = LONG_AGO
    prefix: Prefix | None = None
    is_over: bool = False

    def take(self, links: Sequence[Link], notes: Sequence[AuditCheckpoint]) -> None:
        """Raises Unproved."""
        waiting = list(notes)
        self._pass(waiting)
        for link in links:
            at = self._time_of(link)
            if at >= self.end:
                self.is_over = True
                return
            self.seq, self.hash, self.until = link.seq, link.hash, max(self.until, at)
            self._pass(waiting)

    def _time_of(self, link: Link) -> dt.datetime:
        try:
            is_next = link.seq == self.seq + 1 and link.prev_hash == self.hash
            if not is_next or chain_hash(link.prev_hash, link.entry) != link.hash:
                raise Unproved(f"Entry {self.seq + 1} was changed after it was written, or taken out.")
            body = json.loads(link.entry)
            if (body["chain"], body["seq"]) != (self.chain, link.seq):
                raise Unproved(f"Entry {link.seq} was written as number {body['seq']} of {body['chain']}.")
            return time_of(body["at"])
        except (ValueError, KeyError, TypeError, RecursionError, Broken) as exc:
            raise Unproved(f"Entry {link.seq} cannot be read.") from exc

    def _pass(self, waiting: list[AuditCheckpoint]) -> None:
        """Hold the checkpoints of the entry that was read last against it."""
        while waiting and waiting[0].seq <= self.seq:
            try:
                chain, seq, head, at, key = checked_note(checkpoint_line(waiting.pop(0)).encode())
                signed_at = time_of(at)
            except Broken as exc:
                raise Unproved(f"A checkpoint at entry {self.seq} does not hold: {exc}.") from exc
            if (chain, seq, head) != (self.chain, self.seq, self.hash):
                raise Unproved(f"Entry {self.seq} is not the one that was signed: the log was rewritten.")
            if seq > self.noted:
                self.noted, self.newest_below = seq, self.newest_note
            self.newest_note = max(self.newest_note, signed_at)
            if key == self.public_key and signed_at < self.end and seq > self.begin:
                self._may_leave()

    def _may_leave(self) -> None:
        if self.newest_below - self.until > SLACK:
            raise Unproved(f"Entry {self.seq} says that it is older than a checkpoint that was signed before it.")
        self.prefix = Prefix(self.begin + 1, self.seq, self.hash, self.until)


async def proved(database: Database, signer: Signer, chain: str, end: dt.datetime) -> Prefix | None:
    """Which entries may leave: all are older than `end`, and hold. None: there are none.

    Reads in groups, in sessions of their own: no writer waits, and other work goes on between.

    Raises:
        Unproved: the chain does not hold up to there.
    """
    async with database.sessions() as session:
        begin = await store_beginnings.beginning_of(session, chain)
        guess = await store_beginnings.older_than(session, chain, end)
    if guess is None:
        return None
    walk = _begun(begin, signer, chain, end)
    goal = min(guess.last, walk.begin + MOST)
    while walk.seq < goal and not walk.is_over:
        async with database.sessions() as session:
            links = await store_beginnings.stored_between(session, chain, walk.seq, goal, GROUP)
            if not links:
                raise Unproved(f"Entry {walk.seq + 1} is not there.")
            notes = await store_beginnings.checkpoints_between(session, chain, walk.seq, links[-1].seq)
        await asyncio.to_thread(walk.take, links, notes)
    return walk.prefix


def _begun(begin: AuditBeginning | None, signer: Signer, chain: str, end: dt.datetime) -> _Walk:
    if begin is None:
        return _Walk(chain, end, signer.public_key, 0, 0, GENESIS, LONG_AGO)
    return _Walk(chain, end, signer.public_key, begin.seq, begin.seq, begin.hash, until_of(begin, signer))


def until_of(begin: AuditBeginning, signer: Signer) -> dt.datetime:
    """The newest time of what that stored beginning left behind.

    Raises:
        Unproved: this installation did not sign it.
    """
    try:
        of, seq, last, until, _at, key = checked_beginning(beginning_line(begin).encode())
        if (of, seq, last, key) != (begin.chain, begin.seq, begin.hash, signer.public_key):
            raise Unproved("The log's stored beginning is not the one that this installation signed.")
        return time_of(until)
    except Broken as exc:
        raise Unproved(f"The log's stored beginning does not hold: {exc}.") from exc


async def leave_behind(session: AsyncSession, signer: Signer, chain: str, prefix: Prefix, *, days: int) -> bool:
    """Let the chain begin behind what was proved. False: somebody else shortened it meanwhile.

    Args:
        days: The setting that asks for it, told in the entry.

    Raises:
        Unproved: so young no entry may leave, or the last one was changed since.
    """
    now = utc_now()
    if days < LEAST_KEPT.days or now - prefix.until < LEAST_KEPT:
        raise Unproved(f"Entry {prefix.last} is of {rfc3339(prefix.until)}: none leaves before {LEAST_KEPT.days} days.")
    if await store_beginnings.begins_behind(session, chain) != prefix.first - 1:
        return False
    if await store_beginnings.hash_of(session, chain, prefix.last) != prefix.hash:
        raise Unproved(f"Entry {prefix.last} was changed while it was proved.")
    signed = signer.sign_beginning(chain, prefix.last, prefix.hash, prefix.until, now)
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
    return True
