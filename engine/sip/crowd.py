"""What waits when more comes than can be carried: emergencies first, new ordinary calls last. Pure.

An element that answers in the order of arrival makes a 911 wait behind every call before it, and once the socket's
buffer is full the kernel drops 911 as readily as anything. So in a crowd the socket is read far ahead, each datagram is
ranked by its first bytes, and a new ordinary call that nobody got round to within `PATIENCE_S` is refused with 503: no
Retry-After, which would keep the PBX from sending us the next 911 (RFC 3261 §21.5.4).
"""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from engine.sip.forward import Hop

IN_ORDER_S = 0.3  # as long as nobody waits longer than this, first come is first served
PATIENCE_S = 0.4  # shorter than T1: nobody has sent it again yet; what waits longer is more than can be carried
MOST_WAITING = 10_000  # of new ordinary calls: more than come in that time
MOST_IN_PROGRESS = 20_000  # messages of calls in progress: a second of them
_TO_TAG = re.compile(rb"\r\n(?:to|t)[ \t]*+:[^\r]*;[ \t]*+tag=", re.IGNORECASE)


class Rank(IntEnum):
    """In this order, whatever came first."""

    EMERGENCY = 0
    IN_PROGRESS = 1  # responses, ACK, BYE, CANCEL, re-INVITE: what ends work already begun
    NEW = 2


@dataclass(frozen=True, slots=True)
class CrowdRules:
    """What a crowd cannot know by itself.

    `hears(hop, now)`: may it be looked at at all? `is_emergency(uri, hop)`: does a request line's URI, from this hop,
    name an emergency service? `refuse(data, hop)`: answer a new request with 503, or go on with one that is known.
    `receive(data, hop)`: takes the others, which `hears` has been asked about.
    """

    hears: Callable[[Hop, float], bool]
    is_emergency: Callable[[bytes, Hop], bool]
    refuse: Callable[[bytes, Hop], None]
    receive: Callable[[bytes, Hop], None]


Taken = tuple[bytes, Hop, bool]  # (message, hop, is it to be refused?)
_MOST = {Rank.EMERGENCY: MOST_IN_PROGRESS, Rank.IN_PROGRESS: MOST_IN_PROGRESS, Rank.NEW: MOST_WAITING}


class Crowd:
    """Datagrams in three rows. `shed` counts those that were refused or forgotten."""

    __slots__ = ("_rows", "_rules", "shed")

    def __init__(self, rules: CrowdRules) -> None:
        self._rules = rules
        self._rows: tuple[deque[tuple[float, bytes, Hop]], ...] = (deque(), deque(), deque())
        self.shed = 0

    def __len__(self) -> int:
        first, second, third = self._rows
        return len(first) + len(second) + len(third)

    def put(self, data: bytes, hop: Hop, now: float) -> None:
        """Take in a datagram. Of far too many, the oldest that is no emergency is forgotten: its sender repeats it."""
        if not self._rules.hears(hop, now):
            return
        rank = self.rank(data, hop)
        row = self._rows[rank]
        row.append((now, data, hop))
        if len(row) > _MOST[rank]:
            row.popleft()
            self.shed += 1

    def work(self, now: float, most: int) -> None:
        """Hand over the next, `most` of them."""
        hand_over(self.take, self._rules, now, most)

    def take(self, now: float) -> Taken | None:
        """The next to be dealt with; None when nothing waits.

        Of new calls the oldest goes first, so that a pause of a tenth of a second is made up for without refusing any.
        In a crowd that lasts longer the youngest does: those that are carried then wait for nothing.
        """
        for row in self._rows[:2]:
            if row:
                _, data, hop = row.popleft()
                return data, hop, False
        row = self._rows[2]
        if not row:
            return None
        waited_s = now - row[0][0]
        is_late = waited_s > PATIENCE_S
        _, data, hop = row.popleft() if is_late or waited_s <= IN_ORDER_S else row.pop()
        self.shed += is_late
        return data, hop, is_late

    def rank(self, data: bytes, hop: Hop) -> Rank:
        return rank_of(data, hop, self._rules.is_emergency)


def hand_over(take: Callable[[float], Taken | None], rules: CrowdRules, now: float, most: int) -> None:
    """What `take` gives, `most` of them, to those who deal with it."""
    for _ in range(most):
        taken = take(now)
        if taken is None:
            return
        data, hop, is_late = taken
        (rules.refuse if is_late else rules.receive)(data, hop)


def rank_of(data: bytes, hop: Hop, is_emergency: Callable[[bytes, Hop], bool]) -> Rank:
    """By the first bytes: a response or a request within a dialog is in progress, the rest asks for something."""
    if data[:7] != b"INVITE " and data[:8] != b"MESSAGE ":
        return Rank.IN_PROGRESS
    end = data.find(b" ", 8, 2_048)
    uri = data[data.index(b" ") + 1 : end] if end > 0 else b""
    if not uri or is_emergency(uri, hop):  # what cannot be read may be one
        return Rank.EMERGENCY
    return Rank.IN_PROGRESS if is_inside_dialog(data) else Rank.NEW


def is_inside_dialog(data: bytes) -> bool:
    """Does the request's To have a tag?"""
    return _TO_TAG.search(data, 0, 4_096) is not None
