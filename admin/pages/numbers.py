"""Settings, Callback numbers: the numbers a PSAP can call back, and whether each location's pool will do."""

from typing import Any

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, SESSION
from admin.pages.form import FORM, form_of, gathered, lines_typed, refuse, refuse_stale, see_other, typed, whole_number
from admin.place_field import place_typed, places
from admin.render import render
from admin.routes import Route
from engine.accounts import operations
from engine.accounts.operations import AccountFields
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.db import utc_now
from engine.e911 import callback_numbers, store, store_names
from engine.errors import EngineError, FieldFault, NotFound
from engine.models import NumberKind

SHOWN = 500  # rows; the API lists the rest


async def get_numbers(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    values: dict[str, Any] = {"numbers": [], "kind": NumberKind.ELIN.value, "location_id": "", "extension": ""}
    values |= {"elin_hold_minutes": account.elin_hold_minutes}
    form = await form_of(request, values, error)
    choices = await places(request)
    numbers = await store.numbers_of(session, account.id)
    line_ids = {number.line_id for number in numbers[:SHOWN] if number.line_id}
    now = utc_now()
    pools = await callback_numbers.pools_of(session, account, now)
    places_held = [pool.location_id for pool in pools] + [number.location_id for number in numbers[:SHOWN]]
    named = [location_id for location_id in places_held if location_id]
    return render(
        request, "numbers.html.j2", error=error, form=form,
        places=choices, location_names=await store_names.location_names(session, account.id, named),
        extensions=await store.extensions_of(session, account.id, line_ids),
        numbers=numbers[:SHOWN], more=max(0, len(numbers) - SHOWN),
        pools=pools,
        is_held=lambda number: callback_numbers.is_held(number, now),
    )  # fmt: skip


async def post_numbers(request: web.Request) -> web.Response:
    """Add what was typed: a number or a run of them on each line, all for the same."""
    request[FORM] = _page
    session, account = request[SESSION], request[ACCOUNT]
    faults: list[FieldFault] = []
    shared = {"kind": await typed(request, "kind"), "location_id": await place_typed(request, "location_id")}
    extension = await typed(request, "extension")
    if extension:
        lines = await store.lines_called(session, account.id, [extension])
        shared["line_id"] = lines[0].id if len(lines) == 1 else None
        if len(lines) != 1:
            faults.append(FieldFault("extension", f"Expected the extension of one line, got {extension!r}."))
    entries = await lines_typed(request, "numbers")
    if not entries:
        faults.append(FieldFault("numbers", "Expected a number such as +12125550100, or a run of them."))
    for entry in entries:
        found: list[FieldFault] = []
        with gathered(found):
            if ".." in entry:
                values = {name: value for name, value in shared.items() if name != "line_id" or value}
                await callback_numbers.create_range(session, request[ACTOR], account, values | {"range": entry})
            else:
                await callback_numbers.create_number(session, request[ACTOR], account, shared | {"e164": entry})
        faults += [_shown(fault) for fault in found if _shown(fault) not in faults]
    refuse(faults)
    return see_other("/settings/numbers", "numbers-added")


def _shown(fault: FieldFault) -> FieldFault:
    """A fault beside the field of this form."""
    names = {"e164": "numbers", "range": "numbers", "line_id": "extension"}
    return FieldFault(names.get(fault.field, fault.field), fault.detail)


async def post_number_delete(request: web.Request) -> web.Response:
    request[FORM] = _page
    number = await store.number_by_id(request[SESSION], request[ACCOUNT].id, request.match_info["id"])
    if number is None:
        raise NotFound("This number was removed already.")
    await callback_numbers.delete_number(request[SESSION], request[ACTOR], number)
    return see_other("/settings/numbers", "number-deleted")


async def post_hold(request: web.Request) -> web.Response:
    """How long a call keeps its number for callbacks."""
    request[FORM] = _page
    account = request[ACCOUNT]
    await refuse_stale(request, account)
    minutes = await whole_number(request, "elin_hold_minutes", 180)
    fields = {name: getattr(AccountFields.of(account), name) for name in AccountFields.__dataclass_fields__}
    wished = AccountFields(**fields | {"elin_hold_minutes": minutes})
    await operations.update_account(request[SESSION], request[ACTOR], account, wished)
    return see_other("/settings/numbers", "account")


_READ, _WRITE = Scope.TELEPHONY_READ, Scope.TELEPHONY_WRITE
ROUTES = (
    Route("GET", "/settings/numbers", get_numbers, _READ, Event.NUMBER_LIST),
    Route("POST", "/settings/numbers", post_numbers, _WRITE, Event.NUMBER_CREATE),
    Route("POST", "/settings/numbers/hold", post_hold, Scope.ACCOUNT_WRITE, Event.ACCOUNT_UPDATE),
    Route("POST", "/settings/numbers/{id}/delete", post_number_delete, _WRITE, Event.NUMBER_DELETE),
)
