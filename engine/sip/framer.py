"""The framer: a stream cut into SIP messages (RFC 3261 §18.3, RFC 5626 §3.5.1), sans I/O.

Segments go in, whole messages come out, however they were split or coalesced on the way.
"""

import re

from engine.sip.grammar import MAX_MESSAGE_BYTES

_CONTENT_LENGTH = re.compile(
    rb"\r\n(?:content-length|l)[ \t]*+:[ \t]*+(?:\r\n[ \t]++)?(\d{1,8})[ \t]*+(?=\r\n|$)", re.IGNORECASE
)
_START = re.compile(
    rb"(?:[A-Za-z]{3,20} [^\s]{1,4096}+ SIP/2\.0|SIP/2\.0 [1-6]\d\d [^\r\n]{0,200}+)\r?\n", re.IGNORECASE
)
_CONTENT_TYPE = re.compile(rb"\r\n(?:content-type|c)[ \t]*+:[ \t]*+([^\r\n]*+)", re.IGNORECASE)
_SDP_LINES = re.compile(rb"(?:[a-z]=[^\r\n]*+\r?\n)*+")  # RFC 4566 §5: nothing else stands in it
_BOUNDARY = re.compile(rb";[ \t]*+boundary[ \t]*+=[ \t]*+\"?([^\s\";]{1,70}+)", re.IGNORECASE)
_MAX_START_BYTES = 4_400  # a start line that has no end by then is none
_ANY_CONTENT_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*+:", re.IGNORECASE)


class FramingLost(Exception):
    """Where the next message begins is not said.

    `data` is what was there, for the element to refuse with the right status (400, 513). `rest`: what follows it, when
    its body says by itself where it ends; None when it does not.
    """

    def __init__(self, detail: str, data: bytes = b"", rest: bytes | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.data = data
        self.rest = rest


class Framer:
    """Cuts a stream into messages.

    `feed` returns the whole messages that the new segment completed, and sets `pings` to the number of keep-alive pings
    (double CRLF) to be answered with one CRLF each. Set `awaits_pong` after sending a ping: the next single CRLF
    between messages is then taken for the pong, and `awaits_pong` falls. `lost` is set once the stream cannot be cut
    any more; what came before that is still returned, what comes after it is ignored, unless `resume` is called.
    """

    __slots__ = ("_buffer", "_is_doubtful", "_needed", "_searched", "awaits_pong", "lost", "pings")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 0  # size of the message at the buffer's start; 0: not known yet
        self._searched = 0  # how far the end of its headers was looked for
        self.pings = 0
        self.awaits_pong = False
        self.lost: FramingLost | None = None
        self._is_doubtful = False  # the next bytes must begin a message, or be the rest of an SDP body

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

    def resume(self) -> list[bytes]:
        """Go on behind the message that was lost where its end is certain: `lost` is None then. Returns as `feed`."""
        if self.lost is None or self.lost.rest is None:
            return []
        self._buffer = bytearray(self.lost.rest)
        self._needed = self._searched = 0
        self.lost, self._is_doubtful = None, True
        return self.feed(b"")

    def _is_at_start(self) -> bool:
        """Whether a message begins here; False: more must come to tell. Raises FramingLost when none does."""
        buffer = self._buffer
        del buffer[: _SDP_LINES.match(buffer).end()]  # type: ignore[union-attr]  # it matches nothing, too
        self._skip_keep_alives()
        if _START.match(buffer):
            self._is_doubtful = False
        elif len(buffer) > _MAX_START_BYTES or (b"\n" in buffer and buffer[:1] != b"\r"):
            raise FramingLost("what follows begins no message")
        return not self._is_doubtful

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if self._is_doubtful and not self._is_at_start():
            return None
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
        data = bytes(buffer)
        over = _body_end(data, end + 4)
        whole = head + (b"" if found else b"\r\nContent-Length: missing") + data[end : over or len(data)]
        raise FramingLost("expected one Content-Length of digits on a stream", whole, data[over:] if over else None)
    length = int(match.group(1))
    if end + 4 + length > MAX_MESSAGE_BYTES:
        raise FramingLost(f"expected a message of at most {MAX_MESSAGE_BYTES} bytes", bytes(buffer))
    return length


def _body_end(data: bytes, start: int) -> int | None:
    """Where the body that begins at `start` ends as its own form says: no body, SDP, or a multipart that is whole. None
    when that does not say it, or when what follows begins no message.
    """
    kind = _CONTENT_TYPE.search(data, 0, start)
    value = kind.group(1).lower() if kind is not None else b""
    end = start
    if value.startswith(b"application/sdp"):
        match = _SDP_LINES.match(data, start)
        end = match.end() if match is not None else start
    elif value.startswith(b"multipart/") and kind is not None:
        boundary = _BOUNDARY.search(kind.group(1))
        closing = b"\r\n--" + boundary.group(1) + b"--" if boundary is not None else b""
        at = data.find(closing, start - 2) if closing else -1
        if at < 0:
            return None
        end = at + len(closing)
    elif kind is not None:
        return None
    rest = data[end:].lstrip(b"\r\n")
    return end if not rest or _START.match(rest) or (b"\n" not in rest and len(rest) < _MAX_START_BYTES) else None
