"""The certificates of this node's doors: read again when their files change, and told before they end.

A certificate that ends at night stops what comes by TLS: a PBX that checks it sends no 911 call there any more. Whoever
renews the files (an ACME client, as a rule) need not restart anything: SIP's are followed by the SIP process itself
(`engine.sip.tls`), the phones' and the pages' here.
"""

import asyncio
import ssl
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from cryptography import x509

from engine.config import Config
from engine.db import utc_now

LOOK_S = 30.0
EXPIRES_SOON = timedelta(days=21)  # what renews by itself does so a month ahead
_RENEW = "Renew it, with a key of the same kind; nothing has to be restarted."
_log = structlog.get_logger()
State = tuple[object, ...]
PHONES, PAGES = "the phones' port", "these pages and the API"


@dataclass(slots=True)
class Door:
    """What is served with a certificate. `stops`: what its end means; `context`: in use here, and renewed in place;
    `kind`: of the key that was first read into it.
    """

    what: str
    stops: str
    certificate: Path
    key: Path
    context: ssl.SSLContext | None = None
    fault: str = ""
    seen: State = ()
    kind: str = ""

    def look(self, now: datetime) -> str:
        """Read the files again when they have changed; a sentence when a person has to know something, else "". Takes
        as long as the disk does.
        """
        state = self._state()
        if self.context is not None and state != self.seen:
            self._renew(self.context)
        self.seen = state
        try:
            ends = x509.load_pem_x509_certificates(self.certificate.read_bytes())[0].not_valid_after_utc
        except (OSError, ValueError) as exc:
            return f"The certificate of {self.what}, {self.certificate}, cannot be read ({exc}). Put a good one there."
        if self.fault:
            return self.fault
        if ends <= now:
            return f"The certificate of {self.what} ended on {ends:%Y-%m-%d}: {self.stops}. {_RENEW}"
        if ends - now < EXPIRES_SOON:
            return f"The certificate of {self.what} ends on {ends:%Y-%m-%d}. From then on {self.stops}. {_RENEW}"
        return ""

    def _renew(self, context: ssl.SSLContext) -> None:
        """New handshakes are made with what the files hold now; a pair that does not fit changes nothing."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
            kind = _kind_of(self.certificate)
            if self.seen:
                context.load_cert_chain(self.certificate, self.key)
                _log.info("certificate_renewed", of=self.what, file=str(self.certificate))
            self.kind = self.kind or kind
            self.fault = "" if kind == self.kind else self._other_kind(kind)
        except (OSError, ValueError) as exc:
            self.fault = (
                f"The certificate of {self.what}, {self.certificate}, cannot be used with its key ({exc}): the one "
                "read before serves on. Put the certificate, its chain and its own key there."
            )

    def _other_kind(self, kind: str) -> str:
        """OpenSSL keeps one certificate for each kind of key, and each client chooses between them."""
        return (
            f"The certificate of {self.what}, {self.certificate}, has a key of another kind ({kind}) than the one "
            f"before it ({self.kind}): some clients are shown the one before until Callpoint is restarted, and once "
            f"that has ended {self.stops}. Restart Callpoint, or renew with a key of the same kind."
        )

    def _state(self) -> State:
        try:
            files = [each.stat() for each in (self.certificate, self.key)]
            return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in files)
        except OSError as exc:
            return (type(exc).__name__,)


def _kind_of(certificate: Path) -> str:
    """Of the key of the first certificate in that file: `RSA`, `EC`, `Ed25519`."""
    key = x509.load_pem_x509_certificates(certificate.read_bytes())[0].public_key()
    return type(key).__name__.removesuffix("PublicKey")


@dataclass(slots=True)
class CertificateWatch:
    """`run` as a background task; `alarms`: what a person has to know now, a sentence each."""

    doors: list[Door]
    alarms: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, config: Config, only: Collection[str] = ()) -> "CertificateWatch":
        """A node's doors that have a certificate; `only`: of those."""
        sip, phones, admin = config.sip, config.provisioning, config.admin
        told = (
            ("SIP over TLS", "PBXs that check it send no 911 call by TLS", sip.tls_cert, sip.tls_key),
            (PHONES, "phones turn away and keep the settings they have", phones.tls_cert, phones.tls_key),
            (PAGES, "browsers and programs refuse them", admin.tls_cert, admin.tls_key),
        )
        doors = [Door(what, stops, cert, key) for what, stops, cert, key in told if cert and key]
        return cls([door for door in doors if not only or door.what in only])

    def follow(self, what: str, context: ssl.SSLContext | None) -> ssl.SSLContext | None:
        """Renew that door's context in place when its files change; returns it."""
        for door in self.doors:
            if door.what == what:
                door.context = context
        return context

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look now."""
        now = utc_now()
        said = [await asyncio.to_thread(door.look, now) for door in self.doors]
        alarms = tuple(each for each in said if each)
        for each in alarms:
            if each not in self.alarms:
                _log.error("certificate", detail=each)
        self.alarms = alarms
