"""A phone's function keys as a setting holds them: read, checked, and put where the model has room (pure).

The setting `function_keys` is a list of objects:

    {"position": 3, "kind": "blf", "value": "102", "label": "Zoë", "line": 1}

`position` is the number the phone's user sees: line key 3 is position 3, whatever the vendor's file calls it. Which
kinds a family's grammar can say, how many keys a model has and whether its lines sit on the same keys stands in the
family's `profile.toml`. What a family cannot say is refused where the phone is saved; where a list comes from a level
that speaks of many phones, each phone takes the keys it can hold and `misfits` names the others.

A key dials or subscribes; it is never part of a dial plan, so a key whose number is an emergency number is allowed.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from engine.errors import FieldFault

SETTING = "function_keys"
MAX_KEYS = 300  # the largest model with its side cars: 5 x 60
MAX_LABEL_CHARACTERS = 60  # longer than any phone shows
MAX_LINE = 250
_NUMBER = re.compile(r"[0-9A-Za-z*#+._-]{1,64}(?:@[0-9A-Za-z.-]{1,100})?\Z")
_DTMF = re.compile(r"[0-9A-D*#,]{1,64}\Z")
_FIELDS = ("position", "kind", "value", "label", "line")


class KeyKind(StrEnum):
    BLF = "blf"  # shows whether an extension is busy, dials it, picks up its call
    SPEED_DIAL = "speed_dial"
    PARK = "park"  # parks the call at, or takes it from, a place such as 701
    PICKUP = "pickup"  # takes the call that rings at an extension
    INTERCOM = "intercom"  # calls an extension that answers at once
    DTMF = "dtmf"  # sends digits in a call
    NONE = "none"  # empties the key


@dataclass(frozen=True, slots=True)
class FunctionKey:
    """`position` from 1; `line`: the registration it uses, from 1. `label` empty: the value is shown."""

    position: int
    kind: KeyKind
    value: str = ""
    label: str = ""
    line: int = 1


@dataclass(frozen=True, slots=True)
class KeyRoom:
    """What a phone can hold: its family's title and kinds, its model's name and number of keys, and the positions
    that lines sit on.
    """

    title: str
    model: str
    kinds: Collection[KeyKind]
    keys: int
    lines: int = 1
    taken: Collection[int] = ()


def read(value: Sequence[Mapping[str, Any]]) -> tuple[FunctionKey, ...]:
    """The keys of a setting that `faults` found nothing in, by position."""
    keys = (
        FunctionKey(
            position=entry["position"],
            kind=KeyKind(entry["kind"]),
            value=entry.get("value", ""),
            label=entry.get("label", ""),
            line=entry.get("line", 1),
        )
        for entry in value
    )
    return tuple(sorted(keys, key=lambda key: key.position))


def faults(value: Any) -> tuple[FieldFault, ...]:
    """Everything wrong with the setting, each entry by its place: `2.kind`, `4.position`."""
    if not isinstance(value, list):
        return (FieldFault("", "expected a list of keys"),)
    if len(value) > MAX_KEYS:
        return (FieldFault("", f"expected at most {MAX_KEYS} keys, got {len(value)}"),)
    found = [FieldFault(f"{at}{path}", text) for at, entry in enumerate(value) for path, text in _entry_faults(entry)]
    seen: dict[int, int] = {}
    for at, entry in enumerate(value):
        position = entry.get("position") if isinstance(entry, dict) else None
        if isinstance(position, int) and seen.setdefault(position, at) != at:
            found.append(FieldFault(f"{at}.position", f"key {position} is there twice"))
    return tuple(found)


def _entry_faults(entry: Any) -> list[tuple[str, str]]:
    if not isinstance(entry, dict):
        return [("", f"expected an object with {', '.join(_FIELDS)}, got {entry!r:.40}")]
    found = [(f".{name}", f"not a field of a key; known are {', '.join(_FIELDS)}") for name in set(entry) - {*_FIELDS}]
    found += _whole_faults(entry, "position", MAX_KEYS)
    if "line" in entry:
        found += _whole_faults(entry, "line", MAX_LINE)
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in {*KeyKind}:
        return [*found, (".kind", f"expected one of {', '.join(KeyKind)}, got {_told(kind)}")]
    return [*found, *_text_faults(KeyKind(kind), entry)]


def _told(value: Any) -> str:
    """What was found in place of a right value."""
    return "nothing" if value in ("", None) else f"{value!r:.80}"


def _whole_faults(entry: Mapping[str, Any], name: str, most: int) -> list[tuple[str, str]]:
    value = entry.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return []
    return [(f".{name}", f"expected a whole number from 1 to {most}, got {_told(value)}")]


def _text_faults(kind: KeyKind, entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = []
    value, label = entry.get("value", ""), entry.get("label", "")
    if kind is KeyKind.NONE:
        if value != "":
            found.append((".value", "an empty key has no value; leave it out"))
    elif kind is KeyKind.DTMF:
        if not isinstance(value, str) or not _DTMF.match(value):
            found.append((".value", f"expected digits, A to D, *, # and commas for pauses, got {_told(value)}"))
    elif not isinstance(value, str) or not _NUMBER.match(value):
        found.append((".value", f"expected a number or extension without spaces or quotes, got {_told(value)}"))
    if not isinstance(label, str) or len(label) > MAX_LABEL_CHARACTERS or not label.isprintable():
        found.append((".label", f"expected at most {MAX_LABEL_CHARACTERS} printable characters, got {label!r:.80}"))
    return found


# --- Where a phone has room -------------------------------------------------------------------------------------------


def placed(keys: Sequence[FunctionKey], room: KeyRoom) -> tuple[FunctionKey, ...]:
    """The keys this phone can hold, by position."""
    return tuple(key for key in keys if _misfit(key, room) is None)


def misfits(keys: Sequence[FunctionKey], room: KeyRoom) -> tuple[FieldFault, ...]:
    """Every key this phone cannot hold, with the reason; the field is the key's place among those given."""
    found = ((at, _misfit(key, room)) for at, key in enumerate(keys))
    return tuple(FieldFault(f"{at}.{fault[0]}", fault[1]) for at, fault in found if fault is not None)


def _misfit(key: FunctionKey, room: KeyRoom) -> tuple[str, str] | None:
    if room.keys == 0:
        return "position", f"A {room.title} {room.model} has no function keys that can be set from here."
    if key.position > room.keys:
        return "position", f"A {room.model} has {room.keys} function keys, got position {key.position}."
    if key.kind is not KeyKind.NONE and key.kind not in room.kinds:
        known = ", ".join(sorted(room.kinds))
        return "kind", f"A {room.title} phone has no key of the kind {key.kind}; it knows {known}."
    if key.position in room.taken:
        return "position", f"A line of this phone sits on key {key.position}: put the function key behind the lines."
    if key.line > max(1, room.lines):
        return "line", f"This phone has {room.lines} lines, got line {key.line}."
    return None
