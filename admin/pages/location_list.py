"""The list of locations with its filters, and one change to many of them: shown first, then confirmed."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from admin.context import ACCOUNT, ACTOR, SESSION
from admin.page_addresses import leave_out, one_of
from admin.pages.form import FORM, lines_typed, refusal_of, see_other, texts_sent, ticked, typed
from admin.render import has_address, render
from admin.routes import Route
from admin.twin_search import number_kept
from engine.accounts import store_trunks
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import record
from engine.db import utc_now
from engine.e911 import location_bulk, store, store_chats, store_merge
from engine.e911.location_bulk import Action, Change
from engine.e911.prefixes import plain_mac
from engine.errors import EngineError, FieldFault, Invalid, Stale
from engine.models import Account, Location, LocationStatus, LocationTest, Network, NetworkKind

PAGE = 100
TESTED_FOR = dt.timedelta(days=90)
_FILTERS = ("q", "status", "tested", "told")
_TYPED = ("which", "action", "emails", "callback_number", "timezone", "trunk_group_id")
_STATUSES = (*LocationStatus, "no_address")
_TESTED = ("lately", "not_lately", "never")
_TOLD = ("own", "no_own", "nobody")
_MENUS = {"status": _STATUSES, "tested": _TESTED, "told": _TOLD}


@dataclass(frozen=True, slots=True)
class Filters:
    """What the list is narrowed to; empty: nothing. Values are those of the page's menus."""

    text: str = ""
    status: str = ""
    tested: str = ""
    told: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filters":
        """From the address; a value that no menu offers counts as none."""
        chosen = {name: query.get(name, "") for name, known in _MENUS.items() if query.get(name, "") in known}
        return cls(text=query.get("q", "").strip()[:200], **chosen)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        values = zip(_FILTERS, (self.text, self.status, self.tested, self.told), strict=True)
        return [(name, value) for name, value in values if value]


def matching(
    locations: Sequence[Location],
    filters: Filters,
    tests: Mapping[str, LocationTest],
    now: dt.datetime,
    *,
    is_anybody_told: bool,
    chatting: Collection[str] = (),
) -> list[Location]:
    """The locations that pass every filter, in their order. `is_anybody_told`: the account has recipients; `chatting`:
    locations with recipients of their own by SMS or chat.
    """
    words = filters.text.casefold().split()
    return [
        location
        for location in locations
        if _has_words(location, words)
        and _has_status(location, filters.status)
        and _is_tested(tests.get(location.id), filters.tested, now)
        and _is_told(
            filters.told,
            has_own=bool(location.notification_recipients) or location.id in chatting,
            is_anybody_told=is_anybody_told,
        )
    ]


def _has_words(location: Location, words: Sequence[str]) -> bool:
    text = " ".join((location.name, *map(str, location.civic_address.values()))).casefold()
    return all(word in text for word in words)


def _has_status(location: Location, wished: str) -> bool:
    if not wished:
        return True
    return (location.status if has_address(location) else "no_address") == wished


def _is_tested(test: LocationTest | None, wished: str, now: dt.datetime) -> bool:
    passed_at = test.passed_at if test is not None else None
    is_lately = passed_at is not None and now - passed_at <= TESTED_FOR
    return {"": True, "lately": is_lately, "not_lately": not is_lately, "never": passed_at is None}[wished]


def _is_told(wished: str, *, has_own: bool, is_anybody_told: bool) -> bool:
    return {"": True, "own": has_own, "no_own": not has_own, "nobody": not has_own and not is_anybody_told}[wished]


async def _somebody_told(session: AsyncSession, account_id: str) -> tuple[bool, frozenset[str]]:
    """Whether the account itself tells anybody, and the locations that tell somebody of their own by SMS or chat."""
    is_told = bool(await store.recipients_of(session, account_id)) or await store_chats.told_everywhere(
        session, account_id
    )
    return bool(is_told), await store_chats.places_told(session, account_id)


async def get_locations(request: web.Request) -> web.Response:
    return await _list_page(request, None)


async def _list_page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    filters = _filters_asked(request) if error is None else await _filters_sent(request)
    locations = await store.locations_of(session, account.id)
    tests = await store_merge.tests_of(session, account.id)
    is_told, chatting = await _somebody_told(session, account.id)
    found = matching(locations, filters, tests, utc_now(), is_anybody_told=is_told, chatting=chatting)
    page = _page_asked(request, await typed(request, "page") if error else request.query.get("page", ""), len(found))
    shown = found[page * PAGE : (page + 1) * PAGE]
    return render(
        request, "locations.html.j2", error=error, filters=filters, locations=shown,
        is_empty=not locations, matching=len(found), tests=tests, recipients=is_told,
        networks=await _networks_of(request, shown), phones=await store_merge.phone_counts(session, account.id),
        twins=await number_kept(request), groups=await store_trunks.trunk_groups_of(session, account.id, limit=500),
        before=_address(filters, page - 1) if page else "",
        after=_address(filters, page + 1) if len(found) > (page + 1) * PAGE else "",
        detail=refusal_of(error), timezones=_zones(account, locations), number=page,
        kept=await texts_sent(request, _TYPED) if error else {},
        ticked=await ticked(request, "ids") if error else frozenset(),
    )  # fmt: skip


