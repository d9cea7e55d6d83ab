"""Files of an account: names, who may have them, bytes on disk, and the operations on their rows."""

import hashlib

import pytest

from engine.audit.record import SYSTEM
from engine.errors import Conflict, Invalid
from engine.models import Asset
from engine.provisioning import assetfile, assets, contacts, levels, phones, store_assets, vendors
from engine.provisioning.assetfile import AssetRecord
from engine.provisioning.assets import AssetFields
from engine.provisioning.assetstore import AssetStore
from engine.provisioning.contacts import ContactFields
from engine.provisioning.levels import LevelFields
from engine.provisioning.phones import PhoneFields
from tests.factories import add_account, add_line, add_phone

KNOWN = vendors.known()


async def pieces(*parts: bytes):
    for part in parts:
        yield part


async def broken():
    yield b"one"
    raise ConnectionResetError


# --- Names and askers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["T46U-108.86.0.20.rom", "logo.png", "6867i.st", "fw(1).bin", "a1"])
def test_a_good_name_is_taken(name):
    assert assetfile.is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "a", ".hidden", "../../etc/passwd", "a/b", "a\\b", "a b", "a\nb", "a%2f", "..", "a..b", "x" * 101, "é.png",
        "a.", "-rf", "a?b", "a\x00",
    ],
)  # fmt: skip
def test_a_name_that_could_be_a_path_or_needs_escapes_is_refused(name):
    """P-07: never a path escape."""
    assert not assetfile.is_name(name)
    assert any(fault.field == "name" for fault in assets.field_faults(AssetFields(name, "logo")))


@pytest.mark.parametrize(
    "name",
    ["y000000000108.cfg", "805ec0aabb01.cfg", "yealink-phonebook.xml", "64167faabb02-app.log", "000000000000.cfg"],
)
def test_a_name_of_a_configuration_is_refused(name):
    """P-01: a file of somebody's own never stands in for a configuration."""
    faults = assets.field_faults(AssetFields(name, "logo"))
    assert [fault.field for fault in faults] == ["name"]
    assert "by this name" in faults[0].detail


@pytest.mark.parametrize("kind", assetfile.KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "6867i.cfg", "6867I.CFG", "sip.cfg", "46xxsettings.txt", "J100Supgrade.txt", "dialplan.xml", "spa.cfg",
        "y000000000000.boot", "general.xml", "snomD785-firmware.htm", "snom370-firmware.xml", "features.json", "x.conf",
        "SEP00562baabb01.cnf.xml", "SEP00562baabb01.cnf", "x.ini", "x.html", "x.rom.cfg", "x.tuz", "x.lic", "x.js",
        "cfg000b82aabb01", "cfg000b82aabb01.bin", "master.bin", "algop8301.conf.md5", "noending",
    ],
)  # fmt: skip
def test_what_a_phone_could_read_settings_from_is_no_file(name, kind):
    """P-07: a text of settings would be served without its proof that 911 is dialled at once."""
    vendor = "snom" if name.startswith("snom") else "mitel"
    assert [fault.field for fault in assets.field_faults(AssetFields(name, kind, vendor))] == ["name"]
    agent = "Mozilla/4.0 (compatible; snomD785-SIP 10.1.54.13)" if vendor == "snom" else ""
    for who in (KNOWN.identify(name, agent), KNOWN.identify(name, "")):  # nor is one served that was stored before
        assert not assetfile.is_for(AssetRecord(name, kind), "", "", who)


@pytest.mark.parametrize(
    ("name", "kind", "vendor"),
    [
        ("6867i.st", "firmware", "mitel"), ("T46U-108.86.0.20(1).ROM", "firmware", "yealink"),
        ("sip.ld", "firmware", "poly"), ("sip.ver", "firmware", "poly"), ("x5u.z", "firmware", "fanvil"),
        ("fanvil_x5u_v2_hwv2_0.txt", "firmware", "fanvil"), ("ring1.bin", "ringtone", "grandstream"),
        ("grp2614fw.bin", "firmware", "grandstream"), ("sip88xx.12-0-1.loads", "firmware", "cisco_mpp"),
        ("s705_firmware.eff", "firmware", "sangoma"), ("snomD785-10.1.bin", "firmware", "snom"),
        ("logo.PNG", "logo", ""), ("bell.wav", "ringtone", ""), ("ours.tar.gz", "firmware", "obihai"),
    ],
)  # fmt: skip
def test_firmware_pictures_and_tones_keep_their_makers_names(name, kind, vendor):
    assert assets.field_faults(AssetFields(name, kind, vendor)) == ()
    who = KNOWN.identify(name, "")
    assert assetfile.is_for(AssetRecord(name, kind, vendor), vendor, "", who)


