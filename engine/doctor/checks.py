"""`callpoint doctor`: everything a 911 call rests on, looked at one by one, each finding with what to do."""

import os
import stat
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from engine import crypto, migrations
from engine.accounts import store
from engine.accounts.store_storage import removal_faults
from engine.audit.record import open_audited
from engine.config import Config, parse_listen
from engine.data_folder import elsewhere, holder
from engine.db import Database
from engine.disk import Level, alarm_of, free_bytes_at, in_words, level_of
from engine.doctor.bootstrap import bootstrap_findings
from engine.doctor.clocks import clock_finding
from engine.doctor.integrations import (
    NO_ADDRESS,
    NO_MAIL,
    chat_findings,
    mail_finding,
    stored_findings,
    webhook_findings,
)
from engine.doctor.location import reference_findings, validator_findings
from engine.doctor.numbers import number_findings
from engine.doctor.phones import phones_port_findings
from engine.doctor.sip import (
    answers,
    certificate_findings,
    core_finding,
    credentials_findings,
    listener_findings,
    trunk_finding,
)
from engine.e911 import snapshot, store_chats
from engine.e911.calls import ASIDE
from engine.e911.carriers import load_profiles
from engine.errors import EngineError
from engine.findings import Finding
from engine.models import Account, Location, NotificationRecipient, Pbx, Phone, Trunk
from engine.own_command import own_command
from engine.provisioning.store_alarms import count_without_location
from engine.retention import CLOCK

SMALL_BUFFER_BYTES = 1024 * 1024


async def examine(config: Config) -> list[Finding]:
    """Look at keys, disk, sockets, database, accounts, carriers and mail. Never raises for what it finds."""
    findings = await _examined(config)
    return findings if any(finding.what == "mail" for finding in findings) else [*findings, NO_MAIL]


async def _examined(config: Config) -> list[Finding]:
    findings = [
        _disk(config),
        _buffers(),
        *_carriers(),
        await _node(config),
        core_finding(),
        *await listener_findings(config),
        *([await mail_finding(config.mail.host, config.mail.port)] if config.mail.host else []),
        *await validator_findings(config),
    ]
    now = datetime.now(UTC)
    findings += [*certificate_findings(config, now), *phones_port_findings(config, now), *_addresses(config)]
    if not config.key_file.exists():
        return [*findings, Finding("keys", "warning", f"{config.key_file} is not there yet: the first start makes it.")]
    try:
        keys = crypto.load(config.key_file)
    except EngineError as exc:
        return [*findings, Finding("keys", "bad", exc.detail)]
    findings += [_key_file(config.key_file), _snapshots(config, keys), _journal(config)]
    database = open_audited(config.database_url, keys)
    try:
        findings += [finding async for finding in _database(database, config)]
    finally:
        await database.close()
    return findings


def _disk(config: Config) -> Finding:
    try:
        free = free_bytes_at(config.core.data_dir)
    except OSError as exc:
        why = exc.strerror or type(exc).__name__
        return Finding(
            "disk", "bad", f"{config.core.data_dir} cannot be asked how much is free ({why}): whether records of 911 "
            "calls find room is not known. Run this as the user that runs the node, and let that user open the folder."
        )  # fmt: skip
    folder = config.core.data_dir
    if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
        return Finding(
            "disk", "bad", f"{folder} cannot be written to by this user: no record of a 911 call would be kept. "
            f"Run this as the user that runs the node; if that is you, make the folder yours: chown -R USER {folder}"
        )  # fmt: skip
    level = level_of(free, Level.GOOD, config.storage)
    if level is not Level.GOOD:
        return Finding("disk", "bad" if level is Level.CRITICAL else "warning", alarm_of(level, free))
    return Finding("disk", "good", f"{in_words(free)} free in {config.core.data_dir}")


def _carriers() -> list[Finding]:
    profiles = load_profiles()
    if not profiles.faults:
        return [Finding("carrier profiles", "good", f"{len(profiles.by_name)} are read")]
    return [Finding("carrier profiles", "bad", fault) for fault in profiles.faults]


def _buffers() -> Finding:
    try:
        largest = int(Path("/proc/sys/net/core/rmem_max").read_text())
    except (OSError, ValueError):
        return Finding("socket buffers", "warning", "the kernel's limit cannot be read here")
    if largest < SMALL_BUFFER_BYTES:
        fix = "sysctl -w net.core.rmem_max=8388608"
        return Finding(
            "socket buffers", "warning", f"{largest // 1024} KiB: a burst of calls may be dropped. Run: {fix}"
        )
    return Finding("socket buffers", "good", f"up to {largest // 1024} KiB")


async def _node(config: Config) -> Finding:
    listen = parse_listen(config.admin.listen).from_here
    if await answers(listen.host, listen.port):
        return Finding("node", "good", f"running, admin on {listen}")
    pid = holder(config.core.data_dir)
    if pid is None:
        return Finding("node", "warning", f"not running here: start it with {own_command('run')}")
    detail = f"{elsewhere(pid, config.core.data_dir)} What is said of its ports below is not of that node."
    return Finding("node", "bad", detail)


def _addresses(config: Config) -> list[Finding]:
    findings = []
    if not config.provisioning.public_url:
        detail = "[provisioning] public_url is empty: phones get the address they asked under; set it behind a proxy."
        findings.append(Finding("phones' URL", "warning", detail))
    if not config.sip.advertise:
        detail = "[sip] advertise is empty: Via and Record-Route hold the route's own address; set it behind NAT."
        findings.append(Finding("SIP address", "warning", detail))
    if config.mail.host and not config.admin.public_url:
        findings.append(NO_ADDRESS)
    return findings


