"""Digest against foreign peers: Kamailio as a carrier that challenges, and as a PBX that has to prove itself."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.crypto import KeyRing
from engine.e911.journal import JournalReader
from tests import peers, ports
from tests.peers import CARRIER_IP, FRONT_IP, KAMAILIO_ON_UDP

SCENARIOS = Path(__file__).parent / "sipp"
USER, SECRET = "acme", "open sesame"

CHALLENGING_CARRIER = (
    KAMAILIO_ON_UDP
    + """\
loadmodule "siputils.so"
loadmodule "auth.so"
modparam("auth", "secret", "a secret of the carrier's own")
modparam("auth", "qop", "{qop}")
modparam("auth", "nonce_count", 1)
modparam("auth", "nonce_expire", 60)
modparam("auth", "algorithm", "{algorithm}")
request_route {{
  if (method == "OPTIONS") {{ sl_send_reply("200", "OK"); exit; }}
  if (method == "ACK" && !has_totag()) {{ if (t_check_trans()) t_relay(); exit; }}
  if (method == "CANCEL") {{ if (t_check_trans()) t_relay(); exit; }}
  if (method != "ACK") {{
    if (!pv_proxy_authenticate("carrier.example", "{secret}", "0")) {{ proxy_challenge("carrier.example", "1"); exit; }}
    consume_credentials();
  }}
  if (has_totag()) {{ if (loose_route()) t_relay(); else if (method == "ACK" && t_check_trans()) t_relay(); exit; }}
  t_check_trans();
  record_route();
  $du = "sip:{to_ip}:{to_port}";
  if (!t_relay()) sl_reply_error();
}}
"""
)

PROVING_PBX = (
    KAMAILIO_ON_UDP
    + """\
