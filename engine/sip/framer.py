"""The framer: a stream cut into SIP messages (RFC 3261 §18.3, RFC 5626 §3.5.1), sans I/O.

Segments go in, whole messages come out, however they were split or coalesced on the way.
"""

import re

from engine.sip.grammar import MAX_MESSAGE_BYTES

_CONTENT_LENGTH = re.compile(
    rb"\r\n(?:content-length|l)[ \t]*+:[ \t]*+(?:\r\n[ \t]++)?(\d{1,8})[ \t]*+(?=\r\n|$)", re.IGNORECASE
)
_ANY_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*+:", re.IGNORECASE)


class FramingLost(Exception):
    """Where the next message begins cannot be known: the connection must be closed.

    `data` is what was there, for the element to refuse with the right status (400, 513).
    """

    def __init__(self, detail: str, data: bytes = b"") -> None:
        super().__init__(detail)
        self.detail = detail
        self.data = data


class Framer:
    """Cuts a stream into messages.

    `feed` returns the whole messages that the new segment completed, and sets `pings` to the number of keep-alive pings
    (double CRLF) to be answered with one CRLF each. Set `awaits_pong` after sending a ping: the next single CRLF
    between messages is then taken for the pong, and `awaits_pong` falls. `lost` is set once the stream cannot be cut
    any more; what came before that is still returned, what comes after it is ignored.
    """

    __slots__ = ("_buffer", "_needed", "_searched", "awaits_pong", "lost", "pings")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 0  # size of the message at the buffer's start; 0: not known yet
        self._searched = 0  # how far the end of its headers was looked for
        self.pings = 0
        self.awaits_pong = False
        self.lost: FramingLost | None = None

    def feed(self, segment: bytes) -> list[bytes]:
        self.pings = 0
        messages: list[bytes] = []
        if self.lost is not None:
            return messages
        self._buffer += segment
        try:
            while (message := self._next()) is not None:
                messages.append(message)
        except FramingLost as lost:
            self.lost = lost
        return messages

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if not self._needed:
            self._skip_keep_alives()
            if buffer[:1] == b"\r":
                return None
            end = buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
            if end < 0:
                self._searched = len(buffer)
                if len(buffer) > MAX_MESSAGE_BYTES:
                    raise FramingLost(f"expected headers of at most {MAX_MESSAGE_BYTES} bytes", bytes(buffer))
                return None
            self._needed = end + 4 + _content_length(buffer, end)
        if len(buffer) < self._needed:
            return None
        message = bytes(buffer[: self._needed])
        del buffer[: self._needed]
        self._needed = self._searched = 0
        return message

    def _skip_keep_alives(self) -> None:
        """CRLFs between messages: two are a ping; a single one is a pong, or is dropped when more has come."""
        buffer = self._buffer
        while buffer.startswith((b"\r", b"\n")):
            if self.awaits_pong and buffer.startswith(b"\r\n"):
                self.awaits_pong = False
                del buffer[:2]
            elif buffer.startswith(b"\r\n\r\n"):
                self.pings += 1
                del buffer[:4]
            elif b"\r\n\r\n".startswith(buffer):  # may be the first part of a ping
                return
            else:
                del buffer[: 2 if buffer.startswith(b"\r\n") else 1]


def _content_length(buffer: bytearray, end: int) -> int:
    """The body's size, read from the headers `buffer[:end]`.

    Without a readable Content-Length a stream cannot be cut (RFC 3261 §18.3); an unreadable one is put in so that the
    parser refuses the message for the same reason.
    """
    head = bytes(buffer[:end])  # not all that came: a segment may hold hundreds of messages
    found = len(_ANY_CONTENT_LENGTH.findall(head))
    match = _CONTENT_LENGTH.search(head)
    if found != 1 or match is None:
        missing = b"" if found else b"\r\nContent-Length: missing"
        raise FramingLost("expected one Content-Length of digits on a stream", head + missing + bytes(buffer[end:]))
    length = int(match.group(1))
    if end + 4 + length > MAX_MESSAGE_BYTES:
        raise FramingLost(f"expected a message of at most {MAX_MESSAGE_BYTES} bytes", bytes(buffer))
    return length
