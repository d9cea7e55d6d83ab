"""The main process's end of the line to the edge, the process that carries 911 calls.

It starts the edge, keeps it alive, and passes one JSON object per line over its standard input and output. Nothing here
is on a call's way: the edge routes from its own table and writes its own journal whether or not this end is listening.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from engine.config import Config
from engine.e911.references import held_url_of
from engine.errors import EngineError

READY_WITHIN_S = 20.0
STOP_WITHIN_S = 8.0  # the edge itself waits 5 s for calls in progress
RESTART_PAUSES_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)  # then 5 s again and again: a node without an edge carries no 911
MAX_KEPT_SIGHTINGS = 10_000  # told again to an edge that starts anew; older ones are in its snapshots by then
LINE_LIMIT_BYTES = 4 * 1024 * 1024
_log = structlog.get_logger()


class EdgeAway(EngineError):
    """The SIP process is not running or did not answer."""

    http_status = 503
    title = "The SIP process is away"


@dataclass(frozen=True, slots=True)
class TrunkState:
    """What the edge's OPTIONS pings say of a trunk."""

    is_up: bool
    at: str
    detail: str


@dataclass(slots=True)
class EdgeState:
    """What is known of the edge now. `udp`, `tcp` and `tls` are `host:port` as bound, one for each address family with
    a comma between, empty where not served.
    """

    is_up: bool = False
    udp: str = ""
    tcp: str = ""
    tls: str = ""
    pid: int | None = None
    restarts: int = 0
    journal_fault: str = ""
    trunks: dict[str, TrunkState] = field(default_factory=dict)


def stop_asked() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set from now on, instead of ending the process on the spot."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    return asked


