"""Accounts, for platform operators: finding one, acting for it, leaving it."""

from aiohttp import web

from admin import auth
from admin.context import ACCOUNT, ACTOR, BROWSER, HOME, RESOURCE, SESSION, USER
from admin.pages.entry import own_address
from admin.pages.form import see_other, typed
from admin.render import render
from admin.routes import SIGNED_IN, Route
from engine.accounts import operators, store
from engine.accounts.operators import NotYourAccount
from engine.audit.events import Event
from engine.errors import NotFound

SHOWN = 100


async def get_accounts(request: web.Request) -> web.Response:
    if not operators.is_operators(request[HOME]):
        raise NotFound("Platform operators choose an account here; you have your own.")
    name = request.query.get("name", "").strip()[:200]
    rows = await store.accounts_after(request[SESSION], name=name, limit=SHOWN + 1)
    return render(request, "accounts.html.j2", rows=rows[:SHOWN], has_more=len(rows) > SHOWN, shown=SHOWN, name=name)


async def post_enter(request: web.Request) -> web.Response:
    """Act for an account in this browser from now on, and go to `next`; each act stands in that account's log."""
    _operators_alone(request)
    account_id = request.match_info["id"]
    request[RESOURCE] = ("account", account_id if store.is_id(account_id) else "", "")
    actor = auth.own_actor(request, request[USER])
    await operators.enter_account(request[SESSION], actor, request[BROWSER], request[HOME], account_id)
    return see_other(own_address(await typed(request, "next") or "/"), "account-entered")


async def post_leave(request: web.Request) -> web.Response:
    _operators_alone(request)
    await operators.leave_account(request[SESSION], request[ACTOR], request[BROWSER], request[ACCOUNT])
    return see_other("/accounts", "account-left")


def _operators_alone(request: web.Request) -> None:
    """Refuse whoever is no platform operator in a browser.

    Raises:
        NotYourAccount
    """
    if request.get(BROWSER) is None or not operators.is_operators(request[HOME]):
        raise NotYourAccount


ROUTES = (
    Route("GET", "/accounts", get_accounts, SIGNED_IN, Event.ACCOUNT_LIST),
    Route("POST", "/accounts/{id}/enter", post_enter, SIGNED_IN, Event.OPERATOR_ENTER),
    Route("POST", "/accounts/leave", post_leave, SIGNED_IN, Event.OPERATOR_LEAVE),
)
