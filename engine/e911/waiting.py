"""Emergency calls that wait, 300 ms at the very most, for the location their request refers to.

The fetch itself is the main process's (`dereference.py`); here is the element's own clock. The main process away, a
server known to be late, or too many questions open: the call leaves at once. An answer that comes later is kept for
the next call.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

from engine.e911.location_uris import Key, LocationUris

WAIT_S = 0.3
ANSWER_WITHIN_S = 10.0  # twice what the main process gives a server; then the question is forgotten
MAX_OPEN = 256
REFRESH_S = 5.0


@dataclass(slots=True, eq=False)
class _Waiter:
    go_on: Callable[[], None]
    clock: asyncio.TimerHandle = field(init=False)


@dataclass(slots=True, eq=False)
class _Question:
    key: Key
    clock: asyncio.TimerHandle
    waiters: list[_Waiter] = field(default_factory=list)


class ReferenceWait:
    """Asks the main process for locations and lets calls go on, each exactly once.

    Args:
        tell: Sends a line to the main process; never waits.
        wait_s: How long a call waits at most.
        answer_within_s: After that a question is forgotten.
    """

    def __init__(
        self, uris: LocationUris, *, tell: Callable[..., None], wait_s: float = WAIT_S,
        answer_within_s: float = ANSWER_WITHIN_S,
    ) -> None:  # fmt: skip
        self.uris = uris
        self.asked = self.resolved = self.late = 0
        self.is_main_here = True
        self._tell, self._wait_s, self._answer_within_s = tell, wait_s, answer_within_s
        self._loop = asyncio.get_running_loop()
        self._tokens = count(1)
        self._open: dict[str, _Question] = {}
        self._token_of: dict[Key, str] = {}
        self._refreshed_at = 0.0

    @property
    def holding(self) -> int:
        """Calls that wait now."""
        return sum(len(question.waiters) for question in self._open.values())

    def ask(self, account_id: str, uri: str) -> bool:
        """Ask, without waiting, unless it is asked already; False when nobody can be asked."""
        return self._question((account_id, uri)) is not None

    def hold(self, account_id: str, uri: str, go_on: Callable[[], None]) -> None:
        """Ask, and call `go_on` once: with the answer there, or after `wait_s`, or at once when nobody can be asked."""
        question = self._question((account_id, uri))
        if question is None:
            go_on()
            return
        waiter = _Waiter(go_on)
        waiter.clock = self._loop.call_later(self._wait_s, self._too_late, question, waiter)
        question.waiters.append(waiter)

    def located(self, answer: Mapping[str, Any]) -> None:
        """The main process's `located`: `token`, `pidf` or None, `detail`, and perhaps `max_age_s`."""
        question = self._open.pop(str(answer["token"]), None)
        if question is None:
            return
        self._token_of.pop(question.key, None)
        question.clock.cancel()
        pidf, max_age_s = answer.get("pidf"), answer.get("max_age_s")
        is_known = self.uris.answered(
            question.key,
            datetime.now(UTC),
            str(pidf).encode() if pidf is not None else None,
            str(answer.get("detail") or ""),
            float(max_age_s) if max_age_s is not None else None,
        )
        self.resolved += is_known
        self._release(question)

    def refresh(self, now_s: float) -> None:
        """Ask ahead for what is about to go stale; called at each tick."""
        if self.is_main_here and now_s - self._refreshed_at >= REFRESH_S:
            self._refreshed_at = now_s
            for account_id, uri in self.uris.due(datetime.now(UTC)):
                self.ask(account_id, uri)

    def main_gone(self) -> None:
        """There is nobody left to ask: whoever waits goes on now."""
        self.is_main_here = False
        questions, self._open, self._token_of = list(self._open.values()), {}, {}
        for question in questions:
            question.clock.cancel()
            self._release(question)

    def _question(self, key: Key) -> _Question | None:
        token = self._token_of.get(key)
        if token is not None:
            return self._open[token]
        if not self.is_main_here or len(self._open) >= MAX_OPEN:
            return None
        token = f"d{next(self._tokens)}"
        question = _Question(key, self._loop.call_later(self._answer_within_s, lambda: self._forget(token)))
        self._open[token], self._token_of[key] = question, token
        self.asked += 1
        self._tell(**{"is": "dereference"}, token=token, account_id=key[0], uri=key[1], deadline_s=self._wait_s)
        return question

    def _too_late(self, question: _Question, waiter: _Waiter) -> None:
        question.waiters.remove(waiter)
        self.late += 1
        self.uris.was_late(question.key, datetime.now(UTC))
        waiter.go_on()

    def _forget(self, token: str) -> None:
        question = self._open.pop(token)
        self._token_of.pop(question.key, None)
        self._release(question)

    def _release(self, question: _Question) -> None:
        waiters, question.waiters = question.waiters, []
        fault: Exception | None = None
        for waiter in waiters:
            waiter.clock.cancel()
            try:
                waiter.go_on()
            except Exception as exc:  # noqa: BLE001 - one call that cannot go on must not keep the others here
                fault = exc
        if fault is not None:
            raise fault
