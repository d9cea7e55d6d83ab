"""The proxy hook: what to do with a request nobody has seen before. Pure; asks nothing that could wait.

Who may (design §3.6): a PBX by its source address, our own command by a proof made with the key file, a trunk, else a
stranger. A request of a PBX that names an emergency service goes to the trunks, whatever else is wrong with it; its
location, callback number and verdict are decided here, from the table in memory.
"""

import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from engine.e911 import dial, route
from engine.e911.caller import read_caller
from engine.e911.carriers import CarrierProfiles
from engine.e911.dial import Dialed
from engine.e911.entries import EmergencyCall, Stranger
from engine.e911.location import (
    AccountTable,
    Caller,
    LocationTable,
    Pbx,
    Resolved,
    Source,
    resolve,
)
from engine.e911.pidf import entity_of, write_pidf
from engine.e911.route import Deadlines, HopsOf, Outgoing
from engine.numbers import numbers_of
from engine.sip.forward import Edit, Forward, Hop, Target
from engine.sip.message import BadMessage, Request
from engine.sip.uri import Uri, parse_uri

PROOF_HEADER = "X-Callpoint-Proof"
PROOF_PURPOSE = "cli-proof"
PROOF_WINDOW_S = 60
CALL_METHODS = frozenset({"INVITE", "MESSAGE"})  # a text to 911 (RFC 6881 §9) goes the same way as a call


def make_proof(subkey: bytes, account_id: str, seconds: int, call_id: str) -> str:
    """The X-Callpoint-Proof value by which `callpoint call` shows that it holds the key file.

    Args:
        subkey: `KeyRing.subkey(PROOF_PURPOSE)`.
        seconds: Unix time; good for a minute either way.
    """
    digest = hmac.digest(subkey, f"{account_id};{seconds};{call_id}".encode(), "sha256").hex()
    return f"{account_id};{seconds};{digest}"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a request: an account and its PBX. `is_proven`: our own command, which has no PBX entry and no
    defaults.
    """

    account: AccountTable
    pbx: Pbx
    is_proven: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Forward the request, or answer it with `status`.

    `call` is there for an emergency call, `stranger` for a request that is refused because nobody knows its sender.
    """

    forward: Forward | None = None
    status: int = 0
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    call: EmergencyCall | None = None
    stranger: Stranger | None = None


