"""One attempt: a request written for one target, sent, and cancelled when it must be (RFC 3261 §16.6, §9.1).

A request too large for a datagram goes by TCP where that is known to work (§18.1.1, `tcp_is_up`). Should the stream
fail, it goes by UDP at once, in the same attempt; should nothing be heard on it, by UDP as the next attempt, and no
other request tries that stream for `DOUBT_S`. Each of the two has half the time that the target has for
an answer: one that is dead keeps a call no longer for having been reached by both.
"""

from collections.abc import Callable
from dataclasses import replace

from engine.sip import edit
from engine.sip.context import Branch, ByDatagram, ResponseContext
from engine.sip.dialog import Dialogs
from engine.sip.disguise import disguise_of, dress, seal, with_proof
from engine.sip.edit import Routing
from engine.sip.events import AttemptStarted, Event
from engine.sip.failover import Doubts, for_half_the_time, leaves_as_sips
from engine.sip.forward import Edit, Hop, Target
from engine.sip.timers import TRANSACTION_S, Deadlines
from engine.sip.transaction import ClientTransaction, Transactions, client_key

MAX_DATAGRAM_REQUEST_BYTES = 1_300  # §18.1.1: larger ones go by a congestion controlled transport


class Attempts:
    """Begins attempts and cancels them; what becomes of them is the proxy's to judge.

    Args:
        make_branch: a new branch, never twice.
        emit: takes `AttemptStarted`.
        tcp_is_up: does TCP to that address and port work?
        on_fault: told in words when something of ours failed.
    """

    def __init__(
        self,
        *,
        transactions: Transactions,
        dialogs: Dialogs,
        deadlines: Deadlines,
        make_branch: Callable[[], str],
        emit: Callable[[Event], None],
        tcp_is_up: Callable[[str, int], bool],
        on_fault: Callable[[str], None],
    ) -> None:
        self._transactions = transactions
        self._dialogs = dialogs
        self._deadlines = deadlines
        self._make_branch = make_branch
        self._emit = emit
        self._tcp_is_up = tcp_is_up
        self._on_fault = on_fault
        self._connected: set[tuple[str, str, int]] = set()
        self._tcp_doubts = Doubts()

    def begin(
        self,
        context: ResponseContext,
        target: Target,
        changes: Edit,
        now: float,
        *,
        is_retry: bool,
        after: Branch | None = None,
        proof: tuple[bytes, ...] = (),
    ) -> None:
        """Send the request to a target. `after`: the same target's try before this one; `proof`: header lines that
        answer its challenge.
        """
        branch = Branch(context, target, changes, len(context.branches) + 1, now, is_retry=is_retry)
        if after is not None:
            # a server that still has the first try would take a second one like it for a loop: 482 (§8.2.2.2)
            is_another = bool(proof) or is_retry is not after.is_retry
            # what goes out without a proof may be challenged in its own right, whatever was answered before
            branch.ahead, branch.proofs = after.ahead + is_another, after.proofs + 1 if proof else 0
        routing, token = context.routing, b""
        if context.disguise is not None or target.credentials is not None or changes.from_ is not None or branch.ahead:
            routing, token = self._dressed(branch, changes, proof)
        name = self._make_branch().encode() + context.loop
        sent = self._written(branch, target.hop, name, routing, token)
        if (
            len(sent) > MAX_DATAGRAM_REQUEST_BYTES
            and target.hop.transport == "udp"
            and self._takes_tcp(target.hop, now)
        ):
            branch.by_datagram = ByDatagram(target, routing, token)
            branch.target = target = for_half_the_time(target, target.hop._replace(transport="tcp"))
            sent = self._written(branch, target.hop, name, routing, token)
        context.branches.append(branch)
        try:
            self._open(branch, sent, name, now)
        except Exception:
            branch.is_over = True  # nobody waits for it
            raise
        if context.tag is not None:
            self._emit(AttemptStarted(context.tag, target, branch.number, changes.conveys_location, sent, now))

    def cancel(self, branch: Branch, now: float) -> None:
        """Send CANCEL when a 1xx was heard, else remember to (§9.1)."""
        branch.is_cancel_wanted = True
        client = branch.client
        if not branch.is_heard or branch.is_cancel_sent or client.is_final or not branch.context.is_invite:
            return
        branch.is_cancel_sent = True
        cancel = ClientTransaction(client.key_of(b"CANCEL"), edit.cancel_of(client.sent), client.hop, None)
        self._transactions.open_client(cancel, now)
        self._deadlines.arm(branch, TRANSACTION_S, now)  # §9.1: no final response by then, and it is taken as cancelled

    def go_by_datagram(self, branch: Branch, now: float) -> bool:
        """The stream that a large request took has failed: the same attempt goes on over UDP."""
        context, given = branch.context, branch.by_datagram
        branch.by_datagram = None
        self.doubt_stream(branch, now)
        if given is None or branch.is_over or branch.is_cancel_wanted or context.is_done:
            return False
        branch.target = given.target
        try:
            name = self._make_branch().encode() + context.loop
            sent = self._written(branch, given.target.hop, name, given.routing, given.token)
        except Exception as fault:  # noqa: BLE001 - then it ends as unreachable, and the next target has its turn
            self._on_fault(f"{given.target.name} by UDP: {fault!r:.300}")
            return False
        self._open(branch, sent, name, now)
        return True

    def doubt_stream(self, branch: Branch, now: float) -> None:
        """The stream that its request took for its size failed, or nothing was heard on it: no other takes it soon."""
        self._tcp_doubts.add(branch.target.hop, now)

    def connected(self, hop: Hop, now: float) -> None:
        """A stream to that hop stands: from now on the first response is waited for."""
        self._connected.add(hop[:3])
        for client in self._transactions.waiting_on(hop._replace(connection=0)):
            branch = client.owner
            if isinstance(branch, Branch) and branch.lane is not None and not branch.is_cancel_sent:
                self._deadlines.arm(branch, branch.target.first_response_s, now)

    def disconnected(self, hop: Hop) -> None:
        self._connected.discard(hop[:3])

    def _open(self, branch: Branch, sent: bytes, name: bytes, now: float) -> None:
        """Send it; the branch's own deadline begins."""
        target = branch.target
        hop = target.hop
        branch.client = ClientTransaction(client_key(name, branch.context.server.method), sent, hop, branch)
        self._transactions.open_client(branch.client, now)
        limit = target.first_response_s
        if hop.transport != "udp" and not hop.connection and hop[:3] not in self._connected:
            limit = target.connect_s
        if limit > 0:
            self._deadlines.arm(branch, limit, now)

    def _written(self, branch: Branch, hop: Hop, name: bytes, routing: Routing, token: bytes) -> bytes:
        """The request as it leaves for a hop, with our Via and Record-Route (§16.6)."""
        context, changes, dialogs = branch.context, branch.edit, self._dialogs
        request, source = context.request, context.server.source
        assert request is not None
        record_route = b""
        if context.record_routed:
            if request.scheme == b"sips" or hop.transport == "tls":
                is_sips = leaves_as_sips(request, routing, changes)
                record_route = dialogs.record_route_secured(request, source, hop, token, is_sips=is_sips)
            else:
                record_route = dialogs.record_route(request, source, hop, token)
        return edit.forwarded_request(
            request,
            via=dialogs.via(hop, name),
            record_route=record_route,
            received=context.server.received,
            routing=routing,
            edit=changes,
            on_stream=hop.transport != "udp",
        )

    def _dressed(self, branch: Branch, changes: Edit, proof: tuple[bytes, ...]) -> tuple[Routing, bytes]:
        """The request's lines as this target knows the dialog, and the token that brings that back (see `disguise`)."""
        context, target = branch.context, branch.target
        request = context.request
        assert request is not None
        if context.disguise is not None:
            disguise, is_caller = context.disguise
        else:
            has_credentials = target.credentials is not None
            is_numbered = has_credentials or branch.ahead > 0
            trunk = target.name if has_credentials else ""
            found = disguise_of(request, changes.from_, trunk, is_numbered=is_numbered)
            disguise, is_caller = replace(found, repeats=branch.ahead), True
        routing, restore = dress(request, context.routing, disguise, is_caller=is_caller, ahead=branch.ahead)
        context.restore = tuple((dict(context.restore) | dict(restore)).items())
        if proof:
            routing = with_proof(request, routing, proof)
        if not context.record_routed:
            return routing, b""
        return routing, seal(self._dialogs.disguise_key, disguise, request.call_id_bytes, request.from_tag_bytes)

    def _takes_tcp(self, hop: Hop, now: float) -> bool:
        return not self._tcp_doubts.holds(hop, now) and self._tcp_is_up(hop.ip, hop.port)
