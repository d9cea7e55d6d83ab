"""PBXs and trunks: the forms behind the two cards of Settings."""

from dataclasses import asdict, replace
from typing import Any

from aiohttp import web

from admin.api.telephony import carrier_labels, carrier_profiles, refuse_unknown_profile
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.pages.form import FORM, form_of, lines_typed, refuse_stale, see_other, typed, whole_number
from admin.place_field import place_typed, places
from admin.render import render
from admin.routes import Route
from engine.accounts import operations, store
from engine.accounts.operations import PbxFields, TrunkFields
from engine.accounts.scopes import Scope
from engine.accounts.telephony import trunk_warnings
from engine.audit.events import Event
from engine.errors import EngineError
from engine.models import Pbx, Trunk
from engine.provisioning import store_alarms
from engine.provisioning.alarms import AlarmKind

# ------------------------------------------------------------------------------------------ PBXs


async def get_pbx(request: web.Request) -> web.Response:
    return await _pbx_page(request, None)


async def _pbx_page(request: web.Request, error: EngineError | None) -> web.Response:
    pbx = await _pbx(request) if "id" in request.match_info else None
    values: dict[str, Any] = asdict(PbxFields.of(pbx) if pbx else PbxFields(""))
    values["secret"] = ""  # never on a page
    choices = await places(request, values["default_location_id"])
    values["default_location_id"] = choices.shown(values["default_location_id"])
    form = await form_of(request, values, error, kind="pbx")
    return render(
        request, "pbx.html.j2", error=error, pbx=pbx, form=form,
        places=choices,
        nowhere=await _registering_nowhere(request, pbx),
    )  # fmt: skip


async def _registering_nowhere(request: web.Request, pbx: Pbx | None) -> int:
    """Phones whose lines' PBX has no registrar host, where that may be this one's fault."""
    if pbx is None or pbx.registrar_host:
        return 0
    counts = await store_alarms.alarm_counts(request[SESSION], request[ACCOUNT].id)
    return counts.get(AlarmKind.NO_REGISTRAR, 0)


async def post_pbx_new(request: web.Request) -> web.Response:
    request[FORM] = _pbx_page
    wished = await _pbx_fields(request, PbxFields(""))
    await operations.create_pbx(request[SESSION], request[ACTOR], request[ACCOUNT], wished)
    return see_other("/settings", "pbx-added" if wished.registrar_host else "pbx-no-registrar", "pbxs")


async def post_pbx(request: web.Request) -> web.Response:
    pbx = await _pbx_of_form(request)
    wished = await _pbx_fields(request, PbxFields.of(pbx))
    await operations.update_pbx(request[SESSION], request[ACTOR], request[ACCOUNT], pbx, wished)
    return see_other("/settings", "pbx-saved" if wished.registrar_host else "pbx-no-registrar", "pbxs")


async def post_pbx_delete(request: web.Request) -> web.Response:
    pbx = await _pbx_of_form(request)
    await operations.delete_pbx(request[SESSION], request[ACTOR], pbx)
    return see_other("/settings", "pbx-deleted", "pbxs")


async def _pbx_of_form(request: web.Request) -> Pbx:
    """The PBX a form is about, as its sender saw it; refused, its page shows what was typed."""
    request[FORM] = _pbx_page
    pbx = await _pbx(request)
    await refuse_stale(request, pbx)
    return pbx


async def _pbx(request: web.Request) -> Pbx:
    return await store.pbx_by_id(request[SESSION], request[ACCOUNT].id, request.match_info["id"])


async def _pbx_fields(request: web.Request, present: PbxFields) -> PbxFields:
    auth_user = await typed(request, "auth_user")
    return PbxFields(
        name=await typed(request, "name"),
        sources=tuple(await lines_typed(request, "sources")),
        tls_name=await typed(request, "tls_name"),
        auth_user=auth_user,
        secret=await _secret(request, present.secret if auth_user else None),
        registrar_host=await typed(request, "registrar_host"),
        registrar_port=await whole_number(request, "registrar_port", 5060),
        transport=await typed(request, "transport"),
        default_location_id=await place_typed(request, "default_location_id"),
        default_route=await typed(request, "default_route") or None,
        resync_via=await typed(request, "resync_via"),
    )


async def _secret(request: web.Request, present: str | None) -> str | None:
    """The password as typed; left empty, it stays as it is. White space is part of it."""
    text = (await request.post()).get("secret", "")
    return text if isinstance(text, str) and text else present


# ------------------------------------------------------------------------------------------ trunks


async def get_trunk(request: web.Request) -> web.Response:
    return await _trunk_page(request, None)


