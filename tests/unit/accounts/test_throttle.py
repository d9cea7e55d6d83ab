"""How fast passwords may be guessed."""

import pytest

from engine.accounts import throttle
from engine.accounts.throttle import Throttle
from engine.errors import TooManyRequests


def _attempts(counts: Throttle, email: str, ip: str, seconds: int, every_s: float = 1.0) -> int:
    """How many of one attempt every so many seconds are let through."""
    admitted = 0
    for at in range(int(seconds / every_s)):
        try:
            counts.admit(email, ip, at * every_s)
            admitted += 1
        except TooManyRequests:
            continue
    return admitted


def test_an_hour_of_guessing_from_one_address_gains_little() -> None:
    """AD-AUTH: five free, then the wait doubles up to a minute."""
    assert _attempts(Throttle(), "owner@acme.example", "192.0.2.1", 3600) <= 5 + 6 + 3600 // 60


def test_nobody_is_locked_out_for_good() -> None:
    """AD-AUTH: after any number of failures the next try is at most a minute away."""
    counts = Throttle()
    _attempts(counts, "owner@acme.example", "192.0.2.1", 3600)
    counts.admit("owner@acme.example", "192.0.2.1", 3600 + throttle.EMAIL_FROM_ADDRESS.max_s)


def test_an_attacker_elsewhere_delays_the_owner_by_seconds_only() -> None:
    """AD-AUTH: guesses for an address from elsewhere hold its owner back ten seconds at most."""
    counts = Throttle()
    for n in range(200):
        try:
            counts.admit("owner@acme.example", f"198.51.100.{n}", n * 1.0)
        except TooManyRequests:
            continue
    with pytest.raises(TooManyRequests) as caught:
        counts.admit("owner@acme.example", "192.0.2.1", 200.0)
    assert caught.value.retry_after_s <= throttle.EMAIL.max_s + 1


def test_a_right_password_clears_what_this_person_mistyped() -> None:
    """AD-AUTH: forgiven for this person, not for everybody behind the address."""
    counts = Throttle()
    for at in range(4):
        counts.admit("owner@acme.example", "192.0.2.1", float(at))
    counts.forgive("owner@acme.example", "192.0.2.1")
    for at in range(4):
        counts.admit("owner@acme.example", "192.0.2.1", 10.0 + at)


def test_many_at_once_gain_nothing() -> None:
    """AD-AUTH: an attempt counts when it is let in, not when it has failed."""
    counts = Throttle()
    admitted = 0
    for _ in range(100):
        try:
            counts.admit("owner@acme.example", "192.0.2.1", 0.0)
            admitted += 1
        except TooManyRequests:
            continue
    assert admitted == 5


def test_one_address_trying_many_people_is_slowed() -> None:
    """AD-AUTH: spraying one password over many addresses of people is counted by where it comes from."""
    counts = Throttle()
    admitted = 0
    for n in range(500):
        try:
            counts.admit(f"user{n}@acme.example", "192.0.2.1", 0.0)
            admitted += 1
        except TooManyRequests:
            continue
    assert admitted == throttle.ADDRESS.free


def test_an_ipv6_subscriber_is_one_address() -> None:
    """AD-AUTH: a /64 is one household; the next one is another."""
    counts = Throttle()
    for n in range(5):
        counts.admit("owner@acme.example", f"2001:db8:0:1::{n:x}", 0.0)
    with pytest.raises(TooManyRequests):
        counts.admit("owner@acme.example", "2001:db8:0:1:ffff::1", 0.0)
    counts.admit("owner@acme.example", "2001:db8:0:2::1", 0.0)


def test_the_slate_is_clean_after_a_quiet_quarter_of_an_hour() -> None:
    """AD-AUTH: old failures are forgotten."""
    counts = Throttle()
    _attempts(counts, "owner@acme.example", "192.0.2.1", 60)
    assert _attempts_from(counts, 60 + throttle.FORGET_AFTER_S + 1) == 5


def _attempts_from(counts: Throttle, now: float) -> int:
    admitted = 0
    for _ in range(10):
        try:
            counts.admit("owner@acme.example", "192.0.2.1", now)
            admitted += 1
        except TooManyRequests:
            break
    return admitted


def test_memory_is_bounded() -> None:
    """AD-AUTH: a flood of made-up addresses does not fill the memory."""
    counts = Throttle()
    for n in range(throttle.MAX_KEYS):
        counts.admit(f"user{n}@acme.example", f"2001:db8:{n % 65_536:x}:{n // 65_536:x}::1", 0.0)
    assert len(counts._counts) <= throttle.MAX_KEYS
