"""The configuration: a TOML file, every key also as `CALLPOINT_<SECTION>__<KEY>`; all faults reported at once.

Secrets may come from files: `CALLPOINT_MAIL__PASSWORD_FILE=/run/secrets/mail` sets `[mail] password` to that file's
text. Units stand in the names (`_s` seconds). Every key has a usable default, so an empty file starts a node.
"""

import ipaddress
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from engine.errors import ConfigFault

ENV_PREFIX = "CALLPOINT_"
_SECRETS_IN_FILES = ("__PASSWORD_FILE", "__DATABASE_URL_FILE")  # a database's password stands in its URL
_SERVER = re.compile(r"([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(:\d{1,5})?")
_HOST_PORT = re.compile(r"^(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})$")


_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # reads, binds nothing


@dataclass(frozen=True, slots=True)
class Listen:
    """A `host:port` to listen on; `host` without the brackets of an IPv6 literal."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def from_here(self) -> "Listen":
        """Where this machine reaches it: a wildcard is the loopback, all else is itself."""
        return Listen(_LOOPBACK_OF.get(self.host, self.host), self.port)


def is_this_machine(host: str) -> bool:
    """Whether that name or address leads nobody but this machine here."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_listen(text: str) -> Listen:
    """Read `host:port` (`0.0.0.0:5060`, `[::]:5060`). Port 0 asks the kernel for a free one.

    Raises:
        ValueError: expected and got, in words.
    """
    match = _HOST_PORT.match(text)
    if match is None or int(match["port"]) > 65_535:
        raise ValueError(f"expected host:port such as 0.0.0.0:5060, got {text!r}")
    return Listen(match["host"].strip("[]"), int(match["port"]))


def parse_listens(text: str) -> tuple[Listen, ...]:
    """Read addresses with commas between, at most one of each family: `192.0.2.1:5060, [2001:db8::1]:5060`.

    Raises:
        ValueError: expected and got, in words.
    """
    found = tuple(parse_listen(each.strip()) for each in text.split(",") if each.strip())
    if len({":" in listen.host for listen in found}) < len(found):
        raise ValueError(f"expected at most one IPv4 and one IPv6 address, got {text!r}")
    return found


def _listens(value: str) -> str:
    parse_listen(value)
    return value


def _listens_or_nothing(value: str) -> str:
    return _listens(value) if value else value


def _both_listens(value: str) -> str:
    parse_listens(value)
    return value


def _is_server(text: str) -> bool:
    """`host` or `host:port`, an IPv6 address in brackets."""
    found = _SERVER.fullmatch(text.lower())
    return found is not None and (found[2] is None or 0 < int(found[2][1:]) <= 65_535)


def _location_host(value: str) -> str:
    if not _is_server(value):
        raise ValueError(f"expected host or host:port such as lis.example.com, got {value!r}")
    return value.lower()


def _advertised(value: str) -> str:
    """The SIP process does not start with what it cannot read here, and whatever stands here goes into every Via."""
    parts = [part.strip() for part in value.split(",") if part.strip()]
    for each in parts if parts or not value else [value]:
        if not (_is_server(each) or _is_ipv6(each)):
            raise ValueError(f"expected host or host:port such as 192.0.2.1 or [2001:db8::1]:5060, got {each!r}")
    return value


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _web_address(value: str, what: str = "a URL such as https://callpoint.example.com") -> str:
    """A URL that others can be told or that is asked: whole, and with a port that is one."""
    try:
        parts = urlsplit(value)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if value and not (is_good and value.isascii() and value.isprintable() and " " not in value):
        raise ValueError(f"expected {what}, got {value!r}")
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Core(_Section):
    data_dir: Path = Path("./data")
    database_url: str = ""
    key_file: Path | None = None


class Provisioning(_Section):
    listen: str = "0.0.0.0:8080"  # phones must reach it: not loopback
    public_url: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    client_cert_header: Literal["", "Client-Cert", "X-Client-Cert"] = ""  # in which a trusted proxy hands one on
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    workers: int = Field(default=1, ge=1, le=64)
    _check = field_validator("listen")(_listens)
    _check_url = field_validator("public_url")(_web_address)

    @property
    def sees_certificates(self) -> bool:
        """Whether phones' certificates reach the engine: over its own TLS, or through a proxy that hands them on."""
        is_handed_on = bool(self.trusted_proxies and self.client_cert_header)
        return self.client_ca is not None and (self.tls_cert is not None or is_handed_on)


class Bootstrap(_Section):
    tftp: str = ""  # where phones without a URL ask over TFTP; empty: nowhere
    http: str = ""
    _check = field_validator("tftp", "http")(_listens_or_nothing)


class Admin(_Section):
    listen: str = "127.0.0.1:8081"
    public_url: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    _check = field_validator("listen")(_listens)
    _check_url = field_validator("public_url")(_web_address)


