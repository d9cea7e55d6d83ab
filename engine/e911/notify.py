"""The outbox: hands waiting notifications to the mail server, each once as far as that can be known.

Theory of operation. One loop claims due rows under a lease and puts them into a queue; a few couriers, each with a
connection of its own, take them from there. The mail is sent outside any transaction. A server that cannot be reached,
refuses the password or asks to come later leaves rows waiting with its words beside them; back-off grows to ten
minutes, and after three days of trying a row is given up. A server that says a mailbox does not exist ends it at once.
A crash between sending and noting it sends twice, with the same Message-ID. Without a mail server rows simply wait.
"""

import asyncio
import contextlib
import datetime as dt
import itertools
import random
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import parseaddr

import aiosmtplib
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine import mailing
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.config import Mail
from engine.db import Database, utc_now
from engine.e911 import mail, store_outbox
from engine.e911.calls import raise_if_cancelled
from engine.e911.retries import Patience, Try, Verdict
from engine.ids import new_id
from engine.mailing import session_of
from engine.models import MAILS, CallKind, EmergencyCall, Notification, NotificationState

MAX_CONNECTIONS = 3  # the least that a large provider allows one sender at a time (Exchange Online)
MAX_CLAIMED = 60  # rows of one process at a time: what three connections send well within the lease
POLL_S = 1.0
LEASE = dt.timedelta(seconds=180)
CONNECT_WITHIN_S = 15.0
SEND_WITHIN_S = 60.0  # RFC 5321 §4.5.3.2 would wait 10 minutes for the last answer; the lease would not
FINISH_WITHIN_S = 5.0
PAUSE_AFTER_FAULT_S = 1.0
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class MailState:
    """How mail stands, for the pages: `fault` is a sentence while the server cannot be used, else empty."""

    is_set_up: bool
    host: str
    fault: str = ""
    fault_at: dt.datetime | None = None
    sent_at: dt.datetime | None = None

    @property
    def words(self) -> str:
        """One sentence for a page or a terminal."""
        if not self.is_set_up:
            return "Mail is not set up: notifications wait until [mail] host names a mail server."
        return self.fault or f"Mail goes to {self.host}."


@dataclass(slots=True)
class Claimed:
    """A row that is ours to send until `until`."""

    id: str
    tries: int
    until: dt.datetime
    outgoing: mail.Outgoing


