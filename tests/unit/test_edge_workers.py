"""Which of several SIP processes a datagram belongs to."""

import asyncio
import resource
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.e911.civic import CivicAddress, DispatchableLocation
from engine.e911.lending import Lending, Loan
from engine.e911.location import AccountTable, Caller, Resolved, Source
from engine.e911.rows import Number
from engine.edge import workers
from engine.edge.claims import HELD_S, MAX_HELD, Claims
from engine.edge.workers import TAKEN_WITHIN_S, HandOver, call_number, own_listening
from engine.sip.forward import Hop
from engine.sip.transports import Listening
from tests.siptest import PBX, read_request, request

WORKERS = 3


def owner_of(data: bytes, workers: int = WORKERS) -> int | None:
    call = call_number(data)
    return None if call is None else call % workers


NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize("call", range(20))
def test_what_begins_and_ends_a_call_has_one_owner_however_its_call_id_is_spelled(call):
    """E-18: INVITE, CANCEL and the ACK of a refusal go the same way."""
    messages = [request(method, source=PBX, call_id=f"call-{call}@x") for method in ("INVITE", "CANCEL", "ACK")]
    spelled = [messages[0].replace(b"Call-ID: ", name) for name in (b"i:", b"call-id :\t", b"CALL-ID:  ", b"Call-ID:")]
    owners = {owner_of(data) for data in (*messages, *spelled)}
    assert len(owners) == 1
    assert owners <= {0, 1, 2}


def test_calls_are_dealt_to_all():
    """E-18: one PBX with one socket keeps every worker busy."""
    dealt = [owner_of(request("INVITE", source=PBX, call_id=f"{call}@x")) for call in range(300)]
    assert all(60 < dealt.count(worker) < 140 for worker in range(WORKERS))


@pytest.mark.parametrize(
    "data", [b"", b"\r\n\r\n", b"SIP/2.0 200 OK\r\nCall-ID: x\r\n\r\n", b"INVITE sip:a SIP/2.0\r\n\r\n"]
)
def test_whoever_has_what_names_no_call_serves_it(data):
    """E-18: responses, keep-alives, and what is no message."""
    assert owner_of(data) is None


@pytest.mark.parametrize("method", ["BYE", "OPTIONS", "REGISTER", "UPDATE"])
def test_other_requests_stay_where_they_came(method):
    """E-18: their retransmissions come by the same addresses."""
    assert owner_of(request(method, source=PBX)) is None


def test_own_ports_lie_behind_the_shared_one_and_are_free_where_it_is_free():
    """Decision 0014."""
    shared = Listening(udp=[("192.0.2.1", 5060), ("::", 0)], tcp=[("192.0.2.1", 5060)], tls=[("192.0.2.1", 5061)])
    own = own_listening(shared, 1)
    assert own.udp == [("192.0.2.1", 5071), ("::", 0)]
    assert own.tcp == [("192.0.2.1", 5071)]
    assert own.tls == [("192.0.2.1", 5172)]
    assert own_listening(Listening(udp=[("h", 65_530)]), 0).udp == [("h", 0)]


async def test_a_call_that_could_not_be_handed_over_stays_where_it_began(tmp_path: Path):
    """E-18: its owner was away; once that is back, the CANCEL would find no call there (481), and the 911 ring on."""
    got: asyncio.Queue[bytes] = asyncio.Queue()
    here, there = (
        HandOver(tmp_path, worker, 2, receive=lambda data, _hop: got.put_nowait(data), drained=lambda: None)
        for worker in (0, 1)
    )
    calls = [f"{call}@x" for call in range(50)]
    began, later = [call for call in calls if owner_of(request(source=PBX, call_id=call), 2) == 1][:2]
    here.open()
    try:
        assert not here.takes(request(source=PBX, call_id=began), PBX)
        there.open()
        for method in ("CANCEL", "ACK", "INVITE"):
            assert not here.takes(request(method, source=PBX, call_id=began), PBX)
        assert here.takes(request(source=PBX, call_id=later), PBX)
        async with asyncio.timeout(30):
            assert await got.get() == request(source=PBX, call_id=later)
    finally:
        here.close()
        there.close()


