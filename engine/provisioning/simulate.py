"""Boot simulators: phones that ask as the real ones do, and read what they get as the real ones would.

Yealink: `<mac>.boot`, else `y000000000000.boot`; what their `include:config` lines name, else the model's common file
and `<mac>.cfg`; a file whose MD5 has not changed since the last boot is not applied again. Poly: `<mac>.cfg`, else
`000000000000.cfg`; the CONFIG_FILES it names, in order; overrides, licence and directory, which may be missing; then
the logs are PUT. A `Memory` handed from boot to boot is the phone's flash.
"""

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET  # what a phone parses with is no stronger

import aiohttp

from engine.errors import FieldFault, Invalid
from engine.provisioning import boots, boots_late, boots_plain, boots_sealed, challenged, dialplan, tokens, vendors
from engine.provisioning.booting import TIMEOUT_S, Family, FileResult, LineResult, Memory, Wire, is_new, named, place
from engine.provisioning.dialplan import Completion
from engine.provisioning.override_changes import dialled_user
from engine.provisioning.setting_names import Watched
from engine.provisioning.vendors import Mac, Model, Profile

_RETRY_DELAY_S = 0.5
_INCLUDE = re.compile(r'^include:config\s+[<"]?([^">\s]+)[">]?\s*$', re.MULTILINE)
_LOG_TEXT = b"000010.000|app1 |4|00|simulated boot\n"
NOT_KNOWN = "not known"  # what a number does on a phone that was given no configuration
_WORST = (Completion.NEVER, Completion.REWRITTEN, Completion.AFTER_TIMER, Completion.IMMEDIATE)


@dataclass(frozen=True, slots=True)
class BootResult:
    """What the phone made of its boot. `dials`: what each emergency number does on it, NOT_KNOWN where it was given no
    configuration; `auto_dial`: what a lifted handset calls by itself, so that nothing else can be dialled; `fault`: why
    it is not ready.
    """

    vendor: str
    model: str
    mac: str
    files: tuple[FileResult, ...]
    lines: tuple[LineResult, ...]
    admin_password: str | None = field(repr=False)
    provisioning_url: str | None = field(repr=False)
    dials: Mapping[str, str]
    fault: str | None
    settings: Mapping[str, str] = field(repr=False)
    auto_dial: str = ""

    @property
    def is_ready(self) -> bool:
        """It has lines to call from, each with a registrar, and every emergency number leaves with its last digit."""
        return self.fault is None

    @property
    def legible_url(self) -> str | None:
        """Where the phone asks next time, without token and password."""
        return tokens.redact(challenged.parted(self.provisioning_url)[0]) if self.provisioning_url else None

    def as_json(self) -> dict[str, Any]:
        """For scripts; secrets are told by their presence, the token is redacted."""
        return {
            "vendor": self.vendor,
            "model": self.model,
            "mac": self.mac,
            "is_ready": self.is_ready,
            "fault": self.fault,
            "files": [
                {"method": one.method, "name": one.name, "status": one.status, "size_bytes": one.size_bytes,
                 "duration_ms": round(one.duration_ms, 3), "is_applied": one.is_applied}
                for one in self.files
            ],
            "lines": [
                {"key": one.key, "sip_user": one.sip_user, "auth_user": one.auth_user, "has_secret": bool(one.secret),
                 "registrar": one.registrar, "transport": one.transport, "display_name": one.display_name}
                for one in self.lines
            ],
            "has_admin_password": bool(self.admin_password),
            "provisioning_url": self.legible_url,
            "dials": dict(self.dials),
            "auto_dial": self.auto_dial or None,
        }  # fmt: skip


async def simulate(
    vendor: str,
    model: str,
    mac: str,
    url: str,
    *,
    numbers: tuple[str, ...] = ("911", "933"),
    memory: Memory | None = None,
    user_agent: str | None = None,
    session: aiohttp.ClientSession | None = None,
    retry_delay_s: float = _RETRY_DELAY_S,
) -> BootResult:
    """Boot one phone against a provisioning URL, token included.

    Args:
        url: A user and a password in it are those typed in at the phone, for a server that asks for them.
        numbers: What is dialled on the plan the phone ends up with.
        memory: The phone's flash of its last boot; changed. None: out of the box.
        user_agent: Instead of the model's own.
        session: Shared by many phones (a storm); None: one of its own.

    Raises:
        Invalid: vendor, model, MAC or URL are none.
    """
    profile, known, parsed = _phone(vendor, model, mac, url)
    flash = memory if memory is not None else Memory()
    held = frozenset(flash.applied)
    agent = user_agent or FAMILIES[profile.name].agent(known, parsed)
    own = session or aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
    asked = boots_sealed.where_it_asks(url.rstrip("/") + "/", FAMILIES[profile.name].next_url(flash.settings))
    asked, typed = challenged.parted(asked)
    wire = Wire(
        own,
        asked,
        agent,
        retry_delay_s,
        opened=boots_sealed.opener(profile.name, flash),
        answering=challenged.answering(profile.name, lambda: flash.settings, lambda: secrets.token_hex(8)),
        typed=typed,
    )
    try:
        await FAMILIES[profile.name].boot(wire, flash, known, parsed)
    finally:
        if session is None:
            await own.close()
    return _result(profile, known, parsed, wire.files, flash.settings, numbers, held)


