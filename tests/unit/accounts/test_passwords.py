"""Passwords: NIST SP 800-63B-4's rules, argon2id with OWASP's parameters, two at once."""

import asyncio

import pytest

from engine.accounts import passwords
from engine.accounts.passwords import PasswordDesk, fault_of
from engine.errors import Invalid, TooManyRequests

GOOD = "violet tractor hums beneath nine lakes"


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("", "at least 15"),
        ("Tr0ub4dor&3", "at least 15"),
        ("a" * 129, "at most 128"),
        ("aaaaaaaaaaaaaaaaaaaa", "very few characters"),
        ("passwordpassword", "Use several unrelated words"),
        ("qwertyuiopasdfghjkl", "Use several unrelated words"),
        ("123456789012345678", "Use several unrelated words"),
        ("callpointcallpoint", "Use several unrelated words"),
        ("acmedentalacmedental", "Use several unrelated words"),
    ],
)
def test_a_bad_password_is_told_why(password: str, said: str) -> None:
    """AD-AUTH: length, block list and the account's own words; each refusal says what to do."""
    assert said in (fault_of(password, ("acmedental", "owner@acme.example")) or "accepted")


@pytest.mark.parametrize(
    "password", [GOOD, "no capitals, no digits here", "\u00fcber die br\u00fccke gehen wir", "x9" * 30 + GOOD]
)
def test_no_composition_is_asked_for(password: str) -> None:
    """AD-AUTH: SP 800-63B-4 §3.1.1.2: spaces and any characters count, no classes are demanded."""
    assert fault_of(password, ("Acme Dental",)) is None


def test_length_counts_characters_after_normalisation() -> None:
    """AD-AUTH: a composed and a decomposed letter are one character and one password."""
    assert fault_of("e\u0301" * 14) is not None
    assert "got 14" in (fault_of("e\u0301" * 14) or "")


async def test_the_hash_is_argon2id_with_owasp_parameters() -> None:
    """AD-AUTH: t=2, m=19 MiB, p=1; the same password typed on another keyboard matches."""
    desk = PasswordDesk()
    stored = await desk.hash("caf\u00e9 au lait at the north gate")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await desk.matches("cafe\u0301 au lait at the north gate", stored)
    assert not await desk.matches("cafe au lait at the north gate", stored)
    assert not await desk.matches(GOOD, None)
    assert not await desk.matches(GOOD, "not a hash")
    assert not await desk.matches("x" * 1_000_000, stored)


async def test_a_refused_password_is_a_named_field() -> None:
    """AD-AUTH: the operation's error carries the form's field."""
    with pytest.raises(Invalid) as caught:
        await PasswordDesk().hash("short", field="new_password")
    assert [fault.field for fault in caught.value.fields] == ["new_password"]
    with pytest.raises(Invalid):
        passwords.check("short")


async def test_the_loop_turns_while_passwords_are_compared() -> None:
    """AD-AUTH: argon2 runs in threads: a 10 ms clock keeps ticking under eight comparisons."""
    desk = PasswordDesk()
    stored = await desk.hash(GOOD)
    ticks = 0
    done = asyncio.Event()

    async def clock() -> None:
        nonlocal ticks
        while not done.is_set():
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(clock())
    assert all(await asyncio.gather(*(desk.matches(GOOD, stored) for _ in range(8))))
    done.set()
    await ticking
    assert ticks >= 3


async def test_a_flood_of_sign_ins_is_turned_away_and_the_desk_opens_again() -> None:
    """AD-AUTH: no more than so many wait; the rest are told to come back."""
    desk = PasswordDesk()
    stored = await desk.hash(GOOD)
    results = await asyncio.gather(
        *(desk.matches(GOOD, stored) for _ in range(passwords.MAX_WAITING + 5)), return_exceptions=True
    )
    assert sum(isinstance(result, TooManyRequests) for result in results) == 5
    assert sum(result is True for result in results) == passwords.MAX_WAITING
    assert await desk.matches(GOOD, stored)
