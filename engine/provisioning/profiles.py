"""Vendor profiles: what a family's phones ask for and how their files are written (pure).

A vendor is a folder `templates/phones/<vendor>/` with a `profile.toml`: file names, User-Agent spellings, address
blocks, models, templates, resync events.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType

from engine.provisioning.envelope import Scheme
from engine.provisioning.functionkeys import KeyKind
from engine.provisioning.setting_names import Names, Watched, watched_patterns

Mac = NewType("Mac", str)  # 12 lower-case hexadecimal digits

NOT_A_MAC = frozenset({"000000000000", "ffffffffffff"})
_MAC = re.compile(r"[0-9a-f]{12}\Z")
_MAC_IN_A_NAME = "(?P<mac>(?!0{12}|[Ff]{12})[0-9A-Fa-f]{12})"
_BRANDS = (
    "YEALINK|POLYCOM|POLY|AASTRA|MITEL|HTEK|PANASONIC|SANGOMA|DIGIUM|AVAYA|GIGASET|ALGO|"
    "GRANDSTREAM|CISCO|LINKSYS|SNOM|FANVIL|OBIHAI|AUDIOCODES|LINPHONE|ACROBITS"
)
# before and behind an address: no alternative to it, no repetition, nothing that looks at more than its spelling
_PLAIN = re.compile(
    r"(?![?*+{])(?:[^()|\\]|\\[^\d]|\(\?(?:i?:|P<\w+>)[^()]*\)"
    r"|\(\?[=!]\[(?:0-9)?(?:A-F)?(?:a-f)?\]\*\[(?:A-F|a-f)\]\))*"
)
_GROUP_NAME = re.compile(r"\(\?P<\w+>")
_SEPARATORS = re.compile(r"[:.\-\s]")


class FileKind(StrEnum):
    BOOT = "boot"  # says which files to read next
    COMMON = "common"  # for a model or for all phones, holds no secret
    DEVICE = "device"  # the phone's own configuration
    SETTINGS = "settings"  # the phone's own configuration, second file
    OVERRIDE = "override"  # what the phone's user changed, kept on the server
    DIRECTORY = "directory"
    LICENSE = "license"
    LOG = "log"
    FIRMWARE = "firmware"
    PLACEHOLDER = "placeholder"  # `{mac}.cfg`: the phone did not fill in its own address
    OTHER = "other"


class Support(StrEnum):
    TESTED = "tested"  # a golden file holds its rendering
    EXPECTED = "expected"
    UNTESTED = "untested"


@dataclass(frozen=True, slots=True)
class Model:
    """`lines`: registrations the model can hold. `common_id`: the number in its common file's name, where it has
    one. `template` None: known by name, and served nothing, since its files have another grammar. `keys`: that can be
    programmed; `has_shared_keys`: its lines sit on the first of them. `takes`: the kinds of the account's own files its
    configuration can name (logo, firmware, ringtone). `ignores`: settings that its files have no parameter for.
    """

    name: str
    lines: int
    support: Support
    template: str | None
    common_id: int | None = None
    files: tuple[str, ...] = ()
    keys: int = 0
    has_shared_keys: bool = True
    takes: frozenset[str] = frozenset()
    ignores: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FileRule:
    """One spelling of a file name. `template` None: known, but nothing is served under it. `directory`: what a
    phonebook is written as there (`engine.provisioning.phonebook`); a group `page` in the name counts its pages.
    `has_mac`: an address stands in it; `is_any_phone_s`: whether it is such a name is the same for all addresses of one
    spelling, which are digits alone, with small letters or with capitals.
    """

    kind: FileKind
    pattern: re.Pattern[str]
    template: str | None
    exclusive: bool
    upload: bool
    directory: str | None = None
    is_any_phone_s: bool = field(init=False, compare=False)
    has_mac: bool = field(init=False, compare=False)

    @property
    def is_served(self) -> bool:
        return self.template is not None or self.directory is not None

    def __post_init__(self) -> None:
        parts = self.pattern.pattern.split(_MAC_IN_A_NAME)
        is_plain = len(parts) == 2 and not self.pattern.flags & re.IGNORECASE and all(map(_PLAIN.fullmatch, parts))
        object.__setattr__(self, "is_any_phone_s", is_plain)
        object.__setattr__(self, "has_mac", "mac" in self.pattern.groupindex)

    def groups_of(self, name: str) -> dict[str, Any]:
        """What the groups of the rule hold of such a name; nothing, where it is none."""
        found = self.pattern.fullmatch(name)
        return found.groupdict() if found is not None else {}

    def mac_in(self, name: str) -> Mac | None:
        """The address in such a name."""
        return parse_mac(self.groups_of(name).get("mac") or "") if self.has_mac else None


@dataclass(frozen=True, slots=True)
class Profile:
    """One vendor family, as its `profile.toml` says.

    refused         what no text may hold, where the format has no way to write it
    dial_setting    how a setting of the dial plan stands in a rendered file, name then value
    dial_names      which of a file's XML elements are settings of the dial plan (`engine.provisioning.formats`)
    own_dialed      which of them, where the shipped file's are read out of its text, in one an account's template made
    folder          a folder only this vendor's phones put before a file's name
    file_names      the model behind a file name that is one model's own, in lower case
    key_kinds       the function keys its files can say
    phonebook       the file name that phones are told to fetch the phonebook under; empty: they are not told
    encryption      the format its phones decrypt (`engine.provisioning.envelope`); None: none that is known well enough
    encodings       further formats, for a phone that names one in Accept-Encoding
    mac_variable    what stands for the phone's address in a URL entered on it; empty: the phone adds its file itself
    separator       what stands between a setting's name and its value in a text file; `statement`, where no one mark
                    does: how it stands there, `name`, then `value`; comment: how a line begins that is none
    ends_in_crlf    each line of its files ends in CR LF; templates and proofs know line feeds alone
    pinned          settings that decide about calls and that the dial plan's grammar does not read: an account's own
                    template leaves them as the shipped one makes them, but for `harmless` ones (`name=value`)
    watched         settings that such a template may change, and of which it is told what comes of that
    boot_free       what an account's own template may say in a file that names the files that follow
    containers      the XML elements that may hold others in such a template's file; None: each may
    unmarked        models whose screens show no text of a line but the caller's name: none says that it has no address
    is_softphone    an application without an address of its own: one is made for it
    """

    name: str
    title: str
    content_type: str
    escape: str
    dial_plan: str
    user_agents: tuple[re.Pattern[str], ...]
    ouis: frozenset[str]
    files: tuple[FileRule, ...]
    models: Mapping[str, Model]
    model_spellings: Mapping[str, str]
    common_ids: Mapping[int, str]
    resync_event: str
    reboot_event: str
    device_files: tuple[str, ...]
    templates: Mapping[str, str]
    refused: re.Pattern[str] | None = None
    dial_setting: re.Pattern[str] | None = None
    dial_names: re.Pattern[str] | None = None
    own_dialed: re.Pattern[str] | None = None
    folder: re.Pattern[str] | None = None
    file_names: Mapping[str, str] = field(default_factory=dict)
    key_kinds: frozenset[KeyKind] = frozenset()
    phonebook: str = ""
    encryption: Scheme | None = None
    encodings: frozenset[Scheme] = frozenset()
    mac_variable: str = ""
    separator: str = "="
    statement: re.Pattern[str] | None = None
    comment: str = "#"
    ends_in_crlf: bool = False
    pinned: re.Pattern[str] | None = None
    harmless: re.Pattern[str] | None = None
    boot_free: re.Pattern[str] | None = None
    containers: re.Pattern[str] | None = None
    watched: Mapping[Watched, re.Pattern[str]] = field(default_factory=dict)
    unmarked: re.Pattern[str] | None = None
    is_softphone: bool = False
    any_file: re.Pattern[str] = field(init=False, repr=False)
    names: Names = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "any_file", any_of(self.files))
        object.__setattr__(self, "names", Names(self.dial_names, self.own_dialed, self.pinned, self.watched))

    def file_rule(self, name: str) -> FileRule | None:
        """The rule that file name falls under; None when this vendor's phones ask for no such file."""
        found = self.any_file.fullmatch(name)
        return self.files[(found.lastindex or 1) - 1] if found is not None else None

    def model(self, spelling: str) -> Model | None:
        """The model behind any spelling of its name (`SIP-T46U`, `VVX_450`, `vvx 450`)."""
        name = self.model_spellings.get(spelled(spelling))
        return self.models[name] if name is not None else None

    def shows_mark(self, spelling: str) -> bool:
        """Whether that model's screen can say that its line has no address for 911."""
        model = self.model(spelling)
        return self.unmarked is None or model is None or self.unmarked.fullmatch(model.name) is None


