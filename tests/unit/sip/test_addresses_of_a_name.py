"""Requests inside a dialog whose next hop is a name: its addresses in turn (RFC 3263 §4.3)."""

import itertools

import pytest

from engine.sip.failover import ADDRESS_S, ADDRESS_S_OF_INVITE, DOUBT_S, MAX_ADDRESSES
from engine.sip.forward import Hop
from tests.siptest import CARRIER, PBX, make_stack, read_request, read_response, request, response, route_set
from tests.unit.sip.test_proxy import A, Bench

NAME = "sip:psap@psap.example"
FIRST, SECOND, THIRD, FOURTH = (Hop("udp", f"192.0.2.7{at}", 5060) for at in range(4))
_branches = itertools.count(1)


class Dialog(Bench):
    """An answered call whose far end's Contact is a name with these addresses."""

    def __init__(self, *hops: Hop) -> None:
        super().__init__(A, stack=make_stack(resolve=lambda _: hops))
        self.answer(CARRIER, 200, contact=NAME)
        self.routes = route_set(read_response(self.sent_to(PBX)[-1]))
        self.out.clear()

    def ask(self, method: str, cseq: int = 2) -> None:
        branch = f"z9hG4bKin{next(_branches)}"
        data = request(method, NAME, routes=self.routes, to_tag="carrier", cseq=cseq, branch=branch)
        self.receive(data, PBX)

    def tried(self, method: str) -> list[str]:
        """The addresses that got it, in order, retransmissions left out."""
        seen = {read_request(data).via.branch: hop.ip for data, hop in self.out if data.startswith(method.encode())}
        return list(seen.values())

    def reply(self, hop: Hop, method: str, status: int) -> None:
        asked = [data for data in self.sent_to(hop) if data.startswith(method.encode())]
        self.receive(response(asked[-1], status), hop)


@pytest.mark.parametrize(("method", "limit"), [("BYE", ADDRESS_S), ("INVITE", ADDRESS_S_OF_INVITE)])
def test_a_silent_address_gives_way_to_the_next_long_before_the_sender_gives_up(method: str, limit: float) -> None:
    """E-18: RFC 3263 §4.3; the sender hears of the one that answered, once."""
    dialog = Dialog(FIRST, SECOND)
    dialog.ask(method)
    assert dialog.tried(method) == [FIRST.ip]
    dialog.wait(limit - 0.1)
    assert dialog.tried(method) == [FIRST.ip]
    dialog.wait(0.2)
    assert dialog.tried(method) == [FIRST.ip, SECOND.ip]
    dialog.reply(SECOND, method, 200)
    assert [status for status in dialog.statuses() if status >= 200] == [200]


def test_refused_unreachable_and_overloaded_addresses_are_passed_over_at_once_and_any_other_word_counts() -> None:
    """E-18: RFC 3263 §4.3: a transport that fails and 503 are no answer; 481 is one."""
    dialog = Dialog(FIRST, SECOND, THIRD, FOURTH)
    dialog.ask("BYE")
    dialog.stack.transport_failed(FIRST, dialog.now)
    dialog.collect()
    dialog.reply(SECOND, "BYE", 503)
    assert dialog.tried("BYE") == [FIRST.ip, SECOND.ip, THIRD.ip]
    assert len(dialog.tried("BYE")) == MAX_ADDRESSES
    dialog.reply(THIRD, "BYE", 481)
    assert dialog.statuses() == [481]


def test_the_last_address_has_all_the_time_that_is_left() -> None:
    """E-18: a name with one address is waited for as ever, and so is the last of several."""
    for hops in ((FIRST,), (SECOND, FIRST)):
        dialog = Dialog(*hops)
        dialog.ask("BYE")
        dialog.wait(ADDRESS_S + 20.0)
        dialog.reply(FIRST, "BYE", 200)
        assert [status for status in dialog.statuses() if status >= 200] == [200]


def test_what_was_silent_is_asked_last_for_a_while_and_an_ack_goes_where_the_answer_came_from() -> None:
    """E-18: an ACK has no answer by which a dead address would be noticed."""
    dialog = Dialog(FIRST, SECOND)
    dialog.ask("INVITE")
    dialog.wait(ADDRESS_S_OF_INVITE + 0.1)
    dialog.reply(SECOND, "INVITE", 200)
    dialog.ask("ACK")
    dialog.ask("BYE", cseq=3)
    assert (dialog.tried("ACK"), dialog.tried("BYE")) == ([SECOND.ip], [SECOND.ip])
    dialog.reply(SECOND, "BYE", 200)
    dialog.wait(DOUBT_S + 1.0)
    dialog.out.clear()
    dialog.ask("OPTIONS", cseq=4)
    assert dialog.tried("OPTIONS") == [FIRST.ip]


def test_a_provisional_answer_keeps_the_address() -> None:
    """E-18: whoever says 100 is there, however long the rest takes."""
    dialog = Dialog(FIRST, SECOND)
    dialog.ask("INFO")
    dialog.reply(FIRST, "INFO", 100)
    dialog.wait(ADDRESS_S + 10.0)
    assert dialog.tried("INFO") == [FIRST.ip]


def test_a_name_that_leads_nowhere_is_said_so() -> None:
    """E-18: 503, which goes up as 500 from a proxy (RFC 3261 §16.7), or as it is when it is ours."""
    dialog = Dialog()
    dialog.ask("BYE")
    assert dialog.statuses() == [503]
