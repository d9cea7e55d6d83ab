"""Operations on an account's own templates: each changes rows and records itself once; nobody here commits.

Whether a text may be published is found out before, outside the transaction (`overrides.examine`); these operations
take what was found and refuse a text that has faults. Every text a template ever had is kept as a version.
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.audit.store_outdated import outdate
from engine.db import utc_now
from engine.errors import Conflict, FieldFault, Invalid, NotFound
from engine.ids import new_id
from engine.models import Account, Phone, TemplateOverride, TemplateVersion
from engine.provisioning import store_levels
from engine.provisioning.overrides import Examined

MAX_NOTE = 400


@dataclass(frozen=True, slots=True)
class Text:
    """A text to publish, as it was tried: `examined` says what came of that."""

    vendor: str
    name: str
    body: str
    note: str
    examined: Examined


async def create_template(session: AsyncSession, actor: Actor, account: Account, text: Text) -> TemplateOverride:
    """Publish an account's first text for a template.

    Raises:
        Invalid: the text has faults. Conflict: the account has a text of its own there already.
    """
    _refuse_faulty(text)
    if await store_levels.template_named(session, account.id, text.vendor, text.name) is not None:
        raise Conflict(f"This account has its own {text.name} for {text.vendor} already. Change that one.")
    template = TemplateOverride(
        id=new_id("template"), account_id=account.id, vendor=text.vendor, name=text.name, body=text.body, number=1
    )
    session.add(template)
    await session.flush()
    _keep(session, actor, template, text.note)
    await _outdate(session, template)
    record(session, actor, Event.TEMPLATE_CREATE, template, details={"version": 1, "note": text.note})
    return template


async def update_template(session: AsyncSession, actor: Actor, template: TemplateOverride, text: Text) -> None:
    """Publish another text. Raises Invalid: it has faults."""
    _refuse_faulty(text)
    if text.body != template.body:
        await _publish(session, actor, template, text.body, text.note)
    details = {"version": template.number, "note": text.note}
    record(session, actor, Event.TEMPLATE_UPDATE, template, details=details)


async def revert_template(
    session: AsyncSession, actor: Actor, template: TemplateOverride, number: int | None, examined: Examined
) -> None:
    """Publish the text of an older version anew, or (None) the shipped one; either is a version of its own.

    Args:
        examined: What came of trying that text now, beside the account's others; of the shipped one too.

    Raises:
        NotFound: it has no such version. Invalid: the text has faults by now.
    """
    body, note = None, "Back to the shipped text"
    if number is not None:
        version = await store_levels.version_of(session, template.id, number)
        if version is None:
            raise NotFound(f"{template.name} has no version {number}.")
        body, note = version.body, f"Back to version {number}"
    _refuse_faulty(Text(template.vendor, template.name, body or "", note, examined), field="number")
    await _publish(session, actor, template, body, note)
    details = {"version": template.number, "back_to": number, "note": note}
    record(session, actor, Event.TEMPLATE_REVERT, template, details=details)


async def delete_template(session: AsyncSession, actor: Actor, template: TemplateOverride, examined: Examined) -> None:
    """Forget the account's text and every version of it; phones are served the shipped one.

    Args:
        examined: What becomes of the account's other texts without it (`overrides.examine_back`).

    Raises:
        Invalid: one of them needs it.
    """
    _refuse_faulty(Text(template.vendor, template.name, "", "", examined), field="")
    await _outdate(session, template)
    for version in await store_levels.versions_of(session, template.id, limit=100_000):
        await session.delete(version)
    await session.flush()  # versions before what they are of
    await session.delete(template)
    record(session, actor, Event.TEMPLATE_DELETE, template)


def _refuse_faulty(text: Text, *, field: str = "body") -> None:
    faults = [FieldFault(field, fault) for fault in text.examined.faults]
    if len(text.note) > MAX_NOTE:
        faults.append(FieldFault("note", f"Expected at most {MAX_NOTE} characters."))
    if faults:
        raise Invalid(
            "This template is not published: phones keep the one in force, 911 included. Correct what is marked.",
            fields=tuple(faults),
        )


async def _publish(
    session: AsyncSession, actor: Actor, template: TemplateOverride, body: str | None, note: str
) -> None:
    template.number = max(template.number, await store_levels.last_number(session, template.id)) + 1
    template.body = body
    _keep(session, actor, template, note)
    await _outdate(session, template)


def _keep(session: AsyncSession, actor: Actor, template: TemplateOverride, note: str) -> None:
    session.add(
        TemplateVersion(
            template_id=template.id, number=template.number, body=template.body, note=note,
            written_by=actor.display_name or actor.name, written_at=utc_now(),
        )
    )  # fmt: skip


async def _outdate(session: AsyncSession, template: TemplateOverride) -> None:
    await outdate(session, Phone.account_id == template.account_id, Phone.vendor == template.vendor)
