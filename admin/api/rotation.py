"""`/api/v1/provisioning-token/impact` and `/rotation`: what a rotation means, how far it has come, its end."""

from collections.abc import Sequence

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from admin.api import answered, body_or_default, no_query
from admin.api.models import Answer, Body, Instant
from admin.context import ACCOUNT, ACTOR, RESOURCE, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.models import Account
from engine.provisioning import cutover, store_cutover
from engine.provisioning.movement import PhoneSeen, RotationState


class PhoneSeenAnswer(Answer):
    """A phone of one of these lists. `asked_at`: when it last asked in vain with a token rotated away."""

    phone_id: str
    mac: str
    label: str
    model: str
    last_fetch_at: Instant | None
    asked_at: Instant | None


class ImpactAnswer(Answer):
    """Whom an immediate rotation would leave behind until they are given the new URL, and what a leak has exposed."""

    phones: int
    booted: int
    never: int
    seen_last_day: int
    seen_last_week: int
    last_seen_at: Instant | None
    unseen: list[PhoneSeenAnswer]
    sentence: str
    sip_passwords: int
    exposed: str


class RotationAnswer(Answer):
    """How far the phones' move to the next URL has come; with none under way, who asks by the URL in force."""

    state: RotationState
    began_at: Instant | None
    automatic: bool
    phones: int
    moved: int
    told: int
    elsewhere: int
    never: int
    left: list[PhoneSeenAnswer]
    stragglers_count: int
    stragglers: list[PhoneSeenAnswer]
    sentence: str


class CancelBody(Body):
    """`abandon`: let the next URL die at once, whatever phones hold it."""

    abandon: bool = False


async def get_impact(request: web.Request) -> web.Response:
    no_query(request)
    _name_account(request)
    found = await cutover.impact(request[SESSION], request[ACCOUNT])
    return answered(
        ImpactAnswer(
            phones=found.phones,
            booted=found.booted,
            never=found.never,
            seen_last_day=found.seen_last_day,
            seen_last_week=found.seen_last_week,
            last_seen_at=found.last_seen_at,
            unseen=_listed(found.unseen),
            sentence=found.sentence,
            sip_passwords=found.sip_passwords,
            exposed=found.exposed,
        )
    )


async def get_rotation(request: web.Request) -> web.Response:
    no_query(request)
    _name_account(request)
    return answered(await rotation_of(request[SESSION], request[ACCOUNT]))


async def post_cut(request: web.Request) -> web.Response:
    no_query(request)
    _name_account(request)
    await cutover.cut(request[SESSION], request[ACTOR], request[ACCOUNT])
    await request[SESSION].flush()
    return answered(await rotation_of(request[SESSION], request[ACCOUNT]))


async def post_cancel(request: web.Request) -> web.Response:
    no_query(request)
    _name_account(request)
    body = await body_or_default(request, CancelBody)
    await cutover.cancel(request[SESSION], request[ACTOR], request[ACCOUNT], is_abandoned=body.abandon)
    await request[SESSION].flush()
    return answered(await rotation_of(request[SESSION], request[ACCOUNT]))


async def rotation_of(session: AsyncSession, account: Account) -> RotationAnswer:
    """The whole state, as API and page show it."""
    reached = await store_cutover.progress(session, account)
    return RotationAnswer(
        state=reached.state,
        began_at=reached.began_at,
        automatic=reached.automatic,
        phones=reached.phones,
        moved=reached.moved,
        told=reached.told,
        elsewhere=reached.elsewhere,
        never=reached.never,
        left=_listed(await store_cutover.left_behind(session, account)),
        stragglers_count=await store_cutover.count_stragglers(session, account.id),
        stragglers=_listed(await store_cutover.stragglers(session, account.id)),
        sentence=reached.sentence,
    )


def _listed(phones: Sequence[PhoneSeen]) -> list[PhoneSeenAnswer]:
    return [PhoneSeenAnswer.model_validate(phone) for phone in phones]


def _name_account(request: web.Request) -> None:
    request[RESOURCE] = ("account", request[ACCOUNT].id, request[ACCOUNT].name)


_READ, _WRITE = Scope.PROVISIONING_READ, Scope.PROVISIONING_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/provisioning-token/impact", get_impact, _READ, Event.PROVISIONING_ROTATION_READ,
        operation=Operation("Whom a rotation would leave behind", answer=ImpactAnswer),
    ),
    Route(
        "GET", "/api/v1/provisioning-token/rotation", get_rotation, _READ, Event.PROVISIONING_ROTATION_READ,
        operation=Operation("How far the phones have moved, and who still asks with an old URL", answer=RotationAnswer),
    ),
    Route(
        "POST", "/api/v1/provisioning-token/rotation/cancel", post_cancel, _WRITE, Event.PROVISIONING_TOKEN_CANCEL,
        step_up=True,
        operation=Operation(
            "Call the move off; phones that hold the new URL are brought back first",
            body=CancelBody, body_optional=True, answer=RotationAnswer, errors=(409,),
        ),
    ),
    Route(
        "POST", "/api/v1/provisioning-token/rotation/cut", post_cut, _WRITE, Event.PROVISIONING_TOKEN_CUT,
        step_up=True,
        operation=Operation("End the old URL now, whoever has moved", answer=RotationAnswer, errors=(409,)),
    ),
)  # fmt: skip