def any_of(rules: Sequence[FileRule]) -> re.Pattern[str]:
    """One pattern for the names of all those rules, so that a request is not held against each: its groups are the
    rules, in their order.

    Raises:
        ValueError: a rule has a group that is not named.
    """
    patterns = (_GROUP_NAME.sub("(?:", rule.pattern.pattern) for rule in rules)
    found = re.compile("|".join(f"({pattern})" for pattern in patterns))
    if found.groups != len(rules):
        raise ValueError("a group of a file's name without a name of its own is written (?:...)")
    return found


def spelled(model: str) -> str:
    """A model name reduced to what people agree on: capitals and digits, without brand, `SIP` and punctuation."""
    text = re.sub(r"[^A-Z0-9]", "", model.upper())
    return re.sub(rf"^(?:{_BRANDS})?(?:SIP)?", "", text)


def parse_mac(text: str) -> Mac | None:
    """12 lower-case digits from any usual spelling (`00:15:65:4A:A9:37`, `0015.654a.a937`), or None."""
    digits = _SEPARATORS.sub("", text.strip()).lower()
    return Mac(digits) if _MAC.match(digits) and digits not in NOT_A_MAC else None


def parse_profile(text: str, templates: Mapping[str, str]) -> Profile:
    """Read one profile; `templates` are its Jinja sources by file name.

    Raises:
        ValueError, KeyError, TypeError, re.error: it is not one; `load` says where.
    """
    data = tomllib.loads(text)
    models = {name: _model(name, entry, data) for name, entry in data["models"].items()}
    spellings: dict[str, str] = {}
    for name, entry in data["models"].items():
        for spelling in (name, *entry.get("aliases", ())):
            if spellings.setdefault(spelled(spelling), name) != name:
                raise ValueError(f"{spelling} names two models")
    files = tuple(_file(entry) for entry in data["files"])
    wanted = {model.template for model in models.values()} | {rule.template for rule in files} - {"model"}
    if missing := sorted(str(name) for name in wanted - set(templates) - {None}):
        raise ValueError(f"no such templates: {', '.join(missing)}")
    keys = data.get("keys", {})
    if data["escape"] not in {"line", "xml"}:
        raise ValueError(f"escape: expected line or xml, got {data['escape']!r}")
    return Profile(
        name=data["name"],
        title=data["title"],
        content_type=data["content_type"],
        escape=data["escape"],
        dial_plan=data["dial_plan"],
        user_agents=tuple(re.compile(pattern, re.IGNORECASE) for pattern in data["user_agents"]),
        ouis=frozenset(data["ouis"]),
        files=files,
        models=models,
        model_spellings=spellings,
        common_ids={model.common_id: name for name, model in reversed(models.items()) if model.common_id is not None},
        resync_event=data["notify"]["resync"],
        reboot_event=data["notify"]["reboot"],
        device_files=tuple(data["device_files"]),
        templates=dict(templates),
        dial_names=re.compile(data["dial_names"]) if "dial_names" in data else None,
        folder=re.compile(data["folder"], re.IGNORECASE) if "folder" in data else None,
        file_names=_file_names(data["models"]),
        refused=re.compile(data["refused"]) if "refused" in data else None,
        dial_setting=re.compile(data["dial_setting"], re.MULTILINE) if "dial_setting" in data else None,
        key_kinds=frozenset(map(KeyKind, keys.get("kinds", ()))),
        phonebook=data.get("phonebook", ""),
        encryption=Scheme(data["encryption"]["scheme"]) if "encryption" in data else None,
        encodings=frozenset(map(Scheme, data.get("encryption", {}).get("encodings", ()))),
        mac_variable=data.get("mac_variable", ""),
        ends_in_crlf=data.get("ends_in_crlf", False),
        **_override_rules(data.get("overrides", {})),
        unmarked=re.compile(data["unmarked"]) if "unmarked" in data else None,
        is_softphone=data.get("softphone", False),
    )


