"""What Home tells is counted by the database, of this account alone."""

import datetime as dt
import re
from dataclasses import replace
from html import unescape
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from admin.pages.home import Standing, Step, first_steps
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import Database, utc_now
from engine.e911 import refusals, store_calls, store_tests, store_unplaced
from engine.e911.alarms import Place
from engine.e911.refusals import Tally
from engine.e911.sweep import Outcome
from engine.ids import new_id
from engine.models import (
    Account,
    AuditEntry,
    CallbackCall,
    EmergencyCall,
    Notification,
    Pbx,
    PhoneLine,
    PhoneStatus,
    Trunk,
)
from engine.provisioning.store import PhoneCounts, count_phones
from engine.provisioning.store_alarms import count_silent
from tests.factories import (
    HEADQUARTERS,
    add_account,
    add_emergency_call,
    add_line,
    add_location,
    add_network,
    add_pbx,
    add_phone,
    emergency_call,
)
from tests.unit.admin.adminport import AdminPort, Site

PLACE = {"id": "location_1", "name": "Headquarters", "civic_address": HEADQUARTERS, "geo": None}
READY = Standing(
    account=Account(emergency_enabled=False, country="US"),
    places=[Place("Headquarters", True, "validated", False)], told=1, is_mail_set_up=True,
    are_mails_refused=False, phones=PhoneCounts(1, 1, 0, "phone_1"), pbxs=[Pbx()],
    trunks=[Trunk(enabled=True, is_up=True)], latest=[], test=None, passed=EmergencyCall(id="call_1"),
    waiting_mails=0, is_sip_up=True,
)  # fmt: skip


def step(name: str, **changes: Any) -> Step:
    (found,) = (one for one in first_steps(replace(READY, **changes)) if one.name == name)
    return found


async def add_test_call(session: AsyncSession, account: Account, **fields: Any) -> EmergencyCall:
    values = {"dialed": "933", "kind": "test", "outcome": "answered", "location": PLACE, "location_source": "phone"}
    return await add_emergency_call(session, account, **values | fields)


async def test_phones_are_counted_by_what_became_of_them(database: Database) -> None:
    """S0-18: how many there are, how many booted, how many are out of date, and which was the first."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        other = await add_account(session, name="Somebody else")
        assert await count_phones(session, account.id) == PhoneCounts(0, 0, 0, None)
        first = await add_phone(session, account, mac="0015654aa901")
        await add_phone(session, account, mac="0015654aa902", status=PhoneStatus.CURRENT, last_fetch_at=utc_now())
        await add_phone(session, account, mac="0015654aa903", status=PhoneStatus.STALE, last_fetch_at=utc_now())
        await add_phone(session, other, mac="0015654aa904", status=PhoneStatus.STALE, last_fetch_at=utc_now())
        assert await count_phones(session, account.id) == PhoneCounts(3, 2, 1, first.id)


async def test_a_test_call_passed_when_it_was_answered_and_carried_an_address(database: Database) -> None:
    """S0-18: a call that was answered and named no place shows nothing of the location."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        bare = {"id": "location_2", "name": "Dock", "civic_address": {"country": "US", "A1": "NY"}, "geo": None}
        later = utc_now() + dt.timedelta(minutes=1)
        await add_test_call(session, account, location=None, location_source="none", sent_at=later)
        await add_test_call(session, account, location=bare, sent_at=later)
        await add_test_call(session, account, outcome="failed", sent_at=later)
        assert await store_calls.latest_test(session, account.id) is not None
        assert await store_calls.passed_test(session, account.id) is None
        good = await add_test_call(session, account)
        assert await store_calls.passed_test(session, account.id) is good
        itself = await add_test_call(session, account, location=None, location_source="request", sent_at=later)
        assert await store_calls.passed_test(session, account.id) is itself


