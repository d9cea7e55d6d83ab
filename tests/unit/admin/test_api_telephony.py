"""The API of who calls, who carries and who calls back: secrets, choices, pools, sightings, and what a call left."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import utc_now
from engine.e911.sightings import on_committed
from engine.ids import new_id
from engine.models import CallbackCall, EmergencyCall, Number, Role
from tests.unit.admin.adminport import CIVIC, AdminPort, Site
from tests.unit.admin.formbrowser import Browser, add_sam
from tests.unit.admin.furnished import furnish

pytestmark = pytest.mark.enable_socket  # a real listener on loopback


async def posted(port: AdminPort, site: Site, path: str, body: dict[str, Any], status: int = 201) -> dict[str, Any]:
    answer = await port.call("POST", f"/api/v1/{path}", site.auth, json=body)
    assert answer.status == status, await answer.text()
    found: dict[str, Any] = await answer.json()
    return found


async def test_a_pbxs_password_goes_in_and_never_comes_out(port: AdminPort, site: Site) -> None:
    """E-04: neither in an answer nor in the audit log."""
    body = {"name": "Cloud", "tls_name": "PBX.acme.example", "auth_user": "acme", "secret": "n0t-to-be-seen"}
    made = await posted(port, site, "pbxs", body)
    assert (made["tls_name"], made["auth_user"]) == ("pbx.acme.example", "acme")
    headers = site.auth | {"If-Match": '"1"'}
    changed = await port.call("PATCH", f"/api/v1/pbxs/{made['id']}", headers, json={"secret": "n0t-to-be-seen-either"})
    assert changed.status == 200
    shown = str(made) + await changed.text() + "".join(entry.entry for entry in await port.entries(site.account.id))
    assert "n0t-to-be-seen" not in shown


async def test_a_trunk_takes_a_carrier_profile_that_is_there_and_tls(port: AdminPort, site: Site) -> None:
    """E-07: a misspelt profile would be spoken as the generic one, silently."""
    body = {
        "name": "One",
        "host": "sip.one.example",
        "transport": "tls",
        "location_mode": "both",
        "profile": "bandwith",
    }
    refused = await posted(port, site, "trunks", body, status=422)
    assert [fault["field"] for fault in refused["errors"]] == ["profile"]
    assert "generic" in refused["errors"][0]["detail"]
    made = await posted(port, site, "trunks", body | {"profile": "generic"})
    assert (made["transport"], made["location_mode"]) == ("tls", "both")


async def test_a_trunk_with_a_user_and_no_password_says_so_wherever_it_is_shown(port: AdminPort, site: Site) -> None:
    """E-07, S1-38: a carrier that asks for the password would refuse 911; kept all the same, since it may never ask."""
    body = {"name": "One", "host": "sip.one.example", "auth_user": "acme"}
    made = await posted(port, site, "trunks", body)
    (warning,) = made["warnings"]
    assert warning.startswith("It has the user acme and no password")
    assert "911" in warning
    listed = await (await port.call("GET", "/api/v1/trunks", site.auth)).json()
    assert [row["warnings"] for row in listed["data"]] == [[warning]]
    browser = Browser(port)
    await add_sam(port, site, role=Role.OWNER)
    await browser.sign_in()
    page = f"/settings/trunks/{made['id']}"
    assert warning in (await browser.ask("GET", page))[1]
    assert "No password" in (await browser.ask("GET", "/settings"))[1]
    form = {"name": "One", "host": "sip.one.example", "port": "5060", "priority": "10", "transport": "udp",
            "profile": "generic", "location_mode": "value", "enabled": "on", "pings": "on",
            "auth_user": "acme"}  # fmt: skip
    status, _, leads_to = await browser.ask("POST", page, version="1", **form)
    assert (status, leads_to.partition("?")[0]) == (303, page)  # where the warning stands
    # nothing was changed, so its version is the same
    status, _, leads_to = await browser.ask("POST", page, version="1", secret="n0w-there", **form)
    assert (status, leads_to.partition("?")[0]) == (303, "/settings")
    changed = await (await port.call("GET", f"/api/v1/trunks/{made['id']}", site.auth)).json()
    assert changed["warnings"] == []
    for path in (page, "/settings"):
        text = (await browser.ask("GET", path))[1]
        assert "no password" not in text.lower()


async def test_a_run_of_numbers_makes_a_pool_that_tells_how_far_it_reaches(port: AdminPort, site: Site) -> None:
    """S1-25, E-09: added in one request, held by calls, forecast."""
    location = await posted(port, site, "locations", {"name": "HQ", "civic_address": CIVIC})
    body = {"range": "+12125550100..+12125550102", "location_id": location["id"]}
    made = (await posted(port, site, "numbers/range", body))["data"]
    assert [(row["e164"], row["kind"]) for row in made] == [(f"+1212555010{last}", "elin") for last in range(3)]
    again = await posted(port, site, "numbers/range", body, status=409)
    assert "+12125550100" in again["detail"]
    async with port.database.sessions.begin() as session:
        number = await session.get(Number, made[0]["id"])
        assert number is not None
        number.held_until = utc_now() + dt.timedelta(minutes=30)
    pools = await (await port.call("GET", "/api/v1/number-pools", site.auth)).json()
    assert [(pool["location_id"], pool["size"], pool["held"], pool["warning"]) for pool in pools["data"]] == [
        (location["id"], 3, 1, "")
    ]
    held = await port.call("DELETE", f"/api/v1/numbers/{made[0]['id']}", site.auth | {"If-Match": "*"})
    assert held.status == 409
    free = await port.call("DELETE", f"/api/v1/numbers/{made[1]['id']}", site.auth | {"If-Match": "*"})
    assert free.status == 204


async def test_a_sighting_is_told_to_the_edge_at_once(port: AdminPort, site: Site) -> None:
    """E-05: the phone that was just moved is found at its new port, whatever the table on disk says."""
    made = await furnish(port, site)
    told_edge: list[Mapping[str, Any]] = []
    on_committed(port.database, told_edge.append)
    path = f"/api/v1/phones/{made.ids['phones']}/sighting"
    body = {"chassis": "00:1A:2B:3C:4D:5E", "port": "Gi1/0/12", "seen_at": "2026-11-21T20:00:00+01:00"}
    late = await port.call("PUT", path, site.auth, json=body)
    assert late.status == 409
    assert told_edge == []
    seen = await port.call("PUT", path, site.auth, json={"chassis": "00:1A:2B:3C:4D:5E", "port": "Gi1/0/12"})
    assert seen.status == 200, await seen.text()
    for at in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"):
        assert (await port.call("PUT", path, site.auth, json={"chassis": "sw", "seen_at": at})).status == 422
    told = (await seen.json(), await (await port.call("GET", path, site.auth)).json())
    assert told[0] == told[1]
    assert (told[0]["chassis"], told[0]["port"], told[0]["source"]) == ("001a2b3c4d5e", "gi1/0/12", "api")
    assert [(one["phone_id"], one["chassis"]) for one in told_edge] == [(made.ids["phones"], "001a2b3c4d5e")]


async def test_a_phone_nobody_has_seen_has_no_sighting(port: AdminPort, site: Site) -> None:
    phone = await posted(port, site, "phones", {"mac": "0015654aa900", "vendor": "yealink", "model": "T46U"})
    answer = await port.call("GET", f"/api/v1/phones/{phone['id']}/sighting", site.auth)
    assert answer.status == 404


async def test_a_location_abroad_is_kept_and_says_which_line_is_in_the_way(port: AdminPort, site: Site) -> None:
    """E-01: line 111 must go, the address must not."""
    await posted(port, site, "lines", {"extension": "111"})
    body = {"name": "Wellington", "civic_address": {"country": "NZ"}, "carrier_ids": {"bandwidth": "wlg-1"}}
    made = await posted(port, site, "locations", body)
    assert len(made["warnings"]) == 1
    assert "Line 111" in made["warnings"][0]
    assert made["carrier_ids"] == {"bandwidth": "wlg-1"}
    refused = await posted(port, site, "lines", {"extension": "1111"}, status=422)
    assert "111" in refused["errors"][0]["detail"]


async def test_a_call_shows_its_number_and_who_called_back(port: AdminPort, site: Site) -> None:
    """E-09: responders' calls back stand with the call they answer."""
    now = utc_now()
    call = EmergencyCall(
        id=new_id("call"), account_id=site.account.id, call_id="x@192.0.2.1", dialed="911", kind="emergency",
        location_source="none", elin="+12125550100", received_at=now, sent_at=now, recorded_at=now,
    )  # fmt: skip
    back = CallbackCall(
        id=new_id("callback"), account_id=site.account.id, emergency_call_id=call.id, number="+12125550100",
        from_uri="sip:911@psap.example", target="sip:101@192.0.2.1", psap=True, received_at=now,
    )  # fmt: skip
    async with port.database.sessions.begin() as session:
        session.add(call)
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, call)
        await session.flush()
        session.add(back)
        record(session, SYSTEM, Event.CALLBACK_CREATE, back)
    shown = await (await port.call("GET", f"/api/v1/emergency-calls/{call.id}", site.auth)).json()
    assert shown["elin"] == "+12125550100"
    assert [(one["from_uri"], one["psap"], one["outcome"]) for one in shown["callbacks"]] == [
        ("sip:911@psap.example", True, "in_progress")
    ]


