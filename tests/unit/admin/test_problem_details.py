"""Whatever is wrong with a request, each operation of the API says so in the same shape (RFC 9457) and in sentences."""

import io
import re
from typing import Any

import pytest
from aiohttp import ClientResponse

from admin.routes import Route
from tests.unit.admin.adminport import AdminPort
from tests.unit.admin.furnished import API_ROUTES

pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(300)]
MEMBERS = {"type", "title", "status", "detail", "code", "instance", "errors"}
PUBLIC_PATHS = {"/api/v1/openapi.json"}
TAKES_JSON = [
    route
    for route in API_ROUTES
    if route.operation is not None and route.operation.body is not None and not route.operation.body_media
]


def _address(route: Route) -> str:
    return re.sub(r"{[^}]+}", "nothing_known", route.path)


async def _faults(answer: ClientResponse) -> list[str]:
    """What is wrong with a refusal; nothing, when it is whole."""
    if answer.content_type != "application/problem+json":
        return [f"is {answer.content_type}"]
    said: dict[str, Any] = await answer.json(content_type=None)
    sentences = [said.get("detail"), *(error.get("detail") for error in said.get("errors", []))]
    return [
        *([f"has {sorted(said)}"] if not said.keys() >= MEMBERS else []),
        *([f"says {said.get('status')}"] if said.get("status") != answer.status else []),
        *([f"is of type {said.get('type')}"] if not str(said.get("type")).startswith("urn:callpoint:problem:") else []),
        *([f"has no title: {said}"] if not said.get("title") else []),
        *(f"is no sentence: {one!r}" for one in sentences if not one or not one.rstrip().endswith((".", "?", "…"))),
    ]


async def test_every_operation_refuses_in_one_shape(port: AdminPort):
    """AD-API: bad JSON, another type, a list for an object, too much, nobody, an unknown id, method or query."""
    site = await port.site()
    headers = site.auth | {"If-Match": "*"}
    json_headers = headers | {"Content-Type": "application/json"}
    wrong: list[str] = []
    refused = 0

    async def ask(route: Route, what: str, method: str, path: str, *, must: tuple[int, ...], **sent: Any) -> None:
        nonlocal refused
        answer = await port.call(method, path, sent.pop("headers", headers), **sent)
        where = f"{route.method} {route.path}, {what}: {answer.status}"
        if must and answer.status not in must:
            wrong.append(f"{where} is none of {must}")
        if answer.status >= 400:
            refused += 1
            wrong.extend(f"{where} {fault}" for fault in await _faults(answer))

    for route in API_ROUTES:
        path = _address(route)
        if path not in PUBLIC_PATHS:
            await ask(route, "nobody", route.method, path, must=(401,), headers={})
        await ask(route, "method", "PROPFIND", path, must=(405,))
        if route.method == "GET" and "{" in route.path:
            await ask(route, "unknown id", "GET", path, must=(404,), headers=headers | {"Accept": "text/html"})
        elif route.method == "GET" and route.operation is not None and route.operation.is_list:
            await ask(route, "cursor", "GET", f"{path}?cursor=nonsense&limit=none", must=(400, 422))
    for route in TAKES_JSON:
        path = _address(route)
        for what, data, must in (
            ("bad JSON", b'{"name": ', (400, 404)),
            ("no text", b"\xff\xfe\x00", (400, 404)),
            ("a list", b"[1, 2]", (400, 404, 422)),
            ("too much", io.BytesIO(b" " * (route.max_body_bytes + 1)), (413,)),
        ):
            await ask(route, what, route.method, path, must=must, data=data, headers=json_headers)
        plain = headers | {"Content-Type": "text/plain"}
        await ask(route, "another type", route.method, path, must=(415, 404), data=b"{}", headers=plain)
        parts = headers | {"Content-Type": "multipart/form-data"}  # in which no boundary is said
        await ask(route, "no boundary", route.method, path, must=(400, 415, 404), data=b"{}", headers=parts)
    assert not wrong, "\n".join(wrong)
    assert refused > 4 * len(TAKES_JSON) + len(API_ROUTES)
    await ask(API_ROUTES[0], "no such operation", "GET", "/api/v1/coffee", must=(404,))
    assert not wrong
