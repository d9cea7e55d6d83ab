"""The account's fetch log: over the API, as a page, and the phones that ask and are not kept here."""

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import text

from engine.db import utc_now
from engine.ids import new_id
from engine.models import Account, ProvisioningEvent
from engine.models.provisioning import REFUSED
from engine.provisioning import store_fetch_list
from engine.provisioning.store_fetch_list import Filters
from tests.factories import add_phone
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

LOG, NEW = "/api/v1/fetch-log", "/api/v1/fetch-log/unknown-phones"
PAGE = "/phones/fetch-log"
YEALINK = "Yealink SIP-T46U 108.86.0.20 80:5e:c0:ff:ff:01"
DESK = "Yealink SIP-T46U 108.86.0.20 00:15:65:4a:a9:37"


async def log(port: AdminPort, account_id: str | None, kind: str, file: str, **more: Any) -> None:
    """One event as the fetch log writes it; `minutes` ago."""
    at = utc_now() - dt.timedelta(minutes=more.pop("minutes", 0))
    row: dict[str, Any] = {"method": "GET", "status_code": 404, "ip": "203.0.113.7", "user_agent": DESK} | more
    async with port.database.sessions.begin() as session:
        session.add(ProvisioningEvent(id=new_id("fetch"), account_id=account_id, kind=kind, file=file, at=at, **row))


async def asked(port: AdminPort, site: Site, path: str = LOG, **params: str) -> list[dict[str, Any]]:
    answer = await port.call("GET", path, site.auth, params=params)
    assert answer.status == 200, await answer.text()
    rows: list[dict[str, Any]] = (await answer.json())["data"]
    return rows


async def page(port: AdminPort, site: Site, path: str) -> str:
    answer = await port.call("GET", path, await port.browser(site))
    assert answer.status == 200, path
    return " ".join((await answer.text()).split())


async def desk(port: AdminPort, site: Site) -> str:
    """A phone of the account; its id."""
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        return (await add_phone(session, account, label="Reception")).id


async def test_the_log_of_an_account_is_found_by_outcome_reason_word_and_time(port: AdminPort, site: Site) -> None:
    """Decision 11: what a phone asked for in vain, and why, without knowing which phone it was."""
    phone = await desk(port, site)
    mine = site.account.id
    await log(port, mine, "fetch", "0015654aa937.cfg", status_code=200, phone_id=phone, minutes=90)
    await log(port, mine, "denied", "0015654aa937.boot", reason="absent", phone_id=phone)
    await log(port, mine, "denied", "805ec0ffff01.cfg", reason="phone", user_agent=YEALINK)
    await log(port, mine, "mismatch", "$mac.cfg", reason="contradiction", evidence={"sentences": ["wants the URL"]})
    assert [row["file"] for row in await asked(port, site)] == [
        "$mac.cfg", "805ec0ffff01.cfg", "0015654aa937.boot", "0015654aa937.cfg",
    ]  # fmt: skip
    found = {
        "refused": await asked(port, site, outcome="refused"), "served": await asked(port, site, outcome="served"),
        "absent": await asked(port, site, outcome="absent"), "phone": await asked(port, site, reason="phone"),
        "word": await asked(port, site, q="80:5e:c0 t46u"), "ip": await asked(port, site, q="203.0.113."),
        "early": await asked(port, site, until=(utc_now() - dt.timedelta(hours=1)).isoformat()),
    }  # fmt: skip
    assert {name: len(rows) for name, rows in found.items()} == {
        "refused": 2, "served": 1, "absent": 1, "phone": 1, "word": 1, "ip": 4, "early": 1,
    }  # fmt: skip
    assert found["served"][0]["phone_id"] == phone
    shown = await page(port, site, PAGE)
    for told in ("Reception", "Handed out", "Not there", "Wants the URL", "No phone of that MAC address is kept here"):
        assert told.replace("'", "&#39;") in shown, told
    assert "Nothing of that kind" in await page(port, site, f"{PAGE}?outcome=upload")


