"""Why a mail did not leave, as people are told: what it means and what to look at first, then what was said."""

import asyncio
import socket
import ssl
from email.message import EmailMessage

import aiosmtplib
import pytest

from engine.config import Mail
from engine.mailing import hand_over, refusal
from tests.protocol.mail_sink import MailSink

PLACE = Mail(host="mail.acme.example", port=587, security="starttls", sender="Callpoint <callpoint@acme.example>")


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "meaning", "said"),
    [
        (aiosmtplib.SMTPAuthenticationError(535, "5.7.8 no"), "does not accept the user name", "It said: 535 5.7.8 no"),
        (
            aiosmtplib.SMTPSenderRefused(550, "not you", "callpoint@acme.example"),
            "takes no mail from callpoint@acme.example", "It said: 550 not you",
        ),
        (
            aiosmtplib.SMTPRecipientsRefused([aiosmtplib.SMTPRecipientRefused(550, "no such\nuser", "x@y.example")]),
            "takes no mail for this recipient", "It said: 550 no such user",
        ),
        (aiosmtplib.SMTPDataError(554, "spam"), "did not take the mail", "It said: 554 spam"),
        (
            caused(aiosmtplib.SMTPConnectError("Error"), ssl.SSLCertVerificationError("self-signed")),
            "was reached, but not over TLS", "This system said: Error",
        ),
        (
            caused(aiosmtplib.SMTPConnectError("Error"), aiosmtplib.SMTPServerDisconnected("gone")),
            "ended the connection", "This system said: Error",
        ),
        (
            caused(aiosmtplib.SMTPConnectError("Error"), socket.gaierror("unknown")),
            "mail.acme.example could not be found in DNS", "This system said: Error",
        ),
        (aiosmtplib.SMTPConnectTimeoutError("Timed out"), "did not answer in time", "This system said: Timed out"),
        (TimeoutError(), "did not answer in time", ""),
        (OSError("no route"), "mail.acme.example:587 could not be reached", "This system said: no route"),
        (
            aiosmtplib.SMTPException("SMTP STARTTLS extension not supported by server."),
            "does not offer STARTTLS, so nothing was sent", "This system said: SMTP STARTTLS",
        ),
        (ValueError("odd"), "could not be handed to", "This system said: odd"),
    ],
)  # fmt: skip
def test_what_it_means_comes_before_what_was_said(error: BaseException, meaning: str, said: str) -> None:
    """S1-21: nobody is left alone with an errno; the server's own words stand last, on one line."""
    told = refusal(error, PLACE)
    assert meaning in told
    assert said in told
    assert told.rindex(said) > told.index(meaning)
    assert "\n" not in told


@pytest.mark.enable_socket
async def test_a_server_that_is_not_there_and_one_that_hangs_up_are_told_apart() -> None:
    """S1-21: by real connections: a closed port, a server that hangs up, and one that takes the mail."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "callpoint@acme.example", "desk@acme.example", "Test"
    with socket.socket() as taken:  # bound and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        away = Mail(host="127.0.0.1", port=taken.getsockname()[1], security="none", sender="callpoint@acme.example")
        refused = await hand_over(message, away)
    assert refused is not None
    assert not refused.is_of_recipient
    assert refused.words.startswith(f"127.0.0.1:{away.port} could not be reached. Check host and port")
    rude = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = rude.sockets[0].getsockname()[1]
    refused = await hand_over(message, away.model_copy(update={"port": port}))
    assert refused is not None
    assert "ended the connection" in refused.words
    rude.close()
    sink = await MailSink().start()
    try:
        assert await hand_over(message, away.model_copy(update={"port": sink.port})) is None
    finally:
        await sink.stop()
