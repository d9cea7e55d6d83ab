"""The audit log's page, ranges and exports."""

import csv
import datetime as dt
import io
import json
import re
from zoneinfo import ZoneInfo

import pytest
from multidict import MultiDict
from sqlalchemy import select

from admin.audit_filters import parse_asked
from admin.audit_ranges import RANGES, end_of, first_instant, last_instant, span_of, start_of, week_begins_on
from engine.audit.events import WRITES, Event
from engine.audit.record import SYSTEM, record
from engine.audit.verify import verify, verify_each
from engine.errors import Invalid
from engine.models import AuditEntry
from tests.unit.admin.adminport import AdminPort, Site

DAY, MILLISECOND = dt.timedelta(days=1), dt.timedelta(milliseconds=1)
NEW_YORK, BERLIN = ZoneInfo("America/New_York"), ZoneInfo("Europe/Berlin")


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("name", "zone", "country", "since", "until"),
    [
        ("15m", NEW_YORK, "US", "2026-11-02T16:45:00", None),
        ("today", NEW_YORK, "US", "2026-11-02T05:00:00", None),
        ("yesterday", NEW_YORK, "US", "2026-11-01T04:00:00", "2026-11-02T04:59:59.999"),  # 25 hours
        ("this-week", NEW_YORK, "US", "2026-11-01T04:00:00", None),  # from Sunday
        ("this-week", BERLIN, "DE", "2026-11-01T23:00:00", None),  # from Monday
        ("last-week", BERLIN, "DE", "2026-10-25T23:00:00", "2026-11-01T22:59:59.999"),
        ("this-month", NEW_YORK, "US", "2026-11-01T04:00:00", None),
    ],
)
def test_ranges_are_those_of_the_shown_zone(
    name: str, zone: ZoneInfo, country: str, since: str, until: str | None
) -> None:
    """S2-06 to S2-09: days of 25 hours, and weeks that begin on Sunday or Monday."""
    span = span_of(name, utc("2026-11-02T17:00:00"), zone, country)
    assert (span.since, span.until) == (utc(since), None if until is None else utc(until))


@pytest.mark.parametrize(
    ("country", "language", "weekday"),
    [
        ("US", "en", 6), ("US", "en-GB", 0), ("GB", "en", 0), ("DE", "de-DE", 0), ("DE", "en-US", 6),
        ("US", "es-MX", 6), ("EG", "ar", 5), ("US", "ar-EG", 5), ("MV", "dv", 4), ("CA", "fr-CA", 6),
        ("FR", "zh-Hant-TW", 6), ("", "", 0),
    ],
)  # fmt: skip
def test_a_week_begins_as_it_does_for_the_language_and_the_country(country: str, language: str, weekday: int) -> None:
    """S2-09: the region of the language goes before the country."""
    assert week_begins_on(country, language) == weekday
    span = span_of("this-week", utc("2026-11-18T12:00:00"), BERLIN, country, language)
    assert span.since is not None
    assert span.since.astimezone(BERLIN).weekday() == weekday
    last = span_of("last-week", utc("2026-11-18T12:00:00"), BERLIN, country, language)
    assert last.until == span.since - dt.timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "zone",
    [
        "America/New_York",
        "Europe/Berlin",
        "Africa/Cairo",
        "America/Santiago",
        "Asia/Tehran",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "America/Havana",
        "Pacific/Apia",
        "UTC",
    ],
)
def test_ranges_join_without_gap_or_overlap_through_every_clock_change(zone: str) -> None:
    """S2-07, S2-08, S2-09, S0-39: yesterday ends where today begins, on days of 23, 24, 25 hours and those without a
    midnight; whatever the hour it is asked at.
    """
    there = ZoneInfo(zone)
    now = utc("2026-01-01T00:30:00")
    while now.year == 2026:
        today, yesterday = span_of("today", now, there, "DE"), span_of("yesterday", now, there, "DE")
        assert today.since is not None
        assert yesterday.since is not None
        assert yesterday.until is not None
        assert yesterday.until + dt.timedelta(milliseconds=1) == today.since <= now
        assert dt.timedelta(hours=23) <= today.since - yesterday.since <= dt.timedelta(hours=25)
        day = today.since.astimezone(there).date()
        assert day == now.astimezone(there).date()
        assert (start_of(day, there), end_of(day, there)) == (today.since, start_of(day + DAY, there) - MILLISECOND)
        assert yesterday.until.astimezone(there).date() == day - DAY
        now += dt.timedelta(hours=7)


def test_every_range_has_an_end_behind_its_start() -> None:
    now = utc("2026-03-08T09:00:00")
    for name in RANGES:
        span = span_of(name, now, NEW_YORK, "US")
        assert span.since is not None
        assert span.since < (span.until or now)