loadmodule "siputils.so"
loadmodule "uac.so"
modparam("uac", "restore_mode", "none")
modparam("uac", "credential", "acme-pbx:callpoint:{secret}")
request_route {{
  if (has_totag()) {{ if (loose_route()) t_relay(); else if (method == "ACK" && t_check_trans()) t_relay(); exit; }}
  if (method == "CANCEL") {{ if (t_check_trans()) t_relay(); exit; }}
  t_check_trans();
  record_route();
  t_on_failure("PROVE");
  $du = "sip:{to_ip}:{to_port}";
  if (!t_relay()) sl_reply_error();
}}
failure_route[PROVE] {{
  if (t_check_status("401|407") && uac_auth()) {{ t_relay(); }}
}}
"""
)


@contextlib.contextmanager
def challenging_carrier(folder: Path, to_port: int, *, algorithm: str, qop: str) -> Iterator[int]:
    """A Kamailio that lets nothing pass without a proof, INVITE and BYE alike; yields its port."""
    port = ports.free_port(FRONT_IP)
    config = folder / "carrier.cfg"
    places = {"ip": FRONT_IP, "port": port, "to_ip": CARRIER_IP, "to_port": to_port}
    config.write_text(CHALLENGING_CARRIER.format(**places, secret=SECRET, algorithm=algorithm, qop=qop))
    words = [peers.command("kamailio"), "-f", str(config), "-DD", "-E", "-x", "fm", "-m", "64", "-M", "16"]
    peer = peers.spawn("challenger", [*words, "-Y", str(folder), "-P", str(folder / "kamailio.pid")], folder)
    try:
        peer.ready(lambda: peers.is_bound(FRONT_IP, port, "udp"))
        yield port
    finally:
        peer.stop()


def requests(folder: Path, name: str, method: str, way: str = "received") -> list[bytes]:
    found = peers.sipp_messages(folder, name, way)
    return [message for message in found if message.startswith(method.encode() + b" ")]


def header(message: bytes, name: str) -> list[str]:
    lines = message.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return [line.partition(":")[2].strip() for line in lines if line.lower().startswith(name.lower() + ":")]


def recorded(folder: Path, keys: KeyRing, kind: str) -> list[dict]:
    entries, _position = JournalReader(folder / "journal", keys).read_from()
    return [entry for entry in entries if entry["type"] == kind]


@pytest.mark.parametrize(("algorithm", "qop"), [("MD5", ""), ("SHA-256", "auth")])
def test_a_carrier_that_challenges_every_request_is_answered_and_the_pbx_never_learns(
    tmp_path: Path, keys: KeyRing, algorithm: str, qop: str
) -> None:
    """E-08: Kamailio checks our answers to its 407 for INVITE and BYE; SIPp as the PBX sees none of it."""
    with (
        peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml") as to_port,
        challenging_carrier(tmp_path, to_port, algorithm=algorithm, qop=qop) as port,
    ):
        trunk = peers.trunk(FRONT_IP, port) | {"auth_user": USER, "secret": SECRET}
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", peers.one_account(trunk)) as edge:
            peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", edge.udp)
            peers.until(lambda: requests(tmp_path, "carrier", "BYE"), "the BYE is behind the carrier")
    (invite,) = requests(tmp_path, "carrier", "INVITE")
    assert header(invite, "CSeq") == ["2 INVITE"]
    assert header(invite, "Proxy-Authorization") == []  # Kamailio consumed it
    assert [header(ack, "CSeq") for ack in requests(tmp_path, "carrier", "ACK")] == [["2 ACK"]]
    assert [header(bye, "CSeq") for bye in requests(tmp_path, "carrier", "BYE")] == [["6 BYE"]]
    at_pbx = [message.split(b"\r\n")[0] for message in peers.sipp_messages(tmp_path, "pbx")]
    assert not [line for line in at_pbx if b" 407 " in line or b" 401 " in line]
    attempts = recorded(tmp_path, keys, "attempt")
    assert [(each["number"], each["status"], each["outcome"]) for each in attempts] == [
        (1, 407, "challenged"),
        (2, 200, "answered"),
    ]
    assert len(recorded(tmp_path, keys, "ended")) == 1


def test_a_carrier_that_does_not_take_our_password_is_passed_over(tmp_path: Path, keys: KeyRing) -> None:
    """E-08: the next trunk answers; the PBX hears of no challenge."""
    with (
        peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml") as to_port,
        challenging_carrier(tmp_path, to_port, algorithm="MD5", qop="auth") as port,
    ):
        wrong = peers.trunk(FRONT_IP, port) | {"auth_user": USER, "secret": "wrong"}
        other = peers.trunk(CARRIER_IP, to_port, name="trunk_second", priority=20)
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", peers.one_account(wrong, other)) as edge:
            peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", edge.udp)
    outcomes = [(each["trunk_id"], each["outcome"]) for each in recorded(tmp_path, keys, "attempt")]
    assert outcomes == [("trunk_first", "challenged"), ("trunk_first", "refused"), ("trunk_second", "answered")]


@contextlib.contextmanager
def proving_pbx(folder: Path, to: tuple[str, int], secret: str) -> Iterator[tuple[str, int]]:
    """A Kamailio at an address the engine does not know, that answers challenges with its `uac` module."""
    port = ports.free_port(FRONT_IP)
    config = folder / "pbx.cfg"
    config.write_text(PROVING_PBX.format(ip=FRONT_IP, port=port, to_ip=to[0], to_port=to[1], secret=secret))
    words = [peers.command("kamailio"), "-f", str(config), "-DD", "-E", "-x", "fm", "-m", "64", "-M", "16"]
    peer = peers.spawn("prover", [*words, "-Y", str(folder), "-P", str(folder / "kamailio.pid")], folder)
    try:
        peer.ready(lambda: peers.is_bound(FRONT_IP, port, "udp"))
        yield FRONT_IP, port
    finally:
        peer.stop()


def digest_account(port: int) -> dict:
    account = peers.one_account(peers.trunk(CARRIER_IP, port), pbx_ip="192.0.2.77")
    account["pbxs"][0] |= {"auth_user": "acme-pbx", "secret": "open-sesame"}
    return account


def test_a_pbx_at_an_unknown_address_proves_itself_and_its_911_goes_through(tmp_path: Path, keys: KeyRing) -> None:
    """E-04: Kamailio answers our challenge; what it proved itself with stays with us."""
    with (
        peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml") as port,
        peers.edge(tmp_path, keys, tmp_path / "keys.toml", digest_account(port)) as edge,
        proving_pbx(tmp_path, edge.udp, "open-sesame") as front,
    ):
        peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", front)
    (invite,) = requests(tmp_path, "carrier", "INVITE")
    assert b"Authorization" not in invite
    (call,) = recorded(tmp_path, keys, "call")
    assert (call["pbx_id"], call["peer"]["ip"], call["flags"]) == ("pbx_1", FRONT_IP, [])
    assert recorded(tmp_path, keys, "stranger") == []


def test_who_shows_the_wrong_password_is_on_record_as_a_swatting_attempt(tmp_path: Path, keys: KeyRing) -> None:
    """E-04: the INVITE for 911 was challenged and refused; no trunk heard of it."""
    with (
        peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml") as port,
        peers.edge(tmp_path, keys, tmp_path / "keys.toml", digest_account(port)) as edge,
        proving_pbx(tmp_path, edge.udp, "guessed") as front,
        pytest.raises(peers.PeerFailed, match="403 Forbidden"),
    ):
        peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", front)
    assert requests(tmp_path, "carrier", "INVITE") == []
    (stranger,) = recorded(tmp_path, keys, "stranger")
    assert (stranger["emergency"], stranger["source"]["ip"]) == (True, FRONT_IP)
    assert recorded(tmp_path, keys, "call") == []
