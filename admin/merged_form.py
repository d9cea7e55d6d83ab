"""A form that was filled in before somebody else changed the record: what each of the two changed stands in it.

Theory of operation. A form carries, hidden, what its fields held when it was shown. When the record has moved on by the
time it comes, three states are known of each field: as it was shown, as it was sent, as it is now. A field that was not
touched takes what is now; one that only this person touched keeps what was typed; of one that both changed, what was
typed stays and the other's value is told beside it. Lists are merged entry by entry. Nothing is stored on that word:
the form is shown again, and whoever sent it looks and saves once more.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from admin import field_words
from engine.errors import FieldFault
from engine.provisioning.preview import changed_parts

MOST_CHARACTERS = 60
MOST_TOLD = 12

Held = str | bool | list[str]


@dataclass(frozen=True, slots=True)
class Merged:
    """The fields to show. `taken`: what of the other's changes stands in them now; `faults`: where both changed."""

    values: dict[str, Held]
    taken: tuple[str, ...]
    faults: tuple[FieldFault, ...]


def packed(values: Mapping[str, Any]) -> str:
    """What the fields hold, for the hidden field (JSON)."""
    plain = {name: held for name, value in values.items() if (held := _held(value)) is not None}
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def unpacked(text: str) -> dict[str, Held] | None:
    """The fields as they were shown; None: the form did not say, or said nothing that can be read."""
    try:
        read = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(read, dict):
        return None
    return {name: held for name, value in read.items() if (held := _held(value)) is not None}


def merge(
    shown: Mapping[str, Held],
    sent: Mapping[str, Held],
    now: Mapping[str, Any],
    labels: Mapping[str, str] | None = None,
    *,
    kind: str = "",
) -> Merged:
    """Bring the three together.

    Args:
        sent: The fields that were sent; a list of the record may come as the text of one entry a line.
        now: The fields of the record as it is.
        labels: What people call fields that this form alone has.
        kind: What the record is (`admin.field_words.LABELS`).
    """
    values: dict[str, Held] = {}
    taken: list[str] = []
    faults: list[FieldFault] = []
    for name, value in now.items():
        current = _held(value)
        if current is None:
            continue
        before = _alike(shown.get(name, current), current)
        typed = _alike(sent.get(name, before), current)
        if typed in (before, current):
            values[name] = value if isinstance(value, str) else current
            if current not in (before, typed):
                taken.append(
                    f"{(labels or {}).get(name) or field_words.label_of(name, kind)} ({_change(name, before, current)})"
                )
        elif current == before:
            values[name] = sent[name] if isinstance(current, str) else typed
        else:
            values[name] = _both(before, typed, current) if isinstance(current, list) else sent[name]
            faults.append(FieldFault(name, _told(name, before, current)))
    return Merged(values, tuple(taken), tuple(faults))


def entries_of(text: str) -> list[str]:
    """A field of one entry a line; commas part entries too."""
    return [part.strip() for part in text.replace(",", "\n").splitlines() if part.strip()]


def sentence_of(merged: Merged) -> str:
    """What the form says at its head."""
    told = "; ".join(merged.taken[:MOST_TOLD]) + ("; and more" if len(merged.taken) > MOST_TOLD else "")
    said = [f"Taken over from them, and shown here now: {told}."] if told else []
    said += ["Both of you changed the marked fields: yours stands there, theirs beside it."] if merged.faults else []
    return " ".join([*said, "Nothing was saved yet: look it over, then save once more."])


def _held(value: Any) -> Held | None:
    """The value as a form sends it back; None: no field holds such a thing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int | float):
        return str(value).replace("\r\n", "\n").strip()
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [str(item).strip() for item in value]
    return None


def _alike(value: Held, current: Held) -> Held:
    """The value as the kind of thing that the record holds."""
    if isinstance(current, list):
        return entries_of(value) if isinstance(value, str) else list(value) if isinstance(value, list) else []
    if isinstance(current, bool):
        return value is True or value == "on"
    return _held(value) or "" if isinstance(value, str) else ""


def _both(before: Held, typed: Held, current: list[str]) -> list[str]:
    """The list as it is, with what the typed one added and without what it took away."""
    assert isinstance(before, list)
    assert isinstance(typed, list)
    kept = [entry for entry in current if entry in typed or entry not in before]
    return [*kept, *(entry for entry in typed if entry not in before and entry not in kept)]


def _told(name: str, before: Held, current: Held) -> str:
    if isinstance(current, list):
        return f"Somebody else changed this list too ({_change(name, before, current)}). Both changes stand here."
    if name.endswith("_id"):
        return "Somebody else chose another here meanwhile. Saving once more puts yours in place of theirs."
    return (
        f"Somebody else changed this too ({_change(name, before, current)}). Saving once more puts yours in place of "
        "theirs."
    )


def _change(name: str, before: Held, current: Held) -> str:
    if isinstance(current, list) and isinstance(before, list):
        added = [entry for entry in current if entry not in before]
        removed = [entry for entry in before if entry not in current]
        said = [f"{_cut(', '.join(added))} added"] if added else []
        said += [f"{_cut(', '.join(removed))} removed"] if removed else []
        return "; ".join(said) or "another order"
    if name.endswith("_id"):
        return "another one"
    if isinstance(before, str) and isinstance(current, str) and "\n" in before + current:
        return _lines_changed(before, current)
    return f"{_cut(field_words.value_of(name, before))} → {_cut(field_words.value_of(name, current))}"


def _lines_changed(before: str, current: str) -> str:
    """Of a text of many lines how many differ, and the first of them."""
    old, new = before.splitlines(), current.splitlines()
    parts = changed_parts(old, new)
    if not parts:
        return "line ends only"
    count = sum(max(old_end - old_at, new_end - new_at) for old_at, old_end, new_at, new_end in parts)
    old_at, old_end, new_at, new_end = parts[0]
    first = f"{_cut(' '.join(old[old_at:old_end]))} → {_cut(' '.join(new[new_at:new_end]))}"
    return f"line {new_at + 1}: {first}" if count == 1 else f"{count} lines, the first at line {new_at + 1}: {first}"


def _cut(value: str) -> str:
    text = " ".join(value.split()) or "nothing"
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
