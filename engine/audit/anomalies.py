"""What in the logs is unlike this account: hints for people, each with what it rests on (pure).

Theory of operation. Every rule compares one act with the account's own history: where a user signs in from, how often
they mistype, how much is deleted at a time, at which hours people are here. Somebody who travels, mistypes or deletes a
lot has a history that says so, and is left alone. Where there is too little history a rule is silent: a hint that cries
wolf is dismissed unread. A hint decides nothing; nobody is locked out by one.
"""

import datetime as dt
import ipaddress
import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

HISTORY = dt.timedelta(days=90)  # of sign-ins
HABITS = dt.timedelta(days=30)  # of deleting and of working hours
SETTLED = dt.timedelta(hours=24)  # an act counts as history when it is so old: a thief's first hour must not
KNOWN_FOR = dt.timedelta(days=7)  # so long somebody must have been here before a new address means anything
SIGN_INS_AT_LEAST = 5
STEADY_AT_LEAST = 10  # sign-ins before a new network alone, or a new browser alone, is told
SELDOM = 0.1  # of the sign-ins: who changes networks more often than this is no news on a new one
FAILURES_AT_LEAST = 5
FAILURES_WITHIN = dt.timedelta(hours=1)
SPRAYED_AT_LEAST = 5  # different people, tried from one network within an hour
DELETIONS_AT_LEAST = 10
DELETIONS_WITHIN = dt.timedelta(minutes=10)
NIGHT = frozenset({22, 23, 0, 1, 2, 3, 4, 5})
HABITS_AT_LEAST = 20
RARE_HOUR = 0.02
NETWORKS_OF_A_KEY = 3  # a key that is used from more places than this says nothing by a new one


class AnomalyKind(StrEnum):
    """Stored names."""

    UNFAMILIAR_SIGN_IN = "unfamiliar_sign_in"
    SIGN_IN_AFTER_FAILURES = "sign_in_after_failures"
    PASSWORDS_TRIED = "passwords_tried"
    MASS_DELETION = "mass_deletion"
    REVEAL_FROM_NEW_NETWORK = "reveal_from_new_network"
    EXPORT_BY_NIGHT = "export_by_night"
    KEY_FROM_NEW_NETWORK = "key_from_new_network"


@dataclass(frozen=True, slots=True)
class SignIn:
    id: str  # the session's
    at: dt.datetime
    user_id: str
    name: str
    ip: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A sign-in that was refused. `who`: the user, else the address that was typed."""

    at: dt.datetime
    who: str
    ip: str


@dataclass(frozen=True, slots=True)
class Act:
    """An entry of the audit log, as far as the rules look at it."""

    at: dt.datetime
    event: str
    actor_type: str
    actor_id: str
    actor_name: str
    ip: str


@dataclass(frozen=True, slots=True)
class Seen:
    """From where somebody acted, and when: their history."""

    at: dt.datetime
    ip: str


@dataclass(frozen=True, slots=True)
class Hint:
    """Something to look at. `key`: the same for the same thing; `query`: the entries of the audit log it rests on."""

    kind: AnomalyKind
    key: str
    at: dt.datetime
    actor_id: str
    actor_name: str
    ip: str
    headline: str
    evidence: tuple[str, ...]
    query: str


def network_of(ip: str) -> str:
    """The network that stands for a place: /24 of IPv4, /48 of IPv6 (RFC 6177 §2: one site); empty for no address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ""
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


_BROWSERS = (
    ("Edge", r"Edg(?:e|A|iOS)?/"), ("Opera", r"OPR/|Opera"), ("Samsung Internet", "SamsungBrowser/"),
    ("Firefox", r"Firefox/|FxiOS/"), ("Chrome", r"Chrome/|CriOS/"), ("Safari", "Safari/"), ("curl", "^curl/"),
)  # fmt: skip
_SYSTEMS = (
    ("Android", "Android"), ("iOS", r"iPhone|iPad|iOS"), ("Windows", "Windows"), ("macOS", r"Macintosh|Mac OS"),
    ("ChromeOS", "CrOS"), ("Linux", "Linux|X11"),
)  # fmt: skip


