"""The emergency room's queries: pages without gaps, accounts that never see each other, the snapshot's shape."""

import datetime as dt
import json

import pytest
from sqlalchemy import text

from engine.audit.record import SYSTEM
from engine.db import Database, utc_now
from engine.e911 import sites, store
from engine.e911.store_outbox import OLDEST_MAIL
from engine.errors import Invalid
from engine.ids import new_id
from engine.models import Notification, NotificationState
from tests.factories import (
    add_account,
    add_confirmed_location,
    add_emergency_call,
    add_line,
    add_location,
    add_network,
    add_number,
    add_pbx,
    add_phone,
    add_sighting,
    add_trunk,
)

NOW = dt.datetime(2026, 11, 21, 20, 0, tzinfo=dt.UTC)


async def test_pages_of_calls_neither_skip_nor_repeat_when_many_share_a_moment(database: Database) -> None:
    async with database.sessions.begin() as session:
        account, other = await add_account(session), await add_account(session, name="Other")
        made = [
            await add_emergency_call(session, account, at=NOW + dt.timedelta(seconds=number // 4))
            for number in range(11)
        ]
        await add_emergency_call(session, other, at=NOW)
    seen: list[str] = []
    cursor = None
    async with database.sessions.begin() as session:
        while True:
            page = await store.calls_of(session, account.id, limit=3, cursor=cursor)
            seen += [row.id for row in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                break
    newest_first = sorted(made, key=lambda call: (call.sent_at, call.id), reverse=True)
    assert seen == [call.id for call in newest_first]


@pytest.mark.parametrize("cursor", ["", "x", "\u00e9", "bm90IGEgY3Vyc29y", "MjAyNiB4IHk"])
async def test_a_cursor_nobody_gave_is_refused(database: Database, cursor: str) -> None:
    async with database.sessions.begin() as session:
        with pytest.raises(Invalid, match="cursor"):
            await store.calls_of(session, "account_1", cursor=cursor)


async def test_rows_of_another_account_are_absent(database: Database) -> None:
    async with database.sessions.begin() as session:
        account, other = await add_account(session), await add_account(session, name="Other")
        location = await add_location(session, account)
        recipient = await sites.add_recipient(session, SYSTEM, account, "desk@example.com")
        call = await add_emergency_call(session, account, at=NOW)
        pbx = await add_pbx(session, account)
    async with database.sessions.begin() as session:
        assert await store.location_by_id(session, other.id, location.id) is None
        assert await store.recipient_by_id(session, other.id, recipient.id) is None
        assert await store.call_by_id(session, other.id, call.id) is None
        assert not await store.pbx_exists(session, other.id, pbx.id)
        assert (await store.call_by_id(session, account.id, call.id)) is not None


async def test_counts_name_every_state_and_the_longest_wait(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        call = await add_emergency_call(session, account, at=NOW)
        assert await session.scalar(OLDEST_MAIL) is None
        for number, state in enumerate(["waiting", "waiting", "failed"]):
            session.add(
                Notification(
                    id=new_id("notification"),
                    account_id=account.id,
                    emergency_call_id=call.id,
                    recipient=f"a{number}@example.com",
                    because="account",
                    subject="s",
                    body="b",
                    state=state,
                    created_at=NOW + dt.timedelta(seconds=number),
                    next_try_at=NOW,
                )
            )
    async with database.sessions.begin() as session:
        assert await store.notification_counts(session, account.id) == {
            NotificationState.WAITING: 2,
            NotificationState.SENT: 0,
            NotificationState.FAILED: 1,
        }
        assert await store.waiting_count(session) == 2
        assert await store.waiting_count(session, "account_other") == 0
        assert await session.scalar(OLDEST_MAIL) == NOW


async def test_the_snapshot_holds_all_a_call_needs_and_no_lines_secret(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session, callback_number="+15185550100")
        location = await add_location(session, account, validated_at=utc_now(), status="validated")
        network = await add_network(session, location, "10.1.0.0/16")
        pbx = await add_pbx(
            session,
            account,
            sources=["10.0.0.0/8"],
            default_route="sip:pbx.example:5060;transport=tcp",
            tls_name="pbx.example",
            auth_user="acme",
            secret="pbx-password",
        )
        first = await add_line(session, account, "101", callback_number="+15185550101", pbx_id=pbx.id)
        second = await add_line(session, account, "102")
        phone = await add_phone(session, account, second, first, location_id=location.id)
        trunk = await add_trunk(session, account, secret="trunk-password", test_number="933", last_resort=True)
        held_by = {"pbx_id": pbx.id, "sip_user": "102", "extension": "102", "name": "Desk", "call": "call_1"}
        number = await add_number(
            session, account, "+15185550150", kind="elin", location_id=location.id, held_until=NOW, held_by=held_by
        )
        sighting = await add_sighting(session, phone, chassis="001122334455", port="gi1/0/24", ip="10.1.0.9")
        confirmed = await add_confirmed_location(session, location, phone_id=phone.id)
        stranger = await add_account(session, name="Other")
        await add_line(session, stranger, "999")
        await add_number(session, stranger, "+15185550151")
    async with database.sessions.begin() as session:
        snapshot = await store.account_snapshot(session, account.id)
        numbers = await store.revisions(session)
    assert snapshot is not None
    text = json.dumps(snapshot)
    assert "secret-of" not in text
    assert snapshot == {
        "account_id": account.id,
        "revision": numbers[account.id],
        "unread": [],
        "name": "Acme Dental",
        "country": "US",
        "timezone": "America/New_York",
        "language": "en",
        "default_location_id": None,
        "callback_number": "+15185550100",
        "elin_hold_minutes": 180,
        "trunk_group_id": None,
        "trunk_groups": [],
        "locations": [
            {
                "id": location.id,
                "name": "Headquarters",
                "civic_address": location.civic_address,
                "geo": None,
                "timezone": None,
                "callback_number": None,
                "onsite_number": None,
                "carrier_ids": {},
                "status": "validated",
                "validated_at": store.rfc3339(location.validated_at),
                "trunk_group_id": None,
            }
        ],
        "networks": [
            {"id": network.id, "kind": "subnet", "value": "10.1.0.0/16", "location_id": location.id, "pbx_id": None}
        ],
        "phones": [
            {
                "id": phone.id,
                "mac": "0015654aa937",
                "label": "Desk",
                "location_id": location.id,
                "line_ids": [second.id, first.id],
            }
        ],
        "lines": [
            {
                "id": first.id,
                "extension": "101",
                "display_name": "Desk 101",
                "sip_user": "101",
                "callback_number": "+15185550101",
                "location_id": None,
                "pbx_id": pbx.id,
            },
            {
                "id": second.id,
                "extension": "102",
                "display_name": "Desk 102",
                "sip_user": "102",
                "callback_number": None,
                "location_id": None,
                "pbx_id": None,
            },
        ],
        "pbxs": [
            {
                "id": pbx.id,
                "name": "PBX",
                "sources": ["10.0.0.0/8"],
                "tls_name": "pbx.example",
                "auth_user": "acme",
                "secret": "pbx-password",
                "registrar_host": "127.0.0.1",
                "registrar_port": 5060,
                "transport": "udp",
                "default_location_id": None,
                "default_route": "sip:pbx.example:5060;transport=tcp",
            }
        ],
        "trunks": [
            {
                "id": trunk.id,
                "name": "Carrier",
                "priority": 10,
                "host": "127.0.0.1",
                "port": 5090,
                "transport": "udp",
                "auth_user": "",
                "secret": "trunk-password",
                "profile": "generic",
                "location_mode": "value",
                "test_number": "933",
                "last_resort": True,
                "enabled": True,
                "pings": True,
            }
        ],
        "numbers": [
            {
                "id": number.id,
                "e164": "+15185550150",
                "location_id": location.id,
                "kind": "elin",
                "line_id": None,
                "held_until": "2026-11-21T20:00:00.000000Z",
                "held_by": held_by,
            }
        ],
        "sightings": [
            {
                "phone_id": phone.id,
                "chassis": "001122334455",
                "port": "gi1/0/24",
                "bssid": None,
                "ip": "10.1.0.9",
                "source": "api",
                "seen_at": store.rfc3339(sighting.seen_at),
            }
        ],
        "confirmed": [
            {
                "id": confirmed.id,
                "phone_id": phone.id,
                "line_id": None,
                "location_id": location.id,
                "network": "203.0.113.0/24",
                "confirmed_at": store.rfc3339(confirmed.confirmed_at),
            }
        ],
    }


async def test_a_password_whose_key_is_gone_leaves_the_snapshot_without_it_and_whole(
    database: Database,
) -> None:
    """E-08: a lost key takes a trunk's password, never an account's 911 calls."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        kept = await add_trunk(session, account, name="Kept", secret="kept-password")
        lost = await add_trunk(session, account, name="Lost", secret="lost-password")
    async with database.sessions.begin() as session:
        await session.execute(
            text("UPDATE trunk SET secret = :bytes WHERE id = :id"), {"bytes": b"x" * 60, "id": lost.id}
        )
    async with database.sessions() as session:
        snapshot = await store.account_snapshot(session, account.id)
    assert snapshot is not None
    assert {row["id"]: row["secret"] for row in snapshot["trunks"]} == {kept.id: "kept-password", lost.id: None}
    assert snapshot["unread"] == [f"trunks: {lost.id}: secret cannot be read, and is left out"]


async def test_machines_that_see_phones_and_hold_numbers_move_no_revision(database: Database) -> None:
    """E-05: a phone seen at another port is told to the edge at once, not by a new table."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        phone = await add_phone(session, account)
        number = await add_number(session, account, "+15185550150", kind="elin")
    async with database.sessions() as session:
        before = await store.revisions(session)
    async with database.sessions.begin() as session:
        await add_sighting(session, phone, bssid="001122334455")
        session.add(number)
        number.held_until, number.held_by = NOW, {"call": "call_1"}
    async with database.sessions() as session:
        assert await store.revisions(session) == before


async def test_every_change_of_a_location_moves_the_accounts_revision(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        location = await add_location(session, account)
    async with database.sessions.begin() as session:
        before = (await store.revisions(session))[account.id]
    async with database.sessions.begin() as session:
        session.add(location)
        await sites.update_location(session, SYSTEM, account, location, {"name": "HQ"})
    async with database.sessions.begin() as session:
        assert (await store.revisions(session))[account.id] == before + 1
        assert await store.account_snapshot(session, "account_none") is None


async def test_an_account_without_a_revision_row_stands_at_nought(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
    async with database.sessions.begin() as session:
        await session.execute(text("DELETE FROM revision"))
    async with database.sessions.begin() as session:
        assert await store.revisions(session) == {account.id: 0}
        snapshot = await store.account_snapshot(session, account.id)
    assert snapshot is not None
    assert snapshot["revision"] == 0
