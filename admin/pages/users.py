"""Users: the list, inviting, changing, removing; and the page behind an invitation's link."""

from typing import Any

from aiohttp import web

from admin import auth
from admin.api.users import STANDING, InvitationAnswer, sent_or_told
from admin.bad_fields import note
from admin.context import ACCOUNT, ACTOR, BROWSER, DATABASE, KEYS, PASSWORDS, RESOURCE, SCOPES, SESSION, USER
from admin.invitations import INVITER
from admin.page_addresses import leave_out
from admin.pages.form import FORM, form_of, refuse_stale, see_other, typed
from admin.pages.sign_in import gone_on
from admin.render import render
from admin.routes import PUBLIC, Route
from engine.accounts import half_open, operations, signin, store, store_signin, two_factor
from engine.accounts.operations import UserFields
from engine.accounts.policy import DEFAULT
from engine.accounts.scopes import Scope, scopes_of_role
from engine.accounts.signin import Proof
from engine.accounts.users import earlier_passwords
from engine.audit.events import Event
from engine.db import utc_now
from engine.errors import EngineError, FieldFault, NotFound
from engine.models import Role, Session, User, UserStatus

SHOWN = 100
ROLES = (  # from the one that may most to the one that may least; what each is, in the words of the page
    (Role.OWNER, "Owner", "Everything, and makes other owners."),
    (Role.ADMIN, "Admin", "Everything but owners: PBXs, trunks, API keys and secrets included."),
    (
        Role.ACCOUNT_MANAGER, "Account manager",
        "The account, its people, locations, phones and calls, and the audit log. No trunks, API keys or secrets.",
    ),
    (Role.OPERATOR, "Operator", "Phones, lines, locations and calls from day to day. No users and no audit log."),
    (Role.AUDITOR, "Auditor", "Reads everything, the audit log included, and changes nothing."),
)  # fmt: skip
ROLE_NAMES = {role.value: name for role, name, _words in ROLES}


async def get_users(request: web.Request) -> web.Response:
    return await _users_page(request, None)


async def _users_page(
    request: web.Request, error: EngineError | None, *, invitation: InvitationAnswer | None = None, invited: str = ""
) -> web.Response:
    after = request.query.get("after") or None
    if after is not None and not store.is_id(after):
        leave_out(request, "after", "Expected a link of this page, unchanged.")
        after = None
    found = await store.rows_after(
        request[SESSION], User, request[ACCOUNT].id, User.status.in_(STANDING), after=after, limit=SHOWN + 1
    )
    values: dict[str, Any] = {"email": "", "name": "", "role": Role.OPERATOR.value}
    inviter = request.app[INVITER]
    kinds = await store_signin.kinds_by_user(request[SESSION], [user.id for user in found])
    return render(
        request, "users.html.j2", kinds=kinds, error=error, people=found[:SHOWN],
        older=found[SHOWN - 1].id if len(found) > SHOWN else "", is_first=after is None,
        form=await form_of(request, values, error), roles=ROLES, role_names=ROLE_NAMES,
        choices=roles_to_give(request), invitation=invitation, invited=invited,
        posted={user.id: inviter.posted(user.id) for user in found}, mails=inviter.is_working,
        has_server=inviter.is_set_up,
    )  # fmt: skip


def roles_to_give(request: web.Request, now: str = "") -> list[tuple[str, str]]:
    """The roles that this user may give, and the one the other has already."""
    mine, user = request[SCOPES], request.get(USER)
    own = request[ACTOR].role if user is None else user.role  # a platform operator's role at home
    return [
        (role.value, name)
        for role, name, _words in ROLES
        if role == now or (scopes_of_role(role) <= mine and (role is not Role.OWNER or own == Role.OWNER))
    ]


async def post_user(request: web.Request) -> web.Response:
    """Invite somebody. Where no mail server works the link is in the answer itself: it is nowhere else."""
    request[FORM] = _users_page
    wished = UserFields(await typed(request, "email"), await typed(request, "name"), await _role_typed(request))
    made = await operations.invite_user(
        request[SESSION], request[ACTOR], request[ACCOUNT], wished, granted=request[SCOPES]
    )
    return await _invited(request, made)


