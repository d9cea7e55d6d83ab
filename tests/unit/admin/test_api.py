"""The API's manners: versions, pages, repeats, every bad field at once, others' rows, a database that is away."""

import asyncio
import io
import json
import sqlite3
from typing import Any

import pytest
from sqlalchemy import event as sql_event

from admin.api.reference import openapi
from tests.unit.admin.adminport import CIVIC, AdminPort, Site, away
from tests.unit.admin.furnished import API_ROUTES, furnish

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

LOCATIONS = "/api/v1/locations"
PBXS = "/api/v1/pbxs"


async def _make(port: AdminPort, site: Site, name: str) -> dict[str, Any]:
    answer = await port.call("POST", LOCATIONS, site.auth, json={"name": name, "civic_address": CIVIC})
    assert answer.status == 201
    made: dict[str, Any] = await answer.json()
    assert answer.headers["Location"] == f"{LOCATIONS}/{made['id']}"
    assert answer.headers["ETag"] == '"1"'
    return made


async def test_a_change_names_the_version_it_was_made_from(port: AdminPort, site: Site) -> None:
    """AD-API: 428 without If-Match, 412 with an old one, and the ETag moves with the change."""
    path = f"{LOCATIONS}/{(await _make(port, site, 'HQ'))['id']}"
    missing = await port.call("PATCH", path, site.auth, json={"name": "A"})
    assert (missing.status, (await missing.json())["code"]) == (428, "precondition_required")
    done = await port.call("PATCH", path, site.auth | {"If-Match": '"1"'}, json={"name": "A"})
    assert (done.status, done.headers["ETag"]) == (200, '"2"')
    stale = await port.call("PATCH", path, site.auth | {"If-Match": '"1"'}, json={"name": "B"})
    assert (stale.status, (await stale.json())["code"]) == (412, "stale")
    assert (await port.call("DELETE", path, site.auth | {"If-Match": '"1"'})).status == 412
    assert (await port.call("DELETE", path, site.auth | {"If-Match": "2"})).status == 400
    assert (await port.call("DELETE", path, site.auth | {"If-Match": '"7", "2"'})).status == 204
    assert (await port.call("GET", path, site.auth)).status == 404


async def test_of_many_changes_from_one_version_exactly_one_is_taken(port: AdminPort, site: Site) -> None:
    """AD-API: no update is lost, however close together they come."""
    path = f"{LOCATIONS}/{(await _make(port, site, 'HQ'))['id']}"

    async def change(name: str) -> int:
        return (await port.call("PATCH", path, site.auth | {"If-Match": '"1"'}, json={"name": name})).status

    statuses = await asyncio.gather(*(change(f"name {n}") for n in range(12)))
    assert sorted(statuses) == [200] + [412] * 11


async def test_a_phones_version_moves_with_its_keys(port: AdminPort, site: Site) -> None:
    """AD-API: which line sits on which key is part of what the ETag stands for."""
    made = await furnish(port, site)
    path = f"/api/v1/phones/{made.ids['phones']}"
    put = await port.call("PATCH", path, site.auth | {"If-Match": '"1"'}, json={"lines": [made.ids["lines"]]})
    assert (put.status, (await put.json())["lines"]) == (200, [made.ids["lines"]])
    assert put.headers["ETag"] == '"2"'


async def test_pages_show_every_row_once_while_rows_come_and_go(port: AdminPort, site: Site) -> None:
    """AD-API: keyset cursors: rows added and removed between two pages shift nothing."""
    made = [(await _make(port, site, f"site {n:02d}"))["id"] for n in range(11)]
    seen: list[str] = []
    cursor, pages = "", 0
    while True:
        query = {"limit": "4"} | ({"cursor": cursor} if cursor else {})
        page = await (await port.call("GET", LOCATIONS, site.auth, params=query)).json()
        seen += [row["id"] for row in page["data"]]
        pages += 1
        if pages == 1:
            await port.call("DELETE", f"{LOCATIONS}/{made[1]}", site.auth | {"If-Match": "*"})
            made.append((await _make(port, site, "late"))["id"])
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert seen == made
    assert pages == 3


