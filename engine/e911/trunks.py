"""Which trunks there are, where they are, and which of them answer.

The hook reads `down` and `ips`; the SIP process asks `take_due` whom to ping and reports what came of pings and calls.
"""

from collections.abc import Callable

from engine.e911.location import LocationTable, Trunk
from engine.sip.forward import Hop
from engine.sip.resolve import Resolver

Name = tuple[str, int | None, str]
"""(host, port, transport) as configured."""


class TrunkWatch:
    """Follows the trunks of the table.

    `down`: identifiers of trunks that do not answer; `ips`: addresses of all trunks; `route_ips`: addresses that
    default routes lead to. All are changed in place.

    Args:
        ping_s: How often a trunk is asked whether it lives; 0 never asks.
        on_change: Told (account_id, trunk_id, is_up, detail) when a trunk is first heard of, comes up or goes down.
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
        self.ips: set[str] = set()
        self.route_ips: set[str] = set()
        self._up: dict[str, bool] = {}
        self._due: dict[Name, float] = {}
        self._routes: set[Name] = set()

    def follow_table(self, routes: set[Name]) -> None:
        """Take over what the table names now. `routes`: where default routes lead."""
        names = set(self._trunks())
        for name in names | routes:
            self._resolver.watch(*name)
        for gone in (set(self._due) | self._routes) - names - routes:
            self._resolver.forget(*gone)
        self._routes = routes
        self._due = {name: self._due.get(name, 0.0) for name in names}
        known = {trunk.id for _, trunk in self._all()}
        self.down &= known
        self._up = {trunk_id: is_up for trunk_id, is_up in self._up.items() if trunk_id in known}
        self.refresh_ips()

    def refresh_ips(self) -> None:
        """Names resolve in the background; their addresses are trusted from then on."""
        for ips, names in ((self.ips, self._due), (self.route_ips, self._routes)):
            found = {hop.ip for name in names for hop in self._resolver.hops(*name)}
            ips.intersection_update(found)
            ips.update(found)

    def take_due(self, now: float) -> list[tuple[Name, Hop]]:
        """The trunks to be pinged now, at their first address."""
        due: list[tuple[Name, Hop]] = []
        if self._ping_s <= 0:
            return due
        for name, at in self._due.items():
            hops = self._resolver.hops(*name) if at <= now else ()
            if hops:
                self._due[name] = now + self._ping_s
                due.append((name, hops[0]))
        return due

    def pinged(self, name: Name, status: int | None) -> None:
        """Any answer but 503 is a sign of life (RFC 3261 §11)."""
        detail = f"OPTIONS answered {status}" if status else "OPTIONS was not answered"
        for account_id, trunk in self._trunks().get(name, ()):
            self.seen(account_id, trunk.id, is_up=status is not None and status != 503, detail=detail)

    def seen(self, account_id: str, trunk_id: str, *, is_up: bool, detail: str) -> None:
        """A trunk answered or did not; the main process is told of changes."""
        if self._up.get(trunk_id) is is_up:
            return
        self._up[trunk_id] = is_up
        (self.down.discard if is_up else self.down.add)(trunk_id)
        self._on_change(account_id, trunk_id, is_up, detail)

    def owner_of(self, trunk_id: str) -> str | None:
        """The account a trunk belongs to."""
        return next((account_id for account_id, trunk in self._all() if trunk.id == trunk_id), None)

    def _all(self) -> list[tuple[str, Trunk]]:
        accounts = self._table.accounts.values()
        return [(account.account_id, trunk) for account in accounts for trunk in account.trunks if trunk.enabled]

    def _trunks(self) -> dict[Name, list[tuple[str, Trunk]]]:
        found: dict[Name, list[tuple[str, Trunk]]] = {}
        for account_id, trunk in self._all():
            found.setdefault((trunk.host, trunk.port, trunk.transport), []).append((account_id, trunk))
        return found
