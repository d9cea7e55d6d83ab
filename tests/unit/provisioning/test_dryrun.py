"""Dry runs over a fleet: in a process of their own, beside a server that goes on."""

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest
from sqlalchemy import insert, text

from engine.db import Database, utc_now
from engine.errors import Conflict, NotFound
from engine.ids import new_id
from engine.models import Account, BackgroundRun, Line, Phone, PhoneLine
from engine.provisioning import fleet, vendors
from engine.provisioning.dryrun import DryRun, DryRuns, DryRunState
from engine.provisioning.fleet import Change, ChangeKind, Outcome
from engine.provisioning.index import Index, open_index
from engine.provisioning.runs import RunKind, Told, follow, node_name
from tests.factories import add_account, add_location, add_pbx

URL = "https://phones.example.com/p/[token]/"
YEALINK = vendors.known().profiles["yealink"]
BASE = YEALINK.templates["base.cfg.j2"]


def in_a_thread(change: Change, provisioning_url: str) -> Executor:
    return ThreadPoolExecutor(1, initializer=fleet.prepare_worker, initargs=(change, provisioning_url))


async def add_fleet(database: Database, account: Account, count: int, **fields: str | None) -> list[str]:
    """So many phones with a line each; half of them Yealinks, half of them Grandstreams."""
    now = utc_now()
    stamped = {"version": 1, "created_at": now, "updated_at": now, "account_id": account.id}
    made, lines, keys = [], [], []
    for number in range(count):
        vendor, model = (("yealink", "T46U"), ("grandstream", "GXP2170"))[number % 2]
        phone_id, line_id = new_id("phone"), new_id("line")
        made.append(
            {
                "id": phone_id, "mac": f"80{number:010x}", "vendor": vendor, "model": model, "label": f"Desk {number}",
                "settings": {}, "status": "current", "location_id": None,
            }
            | stamped | fields
        )  # fmt: skip
        extension = f"{fields.get('mac') or 2}{number}"
        line = {"id": line_id, "extension": extension[-8:], "sip_user": extension, "display_name": "", "auth_user": ""}
        lines.append(line | stamped)
        keys.append({"account_id": account.id, "phone_id": phone_id, "key": 1, "line_id": line_id})
    async with database.sessions.begin() as session:
        for table, rows in ((Phone, made), (Line, lines), (PhoneLine, keys)):
            await session.execute(insert(table), rows)
    return [row["id"] for row in made]


@pytest.fixture
async def account(database: Database) -> Account:
    async with database.sessions.begin() as session:
        made = await add_account(session)
        await add_pbx(session, made)
    return made


@pytest.fixture
async def index(database: Database, keys) -> AsyncIterator[Index]:
    opened = open_index(database, keys)
    yield opened
    opened.close()


def settings_of(target: str = "account", **values: object) -> Change:
    return Change(ChangeKind.SETTINGS, target, values)


async def ended(runs: DryRuns, account: Account, change: Change) -> DryRun:
    run = runs.start(account.id, change, provisioning_url=URL, asked_by="Olga")
    assert run.task is not None
    async with asyncio.timeout(60):
        await asyncio.gather(run.task, return_exceptions=True)
    return run


async def test_a_fleet_is_compared_in_another_process_while_the_server_goes_on(database, account, index):
    """P-15, issue 4: real worker process; the event loop is never held, and a locked database holds nothing up."""
    await add_fleet(database, account, 300)
    runs = DryRuns(database, index)
    gaps: list[float] = []

    async def beat() -> None:
        while True:
            at = time.thread_time()  # this thread's own work: what other programs on the machine do is not counted
            await asyncio.sleep(0.002)
            gaps.append(time.thread_time() - at)

    heart = asyncio.create_task(beat())
    async with database.sessions.begin() as session:  # a writer holds the database all the while
        await session.execute(text("UPDATE account SET name = 'Busy'"))
        run = await ended(runs, account, settings_of(ntp_server="ntp.example.com"))
    heart.cancel()
    await asyncio.gather(heart, return_exceptions=True)
    assert (run.state, run.total, run.done, run.changed, run.failing) == (DryRunState.DONE, 300, 300, 300, 0)
    assert sorted((group.count, sorted(group.models)) for group in run.groups.values()) == [
        (150, ["grandstream GXP2170"]),
        (150, ["yealink T46U"]),
    ]
    yealinks = next(group for group in run.groups.values() if "yealink T46U" in group.models)
    own = next(found for name, found in yealinks.differences.items() if name.startswith("80"))
    assert [line.text for line in own.lines if line.kind in "+-"] == [
        "local_time.ntp_server1 = pool.ntp.org",
        "local_time.ntp_server1 = ntp.example.com",
    ]
    assert sorted(gaps)[int(len(gaps) * 0.99)] < 0.05, "the server was kept from everything else"


