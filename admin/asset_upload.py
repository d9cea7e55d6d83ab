"""Taking a file that an administrator sends: streamed to disk before the transaction, never held in memory.

The API takes the bytes as the request's body and what the file is as query parameters, so that one `curl -T` sends it;
a page sends a form, its file last. In both cases what the file is, is judged before the first byte is kept.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import BodyPartReader, hdrs, web

from admin.context import ASSETS, DISK
from engine.disk import Level
from engine.errors import FieldFault, Invalid
from engine.provisioning import assetfile, assets
from engine.provisioning.assets import AssetFields
from engine.provisioning.assetstore import Received

STALL_S = 60.0
PIECE_BYTES = 256 * 1024
QUERIES = ("name", "kind", "vendor", "models", "firmware")
_TEXT_BYTES = 2048
_TEXTS = 16


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What was sent: the fields as they were given, and the bytes under their temporary name."""

    wished: AssetFields
    received: Received


class Refused(Invalid):
    """An upload that was refused; it still knows what was typed, for the form."""

    def __init__(self, wished: AssetFields, refusal: Invalid) -> None:
        super().__init__(refusal.detail, fields=refusal.fields)
        self.wished = wished


async def take_body(request: web.Request) -> Uploaded:
    """The API's way: fields from the query, bytes from the body. Raises Invalid."""
    wished = _fields({name: request.query.get(name, "") for name in QUERIES})
    _judge(wished)
    _judge_length(request, wished)
    _judge_room(request)
    chunks = _unstalled(request.content.iter_chunked(PIECE_BYTES))
    return Uploaded(wished, await _received(request, wished, chunks))


async def take_form(request: web.Request) -> Uploaded:
    """The page's way: a multipart form, its file behind the fields. Raises Refused."""
    texts: dict[str, str] = {}
    if request.content_type != "multipart/form-data":
        raise Refused(_fields(texts), _no_file())
    reader = await request.multipart()
    for _ in range(_TEXTS):
        part = await reader.next()
        if not isinstance(part, BodyPartReader):
            break
        if part.filename is None:
            texts[part.name or ""] = (await part.read_chunk(_TEXT_BYTES)).decode("utf-8", "replace").strip()
            continue
        if not part.filename:
            break
        wished = _fields({**texts, "name": texts.get("name") or part.filename.replace(" ", "_")})
        try:
            _judge(wished)
            _judge_length(request, wished)
            _judge_room(request)
            return Uploaded(wished, await _received(request, wished, _unstalled(_parts(part))))
        except Refused:
            raise
        except Invalid as exc:
            raise Refused(wished, exc) from exc
    raise Refused(_fields(texts), _no_file())


def _no_file() -> Invalid:
    return Invalid("No file was sent.", fields=(FieldFault("file", "Choose the file to upload."),))


async def _received(request: web.Request, wished: AssetFields, chunks: AsyncIterator[bytes]) -> Received:
    return await request.app[ASSETS].receive(chunks, most_bytes=assetfile.MAX_BYTES[wished.kind])


def _fields(texts: dict[str, str]) -> AssetFields:
    models = tuple(part.strip() for part in texts.get("models", "").split(",") if part.strip())
    return AssetFields(
        name=texts.get("name", ""),
        kind=texts.get("kind", ""),
        vendor=texts.get("vendor", ""),
        models=models,
        firmware=texts.get("firmware", ""),
    )


def _judge(wished: AssetFields) -> None:
    faults = assets.field_faults(wished)
    if faults:
        raise Invalid("The file cannot be stored like this.", fields=faults)


def _judge_length(request: web.Request, wished: AssetFields) -> None:
    """Refuse by what the request says of itself, before a byte is read. A form is a little longer than its file."""
    most = assetfile.MAX_BYTES[wished.kind]
    if (request.content_length or 0) > most + 64 * 1024:
        size = int(request.headers.get(hdrs.CONTENT_LENGTH, "0"))
        detail = f"A {wished.kind} has at most {most // 1024**2} MiB, this has {size // 1024**2}."
        raise Invalid("The file is too large.", fields=(FieldFault("file", detail),))


def _judge_room(request: web.Request) -> None:
    """Refuse while the disk is nearly full: what is left is for records of 911 calls."""
    if request.app[DISK].level is Level.CRITICAL:
        detail = (
            "The disk of this server is nearly full, and what is left is kept for records of 911 calls. Free space."
        )
        raise Invalid("There is no room for the file.", fields=(FieldFault("file", detail),))


async def _parts(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(PIECE_BYTES):
        yield bytes(chunk)


async def _unstalled(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces, as long as one comes each minute."""
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                chunk = await anext(chunks, b"")
        except TimeoutError as exc:
            raise Invalid(
                "The upload stopped.", fields=(FieldFault("file", f"Nothing came for {STALL_S:.0f} seconds."),)
            ) from exc
        if not chunk:
            return
        yield chunk
