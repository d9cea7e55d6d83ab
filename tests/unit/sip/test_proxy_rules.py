"""What RFC 3261 §16 and its successors ask of a proxy beyond failover: late answers, challenges, size, streams."""

import pytest

from engine.sip.failover import MAX_DOUBTS
from engine.sip.forward import Edit, Forward, Hop, Target
from engine.sip.message import Request
from engine.sip.stack import AnsweredLate, DialogEnded, Finished, RequestReceived
from tests.siptest import (
    CARRIER,
    PBX,
    PROXY,
    SECOND,
    drain,
    make_stack,
    read_request,
    read_response,
    request,
    response,
    route_set,
)
from tests.unit.sip.test_proxy import A, B, Bench, cancel

C = Target("c", Hop("udp", "192.0.2.32", 5060))
CARRIER_TCP = CARRIER._replace(transport="tcp")
TLS_PBX = Hop("tls", "192.0.2.20", 40_001, 7)
TLS_TRUNK = Hop("tls", "192.0.2.30", 5061, 0, "sbc.carrier.example")


def late(bench: Bench) -> list[tuple[str, int, float]]:
    return [(e.target.name, e.number, e.started_at) for e in bench.events if isinstance(e, AnsweredLate)]


# --- late and multiple answers ----------------------------------------------------------------------------------------


def test_an_answer_after_the_caller_was_refused_is_reported() -> None:
    """E-08: the call stands, so its record must not say that it failed."""
    bench = Bench(A)
    bench.wait(2.5)
    assert bench.finished() == [("failed", 408, None)]
    for _ in range(3):  # a retransmission is no second answer
        bench.answer(CARRIER, 200)
    assert late(bench) == [("a", 1, 0.0)]
    assert bench.statuses().count(200) == 3


def test_an_answer_after_the_caller_was_told_487_is_reported() -> None:
    """E-08: 2xx beats CANCEL even when we had already ended the call for the caller."""
    bench = Bench(A)
    bench.answer(CARRIER, 180)
    bench.receive(cancel(), PBX)
    bench.wait(32.1)
    assert bench.finished() == [("cancelled", 487, None)]
    bench.answer(CARRIER, 200)
    assert late(bench) == []  # its client transaction ended with the CANCEL's time (RFC 6026 §8.1 forwards no stray)
    early = Bench(A)
    early.receive(cancel(), PBX)
    early.wait(2.5)
    assert early.finished() == [("cancelled", 487, None)]
    early.answer(CARRIER, 200)
    assert late(early) == [("a", 1, 0.0)]
    assert early.statuses()[-1] == 200


def test_a_target_given_up_that_answers_first_is_said_to_have_answered() -> None:
    """E-08: its attempt was reported as timed out before."""
    bench = Bench(A, B)
    bench.wait(2.5)
    bench.answer(CARRIER, 200)
    assert late(bench) == [("a", 1, 0.0)]
    assert bench.finished() == [("answered", 200, "a")]
    bench.answer(SECOND, 200)  # and a second leg answers too
    assert late(bench) == [("a", 1, 0.0), ("b", 2, 2.0)]
    assert bench.attempts() == [("a", None, "timeout"), ("b", 200, "answered")]
    assert bench.statuses() == [100, 200, 200]


def test_every_2xx_of_a_fork_behind_the_carrier_goes_up_and_the_call_is_answered_once() -> None:
    """E-18: §16.7 step 5: two phones of one carrier answer, each repeats until it has its own ACK."""
    bench = Bench(A)
    for tag in ("one", "two", "one", "two"):
        bench.answer(CARRIER, 200, to_tag=tag)
    up = [read_response(data) for data in bench.sent_to(PBX)][1:]
    assert [answer.to_tag for answer in up] == ["one", "two", "one", "two"]
    assert bench.finished() == [("answered", 200, "a")]
    assert late(bench) == []
    for tag in ("one", "two"):
        ack = request("ACK", "sip:psap@192.0.2.30", routes=route_set(up[0]), to_tag=tag, branch=f"z9hG4bK{tag}")
        bench.receive(ack, PBX)
    acks = [read_request(data) for data in bench.sent_to(CARRIER)[1:]]
    assert [(ack.method, ack.to_tag) for ack in acks] == [("ACK", "one"), ("ACK", "two")]
    assert acks[0].via.branch != acks[1].via.branch


def test_the_bye_of_a_call_that_was_answered_late_ends_it() -> None:
    """E-12: its tag is remembered as that of any answered call."""
    bench = Bench(A)
    bench.wait(2.5)
    bench.answer(CARRIER, 200)
    answer = read_response(bench.sent_to(PBX)[-1])
    bench.receive(
        request("BYE", "sip:psap@192.0.2.30", routes=route_set(answer), to_tag="carrier", cseq=2, branch="z9hG4bKb"),
        PBX,
    )
    bench.receive(response(bench.sent_to(CARRIER)[-1], 200), CARRIER)
    assert [type(event) for event in bench.events].count(DialogEnded) == 1


