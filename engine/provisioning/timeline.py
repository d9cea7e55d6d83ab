"""A phone's fetch log as people think of it: boots, each with the files asked for (pure).

A phone that restarts asks for all its files within seconds; a pause of more than a minute begins another boot. What
came before the boot and is no fetch (a NOTIFY that asked for it) is told with it.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

GAP_S = 60.0
RESYNC = "resync"
_IS_A_FAULT = frozenset({"denied", "mismatch", "failed"})
_NOT_ITS_FILE = frozenset({"unknown", "vendor"})  # reasons: the asker may be another device than the one kept
_NOT_OF_A_BOOT = frozenset({"held", "held_denied"})  # a phone asks for its location at other times too


class LoggedFetch(Protocol):
    """A row of the fetch log."""

    @property
    def kind(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def file(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def status_code(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def duration_us(self) -> int: ...
    @property
    def ip(self) -> str: ...
    @property
    def user_agent(self) -> str: ...
    @property
    def evidence(self) -> dict[str, object]: ...
    @property
    def at(self) -> dt.datetime: ...


@dataclass(frozen=True, slots=True)
class BootFile:
    """One file of a boot. `count`: how often it was asked for at once; `note`: why it was not handed out, in words;
    `asked_by`: of a file that such phones do not have, what the User-Agent says the asker is, where it says that.
    """

    name: str
    method: str
    kind: str
    status_code: int
    size_bytes: int
    duration_ms: float
    at: dt.datetime
    count: int = 1
    note: str = ""
    asked_by: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether the phone should have got it. A file that is known not to be there is how phones look around."""
        return self.kind in _IS_A_FAULT and self.note != "absent"


@dataclass(frozen=True, slots=True)
class Boot:
    """Files asked for one after another. `resync`: how the NOTIFY before it was answered; "": nobody asked for it."""

    started_at: dt.datetime
    ended_at: dt.datetime
    ip: str
    user_agent: str
    files: tuple[BootFile, ...]
    resync: str = ""

    @property
    def took_s(self) -> float:
        return (self.ended_at - self.started_at).total_seconds()

    @property
    def status(self) -> str:
        """`failed`: a file it should have got was refused; `current`: nothing was new; `fetched` otherwise."""
        if any(file.is_fault for file in self.files):
            return "failed"
        handed = [file for file in self.files if file.kind in {"fetch", "not_modified"}]
        return "current" if handed and all(file.kind == "not_modified" for file in handed) else "fetched"


def boots(
    events: Iterable[LoggedFetch], *, gap_s: float = GAP_S, named: Callable[[str], str] = lambda _agent: ""
) -> list[Boot]:
    """Those events as boots, the latest boot first and its files in the order they were asked for.

    Args:
        events: Newest first, as the log is read. A boot at the end may be cut off: the caller reads one more page.
        named: Vendor and model that a User-Agent names; "" for one that names none.
    """
    groups: list[list[LoggedFetch]] = []
    asked: dict[int, str] = {}  # the boot that follows a NOTIFY, by its place
    answer, answered_at = "", None
    for event in reversed([one for one in events if one.kind not in _NOT_OF_A_BOOT]):
        if event.kind == RESYNC:
            answer, answered_at = event.reason or str(event.status_code), event.at
            continue
        if not groups or (event.at - groups[-1][-1].at).total_seconds() > gap_s:
            groups.append([])
            if answered_at is not None and (event.at - answered_at).total_seconds() <= gap_s:
                asked[len(groups) - 1] = answer
            answer, answered_at = "", None
        groups[-1].append(event)
    found = [_boot(group, asked.get(at, ""), named) for at, group in enumerate(groups)]
    return found[::-1]


def _boot(events: Sequence[LoggedFetch], resync: str, named: Callable[[str], str]) -> Boot:
    latest = events[-1]
    return Boot(
        started_at=events[0].at,
        ended_at=latest.at,
        ip=latest.ip,
        user_agent=next((event.user_agent for event in reversed(events) if event.user_agent), ""),
        files=tuple(_file(event, named) for event in events),
        resync=resync,
    )


def _file(event: LoggedFetch, named: Callable[[str], str]) -> BootFile:
    evidence = event.evidence or {}
    sentences, count = evidence.get("sentences"), evidence.get("count")
    note = event.reason or ""
    if event.kind == "failed" and isinstance(sentences, list) and sentences:
        note = str(sentences[0])
    return BootFile(
        name=event.file,
        method=event.method,
        kind=event.kind,
        status_code=event.status_code,
        size_bytes=event.size_bytes,
        duration_ms=event.duration_us / 1000,
        at=event.at,
        count=count if isinstance(count, int) else 1,
        note=note,
        asked_by=named(event.user_agent) if note in _NOT_ITS_FILE else "",
    )
