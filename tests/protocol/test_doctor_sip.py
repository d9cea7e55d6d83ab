"""What doctor says of listeners, certificates and trunks over TLS."""

import datetime as dt
from pathlib import Path

import pytest
import trustme

from engine import config as configuration
from engine.config import Config, Listen
from engine.doctor.sip import (
    certificate_findings,
    credentials_findings,
    listener_findings,
    own_place,
    trunk_finding,
)
from engine.edge.workers import OWN_PORTS_AFTER
from engine.sip.tls import TlsFiles, server_context
from tests.certificates import files_of
from tests.protocol.elements import StreamPeer, UdpPeer
from tests.siptest import response

pytestmark = pytest.mark.enable_socket
NOW = dt.datetime.now(dt.UTC)


def loaded(files: TlsFiles, **keys: str) -> Config:
    named = {
        "tls_cert": files.certificate,
        "tls_key": files.key,
        "client_ca": files.client_ca,
        "tls_ca": files.server_ca,
    }
    values = {"udp": "", "tcp": "127.0.0.1:9"} | {name: str(path) for name, path in named.items() if path} | keys
    return configuration.load(None, {f"CALLPOINT_SIP__{name.upper()}": value for name, value in values.items()})


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize(
    ("days", "level", "said"),
    [(90, "good", "for a.example, 127.0.0.1, until"), (5, "warning", "expires on"), (-1, "bad", "expired on")],
)
def test_a_certificate_that_runs_out_is_told_ahead(
    tmp_path: Path, authority: trustme.CA, days: int, level: str, said: str
) -> None:
    """E-18: weeks before, then at once."""
    files = files_of(tmp_path, authority, "a.example", "127.0.0.1", not_after=NOW + dt.timedelta(days=days))
    (finding,) = certificate_findings(loaded(files), NOW)
    assert (finding.level, said in finding.detail) == (level, True)


def test_a_key_of_another_certificate_is_found(tmp_path: Path, authority: trustme.CA) -> None:
    """E-18: the commonest slip of a renewal."""
    one, other = (files_of(tmp_path, authority, "a.example") for _ in range(2))
    (finding,) = certificate_findings(loaded(TlsFiles(one.certificate, other.key)), NOW)
    assert finding.level == "bad"
    assert "key values mismatch" in finding.detail
    assert certificate_findings(loaded(TlsFiles()), NOW) == []


def test_tls_without_a_certificate_is_a_fault_of_the_configuration() -> None:
    """E-18: none is made up."""
    with pytest.raises(configuration.ConfigFault) as refused:
        loaded(TlsFiles(), tls="0.0.0.0:5061")
    assert "needs tls_cert and tls_key; none is made up" in str(refused.value)


def test_without_an_authority_for_pbxs_a_warning_says_what_that_means(tmp_path: Path, authority: trustme.CA) -> None:
    files = files_of(tmp_path, authority, "a.example", not_after=NOW + dt.timedelta(days=90))
    warned = certificate_findings(loaded(files, tls="127.0.0.1:5061"), NOW)
    assert [finding.level for finding in warned] == ["good", "warning"]


async def test_listeners_are_asked_each_in_its_own_way(tmp_path: Path, authority: trustme.CA) -> None:
    """E-18: a TCP connection to a TLS port proves nothing."""
    files = files_of(tmp_path, authority, "a.example")
    secure, plain = StreamPeer(server_context(files)), StreamPeer()
    await secure.listen()
    await plain.listen()
    found = await listener_findings(
        loaded(files, tcp=f"127.0.0.1:{plain.hop.port}", tls=f"127.0.0.1:{secure.hop.port}")
    )
    assert [(each.level, each.detail.split()[2]) for each in found] == [("good", "tcp"), ("good", "tls")]
    await secure.close()
    (_, tls) = await listener_findings(
        loaded(files, tcp=f"127.0.0.1:{plain.hop.port}", tls=f"127.0.0.1:{plain.hop.port}")
    )
    assert tls.level == "warning"
    await plain.close()