def _phone(vendor: str, model: str, mac: str, url: str) -> tuple[Profile, Model, Mac]:
    faults = []
    profiles = vendors.known().profiles
    profile = profiles.get(vendor.lower())
    known = profile.model(model) if profile is not None else None
    parsed = vendors.parse_mac(mac)
    if profile is None:
        faults.append(FieldFault("vendor", f"expected one of {', '.join(profiles)}, got {vendor!r}"))
    elif known is None:
        faults.append(FieldFault("model", f"expected one of {', '.join(profile.models)}, got {model!r}"))
    if parsed is None:
        faults.append(FieldFault("mac", f"expected a MAC address such as 80:5e:c0:12:34:56, got {mac!r}"))
    if urlsplit(url).scheme not in {"http", "https"}:
        faults.append(FieldFault("url", f"expected an http or https URL, got {tokens.redact(url)!r}"))
    if faults or profile is None or known is None or parsed is None:
        told = "; ".join(f"{fault.field}: {fault.detail}" for fault in faults)
        raise Invalid(f"This phone cannot be simulated: {told}.", fields=tuple(faults))
    return profile, known, parsed


# --- Yealink --------------------------------------------------------------------------------------------------------


def _yealink_agent(model: Model, mac: Mac) -> str:
    name = model.name if model.name[0] in "WCVA" else f"SIP-{model.name}"
    colons = ":".join(mac[at : at + 2] for at in range(0, 12, 2))
    return f"Yealink {name} {model.common_id or 124}.86.0.20 {colons}"


async def _boot_yealink(wire: Wire, flash: Memory, model: Model, mac: Mac) -> None:
    boot = await wire.get(f"{mac}.boot") or await wire.get("y000000000000.boot")
    text = boot.decode("utf-8", "replace") if boot is not None else ""
    if boot is not None:
        wire.mark_applied()
        names = [name.replace("$mac", mac) for name in _INCLUDE.findall(text)]
    else:
        names = [f"y{model.common_id:012d}.cfg"] if model.common_id is not None else []
        names.append(f"{mac}.cfg")
    is_overwriting = re.search(r"^overwrite_mode\s*=\s*1\s*$", text, re.MULTILINE) is not None
    for name in names:
        data = await wire.get(name)
        if data is not None and is_new(flash, name, data):
            wire.mark_applied()
            flash.apply(name, yealink_settings(data), is_overwriting=is_overwriting)


def yealink_settings(data: bytes) -> dict[str, str]:
    """A text file as the phone reads it: one setting a line, `#` begins a comment line."""
    found = {}
    for row in data.decode("utf-8", "replace").splitlines():
        name, separator, value = row.partition("=")
        if separator and not row.lstrip().startswith("#"):
            found[name.strip()] = value.strip()
    return found


def _yealink_lines(settings: Mapping[str, str]) -> list[LineResult]:
    lines = []
    for number in range(1, 251):
        n = f"account.{number}."
        if settings.get(f"{n}enable") != "1":
            continue
        has_proxy = settings.get(f"{n}outbound_proxy_enable") == "1"
        lines.append(
            LineResult(
                key=number,
                sip_user=settings.get(f"{n}user_name", ""),
                auth_user=settings.get(f"{n}auth_name", ""),
                secret=settings.get(f"{n}password", ""),
                registrar=place(settings, f"{n}sip_server.1."),
                transport={"0": "udp", "1": "tcp", "2": "tls"}.get(
                    settings.get(f"{n}sip_server.1.transport_type", ""), ""
                ),
                display_name=settings.get(f"{n}display_name", ""),
                label=settings.get(f"{n}label", ""),
                outbound_proxy=place(settings, f"{n}outbound_proxy.1.") if has_proxy else "",
            )
        )
    return lines


def _yealink_admin_password(settings: Mapping[str, str]) -> str | None:
    user, separator, password = settings.get("static.security.user_password", "").partition(":")
    return password if separator and user == settings.get("static.security.user_name.admin", "admin") else None


# --- Poly -----------------------------------------------------------------------------------------------------------


def _poly_agent(model: Model, _mac: Mac) -> str:
    family, firmware = next(
        (agent for start, agent in _POLY_FAMILIES.items() if model.name.startswith(start)), ("PolycomVVX", "5.9.7.3480")
    )
    name = model.name.replace("SoundPoint IP", "SPIP").replace("SoundStation IP", "SSIP").replace(" ", "_")
    return f"FileTransport {family}-{name}-UA/{firmware} Type/Application"


