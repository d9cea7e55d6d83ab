"""Function keys: what a setting may hold, what a phone has room for, what each family's file says of them."""

import dataclasses
import json
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.errors import UnsafeValue
from engine.provisioning import (
    boots_plain,
    formats,
    functionkeys,
    overrides,
    phone_extras,
    render,
    settings,
    simulate,
    vendors,
)
from engine.provisioning.assetfile import AssetRecord
from engine.provisioning.functionkeys import FunctionKey, KeyKind, KeyRoom
from tests.golden.samples import VALUES, config, everything_is_shown_on, with_everything
from tests.unit.provisioning.test_settings import LINE, RECORD

KNOWN = vendors.load()
RENDERER = render.Renderer(KNOWN)
FOURTEEN = (
    "algo", "avaya", "cisco_mpp", "cisco_spa", "fanvil", "gigaset", "grandstream", "htek", "mitel", "panasonic", "poly",
    "sangoma", "snom", "yealink",
)  # fmt: skip
WITH_KEYS = [KNOWN.profiles[name] for name in FOURTEEN if KNOWN.profiles[name].key_kinds]
# Names that stand in a vendor's document and in no list of ours.
CITED = {
    "poly": {
        "lineKey.N.category": "Poly UC Software administrator guide, Flexible Line Key Assignment",
        "lineKey.N.index": "Poly UC Software administrator guide, Flexible Line Key Assignment",
        "efk.efklist.N.mname": "Poly UC Software administrator guide, Enhanced Feature Keys",
        "efk.efklist.N.status": "Poly UC Software administrator guide, Enhanced Feature Keys",
        "efk.efklist.N.label": "Poly UC Software administrator guide, Enhanced Feature Keys",
        "efk.efklist.N.action.string": "Poly UC Software administrator guide, Enhanced Feature Keys",
        "bg.color.bm.N.name": "Poly UC Software administrator guide, backgrounds",
    },
    "sangoma": {
        "firmware@model": "wiki.asterisk.org, Digium phones, XML configuration, firmware",
        "contacts@url": "sangomakb.atlassian.net, Phones, Contacts",
    },
}
LISTS = {
    "yealink": "Yealink", "poly": "Polycom/Poly UCS, VVX, Edge E", "cisco_spa": "Cisco SPA (SPA1xx/3xx/5xx, Linksys)",
    "grandstream": "Grandstream (P-values: HT, GXP, GRP, GXV; gs_provision XML v1, v2)", "snom": "Snom",
    "cisco_mpp": "Cisco MPP (78xx/88xx/98xx 3PCC)", "fanvil": "Fanvil", "mitel": "Mitel/Aastra 6xxx", "htek": "Htek",
    "panasonic": "Panasonic KX-UT/TGP/HDV", "algo": "Algo", "gigaset": "Gigaset", "avaya": "Avaya J100",
    "sangoma": "Digium D-series",
}  # fmt: skip


def by_name(profile):
    return profile.name


def own_rule(profile):
    return next(rule for rule in profile.files if rule.template == "model")


def written(profile, model, phone) -> str:
    assert model
    return RENDERER.render(profile, own_rule(profile), phone).decode()


def files_of(profile, phone) -> list[str]:
    """Each of the phone's own files: some vendors keep keys in files of their own."""
    return [RENDERER.render(profile, rule, phone).decode() for rule in overrides.own_rules(profile)]


# --- The setting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ("x", ""), ({"position": 0, "kind": "blf", "value": "1"}, ".position"),
        ({"position": True, "kind": "blf", "value": "1"}, ".position"), ({"kind": "blf", "value": "1"}, ".position"),
        ({"position": 301, "kind": "blf", "value": "1"}, ".position"), ({"position": 1, "value": "1"}, ".kind"),
        ({"position": 1, "kind": "lamp", "value": "1"}, ".kind"), ({"position": 1, "kind": ["blf"]}, ".kind"),
        ({"position": 1, "kind": "blf", "value": ""}, ".value"), ({"position": 1, "kind": "blf"}, ".value"),
        ({"position": 1, "kind": "blf", "value": "1;fnc=sd"}, ".value"),
        ({"position": 1, "kind": "blf", "value": "1\n"}, ".value"),
        ({"position": 1, "kind": "blf", "value": 1}, ".value"),
        ({"position": 1, "kind": "dtmf", "value": "12x"}, ".value"),
        ({"position": 1, "kind": "none", "value": "1"}, ".value"),
        ({"position": 1, "kind": "blf", "value": "1", "label": "a\nb"}, ".label"),
        ({"position": 1, "kind": "blf", "value": "1", "label": "a" * 61}, ".label"),
        ({"position": 1, "kind": "blf", "value": "1", "line": 0}, ".line"),
        ({"position": 1, "kind": "blf", "value": "1", "colour": "red"}, ".colour"),
    ],
)  # fmt: skip
def test_a_bad_key_is_told_by_its_place_and_field(entry, field):
    """P-07: bad input gets a clear error per field."""
    good = {"position": 9, "kind": "speed_dial", "value": "911", "label": "Help"}
    faults = settings.setting_faults({"function_keys": [good, entry]})
    assert f"settings.function_keys.1{field}" in [fault.field for fault in faults]
    assert not settings.setting_faults({"function_keys": [good]})


