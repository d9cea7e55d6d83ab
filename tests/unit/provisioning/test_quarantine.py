"""A phone that says it is another model than the one kept: when it is held back, and how it is let go."""

import json
from dataclasses import replace

import pytest
from sqlalchemy import select

from engine.audit.events import Event
from engine.audit.record import SYSTEM
from engine.errors import Conflict, Invalid
from engine.models import AuditEntry, Phone, PhoneStatus
from engine.provisioning import phones, quarantine, simulate, vendors
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.fetchlog import FetchLog
from engine.provisioning.index import Found
from engine.provisioning.phones import PhoneFields
from engine.provisioning.quarantine import ELSEWHERE, HELD, REASON, Gate, Seen, another_model
from tests.factories import add_account, add_line, add_phone

KNOWN = vendors.load()
MAC = "805ec0aabbcc"
HOME, NEAR, AWAY = "192.0.2.7", "192.0.2.250", "198.51.100.7"
OTHER = "Yealink SIP-T31P 124.86.0.20 80:5e:c0:aa:bb:cc"


def judged(kept: Seen, path: str, agent: str | None) -> Seen | None:
    return another_model(KNOWN, kept, KNOWN.identify(path, agent))


# --- When -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", KNOWN.profiles.values(), ids=lambda profile: profile.name)
def test_a_phone_of_the_right_model_is_never_held_back(profile):
    """P-05: every model of every family, with its own User-Agent in any usual spelling, with and without one."""
    mac = vendors.Mac(f"{min(profile.ouis, default='02ab1f')}0a1b2c")
    for model in profile.models.values():
        kept = Seen(profile.name, model.name)
        agent = simulate.FAMILIES[profile.name].agent(model, mac)
        spellings = {agent, agent.lower(), agent.upper(), agent.replace("_", " "), "Front desk phone", "", None}
        paths = [
            name.replace("{mac}", mac).replace("{MAC}", mac.upper()).replace("{model}", model.name)
            for name in profile.device_files
        ]
        for path in (*paths, f"{mac}.cfg", f"cfg{mac}.xml"):
            for spelling in spellings:
                assert judged(kept, f"/p/x/{path}", spelling) is None, (model.name, path, spelling)


def test_a_phone_under_any_other_name_of_its_model_is_never_held_back():
    """P-05: many models share spellings; all of them lead to the kept one."""
    seen = 0
    for profile in KNOWN.profiles.values():
        mac = vendors.Mac(f"{min(profile.ouis, default='02ab1f')}0a1b2c")
        for spelling, name in profile.model_spellings.items():
            seen += 1
            agent = simulate.FAMILIES[profile.name].agent(replace(profile.models[name], name=spelling), mac)
            assert judged(Seen(profile.name, name), f"/p/x/{mac}.cfg", agent) is None, (name, spelling)
    assert seen > 500


def test_every_real_request_of_a_model_that_is_kept_is_served(cases):
    """P-05: the User-Agents that real phones were seen with."""
    seen = 0
    for case in json.loads((cases / "requests.json").read_text()):
        who = KNOWN.identify(case["path"] or "/", case["user_agent"])
        profile = KNOWN.profiles.get(who.vendor or "")
        model = profile.model((case["model"] or "").partition(" / ")[0]) if profile is not None else None
        if profile is None or model is None or not case["user_agent"]:
            continue
        seen += 1
        assert another_model(KNOWN, Seen(profile.name, model.name), who) is None, case
    assert seen > 80


@pytest.mark.parametrize(
    ("kept", "agent", "expected"),
    [
        (("yealink", "T46U"), "Yealink SIP-T31P 124.86.0.20 80:5e:c0:aa:bb:cc", ("yealink", "T31P")),
        (("yealink", "T31P"), "Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:cc", ("yealink", "T46U")),
        (("yealink", "T46U"), "Yealink SIP-T46U 66.86.0.15", None),
        # as many lines, the same files: a swap that changes nothing
        (("yealink", "T48U"), "Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:cc", None),
        # a name of the firmware's own that no table has
        (("yealink", "T46U"), "Yealink SIP-T99X 200.86.0.20 80:5e:c0:aa:bb:cc", None),
        # somebody's own User-Agent, or none
        (("yealink", "T46U"), "Reception", None),
        (("yealink", "T46U"), None, None),
        # the address in the User-Agent is another phone's: contradicting evidence, refused as such
        (("yealink", "T46U"), "Yealink SIP-T31P 124.86.0.20 80:5e:c0:00:00:01", None),
        # another vendor that gives this address as its own
        (("yealink", "T46U"), "Fanvil X5U-V2 2.12.16.17 805ec0aabbcc", ("fanvil", "X5U-V2")),
        # another vendor that does not
        (("yealink", "T46U"), "FileTransport PolycomVVX-VVX_450-UA/5.9.1.0615 Type/Application", None),
    ],
)
def test_another_model_counts_only_where_it_is_sure_and_matters(kept, agent, expected):
    """P-05: template or lines differ, the User-Agent names the model, the addresses agree."""
    found = judged(Seen(*kept), f"/p/x/{MAC}.cfg", agent)
    assert found == (Seen(*expected) if expected is not None else None)


