"""Requests inside a dialog: where they go (RFC 3261 §16.6 step 7, RFC 3263 §4.3), and what the other side calls it.

Pure: names are asked of a callback. The ACK of a 2xx is forwarded without a transaction (§16.11).
"""

import ipaddress
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from engine.sip import edit
from engine.sip.auth import Credentials
from engine.sip.context import ResponseContext
from engine.sip.dialog import Dialogs, NextHop
from engine.sip.disguise import dress, opened
from engine.sip.edit import Routing
from engine.sip.failover import MAX_ADDRESSES, Doubts, one_after_another
from engine.sip.forward import NO_EDIT, Forward, Hop, Target
from engine.sip.message import Request
from engine.sip.remembered import Remembered
from engine.sip.reply import reply_hop
from engine.sip.transaction import server_key, with_method

_MAX_KEPT_TARGETS = 4_096


def literal_address(host: str) -> str | None:
    """The host when it is an IP address, as sockets write it."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


class Inside:
    """Finds the next hops of requests in dialogs, and dresses those of a dialog that looks different behind us.

    Args:
        resolve: where a host name leads, best first, () when it is not known.
        credentials_of: those of a trunk by its name, for a challenge inside a dialog that it began.
        silent: addresses that said nothing lately, or that they cannot.
        remembered: knows which of a name's addresses has the dialog.
    """

    __slots__ = (
        "_credentials_of", "_dialogs", "_literal_hops", "_remembered", "_resolve", "_silent", "_single_targets",
    )  # fmt: skip

    def __init__(
        self,
        *,
        dialogs: Dialogs,
        resolve: Callable[[NextHop], Sequence[Hop]],
        credentials_of: Callable[[str], Credentials | None],
        silent: Doubts,
        remembered: Remembered,
    ) -> None:
        self._dialogs, self._resolve, self._silent, self._remembered = dialogs, resolve, silent, remembered
        self._credentials_of = credentials_of
        self._literal_hops: dict[bytes, tuple[Hop, ...]] = {}
        self._single_targets: dict[Hop, Forward] = {}

    def forward_of(self, context: ResponseContext, now: float) -> Forward | None:
        """Where a request goes that came with our mark; None when nobody knows."""
        request = context.request
        hops = self.hops_of(request, context.routing, context.server.source, now) if request is not None else ()
        if request is None or not hops:
            return None
        forward = self.forward_to(hops, is_invite=context.is_invite)
        return self._disguised(context, request, forward) if context.routing.token else forward

    def _disguised(self, context: ResponseContext, request: Request, forward: Forward) -> Forward:
        """A Forward inside a dialog that looks different behind us, with the credentials its caller's side may need."""
        context.disguise = opened(self._dialogs.disguise_key, context.routing.token, request)
        if context.disguise is None:
            return forward
        disguise, is_caller = context.disguise
        credentials = self._credentials_of(disguise.trunk) if is_caller and disguise.trunk else None
        targets = tuple(replace(target, credentials=credentials) for target in forward.targets)
        return Forward(targets, fail_over=forward.fail_over)

    def ack_of(self, request: Request, source: Hop, now: float) -> tuple[bytes, Hop] | None:
        """The ACK of a 2xx as it leaves, and where to; None outside our dialogs."""
        routing = self._dialogs.preprocess(request, source)
        is_ours = routing.is_marked and request.max_forwards != 0
        hops = self.hops_of(request, routing, source, now) if is_ours else ()
        if not hops:
            return None
        hop = hops[0]
        _, received = reply_hop(request, source)
        fingerprint = zlib.crc32(request.via.branch + request.call_id_bytes)
        branch = b"z9hG4bK.a%08x.%d" % (fingerprint, request.cseq_number)  # the same for a retransmission
        if routing.token:
            disguise = opened(self._dialogs.disguise_key, routing.token, request)
            if disguise is not None:
                ahead = self._remembered.repeats_of(request)
                routing, _ = dress(request, routing, disguise[0], is_caller=disguise[1], ahead=ahead)
        data = edit.forwarded_request(
            request, via=self._dialogs.via(hop, branch), record_route=b"", received=received,
            routing=routing, edit=NO_EDIT, on_stream=hop.transport != "udp",
        )  # fmt: skip
        return data, hop

    def hops_of(self, request: Request, routing: Routing, source: Hop, now: float) -> Sequence[Hop]:
        """Where it goes, best first: the address that answered the dialog's INVITE, which alone may know the dialog;
        last what was silent lately.
        """
        known = self._literal_hops.get(routing.next_uri)
        if known is not None:
            return known
        target: NextHop | None = self._dialogs.next_hop(routing.next_uri)
        if target is None or self._dialogs.is_own(request, routing.next_uri, source):
            return ()
        literal = literal_address(target.host)
        if literal is None:
            found = self._resolve(target)
            return self._sorted(found, request, now) if len(found) > 1 else found
        if len(self._literal_hops) >= _MAX_KEPT_TARGETS:
            self._literal_hops.clear()
        hops = self._literal_hops[routing.next_uri] = (Hop(target.transport, literal, target.port),)
        return hops

    def _sorted(self, found: Sequence[Hop], request: Request, now: float) -> Sequence[Hop]:
        answerer, silent = self._remembered.answerer_of(request), self._silent
        best = sorted(found, key=lambda hop: silent.holds(hop, now))
        if answerer is not None:
            ip, port = answerer.ip, answerer.port
            best.sort(key=lambda hop: (hop.ip != ip, hop.ip != ip or hop.port != port))
        return best[:MAX_ADDRESSES]

    def is_of_call(self, request: Request, source: Hop, servers: Mapping[bytes, object]) -> bool:
        """Does it go on with a call that went by us: a CANCEL or ACK of an INVITE at hand, or our mark in its Route?"""
        if request.method in {"CANCEL", "ACK"} and with_method(server_key(request), b"INVITE") in servers:
            return True
        return bool(request.to_tag_bytes) and self._dialogs.preprocess(request, source).is_marked

    def forward_to(self, hops: Sequence[Hop], *, is_invite: bool) -> Forward:
        """A Forward to these hops in turn."""
        return self._single_target(hops[0]) if len(hops) == 1 else one_after_another(hops, is_invite=is_invite)

    def _single_target(self, hop: Hop) -> Forward:
        """A Forward to one place without a deadline of ours: timers B and F are enough inside a dialog."""
        found = self._single_targets.get(hop)
        if found is None:
            if len(self._single_targets) >= _MAX_KEPT_TARGETS:
                self._single_targets.clear()
            found = Forward((Target("", hop, first_response_s=0.0, connect_s=0.0),))
            self._single_targets[hop] = found
        return found
