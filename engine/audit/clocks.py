"""Which time an entry is given when the clock is behind the entry before it (pure; decisions 0044, 0048)."""

import datetime as dt
from collections.abc import Callable, Mapping
from typing import NamedTuple

HELD = dt.timedelta(minutes=5)  # by which two clocks that are both right may differ (`engine.clock_trust`)
TOLD = dt.timedelta(seconds=1)  # what nodes that keep time are apart by, and clocks are corrected by, is not told
AGAIN = dt.timedelta(days=1)  # so long a difference that was told is not told again, and so large at most
Clock = Callable[[], dt.datetime]  # UTC


class Step(NamedTuple):
    """That the clock was set back, as this process told it. `at`: by that clock, from there on."""

    at: dt.datetime
    behind: dt.timedelta

    def is_the_same(self, now: dt.datetime, behind: dt.timedelta) -> bool:
        """Whether a clock that is behind the entry before is no news: another node's is ahead, as was told."""
        is_lately = dt.timedelta(0) <= now - self.at < AGAIN
        return is_lately and behind <= AGAIN and abs(behind - self.behind) <= HELD


class Steps:
    """The newest step of each chain, as this process told and committed it."""

    def __init__(self) -> None:
        self._told: dict[str, Step] = {}

    def of(self, chain: str) -> Step | None:
        return self._told.get(chain)

    def remember(self, told: Mapping[str, Step]) -> None:
        """They are committed."""
        self._told |= told


class Given(NamedTuple):
    """An entry's time. `behind`: by how much the clock was behind the entry before; zero: it was not. `is_step`:
    somebody set the clock back: times begin anew here, and an entry of its own says so.
    """

    at: dt.datetime
    behind: dt.timedelta
    is_step: bool = False

    @property
    def told(self) -> dict[str, float]:
        """What the entry says of it."""
        return {"clock_behind_s": self.behind.total_seconds()} if self.behind >= TOLD else {}


def given(now: dt.datetime, before: dt.datetime | None, told: Step | None = None) -> Given:
    """The time of an entry written `now`, by the clock.

    Args:
        before: The time of the entry before it; None: it is the chain's first.
        told: The last step that this process told of the chain.
    """
    if before is None or now >= before:
        return Given(now, dt.timedelta(0))
    behind = before - now
    is_step = behind > HELD and not (told is not None and told.is_the_same(now, behind))
    return Given(now if is_step else before, behind, is_step)
