"""A SIP process as the main process keeps it."""

import asyncio
import sys

import pytest

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
