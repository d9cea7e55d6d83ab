"""The audit log: the list with a filter under each column, live as it is written, and one entry with its before and
after.
"""

import datetime as dt
import json
import zoneinfo
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import hdrs, web
from multidict import MultiMapping

from admin.api.audit import shown
from admin.audit_accounts import after_of, grouped_by_account, is_over_accounts
from admin.audit_export import exported
from admin.audit_filters import (
    ACTIONS,
    CATEGORIES,
    GROUPINGS,
    TYPE_CHOICES,
    Asked,
    parse_asked,
    type_words,
    with_user,
)
from admin.audit_live import FOLLOWERS, Follower, LiveList
from admin.audit_ranges import RANGES
from admin.context import ACCOUNT, ACTOR, API_KEY, BROWSER, DATABASE, RESOURCE, SESSION
from admin.icons import icon
from admin.page_addresses import understood
from admin.problems import NotAcceptable
from admin.render import environment, render, time_tag, zone_of
from admin.routes import Route
from engine.accounts import store_anomalies, store_audit_readers
from engine.accounts.scopes import Scope
from engine.audit import store, store_views
from engine.audit.events import FACTS, Category, Event
from engine.audit.store import Filters
from engine.db import utc_now
from engine.errors import FieldFault, Invalid, NotFound
from engine.models import Account, AuditEntry, User

RELATED = 10
AROUND = dt.timedelta(hours=1)  # where related entries are looked for: a large log holds millions of others
NAMED_WITHIN = 50  # a record's newest entries, among which one with its name is looked for: a reading has none
EVENT_STREAM = "text/event-stream"
_GROUP_FILTER = {"user": "actor", "ip": "ip", "description": "event"}
_MORE = ("range", "from", "to", "category", "action", "user", "type", "target", "group")  # under "More filters"


@dataclass(frozen=True, slots=True)
class Shown:
    """One row of the list, with the target as people call it: `Location: Headquarters`."""

    entry: AuditEntry
    target: str


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """One group of the list. `address`: the list of its entries; `account_id`: whom to act for to open that list."""

    group: store.Group
    label: str
    address: str
    account_id: str
    rows: list[Shown]

    @classmethod
    def of(cls, group: store.Group, asked: Asked, account: Account) -> "ShownGroup":
        is_elsewhere = asked.group == "account" and group.value != account.id
        return cls(
            group, _label(group, account), _group_address(asked, group), group.value if is_elsewhere else "",
            rows_of(group.rows),
        )  # fmt: skip


def rows_of(entries: list[AuditEntry] | tuple[AuditEntry, ...]) -> list[Shown]:
    return [Shown(entry, target_of(entry)) for entry in entries]


def target_of(entry: AuditEntry, body: dict[str, Any] | None = None) -> str:
    """What it was done to: `Type: name`, the type alone where it has no name."""
    resource = (body or json.loads(entry.entry))["resource"]
    words = type_words(resource["type"])
    return f"{words}: {resource['name']}" if resource["name"] else words


async def get_audit(request: web.Request) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    asked = await _with_keys(request, understood(request, lambda told: _parsed(told, account)))
    page, has_more, more_accounts = store.Page([], None), False, ""
    groups: list[store.Group] = []
    if asked.group:
        groups, has_more, more_accounts = await _groups(request, asked)
    else:
        page = await store.list_entries(session, account.id, asked.filters, limit=asked.limit, before=asked.before)
    older = ""
    if page.next_before is not None:
        older = f"/audit?{urlencode([*asked.pairs, ('before', str(page.next_before))])}"
    pairs = [pair for pair in asked.pairs if pair[0] != "group"]
    return render(
        request,
        "audit.html.j2",
        rows=rows_of(page.rows),
        registry=REGISTRY,
        chosen=frozenset(text for name, text in asked.pairs if name == "event"),
        is_filtered=bool(asked.pairs),
        is_older=asked.before is not None,
        is_short=page.is_short,
        older=older,
        newest=f"/audit?{urlencode(asked.pairs)}" if asked.pairs else "/audit",
        limit=asked.limit,
        ranges=RANGES,
        categories=CATEGORIES,
        actions=ACTIONS,
        types=TYPE_CHOICES,
        people=(people := await store_audit_readers.people_of_log(session, account.id, asked.user)),
        has_more_people=len(people) >= store_audit_readers.OFFERED,
        target=await _target_words(request, asked),
        is_misread_told=True,  # beside the count, which is there when only the rows are read anew
        is_more_open=any(name in _MORE for name, _text in asked.pairs),
        groupings=GROUPINGS,
        grouping=asked.group,
        groups=[ShownGroup.of(group, asked, account) for group in groups],
        has_more_groups=has_more,
        is_over_all=is_over_accounts(request, asked.group),
        more_accounts=more_accounts,
        exports={kind: f"/audit/export?{urlencode([*pairs, ('as', kind)])}" for kind in ("csv", "jsonl")},
        views=await store_views.views_of(session, account.id, request[ACTOR].id),
        asked_query=urlencode(asked.pairs),
        live=await _live_address(request, asked),
        anomalies=await store_anomalies.open_count(session, account.id),
    )


