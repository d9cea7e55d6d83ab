"""From what the database holds to what a template sees: records, a phone's own settings, the `PhoneConfig` they make
(pure).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.errors import FieldFault
from engine.numbers import numbers_of
from engine.provisioning import assetfile, functionkeys, location_gate, merge, render, sealing, softphones
from engine.provisioning.assetfile import AssetRecord
from engine.provisioning.functionkeys import KeyRoom
from engine.provisioning.location_gate import LOCATED, Unlocated
from engine.provisioning.merge import Effective, Level, Source
from engine.provisioning.policy import Policy
from engine.provisioning.render import LineConfig, PhoneConfig
from engine.provisioning.timezone import zone_rule
from engine.provisioning.vendors import Model, Profile

DEFAULT_NTP_SERVER = "pool.ntp.org"
DEFAULT_EXPIRES_S = 3600
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?){1,127}\Z|\[[0-9A-Fa-f:.]{2,45}\]\Z")
_HELD_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]{1,260}(?:/[A-Za-z0-9._~/-]{0,200})?\Z")
_HOST_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d{1,5}))?\Z")


@dataclass(frozen=True, slots=True)
class LineRecord:
    """A line on a phone's key, with the registrar of its PBX (empty when it has none)."""

    key: int
    extension: str
    display_name: str
    sip_user: str
    auth_user: str
    secret: str = field(repr=False)
    registrar_host: str
    registrar_port: int
    transport: str
    resync_via: str


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """What every phone of an account shares. `next_token`: of the URL that phones are being moved to; "": none.
    `settings`: those of its global and account levels with the defaults, as the files that are for every phone have
    them.
    """

    account_id: str
    timezone: str
    country: str
    admin_password: str = field(repr=False)
    next_token: str = field(default="", repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)


@dataclass(frozen=True, slots=True)
class PhoneRecord:
    """A phone with its account, its location's time zone and country (empty: the account's) and its lines, first key
    first. `settings`: the merged values (`merge.effective`), `sources`: where each of them stands, `removed`: which
    level took a value away; `unlocated`: what of it has no address to send with a 911 call; `assets`: those of the
    account's files that its settings name; `file_key`: what its encrypted files are made with ("": it has none).
    """

    account: AccountRecord
    phone_id: str
    mac: str
    vendor: str
    model: str
    label: str
    timezone: str
    settings: Mapping[str, Any]
    lines: tuple[LineRecord, ...]
    country: str = ""
    sources: Mapping[str, Source] = field(default_factory=dict)
    removed: Mapping[str, Source] = field(default_factory=dict)
    unlocated: Unlocated = LOCATED
    assets: tuple[AssetRecord, ...] = ()
    file_key: str = field(default="", repr=False)


# --- A phone's own settings ------------------------------------------------------------------------------------------


def parse_host_port(text: str, default_port: int) -> tuple[str, int]:
    """Read `host` or `host:port`.

    Raises:
        ValueError: it is neither.
    """
    match = _HOST_PORT.match(text)
    port = int(match["port"]) if match is not None and match["port"] else default_port
    if match is None or not _HOST.match(match["host"]) or not 0 < port <= 65_535:
        raise ValueError(f"expected host or host:port, got {text!r}")
    return match["host"], port


def _whole(low: int, high: int) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if good else f"expected a whole number from {low} to {high}"

    return check


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "expected true or false"


def _host(value: Any) -> str | None:
    good = isinstance(value, str) and _HOST.match(value) is not None
    return None if good else "expected a host name or an address"


def _host_port(value: Any) -> str | None:
    told = "expected host or host:port"
    if not isinstance(value, str):
        return told
    try:
        parse_host_port(value or "localhost", 5060)
    except ValueError:
        return told
    return None


def _codecs(value: Any) -> str | None:
    good = isinstance(value, list) and value and len(set(map(str, value))) == len(value)
    if good and all(codec in render.KNOWN_CODECS for codec in value):
        return None
    return f"expected a list of {', '.join(render.KNOWN_CODECS)}, best first"


def _held_url(value: Any) -> str | None:
    good = isinstance(value, str) and (not value or _HELD_URL.match(value) is not None)
    return None if good else "expected an http or https URL of a HELD server, or nothing"


def _asset_name(value: Any) -> str | None:
    good = isinstance(value, str) and (not value or assetfile.is_name(value))
    return None if good else "expected the name of one of the account's files, or nothing"


def _cloud_id(value: Any) -> str | None:
    good = isinstance(value, str) and (not value or softphones.CLOUD_ID.match(value) is not None)
    return None if good else "expected the Cloud ID of a Cloud Softphone project, such as ACME or ACME*, or nothing"


