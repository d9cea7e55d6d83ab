"""TLS sessions fed in memory: who is believed, who is not, and certificates that change under way."""

import datetime as dt
import os
import ssl
from pathlib import Path

import pytest
import trustme

from engine.sip.tls import Certificates, TlsFiles, TlsSession, names_of, tls_reason
from tests.certificates import files_of, written

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def sessions(server: TlsFiles, client: TlsFiles, host: str = "trunk.example") -> tuple[TlsSession, TlsSession]:
    ours, theirs = Certificates(server), Certificates(client).towards_servers()
    assert ours.server is not None
    return TlsSession(ours.server, is_server=True), TlsSession(theirs, is_server=False, host=host)


def shake(server: TlsSession, client: TlsSession) -> None:
    """Until both are ready; raises what either of them says."""
    client.feed(b"")
    for _ in range(10):
        to_server, fault = client.take(), None
        try:
            server.feed(to_server)
        except ssl.SSLError as exc:
            fault = exc
        if fault is not None:
            raise fault
        client.feed(server.take())
        if client.is_ready and server.is_ready:
            return
    raise AssertionError("no end of the handshake")


def test_what_one_side_seals_the_other_reads(tmp_path: Path, authority: trustme.CA) -> None:
    """E-18: split at any byte; the end is said by both."""
    server, client = sessions(files_of(tmp_path, authority, "trunk.example"), written(tmp_path, authority))
    assert client.names() == ()
    shake(server, client)
    assert client.names() == ("trunk.example",)
    assert server.names() == ()
    sealed, clear = client.seal(b"OPTIONS sip:x SIP/2.0\r\n" * 3000), b""
    for start in range(0, len(sealed), 777):
        clear += server.feed(sealed[start : start + 777])
    assert clear == b"OPTIONS sip:x SIP/2.0\r\n" * 3000
    server.feed(client.close())
    assert server.is_ended
    assert TlsSession(Certificates(TlsFiles()).towards_servers(), is_server=False, host="x").close() == b""


def test_a_server_must_prove_the_name_that_was_asked_for(tmp_path: Path, authority: trustme.CA) -> None:
    """E-04: the right authority and another name: refused, in words."""
    server, client = sessions(files_of(tmp_path, authority, "other.example"), written(tmp_path, authority))
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        shake(server, client)
    assert "not valid for 'trunk.example'" in tls_reason(refused.value)


def test_an_address_is_proven_by_an_address(tmp_path: Path, authority: trustme.CA) -> None:
    """E-04: a trunk configured by its IP address is not simply believed."""
    server, client = sessions(files_of(tmp_path, authority, "127.0.0.3"), written(tmp_path, authority), "127.0.0.3")
    shake(server, client)
    server, client = sessions(files_of(tmp_path, authority, "trunk.example"), written(tmp_path, authority), "127.0.0.3")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, client)


def test_an_expired_certificate_and_a_foreign_authority_are_refused(tmp_path: Path, authority: trustme.CA) -> None:
    """E-04: with the reason an operator can act on."""
    late = files_of(tmp_path, authority, "trunk.example", not_after=NOW - dt.timedelta(days=1))
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        shake(*sessions(late, written(tmp_path, authority)))
    assert tls_reason(refused.value) == "certificate has expired"
    foreign = files_of(tmp_path, trustme.CA(), "trunk.example")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"issuer|self-signed"):
        shake(*sessions(foreign, written(tmp_path, authority)))


def test_a_client_is_named_by_its_certificate_and_may_have_none(tmp_path: Path, authority: trustme.CA) -> None:
    """E-04: asked for, verified when given, never demanded of a PBX that is known by its address."""
    clients = trustme.CA()
    server_files = files_of(tmp_path, authority, "trunk.example", client_ca=clients)
    client_files = files_of(tmp_path, clients, "PBX.Example.com", server_ca=authority)
    server, client = sessions(server_files, client_files)
    shake(server, client)
    assert server.names() == ("pbx.example.com",)
    server, client = sessions(server_files, written(tmp_path, authority))
    shake(server, client)
    assert server.names() == ()
    stranger = files_of(tmp_path, trustme.CA(), "pbx.example.com", server_ca=authority)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(*sessions(server_files, stranger))


