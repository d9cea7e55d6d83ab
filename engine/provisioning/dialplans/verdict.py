"""What a dial plan does with a number: the words every grammar answers in (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Completion(StrEnum):
    IMMEDIATE = "immediate"
    AFTER_TIMER = "after_timer"
    NEVER = "never"
    REWRITTEN = "rewritten"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one number: `sent` is what leaves the phone (None when nothing does), `rule` the rule that
    decided.
    """

    completion: Completion
    sent: str | None
    rule: str | None
    why: str


class DialPlan(Protocol):
    """One plan in one grammar. `broken` names the rules the phone would ignore because they are not well formed."""

    @property
    def broken(self) -> tuple[str, ...]: ...

    def decide(self, number: str) -> Verdict:
        """What happens when somebody types the number and waits. Never fails."""
        ...

    def remedy(self, number: str) -> str:
        """What to write so that the number is sent at once: a clause without a capital and without a full stop."""
        ...


Settings = Mapping[str, str]
Plans = dict[str, DialPlan]


def settled(number: str, typed: str, rule: str | None, sent: str) -> Verdict:
    """The verdict when a rule sends `typed` by itself, as `sent`."""
    if typed != number:
        return Verdict(Completion.NEVER, sent, rule, f"{typed} is dialled before {number} has been typed")
    if sent != number:
        return Verdict(Completion.REWRITTEN, sent, rule, f"sent as {sent or 'nothing'}")
    return Verdict(Completion.IMMEDIATE, sent, rule, "complete with its last digit")


def never(why: str, *, rule: str | None = None, sent: str | None = None) -> Verdict:
    return Verdict(Completion.NEVER, sent, rule, why)


def after_timer(number: str, why: str, *, rule: str | None = None) -> Verdict:
    return Verdict(Completion.AFTER_TIMER, number, rule, why)


def whole(settings: Settings, name: str, default: int) -> int:
    """A setting read as a whole number; the default where it is missing or is none."""
    text = settings.get(name, "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else default