class Notifier:
    """Sends what waits. `run` until cancelled, then finishes what is on its way and releases the rest.

    Args:
        settings: `[mail]` of the configuration; an empty host: nothing is claimed, rows wait.
        tls_context: For a mail server with a certificate of its own authority; else the system's.
    """

    def __init__(
        self,
        database: Database,
        settings: Mail,
        *,
        patience: Patience | None = None,
        tls_context: ssl.SSLContext | None = None,
        poll_s: float = POLL_S,
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self.state = MailState(bool(settings.host), settings.host)
        self.id = new_id("notification")  # this process's name on the rows it has claimed
        self._database, self._settings, self._tls_context = database, settings, tls_context
        self._patience = patience or Patience()
        self._poll_s, self._now = poll_s, now
        self._queue: asyncio.PriorityQueue[tuple[bool, int, Claimed]] = asyncio.PriorityQueue()
        self._number = itertools.count()
        self._held: set[str] = set()
        self._unsettled: dict[str, tuple[Claimed, Try]] = {}
        self._settling_turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()

    def wake(self) -> None:
        """There may be new rows."""
        self._wake.set()

    def use(self, settings: Mail) -> None:
        """Send by these settings from the next connection on; what waits is tried when it is due."""
        self._settings = settings
        self.state = MailState(bool(settings.host), settings.host, sent_at=self.state.sent_at)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Never raises for a database or a mail server that is away."""
        couriers = [asyncio.create_task(self._courier(), name=f"courier-{n}") for n in range(MAX_CONNECTIONS)]
        try:
            while True:
                self._wake.clear()
                if self.state.is_set_up:
                    await self._claim_due_or_note()
                await _first_of(self._wake, self._poll_s)
                raise_if_cancelled()
        finally:
            self._stopping.set()
            _, late = await asyncio.wait(couriers, timeout=FINISH_WITHIN_S)
            for courier in late:
                courier.cancel()
            await asyncio.gather(*couriers, return_exceptions=True)
            await self._release()

    # -------------------------------------------------------------------------------------- claiming

    async def _claim_due_or_note(self) -> None:
        try:
            for claimed in await self._claim_due():
                self._held.add(claimed.id)
                is_other = (
                    claimed.outgoing.kind != CallKind.EMERGENCY
                )  # what is queued already gives way to a real call
                self._queue.put_nowait((is_other, next(self._number), claimed))
        except Exception as exc:  # noqa: BLE001  # a database that is away must not end the loop
            _log.warning("notifications_not_claimed", error=type(exc).__name__)
            await _first_of(self._stopping, PAUSE_AFTER_FAULT_S)

    async def _claim_due(self) -> list[Claimed]:
        """Make due rows ours for the length of a lease; a fresh call's before those that were tried already."""
        room = MAX_CLAIMED - len(self._held)
        if room <= 0:
            return []
        now = self._now()
        until = now + LEASE
        due = store_outbox.in_turn(*store_outbox.is_due(MAILS, now))
        async with self._database.sessions() as session:  # an idle node asks every second: not as a writer
            if (await session.scalars(due.limit(1))).first() is None:
                return []
        async with self._database.sessions.begin() as session:
            # SKIP LOCKED is PostgreSQL's; SQLite has one writer at a time
            ids = (await session.scalars(due.limit(room).with_for_update(skip_locked=True, of=Notification))).all()
            if not ids:
                return []
            await store_outbox.claim(session, self.id, ids, until)
            rows = await session.execute(
                select(Notification, EmergencyCall.kind)
                .join(EmergencyCall, EmergencyCall.id == Notification.emergency_call_id)
                .where(Notification.id.in_(ids))
            )
            found = {row.id: _claimed(row, kind, until) for row, kind in rows}
            return [found[identity] for identity in ids if identity in found]

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(FINISH_WITHIN_S), self._database.sessions.begin() as session:
                await store_outbox.release(session, self.id)
        except Exception as exc:  # noqa: BLE001  # the lease ends by itself
            _log.warning("notification_claims_not_released", error=type(exc).__name__)

    # -------------------------------------------------------------------------------------- sending

    async def _courier(self) -> None:
        """Take rows from the queue for ever; one connection serves all that are queued meanwhile."""
        while not self._stopping.is_set():
            claimed = await self._next()
            if claimed is None:
                return
            try:
                await self._carry(claimed)
            except Exception as exc:  # noqa: BLE001  # one strange answer must not end the courier
                _log.error("courier_stumbled", error=f"{type(exc).__name__}: {exc}")
                await self._settle(claimed, Try(Verdict.LATER, _words(exc)))

    async def _next(self) -> Claimed | None:
        """The next row; None when stopping."""
        taking = asyncio.ensure_future(self._queue.get())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({taking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return taking.result()[2] if taking.done() and not self._stopping.is_set() else None
        finally:
            taking.cancel()
            stopping.cancel()

    async def _carry(self, first: Claimed) -> None:
        async with _connection(self._settings, self._tls_context) as (client, refusal):
            if client is None:
                await self._note_no_connection([first, *self._take_queued()], refusal)
                return
            claimed: Claimed | None = first
            while claimed is not None:
                if await self._is_still_ours(claimed):
                    await self._settle(claimed, await _send(client, claimed.outgoing, self._settings.sender))
                else:
                    self._held.discard(claimed.id)
                if not client.is_connected or self._stopping.is_set():
                    return
                claimed = next(iter(self._take_queued(1)), None)

    def _take_queued(self, at_most: int = MAX_CLAIMED) -> list[Claimed]:
        taken: list[Claimed] = []
        while len(taken) < at_most and not self._queue.empty():
            taken.append(self._queue.get_nowait()[2])
        return taken

    async def _note_no_connection(self, rows: list[Claimed], refusal: str) -> None:
        """The server cannot be used now: that holds for every row in the queue."""
        host = f"{self._settings.host}:{self._settings.port}"
        fault = f"The mail server {host} cannot be used. {refusal.rstrip('.')}. Notifications wait and are tried again."
        if fault != self.state.fault:
            _log.error("mail_server_away", server=host, error=refusal)
        self._note_fault(fault)
        await asyncio.gather(*(self._settle(claimed, Try(Verdict.LATER, refusal)) for claimed in rows))

    def _note_fault(self, fault: str) -> None:
        self.state = MailState(True, self.state.host, fault, self._now(), self.state.sent_at)

    async def _is_still_ours(self, claimed: Claimed) -> bool:
        """Whether the lease outlasts a try; when it might not, a new one is asked for."""
        now = self._now()
        if claimed.until - now > dt.timedelta(seconds=SEND_WITHIN_S * 1.5):
            return True
        until = now + LEASE
        try:
            async with self._database.sessions.begin() as session:
                is_ours = await store_outbox.renew(session, self.id, claimed.id, until)
        except Exception as exc:  # noqa: BLE001  # not to be known: better late than twice
            _log.warning("notification_lease_not_renewed", error=type(exc).__name__)
            return False
        claimed.until = until
        return is_ours

    async def _settle(self, claimed: Claimed, outcome: Try) -> None:
        """Note what became of a try; while the database is away, again and again: a sent mail must not go twice.

        Couriers that end together are noted in one transaction: whoever gets the lock writes for all that wait.
        """
        self._unsettled[claimed.id] = (claimed, outcome)
        while claimed.id in self._unsettled:
            async with self._settling_turn:
                group = list(self._unsettled.values())
                is_written = not group or await self._write(group)
            if is_written:
                continue
            if self._stopping.is_set():
                break
            await _first_of(self._stopping, PAUSE_AFTER_FAULT_S)
        self._held.discard(claimed.id)
        if self._queue.empty():
            self._wake.set()  # there may be more than we could hold

    async def _write(self, group: list[tuple[Claimed, Try]]) -> bool:
        try:
            async with self._database.sessions.begin() as session:
                for claimed, outcome in group:
                    await self._note(session, claimed, outcome)
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is the database's
            _log.warning("notifications_not_settled", error=type(exc).__name__, count=len(group))
            return False
        for claimed, outcome in group:
            del self._unsettled[claimed.id]
            self._tell(claimed, outcome)
        return True

    def _tell(self, claimed: Claimed, outcome: Try) -> None:
        if outcome.verdict is Verdict.SENT:
            self.state = MailState(True, self.state.host, sent_at=self._now())
            return
        if not self.state.fault and outcome.verdict is Verdict.LATER:
            self._note_fault(f"The mail server {self.state.host} puts notifications off; it said: {outcome.words}")
        _log.warning("notification_not_sent", notification_id=claimed.id, tries=claimed.tries + 1, said=outcome.words)

    async def _note(self, session: AsyncSession, claimed: Claimed, outcome: Try) -> None:
        now, tries = self._now(), claimed.tries + 1
        jitter = random.random()  # noqa: S311  # spreads retries, guards nothing
        created_at = claimed.outgoing.created_at
        again = self._patience.next_try(outcome.verdict, tries, created_at=created_at, now=now, jitter=jitter)
        await store_outbox.settle(session, self.id, claimed.id, outcome, tries=tries, now=now, next_try_at=again)


async def resend(session: AsyncSession, actor: Actor, notification: Notification) -> Notification:
    """Send it (again) now: a sent or failed one waits anew, a waiting one is due at once. It keeps its Message-ID."""
    if notification.state != NotificationState.WAITING:
        notification.state = NotificationState.WAITING
        notification.tries = 0
        notification.sent_at = None
        notification.last_error = None
        notification.claimed_by = None
        notification.claimed_until = None
    notification.next_try_at = utc_now()
    resource = ("notification", notification.id, notification.recipient)
    record(session, actor, Event.NOTIFICATION_RESEND, notification, resource=resource)
    await session.flush()
    return notification


def _claimed(row: Notification, kind: str, until: dt.datetime) -> Claimed:
    outgoing = mail.Outgoing(
        call_id=row.emergency_call_id,
        recipient=row.recipient,
        channel=row.channel,
        subject=row.subject,
        body=row.body,
        kind=kind,
        created_at=row.created_at,
    )
    return Claimed(row.id, row.tries, until, outgoing)


@contextlib.asynccontextmanager
async def _connection(
    settings: Mail, tls_context: ssl.SSLContext | None
) -> AsyncIterator[tuple[aiosmtplib.SMTP | None, str]]:
    """A session with the mail server, signed in; None and the reason when there is none to be had."""
    client = aiosmtplib.SMTP(tls_context=tls_context, timeout=CONNECT_WITHIN_S, **session_of(settings))
    refusal = ""
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            await client.connect()
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as exc:
        refusal = mailing.refusal(exc, settings)
    try:
        yield (None if refusal else client), refusal
    finally:
        with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
            if client.is_connected:
                await client.quit(timeout=1.0)
        client.close()


async def _send(client: aiosmtplib.SMTP, outgoing: mail.Outgoing, sender: str) -> Try:
    try:
        data = mail.message(outgoing, sender)
    except ValueError as exc:  # an address that no header takes
        return Try(Verdict.NEVER, f"No mail can be made for {mail.one_line(outgoing.recipient)}: {_words(exc)}")
    try:
        async with asyncio.timeout(SEND_WITHIN_S):
            await client.sendmail(parseaddr(sender)[1], [outgoing.recipient], data)
    except aiosmtplib.SMTPRecipientsRefused as exc:
        refused = exc.recipients[0]
        return Try(_verdict_on(refused.code, refused.message), f"{refused.code} {mail.one_line(refused.message, 400)}")
    except aiosmtplib.SMTPDataError as exc:
        return Try(_verdict_on(exc.code, exc.message), _words(exc))
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as exc:
        if not isinstance(exc, aiosmtplib.SMTPResponseException) or exc.code == 421:
            client.close()  # its state is unknown, or it says that it closes: the next row gets a fresh one
        return Try(Verdict.LATER, _words(exc))
    return Try(Verdict.SENT)


def _verdict_on(code: int, message: str) -> Verdict:
    """Whether a refusal of a recipient or of the content is for good (RFC 5321 §4.2.1: 5yz).

    An enhanced code 5.7.x (RFC 3463 §3.8) is about policy: relaying denied, sender not allowed. The administrator can
    put that right, so the mail waits for it.
    """
    return Verdict.NEVER if 500 <= code < 600 and not message.lstrip().startswith("5.7.") else Verdict.LATER


def _words(exc: BaseException) -> str:
    """An error as the recipient's page shows it: the server's own words where it said any."""
    if isinstance(exc, aiosmtplib.SMTPResponseException):
        return f"{exc.code} {mail.one_line(exc.message, 400)}"
    if isinstance(exc, TimeoutError) and not str(exc):
        return "no answer in time"
    return mail.one_line(str(exc) or type(exc).__name__, 400)


async def _first_of(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for the event, at most that long. (`wait_for` of Python 3.11 can swallow a cancellation; this cannot.)"""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
