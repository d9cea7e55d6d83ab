"""What one process of the phones' port has rendered, as the others take it."""

import asyncio

import pytest
from multidict import CIMultiDict

from engine.phones_files import Gathered, keep
from engine.phones_line import File, Files, frame, read_frame
from engine.provisioning.kept import Kept, KeptFiles

KEY = ("phone", "805ec0aabb01.cfg", "http://h token")
OTHER = ("phone", "805ec0aabb01.boot", "http://h token")


def made(revision: int, body: bytes = b"x") -> Kept:
    return Kept(revision, body, '"e"', CIMultiDict({"ETag": '"e"', "Content-Type": "text/plain"}))


def told(kept: Kept) -> File:
    return File(KEY, kept.revision, kept.body, kept.etag, tuple(kept.headers.items()))


@pytest.mark.asyncio
async def test_files_made_in_one_moment_are_told_together_and_arrive_as_they_were() -> None:
    heard: asyncio.Queue[Files] = asyncio.Queue()
    gathered = Gathered(heard.put_nowait)
    gathered.note(KEY, made(7))
    gathered.note(OTHER, made(7, b"boot"))
    async with asyncio.timeout(30):
        first = await heard.get()
        gathered.note(KEY, made(8))
        second = await heard.get()
    assert [file.key for file in first.files] == [KEY, OTHER]
    assert [file.revision for file in second.files] == [8]

    reader = asyncio.StreamReader()
    reader.feed_data(frame(first))
    files = KeptFiles()
    keep(files, (await read_frame(reader)).files)
    kept = files.get(OTHER, 7)
    assert kept is not None
    assert (kept.body, kept.etag, kept.headers) == (b"boot", '"e"', made(7).headers)


def test_a_process_keeps_its_own_file_unless_the_other_s_is_newer() -> None:
    """P-03: what is served is decided by the revision in the database; an old file never takes a newer one's place."""
    files = KeptFiles()
    own = made(7)
    files.put(KEY, own)
    keep(files, [told(made(6, b"older")), told(made(7, b"same"))])
    assert files.get(KEY, 7) is own
    keep(files, [told(made(8, b"newer"))])
    newer = files.get(KEY, 8)
    assert newer is not None
    assert newer.body == b"newer"
