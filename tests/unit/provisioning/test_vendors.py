import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigFault
from engine.provisioning import vendors
from engine.provisioning.vendors import Confidence, FileKind, Support, spelled

KNOWN = vendors.load()
OURS = {
    "Yealink": "yealink", "Polycom/Poly": "poly", "Aastra/Mitel": "mitel", "Htek": "htek", "Panasonic": "panasonic",
    "Sangoma": "sangoma", "Avaya": "avaya", "Nortel/Avaya": "avaya", "Gigaset": "gigaset", "Algo": "algo",
    "Grandstream": "grandstream", "Cisco SPA/Linksys": "cisco_spa", "Cisco MPP": "cisco_mpp", "Snom": "snom",
    "Fanvil": "fanvil", "AudioCodes": "audiocodes",
}  # fmt: skip
OURS = {theirs: ours for theirs, ours in OURS.items() if ours in KNOWN.profiles}


def real_requests(cases):
    return json.loads((cases / "requests.json").read_text())


def test_every_real_request_of_our_vendors_is_identified(cases):
    """P-05: path and User-Agent as evidence, over the whole file."""
    wrong, seen = [], 0
    for case in real_requests(cases):
        vendor = OURS.get(case.get("vendor") or "")
        if vendor is None:
            continue
        seen += 1
        found = KNOWN.identify(case["path"] or "/", case["user_agent"])
        model = KNOWN.profiles[vendor].model((case["model"] or "").partition(" / ")[0])
        expected_model = model.name if model is not None else case["model"]
        told = case["user_agent"] or case["kind"] == "path_only_common_file"
        if (
            found.vendor != vendor
            or found.mac != case["mac"]
            or (told and case["model"] and spelled(found.model or "") != spelled(expected_model))
            or (case["user_agent"] and found.firmware != case["firmware"])
        ):
            wrong.append((case["user_agent"], case["path"], found))
    assert not wrong
    assert seen > 130


def test_no_other_vendor_s_phone_is_taken_for_ours_and_no_address_is_made_up(cases):
    """P-05: a User-Agent that names another vendor is never claimed; negatives give no false MAC."""
    for case in real_requests(cases):
        if (case.get("vendor") or "") in OURS:
            continue
        found = KNOWN.identify(case["path"] or "/", case["user_agent"])
        assert found.confidence < Confidence.PROBABLE, (case, found)
        assert found.vendor is None, (case, found)
        assert found.mac in {None, case["mac"]}, (case, found)
        if case["user_agent"]:
            assert found.foreign, case


def test_the_whole_file_of_requests_is_judged_with_a_confidence_that_the_evidence_carries(cases):
    """P-05: a User-Agent is more than an address block, both together are sure; what is nobody's stays unsure."""
    judged = 0
    for case in real_requests(cases):
        found = KNOWN.identify(case["path"] or "/", case["user_agent"])
        judged += 1
        if (case.get("vendor") or "") not in OURS:
            assert found.confidence <= Confidence.LOW, case
            assert found.kind is FileKind.PLACEHOLDER or found.mac in {None, case["mac"]}, case
            continue
        if case["user_agent"] and case["path"]:
            assert found.confidence in {Confidence.HIGH, Confidence.EXACT}, case
        elif case["user_agent"]:
            assert found.confidence is Confidence.HIGH, case
        else:
            assert found.confidence in {Confidence.PROBABLE, Confidence.HIGH}, case
        assert found.evidence, case
    assert judged == len(real_requests(cases)) > 250


def test_a_model_file_is_no_address():
    """P-05: y000000000025.cfg belongs to the W52P and holds no MAC."""
    found = KNOWN.identify("/y000000000025.cfg")
    assert (found.vendor, found.model, found.mac, found.kind) == ("yealink", "W52P", None, FileKind.COMMON)
    assert KNOWN.identify("/000000000000.cfg").mac is None
    assert KNOWN.identify("/000000000000.cfg").vendor == "poly"