class Siblings:
    """Workers' doors in one folder; `ended` are the calls that a worker has and ends."""

    def __init__(self, folder: Path, count: int) -> None:
        self.asked: list[tuple[int, bytes, Hop, bool]] = []
        self.having: set[int] = set()
        self.doors = [
            HandOver(
                folder, worker, count, receive=lambda _data, _hop: None, drained=lambda: None,
                cancel=lambda data, hop, is_trusted, at=worker: self._cancel(at, data, hop, is_trusted),  # type: ignore[misc]
            )
            for worker in range(count)
        ]  # fmt: skip

    def _cancel(self, worker: int, data: bytes, hop: Hop, is_trusted: bool) -> bool:
        self.asked.append((worker, data, hop, is_trusted))
        return worker in self.having

    async def ask(self, data: bytes, hop: Hop) -> bool:
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.doors[0].ask(data, hop, is_trusted=True, told=told.set_result)  # which raises when it is told twice
        async with asyncio.timeout(30.0):
            return await told


async def test_whoever_has_the_call_of_a_cancel_says_so_and_nobody_waits_for_a_silent_one(tmp_path: Path) -> None:
    """E-18: one answer whatever the siblings do: have it, have it not, are away, or never answer."""
    siblings = Siblings(tmp_path, 3)
    here, second, third = siblings.doors
    cancel, hop = request("CANCEL", source=PBX), Hop("tls", "2001:db8::20", 40_000, 7)
    here.open()
    try:
        assert not await siblings.ask(cancel, hop)  # both away
        second.open()
        third.open()
        assert not await siblings.ask(cancel, hop)
        assert {worker for worker, *_ in siblings.asked} == {1, 2}
        assert {seen[1:] for seen in siblings.asked} == {(cancel, hop._replace(connection=0), True)}
        siblings.having = {2}
        assert await siblings.ask(cancel, hop)
        asyncio.get_running_loop().remove_reader(third._socket.fileno())  # type: ignore[union-attr]  # it hangs
        assert not await siblings.ask(cancel, hop)
    finally:
        for door in siblings.doors:
            door.close()


def test_a_number_is_lent_by_one_process_at_a_time() -> None:
    """E-09: the kernel gives a name to one alone; it is given back in time, or when the process ends."""
    space = secrets.token_bytes(32)
    one, other = Claims(space), Claims(space)
    try:
        assert one.take("+15185550190", 0.0)
        assert one.take("+15185550190", 1.0)
        assert not other.take("+15185550190", 1.0)
        assert other.take("+15185550191", 1.0)
        one.tick(HELD_S - 0.1)
        assert not other.take("+15185550190", 2.0)
        one.tick(HELD_S + 0.1)
        assert other.take("+15185550190", 6.0)
        other.close()
        assert one.take("+15185550191", 7.0)
        for number in range(MAX_HELD + 10):
            assert one.take(f"+1518{number:07}", 8.0)
        assert len(one._held) == MAX_HELD
        assert Claims(secrets.token_bytes(32)).take(f"+1518{MAX_HELD:07}", 8.0)  # another data folder's
    finally:
        one.close()
        other.close()


def test_two_processes_that_lend_at_the_same_moment_never_lend_the_same_number() -> None:
    """E-09: neither has read of the other's loans; only when all are being lent is one lent twice, and the call says
    so.
    """
    space = secrets.token_bytes(32)
    claims = [Claims(space), Claims(space)]
    lendings = [Lending(lambda number, at=each: at.take(number, 0.0)) for each in claims]  # type: ignore[misc]
    pool = [Number(f"number_{at}", f"+1518555019{at}", "elin", "location_hq") for at in range(6)]
    account = AccountTable("account_1", numbers=tuple(pool))
    place = Resolved(
        DispatchableLocation("location_hq", "HQ", CivicAddress.of({"country": "US"})), Source.LINE, None, None, (), NOW
    )
    lent = []
    try:
        for turn in range(6):
            caller = Caller(identity=f"10{turn}")
            chosen = lendings[turn % 2].choose(account, caller, place, None, NOW, is_test=False)
            assert chosen.number is not None
            lendings[turn % 2].lend(
                Loan(chosen.number, "account_1", NOW + timedelta(hours=3), sip_user=caller.identity)
            )
            lent.append(chosen.number)
        assert len(set(lent)) == 6
        last = lendings[0].choose(account, Caller(identity="199"), place, None, NOW, is_test=False)
        assert (last.number in set(lent), last.flags) == (True, ("elin_exhausted",))
        lendings[0].learn(lendings[1].take_fresh())  # the files have been read
        for turn in (1, 4, 1):
            again = lendings[0].choose(account, Caller(identity=f"10{turn}"), place, None, NOW, is_test=False)
            assert (again.number, again.flags) == (lent[turn], ("elin_low",))
    finally:
        for each in claims:
            each.close()


