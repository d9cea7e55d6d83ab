"""The SIP process: `python -m engine.edge`, started by the main process and able to outlive it.

It holds the sockets, the location table in memory and the journal's writer, and imports no database, HTTP server or
template: no page, query or mail can delay a 911 call. From a datagram in to a datagram out nothing is awaited; what
became of a call goes to the journal after it has left.

Its first line of stdin is `{"do":"start", …}` (see `Settings`); one JSON object per line follows in both directions:
in  load, drop (an account's snapshot changed), notify (send a NOTIFY), stats, stop
out ready, failed, journal, trunk, notified, stats, fault, stopping, stopped
The end of stdin means that the main process is gone: calls are served on until a younger SIP process takes over the
same data folder, or SIGTERM. Logs go to stderr, one JSON object per line.
"""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from engine import crypto
from engine.e911 import snapshot
from engine.e911.carriers import load_profiles
from engine.e911.entries import CallEvent, CallRecorder, Stranger, instant
from engine.e911.flood import StrangerLimit
from engine.e911.hook import PROOF_PURPOSE, Decision, Hook, route_hop
from engine.e911.journal import JournalWriter
from engine.e911.location import AccountTable, LocationTable
from engine.e911.route import Deadlines
from engine.e911.trunks import TrunkWatch
from engine.edge_line import Lines, Settings, host_port, start_line
from engine.edge_owner import Owner
from engine.errors import ConfigFault
from engine.ids import new_id
from engine.sip.events import (
    AttemptEnded,
    AttemptStarted,
    DialogEnded,
    Event,
    Finished,
    MessageRefused,
    OwnRequestEnded,
    RequestReceived,
)
from engine.sip.forward import Hop
from engine.sip.proxy import is_pending
from engine.sip.resolve import Resolver
from engine.sip.stack import SipStack
from engine.sip.stream import TcpShell
from engine.sip.transaction import ServerTransaction
from engine.sip.udp import UdpShell

MARK_PURPOSE = "record-route"
PING_TIMEOUT_S = 3.0  # three retransmissions over UDP
TICK_S = 0.5
NOTIFY_TIMEOUT_S = 8.0
STOP_WITHIN_S = 5.0
TAKE_OVER_POLL_S = 1.0
SWITCH_INTERVAL_S = 0.0005  # a thread reading a snapshot gives the interpreter back after half a millisecond, not five
MAX_KEPT_ADDRESSES = 4_096


