"""The stateful proxy of RFC 3261 §16: response contexts, serial failover, CANCEL, best response.

A response context is one request's way through us. Its targets are tried one after the other, each try a branch with
a client transaction of its own. A branch is given up by our own clock when nothing at all was heard; it cannot be
cancelled then (§9.1 wants a 1xx first), so it is cancelled as soon as one comes, and its late 2xx is forwarded like
any other. The rules that end a context: a 2xx; a final status that does not fail over; a CANCEL; no target left.
"""

from collections import OrderedDict
from collections.abc import Callable

from engine.sip import edit
from engine.sip.dialog import Dialogs
from engine.sip.edit import Routing
from engine.sip.events import (
    AttemptEnded,
    AttemptOutcome,
    AttemptStarted,
    DialogEnded,
    Event,
    Finished,
    ProvisionalReceived,
)
from engine.sip.forward import Edit, Forward, Hop, Target
from engine.sip.message import Request, Response
from engine.sip.timers import EMERGENCY_TIMER_C_S, TIMER_C_S, TRANSACTION_S, Deadlines, Lane
from engine.sip.transaction import Act, ClientTransaction, ServerTransaction, State, Transactions, client_key

__all__ = ["Branch", "Edit", "Forward", "Hop", "Proxy", "ResponseContext", "Target"]

RETRY_WITH_OTHER_EDIT = frozenset({424, 488})  # bad location (RFC 6442), not acceptable here
PREFERRED_4XX = frozenset({401, 407, 415, 420, 484})  # §16.7 step 6
MAX_TAGGED_DIALOGS = 100_000  # the oldest is forgotten then: its BYE is still forwarded, only not reported


class ResponseContext:
    """One request's way through the proxy. `request` is dropped when the final response has gone up."""

    __slots__ = (
        "best", "branches", "fail_over", "index", "is_cancelled", "is_done", "is_emergency", "is_invite", "lane",
        "loop", "record_routed", "request", "routing", "server", "tag", "targets",
    )  # fmt: skip

    def __init__(self, server: ServerTransaction, request: Request, routing: Routing, loop: bytes) -> None:
        self.server = server
        self.request: Request | None = request
        self.routing = routing
        self.loop = loop
        self.lane: Lane | None = None
        self.is_invite = request.method == "INVITE"
        self.record_routed = self.is_invite and not routing.is_marked
        self.targets: tuple[Target, ...] = ()
        self.tag: object = None
        self.fail_over: frozenset[int] = frozenset()
        self.is_emergency = False
        self.index = 0
        self.branches: list[Branch] = []
        self.best: tuple[int, bytes | None, Target | None] | None = None
        self.is_cancelled = False
        self.is_done = False


class Branch:
    """One try of one target. `is_over`: its attempt has ended, by a final response or because it was given up."""

    __slots__ = (
        "client", "context", "is_cancel_sent", "is_cancel_wanted", "is_heard", "is_over", "is_retry", "lane", "number",
        "target",
    )  # fmt: skip

    client: ClientTransaction

    def __init__(self, context: ResponseContext, target: Target, number: int, *, is_retry: bool) -> None:
        self.context = context
        self.target = target
        self.number = number
        self.is_retry = is_retry
        self.is_heard = False
        self.is_over = False
        self.is_cancel_wanted = False
        self.is_cancel_sent = False
        self.lane: Lane | None = None


