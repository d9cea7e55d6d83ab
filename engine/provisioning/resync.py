"""Resync by SIP NOTIFY: which event each vendor honours, where it goes, how fast, and what came of it.

A NOTIFY goes through the PBX that registered the phone, or straight to the phone's last address, as the PBX of its
first line says (`resync_via`); the rendered configuration lets exactly that source in. A phone that asks whoever
resyncs it for a password is answered with its own line's (`voIpProt.SIP.requestValidation`, `challenge_checksync`,
`Auth_Resync-Reboot` ask for just that). They are paced overall, for each destination, and for each address that phones
ask from, so that a fleet does not come back as one, nor a branch office behind one line.
"""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from typing import Any

from engine.errors import Conflict
from engine.provisioning.pace import Pace
from engine.provisioning.policy import MAX_PER_MINUTE
from engine.provisioning.vendors import Profile
from engine.sip.uri import bracketed, transport_parameter

SIP_PORT = 5060
WITHIN_S = 12.0  # the SIP process gives a NOTIFY up after eight; this bounds the SIP process
NO_ANSWER = 408
PER_DESTINATION_S = 0.5  # between two NOTIFYs to one PBX
PER_SOURCE_S = 1.0  # between two phones that ask from one address: each fetches some 60 kB over its uplink

WAITING = "waiting"
NOT_SENT = "not sent: Callpoint was stopped"
AWAY = "not sent: the SIP process is away"
MAX_RESULT_CHARACTERS = 80

Notify = Callable[[dict[str, Any], str, list[tuple[str, str]], float, Mapping[str, str] | None], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Resync:
    """One NOTIFY as the edge's control channel takes it: target hop, Request-URI and headers beyond those every
    request has. `phone_ip`: from where the phone asks for its files, "" unknown. `credentials`: what answers a phone
    that asks for them. `account`: whose phone it is, and the seconds between two of its phones.
    """

    transport: str
    host: str
    port: int
    request_uri: str
    event: str
    phone_ip: str = ""
    credentials: Mapping[str, str] | None = field(default=None, repr=False)
    account: tuple[str, float] = ("", 0.0)

    @property
    def headers(self) -> list[tuple[str, str]]:
        # RFC 6665 §8.2.1: a NOTIFY names event and state; this one is unsolicited, as every vendor wants it
        return [("Event", self.event), ("Subscription-State", "terminated;reason=noresource")]

    @property
    def paces(self) -> tuple[tuple[tuple[str, str, int], float], ...]:
        """What it shares with others, and how long they leave each other: see `Pace.reserve`."""
        shared = [(("to", self.host, self.port), PER_DESTINATION_S)]
        if self.phone_ip:
            shared.append((("from", self.phone_ip, 0), PER_SOURCE_S))
        if self.account[1]:
            shared.append((("account", self.account[0], 0), self.account[1]))
        return tuple(shared)


@dataclass(frozen=True, slots=True)
class Destination:
    """What is known of the way to a phone: its first line, the PBX of that line (empty host: none) and its last
    address. `auth_user` and `secret` are the line's; an empty secret answers nobody.
    """

    sip_user: str
    registrar_host: str
    registrar_port: int
    transport: str
    resync_via: str
    last_ip: str | None
    auth_user: str = ""
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Phones to be asked one after another. `refused`: (phone id, why there is no way to it)."""

    id: str
    account_id: str
    planned: tuple[tuple[str, Resync], ...]
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def spread_s(self) -> float:
        """How long it takes at least; what a page says beforehand."""
        return spread_s(resync for _, resync in self.planned)

    @property
    def in_turn(self) -> tuple[tuple[str, Resync], ...]:
        """In an order of its own each time, address by address, so that no site is asked as one block and none holds
        up the others.
        """
        shuffled = sorted(self.planned, key=lambda _each: secrets.randbits(32))
        sites: dict[str, list[tuple[str, Resync]]] = {}
        for each in shuffled:
            sites.setdefault(each[1].phone_ip, []).append(each)
        return tuple(each for each in chain.from_iterable(zip_longest(*sites.values())) if each is not None)


def plan(profile: Profile, to: Destination, *, reboot: bool = False) -> Resync:
    """The NOTIFY for one phone.

    Raises:
        Conflict: there is no way to the phone, and what to do about it.
    """
    event = profile.reboot_event if reboot else profile.resync_event
    credentials = {"user": to.auth_user or to.sip_user, "secret": to.secret} if to.secret else None
    if to.resync_via == "direct":
        if not to.last_ip:
            raise Conflict("This phone has not fetched anything yet, so its address is not known. Restart it by hand.")
        host = bracketed(to.last_ip)
        uri = f"sip:{to.sip_user}@{host}:{SIP_PORT}"
        return Resync("udp", to.last_ip, SIP_PORT, uri, event, to.last_ip, credentials)
    if not to.registrar_host:
        raise Conflict(
            "The phone's first line has no PBX with a registrar, so a resync cannot reach it. Set one, or restart it."
        )
    uri = f"sip:{to.sip_user}@{to.registrar_host}:{to.registrar_port}"
    uri += transport_parameter(to.transport)
    return Resync(to.transport, to.registrar_host, to.registrar_port, uri, event, to.last_ip or "", credentials)


def meaning(status: int) -> str:
    """What a final status says to the person who pressed the button (RFC 3261 §21, RFC 6665 §4.2.2)."""
    if 200 <= status < 300:
        return "accepted"
    return {
        401: "the phone asks for another password",
        403: "refused",
        404: "not registered",
        407: "the PBX asks for a password",
        408: "no answer",
        480: "not registered",
        481: "the PBX does not pass it on",
        489: "the phone does not know this event",
    }.get(status, f"refused with {status}")


@dataclass(slots=True)
class Resyncer:
    """Sends planned NOTIFYs through the edge, paced. `notify` is the edge's own: (target, request_uri, headers,
    within_s, credentials) -> status.
    """

    notify: Notify
    pace: Pace = field(default_factory=Pace)

    async def send(self, resync: Resync) -> int:
        """Wait for this one's turn, send, and return the final status; 408 when nobody answered."""
        await self.wait(resync)
        return await self.deliver(resync)

    async def wait(self, resync: Resync) -> None:
        """Until it is this one's turn."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(self.pace.reserve(now, resync.paces) - now)

    async def deliver(self, resync: Resync) -> int:
        """Send it now. Raises EngineError: the SIP process is away."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(resync.host, resync.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):  # a name that is none fails in its encoding
            return NO_ANSWER
        proven = resync.host if resync.transport == "tls" else ""  # the name the registrar must prove
        target = {"transport": resync.transport, "ip": found[0][4][0], "port": resync.port, "host": proven}
        return await self.notify(target, resync.request_uri, resync.headers, WITHIN_S, resync.credentials)


