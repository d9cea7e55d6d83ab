"""`/api/v1/fetch-log`: what the account's phones asked for, and the phones that ask and are not kept here."""

import datetime as dt

from aiohttp import web

from admin.api import answered, no_query
from admin.api.models import Answer, Instant
from admin.api.paging import PAGE_QUERIES, page, page_asked
from admin.api.phones import FetchAnswer
from admin.context import ACCOUNT, SESSION
from admin.fetch_log_filters import FILTER_QUERIES, NAMES, filters_asked
from admin.pages.form import gathered
from admin.routes import Operation, Route
from admin.times_asked import instant_asked
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.db import utc_now
from engine.errors import FieldFault, Invalid
from engine.provisioning import store_fetch_list

NEWCOMERS_WITHIN = dt.timedelta(days=7)
MOST_NEWCOMERS = 100


class LoggedFetchAnswer(FetchAnswer):
    """One request at the phones' port. The token is never in it."""

    phone_id: str | None


class NewcomerAnswer(Answer):
    """A phone that asks by the account's URL and is not kept here, as it says of itself."""

    mac: str
    vendor: str
    model: str
    ip: str
    at: Instant
    times: int


class NewcomerList(Answer):
    data: list[NewcomerAnswer]


async def list_fetch_log(request: web.Request) -> web.Response:
    session, faults = request[SESSION], list[FieldFault]()
    with gathered(faults):
        asked = page_asked(request, *NAMES)
    since, until = (instant_asked(request.query, name, faults) for name in ("since", "until"))
    is_alone = await store_fetch_list.is_alone(session)
    filters = filters_asked(request.query, faults, since, until, is_alone=is_alone)
    if faults:
        raise Invalid("The fetch log cannot be filtered like this.", fields=tuple(faults))
    found = await store_fetch_list.list_fetches(
        session, request[ACCOUNT].id, filters, limit=asked.limit, after=asked.after
    )
    return page(request, [LoggedFetchAnswer.model_validate(row) for row in found.rows], found.following)


async def list_newcomers(request: web.Request) -> web.Response:
    no_query(request)
    since = utc_now() - NEWCOMERS_WITHIN
    found = await store_fetch_list.newcomers(request[SESSION], request[ACCOUNT].id, since, limit=MOST_NEWCOMERS)
    return answered(NewcomerList(data=[NewcomerAnswer.model_validate(one) for one in found]))


ROUTES = (
    Route(
        "GET", "/api/v1/fetch-log", list_fetch_log, Scope.PHONES_READ, Event.FETCH_LOG_LIST,
        operation=Operation(
            "What phones asked for, newest first", answer=LoggedFetchAnswer, is_list=True,
            queries=(*PAGE_QUERIES, *FILTER_QUERIES),
        ),
    ),
    Route(
        "GET", "/api/v1/fetch-log/unknown-phones", list_newcomers, Scope.PHONES_READ, Event.FETCH_LOG_LIST,
        operation=Operation(
            "Phones that asked within a week and are not kept here, the last first", answer=NewcomerList
        ),
    ),
)  # fmt: skip