def test_a_revision_of_the_same_name_is_the_same_phone():
    """P-05: an X5U-V2 that is kept as an X5U, or the other way."""
    mac = "0c383eaabbcc"
    for kept, named in (("X5U", "X5U-V2"), ("X5U-V2", "X5U"), ("X4U", "X4U-Pro")):
        assert judged(Seen("fanvil", kept), f"/p/x/{mac}.cfg", f"Fanvil {named} 2.12.16.17 {mac}") is None


def test_once_seen_the_phone_is_held_back_until_the_database_says_so():
    """P-05: the one 404 from then on, whatever User-Agent comes next; another phone is not meant."""
    gate = Gate(KNOWN)
    found = Found("account", 1, "phone", "yealink", "T46U", last_ip=HOME)
    other = KNOWN.identify(f"/{MAC}.cfg", OTHER)
    silent = KNOWN.identify(f"/{MAC}.cfg", None)
    assert gate.refusal(found, silent, HOME, 10.0) is None
    assert gate.refusal(found, other, HOME, 10.0) == REASON
    assert gate.refusal(found, silent, HOME, 10.0) is None  # another rule may have refused it: nothing is remembered
    assert gate.seen(found, other, HOME, 10.0) == ("yealink", "T31P")
    assert gate.refusal(found, silent, HOME, 11.0) == HELD
    assert gate.refusal(found, silent, AWAY, 11.0) is None
    assert gate.refusal(found._replace(phone_id="another"), silent, HOME, 11.0) is None
    assert gate.refusal(found._replace(phone_id=None), other, HOME, 11.0) is None
    assert gate.refusal(found._replace(status="quarantined"), silent, HOME, 12.0) == HELD
    assert gate.refusal(found, silent, HOME, 12.1) is None  # released meanwhile
    assert gate.seen(found, other, HOME, 20.0) == ("yealink", "T31P")
    assert gate.refusal(found, silent, HOME, 26.0) is None  # nothing was written: a database that is away holds nobody


@pytest.mark.parametrize(
    ("last_ip", "agent", "ip", "is_proven", "expected"),
    [
        (HOME, OTHER, NEAR, False, REASON),
        (HOME, OTHER, AWAY, False, ELSEWHERE),
        (HOME, OTHER, AWAY, True, REASON),
        ("", OTHER, AWAY, False, REASON),  # it was served nowhere, and its address is in the User-Agent
        ("", "Yealink SIP-T31P 124.86.0.20", AWAY, False, ELSEWHERE),
        ("2001:db8:1:2::7", OTHER, "2001:db8:1:2:3::9", False, REASON),
        ("2001:db8:1:2::7", OTHER, "2001:db8:1:3::7", False, ELSEWHERE),
        (HOME, OTHER, f"::ffff:{HOME}", False, REASON),
    ],
)
def test_only_the_phone_s_own_place_can_have_it_held_back(last_ip, agent, ip, is_proven, expected):
    """P-05: anybody with the URL can write a User-Agent; from elsewhere only that one request is refused."""
    who = replace(KNOWN.identify(f"/{MAC}.cfg", agent), is_proven=is_proven)
    found = Found("account", 1, "phone", "yealink", "T46U", last_ip=last_ip)
    assert Gate(KNOWN).refusal(found, who, ip, 1.0) == expected


@pytest.mark.parametrize("status", ["current", "quarantined"])
def test_a_phone_that_says_its_kept_model_at_home_is_served_whatever_others_said(status):
    """P-05: one forged request of the same network takes no phone off the air."""
    gate = Gate(KNOWN)
    found = Found("account", 1, "phone", "yealink", "T46U", last_ip=HOME, status=status)
    kept = KNOWN.identify(f"/{MAC}.cfg", "Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:cc")
    gate.seen(found, KNOWN.identify(f"/{MAC}.cfg", OTHER), HOME, 1.0)
    assert gate.refusal(found, kept, HOME, 2.0) is None
    assert gate.refusal(found._replace(status="quarantined"), kept, AWAY, 2.0) == HELD


def noted(phone_id, kind, ip, **more):
    return Fetch(kind, f"{MAC}.cfg", "GET", 200, ip, "", None, phone_id, MAC, **more)


