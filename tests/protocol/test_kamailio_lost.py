"""Kamailio's `lost` module as the foreign client of HELD: it asks this node where the caller is and conveys it itself.

Its `lost_held_query` puts the whole locationResponse into the script's variable (read and measured in 5.6.3), so the
script then fetches the location URI with `lost_held_dereference`, whose Accept header asks for a bare PIDF-LO.
"""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
from lxml import etree

from engine.e911.pidf import read_pidf
from tests import lost_server, peers, ports
from tests.factories import HEADQUARTERS
from tests.lost_server import LostServer
from tests.node import Node
from tests.peers import CARRIER_IP, FRONT_IP, KAMAILIO_ON_UDP, Peer
from tests.unit.e911.held_requests import civic

SCENARIOS = Path(__file__).parent / "sipp"
KAMAILIO_LOST = (
    KAMAILIO_ON_UDP
    + """\
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "textopsx.so"
loadmodule "xlog.so"
loadmodule "http_client.so"
loadmodule "lost.so"
modparam("http_client", "httpcon", "held=>{held_url}")
modparam("http_client", "httpcon", "mapping=>{lost_url}")
modparam("http_client", "connection_timeout", 2)
modparam("lost", "location_type", "civic geodetic locationURI")
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if (has_totag()) {{
    if (loose_route()) {{ t_relay(); exit; }}
    if (method == "ACK") {{ if (t_check_trans()) t_relay(); exit; }}
    sl_send_reply("404", "Not Here");
    exit;
  }}
  if (method == "CANCEL") {{ if (t_check_trans()) t_relay(); exit; }}
  t_check_trans();
  if (method == "INVITE") route(LOCATE);
  record_route();
  $du = "sip:{to_ip}:{to_port}";
  if (!t_relay()) sl_reply_error();
}}
route[LOCATE] {{
  $var(code) = lost_held_query("held", "$fu", "$var(answer)", "$var(url)", "$var(error)");
  xlog("L_ERR", "HELD $var(code) [$var(error)]\\n");
  if ($var(code) != 200) return;
  $var(code) = lost_held_dereference("$var(url)", "emergencyDispatch", "civic geodetic", "$var(pidf)", "$var(error)");
  xlog("L_ERR", "DEREFERENCE $var(code) [$var(error)]\\n");
  if ($var(code) != 202) return;
  $var(code) = lost_query("mapping", "$var(pidf)", "urn:service:sos", "$var(psap)", "$var(name)", "$var(error)");
  xlog("L_ERR", "LOST $var(code) [$var(psap)]\\n");
  set_body_multipart();
  msg_apply_changes();
  append_body_part("$var(pidf)", "application/pidf+xml\\r\\nContent-ID: <held@kamailio.invalid>");
  append_hf("Geolocation: <cid:held@kamailio.invalid>, <$var(url)>\\r\\nGeolocation-Routing: yes\\r\\n");
  append_hf("X-Psap: $var(psap)\\r\\n");
  msg_apply_changes();
}}
"""
)


@contextlib.contextmanager
def kamailio_with_lost(folder: Path, to: tuple[str, int], held_url: str, lost_url: str) -> Iterator[tuple[Peer, tuple]]:
    """Kamailio that asks HELD about every caller and sends the call straight to a carrier."""
    port = ports.free_port(FRONT_IP)
    config = folder / "kamailio.cfg"
    config.write_text(
        KAMAILIO_LOST.format(
            ip=FRONT_IP, port=port, to_ip=to[0], to_port=to[1], held_url=held_url, lost_url=lost_url
        )
    )  # fmt: skip
    words = [peers.command("kamailio"), "-f", str(config), "-DD", "-E", "-m", "64", "-M", "16"]
    peer = peers.spawn("kamailio", [*words, "-Y", str(folder), "-P", str(folder / "kamailio.pid")], folder)
    try:
        peer.ready(lambda: peers.is_bound(FRONT_IP, port, "udp"))
        yield peer, (FRONT_IP, port)
    finally:
        peer.stop()


async def test_kamailio_learns_over_held_where_its_caller_is_and_conveys_it(tmp_path: Path, cases: Path) -> None:
    """E-13: HELD query by SIP URI, dereference to a bare PIDF-LO, LoST with that PIDF-LO; all by a foreign client."""
    (tmp_path / "node").mkdir()
    base = f"127.0.0.1:{ports.free_port('127.0.0.1')}"
    environment = {
        "CALLPOINT_PROVISIONING__LISTEN": base, "CALLPOINT_PROVISIONING__PUBLIC_URL": f"http://{base}",
    }  # fmt: skip
    async with Node(tmp_path / "node", environment=environment) as node, LostServer() as mapping:
        mapping.answers["/lost"] = lost_server.found()
        await node.set_up()
        location = await node.api("POST", "locations", {"name": "HQ", "civic_address": HEADQUARTERS})
        pbx = await node.api("POST", "pbxs", {"name": "Kamailio", "sources": ["127.0.0.1/32"]})
        line = {"extension": "101", "sip_user": "101", "pbx_id": pbx["id"], "location_id": location["id"]}
        await node.api("POST", "lines", line)
        with (
            peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml") as port,
            kamailio_with_lost(tmp_path, (CARRIER_IP, port), f"http://{base}/held", mapping.url) as (peer, front),
        ):
            await asyncio.to_thread(peers.sipp_calls, tmp_path, SCENARIOS / "pbx_call.xml", front)
            said = peer.words()
        assert re.findall(r"(HELD|DEREFERENCE|LOST) (\d+)", said) == [
            ("HELD", "200"), ("DEREFERENCE", "202"), ("LOST", "200"),
        ], said  # fmt: skip
        (invite,) = [each for each in peers.sipp_messages(tmp_path, "carrier") if each.startswith(b"INVITE ")]
        presence = invite[invite.index(b"<?xml") : invite.index(b"</presence>") + len(b"</presence>")]
        (carried,) = read_pidf(presence)
        assert carried.civic_address.as_dict() == HEADQUARTERS
        assert b"locationResponse" not in invite
        assert b"m=audio 40000 RTP/AVP 0 8 101" in invite
        assert b"X-Psap: sip:psap@albany.example.net" in invite
        ((_, asked, _),) = mapping.asked
        lost_server.schema().assertValid(etree.fromstring(asked))
        (url,) = re.findall(rb"Geolocation: <cid:[^>]+>, <(http[^>]+)>", invite)
        async with aiohttp.ClientSession() as client, client.get(url.decode()) as answer:
            assert civic(await answer.read()) == HEADQUARTERS
