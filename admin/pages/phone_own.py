"""One phone's own: its settings, its function keys, release from quarantine, and what opens or fills it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import segno
from aiohttp import web
from markupsafe import Markup

from admin import merged_form, phone_preview
from admin.context import ACCOUNT, ACTOR, INDEX, SESSION
from admin.links import provisioning_url
from admin.pages.form import FORM, Form, Post, form_of, refuse, refuse_stale, see_other, shown_of, typed
from admin.pages.levels import options_of, typed_form, typed_value
from admin.render import render
from admin.routes import Route
from admin.setting_words import value_text, words_of
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import Conflict, EngineError, FieldFault, Stale
from engine.models import Phone
from engine.provisioning import functionkeys, phones, quarantine, settings, softphones, store, vendors
from engine.provisioning.functionkeys import SETTING, KeyKind
from engine.provisioning.phones import PhoneFields
from engine.provisioning.settings import CHECKS, DEFAULTS

DEFAULT = "default"  # in a form: what more general levels say does not count here
EMPTY_ROWS = 5
_COLUMNS = ("position", "kind", "value", "label", "line")


async def _phone(request: web.Request) -> Phone:
    return await store.phone_of(request[SESSION], request[ACCOUNT].id, request.match_info["id"])


# --- its own settings -------------------------------------------------------------------------------------------------


async def get_own_settings(request: web.Request) -> web.Response:
    return await _settings_page(request, None)


async def _settings_page(request: web.Request, error: EngineError | None) -> web.Response:
    phone = await _phone(request)
    names = [name for name in CHECKS if name != SETTING]  # function keys have a page of their own
    form = await form_of(request, {f"settings.{name}": typed_form(name, phone.settings) for name in names}, error)
    record = await request.app[INDEX].phone(phone.id)
    counts = record.settings if record is not None else {}
    shown = [
        {
            "name": f"settings.{name}",
            "words": words_of(name),
            "options": options_of(name),
            "counts": value_text(name, counts.get(name, DEFAULTS.get(name))),
        }
        for name in names
    ]
    return render(request, "phone_own_settings.html.j2", error=error, phone=phone, form=form, shown=shown)


async def post_own_settings(request: web.Request) -> web.Response:
    request[FORM] = _settings_page
    phone = await _phone(request)
    await refuse_stale(request, phone)
    own = {SETTING: phone.settings[SETTING]} if SETTING in phone.settings else {}
    for name in CHECKS:
        value = await typed_value(request, name) if name != SETTING else None
        if value is not None:
            own[name] = None if value == DEFAULT else value
    wished = replace(await PhoneFields.of(request[SESSION], phone), settings=own)
    await phones.update_phone(request[SESSION], request[ACTOR], phone, wished)
    return see_other(f"/phones/{phone.id}", "phone-saved", "effective")


# --- function keys ----------------------------------------------------------------------------------------------------


async def get_keys(request: web.Request) -> web.Response:
    return await _keys_page(request, None)


async def _keys_page(request: web.Request, error: EngineError | None) -> web.Response:
    phone = await _phone(request)
    record = await request.app[INDEX].phone(phone.id)
    inherited = (record.settings.get(SETTING) or ()) if record is not None and SETTING not in phone.settings else ()
    rows = _rows_of(phone.settings.get(SETTING) or ())
    form = await _keys_form(request, rows, error)
    rows = [*rows, *({} for _more in range(len(form.values) // len(_COLUMNS) - len(rows)))]
    profile = vendors.known().profiles.get(phone.vendor)
    model = profile.model(phone.model) if profile is not None else None
    kinds = [kind for kind in KeyKind if profile is None or kind is KeyKind.NONE or kind in profile.key_kinds]
    return render(
        request, "phone_keys.html.j2", error=error, phone=phone, form=form,
        rows=range(len(rows)), kinds=[(kind.value, _KIND_WORDS[kind]) for kind in kinds],
        most=model.keys if model is not None else 0, inherited=functionkeys.read(list(inherited)),
        kind_words={kind.value: words for kind, words in _KIND_WORDS.items()},
    )  # fmt: skip


_KIND_WORDS = {
    KeyKind.BLF: "Busy lamp (BLF)", KeyKind.SPEED_DIAL: "Speed dial", KeyKind.PARK: "Park", KeyKind.PICKUP: "Pick up",
    KeyKind.INTERCOM: "Intercom", KeyKind.DTMF: "Send digits", KeyKind.NONE: "Empty key",
}  # fmt: skip


async def _keys_form(request: web.Request, rows: Sequence[Mapping[str, str]], error: EngineError | None) -> Form:
    """The form of these rows. After somebody else's change keys are brought together key by key, not row by row: a key
    that was put in before the others moves every row behind it.
    """
    shown = await shown_of(request)
    if not isinstance(error, Stale) or shown is None:
        return await form_of(request, _cells(rows), error)
    sent = [row for row in _rows_sent(await request.post()) if row["position"] or row["value"]]
    before, typed_keys, now = (_as_entries(each) for each in (_rows_shown(shown), sent, rows))
    found = merged_form.merge({"keys": before}, {"keys": typed_keys}, {"keys": now})
    entries = found.values["keys"]
    assert isinstance(entries, list)
    merged = [dict(zip(_COLUMNS, json.loads(entry), strict=True)) for entry in entries]
    again = _cells(merged + [dict.fromkeys(_COLUMNS, "")] * EMPTY_ROWS)
    detail = f"{error.detail} {_KEYS_MERGED}" if now != before else error.detail
    return Form(again, detail, shown=merged_form.packed(_cells(rows)))


_KEYS_MERGED = (
    "Their keys and yours both stand here now; where a key stands twice, keep one of the two. Nothing was saved yet: "
    "look it over, then save once more."
)


def _cells(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    return {f"{column}.{at}": row[column] for at, row in enumerate(rows) for column in _COLUMNS}


def _rows_shown(shown: Mapping[str, merged_form.Held]) -> list[dict[str, str]]:
    count = sum(name.startswith("position.") for name in shown)
    return [{column: str(shown.get(f"{column}.{at}", "")) for column in _COLUMNS} for at in range(count)]


def _rows_sent(post: Post) -> list[dict[str, str]]:
    """The rows as they were sent, up to the first that is not there."""
    rows = []
    for at in range(functionkeys.MAX_KEYS + EMPTY_ROWS):
        if f"position.{at}" not in post:
            break
        rows.append({column: str(post.get(f"{column}.{at}", "")).strip() for column in _COLUMNS})
    return rows


def _as_entries(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Each key as one text, so that a list of keys is merged entry by entry."""
    return [json.dumps([row[column] for column in _COLUMNS]) for row in rows if row["position"] or row["value"]]


