"""The per-device report against a database: what its rows rest on, their order, filters and counts."""

import dataclasses
import datetime as dt
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import Database, utc_now
from engine.e911 import compliance_list, store_compliance
from engine.e911.compliance import Row, Verdict, told_whole
from engine.e911.compliance_list import Counts, Filters
from engine.e911.store_compliance import Place
from engine.models import Account, FetchedFile, LocationTest, NotificationRecipient, Phone
from tests.factories import (
    HEADQUARTERS,
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

GOOD = {"status": "validated", "validated_at": dt.datetime(2026, 11, 1, tzinfo=dt.UTC)}
PROOF = {"numbers": ["911", "933"], "faults": []}
VALIDATOR = {"by": "lost.example.com", "verdict": "validated", "words": "lost.example.com knows this address."}


@pytest.fixture
async def account(database: Database) -> Account:
    """With a trunk and somebody who is told."""
    async with database.sessions.begin() as session:
        account = await add_account(session, callback_number="+15185550199")
        await add_trunk(session, account)
        who = NotificationRecipient(id="recipient_1", account_id=account.id, email="desk@example.com")
        session.add(who)
        record(session, SYSTEM, Event.RECIPIENT_CREATE, who)
        return account


async def fetched(session: AsyncSession, phone: Phone, **fields: Any) -> None:
    """The phone was given a file whose plan was proven."""
    defaults = {
        "phone_id": phone.id, "name": f"{phone.mac}.cfg", "account_id": phone.account_id, "etag": '"9f86d081"',
        "body": b"", "fetched_at": dt.datetime(2026, 11, 20, 9, tzinfo=dt.UTC), "proof": PROOF,
    }  # fmt: skip
    session.add(FetchedFile(**defaults | fields))
    phone.last_fetch_at = utc_now()
    await session.flush()


async def rows(database: Database, account: Account, *, may_mail: bool = True) -> list[Row]:
    async with database.sessions() as session:
        basis = await store_compliance.basis_of(session, account, may_mail=may_mail, applications={"linphone"})
        page = await compliance_list.page(session, basis, Filters(), after=None, limit=100)
        assert page.following is None
        return list(page.rows)


async def test_a_row_rests_on_what_a_call_would_be_decided_by(database: Database, account: Account) -> None:
    """E-16: location and its source, callback number, proof, recipients, test and call: each with its evidence."""
    async with database.sessions.begin() as session:
        place = await add_location(
            session,
            account,
            **GOOD,
            validation=VALIDATOR,
            notification_recipients=["guard@example.com", "DESK@example.com"],
        )
        pbx = await add_pbx(session, account)
        line = await add_line(session, account, "101", pbx_id=pbx.id, callback_number="+15185550101")
        phone = await add_phone(session, account, line, location_id=place.id)
        await fetched(session, phone)
        tried = dt.datetime(2026, 11, 19, tzinfo=dt.UTC)
        session.add(
            LocationTest(
                location_id=place.id,
                account_id=account.id,
                tried_at=tried,
                passed_at=tried,
                outcome="passed",
                detail="Ok.",
            )
        )
        await add_emergency_call(session, account, kind="test", outcome="answered", caller={"line_id": line.id})
    (row,) = await rows(database, account)
    assert [row.direct_dialing.verdict, row.notification.verdict, row.location.verdict, row.verdict] == ["met"] * 4
    assert row.location.paragraph == "47 CFR § 9.16(b)(3)(i)"
    told = told_whole(row)
    assert (told["location_name"], told["location_source"], told["validated_by"]) == (
        "Headquarters", "phone", "lost.example.com",
    )  # fmt: skip
    assert (told["callback_number"], told["callback_from"], told["trunk"]) == ("+15185550101", "its own", "Carrier")
    assert (told["dial_proof"], told["dial_etag"], told["dial_file"]) == ("proven", "9f86d081", f"{phone.mac}.cfg")
    assert told["recipients"] == ["desk@example.com", "guard@example.com"]
    assert (told["test_outcome"], told["test_passed_at"], told["call_kind"]) == ("passed", tried, "test")
    assert (told["placement"], told["placement_by"]) == ("fixed", "assumed")
    assert "9f86d081" in row.direct_dialing.why
    assert any(each.startswith("phone: Headquarters (set on phone 0015654aa937); taken") for each in told["evidence"])


async def test_the_engine_s_own_order_says_which_location_goes(database: Database, account: Account) -> None:
    """E-16, E-05: the switch port before the phone's record; the subnet of another PBX is none of this line's."""
    async with database.sessions.begin() as session:
        here = await add_location(session, account, **GOOD)
        there = await add_location(session, account, name="Annex", civic_address={**HEADQUARTERS, "HNO": "7"}, **GOOD)
        one, other = await add_pbx(session, account), await add_pbx(session, account, name="Other", sources=[])
        line = await add_line(session, account, "101", pbx_id=one.id)
        phone = await add_phone(session, account, line, location_id=here.id)
        await add_network(session, there, "10.0.0.0/8", pbx_id=other.id)
        seen = await add_sighting(session, phone, ip="10.1.2.3")
    (row,) = await rows(database, account)
    assert told_whole(row)["location_name"] == "Headquarters"
    async with database.sessions.begin() as session:
        seen = await session.merge(seen)
        seen.chassis, seen.port = "001a2b3c4d5e", "Gi1/0/12"
        await add_network(session, there, "001a2b3c4d5e/Gi1/0/12", kind="switch_port")
    (row,) = await rows(database, account)
    assert (told_whole(row)["location_name"], told_whole(row)["location_source"]) == ("Annex", "switch_port")
    assert row.location.verdict is Verdict.UNKNOWN  # the record says otherwise
    assert "phone: Headquarters" in row.location.why


async def test_a_line_on_two_phones_is_one_place_only_when_the_pbx_names_the_phone(
    database: Database, account: Account
) -> None:
    """E-16: what the call would convey without X-Callpoint-Device is another location: that cannot be known."""
    async with database.sessions.begin() as session:
        here = await add_location(session, account, **GOOD)
        there = await add_location(session, account, name="Annex", civic_address={**HEADQUARTERS, "HNO": "7"}, **GOOD)
        line = await add_line(session, account, "101")
        await add_phone(session, account, line, location_id=here.id, id="phone_1")
        await add_phone(session, account, line, location_id=there.id, mac="0015654aa938", id="phone_2")
    found = await rows(database, account)
    assert [told_whole(row)["location_name"] for row in found] == ["Headquarters", "Annex"]
    assert {row.location.verdict for row in found} == {Verdict.UNKNOWN}
    assert "1 other phone too" in found[0].location.why
    async with database.sessions() as session:  # a page that holds only one of them says the same
        basis = await store_compliance.basis_of(session, account, may_mail=True)
        page = await compliance_list.page(session, basis, Filters(), after=None, limit=1)
    assert page.rows[0].location == found[0].location


async def test_phones_come_first_key_by_key_then_lines_without_a_phone(database: Database, account: Account) -> None:
    """E-16: page by page nothing is left out and nothing comes twice."""
    async with database.sessions.begin() as session:
        lines = [await add_line(session, account, str(number)) for number in range(101, 110)]
        await add_phone(session, account, *lines[:3], id="phone_1")
        await add_phone(session, account, mac="0015654aa938", id="phone_2")
        await add_phone(session, account, lines[3], mac="0015654aa939", id="phone_3")
        stranger = await add_account(session, name="Another")
        await add_phone(session, stranger, await add_line(session, stranger, "999"))
    whole = await rows(database, account)
    assert [row.station.extension for row in whole] == [
        "101",
        "102",
        "103",
        "",
        "104",
        "105",
        "106",
        "107",
        "108",
        "109",
    ]
    async with database.sessions() as session:
        basis = await store_compliance.basis_of(session, account, may_mail=True)
        for limit in (1, 2, 3, 7):
            found, after = [], None
            while True:
                page = await compliance_list.page(session, basis, Filters(), after=after, limit=limit)
                found += page.rows
                if page.following is None:
                    break
                after = Place.read(str(page.following))
                assert after == page.following
            assert [row.station for row in found] == [row.station for row in whole]
    assert Place.read("p phone_x 999999999") is None is Place.read("q")


async def test_a_filter_finds_the_same_with_a_count_and_without(database: Database, account: Account) -> None:
    """E-16: by verdict and by location; a device that was mended since it was counted is shown no more."""
    async with database.sessions.begin() as session:
        place = await add_location(session, account, **GOOD)
        for number in range(6):
            line = await add_line(session, account, f"10{number}")
            phone = await add_phone(
                session,
                account,
                line,
                id=f"phone_{number}",
                mac=f"0015654aa94{number}",
                location_id=place.id if number % 2 else None,
            )
            if number == 5:
                await fetched(session, phone)
    counts = Counts(database)
    counts.want(account, 0, may_mail=True)
    under_way = counts.going_on(account.id)
    count = await counts.whole(account.id)
    assert count is under_way is counts.kept(account.id)
    assert count is not None
    assert counts.going_on(account.id) is None
    assert (count.devices, count.verdicts) == (6, {"not_met": 3, "unknown": 2, "met": 1})
    assert count.paragraphs["direct_dialing"] == {"unknown": 5, "met": 1}
    async with database.sessions.begin() as session:
        basis = await store_compliance.basis_of(session, account, may_mail=True)
        for filters, numbers in (
            (Filters(verdict="not_met"), "024"), (Filters(verdict="met"), "5"), (Filters(location=place.id), "135"),
            (Filters(location="none"), "024"), (Filters("unknown", place.id), "13"), (Filters("met", "none"), ""),
        ):  # fmt: skip
            for known in (None, count):
                found, after = [], None
                while True:
                    page = await compliance_list.page(session, basis, filters, after=after, limit=2, count=known)
                    found += page.rows
                    if (after := page.following) is None:
                        break
                assert "".join(row.station.extension[-1] for row in found) == numbers, (filters, known is None)
        mended = await session.get(Phone, count.marks[0][0].phone_id)
        assert mended is not None
        mended.location_id = place.id
        record(session, SYSTEM, Event.PHONE_UPDATE, mended)
        await session.flush()
        page = await compliance_list.page(session, basis, Filters("not_met"), after=None, limit=2, count=count)
        assert [row.station.extension for row in page.rows] == ["102"]
        gone = dataclasses.replace(count.marks[1][0], key=77)  # a place that nobody counted: it is looked for
        page = await compliance_list.page(session, basis, Filters("not_met"), after=gone, limit=9, count=count)
        assert [row.station.extension for row in page.rows] == ["102", "104"]
    await counts.close()


async def test_a_count_is_begun_anew_when_something_changed(database: Database, account: Account) -> None:
    """E-16: one at a time for an account, and none while the last one holds."""
    counts = Counts(database)
    counts.want(account, 1, may_mail=True)
    first = counts.going_on(account.id)
    counts.want(account, 2, may_mail=True)
    assert counts.going_on(account.id) is first
    assert await counts.whole(account.id) is first
    counts.want(account, 1, may_mail=True)
    assert counts.going_on(account.id) is None
    counts.want(account, 2, may_mail=True)
    assert counts.going_on(account.id) is not None
    await counts.close()


async def test_an_account_deleted_meanwhile_is_not_counted(database: Database) -> None:
    """E-16: the walk ends, and nothing is kept of it."""
    counts = Counts(database)
    counts.want(Account(id="account_gone"), 0, may_mail=True)
    assert await counts.whole("account_gone") is None


async def test_numbers_of_a_pool_are_told_and_none_is_lent(database: Database, account: Account) -> None:
    """E-16, E-09: a line without a number of its own is called back by one of its location's."""
    async with database.sessions.begin() as session:
        place = await add_location(session, account, **GOOD)
        for last in (1, 2):
            await add_number(session, account, f"+1518555017{last}", kind="elin", location_id=place.id)
        await add_phone(session, account, await add_line(session, account), location_id=place.id)
    (row,) = await rows(database, account)
    assert row.told.callback_from == "one of the 2 numbers lent to calls from Headquarters"
    assert (row.told.callback_number or "").startswith("+1518555017")


async def test_a_user_s_word_makes_a_device_one_that_is_used_elsewhere(database: Database, account: Account) -> None:
    """E-16: confirmed on the public network that it was last seen on: (iii), and met."""
    async with database.sessions.begin() as session:
        home = await add_location(session, account, name="Home of Dana", **GOOD)
        phone = await add_phone(session, account, await add_line(session, account))
        await add_sighting(session, phone, ip="203.0.113.9")
        await add_confirmed_location(session, home, phone_id=phone.id)
    (row,) = await rows(database, account)
    assert (row.placement, row.placement_by) == ("off_premises", "assumed")
    assert (row.location.paragraph, row.location.verdict) == ("47 CFR § 9.16(b)(3)(iii)", "met")


async def test_the_worst_proof_of_a_phone_s_files_counts(database: Database, account: Account) -> None:
    """E-16: one that holds 911 up is told, though a newer file does not."""
    async with database.sessions.begin() as session:
        phone = await add_phone(session, account, await add_line(session, account))
        bad = {"numbers": ["911"], "faults": ["dialplan: 911 after timer (no rule); write 911"]}
        await fetched(session, phone, name="common.cfg", proof=bad)
        await fetched(session, phone, fetched_at=dt.datetime(2026, 11, 21, tzinfo=dt.UTC))
        await fetched(session, phone, name="directory.xml", proof=None)
    (row,) = await rows(database, account)
    assert row.direct_dialing.verdict is Verdict.NOT_MET
    assert "911 after timer" in row.direct_dialing.why


@pytest.mark.parametrize(("may_mail", "expected"), [(True, "met"), (False, "not_met")])
async def test_recipients_without_a_mail_server_are_told_nothing(
    database: Database, account: Account, may_mail: bool, expected: str
) -> None:
    """E-16: (b)(2) needs both."""
    async with database.sessions.begin() as session:
        await add_line(session, account)
    (row,) = await rows(database, account, may_mail=may_mail)
    assert row.notification.verdict == expected


def test_places_are_written_and_read() -> None:
    """E-16: a place travels in a cursor."""
    for place in (Place("phone_a", 3), Place("phone_a", 0), Place(extension="10 1", line_id="line_b")):
        assert Place.read(str(place)) == place
    for text in ("p a\0b 1", "l line_b 1\ud800", "l " + "b" * 200, "", "p phone_a", "p phone_a -1", "x y z"):
        assert Place.read(text) is None
