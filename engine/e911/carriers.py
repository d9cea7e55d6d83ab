"""Carrier dialects as data: `templates/carriers/<name>.toml`, one file each, read once at start.

A profile that cannot be read never stops a call: its trunks speak the generic dialect, and the fault is reported.
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

GENERIC = "generic"
_ENGINE = Path(__file__).parent.parent
# beside the package in a checkout, inside it when installed
FOLDERS = (_ENGINE / "_templates" / "carriers", _ENGINE.parent / "templates" / "carriers")


@dataclass(frozen=True, slots=True)
class CarrierProfile:
    """How a carrier wants an emergency INVITE. The defaults are the generic profile;
    `templates/carriers/generic.toml` explains.
    """

    name: str = GENERIC
    request_uri: str = "sip:{number}@{host}"
    p_asserted_identity: str = "<sip:{callback}@{host}>"
    geolocation_routing: str = "yes"
    priority: str = "emergency"
    test_number: str = "933"
    final_statuses: frozenset[int] = frozenset({486, 487, 600, 603})


@dataclass(frozen=True, slots=True)
class CarrierProfiles:
    """Every profile by name, and one sentence for each file that could not be used."""

    by_name: dict[str, CarrierProfile]
    faults: tuple[str, ...] = ()

    def of(self, name: str) -> CarrierProfile:
        """The profile of that name; the generic one for a name nobody knows."""
        return self.by_name.get(name) or self.by_name.get(GENERIC) or CarrierProfile()


def load_profiles(folder: Path | None = None) -> CarrierProfiles:
    """Read every profile in the folder (by default the one shipped); an absent folder leaves the generic profile
    alone.
    """
    folder = folder or next((candidate for candidate in FOLDERS if candidate.is_dir()), FOLDERS[-1])
    profiles: dict[str, CarrierProfile] = {GENERIC: CarrierProfile()}
    faults: list[str] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            profiles[path.stem] = _profile(tomllib.loads(path.read_text()), path.stem)
        except (OSError, ValueError) as exc:
            faults.append(
                f"{path.name}: the carrier profile cannot be used ({exc}); its trunks speak the generic dialect"
            )
    return CarrierProfiles(profiles, tuple(faults))


def _profile(values: dict[str, Any], stem: str) -> CarrierProfile:
    known = {field.name for field in fields(CarrierProfile)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"no such setting: {', '.join(unknown)}")
    if values.get("name", stem) != stem:
        raise ValueError(f"name {stem!r} was expected, got {values['name']!r}")
    statuses = values.pop("final_statuses", None)
    wrong = [name for name, value in values.items() if not isinstance(value, str) or "\n" in value or "\r" in value]
    if wrong:
        raise ValueError(f"a text of one line was expected for {', '.join(sorted(wrong))}")
    if statuses is None:
        return CarrierProfile(**values | {"name": stem})
    if not all(isinstance(status, int) and 300 <= status <= 699 for status in statuses):
        raise ValueError("final_statuses: numbers from 300 to 699 were expected")
    return CarrierProfile(**values | {"name": stem}, final_statuses=frozenset(statuses))
