"""Format strings of Mitel and Aastra, Avaya, and VTech (pure).

Sources: Aastra 6700i administrator guide 3.2.2, sample aastra.cfg and "SIP local dial plan settings"; Avaya 9600 and
J100 SIP administration, DIALPLAN; VTech VSP735 administrator and provisioning manual, "Dial Plan".
"""

import re
from dataclasses import dataclass

from engine.provisioning.dialplans.matching import (
    KEYPAD,
    Either,
    Emit,
    Expression,
    Keys,
    Repeat,
    Rule,
    Sequence,
    shortest,
    unambiguous,
)
from engine.provisioning.dialplans.signs import (
    ANY_DIGIT,
    ANY_KEY,
    MAX_PLAN,
    Signs,
    alternatives,
    compiled,
)
from engine.provisioning.dialplans.verdict import Plans, Settings, Verdict, after_timer, never, whole

# --- Mitel, Aastra ---------------------------------------------------------------------------------------------------

AASTRA_DEFAULT = "X+#|XX+*"
_AASTRA_DIGIT_TIMEOUT_S = 4
_LONGEST_AASTRA = 512
_MAX_DEPTH = 8
_AASTRA = Signs(wild={"x": ANY_DIGIT, "X": ANY_DIGIT, ".": ANY_KEY}, repeats={"+": 0}, ignored=";")


@dataclass(frozen=True, slots=True)
class AastraPlan:
    """`sip dial plan`. An exact match is called at once; `+` is none or more of the part before it."""

    rules: tuple[Rule, ...]
    timeout_s: float = _AASTRA_DIGIT_TIMEOUT_S
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        found = shortest(self.rules, number)
        if isinstance(found, Verdict):
            return found
        if found.is_partial:
            return after_timer(number, f"no rule is complete: waits {self.timeout_s:g} s (sip digit timeout) or for #")
        return never(f"no rule matches {found.typed}: the call is rejected")

    def remedy(self, number: str) -> str:
        return f"write {number}| before the other rules, and no shorter rule that starts with {number[:1]}"


def parse_aastra(text: str, timeout_s: float = _AASTRA_DIGIT_TIMEOUT_S) -> AastraPlan:
    """Read one plan. Never fails: "if a parsing error occurs, the phone uses the default dial plan"."""
    body = text.strip().strip('"')
    rules, broken = alternatives(body, _aastra_rule) if "(" not in body else _grouped(body)
    if len(body) > _LONGEST_AASTRA:
        broken.append(f"{body[:20]}...: longer than {_LONGEST_AASTRA} characters")
    if broken:
        rules, _ = alternatives(AASTRA_DEFAULT, _aastra_rule)
    return AastraPlan(tuple(rules), timeout_s, tuple(broken))


def _aastra_rule(text: str) -> Rule:
    body, found, prepended = text.partition(",")
    if found and not set(prepended) <= KEYPAD:
        raise ValueError(f"{prepended!r} cannot be put before a number")
    return Rule(text, compiled([Emit(prepended), *_AASTRA.read_all(body)]))


def _grouped(text: str) -> tuple[list[Rule], list[str]]:
    """A plan with parentheses is one expression."""
    try:
        part, place = _either(text[:MAX_PLAN], 0, 0)
        if place < len(text):
            raise ValueError(f"{text[place:]!r} is no part of a rule")  # noqa: TRY301
        return [Rule(text, compiled([part]))], []
    except ValueError as exc:
        return [], [f"{text}: {exc}"]


def _either(text: str, place: int, depth: int) -> tuple[Expression, int]:
    if depth > _MAX_DEPTH:
        raise ValueError("too many parentheses")
    options: list[Expression] = []
    parts: list[Expression] = []
    while place < len(text) and text[place] != ")":
        if text[place] == "|":
            options.append(Sequence(tuple(parts)))
            parts = []
            place += 1
        elif text[place] == "(":
            inner, place = _either(text, place + 1, depth + 1)
            if place >= len(text):
                raise ValueError("a parenthesis is not closed")
            parts.append(inner)
            place += 1
        else:
            place = _AASTRA.read(text, place, parts)
    return Either((*options, Sequence(tuple(parts)))), place


