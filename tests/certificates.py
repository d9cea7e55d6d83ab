"""Certificates for tests: authorities by trustme, files as an operator would have them."""

import datetime as dt
import itertools
from pathlib import Path

import trustme

from engine.sip.tls import TlsFiles

_numbers = itertools.count(1)


def written(folder: Path, server_ca: trustme.CA | None = None, *, client_ca: trustme.CA | None = None) -> TlsFiles:
    """Files of somebody without a certificate, who believes that authority."""
    return TlsFiles(client_ca=_ca(folder, client_ca), server_ca=_ca(folder, server_ca))


def files_of(
    folder: Path,
    authority: trustme.CA,
    *names: str,
    client_ca: trustme.CA | None = None,
    server_ca: trustme.CA | None = None,
    not_after: dt.datetime | None = None,
) -> TlsFiles:
    """Files of somebody with a certificate for these names."""
    issued = authority.issue_cert(*names, not_after=not_after)
    number = next(_numbers)
    certificate, key = folder / f"cert-{number}.pem", folder / f"key-{number}.pem"
    for pem in issued.cert_chain_pems:
        pem.write_to_path(certificate, append=True)
    issued.private_key_pem.write_to_path(key)
    return TlsFiles(certificate, key, _ca(folder, client_ca), _ca(folder, server_ca))


def _ca(folder: Path, authority: trustme.CA | None) -> Path | None:
    if authority is None:
        return None
    path = folder / f"ca-{next(_numbers)}.pem"
    authority.cert_pem.write_to_path(path)
    return path