def test_two_keys_at_one_position_and_a_list_that_is_none_are_refused():
    key = {"position": 4, "kind": "blf", "value": "102"}
    assert [fault.field for fault in functionkeys.faults([key, key])] == ["1.position"]
    assert [fault.field for fault in functionkeys.faults({"1": key})] == [""]
    assert [fault.field for fault in functionkeys.faults([key] * 301)] == [""]


NAMES = st.sampled_from(["position", "kind", "value", "label", "line", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(KeyKind),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=20,
)


@given(JSON)
@hypothesis_settings(max_examples=150, deadline=None)
def test_anything_at_all_is_judged_and_what_is_good_is_read(value):
    """P-07: no JSON value makes the check fail in another way than by its sentences."""
    if not functionkeys.faults(value):
        keys = functionkeys.read(value)
        assert [key.position for key in keys] == sorted(key.position for key in keys)


# --- Room ------------------------------------------------------------------------------------------------------------


def test_what_a_phone_has_no_room_for_is_named_with_family_and_kind():
    """P-07: refused where the phone is saved, never left out in silence."""
    room = KeyRoom("Cisco SPA", "SPA504G", frozenset({KeyKind.BLF}), 4, 1, (1,))
    keys = [
        FunctionKey(1, KeyKind.BLF, "102"), FunctionKey(2, KeyKind.PARK, "701"), FunctionKey(5, KeyKind.BLF, "103"),
        FunctionKey(3, KeyKind.BLF, "104", line=2), FunctionKey(4, KeyKind.NONE),
    ]  # fmt: skip
    told = {fault.field: fault.detail for fault in functionkeys.misfits(keys, room)}
    assert told == {
        "0.position": "A line of this phone sits on key 1: put the function key behind the lines.",
        "1.kind": "A Cisco SPA phone has no key of the kind park; it knows blf.",
        "2.position": "A SPA504G has 4 function keys, got position 5.",
        "3.line": "This phone has 1 lines, got line 2.",
    }
    assert functionkeys.placed(keys, room) == (keys[4],)


def test_a_model_without_keys_says_so():
    profile = KNOWN.profiles["algo"]
    value = [{"position": 1, "kind": "blf", "value": "102"}]
    faults = phone_extras.key_faults(profile, profile.models["8180"], value, 1)
    assert faults[0].field == "settings.function_keys.0.position"
    assert faults[0].detail == "A Algo 8180 has no function keys that can be set from here."


def test_keys_of_a_setting_reach_the_phone_by_position_and_those_without_room_do_not():
    """P-07: a list from a level that speaks of many phones is taken as far as each phone can hold it."""
    keys = [
        {"position": 4, "kind": "speed_dial", "value": "911"}, {"position": 2, "kind": "blf", "value": "102"},
        {"position": 1, "kind": "blf", "value": "103"}, {"position": 400, "kind": "blf", "value": "104"},
    ]  # fmt: skip
    record = dataclasses.replace(RECORD, settings={"function_keys": keys}, lines=(LINE,))
    phone = settings.phone_config(record, KNOWN.profiles["yealink"], "https://h/p/t/")
    assert [(key.position, key.kind, key.value) for key in phone.function_keys] == [
        (2, "blf", "102"),
        (4, "speed_dial", "911"),
    ]


# --- Phonebook, logo, firmware ---------------------------------------------------------------------------------------


def test_phonebook_logo_and_firmware_come_as_urls_under_the_provisioning_url():
    assets = (
        AssetRecord("T46U-1.rom", "firmware", "yealink", ("T46U",), "108.86.0.20"), AssetRecord("logo.png", "logo"),
    )  # fmt: skip
    named = {"logo": "logo.png", "firmware": "T46U-1.rom"}
    record = dataclasses.replace(RECORD, settings=named, assets=assets)
    phone = settings.phone_config(record, KNOWN.profiles["yealink"], "https://h/p/t/")
    assert (phone.phonebook_url, phone.logo_url) == ("https://h/p/t/yealink-phonebook.xml", "https://h/p/t/logo.png")
    assert (phone.firmware_url, phone.firmware_version) == ("https://h/p/t/T46U-1.rom", "108.86.0.20")
    off = dataclasses.replace(record, settings={"phonebook": "off"}, assets=())
    assert settings.phone_config(off, KNOWN.profiles["yealink"], "https://h/p/t/").phonebook_url == ""


@pytest.mark.parametrize(
    ("vendor", "model", "told"),
    [
        ("yealink", "T46U", ["ringtone.url = https://h/p/t/bell.wav", "phone_setting.ring_type = Config:bell.wav"]),
        ("snom", "D785", ['idx="1" perm="R">Custom<', 'idx="1" perm="R">https://h/p/t/bell.wav<']),
        ("poly", "VVX 601", ['saf.2="https://h/p/t/bell.wav"', 'reg.1.ringType="ringer15"']),
    ],
)
def test_a_ring_tone_of_the_account_stands_in_the_phones_file(vendor, model, told):
    """S1-40: named by the setting `ringtone`, written with keys that are the vendor's own; unnamed, nothing is."""
    profile = KNOWN.profiles[vendor]
    record = dataclasses.replace(
        RECORD, vendor=vendor, model=profile.model(model).name, settings={"ringtone": "bell.wav"},
        assets=(AssetRecord("bell.wav", "ringtone"),),
    )  # fmt: skip
    text = written(profile, model, settings.phone_config(record, profile, "https://h/p/t/"))
    assert all(part in text for part in told)
    record = dataclasses.replace(record, settings={}, assets=())
    text = written(profile, model, settings.phone_config(record, profile, "https://h/p/t/"))
    assert not any(key in text for key in ("bell", "ring_type", "user_custom", "saf.2"))


@pytest.mark.parametrize("asset", [
    AssetRecord("T46U-1.rom", "firmware", "poly"), AssetRecord("T46U-1.rom", "firmware", "yealink", ("T48U",)),
    AssetRecord("T46U-1.rom", "logo"), AssetRecord("other.rom", "firmware", "yealink"),
])  # fmt: skip
def test_a_phone_is_told_no_firmware_of_another_vendor_or_model(asset):
    record = dataclasses.replace(RECORD, settings={"firmware": "T46U-1.rom"}, assets=(asset,))
    assert settings.phone_config(record, KNOWN.profiles["yealink"], "https://h/p/t/").firmware_url == ""


# --- Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", WITH_KEYS, ids=by_name)
def test_every_kind_that_a_family_says_it_knows_stands_in_its_file(profile):
    """P-07: each kind's value and label are there, on every model that has keys."""
    shown = 0
    for name, model in profile.models.items():
        if model.keys < 4 or model.template is None:
            continue
        phone = with_everything(profile, name, 1)
        bare = "\n".join(files_of(profile, dataclasses.replace(phone, function_keys=())))
        for key in phone.function_keys:
            text = "\n".join(files_of(profile, dataclasses.replace(phone, function_keys=(key,))))
            fresh = set(text.splitlines()) - set(bare.splitlines())
            assert fresh, (name, key)
            assert key.kind is KeyKind.NONE or any(key.value in line for line in fresh), (name, key)
            shown += 1
    assert shown >= len(profile.key_kinds)


@pytest.mark.parametrize("name", FOURTEEN)
def test_keys_phonebook_logo_and_firmware_never_change_the_dial_plan(name):
    """P-08: the proof reads the same plan with and without them; a key that dials 911 is none of it."""
    profile = KNOWN.profiles[name]
    for model, known in profile.models.items():
        if known.template is None:
            continue
        phone = with_everything(profile, model, 2)
        bare = config(profile, model, 2)
        assert render.dial_settings(profile, written(profile, model, phone)) == render.dial_settings(
            profile, written(profile, model, bare)
        ), model


@pytest.mark.parametrize("name", FOURTEEN)
def test_every_parameter_written_for_them_is_in_the_family_s_list_or_cited(name, cases):
    """P-07: no parameter name is invented."""
    profile = KNOWN.profiles[name]
    known = json.loads((cases / "vendor_keys.json").read_text())[LISTS[name]]
    allowed = {_indexless(key) for key in known["known_keys"]} | {"APP_FILE_PATH", "firmwares"}
    allowed |= {_indexless(entry["key"]) for entries in known["settings"].values() for entry in entries}
    allowed |= {_indexless(cited) for cited in CITED.get(name, {})}
    seen = 0
    for model, one in profile.models.items():
        if one.template is None:
            continue
        names = _names(profile, written(profile, model, with_everything(profile, model, 1)))
        names -= _names(profile, written(profile, model, config(profile, model, 1)))
        assert not {each for each in names if _indexless(each) not in allowed}, model
        seen += len(names)
    assert seen > 0


def _indexless(name: str) -> str:
    return re.sub(r"\{[nm]\}|\d+|\{\$?[^}]*\}", "N", name)


PATTERNS = {
    "yealink": r"(?m)^([\w.]+) =",
    "algo": r"(?m)^([\w.]+) =",
    "htek": r'para="([^"]+)"',
    "gigaset": r'param name="([^"]+)"',
    "snom": r"<(\w+)[ >]",
}
READERS = {
    "mitel": boots_plain.mitel_settings,
    "panasonic": boots_plain.panasonic_settings,
    "avaya": boots_plain.avaya_settings,
    "poly": simulate.poly_settings,  # by an XML parser: a value may look like a setting
}


def _names(profile, text: str) -> set[str]:
    if profile.name in PATTERNS:
        return set(re.findall(PATTERNS[profile.name], text))
    if profile.name in READERS:
        return set(READERS[profile.name](text.encode()))
    if profile.name == "sangoma":
        found = re.findall(r"<(contacts|firmware|blf_items)\s([^>]*)/>", text)
        attributes = {f"{tag}@{one}" for tag, inside in found for one in re.findall(r'(\w+)="', inside)}
        return attributes | set(re.findall(r'setting id="([^"]+)"', text))
    if profile.name == "fanvil":
        return {one.rpartition(".")[2] for one in formats.elements(text)}
    return set(formats.elements(text))


LABELS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=20).filter(
    str.isprintable
)


