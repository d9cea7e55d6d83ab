"""Files sent with a form, and tables that wait between their check and their import."""

import asyncio
import secrets
from dataclasses import dataclass, field

from aiohttp import MultipartReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.multipart import BodyPartReader
from aiohttp.streams import StreamReader

from engine.db import utc_now
from engine.errors import FieldFault, Invalid

MAX_WAITING = 8
WAITS_S = 1_800.0
MAX_TEXT_BYTES = 10_000
PIECE_BYTES = 1 << 16


async def form_posted(request: web.Request) -> tuple[dict[str, str], dict[str, tuple[str, bytes]]]:
    """The texts of a form by name, and its files by name: (file name, content). The body has been read already, before
    the transaction, so it is parsed from memory.

    Raises:
        Invalid: no form that could be read.
    """
    texts: dict[str, str] = {}
    files: dict[str, tuple[str, bytes]] = {}
    if request.content_type != "multipart/form-data":
        return {name: str(value) for name, value in (await request.post()).items()}, files
    try:
        async for part in MultipartReader(request.headers, _stream_of(await request.read())):
            if not isinstance(part, BodyPartReader) or not part.name:
                continue
            content = bytes(await part.read(decode=True))
            if part.filename is None:
                texts[part.name] = content[:MAX_TEXT_BYTES].decode("utf-8", "replace")
            else:
                files[part.name] = (part.filename[:200], content)
    except (ValueError, RuntimeError, web.HTTPException, LookupError) as exc:
        detail = "The form could not be read. Choose the file again and send it once more."
        raise Invalid(detail, fields=(FieldFault("file", detail),)) from exc
    return texts, files


def _stream_of(body: bytes) -> StreamReader:
    """`body` as a stream that has ended. Its limit is the body: beyond it a stream asks its connection to pause, and
    here there is none. In pieces, because what a reader of parts puts back copies the rest of its piece.
    """
    loop = asyncio.get_running_loop()
    stream = StreamReader(BaseProtocol(loop), max(len(body), PIECE_BYTES), loop=loop)
    for start in range(0, len(body), PIECE_BYTES):
        stream.feed_data(body[start : start + PIECE_BYTES])
    stream.feed_eof()
    return stream


@dataclass(frozen=True, slots=True)
class Kept:
    """A table that was checked and waits to be confirmed by the person who sent it."""

    account_id: str
    user_id: str
    name: str
    kind: str
    body: bytes
    at: float


@dataclass(slots=True)
class Waiting:
    """Tables between check and import, in memory alone: they hold secrets. The oldest makes room."""

    _kept: dict[str, Kept] = field(default_factory=dict)

    def keep(self, table: Kept) -> str:
        """Returns the name to ask for it by."""
        while len(self._kept) >= MAX_WAITING:
            del self._kept[next(iter(self._kept))]
        key = secrets.token_urlsafe(18)
        self._kept[key] = table
        return key

    def take(self, key: str, account_id: str, user_id: str) -> Kept:
        """The table; it stays until it is too old. Raises Invalid: there is none (any more) of theirs."""
        table = self._kept.get(key)
        too_old = table is not None and utc_now().timestamp() - table.at > WAITS_S
        if table is None or too_old or (table.account_id, table.user_id) != (account_id, user_id):
            detail = "The check is too old, or the server was restarted. Choose the file again."
            raise Invalid(detail, fields=(FieldFault("file", detail),))
        return table

    def forget(self, key: str) -> None:
        self._kept.pop(key, None)
