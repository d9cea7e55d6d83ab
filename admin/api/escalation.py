"""`/api/v1/escalation-plan`: who else is told of a call that nobody acknowledges."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, match_version, no_query
from admin.api.models import Answer, Body, Email, Id
from admin.context import ACCOUNT, ACTOR, RESOURCE, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.e911 import escalation
from engine.models import EscalationPlan


class EscalationStep(Body):
    """`after_s`: seconds since the call was recorded; each step later than the one before."""

    after_s: Annotated[int, Field(ge=escalation.MIN_AFTER_S, le=escalation.MAX_AFTER_S)]
    emails: Annotated[list[Email], Field(max_length=escalation.MAX_OF_STEP)] = Field(default_factory=list)
    chat_recipient_ids: Annotated[list[Id], Field(max_length=escalation.MAX_OF_STEP)] = Field(default_factory=list)


class EscalationStepAnswer(Answer):
    after_s: int
    emails: list[str]
    chat_recipient_ids: list[str]


class EscalationPlanAnswer(Answer):
    """No steps: nobody else is told. Every person stands in one step."""

    version: int
    steps: list[EscalationStepAnswer]


class EscalationPlanPatch(Body):
    steps: Annotated[list[EscalationStep], Field(max_length=escalation.MAX_STEPS)] = Field(default_factory=list)


async def get_plan(request: web.Request) -> web.Response:
    no_query(request)
    plan = await escalation.plan_for(request[SESSION], request[ACCOUNT])
    return answered(_answer(plan), plan)


async def patch_plan(request: web.Request) -> web.Response:
    no_query(request)
    plan = await escalation.plan_for(request[SESSION], request[ACCOUNT], to_change=True)
    match_version(request, plan)
    request[RESOURCE] = ("escalation_plan", plan.id, "Escalation")
    body = await body_of(request, EscalationPlanPatch)
    is_given = "steps" in body.model_fields_set
    steps = [step.model_dump() for step in body.steps] if is_given else list(plan.steps)
    await escalation.change_plan(request[SESSION], request[ACTOR], request[ACCOUNT], plan, steps)
    return answered(_answer(plan), plan)


def _answer(plan: EscalationPlan) -> EscalationPlanAnswer:
    steps = [EscalationStepAnswer.model_validate(step.stored()) for step in escalation.steps_of(plan)]
    return EscalationPlanAnswer(version=plan.version, steps=steps)


_PATH = "/api/v1/escalation-plan"
ROUTES = (
    Route(
        "GET", _PATH, get_plan, Scope.ACCOUNT_READ, Event.ESCALATION_PLAN_READ,
        operation=Operation("Who is told when nobody acknowledges", answer=EscalationPlanAnswer, has_etag=True),
    ),
    Route(
        "PATCH", _PATH, patch_plan, Scope.ACCOUNT_WRITE, Event.ESCALATION_PLAN_UPDATE,
        operation=Operation(
            "Set who is told when nobody acknowledges; no steps: nobody", body=EscalationPlanPatch,
            answer=EscalationPlanAnswer, if_match=True, has_etag=True,
        ),
    ),
)  # fmt: skip
