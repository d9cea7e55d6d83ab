"""How this installation's own command is typed where it was started, for the commands that pages and mails print."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

STARTED_AS = "CALLPOINT_STARTED_AS"  # `run.py` says so: it replaced itself by this process


def own_command(
    words: str,
    *,
    account: str = "",
    takes_config: bool = True,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """`.venv/bin/callpoint doctor --config /etc/callpoint.toml`: as it is typed in the folder that this was started in.

    Args:
        words: The command and its own words, already quoted where they need it.
        account: The account's id, for commands that ask which where there are several.
        takes_config: Whether the command reads the configuration.
        argv, environ, folder: Of this process, unless handed over.
    """
    argv = sys.argv if argv is None else argv
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    config = _config(argv) or environ.get("CALLPOINT_CONFIG", "")
    more = f" --account {shlex.quote(account)}" if account else ""
    more += f" --config {shlex.quote(config)}" if config and takes_config else ""
    return f"{environ.get(STARTED_AS) or _program(argv[0], folder)} {words}{more}"


def _program(started: str, folder: Path) -> str:
    """The command beside this interpreter: by its path from the folder, or its whole path when it lies elsewhere."""
    beside = Path(started) if Path(started).name == "callpoint" else Path(sys.executable).parent / "callpoint"
    path = beside if beside.is_absolute() else folder / beside
    return shlex.quote(str(path.relative_to(folder) if path.is_relative_to(folder) else path))


def _config(argv: Sequence[str]) -> str:
    for at, word in enumerate(argv):
        if word == "--config":
            return argv[at + 1] if at + 1 < len(argv) else ""
        if word.startswith("--config="):
            return word.partition("=")[2]
    return ""
