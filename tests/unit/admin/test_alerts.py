"""Alerts and emergency calls over HTTP: the stream, displays, acknowledging, filters, exports."""

import asyncio
import csv
import datetime as dt
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse
from sqlalchemy import select

from admin.context import ALERT_PACE
from engine.accounts import store as accounts
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import utc_now
from engine.e911.alerts import MAX_OF_ONE
from engine.ids import new_id
from engine.models import Account, Role, Session, User, UserStatus
from tests.factories import add_location, emergency_call
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
PLACE = {
    "id": "location_0123456789abcdefghjkmnpqrs",
    "name": "Headquarters",
    "civic_address": {"RD": "Main", "HNO": "1"},
}


async def add_call(port: AdminPort, site: Site, **fields: Any) -> str:
    return (await add_calls(port, site, fields))[0]


async def add_calls(port: AdminPort, site: Site, *each: dict[str, Any]) -> list[str]:
    """Calls of one commit, each with what is said of it."""
    values = {
        "caller": {"name": "Dana", "extension": "101", "callback_number": "+15185550101"}, "location": PLACE,
        "location_source": "subnet", "at": utc_now(),
    }  # fmt: skip
    calls = [emergency_call(site.account, **values | fields) for fields in each]
    async with port.database.sessions.begin() as session:
        session.add_all(calls)
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, calls[0], account_id=site.account.id)
    return [call.id for call in calls]


class Events:
    """A reader of server-sent events (WHATWG HTML §9.2)."""

    def __init__(self, answer: ClientResponse) -> None:
        self.answer = answer

    async def next(self, *names: str) -> tuple[str, str, dict[str, Any]]:
        """The next event of these names, past all others: name, id, data."""
        async with asyncio.timeout(30):
            while True:
                name, identity, data = await self._one()
                if name in names:
                    return name, identity, json.loads(data)

    async def _one(self) -> tuple[str, str, str]:
        fields = {"event": "message", "id": "", "data": ""}
        while True:
            line = (await self.answer.content.readline()).decode()
            if not line:
                raise EOFError
            line = line.rstrip("\r\n")
            if not line and fields["data"]:
                return fields["event"], fields["id"], fields["data"]
            key, _, value = line.partition(":")
            if key in fields:
                fields[key] = value.removeprefix(" ")


@asynccontextmanager
async def watching(port: AdminPort, headers: dict[str, str], last: str = "") -> AsyncIterator[Events]:
    extra = {"Last-Event-ID": last} if last else {}
    answer = await port.call("GET", "/alerts/stream", headers | extra)
    assert answer.status == 200, await answer.text()
    assert answer.content_type == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    try:
        yield Events(answer)
    finally:
        answer.close()


async def test_a_call_is_told_to_the_page_that_watches_and_its_acknowledgement_to_all(
    port: AdminPort, site: Site
) -> None:
    """E-11: the stream opens with what is there, then each change; one presses, every page knows."""
    browser = await port.browser(site, Role.OPERATOR)
    old = await add_call(port, site)
    async with watching(port, browser) as first, watching(port, await port.browser(site)) as second:
        _, _, told = await first.next("opening")
        assert ([call["id"] for call in told["calls"]], told["is_whole"]) == ([old], True)
        await second.next("opening")
        fresh = await add_call(port, site, caller={"name": "Lee <b>", "extension": "102"})
        _, cursor, call = await first.next("call")
        assert (call["id"], call["rings"], call["kind"]) == (fresh, True, "emergency")
        assert call["sentence"] == "Emergency: 911 dialed by Lee <b>, extension 102 at Headquarters."
        assert "Lee &lt;b&gt;" in call["html"]
        assert "<b>" not in call["html"].replace("<b>\n", "")
        answer = await port.call("POST", f"/api/v1/emergency-calls/{fresh}/acknowledge", browser)
        assert (answer.status, (await answer.json())["is_first"]) == (200, True)
        await second.next("call")
        _, _, call = await second.next("call")
        assert (call["id"], call["rings"], call["acknowledged_by"]) == (fresh, False, "Somebody")
    async with watching(port, browser, cursor) as again:
        _, _, told = await again.next("opening")
        assert ([call["id"] for call in told["calls"]], told["is_whole"]) == ([fresh], False)
        assert told["calls"][0]["is_acknowledged"]


