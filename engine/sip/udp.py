"""The UDP shell: one socket, drained at each wake-up, everything sent at once.

Reading one datagram per turn of the event loop is the known bottleneck of Python proxies; here a wake-up takes up to
`MAX_DATAGRAMS_PER_WAKE_UP`. The shell knows no SIP rule. It is told what came out of the stack by its owner, who pumps
the stack after `receive` (one stack may stand behind several shells).

A socket on all addresses is told by the kernel which of them each datagram came to, and what is sent to that peer
leaves from there (RFC 3581 §4): with an address that moves between nodes, or several networks, the route's own address
may be one that the peer has never heard of.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable

from engine.sip.connection import socket_address
from engine.sip.crowd import Crowd, CrowdRules
from engine.sip.forward import Hop
from engine.sip.grammar import MAX_MESSAGE_BYTES

MAX_DATAGRAMS_PER_WAKE_UP = 64  # leave the loop a turn under flood
RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024  # a second of 5,000 calls; the kernel grants what net.core.rmem_max allows
MAX_READ_AHEAD = 1_024  # datagrams at one go in a crowd
WORKED_BETWEEN_READS = 16  # half a millisecond of work: a small kernel buffer holds what comes in that time
TURN_S = 0.01
MAX_WAITING = 10_000  # datagrams kept while the socket's own buffer is full; more are dropped, SIP sends again

_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h, with CAP_NET_ADMIN alone
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h: ICMP errors come with the address they are about
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0
_PKTINFO = struct.Struct("=i4s4s")  # struct in_pktinfo: interface, our address, the one in the header
_PKTINFO6 = struct.Struct("=16si")  # struct in6_pktinfo: our address, interface
_ANCILLARY_BYTES = 64
_MSG_ERRQUEUE = 0x2000
_SO_EE_ORIGIN_LOCAL = 1
_EXTENDED_ERR = struct.Struct("=IBBBBII")  # struct sock_extended_err, linux/errqueue.h
_MAX_KNOWN_HOPS = 10_000
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound

Way = list[tuple[int, int, bytes]]
"""What `sendmsg` is told of the address to send from."""


class UdpShell:
    """A bound UDP socket on the running loop.

    Args:
        receive: takes (datagram, hop) for each one read.
        drained: called once when a wake-up has been read out: pump the stack now.
        failed: a hop that ICMP reported as unreachable.
        crowd: with it, what comes faster than it is dealt with is ranked (see `Crowd`), else it waits in the kernel.
        number: stands in the hops of what is read here (`Hop.connection`): which of several sockets it came by.
    """

    def __init__(
        self,
        *,
        receive: Callable[[bytes, Hop], None],
        drained: Callable[[], None],
        failed: Callable[[Hop], None],
        number: int = 0,
        crowd: CrowdRules | None = None,
    ) -> None:
        self._number = number
        self._crowd = Crowd(crowd) if crowd is not None else None
        self._receive = receive
        self._drained = drained
        self._failed = failed
        self._hops: dict[tuple[object, ...], Hop] = {}  # by what the socket calls the address
        self._waiting: list[tuple[bytes, Hop]] = []
        self._asked: dict[tuple[object, ...], bytes] = {}  # by peer, which of our addresses it last sent to
        self._ways: dict[tuple[str, int], tuple[Way, str]] = {}
        self._read: Callable[[int], tuple[bytes, tuple[object, ...]]] = _closed
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.receive_buffer_bytes = 0
        self.dropped = 0

    def open(self, host: str, port: int) -> tuple[str, int]:
        """Bind; returns the address bound (`port` 0: any free one). Raises OSError when it cannot."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for option, forced in ((socket.SO_RCVBUF, _SO_RCVBUFFORCE), (socket.SO_SNDBUF, _SO_SNDBUFFORCE)):
                try:  # beyond net.core.rmem_max, where this process may
                    sock.setsockopt(socket.SOL_SOCKET, forced, RECEIVE_BUFFER_BYTES)
                except OSError:
                    sock.setsockopt(socket.SOL_SOCKET, option, RECEIVE_BUFFER_BYTES)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, int(host in _WILDCARDS))
            else:
                sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
                # routers may fragment: an INVITE of 1,450 bytes gets through a tunnel, and waits for nobody's ICMP
                with contextlib.suppress(OSError):  # not on Linux
                    sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, int(host in _WILDCARDS))
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
        self.receive_buffer_bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._socket = sock
        self._read = self._read_asked if host in _WILDCARDS else sock.recvfrom
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self.drain)
        return socket_address(sock.getsockname())

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def close(self) -> None:
        if self._socket is None or self._loop is None:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._socket = None
        self._waiting.clear()

    def send(self, data: bytes, hop: Hop) -> None:
        """Send now; when the kernel's buffer is full, as soon as it has room, in order."""
        if self._socket is None:
            return
        if self._waiting:
            self._wait(data, hop)
            return
        try:
            self._send_now(self._socket, data, hop)
        except BlockingIOError:
            self._wait(data, hop)
        except OSError as fault:
            self._send_failed(data, hop, fault)
        except Exception:  # noqa: BLE001 - a port beyond 65535, whatever it is: the others get theirs
            self._report(hop)

    def _send_failed(self, data: bytes, hop: Hop, fault: OSError) -> None:
        """An error at sendto may be an earlier datagram's ICMP error: read those, then try once more."""
        assert self._socket is not None
        if fault.errno in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EMSGSIZE):
            self._read_errors()
            try:
                self._send_now(self._socket, data, hop)
            except OSError:
                self._report(hop)
            return
        self._report(hop)  # no route, not permitted: this hop will not get it by UDP

    def _send_now(self, sock: socket.socket, data: bytes, hop: Hop) -> None:
        place = hop[1:3]
        way = self._ways.get(place) if self._ways else None
        if way is None:
            sock.sendto(data, place)
            return
        try:
            sock.sendmsg((data,), way[0], 0, place)
        except OSError as fault:
            if fault.errno not in (errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH):
                raise
            self._asked.clear()  # that address has moved to another node: from whichever there is, then
            self._ways.clear()
            sock.sendto(data, place)

    def asked_at(self, hop: Hop) -> str:
        """Which of our addresses that peer sent to; "" where there is but one, or it has sent nothing."""
        way = self._ways.get(hop[1:3])
        return way[1] if way is not None else ""

    def _read_asked(self, size: int) -> tuple[bytes, tuple[object, ...]]:
        """As `recvfrom`, on a socket that has all addresses."""
        assert self._socket is not None
        data, ancillary, _, address = self._socket.recvmsg(size, _ANCILLARY_BYTES)
        for _level, kind, asked in ancillary:
            if kind in (_IP_PKTINFO, _IPV6_PKTINFO) and self._asked.get(address) != asked:
                self._note_asked(address, asked)
        return data, address

    def _note_asked(self, address: tuple[object, ...], asked: bytes) -> None:
        if len(self._asked) >= _MAX_KNOWN_HOPS:
            self._asked.clear()
            self._ways.clear()
        self._asked[address] = asked
        place = socket_address(address)
        if len(asked) == _PKTINFO.size:
            ours = _PKTINFO.unpack(asked)[1]
            way = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(0, ours, b""))
            self._ways[place] = [way], socket.inet_ntop(socket.AF_INET, ours)
        elif len(asked) == _PKTINFO6.size:
            ours, interface = _PKTINFO6.unpack(asked)
            is_local = "%" in place[0]
            way = (socket.IPPROTO_IPV6, _IPV6_PKTINFO, _PKTINFO6.pack(ours, interface if is_local else 0))
            self._ways[place] = [way], socket.inet_ntop(socket.AF_INET6, ours)

    def _wait(self, data: bytes, hop: Hop) -> None:
        assert self._socket is not None
        assert self._loop is not None
        if len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        if not self._waiting:
            self._loop.add_writer(self._socket.fileno(), self._writable)
        self._waiting.append((data, hop))

    def _writable(self) -> None:
        assert self._socket is not None
        assert self._loop is not None
        self._loop.remove_writer(self._socket.fileno())
        waiting, self._waiting = self._waiting, []
        for data, hop in waiting:
            self.send(data, hop)

    def drain(self) -> None:
        """Read what waits in the socket, then call `drained`. Called at each wake-up.

        A timer's callback calls it too, before `handle_timer`: after a stall the answer that a deadline waits for may
        lie in the socket already.
        """
        read, receive, hops = self._read, self._receive, self._hops
        if self._socket is None:
            return
        if self._crowd is not None and len(self._crowd):  # compiled, an object is true whatever its length
            self._work_off(self._crowd)
            return
        for count in range(MAX_DATAGRAMS_PER_WAKE_UP):
            try:
                data, address = read(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                if not count:  # woken by the error queue alone
                    self._read_errors()
                break
            except OSError:  # a pending ICMP error surfaces here once
                self._read_errors()
                continue
            hop = hops.get(address)
            if hop is None:
                hop = self._new_hop(address)
            receive(data, hop)
        else:  # a full turn, and more is there
            if self._crowd is not None:
                self._work_off(self._crowd)
                return
        self._drained()

    def _work_off(self, crowd: Crowd) -> None:
        """Read far ahead, deal with a few in their rank, read again: the kernel's buffer must not overflow meanwhile.

        After `TURN_S` timers and streams have a turn.
        """
        assert self._loop is not None
        now = self._loop.time()
        until = now + TURN_S
        while now < until:
            is_empty = self._read_ahead(crowd, now)
            crowd.work(now, WORKED_BETWEEN_READS)
            if is_empty and not len(crowd):
                break
            now = self._loop.time()
        if len(crowd):
            self._loop.call_soon(self.drain)  # ahead of whatever `drained` puts off until nothing waits
        self._drained()

    def _read_ahead(self, crowd: Crowd, now: float) -> bool:
        """Take in what is there; True when that was all."""
        hops, read = self._hops, self._read
        for _ in range(MAX_READ_AHEAD):
            try:
                data, address = read(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                self._read_errors()
                continue
            crowd.put(data, hops.get(address) or self._new_hop(address), now)
        return False

    @property
    def shed(self) -> int:
        """New ordinary requests that were refused or forgotten in a crowd."""
        return self._crowd.shed if self._crowd is not None else 0

    def _new_hop(self, address: tuple[object, ...]) -> Hop:
        if len(self._hops) >= _MAX_KNOWN_HOPS:
            self._hops.clear()
        hop = self._hops[address] = Hop("udp", *socket_address(address), self._number)
        return hop

    def _read_errors(self) -> None:
        """Report the hops that ICMP errors are about (the error queue holds each datagram's destination)."""
        if self._socket is None:
            return
        for _ in range(MAX_DATAGRAMS_PER_WAKE_UP):
            try:
                _, ancillary, _, address = self._socket.recvmsg(0, 256, _MSG_ERRQUEUE)
            except OSError:  # empty
                return
            if address and says_unreachable(ancillary):
                self._failed(Hop("udp", *socket_address(address)))

    def _report(self, hop: Hop) -> None:
        """Not from inside `send`: the stack is being emptied there."""
        assert self._loop is not None
        self._loop.call_soon(self._failed, hop)


def _closed(_size: int) -> tuple[bytes, tuple[object, ...]]:
    raise BlockingIOError


def says_unreachable(ancillary: list[tuple[int, int, bytes]]) -> bool:
    """Does it say that a hop cannot be reached? "Too big" does not: the kernel knows the path's MTU from then on, and
    what SIP sends again goes in fragments.
    """
    for _level, kind, data in ancillary:
        if kind in (_IP_RECVERR, _IPV6_RECVERR) and len(data) >= _EXTENDED_ERR.size:
            number, origin = _EXTENDED_ERR.unpack_from(data)[:2]
            return bool(origin != _SO_EE_ORIGIN_LOCAL and number != errno.EMSGSIZE)
    return False
