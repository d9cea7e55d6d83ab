"""The edge's end of the line to the main process: the start line that is its configuration, and the lines it writes."""

import json
import logging
import os
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.e911.entries import instant
from engine.e911.waiting import WAIT_S
from engine.sip.tls import TlsFiles
from engine.sip.transports import Listening

PING_S = 20.0  # how often a trunk is asked whether it lives
MAX_START_LINE_BYTES = 65_536
MAX_TRACE = 4000  # characters
# towards a main process that does not read; beyond it lines are given up, the journal has all that counts
MAX_WAITING_LINES = 2_000


@dataclass(frozen=True, slots=True)
class Settings:
    """The start line. `udp`, `tcp` and `tls` are `host:port`, one for each address family with a comma between, empty
    for none; port 0 takes any. `advertise` is `host` or `host:port`, again one for each family. The files are paths of
    PEM files, empty for none.
    """

    data_dir: Path
    key_file: Path
    udp: str = ""
    tcp: str = ""
    tls: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    client_ca: str = ""
    tls_ca: str = ""
    advertise: str = ""
    first_response_s: float = 2.0
    connect_s: float = 1.0
    ping_s: float = PING_S
    location_wait_s: float = WAIT_S  # the main process never says another
    location_hosts: tuple[str, ...] = ()  # `host` or `host:port` of servers that may be asked for a location
    worker: int = 0  # which of several SIP processes this is
    workers: int = 1
    family: str = ""  # of SIP processes that one main process started
    held_url: str = ""  # where location references are served (`references.held_url_of`); "" makes none

    @property
    def listening(self) -> Listening:
        """Where to listen. Raises ValueError for what is no address."""
        return Listening(
            udp=[host_port(each) for each in listed(self.udp)],
            tcp=[host_port(each) for each in listed(self.tcp)],
            tls=[host_port(each, 5061) for each in listed(self.tls)],
            advertised=[(host, port or None) for host, port in (host_port(each, 0) for each in listed(self.advertise))],
        )

    @property
    def tls_files(self) -> TlsFiles:
        names = (self.tls_cert, self.tls_key, self.client_ca, self.tls_ca)
        return TlsFiles(*(Path(name) if name else None for name in names))

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> "Settings":
        """From the start line; raises ValueError for what it does not hold or hold rightly."""
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in line.items() if name in known}
        for name in ("data_dir", "key_file"):
            values[name] = Path(values.get(name) or "")
            if not line.get(name):
                raise ValueError(f"{name} was expected in the start line, got none")
        for name in values.keys() & {"first_response_s", "connect_s", "ping_s", "location_wait_s"}:
            values[name] = float(values[name])
        values["location_hosts"] = tuple(str(host).lower() for host in values.get("location_hosts") or ())
        return cls(**values)


def listed(text: str) -> list[str]:
    """What stands between commas."""
    return [each.strip() for each in text.split(",") if each.strip()]


def host_port(text: str, default_port: int = 5060) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or a host alone."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = text, ""
    return host.strip("[]"), int(port) if port else default_port


class Lines:
    """Writes lines to stdout and stderr from a thread of its own: a reader that has stopped reading stops nothing
    here.
    """

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._gone: set[int] = set()
        self._journal_told = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def tell(self, **message: object) -> None:
        """One message to the main process."""
        self._put(1, message)

    def log(self, event: str, *, level: str = "info", **values: object) -> None:
        """One line for the operator."""
        self._put(
            2, {"event": event, "level": level, "timestamp": instant(datetime.now(UTC)), "process": "edge"} | values
        )

    def tell_journal(self) -> None:
        """New journal entries are durable; said once for as many as come before it is written."""
        if not self._journal_told.is_set():
            self._journal_told.set()
            self.tell(**{"is": "journal"})

    def close(self) -> None:
        """Write what waits, for at most a second."""
        self._lines.put(None)
        self._thread.join(1.0)

    def _put(self, descriptor: int, message: Mapping[str, object]) -> None:
        if self._lines.qsize() < MAX_WAITING_LINES:
            self._lines.put((descriptor, json.dumps(message, separators=(",", ":"), default=str).encode() + b"\n"))

    def _run(self) -> None:
        while (item := self._lines.get()) is not None:
            descriptor, line = item
            if descriptor == 1:
                self._journal_told.clear()
            if descriptor not in self._gone:
                self._write(descriptor, line)

    def _write(self, descriptor: int, line: bytes) -> None:
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError:  # nobody reads any more
            self._gone.add(descriptor)


class LibraryLines(logging.Handler):
    """What libraries log, asyncio's own faults among it, goes the same way. Written to stderr as `logging` does of its
    own accord it would hold every call up until somebody reads that.
    """

    def __init__(self, lines: Lines) -> None:
        super().__init__(logging.WARNING)
        self._to = lines

    def emit(self, record: logging.LogRecord) -> None:
        told = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        values = {"trace": told[-MAX_TRACE:]} if told else {}
        self._to.log(record.getMessage()[:MAX_TRACE], level=record.levelname.lower(), logger=record.name, **values)


def start_line() -> dict[str, Any]:
    """The first line of stdin, no byte more: what follows is for the loop."""
    line = bytearray()
    while (byte := os.read(0, 1)) not in {b"", b"\n"} and len(line) < MAX_START_LINE_BYTES:
        line += byte
    start = json.loads(line)
    if not isinstance(start, dict) or start.get("do") != "start":
        raise ValueError('{"do":"start", …} was expected as the first line')
    return start
