"""`/api/v1/provisioning-policy`: who is served the phones' files, and how the files leave."""

from typing import Annotated

from aiohttp import web
from pydantic import Field, StringConstraints

from admin.api import answered, body_of, given, match_version, no_query
from admin.api.models import NAME_PATTERN, Answer, Body, patch_of
from admin.context import ACCOUNT, ACTOR, CONFIG, RESOURCE, SESSION
from admin.routes import Operation, Query, Route
from engine.accounts import store
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.audit.record import record
from engine.config import Provisioning
from engine.errors import FieldFault, Invalid
from engine.models import Account
from engine.provisioning import safeguards, store_safeguards
from engine.provisioning.policy import (
    MAX_PER_MINUTE,
    MAX_SOURCES,
    MIN_PER_MINUTE,
    Policy,
)

_Cidr = Annotated[str, StringConstraints(min_length=2, max_length=64, pattern=NAME_PATTERN)]
_Choice = Annotated[str, StringConstraints(max_length=20, pattern=NAME_PATTERN)]


class PolicyAnswer(Answer):
    """The policy as it holds, defaults included. Its version is the account's.

    clear_phones: how many of its phones are of families that read no encrypted file, whatever `encrypt_files` says.
    outside_phones: how many asked last from outside `sources`, of `asked_phones` that have asked at all: they get no
    changes any more. With `dry_run`, all of it as it would be.
    """

    sources: list[str]
    client_certificates: str
    expired_certificates: bool
    encrypt_files: bool
    resync_per_minute: int
    location_gate: str
    clear_phones: int
    outside_phones: int
    outside_examples: list[str]
    asked_phones: int


class PolicyBody(Body):
    sources: Annotated[list[_Cidr], Field(max_length=MAX_SOURCES)]
    client_certificates: _Choice
    expired_certificates: bool
    encrypt_files: bool
    resync_per_minute: Annotated[int, Field(ge=MIN_PER_MINUTE, le=MAX_PER_MINUTE)]
    location_gate: _Choice


PolicyPatch = patch_of(PolicyBody, "PolicyPatch")


async def get_provisioning_policy(request: web.Request) -> web.Response:
    no_query(request)
    account = _account(request)
    return await _answered(request, safeguards.policy_of(account), account)


async def patch_provisioning_policy(request: web.Request) -> web.Response:
    no_query(request, "dry_run")
    dry = request.query.get("dry_run", "false").lower()
    if dry not in {"true", "false"}:
        raise Invalid("This cannot be asked.", fields=(FieldFault("dry_run", "Expected true or false."),))
    session, account = request[SESSION], _account(request)
    await store.lock_account(session, account)
    match_version(request, account)
    changes = given(await body_of(request, PolicyPatch))
    seen = sees_certificates(request.app[CONFIG].provisioning)
    if dry == "true":
        policy = safeguards.wished_policy(account, changes, sees_certificates=seen)
        if policy.encrypt_files and not safeguards.policy_of(account).encrypt_files:
            safeguards.refuse_vain_encryption(await store_safeguards.phones_by_vendor(session, account.id))
        record(session, request[ACTOR], Event.PROVISIONING_POLICY_READ, resource=request[RESOURCE])
        return await _answered(request, policy, account)
    policy = await safeguards.update_policy(session, request[ACTOR], account, changes, sees_certificates=seen)
    await request[SESSION].flush()
    return await _answered(request, policy, account)


def sees_certificates(section: Provisioning) -> bool:
    """Whether phones' certificates reach the engine: over its own TLS, or through a proxy that hands them on."""
    return section.sees_certificates


def _account(request: web.Request) -> Account:
    account: Account = request[ACCOUNT]
    request[RESOURCE] = ("account", account.id, account.name)
    return account


async def _answered(request: web.Request, policy: Policy, account: Account) -> web.Response:
    counts = await store_safeguards.phones_by_vendor(request[SESSION], account.id)
    outside = await store_safeguards.phones_outside(request[SESSION], account.id, policy)
    values = policy.values() | {"clear_phones": safeguards.phones_in_clear(counts)}
    values |= {"outside_phones": outside.phones, "outside_examples": outside.examples, "asked_phones": outside.of}
    return answered(PolicyAnswer.model_validate(values), account)


_PATH = "/api/v1/provisioning-policy"
_QUERIES = (Query("dry_run", {"type": "boolean", "default": False}, "Only say what would hold, and for how many."),)
ROUTES = (
    Route(
        "GET", _PATH, get_provisioning_policy, Scope.PROVISIONING_READ, Event.PROVISIONING_POLICY_READ,
        operation=Operation("The phones' provisioning policy", answer=PolicyAnswer, has_etag=True),
    ),
    Route(
        "PATCH", _PATH, patch_provisioning_policy, Scope.PROVISIONING_WRITE, Event.PROVISIONING_POLICY_UPDATE,
        operation=Operation(
            "Change the phones' provisioning policy", body=PolicyPatch, answer=PolicyAnswer, if_match=True,
            has_etag=True, queries=_QUERIES,
        ),
    ),
)  # fmt: skip
