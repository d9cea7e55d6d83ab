"""Which SIP processes other nodes had, and have no more: their calls stand open, and nobody is left to tell their end.

A node whose folder is kept closes its calls itself when it comes back (`writers`). One that was lost with its folder
never does. So each node signs for its own processes while they have open calls, and a process whose signature has
stayed the same for `silent_s` is taken for gone. That time is counted by the watching node's own steady clock, while
it reads the database without a fault: no two clocks are compared, and a database that was away loses nobody. Pure.
"""

from collections.abc import Mapping
from datetime import datetime

SIGN_S = 60.0
SILENT_S = 3600.0  # few emergency calls are longer, and what a node that comes back says counts all the same
Signatures = Mapping[str, datetime | None]
"""When each process with open calls signed last, by its own node's clock; None: never yet."""


class SilentNodes:
    """What this node has seen of the others' signatures.

    Args:
        silent_s: How long one stays the same until its process is taken for gone.
    """

    def __init__(self, silent_s: float = SILENT_S) -> None:
        self._silent_s, self._sign_s = silent_s, min(SIGN_S, silent_s / 4)
        self._due = 0.0
        self._seen: dict[str, tuple[datetime | None, float]] = {}

    def is_due(self, now: float) -> bool:
        """Whether it is time to sign and to look; `now` on a steady clock."""
        return now >= self._due

    def look(self, others: Signatures, now: float) -> dict[str, datetime | None]:
        """The processes that have been silent for too long, with the signature that never changed."""
        self._due = now + self._sign_s
        known, self._seen = self._seen, {}
        for name, signed in others.items():
            before = known.get(name)
            self._seen[name] = before if before is not None and before[0] == signed else (signed, now)
        return {name: signed for name, (signed, since) in self._seen.items() if now - since >= self._silent_s}

    def lose_touch(self) -> None:
        """The database did not answer: what others signed meanwhile may not be there yet."""
        self._seen.clear()
