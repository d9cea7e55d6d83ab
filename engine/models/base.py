"""What the tables share: short names of column types, and the mixins that say what becomes of a change."""

import datetime as dt
from typing import Any, ClassVar

from sqlalchemy import JSON, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from engine.db import UtcDateTime

Id = String(48)
Json = JSON(none_as_null=True)


def only_where(condition: str) -> dict[str, Any]:
    """The condition of a partial index, for each database."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class Audited:
    """Mixin: a change needs an audit entry in the same commit. `resource_type` is the identifier's own prefix."""

    resource_type: ClassVar[str]
    unaudited_columns: ClassVar[frozenset[str]] = frozenset()  # moved by machines, never by an administrator


class Versioned:
    """Mixin: a change bumps the account's revision, so snapshots and renderings are made anew."""

    unversioned_columns: ClassVar[frozenset[str]] = frozenset()


class Stamped:
    """Mixin: `version` counts changes and is the ETag; the two times are UTC."""

    version: Mapped[int] = mapped_column(Integer, default=1)
    created_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[dt.datetime] = mapped_column(UtcDateTime)
