"""Resyncs of phones that ask for a password: SIPp as the phone, Kamailio as the registrar that passes the NOTIFY on."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine.crypto import KeyRing
from engine.provisioning import resync, vendors
from engine.provisioning.resync import Destination, Resync, Resyncer
from tests import peers, ports
from tests.node import Node
from tests.peers import CARRIER_IP, FRONT_IP, KAMAILIO_ON_UDP

SCENARIO = Path(__file__).parent / "sipp" / "phone_challenges.xml"
PHONE_IP = "127.0.0.9"
PBX_PASSWORD = "only-for-callpoint"
REGISTRAR = (
    KAMAILIO_ON_UDP
    + """\
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("auth", "algorithm", "SHA-256")
request_route {{
  if (method == "REGISTER") {{ save("location"); exit; }}
  if (!pv_proxy_authenticate("{ip}", "{password}", "0")) {{ proxy_challenge("{ip}", "1"); exit; }}
  consume_credentials();
  if (!lookup("location")) {{ sl_send_reply("404", "Not Here"); exit; }}
  if (!t_relay()) sl_reply_error();
}}
"""
)


@contextmanager
def registrar(folder: Path) -> Iterator[tuple[str, int]]:
    """Kamailio as a PBX that knows where its phones are and asks whoever wants to reach them for a password."""
    port = ports.free_port(FRONT_IP)
    (folder / "registrar").mkdir()
    config = folder / "registrar" / "kamailio.cfg"
    config.write_text(REGISTRAR.format(ip=FRONT_IP, port=port, password=PBX_PASSWORD))
    words = [peers.command("kamailio"), "-f", str(config), "-DD", "-E", "-x", "fm", "-m", "64", "-M", "16"]
    words += ["-Y", str(folder / "registrar"), "-P", str(folder / "registrar" / "kamailio.pid")]
    peer = peers.spawn("registrar", words, folder)
    try:
        peer.ready(lambda: peers.is_bound(FRONT_IP, port, "udp"))
        yield FRONT_IP, port
    finally:
        peer.stop()


@contextmanager
def phone(folder: Path) -> Iterator[int]:
    """SIPp as a phone that challenges every NOTIFY (MD5, qop) and takes the line's own password."""
    port = ports.free_port(PHONE_IP)
    peer = peers.sipp(folder, "phone", scenario=SCENARIO, ip=PHONE_IP, port=port)
    try:
        peer.ready(lambda: peers.is_bound(PHONE_IP, port, "udp"))
        yield port
    finally:
        peer.stop()


def register(user: str, to: tuple[str, int], port: int) -> None:
    """The phone at that port registers with the PBX."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((PHONE_IP, 0))
        sender.settimeout(60.0)
        uri, own = f"sip:{user}@{to[0]}", sender.getsockname()[1]
        lines = (
            f"REGISTER sip:{to[0]} SIP/2.0", f"Via: SIP/2.0/UDP {PHONE_IP}:{own};branch=z9hG4bKregister",
            f"From: <{uri}>;tag=r1", f"To: <{uri}>", "Call-ID: register", "CSeq: 1 REGISTER", "Max-Forwards: 70",
            f"Contact: <sip:{user}@{PHONE_IP}:{port}>;expires=600", "Content-Length: 0", "", "",
        )  # fmt: skip
        sender.sendto("\r\n".join(lines).encode(), to)
        assert sender.recv(4096).startswith(b"SIP/2.0 200")


async def asked(edge: peers.Edge, planned: Resync) -> int:
    """What comes of that resync, sent by the real SIP process."""

    async def notify(
        target: dict[str, Any],
        request_uri: str,
        headers: list[tuple[str, str]],
        within_s: float,
        credentials: Mapping[str, str] | None,
    ) -> int:
        named = {"target": target, "request_uri": request_uri, "headers": headers, "credentials": credentials}
        edge.say({"do": "notify", "token": "t1"} | named)
        return int((await asyncio.to_thread(edge.hear, "notified", within_s))["status"])

    return await Resyncer(notify).send(planned)


def to_the_phone(port: int, vendor: str, secret: str) -> Resync:
    """As `resync_via = "direct"` plans it, but for the port: 5060 may be anybody's on this machine."""
    to = Destination("101", "", 5060, "udp", "direct", PHONE_IP, secret=secret)
    planned = resync.plan(vendors.known().profiles[vendor], to)
    return Resync(
        "udp", PHONE_IP, port, f"sip:101@{PHONE_IP}:{port}", planned.event, PHONE_IP, planned.credentials
    )  # fmt: skip


