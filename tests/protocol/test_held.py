"""HELD over a real socket: askers at real addresses, errors in 200, references, one 404, a log without references."""

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import ip_network

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import select

from engine import config as configuration
from engine.audit.events import Event
from engine.db import Database, utc_now
from engine.e911.held_http import BURST_PER_ASKER, AskerLimit
from engine.e911.held_sightings import MeasuredSightings
from engine.held_server import serve_held
from engine.models import Account, AuditEntry, Phone, ProvisioningEvent, Sighting
from engine.provisioning.http import PhonesPort, make_phones_port
from tests.factories import add_account, add_line, add_location, add_network, add_pbx, add_phone
from tests.unit.admin.adminport import away
from tests.unit.e911.held_requests import checked, civic, error_code, location_request, measured

PHONE_IP, PBX_IP, STRANGER_IP, SUBNET_IP = "127.0.0.41", "127.0.0.42", "127.0.0.43", "127.0.7.1"
PROXY_IP = "127.0.0.44"  # a reverse proxy in front of the port
PUBLIC_URL = "http://phones.example.net"
BARN = {"country": "US", "A1": "NY", "A3": "Albany", "RD": "Barn", "STS": "Rd", "HNO": "7"}
HELD_TYPE = {"Content-Type": "application/held+xml;charset=utf-8"}
PREFERS_PIDF = {"Accept": "application/pidf+xml,application/held+xml;q=0.5"}  # as Kamailio 5.6.3 writes it


@dataclass(frozen=True, slots=True)
class Site:
    port: PhonesPort
    sightings: MeasuredSightings
    database: Database
    account: Account
    phone: Phone
    base: str

    async def ask(self, body: bytes | None, *, ip: str = PHONE_IP, path: str = "/held", method: str = "POST", **more):
        """(status, body, headers) of one request from that address."""
        headers = (HELD_TYPE if body is not None else {}) | more.pop("headers", {})
        connector = aiohttp.TCPConnector(local_addr=(ip, 0))
        async with (
            aiohttp.ClientSession(connector=connector) as client,
            client.request(method, self.base + path, data=body, headers=headers, **more) as answer,
        ):
            return answer.status, await answer.read(), answer.headers

    async def reference(self) -> str:
        """The path of a fresh location URI of the phone."""
        _, body, _ = await self.ask(location_request("locationURI"))
        (uri,) = [each.text for each in checked(body).iter("{*}locationURI")]
        assert uri.startswith(f"{PUBLIC_URL}/held/")
        return uri.removeprefix(PUBLIC_URL)


@pytest.fixture
async def site(database, keys, tmp_path):
    async with database.sessions.begin() as session:
        account = await add_account(session)
        hq = await add_location(session, account, geo={"latitude": 42.65, "longitude": -73.75})
        barn = await add_location(session, account, name="Barn", civic_address=BARN)
        await add_network(session, hq, "127.0.7.0/24")
        await add_network(session, hq, "sw-hq/7", kind="switch_port")
        pbx = await add_pbx(session, account, sources=[f"{PBX_IP}/32"])
        line = await add_line(session, account, "4012", pbx_id=pbx.id)
        phone = await add_phone(
            session, account, line, location_id=barn.id, last_ip=PHONE_IP, last_fetch_at=utc_now()
        )  # fmt: skip
    section = configuration.Provisioning(public_url=PUBLIC_URL, trusted_proxies=(ip_network(f"{PROXY_IP}/32"),))
    port = make_phones_port(section, keys, database)
    sightings = serve_held(port, database, keys, tmp_path / "snapshot")
    runner = port.runner()
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener).start()
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield Site(port, sightings, database, account, phone, base)
    await runner.cleanup()
    await port.close()


async def test_a_phone_learns_where_it_is(site, cases):
    """E-13: RFC 5985 from the phone's own address: both forms and a location URI, in schema order."""
    status, body, headers = await site.ask(location_request("any", device="<mac>00-15-65-4A-A9-37</mac>"))
    assert status == 200
    assert headers["Content-Type"] == "application/held+xml"
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers
    root = checked(body)
    assert civic(body) == BARN
    assert [each.tag.rpartition("}")[2] for each in root] == ["locationUriSet", "presence"]


async def test_a_pbx_asks_for_its_phones_and_a_stranger_learns_nothing(site, cases):
    """E-13: third-party identities are for the PBX alone."""
    request = location_request("civic", device="<uri>sip:4012@pbx.example.com</uri>")
    assert civic((await site.ask(request, ip=PBX_IP))[1]) == BARN
    assert error_code((await site.ask(request, ip=STRANGER_IP))[1]) == "locationUnknown"
    other = location_request(device=f'<ip v="4">{PHONE_IP}</ip>')
    assert error_code((await site.ask(other, ip=STRANGER_IP))[1]) == "badIdentifier"


