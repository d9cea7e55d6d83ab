"""What fronts are told: every node and emergency number by name, and nothing strange gets into a file."""

import re
import subprocess
from pathlib import Path

import pytest
from lxml import etree

from engine import fronts, snippets
from engine.config import load
from engine.errors import Invalid
from engine.numbers import NORTH_AMERICA, PACKS, numbers_of
from engine.snippets import Peer, Site, render
from tests import peers, ports
from tests.factories import add_account, add_location, add_trunk

NODES = (Peer("192.0.2.10", 5060), Peer("node-b.example.com", 5061, "tls"))
CARRIERS = (Peer("198.51.100.1", 5060), Peer("[2001:db8::1]", 5060, "tcp"))


def site(**other: object) -> Site:
    values = {"nodes": NODES, "carriers": CARRIERS, "listen": Peer("192.0.2.1", 5060), "folder": "/etc/kamailio"}
    return Site(**values | {"numbers": NORTH_AMERICA} | other)


@pytest.mark.parametrize("name", sorted(snippets.FILES))
def test_every_snippet_names_each_node_carrier_and_emergency_number(name: str) -> None:
    """E-17: with the user's own addresses."""
    text = "\n".join(render(name, site()).values())
    for peer in NODES + CARRIERS:
        assert peer.host in text, peer
        assert str(peer.port) in text
    for number in ("911", "933", "9911"):
        assert number in text
    assert "{{" not in text
    assert "{%" not in text


@pytest.mark.parametrize("name", sorted(snippets.FILES))
@pytest.mark.parametrize(("country", "visitors", "sent"), [("GB", "911", "999"), ("US", "112", "911")])
def test_what_visitors_dial_comes_to_a_node_too(name: str, country: str, visitors: str, sent: str) -> None:
    """E-01, E-17: 911 dialled in London must not pass by the node as a call like any other."""
    pack = numbers_of(country)
    assert snippets._numbers_for((pack,))[visitors] == sent
    assert visitors in "\n".join(render(name, site(numbers=pack)).values())


def test_the_freeswitch_files_are_xml_with_the_carrier_last() -> None:
    """E-17: FreeSWITCH tries what is behind a bar when what is before it fails."""
    files = render("freeswitch", site())
    roots = {name: etree.fromstring(text.encode()) for name, text in files.items()}
    assert [gateway.get("name") for gateway in roots["callpoint_gateways.xml"].iter("gateway")] == [
        "callpoint-1", "callpoint-2", "callpoint-carrier-1", "callpoint-carrier-2",
    ]  # fmt: skip
    bridges = [
        action.get("data") or ""
        for action in roots["00_callpoint.xml"].iter("action")
        if action.get("application") == "bridge"
    ]
    assert [bridge.count("|") for bridge in bridges] == [3, 3]
    assert all(bridge.split("|")[-1].startswith("sofia/gateway/callpoint-carrier-2/") for bridge in bridges)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "to be included"])
def test_kamailio_itself_finds_no_fault_in_its_snippet(tmp_path: Path, whole: bool) -> None:
    """E-17: `kamailio -c` on the whole proxy, and on a minimal one that includes the part."""
    made = site(listen=Peer("127.0.0.1", ports.free_port()), folder=str(tmp_path), whole=whole, carriers=CARRIERS[:1])
    for name, text in render("kamailio", made).items():
        (tmp_path / name).write_text(text)
    config = tmp_path / "callpoint.cfg"
    if not whole:
        config = tmp_path / "own.cfg"
        config.write_text(
            f"listen=udp:{made.listen.host_port}\n"
            + "".join(line[2:] for line in (tmp_path / "callpoint.cfg").open() if line.startswith("# loadmodule "))
            + f'include_file "{tmp_path}/callpoint.cfg"\n'
            "request_route {\n  route(CALLPOINT);\n"
            "  if (has_totag() && loose_route()) { route(CALLPOINT_DIALOG); t_relay(); }\n}\n"
        )
    done = subprocess.run(
        [peers.command("kamailio"), "-c", "-f", str(config)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in done.stderr


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("192.0.2.10", Peer("192.0.2.10", 5060)),
        ("192.0.2.10:5080", Peer("192.0.2.10", 5080)),
        ("sip.example.com/tls", Peer("sip.example.com", 5061, "tls")),
        ("sip.example.com:5070/TCP", Peer("sip.example.com", 5070, "tcp")),
        ("[2001:db8::1]:5060", Peer("[2001:db8::1]", 5060)),
        ("2001:db8::1", Peer("[2001:db8::1]", 5060)),
    ],
)
def test_an_address_is_read_as_people_write_it(text: str, read: Peer) -> None:
    """E-17: HOST, HOST:PORT, HOST:PORT/transport."""
    assert Peer.of(text) == read


@pytest.mark.parametrize(
    "text",
    ["", "a b", 'x";exit', "host:99999", "host:sip", "host:5060/sctp", "host\n#!define", "-x", "$(id)", "{{ 1 }}"],
)
def test_what_could_be_read_as_configuration_is_no_address(text: str) -> None:
    """E-17: nothing gets into a file that its program could read as anything but an address."""
    with pytest.raises(Invalid, match="was expected"):
        Peer.of(text)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"nodes": ()}, "needs the address of a node"), ({"carriers": ()}, "needs a carrier")],
)
def test_a_front_without_a_node_or_without_a_way_out_is_refused(given: dict[str, object], said: str) -> None:
    """E-17: a front that could not fail open is none."""
    with pytest.raises(Invalid, match=said):
        render("asterisk", site(**given))


