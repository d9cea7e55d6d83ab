"""Look-ups in DNS and the hosts file, each answer with how long it may be kept (RFC 3263, RFC 2782, RFC 3403).

Nothing of it stands in a call's way: `engine.sip.resolve` asks ahead and answers from memory.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

TIMEOUT_S = 4.0
MAX_ASKING = 32  # threads that wait for the system's resolver
UNTIMED_TTL_S = 60.0  # what the hosts file and the system's resolver say comes without a TTL
HOSTS_FILE = Path("/etc/hosts")

Record = TypeVar("Record")


class DnsAway(Exception):
    """No server answered, or none could: this says nothing about the name, what was known before still counts."""


@dataclass(frozen=True, slots=True)
class Found(Generic[Record]):
    """The records of a name, () when it has none, and for how many seconds that holds."""

    records: tuple[Record, ...] = ()
    ttl_s: float = UNTIMED_TTL_S


@dataclass(frozen=True, slots=True)
class Service:
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    host: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """One NAPTR record that ends in SRV (RFC 3263 §4.1): `service` such as SIPS+D2T, `name` such as _sips._tcp.x."""

    order: int
    preference: int
    service: str
    name: str


class Names:
    """Asks the system's DNS servers, or those given.

    Args:
        nameservers: IP addresses to ask instead of the system's.
        port: where those listen.
        hosts_file: names that need no DNS; None for none.
    """

    def __init__(
        self, nameservers: Sequence[str] = (), port: int = 53, *, hosts_file: Path | None = HOSTS_FILE
    ) -> None:
        self._nameservers, self._port, self._hosts_file = tuple(nameservers), port, hosts_file
        self._hosts: dict[str, tuple[str, ...]] = {}
        self._asking: set[str] = set()
        self._hosts_state: object = None
        self._made: Any = None

    async def addresses(self, host: str) -> Found[str]:
        """IPv4 addresses, then IPv6: from the hosts file, DNS, else whatever else the system asks (mDNS, a directory).

        Raises:
            DnsAway: nobody could say.
        """
        listed = self._listed(host)
        if listed:
            return Found(listed)
        answers = await asyncio.gather(
            self._ask(host, "A"), self._ask(host, "AAAA"), return_exceptions=True
        )  # one may be there while the other is not to be had
        found = [answer for answer in answers if not isinstance(answer, BaseException)]
        records = tuple(str(record.address) for records, _ in found for record in records)
        if records:
            is_whole = len(found) == len(answers)
            return Found(records, min(ttl for kept, ttl in found if kept) if is_whole else 0.0)
        if not self._nameservers and (by_system := await self.by_system(host)):
            return Found(by_system)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return Found((), min(ttl for _, ttl in found))

    async def services(self, name: str) -> Found[Service]:
        """SRV records. Raises DnsAway."""
        records, ttl_s = await self._ask(name, "SRV")
        services = tuple(
            Service(record.priority, record.weight, record.port, record.target.to_text(omit_final_dot=True).lower())
            for record in records
        )
        # one record with the target "." says that there is no such service (RFC 2782)
        return Found(tuple(each for each in services if each.host not in {"", "."}), ttl_s)

    async def pointers(self, name: str) -> Found[Pointer]:
        """NAPTR records with the flag `s`. Raises DnsAway."""
        records, ttl_s = await self._ask(name, "NAPTR")
        return Found(
            tuple(
                Pointer(
                    record.order,
                    record.preference,
                    record.service.decode("ascii", "replace").upper(),
                    record.replacement.to_text(omit_final_dot=True).lower(),
                )
                for record in records
                if record.flags.lower() == b"s" and not record.regexp
            ),
            ttl_s,
        )

    async def _ask(self, name: str, kind: str) -> tuple[list[Any], float]:
        """(records, TTL); no records when the name or the kind does not exist."""
        import dns.exception  # here, so that the SIP process is up before a DNS library is even read
        import dns.resolver

        try:
            answer = await self._resolver().resolve(name, kind, lifetime=TIMEOUT_S, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return [], UNTIMED_TTL_S
        except (dns.exception.DNSException, OSError, ValueError, UnicodeError) as exc:
            raise DnsAway(f"{kind} of {name}: {exc or type(exc).__name__}") from exc
        if answer.rrset is None:
            return [], UNTIMED_TTL_S
        return list(answer.rrset), float(answer.rrset.ttl)

    def _resolver(self) -> Any:
        import dns.asyncresolver

        if self._made is None:
            self._made = dns.asyncresolver.Resolver(configure=not self._nameservers)
            if self._nameservers:
                self._made.nameservers = list(self._nameservers)
                self._made.port = self._port
            self._made.retry_servfail = False
        return self._made

    async def by_system(self, host: str) -> tuple[str, ...]:
        """What the system's resolver says, () when nothing, or not in time.

        Its look-ups cannot be cut short, so each has a thread that nothing waits for: not the pool that snapshots are
        read in, and not the end of this process.
        """
        if host in self._asking or len(self._asking) >= MAX_ASKING:
            return ()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[str, ...]] = loop.create_future()

        def ask() -> None:
            try:
                found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
            except (OSError, UnicodeError):
                found = []
            self._asking.discard(host)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell, tuple(dict.fromkeys(str(item[4][0]) for item in found)))

        def tell(found: tuple[str, ...]) -> None:
            if not answer.done():
                answer.set_result(found)

        self._asking.add(host)
        threading.Thread(target=ask, name="names", daemon=True).start()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await answer
        except TimeoutError:
            return ()

    def _listed(self, host: str) -> tuple[str, ...]:
        """What the hosts file says, read again when it changed."""
        if self._hosts_file is None:
            return ()
        try:
            state = self._hosts_file.stat()
            if (state.st_mtime_ns, state.st_size) != self._hosts_state:
                self._hosts_state = state.st_mtime_ns, state.st_size
                self._hosts = read_hosts(self._hosts_file.read_text(errors="replace"))
        except OSError:
            return ()
        return self._hosts.get(host.lower().rstrip("."), ())


def read_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """hosts(5): name in lower case -> its addresses, IPv4 first."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and _is_address(words[0]):
            for name in words[1:]:
                found.setdefault(name.lower(), []).append(words[0])
    return {name: tuple(sorted(dict.fromkeys(each), key=lambda ip: ":" in ip)) for name, each in found.items()}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
