"""The mail of a 911 call: its words, and that no name a phone sends can become a header, a line or markup."""

import datetime as dt
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.e911 import mail
from engine.e911.location import Source
from engine.models import CallKind
from tests.factories import HEADQUARTERS

AT = dt.datetime(2026, 7, 4, 16, 30, 5, tzinfo=dt.UTC)
TOLD = mail.Told(
    call_id="call_1",
    dialed="911",
    kind=CallKind.EMERGENCY,
    caller_name="Dana Reyes",
    extension="101",
    callback_number="+15185550101",
    location_name="Headquarters",
    civic_address=HEADQUARTERS,
    geo={},
    location_source="phone",
    flags=(),
    sent_at=AT,
    timezone="America/New_York",
    onsite_number=None,
    account_name="Acme Dental",
    page_url="https://cp.example/calls/call_1",
    checkpoint=mail.Checkpoint("account_1", 41, "ab" * 32, "c0ffee0123456789", "0123456789abcdef"),
)
HEADERS = {
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Auto-Submitted",
    "X-Callpoint-Call",
    "Importance",
    "X-Priority",
    "MIME-Version",
    "Content-Type",
}


def sent(told: mail.Told, because: str = "account") -> EmailMessage:
    """The mail as a reader gets it: composed, built, and parsed again."""
    composed = mail.compose(told, because)
    outgoing = mail.Outgoing(told.call_id, "desk@example.com", "email", composed.subject, composed.body, told.kind, AT)
    parsed = message_from_bytes(mail.message(outgoing, "Callpoint <callpoint@acme.example>"), policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")  # lines end so on the wire (RFC 5321 §2.3.8)


def html_of(message: EmailMessage) -> str:
    part = message.get_body(("html",))
    assert part is not None
    return str(part.get_content())


class Reader(HTMLParser):
    """What a browser would make of it: the tags, the links, the text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str | None] = []
        self.words: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name == "href"]
        assert not any(name.startswith("on") or name == "src" for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_text_says_what_happened_whom_to_call_back_and_where() -> None:
    """S0-15, E-10: what 47 CFR 9.3 asks for, in an order that helps."""
    message = sent(TOLD)
    assert message["Subject"] == "911 call: Dana Reyes (extension 101) at Headquarters"
    assert text_of(message) == (
        "911 was dialed by Dana Reyes (extension 101) at Headquarters\n"
        "\n"
        "Dialed:         911\n"
        "Caller:         Dana Reyes (extension 101)\n"
        "Call back:      +15185550101\n"
        "Location:       Headquarters\n"
        "Address:        120 Washington Ave\n"
        "                Floor 4, Room 412\n"
        "                Albany, NY 12203, US\n"
        "Found by:       the phone's own location\n"
        "Time:           Sat 04 Jul 2026, 12:30:05 EDT (16:30:05 UTC)\n"
        "Call id:        call_1\n"
        "Call page:      https://cp.example/calls/call_1\n"
        "\n"
        "What to do: call the caller back to learn what is needed, unless that would put them in danger. Send somebody "
        "to meet the responders at Headquarters and show them the way. Keep doors, gates and elevators open for them.\n"
        "\n"
        "You get this mail because your address is on the list for every 911 and 933 call of Acme Dental.\n"
        f"Audit log before this call: account_1, entry 41, SHA-256 {'ab' * 32},\n"
        "signed c0ffee0123456789 with the key 0123456789abcdef\n"
    )


def test_the_html_part_says_the_same_words_with_one_link() -> None:
    message = sent(TOLD, "both")
    reader = Reader(html_of(message))
    shown = " ".join(" ".join(reader.words).split())
    for line in text_of(message).splitlines():
        for words in line.split(":  "):
            assert " ".join(words.split()) in shown
    assert reader.links == ["https://cp.example/calls/call_1"]


def test_a_test_call_says_so_wherever_one_looks() -> None:
    """S0-18: subject, heading and text are marked TEST; nothing asks to run."""
    message = sent(replace(TOLD, kind=CallKind.TEST, dialed="933"))
    assert message["Subject"].startswith("[TEST] 933 call")
    assert text_of(message).startswith("TEST: 933 was dialed")
    assert "Dialed:         933, the carrier's test line: TEST, not an emergency" in text_of(message)
    assert "This is a TEST." in text_of(message)
    assert "meet the responders" not in text_of(message)
    assert message["Importance"] is None


def test_a_test_call_that_nobody_took_sends_nobody_to_call_911() -> None:
    """S0-18: what must be mended is said, and that nobody needs help."""
    text = text_of(sent(replace(TOLD, kind=CallKind.TEST, dialed="933", flags=("not_sent",))))
    assert "THIS TEST WAS NOT SENT" in text
    assert "from another telephone" not in text


@pytest.mark.parametrize("flag", ["not_sent", "reached_nobody"])
def test_a_call_that_reached_nobody_says_so_first_and_whom_to_call(flag: str) -> None:
    """S0-15: no responders come: subject, first line and what to do say to call, with the number of the country."""
    message = sent(replace(TOLD, dialed="112", flags=(flag,), number="999", prefix="HQ"))
    assert message["Subject"].startswith("HQ REACHED NOBODY, call 999 from another telephone NOW: 112 call: Dana Reyes")
    assert text_of(message).startswith("REACHED NOBODY, call 999 from another telephone NOW: 112 was dialed by Dana")
    assert "Call 999 from another telephone for this caller now." in text_of(message)
    assert "What to do first: call 999 from another telephone now" in text_of(message)
    assert "911 from" not in text_of(message)
    test = sent(replace(TOLD, kind=CallKind.TEST, dialed="933", flags=(flag,)))
    assert test["Subject"].startswith("[TEST] THIS TEST REACHED NOBODY: 933 call")
    assert text_of(test).startswith("TEST: THIS TEST REACHED NOBODY: 933 was dialed")
    assert "another telephone" not in text_of(test)
    drill = sent(replace(TOLD, kind=CallKind.DRILL, flags=(flag,)))
    assert "NOBODY" not in drill["Subject"]


def test_a_caller_without_a_number_is_not_to_be_called_back() -> None:
    text = text_of(sent(replace(TOLD, callback_number=None)))
    assert "call the caller back" not in text
    assert "no number to call back is known, so find the caller" in text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"flags": ("location_unknown",), "location_name": None, "civic_address": {}},
            "Ask the caller where they are.",
        ),
        ({"flags": ("location_unknown",), "location_name": None, "civic_address": {}}, "unknown: none was conveyed"),
        ({"flags": ("stale",)}, "confirmed more than a year ago"),
        ({"flags": ("disagreement",)}, "Sources disagree about where the caller is"),
        (
            {"elsewhere": ({"name": "Boston", "civic_address": {"country": "US", "HNO": "1", "RD": "Elm"}},)},
            "Perhaps at:     Boston, 1 Elm",
        ),
        (
            {"elsewhere": ({"name": "A", "geo": {"latitude": 1.5, "longitude": -2}}, {"civic_address": {}})},
            "Perhaps at:     A, 1.5, -2\n                a place without a name\n",
        ),
        ({"flags": ("malformed:bad Date",)}, "malformed (bad Date); the call was sent on all the same"),
        ({"flags": ("not_sent",)}, "THIS CALL WAS NOT SENT"),
        ({"flags": ("some_new_flag",)}, "Note: some new flag."),
        ({"callback_number": None}, "Call back:      no number is known"),
        ({"caller_name": "", "extension": ""}, "by an unknown caller at"),
        ({"caller_name": "", "extension": "204"}, "by extension 204 at"),
        ({"caller_name": "204", "extension": "204"}, "by 204 at"),
        ({"geo": {"latitude": 42.6, "longitude": -73.7}}, "Coordinates:    42.6, -73.7"),
        ({"onsite_number": "+15185550111"}, "Security or front desk on site: +15185550111"),
        ({"timezone": "Mars/Olympus"}, "Time:           Sat 04 Jul 2026, 16:30:05 UTC\n"),
        ({"timezone": "America/Los_Angeles"}, "Sat 04 Jul 2026, 09:30:05 PDT (16:30:05 UTC)"),
        ({"location_source": "account_default"}, "the caller may be elsewhere"),
    ],
)
def test_what_is_special_about_a_call_is_said_in_plain_words(changed: dict[str, object], words: str) -> None:
    assert words in text_of(sent(replace(TOLD, **changed)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("because", "words"),
    [
        ("account", "for every 911 and 933 call of Acme Dental."),
        ("location", "for 911 and 933 calls from Headquarters."),
        ("both", "for every 911 and 933 call of Acme Dental, and for those from Headquarters."),
    ],
)
def test_the_mail_says_why_one_gets_it(because: str, words: str) -> None:
    assert words in text_of(sent(TOLD, because))


def test_without_a_public_url_or_an_audit_log_those_lines_are_left_out() -> None:
    body = text_of(sent(replace(TOLD, page_url=None, checkpoint=None)))
    assert "Call page" not in body
    assert "Audit log" not in body
    assert body.endswith("Acme Dental.\n")


@pytest.mark.parametrize(
    ("address", "lines"),
    [
        (HEADQUARTERS, ("120 Washington Ave", "Floor 4, Room 412", "Albany, NY 12203, US")),
        ({"country": "US", "A3": "Albany"}, ("Albany, US",)),
        (
            {"country": "US", "NAM": "Mall", "BLD": "B", "UNIT": "12", "LOC": "rear", "SEAT": "7"},
            ("Mall, Building B, Unit 12, Seat 7, rear", "US"),
        ),
        (
            {"country": "DE", "HNO": "5", "RD": "Marienstra\u00dfe", "PC": "10117", "A3": "Berlin"},
            ("Marienstra\u00dfe 5", "10117 Berlin, DE"),
        ),
        (
            {
                "country": "US",
                "HNO": "12",
                "HNS": "A",
                "PRD": "N",
                "RD": "Main",
                "STS": "St",
                "POD": "SW",
                "PCN": "Colonie",
            },
            ("12 A N Main St SW", "US", "PCN Colonie"),
        ),
        ({}, ()),
    ],
)
def test_an_address_reads_as_people_write_it(address: dict[str, str], lines: tuple[str, ...]) -> None:
    assert mail.address_lines(address) == lines


def test_the_message_id_is_the_same_for_every_try_and_another_for_everybody_else() -> None:
    """E-11: one message per (call, recipient, channel)."""
    first = mail.message_id("call_1", "Desk@example.com", "email", "acme.example")
    assert first == mail.message_id("call_1", "desk@example.com", "email", "acme.example")
    others = {
        mail.message_id("call_2", "desk@example.com", "email", "acme.example"),
        mail.message_id("call_1", "guard@example.com", "email", "acme.example"),
        mail.message_id("call_1", "desk@example.com", "sms", "acme.example"),
    }
    assert len(others | {first}) == 4


_NASTY = st.text(st.characters(codec=None), max_size=120) | st.sampled_from(
    [
        "Dana\r\nBcc: evil@example.com",
        "Dana\n\n<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\u202egnitset\u202c",
        "\x00\x01",
        "\ud800",
        "=?utf-8?q?=0D=0ABcc:evil?=",
        "a" * 5000,
        "Call page:      https://evil.example/",
        "{{ 7*7 }}",
        "\u2028x\u2029y",
    ]
)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(name=_NASTY, extension=_NASTY, place=_NASTY, element=_NASTY, flag=_NASTY, number=_NASTY)
@example(
    name="\r\nBcc: a@b.c",
    extension="\r",
    place="\n",
    element="\n\nCall page: https://evil.example",
    flag=":",
    number="\n",
)
def test_nothing_a_phone_sends_becomes_a_header_a_line_or_markup(
    name: str, extension: str, place: str, element: str, flag: str, number: str
) -> None:
    """E-10: caller names are hostile input."""
    told = replace(
        TOLD,
        caller_name=name,
        extension=extension,
        location_name=place,
        civic_address={"country": "US", "RD": element},
        flags=(flag,),
        callback_number=number,
        account_name=name,
        onsite_number=number,
    )
    message = sent(told, "both")
    assert {header for header in message if header.title() in {known.title() for known in HEADERS}} == set(
        message.keys()
    )
    assert len(message.keys()) == len(HEADERS)
    assert message["To"] == "desk@example.com"
    assert len(mail.compose(told, "both").subject) <= 150
    body = text_of(message)
    assert sum(line.startswith("Call page:") for line in body.splitlines()) == 1
    assert not any(char in body for char in "\r\x00\u202e\u2028")
    reader = Reader(html_of(message))
    assert reader.tags <= {"html", "head", "meta", "title", "body", "h1", "table", "tr", "th", "td", "br", "p", "a"}
    assert reader.links == ["https://cp.example/calls/call_1"]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("disagreement", "Sources disagree"),
        ("stale_sighting", "more than a day ago"),
        ("unplaced_sighting", "that nobody has given a place. The address above is the one on record"),
        ("reference_unresolved", "no answer in time"),
        ("location_not_sent", "takes no address with the call"),
        ("shortened:Telnyx: HNO, LOC", "Telnyx takes less of this address: HNO, LOC"),
    ],
)
def test_what_is_doubtful_of_a_location_is_said_in_words(flag: str, words: str) -> None:
    """E-05: an alarm when sources disagree: the front desk reads it first."""
    body = mail.compose(replace(TOLD, flags=(flag,)), "account").body
    assert words in " ".join(body.split())
    assert flag not in body


@pytest.mark.parametrize("source", [source.value for source in Source if source is not Source.NONE])
def test_every_source_of_a_location_has_words(source: str) -> None:
    """E-05: the mail says how the address was found."""
    body = mail.compose(replace(TOLD, location_source=source), "account").body
    assert "Found by" in body


def test_the_accounts_words_come_beside_the_facts_and_never_in_their_place():
    """S1-39: a prefix behind [TEST], instructions marked as such; every fact of the plain mail is still there."""
    plain = mail.compose(TOLD, "account")
    worded = mail.compose(
        replace(TOLD, prefix="HQ-SECURITY", instructions=("Call the guard on 5555.", "Unlock gate B.")), "account"
    )
    assert worded.subject == f"HQ-SECURITY {plain.subject}"
    assert set(plain.body.splitlines()) <= set(worded.body.splitlines())
    added = set(worded.body.splitlines()) - set(plain.body.splitlines())
    assert added == {"Instructions: Call the guard on 5555.", "Instructions: Unlock gate B."}
    test = mail.compose(replace(TOLD, kind=CallKind.TEST, dialed="933", prefix="HQ-SECURITY"), "account")
    assert test.subject.startswith("[TEST] HQ-SECURITY 933 call: ")


@settings(deadline=None)  # the first mail of a process loads its templates
@given(prefix=st.text(max_size=400), text=st.text(max_size=3000))
@example(prefix="\r\nBcc: thief@example.com", text="\nCaller:        Somebody else\n\nLocation: Nowhere")
def test_whatever_words_are_kept_no_fact_moves_and_no_header_is_made(prefix: str, text: str):
    """S1-39: the words are one line each, cut to size; rows of the mail are those of the call."""
    plain, told = mail.compose(TOLD, "account"), replace(TOLD, prefix=prefix, instructions=(text, text))
    worded = mail.compose(told, "account")
    facts = plain.body.split("\n\n")[1]
    assert worded.body.split("\n\n")[:2] == [plain.body.split("\n\n")[0], facts]
    assert worded.subject.endswith(plain.subject)
    assert len(worded.subject) <= len(plain.subject) + mail.MAX_PREFIX_CHARS + 1
    parsed = sent(told)
    assert set(parsed.keys()) == HEADERS
    assert parsed["To"] == "desk@example.com"


def test_a_caller_who_hung_up_unanswered_is_to_be_called_back() -> None:
    """E-10: the number stands in the subject; without one the caller is to be found; nobody is sent for a test."""
    message = sent(replace(TOLD, flags=("hung_up_unanswered",), number="999", dialed="112"))
    assert message["Subject"].startswith("CALLER HUNG UP UNANSWERED, call back +15185550101 NOW: 112 call: Dana Reyes")
    assert text_of(message).startswith("CALLER HUNG UP UNANSWERED, call back +15185550101 NOW: 112 was dialed by")
    assert "If nobody can be reached, call 999 from another telephone now" in text_of(message)
    nameless = sent(replace(TOLD, flags=("hung_up_unanswered",), callback_number=None))
    assert nameless["Subject"].startswith("CALLER HUNG UP UNANSWERED: 911 call: Dana Reyes")
    assert "What to do first: no number to call back is known, so find the caller" in text_of(nameless)
    test = sent(replace(TOLD, kind=CallKind.TEST, dialed="933", flags=("hung_up_unanswered",)))
    assert test["Subject"].startswith("[TEST] CALLER HUNG UP UNANSWERED: 933 call")
    assert "another telephone" not in text_of(test)


def test_a_call_that_was_answered_after_all_says_that_the_caller_may_have_heard_nobody() -> None:
    """E-10: the all-clear tells whoever called again from another telephone what to say there."""
    message = sent(replace(TOLD, flags=("answered_after_all",), number="999"))
    assert message["Subject"].startswith("ANSWERED AFTER ALL: 911 call: Dana Reyes")
    assert "An earlier message about this call no longer holds" in text_of(message)
    assert "If somebody called 999 for them already, say that both calls are about the same." in text_of(message)
    test = sent(replace(TOLD, kind=CallKind.TEST, dialed="933", flags=("answered_after_all",)))
    assert test["Subject"].startswith("[TEST] ANSWERED AFTER ALL: 933 call")
    assert "An earlier message about this test no longer holds" in text_of(test)


def test_a_dispatcher_s_call_back_that_reached_nobody_says_what_to_do() -> None:
    """E-09, E-10: whoever reads it is the last who can help."""
    message = sent(replace(TOLD, flags=("called_back_in_vain",), number="999"))
    assert message["Subject"].startswith("A DISPATCHER CALLED BACK AND REACHED NOBODY: 911 call: Dana Reyes")
    assert "What to do first: see to the caller. Then call 999 from another telephone" in text_of(message)
    assert "neither the caller nor anybody on site" in text_of(message)


@pytest.mark.parametrize("because", ["account", "location", "both"])
def test_a_mail_names_no_number_of_another_country(because: str) -> None:
    """E-10, S0-18: a British account's mails say 999 wherever they speak of the number; 933 is nobody's there."""
    told = replace(TOLD, number="999", test_number="", dialed="112")
    for changes in ({}, {"flags": ("location_unknown",)}, {"kind": CallKind.TEST}, {"kind": CallKind.DRILL}):
        composed = mail.compose(replace(told, **changes), because)
        assert "911" not in composed.subject + composed.body
        assert "933" not in composed.subject + composed.body
        assert "999" in composed.body
    assert "every 911 and 933 call of Acme Dental" in mail.compose(TOLD, "account").body
