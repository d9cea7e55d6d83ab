"""An account's own templates and levels of settings, as phones meet them on the phones' port: a broken template never
takes a phone away.
"""

from sqlalchemy import select

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import utc_now
from engine.ids import new_id
from engine.models import (
    Account,
    Phone,
    PhoneStatus,
    Rollout,
    RolloutState,
    SettingsLevel,
    TemplateOverride,
    TemplateVersion,
)
from engine.provisioning import levels, settings, store
from engine.provisioning.alarms import AlarmKind
from engine.provisioning.levels import LevelFields
from engine.provisioning.store_alarms import alarm_groups
from tests.factories import add_location
from tests.protocol.test_provisioning import (  # noqa: F401  # the fixtures
    YEALINK_MAC,
    Site,
    client,
    events,
    fetch,
    site,
)

OWN = "{% include 'time.cfg.j2' %}\nphone_setting.backlight_time = 60\n"
FILE = f"{YEALINK_MAC}.cfg"


async def publish(site: Site, body: str | None, name: str = "time.cfg.j2") -> None:  # noqa: F811
    """Straight into the tables: a text that was good when it was tried and is broken by now."""
    async with site.database.sessions.begin() as session:
        row = await session.scalar(select(TemplateOverride).where(TemplateOverride.account_id == site.account.id))
        event = Event.TEMPLATE_UPDATE
        if row is None:
            event = Event.TEMPLATE_CREATE
            row = TemplateOverride(
                id=new_id("template"), account_id=site.account.id, vendor="yealink", name=name, number=0
            )
            session.add(row)
        row.body, row.number = body, row.number + 1
        record(session, SYSTEM, event, row)


async def status_of(site: Site, mac: str = YEALINK_MAC) -> str:  # noqa: F811
    await site.port.log.flush()
    async with site.database.sessions() as session:
        return (await session.scalars(select(Phone.status).where(Phone.mac == mac))).one()


async def test_a_phone_of_the_account_is_served_its_own_template_and_another_account_is_not(site, client):  # noqa: F811
    """P-17: an override is the account's alone, and in force from the commit on."""
    before = (await fetch(client, site.url(FILE)))[2]
    assert b"backlight_time" not in before
    await publish(site, OWN)
    assert b"phone_setting.backlight_time = 60\n" in (await fetch(client, site.url(FILE)))[2]
    other = await fetch(client, site.url("805ec0ccdd03.cfg", site.other_token), agent="Yealink SIP-T46U 108.86.0.20")
    assert (other[0], b"backlight_time" in other[2]) == (200, False)
    await publish(site, None)
    assert (await fetch(client, site.url(FILE)))[2] == before


async def test_a_template_that_breaks_leaves_the_last_good_file_in_place_and_says_so(site, client):  # noqa: F811
    """P-17: the last good bytes, noted as a failed fetch with the line; good again when the template is."""
    await publish(site, OWN)
    good = await fetch(client, site.url(FILE))
    await publish(site, "{{ config.nosuch }}\n")
    status, headers, body = await fetch(client, site.url(FILE))
    assert (status, body, headers["etag"]) == (200, good[2], good[1]["etag"])
    again = await fetch(client, site.url(FILE), headers={"If-None-Match": headers["etag"]})
    assert again[0] == 304
    seen = [event for event in await events(site) if event.kind == "failed"]
    assert [(event.status_code, event.reason) for event in seen] == [(200, "BrokenTemplate"), (304, "BrokenTemplate")]
    assert "line 1 of time.cfg.j2" in str(seen[0].evidence)
    assert await status_of(site) == PhoneStatus.FAILED
    async with site.database.sessions() as session:
        groups = await alarm_groups(session, site.account.id, 5)
    assert AlarmKind.RENDERING_FAILED in {group.kind for group in groups}
    await publish(site, OWN.replace("60", "90"))
    assert b"backlight_time = 90" in (await fetch(client, site.url(FILE)))[2]
    assert await status_of(site) == PhoneStatus.CURRENT


