"""How many HTTP connections a port holds. One that says nothing gives way to one that just came.

The main process writes call records and mails with the same descriptors that its ports are reached by. Without a cap a
stranger who opens connections and stays silent would take them all, and no 911 call would be told to anybody.
"""

import asyncio
import contextlib
import resource

from aiohttp import web

PORTS = 2  # the phones' and the admins'
RESERVED = 256  # for the database, the journal, mail, and what waits to be closed
MAX_CONNECTIONS = 10_000  # of one port: some 15 kB each
FINISH_WITHIN_S = 5.0  # of a stop: aiohttp's 60 s for who reads slowly are all that systemd gives the whole node


def connections_of_a_port() -> int:
    """How many connections one port may hold; asks for all the descriptors this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(soft - RESERVED, soft // 2) // PORTS)


class CrowdedHandler(web.RequestHandler):
    """One connection, which knows whether it is only waiting."""

    __slots__ = ()

    @property
    def is_silent(self) -> bool:
        """True while there is no whole request to answer."""
        return self._waiter is not None and not self._waiter.done()


class CrowdedServer(web.Server):
    """aiohttp's low-level server with a cap. `max_connections` may be set before it listens."""

    max_connections = MAX_CONNECTIONS

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Take it in; beyond the cap the one that has been silent the longest goes, else the new one."""
        super().connection_made(handler, transport)
        if len(self._connections) <= self.max_connections:
            return
        silent = (each for each in self._connections if isinstance(each, CrowdedHandler) and each.is_silent)
        next(silent, handler).force_close()
