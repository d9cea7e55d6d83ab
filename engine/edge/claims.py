"""Which SIP process of several lends a number of a pool at this moment: told by a name in the kernel, not by a file.

Two processes that take a 911 call each within the same half second have not read of each other's loans yet (see
`loans`). Before a number of a pool is lent its name is taken as the address of an abstract socket (unix(7)): the kernel
gives a name to one alone, at once, without a disk, and gives it back when the process dies. A name that somebody else
has taken is a number that is being lent; the next one is chosen. It is held until the file has long told everybody.

The same way a process says that it has begun a 911 call: a sibling that is handed a repetition of its INVITE while that
process pauses leaves it to it, once.

Everybody on the machine reads these names (/proc/net/unix) and may take one: they are keyed hashes, so that nobody else
knows whose number is lent, nor which name to take.
"""

import errno
import hashlib
import socket
from collections import OrderedDict

from engine.sip.message import BadMessage, Request, parse_message

HELD_S = 5.0  # ten times as long as a loan takes to be read by the others
MAX_HELD = 256  # descriptors; more numbers than that within `HELD_S` are more callers than any pool has


class Claims:
    """Numbers that this process lends now. `secret`: what the processes of one data folder have in common, 64 bytes at
    most.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._held: OrderedDict[str, tuple[socket.socket, float]] = OrderedDict()

    def take(self, number: str, now: float) -> bool:
        """Whether the number is ours to lend; what cannot be asked counts as ours. `now` on any steady clock."""
        if number in self._held:
            return True
        sock = None
        name = hashlib.blake2b(number.encode(), key=self._secret, digest_size=16).hexdigest()
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.bind(f"\0callpoint/{name}")
        except OSError as exc:
            if sock is not None:
                sock.close()
            return exc.errno != errno.EADDRINUSE  # no descriptor left, not allowed: a call waits for nobody
        self._held[number] = (sock, now)
        if len(self._held) > MAX_HELD:
            self._held.popitem(last=False)[1][0].close()
        return True

    def take_call(self, request: Request, now: float) -> bool:
        """The same for a call, by its INVITE as it came, or its CANCEL: whether it is ours."""
        return self.take((request.via.branch + b" " + request.call_id_bytes).decode("latin-1"), now)

    def is_begun(self, data: bytes, now: float) -> bool:
        """Whether another process has begun the call that this is of. From now on it is ours if none has."""
        try:
            request = parse_message(data)
        except BadMessage:
            return False
        return isinstance(request, Request) and not self.take_call(request, now)

    def tick(self, now: float) -> None:
        """Give back what everybody knows of by now."""
        while self._held:
            sock, since = next(iter(self._held.values()))
            if since > now - HELD_S:
                return
            sock.close()
            self._held.popitem(last=False)

    def close(self) -> None:
        for sock, _ in self._held.values():
            sock.close()
        self._held.clear()