@pytest.mark.parametrize(
    ("wished", "fields"),
    [
        (AssetFields("a.rom", "firmware"), ["vendor"]), (AssetFields("a.rom", "firmware", "nokia"), ["vendor"]),
        (AssetFields("a.rom", "firmware", "yealink", ("T46U", "VVX 450")), ["models.1"]),
        (AssetFields("a.png", "picture"), ["kind"]), (AssetFields("a.png", "logo", "", ("T46U",)), ["models"]),
        (AssetFields("a.rom", "firmware", "yealink", (), "1\n2"), ["firmware"]), (AssetFields("a.png", "logo"), []),
        (AssetFields("a.rom", "firmware", "yealink", ("t46u",), "108.86.0.20"), []),
    ],
)  # fmt: skip
def test_every_bad_field_of_a_file_is_told(wished, fields):
    assert [fault.field for fault in assets.field_faults(wished)] == fields


def test_who_asks_is_judged_by_the_phone_then_by_what_it_says():
    """P-07: the phone's own vendor and model count first; a User-Agent counts where no phone is known."""
    firmware = AssetRecord("a.rom", "firmware", "yealink", ("T46U",))
    t46u = KNOWN.identify("a.rom", "Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:01")
    t48u = KNOWN.identify("a.rom", "Yealink SIP-T48U 108.86.0.20 80:5e:c0:aa:bb:01")
    silent = KNOWN.identify("a.rom", "Mozilla/5.0")
    poly = KNOWN.identify("a.rom", "FileTransport PolycomVVX-VVX_450-UA/6.4.0.1234 Type/Application")
    told = [assetfile.is_for(firmware, vendor, model, who) for vendor, model, who in (
        ("yealink", "T46U", t46u), ("yealink", "T46U", silent), ("yealink", "T48U", silent),
        ("poly", "VVX 450", silent),
        ("", "", t46u), ("", "", t48u), ("", "", silent), ("", "", poly), ("yealink", "T46U", poly),
    )]  # fmt: skip
    assert told == [True, True, False, False, True, False, True, False, False]
    assert all(assetfile.is_for(AssetRecord("l.png", "logo"), "", "", who) for who in (t46u, silent, poly))


# --- Bytes -----------------------------------------------------------------------------------------------------------


async def test_bytes_lie_under_their_digest_and_for_nobody_else_s_eyes(tmp_path):
    store = AssetStore(tmp_path / "assets")
    received = await store.receive(pieces(b"one", b"two"), most_bytes=10)
    digest = hashlib.sha256(b"onetwo").hexdigest()
    assert (received.sha256, received.size_bytes) == (digest, 6)
    with pytest.raises(FileNotFoundError):
        store.open(digest)
    store.keep(received)
    with store.open(digest) as file:
        assert file.read() == b"onetwo"
    assert (store.folder.stat().st_mode & 0o777, (store.folder / digest).stat().st_mode & 0o777) == (0o700, 0o600)
    twice = await store.receive(pieces(b"onetwo"), most_bytes=10)
    store.keep(twice)
    assert sorted(path.name for path in store.folder.iterdir()) == sorted([digest, ".lock"])


