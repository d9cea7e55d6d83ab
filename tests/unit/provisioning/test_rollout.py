"""Roll-outs: a change that some phones get before the rest, watched, taken back, published."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
from sqlalchemy import select

from engine.audit.record import SYSTEM, Actor
from engine.db import Database, utc_now
from engine.errors import Conflict, Invalid
from engine.ids import new_id
from engine.models import (
    Account,
    Asset,
    AuditEntry,
    Lease,
    Phone,
    PhoneStatus,
    ProvisioningEvent,
    Rollout,
    RolloutState,
    SettingsLevel,
    TemplateOverride,
    TemplateVersion,
)
from engine.provisioning import lease, rollout, store_alarms, store_rollouts, trial
from engine.provisioning.canary import Limits
from engine.provisioning.fleet import Change, ChangeKind
from engine.provisioning.index import open_index
from engine.provisioning.overrides import Examined
from engine.provisioning.rollout import Group, RolloutFields
from engine.provisioning.rollout_watch import RolloutWatch
from tests.factories import add_account, add_location, add_phone

OLGA = Actor("user", "user_1", "olga@acme.example", "192.0.2.9")
SETTINGS = Change(ChangeKind.SETTINGS, "account", {"ntp_server": "ntp.example.com"})
TEMPLATE = Change(ChangeKind.TEMPLATE, "yealink/base.cfg.j2", "# ours\n{% extends 'shipped/base.cfg.j2' %}")


async def well(_rollout: Rollout) -> Examined:
    """Nothing is wrong with it."""
    return Examined()


@dataclass
class Asked:
    """Who was asked to fetch."""

    phones: list[str] = field(default_factory=list)

    async def __call__(self, _account_id: str, phone_ids: Sequence[str]) -> None:
        self.phones += phone_ids


@dataclass
class Fleet:
    account: Account
    phones: list[Phone]

    def ids(self, *places: int) -> tuple[str, ...]:
        return tuple(self.phones[place].id for place in places)


@pytest.fixture
async def fleet(database: Database) -> Fleet:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        phones = [
            await add_phone(session, account, mac=f"805ec000000{number}", label=f"Desk {number}") for number in range(4)
        ]
        for phone in phones:
            phone.status = PhoneStatus.CURRENT
    return Fleet(account, phones)


async def start(
    database: Database, fleet: Fleet, change: Change = SETTINGS, *places: int, limits: Limits | None = None
) -> str:
    wished = RolloutFields(change, Group(phones=fleet.ids(*places or (0, 1))), limits or Limits())
    async with database.sessions.begin() as session:
        account = await session.get(Account, fleet.account.id)
        return (await rollout.start_rollout(session, OLGA, account, wished)).id


async def fetched(
    database: Database, phone_id: str, kind: str = "fetch", sentence: str = "", *, file: str = "", reason: str = ""
) -> None:
    """As the fetch log writes it when the phone asks for its own file, or for that one."""
    async with database.sessions.begin() as session:
        phone = await session.get(Phone, phone_id)
        revision = await rollout.store.revision_of(session, phone.account_id)
        if kind == "fetch" and not file:
            phone.fetched_revision, phone.status = revision, PhoneStatus.CURRENT
        evidence = {"count": 1} | ({"sentences": [sentence]} if sentence else {})
        session.add(
            ProvisioningEvent(
                id=new_id("fetch"), account_id=phone.account_id, phone_id=phone.id, kind=kind,
                file=file or f"{phone.mac}.cfg", reason=reason or None, method="GET",
                status_code=200 if kind == "fetch" else 503, ip="192.0.2.1", evidence=evidence,
                at=utc_now(),
            )
        )  # fmt: skip


async def row(database: Database, rollout_id: str) -> Rollout:
    async with database.sessions() as session:
        found = await session.get(Rollout, rollout_id)
    assert found is not None
    return found


async def entries(database: Database, fleet: Fleet) -> list[dict[str, object]]:
    async with database.sessions() as session:
        query = select(AuditEntry).where(AuditEntry.chain == fleet.account.id).order_by(AuditEntry.seq)
        return [json.loads(entry.entry) for entry in await session.scalars(query)]


async def test_only_the_canary_phones_are_served_the_change_until_it_is_published(database, keys, fleet):
    """P-15: the others get what is published, before and after somebody takes it back."""
    index = open_index(database, keys)

    async def servers() -> list[str]:
        return [(await index.phone(phone.id)).settings["ntp_server"] for phone in fleet.phones]

    rollout_id = await start(database, fleet)
    assert await servers() == ["ntp.example.com", "ntp.example.com", "pool.ntp.org", "pool.ntp.org"]
    async with database.sessions() as session:
        states = [(await session.get(Phone, phone.id)).status for phone in fleet.phones]
    assert states == ["stale", "stale", "current", "current"]
    async with database.sessions.begin() as session:
        await rollout.publish_rollout(session, OLGA, await session.get(Rollout, rollout_id), Examined())
    assert await servers() == ["ntp.example.com"] * 4
    index.close()


async def test_a_template_is_published_as_a_version_by_whoever_published_it(database, keys, fleet):
    index = open_index(database, keys)
    rollout_id = await start(database, fleet, TEMPLATE)
    assert await index.overrides(fleet.account.id, "yealink", fleet.phones[0].id) == {"base.cfg.j2": TEMPLATE.after}
    assert await index.overrides(fleet.account.id, "yealink", fleet.phones[2].id) == {}
    async with database.sessions.begin() as session:
        await rollout.publish_rollout(session, OLGA, await session.get(Rollout, rollout_id), Examined())
    assert await index.overrides(fleet.account.id, "yealink", "") == {"base.cfg.j2": TEMPLATE.after}
    async with database.sessions() as session:
        override = (await session.scalars(select(TemplateOverride))).one()
        version = (await session.scalars(select(TemplateVersion))).one()
    assert (override.number, version.number, version.written_by) == (1, 1, OLGA.name)
    index.close()


async def test_a_fetch_that_fails_takes_the_change_back_and_says_why(database, fleet):
    """P-15: stopped and rolled back by the actor `system`, with the phone's sentence; what is published stays."""
    asked = Asked()
    watch = RolloutWatch(database, asked, well)
    rollout_id = await start(database, fleet)
    await watch.look(utc_now())
    assert sorted(asked.phones) == sorted(fleet.ids(0, 1)), "the canary phones are asked to fetch"
    await fetched(database, fleet.phones[0].id)
    await watch.look(utc_now())
    assert (await row(database, rollout_id)).counts == {"phones": 2, "fetched": 1, "failed": 0, "waiting": 1}
    await fetched(database, fleet.phones[1].id, "failed", "911 would wait for 4 s on line 1.")
    asked.phones.clear()
    await watch.look(utc_now())
    ended = await row(database, rollout_id)
    assert (ended.state, ended.counts["failed"]) == (RolloutState.ROLLED_BACK, 1)
    assert ended.reason.startswith(
        "1 of 2 canary phones failed. Desk 1: 805ec0000001.cfg cannot be made: 911 would wait"
    )
    assert sorted(asked.phones) == sorted(fleet.ids(0, 1)), "they are asked once more, for what was published"
    async with database.sessions() as session:
        assert (await session.scalars(select(SettingsLevel))).all() == []
    last = (await entries(database, fleet))[-1]
    assert (last["event"], last["actor"]["type"], last["reason"]) == ("rollout.roll_back", "system", ended.reason)


