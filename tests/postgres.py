"""A PostgreSQL server of the tests' own, from the programs on this machine: an empty data folder, a loopback port.

PostgreSQL refuses to run as root; then it runs as the user `postgres` or `nobody`.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

SETTINGS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=16MB")


def programs() -> Path | None:
    """The newest PostgreSQL's folder of programs, wherever Debian or the PATH has it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextlib.contextmanager
def running_postgres(
    *, connections: int = 20, kept: Path | None = None, settings: Sequence[str] = SETTINGS
) -> Iterator[str]:
    """A server with one empty database; gives its URL. Skips, and says why, where it cannot run.

    Args:
        kept: A folder that keeps the database: what was put into it is there the next time.
    """
    pytest.importorskip("asyncpg", reason="PostgreSQL's driver is absent: pip install asyncpg")
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not on this machine: apt-get install postgresql-15")
    user = _server_user()
    if user is None:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")
    with _folder(kept) as base:
        if os.geteuid() == 0:
            shutil.chown(base, user)
        data, port = Path(base) / "data", free_port()
        as_user: dict[str, Any] = {"user": user} if os.geteuid() == 0 else {}
        if not (data / "PG_VERSION").exists():
            words = ["-U", "callpoint", "-A", "trust", "-E", "UTF8", "--no-sync"]
            _run([folder / "initdb", "-D", data, *words], as_user, base)
        options = [f"-c {setting}" for setting in (*settings, f"max_connections={connections}")]
        server = " ".join([f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={base}", *options])
        control: list[str | Path] = [folder / "pg_ctl", "-D", data, "-l", Path(base) / "log", "-w", "-t", "600"]
        _run([*control, "-o", server, "start"], as_user, base)
        try:
            yield f"postgresql+asyncpg://callpoint@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "fast" if kept else "immediate", "stop"], as_user, base)


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[str]:
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="callpoint-postgres-") as name:
            yield name
        return
    kept.mkdir(parents=True, exist_ok=True)
    yield str(kept)


def _run(command: Sequence[str | Path], as_user: dict[str, Any], cwd: str) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
        stdout=subprocess.DEVNULL,  # the server inherits it: a pipe would never end
        stderr=subprocess.DEVNULL,
        timeout=600,  # a large database that is kept writes back what it holds before it stops
        check=False,
        **as_user,
    )
    log = Path(cwd) / "log"
    assert done.returncode == 0, f"{command[0]} failed: {log.read_text() if log.exists() else done.returncode}"


def _server_user() -> str | None:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)