async def _invited(request: web.Request, made: operations.Invitation) -> web.Response:
    told = sent_or_told(request, made)
    await request[SESSION].flush()
    if told.url is None:
        if made.is_reset:
            return see_other(f"/users/{made.user.id}", "reset-mailed")
        return see_other("/users", "invited")
    return await _users_page(request, None, invitation=told, invited=made.user.email)


async def _role_typed(request: web.Request) -> Role:
    name = await typed(request, "role")
    if name not in ROLE_NAMES:
        note(request, [FieldFault("role", f"Expected one of {', '.join(ROLE_NAMES.values())}.")])
        return Role.AUDITOR  # the form is refused for it: other fields are looked at with the role that may least
    return Role(name)


async def get_user(request: web.Request) -> web.Response:
    return await _user_page(request, None)


async def _user_page(request: web.Request, error: EngineError | None) -> web.Response:
    person = await _user(request)
    form = await form_of(request, {"name": person.name, "role": person.role}, error)
    policy = await store_signin.policy_of(request[SESSION], person.account_id)
    factors = await store_signin.factors_of(request[SESSION], person.id)
    return render(
        request, "user.html.j2", error=error, person=person, form=form, roles=ROLES,
        role_names=ROLE_NAMES, choices=roles_to_give(request, person.role),
        is_self=request.get(USER) is not None and request[USER].id == person.id,
        sessions=await store.live_sessions_of(request[SESSION], person.id, policy), factors=factors,
        own=request[BROWSER].id if request.get(BROWSER) is not None else "",
        must_set_up=two_factor.must_set_up(policy, factors), codes_left=two_factor.recovery_codes_left(factors),
        devices=len(await store_signin.devices_of(request[SESSION], person.id, policy)),
        posted=request.app[INVITER].posted(person.id),
    )  # fmt: skip


async def post_user_change(request: web.Request) -> web.Response:
    person = await _user_of_form(request)
    await refuse_stale(request, person)
    wished = UserFields(
        person.email, await typed(request, "name"), await _role_typed(request), UserStatus(person.status)
    )
    await operations.update_user(request[SESSION], request[ACTOR], person, wished, granted=request[SCOPES])
    return see_other("/users", "user-saved")


async def post_user_status(request: web.Request) -> web.Response:
    """Disable somebody, or let them sign in again."""
    person = await _user_of_form(request)
    status = UserStatus.ACTIVE if await typed(request, "status") == "active" else UserStatus.DISABLED
    wished = UserFields(person.email, person.name, Role(person.role), status)
    await operations.update_user(request[SESSION], request[ACTOR], person, wished, granted=request[SCOPES])
    return see_other("/users", "user-enabled" if status is UserStatus.ACTIVE else "user-disabled")


async def post_user_invitation(request: web.Request) -> web.Response:
    person = await _user_of_form(request)
    made = await operations.renew_invitation(request[SESSION], request[ACTOR], person, granted=request[SCOPES])
    return await _invited(request, made)


async def post_user_delete(request: web.Request) -> web.Response:
    person = await _user_of_form(request)
    await operations.delete_user(request[SESSION], request[ACTOR], person, granted=request[SCOPES])
    return see_other("/users", "user-removed")


async def post_password_reset(request: web.Request) -> web.Response:
    """Make a link for somebody who forgot their password."""
    person = await _user_of_form(request)
    made = await operations.reset_password(request[SESSION], request[ACTOR], person, granted=request[SCOPES])
    return await _invited(request, made)


async def post_user_reset(request: web.Request) -> web.Response:
    """Take the second factors of somebody who lost them."""
    person = await _user_of_form(request)
    await two_factor.reset(request[SESSION], request[ACTOR], person, granted=request[SCOPES])
    return see_other(f"/users/{person.id}", "two-factor-reset")


async def post_session_end(request: web.Request) -> web.Response:
    person = await _user(request)
    row = await store.row_of(request[SESSION], Session, person.account_id, request.match_info["session"])
    if row.user_id != person.id:
        raise NotFound("This user has no session of that id.")
    await operations.refuse_beyond_user(request[SESSION], request[ACTOR], request[SCOPES], person.id)
    await operations.revoke_session(request[SESSION], request[ACTOR], row)
    return see_other(f"/users/{person.id}", "session-ended")


async def _user_of_form(request: web.Request) -> User:
    """Whom a form is about; refused, their page shows what was typed."""
    request[FORM] = _user_page
    return await _user(request)