async def test_a_stopped_roll_out_is_an_alarm_until_the_same_is_rolled_out_anew(database, fleet):
    """P-15: `rollout_stopped`, with a link to the roll-out and the reason."""
    rollout_id = await start(database, fleet, SETTINGS, 0)
    async with database.sessions.begin() as session:
        await rollout.roll_back(session, SYSTEM, await session.get(Rollout, rollout_id), "Desk 0: 911 would wait.")
    async with database.sessions() as session:
        group = next(iter(await store_alarms.alarm_groups(session, fleet.account.id, 10)))
    assert (group.kind, group.count, group.first[0].href) == ("rollout_stopped", 1, f"/phones/rollouts/{rollout_id}")
    assert "911 would wait" in group.first[0].text
    await start(database, fleet, SETTINGS, 0)
    async with database.sessions() as session:
        assert await store_alarms.alarm_counts(session, fleet.account.id) == {}


async def test_a_phone_that_contradicts_itself_stops_it_and_one_that_may_fail_does_not(database, fleet):
    watch = RolloutWatch(database, Asked(), well)
    lenient = await start(database, fleet, SETTINGS, 0, 1, 2, limits=Limits(failures=1))
    await fetched(database, fleet.phones[0].id, "mismatch")
    await watch.look(utc_now())
    assert (await row(database, lenient)).state == RolloutState.CANARY
    await fetched(database, fleet.phones[1].id, "mismatch")
    await watch.look(utc_now())
    assert (await row(database, lenient)).state == RolloutState.ROLLED_BACK


