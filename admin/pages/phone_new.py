"""Adding phones: by MAC address, typed or scanned, one or a pile of the same model."""

from collections.abc import Sequence

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, SESSION
from admin.pages.form import FORM, form_of, gathered, refuse, see_other, typed
from admin.pages.lines import typed_line
from admin.pages.phones import pbx_choices
from admin.phone_names import model_name
from admin.place_field import place_typed, places
from admin.render import mac_text, render
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import parts_of, record
from engine.errors import EngineError, FieldFault
from engine.ids import new_id
from engine.provisioning import phones, softphones, store_phones, vendors
from engine.provisioning.mac_entry import MAX_AT_ONCE, Entered, entered, owners_of
from engine.provisioning.phones import PhoneFields
from engine.provisioning.vendors import Mac

_NAMES = (
    "mac", "model", "label", "location_id", "extension", "display_name", "sip_user", "secret", "callback_number",
    "pbx_id", "anyway",
)  # fmt: skip


async def get_phone_new(request: web.Request) -> web.Response:
    return await _new_page(request, None)


async def _new_page(request: web.Request, error: EngineError | None) -> web.Response:
    told = {name: request.query.get(name, "")[:100] for name in ("mac", "model")}  # by a link of the fetch log
    form = await form_of(request, dict.fromkeys(_NAMES, "") | told, error)
    macs = entered(form.value("mac")).macs[:MAX_AT_ONCE] if error is not None else ()
    return render(
        request, "phone_new.html.j2", error=error, form=form,
        makers=makers(), most=MAX_AT_ONCE,
        there=await store_phones.phones_with_macs(request[SESSION], request[ACCOUNT].id, macs) if macs else [],
        places=await places(request), pbxs=await pbx_choices(request),
    )  # fmt: skip


def makers() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """For a menu: each vendor's title, its address blocks parted by spaces, and its models."""
    return [
        (
            profile.title,
            " ".join(sorted(profile.ouis)),
            [(f"{profile.name}/{model}", model_name(profile.name, model)) for model in profile.models],
        )
        for profile in vendors.known().profiles.values()
    ]


async def post_phone_new(request: web.Request) -> web.Response:
    """Add one phone with its first line, or several of one model at one place, in one transaction."""
    request[FORM] = _new_page
    session, actor, account = request[SESSION], request[ACTOR], request[ACCOUNT]
    vendor, _, model = (await typed(request, "model")).partition("/")
    found = entered(await typed(request, "mac"))
    if not found.macs and not found.strange and softphones.is_application(vendor):
        found = Entered((softphones.device_address(),), ())  # an application has no address of its own
    faults = _entry_faults(found.macs, found.strange)
    faults += await _there_already(request, found.macs)
    faults += owner_faults(found.macs, vendor, anyway=await typed(request, "anyway") == "on")
    label = await typed(request, "label")
    lines: tuple[str, ...] = ()
    if await typed(request, "extension"):
        if len(found.macs) > 1:
            told = "One line goes on one phone: leave it empty here, or import a table with a line for each."
            faults.append(FieldFault("extension", told))
        with gathered(faults):
            wished_line = await typed_line(request, has_location=False)
            lines = ((await phones.create_line(session, actor, account, wished_line)).id,)
    place = await place_typed(request, "location_id")
    is_pile = len(found.macs) > 1
    wished = [
        PhoneFields(mac, vendor, model, f"{label} {number}" if label and is_pile else label, place, lines=lines)
        for number, mac in enumerate(found.macs, 1)
    ]
    if faults:  # an address that is refused, so that every other fault is told as well
        wished = [PhoneFields("000000000000", vendor, model, label, place, lines=lines)]
    refuse_later: list[FieldFault] = []
    made = []
    bulk_id = new_id("request")
    if is_pile and not faults:
        details = {"action": "add", "phones": len(wished)}
        record(session, actor, Event.PHONE_CHANGE_MANY, resource=("phone", bulk_id, "many"), details=details)
    with parts_of(session, bulk_id if is_pile else None):
        for one in wished:
            with gathered(refuse_later):
                made.append(await phones.create_phone(session, actor, account, one))
    told_already = {"mac", "vendor", "model"} if not vendor else {"mac"}
    faults += [fault for fault in refuse_later if fault.field not in told_already]
    refuse(list(dict.fromkeys(faults)))
    if is_pile:
        return see_other("/phones?sort=-made", "phones-added")
    return see_other(f"/phones/{made[0].id}", "phone-added")


def _entry_faults(macs: Sequence[Mac], strange: Sequence[str]) -> list[FieldFault]:
    faults = [
        FieldFault("mac", f"Expected a MAC address such as 80:5e:c0:12:34:56, got {text!r}.") for text in strange[:10]
    ]
    if not macs and not strange:
        faults.append(FieldFault("mac", "Type or scan the MAC address from the phone's label."))
    if len(macs) > MAX_AT_ONCE:
        told = f"At most {MAX_AT_ONCE} phones are added here at once, got {len(macs)}. Import a table instead."
        faults.append(FieldFault("mac", told))
    return faults


async def _there_already(request: web.Request, macs: Sequence[Mac]) -> list[FieldFault]:
    rows = await store_phones.phones_with_macs(request[SESSION], request[ACCOUNT].id, macs[:MAX_AT_ONCE])
    return [
        FieldFault("mac", f"{mac_text(row.mac)} is a phone of this account already: {row.label or row.model}.")
        for row in rows
    ]


def owner_faults(macs: Sequence[Mac], vendor: str, *, anyway: bool) -> list[FieldFault]:
    """A model is needed; and an address of another vendor's block is a typing error more often than not."""
    owners = owners_of(macs)
    titles = {name: profile.title for name, profile in vendors.known().profiles.items()}
    if not vendor:
        known = sorted({titles[name] for names in owners.values() for name in names})
        guess = (
            f" By {'their addresses' if len(macs) > 1 else 'its address'} it is a {' or '.join(known)}."
            if known
            else ""
        )
        return [FieldFault("model", f"Choose the model.{guess}")]
    others = [mac for mac, names in owners.items() if names and vendor not in names]
    if not others or anyway:
        return []
    first = others[0]
    whose = " or ".join(titles[name] for name in owners[first])
    told = (
        f"{mac_text(first)} is from an address block of {whose}, and the model is another vendor's. Correct one of "
        "them, or tick the box to add it all the same."
    )
    return [FieldFault("anyway", told)]


ROUTES = (
    Route("GET", "/phones/new", get_phone_new, Scope.PHONES_WRITE, Event.FORM_READ),
    Route("POST", "/phones/new", post_phone_new, Scope.PHONES_WRITE, Event.PHONE_CREATE),
)
