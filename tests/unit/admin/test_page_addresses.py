"""A page whose address cannot be understood says which part, and shows the rest."""

import html
import re
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from admin import render
from admin.page_addresses import EVERYWHERE, KNOWN, leave_out, one_of, sentence_of
from admin.routes import all_routes
from tests.unit.admin.adminport import AdminPort, Site

TEMPLATES = Path(render.__file__).parent / "templates"
FILES = {"/audit/export", "/audit/live"}  # no pages: bad filters are refused there
SAID = re.compile(r"Something in this page.s address was not understood[^<]*")


def said_on(text: str) -> str:
    found = SAID.search(html.unescape(text))
    return found.group() if found else ""


def test_every_page_of_the_table_is_one() -> None:
    """A path that no route has would leave its page warning of its own links."""
    assert set(KNOWN) <= {route.path for route in all_routes() if route.method == "GET"}


def test_no_page_links_to_an_address_that_its_target_does_not_understand() -> None:
    """Every address with a query that a template writes names what the page behind it reads."""
    pages = [route.path for route in all_routes() if route.method == "GET" and not route.path.startswith("/api/")]
    shapes = {path: re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)) for path in pages}
    linked = 0
    for template in TEMPLATES.glob("*.j2"):
        text = re.sub(r"\{\{.*?\}\}", "X", template.read_text())
        for path, query in re.findall(r'href="(/[^"?#]*)\?([^"#]*)', text):
            (found, *_rest) = [page for page, shape in shapes.items() if shape.fullmatch(path)]
            unknown = set(re.findall(r"(?:^|&(?:amp;)?)([a-z_]+)=", query)) - EVERYWHERE - KNOWN.get(found, set())
            assert not unknown or found in FILES, (template.name, path, unknown)
            linked += 1
    assert linked >= 15


LISTS = (
    ("/calls", "cursor=nonsense", "cursor (expected a link of this page, unchanged)"),
    ("/phones", "after=nonsense", "after (expected a link of this page in this order, unchanged)"),
    ("/phones", "status=gone&sort=colour", "status (expected one of "),
    (
        "/phones",
        "location=Nowhere",
        "location (this account has no location called 'Nowhere', and none whose name holds",
    ),
    ("/auth-log", "after=x&end=never&since=soon", "end (expected one of "),
    ("/phones/fetch-log", "after=x&outcome=never&since=soon", "outcome (expected one of "),
    ("/audit", "outcome=maybe&before=first&event=no.such", "event (there is no event 'no.such')"),
    ("/locations", "page=7", "page (there is no such page)"),
    ("/locations", "tested=often", "tested (expected one of "),
    ("/locations/tests", "show=all", "show (expected one of overdue)"),
    ("/audit/anomalies", "show=all", "show (expected one of open, dismissed)"),
    ("/phones/import", "kind=cars", "kind (expected one of "),
)


@pytest.mark.parametrize(("path", "query", "told"), LISTS)
async def test_a_value_that_cannot_be_read_is_told_and_the_rest_is_shown(
    port: AdminPort, site: Site, path: str, query: str, told: str
) -> None:
    """What the API answers 400 or 422 to is a page with a sentence, in one answer with unknown names."""
    owner = await port.browser(site)
    answer = await port.call("GET", f"{path}?{query}&utm_source=s3cret&done=account", owner)
    text = await answer.text()
    assert answer.status == 200
    assert told in said_on(text), said_on(text)
    assert said_on(text).endswith("; utm_source.")
    assert "s3cret" not in said_on(text)
    assert said_on(await (await port.call("GET", path, owner)).text()) == ""


async def test_every_page_tells_names_that_it_does_not_know(port: AdminPort, site: Site) -> None:
    """On every page, and on none for a name that it knows; an error page says its own things alone."""
    owner = await port.browser(site)
    for path in ("/", "/settings", "/users", "/alerts", "/profile", "/settings/storage", "/help/users"):
        text = await (await port.call("GET", f"{path}?colour=red", owner)).text()
        assert said_on(text).endswith("without it: colour."), path
    for path, names in KNOWN.items():
        if "{" not in path and path not in {"/setup", "/invitation", "/phones/settings/level"}:
            text = await (await port.call("GET", f"{path}?{'&'.join(f'{name}=' for name in names)}", owner)).text()
            assert said_on(text) == "", path
    assert said_on(await (await port.call("GET", "/phones/phone_none?colour=red", owner)).text()) == ""


async def test_a_file_is_never_made_without_a_filter_that_was_asked_for(port: AdminPort, site: Site) -> None:
    """An export that left a filter out would look like the one with it."""
    owner = await port.browser(site)
    for path in ("/audit/export?as=csv&outcome=maybe", "/calls/export.csv?kind=maybe"):
        assert (await port.call("GET", path, owner)).status == 422, path


def test_what_is_told_stays_short_and_printable() -> None:
    """A hostile address fills no page."""
    request = make_mocked_request("GET", "/?kind=b&" + "&".join(f"{'n' * 90}%0a{at}=1" for at in range(9)))
    assert one_of(request, "missing", ("a",)) == ""
    assert one_of(request, "kind", ("a",)) == ""
    leave_out(request, "kind", "Expected " + "y" * 900)
    told = sentence_of(request)
    assert len(told) < 700
    assert told.isprintable()
    assert told.endswith("; and more.")
    assert sentence_of(make_mocked_request("POST", "/?colour=red")) == "", "a form says what is wrong with it by itself"


async def test_the_pages_of_signing_in_say_it_too(port: AdminPort, site: Site) -> None:
    """A link that was cut leads to the sign-in page first: its address note is that of every page."""
    page = await (await port.call("GET", "/login?nxt=%2Faudit", {})).text()
    assert said_on(page).endswith("without it: nxt.")
    assert said_on(await (await port.call("GET", "/login?next=%2Faudit", {})).text()) == ""
