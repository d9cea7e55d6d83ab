"""Phones' own certificates: which makers' authorities are believed, and whose MAC address a certificate proves.

A maker puts a certificate into each phone, signed by the maker's own authority and naming the phone's MAC address.
Such a certificate cannot be renewed by the phone, so many phones in use hold one past its end: OpenSSL is told to
leave the times alone during the handshake, and the account's policy decides what an expired one is worth.
"""

import base64
import binascii
import datetime as dt
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from multidict import CIMultiDict, CIMultiDictProxy

from engine.errors import ConfigFault
from engine.provisioning.vendors import Mac, parse_mac

MAX_HEADER_CHARACTERS = 8000
HEADERS = ("client-cert", "x-client-cert")  # in which proxies hand a certificate on
Headers = CIMultiDict[str] | CIMultiDictProxy[str]
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name
# Python's own list, at the level that still reads the SHA-1 signatures and 1024-bit keys of older makers' authorities.
# Sessions stay on TLS 1.2 or newer with forward secrecy.
_CIPHERS = "@SECLEVEL=0:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
_SUFFIXES = (".pem", ".crt", ".cer", ".der")
# What reading a certificate may raise: OpenSSL lets some through that have an extension twice, or an odd name in it
_UNREADABLE = (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
# `0004F2ABCDEF` (Poly), `80:5e:c0:12:34:56`, `CP-8841-3PCC-SEP00562B043615` (Cisco), `C074AD273A10.grandstream.com`
_MAC_IN_A_NAME = re.compile(r"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:-])|"
                            r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{12}(?![0-9A-Fa-f])")  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeviceCertificate:
    """What a phone showed. `mac` None: it names none, or more than one, and so proves no phone in particular."""

    mac: Mac | None
    subject: str
    not_before: dt.datetime
    not_after: dt.datetime

    def is_in_time(self, now: dt.datetime) -> bool:
        return self.not_before <= now <= self.not_after


@dataclass(frozen=True, slots=True)
class Authorities:
    """The makers' certificates that are believed, roots or intermediates alike."""

    certificates: tuple[x509.Certificate, ...]

    @classmethod
    def load(cls, place: Path) -> "Authorities":
        """Read a PEM or DER file, or every such file of a folder.

        Raises:
            ConfigFault: nothing there can be read as a certificate.
        """
        try:
            files = sorted(file for file in place.iterdir() if file.suffix.lower() in _SUFFIXES)
        except NotADirectoryError:
            files = [place]
        except OSError as exc:
            raise _unreadable(place, exc.strerror or "it cannot be read") from exc
        found: list[x509.Certificate] = []
        for file in files:
            try:
                found += _certificates(file.read_bytes())
            except (OSError, ValueError) as exc:
                raise _unreadable(file, str(exc)) from exc
        if not found:
            raise _unreadable(place, "it holds no certificate")
        return cls(tuple(dict.fromkeys(found)))

    def vouch_for(self, certificate: x509.Certificate) -> bool:
        """Whether one of them signed it. What a trusted proxy hands on was not checked by our own handshake."""
        return any(_is_issued_by(certificate, authority) for authority in self.certificates)

    def expired(self, now: dt.datetime) -> list[str]:
        """The names of those whose own time has run out."""
        return [each.subject.rfc4514_string() for each in self.certificates if each.not_valid_after_utc < now]

    def ask_for_certificates(self, context: ssl.SSLContext) -> None:
        """Make a server ask every phone for its certificate. One that shows none is let in; one of a maker that is not
        among these is refused in the handshake, before it could ask for anything.
        """
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in self.certificates)
        context.load_verify_locations(cadata=pem.decode("ascii"))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME) | ssl.VERIFY_X509_PARTIAL_CHAIN
        context.set_ciphers(_CIPHERS)


