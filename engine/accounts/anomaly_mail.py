"""Mails hints to the account's owners: each hint's row is its outbox, and says who has still to be told.

One loop, one connection, a lease: at most a few hints a day are mailed. A mail server that is away is tried again with
growing pauses for three days. A crash between sending and noting it sends twice, with the same Message-ID.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from hashlib import sha256

import structlog

from engine.accounts import store_anomalies as store
from engine.config import Mail
from engine.db import Database, utc_now
from engine.mailing import hand_over
from engine.models import Account, Anomaly

EVERY_S = 10.0
LEASE = dt.timedelta(minutes=5)
AT_ONCE = 10
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 3600.0
GIVE_UP_AFTER = dt.timedelta(days=3)
_log = structlog.get_logger()


class AnomalyMail:
    """Sends what waits; `run` until cancelled. With no mail server set up everything waits.

    Args:
        public_url: Of the admin port, for the link; empty: the mail names the page in words.
        found: Set when there may be something new.
    """

    def __init__(
        self,
        database: Database,
        settings: Mail,
        public_url: str,
        found: asyncio.Event,
        *,
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._database, self._settings, self._public_url = database, settings, public_url.rstrip("/")
        self._found, self._now = found, now

    def use(self, settings: Mail) -> None:
        """Send by these settings from now on."""
        self._settings = settings
        self._found.set()

    async def run(self) -> None:
        """Until cancelled. Never raises for a database or a mail server that is away."""
        while True:
            self._found.clear()
            try:
                await self.send_due()
            except Exception as exc:  # noqa: BLE001  # a loop that lives as long as the process: log it and go on
                _log.warning("anomaly_mails_wait", error=type(exc).__name__, detail=str(exc)[:200])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):  # `wait_for` of Python 3.11 can swallow a cancellation
                    await self._found.wait()

    async def send_due(self) -> int:
        """Try every hint that is due; returns how many were told to all their owners."""
        if not self._settings.host:
            return 0
        now = self._now()
        async with self._database.sessions() as session:
            if not await store.has_mail_due(session, now):
                return 0
        async with self._database.sessions.begin() as session:
            claimed = await store.claim_mails(session, now, now + LEASE, limit=AT_ONCE)
        return sum([await self._tell(anomaly, account) for anomaly, account in claimed])

    async def _tell(self, anomaly: Anomaly, account: Account) -> bool:
        left, words = list(anomaly.mail_to), ""
        for address in anomaly.mail_to:
            refused = await hand_over(
                message(anomaly, account, address, self._settings.sender, self._public_url), self._settings
            )
            if refused is not None:
                words = refused.words
                _log.warning("anomaly_not_mailed", anomaly_id=anomaly.id, error=words)
                break
            left.remove(address)
        now = self._now()
        async with self._database.sessions.begin() as session:
            row = await store.anomaly_by_id(session, anomaly.account_id, anomaly.id)
            row.mail_to, row.mail_claimed_until, row.mail_error = left, None, words
            row.mail_tries += 1
            if not left:
                row.mailed_at, row.mail_next_at = now, None
            elif now - row.created_at > GIVE_UP_AFTER:
                row.mail_next_at = None
            else:
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(row.mail_tries - 1, 16))
                row.mail_next_at = now + dt.timedelta(seconds=pause_s)
        return not left


def message(anomaly: Anomaly, account: Account, recipient: str, sender: str, public_url: str) -> EmailMessage:
    """One hint as a mail: what, by what it was noticed, where to look, and that nothing was blocked."""
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, recipient
    mail["Subject"] = f"Worth a look: {_line(anomaly.headline)} ({_line(account.name)})"
    mail["Date"] = format_datetime(anomaly.created_at)
    domain = parseaddr(sender)[1].rpartition("@")[2] or "localhost"
    digest = sha256(f"{anomaly.id}\n{recipient.casefold()}".encode()).hexdigest()[:32]
    mail["Message-ID"] = f"<{digest}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: no out-of-office answers
    where = f"{public_url}/audit/anomalies/{anomaly.id}" if public_url else "On the page Audit log, under Hints."
    evidence = "\n".join(f"- {_line(line)}" for line in anomaly.evidence)
    mail.set_content(
        f"{_line(anomaly.headline)}, {anomaly.at:%Y-%m-%d %H:%M} UTC.\n\nWhat it was noticed by:\n{evidence}\n\n"
        f"Look at it, and dismiss it when it is all right:\n{where}\n\n"
        "If it was not you or one of yours: change the password, end the sessions and revoke the API keys of whoever "
        "it says it was.\n\nNothing was blocked by this, and 911 calls are not touched by it.\n"
    )
    return mail


def _line(text: str) -> str:
    """A text as one line of printable characters: it goes into a header."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:300]
