"""What a typed beginning can mean: the few whole values that begin so, or too many of them to name."""

import pytest

from engine.audit import search, store, values
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store import Filters, list_entries
from engine.audit.values import Values, values_of
from engine.db import Database
from tests.factories import add_account


async def with_people(database: Database) -> str:
    """Thirty actors, one entry each; and one whose name begins with a capital letter."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        for number in range(30):
            actor = Actor("user", f"user_{number:02}", f"person{number}@example.com", "10.0.0.1")
            record(
                session, actor, Event.PHONE_READ, resource=("phone", f"phone_{number:02}", ""), account_id=account.id
            )
        zoe = Actor("user", "user_zoe", "Zoe%_@example.com", "10.0.0.1")
        record(session, zoe, Event.PHONE_READ, resource=("phone", "phone_00", ""), account_id=account.id)
    return account.id


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(actor="person7@"), Values((), ("person7@example.com",), None)),
        (Filters(actor="user_2"), Values(tuple(f"user_{number}" for number in range(20, 30)), (), None)),
        (Filters(actor="Zoe%_"), Values((), ("Zoe%_@example.com",), None)),
        (Filters(actor="Zoe_"), Values((), (), None)),  # no wildcards
        (Filters(actor="PERSON7@"), Values((), ("person7@example.com",), None)),  # or in small letters
        (Filters(actor="person"), Values((), None, None)),  # thirty of them
        (Filters(resource="phone_07"), Values(None, None, ("phone_07",))),
        (Filters(resource="phone_"), Values(None, None, None)),
        (Filters(resource="line_"), Values(None, None, ())),
        (Filters(outcome="denied"), Values()),
    ],
)
async def test_few_whole_values_take_the_place_of_a_beginning(
    database: Database, filters: Filters, expected: Values
) -> None:
    """S1-50: as typed or in small letters, to the letter; None where more than twenty begin so."""
    chain = await with_people(database)
    async with database.sessions() as session:
        assert await values_of(session, chain, filters) == expected


async def test_a_beginning_that_nothing_has_ends_the_search(database: Database) -> None:
    """S1-50: at once, and with an empty page that is no short one."""
    chain = await with_people(database)
    async with database.sessions() as session:
        page = await list_entries(session, chain, Filters(actor="nobody", outcome="success"))
    assert (page.rows, page.next_before, page.is_short) == ([], None, False)


async def test_more_values_than_are_named_are_found_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1-50: whether a beginning became its values or not, the entries are the same."""
    chain = await with_people(database)
    found = []
    for most in (0, 3, 20, 100):
        monkeypatch.setattr(values, "MOST", most)
        async with database.sessions() as session:
            page = await list_entries(session, chain, Filters(actor="person1", outcome="success"))
            found.append([row.actor_name for row in page.rows])
    assert found == [[f"person{number}@example.com" for number in (*range(19, 9, -1), 1)]] * 4


async def test_an_identifier_is_found_by_its_random_digits(database: Database) -> None:
    """S1-54: how it begins stands in every entry; two that end alike are told apart by the entry itself."""
    chain = await with_people(database)
    one, other = f"request_{'0' * 18}abcdefgh", f"request_{'1' * 18}abcdefgh"
    async with database.sessions.begin() as session:
        for request in (one, other):
            actor = Actor("user", "user_00", "a@example.com", "10.0.0.1", request_id=request)
            record(session, actor, Event.PHONE_READ, account_id=chain)
    matched = search.expression(Filters(keyword=one), Values())
    assert matched is not None
    assert matched.words == '(body : "abcdefgh")'
    async with database.sessions() as session:
        page = await list_entries(session, chain, Filters(keyword=one))
    assert [one in row.entry for row in page.rows] == [True]


async def test_an_index_is_asked_in_spans_and_nothing_is_left_out(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1-54: spans of four numbers, and pages that end by time, show each entry once."""
    chain = await with_people(database)
    monkeypatch.setattr(store, "SPAN", 4)
    monkeypatch.setattr(store, "GROUP", 4)
    monkeypatch.setattr(store, "SPAN_S", 0.0)  # none grows
    monkeypatch.setattr(store, "BUDGET_S", 0.0)
    seen: list[str] = []
    before: int | None = None
    async with database.sessions() as session:
        for _ in range(40):
            page = await list_entries(session, chain, Filters(keyword="person1"), before=before)
            seen += [row.actor_name for row in page.rows]
            before = page.next_before
            if before is None:
                break
    assert seen == [f"person{number}@example.com" for number in (*range(19, 9, -1), 1)]
    assert before is None
