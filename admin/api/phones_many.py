"""`GET /api/v1/phones` with filters, and `POST /api/v1/phones/bulk`: one change to many phones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from pydantic import Field, JsonValue, ValidationError

from admin.api import answered, body_of, no_query
from admin.api.models import Answer, Body, Id, PlacementIn
from admin.api.paging import PAGE_QUERIES, page, page_asked
from admin.api.phones import PhoneAnswer, answers_of
from admin.api.resync import send_when_committed
from admin.context import ACCOUNT, ACTOR, DATABASE, PREPARED, SESSION
from admin.pages.form import gathered, told_together
from admin.phone_filters import FILTER_QUERIES, FILTERS, filters_of_body, listing_asked, place_asked, place_text
from admin.render import zone_of
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.db import utc_now
from engine.errors import EngineError, FieldFault, Invalid, Stale
from engine.provisioning import bulk, store_phones, store_resync
from engine.provisioning.bulk import Action, Change, Done, Planned
from engine.provisioning.phone_list import Filters
from engine.provisioning.settings import CHECKS


class PhoneBulk(Body):
    """Either `ids` or `filters` says which phones; empty filters are all of them. `expected`: how many that were when
    somebody looked; another number now is refused. `value` null and `own` false: the phones have no such setting of
    their own any more.
    """

    action: Action
    ids: Annotated[list[Id], Field(min_length=1, max_length=bulk.MAX_AT_ONCE)] | None = None
    filters: dict[str, str] | None = None
    expected: Annotated[int, Field(ge=0)] | None = None
    location_id: Id | None = None
    placement: PlacementIn = None
    setting: Annotated[str, Field(max_length=60)] | None = None
    value: JsonValue = None
    own: bool = True


@dataclass(frozen=True, slots=True)
class Meant:
    """What was made ready before the transaction; None: nothing."""

    plan: Planned | None = None


class PhoneBulkAnswer(Answer):
    """`phones`: how many were meant; `changed`: how many of them were not like that already."""

    phones: int
    changed: int
    bulk_id: str


async def list_phones(request: web.Request) -> web.Response:
    with told_together() as faults:
        with gathered(faults):
            asked = page_asked(request, *FILTERS)
        listing = listing_asked(request.query, zone_of(request[ACCOUNT]))
    found = await store_phones.list_phones(
        request[SESSION], request[ACCOUNT].id, listing.filters, order=listing.order,
        is_descending=listing.is_descending, after=place_asked(asked.after, listing), limit=asked.limit,
    )  # fmt: skip
    following = None if found.next_place is None else place_text(found.next_place, listing)
    return page(request, await answers_of(request, found.rows), following)


async def plan_phones_bulk(request: web.Request) -> Meant:
    """Before the transaction: what a change of thousands of phones writes is made there. A request with faults has
    nothing to plan; the handler says what they are.
    """
    try:
        body = PhoneBulk.model_validate_json(await request.read())
        filters = filters_of_body(body.filters or {}, zone_of(request[ACCOUNT]))
    except (ValidationError, EngineError):
        return Meant()
    return await planned(request, body, filters) if (body.ids is None) != (body.filters is None) else Meant()


async def planned(request: web.Request, wished: PhoneBulk, filters: Filters) -> Meant:
    """What the change writes of the phones that are meant; nothing where it cannot be made."""
    database, account = request.app[DATABASE], request[ACCOUNT]
    try:
        async with database.sessions() as session:
            phone_ids = await bulk.chosen(session, account.id, ids=wished.ids, filters=filters)
        return Meant(await bulk.planned(database, account.id, phone_ids, _change_of(wished)))
    except EngineError:
        return Meant()


async def post_phones_bulk(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, PhoneBulk)
    if (body.ids is None) == (body.filters is None):
        told = "Expected ids or filters, one of the two."
        raise Invalid("Which phones are meant?", fields=(FieldFault("ids", told),))
    filters = filters_of_body(body.filters or {}, zone_of(request[ACCOUNT]))
    phone_ids = await bulk.chosen(
        request[SESSION], request[ACCOUNT].id, ids=body.ids, filters=filters, plan=plan_of(request)
    )
    if body.expected is not None and body.expected != len(phone_ids):
        raise Stale(f"{body.expected:,} phones were expected, and {len(phone_ids):,} are meant now. Look again.")
    done = await carried_out(request, phone_ids, body)
    return answered(PhoneBulkAnswer(phones=done.phones, changed=done.changed, bulk_id=done.bulk_id))


async def carried_out(request: web.Request, phone_ids: Sequence[str], wished: PhoneBulk) -> Done:
    """The one operation, for API and page. Raises Invalid."""
    session, actor, account = request[SESSION], request[ACTOR], request[ACCOUNT]
    plan = plan_of(request)
    if wished.action is Action.LOCATION:
        return await bulk.set_location(session, actor, account, phone_ids, wished.location_id, plan=plan)
    if wished.action is Action.PLACEMENT:
        return await bulk.set_placement(session, actor, account, phone_ids, wished.placement, plan=plan)
    if wished.action is Action.DELETE:
        return await bulk.delete_phones(session, actor, account, phone_ids, plan=plan)
    if wished.action is Action.RESYNC:
        return await _resynced(request, phone_ids)
    if wished.setting is None or wished.setting not in CHECKS:
        raise Invalid("Which setting is meant?", fields=(FieldFault("setting", f"Expected {', '.join(CHECKS)}."),))
    return await bulk.set_setting(
        session, actor, account, phone_ids, wished.setting, wished.value, own=wished.own, plan=plan
    )


def plan_of(request: web.Request) -> Planned | None:
    """What was made ready of this very request."""
    made = request.get(PREPARED)
    return made.value.plan if made is not None and isinstance(made.value, Meant) else None


def _change_of(wished: PhoneBulk) -> Change:
    return Change(wished.action, wished.location_id, wished.setting or "", wished.value, wished.own, wished.placement)


async def _resynced(request: web.Request, phone_ids: Sequence[str]) -> Done:
    session, account = request[SESSION], request[ACCOUNT]
    done = await bulk.note_resync(session, request[ACTOR], account, phone_ids)
    fleet = await store_resync.fleet_of(session, account.id, phone_ids, fleet_id=done.bulk_id)
    await store_resync.note_waiting(session, fleet, utc_now())
    send_when_committed(request, fleet)
    return Done(done.phones, len(fleet.planned), done.bulk_id)


ROUTES = (
    Route(
        "GET", "/api/v1/phones", list_phones, Scope.PHONES_READ, Event.PHONE_LIST,
        operation=Operation("List phones", answer=PhoneAnswer, is_list=True, queries=PAGE_QUERIES + FILTER_QUERIES),
    ),
    Route(
        "POST", "/api/v1/phones/bulk", post_phones_bulk, Scope.PHONES_WRITE, Event.PHONE_CHANGE_MANY,
        prepare=plan_phones_bulk,
        operation=Operation(
            "Change many phones at once", body=PhoneBulk, answer=PhoneBulkAnswer, errors=(404, 412)
        ),
    ),
)  # fmt: skip
