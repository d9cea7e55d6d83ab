"""What needs a person about emergency calls: each alarm says what it means for 911 and where it is cured."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from engine.e911.alarms import AlarmKind, Missed, Place, Standing, Unplaced, alarms_of

GOOD = Standing(
    places=[Place("Headquarters", has_address=True, status="validated", has_recipients=False)], recipients=2,
    trunks_up=2, trunks_down=[], failed_calls=0, unacknowledged=0, disagreements=0, latest_disagreement=None,
    overdue_mails=0, failed_mails=0, is_mail_set_up=True, untested=0, has_passed_a_test=True,
)  # fmt: skip
BARE = Place("Home office", has_address=False, status="draft", has_recipients=True)
MISSED = Missed(
    1, "+15185550101", "2026-11-23 12:10", dt.datetime(2026, 11, 23, 17, 10, tzinfo=dt.UTC), 480, "call_1", "Main PBX",
    was_tried=False, is_orphan=False,
)  # fmt: skip


def test_where_all_is_well_nothing_is_said() -> None:
    """S0-18: an alarm that is always there is read by nobody."""
    assert alarms_of(GOOD) == []


@pytest.mark.parametrize(
    ("changes", "kind", "words", "href"),
    [
        ({"trunks_up": 0, "trunks_down": ["A", "B"]}, "trunks_down", "No trunk answers (A and B)", "#trunks"),
        ({"trunks_down": ["A"]}, "trunk_down", "A does not answer: 911 calls go by", "/settings#trunks"),
        ({"failed_calls": 1}, "call_failed", "1 emergency call of the last 7 days reached no", "outcome=failed"),
        (
            {"missed": replace(MISSED, was_tried=True)}, "callback_failed",
            "at 2026-11-23 12:10 and reached nobody. Main PBX did not let it through (480). Let it", "/calls/call_1",
        ),
        (
            {"missed": replace(MISSED, call_id=None)}, "callback_failed",
            "A dispatcher called +15185550101 back", "/settings#pbxs",
        ),
        (
            {"missed": replace(MISSED, count=2)}, "callback_failed",
            "2 of dispatchers' calls back in the last 7 days reached nobody, the latest to +15185550101 at", "call_1",
        ),
        (
            {"missed": replace(MISSED, call_id=None)}, "callback_failed",
            "No address of Main PBX is known: its registrar's name leads nowhere. Correct it, and ask the", "pbxs",
        ),
        (
            {"missed": replace(MISSED, call_id=None, is_orphan=True)}, "callback_failed",
            "no on-site number is set. Give the location one, and ask", "/locations",
        ),
        ({"unacknowledged": 2}, "unacknowledged", "2 emergency calls of the last 7 days were", "/calls"),
        (
            {"unread": ["pbxs: pbx_1, its sources cannot be read: x", "lines: l cannot be read"]}, "rows_unread",
            "911 calls go out without what cannot be read of the database (pbxs: pbx_1, its sources", "/settings#pbxs",
        ),
        ({"unread": ["numbers: x cannot be read"]}, "rows_unread", "and by all the rest. Open it", "/settings"),
        ({"recipients": 0}, "no_recipients", "Nobody is told when 911 is dialed.", "/settings#recipients"),
        ({"is_mail_set_up": False}, "mail_failing", "nobody is mailed", "/settings/mail"),
        ({"overdue_mails": 3}, "mail_failing", "3 messages about calls wait", "/calls"),
        ({"failed_mails": 1}, "mail_failed", "1 message of the last 7 days could not be delivered", "/calls"),
        ({"disagreements": 1, "latest_disagreement": "call_1"}, "disagreement", "may be sent to the wrong", "call_1"),
        ({"untested": 1}, "untested", "1 location was not tested with 933 for 90 days", "/locations/tests"),
        (
            {"untested": 5, "without_caller": 2}, "untested",
            "At 2 more locations no test was possible: no phone, line or subnet leads there.", "/locations/tests",
        ),
        ({"untested": 5, "without_caller": 2}, "untested", "3 locations were not tested", "/locations/tests"),
        ({"untested": 1, "without_caller": 1}, "untested", "At 1 location no test was possible", "/locations/tests"),
        ({"untested": 1, "moved": 1}, "untested", "The address of 1 location was changed since its last", "/locations"),
        ({"has_callback": False}, "no_callback", "No number to call back is set anywhere: when a 911", "/settings"),
        (
            {"mute_lines": 1}, "no_callback",
            "1 line has no number to call back, and neither the account nor a location has one: when", "/settings",
        ),
        ({"mute_lines": 2}, "no_callback", "2 lines have no number to call back", "/settings"),
        ({"places": [BARE]}, "no_address", "Home office has no address: the dispatcher", "/locations"),
        (
            {"places": [replace(GOOD.places[0], status="rejected")]}, "rejected",
            "The address of Headquarters was rejected, and still sent", "/locations",
        ),
        (
            {"places": [replace(GOOD.places[0], status="draft")]}, "not_validated",
            "The address of Headquarters is not validated", "/locations",
        ),
    ],
)  # fmt: skip
def test_each_alarm_says_what_it_means_and_leads_to_its_cure(
    changes: dict[str, Any], kind: str, words: str, href: str
) -> None:
    """S0-18, E-10, E-14, E-15: no recipients, bad addresses, silent trunks and mail servers, untested locations."""
    (alarm,) = alarms_of(replace(GOOD, **changes))
    assert alarm.kind == kind
    assert words in alarm.text
    assert href in alarm.href
    assert alarm.action
    assert alarm.text.endswith(".")


def test_the_most_urgent_comes_first_and_names_are_bounded() -> None:
    """S0-18: hundreds of locations make one line."""
    places = [Place(f"Site {at}", has_address=True, status="draft", has_recipients=True) for at in range(200)]
    found = alarms_of(replace(GOOD, places=places, trunks_up=0, trunks_down=["A"], untested=200))
    assert [alarm.kind for alarm in found] == [AlarmKind.TRUNKS_DOWN, AlarmKind.NOT_VALIDATED, AlarmKind.UNTESTED]
    assert "Site 0, Site 1 and 198 more" in found[1].text
    assert [alarm.is_urgent for alarm in found] == [True, False, False]


def test_a_location_with_its_own_recipients_is_told_without_the_accounts() -> None:
    """E-10: an empty list is an alarm only for the locations that have none of their own."""
    places = [replace(GOOD.places[0], has_recipients=True), replace(GOOD.places[0], name="Dock")]
    (alarm,) = alarms_of(replace(GOOD, recipients=0, places=places))
    assert "Nobody is told when 911 is dialed from Dock." in alarm.text
    assert alarms_of(replace(GOOD, recipients=0, places=places[:1])) == []


def test_a_new_account_is_not_greeted_with_alarms() -> None:
    """S0-18: before anything is connected the first steps say what to do."""
    new = replace(GOOD, places=[], recipients=0, trunks_up=0, is_connected=False, has_passed_a_test=False)
    assert alarms_of(new) == []
    assert [alarm.kind for alarm in alarms_of(replace(new, is_connected=True))] == [AlarmKind.NO_RECIPIENTS]


def test_a_british_account_is_told_neither_of_933_nor_of_american_law() -> None:
    """S0-18: numbers and law are those of the country."""
    draft = Place("Depot", has_address=True, status="draft", has_recipients=False)
    changes: dict[str, Any] = {
        "country": "GB", "places": [draft, BARE], "recipients": 0, "trunks_up": 0, "trunks_down": ["A"],
        "is_mail_set_up": False, "failed_mails": 1, "has_callback": False, "overdue_webhooks": 1,
    }  # fmt: skip
    told = " ".join(alarm.text for alarm in alarms_of(replace(GOOD, **changes)))
    assert ("911" in told, "933" in told, "CFR" in told, "999" in told) == (False, False, False, True)
    abroad = replace(GOOD, country="GB", places=[replace(draft, country="US")])
    assert "dial 933 from there" in alarms_of(abroad)[0].text


def test_one_untested_location_is_spoken_of_as_one() -> None:
    """S0-18: numbers agree with their words."""
    (one,), (many,) = (alarms_of(replace(GOOD, untested=count)) for count in (1, 2))
    assert "arrive with its address is not known" in one.text
    assert "arrive with their addresses is not known" in many.text


def test_a_call_without_a_location_is_told_with_the_next_step() -> None:
    """S0-18: where the phone is known, that is where it is placed; with the country's number, and dismissible."""
    at = dt.datetime(2026, 11, 21, 20, tzinfo=dt.UTC)
    (one,) = alarms_of(replace(GOOD, unplaced=Unplaced(1, "Dana Reyes", "2026-11-21 14:00", at, "call_1", None)))
    assert (one.kind, one.is_urgent, one.href, one.until) == (AlarmKind.NO_LOCATION, True, "/calls/call_1", at)
    assert one.text.startswith("A 911 call by Dana Reyes at 2026-11-21 14:00 had no location")
    british = replace(GOOD, country="GB", unplaced=Unplaced(3, "102", "2026-11-21 14:00", at, "call_1", "phone_1"))
    (several,) = alarms_of(british)
    assert several.href == "/phones/phone_1"
    assert several.text.startswith("3 999 calls of the last 7 days, the latest by 102 at 2026-11-21 14:00, had no")


def test_a_withheld_identifier_is_told_with_the_carrier_and_the_place() -> None:
    """E-07, E-14: what was withheld, what goes instead, what to do."""
    place = Place("Keepers", has_address=True, status="validated", has_recipients=True, withheld=("bandwidth",))
    (found,) = [each for each in alarms_of(replace(GOOD, places=[place])) if each.kind == AlarmKind.CARRIER_ID_WITHHELD]
    assert "Keepers: bandwidth would look up another address" in found.text
    assert "Give the carrier the address" in found.text