async def test_a_page_too_many_is_shown_the_calls_told_why_and_asks_again(port: AdminPort, site: Site) -> None:
    """E-11: one key fills its own places and nobody else's; what is refused is the watching, not the seeing."""
    call = await add_call(port, site)
    key = await port.key(site, "calls:read")
    async with AsyncExitStack() as streams:
        for _ in range(MAX_OF_ONE):
            await (await streams.enter_async_context(watching(port, key))).next("opening")
        refused = await streams.enter_async_context(watching(port, key))
        _, _, told = await refused.next("opening")
        assert [one["id"] for one in told["calls"]] == [call]
        _, _, told = await refused.next("trouble")
        assert "10 pages watch calls with this session or key already" in told["sentence"]
        assert told["again_s"] == 15
        desk = await streams.enter_async_context(watching(port, await port.browser(site, Role.OPERATOR)))
        assert (await desk.next("opening", "trouble"))[0] == "opening"
        await add_call(port, site)
        await desk.next("call")


async def test_the_stream_has_an_entry_at_its_start_and_one_at_its_end(port: AdminPort, site: Site) -> None:
    """S0-30: who watched, from when to when, is in the audit log."""
    async with watching(port, site.auth) as events:
        await events.next("opening")
    await add_call(port, site)  # the server finds out when it writes
    async with asyncio.timeout(30):
        while True:
            entries = await port.entries(site.account.id)
            found = [entry for entry in entries if entry.event.startswith("emergency_call.follow")]
            if len(found) == 2:
                break
            await asyncio.sleep(0.05)
            await add_call(port, site)
    assert [entry.event for entry in found] == ["emergency_call.follow", "emergency_call.follow_end"]
    start, end = (json.loads(entry.entry) for entry in found)
    assert end["bulk_id"] == start["request"]["id"]


@pytest.mark.parametrize("reason", ["ended", "disabled", "role"])
async def test_who_may_no_longer_look_is_told_so_and_sees_nothing_more(
    port: AdminPort, site: Site, reason: str
) -> None:
    """E-11: a page never goes blind in silence: the stream says why it ends."""
    pace = port.client.app[ALERT_PACE]  # type: ignore[index]  # the client's application is ours
    pace.beat_s, pace.ask_s = 0.1, 0.2
    browser = await port.browser(site, Role.OPERATOR)
    async with watching(port, browser) as events:
        await events.next("opening")
        async with port.database.sessions.begin() as session:
            row = (await session.scalars(select(Session).order_by(Session.id.desc()))).first()
            assert row is not None
            user = await session.get(User, row.user_id)
            assert user is not None
            if reason == "ended":
                row.ended_at = utc_now()
            elif reason == "disabled":
                user.status = UserStatus.DISABLED
                record(session, SYSTEM, Event.USER_UPDATE, user)
            else:
                user.role = "nothing"
                record(session, SYSTEM, Event.USER_UPDATE, user)
        name, _, told = await events.next("ended")
    assert (name, bool(told["sentence"])) == ("ended", True)


async def test_an_open_page_keeps_its_own_session_from_idling(port: AdminPort, site: Site) -> None:
    """E-11: what the front desk looks at all day is not signed out for idleness; the absolute end stands."""
    browser = await port.browser(site, Role.OPERATOR)
    pace = port.client.app[ALERT_PACE]  # type: ignore[index]  # the client's application is ours
    pace.beat_s, pace.ask_s = 0.1, 0.2
    hour_ago = utc_now() - dt.timedelta(hours=1)
    async with watching(port, browser) as events:
        await events.next("opening")
        async with port.database.sessions.begin() as session:
            row = (await session.scalars(select(Session).order_by(Session.id.desc()))).first()
            assert row is not None
            row.seen_at = hour_ago
        async with asyncio.timeout(60):
            while True:
                async with port.database.sessions() as session:
                    row = (await session.scalars(select(Session).order_by(Session.id.desc()))).first()
                if row is not None and row.seen_at > hour_ago:
                    return
                await asyncio.sleep(0.2)


