"""Which trunks an emergency call tries, in which order, and what it looks like on each. Pure.

Order: the trunks of the caller's group as the group has them, the account's other trunks by priority, its trunks of
last resort, then those of any account. Before the last resorts a trunk that does not answer its pings comes behind all
that do, and so within each of the two kinds of last resort; none is ever left out, whatever a group names.

Only the first trunk's INVITE is made before the call leaves; what the others would get is made when they are tried.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

from engine.e911.carriers import CarrierProfile, CarrierProfiles
from engine.e911.dial import Dialed
from engine.e911.dialect import Dialect, Outgoing, bare_edit, plain_edit, stripped_headers
from engine.e911.location import AccountTable, DispatchableLocation, Pbx, Trunk
from engine.numbers import NumberPack
from engine.sip.auth import Credentials
from engine.sip.forward import Edit, Hop, Target

__all__ = ["Deadlines", "HopsOf", "Outgoing", "Targets", "ranked_trunks", "stripped_headers", "targets_for"]

MAX_HOPS_PER_TRUNK = (
    3  # addresses of one host name that are tried: a name with twenty dead ones must not hold a call for 40 s
)
_MAX_KEPT_DIALECTS = 8192
LEAST_RESPONSE_S = 0.7  # T1 of 500 ms, and the way there and back
LEAST_CONNECT_S = 0.5
_FINAL = frozenset({486, 487, 600, 603})  # the answerer's word, or the caller's

HopsOf = Callable[[str, int | None, str], tuple[Hop, ...]]
"""(host, port, transport) -> addresses known now, best first; never waits."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long one trunk may take: to answer at all, and to accept a connection."""

    first_response_s: float = 2.0
    connect_s: float = 1.0

    def shared(self, addresses: int) -> "Deadlines":
        """What each of a trunk's addresses gets of that time, so that a call leaves a trunk of several silent ones as
        soon as one of a single address; never less than an answer over a long line takes, with one INVITE lost.
        """
        if addresses < 2:
            return self
        return Deadlines(
            max(self.first_response_s / addresses, min(self.first_response_s, LEAST_RESPONSE_S)),
            max(self.connect_s / addresses, min(self.connect_s, LEAST_CONNECT_S)),
        )


def ranked_trunks(
    account: AccountTable,
    last_resorts: Iterable[Trunk],
    down: Collection[str],
    group: Sequence[str] = (),
    *,
    stalled: Collection[str] = (),
) -> tuple[Trunk, ...]:
    """The trunks to try, in order; always all of them.

    Args:
        down: Identifiers of trunks that do not answer pings.
        group: Identifiers of the trunks to take first, in that order; those that are gone or off are passed over.
        stalled: Those that left a call at 100 lately. Silence costs a call two seconds, a 100 and nothing more six:
            they come behind those that are down.
    """
    place = {trunk_id: at for at, trunk_id in enumerate(group)}
    own = {trunk.id for trunk in account.trunks}
    enabled = [trunk for trunk in account.trunks if trunk.enabled]
    tiers = (
        [trunk for trunk in enabled if not trunk.last_resort],
        [trunk for trunk in enabled if trunk.last_resort],
        [trunk for trunk in last_resorts if trunk.id not in own],
    )

    def rank(trunk: Trunk) -> tuple[bool, bool, int, int, str]:
        return trunk.id in stalled, trunk.id in down, place.get(trunk.id, len(place)), trunk.priority, trunk.id

    return tuple(trunk for tier in tiers for trunk in sorted(tier, key=rank))


class Targets(Sequence[Target]):
    """The targets of one call; each is made when it is first asked for."""

    __slots__ = ("_edits", "_made", "_on_fault", "_outgoing", "_places")

    def __init__(
        self,
        places: list[tuple[Dialect, Hop, Deadlines]],
        outgoing: Outgoing,
        on_fault: Callable[[str], None],
    ) -> None:
        self._places, self._outgoing, self._on_fault = places, outgoing, on_fault
        self._made: list[Target | None] = [None] * len(places)
        self._edits: dict[str, tuple[Edit, Edit | None]] = {}

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Target: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Target]: ...
    def __getitem__(self, at: int | slice) -> Target | Sequence[Target]:
        if isinstance(at, slice):
            return tuple(self[each] for each in range(*at.indices(len(self))))
        found = self._made[at]
        if found is None:
            found = self._made[at] = self._target(*self._places[at])
        return found

    def _target(self, dialect: Dialect, hop: Hop, deadlines: Deadlines) -> Target:
        trunk, profile = dialect.trunk, dialect.profile
        edits = self._edits.get(trunk.id)
        if edits is None:
            edits = self._edits[trunk.id] = self._made_edits(dialect)
        return Target(
            trunk.id,
            hop,
            edits[0],
            deadlines.first_response_s,
            deadlines.connect_s,
            edits[1],
            credentials=credentials_of(trunk),
            retry_on=profile.retry_without_location,
            fail_over=_fail_over(profile),
            fail_over_unrung=profile.fail_over_before_ringing,
            progress_s=profile.progress_s,
        )

    def _made_edits(self, dialect: Dialect) -> tuple[Edit, Edit | None]:
        """What the trunk's dialect says; should that fail, the plain call; should that, the number alone."""
        trunk, profile = dialect.trunk, dialect.profile
        try:
            return dialect.edits(self._outgoing)
        except Exception as exc:  # noqa: BLE001 - a fault of ours on the last step must not keep a 911 call here
            self._on_fault(f"{profile.name}, trunk {trunk.id}: the plain call was sent instead: {exc!r:.200}")
        try:
            return plain_edit(trunk, self._outgoing), None
        except Exception as exc:  # noqa: BLE001 - as above
            self._on_fault(f"{profile.name}, trunk {trunk.id}: the bare call was sent instead: {exc!r:.200}")
            return bare_edit(trunk, self._outgoing.dialed, self._outgoing.numbers), None


