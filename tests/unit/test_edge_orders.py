"""What the SIP process is told, in which order, and what of it is done once."""

from engine.edge.orders import Waiting


def load(account_id: str) -> dict[str, str]:
    return {"do": "load", "account_id": account_id}


async def test_many_changes_of_an_account_in_a_row_are_read_once() -> None:
    """A site that is being set up changes thirty times in a second; a call must not wait for thirty readings."""
    waiting = Waiting()
    for command in (load("a"), load("b"), load("a"), {"do": "stats"}, load("a")):
        waiting.put(command)
    assert [await waiting.get() for _ in range(3)] == [load("a"), load("b"), {"do": "stats"}]
    waiting.put(load("a"))
    assert await waiting.get() == load("a"), "a change after the reading began is read again"


async def test_an_account_that_was_dropped_and_came_back_is_read_behind_the_drop() -> None:
    """Else it would be gone although its snapshot is there."""
    waiting, drop = Waiting(), {"do": "drop", "account_id": "a"}
    for command in (load("a"), drop, load("a"), load("a")):
        waiting.put(command)
    assert [await waiting.get() for _ in range(3)] == [load("a"), drop, load("a")]