def test_the_steps_say_what_a_test_call_showed() -> None:
    """S0-09, S0-18: answered without an address is neither a pass nor a failure of the carrier."""
    assert step("test").is_done
    unplaced = step("test", passed=None, test=EmergencyCall(id="call_2", outcome="answered"))
    assert (unplaced.is_done, unplaced.address) == (False, "/calls/call_2")
    assert "carried no address" in unplaced.text
    failed = step("test", passed=None, test=EmergencyCall(id="call_2", outcome="failed"))
    assert "no carrier answered it" in failed.text
    assert "carried its address" in step("live", passed=None).text


def test_not_all_is_there_while_a_location_has_no_address() -> None:
    """S0-18: the last step and the alarm above it say the same."""
    assert "All is there. Send 911" in step("live").text
    unready = step("live", not_met=3)
    assert "the E911 report finds 3 devices not met" in unready.text
    assert unready.address == "/compliance"
    places = [*READY.places, Place("Dock", False, "draft", False)]
    assert "Missing now: the address of 1 location." in step("live", places=places).text
    text = step("live", places=[], told=0).text
    assert "Missing now: a location with an address, somebody who is told of a 911 call" in text


def test_who_is_told_is_open_until_mails_arrive() -> None:
    """S0-09: recipients without a mail server, or with one that takes nothing, are told nothing."""
    assert step("told").is_done
    assert step("told", told=0).action == "Add recipient"
    assert step("told", told=0, chats=1).is_done, "who reads a chat is told"
    without = step("told", is_mail_set_up=False)
    assert (without.is_done, without.address) == (False, "/settings#mail")
    assert without.text == "1 address, but no mail server: nobody is mailed."
    refused = step("told", are_mails_refused=True)
    assert not refused.is_done
    assert "1 address, but the last mail was not delivered" in refused.text


async def test_a_first_refusal_is_told_at_once(database: Database) -> None:
    """S0-18, E-14: a mail that waits since a minute and was refused is as good as overdue; one not tried yet is not."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        call = await add_test_call(session, account)
        now = utc_now()
        before = now - dt.timedelta(minutes=5)
        mail = Notification(
            id=new_id("notification"), account_id=account.id, emergency_call_id=call.id, because="account",
            recipient="frontdesk@example.com", subject="933", body="933 was dialed.", created_at=now, next_try_at=now,
        )  # fmt: skip
        session.add(mail)
        await session.flush()
        assert await store_calls.overdue_notifications(session, account.id, before) == 0
        assert not await store_calls.are_mails_refused(session, account.id)
        mail.tries, mail.last_error = 1, "connection refused"
        await session.flush()
        assert await store_calls.overdue_notifications(session, account.id, before) == 1
        assert await store_calls.are_mails_refused(session, account.id)
        mail.state, mail.last_error = "sent", None
        await session.flush()
        assert await store_calls.overdue_notifications(session, account.id, before) == 0
        assert not await store_calls.are_mails_refused(session, account.id)


def test_where_no_number_is_set_aside_for_tests_nobody_is_sent_to_dial_one() -> None:
    """S0-18, E-15: the step is left out, and going live does not wait for it."""
    abroad = replace(READY, passed=None, is_testable=False)
    assert "test" not in {one.name for one in first_steps(abroad)}
    (live,) = (one for one in first_steps(abroad) if one.name == "live")
    assert "933" not in live.text
    assert "933" in step("live", passed=None).text


def test_the_steps_of_a_british_account_name_its_own_number() -> None:
    """S0-18: before the first location the account's country decides."""
    abroad = replace(
        READY, account=Account(emergency_enabled=False, country="GB"), is_testable=False, told=0, places=[]
    )
    told = " ".join(one.text for one in first_steps(abroad))
    assert ("911" in told, "933" in told, "law" in told, "999" in told) == (False, False, False, True)


async def test_a_number_to_call_back_may_stand_anywhere(database: Database) -> None:
    """S0-18: the account's, a line's or a pool's is enough."""
    async with database.sessions.begin() as session:
        account, other = await add_account(session, callback_number=None), await add_account(session, name="Other")
        other.callback_number = "+15185550100"
        await session.flush()
        assert not await store_calls.has_callback_number(session, account.id)
        assert await store_calls.has_callback_number(session, other.id)
        (await add_line(session, account)).callback_number = "+15185550101"
        await session.flush()
        assert await store_calls.has_callback_number(session, account.id)


