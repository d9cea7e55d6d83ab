"""The proxy hook: what to do with a request nobody has seen before. Pure; asks nothing that could wait.

Who may (design §3.6): a PBX by its source address, our own command by a proof made with the key file, a trunk, else a
stranger. A request of a PBX that names an emergency service goes to the trunks, whatever else is wrong with it; its
location, callback number and verdict are decided here, from the table in memory.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache, partial

from engine.e911 import dial, route
from engine.e911.callback import Callback, Callbacks, Inbound, names_psap_callback
from engine.e911.caller import read_caller
from engine.e911.carriers import CarrierProfiles
from engine.e911.dial import Dialed, Kind
from engine.e911.entries import EmergencyCall, Stranger
from engine.e911.geolocation import NOTHING_CARRIED, Carried, carried
from engine.e911.lending import Chosen, Lending, Loan, hold_of, holder_name
from engine.e911.location import (
    REFERENCE_UNRESOLVED,
    AccountTable,
    Caller,
    DispatchableLocation,
    LocationTable,
    Pbx,
    Resolved,
    Source,
    Trunk,
    is_only_default,
    resolve,
)
from engine.e911.location_uris import LocationUris, located
from engine.e911.peers import Peer, Peers, Unknown
from engine.e911.pidf import entity_of
from engine.e911.route import Deadlines, HopsOf, Outgoing
from engine.numbers import EVERYWHERE, PRIMARIES, NumberPack, NumberPlan, numbers_of
from engine.sip.forward import NO_EDIT, Edit, Forward, Hop, Target
from engine.sip.message import BadMessage, Request
from engine.sip.uri import Uri, parse_uri

INBOUND_REASONS = {404: "Not Found", 480: "Temporarily Unavailable"}
CHALLENGE_REASONS = {401: "Unauthorized", 403: "Forbidden", 407: "Proxy Authentication Required"}
MAX_KEPT_ROUTES = 1_024
CALL_METHODS = frozenset({"INVITE", "MESSAGE"})  # a text to 911 (RFC 6881 §9) goes the same way as a call


@dataclass(frozen=True, slots=True)
class Hold:
    """An emergency request that may wait a moment for what a location reference leads to: nothing but a default is
    known. `again` decides with what is known by then, and holds no more.
    """

    account_id: str
    uri: str
    again: "Callable[[], Decision]"


Group = tuple[str, ...]
"""Trunks that a call takes first, by identifier; empty: as their priorities say."""
Ranking = tuple[tuple[Trunk, ...], dict[str, str]]
"""Trunks in the order they are tried, and their names by identifier."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Forward the request, answer it with `status`, or hold it.

    `call` is there for an emergency call, `callback` for a call from a carrier, `stranger` for a request that is
    refused because nobody knows its sender, or that a PBX sent for a number which is an emergency elsewhere alone.
    `ask`: an account and a location URI worth asking for, for the next call's sake. `lend`: remembers who the number is
    of that the request leaves with; to be called when it has left, before anything else is decided. `is_stateless`: the
    answer is given once, and the request forgotten.
    """

    forward: Forward | None = None
    status: int = 0
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    call: EmergencyCall | None = None
    stranger: Stranger | None = None
    hold: Hold | None = None
    ask: tuple[str, str] | None = None
    lend: Callable[[], None] | None = None
    is_stateless: bool = False
    callback: Callback | None = None


class Hook:
    """Decides about requests. Reads the table and the trunks' state, changes neither.

    Args:
        hops_of: Addresses known now for a host; never waits.
        down: Identifiers of trunks that do not answer; `stalled`: those among them that left a call at 100.
        trunk_ips: Addresses of all trunks, as sockets name them.
        proof_key: `KeyRing.subkey(PROOF_PURPOSE)`.
        names_of: The verified names in the certificate at the other end of a TLS connection, by its number.
        make_call_id: A fresh `call_…` identifier.
        make_callback_id: A fresh `callback_…` identifier.
        reference_of: (account, location, call, now) -> the URI under which a carrier may fetch the location, None when
            none is served.
        domain: Ours, in identifiers that name who made them.
        location_uris: What is known of the location references that requests name; None: nobody may be asked.
        may_misfit: May the certificate at a hop over TLS fail to prove its name?
        on_fault: Told in words when a trunk got the plain call because its own form of it could not be made.
    """

    def __init__(
        self,
        table: LocationTable,
        *,
        profiles: CarrierProfiles,
        hops_of: HopsOf,
        down: Collection[str],
        stalled: Collection[str] = (),
        trunk_ips: Collection[str],
        deadlines: Deadlines,
        proof_key: bytes,
        names_of: Callable[[int], tuple[str, ...]] = lambda _: (),
        make_call_id: Callable[[], str],
        reference_of: Callable[[str, str, str, datetime], str | None] = lambda *_: None,
        domain: str = "callpoint.invalid",
        location_uris: LocationUris | None = None,
        make_callback_id: Callable[[], str] = lambda: "",
        may_misfit: Callable[[Hop], bool] = lambda _: False,
        on_fault: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.peers = Peers(table, trunk_ips=trunk_ips, names_of=names_of, proof_key=proof_key)
        self.lending = Lending()
        self._callbacks = Callbacks(
            table,
            self.lending,
            hops_of=hops_of,
            names_of=names_of,
            deadlines=deadlines,
            make_id=make_callback_id,
            seen_at=self.peers.seen_at,
        )
        self._reference_of, self._domain = reference_of, domain
        self._rankings: dict[str, tuple[tuple[Trunk, ...], tuple[Trunk, ...], dict[Group, Ranking]]] = {}
        self._table, self._profiles, self._hops_of = table, profiles, hops_of
        self._down, self._stalled, self._deadlines = down, stalled, deadlines
        self._make_call_id, self._may_misfit, self._on_fault = make_call_id, may_misfit, on_fault
        self._location_uris = location_uris or LocationUris(frozenset())
        self._default_routes: dict[str | None, tuple[tuple[Hop, ...], Decision]] = {}

    def is_trusted(self, hop: Hop) -> bool:
        """True for a PBX or a trunk."""
        return self.peers.is_trusted(hop)

    def is_emergency(self, request: Request, hop: Hop) -> bool:
        """True for an emergency request of a PBX: such a one is forwarded however malformed it is."""
        peer = self.peers.at(hop)
        return peer is not None and _dialed(request, peer[0]).is_emergency

    def decide(self, request: Request, source: Hop, now: datetime) -> Decision:
        """What to do with a request from outside any dialog we know. `now` is UTC. Never raises for what a peer
        sent.
        """
        peer = self.peers.who(request, source, now)
        if isinstance(peer, Unknown):
            return self._decide_unknown(request, source, now, peer)
        dialed = _dialed(request, peer.account)
        if not dialed.is_emergency and b"geolocation" in request.shape.first:
            dialed = _dialed_abroad(request)
        if dialed.is_emergency:
            return self._decide_emergency(request, source, peer, dialed, now)
        return self._decide_ordinary(request, source, peer, now)

    def _decide_ordinary(self, request: Request, source: Hop, peer: Peer, now: datetime) -> Decision:
        """What a PBX sends that is no emergency."""
        if request.method == "OPTIONS":
            return _alive()
        if peer.is_doubtful:
            status, headers = self.peers.challenge(request, source, peer.verdict, now)
            return Decision(status=status, reason=CHALLENGE_REASONS[status], headers=headers)
        if request.method in CALL_METHODS and self.peers.is_trunk(source):
            inbound = self._callbacks.decide(request, source, now, is_lent_alone=True)
            if inbound.callback is not None:
                return _of_inbound(inbound)
        return self._decide_other(request, source, peer, now)

    def _decide_unknown(self, request: Request, source: Hop, now: datetime, unknown: Unknown) -> Decision:
        if self.peers.is_trunk(source):
            return self._decide_inbound(request, source, now)
        is_emergency = request.method in CALL_METHODS and _names_help(request.request_uri, self._table.numbers)
        agent = request.header("User-Agent") or ""
        stranger = Stranger(source, request.method, request.request_uri, agent, is_emergency, now)
        status, headers = self.peers.challenge(request, source, unknown.verdict, now, stranger)
        on_record = stranger if status == 403 else None
        return Decision(None, status, CHALLENGE_REASONS[status], headers, stranger=on_record, is_stateless=True)

    def _decide_inbound(self, request: Request, source: Hop, now: datetime) -> Decision:
        """What a carrier sends: pings, and calls to callers' numbers."""
        if request.method == "OPTIONS":
            return _alive()
        if request.method not in CALL_METHODS:
            return Decision(status=404, reason="Not Found")
        return _of_inbound(self._callbacks.decide(request, source, now))

    def _decide_other(self, request: Request, source: Hop, peer: Peer, now: datetime) -> Decision:
        hops = self._default_hops(peer.pbx)
        if not hops:
            return Decision(status=404, reason="Not Found", stranger=_lost_abroad(request, source, peer, now))
        if b"priority" in request.shape.first and names_psap_callback(request):
            return self._to_default_route(hops, Edit(remove=("Priority",)))  # a carrier's word alone (RFC 7090 §6)
        known = self._default_routes.get(peer.pbx.default_route)
        if known is None or known[0] != hops:
            if len(self._default_routes) >= MAX_KEPT_ROUTES:
                self._default_routes.clear()
            known = self._default_routes[peer.pbx.default_route] = (hops, self._to_default_route(hops, NO_EDIT))
        return known[1]

    def _default_hops(self, pbx: Pbx) -> tuple[Hop, ...]:
        """Where what is no emergency goes; () where it would end in our own 404."""
        hop = route_hop(pbx.default_route) if pbx.default_route else None
        return tuple(self._hops_of(*hop)) if hop else ()

    def _to_default_route(self, hops: tuple[Hop, ...], edit: Edit) -> Decision:
        deadlines = self._deadlines
        targets = tuple(
            Target("default_route", each, edit, deadlines.first_response_s, deadlines.connect_s)
            for each in hops[: route.MAX_HOPS_PER_TRUNK]
        )
        return Decision(forward=Forward(targets, fail_over=frozenset({503})))

    def decide_plainly(self, request: Request, source: Hop, now: datetime) -> Decision:
        """What is left when `decide` itself failed: an emergency request of a PBX goes to the trunks as it came.

        No location, no callback number, nothing read that is not needed: only what could have been at fault is left
        out.
        """
        known = self.peers.at(source)
        if known is None or not (dialed := _dialed(request, known[0])).is_emergency:
            return Decision(status=500, reason="Server Internal Error")
        request.faults = (*request.faults, "the location could not be looked up")
        unknown = Resolved(None, Source.NONE, None, None, (), now)
        return self._to_trunks(request, source, Peer(*known), dialed, now, Caller(), unknown, Chosen(None))

    def decide_barely(self, request: Request, source: Hop, now: datetime) -> Decision:
        """What is left when `decide_plainly` failed as well: the request with nothing but its number changed goes to
        the account's trunks as they stand in the table, then to those of last resort. The record, if one can be made,
        says that nothing was looked up; without one nobody is told, and the log has to do.
        """
        known = self._peer_at(source)
        if known is None or not (dialed := _dialed(request, known[0])).is_emergency:
            return Decision(status=500, reason="Server Internal Error")
        account, pbx = known
        own = sorted((trunk for trunk in account.trunks if trunk.enabled), key=lambda trunk: trunk.last_resort)
        trunks = {trunk.id: trunk for trunk in (*own, *self._table.last_resorts)}
        targets = route.bare_targets(
            trunks.values(), dialed, _numbers_dialed(account, dialed), hops_of=self._hops_of, deadlines=self._deadlines
        )
        call = self._bare_call(request, source, account, pbx, dialed, now, trunks)
        if not targets:
            return _no_trunk(call, has_trunks=bool(trunks))
        is_test = dialed.kind is Kind.TEST
        return Decision(forward=Forward(targets, call, emergency=True, is_test=is_test), call=call)

    def _peer_at(self, source: Hop) -> tuple[AccountTable, Pbx] | None:
        """Of those who share an address the one that proved itself from there; else whom the table has first."""
        try:
            known = self.peers.at(source)
        except Exception as exc:  # noqa: BLE001 - the wrong account's trunks are better than none
            self._on_fault(f"who proved themselves from {source.ip} could not be told: {exc!r:.200}")
            known = None
        return known or self._table.peer_of(source.ip)

    def _bare_call(
        self,
        request: Request,
        source: Hop,
        account: AccountTable,
        pbx: Pbx,
        dialed: Dialed,
        now: datetime,
        trunks: dict[str, Trunk],
    ) -> EmergencyCall | None:
        """The record of a call of which nothing was looked up; None when not even that can be made."""
        faults = (*request.faults, "neither caller nor location could be looked up")
        try:
            return EmergencyCall(
                id=self._make_call_id(), account_id=account.account_id, pbx_id=pbx.id or None,
                sip_call_id=request.call_id, dialed=dialed, received_at=now, caller=Caller(), callback_number=None,
                resolved=Resolved(None, Source.NONE, None, None, (), now), faults=faults, source=source,
                trunk_names={trunk.id: trunk.name for trunk in trunks.values()},
            )  # fmt: skip
        except Exception as exc:  # noqa: BLE001 - a call that leaves unrecorded is better than one that does not leave
            self._on_fault(f"an emergency call of {account.account_id} leaves without a record: {exc!r:.200}")
            return None

    def _decide_emergency(
        self, request: Request, source: Hop, peer: Peer, dialed: Dialed, now: datetime, *, has_waited: bool = False
    ) -> Decision:
        account, pbx = peer.account, peer.pbx
        caller = read_caller(request, source, account, pbx, is_proven=peer.is_proven)
        if peer.is_proven:
            pbx = _pbx_of_line(account, caller.identity) or pbx
        said = carried(request)
        key = (account.account_id, said.references[0]) if said.references else None
        look = self._location_uris.look(account, pbx, key[1], now, has_waited=has_waited) if key else None
        resolved = resolve(
            account,
            caller,
            now,
            pbx=pbx,
            overlay=self._table.overlay_of(account.account_id),
            carried=[located(each) for each in said.locations],
            referenced=look.rung if look else None,
        )
        if key and look and is_only_default(resolved):
            if look.may_wait:
                return Decision(hold=Hold(*key, partial(self._decide_held, request, source, peer, dialed, now)))
            resolved = replace(resolved, more_flags=(REFERENCE_UNRESOLVED,))
        if dialed.is_local:  # an emergency in some of the account's countries only
            here = None if is_only_default(resolved) else _country_of(resolved.location)
            is_extension = account.is_extension(dialed.digits) and bool(self._default_hops(peer.pbx))
            dialed = dial.settle(dialed, here, is_extension=is_extension)  # without a way to it nobody is called by it
            if not dialed.is_emergency:
                return self._decide_ordinary(request, source, peer, now)
        is_test = dialed.kind is Kind.TEST
        chosen = self.lending.choose(
            account, caller, resolved, pbx.id or None, now, is_test=is_test, call_id=request.call_id
        )
        ask = key if look and look.ask else None
        return self._to_trunks(request, source, peer, dialed, now, caller, resolved, chosen, said, ask)

    def _decide_held(self, request: Request, source: Hop, peer: Peer, dialed: Dialed, now: datetime) -> Decision:
        """Once more, with the account as it is by now: a table that was replaced meanwhile is of no use any more."""
        account = self._table.accounts.get(peer.account.account_id, peer.account)
        peer = replace(peer, account=account, pbx=account.pbxs.get(peer.pbx.id, peer.pbx))
        return self._decide_emergency(request, source, peer, dialed, now, has_waited=True)

    def _to_trunks(
        self,
        request: Request,
        source: Hop,
        peer: Peer,
        dialed: Dialed,
        now: datetime,
        caller: Caller,
        resolved: Resolved,
        chosen: Chosen,
        said: Carried = NOTHING_CARRIED,
        ask: tuple[str, str] | None = None,
    ) -> Decision:
        trunks, names = self._ranked(peer.account, peer.account.trunk_group_for(resolved.location))
        call = EmergencyCall(
            id=self._make_call_id(),
            account_id=peer.account.account_id,
            pbx_id=peer.pbx.id or None,
            sip_call_id=request.call_id,
            dialed=dialed,
            received_at=now,
            caller=caller,
            callback_number=chosen.number,
            elin=chosen.elin,
            number_flags=chosen.flags,
            resolved=resolved,
            faults=request.faults + said.faults,
            sender_flags=peer.flags,
            source=source,
            trunk_names=names,
            shortened=partial(route.shortened, trunks, resolved.location, self._profiles),
            brings_location=bool(said.locations),
            is_caller_s=said.leads_to_one
            and resolved.source is (Source.REQUEST if said.is_clear else Source.REFERENCE),
        )
        outgoing = self._outgoing(request, peer.account, call, said)
        targets = route.targets_for(
            trunks,
            outgoing,
            profiles=self._profiles,
            hops_of=self._hops_of,
            deadlines=self._deadlines,
            may_misfit=self._may_misfit,
            on_fault=self._on_fault,
        )
        if not targets:
            return _no_trunk(call, has_trunks=bool(trunks))
        is_test = dialed.kind is Kind.TEST
        forward = Forward(targets, call, emergency=True, is_own_test=peer.is_proven and is_test, is_test=is_test)
        lend = partial(self._lend, call, chosen, peer.account) if chosen.is_lent else None
        return Decision(forward=forward, call=call, ask=ask, lend=lend)

    def _lend(self, call: EmergencyCall, chosen: Chosen, account: AccountTable) -> None:
        if self._brings_calls(chosen, account, call.received_at, is_test=call.dialed.kind is Kind.TEST):
            self.lending.lend(_loan_of(call, account))

    def _brings_calls(self, chosen: Chosen, account: AccountTable, now: datetime, *, is_test: bool) -> bool:
        """Whether calls to the number are this caller's from now on: not to one that the PBX merely says and another
        account has, nor, after a test, to one that customers call.
        """
        number = chosen.number
        if number is None or (is_test and chosen.elin is None):
            return False
        if not chosen.is_asserted or account.number_of(number) or account.line_with_number(number):
            return True
        loan = self.lending.loan_of(number, now)
        if loan is not None and loan.account_id != account.account_id:
            return False
        return not any(
            other.callback_number == number or other.number_of(number) or other.line_with_number(number)
            for other in self._table.accounts.values()
            if other is not account
        )

    def _ranked(self, account: AccountTable, group: Group) -> Ranking:
        """The trunks to try; kept for as long as none is down and neither the account's nor the last resorts change."""
        last_resorts = self._table.last_resorts
        if self._down:
            return _with_names(route.ranked_trunks(account, last_resorts, self._down, group, stalled=self._stalled))
        kept = self._rankings.get(account.account_id)
        if kept is None or kept[0] is not account.trunks or kept[1] is not last_resorts:
            kept = self._rankings[account.account_id] = (account.trunks, last_resorts, {})
        ranked = kept[2].get(group)
        if ranked is None:
            ranked = kept[2][group] = _with_names(route.ranked_trunks(account, last_resorts, (), group))
        return ranked

    def _outgoing(self, request: Request, account: AccountTable, call: EmergencyCall, said: Carried) -> Outgoing:
        """What its INVITEs have in common. The numbers are those of the country the caller is in, not of its office;
        of a caller who may be anywhere, those of the country whose number was dialled.
        """
        location, line, caller = call.resolved.location, call.resolved.line, call.caller
        country = _country_of(location)
        make_reference = None
        if location is not None and location.id in account.locations:  # what a caller brought is served by nobody
            make_reference = partial(self._reference_of, account.account_id, location.id, call.id, call.received_at)
        return Outgoing(
            request=request,
            dialed=call.dialed,
            callback_number=call.callback_number,
            location=location,
            entity=entity_of(caller.uri),
            now=call.received_at,
            call_id=call.id,
            numbers=numbers_of(country) if country else _numbers_dialed(account, call.dialed),
            user=line.sip_user if line is not None else caller.identity,
            name=(line.display_name if line is not None else "") or caller.name,
            make_reference=make_reference,
            domain=self._domain,
            is_caller_s=call.resolved.source is Source.REQUEST and said.is_clear,
            organization=account.name,
            contact_number=(location.onsite_number if location is not None else None) or account.callback_number or "",
            language=account.language,
        )


