"""Watches for phones whose 911 calls would carry no address: says so when it begins and when it ends, once each.

Theory of operation. What a phone is served is decided at each rendering, from the rows as they are then
(`location_gate`). Beside that, this task looks at every account whose revision moved, and at those with networks twice
a minute, since where the network sees a phone moves no revision. It notes on the phone's row since when it has no
address (what the alarm list reads) and where the network says it is (what the next rendering reads; a change of that
moves the revision). Each beginning and each end is an audit entry in the same commit. It holds up nobody: a pass reads
in pages, writes in small groups, and a database that is away is tried again.
"""

import asyncio
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import SQLAlchemyError

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.audit.store_outdated import outdate, outdate_since
from engine.db import Database, utc_now
from engine.errors import EngineError
from engine.models import Phone
from engine.provisioning import store, store_gate
from engine.provisioning.location_gate import Networks
from engine.provisioning.store_gate import Candidate, Ground

POLL_S = 2.0  # another process's change; one of this process wakes the task at once
NETWORKS_S = 30.0
GROUP = 50  # phones noted in one transaction: their entries are made on the loop, some 20 ms at a time
SHARE = 0.1  # of the time goes into passes, however fast an import moves the revision ...
LEAST_PAUSE_S, MOST_PAUSE_S = 0.1, 2.0  # ... but an alarm is never late by more than this
_RETRY_S = 2.0
_log = structlog.get_logger()


class LocationAlarms:
    """One for a node. `look` is one pass; `run` passes for ever."""

    def __init__(self, database: Database, *, poll_s: float = POLL_S, networks_s: float = NETWORKS_S) -> None:
        self._database = database
        self._poll_s, self._networks_s = poll_s, networks_s
        self._seen: dict[str, int] = {}
        self._on_networks: set[str] = set()  # accounts in which the network's word decides of a phone
        self._wake = asyncio.Event()
        database.revision_listeners.append(lambda _accounts: self._wake.set())

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away."""
        loop = asyncio.get_running_loop()
        due_at = loop.time() + self._networks_s
        while True:
            self._wake.clear()
            is_due = loop.time() >= due_at
            due_at = loop.time() + self._networks_s if is_due else due_at
            started = loop.time()
            try:
                await self.look(on_networks=is_due)
            except (SQLAlchemyError, OSError, EngineError) as exc:
                _log.warning("location_alarms_wait", error=type(exc).__name__, meaning="looked at again in a moment")
                await asyncio.sleep(_RETRY_S)
                continue
            await asyncio.sleep(min(max(LEAST_PAUSE_S, (loop.time() - started) / SHARE), MOST_PAUSE_S))
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def look(self, *, on_networks: bool = False) -> None:
        """One pass over the accounts that changed; with `on_networks` over those the network's word decides in too."""
        async with self._database.sessions() as session:
            revisions = await store_gate.revisions(session)
        for account_id in self._seen.keys() - revisions.keys():
            del self._seen[account_id]
            self._on_networks.discard(account_id)
        for account_id, revision in revisions.items():
            if self._seen.get(account_id) != revision or (on_networks and account_id in self._on_networks):
                await self._look_at(account_id)
                self._seen[account_id] = revision

    async def _look_at(self, account_id: str) -> None:
        async with self._database.sessions() as session:
            ground = await store_gate.ground_of(session, account_id)
            if ground is None:
                return
            told = await store_gate.told_of(session, account_id)
            revision = await store.revision_of(session, account_id)
            networks = Networks() if ground.is_open else await store_gate.networks_of(session, ground)
        self._on_networks.discard(account_id)
        after, still = "", set[str]()
        while not ground.is_open:
            async with self._database.sessions() as session:
                page = await store_gate.candidates_of(session, ground, after)
                seen_at = await store.revision_of(session, account_id)
            still |= await self._note_page(ground, networks, page, seen_at)
            if len(page) < store_gate.PAGE:
                break
            after = page[-1].at.phone_id
        ended = sorted(told - still)
        for start in range(0, len(ended), GROUP):
            await self._note(account_id, dict.fromkeys(ended[start : start + GROUP]), revision, ends=True)

    async def _note_page(
        self, ground: Ground, networks: Networks, page: Sequence[Candidate], revision: int
    ) -> set[str]:
        """Note what the network says of these phones, and which of them have no address from now on. Returns all that
        have none. `revision`: of the account, when they were read.
        """
        if page and networks:
            self._on_networks.add(ground.account_id)
        places = {each.at.phone_id: networks.locate(each.at) for each in page}
        moved = {
            each.at.phone_id: places[each.at.phone_id]
            for each in page
            if places[each.at.phone_id] != each.network_location_id
            or (places[each.at.phone_id] is None and not each.is_told)
        }
        ids = list(moved)
        for start in range(0, len(ids), GROUP):
            group = {phone_id: moved[phone_id] for phone_id in ids[start : start + GROUP]}
            await self._note(ground.account_id, group, revision, ends=False)
        return {phone_id for phone_id, place in places.items() if place is None}

    async def _note(self, account_id: str, places: dict[str, str | None], revision: int, *, ends: bool) -> None:
        """Write what became of these phones, as far as nobody has written it meanwhile. What a record said of them
        changed at `revision` or before; what the network says changes here.
        """
        by_record, by_network = list[str](), list[str]()
        async with self._database.sessions.begin() as session:
            phones = await store_gate.phones_among(session, account_id, list(places))
            for phone in phones:
                if not ends:
                    if (phone.network_location_id is None) != (places[phone.id] is None):
                        by_network.append(phone.id)
                    phone.network_location_id = places[phone.id]
                if ends and phone.no_location_at is not None:
                    since = phone.no_location_at.isoformat()
                    phone.no_location_at = None
                    by_record.append(phone.id)
                    record(session, SYSTEM, Event.PHONE_LOCATION_FOUND, phone, details={"without_since": since})
                elif not ends and places[phone.id] is None and phone.no_location_at is None:
                    phone.no_location_at = utc_now()
                    by_record.append(phone.id)
                    record(session, SYSTEM, Event.PHONE_LOCATION_MISSING, phone, details={"label": phone.label})
            if by_network:
                await outdate(session, Phone.id.in_(by_network))
            if by_record:
                await session.flush()
                await outdate_since(session, by_record, revision)
