"""Inviting many users at once: lines are pasted, looked at, and then all are invited or nobody."""

from typing import Any

from aiohttp import web

from admin.api.users import sent_or_told
from admin.api.users_many import note_check
from admin.context import ACCOUNT, ACTOR, SCOPES, SESSION
from admin.pages.form import FORM, form_of, refuse, see_other, typed
from admin.pages.users import ROLE_NAMES, roles_to_give
from admin.render import render
from admin.routes import Route
from engine.accounts import users_many
from engine.accounts.operations import UserFields
from engine.accounts.scopes import Scope
from engine.accounts.users_many import Line, LineFault
from engine.audit.events import Event
from engine.errors import EngineError, FieldFault
from engine.models import Role

SHOWN_FAULTS = 100


async def get_invite(request: web.Request) -> web.Response:
    return await _invite_page(request, None)


async def _invite_page(request: web.Request, error: EngineError | None, **more: Any) -> web.Response:
    form = await form_of(request, {"lines": "", "role": Role.OPERATOR.value}, error)
    shown = {"links": [], "people": [], **more}
    return render(
        request, "users_bulk.html.j2", error=error, form=form, choices=roles_to_give(request),
        most=users_many.MAX_AT_ONCE, role_names=ROLE_NAMES, **shown,
    )  # fmt: skip


async def post_users_bulk(request: web.Request) -> web.Response:
    """First shows who would be invited; done when that page is confirmed."""
    request[FORM] = _invite_page
    session, actor, account, granted = request[SESSION], request[ACTOR], request[ACCOUNT], request[SCOPES]
    text, role = await typed(request, "lines"), await typed(request, "role")
    lines, faults = users_many.read_lines(text, Role(role) if role in ROLE_NAMES else Role.AUDITOR)
    wished = [UserFields(line.email, line.name, line.role or Role.AUDITOR) for line in lines]
    if lines:
        found = await users_many.faults_of_many(session, actor, wished, granted=granted)
        faults += [_of_line(fault, lines) for fault in found]
    told = _told(faults)
    if role not in ROLE_NAMES:
        told.append(FieldFault("role", f"Expected one of {', '.join(ROLE_NAMES.values())}."))
    refuse(told)
    if await typed(request, "confirmed") != "yes":
        note_check(request, len(wished))
        return await _invite_page(request, None, people=wished, text=text, role=role)
    done = await users_many.invite_many(session, actor, account, wished, granted=granted)
    links = [(made.user.email, sent_or_told(request, made)) for made in done.invitations]
    await session.flush()
    to_hand_over = [(email, answer) for email, answer in links if answer.url is not None]
    if not to_hand_over:
        return see_other("/users", "invited-many")
    return await _invite_page(request, None, links=to_hand_over, mailed=len(links) - len(to_hand_over))


def _of_line(fault: FieldFault, lines: list[Line]) -> LineFault:
    """`users.3.email` as the line it stands in."""
    at = fault.field.split(".")[1] if "." in fault.field else ""
    return LineFault(lines[int(at)].number if at.isdigit() else 0, fault.detail)


def _told(faults: list[LineFault]) -> list[FieldFault]:
    """Each fault by its line, in order; so many that nobody reads them are counted."""
    ordered = sorted({(fault.number, fault.detail) for fault in faults})
    told = [
        FieldFault("lines", f"Line {number}: {detail}" if number else detail)
        for number, detail in ordered[:SHOWN_FAULTS]
    ]
    if len(ordered) > SHOWN_FAULTS:
        told.append(FieldFault("lines", f"And {len(ordered) - SHOWN_FAULTS:,} more."))
    return told


ROUTES = (
    Route("GET", "/users/invite", get_invite, Scope.USERS_WRITE, Event.FORM_READ),
    Route("POST", "/users/bulk", post_users_bulk, Scope.USERS_WRITE, Event.USER_CREATE_MANY),
)
