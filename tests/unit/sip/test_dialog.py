"""Route preprocessing, Record-Route and the marks (RFC 3261 §16.4, §16.6, RFC 5658)."""

import pytest

from engine.sip.dialog import Dialogs, NextHop
from engine.sip.forward import Forward, Hop, Target
from engine.sip.stack import RequestReceived, SipStack
from tests.siptest import (
    CARRIER,
    PBX,
    PROXY,
    drain,
    make_stack,
    read_request,
    read_response,
    request,
    response,
    route_set,
)

KEY = b"mark key of the tests, 32 bytes."
MARK = Dialogs(lambda _: (PROXY.ip, PROXY.port), KEY).mark(b"call-1@192.0.2.20", b"alice").decode()
OURS = f"<sip:192.0.2.10:5060;lr;cp={MARK}>"
OURS_TCP = f"<sip:192.0.2.10:5060;transport=tcp;lr;cp={MARK}>"


def through(data: bytes, source: Hop = PBX, **more: object) -> tuple[SipStack, list[object], list[tuple[bytes, Hop]]]:
    stack = make_stack(**more)
    stack.receive(data, source, 0.0)
    events, out = drain(stack)
    return stack, events, out


def bye(*routes: str, uri: str = "sip:psap@192.0.2.30:5060", **more: object) -> bytes:
    return request("BYE", uri, routes=routes, cseq=2, to_tag="carrier", **more)


def test_a_request_with_our_mark_goes_by_its_request_uri() -> None:
    """E-18: nobody is asked, and not even the source must be trusted."""
    _, events, out = through(bye(OURS), is_trusted=lambda _: False)
    assert events == []
    ((data, hop),) = out
    assert hop == CARRIER
    assert read_request(data).header("Route") is None
    assert read_request(data).header("Record-Route") is None


def test_both_of_our_elements_are_taken_off_and_the_rest_decides() -> None:
    """E-18: double Record-Route, on one line, on two, and with a proxy behind us."""
    for routes in ([OURS, OURS_TCP, "<sip:192.0.2.40;lr>"], [f"{OURS}, {OURS_TCP},<sip:192.0.2.40;lr>"]):
        ((data, hop),) = through(bye(*routes))[2]
        assert hop == Hop("udp", "192.0.2.40", 5060)
        assert read_request(data).headers("Route") == ["<sip:192.0.2.40;lr>"]
        assert read_request(data).request_uri == "sip:psap@192.0.2.30:5060"


def test_what_follows_us_on_a_line_stays_in_order() -> None:
    """E-18: cut out of the middle of nothing."""
    ((data, hop),) = through(bye(f'{OURS} , <sip:192.0.2.40;lr;x="a,b"> , <sip:192.0.2.41;lr>', "<sip:192.0.2.42;lr>"))[
        2
    ]
    assert hop.ip == "192.0.2.40"
    assert read_request(data).headers("Route") == [
        '<sip:192.0.2.40;lr;x="a,b"> , <sip:192.0.2.41;lr>', "<sip:192.0.2.42;lr>",
    ]  # fmt: skip


@pytest.mark.parametrize("mark", ["0" * 16, MARK[:-1], MARK + "0", ""])
def test_a_forged_mark_is_no_mark(mark: str) -> None:
    """E-04: it is a request like any stranger's."""
    _, events, out = through(bye(f"<sip:192.0.2.10:5060;lr;cp={mark}>"))
    assert isinstance(events[0], RequestReceived)
    assert out == []


def test_a_mark_of_another_call_is_no_mark() -> None:
    """E-04: bound to Call-ID and the caller's tag, in either direction."""
    assert len(through(bye(OURS, call_id="other"))[1]) == 1
    assert len(through(bye(OURS, from_tag="mallory"))[1]) == 1
    assert through(request("BYE", "sip:101@192.0.2.20", routes=[OURS], from_tag="carrier", to_tag="alice"))[1] == []


