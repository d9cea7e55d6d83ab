"""Little free space: levels that do not flutter, one mail for each, old fetches given up, calls untouched."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import func, insert, select

from admin.health import _disk_families
from engine.accounts import operators, store_storage
from engine.accounts.disk_mail import TOLD_FILE, DiskMail
from engine.audit.record import SYSTEM
from engine.config import Config, Core, Mail, Storage
from engine.db import Database, utc_now
from engine.disk import DiskWatch, Level, alarm_of, free_bytes_at, in_words, level_of
from engine.doctor.checks import _disk
from engine.models import AuditEntry, ProvisioningEvent, Role, User, UserStatus
from engine.provisioning.retention import Retention
from tests.factories import add_account
from tests.sink import MailSink
from tests.unit.provisioning.test_retention import event

SECTION = Storage(low_below_bytes=1_000, critical_below_bytes=400)


@pytest.mark.parametrize(
    ("free", "before", "expected"),
    [
        (1_000, Level.GOOD, Level.GOOD), (999, Level.GOOD, Level.LOW), (399, Level.GOOD, Level.CRITICAL),
        (1_249, Level.LOW, Level.LOW), (1_250, Level.LOW, Level.GOOD), (499, Level.CRITICAL, Level.CRITICAL),
        (500, Level.CRITICAL, Level.LOW), (1_249, Level.CRITICAL, Level.LOW), (9_999, Level.CRITICAL, Level.GOOD),
        (399, Level.LOW, Level.CRITICAL), (0, Level.GOOD, Level.CRITICAL),
    ],
)  # fmt: skip
def test_a_level_is_left_when_a_quarter_more_is_free(free: int, before: Level, expected: Level) -> None:
    """S1-22: what flutters around a threshold raises one alarm."""
    assert level_of(free, before, SECTION) is expected


def test_no_threshold_means_no_alarm() -> None:
    assert level_of(0, Level.GOOD, Storage(low_below_bytes=0, critical_below_bytes=0)) is Level.GOOD


def test_the_alarm_says_what_it_means_for_911_and_what_to_do() -> None:
    for level in (Level.LOW, Level.CRITICAL):
        told = alarm_of(level, 210_000_000)
        assert "210 MB left" in told
        assert "911 calls go out" in told
        assert "Free space" in told
    assert (in_words(3_240_000_000), in_words(999)) == ("3.2 GB", "0 MB")


class Disk:
    """A disk whose free space the test says."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, _folder: Path) -> int:
        return self.free


async def test_the_watch_tells_each_worse_level_once(tmp_path: Path) -> None:
    disk, told = Disk(2_000), list[Level]()
    watch = DiskWatch(tmp_path, SECTION, [told.append], disk)
    assert watch.alarm() == ""
    for free in (2_000, 999, 1_100, 300, 450, 300, 2_000, 999):
        disk.free = free
        await watch.look()
    assert told == [Level.LOW, Level.CRITICAL, Level.LOW]
    assert (watch.free_bytes, "filling up" in watch.alarm()) == (999, True)


def test_the_nearest_folder_there_is_is_asked(tmp_path: Path) -> None:
    assert free_bytes_at(tmp_path / "not" / "there") > 0


def test_doctor_has_a_line_of_it(tmp_path: Path) -> None:
    def found(low: int, critical: int) -> str:
        section = Storage(low_below_bytes=low, critical_below_bytes=critical)
        return _disk(Config(core=Core(data_dir=tmp_path), storage=section)).level

    assert [found(0, 0), found(1 << 60, 0), found(1 << 60, 1 << 60)] == ["good", "warning", "bad"]


class Unasked:
    """A folder that cannot be asked."""

    def __call__(self, _folder: Path) -> int:
        raise PermissionError(13, "Permission denied")


