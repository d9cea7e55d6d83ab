"""Poly digit maps (UC Software and PVOS administrator guides; the base is the digit map of RFC 3435 §2.1.5, shortest
match), pure.
"""

from dataclasses import dataclass

from engine.provisioning.dialplans.matching import (
    KEYPAD,
    Emit,
    Expression,
    Keys,
    Muted,
    Repeat,
    Rule,
    Sequence,
    Unmatched,
    shortest,
)
from engine.provisioning.dialplans.signs import ANY_DIGIT, MAX_PLAN, Signs, compiled
from engine.provisioning.dialplans.verdict import Plans, Settings, Verdict, never, settled

MAX_SEGMENTS = 100  # Poly: a digit map holds at most 100 segments and 2560 bytes (UC Software admin guide)
_SIGNS = Signs(wild={"x": ANY_DIGIT}, repeats={".": 0}, ignored=",")


@dataclass(frozen=True, slots=True)
class PolyDigitMap:
    """`dialplan.digitmap` with its `impossibleMatchHandling` (0 send at once, 1 reorder tone, 2 wait for the Send
    key).
    """

    rules: tuple[Rule, ...]
    impossible_match: int = 0
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        found = shortest(self.rules, number)
        if isinstance(found, Verdict):
            return found
        return self._unmatched(number, found)

    def _unmatched(self, number: str, found: Unmatched) -> Verdict:
        if found.is_partial:
            return never("every rule that starts so asks for more digits: the caller must press Send")
        if self.impossible_match == 0 and found.typed == number:
            return settled(number, number, None, number)
        if self.impossible_match == 0:
            return never(
                f"no rule can match {found.typed}, which is sent before {number} has been typed", sent=found.typed
            )
        how = "a reorder tone is played" if self.impossible_match == 1 else "the caller must press Send"
        return never(f"no rule matches {found.typed}: {how}")

    def remedy(self, number: str) -> str:
        return f"put {number} first in the digit map, without a T, and no shorter rule before it"


def parse_poly(digit_map: str, impossible_match: int = 0) -> PolyDigitMap:
    """Read a Poly digit map. Never fails: a segment that is not well formed goes to `broken`, since the phone ignores
    it too.
    """
    rules, broken = [], []
    for text in digit_map[:MAX_PLAN].split("|")[:MAX_SEGMENTS]:
        try:
            rules.append(_segment(text.strip()))
        except ValueError as exc:
            broken.append(f"{text}: {exc}")
    return PolyDigitMap(tuple(rules), impossible_match, tuple(broken))


def _segment(text: str) -> Rule:
    if not text:
        raise ValueError("an empty rule")
    body, has_timer = (text[:-1], True) if text.endswith("T") else (text, False)
    body = body.rstrip("SH") or body  # S, H: which protocol to use; it does not move the match
    parts: list[Expression] = []
    place = 0
    while place < len(body):
        place = (_replacement if body[place] == "R" else _part)(body, place, parts)
    return Rule(text, compiled(parts), wait_s=3.0 if has_timer else None)  # dialplan.digitmap.timeOut, factory value 3


def _replacement(body: str, place: int, parts: list[Expression]) -> int:
    """Read `R<match>R<digits>R` from its first R, append it and return the place after it.

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
    matched: list[Expression] = []
    inner = place + 1
    while inner < second:
        inner = _part(body[:second], inner, matched)
    parts += [Muted(Sequence(tuple(matched))), Emit(digits)]
    return third + 1


def _part(body: str, place: int, parts: list[Expression]) -> int:
    after = _SIGNS.read(body, place, parts)
    last = parts[-1] if parts else None
    if isinstance(last, Keys) and not last.accepts <= KEYPAD:
        raise ValueError(f"{body[place:after]} holds more than 0-9 * # +")
    if isinstance(last, Repeat) and isinstance(last.part, Repeat):
        parts[-1] = last.part  # two dots say what one does
    return after


def plans(settings: Settings) -> Plans:
    """The phone's map and every registration's own one (`dialplan.2.digitmap`), which replaces it."""
    found: Plans = {}
    for name, value in settings.items():
        if name.endswith(".digitmap") and value:
            handling = settings.get(name.removesuffix("digitmap") + "impossibleMatchHandling", "0")
            found[name] = parse_poly(value, int(handling) if handling in {"0", "1", "2"} else 0)
    return found
