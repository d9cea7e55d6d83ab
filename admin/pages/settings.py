"""Settings: account details, locations, recipients, PBXs and trunks, provisioning and the audit log on one page."""

import zoneinfo
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from admin import page_addresses
from admin.audit_filters import FILTERS
from admin.context import ACCOUNT, ACTOR, HOME, MAIL_SERVER, SCOPES, SESSION
from admin.field_words import COUNTRIES, LANGUAGES
from admin.pages import (
    api_keys,
    locations,
    numbers,
    provisioning,
    setting_lists,
    telephony,
    trunk_groups,
)
from admin.pages.escalation import span
from admin.pages.form import FORM, Form, form_of, refuse_stale, see_other, typed
from admin.pages.setting_lists import IN_CARD, READ, trunks_in_order
from admin.place_field import place_typed, places
from admin.render import plural, render, zone_of
from admin.routes import Route
from engine.accounts import mail_server, operations, store_trunks
from engine.accounts import store as accounts
from engine.accounts.billing import BILLING_FIELDS
from engine.accounts.operations import AccountFields
from engine.accounts.scopes import Scope
from engine.accounts.trunk_groups import group_alarms
from engine.audit.events import Event
from engine.e911 import escalation, sites, store_chats
from engine.e911 import store as e911
from engine.errors import EngineError, NotFound
from engine.models import Account

_REGIONS = ("America/", "Pacific/", "Atlantic/", "Europe/", "Africa/", "Asia/", "Australia/", "Indian/")
_DETAILS = ("name", "email", "phone", "callback_number", "notification_prefix", "notification_text")
_PREFERENCES = ("timezone", "language", "country", "default_location_id", "trunk_group_id", "emergency_enabled")


async def get_settings(request: web.Request) -> web.Response:
    return await _settings_page(request)


async def _account_page(request: web.Request, error: EngineError | None) -> web.Response:
    account = request[ACCOUNT]
    form = await form_of(request, await _account_values(request), error, kind="account")
    values = {**form.values, "emergency_enabled": await _is_live(request, account)}
    return await _settings_page(request, form=replace(form, values=values), error=error)


async def _recipient_page(request: web.Request, error: EngineError | None) -> web.Response:
    form = await form_of(request, {"email": ""}, error)
    return await _settings_page(
        request, recipient_form=replace(form, detail="" if form.fields else form.detail), error=error
    )


async def _settings_page(
    request: web.Request,
    *,
    form: Form | None = None,
    recipient_form: Form | None = None,
    error: EngineError | None = None,
) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    trunks = await trunks_in_order(request, account)
    groups = await store_trunks.trunk_groups_of(session, account.id, limit=500)
    groups_named = await store_trunks.trunk_groups_named(session, account)
    made_at = account.provisioning_token_at
    is_told = await store_chats.told_everywhere(session, account.id) > 0
    return render(
        request,
        "settings.html.j2",
        error=error,
        form=form or await form_of(request, await _account_values(request), None),
        places=await places(request, account.default_location_id),
        recipient_form=recipient_form or Form({"email": ""}),
        address_form=await form_of(request, _address_values(account), None),
        billing_lines=billing_lines(account.billing_address),
        locations=await e911.locations_of(session, account.id),
        recipients=await e911.recipients_of(session, account.id),
        chats=await store_chats.chats_of(session, account.id) if Scope.ACCOUNT_WRITE in request[SCOPES] else [],
        is_told=is_told,
        escalates=await _escalates(session, account),
        pbxs=await accounts.pbxs_of(session, account.id, limit=READ),
        in_card=IN_CARD,
        audit_query=urlencode(_filters_of_card(request)),
        trunks=trunks,
        trunk_names={trunk.id: trunk.name for trunk in trunks},
        groups=groups,
        groups_named=groups_named,
        group_alarms=group_alarms(groups, trunks, groups_named),
        numbers=await e911.number_counts(session, account.id),
        timezones=_with(account.timezone, _timezones()),
        languages=_with(account.language, LANGUAGES),
        countries=_with(account.country, COUNTRIES),
        token_day=f"{made_at.astimezone(zone_of(account)):%Y-%m-%d}" if made_at else "",
        mail_is_set=bool(request.app[MAIL_SERVER].settings.host),
        mail_host=request.app[MAIL_SERVER].settings.host,
        may_set_mail=Scope.SECURITY_READ in request[SCOPES] and await mail_server.may_set(session, request[HOME]),
    )


async def _escalates(session: AsyncSession, account: Account) -> str:
    """When more people are told of a call that nobody acknowledges; empty: never."""
    steps = escalation.steps_of(await escalation.plan_for(session, account))
    return " and ".join(f"after {span(step.after_s)}" for step in steps[:1]) + (
        f", then {plural(len(steps) - 1, 'step', 'steps')} more" if len(steps) > 1 else ""
    )


def _filters_of_card(request: web.Request) -> list[tuple[str, str]]:
    """The audit log's filters in this page's address, as the log itself calls them."""
    own = [(name, text) for name, text in request.query.items() if name.startswith(page_addresses.IN_CARD)]
    named = [(name.removeprefix(page_addresses.IN_CARD), text) for name, text in own]
    return [(name, text) for name, text in named if name in FILTERS]