async def test_a_trunk_over_tls_must_prove_its_name(tmp_path: Path, authority: trustme.CA) -> None:
    """E-18: the reason is in the finding."""
    carrier = StreamPeer(server_context(files_of(tmp_path, authority, "localhost")))
    await carrier.listen()
    port, believer = carrier.hop.port, files_of(tmp_path, authority, "a.example", server_ca=authority)
    served, unserved = loaded(believer, tls="127.0.0.1:5061"), loaded(believer)
    good = await trunk_finding("trunk", "localhost", port, "tls", served)
    assert good.level == "good", good.detail
    partly = await trunk_finding("trunk", "localhost", port, "tls", unserved)
    assert partly.level == "warning"
    bad = await trunk_finding("trunk", "127.0.0.1", port, "tls", served)
    assert "IP address mismatch" in bad.detail
    foreign = await trunk_finding("trunk", "localhost", port, "tls", loaded(files_of(tmp_path, authority, "a.example")))
    assert "unable to get local issuer certificate" in foreign.detail
    await carrier.close()


async def test_trunks_over_udp_and_tcp_and_without_an_address() -> None:
    """E-18: each is asked as a call would go."""
    plain = StreamPeer()
    await plain.listen()
    udp = UdpPeer()
    await udp.open()
    udp.datagram_received = lambda data, addr: udp.transport.sendto(response(data, 200), addr)  # type: ignore[method-assign]
    config = loaded(TlsFiles())
    ip, port = plain.hop.ip, plain.hop.port
    assert (await trunk_finding("t", ip, port, "tcp", config)).level == "good"
    assert (await trunk_finding("t", ip, udp.hop.port, "udp", config)).level == "good"
    assert (await trunk_finding("t", "no such host", 5060, "udp", config)).detail.startswith(
        "no such host has no address"
    )
    await plain.close()
    udp.transport.close()
    assert (await trunk_finding("t", ip, port, "tcp", config)).level == "bad"
    silent = await trunk_finding("t", ip, udp.hop.port, "udp", config)
    assert (silent.level, "switch the asking off on the trunk's page" in silent.detail) == ("bad", True)
    spoken_for = await trunk_finding("t", ip, udp.hop.port, "udp", config, is_up=True)
    assert (spoken_for.level, "though a call was answered there lately" in spoken_for.detail) == ("warning", True)
    unasked = await trunk_finding("t", ip, udp.hop.port, "udp", config, pings=False)
    assert (unasked.level, unasked.detail.endswith("over udp, not asked whether it answers")) == ("good", True)


async def test_every_worker_is_asked_at_the_ports_of_its_own() -> None:
    """E-18: answers come back to those; a worker that had to take another one is told of before a firewall does."""
    here = StreamPeer()
    await here.listen()
    shared = here.hop.port - OWN_PORTS_AFTER["tcp"]  # its first worker would listen where the peer does
    found = await listener_findings(loaded(TlsFiles(), tcp=f"127.0.0.1:{shared}", workers="2"))
    told = [each.detail for each in found if each.detail.startswith("worker")]
    assert not any(each.startswith("worker 0") for each in told)
    await here.close()
    found = await listener_findings(loaded(TlsFiles(), tcp=f"127.0.0.1:{shared}", workers="2"))
    told = [each.detail for each in found if each.level == "warning"]
    assert any(each.startswith(f"worker 0 is not on tcp 127.0.0.1:{here.hop.port}:") for each in told)
    found = await listener_findings(loaded(TlsFiles(), tcp=f"127.0.0.1:{shared}"))
    assert not any("worker" in each.detail for each in found)
    assert own_place(Listen("127.0.0.1", 65_530), "tcp", 0) is None
    assert own_place(Listen("::1", 5061), "tls", 1) == Listen("::1", 5172)


def test_a_trunk_s_user_without_a_password_is_told_of() -> None:
    """E-07: nothing else says so before the carrier challenges a 911 call."""
    assert credentials_findings("trunk", None, has_secret=False) == []
    assert credentials_findings("trunk", "acme", has_secret=True) == []
    (told,) = credentials_findings("trunk", "acme", has_secret=False)
    assert (told.level, "911 too" in told.detail) == ("warning", True)
