"""`/api/v1/audit-log`: the account's chain, newest first, exactly as it was hashed."""

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from admin.api import answered, no_query
from admin.api.models import Answer, any_json
from admin.api.paging import PAGE_QUERIES, page, page_asked
from admin.audit_accounts import after_of, grouped_by_account, is_over_accounts
from admin.audit_export import CSV, JSON_LINES, exported
from admin.audit_filters import ACTIONS, CATEGORIES, GROUPINGS, TYPES, who_faults, with_user
from admin.context import ACCOUNT, RESOURCE, SESSION
from admin.pages.form import gathered, told_together
from admin.routes import Operation, Query, Route
from admin.times_asked import instant_asked
from engine.accounts.scopes import Scope
from engine.accounts.store import is_id
from engine.audit import store
from engine.audit.events import Event
from engine.audit.store import Filters
from engine.errors import FieldFault, Invalid, NotFound
from engine.models import AuditEntry

OUTCOMES = ("success", "failure", "denied")
_TIME = {"type": "string", "format": "date-time"}
FILTER_QUERIES = (
    Query("since", _TIME, "From this time on, inclusive."),
    Query("until", _TIME, "Up to this time, inclusive."),
    Query("event", {"type": "string"}, "One or more events, parted by commas, such as `user.create`."),
    Query("resource", {"type": "string"}, "A prefix of the resource's identifier; `user` finds every user."),
    Query("actor", {"type": "string"}, "A prefix of the actor's identifier or name."),
    Query("outcome", {"enum": list(OUTCOMES)}, "How it ended."),
    Query("ip", {"type": "string"}, "An address, a part of one, or a network."),
    Query(
        "keyword",
        {"type": "string"},
        "Any part of the entry; a MAC address in any spelling; how `hash` or `prev_hash` begins, eight digits or more.",
    ),
    Query("category", {"enum": list(CATEGORIES)}, "What the event is about."),
    Query("action", {"enum": list(ACTIONS)}, "What was done."),
    Query("user", {"type": "string"}, "A user's identifier: what they did, the acts of their API keys included."),
    Query("target", {"type": "string"}, "One record's whole identifier: its history."),
    Query("type", {"enum": list(TYPES)}, "What kind of record it was done to."),
)
_NAMES = tuple(query.name for query in FILTER_QUERIES)
_EVENTS = frozenset(event.value for event in Event)


class ActorAnswer(Answer):
    type: str
    id: str
    name: str
    display_name: str
    role: str


class ResourceAnswer(Answer):
    type: str
    id: str
    name: str


class RequestAnswer(Answer):
    id: str
    method: str
    route: str
    ip: str
    user_agent: str


class AuditAnswer(Answer):
    """One entry. `hash` is SHA-256 over `prev_hash` and `entry`, the exact text that is stored."""

    id: str
    chain: str
    seq: int
    at: str
    event: str
    category: str
    access: str
    verb: str
    outcome: str
    status: int | None
    reason: str | None
    actor: ActorAnswer
    resource: ResourceAnswer
    request: RequestAnswer
    changes: dict[str, Any] = any_json({"type": "object"})
    details: dict[str, Any] = any_json({"type": "object"})
    bulk_id: str | None
    prev_hash: str
    hash: str
    entry: str


class GroupAnswer(Answer):
    """Entries that have one value in common."""

    value: str
    label: str
    count: int
    is_complete: bool
    newest: list[AuditAnswer]


class GroupsAnswer(Answer):
    """`is_complete` false: there is more than was counted; each group says whether its own count is a least one."""

    by: str
    is_complete: bool
    groups: list[GroupAnswer]
    next_after: str | None


def shown(row: AuditEntry) -> AuditAnswer:
    stored = json.loads(row.entry)
    return AuditAnswer.model_validate(stored | {"prev_hash": row.prev_hash, "hash": row.hash, "entry": row.entry})


async def list_audit_log(request: web.Request) -> web.Response:
    with told_together() as faults:
        with gathered(faults):
            asked = page_asked(request, *_NAMES)
        filters = await filters_of(request)
    found = await store.list_entries(
        request[SESSION], request[ACCOUNT].id, filters, limit=asked.limit,
        before=None if asked.after is None else int(asked.after),
    )  # fmt: skip
    next_after = None if found.next_before is None else str(found.next_before)
    return page(request, [shown(row) for row in found.rows], next_after)


async def filters_of(request: web.Request) -> Filters:
    """The filters of the query string.

    Raises:
        Invalid: every bad one.
    """
    faults: list[FieldFault] = []
    query = request.query
    events = frozenset(event for value in query.getall("event", []) for event in value.split(",") if event)
    if events - _EVENTS:
        faults.append(FieldFault("event", "Expected names of events, such as user.create, parted by commas."))
    outcome = query.get("outcome", "")
    if "outcome" in query and outcome not in OUTCOMES:
        faults.append(FieldFault("outcome", f"Expected one of {', '.join(OUTCOMES)}."))
    for name, known in (("category", CATEGORIES), ("action", ACTIONS), ("type", TYPES)):
        if name in query and query[name] not in known:
            faults.append(FieldFault(name, f"Expected one of {', '.join(known)}."))
    since, until = (instant_asked(query, name, faults) for name in ("since", "until"))
    texts = {name: query.get(name, "") for name in ("resource", "actor", "ip", "keyword", "target", "user")}
    faults += [
        FieldFault(name, "Expected at most 200 printable characters.")
        for name, text in texts.items()
        if len(text) > 200 or not text.isprintable()
    ]
    faults += who_faults(texts["ip"].strip(), texts["user"].strip())
    if faults:
        raise Invalid("Some filters cannot be read.", fields=tuple(faults))
    filters = Filters(
        since, until, events, outcome=outcome, category=query.get("category", ""), verb=query.get("action", ""),
        target_type=query.get("type", ""), resource=texts["resource"], actor=texts["actor"], ip=texts["ip"],
        keyword=texts["keyword"], target=texts["target"],
    )  # fmt: skip
    return await with_user(request[SESSION], request[ACCOUNT].id, filters, texts["user"])


