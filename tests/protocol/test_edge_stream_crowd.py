"""More on one TCP or TLS connection than the SIP process can carry: a 911 that came last leaves first."""

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from engine.crypto import KeyRing
from engine.sip.forward import Hop
from engine.sip.framer import Framer
from engine.sip.message import Response, parse_message
from engine.sip.stream import MOST_IN_A_ROW
from tests import peers
from tests.certificates import files_of
from tests.protocol import edgetest
from tests.siptest import request

HEAP = MOST_IN_A_ROW + 8  # more than are dealt with as they come, and no more than the kernel takes for a held process
WITHIN_S = 30.0


class Stream:
    """A PBX's one connection, in plain sockets: what it sends is in the kernel when `send` returns."""

    def __init__(self, to: tuple[str, int], trust: ssl.SSLContext | None) -> None:
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024 * 1024)
        plain.settimeout(WITHIN_S)
        plain.bind((edgetest.PBX_IP, 0))
        plain.connect(to)
        self.socket = trust.wrap_socket(plain, server_hostname=to[0]) if trust else plain
        self.hop = Hop("tls" if trust else "tcp", *self.socket.getsockname())
        self._framer = Framer()

    def request(self, method: str, user: str, name: str) -> bytes:
        return request(
            method, f"sip:{user}@callpoint.example.com", source=self.hop,
            branch=f"z9hG4bK{name}", call_id=f"{name}@pbx", from_tag="pbx",
        )  # fmt: skip

    def answers(self) -> Iterator[Response]:
        while segment := self.socket.recv(65_536):
            for data in self._framer.feed(segment):
                message = parse_message(data)
                if isinstance(message, Response):
                    yield message


@contextlib.asynccontextmanager
async def running(
    folder: Path, keys: KeyRing, transport: str
) -> AsyncIterator[tuple[edgetest.EdgeProcess, Stream, edgetest.Carrier]]:
    """The SIP process, a PBX's connection to it, and a carrier by UDP that says 100 and no more."""
    carrier = edgetest.Carrier("udp", edgetest.CARRIER_IP, lambda _: [100])
    await carrier.open()
    far = f"sip:{carrier.ip}:{carrier.port}"
    account = peers.one_account(peers.trunk(carrier.ip, carrier.port), pbx_ip=edgetest.PBX_IP, default_route=far)
    settings: dict[str, object] = {"ping_s": 0}
    trust = None
    if transport == "tls":
        authority = trustme.CA()
        files = files_of(folder, authority, edgetest.EDGE_IP)
        settings |= {"tls": f"{edgetest.EDGE_IP}:0", "tls_cert": str(files.certificate), "tls_key": str(files.key)}
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(trust)
    stream = None
    try:
        async with edgetest.edge(folder, keys, account, **settings) as process:
            host, _, port = (await process.hear("ready"))[transport].rpartition(":")
            stream = await asyncio.to_thread(Stream, (host, int(port)), trust)
            yield process, stream, carrier
            process.process.kill()  # hundreds of calls ring: they are not waited for
    finally:
        if stream is not None:
            stream.socket.close()
        await carrier.close()


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_911_behind_a_heap_in_its_stream_leaves_first(tmp_path: Path, keys: KeyRing, transport: str) -> None:
    """E-03: the process is held while the heap grows; what the stream carries otherwise keeps its order."""
    async with running(tmp_path, keys, transport) as (process, stream, carrier):
        heap = [stream.request("INVITE", "5185550100", f"crowd{number}") for number in range(HEAP)]
        heap.append(stream.request("INVITE", "911", "emergency"))
        heap.append(stream.request("CANCEL", "911", "emergency"))
        heap.append(stream.request("CANCEL", "5185550100", "crowd0"))
        process.process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(edgetest.stopped, process.process.pid)
        await asyncio.to_thread(stream.socket.sendall, b"".join(heap))
        process.process.send_signal(signal.SIGCONT)
        await carrier.expect(lambda m: m.method == "CANCEL" and "911@" in m.request_uri, within_s=WITHIN_S)
        await carrier.expect(lambda m: m.method == "CANCEL" and "911@" not in m.request_uri, within_s=WITHIN_S)
        uris = [one.request_uri for one in carrier.invites]
        place = next(at for at, uri in enumerate(uris) if "911@" in uri)
        assert place == 0, f"{place} ordinary calls went before it"
        ordinary = [one.call_id for one in carrier.invites if "911@" not in one.request_uri]
        numbers = [int(name.partition("@")[0].removeprefix("crowd")) for name in ordinary]
        assert numbers == sorted(numbers), "calls of one stream overtook each other"
        sent = carrier.requests("INVITE") + carrier.requests("CANCEL")
        assert [m.method for m in sent if m.call_id == "emergency@pbx"][-1] == "CANCEL"


async def test_what_waits_too_long_on_a_stream_is_refused_without_retry_after(tmp_path: Path, keys: KeyRing) -> None:
    """E-03: the same rule as on UDP; every call of the stream has an answer, and the next 911 goes at once."""
    async with running(tmp_path, keys, "tcp") as (process, stream, carrier):
        refused: list[Response] = []

        def flood() -> None:
            """Calls until one is refused."""
            answers = stream.answers()
            for number in range(400):
                calls = [stream.request("INVITE", "5185550100", f"flood{number}-{each}") for each in range(100)]
                stream.socket.sendall(b"".join(calls))
                stream.socket.settimeout(0.001)
                with contextlib.suppress(TimeoutError):
                    refused.extend(answer for answer in answers if answer.status == 503)
                answers = stream.answers()
                stream.socket.settimeout(WITHIN_S)
                if refused:
                    return

        await asyncio.to_thread(flood)
        assert refused
        assert (refused[0].header("Retry-After"), bool(refused[0].to_tag)) == (None, True)
        await asyncio.to_thread(stream.socket.sendall, stream.request("INVITE", "911", "emergency"))
        await carrier.expect(lambda m: m.method == "INVITE" and m.call_id == "emergency@pbx", within_s=WITHIN_S)
        assert (await process.settled())["requests_shed"] >= 1
