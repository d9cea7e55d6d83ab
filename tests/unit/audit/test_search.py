"""The ways to candidates never change what is found: every filter and pair against a plain look at all entries."""

import datetime as dt
import ipaddress
import itertools
import json

import pytest

from engine.audit import hashes, matching, search, store
from engine.audit.events import READS, Event
from engine.audit.owed import OwedIndexing
from engine.audit.record import SYSTEM, Actor, record
from engine.audit.store import Filters, entries_behind, entries_oldest_first, grouped, heads, list_entries
from engine.db import Database
from engine.models import AuditEntry
from tests.factories import add_account

ACTORS = (
    Actor("user", "user_1", "eve@example.com", "10.1.77.4", display_name="Eve Ådland"),
    Actor("user", "user_11", "adam@example.com", "192.0.2.77", display_name='Adam "Q" 100%_x'),
    Actor("api_key", "api_key_1", "Monitoring", "2001:db8::7"),
    Actor("anonymous", "anonymous", "", "10.200.0.1"),
)
EVENTS = (Event.PHONE_UPDATE, Event.PHONE_READ, Event.USER_CREATE, Event.LOCATION_DELETE)
SINGLE = (
    {"events": frozenset({"phone.update"})},
    {"events": frozenset({"phone.update", "user.create"})},
    {"events": frozenset(event.value for event in READS)},
    {"resource": "phone_"},
    {"resource": "phone"},
    {"resource": "phone_0000"},
    {"resource": "%"},
    {"resource": "p_one"},
    {"actor": "user_1"},
    {"actor": "Eve@"},
    {"actor": "monit"},
    {"actor": "u_er"},
    {"outcome": "denied"},
    {"ip": "10.1.77.4"},
    {"ip": "2001:0db8:0::7"},
    {"ip": "[2001:DB8::7]"},
    {"ip": "2001:db8::"},
    {"ip": "2001:0db8::"},
    {"ip": "::7"},
    {"ip": "::ffff:10.1.77.4"},
    {"ip": ".77."},
    {"ip": "7"},
    {"ip": "10.0.0.0/8"},
    {"ip": "10.192.0.0/10"},
    {"ip": "10.1.77.4/32"},
    {"ip": "0.0.0.0/0"},
    {"ip": "2001:db8::7/128"},
    {"ip": "2001:db8::/32"},
    {"keyword": "Ådland"},
    {"keyword": '"Q" 100%_'},
    {"keyword": "EVE@EXAMPLE"},
    {"keyword": "00:15:65:00:0"},
    {"keyword": "ÅDLAND"},
    {"keyword": "ådla"},
    {"keyword": "Å"},
    {"actor": "Eve Å", "named": frozenset({"user_1"})},
    {"keyword": "ev"},
    {"keyword": "no such words"},
    {"category": "Phones"},
    {"verb": "update"},
    {"actors": frozenset({"user_1", "api_key_1"})},
    {"target": "phone_0004"},
    {"target": "phone_000"},
    {"target_type": "phone"},
    {"target_type": "pho"},
)


async def filled(database: Database, count: int = 240) -> str:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        other = await add_account(session, name="Other")
        for number in range(count):
            event, actor = EVENTS[number % 4], ACTORS[number % 7 % 4]
            kind = event.value.partition(".")[0]
            target = (kind, f"{kind}_{number % 30:04}", f"0015650{number % 100:05}" if kind == "phone" else "")
            outcome = "denied" if number % 11 == 0 else "success"
            for account_id in (account.id, other.id):
                record(session, actor, event, resource=target, outcome=outcome, account_id=account_id)
    return account.id


def meets(row: AuditEntry, filters: Filters) -> bool:
    """The filters in the plainest words there are."""
    spelled = (filters.actor, filters.actor.lower())
    return (
        row.event in (filters.events or {row.event})
        and row.resource_id.startswith(filters.resource)
        and (row.actor_id.startswith(spelled) or row.actor_name.startswith(spelled) or row.actor_id in filters.named)
        and filters.outcome in {"", row.outcome}
        and filters.category in {"", row.category}
        and filters.verb in {"", row.verb}
        and row.actor_id in (filters.actors or {row.actor_id})
        and filters.target in {"", row.resource_id}
        and filters.target_type in {"", row.resource_type}
        and _meets_ip(row.ip, filters.ip)
        and _meets_keyword(row.entry, filters.keyword)
    )


