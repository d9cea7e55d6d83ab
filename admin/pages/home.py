"""Home: the first steps, each done when it has really happened; what needs a person; and how things stand.

Every question to the database is a count, a handful of rows, or a few columns of the locations: the page takes the same
time with ten phones as with ten thousand.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aiohttp import web

from admin.context import ACCOUNT, ACTOR, CERTIFICATES, COUNTS, DISK, EDGE, HOME, MAIL_SERVER, SCOPES, SESSION, UNREAD
from admin.pages.form import see_other, typed
from admin.render import has_test_number, plural, render, zone_of
from admin.routes import SIGNED_IN, Route
from engine.accounts import mail_server, store_anomalies, store_storage, store_trunks
from engine.accounts import store as accounts
from engine.accounts.scopes import Scope
from engine.accounts.trunk_groups import MAX_GROUPS, group_alarms
from engine.audit.events import Event
from engine.audit.record import PLATFORM
from engine.db import utc_now
from engine.e911 import alarms as e911_alarms
from engine.e911 import refusals, store_callbacks, store_calls, store_chats, store_tests, store_unplaced, store_webhooks
from engine.e911 import store as e911
from engine.e911.acknowledging import caller_of
from engine.e911.compliance import Verdict
from engine.e911.dismissing import dismiss
from engine.e911.location import DISAGREEMENT
from engine.e911.shadowing import Shadow, forms_of, shadows_of
from engine.e911.sweep import UNTESTED_AFTER
from engine.models import Account, EmergencyCall, Pbx, Trunk
from engine.numbers import numbers_of
from engine.places import is_dispatchable
from engine.provisioning import store as provisioning
from engine.provisioning import store_alarms
from engine.provisioning.alarms import summed
from engine.provisioning.store import PhoneCounts
from engine.retention import CLOCK

LATEST = 5
LOOKS_BACK = dt.timedelta(days=7)
REFUSED_WITHIN = dt.timedelta(days=1)
OVERDUE_AFTER = dt.timedelta(minutes=5)


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
    """A fact in a box; with `href` its note leads to where it comes from."""

    name: str
    value: str
    note: str
    href: str = ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One line of what needs a person: what it means, and the link that leads to the cure; `until`: of one that can be
    dismissed, the newest thing it tells of.
    """

    text: str
    action: str
    href: str
    kind: str
    is_urgent: bool
    until: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """All that Home speaks of, read once."""

    account: Account
    places: Sequence[e911_alarms.Place]
    told: int  # how many addresses are mailed at every call; a location's own come beside them
    is_mail_set_up: bool
    are_mails_refused: bool  # what was last tried was not taken
    phones: PhoneCounts
    pbxs: Sequence[Pbx]
    trunks: Sequence[Trunk]
    latest: Sequence[EmergencyCall]
    test: EmergencyCall | None  # the latest 933
    passed: EmergencyCall | None  # the latest that was answered and carried a place that help can be sent to
    waiting_mails: int
    is_sip_up: bool
    chats: int = 0  # how many are told of every call by SMS or chat
    silent_phones: int = 0  # booted, and with no line that registers anywhere
    not_met: int = 0  # devices that the E911 report found so when they were last counted
    is_testable: bool = (
        True  # some location is in a country with a number for test calls, or the account is and has none
    )

    @property
    def number(self) -> str:
        """What people of this account dial for help."""
        return numbers_of(self.account.country).primary


async def get_home(request: web.Request) -> web.Response:
    standing = await _standing(request)
    return render(
        request,
        "home.html.j2",
        steps=first_steps(standing),
        tiles=_tiles(request, standing),
        alarms=await _alarms(request, standing),
        calls=standing.latest,
        is_testable=standing.is_testable,
    )