def test_a_late_refusal_of_a_target_given_up_still_counts() -> None:
    """E-18: §16.7 step 6: a real answer is better than one of our making; our own CANCEL's 487 is none."""
    bench = Bench(A, B)
    bench.wait(2.1)
    bench.answer(CARRIER, 486)
    bench.wait(2.1)
    assert bench.statuses()[:2] == [100, 486]
    assert bench.finished() == [("failed", 486, "a")]
    other = Bench(A, B)
    other.wait(2.1)
    other.answer(CARRIER, 180)  # heard of too late: cancelled
    other.answer(CARRIER, 487)
    other.wait(2.1)
    assert other.statuses()[:2] == [100, 408]


def test_what_became_of_the_cancel_goes_up_not_an_earlier_refusal() -> None:
    """E-18: a caller who hung up is told 487."""
    bench = Bench(A, B, fail_over=[404])
    bench.answer(CARRIER, 404)
    bench.answer(SECOND, 180)
    bench.receive(cancel(), PBX)
    bench.answer(SECOND, 487)
    assert bench.statuses() == [100, 180, 200, 487]
    assert bench.finished() == [("cancelled", 487, "b")]


# --- the best response ------------------------------------------------------------------------------------------------


def test_a_401_goes_up_with_the_challenges_of_all_the_others() -> None:
    """E-18: §16.7 step 7: the caller may know a password for any of them."""
    bench = Bench(A, B, C, fail_over=[401, 407, 404])
    bench.answer(CARRIER, 407, added=['Proxy-Authenticate: Digest realm="a", nonce="1"'])
    bench.answer(SECOND, 401, added=['WWW-Authenticate: Digest realm="b", nonce="2"', "X-B: b"])
    bench.answer(C.hop, 404)
    up = read_response(bench.sent_to(PBX)[-1])
    assert (up.status, up.header("X-B"), up.body) == (401, "b", b"")
    assert up.headers("WWW-Authenticate") == ['Digest realm="b", nonce="2"']
    assert up.headers("Proxy-Authenticate") == ['Digest realm="a", nonce="1"']


def test_a_401_alone_goes_up_as_it_came() -> None:
    """E-18: byte for byte but for our Via."""
    bench = Bench(A)
    invite = bench.sent_to(CARRIER)[0]
    answer = response(invite, 401, added=['WWW-Authenticate: Digest realm="b"'], body=b"why")
    bench.receive(answer, CARRIER)
    ours = next(line for line in answer.split(b"\r\n") if line.startswith(b"Via: SIP/2.0/UDP 192.0.2.10"))
    assert bench.sent_to(PBX)[-1] == answer.replace(ours + b"\r\n", b"")


@pytest.mark.parametrize(
    ("answers", "best"),
    [
        ([500, 404, 302], 302),
        ([503, 404, 603], 603),
        ([480, 484, 404], 484),
        ([503, 502, 503], 502),
        ([486, 480, 407], 407),
        ([600, 302, 404], 600),
    ],
)
def test_the_choice_of_the_best_response(answers: list[int], best: int) -> None:
    """E-18: §16.7 step 6: 6xx, else the lowest class; within 4xx those that tell the caller what to do."""
    bench = Bench(A, B, C, fail_over=answers)
    for hop, status in zip((CARRIER, SECOND, C.hop), answers, strict=True):
        bench.answer(hop, status)
    assert bench.statuses() == [100, best]


def test_no_100_gives_timer_c_more_time() -> None:
    """E-18: §16.7 step 2: 101 to 199 do."""
    bench = Bench(A)
    bench.answer(CARRIER, 180)
    for _ in range(3):
        bench.wait(60)
        bench.answer(CARRIER, 100)
    bench.wait(6)
    assert bench.attempts() == [("a", None, "timeout")]


def test_a_test_call_of_our_own_rings_for_a_minute_at_most() -> None:
    """E-15: should whoever placed it be gone, nothing rings on; ringing told again does not prolong it."""
    bench = Bench(A, emergency=True, is_own_test=True)
    for _ in range(5):
        bench.answer(CARRIER, 180)
        bench.wait(11.0)
    bench.answer(CARRIER, 180)
    assert [line.split()[0] for line in bench.first_lines(CARRIER)] == ["INVITE"]
    bench.wait(5.1)
    assert [line.split()[0] for line in bench.first_lines(CARRIER)][:2] == ["INVITE", "CANCEL"]
    assert bench.attempts() == [("a", None, "timeout")]


def test_a_test_call_of_a_pbx_has_an_ordinary_calls_patience_and_a_911_its_hour() -> None:
    """E-03, E-18: timer C; 933 goes from trunk to trunk as 911 does, but holds nobody's line for an hour."""
    for is_test, rings_for in ((True, 185.0), (False, 3_600.0)):
        bench = Bench(A, B, emergency=True, is_test=is_test)
        bench.answer(CARRIER, 100)
        bench.wait(6.1)  # nothing but 100: the next trunk, as for a real call
        assert bench.attempts() == [("a", None, "timeout")]
        bench.answer(SECOND, 180)
        bench.wait(rings_for - 1.0)
        assert len(bench.attempts()) == 1
        bench.wait(2.0)
        assert bench.attempts()[1:] == [("b", None, "timeout")]


