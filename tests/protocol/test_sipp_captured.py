"""What a packet reader that is not ours makes of a 911 call on the wire."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.crypto import KeyRing
from tests import peers
from tests.peers import CARRIER_IP, NODE_IP

SCENARIOS = Path(__file__).parent / "sipp"


def tshark(*words: str) -> str:
    done = subprocess.run([peers.command("tshark"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def capture(folder: Path, ports: list[int]) -> Iterator[Path]:
    """Everything on those UDP ports of the loopback, into a file; begun when a datagram of ours was seen.

    Skips the test where this user may not capture.
    """
    file, knock = folder / "call.pcapng", peers.free_port(NODE_IP)
    wanted = " or ".join(f"udp port {port}" for port in [*ports, knock])
    words = [peers.command("tshark"), "-i", "lo", "-f", wanted, "-w", str(file), "-P", "-l", "-n"]
    peer = peers.spawn("tshark", words, folder)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

            def seen() -> bool:
                sock.sendto(b"knock", (NODE_IP, knock))
                return f" {knock} " in peer.words()

            try:
                peer.ready(seen)
            except peers.PeerFailed as exc:
                if "ermission" in str(exc) or "not permitted" in str(exc):
                    pytest.skip("this user may not capture packets: run as root or with the right to use dumpcap")
                raise
            yield file
            before = peer.words().count(f" {knock} ")
            peers.until(lambda: seen() and peer.words().count(f" {knock} ") > before, "all packets are in the file")
    finally:
        peer.stop()


def test_wireshark_finds_nothing_malformed_in_a_911_call_and_reads_its_location(tmp_path: Path, keys: KeyRing) -> None:
    """E-06: every message of the call dissects, on both sides of the edge, and the PIDF-LO as XML inside the INVITE."""
    with peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml") as port:
        account = peers.one_account(peers.trunk(CARRIER_IP, port))
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", account) as edge:
            ports = [edge.udp[1], port]
            with capture(tmp_path, ports) as file:
                peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", edge.udp)
    read = ["-r", str(file), "-n", *(word for each in ports for word in ("-d", f"udp.port=={each},sip"))]
    methods = tshark(*read, "-Y", "sip.Request-Line", "-T", "fields", "-e", "sip.Method").split()
    assert [methods.count(each) for each in ("INVITE", "ACK", "BYE")] == [2, 2, 2]
    assert tshark(*read, "-Y", "_ws.malformed || _ws.expert.severity == error") == ""
    sent = f"sip.Method == INVITE && udp.dstport == {port}"
    xml = tshark(*read, "-Y", sent, "-T", "fields", "-e", "xml.tag", "-e", "xml.cdata", "-e", "sdp.media")
    for expected in ("geopriv", "HNO>", "120", "Albany", "audio 40000"):
        assert expected in xml, xml
    geolocation = tshark(*read, "-Y", sent, "-T", "fields", "-e", "sip.Geolocation")
    assert geolocation.strip().startswith("<cid:")
