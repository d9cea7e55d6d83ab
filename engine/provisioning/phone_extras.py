"""What a phone's own settings name beyond plain values: function keys its model must have room for, files the account
must have, parameters its files must have. Asked where a phone is saved, so that nothing is left out in silence.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.errors import FieldFault
from engine.provisioning import assetfile, functionkeys, phone_rules, store_assets, vendors
from engine.provisioning.settings import DEFAULTS, key_room
from engine.provisioning.vendors import Model, Profile

# What a sentence calls a setting that some families' files cannot say.
NOUNS = {
    "ntp_server": "time server",
    "resync_minutes": "interval of asking again",
    "codecs": "choice of codecs",
    "vlan_id": "VLAN",
    "vlan_priority": "VLAN priority",
    "lldp": "switch for LLDP",
    "dial_9911": "rule for 9911",
    "held_url": "HELD server",
    "phonebook": "phonebook",
}
EXTRAS = frozenset({functionkeys.SETTING, *assetfile.KINDS, *NOUNS})


async def extra_faults(
    session: AsyncSession, account_id: str, vendor: str, model_name: str, settings: Mapping[str, Any], lines: int
) -> list[FieldFault]:
    """Every key that the model cannot hold and every file that it cannot be given, by its path in the request's body.
    What has no good shape at all is told by `settings.setting_faults`.
    """
    profile = vendors.known().profiles.get(vendor)
    model = profile.model(model_name) if profile is not None else None
    if profile is None or model is None:
        return []
    found = key_faults(profile, model, settings.get(functionkeys.SETTING), lines)
    found += ignored_faults(profile, model, settings)
    for kind in assetfile.KINDS:
        name = settings.get(kind)
        if isinstance(name, str) and name:
            found += await _file_faults(session, account_id, profile, model, kind, name)
    return found


async def level_faults(
    session: AsyncSession, account_id: str, level_name: str, settings: Mapping[str, Any]
) -> list[FieldFault]:
    """As `extra_faults`, for a level of settings by its name: a model's level is held against the model, on whose keys
    any number of lines may sit; of other levels the files they name must be there, and each phone takes the keys it can
    hold.
    """
    vendor, _, model_name = level_name.partition("/")
    profile = vendors.known().profiles.get(vendor)
    model = profile.model(model_name) if profile is not None else None
    if profile is not None and model is not None:
        found = key_faults(profile, model, settings.get(functionkeys.SETTING), None)
        found += ignored_faults(profile, model, settings)
    else:
        found = []
    for kind in assetfile.KINDS:
        name = settings.get(kind)
        if not isinstance(name, str) or not name:
            continue
        if profile is not None and model is not None:
            found += await _file_faults(session, account_id, profile, model, kind, name)
        else:
            asset = await store_assets.asset_by_name(session, account_id, name)
            found += [] if asset is not None and asset.kind == kind else [_missing(kind, name)]
    return found


def ignored_faults(profile: Profile, model: Model, settings: Mapping[str, Any]) -> list[FieldFault]:
    """Every setting that the model's files have no parameter for. Nothing is told of what asks for nothing: a default,
    what takes a value away, and no phonebook.
    """
    nothing = {**DEFAULTS, "phonebook": "off"}
    return [
        FieldFault(f"settings.{name}", ignored(profile, model, name))
        for name in sorted(model.ignores & settings.keys())
        if settings[name] is not None and settings[name] != nothing.get(name)
    ]


def not_taken(vendor: str, model_name: str, name: str) -> str | None:
    """As `ignored`, of a phone by its vendor and model; None: its files say that setting."""
    profile = vendors.known().profiles.get(vendor)
    model = profile.model(model_name) if profile is not None else None
    return ignored(profile, model, name) if profile and model and name in model.ignores else None


def ignored(profile: Profile, model: Model, name: str) -> str:
    """The sentence about a setting that the model's files cannot say."""
    return (
        f"A {profile.title} {model.name} takes no {NOUNS[name]} from here: its files have no parameter for it. Leave "
        "it out here, and set it on the device itself where it has it."
    )


def _missing(kind: str, name: str) -> FieldFault:
    return FieldFault(f"settings.{kind}", f"This account has no {kind} called {name[:60]!r}. Upload it first.")


def key_faults(profile: Profile, model: Model, value: Any, lines: int | None) -> list[FieldFault]:
    """The keys of a setting that a model with so many lines cannot hold; None: how many is not known, so none is held
    against them.
    """
    if not value or functionkeys.faults(value):
        return []
    room = (
        key_room(profile, model, lines)
        if lines is not None
        else replace(key_room(profile, model, 0), lines=model.lines)
    )
    places = {entry["position"]: at for at, entry in enumerate(value)}
    keys = functionkeys.read(value)
    faults = functionkeys.misfits(keys, room)
    found = []
    for number, entry in enumerate(value):
        at_label = f"settings.{functionkeys.SETTING}.{number}.label"
        found += [
            FieldFault(at_label, f"The label of key {entry['position']}: {fault.detail}")
            for fault in phone_rules.format_faults(at_label, profile.name, str(entry.get("label") or ""))
        ]
    for fault in faults:
        at, _, part = fault.field.partition(".")
        place = places[keys[int(at)].position]
        found.append(FieldFault(f"settings.{functionkeys.SETTING}.{place}.{part}", fault.detail))
    return found


async def _file_faults(
    session: AsyncSession, account_id: str, profile: Profile, model: Model, kind: str, name: str
) -> list[FieldFault]:
    field = f"settings.{kind}"
    if kind not in model.takes:
        return [FieldFault(field, f"A {profile.title} {model.name} takes no {kind} from here.")]
    asset = await store_assets.asset_by_name(session, account_id, name)
    if asset is None or asset.kind != kind:
        return [_missing(kind, name)]
    is_fit = asset.vendor in {"", profile.name} and (not asset.models or model.name in asset.models)
    if is_fit:
        return []
    return [FieldFault(field, f"{name} is for {asset.vendor} {', '.join(asset.models)}, not for a {model.name}.")]
