"""Every message of RFC 4475 through the whole stack, each with what the RFC asks of a proxy.

The messages and their expectations lie in the cases folder. What comes in is trusted and asks for no emergency, unless
a test says so.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.sip.forward import Forward, Hop, Target
from engine.sip.message import Request, Response, parse_message
from engine.sip.stack import Event, MessageRefused, RequestReceived
from engine.sip.stream import Framer
from engine.sip.uri import parse_name_addr, parse_uri
from tests.conftest import CASES
from tests.siptest import drain, make_stack, read_request, read_response, response

SOURCE = Hop("udp", "192.0.2.200", 5060)
TRUNK = Hop("udp", "192.0.2.201", 5060)

FORWARDED = [
    "wsinv",
    "intmeth",
    "esc01",
    "escnull",
    "esc02",
    "lwsdisp",
    "longreq",
    "dblreq",
    "semiuri",
    "transports",
    "mpart01",
    "baddate",
    "regbadct",
    "badaspec",
    "baddn",
    "badbranch",
    "unksm2",
    "invut",
    "regaut01",
    "cparam01",
    "cparam02",
    "regescrt",
    "sdp01",
    "inv2543",
]
REFUSED = {
    **dict.fromkeys(
        [
            "badinv01",
            "clerr",
            "ncl",
            "scalar02",
            "quotbal",
            "ltgtruri",
            "lwsruri",
            "lwsstart",
            "trws",
            "escruri",
            "mismatch01",
            "mismatch02",
            "insuf",
            "multi01",
            "mcl01",
        ],
        400,
    ),
    "badvers": 505,
    "unkscm": 416,
    "novelsc": 416,
    "bext01": 420,
    "zeromf": 483,
}
DROPPED = ["unreason", "noreason", "scalarlg", "bigcode", "bcast"]


def data_of(name: str) -> bytes:
    path = CASES / "sip" / "rfc4475" / f"{name}.dat"
    if not path.is_file():
        pytest.skip(f"{path} is absent: set CALLPOINT_CASES")
    return path.read_bytes()


@dataclass
class Passage:
    """What became of one message: events, what went to the trunk, what went back."""

    data: bytes
    is_emergency: bool = False
    events: list[Event] = field(default_factory=list)
    down: list[bytes] = field(default_factory=list)
    up: list[bytes] = field(default_factory=list)
    elsewhere: list[tuple[bytes, Hop]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stack = make_stack(is_emergency=lambda *_: self.is_emergency)
        self.stack.receive(self.data, SOURCE, 0.0)
        self._drain()
        for event in list(self.events):
            if isinstance(event, RequestReceived):
                self.stack.forward(event.transaction, Forward((Target("trunk", TRUNK),)), 0.0)
        self._drain()

    def answer(self, status: int) -> None:
        self.stack.receive(response(self.down[0], status), TRUNK, 0.1)
        self._drain()

    def _drain(self) -> None:
        events, outgoing = drain(self.stack)
        self.events += events
        for data, hop in outgoing:
            if hop == TRUNK:
                self.down.append(data)
            elif hop.ip == SOURCE.ip:
                self.up.append(data)
            else:
                self.elsewhere.append((data, hop))


def test_every_case_of_the_folder_is_here(cases: Path) -> None:
    """E-18: none left out, none tested twice."""
    listed = [Path(case["file"]).stem for case in json.loads((cases / "sip" / "rfc4475.json").read_text())]
    tested = [*FORWARDED, *REFUSED, *DROPPED]
    assert sorted(listed) == sorted(tested)


@pytest.mark.parametrize("name", FORWARDED)
def test_a_message_a_proxy_must_bear_is_forwarded_unaltered(name: str) -> None:
    """E-18: one message out, ours to change only: Via, Max-Forwards, Record-Route, our own received."""
    data = data_of(name)
    passage = Passage(data)
    assert len(passage.down) == 1
    assert not [event for event in passage.events if isinstance(event, MessageRefused)]
    before, after = read_request(data), read_request(passage.down[0])
    assert after.lines[0] == before.lines[0]
    assert after.body == before.body
    ours = (b"via", b"max-forwards", b"record-route")
    kept = [line for line, other in zip(before.lines, before.names, strict=True) if other not in ours]
    assert [line for line, other in zip(after.lines, after.names, strict=True) if other not in ours] == kept
    if before.max_forwards is not None:
        assert after.max_forwards == before.max_forwards - 1
    else:
        assert after.max_forwards == 70
    assert after.header("Via") == f"SIP/2.0/UDP 192.0.2.10:5060;branch={after.via.branch.decode()};rport"
    assert len(after.headers("Via")) == len(before.headers("Via")) + 1


@pytest.mark.parametrize("name", FORWARDED)
def test_the_answer_finds_back_with_the_vias_that_came(name: str) -> None:
    """E-18: the branch may be a cookie alone, or none: the transaction is found all the same."""
    data = data_of(name)
    passage = Passage(data)
    passage.answer(200)
    up = [read_response(each) for each in passage.up]
    assert up[-1].status == 200
    before = read_request(data)
    ours = ("=5060;received=192.0.2.200", ";received=192.0.2.200")
    vias = [via.replace(ours[0], "").replace(ours[1], "") for via in up[-1].headers("Via")]
    assert vias == before.headers("Via")
    assert passage.elsewhere == []


@pytest.mark.parametrize(("name", "status"), REFUSED.items())
def test_a_message_that_must_be_refused_is_refused(name: str, status: int) -> None:
    """E-18: with the status the RFC names, and nothing goes on."""
    passage = Passage(data_of(name))
    assert passage.down == []
    assert passage.elsewhere == []
    assert [read_response_status(data) for data in passage.up if b" 100 " not in data[:12]] == [status]
    refused = [event for event in passage.events if isinstance(event, MessageRefused)]
    assert [event.status for event in refused] == [status]


@pytest.mark.parametrize("name", DROPPED)
def test_a_stray_or_broken_response_is_dropped(name: str) -> None:
    """E-18: bcast must not reach the broadcast address its second Via names."""
    passage = Passage(data_of(name))
    assert passage.up == passage.down == passage.elsewhere == []


def read_response_status(data: bytes) -> int:
    """Our refusals repeat what was wrong (a second To, no Call-ID), so only the start line is read."""
    assert data.startswith(b"SIP/2.0 ")
    return int(data[8:11])


def test_wsinv_is_read_through_its_folds() -> None:
    """E-18: 3.1.1.1."""
    got = read_request(data_of("wsinv"))
    assert got.call_id == "wsinv.ndaksdj@192.0.2.1"
    assert got.cseq == (9, "INVITE")
    assert (got.max_forwards, got.from_tag, got.to_tag) == (68, "98asjd8", "1918181833n")
    assert (got.via.host, got.via.branch) == (b"192.0.2.2", b"390skdjuw")
    assert got.header("Subject") == ""
    assert got.header("NewFangledHeader") == "newfangled value continued newfangled value"
    assert len(got.body) == 150


def test_intmeth_keeps_every_legal_character() -> None:
    """E-18: 3.1.1.2."""
    got = read_request(data_of("intmeth"))
    assert got.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert parse_uri(got.request_uri).host == "example.com"
    assert parse_name_addr(got.header("To") or "").display_name == "BEL:\x07 NUL:\x00 DEL:\x7f"


def test_escapes_are_neither_undone_nor_taken_for_other_names() -> None:
    """E-18: 3.1.1.3 to 3.1.1.5 and 3.1.1.9."""
    assert parse_uri(read_request(data_of("esc01")).request_uri).user_text == "sips:user@example.com"
    assert parse_name_addr(read_request(data_of("escnull")).header("To") or "").uri.user == "null-%00-null"
    register = read_request(data_of("esc02"))
    assert register.method == "RE%47IST%45R"
    assert len(register.headers("Contact")) == 2
    uri = parse_uri(read_request(data_of("semiuri")).request_uri)
    assert (uri.user, uri.params) == ("user;par=u%40example.net", {})


def test_dblreq_is_one_request_in_a_datagram_and_two_on_a_stream() -> None:
    """E-18: 3.1.1.8."""
    data = data_of("dblreq")
    register = read_request(data)
    assert (register.method, register.body) == ("REGISTER", b"")
    assert [read_request(message).method for message in Framer().feed(data)] == ["REGISTER", "INVITE"]


def test_a_response_with_any_reason_is_read() -> None:
    """E-18: 3.1.1.12 and 3.1.1.13."""
    assert read_response(data_of("unreason")).reason.startswith("= 2**3 * 5**2 но сто")
    got = read_response(data_of("noreason"))
    assert (got.status, got.reason) == (100, "")


def test_badbranch_and_another_with_its_branch_are_two_transactions() -> None:
    """E-18: 3.2.1: a cookie alone identifies nothing."""
    data = data_of("badbranch")
    stack = make_stack()
    stack.receive(data, SOURCE, 0.0)
    stack.receive(data.replace(b"CSeq: 8 ", b"CSeq: 9 "), SOURCE, 0.0)
    stack.receive(data, SOURCE, 0.0)
    events, _ = drain(stack)
    assert [event.request.cseq[0] for event in events if isinstance(event, RequestReceived)] == [8, 9]


def test_bext01_is_told_what_is_not_supported() -> None:
    """E-18: 3.3.5: Unsupported names the Proxy-Require tokens, not those of Require."""
    answer = read_response(Passage(data_of("bext01")).up[-1])
    assert answer.header("Unsupported") == "noProxiesSupportThis, norDoAnyProxiesSupportThis"


def test_a_stream_is_not_cut_by_guessing() -> None:
    """E-18: 3.1.2.2 and 3.3.9 on a stream: wait for what was announced, close on a contradiction."""
    assert Framer().feed(data_of("clerr")) == []
    for name in ("mcl01", "ncl"):
        framer = Framer()
        assert framer.feed(data_of(name)) == []
        assert framer.lost is not None


@pytest.mark.parametrize(
    "name",
    [
        "ltgtruri",
        "lwsruri",
        "lwsstart",
        "escruri",
        "ncl",
        "clerr",
        "mcl01",
        "multi01",
        "quotbal",
        "badinv01",
        "badvers",
    ],
)
def test_as_an_emergency_request_it_reaches_the_trunk(name: str) -> None:
    """E-03: whatever is broken, as long as the six fields can be read; and what was repaired is said."""
    passage = Passage(data_of(name), is_emergency=True)
    assert len(passage.down) == 1
    sent = parse_message(passage.down[0])
    assert isinstance(sent, Request)
    received = next(event for event in passage.events if isinstance(event, RequestReceived))
    assert received.request.faults


def test_what_cannot_be_read_at_all_is_refused_even_then() -> None:
    """E-03: neither Call-ID nor From tag: no ACK would find it."""
    passage = Passage(data_of("insuf"), is_emergency=True)
    assert passage.down == []
    assert [read_response_status(data) for data in passage.up] in ([400], [505])


@pytest.mark.parametrize("name", ["zeromf", "bext01", "unkscm"])
def test_a_rule_of_the_proxy_does_not_stop_an_emergency_request(name: str) -> None:
    """E-03: Max-Forwards, Proxy-Require and scheme are noted, not enforced."""
    passage = Passage(data_of(name), is_emergency=True)
    assert len(passage.down) == 1


def test_all_responses_here_are_responses() -> None:
    """E-18: the two that can be read are read as such."""
    assert isinstance(parse_message(data_of("bcast")), Response)
