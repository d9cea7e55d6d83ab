"""Dial plans of Cisco SPA and Multiplatform phones, Linksys and Sipura adapters, and of Obihai's (pure).

Sources: SPA900 series administration guide, "Dial Plan Digit Sequences" and "Dial Plan Timers"; Cisco IP Phone 8800
Multiplatform administration guide, "Digit Sequences"; OBi administration guide, "Matching Against Multiple Rules". The
codes of services: `engine.provisioning.dialplans.codes`.

A sequence that is complete is sent at once only when no other one can take more digits; else the short timer (3 s)
runs, unless the sequence ends in S0. What completes no sequence is rejected when the long timer (10 s) ends.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.provisioning.dialplans.codes import CodePlan
from engine.provisioning.dialplans.matching import (
    KEYPAD,
    MAX_RULES,
    Either,
    Emit,
    Expression,
    Keys,
    Muted,
    Repeat,
    Rule,
    Run,
    Sequence,
    unambiguous,
)
from engine.provisioning.dialplans.signs import (
    ANY_DIGIT,
    ANY_KEY,
    MAX_PLAN,
    Signs,
    alternatives,
    bracket,
    compiled,
    literal,
    repeated,
)
from engine.provisioning.dialplans.verdict import Plans, Settings, Verdict, never, whole

SHORT_TIMER_S = 3
NO_NUMBER_S = 5.0  # "if no number is entered after S, the default timer of 5 seconds applies"
OBI_SHORT_TIMER_S = 2
MAX_DEPTH = 5  # maps within maps; one that names itself never ends
_MASTER_TIMER = re.compile(r"\s*([LSP])\s*:\s*(\d{0,3}(?:\.\d)?)\s*,")
_TIMER = re.compile(r"([SLP])(\d{0,3}(?:\.\d)?)\s?")
_SIGNS = Signs(wild={"x": ANY_KEY}, repeats={".": 0}, ignored=", \t\r\n", substitutes="<:>")


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """A plan of digit sequences. `hot_line`: the sequence that dials as soon as the handset is lifted."""

    rules: tuple[Rule, ...]
    timer_s: float = SHORT_TIMER_S
    hot_line: str | None = None
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        if self.hot_line is not None:
            return never("it dials as soon as the handset is lifted", rule=self.hot_line)
        found = unambiguous(self.rules, number, self.timer_s)
        if isinstance(found, Verdict):
            return found
        if found.is_partial:
            return never(f"every sequence that starts with {found.typed} asks for more digits: the call is rejected")
        return never(f"no sequence matches {found.typed}: the call is rejected")

    def remedy(self, number: str) -> str:
        return f"put {number}S0 first"


def parse_cisco(text: str, timer_s: float = SHORT_TIMER_S) -> SequencePlan:
    """Read one `Dial_Plan_n_`. Never fails: a sequence that is not well formed goes to `broken`."""
    body, timer_s, broken = _unwrapped(text, timer_s)
    rules, faulty = alternatives(body, _sequence)
    hot = next((rule.text for rule in rules if rule.wait_s == 0 and Run(rule.program).sent is not None), None)
    return SequencePlan(tuple(rules), timer_s, hot, (*broken, *faulty))


def _unwrapped(text: str, timer_s: float) -> tuple[str, float, list[str]]:
    """The sequences without the parentheses, and the short timer that stands before them."""
    rest = text[:MAX_PLAN].strip()
    while (found := _MASTER_TIMER.match(rest)) is not None:
        if found[1] == "S":
            timer_s = float(found[2] or NO_NUMBER_S)
        rest = rest[found.end() :].strip()
    if not rest.startswith("(") or not rest.endswith(")"):
        return rest.strip("()"), timer_s, [f"{text[:40]}: the plan is not wholly in parentheses"]
    return rest[1:-1], timer_s, []


def _sequence(text: str) -> Rule:
    parts: list[Expression] = []
    wait_s: float | None = None
    is_barred = False
    place = 0
    while place < len(text):
        character = text[place]
        timer = _TIMER.match(text, place)
        if timer is not None:
            wait_s = wait_s if timer[1] == "L" else float(timer[2] or NO_NUMBER_S)
            place = timer.end()
        elif character == "!" and not text[place + 1 :].strip():
            is_barred = True
            break
        else:
            place = _SIGNS.read(text, place, parts)
    return Rule(text, compiled(parts), wait_s, is_barred)


def plans(settings: Settings) -> Plans:
    """`Dial_Plan_1_` to `Dial_Plan_n_`, one per line; an empty one leaves the phone on its factory plan. Beside them
    the codes that could be dialled as a number: the phone adds each to every plan.
    """
    timer_s = whole(settings, "Interdigit_Short_Timer", SHORT_TIMER_S)
    found: Plans = {
        name: parse_cisco(value or FACTORY_PLAN, timer_s) for name, value in settings.items() if _PLAN.fullmatch(name)
    }
    if found:
        codes = {name: _codes(value) for name, value in settings.items() if value and _CODE.fullmatch(name)}
        found |= {name: plan for name, plan in codes.items() if plan.rules or plan.broken}
    return found


_PLAN = re.compile(r"Dial_Plan(_\d+)?_?")
CODE_NAMES = r"(?!Service_Annc_|PIN_)[\w.-]+_Codes?"  # neither announcements of a server nor a PIN are dialled alone
_CODE = re.compile(CODE_NAMES)


def _codes(text: str) -> CodePlan:
    """`*69`, or `*72|*74` with a tone behind a backquote; what begins with a star or a hash begins no number."""
    listed = [one.partition("`")[0].strip() for one in text[:MAX_PLAN].split("|")]
    dialled = [one for one in listed if one and one[0] not in "*#"]
    rules, broken = alternatives("|".join(dialled), _sequence) if dialled else ([], [])
    return CodePlan(tuple(rules), tuple(broken))


FACTORY_PLAN = "(*xx|[3469]11|0|00|[2-9]xxxxxx|1xxx[2-9]xxxxxxS0|xxxxxxxxxxxx.)"


# --- Obihai -----------------------------------------------------------------------------------------------------------

_OBI_STAR = Keys(frozenset("0123456789*"))
_OBI_ANY = Keys(KEYPAD - {"#"})
_UNKNOWN_MAP = Repeat(ANY_KEY, 1)  # a map of another service: whatever is typed may be complete, and may go on
_OBI_SIGNS = Signs(wild={"x": ANY_DIGIT, "X": _OBI_STAR, "@": _OBI_ANY}, repeats={".": 0}, ignored=" \t\r\n,")
IPD_MAP = "(xx.<*:@>xx?x?<*:.>xx?x?<*:.>xx?x?<*:.>xx?x?|xx.<*:@>xx?x?<*:.>xx?x?<*:.>xx?x?<*:.>xx?x?<*::>xx?x?x?x?)"


@dataclass(frozen=True, slots=True)
class _ObiReader:
    """Reads maps that name each other: `labels` has the text of every map by its name."""

    labels: Mapping[str, str]

    def rules(self, text: str) -> SequencePlan:
        rules, broken = [], list[str]()
        options = _split(_inside(text[:MAX_PLAN]))
        broken += [f"{one}: only {MAX_RULES} rules are read" for one in options[MAX_RULES:][:1]]
        for one in options[:MAX_RULES]:
            try:
                rules.append(self._rule(one.strip()))
            except ValueError as exc:
                broken.append(f"{one}: {exc}")
        hot = next((rule.text for rule in rules if not rule.wait_s and Run(rule.program).sent), None)
        return SequencePlan(tuple(rules), OBI_SHORT_TIMER_S, hot, tuple(broken))

    def _rule(self, text: str) -> Rule:
        if not text:
            raise ValueError("an empty rule")
        if text.startswith("M"):  # the whole map is another one: (Mpli)
            text = f"({text})"
        is_barred = text.startswith("!")
        parts, wait_s = self._parts(text.removeprefix("!"), 0)
        return Rule(text, compiled(parts), wait_s, is_barred)

    def _parts(self, text: str, depth: int) -> tuple[list[Expression], float | None]:
        if depth > MAX_DEPTH:
            raise ValueError("the maps name each other without end")
        parts: list[Expression] = []
        wait_s: float | None = None
        place = 0
        while place < len(text):
            character = text[place]
            if character == "S":
                seconds = text[place + 1 : place + 2]
                wait_s = (wait_s or 0.0) + (float(seconds) if seconds.isdecimal() else 1.0)
                place += 1 + seconds.isdecimal()
            elif character == "(":
                end = _closing(text, place, "()")
                parts.append(self._embedded(text[place + 1 : end], depth))
                place = end + 1
            elif character == "<":
                end = _closing(text, place, "<>")
                parts.append(self._substitution(text[place + 1 : end], depth))
                place = end + 1
            elif character == "{":
                place = _closing(text, place, "{}") + 1  # tones and the long timer do not move the match
            elif character == "?":
                if not parts:
                    raise ValueError("? has no part before it")
                parts[-1] = Repeat(parts[-1], 0, 1)
                place += 1
            else:
                place = _obi_key(text, place, parts)
        return parts, wait_s

    def _embedded(self, text: str, depth: int) -> Expression:
        if text.startswith("M"):
            named = self.labels.get(text[1:].strip())
            if named is None:
                return _UNKNOWN_MAP
            text = _inside(named)
        options = [Sequence(tuple(self._parts(one.strip(), depth + 1)[0])) for one in _split(text)]
        return Either(tuple(options))

    def _substitution(self, text: str, depth: int) -> Expression:
        """`<dialled:sent>`, or `<sent>`, which reads nothing."""
        dialled, found, sent = text.partition(":")
        if not found:
            return Emit(text)
        return Sequence((Muted(Sequence(tuple(self._parts(dialled, depth + 1)[0]))), Emit(sent)))


def _obi_key(text: str, place: int, parts: list[Expression]) -> int:
    character = text[place]
    if character == "[":
        accepts, after = bracket(text, place, words="x")
        parts.append(Keys(accepts | (KEYPAD - {"#"}) if "@" in accepts else accepts))
        return after
    if character.isalpha() and character not in "xX":
        parts.append(literal(character))
        return place + 1
    if character == "." and parts and isinstance(parts[-1], Repeat):
        repeated(parts, least=0)
        return place + 1
    return _OBI_SIGNS.read(text, place, parts)


def _inside(text: str) -> str:
    text = text.strip()
    return (
        text[1:-1] if text.startswith("(") and text.endswith(")") and _closing(text, 0, "()") == len(text) - 1 else text
    )


def _closing(text: str, place: int, pair: str) -> int:
    """Where the sign opened at `place` is closed.

    Raises:
        ValueError: nowhere.
    """
    depth = 0
    for position in range(place, len(text)):
        depth += (text[position] == pair[0]) - (text[position] == pair[1])
        if depth == 0:
            return position
    raise ValueError(f"no {pair[1]} after {text[place:]!r}")


def _split(text: str) -> list[str]:
    """The rules between the bars that stand in no parentheses."""
    found, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "(<{") - (character in ")>}")
        if character == "|" and depth <= 0:
            found.append(text[start:place])
            start = place + 1
    return [*found, text[start:]]


def parse_obihai(text: str, labels: Mapping[str, str] | None = None) -> SequencePlan:
    """Read one digit map. `labels`: the maps it may name, without the M. Never fails."""
    return _ObiReader(labels or {}).rules(text)


def obihai_plans(settings: Settings) -> Plans:
    """The map of every phone port and handset, and of every service a call can leave by."""
    labels = {"ipd": IPD_MAP}
    for name, value in settings.items():
        service = re.fullmatch(r"VoiceService\.1\.VoiceProfile\.(\d+)\.DigitMap", name)
        user = re.fullmatch(r"(UserDigitMap\.\d+)\.Label", name)
        if service is not None and value:
            labels[f"sp{service[1]}"] = value
        elif user is not None and value:
            labels[value] = settings.get(f"{user[1]}.DigitMap", "")
    dialled = re.compile(r"VoiceService\.1\.(?:Phone|X_HS\.\d+|VoiceProfile\.\d+)\.DigitMap")
    found: Plans = {
        name: parse_obihai(value, labels) for name, value in settings.items() if value and dialled.fullmatch(name)
    }
    if found:
        codes = {name: _star_code(value) for name, value in settings.items() if _STAR_CODE.fullmatch(name)}
        found |= {name: plan for name, plan in codes.items() if plan.rules or plan.broken}
    return found


_STAR_CODE = re.compile(r"VoiceService\.1\.X_StarCode\.\d+\.Code\d+")


def _star_code(text: str) -> CodePlan:
    """`*69, Call Return, call($Ldn)`: the code, its name and what it does."""
    code = text.partition(",")[0].strip()
    read = _ObiReader({}).rules(code) if code and code[0] not in "*#" else SequencePlan(())
    return CodePlan(read.rules, read.broken)