def test_a_199_and_a_reliable_183_pass_and_those_of_a_dead_branch_do_not() -> None:
    """E-18: RFC 6228, RFC 3262: the RSeq is between the ends; nobody acknowledges what the caller never saw."""
    bench = Bench(A, B)
    bench.wait(2.1)
    bench.answer(CARRIER, 183, added=["Require: 100rel", "RSeq: 1"])
    assert bench.statuses() == [100]
    assert bench.first_lines(CARRIER)[-1].startswith("CANCEL ")
    bench.answer(SECOND, 183, added=["Require: 100rel", "RSeq: 7"])
    bench.answer(SECOND, 199, added=["Reason: SIP;cause=486"])
    assert bench.statuses() == [100, 183, 199]
    assert read_response(bench.sent_to(PBX)[1]).header("RSeq") == "7"


# --- requests other than INVITE (RFC 4320) ----------------------------------------------------------------------------


def test_a_message_gets_no_180_and_no_408() -> None:
    """E-18: §4.1 and §4.2: no provisional but 100, and nobody's 408."""
    bench = Bench(A, method="MESSAGE")
    bench.receive(response(bench.sent_to(CARRIER)[0], 180), CARRIER)
    assert bench.statuses() == []
    bench.receive(response(bench.sent_to(CARRIER)[0], 408), CARRIER)
    assert bench.statuses() == []
    assert bench.finished() == [("failed", 408, "a")]
    bench.wait(40)
    assert bench.stack.transaction_counts == (0, 0)


def test_a_slow_message_gets_a_100_after_three_and_a_half_seconds() -> None:
    """E-18: §4.1: by then the caller repeats at T2 anyway; an answer in time needs none."""
    bench = Bench(Target("a", CARRIER, first_response_s=0.0), method="MESSAGE")
    bench.wait(3.4)
    assert bench.statuses() == []
    bench.wait(0.2)
    assert bench.statuses() == [100]
    bench.receive(response(bench.sent_to(CARRIER)[0], 200), CARRIER)
    assert bench.statuses() == [100, 200]
    quick = Bench(A, method="MESSAGE")
    quick.receive(response(quick.sent_to(CARRIER)[0], 200), CARRIER)
    quick.wait(10)
    assert quick.statuses() == [200]


def test_a_slow_bye_gets_its_100_too() -> None:
    """E-18: inside a dialog nobody is asked, the rule is the same."""
    bench = Bench(A)
    bench.answer(CARRIER, 200)
    routes = route_set(read_response(bench.sent_to(PBX)[-1]))
    bye = request("BYE", "sip:psap@192.0.2.30", routes=routes, to_tag="carrier", cseq=2, branch="z9hG4bKbye")
    bench.receive(bye, PBX)
    bench.wait(3.6)
    assert bench.statuses() == [100, 200, 100]


def test_a_subscription_keeps_us_in_its_path() -> None:
    """E-18: NOTIFY comes back through us, whoever sends it."""
    bench = Bench(A, invite=request("SUBSCRIBE", "sip:101@192.0.2.30", added=["Event: dialog"]))
    sent = read_request(bench.sent_to(CARRIER)[0])
    routes = sent.headers("Record-Route")
    assert len(routes) == 1
    notify = request(
        "NOTIFY", "sip:101@192.0.2.20:5060", source=CARRIER, from_tag="carrier", to_tag="alice", routes=routes,
        branch="z9hG4bKn",
    )  # fmt: skip
    bench.receive(notify, CARRIER)
    assert bench.first_lines(PBX)[-1] == "NOTIFY sip:101@192.0.2.20:5060"


# --- above 1300 bytes -------------------------------------------------------------------------------------------------

LARGE = Target("a", CARRIER, Edit(add=(("X-Large", "x" * 1400),)))
SMALL = Target("a", CARRIER, Edit(add=(("X-Small", "x" * 300),)))


def test_a_large_request_goes_by_tcp_where_that_works() -> None:
    """E-18: §18.1.1: Via and Record-Route say so, and the peer hears of it in one piece."""
    asked: list[tuple[str, int]] = []
    bench = Bench(LARGE, stack=make_stack(tcp_is_up=lambda *to: asked.append(to) or True))
    assert asked == [(CARRIER.ip, CARRIER.port)]
    sent = read_request(bench.sent_to(CARRIER_TCP)[0])
    assert bench.sent_to(CARRIER) == []
    assert sent.headers("Via")[0].startswith("SIP/2.0/TCP 192.0.2.10:5060;branch=")
    assert [";transport=tcp" in route for route in sent.headers("Record-Route")] == [True, False]
    bench.receive(response(sent.raw, 200), CARRIER_TCP)
    assert bench.statuses() == [100, 200]
    assert bench.finished() == [("answered", 200, "a")]
    small = Bench(SMALL, stack=make_stack(tcp_is_up=lambda *_: True))
    assert small.sent_to(CARRIER_TCP) == []


def test_a_large_request_goes_by_udp_at_once_where_tcp_is_not_known_to_work() -> None:
    """E-18: a fragment is better than a call that waits."""
    bench = Bench(LARGE)
    assert len(bench.sent_to(CARRIER)[0]) > 1300


