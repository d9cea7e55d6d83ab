"""Who is sent to dial 933: people where it is a number for tests, and nobody else."""

import re
import zoneinfo
from types import SimpleNamespace
from typing import Any

import pytest

from admin.render import environment, has_test_number, is_testable
from engine.models import Account, Location
from engine.numbers import numbers_of
from tests.unit.admin.adminport import AdminPort, Site

SENT = re.compile(r"[Dd]ial(s|ing)? 933|933 test|911 (and|or) 933")
NAMED = (
    ("/settings/webhooks/new", "Tests with 933"), ("/help/webhooks", "933"), ("/calls", "Tests (933)"),
    ("/locations/tests", "as of any 933"),
)  # fmt: skip
PLAIN: dict[str, Any] = {
    "brand": None, "user": None, "query": {}, "sidebar": (), "is_operator": False, "acts_for_another": False,
    "done": None, "misread": "", "plain_http": False, "edge_is_up": True, "zone": zoneinfo.ZoneInfo("UTC"),
    "in_full": (),
}  # fmt: skip


@pytest.mark.parametrize("name", ["emergency", "alerts", "locations"])
def test_a_guide_says_what_is_true_in_its_readers_country(name: str) -> None:
    """S0-18, E-15: 933 in the United States; in Great Britain that no number is set aside, or nothing of it."""
    account = SimpleNamespace(id="account_1", name="Acme", logo="", accent="", hostname=None, country="", timezone="")
    page = environment().get_template(f"help_{name}.html.j2")
    told = {
        country: page.render(
            **PLAIN, account=account, path=f"/help/{name}", can=lambda _scope: True,
            has_test_number=has_test_number(country), emergency_number=numbers_of(country).primary,
        )
        for country in ("US", "GB")
    }  # fmt: skip
    assert SENT.search(told["US"])
    assert SENT.search(told["GB"]) is None
    if name == "emergency":
        assert "No number is set aside for test calls where this account is" in told["GB"]


@pytest.mark.parametrize(
    ("country", "of_account", "expected"),
    [("GB", "US", False), ("us", "GB", True), ("", "GB", False), ("", "CA", True), ("AU", "NZ", False)],
)
def test_a_location_is_testable_by_its_own_country_first(country: str, of_account: str, expected: bool) -> None:
    """E-15: the address's country counts; the account's where it names none."""
    location = Location(civic_address={"country": country} if country else {})
    assert is_testable(location, Account(country=of_account)) is expected
    words = environment().get_template("_location_test.html.j2").render(
        account=Account(country=of_account), location=location, test=None, zone=PLAIN["zone"]
    )  # fmt: skip
    assert bool(SENT.search(words)) is expected


async def test_forms_and_filters_name_933_only_where_it_is_a_number(port: AdminPort, site: Site) -> None:
    """E-15: the webhook's form and guide, the filter of calls and the plan of tests, in two countries."""
    owner = await port.browser(site)
    for country, is_named in (("US", True), ("GB", False)):
        changed = await port.call("PATCH", "/api/v1/account", site.auth | {"If-Match": "*"}, json={"country": country})
        assert changed.status == 200
        for path, words in NAMED:
            text = await (await port.call("GET", path, owner)).text()
            assert (words in text) is is_named, (country, path)
        for path in ("/help/provisioning", "/phones/alarms"):
            text = await (await port.call("GET", path, owner)).text()
            assert ("dials 911" in text, "dials 999" in text) == (is_named, not is_named), (country, path)