def _meets_ip(ip: str, wanted: str) -> bool:
    if "/" not in wanted:
        plain = {"[2001:DB8::7]": "2001:db8::7", "2001:0db8::": "2001:db8::", "::ffff:10.1.77.4": "10.1.77.4"}
        return (plain.get(wanted) or search.whole_ip(wanted) or wanted) in ip
    return ip != "local" and ipaddress.ip_address(ip) in ipaddress.ip_network(wanted, strict=False)


def _meets_keyword(entry: str, keyword: str) -> bool:
    words = (keyword, keyword.replace(":", ""))
    return any(json.dumps(word, ensure_ascii=False)[1:-1].lower() in entry.lower() for word in words)


async def paged(database: Database, chain: str, filters: Filters, *, limit: int = 7) -> list[int]:
    """Every page's numbers, joined."""
    seen: list[int] = []
    before = None
    async with database.sessions() as session:
        for _ in range(500):
            page = await list_entries(session, chain, filters, limit=limit, before=before)
            seen += [row.seq for row in page.rows]
            before = page.next_before
            if before is None:
                return seen
    raise AssertionError("paging does not end")


@pytest.mark.parametrize("narrow", [0, 50, 2_000])
async def test_every_filter_and_pair_finds_exactly_what_a_look_at_all_entries_finds(
    database: Database, monkeypatch: pytest.MonkeyPatch, narrow: int
) -> None:
    """S0-38 to S0-47, S1-50: alone and in pairs, whichever way candidates come, in whatever groups."""
    monkeypatch.setattr(store, "NARROW", narrow)
    monkeypatch.setattr(store, "GROUP", 40)
    chain = await filled(database)
    async with database.sessions() as session:
        rows = [row async for row in entries_oldest_first(session, chain)]
    pairs = [one | other for one, other in itertools.combinations(SINGLE, 2) if not one.keys() & other.keys()]
    for number, fields in enumerate([*SINGLE, *(pairs[:: 7 if narrow else 1])]):
        filters = Filters(**fields)
        wanted = [row.seq for row in reversed(rows) if meets(row, filters)]
        limit = 7 if number < len(SINGLE) or number % 7 == 0 else 60  # small pages are slow, and join up by one rule
        assert await paged(database, chain, filters, limit=limit) == wanted, fields


async def test_an_entry_at_hand_meets_exactly_the_filters_that_find_it(database: Database) -> None:
    """S1-51, S1-53: the live list shows what the list shows, for every filter and pair."""
    chain = await filled(database, 60)
    pairs = [one | other for one, other in itertools.combinations(SINGLE, 2) if not one.keys() & other.keys()]
    async with database.sessions() as session:
        rows = [row async for row in entries_oldest_first(session, chain)]
        times = [{"since": rows[20].at}, {"until": rows[20].at}, {"since": rows[5].at, "until": rows[40].at}]
        for fields in [*SINGLE, *times, *pairs[::3]]:
            filters = Filters(**fields)
            page = await list_entries(session, chain, filters, limit=100)
            assert page.next_before is None
            shown = [row.seq for row in reversed(rows) if matching.meets(row, filters)]
            assert shown == [row.seq for row in page.rows], fields


async def test_the_beginning_of_a_hash_finds_its_entry_and_the_one_behind_it(database: Database) -> None:
    """S0-44: every stored field: in and behind the index, in any case, with other filters, on the live list too."""
    chain = await filled(database)
    async with database.sessions() as session:
        rows = [row async for row in entries_oldest_first(session, chain)]
    for _ in range(2):
        for row, behind in ((rows[0], rows[1]), (rows[100], rows[101])):
            for keyword in (row.hash, row.hash[:8], row.hash[:20].upper()):
                assert await paged(database, chain, Filters(keyword=keyword)) == [behind.seq, row.seq]
                meeting = [one.seq for one in rows if matching.meets(one, Filters(keyword=keyword))]
                assert meeting == [row.seq, behind.seq]
        assert await paged(database, chain, Filters(keyword=rows[-1].hash)) == [rows[-1].seq]
        assert await paged(database, chain, Filters(keyword=rows[0].prev_hash)) == [1]  # 64 zeros: nothing before it
        narrowed = Filters(keyword=rows[100].hash, resource=rows[100].resource_id)
        assert await paged(database, chain, narrowed) == [101]
        for nothing in (rows[100].hash[:7], rows[100].hash[1:], rows[100].hash + "0", rows[100].hash[:9] + "g"):
            assert await paged(database, chain, Filters(keyword=nothing)) == []
        while await OwedIndexing(database).step():  # and once more from the index
            pass