async def test_a_change_that_delays_911_names_every_phone_and_says_why(database, account, index):
    """P-15, P-08: the sentence of the dial-plan proof, for each phone that would get no file."""
    ids = await add_fleet(database, account, 6)
    slow = BASE + "\ndialplan.dialnow.rule.1 = 9xxx\ndialplan.dialnow.rule.2 = \n"
    broken = BASE.replace("{%", "{% if nonsense", 1) if "{%" in BASE else "{% if %}"
    runs = DryRuns(database, index, make_executor=in_a_thread)
    run = await ended(runs, account, Change(ChangeKind.TEMPLATE, "yealink/base.cfg.j2", broken))
    assert (run.failing, run.total) == (3, 3)
    assert {found.phone_id for found in run.failures} == set(ids[::2])
    assert all(found.outcome is Outcome.FAILS and found.sentence for found in run.failures)
    slowed = await ended(runs, account, Change(ChangeKind.TEMPLATE, "yealink/base.cfg.j2", slow))
    assert slowed.failing == 3
    assert "911" in slowed.failures[0].sentence


async def test_a_change_reaches_the_phones_of_its_level_and_no_others(database, account, index):
    async with database.sessions.begin() as session:
        location = await add_location(session, account)
    await add_fleet(database, account, 4)
    moved = [f"aa{number:010x}" for number in range(2)]
    there = await add_fleet(database, account, 1, mac=moved[0], location_id=location.id)
    runs = DryRuns(database, index, make_executor=in_a_thread)
    of_place = await ended(runs, account, settings_of(location.id, lldp=False))
    of_model = await ended(runs, account, settings_of("grandstream/GXP2170", lldp=False))
    of_nobody = await ended(runs, account, settings_of("snom/D785", lldp=False))
    assert (of_place.total, of_place.changed) == (1, 1)
    assert [found.phone_id for group in of_place.groups.values() for found in group.phones] == there
    assert (of_model.total, of_nobody.total) == (2, 0)
    assert of_nobody.state is DryRunState.DONE


async def test_the_same_settings_change_nothing_and_a_phones_own_win(database, account, index):
    await add_fleet(database, account, 2, settings={"ntp_server": "own.example.com"})
    runs = DryRuns(database, index, make_executor=in_a_thread)
    run = await ended(runs, account, settings_of("yealink/T46U", ntp_server="ntp.example.com"))
    assert (run.unchanged, run.changed) == (1, 0)


async def test_a_dry_run_can_be_cancelled_and_one_account_has_one_at_a_time(database, account, index):
    await add_fleet(database, account, 400)
    runs = DryRuns(database, index, make_executor=in_a_thread)
    run = runs.start(account.id, settings_of(lldp=False), provisioning_url=URL, asked_by="Olga")
    with pytest.raises(Conflict):
        runs.start(account.id, settings_of(lldp=False), provisioning_url=URL, asked_by="Olga")
    async with asyncio.timeout(60):
        while run.done == 0:
            await asyncio.sleep(0.005)
    async with database.sessions.begin() as session:
        await runs.cancel(session, run)
    assert run.state is DryRunState.CANCELLED
    assert run.done < 400
    again = await ended(runs, account, settings_of(lldp=False))
    assert again.state is DryRunState.DONE
    async with database.sessions() as session:
        assert await runs.get(session, account.id, again.id) is again
        with pytest.raises(NotFound):
            await runs.get(session, "account_other", again.id)
    await runs.close()


async def test_another_node_tells_how_far_a_dry_run_is_and_ends_it(database, account, index):
    """P-15: numbers, target and node from the row; whichever node is asked to end it, it ends."""
    await add_fleet(database, account, 400)
    here, there = (DryRuns(database, index, make_executor=in_a_thread) for _ in range(2))
    change = settings_of(lldp=False)
    run = here.start(account.id, change, provisioning_url=URL, asked_by="Olga")

    async def seen_there() -> DryRun:
        async with database.sessions() as session:
            return await there.get(session, account.id, run.id)

    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.05)
            with contextlib.suppress(NotFound):
                found = await seen_there()
                break
    assert (found.state, found.change, found.asked_by) == (DryRunState.RUNNING, change, "Olga")
    assert found.node == node_name()
    async with database.sessions.begin() as session:
        await there.cancel(session, found)
    async with asyncio.timeout(30):
        while (found := await seen_there()).state is DryRunState.RUNNING:
            await asyncio.sleep(0.05)
    await here.close()
    found = await seen_there()
    assert (found.state, found.done) == (run.state, run.done)
    assert found.ended_at is not None
    await there.close()


