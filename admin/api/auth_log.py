"""`/api/v1/auth-log`: who signed in, from where and for how long, and who tried to."""

import datetime as dt
import ipaddress
from typing import Literal

from aiohttp import web
from multidict import MultiMapping

from admin.api.models import Answer, Instant
from admin.api.paging import PAGE_QUERIES, page, page_asked
from admin.context import ACCOUNT, SESSION
from admin.pages.form import gathered
from admin.routes import Operation, Query, Route
from admin.times_asked import instant_asked
from engine.accounts import authlog
from engine.accounts.authlog import Authentication, End, Filters, Method, Position
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import FieldFault, Invalid

NAMES = ("since", "until", "outcome", "end", "user", "ip", "method")
MAX_USER, MAX_IP = 254, 60  # characters
OUTCOMES = ("success", "failure")


class AuthenticationAnswer(Answer):
    """A sign-in with its end, or an attempt that was refused with its reason."""

    id: str
    at: Instant
    outcome: Literal["success", "failure"]
    method: str
    user_id: str | None
    email: str
    name: str
    ip: str
    user_agent: str
    reason: str
    end: End | None
    end_reason: str
    ended_at: Instant | None
    ended_by: str
    ended_ip: str
    duration_s: int | None
    count: int


async def list_auth_log(request: web.Request) -> web.Response:
    faults: list[FieldFault] = []
    with gathered(faults):
        asked = page_asked(request, *NAMES)
    since, until = (instant_asked(request.query, name, faults) for name in ("since", "until"))
    filters = plain_filters(request.query, faults, since, until)
    for name, known in (
        ("outcome", OUTCOMES),
        ("end", tuple(End)),
        ("method", tuple(Method)),
    ):  # a form sends an empty choice, a script none
        if name in request.query and request.query[name] not in known and not any(f.field == name for f in faults):
            faults.append(FieldFault(name, f"Expected one of {', '.join(known)}."))
    if faults:
        raise Invalid("The authentication log cannot be filtered like this.", fields=tuple(faults))
    after = None if asked.after is None else Position.read(asked.after)
    found = await authlog.authentications(request[SESSION], request[ACCOUNT], filters, limit=asked.limit, after=after)
    following = None if found.following is None else found.following.text()
    return page(request, [shown(row) for row in found.rows], following)


def shown(row: Authentication) -> AuthenticationAnswer:
    return AuthenticationAnswer.model_validate(row)


def plain_filters(
    query: MultiMapping[str], faults: list[FieldFault], since: dt.datetime | None, until: dt.datetime | None
) -> Filters:
    """The filters that API and page spell alike; what is wrong with them is added to `faults`."""
    text = {name: query.get(name, "").strip() for name in NAMES}
    if text["outcome"] and text["outcome"] not in OUTCOMES:
        faults.append(FieldFault("outcome", f"Expected {' or '.join(OUTCOMES)}."))
    if text["end"] and text["end"] not in {end.value for end in End}:
        faults.append(FieldFault("end", f"Expected one of {', '.join(End)}."))
    if text["method"] and text["method"] not in {method.value for method in Method}:
        faults.append(FieldFault("method", f"Expected one of {', '.join(Method)}."))
    faults += [
        FieldFault(name, f"Expected at most {most} characters.")
        for name, most in (("user", MAX_USER), ("ip", MAX_IP))
        if len(query.get(name, "")) > most
    ]
    if "/" in text["ip"]:
        try:
            ipaddress.ip_network(text["ip"], strict=False)
        except ValueError:
            faults.append(FieldFault("ip", "Expected an address, its beginning, or a network such as 10.1.0.0/16."))
    return Filters(since, until, text["outcome"], text["end"], text["user"], text["ip"], text["method"])


def _query(name: str, description: str, **schema: object) -> Query:
    return Query(name, {"type": "string", **schema}, description)


ROUTES = (
    Route(
        "GET", "/api/v1/auth-log", list_auth_log, Scope.AUDIT_READ, Event.AUTH_LOG_LIST,
        operation=Operation(
            "List sign-ins and refused attempts", answer=AuthenticationAnswer, is_list=True,
            queries=(
                *PAGE_QUERIES,
                _query("since", "Not before this time (RFC 3339).", format="date-time"),
                _query("until", "Not after this time (RFC 3339).", format="date-time"),
                _query("outcome", "Sign-ins or refused attempts alone.", enum=list(OUTCOMES)),
                _query("end", "Sign-ins whose session stands or ended like this.", enum=[end.value for end in End]),
                _query("method", "Signed in, or tried, like this.", enum=[method.value for method in Method]),
                _query("user", "The beginning of an e-mail address, a name or an identifier.", maxLength=MAX_USER),
                _query("ip", "An address, its beginning, or a CIDR.", maxLength=MAX_IP),
            ),
        ),
    ),
)  # fmt: skip
