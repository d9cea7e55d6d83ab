"""Carrier dialects as data: `templates/carriers/<name>.toml`, one file each, read once at start. Pure but for that.

A profile that cannot be read never stops a call: its trunks speak the generic dialect, and the fault is reported by
`callpoint check-config`, `callpoint doctor` and the SIP process. `templates/carriers/generic.toml` explains every key.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from engine.e911.additional import BLOCKS
from engine.e911.civic import CIVIC_ELEMENTS, CIVIC_EXTENSIONS, CLDXF_ELEMENTS
from engine.sip.timers import EMERGENCY_PROGRESS_S

GENERIC = "generic"
_ENGINE = Path(__file__).parent.parent
# beside the package in a checkout, inside it when installed
FOLDERS = (_ENGINE / "_templates" / "carriers", _ENGINE.parent / "templates" / "carriers")


_FIELD = re.compile(r"\{([a-z_]+)\}")


class Order(StrEnum):
    """Where our Geolocation value goes among those the caller sent. Stored names."""

    APPEND = "append"  # behind them (RFC 6442 §4.4)
    FIRST = "first"  # before them (NENA i3: a default location on top, the original kept)
    ONLY = "only"  # in their place: the carrier reads one


class Form:
    """A text with `{fields}`, cut once at start, so that filling it in a call's way is one join."""

    __slots__ = ("_format", "fields", "text")

    def __init__(self, text: str, **known: str) -> None:
        for name, value in known.items():
            text = text.replace(f"{{{name}}}", value)
        self.text = text
        self.fields = frozenset(_FIELD.findall(text))
        self._format = _FIELD.sub(r"%(\1)s", text.replace("%", "%%"))

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with each field's value; every field must have one."""
        return self._format % values if self.fields else self.text


NUMBER_FIELDS = frozenset({"number", "service", "host", "callback", "user", "name", "call", "domain"})
PLAIN_FIELDS = NUMBER_FIELDS - {"callback"}  # of forms that are used where there is no callback number
VALUE, REFERENCE = "value", "reference"


