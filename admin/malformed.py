"""Requests that cannot be read as HTTP: counted, and told to the operator at a pace no stranger sets.

They are no audit entries: there is no account, no person, no operation, only bytes that somebody sent to the port. An
entry for each would let whoever reaches the port make the platform's log as long as they like.
"""

import time
from collections.abc import Callable

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

TOLD_EVERY_S = 60.0
_log = structlog.get_logger()


class Malformed:
    """How many there were, as `callpoint_admin_malformed_requests_total`, and a line of the log a minute at most."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._counter = Counter(
            "callpoint_admin_malformed_requests", "Requests to the admin port that are no HTTP.", ["why"],
            registry=registry,
        )  # fmt: skip
        self._clock = clock
        self._told_at: float | None = None
        self._untold = 0  # since the last line

    def take(self, request_id: str, ip: str | None, why: str) -> None:
        """One more. The line names the newest alone and counts those before it.

        Args:
            why: The parser's own word for it, one of a few (`BadHttpMessage`); nothing of the request itself.
        """
        self._counter.labels(why).inc()
        now = self._clock()
        if self._told_at is not None and now - self._told_at < TOLD_EVERY_S:
            self._untold += 1
            return
        _log.warning("malformed_http", request_id=request_id, ip=ip, why=why, untold_before=self._untold)
        self._told_at, self._untold = now, 0


MALFORMED: web.AppKey[Malformed] = web.AppKey("malformed", Malformed)
