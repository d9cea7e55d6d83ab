"""Dry runs of a change over an account's whole fleet: in a process of their own, with progress, ended at will.

Theory of operation. The server reads phones a few at a time and lets everybody else run in between; what is rendered
and compared is rendered in a worker process at the lowest priority (`engine.provisioning.fleet`), so that no phone's
fetch waits for it. Two batches are under way at once: one is examined while the next is read. What it found lives in
memory: a dry run is a question, not a record, and is asked again after a restart. How far it is and its numbers stand
in the database (`engine.provisioning.runs`), so that any node can tell them, and end it.
"""

import asyncio
import contextlib
import datetime as dt
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import Row, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import Database, utc_now
from engine.errors import Conflict, EngineError, NotFound
from engine.ids import new_id
from engine.models import Phone, SettingsLevel
from engine.provisioning import fleet, merge, runs, settings, store_rollouts
from engine.provisioning.fleet import Change, ChangeKind, Finding, Outcome, Subject
from engine.provisioning.index import Index
from engine.provisioning.merge import Level, Source, SourceKind
from engine.provisioning.preview import Difference
from engine.provisioning.runs import RunKind

BATCH = 100  # phones handed to the worker at once: about a third of a second of its work
SLICE_S = 0.005  # the server reads phones for this long, then lets everybody else run
READ_AT_ONCE = 10  # phones that are asked for at once
UNDER_WAY = 2
MAX_RUNS = 20  # kept in memory, of all accounts
MAX_GROUPS = 60
MAX_LISTED = 200  # failing phones told by name; the others are counted
SAMPLE = 12  # phones named for each group
NICENESS = 10
LAST_WORD_S = 3.0
_NUMBERS = ("total", "done", "unchanged", "changed", "failing", "failed_before")
_log = structlog.get_logger()

MakeExecutor = Callable[[Change, str], Executor]


class DryRunState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(slots=True)
class Group:
    """Phones on which the same lines change. `phones`: the first of them; `differences`: those of the first."""

    likeness: str
    differences: Mapping[str, Difference]
    count: int = 0
    phones: list[Finding] = field(default_factory=list)
    models: set[str] = field(default_factory=set)

    @property
    def added(self) -> int:
        return sum(found.added for found in self.differences.values())

    @property
    def removed(self) -> int:
        return sum(found.removed for found in self.differences.values())