def _with_names(trunks: tuple[Trunk, ...]) -> Ranking:
    return trunks, {trunk.id: trunk.name for trunk in trunks}


def _of_inbound(inbound: Inbound) -> Decision:
    return Decision(inbound.forward, inbound.status, INBOUND_REASONS.get(inbound.status, ""), callback=inbound.callback)


def _loan_of(call: EmergencyCall, account: AccountTable) -> Loan:
    """Who a call back to the number of this call is for."""
    line, location, is_test = call.resolved.line, call.resolved.location, call.dialed.kind is Kind.TEST
    return Loan(
        number=call.callback_number or "",
        account_id=call.account_id,
        until=call.received_at + hold_of(account, is_test=is_test),
        call=call.id,
        pbx_id=call.pbx_id,
        sip_user=holder_name(call.caller, call.resolved, call.sip_call_id),
        extension=line.extension if line is not None else call.caller.identity,
        name=(line.display_name if line is not None else "") or call.caller.name,
        location_id=location.id if location is not None else None,
        hop=call.source,
        is_elin=call.elin is not None,
        is_test=is_test,
    )


def _dialed(request: Request, account: AccountTable) -> Dialed:
    if request.method not in CALL_METHODS:
        return dial.NOTHING
    uri = request.request_uri
    return dial.classify(uri, _to(request, uri), account.number_plan)


