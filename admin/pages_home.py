"""Home: the first steps, each done when it has really happened, and how things stand."""

from dataclasses import dataclass

from aiohttp import web

from admin.context import ACCOUNT, EDGE, SESSION
from admin.render import has_address, plural, render
from admin.routes import SIGNED_IN, Route
from engine.accounts import store as accounts
from engine.audit.events import Event
from engine.e911 import store as e911
from engine.models import Account, CallKind, EmergencyCall, Location, Pbx, Trunk
from engine.provisioning import store as provisioning
from engine.provisioning import store_alarms
from engine.provisioning.alarms import Alarm, summed
from engine.provisioning.store import PhoneCounts

LATEST = 5
TESTS_LOOKED_AT = 200  # calls in which a 933 is looked for


@dataclass(frozen=True, slots=True)
class Step:
    """One first step: what it is, whether it has happened, where it is done."""

    name: str
    title: str
    text: str
    is_done: bool
    address: str
    action: str
    is_next: bool = False


@dataclass(frozen=True, slots=True)
class Tile:
    name: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Standing:
    """All that Home speaks of, read once."""

    account: Account
    locations: list[Location]
    told: int  # how many addresses are mailed at every call; a location's own come beside them
    phones: PhoneCounts
    pbxs: list[Pbx]
    trunks: list[Trunk]
    calls: list[EmergencyCall]
    waiting_mails: int
    alarms: tuple[Alarm, ...]  # one for each kind, however many phones it stands for


async def get_home(request: web.Request) -> web.Response:
    standing = await _standing(request)
    return render(
        request,
        "home.html.j2",
        steps=first_steps(standing),
        tiles=_tiles(request, standing),
        alarms=standing.alarms,
        calls=standing.calls[:LATEST],
    )


async def _standing(request: web.Request) -> Standing:
    session, account = request[SESSION], request[ACCOUNT]
    locations = await e911.locations_of(session, account.id)
    recipients = await e911.recipients_of(session, account.id)
    return Standing(
        account=account,
        locations=locations,
        told=len(recipients),
        phones=await provisioning.count_phones(session, account.id),
        pbxs=list(await accounts.pbxs_of(session, account.id)),
        trunks=list(await accounts.trunks_of(session, account.id)),
        calls=(await e911.calls_of(session, account.id, limit=TESTS_LOOKED_AT)).rows,
        waiting_mails=await e911.waiting_count(session, account.id),
        alarms=summed(await store_alarms.alarm_counts(session, account.id)),
    )


def first_steps(standing: Standing) -> list[Step]:
    """The five steps; the first one that is open is marked as the next."""
    steps = [
        _location_step(standing.locations),
        _told_step(standing.told),
        _phone_step(standing),
        _test_step(standing),
        _live_step(standing),
    ]
    following = next((step for step in steps if not step.is_done), None)
    return [
        Step(step.name, step.title, step.text, step.is_done, step.address, step.action, is_next=step is following)
        for step in steps
    ]


def _location_step(locations: list[Location]) -> Step:
    usable = [location for location in locations if has_address(location)]
    text = (
        f"{plural(len(usable), 'location')} with an address. A 911 call carries the one that fits its caller."
        if usable
        else "The address, floor and room that a 911 call carries to the dispatcher."
    )
    address = "/locations" if usable else "/locations/new"
    action = "See locations" if usable else "Add location"
    return Step("location", "Add your first location", text, bool(usable), address, action)


def _told_step(told: int) -> Step:
    text = (
        f"{plural(told, 'address', 'addresses')} mailed at every 911 and 933 call."
        if told
        else "Who is mailed the moment somebody dials 911 here. The law asks for it."
    )
    return Step(
        "told", "Say who is told", text, told > 0, "/settings#recipients", "Recipients" if told else "Add recipient"
    )


