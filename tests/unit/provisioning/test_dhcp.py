"""P-20: what DHCP servers are told: the right options for each family, in each server's own spelling."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Invalid
from engine.provisioning import dhcp, vendors

URL = "https://phones.example.com:8443/p/" + "T" * 43 + "/"
PROFILES = vendors.load().profiles
SOFTPHONES = {"acrobits", "linphone"}  # configured by QR, never by DHCP


def decapsulate(data):
    """The sub-options of such a value, as a phone reads them. Raises ValueError: the lengths do not add up."""
    found, at = [], 0
    while at < len(data):
        code, length = data[at], data[at + 1] if at + 1 < len(data) else -1
        value = data[at + 2 : at + 2 + length]
        if length < 0 or len(value) != length:
            raise ValueError(f"sub-option {code} says {length} bytes, {len(data) - at - 2} are left")
        found.append((code, value))
        at += 2 + length
    return tuple(found)


def families(url=URL, tftp="192.0.2.9"):
    return {family.name: family for family in dhcp.families_of(url, PROFILES.values(), tftp=tftp)}


def options(name, **given):
    return {option.code: option for option in families(**given)[name].options}


def test_every_family_that_boots_has_its_options():
    assert set(families()) == set(PROFILES) - SOFTPHONES
    for family in families().values():
        assert family.options, family.name
        assert family.ouis or family.classes, family.name


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("poly", 160, URL[:-1]),
        ("poly", 66, URL[:-1]),
        ("yealink", 66, URL),
        ("grandstream", 66, URL[:-1]),
        ("cisco_spa", 66, URL + "spa$MA.xml"),
        ("cisco_spa", 160, URL + "spa$MA.xml"),
        ("cisco_mpp", 66, URL + "$MA.xml"),
        ("snom", 66, "https://phones.example.com:8443"),
        ("snom", 67, "p/" + "T" * 43 + "/{mac}.xml"),
        ("mitel", 159, URL[:-1]),
        ("panasonic", 160, URL + "Config{MAC}.cfg"),
        ("gigaset", 114, URL[:-1]),
        ("avaya", 242, f"TLSSRVR=phones.example.com,TLSPORT=8443,TLSDIR=/p/{'T' * 43}"),
    ],
)
def test_a_family_gets_what_its_phones_read(name, code, text):
    option = options(name)[code]
    assert (option.text, option.data) == (text, text.encode())


def test_option_150_is_an_address_and_there_only_where_tftp_is_served():
    assert options("cisco_spa")[150].data == bytes((192, 0, 2, 9))
    assert 150 not in options("cisco_spa", tftp="")
    for wrong in ("0.0.0.256", "tftp.example.com", "2001:db8::1"):
        with pytest.raises(Invalid, match=r"Option 150"):
            families(tftp=wrong)


def test_option_43_decodes_to_the_vendors_sub_options():
    """P-20: TLV as RFC 2132 §8.4 has it; Snom's own example encapsulates 66 and 67, Mitel reads sub-option 2."""
    assert decapsulate(options("snom")[43].data) == (
        (66, b"https://phones.example.com:8443"),
        (67, b"p/" + b"T" * 43 + b"/{mac}.xml"),
    )
    assert decapsulate(options("mitel")[43].data) == ((2, URL[:-1].encode()),)
    assert dhcp.encapsulate([(66, b"http://test")]) == bytes.fromhex("420b687474703a2f2f74657374")


@given(st.lists(st.tuples(st.integers(1, 254), st.binary(max_size=60)), max_size=4))
def test_what_is_encapsulated_is_what_is_read(fields):
    assert decapsulate(dhcp.encapsulate(fields)) == tuple(fields)


@pytest.mark.parametrize("data", [b"\x42", b"\x42\x05http", b"\x42\x00\x43"])
def test_lengths_that_do_not_add_up_are_refused(data):
    with pytest.raises(ValueError, match="bytes"):
        decapsulate(data)


def test_a_url_too_long_for_an_option_is_refused_with_its_length():
    """P-20: an option holds 255 bytes; a longer one would be cut and lead nowhere."""
    longest = "https://" + "h" * 190 + ".example/p/" + "T" * 43 + "/"
    assert len(longest) <= 255
    with pytest.raises(Invalid, match="255 bytes"):
        families(url=longest)  # Panasonic's file name behind it is too much
    with pytest.raises(Invalid):
        dhcp.encapsulate([(1, b"x" * 254)])