def test_contradicting_evidence_is_reported():
    """P-05: contradictions are told, not guessed away."""
    two = KNOWN.identify("/aabbccddeeff.cfg", "Yealink SIP-T48S 66.86.0.15 80:5e:c0:aa:bb:cc")
    assert two.mac == "aabbccddeeff"
    assert two.contradictions == ("the path says aabbccddeeff, the User-Agent 805ec0aabbcc",)
    model = KNOWN.identify("/y000000000065.cfg", "Yealink SIP-T46S 66.86.0.15 80:5e:c0:aa:bb:cc")
    assert any("T48S" in sentence and "T46S" in sentence for sentence in model.contradictions)
    wrong_file = KNOWN.identify("/0004f2aabbcc-web.cfg", "Yealink SIP-T46S 66.86.0.15 80:5e:c0:aa:bb:cc")
    assert wrong_file.vendor == "yealink"
    assert wrong_file.contradictions


def test_a_file_of_one_vendor_asked_for_by_another_s_phone_is_refused_and_its_owner_told():
    """P-05: the address in the name is kept, so that the phone it belongs to is known."""
    found = KNOWN.identify("/cfg000b82aabbcc.xml", "Yealink SIP-T46S 66.86.0.15 80:5e:c0:aa:bb:cc")
    assert (found.vendor, found.mac, found.is_refused) == ("yealink", "000b82aabbcc", True)
    assert "only Grandstream phones ask for a file called cfg000b82aabbcc.xml" in found.contradictions


def test_an_address_from_another_vendor_s_block_is_told_and_not_refused():
    """P-05: wrong block: a slip of the pen, or a block that no list has."""
    found = KNOWN.identify("/000413aabbcc.cfg", "Yealink SIP-T46S 66.86.0.15 00:04:13:aa:bb:cc")
    assert (found.vendor, found.is_refused) == ("yealink", False)
    assert found.contradictions == ("000413 is an address block of Snom",)


def test_a_renamed_user_agent_never_counts_against_a_phone():
    """P-05: User-Agent is never a hard condition."""
    for agent in (None, "", "My Company Phone 1.0", "curl/8.0"):
        found = KNOWN.identify("/805ec0aabbcc.cfg", agent)
        assert (found.vendor, found.mac, found.contradictions) == ("yealink", "805ec0aabbcc", ())
        assert found.confidence is Confidence.PROBABLE


@pytest.mark.parametrize(
    "name", ["{mac}.cfg", "$mac.cfg", "{MAC}.cfg", "$MA.cfg", "[PHONE_MAC_ADDRESS].cfg", "%mac%.cfg"]
)
def test_a_placeholder_that_was_not_filled_in_is_named(name):
    found = KNOWN.identify(f"/{name}")
    assert (found.kind, found.mac, found.vendor, found.is_refused) == (FileKind.PLACEHOLDER, None, None, True)
    assert name in found.contradictions[0]
    assert "Yealink $mac" in found.contradictions[0]


@pytest.mark.parametrize(
    ("name", "agent", "wanted"),
    [
        ("{mac}.cfg", "Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:cc", "a Yealink fills in $mac"),
        ("$mac.cfg", "FileTransport PolycomVVX-VVX_450-UA/5.9.1.0615 Type/Application", "[PHONE_MAC_ADDRESS]"),
        ("$MA.xml", "Grandstream Model HW GXP2135 SW 1.0.7.97 DevId 000b828aa872", "adds its file by itself"),
        ("<MAC>.cfg", "Cisco/SPA508G-7.4.8a (0002FDFF2103)(CBT141400UK)", "fills in $MA"),
    ],
)
def test_the_variable_that_the_vendor_does_fill_in_is_told(name, agent, wanted):
    """P-05: what people get wrong, in a sentence for the fetch log."""
    assert wanted in KNOWN.identify(f"/p/x/{name}", agent).contradictions[0]


