"""The SQL of imports and exports: what rows are held against, and carrying a plan out.

Theory of operation. A plan is made from what one reading session saw at one revision of the account, before the write
transaction: the file's faults are found, secrets sealed and the texts of the audit entries made without holding the
database's one writer. Carrying it out begins by looking at the revision again; when it has moved, nothing is written
and the person is told. All rows are written by one transaction (all or nothing), without the ORM, each with its audit
entry beside it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Dialect, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.changes import FieldChange
from engine.audit.events import Event
from engine.audit.parts import Part, Unchained, chaining, unchained, write_chained
from engine.audit.record import Actor, hold_chain, record
from engine.countries import countries_of
from engine.csv_table import CellFault, Sheet
from engine.db import Base, BulkInsert, Database, batched, utc_now
from engine.errors import Conflict, FieldFault
from engine.ids import new_id
from engine.models import Account, Line, Location, Pbx, Phone, PhoneLine, PhoneStatus, Revision, outdated
from engine.provisioning import assetfile
from engine.provisioning.imports import Known, KnownLine, KnownPhone, Outcome, Plan, WishedLine, WishedPhone
from engine.provisioning.phone_extras import EXTRAS, extra_faults

GROUP = 250  # rows written at a time: some 15 ms, after which the loop does other work
SLICE = 200  # phones read at a time for a table of all
_PHONE, _LINE, _KEY = (Base.metadata.tables[model.__tablename__] for model in (Phone, Line, PhoneLine))
_PHONE_COLUMNS = (Phone.id, Phone.mac, Phone.vendor, Phone.model, Phone.label, Phone.location_id, Phone.settings)
_LINE_COLUMNS = (
    Line.id, Line.extension, Line.display_name, Line.sip_user, Line.auth_user, Line.callback_number, Line.location_id,
    Line.pbx_id,
)  # fmt: skip
_LINE_FIELDS = (
    "extension", "display_name", "sip_user", "auth_user", "callback_number", "location_id", "pbx_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """What a plan is made from, and the account's revision when it was read."""

    known: Known
    revision: int


async def known_of(session: AsyncSession, account: Account, macs: Sequence[str], sip_users: Sequence[str]) -> Seen:
    """What a table about those phones and lines is held against."""
    revision = await session.scalar(select(Revision.value).where(Revision.account_id == account.id)) or 0
    phones = {phone.mac: phone async for phone in _phones(session, account.id, macs)}
    held = {user for phone in phones.values() for user in phone.lines}
    lines = {line.sip_user: line async for line in _lines(session, account.id, {*sip_users, *held})}
    return Seen(await _known(session, account, phones, lines), revision)


async def everything(session: AsyncSession, account: Account) -> Known:
    """Every phone of the account with its lines, as one commit has them; secrets are left out. Read some at a time: in
    between the loop does other work, however many there are.
    """
    phones: dict[str, KnownPhone] = {}
    lines: dict[str, KnownLine] = {}
    query = select(*_PHONE_COLUMNS).where(Phone.account_id == account.id).order_by(Phone.id).limit(SLICE)
    on_keys = (
        select(PhoneLine.phone_id, *_LINE_COLUMNS)
        .join(Line, Line.id == PhoneLine.line_id)
        .where(PhoneLine.account_id == account.id)
        .order_by(PhoneLine.phone_id, PhoneLine.key)
    )
    rows = (await session.execute(query)).all()
    while rows:
        users: dict[str, list[str]] = {}
        of_these = on_keys.where(PhoneLine.phone_id.between(rows[0].id, rows[-1].id))
        for row in (await session.execute(of_these)).all():
            line = KnownLine(*row[1:])
            lines.setdefault(line.sip_user, line)
            users.setdefault(row.phone_id, []).append(line.sip_user)
        for row in rows:
            phones[row.mac] = _phone(row, users)
        rows = (await session.execute(query.where(Phone.id > rows[-1].id))).all()
    return await _known(session, account, phones, lines)


async def _known(
    session: AsyncSession, account: Account, phones: Mapping[str, KnownPhone], lines: Mapping[str, KnownLine]
) -> Known:
    return Known(
        phones, lines, await _names(session, Location, account.id), await _names(session, Pbx, account.id),
        account.country, await countries_of(session, account),
    )  # fmt: skip


