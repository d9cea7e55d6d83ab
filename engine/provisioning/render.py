"""Render a phone's files: (phone, lines, profile) to bytes (pure).

Theory of operation. A template sees one value, `config`, a `PhoneConfig`; the same names for every vendor, so that
vendor key names stand in templates alone. Before a template runs, every text in `config` is searched for characters
that could end a setting and begin another; after it ran, the dial plans are read back out of the bytes and every
emergency number is dialled on them. Bytes that fail either are never returned.
"""

import hashlib
import html
import re
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

import jinja2

from engine.errors import UnsafeValue
from engine.provisioning import (
    dial_places,
    dialplan,
    fitting,
    override_changes,
    override_likeness,
    override_proof,
    softphones,
    timezone,
)
from engine.provisioning.dialplan import UnsafeDialPlan
from engine.provisioning.escaping import EscapingEnvironment
from engine.provisioning.functionkeys import FunctionKey
from engine.provisioning.override_changes import Found
from engine.provisioning.sandbox import Sandbox
from engine.provisioning.setting_names import Named
from engine.provisioning.timezone import ZoneRule, zone_among, zone_rule
from engine.provisioning.vendors import FileKind, FileRule, Mac, Profile, Vendors

DEFAULT_RESYNC_MINUTES = 1440
JITTER_SHARE = 10  # a tenth of the interval: a site that lost power does not ask as one for the rest of its life
DEFAULT_CODECS = ("pcmu", "pcma", "g722")
KNOWN_CODECS = ("pcmu", "pcma", "g722", "g729", "opus")
NANP_COUNTRIES = frozenset({"US", "CA", "PR", "VI", "GU", "AS", "MP"})
_FILTERS = (
    timezone.gmt_offset, timezone.signed_offset, timezone.day_rule, timezone.on_or_after, timezone.dotted_rule,
    softphones.quoted_string, softphones.uri_user,
)  # fmt: skip
MAX_PLAN = 8192  # characters; the longest any vendor documents is 2,560 (Poly)
MAX_PLANS = 65_536  # characters of all plans of a file together
MAX_SANDBOXES = 64
HOLDS_A_PLAN = frozenset({FileKind.DEVICE, FileKind.SETTINGS, FileKind.COMMON})


@dataclass(frozen=True, slots=True)
class LineConfig:
    """One registration, all texts as the phone's user or the PBX wrote them.

    `number` counts registrations from 1; `key` is the line key it sits on. `transport` is udp, tcp or tls;
    `expires_s` what the phone asks the registrar for. An empty `outbound_proxy_host` means none.
    """

    number: int
    key: int
    label: str
    display_name: str
    sip_user: str
    auth_user: str
    secret: str = field(repr=False)
    registrar_host: str
    registrar_port: int
    transport: str
    expires_s: int = 3600
    outbound_proxy_host: str = ""
    outbound_proxy_port: int = 5060


@dataclass(frozen=True, slots=True)
class PhoneConfig:
    """Everything a template may say. Field by field:

    mac                 12 lower-case digits; empty in a file that is for every phone
    model               as in the profile; empty in a file that is for every phone
    label               what the phone shows of itself
    lines               registrations, first key first
    max_lines           registrations the model holds: those beyond `lines` are switched off
    admin_password      of the phone's own pages and menu; empty leaves it alone
    ntp_server, zone    where the time comes from, and how it is shown
    provisioning_url    where the phone asks at its next boots, with a slash at its end
    emergency_numbers   each must complete at once on every rendered dial plan
    is_nanp             numbers follow the North American plan: 10 and 11 digits are complete
    resync_minutes      interval of polling, with this phone's own jitter in it
    resync_from_proxy   a NOTIFY counts only from the registrar or outbound proxy (the PBX sends it); False: from
    anywhere (we send it) codecs              wanted, best first, by their SDP names in lower case
    held_url            the HELD server a phone with native E911 asks for its location; empty: the engine locates it
    vlan_id, vlan_priority, lldp   voice VLAN (None: untagged), 802.1p priority, link-layer discovery
    function_keys       those the model has room for, by position
    phonebook_url, logo_url, firmware_url, ringtone_url   where the phone fetches them; empty leaves its own alone
    firmware_version    of the file at `firmware_url`, as the vendor writes it
    file_key, file_iv   what opens the phone's encrypted files, in the vendor's spelling; empty: they leave in clear
    """

    mac: str
    model: str
    label: str
    lines: tuple[LineConfig, ...]
    max_lines: int
    admin_password: str = field(repr=False)
    ntp_server: str
    zone: ZoneRule
    provisioning_url: str = field(repr=False)
    emergency_numbers: tuple[str, ...] = ("911", "933")
    is_nanp: bool = True
    resync_minutes: int = DEFAULT_RESYNC_MINUTES
    resync_from_proxy: bool = True
    codecs: tuple[str, ...] = DEFAULT_CODECS
    vlan_id: int | None = None
    vlan_priority: int = 5
    lldp: bool = True
    held_url: str = ""
    function_keys: tuple[FunctionKey, ...] = ()
    phonebook_url: str = field(default="", repr=False)
    logo_url: str = field(default="", repr=False)
    firmware_url: str = field(default="", repr=False)
    firmware_version: str = ""
    ringtone_url: str = field(default="", repr=False)
    file_key: str = field(default="", repr=False)
    file_iv: str = field(default="", repr=False)


