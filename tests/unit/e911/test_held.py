"""Whose location is told to whom: the asker's own, anybody's to the PBX, nobody's to a stranger."""

import asyncio
import datetime as dt
from types import SimpleNamespace

import pytest

from engine.audit.events import Event
from engine.audit.record import SYSTEM, open_audited, record
from engine.db import utc_now
from engine.e911 import held_store, references, snapshot, store
from engine.e911.held import Lis
from engine.e911.held_xml import Code, Kind, NoLocation, read_request
from engine.e911.location import Source
from engine.errors import DatabaseAway
from tests.factories import (
    add_account,
    add_emergency_call,
    add_line,
    add_location,
    add_network,
    add_pbx,
    add_phone,
    add_sighting,
)
from tests.unit.admin.adminport import away
from tests.unit.e911.held_requests import civic, location_request, measured

MAC, OTHER_MAC = "0015654aa937", "0004f2aabbcc"
BARN = {"country": "US", "A1": "NY", "A3": "Albany", "RD": "Barn", "STS": "Rd", "HNO": "7"}
LAB = {"country": "US", "A1": "NY", "A3": "Albany", "RD": "Lab", "STS": "St", "HNO": "1"}
SHOP = {"country": "US", "A1": "NJ", "A3": "Newark", "RD": "Shop", "STS": "Ln", "HNO": "9"}
HELD_URL = "https://phones.example.net/held"


@pytest.fixture
async def site(database, keys, tmp_path):
    """Two accounts: Acme with a PBX, two phones and its networks; Other with a phone."""
    async with database.sessions.begin() as session:
        acme, other = await add_account(session), await add_account(session, name="Other")
        geo = {"latitude": 42.65, "longitude": -73.75}
        hq = await add_location(session, acme, geo=geo)
        barn = await add_location(session, acme, name="Barn", civic_address=BARN)
        lab = await add_location(session, acme, name="Lab", civic_address=LAB)
        shop = await add_location(session, other, name="Shop", civic_address=SHOP)
        acme.default_location_id = hq.id
        record(session, SYSTEM, Event.ACCOUNT_UPDATE, acme)
        await add_network(session, lab, "10.7.0.0/16")
        await add_network(session, barn, "sw-barn/gi1/0/3", kind="switch_port")
        pbx = await add_pbx(session, acme, sources=["192.0.2.10/32"])
        line = await add_line(session, acme, "101", callback_number="+15185550101", pbx_id=pbx.id)
        lone = await add_line(session, acme, "102", pbx_id=pbx.id, location_id=barn.id)
        phone = await add_phone(
            session, acme, line, mac=MAC, location_id=barn.id, last_ip="198.51.100.7", last_fetch_at=utc_now()
        )
        far = await add_phone(
            session, other, mac=OTHER_MAC, location_id=shop.id, last_ip="198.51.100.9", last_fetch_at=utc_now()
        )
    seen = []

    def sighted(account_id, sighting):
        seen.append((account_id, sighting))

    lis = Lis(database, keys, tmp_path / "snapshot", HELD_URL, sighted)
    return SimpleNamespace(
        lis=lis, seen=seen, acme=acme, other=other, hq=hq, barn=barn, lab=lab, phone=phone, far=far, pbx=pbx,
        line=line, lone=lone, database=database, keys=keys, folder=tmp_path / "snapshot",
    )  # fmt: skip


async def locate(site, asker: str, request: bytes = b"", now: dt.datetime | None = None):
    return await site.lis.locate(asker, read_request(request or location_request()), now or utc_now())


async def refused(site, asker: str, request: bytes = b"") -> NoLocation:
    with pytest.raises(NoLocation) as caught:
        await locate(site, asker, request)
    return caught.value


async def test_a_phone_that_asks_for_itself_is_known_by_the_address_its_token_was_seen_at(site):
    """E-13: RFC 5985: the source address of the request is the identity."""
    located = await locate(site, "198.51.100.7")
    assert (located.location.id, located.source, located.phone_id) == (site.barn.id, Source.PHONE, site.phone.id)


async def test_a_phone_may_name_its_mac_beside_its_own_address(site):
    """E-13: as the Poly client does."""
    device = '<mac>00-15-65-4A-A9-37</mac><ip v="4">198.51.100.7</ip>'
    assert (await locate(site, "198.51.100.7", location_request(device=device))).phone_id == site.phone.id


