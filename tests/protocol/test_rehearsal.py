"""The SIP process goes the way of a 911 by itself while other messages come in; nobody outside hears of it."""

from engine.edge.rehearsal import CALL_ID, MESSAGES_BETWEEN
from tests.protocol.edgetest import CARRIER_IP, PBX_IP, Carrier, Pbx, account, edge, trunk
from tests.siptest import request


async def test_what_is_rehearsed_beside_other_messages_reaches_neither_carrier_nor_journal(tmp_path, keys, parties):
    """E-03, E-05: the PBX's OPTIONS keep the process awake, the way is gone; one real call alone is on record."""
    carrier = await parties(Carrier("udp", CARRIER_IP, lambda _: [180, 200]))
    pbx = await parties(Pbx("udp", PBX_IP))
    async with edge(tmp_path, keys, account(trunk(carrier.hop))) as running:
        gone = 0
        for at in range(500):
            for number in range(MESSAGES_BETWEEN):
                name = f"{at}-{number}"
                ping = request(
                    "OPTIONS", "sip:callpoint.example.com", source=pbx.hop, branch=f"z9hG4bK{name}", call_id=name
                )
                await pbx.send(ping, running.udp)
            stats = await running.settled()
            if (gone := stats["rehearsals"]) > 2:
                break
        assert gone > 2
        assert stats["calls_unanswered"] == 0
        call = await pbx.call(running.udp)
        assert (await call.final()).status == 200
        entries = await running.journal(lambda found: any(entry["type"] == "outcome" for entry in found))
        assert CALL_ID not in str(entries)
        assert [invite.call_id for invite in carrier.invites] == [call.call_id]
        assert not any("rehearsal_failed" in line for line in running.logged)
