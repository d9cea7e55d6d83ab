"""Pages of roll-outs: trying a change on paper, giving it to some phones, watching them; a phone's files compared."""

import json
from typing import Any

from aiohttp import web

from admin.api.phone_preview import refuse_bad_change
from admin.api.rollouts import dry_run_named, try_change
from admin.auth import prepared
from admin.context import ACCOUNT, ACTOR, DRY_RUNS, INDEX, SESSION
from admin.links import provisioning_url
from admin.pages.form import FORM, form_of, refuse_stale, see_other, typed, whole_number
from admin.pages.templates import Warned
from admin.phone_names import model_name
from admin.phone_preview import against_fetched, phonebook_of
from admin.place_field import Places, place_called, place_typed, places
from admin.render import render
from admin.routes import Route
from admin.template_trial import try_publication
from engine.accounts import store as accounts
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import record
from engine.db import utc_now
from engine.e911 import store_names
from engine.errors import EngineError, FieldFault, Invalid
from engine.models import Rollout
from engine.provisioning import canary, preview, rollout, rollout_watch, store, store_rollouts, vendors
from engine.provisioning.canary import Limits
from engine.provisioning.dryrun import Group as DryRunGroup
from engine.provisioning.fleet import Change, ChangeKind
from engine.provisioning.overrides import Examined
from engine.provisioning.resync import WAITING
from engine.provisioning.rollout import Group, RolloutFields
from engine.provisioning.tokens import REDACTED

SHOWN = 50
MOST_GROUPS = 15
MOST_LINES = 600  # of differences on one page; the API has all of them
RANDOM = 5


# --- The list, and a change to try ------------------------------------------------------------------------------------


async def get_rollouts(request: web.Request) -> web.Response:
    return await _list_page(request, None)


async def _list_page(request: web.Request, error: EngineError | None) -> web.Response:
    rows = await accounts.rows_after(
        request[SESSION], Rollout, request[ACCOUNT].id, after=None, limit=SHOWN, newest_first=True
    )
    choices = await places(request)
    values = {"subject": "", "location": request.query.get("location", "")[:200]}
    return render(
        request, "rollouts.html.j2", error=error, form=await form_of(request, values, error), rollouts=rows,
        location_names=await _location_names(request, *(row.target for row in rows)),
        subjects=await _subjects(request, choices), places=choices,
    )  # fmt: skip


async def get_rollout_new(request: web.Request) -> web.Response:
    return await _new_page(request, None)


async def _new_page(request: web.Request, error: EngineError | None) -> web.Response:
    posted = request.method == "POST"
    subject = await typed(request, "subject") if posted else request.query.get("subject", "")
    if not subject and (text := request.query.get("location", "").strip()):
        called = await place_called(request, text)
        if called.location_id is None:
            told = FieldFault("location", called.detail)
            return await _list_page(request, Invalid("Nothing is chosen yet.", fields=(told,)))
        subject = f"{ChangeKind.SETTINGS.value}:{called.location_id}"
    change = _subject(subject)
    if change is None or await rollout.change_faults(request[SESSION], request[ACCOUNT], change):
        told = FieldFault("subject", "Choose a template or a level of settings.")
        return await _list_page(request, Invalid("Nothing is chosen yet.", fields=(told,)))
    account_id = request[ACCOUNT].id
    now = await rollout.published(request[SESSION], account_id, change)
    if change.kind is ChangeKind.TEMPLATE:
        text = now if now is not None else vendors.known().profiles[change.vendor].templates[change.name]
    else:
        text = json.dumps(now, indent=2, ensure_ascii=False) if now else ""
    if posted:
        text = await _written(request)
    return render(
        request, "rollout_new.html.j2", error=error,
        form=await form_of(request, {"after": text}, error), change=change,
        location_names=await _location_names(request, change.target),
        affected=await store_rollouts.count_affected(request[SESSION], account_id, change),
    )  # fmt: skip


async def post_rollout_new(request: web.Request) -> web.Response:
    """Start a dry run of what was typed."""
    request[FORM] = _new_page
    change = _subject(await typed(request, "subject"))
    if change is None:
        raise Invalid("Nothing is chosen yet.", fields=(FieldFault("subject", "Choose what to change."),))
    change = Change(change.kind, change.target, _after(change.kind, await _written(request)))
    await refuse_bad_change(request, change)
    run = request.app[DRY_RUNS].start(
        request[ACCOUNT].id, change, provisioning_url=provisioning_url(request, REDACTED), asked_by=request[ACTOR].name
    )
    record(
        request[SESSION], request[ACTOR], Event.DRY_RUN_CREATE, resource=("dry_run", run.id, change.target),
        details={"kind": change.kind.value},
    )  # fmt: skip
    return see_other(f"/phones/rollouts/dry-run/{run.id}")


async def _written(request: web.Request) -> str:
    """The text as it was typed, here or into the template's own page, whose form may be sent here too."""
    post = await request.post()
    text = post.get("after", post.get("body", ""))
    return text if isinstance(text, str) else ""


