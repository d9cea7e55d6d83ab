"""The record's times: when a call came, when its INVITE left, and nothing told before its cause."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from admin.pages.calls import sent_after
from admin.pages.calls_ladder import _after
from engine.e911.dial import Dialed, Kind
from engine.e911.entries import CallRecorder, EmergencyCall
from engine.e911.location import Caller, Resolved, Source
from engine.edge.record import CallRecord
from engine.models import EmergencyCall as Row
from engine.sip.events import AnsweredLate, AttemptEnded, AttemptStarted, Finished
from engine.sip.forward import NO_EDIT, Hop, Target

HOP = Hop("udp", "192.0.2.1", 5060)
TARGET = Target("trunk_1", HOP, NO_EDIT, 2.0, 1.0)


class Trunks:
    """Whoever watches them hears of calls."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def stalls(self, name: str, _at: float) -> None:
        self.heard.append(f"{name} stalls")

    def progressed(self, name: str) -> None:
        self.heard.append(f"{name} progressed")

    def called(self, name: str, _at: float, **_said: object) -> None:
        self.heard.append(name)


class Logged:
    def log(self, event: str, **_values: object) -> None:
        raise AssertionError(event)


def call_at(received_at: datetime) -> EmergencyCall:
    return EmergencyCall(
        id="call_1", account_id="account_1", pbx_id=None, sip_call_id="a@b", dialed=Dialed(Kind.EMERGENCY, "911"),
        received_at=received_at, caller=Caller(), callback_number=None,
        resolved=Resolved(None, Source.NONE, None, None, (), received_at), faults=(), source=HOP,
    )  # fmt: skip


def test_the_record_tells_when_the_call_came_and_when_its_invite_left() -> None:
    """E-12: the two moments are those of the socket, not of the wake-up's clock; what follows is told no earlier."""
    entries: list[Mapping[str, Any]] = []
    trunks = Trunks()
    record = CallRecord(CallRecorder(entries.append), trunks, Logged())  # type: ignore[arg-type]
    before = datetime.now(UTC)
    call = call_at(before)
    record.has_left(call, before, 0.000412)
    after = datetime.now(UTC)
    # the trunk's refusal to be reached is heard within the same wake-up, dated by its clock: before the INVITE left
    record.take(
        [
            AttemptStarted(call, TARGET, 1, True, b"INVITE", 100.0),
            AttemptEnded(call, TARGET, 1, None, "unreachable", 100.0),
            Finished(call, "failed", 503, None, 100.0),
        ],
        100.003,
    )
    told, attempt, outcome = entries
    heard, left = (datetime.fromisoformat(told[name]) for name in ("received_at", "sent_at"))
    assert before <= left <= after
    assert heard == min(before, left - timedelta(microseconds=412))
    times = [told["received_at"], told["sent_at"], attempt["started_at"], attempt["ended_at"], outcome["at"]]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert attempt["started_at"] == told["sent_at"]
    assert trunks.heard == ["trunk_1"]


def test_a_call_that_nobody_noted_the_leaving_of_has_the_time_of_its_event() -> None:
    """E-12: a later attempt, or one whose call was told of in another wake-up."""
    entries: list[Mapping[str, Any]] = []
    record = CallRecord(CallRecorder(entries.append), Trunks(), Logged())  # type: ignore[arg-type]
    call = call_at(datetime.now(UTC) - timedelta(seconds=5))
    record.has_left(call, call.received_at, 0.0)
    record.take([], 100.0)  # forgotten with its wake-up
    record.take([AttemptStarted(call, TARGET, 1, True, b"INVITE", 99.0)], 100.0)
    assert timedelta(0) <= datetime.now(UTC) - timedelta(seconds=1) - datetime.fromisoformat(entries[0]["sent_at"])


def test_whoever_watches_the_trunks_hears_what_a_call_says_of_what_is_behind_them() -> None:
    """E-08, 0016: 100 and nothing more is no silence, and an answer that comes late is one."""
    trunks = Trunks()
    record = CallRecord(CallRecorder([].append), trunks, Logged())  # type: ignore[arg-type]
    call = call_at(datetime.now(UTC))
    record.take([AttemptEnded(call, TARGET, 1, None, "timeout", 100.0, is_trying_only=True)], 100.0)
    record.take([AttemptEnded(call, TARGET, 2, None, "timeout", 102.0)], 102.0)
    record.take([AttemptEnded(call, TARGET, 3, 404, "refused", 103.0)], 103.0)
    assert trunks.heard == ["trunk_1 stalls", "trunk_1", "trunk_1"]
    record.take([AnsweredLate(call, TARGET, 1, 200, True, 90.0, 104.0)], 104.0)
    assert trunks.heard[3:] == ["trunk_1 progressed", "trunk_1"]


@pytest.mark.parametrize(
    ("microseconds", "said", "after"),
    [
        (412, "0.41 ms after it came", "+0.41 ms"),
        (9_870, "9.87 ms after it came", "+9.87 ms"),
        (47_000, "47 ms after it came", "+47.0 ms"),
        (1_312_000, "1,312 ms after it came", "+1,312 ms"),
        (0, "at once", "0 ms"),
    ],
)
def test_a_call_s_page_tells_how_long_it_was_here(microseconds: int, said: str, after: str) -> None:
    """E-12: the true figure; a record of before, whose two moments are one, claims none."""
    at = datetime(2026, 11, 21, 20, tzinfo=UTC)
    delta = timedelta(microseconds=microseconds)
    assert sent_after(Row(received_at=at, sent_at=at + delta)) == said
    assert _after(delta) == after
