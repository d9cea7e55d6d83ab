"""Codes of authenticator apps: RFC 6238 with what every app reads, SHA-1, six digits, thirty seconds (pure)."""

import hmac
from collections.abc import Callable

import pyotp

ISSUER = "Callpoint"
STEP_S = 30
DIGITS = 6
SKEW_STEPS = 1  # RFC 6238 §5.2: the network's delay and a clock that is a little off


def mint_seed(make: Callable[[], str] = pyotp.random_base32) -> str:
    """A fresh seed in base32: 160 random bits (RFC 4226 §4, R6)."""
    return make()


def matching_step(seed: str, code: str, at: float, *, after: int | None) -> int | None:
    """The time step whose code this is, or None.

    Args:
        at: Unix time in seconds.
        after: The step of the last code that was used: that one and those before it count no more (RFC 6238 §5.2).
    """
    now = int(at) // STEP_S
    totp = pyotp.TOTP(seed, digits=DIGITS, interval=STEP_S)
    found = None
    for step in range(now - SKEW_STEPS, now + SKEW_STEPS + 1):  # all are compared: the time taken tells nothing
        is_right = hmac.compare_digest(totp.generate_otp(step).encode(), code.encode("utf-8", "replace"))
        if is_right and (after is None or step > after):
            found = step
    return found


def uri_of(seed: str, email: str, account: str) -> str:
    """What the QR code says, in the Key URI format. The account's name tells several of one person apart."""
    return pyotp.TOTP(seed, digits=DIGITS, interval=STEP_S).provisioning_uri(
        name=f"{email} ({account})", issuer_name=ISSUER
    )


def grouped(seed: str) -> str:
    """The seed in groups of four, to be typed."""
    return " ".join(seed[at : at + 4] for at in range(0, len(seed), 4))
