"""The provisioning policy and the file keys, over the API and on their pages."""

import re

import pytest
from sqlalchemy import select

from admin.api.provisioning_policy import sees_certificates
from engine.audit.events import Event
from engine.config import Provisioning
from engine.models import Account, Phone, PhoneStatus
from engine.provisioning import safeguards
from tests.factories import add_phone
from tests.unit.admin.adminport import CLI, AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

API, PAGE = "/api/v1/provisioning-policy", "/settings/phone-security"


async def change(port: AdminPort, site: Site, **changes: object):
    return await port.call("PATCH", API, site.auth | {"If-Match": "*"}, json=changes)


async def test_the_policy_is_read_and_changed_with_the_account_s_version(port: AdminPort, site: Site) -> None:
    """P-18: defaults, If-Match, every field back; one audit entry with what moved."""
    answer = await port.call("GET", API, site.auth)
    assert (await answer.json())["client_certificates"] == "accepted"
    tag = answer.headers["ETag"]
    assert (await port.call("PATCH", API, site.auth, json={"resync_per_minute": 30})).status == 428
    patched = await port.call("PATCH", API, site.auth | {"If-Match": tag}, json={"resync_per_minute": 30})
    assert patched.status == 200, await patched.text()
    assert (await patched.json())["resync_per_minute"] == 30
    stale = await port.call("PATCH", API, site.auth | {"If-Match": tag}, json={"resync_per_minute": 31})
    assert stale.status == 412
    entry = next(
        each
        for each in await port.entries(site.account.id)
        if each.event == "provisioning_policy.update" and each.outcome == "success"
    )
    assert '"resync_per_minute":30' in entry.entry


async def test_every_bad_field_of_a_policy_is_told(port: AdminPort, site: Site) -> None:
    """P-18: problem+json names each range that is none."""
    answer = await change(port, site, sources=["203.0.113.0/24", "the office", "0.0.0.0/0"], location_gate="shut")
    assert answer.status == 422
    fields = [fault["field"] for fault in (await answer.json())["errors"]]
    assert fields == ["sources.1", "sources.2", "location_gate"]


async def test_certificates_cannot_be_required_where_nobody_could_show_one(port: AdminPort, site: Site) -> None:
    """P-18: a setting that would turn every phone away is refused, with what to do."""
    answer = await change(port, site, client_certificates="required")
    assert answer.status == 422
    (fault,) = (await answer.json())["errors"]
    assert fault["field"] == "client_certificates"
    assert "client_ca" in fault["detail"]


async def test_a_phone_s_file_key_is_revealed_to_somebody_who_proved_himself_and_recorded(
    port: AdminPort, site: Site
) -> None:
    """P-12, P-23: step-up for browsers, a scope for keys, an audit entry without the key."""
    body = {"mac": "00:15:65:4a:a9:37", "vendor": "yealink", "model": "T46U"}
    phone = (await (await port.call("POST", "/api/v1/phones", site.auth, json=body)).json())["id"]
    path = f"/api/v1/phones/{phone}/file-key"
    assert (await port.call("GET", path, site.auth)).status == 404
    assert (await change(port, site, encrypt_files=True)).status == 200
    answer = await port.call("GET", path, site.auth)
    told = await answer.json()
    assert (told["scheme"], told["folder"], told["iv"]) == ("yealink", "sealed/", "")
    assert re.fullmatch(r"[0-9A-Za-z]{16}", told["key"])
    assert (await port.call("GET", path, await port.key(site, "phones:read"))).status == 403
    late = await port.browser(site, proven_ago_s=3600)
    assert (await port.call("GET", f"/phones/{phone}/file-key", late, allow_redirects=False)).status in {303, 401, 403}
    page = await port.call("GET", f"/phones/{phone}/file-key", await port.browser(site))
    text = await page.text()
    assert page.status == 200
    assert told["key"] in text
    entries = [each for each in await port.entries(site.account.id) if each.event == Event.PHONE_FILE_KEY_REVEAL]
    assert [each.outcome for each in entries].count("success") == 2
    assert not any(told["key"] in each.entry for each in await port.entries(site.account.id))


