"""Whatever is thrown at the SIP process on real sockets: it answers as it may, counts, and calls go on."""

import asyncio
import random
import socket

from tests.protocol.edgetest import CARRIER_IP, PBX_IP, STRANGER_IP, Carrier, Pbx, account, edge, trunk
from tests.siptest import request
from tests.unit.sip.test_fuzz import broken


def datagrams(ip: str, to: tuple[str, int], messages: list[bytes]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((ip, 0))
        for data in messages:
            sock.sendto(data[:60_000], to)


async def stream(ip: str, to: tuple[str, int], data: bytes) -> bytes:
    """What comes back on a connection before it is closed, or before nothing more comes."""
    reader, writer = await asyncio.open_connection(*to, local_addr=(ip, 0))
    try:
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(60.0):
            return await reader.read(1_000_000)
    except (ConnectionError, TimeoutError):
        return b""
    finally:
        writer.close()


async def test_bad_input_is_counted_and_answered_as_allowed_and_calls_go_on(tmp_path, keys, parties):
    """E-18, E-04: 600 broken messages of strangers and peers, over UDP and TCP, and a 911 call right after."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180, 200]))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        before = len(running.logged)
        noise = random.Random(1)
        for ip in (STRANGER_IP, PBX_IP):
            junk = [noise.randbytes(noise.randrange(1, 900)) for _ in range(100)]
            datagrams(ip, running.udp, [*junk, *(broken(seed) for seed in range(100)), b"\r\n\r\n", b"\0\0\0\0"])
            await running.settled()
            for data in (
                noise.randbytes(5_000), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(600),
                *(broken(seed) for seed in range(200, 240)),
            ):  # fmt: skip
                said = await stream(ip, running.tcp, data)
                assert all(line[:11] for line in said.split(b"SIP/2.0 ")[1:])
                assert b"Traceback" not in said
        stats = await running.settled()
        assert sum(stats["refused"].values()) > 150
        assert {"syntax_400", "syntax_0"} <= set(stats["refused"])
        assert stats["strangers_unheard"] > 0
        assert len(running.logged) - before < 20, running.logged[before:]  # not one line for each of them
        assert not any("event_failed" in line or "record_failed" in line for line in running.logged)
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200


async def test_a_stranger_on_a_stream_is_heard_as_little_as_one_on_udp(tmp_path, keys, parties):
    """E-04: a thousand requests on one connection: some are refused, the rest is not looked at."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180, 200]))
    pbx = await parties(Pbx("tcp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        flood = b"".join(
            request("MESSAGE", "sip:911@192.0.2.10", branch=f"z9hG4bK{number}", call_id=f"c{number}")
            for number in range(1_000)
        )
        said = await stream(STRANGER_IP, running.tcp, flood)
        assert 1 <= said.count(b"SIP/2.0 403") <= 100
        stats = await running.settled()
        assert stats["strangers_unheard"] >= 100  # what came before the connection was closed
        call = await pbx.call(running.tcp)
        assert (await call.final()).status == 200