async def test_a_cursor_belongs_to_its_list_and_account(port: AdminPort, site: Site) -> None:
    """AD-API: made up, changed, of another list or of another account: refused and named."""
    other = await port.site("Beta Books", "owner@beta.example")
    for who in (site, other):
        for n in range(3):
            await _make(port, who, f"site {n}")
    page = await (await port.call("GET", LOCATIONS, site.auth, params={"limit": "1"})).json()
    cursor = page["next_cursor"]
    for auth, path, tried in (
        (site.auth, LOCATIONS, "made-up"),
        (site.auth, LOCATIONS, cursor[:-2] + "AA"),
        (site.auth, LOCATIONS, "\u00e9"),
        (site.auth, LOCATIONS, ""),
        (site.auth, PBXS, cursor),
        (other.auth, LOCATIONS, cursor),
    ):
        answer = await port.call("GET", path, auth, params={"cursor": tried})
        assert answer.status == 422, tried
        assert [fault["field"] for fault in (await answer.json())["errors"]] == ["cursor"]
    assert (await port.call("GET", LOCATIONS, site.auth, params={"limit": "2", "cursor": cursor})).status == 200


@pytest.mark.parametrize("limit", ["0", "-1", "201", "ten", "", "1e2", "9" * 50])
async def test_a_limit_is_a_number_up_to_two_hundred(port: AdminPort, site: Site, limit: str) -> None:
    """AD-API: anything else is refused by name."""
    answer = await port.call("GET", LOCATIONS, site.auth, params={"limit": limit})
    assert answer.status == 422
    assert (await answer.json())["errors"][0]["field"] == "limit"


async def test_a_misspelt_parameter_is_refused(port: AdminPort, site: Site) -> None:
    """AD-API: a filter nobody reads must not look like one that found everything."""
    answer = await port.call("GET", "/api/v1/audit-log", site.auth, params={"outcom": "denied", "acter": "x"})
    assert answer.status == 422
    assert [fault["field"] for fault in (await answer.json())["errors"]] == ["acter", "outcom"]


@pytest.mark.parametrize(
    ("path", "bad"),
    [
        ("audit-log", "outcome"),
        ("audit-log/groups", "by"),
        ("audit-log/groups", "after"),
        ("audit-log/groups", "since"),
        ("exports/audit-log/csv", "category"),
        ("exports/audit-log/jsonl", "until"),
        ("emergency-calls", "acknowledged"),
        ("exports/emergency-calls/csv", "kind"),
        ("exports/emergency-calls/jsonl", "outcome"),
        ("notifications", "state"),
        ("anomalies", "dismissed"),
        ("location-tests", "untested_days"),
        ("auth-log", "method"),
        ("fetch-log", "outcome"),
        ("phones", "status"),
    ],
)
async def test_unknown_parameters_and_bad_filters_are_told_at_once(
    port: AdminPort, site: Site, path: str, bad: str
) -> None:
    """AD-API: nobody mends one to be told of the other."""
    answer = await port.call("GET", f"/api/v1/{path}", site.auth, params={"nonsense": "1", bad: "never so"})
    assert answer.status == 422
    assert sorted(fault["field"] for fault in (await answer.json())["errors"]) == sorted([bad, "nonsense"])


