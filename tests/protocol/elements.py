"""The SIP element on real sockets in this process, and scripted peers of it over UDP, TCP and TLS."""

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable, Sequence

from engine.sip.forward import Forward, Hop, Target
from engine.sip.stack import Event, RequestReceived, SipStack
from engine.sip.stream import Framer, Limits
from engine.sip.tls import Certificates, TlsFiles
from engine.sip.transports import Listening, Transports

WAIT_S = 30.0
LOOPBACK = Listening(udp=[("127.0.0.1", 0)], tcp=[("127.0.0.1", 0)], tls=[("127.0.0.1", 0)])


class Element:
    """What an edge process is to the room: one stack, its sockets, a timer."""

    def __init__(
        self,
        files: TlsFiles = TlsFiles(),  # noqa: B008 - a frozen value
        *,
        limits: Limits = Limits(),  # noqa: B008
        is_trusted: Callable[[Hop], bool] = lambda _: True,
        advertised: Sequence[tuple[str, int | None]] = (),
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.events: list[Event] = []
        self.changed = asyncio.Event()
        self.targets: tuple[Target, ...] = ()
        self.fail_over: frozenset[int] = frozenset()
        self.handle: asyncio.TimerHandle | None = None
        counter = itertools.count(1)
        self.certificates = Certificates(files)
        self.transports = Transports(
            receive_datagram=self.receive,
            receive=self.receive,
            drained=self.pump,
            failed=self.failed,
            connected=self.connected,
            is_trusted=is_trusted,
            is_awaited=lambda connection: self.stack.is_awaited(connection),  # noqa: PLW0108 - made later
            connect_s=0.5,
            certificates=self.certificates,
            advertised=advertised,
            limits=limits,
        )
        self.streams, self.standing = self.transports.streams, self.transports.standing
        self.failures: list[Hop] = []
        self.stack = SipStack(
            addresses=self.transports.address_towards,
            make_branch=lambda: f"z9hG4bKs{next(counter)}",
            make_tag=lambda: f"own{next(counter)}",
            mark_key=b"m" * 32,
            is_emergency=lambda got, _: "911" in got.request_uri,
            is_trusted=lambda _: True,
            tcp_is_up=self.streams.tcp_is_up,
        )

    async def open(self, listening: Listening = LOOPBACK) -> None:
        await self.transports.open(listening)

    def port(self, transport: str) -> int:
        return self.transports.bound[transport][0][1]

    @property
    def udp_port(self) -> int:
        return self.port("udp")

    @property
    def tcp_port(self) -> int:
        return self.port("tcp")

    async def close(self) -> None:
        if self.handle is not None:
            self.handle.cancel()
        await self.transports.close()

    def receive(self, data: bytes, source: Hop) -> None:
        self.stack.receive(data, source, self.loop.time())

    def failed(self, hop: Hop) -> None:
        self.failures.append(hop)
        self.stack.transport_failed(hop, self.loop.time())
        self.pump()

    def connected(self, hop: Hop) -> None:
        self.stack.transport_connected(hop, self.loop.time())
        self.pump()

    def pump(self) -> None:
        now = self.loop.time()
        while (event := self.stack.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, RequestReceived):
                if event.request.method == "OPTIONS":
                    self.stack.respond(event.transaction, 200, "OK", now=now)
                else:
                    answer = Forward(self.targets, tag="call", fail_over=self.fail_over)
                    self.stack.forward(event.transaction, answer, now)
        self.transports.send_all(self.stack.take_outgoing())
        if self.handle is not None:
            self.handle.cancel()
        due = self.stack.next_timer()
        self.handle = None if due is None else self.loop.call_at(due, self.timer)
        self.changed.set()

    def timer(self) -> None:
        self.handle = None
        self.transports.drain()
        self.stack.handle_timer(self.loop.time())
        self.pump()

    async def until(self, kind: type) -> Event:
        await self.holds(lambda: any(isinstance(event, kind) for event in self.events))
        return next(event for event in self.events if isinstance(event, kind))

    async def holds(self, condition: Callable[[], object]) -> None:
        """Waited for; looked at whenever something happened, and every 20 ms."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.02):  # `wait_for` of Python 3.11 can swallow a cancellation
                        await self.changed.wait()


class UdpPeer(asyncio.DatagramProtocol):
    """A socket with a queue of what came in."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        self.hop = Hop("udp", *self.transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.inbox.put_nowait(data)

    def send(self, data: bytes, port: int) -> None:
        self.transport.sendto(data, ("127.0.0.1", port))

    async def next(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.inbox.get()


class StreamPeer:
    """A TCP or TLS server for one connection at a time, or a client; cuts its stream by our framer.

    `tls`: the context to serve or to connect with.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, ip: str = "127.0.0.1") -> None:
        self.framer, self.inbox = Framer(), asyncio.Queue()
        self.tls, self.ip = tls, ip
        self.transport = "tcp" if tls is None else "tls"
        self.accepted = asyncio.Event()
        self.connections = 0
        self.pings = 0
        self.is_ponging = True
        self.server: asyncio.Server | None = None
        self.reading: asyncio.Task[None] | None = None

    async def listen(self, host: str = "") -> None:
        """`host`: what the hop says must be proven."""
        self.server = await asyncio.start_server(self._serve, self.ip, 0, ssl=self.tls)
        self.hop = Hop(self.transport, *self.server.sockets[0].getsockname()[:2], 0, host)

    async def connect(self, port: int, *, name: str | None = None, to: str = "127.0.0.1") -> None:
        self.reader, self.writer = await asyncio.open_connection(
            to, port, ssl=self.tls, server_hostname=name, local_addr=(self.ip, 0)
        )
        self.hop = Hop(self.transport, *self.writer.get_extra_info("sockname")[:2])
        self.reading = asyncio.create_task(self._read())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.framer = reader, writer, Framer()
        self.connections += 1
        self.accepted.set()
        await self._read()

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while segment := await self.reader.read(65536):
                for message in self.framer.feed(segment):
                    self.inbox.put_nowait(message)
                self.pings += self.framer.pings
                if self.framer.pings and self.is_ponging:
                    self.writer.write(b"\r\n" * self.framer.pings)
        self.inbox.put_nowait(b"")

    async def next(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.inbox.get()

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
        if hasattr(self, "writer"):
            self.writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await self.writer.wait_closed()
        if self.reading is not None:
            self.reading.cancel()


class TcpPeer(StreamPeer):
    """In clear."""
