"""Whole calls over TCP and over TLS, through Kamailio and through Callpoint's edge, in the same run."""

import contextlib
import ssl
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import trustme

from engine import crypto
from engine.sip.tls import TlsFiles
from tests import peers
from tests.bench import machine
from tests.bench.generator import Generator
from tests.bench.plan import Plan
from tests.bench.sip import Element, Say, Sustained, search, sustain
from tests.bench.wires import Streams

IPS = (peers.NODE_IP, peers.PBX_IP, peers.CARRIER_IP)


class Papers:
    """One certificate for everybody, of an authority that everybody knows."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        issued = authority.issue_cert(*IPS, key_type=trustme.KeyType.ECDSA)
        certificate, key, ca = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        authority.cert_pem.write_to_path(str(ca))
        self.files = TlsFiles(certificate, key, None, ca)
        self.serve = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.connect = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.connect)
        for context in (self.serve, self.connect):
            issued.configure_cert(context)

    def wires(self, transport: str) -> tuple[Streams, Streams]:
        """Caller and callee."""
        if transport == "tcp":
            return Streams(peers.PBX_IP, calls=True), Streams(peers.CARRIER_IP, calls=False)
        tls = {"serve": self.serve, "connect": self.connect}
        return Streams(peers.PBX_IP, calls=True, **tls), Streams(peers.CARRIER_IP, calls=False, **tls)


def measure(plan: Plan, say: Say) -> list[Sustained]:
    """Kamailio's and the edge's sustained rate over TCP, then over TLS."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        papers = Papers(Path(name))
        for transport in ("tcp", "tls"):
            for element, make in (("Kamailio", _kamailio), ("Callpoint edge", edge)):
                rows.append(_one(f"{element} over {transport.upper()}", transport, make, papers, plan, say))
    return rows


Maker = Callable[[tuple[str, int], str, Papers], contextlib.AbstractContextManager[Element]]


def _one(name: str, transport: str, make: Maker, papers: Papers, plan: Plan, say: Say) -> Sustained:
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP, papers.wires(transport))

    def start(far: tuple[str, int]) -> contextlib.AbstractContextManager[Element]:
        return make(far, transport, papers)

    try:
        rate = search(generator, name, start, plan, say)
        return sustain(generator, name, start, rate, plan, say)
    finally:
        generator.close()


@contextlib.contextmanager
def _kamailio(far: tuple[str, int], transport: str, papers: Papers) -> Iterator[Element]:
    tls = papers.files if transport == "tls" else None
    with (
        tempfile.TemporaryDirectory() as folder,
        peers.kamailio(
            Path(folder), far, core=machine.SUT_CORE, shared_mb=2048, also=transport, onward=transport, tls=tls
        ) as (peer, address),
    ):
        yield peer.pid, address


@contextlib.contextmanager
def edge(far: tuple[str, int], transport: str, papers: Papers) -> Iterator[Element]:
    """Callpoint's SIP process with a trunk and a default route over that transport."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = crypto.create(folder / "keys.toml")
        route = f"sip:{far[0]}:{far[1]};transport={transport}"
        account = peers.one_account(peers.trunk(*far, transport=transport), default_route=route)
        tls = papers.files if transport == "tls" else None
        with peers.edge(folder, keys, folder / "keys.toml", account, core=machine.SUT_CORE, tls=tls) as running:
            yield running.peer.pid, running.tls if transport == "tls" else running.tcp
