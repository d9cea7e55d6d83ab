"""Dial plans of Grandstream phones and adapters, and of Htek's, which took the notation over (pure).

Sources: GRP261x and GXP administration guides, "Dial Plan"; GXW410x "DTMF dial notes" (illegal input falls back to
the default); Htek IP Phones Dial Plan Guide 2.0.4.4.24.

Neither vendor says what a complete rule does while another can take more digits. It is judged as a wait for the No Key
Entry Timeout, since `{ x+ }` is known to wait.
"""

import re
from dataclasses import dataclass

from engine.provisioning.dialplans.matching import KEYPAD, Expression, Keys, Rule, unambiguous
from engine.provisioning.dialplans.signs import ANY_DIGIT, MAX_PLAN, Signs, alternatives, compiled, literal
from engine.provisioning.dialplans.verdict import Completion, Plans, Settings, Verdict, never, settled, whole

NO_KEY_ENTRY_S = 4
T_WAITS_S = 3.0  # "the phone will wait for 3 seconds before dialing out"
_SIGNS = Signs(
    wild={"x": ANY_DIGIT, "X": Keys(KEYPAD - {"#"})}, repeats={"+": 1, ".": 0}, ignored=", \t\r\n", substitutes="<=>"
)
_DEFAULT = "x+"
_HTEK_DEFAULT = "[x*]+"
_P_PLANS = frozenset({"P290", "P459", "P559", "P659", "P1759", "P1859", *(f"P{code}" for code in range(4200, 4210))})
_P_PREFIXES = ("P66", "P766", "P866", "P966")


@dataclass(frozen=True, slots=True)
class BracePlan:
    """`{ rule | rule }`. `prefix` is put before every number; `early_dial`: every key is sent by itself."""

    rules: tuple[Rule, ...]
    timer_s: float = NO_KEY_ENTRY_S
    prefix: str = ""
    early_dial: bool = False
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        if self.early_dial:
            return never(f"early dial sends {number[:1]} before {number} has been typed", sent=number[:1])
        found = unambiguous(self.rules, number, self.timer_s)
        if not isinstance(found, Verdict):
            return never(f"no rule accepts {found.typed}: the call is refused")
        if self.prefix and found.completion is Completion.IMMEDIATE:
            return settled(number, number, found.rule, self.prefix + number)
        return found

    def remedy(self, number: str) -> str:
        if self.prefix:
            return "take the dial plan prefix out"
        return f"write {number} as a rule and let no other rule match more digits after {number}"


def parse_grandstream(
    text: str, timer_s: float = NO_KEY_ENTRY_S, *, prefix: str = "", early_dial: bool = False, default: str = _DEFAULT
) -> BracePlan:
    """Read one plan. Never fails: one rule that is not well formed makes the phone fall back to its default plan."""
    body, broken = text[:MAX_PLAN].strip(), list[str]()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1]
    else:
        broken.append(f"{text[:40]}: the plan is not in braces")
    rules, faulty = alternatives(body, _rule)
    broken += faulty
    if broken:
        rules, _ = alternatives(default, _rule)
    return BracePlan(tuple(rules), max(timer_s, 1), prefix, early_dial, tuple(broken))


def _rule(text: str) -> Rule:
    parts: list[Expression] = []
    is_barred = text.startswith("^")
    body = text.removeprefix("^")
    body, wait_s = (body[:-1], T_WAITS_S) if body.endswith("T") and not body.endswith("\\T") else (body, None)
    place = 0
    while place < len(body):
        if body[place] == "\\" and place + 1 < len(body):
            parts.append(literal(body[place + 1]))
            place += 2
        else:
            place = _SIGNS.read(body, place, parts)
    return Rule(text, compiled(parts), wait_s, is_barred)


def plans(settings: Settings) -> Plans:
    """The plan of every account or port. P-values do not say which prefix is whose: one that is set counts for all.
    Phones read the names of items in capitals or without; of two spellings either may be the one that is kept.
    """
    timer_s = whole(settings, "P85", NO_KEY_ENTRY_S)
    prefix = next((settings[name] for name in _P_PREFIXES if settings.get(name)), "")
    early = settings.get("P29") == "1"
    found: Plans = {
        name: parse_grandstream(value, timer_s, prefix=prefix, early_dial=early)
        for name, value in settings.items()
        if name in _P_PLANS and value
    }
    folded: dict[str, str] = {}
    for name, value in settings.items():
        known = folded.get(name.lower(), "")
        folded[name.lower()] = known if known and not _is_set(value) else value
    for name, value in settings.items():
        account = re.fullmatch(r"(account\.\d+\.call)\.dialplan", name.lower())
        if account is not None and value:
            found[name] = parse_grandstream(
                value,
                whole(folded, f"{account[1]}.nokeyentrytimeout", NO_KEY_ENTRY_S),
                prefix=folded.get(f"{account[1]}.dialplanprefix", ""),
                early_dial=folded.get(f"{account[1]}.earlydial", "").lower() in {"1", "yes"},
            )
    return found


def _is_set(value: str) -> bool:
    return value.lower() not in {"", "0", "no"}


def htek_plans(settings: Settings) -> Plans:
    named = re.compile(r"P42\d\d|Account\d+[._]DialPlan")
    return {
        name: parse_grandstream(value, whole(settings, "P85", NO_KEY_ENTRY_S), default=_HTEK_DEFAULT)
        for name, value in settings.items()
        if value and named.fullmatch(name)
    }