def notifies(folder: Path) -> list[bytes]:
    return [message for message in peers.sipp_messages(folder, "phone") if message.startswith(b"NOTIFY ")]


def value(message: bytes, name: str) -> str:
    found = re.search(rb"(?mi)^" + name.encode() + rb"\s*:\s*(.*?)\r?$", message)
    return found[1].decode() if found else ""


@pytest.mark.parametrize("vendor", ["yealink", "cisco_spa", "snom"])
async def test_a_phone_that_asks_for_its_lines_password_is_answered(tmp_path: Path, keys: KeyRing, vendor: str) -> None:
    """P-14: the vendor's own event; 401, then the same NOTIFY with the proof, one CSeq later, taken by the phone."""
    with phone(tmp_path) as port, peers.edge(tmp_path, keys, tmp_path / "keys.toml") as edge:
        assert await asked(edge, to_the_phone(port, vendor, "secret-of-101")) == 200
    first, second = notifies(tmp_path)
    assert value(first, "Event") == value(second, "Event") == vendors.known().profiles[vendor].resync_event
    assert value(first, "Call-ID") == value(second, "Call-ID")
    assert (value(first, "CSeq"), value(second, "CSeq")) == ("1 NOTIFY", "2 NOTIFY")
    assert "Authorization" not in first.decode()
    assert 'username="101"' in value(second, "Authorization")
    assert b"secret-of-101" not in first + second


async def test_a_wrong_password_is_given_once_and_told(tmp_path: Path, keys: KeyRing) -> None:
    """P-14: no loop of guesses; the result says what is wrong."""
    with phone(tmp_path) as port, peers.edge(tmp_path, keys, tmp_path / "keys.toml") as edge:
        status = await asked(edge, to_the_phone(port, "poly", "another"))
    assert (status, resync.meaning(status)) == (401, "the phone asks for another password")
    assert len(notifies(tmp_path)) == 2


async def test_a_registrar_that_asks_for_our_password_passes_it_on_to_a_phone_that_asks_for_its_own(
    tmp_path: Path, keys: KeyRing
) -> None:
    """P-14: 407 with SHA-256 from the PBX, then 401 with MD5 from the phone behind it: each gets its own answer."""
    account = peers.one_account(peers.trunk(CARRIER_IP, 9), pbx_ip=FRONT_IP)
    account["pbxs"][0] |= {"auth_user": "callpoint", "secret": PBX_PASSWORD}
    with (
        registrar(tmp_path) as pbx,
        phone(tmp_path) as port,
        peers.edge(tmp_path, keys, tmp_path / "keys.toml", account) as edge,
    ):
        register("101", pbx, port)
        to = Destination("101", pbx[0], pbx[1], "udp", "pbx", PHONE_IP, secret="secret-of-101")
        assert await asked(edge, resync.plan(vendors.known().profiles["yealink"], to)) == 200
        missing = Destination("102", pbx[0], pbx[1], "udp", "pbx", PHONE_IP, secret="secret-of-102")
        status = await asked(edge, resync.plan(vendors.known().profiles["yealink"], missing))
        assert resync.meaning(status) == "not registered"
    arrived = notifies(tmp_path)
    assert [bool(value(message, "Authorization")) for message in arrived] == [False, True]
    assert not any(value(message, "Proxy-Authorization") for message in arrived)  # ours and the PBX's alone


