import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import OperationalError

from engine.accounts import operations, telephony
from engine.audit.record import SYSTEM
from engine.e911 import sites
from engine.models import Account, AuditEntry, Line, Location, Pbx, Phone, PhoneStatus, ProvisioningEvent, Revision
from engine.provisioning import fetchlog
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.fetchlog import MANY, FetchLog
from engine.provisioning.phones import LineFields, PhoneFields, rotate_phone_admin_password, update_line, update_phone
from tests.factories import add_account, add_line, add_location, add_pbx, add_phone


def stranger(number: int, ip: str = "198.51.100.7") -> Fetch:
    return Fetch(FetchKind.DENIED, f"{number:012x}.cfg", "GET", 404, ip, f"guesser/{number}", reason="token")


async def counted(database, model, *conditions) -> int:
    async with database.sessions.begin() as session:
        return await session.scalar(select(func.count()).select_from(model).where(*conditions)) or 0


async def test_a_stranger_that_guesses_fills_neither_the_fetch_log_nor_the_audit_log(database):
    """P-02, decision 11: every request is counted; the rows and entries of a flood are bounded."""
    log = FetchLog(database)
    for number in range(5000):
        log.note(stranger(number), 10)
    await log.flush()
    async with database.sessions.begin() as session:
        rows = list(await session.scalars(select(ProvisioningEvent)))
    assert len(rows) == fetchlog.MAX_PER_STRANGER + 1
    assert sum(row.evidence["count"] for row in rows) == 5000
    assert next(row for row in rows if row.file == MANY).evidence["count"] == 5000 - fetchlog.MAX_PER_STRANGER
    for address in range(10):
        for number in range(50):
            log.note(stranger(number, f"203.0.113.{address}"), 10)
    await log.flush()
    assert await counted(database, AuditEntry) <= fetchlog.MAX_AUDITED + 1
    assert await counted(database, ProvisioningEvent) == len(rows) + 500


async def test_the_memory_for_events_is_bounded_and_what_is_dropped_is_counted(database, monkeypatch):
    monkeypatch.setattr(fetchlog, "MAX_PENDING", 3)
    log = FetchLog(database)
    for number in range(5):
        log.note(stranger(number, f"203.0.113.{number}"), 10)
    assert log.dropped == 2
    await log.flush()
    assert log.dropped == 0
    assert await counted(database, ProvisioningEvent) == 3


async def test_an_event_of_an_account_or_phone_deleted_meanwhile_holds_nothing_up(database):
    async with database.sessions.begin() as session:
        account = await add_account(session)
    log = FetchLog(database)
    log.note(
        Fetch(FetchKind.FETCH, "a.cfg", "GET", 200, "192.0.2.1", "", account_id="account_gone", phone_id="phone_gone"),
        1,
    )
    log.note(Fetch(FetchKind.FETCH, "b.cfg", "GET", 200, "192.0.2.1", "", account_id=account.id), 1)
    await log.flush()
    assert await counted(database, ProvisioningEvent) == 2
    assert await counted(database, ProvisioningEvent, ProvisioningEvent.account_id == account.id) == 1


async def test_what_cannot_be_written_stays_noted_and_adds_up(database):
    """Decision 17: a database that is away delays the log and loses nothing."""
    log = FetchLog(database)
    log.note(stranger(1), 10)
    async with database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE provisioning_event RENAME TO event_away"))
    with pytest.raises(OperationalError):
        await log.flush()
    log.note(stranger(1), 10)
    async with database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE event_away RENAME TO provisioning_event"))
    await log.flush()
    async with database.sessions.begin() as session:
        rows = list(await session.scalars(select(ProvisioningEvent)))
    assert [row.evidence["count"] for row in rows] == [2]


async def test_who_asks_that_all_be_written_waits_for_what_another_has_begun_to_write(database):
    """P-04: what is counted behind a flush counts every request before it, whoever writes that one."""
    written: list[Fetch] = []
    log = FetchLog(database, on_written=written.extend)
    log.note(stranger(1), 10)
    background = asyncio.create_task(log.flush())
    await asyncio.sleep(0)  # it has taken what was noted
    await log.flush()
    assert written == [stranger(1)]
    await background


async def test_a_group_that_is_written_is_not_written_again_when_the_next_one_fails(database, monkeypatch):
    """Decision 11: what is noted is written in groups, each once."""
    monkeypatch.setattr(fetchlog, "GROUP", 2)
    log = FetchLog(database)

    def fail_once(_written) -> None:
        log.on_written = None
        raise ConnectionError("whoever is told is away")

    log.on_written = fail_once
    for number in range(5):
        log.note(stranger(number, f"203.0.113.{number}"), 10)
    with pytest.raises(ConnectionError):
        await log.flush()
    assert await counted(database, ProvisioningEvent) == 2
    await log.flush()
    assert await counted(database, ProvisioningEvent) == 5


