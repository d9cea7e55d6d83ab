"""A message's way through: from a shell into the stack, and out again whatever the stack has to send."""

from collections.abc import Callable, Iterable

from engine.sip.events import Event
from engine.sip.forward import Hop
from engine.sip.stack import SipStack
from engine.sip.udp import UdpShell


class Passage:
    """Takes messages that may be heard, has their events decided and sends what is ready, one message at a time: a 911
    waits for nothing behind it. Compiled with the core, it costs a message half of what it would outside.

    Args:
        clock: the loop's.
        hears: may this message be looked at? It puts into `heard` the addresses of which it need not be asked again.
        decide: takes an event of the stack; never raises.
    """

    __slots__ = ("_clock", "_decide", "_hears", "_plain", "_send_all", "_stack", "heard", "messages")

    _stack: SipStack
    _send_all: Callable[[Iterable[tuple[bytes, Hop]]], None]

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        hears: Callable[[Hop, float], bool],
        decide: Callable[[Event, float], None],
    ) -> None:
        self._clock = clock
        self._hears = hears
        self._decide = decide
        self.heard: set[str] = set()
        self.messages = 0
        self._plain: UdpShell | None = None

    def lead_to(self, stack: SipStack, send_all: Callable[[Iterable[tuple[bytes, Hop]]], None]) -> None:
        """Into this stack, and out by `send_all`."""
        self._stack, self._send_all = stack, send_all

    def send_by(self, shell: UdpShell | None) -> None:
        """Datagrams over IPv4 leave by this socket; None: `send_all` has to choose."""
        self._plain = shell

    def receive(self, data: bytes, hop: Hop) -> None:
        """A datagram."""
        now = self._clock()
        if hop[1] in self.heard or self._hears(hop, now):
            self.take(data, hop, now)

    def take(self, data: bytes, hop: Hop, now: float) -> None:
        """A message of somebody who is heard."""
        self.messages += 1
        self._stack.receive(data, hop, now)
        self.send_out(now)

    def send_out(self, now: float) -> None:
        """Decide what is asked and send what is ready."""
        stack = self._stack
        while (event := stack.next_event()) is not None:
            self._decide(event, now)
        self._send(stack.take_outgoing())

    def send_newest_first(self) -> None:
        """Send what is ready, the newest first: the INVITE of a 911 before the 100 that was written ahead of it."""
        outgoing = self._stack.take_outgoing()
        outgoing.reverse()
        self._send(outgoing)

    def _send(self, outgoing: list[tuple[bytes, Hop]]) -> None:
        plain = self._plain
        if plain is None:
            self._send_all(outgoing)
            return
        for data, hop in outgoing:
            if hop[0] == "udp" and hop[1].find(":") < 0:  # transport and address: by number half the cost
                plain.send(data, hop)
            else:
                self._send_all([(data, hop)])
