"""Another device in a phone's place, on its page and over the API."""

import pytest

from engine.models import Account, Phone, PhoneStatus
from tests.factories import add_line, add_phone
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

OTHER = "00:04:F2:AA:BB:01"


async def _booted(port: AdminPort, site: Site) -> Phone:
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        line = await add_line(session, account, "101")
        return await add_phone(session, account, line, status=PhoneStatus.CURRENT, firmware="108.86.0.20")


async def _now(port: AdminPort, phone: Phone) -> Phone:
    async with port.database.sessions() as session:
        return await session.get_one(Phone, phone.id)


async def test_a_phone_is_given_another_device_on_its_page(port: AdminPort, site: Site) -> None:
    """P-16: another make takes its place; the line stays on it, and what the former device told is gone."""
    phone, browser = await _booted(port, site), await port.browser(site)
    path = f"/phones/{phone.id}/device"
    assert f'href="{path}"' in await (await port.call("GET", f"/phones/{phone.id}", browser)).text()
    page = " ".join((await (await port.call("GET", path, browser)).text()).split())
    assert "The former device keeps the SIP password of" in page
    assert '<option value="yealink/T46U" selected>' in page
    form = {"version": str((await _now(port, phone)).version), "mac": OTHER, "model": "poly/VVX 450"}
    answer = await port.call("POST", path, browser, data=form, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, f"/phones/{phone.id}?done=phone-replaced")
    now = await _now(port, phone)
    assert (now.mac, now.vendor, now.model) == ("0004f2aabb01", "poly", "VVX 450")
    assert (now.status, now.firmware) == (PhoneStatus.NEVER_BOOTED, None)
    told = await (await port.call("GET", f"/api/v1/phones/{phone.id}", site.auth)).json()
    assert len(told["lines"]) == 1


async def test_a_wrong_model_is_corrected_and_the_device_stays_the_same(port: AdminPort, site: Site) -> None:
    """P-16: what it has told still counts; it has another configuration to fetch."""
    phone, browser = await _booted(port, site), await port.browser(site)
    form = {"version": str((await _now(port, phone)).version), "mac": phone.mac, "model": "yealink/T54W"}
    answer = await port.call("POST", f"/phones/{phone.id}/device", browser, data=form, allow_redirects=False)
    assert answer.headers["Location"] == f"/phones/{phone.id}?done=phone-saved"
    now = await _now(port, phone)
    assert (now.model, now.status, now.firmware) == ("T54W", PhoneStatus.STALE, "108.86.0.20")


@pytest.mark.parametrize(
    ("mac", "model", "told"),
    [
        ("no address", "yealink/T46U", "Expected a MAC address"),
        (OTHER, "yealink/T46U", "is from an address block of"),
        ("80:5e:c0:00:00:01", "", "Choose the model"),
    ],
)
async def test_a_device_that_cannot_be_is_refused_beside_its_field(
    port: AdminPort, site: Site, mac: str, model: str, told: str
) -> None:
    """P-05: a typing error is told before a phone is left without its files; a box says that it is none."""
    phone, browser = await _booted(port, site), await port.browser(site)
    form = {"version": str((await _now(port, phone)).version), "mac": mac, "model": model}
    answer = await port.call("POST", f"/phones/{phone.id}/device", browser, data=form, allow_redirects=False)
    assert answer.status == 422
    assert told in await answer.text()
    assert (await _now(port, phone)).mac == phone.mac
    if mac == OTHER:
        form["anyway"] = "on"
        answer = await port.call("POST", f"/phones/{phone.id}/device", browser, data=form, allow_redirects=False)
        assert answer.status == 303
