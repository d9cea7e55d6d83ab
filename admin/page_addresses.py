"""What a page understands of its address: which names, and what it does with those and with values it cannot read.

The API answers 400 to an unknown name or a cursor that is none. A page is looked at by a person, with a link that was
cut, bookmarked long ago or typed: it shows what it can without that part, and `sentence_of` says at its head which part
was left out. The value of an unknown name is never repeated: a secret that stands under a wrong name stays where it is.
"""

from collections.abc import Callable, Collection
from typing import TypeVar

from aiohttp import web
from multidict import MultiDict, MultiMapping

from admin.audit_filters import FILTERS as OF_AUDIT
from admin.phone_filters import FILTERS as OF_PHONES
from engine.errors import Invalid

EVERYWHERE = frozenset({"done"})
IN_CARD = "audit."  # before the audit log's filters, in the address of a page where the log is one card
KNOWN = {  # by the path as the routes spell it; every other page knows `EVERYWHERE` alone
    "/accounts": {"name"},
    "/audit": {*OF_AUDIT, "before", "limit", "after"},
    "/audit/anomalies": {"show"},
    "/auth-log": {"since", "until", "outcome", "end", "user", "ip", "method", "after"},
    "/calls": {"kind", "outcome", "location", "caller", "from", "to", "cursor"},
    "/compliance": {"verdict", "location_id", "location", "phone_id", "cursor"},
    "/compliance/print": {"verdict", "location_id", "phone_id", "cursor"},
    "/invitation": {"k"},
    "/lines/{id}": {"phone"},
    "/locations": {"q", "status", "tested", "told", "page"},
    "/locations/tests": {"show"},
    "/login": {"next"},
    "/login/code": {"next"},
    "/login/enrol": {"next"},
    "/login/password": {"next"},
    "/phonebook": {"q"},
    "/phones": {*OF_PHONES, "kind", "location", "after"},
    "/phones/fetch-log": {"outcome", "reason", "q", "since", "until", "after"},
    "/phones/import": {"kind"},
    "/phones/new": {"mac", "model"},
    "/phones/rollouts/new": {"subject"},
    "/phones/settings/level": {"name"},
    "/phones/templates/{vendor}/{name}/history": {"from", "to"},
    "/profile/two-factor": {"kind"},
    "/prove": {"next"},
    "/settings": {IN_CARD + name for name in OF_AUDIT},
    "/setup": {"k"},
    "/users": {"after"},
}
MOST_TOLD = 5
MOST_CHARACTERS = 40  # of a name
MOST_OF_DETAIL = 200

_UNREAD: web.RequestKey[dict[str, str]] = web.RequestKey("unread_names", dict)
_Read = TypeVar("_Read")


def understood(
    request: web.Request, read: Callable[[MultiMapping[str]], _Read], query: MultiMapping[str] | None = None
) -> _Read:
    """What `read` makes of the query; parameters that it refuses are left out, and the page says so.

    Args:
        query: The query as `read` spells it; None: as it stands in the address.
    Raises:
        Invalid: it refuses something that stands in no query.
    """
    query = MultiDict(request.query if query is None else query)
    while True:
        try:
            return read(query)
        except Invalid as exc:
            refused = {fault.field: fault.detail for fault in exc.fields if fault.field in query}
            if not refused:
                raise
            for name, detail in refused.items():
                leave_out(request, name, detail)
                query.popall(name)


def one_of(request: web.Request, name: str, known: Collection[str]) -> str:
    """The parameter when it is one of those; else empty, which the page says when there was something else."""
    text = request.query.get(name, "").strip()
    if text and text not in known:
        leave_out(request, name, f"Expected one of {', '.join(known)}.")
        return ""
    return text


def leave_out(request: web.Request, name: str, detail: str) -> None:
    """Note a parameter whose value was not understood, and what was expected, for the page's head."""
    request.setdefault(_UNREAD, {})[name] = detail


def sentence_of(request: web.Request) -> str:
    """What of this page's address was not understood; empty: nothing."""
    resource = request.match_info.route.resource
    if request.method != "GET" or resource is None:
        return ""
    known = EVERYWHERE | KNOWN.get(resource.canonical, set())
    unread = [f"{name} ({_detail(detail)})" for name, detail in request.get(_UNREAD, {}).items()]
    unread += [_name(name) for name in sorted(set(request.query) - known)]
    if not unread:
        return ""
    told = "; ".join(unread[:MOST_TOLD]) + ("; and more" if len(unread) > MOST_TOLD else "")
    return f"Something in this page's address was not understood, and the page is shown without it: {told}."


def _name(name: str) -> str:
    return _cut(name, MOST_CHARACTERS) or "a value without a name"


def _detail(detail: str) -> str:
    """A sentence as it stands in brackets: `Expected one of a, b.` → `expected one of a, b`"""
    return _cut(detail[:1].lower() + detail[1:].removesuffix("."), MOST_OF_DETAIL)


def _cut(text: str, most: int) -> str:
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return plain if len(plain) <= most else f"{plain[:most]}…"