def test_a_mark_without_to_tag_opens_nothing() -> None:
    """E-04: only inside a dialog."""
    _, events, _ = through(request("INVITE", routes=[OURS]))
    assert isinstance(events[0], RequestReceived)


def test_a_strict_router_before_us_is_put_right() -> None:
    """E-18: §16.4: it put our URI into the Request-URI and the target last into Route."""
    uri = OURS.strip("<>")
    ((data, hop),) = through(bye("<sip:192.0.2.40;lr>", "<sip:psap@192.0.2.30>", uri=uri))[2]
    got = read_request(data)
    assert got.request_uri == "sip:psap@192.0.2.30"
    assert got.headers("Route") == ["<sip:192.0.2.40;lr>"]
    assert hop.ip == "192.0.2.40"
    ((data, hop),) = through(bye("<sip:psap@192.0.2.30>", uri=uri))[2]
    assert (read_request(data).request_uri, hop.ip) == ("sip:psap@192.0.2.30", "192.0.2.30")
    assert through(bye(uri=uri))[2][0][0].startswith(b"SIP/2.0 503")  # its Route is lost: we are not our own next hop


def test_a_strict_router_behind_us_gets_what_it_reads() -> None:
    """E-18: §16.6 step 6."""
    ((data, hop),) = through(bye(OURS, "<sip:192.0.2.40>", "<sip:192.0.2.41;lr>"))[2]
    got = read_request(data)
    assert got.request_uri == "sip:192.0.2.40"
    assert got.headers("Route") == ["<sip:192.0.2.41;lr>", "<sip:psap@192.0.2.30:5060>"]
    assert hop.ip == "192.0.2.40"


def test_an_outbound_proxy_route_to_us_is_taken_off() -> None:
    """E-18: a PBX configured with us as outbound proxy sends our address without a mark."""
    stack, events, _ = through(request(routes=["<sip:192.0.2.10;lr>"]))
    stack.forward(events[0].transaction, Forward((Target("a", CARRIER),)), 0.0)
    assert read_request(drain(stack)[1][-1][0]).header("Route") is None
    stack, events, _ = through(request(routes=["<tel:911>", "<sip:192.0.2.99;lr>"]))
    stack.forward(events[0].transaction, Forward((Target("a", CARRIER),)), 0.0)
    assert read_request(drain(stack)[1][-1][0]).headers("Route") == ["<tel:911>", "<sip:192.0.2.99;lr>"]


def test_record_route_goes_on_top_and_twice_where_transports_differ() -> None:
    """E-18: RFC 5658 §3; the outgoing side first."""
    trunk = Hop("tcp", "192.0.2.30", 5060)
    stack, events, _ = through(request(added=["Record-Route: <sip:192.0.2.50;lr>"]))
    stack.forward(events[0].transaction, Forward((Target("a", trunk),)), 0.0)
    got = read_request(drain(stack)[1][-1][0])
    assert got.headers("Record-Route") == [OURS_TCP, OURS, "<sip:192.0.2.50;lr>"]
    assert got.header(
        "Via",
    ).startswith("SIP/2.0/TCP 192.0.2.10:5060;branch=")
    stack.receive(response(drain_invite(got), 200), trunk, 0.1)
    answer = read_response(drain(stack)[1][-1][0])
    assert route_set(answer) == ["<sip:192.0.2.50;lr>", OURS, OURS_TCP]


def drain_invite(got: object) -> bytes:
    return got.raw  # type: ignore[attr-defined]