def test_old_versions_of_tls_are_not_spoken(tmp_path: Path, authority: trustme.CA) -> None:
    """E-18: TLS 1.2 at least."""
    server = Certificates(files_of(tmp_path, authority, "a.example")).server
    for context in (server, Certificates(TlsFiles()).towards_servers()):
        assert context is not None
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION


def test_what_is_no_tls_is_an_error(tmp_path: Path, authority: trustme.CA) -> None:
    """E-18: SIP in clear on the TLS port."""
    server, _ = sessions(files_of(tmp_path, authority, "trunk.example"), written(tmp_path, authority))
    with pytest.raises(ssl.SSLError):
        server.feed(b"OPTIONS sip:callpoint.example SIP/2.0\r\n\r\n")


def test_changed_files_are_read_again_and_broken_ones_leave_what_was(tmp_path: Path, authority: trustme.CA) -> None:
    """E-03: a certificate is renewed without a restart; a slip with it ends no service."""
    files = files_of(tmp_path, authority, "trunk.example")
    assert files.certificate is not None
    assert files.key is not None
    certificates = Certificates(files)
    first = certificates.server
    assert not certificates.is_changed
    renewed = authority.issue_cert("trunk.example", "new.example")
    renewed.cert_chain_pems[0].write_to_path(files.certificate)
    assert certificates.is_changed
    certificates.refresh()
    assert certificates.server is first
    assert "The one read before serves on." in certificates.faults[0]
    renewed.private_key_pem.write_to_path(files.key)
    os.utime(files.key, (1, 1))  # the clock of the file system may stand still between two writes
    assert certificates.is_changed
    certificates.refresh()
    assert certificates.server is not first
    assert certificates.faults == ()


def test_no_usable_certificate_is_said_and_no_question_is_asked(tmp_path: Path, authority: trustme.CA) -> None:
    """E-03: an encrypted key must not wait for somebody to type; UDP and TCP go on."""
    files = files_of(tmp_path, authority, "trunk.example")
    assert files.key is not None
    files.key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")
    certificates = Certificates(files)
    assert certificates.server is None
    assert len(certificates.faults) == 1
    with pytest.raises(OSError, match="Calls skip trunks over TLS until then"):
        certificates.towards_servers()
    assert len(certificates.faults) == 2
    assert "Calls over UDP and TCP go on" in certificates.faults[0]
    with pytest.raises(OSError, match="No such file"):
        Certificates(TlsFiles(server_ca=tmp_path / "nowhere.pem")).towards_servers()


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        ({}, ()),
        ({"subject": ((("commonName", "PBX.example"),),)}, ("pbx.example",)),
        (
            {
                "subject": ((("commonName", "ignored"),),),
                "subjectAltName": (("DNS", "A.example"), ("URI", "sip:b.example"), ("DNS", "a.example")),
            },
            ("a.example", "b.example"),
        ),
        ({"subjectAltName": (("URI", "sip:alice@b.example"), ("URI", "https://c.example"))}, ()),
        ({"subjectAltName": (("URI", "SIPS:b.example;transport=tls"), ("IP Address", "192.0.2.1"))}, ("b.example",)),
    ],
)
def test_the_names_a_certificate_speaks_for(certificate: dict[str, object], names: tuple[str, ...]) -> None:
    """E-04: RFC 5922 §7.1."""
    assert names_of(certificate) == names


def test_reasons_are_words() -> None:
    assert tls_reason(ssl.SSLError(1, "x")) == "not TLS"
    assert tls_reason(ConnectionRefusedError(111, "Connection refused")) == "Connection refused"
    assert tls_reason(ValueError("odd")) == "odd"
