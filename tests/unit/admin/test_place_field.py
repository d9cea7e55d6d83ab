"""Locations in forms of accounts that have too many of them for a menu: a name is typed."""

from html import unescape

import pytest

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.ids import new_id
from engine.models import Line, Location, Pbx, Phone, PhoneLine
from tests.factories import add_emergency_call, add_line
from tests.unit.admin.adminport import CIVIC, AdminPort, Site
from tests.unit.admin.test_merged_form import fields_of
from tests.unit.admin.test_page_sizes import INLINE, MAX_PAGE_BYTES

FORMS = (
    "/phones/{phone}", "/lines/{line}", "/phones/{phone}/lines/new", "/phones/new", "/settings", "/settings/pbxs/new",
    "/settings/pbxs/{pbx}", "/settings/numbers", "/settings/chats/new", "/phones/settings", "/phones/rollouts",
)  # fmt: skip
LISTS = ("/phones", "/compliance", "/calls")


@pytest.fixture
async def many(port: AdminPort, site: Site) -> dict[str, str]:
    """2,000 locations, two of one name, and a phone with a line, at the first of them."""
    account_id = site.account.id
    async with port.database.sessions.begin() as session:
        names = [f"Branch office of the north {at:04}" for at in range(1998)] + ["Twin", "Twin"]
        rows = [
            Location(id=new_id("location"), account_id=account_id, name=name, civic_address=CIVIC) for name in names
        ]
        pbx = Pbx(id=new_id("pbx"), account_id=account_id, name="HQ", sources=["10.0.0.1/32"])
        phone = Phone(
            id=new_id("phone"), account_id=account_id, mac="805ec0000001", vendor="yealink", model="T46U", label="Desk",
            location_id=rows[0].id, settings={},
        )  # fmt: skip
        for row, event in (*((row, Event.LOCATION_CREATE) for row in rows), (pbx, Event.PBX_CREATE)):
            session.add(row)
            record(session, SYSTEM, event, row)
        await session.flush()
        session.add(phone)
        record(session, SYSTEM, Event.PHONE_CREATE, phone)
        line = await add_line(session, site.account, "101")
        await session.flush()
        session.add(PhoneLine(account_id=account_id, phone_id=phone.id, line_id=line.id, key=1))
        record(session, SYSTEM, Event.PHONE_UPDATE, phone)
    return {"phone": phone.id, "line": line.id, "pbx": pbx.id, "first": rows[0].id, "second": rows[1].id,
            "twin": rows[-1].id}  # fmt: skip


async def _page(port: AdminPort, headers: dict[str, str], path: str) -> str:
    answer = await port.call("GET", path, headers)
    assert answer.status == 200, path
    return unescape(await answer.text())


async def test_every_page_with_a_form_stays_under_150_kb_at_2000_locations(port: AdminPort, site: Site, many) -> None:
    """S0-09: each field takes a name, has its list, and none is a menu of all."""
    headers = await port.browser(site)
    sizes = {}
    for path in (*FORMS, *LISTS):
        page = await _page(port, headers, path.format(**many))
        sizes[path] = len(page.encode())
        assert 'data-look-up="/api/v1/locations?limit=200&q="' in page, path
        assert 'list="n-' in page
        assert '<datalist id="n-' in page
        assert "Branch office of the north 0500" not in page, path
        assert not INLINE.search(page)
    assert max(sizes.values()) < MAX_PAGE_BYTES, sizes


async def test_a_phone_is_put_at_the_location_whose_name_is_typed(port: AdminPort, site: Site, many) -> None:
    """S0-09: the name stands in the field, in any case it is understood, an identifier too, and empty is none."""
    headers, path = await port.browser(site), f"/phones/{many['phone']}"
    shown = fields_of(await _page(port, headers, path))
    assert shown["location_id"] == "Branch office of the north 0000"
    for text, expected in (("branch OFFICE of the north 0001", "second"), (many["first"], "first"), ("", None)):
        sent = fields_of(await _page(port, headers, path)) | {"location_id": text}
        answer = await port.call("POST", path, headers, data=sent, allow_redirects=False)
        assert answer.status == 303, await answer.text()
        async with port.database.sessions() as session:
            phone = await session.get(Phone, many["phone"])
        assert phone is not None
        assert phone.location_id == (many[expected] if expected else None)


