"""Identification: who is asking for which file, judged from path and User-Agent as evidence (pure).

`load` reads every vendor's profile (`engine.provisioning.profiles`) once at start; `identify` is a function of its
arguments.

How the evidence is weighed, strongest first: the User-Agent names a vendor; the file name is one that only that
vendor asks for; the address block of the MAC. A User-Agent can be renamed by an administrator, so one that says
nothing never counts against a phone. `contradictions` lists evidence that cannot all be true.

What it costs is the file names: of the same `<mac>.cfg` a dozen vendors' phones ask. Few names are ever asked for that
differ in more than the address, so the vendors of what stands around it are remembered; whether such a name is none of
a phone's own, one pattern of all the other rules says.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cache
from pathlib import Path

from engine.errors import ConfigFault
from engine.provisioning import diagnosis
from engine.provisioning.profiles import (
    FileKind,
    FileRule,
    Mac,
    Model,
    Profile,
    Support,
    any_of,
    parse_mac,
    parse_profile,
    spelled,
)

__all__ = [
    "Confidence", "FileKind", "FileRule", "Mac", "Model", "PhoneIdentity", "Profile", "Support", "Vendors", "known",
    "load", "parse_mac", "parse_profile", "spelled", "templates_root",
]  # fmt: skip

MAX_PATH = 300  # longer than any name a phone asks for; checked before any pattern runs
MAX_USER_AGENT = 200  # longer than what any phone calls itself; a stranger's essay is not read to its end
MAX_AGENTS = 4096  # remembered, about 2 MB
MAX_NAMES = 1024  # remembered, without the addresses in them; phones ask for some two hundred
_LONG_HEX = re.compile(r"[0-9A-Fa-f]{12,}")
Ask = tuple[Profile, FileRule]  # a vendor, and the rule of its own that a file name falls under
_Reads = Callable[[str], re.Match[str] | None]
_ESCAPED = re.compile(r"\\.|\[[^\]]*\]")  # what means no group and no alternative
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


class Confidence(IntEnum):
    """How sure the vendor is: a file name many vendors share, an address block, a file name or User-Agent of one
    vendor, both.
    """

    NONE = 0
    LOW = 1
    PROBABLE = 2
    HIGH = 3
    EXACT = 4


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
    # a contradiction after which nothing may be served: two addresses, a placeholder, another vendor
    is_refused: bool = False
    is_proven: bool = False


@dataclass(frozen=True, slots=True)
class _Agent:
    """What a User-Agent says about itself."""

    profile: Profile | None = None
    model: str | None = None
    firmware: str | None = None
    mac: Mac | None = None
    foreign: str | None = None


@dataclass(frozen=True, slots=True)
class Vendors:
    """Every profile, and the identification over them."""

    profiles: Mapping[str, Profile]
    _agents: dict[str, _Agent] = field(default_factory=dict, init=False, repr=False, compare=False)
    _names: dict[tuple[str, str, str], list[Ask]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _owners: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)  # title by OUI
    _others: re.Pattern[str] = field(init=False, repr=False, compare=False)  # names that are not any phone's own

    _foldered: tuple[Profile, ...] = field(init=False, repr=False, compare=False)
    _readers: tuple[tuple[Profile, _Reads], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_foldered", tuple(one for one in self.profiles.values() if one.folder is not None))
        for profile in self.profiles.values():
            for oui in profile.ouis:
                self._owners.setdefault(oui, profile.title)
        readers = [(profile, _reader(one)) for profile in self.profiles.values() for one in profile.user_agents]
        object.__setattr__(self, "_readers", tuple(readers))
        rules = [rule for profile in self.profiles.values() for rule in profile.files if not rule.is_any_phone_s]
        object.__setattr__(self, "_others", any_of(rules) if rules else re.compile(r"(?!)"))

    def identify(self, path: str, user_agent: str | None = None) -> PhoneIdentity:
        """Judge a request. Never fails; what cannot be told is None, and `confidence` says how sure the vendor is.

        Args:
            path: The path asked for, with or without folders and query; only its last part counts.
            user_agent: The header as it came, or None. It is evidence, never a condition.
        """
        folders, _, name = path[:MAX_PATH].split("?", 1)[0].rstrip("/").rpartition("/")
        agent = self._agent((user_agent or "")[:MAX_USER_AGENT])
        matches, mac = self._asks(name)
        profile, confidence, evidence = self._vendor(name, mac, agent, matches)
        if profile is None and agent.foreign is None and folders:
            profile, confidence, evidence = self._by_folder(folders, confidence, evidence)
        rule = next((rule for one, rule in matches if one is profile), None)
        if rule is None and matches and agent.profile is None and agent.foreign is None:
            rule = matches[0][1]
        identity = _identity(name, agent, profile, confidence, evidence, rule)
        if identity.kind is FileKind.PLACEHOLDER:
            return replace(identity, contradictions=(self._unfilled(name, profile),))
        if rule is None and matches and agent.profile is not None:
            return _with_file_of_another(identity, agent, matches)
        return self._with_block_of_another(identity)

    def _asks(self, name: str) -> tuple[list[Ask], Mac | None]:
        """The vendors whose phones ask for a file of that name, each with the rule it falls under; and the address that
        stands in it, where that is all the address it can have.
        """
        runs = _LONG_HEX.findall(name)
        is_shared = all(run.startswith("000000") for run in runs)  # a model's file, or everybody's
        mac = parse_mac(runs[0]) if len(runs) == 1 and not is_shared else None
        if mac is not None and runs[0] in {mac, mac.upper()} and self._others.fullmatch(name) is None:
            before, _, behind = name.partition(runs[0])
            around = (before, behind, "" if runs[0].isdigit() else "a" if runs[0] == mac else "A")
        elif is_shared:
            mac, around = None, (name, "", "shared")
        else:
            return self._asked(name), None
        found = self._names.get(around)
        if found is None:
            if len(self._names) >= MAX_NAMES:
                self._names.clear()
            found = self._names[around] = self._asked(name)
        return found, mac

    def _asked(self, name: str) -> list[Ask]:
        return [(one, rule) for one in self.profiles.values() if (rule := one.file_rule(name)) is not None]

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
        owner = self._owners.get(identity.mac[:6])
        if owner is not None:
            told = f"{identity.mac[:6]} is an address block of {owner}"
        elif int(identity.mac[1], 16) & 2 and not profile.is_softphone and not identity.contradictions:
            told = diagnosis.local_address(identity.mac, profile.title)
        else:
            return identity
        contradictions = (*identity.contradictions, told)
        return PhoneIdentity(  # `replace` takes three times as long, and typing errors ask as often as anybody
            identity.vendor, identity.mac, identity.model, identity.firmware, identity.kind, identity.confidence,
            identity.evidence, contradictions, identity.foreign, identity.file, identity.named, identity.is_refused,
            identity.is_proven,
        )  # fmt: skip

    def _by_folder(
        self, folders: str, confidence: Confidence, evidence: list[str]
    ) -> tuple[Profile | None, Confidence, list[str]]:
        """The vendor whose phones put such a folder before their files' names."""
        for profile in self._foldered:
            if profile.folder is not None and profile.folder.search(folders) is not None:
                return profile, Confidence.HIGH, [f"only {profile.title} asks in such a folder"]
        return None, confidence, evidence

    def named_by(self, user_agent: str) -> str:
        """Who a User-Agent says is asking: `Snom D785`, `Snom`, a browser's name; "" where it names nobody we know."""
        agent = self._agent(user_agent)
        if agent.profile is None:
            return agent.foreign or ""
        return f"{agent.profile.title} {agent.model}" if agent.model else agent.profile.title

    def _agent(self, text: str) -> _Agent:
        """What a User-Agent says. Remembered for the phone's next files, forgotten all at once when they are many."""
        found = self._agents.get(text)
        if found is None:
            if len(self._agents) >= MAX_AGENTS:
                self._agents.clear()
            found = self._agents[text] = self._read_agent(text)
        return found

    def _read_agent(self, text: str) -> _Agent:
        for profile, reads in self._readers:
            match = reads(text)
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
        self, name: str, mac: Mac | None, agent: _Agent, matches: list[Ask]
    ) -> tuple[Profile | None, Confidence, list[str]]:
        """The vendor with the strongest evidence behind it."""
        if agent.profile is not None:
            both = any(profile is agent.profile for profile, _ in matches)
            evidence = [f"the User-Agent names {agent.profile.title}"]
            return agent.profile, Confidence.EXACT if both else Confidence.HIGH, evidence
        if agent.foreign is not None:
            return None, Confidence.NONE, [f"the User-Agent names {agent.foreign}"]
        exclusive = {profile.name: profile for profile, rule in matches if rule.exclusive}
        by_address = _addressed(name, mac, matches)
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


