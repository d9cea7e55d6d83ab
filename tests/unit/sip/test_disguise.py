"""Dialogs that look different behind us: another From, digest challenges of trunks, and everything undone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sip import disguise
from engine.sip.auth import Credentials, read_parameters
from engine.sip.disguise import Disguise, open_sealed, seal, sent_number, split_address, with_address
from engine.sip.events import AttemptEnded, AttemptStarted, Finished, OwnRequestEnded
from engine.sip.forward import Edit, Forward, Target
from engine.sip.message import Request, parse_message
from tests.siptest import (
    CARRIER,
    PBX,
    SECOND,
    Callee,
    Caller,
    Network,
    drain,
    forward_to,
    make_stack,
    read_request,
    read_response,
    request,
    response,
    route_set,
)

SHOWN = '"Acme" <sip:+15185550101@carrier.example>'
OWN_FROM = '"Alice" <sip:101@192.0.2.20>;tag=alice'
SHOWN_FROM = f"{SHOWN};tag=alice"
CREDENTIALS = Credentials("acme", "open sesame")
CHALLENGE = 'Proxy-Authenticate: Digest realm="carrier", nonce="n1", algorithm=SHA-256, qop="auth"'
STALE = 'Proxy-Authenticate: Digest realm="carrier", nonce="n2", algorithm=SHA-256, qop="auth", stale=true'
EDIT = Edit(request_uri="sip:911@carrier", from_=SHOWN)
KEY = b"k" * 32


def carrier_target(**changes):
    values = {"edit": EDIT, "credentials": CREDENTIALS, "first_response_s": 0.0} | changes
    return Target("trunk_1", CARRIER, **values)


class Scene:
    """One stack between a PBX and a carrier; each step hands over messages and keeps what comes out."""

    def __init__(self, *targets, fail_over=(), stack=None):
        self.stack = stack or make_stack(credentials_of={"trunk_1": CREDENTIALS}.get)
        self.targets = targets or (carrier_target(),)
        self.fail_over = frozenset(fail_over)
        self.now = 0.0
        self.events = []

    def receive(self, data, source):
        self.stack.receive(data, source, self.now)
        return self.pump()

    def pump(self):
        sent = []
        while True:
            events, outgoing = drain(self.stack)
            self.events += events
            sent += outgoing
            for event in events:
                if type(event).__name__ == "RequestReceived":
                    self.stack.forward(event.transaction, Forward(self.targets, "call", self.fail_over), self.now)
            if not events and not outgoing:
                return sent

    def from_pbx(self, data):
        """What leaves for anybody but the PBX."""
        return [each for each, hop in self.receive(data, PBX) if hop != PBX]

    def from_carrier(self, data, source=CARRIER):
        """(what goes to the PBX, what goes to carriers)"""
        sent = self.receive(data, source)
        return [each for each, hop in sent if hop == PBX], [each for each, hop in sent if hop != PBX]

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def answered(scene, *, challenges=0, **fields):
    """An established call: (INVITE as the carrier has it, the 200 as the PBX has it)."""
    (invite,) = scene.from_pbx(request(**fields))
    for _ in range(challenges):
        _, sent = scene.from_carrier(response(invite, 407, added=[CHALLENGE]))
        ack, invite = sent
        assert ack.startswith(b"ACK ")
    to_pbx, _ = scene.from_carrier(response(invite, 200))
    return read_request(invite), read_response(to_pbx[0])


def in_dialog(method, answer, *, cseq, branch="z9hG4bKin", added=()):
    return request(
        method, "sip:psap@192.0.2.30:5060", branch=branch + method + str(cseq), cseq=cseq, to_tag="carrier",
        routes=route_set(answer), added=added, body=b"",
    )  # fmt: skip


def from_callee(method, invite, *, cseq=1):
    """A request of the carrier inside the dialog, by its own view of it."""
    data = request(
        method, "sip:101@192.0.2.20:5060", source=CARRIER, branch=f"z9hG4bKcallee{cseq}", cseq=cseq,
        routes=invite.headers("Record-Route"), body=b"",
    )  # fmt: skip
    head, _, rest = data.partition(b"From: ")
    rest = rest[rest.index(b"Call-ID:") :]
    return head + f"From: <sip:911@carrier>;tag=carrier\r\nTo: {invite.header('From')}\r\n".encode() + rest


# --- another From -----------------------------------------------------------------------------------------------------


def test_the_carrier_sees_the_new_from_and_the_pbx_its_own_all_through_the_dialog():
    """E-07: INVITE, responses, ACK, re-INVITE, BYE; the tag is the PBX's own."""
    scene = Scene(carrier_target(credentials=None))
    (invite,) = scene.from_pbx(request())
    assert read_request(invite).header("From") == SHOWN_FROM
    assert read_request(invite).cseq == (1, "INVITE")
    for status in (180, 200):
        (up,), _ = scene.from_carrier(response(invite, status))
        assert read_response(up).header("From") == OWN_FROM
    answer = read_response(up)
    (ack,) = scene.from_pbx(in_dialog("ACK", answer, cseq=1))
    assert (read_request(ack).header("From"), read_request(ack).cseq) == (SHOWN_FROM, (1, "ACK"))
    for method, cseq in (("INVITE", 2), ("UPDATE", 3), ("BYE", 4)):
        (sent,) = scene.from_pbx(in_dialog(method, answer, cseq=cseq))
        assert (read_request(sent).header("From"), read_request(sent).cseq) == (SHOWN_FROM, (cseq, method))
        (up,), _ = scene.from_carrier(response(sent, 200))
        assert read_response(up).header("From") == OWN_FROM


