"""How a network's DHCP server tells phones where to boot: options for each family, written for each server (pure).

Theory of operation. `templates/snippets/dhcp.toml` says which options a family reads. A family is recognised by its
blocks of MAC addresses and by the beginning of the vendor class its phones send, never by nothing: option 66 handed to
every client would send the office's computers looking for a boot file. Values are bounded by what an option holds
(255 bytes, RFC 2132 §2) and made of characters that no server's configuration reads as its own.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.errors import Invalid
from engine.provisioning.vendors import Profile

_ENGINE = Path(__file__).parent.parent
FOLDERS = (_ENGINE / "_templates" / "snippets", _ENGINE.parent / "templates" / "snippets")
MAX_OPTION_BYTES = 255
ENCAPSULATED = 43
# what is asked for -> (file to write, template, name for people)
SERVERS: Mapping[str, tuple[str, str, str]] = {
    "dnsmasq": ("callpoint.conf", "dnsmasq.conf.j2", "dnsmasq"),
    "kea": ("callpoint.json", "kea.json.j2", "Kea"),
    "isc": ("callpoint.conf", "isc.conf.j2", "ISC dhcpd"),
    "mikrotik": ("callpoint.rsc", "mikrotik.rsc.j2", "MikroTik RouterOS"),
    "windows": ("callpoint.ps1", "windows.ps1.j2", "Windows Server"),
}
_ADDRESSES = frozenset({150})  # IPv4 addresses instead of a text (RFC 5859)
_URL = re.compile(
    r"https?://(?P<place>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?/[A-Za-z0-9._~/-]{1,150}/"
)
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_NEEDED = re.compile(r"\{tftp\}")


@dataclass(frozen=True, slots=True)
class Option:
    """One option as it goes over the wire. `text`: its value, "" for an encapsulated one; `data`: its bytes."""

    code: int
    text: str
    data: bytes

    @property
    def is_address(self) -> bool:
        return self.code in _ADDRESSES

    @property
    def is_encapsulated(self) -> bool:
        return self.code == ENCAPSULATED

    @property
    def hex(self) -> str:
        return self.data.hex()

    @property
    def colons(self) -> str:
        return self.data.hex(":")


@dataclass(frozen=True, slots=True)
class Family:
    """The clients of one vendor. `ouis`: six hexadecimal digits each; `classes`: how option 60 begins."""

    name: str
    title: str
    ouis: tuple[str, ...]
    classes: tuple[str, ...]
    options: tuple[Option, ...]


def snippet(server: str, url: str, profiles: Iterable[Profile], *, tftp: str = "") -> dict[str, str]:
    """The file for that server, name -> text; it holds the provisioning URL, token and all.

    Args:
        server: One of `SERVERS`.
        url: The provisioning URL, with a slash at its end.
        profiles: The families phones may be of.
        tftp: The IPv4 address of the TFTP bootstrap; empty: there is none.

    Raises:
        Invalid: no such server, a URL that a phone or a server would misread, or one too long for an option.
    """
    if server not in SERVERS:
        raise Invalid(f"There is no DHCP snippet {server}. Snippets: {', '.join(SERVERS)}.")
    file, template, _ = SERVERS[server]
    families = families_of(url, profiles, tftp=tftp)
    text = _environment().get_template(template).render(families=families, codes=_codes(families), tftp=tftp)
    return {file: text}


def families_of(url: str, profiles: Iterable[Profile], *, tftp: str = "") -> tuple[Family, ...]:
    """Each family with its options filled in, for those of which it is known what they read. Raises as `snippet`."""
    values = _values(url, tftp)
    known = _known()
    found = []
    for profile in sorted(profiles, key=lambda one: one.title.lower()):
        wanted = known.get(profile.name)
        if wanted is not None:
            options = _options(wanted["options"], values, has_tftp=bool(tftp))
            found.append(
                Family(profile.name, profile.title, tuple(sorted(profile.ouis)), tuple(wanted["class"]), options)
            )
    return tuple(found)


def encapsulate(fields: Iterable[tuple[int, bytes]]) -> bytes:
    """Sub-options as one option's value: code, length, value of each (RFC 2132 §8.4).

    Raises:
        Invalid: together they are longer than an option holds.
    """
    return _fits(b"".join(bytes((code, len(_fits(value)))) + value for code, value in fields))


def checked(url: str) -> str:
    """The provisioning URL, when nothing in it means anything to a phone or to a server but a URL.

    Raises:
        Invalid: it holds other characters, or no slash at its end.
    """
    if _URL.fullmatch(url) is None:
        raise Invalid(
            "The provisioning URL holds characters that a phone or a DHCP server could misread. Expected http or https,"
            " a host name or address, a port, and a path of letters and digits: correct [provisioning] public_url."
        )
    return url


def _values(url: str, tftp: str) -> dict[str, str]:
    checked(url)
    if tftp and (_ADDRESS.fullmatch(tftp) is None or any(int(part) > 255 for part in tftp.split("."))):
        raise Invalid(f"Option 150 holds an IPv4 address of the TFTP bootstrap, got {tftp!r}.")
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    server, name = ("TLS", "TLSSRVR") if parts.scheme == "https" else ("HTTP", "HTTPSRVR")
    path = parts.path.strip("/")
    return {
        "url": url,
        "bare": url.rstrip("/"),
        "base": f"{parts.scheme}://{parts.netloc}",
        "path": path + "/",
        "host": parts.hostname or "",
        "port": str(port),
        "tftp": tftp,
        "avaya": f"{name}={parts.hostname},{server}PORT={port},{server}DIR=/{path}",
    }


def _options(wanted: Mapping[str, Any], values: Mapping[str, str], *, has_tftp: bool) -> tuple[Option, ...]:
    found = []
    for code, value in sorted(((int(code), value) for code, value in wanted.items()), key=lambda each: each[0]):
        if isinstance(value, str):
            if _NEEDED.search(value) and not has_tftp:
                continue
            text = value.format_map(values)
            data = bytes(int(part) for part in text.split(".")) if code in _ADDRESSES else text.encode("ascii")
            found.append(Option(code, text, _fits(data)))
        else:
            fields = ((int(sub), inner.format_map(values).encode("ascii")) for sub, inner in value.items())
            found.append(Option(code, "", encapsulate(fields)))
    return tuple(found)


def _fits(data: bytes) -> bytes:
    if len(data) > MAX_OPTION_BYTES:
        raise Invalid(
            f"The provisioning URL is too long: a DHCP option holds {MAX_OPTION_BYTES} bytes, this one needs "
            f"{len(data)}. Give [provisioning] public_url a shorter name."
        )
    return data


def _codes(families: Iterable[Family]) -> tuple[int, ...]:
    return tuple(sorted({option.code for family in families for option in family.options}))


@cache
def _known() -> Mapping[str, Any]:
    folder = next((candidate for candidate in FOLDERS if candidate.is_dir()), FOLDERS[-1])
    return tomllib.loads((folder / "dhcp.toml").read_text())


@cache
def _environment() -> Environment:
    templates = Environment(  # noqa: S701 - configuration files, no HTML; every value was checked when it was read
        loader=FileSystemLoader([folder for folder in FOLDERS if folder.is_dir()]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"routeros": _routeros, "powershell": _powershell, "kea": _kea, "pairs": _pairs}
    return templates


def _pairs(digits: str, separator: str = ":") -> str:
    """`001565` as `00:15:65`."""
    return separator.join(digits[at : at + 2] for at in range(0, len(digits), 2))


def _routeros(text: str) -> str:
    """Inside a RouterOS string `$` begins a variable and a backslash an escape; `s'…'` makes it a text."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")


def _powershell(text: str) -> str:
    """A PowerShell literal: nothing in it means anything but a quote, which is written twice."""
    return "'" + text.replace("'", "''") + "'"


def _kea(text: str) -> str:
    """Kea splits an option's data at commas, unless a backslash stands before, which JSON wants written twice."""
    return text.replace(",", "\\\\,")
