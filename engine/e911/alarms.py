"""What needs a person about emergency calls: each alarm says what it means for 911 and where it is cured. Pure."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from engine.e911.shadowing import Shadow
from engine.e911.sweep import UNTESTED_AFTER
from engine.numbers import numbers_of


class AlarmKind(StrEnum):
    """The kinds, the most urgent first."""

    TRUNKS_DOWN = "trunks_down"
    CALL_FAILED = "call_failed"
    CALLBACK_FAILED = "callback_failed"
    NO_LOCATION = "no_location"
    ROWS_UNREAD = "rows_unread"
    NUMBER_TAKEN = "number_taken"
    UNACKNOWLEDGED = "unacknowledged"
    NO_RECIPIENTS = "no_recipients"
    MAIL_FAILING = "mail_failing"
    NO_ADDRESS = "no_address"
    REJECTED = "rejected"
    CARRIER_ID_WITHHELD = "carrier_id_withheld"
    DISAGREEMENT = "disagreement"
    TRUNK_DOWN = "trunk_down"
    MAIL_FAILED = "mail_failed"
    WEBHOOK_FAILING = "webhook_failing"
    CHAT_FAILING = "chat_failing"
    NO_CALLBACK = "no_callback"
    NOT_VALIDATED = "not_validated"
    UNTESTED = "untested"


URGENT = frozenset(
    {
        AlarmKind.TRUNKS_DOWN, AlarmKind.CALL_FAILED, AlarmKind.NO_LOCATION, AlarmKind.NUMBER_TAKEN,
        AlarmKind.UNACKNOWLEDGED, AlarmKind.NO_RECIPIENTS, AlarmKind.MAIL_FAILING, AlarmKind.NO_ADDRESS,
        AlarmKind.REJECTED, AlarmKind.ROWS_UNREAD, AlarmKind.CALLBACK_FAILED,
    }
)  # fmt: skip
_PAGES = {  # where rows of each kind are entered
    "locations": "/locations", "networks": "/locations", "phones": "/phones", "lines": "/lines",
    "pbxs": "/settings#pbxs", "trunks": "/settings#trunks",
}  # fmt: skip
REFUSED_CALL, LOST_ABROAD = "refused_call", "lost_abroad"  # of the logs, told by Home itself
DISMISSIBLE = frozenset({AlarmKind.NO_LOCATION.value, AlarmKind.CALLBACK_FAILED.value, REFUSED_CALL, LOST_ABROAD})
"""What no act may ever mend: a stranger's call, a caller who was elsewhere that day, a call back to nobody."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """`text`: what is wrong and what it means for 911; `action`: the link's words; `href`: where it is cured; `until`:
    of one that can be dismissed, the newest thing it rests on.
    """

    kind: AlarmKind
    text: str
    action: str
    href: str
    until: dt.datetime | None = None

    @property
    def is_urgent(self) -> bool:
        return self.kind in URGENT


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Calls that went out without a location, and would again: how many, and the latest of them."""

    count: int
    who: str
    when: str  # in the account's zone
    at: dt.datetime
    call_id: str
    phone_id: str | None


@dataclass(frozen=True, slots=True)
class Missed:
    """Dispatchers' calls back that reached nobody: how many, and the latest. `pbx` is where it should have rung, empty
    where none is known; `was_tried`: that PBX was asked at all.
    """

    count: int
    number: str
    when: str  # in the account's zone
    at: dt.datetime
    status: int
    call_id: str | None
    pbx: str
    was_tried: bool
    is_orphan: bool  # nobody knew any more whose number it was


@dataclass(frozen=True, slots=True)
class Place:
    """A location as far as alarms care."""

    name: str
    has_address: bool
    status: str
    has_recipients: bool  # of mails
    country: str = ""  # of its address; empty: the account's
    withheld: Sequence[str] = ()  # carriers' profiles that know another address by the identifier they gave
    has_chats: bool = False  # recipients of its own by SMS or chat