async def test_a_fetch_from_before_a_change_leaves_the_phone_stale_and_another_phone_current(database):
    """P-16: `current` is true. What was fetched before an edit and is written after it is not what the phone shall
    have; of a phone that the edit does not concern it is.
    """
    async with database.sessions.begin() as session:
        account = await add_account(session)
        line = await add_line(session, account)
        edited = await add_phone(session, account, line)
        other = await add_phone(session, account, mac="0015650000aa")
        fields = await PhoneFields.of(session, edited)
    log = FetchLog(database)

    async def fetched(revision: int) -> dict[str, str]:
        for phone in (edited, other):
            file = f"{phone.mac}.cfg"
            log.note(
                Fetch(FetchKind.FETCH, file, "GET", 200, "192.0.2.1", "", account.id, phone.id, revision=revision), 1
            )
        return await written()

    async def written() -> dict[str, str]:
        await log.flush()
        async with database.sessions() as session:
            return {phone.id: phone.status for phone in await session.scalars(select(Phone))}

    async def revision() -> int:
        async with database.sessions() as session:
            return await session.scalar(select(Revision.value).where(Revision.account_id == account.id))

    async def edit(label: str) -> None:
        async with database.sessions.begin() as session:
            await update_phone(session, SYSTEM, await session.get_one(Phone, edited.id), replace(fields, label=label))

    first = await revision()
    await edit("Lobby")  # between the fetch and its writing, the phone's first fetch at that
    assert await fetched(first) == {edited.id: PhoneStatus.STALE, other.id: PhoneStatus.CURRENT}
    await edit("Ward")  # stale already: what it fetches of the edit before is not the last either
    assert await fetched(first + 1) == {edited.id: PhoneStatus.STALE, other.id: PhoneStatus.CURRENT}
    assert await fetched(first + 2) == {edited.id: PhoneStatus.CURRENT, other.id: PhoneStatus.CURRENT}
    await edit("Ward")  # nothing was changed, so nothing is out of date
    assert await written() == {edited.id: PhoneStatus.CURRENT, other.id: PhoneStatus.CURRENT}
    async with database.sessions.begin() as session:
        await update_line(
            session, SYSTEM, await session.get_one(Account, account.id), await session.get_one(Line, line.id),
            replace(LineFields.of(line), display_name="Ann"),
        )  # fmt: skip
    assert await fetched(first + 2) == {edited.id: PhoneStatus.STALE, other.id: PhoneStatus.CURRENT}


async def test_a_change_of_account_or_pbx_that_phones_are_told_of_makes_them_stale(database):
    """P-16: registrar, time zone, country and admin password stand in every phone's files; a name does not."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        pbx = await add_pbx(session, account)
        location = await add_location(session, account)
        await add_phone(session, account, location_id=location.id)

    async def status_after(change) -> str:
        async with database.sessions.begin() as session:
            await session.execute(update(Phone).values(status=PhoneStatus.CURRENT))
        async with database.sessions.begin() as session:
            await change(session, await session.get_one(Account, account.id))
        async with database.sessions() as session:
            return (await session.scalars(select(Phone.status))).one()

    def of_pbx(**fields):
        async def change(session, own):
            row = await session.get_one(Pbx, pbx.id)
            await telephony.update_pbx(session, SYSTEM, own, row, replace(telephony.PbxFields.of(row), **fields))

        return change

    def of_location(**values):
        async def change(session, own):
            row = await session.get_one(Location, location.id)
            await sites.update_location(session, SYSTEM, own, row, values)

        return change

    def of_account(**fields):
        async def change(session, own):
            await operations.update_account(session, SYSTEM, own, replace(operations.AccountFields.of(own), **fields))

        return change

    assert await status_after(of_pbx(name="Main")) == PhoneStatus.CURRENT
    assert await status_after(of_pbx(registrar_host="pbx.other.example")) == PhoneStatus.STALE
    assert await status_after(of_account(name="Acme", notification_prefix="!")) == PhoneStatus.CURRENT
    assert await status_after(of_account(timezone="America/Denver")) == PhoneStatus.STALE
    assert (
        await status_after(lambda session, own: rotate_phone_admin_password(session, SYSTEM, own)) == PhoneStatus.STALE
    )
