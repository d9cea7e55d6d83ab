"""Several SIP processes behind one address, started by the main process's own link, with peers on real sockets."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from engine.config import Config
from engine.crypto import KeyRing
from engine.e911 import snapshot
from engine.e911.journal import JournalReader
from engine.edge.link import EdgeLink
from engine.edge.workers import call_number
from tests.peers import free_port
from tests.protocol.edgetest import (
    CARRIER_IP,
    EDGE_IP,
    PBX_IP,
    WITHIN_S,
    Carrier,
    Pbx,
    account,
    trunk,
)
from tests.siptest import request, route_set

CALLS = 24


@contextlib.asynccontextmanager
async def workers(folder: Path, keys: KeyRing, *accounts: object, count: int = 2) -> AsyncIterator[EdgeLink]:
    for each in accounts:
        snapshot.save(folder / "snapshot", each, keys)
    address = f"{EDGE_IP}:{free_port()}"
    link = EdgeLink(
        Config(
            core={"data_dir": folder, "key_file": folder / "keys.toml"},
            sip={"udp": address, "tcp": address, "workers": count},
        )
    )
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


def udp_of(link: EdgeLink) -> tuple[str, int]:
    host, _, port = link.state.udp.rpartition(":")
    return host, int(port)


async def until(holds, within_s: float = WITHIN_S):
    async with asyncio.timeout(within_s):
        while not (found := holds()):
            await asyncio.sleep(0.02)
        return found


async def cancelled_by(other: Pbx, call) -> None:
    """The CANCEL leaves by another of the PBX's sockets than the INVITE did, and ends the call."""
    send, call.pbx.send = call.pbx.send, other.send
    await call.cancel()
    call.pbx.send = send
    assert (await call.final()).status == 487


async def test_one_pbx_with_one_socket_is_served_by_all_of_them_and_each_call_is_recorded_once(tmp_path, keys, parties):
    """E-18: INVITEs are dealt by Call-ID; answers and requests in the dialog come back to the worker of the call."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [100, 180, 200]))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with workers(tmp_path, keys, account(trunk(carrier.hop))) as link:
        calls = [await pbx.call(udp_of(link)) for _ in range(CALLS)]
        answers = [await call.final() for call in calls]
        assert {answer.status for answer in answers} == {200}
        ports = Counter(invite.via.port for invite in carrier.invites)
        assert len(carrier.invites) == CALLS
        assert len(ports) == 2
        assert udp_of(link)[1] not in ports
        for call, answer in zip(calls, answers, strict=True):
            (route,) = route_set(answer)
            port = int(route.partition(f"{EDGE_IP}:")[2].partition(";")[0])
            assert port in ports
            call.to = (EDGE_IP, port)  # RFC 3261 §12.2.1.1: by the route set
            await call.within("ACK", answer, 1)
            await call.within("BYE", answer, 2)
        await pbx.expect(lambda m: getattr(m, "status", 0) == 200 and m.cseq == (2, "BYE"), count=CALLS)
        assert len(carrier.requests("ACK")) == CALLS
        stats = await link.stats()
        assert stats["server_transactions"] >= 2 * CALLS
        assert stats["accounts"] == 1
    entries, _ = JournalReader(tmp_path / "journal", keys).read_from(limit=10_000)
    for kind in ("call", "outcome", "ended"):
        found = [entry.get("call") or entry["id"] for entry in entries if entry["type"] == kind]
        assert len(found) == len(set(found)) == CALLS


async def test_a_cancel_from_another_port_of_the_pbx_ends_its_call(tmp_path, keys, parties):
    """E-18: whichever worker receives it, the one that has the call gets it."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180]))
    pbx = await parties(Pbx("udp", PBX_IP))
    others = [await parties(Pbx("udp", PBX_IP)) for _ in range(6)]
    async with workers(tmp_path, keys, account(trunk(carrier.hop))) as link:
        for other in others:
            call = await pbx.call(udp_of(link))
            await call.ringing()
            await cancelled_by(other, call)
            answer = await until(lambda inboxes=(pbx, other), at=call: [
                m for party in inboxes for m in party.inbox
                if getattr(m, "status", 0) and m.call_id == at.call_id and m.cseq[1] == "CANCEL"
            ])  # fmt: skip
            assert answer[0].status == 200
    assert len(carrier.requests("CANCEL")) == len(others)


async def test_a_worker_that_dies_starts_again_alone_and_the_other_carries_every_call_meanwhile(
    tmp_path, keys, parties
):
    """E-03: no call waits for a dead worker."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [200]))
    async with workers(tmp_path, keys, account(trunk(carrier.hop))) as link:
        for victim in (1, 0):
            before = link.pids
            os.kill(before[victim], signal.SIGKILL)
            pbx = await parties(Pbx("udp", PBX_IP))
            await until(lambda: link.workers_up == 1)
            assert link.workers[victim] is False
            calls = [await pbx.call(udp_of(link)) for _ in range(6)]
            assert {(await call.final()).status for call in calls} == {200}
            await until(lambda at=victim, was=before: link.pids[at] != was[at] and link.workers_up == 2)
            assert link.pids[1 - victim] == before[1 - victim]
            assert link.state.is_up
        assert link.state.restarts == 2


async def test_a_worker_that_hangs_takes_no_call_with_it_and_is_ended_and_started_again(tmp_path, keys, parties):
    """E-03: what the others receive for it is served by them, and its share of the address when it is ended."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [200]))
    async with workers(tmp_path, keys, account(trunk(carrier.hop))) as link:
        before = link.pids
        os.kill(before[1], signal.SIGSTOP)
        pbxs = [await parties(Pbx("udp", PBX_IP)) for _ in range(16)]  # the kernel deals half of them to either
        calls = [await pbx.call(udp_of(link)) for pbx in pbxs for _ in range(3)]
        await until(lambda: link.pids[1] != before[1] and link.workers_up == 2, 60.0)
        assert link.pids[0] == before[0]
        assert link.state.restarts == 1
        answered = [
            call for call in calls
            if any(getattr(m, "status", 0) == 200 and m.call_id == call.call_id for m in call.pbx.inbox)
        ]  # fmt: skip
        assert {(call_number(call.invite) or 0) % 2 for call in answered} == {0, 1}
        again = [call for call in calls if call not in answered]
        for call in again:  # as RFC 3261 §17.1.1.2 has it
            await call.pbx.send(call.invite, udp_of(link))
        assert {(await call.final()).status for call in calls} == {200}
        assert len({(invite.call_id, invite.via.branch) for invite in carrier.invites}) == len(calls)


async def test_a_cancel_by_another_connection_ends_its_call_whichever_worker_it_comes_to(tmp_path, keys, parties):
    """E-18: a call on a stream stays with its worker; the one that receives the CANCEL asks the others."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180]))
    async with workers(tmp_path, keys, account(trunk(carrier.hop)), count=3) as link:
        for _ in range(8):  # the kernel deals connections out as it likes
            pbx, other = await parties(Pbx("tcp", PBX_IP)), await parties(Pbx("tcp", PBX_IP))
            call = await pbx.call(udp_of(link))
            await call.ringing()
            await cancelled_by(other, call)
            answer = await other.expect(lambda m, at=call: m.call_id == at.call_id and m.cseq[1] == "CANCEL")
            assert answer.status == 200
        await other.send(
            request("CANCEL", source=other.hop, branch="z9hG4bKnobodys", call_id="nobodys", from_tag="pbx"),
            udp_of(link),
        )
        stray = await other.expect(lambda m: m.call_id == "nobodys")
        assert stray.status == 481
    assert len(carrier.requests("CANCEL")) == 8