def _one_of(*names: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        return None if isinstance(value, str) and value in names else f"expected {' or '.join(names)}"

    return check


Check = Callable[[Any], str | tuple[FieldFault, ...] | None]
"""What is wrong with a value: a sentence, or for a value with parts one fault for each, its field the part's path."""

CHECKS: Mapping[str, Check] = {
    "ntp_server": _host,
    "outbound_proxy": _host_port,
    "expires_s": _whole(60, 86_400),
    "resync_minutes": _whole(15, 43_200),
    "codecs": _codecs,
    "vlan_id": _whole(1, 4094),
    "vlan_priority": _whole(0, 7),
    "lldp": _boolean,
    "dial_9911": _boolean,
    "held_url": _held_url,
    functionkeys.SETTING: functionkeys.faults,
    "phonebook": _one_of("account", "off"),
    "logo": _asset_name,
    "firmware": _asset_name,
    "ringtone": _asset_name,
    "cloud_id": _cloud_id,
}


# What holds where no level says anything; every setting of `CHECKS` has one (None: there is nothing to write).
DEFAULTS: Mapping[str, Any] = {
    "ntp_server": DEFAULT_NTP_SERVER,
    "outbound_proxy": "",
    "expires_s": DEFAULT_EXPIRES_S,
    "resync_minutes": render.DEFAULT_RESYNC_MINUTES,
    "codecs": list(render.DEFAULT_CODECS),
    "vlan_id": None,
    "vlan_priority": 5,
    "lldp": True,
    "dial_9911": False,
    "held_url": "",
    functionkeys.SETTING: [],
    "phonebook": "account",
    "logo": "",
    "firmware": "",
    "ringtone": "",
    "cloud_id": "",
}


def effective(levels: Sequence[Level], own: Mapping[str, Any], device: Source = merge.DEVICE) -> Effective:
    """The settings that count for a phone, every known one among them, each with its source."""
    return merge.effective(levels, own, device=device, defaults=DEFAULTS)


def setting_faults(settings: Mapping[str, Any]) -> tuple[FieldFault, ...]:
    """Every bad entry of `settings`, of a phone or of a level, by its path in the request body. `None` is good
    everywhere: it removes what a more general level says (`engine.provisioning.merge`).
    """
    faults = []
    for name, value in settings.items():
        check = CHECKS.get(name)
        if check is not None and value is None:
            continue
        fault = check(value) if check is not None else f"not a setting; known are {', '.join(CHECKS)}"
        if isinstance(fault, tuple):
            stem = f"settings.{name}"
            faults += [FieldFault(f"{stem}.{part.field}" if part.field else stem, part.detail) for part in fault]
        elif fault is not None:
            faults.append(FieldFault(f"settings.{name}", f"{fault}, got {value!r}" if check is not None else fault))
    return tuple(faults)


# --- Records to configurations --------------------------------------------------------------------------------------


def emergency_numbers(country: str, *, with_prefix: bool = False) -> tuple[str, ...]:
    """The numbers that must complete at once: the country's emergency numbers, then its test numbers, then 9911 where
    asked. A number behind a 9 that begins with one of the others (9999 with 999) cannot be dialled to its end: that one
    has left by then.
    """
    pack = numbers_of(country)
    plain = (*pack.emergency, *pack.test)
    prefixed = tuple(
        "9" + number for number in sorted(pack.emergency) if with_prefix and not ("9" + number).startswith(plain)
    )
    return (*sorted(pack.emergency), *sorted(pack.test), *prefixed)


MASK = "••••••••"


def masked(record: PhoneRecord) -> PhoneRecord:
    """The same phone with its secrets replaced, for eyes that may see the rest."""
    password = MASK if record.account.admin_password else ""
    account = replace(record.account, admin_password=password, next_token="")
    lines = tuple(replace(line, secret=MASK if line.secret else "") for line in record.lines)
    return replace(record, account=account, lines=lines, file_key=MASK if record.file_key else "")


def phone_config(record: PhoneRecord, profile: Profile, provisioning_url: str) -> PhoneConfig:
    """What a template sees of one phone.

    Raises:
        ValueError: the time zone is none; the model is not checked, since a phone of an unknown model still needs a
        file.
    """
    settings = record.settings
    model = profile.model(record.model)
    most = model.lines if model is not None else 1
    lines = tuple(_line(number, line, settings) for number, line in enumerate(record.lines[:most], 1))
    country = record.country or record.account.country
    own = PhoneConfig(
        mac=record.mac,
        model=model.name if model is not None else "",
        label=record.label or record.mac,
        lines=lines,
        max_lines=most,
        admin_password=record.account.admin_password,
        zone=zone_rule(record.timezone or record.account.timezone),
        provisioning_url=provisioning_url,
        is_nanp=country in render.NANP_COUNTRIES,
        resync_from_proxy=all(line.resync_via != "direct" for line in record.lines),
        **_of_all_files(settings, country, record.mac),
        **_of_this_phone(record, profile, provisioning_url),
    )
    file_key = record.file_key if record.account.policy.encrypt_files else ""
    return location_gate.marked(sealing.keyed(own, profile, file_key, mask=MASK), record.unlocated, country)


def _of_all_files(settings: Mapping[str, Any], country: str, mac: str) -> dict[str, Any]:
    """The fields of a `PhoneConfig` that settings decide, in a phone's own files and in those for every phone."""
    return {
        "ntp_server": settings.get("ntp_server", DEFAULT_NTP_SERVER),
        "emergency_numbers": emergency_numbers(country, with_prefix=settings.get("dial_9911", False)),
        "resync_minutes": render.with_jitter(settings.get("resync_minutes", render.DEFAULT_RESYNC_MINUTES), mac),
        "codecs": tuple(settings.get("codecs", render.DEFAULT_CODECS)),
        "vlan_id": settings.get("vlan_id"),
        "vlan_priority": settings.get("vlan_priority", 5),
        "lldp": settings.get("lldp", True),
        "held_url": settings.get("held_url", ""),
    }


def _of_this_phone(record: PhoneRecord, profile: Profile, provisioning_url: str) -> dict[str, Any]:
    """The fields that its own files alone have: what sits on its keys, and what else it shall fetch."""
    settings = record.settings
    model = profile.model(record.model)
    keys = functionkeys.read(settings.get(functionkeys.SETTING) or ())
    lines = min(len(record.lines), model.lines if model is not None else 1)
    found: dict[str, Any] = {}
    if keys and model is not None:
        found["function_keys"] = functionkeys.placed(keys, key_room(profile, model, lines))
    if book := phonebook_file(record, profile):
        found["phonebook_url"] = provisioning_url + book
    for asset in record.assets:
        is_named = asset.name == settings.get(asset.kind)
        if is_named and model is not None and asset.kind in model.takes and asset.suits(record.vendor, record.model):
            found[f"{asset.kind}_url"] = provisioning_url + asset.name
            if asset.kind == "firmware":
                found["firmware_version"] = asset.firmware
    return found


def phonebook_file(record: PhoneRecord, profile: Profile) -> str:
    """The name that phone asks for its phonebook by; empty: it is told none, or has no screen for one."""
    model = profile.model(record.model)
    is_off = record.settings.get("phonebook", "account") != "account"
    if is_off or (model is not None and "phonebook" in model.ignores):
        return ""
    return profile.phonebook.replace("{mac}", record.mac)


def key_room(profile: Profile, model: Model, lines: int) -> KeyRoom:
    """Where a phone of that model with so many lines has room for function keys."""
    taken = range(1, lines + 1) if model.has_shared_keys else ()
    return KeyRoom(profile.title, model.name, profile.key_kinds, model.keys, lines, taken)


def site_config(record: AccountRecord, profile: Profile, provisioning_url: str) -> PhoneConfig:
    """What a template sees in a file that is for every phone of the account: the settings of the global and the account
    level count there.
    """
    shared = render.empty_config(
        profile,
        provisioning_url=provisioning_url,
        timezone=record.timezone,
        ntp_server=DEFAULT_NTP_SERVER,
        emergency_numbers=emergency_numbers(record.country),
        is_nanp=record.country in render.NANP_COUNTRIES,
    )
    return replace(shared, **_of_all_files(record.settings, record.country, ""))


def _line(number: int, line: LineRecord, settings: Mapping[str, Any]) -> LineConfig:
    proxy = settings.get("outbound_proxy") or ""
    proxy_host, proxy_port = parse_host_port(proxy, 5060) if proxy else ("", 5060)
    return LineConfig(
        number=number,
        key=line.key,
        label=line.display_name or line.extension,
        display_name=line.display_name or line.extension,
        sip_user=line.sip_user,
        auth_user=line.auth_user or line.sip_user,
        secret=line.secret,
        registrar_host=line.registrar_host,
        registrar_port=line.registrar_port,
        transport=line.transport,
        expires_s=settings.get("expires_s", DEFAULT_EXPIRES_S),
        outbound_proxy_host=proxy_host,
        outbound_proxy_port=proxy_port,
    )
