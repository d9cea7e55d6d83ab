"""A PSAP calls back: the SIP process between a PBX and a carrier, both of which call and are called."""

from pathlib import Path

from engine.crypto import KeyRing
from engine.e911.journal import JournalReader
from engine.sip.message import Request, Response
from tests import peers, ports
from tests.protocol.edgetest import CARRIER_IP, PBX_IP, STRANGER_IP, Carrier, Pbx, account, edge, trunk
from tests.siptest import request, response, route_set

SCENARIOS = Path(__file__).parent / "sipp"
ELINS = ("+15185550171", "+15185550172")


class Site(Pbx):
    """A PBX that is called too: it answers by `answers` (user of the Request-URI -> status), 200 where none is said."""

    def __init__(self, transport: str, ip: str) -> None:
        super().__init__(transport, ip)
        self.answers: dict[str, int] = {}

    def on_message(self, message: Request | Response, data: bytes, source: tuple[str, int]) -> None:
        if isinstance(message, Request) and message.method in {"INVITE", "BYE", "MESSAGE"}:
            user = message.request_uri.partition(":")[2].partition("@")[0]
            status = self.answers.get(user, 200)
            answer = response(data, status, to_tag="site", contact=f"sip:{user}@{self.ip}:{self.port}")
            self._follow(self.send(answer, source))


async def parties(tmp_path: Path, keys: KeyRing) -> tuple[Carrier, Site]:
    carrier, site = Carrier("udp", CARRIER_IP, lambda _: [180, 200]), Site("udp", PBX_IP)
    await carrier.open()
    await site.open()
    return carrier, site


def snapshot_of(carrier: Carrier, **changes: object) -> dict:
    lines = [
        {"id": f"line_{n}", "extension": str(n), "sip_user": f"desk{n}", "display_name": f"Desk {n}",
         "callback_number": None, "location_id": "location_hq", "pbx_id": "pbx_1"}
        for n in (102, 103, 104)
    ]  # fmt: skip
    numbers = [
        {"id": f"number_{e164}", "e164": e164, "location_id": "location_hq", "kind": "elin", "line_id": None,
         "held_until": None, "held_by": None}
        for e164 in ELINS
    ]  # fmt: skip
    made = account(trunk(carrier.hop), lines=lines, phones=[], numbers=numbers, elin_hold_minutes=180)
    made["locations"][0]["onsite_number"] = "+15185550100"
    return made | changes


def lent(tmp_path: Path) -> int:
    """How many loans are on disk."""
    file = tmp_path / "loans" / "edge.loans"
    return len(file.read_bytes().splitlines()) if file.exists() else 0


async def emergency(site: Site, node: tuple[str, int], user: str) -> str:
    """A whole 911 call of that user; the caller number the carrier was given."""
    call = await site.call(node, added=(f"P-Asserted-Identity: <sip:{user}@pbx>",))
    answer = await call.final()
    assert answer.status == 200
    await call.within("ACK", answer, 1)
    await call.within("BYE", answer, 2)
    await site.expect(lambda m: isinstance(m, Response) and m.call_id == call.call_id and m.cseq[1] == "BYE")
    return call.call_id


def number_sent(carrier: Carrier, call_id: str) -> str:
    (invite,) = [each for each in carrier.invites if each.call_id == call_id]
    return (invite.header("P-Asserted-Identity") or "").partition(":")[2].partition("@")[0]


async def psap_calls(party: Pbx, node: tuple[str, int], number: str, call_id: str, *added: str) -> None:
    data = request(
        uri=f"sip:{number}@{node[0]}:{node[1]}", source=party.hop, branch=f"z9hG4bK{call_id}", call_id=call_id,
        from_tag="psap", added=added,
    )  # fmt: skip
    await party.send(data, node)


async def final_of(party: Pbx, call_id: str) -> Response:
    return await party.expect(
        lambda m: isinstance(m, Response) and m.call_id == call_id and m.cseq[1] == "INVITE" and m.status >= 200
    )


def invite_at(site: Site, call_id: str):
    return lambda m: isinstance(m, Request) and m.method == "INVITE" and m.call_id == call_id


