"""Rotations and bulk resyncs over the API: what they mean beforehand, how they go on, what is refused, what is kept."""

import json
from typing import Any

from sqlalchemy import select

from engine.db import utc_now
from engine.models import Account, Phone
from tests.factories import add_line, add_pbx, add_phone
from tests.unit.admin.adminport import AdminPort, Site

TOKEN = "/api/v1/provisioning-token"
RESYNC = "/api/v1/phones/resync"


async def fleet_of(port: AdminPort, site: Site, count: int = 3) -> list[str]:
    """Phones that have fetched, each with a line, and one without."""
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        await add_pbx(session, account)
        lines = [await add_line(session, account, f"10{at}") for at in range(count)]
        phones = [
            await add_phone(session, account, line, mac=f"805ec000000{at}", last_fetch_at=utc_now(), status="current")
            for at, line in enumerate(lines)
        ]
        phones.append(await add_phone(session, account, mac="805ec0000009", vendor="poly", model="VVX 450"))
    return [phone.id for phone in phones]


async def moved(port: AdminPort, site: Site, phone_id: str) -> None:
    """As if the phone had asked by the next URL."""
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        phone = await session.get(Phone, phone_id)
        assert account is not None
        assert phone is not None
        phone.fetched_token_index, phone.last_fetch_at = account.next_provisioning_token_index, utc_now()


async def asked(port: AdminPort, site: Site, method: str, path: str, *, expect: int = 200, **more: Any) -> Any:
    answer = await port.call(method, path, site.auth, **more)
    assert answer.status == expect, await answer.text()
    return await answer.json()


async def test_a_push_is_begun_counted_and_cut(port: AdminPort, site: Site) -> None:
    """P-04: impact, the next URL beside the present one, the count, the cut; each step is one entry."""
    phones = await fleet_of(port, site)
    first = await asked(port, site, "POST", f"{TOKEN}/generate", expect=201)
    assert first["next_provisioning_url"] is None
    impact = await asked(port, site, "GET", f"{TOKEN}/impact")
    assert (impact["phones"], impact["booted"], impact["never"], impact["seen_last_day"]) == (4, 3, 1, 3)
    assert impact["sip_passwords"] == 3
    assert "the phone admin password and the SIP passwords of 3 lines. Rotating changes neither" in impact["exposed"]
    assert impact["sentence"] == "3 phones must get the new URL; 3 asked within the last day."
    begun = await asked(port, site, "POST", f"{TOKEN}/rotate", expect=201, json={"mode": "push", "automatic": False})
    assert begun["token"] == first["token"]
    assert begun["next_provisioning_url"] not in (None, first["provisioning_url"])
    await moved(port, site, phones[0])
    state = await asked(port, site, "GET", f"{TOKEN}/rotation")
    assert (state["state"], state["automatic"], state["sentence"]) == ("pushing", False, "1 of 3 phones moved")
    assert {phone["phone_id"] for phone in state["left"]} == set(phones[1:3])
    assert first["token"] not in str(state)
    cut = await asked(port, site, "POST", f"{TOKEN}/rotation/cut")
    assert (cut["state"], cut["moved"], cut["phones"]) == ("none", 1, 3)
    now = await asked(port, site, "GET", TOKEN)
    assert now["provisioning_url"] == begun["next_provisioning_url"]
    events = [entry.event for entry in await port.entries(site.account.id)]
    assert [event for event in events if event.startswith("provisioning_token.") and "reveal" not in event] == [
        "provisioning_token.generate", "provisioning_token.rotate", "provisioning_token.cut",
    ]  # fmt: skip


async def test_the_card_counts_every_phone_that_has_not_moved(port: AdminPort, site: Site) -> None:
    """S0-27: exactly, however many of them it lists; and the page of the question leads back."""
    async with port.database.sessions.begin() as session:
        account = await session.get(Account, site.account.id)
        assert account is not None
        for at in range(102):
            await add_phone(session, account, mac=f"805ec00001{at:02x}", last_fetch_at=utc_now(), status="current")
    await asked(port, site, "POST", f"{TOKEN}/generate", expect=201)
    await asked(port, site, "POST", f"{TOKEN}/rotate", expect=201, json={"mode": "push", "automatic": False})
    browser = await port.browser(site)
    card = await (await port.call("GET", "/settings/provisioning/rotation", browser)).text()
    assert "<summary>102 not moved yet</summary>" in card
    page = await (await port.call("GET", "/settings/provisioning/rotate", browser)).text()
    assert "<h1>Provisioning token</h1>" in page
    assert '<p class="crumb"><a href="/settings#provisioning">Settings</a></p>' in page