def _override_rules(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table `overrides` of a profile: what an account's own templates may not change. Lists are alternatives."""
    found: dict[str, Any] = {"comment": table.get("comment", "#"), "separator": table.get("separator", "=")}
    found["watched"] = watched_patterns(table.get("watched", {}))
    found |= {name: re.compile(table[name]) for name in ("statement", "own_dialed", "containers") if name in table}
    for name in ("pinned", "harmless", "boot_free"):
        if name in table:
            found[name] = re.compile("|".join(f"(?:{one})" for one in table[name]), re.IGNORECASE)
    return found


def _file_names(models: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The model behind each file name that belongs to one model."""
    found: dict[str, str] = {}
    for name, entry in models.items():
        for file in entry.get("files", ()):
            if found.setdefault(file.lower(), name) != name:
                raise ValueError(f"{file} is the file of two models")
    return found


def _model(name: str, entry: Mapping[str, Any], data: Mapping[str, Any]) -> Model:
    template = entry.get("template", data["template"]) or None
    keys = data.get("keys", {})
    return Model(
        name,
        int(entry["lines"]),
        Support(entry["support"]),
        template,
        entry.get("common_id"),
        tuple(entry.get("files", ())),
        int(entry.get("keys", _usual(name, keys) or 0)) if template is not None else 0,
        not name.startswith(tuple(keys.get("separate", ()))),
        frozenset(_usual(name, data.get("takes", {})) or () if template is not None else ()),
        _ignored(name, data) if template is not None else frozenset(),
    )


def _ignored(name: str, data: Mapping[str, Any]) -> frozenset[str]:
    """The settings that no file of that model can say: those of its family, and those of its own beginning of a name.
    A family whose phones are told no phonebook ignores that setting.
    """
    table = data.get("ignores", {})
    of_family = table.get("default", ()) if isinstance(table, Mapping) else table
    of_models = table.get("models", {}) if isinstance(table, Mapping) else {}
    own = next((names for prefix, names in of_models.items() if name.startswith(prefix)), ())
    return frozenset({*of_family, *own, *(() if data.get("phonebook") else ("phonebook",))})


def _usual(name: str, table: Any) -> Any:
    """What a table says of a model: the entry of `models` for the first beginning of its name that stands there, else
    the family's default. What is no table holds for every model.
    """
    if not isinstance(table, Mapping):
        return table
    named = (value for prefix, value in table.get("models", {}).items() if name.startswith(prefix))
    return next(named, table.get("default"))


def _file(entry: Mapping[str, Any]) -> FileRule:
    pattern = entry["name"].replace("{mac}", _MAC_IN_A_NAME)
    return FileRule(
        kind=FileKind(entry["kind"]),
        pattern=re.compile(pattern),
        template=entry.get("template"),
        exclusive=entry.get("exclusive", True),
        upload=entry.get("upload", False),
        directory=entry.get("directory"),
    )
