"""Grandstream, Cisco, Snom and Fanvil phones boot against a real port, and ask as the real ones were seen to ask."""

import socket

import pytest
from aiohttp import web

from engine import config as configuration
from engine.audit.record import SYSTEM
from engine.models import ProvisioningEvent
from engine.provisioning import phones, vendors
from engine.provisioning.http import make_phones_port
from engine.provisioning.simulate import Memory, simulate
from tests.factories import add_account, add_line, add_pbx, add_phone
from tests.protocol.test_provisioning_simulators import shelf  # noqa: F401

FLEET = {
    ("grandstream", "GXP2170"): ("000b82aabb01", ["cfg000b82aabb01", "cfg000b82aabb01.xml"]),
    ("grandstream", "GRP2614"): ("000b82aabb02", ["cfg000b82aabb02", "cfg000b82aabb02.xml"]),
    ("grandstream", "HT802"): ("000b82aabb03", ["cfg000b82aabb03", "cfg000b82aabb03.xml"]),
    ("cisco_spa", "SPA504G"): ("000e08aabb04", ["spa504G.cfg", "spa000e08aabb04.xml"]),
    ("cisco_spa", "SPA112"): ("000e08aabb05", ["spa112.cfg", "spa000e08aabb05.xml"]),
    ("cisco_mpp", "8841"): ("00562baabb06", ["8841-3PCC.xml", "00562baabb06.xml"]),
    ("snom", "D785"): ("000413aabb07", ["snomD785.htm", "snomD785-000413AABB07.htm", "snomD785-firmware.htm"]),
    ("fanvil", "X5S"): ("0c383eaabb08", ["F0V00X5S0000.cfg", "0c383eaabb08.cfg"]),
}
FLEET = {key: phone for key, phone in FLEET.items() if key[0] in vendors.known().profiles}


@pytest.fixture
async def site(database, keys):
    """The phones' port with one phone of each family; yields the URL with the token, and the port."""
    async with database.sessions.begin() as session:
        account = await add_account(session, phone_admin_password="Desk-Pass-w0rd", timezone="America/Chicago")
        token = await phones.generate_token(session, SYSTEM, account, keys)
        await add_pbx(session, account, registrar_host="pbx.example.net")
        line = await add_line(session, account, "101")
        for (vendor, model), (mac, _) in FLEET.items():
            await add_phone(session, account, line, mac=mac, vendor=vendor, model=model)
    port = make_phones_port(configuration.Provisioning(), keys, database)
    runner = port.runner()
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/p/{token}/", port, database
    await runner.cleanup()
    await port.close()


@pytest.mark.parametrize(("vendor", "model"), FLEET)
async def test_a_phone_out_of_the_box_is_ready_after_its_first_boot(site, vendor, model):
    """P-21: over HTTP, with the vendor's own order of requests; then REGISTER-ready, 911 and 933 proven on its plan."""
    url, _, _ = site
    mac, asked = FLEET[vendor, model]
    result = await simulate(vendor, model, mac, url)
    assert result.is_ready, result.fault
    assert [file.name for file in result.files] == asked
    assert [(one.sip_user, one.secret, one.registrar) for one in result.lines] == [
        ("101", "secret-of-101", "pbx.example.net:5060")
    ]
    assert result.dials == {"911": "immediate", "933": "immediate"}
    assert result.admin_password == "Desk-Pass-w0rd"
    assert result.provisioning_url == url


@pytest.mark.parametrize(("vendor", "model"), FLEET)
async def test_a_phone_that_knows_its_url_asks_for_its_own_file_again_and_stays_ready(site, vendor, model):
    """P-21: the second boot begins where the first one's settings say, and needs no common file."""
    url, _, _ = site
    mac, _ = FLEET[vendor, model]
    flash = Memory()
    await simulate(vendor, model, mac, url, memory=flash)
    again = await simulate(vendor, model, mac, url, memory=flash)
    assert again.is_ready, again.fault
    assert any(mac in file.name.lower() and file.status == 200 for file in again.files)