def _names_help(uri: str, known: NumberPlan) -> bool:
    """Whether a peer that nobody knows asks for help: by a number of any of the accounts' countries, or by one that
    people dial wherever they are.
    """
    return dial.classify(uri, "", known).is_emergency or dial.classify(uri, "", EVERYWHERE).digits in PRIMARIES


def _lost_abroad(request: Request, source: Hop, peer: Peer, now: datetime) -> Stranger | None:
    """A call to what is the emergency number of other countries alone and goes nowhere here: perhaps somebody wanted
    help. For the record; None for any other request.
    """
    if request.method not in CALL_METHODS:
        return None
    digits = dial.classify(request.request_uri, "", EVERYWHERE).digits
    if digits not in PRIMARIES:
        return None
    agent, who = request.header("User-Agent") or "", (peer.account.account_id, peer.pbx.id)
    return Stranger(source, request.method, request.request_uri, agent, True, now, *who)


def _numbers_dialed(account: AccountTable, dialed: Dialed) -> NumberPack:
    """By which a call leaves that has no place: 999 as 999, also from an account whose own country dials 911."""
    return account.number_plan.pack_of(dialed.digits, numbers_of(account.country))


def _dialed_abroad(request: Request) -> Dialed:
    """An emergency number of the country in which the request itself places its caller, whichever the account's are.
    Whether that is where the caller is, `settle` tells when all sources have been heard.
    """
    uri = request.request_uri
    if request.method not in CALL_METHODS or not dial.classify(uri, "", EVERYWHERE).is_emergency:
        return dial.NOTHING
    for location in carried(request).locations:
        country = location.civic_address.get("country")
        if country and (found := dial.classify(uri, "", numbers_of(country))).is_emergency:
            return replace(found, is_local=True)
    return dial.NOTHING


