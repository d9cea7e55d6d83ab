"""What a phone would be handed, beside what it was handed: masking, and differences of text files (pure).

Theory of operation. Secrets are replaced in the values before a template runs, never in its text afterwards: a secret
of two digits would else be "masked" wherever these digits stand. What is compared are lines. The lines that two
versions share at their beginning and end are set aside before the middle is compared, since a change is small and a
configuration long.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from difflib import SequenceMatcher
from enum import StrEnum
from hashlib import sha256
from typing import Any

from engine.provisioning import tokens
from engine.provisioning.render import LineConfig, PhoneConfig
from engine.provisioning.settings import MASK

CONTEXT_LINES = 3
MAX_COMPARED = 4000  # lines of a middle; beyond it all of them count as replaced (a phonebook made anew)
_SECRETS_OF_LINES = tuple(one.name for one in fields(LineConfig) if one.type is str and not one.repr)
_SECRETS = tuple(one.name for one in fields(PhoneConfig) if one.type is str and not one.repr)
_URLS = tuple(one.name for one in fields(PhoneConfig) if one.type is str and one.name.endswith("_url"))
_BUILDS_ON = r"""\{{%[-+]?\s*(?:include|extends)\s+["'](?:shipped/)?{}["'][^%]*%\}}"""
_LEAST_NAMED = 3  # characters of a value that is looked for in a line, to see that it is the phone's own


class DiffState(StrEnum):
    """What a file is beside the one it is compared with."""

    NEVER_FETCHED = "never_fetched"
    UNCHANGED = "unchanged"
    CHANGED = "changed"


# --- Masking ----------------------------------------------------------------------------------------------------------


def masked_config(config: PhoneConfig) -> PhoneConfig:
    """The same configuration with every secret replaced by one word and every token taken out of its URLs.

    Secret is what `PhoneConfig` and `LineConfig` keep out of their own `repr`. An empty secret stays empty, since
    whether there is one decides which settings are written.
    """
    changed: dict[str, Any] = {name: _masked(getattr(config, name)) for name in _SECRETS}
    changed |= {name: tokens.redact(getattr(config, name)) for name in _URLS}
    return replace(config, lines=tuple(map(_masked_line, config.lines)), **changed)


def _masked_line(line: LineConfig) -> LineConfig:
    changed: dict[str, Any] = {name: _masked(getattr(line, name)) for name in _SECRETS_OF_LINES}
    return replace(line, **changed)


def _masked(text: str) -> str:
    redacted = tokens.redact(text)
    return redacted if redacted != text or not text else MASK


# --- Differences ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line of a difference. `kind`: " " (in both), "+", "-", or "@" (lines are left out before the next one);
    `before`, `after`: its number in either version, from 1.
    """

    kind: str
    text: str
    before: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Two versions of a file, compared. `lines`: every changed line with its neighbours; none when nothing differs.
    `added`, `removed`: how many lines.
    """

    state: DiffState
    lines: tuple[DiffLine, ...] = ()
    added: int = 0
    removed: int = 0

    @property
    def summary(self) -> str:
        """How much differs, in a word or two: lines added and removed, `unchanged`, `never fetched`."""
        if self.state is DiffState.CHANGED:
            return f"+{self.added} −{self.removed}"  # noqa: RUF001  # a minus sign, as wide as the plus
        return "never fetched" if self.state is DiffState.NEVER_FETCHED else "unchanged"

    def unified(self, name: str, before: str = "fetched", after: str = "now") -> str:
        """As `diff -u` writes it, for tools that read that; empty when nothing differs."""
        if not self.lines:
            return ""
        out = [f"--- {before}/{name}", f"+++ {after}/{name}"]
        hunk: list[DiffLine] = []
        for line in (*self.lines, DiffLine("@", "")):
            if line.kind != "@":
                hunk.append(line)
            elif hunk:
                out += [_range(hunk), *(one.kind + one.text for one in hunk)]
                hunk = []
        return "\n".join(out) + "\n"


def compare(before: str | None, after: str) -> Difference:
    """What changed from `before` (None: there was none) to `after`."""
    if before is None:
        return Difference(DiffState.NEVER_FETCHED)
    if before == after:
        return Difference(DiffState.UNCHANGED)
    old, new = before.splitlines(), after.splitlines()
    changed = _changed(old, new)
    if not changed:  # another kind of line ending, or none at the end of the file
        old, new = before.split("\n"), after.split("\n")
        changed = _changed(old, new)
    added = sum(high - low for _, _, low, high in changed)
    removed = sum(high - low for low, high, _, _ in changed)
    return Difference(DiffState.CHANGED, tuple(_with_context(old, new, changed)), added, removed)


def compare_templates(name: str, shipped: str, before: str | None, after: str | None) -> Difference:
    """What changed between two texts of the template of that name; None: the shipped one.

    A text that includes or extends the shipped one differs from it by what it adds, so the shipped text is shown as the
    statement that brings it in, and not as a hundred lines that are gone.
    """
    own = before if before is not None else after
    builds_on = None if own is None else re.search(_BUILDS_ON.format(re.escape(name)), own)
    base = builds_on[0] + "\n" if builds_on is not None else shipped
    return compare(base if before is None else before, base if after is None else after)


def _changed(old: list[str], new: list[str]) -> list[tuple[int, int, int, int]]:
    """The parts that differ, as (from, to) in both."""
    most = min(len(old), len(new))
    head = next((at for at in range(most) if old[at] != new[at]), most)
    tail = next((at for at in range(most - head) if old[-1 - at] != new[-1 - at]), most - head)
    old_end, new_end = len(old) - tail, len(new) - tail
    if old_end == head and new_end == head:
        return []
    if max(old_end, new_end) - head > MAX_COMPARED or head in {old_end, new_end}:
        return [(head, old_end, head, new_end)]
    matcher = SequenceMatcher(None, old[head:old_end], new[head:new_end], autojunk=False)
    return [(i + head, j + head, k + head, m + head) for tag, i, j, k, m in matcher.get_opcodes() if tag != "equal"]


def _with_context(old: list[str], new: list[str], changed: list[tuple[int, int, int, int]]) -> list[DiffLine]:
    out: list[DiffLine] = []
    shown = 0  # lines of `old` that are in the list or known to be left out
    for index, (low, high, start, end) in enumerate(changed):
        begin = max(shown, low - CONTEXT_LINES)
        if begin > shown or (index == 0 and begin > 0):
            out.append(DiffLine("@", ""))
        shift = start - low
        out += [DiffLine(" ", old[at], at + 1, at + shift + 1) for at in range(begin, low)]
        out += [DiffLine("-", old[at], at + 1, None) for at in range(low, high)]
        out += [DiffLine("+", new[at], None, at + 1) for at in range(start, end)]
        following = changed[index + 1][0] if index + 1 < len(changed) else len(old)
        shown = min(high + CONTEXT_LINES, following)
        out += [DiffLine(" ", old[at], at + 1, at + end - high + 1) for at in range(high, shown)]
    return out


def _range(hunk: list[DiffLine]) -> str:
    """`@@ -1,4 +1,5 @@`."""
    numbers = []
    for sign, places in (
        ("-", [line.before for line in hunk if line.before is not None]),
        ("+", [line.after for line in hunk if line.after is not None]),
    ):
        numbers.append(f"{sign}{places[0] if places else 0},{len(places)}")
    return f"@@ {' '.join(numbers)} @@"


# --- The same change on many phones -----------------------------------------------------------------------------------


def likeness(config: PhoneConfig, differences: Iterable[tuple[str, Difference]]) -> str:
    """A digest that is the same for phones on which the same lines change, whatever is the phone's own in them.

    Args:
        differences: Each with the kind of its file. Names do not count: they hold the model's or the phone's own.
    """
    own = _own(config)
    files = set()
    for kind, found in differences:
        lines = (f"{line.kind}{anonymous(line.text, own)}" for line in found.lines if line.kind in "+-")
        files.add("\n".join((kind, *lines)))
    return sha256("\0".join(sorted(files)).encode()).hexdigest()


def _own(config: PhoneConfig) -> tuple[tuple[str, str], ...]:
    """What is this phone's alone, longest first, and the word that stands for it."""
    found = {config.mac: "{mac}", config.mac.upper(): "{MAC}", config.label: "{label}"}
    for line in config.lines:
        for name in ("sip_user", "auth_user", "display_name", "label"):
            found.setdefault(getattr(line, name), f"{{line {line.number}}}")
    known = sorted(found.items(), key=lambda one: -len(one[0]))
    return tuple((text, word) for text, word in known if len(text) >= _LEAST_NAMED)


def anonymous(text: str, own: tuple[tuple[str, str], ...]) -> str:
    """The text with each of those values replaced by its word."""
    for value, word in own:
        if value in text:
            text = text.replace(value, word)
    return text
