"""`/api/v1/numbers` and `/number-pools`: the numbers a PSAP can call back, and how far each location's pool reaches."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import NAME_PATTERN, Answer, Body, Id, Instant, Number, StampedAnswer, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.db import utc_now
from engine.e911 import callback_numbers
from engine.e911.callback_numbers import Pool
from engine.models import Number as StoredNumber
from engine.models import NumberKind


class NumberAnswer(StampedAnswer):
    """`held_until`: a 911 call has it for callbacks until then."""

    e164: str
    kind: NumberKind
    location_id: str | None
    line_id: str | None
    held_until: Instant | None


class NumberCreate(Body):
    """`elin`: lent to calls from its location; `direct`: a line's own."""

    e164: Number
    kind: NumberKind = NumberKind.DIRECT
    location_id: Id | None = None
    line_id: Id | None = None


NumberPatch = patch_of(NumberCreate, "NumberPatch", without=frozenset({"e164"}))


class NumberRange(Body):
    """A run of at most 500 numbers, all for the same."""

    range: Annotated[str, Field(min_length=5, max_length=80, pattern=NAME_PATTERN)]
    kind: NumberKind = NumberKind.ELIN
    location_id: Id | None = None


class NumbersMade(Answer):
    data: list[NumberAnswer]


class PoolAnswer(Answer):
    """`peak`: the most numbers held at one moment of the last 30 days."""

    location_id: str | None
    size: int
    held: int
    peak: int
    next_free_at: Instant | None
    warning: str


class PoolsAnswer(Answer):
    data: list[PoolAnswer]


async def list_numbers(request: web.Request) -> web.Response:
    return await list_rows(request, StoredNumber, plainly(NumberAnswer.model_validate))


async def get_number(request: web.Request) -> web.Response:
    no_query(request)
    number = await row_named(request, StoredNumber)
    return answered(NumberAnswer.model_validate(number), number)


async def post_number(request: web.Request) -> web.Response:
    no_query(request)
    values = given(await body_of(request, NumberCreate))
    number = await callback_numbers.create_number(request[SESSION], request[ACTOR], request[ACCOUNT], values)
    return answered(NumberAnswer.model_validate(number), number, status=201, location=f"/api/v1/numbers/{number.id}")


async def post_number_range(request: web.Request) -> web.Response:
    no_query(request)
    values = (await body_of(request, NumberRange)).model_dump()
    made = await callback_numbers.create_range(request[SESSION], request[ACTOR], request[ACCOUNT], values)
    return answered(NumbersMade(data=[NumberAnswer.model_validate(number) for number in made]), status=201)


async def patch_number(request: web.Request) -> web.Response:
    no_query(request)
    number = await row_named(request, StoredNumber, to_change=True)
    values = given(await body_of(request, NumberPatch))
    await callback_numbers.update_number(request[SESSION], request[ACTOR], request[ACCOUNT], number, values)
    return answered(NumberAnswer.model_validate(number), number)


async def delete_number(request: web.Request) -> web.Response:
    no_query(request)
    number = await row_named(request, StoredNumber, to_change=True)
    await callback_numbers.delete_number(request[SESSION], request[ACTOR], number)
    return no_content()


async def list_pools(request: web.Request) -> web.Response:
    no_query(request)
    pools = await callback_numbers.pools_of(request[SESSION], request[ACCOUNT], utc_now())
    return answered(PoolsAnswer(data=[_pool(pool) for pool in pools]))


def _pool(pool: Pool) -> PoolAnswer:
    return PoolAnswer.model_validate({name: getattr(pool, name) for name in PoolAnswer.model_fields})


_READ, _WRITE = Scope.TELEPHONY_READ, Scope.TELEPHONY_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/numbers", list_numbers, _READ, Event.NUMBER_LIST,
        operation=Operation("List callback numbers", answer=NumberAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/numbers", post_number, _WRITE, Event.NUMBER_CREATE,
        operation=Operation(
            "Add a number", body=NumberCreate, answer=NumberAnswer, status=201, has_etag=True, errors=(409,)
        ),
    ),
    Route(
        "POST", "/api/v1/numbers/range", post_number_range, _WRITE, Event.NUMBER_CREATE,
        operation=Operation("Add a run of numbers", body=NumberRange, answer=NumbersMade, status=201, errors=(409,)),
    ),
    Route(
        "GET", "/api/v1/numbers/{id}", get_number, _READ, Event.NUMBER_READ,
        operation=Operation("One number", answer=NumberAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/numbers/{id}", patch_number, _WRITE, Event.NUMBER_UPDATE,
        operation=Operation(
            "Change what a number is for", body=NumberPatch, answer=NumberAnswer, if_match=True, has_etag=True
        ),
    ),
    Route(
        "DELETE", "/api/v1/numbers/{id}", delete_number, _WRITE, Event.NUMBER_DELETE,
        operation=Operation("Remove a number that no call holds", status=204, if_match=True, errors=(409,)),
    ),
    Route(
        "GET", "/api/v1/number-pools", list_pools, _READ, Event.NUMBER_LIST,
        operation=Operation("How far each location's pool reaches", answer=PoolsAnswer),
    ),
)  # fmt: skip
