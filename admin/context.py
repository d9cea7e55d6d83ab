"""What an admin request can reach: the application's parts and the request's own, each under a typed key."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncSession

from admin.uploads import Waiting
from engine.accounts.mail_server import MailServer
from engine.accounts.passwords import PasswordDesk
from engine.accounts.scopes import Scope
from engine.accounts.throttle import Throttle
from engine.audit.record import Actor
from engine.certificate_watch import CertificateWatch
from engine.config import Config
from engine.crypto import KeyRing
from engine.db import Database
from engine.disk import DiskWatch
from engine.e911.alerts import AlertBoard
from engine.e911.chat_library import ChatLibrary
from engine.e911.compliance_list import Counts
from engine.e911.validation_settings import AddressValidator
from engine.errors import EngineError
from engine.models import Account, ApiKey, Phone, Session, User
from engine.outbound import Outbound
from engine.provisioning.assetstore import AssetStore
from engine.provisioning.dryrun import DryRuns
from engine.provisioning.index import Index
from engine.provisioning.resync import Fleet


@dataclass(frozen=True, slots=True)
class EdgeState:
    """What the SIP process last said: whether it answers, where it listens, which trunks answered their last ping.
    `workers`: whether each of several SIP processes is up; `is_up` when any is.
    """

    is_up: bool
    udp: str | None = None
    tcp: str | None = None
    trunks: Mapping[str, bool] = field(default_factory=dict)
    tls: str | None = None
    workers: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetState:
    """How far the asking of many phones is. `results`: how many there are of each."""

    phones: int
    results: Mapping[str, int]
    spread_s: float

    @property
    def done(self) -> int:
        return sum(self.results.values())


class Edge(Protocol):
    """The SIP process as the admin side sees it."""

    async def resync(self, phone: Phone) -> None:
        """Ask a phone to fetch its files again: planned now in the session it was read in, sent without waiting.

        Raises:
            Conflict: there is no way to this phone.
        """

    def resync_fleet(self, fleet: Fleet) -> None:
        """Ask many phones one after another, paced; what comes of each joins its own row."""

    def fleet(self, fleet_id: str, account_id: str) -> FleetState | None:
        """How far that fleet of the account is; None: this process knows none of that id."""

    def state(self) -> EdgeState: ...

    async def counters(self) -> Mapping[str, object]:
        """The SIP process's own numbers, for `/metrics`: counts, or counts by label; {} when it does not answer."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a route made ready before its transaction (a password compared, a hash made), or why it could not."""

    value: Any = None
    error: EngineError | None = None


@dataclass(slots=True)
class AlertPace:
    """Of the streams of alerts: seconds between two beats, and after which it is asked again who watches."""

    beat_s: float = 10.0
    ask_s: float = 30.0


# the application
DATABASE: web.AppKey[Database] = web.AppKey("database", Database)
KEYS: web.AppKey[KeyRing] = web.AppKey("keys", KeyRing)
CONFIG: web.AppKey[Config] = web.AppKey("config", Config)
EDGE: web.AppKey[Edge] = web.AppKey("edge", Edge)
PASSWORDS: web.AppKey[PasswordDesk] = web.AppKey("passwords", PasswordDesk)
THROTTLE: web.AppKey[Throttle] = web.AppKey("throttle", Throttle)
CODE_THROTTLE: web.AppKey[Throttle] = web.AppKey("code_throttle", Throttle)  # by user instead of by address typed
COUNTS: web.AppKey[Counts] = web.AppKey("counts", Counts)  # of the per-device report
ALERTS: web.AppKey[AlertBoard] = web.AppKey("alerts", AlertBoard)
ALERT_PACE: web.AppKey[AlertPace] = web.AppKey("alert_pace", AlertPace)
VALIDATOR: web.AppKey[AddressValidator] = web.AppKey("validator", AddressValidator)
BRAND: web.RequestKey[Account | None] = web.RequestKey("brand")  # whose host name a public page was asked under
CHATS: web.AppKey[ChatLibrary] = web.AppKey("chats", ChatLibrary)
OUTBOUND: web.AppKey[Outbound] = web.AppKey("outbound", Outbound)
MAIL_SERVER: web.AppKey[MailServer] = web.AppKey("mail_server", MailServer)
DISK: web.AppKey[DiskWatch] = web.AppKey("disk", DiskWatch)
CERTIFICATES: web.AppKey[CertificateWatch] = web.AppKey("certificates", CertificateWatch)
UNREAD: web.AppKey[Callable[[str], Sequence[str]]] = web.AppKey("unread")  # rows of an account no call can go by
INDEX: web.AppKey[Index] = web.AppKey("index", Index)
ASSETS: web.AppKey[AssetStore] = web.AppKey("assets", AssetStore)
DRY_RUNS: web.AppKey[DryRuns] = web.AppKey("dry_runs", DryRuns)
UPLOADS: web.AppKey[Waiting] = web.AppKey("uploads", Waiting)  # tables that wait to be confirmed
METRICS: web.AppKey[CollectorRegistry] = web.AppKey("metrics", CollectorRegistry)

# the request: set before any handler runs
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
CLIENT_IP: web.RequestKey[str] = web.RequestKey("client_ip", str)
IS_HTTPS: web.RequestKey[bool] = web.RequestKey("is_https", bool)
ACTOR: web.RequestKey[Actor] = web.RequestKey("actor", Actor)  # anonymous until the request is authenticated
SCOPES: web.RequestKey[frozenset[Scope]] = web.RequestKey("scopes", frozenset)

# the request: set inside its transaction; the rows of who asks are absent on public routes
SESSION: web.RequestKey[AsyncSession] = web.RequestKey("session", AsyncSession)
ACCOUNT: web.RequestKey[Account] = web.RequestKey("account", Account)  # whose rows: an operator's choice, else HOME
HOME: web.RequestKey[Account] = web.RequestKey("home", Account)  # to which the user or key belongs
USER: web.RequestKey[User] = web.RequestKey("user", User)  # absent for an API key: read with request.get(USER)
BROWSER: web.RequestKey[Session] = web.RequestKey("browser", Session)  # the signed-in browser's row
API_KEY: web.RequestKey[ApiKey] = web.RequestKey("api_key", ApiKey)
PREPARED: web.RequestKey[Prepared] = web.RequestKey("prepared", Prepared)
RESOURCE: web.RequestKey[tuple[str, str, str]] = web.RequestKey("resource", tuple)  # (type, id, name) for the audit log
