"""What became of one try to tell somebody, and when the next one is due (pure)."""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of one try."""

    SENT = "sent"
    LATER = "later"  # worth another try
    NEVER = "never"  # the other side will not take it, ever


@dataclass(frozen=True, slots=True)
class Try:
    """`words`: what the other side said, or why it could not be asked."""

    verdict: Verdict
    words: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How retries are spaced: first pause and longest pause (seconds), and when a message is given up.

    A message is given up only when it is old *and* has been tried often: one that waited for a mail server to be set
    up has its chances still.
    """

    first_s: float = 5.0
    longest_s: float = 600.0
    give_up_after: dt.timedelta = dt.timedelta(days=3)
    tries_at_least: int = 20

    def pause(self, tries: int, jitter: float) -> dt.timedelta:
        """The pause after so many tries; `jitter` from 0 to 1 spreads it by a quarter either way."""
        doubled = self.first_s * 2 ** min(tries - 1, 32)
        return dt.timedelta(seconds=min(self.longest_s, doubled * (0.75 + jitter / 2)))

    def next_try(
        self, verdict: Verdict, tries: int, *, created_at: dt.datetime, now: dt.datetime, jitter: float
    ) -> dt.datetime | None:
        """When to try again after so many tries, this one included; None: not again."""
        is_old = now - created_at > self.give_up_after
        if verdict is not Verdict.LATER or (is_old and tries >= self.tries_at_least):
            return None
        return now + self.pause(tries, jitter)
