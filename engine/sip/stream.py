"""The stream shell: SIP over TCP and TLS, server and client, on the running loop.

One connection per peer address serves all requests to it; answers go back on the connection a request came by, and by a
new one when that has gone (RFC 3261 §18.2.2). A peer that connected to us is reached over its own connection where its
Via allows it (RFC 5923 `alias`, RFC 3581 `rport`). TLS is fed through memory (`engine.sip.tls`), so one that is still
shaking hands counts like any other: strangers have caps by address and in all, and the one silent longest goes first;
a peer that is trusted is never refused for them.

Over TLS a peer proves the name that was configured. Inside a dialog its Contact and Record-Route are often bare
addresses: they lead to the connection that stands to that address, or to a new one that must prove the name proven
there before, else the address itself.
"""

import asyncio
import contextlib
import itertools
import resource
import sys
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace

from engine.sip.accepting import AT_ONCE, keep_waiting
from engine.sip.connection import PONG_WITHIN_S, Connection, Key, socket_address
from engine.sip.crowd import CrowdRules
from engine.sip.forward import UNPROVEN, Hop
from engine.sip.framer import Framer, FramingLost
from engine.sip.grammar import is_response
from engine.sip.stream_crowd import StreamCrowd
from engine.sip.tls import Certificates, TlsFiles, TlsSession, tls_reason

__all__ = ["Connection", "Framer", "FramingLost", "Limits", "StreamShell"]

IDLE_S = 4 * 3600.0  # a call may last, and its BYE may have no other way; the peer's life is asked for by TCP
STRANGER_IDLE_S = 120.0  # counted from its last whole message or ping
MAX_PENDING = 1_000  # messages kept for one address while it is being connected to
PING_AFTER_S = 30.0
MOST_IN_A_ROW = 64  # messages dealt with as they come; with more than that at once it matters which go first
GAP_S = 0.0002  # more time than that since the last message, and nothing had piled up behind it
WORKED_AT_ONCE = 8
TURN_S = 0.005  # of a crowd's work, then sockets and timers have a turn
_SWEEP_S = 5.0
_MAX_KEPT = 4_096
_KEPT_DESCRIPTORS = 128  # for all else that this process has open


@dataclass(frozen=True, slots=True)
class Limits:
    """Connections in all, those of strangers together and of one stranger's address, and the time for a handshake."""

    connections: int = 4_000
    strangers: int = 1_000
    per_stranger: int = 32
    handshake_s: float = 5.0


