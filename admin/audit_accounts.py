"""The audit log of a platform operator, by account: how many entries of each match, and the newest of them.

Theory of operation. Each account is a chain of its own, so each is asked by itself, in bounded time and for a bounded
count; what does not fit in one answer follows behind `next_after`. To look into an account's log is an act for that
account: it is an entry in that account's log, by the operator's own name, as if the operator had entered it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web
from multidict import MultiMapping

from admin.context import ACCOUNT, ACTOR, HOME, RESOURCE, SESSION
from engine.accounts import operators
from engine.accounts import store as accounts
from engine.audit import store
from engine.audit.events import Event
from engine.audit.record import record
from engine.audit.store import Filters, Group
from engine.errors import FieldFault, Invalid
from engine.models import Account

AT_ONCE = 100  # accounts of one answer: each gets an entry
COUNTED = 100  # entries of one account; beyond it the count says "at least"
WITHIN_S = 0.5  # of looking; the rest follows behind `next_after`


@dataclass(frozen=True, slots=True)
class ByAccount:
    """The accounts with matching entries, most first. `next_after`: the account to go on behind; None: that was all."""

    groups: list[Group]
    next_after: str | None


def is_over_accounts(request: web.Request, by: str) -> bool:
    """Whether grouping goes over every account: asked by a platform operator who acts for none of them."""
    return by == "account" and operators.is_operators(request[HOME]) and request[ACCOUNT] is request[HOME]


def after_of(query: MultiMapping[str]) -> str | None:
    """The account to go on behind, as the address names it.

    Raises:
        Invalid: it is no identifier.
    """
    after = query.get("after", "")
    if after and not accounts.is_id(after):
        fault = FieldFault("after", "Expected the next_after of the answer before.")
        raise Invalid("The list of accounts cannot go on from there.", fields=(fault,))
    return after or None


async def grouped_by_account(request: web.Request, filters: Filters, event: Event, after: str | None) -> ByAccount:
    """Every account's matching entries, the operators' own account first; each look stands in that account's log.

    Args:
        after: The account to go on behind; None: from the beginning.
    """
    session, home = request[SESSION], request[HOME]
    found = await accounts.accounts_after(session, after=after, limit=AT_ONCE + 1)
    rest: Sequence[Account] = found[:AT_ONCE]
    looked: list[Account] = []
    groups: list[Group] = []
    deadline = time.monotonic() + WITHIN_S
    for account in rest if after else (home, *rest):
        group = await store.group_of_chain(session, account.id, filters, label=account.name, most=COUNTED)
        groups += [group] if group is not None else []
        looked.append(account)
        if account is not home and time.monotonic() > deadline:
            break
    _record_looks(request, looked, event)
    is_all = len(found) <= AT_ONCE and (not rest or looked[-1] is rest[-1])
    groups.sort(key=lambda group: -group.count)
    return ByAccount(groups, None if is_all else looked[-1].id)


def _record_looks(request: web.Request, looked: Sequence[Account], event: Event) -> None:
    """One entry in each account's log, in one order, so that two such requests never wait for each other in a ring."""
    request[RESOURCE] = ("audit_log", "groups", "account")
    for account in sorted(
        {account.id: account for account in (request[HOME], *looked)}.values(), key=lambda one: one.id
    ):
        actor = request[ACTOR] if account is request[HOME] else operators.as_operator(request[ACTOR], account)
        record(request[SESSION], actor, event, resource=request[RESOURCE], account_id=account.id)
