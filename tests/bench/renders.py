"""What it costs to make one phone's own file afresh, family by family: with the shipped templates, and with an
account's own in place of one of them.

Of each family the phone whose file comes nearest to 6 kB from above, or the family's largest. No two renderings are of
the same phone: address, names, users and secrets differ, so that nothing is answered from what the last one left.
"""

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.provisioning import overrides, vendors
from engine.provisioning.functionkeys import FunctionKey, KeyKind
from engine.provisioning.render import LineConfig, PhoneConfig, Renderer
from engine.provisioning.vendors import FileRule, Model, Profile, Support
from tests.conftest import CASES

SIZE = 6_000  # bytes of the file that the figures are about
PHONES = 40
ROUNDS = 10
PLAIN_US, OWN_US = 450.0, 850.0


@dataclass(frozen=True, slots=True)
class Rendering:
    """One family: its model and the size of its file, and what a rendering takes, in microseconds: the median over the
    phones of each one's fastest.
    """

    family: str
    model: str
    size: int
    plain_us: float
    own_us: float

    @property
    def is_large(self) -> bool:
        """Whether the family has a file as large as the figures are about."""
        return self.size >= SIZE


def measure() -> list[Rendering]:
    """Every family, one after the other."""
    renderer = Renderer(vendors.known())
    return [_measured(renderer, profile) for profile in vendors.known().profiles.values()]


def identification_us() -> float:
    """What it takes to tell who asks, of the real requests of the cases the slowest: the fastest of each counts. 0
    where the cases are not there.
    """
    path, known, slowest = CASES / "requests.json", vendors.known(), 0.0
    for case in json.loads(path.read_text()) if path.exists() else []:
        fastest = float("inf")
        for _ in range(ROUNDS):
            begun = time.perf_counter_ns()
            known.identify(case["path"] or "/", case["user_agent"])
            fastest = min(fastest, (time.perf_counter_ns() - begun) / 1000)
        slowest = max(slowest, fastest)
    return slowest


def _measured(renderer: Renderer, profile: Profile) -> Rendering:
    rule = next(rule for rule in overrides.own_rules(profile) if rule.template == "model")
    size, first = min(_sized(renderer, profile, rule), key=lambda one: (one[0] < SIZE, abs(one[0] - SIZE)))
    configs = [_another(first, number) for number in range(PHONES)]
    template = profile.models[first.model].template or ""
    own = {template: profile.templates[template] + own_line(profile)}
    return Rendering(
        profile.title, first.model, size,
        _took_us(renderer, profile, rule, configs, {}), _took_us(renderer, profile, rule, configs, own),
    )  # fmt: skip


def own_line(profile: Profile) -> str:
    """What an account's own text has that the shipped one has not, and that no phone minds."""
    return (
        "<!-- {{ config.label }} -->\n" if profile.escape == "xml" else f"{profile.comment * 2} {{{{ config.mac }}}}\n"
    )


def _sized(renderer: Renderer, profile: Profile, rule: FileRule) -> Iterator[tuple[int, PhoneConfig]]:
    """Phones of every shape of the family's tested models, with the sizes of their files."""
    shapes = {(one.template, one.lines, one.keys): one for one in profile.models.values() if one.template is not None}
    tested = [one for one in shapes.values() if one.support is Support.TESTED] or list(shapes.values())[:4]
    for model in tested[:8]:
        for lines in range(1, min(model.lines, 10) + 1):
            for keys in {0, min(10, model.keys - lines), min(24, model.keys - lines)}:
                config = phone_of(profile, model, lines, max(keys, 0))
                yield len(renderer.render(profile, rule, config)), config


def phone_of(profile: Profile, model: Model, lines: int, keys: int) -> PhoneConfig:
    """A phone of that model with so many lines, and so many function keys behind them."""
    plain = overrides.sample_config(profile, model.name)
    kind = KeyKind.BLF if KeyKind.BLF in profile.key_kinds else KeyKind.SPEED_DIAL
    return replace(
        plain,
        lines=tuple(replace(plain.lines[0], number=at, key=at) for at in range(1, lines + 1)),
        function_keys=tuple(
            FunctionKey(position, kind, f"2{position:02d}", f"Desk {position}")
            for position in range(lines + 1, lines + 1 + keys)
        ),
    )


def _another(config: PhoneConfig, number: int) -> PhoneConfig:
    def line(one: LineConfig) -> LineConfig:
        user = f"{number:03d}{one.number}"
        return replace(one, sip_user=user, auth_user=user, label=user, display_name=f"Zoë {user}", secret=f"s{user}&")

    mac = f"{config.mac[:6]}{number:06x}"
    return replace(config, mac=mac, label=f"Desk {number}", lines=tuple(map(line, config.lines)))


def _took_us(
    renderer: Renderer, profile: Profile, rule: FileRule, configs: list[PhoneConfig], own: dict[str, str]
) -> float:
    fastest = [float("inf")] * len(configs)
    for _ in range(ROUNDS):
        for at, config in enumerate(configs):
            begun = time.perf_counter_ns()
            renderer.render(profile, rule, config, own)
            fastest[at] = min(fastest[at], (time.perf_counter_ns() - begun) / 1000)
    return statistics.median(fastest)
