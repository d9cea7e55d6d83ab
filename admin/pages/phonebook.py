"""Phonebook: what the account's phones show of their own accord, the lines and the contacts beside them."""

from typing import Any

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, SESSION
from admin.pages.form import FORM, form_of, refuse_stale, see_other, typed
from admin.render import render
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import EngineError
from engine.models import Contact
from engine.provisioning import contacts, store, store_assets, vendors
from engine.provisioning.contacts import ContactFields
from engine.provisioning.phonebook import MAX_CONTACTS

SHOWN = 150  # rows: a page stays under 150 kB; the search finds the others


async def get_phonebook(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    sought = request.query.get("q", "").strip()[:60]
    found = await store_assets.contacts_of(session, account.id, sought=sought, most=SHOWN + 1)
    values: dict[str, Any] = {"name": "", "number": ""}
    return render(
        request, "phonebook.html.j2", error=error,
        form=await form_of(request, values, error), contacts=found[:SHOWN], has_more=len(found) > SHOWN, shown=SHOWN,
        sought=sought, lines=await store.count_lines(session, account.id),
        count=await store_assets.count_contacts(session, account.id), most=MAX_CONTACTS,
        families=[profile.title for profile in vendors.known().profiles.values() if profile.phonebook],
    )  # fmt: skip


async def post_contact_new(request: web.Request) -> web.Response:
    request[FORM] = _page
    await contacts.create_contact(request[SESSION], request[ACTOR], request[ACCOUNT], await _typed(request))
    return see_other("/phonebook", "contact-added")


async def get_contact(request: web.Request) -> web.Response:
    return await _contact_page(request, None)


async def _contact_page(request: web.Request, error: EngineError | None) -> web.Response:
    contact = await _contact(request)
    form = await form_of(request, {"name": contact.name, "number": contact.number}, error)
    return render(request, "contact.html.j2", error=error, contact=contact, form=form)


async def post_contact(request: web.Request) -> web.Response:
    request[FORM] = _contact_page
    contact = await _contact(request)
    await refuse_stale(request, contact)
    await contacts.update_contact(request[SESSION], request[ACTOR], contact, await _typed(request))
    return see_other("/phonebook", "contact-saved")


async def post_contact_delete(request: web.Request) -> web.Response:
    request[FORM] = _page
    await contacts.delete_contact(request[SESSION], request[ACTOR], await _contact(request))
    return see_other("/phonebook", "contact-deleted")


async def _contact(request: web.Request) -> Contact:
    return await store_assets.contact_of(request[SESSION], request[ACCOUNT].id, request.match_info["id"])


async def _typed(request: web.Request) -> ContactFields:
    return ContactFields(await typed(request, "name"), await typed(request, "number"))


ROUTES = (
    Route("GET", "/phonebook", get_phonebook, Scope.PHONES_READ, Event.CONTACT_LIST),
    Route("POST", "/phonebook", post_contact_new, Scope.PHONES_WRITE, Event.CONTACT_CREATE),
    Route("GET", "/phonebook/{id}", get_contact, Scope.PHONES_READ, Event.CONTACT_READ),
    Route("POST", "/phonebook/{id}", post_contact, Scope.PHONES_WRITE, Event.CONTACT_UPDATE),
    Route("POST", "/phonebook/{id}/delete", post_contact_delete, Scope.PHONES_WRITE, Event.CONTACT_DELETE),
)
