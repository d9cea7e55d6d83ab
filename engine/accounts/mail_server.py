"""The mail server in force, and the operation that sets it from the pages.

Theory of operation. A `[mail] host` in the configuration decides everything, as whoever runs the machine wishes; with
none there, the one row of `mail_settings` does. Every process looks for a new version of that row every few seconds and
hands it to whoever sends mail, so a change needs no restart, and mails that wait leave by the new server. The database
away: the settings known last stay in force.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

import structlog
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store, store_platform
from engine.accounts.addresses import email_fault, host_fault
from engine.accounts.operators import is_operators
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.config import Mail
from engine.db import Database
from engine.errors import Conflict, FieldFault, Forbidden, Invalid
from engine.models import Account, MailSettings

LOOK_EVERY_S = 5.0
SECURITIES = ("starttls", "tls", "none")
RESOURCE = ("mail_settings", store_platform.MAIL, "Mail server")
_log = structlog.get_logger()


class MailServer:
    """What mail is sent with. `run` until cancelled; `follow` what sends mail, to be told of each change.

    Args:
        file: `[mail]` of the configuration; with a host in it, nothing else counts.
    """

    def __init__(self, database: Database, file: Mail) -> None:
        self.settings = file
        self.is_from_file = bool(file.host)
        self._database, self._file = database, file
        self._version = 0
        self._followers: list[Callable[[Mail], None]] = []

    def follow(self, take: Callable[[Mail], None]) -> None:
        """Have `take` called with the settings now and after each change."""
        self._followers.append(take)
        take(self.settings)

    def take_after_commit(self, session: AsyncSession, row: MailSettings) -> None:
        """Take these as soon as this transaction is stored; other processes see them within seconds."""
        version, settings = row.version, mail_of(row)
        event.listen(session.sync_session, "after_commit", lambda _session: self._take(version, settings), once=True)

    def _take(self, version: int, settings: Mail) -> None:
        self._version, self.settings = version, settings
        for take in self._followers:
            take(settings)

    async def look(self) -> None:
        """Take what is stored now, where it is of another version than the one in force."""
        if self.is_from_file:
            return
        async with self._database.sessions() as session:
            row = await store_platform.mail_settings(session)
        if row is not None and row.version != self._version:
            self._take(row.version, mail_of(row))

    async def try_to_look(self) -> None:
        """As `look`; raises for nothing."""
        try:
            await self.look()
        except Exception as exc:  # noqa: BLE001  # a node starts and goes on without: log it
            _log.warning("mail_settings_not_read", error=type(exc).__name__, meaning="the last ones stay in force")

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away."""
        while not self.is_from_file:
            await self.try_to_look()
            await asyncio.sleep(LOOK_EVERY_S)


@dataclass(frozen=True, slots=True)
class MailFields:
    """The server as it shall be, whole. `password`: None leaves the one that is stored, "" removes it."""

    host: str
    port: int = 587
    security: str = "starttls"
    username: str = ""
    password: str | None = None
    sender: str = ""

    @classmethod
    def of(cls, row: MailSettings) -> "MailFields":
        """As it is stored now; `dataclasses.replace` makes the wished state of it."""
        return cls(row.host, row.port, row.security, row.username, None, row.sender)


def mail_of(row: MailSettings) -> Mail:
    """The stored row in the form of `[mail]`."""
    values: dict[str, Any] = {
        "host": row.host, "port": row.port, "security": row.security, "username": row.username,
        "password": row.password or "", "from": row.sender or Mail().sender,
    }  # fmt: skip
    return Mail.model_validate(values)


async def may_set(session: AsyncSession, home: Account) -> bool:
    """Whether somebody of that account may see and set it at all. It carries every account's 911 mails: where there
    are several accounts, only the platform's operators may.
    """
    return is_operators(home) or len(await store.accounts_after(session, limit=2)) < 2


async def refuse_tenants(session: AsyncSession, home: Account) -> None:
    """As `may_set`, for a request.

    Raises:
        Forbidden: somebody of one account among several.
    """
    if not await may_set(session, home):
        raise Forbidden(
            "This mail server sends the notifications of every account here, so only a platform operator may see and "
            "change it. Ask whoever runs this server."
        )


async def update_mail_settings(
    session: AsyncSession, actor: Actor, row: MailSettings, wished: MailFields, *, is_from_file: bool
) -> None:
    """Set the mail server. It is used within seconds; mails that wait leave by it.

    Raises:
        Conflict: the configuration names a server. Invalid: every bad field.
    """
    if is_from_file:
        raise Conflict(
            "[mail] host in the configuration names the mail server, and it counts alone. Empty it there, restart, "
            "and set the server here; until then nothing changes for the notifications of 911 calls."
        )
    faults = _faults(wished, has_password=bool(row.password if wished.password is None else wished.password))
    if row.password and wished.password is None and (wished.host.strip().lower(), wished.port) != (row.host, row.port):
        # whoever may name a server must not learn the password of the one before
        told = "The stored password belongs to the server before. Type this one's, or remove it."
        faults.append(FieldFault("password", told))
    if faults:
        raise Invalid("The mail server cannot be like this.", fields=tuple(faults))
    row.host, row.port, row.security = wished.host.strip().lower(), wished.port, wished.security
    row.username, row.sender = wished.username.strip(), wished.sender.strip()
    if wished.password is not None:
        row.password = wished.password or None
    record(session, actor, Event.MAIL_SETTINGS_UPDATE, row, resource=RESOURCE)


def _faults(wished: MailFields, *, has_password: bool) -> list[FieldFault]:
    faults: list[FieldFault | None] = []
    if wished.host.strip():
        faults.append(host_fault("host", wished.host.strip()))
        faults.append(_sender_fault(wished.sender.strip()))
    if not 1 <= wished.port <= 65_535:
        faults.append(FieldFault("port", "Expected a port from 1 to 65535, such as 587."))
    if wished.security not in SECURITIES:
        faults.append(FieldFault("security", f"Expected one of {', '.join(SECURITIES)}."))
    if wished.username.strip() and not has_password:
        faults.append(FieldFault("password", "A user name needs its password; empty both where none is asked for."))
    if has_password and not wished.username.strip():
        faults.append(FieldFault("username", "A password needs the user name it belongs to."))
    if wished.security == "none" and has_password:
        faults.append(FieldFault("security", "A password would cross the network in clear. Choose STARTTLS or TLS."))
    return [fault for fault in faults if fault is not None]


def _sender_fault(text: str) -> FieldFault | None:
    """One address, as a mail program reads the header: an encoded name may hide a line end or a second address."""
    told = FieldFault("sender", "Expected one address, such as Callpoint <callpoint@example.com>.")
    message = EmailMessage()
    try:
        message["From"] = text
        addresses = message["From"].addresses
    except (ValueError, IndexError, AttributeError):
        return told
    if len(addresses) != 1 or not all(char.isprintable() for char in text + addresses[0].display_name):
        return told
    return email_fault("sender", addresses[0].addr_spec)


def facts_of(settings: Mail) -> Mapping[str, Any]:
    """What pages and API tell of the settings in force: no password, only whether there is one."""
    return {
        "host": settings.host, "port": settings.port, "security": settings.security, "username": settings.username,
        "has_password": bool(settings.password), "sender": settings.sender,
    }  # fmt: skip
