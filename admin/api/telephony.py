"""`/api/v1/pbxs` and `/api/v1/trunks`: who sends calls, and who carries them on."""

from dataclasses import replace
from functools import cache
from typing import Annotated

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, given, no_content, no_query, row_named
from admin.api.models import Body, Id, Instant, Name, Number, Port, Secret, StampedAnswer, Text, patch_of
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.bad_fields import note
from admin.context import ACCOUNT, ACTOR, SESSION
from admin.routes import Operation, Route
from engine.accounts import operations
from engine.accounts.operations import PbxFields, TrunkFields
from engine.accounts.scopes import Scope
from engine.accounts.telephony import trunk_warnings
from engine.audit.events import Event
from engine.e911.carriers import load_profiles
from engine.errors import FieldFault
from engine.models import LocationMode, Pbx, Transport, Trunk


class PbxAnswer(StampedAnswer):
    name: str
    sources: list[str]
    tls_name: str
    auth_user: str
    registrar_host: str
    registrar_port: int
    transport: Transport
    default_location_id: str | None
    default_route: str | None
    resync_via: str


class PbxCreate(Body):
    """A PBX is known by `tls_name`, by `auth_user` and `secret`, or by `sources`. A network in `sources` is one PBX's
    only, and none lies inside another account's, unless each that has it is known by one of the others.
    """

    name: Name
    sources: Annotated[list[Text], Field(max_length=64)] = Field(default_factory=list)
    tls_name: Annotated[str, Field(max_length=253)] = ""
    auth_user: Annotated[str, Field(max_length=100)] = ""
    secret: Secret | None = None
    registrar_host: Text = ""
    registrar_port: Port = 5060
    transport: Transport = Transport.UDP
    default_location_id: Id | None = None
    default_route: Annotated[str, Field(max_length=300)] | None = None
    resync_via: Annotated[str, Field(pattern=r"^(pbx|direct)$")] = "pbx"


PbxPatch = patch_of(PbxCreate, "PbxPatch")


class TrunkAnswer(StampedAnswer):
    """`is_up` is what the last OPTIONS ping or call said; null when there was none."""

    name: str
    priority: int
    host: str
    port: int
    transport: Transport
    auth_user: str
    profile: str
    location_mode: LocationMode
    test_number: str | None
    last_resort: bool
    enabled: bool
    pings: bool
    is_up: bool | None
    checked_at: Instant | None
    warnings: list[str] = Field(default_factory=list)


class TrunkCreate(Body):
    """Trunks are tried by `priority`, lowest first. `port` 0 means SRV. `secret` is never shown again."""

    name: Name
    host: Annotated[str, Field(min_length=1, max_length=253)]
    priority: Annotated[int, Field(ge=0, le=1000)] = 10
    port: Annotated[int, Field(ge=0, le=65_535)] = 5060
    transport: Transport = Transport.UDP
    auth_user: Annotated[str, Field(max_length=100)] = ""
    secret: Secret | None = None
    profile: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")] = "generic"
    location_mode: LocationMode = LocationMode.VALUE
    test_number: Number | None = None
    last_resort: bool = False
    enabled: bool = True
    pings: bool = True


TrunkPatch = patch_of(TrunkCreate, "TrunkPatch")


@cache
def carrier_labels() -> dict[str, str]:
    """What people call each carrier profile, by its name, the generic one first: files shipped with this version."""
    return dict(load_profiles().choices())


def carrier_profiles() -> tuple[str, ...]:
    """The names of the carrier profiles, the generic one first."""
    return tuple(carrier_labels())


def refuse_unknown_profile(request: web.Request, name: str) -> None:
    """Note the fault when no carrier profile has that name: its calls would leave in the generic dialect."""
    if name not in carrier_profiles():
        known = ", ".join(carrier_profiles())
        note(request, [FieldFault("profile", f"Expected one of {known}.")])


async def list_pbxs(request: web.Request) -> web.Response:
    return await list_rows(request, Pbx, plainly(PbxAnswer.model_validate))


async def get_pbx(request: web.Request) -> web.Response:
    no_query(request)
    pbx = await row_named(request, Pbx)
    return answered(PbxAnswer.model_validate(pbx), pbx)


async def post_pbx(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, PbxCreate)
    wished = PbxFields(**body.model_dump() | {"sources": tuple(body.sources)})
    pbx = await operations.create_pbx(request[SESSION], request[ACTOR], request[ACCOUNT], wished)
    await request[SESSION].flush()
    return answered(PbxAnswer.model_validate(pbx), pbx, status=201, location=f"/api/v1/pbxs/{pbx.id}")


