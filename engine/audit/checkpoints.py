"""Signed checkpoints of the audit chains: what number and hash a chain had at what time, signed by this installation.

A hash chain alone shows an edit, not a cut-off end or a chain computed anew. A checkpoint that has left the house
(an export, the foot of a notification mail) does. The signing key is Ed25519 (RFC 8032), derived from the key file
for this purpose alone, so that a copy of the key file is a copy of it and no second secret is to be kept.
"""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, literal, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit import store
from engine.audit.changes import rfc3339
from engine.audit.record import PLATFORM
from engine.audit.store_beginnings import beginning_of
from engine.audit.verify import BEGINNING_VERSION, NOTE_VERSION, export_line, short_name
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.errors import DatabaseAway
from engine.ids import new_id
from engine.models import Account, AuditBeginning, AuditCheckpoint, AuditEntry

EVERY_ENTRIES = 1_000
EVERY = dt.timedelta(minutes=10)  # a chain that moved gets a checkpoint after this long even when little happened
LOOK_S = 10.0
SHORT_DIGITS = 16  # of a signature, as mails print it: 64 bits, enough to recognise the checkpoint it belongs to
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint with its signature. `text` is what was signed; key and signature in hex."""

    chain: str
    seq: int
    hash: str
    at: dt.datetime
    text: str
    public_key: str
    signature: str

    @property
    def short(self) -> str:
        return self.signature[:SHORT_DIGITS]


class Signer:
    """Signs heads with this installation's key."""

    def __init__(self, keys: KeyRing) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(keys.subkey("audit-checkpoint"))
        self.public_key = self._key.public_key().public_bytes_raw().hex()

    def sign(self, chain: str, seq: int, head: str, at: dt.datetime) -> Signed:
        note = f"{NOTE_VERSION}\n{chain}\n{seq}\n{head}\n{rfc3339(at)}\n"
        return Signed(chain, seq, head, at, note, self.public_key, self._key.sign(note.encode()).hex())

    def sign_beginning(self, chain: str, seq: int, last: str, until: dt.datetime, at: dt.datetime) -> Signed:
        """Sign that the chain begins behind entry `seq`, whose hash is `last` and which was written at `until`."""
        note = f"{BEGINNING_VERSION}\n{chain}\n{seq}\n{last}\n{rfc3339(until)}\n{rfc3339(at)}\n"
        return Signed(chain, seq, last, at, note, self.public_key, self._key.sign(note.encode()).hex())


def signer_of(keys: KeyRing) -> Signer | None:
    """The signer of this installation; None where the system's OpenSSL knows no Ed25519 (some FIPS modes)."""
    try:
        return Signer(keys)
    except UnsupportedAlgorithm as exc:
        _log.warning(
            "audit_checkpoints_off", error=str(exc), meaning="the chain goes on, its checkpoints stay unsigned"
        )
        return None


def row_of(signed: Signed) -> AuditCheckpoint:
    """The row to store. Several of one head are harmless, so that no writer ever waits for another here."""
    return AuditCheckpoint(
        id=new_id("checkpoint"), chain=signed.chain, seq=signed.seq, hash=signed.hash, at=signed.at, text=signed.text,
        public_key=signed.public_key, signature=signed.signature,
    )  # fmt: skip


def fingerprint(public_key: str) -> str:
    """A short name for a public key, to compare by eye: the one that `callpoint audit verify` and `audit key` tell."""
    return short_name(public_key)


async def sign_head(session: AsyncSession, signer: Signer, chain: str) -> Signed | None:
    """Sign what is committed of that chain now and keep it with this transaction; None: it has no entry yet."""
    found = await store.head(session, chain)
    if found is None:
        return None
    kept: dict[tuple[str, int, str], Signed] = session.info.setdefault("checkpoints", {})
    signed = kept.get((chain, *found))  # fifty calls recorded in one transaction share one
    if signed is None:
        signed = kept[(chain, *found)] = signer.sign(chain, *found, utc_now())
        session.add(row_of(signed))
    return signed


async def newest_of(session: AsyncSession, chain: str) -> AuditCheckpoint | None:
    """The chain's last checkpoint that is kept."""
    query = select(AuditCheckpoint).where(AuditCheckpoint.chain == chain)
    return await session.scalar(query.order_by(AuditCheckpoint.seq.desc(), AuditCheckpoint.id.desc()).limit(1))


