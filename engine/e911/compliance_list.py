"""The per-device report as a list: pages of it, all of it for a file, and how many devices have which verdict.

Theory of operation. No column holds a verdict: each row is judged when it is shown, from the rows of this moment. So a
page without a filter is one step through an index. How many there are of each verdict, and where they stand, only a
walk through all of them can tell: it goes on in the background, a few at a time with longer pauses in between, and is
kept for a while. A filter takes its candidates from that walk when there is one, judges them anew, and shows those that
still fit; without one it looks through some hundred devices at a time and says where to go on.
"""

import asyncio
import datetime as dt
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import Database, batched, utc_now
from engine.e911 import store_compliance
from engine.e911.compliance import Row, Station, row_of
from engine.e911.store_compliance import Basis, Place, place_of
from engine.errors import EngineError
from engine.models import Account

GROUP = 200  # devices read at once
JUDGED = 50  # of them without a pause: some 8 ms in which nobody else has the loop
LOOKED = 200  # devices that a filter without a count looks through for one page
PAUSE_SHARE = 4.0  # of the time a group took
FRESH = dt.timedelta(minutes=5)
MAX_KEPT = 4  # counts of accounts; one of 100,000 devices takes some 30 MB
NO_LOCATION = "none"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Filters:
    """`verdict`: of the row; `location`: the id of the location that would be sent, or `none`; `phone`: that phone
    alone. Empty: any.
    """

    verdict: str = ""
    location: str = ""
    phone: str = ""

    @property
    def is_any(self) -> bool:
        return not (self.verdict or self.location or self.phone)

    def fits(self, row: Row) -> bool:
        return self.verdict in {"", row.verdict} and self.location in {"", _where(row)}


@dataclass(frozen=True, slots=True)
class Page:
    """`following`: where the next page begins; None: this was the last. One of a filter may be short, and not last."""

    rows: Sequence[Row]
    following: Place | None