async def _names(session: AsyncSession, model: type[Location | Pbx], account_id: str) -> dict[str, str]:
    found = await session.execute(select(model.id, model.name).where(model.account_id == account_id))
    return {identity: name for identity, name in found}  # noqa: C416  # rows are no pairs to `dict`


async def _phones(session: AsyncSession, account_id: str, macs: Sequence[str]) -> AsyncIterator[KnownPhone]:
    # an account is no help to find addresses: SQLite, asked for both, goes through all phones of the account
    is_its = func.coalesce(Phone.account_id, "") == account_id
    for part in batched(macs, GROUP):
        rows = (await session.execute(select(*_PHONE_COLUMNS).where(Phone.mac.in_(part), is_its))).all()
        if not rows:  # asked for the keys of no phone at all, SQLite goes through every line of the account
            continue
        users = await _users_on(session, account_id, [row.id for row in rows])
        for row in rows:
            yield _phone(row, users)


def _phone(row: Any, users: Mapping[str, Sequence[str]]) -> KnownPhone:
    return KnownPhone(
        row.id, row.mac, row.vendor, row.model, row.label, row.location_id, dict(row.settings or {}),
        tuple(users.get(row.id, ())),
    )  # fmt: skip


async def _users_on(session: AsyncSession, account_id: str, phone_ids: Sequence[str]) -> dict[str, list[str]]:
    """The SIP users on phones' keys, first key first."""
    query = (
        select(PhoneLine.phone_id, Line.sip_user)
        .join(Line, Line.id == PhoneLine.line_id)
        .where(PhoneLine.phone_id.in_(phone_ids), Line.account_id == account_id)
        .order_by(PhoneLine.phone_id, PhoneLine.key)
    )
    found: dict[str, list[str]] = {}
    for phone_id, user in await session.execute(query):
        found.setdefault(phone_id, []).append(user)
    return found


async def _lines(session: AsyncSession, account_id: str, users: Iterable[str]) -> AsyncIterator[KnownLine]:
    """With their secrets."""
    for part in batched(sorted(users), GROUP):
        query = select(*_LINE_COLUMNS, Line.secret).where(Line.account_id == account_id, Line.sip_user.in_(part))
        for row in await session.execute(query):
            yield KnownLine(*row)


