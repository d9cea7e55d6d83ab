"""HELD messages: what clients send is read or refused with the right code, what is answered fits the schema."""

import contextlib
import time
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from engine.e911 import held_xml
from engine.e911.held_xml import ANY, Code, Kind, Measured, NoLocation, read_request, write_error, write_response
from tests.unit.e911.held_requests import HELD, PIDF, checked, location_request, measured

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


def code_of(data: bytes) -> Code:
    with pytest.raises(NoLocation) as refused:
        read_request(data)
    assert refused.value.detail.endswith(".")
    return refused.value.code


def test_an_empty_request_asks_for_any_form_of_the_askers_own_location():
    """E-13: RFC 5985 §6.2: no locationType means any."""
    asked = read_request(location_request())
    assert (asked.kinds, asked.is_exact, asked.device, asked.within_s) == (ANY, False, None, None)


@pytest.mark.parametrize(
    ("kinds", "exact", "expected"),
    [
        ("any", "", (ANY, False)),
        ("any", "true", (ANY, False)),
        ("civic", "true", ({Kind.CIVIC}, True)),
        ("civic\n  geodetic", "1", ({Kind.CIVIC, Kind.GEODETIC}, True)),
        ("geodetic locationURI", "false", ({Kind.GEODETIC, Kind.URI}, False)),
        ("locationURI", "0", ({Kind.URI}, False)),
    ],
)
def test_location_types_are_read(kinds, exact, expected):
    asked = read_request(location_request(kinds, exact=exact))
    assert (asked.kinds, asked.is_exact) == expected


@pytest.mark.parametrize("kinds", ["street", "any civic", "civic,geodetic", "Civic"])
def test_an_unknown_location_type_is_a_request_error(kinds):
    assert code_of(location_request(kinds)) is Code.REQUEST_ERROR


@pytest.mark.parametrize(
    ("text", "within_s"),
    [("emergencyRouting", None), ("emergencyDispatch", None), ("8000", 8.0), ("0", 0.0), ("250", 0.25)],
)
def test_response_times_are_read(text, within_s):
    assert read_request(location_request(response_time=text)).within_s == within_s


@pytest.mark.parametrize("text", ["soon", "-1", "1.5", "9" * 30])
def test_an_unreadable_response_time_is_a_request_error(text):
    assert code_of(location_request(response_time=text)) is Code.REQUEST_ERROR


def test_device_identifiers_are_read_in_one_spelling():
    """E-13: RFC 6155 §3: addresses of both families, MACs, URIs; others are named as unread."""
    device = (
        '<ip v="4">192.0.2.5</ip><ip v="6">2001:DB8::5</ip><mac>00-15-65-4A-A9-37</mac><uri>sip:4012@pbx</uri>'
        "<uri>tel:+15185550101</uri><udpport>51393</udpport><uri>mailto:x@example.com</uri><nai>a@b.example</nai>"
    )
    read = read_request(location_request(device=device)).device
    assert read is not None
    assert read.ips == (ip_address("192.0.2.5"), ip_address("2001:db8::5"))
    assert read.macs == ("0015654aa937",)
    assert read.uris == ("sip:4012@pbx", "tel:+15185550101")
    assert read.unread == ("udpport", "uri", "nai")


@pytest.mark.parametrize("device", ['<ip v="4">192.0.2.256</ip>', "<mac>00-15</mac>", f"<uri>sip:{'x' * 300}</uri>"])
def test_an_unreadable_identifier_is_a_bad_identifier(device):
    assert code_of(location_request(device=device)) is Code.BAD_IDENTIFIER


def test_a_flood_of_identifiers_is_a_request_error():
    assert code_of(location_request(device='<ip v="4">192.0.2.5</ip>' * 17)) is Code.REQUEST_ERROR


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (measured(chassis=b"SW-Lobby".hex(), port=b"Gi1/0/12".hex()), Measured("sw-lobby", "gi1/0/12")),
        (measured(chassis="001122334455", chassis_type="4", port="12", port_type="7"), Measured("001122334455", "12")),
        (measured(chassis=b"00:11:22:33:44:55".hex()), Measured("001122334455")),
        (measured(chassis="ff00", port="c2c8"), Measured("ff00", "c2c8")),
        (measured(ap="AA-BB-CC-DD-EE-FF"), Measured(bssid="aabbccddeeff")),
        (measured(chassis=b"a/b".hex(), port=b"1".hex()), Measured()),
        (measured(chassis="zz", ap="nonsense", giaddr="none"), Measured()),
        (measured(giaddr="192.0.2.158"), Measured(relay=ip_address("192.0.2.158"))),
        ("", Measured()),
    ],
)
def test_measurements_are_spelled_as_networks_are(more, expected):
    """E-13: RFC 7105: LLDP names come as octets in hexadecimal, the access point that serves is marked."""
    if expected.port == "12":
        expected = Measured("001122334455", b"\x12".hex())  # an octet that is no text stays hexadecimal
    assert read_request(location_request(more=more)).measured == expected


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", Code.XML_ERROR),
        (b"hello", Code.XML_ERROR),
        (b"<locationRequest", Code.XML_ERROR),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><locationRequest/>', Code.XML_ERROR),
        ('<?xml version="1.0" encoding="utf-16"?><a/>'.encode("utf-16"), Code.XML_ERROR),
        (b"\xff\xfe<a/>", Code.XML_ERROR),
        (location_request(more="<x>" + "y" * 66_000 + "</x>"), Code.XML_ERROR),
        (b"<a>" * 300 + b"</a>" * 300, Code.XML_ERROR),
        (b"<locationRequest/>", Code.UNSUPPORTED_MESSAGE),
        (f'<createContext xmlns="{HELD}"/>'.encode(), Code.UNSUPPORTED_MESSAGE),
    ],
)
def test_what_is_no_location_request_is_refused_with_its_code(data, code):
    assert code_of(data) is code


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: location_request(text.replace("<", ""))))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(NoLocation):
        read_request(data)


def test_sixty_four_kilobytes_of_anything_are_read_in_no_time():
    started = time.process_time()
    for inner in ("<x/>" * 16_000, 'a="1" ' * 8_000, "<ip>" * 200 + "</ip>" * 200):
        with contextlib.suppress(NoLocation):
            read_request(location_request(more=inner[:65_000]))
    assert time.process_time() - started < 1.0


def test_an_answer_holds_what_there_is_and_fits_the_schema(cases):
    """E-13: locationUriSet first, then the PIDF-LO, as the schema has them."""
    presence = f'<?xml version="1.0" encoding="UTF-8"?><presence xmlns="{PIDF}" entity="pres:a@b"/>'.encode()
    root = checked(write_response(presence, "https://phones.example.net/held/abc", NOW))
    assert [etree.QName(each).localname for each in root] == ["locationUriSet", "presence"]
    assert root[0].get("expires") == "2026-11-21T20:00:00Z"
    assert root[0][0].text == "https://phones.example.net/held/abc"
    assert [etree.QName(each).localname for each in checked(write_response(presence, None, None))] == ["presence"]


@pytest.mark.parametrize("code", list(Code))
def test_every_error_fits_the_schema(cases, code):
    root = checked(write_error(code, "Nothing \x00 is known of <this>."))
    assert root.get("code") == code.value
    assert root[0].text == "Nothing ? is known of <this>."
    if code is Code.BAD_IDENTIFIER:
        assert root[1].tag == f"{{{held_xml.HELD_ID}}}requiredIdentifiers"
        assert root.nsmap["id"] == held_xml.HELD_ID
