"""Previews, boots, dry runs and roll-outs over the API and as pages."""

import json
import re
import zlib

import pytest
from sqlalchemy import func, select

from engine.audit.record import SYSTEM
from engine.db import utc_now
from engine.ids import new_id
from engine.models import FetchedFile, Phone, ProvisioningEvent, Rollout, SettingsLevel
from engine.provisioning import rollout, vendors
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

FILE = "0015654aa937.cfg"
NTP = {"kind": "settings", "target": "account", "after": {"ntp_server": "ntp.example.com"}}


async def ask(port: AdminPort, site: Site, method: str, path: str, body=None, *, expect: int, **headers: str):
    named = site.auth | {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await port.call(method, f"/api/v1/{path}", named, json=body)
    text = await answer.text()
    assert answer.status == expect, (method, path, answer.status, text)
    return json.loads(text) if text else None


@pytest.fixture
async def phone_id(port: AdminPort, site: Site) -> str:
    line = await ask(port, site, "POST", "lines", {"extension": "101", "secret": "s3cret-101"}, expect=201)
    phone = {
        "mac": "00:15:65:4a:a9:37",
        "vendor": "yealink",
        "model": "T46U",
        "label": "Front desk",
        "lines": [line["id"]],
    }
    return (await ask(port, site, "POST", "phones", phone, expect=201))["id"]


async def keep_fetched(port: AdminPort, phone_id: str, text: str) -> None:
    async with port.database.sessions.begin() as session:
        phone = await session.get(Phone, phone_id)
        session.add(
            FetchedFile(
                phone_id=phone_id, name=FILE, account_id=phone.account_id, etag='"one"', fetched_at=utc_now(),
                body=zlib.compress(text.encode()),
            )
        )  # fmt: skip


async def test_each_file_is_shown_beside_what_the_phone_last_fetched_without_a_secret(port, site, phone_id):
    """P-15: never fetched, unchanged, or how many lines came and went; secrets masked."""
    files = (await ask(port, site, "GET", f"phones/{phone_id}/preview", expect=200))["data"]
    assert {file["state"] for file in files} == {"never_fetched"}
    own = next(file for file in files if file["name"] == FILE)
    assert "account.1.user_name = 101" in own["text"]
    assert "s3cret-101" not in json.dumps(files)
    await keep_fetched(port, phone_id, own["text"])
    again = await ask(port, site, "GET", f"phones/{phone_id}/files/{FILE}/diff?against=fetched", expect=200)
    assert (again["state"], again["summary"], again["diff"]) == ("unchanged", "unchanged", "")
    line = (await ask(port, site, "GET", "lines", expect=200))["data"][0]
    await ask(port, site, "PATCH", f"lines/{line['id']}", {"display_name": "Reception"}, expect=200, If_Match="*")
    changed = await ask(port, site, "GET", f"phones/{phone_id}/files/{FILE}/diff", expect=200)
    assert changed["state"] == "changed"
    assert changed["added"] == changed["removed"] > 0
    assert "\n+account.1.display_name = Reception\n" in changed["diff"]
    assert changed["diff"].startswith(f"--- fetched/{FILE}\n+++ now/{FILE}\n@@ ")
    await ask(port, site, "GET", f"phones/{phone_id}/files/nothing.cfg/diff", expect=404)
    await ask(port, site, "GET", f"phones/{phone_id}/files/{FILE}/diff?against=tomorrow", expect=422)


async def test_the_phonebook_stands_among_a_phone_s_files_with_how_many_names_it_has(port, site, phone_id):
    """P-15: every file of a device, by the API and on both pages; gone once the phone is told none."""
    await ask(port, site, "POST", "contacts", {"name": "Zoë & <Söhne>", "number": "+15185550142"}, expect=201)
    book = (await ask(port, site, "GET", f"phones/{phone_id}/preview", expect=200))["phonebook"]
    assert (book["name"], book["names"], book["shown"]) == ("yealink-phonebook.xml", 2, 2)
    assert "<Name>Zoë &amp; &lt;Söhne&gt;</Name><Telephone>+15185550142</Telephone>" in book["text"]
    headers = await port.browser(site)
    for path in (f"/phones/{phone_id}", f"/phones/{phone_id}/files"):
        text = await page(port, headers, path)
        shown = text[text.index("yealink-phonebook.xml") :]
        assert "2 names" in shown, path
        assert 'href="/phonebook"' in shown, path
        assert "&lt;Name&gt;Zoë &amp;amp; &amp;lt;Söhne&amp;gt;" in shown, path
    off = {"kind": "settings", "target": "account", "after": {"phonebook": "off"}}
    assert (await ask(port, site, "POST", f"phones/{phone_id}/preview", NTP, expect=200))["phonebook"] == book
    assert (await ask(port, site, "POST", f"phones/{phone_id}/preview", off, expect=200))["phonebook"] is None


@pytest.mark.parametrize(
    ("vendor", "model", "mac", "name", "shown"),
    [
        ("poly", "VVX 450", "64:16:7f:aa:bb:01", "64167faabb01-directory.xml", 40),
        ("cisco_spa", "SPA504G", "00:1d:a2:aa:bb:02", "cisco_spa-phonebook.xml", 32),
        ("avaya", "J179", "2c:f4:c5:aa:bb:03", "avaya-phonebook.xml", 40),
        ("avaya", "J129", "2c:f4:c5:aa:bb:04", None, 0),
    ],
)
async def test_each_family_s_phonebook_is_shown_by_the_name_its_phones_ask_for(
    port, site, vendor, model, mac, name, shown
):
    """P-15: a Poly's is its own, a Cisco's has pages of 32, a J129 has none."""
    for at in range(40):
        contact = {"name": f"Name {at:02}", "number": f"+1518555{at:04}"}
        await ask(port, site, "POST", "contacts", contact, expect=201)
    phone = await ask(port, site, "POST", "phones", {"mac": mac, "vendor": vendor, "model": model}, expect=201)
    book = (await ask(port, site, "GET", f"phones/{phone['id']}/preview", expect=200))["phonebook"]
    if name is None:
        assert book is None
        return
    assert (book["name"], book["names"], book["shown"]) == (name, 40, shown)
    assert [f"Name {at:02}" in book["text"] for at in range(40)] == [at < shown for at in range(40)]
    assert ("/p/[token]/cisco_spa-phonebook-2.xml" in book["text"]) == (shown < 40)
    text = await page(port, await port.browser(site), f"/phones/{phone['id']}")
    assert ("This phone reads 32 at a time" in text) == (shown < 40)


async def test_a_proposed_change_is_shown_on_one_phone_and_changes_nothing(port, site, phone_id):
    files = (await ask(port, site, "POST", f"phones/{phone_id}/preview", NTP, expect=200))["data"]
    own = next(file for file in files if file["name"] == FILE)
    assert "\n-local_time.ntp_server1 = pool.ntp.org\n+local_time.ntp_server1 = ntp.example.com\n" in own["diff"]
    slow = {"kind": "template", "target": "yealink/base.cfg.j2", "after": "{{ nonsense }}"}
    files = (await ask(port, site, "POST", f"phones/{phone_id}/preview", slow, expect=200))["data"]
    own = next(file for file in files if file["name"] == FILE)
    assert (own["state"], own["text"]) == ("fails", None)
    assert "nonsense" in own["sentence"]
    bad = {"kind": "settings", "target": "account", "after": {"vlan_id": 5000, "colour": "red"}}
    told = await ask(port, site, "POST", f"phones/{phone_id}/preview", bad, expect=422)
    assert {fault["field"] for fault in told["errors"]} == {"after.vlan_id", "after.colour"}
    async with port.database.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(SettingsLevel)) == 0


