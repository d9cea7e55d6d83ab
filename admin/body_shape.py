"""The faults of a body's shape in our own words, and what is left of the body without them."""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, from_json, to_json

from admin.api.models import NAME_PATTERN
from engine.errors import FieldFault

_Model = TypeVar("_Model", bound=BaseModel)

# by pydantic's error types; braces name what the error tells of the rule. What was sent is never repeated.
_SENTENCES = {
    "missing": "This field is required.",
    "extra_forbidden": "No such field.",
    "string_type": "Expected text.",
    "string_too_short": "Expected at least {min_length}.",
    "string_too_long": "Expected at most {max_length}.",
    "bool_type": "Expected true or false.",
    "int_type": "Expected a whole number.",
    "int_from_float": "Expected a whole number.",
    "int_parsing_size": "Expected a smaller number.",
    "float_type": "Expected a number.",
    "finite_number": "Expected a number that is not infinite.",
    "greater_than_equal": "Expected {ge} or more.",
    "greater_than": "Expected more than {gt}.",
    "less_than_equal": "Expected {le} or less.",
    "less_than": "Expected less than {lt}.",
    "multiple_of": "Expected a multiple of {multiple_of}.",
    "enum": "Expected one of {expected}.",
    "literal_error": "Expected one of {expected}.",
    "union_tag_invalid": "Expected one of {expected_tags}.",
    "union_tag_not_found": "Its kind is missing.",
    "list_type": "Expected a list.",
    "dict_type": "Expected an object.",
    "model_type": "Expected an object.",
    "model_attributes_type": "Expected an object.",
    "none_required": "Expected nothing (null).",
    "too_short": "Expected at least {min_length} of them.",
    "too_long": "Expected at most {max_length} of them.",
    "datetime_type": "Expected a time such as 2026-11-21T20:00:00Z.",
    "datetime_parsing": "Expected a time such as 2026-11-21T20:00:00Z.",
    "datetime_from_date_parsing": "Expected a time such as 2026-11-21T20:00:00Z.",
    "datetime_object_invalid": "Expected a time such as 2026-11-21T20:00:00Z.",
}
_ONE_OF = "Expected one of "
_PATTERNS = {
    NAME_PATTERN: "Expected one line without control characters.",
    r"^[a-z_]{3,20}_[0-9a-z]{26}$": "Expected an identifier as it was given by this API.",
    r"^(template|settings)$": "Expected template or settings.",
    r"^(pbx|direct)$": "Expected pbx or direct.",
    r"^[!-~]*$": "Expected printable ASCII characters without spaces.",
    r"^[0-9A-Za-z*#+._-]+$": "Expected letters, digits and * # + . _ - only.",
    r"^[a-z0-9][a-z0-9_-]{0,39}$": "Expected small letters, digits, - and _, 40 at most.",
    r"^[A-Za-z0-9+/]*={0,2}$": "Expected base64.",
}
# values that an operation can work on as they came: what is wrong with them is their size or their letters
_MEASURED = frozenset(
    {
        "string_too_short", "string_too_long", "string_pattern_mismatch", "greater_than", "greater_than_equal",
        "less_than", "less_than_equal",
    }
)  # fmt: skip
_STAND_INS: tuple[Any, ...] = ("stand-in", f"none_{'0' * 26}", 1, 30, [], {}, False)


def faults_of(errors: Sequence[ErrorDetails]) -> tuple[FieldFault, ...]:
    """Pydantic's errors as ours, with paths as the API writes them (`billing_address.city`, `sources[1]`)."""
    told: dict[str, str] = {}
    for error in _of_the_kind_meant(errors):
        path, said = _path(error["loc"]), sentence(error)
        if path in told and told[path] != said and said.startswith(_ONE_OF):  # each kind names itself alone
            told[path] = f"{told[path].rstrip('.')}, {said.removeprefix(_ONE_OF)}"
        else:
            told.setdefault(path, said)
    return tuple(FieldFault(path, said) for path, said in told.items())


def unstorable(data: bytes) -> tuple[FieldFault, ...]:
    """Each text of a JSON body, names of fields included, that holds a NUL: PostgreSQL takes none in any column."""
    if b"\\u0000" not in data:  # JSON has no other way to write one (RFC 8259 §7)
        return ()
    try:
        body = from_json(data)
    except ValueError:
        return ()  # told as what it is, no JSON
    return tuple(FieldFault(_path(loc), "Expected text without NUL characters.") for loc in _with_nul(body, ()))


def _with_nul(value: Any, loc: tuple[int | str, ...]) -> Iterator[tuple[int | str, ...]]:
    if isinstance(value, str) and "\0" in value:
        yield loc
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _with_nul(inner, (*loc, at))
    elif isinstance(value, dict):
        for name, inner in value.items():
            if "\0" in name:
                yield loc
            else:
                yield from _with_nul(inner, (*loc, name))


