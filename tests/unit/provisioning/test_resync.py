import asyncio
import datetime as dt
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from engine.db import utc_now
from engine.edge.orders import NOTIFY_TIMEOUT_S
from engine.errors import Conflict
from engine.models import Phone
from engine.provisioning import resync, store_resync, vendors
from engine.provisioning.pace import PER_SECOND, Pace
from engine.provisioning.resync import Destination, Fleet, Resyncer
from engine.provisioning.store_resync import Selection
from tests.factories import add_account, add_line, add_pbx, add_phone

HOUR = dt.timedelta(hours=1)

YEALINK, POLY = vendors.known().profiles["yealink"], vendors.known().profiles["poly"]
CLOCK_S = 1e-3  # a loop fires a timer that is due within its clock's resolution
VIA_PBX = Destination("101", "pbx.example.net", 5070, "tcp", "pbx", "192.0.2.7")


def test_each_vendor_gets_the_event_it_honours():
    """P-14: resync by NOTIFY with the event each vendor honours."""
    assert resync.plan(YEALINK, VIA_PBX).event == "check-sync;reboot=false"
    assert resync.plan(YEALINK, VIA_PBX, reboot=True).event == "check-sync;reboot=true"
    assert resync.plan(POLY, VIA_PBX).headers == [
        ("Event", "check-sync"), ("Subscription-State", "terminated;reason=noresource"),
    ]  # fmt: skip


def test_it_goes_through_the_pbx_or_straight_to_the_phone():
    """Decision 20."""
    through = resync.plan(YEALINK, VIA_PBX)
    assert (through.host, through.port, through.transport) == ("pbx.example.net", 5070, "tcp")
    assert through.request_uri == "sip:101@pbx.example.net:5070;transport=tcp"
    straight = resync.plan(YEALINK, Destination("101", "pbx.example.net", 5070, "tcp", "direct", "2001:db8::7"))
    assert (straight.host, straight.request_uri) == ("2001:db8::7", "sip:101@[2001:db8::7]:5060")


def test_without_a_way_to_the_phone_the_reason_is_said():
    with pytest.raises(Conflict, match="has not fetched anything yet"):
        resync.plan(YEALINK, Destination("101", "pbx", 5060, "udp", "direct", None))
    with pytest.raises(Conflict, match="no PBX"):
        resync.plan(YEALINK, Destination("101", "", 5060, "udp", "pbx", "192.0.2.7"))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, "accepted"),
        (401, "the phone asks for another password"),
        (481, "the PBX does not pass it on"),
        (408, "no answer"),
        (500, "refused with 500"),
    ],
)
def test_a_status_is_told_in_words(status, words):
    assert resync.meaning(status) == words


class NotedPace(Pace):
    """Notes the turns that it hands out."""

    def __init__(self):
        super().__init__()
        self.turns: list[float] = []

    def reserve(self, now, keys):
        self.turns.append(super().reserve(now, keys))
        return self.turns[-1]


async def test_notifies_to_one_destination_are_paced_and_others_do_not_wait_for_it():
    """P-14: paced overall and for each destination. A slow machine may send late, never ahead of the turn."""
    sent: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()

    async def notify(target, request_uri, headers, within_s, credentials):
        sent.append((target["ip"], loop.time()))
        return 200

    pace = NotedPace()
    resyncer = Resyncer(notify, pace)
    one = resync.plan(YEALINK, Destination("101", "127.0.0.1", 5060, "udp", "pbx", None))
    other = resync.plan(YEALINK, Destination("102", "127.0.0.2", 5060, "udp", "pbx", None))
    assert await asyncio.gather(*(resyncer.send(each) for each in (one, one, other))) == [200, 200, 200]
    first, second, elsewhere = pace.turns
    assert second - first >= resync.PER_DESTINATION_S - 1e-6
    assert elsewhere < second
    left = {ip: sorted(at for to, at in sent if to == ip) for ip in ("127.0.0.1", "127.0.0.2")}
    for turns, at in (((first, second), left["127.0.0.1"]), ((elsewhere,), left["127.0.0.2"])):
        assert all(sent_at >= turn - CLOCK_S for turn, sent_at in zip(turns, at, strict=True))


def test_a_phone_that_is_switched_off_is_no_answer_and_not_a_fault_of_the_sip_process():
    """P-14: the SIP process gives a NOTIFY up before we give up the SIP process."""
    assert resync.WITHIN_S > NOTIFY_TIMEOUT_S + 1
    assert resync.meaning(resync.NO_ANSWER) == "no answer"


