"""The phones' settings in people's words: labels, hints and how each is asked for in a form; and the table of what
counts for one phone, with its sources (`_effective_settings.html.j2` shows it).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from engine.provisioning import functionkeys, merge
from engine.provisioning.merge import Source, SourceKind
from engine.provisioning.phone_extras import not_taken
from engine.provisioning.settings import CHECKS, DEFAULTS, PhoneRecord


@dataclass(frozen=True, slots=True)
class SettingWords:
    """`form`: text, whole (a number), yes_no, choice, list (one entry a line) or keys (one key a line)."""

    label: str
    form: str
    hint: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    unit: str = ""  # of a number, one of it


WORDS: Mapping[str, SettingWords] = {
    "ntp_server": SettingWords("Time server", "text", "NTP: a host name or an address."),
    "outbound_proxy": SettingWords("Outbound proxy", "text", "host or host:port; every line goes through it."),
    "expires_s": SettingWords("Registration expires", "whole", "Seconds, 60 to 86,400.", unit="second"),
    "resync_minutes": SettingWords(
        "Ask again every", "whole", "Minutes, 15 to 43,200; each phone adds up to a tenth.", unit="minute"
    ),
    "codecs": SettingWords("Codecs", "list", "Best first, one a line: pcmu, pcma, g722, g729, opus."),
    "vlan_id": SettingWords("Voice VLAN", "whole", "1 to 4094; nothing: untagged."),
    "vlan_priority": SettingWords("VLAN priority", "whole", "802.1p, 0 to 7."),
    "lldp": SettingWords("LLDP", "yes_no", "The phone learns its VLAN from the switch, and tells its port."),
    "dial_9911": SettingWords("9911 dials 911", "yes_no", "For people used to a 9 for an outside line."),
    "held_url": SettingWords("HELD server", "text", "Where a phone with native E911 asks for its location."),
    functionkeys.SETTING: SettingWords(
        "Function keys", "keys", "One key a line: position, kind, value, label. Such as 3, blf, 102, Zoë."
    ),
    "phonebook": SettingWords(
        "Phonebook", "choice", "", (("account", "Lines and contacts of the account"), ("off", "None"))
    ),
    "logo": SettingWords("Logo", "text", "The name of an uploaded picture."),
    "firmware": SettingWords("Firmware", "text", "The name of an uploaded firmware; empty: phones keep theirs."),
    "ringtone": SettingWords("Ring tone", "text", "The name of an uploaded ring tone; empty: phones keep theirs."),
    "cloud_id": SettingWords(
        "Cloud ID", "text", "Of your Cloud Softphone project: what the QR code for Acrobits names."
    ),
}
_SOURCES = {
    SourceKind.DEFAULT: "Default",
    SourceKind.GLOBAL: "All accounts",
    SourceKind.ACCOUNT: "Account",
    SourceKind.LOCATION: "Location",
    SourceKind.MODEL: "Model",
    SourceKind.DEVICE: "This phone",
}


@dataclass(frozen=True, slots=True)
class EffectiveRow:
    """One setting of one phone. `href`: the page where its source can be changed ("": none); `removed`: who took a
    more general value away ("": nobody did). `is_ignored`: the phone's files have no parameter for it.
    """

    name: str
    label: str
    text: str
    source: str
    href: str
    is_default: bool
    removed: str = ""
    is_ignored: bool = False


def words_of(name: str) -> SettingWords:
    """The words of a setting; one that has none yet is shown by its name."""
    return WORDS.get(name) or SettingWords(name.replace("_", " ").capitalize(), "text")


def effective_rows(record: PhoneRecord) -> list[EffectiveRow]:
    """What counts for that phone, in the order of `settings.CHECKS`: `index.phone(phone.id)` gives the record."""
    return [_row(name, record) for name in CHECKS if name in record.settings or name in DEFAULTS]


def label_of(name: str) -> str:
    """The label, with the unit where a number is wanted: `Registration expires (seconds)`."""
    words = words_of(name.removeprefix("settings."))  # as forms call it
    return f"{words.label} ({words.unit}s)" if words.unit else words.label


def _row(name: str, record: PhoneRecord) -> EffectiveRow:
    source = record.sources.get(name, merge.DEFAULT)
    removed = record.removed.get(name)
    return EffectiveRow(
        name=name,
        label=words_of(name).label,
        text=value_text(name, record.settings.get(name, DEFAULTS.get(name))),
        source=source_text(source),
        href=source_href(source),
        is_default=source.kind is SourceKind.DEFAULT,
        removed=source_text(removed) if removed is not None else "",
        is_ignored=not_taken(record.vendor, record.model, name) is not None,
    )


def source_text(source: Source) -> str:
    """`Location Headquarters`, `Model yealink/T46U`, `This phone`."""
    name = _SOURCES[source.kind]
    is_named = source.kind in {SourceKind.LOCATION, SourceKind.MODEL}
    return f"{name} {source.label}" if is_named and source.label else name


def source_href(source: Source) -> str:
    """The form of the level; a phone's own settings and those of all accounts have none."""
    return level_href(source.name) if source.name and source.kind is not SourceKind.GLOBAL else ""


def level_href(name: str) -> str:
    return f"/phones/settings/level?{urlencode({'name': name})}"


def value_text(name: str, value: Any) -> str:
    """A value as people read it."""
    if value is None or value in ("", []):
        return "none"
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if name == functionkeys.SETTING:
        return f"{len(value)} key{'' if len(value) == 1 else 's'}"
    words = words_of(name)
    if words.unit and isinstance(value, int):
        return f"{value:,} {words.unit}{'' if value == 1 else 's'}"
    choices = dict(words.choices)
    if isinstance(value, list):
        return ", ".join(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in value)
    return choices.get(value, str(value)) if isinstance(value, str) else str(value)
