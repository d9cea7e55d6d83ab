"""The authentication log as a page: sign-ins, how they ended, refused attempts; ending a session."""

import datetime as dt
import zoneinfo
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiMapping

from admin.api.auth_log import NAMES, plain_filters
from admin.context import ACCOUNT, ACTOR, BROWSER, RESOURCE, SCOPES, SESSION
from admin.page_addresses import leave_out, understood
from admin.pages.form import see_other
from admin.render import render, zone_of
from admin.routes import Route
from admin.times_asked import day_asked
from engine.accounts import authlog, operations, store
from engine.accounts.authlog import End, Filters, Method, Position
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import FieldFault, Invalid
from engine.models import Session

PAGE = 50
REASONS = {  # of a refused attempt, for the admin; who tried was told one sentence for all
    "unknown_user": "Nobody here has this address",
    "wrong_password": "Wrong password",
    "user_disabled": "The user is disabled",
    "user_inactive": "Unused for longer than the security policy allows",
    "wrong_totp": "Wrong code of an authenticator app",
    "wrong_email_code": "Wrong code that was mailed",
    "wrong_recovery_code": "Wrong recovery code",
    "no_code": "What was typed is no code",
    "code_used_before": "A code that was used before",
    "code_too_old": "A mailed code past its ten minutes",
    "too_many_codes": "Too many wrong codes: the sign-in began again",
    "no_half_open_sign_in": "A code with no sign-in it could be for",
    "unknown_key": "No API key of anybody",
    "malformed_key": "No API key at all, or mistyped",
    "key_revoked": "An API key that was revoked",
    "key_expired": "An API key that has expired",
    "no_password_yet": "Invited, and has not accepted yet",
    "another_users_password": "The password of another user",
    "throttled": "Too many failures before: the password was not looked at",
    "cross_site": "Sent from the page of another site",
    "not_found": "An invitation that cannot be used",
    "invalid": "A password the rules refuse",
}
ENDS = {
    End.RUNNING: "Running",
    End.SIGNED_OUT: "Signed out",
    End.EXPIRED: "Expired",
    End.REVOKED: "Revoked",
    End.REPLACED: "Replaced",
}
METHODS = {
    Method.PASSWORD.value: "password only", Method.PASSWORD_TOTP.value: "password and authenticator app",
    Method.PASSWORD_EMAIL.value: "password and mailed code", Method.RECOVERY_CODE.value: "password and recovery code",
    Method.REMEMBERED_DEVICE.value: "password in a remembered browser", Method.API_KEY.value: "API key",
}  # fmt: skip
END_REASONS = {
    "idle": "no request for too long", "absolute": "as old as a session gets",
    "replaced": "the same browser signed in anew", "role_changed": "their role was changed",
    "two_factor_required": "the account requires a second factor from now on",
    "disabled": "they were disabled", "removed": "they were removed", "password_change": "their password was changed",
    "two_factor_reset": "their second factor was reset",
}  # fmt: skip


async def get_auth_log(request: web.Request) -> web.Response:
    zone = zone_of(request[ACCOUNT])
    filters, pairs = understood(request, lambda told: _asked(told, zone))
    after = _after(request)
    found = await authlog.authentications(request[SESSION], request[ACCOUNT], filters, limit=PAGE, after=after)
    older = ""
    if found.following is not None:
        older = f"/auth-log?{urlencode([*pairs, ('after', found.following.text())])}"
    return render(
        request, "auth_log.html.j2", rows=found.rows, older=older, is_older=after is not None, is_filtered=bool(pairs),
        newest=f"/auth-log?{urlencode(pairs)}" if pairs else "/auth-log", asked=dict(pairs), reasons=REASONS,
        methods=METHODS, ends={end.value: words for end, words in ENDS.items()}, end_reasons=END_REASONS, span=span,
        own=request[BROWSER].id if request.get(BROWSER) is not None else "",
    )  # fmt: skip


def _asked(query: MultiMapping[str], zone: zoneinfo.ZoneInfo) -> tuple[Filters, list[tuple[str, str]]]:
    """The filters, and those that stand in the address. Days are of the account's zone and inclusive."""
    faults: list[FieldFault] = []
    first, last = (day_asked(query, name, faults) for name in ("since", "until"))
    since = None if first is None else dt.datetime.combine(first, dt.time.min, zone).astimezone(dt.UTC)
    until = None
    if last is not None:
        following = dt.datetime.combine(last + dt.timedelta(days=1), dt.time.min, zone)
        until = following.astimezone(dt.UTC) - dt.timedelta(milliseconds=1)
    filters = plain_filters(query, faults, since, until)
    if faults:
        raise Invalid("The authentication log cannot be filtered like this.", fields=tuple(faults))
    pairs = [(name, query.get(name, "").strip()) for name in NAMES]
    return filters, [(name, text) for name, text in pairs if text]


def _after(request: web.Request) -> Position | None:
    """Where the page begins; at the newest when the address names no place, which the page says.

    Not signed: it opens nothing, every question names the account.
    """
    text = request.query.get("after", "")
    try:
        position = Position.read(text) if text else None
    except ValueError:
        position = None
    is_whole = position is None or all(not one or store.is_id(one) for one in (position.session, position.key))
    if (text and position is None) or not is_whole:
        leave_out(request, "after", "Expected a link of this page, unchanged.")
        return None
    return position


def span(seconds: int) -> str:
    """A duration in its two largest units, such as `2 h 5 min`."""
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    parts: list[str] = []
    for size, unit in units:
        if seconds >= size or (unit == "s" and not parts):
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
    return " ".join(parts[:2])


async def post_session_end(request: web.Request) -> web.Response:
    row = await store.row_of(request[SESSION], Session, request[ACCOUNT].id, request.match_info["id"])
    request[RESOURCE] = ("session", row.id, "")
    await operations.refuse_beyond_user(request[SESSION], request[ACTOR], request[SCOPES], row.user_id)
    await operations.revoke_session(request[SESSION], request[ACTOR], row)
    return see_other("/auth-log", "session-ended")


ROUTES = (
    Route("GET", "/auth-log", get_auth_log, Scope.AUDIT_READ, Event.AUTH_LOG_LIST),
    Route("POST", "/auth-log/sessions/{id}/end", post_session_end, Scope.USERS_WRITE, Event.SESSION_DELETE),
)
