"""The recorder: puts what the edge wrote into the journal into the database, in order, once, however long it takes.

A call becomes an `EmergencyCall`, one notification for each recipient and one audit entry, in one transaction with the
position in the journal: either all of it is stored or none. A database that is away delays the record and nothing else;
entries wait in the journal. An entry that cannot be stored (an account that is gone, a field of the wrong kind) is kept
aside in a sealed file and never stops those behind it. Reading the journal again changes nothing: a call is known by
its identifier.
"""

import asyncio
import base64
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.checkpoints import signer_of
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.crypto import KeyRing
from engine.db import Database, utc_now
from engine.e911 import (
    callback_numbers,
    callback_records,
    chats,
    escalation,
    mail,
    store,
    store_calls,
    store_tests,
    webhooks,
)
from engine.e911.entries import LOCATION_NOT_SENT
from engine.e911.entry_values import instant_of, list_of, status_of, storable
from engine.e911.journal import START, JournalReader, Position, reader_name
from engine.e911.masking import without_credentials
from engine.e911.refusals import Tally, note_refusal
from engine.e911.silent_nodes import SILENT_S, SilentNodes
from engine.e911.telling import (
    ANSWERED,
    FAILED,
    NO_RECIPIENTS,
    as_mapping,
    as_text,
    queue_notifications,
    reached_nobody,
    recipients_for,
    told_of,
)
from engine.e911.writers import ended_writers, forget_writer, living_writers
from engine.errors import DatabaseAway
from engine.models import (
    Account,
    CallAttempt,
    CallKind,
    Channel,
    EmergencyCall,
    JournalPosition,
)
from engine.numbers import numbers_of

BATCH = 50  # entries of one transaction: few enough that a page's write waits some 100 ms at most
POLL_S = 1.0  # how long a new entry can go unseen when the edge's word of it is lost
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # while the database is away; then 5 s again and again
ASIDE = "set-aside.sealed"
CANCELLED = "cancelled"  # the caller hung up before that
CUT_OFF = "cut_off"  # the process that carried it ended while it rang
END_UNKNOWN = "end_unknown"  # a flag: likewise, of a call that had been answered
FAILED_TRIES = frozenset({"refused", "timeout", "unreachable"})  # outcomes of a try at a trunk
_CORRECTION = (Channel.CORRECTION, Channel.WEBHOOK_CORRECTION, Channel.CHAT_CORRECTION)
_ALL_CLEAR = (Channel.ALL_CLEAR, Channel.WEBHOOK_ALL_CLEAR, Channel.CHAT_ALL_CLEAR)
_CALLED_BACK = (Channel.CALLED_BACK, Channel.WEBHOOK_CALLED_BACK, Channel.CHAT_CALLED_BACK)
_log = structlog.get_logger()

Entry = Mapping[str, Any]


class Unrecordable(Exception):
    """An entry that no retry will store; says why."""