async def test_boots_are_told_by_the_api(port, site, phone_id):
    """P-16: the files of each boot with status and milliseconds, the latest boot first."""
    async with port.database.sessions.begin() as session:
        phone = await session.get(Phone, phone_id)
        ids = sorted(new_id("fetch") for _ in range(2))  # as the fetch log makes them: in the order of events
        for event_id, name in zip(ids, ("y000000000108.cfg", FILE), strict=True):
            session.add(
                ProvisioningEvent(
                    id=event_id, account_id=phone.account_id, phone_id=phone_id, kind="fetch", file=name,
                    method="GET", status_code=200, size_bytes=6000, duration_us=1500, ip="203.0.113.7",
                    user_agent="Yealink SIP-T46U 108.86.0.20", evidence={"count": 1}, at=utc_now(),
                )
            )  # fmt: skip
    boots = (await ask(port, site, "GET", f"phones/{phone_id}/boots", expect=200))["data"]
    assert len(boots) == 1
    assert [file["name"] for file in boots[0]["files"]] == ["y000000000108.cfg", FILE]
    assert (boots[0]["status"], boots[0]["files"][0]["duration_ms"]) == ("fetched", 1.5)


async def test_a_dry_run_over_the_api_tells_groups_failures_and_progress(port, site, phone_id):
    started = await ask(port, site, "POST", "rollouts/dry-run", NTP, expect=202)
    assert started["state"] == "running"
    run = await port.ended(site, started["id"])
    assert (run["state"], run["total"], run["done"], run["changed"], run["failing"]) == ("done", 1, 1, 1, 0)
    assert (run["groups"][0]["phones"], run["groups"][0]["models"], run["groups"][0]["first"]) == (
        1, ["yealink T46U"], [phone_id],
    )  # fmt: skip
    assert f"+++ then/{FILE}" in run["groups"][0]["files"][FILE]
    broken = {"kind": "template", "target": "yealink/base.cfg.j2", "after": "{{ nonsense }}"}
    run = await port.ended(site, (await ask(port, site, "POST", "rollouts/dry-run", broken, expect=202))["id"])
    assert (run["failing"], run["failures"][0]["phone_id"], run["failures"][0]["is_new"]) == (1, phone_id, True)
    await ask(port, site, "GET", f"rollouts/dry-run/{new_id('dryrun')}", expect=404)
    other = await port.site("Other", "other@other.example")
    await ask(port, other, "GET", f"rollouts/dry-run/{started['id']}", expect=404)
    nobody = {"kind": "template", "target": "nokia/base", "after": "x"}
    told = await ask(port, site, "POST", "rollouts/dry-run", nobody, expect=422)
    assert told["errors"][0]["field"] == "target"


