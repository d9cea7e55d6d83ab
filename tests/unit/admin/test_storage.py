"""Storage settings in API and page: audited, versioned, and nothing is shortened without being told what goes."""

import datetime as dt
import json
from typing import Any

import pytest
from aiohttp import FormData
from sqlalchemy import text
from sqlalchemy.event import listen

from admin.context import CERTIFICATES, DISK
from engine.accounts import store_storage
from engine.audit import pruning
from engine.audit.checkpoints import Signer
from engine.audit.verify import verify
from engine.config import Storage
from engine.db import READS, utc_now
from engine.models import EmergencyCall, Role
from engine.retention import CLOCK, NO_CLOCK, RecordRetention
from tests import aging
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
API, PAGE = "/api/v1/storage-settings", "/settings/storage"
ANY = {"If-Match": "*"}


async def aged(port: AdminPort, site: Site, days: int, upto: int) -> None:
    """As if those entries had been written, and signed, so many days before."""
    await aging.aged(port.database, port.keys, site.account.id, utc_now() - dt.timedelta(days=days), upto)


async def test_settings_are_read_and_changed_by_their_version(port: AdminPort, site: Site) -> None:
    """S1-20, S1-22: defaults until somebody says otherwise; one entry of Settings with before and after."""
    answer = await port.call("GET", API, site.auth)
    shown = await answer.json()
    days = {name: shown[name] for name in ("audit_days", "call_days", "session_days", "fetch_log_days")}
    assert days == {"audit_days": 0, "call_days": 0, "session_days": 0, "fetch_log_days": 90}
    assert (answer.headers["ETag"], shown["version"], shown["audit_begins_behind"]) == ('"0"', 0, 0)
    assert shown["audit"]["count"] >= 2
    assert shown["audit"]["since"] is not None
    assert shown["calls"] == {"count": 0, "is_least": False, "since": None}
    assert (await port.call("PATCH", API, site.auth, json={"audit_days": 400})).status == 428
    for etag, status in (('"0"', 200), ('"0"', 412), ('"1"', 200)):
        change = {"audit_days": 400 if etag == '"0"' else 0, "fetch_log_days": 30}
        answer = await port.call("PATCH", API, site.auth | {"If-Match": etag}, json=change)
        assert answer.status == status, await answer.text()
    entries = [json.loads(one.entry) for one in await port.entries(site.account.id)]
    changes = [one for one in entries if (one["event"], one["outcome"]) == ("storage_settings.update", "success")]
    assert [one["category"] for one in changes] == ["Settings", "Settings"]
    assert changes[0]["changes"]["audit_days"] == {"before": 0, "after": 400}
    assert changes[0]["changes"]["fetch_log_days"] == {"before": 90, "after": 30}
    assert changes[1]["changes"] == {"audit_days": {"before": 400, "after": 0}}


async def test_every_bad_field_is_told_and_nothing_typed_is_lost(port: AdminPort, site: Site) -> None:
    """S1-22: less than a year is refused with the reason, by API and page."""
    bad = {"audit_days": 364, "call_days": 1, "fetch_log_days": 0, "colour": "red"}
    answer = await port.call("PATCH", API, site.auth | ANY, json=bad)
    assert answer.status == 422
    assert {fault["field"] for fault in (await answer.json())["errors"]} == {"fetch_log_days", "colour"}
    answer = await port.call("PATCH", API, site.auth | ANY, json={"audit_days": 364, "call_days": 1})
    told = {fault["field"]: fault["detail"] for fault in (await answer.json())["errors"]}
    assert told.keys() == {"audit_days", "call_days"}
    assert "PCI DSS 10.5.1" in told["audit_days"]
    form = {"version": "0", "audit_days": "364", "call_days": "soon", "session_days": "0", "fetch_log_days": "0"}
    page = await port.call("POST", PAGE, await port.browser(site), data=form, allow_redirects=False)
    html = await page.text()
    assert page.status == 422
    assert html.count('class="fault"') == 3
    assert 'value="soon"' in html
    assert 'value="364"' in html


