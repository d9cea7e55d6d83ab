"""Where the names of trunks and PBXs last led, on disk: a node that starts while DNS is away still knows its carriers.

Without it the first 911 after a power cut, which takes the DNS server with it, would have nowhere to go. One small
sealed file for all SIP processes of the node, written in a thread when an answer has changed, by the first of them.
"""

import json
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from engine.crypto import KeyRing, Unsealable
from engine.sip.forward import Hop
from engine.sip.resolve import Name

CONTEXT = "addresses"
FILE = "addresses.sealed"

Known = Mapping[Name, tuple[Hop, ...]]


class AddressBook:
    """`load` at the start, `tick` now and then, `close` at the end. `fault`: why it cannot be read or written, "" when
    all is well; calls go by what is known in memory either way.

    Args:
        folder: The node's data folder.
        is_writer: False for all SIP processes but one.
    """

    def __init__(self, folder: Path, keys: KeyRing, *, is_writer: bool = True) -> None:
        self.fault = ""
        self._path, self._keys, self._is_writer = folder / FILE, keys, is_writer
        self._thread = ThreadPoolExecutor(1, "addresses")
        self._work: Future[str] | None = None
        self._written: Known | None = {}  # None: something that cannot be read

    def load(self) -> Known:
        """What was last written; nothing when there is none, or none that can be read."""
        try:
            rows = json.loads(self._keys.open(self._path.read_bytes(), CONTEXT))
            known = {Name(*name): tuple(Hop(*hop) for hop in hops) for name, hops in rows}
        except FileNotFoundError:
            return {}
        except (OSError, Unsealable, ValueError, TypeError) as exc:
            self.fault = f"{FILE} cannot be read ({exc!r:.200}); names of trunks lead nowhere until DNS answers"
            self._written = None
            return {}
        self._written = known
        return known

    def tick(self, known: Known) -> None:
        """Write what is known now, if that is news; returns at once."""
        if self._work is not None:
            if not self._work.done():
                return
            self.fault, self._work = self._work.result(), None
        if self._is_writer and known != self._written:
            self._written = known
            self._work = self._thread.submit(self._write, known)

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def _write(self, known: Known) -> str:
        """In the thread; "" or why it failed."""
        rows = [[list(name), [[*hop] for hop in hops]] for name, hops in known.items()]
        fresh = self._path.with_suffix(".new")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(self._keys.seal(json.dumps(rows).encode(), CONTEXT))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as exc:
            return f"{FILE} cannot be written ({exc}); a start without DNS would not know where trunks are"
        return ""
