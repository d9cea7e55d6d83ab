"""What the main process tells the SIP process to do: one JSON object per line of its standard input, done beside the
calls.
"""

import asyncio
import gc
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.crypto import KeyRing
from engine.e911 import snapshot
from engine.e911.hook import route_hop
from engine.e911.location import AccountTable, LocationTable
from engine.e911.route import credentials_of
from engine.e911.trunks import TrunkWatch
from engine.e911.waiting import ReferenceWait
from engine.edge.line import Lines
from engine.edge.owner import Owner
from engine.sip.auth import Credentials
from engine.sip.forward import Hop
from engine.sip.stack import SipStack

NOTIFY_TIMEOUT_S = 8.0
TAKE_OVER_POLL_S = 0.2
MAX_LINE_BYTES = 4 * 1024 * 1024  # a location of 64 kB grows sixfold where each character has to be escaped
READING_SWITCH_S = 0.0001  # a call gives the interpreter away at each send and receive, and has it back after this
READING_PAUSE_S = 0.0005


class Waiting:
    """Commands that are still to be done, in their order. Many changes of an account in a row are one reading: what is
    still to be read is read as it will be then.
    """

    def __init__(self) -> None:
        self._commands: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._to_load: set[str] = set()

    def put(self, command: Mapping[str, Any]) -> None:
        if command["do"] == "drop":
            self._to_load.discard(str(command["account_id"]))
        elif command["do"] == "load":
            if str(command["account_id"]) in self._to_load:
                return
            self._to_load.add(str(command["account_id"]))
        self._commands.put_nowait(command)

    async def get(self) -> Mapping[str, Any]:
        command = await self._commands.get()
        if command["do"] == "load":
            self._to_load.discard(str(command["account_id"]))
        return command