async def _groups(request: web.Request, asked: Asked) -> tuple[list[store.Group], bool, str]:
    """The groups, whether there are more entries than were counted, and where further accounts are, if anywhere."""
    if not is_over_accounts(request, asked.group):
        return *await store.grouped(request[SESSION], request[ACCOUNT].id, asked.filters, asked.group), ""
    found = await grouped_by_account(request, asked.filters, Event.AUDIT_LOG_LIST, understood(request, after_of))
    more = f"/audit?{urlencode([*asked.pairs, ('after', found.next_after)])}" if found.next_after else ""
    return found.groups, not all(group.is_whole for group in found.groups), more


async def _asked(request: web.Request) -> Asked:
    """The filters of the address, a user's API keys found. Raises Invalid: what cannot be read."""
    return await _with_keys(request, _parsed(request.query, request[ACCOUNT]))


def _parsed(query: MultiMapping[str], account: Account) -> Asked:
    return parse_asked(query, zone_of(account), utc_now(), account.country, account.language)


async def _with_keys(request: web.Request, asked: Asked) -> Asked:
    filters = await with_user(request[SESSION], request[ACCOUNT].id, asked.filters, asked.user)
    return Asked(filters, asked.before, asked.limit, asked.group, asked.pairs, asked.user)


async def _target_words(request: web.Request, asked: Asked) -> str:
    """The record whose history is shown, as its newest entry with a name calls it; its identifier where none does."""
    if not asked.filters.target:
        return ""
    wanted = Filters(target=asked.filters.target)
    page = await store.list_entries(request[SESSION], request[ACCOUNT].id, wanted, limit=NAMED_WITHIN)
    called = [target_of(row) for row in page.rows]
    return next((words for words in called if ": " in words), called[0] if called else asked.filters.target)


async def _live_address(request: web.Request, asked: Asked) -> str:
    """Where this list goes on as it is written; empty for a page that ends in the past, and for groups."""
    until = asked.filters.until
    if asked.before is not None or asked.group or (until is not None and until < utc_now()):
        return ""
    newest = await store.head(request[SESSION], request[ACCOUNT].id)
    return f"/audit/live?{urlencode([*asked.pairs, ('after', str(newest[0] if newest else 0))])}"


def _label(group: store.Group, account: Account) -> str:
    return account.name if group.value == account.id else group.label


def _group_address(asked: Asked, group: store.Group) -> str:
    """The list of that group's entries: the filters as they are, and the group's value in its own."""
    name = _GROUP_FILTER.get(asked.group)
    pairs = [pair for pair in asked.pairs if pair[0] not in {"group", name}]
    return f"/audit?{urlencode([*pairs, (name, group.value)] if name else pairs)}"


async def get_live(request: web.Request) -> web.StreamResponse:
    """The list's new rows as server-sent events; `after` or `Last-Event-ID`: the newest entry the reader has."""
    if EVENT_STREAM not in request.headers.get(hdrs.ACCEPT, "") or request.method != "GET":
        raise NotAcceptable(f"This is a stream of events: ask for it with Accept: {EVENT_STREAM}.")
    asked = await _asked(request)
    followers, actor = request.app[FOLLOWERS], request[ACTOR]
    followers.refuse_crowd(actor.id)
    after = request.headers.get("Last-Event-ID", "") or request.query.get("after", "")
    newest = await store.head(request[SESSION], request[ACCOUNT].id)
    seq = int(after) if after.isascii() and after.isdigit() and len(after) <= 15 else newest[0] if newest else 0
    request[RESOURCE] = ("audit_log", "live", "")
    holder = request[BROWSER].id if BROWSER in request else request[API_KEY].id
    follower = Follower(
        request[ACCOUNT].id, asked.filters, zone_of(request[ACCOUNT]), holder, actor.id, seq, cut=lambda: None
    )
    return LiveList(followers, actor, follower, request.app[DATABASE])


