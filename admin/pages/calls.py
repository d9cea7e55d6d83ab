"""Emergency calls: the list, one page for each call, and sending a message to staff again."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from aiohttp import web

from admin.call_export import exported
from admin.call_filters import page_filters
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.page_addresses import leave_out
from admin.pages.calls_ladder import draw
from admin.pages.form import Form, see_other
from admin.place_field import Places, place_called, places
from admin.render import has_test_number, plural, render, words, zone_of
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.accounts.store import is_id
from engine.audit.events import Event
from engine.e911 import notify, store
from engine.e911.entries import UNPROVEN_MARK
from engine.e911.masking import without_credentials
from engine.e911.store_calls import NO_LOCATION, CallFilters
from engine.errors import FieldFault, Invalid, NotFound
from engine.models import CallAttempt, EmergencyCall

PAGE = 50
_FLAGS = {
    "location_unknown": "No location is known for this caller, so none was sent. The call went out all the same. "
    "Add the caller's subnet to a location.",
    "stale": "Nobody has confirmed this address for more than a year. It was sent; look whether it is still right.",
    "disagreement": "Two sources name different places for this caller. The first in the order was sent; see below.",
    "stale_sighting": "The phone was last seen at this place more than a day ago. Nothing newer said otherwise, so it "
    "was sent; see to it that switches, access points or phones report more often.",
    "unplaced_sighting": "The phone was last seen at a switch or access point that no location has, so what stands on "
    "record was sent. Below stands which: add it to its location, or the next call is as unsure.",
    "reference_unresolved": "The PBX named a location server that gave no location within 300 ms, and nothing but a "
    "default was known. The call went out with that; below stands what the server said.",
    "sender_unproven": "The PBX gave a wrong password. Its address fits, so the call went out all the same; check the "
    "password that is set in the PBX.",
    "sender_shared": "Several accounts have this PBX's address and nothing proved which one called. It was taken for "
    "the one that knows the caller, else the oldest. Let each PBX prove itself.",
    "elin_exhausted": "Every number of the location's pool was lent to a caller. The one lent longest ago was taken "
    "from its caller, who can no longer be called back by it. Add numbers to the pool.",
    "location_not_sent": "The trunk takes no location with the call, by its own setting or its carrier's profile: "
    "responders get the address that the carrier has on file for the callback number. See that it is the same.",
    "callers_location_sent": "The trunk takes no location of ours with the call, by its own setting or its carrier's "
    "profile. What the phone or PBX itself wrote into the call went on as it came and may name another place than the "
    "one here: the INVITE below shows it.",
    "answered_without_location": "The trunk that answered had refused the call with its location and took it without: "
    "responders get the address that the carrier has on file, if any. Ask the carrier why.",
    "carrier_unproven": "No trunk took this call in any other way, so it went to one whose certificate does not prove "
    "its name: to the carrier most likely, and encrypted, but anybody on the way could have taken it. Have the "
    "certificate mended; Settings says what is wrong with it.",
    "not_sent": "This call was NOT sent: no trunk could take it. Add a trunk, and see what trunks answer.",
    "cut_by_restart": "The SIP process ended while the call rang; its end was noted when the next one started. "
    "Whether the caller was answered is not known: call them back.",
    "end_unknown": "The SIP process ended while the call went on: when it ended is not known, only when that "
    "was noticed.",
    "node_lost": "The node that carried the call gave no sign of life for long and was taken for lost; staff were "
    "told. Should it come back, what it knows of the call's end stands here.",
    "hung_up_unanswered": "The caller hung up before anybody answered, after tries at trunks had failed: perhaps no "
    "responders know of this call. Call back, and see what the trunks answer.",
    "answered_after_all": "Staff had been told that nobody took this call, or that the caller hung up first. A trunk "
    "answered it late, and they were told so; the caller may have heard nobody.",
    "called_back_in_vain": "A dispatcher called the caller's number back and reached nobody. Staff were told; the "
    "calls back stand below.",
    "no_recipients": "Nobody was told: neither the account nor the location has recipients. Add some.",
    "elin_low": "The location's pool of callback numbers is nearly used up. Add numbers before the next calls.",
}


_SOURCES = {
    "bssid": "Wi-Fi access point",
    "subnet": "Network of the phone",
    "confirmed": "Confirmed by the user",
    "request": "In the call itself",
    "reference": "Location server named in the call",
    "pbx_default": "PBX default",
}


_KINDS = (("emergency", "911 and others"), ("test", "Tests (933)"), ("drill", "Drills"))
_KINDS_ELSEWHERE = (("emergency", "Emergency calls"), ("test", "Test calls"), ("drill", "Drills"))
_OUTCOMES = (
    ("answered", "Answered"), ("failed", "Failed"), ("cancelled", "Hung up before an answer"),
    ("cut_off", "Cut by a restart"),
    ("in_progress", "In progress"),
)  # fmt: skip


async def get_calls(request: web.Request) -> web.Response:
    asked = await _asked(request)
    filters, faults = asked.filters, asked.faults
    page = await _page_asked(request, filters)
    chosen = {name: text for name, text in asked.typed.items() if text}
    offered = await _offered(request, asked)
    shown = {**asked.typed, "location": asked.typed["location"] if faults else offered.shown(filters.location)}
    return render(
        request,
        "calls.html.j2",
        calls=page.rows,
        form=Form(shown, "Some filters cannot be read; the list is without them." if faults else "", tuple(faults)),
        is_filtered=bool(chosen),
        chosen=urlencode(chosen),
        next_address=f"/calls?{urlencode(chosen | {'cursor': page.next_cursor})}" if page.next_cursor else "",
        kinds=_KINDS if has_test_number(request[ACCOUNT].country) else _KINDS_ELSEWHERE,
        outcomes=_OUTCOMES,
        places=offered,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """The form as it was sent. `near`: locations whose names are near to one that is none."""

    filters: CallFilters
    typed: dict[str, str]
    faults: list[FieldFault]
    near: Sequence[str] = ()


async def _asked(request: web.Request) -> _Asked:
    """What the address asks for; a location by its identifier, `NO_LOCATION`, or its name."""
    query, zone = dict(request.query), zone_of(request[ACCOUNT])
    name = query.get("location", "").strip()
    if not name or name == NO_LOCATION or is_id(name):
        return _Asked(*page_filters(query, zone))
    called = await place_called(request, name)
    filters, typed, faults = page_filters(query | {"location": called.location_id or ""}, zone)
    if called.location_id is not None:
        return _Asked(filters, typed, faults)
    return _Asked(filters, typed | {"location": name}, [*faults, FieldFault("location", called.detail)], called.near)


async def _offered(request: web.Request, asked: _Asked) -> Places:
    """The form's locations. One that was removed since stays chosen: its calls are here."""
    location = asked.filters.location
    offered = await places(request, location)
    if offered.is_many:
        return replace(offered, near={"location": asked.near})
    known = {"", NO_LOCATION, *(choice for choice, _ in offered.choices)}
    gone = [(location, "A location that was removed")] if location not in known else []
    return replace(offered, choices=[*offered.choices, *gone, (NO_LOCATION, "No location known")])


