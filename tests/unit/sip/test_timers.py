"""Lanes of equal durations: what was armed later is due later."""

from engine.sip.timers import Deadlines, Timed


def test_items_are_due_at_their_time_and_once() -> None:
    """E-18: take_due disarms."""
    deadlines, short, long = Deadlines(), Timed(), Timed()
    deadlines.arm(long, 10.0, 0.0)
    deadlines.arm(short, 1.0, 5.0)
    assert deadlines.next() == 6.0
    assert deadlines.take_due(5.9) == []
    assert deadlines.take_due(6.0) == [short]
    assert deadlines.next() == 10.0
    assert deadlines.take_due(99.0) == [long]
    assert deadlines.next() is None


def test_arming_again_replaces_and_disarming_leaves_nothing() -> None:
    """E-18: in the same lane or another."""
    deadlines, item = Deadlines(), Timed()
    deadlines.arm(item, 1.0, 0.0)
    deadlines.arm(item, 1.0, 0.5)
    assert deadlines.next() == 1.5
    deadlines.arm(item, 7.0, 0.5)
    assert deadlines.running() == [item]
    assert deadlines.next() == 7.5
    deadlines.disarm(item)
    deadlines.disarm(item)
    assert deadlines.running() == []


def test_an_item_is_taken_out_wherever_it_stands() -> None:
    """E-18: the first, the last, one in between and the only one; what is left keeps its order and its time."""
    for gone in ("a", "b", "c", "d", "ad", "bc", "abcd"):
        deadlines, items = Deadlines(), {name: Timed() for name in "abcd"}
        for at, item in enumerate(items.values()):
            deadlines.arm(item, 1.0, float(at))
        for name in gone:
            deadlines.disarm(items[name])
        left = [name for name in "abcd" if name not in gone]
        assert deadlines.running() == [items[name] for name in left]
        assert deadlines.next() == (1.0 + "abcd".index(left[0]) if left else None)
        assert all((each.lane, each.before, each.after) == (None, None, None) for each in map(items.get, gone) if each)
        assert deadlines.take_due(9.0) == [items[name] for name in left]
        assert deadlines.running() == []


def test_lanes_of_durations_no_longer_used_are_dropped() -> None:
    """E-18: a trunk's own deadline is configured in any fraction of a second."""
    deadlines = Deadlines()
    for number in range(1000):
        item = Timed()
        deadlines.arm(item, 1.0 + number / 1000, 0.0)
        deadlines.disarm(item)
    assert len(deadlines._lanes) <= 32
