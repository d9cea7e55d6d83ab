"""Platform operators: acting for any account, each act in that account's own log; and nobody else acts for another."""

import json
import re

import pytest

from admin import audit_accounts
from admin.routes import PUBLIC
from engine.accounts import operations, operators, store
from engine.accounts.passwords import hash_password
from engine.audit.record import PLATFORM
from engine.models import Role
from tests.unit.admin.adminport import CLI, PASSWORD, AdminPort, Site
from tests.unit.admin.formbrowser import Browser
from tests.unit.admin.furnished import API_ROUTES, furnish

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

HELPER = "helper@platform.example"
NAMED = "Callpoint-Account"
GROUPS = "/api/v1/audit-log/groups"


async def _operator(port: AdminPort, role: Role = Role.OWNER, email: str = HELPER) -> str:
    hashed = await hash_password(PASSWORD)
    async with port.database.sessions.begin() as session:
        user = await operators.create_operator(session, CLI, email, "Hanna Helper", hashed, role)
    return user.id


async def _operators_key(port: AdminPort, *scopes: str) -> dict[str, str]:
    async with port.database.sessions.begin() as session:
        home = await store.account_by_id(session, store.OPERATORS)
        assert home is not None
        made = await operations.create_api_key(session, CLI, home, name="fleet script", scopes=scopes or ("*",))
    return {"Authorization": f"Bearer {made.clear}"}


async def test_an_operators_key_acts_for_the_account_it_names(port: AdminPort, site: Site) -> None:
    """S0-35: by header, one account a request; the account's own log names a platform operator and the address."""
    other = await port.site("Beta Clinic", "owner@beta.example")
    await _operator(port)
    key = await _operators_key(port)
    listed = await (await port.call("GET", "/api/v1/accounts", key)).json()
    assert {row["id"] for row in listed["data"]} == {site.account.id, other.account.id}
    for account in (site.account, other.account):
        answer = await port.call(
            "PATCH", "/api/v1/account", key | {NAMED: account.id, "If-Match": "*"}, json={"phone": "+15185550199"}
        )
        assert (answer.status, (await answer.json())["name"]) == (200, account.name)
        entry = (await port.entries(account.id))[-1]
        told = json.loads(entry.entry)
        assert (entry.event, entry.actor_type, entry.actor_name) == (
            "account.update",
            "platform_operator",
            "fleet script",
        )
        assert (told["actor"]["display_name"], entry.ip) == ("Platform operator fleet script", "127.0.0.1")
        assert told["changes"]["phone"] == {"before": "", "after": "+15185550199"}
        admins = site.auth if account is site.account else other.auth
        seen = await (await port.call("GET", "/api/v1/audit-log?event=account.update", admins)).json()
        assert [row["actor"]["type"] for row in seen["data"]] == ["platform_operator"]
    missing = await port.call("GET", "/api/v1/account", key | {NAMED: f"{site.account.id[:-4]}zzzz"})
    assert missing.status == 404


async def test_an_idempotency_key_is_one_accounts_alone(port: AdminPort, site: Site) -> None:
    """AD-API: the same key and body for another account is another request: no answer of one is given to the other."""
    other = await port.site("Beta Clinic", "owner@beta.example")
    await _operator(port)
    key = await _operators_key(port) | {"Idempotency-Key": "once"}
    made = set()
    for account in (site.account, other.account, site.account):
        answer = await port.call(
            "POST", "/api/v1/contacts", key | {NAMED: account.id}, json={"name": "N", "number": "1"}
        )
        assert answer.status == 201, await answer.text()
        made.add((account.id, (await answer.json())["id"]))
    assert len(made) == 2


async def test_an_operator_enters_and_leaves_an_account_in_the_pages(port: AdminPort, site: Site) -> None:
    """S0-35: chosen from a list; a banner says so; entering, acting and leaving stand in the account's log."""
    user_id = await _operator(port)
    browser = Browser(port)
    await browser.sign_in(HELPER)
    status, page, _address = await browser.ask("GET", "/accounts?name=acme")
    assert (status, site.account.name in page) == (200, True)
    assert "No account of that name" in (await browser.ask("GET", "/accounts?name=zzz"))[1]
    assert (await browser.ask("POST", f"/accounts/{site.account.id}/enter"))[0] == 303
    page = (await browser.ask("GET", "/settings"))[1]
    assert "as platform operator" in page
    assert "Acme Dental" in page
    await browser.ask("POST", "/settings/recipients", email="frontdesk@acme.example")
    await browser.ask("POST", "/accounts/leave")
    assert "as platform operator" not in (await browser.ask("GET", "/accounts"))[1]
    entries = [one for one in await port.entries(site.account.id) if one.actor_id == user_id]
    assert [one.event for one in entries if one.access == "write"] == [
        "operator.enter", "notification_recipient.create", "operator.leave"
    ]  # fmt: skip
    assert {(one.actor_type, one.actor_name, one.ip) for one in entries} == {("platform_operator", HELPER, "127.0.0.1")}
    events = [one.event for one in await port.entries(store.OPERATORS)]
    assert events[:2] == ["operator.create", "session.create"]


