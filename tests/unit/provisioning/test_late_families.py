"""Poly OBi, AudioCodes, Linphone, Acrobits: what is written for a phone is what the phone reads."""

import dataclasses
import json
import re

import pytest
from lxml import etree

from engine.provisioning import boots_late, dialplan, functionkeys, render, softphones, vendors
from engine.provisioning.vendors import Confidence, FileKind, Support
from tests.golden.samples import config
from tests.phone_readers import READERS
from tests.unit.provisioning import test_families, test_plain_families, test_render

KNOWN = vendors.load()
RENDERER = render.Renderer(KNOWN)
OURS = [KNOWN.profiles[name] for name in boots_late.FAMILIES]
LISTS = {
    "obihai": "Obihai/Poly OBi",
    "linphone": "Linphone (lpconfig XML)",
    "acrobits": "Acrobits / Groundwire (account XML, csc: QR)",
}
_MANUAL = "400HD Series IP Phones Administrator's Manual"
# Names that stand in a vendor's document and in no list of ours. AudioCodes has no list.
CITED = {
    "linphone": {
        "misc/config-uri": "wiki.linphone.org, Remote Provisioning",
        "misc/contacts-vcard-list": "subscribe.linphone.org, FlexiAPI, Provisioning",
        "auth_info_N/passwd": "Liblinphone, Provisioning configuration keys",
        "proxy_N/dial_prefix": "Liblinphone, Provisioning configuration keys",
        "audio_codec_N/mime": "Liblinphone, Provisioning configuration keys",
        "audio_codec_N/rate": "Liblinphone, Provisioning configuration keys",
        "audio_codec_N/enabled": "Liblinphone, Provisioning configuration keys",
    },
    "acrobits": {
        "account/userDisplayName": "doc.acrobits.net, Account XML, Credentials",
        "account/expires": "doc.acrobits.net, Account XML, Credentials",
        "account/codecOrder": "doc.acrobits.net, Account XML, Audio Codecs",
        "account/extProvUrl": "doc.acrobits.net, Account XML, External Provisioning",
    },
    "obihai": {},
    "audiocodes": {
        **dict.fromkeys(
            (
                "provisioning/method", "provisioning/configuration/url", "provisioning/period/type",
                "provisioning/period/hourly/hours_interval", "provisioning/firmware/url",
            ),
            f"{_MANUAL}, Automatic Provisioning",
        ),
        **dict.fromkeys(("system/user_name", "system/password"), f"{_MANUAL}, Configuring User Login Credentials"),
        "management/telnet/enabled": f"{_MANUAL}, Telnet",
        **dict.fromkeys(
            (
                "system/ntp/enabled", "system/ntp/primary_server_address", "system/ntp/gmt_offset",
                "network/lan/dhcp/ntp/gmt_offset/enabled", "network/lan/dhcp/ntp/server_list/enabled",
            ),
            f"{_MANUAL}, Configuring the NTP Server",
        ),
        **dict.fromkeys(
            (
                "system/daylight_saving/activate", "system/daylight_saving/mode", "system/daylight_saving/offset",
                *(
                    f"system/daylight_saving/{name}_date/{part}"
                    for name in ("start", "end")
                    for part in ("month", "week", "day_of_week", "hour", "minute")
                ),
            ),
            f"{_MANUAL}, Configuring Daylight Saving Time",
        ),
        **dict.fromkeys(
            ("network/lan/vlan/mode", "network/lan/vlan/id", "network/lan/vlan/priority"), f"{_MANUAL}, VLAN Settings"
        ),
        **dict.fromkeys(
            (
                "voip/signalling/sip/digit_map", "voip/signalling/sip/number_rules", "voip/dialing/timeout",
                "voip/dialing/auto_dialing/enabled", "voip/dialing/secondary_dial_tone/enabled",
                "voip/dialing/dial_complete_key/enabled", "voip/dialing/dial_complete_key/key",
            ),
            f"{_MANUAL}, Configuring Dialing",
        ),
        **dict.fromkeys(
            (
                "voip/signalling/sip/transport_protocol", "voip/signalling/sip/use_proxy",
                "voip/signalling/sip/proxy_address", "voip/signalling/sip/proxy_port",
                "voip/signalling/sip/proxy_timeout", "voip/signalling/sip/use_proxy_ip_port_for_registrar",
                "voip/signalling/sip/sip_registrar/enabled", "voip/signalling/sip/sip_outbound_proxy/enabled",
                "voip/signalling/sip/sip_outbound_proxy/addr", "voip/signalling/sip/sip_outbound_proxy/port",
            ),
            f"{_MANUAL}, Configuring SIP Proxy and Registrar",
        ),
        **dict.fromkeys(
            (
                "voip/line/N/enabled", "voip/line/N/id", "voip/line/N/description", "voip/line/N/extension_display",
                "voip/line/N/auth_name", "voip/line/N/auth_password", "voip/line/N/line_mode", "voip/line_key/N/line",
            ),
            f"{_MANUAL}, Configuring Line Settings",
        ),
        **dict.fromkeys(
            ("voip/codec/codec_info/N/enabled", "voip/codec/codec_info/N/name"), f"{_MANUAL}, Configuring Codecs"
        ),
        **dict.fromkeys(
            (
                "personal_settings/functional_key/N/type", "personal_settings/functional_key/N/key_label",
                "personal_settings/functional_key/N/speed_dial_number",
            ),
            f"{_MANUAL}, Configuring Speed Dials",
        ),
        "voip/services/notify/check_sync/force_reboot_enabled": f"{_MANUAL}, SIP NOTIFY",
    },
}  # fmt: skip
KEYS = (
    functionkeys.FunctionKey(4, functionkeys.KeyKind.SPEED_DIAL, "102", "Zoë & Co"),
    functionkeys.FunctionKey(5, functionkeys.KeyKind.BLF, "103"),
)


