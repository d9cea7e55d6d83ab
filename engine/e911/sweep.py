"""Testing every location with 933: when the next round is due, and what a test call showed. Pure.

A test call takes the way of a real one to its last branch and ends at the carrier's test line, which reads the number
and address back. What can be judged without ears: it went out, it carried the address of the location it was placed
from, and the carrier answered. Whether the words read back are right, a person has to hear now and then.
"""

import datetime as dt
import ipaddress
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.models import Cadence

UNTESTED_AFTER = dt.timedelta(days=90)
CALL_ID_MARK = "@sweep.callpoint"  # ends the SIP Call-ID of a sweep's calls


class Outcome(StrEnum):
    """What a test of a location showed; stored names."""

    PASSED = "passed"
    WRONG_PLACE = "wrong_place"  # another location was conveyed, or none
    EARLIER_ADDRESS = "earlier_address"  # it passed, and the address was changed since
    NOT_ANSWERED = "not_answered"
    NOT_RECORDED = "not_recorded"  # the SIP side did not take it, or no record came
    NO_CALLER = "no_caller"  # nothing there can call, so there was nothing to test
    NO_TEST_LINE = "no_test_line"  # no number is set aside for tests in its country, so none was dialed


FAILURES = frozenset({Outcome.WRONG_PLACE, Outcome.EARLIER_ADDRESS, Outcome.NOT_ANSWERED, Outcome.NOT_RECORDED})
SKIPPED = frozenset({Outcome.NO_CALLER, Outcome.NO_TEST_LINE})
EARLIER_ADDRESS_WORDS = (
    "A 933 call passed with an earlier address of this location, which was changed since; none proved the one it has "
    "now."
)
NO_TEST_LINE_WORDS = (
    "No number is set aside for test calls in this country, so none was dialed. Ask the carrier how to test emergency "
    "calls from here."
)


@dataclass(frozen=True, slots=True)
class Judged:
    """The outcome, and a sentence of what was seen."""

    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True)
class TestCaller:
    """Who calls from a location: a line, its phone's MAC and an address on the location's network, as far as known."""

    __test__ = False  # no test of pytest's
    sip_user: str
    display_name: str
    mac: str | None
    source_ip: str | None


def judge(location_id: str, conveyed: tuple[str, str] | None, call_outcome: str, status: int | None) -> Judged:
    """What a recorded test call shows of the location it was placed from.

    Args:
        conveyed: Identifier and name of the location that the call carried; None: none.
    """
    if call_outcome != "answered":
        said = f" ({status})" if status else ""
        return Judged(Outcome.NOT_ANSWERED, f"No carrier answered the test call{said}: a 911 call would fare alike.")
    if conveyed is None:
        return Judged(Outcome.WRONG_PLACE, "The call was answered, but carried no address.")
    if conveyed[0] != location_id:
        return Judged(
            Outcome.WRONG_PLACE,
            f"The call was answered, but carried the address of {conveyed[1] or 'another location'}.",
        )
    return Judged(Outcome.PASSED, "Answered, with this location's address.")


def next_round(cadence: str, weekday: int, hour: int, now: dt.datetime, zone: zoneinfo.ZoneInfo) -> dt.datetime | None:
    """When the next round begins (UTC), later than `now`; None: never by itself.

    Weekly on that weekday (Monday 0), monthly on the month's first such day, at that hour by the account's clocks. An
    hour that a change of clocks leaves out begins when it is over.
    """
    if cadence == Cadence.OFF:
        return None
    day = now.astimezone(zone).date()
    while True:
        at = dt.datetime.combine(day, dt.time(hour), tzinfo=zone).astimezone(dt.UTC)
        if at > now and day.weekday() == weekday and (cadence == Cadence.WEEKLY or day.day <= 7):
            return at
        day += dt.timedelta(days=1)


def address_inside(subnets: Sequence[str], others: Sequence[str]) -> str | None:
    """An address in one of the location's subnets that no narrower subnet of another location holds; None: there is
    none.
    """
    rivals = [ipaddress.ip_network(text) for text in others]
    for text in subnets:
        network = ipaddress.ip_network(text)
        narrower = [
            rival
            for rival in rivals
            if rival.version == network.version and rival != network and rival.subnet_of(network)  # type: ignore[arg-type]
        ]
        last = network.num_addresses - 1
        for at in {min(1, last), last // 2, max(last - 1, 0), last // 3, last // 5}:
            address = network[at]
            if not any(address in rival for rival in narrower):
                return str(address)
    return None
