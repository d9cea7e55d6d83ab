"""Ports for the programs that a test starts.

A port that the kernel hands out for the asking is free for as long as nobody else asks: until the program that is to
have it has started, a client anywhere on the machine may be given the same one. So ours lie below the range of which
clients are served (`ip_local_port_range`), and runs that go side by side take turns through one small file.
"""

import contextlib
import fcntl
import os
import socket
import tempfile
from pathlib import Path

_FIRST, _LAST = 21_000, 29_900  # below what Linux hands out (32768), beside what baresip takes for audio (20000, 30000)
_TAKEN = Path(tempfile.gettempdir()) / f"callpoint-test-ports-{os.getuid()}"


def free_port(ip: str = "127.0.0.1") -> int:
    """A port that neither UDP nor TCP uses at that address, and no other test is given for a long while.

    Raises:
        OSError: none of them is free.
    """
    with _TAKEN.open("a+") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        taken.seek(0)
        before = taken.read().strip()
        start = int(before) - _FIRST + 1 if before.isdigit() else 0
        for step in range(_LAST - _FIRST):
            port = _FIRST + (start + step) % (_LAST - _FIRST)
            if _is_free(ip, port):
                taken.truncate(0)
                taken.write(str(port))
                return port
    raise OSError(f"no free port at {ip}")


def _is_free(ip: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp, socket.socket(family) as tcp, contextlib.suppress(OSError):
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that is in TIME_WAIT can be had
        udp.bind((ip, port))
        tcp.bind((ip, port))
        return True
    return False
