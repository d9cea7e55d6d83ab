"""Digit maps that send at the shortest complete rule (RFC 3435 §2.1.5): Digium and Sangoma, AudioCodes, Panasonic,
Yealink's digit map (pure).

Sources: Sangoma "Dial Plans" and "How Digium phone digitmap works" (911 beside [0-9]xxx "immediately"); AudioCodes
400HD administrator's manual, "Digit Map"; Panasonic KX-UT and KX-HDV administrator's manuals, "Dial Plan Settings"
(911 beside [2-9]xxxxxxxxx "immediately"); Yealink administrator's guide, "Basic Regular Expression Syntax for Digit
Map".
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from engine.provisioning.dialplans.matching import Rule, Unmatched, sent_by, shortest
from engine.provisioning.dialplans.signs import ANY_DIGIT, Signs, alternatives, compiled
from engine.provisioning.dialplans.verdict import (
    Completion,
    Plans,
    Settings,
    Verdict,
    after_timer,
    never,
    settled,
    whole,
)

Otherwise = Callable[[str, Unmatched], Verdict]
_MOST_PANASONIC = 20  # "up to 20 dial plans separated by |" (KX-UT1xx, KX-TGP); the KX-UT670 reads 40
_LONGEST_PANASONIC = 500


@dataclass(frozen=True, slots=True)
class DigitMap:
    """`otherwise` says what becomes of a number that no rule decides; `translate` changes what is sent."""

    rules: tuple[Rule, ...]
    otherwise: Otherwise
    broken: tuple[str, ...] = ()
    translate: tuple[tuple[Rule, str], ...] = ()

    def decide(self, number: str) -> Verdict:
        found = shortest(self.rules, number)
        if not isinstance(found, Verdict):
            return self.otherwise(number, found)
        if found.completion is Completion.IMMEDIATE:
            for rule, target in self.translate:
                if sent_by(rule, number) is not None:
                    return settled(number, number, rule.text, target)
        return found

    def remedy(self, number: str) -> str:
        return f"put {number} first, without a timer, and no shorter rule before it"


# --- Digium D-series, Sangoma P-series ------------------------------------------------------------------------------

_DIGIUM = Signs(wild={"x": ANY_DIGIT}, repeats={".": 0})
_DIGIUM_WAITS_S = 4.0  # "a digit map with a timer, but no specified time value, defaults to 4 seconds"


def _with_timer(signs: Signs, default_s: float, text: str) -> Rule:
    """A rule that may end in `T`, `T3` or `<T3>`."""
    timer = re.search(r"(?:T(\d*)|<T(\d+)>)\Z", text)
    wait_s = None
    if timer is not None:
        wait_s = float(timer[1] or timer[2] or default_s) if len(timer[0]) < 6 else default_s
        text_before = text[: timer.start()]
    else:
        text_before = text
    return Rule(text, compiled(signs.read_all(text_before)), wait_s)


def _send_impossible(number: str, found: Unmatched) -> Verdict:
    if found.is_partial:
        return never(f"every rule that starts with {found.typed} asks for more digits: the caller must press Dial")
    if found.typed == number:
        return settled(number, number, None, number)
    return never(f"no rule can match {found.typed}, which is sent before {number} has been typed", sent=found.typed)


def parse_digium(text: str) -> DigitMap:
    """Read `dial_plan`. "The phone will attempt to immediately dial any pattern that does not have a matching rule"."""
    rules, broken = alternatives(text, partial(_with_timer, _DIGIUM, _DIGIUM_WAITS_S))
    return DigitMap(tuple(rules), _send_impossible, tuple(broken))


def digium_plans(settings: Settings) -> Plans:
    return {
        name: parse_digium(value)
        for name, value in settings.items()
        if value and re.fullmatch(r"(?:account(?:\.\d+)?[@.])?dial_?plan", name)
    }


# --- AudioCodes 400HD -------------------------------------------------------------------------------------------------


def _wait_impossible(number: str, found: Unmatched) -> Verdict:
    why = "no rule is complete: waits for the dialling timer or #"
    return after_timer(number, why, rule=None if found.is_partial else f"none for {found.typed}")


def parse_audiocodes(text: str, number_rules: str = "") -> DigitMap:
    """Read `digit_map` (bars or semicolons) and `number_rules` (`4xxx=Line_\\\\\\@10.1.2.3`: sent elsewhere)."""
    bars = text.replace(";", "|").strip().strip("|")
    rules, broken = alternatives(bars, partial(_with_timer, _DIGIUM, 5.0))
    translate = []
    for one in filter(None, number_rules.split(";")):
        pattern, found, target = one.partition("=")
        try:
            if found:
                translate.append((Rule(one, compiled(_DIGIUM.read_all(pattern.strip()))), target.strip()))
        except ValueError as exc:
            broken.append(f"{one}: {exc}")
    return DigitMap(tuple(rules), _wait_impossible, tuple(broken), tuple(translate))


def audiocodes_plans(settings: Settings) -> Plans:
    text = settings.get("voip/signalling/sip/digit_map", "")
    rules = settings.get("voip/signalling/sip/number_rules", "")
    return {"voip/signalling/sip/digit_map": parse_audiocodes(text, rules)} if text else {}


# --- Panasonic KX-UT, KX-HDV, KX-TGP ----------------------------------------------------------------------------------

_PANASONIC = Signs(wild={"x": ANY_DIGIT, "X": ANY_DIGIT}, repeats={".": 0}, ignored=",", substitutes="<:>")


def _panasonic_rule(text: str) -> Rule:
    body, is_barred = (text[:-1], True) if text.endswith("!") else (text, False)
    timer = re.search(r"(?:[Tt]|[Ss](\d)|(\d)[Ss])\Z", body)
    wait_s = None
    if timer is not None:
        wait_s = float(timer[1] or timer[2] or 5)
        body = body[: timer.start()]
    parts = _PANASONIC.read_all(body)
    if wait_s is None and body.endswith("."):
        wait_s = 5.0  # "partial match (when the dial plan contains .): after the inter-digit timer expires"
    return Rule(text, compiled(parts), wait_s, is_barred)


def _panasonic_otherwise(sends_unmatched: bool, number: str, found: Unmatched) -> Verdict:
    if sends_unmatched:
        return after_timer(number, "no rule is complete: waits for the inter-digit timer")
    return never(f"no rule is complete with {found.typed}, and DIAL_PLAN_NOT_MATCH_ENABLE refuses the rest")


def parse_panasonic(text: str, *, sends_unmatched: bool = False) -> DigitMap:
    """Read `DIAL_PLAN_n`."""
    rules, broken = alternatives(text, _panasonic_rule, most=_MOST_PANASONIC)
    if len(text) > _LONGEST_PANASONIC:
        broken.append(f"{text[:20]}...: longer than {_LONGEST_PANASONIC} characters")
    return DigitMap(tuple(rules), partial(_panasonic_otherwise, sends_unmatched), tuple(broken))


def panasonic_plans(settings: Settings) -> Plans:
    found: Plans = {}
    for name, value in settings.items():
        line = re.fullmatch(r"DIAL_PLAN(_\d+)?", name)
        if line is not None and value:
            sends = settings.get(f"DIAL_PLAN_NOT_MATCH_ENABLE{line[1] or ''}", "N").upper() == "Y"
            found[name] = parse_panasonic(value, sends_unmatched=sends)
    return found


# --- Yealink's digit map --------------------------------------------------------------------------------------------

_YEALINK = Signs(wild={"x": ANY_DIGIT}, repeats={".": 0}, ignored=", ", substitutes="<:>")


def _yealink_segment(text: str) -> Rule:
    body = re.sub(r"(?:A|<A\d+>)\Z", "", text)
    body, is_barred = (body[:-1], True) if body.endswith("!") else (body, False)
    timer = re.search(r"(?:T|<T(\d{1,2})>)\Z", body)
    wait_s = None if timer is None else float(timer[1] or 3)
    body = body if timer is None else body[: timer.start()]
    parts = _YEALINK.read_all(body)
    return Rule(text, compiled(parts), wait_s, is_barred)


def _yealink_otherwise(action: int, number: str, found: Unmatched) -> Verdict:
    if found.is_partial:
        return after_timer(number, "no rule is complete: waits for dialplan.digitmap.interdigit_long_timer")
    if action == 0:
        return _send_impossible(number, found)
    if action == 1:
        return never(f"no rule matches {found.typed}: the phone says that the number is forbidden")
    return after_timer(number, f"no rule matches {found.typed}: waits for Send or the long timer")


def parse_yealink_digit_map(text: str, no_match_action: int = 0) -> DigitMap:
    """Read `dialplan.digitmap.string` with its `no_match_action` (0 send, 1 forbid, 2 wait for Send)."""
    rules, broken = alternatives(text, _yealink_segment)
    return DigitMap(tuple(rules), partial(_yealink_otherwise, no_match_action), tuple(broken))


def yealink_digit_map(settings: Settings, stem: str) -> DigitMap | None:
    """The digit map under `dialplan.digitmap` or `account.2.dialplan.digitmap`; None where no string is set."""
    text = settings.get(f"{stem}.string") or settings.get("dialplan.digitmap.string", "")
    action = whole(settings, f"{stem}.no_match_action", whole(settings, "dialplan.digitmap.no_match_action", 0))
    return parse_yealink_digit_map(text, action) if text else None
