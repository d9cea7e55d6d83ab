"""What `check-config` and `doctor` say of phones' certificates."""

import datetime as dt
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from engine.config import Config, load
from engine.doctor.phones import key_findings, phones_port_findings
from engine.errors import ConfigFault
from engine.provisioning.certificates import Authorities, read

NOW = dt.datetime.now(dt.UTC)
YEAR = dt.timedelta(days=365)


@pytest.fixture(scope="module")
def maker() -> trustme.CA:
    return trustme.CA(organization_name="Maker of Phones")


def configured(**provisioning: object) -> Config:
    return Config(provisioning=provisioning)  # type: ignore[arg-type]  # as the file gives it


def pems(folder: Path, authority: trustme.CA, *, not_after: dt.datetime | None = None) -> dict[str, Path]:
    issued = authority.issue_cert("phones.example", not_before=NOW - 2 * YEAR, not_after=not_after or NOW + YEAR)
    certificate, key = folder / "phones.pem", folder / "phones.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    return {"tls_cert": certificate, "tls_key": key}


def test_a_server_over_plain_http_has_nothing_to_be_looked_at() -> None:
    """P-18: no TLS, no finding."""
    assert phones_port_findings(configured(), NOW) == []


@pytest.mark.parametrize(
    ("not_after", "level"), [(NOW + YEAR, "good"), (NOW + dt.timedelta(days=9), "warning"), (NOW - YEAR, "bad")]
)
def test_the_certificate_that_phones_are_shown_is_looked_at(
    tmp_path: Path, maker: trustme.CA, not_after: dt.datetime, level: str
) -> None:
    """P-18: good, ending soon, ended."""
    (finding,) = phones_port_findings(configured(**pems(tmp_path, maker, not_after=not_after)), NOW)
    assert finding.level == level


@pytest.mark.parametrize(("bits", "is_told"), [(2048, False), (4096, True)])
def test_a_key_that_makes_each_connection_slow_is_told(bits: int, is_told: bool) -> None:
    """P-01: a boot storm over TLS is as fast as its handshakes."""
    key = rsa.RSAPublicNumbers(65537, 2**bits - 1).public_key()  # nobody's: to find one takes seconds
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "phones.example")])
    issuer = ec.generate_private_key(ec.SECP256R1())
    found = key_findings(x509.CertificateBuilder(name, name, key, 7, NOW, NOW + YEAR).sign(issuer, SHA256()))
    assert [finding.level for finding in found] == (["warning"] if is_told else [])
    assert is_told is any("RSA key of 4,096 bits" in finding.detail for finding in found)


def test_a_key_of_another_certificate_is_told(tmp_path: Path, maker: trustme.CA) -> None:
    """P-18: phones could not fetch at all."""
    files = pems(tmp_path, maker)
    maker.issue_cert("other.example").private_key_pem.write_to_path(files["tls_key"])
    (finding,) = phones_port_findings(configured(**files), NOW)
    assert finding.is_bad


def test_the_makers_authorities_are_counted_and_expired_ones_told(tmp_path: Path, maker: trustme.CA) -> None:
    """P-18: an expired authority still vouches, and is worth knowing of."""
    files = pems(tmp_path, maker)
    makers = tmp_path / "makers"
    makers.mkdir()
    maker.cert_pem.write_to_path(makers / "one.pem")
    config = configured(**files, client_ca=makers)
    assert [finding.level for finding in phones_port_findings(config, NOW)] == ["good", "good"]
    later = phones_port_findings(config, NOW + 1000 * YEAR)[1]
    assert (later.level, "still believed" in later.detail) == ("warning", True)


def test_authorities_without_tls_or_without_a_certificate_in_them_are_told(tmp_path: Path, maker: trustme.CA) -> None:
    """P-18: what would silently prove nothing."""
    place = tmp_path / "makers.pem"
    place.write_text("nothing")
    (alone,) = phones_port_findings(configured(client_ca=place), NOW)
    assert "without TLS" in alone.detail
    unreadable = phones_port_findings(configured(**pems(tmp_path, maker), client_ca=place), NOW)[1]
    assert unreadable.is_bad
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigFault, match="holds no certificate"):
        Authorities.load(empty)
    with pytest.raises(ConfigFault, match="client_ca"):
        Authorities.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('client_ca = "nowhere.pem"\ntrusted_proxies = ["10.0.0.0/8"]', "is not there"),
        ('client_ca = "."', "over TLS alone"),
        ('client_ca = "."\ntrusted_proxies = ["10.0.0.0/8"]', "client_cert_header"),
        ('client_ca = "."\ntrusted_proxies = ["10.0.0.0/8"]\nclient_cert_header = "X-Client-Cert"', ""),
        ('client_ca = "."\nclient_cert_header = "X-Client-Cert"', "from a trusted proxy alone"),
        ('client_ca = "."\nclient_cert_header = "X-Cert"', "client_cert_header"),
    ],
)
def test_check_config_tells_what_client_ca_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: str, told: str
) -> None:
    """P-18: refused at start, with what to do."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "callpoint.toml"
    file.write_text(f"[provisioning]\n{keys}\n")
    if not told:
        assert load(file, {}).provisioning.client_ca is not None
        return
    with pytest.raises(ConfigFault, match=told):
        load(file, {})


def test_an_authority_in_der_is_read_and_a_leaf_vouches_for_nobody(tmp_path: Path, maker: trustme.CA) -> None:
    """P-18: a folder may hold either form; what is no authority signs nothing."""

    root = x509.load_pem_x509_certificate(maker.cert_pem.bytes())
    (tmp_path / "root.der").write_bytes(root.public_bytes(Encoding.DER))
    authorities = Authorities.load(tmp_path)
    leaf = x509.load_pem_x509_certificate(maker.issue_cert(common_name="805EC0AABB01").cert_chain_pems[0].bytes())
    assert authorities.vouch_for(leaf)
    assert not Authorities((leaf,)).vouch_for(leaf)


@pytest.mark.parametrize(
    ("name", "mac"),
    [
        ("0004F2ABCDEF", "0004f2abcdef"),
        ("00:04:f2:ab:cd:ef", "0004f2abcdef"),
        ("CP-8841-3PCC-SEP00562B043615", "00562b043615"),
        ("C074AD273A10.grandstream.com", "c074ad273a10"),
        ("Yealink Equipment", None),
        ("0004F2ABCDEF 0004F2ABCDE0", None),
        ("10004F2ABCDEF", None),
        ("000000000000", None),
    ],
)
def test_the_address_is_read_from_the_name_of_a_certificate(maker: trustme.CA, name: str, mac: str | None) -> None:
    """P-18: the makers' spellings; two addresses, or a longer number, are none."""

    leaf = x509.load_pem_x509_certificate(maker.issue_cert(common_name=name).cert_chain_pems[0].bytes())
    told = read(leaf.public_bytes(Encoding.DER))
    assert told is not None
    assert told.mac == mac
    assert read(b"no certificate") is None