@lru_cache(maxsize=4096)
def device_of(user_agent: str) -> str:
    """Browser and system without their versions, which change every few weeks: `Chrome on Windows`."""
    browser = next((name for name, sign in _BROWSERS if re.search(sign, user_agent)), user_agent.partition("/")[0][:40])
    system = next((name for name, sign in _SYSTEMS if re.search(sign, user_agent)), "")
    return f"{browser or 'an unnamed program'}{f' on {system}' if system else ''}"


def unfamiliar_sign_in(fresh: SignIn, before: Sequence[SignIn], others: Iterable[SignIn]) -> Hint | None:
    """A sign-in from where, or with what, this user never signed in.

    Args:
        before: The user's own earlier ones, oldest first.
        others: Those of everybody else here: a network that colleagues use is not new.
    """
    if len(before) < SIGN_INS_AT_LEAST or fresh.at - before[0].at < KNOWN_FOR:
        return None
    network, device = network_of(fresh.ip), device_of(fresh.user_agent)
    networks, devices = [network_of(one.ip) for one in before], [device_of(one.user_agent) for one in before]
    is_new_network = bool(network) and network not in networks
    is_new_network = is_new_network and network not in {network_of(one.ip) for one in others}
    is_new_device = device not in devices
    if not (is_new_network or is_new_device):
        return None
    if not (is_new_network and is_new_device) and (
        len(before) < STEADY_AT_LEAST or _share_of_news(networks if is_new_network else devices) > SELDOM
    ):
        return None
    new = " and ".join(
        word for word, is_new in (("a new network", is_new_network), ("a new browser", is_new_device)) if is_new
    )
    return Hint(
        AnomalyKind.UNFAMILIAR_SIGN_IN, f"unfamiliar_sign_in:{fresh.id}", fresh.at, fresh.user_id, fresh.name, fresh.ip,
        f"{fresh.name} signed in from {new}",
        (
            f"From {fresh.ip} with {device}.",
            f"{len(before)} sign-ins before came from {_listed(networks)}, with {_listed(devices)}.",
        ),
        urlencode({"event": "session.create", "target": fresh.user_id}),
    )  # fmt: skip


def _share_of_news(values: Sequence[str]) -> float:
    """How often a value was new, the first SIGN_INS_AT_LEAST left out: everything is new then."""
    known = set(values[:SIGN_INS_AT_LEAST])
    rest, news = values[SIGN_INS_AT_LEAST:], 0
    for value in rest:
        news += value not in known
        known.add(value)
    return news / max(1, len(rest))


def _listed(values: Iterable[str]) -> str:
    common = [value or "an unknown place" for value, _count in Counter(values).most_common()]
    more = len(common) - 3
    return ", ".join(common[:3]) + (f" and {more} more" if more > 0 else "")


def sign_in_after_failures(fresh: SignIn, refusals: Sequence[Refusal], before: Sequence[SignIn]) -> Hint | None:
    """A sign-in that came through after far more refusals than this user ever has.

    Args:
        refusals: All of this user, of the whole history, oldest first. before: their earlier sign-ins.
    """
    mine = [one for one in refusals if fresh.at - FAILURES_WITHIN <= one.at <= fresh.at]
    last = max((one.at for one in before if one.at < fresh.at), default=None)
    mine = [one for one in mine if last is None or one.at > last]
    times = [one.at for one in refusals]
    usual = max((_failures_before(one, times) for one in before), default=0)
    if len(mine) < max(FAILURES_AT_LEAST, 2 * usual + 1):
        return None
    places = {one.ip for one in mine}
    return Hint(
        AnomalyKind.SIGN_IN_AFTER_FAILURES, f"sign_in_after_failures:{fresh.id}", fresh.at, fresh.user_id, fresh.name,
        fresh.ip, f"{fresh.name} signed in after {len(mine)} refused attempts",
        (
            f"{len(mine)} attempts were refused within {_span(mine[0].at, fresh.at)}, from {_listed(sorted(places))}.",
            f"The sign-in came from {fresh.ip}."
            + ("" if fresh.ip in places else " No refused attempt came from there."),
            f"The most before any earlier sign-in was {usual}.",
        ),
        urlencode({"event": "session.create", "target": fresh.user_id}),
    )  # fmt: skip


