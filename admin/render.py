"""Rendering pages: the Jinja environment, its filters, icons, and the address of static files.

`render(request, template, …)` is all a page handler calls. Templates are strict (an undefined name is an error),
autoescape is always on, and nothing in them needs an inline script or style: the content security policy forbids both.
"""

import datetime as dt
import hashlib
import ipaddress
import json
import zoneinfo
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from admin.context import ACCOUNT, BRAND, BROWSER, CLIENT_IP, EDGE, HOME, IS_HTTPS, SCOPES, USER
from admin.fetch_words import reason_words
from admin.guides import Guide, written_guides
from admin.icons import icon
from admin.page_addresses import sentence_of as misread
from admin.phone_names import model_name
from admin.setting_words import label_of
from engine.accounts import operators
from engine.accounts.displays import is_display
from engine.audit.anomalies import device_of
from engine.e911.mail import place_words
from engine.e911.telling import elsewhere_of
from engine.errors import EngineError
from engine.models import Account, Location
from engine.numbers import UNTESTABLE, numbers_of
from engine.own_command import own_command
from engine.places import is_dispatchable, sentence_of_missing

HERE = Path(__file__).parent
STATIC_DIR = HERE / "static"
SIDEBAR = (  # (path, name, icon, scope): the scope decides whether a role sees the link
    ("/", "Home", "house", None),
    ("/locations", "Locations", "map-pin", "locations:read"),
    ("/phones", "Phones", "phone", "phones:read"),
    ("/alerts", "Alerts", "bell-ring", "calls:read"),
    ("/calls", "Emergency calls", "siren", "calls:read"),
    ("/compliance", "E911 report", "clipboard-check", "calls:read"),
    ("/audit", "Audit log", "scroll-text", "audit:read"),
    ("/users", "Users", "users", "users:read"),
    ("/settings", "Settings", "settings", "account:read"),
    ("/help/emergency", "Help", "life-buoy", None),
)
CIVIC_ORDER = ("HNO", "HNS", "PRD", "RD", "STS", "POD")  # the street line, as it is spoken in North America
DONE = {  # what a page says after a redirect; the key travels in the address, the sentence never does
    "account": "Account saved.",
    "address": "Billing address saved.",
    "location-added": "Location added.",
    "numbers-added": "Numbers added.",
    "number-deleted": "Number removed.",
    "confirmed-added": "Confirmed. It holds on this network.",
    "confirmed-deleted": "Removed.",
    "location-saved": "Location saved.",
    "locations-changed": "The locations were changed.",
    "locations-merged": "Merged. Everything of the other location is here now.",
    "location-validated": "The address is marked as validated. Changing it makes it a draft again.",
    "location-undecided": "The validator was asked and did not decide. What it said stands with the address.",
    "location-rejected": "The address is marked as rejected. It is still sent with calls: correct it.",
    "location-deleted": "Location deleted.",
    "recipient-added": "Recipient added. They are mailed at every emergency call and test call.",
    "recipient-waits": "Recipient added. No mail server is set up yet: until one is, messages for them wait.",
    "recipient-removed": "Recipient removed.",
    "pbx-added": "PBX added. It may now send emergency calls.",
    "pbx-saved": "PBX saved.",
    "pbx-no-registrar": "PBX stored: it may send emergency calls. It has no registrar, so its phones register nowhere.",
    "phone-security-saved": "Security of the phones saved. It counts from the next request on.",
    "pbx-deleted": "PBX deleted. Its calls are refused from now on.",
    "trunk-added": "Trunk added. Emergency calls may leave through it.",
    "trunk-saved": "Trunk saved.",
    "trunk-deleted": "Trunk deleted.",
    "group-added": "Trunk group added. Choose it for the account, or for locations on their pages.",
    "group-saved": "Trunk group saved. Calls of who takes it follow from now on.",
    "group-deleted": "Trunk group deleted. Its trunks stay.",
    "phone-added": "Phone added.",
    "phones-resync": "The phones are asked one after another to fetch their files; each page tells what came of it.",
    "phones-location": "The phones were put there. Their configurations change where a time zone or setting does.",
    "phones-placement": "Said. The E911 report goes by it from now on.",
    "phones-setting": "The setting was changed. Phones take it at their next fetch.",
    "phones-delete": "Phones deleted. They get no configuration any more.",
    "phones-added": "Phones added.",
    "imported": "Imported.",
    "phone-released": "Released. The phone gets its files at its next fetch.",
    "phone-saved": "Phone saved.",
    "phone-replaced": "Device replaced. It waits for the first fetch of the new one.",
    "phone-deleted": "Phone deleted. It gets no configuration any more.",
    "line-added": "Line added to the phone.",
    "line-saved": "Line saved.",
    "line-deleted": "Line deleted.",
    "contact-added": "Contact added. Phones show it when they next fetch the phonebook.",
    "contact-saved": "Contact saved. Phones show it when they next fetch the phonebook.",
    "contact-deleted": "Contact deleted. Phones drop it when they next fetch the phonebook.",
    "file-added": "File stored. Name it in the settings of the phones that shall have it.",
    "file-deleted": "File removed. Phones are not served it any more.",
    "settings-saved": "Settings saved. Phones take them at their next fetch.",
    "template-saved": "Template published. Phones take it at their next fetch.",
    "template-reverted": "Done. Phones take it at their next fetch.",
    "resync": "Resync was sent. The phone fetches its files within a minute when it is reachable.",
    "rollout-begun": "Begun. These phones are asked to fetch now.",
    "rollout-published": "Published. The phones it concerns are asked to fetch now, a few a second.",
    "rollout-cancelled": "Taken back. These phones are asked to fetch once more.",
    "generated": "Provisioning token made. Phones can boot against the new URL.",
    "rotated": (
        "Provisioning token rotated. The old URL is dead. If it had leaked, so had the phone admin password and the "
        "phones' SIP passwords: change them too."
    ),
    "pushed": "The new URL is on its way to the phones. The present one works until you cut over.",
    "cut": "Cut over. The old URL is dead.",
    "called-off": "Called off. The new URL is dead; nothing has changed for any phone.",
    "returning": "The phones are brought back to the URL before. Both work until all are back.",
    "password-rotated": "Phone admin password rotated. Phones take it at their next fetch.",
    "invited-many": "Invited, all of them. The list says how far the mails with their links are.",
    "invited": "Invited. The list says how far the mail with the link is.",
    "reset-mailed": "The old password is dead. A link to choose a new one is mailed: their page says how far it is.",
    "user-saved": "User saved.",
    "user-disabled": "Disabled. They are signed out everywhere and cannot sign in until you let them.",
    "user-enabled": "They can sign in again.",
    "user-removed": "User removed. They are signed out and cannot sign in any more.",
    "session-ended": "Session ended. Its next request is refused.",
    "key-revoked": "API key revoked. Requests with it are refused from now on.",
    "resent": "The message is queued again.",
    "display": "This browser is a display now. It shows alerts for 30 days and can do nothing else.",
    "plan-saved": "Plan saved.",
    "sweep-begun": "Begun. A test call is placed from each location, one after another.",
    "sweep-cancelled": "Stopped. A call that was under way ends by itself.",
    "drill-held": "The drill is on. Who is told of it stands below. Nobody outside was called.",
    "acknowledged": "Acknowledged. Every page that shows this call says so, and none rings for it any more.",
    "acknowledged-before": "Somebody had acknowledged this call before; the page says who. Nothing was changed.",
    "signed-out": "You are signed out.",
    "view-saved": "View saved. It stands under Views.",
    "view-deleted": "View deleted. Links with its filters go on working.",
    "alarm-dismissed": "Dismissed. It is told again when it happens again; what it told of stays in the log.",
    "hint-dismissed": "Dismissed. It stays in the log and under the dismissed ones.",
    "password": "Password changed. Other sessions are signed out.",
    "mail-saved": "Mail server saved. It is used within seconds, for mails that wait too. Send a test mail now.",
    "branding-saved": "Saved. Everybody of this account sees it from their next page on.",
    "webhook-saved": "Webhook saved. What waits for it is tried at once.",
    "webhook-deleted": "Webhook removed. Nothing more is sent to it.",
    "escalation-saved": "Saved. It holds from the next call on, and for calls whose steps are still to come.",
    "chat-added": "Recipient added. Send a test message now.",
    "chat-saved": "Recipient saved. What waits for it is tried at once.",
    "chat-deleted": "Recipient removed. Nothing more is sent there.",
    "validator-saved": "Saved. The next question goes there. Test it now.",
    "tested": "Tested. The page says what was answered.",
    "storage-saved": "Saved. What is older is removed within hours.",
    "security-saved": "Security policy saved. It holds from the next sign-in on.",
    "factor-set": "Set up. You are asked for it at your next sign-in.",
    "factor-removed": "Removed.",
    "device-forgotten": "Forgotten. The next sign-in there asks for a code.",
    "sessions-ended": "All other sessions are ended.",
    "two-factor-reset": "Second factor reset. They are signed out; where one is required they set up a new one.",
    "account-entered": "You act for this account now. Everything you do stands in its audit log.",
    "account-left": "You act for no account any more.",
}