async def test_a_display_shows_alerts_for_weeks_and_nothing_else(port: AdminPort, site: Site) -> None:
    """E-11: no idle end, a bounded life, calls and acknowledging alone, listed and ended like any session."""
    call = await add_call(port, site)
    answer = await port.call("POST", "/alerts/display", await port.browser(site), allow_redirects=False)
    assert answer.status == 303
    cookie = answer.cookies["callpoint_session"]
    assert int(cookie["max-age"]) == 30 * 86_400
    display = {"Cookie": f"callpoint_session={cookie.value}", "Sec-Fetch-Site": "same-origin"}
    async with port.database.sessions.begin() as session:
        row = (await session.scalars(select(Session).where(Session.method == accounts.DISPLAY))).one()
        row.seen_at = utc_now() - dt.timedelta(days=20)
        row.created_at = utc_now() - dt.timedelta(days=29)
    for method, path, expected in (
        ("GET", "/alerts", 200), ("GET", f"/calls/{call}", 200), ("GET", "/calls", 200), ("GET", "/", 403),
        ("GET", "/settings", 403), ("GET", "/phones", 403), ("GET", "/api/v1/emergency-calls", 403),
        ("GET", "/api/v1/account", 403), ("POST", "/alerts/display", 403), ("GET", "/locations/tests", 403),
        ("POST", f"/api/v1/emergency-calls/{call}/acknowledge", 200),
    ):  # fmt: skip
        answer = await port.call(method, path, display, allow_redirects=False)
        assert (path, answer.status) == (path, expected)
    page = await (await port.call("GET", "/alerts", display)).text()
    assert 'href="/settings"' not in page
    async with port.database.sessions.begin() as session:
        row = (await session.scalars(select(Session).where(Session.method == accounts.DISPLAY))).one()
        row.created_at = utc_now() - dt.timedelta(days=31)
    answer = await port.call("GET", "/alerts", display, allow_redirects=False)
    assert answer.status in {302, 303, 401}


async def test_later_acknowledgements_are_told_who_was_first(port: AdminPort, site: Site) -> None:
    """E-12: idempotent over the API and the page; without the right it is refused; notes have a limit."""
    call = await add_call(port, site)
    narrow = await port.key(site, "calls:read")
    answer = await port.call("POST", f"/api/v1/emergency-calls/{call}/acknowledge", narrow)
    assert answer.status == 403
    answer = await port.call(
        "POST", f"/api/v1/emergency-calls/{call}/acknowledge", site.auth, json={"note": "x" * 1001}
    )
    assert answer.status == 422
    answers = [
        await port.call("POST", f"/api/v1/emergency-calls/{call}/acknowledge", site.auth, json={"note": note})
        for note in ("False alarm", "Something else")
    ]
    first, second = [await answer.json() for answer in answers]
    assert (first["is_first"], second["is_first"]) == (True, False)
    assert {**second, "is_first": True} == first
    browser = await port.browser(site, Role.OPERATOR)
    answer = await port.call(
        "POST", f"/calls/{call}/acknowledge", browser, data={"note": "late", "from": "alerts"}, allow_redirects=False
    )
    assert answer.headers["Location"].startswith("/alerts?done=acknowledged-before")
    shown = await (await port.call("GET", f"/api/v1/emergency-calls/{call}", site.auth)).json()
    assert shown["acknowledgement_note"] == "False alarm"


async def test_calls_are_filtered_by_kind_outcome_place_caller_and_time(port: AdminPort, site: Site) -> None:
    """E-12: the list in pages and API; every bad filter is named."""
    now = utc_now()
    real = await add_call(port, site, outcome="failed", sent_at=now - dt.timedelta(days=2))
    test = await add_call(port, site, kind="test", dialed="933", outcome="answered", location=None)
    other = await add_call(port, site, caller={"name": "100%_sure", "extension": "7"}, outcome="answered")
    for query, expected in (
        ({"kind": "emergency"}, {real, other}), ({"kind": "test"}, {test}), ({"outcome": "failed"}, {real}),
        ({"location_id": PLACE["id"]}, {real, other}), ({"location_id": "none"}, {test}), ({"caller": "%_S"}, {other}),
        ({"caller": "5550101"}, {real, test}), ({"since": (now - dt.timedelta(hours=1)).isoformat()}, {test, other}),
        ({"until": (now - dt.timedelta(hours=1)).isoformat()}, {real}), ({"acknowledged": "true"}, set()),
        ({"acknowledged": "false"}, {real, test, other}), ({"caller": "nobody"}, set()),
    ):  # fmt: skip
        answer = await port.call("GET", "/api/v1/emergency-calls", site.auth, params=query)
        assert {row["id"] for row in (await answer.json())["data"]} == expected, query
    bad = {"kind": "x", "outcome": "y", "location_id": "z", "since": "now", "acknowledged": "perhaps"}
    answer = await port.call("GET", "/api/v1/emergency-calls", site.auth, params=bad)
    assert {fault["field"] for fault in (await answer.json())["errors"]} == set(bad)
    browser = await port.browser(site)
    day = (now - dt.timedelta(days=2)).strftime("%Y-%m-%d")
    page = await (await port.call("GET", "/calls", browser, params={"kind": "emergency", "caller": "dana"})).text()
    assert (f"/calls/{real}" in page, f"/calls/{test}" in page) == (True, False)
    page = await (await port.call("GET", "/calls", browser, params={"from": "x", "to": day})).text()
    assert "Expected a day" in page
    assert f"/calls/{real}" in page  # the list is there all the same