async def test_with_nothing_in_memory_the_shipped_template_stands_in(site, client):  # noqa: F811
    """P-17: a node that has just started serves the shipped text; 911 on it leaves at once."""
    await publish(site, "{% for a in range(2000) %}{% for b in range(2000) %}x{% endfor %}{% endfor %}")
    status, _, body = await fetch(client, site.url(FILE))
    assert status == 200
    assert b"account.1.password = secret-of-101" in body
    assert b"local_time.ntp_server1" in body
    assert await status_of(site) == PhoneStatus.FAILED
    await publish(site, "{{ config.nosuch }}")  # broken otherwise: what stood in is no last good file
    assert (await fetch(client, site.url(FILE)))[2] == body


async def test_with_nothing_in_memory_the_newest_earlier_version_that_can_be_made_stands_in(site, client):  # noqa: F811
    """P-17: a node that has just started: the versions are stored. One that holds 911 up or breaks is passed over, and
    what the account's other texts say stays.
    """
    slow = "dialplan.dialnow.rule.1 = xxxxxxx\n"
    texts = (OWN.replace("60", "30"), OWN, slow, "{{ config.nosuch }}", "{{ config.broken }}")
    async with site.database.sessions.begin() as session:
        row = TemplateOverride(
            id=new_id("template"), account_id=site.account.id, vendor="yealink", name="time.cfg.j2", number=len(texts)
        )
        row.body = texts[-1]
        session.add(row)
        await session.flush()
        for number, body in enumerate(texts, start=1):
            session.add(
                TemplateVersion(template_id=row.id, number=number, body=body, written_by="pat", written_at=utc_now())
            )
        record(session, SYSTEM, Event.TEMPLATE_CREATE, row)
    status, _, body = await fetch(client, site.url(FILE))
    assert status == 200
    assert b"phone_setting.backlight_time = 60\n" in body
    assert b"dialnow.rule.1 = 911" in body
    seen = [event for event in await events(site) if event.kind == "failed"]
    assert [event.reason for event in seen] == ["BrokenTemplate"]
    assert await status_of(site) == PhoneStatus.FAILED
    async with site.database.sessions() as session:
        groups = await alarm_groups(session, site.account.id, 5)
    told = next(alarm.text for group in groups if group.kind is AlarmKind.RENDERING_FAILED for alarm in group.first)
    assert "an earlier or the shipped one in its place" in told


async def test_a_template_that_came_to_delay_911_is_not_served(site, client):  # noqa: F811
    """P-08: proven again at every rendering, whatever was found when it was saved."""
    good = (await fetch(client, site.url(FILE)))[2]
    await publish(site, "dialplan.dialnow.rule.1 = xxxxxxx\n", "dialing.cfg.j2")
    assert (await fetch(client, site.url(FILE)))[2] == good
    failed = [event for event in await events(site) if event.kind == "failed"]
    assert failed[0].reason == "UnsafeDialPlan"
    assert "911" in str(failed[0].evidence)


async def test_a_file_that_cannot_be_made_at_all_is_503_once_nothing_is_in_memory(site, client):  # noqa: F811
    async with site.database.sessions.begin() as session:
        account = await session.get_one(Account, site.account.id)
        account.phone_admin_password = "two\nlines"  # what no phone could be told
        record(session, SYSTEM, Event.PHONE_ADMIN_PASSWORD_ROTATE, account)
    await publish(site, "{{ config.nosuch }}")
    status, headers, _ = await fetch(client, site.url(FILE))
    assert (status, headers["retry-after"]) == (503, "60")


