"""The workers of the phones' port as the main process has them: started, listened to, started again when one dies."""

import asyncio
import sys
import time
from collections.abc import Callable

import structlog

from engine import phones_files
from engine.config import Config, Listen
from engine.e911.location import Sighting
from engine.phones_files import Gathered
from engine.phones_line import Fetches, Files, Rendered, Sighted, Up, WorkerSettings, frame, read_frame
from engine.provisioning.http import PhonesPort

STOP_WITHIN_S = 5.0
MAX_UNSENT_BYTES = 8 * 1024 * 1024  # a worker hangs: it is told no more files, and renders by itself
RESTART_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 5.0)
_log = structlog.get_logger()


class PhonesWorkers:
    """All but the first process of the phones' port: the main process is one of them itself.

    Args:
        port: The main process's own, which writes what they have seen.
        sighted: Takes what phones measured of their attachment.
    """

    def __init__(self, config: Config, port: PhonesPort, sighted: Callable[[str, Sighting], None]) -> None:
        self.wanted = config.provisioning.workers - 1
        self._config, self._port, self._sighted = config, port, sighted
        self._keepers: list[asyncio.Task[None]] = []
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self.up: set[int] = set()  # numbers of those that listen

    def start(self, listen: Listen) -> None:
        """Start them at that address. A phone is answered meanwhile: the main process listens there already."""
        settings = frame(WorkerSettings(self._config, listen))
        if self.wanted:
            self._port.kept.on_made = Gathered(self._share).note
        for number in range(1, self.wanted + 1):
            self._keepers.append(asyncio.create_task(self._keep(number, settings), name=f"phones {number}"))

    async def stop(self) -> None:
        """End them; what they have seen and not told yet comes first."""
        for process in self._processes.values():
            if process.stdin is not None:
                process.stdin.close()
        keepers, self._keepers = self._keepers, []
        if keepers:
            _done, late = await asyncio.wait(keepers, timeout=STOP_WITHIN_S)
            for process in self._processes.values() if late else ():
                process.kill()
            for keeper in late:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    def _share(self, message: Files, but: int = 0) -> None:
        """What one process has made, to all the others."""
        written = frame(message)
        for number, process in self._processes.items():
            if number == but or process.stdin is None or process.stdin.is_closing():
                continue
            if process.stdin.transport.get_write_buffer_size() < MAX_UNSENT_BYTES:
                process.stdin.write(written)

    async def _keep(self, number: int, settings: bytes) -> None:
        """One of them, for as long as it is wanted."""
        failures = 0
        while self._keepers:
            started = time.monotonic()
            try:
                await self._once(number, settings)
            except OSError as exc:  # no memory or process left
                _log.warning("phones_worker_not_started", worker=number, error=str(exc))
            if not self._keepers:
                return
            failures = 0 if time.monotonic() - started > max(RESTART_PAUSES_S) else failures + 1
            pause_s = RESTART_PAUSES_S[min(failures, len(RESTART_PAUSES_S) - 1)]
            _log.error("phones_worker_died", worker=number, restart_in_s=pause_s, meaning="the others serve phones on")
            await asyncio.sleep(pause_s)

    async def _once(self, number: int, settings: bytes) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "engine.phones_worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on, in order
        )  # fmt: skip
        self._processes[number] = process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(settings)
        try:
            while True:
                await self._hear(number, await read_frame(process.stdout))
        except asyncio.IncompleteReadError:
            pass
        except Exception as exc:  # noqa: BLE001 - a worker we no longer understand is no worker: it is started anew
            _log.error("phones_worker_unheard", worker=number, error=repr(exc)[:300])
            process.kill()
        finally:
            del self._processes[number]
            self.up.discard(number)
            if process.returncode is None and self._keepers:
                process.kill()
            await process.wait()

    async def _hear(self, number: int, message: object) -> None:
        match message:
            case Up():
                self.up.add(number)
            case Fetches(noted):
                self._port.log.take(noted)
            case Files(made):
                phones_files.keep(self._port.kept, made)
                self._share(message, but=number)
            case Sighted(account_id, sighting):
                self._sighted(account_id, sighting)
            case Rendered(etag, name, pattern, config, overrides):
                profile = self._port.renderer.vendors.profiles.get(name)
                rule = (
                    next((each for each in profile.files if each.pattern.pattern == pattern), None) if profile else None
                )
                if profile is not None and rule is not None and self._port.on_rendered is not None:
                    self._port.on_rendered(etag, profile, rule, config, overrides)
            case _:
                raise ValueError(f"not a message of a worker: {type(message).__name__}")
