"""`/api/v1/rollouts`: a change tried on paper over the whole fleet, then on some phones, then on all."""

from collections.abc import Sequence
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from admin.api import answered, body_of, no_query, row_named
from admin.api.models import Answer, Body, Id, Instant, StampedAnswer, any_json
from admin.api.paging import PAGE_QUERIES, list_rows, plainly
from admin.api.phone_preview import ChangeBody, refuse_bad_change
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, DATABASE, DRY_RUNS, RESOURCE, SESSION
from admin.links import provisioning_url
from admin.routes import Operation, Route
from admin.template_trial import tried, try_publication
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import record
from engine.db import utc_now
from engine.models import Rollout, RolloutState
from engine.provisioning import rollout, rollout_watch, vendors
from engine.provisioning.canary import MAX_CANARY, MAX_MINUTES, Limits
from engine.provisioning.dryrun import DryRun, DryRunState, Group
from engine.provisioning.fleet import Change, ChangeKind, Finding, Outcome
from engine.provisioning.overrides import Examined
from engine.provisioning.rollout import RolloutFields
from engine.provisioning.tokens import REDACTED


class CanaryBody(Body):
    """Which phones come first: exactly one of the three."""

    phones: Annotated[list[Id], Field(max_length=MAX_CANARY)] = Field(default_factory=list)
    location_id: Id | None = None
    random: Annotated[int, Field(ge=1, le=MAX_CANARY)] | None = None


class RolloutCreate(ChangeBody):
    """`failures`: canary phones that may fail before the change is taken back; `minutes`: how long a phone may take to
    come after it accepted the resync; `automatic`: publish to all as soon as every canary phone has it.
    """

    canary: CanaryBody
    failures: Annotated[int, Field(ge=0, lt=MAX_CANARY)] = 0
    minutes: Annotated[int, Field(ge=1, le=MAX_MINUTES)] = 15
    automatic: bool = False

    def fields(self, examined: Examined) -> RolloutFields:
        group = rollout.Group(tuple(self.canary.phones), self.canary.location_id, self.canary.random)
        return RolloutFields(self.change(), group, Limits(self.failures, self.minutes, self.automatic), examined)


class CountsAnswer(Answer):
    phones: int = 0
    fetched: int = 0
    failed: int = 0
    waiting: int = 0


class RolloutAnswer(StampedAnswer):
    kind: str
    target: str
    state: RolloutState
    reason: str
    counts: CountsAnswer
    failures: int
    minutes: int
    automatic: bool
    started_by: str
    started_at: Instant
    ended_at: Instant | None


class CanaryPhoneAnswer(Answer):
    phone_id: str
    mac: str
    label: str
    model: str
    reached: str
    sentence: str
    last_fetch_at: Instant | None


class RolloutDetail(RolloutAnswer):
    """With its phones, and what it changes. `warnings`: what was found of its template when it was begun or published
    just now, and did not stop it.
    """

    before: Any = any_json({"type": ["string", "object", "null"]})
    after: Any = any_json({"type": ["string", "object", "null"]})
    canary: list[CanaryPhoneAnswer]
    warnings: list[str] = Field(default_factory=list)


class DryRunPhone(Answer):
    phone_id: str
    mac: str
    label: str
    model: str
    file: str
    sentence: str
    is_new: bool


class DryRunGroup(Answer):
    """Phones on which the same lines change. `files`: what changes, as `diff -u` writes it, on the first of them."""

    phones: int
    models: list[str]
    added: int
    removed: int
    first: list[str]
    files: dict[str, str]


class DryRunAnswer(Answer):
    """`node`: another node that runs it, and alone has its groups and failures; empty: this one does."""

    id: str
    kind: str
    target: str
    state: DryRunState
    total: int
    done: int
    unchanged: int
    changed: int
    failing: int
    failed_before: int
    groups: list[DryRunGroup]
    other_groups: int
    failures: list[DryRunPhone]
    fault: str
    node: str
    started_at: Instant
    ended_at: Instant | None


# --- Dry runs ---------------------------------------------------------------------------------------------------------


