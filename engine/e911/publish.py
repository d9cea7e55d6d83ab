"""Keeps the snapshots on disk in step with the database, account by account, and tells the edge of each new one.

A commit of this process wakes it at once; a change by another process (the command line) is seen within 250 ms
through SQLite's `PRAGMA data_version`, which costs microseconds. While the database is away the last snapshots stay and
calls go on. A snapshot is dropped only for an account that this process has seen in the database before: a database
that was lost and made anew takes no location from the edge. An account that cannot be published keeps its last
snapshot and holds up no other.

Sightings move no revision: the edge is told of each at once, and keeps them beside its table. They are written at the
next ordinary publishing, and otherwise once a minute, or less often where writing takes long.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.crypto import KeyRing
from engine.db import Database
from engine.e911 import snapshot, store

POLL_S = 0.25
PAUSE_AFTER_FAULT_S = 1.0
SIGHTINGS_S = 60.0
SIGHTINGS_SHARE = 0.05  # of a core at most goes into writing sightings of one large account after the other
_NEVER = datetime.min.replace(tzinfo=UTC)
_log = structlog.get_logger()


class SnapshotPublisher:
    """Publishes what changed. `on_published` and `on_dropped` are told the account after the file is durable."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        directory: Path,
        *,
        on_published: Callable[[str], None],
        on_dropped: Callable[[str], None],
    ) -> None:
        self.fault = ""  # why nothing can be published now; empty when all is well
        self._database = database
        self._keys = keys
        self._directory = directory
        self._on_published = on_published
        self._on_dropped = on_dropped
        self._unread: dict[str, tuple[str, ...]] = {}  # by account, where there is any
        self._published: dict[str, int] = {}
        self._sighted: dict[str, datetime] = {}  # the latest sighting that each account's snapshot holds
        self.sightings_due_at = time.monotonic() + SIGHTINGS_S  # not before that, unless the table changes
        self._wake = asyncio.Event()
        self._watch: sqlite3.Connection | None = None
        self._seen_version = -1
        database.revision_listeners.append(lambda _accounts: self._wake.set())

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away."""
        while True:
            try:
                if self._wake.is_set() or self._has_changed():
                    self._wake.clear()
                    self._keys.read_again()  # what another process committed may be sealed with a new key
                    await self.publish_changed()
                if time.monotonic() >= self.sightings_due_at:
                    await self.publish_sighted()
                self.fault = ""
            except (SQLAlchemyError, sqlite3.Error, OSError) as exc:
                self.fault = (
                    f"{type(exc).__name__}: the location table cannot be brought up to date; calls use the last one"
                )
                _log.warning("snapshot_not_published", error=type(exc).__name__)
                self._wake.set()
                self._close_watch()
                await asyncio.sleep(PAUSE_AFTER_FAULT_S)
            await self._wait()

    async def publish_changed(self) -> None:
        """Write a snapshot for every account whose revision moved since the last one, and drop those that are gone."""
        async with self._database.sessions() as session:
            revisions = await store.revisions(session)
        for account_id in self._published.keys() - revisions.keys():
            del self._published[account_id]
            self._sighted.pop(account_id, None)
            self._unread.pop(account_id, None)
            await asyncio.to_thread(snapshot.drop, self._directory, account_id)
            self._on_dropped(account_id)
        changed = [each for each, revision in revisions.items() if self._published.get(each) != revision]
        await self._publish_all(changed)

    def unread_of(self, account_id: str) -> tuple[str, ...]:
        """What of the account no call can go by since it cannot be read, a sentence each; () when all is well."""
        return self._unread.get(account_id, ())

    async def is_current(self) -> bool:
        """Whether every account's newest revision has been published."""
        async with self._database.sessions() as session:
            return await store.revisions(session) == self._published

    async def publish_sighted(self) -> None:
        """Write a snapshot for every account of which a phone was seen since the last one."""
        started = time.monotonic()
        async with self._database.sessions() as session:
            latest = await store.latest_sightings(session)
        moved = [
            account_id
            for account_id, seen_at in latest.items()
            if account_id in self._published and seen_at > self._sighted.get(account_id, _NEVER)
        ]
        await self._publish_all(moved)
        took = time.monotonic() - started
        self.sightings_due_at = time.monotonic() + max(SIGHTINGS_S, took / SIGHTINGS_SHARE)

    async def _publish_all(self, account_ids: Iterable[str]) -> None:
        """Each of them, whatever becomes of the others; raises the last error of the database or the disk."""
        away: SQLAlchemyError | sqlite3.Error | OSError | None = None
        for account_id in account_ids:
            try:
                await self._publish(account_id)
            except (SQLAlchemyError, sqlite3.Error, OSError) as exc:
                away = exc
            except Exception as exc:  # noqa: BLE001 - one account's rows must not keep all others from being published
                self._note_unread(account_id, (f"The account as a whole, and so its last table is used: {exc!r:.200}",))
        if away is not None:
            raise away

    async def _publish(self, account_id: str) -> None:
        async with self._database.sessions() as session:
            data = await store.account_snapshot(session, account_id)
        if data is None:
            return
        unread = await asyncio.to_thread(snapshot.save, self._directory, data, self._keys)
        self._note_unread(account_id, unread)
        self._published[account_id] = int(data["revision"])
        seen = [row["seen_at"] for row in data.get("sightings") or ()]
        if seen:
            self._sighted[account_id] = datetime.fromisoformat(max(seen))
        self._on_published(account_id)

    def _note_unread(self, account_id: str, unread: tuple[str, ...]) -> None:
        if unread == self.unread_of(account_id):
            return
        self._unread[account_id] = unread
        for detail in unread:
            _log.error("row_unread", account_id=account_id, detail=detail, meaning="911 calls go without it")

    def close(self) -> None:
        self._close_watch()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):  # wait_for can lose a cancellation on Python 3.11
                await self._wake.wait()
        except TimeoutError:
            return

    def _has_changed(self) -> bool:
        """Whether any other connection committed since the last look. Without SQLite, always worth a look."""
        path = self._database.sqlite_path
        if path is None:
            return True
        if self._watch is None:
            self._watch = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            self._seen_version = -1
        version = int(self._watch.execute("PRAGMA data_version").fetchone()[0])
        changed = version != self._seen_version
        self._seen_version = version
        return changed

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