async def _standing(request: web.Request) -> Standing:
    session, account = request[SESSION], request[ACCOUNT]
    places = await store_calls.places_of(session, account.id)
    chatting = await store_chats.places_told(session, account.id)
    counted = request.app[COUNTS].kept(account.id)
    return Standing(
        account=account,
        places=[
            e911_alarms.Place(
                name,
                is_dispatchable(civic, has_geo),
                status,
                has_recipients,
                str(civic.get("country") or ""),
                withheld,
                identity in chatting,
            )
            for identity, name, civic, has_geo, status, has_recipients, withheld in places
        ],
        told=await store_calls.count_recipients(session, account.id),
        chats=await store_chats.told_everywhere(session, account.id),
        is_mail_set_up=bool(request.app[MAIL_SERVER].settings.host),
        are_mails_refused=await store_calls.are_mails_refused(session, account.id),
        phones=await provisioning.count_phones(session, account.id),
        pbxs=await accounts.pbxs_of(session, account.id),
        trunks=await accounts.trunks_of(session, account.id),
        latest=await store_calls.latest_calls(session, account.id, LATEST),
        test=await store_calls.latest_test(session, account.id),
        passed=await store_calls.passed_test(session, account.id),
        waiting_mails=await e911.waiting_count(session, account.id),
        is_sip_up=request.app[EDGE].state().is_up,
        silent_phones=await store_alarms.count_silent(session, account.id),
        not_met=counted.verdicts[Verdict.NOT_MET.value] if counted is not None else 0,
        is_testable=(
            await store_tests.count_testable(session, account.id) > 0 if places else has_test_number(account.country)
        ),
    )


# ------------------------------------------------------------------------------------------ what needs a person


async def alarms_shown(request: web.Request) -> list[Alarm]:
    """What this user or key may see of it, urgent things first."""
    return await _alarms(request, await _standing(request))


async def _alarms(request: web.Request, standing: Standing) -> list[Alarm]:
    found: list[Alarm] = []
    scopes = request[SCOPES]
    if {Scope.CALLS_READ, Scope.LOCATIONS_READ} <= scopes:
        facts = await _facts(request, standing)
        found = [
            Alarm(one.text, one.action, one.href, one.kind.value, one.is_urgent, one.until)
            for one in e911_alarms.alarms_of(facts)
        ]
        found += await _lost_abroad(request, standing)
    if Scope.PHONES_READ in scopes:
        counts = await store_alarms.alarm_counts(request[SESSION], request[ACCOUNT].id)
        found += [Alarm(one.text, "See which", one.href, one.kind.value, is_urgent=True) for one in summed(counts)]
    if Scope.TELEPHONY_READ in scopes:
        found += await _empty_groups(request, standing)
    if Scope.AUDIT_READ in scopes:
        found += await _hints(request) + await _kept_entries(request)
    if Scope.SECURITY_READ in scopes and await mail_server.may_set(request[SESSION], request[HOME]):
        text = request.app[DISK].alarm()  # of the whole platform: nothing that one tenant among several should see
        found += [Alarm(text, "Storage", "/settings/storage", "disk", is_urgent=True)] if text else []
        ending = request.app[CERTIFICATES].alarms
        found += [Alarm(text, "Settings", "/settings", "certificate", is_urgent=True) for text in ending]
        found += await _kept_records(request) + await _refused_calls(request, standing)
    dismissed = await store_unplaced.dismissals_of(request[SESSION], request[ACCOUNT].id)
    open_ones = [
        alarm
        for alarm in found
        if alarm.until is None or alarm.kind not in dismissed or alarm.until > dismissed[alarm.kind]
    ]
    return sorted(open_ones, key=lambda alarm: not alarm.is_urgent)


async def _empty_groups(request: web.Request, standing: Standing) -> list[Alarm]:
    """Trunk groups that calls should take and cannot: they go another way than somebody meant."""
    groups = await store_trunks.trunk_groups_of(request[SESSION], request[ACCOUNT].id, limit=MAX_GROUPS)
    named = await store_trunks.trunk_groups_named(request[SESSION], request[ACCOUNT]) if groups else set()
    told = group_alarms(groups, standing.trunks, named)
    return [Alarm(text, "See the group", "/settings#trunk-groups", "trunk_group", is_urgent=True) for text in told]


async def _hints(request: web.Request) -> list[Alarm]:
    """What in the logs is unlike this account: the hint itself where it is one, else how many there are."""
    count = await store_anomalies.open_count(request[SESSION], request[ACCOUNT].id)
    if not count:
        return []
    newest = (await store_anomalies.anomalies_of(request[SESSION], request[ACCOUNT].id, is_open=True))[0]
    if count == 1:
        text, href = f"{newest.headline}. Was that one of yours?", f"/audit/anomalies/{newest.id}"
    else:
        text, href = f"{count} things in the logs are unlike this account: {newest.headline}.", "/audit/anomalies"
    return [Alarm(text, "Look at it", href, "anomaly", is_urgent=False)]