def _failures_before(one: SignIn, times: Sequence[dt.datetime]) -> int:
    return bisect_right(times, one.at) - bisect_left(times, one.at - FAILURES_WITHIN)


def passwords_tried(refusals: Sequence[Refusal], history: Sequence[Refusal]) -> list[Hint]:
    """From one network, the passwords of many people were tried within an hour.

    Args:
        refusals: The fresh ones, oldest first. history: those of HABITS before, oldest first.
    """
    usual = max(_most_tried(history).values(), default=(0, None))[0]
    found = []
    for network, (count, last) in _most_tried(refusals).items():
        if last is None or count < max(SPRAYED_AT_LEAST, 2 * usual + 1):
            continue
        tried = [one for one in refusals if network_of(one.ip) == network]
        found.append(
            Hint(
                AnomalyKind.PASSWORDS_TRIED, f"passwords_tried:{network}:{last.at:%Y-%m-%d}", last.at, "", "", last.ip,
                f"Passwords of {count} people were tried from one network",
                (
                    f"{len(tried)} refused sign-ins from {network}, the last one at {_clock(last.at)}.",
                    f"The most people tried from one network within an hour was {usual} before.",
                ),
                urlencode({"event": "session.create", "outcome": "denied", "ip": network}),
            )
        )  # fmt: skip
    return found


def _most_tried(refusals: Sequence[Refusal]) -> dict[str, tuple[int, Refusal | None]]:
    """By network: the most different people tried within an hour, and the last of those attempts."""
    by_network: dict[str, list[Refusal]] = defaultdict(list)
    for one in refusals:
        if network_of(one.ip):
            by_network[network_of(one.ip)].append(one)
    found: dict[str, tuple[int, Refusal | None]] = {}
    for network, tries in by_network.items():
        best: tuple[int, Refusal | None] = (0, None)
        first, people = 0, Counter[str]()
        for one in tries:
            people[one.who] += 1
            while one.at - tries[first].at > FAILURES_WITHIN:
                people[tries[first].who] -= 1
                if not people[tries[first].who]:
                    del people[tries[first].who]
                first += 1
            best = (len(people), one) if len(people) >= best[0] else best
        found[network] = best
    return found


def mass_deletion(deletions: Sequence[Act], history: Mapping[str, Sequence[dt.datetime]]) -> list[Hint]:
    """Somebody deleted far more at a time than anybody here does.

    Args:
        deletions: The fresh ones, oldest first. history: the times of everybody's in HABITS before, by actor.
    """
    usual = max((_most_within(times, DELETIONS_WITHIN)[0] for times in history.values()), default=0)
    by_actor: dict[str, list[Act]] = defaultdict(list)
    for act in deletions:
        if act.actor_type in {"user", "api_key"}:
            by_actor[act.actor_id].append(act)
    found = []
    for actor_id, acts in by_actor.items():
        count, last = _most_within([act.at for act in acts], DELETIONS_WITHIN)
        if count < max(DELETIONS_AT_LEAST, 3 * usual):
            continue
        fresh = next(act for act in acts if act.at == last)
        what = Counter(act.event.partition(".")[0].replace("_", " ") for act in acts)
        found.append(
            Hint(
                AnomalyKind.MASS_DELETION, f"mass_deletion:{actor_id}:{fresh.at:%Y-%m-%d}", fresh.at, actor_id,
                fresh.actor_name, fresh.ip, f"{fresh.actor_name} deleted {count} things within ten minutes",
                (
                    f"Deleted from {fresh.ip}: {', '.join(f'{number} of {kind}' for kind, number in what.items())}.",
                    f"The most that anybody here deleted in ten minutes in the last 30 days was {usual}.",
                ),
                urlencode({"action": "delete", "actor": actor_id}),
            )
        )  # fmt: skip
    return found


def _most_within(times: Sequence[dt.datetime], span: dt.timedelta) -> tuple[int, dt.datetime]:
    """The most of these times, oldest first, that lie within one span, and the last of those."""
    best, last, first = 0, dt.datetime.min.replace(tzinfo=dt.UTC), 0
    for at, moment in enumerate(times):
        while moment - times[first] > span:
            first += 1
        if at - first + 1 > best:
            best, last = at - first + 1, moment
    return best, last


