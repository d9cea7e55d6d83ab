"""More calls than the SIP process can carry: a 911 that came last leaves first, what comes too late is refused."""

import asyncio
import signal
import socket
from pathlib import Path

from engine.crypto import KeyRing
from engine.sip.timers import T1 as T1_S
from engine.sip.udp import MAX_DATAGRAMS_PER_WAKE_UP
from tests import peers
from tests.protocol import edgetest
from tests.siptest import request

DATAGRAM_COST = 4_096  # what the kernel may count for one of ours, its own book-keeping included
BEHIND = 30  # ordinary calls beyond a full turn: enough to see that they were overtaken


def invite(pbx: edgetest.Pbx, uri: str, number: int) -> bytes:
    return request(
        "INVITE", uri, source=pbx.hop, branch=f"z9hG4bKcrowd{number}", call_id=f"crowd-{number}@pbx", from_tag="pbx",
        body=edgetest.SDP,
    )  # fmt: skip


async def test_a_911_behind_a_heap_of_ordinary_calls_overtakes_them(tmp_path: Path, keys: KeyRing) -> None:
    """E-03: passthrough load never touches an emergency. The process is held while the heap grows, then let go."""
    pbx, carrier = edgetest.Pbx("udp", edgetest.PBX_IP), edgetest.Carrier("udp", edgetest.CARRIER_IP, lambda _: [])
    await pbx.open()
    await carrier.open()
    account = peers.one_account(
        peers.trunk(carrier.ip, carrier.port), pbx_ip=pbx.ip, default_route=f"sip:{carrier.ip}:{carrier.port}"
    )
    try:
        async with edgetest.edge(tmp_path, keys, account, ping_s=0) as edge:
            room = (await edge.settled())["receive_buffer_bytes"] // DATAGRAM_COST
            heap = min(1_000, room - 1)
            assert heap >= MAX_DATAGRAMS_PER_WAKE_UP + BEHIND, "the kernel grants too small a buffer for a heap"
            edge.process.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(edgetest.stopped, edge.process.pid)
            for number in range(heap):
                await pbx.send(invite(pbx, "sip:5185550100@callpoint.example.com", number), edge.udp)
            await pbx.send(invite(pbx, "sip:911@callpoint.example.com", heap), edge.udp)
            edge.process.send_signal(signal.SIGCONT)
            await carrier.expect(lambda m: m.method == "INVITE" and "911@" in m.request_uri)
            numbers = [one.request_uri for one in carrier.invites]
            place = next(at for at, uri in enumerate(numbers) if "911@" in uri)
            assert place <= MAX_DATAGRAMS_PER_WAKE_UP, f"{place} ordinary calls went before it"
            await edge.settled()
    finally:
        await pbx.close()
        await carrier.close()


async def test_a_call_back_behind_a_heap_of_ordinary_calls_overtakes_them(tmp_path: Path, keys: KeyRing) -> None:
    """E-09: the PSAP that was cut off calls back while the PBX is at its busiest; it is not refused like a new call."""
    pbx, carrier = edgetest.Pbx("udp", edgetest.PBX_IP), edgetest.Carrier("udp", edgetest.CARRIER_IP, lambda _: [])
    route = edgetest.Carrier("udp", edgetest.SECOND_IP, lambda _: [])
    for party in (pbx, carrier, route):
        await party.open()
    account = peers.one_account(
        peers.trunk(carrier.ip, carrier.port), pbx_ip=pbx.ip, default_route=f"sip:{route.ip}:{route.port}"
    )
    try:
        async with edgetest.edge(tmp_path, keys, account, ping_s=0) as edge:
            await pbx.send(invite(pbx, "sip:911@callpoint.example.com", 0), edge.udp)
            number = (await carrier.expect(lambda m: m.method == "INVITE")).header("P-Asserted-Identity")
            await edge.settled()
            pbx.inbox.clear()
            heap = min(1_000, (await edge.settled())["receive_buffer_bytes"] // DATAGRAM_COST - 1)
            assert heap >= MAX_DATAGRAMS_PER_WAKE_UP + BEHIND, "the kernel grants too small a buffer for a heap"
            edge.process.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(edgetest.stopped, edge.process.pid)
            for each in range(1, heap // 2):
                await pbx.send(invite(pbx, "sip:5185550100@callpoint.example.com", each), edge.udp)
            call = request(
                "INVITE", number.strip("<>"), source=carrier.hop, branch="z9hG4bKback", call_id="back@psap",
                from_tag="psap", body=edgetest.SDP,
            )  # fmt: skip
            await carrier.send(call, edge.udp)
            for each in range(heap // 2, heap):  # of those that are refused in the end the youngest go first
                await pbx.send(invite(pbx, "sip:5185550100@callpoint.example.com", each), edge.udp)
            edge.process.send_signal(signal.SIGCONT)
            back = await pbx.expect(lambda m: getattr(m, "method", "") == "INVITE")
            place = pbx.inbox.index(back)
            assert place <= MAX_DATAGRAMS_PER_WAKE_UP, f"{place} ordinary calls went before it"
            await edge.settled()
    finally:
        for party in (pbx, carrier, route):
            await party.close()


async def test_what_waits_too_long_in_a_crowd_is_refused_without_retry_after(tmp_path: Path, keys: KeyRing) -> None:
    """E-03: normal calls are shed first, with 503; their PBX is not told to stay away, or its next 911 would."""
    pbx, carrier = edgetest.Pbx("udp", edgetest.PBX_IP), edgetest.Carrier("udp", edgetest.CARRIER_IP, lambda _: [])
    await pbx.open()
    await carrier.open()
    account = peers.one_account(
        peers.trunk(carrier.ip, carrier.port), pbx_ip=pbx.ip, default_route=f"sip:{carrier.ip}:{carrier.port}"
    )
    pattern = invite(pbx, "sip:5185550100@callpoint.example.com", 0).replace(b"crowd-0", b"crowd0")
    try:
        async with edgetest.edge(tmp_path, keys, account, ping_s=0) as edge:
            enough = asyncio.create_task(
                pbx.expect(lambda m: getattr(m, "status", 0) == 503 and m.cseq[1] == "INVITE", within_s=60)
            )
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((pbx.ip, 0))
                for number in range(100_000):
                    sock.sendto(pattern.replace(b"crowd0", b"crowd%d" % number), edge.udp)
                    if not number % 500:  # a slow machine has sent enough long before the last
                        await asyncio.sleep(0)
                        if enough.done():
                            break
            refused = await enough
            assert refused.header("Retry-After") is None
            assert refused.to_tag
            call = await pbx.call(edge.udp)
            while not any(one.call_id == call.call_id for one in carrier.invites):
                await asyncio.sleep(T1_S)  # the kernel may drop what comes into a full buffer: a PBX sends it again
                await pbx.send(call.invite, edge.udp)
            stats = await edge.settled()
            assert stats["requests_shed"] >= 1
    finally:
        await pbx.close()
        await carrier.close()
