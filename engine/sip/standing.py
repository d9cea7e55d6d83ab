"""Connections that stand before a call needs them: to trunks and default routes over TCP and TLS, and, as a way for
what is too large for a datagram, to those over UDP (RFC 3261 §18.1.1).

A 911 never waits for a handshake when one of these stands. One that its peer closed is opened again at once, then less
and less often while that fails.
"""

from collections.abc import Collection
from dataclasses import dataclass

from engine.sip.forward import Hop
from engine.sip.stream import StreamShell

PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # before each next try; the last again and again
PROBE_PAUSES_S = (0.0, 60.0, 300.0)  # whoever is to be reached by UDP need not have TCP at all
STABLE_S = 10.0  # a connection that lived for so long starts the pauses anew
MAX_STANDING = 512


@dataclass(slots=True)
class _Wish:
    pauses: tuple[float, ...]
    tries: int = 0
    due: float = 0.0
    since: float = 0.0
    was_up: bool = False
    is_asked: bool = False


class Standing:
    """Keeps connections open. `follow` says which, `tick` does the work; both answer at once."""

    def __init__(self, shell: StreamShell) -> None:
        self._shell = shell
        self._wishes: dict[Hop, _Wish] = {}
        self._wanted: Collection[Hop] = ()
        self._probed: Collection[Hop] = ()

    def follow(self, wanted: Collection[Hop], probed: Collection[Hop]) -> None:
        """`wanted`: hops over TCP and TLS to be connected to always. `probed`: hops over UDP whose TCP is tried. The
        very same collections as before change nothing.
        """
        if wanted is self._wanted and probed is self._probed:
            return
        self._wanted, self._probed = wanted, probed
        wishes: dict[Hop, tuple[float, ...]] = dict.fromkeys(wanted, PAUSES_S)
        for hop in probed:
            wishes.setdefault(Hop("tcp", hop.ip, hop.port), PROBE_PAUSES_S)
        for hop in self._wishes.keys() - wishes.keys():
            del self._wishes[hop]
            if (connection := self._shell.standing(hop)) is not None:
                connection.is_kept = False
        for hop, pauses in wishes.items():
            known = self._wishes.get(hop)
            if known is not None:
                known.pauses = pauses
            elif len(self._wishes) < MAX_STANDING:
                self._wishes[hop] = _Wish(pauses)

    def tick(self, now: float) -> None:
        """Open what does not stand, ping what is idle."""
        for hop, wish in self._wishes.items():
            connection = self._shell.standing(hop)
            if connection is not None:
                if not wish.was_up:
                    wish.was_up, wish.since, wish.is_asked = True, now, False
                connection.is_kept = True
                if connection.is_ours:
                    self._shell.keep_alive(connection, now)
                continue
            if wish.was_up:
                wish.was_up = False
                if now - wish.since >= STABLE_S:
                    wish.tries, wish.due = 0, now
            if wish.due <= now:
                self._shell.open_ahead(hop)
                wish.tries = min(wish.tries + 1, len(wish.pauses) - 1)
                wish.due = now + wish.pauses[wish.tries]

    def take_unheard(self) -> list[Hop]:
        """Connections that were only tried: each is asked once whether it speaks SIP before anything is sent by it."""
        unheard = []
        for hop, wish in self._wishes.items():
            if wish.pauses is PROBE_PAUSES_S and wish.was_up and not wish.is_asked:
                wish.is_asked = True
                if not self._shell.tcp_is_up(hop.ip, hop.port):
                    unheard.append(hop)
        return unheard
