"""`/api/v1/phones/resync`: many phones asked to fetch their files again, one after another."""

from typing import Annotated

from aiohttp import web
from pydantic import Field, StringConstraints
from sqlalchemy import event as sql_event

from admin.api import answered, body_of, no_query
from admin.api.models import NAME_PATTERN, Answer, Body, Id
from admin.context import ACCOUNT, ACTOR, EDGE, RESOURCE, SESSION, FleetState
from admin.routes import Operation, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.parts import Part, record_parts
from engine.audit.record import record
from engine.db import utc_now
from engine.errors import FieldFault, Invalid, NotFound
from engine.ids import new_id
from engine.models import PhoneStatus
from engine.provisioning import runs, store_resync
from engine.provisioning.resync import Fleet
from engine.provisioning.runs import RunKind
from engine.provisioning.store_resync import Selection

MAX_NAMED = 10_000
_Name = Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=NAME_PATTERN)]


class PhoneFilter(Body):
    """Phones with every property that is named. An empty one is every phone of the account."""

    vendor: _Name | None = None
    model: _Name | None = None
    location_id: Id | None = None
    status: Annotated[PhoneStatus, Field(strict=False)] | None = None


class FleetBody(Body):
    """`phones`: their ids; or `filter`. `dry_run`: only tell how many there are and how long it takes."""

    phones: Annotated[list[Id], Field(max_length=MAX_NAMED)] | None = None
    filter: PhoneFilter | None = None
    dry_run: bool = False


class RefusedAnswer(Answer):
    phone_id: str
    detail: str


class FleetAnswer(Answer):
    """`id`: to ask how far it is; null for a dry run. `spread_s`: how long it takes at least."""

    id: str | None
    phones: int
    spread_s: float
    refused: list[RefusedAnswer]


class FleetProgressAnswer(Answer):
    """`results`: how many phones there are of each result. `state`: running, done, or stopped with the node that asked
    them; `node`: which one that is, empty for the one that answers.
    """

    id: str
    state: str
    node: str
    phones: int
    done: int
    spread_s: float
    results: dict[str, int]


async def post_resync(request: web.Request) -> web.Response:
    """Plan all, put on each that its turn is to come, record it, and send when that is committed."""
    no_query(request)
    body = await body_of(request, FleetBody)
    wanted = await wanted_phones(request, body)
    fleet = await fleet_planned(request, wanted)
    if not body.dry_run:
        await resync_fleet(request, fleet)
    return answered(
        FleetAnswer(
            id=None if body.dry_run else fleet.id,
            phones=len(fleet.planned),
            spread_s=round(fleet.spread_s, 1),
            refused=[RefusedAnswer(phone_id=phone_id, detail=why) for phone_id, why in fleet.refused],
        )
    )


async def wanted_phones(request: web.Request, body: FleetBody) -> dict[str, str]:
    """The ids and names of the phones a body means.

    Raises:
        Invalid: it names neither phones nor a filter, both, or phones that are not there.
    """
    session, account_id = request[SESSION], request[ACCOUNT].id
    if (body.phones is None) == (body.filter is None):
        fault = FieldFault("phones", "Expected either the ids of phones or a filter.")
        raise Invalid("This names no phones.", fields=(fault,))
    if body.filter is not None:
        chosen = Selection(**body.filter.model_dump())
        return dict(
            await store_resync.names_of(session, account_id, await store_resync.selected(session, account_id, chosen))
        )
    asked = list(dict.fromkeys(body.phones or ()))
    names = dict(await store_resync.names_of(session, account_id, asked))
    unknown = [at for at, phone_id in enumerate(body.phones or ()) if phone_id not in names]
    if unknown:
        faults = tuple(FieldFault(f"phones[{at}]", "This account has no phone of that id.") for at in unknown[:100])
        raise Invalid("Some of these phones are not there.", fields=faults)
    return {phone_id: names[phone_id] for phone_id in asked}


async def fleet_planned(request: web.Request, wanted: dict[str, str]) -> Fleet:
    """The way to each of them."""
    return await store_resync.fleet_of(
        request[SESSION], request[ACCOUNT].id, list(wanted), fleet_id=new_id("resync")
    )  # fmt: skip


async def resync_fleet(request: web.Request, fleet: Fleet) -> None:
    """Put on each phone that its turn is to come, record one entry for all and one for each; sent when committed."""
    session, actor = request[SESSION], request[ACTOR]
    names = await store_resync.names_of(session, fleet.account_id, [phone_id for phone_id, _ in fleet.planned])
    await store_resync.note_waiting(session, fleet, utc_now())
    request[RESOURCE] = ("phone_resync", fleet.id, f"{len(fleet.planned)} phones")
    record(
        session, actor, Event.PHONE_BULK_RESYNC, resource=request[RESOURCE],
        details={"phones": len(fleet.planned), "refused": len(fleet.refused), "spread_s": round(fleet.spread_s, 1)},
    )  # fmt: skip
    parts = [Part(Event.PHONE_RESYNC, ("phone", phone_id, names[phone_id]), {}) for phone_id, _ in fleet.planned]
    await record_parts(session, actor, fleet.account_id, fleet.id, parts, moves_revision=False)
    send_when_committed(request, fleet)


def send_when_committed(request: web.Request, fleet: Fleet) -> None:
    """The first phones are asked once what is to come stands in the database; none if it never does."""
    edge = request.app[EDGE]
    session = request[SESSION].sync_session
    sql_event.listen(session, "after_commit", lambda _session: edge.resync_fleet(fleet), once=True)


async def get_resync(request: web.Request) -> web.Response:
    no_query(request)
    fleet_id = request.match_info["id"]
    request[RESOURCE] = ("phone_resync", fleet_id, "")
    state = request.app[EDGE].fleet(fleet_id, request[ACCOUNT].id)
    if state is not None:
        node, ended = "", "done" if state.done >= state.phones else runs.RUNNING
    else:
        seen = await runs.seen(request[SESSION], request[ACCOUNT].id, RunKind.RESYNC, fleet_id, utc_now())
        if seen is None:
            raise NotFound("No phones are asked under that id. What came of each phone stands on the phone itself.")
        state = FleetState(seen.facts["phones"], seen.facts["results"], seen.facts["spread_s"])
        node, ended = seen.node, "stopped" if seen.is_lost else seen.state
    return answered(
        FleetProgressAnswer(
            id=fleet_id,
            state=ended,
            node=node,
            phones=state.phones,
            done=state.done,
            spread_s=round(state.spread_s, 1),
            results=dict(state.results),
        )
    )


ROUTES = (
    Route(
        "POST", "/api/v1/phones/resync", post_resync, Scope.PHONES_WRITE, Event.PHONE_BULK_RESYNC,
        operation=Operation(
            "Ask many phones to fetch their files again, one after another", body=FleetBody, answer=FleetAnswer
        ),
    ),
    Route(
        "GET", "/api/v1/phone-resyncs/{id}", get_resync, Scope.PHONES_READ, Event.PHONE_RESYNC_READ,
        operation=Operation("How far the asking of many phones is", answer=FleetProgressAnswer),
    ),
)  # fmt: skip
