"""Files: logos, firmware and ring tones that phones are served as they are."""

from typing import Any

from aiohttp import web

from admin.asset_upload import Refused, Uploaded, take_form
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, ASSETS, PREPARED, SESSION
from admin.pages.form import FORM, Form, see_other, sentence_of
from admin.render import render
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import EngineError, Invalid
from engine.models import Asset
from engine.provisioning import assetfile, assets, store_assets, vendors
from engine.provisioning.assets import AssetFields

_EMPTY = AssetFields("", "firmware")


async def get_files(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    found = await store_assets.assets_of(session, account.id)
    profiles = vendors.known().profiles.values()
    return render(
        request, "files.html.j2", error=error, form=_form(request, error),
        files=found, total=sum(asset.size_bytes for asset in found), most_files=assets.MAX_FILES,
        vendors=[(profile.name, profile.title) for profile in profiles],
        titles={profile.name: profile.title for profile in profiles},
        limits={kind: most // 1024**2 for kind, most in assetfile.MAX_BYTES.items()},
    )  # fmt: skip


def _form(request: web.Request, error: EngineError | None) -> Form:
    """The form with what was typed: the body has gone to disk, so it is not read again."""
    wished = _EMPTY
    made = request.get(PREPARED)
    if made is not None and isinstance(made.value, Uploaded):
        wished = made.value.wished
    if isinstance(error, Refused):
        wished = error.wished
    values: dict[str, Any] = {
        "file": "", "name": wished.name, "kind": wished.kind or _EMPTY.kind, "vendor": wished.vendor,
        "models": ", ".join(wished.models), "firmware": wished.firmware,
    }  # fmt: skip
    if error is None:
        return Form(values)
    fields = error.fields if isinstance(error, Invalid) else ()
    detail = "Nothing was stored. Look at the marked fields and choose the file again." if fields else ""
    return Form(values, detail or sentence_of(error), fields)


async def post_file(request: web.Request) -> web.Response:
    request[FORM] = _page
    uploaded = prepared(request, Uploaded)
    await assets.create_asset(
        request[SESSION], request[ACTOR], request[ACCOUNT], uploaded.wished, uploaded.received,
        store=request.app[ASSETS],
    )  # fmt: skip
    return see_other("/files", "file-added")


async def post_file_delete(request: web.Request) -> web.Response:
    request[FORM] = _page
    await assets.delete_asset(request[SESSION], request[ACTOR], await _file(request))
    return see_other("/files", "file-deleted")


async def _file(request: web.Request) -> Asset:
    return await store_assets.asset_of(request[SESSION], request[ACCOUNT].id, request.match_info["id"])


_READ, _WRITE = Scope.PROVISIONING_READ, Scope.PROVISIONING_WRITE
ROUTES = (
    Route("GET", "/files", get_files, _READ, Event.ASSET_LIST),
    Route("POST", "/files", post_file, _WRITE, Event.ASSET_CREATE, prepare=take_form, streams_body=True),
    Route("POST", "/files/{id}/delete", post_file_delete, _WRITE, Event.ASSET_DELETE),
)