@given(label=LABELS, number=st.integers(0, 5))
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_label_is_one_value_in_every_format_or_is_refused(label, number):
    """P-11: whatever a label holds, the file has the same settings as with a harmless one."""
    for profile in WITH_KEYS:
        name, _ = everything_is_shown_on(profile)
        phone = with_everything(profile, name, number)
        keys = phone.function_keys
        one = dataclasses.replace(phone, function_keys=(dataclasses.replace(keys[0], label=label), *keys[1:]))
        if profile.refused is not None and profile.refused.search(label):
            with pytest.raises(UnsafeValue, match=rf"function_keys\[{keys[0].position}\]\.label"):
                written(profile, name, one)
            continue
        text = written(profile, name, one)
        assert _names(profile, text) == _names(profile, written(profile, name, phone)), (profile.name, label)
        assert len(text.splitlines()) == len(written(profile, name, phone).splitlines())


def test_a_semicolon_in_a_label_adds_no_part_to_a_cisco_key():
    """P-11: `fnc=…;nme=…` ends at a semicolon, so a label keeps none."""
    for name, model in (("cisco_spa", "SPA508G"), ("cisco_mpp", "8841")):
        profile = KNOWN.profiles[name]
        phone = config(profile, model, 0)
        key = FunctionKey(4, KeyKind.SPEED_DIAL, "102", "Bob;fnc=prk;sub=evil@x")
        text = written(profile, model, dataclasses.replace(phone, function_keys=(key,)))
        value = re.search(r"<Extended_Function_4_>([^<]*)<", text)[1]
        assert [part.partition("=")[0] for part in value.split(";")] == ["fnc", "ext", "vid", "nme"]


