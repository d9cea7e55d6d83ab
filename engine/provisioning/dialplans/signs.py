"""How vendors spell the parts of a rule that all of them have: keys, brackets, repetition, substitution (pure)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

from engine.provisioning.dialplans.matching import (
    DIGITS,
    KEYPAD,
    MAX_RULES,
    Emit,
    Expression,
    Keys,
    Muted,
    Program,
    Repeat,
    Rule,
    Sequence,
)

_RANGES = (DIGITS, frozenset(ascii_lowercase), frozenset(ascii_uppercase))
MAX_PLAN = 8192  # longer than any vendor's field; the rest of a longer text is not a plan


def bracket(text: str, start: int, *, separator: str = "", words: str = "") -> tuple[frozenset[str], int]:
    """Read `[2-9*]` from `start` (the opening bracket) and return its characters and the place after it. A character of
    `words` stands for every digit; `[^2]` for every key but those.

    Raises:
        ValueError: no closing bracket, an empty set or a range that is none.
    """
    end = text.find("]", start)
    if end < 0:
        raise ValueError(f"no ] after {text[start:]!r}")
    inner = text[start + 1 : end].replace(separator, "") if separator else text[start + 1 : end]
    is_negated = inner.startswith("^")
    inner = inner.removeprefix("^")
    found: set[str] = set()
    place = 0
    while place < len(inner):
        if inner[place + 1 : place + 2] == "-" and place + 2 < len(inner):
            low, high = inner[place], inner[place + 2]
            if not (low <= high and any(low in alphabet and high in alphabet for alphabet in _RANGES)):
                raise ValueError(f"{low}-{high} is no range of digits")
            found.update(chr(code) for code in range(ord(low), ord(high) + 1))
            place += 3
        else:
            found.update(DIGITS if inner[place] in words else inner[place])
            place += 1
    if not found:
        raise ValueError("[] accepts nothing")
    return (KEYPAD - found if is_negated else frozenset(found)), end + 1


def repeated(parts: list[Expression], *, least: int, sign: str = ".") -> None:
    """Make the last part repeat without end.

    Raises:
        ValueError: there is none.
    """
    if not parts or isinstance(parts[-1], Emit):
        raise ValueError(f"{'a dot' if sign == '.' else sign} has no part before it to repeat")
    parts[-1] = Repeat(parts[-1], least)


def literal(key: str) -> Keys:
    return Keys(frozenset(key))


ANY_DIGIT = Keys(DIGITS)
ANY_KEY = Keys(KEYPAD)


@dataclass(frozen=True, slots=True)
class Signs:
    """How one vendor spells the parts that all have: `wild` keys, `repeats` (sign to the least number of times),
    `ignored` signs such as a second dial tone, what separates the members of a bracket, and the three signs of a
    substitution: `<:>` reads `<dialled:sent>`.
    """

    wild: Mapping[str, Keys]
    repeats: Mapping[str, int]
    ignored: str = ""
    separator: str = ""
    substitutes: str = ""

    def read(self, text: str, place: int, parts: list[Expression]) -> int:
        """Read one part at `place`, append it and return the place after it.

        Raises:
            ValueError: it is none.
        """
        character = text[place]
        if character == "[":
            accepts, after = bracket(text, place, separator=self.separator, words="".join(self.wild))
            parts.append(Keys(accepts))
            return after
        if self.substitutes.startswith(character):
            part, after = self._substitution(text, place)
            parts.append(part)
            return after
        if character in self.wild:
            parts.append(self.wild[character])
        elif character in self.repeats:
            repeated(parts, least=self.repeats[character], sign=character)
        elif character in KEYPAD:
            parts.append(literal(character))
        elif character not in self.ignored:
            raise ValueError(f"{character!r} is no part of a rule")
        return place + 1

    def read_all(self, text: str) -> list[Expression]:
        parts: list[Expression] = []
        place = 0
        while place < len(text):
            place = self.read(text, place, parts)
        return parts

    def _substitution(self, text: str, place: int) -> tuple[Expression, int]:
        """Read `<dialled:sent>` from its opening sign; return what it does and the place after it.

        Raises:
            ValueError: it does not end.
        """
        equals, close = self.substitutes[1], self.substitutes[2]
        end = text.find(close, place)
        if end < 0:
            raise ValueError(f"no {close} after {text[place:]!r}")
        dialled, found, sent = text[place + 1 : end].partition(equals)
        if not found:
            raise ValueError(f"{text[place : end + 1]} replaces nothing: a {equals} is missing")
        return Sequence((Muted(Sequence(tuple(self.read_all(dialled)))), Emit(sent.strip()))), end + 1


def compiled(parts: Iterable[Expression], *, quoting: int | None = None) -> Program:
    return Program(Sequence(tuple(parts)), quoting=quoting)


def alternatives(text: str, read: Callable[[str], Rule], *, most: int = MAX_RULES) -> tuple[list[Rule], list[str]]:
    """The rules between the bars of a plan, and those that are not well formed, each with its reason."""
    rules, broken = [], []
    if len(text) > MAX_PLAN:
        broken.append(f"{text[:20]}...: a plan of {len(text)} characters is cut at {MAX_PLAN}")
    options = text[:MAX_PLAN].split("|")
    for one in options[:most]:
        try:
            rules.append(read(one.strip()))
        except ValueError as exc:
            broken.append(f"{one}: {exc}" if one.strip() else "an empty rule")
    broken += [f"{one}: only {most} rules are read" for one in options[most:][:1]]
    return rules, broken