async def test_the_mac_tells_phones_behind_one_address_apart(site):
    async with site.database.sessions.begin() as session:
        twin = await add_phone(
            session, site.acme, mac="0015654aa999", location_id=site.lab.id, last_ip="198.51.100.7",
            last_fetch_at=utc_now(),
        )  # fmt: skip
    assert (await refused(site, "198.51.100.7")).code is Code.LOCATION_UNKNOWN
    located = await locate(site, "198.51.100.7", location_request(device="<mac>00-15-65-4A-A9-99</mac>"))
    assert located.phone_id == twin.id
    by_line = await locate(site, "198.51.100.7", location_request(device="<uri>sip:101@pbx</uri>"))
    assert by_line.phone_id == site.phone.id


async def test_a_stranger_learns_nothing_by_naming_somebody_elses_mac(site):
    """E-13: a claimed identity counts only where that phone was seen."""
    named = location_request(device="<mac>00-15-65-4A-A9-37</mac>")
    unknown = location_request(device="<mac>00-15-65-00-00-00</mac>")
    errors = [await refused(site, "203.0.113.66", request) for request in (named, unknown, b"")]
    assert {(error.code, error.detail) for error in errors} == {
        (Code.LOCATION_UNKNOWN, "No location is known for 203.0.113.66.")
    }


async def test_a_stranger_that_asks_for_another_address_is_refused_and_told_to_the_auditor(site):
    error = await refused(site, "203.0.113.66", location_request(device='<ip v="4">198.51.100.7</ip>'))
    assert error.code is Code.BAD_IDENTIFIER
    assert error.is_denied


async def test_a_phone_of_one_account_cannot_pose_as_a_phone_of_another(site):
    located = await locate(site, "198.51.100.9", location_request(device="<mac>00-04-F2-AA-BB-CC</mac>"))
    assert located.account_id == site.other.id
    error = await refused(site, "198.51.100.9", location_request(device="<mac>00-15-65-4A-A9-37</mac>"))
    assert error.code is Code.LOCATION_UNKNOWN


async def test_an_address_that_a_phone_had_long_ago_is_nobodys(site):
    later = utc_now() + dt.timedelta(days=8)
    with pytest.raises(NoLocation):
        await locate(site, "198.51.100.7", now=later)


async def test_any_device_in_a_known_subnet_gets_what_the_subnet_says(site):
    located = await locate(site, "10.7.3.4")
    assert (located.location.id, located.source, located.phone_id) == (site.lab.id, Source.SUBNET, None)
    mapped = await locate(site, "::ffff:10.7.3.4")
    assert mapped.location.id == site.lab.id


async def test_ipv6_subnets_and_sources_are_looked_up_as_ipv4_is(site):
    """E-05, E-13: both families, the longest prefix."""
    async with site.database.sessions.begin() as session:
        await add_network(session, site.lab, "2001:db8:7::/48")
        await add_network(session, site.barn, "2001:db8:7:1::/64")
        await add_pbx(session, site.acme, name="Six", sources=["2001:db8::10/128"])
    assert (await locate(site, "2001:db8:7:2::5")).location.id == site.lab.id
    assert (await locate(site, "2001:DB8:7:1::5")).location.id == site.barn.id
    request = location_request(device='<ip v="6">2001:db8:7:1::9</ip>')
    assert (await locate(site, "2001:db8::10", request)).location.id == site.barn.id
    assert (await refused(site, "2001:db8:7:1::5", request)).code is Code.BAD_IDENTIFIER


async def test_a_device_in_no_subnet_never_gets_an_accounts_default(site):
    assert (await refused(site, "10.8.3.4")).code is Code.LOCATION_UNKNOWN


async def test_a_private_range_of_two_accounts_places_nobody(site):
    """The same 10.7.0.0/16 behind two routers: a guess would send help to the wrong town."""
    async with site.database.sessions.begin() as session:
        await add_network(session, await add_location(session, site.other, name="Depot"), "10.0.0.0/8")
    assert (await refused(site, "10.7.3.4")).code is Code.LOCATION_UNKNOWN


async def test_a_pbx_may_ask_for_its_own_phones_by_any_identifier(site):
    """E-13: RFC 6155 on behalf of: MAC, SIP URI, telephone number, address."""
    for device, location in (
        ("<mac>00-15-65-4A-A9-37</mac>", site.barn),
        ("<uri>sip:101@pbx.example.com</uri>", site.barn),
        ("<uri>sips:101@pbx.example.com;transport=tls</uri>", site.barn),
        ("<uri>tel:+15185550101</uri>", site.barn),
        ("<uri>sip:102@pbx.example.com</uri>", site.barn),
        ('<ip v="4">10.7.1.1</ip>', site.lab),
        ('<ip v="4">10.7.1.1</ip><uri>sip:101@pbx</uri>', site.lab),
    ):
        located = await locate(site, "192.0.2.10", location_request(device=device))
        assert located.location.id == location.id, device
    assert located.entity == "pres:101@pbx"


