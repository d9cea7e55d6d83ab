"""Records lead to their history, the log to who may read it, its filters to users and targets."""

import json
import re

import pytest
from sqlalchemy import select

from admin.audit_filters import TYPE_CHOICES, TYPES, type_words
from engine.audit.events import FACTS, Event
from engine.audit.record import SYSTEM, record
from engine.db import Base
from engine.models import Audited, AuditEntry, Contact, Role, User
from tests.unit.admin.adminport import AdminPort, Site
from tests.unit.admin.furnished import furnish

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
LOG = "/api/v1/audit-log"


async def rows(port: AdminPort, site: Site, **query: str) -> list[dict[str, object]]:
    answer = await port.call("GET", LOG, site.auth, params=query | {"limit": "200"})
    assert answer.status == 200, await answer.text()
    data: list[dict[str, object]] = (await answer.json())["data"]
    return data


async def test_every_record_leads_to_its_own_history(port: AdminPort, site: Site) -> None:
    """S1-53: a History link on each record's page, filtered by exactly that record, for those who may see it."""
    made = await furnish(port, site)
    owner, operator = await port.browser(site), await port.browser(site, Role.OPERATOR)
    pages = {
        "locations": f"/locations/{made.ids['locations']}",
        "phones": f"/phones/{made.ids['phones']}",
        "pbxs": f"/settings/pbxs/{made.ids['pbxs']}",
        "trunks": f"/settings/trunks/{made.ids['trunks']}",
        "users": f"/users/{made.ids['users']}",
        "contacts": f"/phonebook/{made.ids['contacts']}",
        "api-keys": "/settings/api-keys",
        "numbers": "/settings/numbers",
        "rollouts": f"/phones/rollouts/{made.ids['rollouts']}",
        "templates": "/phones/templates/yealink/time.cfg.j2",
        "assets": "/files",
        "emergency-calls": f"/calls/{made.ids['emergency-calls']}",
        "account": "/settings",
    }
    identities = made.ids | {"account": site.account.id}
    missing = []
    for name, path in pages.items():
        answer = await port.call("GET", path, owner)
        text = await answer.text()
        link = f'href="/audit?target={identities[name]}" data-history'
        if answer.status != 200 or link not in text:
            missing.append(f"{name}: {answer.status}")
        answer = await port.call("GET", path, operator)
        if "data-history" in await answer.text():
            missing.append(f"{name}: an operator is offered what is refused")
        page = await (await port.call("GET", f"/audit?target={identities[name]}", owner)).text()
        shown = re.findall(r'<td><span class="mono cut" title="([a-z_]+_[0-9a-z]{26})"', page)
        if not shown or set(shown) != {identities[name]} or "History of <strong>" not in page:
            missing.append(f"{name}: its history shows {set(shown)}")
    assert missing == []


async def test_a_line_leads_to_its_own_history(port: AdminPort, site: Site) -> None:
    """S1-53: the page of a line stands behind its phone."""
    made = await furnish(port, site)
    line = made.ids["lines"]
    answer = await port.call("GET", f"/lines/{line}", await port.browser(site))
    assert f'href="/audit?target={line}" data-history' in await answer.text()


async def test_a_users_acts_are_those_of_their_api_keys_too(port: AdminPort, site: Site) -> None:
    """S1-51: keys that the user made, and keys that those keys made; nobody else's."""
    cookie = await port.browser(site)
    for path in ("/api/v1/phones", "/api/v1/users"):
        await port.call("GET", path, cookie)
    body = {"name": "night job", "scopes": ["*"]}
    made = await (await port.call("POST", "/api/v1/api-keys", cookie, json=body)).json()
    own = {"Authorization": f"Bearer {made['key']}"}
    second = await (await port.call("POST", "/api/v1/api-keys", own, json=body | {"name": "its own"})).json()
    await port.call("GET", "/api/v1/locations", {"Authorization": f"Bearer {second['key']}"})
    await port.call("GET", "/api/v1/trunks", site.auth)  # the tests' own key, which the command made
    found = await rows(port, site, user=site.owner.id)
    actors = {entry["actor"]["id"] for entry in found}  # type: ignore[index]
    assert actors == {site.owner.id, made["id"], second["id"]}
    events = [entry["event"] for entry in found]
    assert {"location.list", "phone.list", "user.list"} <= set(events)
    assert "trunk.list" not in events
    page = await (await port.call("GET", f"/audit?user={site.owner.id}&event=location.list", cookie)).text()
    assert page.count("<tr data-id=") == 1
    assert f'<option value="{site.owner.id}" selected>Olga Owner</option>' in page


