"""A CANCEL by another connection than its INVITE's: of several SIP processes another may have the call."""

import os
from collections.abc import Callable

from engine.edge.workers import HandOver
from engine.sip.edit import response_to
from engine.sip.forward import Hop
from engine.sip.message import BadMessage, Request, parse_message
from engine.sip.passage import Passage
from engine.sip.stack import SipStack
from engine.sip.transports import Transports


class SiblingCancels:
    """Asks the siblings whose call a CANCEL ends, and ends ours for them. `is_trusted`: is this a peer?"""

    def __init__(
        self,
        *,
        stack: SipStack,
        passage: Passage,
        transports: Transports,
        is_trusted: Callable[[Hop], bool],
        clock: Callable[[], float],
        pump: Callable[[], None],
    ) -> None:
        self._stack, self._passage, self._transports = stack, passage, transports
        self._is_trusted, self._clock, self._pump = is_trusted, clock, pump

    def asks(self, data: bytes, hop: Hop, siblings: HandOver) -> bool:
        """True: it may be for a call of another process, and that one is asked. False: it is served here."""
        try:
            cancel = parse_message(data)
        except BadMessage:
            return False
        if not isinstance(cancel, Request) or self._stack.cancels.may_end(cancel, hop):
            return False

        def answered(is_ended: bool) -> None:
            if is_ended:
                self._transports.send_all([(response_to(cancel, 200, to_tag=os.urandom(8).hex().encode()), hop)])
            else:
                self._stack.receive(data, hop, self._clock())
                self._pump()

        siblings.ask(data, hop, is_trusted=self._is_trusted(hop), told=answered)
        return True

    def ends(self, data: bytes, hop: Hop, is_trusted: bool) -> bool:
        """Whether the call of a CANCEL that a sibling received was here, and has ended."""
        cancel = parse_message(data)
        now = self._clock()
        is_ended = isinstance(cancel, Request) and self._stack.cancels.end_by(cancel, hop, now, is_trusted=is_trusted)
        self._passage.send_out(now)
        return is_ended
