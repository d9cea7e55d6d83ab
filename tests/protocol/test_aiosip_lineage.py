"""An independent user agent of aiosip's lineage (`aiovoip`, the extra `aiosip`) talks to the SIP process."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.crypto import KeyRing
from tests import peers, ports
from tests.peers import CARRIER_IP, PBX_IP
from tests.protocol import edgetest
from tests.protocol.edgetest import STRANGER_IP

aiovoip = pytest.importorskip("aiovoip", reason="the extra `aiosip` is not installed")
WITHIN_S = 60.0
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def contact(user: str, ip: str, port: int) -> Any:
    return aiovoip.Contact.from_header(f"sip:{user}@{ip}:{port}")


async def agent_at(ip: str, to: tuple[str, int]) -> tuple[Any, Any]:
    agent = aiovoip.Application(dns_resolver=object())
    return agent, await agent.connect(to, aiovoip.UDP, local_addr=(ip, ports.free_port(ip)))


async def close(agent: Any) -> None:
    """Its own pieces one by one: `Application.close` of this version waits for dialogs that have ended."""
    for connector in agent._connectors.values():
        for peer in list(connector._peers.values()):
            peer._protocol.transport.close()
    await asyncio.sleep(0)


async def test_it_asks_us_with_options_and_hears_200(tmp_path: Path, keys: KeyRing) -> None:
    """E-18: OPTIONS to the engine itself."""
    account = peers.one_account(peers.trunk(CARRIER_IP, 9), pbx_ip=PBX_IP)
    async with edgetest.edge(tmp_path, keys, account) as edge:
        agent, peer = await agent_at(PBX_IP, edge.udp)
        try:
            async with asyncio.timeout(WITHIN_S):
                dialog = await peer.request(
                    "OPTIONS", from_details=contact("101", PBX_IP, 5060), to_details=contact("ping", *edge.udp)
                )
            assert dialog.status_code == 200
            await dialog.close(fast=True)
        finally:
            await close(agent)


async def test_a_text_to_911_of_its_making_reaches_the_carrier_and_the_answer_comes_back(
    tmp_path: Path, keys: KeyRing
) -> None:
    """E-18, E-01: MESSAGE goes the way of a call. (A 100 without a To tag, as RFC 3261 has it, ends its INVITEs.)"""
    carrier = edgetest.Carrier("udp", CARRIER_IP, lambda _: [180, 200])
    await carrier.open()
    account = peers.one_account(peers.trunk(CARRIER_IP, carrier.port), pbx_ip=PBX_IP)
    async with edgetest.edge(tmp_path, keys, account) as edge:
        agent, peer = await agent_at(PBX_IP, edge.udp)
        try:
            async with asyncio.timeout(WITHIN_S):
                dialog = await peer.request(
                    "MESSAGE", from_details=contact("101", PBX_IP, 5060), to_details=contact("911", *edge.udp),
                    headers={"Content-Type": "text/plain"}, payload="fire in the kitchen",
                )  # fmt: skip
            assert dialog.status_code == 200
            await dialog.close(fast=True)
            (message,) = carrier.requests("MESSAGE")
            assert message.request_uri.startswith(f"sip:911@{CARRIER_IP}")
            assert b"fire in the kitchen" in message.body
            assert b"application/pidf+xml" in message.body
        finally:
            await close(agent)
            await carrier.close()


async def test_it_answers_our_notify(tmp_path: Path, keys: KeyRing) -> None:
    """E-18, P-14: a request of our own making, read and answered by another make."""
    heard: list[Any] = []

    class Plan(aiovoip.BaseDialplan):  # type: ignore[misc]
        async def resolve(self, *args: Any, **kwargs: Any) -> Any:
            async def answer(request: Any, message: Any) -> None:
                heard.append(message)
                await request.prepare(status_code=200)

            return answer

    port = ports.free_port(PBX_IP)
    agent = aiovoip.Application(dns_resolver=object(), dialplan=Plan())
    await agent.run(local_addr=(PBX_IP, port))
    account = peers.one_account(peers.trunk(CARRIER_IP, 9), pbx_ip=PBX_IP)
    try:
        async with edgetest.edge(tmp_path, keys, account) as edge:
            edge.say(
                do="notify", token="t1", request_uri=f"sip:101@{PBX_IP}:{port}",
                target={"transport": "udp", "ip": PBX_IP, "port": port}, headers=[["Event", "check-sync"]],
            )  # fmt: skip
            notified = await edge.hear("notified")
            assert notified["status"] == 200
            (message,) = heard
            assert message.method == "NOTIFY"
            assert message.headers["Event"] == "check-sync"
    finally:
        await close(agent)


async def test_as_a_stranger_it_is_refused(tmp_path: Path, keys: KeyRing) -> None:
    """E-04: the same agent from an address nobody trusts."""
    account = peers.one_account(peers.trunk(CARRIER_IP, 9), pbx_ip=PBX_IP)
    async with edgetest.edge(tmp_path, keys, account) as edge:
        agent, peer = await agent_at(STRANGER_IP, edge.udp)
        try:
            async with asyncio.timeout(WITHIN_S):
                dialog = await peer.request(
                    "OPTIONS", from_details=contact("101", STRANGER_IP, 5060), to_details=contact("911", *edge.udp)
                )
            assert dialog.status_code == 403
            await dialog.close(fast=True)
        finally:
            await close(agent)