async def test_a_registrar_that_does_not_resolve_is_no_answer():
    async def notify(target, request_uri, headers, within_s, credentials):
        raise AssertionError(target)

    nowhere = resync.plan(YEALINK, Destination("101", "no..host", 5060, "udp", "pbx", None))
    assert await Resyncer(notify).send(nowhere) == resync.NO_ANSWER


def test_the_password_that_answers_the_phone_is_its_line_s_and_shows_nowhere():
    """P-14, P-23: user and secret of the first line; a line without a secret answers nobody."""
    to = Destination("101", "", 5060, "udp", "direct", "192.0.2.7", auth_user="auth101", secret="s3cret")
    planned = resync.plan(YEALINK, to)
    assert planned.credentials == {"user": "auth101", "secret": "s3cret"}
    assert "s3cret" not in repr(planned) + repr(to)
    assert resync.plan(YEALINK, replace(to, auth_user="")).credentials == {"user": "101", "secret": "s3cret"}
    assert resync.plan(YEALINK, replace(to, secret="")).credentials is None


def test_every_family_has_an_event_of_its_own():
    """P-14: the event each vendor honours, and a plan for each."""
    for profile in vendors.known().profiles.values():
        planned = resync.plan(profile, VIA_PBX)
        assert dict(planned.headers)["Event"] == profile.resync_event
        assert profile.resync_event


# --- Pace -------------------------------------------------------------------------------------------------------------


def fleet_of(*ways: tuple[str, str]) -> Fleet:
    """Phones by (PBX, address they ask from)."""
    planned = [
        (f"phone_{at}", resync.plan(YEALINK, Destination("101", pbx, 5060, "udp", "pbx", ip)))
        for at, (pbx, ip) in enumerate(ways)
    ]
    return Fleet("resync_1", "account_1", tuple(planned))


def test_phones_behind_one_address_are_asked_one_after_another_and_others_meanwhile():
    """P-14: paced per source IP too; forty phones of one office take forty times as long, ten offices do not wait."""
    office = fleet_of(*((f"pbx{at}", "192.0.2.7") for at in range(40)))
    assert office.spread_s == pytest.approx(39 * resync.PER_SOURCE_S)
    spread = fleet_of(*((f"pbx{at}", f"192.0.2.{at}") for at in range(40)))
    assert spread.spread_s == pytest.approx(39 / PER_SECOND, abs=0.11)
    one_pbx = fleet_of(*(("pbx", f"192.0.2.{at}") for at in range(40)))
    assert one_pbx.spread_s == pytest.approx(39 * resync.PER_DESTINATION_S)


def test_ten_thousand_phones_are_told_their_time_quickly():
    """P-14: what a page says beforehand: ten a second in all."""
    whole = fleet_of(*((f"pbx{at}", f"10.0.{at // 250}.{at % 250}") for at in range(10_000)))
    assert whole.spread_s == pytest.approx(1000, abs=1)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 3), st.integers(0, 3)), max_size=80))
def test_no_pace_is_ever_broken(asked):
    """P-14: whoever asks for a turn, and when: never two for one address or PBX within its gap, nor more than ten a
    second in any second.
    """
    pace, now, turns = Pace(), 0.0, []
    for step, to, source in asked:
        now += step
        keys = ((("to", to), resync.PER_DESTINATION_S), (("from", source), resync.PER_SOURCE_S))
        at = pace.reserve(now, keys)
        assert at >= now
        turns.append((at, to, source))
    for which, gap_s in ((1, resync.PER_DESTINATION_S), (2, resync.PER_SOURCE_S)):
        for value in range(4):
            mine = sorted(turn[0] for turn in turns if turn[which] == value)
            assert all(later - earlier >= gap_s - 1e-6 for earlier, later in pairwise(mine))
    ordered = sorted(turn[0] for turn in turns)
    assert all(later - first >= 1.0 - 1e-6 for first, later in zip(ordered, ordered[11:], strict=False))


def test_a_fleet_is_asked_address_by_address_in_an_order_of_its_own_and_keeps_every_phone():
    whole = fleet_of(*(("pbx", "192.0.2.1") for _ in range(6)), *(("pbx", f"192.0.2.{at}") for at in range(2, 8)))
    turns = whole.in_turn
    assert sorted(phone_id for phone_id, _ in turns) == sorted(phone_id for phone_id, _ in whole.planned)
    assert {planned.phone_ip for _, planned in turns[:7]} == {f"192.0.2.{at}" for at in range(1, 8)}


