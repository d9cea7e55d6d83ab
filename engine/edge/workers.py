"""Several SIP processes behind one address: which of them a message belongs to, and how it gets there.

All of them listen on the configured ports (SO_REUSEPORT: the kernel deals datagrams and connections out by the peers'
addresses) and each on ports of its own. A worker writes its own ports into Via and Record-Route, so that responses and
requests inside a dialog come to it straight. What begins or ends a call on the shared port (INVITE, CANCEL, the ACK of
a refusal) belongs to the worker that its Call-ID names: whoever receives it hands it over through a socket in the data
folder. So one PBX with one socket is served by all, and a CANCEL that comes from another port still finds its call.
A worker that is away misses nothing: what cannot be handed over is served by whoever has it. What has been handed over
is kept until its receiver says that it has it: a process that hangs takes in what it will never read. Without that word
the message is served here, and the silent one is handed nothing until it is heard again. A repetition of
an INVITE that the silent one has begun is left to it once: a short pause makes no second call to 911, a long one does.

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
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from engine.sip.forward import Hop
from engine.sip.grammar import MAX_MESSAGE_BYTES
from engine.sip.transports import Listening, Place

OWN_PORTS_AFTER = {"udp": 10, "tcp": 10, "tls": 110}  # the first worker's, beyond the shared port
MAX_PER_WAKE_UP = 64
MAX_KEPT_CALLS = 4_096
_CALL_ID = re.compile(rb"\r\n(?:call-id|i)[ \t]*+:[ \t]*+([^\r\n]*+)", re.IGNORECASE)
_USUAL_SPELLING = b"\r\nCall-ID:"
_DEALT = frozenset({b"INVITE", b"CANCEL", b"ACK si"})  # first bytes of what is dealt by Call-ID
_REPEATED = frozenset({b"INVITE", b"CANCEL"})  # by their sender, until they are answered
_HEADER_BYTES = 96  # what it is, then its words: a message and who sent it, a question, an answer
TAKEN_WITHIN_S = 0.25  # without a word for so long a message is served here; the caller repeats it after T1 (0.5 s)
# a pause longer than this, and the INVITE is left to who handed it over; what lies between is for the word to come back
STALE_S = 0.15
ASK_WITHIN_S = 0.5  # a sibling that is busy or dead; the caller's own patience is T1 times 64
_Kept = TypeVar("_Kept")
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
        has_begun: Whether a sibling has begun the 911 call that this message is of.
        silent: Told (worker, True) when a sibling does not take what it is handed, False when it is heard again.
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
        has_begun: Callable[[bytes], bool] = lambda _data: False,
        silent: Callable[[int, bool], None] = lambda _worker, _is_silent: None,
    ) -> None:
        self._cancel, self._silent, self._has_begun = cancel, silent, has_begun
        self._siblings = {number: _Sibling(number) for number in range(workers) if number != worker}
        self._timer: asyncio.TimerHandle | None = None
        self._asked: dict[str, _Asked] = {}
        self._tokens = itertools.count(1)
        self._worker, self._workers = worker, workers
        self._receive, self._drained = receive, drained
        self._folder = folder
        self._descriptor = -1
        self._socket: socket.socket | None = None
        self._kept: set[int] = set()  # calls of others that are served here
        self._left: set[tuple[int, bytes]] = set()  # what was left to a silent one: of which call, and what
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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
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
        sibling, now = self._siblings[owner], asyncio.get_running_loop().time()
        words = f"message {self._worker} {sibling.sent + 1} {now:.3f} {hop.ip} {hop.port}"
        if sibling.is_silent or not self._tell(owner, words, data):  # a call waits for nobody
            return not self._serves(call, data)
        sibling.sent += 1
        sibling.untaken[sibling.sent] = (now + TAKEN_WITHIN_S, data, hop)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(now + TAKEN_WITHIN_S, self._serve_untaken)
        self.handed_over += 1
        return True

    def tick(self) -> None:
        """Called twice a second: ask those who were silent whether they are back."""
        for sibling in self._siblings.values():
            if sibling.is_silent:
                self._tell(sibling.number, f"ask {self._worker}")

    def _serves(self, call: int, data: bytes) -> bool:
        """Whether a message of a silent sibling is served here. Of a call that it has begun, INVITE and CANCEL are left
        to it, once: they come again when nobody answers.
        """
        left = call, data[:6]
        if left not in self._left and data[:6] in _REPEATED and self._has_begun(data):
            _add(left, self._left)
            return False
        _add(call, self._kept)
        return True

    def _serve_untaken(self) -> None:
        """What a sibling has not taken in time is served here, in the order it came."""
        self._timer = None
        self._drain()  # after a pause of our own: its word may have been here for long
        now, soonest = asyncio.get_running_loop().time(), None
        for sibling in self._siblings.values():
            while sibling.untaken:
                number, (due, data, hop) = next(iter(sibling.untaken.items()))
                if due > now:
                    soonest = due if soonest is None else min(soonest, due)
                    break
                del sibling.untaken[number]
                self._note(sibling, is_silent=True)
                if (call := call_number(data)) is None or self._serves(call, data):
                    self._receive(data, hop)
        if soonest is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(soonest, self._serve_untaken)
        self._drained()

    def _note(self, sibling: "_Sibling", *, is_silent: bool) -> None:
        if sibling.is_silent != is_silent:
            sibling.is_silent = is_silent
            self._silent(sibling.number, is_silent)

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
        header = words.encode().ljust(_HEADER_BYTES)
        if len(header) > _HEADER_BYTES:  # the address of a peer with a scope's long name
            return False
        try:
            self._socket.sendto(header + data, self._path(worker))
        except OSError:
            return False
        return True

    def _path(self, worker: int) -> str:
        return f"/proc/self/fd/{self._descriptor}/edge-{worker}.calls"

    def _drain(self) -> None:
        taken: dict[int, tuple[int, int]] = {}  # by sibling, the first and the last number that we have taken
        for _ in range(MAX_PER_WAKE_UP):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(MAX_MESSAGE_BYTES + _HEADER_BYTES)
            except BlockingIOError:
                break
            try:
                self._take(data[:_HEADER_BYTES].decode("ascii", "replace").split(), data[_HEADER_BYTES:], taken)
            except Exception as fault:  # noqa: BLE001 - told; what came with it is served all the same
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "what a sibling said was not understood", "exception": fault}
                )
        for worker, (first, last) in taken.items():
            self._tell(worker, f"taken {self._worker} {first} {last}")
        self._drained()

    def _take(self, words: list[str], data: bytes, taken: dict[int, tuple[int, int]]) -> None:
        match words:
            case ["message", worker, number, sent, ip, port]:
                source, at = int(worker), int(number)
                hop, age_s = Hop("udp", ip, _port(port)), asyncio.get_running_loop().time() - float(sent)
                # its sender serves it now, and one INVITE must not be two calls; a CANCEL ends what we have
                if age_s > STALE_S and data.startswith(b"INVITE"):
                    return
                taken[source] = (taken[source][0] if source in taken else at, at)
                self._receive(data, hop)
            case ["taken", worker, first, last]:
                self._on_taken(self._siblings[int(worker)], int(first), int(last))
            case ["ask", worker]:
                self._tell(int(worker), f"here {self._worker}")
            case ["here", worker]:
                self._note(self._siblings[int(worker)], is_silent=False)
            case ["cancel", token, transport, ip, port, is_trusted]:
                is_ended = self._cancel(data, Hop(transport, ip, _port(port)), is_trusted == "1")
                self._tell(int(token.partition(":")[0]), f"answer {token} {int(is_ended)}")
            case ["answer", token, is_ended]:
                self._settle(token, is_ended == "1")

    def _on_taken(self, sibling: "_Sibling", first: int, last: int) -> None:
        for number in list(itertools.takewhile(lambda each: each <= last, sibling.untaken)):
            if number >= first:
                del sibling.untaken[number]
        self._note(sibling, is_silent=False)


def _add(one: _Kept, to: set[_Kept]) -> None:
    if len(to) >= MAX_KEPT_CALLS:
        to.clear()
    to.add(one)


def _port(text: str) -> int:
    """Raises ValueError for what is none."""
    if not 0 < (port := int(text)) <= 65_535:
        raise ValueError(f"a port was expected, got {port}")
    return port


@dataclass(slots=True)
class _Asked:
    """A question that siblings have not all answered yet."""

    waiting: int
    told: Callable[[bool], None]
    give_up: asyncio.TimerHandle


@dataclass(slots=True)
class _Sibling:
    """Another worker: how many messages it was handed, those it has not said to have (until when it may, the message,
    who sent it), and whether it is handed nothing now.
    """

    number: int
    sent: int = 0
    untaken: OrderedDict[int, tuple[float, bytes, Hop]] = field(default_factory=OrderedDict)
    is_silent: bool = False
