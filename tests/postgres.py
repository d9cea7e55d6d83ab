"""A PostgreSQL server of the tests' own, from the programs on this machine: an empty data folder, a loopback port.

PostgreSQL refuses to run as root; then it runs as the user `postgres` or `nobody`.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from engine.db import Database
from tests.ports import free_port

LONGEST_S = 600  # a large database that is kept writes back what it holds before it stops
SETTINGS = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=16MB")
_ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}


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
        options = [f"-c{setting}" for setting in (*settings, f"max_connections={connections}")]
        places = ["-p", str(port), "-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={base}"]
        with _served([str(folder / "postgres"), "-D", str(data), *places, *options], as_user, base) as server:
            _await_answers(folder / "pg_isready", port, server, Path(base) / "log")
            yield f"postgresql+asyncpg://callpoint@127.0.0.1:{port}/postgres"
            server.send_signal(signal.SIGINT if kept else signal.SIGQUIT)  # fast, immediate


async def until_somebody_waits(database: Database, kind: str = "transactionid") -> None:
    """Until a transaction waits for another one; `kind`: for a lock of that type, as the server calls it."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = :kind")
    async with asyncio.timeout(30.0):
        while True:
            async with database.sessions() as session:
                if await session.scalar(waiting, {"kind": kind}):
                    return
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def _served(command: list[str], as_user: dict[str, Any], base: str) -> Iterator[subprocess.Popen[bytes]]:
    """The server as our own child, not `pg_ctl`'s: what it uses of the machine is counted as ours when it has ended."""
    with (Path(base) / "log").open("ab") as log:
        server = subprocess.Popen(command, cwd=base, env=_ENVIRONMENT, stdout=log, stderr=log, **as_user)
    try:
        yield server
    except BaseException:
        server.send_signal(signal.SIGQUIT)
        raise
    finally:
        server.wait(LONGEST_S)


def _await_answers(is_ready: Path, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + LONGEST_S
    asked = [str(is_ready), "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(asked, env=_ENVIRONMENT, check=False).returncode:
        assert server.poll() is None, f"PostgreSQL ended: {log.read_text()}"
        assert time.monotonic() < until, f"PostgreSQL does not answer: {log.read_text()}"
        time.sleep(0.05)


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
        env=_ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=LONGEST_S,
        check=False,
        **as_user,
    )
    assert done.returncode == 0, f"{command[0]} failed: {done.returncode}"


def _server_user() -> str | None:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)
