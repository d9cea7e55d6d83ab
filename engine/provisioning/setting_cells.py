"""A setting as one cell of a table, or one field of a form, holds it (pure)."""

import json
import re
from collections.abc import Iterable
from typing import Any

from engine.errors import FieldFault
from engine.provisioning.settings import setting_faults

_WORDS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def setting_in(name: str, text: str) -> tuple[Any, tuple[FieldFault, ...]]:
    """A setting as a cell holds it: a word, a number, yes or no, names parted by spaces or commas, or JSON. The first
    reading that the setting accepts counts. `null` is no value at all, whatever a more general level says.
    """
    if text == "null":
        return None, ()
    readings = list(_readings(text))
    for value in readings:
        if not setting_faults({name: value}):
            return value, ()
    return None, setting_faults({name: readings[0]})


def _readings(text: str) -> Iterable[Any]:
    if text[:1] in {"[", "{", '"'}:
        try:
            yield json.loads(text)
        except ValueError:
            pass
        except RecursionError:
            return
    if text.isascii() and text.isdigit() and len(text) < 10:
        yield int(text)
    if text.casefold() in _WORDS:
        yield _WORDS[text.casefold()]
    yield text
    yield [part for part in re.split(r"[\s,;]+", text) if part]


def setting_out(name: str, value: Any) -> str:
    """The cell that `setting_in` reads as that value."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    plain = str(value) if isinstance(value, str | int) else ""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        plain = " ".join(value)
    read_back, faults = setting_in(name, plain) if plain and plain == plain.strip() else (None, ())
    if plain and not faults and read_back == value and type(read_back) is type(value):
        return plain
    return json.dumps(value, ensure_ascii=False)