@pytest.mark.parametrize(
    ("change", "file", "kind", "reason", "stops"),
    [
        (TEMPLATE, "{mac}.cfg", "failed", "", True),
        (TEMPLATE, "{mac}.cfg", "mismatch", "model", True),
        (SETTINGS, "{mac}.cfg", "failed", "", True),
        (SETTINGS, "{mac}.boot", "failed", "", True),
        (Change(ChangeKind.TEMPLATE, "yealink/dect.cfg.j2", "# ours\n"), "{mac}.cfg", "failed", "", False),
        (TEMPLATE, "{mac}-ring.wav", "mismatch", "unknown", False),
        (SETTINGS, "{mac}-ring.wav", "mismatch", "unknown", False),
        (TEMPLATE, "{mac}.xml", "mismatch", "vendor", False),
        (SETTINGS, "SEP{MAC}.cnf.xml", "mismatch", "vendor", False),
    ],
)
async def test_only_a_file_that_the_change_is_in_or_that_the_phone_got_before_stops_it(
    database, fleet, change, file, kind, reason, stops
):
    """P-15: phones look for files that nobody makes; a good template is not taken back for it. One that a phone got
    before the roll-out, and gets no more, is a failure whatever it is.
    """
    phone = fleet.phones[0]
    name = file.format(mac=phone.mac, MAC=phone.mac.upper())
    watch = RolloutWatch(database, Asked(), well)
    rollout_id = await start(database, fleet, change, 0)
    await fetched(database, phone.id, kind, file=name, reason=reason)
    await watch.look(utc_now())
    assert (await row(database, rollout_id)).state == (RolloutState.ROLLED_BACK if stops else RolloutState.CANARY)
    if stops:
        return
    async with database.sessions.begin() as session:
        await rollout.cancel_rollout(session, OLGA, await session.get(Rollout, rollout_id))
    await fetched(database, phone.id, "fetch", file=name)
    rollout_id = await start(database, fleet, change, 0)
    await fetched(database, phone.id, kind, file=name, reason=reason)
    await watch.look(utc_now())
    ended = await row(database, rollout_id)
    assert (ended.state, name in ended.reason) == (RolloutState.ROLLED_BACK, True)


async def test_what_went_well_is_published_by_itself_only_where_that_was_asked_for(database, fleet):
    watch = RolloutWatch(database, Asked(), well)
    by_hand = await start(database, fleet, SETTINGS, 0)
    alone = await start(database, fleet, TEMPLATE, 1, limits=Limits(is_automatic=True))
    await fetched(database, fleet.phones[0].id)
    await fetched(database, fleet.phones[1].id)
    await watch.look(utc_now())
    assert (await row(database, by_hand)).state == RolloutState.CANARY
    assert (await row(database, alone)).state == RolloutState.PUBLISHED
    last = (await entries(database, fleet))[-1]
    assert (last["event"], last["actor"]["type"]) == ("rollout.publish", "system")