async def test_a_psap_that_calls_the_number_back_reaches_the_caller(tmp_path: Path, keys: KeyRing) -> None:
    """E-09: 911 from a line without a number, answered, hung up; the number it was lent leads back to it, marked; the
    call is a call like any other to its end, and all of it is on record.
    """
    carrier, site = await parties(tmp_path, keys)
    try:
        async with edge(tmp_path, keys, snapshot_of(carrier)) as node:
            number = number_sent(carrier, await emergency(site, node.udp, "desk102"))
            assert number == ELINS[0]
            await psap_calls(carrier, node.udp, number, "back-1")
            invite = await site.expect(invite_at(site, "back-1"))
            assert invite.request_uri == f"sip:desk102@{PBX_IP}:{site.port}"
            assert invite.headers("Priority") == ["psap-callback"]
            answer = await final_of(carrier, "back-1")
            assert answer.status == 200
            contact = (answer.header("Contact") or "").strip("<>")
            for cseq, method in ((1, "ACK"), (2, "BYE")):
                data = request(
                    method, contact, source=carrier.hop, branch=f"z9hG4bKback{method}", call_id="back-1", cseq=cseq,
                    from_tag="psap", to_tag="site", routes=route_set(answer), body=b"",
                )  # fmt: skip
                await carrier.send(data, node.udp)
            await site.expect(lambda m: isinstance(m, Request) and m.method == "BYE" and m.call_id == "back-1")
            entry = await node.entry("callback")
            call = await node.entry("call")
            assert (entry["call"], entry["number"], entry["psap"], entry["orphan"]) == (call["id"], number, True, False)
            assert call["elin"] == number
            outcome = await node.entry("callback_outcome")
            assert (outcome["id"], outcome["outcome"], outcome["status"]) == (entry["id"], "answered", 200)
            await node.entry("callback_ended", lambda each: each["id"] == entry["id"])
    finally:
        await carrier.close()
        await site.close()


async def test_three_callers_on_a_pool_of_two_and_a_restart_between(tmp_path: Path, keys: KeyRing) -> None:
    """E-09: the oldest number is taken, the operator is warned; after a kill a new SIP process knows who has which."""
    carrier, site = await parties(tmp_path, keys)
    try:
        async with edge(tmp_path, keys, snapshot_of(carrier)) as node:
            sent = [number_sent(carrier, await emergency(site, node.udp, f"desk{n}")) for n in (102, 103, 104)]
            assert sent == [ELINS[0], ELINS[1], ELINS[0]]
            await node.logs("elin_low")
            await node.logs("elin_exhausted")
            await node._wait(lambda: True if lent(tmp_path) == 3 else None)
            node.process.kill()
            await node.ended()
        async with edge(tmp_path, keys) as node:
            for number, user in zip(ELINS, ("desk104", "desk103"), strict=True):
                await psap_calls(carrier, node.udp, number, f"back-{user}")
                invite = await site.expect(invite_at(site, f"back-{user}"))
                assert invite.request_uri == f"sip:{user}@{PBX_IP}:{site.port}"
                assert invite.headers("Priority") == ["psap-callback"]
    finally:
        await carrier.close()
        await site.close()


async def test_a_caller_who_cannot_be_had_leaves_the_psap_with_the_people_on_the_site(
    tmp_path: Path, keys: KeyRing
) -> None:
    """E-09: the phone is away, so is its extension; the on-site number answers, and the record says so."""
    carrier, site = await parties(tmp_path, keys)
    site.answers = {"desk102": 480, "102": 404}
    try:
        async with edge(tmp_path, keys, snapshot_of(carrier)) as node:
            number = number_sent(carrier, await emergency(site, node.udp, "desk102"))
            await psap_calls(carrier, node.udp, number, "back-2", "Priority: psap-callback")
            assert (await final_of(carrier, "back-2")).status == 200
            asked = [each.request_uri for each in site.requests("INVITE") if each.call_id == "back-2"]
            at = f"@{PBX_IP}:{site.port}"
            assert asked == [f"sip:desk102{at}", f"sip:102{at}", f"sip:+15185550100{at}"]
            outcome = await node.entry("callback_outcome")
            assert (outcome["orphan"], outcome["target"]) == (True, f"sip:+15185550100{at}")
    finally:
        await carrier.close()
        await site.close()


