"""The children that speak with SMS and chat services (`engine.e911.chat_child`), as this process has them.

A child is kept for the next message and ends by itself when none comes. One that does not answer in time is killed: no
service holds up another's message for longer than that, and nothing of it runs in this process.
"""

import asyncio
import contextlib
import importlib.util
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from typing import Any

import structlog

from engine.e911 import chat_services
from engine.outbound import Outbound

REUSED_S = 40.0  # a child ends after 60 s without a message: one that is about to is not given another
WITHIN_S = 25.0  # a service's own limits are 4 s to connect and 4 s to answer, for each of its requests
NO_LIBRARY = "The package apprise is not installed here: run `python3 run.py`, which installs it, and restart."
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Address:
    """What the library says of an address. `fault`: why it is none, in words; then the rest is empty."""

    service: str = ""
    shown: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What became of one message. `is_final`: it will never be taken."""

    is_ok: bool
    words: str
    is_final: bool = False


class ChatLibrary:
    """Asks the children. `close` ends them.

    Args:
        within_s: How long one message may take, after which its child is killed.
    """

    def __init__(self, outbound: Outbound, *, within_s: float = WITHIN_S) -> None:
        self._networks = json.dumps([str(network) for network in outbound.networks])
        self._within_s = within_s
        self._idle: list[tuple[float, Process]] = []
        self._all: set[Process] = set()

    async def read(self, url: str) -> Address:
        """What that address is. Nothing is sent."""
        if fault := chat_services.fault_of(url):
            return Address(fault=fault)
        try:
            told = await self._ask({"do": "check", "url": url})
        except OSError as exc:
            return Address(fault=f"The address could not be checked: {exc}.")
        if told["fault"]:
            return Address(fault=str(told["fault"]))
        return Address(str(told["service"]), str(told["shown"]))

    async def send(self, url: str, title: str, body: str) -> Said:
        """One try. Never raises for a service that is away."""
        try:
            told = await self._ask({"do": "send", "url": url, "title": title, "body": body})
        except OSError as exc:
            return Said(is_ok=False, words=str(exc))
        if told.get("fault"):
            return Said(is_ok=False, words=str(told["fault"]), is_final=True)
        return Said(bool(told["is_ok"]), str(told["words"]))

    async def close(self) -> None:
        """End every child."""
        for child in self._all:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        await asyncio.gather(*(child.wait() for child in self._all))
        self._all.clear()
        self._idle.clear()

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Raises OSError: there is no library, no child could be had, or it did not answer in time."""
        child, is_kept = await self._child(), False
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            async with asyncio.timeout(self._within_s):
                child.stdin.write(json.dumps(message).encode() + b"\n")
                await child.stdin.drain()
                line = await child.stdout.readline()
            told: dict[str, Any] = json.loads(line)
        except TimeoutError as exc:
            raise OSError(f"no answer within {self._within_s:.0f} s") from exc
        except (OSError, ValueError) as exc:
            raise OSError("the process that sends messages ended; it is started again") from exc
        else:
            self._idle.append((asyncio.get_running_loop().time(), child))
            is_kept = True
            return told
        finally:
            if not is_kept:
                await self._end(child)

    async def _child(self) -> Process:
        while self._idle:
            since, child = self._idle.pop()
            if child.returncode is None and asyncio.get_running_loop().time() - since < REUSED_S:
                return child
            await self._end(child)
        if importlib.util.find_spec("apprise") is None:
            raise OSError(NO_LIBRARY)
        # -I and an empty environment: no proxy, no path and no setting of whoever started the server
        command = (sys.executable, "-I", "-B", "-m", "engine.e911.chat_child", self._networks)
        child = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, start_new_session=True
        )
        self._all.add(child)
        return child

    async def _end(self, child: Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await asyncio.shield(child.wait())
        self._all.discard(child)
