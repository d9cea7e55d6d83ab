"""Where a name leads: NAPTR, SRV, A and AAAA, ahead of the calls (RFC 3263 §4).

A call never waits for DNS: it asks `hops`, which answers from memory. A refresh runs in the background; the last good
answer is kept for as long as none better comes, however long its TTL is over. Names met in dialogs (a Contact, a
Record-Route) are watched for a while as well, a bounded number of them.
"""

import asyncio
import contextlib
import ipaddress
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

from engine.sip.forward import Hop
from engine.sip.names import DnsAway, Found, Names, Pointer, Service

SHORTEST_S, LONGEST_S = 15.0, 300.0  # how soon and how late an answer is looked up again, whatever its TTL
RETRY_S = 10.0  # after a look-up that failed
MAX_MET = 256
MET_FOR_S = 4 * 3600.0  # longer than calls last
MAX_HOPS = 16
MAX_AT_ONCE = 64

ANY, ANY_SECURE = "", "sips"
_SERVICES = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}  # RFC 3263 §4.1; we speak no others
_PREFIXES = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}


class Name(NamedTuple):
    """What is to be reached. `port` None: not named, SRV may say it (a port of 0 is taken for that). `transport`: udp,
    tcp, tls, "" for a sip URI that names none, "sips" for a sips URI.
    """

    host: str
    port: int | None
    transport: str


class LookUps(Protocol):
    """What `engine.sip.names.Names` does; each raises DnsAway when nobody could say."""

    async def addresses(self, host: str) -> Found[str]: ...
    async def services(self, name: str) -> Found[Service]: ...
    async def pointers(self, name: str) -> Found[Pointer]: ...


@dataclass(slots=True)
class _Watched:
    due: float = 0.0
    hops: tuple[Hop, ...] = ()
    met_at: float | None = None  # None: somebody asked for it to be watched