async def test_the_log_goes_on_page_by_page_and_stays_in_its_account(port: AdminPort, site: Site) -> None:
    """Decision 11: by key, newest first; another account's requests and nobody's are in no page of it."""
    other = await port.site("Other", "owner@other.example")
    for number in range(5):
        await log(port, site.account.id, "denied", f"{number}.cfg", reason="unknown")
    await log(port, other.account.id, "denied", "theirs.cfg", reason="unknown")
    await log(port, None, "denied", "nobodys.cfg", reason="token")
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        answer = await (await port.call("GET", LOG, site.auth, params=params)).json()
        names += [row["file"] for row in answer["data"]]
        cursor = answer["next_cursor"]
    assert names == ["4.cfg", "3.cfg", "2.cfg", "1.cfg", "0.cfg"]
    refused = await port.call("GET", LOG, site.auth, params={"outcome": "nobody"})
    assert refused.status == 422, "with two accounts nobody knows whose mistyped URL it is"
    assert "With a wrong URL" not in await page(port, site, PAGE)


async def test_a_mistyped_url_is_seen_where_there_is_one_account(port: AdminPort, site: Site) -> None:
    """P-02: the phone gets the one 404; the only account there is sees whose phone it was."""
    await desk(port, site)
    await log(port, None, "denied", "0015654aa937.cfg", reason="token")
    assert [row["file"] for row in await asked(port, site, outcome="nobody")] == ["0015654aa937.cfg"]
    assert await asked(port, site) == []
    shown = await page(port, site, f"{PAGE}?outcome=nobody")
    assert "Reception" in shown
    assert "token is none of ours" in shown


async def test_phones_that_ask_and_are_not_kept_are_offered_to_be_added(port: AdminPort, site: Site) -> None:
    """P-05: the unknown phone is named with what it says it is; adding it takes its address and model over."""
    await desk(port, site)
    mine = site.account.id
    await log(port, mine, "denied", "805ec0ffff01.boot", reason="phone", user_agent="", evidence={"count": 2})
    await log(port, mine, "denied", "805ec0ffff01.cfg", reason="phone", user_agent=YEALINK, minutes=1)
    await log(port, mine, "denied", "0015654aa937.cfg", reason="phone", minutes=2)  # asked before it was added
    await log(port, mine, "denied", "0004f2000001.cfg", reason="phone", user_agent="", minutes=60 * 24 * 8)
    (one,) = await asked(port, site, NEW)
    assert (one["mac"], one["vendor"], one["model"], one["times"]) == ("805ec0ffff01", "yealink", "T46U", 3)
    shown = await page(port, site, PAGE)
    assert "Phones that ask and are not kept here" in shown
    assert 'href="/phones/new?mac=805ec0ffff01&amp;model=yealink/T46U"' in shown
    form = await page(port, site, "/phones/new?mac=805ec0ffff01&model=yealink/T46U")
    assert ">805ec0ffff01</textarea>" in form
    assert '<option value="yealink/T46U" selected>' in form


async def test_a_search_that_finds_nothing_ends_and_says_how_far_it_looked(port: AdminPort, site: Site) -> None:
    """Decision 11: a page looks through so many requests; the next one goes on there."""
    for number in range(6):
        await log(port, site.account.id, "fetch", f"{number}.cfg", status_code=200)
    async with port.database.sessions() as session:
        first = await store_fetch_list.list_fetches(session, site.account.id, Filters(text="0.cfg"), limit=5, look=4)
        assert first.rows == []
        assert first.looked_until is not None
        rest = await store_fetch_list.list_fetches(
            session, site.account.id, Filters(text="0.cfg"), limit=5, after=first.following, look=4
        )
        assert ([row.file for row in rest.rows], rest.following) == (["0.cfg"], None)


async def test_what_was_refused_is_read_by_its_own_index(port: AdminPort, site: Site) -> None:
    """Decision 11: a million fetches are not looked through for the three that were refused."""
    async with port.database.sessions() as session:
        query = f"SELECT id FROM provisioning_event WHERE account_id = :mine AND {REFUSED} ORDER BY id DESC LIMIT 9"
        plan = (await session.execute(text(f"EXPLAIN QUERY PLAN {query}"), {"mine": site.account.id})).all()
    assert "ix_provisioning_event_refused" in str(plan)