_POLY_FAMILIES = {
    "VVX": ("PolycomVVX", "6.4.3.5814"),
    "CCX": ("PolyCCX", "8.1.3.1301"),
    "Edge": ("PolyEdge", "8.2.1.1121"),
    "SoundPoint": ("PolycomSoundPointIP", "4.0.15.1047"),
    "SoundStation": ("PolycomSoundStationIP", "4.0.15.1047"),
}


async def _boot_poly(wire: Wire, flash: Memory, _model: Model, mac: Mac) -> None:
    master = await wire.get(f"{mac}.cfg")
    if master is None:
        master = await wire.get("000000000000.cfg")
    if master is not None:
        wire.mark_applied()
        attributes = poly_settings(master)
        flash.applied.clear()  # the phone holds what its files say and nothing of the last boot
        firmware = attributes.get("APP_FILE_PATH", "")
        if firmware:
            await wire.get(firmware)
        for name in attributes.get("CONFIG_FILES", "").split(","):
            filled = name.strip().replace("[PHONE_MAC_ADDRESS]", mac)
            data = await wire.get(filled) if filled else None
            if data is not None:
                wire.mark_applied()
                flash.apply(filled, poly_settings(data), is_overwriting=True)
    for name in ("-phone.cfg", "-web.cfg"):
        data = await wire.get(mac + name)
        if data is not None:
            wire.mark_applied()
            flash.apply(mac + name, poly_settings(data), is_overwriting=True)
    for name in ("-license.cfg", "-directory.xml"):
        if await wire.get(mac + name) is None:
            await wire.get("000000000000" + name)
    for name in ("-boot.log", "-app.log"):
        await wire.put(mac + name, _LOG_TEXT)


def poly_settings(data: bytes) -> dict[str, str]:
    """An XML file as the phone reads it: every attribute of every element is a setting. Broken XML holds none."""
    found: dict[str, str] = {}
    try:
        root = ET.fromstring(data)  # noqa: S314  # see the import
    except ET.ParseError:
        return found
    for element in root.iter():
        found.update(element.attrib)
    return found


def _poly_lines(settings: Mapping[str, str]) -> list[LineResult]:
    lines = []
    for number in range(1, 49):
        n = f"reg.{number}."
        if not settings.get(f"{n}address"):
            continue
        transport = settings.get(f"{n}server.1.transport", "")
        lines.append(
            LineResult(
                key=number,
                sip_user=settings[f"{n}address"],
                auth_user=settings.get(f"{n}auth.userId", ""),
                secret=settings.get(f"{n}auth.password", ""),
                registrar=place(settings, f"{n}server.1."),
                transport={"UDPOnly": "udp", "TCPOnly": "tcp", "TLS": "tls"}.get(transport, ""),
                display_name=settings.get(f"{n}displayName", ""),
                label=settings.get(f"{n}label", ""),
                outbound_proxy=place(settings, f"{n}outboundProxy."),
            )
        )
    return lines


def _poly_admin_password(settings: Mapping[str, str]) -> str | None:
    is_set = settings.get("device.set") == "1" and settings.get("device.auth.localAdminPassword.set") == "1"
    return settings.get("device.auth.localAdminPassword") if is_set else None


# --- What the phone ended up with -----------------------------------------------------------------------------------


FAMILIES: Mapping[str, Family] = {
    "yealink": Family(
        _yealink_agent, _boot_yealink, _yealink_lines, _yealink_admin_password,
        named("static.auto_provision.server.url"),
    ),
    "poly": Family(_poly_agent, _boot_poly, _poly_lines, _poly_admin_password, named("device.prov.serverName")),
    **boots.FAMILIES,
    **boots_plain.FAMILIES,
    **boots_late.FAMILIES,
}  # fmt: skip


def _result(
    profile: Profile,
    model: Model,
    mac: Mac,
    files: Sequence[FileResult],
    settings: Mapping[str, str],
    numbers: tuple[str, ...],
    held: Collection[str],
) -> BootResult:
    """`held`: the files whose settings it had from the boot before."""
    family = FAMILIES[profile.name]
    lines = tuple(family.lines(settings))
    auto_dial = auto_dialled(profile, settings, numbers)
    dials = {number: _dialled(profile, settings, number) for number in numbers}
    if auto_dial and dialled_user(auto_dial) not in numbers:
        dials = dict.fromkeys(numbers, Completion.NEVER.value)
    refused = None if lines else _refused(files, mac)
    if refused is not None or not (lines or settings):
        dials = dict.fromkeys(numbers, NOT_KNOWN)
    return BootResult(
        vendor=profile.name,
        model=model.name,
        mac=mac,
        files=tuple(files),
        lines=lines,
        admin_password=family.admin_password(settings),
        provisioning_url=family.next_url(settings),
        dials=dials,
        fault=_unproven(profile, files) or _fault(files, lines, dials, auto_dial, refused) or _left_behind(files, held),
        settings=dict(settings),
        auto_dial=auto_dial,
    )


