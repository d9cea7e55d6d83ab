"""Several SIP processes behind one address: which of them a message belongs to, and how it gets there.

All of them listen on the configured ports (SO_REUSEPORT: the kernel deals datagrams and connections out by the peers'
addresses) and each on ports of its own. A worker writes its own ports into Via and Record-Route, so that responses and
requests inside a dialog come to it straight. What begins or ends a call on the shared port (INVITE, CANCEL, the ACK of
a refusal) belongs to the worker that its Call-ID names: whoever receives it hands it over through a socket in the data
folder. So one PBX with one socket is served by all, and a CANCEL that comes from another port still finds its call.
A worker that is away misses nothing: what cannot be handed over is served by whoever has it.
"""

import asyncio
import contextlib
import os
import re
import socket
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from engine.sip.forward import Hop
from engine.sip.grammar import MAX_MESSAGE_BYTES
from engine.sip.transports import Listening, Place

OWN_PORTS_AFTER = {"udp": 10, "tcp": 10, "tls": 110}  # the first worker's, beyond the shared port
MAX_PER_WAKE_UP = 64
MAX_KEPT_CALLS = 4_096
_CALL_ID = re.compile(rb"\r\n(?:call-id|i)[ \t]*+:[ \t]*+([^\r\n]*+)", re.IGNORECASE)
_USUAL_SPELLING = b"\r\nCall-ID:"
_DEALT = frozenset({b"INVITE", b"CANCEL", b"ACK si"})  # first bytes of what is dealt by Call-ID
_HEADER_BYTES = 64


def own_listening(shared: Listening, worker: int) -> Listening:
    """Where a worker listens alone; any free port where the shared one was any."""
    return replace(
        shared,
        udp=_own_places(shared.udp, OWN_PORTS_AFTER["udp"] + worker),
        tcp=_own_places(shared.tcp, OWN_PORTS_AFTER["tcp"] + worker),
        tls=_own_places(shared.tls, OWN_PORTS_AFTER["tls"] + worker),
    )


def _own_places(places: Sequence[Place], after: int) -> list[Place]:
    return [(host, port + after if 0 < port <= 65_535 - after else 0) for host, port in places]


def owner_of(data: bytes, workers: int) -> int | None:
    """The worker whose call this is; None when any worker may serve it."""
    call = _call_of(data)
    return call % workers if call is not None else None


def _call_of(data: bytes) -> int | None:
    """A number for the Call-ID of what is dealt; None for the rest."""
    if data[:6] not in _DEALT:
        return None
    at = data.find(_USUAL_SPELLING)
    if at >= 0:
        at += len(_USUAL_SPELLING)
        return zlib.crc32(data[at : data.find(b"\r", at)].strip())
    found = _CALL_ID.search(data)
    return zlib.crc32(found.group(1).strip()) if found is not None else None


class HandOver:
    """A worker's door for its siblings: datagrams with the address they came from, through the data folder.

    Args:
        receive: Takes (message, hop) that a sibling handed over.
        drained: Called once after a wake-up.
    """

    def __init__(
        self,
        folder: Path,
        worker: int,
        workers: int,
        *,
        receive: Callable[[bytes, Hop], None],
        drained: Callable[[], None],
    ) -> None:
        self._worker, self._workers = worker, workers
        self._receive, self._drained = receive, drained
        self._folder = folder
        self._descriptor = -1
        self._socket: socket.socket | None = None
        self._kept: set[int] = set()  # calls of others that are served here
        self.handed_over = 0

    def open(self) -> None:
        """Raises OSError when the socket cannot be had."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # by descriptor: the address of a socket may have 108 bytes, the path of a data folder more
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        path = self._path(self._worker)
        with contextlib.suppress(FileNotFoundError):
            Path(path).unlink()
        self._socket = sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)
        before = os.umask(0o177)  # nobody else may speak for a peer
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._drain)

    def close(self) -> None:
        """The file stays: a younger process of this worker may have put its own there."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def takes(self, data: bytes, hop: Hop) -> bool:
        """True when the message is a sibling's and has been handed over; False: serve it here."""
        call = _call_of(data)
        if call is None or (owner := call % self._workers) == self._worker or self._socket is None:
            return False
        if self._kept and call in self._kept:  # it began here: its CANCEL and its ACK would find nothing elsewhere
            return False
        header = f"{hop.ip} {hop.port}".encode().ljust(_HEADER_BYTES)
        try:
            self._socket.sendto(header + data, self._path(owner))
        except OSError:  # away, or too busy to take it: a call waits for nobody
            if len(self._kept) >= MAX_KEPT_CALLS:
                self._kept.clear()
            self._kept.add(call)
            return False
        self.handed_over += 1
        return True

    def _path(self, worker: int) -> str:
        return f"/proc/self/fd/{self._descriptor}/edge-{worker}.calls"

    def _drain(self) -> None:
        for _ in range(MAX_PER_WAKE_UP):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(MAX_MESSAGE_BYTES + _HEADER_BYTES)
            except BlockingIOError:
                break
            ip, _, port = data[:_HEADER_BYTES].decode("ascii", "replace").strip().partition(" ")
            if port.isdigit():
                self._receive(data[_HEADER_BYTES:], Hop("udp", ip, int(port)))
        self._drained()
