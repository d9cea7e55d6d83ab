"""Boots out of the fetch log."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from engine.provisioning.timeline import boots

START = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)


@dataclass
class Event:
    kind: str
    file: str
    after_s: float
    status_code: int = 200
    reason: str | None = None
    method: str = "GET"
    size_bytes: int = 1200
    duration_us: int = 850
    ip: str = "203.0.113.7"
    user_agent: str = "Yealink SIP-T46U 108.86.0.20"
    evidence: dict[str, Any] = field(default_factory=lambda: {"count": 1})

    @property
    def at(self) -> dt.datetime:
        return START + dt.timedelta(seconds=self.after_s)


def newest_first(*events: Event) -> list[Event]:
    return list(reversed(events))


def test_a_pause_of_more_than_a_minute_begins_another_boot():
    """P-16: files asked for within seconds are one boot, told in the order they were asked for, latest boot first."""
    found = boots(
        newest_first(
            Event("denied", "805ec0123456.boot", 0, 404, "absent"),
            Event("fetch", "y000000000108.cfg", 1.2),
            Event("fetch", "805ec0123456.cfg", 61.0),  # within a minute of the file before
            Event("not_modified", "y000000000108.cfg", 122.0, 304),
            Event("not_modified", "805ec0123456.cfg", 122.5, 304),
        )
    )
    assert [[file.name for file in boot.files] for boot in found] == [
        ["y000000000108.cfg", "805ec0123456.cfg"],
        ["805ec0123456.boot", "y000000000108.cfg", "805ec0123456.cfg"],
    ]
    assert [boot.status for boot in found] == ["current", "fetched"]
    assert found[1].took_s == 61.0
    assert found[1].files[1].duration_ms == 0.85
    assert not found[1].files[0].is_fault, "a file that is known not to be there is how a phone looks around"


def test_a_file_that_was_refused_makes_the_boot_a_failed_one_and_says_why():
    sentence = "911 would wait for 4 s on line 1."
    found = boots(
        newest_first(
            Event("fetch", "y000000000108.cfg", 0),
            Event(
                "failed", "805ec0123456.cfg", 1, 503, "UnsafeDialPlan", evidence={"count": 3, "sentences": [sentence]}
            ),
        )
    )
    assert found[0].status == "failed"
    assert (found[0].files[1].note, found[0].files[1].count) == (sentence, 3)


def test_a_resync_is_told_with_the_boot_that_follows_it_and_a_held_request_is_no_boot():
    found = boots(
        newest_first(
            Event("fetch", "a.cfg", 0),
            Event("held", "held", 300),
            Event("resync", "check-sync", 600, 200, "accepted"),
            Event("fetch", "a.cfg", 605),
            Event("resync", "check-sync", 900, 408, "no answer"),
            Event("fetch", "a.cfg", 4000),
        )
    )
    assert [boot.resync for boot in found] == ["", "accepted", ""]


def test_no_event_is_no_boot():
    assert boots([]) == []
