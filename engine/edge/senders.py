"""Who may be heard by the SIP process, and what is written down of those whom it does not know.

Peers are heard always, strangers up to a number of datagrams. What a stranger tried stands in the journal, an attempt
to reach 911 each time.
"""

from datetime import UTC, datetime

from engine.e911 import dial
from engine.e911.entries import CallRecorder, Stranger
from engine.e911.flood import StrangerLimit
from engine.e911.hook import CALL_METHODS, Hook
from engine.e911.trunks import TrunkWatch
from engine.edge.faults import Faults
from engine.edge.line import Lines
from engine.sip.events import MessageRefused
from engine.sip.forward import Hop


class Senders:
    """Asked about every message from elsewhere. `heard`: addresses found to be known since the last tick."""

    def __init__(self, hook: Hook, trunks: TrunkWatch, recorder: CallRecorder, lines: Lines, faults: Faults) -> None:
        self._hook, self._trunks, self._recorder = hook, trunks, recorder
        self._lines, self._faults = lines, faults
        self._strangers = StrangerLimit()
        self.heard: set[str] = set()

    @property
    def unheard(self) -> int:
        """Datagrams of strangers that were not looked at."""
        return self._strangers.unheard

    def hears(self, hop: Hop, now: float) -> bool:
        """May this datagram be looked at? Those a default route leads to may answer as much as they like; they are
        trusted with nothing else.
        """
        if hop.ip in self.heard:  # found so since the last tick
            return True
        try:
            is_known = self.knows(hop)
        except Exception as exc:  # noqa: BLE001 - then it is heard as anybody is
            self._faults.sender(exc)
            is_known = False
        if is_known:
            self.heard.add(hop.ip)
            return True
        return self._strangers.hears(hop.ip, now)

    def knows(self, hop: Hop) -> bool:
        """Somebody whose connections strangers must not crowd out."""
        return self._hook.is_trusted(hop) or hop.ip in self._trunks.route_ips

    def note(self, stranger: Stranger, now: float) -> None:
        """Record what a stranger tried, unless that is on record often enough."""
        if self._strangers.records(stranger, now):
            self._recorder.stranger(stranger)

    def note_refused(self, event: MessageRefused, now: float) -> None:
        """A message that was refused: a peer's is told in the log, and is on record where it asked for help; a
        stranger's is recorded.
        """
        if self._hook.is_trusted(event.source):
            self._note_lost(event, now)
            if self._strangers.logs(event.source.ip, now):
                self._lines.log("message_refused", level="warning", source=event.source.ip, detail=event.detail)
        elif event.method is not None:
            at = datetime.now(UTC)
            self.note(Stranger(event.source, event.method, event.request_uri or "", "", False, at), now)

    def _note_lost(self, event: MessageRefused, now: float) -> None:
        """An emergency request of a PBX that could not be read, or would have gone round for ever."""
        peer, method, uri = self._hook.peers.at(event.source), event.method or "", event.request_uri or ""
        if peer is None or method.upper() not in CALL_METHODS:
            return
        account, pbx = peer
        if dial.classify(uri, "", account.number_plan).is_emergency:
            who, at = (account.account_id, pbx.id), datetime.now(UTC)
            self.note(Stranger(event.source, method, uri, "", True, at, *who, event.detail, event.status), now)

    def tick(self, now: float) -> None:
        """Ask again who is known; record who gave no proof."""
        self.heard.clear()
        for stranger in self._hook.peers.take_unproven(datetime.now(UTC)):
            self.note(stranger, now)
