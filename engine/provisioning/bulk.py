"""One change to many phones: a location, a setting, retiring them, asking them to fetch again.

Rows are written without the ORM and in groups, each with an audit entry of its own that carries the operation's name
(see `engine.audit.parts`); the operation itself is one entry. Nobody here commits.

What is written of thousands of phones is made before the transaction (`planned`), since the database has one writer: to
read the rows and to make their entries takes longer than to store them. The transaction uses it when the account's
revision has not moved since; else it is made anew, inside.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

from sqlalchemy import Update, bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from engine.audit.changes import FieldChange
from engine.audit.events import Event
from engine.audit.parts import Part, Unchained, chaining, record_parts, unchained, write_chained
from engine.audit.record import Actor, record
from engine.audit.store_outdated import AT_ONCE, has_one_writer, owe
from engine.db import Base, Database, batched, utc_now
from engine.errors import FieldFault, Invalid, NotFound
from engine.ids import new_id
from engine.models import Account, ConfirmedLocation, Location, Phone, PhoneLine, outdated
from engine.provisioning import phone_rules, store, store_phones
from engine.provisioning.phone_extras import EXTRAS, level_faults
from engine.provisioning.phone_list import Filters
from engine.provisioning.settings import setting_faults

MAX_AT_ONCE = 10_000  # half a second of writing; a call's record waits behind it, its mail with it
GROUP = 250
WRITTEN = 1_000  # rows of one statement
ALIKE = 20  # phones that get the same value, from which on it is a statement of its own
WORTH_PLANNING = 500  # phones; fewer are read and written in no time
_PHONE = Base.metadata.tables[Phone.__tablename__]
_SHOWN = ("mac", "vendor", "model", "label", "location_id", "settings", "placement")


class Action(StrEnum):
    """What can be done to many phones at once."""

    RESYNC = "resync"
    LOCATION = "location"
    SETTING = "setting"
    PLACEMENT = "placement"
    DELETE = "delete"


Wished = Callable[[Mapping[str, Any]], dict[str, Any]]
"""What shall stand in a phone's columns, from what stands there."""