def test_the_sample_values_are_what_a_setting_may_hold():
    keys = [{"position": at, "kind": kind.value, "value": VALUES[kind]} for at, kind in enumerate(KeyKind, 1)]
    assert functionkeys.faults(keys) == ()


def test_a_sangoma_s_keys_are_contacts_in_one_file_and_places_in_another(cases):
    """P-07: line keys from 0 behind the lines, those beside the screen from 0 too; what is busy is subscribed to at the
    line's own registrar; every parameter is in the family's list.
    """
    profile = KNOWN.profiles["sangoma"]
    keys = (
        FunctionKey(4, KeyKind.BLF, "102", 'Zoë "Z" <&>'), FunctionKey(5, KeyKind.NONE),
        FunctionKey(7, KeyKind.SPEED_DIAL, "911"), FunctionKey(16, KeyKind.BLF, "103@other.example"),
    )  # fmt: skip
    phone = dataclasses.replace(config(profile, "D70", 2), function_keys=keys)
    own, contacts, places = map(ET.fromstring, files_of(profile, phone))
    found = {one.get("id"): one for one in contacts.iter("contact")}
    assert [(one.get("first_name"), one.get("subscribe_to")) for one in found.values()] == [
        ('Zoë "Z" <&>', "sip:102@pbx.example.net"), ("911", None), ("103@other.example", "sip:103@other.example"),
    ]  # fmt: skip
    assert [action.get("dial") for action in contacts.iter("action")] == ["102", "911", "103@other.example"]
    shown = [(one.get("location"), one.get("index"), one.get("contact_id")) for one in places.iter("blf_item")]
    assert shown == [("main", "3", "key4"), ("side", "0", "key7"), ("side", "9", "key16")]
    assert {one[2] for one in shown} == set(found)
    group = next(one.get("value") for one in own.iter("setting") if one.get("id") == "blf_contact_group")
    assert [one.get("group_name") for one in contacts.iter("contacts")] == [group]
    known = set(json.loads((cases / "vendor_keys.json").read_text())[LISTS["sangoma"]]["known_keys"])
    names = {f"{one.tag}@{name}" for sheet in (contacts, places) for one in sheet.iter() for name in one.attrib}
    assert names <= known
    bare = dataclasses.replace(phone, function_keys=())
    assert "blf_items" not in files_of(profile, bare)[0]


