"""A carrier's identifiers of places through a whole running node: which of them its INVITEs carry."""

import asyncio
from pathlib import Path
from typing import Any

from engine.agents import Carrier, Placing, place_call
from tests.node import Node

KEPT = {"country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203"}
GONE = KEPT | {"HNO": "9", "RD": "Dock", "STS": "Rd"}


async def furnish(node: Node, carrier: Carrier, default: dict[str, Any]) -> None:
    await node.api("POST", "pbxs", {"name": "PBX", "sources": ["127.0.0.1/32"], "default_location_id": default["id"]})
    host, port = carrier.address
    trunk = {"name": "Carrier", "host": host, "port": port, "transport": "udp", "profile": "bandwidth"}
    await node.api("POST", "trunks", trunk | {"location_mode": "reference"})


async def told_with_911(node: Node, carrier: Carrier, what: str) -> str:
    """Geolocation and body of the first 911 that holds `what`: a change reaches the SIP process in a moment."""
    async with asyncio.timeout(30):
        while True:
            placed = await place_call(Placing("911", "999", node.udp, silence_s=1.0))
            if placed.is_answered:
                invite = carrier.invites[-1]
                told = f"{invite.header('Geolocation')}\n{invite.body.decode(errors='replace')}"
                if what in told:
                    return told
            await asyncio.sleep(0.1)


async def test_a_carrier_is_never_sent_its_identifier_of_another_address(tmp_path: Path) -> None:
    """E-06, E-07, E-10, E-14: not after a merge, not after a change of the address; page, API and Home say what is
    withheld, and the identifier goes again once it is entered for the new address.
    """
    carrier = Carrier(ring_s=0.01)
    await carrier.start()
    node = Node(tmp_path)
    try:
        await node.set_up()
        await node.start()
        keep = await node.api("POST", "locations", {"name": "Keepers", "civic_address": KEPT})
        gone = await node.api(
            "POST", "locations",
            {"name": "Goners", "civic_address": GONE, "carrier_ids": {"bandwidth": "GONEPLACE999"}},
        )  # fmt: skip
        keep = await node.api("POST", f"locations/{keep['id']}/validate", {"accepted": True}, **seen(keep))
        await furnish(node, carrier, gone)
        assert "<ca:RD" not in await told_with_911(node, carrier, "GONEPLACE999")

        await node.api("POST", f"locations/{keep['id']}/merge", {"merged_id": gone["id"]}, **seen(keep))
        told = await told_with_911(node, carrier, "Washington")
        assert "GONEPLACE999" not in told
        keep = await node.api("GET", f"locations/{keep['id']}")
        assert (keep["status"], keep["carrier_ids"]) == ("validated", {})
        assert keep["outdated_carrier_ids"] == {"bandwidth": "GONEPLACE999"}
        assert "Give bandwidth this address" in keep["warnings"][0]

        keep = await changed(node, keep, {"carrier_ids": {"bandwidth": "KEEP1"}})
        assert (keep["status"], keep["outdated_carrier_ids"], keep["warnings"]) == ("draft", {}, [])
        await told_with_911(node, carrier, "KEEP1")
        moved = {"civic_address": KEPT | {"HNO": "500"}, "carrier_ids": {"bandwidth": "KEEP1"}}
        keep = await changed(node, keep, moved)  # as a form sends it: the field as it stood there
        assert (keep["carrier_ids"], keep["outdated_carrier_ids"]) == ({}, {"bandwidth": "KEEP1"})
        assert "KEEP1" not in await told_with_911(node, carrier, ">500<")
        keep = await changed(node, keep, {"carrier_ids": {"bandwidth": "KEEP1"}})
        assert keep["outdated_carrier_ids"] == {}
        await told_with_911(node, carrier, "KEEP1")
    finally:
        await node.stop()
        await carrier.stop()


async def changed(node: Node, location: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return dict(await node.api("PATCH", f"locations/{location['id']}", values, **seen(location)))


def seen(location: dict[str, Any]) -> dict[str, str]:
    return {"If-Match": f'"{location["version"]}"'}