def reveal_from_new_network(act: Act, history: Sequence[Seen]) -> Hint | None:
    """A secret was shown to somebody at a network from which they never did anything before.

    Args:
        history: Where this user or key acted from, the reveal itself and all before it.
    """
    networks = _settled(act, history)
    if networks is None or network_of(act.ip) in networks:
        return None
    what = act.event.partition(".")[0].replace("_", " ")
    return Hint(
        AnomalyKind.REVEAL_FROM_NEW_NETWORK,
        f"reveal_from_new_network:{act.actor_id}:{network_of(act.ip)}:{act.at:%Y-%m-%d}", act.at, act.actor_id,
        act.actor_name, act.ip, f"{act.actor_name} was shown a secret at a new network",
        (f"The {what} was revealed to {act.ip}.", f"Until yesterday they acted from {_listed(networks)} alone."),
        urlencode({"actor": act.actor_id, "event": act.event}),
    )  # fmt: skip


def key_from_new_network(act: Act, history: Sequence[Seen]) -> Hint | None:
    """An API key was used from a network from which it never was, though it is always used from the same few."""
    networks = _settled(act, history)
    if networks is None or network_of(act.ip) in networks or len(set(networks)) > NETWORKS_OF_A_KEY:
        return None
    return Hint(
        AnomalyKind.KEY_FROM_NEW_NETWORK, f"key_from_new_network:{act.actor_id}:{network_of(act.ip)}", act.at,
        act.actor_id, act.actor_name, act.ip, f"The API key {act.actor_name} was used from a new network",
        (
            f"Used from {act.ip}, the first time for {act.event}.",
            f"Until yesterday it was used from {_listed(networks)} alone.",
        ),
        urlencode({"actor": act.actor_id, "ip": act.ip}),
    )  # fmt: skip


def _settled(act: Act, history: Sequence[Seen]) -> list[str] | None:
    """The networks somebody acted from up to a day before; None: too little is known, or they have no address now."""
    old = [one for one in history if one.at <= act.at - SETTLED and network_of(one.ip)]
    if not network_of(act.ip) or not old or act.at - min(one.at for one in old) < KNOWN_FOR:
        return None
    return [network_of(one.ip) for one in old]


def export_by_night(act: Act, habits: Sequence[dt.datetime], exports: Sequence[Seen], zone: ZoneInfo) -> Hint | None:
    """A log or table was taken out at an hour of the night at which nobody is ever here.

    Args:
        habits: When people signed in, in HABITS before. exports: this actor's earlier ones; a nightly script has many.
        zone: The account's.
    """
    hour = act.at.astimezone(zone).hour
    if act.actor_type not in {"user", "api_key"} or hour not in NIGHT or len(habits) < HABITS_AT_LEAST:
        return None
    near = {(hour + off) % 24 for off in (-1, 0, 1)}
    here = sum(at.astimezone(zone).hour in near for at in habits)
    days = {one.at.astimezone(zone).date() for one in exports if one.at.astimezone(zone).hour in near}
    if here / len(habits) > RARE_HOUR or len(days - {act.at.astimezone(zone).date()}) >= 2:
        return None
    local = act.at.astimezone(zone)
    return Hint(
        AnomalyKind.EXPORT_BY_NIGHT, f"export_by_night:{act.actor_id}:{local:%Y-%m-%d}", act.at, act.actor_id,
        act.actor_name, act.ip, f"{act.actor_name} took out data by night",
        (
            f"{act.event} at {local:%H:%M} {zone.key}, from {act.ip}.",
            f"Of {len(habits)} sign-ins in the last 30 days {here} were near that hour.",
        ),
        urlencode({"actor": act.actor_id, "event": act.event}),
    )  # fmt: skip


def _span(first: dt.datetime, last: dt.datetime) -> str:
    minutes = max(1, round((last - first).total_seconds() / 60))
    return f"{minutes} minute{'' if minutes == 1 else 's'}"


def _clock(at: dt.datetime) -> str:
    return f"{at:%H:%M} UTC"