async def patch_pbx(request: web.Request) -> web.Response:
    no_query(request)
    pbx = await row_named(request, Pbx, to_change=True)
    wished = replace(PbxFields.of(pbx), **given(await body_of(request, PbxPatch)))
    await operations.update_pbx(
        request[SESSION], request[ACTOR], request[ACCOUNT], pbx, replace(wished, sources=tuple(wished.sources))
    )
    await request[SESSION].flush()
    return answered(PbxAnswer.model_validate(pbx), pbx)


async def delete_pbx(request: web.Request) -> web.Response:
    no_query(request)
    await operations.delete_pbx(request[SESSION], request[ACTOR], await row_named(request, Pbx, to_change=True))
    return no_content()


async def list_trunks(request: web.Request) -> web.Response:
    return await list_rows(request, Trunk, plainly(_shown))


def _shown(trunk: Trunk) -> TrunkAnswer:
    return TrunkAnswer.model_validate(trunk).model_copy(update={"warnings": trunk_warnings(trunk)})


async def get_trunk(request: web.Request) -> web.Response:
    no_query(request)
    trunk = await row_named(request, Trunk)
    return answered(_shown(trunk), trunk)


async def post_trunk(request: web.Request) -> web.Response:
    no_query(request)
    body = await body_of(request, TrunkCreate)
    refuse_unknown_profile(request, body.profile)
    trunk = await operations.create_trunk(
        request[SESSION], request[ACTOR], request[ACCOUNT], TrunkFields(**body.model_dump())
    )
    await request[SESSION].flush()
    return answered(_shown(trunk), trunk, status=201, location=f"/api/v1/trunks/{trunk.id}")


async def patch_trunk(request: web.Request) -> web.Response:
    no_query(request)
    trunk = await row_named(request, Trunk, to_change=True)
    values = given(await body_of(request, TrunkPatch))
    if values.get("profile", trunk.profile) != trunk.profile:  # one whose file is gone may stay
        refuse_unknown_profile(request, values["profile"])
    wished = replace(TrunkFields.of(trunk), **values)
    await operations.update_trunk(request[SESSION], request[ACTOR], request[ACCOUNT], trunk, wished)
    await request[SESSION].flush()
    return answered(_shown(trunk), trunk)


async def delete_trunk(request: web.Request) -> web.Response:
    no_query(request)
    await operations.delete_trunk(request[SESSION], request[ACTOR], await row_named(request, Trunk, to_change=True))
    return no_content()


_READ, _WRITE = Scope.TELEPHONY_READ, Scope.TELEPHONY_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/pbxs", list_pbxs, _READ, Event.PBX_LIST,
        operation=Operation("List PBXs", answer=PbxAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/pbxs", post_pbx, _WRITE, Event.PBX_CREATE,
        operation=Operation("Add a PBX", body=PbxCreate, answer=PbxAnswer, status=201, has_etag=True, errors=(409,)),
    ),
    Route(
        "GET", "/api/v1/pbxs/{id}", get_pbx, _READ, Event.PBX_READ,
        operation=Operation("One PBX", answer=PbxAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/pbxs/{id}", patch_pbx, _WRITE, Event.PBX_UPDATE,
        operation=Operation(
            "Change a PBX", body=PbxPatch, answer=PbxAnswer, if_match=True, has_etag=True, errors=(409,)
        ),
    ),
    Route(
        "DELETE", "/api/v1/pbxs/{id}", delete_pbx, _WRITE, Event.PBX_DELETE,
        operation=Operation("Remove a PBX", status=204, if_match=True),
    ),
    Route(
        "GET", "/api/v1/trunks", list_trunks, _READ, Event.TRUNK_LIST,
        operation=Operation("List trunks", answer=TrunkAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/trunks", post_trunk, _WRITE, Event.TRUNK_CREATE,
        operation=Operation("Add a trunk", body=TrunkCreate, answer=TrunkAnswer, status=201, has_etag=True),
    ),
    Route(
        "GET", "/api/v1/trunks/{id}", get_trunk, _READ, Event.TRUNK_READ,
        operation=Operation("One trunk", answer=TrunkAnswer, has_etag=True),
    ),
    Route(
        "PATCH", "/api/v1/trunks/{id}", patch_trunk, _WRITE, Event.TRUNK_UPDATE,
        operation=Operation("Change a trunk", body=TrunkPatch, answer=TrunkAnswer, if_match=True, has_etag=True),
    ),
    Route(
        "DELETE", "/api/v1/trunks/{id}", delete_trunk, _WRITE, Event.TRUNK_DELETE,
        operation=Operation("Remove a trunk", status=204, if_match=True),
    ),
)  # fmt: skip
