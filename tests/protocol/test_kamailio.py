"""A Kamailio in front of the edge, as a site with its own proxy has it: PBX, Kamailio, edge, carrier."""

from pathlib import Path

import pytest

from engine.crypto import KeyRing
from engine.e911.journal import JournalReader
from tests import peers
from tests.peers import CARRIER_IP, FRONT_IP

SCENARIOS = Path(__file__).parent / "sipp"


def starting(folder: Path, name: str, method: str) -> list[bytes]:
    return [message for message in peers.sipp_messages(folder, name) if message.startswith(method.encode() + b" ")]


@pytest.mark.parametrize(
    ("pbx", "carrier", "hears_bye"),
    [("pbx_call", "carrier_answer", "carrier"), ("pbx_hears_bye", "carrier_hangs_up", "pbx")],
    ids=["the caller hangs up", "the callee hangs up"],
)
def test_a_911_call_goes_through_kamailio_and_the_edge_and_ends_from_either_side(
    tmp_path: Path, keys: KeyRing, pbx: str, carrier: str, hears_bye: str
) -> None:
    """E-18: two record-routing proxies in a row; ACK and BYE follow the route set both ways."""
    with peers.sipp_carrier(tmp_path, SCENARIOS / f"{carrier}.xml") as port:
        account = peers.one_account(peers.trunk(CARRIER_IP, port), pbx_ip=FRONT_IP)
        with (
            peers.edge(tmp_path, keys, tmp_path / "keys.toml", account) as edge,
            peers.kamailio(tmp_path, edge.udp, ip=FRONT_IP) as (_peer, front),
        ):
            peers.sipp_calls(tmp_path, SCENARIOS / f"{pbx}.xml", front)
            peers.until(lambda: starting(tmp_path, "carrier", "ACK"), "the ACK is at the carrier")
    (invite,) = starting(tmp_path, "carrier", "INVITE")
    assert b"application/pidf+xml" in invite
    assert b"P-Asserted-Identity: <sip:+15185550101@" in invite
    routes = [line for line in invite.split(b"\r\n") if line.startswith(b"Record-Route:")]
    assert len(routes) == 2, routes
    assert f"{edge.udp[0]}:{edge.udp[1]}".encode() in routes[0]
    assert f"{front[0]}:{front[1]}".encode() in routes[1] or FRONT_IP.encode() in routes[1]
    (bye,) = starting(tmp_path, hears_bye, "BYE")
    assert not [line for line in bye.split(b"\r\n") if line.startswith(b"Route:")]  # both proxies took theirs out
    entries, _position = JournalReader(tmp_path / "journal", keys).read_from()
    assert {"call", "attempt", "outcome", "ended"} <= {entry["type"] for entry in entries}
