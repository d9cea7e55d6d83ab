"""The whole lists behind three cards of Settings, which shows the first of each: recipients, PBXs, trunks."""

from aiohttp import web

from admin.context import ACCOUNT, SESSION
from admin.render import render
from admin.routes import Route
from engine.accounts import store as accounts
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import store as e911
from engine.models import Account, Trunk

IN_CARD = 20  # in the card of Settings
IN_LIST = 250  # on a page of their own
READ = 500


async def trunks_in_order(request: web.Request, account: Account) -> list[Trunk]:
    """The account's trunks as they are tried where no group is named."""
    found = await accounts.trunks_of(request[SESSION], account.id, limit=READ)
    return sorted(found, key=lambda trunk: (trunk.last_resort, trunk.priority))


async def get_recipients(request: web.Request) -> web.Response:
    rows = await e911.recipients_of(request[SESSION], request[ACCOUNT].id)
    return render(request, "setting_list.html.j2", kind="recipients", rows=rows[:IN_LIST], count=len(rows))


async def get_pbxs(request: web.Request) -> web.Response:
    rows = await accounts.pbxs_of(request[SESSION], request[ACCOUNT].id, limit=READ)
    return render(request, "setting_list.html.j2", kind="pbxs", rows=rows[:IN_LIST], count=len(rows))


async def get_trunks(request: web.Request) -> web.Response:
    rows = await trunks_in_order(request, request[ACCOUNT])
    return render(request, "setting_list.html.j2", kind="trunks", rows=rows[:IN_LIST], count=len(rows))


ROUTES = (
    Route("GET", "/settings/recipients", get_recipients, Scope.ACCOUNT_READ, Event.RECIPIENT_LIST),
    Route("GET", "/settings/pbxs", get_pbxs, Scope.TELEPHONY_READ, Event.PBX_LIST),
    Route("GET", "/settings/trunks", get_trunks, Scope.TELEPHONY_READ, Event.TRUNK_LIST),
)
