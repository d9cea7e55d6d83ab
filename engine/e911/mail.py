"""Composing the mail that tells on-call staff of a 911 or 933 call (47 CFR § 9.3, § 9.16(b)(2)).

The text is composed once, when the call is recorded, and kept with the notification: what a page shows and what a
late retry sends are the same words. The HTML part is laid out from that text, so the two parts cannot differ.

Whatever a phone system sends as a name may hold anything; here it becomes one line of printable text before it gets
near a header or a template.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.charset import QP, Charset
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime, formataddr, parseaddr
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.e911.fields import MAX_INSTRUCTION_CHARS, MAX_PREFIX_CHARS
from engine.e911.location import (
    DISAGREEMENT,
    NO_LOCATION,
    REFERENCE_UNRESOLVED,
    STALE,
    STALE_SIGHTING,
    UNPLACED_SIGHTING,
)
from engine.models import CallKind

NOT_SENT = "not_sent"  # a flag of the recorder: the account had no trunk, so that nobody outside knows of the call
LOCATION_DROPPED = "answered_without_location"  # likewise: the carrier refused the address and took the call without
REACHED_NOBODY = "reached_nobody"  # what a mail says of a call that every trunk refused or left without an answer
HUNG_UP = "hung_up_unanswered"  # a flag of the recorder: the caller gave up after tries had failed
CUT = "cut_by_restart"  # likewise: the process that carried the call ended before anybody answered
NODE_LOST = "node_lost"  # the node that carried the call is silent for long; beside CUT, or of an answered call
ANSWERED_AFTER_ALL = "answered_after_all"  # likewise: staff had been told that nobody took the call, or of a hang-up
CALLED_BACK = "called_back_in_vain"  # likewise: a dispatcher called the caller's number and reached nobody
MAX_PLACES = 3  # where sources disagree; the call's page has all
MAX_LINE_CHARS = 200  # of one value: longer ones are cut, so that nobody's display name fills the screen
MAX_SUBJECT_CHARS = 150  # phones show about 40, desktop programs about 100
_ENGINE = Path(__file__).parent.parent
_WIRE = compat32.clone(linesep="\r\n")
_QUOTED = Charset("utf-8")
_QUOTED.body_encoding = QP  # 7 bits: every mail server takes them, whatever it says about 8BITMIME
_PLAIN_ADDRESS = re.compile(r"[!-;=?-~]+@[!-;=?-~]+")
_ROW = re.compile(r"(?P<label>[A-Z][A-Za-z ]{1,13}):  *(?P<value>\S.*)")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})  # controls, direction marks, surrogates, unassigned

_FOUND_BY = {
    "switch_port": "the switch port the phone is plugged into",
    "switch": "the switch the phone is plugged into",
    "bssid": "the Wi-Fi access point the phone is at",
    "subnet": "the network the phone is on",
    "confirmed": "the address the caller confirmed on this network",
    "request": "the phone system said so in the call itself",
    "reference": "the location server that the phone system named",
    "phone": "the phone's own location",
    "line": "the line's location",
    "pbx_default": "the PBX's default location: the caller may be elsewhere",
    "account_default": "the account's default location: the caller may be elsewhere",
}
_FLAGS = {
    NO_LOCATION: "No location was known for this caller and none was conveyed to {number}. Ask the caller where they "
    "are.",
    STALE: "This address was last confirmed more than a year ago. Check that it still holds.",
    DISAGREEMENT: "Sources disagree about where the caller is. What stands under Address was conveyed; they may be at "
    "another place instead. Ask the caller, and have somebody look at both.",
    STALE_SIGHTING: "The phone was last seen at this place more than a day ago. Ask the caller whether they "
    "are still there.",
    UNPLACED_SIGHTING: "The phone was last seen at a switch or access point that nobody has given a place. The address "
    "above is the one on record: the phone may have been moved, so ask the caller where they are.",
    REFERENCE_UNRESOLVED: "The phone system named a location server that gave no answer in time. The address above is "
    "a default: ask the caller where they are.",
    "location_not_sent": "The carrier takes no address with the call. Responders get the one it has on file for the "
    "callback number, which may be another: tell them the address above.",
    "callers_location_sent": "The carrier takes no address of ours with the call. Responders get one that the phone or "
    "phone system wrote into the call, which may be another: tell them the address above.",
    LOCATION_DROPPED: "The carrier refused the address and took the call without one, so responders were not given the "
    "address above. They get what the carrier has on file for the callback number, which may be another place.",
    "elin_exhausted": "The callback number was lent to another caller less than a hold time ago: whoever calls it back "
    "reaches the caller of this call.",
    "elin_low": "The callback numbers of this location are nearly used up. Ask the administrator to add some.",
    "sender_unproven": "The phone system gave a wrong password. Its address is right, so the call was sent.",
    "sender_shared": "Several accounts share this phone system's address. The call was taken for this account's.",
    NOT_SENT: "THIS CALL WAS NOT SENT: no trunk could take it. Call {number} from another telephone for this caller "
    "now.",
    REACHED_NOBODY: "THIS CALL REACHED NOBODY: no trunk answered it. Call {number} from another telephone for this "
    "caller now.",
    HUNG_UP: "The caller hung up before anybody answered, after tries to reach a carrier had failed. Perhaps no "
    "responders know of this call.",
    CUT: "Callpoint's SIP process ended while this call was ringing. Whether anybody answered the caller is not known; "
    "perhaps no responders know of this call.",
    NODE_LOST: "The Callpoint node that carried this call has given no sign of life for so long that it is taken for "
    "lost: how the call ended is not known. Tell the administrator.",
    ANSWERED_AFTER_ALL: "An earlier message about this call no longer holds: a carrier answered it after all, so the "
    "emergency centre knows of it. The answer came late: the caller may have heard nobody.",
    CALLED_BACK: "A dispatcher called the caller's number back and reached neither the caller nor anybody on site.",
}
_MARKS = {CallKind.TEST: "TEST", CallKind.DRILL: "DRILL"}
_WHAT_IT_WAS = {
    CallKind.TEST: ", the carrier's test line: TEST, not an emergency",
    CallKind.DRILL: ", pretended: DRILL, nobody was called",
}
_FLAGS_OF_A_TEST = _FLAGS | {
    LOCATION_DROPPED: "The carrier refused the address and took the test without one: responders to a real call would "
    "not get it. Tell the administrator.",
    NOT_SENT: "THIS TEST WAS NOT SENT: no trunk could take it. Nobody needs help, but a real emergency call would fail "
    "like this one. Tell the administrator now.",
    REACHED_NOBODY: "THIS TEST REACHED NOBODY: no trunk answered it. Nobody needs help, but a real emergency call "
    "would fail like this one. Tell the administrator now.",
    HUNG_UP: "The caller hung up before the test line answered, after tries to reach a carrier had failed. A real "
    "emergency call would fare like this one. Tell the administrator.",
    CUT: "Callpoint's SIP process ended while this test was ringing. Whether the test line answered is not known: dial "
    "it again.",
    ANSWERED_AFTER_ALL: "An earlier message about this test no longer holds: a carrier answered it after all, but "
    "late. Tell the administrator.",
}


def _templates() -> Path:
    """Inside the installed package, else beside it in a checkout."""
    installed = _ENGINE / "_templates" / "mail"
    return installed if installed.is_dir() else _ENGINE.parent / "templates" / "mail"


_TEXT = Environment(  # a text part: nothing in it is markup
    loader=FileSystemLoader(_templates()),
    undefined=StrictUndefined,
    autoescape=False,  # noqa: S701  # escaping would show &amp; to the reader; the HTML part has its own environment
    keep_trailing_newline=True,
)
_HTML = Environment(loader=FileSystemLoader(_templates()), undefined=StrictUndefined, autoescape=True)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of the account's audit chain just before the call: who has this mail can tell a rewritten log.

    `signature`: the first digits of the signed checkpoint's signature; `key`: a short name of the key that signed it.
    """

    chain: str
    seq: int
    hash: str
    signature: str
    key: str


