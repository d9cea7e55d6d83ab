"""When the next request may leave: so many in all, one at a time to a destination, one at a time for a source
address (pure).

Fifty phones behind one address share one uplink, and one PBX's registrar carries them all, so each of the three has its
own pace. Turns are handed out in the order they are asked for, and a turn that must wait for its address takes no
place from those that need not.
"""

import math
from collections.abc import Hashable, Iterable

PER_SECOND = 10.0  # requests in all; a phone that obeys makes about four of its own
_FIRST_LOOK = 1000  # turns and addresses remembered before those that have passed are let go


class Pace:
    """Turns in seconds of the caller's own clock."""

    def __init__(self, per_second: float = PER_SECOND) -> None:
        self._per_second = per_second
        self._taken: dict[int, int] = {}  # a slot that is taken, and where to look on from it
        self._free_at: dict[Hashable, float] = {}
        self._look_at = _FIRST_LOOK

    def reserve(self, now: float, keys: Iterable[tuple[Hashable, float]]) -> float:
        """Take the next turn and return when it is: `now` or later.

        Args:
            keys: (what is shared, seconds between two turns of it).
        """
        keys = tuple(keys)
        earliest = max([now, *(self._free_at.get(key, 0.0) for key, _ in keys)])
        slot = self._first_free(math.floor(earliest * self._per_second))
        self._taken[slot] = slot + 1
        at = max(earliest, slot / self._per_second)
        for key, gap_s in keys:
            self._free_at[key] = at + gap_s
        self._forget(now)
        return at

    def _first_free(self, slot: int) -> int:
        walked = []
        while slot in self._taken:
            walked.append(slot)
            slot = self._taken[slot]
        for passed in walked:
            self._taken[passed] = slot  # the next one who comes by is sent straight here
        return slot

    def _forget(self, now: float) -> None:
        if len(self._free_at) + len(self._taken) <= self._look_at:
            return
        present = math.floor(now * self._per_second)
        self._free_at = {key: at for key, at in self._free_at.items() if at > now}
        self._taken = {slot: on for slot, on in self._taken.items() if slot >= present}
        self._look_at = max(_FIRST_LOOK, 2 * (len(self._free_at) + len(self._taken)))