class Recorder:
    """Follows the journal. `run` until cancelled; `wake` when the edge says that new entries are durable.

    Args:
        directory: The journal's folder; unreadable entries are kept aside in it.
        on_recorded: Called after each commit that made notifications, so that they are mailed at once.
        public_url: The admin pages' address, for the link to a call's page; empty: no link.
        is_quiet: Whether nobody is mailed about a test call of that SIP Call-ID; a real call is never asked about.
    """

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        directory: Path,
        *,
        on_recorded: Callable[[], None],
        public_url: str = "",
        is_quiet: Callable[[str], bool] = lambda _sip_call_id: False,
        pauses_s: Sequence[float] = PAUSES_S,
        silent_node_s: float = SILENT_S,
    ) -> None:
        self.fault = ""  # why nothing can be recorded now; empty when all is well
        self.recorded = 0  # entries, since the start
        self.set_aside = 0
        self._database, self._keys, self._directory = database, keys, directory
        self._reader = JournalReader(directory, keys)
        self._signer = signer_of(keys)
        self._on_recorded, self._public_url, self._name = on_recorded, public_url.rstrip("/"), ""
        self._pauses_s, self._is_quiet = pauses_s, is_quiet
        self._position: Position | None = None  # None: to be read from the database
        self._tally = Tally()
        self._others = SilentNodes(silent_node_s)
        self._wake = asyncio.Event()
        self._reading = asyncio.Lock()

    def wake(self) -> None:
        """There may be new entries."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Never raises for a database or a disk that is away."""
        faults = 0
        while True:
            self._wake.clear()
            try:
                while await self.record_new():
                    faults, self.fault = 0, ""
                await self.close_cut_calls()
                await self.close_lost_calls()
                faults, self.fault = 0, ""
            except Exception as exc:  # noqa: BLE001  # nothing may end the recording of 911 calls
                self._note_fault(exc)
                self._others.lose_touch()
                await asyncio.sleep(self._pauses_s[min(faults, len(self._pauses_s) - 1)])
                raise_if_cancelled()
                faults += 1
                continue
            await self._wait()
            raise_if_cancelled()

    async def record_new(self) -> int:
        """Store the next entries of the journal; returns how many were read, 0 when there are no more.

        Raises:
            Exception: the database or the disk is away; nothing is lost, ask again later.
        """
        async with self._reading:  # at the stop of the node, the loop and whoever records the last entries meet here
            return await self._record_next()

    async def close_cut_calls(self) -> int:
        """Close the calls whose process ended before it told their end; returns how many.

        Those that still rang are told to staff: nobody knows whether the caller was answered. A process that carries
        calls on beside a younger one lives; those of other nodes are `close_lost_calls`'.

        Raises:
            Exception: the database or the disk is away; asked again later.
        """
        ended = await asyncio.to_thread(ended_writers, self._directory)
        if not ended:
            return 0
        while await self.record_new():  # what they wrote last, before they are found to have said no more
            pass
        closed = 0
        for writer in ended:
            async with self._database.sessions.begin() as session:
                for call in (calls := await store_calls.open_calls_of(session, writer)):
                    await self._close_cut(session, call)
            closed += len(calls)
            await asyncio.to_thread(forget_writer, self._directory, writer)
        if closed:
            self._on_recorded()
        return closed

    async def close_lost_calls(self) -> int:
        """Sign for this node's own processes with open calls, and close those of nodes that have been silent for long;
        returns how many. Staff are told of each: a node is gone, and nobody knows how the call ended.

        Raises:
            Exception: the database or the disk is away; asked again later.
        """
        if not self._others.is_due(now := time.monotonic()):
            return 0
        living = await asyncio.to_thread(living_writers, self._directory)
        async with self._database.sessions.begin() as session:
            signed = await store_calls.signatures(session)
            for writer in living & signed.keys():
                await store_calls.sign(session, writer)
            if not signed:
                await store_calls.forget_signatures(session)
        others = {writer: at for writer, at in signed.items() if writer not in living}
        closed = 0
        for writer, at in self._others.look(others, now).items():
            async with self._database.sessions.begin() as session:
                calls = await store_calls.open_calls_of(session, writer)
                if await store_calls.signed_at(session, writer) != at:
                    continue  # it came back in this very moment
                for call in calls:
                    await self._close_cut(session, call, mail.NODE_LOST)
            closed += len(calls)
        if closed:
            self._on_recorded()
        return closed

    async def _close_cut(self, session: AsyncSession, call: EmergencyCall, *why: str) -> None:
        call.ended_at = utc_now()
        was_answered = call.outcome == ANSWERED
        call.flags = [*call.flags, END_UNKNOWN if was_answered else mail.CUT, *why]
        if was_answered and not why:
            return
        call.outcome = ANSWERED if was_answered else CUT_OFF
        _log.error(
            "emergency_call_cut", call_id=call.id, account_id=call.account_id, flags=list(call.flags),
            meaning="who carried it is gone: how the call ended is not known",
        )  # fmt: skip
        await self._tell_again(session, call)
        if call.kind == CallKind.TEST:
            await store_tests.note_test(session, call)

    async def _record_next(self) -> int:
        if self._position is None:
            self._position = await self._stored_position()
        entries, after = await asyncio.to_thread(self._reader.read_from, self._position, BATCH)
        if entries:
            await self._store(entries, after)
            self.recorded += len(entries)
        if after != self._position:
            self._position = after
            await asyncio.to_thread(self._reader.discard, after)
        return len(entries)

    async def _store(self, entries: Sequence[Entry], after: Position) -> None:
        try:
            await self._store_together(entries, after)
        except Exception as exc:  # told apart below
            if is_away(exc):
                raise
            await self._store_one_by_one(entries, after)
        if any(_kind(entry) in {"call", "outcome"} for entry in entries):
            self._on_recorded()

    async def _store_together(self, entries: Sequence[Entry], after: Position | None) -> None:
        tally = self._tally.copy()  # kept only if the transaction is
        ends = _ends_among(entries)
        async with self._database.sessions.begin() as session:
            for entry in entries:
                await self._apply(session, entry, tally, ends)
            if after is not None:
                await session.merge(JournalPosition(name=self._name, position=after))
        self._tally = tally

    async def _store_one_by_one(self, entries: Sequence[Entry], after: Position) -> None:
        """One of them cannot be stored: find it, keep it aside, store the others."""
        for entry in entries:
            try:
                await self._store_together([entry], None)
            except Exception as exc:  # told apart below
                if is_away(exc):
                    raise
                await asyncio.to_thread(self._keep_aside, entry)
                self.set_aside += 1
                _log.error("journal_entry_set_aside", entry=_kind(entry), call_id=_call_of(entry), error=_words(exc))
        await self._store_together([], after)

    async def _apply(self, session: AsyncSession, entry: Entry, tally: Tally, ends: Mapping[str, "_End"]) -> None:
        if not isinstance(entry, dict):
            raise Unrecordable(f"expected an object, got {type(entry).__name__}")
        is_overtaken = entry.get("type") == "outcome" and ends[str(entry.get("call"))].entry is not entry
        entry = storable(entry)
        kind = entry.get("type")
        if kind == "call":
            await self._add_call(session, entry, ends.get(str(entry.get("id"))))
        elif kind == "attempt":
            await _put_attempt(session, entry)
        elif kind == "outcome":
            if not is_overtaken:  # nobody is told what is known by now to have turned out otherwise
                await self._note_outcome(session, entry)
        elif kind == "ended":
            await _note_end(session, entry)
        elif kind == "stranger":
            await note_refusal(session, tally, entry, instant_of(entry.get("at")) or utc_now())
        elif kind == "callback":
            await callback_records.add_callback(session, entry, instant_of(entry.get("received_at")) or utc_now())
        elif kind == "callback_outcome":
            missed = await callback_records.note_outcome(session, entry, instant_of(entry.get("at")) or utc_now())
            if missed is not None:
                await self._tell_again(session, missed, _CALLED_BACK)
        elif kind == "callback_ended":
            await callback_records.note_end(session, entry, instant_of(entry.get("at")) or utc_now())
        else:
            raise Unrecordable(f"no such type of entry: {kind!r}")

    async def _add_call(self, session: AsyncSession, entry: Entry, end: "_End | None") -> None:
        """`end`: how it ended, which follows in the same transaction: the first mail says it where nobody took it."""
        if await session.get(EmergencyCall, entry["id"]) is not None:
            return
        account = await session.get(Account, entry["account_id"])
        if account is None:
            raise Unrecordable(f"the account {entry['account_id']} is gone")
        conveyed = as_mapping(entry.get("location"))
        location = await store.location_by_id(session, account.id, str(conveyed.get("id") or ""))
        recipients = await recipients_for(session, account.id, location)
        place = location.id if location else None
        is_told = bool(recipients) or await chats.is_told(session, account.id, place, _call_kind(entry))
        call = _call_row(entry, account.country, has_recipients=is_told)
        if end is not None and end.outcome == FAILED:
            call.outcome = FAILED
        elif end is not None and end.outcome == CANCELLED:
            call.outcome = CANCELLED
            _note_hang_up(call, has_failed_tries=end.has_failed_tries)
        session.add(call)
        await session.flush()  # the notifications' foreign key
        if call.kind == CallKind.EMERGENCY:  # a test holds no number for long, and none against a real call
            await callback_numbers.hold(session, account, call)
        if call.kind != CallKind.TEST or not self._is_quiet(call.call_id):
            told = await told_of(session, call, account, location, signer=self._signer, public_url=self._public_url)
            queue_notifications(session, call, told, recipients)
            await webhooks.queue_webhooks(session, call, told)
            await chats.queue_chats(session, call, told)
        await escalation.begin(session, call)
        record(session, _caller_actor(call), Event.EMERGENCY_CALL_CREATE, call, resource=_resource(call))
        _log_if_nobody(call)
        if not is_told:
            _log.warning("emergency_call_without_recipients", call_id=call.id, account_id=account.id)

    async def _note_outcome(self, session: AsyncSession, entry: Entry) -> None:
        call = await _call_named(session, entry)
        at = instant_of(entry.get("at")) or utc_now()
        if call.outcome == ANSWERED:  # a second leg answered too: its attempt says so
            return
        was_lost = reached_nobody(call) or mail.HUNG_UP in call.flags
        was_cut = mail.CUT in call.flags  # its node was taken for lost, and comes back
        call.outcome = str(entry.get("outcome") or FAILED)[:20]
        call.status_code = status_of(entry.get("status"))
        call.trunk_id = as_text(entry.get("trunk_id")) or call.trunk_id
        if call.outcome == ANSWERED:
            call.answered_at = call.answered_at or at
            call.ended_at = None  # it was told to have failed before, and stands
            await self._note_answer(session, call, was_lost=was_lost or was_cut)
        else:
            call.ended_at = call.ended_at or at
            if call.outcome == CANCELLED and not was_lost:
                _note_hang_up(call, has_failed_tries=await _has_failed_tries(session, call))
            is_lost = reached_nobody(call) or mail.HUNG_UP in call.flags
            if is_lost and not was_lost:  # the first mail had left, or waits, as of a call on its way
                _log_if_nobody(call)
                await self._tell_again(session, call)
        if call.kind == CallKind.TEST:
            await store_tests.note_test(session, call)
        await session.flush()

    async def _note_answer(self, session: AsyncSession, call: EmergencyCall, *, was_lost: bool) -> None:
        """One mail more where what was told before turned out otherwise: nobody was to have taken the call, or
        responders were to have been told where the caller is.
        """
        lost_its_location = await _lost_its_location(session, call)
        flags = [flag for flag in call.flags if flag != mail.HUNG_UP]
        flags += [mail.ANSWERED_AFTER_ALL] if was_lost else []
        flags += [mail.LOCATION_DROPPED] if lost_its_location else []
        if flags == call.flags:
            return
        call.flags = flags
        if await self._tell_again(session, call, _ALL_CLEAR if was_lost else _CORRECTION) and lost_its_location:
            _log.warning(
                "emergency_call_lost_its_location", call_id=call.id, account_id=call.account_id, trunk_id=call.trunk_id
            )

    async def _tell_again(
        self, session: AsyncSession, call: EmergencyCall, channels: tuple[Channel, Channel, Channel] = _CORRECTION
    ) -> bool:
        """One more mail and message of each kind, by what is known now; False when nobody is told of this call."""
        account = await session.get(Account, call.account_id)
        if account is None or (call.kind == CallKind.TEST and self._is_quiet(call.call_id)):
            return False
        location = await store.location_by_id(session, account.id, str((call.location or {}).get("id") or ""))
        told = await told_of(session, call, account, location, signer=self._signer, public_url=self._public_url)
        recipients = await recipients_for(session, account.id, location)
        queue_notifications(session, call, told, recipients, channel=channels[0])
        await webhooks.queue_webhooks(session, call, told, channel=channels[1])
        await chats.queue_chats(session, call, told, channel=channels[2])
        return True

    async def _stored_position(self) -> Position:
        self._name = await asyncio.to_thread(reader_name, self._directory)
        async with self._database.sessions() as session:
            row = await session.get(JournalPosition, self._name)
            return Position(row.position) if row else START

    def _keep_aside(self, entry: Entry) -> None:
        """Append the sealed entry to the file of those that wait for a person; the journal's own files go."""
        line = base64.b64encode(self._keys.seal(json.dumps(entry).encode(), "journal")) + b"\n"
        descriptor = os.open(self._directory / ASIDE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _note_fault(self, exc: Exception) -> None:
        fault = f"Calls are not being recorded ({_words(exc)}); they go on, and their records wait in the journal."
        if fault != self.fault:
            _log.error("recorder_waits", error=_words(exc))
        self.fault = fault

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):  # `wait_for` of Python 3.11 can swallow a cancellation
                await self._wake.wait()