def test_a_locally_administered_address_is_told_for_a_telephone_and_is_usual_for_an_application():
    """P-05: a typing error, most likely."""
    found = KNOWN.identify("/825ec0aabbcc.cfg", "Yealink SIP-T46S 66.86.0.15 82:5e:c0:aa:bb:cc")
    told = "825ec0aabbcc is a locally administered address, and no Yealink phone is made with one"
    assert (found.is_refused, found.contradictions) == (False, (f"{told}: look for a typing error",))
    assert not KNOWN.identify("/linphone-02ab1f0a1b2c.xml").contradictions


@pytest.mark.parametrize(
    ("vendor", "spelling", "name"),
    [
        ("yealink", "SIP-T46U", "T46U"),
        ("yealink", "t46u", "T46U"),
        ("yealink", "Yealink T46U", "T46U"),
        ("yealink", "VP-T49G", "T49G"),
        ("poly", "VVX_450", "VVX 450"),
        ("poly", "vvx450", "VVX 450"),
        ("poly", "Polycom VVX 450", "VVX 450"),
        ("poly", "Edge_E450", "Edge E450"),
        ("poly", "E450", "Edge E450"),
        ("poly", "SPIP_335", "SoundPoint IP 335"),
    ],
)
def test_a_model_is_found_under_any_usual_spelling(vendor, spelling, name):
    model = KNOWN.profiles[vendor].model(spelling)
    assert model is not None
    assert model.name == name


def test_the_yealink_table_has_at_least_40_models_with_a_common_file():
    models = KNOWN.profiles["yealink"].models.values()
    assert sum(model.common_id is not None for model in models) >= 40
    assert {model.support for model in models} == set(Support)


def test_every_common_file_of_the_cases_is_in_the_table(cases):
    for case in real_requests(cases):
        if (
            case.get("vendor") == "Yealink"
            and case["kind"] == "path_only_common_file"
            and case["path"].endswith(".cfg")
        ):
            assert KNOWN.identify(case["path"]).model is not None, case["path"]


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("00:15:65:4A:A9:37", "0015654aa937"),
        ("00-15-65-4a-a9-37", "0015654aa937"),
        ("0015.654a.a937", "0015654aa937"),
        (" 0015654aa937 ", "0015654aa937"),
        ("000000000000", None),
        ("ffffffffffff", None),
        ("0015654aa93", None),
        ("0015654aa93g", None),
        ("", None),
    ],
)
def test_a_mac_is_read_in_any_usual_spelling(text, mac):
    assert vendors.parse_mac(text) == mac


def test_a_broken_profile_stops_the_start_with_its_path(tmp_path):
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "profile.toml").write_text('name = "acme"\n')
    with pytest.raises(ConfigFault) as caught:
        vendors.load(tmp_path)
    assert "acme/profile.toml" in caught.value.faults[0]
    with pytest.raises(ConfigFault):
        vendors.load(tmp_path / "nothing")


MACS = ("0015654c4c26", "805EC0AABBCC", "805ec0aaBBcc", "000413123456", "000000123456", "0004f2ABCDEF", "0" * 12)
BEFORE = ("", "cfg", "snom-", "snomD785-", "spa", "SIP", "Config", "algom", "linphone-", "f0C", "a", "1/")
BEHIND = ("", ".cfg", ".xml", ".boot", ".htm", ".bin", ".fw", "-phone.cfg", "-local.log", "_x.cfg", "0.cfg", "F", "\n")
HEX = st.text("0123456789abcdefABCDEF", min_size=11, max_size=13)


@given(st.sampled_from(BEFORE), st.sampled_from(MACS) | HEX, st.sampled_from(BEHIND), st.sampled_from((*MACS, "")))
def test_what_is_remembered_of_a_name_decides_about_no_other_name(before, mac, behind, more):
    """P-05: names that differ in their address alone are judged as one, and each as if it were the first."""
    for name in (f"{before}{mac}{behind}", f"{before}{mac}{behind}{more}"):
        assert KNOWN.identify(name) == vendors.Vendors(KNOWN.profiles).identify(name)


@given(st.text(max_size=400), st.none() | st.text(max_size=500))
def test_any_request_is_judged_without_an_error(path, user_agent):
    found = KNOWN.identify(path, user_agent)
    assert found.mac is None or vendors.parse_mac(found.mac) == found.mac
