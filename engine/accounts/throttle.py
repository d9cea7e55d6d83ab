"""How fast a password may be guessed: by address, by e-mail address, by both. Never a permanent lock (pure).

An attempt counts as failed when it is admitted and is forgiven when it succeeds, so that many at once gain nothing.
Known and unknown e-mail addresses are treated alike: the answers tell nobody who has an account.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from engine.errors import TooManyRequests

FORGET_AFTER_S = 900.0  # a quarter of an hour without a failure and the slate is clean
MAX_KEYS = 20_000  # about 4 MB; the oldest is dropped first


@dataclass(frozen=True, slots=True)
class Rule:
    """So many failures are free; from there each doubles the wait, up to `max_s`."""

    free: int
    max_s: float


# One person mistyping meets only the first. The last slows a guess spread over many addresses; it stays low enough
# that it locks nobody out.
EMAIL_FROM_ADDRESS = Rule(free=5, max_s=60.0)
ADDRESS = Rule(free=20, max_s=60.0)
EMAIL = Rule(free=30, max_s=10.0)
# Codes have a million spellings, not a password's: whoever has the password may guess slowly from many addresses too.
CODES_OF_ONE_USER = Rule(free=10, max_s=600.0)


@dataclass(slots=True)
class _Count:
    failures: int = 0
    last_at: float = 0.0
    blocked_until: float = 0.0


class Throttle:
    """Failed sign-ins of the last quarter of an hour, in memory. `now` is loop time in seconds."""

    def __init__(self, *, of_email: Rule = EMAIL) -> None:
        self._counts: OrderedDict[tuple[str, str], _Count] = OrderedDict()
        self._of_email = of_email

    def admit(self, email: str, ip: str, now: float, rule: Rule = EMAIL_FROM_ADDRESS) -> None:
        """Let one attempt through and count it as failed until `forgive`.

        Args:
            rule: For this e-mail address from this network; it must say nothing about whose address it is.

        Raises:
            TooManyRequests: with the seconds to wait.
        """
        keys = self._keys(email, ip, rule)
        wait_s = max(self._count(key, now).blocked_until - now for key, _rule in keys)
        if wait_s > 0:
            raise TooManyRequests(
                f"Too many failed sign-ins. Try again in {int(wait_s) + 1} seconds.", retry_after_s=int(wait_s) + 1
            )
        for key, counted in keys:
            count = self._count(key, now)
            count.failures += 1
            count.last_at = now
            if count.failures >= counted.free:
                count.blocked_until = now + min(2.0 ** (count.failures - counted.free), counted.max_s)

    def forgive(self, email: str, ip: str) -> None:
        """That attempt was right: what this person mistyped before is forgotten.

        The counts shared with others lose this attempt alone, so that one good password does not wash an address clean.
        """
        own, *shared = [key for key, _rule in self._keys(email, ip)]
        self._counts.pop(own, None)
        for key in shared:
            if key in self._counts:
                count = self._counts[key]
                count.failures = max(0, count.failures - 1)
                count.blocked_until = 0.0

    def _keys(self, email: str, ip: str, rule: Rule = EMAIL_FROM_ADDRESS) -> list[tuple[tuple[str, str], Rule]]:
        email, network = email.strip().casefold(), _network_of(ip)
        return [((email, network), rule), (("", network), ADDRESS), ((email, ""), self._of_email)]

    def _count(self, key: tuple[str, str], now: float) -> _Count:
        count = self._counts.get(key)
        if count is None or now - count.last_at > FORGET_AFTER_S:
            count = self._counts[key] = _Count(last_at=now)
        self._counts.move_to_end(key)
        while len(self._counts) > MAX_KEYS:
            self._counts.popitem(last=False)
        return count


def _network_of(ip: str) -> str:
    """An IPv6 subscriber owns at least a /64: counting single addresses there would count nothing."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
