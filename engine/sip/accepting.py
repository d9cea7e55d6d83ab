"""Servers that have no descriptor left: what asyncio makes of it, and what is done about it.

For each wake-up of a listening socket asyncio accepts as often as the backlog is long, and when there is no descriptor
(EMFILE) it does not stop there: a thousand times it writes an error with its trace, and asks to be woken in a second to
do so again. A process that carries calls would do little else. So it is told a backlog of one, and the kernel the real
one afterwards: one connection is accepted at a wake-up, and one line is written a second.
"""

import asyncio
import os
import socket

AT_ONCE = 1
"""The `backlog` to give to asyncio."""
WAITING = 1_024  # connections that the kernel keeps until they are accepted


def keep_waiting(server: asyncio.AbstractServer | None) -> None:
    """Have the kernel keep more connections waiting than asyncio accepts at once. uvloop's server has sockets as well
    and is none of asyncio's class; left at a backlog of one, it makes callers try again for seconds.
    """
    for each in getattr(server, "sockets", None) or ():
        with socket.socket(fileno=os.dup(each.fileno())) as listening:
            listening.listen(WAITING)
