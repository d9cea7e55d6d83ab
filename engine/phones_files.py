"""Files that one process of the phones' port has made, made known to the others.

Each process keeps what it has rendered, and the kernel gives a phone to any of them: without this every file would be
rendered once by each, and the last good file of a template that breaks would be there in some of them only. What is
made is told in groups, once the phone has its answer. A process that hears nothing (it hangs, or it was started a
moment ago) renders by itself.
"""

import asyncio
from collections.abc import Callable, Iterable

from multidict import CIMultiDict

from engine.phones_line import File, Files
from engine.provisioning.again import Key
from engine.provisioning.kept import Kept, KeptFiles

GATHER_S = 0.05  # one wake-up of the others for all that a storm has rendered meanwhile


class Gathered:
    """The files made here and not told yet.

    Args:
        tell: Hands them to the other processes; must not wait.
    """

    def __init__(self, tell: Callable[[Files], None]) -> None:
        self._tell = tell
        self._files: list[File] = []

    def note(self, key: Key, kept: Kept) -> None:
        """Made in this process, just now."""
        if not self._files:
            asyncio.get_running_loop().call_later(GATHER_S, self._tell_all)
        self._files.append(File(key, kept.revision, kept.body, kept.etag, tuple(kept.headers.items())))

    def _tell_all(self) -> None:
        files, self._files = self._files, []
        self._tell(Files(files))


def keep(files: KeptFiles, made: Iterable[File]) -> None:
    """Keep what another process has made, where it is newer than what is kept here: serving it is still a matter of the
    revision that the database says.
    """
    for each in made:
        last = files.last(each.key)
        if last is None or last.revision < each.revision:
            files.put(each.key, Kept(each.revision, each.body, each.etag, CIMultiDict(each.headers)))
