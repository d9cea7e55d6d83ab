"""Text like a pattern, whatever letters it is made of, on either database.

SQLite's LIKE and lower() fold ASCII alone (https://sqlite.org/lang_expr.html#like), its trigram index folds every
letter, and so does PostgreSQL's ILIKE. Without this, the index would find what the look at the entry itself drops.
"""

from typing import Any

from sqlalchemy import Boolean
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class FoldedLike(FunctionElement[bool]):
    """`FoldedLike(text, pattern, escape)`, the pattern in small letters."""

    type = Boolean()
    inherit_cache = True


@compiles(FoldedLike)
def _like(element: FoldedLike, compiler: SQLCompiler, **options: Any) -> str:
    text, pattern, escape = (compiler.process(part, **options) for part in element.clauses)
    if compiler.dialect.name == "sqlite":
        return f"folded({text}) LIKE {pattern} ESCAPE {escape}"  # a function of ours: see `engine.db`
    return f"{text} ILIKE {pattern} ESCAPE {escape}"
