"""The stream behind `/alerts`: server-sent events, one for each change of a call, for as long as the page is open.

Theory of operation. The handler authenticates in its transaction like any other, and answers with a response that does
its streaming when it is sent, after that transaction has ended. While it is open it asks again, every half minute,
whether who watches still may: a session that was ended or a right that was taken ends the stream with a word of why.
That asking counts as use of the session, so that a page somebody looks at all day is not signed out for idleness
(docs/decisions/0032). A beat every ten seconds lets the page know that it is not blind. A page too many is told what
there is, why it may not watch, and when to ask again.
"""

import asyncio
import contextlib
import datetime as dt
import json
import zoneinfo
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse
from sqlalchemy.exc import SQLAlchemyError

from admin import auth
from admin.context import ACCOUNT, ACTOR, ALERT_PACE, ALERTS, BROWSER, DATABASE, REQUEST_ID, SCOPES
from admin.render import environment, zone_of
from admin.routes import Route
from engine.accounts.displays import is_display
from engine.accounts.scopes import Scope
from engine.audit.changes import rfc3339
from engine.audit.events import Event
from engine.audit.record import record
from engine.db import utc_now
from engine.e911.acknowledging import caller_of
from engine.e911.alerts import AlertBoard, Change, Opening, Watcher
from engine.e911.store_calls import RINGS_FOR
from engine.e911.telling import number_near
from engine.errors import EngineError, TooManyRequests
from engine.models import CallKind, EmergencyCall

SEND_WITHIN_S = 30.0  # a page that takes nothing for so long is gone, or will come back
MAX_SHOWN = 400  # calls kept as they were last drawn
_shown: OrderedDict[tuple[object, ...], str] = OrderedDict()


class AlertStream(EventSourceResponse):
    """A response that streams while it is being sent. `request` was let in; `route` is asked for again and again."""

    def __init__(self, request: web.Request, route: Route) -> None:
        super().__init__(headers={hdrs.CACHE_CONTROL: "no-store"}, send_timeout=SEND_WITHIN_S, ping_interval=15.0)
        self.headers[hdrs.CACHE_CONTROL] = "no-store"
        self._request, self._route = request, route
        self._account, self._actor = request[ACCOUNT].id, request[ACTOR]  # asked again, the request may name others
        self._board: AlertBoard = request.app[ALERTS]
        self._zone, self._country = zone_of(request[ACCOUNT]), request[ACCOUNT].country
        self._pace = request.app[ALERT_PACE]
        self._last = request.headers.get("Last-Event-ID") or request.query.get("last", "")

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the headers, then everything there is to tell, until the page goes or may no longer look."""
        writer = await super().prepare(request)
        try:
            await self._follow()
        except (ConnectionError, TimeoutError):
            pass  # the page is gone; it comes back by itself
        finally:
            self.stop_streaming()
            await self._note_end()
        return writer

    async def _follow(self) -> None:
        browser = self._request.get(BROWSER)
        holder = browser.id if browser is not None else self._actor.id
        try:
            watcher, opening = await self._board.join(
                self._account, self._last, holder=holder, is_display=is_display(browser)
            )
        except TooManyRequests as exc:
            await self._tell_one_too_many(exc)
            return
        except EngineError as exc:
            await self._say("trouble", {"sentence": exc.detail})
            return
        except (SQLAlchemyError, OSError):
            sentence = "The database is away. Emergency calls go on; this page tries again."
            await self._say("trouble", {"sentence": sentence})
            return
        try:
            await self._open(opening)
            await self._hand_on(watcher)
        finally:
            self._board.leave(watcher)

    async def _tell_one_too_many(self, refusal: TooManyRequests) -> None:
        """The calls as they are now, why nothing follows, and when to ask again: it sees calls, only later."""
        with contextlib.suppress(SQLAlchemyError, OSError, EngineError):
            await self._open(await self._board.present(self._account))
        await self._say("trouble", {"sentence": refusal.detail, "again_s": refusal.retry_after_s})

    async def _hand_on(self, watcher: Watcher) -> None:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        while not self._board.is_closed:
            change: Change | None = None
            try:
                async with asyncio.timeout(self._pace.beat_s):
                    change = await watcher.changes.get()
            except TimeoutError:
                await self._say("beat", {})
            else:
                if change is not None:
                    await self._say("call", self._told(change.call), change.cursor)
                elif not self._board.is_closed:
                    await self._open(await self._board.look_again(watcher))
            if loop.time() - asked_at >= self._pace.ask_s:
                asked_at = loop.time()
                if sentence := await self._why_not():
                    await self._say("ended", {"sentence": sentence})
                    return

    async def _open(self, opening: Opening) -> None:
        told = {"is_whole": opening.is_whole, "calls": [self._told(call) for call in opening.calls]}
        await self._say("opening", told, opening.cursor)

    async def _say(self, event: str, told: Mapping[str, Any], cursor: str | None = None) -> None:
        now = {"now": rfc3339(utc_now())}
        await self.send(json.dumps(now | dict(told), ensure_ascii=False), id=cursor, event=event)

    async def _why_not(self) -> str:
        """Why who watches may not go on; empty when they may, or when the database cannot be asked now."""
        try:
            async with self._request.app[DATABASE].sessions.begin() as session:
                try:
                    await auth.authenticate(self._request, session, self._route)
                    auth.authorise(self._request, self._route)
                    if self._request[ACCOUNT].id != self._account:
                        return "This browser acts for another account now. Open its alerts anew."
                except EngineError as exc:
                    session.expunge_all()
                    return exc.detail
        except (SQLAlchemyError, OSError, EngineError):
            return ""
        return ""

    async def _note_end(self) -> None:
        """The second of the stream's two audit entries; without a database there is only the first."""
        try:
            async with self._request.app[DATABASE].sessions.begin() as session:
                record(
                    session, self._actor, Event.EMERGENCY_CALL_FOLLOW_END, resource=("emergency_call", "alerts", ""),
                    status=200, bulk_id=self._request[REQUEST_ID], account_id=self._account,
                )  # fmt: skip
        except (SQLAlchemyError, OSError, EngineError, RuntimeError):
            return

    def _told(self, call: EmergencyCall) -> dict[str, Any]:
        can_acknowledge = Scope.CALLS_WRITE in self._request[SCOPES]
        html = drawn(call, self._zone, self._country, can_acknowledge=can_acknowledge)
        return told_of(call, utc_now()) | {"html": html}


