"""One mail to the mail server, now. What must not be lost goes through an outbox and comes here when it is due."""

import asyncio
import socket
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any

import aiosmtplib

from engine.config import Mail

SEND_WITHIN_S = 30.0
MAX_WORDS = 200  # of the server's own


@dataclass(frozen=True, slots=True)
class Refused:
    """A mail that did not leave, and why, for people. `is_of_recipient`: the server works, the address does not."""

    words: str
    is_of_recipient: bool


def session_of(settings: Mail) -> dict[str, Any]:
    """What aiosmtplib is told of the mail server, and of us."""
    domain = parseaddr(settings.sender)[1].rpartition("@")[2]
    return {
        "hostname": settings.host, "port": settings.port, "username": settings.username or None,
        "password": settings.password or None, "use_tls": settings.security == "tls",
        "start_tls": settings.security == "starttls",
        "local_hostname": domain if "." in domain else socket.gethostname(),  # else DNS is asked for our name
    }  # fmt: skip


async def hand_over(message: EmailMessage, settings: Mail) -> Refused | None:
    """Hand one mail to the server; None: it took it. Raises for nothing of it.

    Takes at most `SEND_WITHIN_S`.
    """
    try:
        async with asyncio.timeout(SEND_WITHIN_S):
            await aiosmtplib.send(message, timeout=SEND_WITHIN_S, **session_of(settings))
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as exc:
        is_of_recipient = isinstance(exc, aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPRecipientsRefused)
        return Refused(refusal(exc, settings), is_of_recipient)
    return None


_CHECK = "Check host and port, and whether a firewall lets this server reach it."
# The first that fits, from the most special to the most general; what an error came of counts as much as itself.
_MEANINGS: tuple[tuple[type[BaseException], str], ...] = (
    (aiosmtplib.SMTPAuthenticationError, "{place} does not accept the user name and password."),
    (aiosmtplib.SMTPSenderRefused, "{place} takes no mail from {sender}."),
    (aiosmtplib.SMTPRecipientRefused, "{place} takes no mail for this recipient."),
    (aiosmtplib.SMTPRecipientsRefused, "{place} takes no mail for this recipient."),
    (aiosmtplib.SMTPResponseException, "{place} did not take the mail."),
    (ssl.SSLError, "{place} was reached, but not over TLS: its certificate is not trusted, or the port is another's."),
    (aiosmtplib.SMTPServerDisconnected, "{place} ended the connection. Does the port fit the security chosen?"),
    (socket.gaierror, "{host} could not be found in DNS. Check the host name."),
    (TimeoutError, f"{{place}} did not answer in time. {_CHECK}"),
    (OSError, f"{{place}} could not be reached. {_CHECK}"),
    (Exception, "The mail could not be handed to {place}."),
)


def refusal(exc: BaseException, settings: Mail) -> str:
    """Why a mail did not leave: what that means and what to look at, then what was said, as far as anybody said it."""
    causes = (exc, exc.__cause__)
    meaning = next(text for kind, text in _MEANINGS if any(isinstance(cause, kind) for cause in causes))
    if "STARTTLS extension not supported" in str(exc):  # aiosmtplib has no class for it
        meaning = "{place} does not offer STARTTLS, so nothing was sent. Choose TLS and its port, or no security."
    sender = parseaddr(settings.sender)[1]
    told = meaning.format(place=f"{settings.host}:{settings.port}", host=settings.host, sender=sender)
    return f"{told} {_said(exc)}".strip()


def _said(exc: BaseException) -> str:
    """The server's words, or this system's where the server said none."""
    if isinstance(exc, aiosmtplib.SMTPRecipientsRefused) and exc.recipients:
        exc = exc.recipients[0]
    if isinstance(exc, aiosmtplib.SMTPResponseException):
        return f"It said: {exc.code} {_line(exc.message)}"
    words = _line(str(exc))
    return f"This system said: {words}" if words else ""


def _line(text: str) -> str:
    return " ".join(text.split())[:MAX_WORDS]
