"""`/api/v1/openapi.json`: the API in its own words."""

from functools import cache
from importlib.metadata import version
from typing import Any

from aiohttp import web

from admin.api import json_answered, no_query
from admin.openapi import document
from admin.routes import PUBLIC, Operation, Route, all_routes
from engine.audit.events import Event


@cache
def openapi() -> dict[str, Any]:
    """The document, made once: routes do not change while the process runs."""
    return document(all_routes(), version("callpoint"))


async def get_openapi(request: web.Request) -> web.Response:
    no_query(request)
    return json_answered(openapi())


ROUTES = (
    Route(
        "GET", "/api/v1/openapi.json", get_openapi, PUBLIC, Event.OPENAPI_READ,
        operation=Operation("This document (OpenAPI 3.1)"),
    ),
)  # fmt: skip
