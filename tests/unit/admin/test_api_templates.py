"""An account's own templates, over the API and as pages."""

import pytest
from sqlalchemy import update

from engine.models import TemplateVersion
from engine.provisioning import vendors
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

PATH = "/api/v1/templates"
SHIPPED = vendors.known().profiles["yealink"].templates
OWN = "{% extends 'time.cfg.j2' %}\n"
SHIPPED_PLUS = "{% include 'time.cfg.j2' %}\nphone_setting.backlight_time = 60\n"


async def _create(port: AdminPort, site: Site, body: str = SHIPPED_PLUS, name: str = "time.cfg.j2") -> dict:
    asked = {"vendor": "yealink", "name": name, "body": body, "note": "backlight"}
    answer = await port.call("POST", PATH, site.auth, json=asked)
    assert answer.status == 201, await answer.text()
    return await answer.json()


async def test_a_template_is_published_changed_reverted_and_every_version_is_kept(port: AdminPort, site: Site) -> None:
    """P-17: versioned, revertible to any version and to the shipped text, audited."""
    made = await _create(port, site)
    path = f"{PATH}/{made['id']}"
    assert (made["number"], made["body"], made["warnings"]) == (1, SHIPPED_PLUS, [])
    headers = site.auth | {"If-Match": f'"{made["version"]}"'}
    changed = await port.call("PATCH", path, headers, json={"body": OWN, "note": "plain"})
    assert (changed.status, (await changed.json())["number"]) == (200, 2)
    back = await port.call("POST", f"{path}/revert", site.auth | {"If-Match": "*"}, json={"number": 1})
    assert (await back.json())["body"] == SHIPPED_PLUS
    shipped = await port.call("POST", f"{path}/revert", site.auth | {"If-Match": "*"}, json={"number": None})
    assert ((await shipped.json())["body"], (await shipped.json())["number"]) == (None, 4)

    versions = (await (await port.call("GET", f"{path}/versions", site.auth)).json())["data"]
    assert [(one["number"], one["body"], one["note"]) for one in versions] == [
        (4, None, "Back to the shipped text"), (3, SHIPPED_PLUS, "Back to version 1"), (2, OWN, "plain"),
        (1, SHIPPED_PLUS, "backlight"),
    ]  # fmt: skip
    events = [entry.event for entry in await port.entries(site.account.id) if entry.event.startswith("template.")]
    assert events == ["template.create", "template.update", "template.revert", "template.revert"]
    assert (await port.call("POST", f"{path}/revert", site.auth | {"If-Match": "*"}, json={"number": 9})).status == 404


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{% include 'time.cfg.j2' %}\n{{ config.nosuch }}\n", "line 2 of time.cfg.j2"),
        ("{% for x in %}", "line 1 of time.cfg.j2"),
        ("{{ ''.__class__ }}", "'__class__'"),
        ("{% for a in range(2000) %}{% for b in range(2000) %}x{% endfor %}{% endfor %}", "works too long"),
    ],
)
async def test_a_broken_template_is_refused_with_its_line_and_nothing_is_stored(
    port: AdminPort, site: Site, body: str, told: str
) -> None:
    """P-17: refused on save; phones keep what is in force."""
    asked = {"vendor": "yealink", "name": "time.cfg.j2", "body": body}
    answer = await port.call("POST", PATH, site.auth, json=asked)
    errors = (await answer.json())["errors"]
    assert (answer.status, errors[0]["field"]) == (422, "body")
    assert told in errors[0]["detail"]
    assert (await (await port.call("GET", PATH, site.auth)).json())["data"] == []


async def test_a_template_that_would_delay_911_is_refused_with_number_rule_and_remedy(
    port: AdminPort, site: Site
) -> None:
    """P-08, P-17."""
    asked = {"vendor": "yealink", "name": "dialing.cfg.j2", "body": "dialplan.dialnow.rule.1 = xxxxxxx\n"}
    answer = await port.call("POST", PATH, site.auth, json=asked)
    told = (await answer.json())["errors"][0]["detail"]
    assert answer.status == 422
    assert "911" in told