@dataclass(frozen=True, slots=True)
class _End:
    """How a call ended, as far as some entries of the journal know; `entry` is the one that says it."""

    entry: Entry
    has_failed_tries: bool

    @property
    def outcome(self) -> str:
        return str(self.entry.get("outcome") or FAILED)


def _ends_among(entries: Sequence[Entry]) -> dict[str, _End]:
    """The end of each call that has one among these entries: that somebody answered, else what was told last."""
    told = [entry for entry in entries if isinstance(entry, dict)]
    failing = {
        str(entry.get("call"))
        for entry in told
        if entry.get("type") == "attempt" and entry.get("outcome") in FAILED_TRIES
    }
    ends: dict[str, _End] = {}
    for entry in told:
        call = str(entry.get("call"))
        if entry.get("type") == "outcome" and (call not in ends or ends[call].outcome != ANSWERED):
            ends[call] = _End(entry, call in failing)
    return ends


def _note_hang_up(call: EmergencyCall, *, has_failed_tries: bool) -> None:
    """The caller hung up: told as such where no try was left to answer for it, unless nothing was even tried."""
    if has_failed_tries and mail.NOT_SENT not in call.flags and mail.HUNG_UP not in call.flags:
        call.flags = [*call.flags, mail.HUNG_UP]


async def _has_failed_tries(session: AsyncSession, call: EmergencyCall) -> bool:
    return any(attempt.outcome in FAILED_TRIES for attempt in await store.attempts_of(session, call))


