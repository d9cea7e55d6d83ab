"""Saved views, groups, hints and exports of the audit log over HTTP."""

import asyncio
import csv
import datetime as dt
import io
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientPayloadError
from sqlalchemy import select, text
from sqlalchemy.event import listen

from admin import audit_export
from admin.audit_export import Export, Incomplete
from engine.audit import store_beginnings
from engine.audit.events import Event
from engine.audit.owed import OwedIndexing
from engine.audit.record import SYSTEM, record
from engine.audit.store import Filters
from engine.audit.verify import verify, verify_each
from engine.db import utc_now
from engine.ids import new_id
from engine.models import Anomaly, Role, SavedView, User
from engine.retention import SETTLE
from tests.unit.admin.adminport import CIVIC, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
VIEWS = "/api/v1/audit-views"
GROUPS = "/api/v1/audit-log/groups"
BODY = {"name": "Refused today", "query": "outcome=denied&range=today"}


async def made(port: AdminPort, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    answer = await port.call("POST", VIEWS, headers, json=BODY | body)
    assert answer.status == 201, await answer.text()
    view: dict[str, Any] = await answer.json()
    return view


async def seen(port: AdminPort, headers: dict[str, str]) -> list[str]:
    return [view["name"] for view in (await (await port.call("GET", VIEWS, headers)).json())["data"]]


async def test_a_view_is_ones_own_until_it_is_shared(port: AdminPort, site: Site) -> None:
    """S2-13: nobody else sees it, by list or by identifier; shared, all who may read the log do."""
    mine, theirs = await port.browser(site), await port.browser(site, Role.ACCOUNT_MANAGER)
    view = await made(port, mine)
    address = f"{VIEWS}/{view['id']}"
    assert (await seen(port, mine), await seen(port, theirs)) == (["Refused today"], [])
    assert (await port.call("GET", address, theirs)).status == 404
    assert (await port.call("PATCH", address, theirs | {"If-Match": "*"}, json={"name": "x"})).status == 404
    change = mine | {"If-Match": f'"{view["version"]}"'}
    answer = await port.call("PATCH", address, change, json={"is_shared": True})
    assert answer.status == 200
    assert await seen(port, theirs) == ["Refused today"]
    assert (await port.call("PATCH", address, change, json={"name": "x"})).status == 412
    auditor = await port.browser(site, Role.AUDITOR)
    assert await seen(port, auditor) == ["Refused today"]
    assert (await port.call("POST", VIEWS, auditor, json=BODY)).status == 403  # reads all, changes nothing
    other = await port.site("Beta", "owner@beta.example")
    assert await seen(port, other.auth) == []
    assert (await port.call("GET", address, other.auth)).status == 404


async def test_shared_views_are_changed_by_their_owner_and_who_runs_the_account(port: AdminPort, site: Site) -> None:
    """S2-13: a key that may save its own views changes nobody else's."""
    key = await port.key(site, "audit:read", "audit:write")
    view = await made(port, await port.browser(site), is_shared=True)
    address, change = f"{VIEWS}/{view['id']}", {"If-Match": "*"}
    assert (await port.call("PATCH", address, key | change, json={"name": "Mine now"})).status == 403
    assert (await port.call("DELETE", address, key | change)).status == 403
    manager = await port.browser(site, Role.ACCOUNT_MANAGER)
    assert (await port.call("PATCH", address, manager | change, json={"name": "Ours"})).status == 200
    assert (await port.call("DELETE", address, manager | change)).status == 204
    entries = [entry for entry in await port.entries(site.account.id) if entry.resource_id == view["id"]]
    assert [(entry.event, entry.outcome) for entry in entries] == [
        ("audit_view.create", "success"), ("audit_view.update", "denied"), ("audit_view.delete", "denied"),
        ("audit_view.update", "success"), ("audit_view.delete", "success"),
    ]  # fmt: skip


async def test_a_view_keeps_filters_that_can_be_read_and_nothing_else(port: AdminPort, site: Site) -> None:
    """S2-13: every bad field at once; unknown filters, none at all and a second view of one name are refused."""
    for query in ("spoon=1", "range=soon", "", "limit=5", "&".join(["event=user.create"] * 400)):
        answer = await port.call("POST", VIEWS, site.auth, json=BODY | {"query": query})
        assert answer.status in {400, 422}, query
    await made(port, site.auth)
    answer = await port.call("POST", VIEWS, site.auth, json=BODY)
    assert (answer.status, [each["field"] for each in (await answer.json())["errors"]]) == (422, ["name"])
    view = await made(port, site.auth, name="In order", query="?range=today&actor=&outcome=denied")
    assert view["query"] == "range=today&outcome=denied"
    page = await (await port.call("GET", f"/audit?{view['query']}", site.auth)).text()
    assert '<option value="today" selected>' in page


async def test_a_view_finds_what_was_done_to_records_that_are_gone(port: AdminPort, site: Site) -> None:
    """S2-13, S1-51, S1-53: a location, a user and a key that were deleted since; who owned it may be gone too."""
    body = {"name": "Gone office", "civic_address": CIVIC}
    place = await (await port.call("POST", "/api/v1/locations", site.auth, json=body)).json()
    invited = {"email": "gone@acme.example", "name": "Gwen Gone", "role": "auditor"}
    user = await (await port.call("POST", "/api/v1/users", site.auth, json=invited)).json()
    spare = await (
        await port.call("POST", "/api/v1/api-keys", site.auth, json={"name": "spare", "scopes": ["audit:read"]})
    ).json()
    await port.call("GET", "/api/v1/audit-log", {"Authorization": f"Bearer {spare['key']}"})
    browser = await port.browser(site)
    for name, query, told in (
        ("Place", f"target={place['id']}", "Gone office"), ("Person", f"user={user['id']}", "No entry"),
        ("Key", f"actor={spare['id']}", "audit_log.list"),
    ):  # fmt: skip
        view = await made(port, browser, name=name, query=query)
        if name == "Place":
            for path in (f"locations/{place['id']}", f"users/{user['id']}", f"api-keys/{spare['id']}"):
                gone = await port.call("DELETE", f"/api/v1/{path}", site.auth | {"If-Match": "*"})
                assert gone.status == 204, (path, await gone.text())
        page = await port.call("GET", f"/audit?{view['query']}", browser)
        text = await page.text()
        assert page.status == 200, name
        assert told in text, name
        assert f'value="{query.partition("=")[2]}"' in text, "the filter stands in its field, to be cleared"
        answer = await port.call("GET", f"/api/v1/audit-log?{view['query']}", site.auth)
        assert answer.status == 200, name
    rows = (await (await port.call("GET", f"/api/v1/audit-log?target={place['id']}", site.auth)).json())["data"]
    assert [row["event"] for row in rows] == ["location.delete", "location.create"]


async def test_an_export_without_an_end_is_told_on_its_entrys_page(port: AdminPort, site: Site) -> None:
    """S0-30: its node was killed, or it is still read. One that ended says so among what came of its request."""
    browser = await port.browser(site)
    async with port.database.sessions.begin() as session:
        actor = replace(SYSTEM, request_id="request_cut", account_id=site.account.id)
        record(session, actor, Event.AUDIT_LOG_EXPORT, resource=("audit_log", "export", "csv"))
    cut = (await port.entries(site.account.id))[-1]
    text = await (await port.call("GET", f"/audit/{cut.id}", browser)).text()
    assert "No end of this export is in the log." in text
    await (await port.call("GET", "/api/v1/exports/audit-log/csv", site.auth)).read()
    ended = [entry for entry in await port.entries(site.account.id) if entry.event == "audit_log.export"][-1]
    text = await (await port.call("GET", f"/audit/{ended.id}", browser)).text()
    assert "No end of this export" not in text
    assert "audit_log.export_end" in text


async def test_views_work_by_forms_alone(port: AdminPort, site: Site) -> None:
    """S2-13: saved from the page, renamed, shared and deleted without a script; a refused form keeps what was typed."""
    cookie = await port.browser(site)
    form = {"name": "Night", "query": "range=yesterday&action=delete", "is_shared": "on"}
    answer = await port.call("POST", "/audit/views", cookie, data=form, allow_redirects=False)
    assert answer.headers["Location"] == "/audit?range=yesterday&action=delete&done=view-saved"
    page = await (await port.call("GET", "/audit?action=delete", cookie)).text()
    assert '<a href="/audit?range=yesterday&amp;action=delete">Night</a>' in page
    assert 'name="query" value="action=delete"' in page
    answer = await port.call("POST", "/audit/views", cookie, data=form)
    text = await answer.text()
    assert answer.status == 422
    assert "You have a view of this name already." in text
    assert 'value="Night"' in text
    assert "range=yesterday&amp;action=delete" in text
    async with port.database.sessions() as session:
        view = await session.scalar(select(SavedView))
    assert view is not None
    change = form | {"name": "By night", "version": "1", "is_shared": ""}
    answer = await port.call("POST", f"/audit/views/{view.id}", cookie, data=change, allow_redirects=False)
    assert answer.status == 303
    answer = await port.call("POST", f"/audit/views/{view.id}", cookie, data=change | {"name": "Late"})
    assert answer.status == 412
    assert 'value="Late"' in await answer.text()
    text = await (await port.call("GET", "/audit/views", cookie)).text()
    assert "By night" in text
    assert "Yours alone" in text
    answer = await port.call("POST", f"/audit/views/{view.id}/delete", cookie, allow_redirects=False)
    assert answer.headers["Location"] == "/audit/views?done=view-deleted"
    assert "No view yet" in await (await port.call("GET", "/audit/views", cookie)).text()


async def test_the_api_groups_as_the_page_does(port: AdminPort, site: Site) -> None:
    """S2-05: by account, user, address and description, most first, with the newest of each; filters count too."""
    async with port.database.sessions.begin() as session:
        for number in range(12):
            target = ("contact", f"contact_{number}", "")
            event = Event.CONTACT_UPDATE if number % 3 else Event.CONTACT_DELETE
            record(session, SYSTEM, event, resource=target, account_id=site.account.id)
    for by, label in (("account", "Acme Dental"), ("user", "Callpoint"), ("ip", "local")):
        answer = await port.call("GET", GROUPS, site.auth, params={"by": by, "type": "contact"})
        told = await answer.json()
        (group,) = told["groups"]
        assert (told["by"], told["is_complete"], group["label"], group["count"]) == (by, True, label, 12)
        assert [entry["resource"]["id"] for entry in group["newest"]] == [f"contact_{n}" for n in range(11, 6, -1)]
    answer = await port.call("GET", GROUPS, site.auth, params={"by": "description", "type": "contact"})
    groups = (await answer.json())["groups"]
    assert [(group["value"], group["count"]) for group in groups] == [("contact.update", 8), ("contact.delete", 4)]
    answer = await port.call("GET", GROUPS, site.auth, params={"by": "colour"})
    assert (answer.status, [each["field"] for each in (await answer.json())["errors"]]) == (422, ["by"])


async def test_an_exports_begin_and_end_are_in_the_log(port: AdminPort, site: Site) -> None:
    """S0-30, S2-13: what was asked for, then how many rows and bytes left; in page and API, as parts of it."""
    cookie = await port.browser(site)
    for path, headers, kind in (
        ("/audit/export?as=csv&category=Settings", cookie, "csv"),
        ("/api/v1/exports/audit-log/jsonl?event=account.create", site.auth, "jsonl"),
    ):
        answer = await port.call("GET", path, headers)
        data = await answer.read()
        begin, end = (json.loads(entry.entry) for entry in (await port.entries(site.account.id))[-2:])
        assert (begin["event"], end["event"]) == ("audit_log.export", "audit_log.export_end")
        assert begin["details"]["filters"] in (["category"], ["events"])
        assert begin["request"]["id"] == end["request"]["id"] == end["bulk_id"]
        assert (end["outcome"], end["resource"]["name"], end["details"]["bytes"]) == ("success", kind, len(data))
        rows = len(list(csv.reader(io.StringIO(data.decode("utf-8-sig"))))) - 1 if kind == "csv" else 1
        assert end["details"]["rows"] == rows > 0
        seq, head, _signature = answer.headers["Callpoint-Audit-Checkpoint"].split()
        assert len(head) == 64
        assert int(seq) == begin["details"]["up_to"]


async def test_an_export_that_is_broken_off_says_so_in_the_log(port: AdminPort, site: Site) -> None:
    """S0-30: the reader left in the middle: the end is a failure, with what had been sent by then."""
    async with port.database.sessions.begin() as session:
        for number in range(6_000):
            target = ("contact", f"contact_{number}", "x" * 400)
            record(session, SYSTEM, Event.CONTACT_UPDATE, resource=target, account_id=site.account.id)
    answer = await port.call("GET", "/api/v1/exports/audit-log/jsonl", site.auth)
    await answer.content.readline()
    answer.close()
    async with asyncio.timeout(60):
        while True:
            entry = (await port.entries(site.account.id, after=await port.head(site.account.id) - 1))[-1]
            if entry.event == "audit_log.export_end":
                break
            await asyncio.sleep(0.05)
    told = json.loads(entry.entry)
    assert (told["outcome"], told["reason"]) == ("failure", "broken_off")
    assert told["details"]["rows"] < 6_000


@pytest.mark.parametrize("filters", [Filters(), Filters(events=frozenset({"account.read"}))], ids=["whole", "part"])
async def test_an_export_whose_rows_go_before_they_are_read_is_broken_off(
    port: AdminPort, site: Site, monkeypatch: pytest.MonkeyPatch, filters: Filters
) -> None:
    """S1-22: nothing is left out unsaid."""
    monkeypatch.setattr(audit_export, "GROUP", 1)  # twenty numbers a question
    async with port.database.sessions.begin() as session:
        for _ in range(100):
            record(session, SYSTEM, Event.ACCOUNT_READ, account_id=site.account.id)
    while await OwedIndexing(port.database).step():
        pass  # rows that are still to get into SQLite's indexes are not removed
    last = await port.head(site.account.id)

    async def read_on(*, is_cleared: bool) -> int:
        export = Export(port.database, SYSTEM, site.account.id, "csv", last, time.monotonic())
        groups, count = audit_export._groups(export, filters), 0
        async for rows in groups:
            count += len(rows)
            if is_cleared:
                while await OwedIndexing(port.database).step():
                    pass  # what is taken out of SQLite's indexes has to be in them
                async with port.database.sessions.begin() as session:
                    assert await store_beginnings.clear(session, site.account.id, last, 1_000) == last
        return count

    async with port.database.engine.begin() as connection:  # as if the chain began behind them
        await connection.execute(text("DROP TRIGGER audit_entry_no_delete"))
    assert await read_on(is_cleared=False) >= 100
    monkeypatch.setattr(audit_export, "LONGEST_S", -1.0)
    with pytest.raises(Incomplete, match="too long"):
        await read_on(is_cleared=False)
    monkeypatch.setattr(audit_export, "LONGEST_S", 60.0)
    with pytest.raises(Incomplete, match="removed before"):
        await read_on(is_cleared=True)


def test_no_export_is_read_for_as_long_as_rows_stay() -> None:
    assert dt.timedelta(seconds=audit_export.LONGEST_S) < SETTLE


async def test_an_export_that_took_too_long_ends_as_a_failure(
    port: AdminPort, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_export, "LONGEST_S", -1.0)
    with pytest.raises(ClientPayloadError):
        await (await port.call("GET", "/api/v1/exports/audit-log/jsonl", site.auth)).read()
    async with asyncio.timeout(60):
        while (entry := (await port.entries(site.account.id))[-1]).event != "audit_log.export_end":
            await asyncio.sleep(0.02)
    told = json.loads(entry.entry)
    assert (told["outcome"], told["reason"], told["details"]["rows"]) == ("failure", "broken_off", 0)


async def test_an_export_asked_in_the_moment_of_a_prune_verifies(port: AdminPort, site: Site) -> None:
    """S1-22: on PostgreSQL each question sees what was committed by then: where it begins is asked first."""
    asked: list[str] = []

    def seen(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("SELECT audit_beginning.") or "FROM audit_entry" in statement:
            asked.append("beginning" if "audit_beginning." in statement else "entry")

    listen(port.database.engine.sync_engine, "before_cursor_execute", seen)
    await (await port.call("GET", "/api/v1/exports/audit-log/jsonl", site.auth)).read()
    assert asked[0] == "beginning"


async def test_an_export_of_everything_verifies_and_a_part_holds_each_in_itself(port: AdminPort, site: Site) -> None:
    """S2-13: off line, with the checkpoint beside; nobody has to be asked for it."""
    whole = await (await port.call("GET", "/api/v1/exports/audit-log/jsonl", site.auth)).read()
    verdict = verify(whole.splitlines())
    assert (verdict.holds, verdict.covered) == (True, verdict.last_seq)
    part = await (await port.call("GET", "/api/v1/exports/audit-log/jsonl?category=Settings", site.auth)).read()
    assert verify_each(part.splitlines()).holds
    changed = part.replace(b"Acme Dental", b"Acme Rental", 1)
    assert not verify_each(changed.splitlines()).holds


async def test_hints_are_shown_on_home_and_the_log_until_somebody_dismisses_them(port: AdminPort, site: Site) -> None:
    """S2-12: with evidence and the entries they rest on; dismissing is on record; others never see them."""
    cookie, auditor = await port.browser(site), await port.browser(site, Role.AUDITOR)
    async with port.database.sessions.begin() as session:
        owner = await session.scalar(select(User).where(User.id == site.owner.id))
        assert owner is not None
        row = Anomaly(
            id=new_id("anomaly"), account_id=site.account.id, kind="mass_deletion", key="mass_deletion:x:1",
            at=utc_now(), actor_id=owner.id, actor_name="Olga Owner", ip="203.0.113.9",
            headline="Olga Owner deleted 44 things within ten minutes", evidence=["40 of phone.", "Usually 2."],
            query="action=delete&actor=x", mail_to=[owner.email], mail_next_at=utc_now(),
        )  # fmt: skip
        session.add(row)
        record(session, SYSTEM, Event.ANOMALY_CREATE, row)
    home = await (await port.call("GET", "/", cookie)).text()
    assert "Olga Owner deleted 44 things within ten minutes. Was that one of yours?" in home
    assert f'href="/audit/anomalies/{row.id}"' in home
    assert (
        "Was that one of yours?"
        not in await (await port.call("GET", "/", await port.browser(site, Role.OPERATOR))).text()
    )
    assert "1 thing in the logs" in await (await port.call("GET", "/audit", auditor)).text()
    page = await (await port.call("GET", f"/audit/anomalies/{row.id}", auditor)).text()
    for words in ("40 of phone.", "Usually 2.", 'href="/audit?action=delete&amp;actor=x"', "203.0.113.9"):
        assert words in page
    assert "/dismiss" not in page
    other = await port.site("Beta", "owner@beta.example")
    address = f"/api/v1/anomalies/{row.id}"
    assert (await port.call("GET", address, other.auth)).status == 404
    assert (await port.call("POST", f"{address}/dismiss", auditor)).status == 403
    answer = await port.call("POST", f"/audit/anomalies/{row.id}/dismiss", cookie, allow_redirects=False)
    assert answer.headers["Location"] == "/audit/anomalies?done=hint-dismissed"
    told = await (await port.call("GET", address, site.auth)).json()
    assert told["dismissed_by"] == "Olga Owner"
    for wanted, count in (("true", 1), ("false", 0)):
        listed = await (await port.call("GET", f"/api/v1/anomalies?dismissed={wanted}", site.auth)).json()
        assert len(listed["data"]) == count
    assert (await port.call("GET", "/api/v1/anomalies?dismissed=maybe", site.auth)).status == 422
    assert "Was that one of yours?" not in await (await port.call("GET", "/", cookie)).text()
    entries = [each for each in await port.entries(site.account.id) if each.event == "anomaly.dismiss"]
    assert [each.outcome for each in entries] == ["denied", "success"]
    assert entries[1].actor_id == site.owner.id
    assert "Dismissed by Olga Owner" in await (await port.call("GET", "/audit/anomalies?show=dismissed", cookie)).text()
