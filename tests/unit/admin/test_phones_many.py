"""The list of phones with its filters, and one change to many of them, over API and page."""

import datetime as dt
import json
import re
from typing import Any

import pytest
from sqlalchemy import select, text

from engine.audit.record import SYSTEM
from engine.audit.verify import export_line, verify
from engine.db import utc_now
from engine.models import Account, Phone, PhoneLine, PhoneStatus
from engine.provisioning import bulk, store, store_phones
from engine.provisioning.bulk import Action, Change
from engine.provisioning.outdating import OwedMarking
from engine.provisioning.phone_list import Filters
from tests import factories
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback


async def _phones(port: AdminPort, site: Site, number: int = 12) -> list[Phone]:
    """Phones `Desk 00` … of two vendors and all statuses; those of an even number are at Headquarters."""
    statuses = ["current", "stale", "failed", "never_booted", "quarantined"]
    now = utc_now()
    fetched = [None if statuses[at % 5] == "never_booted" else now - dt.timedelta(days=at) for at in range(number)]
    async with port.database.sessions.begin() as session:
        place = await factories.add_location(session, site.account)
        made = []
        for at in range(number):
            line = await factories.add_line(session, site.account, str(500 + at))
            status = statuses[at % 5]
            made.append(
                await factories.add_phone(
                    session, site.account, line, mac=f"805ec00000{at:02x}", label=f"Desk {at:02}", status=status,
                    vendor="snom" if at % 3 == 0 else "yealink", model="D785" if at % 3 == 0 else "T46U",
                    location_id=place.id if at % 2 == 0 else None, firmware=f"108.{at}",
                    last_ip=f"10.0.0.{at}", last_fetch_at=fetched[at],
                )
            )  # fmt: skip
    return made


async def _listed(port: AdminPort, site: Site, **query: Any) -> list[str]:
    """Labels over all pages of five."""
    labels: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await port.call("GET", "/api/v1/phones", site.auth, params={"limit": "5"} | query | cursor)
        body = await answer.json()
        assert answer.status == 200, body
        labels += [row["label"] for row in body["data"]]
        if body["next_cursor"] is None:
            return labels
        cursor = {"cursor": body["next_cursor"]}


def _desks(*numbers: int) -> list[str]:
    return [f"Desk {at:02}" for at in numbers]


async def test_each_filter_narrows_the_list(port: AdminPort, site: Site) -> None:
    """P-16: status, vendor, model, location, none, firmware, words, times; and several at once."""
    phones = await _phones(port, site)
    day = (utc_now() - dt.timedelta(days=4, hours=1)).isoformat()
    place = phones[0].location_id
    for query, expected in (
        ({}, range(12)),
        ({"status": "failed"}, (2, 7)),
        ({"vendor": "snom"}, (0, 3, 6, 9)),
        ({"model": "T46U", "status": "stale"}, (1, 11)),
        ({"location_id": place}, range(0, 12, 2)),
        ({"location_id": "none"}, range(1, 12, 2)),
        ({"firmware": "108.1"}, (1, 10, 11)),
        ({"q": "sk 11"}, (11,)),
        ({"q": "DESK 03"}, (3,)),
        ({"q": "80:5e:c0:00:00:0a"}, (10,)),
        ({"q": "000b"}, (11,)),
        ({"q": "503"}, (3,)),
        ({"q": "50"}, (*range(10),)),
        ({"q": "10.0.0.1"}, (1, 10, 11)),
        ({"q": "desk 503"}, (3,)),
        ({"q": "100%_"}, ()),
        ({"seen_since": day}, (0, 1, 2, 4)),
        ({"seen_until": day}, (5, 6, 7, 9, 10, 11)),
        ({"alarm": "quarantined"}, (4, 9)),
        ({"q": "desk", "location_id": "none", "status": "stale"}, (1, 11)),
    ):
        assert sorted(await _listed(port, site, **query)) == _desks(*expected), query


@pytest.mark.parametrize("sort", ["made", "-made", "label", "-label", "last_fetch", "-last_fetch"])
async def test_pages_hold_every_phone_once_in_every_order(port: AdminPort, site: Site, sort: str) -> None:
    """P-16: keyset pages; phones that never fetched come first, or last when turned round."""
    await _phones(port, site)
    labels = await _listed(port, site, sort=sort)
    never = _desks(3, 8)
    fetched = [at for at in range(11, -1, -1) if at % 5 != 3]
    expected = never + _desks(*fetched) if "last_fetch" in sort else _desks(*range(12))
    assert labels == (expected[::-1] if sort.startswith("-") else expected)
    assert await _listed(port, site, sort=sort, status="stale") == [one for one in labels if one in _desks(1, 6, 11)]