def _filters_asked(request: web.Request) -> Filters:
    menus = {name: one_of(request, name, _MENUS[name]) for name in _MENUS}
    return Filters.of({"q": request.query.get("q", ""), **menus})


async def _filters_sent(request: web.Request) -> Filters:
    """Those of the list whose form for many was sent: "all that match" means the same when it is shown once more."""
    return Filters.of(await texts_sent(request, _FILTERS))


def _page_asked(request: web.Request, text: str, matching: int) -> int:
    """The page asked for, counted from 0; the first when there is no such one, which the page says."""
    text = text or "0"
    page = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else -1
    if page == 0 or 0 < page * PAGE < matching:
        return page
    leave_out(request, "page", "There is no such page.")
    return 0


def _address(filters: Filters, page: int) -> str:
    pairs = [*filters.pairs, *([("page", str(page))] if page else [])]
    return f"/locations?{urlencode(pairs)}" if pairs else "/locations"


async def _networks_of(request: web.Request, locations: Sequence[Location]) -> dict[str, list[str]]:
    found = await store.networks_by_location(request[SESSION], locations)
    return {location_id: [spelled(network) for network in networks] for location_id, networks in found.items()}


def _zones(account: Account, locations: Sequence[Location]) -> list[str]:
    """Time zones to suggest: those that are in use."""
    return sorted({account.timezone, *(location.timezone for location in locations if location.timezone)})


def spelled(network: Network) -> str:
    """A network as people write it: MACs with colons."""
    chassis, slash, port = network.value.partition("/")
    if network.kind == NetworkKind.SUBNET or plain_mac(chassis) is None:
        return network.value
    return ":".join(chassis[at : at + 2] for at in range(0, 12, 2)) + slash + port


# --- many at a time ---------------------------------------------------------------------------------------------------


async def post_locations_bulk(request: web.Request) -> web.Response:
    """First shows what would be done to which; done when that page is confirmed."""
    request[FORM] = _list_page
    chosen = await _chosen(request)
    change = await _change(request)
    ids = [location.id for location in chosen]
    if await typed(request, "confirmed") != "yes":
        await location_bulk.refuse_unlike(request[SESSION], request[ACCOUNT], ids, change)
        return await _confirm_page(request, chosen, change)
    if await typed(request, "expected") != str(len(chosen)):
        raise Stale(f"{len(chosen):,} locations are meant now, another number than was shown. Look again.")
    await location_bulk.change_locations(request[SESSION], request[ACTOR], request[ACCOUNT], ids, change)
    return see_other("/locations", "locations-changed")


async def _chosen(request: web.Request) -> list[Location]:
    """The locations ticked, or all that match the filters that were set."""
    session, account = request[SESSION], request[ACCOUNT]
    post = await request.post()
    locations = await store.locations_of(session, account.id)
    if post.get("which") == "all":
        filters = await _filters_sent(request)
        tests = await store_merge.tests_of(session, account.id)
        is_told, chatting = await _somebody_told(session, account.id)
        found = matching(locations, filters, tests, utc_now(), is_anybody_told=is_told, chatting=chatting)
    else:
        ids = {str(text) for text in post.getall("ids", [])}
        found = [location for location in locations if location.id in ids]
    if not found:
        detail = "No location is chosen. Tick some on the list, or choose all that match."
        raise Invalid(detail, fields=(FieldFault("ids", detail),))
    return found


async def _change(request: web.Request) -> Change:
    """The change as the form tells it. Raises Invalid."""
    text = await typed(request, "action")
    if text not in {action.value for action in Action}:
        raise Invalid("What shall be done?", fields=(FieldFault("action", "Choose what to do with the locations."),))
    action = Action(text)
    if action in {Action.TELL, Action.TELL_NO_MORE}:
        return Change(action, emails=tuple(await lines_typed(request, "emails")))
    return Change(action, value=await typed(request, action.value) or None)


async def _confirm_page(request: web.Request, chosen: Sequence[Location], change: Change) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    record(session, request[ACTOR], Event.LOCATION_LIST)  # nothing is changed yet
    post = await request.post()
    fields = [(name, str(post.get(name, ""))) for name in (*_FILTERS, *_TYPED)]
    fields += [("ids", location.id) for location in chosen] if post.get("which") != "all" else []
    groups = {group.id: group.name for group in await store_trunks.trunk_groups_of(session, account.id, limit=500)}
    shown = groups.get(change.value or "", change.value) if change.action is Action.TRUNK_GROUP else change.value
    return render(
        request, "locations_bulk.html.j2", locations=chosen[:20], number=len(chosen), change=change, shown=shown,
        fields=fields, limit=location_bulk.MAX_AT_ONCE,
    )  # fmt: skip


ROUTES = (
    Route("GET", "/locations", get_locations, Scope.LOCATIONS_READ, Event.LOCATION_LIST),
    Route("POST", "/locations/bulk", post_locations_bulk, Scope.LOCATIONS_WRITE, Event.LOCATION_CHANGE_MANY),
)
