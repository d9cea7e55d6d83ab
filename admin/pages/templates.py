"""An account's own templates: the list, the text with its form, every version and what it changed, the way back."""

from typing import Any

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncSession

from admin.api.templates import Tried, tried_version
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, DATABASE, SESSION
from admin.page_addresses import leave_out
from admin.pages.form import FORM, NoRow, form_of, refuse_stale, see_other, typed
from admin.render import render
from admin.routes import Route
from admin.template_trial import tried
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import Conflict, EngineError, NotFound
from engine.models import TemplateOverride, TemplateVersion
from engine.provisioning import preview, store_levels, template_texts, vendors
from engine.provisioning.vendors import Profile

LIST = "/phones/templates"
_ONE = LIST + "/{vendor}/{name}"
VERSIONS_SHOWN = 100


class Warned(Conflict):
    """A text that works, and about which there is something to be said before it is published."""

    title = "Look at this before you publish"


def _href(vendor: str, name: str) -> str:
    return f"{LIST}/{vendor}/{name}"


async def get_templates(request: web.Request) -> web.Response:
    own = await store_levels.templates_of(request[SESSION], request[ACCOUNT].id)
    in_force = {(row.vendor, row.name): row for row in own}
    profiles = vendors.known().profiles.values()
    return render(
        request,
        "templates.html.j2",
        own=[(row, _href(row.vendor, row.name)) for row in own],
        vendors=[
            (each, [(name, _href(each.name, name), in_force.get((each.name, name))) for name in each.templates])
            for each in profiles
        ],
    )  # fmt: skip


def _shipped(request: web.Request) -> tuple[Profile, str, str]:
    """The vendor, the template's name and its shipped text. Raises NotFound."""
    profile = vendors.known().profiles.get(request.match_info["vendor"])
    name = request.match_info["name"]
    if profile is None or name not in profile.templates:
        raise NotFound("There is no shipped template of that name.")
    return profile, name, profile.templates[name]


async def _template(request: web.Request, session: AsyncSession) -> TemplateOverride | None:
    profile, name, _ = _shipped(request)
    return await store_levels.template_named(session, request[ACCOUNT].id, profile.name, name)


async def get_template(request: web.Request) -> web.Response:
    return await _template_page(request, None)


async def _template_page(request: web.Request, error: EngineError | None) -> web.Response:
    profile, name, shipped = _shipped(request)
    template = await _template(request, request[SESSION])
    body = template.body if template is not None else None
    form = await form_of(request, {"body": shipped if body is None else body, "note": ""}, error)
    return render(
        request,
        "template.html.j2",
        error=error,
        profile=profile,
        name=name,
        href=_href(profile.name, name),
        row=template,
        is_own=body is not None,
        form=form,
        is_warned=isinstance(error, Warned),
        others=[other for other in profile.templates if other != name],
        difference=preview.compare_templates(name, shipped, None, body) if body is not None else None,
    )


async def try_typed(request: web.Request) -> Tried:
    """The typed text, tried before the transaction."""
    profile, name, _ = _shipped(request)
    body = await _body(request)
    return Tried(body, await typed(request, "note"), await tried(request, profile.name, name, body))


async def _body(request: web.Request) -> str:
    """The text as typed; a browser sends every line end as CR LF."""
    text = (await request.post()).get("body", "")
    return text.replace("\r\n", "\n") if isinstance(text, str) else ""


async def post_template(request: web.Request) -> web.Response:
    request[FORM] = _template_page
    profile, name, _ = _shipped(request)
    known = prepared(request, Tried)
    if known.examined.warnings and not known.examined.faults and not await typed(request, "accept"):
        raise Warned(" ".join(known.examined.warnings))
    template = await _template(request, request[SESSION])
    text = template_texts.Text(profile.name, name, known.body or "", known.note, known.examined)
    await refuse_stale(request, template or NoRow())
    if template is None:
        await template_texts.create_template(request[SESSION], request[ACTOR], request[ACCOUNT], text)
    else:
        await template_texts.update_template(request[SESSION], request[ACTOR], template, text)
    return see_other(_href(profile.name, name), "template-saved")


async def get_history(request: web.Request) -> web.Response:
    return await _history_page(request, None)


async def _history_page(request: web.Request, error: EngineError | None) -> web.Response:
    profile, name, shipped = _shipped(request)
    template = await _template(request, request[SESSION])
    if template is None:
        raise NotFound("This account never had a text of its own for that template.")
    versions = list(await store_levels.versions_of(request[SESSION], template.id, limit=VERSIONS_SHOWN))
    texts = {version.number: version.body for version in versions} | {0: None}
    after = _number(request, "to", template.number, texts)
    before = _number(request, "from", _before(versions, after), texts)
    return render(
        request,
        "template_history.html.j2",
        error=error,
        form=await form_of(request, {}, error),
        profile=profile,
        name=name,
        href=_href(profile.name, name),
        row=template,
        asked=await _back_to(request) or 0 if isinstance(error, Warned) else None,
        versions=versions,
        before=before,
        after=after,
        difference=preview.compare_templates(name, shipped, texts[before], texts[after]),
    )


def _number(request: web.Request, name: str, default: int, known: Any) -> int:
    """A version asked for in the address; the default when there is no such one. 0: the shipped text."""
    text = request.query.get(name, "")
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else -1
    if text and number not in known:
        leave_out(request, name, "There is no such version.")
    return number if number in known else (default if default in known else 0)


def _before(versions: list[TemplateVersion], number: int) -> int:
    return max((version.number for version in versions if version.number < number), default=0)


async def try_back(request: web.Request) -> Tried:
    """The version to go back to, tried before the transaction."""
    async with request.app[DATABASE].sessions() as session:
        template = await _template(request, session)
    if template is None:
        raise NotFound("This account never had a text of its own for that template.")
    return await tried_version(request, template, await _back_to(request))


async def _back_to(request: web.Request) -> int | None:
    """The number of a version; None: the shipped text."""
    text = await typed(request, "number")
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 8 and int(text) else None


async def post_revert(request: web.Request) -> web.Response:
    request[FORM] = _history_page
    profile, name, _ = _shipped(request)
    known = prepared(request, Tried)
    template = await _template(request, request[SESSION])
    if template is None:
        raise NotFound("This account never had a text of its own for that template.")
    if known.examined.warnings and not known.examined.faults and not await typed(request, "accept"):
        raise Warned(" ".join(known.examined.warnings))
    await refuse_stale(request, template)
    number = await _back_to(request)
    await template_texts.revert_template(request[SESSION], request[ACTOR], template, number, known.examined)
    return see_other(f"{_href(profile.name, name)}/history", "template-reverted")


_READ, _WRITE = Scope.PROVISIONING_READ, Scope.PROVISIONING_WRITE
ROUTES = (
    Route("GET", LIST, get_templates, _READ, Event.TEMPLATE_LIST),
    Route("GET", _ONE, get_template, _READ, Event.TEMPLATE_READ),
    Route("POST", _ONE, post_template, _WRITE, Event.TEMPLATE_UPDATE, prepare=try_typed),
    Route("GET", f"{_ONE}/history", get_history, _READ, Event.TEMPLATE_VERSIONS_READ),
    Route("POST", f"{_ONE}/revert", post_revert, _WRITE, Event.TEMPLATE_REVERT, prepare=try_back),
)