async def test_a_template_is_tried_again_when_it_is_published(database, keys, fleet):
    """P-17, P-15: beside what the account's other templates have become, 911 may wait or a value begin a setting."""
    index = open_index(database, keys)
    tried = partial(trial.tried_rollout, database, index)
    good = Change(ChangeKind.TEMPLATE, "yealink/base.cfg.j2", "{% include 'base.cfg.j2' %}\n# ours\n")
    by_hand = await start(database, fleet, good, 0)
    assert (await tried(await row(database, by_hand))).faults == ()
    own = "{% include 'time.cfg.j2' %}\n{% for line in config.lines %}{{ line.secret }} = 1\n{% endfor %}"
    async with database.sessions.begin() as session:
        template = TemplateOverride(
            id="template_1", account_id=fleet.account.id, vendor="yealink", name="time.cfg.j2", body=own, number=1
        )
        session.add(template)
        rollout.record(session, OLGA, rollout.Event.TEMPLATE_CREATE, template)
    examined = await tried(await row(database, by_hand))
    with pytest.raises(Invalid, match=r"config\.lines\.secret"):
        async with database.sessions.begin() as session:
            await rollout.publish_rollout(session, OLGA, await session.get(Rollout, by_hand), examined)
    assert (await row(database, by_hand)).state == RolloutState.CANARY
    async with database.sessions.begin() as session:
        await rollout.cancel_rollout(session, OLGA, await session.get(Rollout, by_hand))
    alone = await start(database, fleet, good, 1, limits=Limits(is_automatic=True))
    await fetched(database, fleet.phones[1].id)
    await RolloutWatch(database, Asked(), tried).look(utc_now())
    ended = await row(database, alone)
    assert (ended.state, "config.lines.secret" in ended.reason) == (RolloutState.ROLLED_BACK, True)
    index.close()


async def test_a_fetch_from_before_the_change_does_not_count(database, fleet):
    """A phone that fetched in the second before is not one that took the change."""
    await fetched(database, fleet.phones[0].id)
    rollout_id = await start(database, fleet, SETTINGS, 0)
    await RolloutWatch(database, Asked(), well).look(utc_now())
    assert (await row(database, rollout_id)).counts["fetched"] == 0


async def test_what_was_published_meanwhile_is_never_overwritten(database, fleet):
    """Whoever changed the level by hand keeps that: publishing is refused, publishing by itself takes it back."""
    rollout_id = await start(database, fleet, SETTINGS, 0, limits=Limits(is_automatic=True))
    async with database.sessions.begin() as session:
        session.add(
            SettingsLevel(
                id=new_id("settings"),
                account_id=fleet.account.id,
                kind="account",
                name="account",
                settings={"lldp": False},
            )
        )
        rollout.record(session, OLGA, rollout.Event.ACCOUNT_UPDATE, resource=("settings", "account", "account"))
    with pytest.raises(Conflict, match="was changed after"):
        async with database.sessions.begin() as session:
            await rollout.publish_rollout(session, OLGA, await session.get(Rollout, rollout_id), Examined())
    await fetched(database, fleet.phones[0].id)
    await RolloutWatch(database, Asked(), well).look(utc_now())
    ended = await row(database, rollout_id)
    assert ended.state == RolloutState.ROLLED_BACK
    assert "was changed after" in ended.reason


async def test_a_canary_phone_that_the_change_does_not_reach_any_more_proves_nothing(database, fleet):
    """P-15: moved to another place it fetches well, without the change; published by itself on that word, it would be
    tried by nobody.
    """
    async with database.sessions.begin() as session:
        account = await session.get(Account, fleet.account.id)
        location = await add_location(session, account)
        for phone_id in fleet.ids(0, 1):
            phone = await session.get(Phone, phone_id)
            phone.location_id = location.id
            rollout.record(session, OLGA, rollout.Event.PHONE_UPDATE, phone)
    change = Change(ChangeKind.SETTINGS, location.id, SETTINGS.after)
    rollout_id = await start(database, fleet, change, 0, 1, limits=Limits(is_automatic=True))
    await move_away(database, fleet, 0)
    await fetched(database, fleet.phones[0].id)
    watch = RolloutWatch(database, Asked(), well)
    await watch.look(utc_now())
    found = await row(database, rollout_id)
    assert (found.state, found.counts["phones"], found.counts["fetched"]) == (RolloutState.CANARY, 1, 0)
    await move_away(database, fleet, 1)
    await watch.look(utc_now())
    found = await row(database, rollout_id)
    assert (found.state, "None of its canary phones is left" in found.reason) == (RolloutState.ROLLED_BACK, True)