async def test_behind_a_reverse_proxy_the_phone_counts_and_the_proxy_has_no_right_of_its_own(site, cases):
    """E-13: X-Forwarded-For of a trusted proxy says who asks; one that forgets it opens nothing."""
    own = await site.ask(
        location_request("civic"), ip=PROXY_IP, headers={"X-Forwarded-For": f"203.0.113.9, {PHONE_IP}"}
    )
    assert civic(own[1]) == BARN
    forged = await site.ask(location_request("civic"), ip=STRANGER_IP, headers={"X-Forwarded-For": PHONE_IP})
    assert error_code(forged[1]) == "locationUnknown"
    request = location_request("civic", device="<uri>sip:4012@pbx.example.com</uri>")
    assert error_code((await site.ask(request, ip=PROXY_IP))[1]) == "locationUnknown"


LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (at, b"&l%d;" % (at - 1) * 10) for at in range(1, 10))
BOMBS = {
    "a billion laughs": b'<!DOCTYPE l [<!ENTITY l0 "ha">' + LAUGHS + b"]><locationRequest>&l9;</locationRequest>",
    "a file of ours": b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><locationRequest>&f;</locationRequest>',
    "a depth of 5,000": b"<a>" * 5_000 + b"</a>" * 5_000,
    "4,000 attributes": b"<a " + b" ".join(b'a%d="%d"' % (at, at) for at in range(4_000)) + b"/>",
    "half an element": location_request()[:-20],
    "octets": bytes(range(256)) * 200,
    "UTF-16 in disguise": location_request().decode().encode("utf-16"),
    "nothing": b"",
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_body_made_to_do_harm_is_an_error_of_held_and_the_next_phone_is_answered(site, cases, bomb):
    """E-13, E-18: nothing of ours is read out, nothing grows, nothing hangs."""
    status, answer, _ = await site.ask(BOMBS[bomb])
    assert (status, error_code(answer)) in {(200, "xmlError"), (200, "unsupportedMessage"), (200, "requestError")}
    assert len(answer) < 2_000
    assert b"root:" not in answer
    assert civic((await site.ask(location_request("civic")))[1]) == BARN


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<!DOCTYPE a><locationRequest/>", "xmlError"),
        (b"<x xmlns='urn:example'/>", "unsupportedMessage"),
        (location_request("street"), "requestError"),
        (location_request("geodetic", exact="true"), "cannotProvideLiType"),
        (location_request(device="<imsi>310150123456789</imsi>"), "badIdentifier"),
    ],
)
async def test_errors_of_held_ride_in_a_200(site, cases, body, code):
    """E-13: RFC 5985 §6.4, §8."""
    status, answer, headers = await site.ask(body)
    assert (status, error_code(answer)) == (200, code)
    assert headers["Content-Type"] == "application/held+xml"


async def test_a_location_uri_is_fetched_by_get_and_by_post(site, cases):
    """E-13: RFC 6753: whoever holds the URI gets the location, from any address."""
    path = await site.reference()
    status, body, headers = await site.ask(None, ip=STRANGER_IP, path=path, method="GET")
    assert (status, headers["Content-Type"], civic(body)) == (200, "application/held+xml", BARN)
    assert [each.tag.rpartition("}")[2] for each in checked(body)] == ["presence"]  # no URI for a URI
    status, body, _ = await site.ask(location_request("civic", exact="true"), ip=STRANGER_IP, path=path)
    assert (status, civic(body)) == (200, BARN)
    _, body, _ = await site.ask(location_request("locationURI", exact="true"), ip=STRANGER_IP, path=path)
    assert error_code(body) == "cannotProvideLiType"


async def test_a_client_that_prefers_pidf_gets_the_presence_alone(site, cases):
    """E-13: by Accept (RFC 6753 §4.2) or by ?presence; an error can then not be taken for a location."""
    path = await site.reference()
    for kwargs in (
        {"body": None, "path": path, "method": "GET", "headers": {"Accept": "application/pidf+xml"}},
        {"body": location_request("civic geodetic"), "path": path, "headers": PREFERS_PIDF},
        {"body": None, "path": f"{path}?presence", "method": "GET"},
        {"body": location_request(), "path": "/held?presence"},
    ):
        status, body, headers = await site.ask(**kwargs)
        assert (status, headers["Content-Type"], civic(body)) == (200, "application/pidf+xml", BARN), kwargs
        assert body.startswith(b"<?xml")
        assert b"\n" not in body  # Kamailio reads the first line alone
        assert b"<presence" in body
        assert b"locationResponse" not in body
    status, body, _ = await site.ask(location_request(), ip=STRANGER_IP, path="/held?presence")
    assert (status, error_code(body)) == (404, "locationUnknown")
    for accept in ("*/*", "application/held+xml", "application/held+xml, application/pidf+xml", "text/x;q=zz"):
        _, body, headers = await site.ask(None, path=path, method="GET", headers={"Accept": accept})
        assert headers["Content-Type"] == "application/held+xml", accept