class Edge:
    """The process's parts, wired. Everything but the snapshot reader and the journal's writer runs on the loop's own
    thread.
    """

    def __init__(self, settings: Settings, lines: Lines) -> None:
        self._settings, self._lines = settings, lines
        self._keys = crypto.load(settings.key_file)
        self._loop = asyncio.get_running_loop()
        self._table = LocationTable()
        self._resolver = Resolver()
        self._trunks = TrunkWatch(self._table, self._resolver, ping_s=settings.ping_s, on_change=self._trunk_changed)
        self._strangers = StrangerLimit()
        self._journal = JournalWriter(
            settings.data_dir / "journal", self._keys, on_durable=lines.tell_journal, on_fault=self._journal_fault
        )
        self._recorder = CallRecorder(self._journal.put)
        profiles = load_profiles()
        self._faults = list(profiles.faults)
        self._hook = Hook(
            self._table,
            profiles=profiles,
            hops_of=self._resolver.hops,
            down=self._trunks.down,
            trunk_ips=self._trunks.ips,
            deadlines=Deadlines(settings.first_response_s, settings.connect_s),
            proof_key=self._keys.subkey(PROOF_PURPOSE),
            make_call_id=lambda: new_id("call"),
        )
        self._stack = SipStack(
            addresses=self._address_towards,
            make_branch=lambda: f"z9hG4bK{os.urandom(9).hex()}",
            make_tag=lambda: os.urandom(8).hex(),
            mark_key=self._keys.subkey(MARK_PURPOSE),
            is_emergency=self._hook.is_emergency,
            is_trusted=self._hook.is_trusted,
            resolve=self._resolver.address,
        )
        self._udp = UdpShell(receive=self._receive_datagram, drained=self._pump, failed=self._transport_failed)
        self._tcp = TcpShell(
            receive=self._receive,
            drained=self._pump,
            failed=self._transport_failed,
            connected=self._transport_connected,
            connect_s=settings.connect_s,
        )
        self._bound = {"udp": ("", 0), "tcp": ("", 0)}
        self._local: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sent_events: list[CallEvent] = []
        self._others: deque[ServerTransaction] = deque(maxlen=1024)  # requests that are no emergency, for a clean stop
        self._is_stopping = False
        self._stop = asyncio.Event()
        self._owner = Owner(settings.data_dir)

    async def run(self) -> None:
        """Serve until told to stop; raises OSError when a socket cannot be had."""
        self._load_all()
        await self._open()
        self._owner.claim()
        gc.collect()
        gc.freeze()  # what was loaded stays; the collector need not walk it in the middle of a call
        gc.set_threshold(10_000, 20, 50)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        tasks = [self._loop.create_task(work) for work in (self._resolver.run(), self._tick(), self._obey())]
        bound = {name: f"{_bracketed(host)}:{port}" if port else "" for name, (host, port) in self._bound.items()}
        self._lines.tell(**{"is": "ready"}, **bound, accounts=len(self._table.accounts), faults=self._faults)
        await self._stop.wait()
        await self._finish()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- start and stop -----------------------------------------------------------------------------------------------

    def _load_all(self) -> None:
        loaded = snapshot.load_all(self._settings.data_dir / "snapshot", self._keys)
        for account in loaded.tables:
            self._table.put(account)
            self._faults += [f"{account.account_id}: {fault}" for fault in account.faults]
        self._faults += loaded.faults
        for fault in self._faults:
            self._lines.log("snapshot_fault", level="error", detail=fault)
        self._trunks.follow_table(self._default_routes())

    async def _open(self) -> None:
        kinds = ((socket.SOCK_DGRAM, self._settings.udp), (socket.SOCK_STREAM, self._settings.tcp))
        self._owner.refuse_strangers((kind, *host_port(text)) for kind, text in kinds if text)
        if self._settings.udp:
            self._bound["udp"] = self._udp.open(*host_port(self._settings.udp))
        if self._settings.tcp:
            self._bound["tcp"] = await self._tcp.open(*host_port(self._settings.tcp))

    async def _finish(self) -> None:
        """Take no new work but emergencies; let calls in progress be answered; make the journal durable."""
        self._is_stopping = True
        self._lines.tell(**{"is": "stopping"})
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                while self._recorder.unanswered or any(is_pending(other) for other in self._others):  # noqa: ASYNC110 - for 5 s, once
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self._lines.log("stopped_with_calls_in_progress", level="warning", calls=self._recorder.unanswered)
        self._udp.close()
        await self._tcp.close()
        if not await asyncio.to_thread(self._journal.close):
            self._lines.log("journal_not_flushed", level="error", entries=self._journal.waiting)
        self._lines.tell(**{"is": "stopped"})

    # --- messages in and out ------------------------------------------------------------------------------------------

    def _receive_datagram(self, data: bytes, hop: Hop) -> None:
        now = self._loop.time()
        # those a default route leads to may answer as much as they like; they are trusted with nothing else
        if self._hook.is_trusted(hop) or hop.ip in self._trunks.route_ips or self._strangers.hears(hop.ip, now):
            self._stack.receive(data, hop, now)
            self._send_out()

    def _receive(self, data: bytes, hop: Hop) -> None:
        self._stack.receive(data, hop, self._loop.time())
        self._send_out()

    def _transport_failed(self, hop: Hop) -> None:
        self._stack.transport_failed(hop, self._loop.time())
        self._pump()

    def _transport_connected(self, hop: Hop) -> None:
        self._stack.transport_connected(hop, self._loop.time())
        self._pump()

    def _pump(self) -> None:
        """Events, then messages out, then the next timer and the record of what has left."""
        self._send_out()
        self._arm(self._stack.next_timer())
        if self._sent_events:
            self._record()

    def _send_out(self) -> None:
        """Decide what is asked and send what is ready, after each message: a 911 waits for nothing behind it."""
        stack, now = self._stack, self._loop.time()
        while (event := stack.next_event()) is not None:
            try:
                self._on_event(event, now)
            except Exception as exc:  # noqa: BLE001 - one bad request must not end the process that takes 911 calls
                self._lines.log("event_failed", level="error", of=type(event).__name__, error=repr(exc)[:500])
        for data, hop in stack.take_outgoing():
            (self._udp if hop.transport == "udp" else self._tcp).send(data, hop)

    def _arm(self, when: float | None) -> None:
        if self._timer is not None:
            if self._timer.when() == when and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._timer_due) if when is not None else None

    def _timer_due(self) -> None:
        self._timer = None
        self._udp.drain()  # after a stall, an answer that is here already counts before the deadline it missed
        self._stack.handle_timer(self._loop.time())
        self._pump()

    def _on_event(self, event: Event, now: float) -> None:
        if isinstance(event, RequestReceived):
            self._on_request(event, now)
        elif isinstance(event, AttemptStarted | AttemptEnded | Finished | DialogEnded):
            self._sent_events.append(event)
        elif isinstance(event, OwnRequestEnded):
            self._on_own_request(event)
        elif isinstance(event, MessageRefused):
            self._on_refused(event, now)

    def _on_request(self, event: RequestReceived, now: float) -> None:
        at = datetime.now(UTC)
        try:
            decision = self._hook.decide(event.request, event.source, at)
        except Exception as exc:  # noqa: BLE001 - a fault of ours in finding the location must not end a 911 call
            self._lines.log("decision_failed", level="critical", error=repr(exc)[:500])
            decision = self._hook.decide_plainly(event.request, event.source, at)
        if decision.forward is not None and (decision.call is not None or not self._is_stopping):
            self._stack.forward(event.transaction, decision.forward, now)
            if decision.call is None:
                self._others.append(event.transaction)
            return
        self._answer(event, decision, now, at)

    def _answer(self, event: RequestReceived, decision: Decision, now: float, at: datetime) -> None:
        status, reason = decision.status or 503, decision.reason or "Service Unavailable"
        self._stack.respond(event.transaction, status, reason, decision.headers, now=now)
        if decision.call is not None:
            self._recorder.unroutable(decision.call, event.request.raw, status, at)
            self._lines.log(
                "emergency_call_unroutable", level="critical", call_id=decision.call.id, headers=decision.headers
            )
        if decision.stranger is not None and self._strangers.records(decision.stranger, now):
            self._recorder.stranger(decision.stranger)

    def _on_refused(self, event: MessageRefused, now: float) -> None:
        if self._hook.is_trusted(event.source):
            self._lines.log("message_refused", level="warning", source=event.source.ip, detail=event.detail)
        elif event.method is not None:
            stranger = Stranger(event.source, event.method, event.request_uri or "", "", False, datetime.now(UTC))
            if self._strangers.records(stranger, now):
                self._recorder.stranger(stranger)

    def _on_own_request(self, event: OwnRequestEnded) -> None:
        purpose, value = event.token if isinstance(event.token, tuple) else ("", None)
        if purpose == "ping":
            self._trunks.pinged(value, event.status)
        elif purpose == "notify":
            self._lines.tell(**{"is": "notified"}, token=value, status=event.status or 408)

    def _record(self) -> None:
        events, self._sent_events = self._sent_events, []
        utc, now = datetime.now(UTC), self._loop.time()
        for event in events:
            try:
                self._record_one(event, utc, utc - timedelta(seconds=max(0.0, now - event.at)))
            except Exception as exc:  # noqa: BLE001 - what cannot be recorded must not keep the next from being
                self._lines.log("record_failed", level="critical", of=type(event).__name__, error=repr(exc)[:500])

    def _record_one(self, event: CallEvent, utc: datetime, at: datetime) -> None:
        match event:
            case AttemptStarted():
                received_at = getattr(event.tag, "received_at", utc)  # no attempt comes before its cause
                self._recorder.attempt_started(event, max(at, received_at))
            case AttemptEnded():
                self._recorder.attempt_ended(event, at)
                self._learn_from(event)
            case Finished():
                self._recorder.finished(event, at)
            case DialogEnded():
                self._recorder.dialog_ended(event, at)

    def _learn_from(self, event: AttemptEnded) -> None:
        """A call tells about its trunk sooner than the next ping."""
        if event.outcome != "cancelled":
            is_up = event.outcome in {"answered", "refused"} and event.status != 503
            detail = f"a call was {event.outcome}" + (f" ({event.status})" if event.status else "")
            self._trunks.seen(event.target.name, is_up=is_up, detail=detail)

    def _address_towards(self, hop: Hop) -> tuple[str, int]:
        """What the peer at a hop should call us: what is advertised, what is bound, or the address of the route to
        it.
        """
        host, port = self._bound.get(hop.transport, ("", 0))
        if self._settings.advertise:
            return host_port(self._settings.advertise, port)
        if host not in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
            return host, port
        local = self._local.get(hop.ip)
        if local is None:
            if len(self._local) >= MAX_KEPT_ADDRESSES:
                self._local.clear()
            local = self._local[hop.ip] = _local_address(hop.ip)
        return local, port

    # --- beside the calls ---------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        """Pings, and addresses of trunks that were resolved meanwhile."""
        while True:
            self._trunks.refresh_ips()
            now = self._loop.time()
            for name, hop in self._trunks.take_due(now):
                uri = f"sip:{_bracketed(name[0])}:{name[1]}" + (";transport=tcp" if name[2] == "tcp" else "")
                self._stack.send_request("OPTIONS", uri, hop, (), b"", ("ping", name), now, PING_TIMEOUT_S)
            self._pump()
            await asyncio.sleep(TICK_S)

    async def _obey(self) -> None:
        """Read commands until stdin ends; then see whether somebody younger took over."""
        reader = asyncio.StreamReader()
        transport, _ = await self._loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
        )
        while line := await reader.readline():
            try:
                command = json.loads(line)
                await self._do(command)
            except (ValueError, TypeError, KeyError, AttributeError) as exc:
                self._lines.log("command_refused", level="error", error=repr(exc)[:300])
        transport.close()
        self._lines.log("main_process_gone", level="warning", detail="calls are served on")
        while not self._is_stopping:
            await asyncio.sleep(TAKE_OVER_POLL_S)
            if self._owner.is_taken_over():
                self._lines.log("taken_over", detail="a younger process serves this data folder")
                self._stop.set()
                return

    async def _do(self, command: Mapping[str, Any]) -> None:
        match command["do"]:
            case "load":
                await self._load(str(command["account_id"]))
            case "drop":
                dropped = [old] if (old := self._table.accounts.get(str(command["account_id"]))) is not None else []
                old = None
                self._table.drop(str(command["account_id"]))
                self._trunks.follow_table(self._default_routes())
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
        directory = self._settings.data_dir / "snapshot"
        gc.disable()  # tables hold no cycles; a collection in the middle of building one would walk all of it
        try:
            account = await asyncio.to_thread(snapshot.load, directory, account_id, self._keys)
        except snapshot.BadSnapshot as exc:
            self._lines.log("snapshot_fault", level="error", account_id=account_id, detail=exc.detail)
            self._lines.tell(**{"is": "fault"}, account_id=account_id, detail=exc.detail)
            return
        finally:
            gc.enable()
        for fault in account.faults:
            self._lines.log("snapshot_fault", level="error", account_id=account_id, detail=fault)
        replaced = [old] if (old := self._table.accounts.get(account_id)) is not None else []
        old = None
        self._table.put(account)
        self._trunks.follow_table(self._default_routes())
        gc.freeze()
        await asyncio.to_thread(_free, replaced)

    def _notify(self, command: Mapping[str, Any]) -> None:
        target, token = command["target"], ("notify", command.get("token"))
        hop = Hop(str(target["transport"]), str(target["ip"]), int(target["port"]))
        headers = [(str(name), str(value)) for name, value in command.get("headers", ())]
        uri = str(command["request_uri"])
        if any(char in text for text in (uri, *(part for pair in headers for part in pair)) for char in "\r\n"):
            raise ValueError("a NOTIFY without line breaks in its headers was expected")
        self._stack.send_request("NOTIFY", uri, hop, headers, b"", token, self._loop.time(), NOTIFY_TIMEOUT_S)
        self._pump()

    def _stats(self) -> dict[str, object]:
        servers, clients = self._stack.transaction_counts
        return {
            "accounts": len(self._table.accounts),
            "calls_unanswered": self._recorder.unanswered,
            "journal_waiting": self._journal.waiting,
            "journal_lost": self._journal.lost,
            "server_transactions": servers,
            "client_transactions": clients,
            "datagrams_dropped": self._udp.dropped,
            "receive_buffer_bytes": self._udp.receive_buffer_bytes,
            "trunks_down": sorted(self._trunks.down),
        }

    def _default_routes(self) -> set[tuple[str, int | None, str]]:
        pbxs = [pbx for account in self._table.accounts.values() for pbx in account.pbxs.values()]
        return {hop for pbx in pbxs if pbx.default_route and (hop := route_hop(pbx.default_route)) is not None}

    def _trunk_changed(self, account_id: str, trunk_id: str, is_up: bool, detail: str) -> None:
        at = instant(datetime.now(UTC))
        message = {"account_id": account_id, "trunk_id": trunk_id, "up": is_up, "at": at, "detail": detail}
        self._lines.tell(**{"is": "trunk"}, **message)

    def _journal_fault(self, detail: str) -> None:
        """From the journal's thread."""
        self._lines.log(
            "journal_fault" if detail else "journal_recovered", level="critical" if detail else "info", detail=detail
        )
        self._lines.tell(**{"is": "journal"}, fault=detail)


def _free(tables: list[AccountTable]) -> None:
    """Let go of tables nobody uses any more, row by row: see `AccountTable.dissolve`."""
    while tables:
        rows = tables.pop().dissolve()
        for each in rows:
            while each:
                each.pop()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _local_address(peer_ip: str) -> str:
    """The address that packets to a peer leave from; asks the routing table, sends nothing."""
    family = socket.AF_INET6 if ":" in peer_ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((peer_ip, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


async def _serve(settings: Settings, lines: Lines) -> None:
    await Edge(settings, lines).run()


def main() -> int:
    """Run the process; exit codes: 0 stopped as asked, 1 could not start."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    lines = Lines()
    try:
        asyncio.run(_serve(Settings.of(start_line()), lines))
    except (OSError, ValueError, TypeError, ConfigFault) as exc:
        lines.log("start_failed", level="critical", error=str(exc))
        lines.tell(**{"is": "failed"}, detail=str(exc))
        return 1
    finally:
        lines.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