@pytest.mark.parametrize("minutes", [29, 1441, "180", None])
async def test_a_number_is_kept_for_half_an_hour_to_a_day(port: AdminPort, site: Site, minutes: object) -> None:
    """E-09: shorter, and responders reach somebody else; longer, and the pool runs dry."""
    body = {"elin_hold_minutes": minutes}
    answer = await port.call("PATCH", "/api/v1/account", site.auth | {"If-Match": "*"}, json=body)
    assert answer.status == 422
    answer = await port.call("PATCH", "/api/v1/account", site.auth | {"If-Match": "*"}, json={"elin_hold_minutes": 60})
    assert (await answer.json())["elin_hold_minutes"] == 60


async def test_a_pbx_without_a_registrar_is_told_about_where_it_matters(port: AdminPort, site: Site) -> None:
    """On saving, in the list, and on its page with the phones that register nowhere; none of it with a registrar."""
    headers = await port.browser(site)
    sent = {
        "name": "Office PBX",
        "sources": "192.0.2.10/32",
        "registrar_port": "5060",
        "transport": "udp",
        "resync_via": "pbx",
    }
    answer = await port.call("POST", "/settings/pbxs/new", headers, data=sent, allow_redirects=False)
    assert answer.headers["Location"] == "/settings?done=pbx-no-registrar#pbxs"
    listed = await (await port.call("GET", "/settings?done=pbx-no-registrar", headers)).text()
    assert "No registrar</span>" in listed
    assert "It has no registrar, so its phones register nowhere" in listed
    (pbx,) = (await (await port.call("GET", "/api/v1/pbxs", site.auth)).json())["data"]
    line = await (await port.call("POST", "/api/v1/lines", site.auth, json={"extension": "101"})).json()
    phone = {"mac": "00:15:65:4a:a9:37", "vendor": "yealink", "model": "T46U", "lines": [line["id"]]}
    assert (await port.call("POST", "/api/v1/phones", site.auth, json=phone)).status == 201
    path = f"/settings/pbxs/{pbx['id']}"
    page = await (await port.call("GET", path, headers)).text()
    assert 'id="no-registrar"' in page
    assert '<a href="/phones?alarm=no_registrar">1 phone</a> now.' in page
    sent |= {"registrar_host": "pbx.example.com"}
    answer = await port.call("POST", path, headers, data=sent, allow_redirects=False)
    assert answer.headers["Location"] == "/settings?done=pbx-saved#pbxs"
    assert 'id="no-registrar"' not in await (await port.call("GET", path, headers)).text()
    assert "No registrar</span>" not in await (await port.call("GET", "/settings", headers)).text()


