"""Notices call a field what its form calls it."""

import re

import pytest

from admin.field_words import label_of, value_of
from admin.render import HERE
from tests.unit.admin.adminport import AdminPort, Site

FORMS = {
    "settings": "account", "_address_form": "account", "phone_security": "account", "branding": "account",
    "location": "location", "line": "line", "phone": "phone", "pbx": "pbx", "trunk": "trunk", "user": "user",
    "audit_view": "audit_view",
}  # fmt: skip
FIELD = re.compile(r"parts\.(?:field|select|area|toggle|check)\((?:address_)?form, '([\w.]+)', '([^']+)'(?=[,)])")


@pytest.mark.parametrize(("template", "kind"), FORMS.items())
def test_each_field_is_called_what_its_label_says(template: str, kind: str) -> None:
    """S0-05: the words of the notice are the words of the page: no column's name."""
    text = (HERE / "templates" / f"{template}.html.j2").read_text()
    shown = {name: label for name, label in FIELD.findall(text) if not name.startswith(("sources_conf", "remove_"))}
    assert shown
    # what a phone's page asks beside the phone's own record is no field of it
    shown.pop("place_id", None)
    assert {name: label_of(name, kind) for name in shown} == shown


def test_what_dropdowns_hold_is_said_in_their_words() -> None:
    """S0-05: a language is Spanish, not es; nothing is nothing; what has no words is told as it stands."""
    assert [value_of("language", "es"), value_of("country", "GB"), value_of("phone", ""), value_of("port", 5061)] == [
        "Spanish", "United Kingdom", "nothing", "5061",
    ]  # fmt: skip
    assert [value_of("enabled", value=True), value_of("language", "tlh")] == ["yes", "tlh"]
    assert label_of("settings.ntp_server", "phone") == "Time server"
    assert label_of("civic_address.NAM") == "Address NAM"


async def test_a_refused_change_names_the_field_that_both_changed(port: AdminPort, site: Site) -> None:
    """S0-05, S0-06: though the latest change was another's; identifiers are never told."""
    account = "/api/v1/account"
    tag = (await port.call("GET", account, site.auth)).headers["ETag"]
    for changes in ({"timezone": "America/Denver", "language": "fr"}, {"phone": "+15185550101"}):
        answer = await port.call("PATCH", account, site.auth | {"If-Match": "*"}, json=changes)
        assert answer.status == 200
    older = site.auth | {"If-Match": tag}
    told = (await (await port.call("PATCH", account, older, json={"language": "es"})).json())["detail"]
    assert "changed Language (English → French), Time zone (America/New_York → America/Denver) on " in told
    told = (await (await port.call("PATCH", account, older, json={"name": "B"})).json())["detail"]
    assert "changed Phone (nothing → +15185550101) on " in told