async def test_a_dry_run_of_a_node_that_died_is_not_shown_as_running(database, account, index):
    """P-15: a row that nobody has written for 45 s says which node stopped, and that nothing was changed."""
    told = Told("running", {"kind": "settings", "target": "account", "after": {"lldp": False}, "total": 9, "done": 4})
    follower = asyncio.create_task(follow(database, "dryrun_1", account.id, RunKind.DRY_RUN, lambda: told))
    runs = DryRuns(database, index, make_executor=in_a_thread)
    async with asyncio.timeout(30):
        while True:
            await asyncio.sleep(0.02)
            async with database.sessions() as session:
                if await session.get(BackgroundRun, "dryrun_1") is not None:
                    break
    follower.cancel()
    await asyncio.gather(follower, return_exceptions=True)
    async with database.sessions.begin() as session:
        row = await session.get(BackgroundRun, "dryrun_1")
        row.node, row.seen_at = "east-1 (7)", row.seen_at - dt.timedelta(seconds=60)
    async with database.sessions() as session:
        found = await runs.get(session, account.id, "dryrun_1")
    assert (found.state, found.total, found.done) == (DryRunState.FAILED, 9, 4)
    assert "east-1 (7), has stopped" in found.fault
    await runs.close()


async def test_a_worker_that_dies_ends_the_run_with_a_sentence(database, account, index):
    class Dying(ThreadPoolExecutor):
        def submit(self, *_args, **_more):
            raise OSError("gone")

    await add_fleet(database, account, 2)
    runs = DryRuns(database, index, make_executor=lambda _change, _url: Dying(1))
    run = await ended(runs, account, settings_of(lldp=False))
    assert run.state is DryRunState.FAILED
    assert "Nothing was changed" in run.fault


def test_the_parts_of_a_template_are_found_through_extends_and_includes():
    texts = {"a": "{% extends 'b' %}", "b": "{% include 'c' %}", "c": "", "d": "{% include name %}", "e": "{% if %}"}
    assert fleet.parts_of("a", texts, {}) == {"a", "b", "c"}
    assert fleet.parts_of("d", texts, {}) == set(texts), "what is only known when it runs counts as all"
    assert fleet.parts_of("e", texts, {}) == {"e"}
    assert fleet.parts_of("a", texts, {"a": "{% extends 'a' %}", "b": ""}) == {"a", "b"}
    assert fleet.parts_of("a", texts, {"a": "{% extends 'a' %}"}) == {"a", "b", "c"}, "its own name: the shipped one"


def test_a_text_that_builds_on_the_shipped_one_by_its_full_name_is_made_of_its_parts_as_well():
    """P-15: else a dry run says of a changed part that no phone's file has it."""
    own = {"base.cfg.j2": "{% extends 'shipped/base.cfg.j2' %}", "time.cfg.j2": "# ours\n"}
    found = fleet.parts_of("base.cfg.j2", YEALINK.templates, own)
    assert found >= {"base.cfg.j2", "time.cfg.j2", "dialing.cfg.j2"}
    assert found == fleet.parts_of("base.cfg.j2", YEALINK.templates, {"base.cfg.j2": "{% extends 'base.cfg.j2' %}"})


def test_a_template_of_a_file_for_every_phone_is_known_as_such():
    """P-15: whether the shipped text brings it in or the account's own."""
    assert fleet.makes_a_shared_file(YEALINK, Change(ChangeKind.TEMPLATE, "yealink/common.cfg.j2", "x"), {})
    base = Change(ChangeKind.TEMPLATE, "yealink/base.cfg.j2", "x")
    assert not fleet.makes_a_shared_file(YEALINK, base, {})
    assert fleet.makes_a_shared_file(YEALINK, base, {"common.cfg.j2": "{% include 'base.cfg.j2' %}"})
    assert not fleet.makes_a_shared_file(YEALINK, settings_of(), {})
