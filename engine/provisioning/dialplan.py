"""Dial plans: one parser per vendor grammar, and the proof that an emergency number completes at once with no prefix
(pure).

A plan is a rule for when a phone sends what has been typed. The question asked here is always the same: somebody
types 9, 1, 1 and waits. `DialPlan.decide` answers with a `Verdict`; `faults` asks it for every emergency number of
every plan found in a rendered file. A new vendor adds one function to `GRAMMARS` that reads its own settings.

A number *completes* when the phone sends it by itself. Four things can happen:
immediate    sent with the last digit, unchanged
after_timer  sent only when an inter-digit timer runs out
rewritten    sent at once, but as another number
never        sent short, refused, or only when the caller presses a key
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache, partial
from typing import Protocol

from engine.errors import UnsafeValue

DIGITS = frozenset("0123456789")
KEYPAD = frozenset("0123456789*#+")
MAX_SEGMENTS = 100  # Poly: a digit map holds at most 100 segments and 2560 bytes (UC Software admin guide)


class UnsafeDialPlan(UnsafeValue):
    """A rendered plan would delay, change or swallow an emergency number; the file is not served."""

    title = "A dial plan would hold up an emergency call"


class Completion(StrEnum):
    IMMEDIATE = "immediate"
    AFTER_TIMER = "after_timer"
    NEVER = "never"
    REWRITTEN = "rewritten"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one number: `sent` is what leaves the phone (None when nothing does), `rule` the rule that
    decided.
    """

    completion: Completion
    sent: str | None
    rule: str | None
    why: str


class DialPlan(Protocol):
    """One plan in one grammar. `broken` names the rules the phone would ignore because they are not well formed."""

    @property
    def broken(self) -> tuple[str, ...]: ...

    def decide(self, number: str) -> Verdict: ...


# --- Atoms, shared by the grammars ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Atom:
    """One place in a rule: any of `accepts`, or any number of them when `repeats`."""

    accepts: frozenset[str]
    repeats: bool = False


def _states(atoms: tuple[_Atom, ...], text: str) -> frozenset[int]:
    """Which places of the rule can be next after that text; empty when it no longer matches. `len(atoms)` means
    complete.
    """
    current = _closure(atoms, {0})
    for character in text:
        following = set()
        for place in current:
            if place < len(atoms) and character in atoms[place].accepts:
                following.add(place if atoms[place].repeats else place + 1)
        current = _closure(atoms, following)
    return frozenset(current)


def _closure(atoms: tuple[_Atom, ...], places: set[int]) -> set[int]:
    """The places reachable without reading anything: a repeated atom may stand for nothing."""
    found = set(places)
    for place in sorted(places):
        here = place
        while here < len(atoms) and atoms[here].repeats:
            here += 1
            found.add(here)
    return found


def _bracket(text: str, start: int, *, separator: str) -> tuple[frozenset[str], int]:
    """Read `[2-9*]` from `start` (the opening bracket) and return its characters and the place after it.

    Raises:
        ValueError: no closing bracket, an empty set or a range that is none.
    """
    end = text.find("]", start)
    if end < 0:
        raise ValueError(f"no ] after {text[start:]!r}")
    inner = text[start + 1 : end].replace(separator, "") if separator else text[start + 1 : end]
    found: set[str] = set()
    place = 0
    while place < len(inner):
        if inner[place + 1 : place + 2] == "-" and place + 2 < len(inner):
            low, high = inner[place], inner[place + 2]
            if not (low.isdigit() and high.isdigit() and low <= high):
                raise ValueError(f"{low}-{high} is no range of digits")
            found.update(str(digit) for digit in range(int(low), int(high) + 1))
            place += 3
        else:
            found.add(inner[place])
            place += 1
    if not found:
        raise ValueError("[] accepts nothing")
    return frozenset(found), end + 1


# --- Poly digit maps (UC Software; the base is the digit map of RFC 3435 §2.1.5, shortest match) --------------------


@dataclass(frozen=True, slots=True)
class _Segment:
    """One alternative of a digit map. `replacements`: (first atom, last atom + 1, digits to send for them)."""

    text: str
    atoms: tuple[_Atom, ...]
    timer: bool
    replacements: tuple[tuple[int, int, str], ...] = ()

    def sent(self, number: str) -> str:
        """What leaves the phone for a complete match. Only rules whose atoms are all single places are rewritten."""
        result, place = [], 0
        for first, last, digits in self.replacements:
            result += [number[place:first], digits]
            place = last
        return "".join([*result, number[place:]])