async def test_a_pbx_gets_for_an_unknown_caller_what_its_911_call_would_convey(site):
    """E-03: the account's default, never nothing."""
    located = await locate(site, "192.0.2.10", location_request(device="<uri>sip:999@pbx</uri>"))
    assert (located.location.id, located.source) == (site.hq.id, Source.ACCOUNT_DEFAULT)


async def test_a_pbx_learns_nothing_of_another_accounts_phones(site):
    located = await locate(site, "192.0.2.10", location_request(device="<mac>00-04-F2-AA-BB-CC</mac>"))
    assert (located.account_id, located.source) == (site.acme.id, Source.ACCOUNT_DEFAULT)
    own = await locate(site, "192.0.2.10", location_request(device='<ip v="4">198.51.100.9</ip>'))
    assert own.account_id == site.acme.id


async def test_a_pbx_that_must_prove_itself_is_not_believed_by_its_address_alone(site):
    async with site.database.sessions.begin() as session:
        await add_pbx(session, site.acme, name="Hosted", sources=["192.0.2.77/32"], auth_user="acme")
    error = await refused(site, "192.0.2.77", location_request(device='<ip v="4">198.51.100.7</ip>'))
    assert error.code is Code.BAD_IDENTIFIER


@pytest.mark.parametrize("user", ["%ff%fe", "%00", "%ed%a0%80", "1%0A"])
async def test_a_name_that_no_line_can_have_is_nobodys(site, user):
    """E-13: what is no text at all must not reach the database, which would fail on it."""
    request = location_request(device=f"<uri>sip:{user}@pbx.example.com</uri>")
    assert (await locate(site, "192.0.2.10", request)).line_id is None
    assert (await refused(site, "192.0.2.99", request)).code is Code.LOCATION_UNKNOWN


async def test_identifiers_that_nobody_looks_up_are_bad_identifiers(site):
    for asker in ("192.0.2.10", "198.51.100.7"):
        error = await refused(site, asker, location_request(device="<imsi>310150123456789</imsi>"))
        assert error.code is Code.BAD_IDENTIFIER


async def test_a_measurement_of_the_phone_itself_counts_at_once_and_is_kept(site):
    """E-13: RFC 7105: the switch port the phone reads from LLDP beats the record of the phone."""
    async with site.database.sessions.begin() as session:
        await add_network(session, site.lab, "sw-lab/gi1/0/7", kind="switch_port")
    more = measured(chassis=b"SW-Lab".hex(), port=b"Gi1/0/7".hex())
    located = await locate(site, "198.51.100.7", location_request(more=more))
    assert (located.location.id, located.source) == (site.lab.id, Source.SWITCH_PORT)
    ((account_id, sighting),) = site.seen
    assert (account_id, sighting.phone_id) == (site.acme.id, site.phone.id)
    assert (sighting.chassis, sighting.port, sighting.source) == ("sw-lab", "gi1/0/7", "held")


async def test_a_dhcp_relay_speaks_for_a_phone_whose_own_address_no_network_holds(site):
    """E-13: RFC 7105 §5.2; the phone's own address comes first, and a relay alone is no sighting."""
    more = measured(giaddr="10.7.0.1")
    located = await locate(site, "198.51.100.7", location_request(more=more))
    assert (located.location.id, located.source) == (site.lab.id, Source.SUBNET)
    async with site.database.sessions.begin() as session:
        await add_network(session, site.hq, "198.51.100.0/24")
    assert (await locate(site, "198.51.100.7", location_request(more=more))).location.id == site.hq.id
    assert (await refused(site, "203.0.113.66", location_request(more=more))).code is Code.LOCATION_UNKNOWN
    assert site.seen == []


async def test_nobody_can_move_a_phone_to_another_switch_port_from_afar(site):
    """E-13: a measurement beside a claimed MAC is evidence only from that phone's own address or its PBX."""
    request = location_request(
        device="<mac>00-15-65-4A-A9-37</mac>", more=measured(chassis=b"SW-Barn".hex(), port=b"Gi1/0/3".hex())
    )
    assert (await refused(site, "203.0.113.66", request)).code is Code.LOCATION_UNKNOWN
    assert (await locate(site, "10.7.3.4", request)).location.id == site.lab.id
    assert site.seen == []
    assert (await locate(site, "192.0.2.10", request)).source is Source.SWITCH_PORT
    assert len(site.seen) == 1


