"""The E911 report over HTTP: rows, filters, files, the printout, who is recorded as having read it."""

import csv
import io
import json

import pytest

from admin.audit_export import CHECKPOINT_HEADER
from admin.compliance_export import COLUMNS
from admin.context import COUNTS
from engine.audit.checkpoints import fingerprint, signer_of
from engine.audit.events import Event
from engine.models import Role
from tests.unit.admin.adminport import CIVIC, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback
REPORT = "/api/v1/compliance-report"


async def furnish(port: AdminPort, site: Site) -> dict[str, str]:
    """Two phones with a line each, one of them at a location, and a line on no phone."""
    ids: dict[str, str] = {}

    async def made(as_name: str, path: str, **body: object) -> str:
        answer = await port.call("POST", f"/api/v1/{path}", site.auth, json=body)
        assert answer.status == 201, await answer.text()
        ids[as_name] = (await answer.json())["id"]
        return ids[as_name]

    place = await made("location", "locations", name="Headquarters", civic_address=CIVIC)
    await made("trunk", "trunks", name="Carrier", host="sip.carrier.example")
    await made("recipient", "notification-recipients", email="desk@acme.example")
    lines = [await made(f"line{number}", "lines", extension=f"10{number}") for number in (1, 2, 3)]
    phone = {"vendor": "yealink", "model": "T46U"}
    await made(
        "phone1", "phones", mac="0015654aa931", lines=lines[:1], location_id=place, label="=cmd|' /C calc'", **phone
    )
    await made("phone2", "phones", mac="0015654aa932", lines=lines[1:2], placement="off_premises", **phone)
    return ids


async def test_each_device_has_a_row_and_the_worst_decides(port: AdminPort, site: Site) -> None:
    """E-16: what would go, why, and what to do, as JSON; the pages follow one another without a gap."""
    ids = await furnish(port, site)
    whole = await (await port.call("GET", REPORT, site.auth)).json()
    assert [row["extension"] for row in whole["data"]] == ["101", "102", "103"]
    first, second, alone = whole["data"]
    assert (first["location_name"], first["dispatchable_location"], first["verdict"]) == (
        "Headquarters", "not_met", "not_met",
    )  # fmt: skip
    assert "never validated" in first["dispatchable_location_why"]
    assert first["recipients"] == ["desk@acme.example"]
    assert (second["placement"], second["placement_by"]) == ("off_premises", "said")
    assert second["dispatchable_location_paragraph"] == "47 CFR § 9.16(b)(3)(iii)"
    assert (alone["device_id"], alone["mac"], alone["placement"]) == (ids["line3"], "", "")
    found, cursor = [], None
    while True:
        params = {"limit": "1"} | ({"cursor": cursor} if cursor else {})
        part = await (await port.call("GET", REPORT, site.auth, params=params)).json()
        found += part["data"]
        if (cursor := part["next_cursor"]) is None:
            break
    assert found == whole["data"]


async def test_filters_narrow_it_and_a_bad_one_is_told(port: AdminPort, site: Site) -> None:
    """E-16: by verdict, location and phone; every bad value in one problem document."""
    ids = await furnish(port, site)
    for params, expected in (
        ({"verdict": "not_met"}, ["101", "102", "103"]), ({"verdict": "met"}, []),
        ({"location_id": "none"}, ["102", "103"]),
        ({"location_id": ids["location"]}, ["101"]), ({"phone_id": ids["phone2"]}, ["102"]),
        ({"phone_id": ids["phone2"], "location_id": ids["location"]}, []), ({"phone_id": ids["line3"]}, []),
    ):  # fmt: skip
        rows = (await (await port.call("GET", REPORT, site.auth, params=params)).json())["data"]
        assert [row["extension"] for row in rows] == expected, params
    bad = {"verdict": "fine", "location_id": "x", "phone_id": "'", "limit": "0", "nonsense": "1", "cursor": "zzz"}
    answer = await port.call("GET", REPORT, site.auth, params=bad)
    assert (answer.status, answer.content_type) == (422, "application/problem+json")
    assert {one["field"] for one in (await answer.json())["errors"]} == set(bad)
    answer = await port.call(
        "GET", "/api/v1/exports/compliance-report/csv", site.auth, params={"verdict": "x", "limit": "1"}
    )
    assert answer.status == 422
    answer = await port.call("GET", "/compliance/export.csv", await port.browser(site), params={"verdict": "x"})
    assert answer.status == 422  # a file without the filter that was asked for would look like the one with it