async def test_the_form_of_a_moved_location_shows_what_is_withheld_and_ends_the_reminder(
    port: AdminPort, site: Site
) -> None:
    """E-07, E-14: a form sends the identifier as it stood; it is withheld, told, and the box ends the reminder."""
    owner = await port.browser(site)
    body = {"name": "Keepers", "civic_address": CIVIC, "carrier_ids": {"bandwidth": "KEEP1"}}
    made = await (await port.call("POST", "/api/v1/locations", site.auth, json=body)).json()
    page = f"/locations/{made['id']}"
    form = {f"civic_address.{name}": value for name, value in CIVIC.items()}
    form |= {"name": "Keepers", "civic_address.HNO": "500", "carrier_ids": "bandwidth: KEEP1"}
    assert (await port.call("POST", page, owner, data=form, allow_redirects=False)).status == 303
    shown = await (await port.call("GET", page, owner)).text()
    assert "The identifier KEEP1 of bandwidth stands for another address" in shown
    assert "Keepers: bandwidth would look up another address" in await (await port.call("GET", "/", owner)).text()
    ended = form | {"carrier_ids": "", "no_carrier_ids": "on"}
    assert (await port.call("POST", page, owner, data=ended, allow_redirects=False)).status == 303
    kept = await (await port.call("GET", f"/api/v1{page}", site.auth)).json()
    assert (kept["carrier_ids"], kept["outdated_carrier_ids"], kept["warnings"]) == ({}, {}, [])