def test_a_request_of_the_carrier_reaches_the_pbx_with_the_pbx_s_own_address_in_to():
    """E-07: a BYE from the PSAP: To is what the PBX knows, and the answer is what the carrier knows."""
    scene = Scene(carrier_target(credentials=None))
    invite, _ = answered(scene)
    sent = scene.receive(from_callee("BYE", invite), CARRIER)
    (bye,) = [data for data, hop in sent if hop == PBX]
    assert read_request(bye).header("To") == OWN_FROM
    assert read_request(bye).header("From") == "<sip:911@carrier>;tag=carrier"
    ((up, hop),) = scene.receive(response(bye, 200), PBX)
    assert hop == CARRIER
    assert read_response(up).header("To") == SHOWN_FROM


def test_a_restart_forgets_nothing_of_a_disguise():
    """E-07: it travels in Record-Route: another process with the same key undoes it."""
    scene = Scene(carrier_target())
    invite, answer = answered(scene, challenges=1)
    after = Scene(stack=make_stack(credentials_of={"trunk_1": CREDENTIALS}.get))
    (bye,) = after.from_pbx(in_dialog("BYE", answer, cseq=2))
    assert (read_request(bye).header("From"), read_request(bye).cseq) == (SHOWN_FROM, (5, "BYE"))
    again = Scene(stack=make_stack())
    sent = again.receive(from_callee("BYE", invite), CARRIER)
    (bye,) = [data for data, hop in sent if hop == PBX]
    assert read_request(bye).header("To") == OWN_FROM