def test_the_next_hop_of_a_uri() -> None:
    """E-18: port, transport, maddr, IPv6; other schemes have none."""
    dialogs = Dialogs(lambda _: (PROXY.ip, PROXY.port), KEY)

    def where(uri: bytes) -> tuple[str, int, str, bool] | None:
        found = dialogs.next_hop(uri)
        return None if found is None else (found.host, found.port, found.transport, found.is_loose)

    assert where(b"sip:a@192.0.2.1") == ("192.0.2.1", 5060, "udp", False)
    assert where(b"SIP:a@Host.Example:5080;transport=TCP;lr") == ("host.example", 5080, "tcp", True)
    assert where(b"sip:a@[2001:db8::1]:5070;lr=on") == ("2001:db8::1", 5070, "udp", True)
    assert where(b"sip:a@h;maddr=192.0.2.9") == ("192.0.2.9", 5060, "udp", False)
    assert where(b"tel:911") is None
    assert where(b"sip:" + b"a" * 5000) is None
    assert where(b"sip:" + b"a" * 300) is not None
    for number in range(5000):
        dialogs.next_hop(b"sip:%d" % number)
        dialogs.via(Hop("udp", "192.0.2.1", number), b"x")
    assert len(dialogs._next_hops) <= 4096
    assert len(dialogs._prefixes) <= 4096


def test_ipv6_is_bracketed_wherever_it_is_written() -> None:
    """E-18: Via, Record-Route, Contact, received."""
    own, caller, trunk = (Hop("udp", f"2001:db8::{n}", 5060) for n in (10, 20, 30))
    stack = make_stack(own=own)
    stack.receive(
        request(via_more=";rport").replace(b"192.0.2.20:5060;branch", b"[2001:db8::99]:5060;branch"), caller, 0.0
    )
    events, _ = drain(stack)
    stack.forward(events[0].transaction, Forward((Target("a", trunk),)), 0.0)
    got = read_request(drain(stack)[1][-1][0])
    assert got.headers("Via")[0].startswith("SIP/2.0/UDP [2001:db8::10]:5060;branch=")
    assert got.headers("Via")[1].endswith(";rport=5060;received=2001:db8::20")
    assert got.header(
        "Record-Route",
    ).startswith("<sip:[2001:db8::10]:5060;lr;cp=")
    stack.send_request("OPTIONS", "sip:[2001:db8::30]", trunk, (), b"", "t", 0.0, 4.0)
    assert read_request(drain(stack)[1][-1][0]).header("Contact") == "<sip:[2001:db8::10]:5060>"


def test_a_request_to_a_name_goes_where_the_resolver_says() -> None:
    """E-18: and when nobody knows it, 503."""
    data = bye(OURS, uri="sip:psap@psap.example:5070;transport=tcp")
    ((_, hop),) = through(data, resolve=lambda target: (Hop(target.transport, "192.0.2.77", target.port),))[2]
    assert hop == Hop("tcp", "192.0.2.77", 5070)
    ((answer, _),) = through(data)[2]
    assert read_response(answer).status == 503
    ((answer, _),) = through(bye(OURS, uri="tel:911"))[2]
    assert read_response(answer).status == 503


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("Contact: <sip:101@192.0.2.20:5060;transport=tcp>", []),
        ("Contact: <sip:101@[2001:db8::20]:5060>", []),
        ("Contact: <sip:192.0.2.20>", []),
        ("m: Alice <sips:101@PBX.example;x=y>;expires=3600", [("pbx.example", (None, "sips"))]),
        ("Contact: sip:pbx.example:5070", [("pbx.example", (5070, ""))]),
        ("Contact: <sip:a@1and1.example;transport=udp>", [("1and1.example", (None, "udp"))]),
        (
            "Record-Route: <sip:one.example;lr>, <sip:192.0.2.1;lr>, <sip:two.example:5061;transport=TLS;lr>",
            [("one.example", (None, "")), ("two.example", (5061, "tls"))],
        ),
        ("Contact: <tel:911>", []),
        ("Contact: *", []),
    ],
)
def test_names_in_what_makes_a_dialog_are_told_before_they_are_needed(
    line: str, names: list[tuple[str, tuple[int | None, str]]]
) -> None:
    """E-18: from the INVITE and from its 2xx; addresses need no look-up."""
    told: list[NextHop] = []
    dialogs = Dialogs(lambda hop: (hop.ip, hop.port), b"k" * 32, told.append)
    plain = request(added=[line]).replace(b"Contact: <sip:101@192.0.2.20:5060;transport=udp>\r\n", b"")
    dialogs.meet(read_request(plain))
    assert [(each.host, each.named) for each in told] == names