async def test_a_repeated_request_is_carried_out_once(port: AdminPort, site: Site) -> None:
    """AD-API: Idempotency-Key: the same answer again, the once-shown secret included, and an entry that says so."""
    headers = site.auth | {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
    body = {"name": "backup script", "scopes": ["audit:read"]}
    first = await port.call("POST", "/api/v1/api-keys", headers, json=body)
    again = await port.call("POST", "/api/v1/api-keys", headers, json=body)
    assert (first.status, again.status) == (201, 201)
    assert await first.json() == await again.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert json.loads((await port.entries(site.account.id))[-1].entry)["reason"] == "replayed"
    listed = await (await port.call("GET", "/api/v1/api-keys", site.auth)).json()
    assert len(listed["data"]) == 2
    other = await port.call("POST", "/api/v1/api-keys", headers, json=body | {"name": "other"})
    assert other.status == 422


async def test_a_repeated_key_of_somebody_else_is_another_request(port: AdminPort, site: Site) -> None:
    """AD-API: keys of two askers never meet; a refused request may be sent again with its key."""
    other = await port.site("Beta Books", "owner@beta.example")
    key = {"Idempotency-Key": "one"}
    for who in (site, other):
        bad = await port.call("POST", LOCATIONS, who.auth | key, json={"name": "HQ"})
        assert bad.status == 422
        good = await port.call("POST", LOCATIONS, who.auth | key, json={"name": "HQ", "civic_address": CIVIC})
        assert good.status == 201
        assert "Idempotency-Replayed" not in good.headers


async def test_of_many_repeats_at_once_exactly_one_is_carried_out(port: AdminPort, site: Site) -> None:
    """AD-API: twenty at the same moment make one row."""
    headers = site.auth | {"Idempotency-Key": "burst"}

    async def send() -> str:
        answer = await port.call("POST", LOCATIONS, headers, json={"name": "HQ", "civic_address": CIVIC})
        assert answer.status == 201
        return str((await answer.json())["id"])

    made = await asyncio.gather(*(send() for _ in range(20)))
    assert len(set(made)) == 1
    assert len((await (await port.call("GET", LOCATIONS, site.auth)).json())["data"]) == 1


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("trunks", {"port": "5060", "priorty": 1, "transport": "x"}, {"name", "host", "port", "priorty", "transport"}),
        ("trunks", {"name": "a\r\nb", "host": "sip.example"}, {"name"}),
        ("trunks", {"name": "a", "host": "10.0.0.999"}, {"host"}),
        ("trunks", {"name": "a", "host": "h", "auth_user": 'a"b', "test_number": "x33"}, {"auth_user", "test_number"}),
        ("pbxs", {"name": "a", "sources": ["10.0.0.0/8", "x", "0.0.0.0/0"]}, {"sources[1]", "sources[2]"}),
        ("pbxs", {"sources": ["10.0.0.0/8"], "default_route": "x", "registrar_port": 0},
         {"name", "registrar_port", "default_route"}),
        ("pbxs", {"name": "nobody could tell it from a stranger"}, {"sources"}),
        ("pbxs", {"name": "a", "default_route": "tel:1", "tls_name": "a"}, {"default_route"}),
        ("locations", {"name": "a", "civic_address": {"XX": "1"}}, {"civic_address.XX", "civic_address.country"}),
        ("lines", {"extension": "911"}, {"extension"}),
        ("lines", {"extension": "9911", "display_name": "a"}, {"extension"}),
        ("phones", {"mac": "nothing-like-it", "vendor": "acme", "model": "1"}, {"mac", "vendor"}),
        ("users", {"email": "not an address"}, {"email"}),
        ("users", {"email": "a@acme.example", "password": "short"}, {"password"}),
        ("users", {"email": "a@acme.example", "password": "passwordpassword"}, {"password"}),
        ("api-keys", {"name": "a", "scopes": ["everything"]}, {"scopes[0]"}),
        ("api-keys", {"name": "a", "scopes": ["*"], "expires_at": "2020-01-01T00:00:00Z"}, {"expires_at"}),
        ("notification-recipients", {"email": "a@b@c"}, {"email"}),
        ("notification-recipients", [], {"(body)"}),
    ],
)  # fmt: skip
async def test_every_bad_field_is_named(port: AdminPort, site: Site, path: str, body: Any, fields: set[str]) -> None:
    """AD-API: problem+json names each field at fault, and what was sent is never repeated when it may be secret."""
    answer = await port.call("POST", f"/api/v1/{path}", site.auth, json=body)
    said = await answer.json()
    assert answer.status == 422
    assert answer.content_type == "application/problem+json"
    assert {fault["field"] for fault in said["errors"]} == fields
    assert {"type", "title", "status", "detail", "code", "instance"} <= said.keys()


@pytest.mark.parametrize(
    ("sent", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"email": "a@b.example"} trailing', "application/json", 400),
        (b'{"email": "\xff"}', "application/json", 400),
        (b'{"email": "a@b.example"}', "text/plain", 415),
        (b"email=a@b.example", "application/x-www-form-urlencoded", 415),
        (b'{"email": "' + b"a" * (1 << 20) + b'"}', "application/json", 413),
        (b"[" * 100_000, "application/json", 400),
    ],
)
async def test_a_body_that_is_no_json_of_ours_is_refused(
    port: AdminPort, site: Site, sent: bytes, content_type: str, status: int
) -> None:
    """AD-API: malformed, of another type, or too large."""
    headers = site.auth | {"Content-Type": content_type}
    answer = await port.call("POST", "/api/v1/notification-recipients", headers, data=io.BytesIO(sent))
    assert answer.status == status
    assert (await answer.json())["status"] == status


async def test_a_form_whose_parts_cannot_be_told_apart_is_refused_in_words(port: AdminPort) -> None:
    """A multipart form that says no boundary is the sender's fault, and nothing of it was done."""
    headers = {"Content-Type": "multipart/form-data"}
    for path in ("/login", "/settings/recipients", "/settings/chats/new"):
        answer = await port.call("POST", path, headers, data=io.BytesIO(b"email=a%40b.example"))
        assert (path, answer.status) == (path, 400)
        assert "no boundary" in await answer.text()


