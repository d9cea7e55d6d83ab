"""Dial plans: one parser per vendor grammar, and the proof that an emergency number completes at once with no prefix
(pure).

A plan is a rule for when a phone sends what has been typed. The question asked here is always the same: somebody
types 9, 1, 1 and waits. `DialPlan.decide` answers with a `Verdict`; `faults` asks it for every emergency number of
every plan found in a rendered file. The grammars stand in `engine.provisioning.dialplans`, one module per family; a
new one adds a line to `GRAMMARS` and to `dialplans.reading.READERS`.

A number *completes* when the phone sends it by itself. Four things can happen:
immediate    sent with the last digit, unchanged
after_timer  sent only when an inter-digit timer runs out
rewritten    sent at once, but as another number
never        sent short, refused, or only when the caller presses a key
"""

from collections.abc import Callable
from functools import lru_cache

from engine.errors import UnsafeValue
from engine.provisioning.dialplans import (
    cisco,
    enterprise,
    fanvil,
    format_strings,
    grandstream,
    poly,
    rfc3435,
    snom,
    whole_numbers,
    yealink,
)
from engine.provisioning.dialplans.poly import PolyDigitMap, parse_poly
from engine.provisioning.dialplans.reading import settings_in
from engine.provisioning.dialplans.verdict import Completion, DialPlan, Plans, Settings, Verdict
from engine.provisioning.dialplans.yealink import YealinkRules, parse_yealink

__all__ = [
    "GRAMMARS",
    "Completion",
    "DialPlan",
    "PolyDigitMap",
    "UnsafeDialPlan",
    "Verdict",
    "YealinkRules",
    "faults",
    "parse_poly",
    "parse_yealink",
    "settings_in",
    "verdicts",
]


class UnsafeDialPlan(UnsafeValue):
    """A rendered plan would delay, change or swallow an emergency number; the file is not served."""

    title = "A dial plan would hold up an emergency call"


GRAMMARS: dict[str, Callable[[Settings], Plans]] = {
    "poly": poly.plans,
    "yealink": yealink.plans,
    "grandstream": grandstream.plans,
    "htek": grandstream.htek_plans,
    "cisco_spa": cisco.plans,
    "cisco_mpp": cisco.plans,
    "cisco_enterprise": enterprise.plans,
    "obihai": cisco.obihai_plans,
    "snom": snom.plans,
    "fanvil": fanvil.plans,
    "aastra": format_strings.aastra_plans,
    "panasonic": rfc3435.panasonic_plans,
    "digium": rfc3435.digium_plans,
    "avaya": format_strings.avaya_plans,
    "vtech": format_strings.vtech_plans,
    "audiocodes": rfc3435.audiocodes_plans,
    "gigaset": whole_numbers.gigaset_plans,
    "linphone": whole_numbers.linphone_plans,
    "acrobits": whole_numbers.acrobits_plans,
    "zoiper": whole_numbers.zoiper_plans,
    "algo": whole_numbers.nothing_typed,
    "none": whole_numbers.nothing_typed,
}


MAX_REPEATED = 8  # an account's own template may repeat none at all (`engine.provisioning.override_proof`)

# Families whose lines each have a plan of their own: the settings that can hold that of line n, any of which will do.
_GRANDSTREAM = ("P290", "P459", "P559", "P659", "P1759", "P1859")
LINE_PLANS: dict[str, Callable[[int], tuple[str, ...]]] = {
    "cisco_spa": lambda line: (f"Dial_Plan_{line}_", "Dial_Plan"),
    "cisco_mpp": lambda line: (f"Dial_Plan_{line}_",),
    "snom": lambda line: (f"user_dp_str.{line}",),
    "panasonic": lambda line: (f"DIAL_PLAN_{line}", "DIAL_PLAN"),
    "vtech": lambda line: (f"sip_account.{line}.dial_plan", "dial_plan"),
    "htek": lambda line: (f"P{4199 + line}", f"Account{line}.DialPlan", f"Account{line}_DialPlan"),
    "grandstream": lambda line: (
        *_GRANDSTREAM[line - 1 : line],
        f"P{4199 + line}",
        f"account.{line}.call.dialplan",
    ),
}


def verdicts(grammar: str, settings: Settings, number: str) -> dict[str, Verdict]:
    """What each plan found in those settings does with the number, by the name of the setting that holds the plan."""
    return {name: plan.decide(number) for name, plan in GRAMMARS[grammar](settings).items()}


@lru_cache(maxsize=512)
def faults(
    grammar: str, settings: tuple[tuple[str, str], ...], numbers: tuple[str, ...], lines: tuple[int, ...] = ()
) -> tuple[str, ...]:
    """Why those settings may not be served: one sentence for every plan that holds an emergency number up, with the
    number, the rule and what to do. Empty when proven. `lines`: the registrations of the file, each of which needs a
    plan where the family has one per line.
    """
    last = dict(settings)
    found = _faults(GRAMMARS[grammar](last), numbers)
    if len(last) != len(settings):  # a setting stands twice: phones differ in which one they keep
        for one in _as_kept(settings):
            found += [fault for fault in _faults(GRAMMARS[grammar](one), numbers) if fault not in found]
    names_of = LINE_PLANS.get(grammar)
    if names_of is not None:
        named = {name.casefold() for name, value in last.items() if value}
        found += [
            f"line {line} has no dial plan, so the phone's own one decides there; write {names_of(line)[0]}"
            for line in lines
            if not any(name.casefold() in named for name in names_of(line))
        ]
    return tuple(found)


def _as_kept(settings: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    """What phones may keep of settings of which some stand twice: the first of each, the second of each, and so on, so
    that every value is judged; at most `MAX_REPEATED` of one.
    """
    values: dict[str, list[str]] = {}
    for name, value in settings:
        values.setdefault(name, []).append(value)
    longest = min(max(map(len, values.values())), MAX_REPEATED)
    return [{name: known[min(at, len(known) - 1)] for name, known in values.items()} for at in range(longest)]


def _faults(plans: Plans, numbers: tuple[str, ...]) -> list[str]:
    if not plans:
        return [f"no dial plan is set, so the phone's own one decides when {', '.join(numbers)} is sent"]
    found = [f"{name}: the rule {rule}" for name, plan in plans.items() for rule in plan.broken]
    for name, plan in plans.items():
        for number in numbers:
            verdict = plan.decide(number)
            if verdict.completion is not Completion.IMMEDIATE:
                found.append(_sentence(name, number, verdict, plan.remedy(number)))
    return found


def _sentence(name: str, number: str, verdict: Verdict, remedy: str) -> str:
    by = f" by the rule {verdict.rule}" if verdict.rule is not None else ""
    if verdict.completion is not Completion.AFTER_TIMER and verdict.rule is not None:
        remedy = f"take the rule {verdict.rule} out, and {remedy}"
    return f"{name}: {number} {verdict.completion.replace('_', ' ')}{by} ({verdict.why}); {remedy}"
