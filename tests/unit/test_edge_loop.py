"""The SIP process's loop and what it does beside the calls."""

import asyncio
from itertools import count

from engine.edge_loop import again_and_again


async def test_work_that_fails_is_told_and_done_again():
    """E-03: without pings no trunk is known to be away; one fault must not end them for good."""
    turns, told, is_enough = count(1), [], asyncio.Event()

    def work():
        if (turn := next(turns)) < 3:
            raise RuntimeError(f"turn {turn}")
        is_enough.set()

    task = asyncio.create_task(again_and_again(0.0, work, lambda fault: told.append(str(fault))))
    async with asyncio.timeout(5.0):
        await is_enough.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == ["turn 1", "turn 2"]
    assert task.cancelled()
