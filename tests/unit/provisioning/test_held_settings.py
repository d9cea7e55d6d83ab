"""P-09: the HELD server that a phone with native E911 asks, and whom it asks about, in every family that has a setting
for it.
"""

import dataclasses
import json

import pytest

from engine.provisioning import override_proof, render, vendors
from engine.provisioning.vendors import FileKind
from tests.conftest import CASES
from tests.golden.samples import config

KNOWN = vendors.known()
RENDERER = render.Renderer(KNOWN)
URL = "https://phones.example.net/held"
MAC = "805ec0aabb02"
# What a file says with the server; the first is the server, which stands in no file without it.
WRITTEN = {
    ("yealink", "T46U"): {
        "dialplan.emergency.held.server_url": URL,
        "dialplan.emergency.asserted_id_source": "HELD",
        "dialplan.emergency.enable": "1",
        "dialplan.emergency.held.request_type": "SIMPLE",
        "dialplan.emergency.held.request_element.1.name": "mac",
        "dialplan.emergency.held.request_element.1.value": "80-5E-C0-AA-BB-02",
    },
    ("grandstream", "GRP2614"): {
        "e911.held.server.1.address": "phones.example.net/held",
        "e911.held.protocol": "HTTPS",
        "e911.held.identity.1.name": "mac",
        "e911.held.identity.1.value": "80-5E-C0-AA-BB-02",
    },
    ("cisco_mpp", "8851"): {"Primary_Request_URL_1_": URL},
    ("avaya", "J179"): {"SET HELD_URL": URL, "SET HELD_RETRY": "300"},
}
# The families whose lists name a setting for a server, by the names the lists have.
LISTED = {"Yealink": "yealink", "Grandstream": "grandstream", "Cisco MPP": "cisco_mpp", "Avaya": "avaya"}


def settings_of(vendor: str, model: str, *, held_url: str) -> dict[str, str]:
    """Every setting of that model's own file."""
    profile = KNOWN.profiles[vendor]
    rule = next(one for one in profile.files if one.kind is FileKind.DEVICE and one.template == "model")
    phone = dataclasses.replace(config(profile, model, 0), mac=MAC, held_url=held_url)
    text = RENDERER.render(profile, rule, phone).decode()
    read = override_proof.read_shipped(profile, text)
    return {name.strip(): override_proof.plain_value(profile, value) for name, value in read.settings}


@pytest.mark.parametrize(("vendor", "model"), WRITTEN, ids=[vendor for vendor, _ in WRITTEN])
def test_a_phone_that_asks_for_its_location_itself_is_told_whom_and_about_whom(vendor, model):
    """P-09: the server, and the phone's own address, so that phones behind one NAT are told apart (RFC 6155)."""
    found = settings_of(vendor, model, held_url=URL)
    wanted = WRITTEN[vendor, model]
    assert {name: found.get(name) for name in wanted} == wanted
    server = next(iter(wanted))
    assert not settings_of(vendor, model, held_url="").get(server)


def test_every_family_with_a_setting_for_a_held_server_is_among_them():
    """P-09: what the vendors' lists hold is written."""
    path = CASES / "vendor_keys.json"
    if not path.is_file():
        pytest.skip("the vendors' lists of parameters are not here")
    names = ("held.server_url", "held.server.1.address", "Primary_Request_URL", "HELD_URL")
    lists = {name: json.dumps(keys) for name, keys in json.loads(path.read_text()).items() if name != "_about"}
    having = {name for name, text in lists.items() if any(one in text for one in names)}
    ours = {vendor for prefix, vendor in LISTED.items() for name in having if name.startswith(prefix)}
    assert ours == {vendor for vendor, _ in WRITTEN}
    others = {name for name in having if not name.startswith(tuple(LISTED))}
    assert all(
        one.startswith(("Cisco SPA", "Flyingvoice")) for one in others
    )  # 98xx names in SPA files; no family of ours
