"""A whole node whose processes are killed one after the other, with 911 after 911 meanwhile.

Nothing is measured by the clock: callers repeat their INVITE as RFC 3261 says until somebody answers, and each kill is
over when every caller has had a call of after it answered.
"""

import asyncio
import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.agents import Heard, Placed, Placing, place_call
from tests.node import Node
from tests.protocol.test_postgres_nodes import edge_pid_of
from tests.protocol.test_whole import MAC, furnished, is_zombie

pytestmark = pytest.mark.enable_socket
CALLERS = 3


@dataclass(slots=True)
class Tried:
    """One call: how many kills there had been when it began, the kills it saw, and how it went."""

    call_id: str
    begun_after: int
    kills: list[str] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    placed: Placed | None = None

    @property
    def is_answered(self) -> bool:
        return self.placed is not None and self.placed.is_answered


class Load:
    """Callers that dial 911 again and again."""

    def __init__(self, udp: tuple[str, int]) -> None:
        self.tried: list[Tried] = []
        self._udp, self._kills, self._is_over = udp, 0, False
        self._answered_after = [0] * CALLERS  # by caller: the kills that its last answered call began after
        self._news = asyncio.Event()
        self._callers = [asyncio.create_task(self._dial(number)) for number in range(CALLERS)]

    async def _dial(self, caller: int) -> None:
        while not self._is_over:
            placing = Placing("911", "101", self._udp, headers=(("X-Callpoint-Device", MAC),), talk_s=0.3, answer_s=5.0)
            one = Tried(placing.call_id, self._kills)
            self.tried.append(one)
            one.placed = await place_call(placing, on_heard=one.heard.append)
            if one.is_answered:
                self._answered_after[caller] = one.begun_after
            self._news.set()

    def kill(self, what: str, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self._kills += 1
        for one in self.tried:
            if one.placed is None:
                one.kills.append(what)

    async def recovers(self) -> None:
        """Every caller has been answered again, by whoever took over."""
        async with asyncio.timeout(120):
            while min(self._answered_after) < self._kills:
                self._news.clear()
                await self._news.wait()

    async def end(self) -> None:
        self._is_over = True
        await asyncio.gather(*self._callers)


def recorded(node: Node) -> set[str]:
    with closing(sqlite3.connect(node.folder / "data" / "callpoint.db")) as database:
        return {row[0] for row in database.execute("SELECT call_id FROM emergency_call")}


async def test_kills_lose_no_911_but_what_the_killed_process_had_answered_with_100(tmp_path: Path) -> None:
    """E-03: main process, SIP process and both. A caller who had heard nothing is answered by the successor; with the
    main process gone alone, every caller is; and every call that was answered undisturbed is on record.
    """
    async with furnished(tmp_path) as site:
        node = site.node
        host, port = node.udp
        node.environment["CALLPOINT_SIP__UDP"] = f"{host}:{port}"
        load = Load(node.udp)
        await load.recovers()
        for what in ("main", "edge", "both"):
            assert node.process is not None
            edge = edge_pid_of(node)
            load.kill(what, *({"main": (), "edge": (edge,), "both": (edge,)}[what]))
            if what != "edge":
                await node.stop(signal.SIGKILL)
                await node.start()
            await load.recovers()
            async with asyncio.timeout(120):
                while Path(f"/proc/{edge}").exists() and not is_zombie(edge):  # noqa: ASYNC240 - the kernel's
                    await asyncio.sleep(0.05)
        await load.end()
        lost = [one for one in load.tried if not one.is_answered]
        assert [one for one in lost if not one.heard] == [], "they repeated their INVITE, and nobody took it"
        assert [one for one in lost if not {"edge", "both"} & set(one.kills)] == []
        undisturbed = {one.call_id for one in load.tried if one.is_answered and not one.kills}
        async with asyncio.timeout(60):
            while not undisturbed <= await asyncio.to_thread(recorded, node):
                await asyncio.sleep(0.1)
