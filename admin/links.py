"""Addresses that people and phones are given: made of the configuration, else of how this request came in."""

from aiohttp import web

from admin.context import CONFIG
from engine.config import parse_listen
from engine.sip.uri import bracketed


def provisioning_base(request: web.Request) -> str:
    """Where phones reach their port, without a slash at the end.

    Without a `public_url` it is the name this request was made to, with the port that phones' listener has: right on a
    LAN, wrong behind a proxy, which is why `callpoint doctor` asks for one.
    """
    config = request.app[CONFIG].provisioning
    if config.public_url:
        return config.public_url.rstrip("/")
    host = request.url.host or "localhost"
    host = bracketed(host)
    return f"{'https' if config.tls_cert else 'http'}://{host}:{parse_listen(config.listen).port}"


def provisioning_url(request: web.Request, token: str) -> str:
    """The URL phones boot against."""
    return f"{provisioning_base(request)}/p/{token}/"
