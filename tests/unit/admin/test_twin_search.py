"""Duplicates of locations are looked for beside the database's writer, and once while nothing changes."""

import asyncio

import pytest
from sqlalchemy import insert, select

from admin.twin_search import MAX_KEPT, TWINS, TwinSearch
from engine.db import Database
from engine.ids import new_id
from engine.models import Location
from tests.factories import add_account
from tests.unit.admin.adminport import CIVIC, AdminPort, Site

pytestmark = pytest.mark.enable_socket


async def _add(port: AdminPort, site: Site, name: str, **civic: str) -> str:
    body = {"name": name, "civic_address": CIVIC | civic}
    answer = await port.call("POST", "/api/v1/locations", site.auth, json=body)
    assert answer.status == 201, await answer.text()
    return str((await answer.json())["id"])


async def _twins(port: AdminPort, site: Site) -> list[tuple[str, str, str]]:
    answer = await port.call("GET", "/api/v1/location-twins", site.auth)
    assert answer.status == 200, await answer.text()
    return [(row["first_id"], row["second_id"], row["why"]) for row in (await answer.json())["data"]]


async def test_a_search_needs_no_writer_and_holds_up_none(port: AdminPort, site: Site) -> None:
    """S1-37: while somebody else writes, thousands of places are compared all the same."""
    first = await _add(port, site, "HQ")
    async with port.database.engine.begin() as connection:
        query = select(Location.__table__).where(Location.id == first)
        row = dict((await connection.execute(query)).mappings().one())
        many = [row | {"id": new_id("location"), "civic_address": CIVIC | {"ROOM": str(at)}} for at in range(1200)]
        await connection.execute(insert(Location), many)
    search = TwinSearch()
    async with port.database.sessions.begin():  # the writer's turn is taken, and not given back
        found = await asyncio.gather(*(search.find(port.database, site.account.id) for _ in range(5)))
    assert search.searches == 1  # for all five who asked
    assert {id(one) for one in found} == {id(found[0])}
    assert found[0].pairs[0].first == first


async def test_pairs_are_kept_until_something_changes_and_the_list_searches_for_nothing(
    port: AdminPort, site: Site
) -> None:
    """S1-37: the list of locations shows how many duplicates there are when that is known, and only then."""
    first, second = await _add(port, site, "HQ"), await _add(port, site, "Head office")
    search, browser = port.client.app[TWINS], await port.browser(site)

    async def shown() -> bool:
        answer = await port.call("GET", "/locations", browser)
        assert answer.status == 200
        return "Duplicates (1)" in await answer.text()

    assert not await shown()
    assert search.searches == 0
    assert await _twins(port, site) == await _twins(port, site) == [(first, second, "same_address")]
    page = await (await port.call("GET", "/locations/twins", browser)).text()
    assert f"/locations/{first}/merge/{second}" in page
    assert search.searches == 1
    assert await shown()
    third = await _add(port, site, "Third", HNO="9999")
    assert not await shown()
    assert await _twins(port, site) == [(first, second, "same_address")]
    answer = await port.call("DELETE", f"/api/v1/locations/{second}", site.auth | {"If-Match": '"1"'})
    assert answer.status == 204, await answer.text()
    assert await _twins(port, site) == []
    assert search.searches == 3
    assert third not in str(await _twins(port, site))


async def test_what_is_kept_is_bounded(database: Database) -> None:
    """S1-37: pairs of a few accounts are remembered, the least lately searched goes."""
    async with database.sessions.begin() as session:
        accounts = [(await add_account(session, name=f"Account {at}")).id for at in range(MAX_KEPT + 2)]
    search = TwinSearch()
    for account_id in accounts:
        revision = (await search.find(database, account_id)).revision
    assert search.kept(accounts[-1], revision) is not None
    assert search.kept(accounts[-1], revision + 1) is None
    assert search.kept(accounts[0], revision) is None
    assert search.kept(accounts[1], revision) is None
