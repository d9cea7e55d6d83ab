"""How an account's users sign in: passwords, sessions, pauses after failures, second factors, devices (pure).

An account that never said anything has the defaults, which are those of NIST SP 800-63B-4: length instead of
composition rules, no expiry, re-authentication once a day.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from engine.errors import FieldFault

MIN_LENGTH, MAX_LENGTH = 8, 128  # characters; SP 800-63B-4 §3.1.1.2: 15 when it is the only factor, else 8
MAX_REUSE = 24
MAX_AGE_DAYS = 730
MIN_IDLE_MINUTES, MAX_IDLE_MINUTES = 5, 10_080  # a week
MIN_ABSOLUTE_MINUTES, MAX_ABSOLUTE_MINUTES = 60, 43_200  # thirty days
MIN_FAILURES, MAX_FAILURES = 3, 20
MIN_PAUSE_S, MAX_PAUSE_S = 10, 900  # longer, and a stranger could keep somebody out for a working day
MAX_INACTIVE_DAYS = 730
MAX_REMEMBER_DAYS = 90


class TwoFactor(StrEnum):
    """Whether a second factor is asked for."""

    OFF = "off"  # of nobody
    OPTIONAL = "optional"  # of those who set one up
    REQUIRED = "required"  # of everybody: who has none sets one up at the next sign-in


class Remember(StrEnum):
    """Where the second factor is asked for."""

    REMEMBER = "remember"  # once for each browser, for `remember_days`
    EACH_LOGIN = "each_login"  # every time


@dataclass(frozen=True, slots=True)
class Policy:
    """An account's security policy. `failed_sign_ins`: failures before the first pause; `pause_s`: the longest one.

    A number of days of 0 means never; `password_reuse` 0 means any earlier password may be used again.
    """

    password_min_length: int = 15
    password_min_score: int = 3  # zxcvbn, 0 to 4: 3 is more than 10^8 guesses
    password_reuse: int = 0
    password_max_age_days: int = 0
    session_idle_minutes: int = 480  # a working day at a desk
    session_absolute_minutes: int = 1440  # SP 800-63B-4 §2.2.3: once a day
    failed_sign_ins: int = 5
    pause_s: int = 60
    inactive_days: int = 0
    two_factor: TwoFactor = TwoFactor.OPTIONAL
    email_codes: bool = True
    remember: Remember = Remember.EACH_LOGIN
    remember_days: int = 30

    @property
    def idle(self) -> dt.timedelta:
        return dt.timedelta(minutes=self.session_idle_minutes)

    @property
    def absolute(self) -> dt.timedelta:
        return dt.timedelta(minutes=self.session_absolute_minutes)

    @property
    def remembered_for(self) -> dt.timedelta:
        return dt.timedelta(days=self.remember_days)

    def values(self) -> dict[str, Any]:
        """The fields as they are stored."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def of(cls, row: object | None) -> "Policy":
        """The policy of a stored row; the defaults without one."""
        if row is None:
            return DEFAULT
        stored = {each.name: getattr(row, each.name) for each in fields(cls)}
        return cls(**_read(stored))


DEFAULT = Policy()
_RANGES: Mapping[str, tuple[int, int, str]] = {  # field → from, to, unit
    "password_min_length": (MIN_LENGTH, MAX_LENGTH, "characters"),
    "password_min_score": (0, 4, "zxcvbn"),
    "password_reuse": (0, MAX_REUSE, "passwords"),
    "password_max_age_days": (0, MAX_AGE_DAYS, "days, 0 for never"),
    "session_idle_minutes": (MIN_IDLE_MINUTES, MAX_IDLE_MINUTES, "minutes"),
    "session_absolute_minutes": (MIN_ABSOLUTE_MINUTES, MAX_ABSOLUTE_MINUTES, "minutes"),
    "failed_sign_ins": (MIN_FAILURES, MAX_FAILURES, "failures"),
    "pause_s": (MIN_PAUSE_S, MAX_PAUSE_S, "seconds"),
    "inactive_days": (0, MAX_INACTIVE_DAYS, "days, 0 for never"),
    "remember_days": (1, MAX_REMEMBER_DAYS, "days"),
}
_CHOICES: Mapping[str, type[StrEnum]] = {"two_factor": TwoFactor, "remember": Remember}


def range_of(name: str) -> tuple[int, int]:
    """The least and the most of a number of the policy."""
    least, most, _unit = _RANGES[name]
    return least, most


def changed(policy: Policy, changes: Mapping[str, Any]) -> tuple[Policy, tuple[FieldFault, ...]]:
    """The policy with those fields changed, and every fault; with faults the policy is as it was."""
    found = tuple(_faults(changes, policy))
    if found:
        return policy, found
    return Policy(**_read(policy.values() | dict(changes))), ()


def _faults(changes: Mapping[str, Any], policy: Policy) -> Iterator[FieldFault]:
    for name, value in changes.items():
        if name in _RANGES:
            least, most, unit = _RANGES[name]
            if not isinstance(value, int) or not least <= value <= most:
                yield FieldFault(name, f"Expected {least} to {most} ({unit}), got {value}.")
        elif name in _CHOICES and value not in tuple(_CHOICES[name]):
            yield FieldFault(name, f"Expected one of {', '.join(_CHOICES[name])}.")
    idle = changes.get("session_idle_minutes", policy.session_idle_minutes)
    absolute = changes.get("session_absolute_minutes", policy.session_absolute_minutes)
    if isinstance(idle, int) and isinstance(absolute, int) and idle > absolute >= MIN_ABSOLUTE_MINUTES:
        yield FieldFault(
            "session_idle_minutes", f"Expected at most the {absolute} minutes after which a session ends in any case."
        )


def _read(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _CHOICES[name](value) if name in _CHOICES else value for name, value in stored.items()}


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, StrEnum) else value
