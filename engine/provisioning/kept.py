"""Rendered files kept by (phone, file, base URL) and revision, so that an unchanged phone costs no rendering."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from multidict import CIMultiDict

from engine.provisioning.fetches import Fetch

MAX_KEPT_BYTES = 96 * 1024 * 1024
MAX_KEPT = 50_000
OVERHEAD_BYTES = 2048  # of one file beside its body: its key, its headers, who had it
MAX_BASES = 4  # of one file: two URLs while phones are moved, each by two names of this host


@dataclass(slots=True, weakref_slot=True)
class Kept:
    """A rendered file at one revision, with the headers of its answers. `gzipped`: the same one compressed, once a
    phone has asked for that. `fault`: it stands in for a file that cannot be made, and why (`reason`: the fault's
    name); `is_instead`: other templates made it than those in force.
    """

    revision: int
    body: bytes
    etag: str
    headers: CIMultiDict[str]
    audiences: dict[tuple[object, ...], Fetch] = field(default_factory=dict)
    heads: dict[int, bytes] = field(default_factory=dict)  # of its answers by status, but for the date
    gzipped: "Kept | None" = None
    fault: str = ""
    reason: str = ""
    is_instead: bool = False

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, about."""
        return len(self.body) + OVERHEAD_BYTES + (self.gzipped.size_bytes if self.gzipped is not None else 0)


@dataclass(slots=True)
class KeptFiles:
    """Rendered bytes by (phone, file, base URL), least recently used first, bounded in bytes and number. Whoever asks
    makes up the base (`Host`): of each file those of a few are kept.
    """

    max_bytes: int = MAX_KEPT_BYTES
    max_files: int = MAX_KEPT
    size_bytes: int = 0
    on_made: Callable[[tuple[str, str, str], Kept], None] | None = None  # told of what was rendered in this process
    _files: OrderedDict[tuple[str, str, str], Kept] = field(default_factory=OrderedDict)
    _bases: dict[tuple[str, str], list[str]] = field(default_factory=dict)  # of each file, the oldest first

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
        self._drop(key)
        bases = self._bases.setdefault(key[:2], [])
        if len(bases) >= MAX_BASES:
            self._drop((*key[:2], bases[0]))
            bases = self._bases.setdefault(key[:2], [])
        bases.append(key[2])
        self._files[key] = kept
        self.size_bytes += kept.size_bytes
        while (self.size_bytes > self.max_bytes or len(self._files) > self.max_files) and len(self._files) > 1:
            self._drop(next(iter(self._files)))

    def _drop(self, key: tuple[str, str, str]) -> None:
        gone = self._files.pop(key, None)
        if gone is None:
            return
        self.size_bytes -= gone.size_bytes
        bases = self._bases[key[:2]]
        bases.remove(key[2])
        if not bases:
            del self._bases[key[:2]]

    def grown(self, bytes_more: int) -> None:
        """A file that is kept has become larger."""
        self.size_bytes += bytes_more

    def __len__(self) -> int:
        return len(self._files)
