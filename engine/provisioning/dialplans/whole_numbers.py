"""Devices that send a number as a whole when somebody presses the call key, and devices that dial nothing at all: no
timer and no prefix can hold a number up there, only a rule that changes it (pure).

Sources: Gigaset N510 and N870 manuals (digits first, then the talk key); Linphone `lpconfig` (a dial prefix is put
before national numbers); Acrobits provisioning, "Number rewriting" and `overrideDialAction`; Zoiper account settings.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from engine.provisioning.dialplans.verdict import Completion, Plans, Settings, Verdict, never, settled


@dataclass(frozen=True, slots=True)
class WholeNumbers:
    """`prefix` is put before every number; `overlap`: digits are sent as they are typed."""

    why: str = "the device sends a number whole, when the call key is pressed"
    prefix: str = ""
    overlap: str = ""
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        if self.overlap:
            return never(f"{number[:1]} is sent before {number} has been typed", rule=self.overlap, sent=number[:1])
        verdict = settled(number, number, None, self.prefix + number)
        is_whole = verdict.completion is Completion.IMMEDIATE
        return Verdict(verdict.completion, verdict.sent, None, self.why) if is_whole else verdict

    def remedy(self, number: str) -> str:
        return f"take {self.overlap or 'the dial prefix'} out, which changes {number}"


def nothing_typed(settings: Settings) -> Plans:
    """`none` and `algo`: intercoms, pagers and alerters call what their configuration says."""
    del settings
    return {"device": WholeNumbers("nobody types a number on this device")}


def gigaset_plans(settings: Settings) -> Plans:
    del settings
    return {"handset": WholeNumbers()}


def linphone_plans(settings: Settings) -> Plans:
    prefix = next((value for name, value in settings.items() if re.search(r"(?:^|/)dial_prefix\Z", name) and value), "")
    return {"account": WholeNumbers(prefix=prefix)}


def zoiper_plans(settings: Settings) -> Plans:
    """`use_overlap_dialing` sends digit by digit; `use_number_rewriting` puts the country before a number."""
    is_on = {name.rpartition("/")[2]: value.lower() in {"true", "1"} for name, value in settings.items()}
    overlap = "use_overlap_dialing" if is_on.get("use_overlap_dialing", False) else ""
    rewriting = "use_number_rewriting" if is_on.get("use_number_rewriting", False) else ""
    return {"account": WholeNumbers(prefix="+" if rewriting else "", overlap=overlap)}


# --- Acrobits, Groundwire ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rewriting:
    """One rule: (type, param) of its conditions, all of which must hold, and of its actions, done in order."""

    conditions: tuple[tuple[str, str], ...]
    actions: tuple[tuple[str, str], ...]

    def applies(self, number: str) -> bool:
        return all(_holds(kind, param, number) for kind, param in self.conditions)

    @property
    def text(self) -> str:
        conditions = " and ".join(f"{kind} {param}".strip() for kind, param in self.conditions) or "always"
        return f"{conditions}: {', '.join(f'{kind} {param}'.strip() for kind, param in self.actions)}"


_CONDITIONS: dict[str, Callable[[str, str], bool]] = {
    "equals": lambda number, param: number == param,
    "startswith": lambda number, param: number.startswith(param),
    "doesntstartwith": lambda number, param: not number.startswith(param),
    "contains": lambda number, param: param in number,
    "lengthequals": lambda number, param: str(len(number)) == param,
    "shorterthan": lambda number, param: param.isdecimal() and len(number) < int(param),
    "longerthan": lambda number, param: param.isdecimal() and len(number) > int(param),
}


def _holds(kind: str, param: str, number: str) -> bool:
    """A condition that is not known may hold."""
    known = _CONDITIONS.get(kind.lower())
    return known is None or known(number, param)


def _done(kind: str, param: str, number: str) -> str | None:
    """The number after one action; None when the call is no longer this account's."""
    match kind.lower():
        case "overridedialaction":
            return number if param in {"", "voiceCall", "dialOut"} else None
        case "prepend":
            return param + number
        case "append":
            return number + param
        case "replace" | "replacenumber":
            return param
        case "removefirst" | "stripleft":
            return number[int(param) :] if param.isdecimal() else None
    return None  # an action that is not known may take the call away


@dataclass(frozen=True, slots=True)
class RewritingPlan:
    rules: tuple[Rewriting, ...]
    broken: tuple[str, ...] = ()

    def decide(self, number: str) -> Verdict:
        for rule in self.rules:
            if not rule.applies(number):
                continue
            sent: str | None = number
            for kind, param in rule.actions:
                if sent is not None:
                    sent = _done(kind, param, sent)
            if sent is None:
                return never("a rewriting rule takes the call away from this account", rule=rule.text)
            if sent != number:
                return settled(number, number, rule.text, sent)
        return Verdict(Completion.IMMEDIATE, number, None, WholeNumbers().why)

    def remedy(self, number: str) -> str:
        return f"let no rewriting rule apply to {number}"


def acrobits_plans(settings: Settings) -> Plans:
    """`rewriting.n.condition.m` and `rewriting.n.action.m`, each `type param`."""
    rules: dict[int, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {}
    for name, value in settings.items():
        found = re.fullmatch(r"rewriting\.(\d{1,4})\.(condition|action)\.\d{1,4}", name)
        if found is not None:
            kind, _, param = value.partition(" ")
            rules.setdefault(int(found[1]), ([], []))[found[2] == "action"].append((kind, param))
    return {"rewriting": RewritingPlan(tuple(Rewriting(tuple(one[0]), tuple(one[1])) for one in rules.values()))}
