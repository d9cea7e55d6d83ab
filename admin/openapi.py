"""The OpenAPI 3.1 document, made of the routes and their models: what is served is what is described."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from admin.api.models import Problem
from admin.auth import COOKIE
from admin.problems import PROBLEM_JSON
from admin.routes import PUBLIC, SIGNED_IN, Operation, Query, Route

REF = "#/components/schemas/{model}"
REASONS = {
    400: "The request cannot be read.",
    401: "Nobody is signed in, or the key is not known.",
    403: "Not allowed: a scope is missing, or the password must be typed again.",
    404: "There is no such thing in this account.",
    408: "The request took too long to arrive.",
    409: "It collides with something that is there.",
    412: "Somebody else changed it first: the ETag is an older one.",
    413: "The request is too large.",
    415: "Expected application/json.",
    422: "Some fields cannot be accepted; each is named.",
    428: "If-Match is required.",
    429: "Too many requests.",
    500: "Something went wrong here.",
    502: "The SIP process or a phone did not answer.",
    503: "The database is away. 911 calls still go out.",
}
_IF_MATCH = Query("If-Match", {"type": "string"}, "The ETag of what was read.")
_IDEMPOTENCY = Query(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x20-\\x7e]+$"},
    "Send the same key to repeat a request safely; kept for 24 hours.",
)


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The whole document as plain JSON values."""
    described = [(route, route.operation) for route in routes if route.operation is not None]
    paths: dict[str, dict[str, Any]] = {}
    for route, operation in described:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Callpoint",
            "version": version,
            "summary": "Phones, locations, trunks and emergency calls of an account.",
            "description": (
                "Times are RFC 3339 in UTC. Lists are read by `limit` and `cursor`. Writes name the version they "
                "change with `If-Match`. Errors are problem details (RFC 9457). Every operation is in the audit log. "
                "A platform operator names the account to act for with the header `Callpoint-Account`."
            ),
        },
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}, {"session": []}],
        "tags": [{"name": name} for name in sorted({_tag(route) for route, _operation in described})],
        "paths": paths,
        "components": {
            "schemas": _schemas([operation for _route, operation in described]),
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "bearerFormat": "cp_<random>_<checksum>"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
    }


def _schemas(operations: list[Operation]) -> dict[str, Any]:
    models: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [(Problem, "serialization")]
    for operation in operations:
        if operation.body is not None:
            models.append((operation.body, "validation"))
        if operation.answer is not None:
            models.append((operation.answer, "serialization"))
    _map, schema = models_json_schema(list(dict.fromkeys(models)), ref_template=REF)
    found = schema["$defs"]
    assert isinstance(found, dict)
    return found


def _operation(route: Route, operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": operation.summary,
        "tags": [_tag(route)],
        "responses": _responses(route, operation),
        "x-event": route.event.value,
    }
    if route.scope is PUBLIC:
        described["security"] = []
    elif route.scope is not SIGNED_IN:
        described["description"] = f"Scope `{route.scope.value}`. Audited as `{route.event.value}`."
    parameters = [_parameter(query, "query") for query in operation.queries]
    parameters += [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _path_names(route.path)
    ]
    if operation.if_match:
        parameters.append(_parameter(_IF_MATCH, "header") | {"required": True})
    if route.method != "GET":
        parameters.append(_parameter(_IDEMPOTENCY, "header"))
    if parameters:
        described["parameters"] = parameters
    if operation.body_media:
        described["requestBody"] = {"required": True, "content": {operation.body_media: {"schema": {"type": "string"}}}}
    if operation.body is not None:
        described["requestBody"] = {
            "required": not operation.body_optional,
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    return described


def _responses(route: Route, operation: Operation) -> dict[str, Any]:
    success: dict[str, Any] = {"description": operation.summary + "."}
    if operation.answer is not None:
        schema = _page(operation.answer) if operation.is_list else _ref(operation.answer)
        success["content"] = {operation.media_type: {"schema": schema}}
    elif operation.status != 204:
        success["content"] = {operation.media_type: {"schema": {}}}
    headers = {}
    if operation.has_etag:
        headers["ETag"] = {"description": "The version, for If-Match.", "schema": {"type": "string"}}
    if operation.status == 201:
        headers["Location"] = {"description": "Where it is from now on.", "schema": {"type": "string"}}
    if headers:
        success["headers"] = headers
    problems = {status: _problem(status) for status in sorted(_statuses(route, operation))}
    return {str(operation.status): success} | {str(status): answer for status, answer in problems.items()}


def _statuses(route: Route, operation: Operation) -> set[int]:
    """The errors that this operation can answer with."""
    statuses = {400, 422, 500, 503, *operation.errors}
    if route.scope is not PUBLIC:
        statuses |= {401, 403}
    if "{" in route.path:
        statuses.add(404)
    if operation.if_match:
        statuses |= {412, 428}
    if route.method != "GET":
        statuses |= {408, 409, 413}
    if operation.body is not None:
        statuses.add(415)
    return statuses


def _problem(status: int) -> dict[str, Any]:
    return {"description": REASONS[status], "content": {PROBLEM_JSON: {"schema": _ref(Problem)}}}


def _parameter(query: Query, where: str) -> dict[str, Any]:
    return {"name": query.name, "in": where, "description": query.description, "schema": query.schema}


def _page(model: type[BaseModel]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["data", "next_cursor"],
        "properties": {
            "data": {"type": "array", "items": _ref(model)},
            "next_cursor": {"type": ["string", "null"]},
        },
    }


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": REF.format(model=model.__name__)}


def _tag(route: Route) -> str:
    return route.path.removeprefix("/api/v1/").split("/")[0]


def _path_names(path: str) -> list[str]:
    return [part[1:-1].partition(":")[0] for part in path.split("/") if part.startswith("{")]