@dataclass(frozen=True, slots=True)
class PolyDigitMap:
    """`dialplan.digitmap` with its `impossibleMatchHandling` (0 send at once, 1 reorder tone, 2 wait for the Send
    key).
    """

    segments: tuple[_Segment, ...]
    impossible_match: int = 0
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        for length in range(1, len(number) + 1):
            typed = number[:length]
            states = [(segment, _states(segment.atoms, typed)) for segment in self.segments]
            complete = [segment for segment, places in states if len(segment.atoms) in places]
            at_once = next((segment for segment in complete if not segment.timer), None)
            if at_once is not None:
                return self._sent(number, typed, at_once)
            if not any(places for _, places in states):
                return self._impossible(number, typed)
            if length == len(number) and complete:
                return Verdict(
                    Completion.AFTER_TIMER, complete[0].sent(number), complete[0].text, "waits for the timer T"
                )
        return Verdict(
            Completion.NEVER, None, None, "every rule that starts so asks for more digits: the caller must press Send"
        )

    @staticmethod
    def _sent(number: str, typed: str, segment: _Segment) -> Verdict:
        if typed != number:
            return Verdict(Completion.NEVER, typed, segment.text, f"{typed} is dialled before {number} has been typed")
        sent = segment.sent(number)
        if sent != number:
            return Verdict(Completion.REWRITTEN, sent, segment.text, f"sent as {sent}")
        return Verdict(Completion.IMMEDIATE, sent, segment.text, "complete with its last digit")

    def _impossible(self, number: str, typed: str) -> Verdict:
        if self.impossible_match == 0 and typed == number:
            return Verdict(Completion.IMMEDIATE, number, None, "no rule can match, so it is sent at once")
        if self.impossible_match == 0:
            return Verdict(
                Completion.NEVER,
                typed,
                None,
                f"no rule can match {typed}, which is sent before {number} has been typed",
            )
        how = "a reorder tone is played" if self.impossible_match == 1 else "the caller must press Send"
        return Verdict(Completion.NEVER, None, None, f"no rule matches {typed}: {how}")


def parse_poly(digit_map: str, impossible_match: int = 0) -> PolyDigitMap:
    """Read a Poly digit map. Never fails: a segment that is not well formed goes to `broken`, since the phone ignores
    it too.
    """
    segments, broken = [], []
    for text in digit_map.split("|")[:MAX_SEGMENTS]:
        try:
            segments.append(_poly_segment(text.strip()))
        except ValueError as exc:
            broken.append(f"{text}: {exc}")
    return PolyDigitMap(tuple(segments), impossible_match, tuple(broken))


def _poly_segment(text: str) -> _Segment:
    if not text:
        raise ValueError("an empty rule")
    body, timer = (text[:-1], True) if text.endswith("T") else (text, False)
    body = body.rstrip("SH") or body  # S, H: which protocol to use; it does not move the match
    atoms: list[_Atom] = []
    replacements = []
    place = 0
    while place < len(body):
        if body[place] == "R":
            first = len(atoms)
            digits, place = _poly_replacement(body, place, atoms)
            replacements.append((first, len(atoms), digits))
        else:
            place = _poly_atom(body, place, atoms)
    if replacements and any(atom.repeats for atom in atoms[: replacements[-1][1]]):
        raise ValueError("a repeated part before a replacement has no fixed place")
    return _Segment(text, tuple(atoms), timer, tuple(replacements))


def _poly_replacement(body: str, place: int, atoms: list[_Atom]) -> tuple[str, int]:
    """Read `R<match>R<digits>R` from its first R; append the atoms of `<match>`.

    Raises:
        ValueError: fewer than three R, or the new digits hold more than 0-9 * # +.
    """
    second = body.find("R", place + 1)
    third = body.find("R", second + 1) if second > 0 else -1
    if third < 0:
        raise ValueError("a replacement needs three R")
    digits = body[second + 1 : third]
    if not set(digits) <= KEYPAD:
        raise ValueError(f"the replacement {digits!r} holds more than 0-9 * # +")
    inner = place + 1
    while inner < second:
        inner = _poly_atom(body[:second], inner, atoms)
    following = body[third + 1 : third + 2]
    if following == ".":
        raise ValueError("a dot has no part before it to repeat")
    return digits, third + 1


