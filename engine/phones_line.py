"""What the processes of the phones' port tell one another, and how it is written."""

import asyncio
import pickle
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.config import Config, Listen
from engine.e911.location import Sighting
from engine.provisioning.fetches import Noted
from engine.provisioning.render import PhoneConfig

LENGTH = struct.Struct("!I")
MAX_FRAME_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is told at its start: the whole configuration, and the address that was bound for port 0."""

    config: Config
    listen: Listen


class Up(NamedTuple):
    """It listens."""


class Fetches(NamedTuple):
    """Events of the fetch log."""

    noted: list[Noted]


class Rendered(NamedTuple):
    """What the file of that tag was made from. `pattern` names the file's rule in its profile."""

    etag: str
    profile: str
    pattern: str
    config: PhoneConfig
    overrides: dict[str, str]


class File(NamedTuple):
    """A rendered file as it is kept. `key`: `engine.provisioning.again.Key`."""

    key: tuple[str, str, str]
    revision: int
    body: bytes
    etag: str
    headers: tuple[tuple[str, str], ...]


class Files(NamedTuple):
    """What one of the processes has made, for all the others."""

    files: list[File]


class Sighted(NamedTuple):
    """A phone measured where it is attached."""

    account_id: str
    sighting: Sighting


def frame(message: object) -> bytes:
    """A message between the two processes: its length in four bytes, then pickled."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """The next message.

    Raises:
        asyncio.IncompleteReadError: the other side has ended. ValueError: no message of ours.
    """
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - from our own process, over a pipe it made