def test_a_stream_that_fails_is_followed_by_udp_in_the_same_attempt() -> None:
    """E-08: at once, and nobody tries that stream again for a while."""
    bench = Bench(LARGE, B, stack=make_stack(tcp_is_up=lambda *_: True))
    bench.stack.transport_failed(CARRIER_TCP, bench.now)
    bench.collect()
    sent = read_request(bench.sent_to(CARRIER)[0])
    assert sent.headers("Via")[0].startswith("SIP/2.0/UDP ")
    assert ";transport=tcp" not in (sent.header("Record-Route") or "")
    assert bench.sent_to(SECOND) == []
    assert bench.attempts() == []
    bench.answer(CARRIER, 200)
    assert bench.attempts() == [("a", 200, "answered")]
    bench.receive(request(branch="z9hG4bKnext", call_id="next"), PBX)
    bench.transaction = bench.events[-1].transaction  # type: ignore[attr-defined]
    bench.go(LARGE)
    assert len(bench.sent_to(CARRIER_TCP)) == 1  # that of the first call


def test_a_stream_on_which_nothing_is_heard_is_followed_by_udp() -> None:
    """E-08: the carrier that takes connections and never answers by them must not cost a 911 call its only trunk."""
    bench = Bench(LARGE, B, stack=make_stack(tcp_is_up=lambda *_: True))
    bench.stack.transport_connected(CARRIER_TCP, bench.now)
    bench.wait(1.1)
    assert bench.attempts() == [("a", None, "timeout")]
    assert len(bench.sent_to(CARRIER)) == 1
    assert bench.sent_to(SECOND) == []
    bench.answer(CARRIER, 200)
    assert bench.statuses() == [100, 200]
    assert [e.target.hop.transport for e in bench.events if isinstance(e, Finished)] == ["udp"]
    silent = Bench(LARGE, B, stack=make_stack(tcp_is_up=lambda *_: True))
    silent.stack.transport_connected(CARRIER_TCP, silent.now)
    silent.wait(2.1)  # no longer than a trunk that has UDP alone: half of it each
    assert len(silent.sent_to(SECOND)) == 1  # by UDP nothing was heard either


def test_a_large_request_that_is_asked_for_without_location_chooses_its_transport_anew() -> None:
    """E-08: 424 by TCP; without the body it fits a datagram."""
    target = Target("a", CARRIER, LARGE.edit, retry_edit=Edit(), retry_on=frozenset({424}))
    bench = Bench(target, stack=make_stack(tcp_is_up=lambda *_: True))
    bench.receive(response(bench.sent_to(CARRIER_TCP)[0], 424), CARRIER_TCP)
    assert read_request(bench.sent_to(CARRIER)[0]).headers("Via")[0].startswith("SIP/2.0/UDP ")


def test_a_cancelled_large_request_is_not_sent_again() -> None:
    """E-08: the caller has gone."""
    bench = Bench(LARGE, stack=make_stack(tcp_is_up=lambda *_: True))
    bench.receive(cancel(), PBX)
    bench.stack.transport_failed(CARRIER_TCP, bench.now)
    bench.collect()
    assert bench.sent_to(CARRIER) == []
    assert bench.statuses() == [100, 200, 487]


# --- streams, TLS and sips --------------------------------------------------------------------------------------------


def test_on_a_stream_a_content_length_is_added_where_none_came() -> None:
    """E-18: §16.6 step 9, §18.3: a datagram may come without, a stream cannot be cut without."""
    body = b"v=0\r\n"
    bare = request(body=body).replace(b"Content-Length: 5\r\n", b"")
    for hop, expected in ((CARRIER, []), (CARRIER_TCP, ["5"])):
        bench = Bench(Target("a", hop), invite=bare)
        sent = read_request(bench.sent_to(hop)[0])
        assert (sent.headers("Content-Length"), sent.body) == (expected, body)
    replaced = Bench(Target("a", CARRIER_TCP, Edit(body=b"123", content_type="text/plain")), invite=bare)
    assert read_request(replaced.sent_to(CARRIER_TCP)[0]).headers("Content-Length") == ["3"]


def test_a_response_on_a_stream_gets_a_content_length_too() -> None:
    """E-18: the carrier answers by UDP without one, the PBX listens on TCP."""
    caller = Hop("tcp", "192.0.2.20", 40_000, 3)
    stack = make_stack()
    stack.receive(request(source=caller), caller, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((A,)), 0.0)
    sent = drain(stack)[1][-1][0]
    for status, body in ((183, b""), (200, b"v=0\r\n")):
        answer = response(sent, status, body=body).replace(b"Content-Length: %d\r\n" % len(body), b"")
        stack.receive(answer, CARRIER, 0.1)
        ((up, _),) = drain(stack)[1]
        got = read_response(up)
        assert (got.status, got.headers("Content-Length"), got.body) == (status, [str(len(body))], body)