def test_the_ack_of_a_2xx_goes_by_its_route_with_the_same_branch_each_time() -> None:
    """E-18: §16.11; without a mark, or with Max-Forwards used up, it is dropped."""
    ack = request("ACK", "sip:psap@192.0.2.30", routes=[OURS], to_tag="carrier", branch="z9hG4bKack", via_more=";rport")
    stack = make_stack()
    for _ in range(2):
        stack.receive(ack, PBX, 0.0)
    out = drain(stack)[1]
    assert [hop for _, hop in out] == [CARRIER, CARRIER]
    assert out[0] == out[1]
    got = read_request(out[0][0])
    assert (got.max_forwards, got.header("Route")) == (69, None)
    assert got.headers("Via")[1].endswith(";rport=5060;received=192.0.2.20")
    for other in (
        request("ACK", "sip:psap@192.0.2.30", to_tag="carrier", branch="z9hG4bKack"),
        request("ACK", "sip:psap@192.0.2.30", routes=[OURS], to_tag="carrier", max_forwards="0"),
        request("ACK", "sip:psap@nowhere.example", routes=[OURS], to_tag="carrier"),
    ):
        assert through(other)[1:] == ([], [])


def test_an_in_dialog_invite_gets_its_100_and_is_not_record_routed_again() -> None:
    """E-18: a re-INVITE keeps its route set."""
    _, events, out = through(request("INVITE", "sip:psap@192.0.2.30", routes=[OURS], to_tag="carrier", cseq=2))
    assert events == []
    assert read_response(out[0][0]).status == 100
    assert read_request(out[1][0]).header("Record-Route") is None


def test_many_in_dialog_targets_are_kept_to_a_bound() -> None:
    """E-18: no memory of every contact ever seen."""
    stack = make_stack()
    for number in range(4200):
        stack.receive(bye(OURS, uri=f"sip:a@192.0.2.30:{number + 1}", branch=f"z9hG4bK{number}"), PBX, 0.0)
    assert len(drain(stack)[1]) == 4200
    assert len(stack._inside._single_targets) <= 4096
    assert len(stack._inside._literal_hops) <= 4096


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Contact: <sip:101@192.0.2.20:5060>"], []),
        (["Contact: <sip:101@pbx.example>"], ["pbx.example"]),
        (['Contact: "a;b" <sip:101@pbx.example;x=1>'], ["pbx.example"]),
        ([f"Record-Route: {OURS}"], []),
        ([f"Record-Route: {OURS}", "Record-Route: <sip:edge.example;lr>"], ["edge.example"]),
        ([f"Record-Route: {OURS}, <sip:edge.example;lr>"], ["edge.example"]),
        ([f"Record-Route: <sip:edge.example;lr;cp={MARK}>"], ["edge.example"]),
    ],
)
def test_host_names_are_met_however_often_lines_like_theirs_named_none(lines: list[str], expected: list[str]) -> None:
    """E-18: lines that name addresses alone are not read twice; one that names a host is told of every time."""
    met: list[NextHop] = []
    dialogs = Dialogs(lambda _: (PROXY.ip, PROXY.port), KEY, met.append)
    for _ in range(2):
        for known in ("Contact: <sip:101@192.0.2.20:5060>", f"Record-Route: {OURS}", 'Contact: "a;c" <sip:192.0.2.1>'):
            data = b"\r\n".join(each for each in request().split(b"\r\n") if not each.startswith(b"Contact"))
            dialogs.meet(read_request(data.replace(b"\r\nCSeq", f"\r\n{known}\r\nCSeq".encode())))
        assert met == []
        dialogs.meet(read_request(data.replace(b"\r\nCSeq", "\r\n".join(["", *lines, "CSeq"]).encode())))
        assert [each.host for each in met] == expected
        met.clear()
