"""Escalation: who else is told of a call that nobody acknowledges, and when. The plan, its parsing and each step.

An account's plan has up to three steps, each a time since the call was recorded and the people told then: addresses to
mail, and recipients of SMS and chat. It is off until somebody names them. What is owed stands in the call's row
(`escalation_due_at`), so that a restart forgets nothing and one of several nodes does it; an acknowledgement ends it.
Drills escalate like calls, or nobody would know whether it works; 933 tests do not.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.changes import rfc3339
from engine.audit.checkpoints import Signer
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.e911 import chats, mail, store, store_chats
from engine.e911 import store_escalation as escalations
from engine.e911.acknowledging import caller_of
from engine.e911.fields import read_email
from engine.e911.telling import queue_notifications, told_of
from engine.errors import FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, CallKind, Channel, EmergencyCall, EscalationPlan

MAX_STEPS = 3
MIN_AFTER_S, MAX_AFTER_S = 30, 3_600
MAX_OF_STEP = 20  # people of one step
ESCALATOR = Actor("system", "escalation", "Callpoint", "local")
_ESCALATED = frozenset({CallKind.EMERGENCY, CallKind.DRILL})


@dataclass(frozen=True, slots=True)
class Step:
    """`after_s`: seconds since the call was recorded. `chat_recipient_ids`: recipients of SMS and chat."""

    after_s: int
    emails: tuple[str, ...] = ()
    chat_recipient_ids: tuple[str, ...] = ()

    def stored(self) -> dict[str, Any]:
        """As the plan keeps it."""
        return {
            "after_s": self.after_s, "emails": list(self.emails), "chat_recipient_ids": list(self.chat_recipient_ids),
        }  # fmt: skip


def steps_of(plan: EscalationPlan | None) -> tuple[Step, ...]:
    """The steps of a stored plan; none when escalation is off."""
    return tuple(
        Step(int(one["after_s"]), tuple(one["emails"]), tuple(one["chat_recipient_ids"]))
        for one in (plan.steps if plan is not None else [])
    )


async def plan_for(session: AsyncSession, account: Account, *, to_change: bool = False) -> EscalationPlan:
    """The account's plan; one without steps, of version 0 and not stored, when it has none."""
    plan = await escalations.plan_of(session, account.id, for_update=to_change)
    return plan or EscalationPlan(id=new_id("escalation_plan"), account_id=account.id, steps=[], version=0)


async def change_plan(
    session: AsyncSession, actor: Actor, account: Account, plan: EscalationPlan, wished: Sequence[Mapping[str, Any]]
) -> EscalationPlan:
    """Set who is told when nobody acknowledges. `wished`: after_s, emails and chat_recipient_ids of each; none: off.

    Raises:
        Invalid: every field that cannot be accepted.
    """
    known = {row.id for row, _place in await store_chats.chats_of(session, account.id)}
    steps, faults = read_steps(wished, known)
    if faults:
        raise Invalid("The escalation was not changed.", fields=tuple(faults))
    plan.steps = [step.stored() for step in steps]
    if not plan.version:
        session.add(plan)
    record(session, actor, Event.ESCALATION_PLAN_UPDATE, plan)
    await session.flush()
    return plan


def read_steps(wished: Sequence[Mapping[str, Any]], known: set[str]) -> tuple[tuple[Step, ...], list[FieldFault]]:
    """The steps as they are stored, and every fault. `known`: the account's recipients of SMS and chat (pure)."""
    faults, steps = list[FieldFault](), list[Step]()
    if len(wished) > MAX_STEPS:
        faults.append(FieldFault("steps", f"Expected at most {MAX_STEPS} steps, got {len(wished)}."))
    told: set[str] = set()
    for at, one in enumerate(wished[:MAX_STEPS]):
        name = f"steps.{at}"
        emails = [read_email(f"{name}.emails", email, faults) for email in one.get("emails", ())]
        chosen = list(dict.fromkeys(one.get("chat_recipient_ids", ())))
        if set(chosen) - known:
            detail = "Expected recipients of SMS and chat of this account."
            faults.append(FieldFault(f"{name}.chat_recipient_ids", detail))
        everybody = [*dict.fromkeys(email.casefold() for email in emails), *chosen]
        if not everybody or len(everybody) > MAX_OF_STEP:
            faults.append(FieldFault(f"{name}.emails", f"Expected 1 to {MAX_OF_STEP} people to tell in each step."))
        if told & set(everybody):
            detail = "Somebody here stands in an earlier step: each is told once of a call."
            faults.append(FieldFault(f"{name}.emails", detail))
        told |= set(everybody)
        after_s = one.get("after_s")
        least = steps[-1].after_s + 1 if steps else MIN_AFTER_S
        if not isinstance(after_s, int) or not MIN_AFTER_S <= after_s <= MAX_AFTER_S:
            detail = f"Expected {MIN_AFTER_S} to {MAX_AFTER_S} seconds after the call."
            faults.append(FieldFault(f"{name}.after_s", detail))
        elif after_s < least:
            faults.append(FieldFault(f"{name}.after_s", "Expected a later time than that of the step before."))
        else:
            unique = {email.casefold(): email for email in reversed(emails)}
            steps.append(Step(after_s, tuple(reversed(unique.values())), tuple(chosen)))
    return tuple(steps), faults


async def begin(session: AsyncSession, call: EmergencyCall) -> None:
    """Owe the call's first step, when the account has one. In the transaction that records the call."""
    if call.kind in _ESCALATED:
        steps = steps_of(await escalations.plan_of(session, call.account_id))
        call.escalation_due_at = _due_at(call, steps, 0)


async def take_step(
    session: AsyncSession, call: EmergencyCall, now: dt.datetime, *, signer: Signer | None, public_url: str
) -> bool:
    """Tell those of the call's next step, by the plan as it is now; False when there is none any more.

    `call` is locked, and nobody has acknowledged it.
    """
    number, account = len(call.escalations), await session.get(Account, call.account_id)
    steps = steps_of(await escalations.plan_of(session, call.account_id))
    call.escalation_due_at = _due_at(call, steps, number + 1)
    if account is None or number >= len(steps):
        return False
    step = steps[number]
    location = await store.location_by_id(session, account.id, str((call.location or {}).get("id") or ""))
    told = await told_of(session, call, account, location, signer=signer, public_url=public_url)
    told = replace(told, unacknowledged_s=max(step.after_s, round((now - call.recorded_at).total_seconds())))
    queue_notifications(session, call, told, dict.fromkeys(step.emails, "escalation"), channel=Channel.ESCALATION)
    by_chat = await chats.queue_escalation(session, call, told, step.chat_recipient_ids)
    people = [*step.emails, *by_chat]
    call.escalations = [*call.escalations, {"step": number + 1, "at": rfc3339(now), "told": people}]
    record(
        session, ESCALATOR, Event.EMERGENCY_CALL_ESCALATE, call,
        resource=("call", call.id, mail.one_line(f"{call.dialed} from {caller_of(call)}")),
        details={"step": number + 1, "steps": len(steps), "after_s": step.after_s, "told": people},
    )  # fmt: skip
    await session.flush()
    return True


def _due_at(call: EmergencyCall, steps: Sequence[Step], number: int) -> dt.datetime | None:
    return call.recorded_at + dt.timedelta(seconds=steps[number].after_s) if number < len(steps) else None
