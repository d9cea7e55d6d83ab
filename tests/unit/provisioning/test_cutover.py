"""Rotations: whom one leaves behind, the move to the next token, cutting over, calling it off, and who straggles."""

import datetime as dt

import pytest
from sqlalchemy import select

from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import utc_now
from engine.errors import Conflict
from engine.models import Account, AuditEntry, Phone, ProvisioningEvent, RetiredToken
from engine.provisioning import cutover, phones, retired, store_cutover, tokens
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.fetchlog import FetchLog
from engine.provisioning.index import SqliteIndex
from engine.provisioning.movement import Impact, Move, Progress, RotationState
from engine.provisioning.phones import LineFields
from tests.factories import add_account, add_phone

FLEET = ("805ec0000001", "805ec0000002", "805ec0000003")


class Site:
    """An account whose phones fetch through the real fetch log, by whatever token they are said to."""

    def __init__(self, database, keys, account_id, token):
        self.database, self.keys, self.account_id, self.token = database, keys, account_id, token
        self.log = FetchLog(database)
        self.index = SqliteIndex(database.sqlite_path, keys)
        self.revision = 1

    async def do(self, operation, *more, **named):
        async with self.database.sessions.begin() as session:
            account = await session.get(Account, self.account_id)
            return await operation(session, SYSTEM, account, *more, **named)

    async def begin(self, **named):
        return await self.do(cutover.begin, self.keys, **named)

    async def fetch(self, token, *macs, ip="192.0.2.7", method="GET", is_proven=False):
        """Each phone asks for its own file, as the phones' port notes it; True when the token opens anything."""
        is_known = False
        for mac in macs:
            asked = tokens.index(self.keys, token)
            found = await self.index.find(asked, mac)
            is_known = found is not None
            self.revision += 1
            self.log.note(
                Fetch(
                    FetchKind.FETCH if found else FetchKind.DENIED, f"{mac}.cfg", method, 200 if found else 404,
                    ip, "Yealink SIP-T46U", found.account_id if found else None,
                    found.phone_id if found else None, mac, None if found else "token",
                    revision=self.revision if found and method == "GET" else None, etag='"x"', token_index=asked,
                    is_proven=is_proven,
                ), 100,
            )  # fmt: skip
        await self.log.flush()
        return is_known

    async def progress(self):
        async with self.database.sessions() as session:
            return await store_cutover.progress(session, await session.get(Account, self.account_id))

    async def read(self, question):
        async with self.database.sessions() as session:
            return await question(session, self.account_id)

    async def account(self):
        async with self.database.sessions() as session:
            return await session.get(Account, self.account_id)

    async def statuses(self):
        async with self.database.sessions() as session:
            rows = await session.execute(select(Phone.mac, Phone.status).order_by(Phone.mac))
            return {row.mac: row.status for row in rows}

    async def events(self):
        query = select(AuditEntry.event).where(AuditEntry.chain == self.account_id).order_by(AuditEntry.seq)
        async with self.database.sessions() as session:
            return list(await session.scalars(query))


@pytest.fixture
async def site(database, keys):
    async with database.sessions.begin() as session:
        account = await add_account(session)
        token = await phones.generate_token(session, SYSTEM, account, keys)
        for mac in FLEET:
            await add_phone(session, account, mac=mac)
    made = Site(database, keys, account.id, token)
    yield made
    made.index.close()


# --- Before ----------------------------------------------------------------------------------------------------------


