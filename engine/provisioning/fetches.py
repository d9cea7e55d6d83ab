"""What the fetch log is told: one event at the phones' port as a value, hashed and counted (pure)."""

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class FetchKind(StrEnum):
    FETCH = "fetch"
    NOT_MODIFIED = "not_modified"
    UPLOAD = "upload"
    DENIED = "denied"
    MISMATCH = "mismatch"
    FAILED = "failed"
    HELD = "held"  # a location was asked for
    HELD_DENIED = "held_denied"


SERVED = frozenset({FetchKind.FETCH, FetchKind.NOT_MODIFIED})


class Fetch(NamedTuple):  # made and hashed on every request: a tuple does both in C
    """One kind of event at one place. Equal ones inside an interval are counted together; the token is never in it.

    `reason` says why it was denied. `absent` alone is no denial: it is how a phone learns that a file of its boot
    order is not there. `revision` is the account's, for a file that holds lines; `etag` tells whether the phone got
    something new. `token_index`: the keyed index of the token it asked with; it is never written with the event.
    `confidence`: how sure the vendor is; `seen`: vendor and model of a phone that says it is another one than the kept.
    `is_proven`: by the phone's own certificate.
    """

    kind: FetchKind
    file: str
    method: str
    status: int
    ip: str
    user_agent: str
    account_id: str | None = None
    phone_id: str | None = None
    mac: str = ""
    reason: str | None = None
    firmware: str | None = None
    revision: int | None = None
    etag: str | None = None
    evidence: tuple[str, ...] = ()
    size_bytes: int = 0
    token_index: str = ""
    confidence: str = ""
    seen: tuple[str, str] | None = None
    is_proven: bool = False


class Noted(NamedTuple):
    """An event as one process tells it to another."""

    fetch: Fetch
    at: dt.datetime
    times: int
    duration_us: int


@dataclass(slots=True)
class Count:
    """How often an event was noted, since when, and what all of them took together."""

    at: dt.datetime
    count: int = 0
    duration_us: int = 0


def in_text(fetch: Fetch) -> Fetch:
    """The event with bytes that are no text written out (`\\xff`): no database takes them, and one such row would hold
    up all others for ever.
    """
    agent, *evidence = (
        text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        for text in (fetch.user_agent, *fetch.evidence)
    )
    return fetch._replace(user_agent=agent[:400], evidence=tuple(evidence))
