"""What a rotation would mean and how far a move to the next token has come, as numbers and sentences (pure)."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MAX_LISTED = 100  # phones that one answer or page names; the counts beside them are whole


class RotationState(StrEnum):
    NONE = "none"
    PUSHING = "pushing"  # two tokens work; files carry the next one's URL
    RETURNING = "returning"  # the same, back to the token that was in force before


class Mode(StrEnum):
    IMMEDIATE = "immediate"
    PUSH = "push"


@dataclass(frozen=True, slots=True)
class PhoneSeen:
    """A phone as these lists name it. `asked_at`: when it last asked in vain with a token that was rotated away."""

    phone_id: str
    mac: str
    label: str
    model: str
    last_fetch_at: dt.datetime | None = None
    asked_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Impact:
    """Whom an immediate rotation would leave behind, and what whoever had the URL could read. `unseen`: the phones
    silent for a week or for ever, at most `MAX_LISTED`, those silent for the longest first. `sip_passwords`: of lines
    on phones' keys.
    """

    phones: int
    booted: int  # they have the URL, and would need the new one
    seen_last_day: int
    seen_last_week: int
    last_seen_at: dt.datetime | None
    unseen: tuple[PhoneSeen, ...] = ()
    sip_passwords: int = 0

    @property
    def exposed(self) -> str:
        """What a rotation alone does not mend when the URL leaked."""
        if not self.phones:
            return "There is no phone yet whose file the URL could have opened."
        lines = {0: "", 1: " and the SIP password of 1 line"}
        told = lines.get(self.sip_passwords, f" and the SIP passwords of {self.sip_passwords:,} lines")
        change = "Rotating changes neither: change both too" if told else "Rotating does not change it: do that too"
        return (
            f"Whoever had the URL could fetch the phones' files, and in them stand the phone admin password{told}. "
            f"{change} if the URL has leaked."
        )

    @property
    def never(self) -> int:
        """How many have fetched nothing yet: a rotation costs them nothing."""
        return self.phones - self.booted

    @property
    def sentence(self) -> str:
        """What to know before pressing the button."""
        if not self.booted:
            return "No phone has fetched with it yet, so nothing is left behind."
        silent = self.booted - self.seen_last_week
        told = f"{_phones(self.booted)} must get the new URL; {self.seen_last_day} asked within the last day"
        return f"{told}, {silent} have been silent for a week or longer." if silent else f"{told}."


@dataclass(frozen=True, slots=True)
class Move:
    """`account.rotation` as stored: how a move goes on.

    automatic: cut when every phone that was ever seen has moved. is_return: the move goes back. unsettled_since: when
    the first leg of a move that was turned round began: what a phone fetched by its own URL since then, and before the
    turn, still sends it the other way.
    """

    automatic: bool = True
    is_return: bool = False
    unsettled_since: dt.datetime | None = None

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> "Move":
        stored = stored or {}
        since = stored.get("unsettled_since")
        return cls(
            bool(stored.get("automatic", True)),
            bool(stored.get("is_return", False)),
            dt.datetime.fromisoformat(since) if since else None,
        )

    def as_stored(self) -> dict[str, Any]:
        since = self.unsettled_since
        return {
            "automatic": self.automatic,
            "is_return": self.is_return,
            "unsettled_since": since.isoformat() if since is not None else None,
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a move has come. `phones` counts those that ever fetched, `moved` those that ask by the new URL, `told`
    those that have it in their files but have not asked by it yet. Without a move, `moved` are those that ask by the
    URL in force. `elsewhere`: in whose name it was asked for by the new URL, not where the phone was served before and
    without its certificate: they do not count as moved, and the account's people decide.
    """

    state: RotationState
    phones: int
    moved: int
    told: int
    never: int
    began_at: dt.datetime | None = None
    automatic: bool = False
    elsewhere: int = 0

    @property
    def left(self) -> int:
        return self.phones - self.moved

    @property
    def is_complete(self) -> bool:
        """Every phone that was ever seen asks by the new URL. An account of no phones has nothing to wait for."""
        return self.moved >= self.phones

    @property
    def sentence(self) -> str:
        what = "moved back" if self.state is RotationState.RETURNING else "moved"
        told = f"{self.moved} of {_phones(self.phones)} {what}"
        if not self.elsewhere:
            return told
        told += f". {self.elsewhere} asked by the new URL from another network than before and "
        told += "does not count." if self.elsewhere == 1 else "do not count."
        decide = "The cut waits for you: look at their addresses, then cut over or rotate at once."
        return f"{told} {decide}" if self.automatic else told


def _phones(count: int) -> str:
    return f"{count} phone" if count == 1 else f"{count} phones"
