"""The SIP process's event loop and its garbage collector, both made for many short messages.

asyncio answers a readable socket in four steps: a selector key, a handle, a queue, a context. For a datagram that takes
15 µs to proxy those steps are a third of the work, so that here a reader is called straight from the selector, which
waits for the next datagram by itself as long as nothing else has become due.

The collector would walk every transaction that lingers (32 s of them) again and again, for nothing: what the element
drops is free of cycles. It is off, and runs when there is nothing to do.
"""

import asyncio
import gc
import math
import os
import select
import selectors
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVarTuple

if TYPE_CHECKING:
    from _typeshed import HasFileno

_Ts = TypeVarTuple("_Ts")

QUIET_MESSAGES = 50  # since the last tick; a pause of some milliseconds meets nobody then
WORTH_OBJECTS = 20_000  # containers made and not freed since the last collection
AT_LEAST_EVERY_S = 3_600.0  # on a node that is never quiet
_BRANCH_DIGITS = 18


class StraightSelector(selectors.EpollSelector):
    """An epoll selector that calls some readers itself, and reports everything else as ever."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: dict[int, Callable[[], object]] = {}
        self.failed: Callable[[BaseException], None] = lambda _fault: None
        self.idle_s: Callable[[], float | None] = lambda: 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait until there is something for asyncio to do. What its own readers did needs none of it: it waits on."""
        ready: list[tuple[selectors.SelectorKey, int]] = []
        while True:
            # epoll counts milliseconds: rounded up, or a timer due in 0.4 ms would spin until then
            wait_s = -1.0 if timeout is None else max(0.0, math.ceil(timeout * 1e3) * 1e-3)
            try:
                events = self._selector.poll(wait_s, len(self._fd_to_key) or 1)  # type: ignore[attr-defined]
            except InterruptedError:
                return ready
            self._call_readers(events, ready)
            if ready or not events:
                return ready
            timeout = self.idle_s()
            if timeout == 0.0:
                return ready

    def _call_readers(self, events: list[tuple[int, int]], ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        for descriptor, event in events:
            reader = self.readers.get(descriptor) if event == select.EPOLLIN else None
            if reader is None:
                self._report(descriptor, event, ready)
                continue
            try:
                reader()
            except Exception as fault:  # noqa: BLE001 - as a handle does: told, and the loop goes on
                self.failed(fault)

    def _report(self, descriptor: int, event: int, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        key = self._fd_to_key.get(descriptor)  # type: ignore[attr-defined]
        if key is not None:
            kinds = selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0
            kinds |= selectors.EVENT_READ if event & ~select.EPOLLOUT else 0
            ready.append((key, kinds & key.events))


class EdgeLoop(asyncio.SelectorEventLoop):
    """A selector loop whose `add_reader` callbacks are called straight from the selector."""

    time = staticmethod(time.monotonic)  # asyncio's own is a method around it, asked for with every datagram

    def __init__(self) -> None:
        self._straight = StraightSelector()
        super().__init__(self._straight)
        self._straight.failed = self._reader_failed
        self._straight.idle_s = self._idle_s

    def add_reader(self, fd: "int | HasFileno", callback: Callable[[*_Ts], Any], *args: *_Ts) -> None:
        super().add_reader(fd, callback, *args)
        self._straight.readers[fd if isinstance(fd, int) else fd.fileno()] = partial(callback, *args)

    def remove_reader(self, fd: "int | HasFileno") -> bool:
        self._straight.readers.pop(fd if isinstance(fd, int) else fd.fileno(), None)
        return super().remove_reader(fd)

    def _idle_s(self) -> float | None:
        """How long nothing but a socket can give this loop work; None for ever."""
        if self._ready or self._stopping:  # type: ignore[attr-defined]
            return 0.0
        if not self._scheduled:  # type: ignore[attr-defined]
            return None
        due: float = self._scheduled[0].when()  # type: ignore[attr-defined]
        return max(0.0, due - self.time())

    def _reader_failed(self, fault: BaseException) -> None:
        self.call_exception_handler({"message": "a socket's reader failed", "exception": fault})


async def again_and_again(
    interval_s: float, work: Callable[[], object], failed: Callable[[BaseException], object]
) -> None:
    """Do some work until cancelled. What fails once is told, and tried again: nobody else would do it."""
    while True:
        try:
            work()
        except Exception as fault:  # noqa: BLE001 - whatever it is
            failed(fault)
        await asyncio.sleep(interval_s)


class Branches:
    """Branches nobody can guess (RFC 3261 §8.1.1.7), 72 random bits each, drawn from the kernel by the hundred."""

    def __init__(self) -> None:
        self._random, self._at = "", 0

    def next(self) -> str:
        at, self._at = self._at, self._at + _BRANCH_DIGITS
        if self._at > len(self._random):
            at, self._at, self._random = 0, _BRANCH_DIGITS, os.urandom(_BRANCH_DIGITS // 2 * 100).hex()
        return "z9hG4bK" + self._random[at : self._at]


class Collector:
    """Runs the garbage collector when the process has nothing better to do. `now` on the loop's clock."""

    def __init__(self) -> None:
        self._messages = 0
        self._collected_at = 0.0

    def start(self, now: float) -> None:
        """What is loaded by now stays: it is never walked again."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._collected_at = now

    def tick(self, messages: int, now: float) -> None:
        """Called now and then with the number of messages received since the process began."""
        came, self._messages = messages - self._messages, messages
        is_worth_it = came < QUIET_MESSAGES and gc.get_count()[0] >= WORTH_OBJECTS
        if is_worth_it or now - self._collected_at >= AT_LEAST_EVERY_S:
            gc.collect()
            self._collected_at = now
