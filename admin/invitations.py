"""Secrets on their way by mail, invitations' links and codes, once the transaction that made them is stored.

Theory of operation. Of a link's key and of a code only the hash is stored, so they can wait in no outbox: they are
mailed from memory, right after the commit, and no request waits for it. What came of it is told on the page that asked;
when it failed, a new one is made, which kills the old one.
"""

import asyncio
import contextlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from enum import StrEnum

import structlog
from aiohttp import web
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts.half_open import LIFETIME
from engine.accounts.users import Invitation
from engine.config import Mail
from engine.db import utc_now
from engine.mailing import SEND_WITHIN_S, hand_over
from engine.models import User

AT_ONCE = 4  # connections to the mail server: many may be invited in one go
MAX_REMEMBERED = 1_000  # people, newest last: what the users page can still tell
_log = structlog.get_logger()


class Sending(StrEnum):
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Posted:
    """How far the mail to one invited user is. `words`: why it did not leave, and what the mail server said."""

    state: Sending
    words: str = ""


class Inviter:
    """Mails invitations and codes. `settings`: `[mail]` of the configuration; with an empty host nothing is mailed."""

    def __init__(self, settings: Mail) -> None:
        self._settings = settings
        self._posted: OrderedDict[str, Posted] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lanes = asyncio.Semaphore(AT_ONCE)
        self._is_failing = False  # whether the newest mail found no server that takes mail

    def use(self, settings: Mail) -> None:
        """Send by these settings from now on."""
        self._settings, self._is_failing = settings, False

    @property
    def sender(self) -> str:
        """The address that mails come from."""
        return self._settings.sender

    @property
    def is_set_up(self) -> bool:
        return bool(self._settings.host)

    @property
    def is_working(self) -> bool:
        """Whether a server is set and, as far as this process tried, takes mail."""
        return self.is_set_up and not self._is_failing

    def is_likely_for(self, user_id: str) -> bool:
        """Whether a mail to that user is likely to leave: a server works, and took the newest one for them, if any."""
        posted = self.posted(user_id)
        return self.is_working and (posted is None or posted.state is not Sending.FAILED)

    def posted(self, key: str) -> Posted | None:
        """How far the newest mail of that user's invitation, or of that sign-in, is; None: this process sent none."""
        return self._posted.get(key)

    def mail_after_commit(self, session: AsyncSession, made: Invitation, account: str, inviter: str, link: str) -> None:
        """Mail the link as soon as this transaction is stored; never when it is rolled back."""
        self.post_after_commit(session, made.user.id, _message(self._settings.sender, made, account, inviter, link))

    def mail_code(self, session: AsyncSession, pending_id: str, user: User, code: str, ip: str) -> None:
        """Mail a code for a sign-in, or for setting codes by mail up, once this transaction is stored.

        How far it is stands under the sign-in's own id.
        """
        self.post_after_commit(session, pending_id, _code_message(self._settings.sender, user, code, ip))

    def post_after_commit(self, session: AsyncSession, key: str, message: EmailMessage) -> None:
        loop = asyncio.get_running_loop()

        def begin(_session: object) -> None:
            self._note(key, Posted(Sending.SENDING))
            # the commit may run in SQLAlchemy's greenlet: the task belongs to the loop all the same
            task = loop.create_task(self._send(key, message), name="mail")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        event.listen(session.sync_session, "after_commit", begin, once=True)

    async def close(self) -> None:
        """Wait for what is being sent."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=SEND_WITHIN_S)

    async def _send(self, key: str, message: EmailMessage) -> None:
        async with self._lanes:
            refused = await hand_over(message, self._settings)
        self._is_failing = refused is not None and not refused.is_of_recipient
        if refused is None:
            self._note(key, Posted(Sending.SENT))
            return
        _log.warning("mail_not_sent", of=key, error=refused.words)
        self._note(key, Posted(Sending.FAILED, refused.words))

    def _note(self, key: str, posted: Posted) -> None:
        self._posted[key] = replace(posted)
        self._posted.move_to_end(key)
        while len(self._posted) > MAX_REMEMBERED:
            with contextlib.suppress(KeyError):
                self._posted.popitem(last=False)


INVITER: web.AppKey[Inviter] = web.AppKey("inviter", Inviter)


def link_of(origin: str, made: Invitation) -> str:
    """Where the invited user chooses a password. `origin`: scheme and host of the admin port, no slash at its end."""
    return f"{origin}/invitation?k={made.key}"


def envelope(sender: str, to: str, subject: str) -> EmailMessage:
    """A mail with its headers, without a text yet."""
    message = EmailMessage()
    message["From"], message["To"] = sender, to
    message["Subject"] = subject
    message["Date"] = format_datetime(utc_now())
    message["Message-ID"] = make_msgid(domain=parseaddr(sender)[1].rpartition("@")[2] or None)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: no out-of-office answers
    return message


def _code_message(sender: str, user: User, code: str, ip: str) -> EmailMessage:
    """The code is not in the subject: phones show that on a locked screen."""
    message = envelope(sender, user.email, "Your code for Callpoint")
    minutes = int(LIFETIME.total_seconds() // 60)
    message.set_content(
        f"Your code: {code}\n\nType it on the page that asked for it. It works once, for {minutes} minutes.\n\n"
        f"It was asked for from {ip} after your password was typed. If that was not you, somebody knows your password: "
        "change it at once and tell an owner of your account.\n"
    )
    return message


def _message(sender: str, made: Invitation, account: str, inviter: str, link: str) -> EmailMessage:
    subject = f"{_line(inviter)} invites you to {_line(account)} on Callpoint"
    why = f"added you to the account {_line(account)} as {made.user.role.replace('_', ' ')}"
    if made.is_reset:
        subject = f"A new password for {_line(account)} on Callpoint"
        why = f"reset your password for the account {_line(account)}; the old one opens nothing any more"
    message = envelope(sender, made.user.email, subject)
    message.set_content(
        f"{_line(inviter)} {why}.\n\n"
        f"Choose your password here. The link works once, until {made.expires_at:%Y-%m-%d %H:%M} UTC:\n\n{link}\n\n"
        "If you did not expect this, do nothing: without the link nobody can sign in as you.\n"
    )
    return message


def _line(text: str) -> str:
    """A name as one line of printable text: it goes into a header."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:100]
