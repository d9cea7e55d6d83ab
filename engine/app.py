"""The composition root: a Config in, everything built once and handed over by argument, stopped in order.

Order of a start: the edge first, from the snapshots on disk, so that 911 is carried before anything else and whatever
else is away; then the database and its migrations; then phones' port and admin port; then recorder, notifier and
publisher. A database that is away at start is tried again for ever; meanwhile pages say so and calls go on.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine
from functools import partial
from typing import Any

import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from admin.app import make_admin
from admin.context import CERTIFICATES
from admin.server import AdminRunner
from engine import garbage, migrations
from engine.accounts import operations as accounts
from engine.accounts import store as accounts_store
from engine.accounts.anomaly_mail import AnomalyMail
from engine.accounts.anomaly_watch import AnomalyWatch
from engine.accounts.disk_mail import DiskMail
from engine.accounts.mail_server import MailServer
from engine.accounts.store_storage import fetch_log_days
from engine.accounts.trunk_states import TrunkStates
from engine.audit.checkpoints import Notary
from engine.audit.merging import IndexKeeper
from engine.audit.owed import OwedIndexing
from engine.audit.pending import PendingKeeper
from engine.audit.record import open_audited
from engine.bootstrap_server import BootstrapDesk, BootstrapDoors, base_of
from engine.certificate_watch import PAGES, PHONES, CertificateWatch
from engine.config import Config, Listen, parse_listen
from engine.crypto import KeyRing
from engine.db import Database
from engine.disk import DiskWatch, Level
from engine.doors import phones_tls, tls_context
from engine.e911.calls import Recorder
from engine.e911.chat_courier import ChatCourier
from engine.e911.chat_library import ChatLibrary
from engine.e911.dereference import Dereferencer
from engine.e911.escalator import Escalator
from engine.e911.lent_elsewhere import LentElsewhere
from engine.e911.notify import Notifier
from engine.e911.publish import SnapshotPublisher
from engine.e911.sightings import on_committed
from engine.e911.webhook_courier import WebhookCourier
from engine.edge.link import EdgeLink
from engine.errors import DatabaseAway, EngineError
from engine.held_server import serve_held
from engine.outbound import Outbound
from engine.phones_workers import PhonesWorkers
from engine.provisioning.assets import Sweeping
from engine.provisioning.assetstore import AssetStore
from engine.provisioning.http import PhonesPort, make_phones_port
from engine.provisioning.location_alarms import LocationAlarms
from engine.provisioning.mover import Mover
from engine.provisioning.outdating import OwedMarking
from engine.provisioning.retention import Retention
from engine.provisioning.rollout_watch import RolloutWatch
from engine.provisioning.trial import tried_rollout
from engine.reach import Reach
from engine.retention import RecordRetention
from engine.sip.accepting import AT_ONCE, keep_waiting
from engine.sweeper import Sweeper

FIRST_TRY_S = 3.0  # a start waits this long for the database before it opens its doors without it
RETRY_S = 1.0
LAST_RECORDS_S = 2.0
_log = structlog.get_logger()


class App:
    """One running node."""

    def __init__(self, config: Config, keys: KeyRing, edge: EdgeLink) -> None:
        self.config, self.keys, self.edge = config, keys, edge
        self.database: Database = open_audited(config.database_url, self.keys)
        self.setup_key: str | None = None
        self.phones_address, self.admin_address = Listen("", 0), Listen("", 0)
        self.is_database_ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._runners: list[web.AppRunner | web.ServerRunner] = []
        data = config.core.data_dir
        self.notary = Notary(self.database, self.keys)
        self.index_keeper = IndexKeeper(self.database)
        self.owed_indexing = OwedIndexing(self.database)
        self.pending_keeper = PendingKeeper(self.database)
        self.notifier = Notifier(self.database, config.mail)
        self.webhooks = WebhookCourier(self.database, Outbound(config.outbound.networks))
        self.chats = ChatCourier(self.database, ChatLibrary(Outbound(config.outbound.networks)))
        self.escalator = Escalator(self.database, keys, on_told=self._on_recorded, public_url=config.admin.public_url)
        self.mail_server = MailServer(self.database, config.mail)
        self.mail_server.follow(self.notifier.use)
        self.sweeper = Sweeper(self.database, self.keys, lambda: self.edge.state.udp, pace_s=config.e911.sweep_pace_s)
        self.recorder = Recorder(
            self.database,
            self.keys,
            data / "journal",
            on_recorded=self._on_recorded,
            public_url=config.admin.public_url,
            is_quiet=self.sweeper.is_quiet,
            silent_node_s=config.e911.silent_node_s,
        )
        self.publisher = SnapshotPublisher(
            self.database, self.keys, data / "snapshot", on_published=self.edge.load, on_dropped=self.edge.drop
        )
        self.trunk_states = TrunkStates(self.database)
        self.dereferencer = Dereferencer(config.sip.location_hosts, located=self.edge.located)
        edge.on_dereference = self.dereferencer.ask
        on_committed(self.database, self.edge.seen)
        edge.on_journal, edge.on_trunk = self.recorder.wake, self.trunk_states.note
        self.phones: PhonesPort = make_phones_port(
            config.provisioning, self.keys, self.database, AssetStore(data / "assets")
        )
        self.sightings = serve_held(self.phones, self.database, self.keys, data / "snapshot")
        self.workers = PhonesWorkers(config, self.phones, self.sightings.note)
        self.location_alarms = LocationAlarms(self.database)
        self.owed_marking = OwedMarking(self.database)
        self.reach = Reach(self.edge, self.database)
        tried = partial(tried_rollout, self.database, self.phones.index)
        self.rollouts = RolloutWatch(self.database, self.reach.resync_phones, tried)
        self.disk = DiskWatch(data, config.storage)
        self.retention = Retention(self.database, fetch_log_days, lambda: self.disk.level is Level.CRITICAL)
        self.disk.on_worse.append(lambda _level: self.retention.wake())
        self.disk_mail = DiskMail(self.database, config.mail, config.admin.public_url, self.disk)
        self.mail_server.follow(self.disk_mail.use)
        self.record_retention = RecordRetention(self.database, self.keys, config.storage.platform_audit_days)
        self.anomalies = AnomalyWatch(self.database)
        self.anomaly_mail = AnomalyMail(self.database, config.mail, config.admin.public_url, self.anomalies.on_found)
        self.mail_server.follow(self.anomaly_mail.use)
        self.sweeping = Sweeping(self.database, AssetStore(data / "assets"))
        self.mover = Mover(self.database, self.reach.resync_phones)
        self.phones.log.on_moved = self.mover.wake
        self.database.revision_listeners.append(lambda _account_ids: self.mover.wake())  # a move begins with a change

    async def start(self) -> None:
        """Bring the node up. On return SIP, phones' port and admin port answer.

        Raises:
            EdgeAway, OSError: a port is taken or the edge does not come up: nothing is left running.
        """
        try:
            await self.edge.start()
            self._spawn(self.disk.run(), "disk")
            self._spawn(self._bring_database(), "database")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_TRY_S):
                    await self.is_database_ready.wait()
            if not self.is_database_ready.is_set():
                meaning = "it has not answered yet, and is waited for; 911 calls go on from the last snapshot"
                _log.warning("database_away", after_s=FIRST_TRY_S, meaning=meaning)
            await self._open_doors()
        except BaseException:
            await self.stop()
            raise
        garbage.settle()

    async def settled(self, within_s: float) -> None:
        """Wait until calls are routed by all that is committed now.

        Raises:
            TimeoutError: they are not, after that time.
        """
        async with asyncio.timeout(within_s):
            while not await self.publisher.is_current():  # noqa: ASYNC110 - it has nobody to tell: the demo alone waits
                await asyncio.sleep(0.02)
            await self.edge.stats(within_s)  # answered behind the tables that were to be read before

    async def stop(self) -> None:
        """Close the doors, let calls in progress finish (5 s), release what the outbox has claimed."""
        _log.info("stopping", calls="in progress keep their transactions for up to 5 s")
        for runner in self._runners:
            await runner.cleanup()
        await self.workers.stop()
        await self.edge.stop()
        if self.is_database_ready.is_set():
            await self._record_the_last()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # the notifier releases what it has claimed
        await self.reach.close()
        await self.dereferencer.close()
        await self.phones.close()
        self.publisher.close()
        await self.database.close()

    def _on_recorded(self) -> None:
        self.notifier.wake()
        self.webhooks.wake()
        self.chats.wake()

    async def _record_the_last(self) -> None:
        """The edge's last entries are durable now: put them where the pages look, or leave them to the next start."""
        try:
            async with asyncio.timeout(LAST_RECORDS_S):
                while await self.recorder.record_new():
                    pass
        except (TimeoutError, SQLAlchemyError, OSError, EngineError) as exc:
            _log.warning("records_wait", error=type(exc).__name__, meaning="they are in the journal for the next start")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _bring_database(self) -> None:
        """Migrate, then start what needs the database; tried again for as long as it takes."""
        while True:
            try:
                await migrations.migrate(self.database)
                if lacking := await migrations.missing(self.database):
                    _log.error(
                        "database_of_another_build",
                        missing=lacking,
                        meaning="what needs them fails; run `callpoint doctor`",
                    )
                await self._prepare_set_up()
                await self.publisher.publish_changed()
                break
            except (SQLAlchemyError, OSError, DatabaseAway) as exc:
                meaning = exc.detail if isinstance(exc, EngineError) else "911 calls go on from the last snapshot"
                _log.error("database_away", error=type(exc).__name__, meaning=meaning)
                await asyncio.sleep(RETRY_S)
        await self.mail_server.try_to_look()
        self._spawn(self.publisher.run(), "publisher")
        self._spawn(self.recorder.run(), "recorder")
        lent_elsewhere = LentElsewhere(self.database, self.keys, self.config.core.data_dir)
        self._spawn(lent_elsewhere.run(), "loans of other nodes")
        self._spawn(self.notifier.run(), "notifier")
        self._spawn(self.webhooks.run(), "webhooks")
        self._spawn(self.chats.run(), "chats")
        self._spawn(self.escalator.run(), "escalation")
        self._spawn(self.mail_server.run(), "mail settings")
        self._spawn(self.notary.run(), "audit checkpoints")
        self._spawn(self.index_keeper.run(), "audit indexes")
        self._spawn(self.owed_indexing.run(), "audit indexes of large operations")
        self._spawn(self.pending_keeper.run(), "audit indexes of trigrams")
        self._spawn(self.trunk_states.run(), "trunk states")
        self._spawn(self.sightings.run(), "sightings")
        self._spawn(self.mover.run(), "token moves")
        self._spawn(self.location_alarms.run(), "location alarms")
        self._spawn(self.owed_marking.run(), "marks of large changes")
        self._spawn(self.rollouts.run(), "rollouts")
        self._spawn(self.retention.run(), "fetch log retention")
        self._spawn(self.record_retention.run(), "record retention")
        self._spawn(self.disk_mail.run(), "mails of the disk")
        self._spawn(self.anomalies.run(), "anomalies")
        self._spawn(self.anomaly_mail.run(), "mails of anomalies")
        self._spawn(self.sweeping.run(), "files that nothing names")
        self._spawn(self.sweeper.run(), "tests of locations")
        self.is_database_ready.set()

    async def _prepare_set_up(self) -> None:
        async with self.database.sessions.begin() as session:
            if not await accounts_store.has_any_user(session):
                self.setup_key = await accounts.new_setup_link(session)

    async def _open_doors(self) -> None:
        provisioning, admin = self.config.provisioning, self.config.admin
        certificates = CertificateWatch.of(self.config)
        self.phones_address = await self._listen(
            self.phones.runner(),
            parse_listen(provisioning.listen),
            certificates.follow(PHONES, phones_tls(provisioning, self.phones.admission.authorities)),
            is_shared=self.workers.wanted > 0,
        )
        self.workers.start(self.phones_address)
        bound = provisioning.model_copy(update={"listen": str(self.phones_address)})  # port 0 became a real one
        application = make_admin(
            self.config.model_copy(update={"provisioning": bound}),
            self.keys,
            self.database,
            self.reach,
            mail_server=self.mail_server,
            disk=self.disk,
            unread=self.publisher.unread_of,
        )
        application[CERTIFICATES] = certificates
        runner = AdminRunner(application)
        self.admin_address = await self._listen(
            runner,
            parse_listen(admin.listen),
            certificates.follow(PAGES, tls_context(admin.tls_cert, admin.tls_key)),
        )
        self._spawn(self._bootstrap().run(), "bootstrap")
        self._spawn(certificates.run(), "certificates")

    def _bootstrap(self) -> BootstrapDoors:
        section = self.config.provisioning
        base_for = base_of(section.public_url, is_tls=section.tls_cert is not None, port=self.phones_address.port)
        desk = BootstrapDesk(self.database, self.phones.renderer.vendors, self.phones.log, base_for)
        return BootstrapDoors(self.config.bootstrap, desk)

    async def _listen(
        self,
        runner: web.AppRunner | web.ServerRunner,
        at: Listen,
        context: ssl.SSLContext | None,
        *,
        is_shared: bool = False,
    ) -> Listen:
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, at.host, at.port, ssl_context=context, backlog=AT_ONCE, reuse_port=is_shared)
        await site.start()
        keep_waiting(site._server)  # noqa: SLF001 - aiohttp hands it to nobody
        host, port = runner.addresses[0][:2]
        return Listen(host, port)
