"""The in-memory table that says in microseconds who and where a caller is. Pure.

Theory of operation: each account is one immutable `AccountTable`; the `LocationTable` is a dict of them plus one
index of the PBXs' source networks. An administrator's change replaces one account's table and patches the index;
calls of other accounts never notice. Networks are kept as one dict per prefix length, so the longest prefix is at
most 33 (IPv4) look-ups away whatever their number.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engine.e911.civic import DispatchableLocation
from engine.e911.prefixes import IpAddress, PrefixIndex, is_everywhere, plain_address, plain_mac
from engine.e911.rows import (
    ELIN_HOLD_MINUTES,
    AttachedBy,
    Attachment,
    Caller,
    Confirmed,
    Line,
    Network,
    Number,
    Pbx,
    Phone,
    Sighting,
    Trunk,
)
from engine.numbers import NORTH_AMERICA, NumberPack, NumberPlan, plan_of

MAX_KEPT_PEERS = 4096
MAX_KEPT_SIGHTINGS = 200_000  # of all accounts, told since their snapshots: some 60 MB at the very worst
_NO_SIGHTINGS: Mapping[str, Sighting] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AccountTable:
    """All of one account that a call needs, immutable. `faults`: entries of the snapshot that could not be read.

    `trunk_groups`: trunks by the identifier of their group, first to try first; `trunk_group_id`: the group of calls
    from locations that name none.
    """

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
    elin_hold_minutes: int = ELIN_HOLD_MINUTES
    attachments: tuple[Attachment, ...] = ()
    numbers: tuple[Number, ...] = ()
    sightings: Mapping[str, Sighting] = field(default_factory=dict)
    confirmed: tuple[Confirmed, ...] = ()
    faults: tuple[str, ...] = ()
    trunk_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trunk_group_id: str | None = None
    number_plan: NumberPlan = field(init=False, repr=False, compare=False)
    _subnets: PrefixIndex[Network] = field(default_factory=PrefixIndex, init=False, repr=False, compare=False)
    _phone_of_mac: dict[str, Phone] = field(default_factory=dict, init=False, repr=False, compare=False)
    _phones_of_line: dict[str, tuple[Phone, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lines_of_name: dict[str, tuple[Line, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _line_of_id: dict[str, Line] = field(default_factory=dict, init=False, repr=False, compare=False)
    _attached: dict[AttachedBy, dict[str, tuple[Attachment, ...]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _confirmed_by: dict[str, tuple[Confirmed, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _number_of_e164: dict[str, Number] = field(default_factory=dict, init=False, repr=False, compare=False)
    _line_of_number: dict[str, Line] = field(default_factory=dict, init=False, repr=False, compare=False)
    _direct_of_line: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _pools: dict[str, tuple[Number, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    # numbers that callers without one of their own are called back by: a place's, the account's
    general_numbers: frozenset[str] = field(default=frozenset(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        general = {self.callback_number, *(each.callback_number for each in self.locations.values())}
        object.__setattr__(self, "general_numbers", frozenset(each for each in general if each))
        countries = {location.civic_address.get("country") for location in self.locations.values()}
        object.__setattr__(self, "number_plan", plan_of([self.country, *sorted(countries)]))
        for network in self.networks:
            self._subnets.add(network.subnet, network)
        for phone in self.phones:
            self._phone_of_mac[phone.mac] = phone
            for line_id in phone.line_ids:
                self._phones_of_line[line_id] = (*self._phones_of_line.get(line_id, ()), phone)
        for line in self.lines:
            self._line_of_id[line.id] = line
            if line.callback_number:
                self._line_of_number.setdefault(line.callback_number, line)
            for name in {line.sip_user.lower(), line.extension.lower()} - {""}:
                self._lines_of_name[name] = (*self._lines_of_name.get(name, ()), line)
        for attachment in self.attachments:
            level = self._attached.setdefault(attachment.by, {})
            level[attachment.value] = (*level.get(attachment.value, ()), attachment)
        for confirmed in self.confirmed:
            for owner in {confirmed.phone_id, confirmed.line_id} - {None}:
                assert owner is not None
                self._confirmed_by[owner] = (*self._confirmed_by.get(owner, ()), confirmed)
        for number in sorted(self.numbers, key=lambda each: each.e164):
            self._number_of_e164[number.e164] = number
            if number.kind == "elin" and number.location_id:
                self._pools[number.location_id] = (*self._pools.get(number.location_id, ()), number)
            elif number.line_id:
                self._direct_of_line.setdefault(number.line_id, number.e164)

    def dissolve(self) -> list[list[object]]:
        """Empty the indexes and hand back the rows, for whoever frees them a few at a time.

        Freeing a hundred thousand rows at once would hold up a call for tens of milliseconds. The table is of no use
        after it.
        """
        rows: list[list[object]] = [list(self.phones), list(self.lines), list(self.networks), list(self.attachments)]
        rows += [list(self.numbers), list(self.confirmed), list(self.sightings.values()), list(self.locations.values())]
        self._subnets.clear()
        indexes: list[dict[str, Any]] = [self._phone_of_mac, self._phones_of_line, self._lines_of_name]
        indexes += [self._line_of_id, *self._attached.values(), self._confirmed_by, self._number_of_e164]
        indexes += [self._line_of_number, self._direct_of_line, self._pools]
        for index in indexes:
            while index:
                index.popitem()
        return rows

    def phone_by_mac(self, mac: str) -> Phone | None:
        """The phone with that MAC (12 lower-case hexadecimal digits)."""
        return self._phone_of_mac.get(mac)

    def is_extension(self, digits: str) -> bool:
        """Whether a line is called by exactly these digits."""
        return digits.lower() in self._lines_of_name

    def line_named(self, name: str, pbx_id: str | None) -> Line | None:
        """The line with that sip_user or extension: this PBX's own first, then one of no PBX, then the only one there
        is.

        Two lines that fit equally well are no answer: a wrong address is worse than the next rung.
        """
        found = self._lines_of_name.get(name.lower(), ())
        if not found:
            return None
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

    def direct_number_for(self, phone: Phone | None, line: Line | None) -> str | None:
        """A number that is the caller's own: the line's, else its phone's first line's."""
        first = self._line_of_id.get(phone.line_ids[0]) if phone is not None and phone.line_ids else None
        for own in (line, first):
            if own is not None and (number := own.callback_number or self._direct_of_line.get(own.id)):
                return number
        return None

    def callback_number_for(
        self, phone: Phone | None, line: Line | None, location: DispatchableLocation | None
    ) -> str | None:
        """The number that reaches the caller back: the line's, its phone's first line's, the location's, the
        account's.
        """
        direct = self.direct_number_for(phone, line)
        if direct:
            return direct
        if location is not None and location.callback_number:
            return location.callback_number
        return self.callback_number

    def network_of(self, address: IpAddress, pbx_id: str | None) -> Network | None:
        """The narrowest subnet around the address that holds for callers of this PBX.

        A subnet bound to that PBX comes before any bound to none, however narrow: private ranges repeat between sites,
        and the PBX says which site this one is of. None around a link-local address: every link has the same.
        """
        unbound: Network | None = None
        if is_everywhere(address):
            return None
        for _, networks in self._subnets.matches(address):
            for network in networks:
                if network.location_id not in self.locations:
                    continue
                if network.pbx_id is None:
                    unbound = unbound or network
                elif network.pbx_id == pbx_id:
                    return network
        return unbound

    def has_attachments(self, by: AttachedBy) -> bool:
        """Whether somebody here says of switches, ports or access points where they are."""
        return bool(self._attached.get(by))

    def attachment_of(self, by: AttachedBy, value: str, pbx_id: str | None) -> Attachment | None:
        """The switch, switch port or access point of that name; one bound to this PBX before one bound to none."""
        level = self._attached.get(by)
        if level is None:
            return None
        unbound: Attachment | None = None
        for attachment in level.get(value, ()):
            if attachment.location_id not in self.locations:
                continue
            if attachment.pbx_id is None:
                unbound = unbound or attachment
            elif attachment.pbx_id == pbx_id:
                return attachment
        return unbound

    def confirmed_by(self, phone: Phone | None, line: Line | None) -> list[Confirmed]:
        """The addresses confirmed for that phone, then those for that line, each once, the latest first."""
        found: dict[str, Confirmed] = {}
        for owner in (phone, line):
            rows = self._confirmed_by.get(owner.id, ()) if owner is not None else ()
            found |= {row.id: row for row in sorted(rows, key=lambda row: row.confirmed_at, reverse=True)}
        return list(found.values())

    def trunk_group_for(self, location: DispatchableLocation | None) -> tuple[str, ...]:
        """The trunks that a call from there takes first, by identifier: the location's group, else the account's.

        A group that is gone or holds nothing counts as none. Only an address of the account's own has a group: what a
        caller brought names none, whatever it is called.
        """
        own = self.locations.get(location.id) if location is not None else None
        named = self.trunk_groups.get(own.trunk_group_id or "", ()) if own is not None else ()
        return named or self.trunk_groups.get(self.trunk_group_id or "", ())

    def number_of(self, e164: str) -> Number | None:
        """The account's number in that spelling (`+` and digits)."""
        return self._number_of_e164.get(e164)

    def line_with_number(self, e164: str) -> Line | None:
        """The line whose own number it is, by the line's row or by the number's."""
        number = self._number_of_e164.get(e164)
        named = self._line_of_id.get(number.line_id) if number is not None and number.line_id else None
        return named or self._line_of_number.get(e164)

    def pool_of(self, location_id: str) -> tuple[Number, ...]:
        """The numbers that are lent to calls from a location (ELINs), by number."""
        return self._pools.get(location_id, ())