async def test_lines_that_nobody_can_call_back_are_counted_though_others_have_a_number(database: Database) -> None:
    """S0-18: a number of their own, of the account or of any location ends it."""
    async with database.sessions.begin() as session:
        account = await add_account(session, callback_number=None)
        line, other = await add_line(session, account, "101"), await add_line(session, account, "102")
        line.callback_number, other.callback_number = "+15185550101", None
        await session.flush()
        assert await store_calls.count_mute_lines(session, account) == 1
        account.callback_number = "+15185550100"
        assert await store_calls.count_mute_lines(session, account) == 0
        account.callback_number = None
        place = await add_location(session, account)
        place.callback_number = "+15185550199"
        await session.flush()
        assert await store_calls.count_mute_lines(session, account) == 0
        place.callback_number, other.callback_number = None, "+15185550102"
        await session.flush()
        assert await store_calls.count_mute_lines(session, account) == 0


async def test_the_newest_refused_emergency_call_is_found_among_other_refusals(database: Database) -> None:
    """S0-18: a 911 from an address of no PBX is told for a day; other requests of strangers are not."""
    now = utc_now()
    entry = {"source": {"ip": "127.0.0.3", "transport": "udp", "port": 5060}, "method": "INVITE", "emergency": True}
    async with database.sessions.begin() as session:
        await refusals.note_refusal(session, Tally(), {**entry, "emergency": False}, now)
        await session.flush()
        assert await refusals.latest_emergency_refused(session, now - dt.timedelta(days=1)) is None
        await refusals.note_refusal(session, Tally(), entry, now)
    async with database.sessions.begin() as session:
        await refusals.note_refusal(session, Tally(), {**entry, "emergency": False, "source": {"ip": "192.0.2.9"}}, now)
    async with database.sessions() as session:
        found = await refusals.latest_emergency_refused(session, now - dt.timedelta(days=1))
        assert found is not None
        assert (found.ip, found.dialed) == ("127.0.0.3", "")
        assert await refusals.latest_emergency_refused(session, now + dt.timedelta(hours=1)) is None


async def test_a_location_changed_since_its_test_is_told_from_one_never_tested(database: Database) -> None:
    """S0-18, E-15: the day of the last test that passed counts, of the address it had."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        moved, _never = await add_location(session, account), await add_location(session, account, name="Dock")
        since = utc_now() - dt.timedelta(days=90)
        await store_tests.keep(
            session, account.id, moved.id, Outcome.PASSED, "", at=utc_now(), call_id=None,
            conveyed={"civic_address": moved.civic_address, "geo": moved.geo},
        )  # fmt: skip
        assert await store_tests.count_moved(session, account.id, since) == 0
        await store_tests.address_changed(session, moved)
        assert await store_tests.count_untested(session, account.id, since) == 2
        assert await store_tests.count_moved(session, account.id, since) == 1


def test_a_phone_that_registers_nowhere_is_not_provisioned() -> None:
    """S0-18: what fetched a configuration and can call nobody is no step done, and nobody is told to go live."""
    assert step("phone").is_done
    none = step("phone", phones=PhoneCounts(2, 2, 0, "phone_1"), silent_phones=2)
    assert (none.is_done, none.address) == (False, "/phones")
    assert "none registers anywhere" in none.text
    some = step("phone", phones=PhoneCounts(3, 3, 0, "phone_1"), silent_phones=1)
    assert some.is_done
    assert "1 of them registers nowhere and cannot dial 911." in some.text
    live = step("live", account=Account(emergency_enabled=True, country="US"), silent_phones=1)
    assert not live.is_done
    assert "Missing now: a line with a registrar on 1 phone." in live.text


async def test_phones_without_a_line_or_a_registrar_are_counted(database: Database) -> None:
    """S0-18: only those that booted; a line that names no PBX belongs to the only one."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        bare = await add_phone(session, account, mac="0015654aa901", last_fetch_at=utc_now())
        await add_phone(session, account, mac="0015654aa902")
        await session.flush()
        assert await count_silent(session, account.id) == 1
        line = await add_line(session, account)
        await session.flush()
        session.add(PhoneLine(account_id=account.id, phone_id=bare.id, key=1, line_id=line.id))
        await session.flush()
        assert await count_silent(session, account.id) == 1
        await add_pbx(session, account, registrar_host="pbx.example")
        await session.flush()
        assert await count_silent(session, account.id) == 0


