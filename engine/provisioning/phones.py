"""Operations on phones, lines and the provisioning token: each changes rows and records itself once; nobody here
commits.
"""

import secrets
import string
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store_outdated import outdate
from engine.countries import countries_of
from engine.crypto import KeyRing
from engine.db import utc_now
from engine.errors import Conflict, FieldFault, Invalid, NotFound
from engine.ids import new_id
from engine.models import Account, Line, Location, Pbx, Phone, PhoneLine
from engine.provisioning import (
    cutover,
    devices,
    phone_extras,
    phone_rules,
    quarantine,
    safeguards,
    softphones,
    store,
    store_cutover,
    tokens,
    vendors,
)
from engine.provisioning.movement import Mode
from engine.provisioning.settings import setting_faults

ADMIN_PASSWORD_CHARACTERS = 16  # 93 bits of the alphabet below; Poly takes at most 32
_ALPHABET = "".join(
    sorted(set(string.ascii_letters + string.digits) - set("0O1lI"))
)  # read aloud at a desk, typed on a phone


@dataclass(frozen=True, slots=True)
class PhoneFields:
    """A phone as it shall be, whole. `mac` in any usual spelling; `lines`: line ids, first key first; `settings`: see
    `settings.CHECKS`; `placement`: of `models.Placement`, None: nobody has said.
    """

    mac: str
    vendor: str
    model: str
    label: str = ""
    location_id: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    placement: str | None = None

    @classmethod
    async def of(cls, session: AsyncSession, phone: Phone) -> "PhoneFields":
        """As it is now; `dataclasses.replace` makes the wished state of it."""
        keys = await store.keys_of(session, phone.id)
        return cls(
            phone.mac, phone.vendor, phone.model, phone.label, phone.location_id, dict(phone.settings),
            tuple(key.line_id for key in keys), phone.placement,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LineFields:
    """A line as it shall be, whole. Empty `sip_user`: the extension. Empty `auth_user`: the SIP user. `secret` None:
    as it is.
    """

    extension: str
    display_name: str = ""
    sip_user: str = ""
    auth_user: str = ""
    secret: str | None = field(default=None, repr=False)
    callback_number: str | None = None
    location_id: str | None = None
    pbx_id: str | None = None
    placement: str | None = None

    @classmethod
    def of(cls, line: Line) -> "LineFields":
        """As it is now, without its secret."""
        values = {one.name: getattr(line, one.name) for one in fields(cls)}
        return cls(**values | {"secret": None})


# --- Phones ---------------------------------------------------------------------------------------------------------


async def create_phone(session: AsyncSession, actor: Actor, account: Account, wished: PhoneFields) -> Phone:
    """Add a phone: from the commit on its files are served under the account's URL. A softphone needs no MAC address:
    an address is made for it.

    Raises:
        Invalid: every bad field. Conflict: the account has a phone of that MAC.
    """
    phone = Phone(id=new_id("phone"), account_id=account.id)
    if not wished.mac.strip() and softphones.is_application(wished.vendor):
        wished = replace(wished, mac=softphones.device_address())
    await _apply_phone(session, phone, wished)
    safeguards.give_key(phone, safeguards.policy_of(account))
    session.add(phone)
    await session.flush()
    for number, line_id in enumerate(wished.lines, 1):
        session.add(PhoneLine(account_id=account.id, phone_id=phone.id, key=number, line_id=line_id))
    record(session, actor, Event.PHONE_CREATE, phone)
    return phone


async def update_phone(session: AsyncSession, actor: Actor, phone: Phone, wished: PhoneFields) -> None:
    """Change a phone and what sits on its keys; another MAC address is another device. Raises as `create_phone`."""
    former = phone.mac
    await _apply_phone(session, phone, wished)
    if phone.mac != former:
        await devices.forget_former(session, phone)
    quarantine.settle(phone)
    await _assign(session, phone, wished.lines)
    await outdate(session, Phone.id == phone.id)
    record(session, actor, Event.PHONE_UPDATE, phone)


async def assign_lines(session: AsyncSession, actor: Actor, phone: Phone, line_ids: tuple[str, ...]) -> None:
    """Put those lines on the phone's keys, first key first. Raises Invalid: not this account's, twice, or too many."""
    faults = await _assignment_faults(session, phone.account_id, phone.vendor, phone.model, line_ids)
    if faults:
        raise Invalid("These lines cannot be put on the phone.", fields=tuple(faults))
    await _assign(session, phone, line_ids)
    await outdate(session, Phone.id == phone.id)
    record(session, actor, Event.PHONE_UPDATE, phone)


async def delete_phone(session: AsyncSession, actor: Actor, phone: Phone) -> None:
    """Retire a phone: from the commit on its files are a 404. What it holds it keeps until somebody resets it."""
    for row in (*await store.keys_of(session, phone.id), *await store.confirmed_for(session, phone_id=phone.id)):
        await session.delete(row)
    await session.flush()  # keys go before what they name
    await session.delete(phone)
    record(session, actor, Event.PHONE_DELETE, phone)


async def _apply_phone(session: AsyncSession, phone: Phone, wished: PhoneFields) -> None:
    mac = vendors.parse_mac(wished.mac)
    faults: list[FieldFault | None] = [*phone_rules.mac_faults(wished.mac, mac)]
    faults += phone_rules.model_faults(wished.vendor, wished.model) + phone_rules.text_faults("label", wished.label)
    faults += phone_rules.format_faults("label", wished.vendor, wished.label.strip())
    faults += [*setting_faults(wished.settings), *phone_rules.placement_faults(wished.placement)]
    faults += [await _location_fault(session, phone.account_id, wished.location_id)]
    faults += await _assignment_faults(session, phone.account_id, wished.vendor, wished.model, wished.lines)
    faults += await phone_extras.extra_faults(
        session, phone.account_id, wished.vendor, wished.model, wished.settings, len(wished.lines)
    )
    found = tuple(fault for fault in faults if fault is not None)
    if found or mac is None:
        raise Invalid("The phone cannot be stored like this.", fields=found)
    other = await store.phone_by_mac(session, phone.account_id, mac)
    if other is not None and other.id != phone.id:
        raise Conflict(f"This account has a phone with the MAC address {mac} already: {other.label or other.id}.")
    model = vendors.known().profiles[wished.vendor].model(wished.model)
    phone.mac, phone.vendor, phone.model = mac, wished.vendor, model.name if model is not None else wished.model
    phone.label, phone.location_id, phone.settings = wished.label.strip(), wished.location_id, dict(wished.settings)
    phone.placement = wished.placement or None


async def _assignment_faults(
    session: AsyncSession, account_id: str, vendor: str, model: str, line_ids: tuple[str, ...]
) -> list[FieldFault]:
    own = {line.id: line for line in await store.lines_of(session, account_id)} if line_ids else {}
    faults = [
        FieldFault(f"lines.{at}", "Expected the id of a line of this account.")
        for at, line_id in enumerate(line_ids)
        if line_id not in own
    ]
    for at, line_id in enumerate(line_ids):
        if (line := own.get(line_id)) is not None:
            faults += phone_rules.line_format_faults(
                f"lines.{at}", vendor, line.extension, line.display_name, line.secret
            )
    if len(set(line_ids)) != len(line_ids):
        faults.append(FieldFault("lines", "A line can sit on one key of a phone only."))
    profile = vendors.known().profiles.get(vendor)
    known = profile.model(model) if profile is not None else None
    if known is not None and len(line_ids) > known.lines:
        faults.append(FieldFault("lines", f"A {known.name} holds {known.lines} lines, got {len(line_ids)}."))
    return faults


async def _assign(session: AsyncSession, phone: Phone, line_ids: tuple[str, ...]) -> None:
    """Make the keys hold exactly those lines; only keys that change are touched."""
    held = {key.key: key for key in await store.keys_of(session, phone.id)}
    if tuple(key.line_id for key in held.values()) != line_ids:
        _touch(phone)
    for number, line_id in enumerate(line_ids, 1):
        key = held.pop(number, None)
        if key is None:
            session.add(PhoneLine(account_id=phone.account_id, phone_id=phone.id, key=number, line_id=line_id))
        elif key.line_id != line_id:
            key.line_id = line_id
    for key in held.values():
        await session.delete(key)


def _touch(phone: Phone) -> None:
    """Its keys are part of what a reader sees as the phone: its version moves with them, though no column does."""
    phone.version += 1
    phone.updated_at = utc_now()


# --- Lines ----------------------------------------------------------------------------------------------------------


async def create_line(session: AsyncSession, actor: Actor, account: Account, wished: LineFields) -> Line:
    """Add a line.

    Raises:
        Invalid: every bad field, an extension that would take emergency calls among them. Conflict: the SIP user is
        taken.
    """
    line = Line(id=new_id("line"), account_id=account.id)
    await _apply_line(session, account, line, wished)
    session.add(line)
    record(session, actor, Event.LINE_CREATE, line)
    return line


async def update_line(session: AsyncSession, actor: Actor, account: Account, line: Line, wished: LineFields) -> None:
    """Change a line. Raises as `create_line`."""
    await _apply_line(session, account, line, wished)
    await outdate(session, _with_line(line))
    record(session, actor, Event.LINE_UPDATE, line)


async def delete_line(session: AsyncSession, actor: Actor, line: Line) -> None:
    """Remove a line from the account and from every key it sits on; the lines behind it move up at the next fetch."""
    phones = await store.phones_with_line(session, line.id)
    for phone in phones:
        _touch(phone)
        for key in await store.keys_of(session, phone.id):
            if key.line_id == line.id:
                await session.delete(key)
    await outdate(session, Phone.id.in_([phone.id for phone in phones]))
    for confirmed in await store.confirmed_for(session, line_id=line.id):
        await session.delete(confirmed)
    for number in await store.numbers_of_line(session, line.id):
        number.line_id = None
    await session.flush()
    await session.delete(line)
    record(session, actor, Event.LINE_DELETE, line)


def _with_line(line: Line) -> ColumnElement[bool]:
    return Phone.id.in_(select(PhoneLine.phone_id).where(PhoneLine.line_id == line.id))


async def _apply_line(session: AsyncSession, account: Account, line: Line, wished: LineFields) -> None:
    sip_user = wished.sip_user.strip() or wished.extension.strip()
    callback, wrong = phone_rules.callback_number(wished.callback_number, account.country)
    countries = await countries_of(session, account)
    faults = [
        *phone_rules.extension_faults(wished.extension.strip(), countries),
        *(phone_rules.sip_user_faults(sip_user, countries) if wished.sip_user else []),
        *phone_rules.text_faults("display_name", wished.display_name),
        await _location_fault(session, account.id, wished.location_id),
        await _pbx_fault(session, account.id, wished.pbx_id),
        *phone_rules.auth_user_faults(wished.auth_user),
        *wrong,
        *phone_rules.secret_faults(wished.secret),
        *phone_rules.placement_faults(wished.placement),
    ]
    faults += await _format_faults(session, line, wished)
    found = tuple(fault for fault in faults if fault is not None)
    if found:
        raise Invalid("The line cannot be stored like this.", fields=found)
    other = await store.line_by_sip_user(session, account.id, sip_user)
    if other is not None and other.id != line.id:
        raise Conflict(f"This account has a line with the SIP user {sip_user} already.")
    line.extension, line.display_name = wished.extension.strip(), wished.display_name.strip()
    line.sip_user, line.auth_user = sip_user, wished.auth_user.strip()
    line.callback_number, line.location_id, line.pbx_id = callback, wished.location_id, wished.pbx_id
    line.placement = wished.placement or None
    if wished.secret is not None:
        line.secret = wished.secret


async def _format_faults(session: AsyncSession, line: Line, wished: LineFields) -> list[FieldFault]:
    """What the phones that carry the line could not be given."""
    texts = {"display_name": wished.display_name.strip(), "secret": wished.secret or ""}
    narrow = {
        vendor
        for vendor in vendors.known().profiles
        if any(phone_rules.format_faults(name, vendor, text) for name, text in texts.items())
    }
    on = {phone.vendor for phone in await store.phones_with_line(session, line.id)} if narrow else set()
    faults = []
    for vendor in sorted(narrow & on):
        for name, text in texts.items():
            faults += phone_rules.format_faults(name, vendor, text)
    return faults


async def _location_fault(session: AsyncSession, account_id: str, location_id: str | None) -> FieldFault | None:
    location = await session.get(Location, location_id) if location_id is not None else None
    if location_id is None or (location is not None and location.account_id == account_id):
        return None
    return FieldFault("location_id", "Expected a location of this account.")


async def _pbx_fault(session: AsyncSession, account_id: str, pbx_id: str | None) -> FieldFault | None:
    pbx = await session.get(Pbx, pbx_id) if pbx_id is not None else None
    if pbx_id is None or (pbx is not None and pbx.account_id == account_id):
        return None
    return FieldFault("pbx_id", "Expected a PBX of this account.")


# --- The provisioning token and the phones' admin password ----------------------------------------------------------


async def generate_token(session: AsyncSession, actor: Actor, account: Account, keys: KeyRing) -> str:
    """Make the account's first provisioning token, and the phones' admin password with it. Returns the clear token.

    Raises:
        Conflict: there is a token; `rotate_token` replaces it.
    """
    await store_cutover.lock(session, account)
    if account.provisioning_token is not None:
        raise Conflict("This account has a provisioning URL already. Rotate it to get another; the old one ends then.")
    token = _set_token(account, keys)
    if account.phone_admin_password is None:
        account.phone_admin_password = mint_admin_password()
    record(session, actor, Event.PROVISIONING_TOKEN_GENERATE, account)
    return token


async def rotate_token(session: AsyncSession, actor: Actor, account: Account, keys: KeyRing) -> str:
    """Replace the account's provisioning token; the old URL answers 404 from commit on. Returns the clear token.

    Stored sealed (the Provisioning card shows it again) beside its HMAC index (the look-up key). A move to another
    token that was under way ends too: whoever held the old URL could read the next one.
    """
    await store_cutover.lock(session, account)
    await cutover.end_all(session, account)
    token = _set_token(account, keys)
    await store_cutover.outdate(session, account)
    record(session, actor, Event.PROVISIONING_TOKEN_ROTATE, account, details={"mode": Mode.IMMEDIATE})
    return token


async def reveal_token(session: AsyncSession, actor: Actor, account: Account) -> str:
    """The clear token; an audited read.

    Raises:
        NotFound: none was generated yet.
    """
    if account.provisioning_token is None:
        raise NotFound("This account has no provisioning URL yet. Generate one.")
    record(session, actor, Event.PROVISIONING_TOKEN_REVEAL, account)
    return account.provisioning_token


async def reveal_token_to_hand_out(session: AsyncSession, actor: Actor, account: Account) -> str:
    """The clear token that a phone is to be told from outside, by DHCP, a menu, a QR code; an audited read.

    While phones are being moved to the next URL it is that one's: who is told the old one at each start never moves.

    Raises:
        NotFound: none was generated yet.
    """
    token = await reveal_token(session, actor, account)
    return account.next_provisioning_token or token


async def rotate_phone_admin_password(session: AsyncSession, actor: Actor, account: Account) -> str:
    """Give the account's phones a new admin password; each takes it at its next fetch. Returns the clear password."""
    await store_cutover.lock(session, account)
    account.phone_admin_password = password = mint_admin_password()
    await outdate(session, Phone.account_id == account.id)
    record(session, actor, Event.PHONE_ADMIN_PASSWORD_ROTATE, account)
    return password


async def reveal_phone_admin_password(session: AsyncSession, actor: Actor, account: Account) -> str:
    """The clear password; an audited read. Raises NotFound: none was made yet."""
    if account.phone_admin_password is None:
        raise NotFound(
            "This account's phones have no admin password from here yet. Generate the provisioning URL, or rotate."
        )
    record(session, actor, Event.PHONE_ADMIN_PASSWORD_REVEAL, account)
    return account.phone_admin_password


def mint_admin_password() -> str:
    """16 characters that phones accept and people can read out: a capital, a small letter and a digit are always
    among them.
    """
    while True:
        text = "".join(secrets.choice(_ALPHABET) for _ in range(ADMIN_PASSWORD_CHARACTERS))
        if any(map(str.isupper, text)) and any(map(str.islower, text)) and any(map(str.isdigit, text)):
            return text


def _set_token(account: Account, keys: KeyRing) -> str:
    token = tokens.mint()
    account.provisioning_token = token
    account.provisioning_token_index = tokens.index(keys, token)
    account.provisioning_token_at = utc_now()
    return token
