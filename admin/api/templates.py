"""`/api/v1/templates`: an account's own texts for its vendors' templates, their versions, and the shipped texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, no_content, no_query, row_named
from admin.api.models import Answer, Body, Instant, StampedAnswer, Text
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, DATABASE, SESSION
from admin.routes import Operation, Query, Route
from admin.template_trial import tried
from engine.accounts.scopes import Scope
from engine.accounts.store import row_of
from engine.audit.events import Event
from engine.errors import FieldFault, Invalid, NotFound
from engine.models import TemplateOverride
from engine.provisioning import store_levels, template_texts, vendors
from engine.provisioning.overrides import Examined
from engine.provisioning.sandbox import MAX_SOURCE
from engine.provisioning.vendors import Profile

_BODY = Annotated[str, Field(min_length=1, max_length=MAX_SOURCE)]


class TemplateAnswer(StampedAnswer):
    """`number`: the version in force; `body` null: reverted to the shipped text. `warnings`: what was found when it was
    published just now, and did not stop it.
    """

    vendor: str
    name: str
    body: str | None
    number: int
    warnings: list[str] = Field(default_factory=list)


class TemplateCreate(Body):
    """`name` is that of a shipped template of the vendor. The text may extend and include the shipped ones by name; its
    own name means the shipped text it stands in place of.
    """

    vendor: Annotated[str, Field(min_length=1, max_length=30)]
    name: Annotated[str, Field(min_length=1, max_length=80)]
    body: _BODY
    note: Text = ""


class TemplatePatch(Body):
    body: _BODY
    note: Text = ""


class TemplateRevert(Body):
    """`number`: the version to go back to; null: the shipped text."""

    number: Annotated[int, Field(ge=1, le=1_000_000)] | None


class TemplateVersionAnswer(Answer):
    number: int
    body: str | None
    note: str
    written_by: str
    written_at: Instant


class TemplateVersionsAnswer(Answer):
    """Newest first."""

    data: list[TemplateVersionAnswer]


class ShippedTemplate(Answer):
    vendor: str
    name: str
    body: str


class ShippedTemplatesAnswer(Answer):
    data: list[ShippedTemplate]


@dataclass(frozen=True, slots=True)
class Tried:
    """A text and what came of trying it, before the transaction. `body` None: the shipped one."""

    body: str | None
    note: str
    examined: Examined


def known_vendor(name: str, *, field: str = "vendor") -> Profile:
    """Raises Invalid: there is no such vendor."""
    profiles = vendors.known().profiles
    if name not in profiles:
        fault = FieldFault(field, f"Expected one of {', '.join(profiles)}.")
        raise Invalid("There is no such vendor.", fields=(fault,))
    return profiles[name]


async def try_new(request: web.Request) -> Tried:
    body = await body_of(request, TemplateCreate)
    profile = known_vendor(body.vendor)
    if body.name not in profile.templates:
        fault = FieldFault("name", f"Expected one of {', '.join(profile.templates)}.")
        raise Invalid("This vendor has no such template.", fields=(fault,))
    return Tried(body.body, body.note, await tried(request, body.vendor, body.name, body.body))


async def try_changed(request: web.Request) -> Tried:
    body = await body_of(request, TemplatePatch)
    template = await _stored(request)
    return Tried(body.body, body.note, await tried(request, template.vendor, template.name, body.body))


async def try_reverted(request: web.Request) -> Tried:
    wished = await body_of(request, TemplateRevert)
    return await tried_version(request, await _stored(request), wished.number)


async def tried_version(request: web.Request, template: TemplateOverride, number: int | None) -> Tried:
    """An older version, tried as if it were new: what passed once may fail with today's settings.

    Raises:
        NotFound: it has no such version.
    """
    body = None
    if number is not None:
        async with request.app[DATABASE].sessions() as session:
            version = await store_levels.version_of(session, template.id, number)
        if version is None:
            raise NotFound(f"{template.name} has no version {number}.")
        body = version.body
    return Tried(body, "", await tried(request, template.vendor, template.name, body))


async def try_deleted(request: web.Request) -> Tried:
    """Without its text phones get the shipped one: beside the account's others that may fail."""
    template = await _stored(request)
    return Tried(None, "", await tried(request, template.vendor, template.name, None))


async def _stored(request: web.Request) -> TemplateOverride:
    async with request.app[DATABASE].sessions() as session:
        return await row_of(session, TemplateOverride, request[ACCOUNT].id, request.match_info["id"])


async def list_templates(request: web.Request) -> web.Response:
    return await list_rows(request, TemplateOverride, plainly(TemplateAnswer.model_validate))


async def get_template(request: web.Request) -> web.Response:
    no_query(request)
    template = await row_named(request, TemplateOverride)
    return answered(TemplateAnswer.model_validate(template), template)


