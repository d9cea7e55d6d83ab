"""Whether the clock may be believed when records are to be removed by their age (pure).

A clock that starts in the wrong year makes everything old at once, and what was removed does not come back when the
clock is right again. So the time of the last round that was believed stays in the database, and a clock that is
further on than a round or a night's pause explains is believed only after it has run evenly for a whole day.
"""

import datetime as dt
from dataclasses import dataclass, field

AHEAD = dt.timedelta(hours=26)  # a node may have been off for a day
APART = dt.timedelta(minutes=5)  # by which two clocks that are both right may differ
PROVEN_S = 24 * 3600.0


@dataclass(slots=True)
class ClockTrust:
    """What one process knows of its clock. `_since`: from when on it is watched, by both clocks."""

    _since: tuple[dt.datetime, float] | None = field(default=None)

    def doubt(self, now: dt.datetime, ran_s: float, last: dt.datetime | None, of_server: dt.datetime | None) -> str:
        """Why the clock is not believed, in a sentence; empty: it is.

        Args:
            now: By the clock. ran_s: By a clock that only counts on (monotonic).
            last: When a round was believed last; None: never.
            of_server: By the database server's clock, where it has one of its own.
        """
        if are_apart(now, of_server):
            self._since = None
            return f"The clock here says {_told(now)}, the database server's {_told(of_server or now)}."
        if last is not None and -APART <= now - last <= AHEAD:
            self._since = None
            return ""
        if self._since is not None:
            evenly = now - self._since[0] - dt.timedelta(seconds=ran_s - self._since[1])
            if abs(evenly) > APART:
                self._since = None
            elif ran_s - self._since[1] >= PROVEN_S:
                self._since = None
                return ""
        if self._since is None:
            self._since = now, ran_s
        if last is None:
            return f"The clock says {_told(now)}, and no earlier round is known to compare it with."
        return f"The clock says {_told(now)}, and the last round that was believed was at {_told(last)}."


def are_apart(now: dt.datetime, of_server: dt.datetime | None) -> bool:
    """Whether the database server's clock, where it has one of its own, says another time."""
    return of_server is not None and abs(of_server - now) > APART


def _told(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