async def move_away(database: Database, fleet: Fleet, place: int) -> None:
    async with database.sessions.begin() as session:
        phone = await session.get(Phone, fleet.phones[place].id)
        phone.location_id = None
        rollout.record(session, OLGA, rollout.Event.PHONE_UPDATE, phone)


async def test_settings_are_held_against_the_model_and_the_account_s_files_as_a_level_is(database, fleet):
    """P-10, P-15: what cannot be stored as a level cannot be rolled out; a file that went meanwhile stops it."""
    group = Group(phones=fleet.ids(0))
    for after, bad in (({"logo": "nowhere.png"}, "after.logo"), ({"firmware": "x.rom"}, "after.firmware")):
        with pytest.raises(Invalid) as refused:
            async with database.sessions.begin() as session:
                account = await session.get(Account, fleet.account.id)
                change = Change(ChangeKind.SETTINGS, "account", after)
                await rollout.start_rollout(session, OLGA, account, RolloutFields(change, group))
        assert [fault.field for fault in refused.value.fields] == [bad]
    async with database.sessions.begin() as session:
        asset = Asset(
            id=new_id("asset"), account_id=fleet.account.id, name="ours.png", kind="logo", content_type="image/png",
            size_bytes=4, sha256="0" * 64,
        )  # fmt: skip
        session.add(asset)
        rollout.record(session, OLGA, rollout.Event.ASSET_CREATE, asset)
    change = Change(ChangeKind.SETTINGS, "account", {"logo": "ours.png"})
    rollout_id = await start(database, fleet, change, 0, limits=Limits(is_automatic=True))
    async with database.sessions.begin() as session:
        gone = await session.get(Asset, asset.id)
        await session.delete(gone)
        rollout.record(session, OLGA, rollout.Event.ASSET_DELETE, gone)
    await fetched(database, fleet.phones[0].id)
    await RolloutWatch(database, Asked(), well).look(utc_now())
    found = await row(database, rollout_id)
    assert (found.state, "no logo called 'ours.png'" in found.reason) == (RolloutState.ROLLED_BACK, True)


async def test_one_that_cannot_be_judged_holds_up_no_other(database, fleet):
    """P-15: the other still stops what does harm."""

    async def broken(_rollout: Rollout) -> Examined:
        raise RuntimeError("nobody thought of this")

    stuck = await start(database, fleet, TEMPLATE, 1, limits=Limits(is_automatic=True))
    harmful = await start(database, fleet, SETTINGS, 0)
    await fetched(database, fleet.phones[1].id)
    await fetched(database, fleet.phones[0].id, "failed", "911 would wait.")
    await RolloutWatch(database, Asked(), broken).look(utc_now())
    assert (await row(database, stuck)).state == RolloutState.CANARY
    assert (await row(database, harmful)).state == RolloutState.ROLLED_BACK