class Hook:
    """Decides about requests. Reads the table and the trunks' state, changes neither.

    Args:
        hops_of: Addresses known now for a host; never waits.
        down: Identifiers of trunks that do not answer pings.
        trunk_ips: Addresses of all trunks, as sockets name them.
        proof_key: `KeyRing.subkey(PROOF_PURPOSE)`.
        make_call_id: A fresh `call_…` identifier.
    """

    def __init__(
        self,
        table: LocationTable,
        *,
        profiles: CarrierProfiles,
        hops_of: HopsOf,
        down: Collection[str],
        trunk_ips: Collection[str],
        deadlines: Deadlines,
        proof_key: bytes,
        make_call_id: Callable[[], str],
    ) -> None:
        self._table, self._profiles, self._hops_of, self._down = table, profiles, hops_of, down
        self._trunk_ips, self._deadlines = trunk_ips, deadlines
        self._proof_key, self._make_call_id = proof_key, make_call_id

    def is_trusted(self, hop: Hop) -> bool:
        """True for a PBX or a trunk."""
        return self._table.peer_of(hop.ip) is not None or hop.ip in self._trunk_ips

    def is_emergency(self, request: Request, hop: Hop) -> bool:
        """True for an emergency request of a PBX: such a one is forwarded however malformed it is."""
        peer = self._table.peer_of(hop.ip)
        return peer is not None and _dialed(request, peer[0]).is_emergency

    def decide(self, request: Request, source: Hop, now: datetime) -> Decision:
        """What to do with a request from outside any dialog we know. `now` is UTC. Never raises for what a peer
        sent.
        """
        peer = self._peer(request, source, now)
        if peer is None:
            return self._decide_unknown(request, source, now)
        dialed = _dialed(request, peer.account)
        if dialed.is_emergency:
            return self._decide_emergency(request, source, peer, dialed, now)
        if request.method == "OPTIONS":
            return _alive()
        return self._decide_other(request, peer)

    def _peer(self, request: Request, source: Hop, now: datetime) -> Peer | None:
        proof = request.header(PROOF_HEADER)
        proven = self._proven_account(proof, request.call_id, now) if proof else None
        if proven is not None:
            return Peer(proven, Pbx("", "callpoint call"), is_proven=True)
        known = self._table.peer_of(source.ip)
        return Peer(*known) if known else None

    def _proven_account(self, proof: str, call_id: str, now: datetime) -> AccountTable | None:
        account_id, _, rest = proof.partition(";")
        seconds = rest.partition(";")[0]
        if not seconds.isascii() or not seconds.isdigit() or len(seconds) > 12:
            return None
        try:
            expected = make_proof(self._proof_key, account_id, int(seconds), call_id)
            is_ours = hmac.compare_digest(expected, proof.strip())
        except (UnicodeEncodeError, TypeError):  # octets that are no text
            return None
        is_fresh = abs(now.timestamp() - int(seconds)) <= PROOF_WINDOW_S
        return self._table.accounts.get(account_id) if is_ours and is_fresh else None

    def _decide_unknown(self, request: Request, source: Hop, now: datetime) -> Decision:
        if source.ip in self._trunk_ips:
            return _alive() if request.method == "OPTIONS" else Decision(status=404, reason="Not Found")
        is_emergency = request.method in CALL_METHODS and dial.classify(request.request_uri).is_emergency
        agent = request.header("User-Agent") or ""
        stranger = Stranger(source, request.method, request.request_uri, agent, is_emergency, now)
        return Decision(status=403, reason="Forbidden", stranger=stranger)

    def _decide_other(self, request: Request, peer: Peer) -> Decision:
        hop = route_hop(peer.pbx.default_route) if peer.pbx.default_route else None
        hops = self._hops_of(*hop) if hop else ()
        if not hops:
            return Decision(status=404, reason="Not Found")
        edit = Edit(remove=route.stripped_headers(request))
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
        known = self._table.peer_of(source.ip)
        if known is None or not (dialed := _dialed(request, known[0])).is_emergency:
            return Decision(status=500, reason="Server Internal Error")
        request.faults = (*request.faults, "the location could not be looked up")
        unknown = Resolved(None, Source.NONE, None, None, (), now)
        return self._to_trunks(request, source, Peer(*known), dialed, now, Caller(), unknown, None)

    def _decide_emergency(self, request: Request, source: Hop, peer: Peer, dialed: Dialed, now: datetime) -> Decision:
        account, pbx = peer.account, peer.pbx
        caller = read_caller(request, source, account, pbx, is_proven=peer.is_proven)
        resolved = resolve(account, caller, now, pbx=pbx, overlay=self._table.overlay_of(account.account_id))
        found = account.callback_number_for(resolved.phone, resolved.line, resolved.location)
        return self._to_trunks(request, source, peer, dialed, now, caller, resolved, found or caller.asserted_number)

    def _to_trunks(
        self,
        request: Request,
        source: Hop,
        peer: Peer,
        dialed: Dialed,
        now: datetime,
        caller: Caller,
        resolved: Resolved,
        callback_number: str | None,
    ) -> Decision:
        trunks = route.ranked_trunks(peer.account, self._table.last_resorts, self._down)
        call = EmergencyCall(
            id=self._make_call_id(),
            account_id=peer.account.account_id,
            pbx_id=peer.pbx.id or None,
            sip_call_id=request.call_id,
            dialed=dialed,
            received_at=now,
            caller=caller,
            callback_number=callback_number,
            resolved=resolved,
            faults=request.faults,
            source=source,
            trunk_names={trunk.id: trunk.name for trunk in trunks},
        )
        location = resolved.location
        pidf = write_pidf(location, entity_of(caller.uri), now) if location is not None else None
        outgoing = Outgoing(request, dialed.kind, callback_number, pidf, f"{call.id}@callpoint.invalid")
        targets = route.targets_for(
            trunks, outgoing, profiles=self._profiles, hops_of=self._hops_of, deadlines=self._deadlines
        )
        if not targets:
            return _no_trunk(call, has_trunks=bool(trunks))
        fail_over = route.fail_over_statuses(trunks, self._profiles)
        return Decision(forward=Forward(targets, call, fail_over, emergency=True), call=call)


def _dialed(request: Request, account: AccountTable) -> Dialed:
    if request.method not in CALL_METHODS:
        return dial.NOTHING
    return dial.classify(request.request_uri, _to(request), numbers_of(account.country))


def _to(request: Request) -> str:
    """To matters only for a Request-URI that is a service URN or names nobody; reading it costs more than asking."""
    uri = request.request_uri
    return (request.header("To") or "") if uri[:4].lower() == "urn:" or not dial.names_user(uri) else ""


@lru_cache(maxsize=1024)
def route_hop(uri_text: str) -> tuple[str, int | None, str] | None:
    """(host, port, transport) that a PBX's default route leads to; None when it is no sip URI over UDP or TCP."""
    try:
        uri: Uri = parse_uri(uri_text)
    except BadMessage:
        return None
    transport = uri.params.get("transport", "udp").lower()
    return (uri.host, uri.port, transport) if uri.host and transport in {"udp", "tcp"} else None


def _alive() -> Decision:
    return Decision(
        status=200, reason="OK", headers=(("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS"), ("Accept", "application/sdp"))
    )


def _no_trunk(call: EmergencyCall, *, has_trunks: bool) -> Decision:
    why = "no trunk's address is known" if has_trunks else "no trunk is configured"
    warning = f'399 callpoint "The emergency call went nowhere: {why}"'
    return Decision(status=503, reason="Service Unavailable", headers=(("Warning", warning),), call=call)