def _reader(pattern: re.Pattern[str]) -> _Reads:
    """How to look for it in a text. One with `^` before all of it is looked for there alone: `search` tries it at every
    character, which takes three times as long.
    """
    depth, outside = 0, []
    for character in _ESCAPED.sub("", pattern.pattern):
        depth += (character == "(") - (character == ")")
        outside += [character] if depth == 0 else []
    return pattern.match if outside[:1] == ["^"] and "|" not in outside else pattern.search


def _addressed(name: str, mac: Mac | None, matches: list[Ask]) -> tuple[Profile, FileRule, str] | None:
    """The one whose address block the address in the name belongs to, its rule and the block. Two vendors may share the
    name of the phone's own file, as Grandstream and Htek do `cfg<mac>.xml`, and then the block tells them apart.
    """
    for profile, rule in matches:
        oui = ((mac if rule.is_any_phone_s else None) or rule.mac_in(name) or "")[:6]
        if oui in profile.ouis:
            return profile, rule, oui
    return None


def _with_file_of_another(identity: PhoneIdentity, agent: _Agent, matches: list[Ask]) -> PhoneIdentity:
    """The User-Agent names one vendor, the file another: nothing is served, and the address in the name is told, so
    that the phone it belongs to is known.
    """
    other, rule = next(((one for one in matches if one[1].exclusive)), matches[0])
    path_mac = rule.mac_in(identity.file)
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
    rule: FileRule | None,
) -> PhoneIdentity:
    kind, path_mac, path_model = FileKind.OTHER, None, None
    contradictions = []
    is_refused = agent.foreign is not None
    if rule is not None:
        kind = rule.kind
        groups = rule.groups_of(name)
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
