"""Which SIP process serves a data folder: the file `edge.owner` holds its name and its process number.

A SIP process whose main process died goes on; the one that a restart brings binds the same address beside it
(SO_REUSEPORT) and writes its own name, whereupon the older one ends. Anybody else on the address is a mistake: the
kernel would deal emergency calls out between two nodes that know nothing of each other, so the younger one refuses.
"""

import errno
import os
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

FILE = "edge.owner"


class Owner:
    """This process's claim on a data folder.

    Args:
        family: Which main process's SIP processes they are, several of which serve a folder together; "" for one alone.
        worker: Its number among them; the first claims the folder for all.
    """

    def __init__(self, folder: Path, family: str = "", worker: int = 0) -> None:
        self._folder, self._worker = folder, worker
        self._name = family or secrets.token_hex(16)

    def refuse_strangers(self, addresses: Iterable[tuple[socket.SocketKind, str, int]]) -> None:
        """Raise OSError when an address is held by anything but an older SIP process of this folder."""
        taken = [(host, port) for kind, host, port in addresses if port and _is_taken(kind, host, port)]
        if taken and not self.has_living_elder():
            host, port = taken[0]
            raise OSError(errno.EADDRINUSE, f"{host}:{port} is in use by another program; calls would be split")

    def claim(self) -> None:
        """Say who serves this folder now."""
        fresh = self._folder / f"edge.{os.getpid()}.new"
        fresh.write_text(f"{self._name} {os.getpid()}")
        fresh.replace(self._own)

    @property
    def elder(self) -> int | None:
        """The process that was before us what we are to be, None when it has ended; ask before `claim`."""
        pid = _living(self._own)
        return pid if pid != os.getpid() else None

    @property
    def _own(self) -> Path:
        return self._folder / (f"edge-{self._worker}.owner" if self._worker else FILE)

    def is_taken_over(self) -> bool:
        """Whether a younger process has claimed the folder."""
        said = self._said()
        return bool(said) and said[0] != self._name

    def _said(self) -> list[str]:
        try:
            return (self._folder / FILE).read_text().split()
        except OSError:
            return []

    def has_living_elder(self) -> bool:
        """Whether a SIP process of this folder lives: an older one, or one beside us."""
        return any(_living(path) for path in self._folder.glob("edge*.owner"))


def _living(path: Path) -> int | None:
    """The SIP process that has written that file, if it lives."""
    try:
        _, pid = path.read_text().split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return int(pid) if b"engine.edge" in command else None


def _is_taken(kind: socket.SocketKind, host: str, port: int) -> bool:
    """Whether somebody listens there, told by a bind that shares with nobody."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as the SIP process binds it
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections in TIME_WAIT are nobody
        try:
            probe.bind((host, port))
        except OSError as exc:
            return exc.errno == errno.EADDRINUSE
    return False