async def test_both_files_have_the_same_columns_and_say_when_they_were_made(port: AdminPort, site: Site) -> None:
    """E-16: CSV and JSON Lines; each line with version and checkpoint; no cell that a spreadsheet would run."""
    await furnish(port, site)
    texts = {}
    for kind in ("csv", "jsonl"):
        answer = await port.call("GET", f"/api/v1/exports/compliance-report/{kind}", site.auth)
        assert answer.status == 200
        assert 'attachment; filename="e911-report-2' in answer.headers["Content-Disposition"]
        seq, digest, signature = answer.headers[CHECKPOINT_HEADER].split()
        texts[kind] = await answer.text()
    cells = list(csv.reader(io.StringIO(texts["csv"].removeprefix("\ufeff"))))
    lines = [json.loads(line) for line in texts["jsonl"].splitlines()]
    assert tuple(cells[0]) == COLUMNS == tuple(lines[0])
    assert (len(cells), len(lines)) == (4, 3)
    assert (lines[0]["checkpoint"], lines[0]["checkpoint_signature"]) == (f"{seq} {digest}", signature)
    row = dict(zip(cells[0], cells[1], strict=True))
    assert row["civic_address"].startswith("120 Washington Ave")
    assert row["label"].startswith("'=")
    assert lines[0]["made_at"].endswith("Z")
    assert lines[0]["product"].startswith("Callpoint ")
    entry = next(one for one in await port.entries(site.account.id) if one.seq == int(seq))
    assert entry.hash == digest


async def test_reading_printing_and_exporting_are_told_apart_in_the_log(port: AdminPort, site: Site) -> None:
    """E-16, S0-04: one entry each, with what was taken out of the house."""
    await furnish(port, site)
    browser = await port.browser(site, Role.AUDITOR)
    for path, event, resource in (
        ("/compliance", Event.COMPLIANCE_REPORT_READ, None),
        ("/compliance/print", Event.COMPLIANCE_REPORT_EXPORT, "print"),
        ("/compliance/export.csv", Event.COMPLIANCE_REPORT_EXPORT, "export"),
        ("/compliance/export.jsonl?verdict=met", Event.COMPLIANCE_REPORT_EXPORT, "export"),
    ):
        before = (await port.entries(site.account.id))[-1].seq
        answer = await port.call("GET", path, browser)
        assert answer.status == 200, path
        await answer.read()
        (entry,) = await port.entries(site.account.id, after=before)
        assert entry.event == event
        if resource is not None:
            assert entry.resource_id == resource
            assert json.loads(entry.entry)["details"]["is_whole"] is ("verdict" not in path)


async def test_the_page_counts_filters_and_leads_on(port: AdminPort, site: Site) -> None:
    """E-16: counts by the walk in the background; what the address names wrongly is said and left out."""
    ids = await furnish(port, site)
    browser = await port.browser(site)
    counts = port.client.app[COUNTS]
    first = await (await port.call("GET", "/compliance", browser)).text()
    assert "Headquarters" in first
    await counts.whole(site.account.id)
    page = await (await port.call("GET", "/compliance", browser)).text()
    assert "3 devices, counted" in page
    assert 'href="/compliance?verdict=not_met"' in page
    assert "never validated" in page
    summary = await (await port.call("GET", f"{REPORT}/summary", site.auth)).json()
    assert (summary["devices"], summary["verdicts"]["not_met"], summary["notification"]["not_met"]) == (3, 3, 3)
    assert summary["counted_at"] is not None
    page = await (await port.call("GET", f"/compliance?location_id={ids['location']}", browser)).text()
    assert "102" not in page.partition('class="cards-on-phones report"')[2].partition("</table>")[0]
    for wrong in ("verdict=fine", "location_id=1%27", "cursor=nothing", "location=Nowhere", "phone_id=x"):
        page = await (await port.call("GET", f"/compliance?{wrong}", browser)).text()
        assert "was not understood" in page, wrong
    page = await (await port.call("GET", "/compliance?verdict=&location_id=", browser)).text()
    assert "was not understood" not in page