def by_name(profile) -> str:
    return profile.name


def own(profile):
    return next(rule for rule in profile.files if rule.template == "model")


def served(profile):
    return [model for model in profile.models.values() if model.template is not None]


def read(profile, phone) -> dict[str, str]:
    return READERS[profile.name](RENDERER.render(profile, own(profile), phone))


def full(profile, model: str, number: int):
    """A phone with everything that a template has a branch for."""
    known = profile.models[model]
    phone = config(profile, model, number)
    keys = tuple(key for key in KEYS if key.kind in profile.key_kinds and key.position <= known.keys)
    return dataclasses.replace(
        phone,
        function_keys=keys,
        vlan_id=20,
        firmware_url="https://phones.example.net/p/x/fw.img",
        phonebook_url=phone.provisioning_url + profile.phonebook if profile.phonebook else "",
    )


def indexless(name: str) -> str:
    return re.sub(r"(?<=[./_])(?:\d+|\{[nm]\})(?=[./]|$)", "N", name)


def names_written(profile, data: bytes) -> set[str]:
    if profile.name != "acrobits":
        return set(READERS[profile.name](data))
    root = etree.fromstring(data)

    def path(one) -> str:
        return re.sub(r"\[\d+\]", "", root.getroottree().getpath(one)).removeprefix("/")

    leaves = {path(one) for one in root.iter() if len(one) == 0}
    return leaves | {f"{path(one)}@{name}" for one in root.iter() for name in one.attrib}


@pytest.mark.parametrize("profile", OURS, ids=by_name)
def test_every_parameter_written_is_in_the_family_s_list_or_in_a_document_of_the_vendor(profile, cases):
    """P-07: no parameter name is invented; with keys, firmware, VLAN and without."""
    allowed = {indexless(name) for name in CITED[profile.name]}
    if profile.name in LISTS:
        known = json.loads((cases / "vendor_keys.json").read_text())[LISTS[profile.name]]
        allowed |= {indexless(name) for name in known["known_keys"]}
    seen = set()
    for number, model in enumerate(served(profile)):
        for phone in (
            config(profile, model.name, number),
            full(profile, model.name, number),
            dataclasses.replace(full(profile, model.name, number), resync_minutes=30),
        ):
            names = {indexless(name) for name in names_written(profile, RENDERER.render(profile, own(profile), phone))}
            assert names
            assert not names - allowed, model.name
            seen |= names
    assert {indexless(name) for name in CITED[profile.name]} <= seen


