"""Before anything starts: can every port be had that the configuration names, and if not, who holds it?

A port that another program holds would otherwise show as a SIP process that is started again and again. So each is
tried once, with a bind that is undone at once, and all that fail are told together: the port, what it is for, who holds
it as far as /proc tells (proc(5): /proc/net/tcp, and the sockets among /proc/<pid>/fd), and the key that names another.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.config import Config, Listen, parse_listen, parse_listens
from engine.edge.owner import Owner
from engine.errors import EngineError

EXIT_CODE = 3
_LISTENS = {
    "tcp": "0A",
    "udp": "07",
}  # the kernel's states TCP_LISTEN, and TCP_CLOSE for an unconnected datagram socket
_TRIED_FOR_ANOTHER = 100
MOST_CHARACTERS = 80


class PortsTaken(EngineError):
    """Ports that cannot be had; `detail` is a sentence for each."""

    title = "Callpoint cannot start: a port cannot be had"


@dataclass(frozen=True, slots=True)
class Door:
    """A port to listen on. `key`: what names it in the configuration; `is_shared`: bound by several processes."""

    key: str
    purpose: str
    transport: str  # tcp | udp
    listen: Listen
    is_shared: bool = False

    @property
    def kind(self) -> socket.SocketKind:
        return socket.SOCK_DGRAM if self.transport == "udp" else socket.SOCK_STREAM


def doors_of(config: Config, *, with_sip: bool = True) -> list[Door]:
    """What the configuration wants to listen on; a port 0 is the kernel's to choose and always to be had."""
    found = [
        Door(
            "provisioning.listen", "the phones' port", "tcp", parse_listen(config.provisioning.listen),
            is_shared=config.provisioning.workers > 1,
        ),
        Door("admin.listen", "the pages and the API", "tcp", parse_listen(config.admin.listen)),
    ]  # fmt: skip
    for name in ("udp", "tcp", "tls") if with_sip else ():
        transport = "udp" if name == "udp" else "tcp"
        listens = parse_listens(getattr(config.sip, name))
        found += [Door(f"sip.{name}", f"SIP over {name.upper()}", transport, listen) for listen in listens]
    return [door for door in found if door.listen.port]


def check(config: Config) -> None:
    """Raise PortsTaken with a sentence for each port that cannot be had. Touches nothing.

    SIP's are left out where an older SIP process of this data folder lives: the next one takes them over from it.
    """
    has_elder = Owner(config.core.data_dir).has_living_elder()
    doors = doors_of(config, with_sip=not has_elder)
    named = {(door.transport, door.listen.port) for door in doors}  # nothing is proposed twice
    faults = [fault for door in doors if (fault := fault_of(door, named))]
    if faults:
        calls = "an older SIP process goes on carrying 911 calls" if has_elder else "this server carries no 911 call"
        raise PortsTaken("\n".join(["", *(f"  {fault}" for fault in faults), f"  Nothing was started: {calls}."]))


def fault_of(door: Door, named: set[tuple[str, int]] | None = None) -> str:
    """A sentence on why it cannot be had and what to do; empty when it can.

    Args:
        named: Ports that are not proposed; the one that is proposed is added.
    """
    number = _refused_with(door, door.listen)
    if number is None:
        return ""
    where = f"Port {door.listen.port}/{door.transport} on {door.listen.host}, {door.purpose},"
    if number == errno.EADDRINUSE:
        holder = holder_of(door) or (
            f"another program, which this user may not see (as root: ss -{door.transport[0]}lnp 'sport = :"
            f"{door.listen.port}')"
        )
        proposed = _free_beside(door, set() if named is None else named)
        return f"{where} is taken by {holder}. Stop it, or {_other(door, proposed)}."
    if number == errno.EACCES:
        return f"{where} is below 1024, where this user may not listen. Give the right, or {_other(door, 8000)}."
    if number == errno.EADDRNOTAVAIL:
        return f"{where} cannot be had: this machine has no such address. Check it: {_keys(door)}."
    return f"{where} cannot be had: {os.strerror(number)}. Check it: {_keys(door)}."


def holder_of(door: Door, proc: Path = Path("/proc")) -> str:
    """`python3 -m http.server 8080 (process 4711)`; empty when /proc does not tell this user."""
    inodes = set(_inodes(door, proc))
    for folder in proc.glob("[0-9]*") if inodes else ():
        with contextlib.suppress(OSError):
            if any(_leads_to(link) in inodes for link in (folder / "fd").iterdir()):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
                command = " ".join(words) or (folder / "comm").read_text().strip()
                cut = command if len(command) <= MOST_CHARACTERS else f"{command[:MOST_CHARACTERS]}…"
                return f"{cut} (process {folder.name})"
    return ""


def _leads_to(link: Path) -> str:
    """`socket:[4242]`; empty for a descriptor that was closed since the folder was read, which hides no other one."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _inodes(door: Door, proc: Path) -> Iterator[str]:
    """The sockets on that port, as /proc/<pid>/fd names them. Columns: proc(5), /proc/net/tcp."""
    for table in (door.transport, f"{door.transport}6"):
        try:
            rows = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            port = int(columns[1].rpartition(":")[2], 16)
            if port == door.listen.port and columns[3] == _LISTENS[door.transport]:
                yield f"socket:[{columns[9]}]"


def _refused_with(door: Door, listen: Listen) -> int | None:
    """The errno of a bind there; None: it can be had."""
    try:
        places = socket.getaddrinfo(listen.host, listen.port, type=door.kind, flags=socket.AI_PASSIVE)
    except OSError:
        return errno.EADDRNOTAVAIL
    family, kind, _protocol, _name, address = places[0]
    with socket.socket(family, kind) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as both servers bind
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT are nobody
        if door.is_shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # a worker of ours may still be going
        try:
            probe.bind(address)
        except OSError as exc:
            return exc.errno or errno.EINVAL
    return None


def _free_beside(door: Door, named: set[tuple[str, int]]) -> int:
    """The next port that can be had and that nobody was told of."""
    following: Iterable[int] = range(door.listen.port + 1, min(door.listen.port + _TRIED_FOR_ANOTHER, 65_536))
    for port in following:
        if (door.transport, port) not in named and _refused_with(door, Listen(door.listen.host, port)) is None:
            named.add((door.transport, port))
            return port
    return 0


def _other(door: Door, port: int) -> str:
    return f"listen elsewhere: {_keys(door, str(Listen(door.listen.host, port)) if port else 'HOST:PORT')}"


def _keys(door: Door, value: str = "") -> str:
    """Both ways to name it: in the file and in the environment."""
    section, _, key = door.key.partition(".")
    variable = f"CALLPOINT_{section.upper()}__{key.upper()}"
    return f'[{section}] {key} = "{value}", or {variable}={value}' if value else f"[{section}] {key}, or {variable}"