async def post_account(request: web.Request) -> web.Response:
    """The text fields of either form: the way without JavaScript; with it the API is asked."""
    request[FORM] = _account_page
    account = request[ACCOUNT]
    await refuse_stale(request, account)
    post = await request.post()
    values: dict[str, Any] = {name: await typed(request, name) for name in _DETAILS if name in post}
    if "callback_number" in values:
        values["callback_number"] = values["callback_number"] or None
    wished = replace(AccountFields.of(account), **values)
    await operations.update_account(request[SESSION], request[ACTOR], account, wished)
    return see_other("/settings", "account")


async def post_preferences(request: web.Request) -> web.Response:
    """The dropdowns, for a browser without JavaScript."""
    request[FORM] = _account_page
    account = request[ACCOUNT]
    await refuse_stale(request, account)
    wished = replace(
        AccountFields.of(account),
        timezone=await typed(request, "timezone"),
        language=await typed(request, "language"),
        country=await typed(request, "country"),
        default_location_id=await place_typed(request, "default_location_id"),
        trunk_group_id=await typed(request, "trunk_group_id") or None,
        emergency_enabled=await _is_live(request, account),
    )
    await operations.update_account(request[SESSION], request[ACTOR], account, wished)
    return see_other("/settings", "account")


async def _is_live(request: web.Request, account: Account) -> bool:
    """The switch as it was sent; as it stands where the form did not show it."""
    if "emergency_enabled.shown" not in await request.post():
        return account.emergency_enabled
    return await typed(request, "emergency_enabled") == "on"


async def get_address(request: web.Request) -> web.Response:
    return await _address_page(request, None)


async def _address_page(request: web.Request, error: EngineError | None) -> web.Response:
    form = await form_of(request, _address_values(request[ACCOUNT]), error, kind="account")
    return render(request, "address.html.j2", error=error, address_form=form)


async def post_address(request: web.Request) -> web.Response:
    request[FORM] = _address_page
    account = request[ACCOUNT]
    await refuse_stale(request, account)
    values = {name: await typed(request, f"billing_address.{name}") for name in BILLING_FIELDS}
    await operations.update_account(
        request[SESSION], request[ACTOR], account, replace(AccountFields.of(account), billing_address=values)
    )
    return see_other("/settings", "address")


async def post_recipient(request: web.Request) -> web.Response:
    request[FORM] = _recipient_page
    await sites.add_recipient(request[SESSION], request[ACTOR], request[ACCOUNT], await typed(request, "email"))
    done = "recipient-added" if request.app[MAIL_SERVER].settings.host else "recipient-waits"
    return see_other("/settings", done, "recipients")


async def post_recipient_delete(request: web.Request) -> web.Response:
    recipient = await e911.recipient_by_id(request[SESSION], request[ACCOUNT].id, request.match_info["id"])
    if recipient is None:
        raise NotFound("This recipient was removed already.")
    await sites.remove_recipient(request[SESSION], request[ACTOR], recipient)
    return see_other("/settings", "recipient-removed", "recipients")


def billing_lines(address: dict[str, Any]) -> list[str]:
    """A billing address as the lines of an envelope."""
    part = {name: str(address.get(name, "")).strip() for name in BILLING_FIELDS}
    town = " ".join(text for text in (part["city"], part["state"], part["postal_code"]) if text)
    return [line for line in (part["name"], part["street"], town, part["country"]) if line]


async def _account_values(request: web.Request) -> dict[str, Any]:
    account = request[ACCOUNT]
    values = {name: getattr(account, name) for name in (*_DETAILS, *_PREFERENCES)}
    choices = await places(request, account.default_location_id)
    return values | {"default_location_id": choices.shown(account.default_location_id)}


def _address_values(account: Account) -> dict[str, Any]:
    return {f"billing_address.{name}": account.billing_address.get(name, "") for name in BILLING_FIELDS}


def _with(value: str, options: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The options, and what is set now even when it is none of them: a dropdown must not change what it shows."""
    return options if any(value == known for known, _text in options) else ((value, value), *options)


@cache
def _timezones() -> tuple[tuple[str, str], ...]:
    names = sorted(name for name in zoneinfo.available_timezones() if name.startswith(_REGIONS))
    return (*((name, name.replace("_", " ")) for name in names), ("UTC", "UTC"))


ROUTES = (
    Route("GET", "/settings", get_settings, Scope.ACCOUNT_READ, Event.ACCOUNT_READ),
    Route("POST", "/settings/account", post_account, Scope.ACCOUNT_WRITE, Event.ACCOUNT_UPDATE),
    Route("POST", "/settings/preferences", post_preferences, Scope.ACCOUNT_WRITE, Event.ACCOUNT_UPDATE),
    Route("GET", "/settings/address", get_address, Scope.ACCOUNT_READ, Event.ACCOUNT_READ),
    Route("POST", "/settings/address", post_address, Scope.ACCOUNT_WRITE, Event.ACCOUNT_UPDATE),
    Route("POST", "/settings/recipients", post_recipient, Scope.LOCATIONS_WRITE, Event.RECIPIENT_CREATE),
    Route(
        "POST", "/settings/recipients/{id}/delete", post_recipient_delete, Scope.LOCATIONS_WRITE, Event.RECIPIENT_DELETE
    ),
    *provisioning.ROUTES,
    *setting_lists.ROUTES,
    *telephony.ROUTES,
    *trunk_groups.ROUTES,
    *numbers.ROUTES,
    *api_keys.ROUTES,
    *locations.ROUTES,
)