def test_an_avaya_s_keys_dial_and_a_semicolon_in_a_label_adds_no_part():
    """P-07, P-11: `Key=…;Type=autodial;…;Label=…`; the J129 has no such keys and is told no phonebook."""
    profile = KNOWN.profiles["avaya"]
    keys = (FunctionKey(4, KeyKind.SPEED_DIAL, "102", "Zoë;Forced"), FunctionKey(96, KeyKind.SPEED_DIAL, "911"))
    phone = dataclasses.replace(with_everything(profile, "J179", 2), function_keys=keys)
    text = written(profile, "J179", phone)
    assert 'SET PHONEKEY "Key=4;Type=autodial;Name=autodial;Attr1=102;Label=Zoë,Forced"\n' in text
    assert 'SET PHONEKEY "Key=96;Type=autodial;Name=autodial;Attr1=911;Label=911"\n' in text
    assert 'SET DOWNLOADABLE_DIRECTORY "avaya-phonebook.xml"\n' in text
    small = written(profile, "J129", with_everything(profile, "J129", 2))
    assert "DOWNLOADABLE_DIRECTORY" not in small
    asked = [{"position": 2, "kind": "speed_dial", "value": "1"}, {"position": 3, "kind": "blf", "value": "1"}]
    assert not phone_extras.key_faults(profile, profile.models["J139"], asked[:1], 1)
    told = [phone_extras.key_faults(profile, profile.models[name], asked, 1) for name in ("J139", "J129")]
    assert [[one.field.rpartition(".")[2] for one in each] for each in told] == [["kind"], ["position", "position"]]


def test_a_panasonic_s_lines_end_as_its_guide_wants():
    """P-06: each in CR LF, with nothing behind the last; the phone's own reader takes no other."""
    profile = KNOWN.profiles["panasonic"]
    for data in files_of(profile, config(profile, "KX-HDV230", 2)):
        lines = data.split("\r\n")
        assert lines[-1] == ""
        assert not any("\n" in line or "\r" in line for line in lines)
        assert boots_plain.panasonic_settings(data.encode())
        assert not boots_plain.panasonic_settings(data.replace("\r\n", "\n").encode())
