"""Invitations on their way: the link, and mailing it once the transaction that made it is stored.

Theory of operation. The link's key is stored nowhere, so it can wait in no outbox: it is mailed from memory, right
after the commit. What came of that is told on the users page; when it failed, a new link is made, which kills the old
one.
"""

import asyncio
import contextlib
import socket
from collections import OrderedDict
from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from enum import StrEnum

import aiosmtplib
import structlog
from aiohttp import web
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts.users import Invitation
from engine.config import Mail
from engine.db import utc_now

SEND_WITHIN_S = 30.0
MAX_REMEMBERED = 1_000  # people, newest last: what the users page can still tell
_log = structlog.get_logger()


class Sending(StrEnum):
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Posted:
    """How far the mail to one invited user is. `words`: what the mail server said when it failed."""

    state: Sending
    words: str = ""


class Inviter:
    """Mails invitations. `settings`: `[mail]` of the configuration; with an empty host nothing is mailed."""

    def __init__(self, settings: Mail) -> None:
        self._settings = settings
        self._posted: OrderedDict[str, Posted] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_set_up(self) -> bool:
        return bool(self._settings.host)

    def posted(self, user_id: str) -> Posted | None:
        """How far the newest mail to that user is; None: this process has sent them none."""
        return self._posted.get(user_id)

    def mail_after_commit(self, session: AsyncSession, made: Invitation, account: str, inviter: str, link: str) -> None:
        """Mail the link as soon as this transaction is stored; never when it is rolled back."""
        message = _message(self._settings.sender, made, account, inviter, link)
        user_id = made.user.id
        loop = asyncio.get_running_loop()

        def begin(_session: object) -> None:
            self._note(user_id, Posted(Sending.SENDING))
            # the commit may run in SQLAlchemy's greenlet: the task belongs to the loop all the same
            task = loop.create_task(self._send(user_id, message), name="invitation")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        event.listen(session.sync_session, "after_commit", begin, once=True)

    async def close(self) -> None:
        """Wait for what is being sent."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SEND_WITHIN_S)

    async def _send(self, user_id: str, message: EmailMessage) -> None:
        settings = self._settings
        domain = parseaddr(settings.sender)[1].rpartition("@")[2]
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                await aiosmtplib.send(
                    message, hostname=settings.host, port=settings.port, username=settings.username or None,
                    password=settings.password or None, use_tls=settings.security == "tls",
                    start_tls=settings.security == "starttls", timeout=SEND_WITHIN_S,
                    local_hostname=domain if "." in domain else socket.gethostname(),
                )  # fmt: skip
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as exc:
            words = str(exc) or type(exc).__name__
            _log.warning("invitation_not_mailed", user_id=user_id, error=words[:200])
            self._note(user_id, Posted(Sending.FAILED, words[:200]))
        else:
            self._note(user_id, Posted(Sending.SENT))

    def _note(self, user_id: str, posted: Posted) -> None:
        self._posted[user_id] = replace(posted)
        self._posted.move_to_end(user_id)
        while len(self._posted) > MAX_REMEMBERED:
            with contextlib.suppress(KeyError):
                self._posted.popitem(last=False)


INVITER: web.AppKey[Inviter] = web.AppKey("inviter", Inviter)


def link_of(origin: str, made: Invitation) -> str:
    """Where the invited user chooses a password. `origin`: scheme and host of the admin port, no slash at its end."""
    return f"{origin}/invitation?k={made.key}"


def _message(sender: str, made: Invitation, account: str, inviter: str, link: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = sender, made.user.email
    message["Subject"] = f"{_line(inviter)} invites you to {_line(account)} on Callpoint"
    message["Date"] = format_datetime(utc_now())
    message["Message-ID"] = make_msgid(domain=parseaddr(sender)[1].rpartition("@")[2] or None)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: no out-of-office answers
    message.set_content(
        f"{_line(inviter)} added you to the account {_line(account)} as {made.user.role.replace('_', ' ')}.\n\n"
        f"Choose your password here. The link works once, until {made.expires_at:%Y-%m-%d %H:%M} UTC:\n\n{link}\n\n"
        "If you did not expect this, do nothing: without the link nobody can sign in as you.\n"
    )
    return message


def _line(text: str) -> str:
    """A name as one line of printable text: it goes into a header."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:100]
