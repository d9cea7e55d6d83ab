"""What the element is told to do with a request: where to send it, in which order, with which edits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.sip.auth import Credentials
from engine.sip.timers import EMERGENCY_PROGRESS_S

UNPROVEN = "?"  # stands in no host name


class Hop(NamedTuple):
    """A peer's address, or the address and stream a message came from. `transport` is "udp", "tcp" or "tls".

    `connection` is the shell's number of a stream, 0 for none or any. `host` is on TLS alone: the name the peer must
    prove (RFC 5922 §7.2) and that is sent as SNI; with `UNPROVEN` before it, it is sent and need not be proven. A named
    tuple because one is made per datagram: a frozen dataclass costs three times as much to make and to hash.
    """

    transport: str
    ip: str
    port: int
    connection: int = 0
    host: str = ""

    @property
    def is_unproven(self) -> bool:
        """May anybody be there, as long as TLS is spoken?"""
        return self.host[:1] == UNPROVEN

    def unproven(self) -> "Hop":
        """The same place, whoever is there."""
        return self._replace(host=UNPROVEN + self.host)


@dataclass(frozen=True, slots=True)
class Edit:
    """Changes to a request on its way out; what is not named stays byte for byte.

    `remove` names headers whose every line goes; `add` is placed behind the last header in its order. A `body` of None
    keeps the body, any other replaces it and corrects Content-Length; `content_type` replaces that header. `from_` is
    the address that stands in From instead (`"Name" <sip:…>`, no parameters): the tag is kept, and the caller sees its
    own From all through the dialog.
    """

    request_uri: str | None = None
    remove: tuple[str, ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    content_type: str | None = None
    body: bytes | None = None
    from_: str | None = None
    keeps_location: bool = False  # the request's own Geolocation goes on

    @property
    def conveys_location(self) -> bool:
        return self.keeps_location or self.adds_location

    @property
    def adds_location(self) -> bool:
        return any(name.lower() == "geolocation" for name, _ in self.add)


NO_EDIT = Edit()
RETRY_ON = frozenset({424, 488})  # bad location (RFC 6442), not acceptable here


@dataclass(frozen=True, slots=True)
class Target:
    """One place to try. It is given up when nothing at all was heard for `first_response_s`.

    On a stream `connect_s` is the limit until the shell reports the connection, `first_response_s` counts from then.
    `retry_edit` is tried once at the same hop after a status in `retry_on`, before the next target. `credentials`
    answer its 401 and 407. `fail_over`: the final statuses of this target after which the next is tried, None for those
    of the `Forward`; `fail_over_unrung`: further ones, from a target that never sent 180 to 199. `progress_s`: how long
    it may say nothing but 100 to an emergency INVITE before the next is tried beside it.
    """

    name: str
    hop: Hop
    edit: Edit = NO_EDIT
    first_response_s: float = 2.0
    connect_s: float = 1.0
    retry_edit: Edit | None = None
    credentials: Credentials | None = None
    retry_on: frozenset[int] = RETRY_ON
    fail_over: frozenset[int] | None = None
    fail_over_unrung: frozenset[int] = frozenset()
    progress_s: float = EMERGENCY_PROGRESS_S


@dataclass(frozen=True, slots=True)
class Forward:
    """Try `targets` one after the other, never after a 2xx; they may be made as they are asked for.

    The next one is tried on silence, on a transport that fails, and on a final status in `fail_over`; any other final
    status is the caller's. With a `tag` the attempts, the outcome and the dialog's end are reported as events. An
    `emergency` call that hears nothing but 100 is tried at the next beside that one, and may ring as long as its caller
    waits: timer C is an hour then, unless it `is_test`. `is_own_test`: it was placed by ourselves, and no branch of it
    rings for longer than a minute.
    """

    targets: Sequence[Target]
    tag: Any = None
    fail_over: frozenset[int] = frozenset()
    emergency: bool = False
    is_own_test: bool = False
    is_test: bool = False
