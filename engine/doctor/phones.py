"""What `callpoint doctor` looks at of the phones' port: its certificate, and who vouches for the phones' own."""

import ssl
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from engine.config import Config
from engine.errors import ConfigFault
from engine.findings import Finding
from engine.provisioning.certificates import Authorities

EXPIRES_SOON = timedelta(days=21)
LONGEST_RSA_BITS = 3072  # docs/phone-security.md, "What a connection costs"
_OURS, _THEIRS = "phones' TLS", "phones' certificates"


def phones_port_findings(config: Config, now: datetime) -> list[Finding]:
    """The certificate that phones are shown, and the authorities that theirs are held against. `now`: UTC."""
    return [*_own_certificate(config, now), *_authorities(config, now)]


def _own_certificate(config: Config, now: datetime) -> list[Finding]:
    section = config.provisioning
    if section.tls_cert is None or section.tls_key is None:
        return []
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(section.tls_cert, section.tls_key)
        certificate = x509.load_pem_x509_certificates(section.tls_cert.read_bytes())[0]
    except (OSError, ValueError, ssl.SSLError) as exc:
        detail = f"{section.tls_cert} with its key: {exc}. Phones cannot fetch over TLS; they keep what they have."
        return [Finding(_OURS, "bad", detail)]
    ends = certificate.not_valid_after_utc
    if ends < now:
        detail = (
            f"{section.tls_cert} ended on {ends:%Y-%m-%d}: phones turn away from it and keep what they have. Renew it."
        )
        return [Finding(_OURS, "bad", detail)]
    level = "warning" if ends - now < EXPIRES_SOON else "good"
    return [Finding(_OURS, level, f"{section.tls_cert} is good until {ends:%Y-%m-%d}."), *key_findings(certificate)]


def key_findings(certificate: x509.Certificate) -> list[Finding]:
    """A key that makes connections slow: after a power cut every phone begins several at once."""
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size <= LONGEST_RSA_BITS:
        return []
    detail = (
        f"Its RSA key of {key.key_size:,} bits takes more than four times the work of 2,048 bits at each new "
        "connection: when every phone boots at once, after a power cut, the last ones wait that much longer for their "
        "files. Take RSA of 2,048 bits, or ECDSA P-256 where every phone knows it."
    )
    return [Finding(_OURS, "warning", detail)]


def _authorities(config: Config, now: datetime) -> list[Finding]:
    section = config.provisioning
    if section.client_ca is None:
        return []
    if not section.sees_certificates:
        detail = (
            "[provisioning] client_ca is set without TLS: no phone can show a certificate. Set tls_cert and tls_key, "
            "or trusted_proxies and client_cert_header."
        )
        return [Finding(_THEIRS, "bad", detail)]
    try:
        authorities = Authorities.load(section.client_ca)
    except ConfigFault as exc:
        return [Finding(_THEIRS, "bad", exc.faults[0])]
    expired = authorities.expired(now)
    count = len(authorities.certificates)
    if expired:
        detail = (
            f"{len(expired)} of {count} authorities in {section.client_ca} ended ({'; '.join(expired)[:200]}). "
            "Their phones are still believed; ask the maker for the newer one."
        )
        return [Finding(_THEIRS, "warning", detail)]
    return [Finding(_THEIRS, "good", f"{count} phone makers' authorities in {section.client_ca}")]