def test_a_cancel_and_the_ack_of_a_refusal_fit_the_invite_that_left():
    """E-07: both are made of what was sent (RFC 3261 §9.1, §17.1.1.3)."""
    scene = Scene()
    (invite,) = scene.from_pbx(request())
    _, (ack, again) = scene.from_carrier(response(invite, 407, added=[CHALLENGE]))
    scene.from_carrier(response(again, 180))
    (cancel,) = scene.from_pbx(request("CANCEL", body=b""))
    assert (read_request(cancel).header("From"), read_request(cancel).cseq) == (SHOWN_FROM, (2, "CANCEL"))
    assert read_request(cancel).via.branch == read_request(again).via.branch
    (up,), (ack,) = scene.from_carrier(response(again, 487))
    assert (read_request(ack).header("From"), read_request(ack).cseq) == (SHOWN_FROM, (2, "ACK"))
    assert (read_response(up).header("From"), read_response(up).cseq) == (OWN_FROM, (1, "INVITE"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"From: sip:101@pbx;tag=a", b"From: <sip:new@x>;tag=a"),
        (b'f:"A \\" <B" <sip:101@pbx;user=phone>;tag=a;more="x"', b'f: <sip:new@x>;tag=a;more="x"'),
        (b"From: A B\r\n <sip:101@pbx>\r\n ;tag=a", b"From: <sip:new@x>\r\n ;tag=a"),
        (b"From: <sip:broken", b"From: <sip:broken"),
    ],
)
def test_only_the_address_is_exchanged(line, expected):
    assert with_address(line, b"sip:new@x") == expected
    assert with_address(line, b"<sip:new@x>") == expected


def test_an_answer_to_our_own_challenge_stays_with_us():
    """E-04: RFC 3261 §22.3: nobody behind us gets to guess at a PBX's password; another's answer passes."""
    scene = Scene(Target("plain", CARRIER))
    ours = 'Proxy-Authorization: Digest username="b", realm="callpoint", nonce="n", uri="u", response="r"'
    theirs = ours.replace("callpoint", "carrier")
    (sent,) = scene.from_pbx(request(added=[ours, theirs]))
    assert read_request(sent).headers("Proxy-Authorization") == [theirs.partition(": ")[2]]


def test_what_is_private_to_us_never_leaves_inside_a_dialog_either():
    """E-04: X-Callpoint headers are for us alone."""
    scene = Scene(Target("plain", CARRIER))
    _, answer = answered(scene)
    (sent,) = scene.from_pbx(in_dialog("INVITE", answer, cseq=2, added=["X-Callpoint-Device: 101", "X-Other: kept"]))
    assert b"x-callpoint" not in sent.lower()
    assert b"X-Other: kept" in sent


# --- a trunk that asks ------------------------------------------------------------------------------------------------


def test_a_challenge_of_the_trunk_is_answered_and_the_pbx_never_learns():
    """E-08: next CSeq, new branch, same target; the INVITE's numbers are the PBX's own on its side."""
    scene = Scene()
    (first,) = scene.from_pbx(request())
    to_pbx, (ack, second) = scene.from_carrier(response(first, 407, added=[CHALLENGE]))
    assert to_pbx == []
    assert read_request(ack).cseq == (1, "ACK")
    invite = read_request(second)
    assert invite.cseq == (2, "INVITE")
    assert invite.via.branch != read_request(first).via.branch
    fields = read_parameters(invite.header("Proxy-Authorization"))
    assert (fields["username"], fields["uri"], fields["nc"]) == ("acme", "sip:911@carrier", "00000001")
    (up,), _ = scene.from_carrier(response(second, 200))
    assert (read_response(up).status, read_response(up).cseq) == (200, (1, "INVITE"))
    assert [(each.status, each.outcome) for each in scene.of(AttemptEnded)] == [(407, "challenged"), (200, "answered")]
    assert [each.number for each in scene.of(AttemptStarted)] == [1, 2]
    assert scene.of(Finished)[0].outcome == "answered"


def test_the_ack_and_all_that_follows_carry_the_trunk_s_numbers():
    """E-08: ACK of the INVITE, PRACK with its RAck, and later requests, rising whatever is challenged in between."""
    scene = Scene()
    _, answer = answered(scene, challenges=1, cseq=7)
    (ack,) = scene.from_pbx(in_dialog("ACK", answer, cseq=7))
    assert read_request(ack).cseq == (8, "ACK")
    (prack,) = scene.from_pbx(in_dialog("PRACK", answer, cseq=8, added=["RAck: 776655 7 INVITE"]))
    assert read_request(prack).header("RAck") == "776655 8 INVITE"
    assert read_request(prack).cseq == (11, "PRACK")
    (up,), _ = scene.from_carrier(response(prack, 200))
    assert read_response(up).cseq == (8, "PRACK")
    (bye,) = scene.from_pbx(in_dialog("BYE", answer, cseq=9))
    assert read_request(bye).cseq == (15, "BYE")


