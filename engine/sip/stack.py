"""The SIP element, sans I/O: bytes and the time go in, bytes, events and the next deadline come out.

    receive(data, source, now)   a datagram, or one message of a stream
    next_event()                 what happened; `RequestReceived` waits for `forward` or `respond`
    take_outgoing()              (bytes, hop) to send now, in order
    next_timer()                 when `handle_timer` wants to be called, None for never
    handle_timer(now)

`now` is the shell's monotonic clock in seconds. A request is read in the order of RFC 3261 §16: validated (§16.3),
its Route preprocessed (§16.4), its targets asked for (§16.5: the event) and forwarded (§16.6). A request inside a
dialog that we record-routed needs no asking.
"""

import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from engine.sip import edit
from engine.sip.auth import Credentials
from engine.sip.cancel import Cancels
from engine.sip.dialog import Dialogs, NextHop
from engine.sip.edit import Change, Routing
from engine.sip.events import (
    AnsweredLate,
    AttemptEnded,
    AttemptStarted,
    DialogEnded,
    Event,
    Finished,
    MessageRefused,
    OwnRequestEnded,
    ProvisionalReceived,
    RequestReceived,
)
from engine.sip.forward import Edit, Forward, Hop, Target
from engine.sip.inside import Inside
from engine.sip.message import BadMessage, Request, Response, parse_message
from engine.sip.own import OwnRequest, OwnRequests
from engine.sip.proxy import Branch, Proxy, ResponseContext, is_pending
from engine.sip.refusals import Refusals
from engine.sip.repair import REPAIRED_MAX_FORWARDS
from engine.sip.reply import reply_hop, unopened
from engine.sip.timers import Deadlines, Timed
from engine.sip.transaction import PASS, ClientTransaction, ServerTransaction, Transactions, client_key, server_key
from engine.sip.validation import Refusal, refusal_of

__all__ = [
    "AnsweredLate", "AttemptEnded", "AttemptStarted", "DialogEnded", "Edit", "Event", "Finished", "Forward", "Hop",
    "MessageRefused", "OwnRequestEnded", "ProvisionalReceived", "RequestReceived", "SipStack", "Target",
]  # fmt: skip

DECISION_S = 5.0  # an event nobody answered by then is answered 500: a fault of ours must not hold the caller


