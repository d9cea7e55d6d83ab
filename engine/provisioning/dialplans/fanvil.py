"""Fanvil's dial plan: rules in a table, and what the phone does without one (pure).

Source: Fanvil X34 dial plan guide ("Tn: digit collecting is finished after n seconds; if Tn is not configured, the
system considers it as T0, that is, finish the digit collecting immediately"; Match to Send; aliases all, add, del,
rep); Fanvil X5 user manual, "Dial Peer" (a bare T after a number: prefix matching). Flags are 0 (no) and 1 (yes).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.provisioning.dialplans.matching import MAX_RULES, Repeat, Rule, Unmatched, shortest
from engine.provisioning.dialplans.signs import ANY_DIGIT, ANY_KEY, Signs, compiled
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

INCOMING_ONLY = "1"  # ApplyToCall: 0 outgoing, 1 incoming, 2 both
_TIMEOUT_S = 10
_FIXED_LENGTH = 11
_NO_TIMER_S = 99.0  # a rule that does not send by itself
_SIGNS = Signs(wild={"x": ANY_DIGIT, "X": ANY_DIGIT}, repeats={}, ignored=",", separator=",")


@dataclass(frozen=True, slots=True)
class Change:
    """What a rule does to a number: `alias` all, add, del or rep with its text, `delete` digits first, a `suffix`."""

    alias: str = ""
    delete: int = 0
    suffix: str = ""

    def apply(self, number: str) -> str:
        kind, _, text = (part.strip() for part in self.alias.partition(":"))
        if kind == "all":
            return text + self.suffix
        rest = number[self.delete :] if kind in {"del", "rep"} else number
        return (text if kind in {"add", "rep"} else "") + rest + self.suffix


@dataclass(frozen=True, slots=True)
class FanvilRules:
    """The table. `timeout_s` None: the phone does not send by itself; `fixed_length` 0: off."""

    rules: tuple[Rule, ...]
    changes: Mapping[str, Change]
    timeout_s: int | None = _TIMEOUT_S
    fixed_length: int = 0
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        found = shortest(self.rules, number)
        if 0 < self.fixed_length <= len(number) and not self._sends_before(found):
            return settled(number, number[: self.fixed_length], "DialFixedLength", number[: self.fixed_length])
        if isinstance(found, Unmatched) or (found.completion is Completion.AFTER_TIMER):
            return self._waits(number, found)
        if found.completion is Completion.IMMEDIATE and found.rule is not None:
            return settled(number, number, found.rule, self.changes.get(found.rule, Change()).apply(number))
        return found

    def _sends_before(self, found: Verdict | Unmatched) -> bool:
        """A rule sends no later than the fixed length does."""
        if isinstance(found, Unmatched) or found.completion is Completion.AFTER_TIMER:
            return False
        return len(found.sent or "") <= self.fixed_length

    def _waits(self, number: str, found: Verdict | Unmatched) -> Verdict:
        rule = found.rule if isinstance(found, Verdict) else None
        wait_s = next((one.wait_s for one in self.rules if one.text == rule), None)
        if wait_s is not None and wait_s < _NO_TIMER_S:
            return after_timer(number, f"waits {wait_s:g} s (T{wait_s:g})", rule=rule)
        if self.timeout_s is None:
            return never("no rule sends it and DialbyTimeout is off: the caller must press # or Dial", rule=rule)
        return after_timer(number, f"no rule sends it: waits {self.timeout_s} s (DialTimeoutvalue)", rule=rule)

    def remedy(self, number: str) -> str:
        return f"make {number} the first rule, with MatchToSend 1 and no alias"


def parse_fanvil(settings: Settings) -> FanvilRules:
    """Read the rules `dialplan.n.…` in the order of n. Never fails: what is not well formed goes to `broken`."""
    rules, changes, broken = [], dict[str, Change](), list[str]()
    stems = sorted(
        (int(found[1]), found[0].removesuffix("Number"))
        for found in (re.fullmatch(r"dialplan\.(\d{1,6})\.Number", name) for name in settings)
        if found is not None
    )
    for _, stem in stems[:MAX_RULES]:
        text = settings[f"{stem}Number"].strip()
        if not text or settings.get(f"{stem}ApplyToCall", "0") == INCOMING_ONLY:
            continue
        try:
            rules.append(_rule(text, sends=settings.get(f"{stem}MatchToSend", "1") == "1"))
        except ValueError as exc:
            broken.append(f"{text}: {exc}")
            continue
        delete = whole(settings, f"{stem}DelLen", 0)
        changes.setdefault(
            text, Change(settings.get(f"{stem}Alias", ""), delete, settings.get(f"{stem}Suffix", "").strip())
        )
    by_timeout = settings.get("DialbyTimeout", "1") != "0"
    fixed = settings.get("DialFixedLength", "0") == "1"
    return FanvilRules(
        tuple(rules),
        changes,
        whole(settings, "DialTimeoutvalue", _TIMEOUT_S) if by_timeout else None,
        whole(settings, "FixedLengthNums", _FIXED_LENGTH) if fixed else 0,
        tuple(broken),
    )


def _rule(text: str, *, sends: bool) -> Rule:
    timer = re.search(r"T(\d?)\Z", text)
    body = text if timer is None else text[: timer.start()]
    wait_s = float(timer[1]) if timer is not None and timer[1] else None
    if timer is not None and not timer[1]:
        body, sends = f"{body}.", False  # a bare T: whatever follows the prefix, until the phone's own timer
    parts = _SIGNS.read_all(body.replace(".", ""))
    if "." in body:
        if not body.endswith("."):
            raise ValueError("a dot stands at the end of a rule")
        parts.append(Repeat(ANY_KEY))  # "matches any length, including empty"
    return Rule(text, compiled(parts), wait_s if sends else _NO_TIMER_S)


def plans(settings: Settings) -> Plans:
    return {"dialplan": parse_fanvil(settings)}
