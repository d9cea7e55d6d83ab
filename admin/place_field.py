"""A location in a form: a menu as long as it is short, else its name, typed.

Theory of operation. Two thousand locations in a menu are 150 kB a page, and nobody scrolls through them. Above
`MOST_CHOICES` the field takes a name (or an identifier). With scripts the browser's own list beneath it shows what the
server has while one types (`finding.js`); without, a name that is none brings the page back with names that are near
it, in the sentence and in that list. The form holds the name then, so that what was typed, what is stored and what
somebody else made of it meanwhile are compared as they are read. Templates write either with `parts.place`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web

from admin import bad_fields
from admin.context import ACCOUNT, SESSION
from admin.pages.form import typed
from engine.accounts.store import is_id
from engine.e911 import store_names
from engine.errors import FieldFault

MOST_CHOICES = 200  # locations in a menu; an account with more writes a name
NEAR = 8  # names offered for one that is none
_NEAR: web.RequestKey[dict[str, list[str]]] = web.RequestKey("names_near", dict)


@dataclass(frozen=True, slots=True)
class Places:
    """What a form offers: identifiers and names by name, or none of them where there are too many. `near`: by field,
    names near to the one that was typed. `titles`: of the locations that the page holds; `names`: those of them that
    no other location has.
    """

    choices: Sequence[tuple[str, str]]
    is_many: bool = False
    near: Mapping[str, Sequence[str]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)

    def shown(self, location_id: str | None) -> str:
        """What the field holds for that location: in a menu its identifier, else its name where no other has it."""
        if not location_id or not self.is_many:
            return location_id or ""
        return self.names.get(location_id, location_id)

    def title(self, location_id: str | None) -> str:
        """The name of a location that the page holds."""
        return {**dict(self.choices), **self.titles}.get(location_id or "", "a location")


@dataclass(frozen=True, slots=True)
class Called:
    """The one location of a name; else why there is none, and names near to it."""

    location_id: str | None
    detail: str = ""
    near: list[str] = field(default_factory=list)


async def places(request: web.Request, *location_ids: str | None) -> Places:
    """What the forms of a page offer.

    Args:
        location_ids: Those that its fields hold when they are first shown.
    """
    session, account = request[SESSION], request[ACCOUNT]
    found = await store_names.location_choices(session, account.id, limit=MOST_CHOICES + 1)
    if len(found) <= MOST_CHOICES:
        return Places(found)
    names = await store_names.location_names(session, account.id, [one for one in location_ids if one])
    alone = {
        key: name
        for key, name in names.items()
        if len(await store_names.locations_called(session, account.id, name)) < 2
    }
    return Places((), True, request.get(_NEAR, {}), alone, names)


async def place_typed(request: web.Request, name: str) -> str | None:
    """The location of a form's field, by its name or identifier; None where it is empty, or where the form is refused
    for it anyway.

    Raises:
        Invalid: it is none, and this is no place to note it (`admin.bad_fields`).
    """
    text = await typed(request, name)
    if not text or is_id(text):
        return text or None
    called = await place_called(request, text)
    if called.location_id is None:
        if _NEAR not in request:
            request[_NEAR] = {}
        request[_NEAR][name] = called.near
        bad_fields.note(request, [FieldFault(name, called.detail)])
    return called.location_id


async def place_called(request: web.Request, text: str) -> Called:
    """Which location is meant by a name."""
    session, account = request[SESSION], request[ACCOUNT]
    found = await store_names.locations_called(session, account.id, text) if text.isprintable() else []
    if len(found) == 1:
        return Called(found[0])
    near = [] if found else await store_names.names_near(session, account.id, text, limit=NEAR)
    return Called(None, _no_place(text, found, near), near)


def _no_place(text: str, found: Collection[str], near: Sequence[str]) -> str:
    told = repr(text[:60])
    if found:
        return f"Several locations are called {told}: give one of them another name, or write its identifier."
    if not near:
        return f"This account has no location called {told}, and none whose name holds a word of it."
    return f"This account has no location called {told}. Near to it: {', '.join(near)}."