def _of_the_kind_meant(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Of a field that takes one of several bodies: the errors of the one that was meant, or that it is none of them."""
    wrong: dict[tuple[int | str, ...], ErrorDetails] = {}  # by path as far as the body's name: not the one meant
    for error in errors:
        if error["type"] == "literal_error" and len(error["loc"]) > 1 and _is_body(error["loc"][-2]):
            wrong[error["loc"][:-1]] = error
    fields = {loc[:-1] for loc in wrong}
    met = {
        error["loc"][: len(field)]
        for error in errors
        for field in fields
        if error["loc"][: len(field)] == field and error["loc"][: len(field) + 1] not in wrong
    }
    kept = []
    for error in errors:
        branch = next((loc for loc in wrong if error["loc"][: len(loc)] == loc), None)
        if branch is None or (branch[:-1] not in met and error is wrong[branch]):
            kept.append(error)
    return kept


def _is_body(part: int | str) -> bool:
    """Whether a part of a path is the name of one of the bodies that a field takes; no field is called like that."""
    return isinstance(part, str) and part.endswith("Body")


def _path(loc: Sequence[int | str]) -> str:
    # a key of an object is told as `{name}.[key]` by pydantic; the name says enough
    parts = (
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc if part != "[key]" and not _is_body(part)
    )
    return "".join(parts).lstrip(".") or "(body)"


def sentence(error: ErrorDetails) -> str:
    """What was expected. A type of error that we have no words for is told in the validator's."""
    kind, rule = error["type"], dict(error.get("ctx", {}))
    if kind == "value_error":
        said = str(rule.get("error", "")) or error["msg"]
        return f"{said[:1].upper()}{said[1:].rstrip('.')}."
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(rule["pattern"]), f"Expected text of the form {rule['pattern']}")
    if kind in {"string_too_short", "string_too_long"}:
        rule = {name: f"{size} character{'' if size == 1 else 's'}" for name, size in rule.items()}
    if kind in {"enum", "literal_error", "union_tag_invalid"}:
        rule = {name: str(words).replace("'", "") for name, words in rule.items()}
    return _SENTENCES[kind].format_map(rule) if kind in _SENTENCES else f"{error['msg']}."


def remaining(model: type[_Model], sent: Any, errors: Sequence[ErrorDetails]) -> _Model | None:
    """The body without its bad fields, for the checks that come after; None when nothing sensible remains.

    A bad field counts as not sent, and a required one gets a stand-in; but text and numbers of a wrong size stay as
    they came, so that a rule between two fields is not said to be broken by the absence of one.
    """
    if not isinstance(sent, dict) or any(not error["loc"] for error in errors):
        return None
    heads = {str(error["loc"][0]) for error in errors}
    for cut in ([error["loc"] for error in errors], [(head,) for head in heads]):
        left = _completed(model, _without(sent, cut))
        try:
            body = model.model_validate_json(to_json(left))
        except ValidationError:
            continue
        return body.model_copy(update=_measured(sent, errors))
    return None


def _without(sent: Mapping[str, Any], paths: Sequence[Sequence[int | str]]) -> dict[str, Any]:
    """`sent` without the values at those paths; where a list is on the way, without the list."""
    left = dict(sent)
    for path in paths:
        head, rest = str(path[0]), path[1:]
        inner = left.get(head)
        if rest and isinstance(inner, dict) and rest[0] in inner:
            left[head] = _without(inner, [rest])
        else:
            left.pop(head, None)
    return left


def _completed(model: type[BaseModel], left: dict[str, Any]) -> dict[str, Any]:
    for name, info in model.model_fields.items():
        if info.is_required() and name not in left:
            left[name] = _stand_in(info)
    return left


def _stand_in(info: FieldInfo) -> Any:
    """Something of the right shape. What an operation says of it is not told: the field itself was told as bad."""
    if isinstance(info.annotation, type) and issubclass(info.annotation, Enum):
        return next(iter(info.annotation)).value
    adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
    for value in _STAND_INS:
        try:
            adapter.validate_json(to_json(value), strict=True)
        except ValidationError:
            continue
        return value
    return None


def _measured(sent: Mapping[str, Any], errors: Sequence[ErrorDetails]) -> dict[str, Any]:
    """Fields that are of the right type throughout, as they came."""
    kinds: dict[str, set[str]] = {}
    for error in errors:
        kinds.setdefault(str(error["loc"][0]), set()).add(error["type"])
    return {
        name: sent[name]
        for name, found in kinds.items()
        if name in sent and found <= _MEASURED and _is_plain(sent[name])
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, str | int | float)
