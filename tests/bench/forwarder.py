"""A bare asyncio datagram forwarder: the least any Python element in the way costs.

Arguments: own address, own port, far address, far port.
What comes from the far end goes to whoever spoke last from this side, unread and unchanged.
"""

import asyncio
import socket
import sys

MAX_PER_WAKE_UP = 64
BUFFER_BYTES = 8 * 1024 * 1024


class Forwarder:
    def __init__(self, sock: socket.socket, far: tuple[str, int]) -> None:
        self._socket = sock
        self._far = far
        self._near: tuple[str, int] | None = None

    def readable(self) -> None:
        for _ in range(MAX_PER_WAKE_UP):
            try:
                data, source = self._socket.recvfrom(65_535)
            except BlockingIOError:
                return
            if source == self._far:
                if self._near is not None:
                    self._socket.sendto(data, self._near)
            else:
                self._near = source
                self._socket.sendto(data, self._far)


async def forward(ip: str, port: int, far: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        sock.bind((ip, port))
        asyncio.get_running_loop().add_reader(sock, Forwarder(sock, far).readable)
        await asyncio.Event().wait()


if __name__ == "__main__":
    here, here_port, there, there_port = sys.argv[1:]
    asyncio.run(forward(here, int(here_port), (there, int(there_port))))
