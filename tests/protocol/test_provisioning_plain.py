"""Mitel, Htek, Panasonic, Sangoma, Avaya, Gigaset, Algo: the simulated phones against a scripted server in their order
of requests, and against the real port with a real database.
"""

import hashlib
import socket

import pytest
from aiohttp import web

from engine import config as configuration
from engine.audit.record import SYSTEM
from engine.provisioning import phones, vendors
from engine.provisioning.http import make_phones_port
from engine.provisioning.simulate import Memory, simulate
from tests.factories import add_account, add_line, add_pbx, add_phone
from tests.protocol.test_provisioning_simulators import Shelf

KNOWN = vendors.known().profiles
MODELS = {
    "mitel": "6940",
    "htek": "UC926",
    "panasonic": "KX-HDV230",
    "sangoma": "D65",
    "avaya": "J179",
    "gigaset": "N870 IP PRO",
    "algo": "8301",
}
HERE = [name for name in MODELS if name in KNOWN]


def mac_of(vendor: str) -> str:
    return min(KNOWN[vendor].ouis) + "0a1b2c"


@pytest.fixture
async def shelf():
    shelf = Shelf()
    server = web.Server(shelf.answer)
    runner = web.ServerRunner(server)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    shelf.url = f"http://127.0.0.1:{listener.getsockname()[1]}/p/x/"
    yield shelf
    await runner.cleanup()


@pytest.fixture
async def account_url(database, keys):
    """The provisioning URL of an account with one phone of each family, two lines where the model holds two."""
    async with database.sessions.begin() as session:
        account = await add_account(session, phone_admin_password="Desk-Pass-w0rd")
        token = await phones.generate_token(session, SYSTEM, account, keys)
        await add_pbx(session, account, registrar_host="pbx.example.net")
        lines = [await add_line(session, account, extension) for extension in ("101", "102")]
        for vendor in HERE:
            most = KNOWN[vendor].models[MODELS[vendor]].lines
            phone = await add_phone(
                session, account, *lines[:most], mac=mac_of(vendor), vendor=vendor, model=MODELS[vendor]
            )
            if vendor == "sangoma":  # whose keys stand in files of their own
                phone.settings = {"function_keys": [{"position": 3, "kind": "blf", "value": "102", "label": "Zoë"}]}
    port = make_phones_port(configuration.Provisioning(), keys, database)
    runner = port.runner()
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/p/{token}/"
    await runner.cleanup()
    await port.close()


ORDER = {
    "mitel": [
        ("security.tuz", 404), ("startup.tuz", 404), ("startup.cfg", 200), ("6940.tuz", 404), ("6940.cfg", 404),
        ("{MAC}.tuz", 404), ("{MAC}.cfg", 200),
    ],
    "htek": [("cfg0010.xml", 404), ("cfg{mac}.xml", 200)],
    "panasonic": [("KX-HDV230.cfg", 200), ("Config{MAC}.cfg", 200)],
    "sangoma": [("{mac}.cfg", 200), ("{mac}-contacts.xml", 200), ("{mac}-smartblf.xml", 200)],
    "avaya": [("J100Supgrade.txt", 200), ("{mac}.cfg", 200)],
    "gigaset": [("{MAC}.xml", 200)],
    "algo": [("algop8301.conf.md5", 404), ("algom{MAC}.conf.md5", 200), ("algom{MAC}.conf", 200)],
}  # fmt: skip


@pytest.mark.parametrize("vendor", HERE)
async def test_a_phone_boots_end_to_end_in_the_order_of_its_make(account_url, vendor):
    """P-21, P-01: the requests in their order with their answers, lines, password, next URL, 911 and 933."""
    mac = mac_of(vendor)
    result = await simulate(vendor, MODELS[vendor], mac, account_url)
    assert result.is_ready, result.fault
    assert [(one.name, one.status) for one in result.files] == [
        (name.replace("{mac}", mac).replace("{MAC}", mac.upper()), status) for name, status in ORDER[vendor]
    ]
    most = KNOWN[vendor].models[MODELS[vendor]].lines
    assert [(line.sip_user, line.secret, line.registrar, line.transport) for line in result.lines] == [
        ("101", "secret-of-101", "pbx.example.net:5060", "udp"),
        ("102", "secret-of-102", "pbx.example.net:5060", "udp"),
    ][:most]
    assert result.admin_password == "Desk-Pass-w0rd"
    assert (result.provisioning_url or "").rstrip("/") == account_url.rstrip("/")
    assert result.dials == {"911": "immediate", "933": "immediate"}


@pytest.mark.parametrize("vendor", HERE)
async def test_no_phone_is_served_by_another_make_s_user_agent_or_token(account_url, vendor):
    """P-02: the wrong token and a stranger's address get nothing, and the boot says why."""
    other = await simulate(vendor, MODELS[vendor], min(KNOWN[vendor].ouis) + "999999", account_url)
    assert not other.is_ready
    assert not other.lines
    wrong = await simulate(vendor, MODELS[vendor], mac_of(vendor), account_url[:-5] + "AAAA/")
    assert {one.status for one in wrong.files} == {404}
    agent = "Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:01"
    disguised = await simulate(vendor, MODELS[vendor], mac_of(vendor), account_url, user_agent=agent)
    assert not disguised.lines


