"""Requests inside a dialog whose next hop is a name: its addresses in turn (RFC 3263 §4.3)."""

import itertools

import pytest

from engine.sip.failover import ADDRESS_S, ADDRESS_S_OF_INVITE, DOUBT_S, MAX_ADDRESSES
from engine.sip.forward import Hop
from engine.sip.remembered import MAX_ANSWERERS, Remembered
from tests import siptest
from tests.siptest import CARRIER, PBX, make_stack, read_request, read_response, request, response, route_set
from tests.unit.sip.test_proxy import A, B, Bench

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


class Failed(Dialog):
    """A 911 whose first trunk failed and whose second answered; the two are the addresses of one name, in that order.

    `names`: where the carrier's answer says the name.
    """

    def __init__(self, failing: str, names: str) -> None:
        stack = make_stack(resolve=lambda _: (CARRIER, siptest.SECOND))
        Bench.__init__(self, A, B, fail_over={503}, stack=stack, emergency=True)
        if failing == "silent":
            self.wait(A.first_response_s + 0.1)
        elif failing == "503":
            self.answer(CARRIER, 503)
        else:
            self.stack.transport_failed(CARRIER, self.now)
            self.collect()
        contact, route = ("sip:psap@192.0.2.99", b"Record-Route: <sip:psap.example;lr>\r\nRecord-Route:")
        if names == "Contact":
            contact, route = NAME, b"Record-Route:"
        self.first = self.sent_to(CARRIER)[0]
        [invite] = {data for data in self.sent_to(siptest.SECOND) if b" INVITE\r\n" in data}
        self.said = response(invite, 200, contact=contact).replace(b"Record-Route:", route, 1)
        self.receive(self.said, siptest.SECOND)
        self.routes = route_set(read_response(self.sent_to(PBX)[-1]))
        self.out.clear()


@pytest.mark.parametrize("failing", ["silent", "503", "refused"])
@pytest.mark.parametrize("names", ["Contact", "Record-Route"])
def test_the_ack_of_a_911_goes_to_the_trunk_that_answered_not_to_the_one_that_failed(failing: str, names: str) -> None:
    """E-18: RFC 3261 §13.2.2.4: without its ACK the PSAP's end hangs up after 32 s."""
    call = Failed(failing, names)
    call.ask("ACK", cseq=1)
    assert call.tried("ACK") == [siptest.SECOND.ip]
    call.receive(call.said, siptest.SECOND)
    call.wait(DOUBT_S + 1.0)
    call.ask("ACK", cseq=1)
    call.ask("BYE", cseq=2)
    assert (call.tried("ACK"), call.tried("BYE")) == ([siptest.SECOND.ip] * 2, [siptest.SECOND.ip])


def test_a_call_answered_twice_has_each_ack_go_to_who_it_is_for() -> None:
    """E-18: the first trunk answers too late; each dialog stays where it is."""
    call = Failed("silent", "Contact")
    call.receive(response(call.first, 200, contact=NAME, to_tag="late"), CARRIER)
    for to_tag, hop in (("carrier", siptest.SECOND), ("late", CARRIER)):
        call.out.clear()
        ack = request("ACK", NAME, routes=call.routes, to_tag=to_tag, branch=f"z9hG4bKin{next(_branches)}")
        call.receive(ack, PBX)
        assert call.tried("ACK") == [hop.ip]


@pytest.mark.parametrize("failing", ["503", "silent"])
def test_the_ack_of_a_re_invite_goes_to_the_address_that_answered_it(failing: str) -> None:
    """E-18: the same inside a dialog, whether the first address refused or said nothing."""
    dialog = Dialog(FIRST, SECOND)
    dialog.ask("INVITE")
    if failing == "503":
        dialog.reply(FIRST, "INVITE", 503)
    else:
        dialog.wait(ADDRESS_S_OF_INVITE + 0.1)
    dialog.reply(SECOND, "INVITE", 200)
    dialog.wait(DOUBT_S + 1.0)
    dialog.out.clear()
    dialog.ask("ACK")
    assert dialog.tried("ACK") == [SECOND.ip]


def test_an_address_that_has_the_dialog_and_died_holds_up_one_request_alone() -> None:
    """E-18: what followed would wait for it each time."""
    call = Failed("503", "Contact")
    call.wait(DOUBT_S + 1.0)
    for cseq in (2, 3):
        call.out.clear()
        call.ask("INFO", cseq=cseq)
        first = call.tried("INFO")[0]
        assert first == (siptest.SECOND.ip if cseq == 2 else CARRIER.ip)
        call.wait(ADDRESS_S + 0.1)
        call.reply(CARRIER, "INFO", 200)


def test_answerers_are_remembered_to_a_bound() -> None:
    """E-18: the oldest is forgotten first."""
    remembered = Remembered()
    invite = request("INVITE", NAME, to_tag="carrier")
    remembered.keep_answerer(read_response(response(invite, 200)), SECOND)
    for number in range(MAX_ANSWERERS - 1):
        remembered._answerers[b"%d" % number, b"", b""] = SECOND
    newest = invite.replace(b"call-1@", b"call-2@")
    remembered.keep_answerer(read_response(response(newest, 200)), SECOND)
    assert len(remembered._answerers) == MAX_ANSWERERS
    assert remembered.answerer_of(read_request(invite)) is None
    assert remembered.answerer_of(read_request(newest)) == SECOND
