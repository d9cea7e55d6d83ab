"""Hints, saved views and the live list on a real PostgreSQL, where two nodes share one database."""

import asyncio
import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from admin.audit_live import Follower, Followers
from engine.accounts import operations
from engine.accounts.anomaly_mail import AnomalyMail
from engine.accounts.anomaly_watch import AnomalyWatch
from engine.audit import store_views, views
from engine.audit.events import Event
from engine.audit.record import SYSTEM, Actor, record
from engine.audit.store import Filters, list_entries
from engine.audit.views import ViewFields
from engine.config import Mail
from engine.db import Database, utc_now
from engine.ids import new_id
from engine.models import Account, Anomaly, Session, User
from tests.sink import MailSink

pytestmark = pytest.mark.enable_socket
DAY = dt.timedelta(days=1)
CHROME = "Mozilla/5.0 (Windows NT 10.0) Chrome/120.0 Safari/537.36"


async def with_history(database: Database) -> tuple[Account, User]:
    """An account whose owner signed in once a day for three weeks, from one place."""
    async with database.sessions.begin() as session:
        account = await operations.create_account(session, SYSTEM, "Acme", "olga@acme.example", None, "Olga")
        owner = await session.scalar(select(User).where(User.account_id == account.id))
        assert owner is not None
    for ago in range(21, 0, -1):
        await sign_in(database, owner, utc_now() - DAY * ago)
    return account, owner


async def sign_in(database: Database, user: User, at: dt.datetime, ip: str = "10.0.7.5", agent: str = CHROME) -> None:
    async with database.sessions.begin() as session:
        session.add(
            Session(
                id=new_id("session"), user_id=user.id, account_id=user.account_id, cookie_hash=new_id("session"),
                method="password", ip=ip, user_agent=agent, created_at=at, seen_at=at, proven_at=at,
            )
        )  # fmt: skip
        actor = Actor("user", user.id, user.email, ip, user.account_id, user.name)
        record(session, actor, Event.SESSION_CREATE, resource=("user", user.id, user.email))


async def test_two_nodes_keep_a_hint_once_and_mail_it_once(nodes: tuple[Database, Database]) -> None:
    """S2-12: whoever moves the position keeps the hint; whoever claims it mails it."""
    one, other = nodes
    account, owner = await with_history(one)
    watches = [AnomalyWatch(one), AnomalyWatch(other)]
    assert await watches[0].look(utc_now()) == 0
    await sign_in(other, owner, utc_now(), "203.0.113.9", "curl/8.1")
    actor = Actor("user", owner.id, owner.email, "203.0.113.9", account.id)
    async with one.sessions.begin() as session:
        for number in range(12):
            record(session, actor, Event.CONTACT_DELETE, resource=("contact", f"contact_{number}", "x"))
    kept = await asyncio.gather(*(watch.look(utc_now()) for watch in watches), return_exceptions=True)
    assert [each for each in kept if isinstance(each, BaseException) and not isinstance(each, IntegrityError)] == []
    async with other.sessions() as session:
        hints = list(await session.scalars(select(Anomaly)))
    assert {hint.kind for hint in hints} == {"unfamiliar_sign_in", "mass_deletion"}
    sink = MailSink()
    await sink.start()
    try:
        settings = Mail.model_validate(
            {"host": "127.0.0.1", "port": sink.port, "security": "none", "from": "a@b.example"}
        )
        posts = [AnomalyMail(node, settings, "", asyncio.Event()) for node in nodes]
        assert sum(await asyncio.gather(*(post.send_due() for post in posts))) == 2
        assert sum([await post.send_due() for post in posts]) == 0
        assert len(await sink.wait_for(2)) == 2
    finally:
        await sink.stop()


async def test_views_and_the_live_list_of_one_node_see_what_another_wrote(nodes: tuple[Database, Database]) -> None:
    """S2-11, S2-13, S1-53: rows of the other node's commits; a view's name once for each owner; target and type."""
    one, other = nodes
    async with one.sessions.begin() as session:
        account = await operations.create_account(session, SYSTEM, "Beta", "ben@beta.example", None, "Ben")
    followers = Followers(one, lambda entry, _zone: entry.resource_id, poll_s=3600)
    seen = Follower(account.id, Filters(target_type="contact"), ZoneInfo("UTC"), "session_1", "user_1", 0, lambda: None)
    await followers.join(seen)
    async with other.sessions.begin() as session:
        record(session, SYSTEM, Event.CONTACT_UPDATE, resource=("contact", "contact_1", ""), account_id=account.id)
        record(session, SYSTEM, Event.PHONE_UPDATE, resource=("phone", "phone_1", ""), account_id=account.id)
    await followers.look()
    assert seen.queue.get_nowait().text == "contact_1"
    assert seen.queue.empty()
    await followers.close()
    async with other.sessions() as session:
        page = await list_entries(session, account.id, Filters(target="phone_1", actors=frozenset({"system"})))
        assert [row.resource_id for row in page.rows] == ["phone_1"]
    actor = Actor("user", "user_1", "ben@beta.example", "10.0.0.1", account.id, "Ben")
    for node, name in ((one, "b"), (other, "A")):
        async with node.sessions.begin() as session:
            view = await views.create_view(session, actor, account.id, ViewFields(name, "outcome=denied"))
    async with one.sessions.begin() as session:
        assert [each.name for each in await store_views.views_of(session, account.id, "user_1")] == ["A", "b"]
        found = await store_views.view_by_id(session, account.id, "user_1", view.id)
        await views.delete_view(session, actor, found)
