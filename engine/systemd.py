"""Callpoint as a service of systemd: the units that `callpoint snippet systemd` writes, and the word that a node is up.

The unit says `Type=notify`: whoever starts it waits until 911 is carried. It ends nothing but the main process: a SIP
process whose main process died goes on until the next one takes over, which an ordinary unit would prevent.
"""

import os
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.engine import make_url

from engine.config import Config, parse_listens
from engine.db import sqlite_path_of
from engine.own_command import STARTED_AS
from engine.snippets import FOLDERS

INTO = "/etc/systemd/system"
USER = "callpoint"
BACKUPS = "/var/backups/callpoint"
UNITS = (
    "callpoint.service", "callpoint-doctor.service", "callpoint-doctor.timer", "callpoint-backup.service",
    "callpoint-backup.timer",
)  # fmt: skip
LOW_PORTS = 1024
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  # what PrivateTmp hides
_NOT_HANDED_ON = frozenset({"CALLPOINT_CONFIG", STARTED_AS, "CALLPOINT_CASES"})


def tell(word: str, environ: Mapping[str, str] = os.environ) -> None:
    """Tell systemd `READY=1` or `STOPPING=1`, where it started us and asked for it (sd_notify(3))."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(word.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError:  # nobody listens: the node is up all the same
        return


def units(
    config: Config, config_file: Path | None, *, program: Path, folder: Path, environ: Mapping[str, str]
) -> dict[str, str]:
    """The units of this installation: file -> text.

    Args:
        program: The `callpoint` command. folder: Where it was started.
        environ: Its variables that name settings stand in the units; passwords do not.
    """
    data_dir, key_file = config.core.data_dir.absolute(), config.key_file.absolute()
    database = sqlite_path_of(config.database_url)
    written = {data_dir, *([key_file.parent] if key_file.parent != data_dir else [])}
    written |= {database.absolute().parent} if database is not None else set()
    templates = Environment(  # noqa: S701  # units, no HTML
        loader=FileSystemLoader(next((one for one in FOLDERS if one.is_dir()), FOLDERS[-1])),
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    values = {
        "into": INTO,
        "user": USER,
        "folder": _escaped(str(folder)),
        "command": _word(str(program)),
        "arguments": f" --config {_word(str(config_file.absolute()))}" if config_file else "",
        "environment": [_word(f"{name}={value}") for name, value in sorted(environ.items()) if _is_setting(name)],
        "made": [shlex.quote(str(path)) for path in sorted(written)],
        "documentation": FOLDERS[-1].parent.parent / "docs" / "operations.md",
        "is_server": database is None,
        "database": make_url(config.database_url).database or "callpoint",
        "low_ports": ", ".join(_low_ports(config)),
        "is_in_home": _is_below(_HOMES, folder, program, *written),
        "is_in_tmp": _is_below(TEMPORARY, folder, program, *written),
        "written": [_word(str(path)) for path in sorted(written)],
        "backups": BACKUPS,
    }
    return {name: templates.get_template(f"{name}.j2").render(values) for name in UNITS}


def _is_below(folders: tuple[Path, ...], *paths: Path) -> bool:
    return any(path.is_relative_to(folder) for path in paths for folder in folders)


def _is_setting(name: str) -> bool:
    is_secret = "PASSWORD" in name and not name.endswith("_FILE")
    is_secret |= name.endswith("DATABASE_URL")  # the database's password stands in it
    return name.startswith("CALLPOINT_") and name not in _NOT_HANDED_ON and not is_secret


def _low_ports(config: Config) -> list[str]:
    named = (
        config.provisioning.listen, config.admin.listen, config.bootstrap.tftp, config.bootstrap.http,
        config.sip.udp, config.sip.tcp, config.sip.tls,
    )  # fmt: skip
    return [str(listen) for text in named for listen in parse_listens(text) if 0 < listen.port < LOW_PORTS]


def _escaped(text: str) -> str:
    """For a unit's value that is not split into words: `%` begins a specifier (systemd.unit(5))."""
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """For a unit's list of words (systemd.service(5), systemd.syntax(7)): quoted where it needs it."""
    text = _escaped(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"' if any(letter in text for letter in " \t'\"\\;") else text
