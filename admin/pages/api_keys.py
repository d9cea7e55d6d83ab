"""API keys: the list, making one (its clear text is shown this once), revoking one."""

from typing import Any

from aiohttp import web

from admin import bad_fields
from admin.context import ACCOUNT, ACTOR, SCOPES, SESSION
from admin.pages.form import FORM, form_of, see_other, typed
from admin.render import render
from admin.routes import Route
from engine.accounts import operations, store
from engine.accounts.scopes import EVERY_SCOPE, PRESETS, Preset, Scope
from engine.audit.events import Event
from engine.db import utc_now
from engine.errors import EngineError, FieldFault
from engine.models import ApiKey

_ROOMS = {
    "account": "account", "users": "users", "security": "security policy", "two_factor": "second factors",
    "api_keys": "API keys", "locations": "locations", "phones": "phones and lines",
    "telephony": "PBXs and trunks", "provisioning": "provisioning", "calls": "emergency calls", "audit": "audit log",
}  # fmt: skip
_RIGHTS = {"read": "Read", "write": "Change", "reveal": "Reveal secrets of"}
_SPECIAL = {  # where the right is less, or more, than its name says
    Scope.AUDIT_WRITE: "Save views and dismiss hints of the audit log",
    Scope.CALLS_WRITE: "Acknowledge emergency calls, hold tests and drills",
}  # fmt: skip
SCOPE_CHOICES = tuple(
    (
        scope.value,
        _SPECIAL.get(scope) or f"{_RIGHTS[scope.value.split(':')[1]]} {_ROOMS[scope.value.split(':')[0]]}",
    )
    for scope in Scope
    if scope is not Scope.ALL
)
SCOPE_WORDS = dict(SCOPE_CHOICES) | {Scope.ALL.value: "Everything"}
PRESET_CHOICES = (
    (Preset.FULL_ACCESS.value, "Public API", "Full access: every call of the API."),
    (Preset.TWO_FACTOR.value, "2FA", "Second factors of users, and nothing else."),
    (Preset.WEB_SDK.value, "Web SDK", "For pages in a browser: reads phones, contacts and locations; changes nothing."),
)


def _may_give(granted: frozenset[Scope], preset: str) -> bool:
    scopes = PRESETS[Preset(preset)]
    return (EVERY_SCOPE if Scope.ALL in scopes else scopes) <= granted


async def get_api_keys(request: web.Request) -> web.Response:
    return await _keys_page(request, None)


async def _keys_page(request: web.Request, error: EngineError | None, *, new_key: str = "") -> web.Response:
    values: dict[str, Any] = {"name": "", "scopes": [], "preset": ""}
    form = await form_of(request, values, error, lists=("scopes",))
    keys = await store.api_keys_of(request[SESSION], request[ACCOUNT].id)
    granted = request[SCOPES]
    return render(
        request, "api_keys.html.j2", error=error, form=form, api_keys=keys,
        presets=[choice for choice in PRESET_CHOICES if _may_give(granted, choice[0])],
        scopes=[choice for choice in SCOPE_CHOICES if choice[0] in granted], new_key=new_key, now=utc_now(),
        scope_words=SCOPE_WORDS,
        origin=f"{request.scheme}://{request.host}",
    )  # fmt: skip


async def post_api_key(request: web.Request) -> web.Response:
    """Make a key and show it in the answer itself: it is nowhere else, so a redirect would lose it."""
    request[FORM] = _keys_page
    preset = await typed(request, "preset")
    if preset in {each.value for each in Preset}:
        scopes = tuple(sorted(scope.value for scope in PRESETS[Preset(preset)]))
    else:
        scopes = tuple(str(scope) for scope in (await request.post()).getall("scopes", []))
        if not scopes:
            told = "Tick at least one right, or choose another type of permissions."
            bad_fields.note(request, [FieldFault("scopes", told)])
    made = await operations.create_api_key(
        request[SESSION],
        request[ACTOR],
        request[ACCOUNT],
        name=await typed(request, "name"),
        scopes=scopes,
        granted=request[SCOPES],
    )
    await request[SESSION].flush()
    return await _keys_page(request, None, new_key=made.clear)


async def post_api_key_revoke(request: web.Request) -> web.Response:
    row = await store.row_of(request[SESSION], ApiKey, request[ACCOUNT].id, request.match_info["id"])
    await operations.revoke_api_key(request[SESSION], request[ACTOR], row)
    return see_other("/settings/api-keys", "key-revoked")


ROUTES = (
    Route("GET", "/settings/api-keys", get_api_keys, Scope.API_KEYS_READ, Event.API_KEY_LIST),
    Route("POST", "/settings/api-keys", post_api_key, Scope.API_KEYS_WRITE, Event.API_KEY_CREATE, step_up=True),
    Route("POST", "/settings/api-keys/{id}/revoke", post_api_key_revoke, Scope.API_KEYS_WRITE, Event.API_KEY_REVOKE),
)