def test_a_phone_to_which_there_is_no_way_holds_nobody_up_and_says_why():
    fleet = resync.planned_fleet(
        "resync_1", "account_1",
        [("phone_a", YEALINK, VIA_PBX), ("phone_b", YEALINK, None), ("phone_c", None, VIA_PBX)],
    )  # fmt: skip
    assert [phone_id for phone_id, _ in fleet.planned] == ["phone_a"]
    assert {phone_id: why.split(",")[0] for phone_id, why in fleet.refused} == {
        "phone_b": "This phone has no line",
        "phone_c": "Its vendor is not known here any more",
    }


def test_an_account_that_wishes_a_slower_pace_is_asked_by_it_and_holds_up_no_other():
    """S1-19: thirty a minute: two seconds between any two of its phones, whatever their PBX and address."""
    slow = resync.planned_fleet("resync_1", "account_1", _four_at("slow", 1), per_minute=30)
    usual = resync.planned_fleet("resync_2", "account_2", _four_at("usual", 5))
    assert slow.spread_s == pytest.approx(6.0, abs=0.2)
    assert usual.spread_s < 1.0
    pace = resync.Pace()
    turns = [pace.reserve(0.0, planned.paces) for _, planned in (*slow.planned, *usual.planned)]
    assert max(turns[:4]) >= 6.0
    assert max(turns[4:]) < 1.0


def _four_at(name, first):
    """Four phones, each at an address and a PBX of its own."""
    return [
        (f"phone_{at}", YEALINK, replace(VIA_PBX, registrar_host=f"{name}{at}", last_ip=f"192.0.2.{at}"))
        for at in range(first, first + 4)
    ]


# --- Many phones, from the database -----------------------------------------------------------------------------------


async def test_the_way_to_each_phone_is_found_as_for_one(database):
    """P-14: by its first line and that line's PBX, or the account's only one; another account's phone is nobody's."""
    async with database.sessions.begin() as session:
        account, other = await add_account(session), await add_account(session, name="Other")
        await add_pbx(session, account, registrar_host="pbx.example.net", transport="tcp")
        lines = [await add_line(session, account, number) for number in ("101", "102")]
        first = await add_phone(session, account, *lines, mac="805ec0000001", last_ip="192.0.2.7")
        bare = await add_phone(session, account, mac="805ec0000002")
        strange = await add_phone(session, other, mac="805ec0000003")
        wanted = [first.id, bare.id, strange.id]
        fleet = await store_resync.fleet_of(session, account.id, wanted, fleet_id="resync_1")
        assert list(await store_resync.names_of(session, account.id, wanted)) == [first.id, bare.id]
        await store_resync.note_waiting(session, fleet, utc_now())
    ((phone_id, planned),) = fleet.planned
    assert (phone_id, planned.host, planned.phone_ip) == (first.id, "pbx.example.net", "192.0.2.7")
    assert planned.credentials == {"user": "101", "secret": "secret-of-101"}
    assert [phone_id for phone_id, _ in fleet.refused] == [bare.id]
    async with database.sessions() as session:
        results = {row.id: row.resync_result for row in await session.scalars(select(Phone))}
    assert results[first.id] == resync.WAITING
    assert results[bare.id].startswith("This phone has no line")
    assert results[strange.id] is None


async def test_a_selection_names_phones_by_what_they_are(database):
    async with database.sessions.begin() as session:
        account = await add_account(session)
        first = await add_phone(session, account, mac="805ec0000001", status="stale")
        second = await add_phone(session, account, mac="64167f000002", vendor="poly", model="VVX 450")
        asked = {
            "all": Selection(), "poly": Selection(vendor="poly"), "stale": Selection(vendor="yealink", status="stale"),
            "none": Selection(model="T99"),
        }  # fmt: skip
        found = {name: list(await store_resync.selected(session, account.id, each)) for name, each in asked.items()}
    assert found == {"all": [first.id, second.id], "poly": [second.id], "stale": [first.id], "none": []}


async def test_what_waits_for_a_process_that_has_ended_waits_no_more(database):
    now = utc_now()
    async with database.sessions.begin() as session:
        account = await add_account(session)
        old = await add_phone(session, account, mac="805ec0000001", resync_result="waiting", resync_at=now - 7 * HOUR)
        new = await add_phone(session, account, mac="805ec0000002", resync_result="waiting", resync_at=now)
        assert await store_resync.let_go(session, resync.NOT_SENT, now - 6 * HOUR) == 1
    async with database.sessions() as session:
        results = {row.id: row.resync_result for row in await session.scalars(select(Phone))}
    assert results == {old.id: resync.NOT_SENT, new.id: resync.WAITING}
