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
import logging
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from math import inf

from engine import crypto
from engine.e911 import references, snapshot
from engine.e911.callback import credentials_named
from engine.e911.carriers import CarrierProfiles, load_profiles
from engine.e911.entries import CallEvent, CallRecorder
from engine.e911.hook import Hook
from engine.e911.journal import JournalWriter
from engine.e911.loans import LoanFiles
from engine.e911.location import LocationTable
from engine.e911.location_uris import LocationUris
from engine.e911.peers import PROOF_PURPOSE
from engine.e911.route import Deadlines
from engine.e911.trunks import TrunkWatch
from engine.e911.waiting import ReferenceWait
from engine.edge.addresses import AddressBook
from engine.edge.cancel import SiblingCancels
from engine.edge.claims import Claims
from engine.edge.crowd import is_emergency_from, refusal
from engine.edge.faults import Faults
from engine.edge.line import LibraryLines, Lines, Settings, host_port, listed, start_line
from engine.edge.loop import Branches, Collector, EdgeLoop, again_and_again
from engine.edge.orders import Orders
from engine.edge.owner import Owner
from engine.edge.record import CallRecord
from engine.edge.rehearsal import CALL_ID, Rehearsal, give_up
from engine.edge.relief import Offer, Relief
from engine.edge.requests import Requests
from engine.edge.senders import Senders
from engine.edge.trunks import TrunkLife
from engine.edge.workers import HandOver, own_listening
from engine.errors import ConfigFault
from engine.ids import DrawnIds, new_id
from engine.sip.crowd import CrowdRules
from engine.sip.dialog import NextHop
from engine.sip.events import (
    AnsweredLate,
    AttemptEnded,
    AttemptStarted,
    DialogEnded,
    Event,
    Finished,
    MessageRefused,
    OwnRequestEnded,
    ProvisionalReceived,
    RequestReceived,
)
from engine.sip.forward import Hop
from engine.sip.passage import Passage
from engine.sip.resolve import Resolver
from engine.sip.stack import SipStack
from engine.sip.tls import Certificates
from engine.sip.transports import Transports

MARK_PURPOSE = "record-route"
CLAIM_PURPOSE = "claims"
TICK_S = 0.5
TIMER_GRAIN_S = 0.01  # thousands of transactions end each second, all of them after the same 32 s
STOP_WITHIN_S = 5.0
RELIEVED_WITHIN_S = 60.0  # of one whose new calls go to another process already: a PSAP may be long in answering
SWITCH_INTERVAL_S = 0.0005  # a thread reading a snapshot gives the interpreter back after half a millisecond, not five