async def test_the_printout_is_dated_sealed_and_no_legal_advice(port: AdminPort, site: Site) -> None:
    """E-16: what a customer is handed can be held against the audit chain."""
    await furnish(port, site)
    text = await (await port.call("GET", "/compliance/print", await port.browser(site))).text()
    signer = signer_of(port.keys)
    assert signer is not None
    assert f'by key <span class="mono">{fingerprint(signer.public_key)}</span>' in text  # that `audit key` tells
    assert "It is no legal advice" in text
    assert "audit chain ended with entry" in text
    assert "Acme Dental" in text


@pytest.mark.parametrize("country", ["CA", "GB"])
async def test_an_account_elsewhere_is_told_that_no_part_is_law_there(
    port: AdminPort, site: Site, country: str
) -> None:
    """E-16: the evidence stands, the verdict is that none applies."""
    await furnish(port, site)
    headers = site.auth | {"If-Match": "*"}
    answer = await port.call("PATCH", "/api/v1/account", headers, json={"country": country})
    assert answer.status == 200
    rows = (await (await port.call("GET", REPORT, site.auth)).json())["data"]
    assert [row["verdict"] for row in rows] == ["not_met", "not_applicable", "not_applicable"]  # the first is in Albany
    assert "By its measure" in rows[1]["notification_why"]
    page = await (await port.call("GET", "/compliance", await port.browser(site))).text()
    assert "no part of it is law where this account is" in page


async def test_a_person_says_what_kind_of_device_it_is(port: AdminPort, site: Site) -> None:
    """E-16: on the phone's page and the line's, and by API; nothing but one of three; no file changes by it."""
    ids = await furnish(port, site)
    headers = site.auth | {"If-Match": "*"}
    phone = f"/api/v1/phones/{ids['phone1']}"
    before = (await port.call("GET", phone, site.auth)).headers["ETag"]
    answer = await port.call("PATCH", phone, headers, json={"placement": "non_fixed"})
    assert (await answer.json())["placement"] == "non_fixed"
    assert answer.headers["ETag"] != before
    answer = await port.call("PATCH", phone, headers, json={"placement": "somewhere"})
    assert (answer.status, (await answer.json())["errors"][0]["field"]) == (422, "placement")
    answer = await port.call("PATCH", f"/api/v1/lines/{ids['line3']}", headers, json={"placement": "fixed"})
    assert (await answer.json())["placement"] == "fixed"
    rows = (await (await port.call("GET", REPORT, site.auth)).json())["data"]
    assert [(row["placement"], row["placement_by"]) for row in rows] == [
        ("non_fixed", "said"), ("off_premises", "said"), ("fixed", "said"),
    ]  # fmt: skip
    browser = await port.browser(site)
    version = (await (await port.call("GET", phone, site.auth)).json())["version"]
    form = {"label": "Desk", "location_id": "", "placement": "fixed", "version": str(version)}
    answer = await port.call("POST", f"/phones/{ids['phone1']}", browser, data=form, allow_redirects=False)
    assert answer.status == 303
    assert (await (await port.call("GET", phone, site.auth)).json())["placement"] == "fixed"
    page = await (await port.call("GET", f"/phones/{ids['phone1']}", browser)).text()
    assert f"/compliance?phone_id={ids['phone1']}" in page
    cleared = await port.call("PATCH", phone, headers, json={"placement": None})
    assert (await cleared.json())["placement"] is None