def test_an_unknown_snippet_is_answered_with_those_there_are() -> None:
    """E-17: the error lists them."""
    with pytest.raises(Invalid, match="asterisk, freepbx, freeswitch, kamailio"):
        render("opensips", site())


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: min(pack.countries))
def test_each_service_of_a_country_is_sent_its_own_number(pack) -> None:
    """E-17: who dials 112 in France is not put through to the ambulance, nor 999 in Britain to text relay."""
    asterisk = render("asterisk", site(numbers=pack))["extensions_callpoint.conf"]
    told = dict(re.findall(r"exten => (\S+),1,Set\(CALLPOINT_NUMBER=(\S+)\)", asterisk))
    assert told == {form: pack.number_for(form) for form in pack.emergency_forms | pack.test_forms | pack.also_reserved}

    dialplan = etree.fromstring(render("freeswitch", site(numbers=pack))["00_callpoint.xml"].encode())
    for form, number in told.items():
        bridges = [
            condition.find("action[@application='bridge']").get("data")
            for condition in dialplan.iter("condition")
            if re.fullmatch(condition.get("expression"), form)
        ]
        assert len(bridges) == 1
        hops = [hop.rpartition("gateway/")[2].split("/") for hop in bridges[0].split("|")]
        assert {sent for gateway, sent in hops if "carrier" in gateway} == {number}
        assert {sent for gateway, sent in hops if "carrier" not in gateway} == {"$1"}  # as dialed

    kamailio = render("kamailio", site(numbers=pack))["callpoint.cfg"]
    chosen = re.findall(r'if \(\$var\(cp_dialed\) =~ "(\S+)"\) \$avp\(cp_number\) = "(\S+)";', kamailio)
    for form, number in told.items():
        found = [sent for pattern, sent in chosen if re.fullmatch(pattern, form)]
        assert (found or [pack.primary]) == [number]


def test_kamailio_finds_no_fault_where_each_service_has_its_number(tmp_path: Path) -> None:
    """E-17: a test that no node takes rings nowhere, where no number is set aside for tests."""
    listen = Peer("127.0.0.1", ports.free_port())
    made = site(listen=listen, folder=str(tmp_path), whole=True, carriers=CARRIERS[:1], numbers=numbers_of("CH"))
    for name, text in render("kamailio", made).items():
        (tmp_path / name).write_text(text)
    config = tmp_path / "callpoint.cfg"
    assert 'if ($avp(cp_number) == "none") { t_reply(' in config.read_text()
    done = subprocess.run(
        [peers.command("kamailio"), "-c", "-f", str(config)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in done.stderr


@pytest.mark.parametrize("name", sorted(snippets.FILES))
def test_a_carrier_that_is_found_by_srv_is_given_no_port(name: str) -> None:
    """E-17: a trunk's port 0 means SRV; ":0" would be a port nobody listens on."""
    carrier = Peer("sip.carrier.example", 0)
    text = "\n".join(render(name, site(carriers=(carrier,))).values())
    assert "sip.carrier.example" in text
    assert not re.search(r"sip\.carrier\.example(:0| +(SIP Server )?Port +0)", text)


@pytest.mark.parametrize(
    ("name", "sip", "node"),
    [
        ("kamailio", {"UDP": "192.0.2.9:5060,[2001:db8::9]:5060"}, Peer("192.0.2.9", 5060)),
        ("kamailio", {"ADVERTISE": "198.51.100.9, [2001:db8::9]:5070"}, Peer("198.51.100.9", 5060)),
        ("kamailio", {"ADVERTISE": "[2001:db8::9]", "UDP": "[::]:5080"}, Peer("[2001:db8::9]", 5080)),
        ("asterisk", {"UDP": "192.0.2.9:5060", "TCP": "192.0.2.9:5070"}, Peer("192.0.2.9", 5070, "tcp")),
        ("freeswitch", {"UDP": "", "TCP": "192.0.2.9:5070"}, Peer("192.0.2.9", 5070, "tcp")),
    ],
)
def test_this_node_is_told_to_the_front_as_it_listens(name: str, sip: dict[str, str], node: Peer) -> None:
    """E-17: with the user's own addresses, whatever their form."""
    config = load(None, {f"CALLPOINT_SIP__{key}": value for key, value in sip.items()})
    assert fronts._own(name, config, CARRIERS) == (node,)


def test_a_front_that_needs_a_connection_is_not_sent_to_a_closed_port() -> None:
    """E-17: it would find every node dead, and no 911 call would have a location."""
    config = load(None, {"CALLPOINT_SIP__TCP": ""})
    with pytest.raises(Invalid, match="tcp"):
        fronts._own("asterisk", config, CARRIERS)


async def test_the_numbers_of_every_country_with_a_location_go_to_the_nodes(database) -> None:
    """E-01, E-17: 999 dialled in the London office must not pass by the node as a call like any other."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        await add_location(session, account)
        await add_location(session, account, name="London", civic_address={"country": "GB", "A3": "London"})
        await add_trunk(session, account)
    async with database.sessions() as session:
        wish = fronts.Wish("asterisk", account.id, nodes=("192.0.2.10",))
        text = (await fronts.files_of(session, load(None, {}), wish))[0]["extensions_callpoint.conf"]
    told = dict(re.findall(r"exten => (\S+),1,Set\(CALLPOINT_NUMBER=(\S+)\)", text))
    assert [told.get(form) for form in ("911", "9911", "933", "999", "+44999", "112")] == [
        "911", "911", "933", "999", "999", "112",
    ]  # fmt: skip