def _after(kind: ChangeKind, text: str) -> Any:
    """What was typed, as a change holds it. Browsers send CR LF; a template has the line ends of its file."""
    if not text.strip():
        return None
    if kind is ChangeKind.TEMPLATE:
        return text.replace("\r\n", "\n")
    try:
        found = json.loads(text)
    except ValueError as exc:
        said = f"Expected JSON: {exc}."
        raise Invalid("The settings cannot be read.", fields=(FieldFault("after", said),)) from exc
    return found


def _subject(text: str) -> Change | None:
    """`template:yealink/base.cfg.j2`, `settings:account`; None: neither."""
    kind, _, target = text.partition(":")
    return Change(ChangeKind(kind), target, None) if kind in set(ChangeKind) and target else None


async def _subjects(request: web.Request, choices: Places) -> list[tuple[str, str]]:
    """What may be changed, as far as the account's phones have it: levels first, then templates. Of locations none
    where they are too many for a menu: the form has a field for one's name then.
    """
    models = await store_rollouts.models_of(request[SESSION], request[ACCOUNT].id)
    found = [("settings:account", "Settings of the account")]
    found += [(f"settings:{key}", f"Settings of {name}") for key, name in choices.choices]
    found += [(f"settings:{vendor}/{model}", f"Settings of {model_name(vendor, model)}") for vendor, model in models]
    profiles = vendors.known().profiles
    for vendor in dict.fromkeys(vendor for vendor, _ in models):
        if vendor in profiles:
            found += [
                (f"template:{vendor}/{name}", f"Template {vendor}/{name}")
                for name in sorted(profiles[vendor].templates)
            ]
    return found


async def _location_names(request: web.Request, *targets: str) -> dict[str, str]:
    """Of those changes' targets that are locations, the names."""
    return await store_names.location_names(request[SESSION], request[ACCOUNT].id, targets)


# --- A dry run --------------------------------------------------------------------------------------------------------


async def get_dry_run(request: web.Request) -> web.Response:
    return await _dry_run_page(request, None)


async def _dry_run_page(request: web.Request, error: EngineError | None) -> web.Response:
    run = await dry_run_named(request)
    names = await _location_names(request, run.change.target)
    usual = Limits()
    values = {
        "canary.random": str(RANDOM), "canary.location_id": "", "canary.phones": "", "failures": str(usual.failures),
        "minutes": str(usual.minutes), "automatic": usual.is_automatic,
    }  # fmt: skip
    groups: list[DryRunGroup] = []
    lines = 0
    for group in run.largest_first[:MOST_GROUPS]:
        lines += sum(len(found.lines) for found in group.differences.values())
        if groups and lines > MOST_LINES:
            break
        groups.append(group)
    return render(
        request, "dry_run.html.j2", error=error, run=run,
        form=await form_of(request, values, error), groups=groups, location_names=names, places=await places(request),
        more_groups=len(run.groups) - len(groups) + len(run.other_groups), is_warned=isinstance(error, Warned),
    )  # fmt: skip


async def post_dry_run_cancel(request: web.Request) -> web.Response:
    run = await dry_run_named(request)
    await request.app[DRY_RUNS].cancel(request[SESSION], run)
    record(request[SESSION], request[ACTOR], Event.DRY_RUN_CANCEL, resource=("dry_run", run.id, run.change.target))
    return see_other(f"/phones/rollouts/dry-run/{run.id}")


async def try_dry_run(request: web.Request) -> Examined:
    """Before the transaction: the template is tried as one that is published at once is."""
    return await try_change(request, (await dry_run_named(request)).change)


async def post_dry_run_start(request: web.Request) -> web.Response:
    """Give what was tried to a canary group."""
    request[FORM] = _dry_run_page
    run = await dry_run_named(request)
    await _refuse_unread(request)
    wished = RolloutFields(
        run.change,
        await _typed_group(request),
        Limits(
            await whole_number(request, "failures", Limits().failures),
            await whole_number(request, "minutes", Limits().minutes),
            await typed(request, "automatic") != "",
        ),
        prepared(request, Examined),
    )
    row = await rollout.start_rollout(request[SESSION], request[ACTOR], request[ACCOUNT], wished)
    return see_other(f"/phones/rollouts/{row.id}", "rollout-begun")


async def _refuse_unread(request: web.Request) -> None:
    """Raise `Warned` for what the template changes that keeps phones reachable, until it was read and accepted."""
    examined = prepared(request, Examined)
    if examined.warnings and not examined.faults and not await typed(request, "accept"):
        raise Warned(" ".join(examined.warnings))


async def _typed_group(request: web.Request) -> Group:
    """MAC addresses count before a location, a location before chance: what was typed last by hand is most wanted."""
    macs = (await typed(request, "canary.phones")).replace(",", " ").split()
    if macs:
        found, faults = [], []
        for text in macs:
            mac = vendors.parse_mac(text)
            phone = await store.phone_by_mac(request[SESSION], request[ACCOUNT].id, mac) if mac is not None else None
            if phone is None:
                faults.append(FieldFault("canary.phones", f"{text[:40]} is no phone of this account."))
            else:
                found.append(phone.id)
        if faults:
            raise Invalid("These phones cannot come first.", fields=tuple(faults))
        return Group(phones=tuple(found))
    location_id = await place_typed(request, "canary.location_id")
    return (
        Group(location_id=location_id) if location_id else Group(random=await whole_number(request, "canary.random", 0))
    )


