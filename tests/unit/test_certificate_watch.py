"""Certificates of the doors: told before they end, and renewed without a restart."""

import datetime as dt
import ssl
from pathlib import Path

import pytest
import trustme

from engine.certificate_watch import PHONES, CertificateWatch, Door
from engine.db import utc_now

AUTHORITY = trustme.CA()


def written(
    folder: Path, name: str, *, days: float = 90, key_type: trustme.KeyType = trustme.KeyType.ECDSA
) -> tuple[Path, Path]:
    """The files of a door, with a certificate for that name which ends so many days from now."""
    issued = AUTHORITY.issue_cert(name, not_after=utc_now() + dt.timedelta(days=days), key_type=key_type)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


def names_served(context: ssl.SSLContext) -> set[str]:
    """Whom a new handshake with that context proves."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname = False
    AUTHORITY.configure_trust(trust)
    wires = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = trust.wrap_bio(*wires), context.wrap_bio(*reversed(wires), server_side=True)
    for _ in range(4):
        for each in (client, server):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
    told = client.getpeercert()
    assert told is not None
    return {str(name) for _, name in told["subjectAltName"]}


@pytest.mark.parametrize(
    ("days", "words"),
    [(90, ""), (20, "ends on "), (-1, "ended on ")],
)
def test_a_certificate_is_told_three_weeks_before_it_ends(tmp_path: Path, days: float, words: str) -> None:
    """E-03: with the day, what then happens to 911 calls, and what to do."""
    said = Door("SIP over TLS", "PBXs send no 911 call by TLS", *written(tmp_path, "a.example", days=days)).look(
        utc_now()
    )
    assert bool(said) == bool(words)
    assert words in said
    assert not said or ("911" in said and "Renew it" in said)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    certificate, key = written(tmp_path, "a.example")
    certificate.write_text("nothing")
    assert "cannot be read" in Door("x", "y", certificate, key).look(utc_now())
    certificate.unlink()
    assert "cannot be read" in Door("x", "y", certificate, key).look(utc_now())


async def test_renewed_files_are_served_at_the_next_handshake_and_a_pair_that_does_not_fit_changes_nothing(
    tmp_path: Path,
) -> None:
    """P-11, E-03: no restart; the alarm goes when it is cured."""
    certificate, key = written(tmp_path, "old.example", days=3)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    watch = CertificateWatch([Door(PHONES, "phones turn away", certificate, key)])
    assert watch.follow(PHONES, context) is context
    await watch.look()
    assert "ends on" in watch.alarms[0]
    assert names_served(context) == {"old.example"}
    kept = key.read_bytes()
    written(tmp_path, "new.example")
    right = key.read_bytes()
    key.write_bytes(kept)
    await watch.look()
    assert "cannot be used with its key" in watch.alarms[0]
    assert names_served(context) == {"old.example"}
    key.write_bytes(right)
    await watch.look()
    assert watch.alarms == ()
    assert names_served(context) == {"new.example"}


async def test_a_certificate_renewed_with_a_key_of_another_kind_is_told_until_a_restart(tmp_path: Path) -> None:
    """P-11: some clients go on with the one before, which ends one day without anybody having touched a thing."""
    certificate, key = written(tmp_path, "old.example", key_type=trustme.KeyType.RSA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    watch = CertificateWatch([Door(PHONES, "phones turn away", certificate, key)])
    watch.follow(PHONES, context)
    await watch.look()
    assert watch.alarms == ()
    written(tmp_path, "new.example")
    for _ in range(2):
        await watch.look()
        assert "a key of another kind (EC) than the one before it (RSA)" in watch.alarms[0]
        assert "Restart Callpoint" in watch.alarms[0]
    written(tmp_path, "old.example", key_type=trustme.KeyType.RSA)
    await watch.look()
    assert watch.alarms == ()
