"""The emergency INVITEs behind the golden files: each carrier profile through the real hook and the real SIP element,
with counters in the place of chance and one fixed time.
"""

import itertools
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

from engine.e911.carriers import load_profiles
from engine.e911.civic import CivicAddress, DispatchableLocation
from engine.e911.geo import Geo
from engine.e911.hook import Hook
from engine.e911.location import AccountTable, Line, LocationTable, Mac, Pbx, Phone, Trunk
from engine.e911.pidf import write_pidf
from engine.e911.route import Deadlines
from engine.sip.events import RequestReceived
from engine.sip.forward import Hop
from engine.sip.stack import SipStack
from tests.siptest import PBX, PROXY, SDP, drain, read_request, request

ROOT = Path(__file__).parent / "invites"
NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
CARRIER = Hop("udp", "203.0.113.7", 5060)
CALL_ID = "call_06b7xq2m9k4t8v1n3p5r7s9w0y"
PLACE = DispatchableLocation(
    "location_hq",
    "Headquarters",
    CivicAddress.of(
        {
            "country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203",
            "FLR": "4", "ROOM": "412", "NAM": "Acme Dental",
            "LOC": "Fourth floor, past the second fire door, the office behind the archive",
        }
    ),
    Geo(42.6526, -73.7562, radius_m=15.0),
)  # fmt: skip
OWN = DispatchableLocation("own", "own", CivicAddress.of({"country": "US", "A1": "NY", "RD": "Elsewhere"}))


def account(profile: str, mode: str) -> AccountTable:
    """One PBX; extension 101 has a number and a place, 102 has neither."""
    place = DispatchableLocation(
        PLACE.id, PLACE.name, PLACE.civic_address, PLACE.geo, carrier_ids=((profile, "HQ4a7f"),)
    )
    return AccountTable(
        account_id="account_acme",
        name="Acme Dental",
        locations={place.id: place},
        phones=(Phone("phone_1", Mac("0015654aa937"), "", "location_hq", ("line_101",)),),
        lines=(
            Line("line_101", "101", "101", "Front desk", "+15185550101"),
            Line("line_102", "102", "lobby 2", "Lobby"),
            Line("line_103", "103", "lobby 3", "Stairs", None, "location_hq"),
        ),
        pbxs={"pbx_1": Pbx("pbx_1", "PBX", (ip_network("192.0.2.20/32"),))},
        trunks=(Trunk("trunk_1", "Carrier", 10, CARRIER.ip, profile=profile, location_mode=mode),),
    )


def outgoing_invite(
    profile: str, *, uri: str, caller: str, mode: str = "value", has_own: bool = False, is_marked: bool = False
) -> bytes:
    """What leaves for the trunk when that caller of the PBX dials."""
    table = LocationTable()
    table.put(account(profile, mode))
    counter = itertools.count(1)
    hook = Hook(
        table,
        profiles=load_profiles(),
        hops_of=lambda host, port, transport: (Hop(transport, host, port or 5060),),
        down=set(),
        trunk_ips={CARRIER.ip},
        deadlines=Deadlines(),
        proof_key=b"k" * 32,
        make_call_id=lambda: CALL_ID,
        reference_of=lambda account_id, location_id, call_id, now: "https://phones.example.com/held/r3f3r3nc3",
        domain="sip.example.com",
    )
    stack = SipStack(
        addresses=lambda _: (PROXY.ip, PROXY.port),
        make_branch=lambda: f"z9hG4bKgolden{next(counter)}",
        make_tag=lambda: f"golden-{next(counter)}",
        mark_key=b"mark key of the golden files 32b",
        is_emergency=hook.is_emergency,
        is_trusted=hook.is_trusted,
    )
    stack.receive(_dialed(uri, caller, has_own=has_own, is_marked=is_marked), PBX, 0.0)
    events, _ = drain(stack)
    (event,) = [event for event in events if isinstance(event, RequestReceived)]
    decision = hook.decide(event.request, event.source, NOW)
    stack.forward(event.transaction, decision.forward, 0.0)
    _, sent = drain(stack)
    ((data, hop),) = [(data, hop) for data, hop in sent if hop.ip == CARRIER.ip]
    assert hop == CARRIER
    return data


def _dialed(uri: str, caller: str, *, has_own: bool, is_marked: bool) -> bytes:
    added = [f"X-Callpoint-Device: {caller}", "Privacy: id", "Remote-Party-ID: <sip:desk@pbx.example.com>"]
    if is_marked:
        added += ["Priority: emergency", "Resource-Priority: esnet.0"]
    if not has_own:
        return request(uri=uri, added=added)
    body = (
        b"--pbx\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--pbx\r\nContent-Type: application/pidf+xml\r\n"
    )
    body += b"Content-ID: <own@pbx.example.com>\r\n\r\n" + write_pidf(OWN, "pres:101@pbx.example.com", NOW)
    data = request(
        uri=uri,
        added=[
            *added,
            "Geolocation: <cid:own@pbx.example.com>, <https://lis.example.com/r/1>",
            "Geolocation-Routing: no",
        ],
        body=body + b"\r\n--pbx--\r\n",
    )
    read_request(data)
    return data.replace(b"Content-Type: application/sdp", b"Content-Type: multipart/mixed;boundary=pbx", 1)


CASES = {
    "911": {"uri": "sip:911@192.0.2.10", "caller": "101"},
    "933": {"uri": "sip:933@192.0.2.10", "caller": "101"},
    "933-marked": {"uri": "sip:933@192.0.2.10", "caller": "101", "is_marked": True},
    "no-location": {"uri": "sip:911@192.0.2.10", "caller": "102"},
    "no-number": {"uri": "sip:911@192.0.2.10", "caller": "103"},
    "reference": {"uri": "sip:911@192.0.2.10", "caller": "101", "mode": "reference"},
    "both": {"uri": "urn:service:sos.fire", "caller": "101", "mode": "both"},
    "own-location": {"uri": "sip:911@192.0.2.10", "caller": "101", "has_own": True},
}


def invites() -> dict[Path, bytes]:
    """Every golden file with the bytes it should hold: one per profile and case."""
    return {
        ROOT / profile / f"{case}.sip": outgoing_invite(profile, **fields)
        for profile in sorted(load_profiles().by_name)
        for case, fields in CASES.items()
    }