async def test_a_shorter_time_says_what_it_removes_and_waits_for_a_yes(port: AdminPort, site: Site) -> None:
    """S1-22: how many entries and calls, until when, with the exports at hand; the same in the API."""
    head = await port.head(site.account.id)
    await aged(port, site, 500, upto=head)
    at = utc_now() - dt.timedelta(days=600)
    async with port.database.engine.begin() as connection:
        await connection.execute(
            EmergencyCall.__table__.insert(),  # type: ignore[attr-defined]
            {
                "id": "call_1", "account_id": site.account.id, "call_id": "x", "dialed": "933", "kind": "test",
                "location_source": "none", "outcome": "answered", "received_at": at, "sent_at": at, "recorded_at": at,
                "ended_at": at, "caller": {}, "verdict": [], "flags": [], "peer": {},
            },
        )  # fmt: skip
    answer = await port.call("PATCH", API, site.auth | ANY, json={"audit_days": 365, "call_days": 400})
    fault = (await answer.json())["errors"][0]
    assert (answer.status, fault["field"]) == (422, "accept_removal")
    assert f"{head} audit entries until" in fault["detail"]
    assert "1 record of a call until" in fault["detail"]
    browser = await port.browser(site)
    form = {"version": "0", "audit_days": "365", "call_days": "400", "session_days": "0", "fetch_log_days": "90"}
    page = await port.call("POST", PAGE, browser, data=form, allow_redirects=False)
    html = await page.text()
    assert page.status == 422
    for part in ("audit entries until", "/audit/export?as=jsonl", "/calls/export.jsonl", 'name="accept_removal"'):
        assert part in html
    assert 'value="365"' in html
    assert (await (await port.call("GET", API, site.auth)).json())["version"] == 0
    page = await port.call("POST", PAGE, browser, data=form | {"accept_removal": "on"}, allow_redirects=False)
    assert (page.status, page.headers["Location"]) == (303, f"{PAGE}?done=storage-saved")
    answer = await port.call("PATCH", API, site.auth | ANY, json={"audit_days": 365, "call_days": 400})
    assert answer.status == 200, "it is not shorter than before"
    entry = [one for one in await port.entries(site.account.id) if one.event == "storage_settings.update"][-1]
    assert entry.outcome == "success"