async def test_a_value_that_could_become_a_second_setting_is_refused_by_name(port: AdminPort, site: Site) -> None:
    """P-11, P-17: a value written as a setting's name, where every mark in it would count."""
    body = "{% include 'shipped/time.cfg.j2' %}\n{{ config.label }} = 1\n"
    asked = {"vendor": "yealink", "name": "time.cfg.j2", "body": body}
    answer = await port.call("POST", PATH, site.auth, json=asked)
    assert answer.status == 422
    assert "config.label" in (await answer.json())["errors"][0]["detail"]


async def test_a_file_without_the_provisioning_url_is_published_with_a_warning(port: AdminPort, site: Site) -> None:
    shipped = (await (await port.call("GET", f"{PATH}/shipped?vendor=yealink", site.auth)).json())["data"]
    base = next(one["body"] for one in shipped if one["name"] == "base.cfg.j2")
    setting = "static.auto_provision.server.url = {{ config.provisioning_url }}\n"
    for body, told in (
        (base.replace(setting, ""), "provisioning URL"),
        (base.replace("sip_server.1.address = {{ line.registrar_host }}", "sip_server.1.address = own"), "'own'"),
    ):
        assert body != base
        asked = {"vendor": "yealink", "name": "base.cfg.j2", "body": body}
        answer = await port.call("POST", PATH, site.auth, json=asked)
        assert answer.status == 201, await answer.text()
        made = await answer.json()
        assert "with base.cfg.j2" in made["warnings"][0]
        assert told in made["warnings"][0]
        assert (await port.call("DELETE", f"{PATH}/{made['id']}", site.auth | {"If-Match": "*"})).status == 204


async def test_a_file_that_keeps_911_from_being_dialled_is_refused_with_what_where_and_how(
    port: AdminPort, site: Site
) -> None:
    """P-17: as a field of the answer, and nothing is published."""
    shipped = (await (await port.call("GET", f"{PATH}/shipped?vendor=yealink", site.auth)).json())["data"]
    base = next(one["body"] for one in shipped if one["name"] == "base.cfg.j2")
    for line, told in (
        ("static.auto_provision.server.url = http://elsewhere.example/", "Write {{ config.provisioning_url }} there."),
        ("account.1.enable = 0", "With its first line off the phone dials nothing, 911 included."),
        ("features.hotline_number = 555", "Nobody could dial 911 on such a phone."),
    ):
        asked = {"vendor": "yealink", "name": "base.cfg.j2", "body": f"{base}\n{line}\n"}
        answer = await port.call("POST", PATH, site.auth, json=asked)
        assert answer.status == 422
        problem = await answer.json()
        assert {one["field"] for one in problem["errors"]} == {"body"}
        assert line.partition(" ")[0] in problem["errors"][0]["detail"]
        assert told in problem["errors"][0]["detail"]
        assert site_token_free(problem)
    assert (await (await port.call("GET", PATH, site.auth)).json())["data"] == []


def site_token_free(problem: dict[str, object]) -> bool:
    """No token in what is told: the sample's URL is shown without it."""
    return "/p/sample" not in str(problem)


async def test_a_deleted_template_is_gone_with_its_versions_and_another_account_never_sees_it(
    port: AdminPort, site: Site
) -> None:
    made = await _create(port, site)
    path = f"{PATH}/{made['id']}"
    other = await port.site("Other", "other@example.com")
    assert (await port.call("GET", path, other.auth)).status == 404
    assert (await port.call("GET", f"{path}/versions", other.auth)).status == 404
    again = {"vendor": "yealink", "name": "time.cfg.j2", "body": OWN}
    assert (await port.call("POST", PATH, site.auth, json=again)).status == 409
    assert (await port.call("DELETE", path, site.auth | {"If-Match": "*"})).status == 204
    assert (await port.call("GET", f"{path}/versions", site.auth)).status == 404
    assert (await _create(port, site))["number"] == 1