def render(
    request: web.Request, template: str, *, status: int = 200, error: EngineError | None = None, **values: Any
) -> web.Response:
    """Render a page for this request. `admin.middleware.secure_headers` adds what keeps it out of caches and frames.

    Args:
        error: Why a form is shown once more: the answer has its status.
    """
    status = error.http_status if error else status
    account = request.get(ACCOUNT)
    scopes = request.get(SCOPES, frozenset[str]())
    text = (
        environment()
        .get_template(template)
        .render(
            account=account,
            brand=account or request.get(BRAND),
            user=request.get(USER),
            path=request.path,
            query=request.query,
            can=lambda scope: scope is None or scope in scopes or "*" in scopes,
            sidebar=_sidebar(request),
            is_operator=HOME in request and operators.is_operators(request[HOME]),
            acts_for_another=HOME in request and request[HOME] is not account,
            done=DONE.get(request.query.get("done", "")),
            misread=misread(request) if status < 400 else "",
            plain_http=_is_readable_on_its_way(request),
            edge_is_up=_edge_is_up(request),
            zone=zone_of(account),
            has_test_number=account is None or has_test_number(account.country),
            emergency_number=numbers_of(account.country if account is not None else "").primary,
            **values,
        )
    )
    return web.Response(text=text, status=status, content_type="text/html")