def _poly_atom(body: str, place: int, atoms: list[_Atom]) -> int:
    """Read one part at `place`, append it and return the place after it."""
    character = body[place]
    if character == "[":
        accepts, after = _bracket(body, place, separator="")
        if not accepts <= KEYPAD:
            raise ValueError(f"{body[place:after]} holds more than 0-9 * # +")
        atoms.append(_Atom(accepts))
        return after
    if character == ".":
        if not atoms:
            raise ValueError("a dot has no part before it to repeat")
        atoms[-1] = _Atom(atoms[-1].accepts, repeats=True)
    elif character == "x":
        atoms.append(_Atom(DIGITS))
    elif character in KEYPAD:
        atoms.append(_Atom(frozenset(character)))
    elif character != ",":  # a comma plays a second dial tone and reads nothing
        raise ValueError(f"{character!r} is no part of a digit map")
    return place + 1


# --- Yealink: dial-now, replace, block-out and area-code rules ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    text: str
    atoms: tuple[_Atom, ...]
    pattern: re.Pattern[str]

    def matches(self, number: str) -> bool:
        return len(self.atoms) in _states(self.atoms, number)


@dataclass(frozen=True, slots=True)
class YealinkRules:
    """The four features of the phone's own dial plan. `delay_s`: `phone_setting.dialnow_delay`."""

    dial_now: tuple[_Rule, ...] = ()
    replace: tuple[tuple[_Rule, str], ...] = ()
    block_out: tuple[_Rule, ...] = ()
    area_code: str = ""
    area_code_lengths: tuple[int, int] = (1, 15)
    delay_s: float = 1.0
    digit_map_on: bool = False
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        if self.digit_map_on:
            return Verdict(
                Completion.NEVER, None, "dialplan.digitmap.enable", "the digit map switches the dial-now rules off"
            )
        for length in range(1, len(number) + 1):
            rule = next((rule for rule in self.dial_now if rule.matches(number[:length])), None)
            if rule is not None and length < len(number) and self.delay_s <= 0:
                typed = number[:length]
                return Verdict(Completion.NEVER, typed, rule.text, f"{typed} is dialled before {number} has been typed")
            if rule is not None and length == len(number):
                return self._dialled(number, rule)
        return Verdict(
            Completion.AFTER_TIMER,
            self._rewrite(number),
            None,
            "no dial-now rule: waits for the inter-digit timer or Send",
        )

    def _dialled(self, number: str, rule: _Rule) -> Verdict:
        blocked = next((block for block in self.block_out if block.matches(number)), None)
        if blocked is not None:
            return Verdict(Completion.NEVER, None, blocked.text, "a block-out rule refuses it")
        sent = self._rewrite(number)
        if self.delay_s > 0:
            return Verdict(
                Completion.AFTER_TIMER, sent, rule.text, f"phone_setting.dialnow_delay waits {self.delay_s:g} s"
            )
        if sent != number:
            return Verdict(Completion.REWRITTEN, sent, rule.text, f"sent as {sent}")
        return Verdict(Completion.IMMEDIATE, sent, rule.text, "complete with its last digit")

    def _rewrite(self, number: str) -> str:
        for rule, replacement in self.replace:
            match = rule.pattern.fullmatch(number)
            if match is not None:
                groups = ("", *(group or "" for group in match.groups()))
                return re.sub(r"\$(\d)", partial(_group, groups), replacement)
        shortest, longest = self.area_code_lengths
        if self.area_code and shortest <= len(number) <= longest:
            return self.area_code + number
        return number


def _group(groups: tuple[str, ...], found: re.Match[str]) -> str:
    number = int(found[1])
    return groups[number] if number < len(groups) else ""


def _yealink_rule(text: str) -> _Rule:
    """Read one rule: digits, `x`, `[2,5-8]`, `.` (one or more of anything), parentheses for `$1`.

    Raises:
        ValueError: something else.
    """
    atoms: list[_Atom] = []
    pattern: list[str] = []
    place = 0
    while place < len(text):
        character = text[place]
        after = place + 1
        if character == "[":
            accepts, after = _bracket(text, place, separator=",")
            atoms.append(_Atom(accepts))
            pattern.append("[" + re.escape("".join(sorted(accepts))) + "]")
        elif character in "xX":
            atoms.append(_Atom(KEYPAD))
            pattern.append("[0-9*#+]")
        elif character == ".":
            atoms += [_Atom(KEYPAD), _Atom(KEYPAD, repeats=True)]
            pattern.append("[0-9*#+]+")
        elif character in "()":
            pattern.append(character)
        elif character in KEYPAD:
            atoms.append(_Atom(frozenset(character)))
            pattern.append(re.escape(character))
        else:
            raise ValueError(f"{character!r} is no part of a rule")
        place = after
    try:
        return _Rule(text, tuple(atoms), re.compile("".join(pattern)))
    except re.error as exc:
        raise ValueError(f"parentheses do not pair ({exc})") from exc


