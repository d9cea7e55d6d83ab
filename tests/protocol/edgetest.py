"""The SIP process and scripted peers on real loopback sockets: a PBX that calls, carriers that answer as they are told.

Each party has a loopback address of its own, since the edge knows a PBX or trunk by its address.
"""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.crypto import KeyRing
from engine.e911 import snapshot
from engine.e911.journal import JournalReader
from engine.sip.forward import Hop
from engine.sip.message import Request, Response, parse_message
from engine.sip.stream import Framer
from tests.siptest import request, response, route_set

ROOT = Path(__file__).parent.parent.parent
EDGE_IP, PBX_IP, CARRIER_IP, SECOND_IP, STRANGER_IP = (f"127.0.0.{last}" for last in (1, 12, 13, 14, 15))
WITHIN_S = 60.0
SO_RCVBUFFORCE = 33  # linux: asm-generic/socket.h
RECEIVE_BUFFER_BYTES = 8_000_000  # a party that waits for a core loses nothing of what it is sent meanwhile
SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.12\r\ns=-\r\nc=IN IP4 127.0.0.12\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n"
    b"a=odd: \xff\xfe \t trailing  \r\n"
)
_counter = itertools.count(1)
Script = Callable[[Request], list[int]]
"""What a carrier answers to an INVITE, in order; [] is silence."""