async def test_a_roll_out_over_the_api_from_canary_to_all(port, site, phone_id):
    """P-15: begun with 201 and ETag, told phone by phone, published with If-Match, listed."""
    wished = NTP | {"canary": {"phones": [phone_id]}, "failures": 0, "minutes": 5}
    made = await ask(port, site, "POST", "rollouts", wished, expect=201)
    assert (made["state"], made["counts"]) == ("canary", {"phones": 1, "fetched": 0, "failed": 0, "waiting": 1})
    assert (made["before"], made["after"]) == (None, NTP["after"])
    assert made["canary"][0]["reached"] == "waiting"
    await ask(port, site, "POST", "rollouts", wished, expect=409)
    await ask(port, site, "POST", f"rollouts/{made['id']}/publish", expect=428)
    done = await ask(port, site, "POST", f"rollouts/{made['id']}/publish", expect=200, If_Match='"1"')
    assert (done["state"], done["ended_at"] is not None) == ("published", True)
    await ask(port, site, "POST", f"rollouts/{made['id']}/cancel", expect=409, If_Match="*")
    assert [one["id"] for one in (await ask(port, site, "GET", "rollouts", expect=200))["data"]] == [made["id"]]
    async with port.database.sessions() as session:
        level = (await session.scalars(select(SettingsLevel))).one()
    assert level.settings == NTP["after"]


