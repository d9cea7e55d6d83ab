"""The storage page of Settings: how long records are kept, how many there are, and what a shorter time would remove."""

from aiohttp import web

from admin.api.storage import change, count, count_held, unsaid
from admin.auth import prepared
from admin.context import ACCOUNT, DISK, HOME, RESOURCE, SESSION
from admin.pages.form import FORM, form_of, gathered, refuse, refuse_stale, see_other, typed, whole_number
from admin.render import render
from admin.routes import Route
from admin.storage_facts import Facts
from engine.accounts import mail_server, store, store_storage
from engine.accounts.keeping import DEFAULT, LEAST_DAYS, MOST_FETCH_DAYS, Keeping, changed
from engine.accounts.scopes import Scope
from engine.accounts.storage import ACCEPT
from engine.audit.events import Event
from engine.audit.store_beginnings import beginning_of
from engine.disk import Level, in_words
from engine.errors import EngineError, FieldFault, Invalid

_PATH = "/settings/storage"
_KINDS = (
    ("audit_days", "Audit log", "entry", "entries"),
    ("call_days", "Emergency calls", "call", "calls"),
    ("session_days", "Sign-ins", "ended session", "ended sessions"),
    ("fetch_log_days", "Fetch log", "fetch", "fetches"),
)


async def get_storage(request: web.Request) -> web.Response:
    return await _page(request, None)


async def _page(request: web.Request, error: EngineError | None) -> web.Response:
    session, account = request[SESSION], request[ACCOUNT]
    row = await store_storage.settings_row(session, account.id) or unsaid(account)
    form = await form_of(request, Keeping.of(row).values() | {ACCEPT: False}, error)
    disk = request.app[DISK]
    sees_disk = await mail_server.may_set(session, request[HOME]) and disk.free_bytes is not None
    return render(
        request, "storage.html.j2", error=error, row=row, form=form, kinds=_KINDS,
        held=prepared(request, Facts).held, begin=await beginning_of(session, account.id), least=LEAST_DAYS,
        most_fetch=MOST_FETCH_DAYS,
        is_removing=isinstance(error, Invalid) and any(fault.field == ACCEPT for fault in error.fields),
        free=in_words(disk.free_bytes or 0) if sees_disk else "", disk_level=disk.level.value, good=Level.GOOD.value,
        disk_alarm=disk.alarm() if sees_disk else "",
    )  # fmt: skip


async def post_storage(request: web.Request) -> web.Response:
    request[FORM] = _page
    session, account = request[SESSION], request[ACCOUNT]
    request[RESOURCE] = ("storage_settings", account.id, account.name)
    await store.lock_account(session, account)
    row = await store_storage.settings_row_to_change(session, account.id)
    await refuse_stale(request, row)
    changes, faults = await _changes(request, Keeping.of(row))
    faults += [fault for fault in changed(Keeping.of(row), changes)[1] if fault not in faults]
    refuse(faults)
    change(request, row, changes, prepared(request, Facts), is_accepted=await typed(request, ACCEPT) == "on")
    return see_other(_PATH, "storage-saved")


async def _changes(request: web.Request, before: Keeping) -> tuple[dict[str, int], list[FieldFault]]:
    """What was typed, and what of it is no number; an empty field leaves it as it was."""
    faults: list[FieldFault] = []
    changes: dict[str, int] = {}
    for name, *_words in _KINDS:
        with gathered(faults):
            changes[name] = await whole_number(request, name, getattr(before, name))
    return changes, faults


async def count_for_form(request: web.Request) -> Facts:
    return await count(request, (await _changes(request, DEFAULT))[0])


ROUTES = (
    Route("GET", _PATH, get_storage, Scope.SECURITY_READ, Event.STORAGE_SETTINGS_READ, prepare=count_held),
    Route(
        "POST",
        _PATH,
        post_storage,
        Scope.SECURITY_WRITE,
        Event.STORAGE_SETTINGS_UPDATE,
        step_up=True,
        prepare=count_for_form,
    ),
)