async def test_stopped_taken_back_and_begun_anew_a_canary_starts_from_nothing(database, keys, fleet):
    """P-15: the failures and fetches of the first time count nothing the second time."""
    index, asked = open_index(database, keys), Asked()
    watch = RolloutWatch(database, asked, well)
    first = await start(database, fleet)
    await fetched(database, fleet.phones[0].id)
    await fetched(database, fleet.phones[1].id, "failed", "911 would wait.")
    await watch.look(utc_now())
    assert (await row(database, first)).state == RolloutState.ROLLED_BACK
    assert [(await index.phone(phone.id)).settings["ntp_server"] for phone in fleet.phones] == ["pool.ntp.org"] * 4
    second = await start(database, fleet)
    asked.phones.clear()
    await watch.look(utc_now())
    found = await row(database, second)
    assert (found.state, found.counts) == (
        RolloutState.CANARY, {"phones": 2, "fetched": 0, "failed": 0, "waiting": 2},
    )  # fmt: skip
    assert sorted(asked.phones) == sorted(fleet.ids(0, 1))
    assert (await index.phone(fleet.phones[0].id)).settings["ntp_server"] == "ntp.example.com"
    for place in (0, 1):
        await fetched(database, fleet.phones[place].id)
    await watch.look(utc_now())
    assert (await row(database, second)).counts["fetched"] == 2
    assert (await row(database, first)).state == RolloutState.ROLLED_BACK, "what has ended stays as it ended"
    index.close()


async def test_a_cancelled_roll_out_brings_its_phones_back_and_nothing_ends_twice(database, fleet):
    asked = Asked()
    watch = RolloutWatch(database, asked, well)
    rollout_id = await start(database, fleet, SETTINGS, 0)
    await watch.look(utc_now())
    asked.phones.clear()
    async with database.sessions.begin() as session:
        await rollout.cancel_rollout(session, OLGA, await session.get(Rollout, rollout_id))
    await watch.look(utc_now())
    await watch.look(utc_now())
    assert asked.phones == list(fleet.ids(0)), "asked once"
    for operation in (rollout.cancel_rollout, partial(rollout.publish_rollout, examined=Examined())):
        with pytest.raises(Conflict, match="has ended"):
            async with database.sessions.begin() as session:
                await operation(session, OLGA, await session.get(Rollout, rollout_id))


async def test_what_is_published_is_fetched_by_every_phone_that_has_it_not(database, fleet):
    """P-14, P-15: published by a person: the phones out of date are asked once, whichever node looks; those that have
    it are left alone; the page's numbers are those of the database.
    """
    rollout_id = await start(database, fleet, SETTINGS, 0)
    await fetched(database, fleet.phones[0].id)
    async with database.sessions.begin() as session:
        await rollout.publish_rollout(session, OLGA, await session.get(Rollout, rollout_id), Examined())
        (await session.get(Phone, fleet.phones[0].id)).status = PhoneStatus.CURRENT
        (await session.get(Phone, fleet.phones[3].id)).status = PhoneStatus.NEVER_BOOTED
    first, second = Asked(), Asked()
    await RolloutWatch(database, first, well).look(utc_now())
    assert sorted(first.phones) == sorted(fleet.ids(1, 2))
    await RolloutWatch(database, second, well).look(utc_now() + dt.timedelta(minutes=2))
    assert second.phones == [], "a restart, or another node, asks nobody twice"
    async with database.sessions.begin() as session:
        ended = await session.get(Rollout, rollout_id)
        for place, result in ((1, "accepted"), (2, "no answer")):
            phone = await session.get(Phone, fleet.phones[place].id)
            phone.resync_result, phone.resync_at = result, utc_now()
    async with database.sessions() as session:
        assert await store_rollouts.results_since(session, ended) == {"accepted": 1, "no answer": 1}
        assert await store_rollouts.outdated(session, ended) == 2


async def test_a_roll_out_that_ended_long_ago_asks_nobody(database, fleet):
    """A node that comes up after a day does not bring the phones back once more."""
    rollout_id = await start(database, fleet, SETTINGS, 0)
    async with database.sessions.begin() as session:
        await rollout.cancel_rollout(session, OLGA, await session.get(Rollout, rollout_id))
    asked = Asked()
    await RolloutWatch(database, asked, well).look(utc_now() + dt.timedelta(hours=2))
    assert asked.phones == []