def spread_s(resyncs: Iterable[Resync]) -> float:
    """Seconds until the last of them can be sent, if nothing else is."""
    pace = Pace()
    return max((pace.reserve(0.0, resync.paces) for resync in resyncs), default=0.0)


def planned_fleet(
    fleet_id: str,
    account_id: str,
    ways: Sequence[tuple[str, Profile | None, Destination | None]],
    *,
    per_minute: int = MAX_PER_MINUTE,
) -> Fleet:
    """The NOTIFYs of many phones: (id, profile, destination) each; None where the phone has no such.

    A phone to which there is no way is in `refused`, and keeps nobody up. `per_minute`: the policy's pace.
    """
    # at the most an account may wish, the node's own pace is the slower one
    account = (account_id, 0.0 if per_minute >= MAX_PER_MINUTE else 60.0 / per_minute)
    planned: list[tuple[str, Resync]] = []
    refused: list[tuple[str, str]] = []
    for phone_id, profile, destination in ways:
        try:
            planned.append((phone_id, replace(_planned(profile, destination), account=account)))
        except Conflict as exc:
            refused.append((phone_id, exc.detail))
    return Fleet(fleet_id, account_id, tuple(planned), tuple(refused))


def _planned(profile: Profile | None, destination: Destination | None) -> Resync:
    if profile is None:
        raise Conflict("Its vendor is not known here any more, so nobody knows which event it honours.")
    if destination is None:
        raise Conflict("This phone has no line, so no NOTIFY can be addressed to it. Assign one or restart it by hand.")
    return plan(profile, destination)