Owners = tuple[tuple[AccountTable, Pbx], ...]


class LocationTable:
    """Every account's table, and which PBX a packet comes from. Patched account by account, on the loop's own thread.

    `last_resorts`: every account's enabled trunks of last resort, best first.
    """

    __slots__ = (
        "_names", "_overlay", "_owners", "_packs", "_plan", "_sighted", "_sources", "_trunks", "_users", "accounts",
        "last_resorts",
    )  # fmt: skip

    def __init__(self) -> None:
        self.accounts: dict[str, AccountTable] = {}
        self.last_resorts: tuple[Trunk, ...] = ()
        self._overlay: dict[str, dict[str, Sighting]] = {}
        self._sighted: OrderedDict[tuple[str, str], None] = OrderedDict()  # who is in the overlay, the oldest first
        self._sources: PrefixIndex[tuple[str, str]] = PrefixIndex()
        self._owners: dict[str, Owners] = {}  # answers given since the last change, by address as written
        self._trunks: dict[str, Trunk] = {}
        self._names: dict[str, list[tuple[str, str]]] = {}  # name in a client certificate -> (account, PBX)
        self._packs: Counter[NumberPack] = Counter()  # how many accounts dial each country's numbers
        self._plan: NumberPlan | None = None  # made of them when it is asked for
        self._users: dict[str, list[tuple[str, str]]] = {}  # digest user -> (account, PBX)

    def put(self, account: AccountTable) -> None:
        """Take an account's new table in the place of its old one."""
        old = self._forget(account.account_id)
        self.accounts[account.account_id] = account
        for pbx in account.pbxs.values():
            for source in pbx.sources:
                self._sources.add(source, (account.account_id, pbx.id))
            for index, name in ((self._names, pbx.tls_name), (self._users, pbx.auth_user)):
                if name:
                    index[name] = sorted([*index.get(name, ()), (account.account_id, pbx.id)])
        self._trunks |= {trunk.id: trunk for trunk in account.trunks}
        self._count_packs(account, 1)
        self._rank_last_resorts(old.trunks if old else (), account.trunks)
        self._owners.clear()

    def drop(self, account_id: str) -> None:
        """Forget an account; an unknown one is ignored."""
        old = self._forget(account_id)
        self._rank_last_resorts(old.trunks if old else (), ())
        self._owners.clear()

    def note_sighting(self, account_id: str, sighting: Sighting) -> None:
        """Keep what was told of a phone since its account's snapshot. What a snapshot has by now is let go, a few each
        time.
        """
        key = (account_id, sighting.phone_id)
        known = self._overlay.setdefault(account_id, {})
        if (old := known.get(sighting.phone_id)) is not None and old.seen_at > sighting.seen_at:
            return
        known[sighting.phone_id] = sighting
        self._sighted[key] = None
        self._sighted.move_to_end(key)
        for _ in range(4):
            first = next(iter(self._sighted))
            if first == key:
                return
            if self._is_stored(*first) or len(self._sighted) > MAX_KEPT_SIGHTINGS:
                del self._sighted[first]
                self._overlay[first[0]].pop(first[1], None)
            else:
                self._sighted.move_to_end(first)  # not in any snapshot yet: looked at again in its turn

    def overlay_of(self, account_id: str) -> Mapping[str, Sighting]:
        """Sightings told since the account's snapshot, by phone; some may be older than the snapshot's own."""
        return self._overlay.get(account_id, _NO_SIGHTINGS)

    def _is_stored(self, account_id: str, phone_id: str) -> bool:
        account = self.accounts.get(account_id)
        stored = account.sightings.get(phone_id) if account is not None else None
        return account is None or (stored is not None and stored.seen_at >= self._overlay[account_id][phone_id].seen_at)

    def owners_of(self, ip: str) -> Owners:
        """`owners_at` for an address as the socket names it; asked several times per request, so answers are kept."""
        try:
            return self._owners[ip]
        except KeyError:
            address = plain_address(ip)
        if len(self._owners) >= MAX_KEPT_PEERS:  # strangers flooding from everywhere
            self._owners.clear()
        owners = self._owners[ip] = self.owners_at(address) if address is not None else ()
        return owners

    def owners_at(self, address: IpAddress) -> Owners:
        """The accounts and PBXs whose longest source network holds the address, the oldest first; () for a stranger.

        Several may hold the same network when each has another way to prove itself (design decision 16), and one
        account's may lie inside another's then: those of the wider one come behind.
        """
        found: list[tuple[str, str]] = []
        for _, owners in self._sources.matches(address):
            accounts = {account_id for account_id, _ in found}
            found += sorted(owner for owner in owners if owner[0] not in accounts)  # identifiers sort by time of making
            if not all(self._proves_itself(*owner) for owner in found):
                break
        return self._rows(found)

    def _proves_itself(self, account_id: str, pbx_id: str) -> bool:
        pbx = self.accounts[account_id].pbxs[pbx_id]
        return bool(pbx.tls_name or pbx.auth_user)

    def trunk(self, trunk_id: str) -> Trunk | None:
        """The trunk with that identifier, of whatever account."""
        return self._trunks.get(trunk_id)

    def named(self, tls_name: str) -> Owners:
        """The PBXs that prove themselves by this name in their certificate."""
        return self._rows(self._names.get(tls_name, ()))

    def user(self, auth_user: str) -> Owners:
        """The PBXs with that digest user: one, unless two accounts were given the same."""
        return self._rows(self._users.get(auth_user, ()))

    @property
    def has_users(self) -> bool:
        """Is there any PBX that can prove itself by digest?"""
        return bool(self._users)

    @property
    def numbers(self) -> NumberPlan:
        """What any account's phones may dial: of a peer that nobody knows it may be the PBX of any."""
        if self._plan is None:
            self._plan = NumberPlan(tuple(self._packs) or (NORTH_AMERICA,))
        return self._plan

    def _count_packs(self, account: AccountTable, by: int) -> None:
        for pack in account.number_plan.packs:
            was = self._packs[pack]
            self._packs[pack] = was + by
            if not was + by:
                del self._packs[pack]
            if not (was and was + by):
                self._plan = None

    def peer_of(self, ip: str) -> tuple[AccountTable, Pbx] | None:
        """The oldest of `owners_of`; None: a stranger."""
        owners = self.owners_of(ip)
        return owners[0] if owners else None

    def _rows(self, owners: Iterable[tuple[str, str]]) -> Owners:
        return tuple(
            (self.accounts[account_id], self.accounts[account_id].pbxs[pbx_id]) for account_id, pbx_id in owners
        )

    def _forget(self, account_id: str) -> AccountTable | None:
        old = self.accounts.pop(account_id, None)
        if old is not None:
            self._count_packs(old, -1)
        for trunk in old.trunks if old else ():
            self._trunks.pop(trunk.id, None)
        for pbx in old.pbxs.values() if old else ():
            for source in pbx.sources:
                self._sources.remove(source, (account_id, pbx.id))
            for index, name in ((self._names, pbx.tls_name), (self._users, pbx.auth_user)):
                if name and (left := [owner for owner in index.get(name, ()) if owner != (account_id, pbx.id)]):
                    index[name] = left
                else:
                    index.pop(name, None)
        return old

    def _rank_last_resorts(self, old: tuple[Trunk, ...], new: tuple[Trunk, ...]) -> None:
        gone = {trunk.id for trunk in old}
        kept = [trunk for trunk in self.last_resorts if trunk.id not in gone]
        fresh = [trunk for trunk in new if trunk.last_resort and trunk.enabled]
        self.last_resorts = tuple(sorted(kept + fresh, key=lambda trunk: (trunk.priority, trunk.id)))
