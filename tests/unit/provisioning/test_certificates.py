"""What a phone's certificate says of it, whatever else its maker wrote into it."""

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from engine.provisioning import certificates
from engine.provisioning.certificates import Authorities

X400_ADDRESS = bytes.fromhex("3004a3020500")  # an alternative name of a kind that no phone has


def signed(common_name: str, *extensions: x509.ExtensionType) -> x509.Certificate:
    """A certificate that signs itself."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]),
    )
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    for extension in extensions:
        made = made.add_extension(extension, critical=False)
    return made.sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    ("common_name", "mac"),
    [
        ("0004F2ABCDEF", "0004f2abcdef"), ("80:5e:c0:12:34:56", "805ec0123456"),
        ("CP-8841-3PCC-SEP00562B043615", "00562b043615"), ("C074AD273A10.grandstream.com", "c074ad273a10"),
        ("Yealink Equipment Issuing CA", None), ("0004F2ABCDEF and 0004F2ABCDE0", None), ("10004F2ABCDEF", None),
    ],
)  # fmt: skip
def test_the_address_is_read_as_makers_write_it(common_name: str, mac: str | None) -> None:
    """P-18: and one that names two, or a longer number, proves no phone."""
    found = certificates.read(signed(common_name).public_bytes(Encoding.DER))
    assert found is not None
    assert found.mac == mac


def test_a_certificate_with_a_name_that_nobody_can_read_proves_nothing_and_breaks_nothing() -> None:
    """P-18: OpenSSL lets it through; the phone is one without a certificate."""
    odd = signed("0004F2ABCDEF", x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, X400_ADDRESS))
    assert certificates.read(odd.public_bytes(Encoding.DER)) is None
    assert Authorities((odd,)).vouch_for(odd)
