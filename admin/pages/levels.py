"""Settings of many phones: what the account, a location or a model says, one form each."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, SESSION
from admin.pages.form import FORM, Form, NoRow, form_of, lines_typed, refuse_stale, see_other, typed
from admin.pages.phones import model_choices
from admin.phone_names import model_name
from admin.place_field import Called, place_called, places
from admin.render import render
from admin.routes import Route
from admin.setting_words import level_href, value_text, words_of
from engine.accounts.scopes import Scope
from engine.accounts.store import is_id
from engine.audit.events import Event
from engine.e911 import store_names
from engine.errors import EngineError, FieldFault, NotFound
from engine.models import Account, SettingsLevel
from engine.provisioning import functionkeys, levels, merge, settings, store_levels, vendors
from engine.provisioning.levels import LevelFields
from engine.provisioning.merge import Level, Source, SourceKind
from engine.provisioning.settings import CHECKS

LIST = "/phones/settings"
DEFAULT = "default"  # in place of a value: what more general levels say does not count here
_YES_NO = (("yes", "Yes"), ("no", "No"))


async def get_levels(request: web.Request) -> web.Response:
    return await _list_page(request)


async def _list_page(request: web.Request, called: Called | None = None) -> web.Response:
    """The levels there are; `called`: why the location that was asked for by name has none to show."""
    session, account = request[SESSION], request[ACCOUNT]
    levels = await store_levels.levels_of(session, account.id)
    locations = await store_names.location_names(session, account.id, [row.name for row in levels])
    faults = (FieldFault("location", called.detail),) if called is not None else ()
    choices = await places(request)
    rows = [
        {
            "kind": row.kind,
            "title": _title(row.name, locations),
            "href": level_href(row.name) if row.account_id else "",
            "said": [(words_of(name).label, _said(name, value)) for name, value in row.settings.items()],
            "phones": await store_levels.count_at(session, account.id, row),
        }
        for row in merged_order(levels)
    ]
    return render(
        request,
        "phone_settings.html.j2",
        levels=rows,
        has_account=any(row["kind"] == SourceKind.ACCOUNT for row in rows),
        places=replace(choices, near={"location": called.near}) if called is not None else choices,
        form=Form({"location": request.query.get("location", "")[:200]}, fields=faults),
        models=model_choices(),
    )


def merged_order(rows: Any) -> list[SettingsLevel]:
    """The most general first, and by name."""
    order = list(SourceKind)
    return sorted(rows, key=lambda row: (order.index(SourceKind(row.kind)), row.name))


def _said(name: str, value: Any) -> str:
    return "the default" if value is None else value_text(name, value)


def _title(name: str, locations: Mapping[str, str]) -> str:
    if name == merge.GLOBAL_NAME:
        return "All accounts"
    if name == merge.ACCOUNT_NAME:
        return "The account"
    if "/" not in name:
        return locations.get(name, name)
    vendor, _, model = name.partition("/")
    return model_name(vendor, model)


async def get_level(request: web.Request) -> web.Response:
    text = request.query.get("location", "").strip()
    if text and not is_id(text):
        called = await place_called(request, text)
        return see_other(level_href(called.location_id)) if called.location_id else await _list_page(request, called)
    return await _level_page(request, None)


async def _level_page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    name = request.query.get("name") or request.query.get("location") or await typed(request, "name")
    title = await _known_title(request, account, name)
    level = await store_levels.level_named(session, account.id, name)
    said = dict(level.settings) if level is not None else {}
    form = await form_of(request, {f"settings.{one}": typed_form(one, said) for one in CHECKS}, error)
    inherited = await _inherited(request, account, name)
    shown = [
        {
            "name": f"settings.{one}",
            "words": words_of(one),
            "options": options_of(one),
            "inherited": value_text(one, inherited.values.get(one)),
        }
        for one in CHECKS
    ]
    return render(
        request,
        "phone_settings_level.html.j2",
        error=error,
        form=form,
        level=level,
        name=name,
        title=title,
        shown=shown,
        phones=await store_levels.count_at(session, account.id, level) if level is not None else None,
    )


async def _known_title(request: web.Request, account: Account, name: str) -> str:
    """Raises NotFound: there is nothing of that name to have settings."""
    locations = await store_names.location_names(request[SESSION], account.id, [name])
    kind = merge.kind_of(name)
    vendor, _, model = name.partition("/")
    profile = vendors.known().profiles.get(vendor)
    is_model = profile is not None and model in profile.models
    if name == merge.ACCOUNT_NAME or name in locations or (kind is SourceKind.MODEL and is_model):
        return _title(name, locations)
    raise NotFound("There is no location and no model of that name.")


async def _inherited(request: web.Request, account: Account, name: str) -> merge.Effective:
    """What the levels below this one say: that counts where this one says nothing."""
    rank = list(SourceKind).index(merge.kind_of(name))
    below = [
        Level(Source(SourceKind(row.kind), row.id), row.settings, row.name)
        for row in await store_levels.levels_of(request[SESSION], account.id)
        if row.kind in {SourceKind.GLOBAL, SourceKind.ACCOUNT} and list(SourceKind).index(SourceKind(row.kind)) < rank
    ]
    return settings.effective(below, {})


def options_of(name: str) -> tuple[tuple[str, str], ...]:
    """What a list to choose from offers; none for a field to type in."""
    words = words_of(name)
    choices = _YES_NO if words.form == "yes_no" else words.choices
    return (*choices, (DEFAULT, "The default, whatever is inherited")) if choices else ()


def typed_form(name: str, said: Mapping[str, Any]) -> Any:
    """A stored value as the form shows it; empty where nothing is said."""
    if name not in said:
        return ""
    value = said[name]
    if value is None:
        return DEFAULT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == functionkeys.SETTING:
        return [", ".join(str(part) for part in _key_parts(key)) for key in value]
    return value


def _key_parts(key: Mapping[str, Any]) -> list[Any]:
    parts = [key.get("position", ""), key.get("kind", ""), key.get("value", ""), key.get("label", "")]
    return [*parts, key["line"]] if key.get("line", 1) != 1 else parts


async def post_level(request: web.Request) -> web.Response:
    request[FORM] = _level_page
    session, actor, account = request[SESSION], request[ACTOR], request[ACCOUNT]
    name = await typed(request, "name")
    await _known_title(request, account, name)
    level = await store_levels.level_named(session, account.id, name)
    wished = {one: value for one in CHECKS if (value := await typed_value(request, one)) is not None}
    wished = {one: None if value == DEFAULT else value for one, value in wished.items()}
    await refuse_stale(request, level or NoRow())
    if level is None and wished:
        await levels.create_level(session, actor, account, _fields(name, wished))
    elif level is not None:
        if wished:
            await levels.update_level(session, actor, level, wished)
        else:
            await levels.delete_level(session, actor, level)
    return see_other(LIST, "settings-saved")


def _fields(name: str, wished: Mapping[str, Any]) -> LevelFields:
    kind = merge.kind_of(name)
    vendor, _, model = name.partition("/")
    return LevelFields(
        kind,
        location_id=name if kind is SourceKind.LOCATION else None,
        vendor=vendor if kind is SourceKind.MODEL else None,
        model=model if kind is SourceKind.MODEL else None,
        settings=wished,
    )


async def typed_value(request: web.Request, name: str) -> Any:
    """What was typed, as the setting holds it; None: nothing. A value of a wrong kind stays a text, so that the check
    of the setting says what is wrong.
    """
    text = await typed(request, f"settings.{name}")
    form = words_of(name).form
    if text in {"", DEFAULT}:
        return text or None
    if form == "whole":
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else text
    if form == "yes_no":
        return {"yes": True, "no": False}.get(text, text)
    if form == "list":
        return await lines_typed(request, f"settings.{name}")
    if form == "keys":
        return [_typed_key(line) for line in text.splitlines() if line.strip()]
    return text


def _typed_key(line: str) -> dict[str, Any]:
    position, kind, value, label, on = [*(part.strip() for part in line.split(",", 4)), "", "", "", ""][:5]
    key: dict[str, Any] = {"position": int(position) if position.isdecimal() and len(position) < 6 else position}
    key |= {"kind": kind, "value": value, "label": label}
    return key | ({"line": int(on)} if on.isdecimal() and len(on) < 6 else {})


ROUTES = (
    Route("GET", LIST, get_levels, Scope.PHONES_READ, Event.SETTINGS_LIST),
    Route("GET", f"{LIST}/level", get_level, Scope.PHONES_READ, Event.SETTINGS_READ),
    Route("POST", f"{LIST}/level", post_level, Scope.PHONES_WRITE, Event.SETTINGS_UPDATE),
)
