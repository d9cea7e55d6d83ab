"""Where the faults of a body's shape meet those of its meaning: one answer names every bad field.

Theory of operation. A field of the wrong shape (`admin.api.body_of`, `admin.pages.form.whole_number`) is noted on the
request and does not end it: what passed goes on to the operation, which checks what only it can check. Whatever comes
of that, a request with a noted fault is refused and its transaction rolled back, and the refusal names both. Mail and
messages to phones leave after a commit only, so nothing leaves; operations whose work is outside of the database are
not begun with half a body at all (`_OUTWARD`).
"""

from collections.abc import Iterable

from aiohttp import web

from admin.routes import Handler, Route
from engine.audit.events import Event
from engine.errors import FieldFault, Invalid

_NOTED: web.RequestKey[list[FieldFault]] = web.RequestKey("noted_faults", list)
_OUTWARD = frozenset(
    {
        Event.CALLBACK_CREATE, Event.DRILL_CREATE, Event.DRY_RUN_CREATE, Event.EMERGENCY_CALL_CREATE,
        Event.IMPORT_CREATE, Event.SESSION_CREATE, Event.SWEEP_CREATE,
    }
)  # fmt: skip


def takes_notes(request: web.Request) -> bool:
    """Whether a fault may be noted now: inside the transaction of a route that changes rows and nothing else."""
    return _NOTED in request


def note(request: web.Request, faults: Iterable[FieldFault]) -> None:
    """Keep the faults for the refusal, or refuse at once where notes are not taken.

    Raises:
        Invalid
    """
    if not takes_notes(request):
        raise Invalid("Some fields cannot be accepted.", fields=tuple(faults))
    request[_NOTED] += faults


def whole_answer(route: Route, handler: Handler) -> Handler:
    """The handler, refusing with all faults at once when some were noted. Raises `Invalid`, and what it raises."""
    verb = route.event.value.rpartition(".")[2]
    if verb not in {"create", "update", "accept"} or route.event in _OUTWARD:
        return handler

    async def answered(request: web.Request) -> web.StreamResponse:
        request[_NOTED] = []
        try:
            response = await handler(request)
        except Exception as exc:
            if request[_NOTED]:
                raise _joined(request[_NOTED], exc) from exc
            raise
        if request[_NOTED]:
            raise _joined(request[_NOTED])
        return response

    return answered


def _joined(noted: list[FieldFault], error: Exception | None = None) -> Invalid:
    """Both kinds of faults; of one field the noted ones alone: the operation saw something else in its place."""
    found = list(dict.fromkeys(noted))
    meant = error.fields if isinstance(error, Invalid) else ()
    found += [
        fault for fault in meant if fault not in found and not any(_overlap(fault.field, one.field) for one in noted)
    ]
    return Invalid("Some fields cannot be accepted.", fields=tuple(found))


def _overlap(one: str, other: str) -> bool:
    """Whether one path is the other or holds it: `sources` and `sources[1]`, but not `name` and `name_plate`."""
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and long[len(short) : len(short) + 1] in {"", ".", "["}
