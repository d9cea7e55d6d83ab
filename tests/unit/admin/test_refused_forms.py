"""Forms that are refused: every fault beside its field, in words; nothing that was typed or ticked is lost."""

import re
from html import unescape

import pytest

from engine.models import Location
from tests.factories import add_location, add_phone
from tests.unit.admin.adminport import CIVIC, AdminPort, Site
from tests.unit.admin.furnished import furnish

pytestmark = pytest.mark.enable_socket  # a real listener on loopback


async def _refused(port: AdminPort, headers: dict[str, str], path: str, fields: list[tuple[str, str]]) -> str:
    answer = await port.call("POST", path, headers, data=fields, allow_redirects=False)
    page = unescape(await answer.text())
    assert answer.status == 422, page
    return page


async def test_a_fault_within_a_field_is_told_beside_it(port: AdminPort, site: Site) -> None:
    """S0-05: which line, which carrier, which trunk; at the head of the form stands no name that the API has for it."""
    headers, made = await port.browser(site), await furnish(port, site)
    trunk = f"place.{made.ids['trunks']}"
    place = {f"civic_address.{name}": text for name, text in CIVIC.items()} | {"name": "Annex"}
    keys = {"settings.function_keys": "1, blf, 101\nsecond, blf, 102", "settings.outbound_proxy": "a b"}
    cases = (
        ("/locations/new", place | {"carrier_ids": "Bandwidth: hq-4\ntelnyx: a b"},
         ("Bandwidth: expected the name of a carrier profile", "telnyx: expected an identifier without blanks")),
        ("/phones/settings/level", keys | {"name": "account"},
         ("Line 2, position: expected a whole number from 1 to 300, got 'second'",
          "Expected host or host:port, got 'a b'<")),
        ("/settings/trunk-groups/new", {"name": "", trunk: "first"},
         (f'id="e-f-{trunk}"', 'id="e-f-name"', "Expected a whole number, got 'first'.")),
        ("/settings/api-keys", {"name": ""}, ("Tick at least one right, or choose another type of permissions.",)),
    )  # fmt: skip
    for path, fields, told in cases:
        page = await _refused(port, headers, path, list(fields.items()))
        assert [words for words in told if words not in page] == [], path
        head = page.partition('role="alert"')[2].partition("</div></div>")[0]
        assert "Nothing was saved yet." in head
        assert "<li>" not in head, f"{path} has a field for it"


async def test_a_refused_change_of_many_phones_keeps_filters_ticks_and_what_was_typed(
    port: AdminPort, site: Site
) -> None:
    """P-16 (bulk), S1-35: "all that match" means the same on the list that tells what was wrong."""
    headers = await port.browser(site)
    async with port.database.sessions.begin() as session:
        desk, hall, attic = [
            await add_phone(session, site.account, mac=f"805ec000000{at}", label=f"{label} phone")
            for at, label in enumerate(("Desk", "Hall", "Attic"))
        ]
    wish = [("q", "phone"), ("sort", "-last_fetch"), ("action", "setting"), ("setting", "vlan_id"), ("value", "5000")]
    ticks = [("ids", desk.id), ("ids", attic.id)]
    page = await _refused(port, headers, "/phones/bulk", [*wish, *ticks, ("q", "phone"), ("which", "these")])
    assert "Voice VLAN: expected a whole number from 1 to 4094, got 5000." in page
    boxes = re.findall(r'name="ids" value="(phone_\w+)"( checked)?', page)
    assert {identity for identity, tick in boxes if tick} == {desk.id, attic.id}
    assert hall.id in dict(boxes)
    for kept in (
        'name="q" value="phone"', 'name="sort" value="-last_fetch"', '<option value="setting" selected>',
        '<option value="vlan_id" selected>', 'id="b-value" name="value" value="5000"',
    ):  # fmt: skip
        assert kept in page
    page = await _refused(port, headers, "/phones/bulk", [("q", "Hall"), ("which", "these"), ("action", "delete")])
    assert "No phone is chosen. Tick some on the list, or choose all that match." in page
    assert "1 phone matches" in page
    page = await _refused(port, headers, "/phones/bulk", [("q", "Hall"), ("which", "all"), ("action", "polish")])
    assert '<option value="all" selected>The one phone that matches' in page


async def test_a_refused_change_of_many_locations_keeps_its_filters_and_page(port: AdminPort, site: Site) -> None:
    """S1-35: who chose all drafts finds all drafts chosen still, not every location there is."""
    headers = await port.browser(site)
    async with port.database.sessions.begin() as session:
        rows: list[Location] = [await add_location(session, site.account, name=f"Branch {at:03}") for at in range(101)]
        await add_location(session, site.account, name="Depot")
    wish = [("q", "branch"), ("page", "1"), ("action", "timezone"), ("timezone", "America/Nowhere")]
    page = await _refused(port, headers, "/locations/bulk", [*wish, ("which", "all")])
    assert "Expected a time zone such as America/New_York" in page
    assert '<option value="all" selected>All 101 locations that match' in page
    assert 'name="q" value="branch"' in page
    assert re.findall(r"<strong>(Branch \d+|Depot)</strong>", page) == ["Branch 100"], "the second page"
    page = await _refused(port, headers, "/locations/bulk", [*wish, ("which", "these"), ("ids", rows[100].id)])
    assert f'value="{rows[100].id}" checked' in page
