"""A form that came after the proof of a password, or the whole session, had run out: kept while one signs in.

Theory of operation. Some forms ask for a password that was typed within 15 minutes. Who filled one in slowly must not
fill it in again, so the whole body goes, sealed, into the page that asks for the password, and from there into the form
that carries it out, which sends nothing else. `put_back` opens it again before anything reads the request: from then on
it is the form as it was first sent. What was typed, secrets included, is nowhere in a page but as ciphertext, and
nowhere on the server at all. It opens for the same session cookie, for the same address, and for 15 minutes.

A session that ended has no cookie that counts any more. Then the form is sealed for the user whose it was, goes through
the steps of signing in, and is sealed anew for the fresh session (`for_session`) when the same user comes out of them.
"""

import base64
import binascii
import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Resealed:
    """A kept form for the session that was just opened: the path and query it was sent to, and the sealed text."""

    address: str
    held: str


async def seal(request: web.Request) -> str:
    """This request's form as text for a hidden field; empty where there is none that could be kept."""
    return await _kept(request, _context(cookie_of(request, COOKIE)))


async def seal_for(request: web.Request, user_id: str) -> str:
    """As `seal`, for that user's next session."""
    return await _kept(request, _context_of_user(user_id))


async def _kept(request: web.Request, context: str) -> str:
    body = await request.read()
    if request.method != "POST" or len(body) > MAX_BYTES or (body and request.content_type != _FORM):
        return ""
    kept = {"at": utc_now().timestamp(), "address": request.path_qs, "body": body.decode("latin-1")}
    return _sealed(request, kept, context)


def _sealed(request: web.Request, kept: dict[str, Any], context: str) -> str:
    sealed = request.app[KEYS].seal(json.dumps(kept).encode(), context)
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def opened(request: web.Request, text: str) -> Held:
    """What `seal` made for this browser.

    Raises:
        HeldGone: it is older, of another session, or was changed.
    """
    kept = _opened(request, text, _context(cookie_of(request, COOKIE)))
    return Held(kept["address"], kept["body"].encode("latin-1"))


def _opened(request: web.Request, text: str, context: str) -> dict[str, Any]:
    try:
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        kept: dict[str, Any] = json.loads(request.app[KEYS].open(sealed, context))
    except (Unsealable, ValueError, binascii.Error) as exc:
        raise HeldGone from exc
    if utc_now().timestamp() - kept["at"] > KEPT_FOR.total_seconds():
        raise HeldGone
    return kept


def for_session(request: web.Request, text: str, user_id: str, cookie: str) -> Resealed | None:
    """What `seal_for` made, for the session that this user has just opened; None: too old, or another user's."""
    try:
        kept = _opened(request, text, _context_of_user(user_id))
    except HeldGone:
        return None
    return Resealed(kept["address"], _sealed(request, kept, _context(cookie)))


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


def _context(cookie: str) -> str:
    return f"held_form {digest(cookie)}"


def _context_of_user(user_id: str) -> str:
    return f"held_form of {user_id}"
