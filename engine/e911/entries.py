"""What the journal says of calls and strangers: the values decided on, and the entries made of them. Pure.

One call is one `call` entry as soon as its INVITE has left, an `attempt` for each trunk tried, an `outcome`, and
`ended` after a BYE.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any

from engine.e911.callback import ONSITE, Callback
from engine.e911.dial import Dialed
from engine.e911.location import Caller, DispatchableLocation, Resolved, plain_mac
from engine.sip.events import AnsweredLate, AttemptEnded, AttemptStarted, DialogEnded, Finished
from engine.sip.forward import Hop, Target

CallEvent = AttemptStarted | AttemptEnded | Finished | AnsweredLate | DialogEnded
UNPROVEN_MARK = " unproven"  # behind the hop of an attempt that looked at no certificate
LOCATION_NOT_SENT = "location_not_sent"  # the trunk it went to takes none: the carrier has an address on file, or none
CALLER_S_LOCATION_SENT = "callers_location_sent"  # likewise, but the caller's own Geolocation went on as it came


class Conveyed(Enum):
    """Whose location an INVITE carries: the one on record, only what the caller wrote into its own, nobody's."""

    OURS = auto()
    CALLER_S = auto()
    NONE = auto()


MAX_TEXT_CHARS = 400  # of anything a stranger or caller says that is recorded


@dataclass(frozen=True, slots=True, eq=False)
class EmergencyCall:
    """A 911 or 933 call as decided: the tag of its events and the first entry of its journal. `received_at` is UTC."""

    id: str
    account_id: str
    pbx_id: str | None
    sip_call_id: str
    dialed: Dialed
    received_at: datetime
    caller: Caller
    callback_number: str | None
    resolved: Resolved
    faults: tuple[str, ...]  # of the request: what was repaired or passed on
    source: Hop
    elin: str | None = None  # the number of a pool that this call was given
    number_flags: tuple[str, ...] = ()  # what is doubtful about the number it was given
    sender_flags: tuple[str, ...] = ()  # what is doubtful about who sent it
    trunk_names: dict[str, str] = field(default_factory=dict)
    shortened: Callable[[], tuple[str, ...]] = tuple  # `route.shortened`: asked for after the call has left
    brings_location: bool = False  # in the request's own body, whether or not its header names it
    is_caller_s: bool = False  # the location is the one that the request's own header leads every receiver to

    @property
    def flags(self) -> tuple[str, ...]:
        """What an operator must know of this call."""
        malformed = tuple(f"malformed:{clean_text(fault)}" for fault in self.faults)
        shortened = tuple(f"shortened:{clean_text(each)}" for each in self.shortened())
        return self.resolved.flags + self.number_flags + self.sender_flags + malformed + shortened

    def entry(
        self,
        *,
        sent_at: datetime | None,
        trunk_id: str | None,
        invite: bytes,
        conveyed: Conveyed = Conveyed.OURS,
        heard: datetime | None = None,
    ) -> dict[str, Any]:
        """The journal's `call` entry; `sent_at` and `trunk_id` None when there was no trunk to send it to.

        `conveyed`: what the first trunk's INVITE holds. `heard`: when it was read, where that is known better than by
        the time it was decided on.
        """
        return {
            "type": "call",
            "id": self.id,
            "account_id": self.account_id,
            "pbx_id": self.pbx_id,
            "call_id": clean_text(self.sip_call_id),
            "dialed": clean_text(self.dialed.digits),
            "kind": self.dialed.kind.value,
            "received_at": instant(heard or self.received_at),
            "sent_at": instant(sent_at) if sent_at else None,
            "caller": self._caller_entry(),
            "location": _location_entry(self.resolved.location),
            "location_source": self.resolved.source.value,
            "verdict": [
                {
                    "source": said.source.value,
                    "said": said.said,
                    "age_s": said.age_s,
                    "taken": said.taken,
                    "why": said.why,
                    **({"elsewhere": _location_entry(said.elsewhere)} if said.elsewhere is not None else {}),
                }
                for said in self.resolved.verdict
            ],
            "flags": [*self.flags, *(() if trunk_id is None else self._flags_of(conveyed))],
            "peer": _hop_entry(self.source),
            "trunk_id": trunk_id,
            "elin": self.elin,
            "invite": invite.decode("utf-8", "backslashreplace"),
        }

    def _flags_of(self, conveyed: Conveyed) -> tuple[str, ...]:
        """What staff must know when the location on record is not what the carrier was told."""
        if conveyed is Conveyed.CALLER_S and not self.is_caller_s:
            return (CALLER_S_LOCATION_SENT,)
        is_kept_back = conveyed is Conveyed.NONE and self.resolved.location is not None
        return (LOCATION_NOT_SENT,) if is_kept_back else ()

    def _caller_entry(self) -> dict[str, Any]:
        phone, line = self.resolved.phone, self.resolved.line
        return {
            "name": clean_text((line.display_name if line else "") or self.caller.name),
            "extension": clean_text(line.extension if line else self.caller.identity),
            "sip_user": clean_text(line.sip_user if line else self.caller.identity),
            "callback_number": self.callback_number,
            "phone_id": phone.id if phone else None,
            "line_id": line.id if line else None,
            "mac": phone.mac if phone else plain_mac(self.caller.device),
            "source_ip": str(self.caller.source_ip) if self.caller.source_ip else None,
            "uri": clean_text(self.caller.uri),
        }