async def post_dry_run(request: web.Request) -> web.Response:
    no_query(request)
    change = (await body_of(request, ChangeBody)).change()
    await refuse_bad_change(request, change)
    run = request.app[DRY_RUNS].start(
        request[ACCOUNT].id, change, provisioning_url=provisioning_url(request, REDACTED), asked_by=request[ACTOR].name
    )
    record(
        request[SESSION], request[ACTOR], Event.DRY_RUN_CREATE, resource=("dry_run", run.id, change.target),
        details={"kind": change.kind.value},
    )  # fmt: skip
    return answered(_run(run), status=202, location=f"/api/v1/rollouts/dry-run/{run.id}")


async def get_dry_run(request: web.Request) -> web.Response:
    no_query(request)
    return answered(_run(await dry_run_named(request)))


async def post_dry_run_cancel(request: web.Request) -> web.Response:
    no_query(request)
    run = await dry_run_named(request)
    await request.app[DRY_RUNS].cancel(request[SESSION], run)
    record(request[SESSION], request[ACTOR], Event.DRY_RUN_CANCEL, resource=("dry_run", run.id, run.change.target))
    return answered(_run(run))


async def dry_run_named(request: web.Request) -> DryRun:
    """The run that the path names. Raises NotFound."""
    async with request.app[DATABASE].sessions() as session:  # the page asks before its transaction begins
        run = await request.app[DRY_RUNS].get(session, request[ACCOUNT].id, request.match_info["id"])
    request[RESOURCE] = ("dry_run", run.id, run.change.target)
    return run


def _run(run: DryRun) -> DryRunAnswer:
    return DryRunAnswer(
        id=run.id, kind=run.change.kind, target=run.change.target, state=run.state, total=run.total, done=run.done,
        unchanged=run.unchanged, changed=run.changed, failing=run.failing, failed_before=run.failed_before,
        groups=[_group(group) for group in run.largest_first], other_groups=len(run.other_groups),
        failures=[_failure(found) for found in run.failures], fault=run.fault, node=run.node,
        started_at=run.started_at, ended_at=run.ended_at,
    )  # fmt: skip


def _group(group: Group) -> DryRunGroup:
    files = {name: found.unified(name, "now", "then") for name, found in group.differences.items()}
    return DryRunGroup(
        phones=group.count, models=sorted(group.models), added=group.added, removed=group.removed,
        first=[found.phone_id for found in group.phones], files=files,
    )  # fmt: skip


def _failure(found: Finding) -> DryRunPhone:
    return DryRunPhone(
        phone_id=found.phone_id, mac=found.mac, label=found.label, model=found.model, file=found.file,
        sentence=found.sentence, is_new=found.outcome is Outcome.FAILS,
    )  # fmt: skip


# --- Roll-outs --------------------------------------------------------------------------------------------------------


async def list_rollouts(request: web.Request) -> web.Response:
    return await list_rows(request, Rollout, plainly(_rollout), newest_first=True)


async def get_rollout(request: web.Request) -> web.Response:
    no_query(request)
    return await _detail(request, await row_named(request, Rollout))


async def try_rollout(request: web.Request) -> Examined:
    """Before the transaction: a template is tried on made-up phones, as one that is published at once is."""
    return await try_change(request, (await body_of(request, RolloutCreate)).change())


async def try_change(request: web.Request, change: Change) -> Examined:
    """What comes of a changed template; nothing to say of any other change."""
    profile = vendors.known().profiles.get(change.vendor)
    if change.kind is not ChangeKind.TEMPLATE or not isinstance(change.after, str | None) or profile is None:
        return Examined()
    return await tried(request, change.vendor, change.name, change.after)


async def post_rollout(request: web.Request) -> web.Response:
    no_query(request)
    wished = (await body_of(request, RolloutCreate)).fields(prepared(request, Examined))
    row = await rollout.start_rollout(request[SESSION], request[ACTOR], request[ACCOUNT], wished)
    await request[SESSION].flush()
    warnings = wished.examined.warnings
    return await _detail(request, row, status=201, location=f"/api/v1/rollouts/{row.id}", warnings=warnings)


