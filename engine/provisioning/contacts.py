"""Operations on the account's phonebook: each changes a row and records itself once; nobody here commits."""

import re
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.errors import Conflict, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, Contact
from engine.provisioning import store_assets
from engine.provisioning.phone_rules import text_faults
from engine.provisioning.phonebook import MAX_CONTACTS

_NUMBER = re.compile(r"[0-9A-Za-z*#+._~!$&'=-][0-9A-Za-z*#+._~!$&'=() -]{0,62}(?:@[0-9A-Za-z.-]{1,36})?\Z")


@dataclass(frozen=True, slots=True)
class ContactFields:
    """A contact as it shall be. `number`: what a phone dials, spaces and brackets in it for the eye."""

    name: str
    number: str

    @classmethod
    def of(cls, contact: Contact) -> "ContactFields":
        return cls(contact.name, contact.number)


async def create_contact(session: AsyncSession, actor: Actor, account: Account, wished: ContactFields) -> Contact:
    """Add an entry to the phonebook; phones show it when they fetch the phonebook again.

    Raises:
        Invalid: every bad field. Conflict: the phonebook is full.
    """
    if await store_assets.count_contacts(session, account.id) >= MAX_CONTACTS:
        raise Conflict(
            f"The phonebook holds {MAX_CONTACTS:,} contacts, which is all it may. Delete some before you add another."
        )
    contact = Contact(id=new_id("contact"), account_id=account.id)
    _apply(contact, wished)
    session.add(contact)
    record(session, actor, Event.CONTACT_CREATE, contact)
    return contact


async def update_contact(session: AsyncSession, actor: Actor, contact: Contact, wished: ContactFields) -> None:
    """Change an entry. Raises Invalid: every bad field."""
    _apply(contact, wished)
    record(session, actor, Event.CONTACT_UPDATE, contact)


async def delete_contact(session: AsyncSession, actor: Actor, contact: Contact) -> None:
    await session.delete(contact)
    record(session, actor, Event.CONTACT_DELETE, contact)


def _apply(contact: Contact, wished: ContactFields) -> None:
    name, number = wished.name.strip(), wished.number.strip()
    faults = text_faults("name", name)
    if not name:
        faults.append(FieldFault("name", "Expected a name."))
    if not _NUMBER.match(number):
        faults.append(
            FieldFault(
                "number", f"Expected what a phone can dial, such as +1 212 555 0123 or 101, got {number[:40]!r}."
            )
        )
    if faults:
        raise Invalid("The contact cannot be stored like this.", fields=tuple(faults))
    contact.name, contact.number = name, dialled(number)


def dialled(number: str) -> str:
    """The number without what stands in it for the eye. A SIP address keeps all of its user part."""
    return number if "@" in number else re.sub(r"[ ()]", "", number)
