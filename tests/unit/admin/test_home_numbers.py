"""Home while something of an account has a number that is an emergency where one of its places is."""

from typing import Any

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.e911.alarms import AlarmKind
from engine.e911.shadowing import forms_of, shadows_of
from engine.models import Account, Line, Pbx, Trunk
from tests.factories import HEADQUARTERS, add_line, add_location, add_pbx, add_trunk
from tests.unit.admin.adminport import AdminPort, Site

NZ = {"country": "NZ", "A1": "Wellington", "RD": "Willis Street", "HNO": "1"}


async def told(port: AdminPort, site: Site) -> list[dict[str, Any]]:
    answer = await port.call("GET", "/api/v1/alarms", site.auth)
    return [alarm for alarm in (await answer.json())["data"] if alarm["kind"] == AlarmKind.NUMBER_TAKEN]


async def test_a_line_whose_number_a_location_makes_an_emergency_is_an_alarm_until_it_has_another(
    port: AdminPort, site: Site
) -> None:
    """E-01: a location that moves to another country is kept; everybody sees what that did to a line."""
    async with port.database.sessions.begin() as session:
        line = await add_line(session, site.account, "111", display_name="Lab")
        place = await add_location(session, site.account, name="Branch", civic_address=HEADQUARTERS)
    assert await told(port, site) == []
    address = f"/api/v1/locations/{place.id}"
    tag = (await port.call("GET", address, site.auth)).headers["ETag"]
    answer = await port.call("PATCH", address, {**site.auth, "If-Match": tag}, json={"civic_address": NZ})
    assert answer.status == 200, await answer.text()
    (alarm,) = await told(port, site)
    assert alarm["is_urgent"]
    assert alarm["href"] == f"/lines/{line.id}"
    assert alarm["text"].startswith("Line 111 (Lab) has 111, a number for emergencies in NZ (Branch): whoever dials it")
    page = await (await port.call("GET", "/", await port.browser(site))).text()
    assert 'data-alarm="number_taken"' in page
    assert f'href="/lines/{line.id}"' in page
    async with port.database.sessions.begin() as session:
        kept = await session.get_one(Line, line.id)
        kept.extension = kept.sip_user = "211"
        record(session, SYSTEM, Event.LINE_UPDATE, kept)
    assert await told(port, site) == []


async def test_an_account_that_moves_to_another_country_sees_what_has_its_numbers(port: AdminPort, site: Site) -> None:
    """E-01: with no location at all; a default route and a trunk's test number are such things too."""
    async with port.database.sessions.begin() as session:
        await add_line(session, site.account, "2000", sip_user="999")
        await add_pbx(session, site.account, name="Old PBX", default_route="sip:999@pbx.example;transport=tcp")
        await add_pbx(session, site.account, name="New PBX", sources=["192.0.2.1"], default_route="sip:pbx.example")
        await add_trunk(session, site.account, name="Carrier", test_number="999")
        await add_trunk(session, site.account, name="Second", test_number="933", priority=20)
    assert await told(port, site) == []
    async with port.database.sessions.begin() as session:
        account = await session.get_one(Account, site.account.id)
        account.country = "GB"
        record(session, SYSTEM, Event.ACCOUNT_UPDATE, account)
    texts = [alarm["text"] for alarm in await told(port, site)]
    assert len(texts) == 3
    assert "Line 2000 (Desk 2000) has 999, a number for emergencies in GB: whoever" in texts[0]
    assert "The default route of Old PBX leads to 999, a number for emergencies in GB" in texts[1]
    assert "The test number of trunk Carrier, 999, is one for emergencies in GB" in texts[2]


async def test_many_lines_are_three_alarms_that_say_how_many_more(port: AdminPort, site: Site) -> None:
    """E-01: an office abroad with a hundred short extensions fills no page."""
    async with port.database.sessions.begin() as session:
        for number in ("9", "19", "119"):
            await add_location(session, site.account, name=f"Depot {number}", civic_address=NZ)
        for at, number in enumerate(sorted(forms_of("NZ"))[:5]):
            await add_line(session, site.account, f"20{at}", sip_user=number)
    found = await told(port, site)
    assert len(found) == 3
    assert found[2]["text"].endswith("So it is with 2 more.")
    assert "in NZ (Depot 119, Depot 19 and 1 more)" in found[0]["text"]


def test_a_number_that_is_nowhere_an_emergency_is_no_alarm() -> None:
    """E-01: 999 is an extension in New York."""
    lines = [Line(id="line_1", extension="999", sip_user="999", display_name="")]
    routes = [Pbx(id="pbx_1", name="PBX", default_route="sip:101@192.0.2.1"), Pbx(id="pbx_2", name="PBX")]
    tests = [Trunk(id="trunk_1", name="Carrier", test_number="933"), Trunk(id="trunk_2", name="Carrier")]
    assert shadows_of({"US": ["New York"]}, lines, routes, tests) == []
    (found,) = shadows_of({"US": ["New York"], "GB": ["London"], "IE": ["Cork"]}, lines, routes, tests)
    assert "in GB (London) and IE (Cork): whoever" in found.text
