"""What each carrier gets, byte for byte, and that it is what the standards say. `python -m tests.golden.rewrite` writes
the files anew.
"""

import pytest
from lxml import etree

from engine.e911.geolocation import carried, content_id_of, geolocation_uris
from engine.e911.multipart import leaves
from engine.e911.pidf import CA, CONTENT_TYPE
from tests.golden.dialects import CASES, PLACE, ROOT, invites
from tests.siptest import SDP, read_request

INVITES = invites()
TAKES_NONE = {"twilio", "flowroute", "skyswitch"}


@pytest.mark.parametrize("path", INVITES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_carrier_gets_exactly_the_golden_invite(path):
    """E-07: 911, 933, no location, no number, by reference, both, the caller's own location."""
    assert INVITES[path] == path.read_bytes()


def test_no_golden_invite_is_left_over():
    assert sorted(path for path in ROOT.rglob("*") if path.is_file()) == sorted(INVITES)
    assert len({path.parent.name for path in INVITES}) == 11


@pytest.mark.parametrize("path", INVITES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_golden_invite_reads_back_whole(path, cases):
    """E-06: one message, its length right, the caller's SDP kept; every part a header names is there; every address is
    valid against the schema of RFC 5139.
    """
    invite = read_request(path.read_bytes())
    assert int(invite.header("Content-Length")) == len(invite.body)
    content_type = invite.header("Content-Type")
    parts = list(leaves(invite.body, content_type)) if content_type.startswith("multipart/") else []
    sdp = [part.content for part in parts if part.media_type == "application/sdp"] or [invite.body]
    assert sdp == [SDP]
    located = [part for part in parts if part.media_type == CONTENT_TYPE]
    named = [content_id_of(uri) for uri in geolocation_uris(invite) if content_id_of(uri)]
    assert set(named) <= {part.content_id for part in located}
    schema = etree.XMLSchema(etree.parse(str(cases / "xml" / "civic" / "civicAddr.xsd")))
    for part in located:
        for civic in etree.fromstring(part.content).iterfind(f".//{{{CA}}}civicAddress"):
            schema.assertValid(etree.ElementTree(civic))
    assert len(carried(invite).locations) == len(located)
    assert len(invite.headers("Geolocation-Routing")) <= 1
    assert len(invite.headers("Priority")) == (not path.stem.startswith("933"))
    assert not [name for name in invite.names if name.startswith(b"x-callpoint") or name == b"privacy"]


@pytest.mark.parametrize("profile", sorted({path.parent.name for path in INVITES}))
def test_a_test_call_that_the_pbx_marks_as_an_emergency_is_unmarked(profile):
    """E-07: SBCs detect emergency calls by these headers: a 933 that has them may ring at a PSAP."""
    marked, plain = (INVITES[ROOT / profile / f"{case}.sip"] for case in ("933-marked", "933"))
    assert marked == plain
    assert b"riority:" not in marked


@pytest.mark.parametrize("profile", sorted({path.parent.name for path in INVITES}))
def test_every_carrier_that_takes_a_location_gets_ours(profile):
    """E-06: by value where it is asked for, by reference where that is, both, and never one that it does not take."""
    found = {case: read_request((ROOT / profile / f"{case}.sip").read_bytes()) for case in CASES}
    conveyed = {case: [place.civic_address for place in carried(got).locations] for case, got in found.items()}
    if profile in TAKES_NONE:
        assert [conveyed[case] for case in ("911", "reference", "both")] == [[], [], []]
        return
    assert [address.get("RD") for address in conveyed["911"]] == [PLACE.civic_address.get("RD")]
    assert conveyed["933"] == conveyed["911"]
    assert conveyed["no-location"] == []
    takes_reference = not conveyed["reference"]
    assert len(geolocation_uris(found["reference"])) == 1
    assert len(geolocation_uris(found["both"])) == (2 if takes_reference else 1)
    assert conveyed["both"] == conveyed["911"]
    assert "Elsewhere" in {address.get("RD") for address in conveyed["own-location"]}
