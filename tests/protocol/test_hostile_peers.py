"""The SIP process among peers that mean harm, or are broken: 911 beside all of it over the same listeners."""

import asyncio
import contextlib
import itertools
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from engine.crypto import KeyRing
from engine.sip.message import Request, Response
from tests.certificates import files_of
from tests.protocol.edgetest import (
    CARRIER_IP,
    PBX_IP,
    SECOND_IP,
    Carrier,
    EdgeProcess,
    Party,
    Pbx,
    account,
    edge,
    trunk,
)
from tests.siptest import request, response

pytestmark = pytest.mark.enable_socket
Parties = Callable[[Party], Awaitable[Any]]
STRANGERS = [f"127.0.1.{last}" for last in range(1, 31)]
PER_STRANGER = 36  # more than one address may have
HEAD = b"INVITE sip:911@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.1.1;branch=z9hG4bKslow\r\nSubject: "
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the first octets of a handshake that does not go on


async def connected(ip: str, to: tuple[str, int], first: bytes) -> socket.socket:
    """A connection on which some octets were sent and the rest is still to come."""
    made = socket.socket()
    made.setblocking(False)
    made.bind((ip, 0))
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        await loop.sock_connect(made, to)
        await loop.sock_sendall(made, first)
    return made


async def drip(slow: list[socket.socket]) -> None:
    """A byte a turn on each of them, for ever: none says anything whole, none is silent."""
    while True:
        for each in slow:
            with contextlib.suppress(OSError):
                each.send(b"x")
        await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def slow_loris(*targets: tuple[tuple[str, int], bytes]) -> AsyncIterator[list[socket.socket]]:
    """Every stranger's connections to these addresses, dripping."""
    slow = [
        await connected(ip, to, first) for ip, (to, first) in itertools.product(STRANGERS, targets)
        for _ in range(PER_STRANGER // len(targets))
    ]  # fmt: skip
    dripping = asyncio.create_task(drip(slow))
    try:
        yield slow
    finally:
        dripping.cancel()
        for each in slow:
            each.close()


async def places_911(pbx: Pbx, to: tuple[str, int], *, times: int = 5) -> None:
    for _ in range(times):
        call = await pbx.call(to)
        assert (await call.final()).status == 200


@contextlib.asynccontextmanager
async def serving(folder: Path, keys: KeyRing, carrier: Carrier) -> AsyncIterator[tuple[EdgeProcess, ssl.SSLContext]]:
    """A SIP process on UDP, TCP and TLS, and the context of a PBX that connects to it."""
    authority = trustme.CA()
    files = files_of(folder, authority, "127.0.0.1")
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname = False
    authority.configure_trust(trust)
    tls = {"tls": "127.0.0.1:0", "tls_cert": str(files.certificate), "tls_key": str(files.key)}
    async with edge(folder, keys, account(trunk(carrier.hop)), **tls) as running:
        yield running, trust


async def test_911_goes_over_listeners_that_strangers_hold_with_endless_headers_and_handshakes(
    tmp_path: Path, keys: KeyRing, parties: Parties
) -> None:
    """E-03, E-04: a thousand half-open connections that send a byte now and then, on TCP and TLS; new connections of
    the PBX are taken, those it has go on, strangers have no more than their share, and nobody writes a log line each.
    """
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180, 200]))
    async with serving(tmp_path, keys, carrier) as (running, trust):
        before = await parties(Pbx("tcp", PBX_IP))
        await places_911(before, running.tcp, times=1)
        lines = len(running.logged)
        async with slow_loris((running.tcp, HEAD), (running.tls, HELLO), (running.tls, b"")):
            await places_911(before, running.tcp)
            for transport in ("udp", "tcp", "tls"):
                pbx = await parties(Pbx(transport, PBX_IP, (trust, trust) if transport == "tls" else None))
                await places_911(pbx, running.at(transport))
            stats = await running.settled()
        assert stats["connections_refused"] > 0
        assert len(running.logged) - lines < 20, running.logged[lines:]
        again = await parties(Pbx("tcp", PBX_IP))
        await places_911(again, running.tcp)
    assert len(carrier.invites) == 26


