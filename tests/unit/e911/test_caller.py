"""Where a trusted peer's request says that the phone is."""

from ipaddress import ip_network

import pytest

from engine.e911.caller import read_caller
from engine.e911.location import AccountTable, Mac, Pbx, Phone
from engine.sip.forward import Hop
from tests.siptest import read_request, request

PBX = Pbx("pbx_1", "PBX", (ip_network("192.0.2.20/32"), ip_network("192.0.2.21/32"), ip_network("10.0.0.0/8")))
HOP = Hop("udp", "192.0.2.20", 5060)
ACCOUNT = AccountTable("account_1", phones=(Phone("phone_1", Mac("0004f2aabbcc")),))


def read(*added, source=HOP, is_proven=False):
    return read_caller(
        read_request(request(source=source, added=list(added))), source, ACCOUNT, PBX, is_proven=is_proven
    )


@pytest.mark.parametrize(
    ("value", "bssid"),
    [
        ("IEEE-802.11;i-wlan-node-id=00156D123456", "00156d123456"),
        ('IEEE-802.11ac; i-wlan-node-id="00:15:6d:12:34:56";np', "00156d123456"),
        ("IEEE-802.11n;network-provided;I-WLAN-NODE-ID = 00-15-6d-12-34-56", "00156d123456"),
        ("3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=2341", None),
        ("IEEE-802.11;i-wlan-node-id=short", None),
        ("", None),
    ],
)
def test_the_access_point_is_read_from_p_access_network_info(value, bssid):
    """E-05: RFC 7315 §5.4."""
    assert read(f"P-Access-Network-Info: {value}").bssid == bssid


@pytest.mark.parametrize("told", ["192.0.2.20", "192.0.2.21", "::ffff:192.0.2.20"])
def test_the_pbx_s_own_address_is_never_the_phone_s(told):
    """E-05: it would place every caller in the server room."""
    caller = read(f"X-Callpoint-Source: {told}")
    assert (caller.source_ip, caller.names_pbx) == (None, True)


def test_any_other_address_is_believed():
    caller = read("X-Callpoint-Source: 10.1.2.3")
    assert (str(caller.source_ip), caller.names_pbx) == ("10.1.2.3", False)


def test_our_own_command_may_name_its_own_address():
    """`callpoint call` stands for a phone."""
    assert str(read("X-Callpoint-Source: 192.0.2.20", is_proven=True).source_ip) == "192.0.2.20"


def test_a_phone_that_names_itself_and_its_own_address_is_believed():
    phone = Hop("udp", "10.1.2.3", 5060)
    contact = 'Contact: <sip:101@10.1.2.3>;+sip.instance="<urn:uuid:00000000-0000-1000-8000-0004F2AABBCC>"'

    def direct(*added):
        data = request(source=phone, added=list(added))
        start = data.index(b"Contact:")
        data = data[:start] + contact.encode() + data[data.index(b"\r\n", start) :]
        return read_caller(read_request(data), phone, ACCOUNT, PBX, is_proven=False)

    told = direct("X-Callpoint-Source: 10.1.2.3", "X-Callpoint-Device: 0004f2aabbcc")
    assert (str(told.source_ip), told.names_pbx) == ("10.1.2.3", False)
    other = direct("X-Callpoint-Device: 000000000001")
    assert (other.source_ip, other.device) == (None, "000000000001")


@pytest.mark.parametrize(
    ("told", "address"),
    [
        ("10.1.2.3:5060", "10.1.2.3"),
        (" 10.1.2.3 ", "10.1.2.3"),
        ("[2001:db8::5]:5061", "2001:db8::5"),
        ("2001:db8::5", "2001:db8::5"),
        ("10.1.2.3:sip", "None"),
        ("10.1.2:5060", "None"),
        (":5060", "None"),
    ],
)
def test_a_pbx_may_write_the_port_behind_the_phone_s_address(told, address):
    """E-05: as Asterisk's remote_addr has it."""
    assert str(read(f"X-Callpoint-Source: {told}").source_ip) == address
