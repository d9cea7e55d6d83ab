"""Settings of a phone from every level that speaks of it, and for each value where it comes from (pure).

Theory of operation. A level is a mapping of setting names to values. Levels are laid over one another in one order,
the most general first:

    default → global → account → location → model → device

A more specific level replaces a value whole: a list is never joined with the list below it. `None` at a level removes
what the levels below it say, so that the default holds again from there on; a level above it may set the name anew.
"Model" stands behind "location" since what is set for a model is most often a property of the hardware (a codec it
lacks, an LLDP that hangs it), which holds in every building.

Laying one level over another (`laid_over`) is associative and keeps the `None`s; only `effective` drops them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

GLOBAL_NAME = "global"
ACCOUNT_NAME = "account"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class SourceKind(StrEnum):
    """The levels, the most general first. All but `default` and `device` are stored names."""

    DEFAULT = "default"
    GLOBAL = "global"
    ACCOUNT = "account"
    LOCATION = "location"
    MODEL = "model"
    DEVICE = "device"


_RANK = {kind: rank for rank, kind in enumerate(SourceKind)}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value stands. `id`: the level's row, or the phone's (empty: a default); `label`: for people, such as a
    location's name; `name`: the level's (`Level.name`).
    """

    kind: SourceKind
    id: str = ""
    label: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """One level. `name`: what it is for, as stored: `global`, `account`, a location's id, `<vendor>/<model>`."""

    source: Source
    settings: Mapping[str, Any]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Effective:
    """The values that count, each with its source. `removed`: for a name whose value was taken away and is a default
    again (or nothing), the level that took it away.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, Source]
    removed: Mapping[str, Source] = field(default_factory=dict)


DEFAULT = Source(SourceKind.DEFAULT)
DEVICE = Source(SourceKind.DEVICE)


def model_name(vendor: str, model: str) -> str:
    """What the level of a model is called: `yealink/T46U`."""
    return f"{vendor}/{model}"


def kind_of(name: str) -> SourceKind:
    """What a level of that name is for."""
    if name in {GLOBAL_NAME, ACCOUNT_NAME}:
        return SourceKind(name)
    return SourceKind.MODEL if "/" in name else SourceKind.LOCATION


def names_for(vendor: str, model: str, location_id: str | None) -> tuple[str, ...]:
    """The names of the levels that speak of a phone, the most general first."""
    located = (location_id,) if location_id else ()
    return (GLOBAL_NAME, ACCOUNT_NAME, *located, model_name(vendor, model))


def ordered(levels: Iterable[Level]) -> tuple[Level, ...]:
    """Those levels, the most general first."""
    return tuple(sorted(levels, key=lambda level: _RANK[level.source.kind]))


def applying(levels: Iterable[Level], names: Iterable[str]) -> tuple[Level, ...]:
    """The levels of those names, in order: of all levels of an account those that speak of one phone."""
    wanted = set(names)
    return ordered(level for level in levels if level.name in wanted)


def with_changed(levels: Sequence[Level], changed: Level | None, name: str) -> tuple[Level, ...]:
    """The levels as they would be with the one of that name replaced, added, or (None) taken away."""
    kept = [level for level in levels if level.name != name]
    return ordered([*kept, changed] if changed is not None else kept)


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two levels as one: what `above` says, `None` among it, else what `below` says. Associative."""
    return {**below, **above}


def effective(
    levels: Sequence[Level],
    own: Mapping[str, Any] = _NOTHING,
    *,
    device: Source = DEVICE,
    defaults: Mapping[str, Any] = _NOTHING,
) -> Effective:
    """The values that count for one phone.

    Args:
        levels: Those that speak of the phone, in any order; two of one kind count in the order given.
        own: The phone's own settings. device: their source.
        defaults: What holds where no level says anything; their source is `default`.
    """
    values: dict[str, Any] = dict(defaults)
    sources = dict.fromkeys(defaults, DEFAULT)
    removed: dict[str, Source] = {}
    for source, settings in (*((level.source, level.settings) for level in ordered(levels)), (device, own)):
        for name, value in settings.items():
            if value is not None:
                values[name], sources[name] = value, source
                removed.pop(name, None)
            elif sources.get(name, DEFAULT) is not DEFAULT:
                _take_away(name, defaults, values, sources)
                removed[name] = source
    return Effective(values, sources, removed)


def _take_away(name: str, defaults: Mapping[str, Any], values: dict[str, Any], sources: dict[str, Source]) -> None:
    if name in defaults:
        values[name], sources[name] = defaults[name], DEFAULT
    else:
        del values[name], sources[name]
