"""Inviting many users at once: pasted lines are read, every fault is told by line, and then all are invited or nobody.

One entry of the audit log tells of the operation and one of each user, with the operation's name (S1-15).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine import csv_table
from engine.accounts import store
from engine.accounts.addresses import plain_email
from engine.accounts.scopes import EVERY_SCOPE, Scope
from engine.accounts.users import Invitation, UserFields, invite_user, refuse_beyond, refuse_unfit
from engine.audit.events import Event
from engine.audit.record import Actor, parts_of, record
from engine.errors import FieldFault, Forbidden, Invalid
from engine.ids import new_id
from engine.models import Account, Role

MAX_AT_ONCE = 100  # a mail each, and a link each to look at where no mail leaves
COLUMNS = ("email", "name", "role")
_SPELLINGS = {"e_mail": "email", "mail": "email", "e_mail_address": "email", "email_address": "email"}


@dataclass(frozen=True, slots=True)
class Line:
    """One pasted line. `number`: as an editor counts, from 1. `role` None: it names one that is none."""

    number: int
    email: str
    name: str
    role: Role | None


@dataclass(frozen=True, slots=True)
class LineFault:
    """What is wrong with a line; 0 is the whole text."""

    number: int
    detail: str


@dataclass(frozen=True, slots=True)
class InvitedMany:
    """`bulk_id`: the name that the entries share."""

    bulk_id: str
    invitations: tuple[Invitation, ...]


def read_lines(text: str, role: Role) -> tuple[list[Line], list[LineFault]]:
    """Read pasted lines or CSV: e-mail, name, role; a first line may name the columns in another order.

    Args:
        role: Of lines that name none.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = csv_table.separator_of(first)
    is_headed = "@" not in first and any(_is_email_heading(cell) for cell in first.split(separator))
    whole = text if is_headed else f"{separator.join(COLUMNS)}\n{text}"
    sheet = csv_table.read(whole.encode("utf-8", "replace"), COLUMNS, spellings=_SPELLINGS, max_rows=MAX_AT_ONCE)
    ahead = 0 if is_headed else 1
    faults = [LineFault(max(0, fault.row - ahead), fault.detail) for fault in sheet.faults]
    lines = []
    for row in sheet.rows:
        number, named = row.number - ahead, row.cells.get("role", "")
        found = _role_named(named) if named else role
        if found is None:
            told = ", ".join(each.value for each in Role)
            faults.append(LineFault(number, f"There is no role {named[:40]!r}; expected one of {told}."))
        lines.append(Line(number, row.cells.get("email", ""), row.cells.get("name", ""), found))
    if not lines and not faults:
        faults.append(LineFault(0, "Nobody is named. Type one e-mail address a line."))
    return lines, faults


def _is_email_heading(cell: str) -> bool:
    plain = csv_table.plain_heading(cell.strip().strip('"'))
    return plain == "email" or plain in _SPELLINGS


def _role_named(text: str) -> Role | None:
    plain = csv_table.plain_heading(text)
    return Role(plain) if plain in {role.value for role in Role} else None


async def faults_of_many(
    session: AsyncSession, actor: Actor, wished: Sequence[UserFields], *, granted: frozenset[Scope]
) -> list[FieldFault]:
    """Everything that keeps these people from being invited, as `users.0.email`; nothing is written.

    Raises:
        Forbidden: nothing is wrong but roles that hold more than the one who invites has.
    """
    if not 1 <= len(wished) <= MAX_AT_ONCE:
        return [FieldFault("users", f"Expected 1 to {MAX_AT_ONCE} people at once, got {len(wished)}.")]
    faults: list[FieldFault] = []
    beyond: list[FieldFault] = []
    addresses = [plain_email(each.email) for each in wished]
    for at, each in enumerate(wished):
        try:
            refuse_unfit(each)
        except Invalid as error:
            faults += [FieldFault(f"users.{at}.{fault.field}", fault.detail) for fault in error.fields]
        try:
            await refuse_beyond(session, actor, granted, each.role)
        except Forbidden as error:
            beyond.append(FieldFault(f"users.{at}.role", error.detail))
        first = addresses.index(addresses[at])
        if first != at:
            faults.append(FieldFault(f"users.{at}.email", f"{addresses[at]} is named twice."))
        elif await store.user_by_email(session, addresses[at]) is not None:
            told = f"{addresses[at]} is here already. An address signs in to one account."
            faults.append(FieldFault(f"users.{at}.email", told))
    if beyond and not faults:
        raise Forbidden(f"{beyond[0].detail} Nobody was invited.")
    return faults + beyond


async def invite_many(
    session: AsyncSession,
    actor: Actor,
    account: Account,
    wished: Sequence[UserFields],
    *,
    granted: frozenset[Scope] = EVERY_SCOPE,
) -> InvitedMany:
    """Invite them all, each with a one-time link.

    Raises:
        Invalid: every fault of every one; then nobody is invited. Forbidden: as `faults_of_many`.
    """
    faults = await faults_of_many(session, actor, wished, granted=granted)
    if faults:
        raise Invalid("Nobody was invited: some of these people cannot be.", fields=tuple(faults))
    bulk_id = new_id("request")
    details = {"users": len(wished)}
    record(session, actor, Event.USER_CREATE_MANY, resource=("user", bulk_id, "many"), details=details)
    with parts_of(session, bulk_id):
        made = [await invite_user(session, actor, account, each, granted=granted) for each in wished]
    return InvitedMany(bulk_id, tuple(made))