async def test_one_node_watches(database, fleet):
    await start(database, fleet, SETTINGS, 0)
    async with database.sessions.begin() as session:
        assert await lease.take(session, "rollouts", "another node", utc_now(), for_s=60)
    asked = Asked()
    await RolloutWatch(database, asked, well).look(utc_now())
    assert asked.phones == []


async def test_the_group_is_chosen_by_name_by_place_or_by_chance(database, fleet):
    async with database.sessions.begin() as session:
        account = await session.get(Account, fleet.account.id)
        location = await add_location(session, account)
        (await session.get(Phone, fleet.phones[3].id)).location_id = location.id
        rollout.record(session, OLGA, rollout.Event.PHONE_UPDATE, await session.get(Phone, fleet.phones[3].id))
    async with database.sessions.begin() as session:
        account = await session.get(Account, fleet.account.id)
        at_place = await rollout.start_rollout(
            session, OLGA, account, RolloutFields(SETTINGS, Group(location_id=location.id))
        )
        seen = await session.get(Phone, fleet.phones[2].id)
        seen.last_fetch_at = utc_now()
        await session.flush()
        by_chance = await rollout.start_rollout(session, OLGA, account, RolloutFields(TEMPLATE, Group(random=1)))
        assert at_place.canary == [fleet.phones[3].id]
        assert by_chance.canary == [seen.id], "those that were seen lately come first"


@pytest.mark.parametrize(
    ("change", "group", "limits", "bad"),
    [
        (Change(ChangeKind.TEMPLATE, "nokia/base.j2", "x"), Group(random=1), Limits(), "target"),
        (Change(ChangeKind.TEMPLATE, "yealink/nothing.j2", "x"), Group(random=1), Limits(), "target"),
        (Change(ChangeKind.TEMPLATE, "yealink/common.cfg.j2", "x"), Group(random=1), Limits(), "target"),
        (Change(ChangeKind.TEMPLATE, "yealink/base.cfg.j2", {}), Group(random=1), Limits(), "after"),
        (Change(ChangeKind.SETTINGS, "global", {}), Group(random=1), Limits(), "target"),
        (Change(ChangeKind.SETTINGS, "account", {"vlan_id": 9999}), Group(random=1), Limits(), "after.vlan_id"),
        (Change(ChangeKind.SETTINGS, "account", "x"), Group(random=1), Limits(), "after"),
        (SETTINGS, Group(), Limits(), "canary"),
        (SETTINGS, Group(random=1, location_id="location_x"), Limits(), "canary"),
        (SETTINGS, Group(phones=("phone_of_another_account",)), Limits(), "canary.phones"),
        (SETTINGS, Group(random=0), Limits(), "canary.random"),
        (SETTINGS, Group(random=1), Limits(minutes=0), "minutes"),
        (SETTINGS, Group(random=1), Limits(failures=-1), "failures"),
    ],
)
async def test_a_roll_out_that_cannot_be_says_which_field_and_begins_nothing(
    database, fleet, change, group, limits, bad
):
    with pytest.raises(Invalid) as refused:
        async with database.sessions.begin() as session:
            account = await session.get(Account, fleet.account.id)
            await rollout.start_rollout(session, OLGA, account, RolloutFields(change, group, limits))
    assert bad in [fault.field for fault in refused.value.fields]
    async with database.sessions() as session:
        assert await store_rollouts.running(session) == []


async def test_one_roll_out_of_a_target_at_a_time_and_none_of_what_holds_already(database, fleet):
    await start(database, fleet)
    with pytest.raises(Conflict, match="under way"):
        await start(database, fleet)
    with pytest.raises(Conflict, match="published already"):
        await start(database, fleet, Change(ChangeKind.TEMPLATE, "yealink/base.cfg.j2", None))


async def test_nothing_to_watch_costs_no_write(database, fleet):
    asked = Asked()
    watch = RolloutWatch(database, asked, well)
    before = len(await entries(database, fleet))
    await watch.look(utc_now())
    assert len(await entries(database, fleet)) == before
    async with database.sessions() as session:
        assert (await session.scalars(select(Lease))).all() == []