def auto_dialled(profile: Profile, settings: Mapping[str, str], numbers: tuple[str, ...]) -> str:
    """What a lifted handset calls by itself (hotline, off-hook auto dial): one that is no emergency number before any
    other; "": the caller dials. A switch beside it that is off takes it back.
    """
    names = profile.names
    switches = [
        value.casefold() in {"1", "yes", "on", "true", "enabled"}
        for name, value in settings.items()
        if names[name].watched is Watched.AUTO_DIAL_TERMS and "enable" in name.casefold()
    ]
    if switches and not any(switches):
        return ""
    called = [value for name, value in settings.items() if names[name].watched is Watched.AUTO_DIAL and value]
    return min(called, key=lambda number: dialled_user(number) in numbers, default="")


def _dialled(profile: Profile, settings: Mapping[str, str], number: str) -> str:
    """The worst that any plan on the phone does to the number: a caller cannot choose the plan."""
    found = dialplan.verdicts(profile.dial_plan, settings, number)
    return min((verdict.completion for verdict in found.values()), key=_WORST.index, default=Completion.NEVER).value


def _refused(files: Sequence[FileResult], mac: Mac) -> FileResult | None:
    """The phone's own file where the server had none for it; shared files may have come all the same."""
    own = [one for one in files if one.method == "GET" and mac in re.sub("[^0-9a-z]", "", one.name.lower())]
    return None if any(one.status in {200, 304} for one in own) else next((one for one in own if one.status), None)


def _unproven(profile: Profile, files: Sequence[FileResult]) -> str | None:
    """The server wanted a password for a file and got none it takes: the phone goes without it."""
    last = {one.name: one.status for one in files if one.method == "GET"}
    wanting = next((name for name, status in last.items() if status == 401), None)
    if wanting is None:
        return None
    told = f"{wanting}: the server asks for a user and a password (status 401) and got none that it takes"
    spoken = challenged.spoken(profile.name)
    if not spoken:
        return f"{told}; no answer of these phones to such a question is known"
    return f"{told}; these phones answer {spoken}; put both into the URL, as in https://user:password@host/"


def _fault(
    files: Sequence[FileResult],
    lines: tuple[LineResult, ...],
    dials: Mapping[str, str],
    auto_dial: str,
    refused: FileResult | None,
) -> str | None:
    if all(one.status == 0 for one in files):
        return next((one.trouble for one in files if one.trouble), "the server does not answer")
    if not any(one.status == 200 for one in files if one.method == "GET"):
        status = next(one.status for one in files if one.status)
        return f"no file was served (status {status}): token, MAC address or vendor are not those of a phone here"
    if refused is not None:
        return (
            f"its own file was refused (status {refused.status}): check that the URL has the current token and that a "
            "phone of this MAC address, vendor and model is kept here"
        )
    if (unregistered := _unregistered(lines)) is not None:
        return unregistered
    if auto_dial and dialled_user(auto_dial) not in dials:
        return (
            f"a lifted handset calls {auto_dial} by itself, so nobody can dial {' or '.join(dials)} on this phone; "
            "take its hotline or off-hook auto dial out"
        )
    waiting = [
        f"{number} {completion.replace('_', ' ')}" for number, completion in dials.items() if completion != "immediate"
    ]
    return f"emergency numbers are held up: {', '.join(waiting)}" if waiting else None


def _left_behind(files: Sequence[FileResult], held: Collection[str]) -> str | None:
    """A file that the phone had before and was not served this time: a rotation, or a server that went away, in the
    middle of a boot. It calls as before and knows nothing of what was changed since.
    """
    last = {one.name: one.status for one in files if one.method == "GET"}
    missing = next((name for name, status in last.items() if name in held and status not in {200, 304}), None)
    if missing is None:
        return None
    came = f"status {last[missing]}" if last[missing] else "no answer"
    return f"{missing} was not served this time ({came}): the phone goes on with what it fetched before"


def _unregistered(lines: tuple[LineResult, ...]) -> str | None:
    """Why a line of the phone reaches no PBX, and with it no emergency service."""
    if not lines:
        return "no line is set on the phone"
    homeless = [line.sip_user or line.label for line in lines if line.registrar.partition(":")[0] == ""]
    if not homeless:
        return None
    named = " and ".join(homeless)
    return (
        f"line {named} registers nowhere: its PBX has no registrar host"
        if len(homeless) == 1
        else f"lines {named} register nowhere: their PBX has no registrar host"
    )
