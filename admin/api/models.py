"""What goes in and out of the API: one model for each resource's body and answer. The OpenAPI document is made of them.

Types are exact (no "5" for 5), unknown fields are refused, text holds no control characters. Rules that need more than
the field itself stand with the operations; both report every bad field in the same form.
"""

import datetime as dt
from copy import copy
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, create_model
from pydantic_core import PydanticUndefined

from engine.audit.changes import rfc3339
from engine.models import Placement


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Answer(BaseModel):
    """An answer's body."""

    model_config = ConfigDict(from_attributes=True, frozen=True, json_schema_serialization_defaults_required=True)


def _as_utc(at: dt.datetime) -> dt.datetime:
    if at.tzinfo is None:
        raise ValueError("expected a time with its zone, such as 2026-11-21T20:00:00Z")
    try:
        return at.astimezone(dt.UTC)
    except OverflowError:  # at the first or last day there is, in a zone that leads beyond it
        raise ValueError("expected a time between the years 1 and 9999 in UTC") from None


Instant = Annotated[
    dt.datetime, PlainSerializer(rfc3339, return_type=str), Field(json_schema_extra={"format": "date-time"})
]
InstantIn = Annotated[dt.datetime, AfterValidator(_as_utc)]
NAME_PATTERN = r"^[^\x00-\x1f\x7f]*$"  # one line of text; ECMA 262 and Rust read it alike
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=NAME_PATTERN)]
Text = Annotated[str, StringConstraints(max_length=200, pattern=NAME_PATTERN)]
Prefix = Annotated[str, StringConstraints(max_length=40, pattern=NAME_PATTERN)]  # of the subject of a 911 mail
Instructions = Annotated[str, StringConstraints(max_length=300, pattern=NAME_PATTERN)]
Email = Annotated[
    str,
    StringConstraints(min_length=3, max_length=254, pattern=NAME_PATTERN),
    Field(json_schema_extra={"format": "email"}),
]
Number = Annotated[str, StringConstraints(min_length=2, max_length=40, pattern=NAME_PATTERN)]
Secret = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=NAME_PATTERN),
    Field(json_schema_extra={"writeOnly": True}),
]
Port = Annotated[int, Field(ge=1, le=65_535)]
Id = Annotated[str, StringConstraints(max_length=48, pattern=r"^[a-z_]{3,20}_[0-9a-z]{26}$")]
PlacementIn = Annotated[Placement | None, Field(strict=False)]  # a name in JSON
Address = dict[str, Annotated[str, StringConstraints(max_length=200)]]


class StampedAnswer(Answer):
    """What every row that counts its versions says of itself."""

    id: str
    version: int
    created_at: Instant
    updated_at: Instant


class Problem(Answer):
    """RFC 9457 problem details. `code` is stable for scripts; `errors` names every bad field."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    errors: list["FieldProblem"]


class FieldProblem(Answer):
    field: str
    detail: str


class Geo(Answer):
    """WGS 84, degrees and metres."""

    latitude: float
    longitude: float
    altitude_m: float | None = None
    radius_m: float | None = None


def any_json(schema: dict[str, Any]) -> Any:
    """For a field whose schema pydantic cannot guess."""
    return Field(json_schema_extra=schema)


def patch_of(model: type[Body], name: str, *, without: frozenset[str] = frozenset()) -> type[Body]:
    """The same body with every field optional: what a PATCH takes. A field left out has no value at all."""
    fields: dict[str, Any] = {}
    for field_name, info in model.model_fields.items():
        if field_name not in without:
            loose = copy(info)
            loose.default, loose.default_factory = (
                PydanticUndefined,
                lambda: None,
            )  # never looked at: `given` leaves it out
            fields[field_name] = (info.annotation, loose)
    made = create_model(name, __base__=Body, __doc__=model.__doc__, **fields)
    assert issubclass(made, Body)
    return made
