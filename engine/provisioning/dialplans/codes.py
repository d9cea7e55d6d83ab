"""Codes of a phone's own services (`*69`, call return), read as a part of its dial plan (pure).

Sources: SPA9000 administration guide p. 177 and SPA232D administration guide p. 90: every vertical service activation
code is part of the dial plan, put there by the phone itself; OBi device administration guide, "Star Code Profiles": a
star code is looked for in what is dialled before any digit map is. A code of plain digits can so take an emergency
number from the caller: the service starts, and nobody is called.
"""

from dataclasses import dataclass

from engine.provisioning.dialplans.matching import Rule, unambiguous
from engine.provisioning.dialplans.verdict import Completion, Verdict, after_timer, never

CODE_TIMER_S = 3  # any: what waits is refused whatever it waits for


@dataclass(frozen=True, slots=True)
class CodePlan:
    """The codes of one setting, beside the dial plan. `broken`: those that are not well formed."""

    rules: tuple[Rule, ...]
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        found = unambiguous(self.rules, number, CODE_TIMER_S)
        if isinstance(found, Verdict):
            return never(
                f"it is the code of a service of the phone's own, so that {number} calls nobody", rule=found.rule
            )
        if found.is_partial:
            longer = next((rule.text for rule in self.rules if rule.text.startswith(number)), self.rules[0].text)
            return after_timer(number, f"the phone may wait for the rest of the code {longer}")
        return Verdict(Completion.IMMEDIATE, number, None, "it begins no code")

    def remedy(self, number: str) -> str:
        return f"leave the setting out, or write a code that begins with * and not with {number[0]}"
