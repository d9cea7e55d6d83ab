"""The written guides as pages: every one of `docs/`, safe to show, and reached from the short guide of its subject."""

import re

import pytest

from admin.guides import DOCS, _html, _parser, written_guides
from admin.pages.help import GUIDES
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
FOR_WHOEVER_RUNS_THE_SERVER = {"configuration", "operations", "storage"}  # in the list alone


def test_every_guide_of_docs_is_reached_from_help() -> None:
    """S2-22: a guide that is written is found in the pages, under the subject it belongs to."""
    known = written_guides()
    assert known.keys() == {file.stem for file in DOCS.glob("*.md")}
    named = {name for names in GUIDES.values() for name in names}
    assert known.keys() - named <= FOR_WHOEVER_RUNS_THE_SERVER
    assert named <= known.keys()
    assert all(guide.title and len(guide.body) > 500 for guide in known.values())


def test_a_guides_html_fits_the_policy_of_the_pages() -> None:
    """AD-AUTH: no style, no script, no markup of its own; tables scroll, links lead to pages that are there."""
    for guide in written_guides().values():
        assert not re.search(r"<(script|style|img|iframe)|\sstyle=|\son\w+=", guide.body), guide.name
        assert guide.body.count("<table>") == guide.body.count('<div class="scroll"')
        assert guide.body.count("<h1>") == 1
        assert len(guide.body) < 120_000
        for address in re.findall(r'href="([^"]+)"', guide.body):
            assert address.startswith(("/help/guides/", "https://", "http://")), (guide.name, address)
    odd = _html(
        _parser(frozenset({"users"})),
        "# A\n\n<b onclick=x>b</b> [u](users.md#top) [no](../engine/app.py) [out](https://example.com/?a=1&b=2)\n\n"
        "```\n<i>\n```\n\n|a|b|\n|:--|--:|\n|1|2|\n\n[users.md](users.md)\n",
        {"users.md": "Users & roles"},
    )
    assert "<b " not in odd
    assert '<a href="/help/guides/users">u</a>' in odd
    assert '<a href="/help/guides/users">Users &amp; roles</a>' in odd
    assert "app.py" not in odd
    assert "<code>&lt;i&gt;" in odd
    assert "style=" not in odd


async def test_the_pages_lead_to_the_guides(port: AdminPort, site: Site) -> None:
    """S2-22: from the log, its card and the users' page; a name that is none is 404."""
    browser = await port.browser(site)
    for path in ("/audit", "/settings"):
        assert 'href="/help/audit"' in await (await port.call("GET", path, browser)).text()
    assert 'href="/help/users"' in await (await port.call("GET", "/users", browser)).text()
    page = await (await port.call("GET", "/help/audit", browser)).text()
    for name in ("audit-log", "verify-audit", "audit-events"):
        assert f'href="/help/guides/{name}"' in page
    listed = await (await port.call("GET", "/help/guides", browser)).text()
    for guide in written_guides().values():
        assert f'href="{guide.address}"' in listed
        answer = await port.call("GET", guide.address, browser)
        assert (answer.status, len(await answer.read()) < 150_000) == (200, True), guide.name
    assert (await port.call("GET", "/help/guides/nothing", browser)).status == 404
