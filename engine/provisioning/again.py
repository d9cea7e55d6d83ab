"""The same request again: what was answered to it, for as long as nothing has changed that the answer was made from.

A phone that asks on one connection for what it has is judged by the same rules from the same values every time. All of
these stand in the request, in the row that its look-up finds, and in the kept file; so when all three are the same, the
answer is. The look-up is made before anything is compared: a commit that changes the row or the revision ends what is
remembered here with its very next request. Rules that remember something of their own (`quarantine.Gate`,
`admission.Admission`) are asked by the caller whether they hold something. Only files that were served are remembered,
never a refusal, and nothing of a request that showed a certificate, since a certificate ends by itself.
"""

import weakref
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.provisioning.fetches import Fetch
from engine.provisioning.index import Found
from engine.provisioning.kept import Kept, KeptFiles

MAX_REMEMBERED = 4096  # about 6 MB; the files themselves are kept elsewhere

Key = tuple[str, str, str]  # of a kept file


class Served(NamedTuple):
    """A file as it was served. `sent`: it, or its compressed twin."""

    found: Found
    key: Key
    kept: "weakref.ref[Kept]"
    sent: "weakref.ref[Kept]"
    is_same: bool
    fetch: Fetch


@dataclass(slots=True)
class Answered:
    """What was served to whom, by all of the request that the answer depends on. Forgotten as a whole when full."""

    most: int = MAX_REMEMBERED
    _served: dict[tuple[object, ...], Served] = field(default_factory=dict)

    def put(self, asked: tuple[object, ...], served: Served) -> None:
        if len(self._served) >= self.most:
            self._served.clear()
        self._served[asked] = served

    def get(self, asked: tuple[object, ...], found: Found, files: KeptFiles) -> tuple[Kept, Served] | None:
        """What is to be sent once more, and how it was; None: the rules have to be asked."""
        served = self._served.get(asked)
        if served is None or served.found != found:
            return None
        kept, sent = files.get(served.key, found.revision), served.sent()
        if kept is None or sent is None or kept is not served.kept():
            return None
        return sent, served

    def __len__(self) -> int:
        return len(self._served)