async def test_a_number_of_nobody_and_a_stranger_s_mark_lead_nowhere(tmp_path: Path, keys: KeyRing) -> None:
    """E-04: 404 for a carrier's wrong number; a stranger who says it is a PSAP is refused and on record."""
    carrier, site = await parties(tmp_path, keys)
    stranger = Pbx("udp", STRANGER_IP)
    await stranger.open()
    try:
        async with edge(tmp_path, keys, snapshot_of(carrier)) as node:
            await psap_calls(carrier, node.udp, "+15185559999", "wrong")
            assert (await final_of(carrier, "wrong")).status == 404
            await psap_calls(stranger, node.udp, ELINS[0], "swat", "Priority: psap-callback")
            assert (await final_of(stranger, "swat")).status == 403
            await node.entry("stranger", lambda each: each["source"]["ip"] == STRANGER_IP)
            assert site.requests("INVITE") == []
    finally:
        await carrier.close()
        await site.close()
        await stranger.close()


async def test_a_pbx_with_a_registrar_is_called_there(tmp_path: Path, keys: KeyRing) -> None:
    """E-09: not where its emergency call came from."""
    carrier, site = await parties(tmp_path, keys)
    registrar = Site("udp", "127.0.0.16")
    await registrar.open()
    made = snapshot_of(carrier)
    made["pbxs"][0] |= {"registrar_host": registrar.ip, "registrar_port": registrar.port, "transport": "udp"}
    try:
        async with edge(tmp_path, keys, made) as node:
            number = number_sent(carrier, await emergency(site, node.udp, "desk103"))
            await psap_calls(carrier, node.udp, number, "back-3")
            invite = await registrar.expect(invite_at(registrar, "back-3"))
            assert invite.request_uri == f"sip:desk103@{registrar.ip}:{registrar.port}"
            assert (await final_of(carrier, "back-3")).status == 200
    finally:
        for party in (carrier, site, registrar):
            await party.close()


def test_between_foreign_peers_a_call_back_rings_and_ends_like_any_other(tmp_path: Path, keys: KeyRing) -> None:
    """E-09: SIPp as PBX, as carrier and as PSAP: a whole 911, then a whole call to the number that was lent."""
    answer, call = SCENARIOS / "carrier_answer.xml", SCENARIOS / "pbx_call.xml"
    with (
        peers.sipp_carrier(tmp_path, answer) as port,
        peers.sipp_carrier(tmp_path, answer, ip=peers.PBX_IP, name="site") as site_port,
    ):
        made = peers.one_account(peers.trunk(peers.CARRIER_IP, port))
        made["lines"][0]["callback_number"] = None
        made["pbxs"][0] |= {"registrar_host": peers.PBX_IP, "registrar_port": site_port}
        made["numbers"] = [{"id": "number_1", "e164": ELINS[0], "location_id": "location_hq", "kind": "elin"}]
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", made) as node:
            peers.sipp_calls(tmp_path, call, node.udp)
            words = ["-s", ELINS[0], "-m", "1", "{}:{}".format(*node.udp)]
            psap = peers.sipp(tmp_path, "psap", *words, scenario=call, ip=peers.CARRIER_IP, port=ports.free_port())
            assert psap.wait(60.0) == 0, psap.words()
            peers.until(lambda: starting(tmp_path, "site", "BYE"), "the call back has ended")
    (invite,) = starting(tmp_path, "site", "INVITE")
    assert invite.startswith(f"INVITE sip:101@{peers.PBX_IP}:{site_port} SIP/2.0\r\n".encode())
    assert b"\r\nPriority: psap-callback\r\n" in invite
    assert b"P-Asserted-Identity: <sip:+15185550171@" in starting(tmp_path, "carrier", "INVITE")[0]
    entries, _position = JournalReader(tmp_path / "journal", keys).read_from()
    assert {"callback", "callback_outcome", "callback_ended"} <= {entry["type"] for entry in entries}


def starting(folder: Path, name: str, method: str) -> list[bytes]:
    return [message for message in peers.sipp_messages(folder, name) if message.startswith(method.encode() + b" ")]


async def test_a_disk_that_takes_no_loans_is_told_and_stops_no_call(tmp_path: Path, keys: KeyRing) -> None:
    """E-09: after a restart calls back would miss their callers: somebody must hear of it."""
    (tmp_path / "loans").write_text("a file where the folder should be")
    carrier, site = await parties(tmp_path, keys)
    try:
        async with edge(tmp_path, keys, snapshot_of(carrier)) as node:
            await emergency(site, node.udp, "desk102")
            assert "calls back may miss their callers" in await node.logs("loans_fault")
    finally:
        await carrier.close()
        await site.close()
