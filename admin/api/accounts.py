"""`/api/v1/accounts`: which accounts the caller may name in `Callpoint-Account`: their own, or, for operators, all."""

from aiohttp import web

from admin.api.models import Answer, Instant
from admin.api.paging import PAGE_QUERIES, page, page_asked
from admin.context import HOME, SESSION
from admin.routes import Operation, Route
from engine.accounts import operators, store
from engine.accounts.scopes import Scope
from engine.audit.events import Event


class AccountNamed(Answer):
    """An account by name; what else it holds is asked for in its name."""

    id: str
    name: str
    created_at: Instant


async def list_accounts(request: web.Request) -> web.Response:
    asked = page_asked(request)
    home = request[HOME]
    only = None if operators.is_operators(home) else home.id
    rows = await store.accounts_after(request[SESSION], only=only, after=asked.after, limit=asked.limit + 1)
    kept = rows[: asked.limit]
    following = kept[-1].id if len(rows) > asked.limit else None
    return page(request, [AccountNamed.model_validate(row) for row in kept], following)


ROUTES = (
    Route(
        "GET", "/api/v1/accounts", list_accounts, Scope.ACCOUNT_READ, Event.ACCOUNT_LIST,
        operation=Operation(
            "List the accounts you may act for", answer=AccountNamed, is_list=True, queries=PAGE_QUERIES
        ),
    ),
)  # fmt: skip