def told_of(call: EmergencyCall, now: dt.datetime) -> dict[str, Any]:
    """What a page's script needs to know of a call."""
    return {
        "id": call.id,
        "kind": call.kind,
        "sent_at": rfc3339(call.sent_at),
        "rings": rings(call, now),
        "is_acknowledged": call.acknowledged_at is not None,
        "acknowledged_by": call.acknowledged_by,
        "sentence": sentence_of(call),
    }


def rings(call: EmergencyCall, now: dt.datetime) -> bool:
    """Whether somebody has to look at it now: no test, not acknowledged, not a day old."""
    return call.acknowledged_at is None and call.kind != CallKind.TEST and now - call.sent_at < RINGS_FOR


def sentence_of(call: EmergencyCall) -> str:
    """The call in one sentence, as a screen reader says it."""
    word = {CallKind.TEST: "Test: ", CallKind.DRILL: "Drill: "}.get(CallKind(call.kind), "Emergency: ")
    extension = str(call.caller.get("extension") or "")
    who = caller_of(call) + (f", extension {extension}" if extension and extension != caller_of(call) else "")
    where = str((call.location or {}).get("name") or "an unknown place")
    return f"{word}{call.dialed} dialed by {who} at {where}."


def drawn(call: EmergencyCall, zone: zoneinfo.ZoneInfo, country: str, *, can_acknowledge: bool) -> str:
    """The call's entry in the list, drawn once for all pages that show the same. `country`: the account's."""
    key = (call.id, call.changed_at, call.acknowledged_at, call.outcome, str(zone), country, can_acknowledge)
    if key not in _shown:
        template = environment().get_template("_alert.html.j2")
        _shown[key] = template.render(
            call=call, zone=zone, can_acknowledge=can_acknowledge, rings=rings(call, utc_now()), path="/alerts",
            number=number_near(call, country),
        )  # fmt: skip
        while len(_shown) > MAX_SHOWN:
            _shown.popitem(last=False)
    return _shown[key]