class Orders:
    """Obeys until standard input ends; then waits for somebody younger to take over.

    Args:
        folder: Where the snapshots lie.
        pump: Called when the stack has something to send.
        changed: Called when the table has changed.
        stats: The counters to answer `stats` with.
        stop: Set when this process shall end.
        references: Who waits for what the main process fetches.
    """

    def __init__(
        self,
        *,
        folder: Path,
        keys: KeyRing,
        lines: Lines,
        owner: Owner,
        table: LocationTable,
        trunks: TrunkWatch,
        stack: SipStack,
        pump: Callable[[], None],
        changed: Callable[[], None],
        stats: Callable[[], dict[str, object]],
        stop: asyncio.Event,
        references: ReferenceWait,
    ) -> None:
        self._folder, self._keys, self._lines, self._owner = folder, keys, lines, owner
        self._table, self._trunks, self._stack = table, trunks, stack
        self._pump, self._changed, self._stats, self._stop = pump, changed, stats, stop
        self._references = references
        self._loop = asyncio.get_running_loop()
        self._later = Waiting()

    async def obey(self) -> None:
        """Read commands until stdin ends; then see whether somebody younger took over."""
        reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        transport, _ = await self._loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
        )
        doing = self._loop.create_task(self._do_all())
        while True:
            try:
                if not (line := await reader.readline()):
                    break
                command = json.loads(line)
                if not self._do_at_once(command):
                    self._later.put(command)
            except Exception as exc:  # noqa: BLE001 - one bad line must not end the hearing of all that follow
                self._lines.log("command_refused", level="error", error=repr(exc)[:300])
        transport.close()
        self._references.main_gone()
        self._lines.log("main_process_gone", level="warning", detail="calls are served on")
        try:
            while not self._stop.is_set():
                await asyncio.sleep(TAKE_OVER_POLL_S)
                if self._owner.is_taken_over():
                    self._lines.log("taken_over", detail="a younger process serves this data folder")
                    self._stop.set()
                    return
        finally:
            doing.cancel()

    def follow_table(self) -> None:
        """Let everybody know that the table is another one now."""
        self._trunks.follow_table(self._default_routes())
        self._changed()

    def _do_at_once(self, command: Mapping[str, Any]) -> bool:
        """What a call may be waiting for does not queue behind an account that is being read."""
        match command["do"]:
            case "located":
                self._references.located(command)
            case "ping":
                self._lines.tell(**{"is": "alive"})
            case "seen":
                self._table.note_sighting(str(command["account_id"]), snapshot.read_sighting(command))
            case _:
                return False
        return True

    async def _do_all(self) -> None:
        """The other commands, in their order."""
        while True:
            command = await self._later.get()
            try:
                await self._do(command)
            except Exception as exc:  # noqa: BLE001 - as above: else no location would ever change again
                self._lines.log("command_refused", level="error", error=repr(exc)[:300])

    async def _do(self, command: Mapping[str, Any]) -> None:
        match command["do"]:
            case "load":
                await self._load(str(command["account_id"]))
            case "drop":
                dropped = [old] if (old := self._table.accounts.get(str(command["account_id"]))) is not None else []
                old = None
                self._table.drop(str(command["account_id"]))
                self.follow_table()
                await asyncio.to_thread(_free, dropped)
            case "notify":
                self._notify(command)
            case "stats":
                self._lines.tell(**{"is": "stats"}, token=command.get("token"), **self._stats())
            case "stop":
                self._stop.set()
            case other:
                raise ValueError(f"no such command: {other!r}")

    async def _load(self, account_id: str) -> None:
        """Read an account's new snapshot beside the calls; its old table serves until then, or on when the new one is
        bad.
        """
        try:
            account = await self._read(account_id)
        except snapshot.BadSnapshot as exc:
            self._lines.log("snapshot_fault", level="error", account_id=account_id, detail=exc.detail)
            self._lines.tell(**{"is": "fault"}, account_id=account_id, detail=exc.detail)
            return
        for fault in account.faults:
            self._lines.log("snapshot_fault", level="error", account_id=account_id, detail=fault)
        replaced = [old] if (old := self._table.accounts.get(account_id)) is not None else []
        old = None
        self._table.put(account)
        self.follow_table()
        gc.freeze()  # tables hold no cycles: the collector need not walk them
        await asyncio.to_thread(_free, replaced)

    async def _read(self, account_id: str) -> AccountTable:
        """Read in a thread that gives the interpreter back at once and pauses, for the calls' sake."""
        usual_s = sys.getswitchinterval()
        sys.setswitchinterval(READING_SWITCH_S)
        try:
            return await asyncio.to_thread(snapshot.load, self._folder, account_id, self._keys, pause_s=READING_PAUSE_S)
        finally:
            sys.setswitchinterval(usual_s)

    def _notify(self, command: Mapping[str, Any]) -> None:
        target, token = command["target"], ("notify", command.get("token"))
        hop = Hop(str(target["transport"]), str(target["ip"]), int(target["port"]), 0, str(target.get("host", "")))
        headers = [(str(name), str(value)) for name, value in command.get("headers", ())]
        uri = str(command["request_uri"])
        if any(char in text for text in (uri, *(part for pair in headers for part in pair)) for char in "\r\n"):
            raise ValueError("a NOTIFY without line breaks in its headers was expected")
        now, pbx = self._loop.time(), self._table.peer_of(hop.ip)
        credentials = credentials_of(pbx[1]) if pbx is not None else None
        self._stack.send_request(
            "NOTIFY", uri, hop, headers, b"", token, now, NOTIFY_TIMEOUT_S, credentials, _line_credentials(command)
        )
        self._pump()

    def _default_routes(self) -> set[tuple[str, int | None, str]]:
        pbxs = [pbx for account in self._table.accounts.values() for pbx in account.pbxs.values()]
        routes = {hop for pbx in pbxs if pbx.default_route and (hop := route_hop(pbx.default_route)) is not None}
        registrars = {(pbx.registrar_host, pbx.registrar_port, pbx.transport) for pbx in pbxs if pbx.registrar_host}
        return routes | registrars


def _line_credentials(command: Mapping[str, Any]) -> Credentials | None:
    """The phone's own, as its line has them: many phones ask whoever resyncs them for these."""
    given = command.get("credentials")
    return Credentials(str(given["user"]), str(given["secret"])) if given else None


def _free(tables: list[AccountTable]) -> None:
    """Let go of tables nobody uses any more, row by row: see `AccountTable.dissolve`."""
    while tables:
        rows = tables.pop().dissolve()
        for each in rows:
            while each:
                each.pop()
