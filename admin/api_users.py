"""`/api/v1/users` and `/api/v1/sessions`: who may sign in, and who is signed in."""

from dataclasses import replace

from aiohttp import web

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api_models import Answer, Body, Email, Instant, Secret, StampedAnswer, Text, patch_of
from admin.api_paging import PAGE_QUERIES, list_rows, plainly
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, PASSWORDS, SESSION
from admin.routes import Operation, Route
from engine.accounts import operations
from engine.accounts.operations import UserFields
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.models import Role, Session, User, UserStatus


class UserAnswer(StampedAnswer):
    email: str
    name: str
    role: Role
    status: UserStatus
    last_login_at: Instant | None


class UserCreate(Body):
    """Without a password the user cannot sign in yet."""

    email: Email
    name: Text = ""
    role: Role = Role.ADMIN
    status: UserStatus = UserStatus.ACTIVE
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


class PasswordHash(str):
    """A new user's password as it is stored; empty when none was given."""

    __slots__ = ()


async def list_users(request: web.Request) -> web.Response:
    return await list_rows(request, User, plainly(UserAnswer.model_validate))


async def get_user(request: web.Request) -> web.Response:
    no_query(request)
    user = await row_named(request, User)
    return answered(UserAnswer.model_validate(user), user)


async def hash_new_password(request: web.Request) -> PasswordHash:
    body = await body_of(request, UserCreate)
    if body.password is None:
        return PasswordHash()
    context = (request[ACCOUNT].name, body.email, body.name)
    return PasswordHash(await request.app[PASSWORDS].hash(body.password, context=context))


async def post_user(request: web.Request) -> web.Response:
    no_query(request)
    password_hash = prepared(request, PasswordHash)
    body = await body_of(request, UserCreate)
    wished = UserFields(body.email, body.name, body.role, body.status)
    user = await operations.create_user(
        request[SESSION], request[ACTOR], request[ACCOUNT], wished, str(password_hash) or None
    )
    await request[SESSION].flush()
    return answered(UserAnswer.model_validate(user), user, status=201, location=f"/api/v1/users/{user.id}")


async def patch_user(request: web.Request) -> web.Response:
    no_query(request)
    user = await row_named(request, User, to_change=True)
    now = UserFields(user.email, user.name, Role(user.role), UserStatus(user.status))
    wished = replace(now, **given(await body_of(request, UserPatch)))
    await operations.update_user(request[SESSION], request[ACTOR], user, wished)
    await request[SESSION].flush()
    return answered(UserAnswer.model_validate(user), user)


async def list_sessions(request: web.Request) -> web.Response:
    return await list_rows(
        request, Session, plainly(SessionAnswer.model_validate), Session.ended_at.is_(None), newest_first=True
    )


async def delete_session(request: web.Request) -> web.Response:
    no_query(request)
    await operations.revoke_session(request[SESSION], request[ACTOR], await row_named(request, Session))
    return no_content()


ROUTES = (
    Route(
        "GET", "/api/v1/users", list_users, Scope.USERS_READ, Event.USER_LIST,
        operation=Operation("List users", answer=UserAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/users", post_user, Scope.USERS_WRITE, Event.USER_CREATE, prepare=hash_new_password,
        operation=Operation(
            "Add a user", body=UserCreate, answer=UserAnswer, status=201, has_etag=True, errors=(409, 429)
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
        "GET", "/api/v1/sessions", list_sessions, Scope.USERS_READ, Event.SESSION_LIST,
        operation=Operation("List who is signed in", answer=SessionAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "DELETE", "/api/v1/sessions/{id}", delete_session, Scope.USERS_WRITE, Event.SESSION_DELETE,
        operation=Operation("End a session", status=204),
    ),
)  # fmt: skip
