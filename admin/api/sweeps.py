"""`/api/v1/sweep-plan`, `/sweeps`, `/location-tests` and `/drills`: whether each location's 911 calls would arrive."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, body_or_default, given, match_version, no_query, row_named
from admin.api.models import Answer, Body, Id, Instant
from admin.api.paging import PAGE_QUERIES, list_rows, page_asked, plainly
from admin.context import ACCOUNT, ACTOR, CONFIG, KEYS, RESOURCE, SESSION
from admin.pages.form import gathered, told_together
from admin.routes import Operation, Query, Route
from engine.accounts.scopes import Scope
from engine.audit.checkpoints import signer_of
from engine.audit.events import Event
from engine.db import utc_now
from engine.e911 import store, store_tests, sweeps
from engine.e911.sweep import UNTESTED_AFTER, Outcome
from engine.errors import FieldFault, Invalid
from engine.models import Cadence, Location, Sweep, SweepState

MAX_DAYS = 3_650
UNTESTED = Query(
    "untested_days",
    {"type": "integer", "minimum": 1, "maximum": MAX_DAYS},
    f"Only locations of which no test passed for so many days; the pages ask for {UNTESTED_AFTER.days}.",
)


class SweepPlanAnswer(Answer):
    """When all locations are tested with 933 by themselves. Weekday and hour are the account's; Monday is 0."""

    version: int
    cadence: Cadence
    weekday: int
    hour: int
    tells: bool
    next_at: Instant | None


class SweepPlanPatch(Body):
    cadence: Cadence = Cadence.OFF
    weekday: Annotated[int, Field(ge=0, le=6)] = 1
    hour: Annotated[int, Field(ge=0, le=23)] = 10
    tells: bool = True


class SweepAnswer(Answer):
    """One round through all locations."""

    id: str
    state: SweepState
    started_by: str
    tells: bool
    locations: int
    passed: int
    failed: int
    skipped: int
    started_at: Instant
    ended_at: Instant | None


class SweepBody(Body):
    tells: bool = True


class LocationTestAnswer(Answer):
    """What 933 calls last showed of a location. `passed_at` null: none went out with the address it has
    now and was answered.
    """

    location_id: str
    name: str
    passed_at: Instant | None
    passed_call_id: str | None
    passed_before_at: Instant | None
    tried_at: Instant | None
    tried_call_id: str | None
    outcome: Outcome | None
    detail: str


class DrillBody(Body):
    location_id: Id


class DrillAnswer(Answer):
    """The drill's call: it is told, rings and is acknowledged like a real one, and was sent to nobody."""

    id: str
    location_id: str


async def get_sweep_plan(request: web.Request) -> web.Response:
    no_query(request)
    plan = await sweeps.plan_for(request[SESSION], request[ACCOUNT])
    return answered(SweepPlanAnswer.model_validate(plan), plan)


async def patch_sweep_plan(request: web.Request) -> web.Response:
    no_query(request)
    plan = await sweeps.plan_for(request[SESSION], request[ACCOUNT], to_change=True)
    match_version(request, plan)
    values = given(await body_of(request, SweepPlanPatch))
    await sweeps.change_plan(request[SESSION], request[ACTOR], request[ACCOUNT], plan, values)
    return answered(SweepPlanAnswer.model_validate(plan), plan)


async def list_sweeps(request: web.Request) -> web.Response:
    return await list_rows(request, Sweep, plainly(SweepAnswer.model_validate), newest_first=True)


async def get_sweep(request: web.Request) -> web.Response:
    no_query(request)
    return answered(SweepAnswer.model_validate(await row_named(request, Sweep)))


