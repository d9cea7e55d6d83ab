"""Resync by SIP NOTIFY: which event each vendor honours, where it goes, and how fast.

A NOTIFY goes through the PBX that registered the phone, or straight to the phone's last address, as the PBX of its
first line says (`resync_via`); the rendered configuration lets exactly that source in. They are paced overall and for
each destination, so that a fleet does not come back as one.
"""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from engine.errors import Conflict
from engine.provisioning.vendors import Profile

SIP_PORT = 5060
WITHIN_S = 5.0
NO_ANSWER = 408
PER_SECOND = 10.0  # NOTIFYs in all; a phone that obeys makes about four requests
PER_DESTINATION_S = 0.5  # between two NOTIFYs to one PBX or one address

Notify = Callable[[dict[str, Any], str, list[tuple[str, str]], float], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Resync:
    """One NOTIFY as the edge's control channel takes it: target hop, Request-URI and headers beyond those every
    request has.
    """

    transport: str
    host: str
    port: int
    request_uri: str
    event: str

    @property
    def headers(self) -> list[tuple[str, str]]:
        # RFC 6665 §8.2.1: a NOTIFY names event and state; this one is unsolicited, as every vendor wants it
        return [("Event", self.event), ("Subscription-State", "terminated;reason=noresource")]


@dataclass(frozen=True, slots=True)
class Destination:
    """What is known of the way to a phone: its first line, the PBX of that line (empty host: none) and its last
    address.
    """

    sip_user: str
    registrar_host: str
    registrar_port: int
    transport: str
    resync_via: str
    last_ip: str | None


def plan(profile: Profile, to: Destination, *, reboot: bool = False) -> Resync:
    """The NOTIFY for one phone.

    Raises:
        Conflict: there is no way to the phone, and what to do about it.
    """
    event = profile.reboot_event if reboot else profile.resync_event
    if to.resync_via == "direct":
        if not to.last_ip:
            raise Conflict("This phone has not fetched anything yet, so its address is not known. Restart it by hand.")
        host = f"[{to.last_ip}]" if ":" in to.last_ip else to.last_ip
        return Resync("udp", to.last_ip, SIP_PORT, f"sip:{to.sip_user}@{host}:{SIP_PORT}", event)
    if not to.registrar_host:
        raise Conflict(
            "The phone's first line has no PBX with a registrar, so a resync cannot reach it. Set one, or restart it."
        )
    uri = f"sip:{to.sip_user}@{to.registrar_host}:{to.registrar_port}"
    suffix = "" if to.transport == "udp" else f";transport={to.transport}"
    return Resync(to.transport, to.registrar_host, to.registrar_port, uri + suffix, event)


def meaning(status: int) -> str:
    """What a final status says to the person who pressed the button (RFC 3261 §21, RFC 6665 §4.2.2)."""
    if 200 <= status < 300:
        return "accepted"
    return {
        401: "the phone asks for a password",
        403: "refused",
        404: "not registered",
        408: "no answer",
        480: "not registered",
        481: "the PBX does not pass it on",
        489: "the phone does not know this event",
    }.get(status, f"refused with {status}")


@dataclass(slots=True)
class Resyncer:
    """Sends planned NOTIFYs through the edge, paced. `notify` is the edge's own: (target, request_uri, headers,
    within_s) -> status.
    """

    notify: Notify
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _next_at: float = 0.0
    _next_to: dict[tuple[str, int], float] = field(default_factory=dict)

    async def send(self, resync: Resync) -> int:
        """Wait for this destination's turn, send, and return the final status; 408 when nobody answered."""
        await self._wait((resync.host, resync.port))
        try:
            found = await asyncio.get_running_loop().getaddrinfo(resync.host, resync.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):  # a name that is none fails in its encoding
            return NO_ANSWER
        proven = resync.host if resync.transport == "tls" else ""  # the name the registrar must prove
        target = {"transport": resync.transport, "ip": found[0][4][0], "port": resync.port, "host": proven}
        return await self.notify(target, resync.request_uri, resync.headers, WITHIN_S)

    async def _wait(self, to: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        async with self._turn:
            at = max(loop.time(), self._next_at, self._next_to.get(to, 0.0))
            self._next_at = max(self._next_at, loop.time()) + 1 / PER_SECOND
            self._next_to[to] = at + PER_DESTINATION_S
            if len(self._next_to) > 1000:
                self._next_to = {key: when for key, when in self._next_to.items() if when > loop.time()}
        await asyncio.sleep(max(0.0, at - loop.time()))


def spread_s(count: int) -> float:
    """How long a resync of that many phones takes at least; what a page says beforehand."""
    return count / PER_SECOND


def shuffled(phones: list[str]) -> list[str]:
    """A fleet in an order of its own each time, so that no PBX or site is asked as one block."""
    return sorted(phones, key=lambda _phone: secrets.randbits(32))
