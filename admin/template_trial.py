"""Trying an account's template before the transaction of a request is open."""

from aiohttp import web

from admin.context import ACCOUNT, DATABASE, INDEX
from engine.accounts.store import row_of
from engine.models import Rollout
from engine.provisioning import trial
from engine.provisioning.overrides import Examined


async def tried(request: web.Request, vendor: str, name: str, body: str | None) -> Examined:
    """What comes of that text (None: the shipped one), beside the account's other templates, on made-up phones and some
    of the account's.
    """
    return await trial.tried(request.app[DATABASE], request.app[INDEX], request[ACCOUNT].id, vendor, name, body)


async def try_publication(request: web.Request) -> Examined:
    """What comes of the template of the roll-out that the request would publish. Raises NotFound: there is none."""
    async with request.app[DATABASE].sessions() as session:
        row = await row_of(session, Rollout, request[ACCOUNT].id, request.match_info["id"])
    return await trial.tried_rollout(request.app[DATABASE], request.app[INDEX], row)
