"""Names of trunks and PBXs as addresses, looked up ahead of the calls (RFC 3263 §4 without NAPTR).

A call never waits for DNS: it asks `hops`, which answers from memory. A refresh runs in the background; the last good
answer is kept for as long as none better comes, however long its TTL is over.
"""

import asyncio
import ipaddress
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache

from engine.sip.forward import Hop

REFRESH_S = 60.0  # how old an answer may grow before it is looked up again; a shorter TTL is not followed more closely
RETRY_S = 10.0  # after a look-up that failed
TIMEOUT_S = 4.0


@dataclass(frozen=True, slots=True)
class Name:
    """What a trunk is configured with. `port` None asks for SRV first, then 5060 at the host itself."""

    host: str
    port: int | None
    transport: str


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    host: str


async def look_up_addresses(host: str) -> list[str]:
    """IPv4 and IPv6 addresses by the system's resolver (it knows /etc/hosts); raises OSError."""
    async with asyncio.timeout(TIMEOUT_S):
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


async def look_up_services(name: str) -> list[Service]:
    """SRV records, [] when there are none or DNS does not answer."""
    import dns.asyncresolver  # here, so that the SIP process is up before a DNS library is even read
    import dns.exception
    import dns.rdatatype

    try:
        answer = await dns.asyncresolver.resolve(name, dns.rdatatype.SRV, lifetime=TIMEOUT_S)
    except (dns.exception.DNSException, OSError):
        return []
    return [
        Service(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True))
        for record in answer
    ]


class Resolver:
    """Keeps the addresses of watched names fresh. One task runs `run`; `hops` and `address` answer at once."""

    def __init__(
        self,
        *,
        addresses: Callable[[str], Awaitable[list[str]]] = look_up_addresses,
        services: Callable[[str], Awaitable[list[Service]]] = look_up_services,
    ) -> None:
        self._look_up_addresses = addresses
        self._look_up_services = services
        self._known: dict[Name, tuple[Hop, ...]] = {}
        self._due: dict[Name, float] = {}
        self._changed = asyncio.Event()

    def watch(self, host: str, port: int | None, transport: str) -> None:
        """Look this name up soon, and again and again."""
        name = Name(host.lower(), port, transport)
        if name not in self._due and literal(name) is None:
            self._due[name] = 0.0
            self._changed.set()

    def forget(self, host: str, port: int | None, transport: str) -> None:
        name = Name(host.lower(), port, transport)
        self._due.pop(name, None)
        self._known.pop(name, None)

    def hops(self, host: str, port: int | None, transport: str) -> tuple[Hop, ...]:
        """Where to send, best first; () when the name was never resolved. An IP address is its own answer."""
        name = Name(host.lower(), port, transport)
        own = literal(name)
        return (own,) if own is not None else self._known.get(name, ())

    def address(self, host: str) -> str | None:
        """An IP address for a host name met in a message: of any watched name with that host."""
        own = literal(Name(host.lower(), None, "udp"))
        if own is not None:
            return own.ip
        return next((hops[0].ip for name, hops in self._known.items() if name.host == host.lower() and hops), None)

    async def refresh(self, now: float) -> list[Name]:
        """Look up what is due at `now`; returns the names that did not resolve (their last good answer stays)."""
        due = [name for name, at in self._due.items() if at <= now]
        outcomes = await asyncio.gather(*(self._resolve(name) for name in due))
        failed = []
        for name, hops in zip(due, outcomes, strict=True):
            if name not in self._due:
                continue
            if hops:
                self._known[name] = hops
            else:
                failed.append(name)
            self._due[name] = now + (REFRESH_S if hops else RETRY_S)
        return failed

    async def run(self) -> None:
        """Keep everything watched fresh until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            await self.refresh(loop.time())
            wake_at = min(self._due.values(), default=loop.time() + REFRESH_S)
            try:
                async with asyncio.timeout_at(wake_at):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _resolve(self, name: Name) -> tuple[Hop, ...]:
        services: list[Service] = []
        if name.port is None:
            services = _ordered(await self._look_up_services(f"_sip._{name.transport}.{name.host}"))
        if not services:
            services = [Service(0, 0, name.port or 5060, name.host)]
        hops: list[Hop] = []
        for service in services:
            try:
                addresses = await self._look_up_addresses(service.host)
            except OSError:  # gaierror and TimeoutError are children of it
                continue
            hops.extend(Hop(name.transport, address, service.port) for address in addresses)
        return tuple(dict.fromkeys(hops))


@lru_cache(maxsize=4096)
def literal(name: Name) -> Hop | None:
    """The hop of a name that is an IP address already (brackets allowed), None for a real name."""
    try:
        address = str(ipaddress.ip_address(name.host.strip("[]")))
    except ValueError:
        return None
    return Hop(name.transport, address, name.port or 5060)


def _ordered(services: list[Service]) -> list[Service]:
    """By priority; within one, drawn by weight (RFC 2782)."""
    return sorted(
        services,
        key=lambda service: (service.priority, -(random.random() ** (1.0 / (service.weight or 0.01)))),  # noqa: S311
    )