async def test_an_auditing_operator_changes_nothing(port: AdminPort, site: Site) -> None:
    """S2-14: the role that an operator has counts in every account."""
    await _operator(port, Role.AUDITOR)
    browser = Browser(port)
    await browser.sign_in(HELPER)
    await browser.ask("POST", f"/accounts/{site.account.id}/enter")
    assert (await browser.ask("GET", "/audit"))[0] == 200
    assert (await browser.ask("POST", "/settings/recipients", email="frontdesk@acme.example"))[0] == 403
    assert (await port.entries(site.account.id))[-1].outcome == "denied"


async def test_nobody_else_names_another_account(port: AdminPort, site: Site) -> None:
    """AD-AUTH: key and user; a real account and one that never was answer alike, denied in the asker's own log."""
    other = await port.site("Beta Clinic", "owner@beta.example")
    before = len(await port.entries(other.account.id))
    made_up = f"{other.account.id[:-4]}zzzz"
    for headers in (site.auth, await port.browser(site)):
        said = set()
        for named in (other.account.id, made_up, "nonsense", store.OPERATORS):
            answer = await port.call("GET", "/api/v1/account", headers | {NAMED: named})
            problem = await answer.json()
            said.add((answer.status, problem["code"], problem["detail"]))
            entry = (await port.entries(site.account.id))[-1]
            assert (entry.outcome, json.loads(entry.entry)["reason"]) == ("denied", "not_your_account")
        assert {(status, code) for status, code, _detail in said} == {(403, "not_your_account")}
        assert len(said) == 1
        assert (await port.call("GET", "/api/v1/account", headers | {NAMED: site.account.id})).status == 200
    assert len(await port.entries(other.account.id)) == before
    listed = await (await port.call("GET", "/api/v1/accounts", site.auth)).json()
    assert [row["id"] for row in listed["data"]] == [site.account.id]
    for path in (f"/accounts/{other.account.id}/enter", "/accounts/leave"):
        answer = await port.call("POST", path, await port.browser(site), allow_redirects=False)
        assert answer.status == 403
    assert (await port.call("GET", "/accounts", await port.browser(site), allow_redirects=False)).status == 404


async def test_every_operation_is_closed_to_who_names_another_account(port: AdminPort, site: Site) -> None:
    """AD-AUTH: isolation over the whole table: a foreign account's header opens nothing, and nothing is told there."""
    other = await port.site("Beta Clinic", "owner@beta.example")
    foreign = await furnish(port, other, "10.7")
    before = len(await port.entries(other.account.id))
    faults = []
    for route in API_ROUTES:
        if route.scope is PUBLIC:
            continue
        answer = await port.call(
            route.method, foreign.path(route), site.auth | {NAMED: other.account.id, "If-Match": "*"},
            json={},
        )  # fmt: skip
        faults += [] if answer.status == 403 else [f"{route.method} {route.path}: {answer.status}"]
    assert faults == []
    assert len(await port.entries(other.account.id)) == before


async def test_the_operators_account_is_no_account_among_others(port: AdminPort, site: Site) -> None:
    """S1-60: an installation with one account and operators still tells that account what strangers tried."""
    await _operator(port)
    await Browser(port).sign_in("nobody@example.net")
    rows = (await (await port.call("GET", "/api/v1/auth-log", site.auth)).json())["data"]
    assert [row["email"] for row in rows] == ["nobody@example.net"]
    async with port.database.sessions() as session:
        assert [one.id for one in await store.accounts(session)] == [site.account.id]
    assert [one.event for one in await port.entries(PLATFORM)] == ["session.create"]


async def test_an_operator_is_managed_like_everybody(port: AdminPort, site: Site) -> None:
    """S2-33: the operators' account has a security policy of its own, which counts for operators alone."""
    await _operator(port)
    key = await _operators_key(port)
    changed = {"two_factor": "required"}
    answer = await port.call("PATCH", "/api/v1/security-policy", key | {"If-Match": "*"}, json=changed)
    assert answer.status == 200
    browser = Browser(port)
    assert (await browser.sign_in(HELPER))[2] == "/login/enrol?next=/"
    shown = await (await port.call("GET", "/api/v1/security-policy", site.auth)).json()
    assert shown["two_factor"] == "optional"


async def test_an_operator_gives_an_account_a_new_owner(port: AdminPort, site: Site) -> None:
    """S2-14: somebody has to help where the last owner is gone; an auditing operator may not."""
    await _operator(port)
    browser = Browser(port)
    await browser.sign_in(HELPER)
    await browser.ask("POST", f"/accounts/{site.account.id}/enter")
    assert '<option value="owner"' in (await browser.ask("GET", "/users"))[1]
    status, page, _address = await browser.ask("POST", "/users", email="heir@acme.example", name="Heir", role="owner")
    assert (status, "/invitation?k=" in page) == (200, True)
    entry = (await port.entries(site.account.id))[-1]
    assert (entry.event, entry.outcome, entry.actor_name) == ("user.create", "success", HELPER)
    narrow = await _operators_key(port, "users:write") | {NAMED: site.account.id}
    refused = await port.call("POST", "/api/v1/users", narrow, json={"email": "x@acme.example", "role": "owner"})
    assert refused.status == 403


