"""The pages' pure parts, without a browser: days in a zone, addresses in lines, the ladder, what is masked."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from multidict import MultiDict

from admin.audit_filters import parse_asked
from admin.pages.audit import REGISTRY
from admin.pages.calls import flag_sentence, flags_of
from admin.pages.calls_ladder import draw
from admin.pages.entry import own_address
from admin.pages.form import Form
from admin.render import ago, civic_lines, mac_text, text_only, time_tag, words
from engine.audit.events import Event
from engine.errors import FieldFault, Invalid
from engine.models import CallAttempt, EmergencyCall, Notification

NEW_YORK = ZoneInfo("America/New_York")
NOON = dt.datetime(2026, 11, 21, 17, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-11-01", 25), ("2026-03-08", 23), ("2026-11-21", 24)], ids=["autumn", "spring", "usual"]
)
def test_a_day_is_as_long_as_it_is_in_that_zone(day: str, hours: int):
    """S0-39: both ends inclusive, right on the days the clocks change."""
    filters = parse_asked(MultiDict({"start": day, "end": day}), NEW_YORK).filters
    assert filters.since is not None
    assert filters.until is not None
    assert filters.until - filters.since == dt.timedelta(hours=hours) - dt.timedelta(milliseconds=1)
    assert filters.since.astimezone(NEW_YORK).hour == 0


def test_either_end_of_the_time_range_may_be_empty():
    """S0-39: a start alone, an end alone."""
    assert parse_asked(MultiDict({"start": "2026-11-21"}), NEW_YORK).filters.until is None
    assert parse_asked(MultiDict({"end": "2026-11-21"}), NEW_YORK).filters.since is None


@pytest.mark.parametrize(
    "query", [{"start": "21.11.2026"}, {"end": "0001-01-01"}, {"outcome": "maybe"}, {"event": "x.y"}, {"before": "-1"}]
)
def test_a_filter_that_cannot_be_read_is_refused_by_name(query: dict[str, str]):
    """S0-39: nothing is filtered by guess."""
    with pytest.raises(Invalid) as caught:
        parse_asked(MultiDict(query), NEW_YORK)
    assert [fault.field for fault in caught.value.fields] == list(query)


def test_the_event_picker_offers_every_event_once():
    """S0-40, S0-42: each event stands in exactly one category, as a read or a write."""
    offered = [name for _category, events in REGISTRY for name, _access in events]
    assert sorted(offered) == sorted(event.value for event in Event)


def test_only_our_own_addresses_are_followed_after_signing_in():
    """S1-31 (open redirect): schemes, hosts, backslashes and control characters lead Home."""
    for kept in ("/", "/calls?cursor=x", "/settings#provisioning"):
        assert own_address(kept) == kept
    for refused in (
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "",
        "/a\nb",
        "x",
    ):
        assert own_address(refused) == "/"


def test_every_flag_becomes_a_sentence():
    """E-12: known flags say what they mean; an unknown one is still readable."""
    assert "went out all the same" in flag_sentence("location_unknown")
    assert flag_sentence("malformed:bad_date").startswith("The PBX's request was not well formed (Bad date)")
    assert flag_sentence("something_new") == "Something new."
    assert "has on file" in flag_sentence("location_not_sent")
    assert flag_sentence("shortened:Telnyx: HNO").startswith("Telnyx takes less of this address: HNO was")
    assert "NOT" in flag_sentence("not_sent")
    assert "recipients" in flag_sentence("no_recipients")


def test_a_call_answered_without_the_location_it_had_says_so():
    """E-12: 47 CFR 9.3: after a 424 the same trunk takes the call without it; staff must not read it as conveyed."""
    refused = CallAttempt(number=1, with_location=True, outcome="refused")
    bare, whole = (CallAttempt(number=2, with_location=told, outcome="answered") for told in (False, True))
    call = _call(location={"name": "HQ"}, flags=["stale"])
    assert flags_of(call, [refused, bare]) == ["stale", "answered_without_location"]
    assert flags_of(call, [refused, whole]) == flags_of(call, [refused]) == ["stale"]
    assert flags_of(_call(location=None, flags=[]), [bare]) == []
    assert flags_of(_call(location={"name": "HQ"}, flags=["location_not_sent"]), [bare]) == ["location_not_sent"]
    assert "took it without" in flag_sentence("answered_without_location")


def test_a_call_that_went_to_who_proved_nothing_says_so():
    """E-12, decision 0041: the trunk's certificate wants mending, whoever answered."""
    failed = CallAttempt(number=1, with_location=True, outcome="unreachable", hop="tls:192.0.2.1:5061")
    unproven = CallAttempt(number=2, with_location=True, outcome="answered", hop="tls:192.0.2.1:5061 unproven")
    call = _call(location={"name": "HQ"}, flags=[])
    assert flags_of(call, [failed, unproven]) == ["carrier_unproven"]
    assert flags_of(call, [failed]) == []
    assert "certificate mended" in flag_sentence("carrier_unproven")


def _call(**fields: object) -> EmergencyCall:
    values = {"dialed": "911", "received_at": NOON, "sent_at": NOON, "outcome": "in_progress", "status_code": None}
    return EmergencyCall(**{**values, "answered_at": None, "ended_at": None, **fields})