async def test_a_template_that_would_hold_911_up_never_reaches_a_canary_phone(port, site, phone_id):
    """P-08, P-15: it is tried before the roll-out begins, and refused with the sentence."""
    broken = {"kind": "template", "target": "yealink/base.cfg.j2", "after": "{{ nonsense }}", "canary": {"random": 1}}
    told = await ask(port, site, "POST", "rollouts", broken, expect=422)
    assert told["errors"][0]["field"] == "after"
    async with port.database.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Rollout)) == 0


async def page(port: AdminPort, headers: dict[str, str], path: str, *, expect: int = 200) -> str:
    answer = await port.call("GET", path, headers, allow_redirects=False)
    text = await answer.text()
    assert answer.status == expect, (path, answer.status, text[:500])
    assert len(text) < 150_000
    return text


async def post(port: AdminPort, headers: dict[str, str], path: str, data: dict[str, str]) -> str:
    """The address a form leads to."""
    answer = await port.call("POST", path, headers, data=data, allow_redirects=False)
    assert answer.status == 303, (
        path,
        answer.status,
        re.findall(r'class="fault">.*?</svg> ([^<]+)', await answer.text()),
    )
    return answer.headers["Location"]


async def test_the_pages_lead_from_a_change_to_a_roll_out(port, site, phone_id):
    """P-15: choose, write, dry run, some phones first, publish: without JavaScript."""
    headers = await port.browser(site)
    assert "Settings of the account" in await page(port, headers, "/phones/rollouts")
    assert 'name="after"' in await page(port, headers, "/phones/rollouts/new?subject=settings:account")
    assert "{% extends" in await page(port, headers, "/phones/rollouts/new?subject=template:yealink/conference.cfg.j2")
    await page(port, headers, "/phones/rollouts/new?subject=nonsense", expect=422)
    refused = await port.call(
        "POST", "/phones/rollouts/new", headers, data={"subject": "settings:account", "after": '{"ntp_server": 5'}
    )
    assert refused.status == 422
    assert "Expected JSON" in await refused.text()
    at = await post(
        port,
        headers,
        "/phones/rollouts/new",
        {"subject": "settings:account", "after": '{"ntp_server": "ntp.example.com"}'},
    )
    await port.ended(site, at.rpartition("/")[2])
    shown = await page(port, headers, at)
    assert "1 of 1 phones" in shown
    assert "local_time.ntp_server1 = ntp.example.com" in shown
    wrong = await port.call("POST", f"{at}/start", headers, data={"canary.phones": "00:15:65:00:00:00", "minutes": "5"})
    assert wrong.status == 422
    assert "00:15:65:00:00:00 is no phone of this account" in await wrong.text()
    began = await post(
        port, headers, f"{at}/start", {"canary.phones": "00:15:65:4A:A9:37", "failures": "0", "minutes": "5"}
    )
    began = began.partition("?")[0]
    shown = await page(port, headers, began)
    assert "Front desk" in shown
    assert "Publish to all" in shown
    await post(port, headers, f"{began}/publish", {"version": "1"})
    assert "Published to all" in await page(port, headers, began)
    assert "Settings of the account" in await page(port, headers, "/phones/rollouts")


async def test_a_roll_out_that_was_stopped_says_why_on_its_page(port, site, phone_id):
    made = await ask(port, site, "POST", "rollouts", NTP | {"canary": {"random": 1}}, expect=201)
    async with port.database.sessions.begin() as session:
        row = await session.get(Rollout, made["id"])
        await rollout.roll_back(session, SYSTEM, row, "1 of 1 canary phones failed. Front desk: 911 would <wait>.")
    text = await page(port, await port.browser(site), f"/phones/rollouts/{made['id']}")
    assert "Front desk: 911 would &lt;wait&gt;." in text
    assert "Publish to all" not in text