async def test_an_earlier_sighting_places_the_phone_and_proves_its_address(site):
    async with site.database.sessions.begin() as session:
        await add_sighting(session, site.far, chassis="sw-barn", port="gi1/0/3", ip="10.9.9.9")
        await add_network(session, await add_location(session, site.other, name="Dock"), "sw-barn", kind="switch")
    located = await locate(site, "10.9.9.9", location_request(device="<mac>00-04-F2-AA-BB-CC</mac>"))
    assert (located.account_id, located.source) == (site.other.id, Source.SWITCH)


async def test_a_client_in_a_hurry_is_told_that_its_time_ran_out(site):
    """E-13: RFC 5985 §5.1, §6.3; and an impatient one gets its answer all the same."""

    class Stuck:
        async def __aenter__(self):
            await asyncio.sleep(30)

        async def __aexit__(self, *_: object):
            return None

    lis = Lis(SimpleNamespace(sessions=Stuck), site.keys, site.folder, HELD_URL, lambda *_: None)
    with pytest.raises(NoLocation) as caught:
        await lis.locate("198.51.100.7", read_request(location_request(response_time="300")), utc_now())
    assert caught.value.code is Code.TIMEOUT
    assert (await locate(site, "198.51.100.7", location_request(response_time="1"))).phone_id == site.phone.id


# --- forms of the answer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "exact", "expected"),
    [
        ("any", "", {Kind.CIVIC, Kind.GEODETIC, Kind.URI}),
        ("civic", "true", {Kind.CIVIC}),
        ("geodetic", "true", {Kind.GEODETIC}),
        ("geodetic", "false", {Kind.GEODETIC}),
        ("locationURI", "true", {Kind.URI}),
        ("civic locationURI", "", {Kind.CIVIC, Kind.URI}),
    ],
)
async def test_exactly_the_forms_that_are_asked_for_are_given(site, kinds, exact, expected):
    request = read_request(location_request(kinds, exact=exact, device="<uri>sip:999@pbx</uri>"))
    answer = site.lis.answer(await site.lis.locate("192.0.2.10", request, utc_now()), request, utc_now())
    presence = answer.presence or b""
    given = {Kind.CIVIC} if b"civicAddress" in presence else set()
    given |= {Kind.GEODETIC} if b"gml:Point" in presence else set()
    given |= {Kind.URI} if answer.uri else set()
    assert given == expected


async def test_a_form_that_is_not_there_is_replaced_unless_it_was_asked_for_exactly(site):
    request = read_request(location_request("geodetic", device="<uri>sip:101@pbx</uri>"))
    located = await site.lis.locate("192.0.2.10", request, utc_now())
    assert civic(site.lis.answer(located, request, utc_now()).presence) == BARN
    exactly = read_request(location_request("geodetic civic", exact="true"))
    with pytest.raises(NoLocation) as caught:
        site.lis.answer(located, exactly, utc_now())
    assert caught.value.code is Code.CANNOT_PROVIDE_LI_TYPE


async def test_without_a_public_address_no_location_uri_is_promised(site):
    lis = Lis(site.database, site.keys, site.folder, "", site.lis._sighted)
    located = await lis.locate("198.51.100.7", read_request(location_request()), utc_now())
    answer = lis.answer(located, read_request(location_request("locationURI")), utc_now())
    assert (answer.uri, civic(answer.presence)) == (None, BARN)
    with pytest.raises(NoLocation):
        lis.answer(located, read_request(location_request("locationURI", exact="true")), utc_now())


# --- references -------------------------------------------------------------------------------------------------------


async def add_recorded_call(site, location: dict | None) -> str:
    async with site.database.sessions.begin() as session:
        call = await add_emergency_call(session, site.acme, location=location, location_source="phone")
    return call.id


def reference_to(
    site, *, call_id: str = "", location_id: str | None = None, target_id: str = ""
) -> references.Reference:
    text = references.mint(
        site.keys.subkey(references.PURPOSE), account_id=site.acme.id, location_id=location_id or site.barn.id,
        call_id=call_id, expires=utc_now() + references.LIFETIME, target_id=target_id,
    )  # fmt: skip
    opened = site.lis.opened(text, utc_now())
    assert opened is not None
    return opened


