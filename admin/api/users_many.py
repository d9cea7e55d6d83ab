"""`POST /api/v1/users/bulk`: many people invited at once, or nobody."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, no_query
from admin.api.models import Answer, Body, Email, Text
from admin.api.users import InvitationAnswer, sent_or_told
from admin.context import ACCOUNT, ACTOR, SCOPES, SESSION
from admin.routes import Operation, Route
from engine.accounts import users_many
from engine.accounts.operations import UserFields
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import record
from engine.errors import Invalid
from engine.models import Role


class UserInvite(Body):
    email: Email
    name: Text = ""
    role: Role = Role.OPERATOR


class UserBulk(Body):
    """`dry_run` true: every fault is told and nothing is done."""

    users: Annotated[list[UserInvite], Field(min_length=1, max_length=users_many.MAX_AT_ONCE)]
    dry_run: bool = False


class UserInvited(Answer):
    id: str
    email: str
    invitation: InvitationAnswer


class UserBulkAnswer(Answer):
    """`bulk_id` names the entries of the audit log; null: a dry run, which invites nobody."""

    count: int
    dry_run: bool
    bulk_id: str | None
    invited: list[UserInvited]


async def post_users_bulk(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, UserBulk)
    session, actor, account, granted = request[SESSION], request[ACTOR], request[ACCOUNT], request[SCOPES]
    wished = [UserFields(one.email, one.name, one.role) for one in body.users]
    if body.dry_run:
        faults = await users_many.faults_of_many(session, actor, wished, granted=granted)
        if faults:
            raise Invalid("Some of these people cannot be invited.", fields=tuple(faults))
        note_check(request, len(wished))
        return answered(UserBulkAnswer(count=len(wished), dry_run=True, bulk_id=None, invited=[]))
    done = await users_many.invite_many(session, actor, account, wished, granted=granted)
    invited = [
        UserInvited(id=made.user.id, email=made.user.email, invitation=sent_or_told(request, made))
        for made in done.invitations
    ]
    return answered(UserBulkAnswer(count=len(invited), dry_run=False, bulk_id=done.bulk_id, invited=invited))


def note_check(request: web.Request, count: int) -> None:
    """The entry of a look that invites nobody."""
    resource = ("user", "users", "many")
    record(request[SESSION], request[ACTOR], Event.USER_CHECK, resource=resource, details={"users": count})


ROUTES = (
    Route(
        "POST", "/api/v1/users/bulk", post_users_bulk, Scope.USERS_WRITE, Event.USER_CREATE_MANY,
        operation=Operation("Invite many users at once", body=UserBulk, answer=UserBulkAnswer, errors=(409,)),
    ),
)  # fmt: skip
