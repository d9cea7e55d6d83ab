"""Saved views of the audit log: filters under a name, one's own or shared with all who may read the log.

A view keeps the filters as they stand in the page's address, so that a link to it is a link to its filters: whoever
gets it needs no view, and a view that is gone breaks no link.
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit import store_views
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.errors import Conflict, FieldFault, Forbidden, Invalid
from engine.ids import new_id
from engine.models import SavedView

MAX_NAME_CHARACTERS = 80
MAX_QUERY_CHARACTERS = 4_000
MAX_OF_ONE = 100  # views of one owner: beyond it nobody finds one by looking


@dataclass(frozen=True, slots=True)
class ViewFields:
    """A view as it shall be. `query`: filters as they stand in the address, such as `outcome=denied&range=today`."""

    name: str
    query: str
    is_shared: bool = False

    @classmethod
    def of(cls, view: SavedView) -> "ViewFields":
        return cls(view.name, view.query, view.is_shared)


async def create_view(session: AsyncSession, actor: Actor, account_id: str, wished: ViewFields) -> SavedView:
    """Keep filters under a name; the actor owns them.

    Raises:
        Invalid: every bad field. Conflict: the owner has as many as can be kept.
    """
    await _refuse_bad(session, account_id, actor.id, wished)
    if await store_views.count_of(session, account_id, actor.id) >= MAX_OF_ONE:
        raise Conflict(f"You keep {MAX_OF_ONE} views already. Delete one first.")
    view = SavedView(
        id=new_id("audit_view"), account_id=account_id, owner_id=actor.id, owner_name=actor.display_name or actor.name,
        name=wished.name.strip(), query=wished.query, is_shared=wished.is_shared,
    )  # fmt: skip
    session.add(view)
    record(session, actor, Event.AUDIT_VIEW_CREATE, view)
    return view


async def update_view(
    session: AsyncSession, actor: Actor, view: SavedView, wished: ViewFields, *, may_all: bool = False
) -> None:
    """Rename a view, change its filters, share it or take it back.

    Args:
        may_all: The actor may change shared views of others too.

    Raises:
        Invalid: every bad field. Forbidden: somebody else's.
    """
    _refuse_others(actor, view, may_all=may_all)
    await _refuse_bad(session, view.account_id, view.owner_id, wished, but=view.id)
    view.name, view.query, view.is_shared = wished.name.strip(), wished.query, wished.is_shared
    record(session, actor, Event.AUDIT_VIEW_UPDATE, view)


async def delete_view(session: AsyncSession, actor: Actor, view: SavedView, *, may_all: bool = False) -> None:
    """Forget a view; links with its filters go on working.

    Raises:
        Forbidden: somebody else's.
    """
    _refuse_others(actor, view, may_all=may_all)
    await session.delete(view)
    record(session, actor, Event.AUDIT_VIEW_DELETE, view)


def _refuse_others(actor: Actor, view: SavedView, *, may_all: bool) -> None:
    if view.owner_id != actor.id and not may_all:
        raise Forbidden(f"This view belongs to {view.owner_name or 'somebody else'}. Save one of your own from it.")


async def _refuse_bad(
    session: AsyncSession, account_id: str, owner_id: str, wished: ViewFields, *, but: str = ""
) -> None:
    faults, name = [], wished.name.strip()
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        faults.append(FieldFault("name", f"Expected 1 to {MAX_NAME_CHARACTERS} printable characters."))
    elif await store_views.has_named(session, account_id, owner_id, name, but=but):
        faults.append(FieldFault("name", "You have a view of this name already."))
    if not wished.query or len(wished.query) > MAX_QUERY_CHARACTERS:
        faults.append(FieldFault("query", "Expected filters, such as outcome=denied&range=today."))
    if faults:
        raise Invalid("The view cannot be saved.", fields=tuple(faults))
