"""A SIP process as the main process keeps it."""

import asyncio
import sys
from pathlib import Path

import pytest
import structlog

from engine.edge.child import EdgeChild

WITHIN_S = 60.0


async def test_a_process_that_cannot_be_started_is_tried_again_and_a_message_nobody_understands_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E-03: what has killed a SIP process (no memory) may keep the next from starting; a node without one carries no
    911 call, so that it is tried until it starts. It is here told to start with nothing and ends by itself.
    """
    heard: list[str] = []
    changed = asyncio.Event()

    def hear(_child: EdgeChild, message: dict[str, object]) -> None:
        heard.append(str(message["is"]))
        changed.set()
        if message["is"] == "failed":
            monkeypatch.setattr(sys, "executable", "/nowhere/python" if heard.count("failed") == 1 else python)
            raise RuntimeError("a fault of ours")

    python = sys.executable
    child = EdgeChild(0, start_message=lambda _number: {"do": "start"}, hear=hear)
    await child.begin()
    async with asyncio.timeout(WITHIN_S):
        while "gone" not in heard or child.restarts < 2:
            await asyncio.sleep(0.01)
        monkeypatch.setattr(sys, "executable", python)
        while heard.count("gone") < 2:
            changed.clear()
            await changed.wait()
    await child.stop()
    assert heard[:4] == ["failed", "gone", "failed", "gone"]


async def test_a_process_that_is_slow_to_start_is_waited_for_and_one_that_has_died_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-03: after a power cut everything starts at once; to give up would end a SIP process about to carry 911."""
    slow = tmp_path / "slow"
    slow.write_text(
        '#!/bin/sh\nread settings\nuntil [ -e "$0.go" ]; do sleep 0.01; done\necho \'{"is": "ready"}\'\nread stop\n'
    )
    slow.chmod(0o700)

    def hear(child: EdgeChild, message: dict[str, object]) -> None:
        if message["is"] == "ready":
            child.ready.set()

    monkeypatch.setattr(sys, "executable", str(slow))
    child = EdgeChild(0, start_message=lambda _number: {"do": "start"}, hear=hear)
    await child.begin()
    with structlog.testing.capture_logs() as told:
        waiting = asyncio.create_task(child.came_up(0.5))
        async with asyncio.timeout(WITHIN_S):
            while not told:
                await asyncio.sleep(0.01)
        (tmp_path / "slow.go").touch()
        assert await waiting
    assert {(one["event"], one["log_level"]) for one in told} == {("edge_slow", "warning")}
    await child.stop()

    monkeypatch.setattr(sys, "executable", "/bin/false")
    child = EdgeChild(0, start_message=lambda _number: {"do": "start"}, hear=hear)
    await child.begin()
    async with asyncio.timeout(WITHIN_S):
        while not child.restarts:
            await asyncio.sleep(0.01)
        assert not await child.came_up(0.1)
    await child.stop()
