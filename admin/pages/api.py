"""`/api` and `/api/{resource}`: the API's reference for people, drawn from the OpenAPI document that is served.

The first page tells what holds for all of it and lists every operation; each resource has a page of its own with its
operations and the objects they speak of.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from typing import Any

from aiohttp import web
from markupsafe import Markup, escape

from admin.api.models import StampedAnswer
from admin.api.reference import openapi
from admin.context import CONFIG
from admin.openapi import REASONS
from admin.pages.api_bodies import BODIES
from admin.pages.api_words import FIELDS
from admin.render import render
from admin.routes import SIGNED_IN, Route, all_routes
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import NotFound

BASE_FIELDS = 8  # an object with as many is not told again in those that have more
STAMPED = frozenset(StampedAnswer.model_fields)
SHARED_BY = 5  # operations, from which on a parameter is told once for all
_ONE_OF = re.compile(r"\^\(?([a-z|]+)\)?\$")  # a pattern that is a list of words
_IDENTIFIER = "^[a-z_]{3,20}_"
_VARIABLE = re.compile(r'"(\$[A-Z_]+)"')
_ACRONYMS = {"api": "API", "pbxs": "PBXs", "openapi.json": "OpenAPI document"}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be, in words. `shape`: the object it is made of; empty when it is none."""

    text: str
    shape: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, or a field of a body or an answer. `default`: JSON text; empty when there is none."""

    name: str
    kind: Kind
    text: Markup
    is_required: bool
    default: str = ""
    where: str = ""  # path | query | header, for parameters


@dataclass(frozen=True, slots=True)
class Shape:
    """An object with its fields. `base`: a shape that it has all of; then `fields` are what it has besides.

    `is_stamped`: it has what every stored object has; those fields are told once, in the rules.
    """

    name: str
    text: Markup
    fields: tuple[Field, ...]
    base: str = ""
    is_stamped: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation. `scope`: empty when none is asked for; `curl` runs in a POSIX shell, `{origin}` still in it.

    `like`: for a change, the operation that explains its fields: the one that makes the resource. Else empty.
    """

    anchor: str
    method: str
    path: str
    summary: str
    scope: str
    event: str
    step_up: bool
    parameters: tuple[Field, ...]
    body: Shape | None
    status: int
    phrase: str
    answer: Kind | None
    media_type: str  # of the answer, where it is no JSON
    headers: tuple[str, ...]
    errors: tuple[int, ...]
    curl: str
    like: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The operations on one resource, and every object they take or answer with. `name`: as in its page's path."""

    name: str
    title: str
    entries: tuple[Entry, ...]
    shapes: tuple[Shape, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """All pages. `problem`: what every error answers with, and what that holds."""

    text: str
    version: str
    groups: tuple[Group, ...]
    shared: tuple[Field, ...]  # parameters that many operations take; told once
    shapes: tuple[Shape, ...]
    problem: tuple[Shape, ...]
    errors: Mapping[int, str]
    everywhere: tuple[int, ...]  # errors that nearly every operation may answer with
    scopes: tuple[str, ...]


async def get_api(request: web.Request) -> web.Response:
    return _page(request, "api.html.j2")


async def get_api_resource(request: web.Request) -> web.Response:
    name = request.match_info["resource"]
    group = next((group for group in reference().groups if group.name == name), None)
    if group is None:
        raise NotFound("The API has no resource of that name. The reference lists all of them.")
    return _page(request, "api_resource.html.j2", group=group)


def _page(request: web.Request, template: str, **content: Any) -> web.Response:
    public_url = request.app[CONFIG].admin.public_url.rstrip("/")
    origin = public_url or f"{request.scheme}://{request.host}"
    return render(request, template, reference=reference(), origin=origin, **content)


@cache
def reference() -> Reference:
    """The pages' content, made once: routes do not change while the process runs."""
    document = openapi()
    schemas = document["components"]["schemas"]
    routes = {(route.method, route.path): route for route in all_routes()}
    groups: dict[str, list[Entry]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            entry = _entry(routes[method.upper(), path], operation, schemas)
            groups.setdefault(operation["tags"][0], []).append(entry)
    every = [entry for entries in groups.values() for entry in entries]
    bodies = {entry.body.name for entry in every if entry.body is not None}
    shapes = _with_bases([_shape(name, schemas) for name in sorted(schemas) if _is_object(schemas[name], name, bodies)])
    by_name = {shape.name: shape for shape in shapes}
    return Reference(
        text=document["info"]["description"],
        version=document["info"]["version"],
        groups=tuple(_group(tag, entries, by_name) for tag, entries in groups.items()),
        shared=_shared(every),
        shapes=shapes,
        problem=_spoken_of({"Problem"}, by_name),
        errors=REASONS,
        everywhere=_everywhere(every),
        scopes=tuple(scope.value for scope in Scope),
    )


def _everywhere(entries: Sequence[Entry]) -> tuple[int, ...]:
    """Those of all operations, and of all but the public ones."""
    count = Counter(status for entry in entries for status in entry.errors)
    signed = sum(1 for entry in entries if entry.scope)
    return tuple(status for status in sorted(count) if count[status] >= signed)


def _group(tag: str, entries: Sequence[Entry], shapes: Mapping[str, Shape]) -> Group:
    made = next((entry for entry in entries if entry.method == "POST" and entry.body is not None), None)
    told = tuple(
        replace(entry, like=made.anchor) if made and entry.method == "PATCH" and _explains(made, entry) else entry
        for entry in entries
    )
    names = {entry.answer.shape for entry in told if entry.answer is not None}
    names |= {field.kind.shape for entry in told if entry.body is not None for field in entry.body.fields}
    return Group(tag, _title(tag), told, _spoken_of(names, shapes))


def _spoken_of(names: set[str], shapes: Mapping[str, Shape]) -> tuple[Shape, ...]:
    """The objects of those names, and the objects in these, by name."""
    found: set[str] = set()
    while names := (names & shapes.keys()) - found:
        found |= names
        known = [shapes[name] for name in names]
        names = {shape.base for shape in known} | {field.kind.shape for shape in known for field in shape.fields}
    return tuple(shapes[name] for name in sorted(found))


def _explains(made: Entry, change: Entry) -> bool:
    return made.body is not None and change.body is not None and _meanings(change.body) <= _meanings(made.body)


def _meanings(shape: Shape) -> set[tuple[str, Kind]]:
    return {(field.name, field.kind) for field in shape.fields}


def _with_bases(shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """The shapes, each with what a large other one has already told left out."""
    large = [shape for shape in shapes if len(shape.fields) >= BASE_FIELDS]
    told = []
    for shape in shapes:
        base = next((other for other in large if _meanings(other) < _meanings(shape)), None)
        if base is not None:
            names = {field.name for field in base.fields}
            more = tuple(field for field in shape.fields if field.name not in names)
            told.append(replace(shape, fields=more, base=base.name))
        else:
            told.append(shape)
    return tuple(told)


def _shared(entries: Iterable[Entry]) -> tuple[Field, ...]:
    counts = Counter(parameter for entry in entries for parameter in entry.parameters)
    return tuple(parameter for parameter, count in counts.items() if count >= SHARED_BY)


def _title(tag: str) -> str:
    if tag in _ACRONYMS:
        return _ACRONYMS[tag]
    first, *others = tag.split("-")
    return " ".join([_ACRONYMS.get(first, first.capitalize()), *others])


def _is_object(schema: Mapping[str, Any], name: str, bodies: set[str]) -> bool:
    return "properties" in schema and name not in bodies


def _entry(route: Route, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Entry:
    parameters = operation.get("parameters", [])
    body = operation.get("requestBody")
    as_json = body["content"].get("application/json") if body else None
    name = _ref_name(as_json["schema"]) if as_json else ""
    statuses = {int(status): answer for status, answer in operation["responses"].items()}
    status = min(statuses)
    media_type, answer = _answer(statuses[status], schemas)
    return Entry(
        anchor=operation["operationId"],
        method=route.method,
        path=route.path,
        summary=operation["summary"],
        scope=route.scope.value if isinstance(route.scope, Scope) else "",
        event=operation["x-event"],
        step_up=route.step_up,
        parameters=tuple(_parameter(parameter, schemas) for parameter in parameters),
        body=_shape(name, schemas) if name else None,
        status=status,
        phrase=HTTPStatus(status).phrase,
        answer=answer,
        media_type="" if media_type == "application/json" else media_type,
        headers=tuple(statuses[status].get("headers", {})),
        errors=tuple(status for status in sorted(statuses) if status >= 400),
        curl=_curl(route, is_public=operation.get("security") == [], body=name),
    )


def _answer(answer: Mapping[str, Any], schemas: Mapping[str, Any]) -> tuple[str, Kind | None]:
    """The media type of a success and what is in it; a page of a list is told as a list."""
    for media_type, content in answer.get("content", {}).items():
        schema = content["schema"]
        data = schema.get("properties", {}).get("data")
        if data is not None:
            rows = _kind(data, schemas)
            return media_type, Kind(f"page: {rows.text}", rows.shape)
        return media_type, _kind(schema, schemas) if schema else None
    return "application/json", None


def _parameter(parameter: Mapping[str, Any], schemas: Mapping[str, Any]) -> Field:
    schema = parameter["schema"]
    text = parameter.get("description") or ("The identifier." if parameter["name"] == "id" else "Its name.")
    return Field(
        parameter["name"], _kind(schema, schemas), marked(text), parameter.get("required", False),
        json.dumps(schema["default"]) if "default" in schema else "", parameter["in"],
    )  # fmt: skip


def _shape(name: str, schemas: Mapping[str, Any]) -> Shape:
    schema = schemas[name]
    required = schema.get("required", ())
    is_stamped = schema["properties"].keys() >= STAMPED
    return Shape(
        name,
        marked(schema.get("description", "")),
        tuple(
            _field(name, field, value, schemas, is_required=field in required)
            for field, value in schema["properties"].items()
            if not (is_stamped and field in STAMPED)
        ),
        is_stamped=is_stamped,
    )


def _field(shape: str, name: str, schema: Mapping[str, Any], schemas: Mapping[str, Any], *, is_required: bool) -> Field:
    text = schema.get("description") or FIELDS.get(f"{shape}.{name}") or FIELDS.get(name, "")
    # null as a default goes without saying: the field may be null and is not required
    has_default = schema.get("default") is not None and schema["default"] != ""
    default = json.dumps(schema["default"]) if has_default else ""
    return Field(name, _kind(schema, schemas), marked(text), is_required, default)


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Kind:
    """A JSON Schema in words, such as `list (at most 50) of e-mail address`."""
    if "$ref" in schema:
        return _named(_ref_name(schema), schemas)
    if "anyOf" in schema:
        kinds = [_kind(choice, schemas) for choice in schema["anyOf"]]
        return Kind(" or ".join(kind.text for kind in kinds), next((kind.shape for kind in kinds if kind.shape), ""))
    if schema.get("type") == "array":
        items = _kind(schema.get("items", {}), schemas)
        return Kind(f"list{_at_most(schema.get('maxItems'))} of {items.text}", items.shape)
    return Kind(_plain(schema))


def _named(name: str, schemas: Mapping[str, Any]) -> Kind:
    schema = schemas[name]
    if name == "Scope":
        return Kind("scope")  # the page lists them once
    return Kind(name, name) if "properties" in schema else _kind(schema, schemas)


def _plain(schema: Mapping[str, Any]) -> str:
    """A schema without parts in words."""
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    name = schema.get("type", "any value")
    if isinstance(name, list):
        return " or ".join(name)
    if name == "string":
        return _string(schema)
    low, high = schema.get("minimum"), schema.get("maximum")
    return name if low is None or high is None else f"{name} ({low} to {high})"


def _string(schema: Mapping[str, Any]) -> str:
    pattern = str(schema.get("pattern", ""))
    words = _ONE_OF.fullmatch(pattern)
    if words is not None:
        return words[1].replace("|", " | ")
    if pattern.startswith(_IDENTIFIER):
        return "identifier"
    formats = {"date-time": "time (RFC 3339)", "email": "e-mail address"}
    known = formats.get(schema.get("format", ""))
    return known or "string" + _at_most(schema.get("maxLength"))


def _at_most(limit: int | None) -> str:
    return f" (at most {limit})" if limit is not None else ""


def _ref_name(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _curl(route: Route, *, is_public: bool, body: str) -> str:
    """A command that does it. Keys, identifiers and versions are shell variables, so it can be pasted as it is."""
    path = re.sub(r"\{(\w+)[^}]*\}", lambda found: f"${found[1].upper()}", route.path)
    method = "" if route.method == "GET" else f"-X {route.method} "
    parts = [f'curl {method}"{{origin}}{path}"']
    if not is_public:
        parts.append('-H "Authorization: Bearer $CALLPOINT_KEY"')
    if route.operation is not None and route.operation.if_match:
        parts.append('-H "If-Match: $ETAG"')
    if body:
        text = json.dumps(BODIES.get(body, {}), ensure_ascii=False)
        # out of the single quotes and in again: there the shell puts the value in
        text = _VARIABLE.sub(lambda found: f"""\"'"{found[1]}"'\"""", text)
        parts += ['-H "Content-Type: application/json"', f"-d '{text}'"]
    if route.operation is not None and route.operation.body_media:
        parts += [f'-H "Content-Type: {route.operation.body_media}"', "--data-binary @$FILE"]
    return " \\\n  ".join(parts)


def marked(text: str) -> Markup:
    """A sentence of the document with what stands in backticks as code."""
    parts: Iterable[Markup] = (
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(text.split("`"))
    )
    return Markup("").join(parts)


ROUTES = (
    Route("GET", "/api", get_api, SIGNED_IN, Event.OPENAPI_READ),
    Route("GET", "/api/{resource}", get_api_resource, SIGNED_IN, Event.OPENAPI_READ),
)
