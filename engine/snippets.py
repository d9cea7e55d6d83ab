"""`callpoint snippet`: what a PBX or proxy in front must be told, with the site's own addresses filled in. Pure.

A snippet is one or more files, `templates/snippets/<name>…j2`. Each sends emergency dials to the nodes first and to the
carrier when no node takes them: Callpoint being away must never end a 911 call.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.errors import Invalid
from engine.numbers import NumberPack
from engine.sip.uri import bracketed, transport_parameter

_ENGINE = Path(__file__).parent
# beside the package in a checkout, inside it when installed
FOLDERS = (_ENGINE / "_templates" / "snippets", _ENGINE.parent / "templates" / "snippets")
SET_ID = 911
# FreeSWITCH has no word for "100 was said": a node may pass over two silent trunks, and the third sets the call up
PROGRESS_S = 10
SILENCE_MS = 800  # a node says 100 within milliseconds; two silent ones cost the caller less than two seconds
# where to look for what each front reads: (file to write, template)
FILES: dict[str, tuple[tuple[str, str], ...]] = {
    "kamailio": (("callpoint.cfg", "kamailio.cfg.j2"), ("callpoint.list", "kamailio.list.j2")),
    "asterisk": (
        ("pjsip_callpoint.conf", "asterisk.pjsip.j2"),
        ("extensions_callpoint.conf", "asterisk.extensions.j2"),
    ),
    "freepbx": (("freepbx.txt", "freepbx.txt.j2"), ("extensions_custom.conf", "freepbx.extensions.j2")),
    "freeswitch": (
        ("callpoint_gateways.xml", "freeswitch.gateways.j2"),
        ("00_callpoint.xml", "freeswitch.dialplan.j2"),
    ),
    "3cx": (("3cx.txt", "3cx.txt.j2"),),
}
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
_TRANSPORTS = ("udp", "tcp", "tls")


@dataclass(frozen=True, slots=True)
class Peer:
    """A node or a carrier as the front reaches it. `host`: a name or address, IPv6 in brackets."""

    host: str
    port: int
    transport: str = "udp"

    @classmethod
    def of(cls, text: str) -> "Peer":
        """Read `HOST`, `HOST:PORT` or `HOST:PORT/tcp`.

        Raises:
            Invalid: it is none of them; nothing a configuration file could misread gets through.
        """
        address, _, transport = text.strip().partition("/")
        host, colon, port = address.rpartition(":")
        if not colon or (":" in host and not host.startswith("[")):
            host, port = address, ""
        host = host if host.startswith("[") else bracketed(host)
        transport = transport.lower() or "udp"
        number = int(port) if port.isascii() and port.isdigit() else 5061 if transport == "tls" else 5060
        is_port = not port or (port.isascii() and port.isdigit() and 0 < number < 65_536)
        if not _HOST.fullmatch(host) or not is_port or transport not in _TRANSPORTS:
            raise Invalid(f"An address such as 192.0.2.10:5060 or sip.example.com:5061/tls was expected, got {text!r}.")
        return cls(host, number, transport)

    @property
    def host_port(self) -> str:
        """Port 0 stands for what SRV records say, which are asked where no port is given (RFC 3263 §4.2)."""
        return f"{self.host}:{self.port}" if self.port else self.host

    @property
    def uri(self) -> str:
        """As a SIP URI without a user; UDP is what is meant when nothing is said."""
        return f"sip:{self.host_port}{transport_parameter(self.transport)}"


@dataclass(frozen=True, slots=True)
class Site:
    """What a snippet is filled with.

    `nodes` and `carriers` in the order in which they are tried; `listen`: the front's own SIP address; `folder`: where
    its files will lie; `numbers`: the country's pack; `abroad`: those of other countries where there are locations;
    `phones_direct`: phones register at the front itself.
    """

    nodes: tuple[Peer, ...]
    carriers: tuple[Peer, ...]
    listen: Peer
    folder: str
    numbers: NumberPack
    whole: bool = False
    phones_direct: bool = False
    module_path: str = ""
    account: str = ""
    abroad: tuple[NumberPack, ...] = ()


def render(name: str, site: Site) -> dict[str, str]:
    """The snippet's files: name -> text.

    Raises:
        Invalid: no such snippet, or nothing to send calls to.
    """
    files = FILES.get(name)
    if files is None:
        raise Invalid(f"There is no snippet {name}. Snippets: {', '.join(sorted(FILES))}.")
    if not site.nodes:
        raise Invalid("A front needs the address of a node. Set [sip] advertise, or name it with --node HOST:PORT.")
    if not site.carriers:
        raise Invalid(
            "A front needs a carrier to send 911 to when no node answers. Add a trunk, or name one with --carrier."
        )
    folder = next((candidate for candidate in FOLDERS if candidate.is_dir()), FOLDERS[-1])
    templates = Environment(  # noqa: S701 - configuration files, no HTML; every value was checked when it was read
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    values = _values(site)
    return {file: templates.get_template(template).render(values) for file, template in files}


def _values(site: Site) -> dict[str, object]:
    pack, packs = site.numbers, (site.numbers, *site.abroad)
    number_for = _numbers_for(packs)
    emergency: frozenset[str] = frozenset().union(*(each.emergency_forms | each.also_reserved for each in packs))
    forms = sorted(number_for, key=lambda form: (len(form), form))
    return {
        "nodes": site.nodes,
        "carriers": site.carriers,
        "listen": site.listen.host_port,
        "listen_host": site.listen.host,
        "folder": site.folder.rstrip("/") or "/",
        "whole": site.whole,
        "phones_direct": site.phones_direct,
        "module_path": site.module_path,
        "account": site.account,
        "set_id": SET_ID,
        "silence_ms": SILENCE_MS,
        "progress_s": PROGRESS_S,
        "forms": forms,
        "numbers": _alternatives(forms),
        "longest": max(len(form) for form in forms),
        "primary": pack.primary,
        "test_numbers": sorted(frozenset().union(*(each.test for each in packs))),
        "number_for": number_for,
        "sent_for_emergency": _sent({form: number for form, number in number_for.items() if form in emergency}),
        "sent_for_test": _sent({form: number for form, number in number_for.items() if form not in emergency}),
        "services": {urn.rpartition("sos.")[2]: number for number, urn in reversed(list(pack.services.items()))},
    }


def _numbers_for(packs: Sequence[NumberPack]) -> dict[str, str]:
    """Dialled form -> what a carrier is sent for it; where countries differ, the first one's word counts. What visitors
    dial, 112 and 911, comes to a node too, and is sent as the first country's number.
    """
    found: dict[str, str] = {}
    for pack in packs:
        for form in sorted(pack.emergency_forms | pack.test_forms):
            found.setdefault(form, pack.number_for(form))
    for pack in packs:
        for number in sorted(pack.also_reserved):
            found.setdefault(number, pack.primary)
    return found


def _sent(number_for: dict[str, str]) -> dict[str, str]:
    """What a carrier is sent -> the dialled forms that mean it. The police of a country must not be sent what is for
    its ambulance.
    """
    meant: dict[str, list[str]] = {}
    for form, number in sorted(number_for.items()):
        meant.setdefault(number, []).append(form)
    return {number: _alternatives(each) for number, each in meant.items()}


def _alternatives(forms: Iterable[str]) -> str:
    """Dialled forms as alternatives of a regular expression."""
    return "|".join(sorted((form.replace("+", "\\+") for form in forms), key=lambda form: (len(form), form)))