async def test_calls_are_exported_with_who_was_told_and_who_acknowledged(port: AdminPort, site: Site) -> None:
    """E-16: CSV and JSON Lines, newest first, over more than one group; no cell is a formula; audited."""
    await add_calls(
        port, site,
        *({"sent_at": utc_now() - dt.timedelta(minutes=at), "caller": {"name": f"=cmd {at}"}} for at in range(205)),
    )  # fmt: skip
    answer = await port.call("GET", "/api/v1/exports/emergency-calls/csv", site.auth)
    rows = list(csv.DictReader(io.StringIO((await answer.read()).decode("utf-8-sig"))))
    assert [row["caller_name"] for row in rows] == [f"'=cmd {at}" for at in range(205)]
    assert rows[0]["location_name"] == "Headquarters"
    answer = await port.call("GET", "/calls/export.jsonl", await port.browser(site), params={"caller": "cmd 204"})
    lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [line["caller_name"] for line in lines] == ["=cmd 204"]
    assert (await port.entries(site.account.id))[-1].event == "emergency_call.export"
    answer = await port.call("GET", "/calls/export.csv", await port.browser(site), params={"from": "never"})
    assert answer.status == 422


async def test_tests_of_locations_are_planned_begun_and_drilled_over_the_api(port: AdminPort, site: Site) -> None:
    """E-15: the plan by ETag, a round, its cancelling, what was not tested for 90 days, a drill."""
    civic = {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "1", "RD": "Main"}
    answer = await port.call("POST", "/api/v1/locations", site.auth, json={"name": "HQ", "civic_address": civic})
    location = (await answer.json())["id"]
    answer = await port.call("GET", "/api/v1/sweep-plan", site.auth)
    assert ((await answer.json())["cadence"], answer.headers["ETag"]) == ("off", '"0"')
    for tag, expected in (('"7"', 412), ('"0"', 200), ('"0"', 412), ('"1"', 200)):
        answer = await port.call(
            "PATCH", "/api/v1/sweep-plan", site.auth | {"If-Match": tag}, json={"cadence": "weekly", "hour": 3}
        )
        assert answer.status == expected
    assert (await answer.json())["next_at"] is not None
    answer = await port.call("GET", "/api/v1/location-tests", site.auth, params={"untested_days": "90"})
    (row,) = (await answer.json())["data"]
    assert (row["location_id"], row["passed_at"], row["detail"]) == (location, None, "Never tested.")
    answer = await port.call("POST", "/api/v1/sweeps", site.auth)
    assert answer.status == 201
    sweep = (await answer.json())["id"]
    assert (await port.call("POST", "/api/v1/sweeps", site.auth)).status == 409
    answer = await port.call("POST", f"/api/v1/sweeps/{sweep}/cancel", site.auth)
    assert (await answer.json())["state"] == "cancelled"
    answer = await port.call("POST", "/api/v1/drills", site.auth, json={"location_id": location})
    drill = (await answer.json())["id"]
    shown = await (await port.call("GET", f"/api/v1/emergency-calls/{drill}", site.auth)).json()
    assert (shown["kind"], shown["outcome"], shown["attempts"], shown["invite"]) == ("drill", "drill", [], None)
    answer = await port.call("POST", "/api/v1/drills", site.auth, json={"location_id": new_id("location")})
    assert answer.status == 422
    browser = await port.browser(site)
    answer = await port.call("GET", f"/calls/{drill}", browser)
    assert answer.status == 200
    assert "Drill of 911" in await answer.text()
    page = await (await port.call("GET", "/locations/tests", browser)).text()
    assert "not tested for 90 days or ever" in page


