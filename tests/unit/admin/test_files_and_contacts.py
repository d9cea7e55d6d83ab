"""Contacts and files over the API and as pages: streamed uploads, faults by field, versions, what forms show again."""

import hashlib
import io

from aiohttp import FormData
from sqlalchemy import select

from admin.context import ASSETS
from engine.models import Asset, Contact
from engine.provisioning import assetfile
from tests.unit.admin.adminport import AdminPort, Site

ROM = {"name": "T46U-1.rom", "kind": "firmware", "vendor": "yealink", "models": "T46U,T48U", "firmware": "108.86.0.20"}


async def stored(port: AdminPort, model) -> list:
    async with port.database.sessions() as session:
        return list((await session.scalars(select(model))).all())


def folder(port: AdminPort):
    return port.client.server.app[ASSETS].folder  # type: ignore[union-attr]


async def test_contacts_are_made_changed_and_removed_with_their_version(port: AdminPort, site: Site) -> None:
    """P-07: the phonebook over the API."""
    body = {"name": "Hospital", "number": "+1 518 555 0142"}
    answer = await port.call("POST", "/api/v1/contacts", site.auth, json=body)
    made = await answer.json()
    assert (answer.status, made["number"], answer.headers["ETag"]) == (201, "+15185550142", '"1"')
    path = answer.headers["Location"]
    missing = await port.call("PATCH", path, site.auth, json={"name": "Clinic"})
    assert missing.status == 428
    changed = await port.call("PATCH", path, site.auth | {"If-Match": '"1"'}, json={"name": "Clinic"})
    assert (changed.status, (await changed.json())["number"]) == (200, "+15185550142")
    stale = await port.call("DELETE", path, site.auth | {"If-Match": '"1"'})
    assert stale.status == 412
    assert (await port.call("DELETE", path, site.auth | {"If-Match": '"2"'})).status == 204
    assert await stored(port, Contact) == []


async def test_every_fault_of_a_contact_is_told(port: AdminPort, site: Site) -> None:
    answer = await port.call("POST", "/api/v1/contacts", site.auth, json={"name": " ", "number": "a;b"})
    assert answer.status == 422
    assert {error["field"] for error in (await answer.json())["errors"]} == {"name", "number"}


async def test_a_file_is_uploaded_as_the_body_and_told_by_its_digest(port: AdminPort, site: Site) -> None:
    """P-07: one `curl -T`; larger than any body that is held in memory."""
    data = bytes(range(256)) * 12_000  # 3 MB
    answer = await port.call("POST", "/api/v1/assets", site.auth, params=ROM, data=io.BytesIO(data))
    made = await answer.json()
    assert (answer.status, made["size_bytes"], made["models"]) == (201, len(data), ["T46U", "T48U"])
    assert made["sha256"] == hashlib.sha256(data).hexdigest()
    assert (folder(port) / made["sha256"]).read_bytes() == data
    again = await port.call("POST", "/api/v1/assets", site.auth, params=ROM, data=b"x")
    assert (again.status, "already" in (await again.json())["detail"]) == (409, True)
    gone = await port.call("DELETE", answer.headers["Location"], site.auth | {"If-Match": "*"})
    assert (gone.status, await stored(port, Asset)) == (204, [])


async def test_a_repeated_upload_is_answered_again_and_stored_once(port: AdminPort, site: Site) -> None:
    """An Idempotency-Key on a streamed body: the first answer again."""
    headers = site.auth | {"Idempotency-Key": "upload-1"}
    first, second = [await port.call("POST", "/api/v1/assets", headers, params=ROM, data=b"rom") for _ in range(2)]
    assert (first.status, second.status) == (201, 201)
    assert await first.json() == await second.json()
    assert len(await stored(port, Asset)) == 1


async def test_what_is_wrong_with_an_upload_is_told_before_its_bytes_are_kept(port: AdminPort, site: Site) -> None:
    bad = {"name": "../x", "kind": "firmware", "vendor": "nokia", "models": "", "firmware": "1"}
    answer = await port.call("POST", "/api/v1/assets", site.auth, params=bad, data=b"x" * 5000)
    assert answer.status == 422
    assert {error["field"] for error in (await answer.json())["errors"]} == {"name", "vendor"}
    unknown = await port.call("POST", "/api/v1/assets", site.auth, params=ROM | {"colour": "red"}, data=b"x")
    assert unknown.status == 422
    empty = await port.call("POST", "/api/v1/assets", site.auth, params=ROM, data=b"")
    assert (await empty.json())["errors"][0]["field"] == "file"
    nobody = await port.call("POST", "/api/v1/assets", {}, params=ROM, data=b"x" * 5000)
    assert nobody.status == 401
    assert not folder(port).exists() or not [path for path in folder(port).iterdir() if path.name != ".lock"]


