"""Passwords: the rules of NIST SP 800-63B-4 §3.1.1, and argon2id with OWASP's parameters, in a thread, two at once.

No composition rules: length, a block list, words that an attacker of this account tries first, and, where the
account's policy says so, none of the last ones again.
"""

import asyncio
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from engine.accounts.policy import DEFAULT, Policy
from engine.errors import FieldFault, Invalid, TooManyRequests

MAX_CHARACTERS = 128  # at least 64 must be taken; beyond this only a script types
JUDGED_CHARACTERS = 72  # zxcvbn's own limit: its time grows with the square
HASHES_AT_ONCE = 2  # 19 MiB and a core each; the rest of the process has to breathe
MAX_WAITING = 32  # more sign-ins than this in line are a flood, not people
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)  # OWASP Password Storage Cheat Sheet, argon2id
_Result = TypeVar("_Result")


class PasswordDesk:
    """Hashes and compares passwords without holding up the loop. One per process."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(HASHES_AT_ONCE)
        self._waiting = 0

    async def hash(
        self,
        password: str,
        *,
        context: tuple[str, ...] = (),
        field: str = "password",
        policy: Policy = DEFAULT,
        earlier: Sequence[str] = (),
    ) -> str:
        """The argon2id hash of a new password, as it is stored.

        Args:
            context: Words an attacker tries first: the account's name, the user's name and e-mail address.
            earlier: Hashes of this user's passwords, newest first; the policy says how many may not come again.

        Raises:
            Invalid: the password breaks a rule; which one, in words, under `field`.
        """
        return await self._in_turn(lambda: _checked_hash(password, context, field, policy, earlier))

    async def renewed(
        self, password: str, context: tuple[str, ...], policy: Policy, earlier: Sequence[str], field: str = "password"
    ) -> str:
        """As `hash`, and never the present password again, which is the first of `earlier`."""
        asked = policy if policy.password_reuse else replace(policy, password_reuse=1)
        return await self.hash(password, context=context, field=field, policy=asked, earlier=earlier)

    async def matches(self, password: str, stored: str | None) -> bool:
        """Whether it is the password behind that hash; with none stored it takes the same time and is False."""
        return await self._in_turn(lambda: _matches(password, stored))

    async def _in_turn(self, work: Callable[[], _Result]) -> _Result:
        if self._waiting >= MAX_WAITING:
            raise TooManyRequests("Too many people are signing in at this moment. Wait a few seconds.", retry_after_s=5)
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def fault_of(password: str, context: tuple[str, ...] = (), policy: Policy = DEFAULT) -> str | None:
    """Why the password cannot be accepted, with what to do; None when it can."""
    plain = _normal(password)
    least = policy.password_min_length
    if len(plain) < least:
        return f"Expected at least {least} characters, got {len(plain)}: three or four unrelated words do well."
    if len(plain) > MAX_CHARACTERS:
        return f"Expected at most {MAX_CHARACTERS} characters, got {len(plain)}."
    if len(set(plain)) < 5:
        return "This repeats very few characters. Use several unrelated words."
    from zxcvbn import zxcvbn  # read here: its lists take 30 ms to load, and only a new password needs them

    words = _words(context)
    judged = zxcvbn(plain[:JUDGED_CHARACTERS], user_inputs=words)
    if judged["score"] < policy.password_min_score:
        why = judged["feedback"]["warning"] or "This is easily guessed"
        return f"{why.rstrip('.')}. Use several unrelated words, none of them a name of yours or your company's."
    return None


def _words(context: tuple[str, ...]) -> list[str]:
    words = {"callpoint", "e911", "911"}
    for text in context:
        words.add(text.casefold())
        words.update(part for part in text.casefold().replace("@", " ").replace(".", " ").split() if len(part) > 2)
    return sorted(words)


def _normal(password: str) -> str:
    """SP 800-63B-4 §3.1.1.2: normalised before it is hashed, so that two keyboards type the same password."""
    return unicodedata.normalize("NFKC", password)


def check(password: str, context: tuple[str, ...] = (), field: str = "password", policy: Policy = DEFAULT) -> None:
    """Raise Invalid when the password breaks a rule."""
    fault = fault_of(password, context, policy)
    if fault is not None:
        raise Invalid(f"The password cannot be accepted: {fault}", fields=(FieldFault(field, fault),))


async def hash_password(password: str) -> str:
    """The argon2id hash of a password that was checked; for a command, which is in nobody's way."""
    return await asyncio.to_thread(_hash, password)


def _checked_hash(password: str, context: tuple[str, ...], field: str, policy: Policy, earlier: Sequence[str]) -> str:
    check(password, context, field, policy)
    if any(_matches(password, stored) for stored in earlier[: policy.password_reuse]):
        which = "your present password" if policy.password_reuse == 1 else f"one of your last {policy.password_reuse}"
        fault = f"This is {which}. Choose one you have not used here."
        raise Invalid(f"The password cannot be accepted: {fault}", fields=(FieldFault(field, fault),))
    return _hash(password)


def _hash(password: str) -> str:
    return _hasher.hash(_normal(password).encode("utf-8", "surrogatepass"))


@cache
def _nobodys_hash() -> str:
    """What a sign-in for an address that nobody has is compared with, so that it costs the time of any other."""
    return _hasher.hash("nobody's")


def _matches(password: str, stored: str | None) -> bool:
    try:
        # longer than any password that was ever accepted: compared all the same, so that the time tells nothing
        offered = _normal(password[: MAX_CHARACTERS * 4]).encode("utf-8", "surrogatepass")
        return _hasher.verify(stored or _nobodys_hash(), offered) and stored is not None
    except (VerificationError, InvalidHashError):
        return False