@pytest.mark.parametrize("vendor", [name for name in ("panasonic", "gigaset", "algo") if name in HERE])
async def test_a_file_that_has_not_changed_is_not_applied_again(account_url, vendor):
    """P-21: the phone compares with what it took last time; an Algo does not even fetch it."""
    flash = Memory()
    first = await simulate(vendor, MODELS[vendor], mac_of(vendor), account_url, memory=flash)
    again = await simulate(vendor, MODELS[vendor], mac_of(vendor), account_url, memory=flash)
    assert first.is_ready
    assert again.is_ready
    assert not any(one.is_applied for one in again.files)
    names = [one.name for one in again.files]
    assert ("algom" in names[-1] and names[-1].endswith(".md5")) == (vendor == "algo")


@pytest.mark.skipif("mitel" not in HERE, reason="the profile is not installed")
async def test_a_mitel_takes_the_old_name_of_the_common_file_and_stops_at_an_encrypted_one(shelf):
    """P-21: aastra.cfg where there is no startup.cfg; a .tuz nobody gave it the key of ends the boot."""
    mac = mac_of("mitel")
    shelf.files = {
        "aastra.cfg": 'sip dial plan: "911|933|[0-8]X+#" # short\n',
        f"{mac.upper()}.cfg": 'sip line1 user name: 101 # Lobby\nsip line1 password: "a#b"\n'
        "sip line1 registrar ip: pbx.example.net\n",
    }
    result = await simulate("mitel", "6865i", mac, shelf.url)
    assert shelf.asked[:5] == ["security.tuz", "startup.tuz", "startup.cfg", "aastra.tuz", "aastra.cfg"]
    assert [(line.sip_user, line.secret) for line in result.lines] == [("101", "a#b")]
    assert result.is_ready, result.fault
    shelf.files["startup.tuz"] = "x"
    assert not (await simulate("mitel", "6865i", mac, shelf.url)).lines


@pytest.mark.skipif("avaya" not in HERE, reason="the profile is not installed")
async def test_an_avaya_reads_the_first_file_that_is_there_and_nothing_after_it(shelf):
    """P-21: GET lines of the upgrade file, $MACADDR filled in."""
    mac = mac_of("avaya")
    shelf.files = {
        "J100Supgrade.txt": "## all\nGET missing.txt\nGET $MACADDR.txt\nGET 46xxsettings.txt\n",
        f"{mac}.txt": 'SET FORCE_SIP_EXTENSION "101"\nSET DIALPLAN "911|933"\nSET SIPDOMAIN pbx\n',
        "46xxsettings.txt": 'SET FORCE_SIP_EXTENSION "999"\n',
    }
    result = await simulate("avaya", "J129", mac, shelf.url)
    assert shelf.asked == ["J100Supgrade.txt", "missing.txt", f"{mac}.txt"]
    assert [line.sip_user for line in result.lines] == ["101"]


@pytest.mark.skipif("algo" not in HERE, reason="the profile is not installed")
async def test_an_algo_throws_a_file_away_whose_checksum_is_another(shelf):
    """P-21: broken on its way, so asked for again at the next boot."""
    mac = mac_of("algo")
    name = f"algom{mac.upper()}.conf"
    shelf.files = {f"{name}.md5": "0" * 32, name: "sip.u1.user = 101\n"}
    flash = Memory()
    assert not (await simulate("algo", "8301", mac, shelf.url, memory=flash)).lines
    shelf.files[f"{name}.md5"] = hashlib.md5(shelf.files[name].encode(), usedforsecurity=False).hexdigest()
    assert (await simulate("algo", "8301", mac, shelf.url, memory=flash)).lines


@pytest.mark.skipif("panasonic" not in HERE, reason="the profile is not installed")
async def test_a_panasonic_throws_a_file_away_that_does_not_begin_with_the_format_s_own_comment(shelf):
    """P-21: the first line is no decoration."""
    mac = mac_of("panasonic")
    head = "# Panasonic SIP Phone Standard Format File #\r\n"
    shelf.files = {
        "KX-UT136.cfg": f'{head}CFG_STANDARD_FILE_PATH="{shelf.url}Config{{MAC}}.cfg"\r\n',
        f"Config{mac.upper()}.cfg": 'PHONE_NUMBER_1="101"\r\n',
    }
    assert not (await simulate("panasonic", "KX-UT136", mac, shelf.url)).lines
    shelf.files[f"Config{mac.upper()}.cfg"] = head + shelf.files[f"Config{mac.upper()}.cfg"]
    assert (await simulate("panasonic", "KX-UT136", mac, shelf.url)).lines