@dataclass(frozen=True, slots=True)
class Stranger:
    """A request from nobody we know, for the record and the rate limit. With an account: one of its PBX, for a number
    that is an emergency in other countries alone; or, with a `detail`, for an emergency number, that could not be read
    and was answered with `status` (0: with nothing).
    """

    source: Hop
    method: str
    request_uri: str
    user_agent: str
    is_emergency: bool
    at: datetime
    account_id: str | None = None
    pbx_id: str | None = None
    detail: str = ""
    status: int = 0

    def entry(self) -> dict[str, Any]:
        """The journal's `stranger` entry."""
        whose = {"account_id": self.account_id, "pbx_id": self.pbx_id} if self.account_id else {}
        why = {"detail": clean_text(self.detail), "status": self.status} if self.detail else {}
        return {
            "type": "stranger",
            "source": _hop_entry(self.source),
            "method": clean_text(self.method),
            "request_uri": clean_text(self.request_uri),
            "user_agent": clean_text(self.user_agent),
            "emergency": self.is_emergency,
            "at": instant(self.at),
        } | (whose | why)


@dataclass(slots=True)
class Progress:
    """An emergency call on its way: when its attempts began (UTC), and whether the caller has an answer."""

    started: dict[int, tuple[datetime, bool, bytes]] = field(
        default_factory=dict
    )  # and what it was sent, if not the first
    is_recorded: bool = False
    is_finished: bool = False
    latest: datetime | None = None  # the last thing told of it

    def not_before(self, at: datetime) -> datetime:
        """The time of what follows: an event is dated when its cause was heard, which may be before the INVITE left."""
        self.latest = max(at, self.latest or at)
        return self.latest


