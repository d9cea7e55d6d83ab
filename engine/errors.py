"""Every error the engine raises on purpose, each carrying the HTTP status a door answers with.

EngineError                      500
├── Invalid                      422   bad input; `fields` names every bad field
├── NotFound                     404
├── Conflict                     409
├── Stale                        412   If-Match names an older version
├── PreconditionRequired         428   a write came without If-Match
├── NotAuthenticated             401
├── Forbidden                    403
├── TooManyRequests              429
├── DatabaseAway                 503
│   └── DatabaseNewer            503   its schema is of a later version of Callpoint
├── ConfigFault                  -     start refused; every fault with its line and fix
├── UnsafeValue                  422   a value cannot be written into a phone's file
└── UnauditedChange              500   a bug: an audited table changed with no audit entry beside it

A message says what happened, what it means for 911 calls where it means anything, and what to do next.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldFault:
    """One bad field of a request: where it is (`civic_address.HNO`, a JSON path) and what was expected and got."""

    field: str
    detail: str


class EngineError(Exception):
    """Root of the tree. `title` is the short name a problem+json answer shows (RFC 9457)."""

    http_status = 500
    title = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Invalid(EngineError):
    http_status = 422
    title = "Some fields cannot be accepted"

    def __init__(self, detail: str, *, fields: tuple[FieldFault, ...] = ()) -> None:
        super().__init__(detail)
        self.fields = fields


class NotFound(EngineError):
    http_status = 404
    title = "Not found"


class Conflict(EngineError):
    http_status = 409
    title = "Conflict"


class Stale(EngineError):
    http_status = 412
    title = "Somebody else changed this first"


class PreconditionRequired(EngineError):
    http_status = 428
    title = "If-Match is required"


class NotAuthenticated(EngineError):
    http_status = 401
    title = "Not signed in"


class Forbidden(EngineError):
    http_status = 403
    title = "Not allowed"


class TooManyRequests(EngineError):
    http_status = 429
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after_s: int = 60) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class DatabaseAway(EngineError):
    http_status = 503
    title = "The database is away"


class DatabaseNewer(DatabaseAway):
    title = "The database is of a newer version"


class ConfigFault(EngineError):
    title = "The configuration cannot be used"

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class UnsafeValue(EngineError):
    http_status = 422
    title = "A value cannot be written into a phone's file"


class UnauditedChange(EngineError):
    title = "A change had no audit entry"
