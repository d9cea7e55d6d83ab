"""Yealink: dial-now, replace, block-out and area-code rules, or the digit map that stands in their place (pure).

Source: Yealink administrator's guide for T2, T4, T5 series, "Dial Plan".
"""

import re
from dataclasses import dataclass

from engine.provisioning.dialplans.matching import (
    MAX_RULES,
    Expression,
    Group,
    Repeat,
    Rule,
    Run,
    Sequence,
    sent_by,
)
from engine.provisioning.dialplans.rfc3435 import yealink_digit_map
from engine.provisioning.dialplans.signs import ANY_KEY, Signs, compiled
from engine.provisioning.dialplans.verdict import Completion, Plans, Settings, Verdict, never, settled, whole

_SIGNS = Signs(wild={"x": ANY_KEY, "X": ANY_KEY}, repeats={}, separator=",")
_ANY_SERIES = Repeat(ANY_KEY, 1)  # a dot: one or more of anything


@dataclass(frozen=True, slots=True)
class Replacement:
    """A replace rule: what `expression` matches is sent as `sent`, which may quote its parentheses as `$1`."""

    rule: Rule
    expression: Expression
    sent: str

    def apply(self, number: str) -> str:
        return re.sub(r"\$(\d)", lambda quoted: self._group(int(quoted[1]), number), self.sent)

    def _group(self, group: int, number: str) -> str:
        run = Run(compiled([self.expression], quoting=group))
        for key in number:
            run.press(key)
        return run.sent or ""


@dataclass(frozen=True, slots=True)
class YealinkRules:
    """The four features of the phone's own dial plan. `delay_s`: `phone_setting.dialnow_delay`."""

    dial_now: tuple[Rule, ...] = ()
    replace: tuple[Replacement, ...] = ()
    block_out: tuple[Rule, ...] = ()
    area_code: str = ""
    area_code_lengths: tuple[int, int] = (1, 15)
    delay_s: float = 1.0
    digit_map_on: bool = False
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        if self.digit_map_on:
            return never(
                "the digit map switches the dial-now rules off, and no digit map is written",
                rule="dialplan.digitmap.enable",
            )
        for length in range(1, len(number) + 1):
            typed = number[:length]
            rule = next((rule for rule in self.dial_now if sent_by(rule, typed) is not None), None)
            if rule is not None and length < len(number) and self.delay_s <= 0:
                return settled(number, typed, rule.text, typed)
            if rule is not None and length == len(number):
                return self._dialled(number, rule)
        return Verdict(
            Completion.AFTER_TIMER,
            self._rewrite(number),
            None,
            "no dial-now rule: waits for the inter-digit timer or Send",
        )

    def _dialled(self, number: str, rule: Rule) -> Verdict:
        blocked = next((block for block in self.block_out if sent_by(block, number) is not None), None)
        if blocked is not None:
            return never("a block-out rule refuses it", rule=blocked.text)
        sent = self._rewrite(number)
        if self.delay_s > 0:
            return Verdict(
                Completion.AFTER_TIMER, sent, rule.text, f"phone_setting.dialnow_delay waits {self.delay_s:g} s"
            )
        return settled(number, number, rule.text, sent)

    def _rewrite(self, number: str) -> str:
        for replacement in self.replace:
            if sent_by(replacement.rule, number) is not None:
                return replacement.apply(number)
        shortest, longest = self.area_code_lengths
        if self.area_code and shortest <= len(number) <= longest:
            return self.area_code + number
        return number

    def remedy(self, number: str) -> str:
        return f"write dialplan.dialnow.rule.1 = {number} with phone_setting.dialnow_delay = 0 and without a digit map"


def _read(text: str) -> Expression:
    """Read one rule: digits, `x`, `[2,5-8]`, `.` (one or more of anything), parentheses for `$1`.

    Raises:
        ValueError: something else.
    """
    open_groups: list[tuple[int, list[Expression]]] = []
    parts: list[Expression] = []
    groups = place = 0
    while place < len(text):
        character = text[place]
        if character == "(":
            groups += 1
            open_groups.append((groups, parts))
            parts = []
        elif character == ")":
            if not open_groups:
                raise ValueError("parentheses do not pair")
            number, outer = open_groups.pop()
            parts = [*outer, Group(number, Sequence(tuple(parts)))]
        elif character == ".":
            parts.append(_ANY_SERIES)
        else:
            place = _SIGNS.read(text, place, parts) - 1
        place += 1
    if open_groups:
        raise ValueError("parentheses do not pair")
    return Sequence(tuple(parts))


def parse_yealink(settings: Settings) -> YealinkRules:
    """Read the plan out of a phone's settings by their names. Never fails: what is not well formed goes to `broken`."""
    broken: list[str] = []

    def rules(stem: str) -> list[tuple[str, Expression, Rule]]:
        found = []
        written = [(name, value) for name, value in settings.items() if name.startswith(stem) and value]
        broken.extend(f"{name} = {value}: only {MAX_RULES} rules are read" for name, value in written[MAX_RULES:][:1])
        for name, value in written[:MAX_RULES]:
            try:
                expression = _read(value)
                found.append((name.removeprefix(stem), expression, Rule(value, compiled([expression]))))
            except ValueError as exc:
                broken.append(f"{name} = {value}: {exc}")
        return found

    replace = tuple(
        Replacement(rule, expression, settings.get(f"dialplan.replace.replace.{number}", ""))
        for number, expression, rule in rules("dialplan.replace.prefix.")
    )
    lengths = (whole(settings, "dialplan.area_code.min_len", 1), whole(settings, "dialplan.area_code.max_len", 15))
    return YealinkRules(
        dial_now=tuple(rule for _, _, rule in rules("dialplan.dialnow.rule.")),
        replace=replace,
        block_out=tuple(rule for _, _, rule in rules("dialplan.block_out.number.")),
        area_code=settings.get("dialplan.area_code.code", ""),
        area_code_lengths=lengths,
        delay_s=float(whole(settings, "phone_setting.dialnow_delay", 1)),  # the factory value is 1
        digit_map_on=settings.get("dialplan.digitmap.enable", "0") == "1",
        broken=tuple(broken),
    )


def plans(settings: Settings) -> Plans:
    """The phone's plan, and that of every account whose own digit map is on."""
    own = parse_yealink(settings)
    phone_map = yealink_digit_map(settings, "dialplan.digitmap") if own.digit_map_on else None
    found: Plans = {"dialplan": own if phone_map is None else phone_map}
    for name, value in settings.items():
        if name.startswith("account.") and name.endswith(".dialplan.digitmap.enable") and value == "1":
            account_map = yealink_digit_map(settings, name.removesuffix(".enable"))
            found[name] = YealinkRules(digit_map_on=True) if account_map is None else account_map
    return found
