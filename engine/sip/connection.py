"""One SIP connection over TCP or TLS: bytes in, whole messages up; messages in, bytes out.

What is done with the messages, and which connection a message goes by, is the shell's to say (`engine.sip.stream`).
"""

import asyncio
import contextlib
import re
import socket
import ssl
from typing import TYPE_CHECKING

from engine.sip.forward import Hop
from engine.sip.framer import Framer
from engine.sip.grammar import is_response
from engine.sip.tls import TlsSession, tls_reason

if TYPE_CHECKING:
    from engine.sip.stream import StreamShell

MAX_WAITING_BYTES = 1024 * 1024  # unsent bytes on one connection; a peer that reads slower than this is cut off
MAX_WAITING_BYTES_OF_STRANGER = 128 * 1024
PONG_WITHIN_S = 10.0  # RFC 5626 §4.4.1

Key = tuple[str, str, int, str]
"""(transport, ip, port, name to be proven): what a connection is found by."""

_TOP_VIA = re.compile(
    rb"\r\n(?:via|v)[ \t]*+:[ \t]*+sip[ \t]*+/[^\s,]++[ \t]++(?:\[[^\]\s]++\]|[^\s:;,]++)(?::(\d{1,5}))?([^\r\n,]*+)",
    re.IGNORECASE,
)
_MAY_REUSE = re.compile(rb";[ \t]*+(?:alias|rport)(?=[ \t;=]|$)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One stream. Hands messages up with its own hop.

    `is_ours`: we opened it. `is_open`: messages can be sent (TLS: the handshake is done). `is_heard`: anything came by
    it. `has_requests`: we sent requests by it. `is_deaf`: it waits for answers alone and nothing more is read. `names`:
    what the peer's certificate proved. `fault`: why it ended, when TLS or the peer gave a reason; `is_misfit`: its
    certificate did not prove who was meant.
    """

    def __init__(self, shell: "StreamShell", number: int, transport: str, host: str, tls: TlsSession | None) -> None:
        self.shell, self.number, self.host = shell, number, host
        self.hop = Hop(transport, "", 0, number, host)
        self.is_ours = self.is_trusted = self.is_misfit = False
        self.is_open = self.is_heard = self.is_kept = self.has_requests = self.is_deaf = False
        self.names: tuple[str, ...] = ()
        self.keys: list[Key] = []
        self.used_at = self.heard_at = self.pinged_at = 0.0
        self.fault = ""
        self.opened: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport | None = None
        self._framer = Framer()
        self._tls = tls
        self._is_reuse_read = False
        self._handshake: asyncio.TimerHandle | None = None

    @property
    def is_usable(self) -> bool:
        return self.is_open and self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        _set_options(transport.get_extra_info("socket"))
        ip, port = socket_address(transport.get_extra_info("peername") or ("", 0))
        self.hop = Hop(self.hop.transport, ip, port, self.number, self.host)
        self.used_at = self.heard_at = self.shell.loop.time()
        if not self.shell.connection_made(self):
            transport.abort()
            return
        if self._tls is None:
            self._open()
        elif self.is_ours:
            self._decrypt(b"")
        else:
            self._handshake = self.shell.loop.call_later(self.shell.limits.handshake_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        self.used_at = self.shell.loop.time()
        self.is_heard = True
        if self._tls is not None:
            data = self._decrypt(data)
            if not data:
                return
        framer = self._framer
        messages = framer.feed(data)
        if framer.pings:
            self.heard_at = self.used_at
            self.write(b"\r\n" * framer.pings)
        if messages:
            self.heard_at = self.used_at
            if not self._is_reuse_read:
                self._read_reuse(messages)
            self.shell.messages_received(self, messages)
        if framer.lost is not None and not self.is_deaf:
            self._recover(framer)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self.fault:
            self.fault = tls_reason(exc)
        if self._handshake is not None:
            self._handshake.cancel()
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(ConnectionError(self.fault or "closed before it was open"))
        self.shell.connection_lost(self)

    def write(self, data: bytes) -> bool:
        """False when the connection is not open, is closing, or its peer does not read."""
        transport = self.transport
        if transport is None or not self.is_open or transport.is_closing():
            return False
        limit = MAX_WAITING_BYTES if self.is_trusted else MAX_WAITING_BYTES_OF_STRANGER
        if transport.get_write_buffer_size() > limit:
            transport.abort()
            return False
        if self._tls is not None:
            try:
                data = self._tls.seal(data)
            except ssl.SSLError as exc:
                self._end(tls_reason(exc))
                return False
        transport.write(data)
        return True

    def ping(self, now: float) -> None:
        """RFC 5626 §4.4.1. Whether a pong comes is seen by `used_at`."""
        self.pinged_at = now
        self._framer.awaits_pong = True
        self.write(b"\r\n\r\n")

    @property
    def has_ponged(self) -> bool:
        return bool(self.pinged_at) and not self._framer.awaits_pong

    def close(self) -> None:
        """Write what waits, say goodbye, close."""
        if self.transport is not None and not self.transport.is_closing():
            if self._tls is not None:
                self.transport.write(self._tls.close())
            self.transport.close()

    def _recover(self, framer: Framer) -> None:
        """What cannot be cut is handed up as it stands; a peer's stream goes on where its next message must begin."""
        while (lost := framer.lost) is not None:
            if lost.rest is None or not self.is_trusted:
                self.is_deaf = True
                self.shell.framing_lost(self, lost)
                return
            self.shell.messages_received(self, [lost.data, *framer.resume()])

    def _open(self) -> None:
        self.is_open = True
        if self._handshake is not None:
            self._handshake.cancel()
        self.shell.connection_open(self)
        if self.opened is not None and not self.opened.done():
            self.opened.set_result(None)

    def _decrypt(self, data: bytes) -> bytes:
        tls, transport = self._tls, self.transport
        assert tls is not None
        assert transport is not None
        try:
            clear = tls.feed(data)
        except ssl.SSLError as exc:
            transport.write(tls.take())  # the alert says why
            self.is_misfit = isinstance(exc, ssl.SSLCertVerificationError)
            self._end(tls_reason(exc))
            return b""
        if own := tls.take():
            transport.write(own)
        if tls.is_ready and not self.is_open:
            self.names = tls.names()
            self._open()
        if tls.is_ended:
            transport.close()
        return clear

    def _end(self, fault: str) -> None:
        self.fault = fault
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(ConnectionError(fault))
        if self.transport is not None:
            self.transport.close()

    def _read_reuse(self, messages: list[bytes]) -> None:
        """The first request says whether we may send requests back by this connection, and for which port."""
        for message in messages:
            if is_response(message):
                continue
            self._is_reuse_read = True
            via = _TOP_VIA.search(message)
            if via is not None and _MAY_REUSE.search(via.group(2)):
                default = 5061 if self.hop.transport == "tls" else 5060
                self.shell.reuse(self, int(via.group(1) or default))
            return


def socket_address(address: tuple[object, ...]) -> tuple[str, int]:
    """(ip, port) of what a socket calls an address; a link-local one keeps its interface (`fe80::1%2`, RFC 4007)."""
    ip, port = str(address[0]), int(str(address[1]))
    if len(address) == 4 and address[3] and "%" not in ip:
        ip = f"{ip}%{address[3]}"
    return ip, port


def _set_options(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # gone already
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PONG_WITHIN_S * 1000))
