"""What a phone would be handed, beside what it was handed: masking, and differences of text files (pure).

Theory of operation. Secrets are replaced in the values before a template runs, never in its text afterwards: a secret
of two digits would else be "masked" wherever these digits stand. What is compared are lines. The lines that two
versions share at their beginning and end are set aside before the middle is compared, since a change is small and a
configuration long.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
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
MAX_DEPTH = 20  # so often what lies between lines that hold is compared in turn
FEW_PAIRS = 4096  # 64 lines with 64: compared each with each
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
    changed = changed_parts(old, new)
    if not changed:  # another kind of line ending, or none at the end of the file
        old, new = before.split("\n"), after.split("\n")
        changed = changed_parts(old, new)
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


Part = tuple[int, int, int, int]
"""Lines that differ: from and to in the old text, from and to in the new one."""


def changed_parts(old: list[str], new: list[str]) -> list[Part]:
    """The parts that differ, in order; between two of them is at least one line that both have."""
    return list(_parts(old, new, (0, len(old), 0, len(new)), MAX_DEPTH))


def _parts(old: list[str], new: list[str], within: Part, depth: int) -> Iterator[Part]:
    """Lines that stand once in either text hold the two against one another; what lies between two such is compared in
    the same way. Looking for the longest run that both have, again and again, takes the cube of their lengths where one
    line stands between all others.
    """
    low, high, start, end = within
    while low < high and start < end and old[low] == new[start]:
        low, start = low + 1, start + 1
    while low < high and start < end and old[high - 1] == new[end - 1]:
        high, end = high - 1, end - 1
    if low == high and start == end:
        return
    if (high - low) * (end - start) <= FEW_PAIRS and low < high and start < end:
        matcher = SequenceMatcher(None, old[low:high], new[start:end], autojunk=False)
        for tag, i, j, k, m in matcher.get_opcodes():
            if tag != "equal":
                yield i + low, j + low, k + start, m + start
        return
    is_long = max(high - low, end - start) > MAX_COMPARED
    held = [] if is_long or depth == 0 else _held_by(old, new, (low, high, start, end))
    if not held:
        yield low, high, start, end
        return
    for at, by in (*held, (high, end)):
        yield from _parts(old, new, (low, at, start, by), depth - 1)
        low, start = at + 1, by + 1


def _held_by(old: list[str], new: list[str], within: Part) -> list[tuple[int, int]]:
    """Where lines stand that either text has once, as many of them as follow one another in both."""
    low, high, start, end = within
    once = _once(old, low, high)
    places = _once(new, start, end)
    pairs = [(at, places[line]) for line, at in once.items() if line in places]
    ends: list[int] = []  # of the runs of each length so far, the least place in the new text ...
    last: list[int] = []  # ... and which pair that is
    before: list[int] = []  # of each pair: the one before it in its run
    for number, (_at, by) in enumerate(pairs):
        length = bisect_left(ends, by)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1], last[length : length + 1] = [by], [number]
    found, number = list[tuple[int, int]](), last[-1] if last else -1
    while number >= 0:
        found.append(pairs[number])
        number = before[number]
    return found[::-1]


def _once(lines: list[str], start: int, end: int) -> dict[str, int]:
    """The lines that stand there once, each with its place, in order."""
    counts = Counter(lines[start:end])
    return {lines[at]: at for at in range(start, end) if counts[lines[at]] == 1}


def _with_context(old: list[str], new: list[str], changed: list[Part]) -> list[DiffLine]:
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
