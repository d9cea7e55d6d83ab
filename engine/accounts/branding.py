"""How an account looks: its colour, its logo, and the host name under which its pages greet with both.

A host name only decides what a sign-in page looks like. Who may sign in, and into which account, is the user's own
record on every host; a host that nobody named shows the pages as they come (docs/decisions/0034).
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts.addresses import host_fault
from engine.accounts.colours import is_colour
from engine.accounts.logo import BadLogo, Logo, cleaned
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.errors import FieldFault, Invalid
from engine.models import Account, AccountLogo

KEEP = b""  # of a logo: the one that is there stays


@dataclass(frozen=True, slots=True)
class BrandingFields:
    """As it shall look, whole. accent: `#rrggbb`, empty as Callpoint comes. hostname: empty, none of its own.
    logo: the bytes of a picture, None removes it, `KEEP` leaves it.
    """

    accent: str = ""
    hostname: str = ""
    logo: bytes | None = KEEP

    @classmethod
    def of(cls, account: Account) -> "BrandingFields":
        """As it is now; `dataclasses.replace` makes the wished state of it."""
        return cls(account.accent, account.hostname or "")


async def update_branding(
    session: AsyncSession, actor: Actor, account: Account, wished: BrandingFields, *, own_url: str = ""
) -> None:
    """Change how the account looks; its users see it from their next page on.

    Args:
        own_url: `[admin] public_url`; its host is every account's.

    Raises:
        Invalid: every bad field.
    """
    accent, hostname = wished.accent.strip().lower(), plain_host(wished.hostname)
    faults: list[FieldFault] = []
    if accent and not is_colour(accent):
        faults.append(FieldFault("accent", "Expected a colour such as #1d4ed8, or nothing."))
    fault = await _host_fault(session, account, hostname, own_url) if hostname else None
    faults += [fault] if fault is not None else []
    logo: Logo | None = None
    try:
        logo = cleaned(wished.logo) if wished.logo else None
    except BadLogo as exc:
        faults.append(FieldFault("logo", str(exc)))
    if faults:
        raise Invalid("The account cannot look like this.", fields=tuple(faults))
    account.accent, account.hostname = accent, hostname or None
    if wished.logo != KEEP:
        await _put_logo(session, account, logo)
    record(session, actor, Event.BRANDING_UPDATE, account, resource=resource_of(account))


def resource_of(account: Account) -> tuple[str, str, str]:
    """What entries about it name."""
    return ("account", account.id, account.name)


async def account_of_host(session: AsyncSession, host: str) -> Account | None:
    """The account that named this host; None: nobody did, or it is no name at all."""
    name = plain_host(host)
    if not name or len(name) > 253:
        return None
    return await session.scalar(select(Account).where(Account.hostname == name))


async def logo_named(session: AsyncSession, name: str) -> AccountLogo | None:
    """The picture of that content."""
    return await session.scalar(select(AccountLogo).where(AccountLogo.name == name).limit(1))


def plain_host(text: str) -> str:
    """A host as it is stored and compared: lower case, no port, no dot at the end."""
    return re.sub(r":\d{1,5}$", "", text.strip().lower()).rstrip(".")


async def _put_logo(session: AsyncSession, account: Account, logo: Logo | None) -> None:
    await session.execute(delete(AccountLogo).where(AccountLogo.account_id == account.id))
    account.logo = logo.name if logo else ""
    if logo is not None:
        session.add(
            AccountLogo(account_id=account.id, name=logo.name, media_type=logo.media_type, content=logo.content)
        )


async def _host_fault(session: AsyncSession, account: Account, hostname: str, own_url: str) -> FieldFault | None:
    is_name = "." in hostname and not re.search(r"[^a-z0-9.-]", hostname) and not hostname.endswith(".localhost")
    if not is_name or hostname.rpartition(".")[2].isdigit() or host_fault("hostname", hostname) is not None:
        return FieldFault("hostname", "Expected a full host name such as phones.example.com.")
    other = await account_of_host(session, hostname)
    if hostname == (urlsplit(own_url).hostname or "") or (other is not None and other.id != account.id):
        return FieldFault("hostname", "This name cannot be used here. Choose one of your own domain.")
    return None
