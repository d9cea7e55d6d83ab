"""Boots out of the fetch log."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from engine.provisioning import vendors
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


def test_a_file_that_such_phones_do_not_have_names_who_asked_for_it():
    """P-05, P-16: a Snom at a Yealink's address is found by its User-Agent; of other files nothing is said."""
    agent = "Mozilla/4.0 (compatible; snomD785-SIP 10.1.148.1 1.1.3-u 000413A1B2C3)"
    (boot,) = boots(
        newest_first(
            Event("fetch", "805ec0123456.cfg", 0),
            Event("mismatch", "snomD785-firmware.xml", 1, 404, "unknown", user_agent=agent),
            Event("mismatch", "805ec0123456.cfg", 2, 404, "vendor", user_agent=agent),
            Event("mismatch", "805ec0123456.xml", 3, 404, "vendor", user_agent="curl/8.5"),
            Event("mismatch", "805ec0123456.cfg", 4, 404, "model", user_agent=agent),
        ),
        named=vendors.load().named_by,
    )
    assert [file.asked_by for file in boot.files] == ["", "Snom D785", "Snom D785", "", ""]


def test_a_user_agent_of_no_family_here_is_named_as_it_names_itself():
    named = vendors.load().named_by
    assert [named(text) for text in ("Yealink", "Zoiper v5", "", "curl/8.5")] == ["Yealink", "Zoiper", "", ""]
