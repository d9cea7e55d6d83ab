"""Whole values in place of a typed beginning: what an index of whole values can be asked for.

Theory of operation. `person17@` was typed, and 50,000 of ten million entries begin so: too many to read them all, too
few to meet them among the newest. But all of them hold one name. So the values that begin so are looked up, a seek in
an index for each; where they are few, they take the place of the beginning (decision 0024).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

if TYPE_CHECKING:
    from engine.audit.store import Filters

MOST = 20
LAST = "\U0010ffff"  # behind everything that begins with what stands before it
_QUERY = (
    "WITH RECURSIVE found (value, number) AS ("
    "SELECT min({column}), 1 FROM audit_entry WHERE chain = :chain AND {column} >= :first AND {column} < :last "
    "UNION ALL SELECT (SELECT min({column}) FROM audit_entry "
    "WHERE chain = :chain AND {column} > found.value AND {column} < :last), found.number + 1 "
    "FROM found WHERE found.value IS NOT NULL AND found.number <= :most) "
    "SELECT value FROM found WHERE value IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class Values:
    """The values behind a filter's beginnings. None: nothing was typed, or more than MOST begin so."""

    actor_ids: tuple[str, ...] | None = None
    actor_names: tuple[str, ...] | None = None
    resources: tuple[str, ...] | None = None

    @property
    def is_actor_known(self) -> bool:
        return self.actor_ids is not None and self.actor_names is not None

    @property
    def find_nothing(self) -> bool:
        """Whether no entry at all begins so."""
        return self.resources == () or (self.actor_ids == () and self.actor_names == ())


def spelled(prefix: str) -> list[str]:
    """As typed and in small letters."""
    return sorted({prefix, prefix.lower()})


async def values_of(session: AsyncSession, chain: str, filters: "Filters") -> Values:
    """Look up what the filters on actor and resource can mean in that chain."""
    ids = names = resources = None
    if filters.actor:
        ids = await _beginning(session, chain, "actor_id", filters.actor)
        if ids is not None and filters.named:
            ids = tuple(sorted({*ids, *filters.named})) if len(filters.named) <= MOST else None
        names = None if ids is None else await _beginning(session, chain, "actor_name", filters.actor)
    if filters.resource:
        resources = await _beginning(session, chain, "resource_id", filters.resource)
    return Values(ids, names, resources)


async def _beginning(session: AsyncSession, chain: str, column: str, prefix: str) -> tuple[str, ...] | None:
    found: set[str] = set()
    for first in spelled(prefix):
        asked = {"chain": chain, "first": first, "last": first + LAST, "most": MOST}
        rows = list(await session.scalars(text(_QUERY.format(column=column)), asked))
        if len(rows) > MOST:
            return None
        found.update(value for value in rows if value.startswith(first))
    return tuple(sorted(found)) if len(found) <= MOST else None
