"""The table of contents: every API and page route with the scope it asks for and the event it is recorded as.

A `Route` cannot be made without both, so nothing is served by forgetting (default deny). The tables themselves stand
at the end of each module of `admin.api` and `admin.pages`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from engine.accounts.scopes import Scope
from engine.audit.events import Event

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Preparation = Callable[[web.Request], Awaitable[Any]]


class Access(StrEnum):
    """What a route may ask for in place of a scope."""

    PUBLIC = "public"  # anybody
    SIGNED_IN = "signed_in"  # any user or key, whatever its scopes


PUBLIC = Access.PUBLIC
SIGNED_IN = Access.SIGNED_IN


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter: its name, its JSON Schema, what it does."""

    name: str
    schema: dict[str, Any]
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """What the OpenAPI document says of a route beyond its method and path."""

    summary: str
    _: KW_ONLY
    answer: type[BaseModel] | None = None  # None: no body (204), or `media_type` bytes
    body: type[BaseModel] | None = None
    status: int = 200
    is_list: bool = False
    if_match: bool = False  # the request must name the version it changes
    has_etag: bool = False
    queries: tuple[Query, ...] = ()
    errors: tuple[int, ...] = ()  # beyond those that every operation can answer with
    media_type: str = "application/json"
    body_optional: bool = False  # without one, every field is its default
    body_media: str = ""  # of a body that is no JSON, such as text/csv


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    `on_display`: a browser that is a display of alerts reaches it too. `step_up`: a browser must have typed its
    password within 15 minutes. `prepare` runs before the transaction is open (argon2 takes tens of milliseconds and the
    database has one writer); what it returns or raises comes out of `admin.auth.prepared(request)`. `streams_body`: the
    body is not read before; `prepare` takes it piece by piece.
    """

    method: str
    path: str
    handler: Handler
    scope: Scope | Access
    event: Event
    _: KW_ONLY
    step_up: bool = False
    on_display: bool = False
    prepare: Preparation | None = None
    operation: Operation | None = None
    max_body_bytes: int = 1 << 20
    streams_body: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.scope, Scope | Access) or not isinstance(self.event, Event):
            raise TypeError(
                f"{self.method} {self.path}: a route needs a scope and an event; nothing is served without."
            )
        if self.path.startswith("/api/v1/") and self.operation is None:
            raise TypeError(f"{self.method} {self.path}: an API route needs an operation, or nobody can look it up.")


_TABLES = (
    "api.account", "api.accounts", "api.two_factor", "api.users_many", "api.users", "api.security", "api.keys",
    "api.sites", "api.phones", "api.phone_preview", "api.rollouts", "api.levels", "api.templates", "api.phones_many",
    "api.imports", "api.lines", "api.contacts", "api.assets", "api.provisioning", "api.rotation", "api.resync",
    "api.provisioning_policy", "api.file_keys", "api.quarantine", "api.telephony", "api.numbers", "api.whereabouts",
    "api.calls", "api.compliance", "api.alarms", "api.sweeps", "api.audit", "api.audit_views", "api.anomalies",
    "api.reference", "api.fetch_log", "pages.entry",
    "pages.sign_in", "pages.home", "pages.alerts", "pages.phone_alarms", "pages.sweeps", "api.mail_settings",
    "pages.mail_settings", "pages.settings", "pages.security", "pages.profile", "pages.accounts",
    "pages.phone_security", "pages.fetch_log", "pages.phone_device",
    "pages.levels", "pages.templates", "pages.phone_list", "pages.imports", "pages.phone_new",
    "pages.phone_own", "pages.phones", "pages.phonebook", "pages.files", "pages.rollouts", "pages.calls",
    "pages.compliance", "pages.audit_views", "pages.anomalies", "pages.audit", "pages.help", "pages.api", "pages.boot",
    "pages.users_many", "pages.users",
    "api.auth_log", "pages.auth_log", "api.trunk_groups", "api.locations_many",
    "api.branding", "pages.branding", "api.storage", "pages.storage", "api.webhooks",
    "api.chats", "pages.chats", "api.escalation", "pages.escalation", "api.integrations", "pages.integrations",
)  # fmt: skip


def all_routes() -> tuple[Route, ...]:
    """Every route of the API and the pages. Two with one method and path are a bug and refused."""
    # the modules are read here and not above: they make their tables of `Route`
    return _each_once([route for table in _TABLES for route in import_module(f"admin.{table}").ROUTES])


def _each_once(routes: list[Route]) -> tuple[Route, ...]:
    seen: set[tuple[str, str]] = set()
    for route in routes:
        if (route.method, route.path) in seen:
            raise ValueError(f"{route.method} {route.path} is there twice.")
        seen.add((route.method, route.path))
    return tuple(routes)