async def test_an_upload_that_is_too_long_empty_or_broken_leaves_nothing(tmp_path):
    store = AssetStore(tmp_path)
    for chunks, error in ((pieces(b"x" * 6, b"y" * 6), Invalid), (pieces(), Invalid), (broken(), ConnectionResetError)):
        with pytest.raises(error):
            await store.receive(chunks, most_bytes=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", "a" * 63, "A" * 64, "a" * 65])
def test_only_a_digest_names_bytes(tmp_path, digest):
    with pytest.raises(FileNotFoundError):
        AssetStore(tmp_path).open(digest)


async def test_a_sweep_takes_what_nobody_names_and_leaves_strangers_files_alone(tmp_path):
    store = AssetStore(tmp_path, spare_s=60)
    kept, gone = [await store.receive(pieces(text), most_bytes=9) for text in (b"kept", b"gone")]
    left = await store.receive(pieces(b"left"), most_bytes=9)
    for received in (kept, gone):
        store.keep(received)
    (tmp_path / "README").write_text("somebody's")
    now = left.path.stat().st_mtime
    assert store.sweep({kept.sha256}, now + 59) == 0
    assert store.sweep({kept.sha256}, now + 61) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kept.sha256, ".lock", "README"])
    assert AssetStore(tmp_path / "never").sweep(set(), now) == 0


# --- Rows ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def account(database):
    async with database.sessions.begin() as session:
        return await add_account(session)


async def made(session, account, store, fields, data=b"bytes"):
    received = await store.receive(pieces(data), most_bytes=100)
    return await assets.create_asset(session, SYSTEM, account, fields, received, store=store)


async def test_a_file_is_named_once_and_kept_while_a_phone_names_it(database, account, tmp_path):
    """P-07: a conflict says what to do."""
    store = AssetStore(tmp_path)
    async with database.sessions.begin() as session:
        asset = await made(session, account, store, AssetFields("a.rom", "firmware", "yealink", ("t46u",), "1.2"))
        assert (asset.models, asset.content_type, asset.size_bytes) == (["T46U"], "application/octet-stream", 5)
    async with database.sessions.begin() as session:
        with pytest.raises(Conflict, match=r"called a\.rom already"):
            await made(session, account, store, AssetFields("a.rom", "firmware", "yealink"))
        line = await add_line(session, account, "101")
        phone = await add_phone(
            session, account, line, mac="805ec0aabb01", vendor="yealink", model="T46U", label="Desk"
        )
        fields = await PhoneFields.of(session, phone)
        fields.settings["firmware"] = "a.rom"
        await phones.update_phone(session, SYSTEM, phone, fields)
    async with database.sessions.begin() as session:
        asset = await session.get(Asset, asset.id)
        with pytest.raises(Conflict, match="named by the phone Desk"):
            await assets.delete_asset(session, SYSTEM, asset)


@pytest.mark.parametrize(
    ("settings", "field", "told"),
    [
        ({"firmware": "b.rom"}, "settings.firmware", "no firmware called 'b.rom'"),
        ({"firmware": "p.ld"}, "settings.firmware", "p.ld is for poly"),
        ({"firmware": "a.rom"}, "settings.firmware", "not for a T46U"),
        ({"logo": "a.rom"}, "settings.logo", "no logo called"),
        ({"ringtone": "a.rom"}, "settings.ringtone", "no ringtone called"),
        (
            {"function_keys": [{"position": 1, "kind": "blf", "value": "9"}]},
            "settings.function_keys.0.position", "key 1",
        ),
        (
            {"function_keys": [
                {"position": 5, "kind": "blf", "value": "9"}, {"position": 99, "kind": "blf", "value": "9"},
            ]},
            "settings.function_keys.1.position", "has 27 function keys",
        ),
    ],
)  # fmt: skip
async def test_what_a_phone_cannot_have_is_refused_where_it_is_saved(
    database, account, tmp_path, settings, field, told
):
    """P-07: by field, with the family, the model and the kind."""
    store = AssetStore(tmp_path)
    async with database.sessions.begin() as session:
        await made(session, account, store, AssetFields("a.rom", "firmware", "yealink", ("T48U",)))
        await made(session, account, store, AssetFields("p.ld", "firmware", "poly"))
        line = await add_line(session, account, "101")
        wished = PhoneFields("805ec0aabb01", "yealink", "T46U", settings=settings, lines=(line.id,))
        with pytest.raises(Invalid) as refused:
            await phones.create_phone(session, SYSTEM, account, wished)
    assert [fault.field for fault in refused.value.fields] == [field]
    assert told in refused.value.fields[0].detail


