"""What each phone was last given under each name, its secrets masked, so that the next can be compared with it.

Theory of operation. Nothing of this happens on a phone's request but one entry in a dictionary, when a file is rendered
anew: from which values it was made. The fetch log, after its own commit, tells who was given what by entity tag. A
background task asks the database which of these tags are stored already; a boot storm of phones that change nothing
ends there, with reads alone. For the others it renders the same values once more with the secrets masked, a few at a
time with longer pauses in between, and writes them in groups.
"""

import asyncio
import contextlib
import datetime as dt
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import jinja2
import structlog
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import Database, utc_now
from engine.errors import EngineError
from engine.models import FetchedFile, Phone
from engine.provisioning import preview, proof
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.render import PhoneConfig, Renderer
from engine.provisioning.vendors import FileRule, Profile

MAX_SOURCES = 20_000  # values that a file was made from, about 1 kB each; only until the fetch log has told of them
MAX_MASKED = 512  # masked files kept for the next phone that is given the same bytes
MAX_KNOWN = 50_000
MAX_WAITING = 20_000  # phones
PHONES_IN_A_GROUP = 100
LAST_WORK_S = 2.0
PAUSE_SHARE = 4.0  # of the time a rendering took: phones that wait for an answer have most of the server
_RETRY_S = 2.0
_HANDED = frozenset({FetchKind.FETCH, FetchKind.NOT_MODIFIED})
_log = structlog.get_logger()


class _Source(NamedTuple):
    """What a file was rendered from."""

    profile: Profile
    rule: FileRule
    config: PhoneConfig
    overrides: Mapping[str, str]


class _Made(NamedTuple):
    """A masked file, compressed, and what is proven of its dial plan."""

    body: bytes
    proof: dict[str, Any] | None


class _Given(NamedTuple):
    """A file that a phone was given, or was told that it has."""

    account_id: str
    etag: str
    at: dt.datetime


_Name = tuple[str, str]  # phone id, file name