@pytest.mark.parametrize(
    "query",
    [{"status": "gone"}, {"sort": "mac"}, {"alarm": "x"}, {"location_id": "here"}, {"seen_since": "soon"}, {"Q": "x"}],
)
async def test_a_filter_that_cannot_be_read_is_refused(port: AdminPort, site: Site, query: dict[str, str]) -> None:
    """P-16: a misspelt filter must not look like one that found everything."""
    answer = await port.call("GET", "/api/v1/phones", site.auth, params=query)
    assert answer.status == 422
    assert (await answer.json())["errors"][0]["field"] == next(iter(query))


async def test_a_cursor_of_another_order_is_refused(port: AdminPort, site: Site) -> None:
    """P-16: a place by label is none by last fetch."""
    await _phones(port, site)
    query = {"limit": "2", "sort": "label"}
    cursor = (await (await port.call("GET", "/api/v1/phones", site.auth, params=query)).json())["next_cursor"]
    answer = await port.call("GET", "/api/v1/phones", site.auth, params={"cursor": cursor, "sort": "last_fetch"})
    assert answer.status == 422


async def test_filters_are_answered_by_the_indexes_alone(port: AdminPort, site: Site) -> None:
    """Figures: the statement behind the list reads no row of the table, whatever is filtered."""
    from engine.provisioning import store_phones
    from engine.provisioning.phone_list import Filters, Order

    await _phones(port, site)
    async with port.database.sessions() as session:
        for filters in (Filters(), Filters(status="failed"), Filters(text="zzz"), Filters(firmware="9", vendor="snom")):
            query = await store_phones._ids(session, site.account.id, filters, Order.LABEL)
            query = query.order_by(Phone.label, Phone.id)
            text = str(query.limit(51).compile(session.get_bind(), compile_kwargs={"literal_binds": True}))
            connection = await session.connection()
            plan = [row[3] for row in await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text.replace('%%', '%')}")]
            assert plan[0].startswith("SEARCH phone USING COVERING INDEX ix_phone_list"), plan
            assert not any("TEMP B-TREE" in step for step in plan), plan


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["few", "many"])
def however_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many: what is written is made before the transaction, by value, and marks are owed."""
    if request.param == "many":
        monkeypatch.setattr(bulk, "WORTH_PLANNING", 1)
        monkeypatch.setattr(bulk, "ALIKE", 2)
        monkeypatch.setattr(bulk, "AT_ONCE", 3)


async def _bulk(port: AdminPort, site: Site, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = await port.call("POST", "/api/v1/phones/bulk", site.auth, json=body)
    return answer.status, await answer.json()


async def _stored(port: AdminPort) -> dict[str, Phone]:
    async with port.database.sessions() as session:
        return {phone.label: phone for phone in (await session.scalars(select(Phone))).all()}


@pytest.mark.usefixtures("however_many")
async def test_a_selection_gets_a_location_with_one_entry_and_one_for_each(port: AdminPort, site: Site) -> None:
    """P-16 (bulk): rows that are like that already are not touched; the chain of entries holds."""
    phones = await _phones(port, site)
    before = len(await port.entries(site.account.id))
    status, done = await _bulk(
        port, site, action="location", ids=[phone.id for phone in phones[:4]], location_id=phones[0].location_id
    )
    assert (status, done["phones"], done["changed"]) == (200, 4, 2)
    stored = await _stored(port)
    assert {stored[f"Desk {at:02}"].location_id for at in range(4)} == {phones[0].location_id}
    assert stored["Desk 01"].version == 2
    assert stored["Desk 00"].version == 1
    entries = await port.entries(site.account.id)
    fresh = [json.loads(entry.entry) for entry in entries[before:]]
    assert [one["event"] for one in fresh if one["bulk_id"] is None] == ["phone.change_many"]
    parts = [one for one in fresh if one["bulk_id"] == done["bulk_id"]]
    assert [one["changes"]["location_id"]["after"] for one in parts] == [phones[0].location_id] * 2
    assert verify([export_line(entry) for entry in entries]).holds


@pytest.mark.usefixtures("however_many")
async def test_all_that_match_get_a_setting_and_lose_it(port: AdminPort, site: Site) -> None:
    """P-16 (bulk): a filter instead of a selection; `own` false takes the phone's own value away."""
    await _phones(port, site)
    wish = {"action": "setting", "filters": {"vendor": "snom"}, "setting": "vlan_id"}
    status, done = await _bulk(port, site, **wish, value=20, expected=4)
    assert (status, done["changed"]) == (200, 4)
    stored = await _stored(port)
    assert [at for at in range(12) if stored[f"Desk {at:02}"].settings == {"vlan_id": 20}] == [0, 3, 6, 9]
    while await OwedMarking(port.database).step():
        stored = await _stored(port)
    assert stored["Desk 00"].status == "stale"
    status, done = await _bulk(port, site, **wish, own=False)
    assert (status, done["changed"]) == (200, 4)
    assert all(phone.settings == {} for phone in (await _stored(port)).values())


