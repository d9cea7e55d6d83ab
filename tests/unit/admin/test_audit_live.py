"""The audit log as it is written: who is handed what, who is dropped, who is sent away."""

import asyncio
import json
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aiohttp import ClientResponse
from sqlalchemy import update

from admin import audit_live
from admin.audit_live import FOLLOWERS, Follower, Followers
from engine.audit import store
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.audit.store import Filters
from engine.db import Database, utc_now
from engine.errors import TooManyRequests
from engine.models import AuditBeginning, Role, Session, User
from tests.factories import add_account
from tests.unit.admin.adminport import AdminPort, Site

UTC = ZoneInfo("UTC")
WAIT_S = 60.0
STREAM = {"Accept": "text/event-stream"}


async def write(database: Database, account_id: str, *names: str) -> None:
    async with database.sessions.begin() as session:
        for name in names:
            target = ("contact", f"contact_{name}", name)
            record(session, SYSTEM, Event.CONTACT_UPDATE, resource=target, account_id=account_id)


def follower(chain: str, *, filters: Filters | None = None, seq: int = 0, actor: str = "user_1") -> Follower:
    return Follower(chain, filters or Filters(), UTC, f"session_{actor}", actor, seq, cut=lambda: None)


def waiting(one: Follower) -> list[str]:
    found = []
    while not one.queue.empty():
        found.append(one.queue.get_nowait().text or "reload")
    return found


@pytest.fixture
async def followers(database: Database) -> Any:
    made = Followers(database, lambda entry, _zone: entry.resource_id, poll_s=3600)
    yield made
    await made.close()


async def first_look(followers: Followers) -> None:
    """The task looks once when it starts, then not again in this test."""
    async with asyncio.timeout(WAIT_S):
        while not followers.questions:
            await asyncio.sleep(0.01)


@pytest.mark.enable_socket
async def test_one_question_serves_every_reader_of_every_account(database: Database, followers: Followers) -> None:
    """S2-11: each sees their own account's entries that meet their filters, all of them from one look."""
    async with database.sessions.begin() as session:
        one, other = (await add_account(session)).id, (await add_account(session, name="Other")).id
    mine = [follower(one, actor=f"user_{number}") for number in range(50)]
    narrow, theirs = follower(one, filters=Filters(target="contact_b")), follower(other)
    for each in (*mine, narrow, theirs):
        await followers.join(each)
    await first_look(followers)
    for each in (*mine, narrow, theirs):
        waiting(each)
    before = followers.questions
    await write(database, one, "a", "b")
    await write(database, other, "c")
    await followers.look()
    assert followers.questions == before + 1
    assert {tuple(waiting(each)) for each in mine} == {("contact_a", "contact_b")}
    assert waiting(narrow) == ["contact_b"]
    assert waiting(theirs) == ["contact_c"]
    await followers.look()
    assert [waiting(each) for each in (*mine, narrow, theirs) if not each.queue.empty()] == []