async def test_a_push_is_called_off_by_turning_it_round_or_abandoned(port: AdminPort, site: Site) -> None:
    """P-04: phones that moved are brought back; `abandon` ends the new URL at once."""
    phones = await fleet_of(port, site)
    first = await asked(port, site, "POST", f"{TOKEN}/generate", expect=201)
    for body, state in (({}, "returning"), ({"abandon": True}, "none")):
        await asked(port, site, "POST", f"{TOKEN}/rotate", expect=201, json={"mode": "push"})
        await moved(port, site, phones[0])
        assert (await asked(port, site, "POST", f"{TOKEN}/rotation/cancel", json=body))["state"] == state
        if state == "returning":
            await asked(port, site, "POST", f"{TOKEN}/rotation/cut")
        assert (await asked(port, site, "GET", TOKEN))["token"] == first["token"]


async def test_what_cannot_be_begun_cut_or_called_off_says_why(port: AdminPort, site: Site) -> None:
    push = {"json": {"mode": "push"}}
    assert "Generate one" in (await asked(port, site, "POST", f"{TOKEN}/rotate", expect=409, **push))["detail"]
    await asked(port, site, "POST", f"{TOKEN}/generate", expect=201)
    for path in ("cut", "cancel"):
        assert "nothing to" in (await asked(port, site, "POST", f"{TOKEN}/rotation/{path}", expect=409))["detail"]
    await asked(port, site, "POST", f"{TOKEN}/rotate", expect=201, **push)
    assert "already" in (await asked(port, site, "POST", f"{TOKEN}/rotate", expect=409, **push))["detail"]
    bad = await asked(port, site, "POST", f"{TOKEN}/rotate", expect=422, json={"mode": "slowly", "x": 1})
    assert {fault["field"] for fault in bad["errors"]} == {"mode", "x"}


async def test_many_phones_are_asked_after_one_entry_for_all_and_one_for_each(port: AdminPort, site: Site) -> None:
    """P-14: by filter or by id; a phone to which there is no way is told beforehand, with the time it takes."""
    phones = await fleet_of(port, site)
    dry = await asked(port, site, "POST", RESYNC, json={"filter": {}, "dry_run": True})
    assert (dry["id"], dry["phones"], dry["spread_s"]) == (None, 3, 1.0)  # half a second between two, by one PBX
    assert [phone["phone_id"] for phone in dry["refused"]] == [phones[3]]
    assert port.edge.fleets == []
    answer = await asked(port, site, "POST", RESYNC, json={"filter": {"status": "current"}})
    (fleet,) = port.edge.fleets
    assert [phone_id for phone_id, _ in fleet.planned] == phones[:3]
    assert (await asked(port, site, "GET", f"/api/v1/phone-resyncs/{answer['id']}"))["done"] == 3
    assert (await asked(port, site, "GET", f"/api/v1/phones/{phones[0]}"))["resync_result"] == "waiting"
    entries = [json.loads(entry.entry) for entry in await port.entries(site.account.id)]
    (whole,) = [entry for entry in entries if entry["resource"]["id"] == answer["id"] and entry["access"] == "write"]
    assert (whole["event"], whole["details"]["phones"]) == ("phone.bulk_resync", 3)
    parts = [entry for entry in entries if entry["bulk_id"] == answer["id"]]
    assert [(entry["event"], entry["resource"]["id"]) for entry in parts] == [
        ("phone.resync", phone_id) for phone_id in phones[:3]
    ]


async def test_a_bulk_resync_that_means_no_phones_names_every_fault_and_asks_nobody(
    port: AdminPort, site: Site
) -> None:
    phones = await fleet_of(port, site)
    unknown = phones[0][:-4] + "zzzz"
    for body, fields in (
        ({}, {"phones"}),
        ({"phones": [], "filter": {}}, {"phones"}),
        ({"phones": [phones[0], unknown]}, {"phones[1]"}),
        ({"filter": {"status": "rusty", "colour": "red"}}, {"filter.status", "filter.colour"}),
    ):
        refused = await asked(port, site, "POST", RESYNC, expect=422, json=body)
        assert {fault["field"] for fault in refused["errors"]} == fields
    assert port.edge.fleets == []
    async with port.database.sessions() as session:
        assert {row.resync_result for row in await session.scalars(select(Phone))} == {None}


async def test_a_resync_that_is_repeated_with_its_key_asks_once(port: AdminPort, site: Site) -> None:
    """P-14: the same Idempotency-Key gives the first answer again and sends nothing."""
    await fleet_of(port, site)
    once = site.auth | {"Idempotency-Key": "all of them, once"}
    answers = [await port.call("POST", RESYNC, once, json={"filter": {}}) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert await answers[0].json() == await answers[1].json()
    assert len(port.edge.fleets) == 1
