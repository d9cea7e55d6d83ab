"""The main process's end of the line to the edge, the process that carries 911 calls.

It starts the edge, keeps it alive, and passes one JSON object per line over its standard input and output. Nothing here
is on a call's way: the edge routes from its own table and writes its own journal whether or not this end is listening.
"""

import asyncio
import secrets
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from engine.config import Config
from engine.e911.references import held_url_of
from engine.edge.child import EdgeChild
from engine.errors import EngineError

READY_WITHIN_S = 20.0
MAX_KEPT_SIGHTINGS = 10_000  # told again to an edge that starts anew; older ones are in its snapshots by then
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
    """Starts the SIP processes and speaks with them. `on_journal` is called when new journal entries are durable."""

    def __init__(self, config: Config) -> None:
        self.state = EdgeState()
        self.on_journal: Callable[[], None] = lambda: None
        self.on_trunk: Callable[[str, bool], None] = lambda _trunk_id, _is_up: None
        self.on_dereference: Callable[[Mapping[str, Any]], None] = lambda _message: None
        self._seen: dict[str, dict[str, Any]] = {}  # by phone, the latest; an edge that starts again is told them
        self._config = config
        self._family = secrets.token_hex(16)
        self._children = [
            EdgeChild(number, start_message=self._start_message, hear=self._hear)
            for number in range(config.sip.workers)
        ]
        self._starting: list[asyncio.Task[None]] = []
        self._stopping = False
        self._tokens = count(1)
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}

    @property
    def pids(self) -> list[int]:
        """Of the SIP processes, the first worker's first."""
        return [child.pid for child in self._children]

    @property
    def workers(self) -> tuple[bool, ...]:
        """Whether each SIP process serves."""
        return tuple(child.is_up for child in self._children)

    @property
    def workers_up(self) -> int:
        """How many SIP processes serve."""
        return sum(self.workers)

    async def begin(self) -> None:
        """Start the first process and give it its settings; it comes up while the rest is still being imported."""
        await self._children[0].begin()
        self.state.pid = self._children[0].pid

    async def start(self) -> None:
        """Start the SIP processes, unless `begin` did, and wait until their sockets are bound.

        Raises:
            EdgeAway: the first did not come up; the reason stands in its own words on the log.
        """
        await self.begin()
        if not await self._children[0].came_up(READY_WITHIN_S):
            await self.stop()
            raise EdgeAway("The SIP process did not start, so no 911 call can be carried. Its reason stands above.")
        await asyncio.gather(*self._starting)
        for child in self._children[1:]:
            if not await child.came_up(READY_WITHIN_S):
                _log.error("edge_not_up", worker=child.number, meaning="the other SIP processes carry its calls")

    def load(self, account_id: str) -> None:
        """Tell the edge that this account's snapshot was written anew."""
        self._say_all({"do": "load", "account_id": account_id})

    def seen(self, sighting: Mapping[str, Any]) -> None:
        """Tell the edge where a phone was seen (`account_id` and the snapshot's fields), ahead of the next snapshot."""
        self._seen[sighting["phone_id"]] = message = {"do": "seen"} | dict(sighting)
        while len(self._seen) > MAX_KEPT_SIGHTINGS:
            self._seen.pop(next(iter(self._seen)))
        self._say_all(message)

    def located(self, token: str, pidf: str | None, detail: str, max_age_s: float | None) -> None:
        """Tell the edge what a location reference led to: a PIDF-LO, or None and why."""
        number, _, own = token.partition(":")
        message = {"do": "located", "token": own, "pidf": pidf, "detail": detail, "max_age_s": max_age_s}
        self._children[int(number)].say(message)

    def drop(self, account_id: str) -> None:
        """Tell the edge that this account is gone."""
        self._say_all({"do": "drop", "account_id": account_id})

    async def notify(
        self,
        hop: dict[str, Any],
        request_uri: str,
        headers: list[tuple[str, str]],
        within_s: float,
        credentials: Mapping[str, str] | None = None,
    ) -> int:
        """Send a NOTIFY and return its final status; 408 when nobody answered.

        `credentials` (`user`, `secret`) answer the phone that asks for them.
        """
        answer = await self._ask(
            {
                "do": "notify",
                "target": hop,
                "request_uri": request_uri,
                "headers": [list(header) for header in headers],
                "credentials": credentials,
            },
            within_s,
        )
        return int(answer["status"])

    async def stats(self, within_s: float = 2.0) -> dict[str, Any]:
        """The counters of all SIP processes together: calls, journal backlog, memory."""
        up = [child for child in self._children if child.is_up] or self._children[:1]
        answers = await asyncio.gather(*(self._ask({"do": "stats"}, within_s, child) for child in up))
        return summed([{key: value for key, value in answer.items() if key not in _ENVELOPE} for answer in answers])

    async def stop(self) -> None:
        """End every SIP process cleanly: calls in progress keep their transactions until answered or 5 s."""
        self._stopping = True
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(child.stop() for child in self._children))
        for answer in self._answers.values():
            answer.cancel()

    async def _ask(self, message: dict[str, Any], within_s: float, child: EdgeChild | None = None) -> dict[str, Any]:
        """Ask that process, or the first that is up."""
        asked = child or next((each for each in self._children if each.is_up), self._children[0])
        token = f"q{next(self._tokens)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        try:
            asked.say(message | {"token": token})
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError as exc:
            raise EdgeAway("The SIP process did not answer in time. 911 calls do not depend on this answer.") from exc
        finally:
            self._answers.pop(token, None)

    def _say_all(self, message: dict[str, Any]) -> None:
        for child in self._children:
            child.say(message)

    def _start_message(self, worker: int) -> dict[str, Any]:
        sip = self._config.sip
        return {
            "do": "start",
            "worker": worker,
            "workers": len(self._children),
            "family": self._family,
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

    def _hear(self, child: EdgeChild, message: dict[str, Any]) -> None:
        self.state.restarts = sum(each.restarts for each in self._children)
        match message.get("is"):
            case "ready":
                self._on_ready(child, message)
            case "gone":
                self.state.is_up = any(each.is_up for each in self._children)
            case "journal":
                self.state.journal_fault = message.get("fault", "")
                self.on_journal()
            case "trunk":
                state = TrunkState(bool(message["up"]), message.get("at", ""), message.get("detail", ""))
                self.state.trunks[message["trunk_id"]] = state
                self.on_trunk(message["trunk_id"], state.is_up)
            case "dereference":
                self.on_dereference(message | {"token": f"{child.number}:{message['token']}"})
            case "fault":
                _log.error("edge_fault", detail=message.get("detail"))
            case _ if (answer := self._answers.get(message.get("token", ""))) is not None and not answer.done():
                answer.set_result(message)

    def _on_ready(self, child: EdgeChild, message: dict[str, Any]) -> None:
        self.state.is_up, self.state.pid = True, self._children[0].pid
        for name in ("udp", "tcp", "tls"):
            setattr(self.state, name, message.get(name) or "")
        child.ready.set()
        for sighting in self._seen.values():
            child.say(sighting)
        self.on_journal()  # what a former edge wrote may still wait
        if child.number == 0 and not self._starting and not self._stopping:  # the others listen where the first does
            self._starting = [asyncio.create_task(each.begin()) for each in self._children[1:]]


def summed(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Counters of several processes as one: numbers added, what each has alike once, lists joined."""
    whole = dict(answers[0])
    for answer in answers[1:]:
        for key, value in answer.items():
            known = whole.get(key)
            if key in _ALIKE or known is None:
                whole[key] = value if known is None else min(known, value)
            elif isinstance(value, dict):
                whole[key] = summed([known, value])
            elif isinstance(value, list):
                whole[key] = sorted({*known, *value})
            elif isinstance(value, int | float):
                whole[key] = known + value
    return whole


_ALIKE = frozenset({"accounts", "receive_buffer_bytes"})
_ENVELOPE = frozenset({"is", "token"})


def _absolute(path: Path | None) -> str:
    return str(path.absolute()) if path is not None else ""