async def test_before_a_rotation_it_is_told_what_a_leaked_url_has_exposed(site):
    """P-04: the phone admin password, and of the lines those on a key that have a password."""
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, site.account_id)
        first, second = (await session.scalars(select(Phone).order_by(Phone.mac).limit(2))).all()
        line = await phones.create_line(session, SYSTEM, account, LineFields(extension="101", secret="s1"))
        bare = await phones.create_line(session, SYSTEM, account, LineFields(extension="102"))
        await phones.create_line(session, SYSTEM, account, LineFields(extension="103", secret="s3"))
        await phones.assign_lines(session, SYSTEM, first, (line.id,))
        await phones.assign_lines(session, SYSTEM, second, (line.id, bare.id))
    impact = await site.read(lambda session, account_id: store_cutover.impact(session, account_id, utc_now()))
    assert impact.sip_passwords == 1
    assert "in them stand the phone admin password and the SIP password of 1 line. Rotating" in impact.exposed
    assert "SIP passwords of 1,200 lines" in Impact(5, 0, 0, 0, None, sip_passwords=1200).exposed
    assert "no phone yet" in Impact(0, 0, 0, 0, None).exposed


async def test_before_a_rotation_it_is_told_how_many_phones_it_leaves_behind(site):
    """P-04: how many phones, how many seen lately, the last, and which never came."""
    now = utc_now()
    async with site.database.sessions.begin() as session:
        rows = (await session.scalars(select(Phone).order_by(Phone.mac))).all()
        rows[0].last_fetch_at, rows[1].last_fetch_at = now - dt.timedelta(hours=2), now - dt.timedelta(days=9)
    impact = await site.read(lambda session, account_id: store_cutover.impact(session, account_id, now))
    assert (impact.phones, impact.booted, impact.never) == (3, 2, 1)
    assert (impact.seen_last_day, impact.seen_last_week) == (1, 1)
    assert impact.last_seen_at == now - dt.timedelta(hours=2)
    assert [phone.mac for phone in impact.unseen] == [FLEET[2], FLEET[1]]
    assert impact.sentence == (
        "2 phones must get the new URL; 1 asked within the last day, 1 have been silent for a week or longer."
    )


def test_an_account_whose_phones_never_came_leaves_nobody_behind():
    assert Impact(5, 0, 0, 0, None).sentence == "No phone has fetched with it yet, so nothing is left behind."


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ({}, Move()),
        (None, Move()),
        ({"automatic": False}, Move(automatic=False)),
        (
            {"is_return": True, "unsettled_since": "2026-01-02T03:04:05+00:00"},
            Move(is_return=True, unsettled_since=dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        ),
    ],
)
def test_how_a_move_goes_on_is_read_as_it_was_stored(stored, read):
    assert Move.read(stored) == read
    assert Move.read(read.as_stored()) == read


def test_progress_is_told_as_people_say_it():
    """P-04: "37 of 40"."""
    assert Progress(RotationState.PUSHING, 40, 37, 2, 0).sentence == "37 of 40 phones moved"
    assert Progress(RotationState.RETURNING, 1, 0, 0, 0).sentence == "0 of 1 phone moved back"
    assert not Progress(RotationState.PUSHING, 40, 39, 1, 0).is_complete
    assert Progress(RotationState.PUSHING, 40, 40, 0, 3).is_complete


# --- Push, then cut over ---------------------------------------------------------------------------------------------


async def test_both_urls_work_until_the_cut_and_each_phone_is_counted_when_it_asks_by_the_new_one(site):
    """P-04: a live count by the token each phone asks with for its own files; the cut ends the old one."""
    await site.fetch(site.token, *FLEET[:2])
    assert (await site.progress()).sentence == "2 of 2 phones moved"
    new = await site.begin(is_automatic=False)
    assert (await site.account()).next_provisioning_token == new
    assert await site.statuses() == {FLEET[0]: "stale", FLEET[1]: "stale", FLEET[2]: "never_booted"}
    begun = await site.progress()
    assert (begun.state, begun.phones, begun.moved, begun.told) == (RotationState.PUSHING, 2, 0, 0)
    await site.fetch(site.token, FLEET[0])  # it has the new URL in its file now
    told = await site.progress()
    assert (told.moved, told.told, (await site.statuses())[FLEET[0]]) == (0, 1, "stale")
    await site.fetch(new, FLEET[0])
    assert (await site.progress()).sentence == "1 of 2 phones moved"
    assert (await site.statuses())[FLEET[0]] == "current"
    reached = await site.do(cutover.cut)
    assert (reached.moved, reached.phones) == (1, 2)
    assert await site.fetch(new, FLEET[0])
    assert not await site.fetch(site.token, FLEET[1])
    assert [phone.mac for phone in await site.read(store_cutover.stragglers)] == [FLEET[1]]
    account = await site.account()
    assert (account.provisioning_token, account.next_provisioning_token, account.rotation) == (new, None, {})
    assert [event for event in await site.events() if event.startswith("provisioning_token")] == [
        "provisioning_token.generate", "provisioning_token.rotate", "provisioning_token.cut",
    ]  # fmt: skip