class EdgeLink:
    """Starts the edge and speaks with it. `on_journal` is called when new journal entries are durable."""

    def __init__(self, config: Config) -> None:
        self.state = EdgeState()
        self.on_journal: Callable[[], None] = lambda: None
        self.on_trunk: Callable[[str, bool], None] = lambda _trunk_id, _is_up: None
        self.on_dereference: Callable[[Mapping[str, Any]], None] = lambda _message: None
        self._seen: dict[str, dict[str, Any]] = {}  # by phone, the latest; an edge that starts again is told them
        self._config = config
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._stopping = False
        self._tokens = count(1)
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start the edge's process and give it its settings; it comes up while the rest is still being imported."""
        if self._keeper is None:
            process = await self._spawn()
            self._keeper = asyncio.create_task(self._keep(process), name="edge")

    async def start(self) -> None:
        """Start the edge, unless `begin` did, and wait until its sockets are bound.

        Raises:
            EdgeAway: it did not come up; the reason stands in its own words on the log.
        """
        await self.begin()
        assert self._keeper is not None
        ready = asyncio.create_task(self._ready.wait())
        done, _pending = await asyncio.wait(
            {ready, self._keeper}, timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
        )
        if ready not in done:
            ready.cancel()
            await self.stop()
            raise EdgeAway("The SIP process did not start, so no 911 call can be carried. Its reason stands above.")

    def load(self, account_id: str) -> None:
        """Tell the edge that this account's snapshot was written anew."""
        self._say({"do": "load", "account_id": account_id})

    def seen(self, sighting: Mapping[str, Any]) -> None:
        """Tell the edge where a phone was seen (`account_id` and the snapshot's fields), ahead of the next snapshot."""
        self._seen[sighting["phone_id"]] = message = {"do": "seen"} | dict(sighting)
        while len(self._seen) > MAX_KEPT_SIGHTINGS:
            self._seen.pop(next(iter(self._seen)))
        self._say(message)

    def located(self, token: str, pidf: str | None, detail: str, max_age_s: float | None) -> None:
        """Tell the edge what a location reference led to: a PIDF-LO, or None and why."""
        self._say({"do": "located", "token": token, "pidf": pidf, "detail": detail, "max_age_s": max_age_s})

    def drop(self, account_id: str) -> None:
        """Tell the edge that this account is gone."""
        self._say({"do": "drop", "account_id": account_id})

    async def notify(
        self, hop: dict[str, Any], request_uri: str, headers: list[tuple[str, str]], within_s: float
    ) -> int:
        """Send a NOTIFY and return its final status; 408 when nobody answered."""
        answer = await self._ask(
            {
                "do": "notify",
                "target": hop,
                "request_uri": request_uri,
                "headers": [list(header) for header in headers],
            },
            within_s,
        )
        return int(answer["status"])

    async def stats(self, within_s: float = 2.0) -> dict[str, Any]:
        """The edge's own counters: calls, journal backlog, memory."""
        return await self._ask({"do": "stats"}, within_s)

    async def stop(self) -> None:
        """End the edge cleanly: calls in progress keep their transactions until answered or 5 s."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            self._say({"do": "stop"})
            try:
                await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        for answer in self._answers.values():
            answer.cancel()

    async def _ask(self, message: dict[str, Any], within_s: float) -> dict[str, Any]:
        token = f"q{next(self._tokens)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        try:
            self._say(message | {"token": token})
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError as exc:
            raise EdgeAway("The SIP process did not answer in time. 911 calls do not depend on this answer.") from exc
        finally:
            self._answers.pop(token, None)

    def _say(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        """Listen to the edge; when it dies, start it again. It starts from the snapshots on disk."""
        while True:
            started = time.monotonic()
            await self._listen(process)
            if self._stopping:
                return
            if time.monotonic() - started > max(RESTART_PAUSES_S):
                self.state.restarts = 0
            pause_s = RESTART_PAUSES_S[min(self.state.restarts, len(RESTART_PAUSES_S) - 1)]
            self.state.restarts += 1
            _log.error("edge_died", meaning="no 911 call is carried until it is back", restart_in_s=pause_s)
            await asyncio.sleep(pause_s)
            process = await self._spawn()

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "engine.edge",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT_BYTES,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on, in order
        )  # fmt: skip
        self.state.pid = process.pid
        self._say(self._start_message())
        return process

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                self._hear(line)
        finally:
            self.state.is_up = False
            self._ready.clear()
            await process.wait()

    def _start_message(self) -> dict[str, Any]:
        sip = self._config.sip
        return {
            "do": "start",
            "data_dir": str(self._config.core.data_dir.absolute()),
            "key_file": str(self._config.key_file.absolute()),
            "udp": self.state.udp or sip.udp,  # an edge started again listens where the dead one did
            "tcp": self.state.tcp or sip.tcp,
            "tls": self.state.tls or sip.tls,
            "tls_cert": _absolute(sip.tls_cert),
            "tls_key": _absolute(sip.tls_key),
            "client_ca": _absolute(sip.client_ca),
            "tls_ca": _absolute(sip.tls_ca),
            "advertise": sip.advertise,
            "first_response_s": sip.first_response_s,
            "connect_s": sip.connect_s,
            "location_hosts": list(sip.location_hosts),
            "held_url": held_url_of(self._config.provisioning.public_url),
        }

    def _hear(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            _log.warning("edge_said_no_json", size_bytes=len(line))
            return
        match message.get("is"):
            case "ready":
                self.state.is_up = True
                for name in ("udp", "tcp", "tls"):
                    setattr(self.state, name, message.get(name) or "")
                self._ready.set()
                for sighting in self._seen.values():
                    self._say(sighting)
                self.on_journal()  # what a former edge wrote may still wait
            case "journal":
                self.state.journal_fault = message.get("fault", "")
                self.on_journal()
            case "trunk":
                state = TrunkState(bool(message["up"]), message.get("at", ""), message.get("detail", ""))
                self.state.trunks[message["trunk_id"]] = state
                self.on_trunk(message["trunk_id"], state.is_up)
            case "dereference":
                self.on_dereference(message)
            case "fault":
                _log.error("edge_fault", detail=message.get("detail"))
            case _ if (answer := self._answers.get(message.get("token", ""))) is not None and not answer.done():
                answer.set_result(message)


def _absolute(path: Path | None) -> str:
    return str(path.absolute()) if path is not None else ""