def test_the_lists_of_parameters_cover_every_family_there_is():
    """P-06, P-07: 18 families, and each of them is held against its list or its vendor's documents."""
    checked = {"yealink", "poly"} | set(test_families.LISTS) | set(test_plain_families.LISTS) | set(CITED)
    assert checked == set(KNOWN.profiles)
    assert set(test_render.FAMILIES) == {"yealink", "poly"}
    assert len(KNOWN.profiles) == 18
    assert sum(len(profile.models) for profile in KNOWN.profiles.values()) >= 150


@pytest.mark.parametrize("profile", OURS, ids=by_name)
def test_every_line_is_registered_with_its_own_values(profile):
    """P-07: user, auth user, secret, names, registrar, proxy, transport of each line, as the phone would use them."""
    family = boots_late.FAMILIES[profile.name]
    for number, model in enumerate(served(profile)):
        phone = config(profile, model.name, number)
        if profile.name == "audiocodes":  # one server for the whole phone
            first = phone.lines[0]
            phone = dataclasses.replace(
                phone,
                lines=tuple(
                    dataclasses.replace(
                        line, transport=first.transport, registrar_port=first.registrar_port,
                        outbound_proxy_host=first.outbound_proxy_host,
                    )
                    for line in phone.lines
                ),
            )  # fmt: skip
        found = read(profile, phone)
        assert [
            (one.sip_user, one.auth_user, one.secret, one.display_name, one.registrar, one.transport,
             one.outbound_proxy)
            for one in family.lines(found)
        ] == [
            (
                line.sip_user, line.auth_user, line.secret, line.display_name,
                f"{line.registrar_host}:{line.registrar_port}", line.transport,
                f"{line.outbound_proxy_host}:{line.outbound_proxy_port}" if line.outbound_proxy_host else "",
            )
            for line in phone.lines
        ]  # fmt: skip
        if not profile.is_softphone and phone.admin_password:
            assert family.admin_password(found) == phone.admin_password
        assert family.next_url(found) == phone.provisioning_url


def test_an_audiocodes_shows_no_pbx_the_password_of_another():
    """P-07: all its lines register with one server, so a line of a second PBX is switched off."""
    profile = KNOWN.profiles["audiocodes"]
    phone = config(profile, "450HD", 1)
    first, second = phone.lines[:2]
    elsewhere = dataclasses.replace(second, registrar_host="other.example.net", secret="of-the-other")
    data = RENDERER.render(profile, own(profile), dataclasses.replace(phone, lines=(first, elsewhere)))
    assert b"of-the-other" not in data
    assert audiocodes(data)["voip/line/1/enabled"] == "0"


def audiocodes(data: bytes) -> dict[str, str]:
    return boots_late.audiocodes_settings(data)


@pytest.mark.parametrize("profile", OURS, ids=by_name)
def test_emergency_numbers_complete_at_once_on_every_model_in_every_country(profile):
    """P-08: proven on the bytes of every model, with and without lines, in files of its own and shared ones."""
    for place, model in enumerate(served(profile)):
        for numbers in (("911", "933"), ("911", "933", "9911"), ("112", "911"), ("000", "106", "112")):
            for is_nanp in (True, False):
                phone = dataclasses.replace(
                    config(profile, model.name, place), emergency_numbers=numbers, is_nanp=is_nanp
                )
                for one in (phone, dataclasses.replace(phone, lines=())):
                    data = RENDERER.render(profile, own(profile), one).decode()
                    settings = dict(render.dial_settings(profile, data))
                    for number in numbers:
                        found = dialplan.verdicts(profile.dial_plan, settings, number)
                        assert found
                        assert {(one.completion.value, one.sent) for one in found.values()} == {("immediate", number)}