async def test_a_whole_node_asks_many_phones_and_tells_what_came_of_each(tmp_path: Path) -> None:
    """P-14, P-23: over the API: the time beforehand, each phone's own result, the line's password in no log."""
    with phone(tmp_path) as port:
        async with Node(tmp_path) as node:
            await node.set_up()
            registrar = {"registrar_host": PHONE_IP, "registrar_port": port, "sources": [f"{PHONE_IP}/32"]}
            await node.api("POST", "pbxs", {"name": "PBX"} | registrar)
            line = await node.api("POST", "lines", {"extension": "101", "secret": "secret-of-101"})
            ids = []
            for mac, lines in (("805ec0000001", [line["id"]]), ("805ec0000002", [])):
                wished = {"mac": mac, "vendor": "yealink", "model": "T46U", "lines": lines}
                ids.append((await node.api("POST", "phones", wished))["id"])
            told = await node.api("POST", "phones/resync", {"filter": {}, "dry_run": True})
            assert (told["phones"], told["spread_s"], [each["phone_id"] for each in told["refused"]]) == (
                1,
                0.0,
                ids[1:],
            )
            asked_for = await node.api("POST", "phones/resync", {"phones": ids})
            await node.wait_for(f"phone-resyncs/{asked_for['id']}", lambda answer: answer["done"] == answer["phones"])
            results = [(await node.api("GET", f"phones/{each}"))["resync_result"] for each in ids]
            assert results[0] == "accepted"
            assert results[1].startswith("This phone has no line")
        assert "secret-of-101" not in "".join(node.output)


class KeepsToItself(asyncio.DatagramProtocol):
    """A PBX that answers a NOTIFY by the phone it is for: 101 takes it, 102 has no subscription, 103 says nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        lines = data.decode().split("\r\n")
        if not (found := re.match(r"NOTIFY sip:(\d+)@", lines[0])):
            return
        self.asked.append(found[1])
        status = {"101": "200 OK", "102": "481 Subscription Does Not Exist"}.get(found[1])
        kept = [line for line in lines[1:] if re.match(r"(?i)(via|v|from|f|call-id|i|cseq)\s*:", line)]
        to = next(line for line in lines if re.match(r"(?i)(to|t)\s*:", line))
        if status is not None and self._transport is not None:
            answer = [f"SIP/2.0 {status}", *kept, f"{to};tag=k1", "Content-Length: 0", "", ""]
            self._transport.sendto("\r\n".join(answer).encode(), addr)


@asynccontextmanager
async def keeps_to_itself() -> AsyncIterator[tuple[KeepsToItself, int]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(KeepsToItself, local_addr=(PHONE_IP, 0))
    try:
        yield protocol, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


async def test_a_phone_that_cannot_be_asked_says_so_on_its_row_and_its_page_until_it_comes(tmp_path: Path) -> None:
    """P-14: 481 and no answer, through the real door, beside one that took it; in the API, the list and the page."""
    async with keeps_to_itself() as (pbx, port), Node(tmp_path) as node:
        await node.set_up()
        registrar = {"registrar_host": PHONE_IP, "registrar_port": port, "sources": [f"{PHONE_IP}/32"]}
        await node.api("POST", "pbxs", {"name": "PBX"} | registrar)
        ids = {}
        for user in ("101", "102", "103"):
            line = await node.api("POST", "lines", {"extension": user})
            wished = {"mac": f"805ec0000{user}", "vendor": "yealink", "model": "T46U", "lines": [line["id"]]}
            ids[user] = (await node.api("POST", "phones", wished))["id"]
        asked_for = await node.api("POST", "phones/resync", {"phones": list(ids.values())})
        path = f"phone-resyncs/{asked_for['id']}"
        await node.wait_for(path, lambda answer: answer["done"] == answer["phones"], within_s=60.0)
        told = {user: (await node.api("GET", f"phones/{each}"))["resync_result"] for user, each in ids.items()}
        assert told == {"101": "accepted", "102": "the PBX does not pass it on", "103": "no answer"}
        assert set(pbx.asked) == set(ids)
        rows = re.findall(r"<tr>.*?</tr>", await _page(node, "/phones"), re.DOTALL)
        shown = {user: next(row for row in rows if each in row) for user, each in ids.items()}
        assert "Resync:" not in shown["101"]
        assert "Resync: The PBX does not pass it on" in shown["102"]
        assert "Resync: No answer" in shown["103"]
        for user, words in (("101", "Accepted"), ("102", "The PBX does not pass it on"), ("103", "No answer")):
            page = await _page(node, f"/phones/{ids[user]}")
            assert re.search(rf"<dt>Last resync</dt><dd>{words} ", page), user


async def _page(node: Node, path: str) -> str:
    headers = {"Authorization": f"Bearer {node.api_key}"}
    async with aiohttp.ClientSession(headers=headers) as client, client.get(f"{node.admin}{path}") as answer:
        assert answer.status == 200, path
        return await answer.text()