async def test_a_name_that_is_none_comes_back_with_names_near_it(port: AdminPort, site: Site, many) -> None:
    """S0-09: without a script too; what else was wrong is told in the same answer, and what was typed stays."""
    headers, path = await port.browser(site), f"/phones/{many['phone']}"
    sent = fields_of(await _page(port, headers, path)) | {"location_id": "north 000", "label": "x" * 300}
    answer = await port.call("POST", path, headers, data=sent, allow_redirects=False)
    page = unescape(await answer.text())
    assert answer.status == 422
    assert "This account has no location called 'north 000'. Near to it: Branch office of the north 0000" in page
    assert '<option value="Branch office of the north 0007"></option>' in page
    assert "Expected at most 200 printable characters." in page
    assert fields_of(page)["location_id"] == "north 000"
    for text, told in (
        ("Twin", "Several locations are called 'Twin'"),
        ("office zzz", "no location called 'office zzz'. Near to it: Branch office"),
        ("zzz_%", "none whose name holds a word of it"),
    ):
        answer = await port.call("POST", path, headers, data=sent | {"location_id": text}, allow_redirects=False)
        assert answer.status == 422
        assert told in unescape(await answer.text())


async def test_a_location_whose_name_another_has_too_keeps_its_identifier_in_the_field(
    port: AdminPort, site: Site, many
) -> None:
    """S0-09: a form that is saved for another reason moves no phone."""
    headers, path = await port.browser(site), f"/lines/{many['line']}"
    sent = fields_of(await _page(port, headers, path)) | {"location_id": many["twin"]}
    assert (await port.call("POST", path, headers, data=sent, allow_redirects=False)).status == 303
    again = fields_of(await _page(port, headers, path))
    assert again["location_id"] == many["twin"]
    assert (await port.call("POST", path, headers, data=again, allow_redirects=False)).status == 303
    async with port.database.sessions() as session:
        line = await session.get(Line, many["line"])
    assert line is not None
    assert line.location_id == many["twin"]


async def test_defaults_of_account_and_pbx_are_named(port: AdminPort, site: Site, many) -> None:
    """S0-09: the two places that a 911 call without a better one is sent with."""
    headers = await port.browser(site)
    page = await _page(port, headers, "/settings")
    card = "<form" + page.split('action="/settings/preferences"')[1].partition("</form>")[0]
    sent = fields_of(card + "</form>") | {"default_location_id": "branch office of the north 0001"}
    answer = await port.call("POST", "/settings/preferences", headers, data=sent, allow_redirects=False)
    assert answer.status == 303, await answer.text()
    account = await (await port.call("GET", "/api/v1/account", site.auth)).json()
    assert account["default_location_id"] == many["second"]
    assert 'value="Branch office of the north 0001"' in await _page(port, headers, "/settings")
    path = f"/settings/pbxs/{many['pbx']}"
    sent = fields_of(await _page(port, headers, path)) | {"default_location_id": "nowhere at all"}
    answer = await port.call("POST", path, headers, data=sent, allow_redirects=False)
    assert answer.status == 422
    assert "no location called 'nowhere at all'" in unescape(await answer.text())


async def test_settings_and_roll_outs_of_a_location_are_opened_by_its_name(port: AdminPort, site: Site, many) -> None:
    """P-10, P-15, S0-09."""
    headers = await port.browser(site)
    answer = await port.call(
        "GET", "/phones/settings/level", headers, params={"location": "Branch office of the north 0001"}
    )
    assert "Branch office of the north 0001" in await answer.text()
    assert answer.url.query["name"] == many["second"]
    missed = await _page(port, headers, "/phones/settings/level?location=north%200002x")
    assert "no location called 'north 0002x'" in missed
    opened = await _page(
        port, headers, "/phones/rollouts/new?subject=&location=Branch%20office%20of%20the%20north%200001"
    )
    assert f'value="settings:{many["second"]}"' in opened
    missed = await _page_of_refusal(port, headers, "/phones/rollouts/new?subject=&location=zzz")
    assert "no location called 'zzz'" in missed


