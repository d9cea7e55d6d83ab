"""SIP over streams: the framer (RFC 3261 §18.3, RFC 5626 §3.5.1) and the TCP shell with connection reuse.

The framer is sans I/O: segments go in, whole messages come out. The shell keeps one connection per peer address for
requests, answers on the connection a request came by, and opens a new one when that has gone (§18.2.2).
"""

import asyncio
import itertools
import re
import socket
from collections.abc import Callable

from engine.sip.forward import Hop
from engine.sip.grammar import MAX_MESSAGE_BYTES

MAX_WAITING_BYTES = 1024 * 1024  # unsent bytes on one connection; a peer that reads slower than this is cut off
IDLE_S = 600.0  # a connection nothing came by for so long is closed
MAX_CONNECTIONS = 2_000

_CONTENT_LENGTH = re.compile(
    rb"\r\n(?:content-length|l)[ \t]*+:[ \t]*+(?:\r\n[ \t]++)?(\d{1,8})[ \t]*+(?=\r\n|$)", re.IGNORECASE
)
_ANY_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*+:", re.IGNORECASE)


class FramingLost(Exception):
    """Where the next message begins cannot be known: the connection must be closed.

    `data` is what was there, for the element to refuse with the right status (400, 513).
    """

    def __init__(self, detail: str, data: bytes = b"") -> None:
        super().__init__(detail)
        self.detail = detail
        self.data = data


class Framer:
    """Cuts a stream into messages.

    `feed` returns the whole messages that the new segment completed, and sets `pings` to the number of keep-alive pings
    (double CRLF) to be answered with one CRLF each. `lost` is set once the stream cannot be cut any more; what came
    before that is still returned, what comes after it is ignored.
    """

    __slots__ = ("_buffer", "_needed", "_searched", "lost", "pings")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 0  # size of the message at the buffer's start; 0: not known yet
        self._searched = 0  # how far the end of its headers was looked for
        self.pings = 0
        self.lost: FramingLost | None = None

    def feed(self, segment: bytes) -> list[bytes]:
        self.pings = 0
        messages: list[bytes] = []
        if self.lost is not None:
            return messages
        self._buffer += segment
        try:
            while (message := self._next()) is not None:
                messages.append(message)
        except FramingLost as lost:
            self.lost = lost
        return messages

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if not self._needed:
            self._skip_keep_alives()
            if buffer[:1] == b"\r":
                return None
            end = buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
            if end < 0:
                self._searched = len(buffer)
                if len(buffer) > MAX_MESSAGE_BYTES:
                    raise FramingLost(f"expected headers of at most {MAX_MESSAGE_BYTES} bytes", bytes(buffer))
                return None
            self._needed = end + 4 + _content_length(bytes(buffer), end)
        if len(buffer) < self._needed:
            return None
        message = bytes(buffer[: self._needed])
        del buffer[: self._needed]
        self._needed = self._searched = 0
        return message

    def _skip_keep_alives(self) -> None:
        """CRLFs between messages: two are a ping; a single one, a pong, is dropped when more has come."""
        buffer = self._buffer
        while buffer.startswith((b"\r", b"\n")):
            if buffer.startswith(b"\r\n\r\n"):
                self.pings += 1
                del buffer[:4]
            elif b"\r\n\r\n".startswith(buffer):  # may be the first part of a ping
                return
            else:
                del buffer[: 2 if buffer.startswith(b"\r\n") else 1]


def _content_length(data: bytes, end: int) -> int:
    """The body's size, read from the headers `data[:end]`.

    Without a readable Content-Length a stream cannot be cut (RFC 3261 §18.3); an unreadable one is put in so that the
    parser refuses the message for the same reason.
    """
    head = data[:end]
    found = len(_ANY_CONTENT_LENGTH.findall(head))
    if not found:
        data = head + b"\r\nContent-Length: missing" + data[end:]
    match = _CONTENT_LENGTH.search(head)
    if found != 1 or match is None:
        raise FramingLost("expected one Content-Length of digits on a stream", data)
    length = int(match.group(1))
    if end + 4 + length > MAX_MESSAGE_BYTES:
        raise FramingLost(f"expected a message of at most {MAX_MESSAGE_BYTES} bytes", data)
    return length