@pytest.mark.parametrize(
    "url",
    [
        URL[:-1],
        "ftp://phones.example.com/p/x/",
        'https://phones.example.com"/p/x/',
        "https://phones.example.com,evil/p/x/",
        "https://phones.example.com/p/x'/",
        "https://phones.example.com/p/$(reboot)/",
        "https://phones.example.com/p/a b/",
        "https://phones.example.com/p/x/\nlog-facility=/etc/passwd",
    ],
)
@pytest.mark.parametrize("server", dhcp.SERVERS)
def test_a_url_a_server_could_misread_reaches_no_file(server, url):
    with pytest.raises(Invalid):
        dhcp.snippet(server, url, PROFILES.values())


def test_an_unknown_server_is_named_with_those_there_are():
    with pytest.raises(Invalid, match="dnsmasq, kea, isc, mikrotik, windows"):
        dhcp.snippet("pfsense", URL, PROFILES.values())


def text_of(server):
    (text,) = dhcp.snippet(server, URL, PROFILES.values(), tftp="192.0.2.9").values()
    return text


def test_no_option_goes_to_a_client_that_is_no_phone():
    """P-20: option 66 for everybody would send the office's computers looking for a boot file."""
    for row in text_of("dnsmasq").splitlines():
        if row.startswith("dhcp-option"):
            assert row.startswith("dhcp-option=tag:callpoint-"), row
    assert "option-data" not in text_of("kea").split('"client-classes"')[0]
    before_classes = text_of("isc").split('class "')[0]
    assert "tftp-server-name" not in before_classes
    assert all(
        "-PolicyName" in row for row in text_of("windows").splitlines() if row.startswith("Set-DhcpServerv4OptionValue")
    )


def test_dnsmasq_is_told_addresses_classes_and_options_of_each_family():
    text = text_of("dnsmasq")
    assert "dhcp-mac=set:callpoint-yealink,00:15:65:*:*:*" in text
    assert "dhcp-vendorclass=set:callpoint-poly,Polycom" in text
    assert f'dhcp-option=tag:callpoint-poly,160,"{URL[:-1]}"' in text
    assert "dhcp-option=tag:callpoint-cisco_spa,150,192.0.2.9" in text
    (found,) = re.findall(r"^dhcp-option=tag:callpoint-mitel,43,([0-9a-f:]+)$", text, re.MULTILINE)
    assert decapsulate(bytes.fromhex(found.replace(":", ""))) == ((2, URL[:-1].encode()),)


def test_kea_reads_json_with_commas_escaped_and_binary_options_as_hexadecimal():
    text = re.sub(r"^\s*//.*$", "", text_of("kea"), flags=re.MULTILINE)
    classes = {each["name"]: each for each in json.loads("{" + text + "}")["client-classes"]}
    assert "substring(pkt4.mac, 0, 3) == 0x001565" in classes["callpoint-yealink"]["test"]
    assert "substring(option[60].hex, 0, 4) == 'snom'" in classes["callpoint-snom"]["test"]
    found = {each["code"]: each for each in classes["callpoint-avaya"]["option-data"]}
    assert bytes.fromhex(found[242]["data"]).decode() == options("avaya")[242].text
    for option in classes["callpoint-snom"]["option-data"]:
        if option["code"] == 43:
            assert decapsulate(bytes.fromhex(option["data"]))[0][0] == 66
        else:
            assert option["data"] == options("snom")[option["code"]].text


def test_routeros_sees_no_variable_in_a_macro_of_the_phones():
    """`$MA` in a RouterOS string is a variable of the router's: a backslash keeps it for the phone."""
    text = text_of("mikrotik")
    assert f"value=\"s'{URL}spa\\$MA.xml'\"" in text
    assert not re.search(r"[^\\]\$(?!server\b|pool\b)", text.split("# Algo")[1])
    assert f"code=43 value=0x{options('mitel')[43].hex}" in text


def test_powershell_literals_hold_no_variables():
    text = text_of("windows")
    assert f"-OptionId 66 -Value '{URL}$MA.xml'" in text
    assert "Set-CallpointPolicy 'Callpoint Yealink' @('001565*'" in text
    assert dhcp._powershell("it's $x") == "'it''s $x'"
    (row,) = [row for row in text.splitlines() if "'Callpoint Mitel'" in row and "-OptionId 43" in row]
    data = bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", row))
    assert data == options("mitel")[43].data
