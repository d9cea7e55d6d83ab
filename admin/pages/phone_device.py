"""Another device in a phone's place: its MAC address and model, its lines and settings kept."""

from dataclasses import replace

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, SESSION
from admin.pages.form import FORM, form_of, gathered, refuse, refuse_stale, see_other, typed
from admin.pages.phone_new import makers, owner_faults
from admin.render import mac_text, render
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import EngineError, FieldFault
from engine.models import Phone
from engine.provisioning import phones, store, vendors
from engine.provisioning.phones import PhoneFields


async def _phone(request: web.Request) -> Phone:
    return await store.phone_of(request[SESSION], request[ACCOUNT].id, request.match_info["id"])


async def get_device(request: web.Request) -> web.Response:
    return await _device_page(request, None)


async def _device_page(request: web.Request, error: EngineError | None) -> web.Response:
    session, phone = request[SESSION], await _phone(request)
    values = {"mac": mac_text(phone.mac), "model": f"{phone.vendor}/{phone.model}", "anyway": ""}
    lines = [
        await store.line_of(session, phone.account_id, key.line_id) for key in await store.keys_of(session, phone.id)
    ]
    return render(
        request, "phone_device.html.j2", error=error, phone=phone, makers=makers(), lines=lines,
        form=await form_of(request, values, error, kind="phone"),
    )  # fmt: skip


async def post_device(request: web.Request) -> web.Response:
    """Put another device in its place; with the same MAC address the model alone is corrected."""
    request[FORM] = _device_page
    session, phone = request[SESSION], await _phone(request)
    await refuse_stale(request, phone)
    former, entered = phone.mac, await typed(request, "mac")
    vendor, _, model = (await typed(request, "model")).partition("/")
    mac = vendors.parse_mac(entered)
    faults: list[FieldFault] = []
    if mac is not None:
        faults += owner_faults([mac], vendor, anyway=await typed(request, "anyway") == "on")
    now = await PhoneFields.of(session, phone)
    with gathered(faults):
        wished = replace(now, mac=entered, vendor=vendor, model=model)
        await phones.update_phone(session, request[ACTOR], phone, wished)
    refuse(faults)
    return see_other(f"/phones/{phone.id}", "phone-saved" if phone.mac == former else "phone-replaced")


ROUTES = (
    Route("GET", "/phones/{id}/device", get_device, Scope.PHONES_WRITE, Event.FORM_READ),
    Route("POST", "/phones/{id}/device", post_device, Scope.PHONES_WRITE, Event.PHONE_UPDATE),
)