@dataclass(slots=True)
class DryRun:
    """One dry run: how far it is, and what it found so far. `fault`: why it ended early."""

    id: str
    account_id: str
    change: Change
    asked_by: str
    started_at: dt.datetime
    state: DryRunState = DryRunState.RUNNING
    total: int = 0
    done: int = 0
    unchanged: int = 0
    changed: int = 0
    failing: int = 0
    failed_before: int = 0
    groups: dict[str, Group] = field(default_factory=dict)
    other_groups: set[str] = field(default_factory=set)
    failures: list[Finding] = field(default_factory=list)
    ended_at: dt.datetime | None = None
    fault: str = ""
    task: asyncio.Task[None] | None = None
    node: str = ""  # another node that runs it, and alone knows which phones differ in what

    @property
    def largest_first(self) -> list[Group]:
        return sorted(self.groups.values(), key=lambda group: -group.count)

    def told(self) -> runs.Told:
        """What every node may know."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        about = {"kind": self.change.kind.value, "target": self.change.target, "after": self.change.after}
        return runs.Told(self.state.value, about | numbers | {"fault": self.fault, "asked_by": self.asked_by})

    def add(self, findings: Sequence[Finding]) -> None:
        for found in findings:
            self.done += 1
            if found.outcome is Outcome.UNCHANGED:
                self.unchanged += 1
            elif found.outcome is Outcome.CHANGED:
                self.changed += 1
                self._group(found)
            else:
                self._failed(found)

    def _group(self, found: Finding) -> None:
        group = self.groups.get(found.likeness)
        if group is None:
            if len(self.groups) >= MAX_GROUPS:
                self.other_groups.add(found.likeness)
                return
            group = self.groups[found.likeness] = Group(found.likeness, found.differences)
        group.count += 1
        group.models.add(f"{found.vendor} {found.model}")
        if len(group.phones) < SAMPLE:
            group.phones.append(found)

    def _failed(self, found: Finding) -> None:
        if found.outcome is Outcome.FAILS:
            self.failing += 1
        else:
            self.failed_before += 1
        if len(self.failures) < MAX_LISTED or found.outcome is Outcome.FAILS:
            self.failures.append(found)
            self.failures.sort(key=lambda one: one.outcome is not Outcome.FAILS)
            del self.failures[MAX_LISTED:]


class DryRuns:
    """Every dry run of this process. Made once; `close` ends those that still run."""

    def __init__(self, database: Database, index: Index, *, make_executor: MakeExecutor | None = None) -> None:
        self._database, self._index = database, index
        self._make_executor = make_executor or worker_process
        self._runs: dict[str, DryRun] = {}
        self._following: set[asyncio.Task[None]] = set()
        self.longest_slice_s = 0.0  # how long the server was kept from everything else at once

    def start(self, account_id: str, change: Change, *, provisioning_url: str, asked_by: str) -> DryRun:
        """Begin; the result grows in what is returned.

        Raises:
            Conflict: the account has one under way.
        """
        if any(run.state is DryRunState.RUNNING and run.account_id == account_id for run in self._runs.values()):
            raise Conflict("A dry run of this account is under way. Wait for it or cancel it.")
        while len(self._runs) >= MAX_RUNS:
            ended = next((run.id for run in self._runs.values() if run.state is not DryRunState.RUNNING), None)
            if ended is None:
                raise Conflict("Too many dry runs are under way. Try again in a minute.")
            del self._runs[ended]
        run = DryRun(new_id("dryrun"), account_id, change, asked_by, utc_now())
        self._runs[run.id] = run
        run.task = asyncio.create_task(self._run(run, provisioning_url), name="dry run")
        following = runs.follow(
            self._database, run.id, account_id, RunKind.DRY_RUN, run.told, on_cancel=run.task.cancel
        )  # fmt: skip
        self._following.add(task := asyncio.create_task(following, name="dry run's row"))
        task.add_done_callback(self._following.discard)
        return run

    async def get(self, session: AsyncSession, account_id: str, run_id: str) -> DryRun:
        """The run, with everything it found when this process runs it, else with its numbers alone.

        Raises:
            NotFound: this account has none of that id, or it is too long ago.
        """
        run = self._runs.get(run_id)
        if run is not None and run.account_id == account_id:
            return run
        seen = await runs.seen(session, account_id, RunKind.DRY_RUN, run_id, utc_now())
        if seen is None:
            raise NotFound("There is no such dry run. They are kept for some days; start it again.")
        return _elsewhere(account_id, seen)

    async def cancel(self, session: AsyncSession, run: DryRun) -> None:
        """End it; what it found so far stays. Another node's ends within some seconds."""
        if run.node:
            await runs.ask_to_end(session, run.id)
        else:
            await self._end(run)

    async def _end(self, run: DryRun) -> None:
        if run.task is not None and run.state is DryRunState.RUNNING:
            run.task.cancel()
            await asyncio.gather(run.task, return_exceptions=True)

    async def close(self) -> None:
        for run in list(self._runs.values()):
            await self._end(run)
        if self._following:  # each says once more how its run ended
            await asyncio.wait(self._following, timeout=LAST_WORD_S)
        for task in list(self._following):
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)

    async def _run(self, run: DryRun, provisioning_url: str) -> None:
        executor = self._make_executor(run.change, provisioning_url)
        try:
            await self._examine_all(run, executor)
            run.state = DryRunState.DONE
        except asyncio.CancelledError:
            run.state = DryRunState.CANCELLED
            raise
        except (EngineError, DBAPIError, OSError, BrokenProcessPool) as exc:
            run.state, run.fault = DryRunState.FAILED, _fault(exc)
            _log.warning("dry_run.failed", error=type(exc).__name__)
        except Exception as exc:  # noqa: BLE001  # a page waits for an answer, whatever went wrong
            run.state, run.fault = DryRunState.FAILED, _fault(exc)
            _log.exception("dry_run.failed")
        finally:
            run.ended_at = utc_now()
            executor.shutdown(wait=False, cancel_futures=True)

    async def _examine_all(self, run: DryRun, executor: Executor) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(_warm, executor)
        async with self._database.sessions() as session:
            run.total = await store_rollouts.count_affected(session, run.account_id, run.change)
            reader = await reader_of(session, self._index, run.account_id, run.change)
        under_way: list[Awaitable[list[Finding]]] = []
        async with contextlib.aclosing(self._batches(reader, run)) as batches:
            async for batch in batches:
                under_way.append(loop.run_in_executor(executor, fleet.examine_in_worker, batch))
                if len(under_way) >= UNDER_WAY:
                    run.add(await under_way.pop(0))
            for waiting in under_way:
                run.add(await waiting)
        run.total = run.done  # phones come and go while they are read

    async def _batches(self, reader: "Reader", run: DryRun) -> AsyncGenerator[list[Subject], None]:
        last = ""
        while True:
            async with self._database.sessions() as session:
                phones = await _phones(session, run.account_id, run.change, after=last)
            if not phones:
                return
            last = phones[-1].id
            batch: list[Subject] = []
            started = time.perf_counter()
            for at in range(0, len(phones), READ_AT_ONCE):
                batch += await reader.subjects(phones[at : at + READ_AT_ONCE])
                took = time.perf_counter() - started
                if took >= SLICE_S:
                    self.longest_slice_s = max(self.longest_slice_s, took)
                    await asyncio.sleep(0)
                    started = time.perf_counter()
            if batch:
                yield batch


