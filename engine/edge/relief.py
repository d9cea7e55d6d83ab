"""A SIP process whose main process died, and the younger one that relieves it: for some seconds both listen on one
address (SO_REUSEPORT).

The kernel deals datagrams out by the peers' addresses: what a trunk answers to a call of one comes to the other, and
would be dropped there. So what belongs to nothing here (an answer, a CANCEL, an ACK, a BYE) is offered to the other
once, through a socket in the data folder. The older one offers new calls too as soon as it is to end, and stays until
those that it carries have been answered.
"""

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from engine.sip.forward import Hop
from engine.sip.grammar import MAX_MESSAGE_BYTES

SUFFIX = ".relief"
MAX_PER_WAKE_UP = 64
MAX_WAITING = 1_000  # messages for one that is busy: some tenths of a second
AGAIN_S = 0.005
_HEADER_BYTES = 96  # who speaks, and whose datagram follows

Offer = Callable[[bytes, Hop], bool]
"""(message, who sent it) -> whether the other process has it now."""


class Relief:
    """This process's door for the one it relieves, or is relieved by.

    Args:
        receive: Takes (datagram, hop) that the other offered.
        drained: Called once after a wake-up.
        met: Told `offer` when there is another process, None when there is none any more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        receive: Callable[[bytes, Hop], None],
        drained: Callable[[], None],
        met: Callable[[Offer | None], None],
    ) -> None:
        self._folder, self._receive, self._drained, self._met = folder, receive, drained, met
        self._own = os.getpid()
        self._other = 0  # its process number
        self.is_relieved = False  # by a younger one
        self._descriptor = -1
        self._socket: socket.socket | None = None
        self._is_busy = False  # it did not take the last word, and is there
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._is_offered = False  # what is being dealt with came from the other: it does not go back

    def open(self, elder: int | None) -> None:
        """Be found by a younger process from now on, and by the older one that is relieved, if there is one.

        Raises:
            OSError: the socket cannot be had.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob(f"edge.*{SUFFIX}"):
            if not Path(f"/proc/{left.name.split('.')[1]}").exists():  # it was killed
                left.unlink(missing_ok=True)
        # by descriptor: the address of a socket may have 108 bytes, the path of a data folder more
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        path = self._path(self._own)
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
        if elder and self._tell(elder, ""):
            self._meet(elder)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                Path(self._path(self._own)).unlink()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def offer(self, data: bytes, hop: Hop) -> bool:
        """Give the other a datagram that belongs to nothing here. False: it is ours to deal with."""
        if self._is_offered or not self._other or hop.transport != "udp":
            return False
        words = f"{hop.ip} {hop.port} {hop.connection}"
        if not self._waiting and self._tell(self._other, words, data):
            return True
        if self._waiting or self._is_busy:  # the kernel queues ten datagrams between processes
            if len(self._waiting) >= MAX_WAITING:
                return False
            if not self._waiting:
                asyncio.get_running_loop().call_later(AGAIN_S, self._tell_waiting)
            self._waiting.append((words, data))
            return True
        self._meet(0)  # it has ended
        return False

    def _meet(self, other: int) -> None:
        if other != self._other:
            self._other = other
            self._met(self.offer if other else None)

    def _tell_waiting(self) -> None:
        while self._waiting:
            if not self._tell(self._other, *self._waiting[0]):
                if self._is_busy:
                    asyncio.get_running_loop().call_later(AGAIN_S, self._tell_waiting)
                    return
                self._waiting.clear()  # it has ended; senders repeat what they said
                return
            self._waiting.popleft()

    def _tell(self, other: int, words: str, data: bytes = b"") -> bool:
        header = f"{self._own} {words}".encode()
        if self._socket is None or len(header) > _HEADER_BYTES:
            return False
        self._is_busy = False
        try:
            self._socket.sendto(header.ljust(_HEADER_BYTES) + data, self._path(other))
        except BlockingIOError:
            self._is_busy = True
            return False
        except OSError:
            return False
        return True

    def _path(self, pid: int) -> str:
        return f"/proc/self/fd/{self._descriptor}/edge.{pid}{SUFFIX}"

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
        if int(words[0]) != self._other:  # an older one was greeted by us
            self.is_relieved = True
            self._meet(int(words[0]))
        if data:
            ip, port, connection = words[1:]
            self._is_offered = True
            try:
                self._receive(data, Hop("udp", ip, int(port), int(connection)))
            finally:
                self._is_offered = False
