"""Several SIP processes behind one address: which of them a message belongs to, and how it gets there.

All of them listen on the configured ports (SO_REUSEPORT: the kernel deals datagrams and connections out by the peers'
addresses) and each on ports of its own. A worker writes its own ports into Via and Record-Route, so that responses and
requests inside a dialog come to it straight. What begins or ends a call on the shared port (INVITE, CANCEL, the ACK of
a refusal) belongs to the worker that its Call-ID names: whoever receives it hands it over through a socket in the data
folder. So one PBX with one socket is served by all, and a CANCEL that comes from another port still finds its call.
A worker that is away misses nothing: what cannot be handed over is served by whoever has it.

A call on a stream stays with the worker its connection came to. A CANCEL by another connection may come to another
worker, which asks its siblings and answers when one of them says that the call was its.
"""

import asyncio
import contextlib
import itertools
import os
import re
import socket
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
_HEADER_BYTES = 96  # what it is, then its words: a message and who sent it, a question, an answer
ASK_WITHIN_S = 0.5  # a sibling that is busy or dead; the caller's own patience is T1 times 64
Cancel = Callable[[bytes, Hop, bool], bool]
"""(CANCEL, who sent it, is that a peer) -> whether its call was here, and has ended."""


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


def call_number(data: bytes) -> int | None:
    """A number for the Call-ID of what is dealt: modulo the workers it names the one whose call this is. None: any of
    them may serve it.
    """
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
        cancel: Ends a call here for a sibling that received its CANCEL.
    """

    def __init__(
        self,
        folder: Path,
        worker: int,
        workers: int,
        *,
        receive: Callable[[bytes, Hop], None],
        drained: Callable[[], None],
        cancel: Cancel = lambda _data, _hop, _is_trusted: False,
    ) -> None:
        self._cancel = cancel
        self._asked: dict[str, _Asked] = {}
        self._tokens = itertools.count(1)
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
        call = call_number(data)
        if call is None or (owner := call % self._workers) == self._worker or self._socket is None:
            return False
        if self._kept and call in self._kept:  # it began here: its CANCEL and its ACK would find nothing elsewhere
            return False
        if not self._tell(owner, f"message {hop.ip} {hop.port}", data):  # a call waits for nobody
            if len(self._kept) >= MAX_KEPT_CALLS:
                self._kept.clear()
            self._kept.add(call)
            return False
        self.handed_over += 1
        return True

    def ask(self, cancel: bytes, hop: Hop, *, is_trusted: bool, told: Callable[[bool], None]) -> None:
        """Ask every sibling whether a CANCEL ends a call of its own; `told` hears once whether one did."""
        token = f"{self._worker}:{next(self._tokens)}"
        words = f"cancel {token} {hop.transport} {hop.ip} {hop.port} {int(is_trusted)}"
        others = [worker for worker in range(self._workers) if worker != self._worker]
        waiting = sum(self._tell(other, words, cancel) for other in others)
        if not waiting:
            told(False)
            return
        give_up = asyncio.get_running_loop().call_later(ASK_WITHIN_S, self._settle, token, False)
        self._asked[token] = _Asked(waiting, told, give_up)

    def _settle(self, token: str, is_ended: bool) -> None:
        """A sibling's answer, or none in time."""
        asked = self._asked.get(token)
        if asked is None:
            return
        asked.waiting -= 1
        if is_ended or not asked.waiting or asked.give_up.when() <= asyncio.get_running_loop().time():
            del self._asked[token]
            asked.give_up.cancel()
            asked.told(is_ended)

    def _tell(self, worker: int, words: str, data: bytes = b"") -> bool:
        """False: that worker is away, or too busy to take it."""
        if self._socket is None:
            return False
        try:
            self._socket.sendto(words.encode().ljust(_HEADER_BYTES) + data, self._path(worker))
        except OSError:
            return False
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
            self._take(data[:_HEADER_BYTES].decode("ascii", "replace").split(), data[_HEADER_BYTES:])
        self._drained()

    def _take(self, words: list[str], data: bytes) -> None:
        match words:
            case ["message", ip, port]:
                self._receive(data, Hop("udp", ip, int(port)))
            case ["cancel", token, transport, ip, port, is_trusted]:
                is_ended = self._cancel(data, Hop(transport, ip, int(port)), is_trusted == "1")
                self._tell(int(token.partition(":")[0]), f"answer {token} {int(is_ended)}")
            case ["answer", token, is_ended]:
                self._settle(token, is_ended == "1")


@dataclass(slots=True)
class _Asked:
    """A question that siblings have not all answered yet."""

    waiting: int
    told: Callable[[bool], None]
    give_up: asyncio.TimerHandle