def credentials_of(row: Trunk | Pbx) -> Credentials | None:
    """With what its challenges are answered; None when it has no user name or no password."""
    return Credentials(row.auth_user, row.secret) if row.auth_user and row.secret else None


def bare_targets(
    trunks: Iterable[Trunk], dialed: Dialed, numbers: NumberPack, *, hops_of: HopsOf, deadlines: Deadlines
) -> tuple[Target, ...]:
    """One target per address of each trunk, with nothing of a profile, a caller or a location: only the number is made
    that trunk's. What is left when the request's own targets could not be made.
    """
    found: list[Target] = []
    for trunk in trunks:
        hops = hops_of(trunk.host, trunk.port, trunk.transport)[:MAX_HOPS_PER_TRUNK]
        each, edit = deadlines.shared(len(hops)), bare_edit(trunk, dialed, numbers)
        found += [
            Target(
                trunk.id, hop, edit, each.first_response_s, each.connect_s,
                credentials=credentials_of(trunk), fail_over=_all_failures_but(_FINAL),
            )
            for hop in hops
        ]  # fmt: skip
    return tuple(found)


def targets_for(
    trunks: Iterable[Trunk],
    outgoing: Outgoing,
    *,
    profiles: CarrierProfiles,
    hops_of: HopsOf,
    deadlines: Deadlines,
    may_misfit: Callable[[Hop], bool] = lambda _: False,
    on_fault: Callable[[str], None] = lambda _: None,
) -> Targets:
    """One target per address of each trunk, with the request as that trunk wants it. A trunk with no known address
    has none. `on_fault`: told when a dialect failed, and the call went without it.

    Behind them all, those again whose certificate may not fit (`may_misfit`), and need not then: a carrier that cannot
    prove its name is better than none (decision 0041).
    """
    places: list[tuple[Dialect, Hop, Deadlines]] = []
    for trunk in trunks:
        hops = hops_of(trunk.host, trunk.port, trunk.transport)
        if hops:
            dialect = dialect_of(trunk, profiles)
            hops = hops[:MAX_HOPS_PER_TRUNK]
            each = deadlines.shared(len(hops))
            places += [(dialect, hop, each) for hop in hops]
    places += [(dialect, hop.unproven(), each) for dialect, hop, each in places if may_misfit(hop)]
    return Targets(places, outgoing, on_fault)


def dialect_of(trunk: Trunk, profiles: CarrierProfiles) -> Dialect:
    """The trunk's dialect, made once for each row of it."""
    kept: dict[str, Dialect] = profiles.compiled
    found = kept.get(trunk.id)
    if found is None or found.trunk is not trunk:
        if len(kept) >= _MAX_KEPT_DIALECTS:
            kept.clear()
        found = kept[trunk.id] = Dialect(trunk, profiles.of(trunk.profile))
    return found


def shortened(
    trunks: Iterable[Trunk], location: DispatchableLocation | None, profiles: CarrierProfiles
) -> tuple[str, ...]:
    """Which trunks would get the location with elements shortened or left out: `Carrier: LOC, HNO`, one each."""
    if location is None:
        return ()
    found = []
    for trunk in trunks:
        names = dialect_of(trunk, profiles).shortened(location)
        if names:
            found.append(f"{trunk.name}: {', '.join(names)}")
    return tuple(found)


def _fail_over(profile: CarrierProfile) -> frozenset[int]:
    """Final statuses after which the next trunk is tried: all that do not come from behind the trunk.

    A busy (486) or declining (600, 603) answerer was reached, 487 follows a CANCEL. Everything else says that this
    trunk did not take the call, whatever the reason, and the next may.
    """
    return _all_failures_but(profile.final_statuses)


@lru_cache(maxsize=64)
def _all_failures_but(final: frozenset[int]) -> frozenset[int]:
    return frozenset(range(300, 700)) - final