async def _page_asked(request: web.Request, filters: CallFilters) -> store.CallPage:
    """The page that the address's cursor names; the first where it names none, which the page says."""
    session, account, cursor = request[SESSION], request[ACCOUNT], request.query.get("cursor") or None
    try:
        return await store.calls_of(session, account.id, filters, limit=PAGE, cursor=cursor)
    except Invalid:
        if cursor is None:
            raise
        leave_out(request, "cursor", "Expected a link of this page, unchanged.")
        return await store.calls_of(session, account.id, filters, limit=PAGE)


async def get_calls_csv(request: web.Request) -> web.Response:
    return await _file(request, "csv")


async def get_calls_json(request: web.Request) -> web.Response:
    return await _file(request, "jsonl")


async def _file(request: web.Request, kind: str) -> web.Response:
    asked = await _asked(request)
    if asked.faults:  # a file without the filter that was asked for would look like the one with it
        raise Invalid("Some filters cannot be read, so no file was made.", fields=tuple(asked.faults))
    return await exported(request, asked.filters, kind)


async def get_call(request: web.Request) -> web.Response:
    session = request[SESSION]
    call = await store.call_by_id(session, request[ACCOUNT].id, request.match_info["id"])
    if call is None:
        raise NotFound("This account has no such call.")
    attempts = await store.attempts_of(session, call)
    notifications = await store.notifications_of(session, call)
    return render(
        request,
        "call.html.j2",
        call=call,
        flags=flags_of(call, attempts),
        attempts=attempts,
        notifications=notifications,
        callbacks=await store.callbacks_of(session, call),
        escalations=[(dt.datetime.fromisoformat(one["at"]), one["step"], one["told"]) for one in call.escalations],
        ladder=draw(call, attempts, notifications),
        invites=_invites(call, attempts),
        taken=taken_sentence(call),
        sent_after=sent_after(call),
        took=_took,
        flag_sentence=flag_sentence,
        age=_age,
        source_words=lambda source: _SOURCES.get(source) or words(source),
    )


