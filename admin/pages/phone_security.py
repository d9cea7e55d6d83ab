"""Phones' security: the form behind its card of Settings, and the key of one phone's encrypted files."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from admin.api.provisioning_policy import sees_certificates
from admin.context import ACCOUNT, ACTOR, CONFIG, SESSION
from admin.pages.form import FORM, form_of, lines_typed, refuse_stale, see_other, typed, whole_number
from admin.render import plural, render
from admin.routes import Route
from engine.accounts import store as accounts
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import EngineError, FieldFault, Invalid
from engine.provisioning import safeguards, store, store_safeguards, vendors
from engine.provisioning.policy import MAX_PER_MINUTE
from engine.provisioning.store_safeguards import Outside

_PATH = "/settings/phone-security"
_CONFIRM = "sources_confirmed"


async def get_phone_security(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    policy = safeguards.policy_of(account)
    section = request.app[CONFIG].provisioning
    counts = await store_safeguards.phones_by_vendor(session, account.id)
    return render(
        request,
        "phone_security.html.j2",
        error=error,
        form=await form_of(request, policy.values() | {_CONFIRM: False}, error, kind="account"),
        is_locking_out=isinstance(error, Invalid) and any(fault.field == _CONFIRM for fault in error.fields),
        policy=policy,
        sealed=_families(counts, is_sealed=True),
        clear=_families(counts, is_sealed=False),
        clear_phones=safeguards.phones_in_clear(counts),
        outside=await store_safeguards.phones_outside(session, account.id, policy),
        sees_certificates=sees_certificates(section),
        has_tls=section.tls_cert is not None or bool(section.trusted_proxies),
    )


def _families(counts: Mapping[str, int], *, is_sealed: bool) -> list[tuple[str, int]]:
    """The families that read encrypted files, or those that do not, with the account's phones of each."""
    profiles = vendors.known().profiles.values()
    return [(one.title, counts.get(one.name, 0)) for one in profiles if (one.encryption is not None) is is_sealed]


async def post_phone_security(request: web.Request) -> web.Response:
    request[FORM] = _page
    account = request[ACCOUNT]
    await accounts.lock_account(request[SESSION], account)
    await refuse_stale(request, account)
    changes: dict[str, Any] = {
        "sources": await lines_typed(request, "sources"),
        "client_certificates": await typed(request, "client_certificates"),
        "expired_certificates": await typed(request, "expired_certificates") == "on",
        "encrypt_files": await typed(request, "encrypt_files") == "on",
        "resync_per_minute": await whole_number(request, "resync_per_minute", MAX_PER_MINUTE),
        "location_gate": await typed(request, "location_gate"),
    }
    seen = sees_certificates(request.app[CONFIG].provisioning)
    wished = safeguards.wished_policy(account, changes, sees_certificates=seen)
    if wished.sources != safeguards.policy_of(account).sources and await typed(request, _CONFIRM) != "on":
        _refuse_locking_out(await store_safeguards.phones_outside(request[SESSION], account.id, wished))
    await safeguards.update_policy(request[SESSION], request[ACTOR], account, changes, sees_certificates=seen)
    return see_other(_PATH, "phone-security-saved")


def _refuse_locking_out(outside: Outside) -> None:
    """Ask once more before most of the fleet is turned away: it is rather a slip than a wish."""
    if not outside.is_most:
        return
    detail = (
        f"{outside.phones:,} of {plural(outside.of, 'phone')} asked last from outside these ranges "
        f"({', '.join(outside.examples)}): they would get no changes any more, and a reset one could not dial 911."
    )
    raise Invalid("Nothing was saved yet: most phones would be turned away.", fields=(FieldFault(_CONFIRM, detail),))


async def get_file_key(request: web.Request) -> web.Response:
    """The key of one phone's files, to be typed into it. The URL is another secret, with an audit entry of its own."""
    session, account = request[SESSION], request[ACCOUNT]
    phone = await store.phone_of(session, account.id, request.match_info["id"])
    made = await safeguards.reveal_file_key(session, request[ACTOR], phone)
    title = vendors.known().profiles[phone.vendor].title
    return render(request, "file_key.html.j2", phone=phone, made=made, title=title)


_REVEAL = Scope.PROVISIONING_REVEAL
ROUTES = (
    Route("GET", _PATH, get_phone_security, Scope.PROVISIONING_READ, Event.PROVISIONING_POLICY_READ),
    Route("POST", _PATH, post_phone_security, Scope.PROVISIONING_WRITE, Event.PROVISIONING_POLICY_UPDATE),
    Route("GET", "/phones/{id}/file-key", get_file_key, _REVEAL, Event.PHONE_FILE_KEY_REVEAL, step_up=True),
)  # fmt: skip
