"""`/api/v1/users` and `/api/v1/sessions`: who may sign in, and who is signed in."""

from dataclasses import replace
from typing import Literal

from aiohttp import web

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import Answer, Body, Email, Instant, Secret, StampedAnswer, Text, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.auth import prepared_or
from admin.context import ACCOUNT, ACTOR, CONFIG, DATABASE, PASSWORDS, SCOPES, SESSION
from admin.invitations import INVITER, link_of
from admin.routes import Operation, Route
from engine.accounts import operations, store, store_signin
from engine.accounts.branding import plain_host
from engine.accounts.operations import Invitation, UserFields
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import Conflict, NotFound
from engine.models import Role, Session, User, UserStatus

STANDING = (UserStatus.ACTIVE, UserStatus.INVITED, UserStatus.DISABLED)


class InvitationAnswer(Answer):
    """`url` is null when the link went out by mail: then nobody but the invited user ever sees it."""

    url: str | None
    mailed_to: str | None
    expires_at: Instant


class UserAnswer(StampedAnswer):
    email: str
    name: str
    role: Role
    status: UserStatus
    last_login_at: Instant | None


class UserCreated(UserAnswer):
    invitation: InvitationAnswer | None


class UserCreate(Body):
    """With a password the user may sign in at once; without one they are invited and choose it themselves."""

    email: Email
    name: Text = ""
    role: Role = Role.ADMIN
    status: Literal["active", "disabled"] = "active"
    password: Secret | None = None


UserPatch = patch_of(UserCreate, "UserPatch", without=frozenset({"email", "password"}))


class SessionAnswer(Answer):
    id: str
    user_id: str
    method: str
    ip: str
    user_agent: str
    created_at: Instant
    seen_at: Instant
    proven_at: Instant
    ended_at: Instant | None
    end_reason: str | None


class PasswordHash(str):
    """A new user's password as it is stored; empty when none was given."""

    __slots__ = ()


async def list_users(request: web.Request) -> web.Response:
    return await list_rows(request, User, plainly(UserAnswer.model_validate), User.status.in_(STANDING))


async def get_user(request: web.Request) -> web.Response:
    no_query(request)
    user = await standing_user(request)
    return answered(UserAnswer.model_validate(user), user)


async def standing_user(request: web.Request, *, to_change: bool = False) -> User:
    """The user that the path names; one who was removed is not there.

    Raises:
        NotFound, and as `row_named`.
    """
    user = await row_named(request, User)
    if user.status == UserStatus.REMOVED:
        raise NotFound("This account has no user of that id.")
    return await row_named(request, User, to_change=True) if to_change else user


async def hash_new_password(request: web.Request) -> PasswordHash:
    body = await body_of(request, UserCreate)
    if body.password is None:
        return PasswordHash()
    context = (request[ACCOUNT].name, body.email, body.name)
    async with request.app[DATABASE].sessions() as session:
        policy = await store_signin.policy_of(session, request[ACCOUNT].id)
    return PasswordHash(await request.app[PASSWORDS].hash(body.password, context=context, policy=policy))


async def post_user(request: web.Request) -> web.Response:
    """Add a user: with a password, or with an invitation that is mailed, or told in the answer."""
    no_query(request)
    password_hash = prepared_or(request, PasswordHash("-"))
    body = await body_of(request, UserCreate)
    wished = UserFields(body.email, body.name, body.role, UserStatus(body.status))
    session, actor, account, granted = request[SESSION], request[ACTOR], request[ACCOUNT], request[SCOPES]
    invitation = None
    if password_hash or wished.status is UserStatus.DISABLED:
        user = await operations.create_user(
            session, actor, account, wished, str(password_hash) or None, granted=granted
        )
    else:
        made = await operations.invite_user(session, actor, account, wished, granted=granted)
        user, invitation = made.user, sent_or_told(request, made)
    await session.flush()
    fields = UserAnswer.model_validate(user).model_dump()
    return answered(UserCreated(**fields, invitation=invitation), user, status=201, location=f"/api/v1/users/{user.id}")


def sent_or_told(request: web.Request, made: Invitation) -> InvitationAnswer:
    """Mail the link after the commit; where none is likely to leave it is in the answer, this once."""
    inviter, link = request.app[INVITER], link_of(origin_of(request), made)
    if not inviter.is_likely_for(made.user.id):
        return InvitationAnswer(url=link, mailed_to=None, expires_at=made.expires_at)
    _refuse_unknown_host(request)
    actor = request[ACTOR]
    said_by = actor.display_name or (actor.name if actor.type == "user" else request[ACCOUNT].name)
    inviter.mail_after_commit(request[SESSION], made, request[ACCOUNT].name, said_by, link)
    return InvitationAnswer(url=None, mailed_to=made.user.email, expires_at=made.expires_at)


def origin_of(request: web.Request) -> str:
    """Where people reach this admin port: as configured, else as this request did."""
    return request.app[CONFIG].admin.public_url.rstrip("/") or f"{request.scheme}://{request.host}"


