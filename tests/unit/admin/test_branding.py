"""How an account looks: inside, on its own host's sign-in page, and nowhere else."""

import base64
import json
from typing import Any

import pytest

from tests.unit.accounts.test_logo_and_colours import png, svg
from tests.unit.admin.adminport import PASSWORD, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
PATH = "/api/v1/branding"
HOST = "phones.acme.example"


async def _patch(port: AdminPort, site: Site, expect: int = 200, **fields: Any) -> dict[str, Any]:
    answer = await port.call("PATCH", PATH, site.auth, json=fields, extra={"If-Match": "*"})
    assert answer.status == expect, await answer.text()
    return dict(await answer.json())


async def _login(port: AdminPort, host: str) -> str:
    answer = await port.call("GET", "/login", {"Host": host})
    assert answer.status == 200
    return await answer.text()


async def test_theme_and_logo_hold_for_every_user_and_stand_in_the_log(port: AdminPort, site: Site) -> None:
    """S1-20, S2-23, S2-25, S2-26: inside, with no host name; before and after in Settings; the default login stays."""
    logo = base64.b64encode(png()).decode()
    made = await _patch(port, site, accent="#FFcc00", logo=logo)
    assert made["accent"] == "#ffcc00"
    assert made["light_accent"] != "#ffcc00", "yellow on white cannot be read"
    for role in ("operator", "auditor"):
        page = await (await port.call("GET", "/", await port.browser(site, role))).text()
        assert "/brand/ffcc00.css" in page
        assert made["logo"] in page
        assert site.account.name in page
    answer = await port.call("GET", made["logo"], {})
    assert (answer.status, answer.content_type, await answer.read()) == (200, "image/png", png())
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "immutable" in answer.headers["Cache-Control"]
    plain = await _login(port, "callpoint.example")
    assert site.account.name not in plain
    assert "/brand/" not in plain
    entry = next(one for one in await port.entries(site.account.id) if one.event == "branding.update")
    told = json.loads(entry.entry)["changes"]
    assert entry.category == "Settings"
    assert told["accent"] == {"before": "", "after": "#ffcc00"}
    assert told["logo"]["after"].endswith(".png")
    assert logo not in entry.entry
    again = await _patch(port, site, logo=None, accent="")
    assert (again["logo"], again["accent"]) == ("", "")
    assert (await port.call("GET", made["logo"], {})).status == 404


async def test_the_host_name_greets_with_the_accounts_look_and_changes_nobodys_way_in(
    port: AdminPort, site: Site
) -> None:
    """S2-20, S2-27, S2-28: the Host header finds the account; other hosts are as they were."""
    other = await port.site("Other Clinic", "owner@other.example")
    await _patch(port, site, hostname="Phones.Acme.Example.", accent="#7e22ce")
    page = await _login(port, f"{HOST}:8443")
    assert site.account.name in page
    assert "/brand/7e22ce.css" in page
    for host in (
        "callpoint.example",
        "unknown.example",
        "acme.example",
        "x" * 300,
        HOST + ".evil.example",
        "[::1]",
    ):
        plain = await _login(port, host)
        assert site.account.name not in plain
        assert "Callpoint</a>" in plain
    inside = await port.call("GET", "/", await port.browser(other) | {"Host": HOST})
    page = await inside.text()
    assert "Other Clinic" in page
    assert site.account.name not in page, "somebody of another account is in their own"
    wrong = {"email": "owner@other.example", "password": PASSWORD}
    said = [
        (await port.call("POST", "/login", {"Host": host, "Sec-Fetch-Site": "same-origin"}, data=wrong)).status
        for host in (HOST, "callpoint.example")
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "hostname",
    ["phones", "localhost", "10.0.0.1", "a.localhost", "https://x.example", "x_y.example", "x..example", "é.example",
     "a" * 64 + ".example", "x.example/y", "[::1]", "callpoint.example"],
)  # fmt: skip
async def test_a_host_name_that_cannot_be_is_refused(port: AdminPort, site: Site, hostname: str) -> None:
    """S2-27: validated; the installation's own is nobody's."""
    from admin.context import CONFIG

    assert port.client.app is not None
    if hostname == "callpoint.example" and not port.client.app[CONFIG].admin.public_url:
        other = await port.site("Other", "owner@other.example")
        await _patch(port, other, hostname=hostname)
    answer = await _patch(port, site, 422, hostname=hostname, accent="#12")
    assert [one["field"] for one in answer["errors"]] == ["accent", "hostname"]
    if hostname == "callpoint.example":
        assert "cannot be used here" in answer["errors"][1]["detail"]
        assert "Other" not in answer["errors"][1]["detail"], "whose it is, is nobody's business"


async def test_what_is_no_logo_is_refused_and_an_svg_is_cleaned(port: AdminPort, site: Site) -> None:
    """S2-25."""
    for bad in ("AAAA", "A", "PGh0bWw+"):
        answer = await _patch(port, site, 422, logo=bad)
        assert [one["field"] for one in answer["errors"]] == ["logo"]
    evil = svg("<script>alert(1)</script><path d='M0 0h9v9z'/>")
    made = await _patch(port, site, logo=base64.b64encode(evil).decode())
    answer = await port.call("GET", made["logo"], {})
    assert answer.content_type == "image/svg+xml"
    assert b"script" not in await answer.read()


async def test_colours_that_are_none_are_not_served(port: AdminPort) -> None:
    """S2-23: nothing that is asked for gets into a style sheet."""
    known = (await _login(port, "x.example")).split('href="/static/')[1].split("/")[0]
    for name, status in (("1d4ed8", 200), ("1D4ED8", 404), ("red", 404), ("1d4ed8;}", 404)):
        answer = await port.call("GET", f"/static/{known}/brand/{name}.css", {})
        assert answer.status == status
    assert (await port.call("GET", f"/static/{known}/logo/{'a' * 80}", {})).status == 404
    assert (await port.call("GET", f"/static/{known}/logo/none.png", {})).status == 404


async def test_the_page_does_all_of_it_without_a_script(port: AdminPort, site: Site) -> None:
    """S2-21, S2-22, S2-24: under Settings, with its guide; a mistake keeps what was typed; languages are told truly."""
    browser = await port.browser(site)
    assert 'href="/settings/branding"' in await (await port.call("GET", "/settings", browser)).text()
    page = await (await port.call("GET", "/settings/branding", browser)).text()
    assert 'href="/help/branding"' in page
    assert "These pages are in English" in page
    assert (await port.call("GET", "/help/branding", browser)).status == 200
    version = page.split('name="version" value="')[1].split('"')[0]
    form = {"version": version, "theme": "own", "accent": "#12", "hostname": HOST}
    answer = await port.call("POST", "/settings/branding", browser, data=form)
    page = await answer.text()
    assert (answer.status, 'value="#12"' in page, f'value="{HOST}"' in page) == (422, True, True)
    form["accent"] = "#7e22ce"
    answer = await port.call("POST", "/settings/branding", browser, data={**form, "logo": _file(png())})
    page = await answer.text()
    assert (answer.status, "logo-now" in page, "/brand/7e22ce.css" in page) == (200, True, True)
    answer = await port.call("POST", "/settings/branding", browser, data={**form, "accent": "#000000"})
    assert answer.status == 412


def _file(data: bytes) -> Any:
    from io import BytesIO

    file = BytesIO(data)
    file.name = "logo.png"
    return file
