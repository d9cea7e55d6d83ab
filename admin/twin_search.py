"""The search for locations entered twice: beside the database's writer, one at a time, and kept while nothing changes.

Theory of operation. An account may have ten thousand locations and more. They are read in a session that takes no lock,
compared in a thread, and the pairs kept for as long as the account's revision stands, of a few accounts only. Searches
take turns on a node: whoever asks again and again waits behind themselves, and those who wait for the same answer get
it without a search of their own.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from aiohttp import web

from admin.context import ACCOUNT, DATABASE, SESSION
from engine.db import Database
from engine.e911 import store
from engine.e911.location_twins import Twins, twins_of

MAX_KEPT = 32  # accounts; each has at most `location_twins.MAX_PAIRS` pairs


@dataclass(frozen=True, slots=True)
class FoundTwins:
    """Pairs of an account's locations that may be one place, as of that revision."""

    revision: int
    pairs: tuple[Twins, ...]


class TwinSearch:
    """One for a node."""

    def __init__(self) -> None:
        self.searches = 0  # made so far
        self._kept: OrderedDict[str, FoundTwins] = OrderedDict()
        self._turn = asyncio.Lock()

    def kept(self, account_id: str, revision: int) -> FoundTwins | None:
        """What was found at that revision, if it is still known. Searches for nothing."""
        found = self._kept.get(account_id)
        return found if found is not None and found.revision == revision else None

    async def find(self, database: Database, account_id: str) -> FoundTwins:
        """Outside any transaction: it may take a second, and the database has one writer."""
        async with self._turn:
            async with database.sessions() as session:
                revision = await store.revision_of(session, account_id)
                if found := self.kept(account_id, revision):
                    return found
                places = await store.places_of(session, account_id)
            self.searches += 1
            found = FoundTwins(revision, await asyncio.to_thread(twins_of, places))
            self._kept[account_id] = found
            self._kept.move_to_end(account_id)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
            return found


TWINS: web.AppKey[TwinSearch] = web.AppKey("twins", TwinSearch)


async def find_twins(request: web.Request) -> FoundTwins:
    """A route's `prepare` step."""
    return await request.app[TWINS].find(request.app[DATABASE], request[ACCOUNT].id)


async def number_kept(request: web.Request) -> int | None:
    """How many pairs there are, when that is known; None: nobody looked since the account changed."""
    account_id = request[ACCOUNT].id
    found = request.app[TWINS].kept(account_id, await store.revision_of(request[SESSION], account_id))
    return None if found is None else len(found.pairs)