async def test_911_goes_beside_a_flood_of_strangers_on_every_transport(
    tmp_path: Path, keys: KeyRing, parties: Parties
) -> None:
    """E-03, E-04: as many INVITEs for 911 as the sockets take, none of them forwarded; it is counted, not written
    down.
    """
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180, 200]))
    async with serving(tmp_path, keys, carrier) as (running, trust):
        lines, sent = len(running.logged), 0
        flooding = True
        datagrams = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in STRANGERS]
        for ip, each in zip(STRANGERS, datagrams, strict=True):
            each.bind((ip, 0))
            each.setblocking(False)

        def invite(ip: str) -> bytes:
            number = next(numbers)
            return request(branch=f"z9hG4bKflood{number}", call_id=f"{number}@{ip}", from_tag="f")

        async def flood() -> None:
            nonlocal sent
            while flooding:
                for ip, each in zip(STRANGERS, datagrams, strict=True):
                    with contextlib.suppress(OSError):
                        sent += bool(each.sendto(invite(ip), running.udp))
                for to in (running.tcp, running.tls):
                    made = await connected(STRANGERS[sent % len(STRANGERS)], to, invite("x") * 5)
                    made.close()
                await asyncio.sleep(0)

        numbers = itertools.count()
        work = asyncio.create_task(flood())
        try:
            for transport in ("udp", "tcp", "tls"):
                pbx = await parties(Pbx(transport, PBX_IP, (trust, trust) if transport == "tls" else None))
                pbx_call = [await pbx.call(running.at(transport)) for _ in range(10)]
                for call in pbx_call:
                    assert (await call.final()).status == 200
        finally:
            flooding = False
            await work
            for each in datagrams:
                each.close()
        stats = await running.settled()
        assert sent > 100
        assert stats["strangers_unheard"] > 0
        assert len(running.logged) - lines < 30, running.logged[lines:]
    assert len(carrier.invites) == 30


def changed(old: bytes, new: bytes) -> Callable[[bytes], list[bytes]]:
    return lambda answer: [answer.replace(old, new, 1)]