def _key_file(path: Path) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding("keys", "bad", f"{path} can be read by others (mode {mode:o}). Run: chmod 600 {path}")
    return Finding("keys", "good", f"{path}, readable by its owner alone. Keep a copy elsewhere.")


def _snapshots(config: Config, keys: crypto.KeyRing) -> Finding:
    loaded = snapshot.load_all(config.core.data_dir / "snapshot", keys)
    if loaded.faults:
        return Finding("location table on disk", "bad", "; ".join(loaded.faults))
    unread = [f"{table.name}: {fault}" for table in loaded.tables for fault in table.faults]
    if unread:
        more = f" So it is with {len(unread) - 3} more." if len(unread) > 3 else ""
        detail = f"911 calls go by all but this: {'; '.join(unread[:3])}.{more} Enter it again, or restore a backup."
        return Finding("location table on disk", "bad", detail)
    return Finding(
        "location table on disk", "good", f"{len(loaded.tables)} account(s) would route without the database"
    )


def _journal(config: Config) -> Finding:
    aside = config.core.data_dir / "journal" / ASIDE
    if aside.exists():
        return Finding("journal", "bad", f"{aside} holds call records that could not be stored. Keep it and report it.")
    return Finding("journal", "good", "every call record could be stored")


async def _database(database: Database, config: Config) -> AsyncIterator[Finding]:
    try:
        revision = await migrations.revision_of(database)
        if revision is None:
            yield Finding("database", "warning", "empty: the first start makes the tables")
            return
        if revision > migrations.newest_revision():
            yield Finding("database", "bad", migrations.newer(revision))
            return
        if revision != migrations.newest_revision():
            yield Finding("database", "warning", f"at revision {revision}: the next start migrates it")
            return
        if lacking := await migrations.missing(database):
            yield Finding("database", "bad", _unlike(revision, lacking))
            return
        yield Finding("database", "good", f"at revision {revision}")
        async with database.sessions() as session:
            for finding in await bootstrap_findings(session, config):
                yield finding
            for note in await removal_faults(session):
                is_new = note.name == CLOCK and note.at is None  # never compared: it proves itself within a day
                yield Finding(f"removal of old records ({note.name})", "warning" if is_new else "bad", note.words)
            for finding in await stored_findings(session, config):
                yield finding
            accounts = await store.accounts(session)
            yield await clock_finding(session, [account.id for account in accounts], datetime.now(UTC))
            for account in accounts:
                for finding in (*await webhook_findings(session, account), *await chat_findings(session, account)):
                    yield finding
                async for finding in _account(session, account, config):
                    yield finding
    except (SQLAlchemyError, OSError) as exc:
        detail = f"cannot be used ({type(exc).__name__}). 911 calls go on from the last location table; mend it soon."
        yield Finding("database", "bad", detail)


def _unlike(revision: str, lacking: Sequence[str]) -> str:
    more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
    return (
        f"says revision {revision}, and has no {', '.join(lacking[:5])}{more}: it is of another build. 911 calls go on "
        "from the last location table; records and pages fail. Restore a backup of this version, or run its own build."
    )


async def _account(session: AsyncSession, account: Account, config: Config) -> AsyncIterator[Finding]:
    async def count(model: Any, *where: Any) -> int:
        return (
            await session.scalar(select(func.count()).select_from(model).where(model.account_id == account.id, *where))
            or 0
        )

    trunks = (await session.scalars(select(Trunk).where(Trunk.account_id == account.id, Trunk.enabled))).all()
    if not trunks:
        yield Finding(f"{account.name}: trunks", "bad", "none: a 911 call has nowhere to go. Add one under Settings.")
    for trunk in trunks:
        what = f"{account.name}: trunk {trunk.name}"
        yield await trunk_finding(
            what, trunk.host, trunk.port, trunk.transport, config, pings=trunk.pings, is_up=bool(trunk.is_up)
        )
        for finding in reference_findings(what, trunk, config):
            yield finding
        for finding in credentials_findings(what, trunk.auth_user, has_secret=bool(trunk.secret)):
            yield finding
    if not await count(Pbx):
        yield Finding(
            f"{account.name}: PBX", "bad", "none: no call will be trusted. Add your PBX's addresses under Settings."
        )
    if not await count(NotificationRecipient) and not await store_chats.told_everywhere(session, account.id):
        silent = await _silent_locations(session, account)
        if silent is None or silent:
            where = f" from {', '.join(silent[:5])}" if silent else ""
            yield Finding(
                f"{account.name}: recipients", "bad", f"nobody is told of a 911 call{where}. Add one under Settings."
            )
    if not await count(Location):
        yield Finding(f"{account.name}: locations", "bad", "none: calls go out without a location. Add one.")
    for finding in await number_findings(session, account):
        yield finding
    if await count(Phone):
        yield _unlocated(account, await count_without_location(session, account.id))


def _unlocated(account: Account, count: int) -> Finding:
    what = f"{account.name}: phones without an address"
    if not count:
        return Finding(what, "good", "none")
    detail = (
        f"{count}: their 911 calls reach a dispatcher who is told no place. They say so on their screens. Give each a "
        "location, or its line, its network or its PBX; see Alerts for which."
    )
    return Finding(what, "bad", detail)


async def _silent_locations(session: AsyncSession, account: Account) -> list[str] | None:
    """The locations that name nobody; None when there is no location at all."""
    rows = (await session.scalars(select(Location).where(Location.account_id == account.id))).all()
    chatting = await store_chats.places_told(session, account.id)
    return [row.name for row in rows if not row.notification_recipients and row.id not in chatting] if rows else None
