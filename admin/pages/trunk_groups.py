"""Trunk groups: the form behind the card of Settings."""

from typing import Any

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, SESSION
from admin.pages.form import FORM, form_of, refuse_stale, see_other, typed, whole_number
from admin.render import render
from admin.routes import Route
from engine.accounts import store, store_trunks, trunk_groups
from engine.accounts.scopes import Scope
from engine.accounts.trunk_groups import MAX_TRUNKS, TrunkGroupFields
from engine.audit.events import Event
from engine.errors import EngineError
from engine.models import TrunkGroup


async def get_trunk_group(request: web.Request) -> web.Response:
    return await _group_page(request, None)


async def _group_page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    group = await _group(request) if "id" in request.match_info else None
    chosen = list(group.trunk_ids) if group else []
    values: dict[str, Any] = {"name": group.name if group else ""}
    trunks = sorted(
        await store.trunks_of(session, account.id, limit=500),
        key=lambda trunk: (
            chosen.index(trunk.id) if trunk.id in chosen else MAX_TRUNKS, trunk.last_resort, trunk.priority, trunk.id
        ),
    )  # fmt: skip
    for trunk in trunks:
        values[f"place.{trunk.id}"] = str(chosen.index(trunk.id) + 1) if trunk.id in chosen else ""
    return render(
        request, "trunk_group.html.j2", error=error, group=group, trunks=trunks,
        form=await form_of(request, values, error, labels={f"place.{trunk.id}": trunk.name for trunk in trunks}),
        users=await store_trunks.locations_taking(session, account.id, group.id) if group else [],
    )  # fmt: skip


async def post_trunk_group_new(request: web.Request) -> web.Response:
    request[FORM] = _group_page
    wished = await _fields(request)
    await trunk_groups.create_trunk_group(request[SESSION], request[ACTOR], request[ACCOUNT], wished)
    return see_other("/settings", "group-added", "trunk-groups")


async def post_trunk_group(request: web.Request) -> web.Response:
    request[FORM] = _group_page
    group = await _group(request)
    await refuse_stale(request, group)
    wished = await _fields(request)
    await trunk_groups.update_trunk_group(request[SESSION], request[ACTOR], request[ACCOUNT], group, wished)
    return see_other("/settings", "group-saved", "trunk-groups")


async def post_trunk_group_delete(request: web.Request) -> web.Response:
    request[FORM] = _group_page
    group = await _group(request)
    await refuse_stale(request, group)
    await trunk_groups.delete_trunk_group(request[SESSION], request[ACTOR], request[ACCOUNT], group)
    return see_other("/settings", "group-deleted", "trunk-groups")


async def _group(request: web.Request) -> TrunkGroup:
    return await store.row_of(request[SESSION], TrunkGroup, request[ACCOUNT].id, request.match_info["id"])


async def _fields(request: web.Request) -> TrunkGroupFields:
    """Each trunk with a number is in the group, lowest first; what is no number is refused beside its trunk."""
    places = {}
    for trunk in await store.trunks_of(request[SESSION], request[ACCOUNT].id, limit=500):
        if await typed(request, f"place.{trunk.id}"):
            places[trunk.id] = await whole_number(request, f"place.{trunk.id}", 0)
    ordered = sorted(places, key=lambda trunk_id: (places[trunk_id], trunk_id))
    return TrunkGroupFields(await typed(request, "name"), tuple(ordered))


_READ, _WRITE = Scope.TELEPHONY_READ, Scope.TELEPHONY_WRITE
ROUTES = (
    Route("GET", "/settings/trunk-groups/new", get_trunk_group, _WRITE, Event.FORM_READ),
    Route("POST", "/settings/trunk-groups/new", post_trunk_group_new, _WRITE, Event.TRUNK_GROUP_CREATE),
    Route("GET", "/settings/trunk-groups/{id}", get_trunk_group, _READ, Event.TRUNK_GROUP_READ),
    Route("POST", "/settings/trunk-groups/{id}", post_trunk_group, _WRITE, Event.TRUNK_GROUP_UPDATE),
    Route("POST", "/settings/trunk-groups/{id}/delete", post_trunk_group_delete, _WRITE, Event.TRUNK_GROUP_DELETE),
)
