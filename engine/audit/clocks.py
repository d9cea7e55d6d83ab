"""Which time an entry is given when the clock is behind the entry before it (pure; decision 0044)."""

import datetime as dt
from collections.abc import Callable
from typing import NamedTuple

HELD = dt.timedelta(minutes=5)  # by which two clocks that are both right may differ (`engine.clock_trust`)
TOLD = dt.timedelta(seconds=1)  # what nodes that keep time are apart by, and clocks are corrected by, is not told
Clock = Callable[[], dt.datetime]  # UTC


class Given(NamedTuple):
    """An entry's time. `behind`: by how much the clock was behind the entry before; zero: it was not."""

    at: dt.datetime
    behind: dt.timedelta

    @property
    def is_step(self) -> bool:
        """Somebody set the clock back: times begin anew here, and an entry of its own says so."""
        return self.behind > HELD

    @property
    def told(self) -> dict[str, float]:
        """What the entry says of it."""
        return {"clock_behind_s": self.behind.total_seconds()} if self.behind >= TOLD else {}


def given(now: dt.datetime, before: dt.datetime | None) -> Given:
    """The time of an entry written `now`, by the clock, behind one of `before`; None: it is the chain's first."""
    if before is None or now >= before:
        return Given(now, dt.timedelta(0))
    behind = before - now
    return Given(now if behind > HELD else before, behind)
