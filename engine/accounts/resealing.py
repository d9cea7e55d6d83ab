"""Stored secrets are sealed anew with the current key, beside a running node (decision 0046).

Theory of operation. A sealed value names its key, and old keys stay in the key file, so that at every moment each value
opens, whichever it was sealed with. Rows are read without the writer's turn, sealed, and written some hundred at a
time, each only where it still holds what was read. Broken off anywhere, the rest is done by the next run.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from engine.accounts import store_sealed
from engine.accounts.store_sealed import Secret
from engine.crypto import KeyRing, Unsealable, key_id_of
from engine.db import Database

ROWS = 200  # a write of some 20 ms: nobody waits longer for it than for another one
PAUSE_S = 0.02  # others' writes come between


async def counted(database: Database) -> Counter[str]:
    """Key id -> how many stored values are sealed with it."""
    found: Counter[str] = Counter()
    async with database.sessions() as session:
        for table in store_sealed.tables():
            for begins, count in (await store_sealed.key_marks(session, table)).items():
                found[key_id_of(begins)] += count
    return found


async def reseal(database: Database, keys: KeyRing, on_step: Callable[[int], None] = lambda _done: None) -> int:
    """Seal everything with the current key that is not; returns how many values.

    Args:
        on_step: Told after each write how many are done.

    Raises:
        Unsealable: a value is sealed with a key that is not here. What was done until then stays done.
    """
    done = 0
    for table in store_sealed.tables():
        last = None
        while True:
            async with database.sessions() as session:
                found, last = await store_sealed.secrets_of(session, table, last, ROWS)
            if last is None:
                break
            anew = [(one, _anew(keys, one)) for one in found if key_id_of(one.sealed) != keys.current]
            if not anew:
                continue
            async with database.sessions.begin() as session:
                done += await store_sealed.exchange(session, table, anew)
            on_step(done)
            await asyncio.sleep(PAUSE_S)
    return done


def _anew(keys: KeyRing, one: Secret) -> bytes:
    try:
        return keys.seal(keys.open(one.sealed, one.context), one.context)
    except Unsealable as exc:
        raise Unsealable(f"{one.context} of {'/'.join(map(str, one.key))}: {exc}") from exc
