"""Who validates addresses: the server of the configuration, else the one set in the pages (RFC 5222).

The row is read when somebody asks, so a change counts at once and on every node. No 911 call ever asks.
"""

import base64
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import utc_now
from engine.e911.lost import LostClient
from engine.errors import Conflict, FieldFault, Invalid
from engine.models import ValidationSettings
from engine.outbound import Outbound, host_of

VALIDATION = "validation_settings_00000000000000000000000000"  # the one row
RESOURCE = ("validation_settings", VALIDATION, "Address validation")
PROVIDERS = ("none", "lost")
AUTHS = ("none", "basic", "bearer")


@dataclass(frozen=True, slots=True)
class ValidationFields:
    """As it shall be, whole. `secret`: a password or token; None leaves the one that is stored, "" removes it."""

    provider: str = "none"
    url: str = ""
    auth: str = "none"
    username: str = ""
    secret: str | None = None

    @classmethod
    def of(cls, row: ValidationSettings) -> "ValidationFields":
        """As it is stored now; `dataclasses.replace` makes the wished state of it."""
        return cls(row.provider, row.url, row.auth, row.username)


class AddressValidator:
    """The client of whoever validates addresses now.

    Args:
        url: `[e911] lost_url`; not empty: it counts alone, and may lead anywhere.
    """

    def __init__(self, url: str, outbound: Outbound) -> None:
        self.is_from_file, self.url = bool(url), url
        self._outbound = outbound
        self._client = LostClient(url) if url else None
        self._version = 0

    async def client(self, session: AsyncSession) -> LostClient | None:
        """Whom to ask; None: nobody is set."""
        if self.is_from_file:
            return self._client
        row = await stored(session)
        version = row.version if row else 0
        if version != self._version:
            await self.close()
            self._client = client_of(row, self._outbound) if row and row.provider == "lost" else None
            self._version = version
        return self._client

    async def name(self, session: AsyncSession) -> str:
        """Where it is asked, such as `https://lost.example.com`; empty: nobody is set."""
        client = await self.client(session)
        return host_of(client.url) if client else ""

    async def close(self) -> None:
        """Let the connections go."""
        if self._client is not None:
            await self._client.close()


def client_of(row: ValidationSettings, outbound: Outbound) -> LostClient:
    """A client by these settings. Credentials go to the server named and to none that it leads to."""
    authorization = ""
    if row.auth == "basic":
        authorization = "Basic " + base64.b64encode(f"{row.username}:{row.secret or ''}".encode()).decode()
    elif row.auth == "bearer":
        authorization = f"Bearer {row.secret or ''}"
    return LostClient(row.url, authorization=authorization, outbound=outbound)


async def stored(session: AsyncSession) -> ValidationSettings | None:
    """What is set in the pages; None: nothing ever was."""
    return await session.get(ValidationSettings, VALIDATION)


async def stored_to_change(session: AsyncSession) -> ValidationSettings:
    """The row, made with nothing in it when there is none, locked for the transaction."""
    query = select(ValidationSettings).where(ValidationSettings.id == VALIDATION).with_for_update()
    row = await session.scalar(query)
    if row is None:
        row = ValidationSettings(id=VALIDATION, provider="none", url="", auth="none", username="", tried_words="")
        session.add(row)
    return row


def unsaid() -> ValidationSettings:
    """No settings as a row that is not stored: its version 0 is what a first change names."""
    now = utc_now()
    return ValidationSettings(
        id=VALIDATION, provider="none", url="", auth="none", username="", tried_words="", version=0,
        created_at=now, updated_at=now,
    )  # fmt: skip


def update_validation_settings(
    session: AsyncSession,
    actor: Actor,
    row: ValidationSettings,
    wished: ValidationFields,
    outbound: Outbound,
    *,
    is_from_file: bool,
) -> None:
    """Set who validates addresses, from the next question on.

    Raises:
        Conflict: the configuration names a server. Invalid: every bad field.
    """
    if is_from_file:
        raise Conflict(
            "[e911] lost_url in the configuration names the validator, and it counts alone. Empty it there, restart, "
            "and set one here. No 911 call depends on it."
        )
    has_secret = bool(row.secret if wished.secret is None else wished.secret)
    faults = _faults(wished, outbound, has_secret=has_secret)
    if row.secret and wished.secret is None and host_of(wished.url.strip()) != host_of(row.url):
        # whoever may name a server must not learn the secret of the one before
        told = "The stored secret belongs to the server before. Type this one's, or remove it."
        faults.append(FieldFault("secret", told))
    if faults:
        raise Invalid("The validator cannot be like this.", fields=tuple(faults))
    row.provider, row.url, row.auth = wished.provider, wished.url.strip(), wished.auth
    row.username = wished.username.strip()
    if wished.secret is not None:
        row.secret = wished.secret or None
    row.tried_at, row.tried_ok, row.tried_words = None, None, ""
    record(session, actor, Event.VALIDATION_SETTINGS_UPDATE, row, resource=RESOURCE)


def note_test(
    session: AsyncSession, actor: Actor, account_id: str, row: ValidationSettings | None, *, words: str, is_ok: bool
) -> None:
    """Keep what became of a test; with a server in the configuration there is no row to keep it in."""
    if row is not None:
        row.tried_at, row.tried_ok, row.tried_words = utc_now(), is_ok, words[:300]
    record(
        session, actor, Event.VALIDATION_SETTINGS_TEST, resource=RESOURCE, account_id=account_id,
        details={"is_ok": is_ok, "words": words},
    )  # fmt: skip


def _faults(wished: ValidationFields, outbound: Outbound, *, has_secret: bool) -> list[FieldFault]:
    faults: list[FieldFault] = []
    if wished.provider not in PROVIDERS:
        faults.append(FieldFault("provider", f"Expected one of {', '.join(PROVIDERS)}."))
    if wished.auth not in AUTHS:
        faults.append(FieldFault("auth", f"Expected one of {', '.join(AUTHS)}."))
    url = wished.url.strip()
    if wished.provider == "lost" or url:
        fault = outbound.url_fault("url", url, example="https://lost.example.com/lost")
        if fault is not None:
            faults.append(fault)
    if wished.auth == "basic" and (not wished.username.strip() or ":" in wished.username):
        faults.append(FieldFault("username", "Expected a user name without a colon (RFC 7617 §2)."))
    if wished.auth in ("basic", "bearer") and not has_secret:
        faults.append(FieldFault("secret", "Expected the password or token; without one choose no sign-in."))
    if wished.auth != "none" and not faults and urlsplit(url).scheme == "http":
        faults.append(FieldFault("auth", "A password would cross the network in clear. Use an https:// address."))
    return faults