def _pbx_of_line(account: AccountTable, identity: str) -> Pbx | None:
    """The PBX whose line our own command stands for: what it tests must be what that line's phone gets."""
    line = account.line_named(identity, None)
    return account.pbxs.get(line.pbx_id) if line is not None and line.pbx_id else None


def _country_of(location: DispatchableLocation | None) -> str | None:
    """The country in its address (ISO 3166 alpha-2); None when it says none."""
    return (location.civic_address.get("country") if location is not None else "") or None


def _to(request: Request, uri: str) -> str:
    """To matters only for a Request-URI that is a service URN or names nobody; reading it costs more than asking."""
    return (request.header("To") or "") if uri[:4].lower() == "urn:" or not dial.names_user(uri) else ""


@lru_cache(maxsize=1024)
def route_hop(uri_text: str) -> tuple[str, int | None, str] | None:
    """(host, port, transport) that a PBX's default route leads to; None when it is no sip URI over UDP, TCP or TLS.

    The transport is "" where the URI leaves it open, "sips" for a sips URI: DNS says it then (RFC 3263 §4.1).
    """
    try:
        uri: Uri = parse_uri(uri_text)
    except BadMessage:
        return None
    transport = uri.params.get("transport", "").lower()
    if uri.scheme == "sips":
        transport = "tls" if transport else "sips"
    return (uri.host, uri.port, transport) if uri.host and transport in {"", "udp", "tcp", "tls", "sips"} else None


def _alive() -> Decision:
    return Decision(
        status=200, reason="OK", headers=(("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"), ("Accept", "application/sdp"))
    )


def _no_trunk(call: EmergencyCall | None, *, has_trunks: bool) -> Decision:
    why = "no trunk's address is known" if has_trunks else "no trunk is configured"
    warning = f'399 callpoint "The emergency call went nowhere: {why}"'
    return Decision(status=503, reason="Service Unavailable", headers=(("Warning", warning),), call=call)