async def test_a_phone_whose_family_reads_no_encrypted_file_has_no_key(port: AdminPort, site: Site) -> None:
    """P-12: said, instead of a key that opens nothing."""
    await change(port, site, encrypt_files=True)
    body = {"mac": "00:04:f2:00:00:01", "vendor": "poly", "model": "VVX 450"}
    phone = (await (await port.call("POST", "/api/v1/phones", site.auth, json=body)).json())["id"]
    answer = await port.call("GET", f"/api/v1/phones/{phone}/file-key", site.auth)
    assert answer.status == 409
    assert "Give them an https URL" in (await answer.json())["detail"]


async def test_encryption_that_would_protect_no_phone_is_refused_with_what_does(port: AdminPort, site: Site) -> None:
    """P-12: an account of phones that open no encrypted file is not left to think that they are protected."""
    body = {"mac": "00:04:f2:00:00:01", "vendor": "poly", "model": "VVX 450"}
    await port.call("POST", "/api/v1/phones", site.auth, json=body)
    headers = site.auth | {"If-Match": "*"}
    for query in ("", "?dry_run=true"):
        refused = await port.call("PATCH", f"{API}{query}", headers, json={"encrypt_files": True})
        told = (await refused.json())["errors"][0]
        assert (refused.status, told["field"]) == (422, "encrypt_files")
        assert "Poly phones read no encrypted file" in told["detail"]
        assert "Give them an https URL" in told["detail"]
    form = {"client_certificates": "accepted", "location_gate": "alarm", "encrypt_files": "on"}
    page = await port.call("POST", PAGE, await port.browser(site), data=form)
    assert (page.status, "Poly phones read no encrypted file" in await page.text()) == (422, True)


async def test_phones_that_are_sent_clear_files_with_encryption_on_are_counted(port: AdminPort, site: Site) -> None:
    """P-12: a Poly reads no encrypted file; whoever switches encryption on is told, by API and page."""
    browser = await port.browser(site)
    assert "reads no encrypted file" not in await (await port.call("GET", PAGE, browser)).text()
    for mac, vendor, model in (("0004f2000001", "poly", "VVX 450"), ("001565000001", "yealink", "T46U")):
        await port.call("POST", "/api/v1/phones", site.auth, json={"mac": mac, "vendor": vendor, "model": model})
    answer = await change(port, site, encrypt_files=True)
    assert (await answer.json())["clear_phones"] == 1
    assert "1 phone is of a family that reads no encrypted file" in await (await port.call("GET", PAGE, browser)).text()


async def test_phones_whose_files_are_encrypted_from_now_on_are_out_of_date(port: AdminPort, site: Site) -> None:
    """P-12, P-16: they hold clear files until they fetch; a phone that goes on with clear ones holds what it shall."""
    async with port.database.sessions.begin() as session:
        account = await session.get_one(Account, site.account.id)
        for mac, vendor, model in (("0004f2000001", "poly", "VVX 450"), ("001565000001", "yealink", "T46U")):
            await add_phone(session, account, mac=mac, vendor=vendor, model=model, status=PhoneStatus.CURRENT)
    await change(port, site, encrypt_files=True)
    async with port.database.sessions() as session:
        found = (await session.execute(select(Phone.vendor, Phone.status))).all()
    assert dict(map(tuple, found)) == {"poly": "current", "yealink": "stale"}


async def test_the_page_shows_what_holds_and_keeps_what_was_typed_wrong(port: AdminPort, site: Site) -> None:
    """P-18: without JavaScript; every fault beside its field, nothing lost."""
    browser = await port.browser(site)
    page = await (await port.call("GET", PAGE, browser)).text()
    assert "asks no phone for a certificate" in page
    assert "serves phones over plain HTTP" in page
    assert "Yealink" in page
    form = {
        "sources": "203.0.113.0/24\nhome", "client_certificates": "off",
        "location_gate": "alarm", "encrypt_files": "on",
    }  # fmt: skip
    refused = await port.call("POST", PAGE, browser, data=form)
    text = await refused.text()
    assert refused.status == 422
    assert "203.0.113.0/24\nhome</textarea>" in text
    assert "Expected an address range" in text
    saved = await port.call("POST", PAGE, browser, data=form | {"sources": "203.0.113.0/24"}, allow_redirects=False)
    assert (saved.status, saved.headers["Location"]) == (303, f"{PAGE}?done=phone-security-saved")
    told = await (await port.call("GET", API, site.auth)).json()
    assert (told["sources"], told["encrypt_files"], told["expired_certificates"]) == (["203.0.113.0/24"], True, False)


