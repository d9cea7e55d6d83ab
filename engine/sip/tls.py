"""TLS under SIP, sans I/O (RFC 3261 §26.3.1, RFC 5922): certificates read from files, sessions fed with bytes.

A session is an `ssl.SSLObject` between two memory buffers, so that the shell sees every connection from its first
segment on: one that is still shaking hands is counted and timed like any other. Nothing here waits.
"""

import contextlib
import os
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files, each None where there is none.

    `certificate` and `key` are ours, towards clients and, when a server asks, towards servers. `client_ca` holds those
    who may vouch for a client, `server_ca` those who may vouch for a trunk's server (None: the system's store).
    """

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    server_ca: Path | None = None


class Certificates:
    """The two contexts, read from the files and read again when those change.

    `server` is None as long as there is no usable certificate: TLS connections are refused then. `client`, towards
    trunks, is made when it is first wanted: reading the system's store takes tens of milliseconds. A change that cannot
    be used leaves what served before. `faults` are sentences for the operator, () when all is well. `refresh` and
    `towards_…` may take long: call them beside the loop.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._seen: tuple[object, ...] | None = None
        self._server_fault = self._client_fault = ""
        self.client: ssl.SSLContext | None = None
        self._unproven: ssl.SSLContext | None = None
        self._is_client_wanted = False
        self.server: ssl.SSLContext | None = None
        self.refresh()

    @property
    def faults(self) -> tuple[str, ...]:
        return tuple(fault for fault in (self._server_fault, self._client_fault) if fault)

    @property
    def is_changed(self) -> bool:
        """Whether the files are others than those last read."""
        return self._state() != self._seen

    def refresh(self) -> None:
        """Read the files (again)."""
        with self._lock:
            self._seen = self._state()
            self._unproven = None
            if self._files.certificate is not None and self._files.key is not None:
                self._read_server()
            if self._is_client_wanted:
                self._read_client()

    def towards_servers(self) -> ssl.SSLContext:
        """The context of connections to trunks. Raises OSError with the reason when there is none."""
        with self._lock:
            if not self._is_client_wanted:
                self._is_client_wanted = True
                self._read_client()
            if self.client is None:
                raise OSError(self._client_fault)
            return self.client

    def towards_anybody(self) -> ssl.SSLContext:
        """The context of connections to a place where nobody has to prove anything (`Hop.is_unproven`)."""
        with self._lock:
            if self._unproven is None:
                self._unproven = unproven_context(self._files)
            return self._unproven

    def _read_server(self) -> None:
        try:
            self.server = server_context(self._files)
            self._server_fault = ""
        except (OSError, ValueError) as exc:
            self._server_fault = (
                f"{self._files.certificate}: cannot be used as the SIP certificate ({tls_reason(exc)}). "
                + ("The one read before serves on. " if self.server else "SIP over TLS is refused until then. ")
                + "Calls over UDP and TCP go on. Put the certificate, its chain and its own key there."
            )

    def _read_client(self) -> None:
        try:
            self.client = client_context(self._files)
            self._client_fault = ""
        except (OSError, ValueError) as exc:
            self._client_fault = (
                f"TLS towards trunks cannot be set up ({tls_reason(exc)}). "
                + ("What was read before serves on. " if self.client else "Calls skip trunks over TLS until then. ")
                + "Correct [sip] tls_cert, tls_key and tls_ca."
            )

    def _state(self) -> tuple[object, ...]:
        files = self._files
        return tuple(_state(path) for path in (files.certificate, files.key, files.client_ca, files.server_ca))


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Towards clients; raises OSError (SSLError is one) or ValueError for files that cannot be used.

    A client's certificate is asked for when there is a `client_ca`, and must verify when one is given.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_common(context)
    _load_own(context, files)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # each connection proves its certificate anew; they live for hours
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Towards servers: chain and host name verified, our certificate offered when asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _set_common(context)
    if files.certificate is not None and files.key is not None:
        _load_own(context, files)
    if files.server_ca is not None:
        context.load_verify_locations(files.server_ca)
    else:
        context.load_default_certs()
    return context