def _attempt(number: int, trunk: str, outcome: str, status: int | None = None) -> CallAttempt:
    return CallAttempt(
        number=number, trunk_id=trunk, trunk_name=trunk, with_location=number == 1, outcome=outcome, status_code=status,
        started_at=NOON + dt.timedelta(milliseconds=number), ended_at=NOON + dt.timedelta(milliseconds=number + 10),
    )  # fmt: skip


def test_the_ladder_draws_a_trunk_tried_twice_in_one_column():
    """E-08, E-12: 488, the same trunk without location, then the answer goes back to the PBX."""
    attempts = [_attempt(1, "one", "refused", 488), _attempt(2, "one", "answered", 200)]
    ladder = draw(_call(outcome="answered", status_code=200, answered_at=NOON + dt.timedelta(seconds=1)), attempts, [])
    assert [column.name for column in ladder.columns] == ["PBX", "Callpoint", "one"]
    texts = [step.text for step in ladder.steps]
    assert texts == [
        "INVITE 911", "INVITE with location", "INVITE without location", "488 refused", "200 answered", "200 answered",
    ]  # fmt: skip
    assert ladder.steps[-1].direction == -1
    assert ladder.summary == "911 came from the PBX. one: 488 refused; one: 200 answered. The call is answered."


def test_the_ladder_of_a_call_without_trunk_or_answer_is_drawn_all_the_same():
    """E-12: no attempt, nobody told yet: two columns and what is known."""
    waiting = Notification(recipient="a@example.com", created_at=NOON, sent_at=None)
    ladder = draw(_call(outcome="failed", status_code=503), [], [waiting])
    assert [step.text for step in ladder.steps] == ["INVITE 911", "503 failed", "1 message not sent yet"]
    assert all(0 <= step.x1 <= ladder.width and step.y <= ladder.height for step in ladder.steps)


def test_an_address_is_read_as_on_an_envelope():
    """S0-15: the street line in its spoken order, the inside of the building, the town."""
    address = {
        "country": "US", "A1": "NY", "A3": "Albany", "PC": "12203", "HNO": "120", "HNS": "1/2", "PRD": "N",
        "RD": "Washington", "STS": "Ave", "POD": "SW", "FLR": "4", "ROOM": "412", "NAM": "Acme", "LOC": "Reception",
    }  # fmt: skip
    assert civic_lines(address) == [
        "Acme", "120 1/2 N Washington Ave SW", "Floor 4, Room 412, Reception", "Albany, NY 12203", "US",
    ]  # fmt: skip
    assert civic_lines({"country": "US"}) == ["US"]
    assert civic_lines(None) == []


def test_times_are_shown_in_the_accounts_zone_with_utc_beside():
    """S0-32: the text is local, the title and machine value UTC to the millisecond."""
    at = dt.datetime(2026, 7, 4, 3, 5, 6, 7000, tzinfo=dt.UTC)
    utc = "2026-07-04T03:05:06.007Z"
    assert time_tag(at, NEW_YORK) == f'<time datetime="{utc}" title="{utc} (UTC)">2026-07-03 23:05:06 EDT</time>'
    assert time_tag(None, NEW_YORK) == "never"


def test_an_hour_that_a_clock_shows_twice_is_told_apart_in_every_row():
    """S0-32, S0-39: 01:30 before and after the clocks go back; the hours around it stay as short as ever."""
    first = dt.datetime(2026, 11, 1, 5, 30, tzinfo=dt.UTC)
    shown = [str(time_tag(first + dt.timedelta(hours=hour), NEW_YORK, "row")) for hour in (-1, 0, 1, 2)]
    assert [text.partition(">")[2].removesuffix("</time>") for text in shown] == [
        "2026-11-01 00:30:00", "2026-11-01 01:30:00 EDT", "2026-11-01 01:30:00 EST", "2026-11-01 02:30:00",
    ]  # fmt: skip
    spring = dt.datetime(2026, 3, 8, 6, 59, 59, tzinfo=dt.UTC)
    assert ">2026-03-08 01:59:59<" in str(time_tag(spring, NEW_YORK, "row"))
    assert ">2026-03-08 03:00:00<" in str(time_tag(spring + dt.timedelta(seconds=1), NEW_YORK, "row"))
    assert ago(NOON - dt.timedelta(minutes=4), NOON) == "4 min ago"


def test_small_texts():
    """S1-45: identifiers and stored names as people read them; JSON in a page cannot end its element."""
    assert mac_text("0015654aa937") == "00:15:65:4A:A9:37"
    assert words("never_booted") == "Never booted"
    assert words("api_key") == "API key"
    assert text_only('{"a": "</template><script>&"}') == '{"a": "&lt;/template&gt;&lt;script&gt;&amp;"}'


def test_faults_find_their_field_and_stray_ones_are_not_lost():
    """S0-13: one line of a list is its field's fault; a field the form does not show is told above it."""
    form = Form(
        {"sources": [], "name": ""},
        "no",
        (
            FieldFault("sources.1", "expected a network."),
            FieldFault("name", "Short."),
            FieldFault("geo.latitude", "Bad."),
        ),
    )
    assert form.faults("sources") == ["Expected a network."]
    assert form.faults("name") == ["Short."]
    assert form.stray == ["geo.latitude: Bad."]