async def _trunk_page(request: web.Request, error: EngineError | None) -> web.Response:
    trunk = await _trunk(request) if "id" in request.match_info else None
    values: dict[str, Any] = asdict(TrunkFields.of(trunk) if trunk else TrunkFields("", ""))
    values["secret"] = ""  # never on a page
    form = await form_of(request, values, error, kind="trunk")
    kept = () if trunk is None or trunk.profile in carrier_profiles() else (trunk.profile,)
    return render(
        request, "trunk.html.j2", error=error, trunk=trunk, form=form,
        profiles=[*carrier_labels().items(), *((name, name) for name in kept)],
        warnings=trunk_warnings(trunk) if trunk else [],
    )  # fmt: skip


async def post_trunk_new(request: web.Request) -> web.Response:
    request[FORM] = _trunk_page
    wished = await _trunk_fields(request, TrunkFields("", ""))
    trunk = await operations.create_trunk(request[SESSION], request[ACTOR], request[ACCOUNT], wished)
    return _saved(trunk, "trunk-added")


def _saved(trunk: Trunk, done: str) -> web.Response:
    """Back to the list; to the trunk's own page where something is still wrong with it."""
    if trunk_warnings(trunk):
        return see_other(f"/settings/trunks/{trunk.id}", done)
    return see_other("/settings", done, "trunks")


async def post_trunk(request: web.Request) -> web.Response:
    trunk = await _trunk_of_form(request)
    wished = await _trunk_fields(request, TrunkFields.of(trunk))
    await operations.update_trunk(request[SESSION], request[ACTOR], request[ACCOUNT], trunk, wished)
    return _saved(trunk, "trunk-saved")


async def post_trunk_delete(request: web.Request) -> web.Response:
    trunk = await _trunk_of_form(request)
    await operations.delete_trunk(request[SESSION], request[ACTOR], trunk)
    return see_other("/settings", "trunk-deleted", "trunks")


async def _trunk_of_form(request: web.Request) -> Trunk:
    """The trunk a form is about, as its sender saw it; refused, its page shows what was typed."""
    request[FORM] = _trunk_page
    trunk = await _trunk(request)
    await refuse_stale(request, trunk)
    return trunk


async def _trunk(request: web.Request) -> Trunk:
    return await store.trunk_by_id(request[SESSION], request[ACCOUNT].id, request.match_info["id"])


async def _trunk_fields(request: web.Request, present: TrunkFields) -> TrunkFields:
    """The form over what is there."""
    profile, auth_user = await typed(request, "profile"), await typed(request, "auth_user")
    if profile != present.profile:
        refuse_unknown_profile(request, profile)
    return replace(
        present,
        name=await typed(request, "name"),
        host=await typed(request, "host"),
        port=await whole_number(request, "port", 5060),
        priority=await whole_number(request, "priority", 10),
        transport=await typed(request, "transport"),
        auth_user=auth_user,
        secret=await _secret(request, present.secret if auth_user else None),
        profile=profile,
        location_mode=await typed(request, "location_mode"),
        test_number=await typed(request, "test_number") or None,
        last_resort=await typed(request, "last_resort") == "on",
        enabled=await typed(request, "enabled") == "on",
        pings=await typed(request, "pings") == "on",
    )


_READ, _WRITE = Scope.TELEPHONY_READ, Scope.TELEPHONY_WRITE
ROUTES = (
    Route("GET", "/settings/pbxs/new", get_pbx, _WRITE, Event.FORM_READ),
    Route("POST", "/settings/pbxs/new", post_pbx_new, _WRITE, Event.PBX_CREATE),
    Route("GET", "/settings/pbxs/{id}", get_pbx, _READ, Event.PBX_READ),
    Route("POST", "/settings/pbxs/{id}", post_pbx, _WRITE, Event.PBX_UPDATE),
    Route("POST", "/settings/pbxs/{id}/delete", post_pbx_delete, _WRITE, Event.PBX_DELETE),
    Route("GET", "/settings/trunks/new", get_trunk, _WRITE, Event.FORM_READ),
    Route("POST", "/settings/trunks/new", post_trunk_new, _WRITE, Event.TRUNK_CREATE),
    Route("GET", "/settings/trunks/{id}", get_trunk, _READ, Event.TRUNK_READ),
    Route("POST", "/settings/trunks/{id}", post_trunk, _WRITE, Event.TRUNK_UPDATE),
    Route("POST", "/settings/trunks/{id}/delete", post_trunk_delete, _WRITE, Event.TRUNK_DELETE),
)