@dataclass(frozen=True, slots=True)
class CarrierProfile:
    """How a carrier wants an emergency INVITE. The defaults are the generic profile;
    `templates/carriers/generic.toml` explains.
    """

    name: str = GENERIC
    label: str = "Generic carrier (RFC 6442)"
    request_uri: str = "sip:{number}@{host}"
    from_: str = ""
    from_without_number: str = ""
    p_asserted_identity: str = "<sip:{callback}@{host}>"
    p_asserted_identity_without_number: str = ""
    remove: tuple[str, ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    add_on_emergency: tuple[tuple[str, str], ...] = ()
    takes: frozenset[str] = frozenset({VALUE, REFERENCE})
    geolocation: str = "<{uri}>"
    carrier_id: str = ""
    geolocation_order: Order = Order.APPEND
    geolocation_routing: str = "yes"
    caller_location: str = "keep"
    pidf_method: str = "Manual"
    civic_limits: tuple[tuple[str, int], ...] = ()
    priority: str = "emergency"
    test_number: str = "933"
    numbers: tuple[tuple[str, str], ...] = ()
    additional_data: tuple[str, ...] = ()
    unknown_location: str = ""
    final_statuses: frozenset[int] = frozenset({486, 487, 600, 603})
    fail_over_before_ringing: frozenset[int] = frozenset({600, 603})
    progress_s: float = EMERGENCY_PROGRESS_S
    retry_without_location: frozenset[int] = frozenset({400, 413, 415, 424, 488, 493, 500, 501, 513, 606})


@dataclass(frozen=True, slots=True)
class CarrierProfiles:
    """Every profile by name, and one sentence for each file that could not be used.

    `compiled` is for whoever makes something of a profile and a trunk once and keeps it.
    """

    by_name: dict[str, CarrierProfile]
    faults: tuple[str, ...] = ()
    compiled: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def of(self, name: str) -> CarrierProfile:
        """The profile of that name; the generic one for a name nobody knows."""
        return self.by_name.get(name) or self.by_name.get(GENERIC) or CarrierProfile()

    def choices(self) -> tuple[tuple[str, str], ...]:
        """(name, label) of each, the generic one first, then by label: what a person may choose from."""
        named = sorted(self.by_name.values(), key=lambda profile: (profile.name != GENERIC, profile.label.casefold()))
        return tuple((profile.name, profile.label) for profile in named)


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
    known = {"from" if each.name == "from_" else each.name for each in fields(CarrierProfile)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"no such setting: {', '.join(unknown)}")
    if values.get("name", stem) != stem:
        raise ValueError(f"name {stem!r} was expected, got {values['name']!r}")
    read = {
        "from_" if name == "from" else name: _READERS.get(name, _text)(name, value)
        for name, value in values.items()
        if name != "name"
    }
    profile = CarrierProfile(**{"label": stem} | read, name=stem)
    _check_forms(profile)
    return profile


def _check_forms(profile: CarrierProfile) -> None:
    """Each form may hold its own fields only: a `{calback}` would go out as it stands."""
    with_number, plain = NUMBER_FIELDS, PLAIN_FIELDS
    allowed: dict[str, frozenset[str]] = {
        "request_uri": plain, "from_": with_number, "from_without_number": plain, "p_asserted_identity": with_number,
        "p_asserted_identity_without_number": plain, "geolocation": frozenset({"uri"}),
        "carrier_id": frozenset({"id", "host"}),
    }  # fmt: skip
    texts = [(name, getattr(profile, name), may) for name, may in allowed.items()]
    texts += [(f"add {name}", value, plain) for name, value in profile.add + profile.add_on_emergency]
    for name, text, may in texts:
        wrong = sorted(Form(text).fields - may)
        if wrong or re.search(r"[{}]", _FIELD.sub("", text)):
            raise ValueError(f"{name.rstrip('_')}: fields among {', '.join(sorted(may))} were expected, got {text!r}")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or any(char in value for char in "\r\n\0"):
        raise ValueError(f"a text of one line was expected for {name}, got {value!r}")
    return value


_TOKEN = re.compile(r"[A-Za-z0-9!%*_+`'~.-]{1,60}")  # a header name (RFC 3261 §25.1)


def _names(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and _TOKEN.fullmatch(each) for each in value):
        raise ValueError(f"a list of header names was expected for {name}, got {value!r}")
    return tuple(value)


def _headers(name: str, value: object) -> tuple[tuple[str, str], ...]:
    """A list of [header, form] pairs."""
    pairs: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise ValueError(f'a list of ["Header", "value"] was expected for {name}, got {value!r}')
    return tuple((_names(name, [pair[0]])[0], _text(name, pair[1])) for pair in pairs)


def _statuses(name: str, value: object) -> frozenset[int]:
    if not isinstance(value, list) or not all(type(status) is int and 300 <= status <= 699 for status in value):
        raise ValueError(f"{name}: numbers from 300 to 699 were expected, got {value!r}")
    return frozenset(value)


def _seconds(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 2 <= value <= 60:
        raise ValueError(f"{name}: seconds from 2 to 60 were expected, got {value!r}")
    return float(value)


def _one_of(*choices: str) -> Callable[[str, object], str]:
    def read(name: str, value: object) -> str:
        if value not in choices:
            raise ValueError(f"{name}: one of {', '.join(choices)} was expected, got {value!r}")
        return str(value)

    return read


def _order(name: str, value: object) -> Order:
    return Order(_one_of(*Order)(name, value))


def _takes(name: str, value: object) -> frozenset[str]:
    if not isinstance(value, list) or not {VALUE, REFERENCE}.issuperset(value):
        raise ValueError(f"{name}: a list of value and reference was expected, got {value!r}")
    return frozenset(value)


def _limits(name: str, value: object) -> tuple[tuple[str, int], ...]:
    elements = {*CIVIC_ELEMENTS, *CIVIC_EXTENSIONS, *CLDXF_ELEMENTS}
    if not isinstance(value, dict) or not all(
        key in elements and type(limit) is int and 0 <= limit <= 400 for key, limit in value.items()
    ):
        raise ValueError(f"{name}: the most characters by civic address element were expected, got {value!r}")
    return tuple(value.items())


def _blocks(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not set(BLOCKS).issuperset(value):
        raise ValueError(f"{name}: a list of {', '.join(BLOCKS)} was expected, got {value!r}")
    return tuple(dict.fromkeys(value))


_DIALED = re.compile(r"\+?[0-9*#]{2,15}")


def _numbers(name: str, value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not all(
        isinstance(sent, str) and _DIALED.fullmatch(key) and _DIALED.fullmatch(sent) for key, sent in value.items()
    ):
        raise ValueError(f'{name}: dialled and sent digits such as 112 = "911" were expected, got {value!r}')
    return tuple(value.items())


def _test_number(name: str, value: object) -> str:
    if not isinstance(value, str) or not _DIALED.fullmatch(value):
        raise ValueError(f"{name}: digits such as 933 were expected, got {value!r}")
    return value


_READERS: dict[str, Callable[[str, object], Any]] = {
    "additional_data": _blocks,
    "add_on_emergency": _headers,
    "remove": _names, "add": _headers, "takes": _takes, "geolocation_order": _order, "civic_limits": _limits,
    "caller_location": _one_of("keep", "replace"), "numbers": _numbers, "test_number": _test_number,
    "final_statuses": _statuses, "fail_over_before_ringing": _statuses, "retry_without_location": _statuses,
    "progress_s": _seconds,
}  # fmt: skip