def row_html(entry: AuditEntry, zone: zoneinfo.ZoneInfo) -> str:
    """One row of the list, as the page has it."""
    template = environment().get_template("_audit_row.html.j2")
    return template.render(row=Shown(entry, target_of(entry)), zone=zone, icon=icon, time=time_tag)


async def get_export(request: web.Request) -> web.Response:
    kind = request.query.get("as", "csv")
    if kind not in {"csv", "jsonl"}:
        raise Invalid("There is no such kind of export.", fields=(FieldFault("as", "Expected csv or jsonl."),))
    return await exported(request, (await _asked(request)).filters, kind)


async def get_audit_entry(request: web.Request) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    entry = await store.entry_by_id(session, account.id, request.match_info["id"])
    if entry is None:
        raise NotFound("This account's audit log has no such entry.")
    body = json.loads(entry.entry)
    request[RESOURCE] = ("audit", entry.id, entry.event)
    actor = await store_audit_readers.person_of_log(session, account.id, entry.actor_id)
    related = await _related(request, entry, body)
    return render(
        request, "audit_entry.html.j2", entry=entry, body=body, json_text=json_of(entry),
        target=target_of(entry, body), is_secret=_is_secret, today=_today(actor, body),
        related=rows_of(related), has_no_end=_has_no_end(entry, related),
    )  # fmt: skip


def _has_no_end(entry: AuditEntry, related: list[AuditEntry]) -> bool:
    """Whether it is an export that is still read, or was on its way when its node was killed."""
    is_begun = entry.event == Event.AUDIT_LOG_EXPORT and entry.outcome == "success"
    return is_begun and all(other.event != Event.AUDIT_LOG_EXPORT_END for other in related)


def _today(user: User | None, body: dict[str, Any]) -> str:
    """What the user who acted is called now, where that is not what the entry says."""
    if user is None:
        return ""
    if user.status == "removed":
        return "Removed from the account since"
    then, now = (body["actor"]["display_name"], body["actor"]["name"]), (user.name, user.email)
    said = " · ".join(part for part in now if part)
    return said if then != now else ""


def _is_secret(value: Any) -> bool:
    """Whether an old or new value is a secret: then the log holds a fingerprint of it alone."""
    return isinstance(value, dict) and value.get("redacted") is True and "fingerprint" in value


async def _related(request: web.Request, entry: AuditEntry, body: dict[str, Any]) -> list[AuditEntry]:
    """What else came of the same request or the same bulk operation, within AROUND of it."""
    found: dict[str, AuditEntry] = {}
    bulk = body["bulk_id"] or (body["resource"]["id"] if body["resource"]["type"] == "import" else None)
    for word in {body["request"]["id"], bulk}:
        if word:
            filters = Filters(keyword=word, since=entry.at - AROUND, until=entry.at + AROUND)
            page = await store.list_entries(request[SESSION], entry.chain, filters, limit=RELATED + 1)
            found |= {row.id: row for row in page.rows if row.id != entry.id}
    return sorted(found.values(), key=lambda row: row.seq)[:RELATED]


def json_of(entry: AuditEntry) -> str:
    """The full entry exactly as the API answers it, hash included, indented for people."""
    return json.dumps(shown(entry).model_dump(mode="json"), ensure_ascii=False, indent=2)


def _registry() -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Every event by category: its name, and whether it reads or writes."""
    return tuple(
        (
            category.value,
            tuple((event.value, FACTS[event].access.value) for event in Event if FACTS[event].category is category),
        )
        for category in Category
    )


REGISTRY = _registry()
ROUTES = (
    Route("GET", "/audit", get_audit, Scope.AUDIT_READ, Event.AUDIT_LOG_LIST),
    Route("GET", "/audit/export", get_export, Scope.AUDIT_READ, Event.AUDIT_LOG_EXPORT),
    Route("GET", "/audit/live", get_live, Scope.AUDIT_READ, Event.AUDIT_LOG_FOLLOW),
    Route("GET", "/audit/{id}", get_audit_entry, Scope.AUDIT_READ, Event.AUDIT_LOG_READ),
)