class SipStack:
    """One SIP element. Callbacks answer at once, from memory.

    Args:
        addresses: our host and port as the peer at a hop knows us: written into Via and Record-Route.
        make_branch: a new branch, beginning with `z9hG4bK`, never twice.
        make_tag: a new tag, also used in Call-IDs.
        mark_key: key of the marks in Record-Route; the same on every process that may see a dialog's requests.
        is_emergency: does this request name an emergency service? Asked only when it would be refused otherwise.
        is_trusted: may this hop send us requests outside a dialog?
        resolve: where a host name leads, best first, () when it is not known (in-dialog requests to names).
        meet: told the names that `resolve` may be asked for, when the dialog begins.
        credentials_of: those of a target by its name, for a challenge inside a dialog that it began.
        tcp_is_up: does TCP to that address and port work (an answer came by it lately, and its connection stands)? A
            request above 1300 bytes for a UDP target goes by TCP then (§18.1.1); anything else goes by UDP at once.
            The shell answers from what it knows, and reports a failed connection by `transport_failed` as ever.
        on_fault: told in words when something of ours failed on a request's way; the request went on all the same, or
            was answered at once.
    """

    def __init__(
        self,
        *,
        addresses: Callable[[Hop], tuple[str, int]],
        make_branch: Callable[[], str],
        make_tag: Callable[[], str],
        mark_key: bytes,
        is_emergency: Callable[[Request, Hop], bool],
        is_trusted: Callable[[Hop], bool],
        resolve: Callable[[NextHop], Sequence[Hop]] = lambda _: (),
        meet: Callable[[NextHop], None] = lambda _: None,
        credentials_of: Callable[[str], Credentials | None] = lambda _: None,
        tcp_is_up: Callable[[str, int], bool] = lambda _ip, _port: False,
        on_fault: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._outgoing: list[tuple[bytes, Hop]] = []
        self._events: deque[Event] = deque()
        self._deadlines = Deadlines()
        self._transactions = Transactions(self._send)
        self._dialogs = Dialogs(addresses, mark_key, meet)
        self._make_branch = make_branch
        self._make_tag = make_tag
        self._is_emergency = is_emergency
        self._is_trusted = is_trusted
        self._on_fault = on_fault
        self._proxy = Proxy(
            transactions=self._transactions,
            dialogs=self._dialogs,
            deadlines=self._deadlines,
            make_branch=make_branch,
            make_tag=make_tag,
            send=self._send,
            emit=self._events.append,
            tcp_is_up=tcp_is_up,
            on_fault=on_fault,
        )
        self.cancels = Cancels(transactions=self._transactions, proxy=self._proxy, is_trusted=is_trusted)
        self._inside = Inside(
            dialogs=self._dialogs, resolve=resolve, credentials_of=credentials_of, silent=self._proxy.silent,
            remembered=self._proxy.remembered,
        )  # fmt: skip
        self._refusals = Refusals(
            transactions=self._transactions,
            inside=self._inside,
            is_emergency=is_emergency,
            is_trusted=is_trusted,
            make_tag=make_tag,
            send=self._send,
            emit=self._events.append,
        )
        self._own_requests = OwnRequests(
            transactions=self._transactions, dialogs=self._dialogs, deadlines=self._deadlines, make_branch=make_branch,
            make_tag=make_tag, emit=self._events.append,
        )  # fmt: skip
        self.refused = self._refusals.counts
        # (message, who sent it) -> does another process on our address take what belongs to nothing here? None: nobody
        self.stray: Callable[[bytes, Hop], bool] | None = None
        self.answered: Counter[int] = Counter()  # final responses of our own to requests that could be read

    # -- the five doors ------------------------------------------------------------------------------------------

    def receive(self, data: bytes, source: Hop, now: float) -> None:
        """Take in one message. Whatever the bytes are, this returns; what could not be read is an event."""
        try:
            message = parse_message(data)
        except BadMessage as fault:
            if data.strip(b"\r\n\0"):  # else a keep-alive (RFC 5626 §3.5.1)
                self._receive_bad(data, fault, source, now)
            return
        try:
            if isinstance(message, Request):
                self._receive_request(message, source, now)
            else:
                self._receive_response(message, source, now)
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not keep a 911 here, nor its caller waiting
            self._on_fault(f"{message.call_id_bytes[:80]!r} from {source.ip}: {fault!r:.300}")
            if isinstance(message, Request):
                self._receive_all_the_same(message, source, now)

    def is_known(self, request: Request) -> bool:
        """Does a transaction of that request run already?"""
        return server_key(request) in self._transactions.servers

    def is_awaited(self, connection: int) -> bool:
        """Does anybody at the connection of that number wait for a final answer? Looks at every transaction."""
        servers = self._transactions.servers.values()
        return any(each.source.connection == connection and is_pending(each) for each in servers)

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def take_outgoing(self) -> list[tuple[bytes, Hop]]:
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def next_timer(self) -> float | None:
        first, second = self._transactions.next_timer(), self._deadlines.next()
        if first is None or (second is not None and second < first):
            return second
        return first

    @property
    def soonest_timer(self) -> float:
        """`next_timer` or earlier, `inf` for never: cheap to ask after every message."""
        return min(self._transactions.soonest_timer, self._deadlines.soonest)

    def handle_timer(self, now: float) -> None:
        for client in self._transactions.handle_timer(now):
            self._end_unanswered(client, now, is_transport=False)
        for item in self._deadlines.take_due(now):
            try:
                self._due(item, now)
            except Exception as fault:  # noqa: BLE001 - neither this one nor the others that are due may be lost
                self._on_fault(f"a deadline: {fault!r:.300}")
                if isinstance(item, Branch):
                    self._pass_over(item, None, now)
                elif isinstance(item, ResponseContext) and not item.branches:
                    self._break_off(item, now)

    def _due(self, item: Timed, now: float) -> None:
        if isinstance(item, Branch):
            self._proxy.deadline(item, now)
        elif isinstance(item, ResponseContext):
            if item.branches:
                self._proxy.still_trying(item, now)
            else:
                self.respond(item.server, 500, now=now)
                item.server.owner = item  # a decision that comes after all is told what became of it
        elif isinstance(item, OwnRequest):
            self._own_requests.time_out(item, now)

    # -- answers to RequestReceived ------------------------------------------------------------------------------

    def forward(self, transaction: ServerTransaction, forward: Forward, now: float) -> None:
        """Proxy the request to the first target that takes it. Without targets the caller gets 480."""
        context = transaction.owner
        if not isinstance(context, ResponseContext):  # it has ended already
            return
        if context.request is not None and context.request.max_forwards == 0:
            if not forward.emergency:  # an OPTIONS that was meant for us
                self.respond(transaction, 483, now=now)
                return
            context.request.max_forwards = REPAIRED_MAX_FORWARDS
        self._proxy.start(context, forward, now)

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        reason: str = "",
        headers: Sequence[tuple[str, str]] = (),
        *,
        now: float,
        is_stateless: bool = False,
    ) -> None:
        """Answer the request ourselves. Nothing happens when it has a final response already (a CANCEL was faster).

        `is_stateless`: once, and the request is forgotten (§8.2.7): a stranger's forged address gets one answer to one
        datagram, and keeps nothing here.
        """
        request = transaction.request
        if request is None or not is_pending(transaction):
            return
        data = edit.response_to(
            request, status, reason, to_tag=self._make_tag().encode(), received=transaction.received,
            added=tuple(headers),
        )  # fmt: skip
        self._transactions.respond(transaction, status, data, now)
        if is_stateless:
            self._transactions.abandon(transaction)
        context = transaction.owner
        if status >= 200:
            self.answered[status] += 1
        if status >= 200 and isinstance(context, ResponseContext):
            self._deadlines.disarm(context)
            context.is_done = True
            context.request = None
            transaction.owner = None  # no cycles: nothing here waits for the collector

    def forget(self, transaction: ServerTransaction) -> None:
        """Another process on our address has the request: nothing is answered here, and a repetition is new again."""
        if isinstance(transaction.owner, ResponseContext):
            self._deadlines.disarm(transaction.owner)
            transaction.owner.is_done, transaction.owner.request = True, None
        self._transactions.abandon(transaction)

    def is_under_way(self, transaction: ServerTransaction) -> bool:
        """Has the request left for a target, or been answered?"""
        context = transaction.owner
        return transaction.request is None or (isinstance(context, ResponseContext) and bool(context.branches))

    def give_up(self, transaction: ServerTransaction, now: float) -> None:
        """Answer 500 at once, by nothing that may have been at fault: whoever called tries its next way now, not when
        it has run out of patience. Nothing happens to a request that is under way.
        """
        request = transaction.request
        if request is None or self.is_under_way(transaction):
            return
        tag = b"%08x" % zlib.crc32(request.via.branch)
        data = edit.response_to(request, 500, to_tag=tag, received=transaction.received)
        context, transaction.owner = transaction.owner, None
        if isinstance(context, ResponseContext):
            self._deadlines.disarm(context)
            context.is_done, context.request = True, None
        if self._transactions.respond(transaction, 500, data, now):
            self.answered[500] += 1

    # -- our own requests, and what the shell knows --------------------------------------------------------------

    def send_request(
        self,
        method: str,
        request_uri: str,
        hop: Hop,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        token: object,
        now: float,
        timeout_s: float,
        credentials: Credentials | None = None,
        inner: Credentials | None = None,
    ) -> None:
        """Send a non-INVITE request outside any dialog (OPTIONS, NOTIFY); ends in `OwnRequestEnded`.

        `headers` may hold From, To, Call-ID, CSeq, Max-Forwards or Contact instead of the usual ones. `credentials`
        answer a 401 or 407; `inner` the 401 where a proxy's 407 takes others.
        """
        own = OwnRequest(token, credentials, inner)
        self._own_requests.send(method, request_uri, hop, headers, body, own, now, timeout_s)

    def transport_failed(self, hop: Hop, now: float) -> None:
        """The shell could not connect to a hop, was refused by it, or its stream closed."""
        if hop.transport != "udp":
            self._proxy.attempts.disconnected(hop)
        for client in self._transactions.waiting_on(hop):
            if self._transactions.fail(client, now):
                self._end_unanswered(client, now, is_transport=True)

    def transport_connected(self, hop: Hop, now: float) -> None:
        """A stream to that hop stands (it has an address, its number does not matter)."""
        self._proxy.attempts.connected(hop, now)

    def answer_at(self, ports: Iterable[int]) -> None:
        """Ports that are ours too, although peers are told others: several processes share them."""
        self._dialogs.also_ports = frozenset(ports)

    @property
    def transaction_counts(self) -> tuple[int, int]:
        """(server, client) transactions alive."""
        return len(self._transactions.servers), len(self._transactions.clients)

    # -- requests ------------------------------------------------------------------------------------------------

    def _receive_request(self, request: Request, source: Hop, now: float) -> None:
        key = server_key(request)
        known = self._transactions.servers.get(key)
        is_ack = request.method == "ACK"
        if known is not None and (known.source.ip == source.ip or not self._is_usurped(known, source)):
            if self._transactions.receive_again(known, is_ack=is_ack, now=now) is PASS:
                self._forward_ack(request, source, now)
            return
        if is_ack:
            self._forward_ack(request, source, now)
            return
        hop, received = reply_hop(request, source)
        server = ServerTransaction(key, request, source, hop, received)
        self._transactions.open_server(server)
        if request.method == "CANCEL":
            self._cancel(server, now)
            return
        loop = b".%08x" % zlib.crc32(
            request.request_uri_bytes + request.call_id_bytes + b"%d" % request.cseq_number + request.lines_of(b"route")
        )
        refusal = refusal_of(request, source, loop, self._dialogs)
        if refusal is not None and not self._goes_on(request, server, refusal, now):
            return
        routing = self._dialogs.preprocess(request, source)
        is_in_dialog = routing.is_marked and bool(request.to_tag_bytes)
        server.owner = context = ResponseContext(server, request, routing, loop)
        if context.is_invite and (is_in_dialog or self._is_trusted(source)):
            trying = edit.trying(request, received)
            self._transactions.respond(server, 100, trying, now)
        if is_in_dialog:
            self._forward_in_dialog(context, now)
        else:
            if context.is_invite:
                self._dialogs.meet(request)
            self._deadlines.arm(context, DECISION_S, now)
            self._events.append(RequestReceived(server, request, source))

    def _receive_all_the_same(self, request: Request, source: Hop, now: float) -> None:
        """Something of ours failed on a new request's way in. It is asked about as it stands, its Route left out; one
        inside a dialog, or that cannot even be asked about, is answered at once.
        """
        if request.method == "ACK":
            return
        key = server_key(request)
        server = self._transactions.servers.get(key)
        if server is None:
            server = unopened(request, source)
            self._transactions.open_server(server)
        if server.request is not request or self.is_under_way(server):
            return
        if request.to_tag_bytes or request.method == "CANCEL":
            self.give_up(server, now)
            return
        cut: list[Change] = [(index, None) for index, name in enumerate(request.names) if name == b"route"]
        routing = Routing(cut, request.request_uri_bytes, is_marked=False)
        context = server.owner
        if isinstance(context, ResponseContext):
            self._deadlines.disarm(context)
        server.owner = context = ResponseContext(server, request, routing, b"")
        self._deadlines.arm(context, DECISION_S, now)
        self._events.append(RequestReceived(server, request, source))

    def _goes_on(self, request: Request, server: ServerTransaction, refusal: Refusal, now: float) -> bool:
        """An emergency request goes on whatever was found but a loop, with a note in `faults`; others are refused."""
        status, detail = refusal.status, refusal.detail
        is_trusted = self._is_trusted(server.source)
        if status != 482 and is_trusted and self._is_emergency(request, server.source):
            request.faults = (*request.faults, detail)
            if status == 483:
                request.max_forwards = REPAIRED_MAX_FORWARDS
            return True
        self.respond(server, status, "", refusal.headers, now=now, is_stateless=not is_trusted)
        self._refusals.note(request, detail, status, server.source, now, refusal.because)
        return False

    def _cancel(self, server: ServerTransaction, now: float) -> None:
        """CANCEL is hop by hop (§16.10): answered by us, then passed on along the branches.

        One that belongs to nothing here gets 481: nothing was ever forwarded statelessly that it could follow. It is
        forgotten at once, or a wrong one would be answered again in place of the right one with the same branch.
        """
        invite = self.cancels.invite_of(server)
        if invite is None:
            if self.stray is not None and server.request is not None and self.stray(server.request.raw, server.source):
                self.forget(server)
                return
            self.refused["stray_cancel", 481] += 1
            self.respond(server, 481, now=now, is_stateless=True)
            return
        self.respond(server, 200, now=now)
        self.cancels.end(invite, now)

    def _is_usurped(self, known: ServerTransaction, source: Hop) -> bool:
        """Did a stranger take the branch of a peer's request before it came? Then the stranger is forgotten."""
        if self._is_trusted(known.source) or not self._is_trusted(source):
            return False
        if isinstance(known.owner, ResponseContext):
            self._deadlines.disarm(known.owner)
            known.owner.is_done = True
        self._transactions.abandon(known)
        return True

    def _forward_in_dialog(self, context: ResponseContext, now: float) -> None:
        request, server = context.request, context.server
        if (
            self.stray is not None and request is not None and request.method == "BYE"
            and not self._proxy.remembered.has_tag(request) and self.stray(request.raw, server.source)
        ):  # fmt: skip
            self.forget(server)  # whoever carried the call notes its end
            return
        forward = self._inside.forward_of(context, now)
        if forward is None:
            self.respond(context.server, 503, "Next hop unknown", now=now)
        else:
            self._proxy.start(context, forward, now)

    def _forward_ack(self, request: Request, source: Hop, now: float) -> None:
        """The ACK of a 2xx goes by its route (§16.11, stateless); outside our dialogs it is dropped."""
        ack = self._inside.ack_of(request, source, now)
        if ack is None:
            if self.stray is not None and self.stray(request.raw, source):
                return
            self.refused["stray_ack", 0] += 1
        else:
            self._send(*ack)

    # -- responses, and what is no message -----------------------------------------------------------------------

    def _receive_response(self, response: Response, source: Hop, now: float) -> None:
        """A response finds its client transaction by our branch; a stray one is dropped, never forwarded."""
        client = self._transactions.clients.get(client_key(response.via.branch, response.cseq_method))
        if client is None:
            if self.stray is not None and self.stray(response.raw, source):
                return
            self.refused["stray_response", 0] += 1
            return
        owner = client.owner
        if isinstance(owner, Branch):
            try:
                self._proxy.receive_response(client, owner, response, now)
            except Exception as fault:  # noqa: BLE001 - a fault of ours must not keep a call from its answer
                self._on_fault(f"{response.call_id_bytes[:80]!r}, a {response.status}: {fault!r:.300}")
                self._take_all_the_same(owner, response, now)
            return
        act = self._transactions.receive_response(client, response.status, now)
        if act is PASS and response.status >= 200 and isinstance(owner, OwnRequest):
            self._own_requests.receive_final(owner, response, now)

    def _take_all_the_same(self, branch: Branch, response: Response, now: float) -> None:
        """A final response that we failed over ourselves: a 2xx goes up, after any other the next target is tried."""
        if response.status >= 300:
            self._pass_over(branch, response.status, now)
        elif response.status >= 200:
            try:
                self._proxy.answer_plainly(branch, response, now)
            except Exception as fault:  # noqa: BLE001 - as above
                self._on_fault(f"{response.call_id_bytes[:80]!r}, a {response.status} again: {fault!r:.300}")

    def _pass_over(self, branch: Branch, status: int | None, now: float) -> None:
        """A target that we failed over ourselves, with its refusal or without a word (None): the next one is tried;
        should that fail too, the caller has its answer at once.
        """
        context = branch.context
        try:
            self._proxy.pass_over(branch, status, now)
        except Exception as fault:  # noqa: BLE001 - then there is no way on from here
            self._on_fault(f"after {branch.target.name or 'an address inside a dialog'}: {fault!r:.300}")
            context.is_done = True
        if context.is_done and is_pending(context.server):
            self._break_off(context, now)

    def _break_off(self, context: ResponseContext, now: float) -> None:
        """`give_up` also what is under way, and without a fault of its own."""
        context.branches.clear()
        context.unheard.clear()
        try:
            self.give_up(context.server, now)
            if context.tag is not None:
                self._events.append(Finished(context.tag, "failed", 500, None, now))
        except Exception as fault:  # noqa: BLE001 - what else is due has its turn
            self._on_fault(f"no answer could be made: {fault!r:.300}")

    def _end_unanswered(self, client: ClientTransaction, now: float, *, is_transport: bool) -> None:
        owner, client.owner = client.owner, None  # no cycles: see `Transactions`
        if isinstance(owner, OwnRequest):
            self._own_requests.end(owner, None, now)
        elif isinstance(owner, Branch):
            try:
                self._proxy.end_unanswered(owner, "unreachable" if is_transport else "timeout", now)
            except Exception as fault:  # noqa: BLE001 - neither this call nor those that ended with it may be lost
                self._on_fault(f"{owner.target.name or 'an address inside a dialog'} said nothing: {fault!r:.300}")
                self._pass_over(owner, None, now)

    def _receive_bad(self, data: bytes, fault: BadMessage, source: Hop, now: float) -> None:
        """What is not quite SIP: mended where a 911 hangs on it, else refused."""
        mended = self._refusals.mended(data, fault, source)
        if isinstance(mended, Request):
            self._receive_request(mended, source, now)
        elif isinstance(mended, Response):
            self._receive_response(mended, source, now)
        else:
            self._refusals.refuse(data, fault, source, now)

    def _send(self, data: bytes, hop: Hop) -> None:
        self._outgoing.append((data, hop))
