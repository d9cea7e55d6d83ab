"""What every request passes before and after its handler: identity of the request, errors, security headers, metrics.

The order, outermost first: `identify` → `measure` → `render_errors` → `one_transaction` (its own module) → the
handler. Security headers are put on when the answer is made ready to send, so nothing leaves without them.
"""

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter, Histogram

from admin import problems
from admin.client import client_ip, is_trusted
from admin.context import ACTOR, CLIENT_IP, CONFIG, IS_HTTPS, REQUEST_ID, SCOPES
from admin.problems import route_template
from engine.audit.record import Actor
from engine.ids import new_id

MAX_USER_AGENT_CHARACTERS = 400
_log = structlog.get_logger()


@web.middleware
async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its name, its real client address and, until somebody is known, an anonymous actor."""
    config = request.app[CONFIG].admin
    peer = request.transport.get_extra_info("peername") if request.transport else None
    peer_ip = peer[0] if isinstance(peer, tuple) else None
    request[REQUEST_ID] = new_id("request")
    request[CLIENT_IP] = client_ip(peer_ip, request.headers.getall(hdrs.X_FORWARDED_FOR, []), config.trusted_proxies)
    said_https = request.headers.get(hdrs.X_FORWARDED_PROTO, "").strip().lower() == "https"
    request[IS_HTTPS] = (
        request.secure
        or config.public_url.startswith("https:")
        or (said_https and peer_ip is not None and is_trusted(peer_ip, config.trusted_proxies))
    )
    request[SCOPES] = frozenset()
    request[ACTOR] = Actor(
        "anonymous",
        "anonymous",
        "not signed in",
        request[CLIENT_IP],
        user_agent=_plain(request.headers.get(hdrs.USER_AGENT, "")),
        request_id=request[REQUEST_ID],
        method=request.method,
        route=route_template(request),
    )
    with structlog.contextvars.bound_contextvars(request_id=request[REQUEST_ID]):
        return await handler(request)


def _plain(text: str) -> str:
    """A header as it may be stored: what is no text (RFC 9110 obs-text, NUL) is replaced."""
    printable = "".join(char if char.isprintable() else "\ufffd" for char in text[:MAX_USER_AGENT_CHARACTERS])
    return printable.encode("utf-8", "replace").decode()


@web.middleware
async def render_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into an answer: problem+json for the API, a page for people."""
    try:
        return await handler(request)
    except web.HTTPException as exc:
        if exc.status < 400:
            raise
        return await problems.answer(request, exc)
    except Exception as exc:  # noqa: BLE001  # the one place where a bug becomes a 500; it is logged with the request's name
        return await problems.answer(request, exc)


def measure(registry: CollectorRegistry) -> Middleware:
    """A middleware that counts requests by route template and status, and their time."""
    requests = Counter(
        "callpoint_admin_requests", "Requests to the admin port.", ["method", "route", "status"], registry=registry
    )
    seconds = Histogram("callpoint_admin_request_seconds", "Time to answer.", ["route"], registry=registry)

    @web.middleware
    async def measured(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = route_template(request)
        with seconds.labels(route).time():
            response = await handler(request)
        requests.labels(request.method, route, str(response.status)).inc()
        return response

    return measured


async def secure_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Headers on everything that leaves: nothing from another origin, no frames, no sniffing, no referrer elsewhere."""
    headers = response.headers
    if problems.is_api(request):
        policy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"
    else:
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; "
            "img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; "
            "frame-ancestors 'none'; base-uri 'none'"
        )
    headers.setdefault("Content-Security-Policy", policy)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("X-Frame-Options", "DENY")
    # same-origin for pages, not no-referrer: with that a browser sends `Origin: null` with a form, and on plain HTTP,
    # where it sends no Sec-Fetch-Site either, our own forms could not be told from another site's (Fetch §3.2.5)
    headers.setdefault("Referrer-Policy", "no-referrer" if problems.is_api(request) else "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
    if request.path.startswith("/static/") and response.status == 200:
        headers.setdefault(hdrs.CACHE_CONTROL, "public, max-age=31536000, immutable")
    else:
        headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    if request.get(IS_HTTPS, False):
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if REQUEST_ID in request:
        headers.setdefault("X-Request-Id", request[REQUEST_ID])
    headers.pop(hdrs.SERVER, None)
