"""In which order waiting messages leave, on rows alone."""

import datetime as dt

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import Database, utc_now
from engine.e911.store_outbox import claim, in_turn, is_due
from engine.ids import new_id
from engine.models import Account, Channel, Notification, NotificationState
from tests.factories import add_account, emergency_call


async def add_message(
    session: AsyncSession, account: Account, kind: str, to: str, due: dt.datetime, tries: int = 0
) -> None:
    call = emergency_call(account, kind=kind, outcome="answered", at=due)
    session.add(call)
    await session.flush()
    session.add(
        Notification(
            id=new_id("notification"), account_id=account.id, emergency_call_id=call.id, recipient=to, channel="email",
            because="account", subject=to, body="", state=NotificationState.WAITING, tries=tries, created_at=due,
            next_try_at=due,
        )
    )  # fmt: skip
    await session.flush()


async def order_of(session: AsyncSession, at_most_each: int = 0) -> list[str]:
    due = in_turn(Notification.state == NotificationState.WAITING, at_most_each=at_most_each)
    found = []
    for identity in (await session.scalars(due)).all():
        row = await session.get(Notification, identity)
        assert row is not None
        found.append(row.recipient)
    return found


async def test_a_real_calls_mail_leaves_before_those_of_drills_and_accounts_take_turns(database: Database) -> None:
    """E-13: one account's drills delay neither anybody's real call nor another account's own drill."""
    now = utc_now()
    async with database.sessions.begin() as session:
        loud, quiet = await add_account(session, name="Loud"), await add_account(session, name="Quiet")
        for at in range(4):
            await add_message(session, loud, "drill", f"drill {at}", now - dt.timedelta(minutes=10 - at))
        await add_message(session, quiet, "test", "quiet", now - dt.timedelta(minutes=1))
        await add_message(session, quiet, "drill", "tried", now - dt.timedelta(minutes=30), tries=3)
        await add_message(session, loud, "emergency", "real", now)
        await add_message(session, quiet, "emergency", "real again", now - dt.timedelta(minutes=60), tries=2)
        found = await order_of(session)
    assert found == ["real", "real again", "drill 0", "quiet", "drill 1", "drill 2", "drill 3", "tried"]


async def test_no_more_of_one_recipient_are_taken_than_may_be_sent_at_once(database: Database) -> None:
    """S1-28: a webhook with many messages waiting leaves the others their places."""
    now = utc_now()
    async with database.sessions.begin() as session:
        account = await add_account(session)
        for at in range(9):
            await add_message(session, account, "drill", "many", now - dt.timedelta(minutes=20 - at))
        await add_message(session, account, "drill", "one", now)
        assert await order_of(session, 4) == ["many"] * 4 + ["one"]


async def test_what_was_put_off_before_the_clock_was_set_back_does_not_wait_for_it(database: Database) -> None:
    """E-10: the clock was four hours ahead and was put right: what was written, put off or claimed then is due now. A
    pause or a lease of this clock is kept.
    """
    now = utc_now()
    ahead, soon = now + dt.timedelta(hours=4), now + dt.timedelta(minutes=5)
    async with database.sessions.begin() as session:
        account = await add_account(session)
        await add_message(session, account, "emergency", "never tried", soon)
        await add_message(session, account, "emergency", "put off by the wrong clock", ahead, tries=2)
        await add_message(session, account, "emergency", "put off by this one", soon, tries=2)
        await add_message(session, account, "emergency", "claimed by the wrong clock", now)
        await add_message(session, account, "emergency", "claimed by this one", now)
        ids = {row.recipient: row.id for row in (await session.scalars(select(Notification))).all()}
        await claim(session, "one", [ids["claimed by the wrong clock"]], ahead)
        await claim(session, "one", [ids["claimed by this one"]], soon)
    async with database.sessions() as session:
        due = set((await session.scalars(in_turn(*is_due([Channel.EMAIL], now)))).all())
    assert {name for name, identity in ids.items() if identity in due} == {
        "never tried", "put off by the wrong clock", "claimed by the wrong clock",
    }  # fmt: skip