async def _kept_entries(request: web.Request) -> list[Alarm]:
    """That this account's log is not shortened, because it does not prove itself."""
    note = await store_storage.removal_note(request[SESSION], request[ACCOUNT].id)
    if note is None or not note.words:
        return []
    text = f"The audit log keeps entries that should have left. {note.words}"
    return [Alarm(text, "Open the log", "/audit", "removal", is_urgent=True)]


async def _kept_records(request: web.Request) -> list[Alarm]:
    """Why nothing leaves anywhere, or not from the platform's own log."""
    found = [await store_storage.removal_note(request[SESSION], name) for name in (CLOCK, PLATFORM)]
    return [
        Alarm(
            note.words, "Storage", "/settings/storage", "removal", is_urgent=note.name != CLOCK or note.at is not None
        )
        for note in found
        if note and note.words
    ]


async def _refused_calls(request: web.Request, standing: Standing) -> list[Alarm]:
    """An emergency call of the last day from an address that no PBX here has: perhaps one that nobody entered yet."""
    found = await refusals.latest_emergency_refused(request[SESSION], utc_now() - REFUSED_WITHIN)
    if found is None or any(_is_within(found.ip, source) for pbx in standing.pbxs for source in pbx.sources):
        return []
    text = (
        f"{standing.number} from {found.ip} was refused at "
        f"{found.at.astimezone(zone_of(standing.account)):%Y-%m-%d %H:%M}: is that your PBX? Then enter it, or its "
        "next call is refused too. Else nothing is to be done: strangers try such numbers."
    )
    return [Alarm(text, "Add PBX", "/settings/pbxs/new", e911_alarms.REFUSED_CALL, is_urgent=False, until=found.at)]


async def _lost_abroad(request: web.Request, standing: Standing) -> list[Alarm]:
    """Somebody here dialled an emergency number within the last day, and it went nowhere: another country's, or in a
    request that could not be read.
    """
    account, since = standing.account, utc_now() - REFUSED_WITHIN
    found = await refusals.latest_emergency_refused(request[SESSION], since, account.id)
    if found is None or not found.dialed:
        return []
    pbx = next((pbx for pbx in standing.pbxs if any(_is_within(found.ip, source) for source in pbx.sources)), None)
    href = f"/settings/pbxs/{pbx.id}" if pbx else "/settings#pbxs"
    if found.fault:
        text = (
            f"A call to {found.dialed} by way of {pbx.name if pbx else found.ip} at "
            f"{found.at.astimezone(zone_of(account)):%Y-%m-%d %H:%M} went nowhere: what the PBX sent could not be read "
            f"({found.fault}). Ask whoever was there whether help is needed, and have the PBX mended: its next call "
            "may go nowhere too."
        )
        return [Alarm(text, "See the PBX", href, e911_alarms.LOST_ABROAD, is_urgent=True, until=found.at)]
    text = (
        f"{found.dialed} was dialed by way of {pbx.name if pbx else found.ip} at "
        f"{found.at.astimezone(zone_of(account)):%Y-%m-%d %H:%M} and went nowhere: it is an emergency number of other "
        f"countries, and the PBX has no default route. Perhaps somebody wanted help: tell people to dial "
        f"{standing.number}, or have the PBX do so for them."
    )
    return [Alarm(text, "See the PBX", href, e911_alarms.LOST_ABROAD, is_urgent=False, until=found.at)]


async def post_dismiss(request: web.Request) -> web.Response:
    kind = request.match_info["kind"]
    await dismiss(request[SESSION], request[ACTOR], request[ACCOUNT].id, kind, await typed(request, "until"))
    return see_other("/", "alarm-dismissed")


