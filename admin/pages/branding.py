"""Branding: colour, logo and host name of the account, on one page of Settings."""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.web_request import FileField

from admin.api.branding import change
from admin.auth import prepared
from admin.context import ACCOUNT, IS_HTTPS
from admin.pages.form import FORM, form_of, refuse_stale, see_other, typed
from admin.problems import BodyUnreadable, TooLarge, TooSlow
from admin.render import render
from admin.routes import Route
from engine.accounts.branding import KEEP, BrandingFields
from engine.accounts.colours import PALETTE, dark_shade, light_shade
from engine.accounts.logo import MAX_BYTES
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import EngineError

BODY_TIMEOUT_S = 20.0
MAX_FORM_BYTES = 512 * 1024
_PATH = "/settings/branding"
_OWN = "own"  # the choice of a colour that is typed


async def get_branding(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    account = request[ACCOUNT]
    is_listed = account.accent in {"", *(colour for colour, _name in PALETTE)}
    values: dict[str, Any] = {
        "theme": account.accent if is_listed else _OWN, "accent": "" if is_listed else account.accent,
        "hostname": account.hostname or "", "remove_logo": False, "logo": "",
    }  # fmt: skip
    sent = (await request.post()).get("logo") if error is not None else None
    shades = (light_shade(account.accent), dark_shade(account.accent)) if account.accent else None
    return render(
        request, "branding.html.j2", error=error, palette=PALETTE, shades=shades,
        chosen=sent.filename if isinstance(sent, FileField) else "",
        form=await form_of(request, values, error, kind="account"), is_https=request.get(IS_HTTPS, False),
        most_kib=MAX_BYTES // 1024,
    )  # fmt: skip


async def take_form(request: web.Request) -> bool:
    """Take the form with its file in, before the transaction: aiohttp reads such a body from the connection alone."""
    if (request.content_length or 0) > MAX_FORM_BYTES:
        raise TooLarge(f"Expected at most {MAX_FORM_BYTES >> 10} KiB. A logo has at most {MAX_BYTES >> 10}.")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            await request.post()
    except TimeoutError as exc:
        raise TooSlow(f"Expected the whole form within {BODY_TIMEOUT_S:.0f} seconds.") from exc
    except ValueError as exc:
        raise BodyUnreadable("The form cannot be read; nothing was changed.") from exc
    return True


async def post_branding(request: web.Request) -> web.Response:
    prepared(request, bool)
    request[FORM] = _page
    await refuse_stale(request, request[ACCOUNT])
    theme = await typed(request, "theme")
    accent = await typed(request, "accent") if theme == _OWN else theme
    sent = (await request.post()).get("logo")
    logo: bytes | None = KEEP
    if isinstance(sent, FileField) and sent.filename:
        logo = sent.file.read(MAX_BYTES + 1) or b"-"  # an empty file is no logo, and said to be none
    elif await typed(request, "remove_logo") == "on":
        logo = None
    await change(request, BrandingFields(accent, await typed(request, "hostname"), logo))
    return see_other(_PATH, "branding-saved")


ROUTES = (
    Route("GET", _PATH, get_branding, Scope.ACCOUNT_READ, Event.BRANDING_READ),
    Route(
        "POST", _PATH, post_branding, Scope.ACCOUNT_WRITE, Event.BRANDING_UPDATE, prepare=take_form, streams_body=True
    ),
)