async def test_a_method_that_is_not_served_says_which_are(port: AdminPort, site: Site) -> None:
    """AD-API: 405 with Allow (RFC 9110 §15.5.6), as a problem."""
    answer = await port.call("PUT", "/api/v1/account", site.auth, json={})
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PATCH"}


async def test_a_network_names_one_pbx_over_all_accounts(port: AdminPort, site: Site) -> None:
    """E-05: whatever the spelling, a source belongs to one PBX; whose, is not said."""
    other = await port.site("Beta Books", "owner@beta.example")
    first = await port.call("POST", PBXS, site.auth, json={"name": "P", "sources": ["10.1.2.3/16", "192.0.2.1"]})
    assert (await first.json())["sources"] == ["10.1.0.0/16", "192.0.2.1/32"]
    taken = await port.call("POST", PBXS, other.auth, json={"name": "Q", "sources": ["::ffff:10.1.0.0/112"]})
    assert taken.status == 409
    assert "Acme" not in await taken.text()
    inside = await port.call("POST", PBXS, other.auth, json={"name": "Q", "sources": ["10.1.5.0/24"]})
    assert (inside.status, "overlaps" in await inside.text()) == (409, True)  # the narrower would take its 911 calls
    assert "Acme" not in await inside.text()
    path = f"{PBXS}/{(await first.json())['id']}"
    kept = await port.call("PATCH", path, site.auth | {"If-Match": "*"}, json={"sources": ["10.1.0.0/16"]})
    assert kept.status == 200


async def test_a_secret_goes_in_and_never_comes_out(port: AdminPort, site: Site) -> None:
    """AD-API: line and trunk secrets are write only; a change that leaves them out keeps them."""
    made = await furnish(port, site)
    for name, secret in (("lines", "s3cret-101"), ("trunks", "trunk-secret")):
        path = f"/api/v1/{name}/{made.ids[name]}"
        await port.call("PATCH", path, site.auth | {"If-Match": "*"}, json={"auth_user": "desk"})
        shown = await (await port.call("GET", path, site.auth)).text()
        assert secret not in shown
        assert "secret" not in json.loads(shown)
    await port.call(
        "PATCH",
        f"/api/v1/phones/{made.ids['phones']}",
        site.auth | {"If-Match": "*"},
        json={"lines": [made.ids["lines"]]},
    )
    await port.call("POST", "/api/v1/provisioning-token/generate", site.auth)
    file = await port.call("GET", f"/api/v1/phones/{made.ids['phones']}/files/0015654aa937.cfg", site.auth)
    assert "s3cret-101" in await file.text()


async def test_a_rotated_token_replaces_the_first(port: AdminPort, site: Site) -> None:
    """S0-24, S0-25: generate once, then rotate; the URL phones boot against carries the token."""
    path = "/api/v1/provisioning-token"
    assert (await port.call("GET", path, site.auth)).status == 404
    first = await (await port.call("POST", f"{path}/generate", site.auth)).json()
    assert (await port.call("POST", f"{path}/generate", site.auth)).status == 409
    second = await (await port.call("POST", f"{path}/rotate", site.auth)).json()
    assert first["token"] != second["token"]
    assert second["provisioning_url"].endswith(f":8080/p/{second['token']}/")
    assert (await (await port.call("GET", path, site.auth)).json()) == second


async def test_a_resync_is_handed_to_the_edge_and_recorded(port: AdminPort, site: Site) -> None:
    """P-12: the NOTIFY goes out and is recorded; one that cannot go is a failure with its reason."""
    from engine.errors import Conflict

    made = await furnish(port, site)
    path = f"/api/v1/phones/{made.ids['phones']}/resync"
    assert (await port.call("POST", path, site.auth)).status == 200
    assert port.edge.resynced == [made.ids["phones"]]
    once = site.auth | {"Idempotency-Key": "resync once"}
    for _ in range(2):
        assert (await port.call("POST", path, once)).status == 200
    assert len(port.edge.resynced) == 2
    port.edge.refusal = Conflict("This phone has not fetched anything yet.")
    refused = await port.call("POST", path, site.auth)
    assert (refused.status, (await refused.json())["detail"]) == (409, "This phone has not fetched anything yet.")
    assert (await port.entries(site.account.id))[-1].outcome == "failure"


