"""The E911 report: each telephone against 47 CFR § 9.16(b), to look at, to print, and as a file."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiDict

from admin.api.compliance import counted
from admin.compliance_export import Made, basis_of, exported, made_now, product
from admin.compliance_filters import FILTERS, VERDICTS, api_filters
from admin.context import ACCOUNT, ACTOR, COUNTS, SESSION
from admin.field_words import PLACEMENTS
from admin.page_addresses import leave_out, understood
from admin.place_field import MOST_CHOICES, place_called
from admin.render import render, words
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit import checkpoints
from engine.audit.events import Event
from engine.audit.record import record
from engine.db import utc_now
from engine.e911 import compliance_list, store_names
from engine.e911.compliance import UNITED_STATES, Verdict
from engine.e911.compliance_list import Filters, Page
from engine.e911.store_compliance import Place

PAGE = 30  # rows of the page, which stays under 150 kB
PRINTED = 100  # of one printout
VERDICT_WORDS: Mapping[str, tuple[str, str, str]] = {  # words, colour, picture
    Verdict.MET: ("Met", "ok", "circle-check"),
    Verdict.NOT_MET: ("Not met", "bad", "circle-alert"),
    Verdict.UNKNOWN: ("Cannot be known", "warn", "clock"),
    Verdict.NOT_APPLICABLE: ("Does not apply", "", "info"),
}
PARAGRAPHS = (
    ("direct_dialing", "(b)(1) Direct dialling"), ("notification", "(b)(2) Notification"),
    ("location", "(b)(3) Location"),
)  # fmt: skip


async def get_report(request: web.Request) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    filters = await _filters(request)
    count = await counted(request)
    found = await _page(request, filters, PAGE)
    choices = await store_names.location_choices(session, account.id, limit=MOST_CHOICES + 1)
    names = await store_names.location_names(session, account.id, [filters.location] if filters.location else [])
    newest = await checkpoints.newest_of(session, account.id)
    made = Made(utc_now(), product())
    if newest is not None:
        key = checkpoints.fingerprint(newest.public_key)
        made = Made(made.at, made.product, newest.seq, newest.hash, newest.signature, key)
    chosen = _chosen(filters)
    return render(
        request, "compliance.html.j2",
        rows=found.rows, filters=filters, count=count, made=made, chosen=urlencode(chosen),
        is_later="cursor" in request.query, next_address=_following("/compliance", chosen, found),
        choices=choices if len(choices) <= MOST_CHOICES else [], has_many_locations=len(choices) > MOST_CHOICES,
        location_name=names.get(filters.location, ""), **_words(account.country),
    )  # fmt: skip


async def get_print(request: web.Request) -> web.Response:
    """A printout for a customer's file: dated, with the end of the audit chain signed for it."""
    filters = await _filters(request)
    made = await made_now(request)
    resource = ("compliance_report", "print", "a printout")
    details = {"is_whole": filters.is_any, "checkpoint": made.checkpoint}
    record(request[SESSION], request[ACTOR], Event.COMPLIANCE_REPORT_EXPORT, resource=resource, details=details)
    found = await _page(request, filters, PRINTED)
    names = await store_names.location_names(
        request[SESSION], request[ACCOUNT].id, [filters.location] if filters.location else []
    )
    return render(
        request, "compliance_print.html.j2",
        rows=found.rows, filters=filters, made=made, is_later="cursor" in request.query,
        back=f"/compliance?{urlencode(_chosen(filters))}" if not filters.is_any else "/compliance",
        next_address=_following("/compliance/print", _chosen(filters), found),
        location_name=names.get(filters.location, ""), count=request.app[COUNTS].kept(request[ACCOUNT].id),
        **_words(request[ACCOUNT].country),
    )  # fmt: skip


async def get_csv(request: web.Request) -> web.Response:
    return await exported(request, api_filters(request.query), "csv")


async def get_json_lines(request: web.Request) -> web.Response:
    return await exported(request, api_filters(request.query), "jsonl")


async def _page(request: web.Request, filters: Filters, limit: int) -> Page:
    """The page that the address's cursor names; the first where it names none, which the page says."""
    text = request.query.get("cursor") or ""
    after = Place.read(text) if text else None
    if text and after is None:
        leave_out(request, "cursor", "Expected a link of this page, unchanged.")
    count = request.app[COUNTS].kept(request[ACCOUNT].id)
    basis = await basis_of(request)
    return await compliance_list.page(request[SESSION], basis, filters, after=after, limit=limit, count=count)


async def _filters(request: web.Request) -> Filters:
    """Fields that a form left empty ask for nothing; where there are too many locations for a menu, one is named."""
    query = MultiDict(request.query)
    for name in FILTERS:
        if not query.get(name, "").strip():
            query.pop(name, None)
    name = query.pop("location", "").strip()
    if name:
        called = await place_called(request, name)
        if called.location_id is None:
            leave_out(request, "location", called.detail)
        else:
            query["location_id"] = called.location_id
    return understood(request, api_filters, query)


def _chosen(filters: Filters) -> dict[str, str]:
    every = dict(zip(FILTERS, (filters.verdict, filters.location, filters.phone), strict=True))
    return {name: text for name, text in every.items() if text}


def _following(path: str, chosen: Mapping[str, str], found: Page) -> str:
    if found.following is None:
        return ""
    return f"{path}?{urlencode({**chosen, 'cursor': str(found.following)})}"


def _words(country: str) -> dict[str, Any]:
    return {
        "verdicts": [(name, VERDICT_WORDS[name][0]) for name in VERDICTS], "verdict_words": VERDICT_WORDS,
        "paragraphs": PARAGRAPHS, "placement_words": dict(PLACEMENTS), "source_words": words,
        "is_american": country.upper() in UNITED_STATES,
    }  # fmt: skip


_READ = Scope.CALLS_READ
ROUTES = (
    Route("GET", "/compliance", get_report, _READ, Event.COMPLIANCE_REPORT_READ),
    Route("GET", "/compliance/print", get_print, _READ, Event.COMPLIANCE_REPORT_EXPORT),
    Route("GET", "/compliance/export.csv", get_csv, _READ, Event.COMPLIANCE_REPORT_EXPORT),
    Route("GET", "/compliance/export.jsonl", get_json_lines, _READ, Event.COMPLIANCE_REPORT_EXPORT),
)
