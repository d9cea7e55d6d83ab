"""Tests of locations: what 933 last showed of each, those not tested for 90 days, the plan, a round now, drills."""

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, CONFIG, KEYS, SESSION
from admin.page_addresses import one_of
from admin.pages.form import FORM, form_of, refuse_stale, see_other, typed
from admin.render import render
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.checkpoints import signer_of
from engine.audit.events import Event
from engine.db import utc_now
from engine.e911 import store, store_tests, sweeps
from engine.e911.sweep import UNTESTED_AFTER, Outcome
from engine.errors import EngineError, NotFound

SHOWN = 150  # locations of the page, which stays under 150 kB; those longest without a passed test come first
ROUNDS = 10
CADENCES = (("off", "Never by itself"), ("weekly", "Every week"), ("monthly", "Every month"))
_BADGES = {
    Outcome.PASSED: ("Passed", "ok"),
    Outcome.WRONG_PLACE: ("Wrong address", "bad"),
    Outcome.EARLIER_ADDRESS: ("Earlier address", "warn"),
    Outcome.NOT_ANSWERED: ("Not answered", "bad"),
    Outcome.NOT_RECORDED: ("No record", "bad"),
    Outcome.NO_CALLER: ("Nothing to test", "warn"),
    Outcome.NO_TEST_LINE: ("No test line", ""),
}


async def get_tests(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    is_overdue_only = one_of(request, "show", ("overdue",)) == "overdue"
    since = utc_now() - UNTESTED_AFTER
    tested = await store_tests.locations_tested(
        session, account.id, untested_since=since if is_overdue_only else None, limit=SHOWN
    )
    plan = await sweeps.plan_for(session, account)
    values = {"cadence": plan.cadence, "weekday": str(plan.weekday), "hour": str(plan.hour), "tells": plan.tells}
    return render(
        request,
        "location_tests.html.j2",
        error=error,
        tested=tested,
        since=since,
        count=await store_tests.count_locations(session, account.id),
        overdue=await store_tests.count_untested(session, account.id, since),
        without_caller=await store_tests.count_without_caller(session, account.id, since),
        is_overdue_only=is_overdue_only,
        plan=plan,
        form=await form_of(request, values, error),
        running=await store_tests.running_sweep_of(session, account.id),
        rounds=await store_tests.sweeps_of(session, account.id, ROUNDS),
        cadences=CADENCES,
        weekdays=[(str(at), name) for at, name in enumerate(sweeps.WEEKDAYS)],
        hours=[(str(at), f"{at:02}:00") for at in range(24)],
        untestable=await store_tests.untestable_among(session, [each.location.id for each in tested]),
        testable=await store_tests.count_testable(session, account.id),
        badge_of=badge_of,
        days=UNTESTED_AFTER.days,
        shown=SHOWN,
    )


def badge_of(outcome: str) -> tuple[str, str]:
    """A test's outcome as a badge: its words and its colour."""
    return _BADGES.get(Outcome(outcome), (outcome, "")) if outcome in set(Outcome) else (outcome, "")


async def post_plan(request: web.Request) -> web.Response:
    request[FORM] = _page
    plan = await sweeps.plan_for(request[SESSION], request[ACCOUNT], to_change=True)
    await refuse_stale(request, plan)
    values = {
        "cadence": await typed(request, "cadence"),
        "weekday": _number(await typed(request, "weekday")),
        "hour": _number(await typed(request, "hour")),
        "tells": bool(await typed(request, "tells")),
    }
    await sweeps.change_plan(request[SESSION], request[ACTOR], request[ACCOUNT], plan, values)
    return see_other("/locations/tests", "plan-saved")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None


async def post_sweep(request: web.Request) -> web.Response:
    request[FORM] = _page
    tells = bool(await typed(request, "tells"))
    await sweeps.begin_sweep(request[SESSION], request[ACTOR], request[ACCOUNT].id, tells=tells)
    return see_other("/locations/tests", "sweep-begun")


async def post_sweep_cancel(request: web.Request) -> web.Response:
    request[FORM] = _page
    running = await store_tests.running_sweep_of(request[SESSION], request[ACCOUNT].id)
    if running is None:
        raise NotFound("No round is under way; it may have ended a moment ago.")
    await sweeps.cancel_sweep(request[SESSION], request[ACTOR], running)
    return see_other("/locations/tests", "sweep-cancelled")


async def post_drill(request: web.Request) -> web.Response:
    request[FORM] = _page
    session, account = request[SESSION], request[ACCOUNT]
    location = await store.location_by_id(session, account.id, request.match_info["id"])
    if location is None:
        raise NotFound("This account has no such location. It may have been deleted.")
    call = await sweeps.hold_drill(
        session, request[ACTOR], account, location, signer=signer_of(request.app[KEYS]),
        public_url=request.app[CONFIG].admin.public_url.rstrip("/"),
    )  # fmt: skip
    return see_other(f"/calls/{call.id}", "drill-held")


_READ, _WRITE = Scope.CALLS_READ, Scope.CALLS_WRITE
ROUTES = (
    Route("GET", "/locations/tests", get_tests, _READ, Event.LOCATION_TEST_LIST),
    Route("POST", "/locations/tests/plan", post_plan, _WRITE, Event.SWEEP_PLAN_UPDATE),
    Route("POST", "/locations/tests/sweep", post_sweep, _WRITE, Event.SWEEP_CREATE),
    Route("POST", "/locations/tests/cancel", post_sweep_cancel, _WRITE, Event.SWEEP_CANCEL),
    Route("POST", "/locations/{id}/drill", post_drill, _WRITE, Event.DRILL_CREATE),
)