def _rows_of(stored: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows of the form: the keys there are, then empty ones."""
    rows = [{column: str(key.get(column, "")) for column in _COLUMNS} for key in stored]
    return rows + [dict.fromkeys(_COLUMNS, "")] * EMPTY_ROWS


async def post_keys(request: web.Request) -> web.Response:
    """A row without a position is left out; no row at all: the phone has no keys of its own."""
    request[FORM] = _keys_page
    phone = await _phone(request)
    await refuse_stale(request, phone)
    keys: list[dict[str, Any]] = []
    places: list[int] = []
    for at, row in enumerate(_rows_sent(await request.post())):
        if row["position"] or row["value"]:
            keys.append(_key_typed(row))
            places.append(at)
    refuse([_placed(fault, places) for fault in _key_faults(phone, keys, await _lines_on(request, phone))])
    own = {name: value for name, value in phone.settings.items() if name != SETTING}
    wished = replace(await PhoneFields.of(request[SESSION], phone), settings=own | ({SETTING: keys} if keys else {}))
    await phones.update_phone(request[SESSION], request[ACTOR], phone, wished)
    return see_other(f"/phones/{phone.id}/keys", "phone-saved")


async def _lines_on(request: web.Request, phone: Phone) -> int:
    return len(await store.keys_of(request[SESSION], phone.id))


def _key_typed(row: dict[str, str]) -> dict[str, Any]:
    """One row as the setting holds it; a number that is none stays a text, so that its check says so."""
    key: dict[str, Any] = {
        "position": int(row["position"])
        if row["position"].isdecimal() and len(row["position"]) < 6
        else row["position"],
        "kind": row["kind"],
        "value": row["value"],
        "label": row["label"],
    }
    if row["line"] and row["line"] != "1":
        key["line"] = int(row["line"]) if row["line"].isdecimal() and len(row["line"]) < 6 else row["line"]
    return key


def _key_faults(phone: Phone, keys: list[dict[str, Any]], lines: int) -> list[FieldFault]:
    """What is wrong with the keys themselves, else what this model cannot hold."""
    found = list(functionkeys.faults(keys))
    profile = vendors.known().profiles.get(phone.vendor)
    model = profile.model(phone.model) if profile is not None else None
    if found or profile is None or model is None:
        return found
    in_order = sorted(range(len(keys)), key=lambda at: keys[at]["position"])
    misfits = functionkeys.misfits(functionkeys.read(keys), settings.key_room(profile, model, lines))
    return [_in_typed_order(fault, in_order) for fault in misfits]


def _in_typed_order(fault: FieldFault, order: Sequence[int]) -> FieldFault:
    at, dot, rest = fault.field.partition(".")
    return FieldFault(f"{order[int(at)]}{dot}{rest}", fault.detail) if at.isdecimal() else fault


def _placed(fault: FieldFault, places: Sequence[int]) -> FieldFault:
    """`2.kind` of the setting as the form's `kind.4`."""
    at, _, column = fault.field.partition(".")
    if not at.isdecimal():
        return FieldFault("position.0", fault.detail)
    return FieldFault(f"{column if column in _COLUMNS else 'position'}.{places[int(at)]}", fault.detail)


# --- quarantine -------------------------------------------------------------------------------------------------------


async def post_release(request: web.Request) -> web.Response:
    """`as`: the model it says it is; nothing: the kept one is right."""
    phone = await _phone(request)
    await refuse_stale(request, phone)
    model = await typed(request, "as") or None
    await quarantine.release_phone(request[SESSION], request[ACTOR], phone, model=model)
    return see_other(f"/phones/{phone.id}", "phone-released")


# --- secrets that a person takes to the phone -------------------------------------------------------------------------


async def get_qr(request: web.Request) -> web.Response:
    """The code a softphone's camera reads. It holds the provisioning URL, so it is shown as revealing that is."""
    phone = await _phone(request)
    profile = vendors.known().profiles.get(phone.vendor)
    record = await request.app[INDEX].phone(phone.id)
    token = await phones.reveal_token_to_hand_out(request[SESSION], request[ACTOR], request[ACCOUNT])
    content = None
    if profile is not None and record is not None:
        content = softphones.qr_content(profile, provisioning_url(request, token), phone.mac, record.settings)
    if content is None:
        raise Conflict("There is no QR code for this phone: its family takes none, or the setting Cloud ID is empty.")
    return render(request, "phone_qr.html.j2", phone=phone, code=Markup(_svg(content)))  # noqa: S704  # made by segno of its own numbers


def _svg(content: str) -> str:
    """The code as SVG without a style: dark on light in both themes, four modules of quiet around it, as ISO/IEC 18004
    asks.
    """
    made = segno.make(content, error="m", micro=False)
    return made.svg_inline(scale=6, border=4, dark="#000", light="#fff", omitsize=True, svgclass="qr", lineclass=None)


async def get_file(request: web.Request) -> web.Response:
    """One file as it would be served now, masked, and what differs from what the phone last fetched."""
    phone = await _phone(request)
    file = await phone_preview.one_against_fetched(request, phone, request.match_info["name"])
    return render(request, "phone_file.html.j2", phone=phone, file=file)


_WRITE, _REVEAL = Scope.PHONES_WRITE, Scope.PROVISIONING_REVEAL
ROUTES = (
    Route("GET", "/phones/{id}/settings", get_own_settings, Scope.PHONES_READ, Event.PHONE_READ),
    Route("POST", "/phones/{id}/settings", post_own_settings, _WRITE, Event.PHONE_UPDATE),
    Route("GET", "/phones/{id}/keys", get_keys, Scope.PHONES_READ, Event.PHONE_READ),
    Route("POST", "/phones/{id}/keys", post_keys, _WRITE, Event.PHONE_UPDATE),
    Route("GET", "/phones/{id}/files/{name}", get_file, Scope.PHONES_READ, Event.PHONE_PREVIEW),
    Route("POST", "/phones/{id}/release", post_release, _WRITE, Event.PHONE_RELEASE),
    Route("GET", "/phones/{id}/qr", get_qr, _REVEAL, Event.PROVISIONING_TOKEN_REVEAL, step_up=True),
)
