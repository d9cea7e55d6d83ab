"""Vendor profiles and identification: who is asking for which file, judged from path and User-Agent as evidence (pure).

A vendor is a folder `templates/phones/<vendor>/` with a `profile.toml`: file names, User-Agent spellings, address
blocks, models, templates, resync events. `load` reads all of them once at start; `identify` is a function of its
arguments.

How the evidence is weighed, strongest first: the User-Agent names a vendor; the file name is one that only that
vendor asks for; the address block of the MAC. A User-Agent can be renamed by an administrator, so one that says
nothing never counts against a phone. `contradictions` lists evidence that cannot all be true.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from functools import cache
from pathlib import Path
from typing import Any, NewType

from engine.errors import ConfigFault
from engine.provisioning import diagnosis
from engine.provisioning.envelope import Scheme
from engine.provisioning.functionkeys import KeyKind
from engine.provisioning.setting_names import Names, Watched, watched_patterns

Mac = NewType("Mac", str)  # 12 lower-case hexadecimal digits

MAX_PATH = 300  # longer than any name a phone asks for; checked before any pattern runs
MAX_USER_AGENT = 200  # longer than what any phone calls itself; a stranger's essay is not read to its end
NOT_A_MAC = frozenset({"000000000000", "ffffffffffff"})
_MAC = re.compile(r"[0-9a-f]{12}\Z")
_MAC_IN_A_NAME = "(?P<mac>(?!0{12}|[Ff]{12})[0-9A-Fa-f]{12})"
_BRANDS = (
    "YEALINK|POLYCOM|POLY|AASTRA|MITEL|HTEK|PANASONIC|SANGOMA|DIGIUM|AVAYA|GIGASET|ALGO|"
    "GRANDSTREAM|CISCO|LINKSYS|SNOM|FANVIL|OBIHAI|AUDIOCODES|LINPHONE|ACROBITS"
)
_GROUP_NAME = re.compile(r"\(\?P<\w+>")
_SEPARATORS = re.compile(r"[:.\-\s]")
_PLACEHOLDER = re.compile(r"[{$\[%<]")
# Brands whose phones name themselves and are not ours yet. Their `<mac>.cfg` is their own grammar, never one of ours.
# The last alternative is a User-Agent in Yealink's own shape under another brand: not a phone of anybody's.
_FOREIGN = re.compile(
    r"\b(aastra|mitel|alcatel|ale |algo|audc|audiocodes|avaya|cisco|linksys|digium|dinstar|fanvil|"
    r"flyingvoice|gigaset|n\d{3}[ -](?:ip|dm)|"
    r"grandstream|htek|linphone|nortel|obihai|obi\d|panasonic|patton|smartnode|sangoma|sipura|snom|technicolor|thomson|vtech|"
    r"zenitel|zoiper)|snom\w*\d|^\w+[ -]SIP-[a-z]+\d+\w*\s+\d+\.\d+",
    re.IGNORECASE,
)


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


class Confidence(IntEnum):
    """How sure the vendor is: a file name many vendors share, an address block, a file name or User-Agent of one
    vendor, both.
    """

    NONE = 0
    LOW = 1
    PROBABLE = 2
    HIGH = 3
    EXACT = 4


class Support(StrEnum):
    TESTED = "tested"  # a golden file holds its rendering
    EXPECTED = "expected"
    UNTESTED = "untested"


@dataclass(frozen=True, slots=True)
class Model:
    """`lines`: registrations the model can hold. `common_id`: the number in its common file's name, where it has
    one. `template` None: known by name, and served nothing, since its files have another grammar. `keys`: that can be
    programmed; `has_shared_keys`: its lines sit on the first of them. `takes`: the kinds of the account's own files its
    configuration can name (logo, firmware, ringtone).
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