@dataclass(frozen=True, slots=True)
class Standing:
    """What alarms are made of. `days`: how far back calls and messages were counted."""

    places: Sequence[Place]
    recipients: int  # of the account
    trunks_up: int
    trunks_down: Sequence[str]  # names of enabled trunks that answer no OPTIONS, or left a call at 100
    failed_calls: int
    unacknowledged: int
    disagreements: int
    latest_disagreement: str | None  # the call's id
    overdue_mails: int
    failed_mails: int
    is_mail_set_up: bool
    untested: int
    has_passed_a_test: bool
    without_caller: int = 0  # of the untested ones: nothing there can call, so there was nothing to test
    overdue_webhooks: int = 0
    overdue_chats: int = 0
    chats: int = 0  # recipients by SMS or chat, of the account
    is_connected: bool = True  # there is a PBX or a trunk: calls may come
    days: int = 7
    country: str = "US"  # of the account
    has_callback: bool = True  # some line, location or pool, or the account, has a number to call back
    mute_lines: int = 0  # with no number of their own, where neither the account nor any location has one
    unplaced: Unplaced | None = None
    missed: Missed | None = None
    shadows: Sequence[Shadow] = ()
    moved: int = 0  # of the untested ones: tested lately, with an address they have no more
    unread: Sequence[str] = ()  # rows and fields that no call can go by, as `AccountTable.faults` names them

    @property
    def number(self) -> str:
        """What people dial for help there."""
        return numbers_of(self.country).primary


def alarms_of(now: Standing) -> list[Alarm]:
    """Every alarm, the most urgent first."""
    found = [*_of_trunks(now), *_of_calls(now), *_of_rows(now)]
    found += [*_of_messages(now), *_of_places(now), *_of_numbers(now)]
    order = list(AlarmKind)
    return sorted(found, key=lambda alarm: order.index(alarm.kind))


def _of_trunks(now: Standing) -> list[Alarm]:
    down = len(now.trunks_down)
    if not down:
        return []
    names = _named(now.trunks_down)
    if not now.trunks_up:
        text = (
            f"No trunk answers ({names}): a {now.number} call may find no carrier, unless your PBX has a way "
            "of its own."
        )
        return [Alarm(AlarmKind.TRUNKS_DOWN, text, "Check the trunks", "/settings#trunks")]
    others = "one trunk that answers" if now.trunks_up == 1 else f"{now.trunks_up:,} trunks that answer"
    text = (
        f"{names} {'does' if down == 1 else 'do'} not answer: {now.number} calls go by the {others}, and there "
        "is less to fall back on."
    )
    return [Alarm(AlarmKind.TRUNK_DOWN, text, "Check the trunks", "/settings#trunks")]


def _of_rows(now: Standing) -> list[Alarm]:
    """Data that the SIP process cannot use: everything else of the account goes on."""
    if not now.unread:
        return []
    kind = now.unread[0].partition(": ")[0]
    href = _PAGES.get(kind, "/settings")
    more = f" So it is with {len(now.unread) - 1:,} more." if len(now.unread) > 1 else ""
    text = (
        f"{now.number} calls go out without what cannot be read of the database ({now.unread[0][:200]}), and by all "
        f"the rest.{more} Open it, enter it again and save; where its page fails, restore a backup."
    )
    return [Alarm(AlarmKind.ROWS_UNREAD, text, "Look at it", href)]


def _of_calls(now: Standing) -> list[Alarm]:
    found = []
    if now.failed_calls:
        text = (
            f"{_many(now.failed_calls, 'emergency call', 'emergency calls')} of the last {now.days} days reached no "
            "carrier. The next would fare alike until the cause is cured; each call's page names it."
        )
        found.append(Alarm(AlarmKind.CALL_FAILED, text, "See which", "/calls?kind=emergency&outcome=failed"))
    if now.missed is not None:
        found.append(_of_missed(now.missed, now))
    if now.unplaced is not None:
        found.append(_of_unplaced(now.unplaced, now))
    if now.unacknowledged:
        text = (
            f"{_many(now.unacknowledged, 'emergency call', 'emergency calls')} of the last {now.days} days "
            f"{'was' if now.unacknowledged == 1 else 'were'} acknowledged by nobody: perhaps nobody noticed."
        )
        found.append(Alarm(AlarmKind.UNACKNOWLEDGED, text, "See which", "/calls?kind=emergency"))
    if now.is_connected and not now.has_callback:
        text = (
            f"No number to call back is set anywhere: when a {now.number} call breaks off, the dispatcher reaches the "
            "caller only if the PBX sent a whole number. Give one to the account, and to lines and locations."
        )
        found.append(Alarm(AlarmKind.NO_CALLBACK, text, "Add a number", "/settings"))
    elif now.is_connected and now.mute_lines:
        text = (
            f"{_many(now.mute_lines, 'line has', 'lines have')} no number to call back, and neither the account nor a "
            f"location has one: when a {now.number} call from there breaks off, the dispatcher reaches the caller only "
            "if the PBX sent a whole number. Give one to the account, or to each line."
        )
        found.append(Alarm(AlarmKind.NO_CALLBACK, text, "Add a number", "/settings"))
    if now.disagreements:
        text = (
            f"Sources named different places for the caller of {_many(now.disagreements, 'call', 'calls')} in the last "
            f"{now.days} days: help may be sent to the wrong one. The call's page says which source to correct."
        )
        href = f"/calls/{now.latest_disagreement}" if now.latest_disagreement else "/calls"
        found.append(Alarm(AlarmKind.DISAGREEMENT, text, "See the latest", href))
    return found


