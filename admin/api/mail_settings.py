"""`/api/v1/mail-settings`: the mail server that notifications, invitations and codes leave by."""

from dataclasses import replace
from typing import Annotated, Literal

from aiohttp import web
from pydantic import StringConstraints

from admin.api import answered, body_of, given, match_version, no_query
from admin.api.models import NAME_PATTERN, Answer, Body, Email, Port, Secret, patch_of
from admin.context import ACCOUNT, ACTOR, HOME, MAIL_SERVER, RESOURCE, SESSION
from admin.invitations import INVITER, Posted, Sending, envelope
from admin.routes import Operation, Route
from engine.accounts import mail_server, store_platform
from engine.accounts.addresses import email_fault, plain_email
from engine.accounts.mail_server import MailFields
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import record
from engine.db import utc_now
from engine.e911 import store_outbox
from engine.errors import Conflict, Invalid
from engine.models import MailSettings

TEST = "mail_settings.test"  # under which the newest test mail is remembered


class MailSettingsAnswer(Answer):
    """The settings in force. `source`: `configuration` when `[mail] host` names a server, which counts alone; else
    `pages`.

    has_password: whether one is stored; it is never told.
    test_state: how far the newest test mail of this process is; empty: none was sent.
    test_words: what the mail server said when it failed.
    """

    source: Literal["configuration", "pages"]
    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    username: str
    has_password: bool
    sender: str
    test_state: str
    test_words: str
    version: int


class MailSettingsBody(Body):
    """`host` empty: no mail is sent and notifications wait. `password`: left out, the stored one stays; empty: none."""

    host: Annotated[str, StringConstraints(max_length=253, pattern=NAME_PATTERN)]
    port: Port
    security: Literal["starttls", "tls", "none"]
    username: Annotated[str, StringConstraints(max_length=320, pattern=NAME_PATTERN)]
    password: Secret | Literal[""]
    sender: Annotated[str, StringConstraints(max_length=320, pattern=NAME_PATTERN)]


class MailTestBody(Body):
    to: Email


MailSettingsPatch = patch_of(MailSettingsBody, "MailSettingsPatch")


async def get_mail_settings(request: web.Request) -> web.Response:
    no_query(request)
    await _may(request)
    return _answered(request, await store_platform.mail_settings(request[SESSION]) or unsaid())


async def patch_mail_settings(request: web.Request) -> web.Response:
    no_query(request)
    await _may(request)
    row = await store_platform.mail_settings_to_change(request[SESSION])
    match_version(request, row if row.version else unsaid())
    wished = replace(MailFields.of(row), **given(await body_of(request, MailSettingsPatch)))
    await change(request, row, wished)
    return _answered(request, row)


async def post_test(request: web.Request) -> web.Response:
    no_query(request)
    await _may(request)
    body = await body_of(request, MailTestBody)
    send_test(request, body.to)
    row = await store_platform.mail_settings(request[SESSION]) or unsaid()
    return _answered(request, row, Posted(Sending.SENDING), status=202)


async def _may(request: web.Request) -> None:
    request[RESOURCE] = mail_server.RESOURCE
    await mail_server.refuse_tenants(request[SESSION], request[HOME])


async def change(request: web.Request, row: MailSettings, wished: MailFields) -> None:
    """Set the mail server, and try what waits by it; this process uses it as soon as it is stored."""
    session, server = request[SESSION], request.app[MAIL_SERVER]
    await mail_server.update_mail_settings(session, request[ACTOR], row, wished, is_from_file=server.is_from_file)
    await session.flush()
    await store_outbox.try_mails_now(session, utc_now())
    server.take_after_commit(session, row)


def send_test(request: web.Request, to: str) -> None:
    """Mail a test to that address by the settings in force, once this transaction is stored.

    Raises:
        Invalid: no address. Conflict: no server is set.
    """
    inviter = request.app[INVITER]
    fault = email_fault("to", to)
    if fault is not None:
        raise Invalid("The test mail has no address.", fields=(fault,))
    if not inviter.is_set_up:
        raise Conflict("No mail server is set: name one and save, then send the test.")
    message = envelope(inviter.sender, plain_email(to), "Test mail of Callpoint")
    message.set_content(
        f"This is a test: Callpoint can send mail.\n\nAsked for on {utc_now():%Y-%m-%d %H:%M} UTC by "
        f"{request[ACTOR].name}. Notifications of 911 calls leave by the same mail server.\n"
    )
    inviter.post_after_commit(request[SESSION], TEST, message)
    record(
        request[SESSION], request[ACTOR], Event.MAIL_SETTINGS_TEST, resource=mail_server.RESOURCE,
        account_id=request[ACCOUNT].id, details={"to": plain_email(to)},
    )  # fmt: skip


def unsaid() -> MailSettings:
    """No settings as a row that is not stored: its version 0 is what a first change names."""
    now = utc_now()
    return MailSettings(
        id=store_platform.MAIL, host="", port=587, security="starttls", username="", sender="", version=0,
        created_at=now, updated_at=now,
    )  # fmt: skip


def _answered(
    request: web.Request, row: MailSettings, posted: Posted | None = None, *, status: int = 200
) -> web.Response:
    server = request.app[MAIL_SERVER]
    settings = server.settings if server.is_from_file else mail_server.mail_of(row)
    posted = posted or request.app[INVITER].posted(TEST)
    values = {
        **mail_server.facts_of(settings), "source": "configuration" if server.is_from_file else "pages",
        "test_state": posted.state if posted else "", "test_words": posted.words if posted else "",
        "version": row.version,
    }  # fmt: skip
    return answered(MailSettingsAnswer.model_validate(values), row, status=status)


_PATH = "/api/v1/mail-settings"
ROUTES = (
    Route(
        "GET", _PATH, get_mail_settings, Scope.SECURITY_READ, Event.MAIL_SETTINGS_READ,
        operation=Operation("The mail server", answer=MailSettingsAnswer, has_etag=True),
    ),
    Route(
        "PATCH", _PATH, patch_mail_settings, Scope.SECURITY_WRITE, Event.MAIL_SETTINGS_UPDATE,
        operation=Operation(
            "Set the mail server", body=MailSettingsPatch, answer=MailSettingsAnswer, if_match=True, has_etag=True,
            errors=(409,),
        ),
        step_up=True,
    ),
    Route(
        "POST", f"{_PATH}/test", post_test, Scope.SECURITY_WRITE, Event.MAIL_SETTINGS_TEST,
        operation=Operation(
            "Send a test mail", body=MailTestBody, answer=MailSettingsAnswer, status=202, errors=(409,)
        ),
    ),
)  # fmt: skip
