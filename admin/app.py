"""The admin port's application: pages, API, probes and static files behind one chain of middlewares."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry

from admin import branded, health, housekeeping
from admin.audit_live import FOLLOWERS, Followers
from admin.context import (
    ALERT_PACE,
    ALERTS,
    ASSETS,
    CERTIFICATES,
    CHATS,
    CODE_THROTTLE,
    CONFIG,
    COUNTS,
    DATABASE,
    DISK,
    DRY_RUNS,
    EDGE,
    INDEX,
    KEYS,
    MAIL_SERVER,
    METRICS,
    OUTBOUND,
    PASSWORDS,
    THROTTLE,
    UNREAD,
    UPLOADS,
    VALIDATOR,
    AlertPace,
    Edge,
)
from admin.invitations import INVITER, Inviter
from admin.malformed import MALFORMED, Malformed
from admin.middleware import identify, measure, render_errors, secure_headers
from admin.middleware_transaction import ROUTE_OF, one_transaction
from admin.pages.audit import row_html
from admin.render import STATIC_DIR, static_version
from admin.routes import Route, all_routes
from admin.twin_search import TWINS, TwinSearch
from admin.uploads import Waiting
from engine.accounts.mail_server import MailServer
from engine.accounts.passwords import PasswordDesk
from engine.accounts.throttle import CODES_OF_ONE_USER, Throttle
from engine.certificate_watch import CertificateWatch
from engine.config import Config
from engine.crypto import KeyRing
from engine.db import Database
from engine.disk import DiskWatch
from engine.e911.alerts import AlertBoard
from engine.e911.chat_library import ChatLibrary
from engine.e911.compliance_list import Counts
from engine.e911.validation_settings import AddressValidator
from engine.outbound import Outbound
from engine.provisioning import vendors
from engine.provisioning.assetstore import AssetStore
from engine.provisioning.dryrun import DryRuns
from engine.provisioning.index import open_index

MAX_BODY_BYTES = 1 << 20  # the largest body of most requests; a route may take more


def make_admin(
    config: Config,
    keys: KeyRing,
    database: Database,
    edge: Edge,
    *,
    registry: CollectorRegistry | None = None,
    mail_server: MailServer | None = None,
    disk: DiskWatch | None = None,
    unread: Callable[[str], Sequence[str]] = lambda _: (),
) -> web.Application:
    """Build the admin port's application. It opens nothing: the caller owns database and listener.

    Args:
        registry: Where the process keeps its other metrics; `/metrics` shows them too.
        mail_server: Which mail server is in force, for a caller that looks after it; else that of the configuration.
        disk: What watches the free space of this node; without, nothing is known of it and no alarm is raised.
        unread: What of an account's rows no call can go by (`SnapshotPublisher.unread_of`).
    """
    registry = registry or CollectorRegistry()
    app = web.Application(
        client_max_size=max(MAX_BODY_BYTES, *(route.max_body_bytes for route in all_routes())),
        middlewares=[identify, measure(registry), render_errors, one_transaction],
    )
    app[CONFIG], app[KEYS], app[DATABASE], app[EDGE] = config, keys, database, edge
    app[PASSWORDS], app[THROTTLE], app[METRICS] = PasswordDesk(), Throttle(), registry
    app[INDEX], app[CODE_THROTTLE] = open_index(database, keys), Throttle(of_email=CODES_OF_ONE_USER)
    app[UPLOADS], app[TWINS] = Waiting(), TwinSearch()
    app[FOLLOWERS] = Followers(database, row_html)
    app.on_shutdown.append(_close_followers)
    app[INVITER] = Inviter(config.mail)
    app[MAIL_SERVER] = mail_server or MailServer(database, config.mail)
    app[MAIL_SERVER].follow(app[INVITER].use)
    app[DISK], app[CERTIFICATES] = disk or DiskWatch(config.core.data_dir, config.storage), CertificateWatch([])
    app[ASSETS], app[UNREAD] = AssetStore(config.core.data_dir / "assets"), unread
    app[OUTBOUND] = Outbound(config.outbound.networks)
    app[CHATS] = ChatLibrary(app[OUTBOUND])
    app[VALIDATOR] = AddressValidator(config.e911.lost_url, app[OUTBOUND])
    app[DRY_RUNS] = DryRuns(database, app[INDEX])
    softphones = {name for name, profile in vendors.known().profiles.items() if profile.is_softphone}
    app[COUNTS] = Counts(database, frozenset(softphones))
    app[ALERTS], app[ALERT_PACE] = AlertBoard(database), AlertPace()
    app.cleanup_ctx.append(_alerting)
    app.on_shutdown.append(_let_watchers_go)  # an open stream would hold up the stop
    app.cleanup_ctx.append(housekeeping.kept)
    app.on_cleanup.extend(_CLOSING)
    app[MALFORMED] = Malformed(registry)
    app[health.EDGE_GAUGES] = health.edge_gauges(registry)
    app[ROUTE_OF] = _add_routes(app, all_routes())
    for path, probe in (
        ("/healthz", health.get_healthz),
        ("/readyz", health.get_readyz),
        ("/metrics", health.get_metrics),
    ):
        app.router.add_get(path, probe)
    app.router.add_get(f"/static/{static_version()}/brand/{{colour}}.css", branded.get_style_sheet)
    app.router.add_get(f"/static/{static_version()}/logo/{{name}}", branded.get_logo)
    app.router.add_static(f"/static/{static_version()}/", STATIC_DIR)
    app.on_response_prepare.append(secure_headers)
    return app


async def _alerting(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(app[ALERTS].run(), name="alerts")
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _let_watchers_go(app: web.Application) -> None:
    app[ALERTS].close()


async def _close_followers(app: web.Application) -> None:
    await app[FOLLOWERS].close()


async def _close_counts(app: web.Application) -> None:
    await app[COUNTS].close()


async def _close_dry_runs(app: web.Application) -> None:
    await app[DRY_RUNS].close()


async def _close_index(app: web.Application) -> None:
    app[INDEX].close()


async def _close_validator(app: web.Application) -> None:
    await app[VALIDATOR].close()


async def _close_chats(app: web.Application) -> None:
    await app[CHATS].close()


async def _close_inviter(app: web.Application) -> None:
    await app[INVITER].close()


def _add_routes(app: web.Application, routes: tuple[Route, ...]) -> dict[web.AbstractRoute, Route]:
    """Put the table into the router. A GET answers HEAD too (RFC 9110 §9.1), as the same operation."""
    known: dict[web.AbstractRoute, Route] = {}
    for route in routes:
        known[app.router.add_route(route.method, route.path, route.handler)] = route
        if route.method == "GET":
            known[app.router.add_route("HEAD", route.path, route.handler)] = route
    return known


_CLOSING = (_close_counts, _close_dry_runs, _close_index, _close_validator, _close_inviter, _close_chats)
