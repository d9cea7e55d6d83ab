"""When somebody who could not be told is tried again, and when no more."""

import datetime as dt

import pytest

from engine.e911.retries import Patience, Verdict

NOW = dt.datetime(2026, 11, 22, 7, 0, tzinfo=dt.UTC)


def test_back_off_doubles_spreads_and_has_an_end() -> None:
    patience = Patience()
    middle = [patience.pause(tries, 0.5).total_seconds() for tries in range(1, 12)]
    assert middle[:4] == [5, 10, 20, 40]
    assert middle[-1] == 600
    assert patience.pause(1, 0.0).total_seconds() == 3.75
    assert patience.pause(1, 1.0).total_seconds() == 6.25
    assert patience.pause(500, 1.0).total_seconds() == 600


@pytest.mark.parametrize(
    ("verdict", "tries", "age", "again_s"),
    [
        (Verdict.LATER, 1, dt.timedelta(0), 5),
        (Verdict.LATER, 19, dt.timedelta(days=30), 600),  # it waited for a mail server: it has its chances still
        (Verdict.LATER, 20, dt.timedelta(days=3), 600),
        (Verdict.LATER, 20, dt.timedelta(days=3, seconds=1), None),
        (Verdict.NEVER, 1, dt.timedelta(0), None),
        (Verdict.SENT, 1, dt.timedelta(0), None),
    ],
)
def test_it_is_tried_again_until_it_is_old_and_was_tried_often(
    verdict: Verdict, tries: int, age: dt.timedelta, again_s: int | None
) -> None:
    at = Patience().next_try(verdict, tries, created_at=NOW - age, now=NOW, jitter=0.5)
    assert at == (None if again_s is None else NOW + dt.timedelta(seconds=again_s))
