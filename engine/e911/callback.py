"""A call that comes in from a carrier: to whom it goes (RFC 7090). Pure.

A number that an emergency call was sent with leads back to the PBX which placed that call, and to the caller there; a
line's own number to the line's PBX; a pool's number that nobody holds to the location's on-site number. A PSAP that
calls back is marked with `Priority: psap-callback`, so that the PBX rings through; nobody but a carrier may say so.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from engine.e911.caller import is_nameless
from engine.e911.lending import Lending, Loan
from engine.e911.location import AccountTable, LocationTable, Pbx
from engine.e911.route import MAX_HOPS_PER_TRUNK, Deadlines, HopsOf, credentials_of
from engine.e911.rows import Line
from engine.numbers import NORTH_AMERICA, NumberPack
from engine.sip.auth import Credentials
from engine.sip.forward import Edit, Forward, Hop, Target
from engine.sip.message import BadMessage, Request
from engine.sip.uri import bracketed, parse_name_addr, parse_uri, transport_parameter

PSAP_CALLBACK = "psap-callback"  # RFC 7090 §5
CALLER, ONSITE = "caller", "onsite"  # what a target's name begins with: who of the two was tried
# The caller could not be had: a PSAP that calls back must reach somebody there. 487 follows a CANCEL.
FAIL_OVER = frozenset(range(400, 600)) - {487}
PROGRESS_S = 20.0  # a PBX may have to wake a telephone before it rings: who called is better than the desk
_SEPARATORS = str.maketrans("", "", "-.() ")
_USER = "!*'()&=+$,;?/~"  # stands in a user part as it is, besides letters, digits and "-._" (RFC 3261 §25.1)


@dataclass(frozen=True, slots=True, eq=False)
class Callback:
    """A call from a carrier as decided: the tag of its events and the first entry of its journal.

    `psap`: from a PSAP, by its own mark or because the number was sent with an emergency call. `orphan`: the caller of
    that call is not known any more.
    """

    id: str
    account_id: str
    call: str | None
    number: str
    from_uri: str
    pbx_id: str | None
    target: str
    psap: bool
    orphan: bool
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Inbound:
    """What to do with a call from a carrier. Without `forward` it is answered with `status`."""

    status: int
    forward: Forward | None = None
    callback: Callback | None = None


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose number was called. `loan`: good still; `is_pooled`: the number is of a pool, lent or not; `is_general`: it
    is any caller's, and who called with it is not known here (another node may know).
    """

    account: AccountTable
    number: str
    loan: Loan | None
    line: Line | None
    location_id: str | None
    is_pooled: bool
    is_general: bool = False

    @property
    def callers(self) -> tuple[str, ...]:
        """Whom the PBX is to ring, best first; empty: nobody knows, or who called withheld the name."""
        users: tuple[str | None, ...] = ()
        if self.loan is not None:
            users = (self.loan.sip_user, self.loan.extension)
        elif self.line is not None:
            users = (self.line.sip_user, self.line.extension)
        return tuple(dict.fromkeys(user for user in users if user and not is_nameless(user)))


