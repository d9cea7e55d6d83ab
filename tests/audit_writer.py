"""A process that writes audited changes as fast as it can until it is killed: `python -m tests.audit_writer FOLDER ID`.

It imports once and then, for each line on its standard input, forks a child that opens the database anew, writes for
ever and prints its process id: at once for `now`, else behind its first write. So a kill costs the time of a fork, not
of a start.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import configure_mappers

from engine import crypto
from engine.audit.events import Event
from engine.audit.record import SYSTEM, open_audited, record
from engine.ids import new_id
from engine.models import Contact


async def write_for_ever(folder: Path, account_id: str, number: int, *, at_once: bool) -> None:
    """Create, rename and delete contacts, one audited transaction each; some of two rows, some refused and undone."""
    dice = random.Random(number)
    database = open_audited(f"sqlite+aiosqlite:///{folder / 'callpoint.db'}", crypto.load(folder / "keys.toml"))
    if at_once:
        _tell_pid()
    step = 0
    while True:
        step += 1
        try:
            async with database.sessions.begin() as session:
                await _change(session, account_id, f"{number}.{step}", dice)
        except LookupError:
            async with database.sessions.begin() as session:
                record(session, SYSTEM, Event.CONTACT_UPDATE, outcome="failure", account_id=account_id)
        if step == 1 and not at_once:
            _tell_pid()


async def _change(session: AsyncSession, account_id: str, name: str, dice: random.Random) -> None:
    rows = list(await session.scalars(select(Contact).where(Contact.account_id == account_id).limit(40)))
    if len(rows) < 10 or dice.random() < 0.4:
        for part in range(dice.choice((1, 2))):
            made = Contact(id=new_id("contact"), account_id=account_id, name=f"{name}.{part}", number="911")
            session.add(made)
            record(session, SYSTEM, Event.CONTACT_CREATE, made)
    elif dice.random() < 0.5:
        row = dice.choice(rows)
        row.name = name
        record(session, SYSTEM, Event.CONTACT_UPDATE, row)
    else:
        row = dice.choice(rows)
        await session.delete(row)
        record(session, SYSTEM, Event.CONTACT_DELETE, row)
    if dice.random() < 0.1:
        raise LookupError("an operation that fails at its end")


def _tell_pid() -> None:
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()


def main() -> None:
    folder, account_id = Path(sys.argv[1]), sys.argv[2]
    configure_mappers()  # once, so that each child writes soon
    for number, line in enumerate(sys.stdin):
        child = os.fork()
        if child == 0:
            asyncio.run(write_for_ever(folder, account_id, number, at_once=line.strip() == "now"))
        os.waitpid(child, 0)
        sys.stdout.write("ended\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