async def test_the_first_entry_behind_a_beginning_is_found_by_what_it_follows(database: Database) -> None:
    """S0-44: the entry with that hash was removed; the next one still names it."""
    chain = await filled(database, 20)
    async with database.sessions() as session:
        rows = [row async for row in entries_oldest_first(session, chain)]
        assert await hashes.candidates(session, chain, rows[9].hash, 11, 20) == [11]
        assert matching.meets(rows[10], Filters(keyword=rows[9].hash))


async def test_what_came_behind_a_number_is_read_for_many_chains_at_once(database: Database) -> None:
    """One question for all who follow, oldest first, as many as are asked for."""
    chain = await filled(database, 12)
    async with database.sessions() as session:
        last = await heads(session, [chain, "account_nobody"])
        assert list(last) == [chain]
        assert await entries_behind(session, last, limit=10) == []
        assert await entries_behind(session, {}, limit=10) == []
        behind = await entries_behind(session, {chain: last[chain] - 3, "platform": 0}, limit=10)
        assert [(row.chain, row.seq) for row in behind] == [(chain, last[chain] - back) for back in (2, 1, 0)]
        assert len(await entries_behind(session, {chain: 0}, limit=5)) == 5


async def test_a_page_whose_time_is_up_goes_on_where_it_stopped(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S0-29: short pages join up as full ones do, and none of them says that it is the last before the end."""
    monkeypatch.setattr(store, "BUDGET_S", 0)
    monkeypatch.setattr(store, "GROUP", 10)
    monkeypatch.setattr(store, "NARROW", 0)
    chain = await filled(database)
    async with database.sessions() as session:
        assert (await list_entries(session, chain, Filters(ip="10.192.0.0/10", outcome="denied"))).is_short
        rows = [row async for row in entries_oldest_first(session, chain)]
    for filters in (Filters(ip="10.192.0.0/10", outcome="denied"), Filters(keyword="ev"), Filters(outcome="denied")):
        assert await paged(database, chain, filters) == [r.seq for r in reversed(rows) if meets(r, filters)]


async def test_times_are_inclusive_at_both_ends(database: Database) -> None:
    """S0-39: an entry at the very start or end is in; either end may be empty."""
    chain = await filled(database, 8)
    async with database.sessions() as session:
        rows = [row async for row in entries_oldest_first(session, chain)]
        first, last = rows[0].at, rows[-1].at
        for filters, count in (
            (Filters(since=first, until=last), len(rows)),
            (Filters(since=first), len(rows)),
            (Filters(until=last), len(rows)),
            (Filters(since=last + dt.timedelta(milliseconds=1)), 0),
            (Filters(until=first - dt.timedelta(milliseconds=1)), 0),
        ):
            assert len((await list_entries(session, chain, filters)).rows) == count


async def test_groups_count_what_has_a_value_in_common(database: Database) -> None:
    """S2-05: by account, user, address and description, most first, never beyond the cap."""
    chain = await filled(database)
    async with database.sessions() as session:
        rows = [row async for row in entries_oldest_first(session, chain)]
        for by, column in (("account", "chain"), ("user", "actor_id"), ("ip", "ip"), ("description", "event")):
            groups, more = await grouped(session, chain, Filters(outcome="denied"), by)
            wanted = [getattr(row, column) for row in rows if row.outcome == "denied"]
            assert {group.value: group.count for group in groups} == {one: wanted.count(one) for one in wanted}
            assert [group.count for group in groups] == sorted((group.count for group in groups), reverse=True)
            assert not more


async def test_an_entry_is_found_in_the_very_next_read(database: Database) -> None:
    chain = await filled(database, 4)
    async with database.sessions.begin() as session:
        record(session, SYSTEM, Event.ACCOUNT_READ, resource=("account", chain, "quite a rare word"), account_id=chain)
    async with database.sessions() as session:
        assert len((await list_entries(session, chain, Filters(keyword="a rare w"))).rows) == 1