@dataclass(frozen=True, slots=True)
class Told:
    """All that a notification says about a call. Texts are as received; composing cleans them."""

    call_id: str  # ours: call_…
    dialed: str
    kind: CallKind
    caller_name: str
    extension: str
    callback_number: str | None
    location_name: str | None  # None: no location was conveyed
    civic_address: Mapping[str, Any]
    geo: Mapping[str, Any]
    location_source: str
    flags: tuple[str, ...]
    sent_at: datetime
    timezone: str
    onsite_number: str | None
    account_name: str
    page_url: str | None
    checkpoint: Checkpoint | None
    prefix: str = ""  # what the account or location wants in front of the subject
    instructions: tuple[str, ...] = ()  # of the account, then of the location
    number: str = "911"  # what people dial for help where the caller is
    unacknowledged_s: int = 0  # for how long nobody has acknowledged it; 0: that is not why this is told
    elsewhere: tuple[Mapping[str, Any], ...] = ()  # name and civic address of places where the caller may be instead
    test_number: str = "933"  # what they dial for a test there; empty where no number is set aside

    @property
    def reached_nobody(self) -> bool:
        """Whether no carrier took the call: nobody comes, unless somebody calls for help from another telephone."""
        return self.kind != CallKind.DRILL and not {NOT_SENT, REACHED_NOBODY}.isdisjoint(self.flags)

    @property
    def hung_up(self) -> bool:
        """Whether the caller gave up while tries failed: nobody but we may know that they wanted help."""
        return HUNG_UP in self.flags and not self.reached_nobody

    @property
    def was_cut(self) -> bool:
        """Whether nobody knows that the call was answered, since the process that carried it ended."""
        return CUT in self.flags and not self.reached_nobody and ANSWERED_AFTER_ALL not in self.flags


