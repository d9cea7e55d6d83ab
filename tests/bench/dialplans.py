"""What it costs to prove one dial plan: the settings read, every rule compiled, 911 and 933 dialled. No cache."""

import json
import statistics
import time
from dataclasses import dataclass

from engine.provisioning.dialplan import GRAMMARS
from tests.conftest import CASES

NUMBERS = ("911", "933")
ROUNDS = 200
SETTINGS = {
    "aastra": ("aastra", "sip dial plan"),
    "avaya": ("avaya", "DIALPLAN"),
    "cisco": ("cisco_spa", "Dial_Plan_1_"),
    "digium": ("digium", "dial_plan"),
    "grandstream": ("grandstream", "P290"),
    "htek": ("htek", "P4200"),
    "panasonic": ("panasonic", "DIAL_PLAN_1"),
    "polycom": ("poly", "dialplan.digitmap"),
}
# What the phones leave the factory with, beside the plans of the cases.
FACTORY = [
    ("cisco_spa", {"Dial_Plan_1_": "(*xx|[3469]11|0|00|[2-9]xxxxxx|1xxx[2-9]xxxxxxS0|xxxxxxxxxxxx.)"}),
    ("grandstream", {"P290": "{ x+ | \\+x+ | *x+ | *xx*x+ | x+*x+*x+*x+ | x+*x+*x+*x+#x+ }"}),
    (
        "obihai",
        {
            "VoiceService.1.Phone.DigitMap": "([1-9]x?*(Mpli)|[1-9]S9|[1-9][0-9]S9|911|**0|***|#|**1(Msp1)|**2(Msp2)"
            "|**8(Mli)|**9(Mpp)|(Mpli))"
        },
    ),
    ("snom", {"user_dp_str.1": r"|^(911)$|sip:\1@\d|d |^(933)$|sip:\1@\d|d |^([0-9]{10})$|sip:1\1@\d|d"}),
    ("yealink", {"dialplan.digitmap.enable": "1", "dialplan.digitmap.string": "[2-9]11|0T|011xxx.T|[2-9]xxxT|**x.T"}),
    ("vtech", {"sip_account.1.dial_plan": "x+P"}),
]


@dataclass(frozen=True, slots=True)
class Proof:
    """Time to prove one plan, in microseconds: the median and the worst of a hundred."""

    grammar: str
    plan: str
    median_us: float
    p99_us: float


def measure() -> list[Proof]:
    """Every plan, one after the other. The plans of the cases are left out where the folder is not there."""
    plans = list(FACTORY)
    path = CASES / "dial_plans.json"
    if path.exists():
        for one in json.loads(path.read_text())["plans"]:
            grammar, name = SETTINGS[one["dialect"]]
            plans.append((grammar, {name: one["dial_plan"]}))
    return [_proof(grammar, settings) for grammar, settings in plans]


def _proof(grammar: str, settings: dict[str, str]) -> Proof:
    took = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for plan in GRAMMARS[grammar](settings).values():
            for number in NUMBERS:
                plan.decide(number)
        took.append((time.perf_counter() - begun) * 1e6)
    return Proof(grammar, list(settings.values())[-1], statistics.median(took), statistics.quantiles(took, n=100)[98])
