"""`/api/v1/phones/{id}/release`: a phone that says it is another model than the one kept is given its files again."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import body_of, no_query, row_named
from admin.api.models import Body
from admin.api.phones import PhoneAnswer, one_phone
from admin.context import ACTOR, SESSION
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.models import Phone
from engine.provisioning import quarantine


class PhoneRelease(Body):
    """`model`: the one it is from now on; null: the kept one is right."""

    model: Annotated[str, Field(min_length=1, max_length=40)] | None = None


async def post_phone_release(request: web.Request) -> web.Response:
    no_query(request)
    phone = await row_named(request, Phone, to_change=True)
    model = (await body_of(request, PhoneRelease)).model
    await quarantine.release_phone(request[SESSION], request[ACTOR], phone, model=model)
    await request[SESSION].flush()
    return await one_phone(request, phone)


ROUTES = (
    Route(
        "POST", "/api/v1/phones/{id}/release", post_phone_release, Scope.PHONES_WRITE, Event.PHONE_RELEASE,
        operation=Operation(
            "Release a quarantined phone", body=PhoneRelease, answer=PhoneAnswer, if_match=True, has_etag=True,
            errors=(409,),
        ),
    ),
)  # fmt: skip
