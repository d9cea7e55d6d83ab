"""A mail server on loopback that keeps what it takes and can be told to misbehave: aiosmtpd in the test's own loop."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass(frozen=True)
class Taken:
    """One mail as it was handed over."""

    sender: str
    recipient: str
    message: EmailMessage
    at: float  # the loop's clock
    was_encrypted: bool
    login: str | None

    @property
    def text(self) -> str:
        part = self.message.get_body(("plain",))
        assert part is not None
        return str(part.get_content())

    @property
    def html(self) -> str:
        part = self.message.get_body(("html",))
        assert part is not None
        return str(part.get_content())


@dataclass
class MailSink:
    """`on_recipient` and `on_data` may answer for the server: a reply line, or None to go on as usual."""

    on_recipient: Callable[[str], str | None] = lambda _recipient: None
    on_data: Callable[[str], str | None] = lambda _recipient: None
    login: tuple[str, str] | None = None
    tls: ssl.SSLContext | None = None
    requires_starttls: bool = False
    tls_at_once: bool = False  # as on port 465
    mails: list[Taken] = field(default_factory=list)
    recipients_asked: list[str] = field(default_factory=list)
    port: int = 0
    hold: asyncio.Event | None = None  # while it is not set, DATA is not answered

    async def start(self, port: int = 0) -> "MailSink":
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"hostname": "sink.example", "loop": loop, "enable_SMTPUTF8": False}
        if self.tls is not None and not self.tls_at_once:
            options |= {"tls_context": self.tls, "require_starttls": self.requires_starttls}
        if self.login is not None:
            options |= {
                "authenticator": self._authenticate,
                "auth_required": True,
                "auth_require_tls": self.tls is not None,
            }
        self._server = await loop.create_server(
            lambda: _Protocol(self, **options), "127.0.0.1", port, ssl=self.tls if self.tls_at_once else None
        )
        self._open: list[_Protocol] = []
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Stop listening and drop every connection, as a server that dies."""
        self._server.close()
        for protocol in self._open:
            if protocol.transport is not None:
                protocol.transport.abort()
        await self._server.wait_closed()

    async def received(self, count: int, within_s: float = 60.0) -> list[Taken]:
        """Wait until so many mails are there."""
        async with asyncio.timeout(within_s):
            while len(self.mails) < count:
                await asyncio.sleep(0.005)
        return self.mails

    def of(self, recipient: str) -> list[Taken]:
        return [mail for mail in self.mails if mail.recipient == recipient]

    def _authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        found = (data.login.decode(), data.password.decode())
        return AuthResult(success=found == self.login, handled=False, auth_data=found[0])

    # aiosmtpd's hooks

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        self.recipients_asked.append(address)
        said = self.on_recipient(address)
        if said is None:
            envelope.rcpt_tos.append(address)
        return said or "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        recipient = envelope.rcpt_tos[0]
        said = self.on_data(recipient)
        if said is not None:
            return said
        message = message_from_bytes(envelope.content or b"", policy=policy.default)
        assert isinstance(message, EmailMessage)
        login = str(session.auth_data) if session.authenticated else None
        at = asyncio.get_running_loop().time()
        self.mails.append(
            Taken(str(envelope.mail_from), recipient, message, at, session.ssl is not None or self.tls_at_once, login)
        )
        if self.hold is not None:
            await self.hold.wait()
        return "250 taken"


class _Protocol(SMTP):
    def __init__(self, sink: MailSink, **options: Any) -> None:
        super().__init__(sink, **options)
        self._sink = sink

    def connection_made(self, transport: Any) -> None:
        self._sink._open.append(self)
        super().connection_made(transport)