async def test_the_action_and_the_target_narrow_the_list(port: AdminPort, site: Site) -> None:
    """S1-44, S1-52, S1-53, S1-41: create, update or delete; by type, by whole identifier; by category."""
    made = await furnish(port, site)
    contact = made.ids["contacts"]
    change = site.auth | {"If-Match": "*"}
    await port.call("PATCH", f"/api/v1/contacts/{contact}", change, json={"name": "Hospital"})
    await port.call("DELETE", f"/api/v1/contacts/{contact}", change)
    for verb in ("create", "update", "delete"):
        found = await rows(port, site, action=verb, target=contact)
        assert [entry["event"] for entry in found] == [f"contact.{verb}"]
        assert {entry["verb"] for entry in await rows(port, site, action=verb)} == {verb}
    assert [entry["verb"] for entry in await rows(port, site, target=contact)] == ["delete", "update", "create"]
    assert await rows(port, site, target=contact[:-1]) == []
    kinds = {entry["resource"]["type"] for entry in await rows(port, site, type="contact")}  # type: ignore[index]
    assert kinds == {"contact"}
    assert {entry["category"] for entry in await rows(port, site, category="Telephony")} == {"Telephony"}
    answer = await port.call("GET", LOG, site.auth, params={"type": "spoon", "action": "eat"})
    assert {fault["field"] for fault in (await answer.json())["errors"]} == {"type", "action"}


def test_every_event_and_audited_row_has_a_type_that_can_be_chosen() -> None:
    """S1-53, S1-45: whatever an entry is about, the filter offers its type, in plain words, once."""
    assert {event.value.partition(".")[0] for event in FACTS} <= set(TYPES)
    rows_ = {row.class_.resource_type for row in Base.registry.mappers if issubclass(row.class_, Audited)}
    assert rows_ <= set(TYPES)
    words = [each for _name, each in TYPE_CHOICES]
    assert len(words) == len(set(words)) == len(TYPES)
    assert (type_words("api_key"), type_words("pbx"), type_words("location")) == ("API key", "PBX", "Location")


async def test_the_target_is_told_by_type_and_name(port: AdminPort, site: Site) -> None:
    """S1-45, S1-43, S1-05: `Type: name` in the list and in the entry, and both names of who did it, as they were."""
    cookie = await port.browser(site)
    body = {"name": "Harbour", "number": "104"}
    made = await (await port.call("POST", "/api/v1/contacts", cookie, json=body)).json()
    entry = (await rows(port, site, target=made["id"]))[0]
    page = await (await port.call("GET", f"/audit?target={made['id']}", cookie)).text()
    assert ">Contact: Harbour</span>" in page
    async with port.database.sessions.begin() as session:
        owner = await session.get(User, site.owner.id)
        assert owner is not None
        owner.name = "Olga Married"
        record(session, SYSTEM, Event.USER_UPDATE, owner)
    page = await (await port.call("GET", f"/audit/{entry['id']}", cookie)).text()
    for words in ("Contact: Harbour", "Olga Owner · owner@acme.example", "Olga Married · owner@acme.example"):
        assert words in page
    assert re.search(r"<dt>Action</dt><dd>Create</dd>", page)
    async with port.database.sessions.begin() as session:
        contact = await session.get(Contact, made["id"])
        assert contact is not None
        await session.delete(contact)
        record(session, SYSTEM, Event.CONTACT_DELETE, contact)
    page = await (await port.call("GET", f"/audit?target={made['id']}", cookie)).text()
    assert page.count(">Contact: Harbour</span>") == 2  # a name outlives its record