@pytest.mark.parametrize(("vendor", "name"), [("nobody", "base.cfg.j2"), ("yealink", "nosuch.j2")])
async def test_a_template_of_nothing_is_refused(port: AdminPort, site: Site, vendor: str, name: str) -> None:
    answer = await port.call("POST", PATH, site.auth, json={"vendor": vendor, "name": name, "body": "x"})
    assert (answer.status, len((await answer.json())["errors"])) == (422, 1)


NEEDS = "{% from 'time.cfg.j2' import ours with context %}{% include 'common.cfg.j2' %}\n{{ ours() }}\n"
NEEDED = "{% macro ours() %}x = 1{% endmacro %}{% include 'time.cfg.j2' %}\n"


async def test_a_text_that_another_needs_is_neither_reverted_nor_deleted(port: AdminPort, site: Site) -> None:
    """P-17: the shipped text is tried beside the account's others, over the API and on the page."""
    needed = await _create(port, site, NEEDED)
    needing = await _create(port, site, NEEDS, "common.cfg.j2")
    path, anyhow = f"{PATH}/{needed['id']}", site.auth | {"If-Match": "*"}
    refused = await port.call("POST", f"{path}/revert", anyhow, json={"number": None})
    problem = await refused.json()
    assert (refused.status, problem["errors"][0]["field"]) == (422, "number")
    assert "ours" in problem["errors"][0]["detail"]
    assert (await port.call("DELETE", path, anyhow)).status == 422
    browser = await port.browser(site)
    page = "/phones/templates/yealink/time.cfg.j2"
    form = {"version": str(needed["version"]), "number": ""}
    shown = await port.call("POST", f"{page}/revert", browser, data=form, allow_redirects=False)
    assert shown.status == 422
    assert "ours" in await shown.text()
    assert (await (await port.call("GET", path, site.auth)).json())["body"] == NEEDED
    assert (await port.call("DELETE", f"{PATH}/{needing['id']}", anyhow)).status == 204
    assert (await port.call("POST", f"{path}/revert", anyhow, json={"number": None})).status == 200


async def test_going_back_to_what_is_warned_of_takes_two_words_and_to_what_breaks_by_now_none_does(
    port: AdminPort, site: Site
) -> None:
    """P-17: tried like a new text, on the page as over the API."""
    lost = SHIPPED["base.cfg.j2"].replace("static.auto_provision.server.url = {{ config.provisioning_url }}\n", "")
    made = await _create(port, site, lost, "base.cfg.j2")
    path, page = f"{PATH}/{made['id']}", "/phones/templates/yealink/base.cfg.j2"
    await port.call("PATCH", path, site.auth | {"If-Match": "*"}, json={"body": "{% extends 'base.cfg.j2' %}\n"})
    browser = await port.browser(site)
    told = await port.call("POST", f"{page}/revert", browser, data={"number": "1"})
    text = await told.text()
    assert (told.status, "no longer names the provisioning URL" in text) == (409, True)
    assert "Go back to version 1 all the same" in text
    form = {"number": "1", "accept": "on"}
    done = await port.call("POST", f"{page}/revert", browser, data=form, allow_redirects=False)
    assert (done.status, (await _in_force(port, site, path))["number"]) == (303, 3)
    async with port.database.sessions.begin() as session:
        await session.execute(update(TemplateVersion).where(TemplateVersion.number == 2).values(body="{% if %}"))
    broken = await port.call("POST", f"{path}/revert", site.auth | {"If-Match": "*"}, json={"number": 2})
    assert (broken.status, (await broken.json())["errors"][0]["field"]) == (422, "number")
    shown = await port.call("POST", f"{page}/revert", browser, data={"number": "2", "accept": "on"})
    assert (shown.status, "line 1 of base.cfg.j2" in await shown.text()) == (422, True)
    assert (await _in_force(port, site, path))["number"] == 3


async def _in_force(port: AdminPort, site: Site, path: str) -> dict:
    return await (await port.call("GET", path, site.auth)).json()