@pytest.mark.parametrize(("vendor", "model"), FLEET)
async def test_a_phone_of_another_vendor_gets_nothing_of_this_one(site, vendor, model):
    """P-05: a User-Agent of another vendor at a known phone's MAC is a mismatch, noted and answered 404."""
    url, port, database = site
    mac, _ = FLEET[vendor, model]
    result = await simulate(vendor, model, mac, url, user_agent="Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:01")
    assert not result.lines
    await port.log.flush()
    async with database.sessions.begin() as session:
        kinds = {event.kind for event in await session.run_sync(lambda inner: inner.query(ProvisioningEvent).all())}
    assert "mismatch" in kinds


@pytest.mark.parametrize(("vendor", "model"), FLEET)
async def test_a_renamed_user_agent_does_not_keep_a_phone_from_its_files(site, vendor, model):
    """P-05: the User-Agent is evidence, never a condition."""
    url, _, _ = site
    mac, _ = FLEET[vendor, model]
    result = await simulate(vendor, model, mac, url, user_agent="Front desk phone")
    assert result.is_ready, result.fault


# --- What they do against other servers ------------------------------------------------------------------------------


async def test_a_grandstream_goes_on_to_the_model_s_file_and_throws_another_phone_s_away(shelf):  # noqa: F811
    """P-21: the first file that is there ends the search; a `<mac>` that is not its own is no configuration."""
    shelf.files = {"cfggxp2170.xml": "<gs_provision><config><P271>1</P271><P35>101</P35></config></gs_provision>"}
    result = await simulate("grandstream", "GXP2170", "000b82aabb01", shelf.url)
    assert shelf.asked == ["cfg000b82aabb01", "cfg000b82aabb01.xml", "cfggxp2170.xml"]
    assert [line.sip_user for line in result.lines] == ["101"]
    shelf.files = {
        "cfg000b82aabb02.xml": "<gs_provision><mac>000b82aabb01</mac><config><P271>1</P271></config></gs_provision>"
    }
    result = await simulate("grandstream", "GXP2170", "000b82aabb02", shelf.url)
    assert not result.lines


async def test_a_cisco_follows_its_rule_through_macros_and_to_another_server(shelf):  # noqa: F811
    """P-21: `$MA`, `$MAU` and `$PSN` are filled in; a rule that does not change ends the chain."""
    base = shelf.url.rstrip("/")
    shelf.files = {
        "spa504G.cfg": f"<flat-profile><Profile_Rule>{base}/$PSN-$MAU.xml</Profile_Rule></flat-profile>",
        "504G-000E08AABB04.xml": "<flat-profile><Line_Enable_1_>Yes</Line_Enable_1_>"
        "<User_ID_1_>101</User_ID_1_></flat-profile>",
    }
    flash = Memory()
    result = await simulate("cisco_spa", "SPA504G", "000e08aabb04", shelf.url, memory=flash)
    assert shelf.asked == ["spa504G.cfg", "504G-000E08AABB04.xml"]
    assert [line.sip_user for line in result.lines] == ["101"]
    await simulate("cisco_spa", "SPA504G", "000e08aabb04", shelf.url, memory=flash)
    assert shelf.asked[2:] == ["504G-000E08AABB04.xml"]


async def test_a_snom_that_finds_no_file_by_model_tries_the_one_by_address(shelf):  # noqa: F811
    """P-21: `<MAC>.xml` is the last resort; `setting_server` is the first from then on."""
    shelf.files = {
        "000413AABB07.xml": f"<settings><phone-settings><setting_server>{shelf.url}{{mac}}.xml</setting_server>"
        '<user_active idx="1">on</user_active><user_name idx="1">101</user_name></phone-settings></settings>'
    }
    flash = Memory()
    result = await simulate("snom", "D785", "000413aabb07", shelf.url, memory=flash)
    assert shelf.asked[:3] == ["snomD785.htm", "snomD785-000413AABB07.htm", "000413AABB07.xml"]
    assert [line.sip_user for line in result.lines] == ["101"]
    await simulate("snom", "D785", "000413aabb07", shelf.url, memory=flash)
    assert shelf.asked[4:] == ["000413AABB07.xml"]
