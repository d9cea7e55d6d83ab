"""How canary phones fare, and what follows."""

import datetime as dt
from dataclasses import replace

import pytest

from engine.provisioning import canary
from engine.provisioning.canary import Limits, Reached, Sign, Verdict

STARTED = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
NOW = STARTED + dt.timedelta(minutes=20)
PHONE = Sign("phone_1", "805ec0123456", "Desk", "T46U", has_change=False)
ACCEPTED = {"resync": "accepted", "resync_at": STARTED + dt.timedelta(minutes=1)}


def reached(sign: Sign, now: dt.datetime = NOW) -> Reached:
    return canary.phones([sign], Limits(minutes=15), STARTED, now)[0].reached


@pytest.mark.parametrize(
    ("sign", "expected"),
    [
        (PHONE, Reached.WAITING),
        (replace(PHONE, resync="accepted", resync_at=STARTED - dt.timedelta(days=1)), Reached.WAITING),
        (replace(PHONE, resync="no answer", resync_at=STARTED + dt.timedelta(minutes=1)), Reached.WAITING),
        (replace(PHONE, resync="waiting", resync_at=STARTED + dt.timedelta(minutes=1)), Reached.ASKED),
        (replace(PHONE, **ACCEPTED), Reached.SILENT),
        (replace(PHONE, has_change=True, **ACCEPTED), Reached.FETCHED),
        (replace(PHONE, has_change=True, failure="a.cfg cannot be made: 911 would wait."), Reached.FAILED),
    ],
)
def test_each_phone_is_where_its_signs_say(sign, expected):
    """P-15: fetched, failed, silent after it accepted the resync, or simply not there yet."""
    assert reached(sign) is expected


def test_a_phone_has_the_minutes_it_was_given_after_it_accepted():
    sign = replace(PHONE, **ACCEPTED)
    assert reached(sign, STARTED + dt.timedelta(minutes=16)) is Reached.ASKED
    assert reached(sign, STARTED + dt.timedelta(minutes=16, seconds=1)) is Reached.SILENT


def group(*signs: Sign) -> tuple[canary.CanaryPhone, ...]:
    return canary.phones(signs, Limits(), STARTED, NOW)


def test_one_failure_too_many_stops_it_with_a_sentence_that_names_the_phone():
    good, bad = (
        replace(PHONE, has_change=True),
        replace(PHONE, phone_id="phone_2", failure="x.cfg cannot be made: 911."),
    )
    verdict, reason = canary.judge(group(good, bad), Limits(failures=0))
    assert verdict is Verdict.STOP
    assert reason == "1 of 2 canary phones failed. Desk: x.cfg cannot be made: 911."
    assert canary.judge(group(good, bad), Limits(failures=1)) == (Verdict.READY, "")
    assert len(canary.judge(group(replace(bad, failure="y" * 900)), Limits())[1]) == 400


def test_it_is_ready_when_every_phone_has_it_and_not_before():
    good = replace(PHONE, has_change=True)
    assert canary.judge(group(good, good), Limits())[0] is Verdict.READY
    assert canary.judge(group(good, PHONE), Limits())[0] is Verdict.GO_ON


def test_a_group_of_which_no_phone_is_left_ends_and_does_not_wait_for_ever():
    """P-15: nobody tries the change any more, so nothing can come of waiting."""
    verdict, reason = canary.judge(group(), Limits())
    assert (verdict, "begin anew" in reason) == (Verdict.STOP, True)


def test_counts_add_up():
    found = canary.counts(group(PHONE, replace(PHONE, has_change=True), replace(PHONE, failure="x"), PHONE))
    assert found == {"phones": 4, "fetched": 1, "failed": 1, "waiting": 2}