def checkpoint_line(row: AuditCheckpoint) -> str:
    """One checkpoint as a line of an export, without the line end."""
    told = {"checkpoint": row.text, "public_key": row.public_key, "signature": row.signature}
    return json.dumps(told, separators=(",", ":"))


def beginning_line(row: AuditBeginning) -> str:
    """Where the chain begins, as the first line of an export, without the line end."""
    told = {"beginning": row.text, "public_key": row.public_key, "signature": row.signature}
    return json.dumps(told, separators=(",", ":"))


async def checkpoint_lines(session: AsyncSession, chain: str, last: int | None = None) -> AsyncIterator[str]:
    """The chain's checkpoints as lines of an export, oldest first; up to entry `last`."""
    query = select(AuditCheckpoint).where(AuditCheckpoint.chain == chain)
    if last is not None:
        query = query.where(AuditCheckpoint.seq <= last)
    after = (0, "")
    while rows := (
        await session.scalars(
            query.where(
                (AuditCheckpoint.seq > after[0]) | ((AuditCheckpoint.seq == after[0]) & (AuditCheckpoint.id > after[1]))
            )
            .order_by(AuditCheckpoint.seq, AuditCheckpoint.id)
            .limit(1000)
        )
    ).all():
        for checkpoint in rows:
            yield checkpoint_line(checkpoint)
        after = (rows[-1].seq, rows[-1].id)
        session.expunge_all()


async def export_lines(session: AsyncSession, chain: str) -> AsyncIterator[str]:
    """A whole chain for `callpoint audit verify`: where it begins when that is not its first entry, its checkpoints,
    then its entries, oldest first.
    """
    begin = await beginning_of(session, chain)
    if begin is not None:
        yield beginning_line(begin)
    async for line in checkpoint_lines(session, chain):
        yield line
    async for row in store.texts_oldest_first(session, chain, after=begin.seq if begin is not None else 0):
        yield export_line(row)


class Notary:
    """Signs the head of every chain that moved: after 1,000 entries, or ten minutes."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database = database
        self.signer = signer_of(keys)

    async def run(self) -> None:
        """Until cancelled. A database that is away is asked again at the next look."""
        while self.signer is not None:
            try:
                await self.sign_moved(utc_now())
            except (SQLAlchemyError, OSError, DatabaseAway) as exc:
                _log.warning("audit_checkpoint_waits", error=type(exc).__name__, meaning="the chain itself goes on")
            await asyncio.sleep(LOOK_S)

    async def sign_moved(self, now: dt.datetime) -> int:
        """Sign the heads that are due at `now`; returns how many were."""
        if self.signer is None:
            return 0
        async with self._database.sessions() as session:
            due = [chain for chain, seq, signed, at in await _heads(session) if _is_due(seq, signed, at, now)]
        for chain in due:
            async with self._database.sessions.begin() as session:
                await sign_head(session, self.signer, chain)
        return len(due)


def _is_due(seq: int | None, signed_seq: int | None, signed_at: dt.datetime | None, now: dt.datetime) -> bool:
    if seq is None or seq <= (signed_seq or 0):
        return False
    return seq - (signed_seq or 0) >= EVERY_ENTRIES or signed_at is None or now - signed_at >= EVERY


async def _heads(session: AsyncSession) -> list[tuple[str, int | None, int | None, dt.datetime | None]]:
    """Each chain with its newest number and its newest checkpoint: seeks in indexes, one for each account."""
    chains = select(Account.id.label("chain")).union_all(select(literal(PLATFORM))).subquery()
    newest = select(func.max(AuditEntry.seq)).where(AuditEntry.chain == chains.c.chain).scalar_subquery()
    signed = select(func.max(AuditCheckpoint.seq)).where(AuditCheckpoint.chain == chains.c.chain).scalar_subquery()
    signed_at = (
        select(AuditCheckpoint.at)
        .where(AuditCheckpoint.chain == chains.c.chain)
        .order_by(AuditCheckpoint.seq.desc(), AuditCheckpoint.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    found = await session.execute(select(chains.c.chain, newest, signed, signed_at))
    return [(row[0], row[1], row[2], row[3]) for row in found]