async def test_where_no_number_is_set_aside_for_tests_page_and_api_say_so(port: AdminPort, site: Site) -> None:
    """E-15: neither overdue nor failed; what is refused says why, in the form and in the answer."""
    london = {"country": "GB", "A3": "London", "RD": "Strand", "HNO": "1", "PC": "WC2R 0EZ"}
    answer = await port.call("POST", "/api/v1/locations", site.auth, json={"name": "London", "civic_address": london})
    assert answer.status == 201, await answer.text()
    answer = await port.call("PATCH", "/api/v1/sweep-plan", site.auth | {"If-Match": "*"}, json={"cadence": "weekly"})
    (fault,) = (await answer.json())["errors"]
    assert (answer.status, fault["field"]) == (422, "cadence")
    assert "Ask the carrier" in fault["detail"]
    assert (await port.call("POST", "/api/v1/sweeps", site.auth)).status == 409
    overdue = await port.call("GET", "/api/v1/location-tests", site.auth, params={"untested_days": "90"})
    assert (await overdue.json())["data"] == []
    browser = await port.browser(site)
    page = await (await port.call("GET", "/locations/tests", browser)).text()
    assert "1 location is in a country with no number for test calls" in page
    assert "were not tested for" not in page
    assert "Test all now</button>" not in page
    form = {"version": "0", "cadence": "weekly", "weekday": "1", "hour": "10"}
    refused = await port.call("POST", "/locations/tests/plan", browser, data=form)
    assert refused.status == 422
    assert "Ask the carrier how to test" in await refused.text()
    home = await (await port.call("GET", "/", browser)).text()
    assert "Dial 933" not in home


async def test_a_drill_and_alerts_speak_of_the_number_that_people_dial_there(port: AdminPort, site: Site) -> None:
    """E-11, E-15: a drill in Leeds is one of 999; alerts name the account's number, and a lost call's the place's."""
    leeds = {"country": "GB", "A3": "Leeds"}
    async with port.database.sessions.begin() as session:
        place = await add_location(session, site.account, name="Leeds", civic_address=leeds)
        account = await session.get(Account, site.account.id)
        assert account is not None
        account.country = "AU"
        record(session, SYSTEM, Event.ACCOUNT_UPDATE, account)
    made = await (await port.call("POST", "/api/v1/drills", site.auth, json={"location_id": place.id})).json()
    kept = await (await port.call("GET", f"/api/v1/emergency-calls/{made['id']}", site.auth)).json()
    assert kept["dialed"] == "999"
    lost = PLACE | {"civic_address": leeds}
    await add_calls(
        port, site,
        {"dialed": "112", "outcome": "failed", "location": lost},
        {"dialed": "112", "outcome": "cancelled", "flags": ["hung_up_unanswered"]},
        {"dialed": "112", "outcome": "answered", "flags": ["answered_after_all"]},
    )  # fmt: skip
    browser = await port.browser(site)
    page = await (await port.call("GET", f"/calls/{made['id']}", browser)).text()
    assert "Drill of 999" in page
    assert "Nothing was sent to a carrier or to 999" in page
    alerts = await (await port.call("GET", "/alerts", browser)).text()
    assert "Every 000 call of this account" in alerts
    assert "NOT ANSWERED: call 999 from another telephone now" in alerts
    assert "The caller hung up after tries had failed: call back now" in alerts
    assert "Answered after all, late" in alerts
    assert 'data-number="000"' in alerts
    assert "911" not in alerts.replace("E911", "")


async def test_where_sources_disagree_the_other_place_is_named(port: AdminPort, site: Site) -> None:
    """E-05, E-11: the front desk can send somebody to both, from the page that rings and from the call's."""
    other = {"name": "Boston <b>", "civic_address": {"country": "US", "HNO": "1", "RD": "Elm", "A3": "Boston"}}
    said = [
        {"source": "switch_port", "said": "Headquarters", "age_s": 1, "taken": True, "why": "seen there"},
        *({"source": name, "said": "Boston <b>", "age_s": 1, "taken": False, "why": "", "elsewhere": other}
          for name in ("phone", "line")),
    ]  # fmt: skip
    call = await add_call(port, site, location=PLACE, flags=["disagreement", "unplaced_sighting"], verdict=said)
    browser = await port.browser(site)
    alerts = await (await port.call("GET", "/alerts", browser)).text()
    assert "Sources disagree about the place: perhaps <strong>Boston &lt;b&gt;, 1 Elm, Boston, US</strong>." in alerts
    assert "The phone was last seen where no location is: it may have been moved. Ask the caller." in alerts
    page = await (await port.call("GET", f"/calls/{call}", browser)).text()
    assert "last seen at a switch or access point that no location has" in page
    assert page.count("Or perhaps: <strong>Boston &lt;b&gt;, 1 Elm, Boston, US</strong>") == 2
