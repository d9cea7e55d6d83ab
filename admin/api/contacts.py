"""`/api/v1/contacts`: the entries of the phonebook beside the account's own lines."""

from dataclasses import replace
from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import NAME_PATTERN, Body, Name, StampedAnswer, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.models import Contact
from engine.provisioning import contacts
from engine.provisioning.contacts import ContactFields

Dialled = Annotated[str, Field(min_length=1, max_length=100, pattern=NAME_PATTERN)]


class ContactAnswer(StampedAnswer):
    name: str
    number: str


class ContactCreate(Body):
    """What phones show, and what they dial for it."""

    name: Name
    number: Dialled


ContactPatch = patch_of(ContactCreate, "ContactPatch")


async def list_contacts(request: web.Request) -> web.Response:
    return await list_rows(request, Contact, plainly(ContactAnswer.model_validate))


async def get_contact(request: web.Request) -> web.Response:
    no_query(request)
    contact = await row_named(request, Contact)
    return answered(ContactAnswer.model_validate(contact), contact)


async def post_contact(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, ContactCreate)
    wished = ContactFields(body.name, body.number)
    contact = await contacts.create_contact(request[SESSION], request[ACTOR], request[ACCOUNT], wished)
    await request[SESSION].flush()
    location = f"/api/v1/contacts/{contact.id}"
    return answered(ContactAnswer.model_validate(contact), contact, status=201, location=location)


async def patch_contact(request: web.Request) -> web.Response:
    no_query(request)
    contact = await row_named(request, Contact, to_change=True)
    wished = replace(ContactFields.of(contact), **given(await body_of(request, ContactPatch)))
    await contacts.update_contact(request[SESSION], request[ACTOR], contact, wished)
    await request[SESSION].flush()
    return answered(ContactAnswer.model_validate(contact), contact)


async def delete_contact(request: web.Request) -> web.Response:
    no_query(request)
    contact = await row_named(request, Contact, to_change=True)
    await contacts.delete_contact(request[SESSION], request[ACTOR], contact)
    return no_content()


_READ, _WRITE = Scope.PHONES_READ, Scope.PHONES_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/contacts", list_contacts, _READ, Event.CONTACT_LIST,
        operation=Operation("List contacts", answer=ContactAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/contacts", post_contact, _WRITE, Event.CONTACT_CREATE,
        operation=Operation("Add a contact", body=ContactCreate, answer=ContactAnswer, status=201, has_etag=True),
    ),
    Route(
        "GET", "/api/v1/contacts/{id}", get_contact, _READ, Event.CONTACT_READ,
        operation=Operation("One contact", answer=ContactAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/contacts/{id}", patch_contact, _WRITE, Event.CONTACT_UPDATE,
        operation=Operation("Change a contact", body=ContactPatch, answer=ContactAnswer, if_match=True, has_etag=True),
    ),
    Route(
        "DELETE", "/api/v1/contacts/{id}", delete_contact, _WRITE, Event.CONTACT_DELETE,
        operation=Operation("Remove a contact", status=204, if_match=True),
    ),
)  # fmt: skip