def test_certificates_reach_the_engine_over_its_own_tls_or_through_a_trusted_proxy() -> None:
    """P-18: what has to be configured before an account may require one."""
    own = {"client_ca": "makers.pem", "tls_cert": "phones.pem"}
    proxy = {"client_ca": "makers.pem", "trusted_proxies": ("10.0.0.0/8",)}
    behind = proxy | {"client_cert_header": "X-Client-Cert"}
    assert sees_certificates(Provisioning(**own))
    assert sees_certificates(Provisioning(**behind))
    for missing in ({}, {"client_ca": "makers.pem"}, {"tls_cert": "phones.pem"}, proxy):
        assert not sees_certificates(Provisioning(**missing))


async def test_where_certificates_arrive_they_can_be_required(port: AdminPort, site: Site) -> None:
    """P-18: the account's choice, once the installation asks for them."""
    provisioning = Provisioning(
        client_ca="makers.pem", trusted_proxies=("10.0.0.0/8",), client_cert_header="Client-Cert"
    )
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        policy = await safeguards.update_policy(
            session, CLI, account, {"client_certificates": "required"},
            sees_certificates=sees_certificates(provisioning),
        )  # fmt: skip
    assert policy.client_certificates == "required"
    assert (await (await port.call("GET", API, site.auth)).json())["client_certificates"] == "required"


async def with_phones(port: AdminPort, site: Site, *addresses: str) -> None:
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        for at, address in enumerate(addresses):
            await add_phone(session, account, mac=f"805ec0{at:06x}", last_ip=address)


async def test_the_api_says_how_many_phones_a_range_would_turn_away_before_it_does(port: AdminPort, site: Site) -> None:
    """P-18: a dry run counts and stores nothing, with an entry that only reads; storing says the same."""
    await with_phones(port, site, "203.0.113.1", "203.0.113.2", "198.51.100.9")
    wished = {"sources": ["203.0.113.0/24"]}
    dry = await port.call("PATCH", f"{API}?dry_run=true", site.auth | {"If-Match": "*"}, json=wished)
    told = await dry.json()
    assert (dry.status, told["sources"]) == (200, ["203.0.113.0/24"])
    assert (told["outside_phones"], told["asked_phones"], told["outside_examples"]) == (1, 3, ["198.51.100.9"])
    assert (await port.entries(site.account.id))[-1].event == "provisioning_policy.read"
    stored = await (await port.call("GET", API, site.auth)).json()
    assert (stored["sources"], stored["outside_phones"], stored["asked_phones"]) == ([], 0, 3)
    assert (await (await change(port, site, **wished)).json())["outside_phones"] == 1
    assert (await port.call("PATCH", f"{API}?dry_run=perhaps", site.auth | {"If-Match": "*"}, json={})).status == 422


async def test_the_page_asks_once_more_before_most_of_the_fleet_is_turned_away(port: AdminPort, site: Site) -> None:
    """P-18: two of three are outside: nothing is saved until that is ticked; what was typed stays; one of three is
    saved and told.
    """
    await with_phones(port, site, "203.0.113.1", "203.0.113.2", "198.51.100.9")
    browser = await port.browser(site)

    async def posted(sources: str, **more: str) -> tuple[int, str]:
        page = await (await port.call("GET", PAGE, browser)).text()
        version = re.search(r'name="version" value="(\d+)"', page)
        assert version is not None
        form = {
            "version": version[1], "sources": sources, "client_certificates": "accepted", "expired_certificates": "on",
            "location_gate": "alarm",
        }  # fmt: skip
        answer = await port.call("POST", PAGE, browser, data=form | more, allow_redirects=False)
        return answer.status, await answer.text()

    status, text = await posted("198.51.100.0/24")
    assert status == 422
    assert "Nothing was saved yet." in text
    assert "2 of 3 phones asked last from outside these ranges" in text
    assert "198.51.100.0/24" in text
    assert 'name="sources_confirmed"' in text
    assert (await (await port.call("GET", API, site.auth)).json())["sources"] == []
    assert (await posted("198.51.100.0/24", sources_confirmed="on"))[0] == 303
    assert (await (await port.call("GET", API, site.auth)).json())["outside_phones"] == 2
    assert (await posted("203.0.113.0/24"))[0] == 303
    assert "1 phone" in (await posted("nonsense"))[1]
