"""Which of several SIP processes a datagram belongs to."""

import asyncio
from pathlib import Path

import pytest

from engine.edge_workers import HandOver, own_listening, owner_of
from engine.sip.transports import Listening
from tests.siptest import PBX, request

WORKERS = 3


@pytest.mark.parametrize("call", range(20))
def test_what_begins_and_ends_a_call_has_one_owner_however_its_call_id_is_spelled(call):
    """E-18: INVITE, CANCEL and the ACK of a refusal go the same way."""
    messages = [request(method, source=PBX, call_id=f"call-{call}@x") for method in ("INVITE", "CANCEL", "ACK")]
    spelled = [messages[0].replace(b"Call-ID: ", name) for name in (b"i:", b"call-id :\t", b"CALL-ID:  ", b"Call-ID:")]
    owners = {owner_of(data, WORKERS) for data in (*messages, *spelled)}
    assert len(owners) == 1
    assert owners <= {0, 1, 2}


def test_calls_are_dealt_to_all():
    """E-18: one PBX with one socket keeps every worker busy."""
    dealt = [owner_of(request("INVITE", source=PBX, call_id=f"{call}@x"), WORKERS) for call in range(300)]
    assert all(60 < dealt.count(worker) < 140 for worker in range(WORKERS))


@pytest.mark.parametrize(
    "data", [b"", b"\r\n\r\n", b"SIP/2.0 200 OK\r\nCall-ID: x\r\n\r\n", b"INVITE sip:a SIP/2.0\r\n\r\n"]
)
def test_whoever_has_what_names_no_call_serves_it(data):
    """E-18: responses, keep-alives, and what is no message."""
    assert owner_of(data, WORKERS) is None


@pytest.mark.parametrize("method", ["BYE", "OPTIONS", "REGISTER", "UPDATE"])
def test_other_requests_stay_where_they_came(method):
    """E-18: their retransmissions come by the same addresses."""
    assert owner_of(request(method, source=PBX), WORKERS) is None


def test_own_ports_lie_behind_the_shared_one_and_are_free_where_it_is_free():
    """Decision 0014."""
    shared = Listening(udp=[("192.0.2.1", 5060), ("::", 0)], tcp=[("192.0.2.1", 5060)], tls=[("192.0.2.1", 5061)])
    own = own_listening(shared, 1)
    assert own.udp == [("192.0.2.1", 5071), ("::", 0)]
    assert own.tcp == [("192.0.2.1", 5071)]
    assert own.tls == [("192.0.2.1", 5172)]
    assert own_listening(Listening(udp=[("h", 65_530)]), 0).udp == [("h", 0)]


async def test_a_call_that_could_not_be_handed_over_stays_where_it_began(tmp_path: Path):
    """E-18: its owner was away; once that is back, the CANCEL would find no call there (481), and the 911 ring on."""
    got: asyncio.Queue[bytes] = asyncio.Queue()
    here, there = (
        HandOver(tmp_path, worker, 2, receive=lambda data, _hop: got.put_nowait(data), drained=lambda: None)
        for worker in (0, 1)
    )
    calls = [f"{call}@x" for call in range(50)]
    began, later = [call for call in calls if owner_of(request(source=PBX, call_id=call), 2) == 1][:2]
    here.open()
    try:
        assert not here.takes(request(source=PBX, call_id=began), PBX)
        there.open()
        for method in ("CANCEL", "ACK", "INVITE"):
            assert not here.takes(request(method, source=PBX, call_id=began), PBX)
        assert here.takes(request(source=PBX, call_id=later), PBX)
        async with asyncio.timeout(5.0):
            assert await got.get() == request(source=PBX, call_id=later)
    finally:
        here.close()
        there.close()
