"""Asking the validator of an address: before the transaction that notes its answer, for the API and the pages."""

from dataclasses import dataclass

from aiohttp import web

from admin.context import ACCOUNT, DATABASE, VALIDATOR
from engine.accounts.store import row_of
from engine.db import utc_now
from engine.e911 import held_store, store
from engine.e911.civic import DispatchableLocation
from engine.e911.lost import LostAway
from engine.e911.validation import Verdict, ask_validator
from engine.errors import Conflict
from engine.models import Location


class NobodyAsked:
    """A person gave the verdict."""


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of a test. `is_ok`: the validator answered, whatever it said of the address."""

    is_ok: bool
    words: str


async def validator_asked(request: web.Request) -> Verdict:
    """What the configured validator says of the location that the path names.

    Raises:
        NotFound: there is no such location. Conflict: none is configured, or there is no address. LostAway: it does
        not answer.
    """
    async with request.app[DATABASE].sessions() as session:
        row = await row_of(session, Location, request[ACCOUNT].id, request.match_info["id"])
        location = await held_store.current_location(session, row.account_id, row.id)
        version = row.version
        client = await request.app[VALIDATOR].client(session)
    if location is None:
        raise Conflict("This location has neither an address nor coordinates: give it an address, then validate it.")
    return await ask_validator(client, location, version=version, now=utc_now())


async def validator_tested(request: web.Request) -> Tested:
    """Ask of the account's first location that has an address; nothing is stored with it."""
    async with request.app[DATABASE].sessions() as session:
        client = await request.app[VALIDATOR].client(session)
        found: DispatchableLocation | None = None
        for row in await store.locations_of(session, request[ACCOUNT].id):
            found = await held_store.current_location(session, row.account_id, row.id)
            if found is not None and found.civic_address.elements:
                break
            found = None
    if found is None:
        raise Conflict("No location has an address to ask of. Give one an address, then test again.")
    try:
        verdict = await ask_validator(client, found, version=0, now=utc_now())
    except LostAway as exc:
        return Tested(False, exc.detail)
    return Tested(True, f"{found.name}: {verdict.told['words']}")