class Edge:
    """The process's parts, wired. Everything but the snapshot reader and the journal's writer runs on the loop's own
    thread.
    """

    def __init__(self, settings: Settings, lines: Lines) -> None:
        self._settings, self._lines = settings, lines
        self._faults = Faults(lines)
        self._keys = crypto.load(settings.key_file)
        self._loop = asyncio.get_running_loop()
        self._table = LocationTable()
        self._resolver = Resolver()
        self._addresses = AddressBook(settings.data_dir, self._keys, is_writer=not settings.worker)
        self._trunks = TrunkWatch(self._table, self._resolver, ping_s=settings.ping_s, on_change=self._faults.trunk)
        self._journal = JournalWriter(
            settings.data_dir / "journal", self._keys, on_durable=lines.tell_journal, on_fault=self._faults.journal
        )
        self._recorder = CallRecorder(self._journal.put)
        self._record = CallRecord(self._recorder, self._trunks, lines)
        profiles = load_profiles()
        self._faults_at_start = list(profiles.faults)
        reference_key = self._keys.subkey(references.PURPOSE)
        uris = LocationUris(frozenset(settings.location_hosts), settings.held_url, reference_key)
        self._references = ReferenceWait(uris, tell=lines.tell, wait_s=settings.location_wait_s)
        self._call_ids = DrawnIds("call")
        self._hook = self._made_hook(profiles, self._call_ids.next, self._faults.dialect)
        self._senders = Senders(self._hook, self._trunks, self._recorder, lines, self._faults)
        self._claims, self._begun = (Claims(self._keys.subkey(f"{CLAIM_PURPOSE} {settings.family}")) for _ in range(2))
        if settings.workers > 1:
            self._hook.lending.claim = lambda number: self._claims.take(number, self._loop.time())
        own = f"edge-{settings.worker}" if settings.worker else "edge"
        self._loans = LoanFiles(
            settings.data_dir, self._keys, self._hook.lending, name=own, on_fault=self._faults.loans
        )
        self._certificates = Certificates(settings.tls_files)
        self._passage = Passage(clock=self._loop.time, hears=self._senders.hears, decide=self._take_event)
        self._passage.heard = self._senders.heard
        self._transports = self._made_transports()
        self._stack = self._made_stack()
        self._passage.lead_to(self._stack, self._transports.send_all)
        rehearsing = self._made_hook(profiles, lambda: CALL_ID, give_up)
        self._rehearsal = Rehearsal(rehearsing, self._table, self._passage, self._loop, lines.log)
        self._requests = self._made_requests()
        self._trunk_life = TrunkLife(
            watch=self._trunks, resolver=self._resolver, transports=self._transports, stack=self._stack,
            certificates=self._certificates, faults=self._faults,
        )  # fmt: skip
        self._sibling_cancels = SiblingCancels(
            stack=self._stack, passage=self._passage, transports=self._transports, is_trusted=self._hook.is_trusted,
            clock=self._loop.time, pump=self._pump,
        )  # fmt: skip
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._sent_events: list[CallEvent] = []
        self._stop = asyncio.Event()
        self._owner = Owner(settings.data_dir, settings.family, settings.worker)
        self._siblings = HandOver(
            settings.data_dir, settings.worker, settings.workers, receive=self._passage.receive, drained=self._drained,
            cancel=self._sibling_cancels.ends, silent=self._faults.sibling,
            has_begun=lambda invite: self._begun.is_begun(invite, self._loop.time()),
        )  # fmt: skip
        self._relief = Relief(settings.data_dir, receive=self._passage.receive, drained=self._drained, met=self._met)
        self._collector = Collector()
        self._orders = self._made_orders()

    def _made_hook(self, profiles: CarrierProfiles, ids: Callable[[], str], on_fault: Callable[[str], None]) -> Hook:
        settings = self._settings
        return Hook(
            self._table,
            profiles=profiles,
            hops_of=self._resolver.hops,
            down=self._trunks.down,
            stalled=self._trunks.stalled,
            trunk_ips=self._trunks.ips,
            deadlines=Deadlines(settings.first_response_s, settings.connect_s),
            proof_key=self._keys.subkey(PROOF_PURPOSE),
            names_of=lambda connection: self._transports.streams.names_of(connection),  # noqa: PLW0108 - made later
            make_call_id=ids,
            make_callback_id=lambda: new_id("callback"),
            may_misfit=lambda hop: self._transports.streams.may_misfit(hop),  # noqa: PLW0108 - made later
            on_fault=on_fault,
            location_uris=self._references.uris,
            reference_of=references.offered(self._keys.subkey(references.PURPOSE), settings.held_url),
            domain=host_port(listed(settings.advertise)[0], 0)[0] if settings.advertise else "callpoint.invalid",
        )

    def _made_transports(self) -> Transports:
        return Transports(
            receive_datagram=self._receive_shared if self._settings.workers > 1 else self._passage.receive,
            receive=self._receive,
            drained=self._drained,
            failed=self._transport_failed,
            connected=self._transport_connected,
            is_trusted=self._senders.knows,
            is_awaited=lambda connection: self._stack.is_awaited(connection),  # noqa: PLW0108 - made later
            connect_s=self._settings.connect_s,
            certificates=self._certificates,
            advertised=self._settings.listening.advertised,
            receive_own=self._passage.receive,
            crowd=self._crowd_rules(self._senders.hears, self._receive_heard),
            stream_crowd=self._crowd_rules(self._hears_stream, self._receive_of_stream),
        )

    def _crowd_rules(self, hears: Callable[[Hop, float], bool], receive: Callable[[bytes, Hop], None]) -> CrowdRules:
        is_emergency = partial(is_emergency_from, self._hook.peers)
        return CrowdRules(hears, is_emergency, partial(self._refuse, receive), receive)

    def _made_stack(self) -> SipStack:
        return SipStack(
            addresses=self._transports.address_towards,
            make_branch=Branches().next,
            make_tag=lambda: os.urandom(8).hex(),
            mark_key=self._keys.subkey(MARK_PURPOSE),
            is_emergency=self._hook.is_emergency,
            is_trusted=self._hook.is_trusted,
            resolve=self._hops_towards,
            meet=self._meet,
            credentials_of=partial(credentials_named, self._table),
            tcp_is_up=self._transports.streams.tcp_is_up,
            on_fault=self._faults.element,
        )

    def _made_requests(self) -> Requests:
        return Requests(
            hook=self._hook,
            stack=self._stack,
            passage=self._passage,
            record=self._record,
            recorder=self._recorder,
            senders=self._senders,
            references=self._references,
            rehearsal=self._rehearsal,
            offer=lambda data, hop: self._relief.offer(data, hop),  # noqa: PLW0108 - made later
            begun=self._begun if self._settings.workers > 1 else None,
            lines=self._lines,
            faults=self._faults,
            clock=self._loop.time,
            pump=self._pump,
        )

    def _made_orders(self) -> Orders:
        return Orders(
            folder=self._settings.data_dir / "snapshot",
            keys=self._keys,
            lines=self._lines,
            owner=self._owner,
            table=self._table,
            trunks=self._trunks,
            stack=self._stack,
            pump=self._pump,
            changed=self._senders.heard.clear,
            stats=self._stats,
            stop=self._stop,
            references=self._references,
        )

    async def run(self) -> None:
        """Serve until told to stop; raises OSError when a socket cannot be had."""
        self._resolver.recall(self._addresses.load())
        self._load_all()
        await self._open()
        self._owner.claim()
        self._collector.start(self._loop.time())
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        ticking = again_and_again(TICK_S, self._tick, self._faults.tick)
        tasks = [self._loop.create_task(work) for work in (self._resolver.run(), ticking, self._orders.obey())]
        bound = {name: self._transports.bound_text(name) for name in self._transports.bound}
        self._lines.tell(**{"is": "ready"}, **bound, accounts=len(self._table.accounts), faults=self._faults_at_start)
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
            self._faults_at_start += [f"{account.account_id}: {fault}" for fault in account.faults]
        self._faults_at_start += loaded.faults
        for fault in self._faults_at_start:
            self._faults.snapshot(fault)
        self._orders.follow_table()
        self._loans.load(datetime.now(UTC))

    async def _open(self) -> None:
        self._faults_at_start += self._certificates.faults
        self._owner.refuse_strangers(self._settings.listening.places())
        try:
            self._relief.open(self._owner.elder)
        except OSError as exc:  # then what the kernel deals to the wrong one of two is lost for a moment, and no more
            self._lines.log("relief_unheard", level="warning", error=str(exc))
        await self._transports.open(self._settings.listening)
        self._passage.send_by(self._transports.plain)
        if self._settings.workers > 1:
            await self._transports.open_own(own_listening(self._settings.listening, self._settings.worker))
            self._stack.answer_at({port for places in self._transports.bound.values() for _, port in places})
            self._passage.send_by(self._transports.plain)
            self._siblings.open()

    async def _finish(self) -> None:
        """Take no new work but emergencies; let calls in progress be answered; make the journal durable."""
        self._requests.is_stopping = True
        self._lines.tell(**{"is": "stopping"})
        try:
            async with asyncio.timeout(RELIEVED_WITHIN_S if self._relief.is_relieved else STOP_WITHIN_S):
                while self._requests.are_pending:  # noqa: ASYNC110 - for 5 s, once
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self._lines.log("stopped_with_calls_in_progress", level="warning", calls=self._recorder.unanswered)
        self._transports.drain()  # what was dealt to us meanwhile is not to wait for its sender to repeat it
        self._pump()
        self._siblings.close()
        self._claims.close()
        self._begun.close()
        await self._transports.close()
        self._relief.close()
        await asyncio.to_thread(self._loans.close)
        await asyncio.to_thread(self._addresses.close)
        if not await asyncio.to_thread(self._journal.close):
            self._lines.log("journal_not_flushed", level="error", entries=self._journal.waiting)
        self._lines.tell(**{"is": "stopped"})

    # --- messages in and out ------------------------------------------------------------------------------------------

    def _receive_shared(self, data: bytes, hop: Hop) -> None:
        """A datagram on the address that several processes share: ours, or the one's that its Call-ID names."""
        if self._senders.hears(hop, self._loop.time()):
            self._receive_heard(data, hop)

    def _receive_heard(self, data: bytes, hop: Hop) -> None:
        """A datagram of somebody who may be heard, on the address that all processes share."""
        if self._settings.workers == 1 or not self._siblings.takes(data, hop):
            self._passage.take(data, hop, self._loop.time())

    def _hops_towards(self, target: NextHop) -> tuple[Hop, ...]:
        """Where a name in a dialog leads, best first. One not met before is looked up now, for the next time."""
        hops = self._resolver.hops(target.host, *target.named)
        if hops:
            return hops
        self._meet(target)
        address = self._resolver.address(target.host)
        if address is None:
            return ()
        return (Hop(target.transport, address, target.port, 0, target.host if target.transport == "tls" else ""),)

    def _meet(self, target: NextHop) -> None:
        self._resolver.meet(target.host, *target.named, self._loop.time())

    def _refuse(self, receive: Callable[[bytes, Hop], None], data: bytes, hop: Hop) -> None:
        """Answer a new request of a crowd 503; `receive` takes what must be taken in as ever."""
        answer = refusal(data, hop, self._stack.is_known)
        if answer is None:
            receive(data, hop)
        else:
            self._transports.send_all([answer])

    def _receive(self, data: bytes, hop: Hop) -> None:
        """A message of a stream."""
        if self._hears_stream(hop, self._loop.time()):
            self._receive_of_stream(data, hop)

    def _hears_stream(self, hop: Hop, now: float) -> bool:
        return self._transports.streams.is_ours(hop.connection) or self._senders.hears(hop, now)

    def _receive_of_stream(self, data: bytes, hop: Hop) -> None:
        """A message of a stream whose peer may be heard."""
        is_shared = self._settings.workers > 1 and data[:7] == b"CANCEL "
        if not (is_shared and self._sibling_cancels.asks(data, hop, self._siblings)):
            self._passage.take(data, hop, self._loop.time())

    def _met(self, offer: Offer | None) -> None:
        """Another process is on our address for some seconds, or is no more."""
        self._stack.stray = offer

    def _transport_failed(self, hop: Hop) -> None:
        self._stack.transport_failed(hop, self._loop.time())
        self._pump()

    def _transport_connected(self, hop: Hop) -> None:
        self._stack.transport_connected(hop, self._loop.time())
        self._pump()

    def _pump(self) -> None:
        """Events, then messages out, then the next timer and the record of what has left."""
        self._passage.send_out(self._loop.time())
        self._arm()
        if self._sent_events:
            events, self._sent_events = self._sent_events, []
            self._record.take(events, self._loop.time())

    def _drained(self) -> None:
        """The socket is read out; every message of it has been answered or forwarded already."""
        if self._timer is None or self._stack.soonest_timer < self._timer_at - TIMER_GRAIN_S:
            self._arm()
        if self._sent_events:
            self._pump()
        if self._passage.messages >= self._rehearsal.due:
            self._rehearsal.prompt()

    def _take_event(self, event: Event, now: float) -> None:
        try:
            self._on_event(event, now)
        except Exception as exc:  # noqa: BLE001 - one bad request must not end the process that takes 911 calls
            self._faults.event(event, exc)

    def _arm(self) -> None:
        """Have the loop wake us when the first timer is due, or a little later for several together. One that is
        disarmed meanwhile wakes us for nothing, which is cheaper than looking for the next at each message.
        """
        when = max(self._stack.soonest_timer, self._loop.time() + TIMER_GRAIN_S)
        if when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = self._loop.call_at(when, self._timer_due), when

    def _timer_due(self) -> None:
        self._timer, self._timer_at = None, inf
        self._transports.drain()  # after a stall, an answer that is here already counts before the deadline it missed
        try:
            self._stack.handle_timer(self._loop.time())
        except Exception as exc:  # noqa: BLE001 - what else is due must still wake us
            self._faults.timer(exc)
        self._pump()

    def _on_event(self, event: Event, now: float) -> None:
        if isinstance(event, RequestReceived):
            self._requests.receive(event, now)
        elif isinstance(event, AttemptStarted | AttemptEnded | Finished | AnsweredLate | DialogEnded):
            self._sent_events.append(event)
        elif isinstance(event, ProvisionalReceived):
            if event.status > 100:
                self._trunks.progressed(event.target.name)
        elif isinstance(event, OwnRequestEnded):
            self._on_own_request(event)
        elif isinstance(event, MessageRefused):
            self._senders.note_refused(event, now)

    def _on_own_request(self, event: OwnRequestEnded) -> None:
        purpose, value = event.token if isinstance(event.token, tuple) else ("", None)
        if purpose == "ping":
            self._trunk_life.pinged(event, value)
        elif purpose == "notify":
            self._lines.tell(**{"is": "notified"}, token=value, status=event.status or 408)

    # --- beside the calls ---------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """What is done twice a second."""
        now = self._loop.time()
        self._trunk_life.tick(now)
        self._references.refresh(now)
        self._pump()
        self._senders.tick(now)
        self._loans.tick(datetime.now(UTC))
        self._addresses.tick(self._resolver.known())
        self._faults.addresses(self._addresses.fault)
        self._claims.tick(now)
        self._begun.tick(now)
        self._call_ids.draw()
        self._siblings.tick()
        self._collector.tick(self._passage.messages, now)

    def _stats(self) -> dict[str, object]:
        servers, clients = self._stack.transaction_counts
        return {
            "accounts": len(self._table.accounts),
            "calls_unanswered": self._recorder.unanswered,
            "journal_waiting": self._journal.waiting,
            "journal_lost": self._journal.lost,
            "location_disagreements": self._record.disagreements,
            "references_asked": self._references.asked,
            "references_late": self._references.late,
            "server_transactions": servers,
            "client_transactions": clients,
            "tasks": len(asyncio.all_tasks(self._loop)),
            "datagrams_dropped": self._transports.dropped,
            "requests_shed": self._transports.shed,
            "receive_buffer_bytes": self._transports.receive_buffer_bytes,
            "connections_refused": self._transports.streams.refused,
            "trunks_down": sorted(self._trunks.down),
            "refused": {f"{why}_{status}": count for (why, status), count in self._stack.refused.items()},
            "answered": {str(status): count for status, count in self._stack.answered.items()},
            "strangers_unheard": self._senders.unheard,
            "rehearsals": self._rehearsal.gone,
        }


async def _serve(settings: Settings, lines: Lines) -> None:
    await Edge(settings, lines).run()


def main() -> int:
    """Run the process; exit codes: 0 stopped as asked, 1 could not start."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    lines = Lines()
    logging.getLogger().addHandler(LibraryLines(lines))
    try:
        with asyncio.Runner(loop_factory=EdgeLoop) as runner:
            runner.run(_serve(Settings.of(start_line()), lines))
    except (OSError, ValueError, TypeError, ConfigFault) as exc:
        lines.log("start_failed", level="critical", error=str(exc))
        lines.tell(**{"is": "failed"}, detail=str(exc))
        return 1
    finally:
        lines.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