@dataclass(frozen=True, slots=True)
class Composed:
    """A notification's subject (one line) and text body."""

    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled fact of the text, with the lines of its value; `href` where it is the call's page."""

    label: str
    lines: tuple[str, ...]
    href: str | None


def compose(told: Told, because: str) -> Composed:
    """The subject and text for recipients of the account, of the location, or of both (`because`)."""
    is_test = told.kind == CallKind.TEST
    word = _MARKS.get(told.kind, "")
    who = _who(told)
    where = one_line(told.location_name or "") or "an unknown location"
    dialed = one_line(told.dialed, 30)
    lost = "The address did not reach responders: " if LOCATION_DROPPED in told.flags else ""
    urgent = _first_words(told)
    silent = f"NOBODY HAS ACKNOWLEDGED this for {_span(told.unacknowledged_s)}" if told.unacknowledged_s else ""
    first = "".join(f"{each}: " for each in (word, silent, urgent) if each)
    headline = f"{first}{lost}{dialed} was dialed by {who} at {where}"
    rows = [(label, [line for line in lines if line]) for label, lines in _facts(told, who)]
    body = _TEXT.get_template("notification.txt.j2").render(
        headline=headline,
        rows=[(label, lines) for label, lines in rows if lines],
        notes=[_note(flag, told.number, is_test=is_test) for flag in told.flags],
        steps=_steps(told),
        because=_because(because, told),
        checkpoint=told.checkpoint,
    )
    prefix = one_line(told.prefix, MAX_PREFIX_CHARS)
    mark = f"[{word}] " if word else ""
    what = f"address not conveyed, {dialed} call" if lost else f"{dialed} call"
    what = f"{urgent}: {what}" if urgent else what
    what = f"NOT ACKNOWLEDGED: {what}" if told.unacknowledged_s else what
    facts = _cut(f"{what}: {who} at {where}", MAX_SUBJECT_CHARS - len(mark))
    # behind the word TEST or DRILL and beside the facts, of which none is cut for it
    return Composed(f"{mark}{f'{prefix} ' if prefix else ''}{facts}", body)


def _first_words(told: Told) -> str:
    """What must be read first of a call that no carrier took, or took after all; empty for every other."""
    is_test = told.kind == CallKind.TEST
    if CALLED_BACK in told.flags:
        return "A DISPATCHER CALLED BACK AND REACHED NOBODY"
    if told.reached_nobody:
        return (
            "THIS TEST REACHED NOBODY" if is_test else f"REACHED NOBODY, call {told.number} from another telephone NOW"
        )
    if told.hung_up or told.was_cut:
        back = one_line(told.callback_number or "", 30)
        cut = "CALL CUT, ITS NODE IS LOST" if NODE_LOST in told.flags else "CALL CUT BY A RESTART"
        what = "CALLER HUNG UP UNANSWERED" if told.hung_up else cut
        return what + (f", call back {back} NOW" if back and not is_test else "")
    if ANSWERED_AFTER_ALL in told.flags:
        return "ANSWERED AFTER ALL"
    return "ANSWERED, END UNKNOWN: ITS NODE IS LOST" if NODE_LOST in told.flags else ""


