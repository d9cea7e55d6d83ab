"""Snom's dial plan string: regular expressions, read into the automaton of `matching` and never handed to a
backtracking engine (pure).

Source: Snom service wiki, "Dial Plan - Regular Expressions" (also Gigaset's Maxwell). `user_dp_str` holds entries
separated by spaces; the first that matches is taken; an entry is `|expression|result|flags|` with any separator; the
flag d means that the number is complete. Without a d the phone waits for the confirm key, or for `auto_dial`.
"""

import re
from dataclasses import dataclass

from engine.provisioning.dialplans.matching import (
    KEYPAD,
    MAX_RULES,
    Anchor,
    Either,
    Expression,
    Group,
    Keys,
    Repeat,
    Rule,
    Run,
    Sequence,
)
from engine.provisioning.dialplans.signs import ANY_DIGIT, ANY_KEY, MAX_PLAN, bracket, compiled, literal
from engine.provisioning.dialplans.verdict import Plans, Settings, Verdict, after_timer, never, settled, whole

_MAX_DEPTH = 20
_COUNT = re.compile(r"\{(\d{1,3})(?:(,)(\d{1,3})?)?\}")
_RESULT = re.compile(r"(?:sips?:)?(?P<user>[^@;?]*)(?:@(?P<host>[^;?]*))?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `result` may quote groups (`\\1`) and the registrar (`\\d`)."""

    rule: Rule
    expression: Expression
    result: str
    is_complete: bool

    def sent(self, number: str) -> tuple[str, str]:
        """The user and the host of the URI that is called."""
        found = _RESULT.match(self.result)
        user = found["user"] if found is not None else self.result
        host = (found["host"] or "") if found is not None else ""
        return re.sub(r"\\(\d)", lambda quoted: self._group(int(quoted[1]), number), user), host

    def _group(self, group: int, number: str) -> str:
        run = Run(compiled([self.expression], quoting=group or None))
        for key in number:
            run.press(key)
        return run.sent or ""


@dataclass(frozen=True, slots=True)
class SnomPlan:
    entries: tuple[Entry, ...]
    auto_dial_s: int = 0
    overlap: bool = False
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        if self.overlap:
            why = f"overlap_dialing sends {number[:1]} before {number} has been typed"
            return never(why, rule="overlap_dialing", sent=number[:1])
        runs = [(entry, Run(entry.rule.program)) for entry in self.entries]
        for length, key in enumerate(number, start=1):
            for _, run in runs:
                run.press(key)
            taken = next((entry for entry, run in runs if run.sent is not None), None)
            if taken is not None and taken.is_complete:
                return self._dialled(number, number[:length], taken)
        if self.auto_dial_s:
            return after_timer(number, f"no rule with the flag d matches: auto_dial waits {self.auto_dial_s} s")
        return never("no rule with the flag d matches: the caller must press the confirm key")

    @staticmethod
    def _dialled(number: str, typed: str, entry: Entry) -> Verdict:
        user, host = entry.sent(typed)
        if typed == number and user == number and host not in {"", "\\d"}:
            verdict = settled(number, typed, entry.rule.text, f"{user}@{host}")
            return Verdict(verdict.completion, verdict.sent, verdict.rule, f"sent to {host}, past the registrar")
        return settled(number, typed, entry.rule.text, user)

    def remedy(self, number: str) -> str:
        return f"put |^({number})$|sip:\\1@\\d|d first"


def parse_snom(text: str, *, auto_dial_s: int = 0, overlap: bool = False) -> SnomPlan:
    """Read one `user_dp_str`. Never fails: an entry that is not well formed goes to `broken`."""
    options = text[:MAX_PLAN].split()
    entries, broken = [], [f"{one}: only {MAX_RULES} entries are read" for one in options[MAX_RULES:][:1]]
    for one in options[:MAX_RULES]:
        try:
            entries.append(_entry(one))
        except ValueError as exc:
            broken.append(f"{one}: {exc}")
    return SnomPlan(tuple(entries), auto_dial_s, overlap, tuple(broken))


def _entry(text: str) -> Entry:
    parts = text[1:].split(text[0])
    if len(parts) < 2:
        raise ValueError("an entry is |expression|result|flags|")
    reader = _Regex(parts[0])
    expression = reader.read()
    flags = parts[2] if len(parts) > 2 else ""
    return Entry(Rule(text, compiled([expression])), expression, parts[1], "d" in flags)


class _Regex:
    """A reader of POSIX extended expressions (with `\\d` and lazy signs ignored)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.groups = 0

    def read(self) -> Expression:
        """The whole expression; what it does not anchor may stand anywhere in the number.

        Raises:
            ValueError: it is not well formed.
        """
        part = self._either(0)
        if self.place < len(self.text):
            raise ValueError(f"{self.text[self.place :]!r} is no part of an expression")
        anything = Repeat(ANY_KEY)
        return Sequence((anything, part, anything)) if self.text else part

    def _either(self, depth: int) -> Expression:
        if depth > _MAX_DEPTH:
            raise ValueError("too many parentheses")
        options: list[Expression] = []
        parts: list[Expression] = []
        while self.place < len(self.text) and self.text[self.place] != ")":
            if self.text[self.place] == "|":
                self.place += 1
                options.append(Sequence(tuple(parts)))
                parts = []
            elif not self._counted(parts):
                parts.append(self._atom(depth))
        return Either((*options, Sequence(tuple(parts)))) if options else Sequence(tuple(parts))

    def _counted(self, parts: list[Expression]) -> bool:
        """Read `* + ? {2,3}` and apply it to the last part."""
        sign = self.text[self.place]
        least, most, length = {"*": (0, None, 1), "+": (1, None, 1), "?": (0, 1, 1)}.get(sign, (0, 0, 0))
        if sign == "{":
            found = _COUNT.match(self.text, self.place)
            if found is None:
                raise ValueError(f"{self.text[self.place :]!r} is no count")
            least, length = int(found[1]), found.end() - found.start()
            most = int(found[3]) if found[3] else (None if found[2] else least)
        if not length:
            return False
        if not parts or isinstance(parts[-1], Anchor) or (most is not None and most < least):
            raise ValueError(f"{sign} has no part before it to repeat")
        parts[-1] = Repeat(parts[-1], least, most)
        self.place += length
        return True

    def _atom(self, depth: int) -> Expression:
        character = self.text[self.place]
        if character == "[":
            accepts, self.place = bracket(self.text, self.place)
            return Keys(accepts)
        self.place += 1
        if character == "(":
            return self._group(depth)
        if character == "\\":
            escaped = self.text[self.place : self.place + 1]
            self.place += 1
            if not escaped:
                raise ValueError("nothing follows the last backslash")
            return ANY_DIGIT if escaped == "d" else literal(escaped)
        if character in "^$":
            return Anchor(character)
        return Keys(KEYPAD) if character == "." else literal(character)

    def _group(self, depth: int) -> Expression:
        self.groups += 1
        number = self.groups
        part = self._either(depth + 1)
        if self.place >= len(self.text):
            raise ValueError("a parenthesis is not closed")
        self.place += 1
        return Group(number, part)


def plans(settings: Settings) -> Plans:
    """`user_dp_str.n` of every identity."""
    auto_dial_s = whole(settings, "auto_dial", 0)
    overlap = settings.get("overlap_dialing", "off").lower() in {"on", "true", "1"}
    return {
        name: parse_snom(value, auto_dial_s=auto_dial_s, overlap=overlap)
        for name, value in settings.items()
        if value and re.fullmatch(r"user_dp_str(?:\.?\d+)?", name)
    }