# --- a plan made ready -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """A plan as the database takes it: rows of new lines, phones and keys, changed ones, and the entry of each.

    `bulk_id`: the name that the entries share.
    """

    bulk_id: str
    counts: Mapping[str, int]
    lines: Sequence[tuple[Any, ...]]
    phones: Sequence[tuple[Any, ...]]
    keys: Sequence[tuple[Any, ...]]
    changed_lines: Sequence[WishedLine]
    changed_phones: Sequence[WishedPhone]
    entries: Sequence[Unchained]


def ready(database: Database, account_id: str, plan: Plan, known: Known) -> Ready:
    """Make everything ready that needs no transaction: identifiers, sealed secrets, the text of the entries. Takes some
    half a second for 10,000 rows; stores nothing.

    Args:
        known: What the plan was made from.
    """
    return _Readying(database, account_id, known).whole(plan)


class _Readying:
    """One plan being made ready."""

    def __init__(self, database: Database, account_id: str, known: Known) -> None:
        self._account_id, self._now = account_id, utc_now()
        self._inserts = _Inserts(database.engine.dialect)
        self._fingerprint_key: bytes = database.session_class.fingerprint_key  # type: ignore[attr-defined]  # `open_audited`
        self._ids = {user: line.id for user, line in known.lines.items()}  # of every line, by SIP user

    def whole(self, plan: Plan) -> Ready:
        changed_lines = [line for line in plan.lines if line.before is not None]
        changed_phones = [phone for phone in plan.phones if phone.before is not None and phone.moved()]
        new_lines = [self._line_row(line) for line in plan.lines if line.before is None]
        self._ids |= {row["sip_user"]: row["id"] for row in new_lines}
        new_phones = [(phone, self._phone_row(phone)) for phone in plan.phones if phone.before is None]
        keyed = [(row["id"], phone) for phone, row in new_phones]
        keyed += [
            (phone.before.id, phone)
            for phone in changed_phones
            if phone.before is not None and phone.lines != phone.before.lines
        ]
        parts = [_made(Event.LINE_CREATE, "line", row, row["extension"], {"secret"}) for row in new_lines]
        parts += [_line_part(line) for line in changed_lines]
        parts += [self._phone_made(phone, row) for phone, row in new_phones]
        parts += [_phone_part(phone, self._ids) for phone in changed_phones]
        return Ready(
            new_id("request"),
            {outcome.value: plan.count(outcome) for outcome in Outcome if outcome is not Outcome.ERROR},
            [self._inserts.line.row(row) for row in new_lines],
            [self._inserts.phone.row(row) for _, row in new_phones],
            [self._inserts.key.row(row) for row in self._key_rows(keyed)],
            changed_lines,
            changed_phones,
            unchained(parts, self._fingerprint_key),
        )

    def _line_row(self, line: WishedLine) -> dict[str, Any]:
        empty = {"display_name": "", "auth_user": "", "secret": None, "callback_number": None}
        row = empty | {"location_id": None, "pbx_id": None} | line.values
        return row | {"id": new_id("line"), "account_id": self._account_id, "sip_user": line.sip_user} | self._stamps()

    def _phone_row(self, phone: WishedPhone) -> dict[str, Any]:
        return {
            "id": new_id("phone"), "account_id": self._account_id, "mac": phone.mac, "vendor": phone.vendor,
            "model": phone.model, "label": phone.label, "location_id": phone.location_id,
            "settings": dict(phone.settings), "status": PhoneStatus.NEVER_BOOTED.value,
        } | self._stamps()  # fmt: skip

    def _stamps(self) -> dict[str, Any]:
        return {"version": 1, "created_at": self._now, "updated_at": self._now}

    def _key_rows(self, phones: Iterable[tuple[str, WishedPhone]]) -> Iterator[dict[str, Any]]:
        for phone_id, phone in phones:
            for key, user in enumerate(phone.lines, 1):
                yield {
                    "account_id": self._account_id, "phone_id": phone_id, "key": key, "line_id": self._ids[user],
                }  # fmt: skip

    def _phone_made(self, phone: WishedPhone, row: dict[str, Any]) -> Part:
        part = _made(Event.PHONE_CREATE, "phone", row, row["label"] or row["mac"], set())
        if not phone.lines:
            return part
        lines = FieldChange(None, [self._ids[user] for user in phone.lines], False)
        return Part(part.event, part.resource, {**part.moved, "lines": lines})


class _Inserts:
    """The INSERTs of an import, each column in its table's order."""

    def __init__(self, dialect: Dialect) -> None:
        stamps = ("version", "created_at", "updated_at")
        self.line = BulkInsert(
            _LINE,
            ("id", "account_id", "extension", "display_name", "sip_user", "auth_user", "secret", "callback_number",
             "location_id", "pbx_id", *stamps),
            dialect,
        )  # fmt: skip
        self.phone = BulkInsert(
            _PHONE,
            ("id", "account_id", "mac", "vendor", "model", "label", "location_id", "settings", "status", *stamps),
            dialect,
        )
        self.key = BulkInsert(_KEY, ("account_id", "phone_id", "key", "line_id"), dialect)


# --- carrying it out -------------------------------------------------------------------------------------------------


async def carry_out(session: AsyncSession, actor: Actor, account: Account, made: Ready) -> str:
    """Write a plan that was made ready: all of it in this transaction, after `refuse_moved`. Returns the name its audit
    entries share.
    """
    resource = ("import", made.bulk_id, "phones")
    record(session, actor, Event.IMPORT_CREATE, resource=resource, details=dict(made.counts))
    linked = await chaining(session, actor, account.id, made.bulk_id, made.entries)
    work = _Work(session)
    await work.new(made)
    for lines in batched(made.changed_lines, GROUP):
        await work.change_lines(lines)
    await work.change_phones(made)
    await write_chained(session, linked)
    return made.bulk_id


