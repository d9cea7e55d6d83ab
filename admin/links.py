"""Addresses that people and phones are given: made of the configuration, else of how this request came in."""

import ipaddress

from aiohttp import web
from yarl import URL

from admin.context import CONFIG
from engine.config import parse_listen
from engine.sip.uri import bracketed


def provisioning_base(request: web.Request) -> str:
    """Where phones reach their port, without a slash at the end.

    Without a `public_url` it is the address phones' listener has; where that listens on all, the name this request was
    made to: right on a LAN, wrong behind a proxy or a tunnel, as `provisioning_warnings` and `callpoint doctor` tell.
    """
    config = request.app[CONFIG].provisioning
    if config.public_url:
        return config.public_url.rstrip("/")
    listen = parse_listen(config.listen)
    host = (request.url.host or "localhost") if _address_of(listen.host, "is_unspecified") else listen.host
    return f"{'https' if config.tls_cert else 'http'}://{bracketed(host)}:{listen.port}"


def provisioning_warnings(request: web.Request) -> list[str]:
    """Why phones cannot reach the address they are given, and what mends it; nothing: perhaps they can."""
    base = URL(provisioning_base(request))
    host = base.host or ""
    if host != "localhost" and not _address_of(host, "is_loopback"):
        return []
    told = (
        f"No phone reaches {host}, which is this server itself. Set [provisioning] public_url to the address or name "
        "under which phones reach it: a phone that cannot fetch its settings may not be able to dial 911."
    )
    return [told]


def _address_of(host: str, kind: str) -> bool:
    """Whether that is an IP address of the kind, such as `is_loopback`."""
    try:
        return bool(getattr(ipaddress.ip_address(host), kind))
    except ValueError:
        return False


def provisioning_url(request: web.Request, token: str) -> str:
    """The URL phones boot against."""
    return f"{provisioning_base(request)}/p/{token}/"
