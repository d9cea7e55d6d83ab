"""Rendered files kept by (phone, file, base URL) and revision, so that an unchanged phone costs no rendering."""

from collections import OrderedDict
from dataclasses import dataclass, field

from multidict import CIMultiDict

from engine.provisioning.fetchlog import Fetch

MAX_KEPT_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Kept:
    """A rendered file at one revision, with the headers of its answers. `gzipped`: the same one compressed, once a
    phone has asked for that. `fault`: it stands in for a file that cannot be made, and why (`reason`: the fault's
    name); `is_shipped_instead`: the shipped templates made it, not the account's own.
    """

    revision: int
    body: bytes
    etag: str
    headers: CIMultiDict[str]
    audiences: dict[tuple[object, ...], Fetch] = field(default_factory=dict)
    gzipped: "Kept | None" = None
    fault: str = ""
    reason: str = ""
    is_shipped_instead: bool = False

    @property
    def size_bytes(self) -> int:
        return len(self.body) + (len(self.gzipped.body) if self.gzipped is not None else 0)


@dataclass(slots=True)
class KeptFiles:
    """Rendered bytes by (phone, file, base URL), least recently used first, bounded in bytes."""

    max_bytes: int = MAX_KEPT_BYTES
    size_bytes: int = 0
    _files: OrderedDict[tuple[str, str, str], Kept] = field(default_factory=OrderedDict)

    def get(self, key: tuple[str, str, str], revision: int) -> Kept | None:
        kept = self._files.get(key)
        if kept is None or kept.revision != revision:
            return None
        self._files.move_to_end(key)
        return kept

    def last(self, key: tuple[str, str, str]) -> Kept | None:
        """What was last kept of it, at whichever revision."""
        return self._files.get(key)

    def put(self, key: tuple[str, str, str], kept: Kept) -> None:
        old = self._files.pop(key, None)
        self.size_bytes += kept.size_bytes - (old.size_bytes if old is not None else 0)
        self._files[key] = kept
        while self.size_bytes > self.max_bytes and len(self._files) > 1:
            _, gone = self._files.popitem(last=False)
            self.size_bytes -= gone.size_bytes

    def grown(self, bytes_more: int) -> None:
        """A file that is kept has become larger."""
        self.size_bytes += bytes_more

    def __len__(self) -> int:
        return len(self._files)