async def post_template(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, TemplateCreate)
    known = prepared(request, Tried)
    text = template_texts.Text(body.vendor, body.name, body.body, body.note, known.examined)
    template = await template_texts.create_template(request[SESSION], request[ACTOR], request[ACCOUNT], text)
    return await _published(request, template, known, status=201)


async def patch_template(request: web.Request) -> web.Response:
    no_query(request)
    template = await row_named(request, TemplateOverride, to_change=True)
    known = prepared(request, Tried)
    text = template_texts.Text(template.vendor, template.name, known.body or "", known.note, known.examined)
    await template_texts.update_template(request[SESSION], request[ACTOR], template, text)
    return await _published(request, template, known)


async def post_revert(request: web.Request) -> web.Response:
    no_query(request)
    template = await row_named(request, TemplateOverride, to_change=True)
    known = prepared(request, Tried)
    number = (await body_of(request, TemplateRevert)).number
    await template_texts.revert_template(request[SESSION], request[ACTOR], template, number, known.examined)
    return await _published(request, template, known)


async def _published(
    request: web.Request, template: TemplateOverride, known: Tried, *, status: int = 200
) -> web.Response:
    await request[SESSION].flush()
    answer = TemplateAnswer.model_validate(template).model_copy(update={"warnings": list(known.examined.warnings)})
    location = f"/api/v1/templates/{template.id}" if status == 201 else None
    return answered(answer, template, status=status, location=location)


async def delete_template(request: web.Request) -> web.Response:
    no_query(request)
    template = await row_named(request, TemplateOverride, to_change=True)
    examined = prepared(request, Tried).examined
    await template_texts.delete_template(request[SESSION], request[ACTOR], template, examined)
    return no_content()


async def list_versions(request: web.Request) -> web.Response:
    no_query(request)
    template = await row_named(request, TemplateOverride)
    rows = await store_levels.versions_of(request[SESSION], template.id)
    return answered(TemplateVersionsAnswer(data=[TemplateVersionAnswer.model_validate(row) for row in rows]))


async def list_shipped(request: web.Request) -> web.Response:
    no_query(request, "vendor")
    profiles: Mapping[str, Profile] = vendors.known().profiles
    asked = request.query.get("vendor")
    found = list(profiles.values()) if asked is None else [known_vendor(asked)]
    shipped = [
        ShippedTemplate(vendor=profile.name, name=name, body=text)
        for profile in found
        for name, text in profile.templates.items()
    ]
    return answered(ShippedTemplatesAnswer(data=shipped))


_READ, _WRITE = Scope.PROVISIONING_READ, Scope.PROVISIONING_WRITE
_VENDOR = Query("vendor", {"type": "string"}, "One vendor's alone, such as `yealink`.")
ROUTES = (
    Route(
        "GET", "/api/v1/templates", list_templates, _READ, Event.TEMPLATE_LIST,
        operation=Operation(
            "List the account's own templates", answer=TemplateAnswer, is_list=True, queries=PAGE_QUERIES
        ),
    ),
    Route(
        "POST", "/api/v1/templates", post_template, _WRITE, Event.TEMPLATE_CREATE, prepare=try_new,
        operation=Operation(
            "Publish a template of the account's own", body=TemplateCreate, answer=TemplateAnswer, status=201,
            has_etag=True,
        ),
    ),
    Route(
        "GET", "/api/v1/templates/shipped", list_shipped, _READ, Event.TEMPLATE_SHIPPED_READ,
        operation=Operation(
            "The templates that came with Callpoint", answer=ShippedTemplatesAnswer, queries=(_VENDOR,)
        ),
    ),
    Route(
        "GET", "/api/v1/templates/{id}", get_template, _READ, Event.TEMPLATE_READ,
        operation=Operation("One template of the account's own", answer=TemplateAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/templates/{id}", patch_template, _WRITE, Event.TEMPLATE_UPDATE, prepare=try_changed,
        operation=Operation(
            "Publish another text", body=TemplatePatch, answer=TemplateAnswer, if_match=True, has_etag=True
        ),
    ),
    Route(
        "DELETE", "/api/v1/templates/{id}", delete_template, _WRITE, Event.TEMPLATE_DELETE, prepare=try_deleted,
        operation=Operation("Forget a template and its versions", status=204, if_match=True),
    ),
    Route(
        "GET", "/api/v1/templates/{id}/versions", list_versions, _READ, Event.TEMPLATE_VERSIONS_READ,
        operation=Operation("Every text it had, newest first", answer=TemplateVersionsAnswer),
    ),
    Route(
        "POST", "/api/v1/templates/{id}/revert", post_revert, _WRITE, Event.TEMPLATE_REVERT, prepare=try_reverted,
        operation=Operation(
            "Go back to an older version or to the shipped text", body=TemplateRevert, answer=TemplateAnswer,
            if_match=True, has_etag=True,
        ),
    ),
)  # fmt: skip
