"""The stateful proxy of RFC 3261 §16: response contexts, serial failover, CANCEL, best response.

A response context is one request's way through us. Its targets are tried one after the other, each try a branch with
a client transaction of its own. A branch is given up by our own clock when nothing at all was heard; it cannot be
cancelled then (§9.1 wants a 1xx first), so it is cancelled as soon as one comes, and its late 2xx is forwarded like
any other. A branch of an emergency call that heard nothing but 100 is kept beside the next target's, and whichever
progresses first has the call. With no target left, those never heard from get an emergency call once more without
its location (decision 0045). The rules that end a context: a 2xx; a final status that does not fail over; a CANCEL; no
target left.
"""

import zlib
from collections.abc import Callable

from engine.sip import edit
from engine.sip.attempt import Attempts
from engine.sip.context import Branch, ResponseContext
from engine.sip.dialog import Dialogs
from engine.sip.disguise import proof_lines
from engine.sip.edit import Routing
from engine.sip.events import (
    AnsweredLate,
    AttemptEnded,
    AttemptOutcome,
    DialogEnded,
    Event,
    Finished,
    ProvisionalReceived,
)
from engine.sip.failover import (
    CHALLENGES,
    Doubts,
    chosen,
    fails_over,
    for_half_the_time,
    keep_better,
    keep_refusal,
    keeps_sips,
    may_have_company,
    note_unheard,
    patience,
    upward,
)
from engine.sip.forward import NO_EDIT, Edit, Forward, Hop, Target
from engine.sip.message import Request, Response
from engine.sip.remembered import Remembered
from engine.sip.timers import LATE_TRYING_S, Deadlines
from engine.sip.transaction import (
    PASS,
    PASS_AND_ACK,
    ClientTransaction,
    ServerTransaction,
    State,
    Transactions,
)

