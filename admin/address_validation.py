"""Asking the validator of an address: before the transaction that notes its answer, for the API and the pages."""

from aiohttp import web

from admin.context import ACCOUNT, DATABASE, VALIDATOR
from engine.accounts.store import row_of
from engine.db import utc_now
from engine.e911 import held_store
from engine.e911.validation import Verdict, ask_validator
from engine.errors import Conflict
from engine.models import Location


class NobodyAsked:
    """A person gave the verdict."""


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
    if location is None:
        raise Conflict("This location has neither an address nor coordinates: give it an address, then validate it.")
    return await ask_validator(request.app[VALIDATOR], location, version=version, now=utc_now())