class StreamShell:
    """TCP and TLS servers, and clients as needed, on the running loop.

    Args:
        receive: takes (message, hop) for each one cut from a stream.
        drained: called once after each segment: pump the stack now.
        failed: a hop that could not be connected to, or whose connection closed.
        connected: a hop that a connection now stands to.
        is_trusted: is this peer one of ours? Asked again once its certificate is known, and from time to time.
        is_awaited: does anybody at the connection of that number wait for an answer still?
        connect_s: how long connecting may take, with the handshake.
        limits: how many connections there may be.
        crowd: with it, what comes faster than it is dealt with is ranked (see `StreamCrowd`), else it has its turn as
            it comes.
        certificates: for TLS; without any, only the system's store is believed and no TLS is served.
    """

    def __init__(
        self,
        *,
        receive: Callable[[bytes, Hop], None],
        drained: Callable[[], None],
        failed: Callable[[Hop], None],
        connected: Callable[[Hop], None],
        is_trusted: Callable[[Hop], bool] = lambda _: True,
        is_awaited: Callable[[int], bool] = lambda _: False,
        connect_s: float = 1.0,
        certificates: Certificates | None = None,
        limits: Limits = Limits(),
        crowd: CrowdRules | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.certificates = certificates or Certificates(TlsFiles())
        self.refused = 0  # connections of strangers turned away or ended to make room
        self._receive, self._drained = receive, drained
        self._failed, self._connected = failed, connected
        self._is_trusted, self._is_awaited = is_trusted, is_awaited
        self._connect_s = connect_s
        self._numbers = itertools.count(1)
        self._connections: dict[int, Connection] = {}
        self._by_key: dict[Key, Connection] = {}
        self._inbound: dict[tuple[str, str], Connection] = {}  # the last one that each address opened to us
        self._pending: dict[Key, list[bytes]] = {}
        self._strangers: OrderedDict[int, Connection] = OrderedDict()  # the one silent longest first
        self._of_stranger: dict[str, int] = {}
        self._ponged: set[tuple[str, str, int]] = set()
        self._faults: dict[tuple[str, str, int], str] = {}
        self._proven: dict[str, str] = {}  # who was last proven to be at an address that we connected to
        self._fitting: set[Key] = set()  # of hops over TLS, those that proved who they are when last connected to
        self._local: dict[tuple[str, bool], str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._sweep = self.loop.call_later(_SWEEP_S, self._swept)
        self._is_closed = False
        self.limits = limits
        self._crowd = StreamCrowd(crowd) if crowd is not None else None
        self._is_working_off = False
        self._is_more_behind = False  # a segment since the last turn was so long that there is another behind it
        self._in_a_row, self._worked_until = 0, 0.0  # messages dealt with in one go, and until when
        self._held: dict[int, Connection] = {}  # those that nothing is read from now
        self._lost: dict[int, tuple[Connection, FramingLost]] = {}  # those to be closed behind what waits of them

    async def open(self, host: str, port: int, transport: str = "tcp") -> tuple[str, int]:
        """Listen; returns the address bound. Raises OSError when it cannot. `transport`: tcp or tls."""
        most = max(1, min(self.limits.connections, _descriptors() - _KEPT_DESCRIPTORS))
        self.limits = replace(self.limits, connections=most)
        server = await self.loop.create_server(
            lambda: self._accepted(transport), host, port, reuse_port=True, backlog=AT_ONCE
        )
        keep_waiting(server)
        self._servers.append(server)
        bound = socket_address(server.sockets[0].getsockname())
        if host not in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
            self._local[transport, ":" in host] = bound[0]  # a carrier knows us by this address
        return bound

    async def close(self) -> None:
        """Stop listening and close every connection; what is buffered is written first."""
        self._is_closed = True
        self._sweep.cancel()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections.values()):
            connection.close()
        for server in self._servers:
            server.close()
            await server.wait_closed()

    def send(self, data: bytes, hop: Hop) -> None:
        """Send on the hop's connection, else on one that stands to its address, else on a new one."""
        connection = self._connections.get(hop.connection) or self.standing(hop)
        if connection is not None and connection.write(data):
            if not connection.has_requests and not is_response(data):
                connection.has_requests = True
            if connection.is_deaf:
                self._close_if_done(connection)
            return
        if self._is_closed:
            return
        key = _key(hop)
        waiting = self._pending.get(key)
        if waiting is None:
            self.open_ahead(hop)
            self._pending[key].append(data)
        elif len(waiting) < MAX_PENDING:
            waiting.append(data)

    def standing(self, hop: Hop) -> Connection | None:
        """The connection that requests to this hop go by, None when there is none now."""
        connection = self._by_key.get(_key(hop))
        if connection is None and hop.host:
            connection = self._by_key.get((hop.transport, hop.ip, hop.port, ""))
            if connection is not None and hop.host not in connection.names:
                return None  # it came from there, but did not prove to be who is meant
        return connection if connection is not None and connection.is_usable else None

    def tcp_is_up(self, ip: str, port: int) -> bool:
        """Whether a TCP connection stands to that address by which anything was heard (RFC 3261 §18.1.1)."""
        connection = self._by_key.get(("tcp", ip, port, ""))
        return connection is not None and connection.is_heard and connection.is_usable

    def names_of(self, connection: int) -> tuple[str, ...]:
        """The names, in lower case, that a TLS peer's verified certificate proved; () without one."""
        found = self._connections.get(connection)
        return found.names if found is not None else ()

    def is_ours(self, connection: int) -> bool:
        """Whether it was us who opened that connection."""
        found = self._connections.get(connection)
        return found is not None and found.is_ours

    def may_misfit(self, hop: Hop) -> bool:
        """Whether nobody is known to prove at that hop who it must be: its certificate failed, or nobody answered."""
        return hop.transport == "tls" and _key(hop) not in self._fitting

    def fault_of(self, hop: Hop) -> str:
        """Why connecting to that address failed last, "" when it did not."""
        return self._faults.get(hop[:3], "")

    def open_ahead(self, hop: Hop) -> None:
        """Connect now, unless that is under way; what becomes of it is told by `connected` and `failed`."""
        key = _key(hop)
        if key not in self._pending and not self._is_closed:
            self._pending[key] = []
            self._begin(self._connect(key))

    def keep_alive(self, connection: Connection, now: float) -> None:
        """Ping an idle connection; end one whose peer has gone (RFC 5626 §4.4.1).

        Not every peer knows pongs. One that never sent any is left to TCP, which ends a connection whose ping was not
        even acknowledged (TCP_USER_TIMEOUT); one that did and is silent now is ended here.
        """
        if connection.used_at < connection.pinged_at <= now - PONG_WITHIN_S:
            if connection.hop[:3] in self._ponged and connection.transport is not None:
                connection.fault = "no answer to a keep-alive ping"
                connection.transport.abort()
                return
        elif connection.has_ponged:
            self._ponged.add(connection.hop[:3])
        if now - max(connection.used_at, connection.pinged_at) >= PING_AFTER_S:
            connection.ping(now)

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, key: Key) -> None:
        transport, ip, port, host = key
        hop = Hop(transport, ip, port, 0, host)
        connection: Connection | None = None
        local = self._local.get((transport, ":" in ip))
        try:
            session = None
            if transport == "tls":
                session = await self._session_towards(hop)
            connection = Connection(self, next(self._numbers), transport, host, session)
            connection.is_ours = connection.is_trusted = True
            connection.opened = self.loop.create_future()
            made = connection
            async with asyncio.timeout(self._connect_s):
                await self.loop.create_connection(
                    lambda: made, ip, port, local_addr=(local, 0) if local is not None else None
                )
                await connection.opened
            if not connection.is_usable:
                raise ConnectionError(connection.fault or "closed at once")
        # TimeoutError is an OSError, a name TLS cannot ask for a ValueError, a port beyond 65535 an OverflowError
        except (OSError, ValueError, OverflowError) as exc:
            self._give_up(key, hop, connection, exc)
            return
        self._faults.pop(hop[:3], None)
        self._put(key, connection)
        if host:
            self._put((transport, ip, port, ""), connection)  # for a Contact or Route that is an address
        if host and not hop.is_unproven:
            if len(self._proven) >= _MAX_KEPT:
                self._proven.clear()
                self._fitting.clear()
            self._proven[ip] = host
            self._fitting.add(key)
        for data in self._pending.pop(key, []):
            connection.write(data)
        self._connected(hop)

    async def _session_towards(self, hop: Hop) -> TlsSession:
        """Raises OSError when there can be none."""
        if hop.is_unproven:
            context = await asyncio.to_thread(self.certificates.towards_anybody)
            return TlsSession(context, is_server=False, host=hop.host.removeprefix(UNPROVEN))
        known = self.certificates.client
        context = known if known is not None else await asyncio.to_thread(self.certificates.towards_servers)
        return TlsSession(context, is_server=False, host=hop.host or self._proven.get(hop.ip, hop.ip))

    def _give_up(self, key: Key, hop: Hop, connection: Connection | None, exc: Exception) -> None:
        waiting = self._pending.pop(key, [])
        late = f"no connection within {self._connect_s:g} s"
        self._note_fault(hop, late if isinstance(exc, TimeoutError) and not exc.args else tls_reason(exc))
        if connection is not None and connection.is_misfit:
            self._fitting.discard(key)
        if connection is not None and connection.opened is not None:
            connection.opened.cancel()
            if connection.transport is not None:
                connection.transport.close() if connection.fault else connection.transport.abort()
        inbound = self._inbound.get((hop.transport, hop.ip)) if not hop.host else None
        if inbound is not None and inbound.is_usable and waiting:
            # a PBX behind a firewall, or with a certificate nobody can verify: the connection it opened is still its
            # own, and the BYE of its call is better there than lost
            self._put(key, inbound)
            inbound.has_requests = True
            for data in waiting:
                inbound.write(data)
            return
        self._failed(hop)

    def _note_fault(self, hop: Hop, fault: str) -> None:
        if len(self._faults) >= _MAX_KEPT:
            self._faults.clear()
        self._faults[hop[:3]] = fault

    def _accepted(self, transport: str) -> Connection:
        session = None
        if transport == "tls" and self.certificates.server is not None:
            session = TlsSession(self.certificates.server, is_server=True)
        connection = Connection(self, next(self._numbers), transport, "", session)
        if transport == "tls" and session is None:
            connection.fault = "no certificate"
        return connection

    # -- from the connections ------------------------------------------------------------------------------------

    def connection_made(self, connection: Connection) -> bool:
        """False: there is no room for it, or it cannot be served."""
        if connection.fault or self._is_closed:
            return False
        if not connection.is_ours:
            connection.is_trusted = self._is_trusted(connection.hop)
        if not self._has_room(connection):
            self.refused += 1
            return False
        self._connections[connection.number] = connection
        if not connection.is_trusted:
            self._strangers[connection.number] = connection
            self._of_stranger[connection.hop.ip] = self._of_stranger.get(connection.hop.ip, 0) + 1
        return True

    def connection_open(self, connection: Connection) -> None:
        """Ready for messages: from now on it may be found by the address it comes from."""
        if not connection.is_ours:
            self._put((*connection.hop[:3], ""), connection)
            self._inbound[connection.hop[:2]] = connection
            self._trust_again(connection)

    def connection_lost(self, connection: Connection) -> None:
        if self._connections.pop(connection.number, None) is None:
            return
        self._held.pop(connection.number, None)
        self._lost.pop(connection.number, None)
        if self._crowd is not None and self._crowd.holds(connection.number):
            for response in self._crowd.take_responses(connection.number):
                self._crowd.rules.receive(response, connection.hop)
            self._drained()
        self._no_stranger(connection)
        self._forget_keys(connection)
        if connection.fault and connection.is_ours:  # of strangers' connections nobody asks, and there is no end
            self._note_fault(connection.hop, connection.fault)
        # who was sent no request is waited for by nobody: a crowd of strangers that come and go costs no search
        is_told = connection.is_open if connection.is_ours else connection.has_requests
        if is_told and not self._is_closed:  # one that never opened is told by `_give_up`
            self._failed(connection.hop)

    def _forget_keys(self, connection: Connection) -> None:
        """No request goes by it any more."""
        if self._inbound.get(connection.hop[:2]) is connection:
            del self._inbound[connection.hop[:2]]
        for key in connection.keys:
            if self._by_key.get(key) is connection:
                del self._by_key[key]

    def messages_received(self, connection: Connection, messages: list[bytes]) -> None:
        if not connection.is_trusted and connection.number in self._strangers:
            self._strangers.move_to_end(connection.number)
        crowd = self._crowd
        if crowd is not None and (len(crowd) or self._is_long_turn(len(messages), connection.used_at)):
            crowd.put(messages, connection.hop, connection.used_at)
            self._is_more_behind = self._is_more_behind or len(messages) > MOST_IN_A_ROW
            self._hold(crowd, connection)
            self._work_off_later(crowd)
            return
        for message in messages:
            self._receive(message, connection.hop)
        self._drained()
        self._worked_until = self.loop.time()

    def _is_long_turn(self, count: int, now: float) -> bool:
        """Have these messages, with those dealt with right before them, become too many to look at no others?"""
        if now - self._worked_until > GAP_S:
            self._in_a_row = 0
        self._in_a_row += count
        return self._in_a_row > MOST_IN_A_ROW

    # -- when more has come than can be dealt with ---------------------------------------------------------------

    def _hold(self, crowd: StreamCrowd, connection: Connection) -> None:
        if crowd.is_full(connection.number) and connection.is_usable and connection.transport is not None:
            connection.transport.pause_reading()
            self._held[connection.number] = connection

    def _work_off_later(self, crowd: StreamCrowd) -> None:
        if not self._is_working_off:
            self._is_working_off = True
            self.loop.call_soon(self._work_off, crowd)

    def _work_off(self, crowd: StreamCrowd) -> None:
        """Deal with some in their rank, then let the loop read what has come meanwhile: it may be a 911. Where more is
        behind what was read, that is read first.
        """
        self._is_working_off = False
        try:
            now = self.loop.time()
            until = now if self._is_more_behind else now + TURN_S
            self._is_more_behind = False
            crowd.work(now, WORKED_AT_ONCE)
            while now < until and len(crowd):
                crowd.work(now, WORKED_AT_ONCE)
                now = self.loop.time()
        finally:
            self._in_a_row = 0
            if len(crowd):
                self._work_off_later(crowd)  # ahead of whatever `drained` puts off until nothing waits
            self._drained()
            self._let_go(crowd)

    def _let_go(self, crowd: StreamCrowd) -> None:
        """Read on where there is room again; close what could not be read on and has had its turn."""
        for number, connection in list(self._held.items()):
            if not crowd.is_full(number):
                del self._held[number]
                if connection.transport is not None:
                    connection.transport.resume_reading()
        for number, (connection, lost) in list(self._lost.items()):
            if not crowd.holds(number):
                del self._lost[number]
                self.framing_lost(connection, lost)

    @property
    def shed(self) -> int:
        """New ordinary requests that were refused in a crowd."""
        return self._crowd.shed if self._crowd is not None else 0

    def framing_lost(self, connection: Connection, lost: FramingLost) -> None:
        """Let the stack answer what can be read (400, 513): what follows cannot be trusted. Then close, a peer's
        connection when it has the answers it waits for. What came before it has its turn first.
        """
        if self._crowd is not None and self._crowd.holds(connection.number):
            self._lost[connection.number] = connection, lost
            return
        self._receive(lost.data, connection.hop)
        self._drained()
        self._forget_keys(connection)
        self._close_if_done(connection)

    def _close_if_done(self, connection: Connection) -> None:
        is_awaited = connection.number in self._lost or self._is_awaited(connection.number)
        if not connection.is_trusted or not is_awaited:
            connection.close()

    def reuse(self, connection: Connection, port: int) -> None:
        """Requests to this port of the peer may go by its own connection (RFC 5923 §5)."""
        if not connection.is_ours:
            self._put((connection.hop.transport, connection.hop.ip, port, ""), connection)

    # -- room ----------------------------------------------------------------------------------------------------

    def _put(self, key: Key, connection: Connection) -> None:
        known = self._by_key.get(key)
        if known is None or not known.is_usable or (not known.is_ours and known is not connection):
            self._by_key[key] = connection
            connection.keys.append(key)

    def _has_room(self, connection: Connection) -> bool:
        is_full = len(self._connections) >= self.limits.connections
        if connection.is_trusted:
            return not is_full or self._end_oldest_stranger() or self._end_idlest()
        if self._of_stranger.get(connection.hop.ip, 0) >= self.limits.per_stranger:
            return False
        if is_full or len(self._strangers) >= min(self.limits.strangers, self.limits.connections // 2):
            return self._end_oldest_stranger()
        return True

    def _end_oldest_stranger(self) -> bool:
        if not self._strangers:
            return False
        oldest = next(iter(self._strangers.values()))
        self._no_stranger(oldest)
        self.refused += 1
        if oldest.transport is not None:
            oldest.transport.abort()
        return True

    def _end_idlest(self) -> bool:
        """Full of trusted peers' connections: one of them opens many and closes none."""
        theirs = [each for each in self._connections.values() if not each.is_ours]
        if not theirs:
            return False
        idlest = min(theirs, key=lambda each: each.used_at)
        if idlest.transport is not None:
            idlest.transport.abort()
        return True

    def _no_stranger(self, connection: Connection) -> None:
        if self._strangers.pop(connection.number, None) is None:
            return
        left = self._of_stranger.get(connection.hop.ip, 1) - 1
        if left:
            self._of_stranger[connection.hop.ip] = left
        else:
            self._of_stranger.pop(connection.hop.ip, None)

    def _trust_again(self, connection: Connection) -> None:
        if not connection.is_trusted and self._is_trusted(connection.hop):
            connection.is_trusted = True
            self._no_stranger(connection)

    def _swept(self) -> None:
        if self.certificates.is_changed:
            self._begin(asyncio.to_thread(self.certificates.refresh))
        self._close_idle()
        self._sweep = self.loop.call_later(_SWEEP_S, self._swept)

    def _close_idle(self) -> None:
        now = self.loop.time()
        for connection in list(self._connections.values()):
            self._trust_again(connection)
            if connection.is_deaf:
                self._close_if_done(connection)
            is_idle = connection.used_at < now - IDLE_S and not connection.is_kept
            if not connection.is_trusted and connection.heard_at < now - STRANGER_IDLE_S:
                is_idle = True
            if is_idle:
                connection.close()


def _key(hop: Hop) -> Key:
    return hop.transport, hop.ip, hop.port, hop.host


def _descriptors() -> int:
    """How many files this process may have open; asks for all that it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft if soft != resource.RLIM_INFINITY else sys.maxsize