@pytest.mark.parametrize("profile", OURS, ids=by_name)
def test_other_numbers_can_still_be_dialled(profile):
    """P-08: the room made for emergency numbers closes the door to nobody else."""
    data = RENDERER.render(profile, own(profile), config(profile, served(profile)[0].name, 0)).decode()
    settings = dict(render.dial_settings(profile, data))
    for number in ("101", "2125550123", "12125550123", "9125550123", "*97", "914", "0"):
        for verdict in dialplan.verdicts(profile.dial_plan, settings, number).values():
            assert verdict.completion in {"immediate", "after_timer"}, (number, verdict)
            assert verdict.sent in {number, None}


@pytest.mark.parametrize(
    ("vendor", "name", "find", "replacement"),
    [
        ("obihai", "macros.j2", "{% for number in numbers %}{{ number }}|{% endfor %}", "9xx.|"),
        ("audiocodes", "dial.j2", "{% for number in numbers %}{{ number }}|{% endfor %}", "9xx.T|"),
        (
            "linphone",
            "base.xml.j2",
            '"dial_prefix" overwrite="true"></entry>',
            '"dial_prefix" overwrite="true">9</entry>',
        ),
        ("acrobits", "base.xml.j2", 'param="voiceCall"', 'param="gsmCall"'),
    ],
)
def test_a_template_that_holds_911_up_is_never_served(vendor, name, find, replacement):
    """P-08: without its emergency rules no file of any model leaves; handing 911 to the mobile network is no way."""
    profile = KNOWN.profiles[vendor]
    templates = dict(profile.templates)
    assert find in templates[name]
    templates[name] = templates[name].replace(find, replacement)
    broken = vendors.parse_profile((vendors.templates_root() / vendor / "profile.toml").read_text(), templates)
    renderer = render.Renderer(vendors.Vendors({vendor: broken}))
    for model in served(broken):
        with pytest.raises(dialplan.UnsafeDialPlan, match="911"):
            renderer.render(broken, own(broken), config(broken, model.name, 0))


@pytest.mark.parametrize("profile", OURS, ids=by_name)
def test_a_phone_is_identified_by_its_file_and_its_user_agent(profile):
    """P-05: both together are sure; the file alone, and the User-Agent alone, where they tell anything."""
    for model in served(profile):
        mac = vendors.Mac(f"{min(profile.ouis, default='02ab1f')}0a1b2c")
        agent = boots_late.FAMILIES[profile.name].agent(model, mac)
        named = render.served_names(profile, mac, model.name)[-1]
        both = KNOWN.identify(f"/p/x/{named}", agent)
        assert (both.vendor, both.mac, both.confidence) == (profile.name, mac, Confidence.EXACT)
        assert not both.contradictions
        alone = KNOWN.identify(f"/p/x/{named}", "Lobby 1.0")
        assert (alone.vendor, alone.mac, alone.kind, alone.is_refused) == (profile.name, mac, FileKind.DEVICE, False)


def test_an_obi_with_a_line_port_is_known_by_name_and_served_nothing():
    """P-08: its factory call route sends 911 out of that port, past the PBX."""
    profile = KNOWN.profiles["obihai"]
    for model in ("OBi110", "OBi212", "OBi312"):
        assert profile.models[model].support is Support.UNTESTED
        assert render.served_names(profile, vendors.Mac("9cadef0a1b2c"), model) == ()


