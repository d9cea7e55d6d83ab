"""A process that lets an account's old records go until it is killed: `python -m tests.record_pruner FOLDER`.

For each line on its standard input it forks a child that opens the database anew, prints its process id and removes for
ever, as a node whose duty it is; a chain is shortened again as soon as it has something old. It says what it is about
to do, a line for each statement, and waits until it is told to go on: whoever kills it knows in the middle of what.
"""

import asyncio
import datetime as dt
import os
import sys
from pathlib import Path

from sqlalchemy import event, text
from sqlalchemy.orm import configure_mappers

from engine import crypto, retention
from engine.audit.record import open_audited
from engine.db import utc_now
from engine.retention import RecordRetention


def told(what: str) -> None:
    """Say what comes next and wait for a byte, past the buffer of whoever forked us."""
    print(what, flush=True)
    os.read(sys.stdin.fileno(), 1)


async def remove_for_ever(folder: Path) -> None:
    retention.PRUNED_EVERY, retention.PAUSE_S, retention.MOST_BATCH = dt.timedelta(0), 0.0, 10
    retention.LEAST_BATCH = 10
    database = open_audited(f"sqlite+aiosqlite:///{folder / 'callpoint.db'}", crypto.load(folder / "keys.toml"))
    duty = RecordRetention(database, crypto.load(folder / "keys.toml"), settle=dt.timedelta(0))
    async with database.sessions() as session:
        await session.execute(text("SELECT 1"))
    event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *said: told(said[2].split()[0]))
    event.listen(database.engine.sync_engine, "commit", lambda _connection: told("COMMIT"))
    print(os.getpid(), flush=True)
    while True:
        await duty.sweep(utc_now() + dt.timedelta(minutes=10))  # behind the lease of whoever was killed before


def main() -> None:
    configure_mappers()
    for _line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(remove_for_ever(Path(sys.argv[1])))
        os.waitpid(child, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
