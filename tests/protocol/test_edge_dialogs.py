"""Calls that are up while the ground changes under them: the tables are swapped, the SIP process is killed and another
takes its place. What either side asks inside such a call reaches the other.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from engine.crypto import KeyRing
from engine.sip.message import Request, Response
from engine.sip.tls import server_context
from tests.certificates import files_of
from tests.protocol.edgetest import (
    CARRIER_IP,
    EDGE_IP,
    PBX_IP,
    Call,
    Carrier,
    EdgeProcess,
    Party,
    Pbx,
    account,
    edge,
    trunk,
)
from tests.protocol.test_edge_tls import settings
from tests.siptest import request

pytestmark = pytest.mark.enable_socket

Open = Callable[[Party], Awaitable[Party]]
streams = pytest.mark.parametrize("transport", ["tcp", "tls"])
everywhere = pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
GONE: dict[str, Any] = {"revision": 2, "pbxs": [], "lines": [], "phones": []}


def rings(invite: Request) -> list[int]:
    """The call rings until it is answered by hand; what is asked inside it is answered at once."""
    return [200] if invite.to_tag else [100, 180]


@dataclass
class Scene:
    """A PBX and a carrier by one transport, and a call of theirs."""

    transport: str
    pbx: Pbx
    carrier: Carrier
    own: dict[str, object]
    call: Call | None = None
    answer: Response | None = None

    async def ring(self, running: EdgeProcess) -> Response:
        self.call = await self.pbx.call(running.at(self.transport))
        return await self.call.ringing()

    async def pick_up(self) -> None:
        assert self.call is not None
        self.carrier.answer(self.call.call_id, 200)
        self.answer = await self.call.final()
        await self.call.within("ACK", self.answer, 1)
        await self.carrier.expect(is_request("ACK", 1))

    async def ask(self, method: str, cseq: int, *, answer: Response | None = None) -> None:
        """The PBX asks within the call, the carrier hears it, and the PBX its answer."""
        assert self.call is not None
        known = answer or self.answer
        assert known is not None
        await self.call.within(method, known, cseq)
        await self.carrier.expect(is_request(method, cseq))
        await self.pbx.expect(is_answer(method, cseq))
        if method == "INVITE":
            await self.call.within("ACK", known, cseq)
            await self.carrier.expect(is_request("ACK", cseq))

    async def ask_back(self, method: str, cseq: int, at: tuple[str, int]) -> None:
        """The other way round; `at`: where the carrier finds the edge."""
        invite = self.carrier.invites[0]
        await self.carrier.within(method, invite, cseq, at)
        await self.pbx.expect(is_request(method, cseq))
        await self.carrier.expect(is_answer(method, cseq))
        if method == "INVITE":
            await self.carrier.within("ACK", invite, cseq, at)
            await self.pbx.expect(is_request("ACK", cseq))


def is_request(method: str, cseq: int) -> Callable[[Any], bool]:
    return lambda m: isinstance(m, Request) and m.method == method and m.cseq[0] == cseq


def is_answer(method: str, cseq: int) -> Callable[[Any], bool]:
    return lambda m: isinstance(m, Response) and m.cseq == (cseq, method) and m.status == 200


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def scene(tmp_path: Path, parties: Open, authority: trustme.CA, transport: str) -> Scene:
    """`own`: what the edge is started with."""
    tls, own = None, {}
    if transport == "tls":
        theirs = files_of(tmp_path, authority, PBX_IP, CARRIER_IP, server_ca=authority)
        connecting = ssl.create_default_context()
        authority.configure_trust(connecting)
        tls = (server_context(theirs), connecting)
        own = settings(files_of(tmp_path, authority, EDGE_IP, server_ca=authority))
    carrier, pbx = Carrier(transport, CARRIER_IP, rings, tls), Pbx(transport, PBX_IP, tls)
    pbx.is_answering = True
    await parties(carrier)
    await parties(pbx)
    return Scene(transport, pbx, carrier, own)


@asynccontextmanager
async def another(old: EdgeProcess, scene: Scene, folder: Path, keys: KeyRing) -> AsyncIterator[EdgeProcess]:
    """The process is killed; the next one listens where it did and has its folder."""
    old.process.kill()
    await old.ended()
    places = {name: "{}:{}".format(*old.at(name)) for name in ("udp", "tcp", "tls") if old.at(name)[1]}
    async with edge(folder, keys, **scene.own | places) as young:
        yield young


@everywhere
@pytest.mark.parametrize("who_ends", ["the caller", "the PSAP"])
async def test_a_ringing_call_goes_on_both_ways_though_its_pbx_and_its_trunk_have_left_the_table(
    tmp_path: Path, keys: KeyRing, scene: Scene, transport: str, who_ends: str
) -> None:
    """E-03, E-18: whoever changes the settings in the middle of a 911 call cuts nobody off: PRACK, UPDATE, re-INVITE
    and BYE go on from either side; whatever is no part of that call is a stranger's.
    """
    async with edge(tmp_path, keys, account(trunk(scene.carrier.hop)), **scene.own) as running:
        at = running.at(transport)
        rung = await scene.ring(running)
        await running.save(account(**GONE))
        for number, method in enumerate(("PRACK", "UPDATE"), 2):
            await scene.ask(method, number, answer=rung)
        await scene.ask_back("UPDATE", 1, at)
        await scene.pick_up()
        await scene.ask("INVITE", 4)
        await scene.ask("UPDATE", 5)
        await scene.ask_back("INVITE", 2, at)
        await scene.ask_back("UPDATE", 3, at)
        if who_ends == "the caller":
            await scene.ask("BYE", 6)
        else:
            await scene.ask_back("BYE", 4, at)
        assert (await running.entry("ended"))["call"] == (await running.entry("call"))["id"]
        again = await scene.pbx.call(at)
        assert (await again.final()).status == 403
        await scene.carrier.send(request(source=scene.carrier.hop, call_id="callback@carrier"), at)
        await scene.carrier.expect(lambda m: isinstance(m, Response) and m.status == 403)


@everywhere
@pytest.mark.parametrize("who_ends", ["the caller", "the PSAP"])
async def test_a_call_that_is_up_goes_on_both_ways_though_the_sip_process_was_killed(
    tmp_path: Path, keys: KeyRing, scene: Scene, transport: str, who_ends: str
) -> None:
    """E-03, E-18: another process knows nothing of the call but its marks, and has connections to nobody."""
    async with edge(tmp_path, keys, account(trunk(scene.carrier.hop)), **scene.own) as old:
        await scene.ring(old)
        await scene.pick_up()
        async with another(old, scene, tmp_path, keys) as young:
            at = young.at(transport)
            if who_ends == "the caller":
                await scene.ask("INVITE", 2)
                await scene.ask("UPDATE", 3)
                await scene.ask_back("INVITE", 1, at)
                await scene.ask("BYE", 4)
            else:  # the first word after the restart is the carrier's
                await scene.ask_back("INVITE", 1, at)
                await scene.ask_back("UPDATE", 2, at)
                await scene.ask("UPDATE", 2)
                await scene.ask_back("BYE", 3, at)


@streams
async def test_a_pbx_that_nobody_can_connect_to_is_reached_by_the_connection_it_opens_again(
    tmp_path: Path, keys: KeyRing, scene: Scene, transport: str
) -> None:
    """E-18: behind a firewall its Contact leads nowhere; what it opened to the process after the restart is its own."""
    async with edge(tmp_path, keys, account(trunk(scene.carrier.hop)), **scene.own) as old:
        await scene.ring(old)
        await scene.pick_up()
        scene.pbx.stop_listening()
        async with another(old, scene, tmp_path, keys) as young:
            await scene.ask("UPDATE", 2)
            await scene.ask_back("INVITE", 1, young.at(transport))
            await scene.ask_back("BYE", 2, young.at(transport))