async def test_home_of_a_british_account_has_no_933_and_tells_a_refused_call(port: AdminPort, site: Site) -> None:
    """S0-18: over the page itself, before the first location; the refused call until its PBX is entered."""
    now, entry = utc_now(), {"source": {"ip": "127.0.0.3"}, "method": "INVITE", "emergency": True}
    async with port.database.sessions.begin() as session:
        account = await session.get_one(Account, site.account.id)
        account.country = "GB"
        record(session, SYSTEM, Event.ACCOUNT_UPDATE, account)
        await refusals.note_refusal(session, Tally(), entry, now)
    owner = await port.browser(site)
    page = await (await port.call("GET", "/", owner)).text()
    assert ("933" in page, "CFR" in page, "dials 999 here" in page) == (False, False, True)
    assert "999 from 127.0.0.3 was refused at" in page
    async with port.database.sessions.begin() as session:
        await add_pbx(session, site.account, sources=["127.0.0.0/29"])
    page = await (await port.call("GET", "/", owner)).text()
    assert "127.0.0.3 was refused" not in page
    assert "No number to call back is set anywhere" in page
    assert "933" not in page


async def test_a_call_without_a_location_is_told_until_its_cause_is_mended(database: Database) -> None:
    """S0-18, E-05: by the phone, its line, its network, its PBX, a default, or a later call that carried a place."""
    now = utc_now()
    since = now - dt.timedelta(days=7)
    caller = {"extension": "101", "source_ip": "10.1.2.3"}
    async with database.sessions.begin() as session:
        account = await add_account(session)
        place = await add_location(session, account)
        phone, line = await add_phone(session, account, mac="0015654aa901"), await add_line(session, account)
        pbx = await add_pbx(session, account)
        lost = emergency_call(
            account, pbx_id=pbx.id, caller=caller | {"phone_id": phone.id, "line_id": line.id},
            flags=["location_unknown"], at=now - dt.timedelta(hours=2),
        )  # fmt: skip
        other = emergency_call(account, caller={"extension": "102"}, flags=["location_unknown"], kind="test")
        session.add_all([lost, other])
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, lost)

        async def told() -> list[str]:
            await session.flush()
            return [call.id for call in await store_unplaced.unplaced_calls(session, account, since)]

        assert await told() == [lost.id]
        for row, column in (
            (phone, "location_id"), (line, "location_id"),
            (pbx, "default_location_id"), (account, "default_location_id"),
        ):  # fmt: skip
            setattr(row, column, place.id)
            assert await told() == []
            setattr(row, column, None)
            assert await told() == [lost.id]
        network = await add_network(session, place, "10.1.0.0/16")
        assert await told() == []
        network.value = "10.2.0.0/16"
        assert await told() == [lost.id]
        session.add(emergency_call(account, pbx_id=pbx.id, caller={"extension": "102"}, location_source="line"))
        assert await told() == [lost.id]  # somebody else's
        found = emergency_call(
            account, pbx_id=pbx.id, caller=caller | {"phone_id": phone.id}, location_source="subnet", kind="test"
        )
        session.add(found)
        assert await told() == []
        record(session, SYSTEM, Event.ACCOUNT_UPDATE, account)
        for row in (phone, line, pbx, network, found):
            record(session, SYSTEM, Event.ACCOUNT_UPDATE, row)


