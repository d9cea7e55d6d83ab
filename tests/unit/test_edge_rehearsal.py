"""A 911 that nobody placed: gone through while nothing waits, and nothing is left of it."""

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

from engine.e911.carriers import load_profiles
from engine.e911.civic import CivicAddress, DispatchableLocation
from engine.e911.hook import Hook
from engine.e911.location import AccountTable, Line, LocationTable, Number, Pbx, Trunk
from engine.e911.route import Deadlines
from engine.edge.rehearsal import CALL_ID, MESSAGES_BETWEEN, Rehearsal, give_up
from engine.sip.forward import Hop
from engine.sip.message import parse_message
from engine.sip.passage import Passage

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PLACE = DispatchableLocation("location_hq", "HQ", CivicAddress.of({"country": "US", "A1": "NY", "RD": "Main"}))
ACCOUNT = AccountTable(
    "account_1", revision=1, locations={PLACE.id: PLACE}, default_location_id=PLACE.id,
    trunks=(Trunk("first", "First", 10, "192.0.2.30"),), lines=(Line("line_1", "101", "101", "Ada"),),
    pbxs={"pbx_1": Pbx("pbx_1", "PBX", (ip_network("192.0.2.1/32"),))},
    numbers=(Number("number_1", "+15185550142", "elin", location_id=PLACE.id),),
)  # fmt: skip


class Stage:
    """A rehearsal with parts of its own. `logged`: what it told."""

    def __init__(self, *accounts: AccountTable) -> None:
        self.table = LocationTable()
        for each in accounts:
            self.table.put(each)
        self.hops_of: Callable[..., tuple[Hop, ...]] = lambda host, port, transport: (Hop(transport, host, port),)
        self.hook = Hook(
            self.table, profiles=load_profiles(), down=set(), trunk_ips=set(), deadlines=Deadlines(),
            proof_key=bytes(32), hops_of=self._hops_of, make_call_id=lambda: CALL_ID,
            on_fault=give_up,
        )  # fmt: skip
        self.passage = Passage(clock=lambda: 0.0, hears=lambda *_: True, decide=lambda *_: None)
        self.logged: list[tuple[str, Any]] = []
        self.rehearsal = Rehearsal(
            self.hook, self.table, self.passage, asyncio.get_running_loop(),
            lambda event, **values: self.logged.append((event, values["account_id"])), apart_s=3_600.0,
        )  # fmt: skip

    def _hops_of(self, *asked: Any) -> tuple[Hop, ...]:
        return self.hops_of(*asked)

    async def prompted(self, *, meanwhile: int = 0) -> int:
        """How often the way was gone after one more prompt, with so many messages before the loop gets to it."""
        self.rehearsal.prompt()
        self.passage.messages += meanwhile
        await asyncio.sleep(0)
        return self.rehearsal.gone


async def test_what_is_rehearsed_is_the_whole_invite_and_nothing_of_it_stays() -> None:
    """E-05: number, location by value and callback number as a real call of that line gets them; no loan is made."""
    stage = Stage(ACCOUNT)
    sent = stage.rehearsal.go(NOW)
    assert sent is not None
    request = parse_message(sent)
    assert sent.startswith(b"INVITE sip:911@192.0.2.30 ")
    assert b"<ca:RD>Main</ca:RD>" in request.body
    assert b"+15185550142" in sent  # of the pool; a real call would be lent it
    assert not stage.hook.lending.loans(NOW)
    assert not stage.hook.lending.fresh
    assert stage.logged == []


async def test_the_way_is_gone_only_when_nothing_waits_and_not_twice_in_a_moment() -> None:
    """A message that came between the prompt and the loop's next turn comes first."""
    stage = Stage(ACCOUNT)
    assert await stage.prompted(meanwhile=1) == 0
    assert stage.rehearsal.due == MESSAGES_BETWEEN  # still due
    assert await stage.prompted() == 1
    assert stage.rehearsal.due == stage.passage.messages + MESSAGES_BETWEEN
    assert await stage.prompted() == 1  # too soon
    stage.rehearsal.put_off()
    assert stage.rehearsal.due == stage.passage.messages + MESSAGES_BETWEEN


async def test_an_account_that_fails_is_told_once_until_it_is_loaded_anew() -> None:
    """A fault on the way is found before a caller finds it, and says whose calls it will meet."""
    other = dataclasses.replace(ACCOUNT, account_id="account_2")
    stage = Stage(ACCOUNT, other)
    works = stage.hops_of

    def broken(*_: object) -> tuple[Hop, ...]:
        raise ValueError("a row that holds what no row should")

    stage.hops_of = broken
    for _ in range(4):
        assert stage.rehearsal.go(NOW) is None
    assert sorted(stage.logged) == [("rehearsal_failed", "account_1"), ("rehearsal_failed", "account_2")]
    stage.hops_of = works
    assert stage.rehearsal.go(NOW) is None
    stage.table.put(dataclasses.replace(ACCOUNT, revision=2))
    assert stage.rehearsal.go(NOW) is not None


async def test_without_somebody_who_could_call_nothing_is_rehearsed() -> None:
    """No account, no trunk, no PBX that its address proves, no address of a trunk: nothing, and no complaint."""
    by_digest = {"pbx_1": dataclasses.replace(ACCOUNT.pbxs["pbx_1"], auth_user="pbx")}
    for accounts in (
        (), (dataclasses.replace(ACCOUNT, trunks=()),), (dataclasses.replace(ACCOUNT, pbxs={}),),
        (dataclasses.replace(ACCOUNT, pbxs=by_digest),),
    ):  # fmt: skip
        stage = Stage(*accounts)
        assert await stage.prompted() == 0
        assert stage.rehearsal.go(NOW) is None
        assert stage.logged == []
    stage = Stage(ACCOUNT)
    stage.hops_of = lambda *_: ()
    assert stage.rehearsal.go(NOW) is None
    assert stage.logged == []
