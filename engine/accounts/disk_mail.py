"""Mails whoever runs the platform when the disk of a node gets low: once for each worse level, not while it lasts.

The disk that is full cannot be trusted with an outbox, so who was told stands in a small file beside the data; at worst
a restart mails once more. A mail server or a database that is away is tried again.
"""

import asyncio
import socket
from collections.abc import Callable
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from pathlib import Path

import structlog

from engine.accounts import store_storage
from engine.config import Mail
from engine.db import Database, utc_now
from engine.disk import DiskWatch, Level, is_worse
from engine.mailing import hand_over

LOOK_S = 10.0
LONGEST_PAUSE_S = 600.0
TOLD_FILE = "low-disk.told"
_log = structlog.get_logger()


class DiskMail:
    """Sends what is owed; `run` until cancelled. With no mail server set up it waits."""

    def __init__(
        self, database: Database, settings: Mail, public_url: str, watch: DiskWatch, *,
        host: Callable[[], str] = socket.gethostname,
    ) -> None:  # fmt: skip
        self._database, self._settings, self._public_url, self._watch = database, settings, public_url, watch
        self._host = host
        self._told = _told_before(watch.folder)
        self._left: list[str] | None = None  # who has still to be told of `_telling`
        self._telling = Level.GOOD
        self._pause_s = LOOK_S
        watch.on_worse.append(self._begin_anew)

    def use(self, settings: Mail) -> None:
        """Send by these settings from now on."""
        self._settings = settings

    async def run(self) -> None:
        """Until cancelled. Never raises for a database or a mail server that is away."""
        while True:
            try:
                is_done = await self.send_due()
            except Exception as exc:  # noqa: BLE001  # a loop that lives as long as the process: log it and go on
                _log.warning("disk_mail_waits", error=type(exc).__name__)
                is_done = False
            self._pause_s = LOOK_S if is_done else min(LONGEST_PAUSE_S, self._pause_s * 2)
            await asyncio.sleep(self._pause_s)

    async def send_due(self) -> bool:
        """Mail those who have to be told and were not. False: somebody is still to be told."""
        level = self._watch.level
        if self._watch.free_bytes is not None and is_worse(self._told, level):
            self._remember(level)  # it got better: when it gets worse again, that is told again
        if not is_worse(level, self._told):
            return True
        if not self._settings.host:
            return False
        if self._left is None or self._telling is not level:
            async with self._database.sessions() as session:
                self._left = await store_storage.platform_people(session)
            self._telling = level
            if not self._left:
                fix = "callpoint operator create: where there are several accounts, only an operator is mailed"
                _log.warning("disk_mailed_nobody", level=level.value, fix=fix)
        for address in list(self._left):
            refused = await hand_over(self._message(level, address), self._settings)
            if refused is not None:
                is_lost = refused.is_of_recipient
                _log.warning("disk_not_mailed", error=refused.words, is_tried_again=not is_lost)
                if not is_lost:
                    return False
            self._left.remove(address)
        self._left = None
        self._remember(level)
        return True

    def _begin_anew(self, _level: Level) -> None:
        self._left = None

    def _remember(self, level: Level) -> None:
        self._told = level
        try:
            (self._watch.folder / TOLD_FILE).write_text(level.value)
        except OSError as exc:
            _log.warning("disk_told_not_kept", error=type(exc).__name__, meaning="a restart mails it once more")

    def _message(self, level: Level, recipient: str) -> EmailMessage:
        mail = EmailMessage()
        host, sender = self._host(), self._settings.sender
        mail["From"], mail["To"] = sender, recipient
        mail["Subject"] = (
            f"{'Disk nearly full' if level is Level.CRITICAL else 'Disk filling up'} on {host} (Callpoint)"
        )
        mail["Date"] = format_datetime(utc_now())
        mail["Message-ID"] = make_msgid(domain=parseaddr(sender)[1].rpartition("@")[2] or "localhost")
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: no out-of-office answers
        where = f"{self._public_url.rstrip('/')}/settings/storage" if self._public_url else "Settings, Storage"
        mail.set_content(
            f"{self._watch.alarm()}\n\nServer: {host}\nFolder: {self._watch.folder.absolute()}\n"
            f"How long records are kept: {where}\n\nThis is mailed once; `callpoint doctor` and the metric "
            "callpoint_data_free_bytes say how it goes on.\n"
        )
        return mail


def _told_before(folder: Path) -> Level:
    try:
        return Level((folder / TOLD_FILE).read_text().strip())
    except (OSError, ValueError):
        return Level.GOOD
