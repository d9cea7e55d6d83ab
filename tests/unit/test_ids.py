"""Identifiers: typed, sortable by time of making, never twice."""

import re
import time

from engine.ids import DrawnIds, least_id, new_id

SHAPE = re.compile(r"call_0[0-9a-hjkmnp-tv-z]{9}[ef][0-9a-hjkmnp-tv-z]{15}")  # 01110 or 01111: version 7, a random bit


def test_an_identifier_is_the_same_kind_of_thing_whether_its_digits_were_drawn_ahead_or_not() -> None:
    """E-03: 48 bits of milliseconds and 74 random ones, as a version 7 UUID (RFC 9562 §5.7)."""
    ids = DrawnIds("call")
    ids.draw()
    before_ms = time.time_ns() // 1_000_000
    made = [ids.next() for _ in range(100)]  # more than were drawn
    after_ms = time.time_ns() // 1_000_000
    assert len(set(made)) == len(made)
    for each in (*made, new_id("call")):
        assert SHAPE.fullmatch(each), each
        assert each >= least_id("call", before_ms)
    for each in made:
        assert each < least_id("call", after_ms + 1)


def test_what_was_drawn_is_used_once_and_then_made_as_ever() -> None:
    """E-03: nobody waits for `draw`, and no tail comes twice."""
    ids = DrawnIds("call")
    tails = {ids.next()[-16:] for _ in range(3)}
    ids.draw()
    tails |= {ids.next()[-16:] for _ in range(40)}
    ids.draw()
    tails |= {ids.next()[-16:] for _ in range(40)}
    assert len(tails) == 83