async def test_what_a_thief_fetches_by_the_new_url_moves_no_phone(site):
    """P-04: from elsewhere, or by HEAD, nothing counts; the cut waits and says why. From the phone's own network, or
    with its certificate, it does.
    """
    await site.fetch(site.token, *FLEET)
    new = await site.begin()
    assert await site.fetch(new, FLEET[0], method="HEAD")
    assert (await site.progress()).moved == 0
    assert await site.fetch(site.token, *FLEET, ip="198.51.100.7")  # it makes no home for anybody
    assert await site.fetch(new, *FLEET, ip="198.51.100.7")
    reached = await site.progress()
    assert (reached.moved, reached.elsewhere, reached.is_complete) == (0, 3, False)
    assert "3 asked by the new URL from another network than before and do not count. The cut waits" in reached.sentence
    assert set((await site.statuses()).values()) == {"stale"}
    await site.fetch(new, FLEET[0], ip="192.0.2.99")
    await site.fetch(new, FLEET[1], ip="198.51.100.7", is_proven=True)
    reached = await site.progress()
    assert (reached.moved, reached.elsewhere) == (2, 1)
    await site.do(cutover.cancel)
    await site.fetch(site.token, FLEET[2], ip="198.51.100.7")
    assert not (await site.progress()).is_complete


async def test_the_phone_s_first_fetch_makes_its_home(site):
    """P-04: a phone that comes for the first time while others are moved counts where it came from."""
    new = await site.begin()
    await site.fetch(new, FLEET[0], ip="203.0.113.9")
    await site.fetch(new, FLEET[0], ip="203.0.113.77")
    assert (await site.progress()).sentence == "1 of 1 phone moved"


async def test_a_second_push_and_a_cut_or_a_call_off_of_nothing_are_refused(site):
    with pytest.raises(Conflict, match="nothing to cut"):
        await site.do(cutover.cut)
    with pytest.raises(Conflict, match="nothing to call off"):
        await site.do(cutover.cancel)
    await site.begin()
    with pytest.raises(Conflict, match="being moved to a new URL already"):
        await site.begin()


async def test_a_push_needs_a_token_to_move_from(database, keys):
    async with database.sessions.begin() as session:
        account = await add_account(session)
        with pytest.raises(Conflict, match="Generate one"):
            await cutover.begin(session, SYSTEM, account, keys)


async def test_an_immediate_rotation_ends_the_move_and_both_its_urls(site):
    """P-02: whoever held the old URL could read the next one, so both die."""
    await site.fetch(site.token, *FLEET)
    pushed = await site.begin()
    fresh = await site.do(phones.rotate_token, site.keys)
    assert set((await site.statuses()).values()) == {"stale"}
    assert [await site.fetch(token, FLEET[0]) for token in (site.token, pushed, fresh)] == [False, False, True]
    assert (await site.statuses())[FLEET[0]] == "current"
    assert (await site.progress()).sentence == "1 of 3 phones moved"
    async with site.database.sessions() as session:
        left = await store_cutover.left_behind(session, await session.get(Account, site.account_id))
    assert {phone.mac for phone in left} == set(FLEET[1:])


# --- Calling it off --------------------------------------------------------------------------------------------------