async def test_the_files_page_shows_each_file_with_what_differs(port, site, phone_id):
    headers = await port.browser(site)
    assert "Never fetched" in await page(port, headers, f"/phones/{phone_id}/files")
    await keep_fetched(port, phone_id, "account.1.enable = 1\nsomething = else\n")
    text = await page(port, headers, f"/phones/{phone_id}/files")
    assert "something = else" in text
    assert "Removed: " in text
    assert "s3cret-101" not in text


def moved(shipped: str) -> str:
    """The shipped text with a registrar of its own: allowed, and told."""
    own = shipped.replace("sip_server.1.address = {{ line.registrar_host }}", "sip_server.1.address = own")
    assert own != shipped
    return own


async def test_what_a_template_changes_is_told_as_its_roll_out_begins_and_as_it_is_published(port, site, phone_id):
    """P-15, P-17: the warnings of a change that is allowed, in both answers."""
    body = moved(vendors.known().profiles["yealink"].templates["base.cfg.j2"])
    wished = {"kind": "template", "target": "yealink/base.cfg.j2", "after": body, "canary": {"phones": [phone_id]}}
    made = await ask(port, site, "POST", "rollouts", wished, expect=201)
    assert "'own'" in made["warnings"][0]
    assert (await ask(port, site, "GET", f"rollouts/{made['id']}", expect=200))["warnings"] == []
    done = await ask(port, site, "POST", f"rollouts/{made['id']}/publish", expect=200, If_Match='"1"')
    assert done["warnings"] == made["warnings"]


async def test_a_roll_out_back_to_the_shipped_text_is_tried_beside_the_others(port, site, phone_id):
    """P-15, P-17: another template needs what only the account's own text had."""
    texts = {
        "time.cfg.j2": "{% macro ours() %}x = 1{% endmacro %}{% include 'time.cfg.j2' %}\n",
        "common.cfg.j2": "{% from 'time.cfg.j2' import ours with context %}{{ ours() }}{% include 'common.cfg.j2' %}\n",
    }
    for name, text in texts.items():
        await ask(port, site, "POST", "templates", {"vendor": "yealink", "name": name, "body": text}, expect=201)
    back = {"kind": "template", "target": "yealink/time.cfg.j2", "after": None, "canary": {"phones": [phone_id]}}
    told = await ask(port, site, "POST", "rollouts", back, expect=422)
    assert "ours" in " ".join(fault["detail"] for fault in told["errors"])


async def test_a_page_asks_once_more_before_such_a_roll_out_begins_and_is_published(port, site, phone_id):
    """P-17: read and accepted, as where a template is published at once; what was typed is kept."""
    headers = await port.browser(site)
    body = moved(vendors.known().profiles["yealink"].templates["base.cfg.j2"])
    typed = {"subject": "template:yealink/base.cfg.j2", "after": body}
    at = await post(port, headers, "/phones/rollouts/new", typed)
    await port.ended(site, at.rpartition("/")[2])
    group = {"canary.phones": "00:15:65:4A:A9:37", "failures": "0", "minutes": "7"}
    asked = await port.call("POST", f"{at}/start", headers, data=group, allow_redirects=False)
    text = await asked.text()
    assert asked.status == 409
    assert "&#39;own&#39;" in text
    assert 'name="accept"' in text
    assert 'value="7"' in text
    began = (await post(port, headers, f"{at}/start", group | {"accept": "on"})).partition("?")[0]
    asked = await port.call("POST", f"{began}/publish", headers, data={"version": "1"}, allow_redirects=False)
    assert (asked.status, 'name="accept"' in await asked.text()) == (409, True)
    await post(port, headers, f"{began}/publish", {"version": "1", "accept": "on"})
    assert "Published to all" in await page(port, headers, began)
