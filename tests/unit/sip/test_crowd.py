"""What waits in a crowd: the order, the patience, and what is refused."""

import pytest

from engine.sip.crowd import IN_ORDER_S, MOST_WAITING, PATIENCE_S, Crowd, CrowdRules, Rank
from engine.sip.forward import Hop

PBX = Hop("udp", "192.0.2.10", 5060)
DEAF_TO = Hop("udp", "198.51.100.66", 5060)


def is_emergency(uri: bytes, hop: Hop) -> bool:
    return hop == PBX and uri.partition(b"@")[0] in {b"sip:911", b"urn:service:sos"}


@pytest.fixture
def refused() -> list[bytes]:
    return []


@pytest.fixture
def received() -> list[bytes]:
    return []


@pytest.fixture
def crowd(refused: list[bytes], received: list[bytes]) -> Crowd:
    return Crowd(
        CrowdRules(
            hears=lambda hop, _now: hop != DEAF_TO,
            is_emergency=is_emergency,
            refuse=lambda data, _hop: refused.append(data),
            receive=lambda data, _hop: received.append(data),
        )
    )


def request(method: str, uri: str = "sip:5550100@callpoint", to: str = "<sip:5550100@callpoint>") -> bytes:
    return (
        f"{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1\r\nFrom: <sip:101@pbx>;tag=a\r\n"
        f"To: {to}\r\nCall-ID: 1@pbx\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def test_a_911_that_came_last_is_taken_first(crowd: Crowd) -> None:
    """E-03: passthrough load never stands before an emergency."""
    for _ in range(100):
        crowd.put(request("INVITE"), PBX, 0.0)
    crowd.put(request("BYE"), PBX, 0.001)
    crowd.put(request("INVITE", "sip:911@callpoint"), PBX, 0.002)
    assert len(crowd) == 102
    first, second, third = (crowd.take(0.003) for _ in range(3))
    assert first is not None
    assert first[0].startswith(b"INVITE sip:911@")
    assert second is not None
    assert second[0].startswith(b"BYE ")
    assert third == (request("INVITE"), PBX, False)


def test_a_new_ordinary_call_is_refused_when_its_turn_comes_too_late_and_only_then(crowd: Crowd) -> None:
    """E-03: normal calls are shed first."""
    crowd.put(request("INVITE"), PBX, 0.0)
    crowd.put(request("INVITE"), PBX, 1.0)
    crowd.put(request("INVITE", "sip:911@callpoint"), PBX, 0.0)
    crowd.put(request("ACK"), PBX, 0.0)
    now = 1.0 + PATIENCE_S / 2
    taken = [crowd.take(now) for _ in range(4)]
    assert [each is not None and each[2] for each in taken] == [False, False, True, False]
    assert crowd.shed == 1
    assert crowd.take(now) is None


@pytest.mark.parametrize(
    ("data", "rank"),
    [
        (request("INVITE"), Rank.NEW),
        (request("INVITE", to="<sip:5550100@callpoint>;tag=b"), Rank.IN_PROGRESS),
        (
            request("INVITE")
            .replace(b"\r\nTo:", b"\r\nt :")
            .replace(b"callpoint>\r\nCall", b"callpoint> ;tag=x\r\nCall"),
            Rank.IN_PROGRESS,
        ),
        (request("INVITE", "sip:911@callpoint"), Rank.EMERGENCY),
        (request("MESSAGE", "urn:service:sos"), Rank.EMERGENCY),
        (request("MESSAGE"), Rank.NEW),
        (request("CANCEL"), Rank.IN_PROGRESS),
        (request("OPTIONS"), Rank.IN_PROGRESS),
        (b"SIP/2.0 200 OK\r\n\r\n", Rank.IN_PROGRESS),
        (b"INVITE ", Rank.EMERGENCY),
        (b"INVITE  \r\n", Rank.EMERGENCY),
        (b"", Rank.IN_PROGRESS),
        (b"\r\n\r\n", Rank.IN_PROGRESS),
    ],
)
def test_the_first_bytes_tell_the_rank(crowd: Crowd, data: bytes, rank: Rank) -> None:
    """E-03: what cannot be read may be an emergency; what ends work already begun goes before new work."""
    assert crowd.rank(data, PBX) is rank


def test_a_stranger_gets_no_rank_by_dialling_911(crowd: Crowd) -> None:
    """E-04: whose 911 counts is the hook's to say."""
    assert crowd.rank(request("INVITE", "sip:911@callpoint"), Hop("udp", "203.0.113.9", 5060)) is Rank.NEW


def test_what_waits_is_bounded(crowd: Crowd) -> None:
    """E-03: a flood costs memory up to a bound; a forgotten INVITE is sent again by its PBX."""
    for number in range(MOST_WAITING + 10):
        crowd.put(request("INVITE", f"sip:x{number}@callpoint"), PBX, 0.0)
    assert len(crowd) == MOST_WAITING
    assert crowd.shed == 10
    left = [taken[0].split(b" ")[1] for taken in iter(lambda: crowd.take(0.0), None)]
    assert left[0] == b"sip:x10@callpoint"


@pytest.mark.parametrize(
    ("now", "order"),
    [
        (0.02 + IN_ORDER_S / 2, "012"),  # a pause is made up for in order: nobody is refused because others came later
        (0.001 + IN_ORDER_S, "210"),  # a crowd that lasts: those that are carried wait for nothing
    ],
)
def test_new_calls_are_taken_in_their_order_until_the_oldest_has_waited_long(
    crowd: Crowd, now: float, order: str
) -> None:
    """E-03: the youngest goes first only when not all of them can be carried."""
    for number in range(3):
        crowd.put(request("INVITE", f"sip:{number}@callpoint"), PBX, number / 100)
    taken = [crowd.take(now) for _ in range(3)]
    assert [each and each[0].split(b" ")[1] for each in taken] == [b"sip:%d@callpoint" % int(each) for each in order]
    assert crowd.shed == 0


def test_what_is_not_to_be_heard_does_not_even_wait(crowd: Crowd) -> None:
    """E-04: a stranger's flood takes nobody's place."""
    crowd.put(request("INVITE", "sip:911@callpoint"), DEAF_TO, 0.0)
    assert len(crowd) == 0


def test_the_late_are_refused_and_the_others_handed_over(
    crowd: Crowd, refused: list[bytes], received: list[bytes]
) -> None:
    """E-03: as many as asked for, no more."""
    crowd.put(request("INVITE", "sip:1@callpoint"), PBX, 0.0)
    crowd.put(request("INVITE", "sip:2@callpoint"), PBX, 1.0)
    crowd.put(request("BYE"), PBX, 1.0)
    crowd.work(1.0, 2)
    assert (received, refused) == ([request("BYE")], [request("INVITE", "sip:1@callpoint")])
    crowd.work(1.0, 9)
    assert received[1:] == [request("INVITE", "sip:2@callpoint")]