@pytest.mark.parametrize(
    ("served_at", "is_proven", "expected"),
    [((NEAR,), False, "quarantined"), ((NEAR, AWAY), False, "current"), ((NEAR, AWAY), True, "quarantined")],
)
async def test_a_home_that_somebody_made_by_fetching_holds_no_phone_back(database, served_at, is_proven, expected):
    """P-05: whoever reads the file by a stolen URL, and then says another model from there, is only refused."""
    async with database.sessions.begin() as session:
        phone = await add_phone(session, await add_account(session), mac=MAC)
    log = FetchLog(database)
    for address in served_at:
        log.note(noted(phone.id, FetchKind.FETCH, address, revision=1), 1)
        await log.flush()
    said = noted(phone.id, FetchKind.MISMATCH, served_at[-1], reason=REASON, seen=("yealink", "T31P"))
    log.note(said._replace(is_proven=is_proven), 1)
    await log.flush()
    async with database.sessions() as session:
        assert (await session.get(Phone, phone.id)).status == expected


# --- Letting go -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def held(database):
    """A quarantined T46U with two lines that says it is a T31P."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        lines = [await add_line(session, account, extension) for extension in ("101", "102")]
        phone = await add_phone(session, account, *lines, fetched_revision=1, status=PhoneStatus.CURRENT)
        quarantine.hold(session, SYSTEM, phone, Seen("yealink", "T31P"))
        quarantine.hold(session, SYSTEM, phone, Seen("yealink", "T33G"))  # a second time: nothing more
        return phone.id


async def phone_and_entries(database, phone_id, event):
    async with database.sessions.begin() as session:
        entries = list(await session.scalars(select(AuditEntry).where(AuditEntry.event == event.value)))
        return await session.get(Phone, phone_id), entries


async def test_holding_back_is_audited_once_and_keeps_what_was_seen(database, held):
    """P-05, P-16: status, vendor and model as seen, one entry."""
    phone, entries = await phone_and_entries(database, held, Event.PHONE_QUARANTINE)
    assert (phone.status, phone.seen_vendor, phone.seen_model) == (PhoneStatus.QUARANTINED, "yealink", "T31P")
    assert [json.loads(entry.entry)["details"]["seen"] for entry in entries] == ["yealink T31P"]


@pytest.mark.parametrize(("model", "expected"), [("SIP-T31P", "T31P"), (None, "T46U")])
async def test_a_release_takes_the_new_model_over_or_keeps_the_old_one(database, held, model, expected):
    """P-05: in any usual spelling; the phone must fetch again."""
    async with database.sessions.begin() as session:
        await quarantine.release_phone(session, SYSTEM, await session.get(Phone, held), model=model)
    phone, entries = await phone_and_entries(database, held, Event.PHONE_RELEASE)
    assert (phone.model, phone.status, phone.seen_vendor, phone.seen_model) == (
        expected, PhoneStatus.STALE, None, None,
    )  # fmt: skip
    assert len(entries) == 1


async def test_a_release_into_a_model_that_is_none_or_too_small_is_refused_by_field(database, held):
    async with database.sessions.begin() as session:
        phone = await session.get(Phone, held)
        with pytest.raises(Invalid) as caught:
            await quarantine.release_phone(session, SYSTEM, phone, model="VVX 450")
        assert "Expected a Yealink model" in caught.value.fields[0].detail
        with pytest.raises(Invalid) as caught:
            await quarantine.release_phone(session, SYSTEM, phone, model="CP920")
        assert "holds 1 lines, and 2 sit" in caught.value.fields[0].detail
        assert phone.status == PhoneStatus.QUARANTINED


async def test_only_a_quarantined_phone_can_be_released(database):
    async with database.sessions.begin() as session:
        account = await add_account(session)
        phone = await add_phone(session, account)
        with pytest.raises(Conflict, match="not quarantined"):
            await quarantine.release_phone(session, SYSTEM, phone, model=None)


async def test_changing_the_kept_model_to_the_one_seen_releases_the_phone(database, held):
    """P-05: who corrects the model by hand need not release it as well; any other change does not."""
    async with database.sessions.begin() as session:
        phone = await session.get(Phone, held)
        fields = await PhoneFields.of(session, phone)
        await phones.update_phone(session, SYSTEM, phone, PhoneFields(**{**_plain(fields), "label": "Lobby"}))
        assert phone.status == PhoneStatus.QUARANTINED
        await phones.update_phone(session, SYSTEM, phone, PhoneFields(**{**_plain(fields), "model": "T31P"}))
        assert (phone.status, phone.seen_model) == (PhoneStatus.STALE, None)


def _plain(fields: PhoneFields) -> dict:
    return {name: getattr(fields, name) for name in PhoneFields.__dataclass_fields__}
