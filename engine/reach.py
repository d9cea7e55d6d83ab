"""What the admin side sees of the SIP process: its state, and phones that can be asked to fetch their files again."""

import asyncio
from collections.abc import Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_object_session

from admin.context import EdgeState
from engine.accounts import store as accounts_store
from engine.db import Database, utc_now
from engine.edge_link import EdgeLink
from engine.errors import Conflict, EngineError
from engine.ids import new_id
from engine.models import Phone, ProvisioningEvent
from engine.provisioning import store as provisioning_store
from engine.provisioning.resync import Destination, Resync, Resyncer, meaning, plan
from engine.provisioning.vendors import known

STATS_WITHIN_S = 0.5
_log = structlog.get_logger()


class Reach:
    """The admin side's Edge. A NOTIFY is planned in the request, sent after it, and its result joins the fetch log."""

    def __init__(self, edge: EdgeLink, database: Database) -> None:
        self._edge, self._database = edge, database
        self._resyncer = Resyncer(edge.notify)
        self._sending: set[asyncio.Task[None]] = set()

    def state(self) -> EdgeState:
        now = self._edge.state
        return EdgeState(
            now.is_up,
            now.udp or None,
            now.tcp or None,
            {key: one.is_up for key, one in now.trunks.items()},
            now.tls or None,
        )

    async def counters(self) -> Mapping[str, object]:
        """The edge's numbers; {} when it does not answer in time, so that a scrape never waits for SIP."""
        try:
            return await self._edge.stats(STATS_WITHIN_S)
        except (TimeoutError, EngineError, OSError):
            return {}

    async def resync(self, phone: Phone) -> None:
        """Plan the NOTIFY and hand it over for sending.

        Raises:
            Conflict: there is no way to this phone yet; the sentence says what to do.
        """
        session = async_object_session(phone)
        assert session is not None, "the phone comes from the request's own session"
        planned = await self._plan(session, phone)
        task = asyncio.create_task(self._send(planned, phone.account_id, phone.id), name="resync")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def close(self) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _plan(self, session: AsyncSession, phone: Phone) -> Resync:
        keys = await provisioning_store.keys_of(session, phone.id)
        if not keys:
            raise Conflict(
                "This phone has no line, so no NOTIFY can be addressed to it. Assign one or restart it by hand."
            )
        line, pbx = await provisioning_store.line_of(session, phone.account_id, keys[0].line_id), None
        if line.pbx_id is not None:
            pbx = await accounts_store.pbx_by_id(session, phone.account_id, line.pbx_id)
        else:
            page = await accounts_store.pbxs_of(session, phone.account_id)
            pbx = page[0] if len(page) == 1 else None
        profile = known().profiles[phone.vendor]
        return plan(
            profile,
            Destination(
                sip_user=line.sip_user,
                registrar_host=pbx.registrar_host if pbx else "",
                registrar_port=pbx.registrar_port if pbx else 5060,
                transport=pbx.transport if pbx else "udp",
                resync_via=pbx.resync_via if pbx else "direct",
                last_ip=phone.last_ip,
            ),
        )

    async def _send(self, planned: Resync, account_id: str, phone_id: str) -> None:
        started = asyncio.get_running_loop().time()
        try:
            status = await self._resyncer.send(planned)
            said = meaning(status)
        except EngineError as exc:
            status, said = 503, exc.title
        duration_us = int((asyncio.get_running_loop().time() - started) * 1e6)
        _log.info("resync", device_id=phone_id, status=status)
        async with self._database.sessions.begin() as session:
            session.add(
                ProvisioningEvent(
                    id=new_id("fetch"),
                    account_id=account_id,
                    phone_id=phone_id,
                    kind="resync",
                    reason=said[:60],
                    file=planned.event,
                    method="NOTIFY",
                    status_code=status,
                    duration_us=duration_us,
                    ip=planned.host[:45],
                    at=utc_now(),
                )
            )