@dataclass(frozen=True, slots=True)
class FileRule:
    """One spelling of a file name. `template` None: known, but nothing is served under it. `directory`: what a
    phonebook is written as there (`engine.provisioning.phonebook`); a group `page` in the name counts its pages.
    """

    kind: FileKind
    pattern: re.Pattern[str]
    template: str | None
    exclusive: bool
    upload: bool
    directory: str | None = None

    @property
    def is_served(self) -> bool:
        return self.template is not None or self.directory is not None


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
    pinned          settings that decide about calls and that the dial plan's grammar does not read: an account's own
                    template leaves them as the shipped one makes them, but for `harmless` ones (`name=value`)
    watched         settings that such a template may change, and of which it is told what comes of that
    boot_free       what an account's own template may say in a file that names the files that follow
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
    pinned: re.Pattern[str] | None = None
    harmless: re.Pattern[str] | None = None
    boot_free: re.Pattern[str] | None = None
    watched: Mapping[Watched, re.Pattern[str]] = field(default_factory=dict)
    is_softphone: bool = False
    any_file: re.Pattern[str] = field(init=False, repr=False)
    names: Names = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """One pattern for all file names, so that a request is not held against every rule of every vendor: its groups
        are the rules, in their order.
        """
        patterns = (_GROUP_NAME.sub("(?:", rule.pattern.pattern) for rule in self.files)
        any_file = re.compile("|".join(f"({pattern})" for pattern in patterns))
        if any_file.groups != len(self.files):
            raise ValueError("a group of a file's name without a name of its own is written (?:...)")
        object.__setattr__(self, "any_file", any_file)
        object.__setattr__(self, "names", Names(self.dial_names, self.own_dialed, self.pinned, self.watched))

    def file_rule(self, name: str) -> FileRule | None:
        """The rule that file name falls under; None when this vendor's phones ask for no such file."""
        found = self.any_file.fullmatch(name)
        return self.files[(found.lastindex or 1) - 1] if found is not None else None

    def model(self, spelling: str) -> Model | None:
        """The model behind any spelling of its name (`SIP-T46U`, `VVX_450`, `vvx 450`)."""
        name = self.model_spellings.get(spelled(spelling))
        return self.models[name] if name is not None else None


@dataclass(frozen=True, slots=True)
class PhoneIdentity:
    """Who seems to ask, and for what. `evidence` and `contradictions` are sentences for the fetch log.

    `named`: the model and the address that the User-Agent alone tells, where it tells them. `is_proven`: the phone's
    own certificate says so.
    """

    vendor: str | None
    mac: Mac | None
    model: str | None
    firmware: str | None
    kind: FileKind
    confidence: Confidence
    evidence: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    foreign: str | None = None
    file: str = ""
    named: tuple[str | None, Mac | None] = (None, None)
    is_refused: bool = (
        False  # a contradiction after which nothing may be served: two addresses, a placeholder, another vendor
    )
    is_proven: bool = False


@dataclass(frozen=True, slots=True)
class _Agent:
    """What a User-Agent says about itself."""

    profile: Profile | None = None
    model: str | None = None
    firmware: str | None = None
    mac: Mac | None = None
    foreign: str | None = None


def spelled(model: str) -> str:
    """A model name reduced to what people agree on: capitals and digits, without brand, `SIP` and punctuation."""
    text = re.sub(r"[^A-Z0-9]", "", model.upper())
    return re.sub(rf"^(?:{_BRANDS})?(?:SIP)?", "", text)


def parse_mac(text: str) -> Mac | None:
    """12 lower-case digits from any usual spelling (`00:15:65:4A:A9:37`, `0015.654a.a937`), or None."""
    digits = _SEPARATORS.sub("", text.strip()).lower()
    return Mac(digits) if _MAC.match(digits) and digits not in NOT_A_MAC else None


