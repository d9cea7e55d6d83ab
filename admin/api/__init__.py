"""What all API handlers share: reading bodies and parameters, naming versions, writing answers.

A body becomes a frozen pydantic model that reports every bad field. A PATCH changes the fields it names: those left out
stay, null empties what may be empty, an object or a list is replaced as a whole.
"""

import json
from typing import Any, TypeVar

from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from admin import bad_fields, body_shape
from admin.context import ACCOUNT, RESOURCE, SESSION
from admin.problems import BadRequest, UnsupportedMediaType
from engine.accounts import store
from engine.db import Base
from engine.errors import FieldFault, Invalid, PreconditionRequired, Stale
from engine.models import Stamped

Model = TypeVar("Model", bound=BaseModel)
Row = TypeVar("Row", bound=Base)


async def body_of(request: web.Request, model: type[Model]) -> Model:
    """The request's JSON body; in a handler that changes rows, what is left of it without its bad fields.

    The bad ones are then told together with those that the operation finds (`admin.bad_fields`).

    Raises:
        UnsupportedMediaType, BadRequest (no JSON at all), Invalid (every bad field).
    """
    data = await request.read()
    if request.content_type != "application/json":
        raise UnsupportedMediaType(f"Expected application/json, got {request.content_type}.")
    if unstorable := body_shape.unstorable(data):
        raise Invalid("Some fields cannot be accepted.", fields=unstorable)
    try:
        return model.model_validate_json(data)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        if errors[0]["type"] == "json_invalid":
            raise BadRequest(f"Expected JSON: {errors[0]['msg']}.") from exc
        faults = body_shape.faults_of(errors)
        left = body_shape.remaining(model, from_json(data), errors) if bad_fields.takes_notes(request) else None
        if left is None:
            raise Invalid("Some fields cannot be accepted.", fields=faults) from exc
    bad_fields.note(request, faults)
    return left


async def body_or_default(request: web.Request, model: type[Model]) -> Model:
    """As `body_of`; with no body at all, the model's defaults."""
    return await body_of(request, model) if await request.read() else model()


def given(body: BaseModel) -> dict[str, Any]:
    """The fields that the body really names, as the values they are stored as."""
    return body.model_dump(exclude_unset=True)


def no_query(request: web.Request, *known: str) -> None:
    """Refuse parameters nobody reads: a misspelt filter must not look like one that found everything.

    Raises:
        Invalid: every unknown parameter.
    """
    unknown = sorted(set(request.query) - set(known))
    if unknown:
        expected = f"Expected {', '.join(known)}." if known else "Nothing is read from the address here."
        raise Invalid(
            "Some parameters are not known here.",
            fields=tuple(FieldFault(_short(name), f"No such parameter. {expected}") for name in unknown),
        )


def _short(name: str) -> str:
    return "".join(char for char in name[:60] if char.isprintable())


async def row_named(request: web.Request, model: type[Row], *, to_change: bool = False) -> Row:
    """The row that the path's `{id}` names, of this account; the audit entry names it whatever comes of the request.

    Raises:
        NotFound. With `to_change`, PreconditionRequired or Stale when the model counts versions.
    """
    account_id = request[ACCOUNT].id
    row = await store.row_of(request[SESSION], model, account_id, request.match_info["id"], for_update=to_change)
    name = getattr(row, "name", None) or getattr(row, "label", None) or getattr(row, "email", None) or ""
    request[RESOURCE] = (getattr(row, "resource_type", model.__tablename__), row.id, str(name))  # type: ignore[attr-defined]
    if to_change and isinstance(row, Stamped):
        match_version(request, row)
    return row


def match_version(request: web.Request, row: Stamped) -> None:
    """Let a change through only when it was made from what is stored now (RFC 9110 §13.1.1).

    Raises:
        PreconditionRequired: no If-Match. Stale: another version. BadRequest: no entity tags.
    """
    header = request.headers.get(hdrs.IF_MATCH)
    if header is None:
        raise PreconditionRequired("Send If-Match with the ETag of what you read, so that nobody's change is lost.")
    tags = [tag.strip() for tag in header.split(",")]
    if any(tag != "*" and not (len(tag) >= 2 and tag.startswith('"') and tag.endswith('"')) for tag in tags):
        raise BadRequest('If-Match: expected the ETag as it was given, such as "3".')
    if "*" not in tags and etag_of(row) not in tags:
        raise Stale("This was changed after you read it. Read it again and repeat your change.")


def etag_of(row: Stamped) -> str:
    return f'"{row.version}"'


def answered(body: BaseModel, row: object = None, *, status: int = 200, location: str | None = None) -> web.Response:
    """A JSON answer; with the row's version as ETag, and with where to find what was made."""
    headers = {}
    if isinstance(row, Stamped):
        headers[hdrs.ETAG] = etag_of(row)
    if location is not None:
        headers[hdrs.LOCATION] = location
    return web.Response(
        body=body.model_dump_json().encode(), status=status, content_type="application/json", headers=headers
    )


def json_answered(body: Any, content_type: str = "application/json") -> web.Response:
    """JSON that is no model's, such as the OpenAPI document."""
    return web.Response(body=json.dumps(body, ensure_ascii=False).encode(), content_type=content_type)


def no_content() -> web.Response:
    return web.Response(status=204)
