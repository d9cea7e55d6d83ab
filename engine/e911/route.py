"""Which trunks an emergency call tries, in which order, and what it looks like on each. Pure.

Order: the account's own trunks by priority, its trunks of last resort, then those of any account; within each of the
three groups a trunk that does not answer its pings comes behind those that do, and is never left out.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from engine.e911.carriers import CarrierProfile, CarrierProfiles
from engine.e911.dial import Kind
from engine.e911.location import AccountTable, Trunk
from engine.e911.pidf import BODY_HEADERS, Composed, compose, geolocation_value
from engine.sip.forward import Edit, Hop, Target
from engine.sip.message import Request
from engine.sip.uri import bracketed

EMERGENCY_NUMBER = "911"
MAX_HOPS_PER_TRUNK = (
    3  # addresses of one host name that are tried: a name with twenty dead ones must not hold a call for 40 s
)
STRIPPED_PREFIX = b"x-callpoint-"
# the caller's own claims about who it is; ours replaces them. Privacy would make the carrier hide the callback number
# (RFC 3323)
STRIPPED = ("P-Asserted-Identity", "P-Preferred-Identity", "Privacy")
LOCATION_HEADERS = ("Geolocation", "Geolocation-Routing")

HopsOf = Callable[[str, int | None, str], tuple[Hop, ...]]
"""(host, port, transport) -> addresses known now, best first; never waits."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long one target may take: to answer at all, and to accept a connection."""

    first_response_s: float = 2.0
    connect_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What the INVITE to every trunk has in common. `pidf` None: there is no location to convey."""

    request: Request
    kind: Kind
    callback_number: str | None
    pidf: bytes | None
    content_id: str


def ranked_trunks(account: AccountTable, last_resorts: Iterable[Trunk], down: Collection[str]) -> tuple[Trunk, ...]:
    """The trunks to try, in order. `down`: identifiers of trunks that do not answer pings."""
    own = {trunk.id for trunk in account.trunks}
    enabled = [trunk for trunk in account.trunks if trunk.enabled]
    groups = (
        [trunk for trunk in enabled if not trunk.last_resort],
        [trunk for trunk in enabled if trunk.last_resort],
        [trunk for trunk in last_resorts if trunk.id not in own],
    )
    return tuple(
        trunk for group in groups for trunk in sorted(group, key=lambda each: (each.id in down, each.priority, each.id))
    )


def targets_for(
    trunks: Iterable[Trunk], outgoing: Outgoing, *, profiles: CarrierProfiles, hops_of: HopsOf, deadlines: Deadlines
) -> tuple[Target, ...]:
    """One target per address of each trunk, with the request as that trunk wants it. A trunk with no known address
    has none.
    """
    composed: Composed | None = None
    targets = []
    for trunk in trunks:
        hops = hops_of(trunk.host, trunk.port, trunk.transport)[:MAX_HOPS_PER_TRUNK]
        if not hops:
            continue
        profile = profiles.of(trunk.profile)
        # `reference` and `both` convey by value until the engine serves references: a location in the wrong form
        # beats none
        conveys = outgoing.pidf is not None and trunk.location_mode != "none"
        if conveys and composed is None:
            composed = _compose(outgoing)
        plain = _edit(outgoing, trunk, profile)
        edit = _with_location(plain, outgoing, profile, composed) if conveys and composed is not None else plain
        retry = _without_location(plain) if conveys or outgoing.request.header("Geolocation") is not None else None
        first_s, connect_s = deadlines.first_response_s, deadlines.connect_s
        targets += [Target(trunk.id, hop, edit, first_s, connect_s, retry) for hop in hops]
    return tuple(targets)


def fail_over_statuses(trunks: Iterable[Trunk], profiles: CarrierProfiles) -> frozenset[int]:
    """Final statuses after which the next trunk is tried: all that do not come from behind the trunk.

    A busy (486) or declining (600, 603) answerer was reached, 487 follows a CANCEL. Everything else says that this
    trunk did not take the call, whatever the reason, and the next may.
    """
    final = {status for trunk in trunks for status in profiles.of(trunk.profile).final_statuses}
    return _all_failures_but(frozenset(final) or CarrierProfile().final_statuses)


@lru_cache(maxsize=64)
def _all_failures_but(final: frozenset[int]) -> frozenset[int]:
    return frozenset(range(300, 700)) - final


def stripped_headers(request: Request) -> tuple[str, ...]:
    """Headers between the PBX and us that nobody behind us may see."""
    return tuple(sorted({name.decode("latin-1") for name in request.names if name.startswith(STRIPPED_PREFIX)}))


def _edit(outgoing: Outgoing, trunk: Trunk, profile: CarrierProfile) -> Edit:
    host = bracketed(trunk.host)
    is_test = outgoing.kind is Kind.TEST
    number = (trunk.test_number or profile.test_number) if is_test else EMERGENCY_NUMBER
    remove = stripped_headers(outgoing.request) + STRIPPED
    add: list[tuple[str, str]] = []
    if outgoing.callback_number:
        add.append(
            ("P-Asserted-Identity", _filled(profile.p_asserted_identity, host, callback=outgoing.callback_number))
        )
    if profile.priority and not is_test:
        remove = (*remove, "Priority")
        add.append(("Priority", profile.priority))
    return Edit(request_uri=_filled(profile.request_uri, host, number=number), remove=remove, add=tuple(add))


def _filled(pattern: str, host: str, *, number: str = "", callback: str = "") -> str:
    return pattern.replace("{number}", number).replace("{callback}", callback).replace("{host}", host)


def _with_location(plain: Edit, outgoing: Outgoing, profile: CarrierProfile, composed: Composed) -> Edit:
    """RFC 6442 §4.4: an intermediary's own Geolocation value goes behind those already there."""
    add = [*plain.add, ("Geolocation", geolocation_value(outgoing.content_id))]
    remove = plain.remove + composed.moved
    if profile.geolocation_routing:
        remove = (*remove, "Geolocation-Routing")  # only one may be there
        add.append(("Geolocation-Routing", profile.geolocation_routing))
    return Edit(plain.request_uri, remove, tuple(add), composed.content_type, composed.body)


def _without_location(plain: Edit) -> Edit:
    """The request as the caller's own body makes it; after a 424 the caller's own location headers go too."""
    return Edit(plain.request_uri, plain.remove + LOCATION_HEADERS, plain.add)


def _compose(outgoing: Outgoing) -> Composed:
    request = outgoing.request
    assert outgoing.pidf is not None
    headers = ((name, request.header(name)) for name in BODY_HEADERS)
    return compose(
        request.body,
        outgoing.pidf,
        content_type=request.header("Content-Type"),
        content_id=outgoing.content_id,
        part_headers=[(name, value) for name, value in headers if value is not None],
    )