def unproven_context(files: TlsFiles) -> ssl.SSLContext:
    """Towards a server whose certificate is not looked at; ours is offered if it can be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _set_common(context)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if files.certificate is not None and files.key is not None:
        with contextlib.suppress(OSError, ValueError):
            _load_own(context, files)
    return context


def _set_common(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    assert files.certificate is not None
    # an encrypted key is a fault, not a question on the terminal
    context.load_cert_chain(files.certificate, files.key, password=lambda: b"")


def _state(path: Path | None) -> object:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError as exc:
        return exc.errno
    return found.st_mtime_ns, found.st_size, found.st_ino


class TlsSession:
    """One connection's TLS. `is_ready`: the handshake is done; `is_ended`: the peer said that it sends no more.

    Args:
        host: towards a server, the name it must prove: a host name (sent as SNI) or an IP address.
    """

    __slots__ = ("_incoming", "_outgoing", "_tls", "is_ended", "is_ready")

    def __init__(self, context: ssl.SSLContext, *, is_server: bool, host: str = "") -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=is_server, server_hostname=None if is_server else host
        )
        self.is_ready = False
        self.is_ended = False

    def feed(self, data: bytes) -> bytes:
        """Take in what came; returns what it says in clear. A client begins with `feed(b"")`.

        Raises:
            ssl.SSLError: not TLS, or not to be trusted. What `take` holds then (an alert) is still to be sent.
        """
        self._incoming.write(data)
        if not self.is_ready:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return b""
            self.is_ready = True
        clear = b""
        while True:
            try:
                part = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                return clear
            except ssl.SSLZeroReturnError:
                part = b""
            if not part:
                self.is_ended = True
                return clear
            clear = part if not clear else clear + part
            if not self._incoming.pending and not self._tls.pending():
                return clear

    def seal(self, data: bytes) -> bytes:
        """What to send so that the peer reads `data`; only when `is_ready`. May raise ssl.SSLError."""
        self._tls.write(data)
        return self._outgoing.read()

    def take(self) -> bytes:
        """What TLS itself wants sent."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def close(self) -> bytes:
        """The closing alert, b"" when it is too late for one."""
        if self.is_ready:
            with contextlib.suppress(ssl.SSLError, OSError):  # the peer's own alert is not waited for
                self._tls.unwrap()
        return self.take()

    def names(self) -> tuple[str, ...]:
        """The names in the peer's verified certificate, () without one."""
        return names_of(self._tls.getpeercert() or {}) if self.is_ready else ()


def names_of(certificate: Mapping[str, object]) -> tuple[str, ...]:
    """Who a verified certificate speaks for (RFC 5922 §7.1), in lower case: dNSNames and sip URIs, else the CN.

    A sip URI with a user part names a user, no domain, and is passed over.
    """
    found: list[str] = []
    alternatives = certificate.get("subjectAltName")
    for kind, value in alternatives if isinstance(alternatives, tuple) else ():
        scheme, _, rest = str(value).partition(":")
        if kind == "DNS":
            found.append(str(value).lower())
        elif kind == "URI" and scheme.lower() in {"sip", "sips"} and "@" not in rest:
            found.append(rest.partition(";")[0].partition("?")[0].lower())
    if not found:
        subject = certificate.get("subject")
        pairs = [pair for group in (subject if isinstance(subject, tuple) else ()) for pair in group]
        found = [str(value).lower() for name, value in pairs if name == "commonName"]
    return tuple(dict.fromkeys(found))


def tls_reason(fault: Exception) -> str:
    """Why TLS failed, in OpenSSL's words without its numbers."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        return fault.verify_message
    if isinstance(fault, ssl.SSLError):
        reason = getattr(fault, "reason", None)
        return str(reason).replace("_", " ").lower() if reason else "not TLS"
    if isinstance(fault, OSError) and fault.errno is not None and fault.errno > 0:
        return os.strerror(fault.errno)  # asyncio puts addresses into its own words
    return str(fault) or type(fault).__name__