def test_by_tls_via_and_record_route_say_tls() -> None:
    """E-18: RFC 5658: UDP on one side, TLS on the other, two Record-Routes."""
    stack = make_stack()
    stack.receive(request(), PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", TLS_TRUNK),)), 0.0)
    data, hop = drain(stack)[1][-1]
    sent = read_request(data)
    assert hop == TLS_TRUNK
    assert sent.headers("Via")[0].startswith("SIP/2.0/TLS 192.0.2.10:5060;branch=")
    assert ";rport" not in sent.headers("Via")[0]
    outward, inward = sent.headers("Record-Route")
    assert outward.startswith("<sip:192.0.2.10:5060;transport=tls;lr;cp=")
    assert inward.startswith("<sip:192.0.2.10:5060;lr;cp=")


def test_a_request_inside_a_dialog_goes_to_a_tls_peer_by_its_route() -> None:
    """E-18: transport=tls, sips, their default port, and the name to be proven when there is one."""
    for uri, expected in (
        ("sip:psap@192.0.2.30;transport=tls", Hop("tls", "192.0.2.30", 5061)),
        ("sips:psap@192.0.2.30", Hop("tls", "192.0.2.30", 5061)),
        ("sips:psap@192.0.2.30:5070;transport=tcp", Hop("tls", "192.0.2.30", 5070)),
        ("sips:psap@sbc.example", Hop("tls", "192.0.2.77", 5061, 0, "sbc.example")),
    ):
        bench = Bench(A, stack=make_stack(resolve=lambda to: (Hop(to.transport, "192.0.2.77", to.port, 0, to.host),)))
        bench.answer(CARRIER, 200)
        routes = route_set(read_response(bench.sent_to(PBX)[-1]))
        bench.receive(request("BYE", uri, routes=routes, to_tag="carrier", cseq=2, branch="z9hG4bKb"), PBX)
        data, hop = bench.out[-1]
        assert (read_request(data).method, hop) == ("BYE", expected)


def test_a_sips_request_is_record_routed_as_sips_where_its_uri_is_one() -> None:
    """E-18: §16.6 step 4: on the caller's side always, on the other unless the Request-URI becomes another."""
    for edit, expected in (
        (Edit(), ["<sips:192.0.2.10:5060;lr;cp="]),
        (
            Edit(request_uri="sip:911@192.0.2.30"),
            ["<sip:192.0.2.10:5060;transport=tls;lr;cp=", "<sips:192.0.2.10:5060;lr;cp="],
        ),
    ):  # fmt: skip
        stack = make_stack()
        stack.receive(request("INVITE", "sips:911@192.0.2.10", source=TLS_PBX), TLS_PBX, 0.0)
        stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", TLS_TRUNK, edit),)), 0.0)
        got = read_request(drain(stack)[1][-1][0]).headers("Record-Route")
        assert [route.partition("cp=")[0] + "cp=" for route in got] == expected


def test_a_sips_request_is_not_sent_in_the_clear_unless_it_is_an_emergency() -> None:
    """E-18, E-03: §26.2.2; a 911 call goes by what there is."""
    for emergency in (False, True):
        stack = make_stack()
        stack.receive(request("INVITE", "sips:911@192.0.2.10", source=TLS_PBX), TLS_PBX, 0.0)
        stack.forward(drain(stack)[0][0].transaction, Forward((A,), emergency=emergency), 0.0)
        out = drain(stack)[1]
        if emergency:
            assert [(read_request(data).request_uri, hop) for data, hop in out] == [("sips:911@192.0.2.10", CARRIER)]
        else:
            assert [(read_response(data).status, hop.transport) for data, hop in out] == [(480, "tls")]


def test_answers_on_a_stream_go_to_its_connection_else_to_the_port_in_via() -> None:
    """E-18: §18.2.2: rport is for datagrams (RFC 3581 §4); a new connection goes where the peer listens."""
    for transport, default in (("tcp", 5060), ("tls", 5061)):
        source = Hop(transport, "192.0.2.20", 40_001, 7)
        for named, port in (("192.0.2.20", default), ("192.0.2.20:5080", 5080), ("pbx.example:5080", 5080)):
            stack = make_stack()
            data = request(via_more=";rport").replace(
                b"UDP 192.0.2.20:5060", f"{transport.upper()} {named}".encode(), 1
            )
            stack.receive(data, source, 0.0)
            ((answer, hop),) = drain(stack)[1]
            assert hop == source._replace(port=port)
            assert read_response(answer).headers("Via")[0].endswith(";rport=40001;received=192.0.2.20")


def test_answers_by_udp_go_to_the_port_in_via_unless_rport_asks_for_the_real_one() -> None:
    """E-18: §18.2.2, RFC 3581: and a maddr cannot aim them at anybody."""
    source = Hop("udp", "192.0.2.20", 40_001)
    for more, expected in (("", 5060), (";rport", 40_001), (";maddr=203.0.113.9", 5060)):
        stack = make_stack()
        stack.receive(request(via_more=more), source, 0.0)
        ((_, hop),) = drain(stack)[1]
        assert hop == Hop("udp", "192.0.2.20", expected)


def test_a_refusal_of_what_cannot_be_read_goes_where_its_via_says() -> None:
    """E-18: a bad From does not make the Via unreadable."""
    stack = make_stack(is_emergency=lambda *_: False)
    bad = request(via_more=";rport").replace(b'From: "Alice"', b'From: "Alice')
    stack.receive(bad, Hop("udp", "192.0.2.20", 40_001), 0.0)
    ((answer, hop),) = drain(stack)[1]
    assert hop.port == 40_001
    assert b";rport=40001;received=192.0.2.20" in answer
    assert stack.refused == {("syntax", 400): 1}


# --- whose requests these are -----------------------------------------------------------------------------------------


def test_a_stranger_who_guessed_a_branch_does_not_keep_its_owner_out() -> None:
    """E-04: the PBX's INVITE is served although a forged one with its branch and Via came before."""
    stranger = Hop("udp", "203.0.113.9", 5060)
    stack = make_stack(is_trusted=lambda hop: hop.ip != stranger.ip)
    stack.receive(request(), stranger, 0.0)
    forged = drain(stack)[0][0].transaction
    stack.receive(request(), PBX, 0.1)
    (event,), out = drain(stack)
    assert isinstance(event, RequestReceived)
    assert [(read_response(data).status, hop) for data, hop in out] == [(100, PBX)]
    stack.respond(forged, 403, now=0.1)
    stack.forward(event.transaction, Forward((A,)), 0.1)
    assert [hop for data, hop in drain(stack)[1] if data.startswith(b"INVITE")] == [CARRIER]
    stack.receive(request(), stranger, 0.2)  # and the stranger's next one changes nothing
    assert drain(stack)[0] == []


def test_two_calls_with_one_branch_are_two_calls_each_with_its_own_cancel_and_ack() -> None:
    """E-03: a PBX that uses a branch again has its second 911 forwarded; what ends the one leaves the other alone."""
    bench = Bench(A, invite=request(call_id="first@pbx"))
    bench.receive(request(call_id="second@pbx"), PBX)
    event = bench.events.pop()
    assert isinstance(event, RequestReceived)
    bench.stack.forward(event.transaction, Forward((A,)), 0.0)
    bench.receive(request(call_id="second@pbx"), PBX)  # a repetition, by everything it says
    invites = bench.sent_to(CARRIER)
    assert [read_request(data).call_id for data in invites] == ["first@pbx", "second@pbx"]
    bench.answer(CARRIER, 180, 0)
    bench.answer(CARRIER, 180, 1)
    bench.receive(request("CANCEL", call_id="second@pbx", body=b""), PBX)
    (cancelled,) = [data for data in bench.sent_to(CARRIER) if data.startswith(b"CANCEL")]
    assert read_request(cancelled).call_id == "second@pbx"
    bench.answer(CARRIER, 486, 0)
    bench.answer(CARRIER, 487, 1)
    bench.receive(request("ACK", call_id="first@pbx", to_tag="carrier", body=b""), PBX)
    told = len(bench.sent_to(PBX))
    bench.wait(0.6)  # timer G: only the refusal that no ACK came for is repeated
    assert [read_response(data).call_id for data in bench.sent_to(PBX)[told:]] == ["second@pbx"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(max_forwards="0"), 483),
        (request(uri="http://192.0.2.10/"), 416),
        (request(added=["Proxy-Require: x"]), 420),
        (request("CANCEL", body=b""), 481),
    ],
)
def test_a_stranger_s_forged_address_gets_one_answer_to_one_datagram(data: bytes, status: int) -> None:
    """E-04: a refused INVITE would be answered eleven times over (timer G), to whoever's address stands in it."""
    stack = make_stack(is_trusted=lambda _: False)
    stack.receive(data, PBX, 0.0)
    _, out = drain(stack)
    assert [(read_response(answer).status, hop) for answer, hop in out] == [(status, PBX)]
    assert stack.transaction_counts == (0, 0)
    assert stack.next_timer() is None