async def test_a_reader_who_takes_nothing_is_cut_off_and_keeps_nobody_waiting(
    database: Database, followers: Followers
) -> None:
    """S2-11: the queue is short; whoever lets it fill is dropped, others get everything."""
    async with database.sessions.begin() as session:
        chain = (await add_account(session)).id
    cut: list[str] = []
    slow, quick = follower(chain, actor="user_slow"), follower(chain, actor="user_quick")
    slow.cut = lambda: cut.append("slow")
    for each in (slow, quick):
        await followers.join(each)
    await first_look(followers)
    got: list[str] = []
    for group in range(3):
        await write(database, chain, *(f"{group}{number:03}" for number in range(audit_live.QUEUE // 2)))
        await followers.look()
        got += waiting(quick)
    assert (slow.why, quick.why, cut) == ("too_slow", "left", ["slow"])
    assert len(followers) == 1
    assert len([name for name in got if name.startswith("contact_")]) == 3 * (audit_live.QUEUE // 2)


async def test_who_comes_back_gets_what_they_missed_or_is_told_to_read_anew(
    database: Database, followers: Followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S0-29: nothing is left out and nothing is repeated; a long absence is one reading of the list."""
    async with database.sessions.begin() as session:
        chain = (await add_account(session)).id
    await write(database, chain, "a", "b", "c")
    back = follower(chain, seq=1)
    await followers.join(back)
    assert waiting(back)[-2:] == ["contact_b", "contact_c"]
    await followers.look()
    assert waiting(back) == []
    monkeypatch.setattr(audit_live, "MAX_MISSED", 2)
    late = follower(chain, seq=0)
    await followers.join(late)
    assert waiting(late) == ["reload"]
    await write(database, chain, "d")
    await followers.look()
    assert waiting(late) == ["contact_d"]


async def test_what_was_left_behind_is_handed_to_nobody(database: Database, followers: Followers) -> None:
    """S1-22: neither to who asks for everything, nor to who was away while the log was shortened."""
    async with database.sessions.begin() as session:
        chain = (await add_account(session)).id
    away = follower(chain, actor="user_away")
    await followers.join(away)
    await first_look(followers)
    waiting(away)
    await write(database, chain, "a", "b", "c")
    async with database.sessions() as session:
        rows = await store.entries_behind(session, {chain: 0}, limit=100)
        left = next(row for row in rows if row.resource_id == "contact_b")
    async with database.sessions.begin() as session:
        session.add(AuditBeginning(id="begin_1", chain=chain, seq=left.seq, hash=left.hash, until=left.at, at=left.at,
                                   text="", public_key="", signature=""))  # fmt: skip
    await followers.look()
    assert waiting(away) == ["contact_c"]
    new = follower(chain, seq=0)
    await followers.join(new)
    assert waiting(new) == ["contact_c"]


async def test_a_node_and_a_user_have_only_so_many_live_lists(database: Database, followers: Followers) -> None:
    for _ in range(audit_live.MAX_OF_ONE):
        followers.refuse_crowd("user_1")
        await followers.join(follower("account_1"))
    with pytest.raises(TooManyRequests):
        followers.refuse_crowd("user_1")
    followers.refuse_crowd("user_2")


async def news(answer: ClientResponse) -> tuple[str, str, dict[str, Any]]:
    """The next event of the stream: its name, its id, its data."""
    told = {"event": "", "id": "", "data": ""}
    async with asyncio.timeout(WAIT_S):
        while True:
            line = (await answer.content.readline()).decode().rstrip("\n")
            if line.startswith(":"):
                continue
            if not line:
                if told["event"]:
                    return told["event"], told["id"], json.loads(told["data"])
                if answer.content.at_eof():
                    return "end", "", {}
                continue
            name, _, value = line.partition(": ")
            told[name] = value


async def ends(port: AdminPort, site: Site) -> list[dict[str, Any]]:
    """The entries of lists that ended, once there is one."""
    async with asyncio.timeout(WAIT_S):
        while True:
            entries = await port.entries(site.account.id)
            found = [json.loads(each.entry) for each in entries if each.event == "audit_log.follow_end"]
            if found:
                return found
            await asyncio.sleep(0.05)


@pytest.mark.enable_socket
async def test_the_list_goes_on_as_it_is_written(port: AdminPort, site: Site) -> None:
    """S0-29, S0-30: the row of the page itself, filtered; a reader goes on by number; begin and end are in the log."""
    cookie = await port.browser(site)
    page = await (await port.call("GET", "/audit?type=contact", cookie)).text()
    address = page.partition('data-live="')[2].partition('"')[0].replace("&amp;", "&")
    assert address.startswith("/audit/live?type=contact&after=")
    answer = await port.call("GET", address, cookie, extra=STREAM)
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await news(answer))[0] == "begin"
    await port.call("GET", "/api/v1/phones", site.auth)
    await write(port.database, site.account.id, "harbour")
    name, seq, data = await news(answer)
    assert name == "entry"
    assert 'title="contact_harbour"' in data["row"]
    assert "Contact: harbour" in data["row"]
    answer.close()
    told = (await ends(port, site))[0]
    assert (told["details"]["entries"], told["details"]["ended"]) == (1, "left")
    begun = [each for each in await port.entries(site.account.id) if each.event == "audit_log.follow"]
    assert [json.loads(each.entry)["request"]["id"] for each in begun] == [told["bulk_id"]]
    await write(port.database, site.account.id, "pier")
    again = await port.call("GET", address, cookie, extra=STREAM | {"Last-Event-ID": seq})
    name, _seq, data = await news(again)
    name, _seq, data = await news(again) if name == "begin" else (name, _seq, data)
    assert "contact_pier" in data["row"]
    again.close()


@pytest.mark.enable_socket
async def test_who_may_no_longer_read_is_sent_away(port: AdminPort, site: Site) -> None:
    """S2-14: a session that ends, or a role that loses the right, ends the list within seconds."""
    followers = port.client.app[FOLLOWERS]
    for change in ("session", "role"):
        cookie = await port.browser(site, Role.ACCOUNT_MANAGER)
        answer = await port.call("GET", "/audit/live?event=contact.delete", cookie, extra=STREAM)
        assert (await news(answer))[0] == "begin"
        await followers.send_away_who_may_not()
        assert len(followers) == 1
        async with port.database.sessions.begin() as session:
            if change == "session":
                await session.execute(update(Session).values(ended_at=utc_now(), end_reason="revoked"))
            else:
                await session.execute(update(User).where(User.role == Role.ACCOUNT_MANAGER).values(role="operator"))
        await followers.send_away_who_may_not()
        assert (await news(answer))[0] == "end"
    assert {told["details"]["ended"] for told in await ends(port, site)} == {"not_allowed"}


@pytest.mark.enable_socket
async def test_the_live_list_is_a_stream_for_who_may_read(port: AdminPort, site: Site) -> None:
    """S2-14: 403 for others, 406 for who asks for no stream; an API key may follow too."""
    operator = await port.browser(site, Role.OPERATOR)
    assert (await port.call("GET", "/audit/live", operator, extra=STREAM)).status == 403
    cookie = await port.browser(site)
    assert (await port.call("GET", "/audit/live", cookie)).status == 406
    assert (await port.call("HEAD", "/audit/live", cookie, extra=STREAM)).status == 406
    answer = await port.call("GET", "/audit/live", await port.key(site, "audit:read"), extra=STREAM)
    assert (await news(answer))[0] == "begin"
    await port.client.app[FOLLOWERS].send_away_who_may_not()
    assert len(port.client.app[FOLLOWERS]) == 1
    await port.client.app[FOLLOWERS].close()  # as at the end of the node
    while (told := await news(answer))[0] == "entry":
        pass
    assert told[0] == "end"
    for query in ("before=3", "group=ip", "to=2020-01-01T00:00"):
        page = await (await port.call("GET", f"/audit?{query}", cookie)).text()
        assert 'data-live=""' in page
