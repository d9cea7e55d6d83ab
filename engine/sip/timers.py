"""The timers of RFC 3261 §17 (table 4) and where running ones are kept.

Nearly all deadlines have one of a handful of durations, so each duration has a lane: what was armed later is due
later, arming and disarming cost the same however many run, and a disarmed timer leaves nothing behind. At thousands of
calls a second a heap would carry 32 s of stale entries, each holding its transaction in memory, and a table would be
made anew each time it has grown full, which keeps a 911 waiting for a tenth of a second. So the items themselves know
who stands before and behind them.
"""

from math import inf

T1 = 0.5  # round trip estimate, RFC 3261 §17.1.1.1
T2 = 4.0  # longest interval between retransmissions of a non-INVITE request or an INVITE response
T4 = 5.0  # how long a message may linger in the network
TRANSACTION_S = 64 * T1  # B, F, H, J, L, M and, on UDP, D
TIMER_C_S = 185.0  # "MUST be larger than 3 minutes" (§16.6 step 11)
LATE_TRYING_S = 7 * T1  # when a client's timer E reaches T2: a 100 is due for any request by then (RFC 4320 §4.1)
# A 911 that was answered by nothing but 100 goes to the next target as well: by then 95 % of local connections ring, as
# ITU-T E.721 asks of a network.
EMERGENCY_PROGRESS_S = 6.0
OWN_TEST_S = 60.0  # a test call that this element placed itself: should it die, nothing rings on at a carrier
EMERGENCY_TIMER_C_S = 3_600.0  # a PSAP may queue a call on one 183 for longer than three minutes
MAX_INTERVAL_A_S = 16.0  # the last doubling before timer B ends it all

_SPARE_LANES = 32  # lanes of unusual durations kept although empty


class Timed:
    """Something with at most one running timer. `lane` is None when none runs; all four are kept by `Deadlines`."""

    __slots__ = ("after", "before", "due", "lane")

    def __init__(self) -> None:
        self.lane: Lane | None = None
        self.before: Timed | None = None
        self.after: Timed | None = None
        self.due = 0.0


class Lane:
    """Items of one duration in the order they were armed."""

    __slots__ = ("first", "last")

    def __init__(self) -> None:
        self.first: Timed | None = None
        self.last: Timed | None = None

    def append(self, item: Timed) -> None:
        last = self.last
        if last is None:
            self.first = item
        else:
            last.after = item
            item.before = last
        self.last = item
        item.lane = self

    def remove(self, item: Timed) -> None:
        """Take it out; nothing of it points anywhere then, so that nothing waits for the collector."""
        before, after = item.before, item.after
        if before is None:
            self.first = after
        else:
            before.after = after
            item.before = None
        if after is None:
            self.last = before
        else:
            after.before = before
            item.after = None
        item.lane = None


class Deadlines:
    """Running timers of one kind, each of an item. `now` must not go back."""

    __slots__ = ("_lanes", "soonest")

    def __init__(self) -> None:
        self._lanes: dict[float, Lane] = {}
        self.soonest = inf  # nothing is due before; a timer disarmed meanwhile may have made it so

    def arm(self, item: Timed, duration: float, now: float) -> None:
        """Start the item's timer; one that runs already is replaced."""
        if item.lane is not None:
            item.lane.remove(item)
        lane = self._lanes.get(duration)
        if lane is None:
            lane = self._new_lane(duration)
        item.due = due = now + duration
        lane.append(item)
        if due < self.soonest:  # noqa: PLR1730 - a call fewer, three times a call
            self.soonest = due

    def disarm(self, item: Timed) -> None:
        if item.lane is not None:
            item.lane.remove(item)

    def next(self) -> float | None:
        """When the first one is due, None when none runs."""
        earliest = None
        for lane in self._lanes.values():
            first = lane.first
            if first is not None and (earliest is None or first.due < earliest):
                earliest = first.due
        return earliest

    def take_due(self, now: float) -> list[Timed]:
        """Disarm and return what is due by `now`, in order of duration and then of arming."""
        due: list[Timed] = []
        for lane in self._lanes.values():
            item = lane.first
            while item is not None and item.due <= now:
                lane.remove(item)
                due.append(item)
                item = lane.first
        self.soonest = inf if (first := self.next()) is None else first
        return due

    def running(self) -> list[Timed]:
        found: list[Timed] = []
        for lane in self._lanes.values():
            item = lane.first
            while item is not None:
                found.append(item)
                item = item.after
        return found

    def _new_lane(self, duration: float) -> Lane:
        if len(self._lanes) >= _SPARE_LANES:
            self._lanes = {length: lane for length, lane in self._lanes.items() if lane.first is not None}
        lane = self._lanes[duration] = Lane()
        return lane