def test_an_options_to_us_is_answered_with_max_forwards_used_up() -> None:
    """E-18: §16.3 step 3: session border controllers ask like that whether we live."""
    stack = make_stack()
    stack.receive(request("OPTIONS", "sip:ping@192.0.2.10", max_forwards="0"), PBX, 0.0)
    (event,), _ = drain(stack)
    assert isinstance(event, RequestReceived)
    stack.forward(event.transaction, Forward((A,)), 0.0)  # a hook that would send it on
    assert [read_response(data).status for data, _ in drain(stack)[1]] == [483]
    for other in (
        request("OPTIONS", "sip:ping@192.0.2.99", max_forwards="0", branch="z9hG4bK2"),
        request("MESSAGE", "sip:ping@192.0.2.10", max_forwards="0", branch="z9hG4bK3"),
        request("OPTIONS", "sip:ping@192.0.2.10", max_forwards="0", branch="z9hG4bK4", to_tag="x"),
    ):
        stack.receive(other, PBX, 0.0)
        assert [read_response(data).status for data, _ in drain(stack)[1]] == [483]


def test_an_invite_too_large_for_its_own_limits_can_be_acknowledged_and_cancelled() -> None:
    """E-03: what we add may pass the limits on what strangers send; the ACK must be made all the same."""
    many = request(added=[f"X-{n}: y" for n in range(245)])
    huge = request(body=b"x" * 65_000)
    edit = Edit(add=tuple((f"X-Ours-{n}", "z" * 100) for n in range(20)))
    for invite in (many, huge):
        for status in (486, 180):
            bench = Bench(Target("a", CARRIER_TCP, edit), invite=invite)
            sent = bench.sent_to(CARRIER_TCP)[0]
            head = sent[: sent.index(b"\r\n\r\n")].replace(b"X-", b"Y")
            short = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith((b"Y", b"Content")))
            bench.receive(response(short + b"\r\n\r\n", status), CARRIER_TCP)
            if status == 180:
                bench.receive(cancel(), PBX)
            assert bench.first_lines(CARRIER_TCP)[-1].startswith("ACK " if status == 486 else "CANCEL ")