async def test_both_sides_of_a_change_are_shown_and_no_secret(port: AdminPort, site: Site) -> None:
    """S1-04, S1-46, S1-47: old and new value of each field; before is empty for a create, after for a delete."""
    made = await furnish(port, site)
    change, cookie = site.auth | {"If-Match": "*"}, await port.browser(site)
    contact, line = made.ids["contacts"], made.ids["lines"]
    await port.call("PATCH", f"/api/v1/contacts/{contact}", change, json={"name": "Harbour"})
    await port.call("PATCH", f"/api/v1/lines/{line}", change, json={"secret": "s3cret-202"})
    await port.call("DELETE", f"/api/v1/contacts/{contact}", change)
    sides = {}
    for entry in await rows(port, site, target=contact):
        page = await (await port.call("GET", f"/audit/{entry['id']}", cookie)).text()
        section = page.partition('id="changes"')[2].partition("</section>")[0]
        row = re.search(r">name</th>(.*?)</tr>", section, re.DOTALL)
        assert row is not None
        sides[entry["verb"]] = re.findall(r'class="(before|after|muted)">([^<]*)<', row[1])
    assert sides == {
        "create": [("muted", "none"), ("after", "Pharmacy")],
        "update": [("before", "Pharmacy"), ("after", "Harbour")],
        "delete": [("before", "Harbour"), ("muted", "none")],
    }
    entry = (await rows(port, site, target=line, action="update"))[0]
    page = await (await port.call("GET", f"/audit/{entry['id']}", cookie)).text()
    assert page.count("A secret, fingerprint") == 2
    assert "s3cret" not in page


async def test_related_entries_are_those_of_the_same_request(port: AdminPort, site: Site) -> None:
    """S2-04: the parts of a bulk change lead to it and to each other; the request is named."""
    made = await furnish(port, site)
    phones = [made.ids["phones"], made.ids["phones/{id}/release"]]
    value = {"action": "setting", "ids": phones, "setting": "vlan_id", "value": 44}
    answer = await port.call("POST", "/api/v1/phones/bulk", site.auth, json=value)
    assert answer.status == 200, await answer.text()
    whole = (await rows(port, site, event="phone.change_many"))[0]
    page = await (await port.call("GET", f"/audit/{whole['id']}", await port.browser(site))).text()
    section = page.partition('id="related"')[2].partition("</section>")[0]
    assert section.count("phone.update</a>") == 2
    part = (await rows(port, site, event="phone.update", target=phones[0]))[0]
    page = await (await port.call("GET", f"/audit/{part['id']}", await port.browser(site))).text()
    assert f'<a href="/audit/{whole["id"]}">' in page
    assert whole["request"]["id"] in page  # type: ignore[index]


async def test_any_part_of_any_stored_field_is_found(port: AdminPort, site: Site) -> None:
    """S1-54: old and new values, the browser, the request's identifier, the reason, the path's template."""
    made = await furnish(port, site)
    change = site.auth | {"If-Match": "*", "User-Agent": "Mozilla/5.0 (Moonbase) Zorilla/9"}
    path = f"/api/v1/contacts/{made.ids['contacts']}"
    await port.call("PATCH", path, change, json={"name": "Harbour master"})
    wanted = (await rows(port, site, target=made.ids["contacts"], action="update"))[0]
    request = wanted["request"]
    assert isinstance(request, dict)
    for keyword in ("Pharm", "harbour MASTER", "Zorilla", request["id"], request["id"][10:], "contacts/{id}", "tests"):
        found = await rows(port, site, keyword=keyword)
        assert wanted["id"] in {entry["id"] for entry in found}, keyword
    await port.call("GET", f"{path[:-4]}zzzz", site.auth)
    assert {entry["reason"] for entry in await rows(port, site, keyword="not_found")} == {"not_found"}


async def test_who_may_not_read_the_log_is_told_whom_to_ask(port: AdminPort, site: Site) -> None:
    """S2-14, S2-15: no link, 403 in page and API, one denied entry each, and the owners and managers by name."""
    managing = await port.browser(site, Role.ACCOUNT_MANAGER)
    headers = await port.browser(site, Role.OPERATOR)
    async with port.database.sessions() as session:
        manager = await session.scalar(select(User).where(User.role == Role.ACCOUNT_MANAGER))
        operator = await session.scalar(select(User).where(User.role == Role.OPERATOR))
    assert manager is not None
    assert operator is not None
    home = await (await port.call("GET", "/", headers)).text()
    assert 'href="/audit"' not in home
    before = len(await port.entries(site.account.id))
    page = await port.call("GET", "/audit", headers)
    text = await page.text()
    assert page.status == 403
    assert f'Olga Owner, owner: <a href="mailto:{site.owner.email}">' in text
    assert text.index(f"mailto:{manager.email}") < text.index(f"mailto:{site.owner.email}")
    assert f"mailto:{operator.email}" not in text
    assert (await port.call("GET", LOG, headers)).status == 403
    fresh = (await port.entries(site.account.id))[before:]
    assert [(entry.event, entry.outcome, entry.actor_id) for entry in fresh] == [
        ("audit_log.list", "denied", operator.id), ("audit_log.list", "denied", operator.id),
    ]  # fmt: skip
    closed = await (await port.call("GET", "/settings/provisioning", managing)).text()
    assert f"mailto:{site.owner.email}" in closed
    assert f"mailto:{manager.email}" not in closed, "nobody is told to ask themselves"
    for role in (Role.OWNER, Role.ADMIN, Role.ACCOUNT_MANAGER, Role.AUDITOR):
        assert (await port.call("GET", "/audit", await port.browser(site, role))).status == 200, role