class _Connection(asyncio.Protocol):
    """One stream. Hands messages up with its own hop; closes itself when idle or out of step."""

    def __init__(self, shell: "TcpShell", number: int) -> None:
        self.shell = shell
        self.number = number
        self.framer = Framer()
        self.hop = Hop("tcp", "", 0, number)
        self.transport: asyncio.Transport | None = None
        self.used_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        address = transport.get_extra_info("peername") or ("", 0)
        self.hop = Hop("tcp", address[0], address[1], self.number)
        self.used_at = asyncio.get_running_loop().time()
        self.shell.connection_made(self)

    def data_received(self, data: bytes) -> None:
        self.used_at = asyncio.get_running_loop().time()
        messages = self.framer.feed(data)
        if self.framer.pings and self.transport is not None:
            self.transport.write(b"\r\n" * self.framer.pings)
        self.shell.messages_received(self, messages)
        if self.framer.lost is not None:
            self.shell.framing_lost(self, self.framer.lost)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio.Protocol
        self.shell.connection_lost(self)

    def write(self, data: bytes) -> bool:
        """False when the connection is closing or its peer does not read."""
        if self.transport is None or self.transport.is_closing():
            return False
        if self.transport.get_write_buffer_size() > MAX_WAITING_BYTES:
            self.transport.abort()
            return False
        self.transport.write(data)
        return True


class TcpShell:
    """A TCP server, and clients as needed, on the running loop.

    Args:
        receive: takes (message, hop) for each one cut from a stream.
        drained: called once after each segment: pump the stack now.
        failed: a hop that could not be connected to, or whose connection closed.
        connected: a hop that a connection now stands to.
        connect_s: how long connecting may take.
    """

    def __init__(
        self,
        *,
        receive: Callable[[bytes, Hop], None],
        drained: Callable[[], None],
        failed: Callable[[Hop], None],
        connected: Callable[[Hop], None],
        connect_s: float = 1.0,
    ) -> None:
        self._receive = receive
        self._drained = drained
        self._failed = failed
        self._connected = connected
        self._connect_s = connect_s
        self._numbers = itertools.count(1)
        self._connections: dict[int, _Connection] = {}
        self._by_address: dict[tuple[str, int], _Connection] = {}
        self._pending: dict[tuple[str, int], list[bytes]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address bound. Raises OSError when it cannot."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self, next(self._numbers)), host, port, reuse_port=True, backlog=1024
        )
        self._sweep = loop.call_later(IDLE_S / 4, self._close_idle)
        bound = self._server.sockets[0].getsockname()
        return bound[0], bound[1]

    async def close(self) -> None:
        """Stop listening and close every connection; what is buffered is written first."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections.values()):
            if connection.transport is not None:
                connection.transport.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def send(self, data: bytes, hop: Hop) -> None:
        """Send on the hop's connection, else on one that stands to its address, else on a new one."""
        connection = self._connections.get(hop.connection) or self._by_address.get((hop.ip, hop.port))
        if connection is not None and connection.write(data):
            return
        if self._is_closed:
            return
        address = (hop.ip, hop.port)
        if address in self._pending:
            self._pending[address].append(data)
            return
        self._pending[address] = [data]
        task = asyncio.get_running_loop().create_task(self._connect(address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, address: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        connection = _Connection(self, next(self._numbers))
        try:
            async with asyncio.timeout(self._connect_s):
                await loop.create_connection(lambda: connection, *address)
        except OSError:  # TimeoutError is one
            self._pending.pop(address, None)
            self._failed(Hop("tcp", *address))
            return
        self._by_address[address] = connection
        for data in self._pending.pop(address, []):
            connection.write(data)
        self._connected(Hop("tcp", *address))

    # -- from the connections ------------------------------------------------------------------------------------

    def connection_made(self, connection: _Connection) -> None:
        if len(self._connections) >= MAX_CONNECTIONS and connection.transport is not None:
            connection.transport.abort()
            return
        self._connections[connection.number] = connection

    def connection_lost(self, connection: _Connection) -> None:
        self._connections.pop(connection.number, None)
        for address in [key for key, value in self._by_address.items() if value is connection]:
            del self._by_address[address]
        if not self._is_closed:
            self._failed(connection.hop)

    def messages_received(self, connection: _Connection, messages: list[bytes]) -> None:
        for message in messages:
            self._receive(message, connection.hop)
        if messages:
            self._drained()

    def framing_lost(self, connection: _Connection, lost: FramingLost) -> None:
        """Let the stack answer what can be read (400, 513), then close: what follows cannot be trusted."""
        self._receive(lost.data, connection.hop)
        self._drained()
        if connection.transport is not None:
            connection.transport.close()

    def _close_idle(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_S
        for connection in list(self._connections.values()):
            if connection.used_at < oldest and connection.transport is not None:
                connection.transport.close()
        self._sweep = loop.call_later(IDLE_S / 4, self._close_idle)