@pytest.mark.parametrize("challenges", [0, 1])
def test_a_challenge_inside_the_dialog_is_answered_too(challenges):
    """E-08: a trunk may ask again for a BYE or a re-INVITE, even when it did not ask for the INVITE."""
    scene = Scene()
    _, answer = answered(scene, challenges=challenges)
    (first,) = scene.from_pbx(in_dialog("INVITE", answer, cseq=2))
    to_pbx, (ack, second) = scene.from_carrier(response(first, 401, added=[CHALLENGE.replace("Proxy", "WWW")]))
    assert to_pbx == []
    assert read_request(ack).cseq == (5, "ACK")
    assert read_request(second).cseq == (6, "INVITE")
    assert read_request(second).header("Authorization").startswith("Digest ")
    (up,), _ = scene.from_carrier(response(second, 200))
    assert read_response(up).cseq == (2, "INVITE")
    (ack,) = scene.from_pbx(in_dialog("ACK", answer, cseq=2))
    assert read_request(ack).cseq == (6, "ACK")
    (bye,) = scene.from_pbx(in_dialog("BYE", answer, cseq=3))
    assert read_request(bye).cseq == (9, "BYE")
    _, (again,) = scene.from_carrier(response(bye, 407, added=[CHALLENGE]))
    assert read_request(again).cseq == (10, "BYE")
    (up,), _ = scene.from_carrier(response(again, 200))
    assert (read_response(up).status, read_response(up).cseq) == (200, (3, "BYE"))


def test_a_stale_nonce_is_answered_once_more_and_a_refused_password_is_not():
    """E-08: the next trunk is tried then; the challenge never reaches the PBX."""
    scene = Scene(carrier_target(), Target("trunk_2", SECOND), fail_over={401, 407})
    (first,) = scene.from_pbx(request())
    _, (_, second) = scene.from_carrier(response(first, 407, added=[CHALLENGE]))
    _, (_, third) = scene.from_carrier(response(second, 407, added=[STALE]))
    assert read_request(third).cseq == (3, "INVITE")
    to_pbx, (_, other) = scene.from_carrier(response(third, 407, added=[STALE]))
    assert to_pbx == []
    other = read_request(other)
    assert (other.cseq, other.header("From")) == ((1, "INVITE"), OWN_FROM)
    assert other.header("Proxy-Authorization") is None
    outcomes = [(each.target.name, each.outcome) for each in scene.of(AttemptEnded)]
    assert outcomes == [("trunk_1", "challenged"), ("trunk_1", "challenged"), ("trunk_1", "refused")]


def test_no_challenge_of_a_trunk_whose_password_we_hold_is_shown_to_the_pbx():
    """E-08: with nothing left to try it hears that the service is unavailable, and uses another line."""
    scene = Scene()
    (first,) = scene.from_pbx(request())
    _, (_, second) = scene.from_carrier(response(first, 407, added=[CHALLENGE]))
    (up,), _ = scene.from_carrier(response(second, 407, added=[CHALLENGE]))
    assert read_response(up).status == 500
    assert b"Authenticate" not in up


def test_a_late_challenge_of_a_trunk_given_up_is_not_shown_to_the_pbx_either():
    """E-08: it was silent for too long, the next one refused: what that one said goes up."""
    scene = Scene(carrier_target(first_response_s=1.0), Target("trunk_2", SECOND, first_response_s=0.0))
    (first,) = scene.from_pbx(request())
    scene.now = 1.0
    scene.stack.handle_timer(1.0)
    (second,) = [data for data, hop in scene.pump() if hop == SECOND]
    to_pbx, _ = scene.from_carrier(response(first, 407, added=[CHALLENGE]))
    assert to_pbx == []
    (up,), _ = scene.from_carrier(response(second, 480))
    assert read_response(up).status == 480
    assert b"Authenticate" not in up