async def test_a_file_larger_than_its_kind_is_refused(port: AdminPort, site: Site, monkeypatch) -> None:
    """Size caps, by the length that is told and by the length that comes."""
    monkeypatch.setattr(assetfile, "MAX_BYTES", {"logo": 1000, "firmware": 1000, "ringtone": 1000})
    logo = {"name": "logo.png", "kind": "logo"}
    told = await port.call("POST", "/api/v1/assets", site.auth, params=logo, data=b"x" * 80_000)
    assert (told.status, (await told.json())["errors"][0]["field"]) == (422, "file")

    async def drips():
        for _ in range(40):
            yield b"x" * 100

    came = await port.call("POST", "/api/v1/assets", site.auth, params=logo, data=drips())
    assert (came.status, "at most 1,000 bytes" in (await came.json())["errors"][0]["detail"]) == (422, True)
    assert [path.name for path in folder(port).iterdir()] == []


async def test_the_phonebook_page_adds_finds_changes_and_removes(port: AdminPort, site: Site) -> None:
    """P-07: by form, without JavaScript."""
    headers = await port.browser(site)
    for name, number in (("Ann <b>", "101"), ("Bob", "+1 518 555 0199")):
        added = await port.call(
            "POST", "/phonebook", headers, data={"name": name, "number": number}, allow_redirects=False
        )
        assert (added.status, added.headers["Location"]) == (303, "/phonebook?done=contact-added")
    page = await (await port.call("GET", "/phonebook", headers)).text()
    assert "Ann &lt;b&gt;" in page
    found = await (await port.call("GET", "/phonebook?q=0199", headers)).text()
    assert ("Bob" in found, "Ann &lt;b&gt;" in found) == (True, False)
    refused = await port.call("POST", "/phonebook", headers, data={"name": "Eve", "number": "a;b"})
    text = await refused.text()
    assert (refused.status, 'value="Eve"' in text, "a phone can dial" in text) == (422, True, True)
    bob = next(one for one in await stored(port, Contact) if one.name == "Bob")
    data = {"name": "Bobby", "number": "102", "version": str(bob.version)}
    assert (await port.call("POST", f"/phonebook/{bob.id}", headers, data=data, allow_redirects=False)).status == 303
    await port.call("POST", f"/phonebook/{bob.id}/delete", headers, allow_redirects=False)
    assert [one.name for one in await stored(port, Contact)] == ["Ann <b>"]


def form(data: bytes, **fields: str) -> FormData:
    made = FormData(quote_fields=False)  # as browsers send it
    for name, text in fields.items():
        made.add_field(name, text)
    made.add_field("file", io.BytesIO(data), filename="T46U 1.rom", content_type="application/octet-stream")
    return made


async def test_the_files_page_takes_a_form_and_names_the_file_after_itself(port: AdminPort, site: Site) -> None:
    """P-07: multipart, streamed; an empty name is the file's own."""
    headers = await port.browser(site)
    sent = form(b"rom" * 500_000, kind="firmware", vendor="yealink", models="T46U", firmware="1.2", name="")
    added = await port.call("POST", "/files", headers, data=sent, allow_redirects=False)
    assert (added.status, added.headers.get("Location")) == (303, "/files?done=file-added")
    asset = (await stored(port, Asset))[0]
    assert (asset.name, asset.size_bytes) == ("T46U_1.rom", 1_500_000)
    page = await (await port.call("GET", "/files", headers)).text()
    assert ("T46U_1.rom" in page, "1.4 MB" in page) == (True, True)
    await port.call("POST", f"/files/{asset.id}/delete", headers, allow_redirects=False)
    assert await stored(port, Asset) == []


async def test_a_refused_upload_shows_what_was_typed_and_what_is_wrong(port: AdminPort, site: Site) -> None:
    """Bad input: the form comes back filled in, the fault beside its field."""
    headers = await port.browser(site)
    sent = form(b"rom", kind="firmware", vendor="", models="T46U", firmware="7.8.9", name="fw.rom")
    refused = await port.call("POST", "/files", headers, data=sent)
    text = await refused.text()
    assert (refused.status, 'value="7.8.9"' in text, 'value="fw.rom"' in text) == (422, True, True)
    assert "a firmware is served to phones of its vendor alone" in text
    nothing = await port.call("POST", "/files", headers, data={"kind": "logo"})
    assert (nothing.status, "Choose the file to upload" in await nothing.text()) == (422, True)
    assert await stored(port, Asset) == []