def test_doctor_says_when_the_folder_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1-22: a finding like any other; the rest is looked at all the same."""
    monkeypatch.setattr(shutil, "disk_usage", Unasked())
    found = _disk(Config(core=Core(data_dir=tmp_path)))
    assert (found.level, "Permission denied" in found.detail) == ("bad", True)


async def test_a_folder_that_cannot_be_asked_is_not_told_as_it_was(tmp_path: Path) -> None:
    """S1-22: the alarm stays, the number goes: a metric that stands still looks like a disk that is well."""
    watch = DiskWatch(tmp_path, SECTION, measure=Disk(300))
    await watch.look()
    assert len(_disk_families(watch)) == 1
    watch.measure = Unasked()
    with pytest.raises(PermissionError):
        await watch.look()
    assert (watch.level, watch.alarm() != "", _disk_families(watch)) == (Level.CRITICAL, True, [])


async def people(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        await operators.create_operator(session, SYSTEM, "op@example.com", "Op", "$argon2id$x")
        session.add(User(id="user_1", account_id=account.id, email="owner@example.com", role=Role.OWNER))


@pytest.mark.enable_socket
async def test_whoever_runs_the_platform_is_mailed_once_for_each_worse_level(
    database: Database, tmp_path: Path
) -> None:
    """S1-22: operators before owners; a restart tells nobody again; what got better is told anew."""
    await people(database)
    sink = MailSink()
    await sink.start()
    try:
        settings = Mail.model_validate({"host": "127.0.0.1", "port": sink.port, "security": "none"})
        disk = Disk(999)
        watch = DiskWatch(tmp_path, SECTION, measure=disk)
        mail = DiskMail(database, Mail(), "https://callpoint.example.com/", watch, host=lambda: "node-1")
        await watch.look()
        assert not await mail.send_due(), "no mail server yet"
        mail.use(settings)
        assert await mail.send_due()
        assert await mail.send_due()
        assert [to for to, _mail in sink.messages] == [["op@example.com"]]
        first = sink.messages[0][1]
        body = first.get_content()
        assert first["Subject"] == "Disk filling up on node-1 (Callpoint)"
        assert "911 calls go out" in body
        assert "https://callpoint.example.com/settings/storage" in body
        again = DiskMail(database, settings, "", watch)
        assert await again.send_due()
        disk.free = 100
        await watch.look()
        assert await again.send_due()
        assert [told["Subject"].split(" on ")[0] for _to, told in sink.messages] == [
            "Disk filling up",
            "Disk nearly full",
        ]
        assert (tmp_path / TOLD_FILE).read_text() == "critical"
        for free in (5_000, 999):
            disk.free = free
            await watch.look()
            assert await again.send_due()
        assert len(sink.messages) == 3
    finally:
        await sink.stop()


class _Picky(MailSink):
    """A server that takes nothing for the first operator: that mailbox is gone."""

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if address == "op@example.com":
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 kept"


@pytest.mark.enable_socket
async def test_a_refused_address_keeps_nobody_from_being_told(database: Database, tmp_path: Path) -> None:
    """S1-22: those behind it are told now, and it is not tried for ever."""
    await people(database)
    async with database.sessions.begin() as session:
        await operators.create_operator(session, SYSTEM, "second@example.com", "Op", "$argon2id$x")
    sink = _Picky()
    await sink.start()
    try:
        settings = Mail.model_validate({"host": "127.0.0.1", "port": sink.port, "security": "none"})
        watch = DiskWatch(tmp_path, SECTION, measure=Disk(999))
        await watch.look()
        mail = DiskMail(database, settings, "", watch)
        with structlog.testing.capture_logs() as logged:
            assert await mail.send_due()
            assert await mail.send_due()
        assert [to for to, _mail in sink.messages] == [["second@example.com"]]
        (refusal,) = [line for line in logged if line["event"] == "disk_not_mailed"]
        assert "no such user" in refusal["error"]
    finally:
        await sink.stop()


@pytest.mark.enable_socket
async def test_a_second_fall_is_mailed_again(database: Database, tmp_path: Path) -> None:
    """S1-22: nearly full, a little better, nearly full again; coming back up is no news."""
    await people(database)
    sink = MailSink()
    await sink.start()
    try:
        settings = Mail.model_validate({"host": "127.0.0.1", "port": sink.port, "security": "none"})
        disk = Disk(300)
        watch = DiskWatch(tmp_path, SECTION, measure=disk)
        mail = DiskMail(database, settings, "", watch)
        for free, told in ((300, 1), (600, 1), (300, 2), (450, 2), (5_000, 2), (999, 3)):
            disk.free = free
            await watch.look()
            assert await mail.send_due()
            assert len(sink.messages) == told, free
    finally:
        await sink.stop()


async def test_owners_are_told_where_nobody_operates_the_platform(database: Database) -> None:
    async with database.sessions.begin() as session:
        account = await add_account(session)
        session.add_all([
            User(id="user_1", account_id=account.id, email="owner@example.com", role=Role.OWNER),
            User(id="user_2", account_id=account.id, email="gone@example.com", role=Role.OWNER,
                 status=UserStatus.DISABLED),
            User(id="user_3", account_id=account.id, email="admin@example.com", role=Role.ADMIN),
        ])  # fmt: skip
    async with database.sessions() as session:
        assert await store_storage.platform_people(session) == ["owner@example.com"]
    async with database.sessions.begin() as session:
        other = await add_account(session, name="Another tenant")
        session.add(User(id="user_4", account_id=other.id, email="tenant@example.com", role=Role.OWNER))
    async with database.sessions() as session:
        assert await store_storage.platform_people(session) == [], "nobody of one account among several runs the server"


async def test_all_but_the_last_day_of_the_fetch_log_goes_while_the_disk_is_nearly_full(database: Database) -> None:
    """S1-22: first what is no proof of anything; the entry about it is made before the first row goes."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        rows = [event(account.id, age, number) for number, age in enumerate((80, 3, 1.5, 0.5, 0))]
        await session.execute(insert(ProvisioningEvent), rows)
    short = asyncio.Event()
    duty = Retention(database, store_storage.fetch_log_days, short.is_set)
    assert await duty.sweep(utc_now()) == 0
    short.set()
    assert await duty.sweep(utc_now()) == 3
    assert await duty.sweep(utc_now()) == 0
    async with database.sessions() as session:
        entries = (await session.scalars(select(AuditEntry).where(AuditEntry.event == "fetch_log.prune"))).all()
        assert await session.scalar(select(func.count()).select_from(ProvisioningEvent)) == 2
    assert [json.loads(entry.entry)["reason"] for entry in entries] == ["low_disk"]


async def test_a_retention_that_sleeps_is_woken(database: Database) -> None:
    rounds = asyncio.Event()

    async def keeps(session: Any) -> dict[str, int]:
        rounds.set()
        return dict(await store_storage.fetch_log_days(session))

    duty = Retention(database, keeps, every_s=3_600)
    task = asyncio.create_task(duty.run())
    async with asyncio.timeout(30):
        await rounds.wait()
        rounds.clear()
        while not rounds.is_set():  # it may still be at its first round
            duty.wake()
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
