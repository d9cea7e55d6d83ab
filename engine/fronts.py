"""`callpoint snippet`: reads this site's addresses from configuration and database, and writes the front's files."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store
from engine.config import Config, parse_listens
from engine.countries import countries_of
from engine.edge.line import host_port, listed
from engine.errors import Invalid
from engine.models import Account, Trunk
from engine.numbers import plan_of
from engine.sip.transports import local_address
from engine.sip.uri import bracketed
from engine.snippets import Peer, Site, render

BY_CONNECTION = frozenset({"asterisk", "freepbx", "3cx"})  # these are given TCP where a node is named with UDP


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says; what it leaves empty is looked up.

    `listen`: the front's own SIP address; `folder`: where its files will lie on the front's machine.
    """

    name: str
    account_id: str | None = None
    nodes: tuple[str, ...] = ()
    carriers: tuple[str, ...] = ()
    listen: str = ""
    folder: str = "/etc/kamailio"
    whole: bool = False
    phones_direct: bool = False


async def files_of(session: AsyncSession, config: Config, wish: Wish) -> tuple[dict[str, str], tuple[str, ...]]:
    """The snippet's files for one account, name -> text, and sentences about what the front must be told besides.

    Raises:
        Invalid: an unknown snippet or account, an address that is none, or nothing to send calls to.
    """
    account = await _account(session, wish.account_id)
    trunks = sorted(await store.trunks_of(session, account.id), key=lambda one: (one.last_resort, one.priority, one.id))
    usable = sorted((one for one in trunks if one.enabled), key=lambda one: bool(one.auth_user))
    carriers = tuple(Peer.of(text) for text in wish.carriers) or tuple(_carrier(one) for one in usable)
    nodes = tuple(Peer.of(text) for text in wish.nodes) or _own(wish.name, config, carriers)
    listen = Peer.of(wish.listen) if wish.listen else Peer("0.0.0.0", 5060)  # noqa: S104 - written into a file
    if wish.name == "kamailio" and not wish.listen:
        raise Invalid(
            "Kamailio's own address is needed: name it with --listen HOST:PORT, as PBX and phones will reach it. "
            "The same address goes into the PBX's networks here, so that its calls are trusted."
        )
    numbers, *abroad = plan_of(await countries_of(session, account)).packs
    site = Site(
        nodes, carriers, listen, wish.folder, numbers, whole=wish.whole,
        phones_direct=wish.phones_direct, account=account.name, abroad=tuple(abroad),
    )  # fmt: skip
    warnings = () if wish.carriers else tuple(_password_wanted(one) for one in usable if one.auth_user)
    return render(wish.name, site), warnings


def _password_wanted(trunk: Trunk) -> str:
    """Secrets are written into no file of ours."""
    return (
        f"{trunk.name} ({trunk.host}) asks for a user and a password. They are not in these files: without them it "
        "refuses 911 when no node answers. Add them to the front, or fall back to a carrier that knows it by address."
    )


def write(files: dict[str, str], into: Path) -> list[Path]:
    """Write them; one that is there already is not touched.

    Raises:
        Invalid: a file of that name is there, or the folder cannot be written to. Nothing was written then.
    """
    there = [name for name in files if (into / name).exists()]
    if there:
        raise Invalid(f"{into / there[0]} is there already; nothing was written. Move it away, or name another folder.")
    try:
        into.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (into / name).write_text(text)
    except OSError as exc:
        raise Invalid(f"{into} cannot be written to: {exc.strerror}.") from exc
    return [into / name for name in files]


async def _account(session: AsyncSession, account_id: str | None) -> Account:
    accounts = list(await store.accounts(session))
    found = next((one for one in accounts if one.id == account_id), None)
    if found is None and account_id is None and len(accounts) == 1:
        found = accounts[0]
    if found is None:
        known = ", ".join(f"{one.id} ({one.name})" for one in accounts) or "none yet"
        raise Invalid(f"Say whose trunks to use with --account. Accounts here: {known}.")
    return found


def _carrier(trunk: Trunk) -> Peer:
    host = bracketed(trunk.host)
    return Peer(host, trunk.port, trunk.transport)


def _own(name: str, config: Config, carriers: tuple[Peer, ...]) -> tuple[Peer, ...]:
    """This node as a front reaches it: what is advertised, what it listens on, or the address of the way out.

    Raises:
        Invalid: the front notices a dead node over a connection alone, and this node listens for none.
    """
    served = {"udp": config.sip.udp, "tcp": config.sip.tcp, "tls": config.sip.tls}
    if name in BY_CONNECTION:
        served.pop("udp")
    transport = next((kind for kind, text in served.items() if text), "")
    if not transport:
        raise Invalid(
            f"{name} is told to send calls over TCP, so that it notices at once when a node is dead, but [sip] tcp and "
            "tls are empty here. Set [sip] tcp, or name the node with --node HOST:PORT/tcp."
        )
    listen = parse_listens(served[transport])[0]
    if config.sip.advertise:
        host, port = host_port(listed(config.sip.advertise)[0], 0)
        port = listen.port if transport == "tls" else port or listen.port
        return (Peer(bracketed(host), port, transport),)
    host = listen.host
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - reads, binds nothing
        host = next((found for carrier in carriers if (found := local_address(carrier.host.strip("[]")))), "")
    if not host or not listen.port:
        return ()
    return (Peer(bracketed(host), listen.port, transport),)
