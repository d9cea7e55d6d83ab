"""The body of a phone's upload: read within bounds and thrown away."""

import asyncio

from aiohttp import HttpVersion11, hdrs, web

MAX_UPLOAD_BYTES = 1024 * 1024  # a Poly log; the phone cuts its own at 512 kB by default
WITHIN_S = 30.0  # that log over 280 kbit/s


class Refused(Exception):
    """An upload that is not taken; `reason` as the fetch log names it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def swallow(request: web.BaseRequest, within_s: float = WITHIN_S) -> int:
    """Read the body to its end. A phone that waits to be told so (RFC 9110 §10.1.1) is asked for it first.

    Returns:
        How many bytes it had.

    Raises:
        Refused: it is longer than MAX_UPLOAD_BYTES or takes longer than `within_s` seconds.
        web.RequestPayloadError: it breaks its own framing.
    """
    if (request.content_length or 0) > MAX_UPLOAD_BYTES:
        raise Refused("upload_size")
    size = 0
    try:
        async with asyncio.timeout(within_s):
            if _waits(request) and request.transport is not None:
                request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > MAX_UPLOAD_BYTES:
                    raise Refused("upload_size")
    except TimeoutError as exc:
        raise Refused("upload_slow") from exc
    return size


def _waits(request: web.BaseRequest) -> bool:
    expected = request.headers.get(hdrs.EXPECT, "")
    return request.version >= HttpVersion11 and expected.strip().lower() == "100-continue"
