"""`/api/v1/assets`: files that phones are served as they are. The bytes are the request's body, streamed to disk."""

from aiohttp import web

from admin.api import answered, no_content, no_query, row_named
from admin.api.models import StampedAnswer
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.asset_upload import QUERIES, Uploaded, take_body
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, ASSETS, SESSION
from admin.routes import Operation, Query, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.models import Asset
from engine.provisioning import assetfile, assets


class AssetAnswer(StampedAnswer):
    name: str
    kind: str
    vendor: str
    models: list[str]
    firmware: str
    content_type: str
    size_bytes: int
    sha256: str


async def list_assets(request: web.Request) -> web.Response:
    return await list_rows(request, Asset, plainly(AssetAnswer.model_validate))


async def get_asset(request: web.Request) -> web.Response:
    no_query(request)
    asset = await row_named(request, Asset)
    return answered(AssetAnswer.model_validate(asset), asset)


async def prepare_asset(request: web.Request) -> Uploaded:
    """Take the bytes in before the transaction. Raises Invalid."""
    no_query(request, *QUERIES)
    return await take_body(request)


async def post_asset(request: web.Request) -> web.Response:
    uploaded = prepared(request, Uploaded)
    asset = await assets.create_asset(
        request[SESSION], request[ACTOR], request[ACCOUNT], uploaded.wished, uploaded.received,
        store=request.app[ASSETS],
    )  # fmt: skip
    await request[SESSION].flush()
    return answered(AssetAnswer.model_validate(asset), asset, status=201, location=f"/api/v1/assets/{asset.id}")


async def delete_asset(request: web.Request) -> web.Response:
    no_query(request)
    await assets.delete_asset(request[SESSION], request[ACTOR], await row_named(request, Asset, to_change=True))
    return no_content()


_READ, _WRITE = Scope.PROVISIONING_READ, Scope.PROVISIONING_WRITE
_UPLOAD_QUERIES = (
    Query("name", {"type": "string", "maxLength": 100}, "What phones ask for, such as `T46U-108.86.0.20.rom`."),
    Query("kind", {"type": "string", "enum": list(assetfile.KINDS)}, "What it is; it says how large it may be."),
    Query("vendor", {"type": "string"}, "Serve it to phones of this vendor alone; needed for a firmware."),
    Query("models", {"type": "string"}, "Serve it to these models alone, with commas between."),
    Query("firmware", {"type": "string", "maxLength": 40}, "A firmware's version, as the vendor writes it."),
)
ROUTES = (
    Route(
        "GET", "/api/v1/assets", list_assets, _READ, Event.ASSET_LIST,
        operation=Operation("List files", answer=AssetAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/assets", post_asset, _WRITE, Event.ASSET_CREATE, prepare=prepare_asset, streams_body=True,
        operation=Operation(
            "Upload a file: its bytes are the body", answer=AssetAnswer, status=201, has_etag=True,
            queries=_UPLOAD_QUERIES, body_media="application/octet-stream", errors=(409,),
        ),
    ),
    Route(
        "GET", "/api/v1/assets/{id}", get_asset, _READ, Event.ASSET_READ,
        operation=Operation("One file", answer=AssetAnswer, has_etag=True),
    ),
    Route(
        "DELETE", "/api/v1/assets/{id}", delete_asset, _WRITE, Event.ASSET_DELETE,
        operation=Operation("Remove a file that no setting names", status=204, if_match=True),
    ),
)  # fmt: skip