@pytest.mark.parametrize("odd", ["<sip:192.0.2.77?x=y>", '<sip:192.0.2.77;x="a b">'])
@pytest.mark.parametrize("is_from_strict", [False, True])
def test_a_route_that_is_no_request_uri_ends_no_call_and_nothing_else(odd: str, is_from_strict: bool) -> None:
    """E-18: it has no `lr`, so that it ought to stand in the request line; an answer to what was sent is taken in."""
    bench = Bench(A)
    bench.answer(CARRIER, 200)
    routes = route_set(read_response(bench.sent_to(PBX)[-1]))
    uri, routes = (routes[0].strip("<>"), [odd]) if is_from_strict else ("sip:psap@192.0.2.30:5060", [*routes, odd])
    bench.receive(request("INVITE", uri, branch="z9hG4bKre", cseq=2, to_tag="carrier", routes=routes), PBX)
    there = Hop("udp", "192.0.2.77", 5060)
    (sent,) = [data for data in bench.sent_to(there) if data.startswith(b"INVITE")]
    head = sent.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    kept = b"\r\n".join(line for line in head if not line.startswith((b"Content-", b"Route", b"Record-Route")))
    bench.receive(b"SIP/2.0 486 Busy Here\r\n" + kept + b"\r\n\r\n", there)
    assert bench.statuses()[-1] == 486
    assert bench.first_lines(there)[-1].startswith("ACK ")


def test_what_is_refused_or_dropped_is_counted() -> None:
    """E-18: by reason and status; 0 is silence."""
    stack = make_stack(is_emergency=lambda *_: False)
    for number, data in enumerate(
        (
            request("OPTIONS", "urx:a"),
            request("MESSAGE", "sip:a", max_forwards="0"),
            request("MESSAGE", "sip:a", added=["Proxy-Require: foo"]),
            request("CANCEL"),
            request("ACK", to_tag="x"),
            response(request(), 200),
            b"\x16\x03\x01\x02\x00\x01\x00",
            request().replace(b"CSeq: 1", b"CSeq: one"),
        )
    ):
        stack.receive(data.replace(b"z9hG4bKcaller1", b"z9hG4bK%d" % number), PBX, 0.0)
    drain(stack)
    assert stack.refused == {
        ("scheme", 416): 1, ("max_forwards", 483): 1, ("proxy_require", 420): 1, ("stray_cancel", 481): 1,
        ("stray_ack", 0): 1, ("stray_response", 0): 1, ("syntax", 0): 1, ("syntax", 400): 1,
    }  # fmt: skip
    assert stack.answered == {416: 1, 483: 1, 420: 1, 481: 1}


def test_glare_and_what_else_is_between_the_ends_pass() -> None:
    """E-18: 491 to a re-INVITE with its Retry-After-free body; ACK down, and nothing is tried again."""
    bench = Bench(A)
    bench.answer(CARRIER, 200)
    routes = route_set(read_response(bench.sent_to(PBX)[-1]))
    again = {"routes": routes, "to_tag": "carrier", "cseq": 2, "branch": "z9hG4bKre"}
    bench.receive(request("INVITE", "sip:psap@192.0.2.30", **again), PBX)
    bench.answer(CARRIER, 491, number=1)
    assert bench.statuses() == [100, 200, 100, 491]
    assert bench.first_lines(CARRIER)[-1].startswith("ACK ")
    for method in ("UPDATE", "PRACK", "INFO", "REFER"):
        bench.receive(
            request(method, "sip:psap@192.0.2.30", routes=routes, to_tag="carrier", cseq=3, branch=f"z9hG4bK{method}"),
            PBX,
        )
        got = read_request(bench.sent_to(CARRIER)[-1])
        assert (got.method, got.header("Route"), got.header("Record-Route")) == (method, None, None)


@pytest.mark.parametrize("body", [b"", b"v=0\r\ns=\xff\x00\r\n"])
def test_an_ack_passes_with_its_body(body: bytes) -> None:
    """E-18: delayed offer: the answer's answer is in the ACK."""
    bench = Bench(A)
    bench.answer(CARRIER, 200)
    routes = route_set(read_response(bench.sent_to(PBX)[-1]))
    bench.receive(request("ACK", "sip:psap@192.0.2.30", routes=routes, to_tag="carrier", body=body), PBX)
    got = read_request(bench.sent_to(CARRIER)[-1])
    assert (got.method, got.body) == ("ACK", body)