async def test_a_move_that_no_phone_has_heard_of_is_called_off_at_once(site):
    await site.fetch(site.token, *FLEET)
    new = await site.begin()
    ended = await site.do(cutover.cancel)
    assert (ended.is_returning, ended.left) == (False, 0)
    assert not await site.fetch(new, FLEET[0])
    assert await site.fetch(site.token, FLEET[0])
    assert (await site.progress()).state is RotationState.NONE


async def test_a_move_that_phones_have_followed_is_turned_round_and_nobody_loses_the_way(site):
    """P-04: a phone that took the new URL is brought back by it; one that was told it and has not asked by it yet is
    waited for, since it will ask by it next.
    """
    moved, told, _ = FLEET
    await site.fetch(site.token, *FLEET)
    new = await site.begin(is_automatic=False)
    await site.fetch(new, moved)
    await site.fetch(site.token, told)
    ended = await site.do(cutover.cancel)
    assert (ended.is_returning, ended.left) == (True, 2)
    back = await site.progress()
    assert (back.state, back.automatic) == (RotationState.RETURNING, True)
    assert back.sentence == "1 of 3 phones moved back"  # the one that was never told
    assert await site.fetch(new, moved, told)  # both still get their files, now with the old URL in them
    assert (await site.progress()).moved == 1
    with pytest.raises(Conflict, match="on their way back"):
        await site.do(cutover.cancel)
    await site.fetch(site.token, moved, told)
    assert (await site.progress()).is_complete
    await site.do(cutover.cut)
    assert (await site.account()).provisioning_token == site.token
    assert await site.fetch(site.token, *FLEET)
    assert not await site.fetch(new, moved)


async def test_a_move_may_be_abandoned_and_says_how_many_phones_it_leaves(site):
    await site.fetch(site.token, *FLEET)
    new = await site.begin()
    await site.fetch(new, *FLEET[:2])
    ended = await site.do(cutover.cancel, is_abandoned=True)
    assert (ended.is_returning, ended.left) == (False, 2)
    assert not await site.fetch(new, FLEET[0])
    assert [phone.mac for phone in await site.read(store_cutover.stragglers)] == [FLEET[0]]


# --- Tokens rotated away ---------------------------------------------------------------------------------------------


async def test_a_phone_that_asks_by_an_old_url_is_found_out_when_the_log_is_written(site):
    """P-02, P-04: the denied fetch is told to its account and phone, once each interval however often it asks."""
    await site.fetch(site.token, *FLEET)
    await site.do(phones.rotate_token, site.keys)
    new = await site.do(phones.rotate_token, site.keys)
    for _ in range(5):
        assert not await site.fetch(site.token, FLEET[1])
    assert [phone.mac for phone in await site.read(store_cutover.stragglers)] == [FLEET[1]]
    async with site.database.sessions() as session:
        query = select(ProvisioningEvent).where(ProvisioningEvent.reason == retired.REASON)
        rows = list(await session.scalars(query))
    assert {row.account_id for row in rows} == {site.account_id}
    assert {row.phone_id is not None for row in rows} == {True}
    assert await site.fetch(new, FLEET[1])
    assert await site.read(store_cutover.count_stragglers) == 0


async def test_guesses_are_told_to_nobody_and_counted_as_one(site):
    """P-02: a token that never was costs one row an interval, whatever was guessed."""
    for _ in range(20):
        guess = tokens.index(site.keys, tokens.mint())
        site.log.note(
            Fetch(FetchKind.DENIED, "a.cfg", "GET", 404, "192.0.2.9", "x", reason="token", token_index=guess), 10
        )
    await site.log.flush()
    async with site.database.sessions() as session:
        row = (await session.scalars(select(ProvisioningEvent))).one()
    assert (row.account_id, row.reason, row.evidence["count"], row.duration_us) == (None, "token", 20, 10)


async def test_the_last_ten_tokens_are_remembered_and_none_for_longer_than_400_days(site):
    async with site.database.sessions.begin() as session:
        old = utc_now() - dt.timedelta(days=401)
        session.add(RetiredToken(token_index="old", account_id=site.account_id, retired_at=old))
    for _ in range(12):
        await site.do(phones.rotate_token, site.keys)
    async with site.database.sessions() as session:
        kept = list(await session.scalars(select(RetiredToken.token_index)))
    assert len(kept) == retired.MAX_KEPT
    assert "old" not in kept
    assert tokens.index(site.keys, site.token) not in kept


