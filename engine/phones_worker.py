"""One more process behind the phones' port: it answers phones and HELD, and writes nothing.

Theory of operation. Workers listen on the port of the main process (SO_REUSEPORT), so that the kernel shares out what
connects. Each reads the database by connections of its own, whence a rotated token is dead in all of them with the same
commit. What one has rendered all of them keep (`phones_files`). What they have seen (fetches, what a file was rendered
from, measured sightings) goes to the main process over their standard output; that process alone writes, and a storm of
boots never keeps the record of a 911 call from the database. A worker ends when its standard input does.
"""

import asyncio
import contextlib
import ctypes
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from engine import crypto, garbage, log, phones_files
from engine.audit.record import open_audited
from engine.certificate_watch import PHONES, CertificateWatch
from engine.doors import phones_tls
from engine.e911.location import Sighting
from engine.errors import EngineError
from engine.held_server import serve_held
from engine.phones_line import Fetches, Files, Rendered, Sighted, Up, WorkerSettings, frame, read_frame
from engine.provisioning.assetstore import AssetStore
from engine.provisioning.fetches import Noted
from engine.provisioning.http import make_phones_port
from engine.provisioning.kept import KeptFiles
from engine.provisioning.render import PhoneConfig
from engine.provisioning.vendors import FileRule, Profile
from engine.sip.accepting import AT_ONCE, keep_waiting

MAX_UNSENT_BYTES = 32 * 1024 * 1024  # the main process hangs: events are let go, phones are answered on
PR_SET_PDEATHSIG = 1  # prctl(2)


class _Told:
    """The way to the main process. Nothing here waits."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    def say(self, message: object) -> None:
        if self._transport.get_write_buffer_size() < MAX_UNSENT_BYTES:
            self._transport.write(frame(message))

    def fetches(self, noted: Sequence[Noted]) -> None:
        self.say(Fetches(list(noted)))

    def rendered(
        self, etag: str, profile: Profile, rule: FileRule, config: PhoneConfig, overrides: Mapping[str, str]
    ) -> None:
        self.say(Rendered(etag, profile.name, rule.pattern.pattern, config, dict(overrides)))

    def sighted(self, account_id: str, sighting: Sighting) -> None:
        self.say(Sighted(account_id, sighting))


async def _serve(settings: WorkerSettings, commands: asyncio.StreamReader, told: _Told) -> None:
    section, data = settings.config.provisioning, Path(settings.config.core.data_dir)
    keys = crypto.load(settings.config.key_file)
    database = open_audited(settings.config.database_url, keys)
    port = make_phones_port(section, keys, database, AssetStore(data / "assets"))
    port = replace(port, last_fetched=None, on_rendered=told.rendered)
    port.log.forward, port.kept.on_made = told.fetches, phones_files.Gathered(told.say).note
    serve_held(port, database, keys, data / "snapshot", note=told.sighted)
    runner = port.runner()
    certificates = CertificateWatch.of(settings.config, (PHONES,))
    watching = asyncio.create_task(certificates.run())
    try:
        await runner.setup()
        context = certificates.follow(PHONES, phones_tls(section, port.admission.authorities))
        site = web.TCPSite(
            runner, settings.listen.host, settings.listen.port, ssl_context=context, backlog=AT_ONCE, reuse_port=True
        )
        await site.start()
        keep_waiting(site._server)  # noqa: SLF001 - aiohttp hands it to nobody
        garbage.settle()
        told.say(Up())
        await _hear(commands, port.kept)
    finally:
        watching.cancel()
        await runner.cleanup()
        await port.close()
        await database.close()


async def _hear(commands: asyncio.StreamReader, files: KeptFiles) -> None:
    """Keep what the other processes have made, until the main process lets go."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            match await read_frame(commands):
                case Files(made):
                    phones_files.keep(files, made)
                case other:
                    raise ValueError(f"not a message of the main process: {type(other).__name__}")


async def _begin() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin.buffer)
    settings = await read_frame(commands)
    log.set_up(settings.config.log)
    transport, _protocol = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout.buffer)
    try:
        await _serve(settings, commands, _Told(transport))
    finally:
        transport.close()


def _end_with_parent() -> None:
    """Whatever this process is doing when the main process is gone: one that hangs must not keep taking phones."""
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Run the process; exit codes: 0 stopped as asked, 1 could not start."""
    _end_with_parent()
    try:
        asyncio.run(_begin())
    except (OSError, EngineError, asyncio.IncompleteReadError) as exc:
        print(f"A worker of the phones' port ended: {exc}", file=sys.stderr)  # noqa: T201 - before or after the log
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