HOSTILE: dict[str, Callable[[bytes], list[bytes]]] = {
    "another branch": changed(b";branch=z9hG4bK", b";branch=z9hG4bKother"),
    "another method": changed(b" INVITE\r\n", b" BYE\r\n"),
    "no Via": changed(b"\r\nVia:", b"\r\nX-Via:"),
    "no status": changed(b"SIP/2.0 200", b"SIP/2.0 2x0"),
    "a status of nobody": changed(b"SIP/2.0 200", b"SIP/2.0 999"),
    "half of it": lambda answer: [answer[: len(answer) // 2]],
    "ten thousand headers": lambda answer: [answer.replace(b"\r\nVia:", b"\r\nX:y" * 10_000 + b"\r\nVia:", 1)],
    "noise": lambda answer: [bytes(range(256)) * 4, b"\r\n\r\n", b"SIP/2.0 ", b"\0"],
}


ODD: dict[str, Callable[[bytes], list[bytes]]] = {
    "another CSeq": changed(b"CSeq: 1 ", b"CSeq: 4711 "),  # RFC 3261 §17.1.3 asks for branch and method alone
    "60 kB": lambda answer: [answer.replace(b"\r\nVia:", b"\r\nX: " + b"y" * 60_000 + b"\r\nVia:", 1)],
}


class Hostile(Carrier):
    """Answers as a broken element would, and may answer rightly too late, several times."""

    def __init__(self, spoil: Callable[[bytes], list[bytes]]) -> None:
        super().__init__("udp", CARRIER_IP, lambda _: [])
        self._spoil = spoil

    def on_message(self, message: Request | Response, data: bytes, source: tuple[str, int]) -> None:
        if isinstance(message, Request) and message.method == "INVITE":
            for each in self._spoil(response(data, 200, contact=f"sip:psap@{self.ip}:{self.port}")):
                self._follow(self.send(each, source))
            return
        super().on_message(message, data, source)


@pytest.mark.parametrize("fault", HOSTILE)
async def test_a_trunk_that_answers_what_no_carrier_should_costs_its_own_time_and_no_call(
    tmp_path: Path, keys: KeyRing, parties: Parties, fault: str
) -> None:
    """E-03, E-08: what cannot be read, or belongs to nothing, is no answer: the next trunk has the call."""
    broken = await parties(Hostile(HOSTILE[fault]))
    good = await parties(Carrier("udp", SECOND_IP, lambda _: [180, 200]))
    pbx = await parties(Pbx("udp", PBX_IP))
    trunks = trunk(broken.hop), trunk(good.hop, "trunk_second", 20)
    async with edge(tmp_path, keys, account(*trunks), ping_s=0) as running:
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        assert len(good.invites) == 1
        assert not any("event_failed" in line or "record_failed" in line for line in running.logged)


@pytest.mark.parametrize("oddity", ODD)
async def test_an_answer_that_is_odd_and_can_be_read_is_an_answer(
    tmp_path: Path, keys: KeyRing, parties: Parties, oddity: str
) -> None:
    """E-08: the PSAP's telephone was picked up there: nobody else's rings."""
    carrier = await parties(Hostile(ODD[oddity]))
    second = await parties(Carrier("udp", SECOND_IP, lambda _: [180, 200]))
    pbx = await parties(Pbx("udp", PBX_IP))
    trunks = trunk(carrier.hop), trunk(second.hop, "trunk_second", 20)
    async with edge(tmp_path, keys, account(*trunks), ping_s=0) as running:
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        assert second.invites == []


async def test_a_trunk_that_answers_twice_and_late_is_one_answer_to_the_caller(
    tmp_path: Path, keys: KeyRing, parties: Parties
) -> None:
    """E-08: a final response repeated, a refusal behind an answer, a 180 behind both: the caller's call stands."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180, 200, 200, 503, 180, 600]))
    second = await parties(Carrier("udp", SECOND_IP, lambda _: [180, 200]))
    pbx = await parties(Pbx("udp", PBX_IP))
    trunks = trunk(carrier.hop), trunk(second.hop, "trunk_second", 20)
    async with edge(tmp_path, keys, account(*trunks), ping_s=0) as running:
        call = await pbx.call(running.udp)
        answer = await call.final()
        assert answer.status == 200
        await call.within("ACK", answer, 1)
        await call.within("BYE", answer, 2)
        await pbx.expect(lambda m: isinstance(m, Response) and m.cseq == (2, "BYE") and m.status == 200)
        outcome = await running.entry("outcome")
    assert (outcome["outcome"], second.invites) == ("answered", [])
    assert {m.status for m in pbx.inbox if isinstance(m, Response) and m.cseq[1] == "INVITE"} <= {100, 180, 200}


@pytest.mark.parametrize("garbage", [b"\0" * 4_000, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 40, b"INVITE "])
async def test_a_pbx_that_sends_garbage_behind_its_911_is_answered_before_its_stream_ends(
    tmp_path: Path, keys: KeyRing, parties: Parties, garbage: bytes
) -> None:
    """E-03: on TCP nothing can be read any more; the call that was read has left, and its answer finds its caller."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180, 200]))
    pbx = await parties(Pbx("tcp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        call = await pbx.call(running.tcp, edit=lambda data: data + garbage)
        assert (await call.final()).status == 200
        assert (await running.entry("outcome"))["outcome"] == "answered"


async def test_without_a_descriptor_left_911_goes_on_over_what_stands(
    tmp_path: Path, keys: KeyRing, parties: Parties
) -> None:
    """E-03: something has eaten them all: UDP and the PBX's connection carry 911, new connections wait, records are
    written when there is room, and nothing has to be started again.
    """
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180, 200]))
    udp, tcp, late = [await parties(Pbx(transport, PBX_IP)) for transport in ("udp", "tcp", "tcp")]
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        for pbx in (udp, tcp):
            await places_911(pbx, running.at(pbx.transport), times=1)
        await running.journal(lambda entries: sum(each["type"] == "outcome" for each in entries) == 2)
        pid = running.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        taken = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken, before[1]))
        waiting = await late.call(running.tcp)
        for pbx in (udp, tcp):
            await places_911(pbx, running.at(pbx.transport))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert (await waiting.final()).status == 200
        await running.journal(lambda entries: sum(each["type"] == "outcome" for each in entries) == 13)
        assert len(running.logged) < 40, running.logged