def _who(told: Told) -> str:
    name, extension = one_line(told.caller_name, 80), one_line(told.extension, 20)
    if name and extension and name != extension:
        return f"{name} (extension {extension})"
    return name or (f"extension {extension}" if extension else "an unknown caller")


def _facts(told: Told, who: str) -> list[tuple[str, list[str]]]:
    dialed = one_line(told.dialed, 30) + _WHAT_IT_WAS.get(told.kind, "")
    geo = told.geo
    position = f"{geo['latitude']}, {geo['longitude']}" if {"latitude", "longitude"} <= geo.keys() else ""
    return [
        ("Dialed", [dialed]),
        ("Caller", [who]),
        ("Call back", [one_line(told.callback_number or "") or "no number is known"]),
        ("Location", [one_line(told.location_name or "") or "unknown: none was conveyed"]),
        ("Address", [one_line(line) for line in address_lines(told.civic_address)]),
        ("Coordinates", [one_line(position)]),
        ("Perhaps at", [place_words(place) for place in told.elsewhere[:MAX_PLACES]]),
        ("Found by", [_FOUND_BY.get(told.location_source, "")]),
        ("Time", [time_words(told.sent_at, told.timezone)]),
        ("Call id", [told.call_id]),
        ("Call page", [told.page_url or ""]),
    ]


_TEST_STEP = (
    "This is a TEST. Nobody needs help and no emergency service was called. A real {number} call sends you this same "
    "mail without the word TEST. Check that the caller, the number to call back and the address above are right, and "
    "have them corrected before they are needed."
)


_DRILL_STEP = (
    "This is a DRILL. Nobody needs help, nothing was dialed and no emergency service was called: call nobody outside. "
    "Do what you would do for a real call up to that, and acknowledge it on the call's page or under Alerts."
)


_SILENT_STEP = (
    "Why you are told now: others were told of this at once, and none of them has acknowledged it. Make sure that "
    "somebody sees to it, then acknowledge it on the call's page or under Alerts, so that nobody else is told."
)


def _steps(told: Told) -> list[str]:
    """What to do: ours first, then what the account and the location say, marked as theirs."""
    own = [one_line(text, MAX_INSTRUCTION_CHARS) for text in told.instructions]
    silent = [_SILENT_STEP] if told.unacknowledged_s else []
    return [*silent, *_our_steps(told), *(f"Instructions: {text}" for text in own if text)]


def _our_steps(told: Told) -> list[str]:
    if told.kind == CallKind.TEST:
        return [_TEST_STEP.replace("{number}", told.number)]
    if told.kind == CallKind.DRILL:
        return [_DRILL_STEP]
    where = one_line(told.location_name or "")
    learn = (
        "call the caller back to learn what is needed, unless that would put them in danger"
        if one_line(told.callback_number or "")
        else "no number to call back is known, so find the caller to learn what is needed, unless that is dangerous"
    )
    meet = (
        f"Send somebody to meet the responders{f' at {where}' if where else ''} and show them the way. "
        "Keep doors, gates and elevators open for them."
    )
    if CALLED_BACK in told.flags:
        call_first = (
            f"What to do first: see to the caller. Then call {told.number} from another telephone, say that the "
            "dispatcher called back and reached nobody, and tell where the caller is and whether help is needed."
        )
        steps = [call_first, f"What to do then: {meet}"]
    elif told.reached_nobody:
        call_first = (
            f"What to do first: call {told.number} from another telephone now, and say where the caller is. No carrier "
            "took this call: no responders are on their way."
        )
        steps = [call_first, f"What to do then: {learn}. {meet}"]
    elif told.hung_up:
        call_first = (
            f"What to do first: {learn}. If nobody can be reached, call {told.number} from another telephone now, and "
            "say where the caller is: no carrier had answered, so perhaps no responders are on their way."
        )
        steps = [call_first, f"What to do then: {meet}"]
    elif told.was_cut:
        call_first = (
            f"What to do first: {learn}. If nobody can be reached, call {told.number} from another telephone now, and "
            "say where the caller is: whether anybody answered them is not known."
        )
        steps = [call_first, f"What to do then: {meet}"]
    elif ANSWERED_AFTER_ALL in told.flags:
        at_once = "What to do next" if LOCATION_DROPPED in told.flags else "What to do first"
        call_first = (
            f"{at_once}: {learn}. If they spoke with nobody and need help, call {told.number} from another "
            f"telephone. If somebody called {told.number} for them already, say that both calls are about the same."
        )
        steps = [call_first, f"What to do then: {meet}"]
    else:
        steps = [f"What to do: {learn}. {meet}"]
    if LOCATION_DROPPED in told.flags:
        steps.insert(
            0,
            "What to do first: make sure that responders know the address above. Have the caller say it, or call "
            f"{told.number} from another telephone, say that the call from {where or 'here'} carried no address, and "
            "give it.",
        )
    onsite = one_line(told.onsite_number or "")
    return [*steps, f"Security or front desk on site: {onsite}"] if onsite else steps