def _phone_step(standing: Standing) -> Step:
    title, phones = "Provision the first phone", standing.phones
    if phones.booted:
        text = f"{plural(phones.booted, 'phone')} fetched a configuration here."
        return Step("phone", title, text, is_done=True, address="/phones", action="See phones")
    if phones.first_id is not None:
        text = "Waiting for its first fetch: point it at the provisioning URL and restart it."
        address = f"/phones/{phones.first_id}"
        return Step("phone", title, text, is_done=False, address=address, action="Watch it boot")
    if standing.account.provisioning_token_index is None:
        text = "Generate the secret URL phones boot against, then add a phone by its MAC address."
        return Step("phone", title, text, is_done=False, address="/settings#provisioning", action="Generate URL")
    text = "The provisioning URL is there. Add a phone by the MAC address on its label."
    return Step("phone", title, text, is_done=False, address="/phones/new", action="Add phone")


def _test_step(standing: Standing) -> Step:
    title = "Dial 933"
    tests = [call for call in standing.calls if call.kind == CallKind.TEST]
    passed = next((call for call in tests if call.outcome == "answered"), None)
    if passed is not None:
        text = "A test call went out with its location and was answered."
        return Step("test", title, text, is_done=True, address=f"/calls/{passed.id}", action="See the call")
    if tests:
        text = "A test call came, but no carrier answered it. Its page says why."
        return Step("test", title, text, is_done=False, address=f"/calls/{tests[0].id}", action="See the call")
    if not standing.pbxs or not standing.trunks:
        missing = "your PBX" if not standing.pbxs else "your carrier's trunk"
        address = "/settings/pbxs/new" if not standing.pbxs else "/settings/trunks/new"
        text = f"The whole way of a 911 call, without a dispatcher at its end. It takes {missing} first."
        action = "Add PBX" if not standing.pbxs else "Add trunk"
        return Step("test", title, text, is_done=False, address=address, action=action)
    text = "The whole way of a 911 call, without a dispatcher at its end. Dial it from any phone."
    return Step("test", title, text, is_done=False, address="/help/emergency", action="How to")


def _live_step(standing: Standing) -> Step:
    enabled = [trunk for trunk in standing.trunks if trunk.enabled]
    answering = [trunk for trunk in enabled if trunk.is_up]
    is_done = bool(standing.pbxs and answering)
    if is_done:
        text = f"{plural(len(standing.pbxs), 'PBX', 'PBXs')} may call, {plural(len(answering), 'trunk')} answering."
    elif enabled and standing.pbxs:
        text = "No trunk answers yet: emergency calls would fail. Check its host, port and firewall."
    else:
        text = "A PBX that may send emergency calls, and a carrier's trunk that answers."
    return Step("live", "Go live", text, is_done, "/settings#trunks", "See trunks" if enabled else "PBX and trunks")


def _tiles(request: web.Request, standing: Standing) -> list[Tile]:
    state = request.app[EDGE].state()
    phones = standing.phones
    up = sum(bool(trunk.is_up) for trunk in standing.trunks if trunk.enabled)
    listens = ", ".join(
        f"{name} {address}" for name, address in (("UDP", state.udp), ("TCP", state.tcp), ("TLS", state.tls)) if address
    )
    return [
        Tile("SIP", "Answering" if state.is_up else "Not answering", listens or "Nowhere yet"),
        Tile("Trunks", *_trunks_in_words(up, len(standing.trunks))),
        Tile(
            "Phones",
            str(phones.phones),
            f"{phones.stale} with an old configuration" if phones.stale else "None out of date",
        ),
        Tile(
            "Messages waiting",
            str(standing.waiting_mails),
            "Nothing is lost while they wait" if standing.waiting_mails else "None is overdue",
        ),
    ]


def _trunks_in_words(up: int, count: int) -> tuple[str, str]:
    if not count:
        return "None yet", "No emergency call can leave"
    return f"{up} of {count} answer", "Asked again all the time"


ROUTES = (Route("GET", "/", get_home, SIGNED_IN, Event.HOME_READ),)
