"""What waits on streams in a crowd: a 911 first, all else of a stream in its order, what is refused and when."""

from hypothesis import given
from hypothesis import strategies as st

from engine.sip.crowd import PATIENCE_S, CrowdRules
from engine.sip.forward import Hop
from engine.sip.stream_crowd import MOST_BYTES, MOST_BYTES_IN_ALL, StreamCrowd

STREAMS = tuple(Hop("tcp", f"192.0.2.{10 + number}", 40_000 + number, number) for number in range(3))
PBX, OTHER, THIRD = STREAMS
STRANGER = Hop("tcp", "198.51.100.66", 40_000, 9)
INVITE, EMERGENCY, BYE, CANCEL, REINVITE, OK = range(6)


def message(kind: int, number: int = 0, size: int = 0) -> bytes:
    """A message that tells by its Call-ID which one it is."""
    if kind == OK:
        return b"SIP/2.0 200 OK\r\nCall-ID: %d@pbx\r\n\r\n" % number
    method = {BYE: "BYE", CANCEL: "CANCEL"}.get(kind, "INVITE")
    user = "911" if kind in (EMERGENCY, CANCEL) else "5550100"
    to = ";tag=b" if kind in (BYE, REINVITE) else ""
    head = f"{method} sip:{user}@callpoint SIP/2.0\r\nTo: <sip:{user}@callpoint>{to}\r\nCall-ID: {number}@pbx\r\n\r\n"
    return head.encode().ljust(size, b"x")


def made(given_: list[tuple[bytes, bool]] | None = None) -> StreamCrowd:
    """A crowd that hands over into `given_`: (message, was it refused?)."""
    into = given_ if given_ is not None else []
    return StreamCrowd(
        CrowdRules(
            hears=lambda hop, _now: hop != STRANGER,
            is_emergency=lambda uri, _hop: uri.startswith(b"sip:911"),
            refuse=lambda data, _hop: into.append((data, True)),
            receive=lambda data, _hop: into.append((data, False)),
        )
    )


def taken(crowd: StreamCrowd, now: float = 0.0) -> list[tuple[bytes, Hop, bool]]:
    return list(iter(lambda: crowd.take(now), None))


def test_a_911_that_came_last_is_taken_first_and_its_cancel_in_its_place() -> None:
    """E-03: passthrough load never stands before an emergency; what ends it comes after it."""
    crowd = made()
    crowd.put([message(INVITE, n) for n in range(3)] + [message(EMERGENCY), message(CANCEL)], PBX, 0.0)
    assert [data.split(b" ")[0:2] for data, _, _ in taken(crowd)] == [
        [b"INVITE", b"sip:911@callpoint"],
        *[[b"INVITE", b"sip:5550100@callpoint"]] * 3,
        [b"CANCEL", b"sip:911@callpoint"],
    ]
    assert (len(crowd), crowd.shed) == (0, 0)


def test_a_request_inside_a_dialog_with_911_leaves_its_place_never() -> None:
    """E-18: its dialog may count on the order of the stream."""
    crowd = made()
    again = message(EMERGENCY).replace(b"To: <sip:911@callpoint>", b"To: <sip:911@callpoint>;tag=b")
    crowd.put([message(INVITE), again], PBX, 0.0)
    assert [data for data, _, _ in taken(crowd)] == [message(INVITE), again]


def test_every_stream_has_its_turn_and_work_already_begun_goes_first() -> None:
    """E-03: a PBX with a thousand calls waiting keeps another's answer and its few calls from nothing."""
    crowd = made()
    crowd.put([message(INVITE, n) for n in range(10)], PBX, 0.0)
    crowd.put([message(INVITE, 50), message(INVITE, 51)], OTHER, 0.0)
    crowd.put([message(OK), message(BYE)], THIRD, 0.0)
    order = [hop for _, hop, _ in taken(crowd)]
    assert order == [THIRD, THIRD, PBX, OTHER, PBX, OTHER, *[PBX] * 8]


def test_only_new_ordinary_requests_are_refused_and_only_when_they_waited_too_long() -> None:
    """E-03: by the rule that holds on UDP."""
    crowd = made()
    late = [message(BYE), message(INVITE), message(REINVITE), message(EMERGENCY), message(OK)]
    crowd.put(late, PBX, 0.0)
    crowd.put([message(INVITE, 1)], PBX, 1.0)
    refused = {data for data, _, is_late in taken(crowd, 1.0 + PATIENCE_S / 2) if is_late}
    assert (refused, crowd.shed) == ({message(INVITE)}, 1)


