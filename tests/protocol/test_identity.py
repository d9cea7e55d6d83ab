"""Who is asking, in the whole SIP process: certificates, passwords, shared networks, notes that stay here."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from engine.crypto import KeyRing
from engine.sip.auth import Credentials, answer, read_challenges
from engine.sip.forward import Hop
from engine.sip.message import Request, Response, parse_message
from engine.sip.stream import Framer
from engine.sip.tls import client_context
from tests.certificates import files_of
from tests.protocol.edgetest import CARRIER_IP, PBX_IP, STRANGER_IP, Carrier, Pbx, account, edge, trunk
from tests.protocol.test_edge_tls import settings
from tests.siptest import request, response

WITHIN_S = 60.0
NAME = "pbx.branch.example"
SECRET = Credentials("acme-pbx", "open sesame")


@pytest.fixture
async def carrier() -> AsyncIterator[Carrier]:
    made = Carrier("udp", CARRIER_IP, lambda _: [180, 200])
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def stranger() -> AsyncIterator[Pbx]:
    made = Pbx("udp", STRANGER_IP)
    await made.open()
    yield made
    await made.close()


class TlsPbx:
    """A PBX on one TLS connection that it opened itself."""

    def __init__(self) -> None:
        self._framer, self._waiting = Framer(), []

    async def connect(self, to: tuple[str, int], context: object) -> None:
        self._reader, self.writer = await asyncio.open_connection(
            *to, ssl=context, server_hostname="callpoint.example", local_addr=(STRANGER_IP, 0)
        )
        self.hop = Hop("tls", *self.writer.get_extra_info("sockname")[:2])

    async def next(self) -> tuple[Request | Response, bytes]:
        async with asyncio.timeout(WITHIN_S):
            while not self._waiting:
                self._waiting += list(self._framer.feed(await self._reader.read(65_536)))
        data = self._waiting.pop(0)
        return parse_message(data), data

    async def final(self) -> Response:
        while True:
            message, _ = await self.next()
            if isinstance(message, Response) and message.status >= 200:
                return message

    def invite(self, call_id: str) -> None:
        data = request(source=self.hop, call_id=call_id, branch=f"z9hG4bK{call_id}", body=b"")
        self.writer.write(data)


async def test_a_pbx_is_known_by_its_certificate_wherever_it_comes_from(
    tmp_path: Path, keys: KeyRing, carrier: Carrier
) -> None:
    """E-04: TLS client certificate name: its 911 goes out, a call back comes by the very same connection; a certificate
    of another name is a stranger.
    """
    authority = trustme.CA()
    own = files_of(tmp_path, authority, "callpoint.example", client_ca=authority)
    made = account(trunk(carrier.hop))
    made["pbxs"][0] |= {"sources": [], "tls_name": NAME}
    async with edge(tmp_path, keys, made, **settings(own)) as node:
        ready = next(message for message in node.said if message["is"] == "ready")
        to = ("127.0.0.1", int(ready["tls"].rpartition(":")[2]))
        pbx, other = TlsPbx(), TlsPbx()
        await pbx.connect(to, client_context(files_of(tmp_path, authority, NAME, server_ca=authority)))
        pbx.invite("by-name")
        assert (await pbx.final()).status == 200
        call = await node.entry("call")
        assert (call["pbx_id"], call["peer"]["transport"]) == ("pbx_1", "tls")
        back = request(
            uri="sip:+15185550101@node", source=carrier.hop, call_id="back", branch="z9hG4bKback", from_tag="psap"
        )
        await carrier.send(back, node.udp)
        while True:
            message, data = await pbx.next()
            if isinstance(message, Request):
                break
        assert message.request_uri.startswith("sip:101@")
        assert message.headers("Priority") == ["psap-callback"]
        pbx.writer.write(response(data, 200, to_tag="site"))
        await carrier.expect(lambda m: isinstance(m, Response) and m.call_id == "back" and m.status == 200)
        await other.connect(to, client_context(files_of(tmp_path, authority, "evil.example", server_ca=authority)))
        other.invite("swat")
        assert (await other.final()).status == 403
        await node.entry("stranger", lambda each: each["emergency"])
        pbx.writer.close()
        other.writer.close()


async def test_a_pbx_behind_an_address_that_changes_is_challenged_served_and_heard(
    tmp_path: Path, keys: KeyRing, carrier: Carrier, stranger: Pbx
) -> None:
    """E-04: digest on UDP; the answer to the challenge and our own headers stay here."""
    made = account(trunk(carrier.hop))
    made["pbxs"][0] |= {"auth_user": SECRET.user, "secret": SECRET.secret}
    async with edge(tmp_path, keys, made) as node:
        uri = "sip:911@callpoint.example.com"
        first = await stranger.call(node.udp, uri)
        challenge = await first.final()
        assert challenge.status == 407
        (asked,) = read_challenges(challenge)
        proof = answer(asked, SECRET, "INVITE", uri, cnonce="c")
        second = await stranger.call(node.udp, uri, added=(": ".join(proof), "X-Callpoint-Device: 101"))
        assert (await second.final()).status == 200
        (invite,) = carrier.invites
        assert b"uthorization" not in invite.raw
        assert b"callpoint-device" not in invite.raw.lower()
        call = await node.entry("call")
        assert (call["pbx_id"], call["caller"]["extension"], call["flags"]) == ("pbx_1", "101", [])
        replayed = await stranger.call(node.udp, uri, added=(": ".join(proof),))
        assert (await replayed.final()).status == 407
        assert len(carrier.invites) == 1


async def test_a_stranger_who_is_asked_and_says_no_more_is_on_record_within_seconds(
    tmp_path: Path, keys: KeyRing, carrier: Carrier, stranger: Pbx
) -> None:
    """E-04: one answer to one datagram, not repeated; the attempt on 911 is flagged as one."""
    made = account(trunk(carrier.hop))
    made["pbxs"][0] |= {"auth_user": SECRET.user, "secret": SECRET.secret}
    async with edge(tmp_path, keys, made) as node:
        refused = await stranger.call(node.udp)
        assert (await refused.final()).status == 407
        await stranger.call(node.udp)
        entry = await node.entry("stranger")
        assert (entry["emergency"], entry["source"]["ip"]) == (True, STRANGER_IP)
        assert stranger.statuses() == [407, 407]
        assert carrier.invites == []


async def test_a_trunk_s_password_serves_a_call_from_its_beginning_to_its_end(tmp_path: Path, keys: KeyRing) -> None:
    """E-08: the carrier asks for INVITE and BYE; the PBX hears neither, and its numbers are its own."""
    carrier = Asking("udp", CARRIER_IP, lambda _: [180, 200])
    pbx = Pbx("udp", PBX_IP)
    await carrier.open()
    await pbx.open()
    made = account(trunk(carrier.hop, auth_user="acme", secret="open sesame"))
    try:
        async with edge(tmp_path, keys, made) as node:
            call = await pbx.call(node.udp)
            answer = await call.final()
            assert (answer.status, answer.cseq) == (200, (1, "INVITE"))
            await call.within("ACK", answer, 1)
            await call.within("BYE", answer, 2)
            bye = await pbx.expect(lambda m: isinstance(m, Response) and m.cseq == (2, "BYE"))
            assert bye.status == 200
            assert set(pbx.statuses()) == {100, 180, 200}
            assert [got.cseq[0] for got in carrier.requests("INVITE")] == [1, 2]
            assert [got.cseq[0] for got in carrier.requests("BYE")] == [5, 6]
            attempts = await node.journal(lambda entries: any(each["type"] == "ended" for each in entries))
            outcomes = [each["outcome"] for each in attempts if each["type"] == "attempt"]
            assert outcomes == ["challenged", "answered"]
    finally:
        await carrier.close()
        await pbx.close()


class Asking(Carrier):
    """Answers what carries no proof with 407."""

    def on_message(self, message: Request | Response, data: bytes, source: tuple[str, int]) -> None:
        is_asked = isinstance(message, Request) and message.method in {"INVITE", "BYE"}
        if is_asked and message.header("Proxy-Authorization") is None:
            challenge = 'Proxy-Authenticate: Digest realm="carrier", nonce="n", algorithm=SHA-256, qop="auth"'
            self._follow(self.send(response(data, 407, added=[challenge]), source))
            return
        super().on_message(message, data, source)