@dataclass(frozen=True, slots=True)
class Vendors:
    """Every profile, and the identification over them."""

    profiles: Mapping[str, Profile]

    def identify(self, path: str, user_agent: str | None = None) -> PhoneIdentity:
        """Judge a request. Never fails; what cannot be told is None, and `confidence` says how sure the vendor is.

        Args:
            path: The path asked for, with or without folders and query; only its last part counts.
            user_agent: The header as it came, or None. It is evidence, never a condition.
        """
        folders, _, name = path[:MAX_PATH].split("?", 1)[0].rstrip("/").rpartition("/")
        agent = self._agent((user_agent or "")[:MAX_USER_AGENT])
        matches = [
            (profile, rule, found) for profile in self.profiles.values() for rule, found in _rules(profile, name)
        ]
        profile, confidence, evidence = self._vendor(agent, matches)
        if profile is None and agent.foreign is None and folders:
            profile, confidence, evidence = self._by_folder(folders, confidence, evidence)
        rule_match = next(((rule, found) for one, rule, found in matches if one is profile), None)
        if rule_match is None and matches and agent.profile is None and agent.foreign is None:
            rule_match = matches[0][1:]
        identity = _identity(name, agent, profile, confidence, evidence, rule_match)
        if identity.kind is FileKind.PLACEHOLDER:
            return replace(identity, contradictions=(self._unfilled(name, profile),))
        if rule_match is None and matches and agent.profile is not None:
            return _with_file_of_another(identity, agent, matches)
        return self._with_block_of_another(identity)

    def _unfilled(self, name: str, profile: Profile | None) -> str:
        title, variable = (profile.title, profile.mac_variable) if profile is not None else (None, "")
        variables = {one.title: one.mac_variable for one in self.profiles.values() if one.mac_variable}
        return diagnosis.placeholder(name, title, variable, variables)

    def _with_block_of_another(self, identity: PhoneIdentity) -> PhoneIdentity:
        """A phone of one vendor with an address of another's block: a typing error, or a phone that pretends. Told,
        and not refused, since blocks are missing from every list.
        """
        if identity.mac is None or identity.vendor is None or identity.mac[:6] in self.profiles[identity.vendor].ouis:
            return identity
        profile = self.profiles[identity.vendor]
        owner = next((one.title for one in self.profiles.values() if identity.mac[:6] in one.ouis), None)
        if owner is not None:
            told = f"{identity.mac[:6]} is an address block of {owner}"
        elif int(identity.mac[1], 16) & 2 and not profile.is_softphone and not identity.contradictions:
            told = diagnosis.local_address(identity.mac, profile.title)
        else:
            return identity
        return replace(identity, contradictions=(*identity.contradictions, told))

    def _by_folder(
        self, folders: str, confidence: Confidence, evidence: list[str]
    ) -> tuple[Profile | None, Confidence, list[str]]:
        """The vendor whose phones put such a folder before their files' names."""
        for profile in self.profiles.values():
            if profile.folder is not None and profile.folder.search(folders) is not None:
                return profile, Confidence.HIGH, [f"only {profile.title} asks in such a folder"]
        return None, confidence, evidence

    def _agent(self, text: str) -> _Agent:
        for profile in self.profiles.values():
            for pattern in profile.user_agents:
                match = pattern.search(text)
                if match is not None:
                    found = match.groupdict()
                    model = profile.model(found.get("model") or "")
                    if "brand" in found and not found["brand"] and model is None:
                        continue  # without a brand only a name from our own table counts
                    mac = parse_mac(found.get("mac") or "")
                    name = model.name if model is not None else found.get("model") or None
                    return _Agent(profile, name, found.get("firmware"), mac)
        foreign = _FOREIGN.search(text)
        return _Agent(foreign=foreign[0].strip()) if foreign else _Agent()

    def _vendor(
        self, agent: _Agent, matches: list[tuple[Profile, FileRule, re.Match[str]]]
    ) -> tuple[Profile | None, Confidence, list[str]]:
        """The vendor with the strongest evidence behind it."""
        exclusive = {profile.name: profile for profile, rule, _ in matches if rule.exclusive}
        if agent.profile is not None:
            both = agent.profile.name in exclusive or any(profile is agent.profile for profile, _, _ in matches)
            evidence = [f"the User-Agent names {agent.profile.title}"]
            return agent.profile, Confidence.EXACT if both else Confidence.HIGH, evidence
        if agent.foreign is not None:
            return None, Confidence.NONE, [f"the User-Agent names {agent.foreign}"]
        by_address = next(((profile, rule, mac[:6]) for profile, rule, mac in _addressed(matches)), None)
        is_shared = by_address is not None and not by_address[1].exclusive and by_address[1].template is not None
        if len(exclusive) == 1 and not is_shared:
            profile = next(iter(exclusive.values()))
            return profile, Confidence.HIGH, [f"only {profile.title} asks for such a file"]
        if by_address is not None:
            profile, _, block = by_address
            return profile, Confidence.PROBABLE, [f"{block} is an address block of {profile.title}"]
        return (
            None,
            Confidence.LOW if matches else Confidence.NONE,
            ["a file name several vendors share"] if matches else [],
        )


def _addressed(matches: list[tuple[Profile, FileRule, re.Match[str]]]) -> Iterator[tuple[Profile, FileRule, Mac]]:
    """Those whose address block the address in the name belongs to. Two vendors may share the name of the phone's own
    file, as Grandstream and Htek do `cfg<mac>.xml`, and then the block tells them apart.
    """
    for profile, rule, found in matches:
        mac = parse_mac(found.groupdict().get("mac") or "")
        if mac is not None and mac[:6] in profile.ouis:
            yield profile, rule, mac


def _rules(profile: Profile, name: str) -> list[tuple[FileRule, re.Match[str]]]:
    """The first rule of that profile the name fits, with the match, as a list of none or one."""
    rule = profile.file_rule(name)
    found = rule.pattern.fullmatch(name) if rule is not None else None
    return [(rule, found)] if rule is not None and found is not None else []


