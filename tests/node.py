"""A whole running node for tests: `callpoint run` as a process of its own, on ports the kernel picks."""

import asyncio
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from sqlalchemy.exc import OperationalError

from engine import config as configuration
from engine import crypto, migrations, native
from engine.accounts import operations, passwords
from engine.audit.record import Actor, open_audited
from engine.db import Database
from engine.errors import DatabaseAway

START_WITHIN_S = 240.0  # a start that takes seconds takes minutes where twenty others want the same cores
PASSWORD = "correct horse battery staple"
OWNER = "owner@example.com"
CLI = Actor("cli", "cli", "tests", "local")


@dataclass(slots=True)
class Node:
    """A node in a folder of its own, and what a test needs of it: `async with Node(folder) as node`."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    admin: str = ""
    phones: str = ""
    udp: tuple[str, int] = ("", 0)
    tcp: tuple[str, int] = ("", 0)
    account_id: str = ""
    api_key: str = ""
    _reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def environ(self) -> dict[str, str]:
        settings = {
            "CALLPOINT_CORE__DATA_DIR": str(self.folder / "data"),
            "CALLPOINT_PROVISIONING__LISTEN": "127.0.0.1:0",
            "CALLPOINT_ADMIN__LISTEN": "127.0.0.1:0",
            "CALLPOINT_SIP__UDP": "127.0.0.1:0",
            "CALLPOINT_SIP__TCP": "127.0.0.1:0",
            "CALLPOINT_LOG__FORMAT": "json",
        }
        ours = {key for key in os.environ if key.startswith("CALLPOINT_")} - {native.VARIABLE}
        inherited = {key: value for key, value in os.environ.items() if key not in ours}
        return (
            inherited
            | settings
            | {"PYTHONASYNCIODEBUG": "", "PYTHONDONTWRITEBYTECODE": "", "PYTHONUNBUFFERED": "1"}
            | self.environment
        )

    async def start(self) -> None:
        """Start the process and wait for its own word that it is running."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "engine", "run",
            cwd=self.folder, env=self.environ(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        started = asyncio.Event()
        self._reader = asyncio.create_task(self._read(started))
        waiter = asyncio.create_task(started.wait())
        done, _ = await asyncio.wait(
            {waiter, self._reader}, timeout=START_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
        )
        if waiter not in done:
            waiter.cancel()
            await self.stop()
            raise AssertionError("the node did not start:\n" + "".join(self.output))

    async def _read(self, started: asyncio.Event) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = raw.decode(errors="replace")
            self.output.append(line)
            if found := re.match(r"\s+(Admin|Phones)\s+(https?://\S+?)(?:/p/<token>/)?\s*$", line):
                setattr(self, found[1].lower(), found[2])
            if re.match(r"\s+SIP\s", line):
                for kind, host, port in re.findall(r"(udp|tcp) (\S+):(\d+)", line):
                    setattr(self, kind, (host, int(port)))
            if re.match(r"\s+Stop\s", line):
                started.set()

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it by its pid; returns the exit code."""
        process = self.process
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        try:
            async with asyncio.timeout(60):
                while process.returncode is None:  # wait() waits for the pipe too, which a SIP process may hold open
                    await asyncio.sleep(0.01)
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._reader is not None:  # a SIP process that outlives a killed node holds the pipe open
            await asyncio.wait({self._reader}, timeout=1)
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self.process = None
        return process.returncode or 0

    async def command(self, *words: str, stdin: str = "") -> str:
        """Run a `callpoint` command on this node's data; returns its standard output, fails on a bad exit."""
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "engine", *words, cwd=self.folder, env=self.environ(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(done.communicate(stdin.encode()), START_WITHIN_S)
        assert done.returncode == 0, (words, out.decode(), err.decode())
        return out.decode()

    async def set_up(self, name: str = "Acme Dental") -> None:
        """Make an account and a key of every scope in the database, with no process to start; it need not run."""
        settings = configuration.load(None, self.environ())
        database = open_audited(settings.database_url, crypto.load_or_create(settings.key_file))
        await self._migrated(database)
        password_hash = await passwords.hash_password(PASSWORD)
        async with database.sessions.begin() as session:
            account = await operations.create_account(session, CLI, name, OWNER, password_hash)
        async with database.sessions.begin() as session:
            made = await operations.create_api_key(session, CLI, account, name="tests", scopes=("*",))
        await database.close()
        self.account_id, self.api_key = account.id, made.clear

    async def _migrated(self, database: Database) -> None:
        """Bring it to the newest revision; a node that runs may be at it for longer than a writer waits."""
        async with asyncio.timeout(START_WITHIN_S):
            while True:
                try:
                    await migrations.migrate(database)
                except (OperationalError, DatabaseAway):
                    await asyncio.sleep(0.2)
                else:
                    return

    async def set_up_by_command(self, name: str = "Acme Dental") -> None:
        """The same with the commands of whoever installs it."""
        words = ("account", "create", "--name", name, "--owner-email", OWNER, "--password-stdin")
        said = await self.command(*words, stdin=PASSWORD + "\n")
        self.account_id = said.strip().splitlines()[-1]
        said = await self.command("api-key", "create", "--account", self.account_id, "--name", "tests", "--scope", "*")
        self.api_key = said.strip().splitlines()[-1]

    async def api(self, method: str, path: str, body: Any = None, *, expect: int | None = None, **headers: str) -> Any:
        """One API request with this node's key; the answer's JSON. A status neither good nor `expect` fails."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.api_key}"}) as client,
            client.request(method, f"{self.admin}/api/v1/{path}", json=body, headers=named) as answer,
        ):
            text = await answer.text()
            good = answer.status == expect if expect is not None else answer.status < 300
            assert good, (method, path, answer.status, text)
            return await answer.json(content_type=None) if text else None

    async def wait_for(self, path: str, is_there: Any, *, within_s: float = 60.0) -> Any:
        """Ask the API until `is_there(answer)` holds; bounded, for what happens a moment after its cause."""
        until = asyncio.get_running_loop().time() + within_s
        while True:
            answer = await self.api("GET", path)
            if is_there(answer):
                return answer
            assert asyncio.get_running_loop().time() < until, f"{path} never showed it: {answer}"
            await asyncio.sleep(0.05)