def aastra_plans(settings: Settings) -> Plans:
    timeout_s = whole(settings, "sip digit timeout", _AASTRA_DIGIT_TIMEOUT_S)
    text = settings.get("sip dial plan", "")
    return {"sip dial plan": parse_aastra(text, timeout_s)} if text.strip('" ') else {}


# --- Avaya J100, 9600 -------------------------------------------------------------------------------------------------

_AVAYA_INTER_DIGIT_S = 5
_AVAYA = Signs(wild={"x": ANY_DIGIT, "X": ANY_DIGIT}, repeats={"+": 0}, ignored="zZ")


@dataclass(frozen=True, slots=True)
class FormatPlan:
    """Format strings where a complete one waits while another can take more digits: neither vendor promises that it
    does not. `setting` holds the plan, `waits_partial`: an incomplete number is sent when the timer ends.
    """

    rules: tuple[Rule, ...]
    timer_s: float
    setting: str
    waits_partial: bool = True
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        found = unambiguous(self.rules, number, self.timer_s)
        if isinstance(found, Verdict):
            return found
        if self.waits_partial:
            return after_timer(number, f"no rule is complete with {found.typed}: waits {self.timer_s:g} s")
        return never(f"no rule is complete with {found.typed}: the number is not valid")

    def remedy(self, number: str) -> str:
        return f"write {number} as a rule of {self.setting} and let no other rule match more digits after {number}"


def _avaya_rule(text: str) -> Rule:
    return Rule(text, compiled(_AVAYA.read_all(text)))


def parse_avaya(text: str, timer_s: float = _AVAYA_INTER_DIGIT_S) -> FormatPlan:
    """Read `DIALPLAN`. A comma separates nothing: the formats around it are judged as if it did, and named."""
    body = text.strip().strip('"').strip("|")
    broken = [
        f"{one}: a comma is no part of a format; separate formats with |" for one in body.split("|") if "," in one
    ]
    rules, faulty = alternatives(body.replace(",", "|"), _avaya_rule)
    return FormatPlan(tuple(rules), max(timer_s, 1), "DIALPLAN", broken=(*broken, *faulty))


def avaya_plans(settings: Settings) -> Plans:
    timer_s = whole(settings, "INTER_DIGIT_TIMEOUT", _AVAYA_INTER_DIGIT_S)
    text = settings.get("DIALPLAN", "")
    return {"DIALPLAN": parse_avaya(text, timer_s)} if text.strip('" ') else {}


# --- VTech (also the phones of other brands built on it) ------------------------------------------------------------

_VTECH_INTER_DIGIT_S = 3
_VTECH = Signs(wild={"x": Keys(KEYPAD - {"+"})}, repeats={"+": 1}, ignored=", ", substitutes="(:)")


def _vtech_rule(text: str, default_s: float) -> Rule:
    pause = re.search(r"P(\d{0,3})\Z", text)
    wait_s = None if pause is None else float(pause[1] or default_s)
    body = text if pause is None else text[: pause.start()]
    parts = _VTECH.read_all(body)
    if wait_s is None and parts and isinstance(parts[-1], Repeat):
        wait_s = default_s  # a series without end is over only when the inter-digit timer says so
    return Rule(text, compiled(parts), wait_s)


def parse_vtech(text: str, timer_s: float = _VTECH_INTER_DIGIT_S) -> FormatPlan:
    """Read `sip_account.n.dial_plan`: `x` any key, `x+` any number of them, `P3` a pause, `(4:723)` sends 723 for 4."""
    timer_s = max(timer_s, 1)
    rules, broken = alternatives(text, lambda one: _vtech_rule(one, timer_s))
    return FormatPlan(tuple(rules), timer_s, "dial_plan", waits_partial=False, broken=tuple(broken))


def vtech_plans(settings: Settings) -> Plans:
    found: Plans = {}
    for name, value in settings.items():
        account = re.fullmatch(r"(?:(sip_account\.\d+)\.)?dial_plan", name)
        if account is not None and value:
            timeout = f"{account[1]}.inter_digit_timeout" if account[1] else "inter_digit_timeout"
            found[name] = parse_vtech(value, whole(settings, timeout, _VTECH_INTER_DIGIT_S))
    return found