@dataclass(slots=True)
class LastFetched:
    """`rendered` from a request, `note` from the fetch log, `run` as a background task."""

    database: Database
    renderer: Renderer
    _sources: dict[str, _Source] = field(default_factory=dict)
    _masked: OrderedDict[str, _Made] = field(default_factory=OrderedDict)
    _known: dict[_Name, str] = field(default_factory=dict)
    _waiting: dict[str, dict[str, _Given]] = field(default_factory=dict)  # by phone, then by file
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def rendered(
        self, etag: str, profile: Profile, rule: FileRule, config: PhoneConfig, overrides: Mapping[str, str]
    ) -> None:
        """Remember what the file of that tag was made from. Costs a dictionary entry; never waits, never fails."""
        if len(self._sources) >= MAX_SOURCES:
            del self._sources[next(iter(self._sources))]
        self._sources[etag] = _Source(profile, rule, config, overrides)

    def note(self, fetches: Sequence[Fetch]) -> None:
        """Who was given what; the fetch log has just written it."""
        now = utc_now()
        for fetch in fetches:
            if fetch.phone_id is None or fetch.account_id is None or fetch.etag is None or fetch.method != "GET":
                continue
            if fetch.kind not in _HANDED or self._known.get((fetch.phone_id, fetch.file)) == fetch.etag:
                continue
            if fetch.phone_id in self._waiting or len(self._waiting) < MAX_WAITING:
                self._waiting.setdefault(fetch.phone_id, {})[fetch.file] = _Given(fetch.account_id, fetch.etag, now)
        if self._waiting:
            self._wake.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self.run(), name="last fetched")

    async def stop(self) -> None:
        """End; what is still waiting is written if that takes a moment, else with the phone's next fetch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        with contextlib.suppress(DBAPIError, EngineError, OSError, TimeoutError):
            async with asyncio.timeout(LAST_WORK_S):
                await self.write_waiting()

    async def run(self) -> None:
        """Until cancelled. A database that is away is tried again; what is waiting stays so."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.write_waiting()
            except Exception as exc:  # noqa: BLE001  # a loop that lives as long as the process: log it and go on
                _log.warning("last_fetched.waiting", files=len(self._waiting), error=type(exc).__name__)
                self._wake.set()
                await asyncio.sleep(_RETRY_S)

    async def write_waiting(self) -> None:
        """Store every file that differs from what is stored of that phone and name."""
        while self._waiting:
            phones = list(islice(self._waiting, PHONES_IN_A_GROUP))
            group = {(phone, name): given for phone in phones for name, given in self._waiting[phone].items()}
            stored = await self._stored(phones)
            rows, kept = [], set()
            for name, given in group.items():
                made = None if stored.get(name) == given.etag else await self._made(given.etag)
                if made is not None:
                    rows.append(_row(name, given, made))
                if made is not None or stored.get(name) == given.etag:
                    kept.add(name)
            if rows:
                async with self.database.sessions.begin() as session:
                    await _write(session, rows)
            self._forget(group, kept)

    def _forget(self, group: dict[_Name, _Given], kept: set[_Name]) -> None:
        """They are done, unless the phone was given something newer meanwhile. `kept`: those that are stored now."""
        if len(self._known) + len(group) > MAX_KNOWN:
            self._known.clear()
        for name, given in group.items():
            if name in kept:
                self._known[name] = given.etag
            files = self._waiting[name[0]]
            if files.get(name[1]) == given:
                del files[name[1]]
            if not files:
                del self._waiting[name[0]]

    async def _stored(self, phones: list[str]) -> dict[_Name, str]:
        query = select(FetchedFile.phone_id, FetchedFile.name, FetchedFile.etag).where(FetchedFile.phone_id.in_(phones))
        async with self.database.sessions() as session:
            return {(phone_id, name): etag for phone_id, name, etag in await session.execute(query)}

    async def _made(self, etag: str) -> _Made | None:
        """The masked file of that tag; None when it is no longer known what it was made from."""
        kept = self._masked.get(etag)
        if kept is not None:
            self._masked.move_to_end(etag)
            return kept
        source = self._sources.pop(etag, None)
        if source is None:
            return None
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            config = preview.masked_config(source.config)
            text = self.renderer.drawn(source.profile, source.rule, config, source.overrides)
            proven = proof.of_file(source.profile, source.rule, config, source.overrides, text)
        except (EngineError, ValueError, jinja2.TemplateError) as exc:
            _log.warning("last_fetched.unmasked", file=source.rule.kind, error=type(exc).__name__)
            return None
        self._masked[etag] = made = _Made(zlib.compress(text, 6), proven)
        if len(self._masked) > MAX_MASKED:
            self._masked.popitem(last=False)
        await asyncio.sleep(PAUSE_SHARE * (loop.time() - started))
        return made


def _row(name: _Name, given: _Given, made: _Made) -> dict[str, Any]:
    phone_id, file = name
    return {
        "phone_id": phone_id, "name": file[:100], "account_id": given.account_id, "etag": given.etag,
        "body": made.body, "proof": made.proof, "fetched_at": given.at,
    }  # fmt: skip


async def _write(session: AsyncSession, rows: list[dict[str, Any]]) -> None:
    """Insert or replace; the rows of phones deleted meanwhile are left out."""
    wanted = {row["phone_id"] for row in rows}
    there = set(await session.scalars(select(Phone.id).where(Phone.id.in_(wanted))))
    kept = [row for row in rows if row["phone_id"] in there]
    if not kept:
        return
    dialect = session.get_bind().dialect.name
    insert = postgresql.insert(FetchedFile) if dialect == "postgresql" else sqlite.insert(FetchedFile)
    newer = {name: insert.excluded[name] for name in ("etag", "body", "proof", "fetched_at")}
    await session.execute(insert.on_conflict_do_update(index_elements=["phone_id", "name"], set_=newer), kept)


def text_of(row: FetchedFile) -> str:
    """What stands in a stored file."""
    return zlib.decompress(row.body).decode("utf-8", "replace")