async def move_barn(site) -> None:
    async with site.database.sessions.begin() as session:
        barn = await store.location_by_id(session, site.acme.id, site.barn.id)
        barn.civic_address = BARN | {"HNO": "8"}
        record(session, SYSTEM, Event.LOCATION_UPDATE, barn)


async def test_a_calls_reference_gives_what_that_call_conveyed_whatever_was_edited_since(site):
    """E-13: what the PSAP was told and what it fetches are one address."""
    conveyed = {"id": site.barn.id, "name": "Barn", "civic_address": BARN, "geo": None}
    call_id = await add_recorded_call(site, conveyed)
    await move_barn(site)
    located = await site.lis.dereference(reference_to(site, call_id=call_id), utc_now())
    assert located.location.civic_address.as_dict() == BARN


async def test_a_reference_of_a_call_that_is_not_recorded_yet_gives_the_location_as_it_is(site):
    await move_barn(site)
    for call_id in ("call_not_recorded_yet", await add_recorded_call(site, None)):
        located = await site.lis.dereference(reference_to(site, call_id=call_id), utc_now())
        assert located.location.civic_address.get("HNO") == "8"


async def test_a_phones_reference_follows_the_phone(site):
    """RFC 5808 §3.2: a location URI names the Target, not a place."""
    request = read_request(location_request("locationURI"))
    uri = site.lis.answer(await site.lis.locate("198.51.100.7", request, utc_now()), request, utc_now()).uri
    async with site.database.sessions.begin() as session:
        await add_sighting(session, site.phone, ip="10.7.5.5")
    opened = site.lis.opened(uri.removeprefix(f"{HELD_URL}/"), utc_now())
    assert (await site.lis.dereference(opened, utc_now())).location.id == site.lab.id


async def test_a_reference_to_what_is_gone_gives_nothing(site):
    assert await site.lis.dereference(reference_to(site, location_id="location_gone"), utc_now()) is None


async def test_a_reference_never_reaches_into_another_account(site):
    async with site.database.sessions() as session:
        assert await held_store.current_location(session, site.other.id, site.barn.id) is None
        assert await held_store.conveyed_location(session, site.other.id, "call_1") is None


async def test_a_reference_is_answered_from_the_snapshot_while_the_database_is_away(site):
    async with site.database.sessions() as session:
        data = await store.account_snapshot(session, site.acme.id)
    snapshot.save(site.folder, data, site.keys)
    held = reference_to(site)
    async with away(site.database):
        located = await site.lis.dereference(held, utc_now())
        assert located.location.civic_address.as_dict() == BARN
        with pytest.raises(DatabaseAway):
            await site.lis.dereference(reference_to(site, location_id="location_new"), utc_now())
        with pytest.raises(DatabaseAway):
            await locate(site, "198.51.100.7")


async def test_a_pbx_is_answered_from_the_snapshot_while_the_database_is_away(site):
    """E-08, E-13: a Kamailio in front goes on conveying locations."""
    request = location_request(device="<uri>sip:101@pbx.example.com</uri>")
    assert (await locate(site, "192.0.2.10", request)).location.id == site.barn.id
    async with site.database.sessions() as session:
        snapshot.save(site.folder, await store.account_snapshot(session, site.acme.id), site.keys)
    async with away(site.database):
        assert await site.lis.is_pbx("192.0.2.10")
        located = await locate(site, "192.0.2.10", request)
        assert (located.location.id, located.phone_id) == (site.barn.id, site.phone.id)
        with pytest.raises(DatabaseAway):
            await locate(site, "203.0.113.66", request)


@pytest.mark.enable_socket
async def test_a_database_that_hangs_is_away_for_whoever_asks(keys, tmp_path):
    """E-13: a server that takes connections and says nothing holds nobody up for longer than a moment."""
    pytest.importorskip("asyncpg", reason="PostgreSQL's driver is absent: pip install asyncpg")

    async def says_nothing(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(says_nothing, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    database = open_audited(f"postgresql+asyncpg://callpoint@{host}:{port}/callpoint", keys)
    lis = Lis(database, keys, tmp_path / "snapshot", HELD_URL, lambda *_: None)
    try:
        async with asyncio.timeout(30):
            with pytest.raises(DatabaseAway):
                await lis.is_pbx("192.0.2.10")
    finally:
        await database.close()
        server.close()
        await server.wait_closed()