__all__ = ["Branch", "Edit", "Forward", "Hop", "Proxy", "ResponseContext", "Target"]


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
        tcp_is_up: Callable[[str, int], bool],
        on_fault: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._transactions = transactions
        self._dialogs = dialogs
        self._deadlines = deadlines
        self._make_tag = make_tag
        self._send = send
        self._emit = emit
        self._on_fault = on_fault
        self.attempts = Attempts(
            transactions=transactions,
            dialogs=dialogs,
            deadlines=deadlines,
            make_branch=make_branch,
            emit=emit,
            tcp_is_up=tcp_is_up,
            on_fault=on_fault,
        )
        self.silent = Doubts()  # addresses that said nothing, or 503: asked last by requests inside a dialog
        self.remembered = Remembered()

    # -- from the stack ------------------------------------------------------------------------------------------

    def start(self, context: ResponseContext, forward: Forward, now: float) -> None:
        """Begin with the first target; without any, or after a CANCEL, the context ends at once."""
        request = context.request
        if context.is_invite or request is None:
            self._deadlines.disarm(context)
        else:
            self._deadlines.arm(context, LATE_TRYING_S, now)
        context.targets = forward.targets
        if request is not None and request.scheme == b"sips" and not (forward.emergency or context.routing.is_marked):
            context.targets = tuple(target for target in forward.targets if keeps_sips(target))
        context.tag = forward.tag
        context.fail_over = forward.fail_over
        context.is_emergency = forward.emergency
        context.is_own_test = forward.is_own_test
        context.is_test = forward.is_test
        if context.is_done:  # cancelled meanwhile, or answered 500 because this came so late
            if context.tag is not None:
                if context.is_cancelled:
                    self._emit(Finished(context.tag, "cancelled", 487, None, now))
                else:
                    self._emit(Finished(context.tag, "failed", 500, None, now))
            context.server.owner = None
            return
        self._go_on(context, now)

    def still_trying(self, context: ResponseContext, now: float) -> None:
        """A 100 for a request other than INVITE, so late that it does not slow its retransmission (RFC 4320 §4.1)."""
        request, server = context.request, context.server
        if request is not None and not context.is_done:
            trying = edit.response_to(request, 100, received=server.received)
            self._transactions.respond(server, 100, trying, now)

    def receive_response(self, client: ClientTransaction, branch: Branch, response: Response, now: float) -> None:
        status = response.status
        act = self._transactions.receive_response(client, status, now)
        if act is PASS_AND_ACK:
            self._transactions.acknowledge(client, edit.ack_of(client.sent, response))
        elif act is not PASS:
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
            if branch.is_kept or not branch.is_over:
                self.attempts.cancel(branch, now)

    def end_unanswered(self, branch: Branch, outcome: AttemptOutcome, now: float) -> None:
        """A client transaction ended without a final response: timers B and F, or its transport failed."""
        self._deadlines.disarm(branch)
        if branch.by_datagram is not None and outcome == "unreachable" and self.attempts.go_by_datagram(branch, now):
            return
        if outcome == "timeout" and branch.is_cancel_wanted:
            outcome = "cancelled"
        self._end_without_answer(branch, outcome, now)

    def pass_over(self, branch: Branch, status: int | None, now: float) -> None:
        """A refusal, or silence (None), that a fault of ours kept from being dealt with: the next target's turn."""
        context = branch.context
        if context.is_done or context.server.request is None:
            return
        self._deadlines.disarm(branch)
        branch.is_kept = False
        if not branch.is_over:
            self._end_attempt(branch, status, "timeout" if status is None else "refused", now)
        if not branch.client.is_final:
            self._transactions.stop_repeating(branch.client)
            branch.is_cancel_wanted = context.is_invite  # as soon as it says anything
        keep_better(context, 408 if status is None else 500, None, None)
        self._go_on(context, now)

    def answer_plainly(self, branch: Branch, response: Response, now: float) -> None:
        """A 2xx that a fault of ours kept from going up, or from ending what it ends: it goes up as it came, and the
        call stands.
        """
        context, server = branch.context, branch.context.server
        data = edit.forwarded_response(response, on_stream=server.is_reliable)
        if (
            data is not None
            and not self._transactions.respond(server, response.status, data, now)
            and context.is_invite
        ):
            self._send(data, server.hop)
        self._deadlines.disarm(branch)
        self._transactions.forget_sent(branch.client)
        if not branch.is_over:
            self._end_attempt(branch, response.status, "answered", now)
        context.is_done = True
        if context.request is not None:
            self._stands(branch, response, now)

    def deadline(self, branch: Branch, now: float) -> None:
        """The branch's own clock: nothing heard in time, timer C, or no final response after our CANCEL."""
        client, context = branch.client, branch.context
        if branch.is_heard and may_have_company(branch):
            self._go_on_beside(branch, now)
            return
        outcome: AttemptOutcome = "cancelled" if branch.is_cancel_wanted else "timeout"
        if branch.is_cancel_sent:
            self._transactions.abandon(client)
        else:
            self._transactions.stop_repeating(client)
            if context.is_invite:
                self.attempts.cancel(branch, now)
            else:
                self._transactions.abandon(client)
        self._end_without_answer(branch, outcome, now)

    # -- trying targets ------------------------------------------------------------------------------------------

    def _go_on(self, context: ResponseContext, now: float) -> None:
        """Try the next target, or finish when there is none or the caller has cancelled. One that cannot be made, or
        whose request cannot be written, is passed over.
        """
        while not context.is_cancelled and context.index < len(context.targets):
            context.index += 1
            try:
                target = context.targets[context.index - 1]
            except Exception as fault:  # noqa: BLE001 - the next one may do
                self._on_fault(f"target {context.index}: {fault!r:.300}")
                continue
            if self._tries(context, target, target.edit, now, is_retry=False):
                return
        if any(branch.is_awaited for branch in context.branches):
            return
        while context.spare and not context.is_cancelled:
            target = context.spare.pop(0)
            if self._tries(context, target, target.edit, now, is_retry=False):
                return
        if self._goes_without_location(context, now):
            return
        self._finish(context, now)

    def _goes_without_location(self, context: ResponseContext, now: float) -> bool:
        """Nobody is left who has not been asked: who said nothing at all to a call with a location is asked without."""
        while context.unheard and not context.is_cancelled:
            branch = context.unheard.pop(0)
            changes = branch.target.retry_edit
            if changes is not None and self._tries(context, branch.target, changes, now, is_retry=True, after=branch):
                return True
        return False

    def _go_on_beside(self, branch: Branch, now: float) -> None:
        """Nothing but 100 for `progress_s`: the next target is tried too. This one is told as silent, so that the next
        call goes elsewhere first, and is not cancelled: it may only be slow.
        """
        branch.is_kept = True
        self._end_attempt(branch, None, "timeout", now)
        self._deadlines.arm(branch, patience(branch, 100, now), now)
        keep_better(branch.context, 408, None, None)
        self._go_on(branch.context, now)

    def _prefer(self, branch: Branch, now: float) -> None:
        """It is the first to progress: the others are cancelled, and have their turn again should it fail."""
        context = branch.context
        for other in context.branches:
            if other is not branch and other.is_awaited:
                context.spare.append(other.given)
                self.attempts.cancel(other, now)

    def _settle(self, branch: Branch, now: float) -> None:
        """A branch beside others has ended: the call goes on when none of them may have it any more."""
        branch.is_kept = False
        context = branch.context
        if not (context.is_done or any(each.is_awaited for each in context.branches)):
            self._go_on(context, now)

    def _tries(
        self,
        context: ResponseContext,
        target: Target,
        changes: Edit,
        now: float,
        *,
        is_retry: bool,
        after: Branch | None = None,
        proof: tuple[bytes, ...] = (),
    ) -> bool:
        """`_try`, and with the least that can be changed when that failed; False when nothing could be sent."""
        for is_least in (False, True) if changes is not NO_EDIT else (False,):
            each = Edit(request_uri=changes.request_uri, remove=changes.remove) if is_least else changes
            try:
                self.attempts.begin(context, target, each, now, is_retry=is_retry, after=after, proof=proof)
            except Exception as fault:  # noqa: BLE001 - a fault of ours must not keep a 911 call from its next trunk
                self._on_fault(f"{target.name or 'a request inside a dialog'} to {target.hop.ip}: {fault!r:.300}")
            else:
                return True
        keep_better(context, 500, None, None)
        return False

    def _end_without_answer(self, branch: Branch, outcome: AttemptOutcome, now: float) -> None:
        if branch.is_over:
            if branch.is_kept:
                self._settle(branch, now)
            return
        self._end_attempt(branch, None, outcome, now)
        self._note_silence(branch, outcome, now)
        if branch.context.is_done:
            return
        if outcome == "cancelled" and not branch.context.is_cancelled:  # another has the call
            self._settle(branch, now)
            return
        keep_better(branch.context, 503 if outcome == "unreachable" else 408, None, None)
        if branch.by_datagram is not None and outcome == "timeout" and not branch.context.is_cancelled:
            self.attempts.doubt_stream(branch, now)
            given = branch.by_datagram.target
            given = for_half_the_time(given, given.hop)
            if self._tries(branch.context, given, branch.edit, now, is_retry=branch.is_retry, after=branch):
                return
        if outcome == "timeout":
            note_unheard(branch)
        self._go_on(branch.context, now)

    def _note_silence(self, branch: Branch, outcome: AttemptOutcome, now: float) -> None:
        """Whoever said nothing at all is asked last by what follows in any dialog, and no longer has this one."""
        hop, request = branch.target.hop, branch.context.request
        if not branch.target.name:
            self.silent.add(hop, now)
            if request is not None:
                self.remembered.forget_answerer(request, hop)
        elif outcome == "unreachable" or (outcome == "timeout" and not branch.is_heard):
            self.silent.add(hop, now)

    # -- responses -----------------------------------------------------------------------------------------------

    def _provisional(self, branch: Branch, response: Response, now: float) -> None:
        context, status = branch.context, response.status
        is_first, branch.is_heard = not branch.is_heard, True
        branch.is_rung = branch.is_rung or status >= 180
        is_alive = branch.is_kept or not branch.is_over
        if status > 100 and not branch.has_progressed:
            branch.has_progressed = True
            if is_alive and not branch.is_cancel_wanted:
                self._prefer(branch, now)
        if not branch.is_cancel_sent and (status > 100 or is_first):  # §16.7 step 2: no 100 gives timer C more time
            if context.is_invite:
                self._deadlines.arm(branch, patience(branch, status, now), now)
            else:
                self._deadlines.disarm(branch)  # timer F goes on
        if context.tag is not None and is_alive:
            self._emit(ProvisionalReceived(context.tag, branch.target, status, now))
        if branch.is_cancel_wanted:
            self.attempts.cancel(branch, now)
            is_alive = is_alive and context.is_cancelled  # it lost to another: nobody acknowledges its 183 any more
        if status > 100 and context.is_invite and is_alive and not context.is_done:  # RFC 4320 §4.1
            data = upward(context, response)
            if data is not None:
                self._transactions.respond(context.server, status, data, now)

    def _success(self, branch: Branch, response: Response, now: float) -> None:
        """Every 2xx goes up at once (§16.7 step 5): first, late, or a retransmission."""
        context, status = branch.context, response.status
        data = upward(context, response)
        if data is None:  # our Via stood alone: nobody to send it to, and the branch must not wait for another
            self._deadlines.disarm(branch)
            self._end_without_answer(branch, "unreachable", now)
            return
        if not self._transactions.respond(context.server, status, data, now) and context.is_invite:
            self._send(data, context.server.hop)  # §16.7 step 10: its transaction has gone
        if context.is_invite:
            self._note_answerer(branch, response)
        if context.is_done and not branch.client.sent:
            return  # a retransmission
        self._deadlines.disarm(branch)
        self._transactions.forget_sent(branch.client)
        if branch.is_over or context.is_done:
            self._answered_late(branch, response, now)
        else:
            self._end_attempt(branch, status, "answered", now)
        if context.is_done:
            return
        context.is_done = True
        self._stands(branch, response, now)

    def _stands(self, branch: Branch, response: Response, now: float) -> None:
        """The first 2xx has gone up: it is told, the other branches are cancelled."""
        context, status = branch.context, response.status
        if context.tag is not None:
            if context.is_invite:
                self.remembered.keep_tag(response, context.tag)
            self._emit(Finished(context.tag, "answered", status, branch.target, now))
        for other in context.branches:
            if not other.client.is_final:
                self.attempts.cancel(other, now)
        self._release(context, response, now)

    def _note_answerer(self, branch: Branch, response: Response) -> None:
        """The dialog may lie behind a name: of the name's addresses the one that answered has it, and no other need."""
        context = branch.context
        if self._dialogs.meet(response) or (context.tag is None and len(context.targets) > 1):
            self.remembered.keep_answerer(response, branch.client.hop)

    def _answered_late(self, branch: Branch, response: Response, now: float) -> None:
        """It was given up for silent, or the caller has another answer: the call stands, and its record must say so."""
        tag, status = branch.context.tag, response.status
        if not branch.is_over:
            self._end_attempt(branch, status, "answered", now)
        if tag is None or not branch.context.is_invite:
            return
        with_location = branch.edit.conveys_location
        self._emit(AnsweredLate(tag, branch.target, branch.number, status, with_location, branch.started_at, now))
        self.remembered.keep_tag(response, tag)

    def _failure(self, branch: Branch, response: Response, now: float) -> None:
        context, status, target = branch.context, response.status, branch.target
        self._deadlines.disarm(branch)
        if status == 503:
            self.silent.add(target.hop, now)  # RFC 3263 §4.3
        is_challenged = status in CHALLENGES and target.credentials is not None
        proof = self._proof(branch, response) if is_challenged else ()
        self._transactions.forget_sent(branch.client)
        if branch.is_over:
            # given up for silent; its word still counts, unless it asks for a password that is ours to know
            if not (context.is_done or branch.is_cancel_sent or is_challenged):
                keep_refusal(context, response, target)
            if branch.is_kept:
                self._settle(branch, now)
            return
        outcome: AttemptOutcome = "challenged" if proof else "refused"
        self._end_attempt(branch, status, "cancelled" if branch.is_cancel_wanted else outcome, now)
        if context.is_done:
            return
        if branch.is_cancel_wanted and not context.is_cancelled:  # another has the call
            self._settle(branch, now)
            return
        if is_challenged:
            self._go_on_challenged(branch, proof, now)
            return
        if context.is_cancelled:
            context.best = None  # what became of the CANCEL is what the caller wants to know
        keep_refusal(context, response, target)
        self._go_on_refused(branch, response, now)

    def _go_on_refused(self, branch: Branch, response: Response, now: float) -> None:
        """The same target without its location, the next one, or the end: what this refusal leads to."""
        context, status, target = branch.context, response.status, branch.target
        is_retry_due = status in target.retry_on and target.retry_edit is not None and not branch.is_retry
        if is_retry_due and target.retry_edit is not None and not context.is_cancelled:
            if not self._tries(context, branch.given, target.retry_edit, now, is_retry=True, after=branch):
                self._go_on(context, now)
        elif fails_over(branch, status):
            self._go_on(context, now)
        elif any(each.is_awaited for each in context.branches):
            context.index = len(context.targets)  # an answerer's word: nobody else is asked, who was asked may answer
            context.spare.clear()
            context.unheard.clear()
        else:
            self._finish(context, now, response)

    def _proof(self, branch: Branch, response: Response) -> tuple[bytes, ...]:
        """Header lines that answer a challenge to our own credentials; () when there is none, or it was refused."""
        context, credentials = branch.context, branch.target.credentials
        if credentials is None or branch.is_over or context.is_done or context.is_cancelled:
            return ()
        return proof_lines(
            response, branch.client.sent, credentials, cnonce=self._make_tag(), proofs=branch.proofs,
            ahead=branch.ahead,
        )  # fmt: skip

    def _go_on_challenged(self, branch: Branch, proof: tuple[bytes, ...], now: float) -> None:
        """Answer a challenge at the same target; without an answer the caller, who has no better one, never sees it."""
        context, target = branch.context, branch.target
        if not proof or context.is_cancelled:
            keep_better(context, 503 if context.record_routed else 403, None, target)
            self._go_on(context, now)
            return
        request = context.request
        if context.is_invite and context.disguise is not None and request is not None:
            self.remembered.keep_repeats(request, branch.ahead + 1)
        changes = target.retry_edit if branch.is_retry and target.retry_edit is not None else target.edit
        if not self._tries(context, branch.given, changes, now, is_retry=branch.is_retry, after=branch, proof=proof):
            self._go_on(context, now)

    def _end_attempt(self, branch: Branch, status: int | None, outcome: AttemptOutcome, now: float) -> None:
        branch.is_over = True
        tag = branch.context.tag
        if tag is not None:
            is_trying_only = status is None and branch.is_heard and not branch.has_progressed
            self._emit(AttemptEnded(tag, branch.target, branch.number, status, outcome, now, is_trying_only))

    # -- ending a context ----------------------------------------------------------------------------------------

    def _finish(self, context: ResponseContext, now: float, response: Response | None = None) -> None:
        """Send the best response up; nothing is tried after this."""
        request, server = context.request, context.server
        assert request is not None
        context.is_done = True
        status, data, target = chosen(context)
        if not context.is_invite and status == 408:
            self._transactions.silence(server, now)  # RFC 4320 §4.2: a 408, ours or another's, helps nobody
        else:
            if data is None:
                data = edit.response_to(request, status, to_tag=self._tag_for(request), received=server.received)
            self._transactions.respond(server, status, data, now)
        if context.tag is not None:
            is_cancelled = context.is_cancelled and status == 487
            self._emit(Finished(context.tag, "cancelled" if is_cancelled else "failed", status, target, now))
        self._release(context, response, now)

    def _tag_for(self, request: Request) -> bytes:
        """A To tag of ours; should none be had, one by which a retransmission gets the same (RFC 3261 §8.2.7)."""
        try:
            return self._make_tag().encode()
        except Exception as fault:  # noqa: BLE001 - the caller must have its answer
            self._on_fault(f"a tag: {fault!r:.300}")
            return b"%08x" % zlib.crc32(request.via.branch)

    def _release(self, context: ResponseContext, response: Response | None, now: float) -> None:
        """Drop what only an unfinished context needs; a BYE that got its answer ends a tagged dialog."""
        request, context.request = context.request, None
        context.best = context.challenges = None
        self._deadlines.disarm(context)
        context.routing = _NO_ROUTING
        if context.branches:
            context.server.owner = None  # a late CANCEL finds nothing left to cancel
        for branch in context.branches:
            if branch.client.is_final and not (context.is_invite and branch.client.state is State.ACCEPTED):
                branch.client.owner = None  # only a 2xx of an INVITE may come again and must go up again
        context.branches.clear()
        context.unheard.clear()
        if request is not None and request.method == "BYE" and (response is None or response.status not in CHALLENGES):
            self.remembered.forget_answerers(request)
            tag = self.remembered.take_tag(request)
            if tag is not None:
                self._emit(DialogEnded(tag, now))


_NO_ROUTING = Routing([], b"", is_marked=False)


def is_pending(server: ServerTransaction) -> bool:
    """May a final response still be sent through it?"""
    return server.state in (State.TRYING, State.PROCEEDING)