async def test_what_could_not_be_written_is_noted_as_it_was(site):
    """A writing that fails must not count what it had joined together twice."""
    await site.do(phones.rotate_token, site.keys)
    for at in range(3):
        guess = tokens.index(site.keys, tokens.mint())
        site.log.note(
            Fetch(FetchKind.DENIED, "a.cfg", "GET", 404, "192.0.2.9", "x", reason="token", token_index=guess), at
        )
    async with site.database.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE provisioning_event RENAME TO away")
    with pytest.raises(Exception, match="no such table"):
        await site.log.flush()
    async with site.database.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE away RENAME TO provisioning_event")
    await site.log.flush()
    async with site.database.sessions() as session:
        assert (await session.scalars(select(ProvisioningEvent))).one().evidence["count"] == 3


# --- Whom to ask again -----------------------------------------------------------------------------------------------


async def test_a_phone_is_asked_at_the_begin_again_when_it_was_told_and_at_last_now_and_then(site):
    """P-04: many phones take a new URL into use only at the resync after the one that told it."""
    await site.fetch(site.token, *FLEET)
    await site.begin()
    settle, again = dt.timedelta(seconds=30), dt.timedelta(hours=1)
    began = (await site.account()).next_provisioning_token_at

    async def due(after_s):
        async with site.database.sessions() as session:
            account = await session.get(Account, site.account_id)
            return await store_cutover.due_for_resync(
                session, account, began + dt.timedelta(seconds=after_s), settle=settle, again=again,
                forgotten=dt.timedelta(hours=6), limit=10,
            )  # fmt: skip

    async def put(**columns):
        async with site.database.sessions.begin() as session:
            for row in await session.scalars(select(Phone).where(Phone.mac == FLEET[0])):
                for name, value in columns.items():
                    at = began + dt.timedelta(seconds=value) if name.endswith("_at") else None
                    setattr(row, name, at or value)

    async with site.database.sessions() as session:
        ids = {row.mac: row.id for row in await session.execute(select(Phone.mac, Phone.id))}
    first = ids[FLEET[0]]
    assert set(await due(1)) == set(ids.values())
    await put(resync_at=1)
    assert first not in await due(60)
    await put(last_fetch_at=5)
    assert first not in await due(20)  # it may be restarting
    assert first in await due(40)
    await put(resync_at=41)
    assert first not in await due(90)
    assert first in await due(41 + 3601)
    await put(resync_result="waiting")
    assert first not in await due(41 + 3601)  # its turn is to come
    assert first in await due(41 + 6 * 3600 + 1)  # whoever was to ask it has gone


async def test_a_move_s_audit_entries_hold_no_token(site):
    """P-23: before and after of the sealed columns and of their indexes are fingerprints."""
    await site.fetch(site.token, *FLEET)
    new = await site.begin()
    await site.fetch(new, FLEET[0])
    await site.do(cutover.cut)
    await site.fetch(site.token, FLEET[1])
    async with site.database.sessions() as session:
        written = "\n".join(await session.scalars(select(AuditEntry.entry)))
    for token in (site.token, new):
        assert token not in written
        assert tokens.index(site.keys, token) not in written


async def test_an_account_that_goes_takes_its_retired_tokens_along(site):
    await site.do(phones.rotate_token, site.keys)
    async with site.database.sessions.begin() as session:
        for phone in await session.scalars(select(Phone)):
            await session.delete(phone)
        account = await session.get(Account, site.account_id)
        record(session, SYSTEM, Event.ACCOUNT_UPDATE, account)
        await session.flush()
        await session.delete(account)
    async with site.database.sessions() as session:
        assert list(await session.scalars(select(RetiredToken))) == []
