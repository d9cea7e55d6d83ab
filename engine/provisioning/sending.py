"""Sending bytes to phones: a file from disk or a part of it, and rendered files compressed where the phone asks.

A file is never in memory as a whole. Its answer's headers and first bytes are written without waiting for anything
since the look-up of the token, so the token was in force when the answer began; what follows may take minutes on a
thin line, and a rotation in between does not cut it off (a firmware half written is what bricks phones). A phone that
takes nothing for `STALL_S` is let go.

Compression is content coding as RFC 9110 §8.4 means it: the compressed bytes are another representation with an
entity tag of their own (§8.8.3.3), `Vary` says on what it depends, and both are kept.
"""

import asyncio
import gzip
from collections.abc import Mapping
from typing import BinaryIO

from aiohttp import hdrs, web
from multidict import CIMultiDict

from engine.provisioning.answers import SECURITY
from engine.provisioning.kept import Kept, KeptFiles
from engine.provisioning.ranges import Part, part_of

STALL_S = 60.0
PIECE_BYTES = 256 * 1024  # 4 kB/s is the slowest line a download survives on
FIRST_BYTES = 16 * 1024
MIN_COMPRESSED_BYTES = 1024  # below, the headers of the answer weigh as much as what is saved
GZIP_LEVEL = 6
_COMPRESSIBLE = ("text/", "application/xml", "application/json")


class FileAnswer(web.StreamResponse):
    """A response that does not say which server software made it."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self._headers.popall(hdrs.SERVER, None)


def part_for(request: web.BaseRequest, size: int, etag: str) -> Part:
    """The part of a file of that size and tag that the request's header fields ask for."""
    fields = request.headers
    return part_of(
        size,
        etag,
        range_header=fields.get(hdrs.RANGE) if request.method == hdrs.METH_GET else None,  # RFC 9110 §14.2
        if_range=fields.get(hdrs.IF_RANGE),
        if_none_match=fields.get(hdrs.IF_NONE_MATCH),
        if_match=fields.get(hdrs.IF_MATCH),
    )


async def send_part(
    request: web.BaseRequest, file: BinaryIO, size: int, part: Part, headers: Mapping[str, str]
) -> tuple[web.StreamResponse, int]:
    """Answer with that part of an open file. Returns the answer, ended, and how many bytes of the file were sent."""
    answer = FileAnswer(status=part.status, headers=CIMultiDict(headers))
    answer.headers["Accept-Ranges"] = "bytes"
    if part.status == 206:
        answer.headers[hdrs.CONTENT_RANGE] = f"bytes {part.first}-{part.last}/{size}"
    if part.status == 416:
        answer.headers[hdrs.CONTENT_RANGE] = f"bytes */{size}"
    has_body = part.status in {200, 206}
    if part.status != 304:
        answer.content_length = part.length if has_body else 0
    if not has_body or request.method == hdrs.METH_HEAD:
        await answer.prepare(request)
        await answer.write_eof()
        return answer, 0
    file.seek(part.first)
    beginning = file.read(min(FIRST_BYTES, part.length))
    await answer.prepare(request)
    return answer, await _send(request, answer, file, beginning, part)


async def _send(
    request: web.BaseRequest, answer: web.StreamResponse, file: BinaryIO, beginning: bytes, part: Part
) -> int:
    sent = 0
    try:
        async with asyncio.timeout(STALL_S):
            await answer.write(beginning)
        sent = len(beginning)
        while sent < part.length:
            piece = min(PIECE_BYTES, part.length - sent)
            async with asyncio.timeout(STALL_S):
                if not await _piece(request, answer, file, part.first + sent, piece):
                    raise ConnectionError("the file is shorter than it was")
            sent += piece
        await answer.write_eof()
    except (TimeoutError, OSError, RuntimeError):  # RuntimeError: the transport is closing
        answer.force_close()
        if request.transport is not None:
            request.transport.abort()
    return sent


async def _piece(request: web.BaseRequest, answer: web.StreamResponse, file: BinaryIO, offset: int, count: int) -> bool:
    """Send so many bytes from there, by the kernel where the loop can (uvloop cannot). False: there are none."""
    if request.transport is None:
        raise ConnectionResetError("the phone is gone")
    try:
        return await asyncio.get_running_loop().sendfile(request.transport, file, offset, count) == count
    except (NotImplementedError, asyncio.SendfileNotAvailableError):
        file.seek(offset)
        data = await asyncio.to_thread(file.read, count)
        await answer.write(data)
        return len(data) == count


def headers_of(content_type: str, size_bytes: int, etag: str) -> CIMultiDict[str]:
    """The header fields of a rendered file, `Vary` among them where it may be compressed."""
    headers = CIMultiDict({hdrs.CONTENT_TYPE: content_type, "ETag": etag, **SECURITY})
    if is_compressible(content_type, size_bytes):
        headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
    return headers


def cut_short(method: str, part: Part, sent: int) -> tuple[str, ...]:
    """What the fetch log says of a download that the phone did not take to its end."""
    if method == hdrs.METH_HEAD or part.status not in {200, 206} or sent == part.length:
        return ()
    return (f"the phone took {sent:,} of {part.length:,} bytes and let go, or took none for a minute",)


# --- Compression ------------------------------------------------------------------------------------------------------


def is_compressible(content_type: str, size_bytes: int) -> bool:
    """Text of some size. What is sealed is bytes, and random ones."""
    return size_bytes >= MIN_COMPRESSED_BYTES and content_type.startswith(_COMPRESSIBLE)


def wants_gzip(accept_encoding: str | None) -> bool:
    """Whether the field names gzip, or any coding, with a weight that is not zero (RFC 9110 §12.5.3)."""
    if not accept_encoding:
        return False
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        name, _, parameters = item.partition(";")
        weights[name.strip()] = _weight(parameters)
    named = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return named > 0.0


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0  # what cannot be read is no wish


def representation(files: KeptFiles, kept: Kept, accept_encoding: str | None) -> Kept:
    """What this asker is sent of a kept file: itself, or its compressed twin, which is kept from then on."""
    if not wants_gzip(accept_encoding) or not is_compressible(kept.headers[hdrs.CONTENT_TYPE], len(kept.body)):
        return kept
    if kept.gzipped is None:
        files.grown(compressed(kept).size_bytes)
    return compressed(kept)


def compressed(kept: Kept) -> Kept:
    """The same file as gzip writes it, made once; the same bytes in every process (no time, no name in them)."""
    if kept.gzipped is None:
        body = gzip.compress(kept.body, GZIP_LEVEL, mtime=0)
        etag = f'{kept.etag[:-1]}-gz"'
        headers = CIMultiDict(kept.headers)
        headers[hdrs.CONTENT_ENCODING] = "gzip"
        headers["ETag"] = etag
        kept.gzipped = Kept(kept.revision, body, etag, headers)
    return kept.gzipped
