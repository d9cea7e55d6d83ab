"""`callpoint snippet dnsmasq|kea|isc|mikrotik|windows`: what a DHCP server tells an account's phones.

The files hold the provisioning URL, so making one is the audited reading of the token.
"""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store
from engine.audit.record import Actor
from engine.config import Config, is_this_machine, parse_listen
from engine.errors import Invalid
from engine.models import Account
from engine.provisioning import dhcp, phones, tokens, vendors


@dataclass(frozen=True, slots=True)
class BootWish:
    """What the command line says. `base`: scheme, host and port as phones reach them; empty: the configuration's."""

    name: str
    account_id: str | None = None
    base: str = ""


async def account_for(session: AsyncSession, account_id: str | None) -> Account:
    """Raises Invalid: no such account, or several and none named."""
    accounts = list(await store.accounts(session))
    if account_id is None and len(accounts) == 1:
        return accounts[0]
    found = next((one for one in accounts if one.id == account_id), None)
    if found is None:
        known = ", ".join(f"{one.id} ({one.name})" for one in accounts) or "none yet"
        raise Invalid(f"Say whose with --account. Accounts here: {known}.")
    return found


async def files_of(
    session: AsyncSession, actor: Actor, account: Account, config: Config, wish: BootWish
) -> dict[str, str]:
    """The server's file, name -> text; records that the token was read.

    Raises:
        Invalid: no such server, or nobody has said under which address phones reach this node.
    """
    base = wish.base or config.provisioning.public_url
    if not base:
        raise Invalid(
            "Phones must be told an address they reach: set [provisioning] public_url, or name it with "
            "--base http://HOST:8080."
        )
    token = await phones.reveal_token_to_hand_out(session, actor, account)
    url = tokens.provisioning_url(base, token)
    return dhcp.snippet(wish.name, url, vendors.known().profiles.values(), tftp=tftp_address(config))


def warning_of(base: str) -> str:
    """What to say of an address that only this machine reaches; empty: none such."""
    host = urlsplit(base).hostname or ""
    if not is_this_machine(host):
        return ""
    return f"No phone reaches {host}, which is this machine itself: name it as phones reach it (--base, public_url)."


def tftp_address(config: Config) -> str:
    """The IPv4 address of the TFTP bootstrap, where it is on and listens on one; else empty: no option names it."""
    if not config.bootstrap.tftp:
        return ""
    host = parse_listen(config.bootstrap.tftp).host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    return host if address.version == 4 and not address.is_unspecified else ""
