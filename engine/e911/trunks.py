"""Which trunks there are, where they are, and which of them answer.

The hook reads `down` and `ips`; the SIP process asks `take_due` whom to ping and reports what came of pings and
calls. What is asked for in a call's way, or again and again, is made once when the table changes.
"""

from collections.abc import Callable, Collection

from engine.e911.location import LocationTable, plain_address
from engine.sip.forward import Hop
from engine.sip.resolve import Resolver

Name = tuple[str, int | None, str]
"""(host, port, transport) as configured."""

MAX_STANDING_HOPS = 3  # addresses of one name that calls go to, see `engine.e911.route`
STALLED_S = (
    300.0  # how long one that said 100 and nothing more to a 911 call is tried last: its pings prove its edge alone
)
SPEAKS_FOR_S = 1800.0  # how long a call that a trunk answered speaks for it, though it answers no OPTIONS
BEHIND_S = 300.0  # how long one that is not asked comes behind others after a call it did not answer
UNASKED = "OPTIONS is not sent to it: it counts as answering until a call finds otherwise"
MAX_PINGS_AT_ONCE = 32  # a thousand trunks are asked one group after the other, not in one go between two calls


class TrunkWatch:
    """Follows the trunks of the table.

    `down`: identifiers of trunks that do not answer; `stalled`: those among them whose edge does, and what is behind it
    did not; `ips`: addresses of all trunks; `route_ips`: addresses that default routes lead to. All are changed in
    place.

    Args:
        ping_s: How often a trunk is asked whether it lives; 0 never asks.
        on_change: Told (account_id, trunk_id, is_up, detail) when a trunk is first heard of, comes up or goes down, for
            people to read. Many carriers answer no OPTIONS: while a call of the last half hour was answered, silence to
            them is not told. It still puts the trunk behind others (`down`), unless it is one that shall not be asked
            (`Trunk.pings`): of such only calls tell anything.
    """

    def __init__(
        self,
        table: LocationTable,
        resolver: Resolver,
        *,
        ping_s: float,
        on_change: Callable[[str, str, bool, str], None],
    ) -> None:
        self._table, self._resolver, self._ping_s, self._on_change = table, resolver, ping_s, on_change
        self.down: set[str] = set()
        self.stalled: set[str] = set()
        self._stalled_until: dict[str, float] = {}
        self.ips: set[str] = set()
        self.route_ips: set[str] = set()
        self._up: dict[str, bool] = {}
        self._told: dict[str, bool] = {}
        self._answered_at: dict[str, float] = {}  # the latest call it answered
        self._owner: dict[str, str] = {}  # trunk -> account
        self._at: dict[Name, list[str]] = {}  # trunks behind one name
        self._asked: dict[Name, list[str]] = {}  # those of them that are asked, once for all
        self._unasked: set[str] = set()
        self._behind_until: dict[str, float] = {}  # of those that are not asked
        self._due: dict[Name, float] = {}
        self._routes: set[Name] = set()
        self._literals: dict[Name, str] = {}
        self._hops: tuple[set[Hop], set[Hop]] = (set(), set())
        self._hops_of_version = -1

    def follow_table(self, routes: set[Name]) -> None:
        """Take over what the table names now. `routes`: where default routes lead."""
        before = self._at.keys() | self._routes
        self._at, self._asked, self._owner, unasked = {}, {}, {}, set()
        for account in self._table.accounts.values():
            for trunk in account.trunks:
                if trunk.enabled:
                    self._owner[trunk.id] = account.account_id
                    name: Name = (trunk.host, trunk.port, trunk.transport)
                    self._at.setdefault(name, []).append(trunk.id)
                    if trunk.pings:
                        self._asked.setdefault(name, []).append(trunk.id)
                    else:
                        unasked.add(trunk.id)
        self._routes = routes
        self._hops_of_version = -1
        now = self._at.keys() | routes
        for name in now - before:
            self._resolver.watch(*name)
        for name in before - now:
            self._resolver.forget(*name)
            self._literals.pop(name, None)
        self._due = {name: self._due.get(name, 0.0) for name in self._asked}
        self.down.intersection_update(self._owner)
        self.stalled.intersection_update(self._owner)
        self._stalled_until = {trunk_id: self._stalled_until[trunk_id] for trunk_id in self.stalled}
        self._up = {trunk_id: is_up for trunk_id, is_up in self._up.items() if trunk_id in self._owner}
        self._told = {trunk_id: is_up for trunk_id, is_up in self._told.items() if trunk_id in self._owner}
        self._answered_at = {trunk_id: at for trunk_id, at in self._answered_at.items() if trunk_id in self._owner}
        self._behind_until = {trunk_id: at for trunk_id, at in self._behind_until.items() if trunk_id in unasked}
        fresh, self._unasked = unasked - self._unasked, unasked
        for trunk_id in fresh:
            self._ordered(trunk_id, is_up=True)
            self._tell(trunk_id, is_up=True, detail=UNASKED)
        self.refresh_ips()

    def refresh_ips(self) -> None:
        """Take over the addresses of names that were looked up since; an IP address never moves."""
        _replace(self.ips, self._addresses(self._at))
        _replace(self.route_ips, self._addresses(self._routes))

    def take_due(self, now: float) -> list[tuple[Name, Hop]]:
        """The trunks to be pinged now, at their first address."""
        for trunk_id in [trunk_id for trunk_id, until in self._stalled_until.items() if until <= now]:
            self._clear(trunk_id, f"{STALLED_S / 60:.0f} minutes have passed since it left a call at 100")
        for trunk_id in [trunk_id for trunk_id, until in self._behind_until.items() if until <= now]:
            del self._behind_until[trunk_id]
            self._ordered(trunk_id, is_up=True)
            self._tell(trunk_id, is_up=True, detail=f"{BEHIND_S / 60:.0f} minutes have passed since a call failed")
        due: list[tuple[Name, Hop]] = []
        for name, at in self._due.items() if self._ping_s > 0 else ():
            if at > now:
                continue
            hops = self._resolver.hops(*name)
            if hops:
                self._due[name] = now + self._ping_s
                due.append((name, hops[0]))
            if len(due) >= MAX_PINGS_AT_ONCE:
                break
        return due

    def hops(self) -> tuple[set[Hop], set[Hop]]:
        """Where calls go by a stream, whose connections should stand, and where by UDP: first addresses only. The same
        sets as before when nothing changed.
        """
        if self._hops_of_version == self._resolver.version:
            return self._hops
        self._hops_of_version = self._resolver.version
        streams: set[Hop] = set()
        datagrams: set[Hop] = set()
        for name in self._at.keys() | self._routes:
            for hop in self._resolver.hops(*name)[:MAX_STANDING_HOPS]:
                (datagrams if hop.transport == "udp" else streams).add(hop)
        self._hops = streams, datagrams
        return self._hops

    def pinged(self, name: Name, status: int | None, now: float, why: str = "") -> None:
        """Any answer but 503 is a sign of life (RFC 3261 §11). `why`: what kept a connection from standing."""
        detail = f"OPTIONS answered {status}" if status else "OPTIONS was not answered"
        if not status and why:
            detail = f"{detail}: {why}"
        for trunk_id in self._asked.get(name, ()):
            self._ordered(trunk_id, is_up=status is not None and status != 503)
            answered_at = self._answered_at.get(trunk_id)
            if status or why or answered_at is None or now - answered_at >= SPEAKS_FOR_S:
                self._tell(trunk_id, is_up=status is not None and status != 503, detail=detail)

    def called(self, trunk_id: str, now: float, *, is_up: bool, detail: str) -> None:
        """A call found the trunk answering or not; an unknown trunk is ignored."""
        if trunk_id not in self._owner:
            return
        if is_up:
            self._answered_at[trunk_id] = now
            self._behind_until.pop(trunk_id, None)
        else:
            self._answered_at.pop(trunk_id, None)
            if trunk_id in self._unasked:
                self._behind_until[trunk_id] = now + BEHIND_S
        self._ordered(trunk_id, is_up=is_up)
        self._tell(trunk_id, is_up=is_up, detail=detail)

    def stalls(self, trunk_id: str, now: float) -> None:
        """An emergency call heard 100 from it and nothing more. Its edge lives and would come first again at the next
        ping, and each call would wait as long: it is tried last for `STALLED_S`, or until a call progresses by it.
        """
        if trunk_id not in self._owner:
            return
        self._stalled_until[trunk_id] = now + STALLED_S
        self.stalled.add(trunk_id)
        self.down.add(trunk_id)
        self._answered_at.pop(trunk_id, None)
        detail = f"a call heard 100 and nothing more; it is tried last for {STALLED_S / 60:.0f} minutes"
        self._tell(trunk_id, is_up=False, detail=detail)

    def progressed(self, trunk_id: str) -> None:
        """A call rang by it, or was answered: what is behind its edge lives too."""
        if trunk_id in self.stalled:
            self._up[trunk_id] = True
            self._clear(trunk_id, "a call progressed")

    def _clear(self, trunk_id: str, detail: str) -> None:
        """It has the place again that its pings give it."""
        del self._stalled_until[trunk_id]
        self.stalled.discard(trunk_id)
        if self._up.get(trunk_id) is not False:
            self.down.discard(trunk_id)
            self._tell(trunk_id, is_up=True, detail=detail)

    def _ordered(self, trunk_id: str, *, is_up: bool) -> None:
        """What routing goes by: whatever was heard last."""
        if self._up.get(trunk_id) is not is_up:
            self._up[trunk_id] = is_up
            if trunk_id not in self.stalled:
                (self.down.discard if is_up else self.down.add)(trunk_id)

    def _tell(self, trunk_id: str, *, is_up: bool, detail: str) -> None:
        """What pages say, told once for each change. Of one that is stalled no ping says that it answers."""
        if is_up and trunk_id in self.stalled:
            return
        if self._told.get(trunk_id) is not is_up:
            self._told[trunk_id] = is_up
            self._on_change(self._owner[trunk_id], trunk_id, is_up, detail)

    def _addresses(self, names: Collection[Name]) -> set[str]:
        """Names that are addresses are read once; only real names are asked for again."""
        found: set[str] = set()
        for name in names:
            ip = self._literals.get(name)
            if ip is None:
                hops = self._resolver.hops(*name)
                found.update(hop.ip for hop in hops)
                if plain_address(name[0]) is not None:
                    self._literals[name] = hops[0].ip
            else:
                found.add(ip)
        return found


def _replace(kept: set[str], new: set[str]) -> None:
    if kept != new:
        kept.intersection_update(new)
        kept.update(new)