def _of_unplaced(calls: Unplaced, now: Standing) -> Alarm:
    latest = f"by {calls.who} at {calls.when}"
    what = f"A {now.number} call {latest}"
    if calls.count > 1:
        what = f"{calls.count:,} {now.number} calls of the last {now.days} days, the latest {latest},"
    text = (
        f"{what} had no location and went out without an address: the dispatcher had to ask. Give the phone, its line "
        "or its network a location, or the account a default one; else the next goes the same way."
    )
    if calls.phone_id:
        return Alarm(AlarmKind.NO_LOCATION, text, "Place the phone", f"/phones/{calls.phone_id}", calls.at)
    return Alarm(AlarmKind.NO_LOCATION, text, "See the call", f"/calls/{calls.call_id}", calls.at)


def _of_missed(calls: Missed, now: Standing) -> Alarm:
    what = f"A dispatcher called {calls.number} back at {calls.when} and reached nobody."
    if calls.count > 1:
        latest = f"the latest to {calls.number} at {calls.when}"
        what = f"{calls.count:,} of dispatchers' calls back in the last {now.days} days reached nobody, {latest}."
    if calls.was_tried:
        why = f"{calls.pbx or 'The PBX'} did not let it through ({calls.status}). Let it take calls from this server"
    elif calls.is_orphan:
        why = "Who had that number was not known any more, and no on-site number is set. Give the location one"
    else:
        why = f"No address of {calls.pbx or 'the PBX'} is known: its registrar's name leads nowhere. Correct it"
    text = f"{what} {why}, and ask the caller whether help came."
    if calls.call_id:
        return Alarm(AlarmKind.CALLBACK_FAILED, text, "See the call", f"/calls/{calls.call_id}", calls.at)
    href, action = ("/locations", "See locations") if calls.is_orphan else ("/settings#pbxs", "See PBXs")
    return Alarm(AlarmKind.CALLBACK_FAILED, text, action, href, calls.at)


def _of_messages(now: Standing) -> list[Alarm]:
    found = []
    untold = [place.name for place in now.places if not (place.has_recipients or place.has_chats)]
    if not now.recipients and not now.chats and (untold or (now.is_connected and not now.places)):
        where = "" if len(untold) == len(now.places) else f" from {_named(untold)}"
        law = " The law asks for a notification (47 CFR § 9.16)." if now.country.upper() == "US" else ""
        text = f"Nobody is told when {now.number} is dialed{where}.{law}"
        found.append(Alarm(AlarmKind.NO_RECIPIENTS, text, "Name who is told", "/settings#recipients"))
    has_someone = now.recipients or any(place.has_recipients for place in now.places)
    if has_someone and not now.is_mail_set_up:
        text = f"No mail server is set up: {now.number} calls go out, and nobody is mailed."
        found.append(Alarm(AlarmKind.MAIL_FAILING, text, "Set it up", "/settings/mail"))
    elif now.overdue_mails:
        waiting = _many(now.overdue_mails, "message about calls waits", "messages about calls wait")
        text = (
            f"{waiting}: the mail server did not take what was tried, or nothing left for five minutes. {now.number} "
            "calls go out; staff hear of them late."
        )
        found.append(Alarm(AlarmKind.MAIL_FAILING, text, "See the calls", "/calls"))
    if now.overdue_webhooks:
        waiting = _many(now.overdue_webhooks, "message waits", "messages wait")
        text = (
            f"{waiting} for a webhook for longer than five minutes: whoever reads it hears late of {now.number} calls, "
            "which go out all the same. Its page shows what it answers."
        )
        found.append(Alarm(AlarmKind.WEBHOOK_FAILING, text, "See webhooks", "/settings/integrations"))
    if now.overdue_chats:
        waiting = _many(now.overdue_chats, "SMS or chat message waits", "SMS or chat messages wait")
        text = (
            f"{waiting} for longer than five minutes: who reads there hears late of {now.number} calls, which go out "
            "all the same. The recipient's page shows what its service answers."
        )
        found.append(Alarm(AlarmKind.CHAT_FAILING, text, "See recipients", "/settings#recipients"))
    if now.failed_mails:
        text = (
            f"{_many(now.failed_mails, 'message', 'messages')} of the last {now.days} days could not be delivered: "
            f"somebody who should know of {now.number} calls does not. The call's page shows who, and why."
        )
        found.append(Alarm(AlarmKind.MAIL_FAILED, text, "See the calls", "/calls"))
    return found