def test_exact_times_are_inclusive_also_where_the_clock_goes_back() -> None:
    """S2-10: 01:30 is shown twice that night: from the first one to the end of the second."""
    local = dt.datetime(2026, 11, 1, 1, 30)  # noqa: DTZ001  # as a clock there shows it
    assert first_instant(local, NEW_YORK) == utc("2026-11-01T05:30:00")
    assert last_instant(local, NEW_YORK, to_the_second=False) == utc("2026-11-01T06:30:59.999")
    asked = parse_asked(MultiDict({"from": "2026-11-01T01:30", "to": "2026-11-01T01:30:15"}), NEW_YORK)
    assert asked.filters.since == utc("2026-11-01T05:30:00")
    assert asked.filters.until == utc("2026-11-01T06:30:15.999")


def test_times_that_no_clock_shows_are_the_moment_it_is_put_on() -> None:
    """S2-10: 02:30 is left out that night: what is from then on begins at 03:00, what is until then ends with 01:59."""
    local = dt.datetime(2026, 3, 8, 2, 30)  # noqa: DTZ001  # as a clock there shows it
    assert first_instant(local, NEW_YORK) == utc("2026-03-08T07:00:00")
    assert last_instant(local, NEW_YORK, to_the_second=False) == utc("2026-03-08T06:59:59.999")
    half = ZoneInfo("Australia/Lord_Howe")  # half an hour
    local = dt.datetime(2026, 10, 4, 2, 10)  # noqa: DTZ001  # the same
    assert first_instant(local, half) == utc("2026-10-03T15:30:00")
    assert last_instant(local, half, to_the_second=True) == utc("2026-10-03T15:29:59.999")


def test_a_range_that_ends_before_it_begins_is_told() -> None:
    """S0-39, S2-10: it would find nothing, whatever is in the log. One day, one minute, the hour that is shown twice
    and one that is never shown are ranges like others.
    """
    for asked, told in (
        ({"start": "2026-11-02", "end": "2026-11-01"}, ["end"]), ({"start": "2026-11-01", "end": "2026-11-01"}, []),
        ({"from": "2026-11-02T10:01", "to": "2026-11-02T10:00"}, ["to"]),
        ({"from": "2026-11-02T10:00", "to": "2026-11-02T10:00"}, []),
        ({"from": "2026-11-01T01:45", "to": "2026-11-01T01:30"}, []),
        ({"from": "2026-03-08T02:30", "to": "2026-03-08T02:45"}, []),
        ({"start": "2026-11-02", "end": "2026-11-01", "from": "2026-11-02T10", "to": "2026-11-01T10"}, ["end", "to"]),
    ):  # fmt: skip
        try:
            found = list[str]() if parse_asked(MultiDict(asked), NEW_YORK) else None
        except Invalid as exc:
            found = [fault.field for fault in exc.fields]
        assert found == told, asked


def test_every_filter_that_cannot_be_read_is_told_at_once() -> None:
    bad = {"range": "soon", "from": "noon", "to": "2026-11-01T01:30Z", "category": "x", "action": "y", "group": "z"}
    bad |= {"type": "spoon", "start": "1.1.2026", "event": "user.eat", "outcome": "maybe", "before": "x"}
    bad |= {"actor": "a\x00b", "keyword": "x" * 201, "reads": "some"}
    with pytest.raises(Invalid) as told:
        parse_asked(MultiDict(bad), NEW_YORK)
    assert {fault.field for fault in told.value.fields} == bad.keys()


def test_hiding_reads_leaves_every_change_and_what_is_picked_by_name() -> None:
    """S0-41: the switch is part of the address and of saved views; picked events go before it."""
    hidden = parse_asked(MultiDict({"reads": "hidden", "outcome": "denied"}), NEW_YORK)
    assert hidden.filters.events == {event.value for event in WRITES}
    assert hidden.pairs == (("outcome", "denied"), ("reads", "hidden"))
    picked = parse_asked(MultiDict({"reads": "hidden", "event": "phone.list"}), NEW_YORK)
    assert picked.filters.events == {"phone.list"}
    assert parse_asked(MultiDict({}), NEW_YORK).filters.events == frozenset()


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("/api/v1/audit-log?outcome=maybe", "audit_log.list"),
        ("/api/v1/audit-log/groups?by=shoe", "audit_log.group"),
        ("/api/v1/exports/audit-log/csv?category=x", "audit_log.export"),
        ("/api/v1/exports/audit-log/jsonl?since=noon", "audit_log.export"),
        ("/audit/export?as=csv&outcome=maybe", "audit_log.export"),
    ],
)
async def test_a_bad_filter_is_a_failed_read_in_the_log(port: AdminPort, site: Site, path: str, event: str) -> None:
    """S0-30: nothing was read, and the entry says so: failure, with the status that was answered."""
    headers = site.auth if path.startswith("/api") else await port.browser(site)
    answer = await port.call("GET", path, headers)
    async with port.database.sessions() as session:
        row = await session.scalar(select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(1))
    assert row is not None
    assert (row.event, row.outcome, json.loads(row.entry)["status"]) == (event, "failure", answer.status)
    assert answer.status in {400, 422}