async def test_who_what_when_and_from_where_are_never_empty(port: AdminPort, site: Site) -> None:
    """S0-31, S0-33, S0-34, S0-35, S0-36, S0-37, S1-42, S1-48: every entry says all of it; time follows the number."""
    made = await furnish(port, site)
    await port.call("GET", f"{LOG}/{made.ids['audit-log']}", site.auth)
    entries = await port.entries(site.account.id)
    assert len(entries) > 25
    last: AuditEntry | None = None
    for entry in entries:
        body = json.loads(entry.entry)
        assert body["actor"]["type"] in {"user", "api_key", "system", "cli", "phone", "anonymous"}
        assert all((body["actor"]["id"], entry.actor_name, entry.ip, body["resource"]["type"], entry.resource_id))
        assert entry.outcome in {"success", "failure", "denied"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["at"])
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+", entry.event)
        assert last is None or (entry.at >= last.at and entry.seq == last.seq + 1)
        last = entry


async def test_what_is_done_in_pages_stands_in_the_log_that_settings_leads_to(port: AdminPort, site: Site) -> None:
    """S2-02, S2-03, S0-28: one code path: a form's act is the API's event; the card loads when it is opened."""
    cookie = await port.browser(site)
    settings = await (await port.call("GET", "/settings", cookie)).text()
    assert 'data-expand="/audit?limit=20"' in settings
    assert '<a class="expander needs-no-script" href="/audit">' in settings
    assert "audit-rows" not in settings
    kept = await (await port.call("GET", "/settings?audit.actor=monit&audit.outcome=denied", cookie)).text()
    assert 'data-expand="/audit?limit=20&amp;actor=monit&amp;outcome=denied"' in kept
    assert 'href="/audit?actor=monit&amp;outcome=denied"' in kept
    assert "was not understood" not in kept
    for path, form in (
        ("/phonebook", {"name": "Harbour", "number": "104"}),
        ("/settings/recipients", {"email": "a@b.example"}),
    ):
        answer = await port.call("POST", path, cookie, data=form, allow_redirects=False)
        assert answer.status == 303, path
    found = {entry["event"]: entry for entry in await rows(port, site, user=site.owner.id)}
    for event in ("account.read", "contact.create", "notification_recipient.create"):
        actor = found[event]["actor"]
        assert isinstance(actor, dict)
        assert (actor["type"], actor["id"], actor["role"]) == ("user", site.owner.id, "owner")
    card = await (await port.call("GET", "/audit?limit=20", cookie)).text()
    assert card.count("<tr data-id=") <= 20


async def test_a_record_that_was_looked_at_or_refused_has_that_in_its_history(port: AdminPort, site: Site) -> None:
    """S0-34, S1-53: pages and API name the record by type and identifier, whatever came of the request."""
    made = await furnish(port, site)
    location, trunk = made.ids["locations"], made.ids["trunks"]
    cookie, operator = await port.browser(site), await port.browser(site, Role.OPERATOR)
    await port.call("GET", f"/locations/{location}", cookie)
    await port.call("GET", f"/api/v1/locations/{location}", site.auth)
    await port.call("POST", f"/settings/trunks/{trunk}/delete", operator, allow_redirects=False)
    reads = await rows(port, site, target=location, event="location.read")
    assert [(entry["actor"]["type"], entry["resource"]["type"]) for entry in reads] == [  # type: ignore[index]
        ("api_key", "location"), ("user", "location"),
    ]  # fmt: skip
    (refused,) = await rows(port, site, target=trunk, outcome="denied")
    assert (refused["event"], refused["status"]) == ("trunk.delete", 403)
