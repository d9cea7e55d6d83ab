"""`/api/v1/branding`: how the account looks, inside and on its sign-in page."""

import base64
import binascii
from dataclasses import replace
from typing import Annotated

from aiohttp import web
from pydantic import StringConstraints

from admin.api import answered, body_of, given, match_version, no_query
from admin.api.models import NAME_PATTERN, Answer, Body, patch_of
from admin.context import ACCOUNT, ACTOR, CONFIG, RESOURCE, SESSION
from admin.render import static_url
from admin.routes import Operation, Route
from engine.accounts import branding
from engine.accounts.branding import BrandingFields
from engine.accounts.colours import dark_shade, light_shade
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import FieldFault, Invalid
from engine.models import Account

MAX_BASE64 = 360_000  # of the largest logo


class BrandingAnswer(Answer):
    """`light_accent`, `dark_accent`: the colour as pages show it; its lightness is moved until it can be read."""

    accent: str
    light_accent: str
    dark_accent: str
    hostname: str
    logo: str
    version: int


class BrandingBody(Body):
    """`logo`: a PNG or SVG in base64; null removes it. What is shown is read strictly and written anew."""

    accent: Annotated[str, StringConstraints(max_length=7, pattern=NAME_PATTERN)]
    hostname: Annotated[str, StringConstraints(max_length=253, pattern=NAME_PATTERN)]
    logo: Annotated[str, StringConstraints(max_length=MAX_BASE64, pattern=r"^[A-Za-z0-9+/]*={0,2}$")] | None


BrandingPatch = patch_of(BrandingBody, "BrandingPatch")


async def get_branding(request: web.Request) -> web.Response:
    no_query(request)
    return _answered(request[ACCOUNT])


async def patch_branding(request: web.Request) -> web.Response:
    no_query(request)
    account = request[ACCOUNT]
    request[RESOURCE] = branding.resource_of(account)
    match_version(request, account)
    changed = given(await body_of(request, BrandingPatch))
    if changed.get("logo") is not None:
        changed["logo"] = _decoded(str(changed["logo"]))
    await change(request, replace(BrandingFields.of(account), **changed))
    return _answered(account)


async def change(request: web.Request, wished: BrandingFields) -> None:
    """Change how the account looks."""
    await branding.update_branding(
        request[SESSION], request[ACTOR], request[ACCOUNT], wished, own_url=request.app[CONFIG].admin.public_url
    )
    await request[SESSION].flush()


def _decoded(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        raise Invalid("The logo cannot be read.", fields=(FieldFault("logo", "Expected a picture in base64."),))
    return data


def _answered(account: Account) -> web.Response:
    has_own = bool(account.accent)
    shown = BrandingAnswer(
        accent=account.accent,
        light_accent=light_shade(account.accent).accent if has_own else "",
        dark_accent=dark_shade(account.accent).accent if has_own else "",
        hostname=account.hostname or "",
        logo=static_url(f"logo/{account.logo}") if account.logo else "",
        version=account.version,
    )
    return answered(shown, account)


_PATH = "/api/v1/branding"
ROUTES = (
    Route(
        "GET", _PATH, get_branding, Scope.ACCOUNT_READ, Event.BRANDING_READ,
        operation=Operation("How the account looks", answer=BrandingAnswer, has_etag=True),
    ),
    Route(
        "PATCH", _PATH, patch_branding, Scope.ACCOUNT_WRITE, Event.BRANDING_UPDATE,
        operation=Operation(
            "Change how the account looks", body=BrandingPatch, answer=BrandingAnswer, if_match=True, has_etag=True
        ),
    ),
)  # fmt: skip
