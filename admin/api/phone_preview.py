"""What a phone would be handed, and what it asked for: `/api/v1/phones/{id}/preview`, `…/diff`, `…/boots`."""

from collections.abc import Sequence
from typing import Annotated, Any

from aiohttp import web
from pydantic import JsonValue, StringConstraints

from admin.api import answered, body_of, no_query, row_named
from admin.api.models import NAME_PATTERN, Answer, Body, Instant
from admin.context import ACCOUNT, INDEX, SESSION
from admin.phone_preview import (
    FilePreview,
    PhonebookPreview,
    against_change,
    against_fetched,
    one_against_fetched,
    phonebook_of,
)
from admin.routes import Operation, Query, Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.errors import FieldFault, Invalid
from engine.models import Phone
from engine.provisioning import rollout, store_boots
from engine.provisioning.fleet import Change, ChangeKind
from engine.provisioning.sandbox import MAX_SOURCE
from engine.provisioning.timeline import Boot

Target = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=NAME_PATTERN)]
Kind = Annotated[str, StringConstraints(pattern=r"^(template|settings)$")]
After = Annotated[str, StringConstraints(max_length=MAX_SOURCE)] | dict[str, JsonValue] | None
AGAINST = Query("against", {"type": "string", "enum": ["fetched"], "default": "fetched"}, "What it is compared with.")


class ChangeBody(Body):
    """`after`: a template's text or a level's settings; null takes it away."""

    kind: Kind
    target: Target
    after: After = None

    def change(self) -> Change:
        return Change(ChangeKind(self.kind), self.target, self.after)


class FilePreviewAnswer(Answer):
    """A file beside the one it is compared with; its text is masked."""

    name: str
    kind: str
    content_type: str
    state: str
    summary: str
    added: int
    removed: int
    sentence: str
    fetched_at: Instant | None


class FileDiffAnswer(FilePreviewAnswer):
    diff: str
    text: str | None


class PhonebookAnswer(Answer):
    """The phonebook a phone fetches beside its files. Copies of what was fetched are not kept of it."""

    name: str
    content_type: str
    names: int
    shown: int
    text: str


class FilePreviewsAnswer(Answer):
    data: list[FileDiffAnswer]
    phonebook: PhonebookAnswer | None


class BootFileAnswer(Answer):
    name: str
    method: str
    kind: str
    status_code: int
    size_bytes: int
    duration_ms: float
    at: Instant
    count: int
    note: str
    asked_by: str


class BootAnswer(Answer):
    started_at: Instant
    ended_at: Instant
    took_s: float
    status: str
    ip: str
    user_agent: str
    resync: str
    files: list[BootFileAnswer]


class BootsAnswer(Answer):
    data: list[BootAnswer]


async def refuse_bad_change(request: web.Request, change: Change) -> None:
    """Raises Invalid: every bad field of a proposed change."""
    faults: Sequence[FieldFault] = await rollout.change_faults(request[SESSION], request[ACCOUNT], change)
    if faults:
        raise Invalid("This change cannot be tried.", fields=tuple(faults))


async def get_phone_preview(request: web.Request) -> web.Response:
    no_query(request)
    phone = await row_named(request, Phone)
    record = await request.app[INDEX].phone(phone.id)
    files, book = await against_fetched(request, record), await phonebook_of(request, record)
    return answered(FilePreviewsAnswer(data=[_diff(file, "fetched") for file in files], phonebook=_book(book)))


async def post_phone_preview(request: web.Request) -> web.Response:
    no_query(request)
    phone = await row_named(request, Phone)
    change = (await body_of(request, ChangeBody)).change()
    await refuse_bad_change(request, change)
    files, book = await against_change(request, phone, change)
    return answered(FilePreviewsAnswer(data=[_diff(file, "now") for file in files], phonebook=_book(book)))


async def get_phone_file_diff(request: web.Request) -> web.Response:
    no_query(request, "against")
    if request.query.get("against", "fetched") != "fetched":
        said = "Expected fetched. A proposed change is compared by POST …/preview."
        raise Invalid("This comparison cannot be made.", fields=(FieldFault("against", said),))
    phone = await row_named(request, Phone)
    return answered(_diff(await one_against_fetched(request, phone, request.match_info["name"]), "fetched"))


async def list_phone_boots(request: web.Request) -> web.Response:
    no_query(request)
    phone = await row_named(request, Phone)
    boots = await store_boots.boots_of(request[SESSION], phone.account_id, phone.id)
    return answered(BootsAnswer(data=[_boot(boot) for boot in boots]))


def _diff(file: FilePreview, before: str) -> FileDiffAnswer:
    found = file.difference
    return FileDiffAnswer(
        name=file.name, kind=file.kind, content_type=file.content_type, state=file.state, summary=file.summary,
        added=found.added if found else 0, removed=found.removed if found else 0, sentence=file.sentence,
        fetched_at=file.fetched_at, text=file.text,
        diff=found.unified(file.name, before, "now" if before == "fetched" else "then") if found else "",
    )  # fmt: skip


def _book(found: PhonebookPreview | None) -> PhonebookAnswer | None:
    return PhonebookAnswer.model_validate(found) if found is not None else None


def _boot(boot: Boot) -> BootAnswer:
    stored: dict[str, Any] = {name: getattr(boot, name) for name in BootAnswer.model_fields if name != "files"}
    files = [BootFileAnswer.model_validate(file) for file in boot.files]
    return BootAnswer.model_validate(stored | {"files": files})


_READ = Scope.PHONES_READ
ROUTES = (
    Route(
        "GET", "/api/v1/phones/{id}/preview", get_phone_preview, _READ, Event.PHONE_PREVIEW,
        operation=Operation("Each file as it would be served now, beside what was fetched", answer=FilePreviewsAnswer),
    ),
    Route(
        "POST", "/api/v1/phones/{id}/preview", post_phone_preview, Scope.PROVISIONING_READ, Event.PHONE_PREVIEW,
        operation=Operation("Each file as a change would make it", body=ChangeBody, answer=FilePreviewsAnswer),
    ),
    Route(
        "GET", "/api/v1/phones/{id}/files/{name}/diff", get_phone_file_diff, _READ, Event.PHONE_PREVIEW,
        operation=Operation("One file beside what the phone last fetched", answer=FileDiffAnswer, queries=(AGAINST,)),
    ),
    Route(
        "GET", "/api/v1/phones/{id}/boots", list_phone_boots, _READ, Event.PHONE_BOOTS_READ,
        operation=Operation("The phone's last boots, the latest first", answer=BootsAnswer),
    ),
)  # fmt: skip