class Callbacks:
    """Finds the way of calls from carriers.

    Args:
        hops_of: Addresses known now for a host; never waits.
        names_of: The verified names in the certificate at the other end of a TLS connection, by its number.
        make_id: A fresh `callback_…` identifier.
        seen_at: Where a PBX was last, by its identifier, if it has no fixed place.
    """

    def __init__(
        self,
        table: LocationTable,
        lending: Lending,
        *,
        hops_of: HopsOf,
        names_of: Callable[[int], tuple[str, ...]],
        deadlines: Deadlines,
        make_id: Callable[[], str],
        seen_at: Callable[[str], Hop | None],
    ) -> None:
        self._table, self._lending, self._hops_of, self._names_of = table, lending, hops_of, names_of
        self._deadlines, self._make_id, self._seen_at = deadlines, make_id, seen_at

    def decide(self, request: Request, source: Hop, now: datetime, *, is_lent_alone: bool = False) -> Inbound:
        """Where a trunk's INVITE or MESSAGE goes; 404 for a number of nobody who has that trunk.

        `is_lent_alone`: the trunk's address is a PBX's as well (a proxy in front of both): then a line's own number is
        the PBX's to route, and only numbers that are lent, or of a pool, are ours.
        """
        owners = self._owners(request, source, now)
        owner = next((each for each in owners if not is_lent_alone or each.loan or each.is_pooled), None)
        is_marked = is_psap_callback(request)
        if owner is None and is_marked and not is_lent_alone:
            owner = self._only_customer(request, source)
        if owner is None:
            return Inbound(404)
        is_psap = is_marked or (owner.loan is not None and not owner.loan.is_test)
        edit = Edit(
            remove=() if is_marked or not is_psap else ("Priority",),
            add=() if is_marked or not is_psap else (("Priority", PSAP_CALLBACK),),
        )
        pbx = self._pbx_of(owner)
        targets = [*self._to_caller(owner, pbx, edit)]
        if is_psap or owner.is_pooled or owner.is_general:
            targets += self._to_onsite(owner, pbx, edit)
        callback = Callback(
            id=self._make_id(),
            account_id=owner.account.account_id,
            call=owner.loan.call or None if owner.loan is not None else None,
            number=owner.number,
            from_uri=_from_uri(request),
            pbx_id=pbx.id if pbx is not None else None,
            target=targets[0].edit.request_uri or "" if targets else "",
            psap=is_psap,
            orphan=not owner.callers and not owner.is_general,
            received_at=now,
        )
        if not targets:
            return Inbound(480, None, callback)
        is_urgent = is_psap or owner.is_pooled or owner.is_general
        forward = Forward(tuple(targets), callback, FAIL_OVER if is_urgent else frozenset({503}), emergency=is_urgent)
        return Inbound(0, forward, callback)

    # --- whose number it is -------------------------------------------------------------------------------------------

    def _owners(self, request: Request, source: Hop, now: datetime) -> Iterator[_Owner]:
        """Accounts that have the number called and take calls from that carrier; who called by it last comes first."""
        for number, packs in called_numbers(request, self._table.numbers.packs).items():
            loan = self._lending.loan_of(number, now)
            lender = self._table.accounts.get(loan.account_id) if loan is not None else None
            accounts = [lender] if lender is not None else []
            accounts += [account for account in self._table.accounts.values() if account is not lender]
            for account in accounts:
                if packs is not None and packs.isdisjoint(account.number_plan.packs):
                    continue
                owner = self._owner(account, number, loan if account is lender else None, now)
                if owner is not None and self._has_carrier(account, source):
                    yield owner

    def _owner(self, account: AccountTable, number: str, loan: Loan | None, now: datetime) -> _Owner | None:
        row, line = account.number_of(number), account.line_with_number(number)
        if row is not None and loan is None:
            latest = self._lending.holder_of(account, row)
            loan = latest if latest is not None and latest.until > now else None
        is_general = row is None and line is None and loan is None
        if is_general and number not in account.general_numbers:
            return None
        location_id = (loan.location_id if loan is not None else None) or (row.location_id if row is not None else None)
        location_id = location_id or (line.location_id if line is not None else None)
        is_pooled = row is not None and row.kind == "elin"
        location_id = location_id or account.default_location_id
        return _Owner(account, number, loan, line, location_id, is_pooled, is_general)

    def _only_customer(self, request: Request, source: Hop) -> _Owner | None:
        """A PSAP calls a number that nobody here has: one that a PBX said, and another node remembers. Of a carrier
        with one customer it is that one's.
        """
        number = next((each for each in called_numbers(request, self._table.numbers.packs) if each[:1] == "+"), None)
        customers = [each for each in self._table.accounts.values() if self._has_carrier(each, source)]
        if number is None or len(customers) != 1:
            return None
        return _Owner(customers[0], number, None, None, customers[0].default_location_id, False, is_general=True)

    def _has_carrier(self, account: AccountTable, source: Hop) -> bool:
        """Does that carrier serve the account: by its own trunk there, or one of last resort?"""
        names = self._names_of(source.connection) if source.transport == "tls" else ()
        for trunk in (*account.trunks, *self._table.last_resorts):
            if trunk.host.lower() in names:
                return True
            if any(hop.ip == source.ip for hop in self._hops_of(trunk.host, trunk.port, trunk.transport)):
                return True
        return False

    # --- where it goes ------------------------------------------------------------------------------------------------

    def _pbx_of(self, owner: _Owner) -> Pbx | None:
        """The PBX that placed the call, else the line's, else the location's, else the account's first."""
        pbxs = owner.account.pbxs
        named = [owner.loan.pbx_id if owner.loan else None, owner.line.pbx_id if owner.line else None]
        known = next((pbxs[pbx_id] for pbx_id in named if pbx_id is not None and pbx_id in pbxs), None)
        of_location = (pbx for pbx in pbxs.values() if pbx.default_location_id == owner.location_id)
        return known or next(of_location, None) or next(iter(pbxs.values()), None)

    def _to_caller(self, owner: _Owner, pbx: Pbx | None, edit: Edit) -> Iterator[Target]:
        for user in owner.callers:
            yield from self._targets(CALLER, user, owner, pbx, edit)
        for each in owner.account.pbxs.values() if owner.is_general else ():  # its own number: it knows whose
            yield from self._targets(CALLER, owner.number, owner, each, edit)

    def _to_onsite(self, owner: _Owner, pbx: Pbx | None, edit: Edit) -> Iterator[Target]:
        """The people on the site: their number is dialed by way of the PBX."""
        for location_id in (owner.location_id, owner.account.default_location_id):
            location = owner.account.locations.get(location_id) if location_id else None
            if location is not None and location.onsite_number:
                yield from self._targets(ONSITE, location.onsite_number, owner, pbx, edit)
                return

    def _targets(self, name: str, user: str, owner: _Owner, pbx: Pbx | None, edit: Edit) -> Iterator[Target]:
        limits = (self._deadlines.first_response_s, self._deadlines.connect_s)
        for host, hop in self._ways_to(pbx, owner.loan)[:MAX_HOPS_PER_TRUNK]:
            uri = f"sip:{quote(user, safe=_USER, errors='surrogateescape')}@{host}"
            made = Edit(uri + transport_parameter(hop.transport), edit.remove, edit.add)
            if pbx is None:
                yield Target(name, hop, made, *limits, progress_s=PROGRESS_S)
            else:
                label = f"{name}:{owner.account.account_id}:{pbx.id}"
                yield Target(label, hop, made, *limits, credentials=credentials_of(pbx), progress_s=PROGRESS_S)

    def _ways_to(self, pbx: Pbx | None, loan: Loan | None) -> Sequence[tuple[str, Hop]]:
        """(`host:port` for the Request-URI, hop), best first: the PBX's registrar, else where it was last and where its
        call came from, else the one address it has. A registrar whose name leads nowhere now is none.

        A connection that a PBX made comes from a port where nobody listens: once it has closed, the ports of RFC 3261
        §19.1.2 at the same address are what is left.
        """
        if pbx is not None and pbx.registrar_host:
            host = f"{bracketed(pbx.registrar_host)}:{pbx.registrar_port}"
            hops = self._hops_of(pbx.registrar_host, pbx.registrar_port, pbx.transport)
            if hops:
                return [(host, hop) for hop in hops]
        places = (self._seen_at(pbx.id) if pbx is not None else None, loan.hop if loan is not None else None)
        known = [hop for hop in places if hop is not None]
        if not known and pbx is not None:
            singles = (str(each.network_address) for each in pbx.sources if each.num_addresses == 1)
            known = [Hop("udp", single, 5060) for single in singles][:1]
        known += [Hop("udp", hop.ip, 5060) for hop in known if hop.transport != "udp"]
        return [(f"{bracketed(hop.ip)}:{hop.port}", hop) for hop in dict.fromkeys(known)]