@pytest.mark.parametrize("status", [424, 488])
def test_a_trunk_that_challenges_and_then_chokes_on_the_location_challenges_what_follows_too(status):
    """E-08: the request without a location is one of its own, and a carrier asks for a proof of each."""
    scene = Scene(carrier_target(retry_edit=Edit()), Target("trunk_2", SECOND), fail_over={407, 500})
    (first,) = scene.from_pbx(request())
    _, (_, second) = scene.from_carrier(response(first, 407, added=[CHALLENGE]))
    _, (_, third) = scene.from_carrier(response(second, status))
    assert (read_request(third).cseq, read_request(third).header("Proxy-Authorization")) == ((3, "INVITE"), None)
    to_pbx, (_, fourth) = scene.from_carrier(response(third, 407, added=[CHALLENGE]))
    assert to_pbx == []
    fourth = read_request(fourth)
    assert fourth.cseq == (4, "INVITE")
    assert fourth.header("Proxy-Authorization").startswith("Digest ")
    assert fourth.request_uri == "sip:911@192.0.2.10"  # as the retry's own edit wants it
    (up,), _ = scene.from_carrier(response(fourth.raw, 200))
    assert (read_response(up).status, read_response(up).cseq) == (200, (1, "INVITE"))
    (bye,) = scene.from_pbx(in_dialog("BYE", read_response(up), cseq=2))
    assert read_request(bye).cseq == (5, "BYE")


def test_without_a_password_of_ours_the_challenge_is_the_pbx_s_to_answer():
    """RFC 3261 §22.3: a PBX with credentials of its own for the trunk."""
    scene = Scene(Target("trunk_1", CARRIER))
    (first,) = scene.from_pbx(request())
    (up,), _ = scene.from_carrier(response(first, 407, added=[CHALLENGE]))
    assert read_response(up).header("Proxy-Authenticate") == CHALLENGE.partition(": ")[2]


def test_a_caller_who_gave_up_is_not_tried_again():
    """E-08: CANCEL, then the challenge: over."""
    scene = Scene()
    (first,) = scene.from_pbx(request())
    scene.from_pbx(request("CANCEL", body=b""))
    (up,), sent = scene.from_carrier(response(first, 407, added=[CHALLENGE]))
    assert read_response(up).status == 487
    assert [read_request(data).method for data in sent] == ["ACK"]


def test_a_late_answer_of_the_trunk_before_is_undone_as_well():
    """E-08: two trunks that see different callers: whichever answers, the PBX sees itself."""
    other = Target("trunk_2", SECOND, Edit(from_="<sip:other@x>"), first_response_s=0.0)
    scene = Scene(carrier_target(first_response_s=1.0), other)
    (first,) = scene.from_pbx(request())
    _, (_, second) = scene.from_carrier(response(first, 407, added=[CHALLENGE]))
    scene.now = 1.0
    scene.stack.handle_timer(1.0)
    sent = [data for data, hop in scene.pump() if hop == SECOND]
    assert read_request(sent[0]).header("From") == "<sip:other@x>;tag=alice"
    (up,), _ = scene.from_carrier(response(second, 200))
    assert (read_response(up).header("From"), read_response(up).cseq) == (OWN_FROM, (1, "INVITE"))


def test_the_pbx_s_own_proof_is_not_sent_beside_ours():
    """RFC 3261 §22.3: it was for somebody else."""
    scene = Scene()
    (first,) = scene.from_pbx(request(added=['Proxy-Authorization: Digest realm="x"']))
    _, (_, second) = scene.from_carrier(response(first, 407, added=[CHALLENGE]))
    (proof,) = read_request(second).headers("Proxy-Authorization")
    assert 'realm="carrier"' in proof


