"""The caller of test calls: however a call ends, nothing is left ringing at the far end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from engine.agents import Placing, _Datagrams, _response, place_call
from engine.sip.message import Request


@dataclass(slots=True)
class FarEnd:
    """Rings, answers with `contact` when it is to, and says 487 after a CANCEL, or a 200 that `crosses` it."""

    address: tuple[str, int]
    transport: asyncio.DatagramTransport
    answers: bool = False
    contact: str = ""
    crosses: bool = False
    heard: list[Request] = field(default_factory=list)
    rings: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.heard]

    async def serve(self, protocol: _Datagrams) -> None:
        invite: Request | None = None
        while True:
            message, addr = await protocol.arrived.get()
            assert isinstance(message, Request)
            self.heard.append(message)
            if message.method == "INVITE" and invite is None:
                invite = message
                self.transport.sendto(_response(message, 180, "Ringing", tag="far"), addr)
                if self.answers:
                    self.transport.sendto(_response(message, 200, "OK", tag="far", contact=self.contact), addr)
                self.rings.set()
            elif message.method == "CANCEL" and invite is not None:
                if not self.crosses:
                    self.transport.sendto(_response(message, 200, "OK", tag="far"), addr)
                status = (200, "OK") if self.crosses else (487, "Request Terminated")
                self.transport.sendto(_response(invite, *status, tag="far"), addr)
            elif message.method == "BYE":
                self.transport.sendto(_response(message, 200, "OK"), addr)

    async def hears(self, method: str) -> None:
        async with asyncio.timeout(30):
            while method not in self.methods:
                await asyncio.sleep(0.01)


@pytest.fixture
async def far_end() -> AsyncIterator[FarEnd]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(_Datagrams, local_addr=("127.0.0.1", 0))
    end = FarEnd(transport.get_extra_info("sockname")[:2], transport)
    task = asyncio.create_task(end.serve(protocol))
    yield end
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    transport.close()


async def test_a_call_that_nobody_answers_is_cancelled_and_its_end_acknowledged(far_end: FarEnd) -> None:
    """E-15: CANCEL with the INVITE's branch, ACK of the 487: nothing rings on."""
    placed = await place_call(Placing("933", "101", far_end.address, answer_s=0.3))
    assert not placed.is_answered
    await far_end.hears("ACK")
    assert far_end.methods == ["INVITE", "CANCEL", "ACK"]
    assert len({request.header("Via") for request in far_end.heard}) == 1
    assert far_end.heard[1].cseq == (1, "CANCEL")


async def test_a_call_that_is_called_off_while_it_rings_is_cancelled(far_end: FarEnd) -> None:
    """E-15: a round that ends, or a real call that comes, leaves nothing ringing."""
    call = asyncio.create_task(place_call(Placing("933", "101", far_end.address)))
    async with asyncio.timeout(30):
        await far_end.rings.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await far_end.hears("ACK")
    assert far_end.methods == ["INVITE", "CANCEL", "ACK"]


async def test_an_answer_that_crosses_the_cancel_is_ended(far_end: FarEnd) -> None:
    """E-15: a 200 after the CANCEL left is a call that stands until it is ended."""
    far_end.crosses = True
    await place_call(Placing("933", "101", far_end.address, answer_s=0.3))
    await far_end.hears("BYE")
    assert far_end.methods == ["INVITE", "CANCEL", "ACK", "BYE"]


async def test_an_answered_call_that_is_called_off_is_still_ended(far_end: FarEnd) -> None:
    """E-15: cancelled in the middle of its talk, it hangs up."""
    far_end.answers = True
    call = asyncio.create_task(place_call(Placing("933", "101", far_end.address, talk_s=60.0)))
    await far_end.hears("ACK")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert far_end.methods == ["INVITE", "ACK", "BYE"]


@pytest.mark.parametrize("contact", ["*", "<psap 933>", "<sip:a@b", ""])
async def test_an_answer_whose_contact_cannot_be_read_is_ended_all_the_same(far_end: FarEnd, contact: str) -> None:
    """E-15: ACK and BYE go to what was dialed."""
    far_end.answers, far_end.contact = True, contact
    placed = await place_call(Placing("933", "101", far_end.address, talk_s=0.0))
    assert placed.status == 200
    assert far_end.methods == ["INVITE", "ACK", "BYE"]
    assert far_end.heard[2].request_uri == far_end.heard[0].request_uri
