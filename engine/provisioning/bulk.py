"""One change to many phones: a location, a setting, retiring them, asking them to fetch again.

Rows are written without the ORM and in groups, each with an audit entry of its own that carries the operation's name
(see `engine.audit.parts`); the operation itself is one entry. Nobody here commits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.changes import FieldChange
from engine.audit.events import Event
from engine.audit.parts import Part, record_parts
from engine.audit.record import Actor, record
from engine.db import Base, batched, utc_now
from engine.errors import FieldFault, Invalid, NotFound
from engine.ids import new_id
from engine.models import Account, ConfirmedLocation, Location, Phone, PhoneLine, outdated
from engine.provisioning import store_phones
from engine.provisioning.phone_extras import EXTRAS, level_faults
from engine.provisioning.phone_list import Filters
from engine.provisioning.settings import setting_faults

MAX_AT_ONCE = 10_000  # about a second of writing; a call's record waits behind it, its mail with it
GROUP = 250
_PHONE = Base.metadata.tables[Phone.__tablename__]
_SHOWN = ("mac", "vendor", "model", "label", "location_id", "settings")


class Action(StrEnum):
    """What can be done to many phones at once."""

    RESYNC = "resync"
    LOCATION = "location"
    SETTING = "setting"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Done:
    """How many phones were named and how many of them changed; `bulk_id`: the name its audit entries share."""

    phones: int
    changed: int
    bulk_id: str


async def chosen(
    session: AsyncSession, account_id: str, *, ids: Sequence[str] | None = None, filters: Filters | None = None
) -> Sequence[str]:
    """The phones meant: those of `ids`, or all that match the filters.

    Raises:
        NotFound: one of `ids` is no phone of this account. Invalid: more than can be changed at once.
    """
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


async def set_location(
    session: AsyncSession, actor: Actor, account: Account, phone_ids: Sequence[str], location_id: str | None
) -> Done:
    """Put those phones at a location; None: where the network or a default says they are. Raises Invalid."""
    location = await session.get(Location, location_id) if location_id is not None else None
    if location_id is not None and (location is None or location.account_id != account.id):
        detail = "Expected a location of this account."
        raise Invalid(detail, fields=(FieldFault("location_id", detail),))
    details = {"action": Action.LOCATION.value, "location_id": location_id}
    return await _changed(session, actor, account.id, phone_ids, details, lambda _row: {"location_id": location_id})


async def set_setting(
    session: AsyncSession, actor: Actor, account: Account, phone_ids: Sequence[str], name: str, value: Any, *, own: bool
) -> Done:
    """Give those phones a setting of their own; with `own` false they have none, and a more general level counts.

    Raises:
        Invalid: no such setting, or a value it cannot have.
    """
    faults = setting_faults({name: value})
    if faults:
        raise Invalid("The setting cannot be like this.", fields=faults)

    for vendor, model in await _models_of(session, account.id, phone_ids) if own and name in EXTRAS else ():
        if wrong := await level_faults(session, account.id, f"{vendor}/{model}", {name: value}):
            raise Invalid(f"A {model} cannot have it like this.", fields=tuple(wrong))

    def wished(row: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: kept for key, kept in (row["settings"] or {}).items() if key != name}
        return {"settings": rest | ({name: value} if own else {})}

    details = {"action": Action.SETTING.value, "setting": name, "value": value if own else "(none of its own)"}
    return await _changed(session, actor, account.id, phone_ids, details, wished)


async def _models_of(session: AsyncSession, account_id: str, phone_ids: Sequence[str]) -> set[tuple[str, str]]:
    return {
        (row["vendor"], row["model"])
        for group in batched(phone_ids, GROUP)
        for row in await _rows(session, account_id, group)
    }


async def delete_phones(session: AsyncSession, actor: Actor, account: Account, phone_ids: Sequence[str]) -> Done:
    """Retire those phones: from the commit on their files are a 404. What they hold they keep."""
    bulk_id = _begun(session, actor, phone_ids, {"action": Action.DELETE.value})
    parts: list[Part] = []
    for group in batched(phone_ids, GROUP):
        rows = await _rows(session, account.id, group)
        lines = await store_phones.extensions_on(session, group)
        for table in (PhoneLine, ConfirmedLocation):
            await session.execute(delete(table).where(table.phone_id.in_(group)).execution_options(**_PLAIN))
        await session.execute(delete(_PHONE).where(_PHONE.c.id.in_(group)))
        for row in rows:
            gone = {**{name: row[name] for name in _SHOWN}, "lines": lines[row["id"]]}
            moved = {name: FieldChange(value, None, False) for name, value in gone.items() if value}
            parts.append(Part(Event.PHONE_DELETE, _named(row), moved))
    await record_parts(session, actor, account.id, bulk_id, parts)
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


async def _changed(
    session: AsyncSession,
    actor: Actor,
    account_id: str,
    phone_ids: Sequence[str],
    details: dict[str, Any],
    wished: Any,
) -> Done:
    """Write what `wished(row)` gives where it differs from what is stored."""
    bulk_id = _begun(session, actor, phone_ids, details)
    parts: list[Part] = []
    for group in batched(phone_ids, GROUP):
        writes = []
        for row in await _rows(session, account_id, group):
            moved = {name: value for name, value in wished(row).items() if value != row[name]}
            if moved:
                writes.append({f"to_{name}": value for name, value in moved.items()} | {"at_id": row["id"]})
                told = {name: FieldChange(row[name], value, False) for name, value in moved.items()}
                parts.append(Part(Event.PHONE_UPDATE, _named(row), told))
        if writes:
            await _write(session, writes)
    await record_parts(session, actor, account_id, bulk_id, parts)
    return Done(len(phone_ids), len(parts), bulk_id)


async def _write(session: AsyncSession, writes: Sequence[dict[str, Any]]) -> None:
    names = [name.removeprefix("to_") for name in writes[0] if name != "at_id"]
    values: dict[str, Any] = {name: bindparam(f"to_{name}", type_=_PHONE.c[name].type) for name in names}
    values |= {"version": _PHONE.c.version + 1, "updated_at": utc_now()} | outdated()
    query = update(_PHONE).where(_PHONE.c.id == bindparam("at_id")).values(values)
    await (await session.connection()).execute(query, writes)


async def _rows(session: AsyncSession, account_id: str, phone_ids: Sequence[str]) -> list[Mapping[str, Any]]:
    columns = [_PHONE.c[name] for name in ("id", *_SHOWN)]
    query = select(*columns).where(_PHONE.c.account_id == account_id, _PHONE.c.id.in_(phone_ids))
    return [dict(row) for row in (await session.execute(query)).mappings()]


def _named(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return ("phone", row["id"], row["label"] or row["mac"])
