"""The guides: short ones of how each part works here, and the written ones of `docs/` in full."""

from aiohttp import web

from admin.guides import written_guides
from admin.render import render
from admin.routes import SIGNED_IN, Handler, Route
from engine.audit.events import Event
from engine.errors import NotFound

GUIDES: dict[str, tuple[str, ...]] = {  # each short guide, and the written ones that say the same in full
    "emergency": ("alerts", "held", "e911-report"),
    "locations": ("locations", "tables"),
    "provisioning": (
        "phones", "bootstrap", "phone-settings", "phonebook-and-files", "rollouts", "rotating", "phone-security",
        "tables",
    ),
    "alerts": ("alerts",),
    "users": ("users",),
    "audit": ("audit-log", "verify-audit", "storage", "audit-events"),
    "webhooks": (),
    "branding": (),
    "guides": (),
}  # fmt: skip


def _guide(name: str) -> Handler:
    async def get_guide(request: web.Request) -> web.Response:
        known = written_guides()
        in_full = [known[each] for each in GUIDES[name] if each in known]
        return render(request, f"help_{name}.html.j2", in_full=in_full)

    return get_guide


async def get_written(request: web.Request) -> web.Response:
    guide = written_guides().get(request.match_info["guide"])
    if guide is None:
        raise NotFound("There is no guide of that name. Help lists them all.")
    return render(request, "guide.html.j2", guide=guide, in_full=())


ROUTES = (
    *(Route("GET", f"/help/{name}", _guide(name), SIGNED_IN, Event.HELP_READ) for name in GUIDES),
    Route("GET", "/help/guides/{guide}", get_written, SIGNED_IN, Event.HELP_READ),
)