def test_a_notify_of_ours_answers_a_challenge():
    """E-16: a PBX that wants a password before it passes a resync on."""
    stack = make_stack()
    stack.send_request("NOTIFY", "sip:101@pbx", PBX, [("Event", "check-sync")], b"", "t", 0.0, 8.0, CREDENTIALS)
    ((first, _),) = drain(stack)[1]
    stack.receive(response(first, 401, added=[CHALLENGE.replace("Proxy", "WWW")]), PBX, 0.1)
    events, ((second, _),) = drain(stack)
    assert events == []
    one, other = read_request(first), read_request(second)
    assert (one.cseq[0], other.cseq[0], one.call_id) == (1, 2, other.call_id)
    assert read_parameters(other.header("Authorization"))["uri"] == "sip:101@pbx"
    assert other.header("Event") == "check-sync"
    stack.receive(response(second, 200), PBX, 0.2)
    assert [(each.token, each.status) for each in drain(stack)[0]] == [("t", 200)]


def test_a_notify_with_the_wrong_password_ends_with_the_challenge():
    stack = make_stack()
    stack.send_request("NOTIFY", "sip:101@pbx", PBX, (), b"", "t", 0.0, 8.0, CREDENTIALS)
    for at in (0.1, 0.2):
        ((sent, _),) = drain(stack)[1]
        stack.receive(response(sent, 407, added=[CHALLENGE]), PBX, at)
    (ended,), _ = drain(stack)
    assert isinstance(ended, OwnRequestEnded)
    assert ended.status == 407


def test_a_proxy_and_the_phone_behind_it_each_get_their_own_answer():
    """P-14: 407 by whoever relays it, then 401 by whom it is meant for; the last request carries both proofs."""
    stack = make_stack()
    phone = Credentials("101", "of the line")
    stack.send_request("NOTIFY", "sip:101@pbx", PBX, (), b"", "t", 0.0, 8.0, CREDENTIALS, phone)
    ((first, _),) = drain(stack)[1]
    stack.receive(response(first, 407, added=[CHALLENGE]), PBX, 0.1)
    ((second, _),) = drain(stack)[1]
    asks = CHALLENGE.replace("Proxy", "WWW").replace("carrier", "phone")
    stack.receive(response(second, 401, added=[asks]), PBX, 0.2)
    events, ((third, _),) = drain(stack)
    assert events == []
    both = read_request(third)
    assert both.cseq[0] == 3
    named = [read_parameters(both.header(name))["username"] for name in ("Proxy-Authorization", "Authorization")]
    assert named == [CREDENTIALS.user, "101"]
    stack.receive(response(third, 401, added=[asks]), PBX, 0.3)
    (ended,), sent = drain(stack)
    assert (ended.status, sent) == (401, [])


# --- on a bad link ----------------------------------------------------------------------------------------------------


class Asking(Callee):
    """A carrier that wants a proof for every INVITE and BYE; what carries one it treats as any carrier does."""

    def __init__(self, network, hop=CARRIER):
        super().__init__(network, hop)
        self.numbers = []

    def receive(self, data):
        message = parse_message(data)
        is_asked = isinstance(message, Request) and message.method in {"INVITE", "BYE"}
        if is_asked and message.header("Proxy-Authorization") is None:
            self.requests.append(message)
            self.send(response(data, 407, added=[CHALLENGE]))
            return
        if isinstance(message, Request) and message.method in {"INVITE", "ACK", "BYE"}:
            self.numbers.append((message.method, message.cseq[0], message.header("From")))
        if not (isinstance(message, Request) and message.cseq == (1, "ACK")):  # that one ends the challenge
            super().receive(data)