@pytest.mark.usefixtures("however_many")
async def test_phones_are_deleted_with_their_keys(port: AdminPort, site: Site) -> None:
    """P-16 (bulk): the rows and what hangs on them are gone, and told."""
    await _phones(port, site)
    status, done = await _bulk(port, site, action="delete", filters={"status": "failed"})
    assert (status, done["phones"]) == (200, 2)
    assert len(await _stored(port)) == 10
    async with port.database.sessions() as session:
        assert len((await session.scalars(select(PhoneLine))).all()) == 10
    parts = [json.loads(entry.entry) for entry in await port.entries(site.account.id)]
    gone = [one for one in parts if one["bulk_id"] == done["bulk_id"]]
    assert [one["changes"]["label"]["before"] for one in gone] == ["Desk 02", "Desk 07"]


async def test_what_was_made_before_the_transaction_is_made_anew_when_anything_changed_since(
    port: AdminPort, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-16 (bulk): another's edit in between is neither lost nor told as it was before."""
    monkeypatch.setattr(bulk, "WORTH_PLANNING", 1)
    phones = await _phones(port, site, 3)
    ids, change = [phone.id for phone in phones], Change(Action.SETTING, setting="vlan_id", value=20)
    plan = await bulk.planned(port.database, site.account.id, ids, change)
    assert plan is not None
    assert [row["settings"] for row in plan.writes] == [{"vlan_id": 20}] * 3
    nobody = Filters(text="no such label")
    async with port.database.sessions() as session:
        assert await bulk.chosen(session, site.account.id, filters=nobody, plan=plan) == ids, "not looked for again"
    status, _ = await _bulk(port, site, action="setting", ids=ids[:1], setting="lldp", value=False)
    assert status == 200
    async with port.database.sessions() as session:
        assert await bulk.chosen(session, site.account.id, filters=nobody, plan=plan) == []
    async with port.database.sessions.begin() as session:
        account = await session.get_one(Account, site.account.id)
        done = await bulk.set_setting(session, SYSTEM, account, ids, "vlan_id", 20, own=True, plan=plan)
    stored = await _stored(port)
    assert [stored[f"Desk 0{at}"].settings for at in range(3)] == [
        {"lldp": False, "vlan_id": 20}, {"vlan_id": 20}, {"vlan_id": 20},
    ]  # fmt: skip
    entries = [json.loads(entry.entry) for entry in await port.entries(site.account.id)]
    told = [one["changes"]["settings"]["before"] for one in entries if one["bulk_id"] == done.bulk_id]
    assert told == [{"lldp": False}, {}, {}]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"action": "delete"}, 422),
        ({"action": "delete", "ids": ["x"], "filters": {}}, 422),
        ({"action": "delete", "filters": {"colour": "red"}}, 422),
        ({"action": "delete", "filters": {}, "expected": 3}, 412),
        ({"action": "delete", "ids": ["phone_01m80n97drfmnsc02xm2wzchdm"]}, 404),
        ({"action": "location", "filters": {}, "location_id": "location_01m80n97drfmnsc02xm2wzchdm"}, 422),
        ({"action": "setting", "filters": {}, "setting": "colour", "value": 1}, 422),
        ({"action": "setting", "filters": {}, "setting": "vlan_id", "value": 5000}, 422),
        ({"action": "polish", "filters": {}}, 422),
    ],
)
async def test_a_change_that_cannot_be_made_changes_nothing(
    port: AdminPort, site: Site, body: dict[str, Any], status: int
) -> None:
    """P-16 (bulk): unknown phones, filters, locations and values; another number than was seen."""
    await _phones(port, site)
    before = {label: phone.version for label, phone in (await _stored(port)).items()}
    assert (await _bulk(port, site, **body))[0] == status
    assert {label: phone.version for label, phone in (await _stored(port)).items()} == before


