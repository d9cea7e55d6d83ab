"""A form that came after the proof of a password had gone stale: kept while the password is typed, then carried out.

Theory of operation. Some forms ask for a password that was typed within 15 minutes. Who filled one in slowly must not
fill it in again, so the whole body goes, sealed, into the page that asks for the password, and from there into the form
that carries it out, which sends nothing else. `put_back` opens it again before anything reads the request: from then on
it is the form as it was first sent. What was typed, secrets included, is nowhere in a page but as ciphertext, and
nowhere on the server at all. It opens for the same session cookie, for the same address, and for 15 minutes.
"""

import base64
import binascii
import datetime as dt
import json
import re
from dataclasses import dataclass

from aiohttp import web

from admin.auth import COOKIE, cookie_of
from admin.context import KEYS
from engine.accounts.keys import digest
from engine.crypto import Unsealable
from engine.db import utc_now
from engine.errors import Conflict

KEPT_FOR = dt.timedelta(minutes=15)
MAX_BYTES = 48 * 1024  # as base64 the page stays under 150 kB; none of these forms comes near it
_FORM = "application/x-www-form-urlencoded"
_SENT = re.compile(rb"held=([A-Za-z0-9_-]+)")


class HeldGone(Conflict):
    """What was kept can no longer be opened."""

    title = "Fill in the form once more"

    def __init__(self) -> None:
        super().__init__(
            "What you had typed was kept for 15 minutes and for one sign-in, and that is over. Nothing was changed, "
            "and 911 calls are not concerned. Fill in the form once more."
        )


@dataclass(frozen=True, slots=True)
class Held:
    """A form as it was sent. `address`: path and query it was sent to."""

    address: str
    body: bytes


async def seal(request: web.Request) -> str:
    """This request's form as text for a hidden field; empty where there is none that could be kept."""
    body = await request.read()
    if request.method != "POST" or len(body) > MAX_BYTES or (body and request.content_type != _FORM):
        return ""
    kept = {"at": utc_now().timestamp(), "address": request.path_qs, "body": body.decode("latin-1")}
    sealed = request.app[KEYS].seal(json.dumps(kept).encode(), _context(request))
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def opened(request: web.Request, text: str) -> Held:
    """What `seal` made for this browser.

    Raises:
        HeldGone: it is older, of another session, or was changed.
    """
    try:
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        kept = json.loads(request.app[KEYS].open(sealed, _context(request)))
    except (Unsealable, ValueError, binascii.Error) as exc:
        raise HeldGone from exc
    if utc_now().timestamp() - kept["at"] > KEPT_FOR.total_seconds():
        raise HeldGone
    return Held(kept["address"], kept["body"].encode("latin-1"))


async def put_back(request: web.Request) -> None:
    """Give a request that brings nothing but a kept form that form's body.

    Raises:
        HeldGone: it cannot be opened, or was kept for another address.
    """
    found = _SENT.fullmatch(await request.read()) if request.method == "POST" else None
    if found is None:
        return
    held = opened(request, found[1].decode())
    if held.address != request.path_qs:
        raise HeldGone
    # aiohttp has no public way to replace a body that was read; both names are where `read` and `post` look first
    request._read_bytes = held.body  # noqa: SLF001
    request._post = None  # noqa: SLF001


def _context(request: web.Request) -> str:
    return f"held_form {digest(cookie_of(request, COOKIE))}"
