"""How phones find Callpoint: its URL for DHCP servers, phones' own menus and the vendors' redirect services."""

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, CONFIG, SESSION
from admin.links import provisioning_url, provisioning_warnings
from admin.render import render
from admin.routes import Route
from engine.accounts.scopes import Scope
from engine.audit.events import Event
from engine.config import parse_listen
from engine.errors import Invalid
from engine.provisioning import bootstrap, dhcp, phones, vendors
from engine.provisioning.policy import Policy


async def get_boot(request: web.Request) -> web.Response:
    """The page holds the token, so it asks for the password and is recorded as the card is."""
    account, config = request[ACCOUNT], request.app[CONFIG]
    if account.provisioning_token_index is None:
        return render(request, "boot.html.j2", url=None)
    token = await phones.reveal_token_to_hand_out(request[SESSION], request[ACTOR], account)
    url, profiles = provisioning_url(request, token), vendors.known().profiles.values()
    try:
        snippets = [
            (server, title, *next(iter(dhcp.snippet(server, url, profiles, tftp=_tftp(request)).items())))
            for server, (_file, _template, title) in dhcp.SERVERS.items()
        ]
        menus, fault = bootstrap.menus(url, profiles), ""
    except Invalid as exc:
        snippets, menus, fault = [], (), exc.detail
    return render(
        request,
        "boot.html.j2",
        url=url,
        is_next=account.next_provisioning_token is not None,
        url_warnings=provisioning_warnings(request),
        snippets=snippets,
        menus=menus,
        fault=fault,
        bootstrap=config.bootstrap,
        has_ranges=bool(Policy.of(account.provisioning_policy).sources),
    )


def _tftp(request: web.Request) -> str:
    """The bootstrap's own IPv4 address for option 150; none where it listens on all of them."""
    at = request.app[CONFIG].bootstrap.tftp
    host = parse_listen(at).host if at else ""
    return "" if not host or ":" in host or host == "0.0.0.0" else host  # noqa: S104 - reads, binds nothing


ROUTES = (
    Route(
        "GET", "/settings/provisioning/boot", get_boot, Scope.PROVISIONING_REVEAL, Event.PROVISIONING_TOKEN_REVEAL,
        step_up=True,
    ),
)  # fmt: skip