async def test_records_are_counted_before_the_writer_is_taken(port: AdminPort, site: Site) -> None:
    """S1-22: counting what a shorter time removes takes as long as it takes, and nobody waits for it."""
    counts: list[bool] = []

    def seen(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "count(" in statement and "FROM emergency_call" in statement:
            counts.append(bool(connection.get_execution_options().get(READS)))

    browser = await port.browser(site)
    listen(port.database.engine.sync_engine, "before_cursor_execute", seen)
    form = {"version": "1", "audit_days": "0", "call_days": "500", "session_days": "0", "fetch_log_days": "90"}
    assert (await port.call("PATCH", API, site.auth | ANY, json={"call_days": 600})).status == 200
    assert (await port.call("POST", PAGE, browser, data=form, allow_redirects=False)).status == 303
    assert (await port.call("GET", API, site.auth)).status == 200
    assert (await port.call("GET", PAGE, browser)).status == 200
    assert counts == [True] * 6, "what there is by each of four, what would go by two"


async def test_a_pruned_log_is_shown_exported_and_told_as_such(port: AdminPort, site: Site) -> None:
    """S1-22: the page says where the log begins; the whole export of API and page verifies from there."""
    head = await port.head(site.account.id)
    await aged(port, site, 500, upto=head)
    end, signer = utc_now() - dt.timedelta(days=400), Signer(port.keys)
    prefix = await pruning.proved(port.database, signer, site.account.id, end)
    assert prefix is not None
    async with port.database.sessions.begin() as session:
        assert await pruning.leave_behind(session, signer, site.account.id, prefix, days=400)
    assert prefix.last == head
    shown = await (await port.call("GET", API, site.auth)).json()
    assert (shown["audit_begins_behind"], shown["audit"]["count"]) == (head, 1)
    browser = await port.browser(site)
    html = await (await port.call("GET", PAGE, browser)).text()
    assert f"The audit log begins behind entry {head}" in html
    for path, headers in (("/api/v1/exports/audit-log/jsonl", site.auth), ("/audit/export?as=jsonl", browser)):
        body = await (await port.call("GET", path, headers)).read()
        verdict = verify(body.splitlines(), key=Signer(port.keys).public_key)
        assert (verdict.fault, verdict.removed, verdict.removed_by) == ("", head, head + 1)
    table = await (await port.call("GET", "/audit/export?as=csv", browser)).text()
    assert f"\n{head}," not in table
    assert f"\n{head + 1}," in table


async def test_who_may_not_change_it_reads_it(port: AdminPort, site: Site) -> None:
    """S1-22: a change asks for the password typed lately and for the right; an operator sees none of it."""
    form = {"version": "0", "audit_days": "0"}
    auditor = await port.browser(site, Role.AUDITOR)
    page = await port.call("GET", PAGE, auditor)
    assert (page.status, '<button class="primary">Save' in await page.text()) == (200, False)
    assert (await port.call("POST", PAGE, auditor, data=form, allow_redirects=False)).status == 403
    assert (await port.call("GET", PAGE, await port.browser(site, Role.OPERATOR))).status == 403
    stale = await port.browser(site, proven_ago_s=3_600)
    assert (await port.call("PATCH", API, stale | ANY, json={"audit_days": 400})).status == 403, "prove it first"
    assert (await (await port.call("GET", API, site.auth)).json())["version"] == 0


async def test_a_disk_that_is_nearly_full_is_told_and_takes_no_uploads(port: AdminPort, site: Site) -> None:
    """S1-22: on Home and here for who may see the platform, in the metrics for all; uploads are refused in words."""
    watch = port.client.app[DISK]
    assert "callpoint_data_free_bytes" not in await (await port.call("GET", "/metrics", {})).text()
    watch.section, watch.measure = Storage(low_below_bytes=2_000_000, critical_below_bytes=1_000_000), lambda _: 900_000
    await watch.look()
    assert "callpoint_data_free_bytes 900000.0" in await (await port.call("GET", "/metrics", {})).text()
    owner = await port.browser(site)
    for path in ("/", PAGE):
        assert "The disk is nearly full: 1 MB left." in await (await port.call("GET", path, owner)).text()
    assert (
        "disk is nearly full" not in await (await port.call("GET", "/", await port.browser(site, Role.OPERATOR))).text()
    )
    asked = {"name": "logo.png", "kind": "logo"}
    answer = await port.call("POST", "/api/v1/assets", site.auth, data=b"a picture", params=asked)
    fault = (await answer.json())["errors"][0]
    assert (answer.status, fault["field"]) == (422, "file")
    assert "kept for records of 911 calls" in fault["detail"]
    form = FormData({"kind": "logo"})
    form.add_field("file", b"a picture", filename="logo.png")
    page = await port.call("POST", "/files", owner, data=form, allow_redirects=False)
    assert (page.status, "kept for records of 911 calls" in await page.text()) == (422, True)
    await port.site("Another", "other@example.com")
    assert "disk is nearly full" not in await (await port.call("GET", "/", owner)).text(), "one tenant among several"


async def test_a_certificate_that_ends_is_told_on_home(port: AdminPort, site: Site) -> None:
    """E-03: to who may see the platform, and to no tenant among several."""
    port.client.app[CERTIFICATES].alarms = ("The certificate of SIP over TLS ends on 2026-12-01.",)
    owner = await port.browser(site)
    assert "SIP over TLS ends on" in await (await port.call("GET", "/", owner)).text()
    assert "SIP over TLS" not in await (await port.call("GET", "/", await port.browser(site, Role.OPERATOR))).text()
    await port.site("Another", "other@example.com")
    assert "SIP over TLS" not in await (await port.call("GET", "/", owner)).text()


async def test_a_log_that_does_not_prove_itself_is_an_alarm_on_home(port: AdminPort, site: Site) -> None:
    """S1-22: an entry was changed behind Callpoint's back, so retention shortens nothing: who reads the log is told."""
    owner, operator = await port.browser(site), await port.browser(site, Role.OPERATOR)
    assert (await port.call("PATCH", API, owner | ANY, json={"audit_days": 365, "accept_removal": True})).status == 200
    await aged(port, site, 400, 2)
    async with port.database.engine.begin() as connection:
        await connection.execute(text("DROP TRIGGER IF EXISTS audit_entry_no_update"))
        forged = "UPDATE audit_entry SET entry = replace(entry, 'Acme', 'Evil') WHERE seq = 1 AND chain = :chain"
        await connection.execute(text(forged), {"chain": site.account.id})
    assert (await RecordRetention(port.database, port.keys).sweep(utc_now())).pruned == 0
    home = await (await port.call("GET", "/", owner)).text()
    assert "The audit log keeps entries that should have left. Entry 1 was changed after it was written" in home
    assert "export the log, verify the file" in home
    assert "should have left" not in await (await port.call("GET", "/", operator)).text(), "reads no log"
    async with port.database.sessions.begin() as session:
        await store_storage.set_removal_note(session, site.account.id, "")
        await store_storage.set_removal_note(session, CLOCK, NO_CLOCK, utc_now())
    home = await (await port.call("GET", "/", owner)).text()
    assert ("should have left" in home, "Nothing is removed by its age until the clock" in home) == (False, True)
    await port.site("Another", "other@example.com")
    assert "until the clock" not in await (await port.call("GET", "/", owner)).text(), "one tenant among several"
