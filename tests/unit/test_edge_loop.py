"""The SIP process's loop and what it does beside the calls."""

import asyncio
import socket
import threading
from itertools import count

from engine.edge.loop import EdgeLoop, again_and_again


async def test_work_that_fails_is_told_and_done_again():
    """E-03: without pings no trunk is known to be away; one fault must not end them for good."""
    turns, told, is_enough = count(1), [], asyncio.Event()

    def work():
        if (turn := next(turns)) < 3:
            raise RuntimeError(f"turn {turn}")
        is_enough.set()

    task = asyncio.create_task(again_and_again(0.0, work, lambda fault: told.append(str(fault))))
    async with asyncio.timeout(30):
        await is_enough.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert told == ["turn 1", "turn 2"]
    assert task.cancelled()


def on_the_edge_s_loop(work):
    """Run a coroutine function there, within half a minute."""
    with asyncio.Runner(loop_factory=EdgeLoop) as runner:
        return runner.run(asyncio.wait_for(work(), 30.0))


def test_a_reader_is_called_without_a_turn_of_asyncio_and_what_it_starts_is_done():
    """E-03: timers, callbacks and other threads wait for no socket while datagrams keep coming."""

    async def work():
        loop, got = asyncio.get_running_loop(), []
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.setblocking(False)
        told, due, from_thread = asyncio.Event(), asyncio.Event(), asyncio.Event()

        def read():
            got.append(one.recv(16))
            if got[-1] == b"soon":
                loop.call_soon(told.set)
            elif got[-1] == b"later":
                loop.call_later(0.02, due.set)
            elif got[-1] == b"thread":
                threading.Thread(target=lambda: loop.call_soon_threadsafe(from_thread.set)).start()

        loop.add_reader(one.fileno(), read)
        for word, event in ((b"soon", told), (b"later", due), (b"thread", from_thread)):
            other.send(b"nothing")
            other.send(word)
            await event.wait()
        other.send(b"last")
        await asyncio.sleep(0.05)
        loop.remove_reader(one.fileno())
        one.close()
        other.close()
        return got

    assert on_the_edge_s_loop(work) == [b"nothing", b"soon", b"nothing", b"later", b"nothing", b"thread", b"last"]


def test_datagrams_without_end_do_not_hold_up_a_timer():
    """E-03: a reader that finds work at each wake-up leaves what is due its turn."""

    async def work():
        loop, is_due = asyncio.get_running_loop(), asyncio.Event()
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.setblocking(False)
        seen = count()

        def again():
            one.recv(16)
            next(seen)
            other.send(b"again")

        loop.add_reader(one.fileno(), again)
        loop.call_later(0.05, is_due.set)
        other.send(b"first")
        await is_due.wait()
        loop.remove_reader(one.fileno())
        one.close()
        other.close()
        return next(seen)

    assert on_the_edge_s_loop(work) > 1


def test_a_reader_that_fails_is_told_and_the_next_datagram_is_read():
    """E-03: one fault ends neither the loop nor the socket's reading."""

    async def work():
        loop, told, got = asyncio.get_running_loop(), [], asyncio.Event()
        loop.set_exception_handler(lambda _loop, context: told.append(str(context["exception"])))
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        one.setblocking(False)

        def read():
            if one.recv(16) == b"bad":
                raise ValueError("no message")
            got.set()

        loop.add_reader(one.fileno(), read)
        other.send(b"bad")
        other.send(b"good")
        await got.wait()
        loop.remove_reader(one.fileno())
        one.close()
        other.close()
        return told

    assert on_the_edge_s_loop(work) == ["no message"]