# --- A roll-out -------------------------------------------------------------------------------------------------------


async def get_rollout(request: web.Request) -> web.Response:
    return await _rollout_page(request, None)


async def _rollout_page(request: web.Request, error: EngineError | None) -> web.Response:
    row = await _rollout(request)
    group = await rollout_watch.progress(request[SESSION], row, row.ended_at or utc_now())
    counts = canary.counts(group) if row.ended_at is None else {**canary.counts(()), **(row.counts or {})}
    return render(
        request, "rollout.html.j2", error=error, rollout=row, group=group,
        is_warned=isinstance(error, Warned), form=await form_of(request, {}, error), counts=counts,
        limits=rollout.limits_of(row),
        was=f"{row.state} {counts['fetched']} {counts['failed']} {counts['waiting']}",
        location_names=await _location_names(request, row.target), difference=_difference(row),
        asked=await store_rollouts.results_since(request[SESSION], row), waiting=WAITING,
        outdated=0 if row.ended_at is None else await store_rollouts.outdated(request[SESSION], row),
        concerned=await store_rollouts.count_affected(request[SESSION], row.account_id, rollout.change_of(row)),
    )  # fmt: skip


def _difference(row: Rollout) -> preview.Difference:
    before, after = row.change.get("before"), row.change.get("after")
    if row.kind == ChangeKind.TEMPLATE:
        profile = vendors.known().profiles.get(row.target.partition("/")[0])
        shipped = profile.templates.get(row.target.partition("/")[2], "") if profile is not None else ""
        return preview.compare_templates(row.target.partition("/")[2], shipped, before, after)
    old, new = (json.dumps(one or {}, indent=2, ensure_ascii=False, sort_keys=True) for one in (before, after))
    return preview.compare(old, new)


async def post_rollout_publish(request: web.Request) -> web.Response:
    request[FORM] = _rollout_page
    row = await _rollout(request)
    await refuse_stale(request, row)
    await _refuse_unread(request)
    await rollout.publish_rollout(request[SESSION], request[ACTOR], row, prepared(request, Examined))
    return see_other(f"/phones/rollouts/{row.id}", "rollout-published")


async def post_rollout_cancel(request: web.Request) -> web.Response:
    request[FORM] = _rollout_page
    row = await _rollout(request)
    await refuse_stale(request, row)
    await rollout.cancel_rollout(request[SESSION], request[ACTOR], row)
    return see_other(f"/phones/rollouts/{row.id}", "rollout-cancelled")


async def _rollout(request: web.Request) -> Rollout:
    return await accounts.row_of(request[SESSION], Rollout, request[ACCOUNT].id, request.match_info["id"])


# --- A phone's files --------------------------------------------------------------------------------------------------


async def get_phone_files(request: web.Request) -> web.Response:
    phone = await store.phone_of(request[SESSION], request[ACCOUNT].id, request.match_info["id"])
    served = await request.app[INDEX].phone(phone.id)
    files, book = await against_fetched(request, served), await phonebook_of(request, served)
    return render(request, "phone_files.html.j2", phone=phone, files=files, book=book)


_READ, _WRITE = Scope.PROVISIONING_READ, Scope.PROVISIONING_WRITE
ROUTES = (
    Route("GET", "/phones/rollouts", get_rollouts, _READ, Event.ROLLOUT_LIST),
    Route("GET", "/phones/rollouts/new", get_rollout_new, _WRITE, Event.FORM_READ),
    Route("POST", "/phones/rollouts/new", post_rollout_new, _WRITE, Event.DRY_RUN_CREATE),
    Route("GET", "/phones/rollouts/dry-run/{id}", get_dry_run, _READ, Event.DRY_RUN_READ),
    Route("POST", "/phones/rollouts/dry-run/{id}/cancel", post_dry_run_cancel, _WRITE, Event.DRY_RUN_CANCEL),
    Route(
        "POST",
        "/phones/rollouts/dry-run/{id}/start",
        post_dry_run_start,
        _WRITE,
        Event.ROLLOUT_CREATE,
        prepare=try_dry_run,
    ),
    Route("GET", "/phones/rollouts/{id}", get_rollout, _READ, Event.ROLLOUT_READ),
    Route(
        "POST",
        "/phones/rollouts/{id}/publish",
        post_rollout_publish,
        _WRITE,
        Event.ROLLOUT_PUBLISH,
        prepare=try_publication,
    ),
    Route("POST", "/phones/rollouts/{id}/cancel", post_rollout_cancel, _WRITE, Event.ROLLOUT_CANCEL),
    Route("GET", "/phones/{id}/files", get_phone_files, Scope.PHONES_READ, Event.PHONE_PREVIEW),
)