def _elsewhere(account_id: str, seen: runs.Seen) -> DryRun:
    """A run of another node, or of one that has ended, as far as its row tells."""
    facts = seen.facts
    change = Change(ChangeKind(facts["kind"]), str(facts["target"]), facts.get("after"))
    run = DryRun(seen.id, account_id, change, str(facts.get("asked_by", "")), seen.started_at, DryRunState(seen.state))
    for name in _NUMBERS:
        setattr(run, name, int(facts.get(name, 0)))
    run.node, run.ended_at, run.fault = seen.node, seen.ended_at, str(facts.get("fault", ""))
    if seen.is_lost:
        run.state = DryRunState.FAILED
        run.fault = f"The node that ran it, {seen.node}, has stopped. Nothing was changed; start it again."
    return run


def _fault(error: Exception) -> str:
    if isinstance(error, BrokenProcessPool):
        return "The process that renders ended unexpectedly. Nothing was changed; try again."
    if isinstance(error, EngineError):
        return str(error)
    return "The dry run ended with an error; the log has the details. Nothing was changed."


# --- What is read -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reader:
    """Phones as they are served now, and as they would be."""

    index: Index
    account_id: str
    change: Change
    levels: Sequence[Level]
    in_canary: frozenset[str]
    _overrides: dict[str, tuple[Mapping[str, str], Mapping[str, str]]] = field(default_factory=dict)

    async def subjects(self, phones: "Sequence[Row[Any] | Phone]") -> list[Subject]:
        """In their order, without those that are gone."""
        found = await self.index.phones([phone.id for phone in phones])
        return [await self._subject(found[phone.id], phone) for phone in phones if phone.id in found]

    async def _subject(self, before: settings.PhoneRecord, phone: "Row[Any] | Phone") -> Subject:
        old, new = await self._overrides_of(before.vendor, phone.id)
        return Subject(before, self._changed(before, phone), old, new)

    async def _overrides_of(self, vendor: str, phone_id: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """One object for all phones of a vendor, so that a batch carries each text once."""
        key = phone_id if phone_id in self.in_canary else ""
        found = self._overrides.get(f"{vendor}/{key}")
        if found is None:
            old = await self.index.overrides(self.account_id, vendor, key)
            new = old
            if self.change.kind is ChangeKind.TEMPLATE and self.change.vendor == vendor:
                rest = {name: text for name, text in old.items() if name != self.change.name}
                new = rest if self.change.after is None else {**rest, self.change.name: self.change.after}
            found = self._overrides[f"{vendor}/{key}"] = (old, new)
        return found

    def _changed(self, before: settings.PhoneRecord, phone: "Row[Any] | Phone") -> settings.PhoneRecord:
        if self.change.kind is not ChangeKind.SETTINGS:
            return before
        names = merge.names_for(before.vendor, before.model, phone.location_id)
        after = settings.effective(merge.applying(self.levels, names), phone.settings or {})
        account = before.account
        if self.change.target == merge.ACCOUNT_NAME:
            shared = merge.applying(self.levels, (merge.GLOBAL_NAME, merge.ACCOUNT_NAME))
            account = replace(account, settings=settings.effective(shared, {}).values)
        return replace(before, account=account, settings=after.values, sources=before.sources)


async def reader_of(session: AsyncSession, index: Index, account_id: str, change: Change) -> Reader:
    """Reads phones as that change would have them."""
    levels = _with(await _levels(session, account_id), change)
    return Reader(index, account_id, change, levels, await store_rollouts.in_canary(session, account_id))


async def _phones(session: AsyncSession, account_id: str, change: Change, *, after: str) -> Sequence[Row[Any]]:
    query = (
        select(Phone.id, Phone.location_id, Phone.settings)
        .where(*store_rollouts.affected(account_id, change), Phone.id > after)
        .order_by(Phone.id)
        .limit(BATCH)
    )
    return (await session.execute(query)).all()


async def _levels(session: AsyncSession, account_id: str) -> list[Level]:
    whose = (SettingsLevel.account_id == account_id) | SettingsLevel.account_id.is_(None)
    rows = await session.scalars(select(SettingsLevel).where(whose))
    return [Level(Source(SourceKind(row.kind), row.id, row.name), row.settings, row.name) for row in rows]


def _with(levels: Sequence[Level], change: Change) -> Sequence[Level]:
    """The levels as they would be."""
    if change.kind is not ChangeKind.SETTINGS:
        return levels
    source = Source(merge.kind_of(change.target), "", change.target)
    changed = Level(source, change.after, change.target) if change.after is not None else None
    return merge.with_changed(levels, changed, change.target)


# --- The worker's process ---------------------------------------------------------------------------------------------


def worker_process(change: Change, provisioning_url: str) -> Executor:
    """One process for one dry run, started by itself and not by a fork: a fork would copy the server's sockets."""
    return ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(change, provisioning_url, os.getpid()),
    )


def _warm(executor: Executor) -> None:
    """Start the process from a thread: starting one takes longer than the server may stand still."""
    executor.submit(os.getpid).result()


def _begin(change: Change, provisioning_url: str, server: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends us
    os.nice(NICENESS)
    threading.Thread(target=_end_with, args=(server,), daemon=True).start()
    fleet.prepare_worker(change, provisioning_url)


def _end_with(server: int) -> None:
    """A server that was killed cannot tell us to end."""
    while os.getppid() == server:
        time.sleep(1)
    os._exit(0)
