"""How the phones of a canary group fare with a change, and what follows from it (pure).

What can be known of a phone from here: that a NOTIFY was accepted, that it asked for its files, that they could be
made and were handed out. A phone that takes a file and then fails on it says nothing; but it does not come back for
what it asks next, and that is seen.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

ACCEPTED, IN_TURN = "accepted", "waiting"  # engine.provisioning.resync: how a phone answered; it waits for its turn
MAX_MINUTES = 1440
MAX_CANARY = 1000


class Reached(StrEnum):
    """How far a phone is."""

    WAITING = "waiting"  # it has not asked yet, and was not reached
    ASKED = "asked"  # the resync was accepted; it has a while to come
    FETCHED = "fetched"
    FAILED = "failed"
    SILENT = "silent"  # the resync was accepted, and then nothing came
    ENDED = "ended"  # the roll-out is over, and nothing went wrong with it until then


_NOBODY = (
    "None of its canary phones is left: they were deleted, or the change does not reach them any more. Choose others "
    "and begin anew."
)
_BAD = frozenset({Reached.FAILED, Reached.SILENT})


@dataclass(frozen=True, slots=True)
class Limits:
    """What stops a roll-out. `failures`: how many canary phones may fail; `minutes`: how long one may take to come
    after it accepted the resync; `is_automatic`: publish to all as soon as every canary phone has it.
    """

    failures: int = 0
    minutes: int = 15
    is_automatic: bool = False


@dataclass(frozen=True, slots=True)
class Sign:
    """What the fetch log and the phone's row say of one phone since the roll-out began.

    `has_change`: it fetched its own file at a revision that holds the change. `failure`: why a file of it could not be
    handed out; "" when none failed. `resync`, `resync_at`: how the last NOTIFY was answered, and when.
    """

    phone_id: str
    mac: str
    label: str
    model: str
    has_change: bool
    failure: str = ""
    resync: str = ""
    resync_at: dt.datetime | None = None
    last_fetch_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class CanaryPhone:
    """One phone of the group. `sentence`: what is to say of it; "" for one that simply has the change."""

    phone_id: str
    mac: str
    label: str
    model: str
    reached: Reached
    sentence: str = ""
    last_fetch_at: dt.datetime | None = None

    @property
    def name(self) -> str:
        return self.label or self.mac


class Verdict(StrEnum):
    GO_ON = "go_on"  # not all have come yet
    STOP = "stop"
    READY = "ready"  # every phone that can be judged has it well


def phones(signs: Sequence[Sign], limits: Limits, started_at: dt.datetime, now: dt.datetime) -> tuple[CanaryPhone, ...]:
    """Each phone of the group as it is now."""
    return tuple(_phone(sign, limits, started_at, now) for sign in signs)


def _phone(sign: Sign, limits: Limits, started_at: dt.datetime, now: dt.datetime) -> CanaryPhone:
    reached, sentence = _reached(sign, limits, started_at, now)
    return CanaryPhone(sign.phone_id, sign.mac, sign.label, sign.model, reached, sentence, sign.last_fetch_at)


def _reached(sign: Sign, limits: Limits, started_at: dt.datetime, now: dt.datetime) -> tuple[Reached, str]:
    if sign.failure:
        return Reached.FAILED, sign.failure
    if sign.has_change:
        return Reached.FETCHED, ""
    if sign.resync_at is None or sign.resync_at < started_at:
        return Reached.WAITING, "Not asked to fetch yet."
    if sign.resync == ACCEPTED and now - sign.resync_at > dt.timedelta(minutes=limits.minutes):
        return (
            Reached.SILENT,
            f"It accepted the resync and has not fetched its files in {limits.minutes} minutes since.",
        )
    if sign.resync in {ACCEPTED, IN_TURN}:
        told = "accepted the resync; its files are expected" if sign.resync == ACCEPTED else "is about to be asked"
        return Reached.ASKED, f"It {told}."
    return Reached.WAITING, f"The resync did not reach it ({sign.resync}); it fetches at its next turn."


def ended(group: Sequence[CanaryPhone]) -> tuple[CanaryPhone, ...]:
    """The group of a roll-out that is over: what a phone fetched since then says nothing of it."""
    return tuple(
        phone if phone.reached is Reached.FAILED else replace(phone, reached=Reached.ENDED, sentence="")
        for phone in group
    )


def counts(group: Sequence[CanaryPhone]) -> dict[str, int]:
    """`phones`, `fetched`, `failed`, `waiting`: as stored in `rollout.counts`."""
    return {
        "phones": len(group),
        "fetched": sum(phone.reached is Reached.FETCHED for phone in group),
        "failed": sum(phone.reached in _BAD for phone in group),
        "waiting": sum(phone.reached in {Reached.WAITING, Reached.ASKED} for phone in group),
    }


def judge(group: Sequence[CanaryPhone], limits: Limits) -> tuple[Verdict, str]:
    """Whether to go on, and the sentence that says why not."""
    if not group:
        return Verdict.STOP, _NOBODY
    bad = [phone for phone in group if phone.reached in _BAD]
    if len(bad) > limits.failures:
        return Verdict.STOP, _reason(bad, len(group))
    settled = [phone for phone in group if phone.reached is Reached.FETCHED]
    if settled and len(settled) + len(bad) == len(group):
        return Verdict.READY, ""
    return Verdict.GO_ON, ""


def _reason(bad: Sequence[CanaryPhone], group: int) -> str:
    """At most 400 characters, for a person who has not watched."""
    first = bad[0]
    told = f"{len(bad)} of {group} canary phones failed. {first.name}: {first.sentence}"
    return told if len(told) <= 400 else told[:399] + "…"