def _note(flag: str, number: str, *, is_test: bool) -> str:
    known = (_FLAGS_OF_A_TEST if is_test else _FLAGS).get(flag)
    if known is not None:
        return f"Note: {known.replace('{number}', number)}"
    kind, _, detail = flag.partition(":")
    if kind == "malformed":
        said = one_line(detail)
        return f"Note: The phone system's request was malformed ({said}); the call was sent on all the same."
    if kind == "shortened":
        trunk, _, elements = one_line(detail).rpartition(": ")
        return f"Note: {trunk} takes less of this address: {elements} may be missing or cut where responders read it."
    return f"Note: {one_line(flag).replace('_', ' ')}."


def _because(because: str, told: Told) -> str:
    account = one_line(told.account_name)
    if because == "escalation":
        return f"You get this mail because you are told of calls of {account} that nobody acknowledges."
    where = one_line(told.location_name or "")
    calls = " and ".join(number for number in (told.number, told.test_number) if number)
    lists = {
        "account": f"every {calls} call of {account}",
        "location": f"{calls} calls from {where}",
        "both": f"every {calls} call of {account}, and for those from {where}",
    }
    return f"You get this mail because your address is on the list for {lists.get(because, lists['account'])}."


def time_words(at: datetime, timezone: str) -> str:
    """When, in the place's time and in UTC; in UTC alone where the zone is not known."""
    utc = f"{at:%H:%M:%S} UTC"
    try:
        local = at.astimezone(ZoneInfo(timezone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"{at:%a %d %b %Y}, {utc}"
    return f"{local:%a %d %b %Y, %H:%M:%S %Z} ({utc})"


def _span(seconds: int) -> str:
    """A time as people say it: `90 seconds`, `5 minutes`."""
    return f"{seconds} seconds" if seconds < 120 else f"{round(seconds / 60)} minutes"


def address_lines(civic_address: Mapping[str, Any]) -> tuple[str, ...]:
    """A civic address as people write it: inside the building, the street, the town, then whatever else it says."""
    left = {name: one_line(str(value)) for name, value in civic_address.items() if value is not None}

    def take(*names: str, label: str = "") -> list[str]:
        found = [text for name in names if (text := left.pop(name, ""))]
        return [f"{label} {text}".strip() for text in found]

    inside = [
        *take("NAM"), *take("BLD", label="Building"), *take("WING", label="Wing"), *take("FLR", label="Floor"),
        *take("UNIT", label="Unit"), *take("ROOM", label="Room"), *take("SEAT", label="Seat"), *take("LOC"),
        *take("LMK", label="near"),
    ]  # fmt: skip
    number, street = take("HNO", "HNS"), take("PRD", "PRM", "STP", "RD", "A6", "STS", "POD", "POM")
    country = left.get("country", "")
    number_first = country in {"US", "CA", "GB", "IE", "AU", "NZ", "FR"}
    road = " ".join([*number, *street] if number_first else [*street, *number])
    town, region, code = take("A3"), take("A1"), take("PC")
    place = (
        ", ".join([*town, " ".join([*region, *code])])
        if number_first
        else ", ".join([" ".join([*code, *town]), *region])
    )
    left.pop("country", None)
    rest = [f"{name} {text}" for name, text in left.items() if text]
    lines = (road, ", ".join(inside), ", ".join(part for part in (place.strip(", "), country) if part), ", ".join(rest))
    return tuple(line for line in lines if line)


def place_words(place: Mapping[str, Any]) -> str:
    """A place with its address, else its coordinates, in one line."""
    civic_address, geo = place.get("civic_address"), place.get("geo")
    lines = address_lines(civic_address) if isinstance(civic_address, Mapping) else ()
    if not lines and isinstance(geo, Mapping) and {"latitude", "longitude"} <= geo.keys():
        lines = (f"{geo['latitude']}, {geo['longitude']}",)
    return one_line(", ".join([str(place.get("name") or "a place without a name"), *lines]))


def one_line(text: str, max_chars: int = MAX_LINE_CHARS) -> str:
    """Any text as one line: no control character, no direction override, no lone surrogate; cut to size."""
    shown = "".join(" " if unicodedata.category(char) in _HIDDEN else char for char in text[: max_chars * 4])
    return _cut(" ".join(shown.split()), max_chars)


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else f"{text[: max_chars - 1].rstrip()}…"


def message_id(call_id: str, recipient: str, channel: str, domain: str) -> str:
    """The same for every try at one (call, recipient, channel), so that a mail program drops the second of a pair."""
    digest = sha256(f"{call_id}\n{recipient.casefold()}\n{channel}".encode()).hexdigest()[:32]
    return f"<{digest}@{domain}>"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What a mail is made of: a notification's row, and the kind of its call."""

    call_id: str
    recipient: str
    channel: str
    subject: str
    body: str
    kind: str
    created_at: datetime


def message(outgoing: Outgoing, sender: str) -> bytes:
    """The mail as it goes to the server: text and HTML of the same words, the same headers on every try.

    Built of the older parts of the standard library: the newer ones decode an encoded word within a text and write
    what it hides, line breaks and all, so that a caller's name could become a header (seen with CPython 3.11.7).

    Args:
        sender: The configured From, `name <address>` or the address alone.
    Raises:
        ValueError: the recipient is no plain address.
    """
    if not _PLAIN_ADDRESS.fullmatch(outgoing.recipient):
        raise ValueError("expected a plain e-mail address")
    name, address = parseaddr(sender)
    is_test = outgoing.kind == CallKind.TEST
    mail = MIMEMultipart("alternative")
    mail["From"] = formataddr((one_line(name) or "Callpoint", address))
    mail["To"] = outgoing.recipient
    mail["Subject"] = _header(one_line(outgoing.subject, MAX_SUBJECT_CHARS + MAX_PREFIX_CHARS + 1))  # type: ignore[assignment]  # stub
    mail["Date"] = format_datetime(outgoing.created_at)
    mail["Message-ID"] = message_id(outgoing.call_id, outgoing.recipient, outgoing.channel, domain_of(address))
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: no vacation answers
    mail["X-Callpoint-Call"] = outgoing.call_id
    if not is_test:
        mail["Importance"] = "high"  # RFC 2156 §5.3.4; X-Priority for the programs that read nothing else
        mail["X-Priority"] = "1"
    mail.attach(MIMEText(outgoing.body, "plain", _QUOTED))  # type: ignore[arg-type]  # takes a Charset as well
    mail.attach(MIMEText(html(outgoing.body, is_test=is_test), "html", _QUOTED))  # type: ignore[arg-type]
    return mail.as_bytes(policy=_WIRE)


def _header(text: str) -> Header:
    """A header of one line; what is not plain ASCII, or looks like an encoded word, is encoded (RFC 2047 §5)."""
    return Header(text, "us-ascii" if text.isascii() and "=?" not in text else "utf-8", header_name="Subject")


def domain_of(address: str) -> str:
    """The part behind the @ of a configured sender."""
    return address.rpartition("@")[2].strip("> ") or "localhost"


def html(body: str, *, is_test: bool) -> str:
    """The text body laid out as HTML; every value escaped, the one link is the call's page."""
    headline, _, rest = body.partition("\n")
    facts, _, remarks = rest.strip("\n").partition("\n\n")
    rows: list[Row] = []
    for line in facts.splitlines():
        row = _ROW.fullmatch(line)
        if row:
            is_link = row["label"] == "Call page" and row["value"].startswith(("https://", "http://"))
            rows.append(Row(row["label"], (row["value"],), row["value"] if is_link else None))
        elif rows:
            rows[-1] = Row(rows[-1].label, (*rows[-1].lines, line.strip()), rows[-1].href)
    paragraphs = [line.strip() for line in remarks.splitlines() if line.strip()]
    template = _HTML.get_template("notification.html.j2")
    return template.render(headline=headline, rows=rows, paragraphs=paragraphs, is_test=is_test)