class CallRecorder:
    """Turns the element's events into journal entries, once the messages they are about have left.

    `put` takes an entry and never waits. Times are UTC.
    """

    def __init__(self, put: Callable[[Mapping[str, Any]], None]) -> None:
        self._put = put
        self._calls: dict[str, Progress] = {}

    @property
    def unanswered(self) -> int:
        """Emergency calls whose caller has no final answer yet."""
        return sum(not progress.is_finished for progress in self._calls.values())

    def unroutable(self, call: EmergencyCall, invite: bytes, status: int, at: datetime) -> None:
        """A call that had no trunk to go to."""
        self._put(call.entry(sent_at=None, trunk_id=None, invite=invite))
        self._put_outcome(call, "failed", status, None, at)

    def attempt_started(self, event: AttemptStarted, at: datetime, heard: datetime | None = None) -> None:
        """An INVITE left; `heard`: when the call's own came in, told with the first."""
        call = _call_of(event)
        progress = self._calls.setdefault(call.id, Progress())
        at = progress.not_before(at)
        is_first = not progress.is_recorded  # its INVITE stands with the call
        progress.started[event.number] = (at, event.with_location, b"" if is_first else event.sent)
        if not progress.is_recorded:
            progress.is_recorded = True
            name, conveyed = event.target.name, _conveyed_by(event)
            self._put(call.entry(sent_at=at, trunk_id=name, invite=event.sent, conveyed=conveyed, heard=heard))

    def attempt_ended(self, event: AttemptEnded, at: datetime) -> None:
        call, hop = _call_of(event), event.target.hop
        progress = self._calls.setdefault(call.id, Progress())
        at = progress.not_before(at)
        unknown = (at, event.target.edit.conveys_location, b"")
        started_at, with_location, sent = progress.started.pop(event.number, unknown)
        self._put(
            {
                "type": "attempt",
                "call": call.id,
                "number": event.number,
                "trunk_id": event.target.name,
                "trunk_name": call.trunk_names.get(event.target.name, ""),
                "hop": f"{hop.transport}:{hop.ip}:{hop.port}{UNPROVEN_MARK if hop.is_unproven else ''}",
                "with_location": with_location,
                "started_at": instant(started_at),
                "ended_at": instant(at),
                "status": event.status,
                "outcome": event.outcome,
            }
            | ({"invite": sent.decode("utf-8", "backslashreplace")} if sent else {})
        )
        self._forget_done(call.id, progress)

    def finished(self, event: Finished, at: datetime) -> None:
        call = _call_of(event)
        progress = self._calls.setdefault(call.id, Progress())
        if not progress.is_recorded:  # cancelled before it went anywhere
            progress.is_recorded = True
            self._put(call.entry(sent_at=None, trunk_id=None, invite=b""))
        at = progress.not_before(at)
        progress.is_finished = True
        self._put_outcome(call, event.outcome, event.status, event.target.name if event.target else None, at)
        self._forget_done(call.id, progress)

    def answered_late(self, event: AnsweredLate, started_at: datetime, at: datetime) -> None:
        """A trunk answered that had been given up, or after the caller was told otherwise: the record says answered."""
        call, hop = _call_of(event), event.target.hop
        self._put(
            {
                "type": "attempt",
                "call": call.id,
                "number": event.number,
                "trunk_id": event.target.name,
                "trunk_name": call.trunk_names.get(event.target.name, ""),
                "hop": f"{hop.transport}:{hop.ip}:{hop.port}",
                "with_location": event.with_location,
                "started_at": instant(started_at),
                "ended_at": instant(at),
                "status": event.status,
                "outcome": "answered",
            }
        )
        self._put_outcome(call, "answered", event.status, event.target.name, at)

    def dialog_ended(self, event: DialogEnded, at: datetime) -> None:
        self._put({"type": "ended", "call": _call_of(event).id, "at": instant(at)})

    def stranger(self, stranger: Stranger) -> None:
        self._put(stranger.entry())

    def callback_received(self, callback: Callback) -> None:
        """A call from a carrier is on its way to whom it is for, or has nobody."""
        self._put(
            {
                "type": "callback",
                "id": callback.id,
                "account_id": callback.account_id,
                "call": callback.call,
                "number": clean_text(callback.number),
                "from": clean_text(callback.from_uri),
                "pbx_id": callback.pbx_id,
                "target": clean_text(callback.target),
                "psap": callback.psap,
                "orphan": callback.orphan,
                "received_at": instant(callback.received_at),
            }
        )

    def callback_finished(
        self, callback: Callback, outcome: str, status: int, target: Target | None, at: datetime
    ) -> None:
        """It was answered, or failed; `target` is who answered."""
        entry = {"type": "callback_outcome", "id": callback.id, "outcome": outcome, "status": status}
        if target is not None:
            entry |= {"target": target.edit.request_uri or "", "orphan": target.name.startswith(ONSITE)}
        self._put(entry | {"at": instant(at)})

    def callback_ended(self, callback: Callback, at: datetime) -> None:
        self._put({"type": "callback_ended", "id": callback.id, "at": instant(at)})

    def _put_outcome(self, call: EmergencyCall, outcome: str, status: int, trunk_id: str | None, at: datetime) -> None:
        entry = {"type": "outcome", "call": call.id, "outcome": outcome, "status": status, "trunk_id": trunk_id}
        self._put(entry | {"at": instant(at)})

    def _forget_done(self, call_id: str, progress: Progress) -> None:
        if progress.is_finished and not progress.started:
            self._calls.pop(call_id, None)


def _conveyed_by(event: AttemptStarted) -> Conveyed:
    edit = event.target.edit
    if event.with_location and edit.adds_location:
        return Conveyed.OURS
    is_there = edit.keeps_location or _call_of(event).brings_location
    return Conveyed.CALLER_S if is_there else Conveyed.NONE


def _call_of(event: CallEvent) -> EmergencyCall:
    assert isinstance(event.tag, EmergencyCall)
    return event.tag


def _location_entry(location: DispatchableLocation | None) -> dict[str, Any] | None:
    if location is None:
        return None
    return {
        "id": location.id,
        "name": location.name,
        "civic_address": location.civic_address.as_dict(),
        "geo": location.geo.as_dict() if location.geo else None,
    }


def _hop_entry(hop: Hop) -> dict[str, Any]:
    return {"transport": hop.transport, "ip": hop.ip, "port": hop.port}


def instant(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds: `2026-11-21T20:00:00.123456Z`."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def clean_text(text: str) -> str:
    """What a peer wrote, fit for the record: octets that are no UTF-8 shown as escapes, length bounded."""
    return (
        text[:MAX_TEXT_CHARS].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "")
    )