@pytest.mark.parametrize("profile", OURS, ids=by_name)
def test_ntp_vlan_discovery_expiry_and_keys_are_what_was_asked_for(profile):
    """P-07: where a phone has the setting at all."""
    model = max(served(profile), key=lambda one: (one.keys, one.lines)).name
    found = read(profile, dataclasses.replace(full(profile, model, 0), ntp_server="time.example.net", vlan_priority=6))
    expected = {
        "obihai": {
            "DeviceInfo.Time.NTPServer1": "time.example.net", "DeviceInfo.WAN.VLANID": "20",
            "DeviceInfo.WAN.VLANPriority": "6", "DeviceInfo.WAN.LLDP-MED": "true",
            "VoiceService.1.VoiceProfile.1.SIP.RegistrationPeriod": "600",
            "VoiceService.1.Phone.LineKey.4.Function": "Speed Dial", "VoiceService.1.Phone.LineKey.4.Name": "Zoë & Co",
            "VoiceService.1.Phone.LineKey.5.Function": "Busy Lamp Field",
            "VoiceService.1.Phone.LineKey.5.Number": "103",
            "X_DeviceManagement.FirmwareUpdate.FirmwareURL": "https://phones.example.net/p/x/fw.img",
        },
        "audiocodes": {
            "system/ntp/primary_server_address": "time.example.net", "network/lan/vlan/mode": "MANUAL",
            "network/lan/vlan/id": "20", "network/lan/vlan/priority": "6", "voip/signalling/sip/proxy_timeout": "600",
            "personal_settings/functional_key/3/key_label": "Zoë & Co",
            "personal_settings/functional_key/3/speed_dial_number": "102",
            "provisioning/firmware/url": "https://phones.example.net/p/x/fw.img",
        },
        "linphone": {"proxy_0/reg_expires": "600", "audio_codec_0/mime": "PCMU"},
        "acrobits": {"expires": "600", "codecOrder": "0,8,9"},
    }[profile.name]  # fmt: skip
    assert {name: found[name] for name in expected} == expected


# --- Applications -----------------------------------------------------------------------------------------------------


def test_an_application_gets_an_address_that_no_factory_gives():
    """P-06: locally administered, for one device, never twice."""
    addresses = {softphones.device_address() for _ in range(500)}
    assert len(addresses) == 500
    for address in addresses:
        assert vendors.parse_mac(address) == address
        assert softphones.is_local(address)
        assert int(address[:2], 16) & 1 == 0  # not for a group
    assert not softphones.is_local("805ec0aabb01")


def test_what_a_camera_reads_is_what_each_application_takes():
    """P-06: the file's URL for Linphone; a Cloud ID with the address as user for Acrobits; nothing for a telephone."""
    url = "https://phones.example.net/p/" + "T" * 43 + "/"
    linphone, acrobits = KNOWN.profiles["linphone"], KNOWN.profiles["acrobits"]
    assert softphones.qr_content(linphone, url, "02ab1f0a1b2c", {}) == f"{url}linphone-02ab1f0a1b2c.xml"
    cloud = {"cloud_id": "ACME*"}
    assert softphones.qr_content(acrobits, url, "02ab1f0a1b2c", cloud) == "csc:02ab1f0a1b2c:02ab1f0a1b2c@ACME*"
    assert softphones.qr_content(acrobits, url, "02ab1f0a1b2c", {}) is None
    assert softphones.qr_content(acrobits, url, "02ab1f0a1b2c", {"cloud_id": "A@B"}) is None
    assert softphones.qr_content(KNOWN.profiles["yealink"], url, "805ec0aabb01", {}) is None


def test_a_name_with_quotation_marks_stays_one_name_in_linphone_s_address():
    """P-11: a display name stands inside a SIP address inside XML."""
    profile = KNOWN.profiles["linphone"]
    phone = config(profile, "Desktop", 0)
    name = '"Zoë" \\ <sip:evil@example.net>;x=1'
    line = dataclasses.replace(phone.lines[0], display_name=name, sip_user="10;1?x@pbx.example.net")
    found = read(profile, dataclasses.replace(phone, lines=(line,)))
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    assert found["proxy_0/reg_identity"] == f'"{escaped}" <sip:10;1?x@pbx.example.net>'
    assert boots_late.FAMILIES["linphone"].lines(found)[0].display_name == name