@dataclass(frozen=True, slots=True)
class Change:
    """What shall be done to each of the phones. `location_id` for a location; `setting`, `value` and `own` (whether it
    has one at all) for a setting; `placement` for that.
    """

    action: Action
    location_id: str | None = None
    setting: str = ""
    value: Any = None
    own: bool = True
    placement: str | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """What a change of those phones writes, as they stood at `revision`: the `id` and the columns that move of each,
    and its entry. `models`: vendors and models among them.
    """

    change: Change
    phone_ids: Sequence[str]
    revision: int
    writes: Sequence[dict[str, Any]]
    entries: Sequence[Unchained]
    models: Collection[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Done:
    """How many phones were named and how many of them changed; `bulk_id`: the name its audit entries share."""

    phones: int
    changed: int
    bulk_id: str


async def chosen(
    session: AsyncSession,
    account_id: str,
    *,
    ids: Sequence[str] | None = None,
    filters: Filters | None = None,
    plan: Planned | None = None,
) -> Sequence[str]:
    """The phones meant: those of `ids`, or all that match the filters.

    Args:
        plan: Made of the same wish a moment ago. While the account's revision stands, its phones are not looked for
            again: to find 10,000 by their labels takes as long as to write them.

    Raises:
        NotFound: one of `ids` is no phone of this account. Invalid: more than can be changed at once.
    """
    if plan is not None and plan.revision == await store.revision_of(session, account_id):
        return plan.phone_ids
    if ids is None:
        found = await store_phones.ids_of(session, account_id, filters or Filters(), limit=MAX_AT_ONCE + 1)
        if len(found) > MAX_AT_ONCE:
            raise Invalid(
                f"More than {MAX_AT_ONCE:,} phones match; at most that many are changed at once. Narrow the filters, "
                "or set it for a location, a model or the whole account: phones take their settings from there."
            )
        return found
    wanted = list(dict.fromkeys(ids))
    if len(wanted) > MAX_AT_ONCE:
        detail = f"At most {MAX_AT_ONCE:,} phones are changed at once, got {len(wanted):,}."
        raise Invalid(detail, fields=(FieldFault("ids", detail),))
    known: set[str] = set()
    for group in batched(wanted, GROUP):
        query = select(Phone.id).where(Phone.account_id == account_id, Phone.id.in_(group))
        known |= set((await session.scalars(query)).all())
    missing = [phone_id for phone_id in wanted if phone_id not in known]
    if missing:
        raise NotFound(f"{len(missing):,} of these phones are not there any more. Nothing was changed.")
    return wanted


async def planned(database: Database, account_id: str, phone_ids: Sequence[str], change: Change) -> Planned | None:
    """Make ready what the change writes, before its transaction; None: that is not worth it. Whether the change can be
    made at all is asked inside. PostgreSQL has many writers, and rows are read there where they are written.
    """
    if database.sqlite_path is None or len(phone_ids) < WORTH_PLANNING or change.action is Action.RESYNC:
        return None
    async with database.sessions() as session:
        return await _plan(session, database.session_class, account_id, phone_ids, change)


async def set_location(
    session: AsyncSession,
    actor: Actor,
    account: Account,
    phone_ids: Sequence[str],
    location_id: str | None,
    *,
    plan: Planned | None = None,
) -> Done:
    """Put those phones at a location; None: where the network or a default says they are. Raises Invalid."""
    location = await session.get(Location, location_id) if location_id is not None else None
    if location_id is not None and (location is None or location.account_id != account.id):
        detail = "Expected a location of this account."
        raise Invalid(detail, fields=(FieldFault("location_id", detail),))
    details = {"action": Action.LOCATION.value, "location_id": location_id}
    made = await _made(session, account.id, phone_ids, Change(Action.LOCATION, location_id), plan)
    return await _changed(session, actor, account.id, made, details)


async def set_placement(
    session: AsyncSession,
    actor: Actor,
    account: Account,
    phone_ids: Sequence[str],
    placement: str | None,
    *,
    plan: Planned | None = None,
) -> Done:
    """Say what kind of devices those phones are, of `models.Placement`; None: nobody says. Raises Invalid."""
    if faults := phone_rules.placement_faults(placement):
        raise Invalid("Which kind of device?", fields=tuple(faults))
    details = {"action": Action.PLACEMENT.value, "placement": placement}
    change = Change(Action.PLACEMENT, placement=placement)
    return await _changed(
        session, actor, account.id, await _made(session, account.id, phone_ids, change, plan), details
    )


async def set_setting(
    session: AsyncSession,
    actor: Actor,
    account: Account,
    phone_ids: Sequence[str],
    name: str,
    value: Any,
    *,
    own: bool,
    plan: Planned | None = None,
) -> Done:
    """Give those phones a setting of their own; with `own` false they have none, and a more general level counts.

    Raises:
        Invalid: no such setting, or a value it cannot have.
    """
    faults = setting_faults({name: value})
    if faults:
        raise Invalid("The setting cannot be like this.", fields=faults)

    change = Change(Action.SETTING, setting=name, value=value, own=own)
    made = await _made(session, account.id, phone_ids, change, plan)
    for vendor, model in made.models if own and name in EXTRAS else ():
        if wrong := await level_faults(session, account.id, f"{vendor}/{model}", {name: value}):
            raise Invalid(f"A {model} cannot have it like this.", fields=tuple(wrong))
    details = {"action": Action.SETTING.value, "setting": name, "value": value if own else "(none of its own)"}
    return await _changed(session, actor, account.id, made, details)


async def delete_phones(
    session: AsyncSession, actor: Actor, account: Account, phone_ids: Sequence[str], *, plan: Planned | None = None
) -> Done:
    """Retire those phones: from the commit on their files are a 404. What they hold they keep."""
    bulk_id = _begun(session, actor, phone_ids, {"action": Action.DELETE.value})
    made = await _made(session, account.id, phone_ids, Change(Action.DELETE), plan)
    told = await _telling(session, actor, account.id, bulk_id, made)
    for group in batched(phone_ids, WRITTEN):
        for table in (PhoneLine, ConfirmedLocation):
            await session.execute(delete(table).where(table.phone_id.in_(group)).execution_options(**_PLAIN))
        await session.execute(delete(_PHONE).where(_PHONE.c.id.in_(group)))
    await told(moves_revision=True)
    return Done(len(phone_ids), len(phone_ids), bulk_id)


async def note_resync(session: AsyncSession, actor: Actor, account: Account, phone_ids: Sequence[str]) -> Done:
    """The entries of a resync of many: one, and one for each phone. Sending is the SIP process's matter."""
    bulk_id = _begun(session, actor, phone_ids, {"action": Action.RESYNC.value})
    rows = [row for group in batched(phone_ids, GROUP) for row in await _rows(session, account.id, group)]
    parts = [Part(Event.PHONE_RESYNC, _named(row), {}) for row in rows]
    await record_parts(session, actor, account.id, bulk_id, parts, moves_revision=False)
    return Done(len(phone_ids), 0, bulk_id)


_PLAIN = {"synchronize_session": False}


def _begun(session: AsyncSession, actor: Actor, phone_ids: Sequence[str], details: dict[str, Any]) -> str:
    bulk_id = new_id("request")
    details = {**details, "phones": len(phone_ids)}
    record(session, actor, Event.PHONE_CHANGE_MANY, resource=("phone", bulk_id, "many"), details=details)
    return bulk_id


class _Told(Protocol):
    async def __call__(self, *, moves_revision: bool) -> None: ...


async def _telling(session: AsyncSession, actor: Actor, account_id: str, bulk_id: str, made: Planned) -> _Told:
    """What stores the entries once the rows are written. On SQLite they are numbered and hashed meanwhile, in a thread:
    its one writer is held either way. PostgreSQL's chain comes behind the rows, as a form holds its row first.
    """
    if not has_one_writer(session):
        return partial(record_parts, session, actor, account_id, bulk_id, made.entries)
    await session.flush()
    return partial(write_chained, session, await chaining(session, actor, account_id, bulk_id, made.entries))


async def _made(
    session: AsyncSession, account_id: str, phone_ids: Sequence[str], change: Change, plan: Planned | None
) -> Planned:
    """The plan when it still holds, else another."""
    is_it = plan is not None and (plan.change, plan.phone_ids) == (change, phone_ids)
    if plan is not None and is_it and plan.revision == await store.revision_of(session, account_id):
        return plan
    return await _plan(session, type(session.sync_session), account_id, phone_ids, change)


async def _plan(
    session: AsyncSession, session_class: type[Session], account_id: str, phone_ids: Sequence[str], change: Change
) -> Planned:
    key: bytes = session_class.fingerprint_key  # type: ignore[attr-defined]  # of the database's own session class
    revision = await store.revision_of(session, account_id)
    rows: list[Mapping[str, Any]] = []
    lines: dict[str, list[str]] = {}
    for group in batched(phone_ids, GROUP):
        rows += await _rows(session, account_id, group)
        if change.action is Action.DELETE:
            lines |= await store_phones.extensions_on(session, group)

    def made() -> Planned:
        writes, parts = _deleted(rows, lines) if change.action is Action.DELETE else _moved(rows, _wished(change))
        models = {(row["vendor"], row["model"]) for row in rows}
        return Planned(change, phone_ids, revision, writes, unchained(parts, key), models)

    return await asyncio.to_thread(made)


def _wished(change: Change) -> Wished:
    def location(_row: Mapping[str, Any]) -> dict[str, Any]:
        return {"location_id": change.location_id}

    def setting(row: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: kept for key, kept in (row["settings"] or {}).items() if key != change.setting}
        return {"settings": rest | ({change.setting: change.value} if change.own else {})}

    def placement(_row: Mapping[str, Any]) -> dict[str, Any]:
        return {"placement": change.placement}

    if change.action is Action.PLACEMENT:
        return placement
    return location if change.action is Action.LOCATION else setting


def _moved(rows: Sequence[Mapping[str, Any]], wished: Wished) -> tuple[list[dict[str, Any]], list[Part]]:
    """What `wished` gives where it differs from what is stored."""
    writes, parts = [], []
    for row in rows:
        moved = {name: value for name, value in wished(row).items() if value != row[name]}
        if moved:
            writes.append(moved | {"id": row["id"]})
            told = {name: FieldChange(row[name], value, False) for name, value in moved.items()}
            parts.append(Part(Event.PHONE_UPDATE, _named(row), told))
    return writes, parts


def _deleted(
    rows: Sequence[Mapping[str, Any]], lines: Mapping[str, list[str]]
) -> tuple[list[dict[str, Any]], list[Part]]:
    parts = []
    for row in rows:
        gone = {**{name: row[name] for name in _SHOWN}, "lines": lines[row["id"]]}
        moved = {name: FieldChange(value, None, False) for name, value in gone.items() if value}
        parts.append(Part(Event.PHONE_DELETE, _named(row), moved))
    return [], parts


async def _changed(
    session: AsyncSession, actor: Actor, account_id: str, made: Planned, details: dict[str, Any]
) -> Done:
    bulk_id = _begun(session, actor, made.phone_ids, details)
    told = await _telling(session, actor, account_id, bulk_id, made)
    moves_files = made.change.action is not Action.PLACEMENT
    owes = moves_files and len(made.writes) > AT_ONCE and has_one_writer(session)
    alike, others = _by_value(made.writes)
    for values, ids in alike:
        for group in batched(ids, WRITTEN):
            await session.execute(_setting(values, moves_files=moves_files and not owes).where(_PHONE.c.id.in_(group)))
    for rows in batched(others, GROUP):
        to = {name: bindparam(f"to_{name}", type_=_PHONE.c[name].type) for name in rows[0] if name != "id"}
        each = [{f"to_{name}": value for name, value in row.items()} for row in rows]
        query = _setting(to, moves_files=moves_files and not owes).where(_PHONE.c.id == bindparam("to_id"))
        await (await session.connection()).execute(query, each)
    for noted in batched(made.writes, WRITTEN) if owes else ():
        await owe(session, Phone.id.in_([row["id"] for row in noted]))
    await told(moves_revision=moves_files)
    return Done(len(made.phone_ids), len(made.entries), bulk_id)


def _by_value(
    writes: Sequence[Mapping[str, Any]],
) -> tuple[list[tuple[dict[str, Any], list[str]]], list[Mapping[str, Any]]]:
    """Values that many phones get, each with these phones: one statement for a thousand. And all other rows."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in writes:
        values = {name: value for name, value in row.items() if name != "id"}
        found.setdefault(json.dumps(values, sort_keys=True), []).append(row)
    alike: list[tuple[dict[str, Any], list[str]]] = []
    others: list[Mapping[str, Any]] = []
    for rows in found.values():
        if len(rows) < ALIKE:
            others += rows
        else:
            alike.append(({name: rows[0][name] for name in rows[0] if name != "id"}, [row["id"] for row in rows]))
    return alike, others


def _setting(values: Mapping[str, Any], *, moves_files: bool) -> Update:
    """The UPDATE that gives phones those values. `moves_files`: they are out of date, which is not noted elsewhere."""
    told = {"version": _PHONE.c.version + 1, "updated_at": utc_now()} | (outdated() if moves_files else {})
    return update(_PHONE).values({**values, **told})


async def _rows(session: AsyncSession, account_id: str, phone_ids: Sequence[str]) -> list[Mapping[str, Any]]:
    columns = [_PHONE.c[name] for name in ("id", *_SHOWN)]
    query = select(*columns).where(_PHONE.c.account_id == account_id, _PHONE.c.id.in_(phone_ids))
    return [dict(row) for row in (await session.execute(query)).mappings()]


def _named(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return ("phone", row["id"], row["label"] or row["mac"])
