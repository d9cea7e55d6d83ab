"""One SIP process as the main process has it: started, listened to, and started again when it dies."""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog

STOP_WITHIN_S = 8.0  # the edge itself waits 5 s for calls in progress
MAX_WAITS = 15  # of a start that is slow
RESTART_PAUSES_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)  # then 5 s again and again: a node without an edge carries no 911
PING_S = 1.0
# of them without a line in between, and the process hangs: it holds its share of the address and answers no call of it;
# a busy one is slow, and is not to lose the calls it carries
SILENT_PINGS = 5
LINE_LIMIT_BYTES = 4 * 1024 * 1024
_log = structlog.get_logger()


class EdgeChild:
    """A SIP process. `ready` is set while its sockets are bound.

    Args:
        number: Which of several it is.
        start_message: Its settings, asked for at each start.
        hear: Takes each message it sends.
    """

    def __init__(
        self,
        number: int,
        *,
        start_message: Callable[[int], dict[str, Any]],
        hear: Callable[["EdgeChild", dict[str, Any]], None],
    ) -> None:
        self.number, self.pid, self.restarts = number, 0, 0
        self.ready = asyncio.Event()
        self._start_message, self._hear = start_message, hear
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._unheard = 0  # pings since it last said anything
        self._stopping = False

    @property
    def is_up(self) -> bool:
        return self.ready.is_set()

    async def begin(self) -> None:
        """Start it and give it its settings, once."""
        if self._keeper is None and not self._stopping:
            process = await self._spawn()
            self._keeper = asyncio.create_task(self._keep(process), name=f"edge-{self.number}")
            self._watcher = asyncio.create_task(self._watch(), name=f"edge-{self.number}-watch")

    async def came_up(self, within_s: float) -> bool:
        """Wait until its sockets are bound; False when it ends, or takes longer after it has ended once.

        One that lives and is slow is waited for much longer: on a machine that starts everything at once after a power
        cut, to give up would end a SIP process that is about to carry 911.
        """
        assert self._keeper is not None
        ready = asyncio.create_task(self.ready.wait())
        for waits in range(1, MAX_WAITS + 1):
            done, _pending = await asyncio.wait(
                {ready, self._keeper}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
            )
            if done or self.restarts:
                break
            _log.warning(
                "edge_slow", worker=self.number, after_s=waits * within_s,
                meaning="the machine is busy: no 911 call is carried until this process is up; it is waited for",
            )  # fmt: skip
        if not ready.done():
            ready.cancel()
        return ready.done() and not ready.cancelled()

    def say(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(json.dumps(message).encode() + b"\n")

    async def stop(self) -> None:
        """End it cleanly: calls in progress keep their transactions until answered or 5 s."""
        self._stopping = True
        if self._watcher is not None:
            self._watcher.cancel()
        process = self._process
        if process is not None and process.returncode is None:
            self.say({"do": "stop"})
            try:
                await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        """Listen to it; when it dies, start it again. It starts from the snapshots on disk."""
        while True:
            started = time.monotonic()
            await self._listen(process)
            if self._stopping:
                return
            if time.monotonic() - started > max(RESTART_PAUSES_S):
                self.restarts = 0
            process = await self._again("")

    async def _watch(self) -> None:
        """Ask it for a sign of life; end it when it gives none, so that its share of the calls goes to the others
        and it starts again. A pause of our own process is no silence of its.
        """
        loop = asyncio.get_running_loop()
        while True:
            asked_at = loop.time()
            await asyncio.sleep(PING_S)
            process = self._process
            is_late = loop.time() - asked_at > 2 * PING_S
            if not self.is_up or is_late or process is None or process.returncode is not None:
                self._unheard = 0
                continue
            if self._unheard >= SILENT_PINGS:
                _log.error(
                    "edge_silent", worker=self.number, pid=process.pid, after_s=SILENT_PINGS * PING_S,
                    meaning="this process hangs and answers no 911 call; it is ended and started again",
                )  # fmt: skip
                self._unheard = 0
                process.kill()
                continue
            self._unheard += 1
            self.say({"do": "ping"})

    async def _again(self, why: str) -> asyncio.subprocess.Process:
        """Start it anew, after a pause; for as long as that takes."""
        while True:
            pause_s = RESTART_PAUSES_S[min(self.restarts, len(RESTART_PAUSES_S) - 1)]
            self.restarts += 1
            _log.error(
                "edge_died", worker=self.number, meaning="this process carries no 911 call until it is back",
                restart_in_s=pause_s, **({"error": why} if why else {}),
            )  # fmt: skip
            await asyncio.sleep(pause_s)
            try:
                return await self._spawn()
            except OSError as exc:  # no memory or process left: what ended the last one may keep the next away a while
                why = str(exc)

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "engine.edge",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT_BYTES,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on, in order
        )  # fmt: skip
        self.pid = process.pid
        self.say(self._start_message(self.number))
        return process

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                self._unheard = 0
                try:
                    message = json.loads(line)
                except ValueError:
                    _log.warning("edge_said_no_json", size_bytes=len(line))
                    continue
                try:
                    self._hear(self, message)
                except Exception as exc:  # noqa: BLE001 - who stops listening does not see it die, nor starts it again
                    _log.error("edge_message_failed", worker=self.number, error=repr(exc)[:300])
        finally:
            self.ready.clear()
            self._hear(self, {"is": "gone"})
            await process.wait()