class Sip(_Section):
    udp: str = "0.0.0.0:5060"  # PBXs must reach it
    tcp: str = "0.0.0.0:5060"
    tls: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    tls_ca: Path | None = None
    advertise: str = ""
    workers: int = Field(default=1, ge=1, le=16)
    first_response_s: float = Field(default=2.0, ge=0.1, le=32)
    connect_s: float = Field(default=1.0, ge=0.1, le=32)
    location_hosts: tuple[Annotated[str, AfterValidator(_location_host)], ...] = ()
    _check = field_validator("udp", "tcp", "tls")(_both_listens)
    _check_advertise = field_validator("advertise")(_advertised)


class E911(_Section):
    lost_url: str = ""  # asks who validates addresses; no 911 call depends on it
    silent_node_s: float = Field(default=3_600.0, ge=1, le=86_400)  # then another node closes its calls
    sweep_pace_s: float = Field(default=10.0, ge=0.1, le=3_600.0)  # between two test calls to carriers' read-back lines

    @field_validator("lost_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        return _web_address(value, "the URL of a LoST server such as https://lost.example.com/lost")


class Outbound(_Section):
    # reachable by webhooks and validators set in the pages though they are not public
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()


class Storage(_Section):
    low_below_bytes: int = Field(default=1 << 30, ge=0)  # free space in data_dir: somebody is told
    critical_below_bytes: int = Field(default=256 << 20, ge=0)  # what can be spared is
    platform_audit_days: int = Field(default=0, ge=0, le=36_500)  # of requests of nobody known

    @field_validator("platform_audit_days")
    @classmethod
    def _check_days(cls, value: int) -> int:
        if 0 < value < 365:
            raise ValueError(f"expected 0 (for ever) or at least 365 days, as PCI DSS 10.5.1 has it, got {value}")
        return value


class Mail(_Section):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    host: str = ""
    port: int = Field(default=587, ge=1, le=65_535)
    username: str = ""
    password: str = Field(default="", repr=False)
    security: Literal["starttls", "tls", "none"] = "starttls"
    sender: str = Field(default="callpoint@localhost", alias="from")


class Log(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Config(BaseSettings):
    """All of it. Build with `load`; `database_url` and `key_file` are filled from `data_dir` when empty."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)
    core: Core = Core()
    provisioning: Provisioning = Provisioning()
    bootstrap: Bootstrap = Bootstrap()
    admin: Admin = Admin()
    sip: Sip = Sip()
    e911: E911 = E911()
    outbound: Outbound = Outbound()
    storage: Storage = Storage()
    mail: Mail = Mail()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # pydantic-settings' own signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # `load` hands over file and environment, joined

    @property
    def database_url(self) -> str:
        return self.core.database_url or f"sqlite+aiosqlite:///{self.core.data_dir.absolute()}/callpoint.db"

    @property
    def key_file(self) -> Path:
        return self.core.key_file or self.core.data_dir / "keys.toml"


class _Environment(EnvSettingsSource):
    """pydantic-settings' reading of variables, over a mapping that is handed over."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {name.lower(): value for name, value in environ.items()}
        super().__init__(Config)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._environ


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the file (when one is named) and the environment.

    Raises:
        ConfigFault: every fault of file and environment at once, each with its line and what to write instead.
    """
    environ = os.environ if environ is None else environ
    text, faults = "", list[str]()
    data: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text()
            data = tomllib.loads(text)
        except (OSError, UnicodeDecodeError) as exc:
            why = getattr(exc, "strerror", None) or exc
            raise ConfigFault((f"{path}: cannot be read ({why}). Name a readable file with --config.",)) from exc
        except tomllib.TOMLDecodeError as exc:
            raise ConfigFault((f"{path}: not TOML: {exc}. Nothing of it was used.",)) from exc
    environ, secret_faults = _with_secret_files(environ)
    faults += _unknown_environment(environ) + secret_faults
    for section, keys in _Environment(_with_lists(environ))().items():
        data[section] = {**data.get(section, {}), **keys}  # the environment wins over the file
    try:
        config = Config(**data)
    except ValidationError as exc:
        faults += [_in_words(error, path, text) for error in exc.errors()]
        raise ConfigFault(tuple(faults)) from exc
    faults += _joint_faults(config)
    if faults:
        raise ConfigFault(tuple(faults))
    return config


def _variables() -> dict[str, bool]:
    """The variable of every key, and whether it holds a list."""
    return {
        f"{ENV_PREFIX}{section}__{field.alias or key}".upper(): get_origin(field.annotation) is tuple
        for section, section_field in Config.model_fields.items()
        for key, field in section_field.annotation.model_fields.items()  # type: ignore[union-attr]
    }


def _with_lists(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are keys; a list may be written with commas between as well as in JSON."""
    known = _variables()
    read = {name: value for name, value in environ.items() if name.upper() in known}
    for name, value in read.items():
        if known[name.upper()] and not value.lstrip().startswith("["):
            read[name] = json.dumps([each.strip() for each in value.split(",") if each.strip()])
        elif known[name.upper()] and not _is_json(value):
            read[name] = json.dumps([value])  # its own check says what was expected
    return read


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _unknown_environment(environ: Mapping[str, str]) -> list[str]:
    """A misspelt variable is a fault, not silence: its writer believes that it is set."""
    known = _variables().keys() | {"CALLPOINT_CASES", "CALLPOINT_CONFIG", "CALLPOINT_NATIVE", "CALLPOINT_STARTED_AS"}
    return [
        f"environment {name}: no such key. Keys are CALLPOINT_<SECTION>__<KEY>, such as CALLPOINT_SIP__UDP."
        for name in environ
        if name.startswith(ENV_PREFIX) and name.upper() not in known
    ]


def _with_secret_files(environ: Mapping[str, str]) -> tuple[Mapping[str, str], list[str]]:
    """Variables ending in `_FILE` replaced by what their files hold."""
    read, faults = dict(environ), list[str]()
    for name in environ:
        if name.upper().startswith(ENV_PREFIX) and name.upper().endswith(_SECRETS_IN_FILES):
            try:
                read[name.removesuffix("_FILE")] = Path(read.pop(name)).read_text().strip()
            except OSError as exc:
                faults.append(f"environment {name}: the file cannot be read ({exc.strerror}). Name a readable file.")
    return read, faults


def _in_words(error: Any, path: Path | None, text: str) -> str:
    where = ".".join(str(part) for part in error["loc"])
    line = _line_of(text, [str(part) for part in error["loc"]])
    place = (
        f"{path}, line {line}"
        if line
        else (f"{ENV_PREFIX}{where.replace('.', '__').upper()}" if path is None else str(path))
    )
    got = "" if error["type"] == "extra_forbidden" else f", got {error['input']!r}"
    if "password" in where:
        got = ""
    said = {
        "extra_forbidden": "no such key. Remove it or correct its name",
        "value_error": str(error.get("ctx", {}).get("error", error["msg"])),
    }.get(error["type"], error["msg"])
    return f"{place}: {where}: {said}{got if error['type'] != 'value_error' else ''}."


def _line_of(text: str, loc: list[str]) -> int | None:
    """The line in the file where that key stands; the section's own line when the key is not written out."""
    section_line = None
    in_section = False
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            in_section = stripped.strip("[] ") == loc[0]
            section_line = number if in_section else section_line
        elif re.match(rf"{re.escape(loc[1] if in_section and len(loc) > 1 else loc[0])}\s*=", stripped):
            return number
    return section_line


def _client_ca_faults(section: Provisioning) -> list[str]:
    """Why phones' certificates could not be held against anything, or never arrive."""
    if section.client_cert_header and (section.client_ca is None or not section.trusted_proxies):
        told = "a certificate is believed from a trusted proxy alone, and held against client_ca. Set both"
        return [f"[provisioning] client_cert_header: {told}, or leave the key out."]
    if section.client_ca is None:
        return []
    told = f"{section.client_ca} is not there. Name a PEM file of the phone makers' authorities or a folder of them"
    if section.client_ca.exists() and section.sees_certificates:
        return []
    if section.client_ca.exists():
        told = (
            "phones show certificates over TLS alone. Set tls_cert and tls_key; or, behind a proxy, trusted_proxies "
            "and client_cert_header, the one header in which the proxy hands them on and which it overwrites"
        )
    return [f"[provisioning] client_ca: {told}, or leave the key out."]


def _joint_faults(config: Config) -> list[str]:
    """Faults that only two keys together show."""
    faults = []
    for name, section in (("provisioning", config.provisioning), ("admin", config.admin), ("sip", config.sip)):
        if (section.tls_cert is None) != (section.tls_key is None):
            faults.append(f"[{name}] tls_cert and tls_key go together: set both or neither.")
        for key in ("tls_cert", "tls_key"):
            file = getattr(section, key)
            if file is not None and not file.is_file():
                faults.append(f"[{name}] {key}: {file} is no file. Name the PEM file or leave the key out.")
    for key in ("client_ca", "tls_ca"):
        file = getattr(config.sip, key)
        if file is not None and not file.is_file():
            faults.append(f"[sip] {key}: {file} is no file. Name a PEM file of certificates or leave the key out.")
    faults += _client_ca_faults(config.provisioning)
    if config.sip.tls and config.sip.tls_cert is None and config.sip.tls_key is None:
        faults.append(
            "[sip] tls: SIP over TLS needs tls_cert and tls_key; none is made up, since no peer could trust it. "
            "Name them, or leave tls empty: UDP and TCP are served without."
        )
    if config.storage.critical_below_bytes > config.storage.low_below_bytes:
        faults.append("[storage] critical_below_bytes is more than low_below_bytes: a disk gets low before it is full.")
    if not (config.sip.udp or config.sip.tcp or config.sip.tls):
        faults.append("[sip] udp, tcp and tls are all empty: no PBX could reach 911. Set at least one.")
    if not config.database_url.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
        faults.append(
            "[core] database_url: expected sqlite+aiosqlite:///FILE or postgresql+asyncpg://…, "
            f"got {config.database_url.split(':')[0]!r}."
        )
    return faults
