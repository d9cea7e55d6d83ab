"""The table of contents: every API and page route with the scope it asks for and the event it is recorded as.

A `Route` cannot be made without both, so nothing is served by forgetting (default deny). The tables themselves stand
at the end of each `api_*` and `pages_*` module.
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
    "api_account", "api_accounts", "api_two_factor", "api_users_many", "api_users", "api_security", "api_keys",
    "api_sites", "api_phones", "api_phone_preview", "api_rollouts", "api_levels", "api_templates", "api_phones_many",
    "api_imports", "api_lines", "api_contacts", "api_assets", "api_provisioning", "api_rotation", "api_resync",
    "api_provisioning_policy", "api_file_keys", "api_quarantine", "api_telephony", "api_numbers", "api_whereabouts",
    "api_calls", "api_compliance", "api_alarms", "api_sweeps", "api_audit", "api_audit_views", "api_anomalies",
    "api_reference", "pages_entry",
    "pages_sign_in", "pages_home", "pages_alerts", "pages_phone_alarms", "pages_sweeps", "api_mail_settings",
    "pages_mail_settings", "pages_settings", "pages_security", "pages_profile", "pages_accounts",
    "pages_phone_security", "pages_levels", "pages_templates", "pages_phone_list", "pages_imports", "pages_phone_new",
    "pages_phone_own", "pages_phones", "pages_phonebook", "pages_files", "pages_rollouts", "pages_calls",
    "pages_compliance", "pages_audit_views", "pages_anomalies", "pages_audit", "pages_help", "pages_api", "pages_boot",
    "pages_users_many", "pages_users",
    "api_auth_log", "pages_auth_log", "api_trunk_groups", "api_locations_many",
    "api_branding", "pages_branding", "api_storage", "pages_storage", "api_webhooks",
    "api_chats", "pages_chats", "api_escalation", "pages_escalation", "api_integrations", "pages_integrations",
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