async def test_the_audit_log_reads_as_it_was_hashed(port: AdminPort, site: Site) -> None:
    """S0-28, S0-50: newest first, filtered, with before and after, and the hash over the very text shown."""
    from hashlib import sha256

    location = await _make(port, site, "HQ")
    await port.call(
        "PATCH", f"{LOCATIONS}/{location['id']}", site.auth | {"If-Match": "*"}, json={"name": "Head office"}
    )
    query = {"event": "location.update,location.create", "resource": "location_", "outcome": "success"}
    page = await (await port.call("GET", "/api/v1/audit-log", site.auth, params=query)).json()
    assert [row["event"] for row in page["data"]] == ["location.update", "location.create"]
    newest = page["data"][0]
    assert newest["changes"]["name"] == {"before": "HQ", "after": "Head office"}
    assert newest["hash"] == sha256(bytes.fromhex(newest["prev_hash"]) + newest["entry"].encode()).hexdigest()
    one = await (await port.call("GET", f"/api/v1/audit-log/{newest['id']}", site.auth)).json()
    assert one == newest


async def test_a_locked_database_is_said_in_words_and_911_goes_on(port: AdminPort, site: Site) -> None:
    """AD-11: 503 with Retry-After for scripts and people; the process itself is well."""
    path = port.database.sqlite_path
    assert path is not None
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        api, page = await asyncio.gather(
            port.call("GET", LOCATIONS, site.auth), port.call("GET", "/settings", {"Cookie": "callpoint_session=x"})
        )
        assert (api.status, page.status) == (503, 503)
        assert api.headers["Retry-After"]
        assert "911 calls still go out" in (await api.json())["detail"]
        assert page.content_type == "text/html"
        assert "911" in await page.text()
        assert (await port.call("GET", "/healthz", {})).status == 200
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    assert (await port.call("GET", LOCATIONS, site.auth)).status == 200


async def test_a_full_disk_is_said_in_words_and_nothing_is_half_done(port: AdminPort, site: Site) -> None:
    """AD-11: what does not fit is refused whole, reads included (their entry does not fit either); room heals it."""
    engine = port.database.engine

    def fill(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA page_count")
        pages = cursor.fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count = {pages + 8}")
        cursor.close()

    sql_event.listen(engine.sync_engine, "connect", fill)
    await engine.dispose()
    statuses, refused = [], []
    for n in range(40):
        body = {"name": f"site {n} " + "x" * 150, "civic_address": CIVIC}
        answer = await port.call("POST", LOCATIONS, site.auth, json=body)
        statuses.append(answer.status)
        if answer.status == 503:  # a shorter one may still fit behind it, in pages that are not full
            refused.append(await answer.json())
    assert set(statuses) == {201, 503}
    assert all("911 calls still go out" in problem["detail"] for problem in refused)
    sql_event.remove(engine.sync_engine, "connect", fill)
    await engine.dispose()
    listed = await (await port.call("GET", LOCATIONS, site.auth, params={"limit": "200"})).json()
    created = [entry for entry in await port.entries(site.account.id) if entry.event == "location.create"]
    assert len(listed["data"]) == len(created) == statuses.count(201)


async def test_a_database_that_is_gone_is_not_ready_and_comes_back(port: AdminPort, site: Site) -> None:
    """AD-11: readiness says which part is missing; the same process serves again when it is back."""
    async with away(port.database):
        body = {"name": "x", "civic_address": CIVIC}
        assert (await port.call("POST", LOCATIONS, site.auth, json=body)).status == 503
        ready = await port.call("GET", "/readyz", {})
        assert ready.status == 503
        assert (await ready.json())["checks"]["database"]["ok"] is False
    assert (await port.call("GET", LOCATIONS, site.auth)).status == 200


@pytest.mark.parametrize("path", ["/api/v1/account", "/api/v1/nothing", "/login", "/nothing", "/healthz"])
async def test_security_headers_are_on_everything(port: AdminPort, path: str) -> None:
    """AD-AUTH: nothing from elsewhere, no frames, no sniffing, no referrer elsewhere, nothing cached."""
    headers = (await port.call("GET", path, {})).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    # no-referrer would make browsers send `Origin: null` with our own forms (Fetch §3.2.5)
    assert headers["Referrer-Policy"] == ("no-referrer" if path.startswith("/api/") else "same-origin")
    assert headers["Cache-Control"] == "no-store"
    assert "Strict-Transport-Security" not in headers
    assert "aiohttp" not in headers.get("Server", "").lower()


async def test_the_document_describes_every_route_once() -> None:
    """AD-API: OpenAPI 3.1 made of the routes: each is there, with its errors, and no two operations share a name."""
    document = openapi()
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in API_ROUTES}
    names = [item["operationId"] for path in document["paths"].values() for item in path.values()]
    assert len(names) == len(set(names))
    text = json.dumps(document)
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= document["components"]["schemas"].keys()
