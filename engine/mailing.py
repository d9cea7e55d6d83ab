"""One mail to the mail server, now. What must not be lost goes through an outbox and comes here when it is due."""

import asyncio
import socket
from email.message import EmailMessage
from email.utils import parseaddr

import aiosmtplib

from engine.config import Mail

SEND_WITHIN_S = 30.0
MAX_WORDS = 200


async def hand_over(message: EmailMessage, settings: Mail) -> str:
    """Hand one mail to the server; returns its words when it did not take it, else nothing. Raises for nothing of it.

    Takes at most `SEND_WITHIN_S`.
    """
    domain = parseaddr(settings.sender)[1].rpartition("@")[2]
    try:
        async with asyncio.timeout(SEND_WITHIN_S):
            await aiosmtplib.send(
                message,
                hostname=settings.host,
                port=settings.port,
                username=settings.username or None,
                password=settings.password or None,
                use_tls=settings.security == "tls",
                start_tls=settings.security == "starttls",
                timeout=SEND_WITHIN_S,
                local_hostname=domain if "." in domain else socket.gethostname(),  # else DNS is asked for our name
            )
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as exc:
        return (str(exc) or type(exc).__name__)[:MAX_WORDS]
    return ""
