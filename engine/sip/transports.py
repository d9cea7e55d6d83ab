"""All sockets of the element: UDP for IPv4 and IPv6, TCP and TLS, what they are called towards each peer.

The owner pumps its stack after `drained`; what comes out of it goes through `send_all`. Knows no SIP rule but one: each
peer is told the address of its own family and transport.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from engine.sip.connection import socket_address
from engine.sip.crowd import CrowdRules
from engine.sip.forward import Hop
from engine.sip.grammar import is_response
from engine.sip.standing import Standing
from engine.sip.stream import Limits, StreamShell
from engine.sip.tls import Certificates
from engine.sip.udp import UdpShell
from engine.sip.uri import bracketed

MAX_KEPT_ADDRESSES = 4_096
DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound

Place = tuple[str, int]
"""(host, port) to listen on; port 0 takes any."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen, for each transport at most one address of each family. `::` alone stands for both families.

    `advertised`: (host, port or None) by which peers know us, at most one for each family; a name serves both. A port
    counts for UDP and TCP; TLS is advertised with the port it is bound to.
    """

    udp: Sequence[Place] = ()
    tcp: Sequence[Place] = ()
    tls: Sequence[Place] = ()
    advertised: Sequence[tuple[str, int | None]] = field(default=())

    def places(self) -> list[tuple[socket.SocketKind, str, int]]:
        """Every address that will be bound."""
        return [
            (socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM, *place)
            for transport, places in (("udp", self.udp), ("tcp", self.tcp), ("tls", self.tls))
            for place in both_families(places)
        ]


def both_families(places: Sequence[Place]) -> list[Place]:
    """`::` with no IPv4 address beside it listens on all IPv4 addresses as well."""
    if len(places) == 1 and places[0][0] == "::":
        return [places[0], ("0.0.0.0", places[0][1])]  # noqa: S104 - what was asked for
    return list(places)


class Transports:
    """The shells, opened and closed together.

    Of several processes on the same addresses each listens on addresses of its own as well (`open_own`). By those it is
    known to its peers from then on, and requests leave from there; an answer leaves from where its request came to.

    Args:
        receive_datagram: takes (datagram, hop); `receive` takes (message, hop) of a stream.
        drained: what came in at one wake-up has been handed over: pump the stack now.
        failed: a hop that cannot be reached, or whose stream closed; `connected`: one that a stream now stands to.
        is_trusted: is this peer one of ours? `is_awaited`: see `StreamShell`.
        connect_s: how long connecting a stream may take.
        advertised: see `Listening`. `receive_own`: takes datagrams of our own address, else `receive_datagram` does.
            `limits`: of streams; `crowd`, `stream_crowd`: what goes first when too much comes, by UDP and on streams.
    """

    def __init__(
        self,
        *,
        receive_datagram: Callable[[bytes, Hop], None],
        receive: Callable[[bytes, Hop], None],
        drained: Callable[[], None],
        failed: Callable[[Hop], None],
        connected: Callable[[Hop], None],
        is_trusted: Callable[[Hop], bool],
        is_awaited: Callable[[int], bool] = lambda _: False,
        connect_s: float,
        certificates: Certificates,
        advertised: Sequence[tuple[str, int | None]] = (),
        receive_own: Callable[[bytes, Hop], None] | None = None,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        crowd: CrowdRules | None = None,
        stream_crowd: CrowdRules | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._failed = failed
        self._udp = [UdpShell(receive=receive_datagram, drained=drained, failed=failed, crowd=crowd) for _ in range(2)]
        self._own_udp = [
            UdpShell(receive=receive_own or receive_datagram, drained=drained, failed=failed, number=1)
            for _ in range(2)
        ]
        self._has_own = False
        self.streams = StreamShell(
            receive=receive, drained=drained, failed=failed, connected=connected, is_trusted=is_trusted,
            is_awaited=is_awaited,
            connect_s=connect_s, certificates=certificates, limits=limits, crowd=stream_crowd,
        )  # fmt: skip
        self.standing = Standing(self.streams)
        self.bound: dict[str, list[Place]] = {"udp": [], "tcp": [], "tls": []}
        self._advertised = {is_v6: each for each in advertised for is_v6 in _families(each[0])}
        self._own: dict[tuple[str, bool], Place] = {}
        self._local: dict[str, str] = {}
        self._send_v4: Callable[[bytes, Hop], None] = self._no_socket
        self._send_v6: Callable[[bytes, Hop], None] = self._no_socket

    async def open(self, listening: Listening) -> None:
        """Bind everything; raises OSError when one cannot be had."""
        for transport, places in (("udp", listening.udp), ("tcp", listening.tcp), ("tls", listening.tls)):
            for host, port in both_families(places):
                first = self.bound[transport][0][1] if self.bound[transport] and not port else port
                bound = await self._open_one(transport, host, first)
                self.bound[transport].append(bound)
                self._own[transport, ":" in host] = bound

    async def open_own(self, listening: Listening) -> None:
        """Listen where no other process does; on any free port where the one wished for is taken."""
        for transport, places in (("udp", listening.udp), ("tcp", listening.tcp), ("tls", listening.tls)):
            for host, port in both_families(places):
                try:
                    bound = await self._open_one(transport, host, port, is_own=True)
                except OSError:
                    bound = await self._open_one(transport, host, 0, is_own=True)
                self._own[transport, ":" in host] = bound
        self._has_own = True

    async def close(self) -> None:
        for shell in (*self._udp, *self._own_udp):
            shell.close()
        await self.streams.close()

    def send_all(self, outgoing: Iterable[tuple[bytes, Hop]]) -> None:
        """Send now, each by the socket of its transport and family."""
        for data, hop in outgoing:
            try:
                if hop.transport != "udp":
                    self.streams.send(data, hop)
                elif ":" in hop.ip:
                    self._send_v6(data, hop)
                else:
                    self._send_v4(data, hop)
            except Exception:  # noqa: BLE001 - whatever it is: this hop does not get it, the others get theirs
                self._loop.call_soon(self._failed, hop)

    def drain(self) -> None:
        """Read what waits in the UDP sockets (see `UdpShell.drain`)."""
        for shell in self._udp:
            shell.drain()
        if self._has_own:
            for shell in self._own_udp:
                shell.drain()

    @property
    def plain(self) -> UdpShell | None:
        """The socket by which all datagrams over IPv4 leave; None where there are several, or none."""
        shell = self._udp[False]
        return shell if shell.is_open and not self._has_own else None

    @property
    def dropped(self) -> int:
        return sum(shell.dropped for shell in (*self._udp, *self._own_udp))

    @property
    def shed(self) -> int:
        return sum(shell.shed for shell in self._udp) + self.streams.shed

    @property
    def receive_buffer_bytes(self) -> int:
        return max(shell.receive_buffer_bytes for shell in self._udp)

    def bound_text(self, transport: str) -> str:
        """Where a transport listens, as it stands in the configuration; "" where it does not."""
        return ", ".join(f"{bracketed(host)}:{port}" for host, port in self.bound[transport])

    def address_towards(self, hop: Hop) -> Place:
        """What the peer at a hop should call us: what is advertised, what is bound, what it calls us itself, or the
        address of the route to it.
        """
        is_v6 = ":" in hop.ip
        own = self._own.get((hop.transport, is_v6)) or self._own.get((hop.transport, not is_v6))
        host, port = own or ("", DEFAULT_PORTS[hop.transport])  # no listener: answers come by our own connection
        advertised = self._advertised.get(is_v6)
        if advertised is not None:
            name, named_port = advertised
            is_named = named_port is not None and hop.transport != "tls" and not self._has_own
            return name, (named_port if named_port is not None and is_named else port)
        if host and host not in _WILDCARDS and (":" in host) == is_v6:
            return host.partition("%")[0], port
        asked = self._udp[is_v6].asked_at(hop) if hop.transport == "udp" else ""
        if asked:
            return asked, port
        local = self._local.get(hop.ip) or local_address(hop.ip)
        if not local:  # asked again the next time; towards most peers it is the same
            alike = (known for ip, known in self._local.items() if (":" in ip) is is_v6)
            return next(alike, "::1" if is_v6 else "127.0.0.1"), port
        if len(self._local) >= MAX_KEPT_ADDRESSES:
            self._local.clear()
        self._local[hop.ip] = local
        return local, port

    async def _open_one(self, transport: str, host: str, port: int, *, is_own: bool = False) -> Place:
        if transport != "udp":
            return await self.streams.open(host, port, transport)
        is_v6 = ":" in host
        shell = (self._own_udp if is_own else self._udp)[is_v6]
        bound = shell.open(host, port)
        send = partial(self._send_by_side, is_v6=is_v6) if is_own else shell.send
        if is_v6:
            self._send_v6 = send
        else:
            self._send_v4 = send
        return bound

    def _send_by_side(self, data: bytes, hop: Hop, *, is_v6: bool) -> None:
        """An answer from the socket its request came to, a request from our own: its answers come back there."""
        is_own = hop.connection != 0 or not is_response(data)
        (self._own_udp if is_own else self._udp)[is_v6].send(data, hop)

    def _no_socket(self, _data: bytes, hop: Hop) -> None:
        """Nothing is bound in that family: the next target may be of another."""
        self._loop.call_soon(self._failed, hop)


def local_address(peer_ip: str) -> str:
    """The address that packets to a peer leave from, "" when there is none; asks the routing table, sends nothing."""
    family = socket.AF_INET6 if ":" in peer_ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((peer_ip, 9))
            return socket_address(probe.getsockname())[0].partition("%")[0]  # an interface means nothing to others
    except OSError:  # no way there, or no descriptor left
        return ""


def _families(host: str) -> tuple[bool, ...]:
    """False for IPv4, True for IPv6; a name may be either."""
    if ":" in host:
        return (True,)
    return (False,) if host.replace(".", "").isdigit() else (False, True)
