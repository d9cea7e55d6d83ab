"""The fetch log as a page: what the account's phones asked for, and phones that ask and are not kept here."""

import datetime as dt
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiMapping

from admin.api.fetch_log import NEWCOMERS_WITHIN
from admin.context import ACCOUNT, SESSION
from admin.fetch_log_filters import NAMES, NOBODY, filters_asked
from admin.fetch_words import REASONS
from admin.page_addresses import leave_out, understood
from admin.render import render, zone_of
from admin.routes import Route
from admin.times_asked import day_asked
from engine.accounts.scopes import Scope
from engine.accounts.store import is_id
from engine.audit.events import Event
from engine.db import utc_now
from engine.errors import FieldFault, Invalid
from engine.models import Phone, ProvisioningEvent
from engine.provisioning import store_fetch_list, store_phones, vendors
from engine.provisioning.store_fetch_list import Filters, Outcome
from engine.provisioning.vendors import Mac

PAGE = 50
MOST_NEWCOMERS = 12  # phones on the page; the API tells more
_OUTCOMES = {
    Outcome.REFUSED.value: "Refused or failed", Outcome.SERVED.value: "Handed out",
    Outcome.ABSENT.value: "Files phones do without", Outcome.UPLOAD.value: "Uploads",
    NOBODY: "With a wrong URL",
}  # fmt: skip
_BADGES = {  # of a kind: words, colour, picture
    "fetch": ("Handed out", "ok", "circle-check"), "not_modified": ("Unchanged", "", "circle-check"),
    "upload": ("Taken", "", "circle-check"), "held": ("Location told", "ok", "circle-check"),
    "failed": ("Failed", "bad", "circle-alert"), "resync": ("Resync", "info", "refresh-cw"),
}  # fmt: skip
_REFUSED, _NOT_THERE = ("Refused", "bad", "circle-alert"), ("Not there", "", "circle")


async def get_fetch_log(request: web.Request) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    zone, is_alone = zone_of(account), await store_fetch_list.is_alone(session)
    filters, pairs = understood(request, lambda told: _asked(told, zone, is_alone=is_alone))
    after = _after(request)
    found = await store_fetch_list.list_fetches(session, account.id, filters, limit=PAGE, after=after)
    new: Sequence[store_fetch_list.Newcomer] = ()
    if after is None and not pairs:
        since = utc_now() - NEWCOMERS_WITHIN
        new = await store_fetch_list.newcomers(session, account.id, since, limit=MOST_NEWCOMERS + 1)
    older = f"/phones/fetch-log?{urlencode([*pairs, ('after', found.following)])}" if found.following else ""
    return render(
        request, "fetch_log.html.j2", rows=found.rows, older=older, looked_until=found.looked_until,
        is_older=after is not None, asked=dict(pairs), newest=f"/phones/fetch-log?{urlencode(pairs)}".rstrip("?"),
        phones=await _asking(request, found.rows), named=vendors.known().named_by, badge_of=_badge, notes_of=_notes,
        outcomes={name: words for name, words in _OUTCOMES.items() if is_alone or name != NOBODY}, reasons=REASONS,
        newcomers=new[:MOST_NEWCOMERS], has_more_newcomers=len(new) > MOST_NEWCOMERS,
    )  # fmt: skip


def _asked(
    query: MultiMapping[str], zone: zoneinfo.ZoneInfo, *, is_alone: bool
) -> tuple[Filters, list[tuple[str, str]]]:
    """The filters, and those that stand in the address. Days are of the account's zone and inclusive."""
    faults: list[FieldFault] = []
    first, last = (day_asked(query, name, faults) for name in ("since", "until"))
    since = None if first is None else dt.datetime.combine(first, dt.time.min, zone).astimezone(dt.UTC)
    until = None
    if last is not None:
        following = dt.datetime.combine(last + dt.timedelta(days=1), dt.time.min, zone)
        until = following.astimezone(dt.UTC) - dt.timedelta(milliseconds=1)
    filters = filters_asked(query, faults, since, until, is_alone=is_alone)
    if faults:
        raise Invalid("The fetch log cannot be filtered like this.", fields=tuple(faults))
    pairs = [(name, query.get(name, "").strip()) for name in NAMES]
    return filters, [(name, told) for name, told in pairs if told]


def _after(request: web.Request) -> str | None:
    """Behind which event the page begins; the newest when the address names none. It opens nothing: every question
    names the account.
    """
    told = request.query.get("after", "")
    if told and not is_id(told):
        leave_out(request, "after", "Expected a link of this page, unchanged.")
        return None
    return told or None


@dataclass(frozen=True, slots=True)
class _Asking:
    """Which phone each event is of. A request that was refused before a phone was found names one all the same."""

    by_id: Mapping[str, Phone]
    named: Mapping[str, Mac]  # by event
    by_mac: Mapping[str, Phone]

    def of(self, row: ProvisioningEvent) -> tuple[Phone | None, Mac | None]:
        """The phone that is kept, and the address that was named."""
        mac = self.named.get(row.id)
        return self.by_id.get(row.phone_id or "") or self.by_mac.get(mac or ""), mac


async def _asking(request: web.Request, rows: Sequence[ProvisioningEvent]) -> _Asking:
    session, identify = request[SESSION], vendors.known().identify
    ids = sorted({row.phone_id for row in rows if row.phone_id is not None})
    strange = {row.id: identify(row.file, row.user_agent).mac for row in rows if row.phone_id is None}
    named = {event_id: mac for event_id, mac in strange.items() if mac is not None}
    kept = await store_phones.phones_with_macs(session, request[ACCOUNT].id, sorted(set(named.values())))
    by_id = {phone.id: phone for phone in await store_phones.some_phones(session, ids, limit=PAGE)}
    return _Asking(by_id, named, {phone.mac: phone for phone in kept})


def _badge(row: ProvisioningEvent) -> tuple[str, str, str]:
    if row.kind == "denied" and row.reason == "absent":
        return _NOT_THERE
    return _BADGES.get(row.kind, _REFUSED)


def _notes(row: ProvisioningEvent) -> list[str]:
    """Why, in sentences: the reason's, then what the evidence adds where the request was refused or failed."""
    if _badge(row) is _NOT_THERE or row.kind in {"fetch", "not_modified", "upload", "held"}:
        return []
    told = [REASONS.get(row.reason or "", row.reason or "")]
    sentences = (row.evidence or {}).get("sentences")
    told += [str(one) for one in sentences] if isinstance(sentences, list) else []
    kept = [one for one in dict.fromkeys(told) if one and not one.startswith("the User-Agent names ")]
    return [one[:1].upper() + one[1:] for one in kept]


ROUTES = (Route("GET", "/phones/fetch-log", get_fetch_log, Scope.PHONES_READ, Event.FETCH_LOG_LIST),)