def test_what_waits_of_a_stream_is_bounded_and_shed_before_the_bound() -> None:
    """E-03: beyond the bound the stream is not read; from half of it on new calls are refused at once."""
    crowd = made()
    size = MOST_BYTES // 8
    crowd.put([message(INVITE, n, size) for n in range(7)], PBX, 0.0)
    assert not crowd.is_full(PBX.connection)
    crowd.put([message(INVITE, 7, size)], PBX, 0.0)
    assert crowd.is_full(PBX.connection)
    assert not crowd.is_full(OTHER.connection)
    assert [is_late for _, _, is_late in taken(crowd)] == [True] * 4 + [False] * 4
    assert not crowd.is_full(PBX.connection)


def test_many_streams_together_are_bounded_too() -> None:
    """E-03: a thousand connections hold no more than some of them might; who has nothing waiting is read on."""
    crowd, each = made(), message(BYE, 0, MOST_BYTES - 1)
    many = [Hop("tcp", "192.0.2.9", 40_000 + number, 100 + number) for number in range(MOST_BYTES_IN_ALL // MOST_BYTES)]
    for hop in many:
        crowd.put([each], hop, 0.0)
    assert not any(crowd.is_full(hop.connection) for hop in many)
    crowd.put([message(BYE, 0, len(many))], PBX, 0.0)
    assert all(crowd.is_full(hop.connection) for hop in (*many, PBX))
    assert not crowd.is_full(OTHER.connection)
    crowd.take(0.0)
    assert not any(crowd.is_full(hop.connection) for hop in (*many, PBX))


def test_the_answers_of_a_stream_that_has_ended_are_taken_before_anybody_is_told() -> None:
    """E-18: a trunk that answers and hangs up has answered; its requests keep their turn."""
    crowd = made()
    crowd.put([message(INVITE, 1), message(OK, 2), message(BYE, 3), message(OK, 4)], PBX, 0.0)
    crowd.put([message(OK, 5)], OTHER, 0.0)
    assert crowd.take_responses(PBX.connection) == [message(OK, 2), message(OK, 4)]
    assert crowd.take_responses(THIRD.connection) == []
    assert [data for data, _, _ in taken(crowd)] == [message(OK, 5), message(INVITE, 1), message(BYE, 3)]
    assert not crowd.holds(PBX.connection)


def test_a_stranger_s_flood_does_not_even_wait() -> None:
    """E-04: what is not to be heard takes nobody's place."""
    crowd = made()
    crowd.put([message(EMERGENCY)] * 10, STRANGER, 0.0)
    assert (len(crowd), crowd.holds(STRANGER.connection)) == (0, False)


def test_the_late_are_refused_and_the_others_handed_over() -> None:
    """E-03: as many as asked for, no more."""
    given_: list[tuple[bytes, bool]] = []
    crowd = made(given_)
    crowd.put([message(INVITE, 1), message(BYE, 2), message(INVITE, 3)], PBX, 0.0)
    crowd.work(1.0, 2)
    assert given_ == [(message(INVITE, 1), True), (message(BYE, 2), False)]
    crowd.work(0.0, 9)
    assert given_[2:] == [(message(INVITE, 3), False)]


KINDS = st.sampled_from([INVITE, EMERGENCY, BYE, CANCEL, REINVITE, OK])
SEGMENTS = st.lists(st.tuples(st.sampled_from(STREAMS), st.lists(KINDS, max_size=6), st.integers(0, 4)), max_size=12)


@given(SEGMENTS)
def test_whatever_comes_each_stream_keeps_its_order_and_nothing_is_lost(
    segments: list[tuple[Hop, list[int], int]],
) -> None:
    """E-03, E-18: segments of several streams, some of what waits dealt with between them."""
    crowd, numbers = made(), iter(range(1_000))
    sent: dict[Hop, list[tuple[int, bytes]]] = {hop: [] for hop in STREAMS}
    out: dict[Hop, list[bytes]] = {hop: [] for hop in STREAMS}

    def take() -> bool:
        waiting = [data for hop in STREAMS for kind, data in sent[hop] if kind == EMERGENCY and data not in out[hop]]
        found = crowd.take(0.0)
        if found is None:
            return False
        data, hop, is_late = found
        assert not is_late
        assert not waiting or data in waiting, "a 911 waits and something else went first"
        out[hop].append(data)
        return True

    for hop, kinds, worked in segments:
        made_now = [(kind, message(kind, next(numbers))) for kind in kinds]
        sent[hop] += made_now
        crowd.put([data for _, data in made_now], hop, 0.0)
        for _ in range(worked):
            take()
    while take():
        pass
    assert len(crowd) == 0
    for hop in STREAMS:
        emergencies = {data for kind, data in sent[hop] if kind == EMERGENCY}
        assert sorted(out[hop]) == sorted(data for _, data in sent[hop])
        for chosen in (emergencies, {data for _, data in sent[hop]} - emergencies):
            assert [data for data in out[hop] if data in chosen] == [data for _, data in sent[hop] if data in chosen]
        assert not crowd.holds(hop.connection)
