"""`dialplan.xml` of Cisco's enterprise phones (79xx and 78xx/88xx with SIP firmware), pure.

Source: Cisco SIP IP Phone administrator guide 6.x and 7.x, "How to Create Dial Plans". The longest matching rule is
taken, a period not counted; a complete rule is taken only if it has more characters that are no wildcards than every
incomplete one. `Timeout` says how long the phone then waits.
"""

import re
from dataclasses import dataclass

from engine.provisioning.dialplans.matching import (
    Expression,
    Group,
    Repeat,
    Rule,
    Run,
    Sequence,
)
from engine.provisioning.dialplans.signs import ANY_KEY, compiled, literal
from engine.provisioning.dialplans.verdict import Plans, Settings, Verdict, after_timer, never, settled
from engine.provisioning.dialplans.whole_numbers import WholeNumbers

DEFAULT_TIMEOUT_S = 10.0  # of the phone, where no rule says one
MAX_TEMPLATES = 1000
MAX_TEMPLATE = 196  # of the phone


@dataclass(frozen=True, slots=True)
class Template:
    """One `<TEMPLATE>`. `literals`: characters of `MATCH` that are no wildcards; `groups`: how many runs of wildcards
    `rewrite` can quote.
    """

    rule: Rule
    literals: int
    rewrite: str
    expression: Expression
    groups: int


@dataclass(frozen=True, slots=True)
class TemplatePlan:
    templates: tuple[Template, ...]
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        runs = [(template, Run(template.rule.program)) for template in self.templates]
        hot = next((one for one, run in runs if run.sent is not None and one.rule.wait_s == 0), None)
        if hot is not None:
            return never("it dials as soon as the handset is lifted", rule=hot.rule.text)
        for length, key in enumerate(number, start=1):
            for _, run in runs:
                run.press(key)
            runs = [(template, run) for template, run in runs if not run.is_dead]
            best = _taken(runs)
            typed = number[:length]
            if best is not None and best.rule.wait_s == 0:
                return settled(number, typed, best.rule.text, _rewritten(best, typed))
            if best is not None and typed == number:
                why = f"waits {best.rule.wait_s or 0:g} s (Timeout)"
                return after_timer(_rewritten(best, typed), why, rule=best.rule.text)
        return after_timer(number, f"no rule is complete: waits {DEFAULT_TIMEOUT_S:g} s or for the Dial key")

    def remedy(self, number: str) -> str:
        return f'write <TEMPLATE MATCH="{number}" Timeout="0"/> and no rule that starts with {number} and goes on'


def _taken(runs: list[tuple[Template, Run]]) -> Template | None:
    """The complete rule that the phone takes now."""
    complete = [one for one, run in runs if run.sent is not None]
    incomplete = [one.literals for one, run in runs if run.sent is None and run.can_go_on]
    if not complete:
        return None
    best = max(complete, key=lambda one: one.literals)
    return best if best.literals > max(incomplete, default=-1) else None


def _rewritten(template: Template, typed: str) -> str:
    """`Rewrite`: `.` the next digit a period matched, `%0` or `%s` all, `%1` to `%5` a group, `%%` a sign."""
    if not template.rewrite:
        return typed
    quoted = [_quoted(template, group, typed) for group in range(1, template.groups + 1)]
    singles = iter("".join(quoted))
    result, place = [], 0
    while place < len(template.rewrite):
        character, following = template.rewrite[place], template.rewrite[place + 1 : place + 2]
        if character == "%" and following:
            result.append(_percent(following, quoted, typed))
            place += 2
            continue
        result.append(next(singles, "") if character == "." else character)
        place += 1
    return "".join(result)


def _percent(sign: str, quoted: list[str], typed: str) -> str:
    if sign in "0s":
        return typed
    if sign.isdecimal():
        return quoted[int(sign) - 1] if 0 < int(sign) <= len(quoted) else ""
    return sign


def _quoted(template: Template, group: int, typed: str) -> str:
    run = Run(compiled([template.expression], quoting=group))
    for key in typed:
        run.press(key)
    return run.sent or ""


def _template(match: str, timeout: str, rewrite: str) -> Template:
    if len(match) > MAX_TEMPLATE:
        raise ValueError(f"a pattern holds at most {MAX_TEMPLATE} characters")
    parts: list[Expression] = []
    literals = groups = place = 0
    while place < len(match):
        character = match[place]
        if character == "\\" and place + 1 < len(match):
            parts.append(literal(match[place + 1]))
            literals += 1
            place += 1
        elif character == "*":
            groups += 1
            parts.append(Group(groups, Repeat(ANY_KEY, 1)))
        elif character == ".":
            dots = len(match) - place - len(match[place:].lstrip("."))
            groups += 1
            parts.append(Group(groups, Sequence((ANY_KEY,) * dots)))
            place += dots - 1
        elif character.isdecimal() or character == "#":
            parts.append(literal(character))
            literals += 1
        elif character != ",":  # a secondary dial tone
            raise ValueError(f"{character!r} is no part of a pattern")
        place += 1
    if timeout and not re.fullmatch(r"\d{1,3}", timeout):
        raise ValueError(f"Timeout {timeout!r} is no number of seconds")
    expression = Sequence(tuple(parts))
    wait_s = float(timeout or DEFAULT_TIMEOUT_S)
    return Template(Rule(match or "(empty)", compiled([expression]), wait_s), literals, rewrite, expression, groups)


def plans(settings: Settings) -> Plans:
    """`TEMPLATE.n.MATCH`, `.TIMEOUT`, `.REWRITE`, counted from 1 in the order of the file. A device file holds none of
    them and names the file that does, which is proven when it is served itself.
    """
    templates, broken = [], []
    matches = [name for name in settings if re.fullmatch(r"TEMPLATE\.\d+\.MATCH", name)]
    for name in matches[:MAX_TEMPLATES]:
        stem = name.removesuffix("MATCH")
        try:
            templates.append(
                _template(settings[name], settings.get(f"{stem}TIMEOUT", ""), settings.get(f"{stem}REWRITE", ""))
            )
        except ValueError as exc:
            broken.append(f"{settings[name]}: {exc}")
    if matches:
        return {"dialplan.xml": TemplatePlan(tuple(templates), tuple(broken))}
    named = settings.get("dialTemplate", "")
    return {"dialTemplate": WholeNumbers(f"{named} decides, which is proven when it is served")} if named else {}