def parse_yealink(settings: Mapping[str, str]) -> YealinkRules:
    """Read the plan out of a phone's settings by their names. Never fails: what is not well formed goes to `broken`."""
    broken: list[str] = []

    def rules(stem: str) -> list[tuple[str, _Rule]]:
        found = []
        for name, value in settings.items():
            if name.startswith(stem) and value:
                try:
                    found.append((name.removeprefix(stem), _yealink_rule(value)))
                except ValueError as exc:
                    broken.append(f"{name} = {value}: {exc}")
        return found

    replace = tuple(
        (rule, settings.get(f"dialplan.replace.replace.{number}", ""))
        for number, rule in rules("dialplan.replace.prefix.")
    )
    lengths = (_whole(settings, "dialplan.area_code.min_len", 1), _whole(settings, "dialplan.area_code.max_len", 15))
    return YealinkRules(
        dial_now=tuple(rule for _, rule in rules("dialplan.dialnow.rule.")),
        replace=replace,
        block_out=tuple(rule for _, rule in rules("dialplan.block_out.number.")),
        area_code=settings.get("dialplan.area_code.code", ""),
        area_code_lengths=lengths,
        delay_s=float(_whole(settings, "phone_setting.dialnow_delay", 1)),  # the factory value is 1
        digit_map_on=settings.get("dialplan.digitmap.enable", "0") == "1",
        broken=tuple(broken),
    )


def _whole(settings: Mapping[str, str], name: str, default: int) -> int:
    text = settings.get(name, "")
    return int(text) if text.isdecimal() else default


# --- The grammars by name, and the proof ----------------------------------------------------------------------------


def _poly_plans(settings: Mapping[str, str]) -> dict[str, DialPlan]:
    """The phone's map and every registration's own one (`dialplan.2.digitmap`), which replaces it."""
    plans: dict[str, DialPlan] = {}
    for name, value in settings.items():
        if name.endswith(".digitmap") and value:
            handling = settings.get(name.removesuffix("digitmap") + "impossibleMatchHandling", "0")
            plans[name] = parse_poly(value, int(handling) if handling in {"0", "1", "2"} else 0)
    return plans


def _yealink_plans(settings: Mapping[str, str]) -> dict[str, DialPlan]:
    plans: dict[str, DialPlan] = {"dialplan": parse_yealink(settings)}
    for name, value in settings.items():
        if name.startswith("account.") and name.endswith(".dialplan.digitmap.enable") and value == "1":
            plans[name] = YealinkRules(digit_map_on=True)
    return plans


GRAMMARS: dict[str, Callable[[Mapping[str, str]], dict[str, DialPlan]]] = {
    "poly": _poly_plans,
    "yealink": _yealink_plans,
}


def verdicts(grammar: str, settings: Mapping[str, str], number: str) -> dict[str, Verdict]:
    """What each plan found in those settings does with the number, by the name of the setting that holds the plan."""
    return {name: plan.decide(number) for name, plan in GRAMMARS[grammar](settings).items()}


@lru_cache(maxsize=512)
def faults(grammar: str, settings: tuple[tuple[str, str], ...], numbers: tuple[str, ...]) -> tuple[str, ...]:
    """Why those settings may not be served: one sentence for every plan that holds an emergency number up. Empty when
    proven.
    """
    plans = GRAMMARS[grammar](dict(settings))
    if not plans:
        return (f"no dial plan is set, so the phone's own one decides when {', '.join(numbers)} is sent",)
    found = [f"{name}: the rule {rule}" for name, plan in plans.items() for rule in plan.broken]
    for name, plan in plans.items():
        for number in numbers:
            verdict = plan.decide(number)
            if verdict.completion is not Completion.IMMEDIATE:
                found.append(f"{name}: {number} {verdict.completion.replace('_', ' ')} ({verdict.why})")
    return tuple(found)
