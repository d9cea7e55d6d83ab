"""What a door of ours is bolted with: the TLS of the phones' port and of the admin port."""

import ssl
from pathlib import Path

from engine.config import Provisioning
from engine.provisioning.certificates import Authorities


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """A server's TLS 1.2+ context, or None for plain HTTP."""
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context


def phones_tls(section: Provisioning, authorities: Authorities | None) -> ssl.SSLContext | None:
    """The phones' TLS, which asks for their certificates where makers' authorities are named."""
    context = tls_context(section.tls_cert, section.tls_key)
    if context is not None:
        context.num_tickets = 1  # a phone resumes one session at a time, and is given the next ticket as it does
    if context is not None and authorities is not None:
        authorities.ask_for_certificates(context)
    return context