class Resolver:
    """Keeps the addresses of watched names fresh. One task runs `run`; `hops` and `address` answer at once.

    `version` grows with every answer that differs from the one before.

    Args:
        names: who is asked.
        draw: a random integer from 0 to its argument, both included (RFC 2782's choice by weight).
    """

    def __init__(self, names: LookUps | None = None, *, draw: Callable[[int], int] | None = None) -> None:
        self._names: LookUps = names if names is not None else Names()
        self._draw = draw or (lambda most: random.randint(0, most))  # noqa: S311 - a share of load, no secret
        self._watched: dict[Name, _Watched] = {}
        self._recalled: Mapping[Name, tuple[Hop, ...]] = {}
        self.version = 0
        self._changed = asyncio.Event()
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)

    def watch(self, host: str, port: int | None, transport: str) -> None:
        """Look this name up soon, and again and again."""
        name = Name(host.lower(), port or None, transport)
        if literal(name) is not None:
            return
        known = self._watched.get(name)
        if known is None:
            self._watched[name] = _Watched(hops=self._recalled.get(name, ()))
            self.version += bool(self._watched[name].hops)
            self._changed.set()
        else:
            known.met_at = None

    def recall(self, known: Mapping[Name, tuple[Hop, ...]]) -> None:
        """Where names led when this was last known: good for those watched from now on, until there is an answer."""
        self._recalled = known

    def known(self) -> dict[Name, tuple[Hop, ...]]:
        """Where the names lead that somebody asked to be watched, to be recalled after a restart."""
        return {name: each.hops for name, each in self._watched.items() if each.hops and each.met_at is None}

    def forget(self, host: str, port: int | None, transport: str) -> None:
        self._watched.pop(Name(host.lower(), port or None, transport), None)

    def meet(self, host: str, port: int | None, transport: str, now: float) -> None:
        """A name in a dialog's route or Contact: later requests may go there. The one met longest ago gives way."""
        name = Name(host.lower(), port or None, transport)
        known = self._watched.get(name)
        if known is not None:
            if known.met_at is not None:
                known.met_at = now
            return
        if literal(name) is not None or not _is_host_name(name.host):
            return
        met = [(each.met_at, old) for old, each in self._watched.items() if each.met_at is not None]
        if len(met) >= MAX_MET:
            del self._watched[min(met)[1]]
        self._watched[name] = _Watched(met_at=now)
        self._changed.set()

    def hops(self, host: str, port: int | None, transport: str) -> tuple[Hop, ...]:
        """Where to send, best first; () when the name was never resolved. An IP address is its own answer."""
        name = Name(host.lower(), port or None, transport)
        own = literal(name)
        if own is not None:
            return (own,)
        known = self._watched.get(name)
        return known.hops if known is not None else ()

    def address(self, host: str) -> str | None:
        """An IP address for a host name met in a message: of any watched name with that host."""
        own = literal(Name(host.lower(), None, "udp"))
        if own is not None:
            return own.ip
        found = (known.hops[0].ip for name, known in self._watched.items() if name.host == host.lower() and known.hops)
        return next(found, None)

    async def refresh(self, now: float) -> list[Name]:
        """Look up what is due at `now`; returns the names that did not resolve (their last good answer stays)."""
        for name in [old for old, known in self._watched.items() if (known.met_at or now) < now - MET_FOR_S]:
            del self._watched[name]
        due = [name for name, known in self._watched.items() if known.due <= now]
        for name in due:
            self._watched[name].due = math.inf  # until this look-up has ended
        outcomes = await asyncio.gather(*(self._refresh_one(name, now) for name in due))
        return [name for name, is_found in zip(due, outcomes, strict=True) if not is_found]

    async def run(self) -> None:
        """Keep everything watched fresh until cancelled. A name whose servers are silent holds up no other."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                tasks.create_task(self.refresh(loop.time()))
                await asyncio.sleep(0)  # let it take what is due
                wake_at = min((known.due for known in self._watched.values()), default=math.inf)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(min(wake_at, loop.time() + LONGEST_S)):
                        await self._changed.wait()

    async def _refresh_one(self, name: Name, now: float) -> bool:
        async with self._at_once:
            try:
                hops, ttl_s = await self._resolve(name)
            except Exception:  # noqa: BLE001 - a record or a thread that cannot be had must not end all look-ups
                hops, ttl_s = (), 0.0
        known = self._watched.get(name)
        if known is not None:
            if hops and hops != known.hops:
                known.hops = hops
                self.version += 1
            known.due = now + (min(max(ttl_s, SHORTEST_S), LONGEST_S) if hops else RETRY_S)
            self._changed.set()
        return bool(hops)

    async def _resolve(self, name: Name) -> tuple[tuple[Hop, ...], float]:
        """(hops, TTL). Nothing when DNS is away, or the name leads nowhere."""
        try:
            services, ttl_s = await self._servers(name)
        except DnsAway:
            if self._watched.get(name, _Watched()).hops:
                return (), 0.0  # what was known stays
            services, ttl_s = [(_only_transport(name), _bare(name))], SHORTEST_S  # the host itself is the best guess
        hops: list[Hop] = []
        is_whole = True
        for transport, service in services:
            try:
                found = await self._names.addresses(service.host)
            except DnsAway:
                ttl_s, is_whole = 0.0, False
                continue
            ttl_s = min(ttl_s, found.ttl_s) if found.records else ttl_s
            # who must be proven is the name that was asked for, not one that unsigned DNS gave (RFC 5922 §4)
            proven = name.host if transport == "tls" else ""
            hops += [Hop(transport, ip, service.port, 0, proven) for ip in found.records]
            if len(hops) >= MAX_HOPS:
                break
        if hops and not is_whole:  # nobody could say where one of its servers is: it is where it was, behind the others
            hops += self._watched.get(name, _Watched()).hops
        return tuple(dict.fromkeys(hops))[:MAX_HOPS], ttl_s

    async def _servers(self, name: Name) -> tuple[list[tuple[str, Service]], float]:
        """(transport, server) in the order to be tried, and how long that holds."""
        if name.port is not None:
            return [(_only_transport(name), _bare(name))], LONGEST_S
        places, ttl_s = await self._service_names(name)
        servers: list[tuple[str, Service]] = []
        for transport, place in places:
            found = await self._names.services(place)
            ttl_s = min(ttl_s, found.ttl_s)
            servers += [(transport, service) for service in by_weight(found.records, self._draw)]
        return servers or [(_only_transport(name), _bare(name))], ttl_s

    async def _service_names(self, name: Name) -> tuple[list[tuple[str, str]], float]:
        """(transport, SRV name): by NAPTR where the transport is open (RFC 3263 §4.1), else the usual names."""
        if name.transport in _PREFIXES:
            return [(name.transport, _PREFIXES[name.transport] + name.host)], LONGEST_S
        found = await self._names.pointers(name.host)
        usable = [
            (_SERVICES[pointer.service], pointer.name)
            for pointer in sorted(found.records, key=lambda each: (each.order, each.preference))
            if pointer.service in _SERVICES and (name.transport == ANY or pointer.service == "SIPS+D2T")
        ]
        if not usable:
            usual = ("tls",) if name.transport == ANY_SECURE else ("udp", "tcp")
            usable = [(transport, _PREFIXES[transport] + name.host) for transport in usual]
        return usable, found.ttl_s


def by_weight(services: Iterable[Service], draw: Callable[[int], int]) -> list[Service]:
    """By priority; within one, drawn one after the other with a chance by weight (RFC 2782, "Usage rules")."""
    ordered: list[Service] = []
    # those of no weight first, so that they have a small chance as long as others are left
    left = sorted(services, key=lambda service: (service.priority, service.weight, service.host, service.port))
    while left:
        group = [service for service in left if service.priority == left[0].priority]
        drawn, passed = draw(sum(service.weight for service in group)), 0
        for service in group:
            passed += service.weight
            if passed >= drawn:
                ordered.append(service)
                left.remove(service)
                break
    return ordered


@lru_cache(maxsize=4096)
def literal(name: Name) -> Hop | None:
    """The hop of a name that is an IP address already (brackets allowed), None for a real name."""
    try:
        address = str(ipaddress.ip_address(name.host.strip("[]")))
    except ValueError:
        return None
    transport = _only_transport(name)
    return Hop(transport, address, name.port or _default_port(transport), 0, address if transport == "tls" else "")


def _only_transport(name: Name) -> str:
    """Without NAPTR or SRV: UDP for sip, TLS for sips (RFC 3263 §4.1)."""
    return {ANY: "udp", ANY_SECURE: "tls"}.get(name.transport, name.transport)


def _bare(name: Name) -> Service:
    return Service(0, 0, name.port or _default_port(_only_transport(name)), name.host)


def _default_port(transport: str) -> int:
    return 5061 if transport == "tls" else 5060


def _is_host_name(host: str) -> bool:
    """Worth asking DNS about at all (RFC 1123 §2.1)."""
    labels = host.rstrip(".").split(".")
    return len(host) <= 253 and all(
        0 < len(label) <= 63 and label.replace("-", "").replace("_", "").isalnum() and label.isascii()
        for label in labels
    )
