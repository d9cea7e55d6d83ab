"""Trunks are asked for life, and connections to them stand before a call needs them."""

import asyncio
from collections.abc import Callable

from engine.e911.trunks import TrunkWatch
from engine.edge.faults import Faults
from engine.sip.events import OwnRequestEnded
from engine.sip.forward import Hop
from engine.sip.resolve import Resolver
from engine.sip.stack import SipStack
from engine.sip.tls import Certificates
from engine.sip.transports import Transports
from engine.sip.uri import bracketed, transport_parameter

PING_TIMEOUT_S = 3.0  # three retransmissions over UDP


class TrunkLife:
    """Pings, and standing connections. `pinged` hears what became of them."""

    def __init__(
        self,
        *,
        watch: TrunkWatch,
        resolver: Resolver,
        transports: Transports,
        stack: SipStack,
        certificates: Certificates,
        faults: Faults,
    ) -> None:
        self._watch, self._resolver, self._transports, self._stack = watch, resolver, transports, stack
        self._certificates, self._faults = certificates, faults
        self._tls_faults: tuple[str, ...] = ()
        self._now: Callable[[], float] = asyncio.get_running_loop().time

    def tick(self, now: float) -> None:
        """Called twice a second: addresses that were resolved meanwhile, connections, pings that are due."""
        self._watch.refresh_ips()
        self._keep_connections(now)
        for name, hop in self._watch.take_due(now):
            self._ask(f"{bracketed(name[0])}{f':{name[1]}' if name[1] else ''}", hop, ("ping", name), now)

    def pinged(self, event: OwnRequestEnded, name: tuple[str, int | None, str]) -> None:
        """An OPTIONS to a trunk has ended."""
        hops = self._resolver.hops(*name) if event.status is None else ()
        why = self._transports.streams.fault_of(hops[0]) if hops else ""
        self._watch.pinged(name, event.status, self._now(), why)

    def _keep_connections(self, now: float) -> None:
        standing = self._transports.standing
        standing.follow(*self._watch.hops())
        standing.tick(now)
        for hop in standing.take_unheard():
            self._ask(f"{bracketed(hop.ip)}:{hop.port}", hop, ("probe", hop), now)
        if self._certificates.faults != self._tls_faults:
            self._tls_faults = self._certificates.faults
            for fault in self._tls_faults:
                self._faults.tls(fault)

    def _ask(self, place: str, hop: Hop, token: object, now: float) -> None:
        uri = f"sip:{place}{transport_parameter(hop.transport)}"
        self._stack.send_request("OPTIONS", uri, hop, (), b"", token, now, PING_TIMEOUT_S)
