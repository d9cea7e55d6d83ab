"""Identifiers `<type>_<uuid7 in base32>`: sortable by time of making, typed for the reader.

The number is written as 26 digits of Crockford base32.
"""

import os
import time
from typing import Literal

Kind = Literal[
    "account", "user", "api_key", "session", "location", "network", "phone", "line", "pbx", "trunk", "number",
    "call", "callback", "confirmed", "recipient", "notification", "webhook", "alarm", "audit", "fetch", "request",
    "settings", "template", "rollout", "dryrun", "lease", "resync", "contact", "asset", "checkpoint",
    "trunk_group", "sweep", "sweep_plan", "audit_view", "anomaly", "remembered_device", "sign_in", "refused_key",
    "mail_settings", "chat_recipient", "escalation_plan",
]  # fmt: skip
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # two digits at once: a 911 call waits for it
_SHIFTS = range(120, -1, -10)
_TAIL_DIGITS = 16  # all but the 50 bits with the time: version, variant and what is random
_DRAWN = 32


def uuid7() -> int:
    """A version 7 UUID as a number (RFC 9562 §5.7): 48 bits of Unix milliseconds, 74 random bits."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80
    value |= 0x7 << 76 | ((random >> 62) & 0xFFF) << 64
    return value | 0b10 << 62 | (random & ((1 << 62) - 1))


def new_id(kind: Kind) -> str:
    """A fresh identifier of that kind, such as `phone_01hz…`."""
    number = uuid7()
    return f"{kind}_{''.join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])}"


class DrawnIds:
    """Fresh identifiers of one kind whose random digits are drawn ahead: a 911 call waits for none.

    `draw` is called now and then; what is asked for oftener is made as ever.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._tails: list[str] = []

    def draw(self) -> None:
        """Have enough for a while."""
        while len(self._tails) < _DRAWN:
            self._tails.append(new_id(self._kind)[-_TAIL_DIGITS:])

    def next(self) -> str:
        """What `new_id` would say."""
        if not self._tails:
            return new_id(self._kind)
        ms, pairs = time.time_ns() // 1_000_000, _PAIRS
        head = pairs[ms >> 40] + pairs[ms >> 30 & 1023] + pairs[ms >> 20 & 1023] + pairs[ms >> 10 & 1023]
        return f"{self._kind}_{head}{pairs[ms & 1023]}{self._tails.pop()}"


def least_id(kind: Kind, at_ms: int) -> str:
    """What no identifier of that kind made at or after that time (Unix milliseconds) sorts before."""
    return f"{kind}_{''.join([_PAIRS[at_ms << 80 >> shift & 1023] for shift in _SHIFTS])}"