async def with_extras(session: AsyncSession, account: Account, sheet: Sheet, plan: Plan) -> Plan:
    """The plan held against what a row alone does not tell: room for function keys, files that the account has."""
    found: dict[str, list[CellFault]] = {}
    numbers = {row.mac: row.number for row in plan.rows}
    of_files: dict[tuple[str, ...], list[FieldFault]] = {}  # thousands of phones ask for the same files
    for at, phone in enumerate(plan.phones):
        if not phone.settings.keys() & EXTRAS:
            continue
        own, lines = phone.settings, len(phone.lines)
        keys = {name: value for name, value in own.items() if name not in assetfile.KINDS}
        told = await extra_faults(session, account.id, phone.vendor, phone.model, keys, lines)
        for kind in assetfile.KINDS:
            asked = (phone.vendor, phone.model, kind, str(own.get(kind) or ""))
            if asked[-1] and asked not in of_files:
                wanted = {kind: own[kind]}
                of_files[asked] = await extra_faults(session, account.id, phone.vendor, phone.model, wanted, lines)
            told += of_files.get(asked, [])
        for fault in told:
            name = fault.field.split(".")[1]
            place = CellFault(numbers[phone.mac], sheet.headings.get(name, name), fault.detail)
            found.setdefault(phone.mac, []).append(place)
        if at % GROUP == 0:
            await asyncio.sleep(0)
    if not found:
        return plan
    rows = [
        replace(row, outcome=Outcome.ERROR, faults=tuple(found[row.mac])) if row.mac in found else row
        for row in plan.rows
    ]
    return Plan(tuple(rows), tuple(fault for row in rows for fault in row.faults))


async def hold(session: AsyncSession, account_id: str, made: Ready | None) -> None:
    """On PostgreSQL, lock what an import changes (None: locations) and what its rows refer to, before the audit
    chain and the revision: a form holds its row first, too. In the order in which forms go on from one row to others.
    """
    if session.get_bind().dialect.name != "postgresql":
        return
    if made is None:
        theirs = select(Location.id).where(Location.account_id == account_id).order_by(Location.id)
        await session.execute(theirs.with_for_update())
        return
    for model, owner in ((Account, Account.id), (Location, Location.account_id), (Pbx, Pbx.account_id)):
        referred = select(model.id).where(owner == account_id).order_by(model.id)
        await session.execute(referred.with_for_update(read=True, key_share=True))
    lines = sorted(line.before.id for line in made.changed_lines if line.before is not None)
    phones = {phone.before.id for phone in made.changed_phones if phone.before is not None}
    for group in batched(lines, GROUP):
        await session.execute(select(Line.id).where(Line.id.in_(group)).order_by(Line.id).with_for_update())
        phones |= set(await session.scalars(select(PhoneLine.phone_id).where(PhoneLine.line_id.in_(group))))
    for group in batched(sorted(phones), GROUP):
        await session.execute(select(Phone.id).where(Phone.id.in_(group)).order_by(Phone.id).with_for_update())


async def refuse_moved(session: AsyncSession, account_id: str, revision: int) -> None:
    """Hold the account's revision until the commit, and the audit chain before it, as every writer does.

    Raises:
        Conflict: something of the account changed since `revision`.
    """
    await session.run_sync(hold_chain, account_id)
    query = select(Revision.value).where(Revision.account_id == account_id).with_for_update()
    if (await session.scalar(query) or 0) != revision:
        raise Conflict(
            "Phones, lines or locations of this account were changed while the table was being checked. Nothing was "
            "imported: check it once more."
        )