async def group_audit_log(request: web.Request) -> web.Response:
    """The newest entries by one thing they have in common, most first; counted as far as the page counts them.

    By account, for a platform operator who names none: over every account.
    """
    by = request.query.get("by", "description")
    with told_together() as faults:
        with gathered(faults):
            no_query(request, "by", "after", *_NAMES)
        if by not in GROUPINGS:
            faults.append(FieldFault("by", f"Expected one of {', '.join(GROUPINGS)}."))
        with gathered(faults):
            filters = await filters_of(request)
        after = after_of(request.query)
    account = request[ACCOUNT]
    if is_over_accounts(request, by):
        found = await grouped_by_account(request, filters, Event.AUDIT_LOG_GROUP, after)
        is_complete = found.next_after is None and all(group.is_whole for group in found.groups)
        return answered(_groups_answer(by, found.groups, account.name, is_complete=is_complete, after=found.next_after))
    if "after" in request.query:
        fault = FieldFault("after", "Only groups of all accounts go on, for a platform operator who names none.")
        raise Invalid("These groups have no further ones behind them.", fields=(fault,))
    groups, has_more = await store.grouped(request[SESSION], account.id, filters, by)
    request[RESOURCE] = ("audit_log", "groups", by)
    return answered(_groups_answer(by, groups, account.name, is_complete=not has_more, after=None))


def _groups_answer(
    by: str, groups: Sequence[store.Group], own: str, *, is_complete: bool, after: str | None
) -> GroupsAnswer:
    """`own`: the name of the account whose log it is, which its chain knows by identifier alone."""
    return GroupsAnswer(
        by=by, is_complete=is_complete, next_after=after,
        groups=[
            GroupAnswer(
                value=group.value, count=group.count, is_complete=group.is_whole,
                label=own if by == "account" and group.label == group.value else group.label,
                newest=[shown(row) for row in group.rows],
            )
            for group in groups
        ],
    )  # fmt: skip


async def export_csv(request: web.Request) -> web.Response:
    return await exported(request, await _filters_alone(request), "csv")


async def export_json_lines(request: web.Request) -> web.Response:
    return await exported(request, await _filters_alone(request), "jsonl")


async def _filters_alone(request: web.Request) -> Filters:
    """The filters, and nothing else is read from the address. Raises Invalid: every bad one, and what is no filter."""
    with told_together() as faults:
        with gathered(faults):
            no_query(request, *_NAMES)
        return await filters_of(request)


async def get_audit_entry(request: web.Request) -> web.Response:
    no_query(request)
    asked = request.match_info["id"]
    row = await store.entry_by_id(request[SESSION], request[ACCOUNT].id, asked) if is_id(asked) else None
    if row is None:
        raise NotFound("This account has no audit entry of that id.")
    request[RESOURCE] = ("audit", row.id, row.event)
    return answered(shown(row))


ROUTES = (
    Route(
        "GET", "/api/v1/audit-log", list_audit_log, Scope.AUDIT_READ, Event.AUDIT_LOG_LIST,
        operation=Operation(
            "List audit entries, newest first", answer=AuditAnswer, is_list=True, queries=PAGE_QUERIES + FILTER_QUERIES
        ),
    ),
    Route(
        "GET", "/api/v1/audit-log/groups", group_audit_log, Scope.AUDIT_READ, Event.AUDIT_LOG_GROUP,
        operation=Operation(
            "Audit entries grouped and counted", answer=GroupsAnswer,
            queries=(
                Query("by", {"enum": list(GROUPINGS)}, "What the entries of a group share."),
                Query("after", {"type": "string"}, "`next_after` of the answer before, for a platform operator."),
                *FILTER_QUERIES,
            ),
        ),
    ),
    Route(
        "GET", "/api/v1/audit-log/{id}", get_audit_entry, Scope.AUDIT_READ, Event.AUDIT_LOG_READ,
        operation=Operation("One audit entry", answer=AuditAnswer),
    ),
    Route(
        "GET", "/api/v1/exports/audit-log/csv", export_csv, Scope.AUDIT_READ, Event.AUDIT_LOG_EXPORT,
        operation=Operation("Audit entries as CSV, oldest first", queries=FILTER_QUERIES, media_type=CSV),
    ),
    Route(
        "GET", "/api/v1/exports/audit-log/jsonl", export_json_lines, Scope.AUDIT_READ, Event.AUDIT_LOG_EXPORT,
        operation=Operation(
            "Audit entries as JSON Lines, for `callpoint audit verify`", queries=FILTER_QUERIES, media_type=JSON_LINES
        ),
    ),
)  # fmt: skip