async def some_entries(port: AdminPort, site: Site, count: int) -> None:
    async with port.database.sessions.begin() as session:
        for number in range(count):
            target = ("phone", f"phone_{number:03}", "=cmd()")
            record(session, SYSTEM, Event.PHONE_UPDATE, resource=target, account_id=site.account.id)


async def test_a_whole_export_verifies_and_holds_every_entry(port: AdminPort, site: Site) -> None:
    """S1-03: JSON Lines with the signed checkpoints, streamed; more than one group of rows."""
    await some_entries(port, site, 1_500)
    answer = await port.call("GET", "/api/v1/exports/audit-log/jsonl", site.auth)
    assert answer.status == 200
    lines = (await answer.read()).decode().splitlines()
    verdict = verify(lines)
    assert (verdict.fault, verdict.checkpoints) == ("", 1)
    entries = await port.entries(site.account.id)
    assert verdict.entries == len(entries) - 2  # the export began and ended after what is in it
    assert [entry.event for entry in entries[-2:]] == ["audit_log.export", "audit_log.export_end"]


async def test_a_filtered_export_is_what_the_filters_show(port: AdminPort, site: Site) -> None:
    """S2-13: CSV that no spreadsheet takes for formulas, and JSON Lines whose entries hold each in itself."""
    await some_entries(port, site, 30)
    query = {"resource": "phone_01", "action": "update", "category": "Phones"}
    answer = await port.call("GET", "/api/v1/exports/audit-log/csv", site.auth, params=query)
    rows = list(csv.DictReader(io.StringIO((await answer.read()).decode("utf-8-sig"))))
    assert [row["resource_id"] for row in rows] == [f"phone_{number:03}" for number in range(10, 20)]
    assert {row["resource_name"] for row in rows} == {"'=cmd()"}
    answer = await port.call("GET", "/api/v1/exports/audit-log/jsonl", site.auth, params=query)
    lines = (await answer.read()).decode().splitlines()
    assert answer.headers["Callpoint-Audit-Checkpoint"].split()[1] in json.loads(lines[0])["checkpoint"]
    assert [json.loads(line)["entry"]["resource"]["id"] for line in lines[1:]] == [row["resource_id"] for row in rows]
    assert verify_each(lines).holds
    assert not verify(lines).holds
    answer = await port.call("GET", "/api/v1/exports/audit-log/csv", site.auth, params={"action": "x", "category": "y"})
    assert answer.status in {400, 422}
    assert {field["field"] for field in (await answer.json())["errors"]} >= {"action", "category"}


async def test_the_page_groups_with_counts_and_leads_to_each_group(port: AdminPort, site: Site) -> None:
    """S2-05: the filters stay, the group's value joins them."""
    await some_entries(port, site, 5)
    cookie = await port.browser(site)
    page = await (await port.call("GET", "/audit?group=description&category=Phones", cookie)).text()
    assert re.search(r"<strong>phone.update</strong>[^<]*<span[^>]*>5 entries", page)
    assert '<a href="/audit?category=Phones&amp;event=phone.update">Show in the list' in page
    assert page.count("Phone: =cmd()") == 5
    for by in ("account", "user", "ip"):
        assert "1 group" in await (await port.call("GET", f"/audit?group={by}&category=Phones", cookie)).text()


@pytest.mark.parametrize("typed", ["Quentin", "quentin é", "QUENTIN ÉC"])
async def test_the_actor_filter_finds_people_by_their_name(port: AdminPort, site: Site, typed: str) -> None:
    """S0-44: in the list, its live form and the API, from its beginning and in any letters."""
    quentin = site.owner
    async with port.database.sessions.begin() as session:
        row = await session.get(type(quentin), quentin.id)
        assert row is not None
        row.name = "Quentin Éclair"
        record(session, SYSTEM, Event.USER_UPDATE, row)
    browser = await port.browser(site)
    await (await port.call("GET", "/users", browser)).read()
    found = await (await port.call("GET", "/api/v1/audit-log", site.auth, params={"actor": typed})).json()
    assert {entry["actor"]["id"] for entry in found["data"]} == {quentin.id}
    page = await (await port.call("GET", "/audit", browser, params={"actor": typed})).text()
    assert 'aria-label="Details of user.list"' in page
    nobody = await (await port.call("GET", "/api/v1/audit-log", site.auth, params={"actor": "uentin"})).json()
    assert nobody["data"] == []
