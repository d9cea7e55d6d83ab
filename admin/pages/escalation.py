"""Escalation: who else is told of a call that nobody acknowledges, on one page."""

from typing import Any

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, SESSION
from admin.pages.form import FORM, form_of, lines_typed, refuse_stale, see_other, typed
from admin.render import render
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import escalation, store_chats
from engine.e911.escalation import MAX_STEPS, Step
from engine.errors import EngineError

_PATH = "/settings/escalation"
_AFTER = (60, 180, 600)  # what a step is offered with
_TIMES = {30: "30 seconds", 60: "1 minute"} | {each * 60: f"{each} minutes" for each in (2, 3, 5, 10, 15, 20, 30, 60)}


def span(seconds: int) -> str:
    """A step's time as the page offers it."""
    return _TIMES.get(seconds, f"{seconds} seconds")


async def get_escalation(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    plan = await escalation.plan_for(session, account)
    steps = escalation.steps_of(plan)
    values: dict[str, Any] = {}
    for at in range(MAX_STEPS):
        step = steps[at] if at < len(steps) else Step(_AFTER[at])
        values |= {f"steps.{at}.{name}": value for name, value in step.stored().items()}
    is_sent = error is not None and "steps.0.after_s" in await request.post()
    times = {**_TIMES, **{step.after_s: span(step.after_s) for step in steps}}
    return render(
        request, "escalation.html.j2", error=error, plan=plan, steps=range(MAX_STEPS), is_on=bool(steps),
        form=await form_of(
            request, values, error, kind="escalation_plan",
            lists=[f"steps.{at}.chat_recipient_ids" for at in range(MAX_STEPS)] if is_sent else (),
        ),
        times=sorted(times.items()),
        chats=[row for row, _place in await store_chats.chats_of(session, account.id)],
    )  # fmt: skip


async def post_escalation(request: web.Request) -> web.Response:
    request[FORM] = _page
    plan = await escalation.plan_for(request[SESSION], request[ACCOUNT], to_change=True)
    await refuse_stale(request, plan)
    post = await request.post()
    wished: list[dict[str, Any]] = []
    for at in range(MAX_STEPS):
        after = await typed(request, f"steps.{at}.after_s")
        wished.append(
            {
                "after_s": int(after) if after.isascii() and after.isdecimal() else None,
                "emails": await lines_typed(request, f"steps.{at}.emails"),
                "chat_recipient_ids": [str(one) for one in post.getall(f"steps.{at}.chat_recipient_ids", [])],
            }
        )
    while wished and not (wished[-1]["emails"] or wished[-1]["chat_recipient_ids"]):
        wished.pop()
    await escalation.change_plan(request[SESSION], request[ACTOR], request[ACCOUNT], plan, wished)
    return see_other(_PATH, "escalation-saved")


ROUTES = (
    Route("GET", _PATH, get_escalation, Scope.ACCOUNT_READ, Event.ESCALATION_PLAN_READ),
    Route("POST", _PATH, post_escalation, Scope.ACCOUNT_WRITE, Event.ESCALATION_PLAN_UPDATE),
)