def _is_within(ip: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(ip) in ipaddress.ip_network(network)
    except ValueError:
        return False


async def _facts(request: web.Request, standing: Standing) -> e911_alarms.Standing:
    session, account_id, now = request[SESSION], request[ACCOUNT].id, utc_now()
    since = now - LOOKS_BACK
    enabled = [trunk for trunk in standing.trunks if trunk.enabled]
    disagreements = await store_calls.count_flagged(session, account_id, since, DISAGREEMENT)
    return e911_alarms.Standing(
        places=standing.places,
        recipients=standing.told,
        trunks_up=sum(trunk.is_up is not False for trunk in enabled),
        trunks_down=[trunk.name for trunk in enabled if trunk.is_up is False],
        failed_calls=await store_calls.count_failed(session, account_id, since),
        unacknowledged=await store_calls.count_unacknowledged(session, account_id, since),
        disagreements=disagreements,
        latest_disagreement=(
            await store_calls.latest_flagged(session, account_id, since, DISAGREEMENT) if disagreements else None
        ),
        overdue_mails=await store_calls.overdue_notifications(session, account_id, now - OVERDUE_AFTER),
        chats=standing.chats,
        overdue_chats=await store_chats.overdue_for_chats(session, account_id, now - OVERDUE_AFTER),
        overdue_webhooks=await store_webhooks.overdue_for_webhooks(session, account_id, now - OVERDUE_AFTER),
        failed_mails=await store_calls.failed_notifications(session, account_id, since),
        is_mail_set_up=standing.is_mail_set_up,
        untested=await store_tests.count_untested(session, account_id, now - UNTESTED_AFTER),
        without_caller=await store_tests.count_without_caller(session, account_id, now - UNTESTED_AFTER),
        has_passed_a_test=standing.passed is not None,
        is_connected=bool(standing.pbxs or standing.trunks),
        days=LOOKS_BACK.days,
        country=standing.account.country,
        has_callback=await store_calls.has_callback_number(session, account_id),
        mute_lines=await store_calls.count_mute_lines(session, standing.account),
        moved=await store_tests.count_moved(session, account_id, now - UNTESTED_AFTER),
        shadows=await _shadows(request, standing),
        unplaced=await _unplaced(request, since),
        missed=await _missed(request, standing, since),
        unread=request.app[UNREAD](account_id),
    )


async def _shadows(request: web.Request, standing: Standing) -> list[Shadow]:
    """Lines, default routes and test numbers that are emergency numbers where the account has places."""
    places: dict[str, list[str]] = {standing.account.country.upper(): []}
    for place in standing.places:
        places.setdefault((place.country or standing.account.country).upper(), []).append(place.name)
    forms = frozenset[str]().union(*(forms_of(country) for country in places))
    lines = await e911.lines_called(request[SESSION], standing.account.id, forms)
    return shadows_of(places, lines, standing.pbxs, standing.trunks)


async def _unplaced(request: web.Request, since: dt.datetime) -> e911_alarms.Unplaced | None:
    """Calls without a location since then, those left out that were dismissed, and whose cause is mended."""
    session, account = request[SESSION], request[ACCOUNT]
    dismissed = (await store_unplaced.dismissals_of(session, account.id)).get(e911_alarms.AlarmKind.NO_LOCATION, since)
    calls = [call for call in await store_unplaced.unplaced_calls(session, account, since) if call.sent_at > dismissed]
    if not calls:
        return None
    latest = calls[0]
    when = f"{latest.sent_at.astimezone(zone_of(account)):%Y-%m-%d %H:%M}"
    phone_id = latest.caller.get("phone_id")
    return e911_alarms.Unplaced(len(calls), caller_of(latest), when, latest.sent_at, latest.id, phone_id)


async def _missed(request: web.Request, standing: Standing, since: dt.datetime) -> e911_alarms.Missed | None:
    """Dispatchers' calls back that reached nobody since then."""
    session, account = request[SESSION], request[ACCOUNT]
    calls = await store_callbacks.missed_callbacks(session, account.id, since)
    if not calls:
        return None
    latest = calls[0]
    return e911_alarms.Missed(
        count=len(calls),
        number=latest.number,
        when=f"{latest.received_at.astimezone(zone_of(account)):%Y-%m-%d %H:%M}",
        at=latest.received_at,
        status=latest.status_code or 480,
        call_id=latest.emergency_call_id,
        pbx=next((pbx.name for pbx in standing.pbxs if pbx.id == latest.pbx_id), ""),
        was_tried=bool(latest.target),
        is_orphan=latest.orphan,
    )


# ------------------------------------------------------------------------------------------ first steps


def first_steps(standing: Standing) -> list[Step]:
    """The seven steps, six where 933 is nobody's number; the first one that is open is marked as the next."""
    steps = [
        _location_step(standing),
        _told_step(standing),
        _pbx_step(standing.pbxs),
        _trunk_step(standing.trunks, is_testable=standing.is_testable),
        _phone_step(standing),
        *([_test_step(standing)] if standing.is_testable else []),
        _live_step(standing),
    ]
    following = next((step for step in steps if not step.is_done), None)
    return [replace(step, is_next=step is following) for step in steps]


def _location_step(standing: Standing) -> Step:
    usable = sum(place.has_address for place in standing.places)
    text = (
        f"{plural(usable, 'location')} with an address. A {standing.number} call carries the one that fits its caller."
        if usable
        else f"The address, floor and room that a {standing.number} call carries to the dispatcher."
    )
    address = "/locations" if usable else "/locations/new"
    action = "See locations" if usable else "Add location"
    return Step("location", "Add your first location", text, usable > 0, address, action)


def _told_step(standing: Standing) -> Step:
    title, told = "Say who is told", standing.told
    count = plural(told, "address", "addresses")
    if not told and standing.chats:
        text = f"{plural(standing.chats, 'recipient', 'recipients')} told by SMS or chat at every emergency call."
        return Step("told", title, text, is_done=True, address="/settings#recipients", action="Recipients")
    if not told:
        law = " The law asks for it." if standing.account.country == "US" else ""
        text = f"Who is mailed the moment somebody dials {standing.number} here.{law}"
        return Step("told", title, text, is_done=False, address="/settings#recipients", action="Add recipient")
    if not standing.is_mail_set_up:
        text = f"{count}, but no mail server: nobody is mailed."
        return Step("told", title, text, is_done=False, address="/settings#mail", action="Set up mail")
    if standing.are_mails_refused:
        text = f"{count}, but the last mail was not delivered. Send a test mail, and look at who was told of the call."
        return Step("told", title, text, is_done=False, address="/settings#mail", action="Check mail")
    text = f"{count} mailed at every emergency call{' and every 933 test' if standing.is_testable else ''}."
    return Step("told", title, text, is_done=True, address="/settings#recipients", action="Recipients")


def _pbx_step(pbxs: Sequence[Pbx]) -> Step:
    if pbxs:
        text = f"{plural(len(pbxs), 'PBX', 'PBXs')} may send emergency calls here."
        return Step("pbx", "Connect your PBX", text, is_done=True, address="/settings#pbxs", action="See PBXs")
    text = "Whose calls are taken: the address of the PBX, its certificate or its password. Strangers are refused."
    return Step("pbx", "Connect your PBX", text, is_done=False, address="/settings/pbxs/new", action="Add PBX")


def _trunk_step(trunks: Sequence[Trunk], *, is_testable: bool) -> Step:
    title = "Connect a carrier"
    enabled = [trunk for trunk in trunks if trunk.enabled]
    answering = sum(bool(trunk.is_up) for trunk in enabled)
    if answering:
        text = f"{plural(answering, 'trunk')} answering. Emergency calls try them in their order."
        return Step("trunk", title, text, is_done=True, address="/settings#trunks", action="See trunks")
    if enabled:
        text = "No trunk answers yet: emergency calls would fail. Check its host, port and firewall."
        return Step("trunk", title, text, is_done=False, address="/settings#trunks", action="Check trunks")
    calls = "911 and 933" if is_testable else "emergency calls"
    text = f"A carrier trunk that takes {calls}. A second one is tried within seconds when the first is silent."
    return Step("trunk", title, text, is_done=False, address="/settings/trunks/new", action="Add trunk")


def _phone_step(standing: Standing) -> Step:
    title, phones, silent = "Provision the first phone", standing.phones, standing.silent_phones
    if phones.booted and silent >= phones.booted:
        text = (
            f"{plural(phones.booted, 'phone')} fetched a configuration here, but none registers anywhere and can dial "
            f"{standing.number}. Give each a line, and the PBX of its lines a registrar host."
        )
        return Step("phone", title, text, is_done=False, address="/phones", action="See phones")
    if phones.booted:
        text = f"{plural(phones.booted, 'phone')} fetched a configuration here."
        if silent:
            registers = "registers" if silent == 1 else "register"
            text += f" {silent} of them {registers} nowhere and cannot dial {standing.number}."
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
    if standing.passed is not None:
        text = "A test call went out with its location and was answered."
        address = f"/calls/{standing.passed.id}"
        return Step("test", title, text, is_done=True, address=address, action="See the call")
    if standing.test is not None:
        text = (
            "A test call was answered, but carried no address: the dispatcher of a 911 call would have to ask for it."
            if standing.test.outcome == "answered"
            else "A test call came, but no carrier answered it. Its page says why."
        )
        address = f"/calls/{standing.test.id}"
        return Step("test", title, text, is_done=False, address=address, action="See the call")
    text = "The whole way of a 911 call, without a dispatcher at its end. Dial it from any phone."
    return Step("test", title, text, is_done=False, address="/help/emergency", action="How to")


def _live_step(standing: Standing) -> Step:
    """Live: everything a 911 call needs is there now, and a test has shown it once."""
    title, number = "Go live", standing.number
    is_answering = any(trunk.is_up for trunk in standing.trunks if trunk.enabled)
    bare = sum(not place.has_address for place in standing.places)
    missing = [
        words
        for words, is_there in (
            ("a location with an address", any(place.has_address for place in standing.places)),
            (f"somebody who is told of a {standing.number} call", bool(standing.told)),
            ("a PBX", bool(standing.pbxs)),
            ("a trunk that answers", is_answering),
            (
                "a 933 call that was answered and carried its address",
                standing.passed is not None or not standing.is_testable,
            ),
            (f"the address of {plural(bare, 'location')}", not bare),
            (f"a line with a registrar on {plural(standing.silent_phones, 'phone')}", not standing.silent_phones),
            ("a SIP side that answers", standing.is_sip_up),
        )
        if not is_there
    ]
    if missing:
        text = f"Send {number} here when all is there. Missing now: {', '.join(missing)}."
        return Step("live", title, text, is_done=False, address="/help/emergency", action="How calls get here")
    if standing.not_met and not standing.account.emergency_enabled:
        text = (
            f"All is there for a call, but the E911 report finds {plural(standing.not_met, 'device')} not met: see "
            f"why. Then send {number} from the PBX here, and say in Settings that emergency calling is live."
        )
        return Step("live", title, text, is_done=False, address="/compliance", action="See why")
    if not standing.account.emergency_enabled:
        text = (
            f"All is there. Send {number} from the PBX here, then say in Settings that emergency calling is live. "
            "The E911 report shows what each device's call would tell."
        )
        return Step("live", title, text, is_done=False, address="/settings#live", action="Go live")
    test = ", and test each location with 933" if standing.is_testable else ""
    text = f"Send {number} from the PBX here. Keep Alerts open at the front desk{test}."
    return Step("live", title, text, is_done=True, address="/alerts", action="Open Alerts")


# ------------------------------------------------------------------------------------------ tiles


def _tiles(request: web.Request, standing: Standing) -> list[Tile]:
    state = request.app[EDGE].state()
    phones = standing.phones
    up = sum(bool(trunk.is_up) for trunk in standing.trunks if trunk.enabled)
    listens = ", ".join(
        f"{name} {address}" for name, address in (("UDP", state.udp), ("TCP", state.tcp), ("TLS", state.tls)) if address
    )
    tiles = [
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
    return [*tiles, _report_tile(request)] if Scope.CALLS_READ in request[SCOPES] else tiles


def _report_tile(request: web.Request) -> Tile:
    """How the devices stood when they were last counted; Home counts none itself."""
    count = request.app[COUNTS].kept(request[ACCOUNT].id)
    if count is None or not count.devices:
        return Tile("E911 report", "Each device", "What its call would tell", "/compliance")
    wrong = count.verdicts[Verdict.NOT_MET.value]
    value = f"{wrong:,} of {plural(count.devices, 'device')}" if wrong else plural(count.devices, "device")
    return Tile("E911 report", value, "Not met: see why" if wrong else "None is not met", "/compliance")


def _trunks_in_words(up: int, count: int) -> tuple[str, str]:
    if not count:
        return "None yet", "No emergency call can leave"
    return f"{up} of {count} answer", "Asked again all the time"


ROUTES = (
    Route("GET", "/", get_home, SIGNED_IN, Event.HOME_READ),
    Route("POST", "/alarms/{kind}/dismiss", post_dismiss, Scope.AUDIT_WRITE, Event.ALARM_DISMISS),
)
