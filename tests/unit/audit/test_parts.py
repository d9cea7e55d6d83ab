"""Entries of bulk operations: the same to the byte as any other, and found before they are in the full-text indexes."""

import json
from dataclasses import replace

from sqlalchemy import select, text

from engine.audit import owed
from engine.audit.changes import FieldChange
from engine.audit.events import Event
from engine.audit.owed import OwedIndexing, Range, owed_between
from engine.audit.parts import Part, record_parts, unchained
from engine.audit.record import SYSTEM, Actor, canonical, record
from engine.audit.store import Filters, list_entries
from engine.audit.verify import export_line, verify
from engine.db import Database
from engine.models import AuditEntry
from tests.factories import add_account

ACTOR = Actor(
    "user", "user_1", 'Zoë "Q" \\ 100%', "10.1.77.4", display_name="id seq at", role="owner",
    user_agent="Firefox/1 \u2028",    request_id="request_1", method="POST", route="/api/v1/imports",
)  # fmt: skip


def parts_of(count: int, label: str = "Desk") -> list[Part]:
    moved = {
        "label": FieldChange(None, 'He said "hi"\n\u2028', False),
        "secret": FieldChange("0ld", "n3w", True),
        "settings": FieldChange({"vlan_id": 1}, {"b": [1, None], "a": {"z": 1, "ä": 2}}, False),
    }
    return [Part(Event.PHONE_UPDATE, ("phone", f"phone_{at:04}", f"{label} {at}"), moved) for at in range(count)]


async def entries(database: Database, chain: str) -> list[AuditEntry]:
    async with database.sessions() as session:
        query = select(AuditEntry).where(AuditEntry.chain == chain).order_by(AuditEntry.seq)
        return list(await session.scalars(query))


async def recorded(database: Database, count: int, label: str = "Desk") -> str:
    async with database.sessions.begin() as session:
        account = await add_account(session)
    actor = replace(ACTOR, account_id=account.id)
    async with database.sessions.begin() as session:
        record(session, actor, Event.PHONE_CHANGE_MANY, resource=("phone", "request_9", "many"))
        await record_parts(session, actor, account.id, "request_9", parts_of(count, label))
    return account.id


async def test_an_entry_of_a_bulk_operation_has_the_text_and_columns_of_any_other(database: Database) -> None:
    """S1-06: the same change told by `record` and as a part differ in identifier, number, time and parent alone."""
    chain = await recorded(database, 1)
    async with database.sessions.begin() as session:
        resource = ("phone", "phone_0000", "Desk 0")
        record(session, replace(ACTOR, account_id=chain), Event.PHONE_UPDATE, resource=resource)
    _made, part, _parent, plain = await entries(database, chain)
    bodies = [json.loads(row.entry) for row in (part, plain)]
    assert canonical(bodies[0]) == part.entry
    assert bodies[0]["changes"]["settings"]["after"] == {"b": [1, None], "a": {"z": 1, "ä": 2}}
    assert set(bodies[0]["changes"]["secret"]["after"]) == {"redacted", "fingerprint"}
    assert (bodies[0]["bulk_id"], bodies[0]["at"][:10]) == ("request_9", part.at.date().isoformat())
    for body in bodies:
        for name in ("id", "seq", "at", "bulk_id", "changes"):
            del body[name]
    assert bodies[0] == bodies[1]
    own = {"id", "seq", "at", "entry", "prev_hash", "hash"}
    columns = [column.name for column in AuditEntry.__table__.columns if column.name not in own]
    assert [getattr(part, name) for name in columns] == [getattr(plain, name) for name in columns]


async def test_a_chain_with_thousands_of_parts_verifies(database: Database) -> None:
    """S1-06: parts come in groups; numbers and hashes go on from one group to the next and into the parent's entry."""
    chain = await recorded(database, 1_203)
    rows = await entries(database, chain)
    assert [row.seq for row in rows] == list(range(1, 1_206))
    assert verify([export_line(row) for row in rows]).holds
    assert rows[-1].event == "phone.change_many"


