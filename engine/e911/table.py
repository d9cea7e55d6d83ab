"""The in-memory table that says in microseconds who and where a caller is. Pure.

Theory of operation: each account is one immutable `AccountTable`; the `LocationTable` is a dict of them plus one
index of the PBXs' source networks. An administrator's change replaces one account's table and patches the index;
calls of other accounts never notice. Networks are kept as one dict per prefix length, so the longest prefix is at
most 33 (IPv4) look-ups away whatever their number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engine.e911.civic import DispatchableLocation
from engine.e911.evidence import Resolved, Rung, Source
from engine.e911.prefixes import IpAddress, PrefixIndex, plain_address, plain_mac
from engine.e911.rows import Caller, Line, Network, Pbx, Phone, Trunk

MAX_KEPT_PEERS = 4096


@dataclass(frozen=True, slots=True)
class AccountTable:
    """All of one account that a call needs, immutable. `faults`: entries of the snapshot that could not be read."""

    account_id: str
    revision: int = 0
    name: str = ""
    country: str = "US"
    timezone: str = "UTC"
    language: str = "en"
    default_location_id: str | None = None
    callback_number: str | None = None
    locations: Mapping[str, DispatchableLocation] = field(default_factory=dict)
    networks: tuple[Network, ...] = ()
    phones: tuple[Phone, ...] = ()
    lines: tuple[Line, ...] = ()
    pbxs: Mapping[str, Pbx] = field(default_factory=dict)
    trunks: tuple[Trunk, ...] = ()
    faults: tuple[str, ...] = ()
    _subnets: PrefixIndex[Network] = field(default_factory=PrefixIndex, init=False, repr=False, compare=False)
    _phone_of_mac: dict[str, Phone] = field(default_factory=dict, init=False, repr=False, compare=False)
    _phones_of_line: dict[str, tuple[Phone, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lines_of_name: dict[str, tuple[Line, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _line_of_id: dict[str, Line] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for network in self.networks:
            self._subnets.add(network.subnet, network)
        for phone in self.phones:
            self._phone_of_mac[phone.mac] = phone
            for line_id in phone.line_ids:
                self._phones_of_line[line_id] = (*self._phones_of_line.get(line_id, ()), phone)
        for line in self.lines:
            self._line_of_id[line.id] = line
            for name in {line.sip_user.lower(), line.extension.lower()} - {""}:
                self._lines_of_name[name] = (*self._lines_of_name.get(name, ()), line)

    def dissolve(self) -> list[list[object]]:
        """Empty the indexes and hand back the rows, for whoever frees them a few at a time.

        Freeing a hundred thousand rows at once would hold up a call for tens of milliseconds. The table is of no use
        after it.
        """
        rows: list[list[object]] = [list(self.phones), list(self.lines), list(self.networks)]
        self._subnets.clear()
        for index in (self._phone_of_mac, self._phones_of_line, self._lines_of_name, self._line_of_id):
            while index:
                index.popitem()
        return rows

    def phone_by_mac(self, mac: str) -> Phone | None:
        """The phone with that MAC (12 lower-case hexadecimal digits)."""
        return self._phone_of_mac.get(mac)

    def line_named(self, name: str, pbx_id: str | None) -> Line | None:
        """The line with that sip_user or extension: this PBX's own first, then one of no PBX, then the only one there
        is.

        Two lines that fit equally well are no answer: a wrong address is worse than the next rung.
        """
        found = self._lines_of_name.get(name.lower(), ())
        for fits in (pbx_id, None):
            owned = [line for line in found if line.pbx_id == fits]
            exact = [line for line in owned if line.sip_user.lower() == name.lower()]
            if len(exact or owned) == 1:
                return (exact or owned)[0]
        return found[0] if len(found) == 1 else None

    def who(self, caller: Caller, pbx_id: str | None) -> tuple[Phone | None, Line | None]:
        """Which phone and line is calling. A line on several phones counts as the phone the peer names, else as no
        phone.
        """
        mac = plain_mac(caller.device)
        phone = self._phone_of_mac.get(mac) if mac else None
        named = caller.device if caller.device and phone is None else caller.identity
        line = self.line_named(named, pbx_id) or self.line_named(caller.identity, pbx_id)
        if line is None and phone is not None and phone.line_ids:
            line = self._line_of_id.get(phone.line_ids[0])
        if phone is None and line is not None:
            holders = self._phones_of_line.get(line.id, ())
            phone = holders[0] if len(holders) == 1 else None
        return phone, line

    def callback_number_for(
        self, phone: Phone | None, line: Line | None, location: DispatchableLocation | None
    ) -> str | None:
        """The number that reaches the caller back: the line's, its phone's first line's, the location's, the
        account's.
        """
        if line is not None and line.callback_number:
            return line.callback_number
        first = self._line_of_id.get(phone.line_ids[0]) if phone is not None and phone.line_ids else None
        if first is not None and first.callback_number:
            return first.callback_number
        if location is not None and location.callback_number:
            return location.callback_number
        return self.callback_number

    def network_of(self, address: IpAddress, pbx_id: str | None) -> Network | None:
        """The narrowest subnet around the address that holds for callers of this PBX; its own before one of no PBX."""
        for _, networks in self._subnets.matches(address):
            for fits in (pbx_id, None):
                found = next((network for network in networks if network.pbx_id == fits), None)
                if found is not None and found.location_id in self.locations:
                    return found
        return None

    def resolve(self, caller: Caller, now: datetime, *, pbx: Pbx | None = None) -> Resolved:
        """Find the dispatchable location to send with a 911 call. Never fails, never waits.

        Order: subnet of the phone's own address, the phone's location, the line's, the PBX default, the account
        default.

        Args:
            caller: Who a trusted peer says is calling.
            now: UTC. A location validated more than `STALE_AFTER` ago is used but flagged.
            pbx: The trusted peer; None: the request came from no PBX, so that there is no PBX default.
        """
        phone, line = self.who(caller, pbx.id if pbx else None)
        rungs = self._rungs(caller, phone, line, pbx)
        taken = next((rung for rung in rungs if rung.location is not None), None)
        location = taken.location if taken else None
        return Resolved(location, taken.source if taken else Source.NONE, phone, line, rungs, now)

    def _rungs(self, caller: Caller, phone: Phone | None, line: Line | None, pbx: Pbx | None) -> tuple[Rung, ...]:
        network = self.network_of(caller.source_ip, pbx.id if pbx else None) if caller.source_ip else None
        if network is not None:
            subnet_why = f"{caller.source_ip} is in {network.subnet}"
        else:
            unheld = f"no network holds {caller.source_ip}"
            subnet_why = unheld if caller.source_ip else "the phone's own address was not given"
        phone_why = f"phone {phone.mac}" if phone else "the request names no known phone"
        line_why = f"line {line.sip_user}" if line else "the caller is no known line"
        pbx_why = f"PBX {pbx.name}" if pbx else "no PBX"
        return (
            self._rung(Source.SUBNET, network.location_id if network else None, subnet_why),
            self._rung(Source.PHONE, phone.location_id if phone else None, phone_why),
            self._rung(Source.LINE, line.location_id if line else None, line_why),
            self._rung(Source.PBX_DEFAULT, pbx.default_location_id if pbx else None, pbx_why),
            self._rung(Source.ACCOUNT_DEFAULT, self.default_location_id, f"account {self.name}"),
        )

    def _rung(self, source: Source, location_id: str | None, why: str) -> Rung:
        location = self.locations.get(location_id) if location_id else None
        if location is not None and not location.can_be_conveyed:
            return Rung(source, None, f"{why}; {location.name} has neither an address nor coordinates")
        return Rung(source, location, why)


class LocationTable:
    """Every account's table, and which PBX a packet comes from. Patched account by account, on the loop's own thread.

    `last_resorts`: every account's enabled trunks of last resort, best first.
    """

    __slots__ = ("_peers", "_sources", "accounts", "last_resorts")

    def __init__(self) -> None:
        self.accounts: dict[str, AccountTable] = {}
        self.last_resorts: tuple[Trunk, ...] = ()
        self._sources: PrefixIndex[tuple[str, str]] = PrefixIndex()
        self._peers: dict[
            str, tuple[AccountTable, Pbx] | None
        ] = {}  # answers given since the last change, by address as written

    def put(self, account: AccountTable) -> None:
        """Take an account's new table in the place of its old one."""
        old = self._forget(account.account_id)
        self.accounts[account.account_id] = account
        for pbx in account.pbxs.values():
            for source in pbx.sources:
                self._sources.add(source, (account.account_id, pbx.id))
        self._rank_last_resorts(old.trunks if old else (), account.trunks)
        self._peers.clear()

    def drop(self, account_id: str) -> None:
        """Forget an account; an unknown one is ignored."""
        old = self._forget(account_id)
        self._rank_last_resorts(old.trunks if old else (), ())
        self._peers.clear()

    def peer_of(self, ip: str) -> tuple[AccountTable, Pbx] | None:
        """`peer_at` for an address as the socket names it; asked several times per request, so answers are kept."""
        try:
            return self._peers[ip]
        except KeyError:
            address = plain_address(ip)
        if len(self._peers) >= MAX_KEPT_PEERS:  # strangers flooding from everywhere
            self._peers.clear()
        peer = self._peers[ip] = self.peer_at(address) if address is not None else None
        return peer

    def peer_at(self, address: IpAddress) -> tuple[AccountTable, Pbx] | None:
        """The account and PBX whose longest source network holds the address; None: a stranger.

        Two accounts may not hold the same network; should it happen, the older account keeps it.
        """
        for _, owners in self._sources.matches(address):
            account_id, pbx_id = min(owners)  # identifiers sort by time of making
            account = self.accounts[account_id]
            return account, account.pbxs[pbx_id]
        return None

    def _forget(self, account_id: str) -> AccountTable | None:
        old = self.accounts.pop(account_id, None)
        for pbx in old.pbxs.values() if old else ():
            for source in pbx.sources:
                self._sources.remove(source, (account_id, pbx.id))
        return old

    def _rank_last_resorts(self, old: tuple[Trunk, ...], new: tuple[Trunk, ...]) -> None:
        gone = {trunk.id for trunk in old}
        kept = [trunk for trunk in self.last_resorts if trunk.id not in gone]
        fresh = [trunk for trunk in new if trunk.last_resort and trunk.enabled]
        self.last_resorts = tuple(sorted(kept + fresh, key=lambda trunk: (trunk.priority, trunk.id)))