def test_a_claim_names_nobody_and_only_a_name_that_is_taken_is_another_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """E-09: everybody on the machine reads the kernel's names; without descriptors a call goes out all the same."""
    claims = Claims(secrets.token_bytes(32))
    try:
        assert claims.take("+15185550190", 0.0)
        name = claims._held["+15185550190"][0].getsockname().replace(b"\0", b"@").decode()
        assert name in Path("/proc/net/unix").read_text().split()  # among those of every node on this machine
        assert "5550190" not in name
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            assert claims.take("+15185550191", 0.0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    finally:
        claims.close()


def test_a_burst_at_one_worker_costs_a_caller_at_another_neither_a_free_number_nor_time() -> None:
    """E-09: thirty numbers are being lent of three hundred; claims that all fail are asked seventy times, not more."""
    pool = [Number(f"number_{at}", f"+1518555{at:04}", "elin", "location_hq") for at in range(300)]
    account = AccountTable("account_1", numbers=tuple(pool))
    place = Resolved(
        DispatchableLocation("location_hq", "HQ", CivicAddress.of({"country": "US"})), Source.LINE, None, None, (), NOW
    )
    taken, asked = {number.e164 for number in pool[:30]}, list[str]()

    def claim(number: str) -> bool:
        asked.append(number)
        return number not in taken

    lending = Lending(claim)
    chosen = lending.choose(account, Caller(identity="101"), place, None, NOW, is_test=False)
    assert (chosen.number, chosen.flags) == ("+15185550030", ())
    taken, asked = {number.e164 for number in pool}, []
    chosen = lending.choose(account, Caller(identity="101"), place, None, NOW, is_test=False)
    assert (chosen.number, chosen.flags) == ("+15185550000", ("elin_exhausted",))
    assert len(asked) == len(set(asked)) <= 72


async def test_what_a_sibling_does_not_take_in_is_served_here_until_it_is_heard_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E-03: a process that hangs holds its socket; no 911 call waits for it; one that is back is handed calls again."""
    taken_within_s = 1.0  # so that a machine that pauses for a moment makes no sibling silent
    monkeypatch.setattr(workers, "TAKEN_WITHIN_S", taken_within_s)
    served: asyncio.Queue[tuple[bytes, Hop]] = asyncio.Queue()
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    silent: list[tuple[int, bool]] = []
    here = HandOver(
        tmp_path, 0, 2, receive=lambda data, hop: served.put_nowait((data, hop)), drained=lambda: None,
        silent=lambda worker, is_silent: silent.append((worker, is_silent)),
    )  # fmt: skip
    there = HandOver(tmp_path, 1, 2, receive=lambda data, _hop: heard.put_nowait(data), drained=lambda: None)
    calls = [
        data for at in range(50) if owner_of(data := request(source=PBX, call_id=f"{at}@x"), 2) == 1
    ]  # fmt: skip
    loop = asyncio.get_running_loop()
    here.open()
    there.open()
    door = there._socket
    assert door is not None
    try:
        async with asyncio.timeout(30.0):
            assert here.takes(calls[0], PBX)
            assert await heard.get() == calls[0]
            loop.remove_reader(door.fileno())  # it hangs
            began = loop.time()
            assert here.takes(calls[1], PBX)
            assert here.takes(calls[2], PBX)
            assert [await served.get(), await served.get()] == [(calls[1], PBX), (calls[2], PBX)]
            assert loop.time() - began >= taken_within_s
            assert silent == [(1, True)]
            assert not here.takes(calls[3], PBX)
            assert not here.takes(calls[1].replace(b"INVITE", b"CANCEL"), PBX)
            loop.add_reader(door.fileno(), there._drain)  # it goes on
            while len(silent) < 2:
                here.tick()
                await asyncio.sleep(0.01)
            assert silent[1] == (1, False)
            assert not here.takes(calls[1].replace(b"INVITE", b"CANCEL"), PBX)  # it began here
            assert here.takes(calls[4], PBX)
            assert await heard.get() == calls[4]
            while here._siblings[1].untaken:  # until its word is here; whatever is not in it will be served here
                await asyncio.sleep(0.01)
        assert served.empty()
        assert heard.empty()
    finally:
        here.close()
        there.close()


async def test_a_repetition_of_a_911_that_a_pausing_sibling_has_begun_is_left_to_it_once(tmp_path: Path) -> None:
    """E-03: a pause shorter than the sender's patience makes no second call; a longer one does, and what nobody has
    begun is served at once. A CANCEL comes again as well.
    """
    served: asyncio.Queue[bytes] = asyncio.Queue()
    space = secrets.token_bytes(32)
    ours, theirs = Claims(space), Claims(space)
    here = HandOver(
        tmp_path, 0, 2, receive=lambda data, _hop: served.put_nowait(data), drained=lambda: None,
        has_begun=lambda data: ours.is_begun(data, 0.0),
    )  # fmt: skip
    there = HandOver(tmp_path, 1, 2, receive=lambda _data, _hop: None, drained=lambda: None)
    names = [name for at in range(50) if owner_of(request(source=PBX, call_id=(name := f"{at}@x")), 2) == 1]
    begun, other = (request(source=PBX, call_id=name, branch=f"z9hG4bK{name}") for name in names[:2])
    cancel = begun.replace(b"INVITE", b"CANCEL")
    here.open()
    there.open()
    try:
        assert there._socket is not None
        asyncio.get_running_loop().remove_reader(there._socket.fileno())  # it pauses, and has begun one of the two
        assert theirs.take_call(read_request(begun), 0.0)
        async with asyncio.timeout(30.0):
            assert here.takes(begun, PBX)
            assert here.takes(other, PBX)
            assert await served.get() == other
        assert here.takes(cancel, PBX)
        assert not here.takes(cancel, PBX)
        assert not here.takes(begun, PBX)
        assert not here.takes(other, PBX)
        assert served.empty()
        theirs.close()  # it was ended: the kernel gives its names back
        assert not ours.is_begun(begun, 0.0)
    finally:
        for each in (here, there, ours, theirs):
            each.close()


@pytest.mark.parametrize(
    "words",
    [b"message 1 1 0 x", b"message 0 x 0.0 10.0.0.1 5060", b"message 1 1 0.0 10.0.0.1 99999", b"taken 9 1 1",
     b"taken 1 x 2", b"cancel x udp 10.0.0.1 z 1", b"ask x", b"here 7", b"\xff\xfe", b""],
)  # fmt: skip
async def test_words_nobody_understands_keep_nothing_from_being_served(tmp_path: Path, words: bytes) -> None:
    """E-03: what was received with them is answered, and the next message is taken in."""
    told: list[object] = []
    got, drained = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    here, there = (
        HandOver(tmp_path, worker, 2, receive=lambda _data, _hop: got.set(), drained=drained.set) for worker in (0, 1)
    )
    here.open()
    there.open()
    try:
        async with asyncio.timeout(30.0):
            there._socket.sendto(words.ljust(96), there._path(0))  # type: ignore[union-attr]
            await drained.wait()
            call = next(c for at in range(50) if owner_of(c := request(source=PBX, call_id=f"{at}@x"), 2) == 0)
            assert there.takes(call, PBX)
            await got.wait()
    finally:
        here.close()
        there.close()


async def test_an_invite_that_its_sender_serves_by_now_is_not_served_twice(tmp_path: Path) -> None:
    """E-03: one that goes on after a pause leaves old INVITEs to who handed them over; a CANCEL ends its own call."""
    got: list[bytes] = []
    drained = asyncio.Event()
    here, there = (
        HandOver(tmp_path, worker, 2, receive=lambda data, _hop: got.append(data), drained=drained.set)
        for worker in (0, 1)
    )
    here.open()
    there.open()
    try:
        old = asyncio.get_running_loop().time() - TAKEN_WITHIN_S
        for method in ("INVITE", "CANCEL"):
            assert here._tell(1, f"message 0 1 {old:.3f} 10.0.0.1 5060", request(method, source=PBX))
        async with asyncio.timeout(30.0):
            await drained.wait()
        assert got == [request("CANCEL", source=PBX)]
    finally:
        here.close()
        there.close()