def _refuse_unknown_host(request: web.Request) -> None:
    """Mail no link to a host that only the request names: whoever is there would be given the link's key.

    Good are `[admin] public_url`, this machine itself, the address that the connection came to, and the account's own
    host name.

    Raises:
        Conflict
    """
    if request.app[CONFIG].admin.public_url:
        return
    near = request.transport.get_extra_info("sockname") if request.transport is not None else None
    own = {f"{near[0]}:{near[1]}", f"[{near[0]}]:{near[1]}"} if isinstance(near, tuple) else set()
    name = plain_host(request.host)
    good = {"localhost", "127.0.0.1", "[::1]", request[ACCOUNT].hostname or "localhost"}
    if request.host not in own and name not in good:
        raise Conflict(
            "No link was mailed: nobody has said that this host name is Callpoint's. 911 calls are not concerned. Set "
            "[admin] public_url to the address people open, restart, and try again."
        )


async def post_user_invitation(request: web.Request) -> web.Response:
    no_query(request)
    user = await standing_user(request)
    made = await operations.renew_invitation(request[SESSION], request[ACTOR], user, granted=request[SCOPES])
    return answered(sent_or_told(request, made), status=201)


async def post_password_reset(request: web.Request) -> web.Response:
    """A link for somebody who forgot their password: mailed, or told in the answer. The old password is dead."""
    no_query(request)
    user = await standing_user(request)
    made = await operations.reset_password(request[SESSION], request[ACTOR], user, granted=request[SCOPES])
    return answered(sent_or_told(request, made), status=201)


async def patch_user(request: web.Request) -> web.Response:
    no_query(request)
    user = await standing_user(request, to_change=True)
    now = UserFields(user.email, user.name, Role(user.role), UserStatus(user.status))
    changes = given(await body_of(request, UserPatch))
    if "status" in changes:
        changes["status"] = UserStatus(changes["status"])
    wished = replace(now, **changes)
    await operations.update_user(request[SESSION], request[ACTOR], user, wished, granted=request[SCOPES])
    await request[SESSION].flush()
    return answered(UserAnswer.model_validate(user), user)


async def delete_user(request: web.Request) -> web.Response:
    no_query(request)
    user = await standing_user(request, to_change=True)
    await operations.delete_user(request[SESSION], request[ACTOR], user, granted=request[SCOPES])
    return no_content()


async def list_sessions(request: web.Request) -> web.Response:
    policy = await store_signin.policy_of(request[SESSION], request[ACCOUNT].id)
    return await list_rows(
        request, Session, plainly(SessionAnswer.model_validate), *store.is_live(policy), newest_first=True
    )


async def get_session(request: web.Request) -> web.Response:
    no_query(request)
    return answered(SessionAnswer.model_validate(await row_named(request, Session)))


async def delete_session(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, Session)
    await operations.refuse_beyond_user(request[SESSION], request[ACTOR], request[SCOPES], row.user_id)
    await operations.revoke_session(request[SESSION], request[ACTOR], row)
    return no_content()


ROUTES = (
    Route(
        "GET", "/api/v1/users", list_users, Scope.USERS_READ, Event.USER_LIST,
        operation=Operation("List users", answer=UserAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/users", post_user, Scope.USERS_WRITE, Event.USER_CREATE, prepare=hash_new_password,
        operation=Operation(
            "Add or invite a user", body=UserCreate, answer=UserCreated, status=201, has_etag=True, errors=(409, 429)
        ),
    ),
    Route(
        "GET", "/api/v1/users/{id}", get_user, Scope.USERS_READ, Event.USER_READ,
        operation=Operation("One user", answer=UserAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/users/{id}", patch_user, Scope.USERS_WRITE, Event.USER_UPDATE,
        operation=Operation(
            "Change a user", body=UserPatch, answer=UserAnswer, if_match=True, has_etag=True, errors=(409,)
        ),
    ),
    Route(
        "DELETE", "/api/v1/users/{id}", delete_user, Scope.USERS_WRITE, Event.USER_DELETE,
        operation=Operation("Remove a user", status=204, if_match=True, errors=(409,)),
    ),
    Route(
        "POST", "/api/v1/users/{id}/invitation", post_user_invitation, Scope.USERS_WRITE, Event.INVITATION_CREATE,
        operation=Operation("Invite a user again", answer=InvitationAnswer, status=201, errors=(409,)),
    ),
    Route(
        "POST", "/api/v1/users/{id}/reset-password", post_password_reset, Scope.USERS_WRITE, Event.PASSWORD_RESET,
        step_up=True,
        operation=Operation("Reset a user's password", answer=InvitationAnswer, status=201, errors=(409,)),
    ),
    Route(
        "GET", "/api/v1/sessions", list_sessions, Scope.USERS_READ, Event.SESSION_LIST,
        operation=Operation("List who is signed in", answer=SessionAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "GET", "/api/v1/sessions/{id}", get_session, Scope.USERS_READ, Event.SESSION_READ,
        operation=Operation("One session", answer=SessionAnswer),
    ),
    Route(
        "DELETE", "/api/v1/sessions/{id}", delete_session, Scope.USERS_WRITE, Event.SESSION_DELETE,
        operation=Operation("End a session", status=204),
    ),
)  # fmt: skip