def test_a_maddr_of_ours_is_taken_off_the_request_uri() -> None:
    """E-18: §16.4: with what chose us by it; another's stays, and so does ours by another transport."""
    for uri, expected in (
        ("sip:911@pbx.example;maddr=192.0.2.10;user=phone", "sip:911@pbx.example;user=phone"),
        ("sip:911@pbx.example:5060;MADDR=192.0.2.10", "sip:911@pbx.example"),
        ("sip:911@pbx.example;transport=udp;maddr=192.0.2.10", "sip:911@pbx.example"),
        ("sip:911@pbx.example;maddr=192.0.2.99", "sip:911@pbx.example;maddr=192.0.2.99"),
        ("sip:911@pbx.example:5070;maddr=192.0.2.10", "sip:911@pbx.example:5070;maddr=192.0.2.10"),
        (
            "sip:911@pbx.example;maddr=192.0.2.10;transport=tcp",
            "sip:911@pbx.example;maddr=192.0.2.10;transport=tcp",
        ),
    ):
        bench = Bench(A, invite=request("INVITE", uri))
        assert read_request(bench.sent_to(CARRIER)[0]).request_uri == expected


def test_the_mark_of_another_element_of_this_kind_is_not_ours() -> None:
    """E-18: two Callpoints in one path: each takes off its own Route and goes to the next."""
    theirs = "<sip:192.0.2.60:5060;lr;cp=0123456789abcdef>"
    bench = Bench(A, invite=request(added=[f"Record-Route: {theirs}"]))
    assert isinstance(bench.received, Request)
    bench.answer(CARRIER, 200)
    routes = route_set(read_response(bench.sent_to(PBX)[-1]))
    bye = request(
        "BYE", "sip:101@192.0.2.20", source=CARRIER, from_tag="carrier", to_tag="alice", routes=routes[::-1],
        branch="z9hG4bKb",
    )  # fmt: skip
    bench.receive(bye, CARRIER)
    data, hop = bench.out[-1]
    assert hop.ip == "192.0.2.60"
    assert read_request(data).headers("Route") == [theirs]
    assert PROXY.ip not in theirs


# --- what is left behind ----------------------------------------------------------------------------------------------


def test_ordinary_calls_leave_no_word_however_late_they_are_answered() -> None:
    """E-18: without a tag there is nobody to tell; the answer goes up, and the BYE is only a BYE."""
    bench = Bench()
    bench.stack.forward(bench.transaction, Forward((A,)), 0.0)
    bench.wait(2.5)
    bench.answer(CARRIER, 200)
    assert bench.statuses()[-1] == 200
    routes = route_set(read_response(bench.sent_to(PBX)[-1]))
    bye = request("BYE", "sip:psap@192.0.2.30", routes=routes, to_tag="carrier", cseq=2, branch="z9hG4bKbye")
    bench.receive(bye, PBX)
    bench.receive(response(bench.sent_to(CARRIER)[-1], 200), CARRIER)
    assert bench.events == []


def test_a_decision_about_a_request_that_has_ended_changes_nothing() -> None:
    """E-18: the hook answered, and then somebody else forwards."""
    bench = Bench()
    bench.stack.respond(bench.transaction, 486, now=0.0)
    bench.receive(request("ACK", to_tag="proxy-1", body=b""), PBX)
    bench.wait(10)
    bench.go(A)
    assert bench.sent_to(CARRIER) == []


def test_streams_that_said_nothing_are_remembered_to_a_bound() -> None:
    """E-18: whoever makes us try many of them fills no memory."""
    attempts = make_stack()._proxy.attempts
    for port in range(MAX_DOUBTS + 10):
        attempts._tcp_doubts.add(Hop("tcp", "192.0.2.30", port), 0.0)
    assert len(attempts._tcp_doubts._until) <= MAX_DOUBTS


def test_a_sips_route_ahead_makes_our_record_route_sips() -> None:
    """E-18: §16.6 step 4 counts the topmost Route as much as the Request-URI."""
    stack = make_stack()
    data = request("SUBSCRIBE", "sip:101@a.example", source=TLS_PBX, routes=["<sips:192.0.2.40;lr>"])
    stack.receive(data, TLS_PBX, 0.0)
    stack.forward(drain(stack)[0][0].transaction, Forward((Target("a", TLS_TRUNK),)), 0.0)
    outward, inward = read_request(drain(stack)[1][-1][0]).headers("Record-Route")
    assert outward.startswith("<sips:192.0.2.10:5060;lr;cp=")
    assert inward.startswith("<sip:192.0.2.10:5060;transport=tls;lr;cp=")


def test_the_interface_of_a_link_local_address_stays_here() -> None:
    """E-18: RFC 4007 §11.2: it means nothing to the peer that reads the answer."""
    source = Hop("udp", "fe80::1%eth0", 5060)
    stack = make_stack(own=Hop("udp", "fe80::10", 5060))
    stack.receive(request(via_more=";rport"), source, 0.0)
    ((answer, hop),) = drain(stack)[1]
    assert hop == source
    assert read_response(answer).headers("Via")[0].endswith(";rport=5060;received=fe80::1")


def test_a_cancel_after_a_cancel_and_one_for_an_answered_call_are_absorbed() -> None:
    """E-18: each is answered 200 and changes nothing."""
    bench = Bench(A)
    bench.answer(CARRIER, 180)
    bench.receive(cancel(), PBX)
    bench.wait(33.0)  # the CANCEL's own transaction has gone, its INVITE's has not
    bench.receive(cancel(), PBX)
    assert bench.statuses().count(200) == 2
    assert [line for line in bench.first_lines(CARRIER) if line.startswith("CANCEL")]
