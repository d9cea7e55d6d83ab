"""Phones: the list, adding one, and one phone's page with its lines, files and boot timeline."""

from dataclasses import replace

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from admin import phone_preview
from admin.api.phones import Resynced, send_resync
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, INDEX, SESSION
from admin.field_words import PLACEMENTS
from admin.pages import lines
from admin.pages.form import FORM, form_of, gathered, refuse, refuse_stale, see_other, typed
from admin.phone_names import model_name
from admin.place_field import place_typed, places
from admin.render import render
from admin.routes import Route
from admin.setting_words import effective_rows
from engine.accounts import store as accounts
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import record
from engine.e911 import store as e911
from engine.e911 import whereabouts
from engine.errors import EngineError, FieldFault
from engine.models import ConfirmedLocation, Line, Phone
from engine.provisioning import functionkeys, phones, store, store_boots, vendors
from engine.provisioning.phones import PhoneFields

BOOTS_SHOWN = 8


async def get_phone(request: web.Request) -> web.Response:
    return await _phone_page(request, None)


async def _phone_page(request: web.Request, error: EngineError | None) -> web.Response:
    session = request[SESSION]
    phone = await _phone(request)
    record = await request.app[INDEX].phone(phone.id)
    confirmed = await e911.confirmed_of_phone(session, phone)
    choices = await places(request, phone.location_id, *(one.location_id for one in confirmed))
    values = {"label": phone.label, "location_id": choices.shown(phone.location_id), "place_id": "", "network": ""}
    values["placement"] = phone.placement or ""
    form = await form_of(request, values, error, kind="phone")
    return render(
        request,
        "phone.html.j2",
        error=error,
        phone=phone,
        form=form,
        lines=await _lines_on(session, phone),
        pbxs={row.id: row for row in await accounts.pbxs_of(session, phone.account_id)},
        boots=(await store_boots.boots_of(session, phone.account_id, phone.id))[:BOOTS_SHOWN],
        files=await phone_preview.against_fetched(request, record),
        book=await phone_preview.phonebook_of(request, record),
        settings_rows=effective_rows(record) if record is not None else [],
        keys=functionkeys.read(list((record.settings.get(functionkeys.SETTING) if record is not None else None) or ())),
        profile=vendors.known().profiles.get(phone.vendor),
        places=choices,
        placements=PLACEMENTS,
        sighting=await e911.sighting_of(session, phone),
        confirmed=confirmed,
    )


async def post_phone(request: web.Request) -> web.Response:
    request[FORM] = _phone_page
    phone = await _phone(request)
    await refuse_stale(request, phone)
    wished = replace(
        await PhoneFields.of(request[SESSION], phone),
        label=await typed(request, "label"),
        location_id=await place_typed(request, "location_id"),
        placement=await typed(request, "placement") or None,
    )
    await phones.update_phone(request[SESSION], request[ACTOR], phone, wished)
    return see_other(f"/phones/{phone.id}", "phone-saved")


async def post_confirmed(request: web.Request) -> web.Response:
    """Say where the phone is on a network: for people who take it home."""
    request[FORM] = _phone_page
    phone = await _phone(request)
    values = {
        "phone_id": phone.id,
        "location_id": await place_typed(request, "place_id") or "",
        "network": await typed(request, "network"),
    }
    faults: list[FieldFault] = []
    with gathered(faults):
        await whereabouts.create_confirmed(request[SESSION], request[ACTOR], request[ACCOUNT], values)
    refuse([FieldFault("place_id", fault.detail) if fault.field == "location_id" else fault for fault in faults])
    return see_other(f"/phones/{phone.id}", "confirmed-added", "where")


async def post_confirmed_delete(request: web.Request) -> web.Response:
    confirmed = await accounts.row_of(
        request[SESSION], ConfirmedLocation, request[ACCOUNT].id, request.match_info["id"]
    )
    phone_id = confirmed.phone_id
    await whereabouts.delete_confirmed(request[SESSION], request[ACTOR], confirmed)
    return see_other(f"/phones/{phone_id}" if phone_id else "/phones", "confirmed-deleted", "where")


async def post_phone_delete(request: web.Request) -> web.Response:
    request[FORM] = _phone_page
    phone = await _phone(request)
    await refuse_stale(request, phone)
    await phones.delete_phone(request[SESSION], request[ACTOR], phone)
    return see_other("/phones", "phone-deleted")


async def post_resync(request: web.Request) -> web.Response:
    """Ask the phone to fetch its files again, through the PBX or straight, as its PBX says."""
    request[FORM] = _phone_page
    phone = await _phone(request)
    prepared(request, Resynced)  # sent before the transaction; raises why it could not be
    record(request[SESSION], request[ACTOR], Event.PHONE_RESYNC, phone)
    return see_other(f"/phones/{phone.id}", "resync")


async def _phone(request: web.Request) -> Phone:
    return await store.phone_of(request[SESSION], request[ACCOUNT].id, request.match_info["id"])


async def _lines_on(session: AsyncSession, phone: Phone) -> list[Line]:
    """The lines on the phone's keys, first key first."""
    return [
        await store.line_of(session, phone.account_id, key.line_id) for key in await store.keys_of(session, phone.id)
    ]


async def pbx_choices(request: web.Request) -> list[tuple[str, str]]:
    return [(row.id, row.name) for row in await accounts.pbxs_of(request[SESSION], request[ACCOUNT].id)]


def model_choices() -> list[tuple[str, str]]:
    """Every model that can be served: `vendor/model` and its name."""
    return [
        (f"{profile.name}/{model.name}", model_name(profile.name, model.name))
        for profile in vendors.known().profiles.values()
        for model in profile.models.values()
    ]


ROUTES = (
    Route("GET", "/phones/{id}", get_phone, Scope.PHONES_READ, Event.PHONE_READ),
    Route("POST", "/phones/{id}", post_phone, Scope.PHONES_WRITE, Event.PHONE_UPDATE),
    Route("POST", "/phones/{id}/delete", post_phone_delete, Scope.PHONES_WRITE, Event.PHONE_DELETE),
    Route("POST", "/phones/{id}/confirmed", post_confirmed, Scope.LOCATIONS_WRITE, Event.CONFIRMED_LOCATION_CREATE),
    Route(
        "POST",
        "/confirmed-locations/{id}/delete",
        post_confirmed_delete,
        Scope.LOCATIONS_WRITE,
        Event.CONFIRMED_LOCATION_DELETE,
    ),
    Route("POST", "/phones/{id}/resync", post_resync, Scope.PHONES_WRITE, Event.PHONE_RESYNC, prepare=send_resync),
    *lines.ROUTES,
)