class _Work:
    """One import being written."""

    def __init__(self, session: AsyncSession) -> None:
        self._session, self._now = session, utc_now()
        self._inserts = _Inserts(session.get_bind().dialect)

    async def new(self, made: Ready) -> None:
        """The lines and phones that were not there. Their keys come behind those that changed phones leave."""
        await self._inserts.line.write(self._session, made.lines)
        await self._inserts.phone.write(self._session, made.phones)

    async def change_lines(self, group: Sequence[WishedLine]) -> None:
        ids = [line.before.id for line in group if line.before is not None]
        for has_secret in (False, True):
            rows = [self._changed(line) for line in group if ("secret" in line.values) is has_secret]
            if rows:
                names = (*_LINE_FIELDS, "secret") if has_secret else _LINE_FIELDS
                query = (
                    update(_LINE)
                    .where(_LINE.c.id == bindparam("at_id"))
                    .values(
                        {name: bindparam(f"to_{name}") for name in names}
                        | {"version": _LINE.c.version + 1, "updated_at": self._now}
                    )
                )
                await (await self._session.connection()).execute(query, rows)
        await self._outdate(_PHONE.c.id.in_(select(_KEY.c.phone_id).where(_KEY.c.line_id.in_(ids))))

    @staticmethod
    def _changed(line: WishedLine) -> dict[str, Any]:
        assert line.before is not None
        values = {name: line.values.get(name, getattr(line.before, name)) for name in _LINE_FIELDS}
        values |= {"secret": line.values["secret"]} if "secret" in line.values else {}
        return {f"to_{name}": value for name, value in values.items()} | {"at_id": line.before.id}

    async def change_phones(self, made: Ready) -> None:
        """The phones that differ, and the keys of all: what a phone had is taken from it first."""
        for group in batched(made.changed_phones, GROUP):
            await self._change_phones(group)
        await self._inserts.key.write(self._session, made.keys)

    async def _change_phones(self, group: Sequence[WishedPhone]) -> None:
        names = ("vendor", "model", "label", "location_id", "settings")
        rows = [
            {f"to_{name}": getattr(phone, name) for name in names} | {"at_id": phone.before.id}
            for phone in group
            if phone.before is not None
        ]
        query = (
            update(_PHONE)
            .where(_PHONE.c.id == bindparam("at_id"))
            .values(
                {name: bindparam(f"to_{name}", type_=_PHONE.c[name].type) for name in names}
                | {"version": _PHONE.c.version + 1, "updated_at": self._now}
                | outdated()
            )
        )
        await (await self._session.connection()).execute(query, rows)
        await self._session.execute(  # one whose kept model has become what it says it is, as `quarantine.settle` does
            update(_PHONE)
            .where(
                _PHONE.c.id.in_([row["at_id"] for row in rows]),
                _PHONE.c.status == PhoneStatus.QUARANTINED.value,
                _PHONE.c.vendor == _PHONE.c.seen_vendor,
                _PHONE.c.model == _PHONE.c.seen_model,
            )
            .values(status=PhoneStatus.STALE.value, seen_vendor=None, seen_model=None)
        )
        moved = [phone.before.id for phone in group if phone.before and phone.lines != phone.before.lines]
        await self._session.execute(delete(_KEY).where(_KEY.c.phone_id.in_(moved)))

    async def _outdate(self, which: Any) -> None:
        await self._session.execute(update(_PHONE).where(which).values(outdated()))


_BOOKKEEPING = frozenset({"version", "created_at", "updated_at"})


def _made(event: Event, kind: str, row: dict[str, Any], name: str, secrets: set[str]) -> Part:
    moved = {
        field: FieldChange(None, value, field in secrets)
        for field, value in row.items()
        if value is not None and value != "" and field not in _BOOKKEEPING
    }
    return Part(event, (kind, row["id"], name), moved)


def _phone_part(phone: WishedPhone, ids: Mapping[str, str]) -> Part:
    assert phone.before is not None
    moved = {
        name: FieldChange(getattr(phone.before, name), getattr(phone, name), False)
        for name in phone.moved()
        if name != "lines"
    }
    if phone.lines != phone.before.lines:
        before, after = ([ids[user] for user in users] for users in (phone.before.lines, phone.lines))
        moved["lines"] = FieldChange(before, after, False)
    return Part(Event.PHONE_UPDATE, ("phone", phone.before.id, phone.label or phone.mac), moved)


def _line_part(line: WishedLine) -> Part:
    assert line.before is not None
    moved = {
        name: FieldChange(getattr(line.before, name), value, name == "secret") for name, value in line.moved().items()
    }
    return Part(Event.LINE_UPDATE, ("line", line.before.id, ""), moved)
