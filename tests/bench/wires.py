"""What the generator speaks over: a datagram socket, or streams with or without TLS. Nothing here waits."""

import contextlib
import re
import socket
import ssl
from collections import deque
from typing import Protocol

BUFFER_BYTES = 4 * 1024 * 1024
_LENGTH = re.compile(rb"\r\nContent-Length: *(\d+)\r\n", re.IGNORECASE)
_CONNECT_S = 5.0


class Wire(Protocol):
    """One party's end. `name`: as Via has it; `address`: where it is reached."""

    name: str
    address: tuple[str, int]

    def face(self, to: tuple[str, int]) -> None:
        """From now on everything goes there; what came before is dropped."""

    def send(self, data: bytes) -> None: ...

    def receive(self) -> bytes | None:
        """The next message that is here; None for none."""

    def sockets(self) -> list[socket.socket]:
        """What to wait on."""

    def close(self) -> None: ...


class Datagrams:
    """UDP, as the caller or the callee."""

    name = "UDP"

    def __init__(self, ip: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        self._socket.bind((ip, 0))
        self._socket.setblocking(False)
        self.address: tuple[str, int] = self._socket.getsockname()
        self._recv = self._socket.recv

    def face(self, to: tuple[str, int]) -> None:
        self._socket.connect(to)
        while self.receive() is not None:  # leftovers of an earlier run
            pass

    def send(self, data: bytes) -> None:
        for _ in range(1_000):  # a full buffer empties within microseconds on loopback
            try:
                self._socket.send(data)
            except BlockingIOError:
                continue
            except ConnectionRefusedError:
                return  # the element is gone: the call counts as lost
            return

    def receive(self) -> bytes | None:
        try:
            return self._recv(65_535)
        except (BlockingIOError, ConnectionRefusedError):
            return None

    def sockets(self) -> list[socket.socket]:
        return [self._socket]

    def close(self) -> None:
        self._socket.close()


class Streams:
    """TCP, or TLS with a context for each side. It connects when it faces somebody, and serves who connects to it.

    What is sent goes out on the connection that the last message came by, else on the one that was made.
    """

    def __init__(
        self, ip: str, *, serve: ssl.SSLContext | None = None, connect: ssl.SSLContext | None = None, calls: bool
    ) -> None:
        self.name = "TLS" if connect else "TCP"
        self._ip, self._serve, self._connect, self._calls = ip, serve, connect, calls
        self._listener = socket.create_server((ip, 0), backlog=64)
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._buffers: dict[socket.socket, bytearray] = {}
        self._messages: deque[bytes] = deque()
        self._current: socket.socket | None = None

    def face(self, to: tuple[str, int]) -> None:
        for sock in self._buffers:
            sock.close()
        self._buffers.clear()
        self._messages.clear()
        self._current = None
        if self._calls:
            plain = socket.create_connection(to, _CONNECT_S, (self._ip, 0))
            self._take(self._connect.wrap_socket(plain, server_hostname=to[0]) if self._connect else plain)

    def send(self, data: bytes) -> None:
        sock = self._current
        if sock is None:
            return
        view = memoryview(data)
        try:
            while view:
                with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    view = view[sock.send(view) :]
        except OSError:  # cut off by the element: what was on its way counts as lost
            self._buffers.pop(sock, None)
            self._current = next(iter(self._buffers), None)
            sock.close()

    def receive(self) -> bytes | None:
        if self._messages:
            return self._messages.popleft()
        self._accept()
        for sock in list(self._buffers):
            self._read(sock)
        return self._messages.popleft() if self._messages else None

    def sockets(self) -> list[socket.socket]:
        return [self._listener, *self._buffers]

    def close(self) -> None:
        for sock in (self._listener, *self._buffers):
            sock.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        if self._serve is not None:
            sock.settimeout(_CONNECT_S)
            try:
                sock = self._serve.wrap_socket(sock, server_side=True)
            except OSError:  # given up at the other end
                sock.close()
                return
        self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._buffers[sock] = bytearray()
        self._current = sock

    def _read(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(262_144)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            data = b""
        if not data:
            del self._buffers[sock]
            sock.close()
            return
        self._current = sock
        buffer = self._buffers[sock]
        buffer += data
        at = 0
        while (end := buffer.find(b"\r\n\r\n", at)) >= 0:
            if end == at:  # a keep-alive
                at += 4
                continue
            found = _LENGTH.search(buffer, at, end + 2)
            size = end + 4 + (int(found.group(1)) if found else 0)
            if size > len(buffer):
                break
            self._messages.append(bytes(buffer[at:size]))
            at = size
        del buffer[:at]