async def post_rollout_publish(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, Rollout, to_change=True)
    examined = prepared(request, Examined)
    await rollout.publish_rollout(request[SESSION], request[ACTOR], row, examined)
    await request[SESSION].flush()
    return await _detail(request, row, warnings=examined.warnings)


async def post_rollout_cancel(request: web.Request) -> web.Response:
    no_query(request)
    row = await row_named(request, Rollout, to_change=True)
    await rollout.cancel_rollout(request[SESSION], request[ACTOR], row)
    await request[SESSION].flush()
    return await _detail(request, row)


async def _detail(
    request: web.Request,
    row: Rollout,
    *,
    status: int = 200,
    location: str | None = None,
    warnings: Sequence[str] = (),
) -> web.Response:
    group = await rollout_watch.progress(request[SESSION], row, row.ended_at or utc_now())
    phones: Sequence[CanaryPhoneAnswer] = [CanaryPhoneAnswer.model_validate(phone) for phone in group]
    body = RolloutDetail(
        **_rollout(row).model_dump(),
        before=row.change.get("before"),
        after=row.change.get("after"),
        canary=list(phones),
        warnings=list(warnings),
    )
    return answered(body, row, status=status, location=location)


def _rollout(row: Rollout) -> RolloutAnswer:
    limits = rollout.limits_of(row)
    names = set(RolloutAnswer.model_fields) - {"counts", "failures", "minutes", "automatic"}
    return RolloutAnswer(
        **{name: getattr(row, name) for name in names}, counts=CountsAnswer(**(row.counts or {})),
        failures=limits.failures, minutes=limits.minutes, automatic=limits.is_automatic,
    )  # fmt: skip


_READ, _WRITE = Scope.PROVISIONING_READ, Scope.PROVISIONING_WRITE
ROUTES = (
    Route(
        "GET", "/api/v1/rollouts", list_rollouts, _READ, Event.ROLLOUT_LIST,
        operation=Operation("List roll-outs, newest first", answer=RolloutAnswer, is_list=True, queries=PAGE_QUERIES),
    ),
    Route(
        "POST", "/api/v1/rollouts", post_rollout, _WRITE, Event.ROLLOUT_CREATE, prepare=try_rollout,
        operation=Operation(
            "Give a change to some phones first", body=RolloutCreate, answer=RolloutDetail, status=201, has_etag=True
        ),
    ),
    Route(
        "POST", "/api/v1/rollouts/dry-run", post_dry_run, _WRITE, Event.DRY_RUN_CREATE,
        operation=Operation(
            "Try a change on every phone it concerns, without serving it", body=ChangeBody, answer=DryRunAnswer,
            status=202,
        ),
    ),
    Route(
        "GET", "/api/v1/rollouts/dry-run/{id}", get_dry_run, _READ, Event.DRY_RUN_READ,
        operation=Operation("How far a dry run is, and what it found", answer=DryRunAnswer),
    ),
    Route(
        "POST", "/api/v1/rollouts/dry-run/{id}/cancel", post_dry_run_cancel, _WRITE, Event.DRY_RUN_CANCEL,
        operation=Operation("End a dry run", answer=DryRunAnswer),
    ),
    Route(
        "GET", "/api/v1/rollouts/{id}", get_rollout, _READ, Event.ROLLOUT_READ,
        operation=Operation("One roll-out, with each of its phones", answer=RolloutDetail, has_etag=True),
    ),
    Route(
        "POST", "/api/v1/rollouts/{id}/publish", post_rollout_publish, _WRITE, Event.ROLLOUT_PUBLISH,
        prepare=try_publication,
        operation=Operation("Give the change to all phones", answer=RolloutDetail, if_match=True, has_etag=True),
    ),
    Route(
        "POST", "/api/v1/rollouts/{id}/cancel", post_rollout_cancel, _WRITE, Event.ROLLOUT_CANCEL,
        operation=Operation("Take the change back", answer=RolloutDetail, if_match=True, has_etag=True),
    ),
)  # fmt: skip
