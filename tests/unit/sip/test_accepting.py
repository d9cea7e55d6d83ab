"""How many connections wait until they are accepted, whichever loop accepts them."""

import asyncio
import socket
from pathlib import Path

import pytest

from engine.sip.accepting import AT_ONCE, WAITING, keep_waiting

pytestmark = pytest.mark.enable_socket  # a real listener on loopback


def kept_waiting(port: int) -> int:
    """How many of 64 connections to that port come about while nobody accepts any; the others would try again."""
    opened = []
    try:
        while len(opened) < 64:
            one = socket.socket()
            one.setblocking(False)
            opened.append(one)
            one.connect_ex(("127.0.0.1", port))
        listed = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[3] == "01" and int(row[2].partition(":")[2], 16) == port for row in listed)
    finally:
        for one in opened:
            one.close()


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_connections_wait_for_their_turn_on_every_loop(name: str) -> None:
    """P-01: a fleet that connects at once is not sent away to try again after seconds."""
    new_loop = asyncio.new_event_loop if name == "asyncio" else pytest.importorskip("uvloop").new_event_loop

    async def work() -> int:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=AT_ONCE)
        keep_waiting(server)
        waiting = kept_waiting(server.sockets[0].getsockname()[1])  # the loop stands still meanwhile
        server.close()
        return waiting

    assert WAITING >= 64
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(work()) == 64