def _unreadable(place: Path, why: str) -> ConfigFault:
    advice = (
        "Name a PEM file of the phone makers' authorities, or a folder of them; without it no phone can prove itself."
    )
    return ConfigFault((f"[provisioning] client_ca: {place}: {why}. {advice}",))


def _certificates(data: bytes) -> list[x509.Certificate]:
    if b"-----BEGIN CERTIFICATE-----" in data:
        return x509.load_pem_x509_certificates(data)
    return [x509.load_der_x509_certificate(data)]


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, *_UNREADABLE):
        constraints = None  # a root of version 1 says nothing of itself
    if constraints is not None and not constraints.ca:
        return False
    digest, key = certificate.signature_hash_algorithm, authority.public_key()
    try:
        if isinstance(digest, hashes.SHA1) and isinstance(
            key, rsa.RSAPublicKey
        ):  # the library's own check has no SHA-1
            signed = certificate.tbs_certificate_bytes
            key.verify(certificate.signature, signed, padding.PKCS1v15(), digest)
            return certificate.issuer == authority.subject
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


@lru_cache(maxsize=4096)
def read(der: bytes) -> DeviceCertificate | None:
    """What the certificate says; None when it cannot be read as one."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = _names(certificate)
        return DeviceCertificate(
            mac=_only_mac(names),
            subject=certificate.subject.rfc4514_string()[:200],
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
    except _UNREADABLE:
        return None


def _names(certificate: x509.Certificate) -> list[str]:
    """Where makers write the address: the common name, the subject's serial number, the alternative names."""
    found = []
    for oid in (NameOID.COMMON_NAME, NameOID.SERIAL_NUMBER):
        found += [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)]
    try:
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return found
    found += others.get_values_for_type(x509.DNSName)
    return found + others.get_values_for_type(x509.UniformResourceIdentifier)


def _only_mac(names: Iterable[str]) -> Mac | None:
    macs = {parse_mac(found[0]) for name in names for found in _MAC_IN_A_NAME.finditer(name[:200])} - {None}
    return macs.pop() if len(macs) == 1 else None


def of_transport(ssl_object: ssl.SSLObject | None) -> DeviceCertificate | None:
    """The certificate of a TLS connection, which the handshake has held against the authorities."""
    der = ssl_object.getpeercert(binary_form=True) if ssl_object is not None else None
    return read(der) if der else None


def of_headers(headers: Headers, name: str, authorities: Authorities) -> DeviceCertificate | None:
    """The certificate that a trusted proxy in front of us hands on; the caller sees to it that it is one.

    `Client-Cert` as RFC 9440 §2.2 writes it, or `X-Client-Cert` with a PEM in URL encoding (nginx:
    `$ssl_client_escaped_cert`) or the plain base64 of the DER (HAProxy: `ssl_c_der,base64`). The proxy proves that the
    phone holds the key; who signed it is held against our own authorities.

    Args:
        name: The one header that the proxy sets (RFC 9440 §4: and takes out of what it was sent); "": none. A request
            that holds another of the kind, or this one twice, was not cleaned, so no certificate in it is believed.
    """
    if not name:
        return None
    shown = [text for one in {name.lower(), *HEADERS} for text in headers.getall(one, ())]
    texts = headers.getall(name, ())
    if len(shown) != 1 or len(texts) != 1 or not texts[0] or len(texts[0]) > MAX_HEADER_CHARACTERS:
        return None
    return _handed_on(texts[0], authorities)


@lru_cache(maxsize=1024)
def _handed_on(text: str, authorities: Authorities) -> DeviceCertificate | None:
    try:
        if text.startswith(":"):
            certificate = x509.load_der_x509_certificate(base64.b64decode(text.strip(":"), validate=True))
        elif "BEGIN" in text[:40]:
            certificate = x509.load_pem_x509_certificate(unquote_to_bytes(text))
        else:
            certificate = x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        return None
    return read(certificate.public_bytes(Encoding.DER)) if authorities.vouch_for(certificate) else None