async def test_home_s_alarms_of_calls_are_dismissed_up_to_what_was_shown(port: AdminPort, site: Site) -> None:
    """S0-18: a 911 without a location, a stranger's, another country's number; what comes after is told anew."""
    now, source = utc_now(), {"ip": "127.0.0.3"}
    abroad = {"source": {"ip": "127.0.0.9"}, "method": "INVITE", "emergency": True, "account_id": site.account.id}

    async def happen(ago_s: int) -> None:
        at = now - dt.timedelta(seconds=ago_s)
        async with port.database.sessions.begin() as session:
            lost = emergency_call(site.account, caller={"name": "Dana"}, flags=["location_unknown"], at=at)
            session.add(lost)
            missed = CallbackCall(
                id=new_id("callback"), account_id=site.account.id, number="+15185550101", psap=True, outcome="failed",
                status_code=480, received_at=at,
            )  # fmt: skip
            session.add(missed)
            record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, lost)
            record(session, SYSTEM, Event.CALLBACK_CREATE, missed)
            uri = {"request_uri": "sip:999@192.0.2.5"}
            for entry in ({"source": source, "method": "INVITE", "emergency": True}, abroad | uri):
                await refusals.note_refusal(session, Tally(), entry, at)

    await happen(3600)
    owner = await port.browser(site)
    page = await (await port.call("GET", "/", owner)).text()
    assert "A 911 call by Dana at" in page
    assert "had no location and went out without an address" in page
    assert "999 was dialed by way of 127.0.0.9 at" in page
    assert "A dispatcher called +15185550101 back at" in page
    kinds = ["no_location", "refused_call", "callback_failed", "lost_abroad"]
    shown = dict(re.findall(r'action="/alarms/(\w+)/dismiss"><input type="hidden" name="until" value="([^"]+)"', page))
    assert sorted(shown) == sorted(kinds)
    for kind in kinds[:3]:
        answer = await port.call("POST", f"/alarms/{kind}/dismiss", owner, data={"until": unescape(shown[kind])})
        assert answer.status in {200, 303}, await answer.text()
    api = "/api/v1/alarms"  # tells what Home tells, and dismisses as it does
    listed = {alarm["kind"]: alarm for alarm in (await (await port.call("GET", api, site.auth)).json())["data"]}
    assert set(listed) == set(re.findall(r'data-alarm="(\w+)"', page)) - set(kinds[:3])
    assert [kind for kind, alarm in listed.items() if alarm["until"]] == kinds[3:]
    for until, status in (("yesterday", 422), ("2026-11-21T20:00:00", 422), (listed[kinds[3]]["until"], 200)):
        answer = await port.call("POST", f"{api}/{kinds[3]}/dismiss", site.auth, json={"until": until})
        assert answer.status == status, await answer.text()
    assert (await answer.json())["by"] == "tests"
    answer = await port.call("POST", f"{api}/trunks_down/dismiss", site.auth, json={"until": until})
    assert answer.status == 404
    page = await (await port.call("GET", "/", owner)).text()
    assert not [kind for kind in kinds if f'data-alarm="{kind}"' in page]
    for kind, until in (
        ("no_location", "yesterday"),
        ("no_location", "2026-11-21T20:00:00"),
        ("trunks_down", shown[kinds[0]]),
    ):
        answer = await port.call("POST", f"/alarms/{kind}/dismiss", owner, data={"until": until})
        assert answer.status in {404, 422, 400}
    torn = {"request_uri": "sip:911@", "detail": "expected an empty line", "status": 0}
    async with port.database.sessions.begin() as session:
        await refusals.note_refusal(session, Tally(), abroad | torn, now)
    page = await (await port.call("GET", "/", owner)).text()
    assert "A call to 911 by way of 127.0.0.9 at" in page
    assert "could not be read (expected an empty line). Ask whoever was there whether help is needed" in page
    async with port.database.sessions() as session:
        query = select(AuditEntry).where(AuditEntry.event == "alarm.dismiss", AuditEntry.outcome == "success")
        assert len((await session.scalars(query)).all()) == len(kinds)
    now = utc_now() + dt.timedelta(minutes=11)  # another window of refusals
    await happen(0)
    page = await (await port.call("GET", "/", owner)).text()
    assert 'data-alarm="no_location"' in page
    assert "A 911 call by Dana at" in page  # the newer one alone