@pytest.mark.parametrize("seed", range(8))
def test_a_challenged_call_comes_through_a_link_that_loses_and_reorders(seed):
    """E-08: 10 % lost, a fifth delayed: answered, acknowledged and ended; each side sees its own numbers and From."""
    target = carrier_target(first_response_s=20.0)
    stack = make_stack(credentials_of={"trunk_1": CREDENTIALS}.get)
    network = Network(stack, loss=0.1, reorder=0.2, seed=seed, decide=forward_to(target))
    carrier, caller = Asking(network), Caller(network)
    caller.call()
    network.run(120.0)
    assert caller.is_ended
    assert carrier.is_acknowledged
    assert {answer.status for answer in caller.responses} <= {100, 180, 200}
    assert {answer.header("From") for answer in caller.responses} == {OWN_FROM}
    assert {answer.cseq for answer in caller.responses} <= {(1, "INVITE"), (2, "BYE")}
    behind = {(method, number) for method, number, _ in carrier.numbers}
    assert behind <= {("INVITE", 2), ("ACK", 1), ("ACK", 2), ("BYE", 6)}
    assert {shown for _, _, shown in carrier.numbers} == {SHOWN_FROM}
    assert network.lost


# --- what travels -----------------------------------------------------------------------------------------------------


@given(
    st.builds(
        Disguise,
        st.sampled_from(["", "trunk_01jd"]),
        st.integers(0, 2**31 - 1),
        st.integers(0, 3),
        st.binary(max_size=250).map(lambda text: text.replace(b"\0", b"")),
        st.binary(max_size=250).map(lambda text: text.replace(b"\0", b"")),
    )
)
def test_a_disguise_travels_whole_and_fits_a_uri(given_disguise):
    token = seal(KEY, given_disguise, b"call", b"tag")
    assert open_sealed(KEY, token, b"call", b"tag") == given_disguise
    assert disguise.token_of(b"sip:x;lr;cu=" + token + b";cp=0123456789abcdef") == token
    assert len(token) <= disguise.MAX_TOKEN_BYTES


def test_nobody_can_read_change_or_move_a_disguise():
    """E-04: the caller's own number is not for the carrier; a token of another call opens nothing."""
    token = seal(KEY, Disguise("trunk_1", 1, 1, b"<sip:101@pbx>", b"<sip:+1@x>"), b"call", b"tag")
    assert b"101" not in token
    assert open_sealed(KEY, token, b"other", b"tag") is None
    assert open_sealed(KEY, token, b"call", b"gat") is None
    assert open_sealed(b"x" * 32, token, b"call", b"tag") is None
    for at in range(0, len(token), 7):
        changed = token[:at] + (b"A" if token[at : at + 1] != b"A" else b"B") + token[at + 1 :]
        assert open_sealed(KEY, changed, b"call", b"tag") is None
    assert open_sealed(KEY, b"A", b"call", b"tag") is None


def test_a_long_display_name_stays_behind_and_a_hopeless_address_is_named_anew():
    name = b'"' + b"x" * 300 + b'" <sip:101@pbx>'
    found = disguise.disguise_of(read_request(request()), SHOWN, "", is_numbered=False)
    assert found == Disguise("", 0, 0, b'"Alice" <sip:101@192.0.2.20>', SHOWN.encode())
    assert disguise._bounded(name) == b"<sip:101@pbx>"
    assert split_address(b"From: " + name + b";tag=1") == (name, b";tag=1")
    assert len(disguise._bounded(b"<sip:" + b"x" * 400 + b"@pbx>")) < 250


@given(st.integers(1, 2**20), st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=20), st.integers(0, 3))
def test_numbers_behind_us_rise_whatever_was_challenged(first, steps, repeats):
    """E-08: RFC 3261 §12.2.1.1: strictly higher, each time."""
    found = Disguise("t", first, repeats)
    sent = [sent_number(found, first)]
    number = first
    for step, ahead in steps:
        number += step
        sent += [sent_number(found, number, each) for each in range(ahead + 1)]
    assert sent == sorted(set(sent))
