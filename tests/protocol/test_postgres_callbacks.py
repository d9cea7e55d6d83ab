"""Two whole nodes on one PostgreSQL: the 911 goes by one, the PSAP calls back by the other."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.node import Node
from tests.protocol.edgetest import CARRIER_IP, PBX_IP, SECOND_IP, Carrier, Party
from tests.protocol.test_callbacks import ELINS, Site, final_of, number_sent, psap_calls
from tests.protocol.test_postgres_nodes import edge_pid_of

pytestmark = pytest.mark.enable_socket
Parties = Callable[[Party], Awaitable[Any]]
ADDRESS = {
    "country": "US",
    "A1": "NY",
    "A3": "Albany",
    "RD": "State",
    "STS": "St",
    "HNO": "1",
    "PC": "12207",
    "FLR": "2",
}


async def furnish(node: Node, carrier: Carrier) -> None:
    """A PBX that nobody calls from comes first: a call back that does not know better goes there."""
    place = {"name": "HQ", "civic_address": ADDRESS, "onsite_number": "+15185550100"}
    location = await node.api("POST", "locations", place)
    await node.api("POST", "pbxs", {"name": "Another", "sources": [f"{SECOND_IP}/32"]})
    pbx = await node.api("POST", "pbxs", {"name": "PBX", "sources": [f"{PBX_IP}/32"]})
    await node.api("POST", "trunks", {"name": "Carrier", "host": CARRIER_IP, "port": carrier.port, "transport": "udp"})
    for e164 in ELINS:
        await node.api("POST", "numbers", {"e164": e164, "kind": "elin", "location_id": location["id"]})
    for n in (102, 103):
        line = {"extension": str(n), "sip_user": f"desk{n}", "pbx_id": pbx["id"], "location_id": location["id"]}
        await node.api("POST", "lines", line | {"secret": "s3cret"})


async def lent(site: Site, carrier: Carrier, node: Node, user: str) -> str:
    """The number that a 911 of that user was sent with; called again until the node has PBX, trunk and pool. Until then
    it is a stranger's call, and of a stranger's address no more than twenty datagrams a second are heard.
    """
    while True:
        call = await site.call(node.udp, added=(f"P-Asserted-Identity: <sip:{user}@pbx>",))
        answer = await call.final()
        if answer.status == 200:
            await call.within("ACK", answer, 1)
            await call.within("BYE", answer, 2)
            number = number_sent(carrier, call.call_id)
            if number in ELINS:
                return number
        await asyncio.sleep(0.2)


class Psap:
    """Calls back by way of a node, each time a call of its own."""

    def __init__(self, carrier: Carrier, site: Site) -> None:
        self._carrier, self._site, self._calls = carrier, site, 0

    async def rings(self, node: Node, number: str) -> str:
        """Whom it rings at: the user of the Request-URI that the PBX which placed the call gets; "" for none."""
        self._calls += 1
        call_id = f"back-{self._calls}"
        await psap_calls(self._carrier, node.udp, number, call_id)
        await final_of(self._carrier, call_id)
        users = [invite.request_uri for invite in self._site.requests("INVITE") if invite.call_id == call_id]
        return users[0].partition(":")[2].partition("@")[0] if users else ""

    async def until_it_rings_at(self, user: str, node: Node, number: str) -> None:
        """Until the other node has heard of the loan; then it must never be another."""
        while await self.rings(node, number) != user:
            await asyncio.sleep(0.2)


async def test_a_call_back_finds_its_caller_by_the_other_node_too(
    tmp_path: Path, postgres_url: str, parties: Parties
) -> None:
    """E-09: within moments of the 911, and neither lends what the other has lent; from then on with the database away,
    with the node gone that lent the number, and after a restart of the one that is left.
    """
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180, 200]))
    site = await parties(Site("udp", PBX_IP))
    shared = {
        "CALLPOINT_CORE__DATABASE_URL": postgres_url,
        "CALLPOINT_CORE__KEY_FILE": str(tmp_path / "keys.toml"),
    }
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    one, other = (Node(folder, shared) for folder in folders)
    await one.set_up()
    other.api_key, other.account_id = one.api_key, one.account_id
    psap = Psap(carrier, site)
    control = await asyncpg.connect(postgres_url.replace("+asyncpg", "").rpartition("/")[0] + "/postgres")
    name = postgres_url.rpartition("/")[2]
    try:
        await one.start()
        await other.start()
        await furnish(one, carrier)
        second = await lent(site, carrier, other, "desk103")
        assert await psap.rings(other, second) == "desk103"
        await psap.until_it_rings_at("desk103", one, second)
        first = await lent(site, carrier, one, "desk102")
        assert first != second, "what the other node lent is lent"
        assert await psap.rings(one, first) == "desk102"
        await psap.until_it_rings_at("desk102", other, first)

        await control.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await control.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        assert await psap.rings(other, first) == "desk102"

        edge = edge_pid_of(one)
        await one.stop(signal.SIGKILL)
        os.kill(edge, signal.SIGKILL)
        assert await psap.rings(other, first) == "desk102"

        edge = edge_pid_of(other)
        await other.stop(signal.SIGKILL)
        os.kill(edge, signal.SIGKILL)
        await other.start()
        assert await psap.rings(other, first) == "desk102"
    finally:
        await control.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await control.close()
        await one.stop()
        await other.stop()