async def test_levels_reach_the_phone_and_the_files_of_every_phone(site, client):  # noqa: F811
    """P-10: account and global count in files that are for every phone; location and model in the phone's own."""
    async with site.database.sessions.begin() as session:
        account = await session.get_one(Account, site.account.id)
        place = await add_location(session, account)
        phone = await store.phone_by_mac(session, account.id, YEALINK_MAC)
        phone.location_id = place.id
        record(session, SYSTEM, Event.PHONE_UPDATE, phone)
        await levels.put_global(session, SYSTEM, {"ntp_server": "global.example.net", "lldp": False})
        for wished in (
            LevelFields("account", settings={"ntp_server": "account.example.net"}),
            LevelFields("location", location_id=place.id, settings={"ntp_server": "plant.example.net"}),
            LevelFields("model", vendor="yealink", model="T46U", settings={"vlan_id": 33}),
        ):
            await levels.create_level(session, SYSTEM, account, wished)
    own = (await fetch(client, site.url(FILE)))[2]
    assert b"local_time.ntp_server1 = plant.example.net" in own
    assert b"network.vlan.internet_port_vid = 33" in own
    assert b"network.lldp.enable = 0" in own
    shared = (await fetch(client, site.url("y000000000108.cfg")))[2]
    assert b"account.example.net" in shared
    assert b"plant.example.net" not in shared


async def test_a_change_for_all_accounts_bumps_every_account_s_revision(site):  # noqa: F811
    """P-10: and takes every account's phones out of date; without settings the level is gone."""

    async def revisions():
        async with site.database.sessions() as session:
            accounts = (await session.scalars(select(Account.id))).all()
            return {one: await store.revision_of(session, one) for one in accounts}

    before = await revisions()
    async with site.database.sessions.begin() as session:
        for phone in await session.scalars(select(Phone)):
            phone.status = PhoneStatus.CURRENT
    async with site.database.sessions.begin() as session:
        await levels.put_global(session, SYSTEM, {"lldp": False})
    assert await revisions() == {one: value + 1 for one, value in before.items()}
    async with site.database.sessions() as session:
        assert set(await session.scalars(select(Phone.status))) == {PhoneStatus.STALE}
    async with site.database.sessions.begin() as session:
        assert await levels.put_global(session, SYSTEM, {}) is None
        assert (await session.scalars(select(SettingsLevel))).all() == []
    assert await revisions() == {one: value + 2 for one, value in before.items()}


async def test_a_phone_of_the_canary_group_gets_what_is_rolled_out_and_the_others_what_is_published(site, client):  # noqa: F811
    """P-15: settings and templates alike, for as long as the roll-out runs."""
    await publish(site, OWN)
    async with site.database.sessions.begin() as session:
        phone = await store.phone_by_mac(session, site.account.id, YEALINK_MAC)
        for kind, target, after in (
            ("settings", "yealink/T46U", {"vlan_id": 44}),
            ("template", "yealink/time.cfg.j2", OWN.replace("60", "45")),
        ):
            rollout = Rollout(
                id=new_id("rollout"), account_id=site.account.id, kind=kind, target=target, canary=[phone.id],
                change={"before": None, "after": after}, started_by="test", started_at=utc_now(),
            )  # fmt: skip
            session.add(rollout)
            record(session, SYSTEM, Event.ROLLOUT_CREATE, rollout)
    body = (await fetch(client, site.url(FILE)))[2]
    assert (b"internet_port_vid = 44" in body, b"backlight_time = 45" in body) == (True, True)
    for phone_id in ("", "phone_other"):
        assert (await site.port.index.overrides(site.account.id, "yealink", phone_id))["time.cfg.j2"] == OWN
    record_of = await site.port.index.phone(phone.id)
    assert (record_of.settings["vlan_id"], record_of.sources["vlan_id"].kind) == (44, "model")
    assert record_of.account.settings["vlan_id"] == settings.DEFAULTS["vlan_id"]
    async with site.database.sessions.begin() as session:
        for rollout in await session.scalars(select(Rollout)):
            rollout.state = RolloutState.CANCELLED
            record(session, SYSTEM, Event.ROLLOUT_CANCEL, rollout)
    body = (await fetch(client, site.url(FILE)))[2]
    assert (b"internet_port_vid" in body, b"backlight_time = 60" in body) == (False, True)
