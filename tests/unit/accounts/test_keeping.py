"""How long records may be kept: ranges with their reasons, and what counts as shorter."""

import datetime as dt
from typing import Any

import pytest

from engine.accounts.keeping import DEFAULT, LEAST_DAYS, Keeping, changed, shortened

NAMES = ("audit_days", "call_days", "session_days")


def test_everything_but_the_fetch_log_is_kept_for_ever_until_somebody_says_otherwise() -> None:
    """S1-22: nothing goes by itself that somebody may be asked for."""
    assert Keeping.of(None) is DEFAULT
    assert DEFAULT.values() == {"audit_days": 0, "call_days": 0, "session_days": 0, "fetch_log_days": 90}
    now = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    assert [DEFAULT.end_of(name, now) for name in NAMES] == [None] * 3
    assert DEFAULT.end_of("fetch_log_days", now) == dt.datetime(2026, 8, 24, tzinfo=dt.UTC)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [LEAST_DAYS - 1, 1, -1, 36_501, True, None, "400", 400.0])
def test_less_than_a_year_is_refused_with_the_reason(name: str, value: Any) -> None:
    """S1-22: PCI DSS 10.5.1 asks for twelve months; inquiries into calls come late."""
    keeping, faults = changed(DEFAULT, {name: value})
    assert keeping is DEFAULT
    assert [fault.field for fault in faults] == [name]
    assert "months" in faults[0].detail


@pytest.mark.parametrize("value", [0, 3_651, -1, False, "90"])
def test_the_fetch_log_is_never_kept_for_ever(value: Any) -> None:
    assert [fault.field for fault in changed(DEFAULT, {"fetch_log_days": value})[1]] == ["fetch_log_days"]


def test_every_fault_is_told_at_once_and_good_values_hold() -> None:
    keeping, faults = changed(DEFAULT, {"audit_days": 1, "call_days": 365, "session_days": 2, "fetch_log_days": 0})
    assert ({fault.field for fault in faults}, keeping) == ({"audit_days", "session_days", "fetch_log_days"}, DEFAULT)
    assert changed(DEFAULT, {"audit_days": 365, "fetch_log_days": 1}) == (Keeping(365, 0, 0, 1), ())


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0, 365, True), (365, 0, False), (400, 365, True), (365, 400, False), (0, 0, False), (365, 365, False)],
)
def test_for_ever_is_longer_than_any_number_of_days(before: int, after: int, expected: bool) -> None:
    found = shortened(Keeping(audit_days=before), Keeping(audit_days=after))
    assert found == ({"audit_days"} if expected else frozenset())


@pytest.mark.parametrize("value", [-1, -400, 1, 364, 36_501])
@pytest.mark.parametrize("name", NAMES)
def test_a_stored_number_that_no_form_lets_through_removes_nothing(name: str, value: int) -> None:
    """S1-22: whoever wrote it did not ask Callpoint."""
    now = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    assert Keeping(**{name: value}).end_of(name, now) is None
    assert Keeping(fetch_log_days=0).end_of("fetch_log_days", now) is None
    assert Keeping(fetch_log_days=-1).end_of("fetch_log_days", now) is None
    assert Keeping(**{name: 365}).end_of(name, now) == now - dt.timedelta(days=365)