def _sidebar(request: web.Request) -> tuple[tuple[str, str, str, str | None], ...]:
    """The links of the sidebar; of a display those that it reaches."""
    if not is_display(request.get(BROWSER)):
        return SIDEBAR
    return tuple(link for link in SIDEBAR if link[0] in {"/alerts", "/calls"})


def _is_readable_on_its_way(request: web.Request) -> bool:
    """Whether the page crosses a network in clear: plain HTTP from anywhere but this machine itself."""
    try:
        is_local = ipaddress.ip_address(request.get(CLIENT_IP, "")).is_loopback
    except ValueError:
        is_local = False
    return not request.get(IS_HTTPS, False) and not is_local


def _edge_is_up(request: web.Request) -> bool:
    edge = request.app.get(EDGE)
    return edge is None or edge.state().is_up


def zone_of(account: Account | None) -> zoneinfo.ZoneInfo:
    """The zone times are shown in; UTC when the account's zone is not known to this machine."""
    try:
        return zoneinfo.ZoneInfo(account.timezone if account else "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return zoneinfo.ZoneInfo("UTC")


def _guides() -> list[Guide]:
    return list(written_guides().values())


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The one Jinja environment, built at first use."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"icon": icon, "static": static_url, "time": time_tag, "model_name": model_name, "guides": _guides}
    made.globals |= {"command": own_command, "browser": browser_name}
    made.tests["addressed"] = has_address
    made.tests["testable"] = is_testable
    made.filters["missing_of_address"] = missing_of
    made.filters["fetch_reason"] = reason_words
    made.filters["setting_label"] = label_of
    made.filters |= {
        "mac": mac_text,
        "chassis": chassis_text,
        "civic": civic_lines,
        "elsewhere": elsewhere_of,
        "place_words": place_words,
        "words": words,
        "sentence": sentence,
        "bytes": bytes_text,
        "pretty": pretty,
        "text_only": text_only,
        "ago": ago,
        "plural": plural,
        "pairs": lambda rows: [(row.id, row.name) for row in rows],
    }
    return made


@lru_cache(maxsize=1)
def static_version() -> str:
    """A name for the present content of all static files; it is in their addresses, so caches keep them for ever."""
    digest = hashlib.sha256()
    for file in sorted(STATIC_DIR.rglob("*")):
        if file.is_file():
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def static_url(name: str) -> str:
    return f"/static/{static_version()}/{name}"


@lru_cache(maxsize=256)
def browser_name(user_agent: str | None) -> Markup:
    """Browser and system in a few words, the whole User-Agent behind them."""
    if not user_agent:
        return Markup("no User-Agent")
    return Markup('<span title="{}">{}</span>').format(user_agent, device_of(user_agent))


def time_tag(
    at: dt.datetime | None, zone: zoneinfo.ZoneInfo, form: str = "full", missing: str = "never"
) -> Markup | str:
    """`<time>` in that zone, the UTC instant for machines and on hover.

    Args:
        form: full | row (the zone only in an hour that the clock there shows twice) | clock | day.
    """
    if at is None:
        return missing
    local = at.astimezone(zone)
    clock = f"{local:%H:%M:%S}" if form != "clock" else f"{local:%H:%M:%S}.{local.microsecond // 1000:03d}"
    is_twice = local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset()  # or never, which no instant is
    forms = {
        "full": f"{local:%Y-%m-%d} {clock} {local.tzname()}",
        "row": f"{local:%Y-%m-%d} {clock}{f' {local.tzname()}' if is_twice else ''}",
        "clock": clock,
        "day": f"{local:%Y-%m-%d}",
    }
    utc = f"{at.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    return Markup('<time datetime="{0}" title="{0} (UTC)">{1}</time>').format(utc, forms[form])


def ago(at: dt.datetime | None, now: dt.datetime) -> str:
    """How long ago in one unit, such as `4 min ago`; `never` for None."""
    if at is None:
        return "never"
    seconds = max(0, int((now - at).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def mac_text(mac: str) -> str:
    """`0015654aa937` as people read it on the phone's label: `00:15:65:4A:A9:37`."""
    return ":".join(mac[at : at + 2] for at in range(0, len(mac), 2)).upper()


def chassis_text(name: str) -> str:
    """A MAC as people read it; any other name of a switch or network as it is."""
    return mac_text(name) if len(name) == 12 and all(char in "0123456789abcdef" for char in name) else name


def civic_lines(address: Mapping[str, Any] | None) -> list[str]:
    """A civic address (RFC 5139 element names) as the lines of an envelope; empty when there is none."""
    if not address:
        return []
    part = {name: str(value).strip() for name, value in address.items() if str(value).strip()}
    street = " ".join(part[name] for name in CIVIC_ORDER if name in part)
    inside = [
        f"{word} {part[name]}"
        for name, word in (("BLD", "Building"), ("FLR", "Floor"), ("UNIT", "Unit"), ("ROOM", "Room"), ("SEAT", "Seat"))
        if name in part
    ]
    inside += [part["LOC"]] if "LOC" in part else []
    town = " ".join([part.get("A3", "")] + ([f", {part['A1']}"] if "A1" in part else []) + [part.get("PC", "")])
    town = " ".join(town.replace(" ,", ",").split()).strip(", ")
    lines = [part.get("NAM", ""), street, ", ".join(inside), town, part.get("country", "")]
    return [line for line in lines if line]


def has_test_number(country: str) -> bool:
    """Whether a number is set aside for test calls there: 933, in North America alone."""
    return country.upper() not in UNTESTABLE


def is_testable(location: Location, account: Account) -> bool:
    """Whether a test call can be dialed there: by the address's country, or the account's where it names none."""
    return has_test_number(str(location.civic_address.get("country") or "") or account.country)


def has_address(location: Location) -> bool:
    """Whether a dispatcher could send anybody there: a place within its town is known, or a position."""
    return is_dispatchable(location.civic_address, location.geo)


def missing_of(location: Location) -> str:
    """What of the address is missing, in a sentence; empty: nothing."""
    return sentence_of_missing(location.civic_address, location.geo)


def words(name: object) -> str:
    """A stored name as words: `never_booted` → `Never booted`."""
    text = str(name).replace("api_key", "API key").replace("_", " ").replace(":", ": ")
    return text[:1].upper() + text[1:]


def sentence(text: object) -> str:
    """A clause as a sentence of its own: `line 101 has no location` → `Line 101 has no location.`"""
    clause = str(text or "").strip().rstrip(".")
    if not clause:
        return ""
    begins_with_word = clause.partition(" ")[0].rstrip(",;:").isalpha()  # an address or identifier stays as it is
    return f"{clause[:1].upper() + clause[1:] if begins_with_word else clause}."


def plural(count: int, noun: str, many: str | None = None) -> str:
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def bytes_text(size: int) -> str:
    return f"{size:,} B" if size < 10_000 else f"{size / 1000:,.1f} kB"


def pretty(value: object) -> str:
    """A value as indented JSON, for people; a plain text stays a plain text."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


def text_only(text: str) -> Markup:
    """A text as element content, never as an attribute: quotes stay, which halves the size of JSON."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(escaped)  # noqa: S704  # escaped in the line above