async def test_parts_made_ready_before_the_transaction_are_the_same(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
    ready = unchained(parts_of(3), database.session_class.fingerprint_key)  # type: ignore[attr-defined]
    async with database.sessions.begin() as session:
        record(session, SYSTEM, Event.PHONE_CHANGE_MANY, resource=("phone", "request_9", "many"), account_id=account.id)
        await record_parts(session, SYSTEM, account.id, "request_9", [*ready, *parts_of(1, "Late")])
    rows = await entries(database, account.id)
    assert [json.loads(row.entry)["resource"]["name"] for row in rows[1:5]] == ["Desk 0", "Desk 1", "Desk 2", "Late 0"]
    assert verify([export_line(row) for row in rows]).holds


ASKED = (
    Filters(keyword="Desk 17"), Filters(keyword="He said"), Filters(ip="77.4"),
    Filters(events=frozenset({"phone.update"})),
    Filters(outcome="success", category="Phones"), Filters(keyword="no such words"), Filters(keyword="Acme"),
)  # fmt: skip


async def found(database: Database, chain: str) -> list[list[int]]:
    """Every page of every search."""
    answers = []
    async with database.sessions() as session:
        for filters in ASKED:
            seqs: list[int] = []
            before: int | None = None
            while True:
                page = await list_entries(session, chain, filters, limit=40, before=before)
                seqs += [row.seq for row in page.rows]
                before = page.next_before
                if before is None:
                    break
            answers.append(seqs)
    return answers


async def indexed(database: Database, word: str) -> int:
    query = text("SELECT count(*) FROM audit_search_text WHERE audit_search_text MATCH :word")
    async with database.sessions() as session:
        return await session.scalar(query, {"word": word}) or 0


async def test_what_is_owed_to_the_indexes_is_found_all_the_same(database: Database) -> None:
    """S1-54: before anything is put in, half way and at the end every search answers alike; nothing goes in twice."""
    chain = await recorded(database, 450)
    async with database.sessions.begin() as session:  # behind the range: noted at its end, by the trigger
        record(session, SYSTEM, Event.PHONE_READ, resource=("phone", "phone_x", "Desk 171"), account_id=chain)
    async with database.sessions() as session:
        assert await owed_between(session, chain, 1, 9_999) == [Range(chain, 1, 453)]
        assert await owed_between(session, chain, 10, 20) == [Range(chain, 10, 20)]
        assert await session.scalar(text("SELECT count(*) FROM audit_search_owed")) == 2
    assert await indexed(database, "Desk") == 0
    before = await found(database, chain)
    assert [len(one) for one in before] == [12, 450, 451, 450, 451, 0, 1]
    indexing = OwedIndexing(database)
    assert await indexing.is_owing()
    assert await indexing.step()
    assert await found(database, chain) == before
    while await indexing.step():
        pass
    assert not await indexing.is_owing()
    assert await found(database, chain) == before
    async with database.sessions() as session:
        assert await owed_between(session, chain, 1, 9_999) == []
    assert await indexed(database, "said") == 450


async def test_neighbouring_ranges_are_looked_through_as_one(database: Database) -> None:
    """S1-54: an operation that writes in groups owes one range after the other."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
    async with database.sessions.begin() as session:
        record(session, SYSTEM, Event.PHONE_CHANGE_MANY, resource=("phone", "request_9", "many"), account_id=account.id)
        for _ in range(3):
            await record_parts(session, SYSTEM, account.id, "request_9", parts_of(owed.MANY))
        await record_parts(session, SYSTEM, account.id, "request_9", parts_of(owed.MANY - 1))
    async with database.sessions() as session:
        assert await owed_between(session, account.id, 1, 9_999) == [Range(account.id, 1, 4 * owed.MANY + 1)]
    assert [len(one) for one in await found(database, account.id)][1] == 4 * owed.MANY - 1
