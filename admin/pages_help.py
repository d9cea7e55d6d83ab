"""The guides: how locations, provisioning and emergency calls work here."""

from aiohttp import web

from admin.render import render
from admin.routes import SIGNED_IN, Handler, Route
from engine.audit.events import Event

GUIDES = ("emergency", "locations", "provisioning", "alerts", "webhooks", "branding")


def _guide(name: str) -> Handler:
    async def get_guide(request: web.Request) -> web.Response:
        return render(request, f"help_{name}.html.j2")

    return get_guide


ROUTES = tuple(Route("GET", f"/help/{name}", _guide(name), SIGNED_IN, Event.HELP_READ) for name in GUIDES)