async def post_sweep(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_or_default(request, SweepBody)
    sweep = await sweeps.begin_sweep(request[SESSION], request[ACTOR], request[ACCOUNT].id, tells=body.tells)
    return answered(SweepAnswer.model_validate(sweep), status=201, location=f"/api/v1/sweeps/{sweep.id}")


async def post_sweep_cancel(request: web.Request) -> web.Response:
    no_query(request)
    sweep = await row_named(request, Sweep, to_change=True)
    return answered(SweepAnswer.model_validate(await sweeps.cancel_sweep(request[SESSION], request[ACTOR], sweep)))


async def list_location_tests(request: web.Request) -> web.Response:
    async def shown(rows: Sequence[Location]) -> list[LocationTestAnswer]:
        tests = await store_tests.tests_by_location(request[SESSION], [row.id for row in rows])
        return [_test(row, tests) for row in rows]

    with told_together() as faults:
        with gathered(faults):
            page_asked(request, UNTESTED.name)
        days = _days(request)
    conditions = () if days is None else (store_tests.untested(utc_now() - dt.timedelta(days=days)),)
    return await list_rows(request, Location, shown, *conditions, filters=(UNTESTED.name,))


def _days(request: web.Request) -> int | None:
    text = request.query.get(UNTESTED.name)
    if text is None:
        return None
    days = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= days <= MAX_DAYS:
        expected = f"Expected a whole number from 1 to {MAX_DAYS}."
        raise Invalid("Some filters cannot be read.", fields=(FieldFault(UNTESTED.name, expected),))
    return days


def _test(location: Location, tests: store_tests.Tests) -> LocationTestAnswer:
    test = tests.get(location.id)
    return LocationTestAnswer(
        location_id=location.id,
        name=location.name,
        passed_at=test.passed_at if test else None,
        passed_call_id=test.passed_call_id if test else None,
        passed_before_at=test.passed_before_at if test else None,
        tried_at=test.tried_at if test else None,
        tried_call_id=test.tried_call_id if test else None,
        outcome=Outcome(test.outcome) if test else None,
        detail=test.detail if test else "Never tested.",
    )


async def post_drill(request: web.Request) -> web.Response:
    no_query(request)
    location_id = (await body_of(request, DrillBody)).location_id
    location = await store.location_by_id(request[SESSION], request[ACCOUNT].id, location_id)
    if location is None:
        fault = FieldFault("location_id", "This account has no such location.")
        raise Invalid("No drill was held.", fields=(fault,))
    request[RESOURCE] = ("drill", location.id, location.name)
    call = await sweeps.hold_drill(
        request[SESSION], request[ACTOR], request[ACCOUNT], location, signer=signer_of(request.app[KEYS]),
        public_url=request.app[CONFIG].admin.public_url.rstrip("/"),
    )  # fmt: skip
    told = DrillAnswer(id=call.id, location_id=location.id)
    return answered(told, status=201, location=f"/api/v1/emergency-calls/{call.id}")


_READ, _WRITE = Scope.CALLS_READ, Scope.CALLS_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/sweep-plan", get_sweep_plan, _READ, Event.SWEEP_PLAN_READ,
        operation=Operation("When all locations are tested", answer=SweepPlanAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/sweep-plan", patch_sweep_plan, _WRITE, Event.SWEEP_PLAN_UPDATE,
        operation=Operation(
            "Change when all locations are tested", body=SweepPlanPatch, answer=SweepPlanAnswer, if_match=True,
            has_etag=True,
        ),
    ),
    Route(
        "GET", "/api/v1/sweeps", list_sweeps, _READ, Event.SWEEP_LIST,
        operation=Operation(
            "List rounds of tests, newest first", answer=SweepAnswer, is_list=True, queries=PAGE_QUERIES
        ),
    ),
    Route(
        "GET", "/api/v1/sweeps/{id}", get_sweep, _READ, Event.SWEEP_READ,
        operation=Operation("One round of tests", answer=SweepAnswer),
    ),
    Route(
        "POST", "/api/v1/sweeps/{id}/cancel", post_sweep_cancel, _WRITE, Event.SWEEP_CANCEL,
        operation=Operation("End a round of tests early", answer=SweepAnswer, errors=(409,)),
    ),
    Route(
        "POST", "/api/v1/sweeps", post_sweep, _WRITE, Event.SWEEP_CREATE,
        operation=Operation(
            "Test every location now", body=SweepBody, body_optional=True, answer=SweepAnswer, status=201,
            errors=(409,),
        ),
    ),
    Route(
        "GET", "/api/v1/location-tests", list_location_tests, _READ, Event.LOCATION_TEST_LIST,
        operation=Operation(
            "What 933 calls last showed of each location", answer=LocationTestAnswer, is_list=True,
            queries=(*PAGE_QUERIES, UNTESTED),
        ),
    ),
    Route(
        "POST", "/api/v1/drills", post_drill, _WRITE, Event.DRILL_CREATE,
        operation=Operation("Hold a drill: nobody outside is called", body=DrillBody, answer=DrillAnswer, status=201),
    ),
)  # fmt: skip
