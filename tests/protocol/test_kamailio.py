"""Kamailio around the edge, as sites and carriers have it: PBX, Kamailio, edge, Kamailio, carrier."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from engine.crypto import KeyRing
from engine.e911.journal import JournalReader
from engine.sip.tls import TlsFiles
from tests import peers
from tests.certificates import files_of
from tests.peers import CARRIER_IP, FRONT_IP, NODE_IP, OTHER_CARRIER_IP

SCENARIOS = Path(__file__).parent / "sipp"


def starting(folder: Path, name: str, method: str) -> list[bytes]:
    return [message for message in peers.sipp_messages(folder, name) if message.startswith(method.encode() + b" ")]


@dataclass(frozen=True)
class Way:
    """Who stands where: the edge, the Kamailio in front of it and the one behind."""

    edge: peers.Edge
    front: tuple[str, int]
    back: tuple[str, int]


@contextmanager
def both_sides(folder: Path, keys: KeyRing, transport: str, carrier: Path, **pbx: Any) -> Iterator[Way]:
    """SIPp speaks UDP to the outer sides of the two; between them and the edge it is `transport`."""
    authority = trustme.CA()

    def files(*names: str) -> TlsFiles | None:
        made = files_of(folder, authority, *names, client_ca=authority, server_ca=authority)
        return made if transport == "tls" else None

    also = "" if transport == "udp" else transport
    with (
        peers.sipp_carrier(folder, carrier) as port,
        peers.kamailio(
            folder, (CARRIER_IP, port), ip=OTHER_CARRIER_IP, name="back", also=also, tls=files(OTHER_CARRIER_IP)
        ) as (_, back),
    ):
        account = peers.one_account(peers.trunk(*back, transport=transport), pbx_ip=FRONT_IP)
        account["pbxs"][0] |= pbx
        own = files("callpoint.example", NODE_IP)
        with peers.edge(folder, keys, folder / "keys.toml", account, tls=own) as edge:
            address = getattr(edge, transport)
            peers.until(lambda: edge.hear("trunk")["up"], "the trunk answers its pings")
            with peers.kamailio(
                folder, address, ip=FRONT_IP, name="front", also=also, onward=transport,
                tls=files("front.example", FRONT_IP),
            ) as (_, front):  # fmt: skip
                yield Way(edge, front, back)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
@pytest.mark.parametrize(
    ("pbx", "carrier", "hears_bye"),
    [("pbx_call", "carrier_answer", "carrier"), ("pbx_hears_bye", "carrier_hangs_up", "pbx")],
    ids=["the caller hangs up", "the callee hangs up"],
)
def test_a_911_call_goes_through_two_kamailios_and_the_edge_and_ends_from_either_side(
    tmp_path: Path, keys: KeyRing, transport: str, pbx: str, carrier: str, hears_bye: str
) -> None:
    """E-18: record-routing proxies on either side; ACK and BYE follow the route set both ways, over each transport."""
    with both_sides(tmp_path, keys, transport, SCENARIOS / f"{carrier}.xml") as way:
        peers.sipp_calls(tmp_path, SCENARIOS / f"{pbx}.xml", way.front)
        peers.until(lambda: starting(tmp_path, "carrier", "ACK"), "the ACK is at the carrier")
    (invite,) = starting(tmp_path, "carrier", "INVITE")
    assert b"application/pidf+xml" in invite
    assert b"P-Asserted-Identity: <sip:+15185550101@" in invite
    lines = invite.split(b"\r\n")
    routes = b"\n".join(line for line in lines if line.startswith(b"Record-Route:"))
    vias = [line for line in lines if line.startswith(b"Via:")]
    ip, port = getattr(way.edge, transport)
    assert vias[1].startswith(f"Via: SIP/2.0/{transport.upper()} {ip}:{port};".encode())
    parameter = f";transport={transport}" if transport != "udp" else ""
    assert f"<sip:{ip}:{port}{parameter};lr;cp=".encode() in routes
    assert routes.index(way.back[0].encode()) < routes.index(f"{ip}:{port}".encode()) < routes.index(FRONT_IP.encode())
    (bye,) = starting(tmp_path, hears_bye, "BYE")
    assert not [line for line in bye.split(b"\r\n") if line.startswith(b"Route:")]  # all proxies took theirs out
    entries, _position = JournalReader(tmp_path / "journal", keys).read_from()
    assert {"call", "attempt", "outcome", "ended"} <= {entry["type"] for entry in entries}


def test_a_front_is_known_by_its_certificate_alone(tmp_path: Path, keys: KeyRing) -> None:
    """E-04: no address of it is configured; what proves it is the name that our own authority vouched for."""
    with both_sides(
        tmp_path, keys, "tls", SCENARIOS / "carrier_answer.xml", sources=[], tls_name="front.example"
    ) as way:
        peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", way.front)
    assert len(starting(tmp_path, "carrier", "INVITE")) == 1