@pytest.mark.usefixtures("however_many")
async def test_the_page_shows_a_change_before_it_makes_it(port: AdminPort, site: Site) -> None:
    """P-16 (bulk): the first form only shows; what it shows is what the second one does."""
    await _phones(port, site)
    browser = await port.browser(site)
    form = {"which": "all", "vendor": "snom", "action": "setting", "setting": "lldp", "value": "no"}
    answer = await port.call("POST", "/phones/bulk", browser, data=form)
    text = await answer.text()
    assert "4 phones will have" in text
    assert all(phone.settings == {} for phone in (await _stored(port)).values())
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', text)
    answer = await port.call("POST", "/phones/bulk", browser, data=hidden, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/phones?vendor=snom&done=phones-setting")
    assert sum(phone.settings == {"lldp": False} for phone in (await _stored(port)).values()) == 4


async def test_the_page_keeps_its_filters_in_the_address(port: AdminPort, site: Site) -> None:
    """P-16: status per row, the count, the way to clear; nothing that matches says so."""
    await _phones(port, site)
    browser = await port.browser(site)
    text = await (await port.call("GET", "/phones?status=quarantined&sort=-last_fetch", browser)).text()
    assert "2 phones match" in text
    assert text.count("Quarantined</span>") == 2
    assert 'href="/phones">Clear filters' in text
    text = await (await port.call("GET", "/phones?q=nothing-like-it", browser)).text()
    assert "Nothing matches" in text


async def test_the_kind_of_many_devices_is_said_at_once_and_no_file_moves(port: AdminPort, site: Site) -> None:
    """E-16: by API and page; entries for those that change, no phone out of date by it, nothing but one of three."""
    phones = await _phones(port, site)
    bulk_url = "/api/v1/phones/bulk"
    async with port.database.sessions() as session:
        before = await store.revision_of(session, site.account.id)
    body = {"action": "placement", "filters": {"vendor": "snom"}, "placement": "non_fixed"}
    answer = await port.call("POST", bulk_url, site.auth, json=body)
    assert (answer.status, (await answer.json())["changed"]) == (200, 4)
    assert (await (await port.call("POST", bulk_url, site.auth, json=body)).json())["changed"] == 0
    answer = await port.call("POST", bulk_url, site.auth, json=body | {"placement": "nowhere"})
    assert (answer.status, (await answer.json())["errors"][0]["field"]) == (422, "placement")
    browser = await port.browser(site)
    form = {"action": "placement", "ids": phones[1].id, "to_placement": "fixed", "which": "these"}
    page = await (await port.call("POST", "/phones/bulk", browser, data=form)).text()
    assert "Fixed, on the premises" in page
    form |= {"confirmed": "yes", "expected": "1"}
    answer = await port.call("POST", "/phones/bulk", browser, data=form, allow_redirects=False)
    assert answer.status == 303
    answer = await port.call("POST", "/phones/bulk", browser, data=form | {"to_placement": "x"}, allow_redirects=False)
    assert answer.status == 422
    async with port.database.sessions() as session:
        rows = {row.label: row for row in await session.scalars(select(Phone))}
        assert await store.revision_of(session, site.account.id) == before
    assert [rows[f"Desk {at:02}"].placement for at in range(4)] == ["non_fixed", "fixed", None, "non_fixed"]
    assert [rows[phone.label].status for phone in phones] == [phone.status for phone in phones]
    told = [each for each in await port.entries(site.account.id) if each.event == "phone.update"]
    assert len(told) == 5


async def test_the_list_tells_how_many_phones_stand_how(port: AdminPort, site: Site) -> None:
    """P-16: in the first week the question is how many are there; each number shows those phones."""
    await _phones(port, site)
    async with port.database.sessions() as session:
        counts = await store_phones.count_by_status(session, site.account.id)
        for status, number in counts.items():
            assert number == await store_phones.count(session, site.account.id, Filters(status=status)), status
        plan = await session.execute(
            text("EXPLAIN QUERY PLAN SELECT id FROM phone WHERE account_id = 'a' AND status = 'stale' LIMIT 9")
        )
        assert "COVERING INDEX ix_phone_account_status" in str(plan.all())
    page = " ".join((await (await port.call("GET", "/phones", await port.browser(site))).text()).split())
    for status, told in (("current", "up to date"), ("stale", "older configuration"), ("never_booted", "never booted")):
        shown = re.search(rf'href="/phones\?status={status}">.*?</svg>(\d+) [^<]*{told}</a>', page)
        assert (int(shown[1]) if shown else 0) == counts[PhoneStatus(status)], told