async def test_every_wrong_reference_is_the_one_404(site):
    """E-13: byte for byte the same as any other path that is not there."""
    path = await site.reference()
    wrong = [path[:-1], path + "A", "/held/", "/held/" + "A" * 120, "/held/x/y", path + "/", "/heldx", "/held/%00"]
    answers = [await site.ask(None, path=each, method="GET") for each in wrong]
    answers += [await site.ask(location_request(), path=wrong[0])]
    answers += [await site.ask(None, path="/held", method=method) for method in ("GET", "PUT", "DELETE")]
    answers += [await site.ask(None, path=path, method="DELETE"), await site.ask(None, path="/nothing", method="GET")]
    seen = set()
    for status, body, headers in answers:
        seen.add((status, body, tuple(sorted((k, v) for k, v in headers.items() if k != "Date"))))
    assert len(seen) == 1, seen
    assert next(iter(seen))[0] == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (location_request(), {"Content-Type": "text/plain"}, 415),
        (b"x" * 70_000, {}, 413),
    ],
)
async def test_bodies_that_are_no_held_are_refused_unread(site, body, headers, status):
    assert (await site.ask(body, headers=headers))[0] == status


async def test_what_was_asked_is_in_the_fetch_log_and_no_reference_is(site):
    """E-13: each answer is noted; a denied one is in the audit log too."""
    path = await site.reference()
    await site.ask(None, ip=STRANGER_IP, path=path, method="GET")
    await site.ask(None, ip=STRANGER_IP, path=path + "A", method="GET")
    await site.ask(location_request(device=f'<ip v="4">{PHONE_IP}</ip>'), ip=STRANGER_IP)
    await site.port.log.flush()
    async with site.database.sessions() as session:
        rows = list(await session.scalars(select(ProvisioningEvent).order_by(ProvisioningEvent.id)))
        audited = list(
            await session.scalars(select(AuditEntry).where(AuditEntry.event == Event.LOCATION_REQUEST_DENIED))
        )
        phone = await session.get(Phone, site.phone.id)
    found = {(row.kind, row.file, row.ip, row.status_code, row.reason, row.phone_id) for row in rows}
    assert found == {
        ("held", "location request", PHONE_IP, 200, None, site.phone.id),
        ("held", "location reference", STRANGER_IP, 200, None, site.phone.id),
        ("held_denied", "location reference", STRANGER_IP, 404, "reference", None),
        ("held_denied", "location request", STRANGER_IP, 200, "badIdentifier", None),
    }
    assert {entry.ip for entry in audited} == {STRANGER_IP}
    assert len(audited) == 2
    texts = [str(vars(row)) for row in rows] + [entry.entry for entry in audited]
    assert not any(path.removeprefix("/held/")[:40] in text for text in texts)
    assert phone.status == "never_booted"  # asking where it is, is not fetching a configuration


async def test_a_measurement_is_kept_as_a_sighting_and_places_the_phone_from_then_on(site):
    """E-13: RFC 7105 over HTTP into the table of sightings."""
    more = measured(chassis=b"SW-HQ".hex(), port=b"7".hex())
    _, body, _ = await site.ask(location_request("civic", more=more))
    assert civic(body)["RD"] == "Washington"
    writer = asyncio.create_task(site.sightings.run())
    try:
        async with asyncio.timeout(60):
            while True:
                async with site.database.sessions() as session:
                    if seen := await session.get(Sighting, site.phone.id):
                        break
                await asyncio.sleep(0.02)
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
    assert (seen.chassis, seen.port, seen.ip, seen.source) == ("sw-hq", "7", PHONE_IP, "held")
    _, body, _ = await site.ask(location_request("civic"))
    assert civic(body)["RD"] == "Washington"


async def test_a_device_in_a_known_subnet_is_told_the_subnets_place(site):
    _, body, _ = await site.ask(location_request("geodetic", exact="true"), ip=SUBNET_IP)
    assert b"42.65 -73.75" in body
    assert civic(body) == {}


async def test_one_asker_that_asks_without_end_is_told_to_wait(site):
    """E-13: nobody can walk through addresses or references at will."""
    statuses = set()
    connector = aiohttp.TCPConnector(local_addr=(STRANGER_IP, 0), limit=4)
    async with aiohttp.ClientSession(connector=connector, headers=HELD_TYPE) as client:
        for _ in range(BURST_PER_ASKER + 60):
            async with client.post(f"{site.base}/held", data=b"<x/>") as answer:
                statuses.add((answer.status, answer.headers.get("Retry-After")))
    assert statuses == {(200, None), (429, "30")}
    assert (await site.ask(location_request()))[0] == 200


def test_the_limit_gives_back_what_time_earns_and_forgets_the_longest_unused():
    limit = AskerLimit(burst=3, per_s=1.0)
    assert [limit.allows("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert limit.allows("b", 0.0)
    assert not limit.allows("a", 0.5)
    assert limit.allows("a", 1.5)
    for number in range(10_001):
        limit.allows(str(number), 2.0)
    assert len(limit._left) <= 10_000


async def test_with_the_database_away_the_client_is_told_when_to_ask_again(site):
    """E-13: and nothing here is on a call's way."""
    async with away(site.database):
        status, body, headers = await site.ask(location_request())
    assert (status, error_code(body), headers["Retry-After"]) == (503, "generalLisError", "30")
    assert (await site.ask(location_request()))[0] == 200
