"""Phones asked to fetch again: paced, one result on each phone's row, nobody forgotten when the node stops."""

import asyncio

import pytest
from sqlalchemy import select

from engine.db import utc_now
from engine.edge.link import EdgeAway
from engine.models import Phone, ProvisioningEvent
from engine.provisioning import runs, store_resync
from engine.reach import Reach
from tests.factories import add_account, add_line, add_pbx, add_phone


class StandInLink:
    """The SIP process: answers each NOTIFY by the user it is for, or not at all until it is let."""

    def __init__(self, answers: dict[str, int], *, is_held: bool = False) -> None:
        self.answers, self.asked = answers, []
        self.let = asyncio.Event()
        if not is_held:
            self.let.set()

    async def notify(self, target, request_uri, headers, within_s, credentials):
        self.asked.append((request_uri, dict(headers)["Event"], credentials))
        await self.let.wait()
        status = self.answers[request_uri.partition("@")[0].removeprefix("sip:")]
        if status == 0:
            raise EdgeAway("The SIP process did not answer in time.")
        return status


@pytest.fixture
async def fleet(database):
    """Three phones of an account with one PBX, each from an address of its own, and one that has no line."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        await add_pbx(session, account, registrar_host="127.0.0.1")
        ids = {}
        for at in range(3):
            line = await add_line(session, account, f"10{at}")
            phone = await add_phone(session, account, line, mac=f"805ec000000{at}", last_ip=f"192.0.2.{at}")
            ids[f"10{at}"] = phone.id
        ids["none"] = (await add_phone(session, account, mac="805ec0000009")).id
    return account.id, ids


async def results(database):
    async with database.sessions() as session:
        return {row.id: row.resync_result for row in await session.scalars(select(Phone))}


async def until(holds) -> None:
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.02)


async def test_each_phone_of_a_fleet_has_its_own_result(database, fleet):
    """P-14: accepted, 481, away and no way, on the phones and in the fetch log; the count says how far it is."""
    account_id, ids = fleet
    link = StandInLink({"100": 200, "101": 481, "102": 0})
    reach = Reach(link, database)
    await reach.resync_phones(account_id, list(ids.values()))
    (fleet_id,) = reach._fleets

    async def is_done() -> bool:
        state = reach.fleet(fleet_id, account_id)
        return state.done == state.phones == 4

    await until(is_done)
    await reach.close()
    assert reach.fleet(fleet_id, "account_other") is None
    found = await results(database)
    assert [found[ids[user]] for user in ("100", "101", "102")] == [
        "accepted", "the PBX does not pass it on", "not sent: the SIP process is away",
    ]  # fmt: skip
    assert found[ids["none"]].startswith("This phone has no line")
    assert {event for _, event, _ in link.asked} == {"check-sync;reboot=false"}
    assert {credentials["secret"] for *_, credentials in link.asked} == {
        "secret-of-100",
        "secret-of-101",
        "secret-of-102",
    }
    async with database.sessions() as session:
        events = list(await session.scalars(select(ProvisioningEvent).where(ProvisioningEvent.kind == "resync")))
    assert sorted(event.status_code for event in events) == [200, 481, 503]


async def test_one_phone_s_button_puts_its_result_on_it(database, fleet):
    _, ids = fleet
    reach = Reach(StandInLink({"100": 401}), database)
    async with database.sessions() as session:
        phone = await session.get(Phone, ids["100"])
        await reach.resync(phone)

    async def is_told() -> bool:
        return (await results(database))[ids["100"]] is not None

    await until(is_told)
    assert (await results(database))[ids["100"]] == "the phone asks for another password"
    await reach.close()


async def test_a_node_that_stops_says_so_on_each_phone_it_had_not_come_to(database, fleet):
    """P-14: no phone waits for a node that has gone."""
    account_id, ids = fleet
    link = StandInLink({}, is_held=True)
    reach = Reach(link, database)
    await reach.resync_phones(account_id, [ids["100"], ids["101"]])

    async def is_asking() -> bool:
        return bool(link.asked)

    await until(is_asking)
    await reach.close()
    found = await results(database)
    assert {found[ids["100"]], found[ids["101"]]} == {"not sent: Callpoint was stopped"}


async def test_another_node_tells_how_far_the_asking_is_and_when_its_node_stopped(database, fleet):
    """P-14: the row has phones and results, `done` at the end, `stopped` where the node ended before."""
    account_id, ids = fleet

    async def told(run_id: str) -> runs.Seen:
        async with asyncio.timeout(30):
            while True:
                async with database.sessions() as session:
                    seen = await runs.seen(session, account_id, runs.RunKind.RESYNC, run_id, utc_now())
                if seen is not None and seen.state != runs.RUNNING:
                    return seen
                await asyncio.sleep(0.05)

    reach = Reach(StandInLink({"100": 200}), database)
    await reach.resync_phones(account_id, [ids["100"], ids["none"]])
    seen = await told(next(iter(reach._fleets)))
    assert (seen.state, seen.facts["phones"], seen.facts["results"]["accepted"]) == ("done", 2, 1)
    await reach.close()
    reach = Reach(StandInLink({}, is_held=True), database)
    await reach.resync_phones(account_id, [ids["100"], ids["101"]])
    stopped = next(iter(reach._fleets))
    await reach.close()
    assert (await told(stopped)).state == "stopped"
    async with database.sessions() as session:
        assert await runs.seen(session, "account_other", runs.RunKind.RESYNC, stopped, utc_now()) is None


async def test_a_phone_deleted_meanwhile_holds_nobody_up(database, fleet):
    account_id, ids = fleet
    async with database.sessions.begin() as session:
        planned = await store_resync.fleet_of(session, account_id, [ids["100"]], fleet_id="resync_1")
        await store_resync.note_waiting(session, planned, utc_now())
    gone = type(planned)("resync_2", account_id, (("phone_gone", planned.planned[0][1]), *planned.planned))
    reach = Reach(StandInLink({"100": 200}), database)
    reach.resync_fleet(gone)

    async def is_done() -> bool:
        return reach.fleet("resync_2", account_id).done == 2

    await until(is_done)
    assert (await results(database))[ids["100"]] == "accepted"
    await reach.close()