def credentials_named(table: LocationTable, name: str) -> Credentials | None:
    """Those of a target by its name: a trunk's identifier, or what a callback's target is called. For challenges inside
    the dialog.
    """
    role, _, place = name.partition(":")
    if role not in {CALLER, ONSITE}:
        trunk = table.trunk(name)
        return credentials_of(trunk) if trunk is not None else None
    account_id, _, pbx_id = place.partition(":")
    account = table.accounts.get(account_id)
    pbx = account.pbxs.get(pbx_id) if account is not None else None
    return credentials_of(pbx) if pbx is not None else None


def is_psap_callback(request: Request) -> bool:
    """Does it carry the mark of RFC 7090? Worth believing from a carrier alone."""
    return (request.header("Priority") or "").strip().lower() == PSAP_CALLBACK


def names_psap_callback(request: Request) -> bool:
    """Does any of its Priority lines hold that mark, well written or not? What must not pass as one."""
    return any(PSAP_CALLBACK in value.lower() for value in request.headers("Priority"))


def called_numbers(
    request: Request, packs: Iterable[NumberPack] = (NORTH_AMERICA,)
) -> dict[str, frozenset[NumberPack] | None]:
    """The spellings under which we may know the number that was called: the Request-URI's, then To's, each as E.164
    where it can be read so, then as it stands. With each, in whose countries it is read so; None: in all.
    """
    packs = tuple(packs)
    found: dict[str, frozenset[NumberPack] | None] = {}
    for user in _users(request):
        text = user.partition(";")[0].translate(_SEPARATORS)
        digits = text.removeprefix("+")
        if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
            continue
        for pack in packs if not text.startswith("+") else ():
            number = _dialed_in(pack, digits)
            known = found.get(number, frozenset()) if number is not None else None
            if number is not None and known is not None:
                found[number] = known | {pack}
        found[f"+{digits}"] = None
        found[text] = None
    return found


def _dialed_in(pack: NumberPack, digits: str) -> str | None:
    if pack is NORTH_AMERICA and len(digits) != 10 and not digits.startswith(pack.international_prefix):
        return None  # its national numbers are of that one length, and dialled with or without the 1 before them
    return pack.e164_of(digits)


def _users(request: Request) -> list[str]:
    try:
        named = parse_uri(request.request_uri).user_text
    except BadMessage:
        named = ""
    try:
        return [named, parse_name_addr(request.header("To") or "").uri.user_text]
    except BadMessage:
        return [named]


def _from_uri(request: Request) -> str:
    try:
        return parse_name_addr(request.header("From") or "").uri.raw
    except BadMessage:
        return ""