_LINE_TEXTS = tuple(one.name for one in fields(LineConfig) if one.type is str)
_PHONE_TEXTS = tuple(one.name for one in fields(PhoneConfig) if one.type is str)


def with_jitter(minutes: int, mac: str) -> int:
    """The interval plus up to a tenth of it, always the same for the same phone."""
    return minutes + zlib.crc32(mac.encode()) % (minutes // JITTER_SHARE + 1)


class Renderer:
    """The compiled templates of every profile. Built once; rendering is a function of its arguments."""

    def __init__(self, vendors: Vendors) -> None:
        self.vendors = vendors
        self._environments = {
            profile.name: (profile.templates, _environment(profile)) for profile in vendors.profiles.values()
        }
        self._sandboxes: OrderedDict[tuple[str, frozenset[tuple[str, str]]], Sandbox] = OrderedDict()

    def render(
        self, profile: Profile, rule: FileRule, config: PhoneConfig, overrides: Mapping[str, str] = MappingProxyType({})
    ) -> bytes:
        """The bytes of one file. `overrides`: an account's own texts by template name; with any, all of the vendor's
        templates run in the sandbox (`engine.provisioning.sandbox`).

        Raises:
            UnsafeValue: a text holds a character that could become a second setting; the field is named.
            BrokenTemplate: an account's own text fails, or asks for too much work.
            UnsafeDialPlan: 911 or another emergency number would wait, change or be lost on this phone.
            UnsafeChange: an account's own text would keep this phone from 911, or from us.
        """
        refuse_unsafe(config, profile.refused)
        name = _template_of(profile, rule, config)
        if overrides:
            text, found = self._own(profile, rule, name, config, overrides)
            override_changes.refuse_harmful(found, overrides)
            return _encoded(profile, text)
        text = self._shipped(profile).get_template(name).render(config=config)
        if rule.kind in HOLDS_A_PLAN:
            dialed = dial_settings(profile, text)
            refuse_slow_plans(profile, dialed, config.emergency_numbers, _lines_of(config))
        return _encoded(profile, text)

    def drawn(
        self, profile: Profile, rule: FileRule, config: PhoneConfig, overrides: Mapping[str, str] = MappingProxyType({})
    ) -> bytes:
        """The file as `render` makes it, with nothing proven of it: for people to look at, never for a phone.

        Raises:
            BrokenTemplate: as `render`. ValueError: the model has no such file.
        """
        name = _template_of(profile, rule, config)
        if overrides:
            text = self.sandbox(profile, overrides).render(name, {"config": config}, lines=len(config.lines))
        else:
            text = self._shipped(profile).get_template(name).render(config=config)
        return _encoded(profile, text)

    def tried(
        self, profile: Profile, rule: FileRule, config: PhoneConfig, overrides: Mapping[str, str]
    ) -> tuple[bytes, Sequence[Found]]:
        """As `render`, with what those texts change of what keeps a phone reachable, whether or not it is refused.

        Raises:
            UnsafeValue, BrokenTemplate, UnsafeDialPlan: as `render`.
        """
        refuse_unsafe(config, profile.refused)
        text, found = self._own(profile, rule, _template_of(profile, rule, config), config, overrides)
        return _encoded(profile, text), found

    def _own(
        self, profile: Profile, rule: FileRule, name: str, config: PhoneConfig, overrides: Mapping[str, str]
    ) -> tuple[str, Sequence[Found]]:
        """The file as the account's own texts make it, proven against what the shipped templates make of this phone
        (`engine.provisioning.override_proof`), and what they change in it (`engine.provisioning.override_changes`).
        """
        text = self.sandbox(profile, overrides).render(name, {"config": config}, lines=len(config.lines))
        try:
            return text, self._proven(profile, rule, name, config, text)
        except UnsafeValue as exc:
            raise type(exc)(override_changes.concealing(config)(str(exc))) from None

    def _proven(self, profile: Profile, rule: FileRule, name: str, config: PhoneConfig, text: str) -> Sequence[Found]:
        if rule.kind not in HOLDS_A_PLAN and rule.kind is not FileKind.BOOT:
            override_proof.read(profile, text)
            return ()
        made = self._shipped(profile).get_template(name).render(config=config)
        if rule.kind in HOLDS_A_PLAN:
            differing = override_likeness.plain_differences(profile, text, made)
            if differing is not None and self._is_as_shipped(profile, config, made, differing):
                return ()
        return compared(profile, rule.kind, config, text, made)

    def _is_as_shipped(self, profile: Profile, config: PhoneConfig, made: str, differing: Sequence[Named]) -> bool:
        """Prove the shipped file's plan. False: one of those settings may be of it, and the own file is to be read."""
        dialed, names = dial_settings(profile, made), profile.names
        known = {names[name].bare for name, _ in dialed}
        if any(one.bare in known for one in differing):
            return False
        refuse_slow_plans(profile, dialed, config.emergency_numbers, _lines_of(config))
        return True

    def _shipped(self, profile: Profile) -> jinja2.Environment:
        templates, environment = self._environments[profile.name]
        return environment if _are_same(templates, profile.templates) else _environment(profile)

    def sandbox(self, profile: Profile, overrides: Mapping[str, str]) -> Sandbox:
        """The vendor's templates with those texts in place of some; the last used are kept compiled."""
        key = (profile.name, frozenset(overrides.items()))
        found = self._sandboxes.pop(key, None)
        if found is None or not _are_same(found.shipped, profile.templates):
            is_xml = profile.escape == "xml"
            found = Sandbox(profile.templates, overrides, is_xml=is_xml, filters=filters())
        self._sandboxes[key] = found
        while len(self._sandboxes) > MAX_SANDBOXES:
            with suppress(KeyError):  # another thread was faster
                self._sandboxes.popitem(last=False)
        return found


def compared(profile: Profile, kind: FileKind, config: PhoneConfig, own: str, shipped: str) -> Sequence[Found]:
    """Read both files setting by setting: what the account's own changes of what keeps the phone reachable. Raises as
    `Renderer.tried`.
    """
    mine = override_proof.read(profile, own)
    if kind in HOLDS_A_PLAN:
        dialed = dial_settings(profile, mine.text) if mine.text else mine.dialed
        refuse_long_plans(dialed)
        override_proof.refuse_hidden(profile, mine, dialed)
        refuse_slow_plans(profile, dialed, config.emergency_numbers, _lines_of(config))
    usual = override_proof.read_shipped(profile, shipped)
    override_proof.refuse_changed(profile, kind, mine, usual)
    return override_changes.changes(profile, mine, usual, config)


def _lines_of(config: PhoneConfig) -> tuple[int, ...]:
    return tuple([line.number for line in config.lines])


def _encoded(profile: Profile, text: str) -> bytes:
    return (text.replace("\n", "\r\n") if profile.ends_in_crlf else text).encode()


def _are_same(templates: Mapping[str, str], others: Mapping[str, str]) -> bool:
    """Whether what was compiled of the one holds for the other: mostly they are one object."""
    return templates is others or templates == others


def _template_of(profile: Profile, rule: FileRule, config: PhoneConfig) -> str:
    """The template that file is made from. Raises ValueError: that model has none."""
    model = profile.models.get(config.model)
    name = rule.template if rule.template != "model" else (model.template if model is not None else None)
    if name is None:
        raise ValueError(f"{profile.name} serves no {rule.kind} file of the model {config.model!r}")
    return name


def _environment(profile: Profile) -> jinja2.Environment:
    return _compiled(tuple(profile.templates.items()), profile.escape == "xml")


@lru_cache(maxsize=64)  # some more than there are vendors: compiling all of them takes half a second
def _compiled(templates: tuple[tuple[str, str], ...], is_xml: bool) -> jinja2.Environment:
    # Autoescaping follows the file format: in a text file it would write &amp; into a password.
    environment = EscapingEnvironment(
        loader=jinja2.DictLoader(dict(templates)),
        undefined=jinja2.StrictUndefined,
        autoescape=is_xml,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters |= filters()
    for name, _text in templates:
        environment.get_template(name)
    return environment


@cache
def filters() -> Mapping[str, Callable[..., Any]]:
    """What templates have beside Jinja's own filters: functions of their arguments alone."""
    made: dict[str, Callable[..., Any]] = {"utc_offset": utc_offset, "around": around, "zone_among": zone_among}
    made |= {"md5": md5, "minutes": whole_minutes, "host_port": host_port, "posix_tz": timezone.posix_tz}
    made["hash_quoted"] = hash_quoted
    return made | {one.__name__: one for one in _FILTERS}


@lru_cache(maxsize=256)
def utc_offset(minutes: int) -> str:
    """Hours east of UTC as people write them: `-5`, `+5:30`."""
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02d}" if rest else "")


@lru_cache(maxsize=256)
def around(numbers: tuple[str, ...]) -> tuple[str, ...]:
    """The shortest openings that lead to none of these numbers, as digit classes: for 911 and 933 `[0-8]`,
    `9[024-9]`, `91[02-9]`, `93[0-24-9]`. A plan of the numbers and of these openings never has to choose between an
    emergency number and a longer rule.
    """
    openings = []
    for stem in sorted({number[:length] for number in numbers for length in range(len(number))} - set(numbers)):
        taken = {number[len(stem)] for number in numbers if number.startswith(stem) and len(number) > len(stem)}
        free = [digit for digit in "0123456789" if digit not in taken]
        if free:
            openings.append(stem + _digit_class("".join(free)))
    return tuple(openings)


@lru_cache(maxsize=1024)  # as many as there are sets of digits
def _digit_class(digits: str) -> str:
    """`[0-8]`, `[024-9]`, `7`: runs of three or more as a range."""
    if len(digits) == 1:
        return digits
    text = digits
    for length in range(10, 2, -1):
        for first in range(11 - length):
            run = "0123456789"[first : first + length]
            text = text.replace(run, f"{run[0]}-{run[-1]}") if run in text else text
    return f"[{text}]"


def whole_minutes(seconds: int) -> int:
    """For phones whose timers count minutes: rounded down, since a registration may be renewed early, never late."""
    return max(1, seconds // 60)


def host_port(host: str, port: int) -> str:
    """`host:port` for phones that take both in one setting; empty without a host."""
    return f"{host}:{port}" if host else ""


def hash_quoted(text: str) -> str:
    """A value in quotes where a `#` would begin a comment, or a blank at its ends would be lost (Mitel)."""
    return f'"{text}"' if "#" in text or text != text.strip() else text


def md5(text: str) -> str:
    """The checksum a phone compares a file with (Algo): it finds broken transfers and protects nothing."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def refuse_long_plans(dialed: tuple[tuple[str, str], ...]) -> None:
    """Raise `UnsafeValue` for a dial plan longer than any phone keeps, before somebody tries to understand it."""
    plans = [len(value) for _, value in dialed]
    if max(plans, default=0) > MAX_PLAN or sum(plans) > MAX_PLANS:
        raise UnsafeValue(f"A dial plan in the file is longer than {MAX_PLAN} characters; no phone keeps it whole.")


def refuse_unsafe(config: PhoneConfig, refused: re.Pattern[str] | None = None) -> None:
    """Raise `UnsafeValue`, naming the field, if any text could end a setting, in any format or in this vendor's."""
    texts = [getattr(config, name) for name in _PHONE_TEXTS]
    texts += [getattr(line, name) for line in config.lines for name in _LINE_TEXTS]
    texts += config.emergency_numbers
    for key in config.function_keys:
        texts += key.value, key.label
    if fitting.UNSAFE.search("".join(texts)) is None and (refused is None or not any(map(refused.search, texts))):
        return
    named = [(name, getattr(config, name)) for name in _PHONE_TEXTS]
    named += [(f"lines[{line.number}].{name}", getattr(line, name)) for line in config.lines for name in _LINE_TEXTS]
    named += [("emergency_numbers", number) for number in config.emergency_numbers]
    for key in config.function_keys:
        named += (
            (f"function_keys[{key.position}].value", key.value),
            (f"function_keys[{key.position}].label", key.label),
        )
    for name, text in named:
        found = fitting.UNSAFE.search(text) or (refused.search(text) if refused is not None else None)
        if found is not None:
            at = found.start()
            raise UnsafeValue(
                f"{name} holds the character U+{ord(text[at]):04X} at place {at + 1}, which this phone could read as "
                "the end of the setting. Remove it."
            )


def fitted(config: PhoneConfig, refused: re.Pattern[str] | None) -> PhoneConfig:
    """The same phone with what it only shows (labels, names) in characters its format takes; the very same object when
    all of them are. Passwords and users are left: another one would not be theirs.
    """
    shown = [config.label, *(key.label for key in config.function_keys)]
    shown += [text for line in config.lines for text in (line.label, line.display_name)]
    if all(fitting.is_fit(text, refused) for text in shown):
        return config
    return replace(
        config,
        label=fitting.fitted(config.label, refused),
        lines=tuple(
            replace(
                line,
                label=fitting.fitted(line.label, refused),
                display_name=fitting.fitted(line.display_name, refused),
            )
            for line in config.lines
        ),
        function_keys=tuple(replace(key, label=fitting.fitted(key.label, refused)) for key in config.function_keys),
    )


def dial_settings(profile: Profile, text: str) -> tuple[tuple[str, str], ...]:
    """The settings of the dial plan, read back out of a rendered file."""
    if profile.dial_names is not None:
        return dial_places.dialed_in(profile.dial_names, text)
    if profile.dial_setting is not None:
        found = profile.dial_setting.findall(text)
        return tuple((name, html.unescape(value) if profile.escape == "xml" else value) for name, value in found)
    return dialplan.settings_in(profile.dial_plan, text)


def refuse_slow_emergency(profile: Profile, text: str, numbers: tuple[str, ...], lines: tuple[int, ...] = ()) -> None:
    """Raise `UnsafeDialPlan` unless every number completes at once, unchanged, on every plan in the file and on every
    one of those lines.
    """
    refuse_slow_plans(profile, dial_settings(profile, text), numbers, lines)


def refuse_slow_plans(
    profile: Profile, dialed: tuple[tuple[str, str], ...], numbers: tuple[str, ...], lines: tuple[int, ...]
) -> None:
    """As `refuse_slow_emergency`, of the settings read out of a file."""
    found = dialplan.faults(profile.dial_plan, dialed, numbers, lines)
    if found:
        raise UnsafeDialPlan(f"The file is not served, because on this phone {'; '.join(found)}. Correct the template.")


def empty_config(
    profile: Profile,
    *,
    provisioning_url: str,
    timezone: str,
    ntp_server: str,
    emergency_numbers: tuple[str, ...],
    is_nanp: bool,
) -> PhoneConfig:
    """What a file for every phone of the account is made from: no address, no line, no secret."""
    return PhoneConfig(
        mac="", model="", label=profile.title, lines=(), max_lines=0, admin_password="", ntp_server=ntp_server,
        zone=zone_rule(timezone), provisioning_url=provisioning_url, emergency_numbers=emergency_numbers,
        is_nanp=is_nanp,
    )  # fmt: skip


def served_names(profile: Profile, mac: Mac, model: str) -> tuple[str, ...]:
    """The files this phone is served, in the order it asks for them; none of a model that is known by name alone."""
    known = profile.models.get(model)
    if known is not None and known.template is None:
        return ()
    common_id = known.common_id if known is not None else None
    names = []
    for pattern in profile.device_files:
        if "{common_id}" not in pattern:
            names.append(pattern.replace("{mac}", mac).replace("{MAC}", mac.upper()).replace("{model}", model))
        elif common_id is not None:
            names.append(pattern.replace("{common_id}", f"{common_id:012d}"))
    return tuple(names)