@dataclass(slots=True)
class Count:
    """A walk through all devices of an account. `marks`: place, verdict and location of each, in the list's order."""

    revision: int
    at: dt.datetime
    is_whole: bool = False
    verdicts: Counter[str] = field(default_factory=Counter)
    paragraphs: dict[str, Counter[str]] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)
    marks: list[tuple[Place, str, str]] = field(default_factory=list)

    @property
    def devices(self) -> int:
        return len(self.marks)

    def add(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.verdicts[row.verdict.value] += 1
            for name in ("direct_dialing", "notification", "location"):
                self.paragraphs.setdefault(name, Counter())[getattr(row, name).verdict.value] += 1
            self.marks.append((place_of(row.station), row.verdict.value, _where(row)))
            self.places.append(str(self.marks[-1][0]))

    def after(self, filters: Filters, after: Place | None, limit: int) -> list[Place] | None:
        """The places behind `after` that fitted when they were counted; None: `after` was not there."""
        try:
            begin = self.places.index(str(after)) + 1 if after is not None else 0
        except ValueError:
            return None
        found: list[Place] = []
        for place, verdict, location in self.marks[begin:]:
            if filters.verdict in {"", verdict} and filters.location in {"", location}:
                found.append(place)
                if len(found) == limit:
                    break
        return found


def _where(row: Row) -> str:
    location = row.told.resolved.location
    return location.id if location is not None and location.id else NO_LOCATION


# --- pages and files --------------------------------------------------------------------------------------------------


async def page(
    session: AsyncSession,
    basis: Basis,
    filters: Filters,
    *,
    after: Place | None,
    limit: int,
    count: Count | None = None,
) -> Page:
    """The next devices that fit, each judged now. Those of one phone are one page."""
    if filters.phone:
        return Page(await _of_phone(session, basis, filters), None)
    if filters.is_any:
        rows = await _judged(session, basis, after, limit + 1)
        return Page(rows[:limit], place_of(rows[limit - 1].station) if len(rows) > limit else None)
    places = count.after(filters, after, limit + 1) if count is not None and count.is_whole else None
    if places is not None:
        stations = await store_compliance.stations_at(session, basis.account_id, places[:limit], basis.applications)
        rows = [row for row in await _rows(session, basis, stations) if filters.fits(row)]
        return Page(rows, places[limit - 1] if len(places) > limit else None)
    return await _looked_for(session, basis, filters, after, limit)


async def _of_phone(session: AsyncSession, basis: Basis, filters: Filters) -> list[Row]:
    stations = await store_compliance.stations_of_phone(session, basis.account_id, filters.phone, basis.applications)
    if not stations:
        return []
    return [row for row in await _rows(session, basis, stations) if filters.fits(row)]


async def _looked_for(session: AsyncSession, basis: Basis, filters: Filters, after: Place | None, limit: int) -> Page:
    found: list[Row] = []
    for _ in range(LOOKED // GROUP):
        rows = await _judged(session, basis, after, GROUP)
        for row in rows:
            after = place_of(row.station)
            if filters.fits(row):
                found.append(row)
                if len(found) == limit:
                    return Page(found, after)
        if len(rows) < GROUP:
            return Page(found, None)
    return Page(found, after)


async def all_rows(
    database: Database, basis: Basis, filters: Filters, *, pause_share: float = 0.0
) -> AsyncIterator[list[Row]]:
    """Every device that fits, in groups; each group is read by itself."""
    if filters.phone:
        async with database.sessions() as session:
            yield await _of_phone(session, basis, filters)
        return
    loop = asyncio.get_running_loop()
    after: Place | None = None
    while True:
        begun = loop.time()
        async with database.sessions() as session:
            rows = await _judged(session, basis, after, GROUP)
        if rows:
            after = place_of(rows[-1].station)
            if fitting := [row for row in rows if filters.fits(row)]:
                yield fitting
        if len(rows) < GROUP:
            return
        await asyncio.sleep(pause_share * (loop.time() - begun))


async def _judged(session: AsyncSession, basis: Basis, after: Place | None, limit: int) -> list[Row]:
    stations = await store_compliance.stations_after(session, basis.account_id, after, limit, basis.applications)
    if not stations:
        return []
    return await _rows(session, basis, stations)


async def _rows(session: AsyncSession, basis: Basis, stations: Sequence[Station]) -> list[Row]:
    ground = await store_compliance.ground_for(session, basis, stations)
    rows: list[Row] = []
    for group in batched(stations, JUDGED):
        await asyncio.sleep(0)
        rows += [row_of(station, ground) for station in group]
    return rows


# --- how many there are -----------------------------------------------------------------------------------------------


class Counts:
    """The walks of this process, one at a time for an account, kept for those looked at last."""

    def __init__(self, database: Database, applications: Collection[str] = ()) -> None:
        self.applications = applications
        self._database = database
        self._kept: OrderedDict[str, Count] = OrderedDict()
        self._walks: dict[str, tuple[Count, asyncio.Task[None]]] = {}

    def kept(self, account_id: str) -> Count | None:
        """The last whole count of that account."""
        found = self._kept.get(account_id)
        if found is not None:
            self._kept.move_to_end(account_id)
        return found

    def going_on(self, account_id: str) -> Count | None:
        """The count under way; it grows."""
        found = self._walks.get(account_id)
        return found[0] if found is not None else None

    def want(self, account: Account, revision: int, *, may_mail: bool) -> None:
        """Begin a count unless one is under way, or the last one is fresh."""
        last = self._kept.get(account.id)
        is_fresh = last is not None and last.revision == revision and utc_now() - last.at < FRESH
        if is_fresh or account.id in self._walks:
            return
        count = Count(revision, utc_now())
        walk = self._walk(account.id, count, may_mail=may_mail)
        self._walks[account.id] = (count, asyncio.create_task(walk, name="report count"))

    async def whole(self, account_id: str) -> Count | None:
        """The count, once the one under way has ended."""
        if (under_way := self._walks.get(account_id)) is not None:
            await asyncio.shield(under_way[1])
        return self.kept(account_id)

    async def close(self) -> None:
        walks = [task for _count, task in self._walks.values()]
        for task in walks:
            task.cancel()
        await asyncio.gather(*walks, return_exceptions=True)

    async def _walk(self, account_id: str, count: Count, *, may_mail: bool) -> None:
        try:
            async with self._database.sessions() as session:
                account = await session.get(Account, account_id)
                if account is None:
                    return
                basis = await store_compliance.basis_of(
                    session, account, may_mail=may_mail, applications=self.applications
                )
            async for rows in all_rows(self._database, basis, Filters(), pause_share=PAUSE_SHARE):
                count.add(rows)
            count.is_whole = True
            self._kept[account_id] = count
            self._kept.move_to_end(account_id)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        except (SQLAlchemyError, OSError, EngineError) as exc:
            _log.warning("report_count_waits", error=type(exc).__name__, meaning="begun anew when the report is opened")
        finally:
            self._walks.pop(account_id, None)