@pytest.mark.parametrize(
    ("vendor", "kind"), [("algo", "logo"), ("avaya", "firmware"), ("fanvil", "ringtone"), ("grandstream", "ringtone")]
)
async def test_a_model_that_takes_no_such_file_says_so(database, account, vendor, kind):
    """P-07, S1-40: the families whose own keys name no such file."""
    model = next(iter(KNOWN.profiles[vendor].models))
    async with database.sessions.begin() as session:
        wished = PhoneFields("0022eeaabb01", vendor, model, settings={kind: "x.bin"})
        with pytest.raises(Invalid) as refused:
            await phones.create_phone(session, SYSTEM, account, wished)
    assert f"takes no {kind} from here" in refused.value.fields[0].detail


# --- Contacts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "stored"),
    [("+1 (518) 555-0142", "+1518555-0142"), ("911", "911"), ("*97", "*97"), ("sip:user@host.example", None),
     ("bob@pbx.example", "bob@pbx.example"), ("", None), ("a\nb", None), ("1;2", None), ("x" * 70, None)],
)  # fmt: skip
async def test_a_contact_is_what_a_phone_can_dial(database, account, number, stored):
    async with database.sessions.begin() as session:
        if stored is None:
            with pytest.raises(Invalid) as refused:
                await contacts.create_contact(session, SYSTEM, account, ContactFields("Ann", number))
            assert [fault.field for fault in refused.value.fields] == ["number"]
        else:
            assert (
                await contacts.create_contact(session, SYSTEM, account, ContactFields(" Ann ", number))
            ).number == stored


async def test_a_full_phonebook_says_so(database, account, monkeypatch):
    """P-07: the bound is told, with what to do."""
    monkeypatch.setattr(contacts, "MAX_CONTACTS", 1)
    async with database.sessions.begin() as session:
        await contacts.create_contact(session, SYSTEM, account, ContactFields("Ann", "101"))
        await session.flush()
        with pytest.raises(Conflict, match="Delete some before"):
            await contacts.create_contact(session, SYSTEM, account, ContactFields("Bob", "102"))


# --- Levels ----------------------------------------------------------------------------------------------------------


async def test_a_level_names_only_files_there_are_and_a_model_s_level_only_keys_it_has(database, account, tmp_path):
    """P-10, P-07: what no phone of the model could take is refused where the level is saved."""
    store = AssetStore(tmp_path)
    keys = [{"position": 1, "kind": "blf", "value": "9"}, {"position": 99, "kind": "blf", "value": "9"}]
    async with database.sessions.begin() as session:
        await made(session, account, store, AssetFields("p.ld", "firmware", "poly"))
        for wished, fields in (
            (LevelFields("account", settings={"firmware": "nobody.rom"}), ["settings.firmware"]),
            (
                LevelFields("model", vendor="yealink", model="T46U", settings={"firmware": "p.ld"}),
                ["settings.firmware"],
            ),
            (
                LevelFields("model", vendor="yealink", model="T46U", settings={"function_keys": keys}),
                ["settings.function_keys.1.position"],
            ),
            (LevelFields("model", vendor="algo", model="8180", settings={"logo": "x.png"}), ["settings.logo"]),
        ):
            with pytest.raises(Invalid) as refused:
                await levels.create_level(session, SYSTEM, account, wished)
            assert [fault.field for fault in refused.value.fields] == fields
        await levels.create_level(session, SYSTEM, account, LevelFields("account", settings={"function_keys": keys}))
        level = await levels.create_level(
            session,
            SYSTEM,
            account,
            LevelFields("model", vendor="poly", model="VVX 450", settings={"firmware": "p.ld"}),
        )
        await session.flush()
        asset = await store_assets.asset_by_name(session, account.id, "p.ld")
        with pytest.raises(Conflict, match="named by the settings of poly/VVX 450"):
            await assets.delete_asset(session, SYSTEM, asset)
        assert level.settings == {"firmware": "p.ld"}