async def post_resend(request: web.Request) -> web.Response:
    session = request[SESSION]
    notification = await store.notification_by_id(session, request[ACCOUNT].id, request.match_info["id"])
    if notification is None:
        raise NotFound("This account has no such message.")
    await notify.resend(session, request[ACTOR], notification)
    return see_other(f"/calls/{notification.emergency_call_id}", "resent")


def sent_after(call: EmergencyCall) -> str:
    """How long the call was here before its first INVITE left; of one that nobody noted the moments of, so much."""
    milliseconds = (call.sent_at - call.received_at).total_seconds() * 1000
    if milliseconds <= 0:
        return "at once"
    return f"{milliseconds:.2f} ms after it came" if milliseconds < 10 else f"{milliseconds:,.0f} ms after it came"


def _invites(call: EmergencyCall, attempts: Sequence[CallAttempt]) -> list[tuple[str, str]]:
    """What was sent to whom, first to last; records of builds that kept credentials are masked here."""
    first = attempts[0].trunk_name if attempts else ""
    sent = [(first, call.invite), *((attempt.trunk_name, attempt.invite) for attempt in attempts)]
    return [(name, without_credentials(text)) for name, text in sent if text]


def taken_sentence(call: EmergencyCall) -> str:
    """Where the call's location came from, with the evidence, in one sentence."""
    taken = next((rung for rung in call.verdict if rung.get("taken")), None)
    if taken is None:
        return "No source knew where the caller is."
    source = _SOURCES.get(str(taken.get("source"))) or words(taken.get("source"))
    why = str(taken.get("why") or "").rstrip(".")
    age = _age(taken.get("age_s"))
    asked = sum(1 for rung in call.verdict if rung.get("said"))
    others = f" {plural(asked - 1, 'other source')} named a place too." if asked > 1 else ""
    return f"Taken from: {source}{f' ({why})' if why else ''}{f', {age}' if age else ''}.{others}"


def flags_of(call: EmergencyCall, attempts: Sequence[CallAttempt]) -> list[str]:
    """The call's flags, and what only its attempts show: it was answered where its location had been refused, or by
    who had not proven to be the carrier.
    """
    answered = next((attempt for attempt in reversed(attempts) if attempt.outcome == "answered"), None)
    is_bare = answered is not None and not answered.with_location and bool(call.location)
    is_new = is_bare and not {"location_not_sent", "answered_without_location"} & set(call.flags)
    is_unproven = answered is not None and (answered.hop or "").endswith(UNPROVEN_MARK)
    shown = {"answered_without_location": is_new, "carrier_unproven": is_unproven}
    return [*call.flags, *(flag for flag, is_shown in shown.items() if is_shown)]


def flag_sentence(flag: str) -> str:
    """What a verdict's flag means for the call and what to do."""
    if flag.startswith("malformed:"):
        what = words(flag.removeprefix("malformed:").replace("_", " "))
        return f"The PBX's request was not well formed ({what}). It was sent on all the same; tell the PBX's maker."
    if flag.startswith("shortened:"):
        trunk, _, elements = flag.removeprefix("shortened:").rpartition(": ")
        return f"{trunk} takes less of this address: {elements} was shortened or left out in what it was sent."
    return _FLAGS.get(flag, f"{words(flag)}.")


def _age(seconds: int | None) -> str:
    """How old a source's word was at the time of the call; empty when nobody knows."""
    if seconds is None:
        return ""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{plural(seconds // size, unit)} old"
    return "of that moment"


def _took(attempt: CallAttempt) -> str:
    if attempt.ended_at is None:
        return "still going"
    return f"{(attempt.ended_at - attempt.started_at).total_seconds() * 1000:,.0f} ms"


ROUTES = (
    Route("GET", "/calls", get_calls, Scope.CALLS_READ, Event.EMERGENCY_CALL_LIST, on_display=True),
    Route("GET", "/calls/export.csv", get_calls_csv, Scope.CALLS_READ, Event.EMERGENCY_CALL_EXPORT),
    Route("GET", "/calls/export.jsonl", get_calls_json, Scope.CALLS_READ, Event.EMERGENCY_CALL_EXPORT),
    Route("GET", "/calls/{id}", get_call, Scope.CALLS_READ, Event.EMERGENCY_CALL_READ, on_display=True),
    Route("POST", "/notifications/{id}/resend", post_resend, Scope.CALLS_WRITE, Event.NOTIFICATION_RESEND),
)