def _log_if_nobody(call: EmergencyCall) -> None:
    if call.kind == CallKind.EMERGENCY and reached_nobody(call):
        _log.error(
            "emergency_call_reached_nobody", call_id=call.id, account_id=call.account_id, status=call.status_code,
            meaning="no carrier took this call: help comes only if somebody calls from another telephone",
        )  # fmt: skip


def raise_if_cancelled() -> None:
    """End the current task when it was cancelled: `wait_for` of Python 3.11, below us, can swallow that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def is_away(exc: BaseException) -> bool:
    """Whether trying the same again later may succeed: the database, its disk or the way to it is away."""
    if isinstance(exc, IntegrityError | DataError | ProgrammingError):
        return False
    if isinstance(exc, DBAPIError):  # OperationalError, InterfaceError: locked, full, closed, gone
        return not isinstance(exc.orig, OverflowError | TypeError | ValueError)
    return isinstance(exc, DatabaseAway | OSError | PoolTimeout | TimeoutError | MemoryError)


def _call_row(entry: Entry, country: str, *, has_recipients: bool) -> EmergencyCall:
    now = utc_now()
    received_at = instant_of(entry.get("received_at")) or instant_of(entry.get("sent_at")) or now
    sent_at = instant_of(entry.get("sent_at"))
    flags = [str(flag) for flag in list_of(entry.get("flags"))]
    flags += [] if sent_at else [mail.NOT_SENT]
    flags += [] if has_recipients else [NO_RECIPIENTS]
    return EmergencyCall(
        id=entry["id"],
        account_id=entry["account_id"],
        pbx_id=as_text(entry.get("pbx_id")),
        call_id=str(entry.get("call_id") or "")[:400],
        dialed=str(entry.get("dialed") or numbers_of(country).primary)[:80],
        kind=_call_kind(entry),
        caller=as_mapping(entry.get("caller")),
        location=as_mapping(entry.get("location")) or None,
        location_source=str(entry.get("location_source") or "none")[:30],
        verdict=list_of(entry.get("verdict")),
        flags=list(dict.fromkeys(flags)),
        peer=as_mapping(entry.get("peer")),
        writer=as_text(entry.get("writer")),
        invite=_shown(entry.get("invite")),
        trunk_id=as_text(entry.get("trunk_id")),
        elin=as_text(entry.get("elin")),
        received_at=received_at,
        sent_at=sent_at or received_at,
        recorded_at=now,
    )


def _call_kind(entry: Entry) -> CallKind:
    return CallKind.TEST if entry.get("kind") == CallKind.TEST else CallKind.EMERGENCY


def _caller_actor(call: EmergencyCall) -> Actor:
    caller = call.caller
    identity = str(caller.get("phone_id") or caller.get("line_id") or caller.get("sip_user") or "unknown")
    name = mail.one_line(str(caller.get("name") or caller.get("extension") or "unknown caller"))
    ip = str(call.peer.get("ip") or "unknown")
    return Actor("phone", identity[:80], name, ip[:45], call.account_id, method="INVITE", route="sip")


def _resource(call: EmergencyCall) -> tuple[str, str, str]:
    name = str(call.caller.get("name") or call.caller.get("extension") or "an unknown caller")
    return ("call", call.id, mail.one_line(f"{call.dialed} from {name}"))


def _shown(invite: object) -> str | None:
    text = as_text(invite)
    return without_credentials(text) if text else text


async def _call_named(session: AsyncSession, entry: Entry) -> EmergencyCall:
    call = await session.get(EmergencyCall, str(entry["call"]))
    if call is None:
        raise Unrecordable(f"the call {entry['call']} is not recorded")
    return call


async def _put_attempt(session: AsyncSession, entry: Entry) -> None:
    call = await _call_named(session, entry)
    number = int(entry["number"])
    attempt = await session.get(CallAttempt, (call.id, number))
    if attempt is None:
        attempt = CallAttempt(emergency_call_id=call.id, number=number)
        session.add(attempt)
    attempt.trunk_id = str(entry.get("trunk_id") or "")
    attempt.trunk_name = str(entry.get("trunk_name") or "")[:200]
    attempt.hop = str(entry.get("hop") or "")[:80]
    attempt.with_location = bool(entry.get("with_location", True))
    attempt.started_at = instant_of(entry.get("started_at")) or call.sent_at
    attempt.ended_at = instant_of(entry.get("ended_at"))
    attempt.status_code = status_of(entry.get("status"))
    attempt.outcome = str(entry.get("outcome") or "")[:20]
    attempt.invite = _shown(entry.get("invite")) or attempt.invite
    await session.flush()


async def _lost_its_location(session: AsyncSession, call: EmergencyCall) -> bool:
    """The trunk that answered took the call without the location that the record, and the first mail, speak of."""
    if not call.location or LOCATION_NOT_SENT in call.flags:
        return False
    tries = [attempt for attempt in await store.attempts_of(session, call) if attempt.outcome == ANSWERED]
    return bool(tries) and not tries[-1].with_location


async def _note_end(session: AsyncSession, entry: Entry) -> None:
    call = await _call_named(session, entry)
    ended_at = instant_of(entry.get("at")) or utc_now()
    if mail.NODE_LOST in call.flags:  # and was not: it knows the end
        call.flags = [flag for flag in call.flags if flag not in {mail.NODE_LOST, END_UNKNOWN}]
        call.ended_at = ended_at
    call.ended_at = call.ended_at or ended_at
    await session.flush()


def _kind(entry: Entry) -> str:
    return str(entry.get("type")) if isinstance(entry, dict) else type(entry).__name__


def _call_of(entry: Entry) -> str | None:
    return str(entry.get("id") or entry.get("call")) if isinstance(entry, dict) else None


def _words(exc: BaseException) -> str:
    """An error for the operator, without the statement and its values."""
    cause = exc.orig if isinstance(exc, DBAPIError) and exc.orig is not None else exc
    return f"{type(cause).__name__}: {mail.one_line(str(cause))}"
