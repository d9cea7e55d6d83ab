"""What the SIP process says when something of its own is not as it should be: lines for the operator, and what the main
process is told.
"""

from datetime import UTC, datetime

from engine.e911.entries import instant
from engine.edge.line import Lines
from engine.sip.events import Event


class Faults:
    """One method for each thing that may fail or recover; none of them raises."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._addresses = ""

    def snapshot(self, detail: str) -> None:
        self._lines.log("snapshot_fault", level="error", detail=detail)

    def element(self, detail: str) -> None:
        self._lines.log("element_failed", level="critical", detail=detail)

    def dialect(self, detail: str) -> None:
        self._lines.log("dialect_failed", level="critical", detail=detail)

    def decision(self, detail: str) -> None:
        self._lines.log("decision_failed", level="critical", error=detail)

    def event(self, event: Event, fault: Exception) -> None:
        self._lines.log("event_failed", level="error", of=type(event).__name__, error=repr(fault)[:500])

    def sender(self, fault: Exception) -> None:
        self._lines.log("sender_unknown", level="critical", error=repr(fault)[:500])

    def timer(self, fault: Exception) -> None:
        self._lines.log("timer_failed", level="critical", error=repr(fault)[:500])

    def tick(self, fault: BaseException) -> None:
        self._lines.log("tick_failed", level="error", error=repr(fault)[:500])

    def tls(self, detail: str) -> None:
        self._lines.log("tls_fault", level="error", detail=detail)
        self._lines.tell(**{"is": "fault"}, detail=detail)

    def trunk(self, account_id: str, trunk_id: str, is_up: bool, detail: str) -> None:
        at = instant(datetime.now(UTC))
        message = {"account_id": account_id, "trunk_id": trunk_id, "up": is_up, "at": at, "detail": detail}
        self._lines.tell(**{"is": "trunk"}, **message)

    def sibling(self, worker: int, is_silent: bool) -> None:
        if is_silent:
            detail = "It does not take what it is handed. Its 911 calls are served here until it is heard again."
            self._lines.log("sibling_silent", level="warning", worker=worker, detail=detail)
        else:
            self._lines.log("sibling_back", worker=worker)

    def loans(self, detail: str) -> None:
        event, level = ("loans_fault", "error") if detail else ("loans_recovered", "info")
        self._lines.log(event, level=level, detail=detail)

    def addresses(self, detail: str) -> None:
        """Told again and again, said when it changes."""
        if detail != self._addresses:
            self._addresses = detail
            event, level = ("addresses_fault", "error") if detail else ("addresses_recovered", "info")
            self._lines.log(event, level=level, detail=detail)

    def journal(self, detail: str) -> None:
        """From the journal's thread."""
        self._lines.log(
            "journal_fault" if detail else "journal_recovered", level="critical" if detail else "info", detail=detail
        )
        self._lines.tell(**{"is": "journal"}, fault=detail)