async def _user(request: web.Request) -> User:
    user = await store.row_of(request[SESSION], User, request[ACCOUNT].id, request.match_info["id"])
    if user.status == UserStatus.REMOVED:
        raise NotFound("This account has no user of that id.")
    request[RESOURCE] = ("user", user.id, user.name or user.email)
    return user


async def get_invitation(request: web.Request) -> web.Response:
    return await _invitation_page(request, None)


async def _invitation_page(request: web.Request, error: EngineError | None) -> web.Response:
    key = request.query.get("k", "") or await typed(request, "k")
    found = await operations.invited_by(request[SESSION], key)
    form = await form_of(request, {"name": found[0].name if found else "", "password": ""}, error)
    policy = await store_signin.policy_of(request[SESSION], found[1].id) if found else DEFAULT
    return render(
        request, "invitation.html.j2", error=error, form=form, key=key, policy=policy,
        invited=found[0] if found else None, inviting=found[1].name if found else "", role_names=ROLE_NAMES,
    )  # fmt: skip


async def hash_chosen_password(request: web.Request) -> str:
    """The hash of the password that an invited user chose; without a good link nothing is hashed.

    Raises:
        NotFound: the link cannot be used. Invalid: the password breaks a rule.
    """
    async with request.app[DATABASE].sessions() as session:
        found = await operations.invited_by(session, await typed(request, "k"))
        policy = None if found is None else await store_signin.policy_of(session, found[1].id)
        earlier = [] if found is None else await earlier_passwords(session, found[0].id)
    if found is None or policy is None:
        raise NotFound("This invitation was used, was replaced by a newer one, or has expired.")
    user, account = found
    # so that a refusal is in their account's log under their name; before, nobody was known
    request[ACTOR] = signin.as_user(request[ACTOR], user)
    request[RESOURCE] = ("user", user.id, user.name or user.email)
    password = (await request.post()).get("password", "")
    context = (account.name, user.email, await typed(request, "name"))
    return await request.app[PASSWORDS].hash(
        password if isinstance(password, str) else "", context=context, policy=policy, earlier=earlier
    )


async def post_invitation(request: web.Request) -> web.Response:
    """Take the password that was chosen; the user is signed in, or sets a second factor up where one is required."""
    request[FORM] = _invitation_page
    password_hash = auth.prepared_or(request, "")
    user = await operations.accept_invitation(
        request[SESSION], request[ACTOR], await typed(request, "k"), await typed(request, "name"), password_hash
    )
    proof = Proof(user.id, user.account_id, user.email, user.name, user.role, utc_now())
    outcome = await half_open.enter(
        request[SESSION], request[ACTOR], proof, auth.browser_of(request, user.id), request.app[KEYS],
        can_mail=request.app[INVITER].is_set_up, is_part=True,
    )  # fmt: skip
    return await gone_on(request, outcome, "/")


_READ, _WRITE = Scope.USERS_READ, Scope.USERS_WRITE
ROUTES = (
    Route("GET", "/users", get_users, _READ, Event.USER_LIST),
    Route("POST", "/users", post_user, _WRITE, Event.USER_CREATE),
    Route("GET", "/users/{id}", get_user, _READ, Event.USER_READ),
    Route("POST", "/users/{id}", post_user_change, _WRITE, Event.USER_UPDATE),
    Route("POST", "/users/{id}/status", post_user_status, _WRITE, Event.USER_UPDATE),
    Route("POST", "/users/{id}/invitation", post_user_invitation, _WRITE, Event.INVITATION_CREATE),
    Route("POST", "/users/{id}/reset-password", post_password_reset, _WRITE, Event.PASSWORD_RESET, step_up=True),
    Route("POST", "/users/{id}/reset-2fa", post_user_reset, Scope.TWO_FACTOR_WRITE, Event.USER_RESET_2FA, step_up=True),
    Route("POST", "/users/{id}/sessions/{session}/end", post_session_end, _WRITE, Event.SESSION_DELETE),
    Route("POST", "/users/{id}/delete", post_user_delete, _WRITE, Event.USER_DELETE),
    Route("GET", "/invitation", get_invitation, PUBLIC, Event.INVITATION_READ),
    Route("POST", "/invitation", post_invitation, PUBLIC, Event.INVITATION_ACCEPT, prepare=hash_chosen_password),
)
