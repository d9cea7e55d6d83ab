"""Addresses that people and phones are given: made of the configuration, else of how this request came in."""

import ipaddress

from aiohttp import web
from yarl import URL

from admin.context import CONFIG
from engine.config import is_this_machine, parse_listen
from engine.sip.uri import bracketed


def provisioning_base(request: web.Request) -> str:
    """Where phones reach their port, without a slash at the end.

    Without a `public_url` it is the address phones' listener has. Where that listens on all, it is the name of the
    pages' own `public_url`; without one, the name this request was made to: right on a LAN, wrong behind a proxy or a
    tunnel, and whatever a client wrote there, as `provisioning_warnings` and `callpoint doctor` tell.
    """
    config = request.app[CONFIG].provisioning
    if config.public_url:
        return config.public_url.rstrip("/")
    listen = parse_listen(config.listen)
    host = listen.host
    if _is_unspecified(host):
        host = URL(request.app[CONFIG].admin.public_url).host or request.url.host or "localhost"
    return f"{'https' if config.tls_cert else 'http'}://{bracketed(host)}:{listen.port}"


def provisioning_warnings(request: web.Request) -> list[str]:
    """Why phones cannot reach the address they are given, and what mends it; nothing: perhaps they can."""
    base = URL(provisioning_base(request))
    host = base.host or ""
    if not is_this_machine(host):
        return [_only_asked_for(host)] if _is_as_asked(request, host) else []
    told = (
        f"No phone reaches {host}, which is this server itself. Set [provisioning] public_url to the address or name "
        "under which phones reach it: a phone that cannot fetch its settings may not be able to dial 911."
    )
    return [told]


def _is_as_asked(request: web.Request, host: str) -> bool:
    """Whether nothing but the request says that this is our name: no configuration, and not the connection either."""
    config = request.app[CONFIG]
    is_open = _is_unspecified(parse_listen(config.provisioning.listen).host)
    if config.provisioning.public_url or config.admin.public_url or not is_open:
        return False
    transport = request.transport
    own = transport.get_extra_info("sockname") if transport is not None else None
    return not own or host != str(own[0]).partition("%")[0]


def _only_asked_for(host: str) -> str:
    return (
        f"{host} is the name this page was opened under, and nothing says that phones reach this server by it. Set "
        "[provisioning] public_url to the address or name under which they do: phones that are given a wrong one fetch "
        "nothing, and may not be able to dial 911."
    )


def _is_unspecified(host: str) -> bool:
    """Whether that is the address of all addresses, `0.0.0.0` or `::`."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def provisioning_url(request: web.Request, token: str) -> str:
    """The URL phones boot against."""
    return f"{provisioning_base(request)}/p/{token}/"
