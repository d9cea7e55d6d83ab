"""What a packet reader that is not ours makes of a 911 call on the wire."""

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from engine.crypto import KeyRing
from engine.sip.message import Request, parse_message
from engine.sip.stream import Framer
from engine.sip.tls import server_context
from tests import peers, ports
from tests.certificates import files_of
from tests.peers import CARRIER_IP, NODE_IP
from tests.siptest import response

SCENARIOS = Path(__file__).parent / "sipp"


def tshark(*words: str) -> str:
    done = subprocess.run([peers.command("tshark"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def capture(folder: Path, seen: list[int]) -> Iterator[Path]:
    """Everything on those ports of the loopback, into a file; begun when a datagram of ours was seen.

    Skips the test where this user may not capture.
    """
    file, first, last = folder / "call.pcapng", ports.free_port(NODE_IP), ports.free_port(NODE_IP)
    wanted = " or ".join(f"port {port}" for port in [*seen, first, last])
    words = [peers.command("tshark"), "-i", "lo", "-f", wanted, "-w", str(file), "-P", "-l", "-n"]
    peer = peers.spawn("tshark", words, folder)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

            def seen(knock: int) -> bool:
                sock.sendto(b"knock", (NODE_IP, knock))
                return f" {knock} " in peer.words()

            try:
                peer.ready(lambda: seen(first))
            except peers.PeerFailed as exc:
                if "ermission" in str(exc) or "not permitted" in str(exc):
                    pytest.skip("this user may not capture packets: run as root or with the right to use dumpcap")
                raise
            yield file
            peers.until(lambda: seen(last), "all packets are in the file")
    finally:
        peer.stop()


def test_wireshark_finds_nothing_malformed_in_a_911_call_and_reads_its_location(tmp_path: Path, keys: KeyRing) -> None:
    """E-06: every message of the call dissects, on both sides of the edge, and the PIDF-LO as XML inside the INVITE."""
    with peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml") as port:
        account = peers.one_account(peers.trunk(CARRIER_IP, port))
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", account) as edge:
            seen = [edge.udp[1], port]
            with capture(tmp_path, seen) as file:
                peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", edge.udp)
    read = ["-r", str(file), "-n", *(word for each in seen for word in ("-d", f"udp.port=={each},sip"))]
    methods = tshark(*read, "-Y", "sip.Request-Line", "-T", "fields", "-e", "sip.Method").split()
    assert [methods.count(each) for each in ("INVITE", "ACK", "BYE")] == [2, 2, 2]
    assert tshark(*read, "-Y", "_ws.malformed || _ws.expert.severity == error") == ""
    sent = f"sip.Method == INVITE && udp.dstport == {port}"
    xml = tshark(*read, "-Y", sent, "-T", "fields", "-e", "xml.tag", "-e", "xml.cdata", "-e", "sdp.media")
    for expected in ("geopriv", "HNO>", "120", "Albany", "audio 40000"):
        assert expected in xml, xml
    geolocation = tshark(*read, "-Y", sent, "-T", "fields", "-e", "sip.Geolocation")
    assert geolocation.strip().startswith("<cid:")


def test_wireshark_finds_nothing_malformed_in_a_911_call_over_tcp(tmp_path: Path, keys: KeyRing) -> None:
    """E-18: every message on both streams dissects, whole."""
    with peers.sipp_carrier(tmp_path, SCENARIOS / "carrier_answer.xml", transport="tcp") as port:
        account = peers.one_account(peers.trunk(CARRIER_IP, port, transport="tcp"))
        with peers.edge(tmp_path, keys, tmp_path / "keys.toml", account) as edge:
            seen = [edge.tcp[1], port]
            with capture(tmp_path, seen) as file:
                peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", edge.tcp, transport="tcp")
    read = ["-r", str(file), "-n", *(word for each in seen for word in ("-d", f"tcp.port=={each},sip"))]
    methods = tshark(*read, "-Y", "sip.Request-Line", "-T", "fields", "-e", "sip.Method").replace(",", " ").split()
    assert [methods.count(each) for each in ("INVITE", "ACK", "BYE")] == [2, 2, 2]
    assert tshark(*read, "-Y", "_ws.malformed || _ws.expert.severity == error") == ""


def test_wireshark_reads_a_911_call_over_tls_with_the_keys_of_its_carrier(tmp_path: Path, keys: KeyRing) -> None:
    """E-18: what leaves over TLS is SIP once opened, and nothing of it can be read before."""
    secrets, authority = tmp_path / "secrets.log", trustme.CA()
    context = server_context(files_of(tmp_path, authority, CARRIER_IP))
    context.keylog_filename = str(secrets)
    own = files_of(tmp_path, authority, "callpoint.example", server_ca=authority)
    with answering(context) as port:
        account = peers.one_account(peers.trunk(CARRIER_IP, port, transport="tls"))
        with (
            capture(tmp_path, [port]) as file,
            peers.edge(tmp_path, keys, tmp_path / "keys.toml", account, tls=own) as edge,
        ):
            peers.sipp_calls(tmp_path, SCENARIOS / "pbx_call.xml", edge.udp)
    words = ["-r", str(file), "-n", "-d", f"tcp.port=={port},tls", "-d", f"tls.port=={port},sip"]
    opened = [*words, "-o", f"tls.keylog_file:{secrets}"]
    methods = tshark(*opened, "-Y", "sip.Request-Line", "-T", "fields", "-e", "sip.Method").replace(",", " ").split()
    assert [methods.count(each) for each in ("INVITE", "ACK", "BYE")] == [1, 1, 1]
    assert tshark(*opened, "-Y", "_ws.malformed || _ws.expert.severity == error") == ""
    assert tshark(*words, "-Y", "sip") == ""
    versions = tshark(
        *words, "-Y", "tls.handshake.type == 2", "-T", "fields", "-e", "tls.handshake.extensions.supported_version"
    )
    assert set(versions.split()) == {"0x0304"}


@contextmanager
def answering(context: ssl.SSLContext) -> Iterator[int]:
    """A carrier over TLS in a thread of its own, which answers everything but an ACK with 200; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = Framer()
        while segment := await reader.read(65_536):
            for data in framer.feed(segment):
                got = parse_message(data)
                if isinstance(got, Request) and got.method != "ACK":
                    contact = f"sip:psap@{CARRIER_IP}:{port};transport=tls"
                    writer.write(response(data, 200, contact=contact))

    async def main() -> None:
        server = await asyncio.start_server(serve, CARRIER_IP, port, ssl=context)
        async with server:
            bound.set()
            await asyncio.to_thread(done.wait)

    port, bound, done = ports.free_port(CARRIER_IP), threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    try:
        assert bound.wait(peers.READY_WITHIN_S)
        yield port
    finally:
        done.set()
        thread.join(peers.STOP_WITHIN_S)