class Party:
    """One address on UDP, TCP or TLS. Messages that come in are kept in `inbox` and handed to `on_message`.

    `tls`: the contexts to serve and to connect with.
    """

    def __init__(self, transport: str, ip: str, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None) -> None:
        self.transport, self.ip, self.port = transport, ip, 0
        self._tls = tls
        self.inbox: list[Request | Response] = []
        self._news = asyncio.Event()
        self._udp: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None
        self._writers: dict[tuple[str, int], asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def hop(self) -> Hop:
        return Hop(self.transport, self.ip, self.port)

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        if self.transport == "udp":
            party = self

            class Protocol(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                    party.take(data, addr)

            self._udp, _ = await loop.create_datagram_endpoint(Protocol, local_addr=(self.ip, 0))
            own = self._udp.get_extra_info("socket")
            with contextlib.suppress(PermissionError):  # beyond what the system grants by itself
                own.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
            self.port = self._udp.get_extra_info("sockname")[1]
            return
        self._server = await asyncio.start_server(self._accept, self.ip, 0, ssl=self._tls[0] if self._tls else None)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop_listening(self) -> None:
        """From now on nobody can connect to it, as behind a firewall."""
        assert self._server is not None
        self._server.close()

    async def close(self) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._server is not None:
            self._server.close()
        for writer in self._writers.values():
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def send(self, data: bytes, to: tuple[str, int]) -> None:
        if self._udp is not None:
            self._udp.sendto(data, to)
            return
        if to not in self._writers:
            reader, writer = await asyncio.open_connection(
                *to, local_addr=(self.ip, 0), ssl=self._tls[1] if self._tls else None
            )
            self._writers[to] = writer
            self._follow(self._read(reader, to))
        self._writers[to].write(data)

    def take(self, data: bytes, source: tuple[str, int]) -> None:
        message = parse_message(data)
        self.inbox.append(message)
        self._news.set()
        self.on_message(message, data, source)

    def on_message(self, message: Request | Response, data: bytes, source: tuple[str, int]) -> None:
        """Nothing, here."""

    async def expect(self, fits: Callable[[Any], bool], *, within_s: float = WITHIN_S, count: int = 1) -> Any:
        """The `count`-th message that fits, waited for."""
        async with asyncio.timeout(within_s):
            while True:
                found = [message for message in self.inbox if fits(message)]
                if len(found) >= count:
                    return found[count - 1]
                self._news.clear()
                await self._news.wait()

    def requests(self, method: str) -> list[Request]:
        return [message for message in self.inbox if isinstance(message, Request) and message.method == method]

    def statuses(self) -> list[int]:
        return [message.status for message in self.inbox if isinstance(message, Response)]

    def _follow(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = writer.get_extra_info("peername")
        self._writers[source] = writer
        self._follow(self._read(reader, source))

    async def _read(self, reader: asyncio.StreamReader, source: tuple[str, int]) -> None:
        framer = Framer()
        with contextlib.suppress(ConnectionError):
            while segment := await reader.read(65_536):
                for message in framer.feed(segment):
                    self.take(message, source)
        self._writers.pop(source, None)  # what is sent there next goes by a new one


class Carrier(Party):
    """Answers INVITEs by its script, OPTIONS and BYE with 200, CANCEL as RFC 3261 §9.2 says."""

    def __init__(
        self, transport: str, ip: str, script: Script, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
    ) -> None:
        super().__init__(transport, ip, tls)
        self.script = script
        self.is_silent = False
        self.answers_options = True
        self._ringing: dict[str, bytes] = {}
        self._source: tuple[str, int] = ("", 0)

    @property
    def invites(self) -> list[Request]:
        """Each once, retransmissions left out."""
        by_branch = {invite.via.branch: invite for invite in self.requests("INVITE")}
        return list(by_branch.values())

    def on_message(self, message: Request | Response, data: bytes, source: tuple[str, int]) -> None:
        if not isinstance(message, Request) or self.is_silent:
            return
        if message.method == "OPTIONS" and not self.answers_options:
            return
        if message.method in {"OPTIONS", "BYE", "MESSAGE", "PRACK", "UPDATE"}:
            self._reply(data, 200, source)
        elif message.method == "CANCEL":
            self._reply(data, 200, source)
            self._reply(self._ringing[message.call_id], 487, source)
        elif message.method == "INVITE":
            self._ringing[message.call_id], self._source = data, source
            for status in self.script(message):
                self._reply(data, status, source)

    def answer(self, call_id: str, status: int, to: tuple[str, int] | None = None) -> None:
        """Send a later answer to an INVITE that rings; where it came from unless told otherwise."""
        self._reply(self._ringing[call_id], status, to or self._source)

    async def within(self, method: str, invite: Request, cseq: int, to: tuple[str, int]) -> None:
        """A request of the carrier's own inside the dialog of that INVITE, by its route set."""
        data = request(
            method,
            (invite.header("Contact") or "").partition("<")[2].partition(">")[0],
            source=self.hop,
            branch=f"z9hG4bKback{next(_counter)}",
            call_id=invite.call_id,
            from_tag="carrier",
            to_tag="pbx",
            cseq=cseq,
            routes=invite.headers("Record-Route"),
        )
        await self.send(data, to)

    def _reply(self, data: bytes, status: int, source: tuple[str, int]) -> None:
        contact = f"sip:psap@{self.ip}:{self.port};transport={self.transport}"
        self._follow(self.send(response(data, status, contact=contact), source))


@dataclass
class Call:
    """One call of the PBX: the INVITE as sent and what came back."""

    pbx: "Pbx"
    to: tuple[str, int]
    call_id: str
    branch: str
    invite: bytes
    uri: str

    async def final(self, within_s: float = WITHIN_S) -> Response:
        return await self.pbx.expect(
            lambda m: (
                isinstance(m, Response) and m.call_id == self.call_id and m.cseq[1] == "INVITE" and m.status >= 200
            ),
            within_s=within_s,
        )

    async def ringing(self) -> Response:
        return await self.pbx.expect(
            lambda m: isinstance(m, Response) and m.call_id == self.call_id and m.status == 180
        )

    async def cancel(self) -> None:
        data = request(
            "CANCEL", self.uri, source=self.pbx.hop, branch=self.branch, call_id=self.call_id, from_tag="pbx", cseq=1
        )
        await self.pbx.send(data, self.to)

    async def within(self, method: str, answer: Response, cseq: int) -> None:
        """ACK or BYE inside the dialog, by its route set."""
        contact = answer.header("Contact") or ""
        data = request(
            method,
            contact.partition("<")[2].partition(">")[0],
            source=self.pbx.hop,
            branch=f"z9hG4bKin{next(_counter)}",
            call_id=self.call_id,
            from_tag="pbx",
            to_tag=answer.to_tag or "",
            cseq=cseq,
            routes=route_set(answer),
        )
        await self.pbx.send(data, self.to)


class Pbx(Party):
    """Places calls and keeps what comes back. `is_answering`: what it is asked inside them is answered 200."""

    is_answering = False

    def on_message(self, message: Request | Response, data: bytes, source: tuple[str, int]) -> None:
        if self.is_answering and isinstance(message, Request) and message.method != "ACK":
            contact = f"sip:101@{self.ip}:{self.port};transport={self.transport}"
            self._follow(self.send(response(data, 200, contact=contact), source))

    async def call(
        self, to: tuple[str, int], uri: str = "sip:911@callpoint.example.com", *, body: bytes = SDP,
        added: tuple[str, ...] = (),
        method: str = "INVITE", edit: Callable[[bytes], bytes] = lambda data: data,
    ) -> Call:  # fmt: skip
        number = next(_counter)
        call = Call(self, to, f"call-{number}-{os.getpid()}@pbx", f"z9hG4bKpbx{number}", b"", uri)
        data = request(
            method,
            uri,
            source=self.hop,
            branch=call.branch,
            call_id=call.call_id,
            from_tag="pbx",
            added=added,
            body=body,
        )
        call.invite = edit(data)
        await self.send(call.invite, to)
        return call


@dataclass
class EdgeProcess:
    """`python -m engine.edge` and its end of the line."""

    folder: Path
    keys: KeyRing
    process: asyncio.subprocess.Process
    udp: tuple[str, int] = ("", 0)
    tcp: tuple[str, int] = ("", 0)
    tls: tuple[str, int] = ("", 0)
    said: list[dict[str, Any]] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    def say(self, **message: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")

    def at(self, transport: str) -> tuple[str, int]:
        return {"udp": self.udp, "tcp": self.tcp, "tls": self.tls}[transport]

    async def hear(self, kind: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        return await self._wait(lambda: next((m for m in self.said if m["is"] == kind and fits(m)), None))

    async def logs(self, word: str) -> str:
        return await self._wait(lambda: next((line for line in self.logged if word in line), None))

    async def journal(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """All entries, once they are enough."""

        def read() -> list[dict[str, Any]] | None:
            entries, _ = JournalReader(self.folder / "journal", self.keys).read_from(limit=100_000)
            return entries if enough(entries) else None

        return await self._wait(read)

    async def entry(self, kind: str, fits: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The first journal entry of that kind that fits, waited for."""

        def matching(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [entry for entry in entries if entry["type"] == kind and fits(entry)]

        return matching(await self.journal(lambda entries: bool(matching(entries))))[0]

    async def save(self, account: Mapping[str, Any]) -> None:
        """Replace an account's snapshot and have it loaded."""
        snapshot.save(self.folder / "snapshot", account, self.keys)
        self.say(do="load", account_id=account["account_id"])
        await self.settled()

    async def settled(self) -> dict[str, Any]:
        """All commands so far are done: they are obeyed in order."""
        token = f"t{next(_counter)}"
        self.say(do="stats", token=token)
        return await self.hear("stats", lambda message: message["token"] == token)

    async def ended(self) -> int:
        async with asyncio.timeout(WITHIN_S):
            return await self.process.wait()

    async def _wait(self, look: Callable[[], Any]) -> Any:
        async with asyncio.timeout(WITHIN_S):
            while (found := look()) is None:
                self._news.clear()
                # the journal's file says nothing when it grows; CPython 3.11's wait_for would swallow a cancellation
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._news.wait()
            return found

    async def _read(self, stream: asyncio.StreamReader, *, is_log: bool) -> None:
        async for line in stream:
            if is_log:
                self.logged.append(line.decode(errors="replace"))
            else:
                self.said.append(json.loads(line))
            self._news.set()


@contextlib.asynccontextmanager
async def edge(
    folder: Path, keys: KeyRing, *accounts: Mapping[str, Any], **settings: object
) -> AsyncIterator[EdgeProcess]:
    """The SIP process with these accounts, on free ports; ended afterwards."""
    for account in accounts:
        snapshot.save(folder / "snapshot", account, keys)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "engine.edge", cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    running = EdgeProcess(folder, keys, process)
    assert process.stdout is not None
    assert process.stderr is not None
    loop = asyncio.get_running_loop()
    running._readers = [
        loop.create_task(running._read(process.stdout, is_log=False)),
        loop.create_task(running._read(process.stderr, is_log=True)),
    ]
    start = {
        "data_dir": str(folder),
        "key_file": str(folder / "keys.toml"),
        "udp": f"{EDGE_IP}:0",
        "tcp": f"{EDGE_IP}:0",
    }
    running.say(do="start", **start | settings)
    try:
        ready = await running.hear("ready")
        for name in ("udp", "tcp", "tls") if ready.get("tls") else ("udp", "tcp"):
            host, _, port = ready[name].rpartition(":")
            setattr(running, name, (host, int(port)))
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), WITHIN_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        await asyncio.gather(*running._readers, return_exceptions=True)
        sys.stderr.writelines(running.logged)


CIVIC = {
    "country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203",
    "FLR": "4",
    "ROOM": "412", "LOC": 'Désk "A" <b> & co',
}  # fmt: skip


def account(*trunks: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A snapshot: one PBX, a phone with a line at headquarters, these trunks."""
    location = {
        "id": "location_hq", "name": "Headquarters", "civic_address": CIVIC, "geo": {"latitude": 42.65,
        "longitude": -73.75},
        "timezone": None, "callback_number": None, "onsite_number": None, "status": "validated",
        "validated_at": "2026-11-01T00:00:00+00:00",
    }  # fmt: skip
    line = {
        "id": "line_101", "extension": "101", "display_name": "Front desk", "sip_user": "101",
        "callback_number": "+15185550101", "location_id": None, "pbx_id": "pbx_1",
    }  # fmt: skip
    phone = {
        "id": "phone_1",
        "mac": "0015654aa937",
        "label": "Desk",
        "location_id": "location_hq",
        "line_ids": ["line_101"],
    }
    pbx = {
        "id": "pbx_1", "name": "PBX", "sources": [f"{PBX_IP}/32"], "default_location_id": None, "default_route": None,
    }  # fmt: skip
    return {
        "account_id": "account_acme", "revision": 1, "name": "Acme Dental", "country": "US",
        "timezone": "America/New_York",
        "language": "en", "default_location_id": None, "callback_number": "+15185550199", "locations": [location],
        "networks": [], "phones": [phone], "lines": [line], "pbxs": [pbx], "trunks": list(trunks),
    } | changes  # fmt: skip


def trunk(at: Hop, name: str = "trunk_first", priority: int = 10, **changes: Any) -> dict[str, Any]:
    return {
        "id": name, "name": f"The {name}", "priority": priority, "host": at.ip, "port": at.port,
        "transport": at.transport,
        "profile": "generic", "location_mode": "value", "test_number": None, "last_resort": False, "enabled": True,
    } | changes  # fmt: skip


def answering(_invite: Request) -> list[int]:
    """A carrier's script: the call is taken."""
    return [100, 180, 200]


def stopped(pid: int) -> None:
    """Return when the process stands still."""
    until = time.monotonic() + WITHIN_S
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < until
        time.sleep(0.001)
