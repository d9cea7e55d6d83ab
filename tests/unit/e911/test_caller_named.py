"""Who a From or P-Asserted-Identity names: the quick reading says what the full one says."""

import random

import pytest

from engine.e911 import caller
from engine.sip.message import BadMessage
from engine.sip.uri import parse_name_addr

VALUES = [
    '"Bench 1" <sip:101@h:5060>;tag=1', "<sip:101@[2001:db8::1]:5060;user=phone>", "Bob B <sips:a.b@c.d>",
    '"a, b"<sip:+1518@x;isub=1>;x="y"', "sip:101@h;tag=1", "Bob <sip:1@h?x=y>", "<tel:+1>", '"" <sip:x@y>',
    "A.B-c  <sip:u;x=1@h>",
]  # fmt: skip
PIECES = [*'"<>@:;,?%\\ \tAz09[]=', "sip:", "sips:", "\r\n ", "\udcff"]


def by_the_full_reading(value):
    try:
        found = parse_name_addr(value)
    except BadMessage:
        return None
    return found.display_name, found.uri.raw, found.uri.user_text


@pytest.mark.parametrize("value", VALUES)
def test_whoever_calls_is_read_alike_whatever_happened_to_the_header(value):
    """E-05: 4,000 damaged forms of each."""
    chance = random.Random(value)
    for _ in range(4_000):
        text = value
        for _ in range(chance.randint(0, 3)):
            at = chance.randrange(len(text) + 1)
            text = text[:at] + chance.choice(PIECES) + text[at + chance.choice((0, 0, 1, 2)) :]

        assert caller._named(text) == (by_the_full_reading(text) if text else None), text