class Proxy:
    """Runs the response contexts. The stack hands it requests, responses and timers."""

    def __init__(
        self,
        *,
        transactions: Transactions,
        dialogs: Dialogs,
        deadlines: Deadlines,
        make_branch: Callable[[], str],
        make_tag: Callable[[], str],
        send: Callable[[bytes, Hop], None],
        emit: Callable[[Event], None],
    ) -> None:
        self._transactions = transactions
        self._dialogs = dialogs
        self._deadlines = deadlines
        self._make_branch = make_branch
        self._make_tag = make_tag
        self._send = send
        self._emit = emit
        self._connected: set[tuple[str, int]] = set()
        self._tags: OrderedDict[tuple[bytes, bytes], object] = OrderedDict()

    # -- from the stack ------------------------------------------------------------------------------------------

    def start(self, context: ResponseContext, forward: Forward, now: float) -> None:
        """Begin with the first target; without any, or after a CANCEL, the context ends at once."""
        self._deadlines.disarm(context)
        context.targets = forward.targets
        context.tag = forward.tag
        context.fail_over = forward.fail_over
        context.is_emergency = forward.emergency
        if context.is_done:  # cancelled meanwhile, or answered 500 because this came so late
            if context.tag is not None:
                if context.is_cancelled:
                    self._emit(Finished(context.tag, "cancelled", 487, None, now))
                else:
                    self._emit(Finished(context.tag, "failed", 500, None, now))
            return
        self._go_on(context, now)

    def receive_response(self, client: ClientTransaction, branch: Branch, response: Response, now: float) -> None:
        status = response.status
        act = self._transactions.receive_response(client, status, now)
        if act is Act.PASS_AND_ACK:
            self._transactions.acknowledge(client, edit.ack_of(client.sent, response))
        elif act is not Act.PASS:
            return
        if status < 200:
            self._provisional(branch, response, now)
        elif status < 300:
            self._success(branch, response, now)
        else:
            self._failure(branch, response, now)

    def cancel(self, context: ResponseContext, now: float) -> None:
        """The caller gave up (§16.10): no further target, and every branch still ringing is cancelled."""
        if context.is_done or context.is_cancelled:
            return
        context.is_cancelled = True
        if not context.branches:  # nobody has decided yet where to: nothing to wait for
            self._finish(context, now)
            return
        for branch in context.branches:
            if not branch.is_over:
                self._cancel_branch(branch, now)

    def end_unanswered(self, branch: Branch, outcome: AttemptOutcome, now: float) -> None:
        """A client transaction ended without a final response: timers B and F, or its transport failed."""
        self._deadlines.disarm(branch)
        if outcome == "timeout" and branch.is_cancel_wanted:
            outcome = "cancelled"
        self._end_without_answer(branch, outcome, now)

    def deadline(self, branch: Branch, now: float) -> None:
        """The branch's own clock: nothing heard in time, timer C, or no final response after our CANCEL."""
        client, context = branch.client, branch.context
        outcome: AttemptOutcome = "cancelled" if branch.is_cancel_wanted else "timeout"
        if branch.is_cancel_sent:
            self._transactions.abandon(client)
        else:
            self._transactions.stop_repeating(client)
            if context.is_invite:
                self._cancel_branch(branch, now)
            else:
                self._transactions.abandon(client)
        self._end_without_answer(branch, outcome, now)

    def connected(self, hop: Hop, now: float) -> None:
        """A stream to that hop stands: from now on the first response is waited for."""
        self._connected.add((hop.ip, hop.port))
        for client in self._transactions.waiting_on(hop._replace(connection=0)):
            branch = client.owner
            if isinstance(branch, Branch) and branch.lane is not None and not branch.is_cancel_sent:
                self._deadlines.arm(branch, branch.target.first_response_s, now)

    def disconnected(self, hop: Hop) -> None:
        self._connected.discard((hop.ip, hop.port))

    # -- trying targets ------------------------------------------------------------------------------------------

    def _go_on(self, context: ResponseContext, now: float) -> None:
        """Try the next target, or finish when there is none or the caller has cancelled."""
        if context.is_cancelled or context.index >= len(context.targets):
            self._finish(context, now)
            return
        target = context.targets[context.index]
        context.index += 1
        self._try(context, target, target.edit, now, is_retry=False)

    def _try(self, context: ResponseContext, target: Target, changes: Edit, now: float, *, is_retry: bool) -> None:
        request, hop = context.request, target.hop
        assert request is not None
        branch = Branch(context, target, len(context.branches) + 1, is_retry=is_retry)
        context.branches.append(branch)
        name = self._make_branch().encode() + context.loop
        record_route = b""
        if context.record_routed:
            record_route = self._dialogs.record_route(request, context.server.source, hop)
        sent = edit.forwarded_request(
            request,
            via=self._dialogs.via(hop, name),
            record_route=record_route,
            received=context.server.received,
            routing=context.routing,
            edit=changes,
        )
        branch.client = ClientTransaction(client_key(name, request.cseq_method), sent, hop, branch)
        self._transactions.open_client(branch.client, now)
        limit = target.first_response_s
        if hop.transport != "udp" and not hop.connection and (hop.ip, hop.port) not in self._connected:
            limit = target.connect_s
        if limit > 0:
            self._deadlines.arm(branch, limit, now)
        if context.tag is not None:
            self._emit(AttemptStarted(context.tag, target, branch.number, changes.conveys_location, sent, now))

    def _end_without_answer(self, branch: Branch, outcome: AttemptOutcome, now: float) -> None:
        if branch.is_over:
            return
        self._end_attempt(branch, None, outcome, now)
        if branch.context.is_done:
            return
        self._candidate(branch.context, 503 if outcome == "unreachable" else 408, None, None)
        self._go_on(branch.context, now)

    def _cancel_branch(self, branch: Branch, now: float) -> None:
        """Send CANCEL when a 1xx was heard, else remember to (§9.1)."""
        branch.is_cancel_wanted = True
        client = branch.client
        if not branch.is_heard or branch.is_cancel_sent or client.is_final or not branch.context.is_invite:
            return
        branch.is_cancel_sent = True
        cancel = ClientTransaction(
            client_key(client.key.branch, b"CANCEL"), edit.cancel_of(client.sent), client.hop, None
        )
        self._transactions.open_client(cancel, now)
        self._deadlines.arm(branch, TRANSACTION_S, now)  # §9.1: no final response by then, and it is taken as cancelled

    # -- responses -----------------------------------------------------------------------------------------------

    def _provisional(self, branch: Branch, response: Response, now: float) -> None:
        context, status = branch.context, response.status
        branch.is_heard = True
        if not branch.is_cancel_sent:
            if context.is_invite:
                self._deadlines.arm(branch, EMERGENCY_TIMER_C_S if context.is_emergency else TIMER_C_S, now)
            else:
                self._deadlines.disarm(branch)  # timer F goes on
        if context.tag is not None and not branch.is_over:
            self._emit(ProvisionalReceived(context.tag, branch.target, status, now))
        if branch.is_cancel_wanted:
            self._cancel_branch(branch, now)
        if status > 100 and not branch.is_over and not context.is_done:
            data = edit.forwarded_response(response)
            if data is not None:
                self._transactions.respond(context.server, status, data, now)

    def _success(self, branch: Branch, response: Response, now: float) -> None:
        """Every 2xx goes up at once (§16.7 step 5): first, late, or a retransmission."""
        context, status = branch.context, response.status
        data = edit.forwarded_response(response)
        if data is None:
            return
        if not self._transactions.respond(context.server, status, data, now) and context.is_invite:
            self._send(data, context.server.hop)  # §16.7 step 10: its transaction has gone
        if context.is_done and branch.is_over:
            return  # a retransmission
        self._deadlines.disarm(branch)
        self._transactions.forget_sent(branch.client)
        if not branch.is_over:
            self._end_attempt(branch, status, "answered", now)
        if context.is_done:
            return
        context.is_done = True
        if context.tag is not None:
            if context.is_invite:
                self._remember_tag(response, context.tag)
            self._emit(Finished(context.tag, "answered", status, branch.target, now))
        for other in context.branches:
            if not other.client.is_final:
                self._cancel_branch(other, now)
        self._release(context, response, now)

    def _failure(self, branch: Branch, response: Response, now: float) -> None:
        context, status = branch.context, response.status
        self._deadlines.disarm(branch)
        self._transactions.forget_sent(branch.client)
        if branch.is_over:
            return
        self._end_attempt(branch, status, "cancelled" if branch.is_cancel_wanted else "refused", now)
        if context.is_done:
            return
        target = branch.target
        self._candidate(context, status, edit.forwarded_response(response), target)
        is_retry_due = status in RETRY_WITH_OTHER_EDIT and target.retry_edit is not None and not branch.is_retry
        if is_retry_due and target.retry_edit is not None and not context.is_cancelled:
            self._try(context, target, target.retry_edit, now, is_retry=True)
        elif status in context.fail_over:
            self._go_on(context, now)
        else:
            self._finish(context, now, response)

    def _end_attempt(self, branch: Branch, status: int | None, outcome: AttemptOutcome, now: float) -> None:
        branch.is_over = True
        tag = branch.context.tag
        if tag is not None:
            self._emit(AttemptEnded(tag, branch.target, branch.number, status, outcome, now))

    # -- ending a context ----------------------------------------------------------------------------------------

    @staticmethod
    def _candidate(context: ResponseContext, status: int, data: bytes | None, target: Target | None) -> None:
        """Keep the better of two final responses (§16.7 step 6); one that came is better than one of our making."""
        best = context.best
        if best is None or _rank(status, data) < _rank(best[0], best[1]):
            context.best = (status, data, target)

    def _finish(self, context: ResponseContext, now: float, response: Response | None = None) -> None:
        """Send the best response up; nothing is tried after this."""
        request, server = context.request, context.server
        assert request is not None
        context.is_done = True
        status, data, target = context.best or (408, None, None)
        if data is None and context.is_cancelled:
            status = 487
        elif data is None and status == 408 and not context.targets:
            status = 480
        if data is None and not context.is_invite and status == 408:
            self._transactions.abandon(server)  # RFC 4320 §4.2: a late 408 to a non-INVITE request helps nobody
        else:
            if status == 503:  # §16.7 step 6: it would say that we are overloaded
                status = 500
                data = edit.with_status(data, 500) if data is not None else None
            if data is None:
                data = edit.response_to(request, status, to_tag=self._make_tag().encode(), received=server.received)
            self._transactions.respond(server, status, data, now)
        if context.tag is not None:
            is_cancelled = context.is_cancelled and status == 487
            self._emit(Finished(context.tag, "cancelled" if is_cancelled else "failed", status, target, now))
        self._release(context, response, now)

    def _release(self, context: ResponseContext, response: Response | None, now: float) -> None:
        """Drop what only an unfinished context needs; a BYE that got its answer ends a tagged dialog."""
        request, context.request = context.request, None
        context.best = None
        self._deadlines.disarm(context)
        context.routing = _NO_ROUTING
        if context.branches:
            context.server.owner = None  # a late CANCEL finds nothing left to cancel
        for branch in context.branches:
            if branch.client.is_final and not (context.is_invite and branch.client.state is State.ACCEPTED):
                branch.client.owner = None  # only a 2xx of an INVITE may come again and must go up again
        context.branches.clear()
        is_challenged = response is not None and response.status in {401, 407}
        if request is not None and request.method == "BYE" and not is_challenged:
            self._end_dialog(request, now)

    def _remember_tag(self, response: Response, tag: object) -> None:
        self._tags[response.call_id_bytes, response.tag_bytes(b"from")] = tag
        if len(self._tags) > MAX_TAGGED_DIALOGS:
            self._tags.popitem(last=False)

    def _end_dialog(self, request: Request, now: float) -> None:
        if not self._tags:
            return
        for caller in (request.from_tag_bytes, request.to_tag_bytes):
            tag = self._tags.pop((request.call_id_bytes, caller), None)
            if tag is not None:
                self._emit(DialogEnded(tag, now))
                return


_NO_ROUTING = Routing([], b"", is_marked=False)


def is_pending(server: ServerTransaction) -> bool:
    """May a final response still be sent through it?"""
    return server.state in (State.TRYING, State.PROCEEDING)


def _rank(status: int, data: bytes | None) -> tuple[int, bool, bool, int]:
    group = 0 if status >= 600 else status // 100
    return group, data is None, status not in PREFERRED_4XX, status