def _with_file_of_another(
    identity: PhoneIdentity, agent: _Agent, matches: list[tuple[Profile, FileRule, re.Match[str]]]
) -> PhoneIdentity:
    """The User-Agent names one vendor, the file another: nothing is served, and the address in the name is told, so
    that the phone it belongs to is known.
    """
    other, rule, found = next(((one for one in matches if one[1].exclusive)), matches[0])
    path_mac = parse_mac(found.groupdict().get("mac") or "")
    told = (f"only {other.title} phones ask for a file called {identity.file}",) if rule.exclusive else ()
    if path_mac and agent.mac and path_mac != agent.mac:
        told = (*told, f"the path says {path_mac}, the User-Agent {agent.mac}")
    return replace(
        identity,
        mac=path_mac or identity.mac,
        contradictions=(*identity.contradictions, *told),
        is_refused=identity.is_refused or bool(told),
    )


def _identity(
    name: str,
    agent: _Agent,
    profile: Profile | None,
    confidence: Confidence,
    evidence: list[str],
    rule_match: tuple[FileRule, re.Match[str]] | None,
) -> PhoneIdentity:
    kind, path_mac, path_model = FileKind.OTHER, None, None
    contradictions = []
    is_refused = agent.foreign is not None
    if rule_match is not None:
        rule, found = rule_match
        kind = rule.kind
        groups = found.groupdict()
        path_mac = parse_mac(groups.get("mac") or "")
        if profile is not None and groups.get("id") is not None:
            path_model = profile.common_ids.get(int(groups["id"]))
            evidence.append(f"{int(groups['id']):03d} is the number of {path_model or 'a model that is not known'}")
        elif profile is not None and groups.get("model") is not None:
            named = profile.model(profile.file_names.get(name.lower(), groups["model"]))
            path_model = named.name if named is not None else None
            evidence.append(f"{name} is the file of {path_model or 'a model that is not known'}")
    elif _PLACEHOLDER.search(name):
        kind = FileKind.PLACEHOLDER
        is_refused = True
    elif profile is not None:
        contradictions.append(f"{profile.title} phones ask for no file called {name}" if name else "no file is named")
    if path_mac and agent.mac and path_mac != agent.mac:
        is_refused = True
        contradictions.append(f"the path says {path_mac}, the User-Agent {agent.mac}")
    if path_model and agent.model and spelled(path_model) != spelled(agent.model):
        contradictions.append(f"the file belongs to the model {path_model}, the User-Agent names {agent.model}")
    return PhoneIdentity(
        vendor=profile.name if profile is not None else None,
        mac=path_mac or agent.mac,
        model=agent.model or path_model,
        firmware=agent.firmware,
        kind=kind,
        confidence=confidence,
        evidence=tuple(evidence),
        contradictions=tuple(contradictions),
        foreign=agent.foreign,
        file=name,
        named=(agent.model, agent.mac),
        is_refused=is_refused,
    )


# --- Profiles -------------------------------------------------------------------------------------------------------


def templates_root() -> Path:
    """The folder `templates/phones`: beside the checkout's `engine`, or inside the installed package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_templates" / "phones"
    return installed if installed.is_dir() else package.parent / "templates" / "phones"


def load(root: Path | None = None) -> Vendors:
    """Read every `<vendor>/profile.toml` with its templates. Done once, at start.

    Raises:
        ConfigFault: a profile that cannot be used, with its path.
    """
    root = root or templates_root()
    profiles = {}
    for path in sorted(root.glob("*/profile.toml")):
        templates = {file.name: file.read_text() for file in sorted(path.parent.glob("*.j2"))}
        try:
            profile = parse_profile(path.read_text(), templates)
        except (KeyError, TypeError, ValueError, re.error) as exc:
            raise ConfigFault((f"{path}: not a vendor profile ({type(exc).__name__}: {exc}).",)) from exc
        profiles[profile.name] = profile
    if not profiles:
        raise ConfigFault((f"{root}: no vendor profile found. Phones cannot be served; install the templates folder.",))
    return Vendors(profiles)


@cache
def known() -> Vendors:
    """The profiles that came with this installation, read once."""
    return load()


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
        **_override_rules(data.get("overrides", {})),
        is_softphone=data.get("softphone", False),
    )


def _override_rules(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table `overrides` of a profile: what an account's own templates may not change. Lists are alternatives."""
    found: dict[str, Any] = {"comment": table.get("comment", "#"), "separator": table.get("separator", "=")}
    found["watched"] = watched_patterns(table.get("watched", {}))
    found |= {name: re.compile(table[name]) for name in ("statement", "own_dialed") if name in table}
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
    )


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
