"""P-12, P-21: a simulated phone on which the key of its encrypted files was typed in: `phone simulate --file-key`."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.errors import Invalid
from engine.provisioning import envelope, render, vendors
from engine.provisioning.boots_sealed import flash_with
from engine.provisioning.simulate import simulate
from engine.provisioning.storm import storm
from tests.golden.samples import config

PROFILES = vendors.known().profiles
RENDERER = render.Renderer(vendors.known())
SECRET, ANOTHER = "k" * 32, "a" * 32
FILES = {
    "yealink": ("T46U", "{mac}.cfg"),
    "grandstream": ("GXP2170", "cfg{mac}.xml"),
    "cisco_spa": ("SPA504G", "spa{mac}.xml"),
    "cisco_mpp": ("8841", "{mac}.xml"),
    "obihai": ("OBi302", "{MAC}.xml"),
}


def typed(vendor: str, secret: str) -> str:
    """What is typed into a phone of that vendor."""
    scheme = PROFILES[vendor].encryption
    key, iv = envelope.phone_key(scheme, secret), envelope.phone_iv(scheme, secret)
    return f"{key}:{iv}" if vendor == "obihai" else key


@pytest.fixture
async def shelf():
    """A server of files by name; everything else is not there."""
    files: dict[str, bytes] = {}

    async def answer(request: web.Request) -> web.Response:
        body = files.get(request.path.rpartition("/")[2])
        return web.Response(body=body) if body is not None else web.Response(status=404)

    application = web.Application()
    application.router.add_get("/{tail:.*}", answer)
    server = TestServer(application)
    await server.start_server()
    yield files, str(server.make_url("/p/x/"))
    await server.close()


@pytest.mark.parametrize("vendor", FILES)
async def test_a_phone_with_its_key_reads_its_encrypted_file_and_one_with_another_s_does_not(vendor, shelf):
    """P-12: the file is the shipped one, encrypted in the vendor's own format."""
    files, url = shelf
    profile, (model, name) = PROFILES[vendor], FILES[vendor]
    phone = config(profile, model, 1)
    rule = next(rule for rule in profile.files if rule.template == "model")
    body = RENDERER.render(profile, rule, phone)
    files[name.format(mac=phone.mac, MAC=phone.mac.upper())] = envelope.seal(profile.encryption, body, SECRET)
    numbers = phone.emergency_numbers
    for secret, is_ready in ((SECRET, True), (ANOTHER, False)):
        flash = flash_with(vendor, url, typed(vendor, secret))
        result = await simulate(vendor, model, phone.mac, url, numbers=numbers, memory=flash)
        assert result.is_ready is is_ready, result.fault
    came = await storm(vendor, model, phone.mac, url, count=1, numbers=numbers, file_key=typed(vendor, SECRET))
    assert came.is_ready, came.faults


def test_a_family_that_reads_no_encrypted_file_has_no_key():
    """P-12: it is said which do."""
    with pytest.raises(Invalid, match="yealink, grandstream"):
        flash_with("poly", "http://127.0.0.1/p/x/", "k")


async def test_many_phones_are_judged_by_the_numbers_of_their_country(shelf):
    """P-21: a plan that holds 999 up is no fault of a phone in the United States."""
    files, url = shelf
    phone = config(PROFILES["yealink"], "T46U", 1)
    rule = next(rule for rule in PROFILES["yealink"].files if rule.template == "model")
    files[f"{phone.mac}.cfg"] = RENDERER.render(PROFILES["yealink"], rule, phone)
    assert (await storm("yealink", "T46U", phone.mac, url, count=1)).is_ready
    abroad = await storm("yealink", "T46U", phone.mac, url, count=1, numbers=("999",))
    assert abroad.ready == 0
    assert any("999" in fault for fault in abroad.faults)