async def _page_of_refusal(port: AdminPort, headers: dict[str, str], path: str) -> str:
    return unescape(await (await port.call("GET", path, headers)).text())


async def test_the_api_finds_locations_by_a_part_of_their_name(port: AdminPort, site: Site, many) -> None:
    """S0-09: what the field asks while one types; % and _ are characters like others."""

    async def names(text: str) -> list[str]:
        answer = await port.call("GET", "/api/v1/locations", site.auth, params={"limit": "20", "q": text})
        assert answer.status == 200
        return [one["name"] for one in (await answer.json())["data"]]

    assert await names("NORTH 0042") == ["Branch office of the north 0042"]
    assert len(await names("branch")) == 20
    assert await names("%") == []
    refused = await port.call("GET", "/api/v1/locations", site.auth, params={"q": "x" * 201})
    assert refused.status == 422
    assert [fault["field"] for fault in (await refused.json())["errors"]] == ["q"]


async def test_calls_are_narrowed_to_a_location_whose_name_is_typed(port: AdminPort, site: Site, many) -> None:
    """S0-09, E-12: in any case, `none` for calls without one, in the files too; a name that is none narrows nothing."""
    headers = await port.browser(site)
    async with port.database.sessions.begin() as session:
        for callback, place in (("+15185550101", {"id": many["second"], "name": "Second"}), ("+15185550102", None)):
            caller = {"callback_number": callback, "name": callback}
            await add_emergency_call(session, site.account, location=place, caller=caller)
    for typed, found in (
        ("BRANCH office of the north 0001", ["+15185550101"]), (many["second"], ["+15185550101"]),
        ("none", ["+15185550102"]), ("Branch office of the north 0002", []),
        ("north 000", ["+15185550101", "+15185550102"]),
    ):  # fmt: skip
        answer = await port.call("GET", "/calls", headers, params={"location": typed})
        page = unescape(await answer.text())
        rows = page.partition("<tbody>")[2].partition("</tbody>")[0]
        assert [number for number in ("+15185550101", "+15185550102") if number in rows] == found, typed
        assert ("no location called 'north 000'. Near to it: Branch" in page) == (typed == "north 000")
        assert ('<option value="Branch office of the north 0007">' in page) == (typed == "north 000")
        file = await port.call("GET", "/calls/export.csv", headers, params={"location": typed})
        assert file.status == (422 if typed == "north 000" else 200)
        assert [number for number in found if number in await file.text()] == (found if file.status == 200 else [])
    page = await _page(port, headers, f"/calls?location={many['second']}")
    assert 'name="location" value="Branch office of the north 0001"' in page


async def test_each_location_of_a_list_has_its_own_networks(port: AdminPort, site: Site, many) -> None:
    """S0-08: over the API and in the page, whatever other locations have."""
    for name, value in (("first", "10.1.0.0/16"), ("first", "10.2.0.0/16"), ("twin", "10.3.0.0/16")):
        body = {"kind": "subnet", "value": value, "location_id": many[name]}
        assert (await port.call("POST", "/api/v1/networks", site.auth, json=body)).status == 201
    answer = await port.call("GET", "/api/v1/locations?q=north 000&limit=20", site.auth)
    found = {one["id"]: [network["value"] for network in one["networks"]] for one in (await answer.json())["data"]}
    assert found.pop(many["first"]) == ["10.1.0.0/16", "10.2.0.0/16"]
    assert list(found.values()) == [[]] * 9
    page = await _page(port, await port.browser(site), "/locations?q=twin")
    assert ("10.3.0.0/16" in page, "10.1.0.0/16" in page) == (True, False)