async def test_the_log_is_grouped_over_every_account_for_an_operator(port: AdminPort, site: Site) -> None:
    """S2-05: by account, with counts and the newest of each; each look stands in that account's log."""
    other = await port.site("Beta Clinic", "owner@beta.example")
    await _operator(port)
    key = await _operators_key(port)
    for account, count in ((site, 3), (other, 2)):
        for number in range(count):
            body = {"name": f"N{number}", "number": "1"}
            assert (await port.call("POST", "/api/v1/contacts", account.auth, json=body)).status == 201
    asked = {"by": "account", "event": "contact.create"}
    told = await (await port.call("GET", GROUPS, key, params=asked)).json()
    assert [(one["value"], one["label"], one["count"], one["is_complete"]) for one in told["groups"]] == [
        (site.account.id, "Acme Dental", 3, True), (other.account.id, "Beta Clinic", 2, True),
    ]  # fmt: skip
    assert [entry["chain"] for entry in told["groups"][1]["newest"]] == [other.account.id] * 2
    assert (told["is_complete"], told["next_after"]) == (True, None)
    for chain in (site.account.id, other.account.id):
        entry = (await port.entries(chain))[-1]
        assert (entry.event, entry.actor_type, entry.outcome) == ("audit_log.group", "platform_operator", "success")
        assert (entry.actor_name, json.loads(entry.entry)["status"]) == ("fleet script", 200)
    assert (await port.entries(store.OPERATORS))[-1].event == "audit_log.group"
    named = key | {NAMED: other.account.id}
    told = await (await port.call("GET", GROUPS, named, params=asked)).json()
    assert [one["label"] for one in told["groups"]] == ["Beta Clinic"]
    bad = await port.call("GET", GROUPS, key, params=asked | {"after": "nonsense"})
    assert (bad.status, (await bad.json())["errors"][0]["field"]) == (422, "after")
    own = await (await port.call("GET", GROUPS, site.auth, params=asked)).json()
    assert [(one["label"], one["count"]) for one in own["groups"]] == [("Acme Dental", 3)]
    assert (await port.call("GET", GROUPS, site.auth, params=asked | {"after": other.account.id})).status == 422


async def test_an_operators_page_groups_over_accounts_and_leads_into_one(port: AdminPort, site: Site) -> None:
    """S2-05: what stands elsewhere is opened by acting for that account, and then its list is there, filtered alike."""
    other = await port.site("Beta Clinic", "owner@beta.example")
    await port.call("POST", "/api/v1/contacts", other.auth, json={"name": "N", "number": "1"})
    await _operator(port)
    browser = Browser(port)
    await browser.sign_in(HELPER)
    status, page, _address = await browser.ask("GET", "/audit?group=account&event=contact.create")
    assert (status, "1 group of all the accounts you may act for" in page) == (200, True)
    assert "<strong>Beta Clinic</strong>" in page
    assert f'action="/accounts/{other.account.id}/enter"' in page
    assert [one.event for one in await port.entries(site.account.id)][-1] == "audit_log.list"  # looked into, no match
    leads = re.search(r'name="next" value="([^"]+)"', page)
    assert leads is not None
    _status, _page, address = await browser.ask("POST", f"/accounts/{other.account.id}/enter", next=leads[1])
    assert address == "/audit?event=contact.create&done=account-entered"
    assert "1 entry shown" in (await browser.ask("GET", address))[1]
    assert "1 group." in (await browser.ask("GET", "/audit?group=account&event=contact.create"))[1]
    leaving = await browser.ask("POST", f"/accounts/{other.account.id}/enter", next="https://evil.example/")
    assert leaving[2] == "/?done=account-entered"


async def test_more_accounts_than_one_answer_holds_follow_behind_it(
    port: AdminPort, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S2-05: page by page, each account once; nobody's log is looked into for a page that was not asked for."""
    others = [await port.site(f"Account {number}", f"owner{number}@beta.example") for number in range(4)]
    await _operator(port)
    key = await _operators_key(port)
    monkeypatch.setattr(audit_accounts, "AT_ONCE", 2)
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        told = await (await port.call("GET", GROUPS, key, params={"by": "account"} | after)).json()
        seen += [one["value"] for one in told["groups"]]
        if told["next_after"] is None:
            break
        assert told["is_complete"] is False
        after = {"after": told["next_after"]}
    everybody = [store.OPERATORS, site.account.id, *(one.account.id for one in others)]
    assert sorted(seen) == sorted(everybody)
    last = others[-1].account.id
    assert [one.event for one in await port.entries(last)].count("audit_log.group") == 1
