"""The proxy that stands in front: the Kamailio snippet, checked by Kamailio and run with two nodes that die."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from engine import snippets
from engine.crypto import KeyRing
from engine.numbers import NORTH_AMERICA
from tests import peers, ports
from tests.peers import CARRIER_IP, FRONT_IP, OTHER_CARRIER_IP
from tests.protocol import edgetest

SCENARIOS = Path(__file__).parent / "sipp"
MODULES = ":".join(f"/usr/lib/{place}/kamailio/modules/" for place in ("x86_64-linux-gnu", "aarch64-linux-gnu", "."))
DEAD = snippets.Peer(peers.NODE_IP, 9)


def site(folder: Path, nodes: tuple[snippets.Peer, ...], carrier: snippets.Peer) -> snippets.Site:
    listen = snippets.Peer(FRONT_IP, ports.free_port(FRONT_IP))
    return snippets.Site(nodes, (carrier,), listen, str(folder), NORTH_AMERICA, whole=True, module_path=MODULES)


def write(folder: Path, made: snippets.Site) -> Path:
    for name, text in snippets.render("kamailio", made).items():
        (folder / name).write_text(text)
    return folder / "callpoint.cfg"


@contextlib.contextmanager
def front(folder: Path, made: snippets.Site) -> Iterator[tuple[peers.Peer, tuple[str, int]]]:
    words = [peers.command("kamailio"), "-f", str(write(folder, made)), "-DD", "-E", "-x", "fm", "-m", "64", "-M", "8"]
    peer = peers.spawn("front", [*words, "-Y", str(folder), "-P", str(folder / "front.pid")], folder)
    try:
        peer.ready(lambda: peers.is_bound(FRONT_IP, made.listen.port, "udp"))
        yield peer, (FRONT_IP, made.listen.port)
    finally:
        peer.stop()


def node(
    folder: Path, keys: KeyRing, name: str, trunk: dict[str, object]
) -> contextlib.AbstractContextManager[peers.Edge]:
    (folder / name).mkdir()
    return peers.edge(folder / name, keys, folder / "keys.toml", peers.one_account(trunk, pbx_ip=FRONT_IP))


def invites(folder: Path, name: str) -> list[bytes]:
    return [message for message in peers.sipp_messages(folder, name) if message.startswith(b"INVITE ")]


def test_a_node_that_dies_is_passed_over_and_with_none_left_911_goes_to_the_carrier(
    tmp_path: Path, keys: KeyRing
) -> None:
    """E-17: two nodes by dispatcher, one killed, both killed: three calls, three answers."""
    with (
        peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml") as port,
        peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml", ip=OTHER_CARRIER_IP, name="direct") as direct,
        node(tmp_path, keys, "one", peers.trunk(CARRIER_IP, port)) as one,
        node(tmp_path, keys, "two", peers.trunk(CARRIER_IP, port)) as two,
    ):
        made = site(
            tmp_path, (snippets.Peer(*one.udp), snippets.Peer(*two.udp)), snippets.Peer(OTHER_CARRIER_IP, direct)
        )
        with front(tmp_path, made) as (_, at):
            peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", at)
            assert len(invites(tmp_path, "carrier")) == 1
            one.peer.stop(signal.SIGKILL)
            peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", at)
            assert len(invites(tmp_path, "carrier")) == 2
            two.peer.stop(signal.SIGKILL)
            peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", at, number="9911")
        for located in invites(tmp_path, "carrier"):
            assert b"application/pidf+xml" in located
        (bare,) = invites(tmp_path, "direct")
        assert bare.startswith(f"INVITE sip:911@{OTHER_CARRIER_IP}:{direct} ".encode())
        assert b"X-Callpoint-" not in bare


# One number as phones and PBXs write it: separators, escapes, parameters, the key that sends, a service URN as a user;
# and 112, which visitors dial. Then what is nobody's emergency.
SPELLED = (
    "9-1-1", "(911)", "%3911", "911%23", "911;phone-context=+1", "+911", "9911", "112", "urn%3Aservice%3Asos",
    "urn%3Aservice%3Asos.fire",
)  # fmt: skip
ORDINARY = ("911x", "15185550100", "%2B15185550100", "91100", "(518)-555.0100")


async def test_the_front_knows_every_spelling_that_callpoint_knows(tmp_path: Path, keys: KeyRing) -> None:
    """E-17, E-01: what Callpoint would take for an emergency never leaves past it, without location and mail."""
    pbx, carrier = edgetest.Pbx("udp", edgetest.PBX_IP), edgetest.Carrier("udp", CARRIER_IP, lambda _: [200])
    direct = edgetest.Carrier("udp", OTHER_CARRIER_IP, lambda _: [200])
    for party in (pbx, carrier, direct):
        await party.open()
    (tmp_path / "one").mkdir()
    account = peers.one_account(peers.trunk(carrier.ip, carrier.port), pbx_ip=FRONT_IP)
    try:
        async with edgetest.edge(tmp_path / "one", keys, account, key_file=str(tmp_path / "keys.toml")) as one:
            made = site(tmp_path, (snippets.Peer(*one.udp),), snippets.Peer(direct.ip, direct.port))
            with front(tmp_path, made) as (_, at):
                for user in (*SPELLED, *ORDINARY):
                    call = await pbx.call(at, f"sip:{user}@{FRONT_IP}:{at[1]}")
                    assert (await call.final()).status == 200, user
        found = [
            (invite.raw.split(b" ", 2)[1].partition(b"@")[0], b"pidf+xml" in invite.raw) for invite in carrier.invites
        ]
        assert [located for _, located in found] == [True] * len(SPELLED), found
        assert [invite.raw.split(b" ", 2)[1].partition(b"@")[0] for invite in direct.invites] == [
            f"sip:{user}".encode() for user in ORDINARY
        ]
    finally:
        for party in (pbx, carrier, direct):
            await party.close()


def async_site(
    folder: Path, first: edgetest.EdgeProcess, second: edgetest.EdgeProcess, carrier: edgetest.Carrier
) -> snippets.Site:
    nodes = (snippets.Peer(*first.udp), snippets.Peer(*second.udp))
    return site(folder, nodes, snippets.Peer(carrier.ip, carrier.port))


@contextlib.asynccontextmanager
async def two_nodes(
    folder: Path, keys: KeyRing, carrier: edgetest.Carrier
) -> AsyncIterator[tuple[edgetest.EdgeProcess, edgetest.EdgeProcess]]:
    account = peers.one_account(peers.trunk(carrier.ip, carrier.port), pbx_ip=FRONT_IP)
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    async with (
        edgetest.edge(folder / "one", keys, account, key_file=str(folder / "keys.toml")) as one,
        edgetest.edge(folder / "two", keys, account, key_file=str(folder / "keys.toml")) as two,
    ):
        yield one, two


@pytest.mark.parametrize("found_by", ["its OPTIONS", "another call"])
async def test_a_call_that_rings_at_a_node_that_dies_is_placed_anew_by_the_other(
    tmp_path: Path, keys: KeyRing, found_by: str
) -> None:
    """E-17, E-08: the caller hears nothing of it and gets its answer, whoever finds the node dead."""
    pbx, carrier = edgetest.Pbx("udp", edgetest.PBX_IP), edgetest.Carrier("udp", CARRIER_IP, lambda _: [180])
    await pbx.open()
    await carrier.open()
    try:
        async with two_nodes(tmp_path, keys, carrier) as (one, two):
            with front(tmp_path, async_site(tmp_path, one, two, carrier)) as (_, at):
                call = await pbx.call(at)
                await call.ringing()
                carrier.script = lambda _: [180, 200]
                one.process.kill()
                if found_by == "another call":
                    other = await pbx.call(at)
                    assert (await other.final()).status == 200
                answer = await call.final(within_s=20)
                assert answer.status == 200, pbx.statuses()
                await call.within("ACK", answer, 1)
                await carrier.expect(lambda m: getattr(m, "method", "") == "ACK" and m.to_tag)
                await call.within("BYE", answer, 2)
                await carrier.expect(lambda m: getattr(m, "method", "") == "BYE")
        assert len(carrier.invites) == (3 if found_by == "another call" else 2)
        assert all(b"application/pidf+xml" in invite.raw for invite in carrier.invites)
    finally:
        await pbx.close()
        await carrier.close()


@pytest.mark.parametrize("dead", [1, 2])
async def test_a_call_that_is_up_outlives_its_node_and_both(tmp_path: Path, keys: KeyRing, dead: int) -> None:
    """E-17: the BYE finds its way past the dead nodes to the carrier."""
    pbx, carrier = edgetest.Pbx("udp", edgetest.PBX_IP), edgetest.Carrier("udp", CARRIER_IP, lambda _: [180, 200])
    await pbx.open()
    await carrier.open()
    try:
        async with two_nodes(tmp_path, keys, carrier) as (one, two):
            with front(tmp_path, async_site(tmp_path, one, two, carrier)) as (kamailio, at):
                call = await pbx.call(at)
                answer = await call.final()
                await call.within("ACK", answer, 1)
                await carrier.expect(lambda m: getattr(m, "method", "") == "ACK")
                for node in (one, two)[:dead]:
                    node.process.kill()
                await asyncio.to_thread(
                    peers.until, lambda: kamailio.words().count("does not answer") >= dead, "the deaths are known"
                )
                await call.within("BYE", answer, 2)
                await carrier.expect(lambda m: getattr(m, "method", "") == "BYE")
    finally:
        await pbx.close()
        await carrier.close()