def _of_places(now: Standing) -> list[Alarm]:
    bare = [place.name for place in now.places if not place.has_address]
    rejected = [place.name for place in now.places if place.has_address and place.status == "rejected"]
    draft = [place.name for place in now.places if place.has_address and place.status == "draft"]
    found = []
    if bare:
        text = (
            f"{_named(bare)} {_has(bare)} no address: the dispatcher of a {now.number} call from there has to ask the "
            "caller. Help needs a house number and a street, or coordinates."
        )
        found.append(Alarm(AlarmKind.NO_ADDRESS, text, "Add the address", "/locations"))
    if rejected:
        text = (
            f"The {_address(rejected)} of {_named(rejected)} {'was' if len(rejected) == 1 else 'were'} rejected, and "
            f"still sent with {now.number} calls: help may go astray. Correct what the validator names."
        )
        found.append(Alarm(AlarmKind.REJECTED, text, "Correct it", "/locations"))
    withheld = [place for place in now.places if place.withheld]
    if withheld:
        carriers = _named(sorted({name for place in withheld for name in place.withheld}))
        text = (
            f"{_named([place.name for place in withheld])}: {carriers} would look up another address by the "
            f"identifier it gave, so it is not sent. {now.number} calls carry the address itself where the trunk can. "
            "Give the carrier the address, then enter its identifier."
        )
        found.append(Alarm(AlarmKind.CARRIER_ID_WITHHELD, text, "See locations", "/locations"))
    if draft:
        is_testable = any(
            numbers_of(place.country or now.country).test
            for place in now.places
            if place.has_address and place.status == "draft"
        )
        how = (
            "Ask the validator, or dial 933 from there and listen."
            if is_testable
            else "Ask the validator, or ask your carrier how to check it."
        )
        text = (
            f"The {_address(draft)} of {_named(draft)} {'is' if len(draft) == 1 else 'are'} not validated: nobody has "
            f"confirmed that help finds it. {how}"
        )
        found.append(Alarm(AlarmKind.NOT_VALIDATED, text, "See locations", "/locations"))
    if now.untested and now.has_passed_a_test:
        text = " ".join(_of_tests(now))
        found.append(Alarm(AlarmKind.UNTESTED, text, "See which", "/locations/tests?show=overdue"))
    return found


def _of_numbers(now: Standing) -> list[Alarm]:
    """Each number that is an emergency somewhere, with its own cure; many are counted behind the third."""
    found = [Alarm(AlarmKind.NUMBER_TAKEN, one.text, one.action, one.href) for one in now.shadows[:3]]
    more = len(now.shadows) - len(found)
    if more:
        found[-1] = replace(found[-1], text=f"{found[-1].text} So it is with {more:,} more.")
    return found


def _of_tests(now: Standing) -> list[str]:
    """What is not known of locations, and where no test was possible: those want a phone, not a test."""
    told = []
    untested = now.untested - now.without_caller - now.moved
    if untested:
        told.append(
            f"{_many(untested, 'location', 'locations')} {'was' if untested == 1 else 'were'} not tested with 933 for "
            f"{UNTESTED_AFTER.days} days or ever: whether {now.number} calls from there arrive with "
            f"{'its address' if untested == 1 else 'their addresses'} is not known."
        )
    if now.moved:
        is_one = now.moved == 1
        told.append(
            f"The address of {_many(now.moved, 'location', 'locations')} was changed since "
            f"{'its' if is_one else 'their'} last test with 933: whether {now.number} calls from there "
            "arrive with the new one is not known."
        )
    if now.without_caller:
        more = "more " if now.untested > now.without_caller else ""
        where = _many(now.without_caller, f"{more}location", f"{more}locations")
        told.append(f"At {where} no test was possible: no phone, line or subnet leads there.")
    return told


def _address(names: Sequence[str]) -> str:
    return "address" if len(names) == 1 else "addresses"


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _named(names: Sequence[str]) -> str:
    """Up to three names, and how many more there are."""
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2:,} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _many(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
