"""What a PBX sends as 911 leaves as 911, through the whole element: parser, leniency, classifier, hook."""

from pathlib import Path

import pytest

from engine.e911.dial import names_user
from tests.siptest import request
from tests.unit.e911.test_dial import EMERGENCY, ODD, SOMEBODY_ELSE, TEST
from tests.unit.e911.test_faults import Element


def in_a_request_line(uri: str) -> str:
    """As a PBX's octets: anything but a line break, which would end the line."""
    return uri.strip().replace("\r", "").replace("\n", "")


@pytest.mark.parametrize("uri", [uri for uri in EMERGENCY + ODD + TEST if "\x00" not in uri])
def test_whatever_way_an_emergency_is_written_it_leaves_for_a_trunk(uri: str) -> None:
    """E-01, E-03: also what is no Request-URI by any RFC; the trunk is called by a plain number."""
    element = Element()
    element.receive(request(uri=in_a_request_line(uri)))
    assert (element.final(), element.faults) == (0, [])
    (got, _), *_ = element.invites()
    number = "933" if uri in TEST else "911"
    assert got.request_uri.startswith(f"sip:{number}@")


@pytest.mark.parametrize(
    "uri",
    ["sip:911;x={}@pbx.example", "sip:911@pbx.example;x={}", "tel:911;x={}", "urn:service:sos.fire;x={}", "911@{}"],
)
def test_a_request_uri_longer_than_is_read_still_says_who_is_called(uri: str) -> None:
    """E-01, E-03: 414 is for others."""
    long = request(uri=uri.format("y" * 20_000))
    assert left(long) == [b"INVITE sip:911@192.0.2.30 SIP/2.0"]
    assert left(long.replace(b"911", b"912").replace(b"sos", b"sox")) == []


@pytest.mark.parametrize("uri", [uri for uri in SOMEBODY_ELSE if names_user(uri)])
def test_a_call_to_somebody_else_never_reaches_an_emergency_trunk(uri: str) -> None:
    """E-01: it is refused (no default route here), or not read at all, whatever To says."""
    element = Element()
    element.receive(request(uri=in_a_request_line(uri)))
    assert element.invites() == []


def left(data: bytes) -> list[bytes]:
    """The request lines that a message from the PBX made leave."""
    element = Element()
    element.receive(data)
    return [sent.partition(b"\r\n")[0] for sent, _ in element.sent if not sent.startswith(b"SIP/")]


def test_each_torture_message_is_an_emergency_exactly_when_its_request_uri_names_911(cases: Path) -> None:
    """E-01, E-03: RFC 4475's odd messages call nobody's number; with 911 in place of theirs each INVITE leaves, and one
    alone.
    """
    told: dict[str, list[bytes]] = {}
    for file in sorted((cases / "sip" / "rfc4475").glob("*.dat")):
        data = file.read_bytes()
        if not data.startswith(b"INVITE "):
            continue
        first = data.partition(b"\r\n")[0]
        assert left(data) == [], file.name
        told[file.stem] = left(data.replace(first, b"INVITE sip:%39-11%40x@pbx.example;user=phone SIP/2.0", 1))
    assert told.pop("insuf") == []  # neither From nor Call-ID: nothing tells which call it is
    assert len(told) >= 16
    assert {name for name, lines in told.items() if [line[:15] for line in lines] != [b"INVITE sip:911@"]} == set()
