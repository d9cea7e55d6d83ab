"""SIP over TLS and TCP on real sockets: who is believed, what stands ahead of calls, who is turned away."""

import asyncio
import datetime as dt
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme

from engine.sip.connection import PONG_WITHIN_S, socket_address
from engine.sip.forward import Hop, Target
from engine.sip.stack import AttemptEnded, Finished
from engine.sip.standing import PROBE_PAUSES_S
from engine.sip.stream import PING_AFTER_S, Limits
from engine.sip.tls import TlsFiles, client_context, server_context
from engine.sip.transports import Listening
from tests.certificates import files_of, written
from tests.ports import free_port
from tests.protocol.elements import LOOPBACK, WAIT_S, Element, StreamPeer, UdpPeer
from tests.siptest import read_request, read_response, request, response, route_set

pytestmark = pytest.mark.enable_socket
NOBODY = TlsFiles()
Make = Callable[..., Awaitable[Element]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Element] = []

    async def element(files: TlsFiles = NOBODY, *, listening: Listening = LOOPBACK, **how: object) -> Element:
        one = Element(files, **how)  # type: ignore[arg-type]
        made.append(one)
        await one.open(listening)
        return one

    yield element
    for one in made:
        await one.close()


@pytest.fixture
async def peers() -> AsyncIterator[Callable[[StreamPeer], StreamPeer]]:
    kept: list[StreamPeer] = []

    def keep(peer: StreamPeer) -> StreamPeer:
        kept.append(peer)
        return peer

    yield keep
    for peer in kept:
        await peer.close()


def serving(folder: Path, authority: trustme.CA, *names: str, **more: object) -> ssl.SSLContext:
    """A carrier's side of TLS."""
    return server_context(files_of(folder, authority, *names, **more))  # type: ignore[arg-type]


# --- TLS --------------------------------------------------------------------------------------------------------------


async def test_a_call_passes_from_a_pbx_over_tls_to_a_carrier_over_tls(
    tmp_path: Path, authority: trustme.CA, make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-18: INVITE to BYE, in segments of a few bytes, with our name, transport and port on either side."""
    element = await make(files_of(tmp_path, authority, "callpoint.example", server_ca=authority))
    carrier = peers(StreamPeer(serving(tmp_path, authority, "trunk.example")))
    await carrier.listen("trunk.example")
    pbx = peers(StreamPeer(client_context(written(tmp_path, authority))))
    await pbx.connect(element.port("tls"), name="callpoint.example")
    element.targets = (Target("a", carrier.hop),)
    invite = request(source=pbx.hop)
    for start in range(0, len(invite), 100):
        pbx.writer.write(invite[start : start + 100])
        await pbx.writer.drain()
    forwarded = await carrier.next()
    at_carrier = read_request(forwarded)
    own = f"127.0.0.1:{element.port('tls')}"
    assert at_carrier.headers("Via")[0].startswith(f"SIP/2.0/TLS {own};branch=")
    assert at_carrier.headers("Record-Route")[0].startswith(f"<sip:{own};transport=tls;lr;cp=")
    assert read_response(await pbx.next()).status == 100
    contact = f"sip:psap@127.0.0.1:{carrier.hop.port};transport=tls"
    carrier.writer.write(response(forwarded, 180, contact=contact) + response(forwarded, 200, contact=contact))
    assert [read_response(await pbx.next()).status for _ in range(2)] == [180, 200]
    bye = request("BYE", contact, source=pbx.hop, branch="z9hG4bKb", cseq=2, to_tag="carrier",
                  routes=route_set(read_response(response(forwarded, 200))))  # fmt: skip
    pbx.writer.write(bye)
    assert read_request(await carrier.next()).method == "BYE"


@pytest.mark.parametrize("fault", ["another name", "expired", "another authority", "in clear"])
async def test_a_trunk_that_does_not_prove_its_name_is_passed_over_and_the_call_goes_on(
    tmp_path: Path,
    authority: trustme.CA,
    make: Make,
    peers: Callable[[StreamPeer], StreamPeer],
    fault: str,
) -> None:
    """E-03: the next trunk has the 911; the reason is there for the operator."""
    element = await make(files_of(tmp_path, authority, "callpoint.example", server_ca=authority))
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    context = {
        "another name": lambda: serving(tmp_path, authority, "other.example"),
        "expired": lambda: serving(tmp_path, authority, "trunk.example", not_after=yesterday),
        "another authority": lambda: serving(tmp_path, trustme.CA(), "trunk.example"),
        "in clear": lambda: None,
    }[fault]()
    bad, good = peers(StreamPeer(context)), peers(StreamPeer(serving(tmp_path, authority, "second.example")))
    await bad.listen("trunk.example")
    await good.listen("second.example")
    first = bad.hop._replace(transport="tls", host="trunk.example")
    element.targets = (Target("a", first, connect_s=1.0), Target("b", good.hop))
    pbx = UdpPeer()
    await pbx.open()
    pbx.send(request(source=pbx.hop), element.udp_port)
    forwarded = await good.next()
    ended = await element.until(AttemptEnded)
    assert (ended.target.name, ended.outcome) == ("a", "unreachable")
    good.writer.write(response(forwarded, 200))
    assert (await element.until(Finished)).target.name == "b"
    said = {
        "another name": "not valid for 'trunk.example'",
        "expired": "certificate has expired",
        "another authority": "issuer",
        "in clear": "no connection within 0.5 s",
    }[fault]
    assert said in element.streams.fault_of(first)
    pbx.transport.close()


async def test_a_pbx_is_known_by_the_name_in_its_certificate(
    tmp_path: Path, authority: trustme.CA, make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-04: names_of holds what was verified, for as long as the connection stands."""
    clients = trustme.CA()
    element = await make(files_of(tmp_path, authority, "callpoint.example", client_ca=clients))
    with_one = client_context(files_of(tmp_path, clients, "pbx.example.com", server_ca=authority))
    without = client_context(written(tmp_path, authority))
    for context, names in ((with_one, ("pbx.example.com",)), (without, ())):
        pbx = peers(StreamPeer(context))
        await pbx.connect(element.port("tls"), name="callpoint.example")
        pbx.writer.write(request("OPTIONS", source=pbx.hop, branch=f"z9hG4bK{len(names)}"))
        assert read_response(await pbx.next()).status == 200
        number = max(element.streams._connections)
        assert element.streams.names_of(number) == names
        await pbx.close()
        await element.holds(lambda number=number: number not in element.streams._connections)
        assert element.streams.names_of(number) == ()
    stranger = peers(
        StreamPeer(client_context(files_of(tmp_path, trustme.CA(), "pbx.example.com", server_ca=authority)))
    )
    await stranger.connect(element.port("tls"), name="callpoint.example")
    assert await stranger.next() == b""  # TLS 1.3: refused after the client's own side was done


async def test_our_certificate_is_shown_to_a_trunk_that_asks(
    tmp_path: Path, authority: trustme.CA, make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-04: mutual TLS the other way round."""
    element = await make(files_of(tmp_path, authority, "callpoint.example", server_ca=authority))
    context = serving(tmp_path, authority, "trunk.example", client_ca=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    carrier = peers(StreamPeer(context))
    await carrier.listen("trunk.example")
    element.transports.send_all([(request("OPTIONS"), carrier.hop)])
    assert read_request(await carrier.next()).method == "OPTIONS"
    shown = carrier.writer.get_extra_info("peercert")
    assert ("DNS", "callpoint.example") in shown["subjectAltName"]


async def test_a_renewed_certificate_is_served_without_a_restart(
    tmp_path: Path, authority: trustme.CA, make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-03: the next connection sees it; the one that stands goes on."""
    files = files_of(tmp_path, authority, "old.example")
    element = await make(files)
    old = peers(StreamPeer(client_context(written(tmp_path, authority))))
    await old.connect(element.port("tls"), name="old.example")
    renewed = files_of(tmp_path, authority, "new.example")
    for source, target in ((renewed.key, files.key), (renewed.certificate, files.certificate)):
        assert source is not None
        assert target is not None
        source.replace(target)
    element.streams.certificates.refresh()
    new = peers(StreamPeer(client_context(written(tmp_path, authority))))
    await new.connect(element.port("tls"), name="new.example")
    for pbx in (old, new):
        pbx.writer.write(request("OPTIONS", source=pbx.hop, branch=f"z9hG4bK{pbx.hop.port}"))
        assert read_response(await pbx.next()).status == 200


async def test_without_a_usable_certificate_tls_is_refused_and_udp_goes_on(make: Make) -> None:
    """E-03: nothing is made up."""
    element = await make(NOBODY)
    reader, writer = await asyncio.open_connection("127.0.0.1", element.port("tls"))
    async with asyncio.timeout(WAIT_S):
        with pytest.raises((ConnectionResetError, EOFError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()
    pbx = UdpPeer()
    await pbx.open()
    pbx.send(request("OPTIONS", source=pbx.hop), element.udp_port)
    assert read_response(await pbx.next()).status == 200
    pbx.transport.close()


async def test_a_response_to_a_tls_client_that_went_away_is_not_sent_to_somebody_else(
    tmp_path: Path, authority: trustme.CA, make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-18: §18.2.2 opens a new connection, and over TLS that one must prove the address."""
    element = await make(files_of(tmp_path, authority, "callpoint.example", server_ca=authority))
    impostor = peers(StreamPeer(serving(tmp_path, authority, "impostor.example")))
    await impostor.listen()
    element.transports.send_all([(b"SIP/2.0 200 OK\r\n\r\n", impostor.hop._replace(connection=4711))])
    await element.holds(lambda: element.failures)
    assert "IP address mismatch" in element.streams.fault_of(impostor.hop)


# --- strangers --------------------------------------------------------------------------------------------------------


async def opened(port: int, ip: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(ip, 0))


async def is_ended(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(WAIT_S):
        try:
            return await reader.read(1) == b""
        except ConnectionError:
            return True


async def test_who_never_finishes_the_handshake_is_cut_off(tmp_path: Path, authority: trustme.CA, make: Make) -> None:
    """E-04: half-open connections have a time limit."""
    files = files_of(tmp_path, authority, "callpoint.example")
    element = await make(files, limits=Limits(handshake_s=0.2), is_trusted=lambda _: False)
    reader, writer = await opened(element.port("tls"))
    writer.write(b"\x16\x03\x01")
    assert await is_ended(reader)
    writer.close()


async def test_strangers_that_speak_no_tls_leave_nothing_behind(
    tmp_path: Path, authority: trustme.CA, make: Make
) -> None:
    """E-04: why their connections ended is kept by nobody: each comes from a port of its own, for ever."""
    element = await make(files_of(tmp_path, authority, "callpoint.example"), is_trusted=lambda _: False)
    for _ in range(3):
        reader, writer = await opened(element.port("tls"))
        writer.write(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
        assert await is_ended(reader)
        writer.close()
    await element.holds(lambda: not element.streams._connections)
    assert not element.streams._faults


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_strangers_have_caps_and_never_lock_a_trusted_peer_out(
    tmp_path: Path, authority: trustme.CA, make: Make, transport: str
) -> None:
    """E-04: a cap for each address, one for all; the one silent longest goes first; a PBX always gets in."""
    element = await make(
        files_of(tmp_path, authority, "callpoint.example"),
        limits=Limits(connections=8, strangers=4, per_stranger=2),
        is_trusted=lambda hop: hop.ip == "127.0.0.9",
    )
    port, count = element.port(transport), element.streams._connections
    kept = [await opened(port, f"127.0.0.{last}") for last in (21, 21)]
    await element.holds(lambda: len(count) == 2)
    one_too_many = await opened(port, "127.0.0.21")
    assert await is_ended(one_too_many[0])
    kept += [await opened(port, f"127.0.0.{last}") for last in (22, 22)]
    await element.holds(lambda: len(count) == 4)
    newest = await opened(port, "127.0.0.23")
    assert await is_ended(kept[0][0])
    await element.holds(lambda: len(count) == 4)
    pbx = [await opened(port, "127.0.0.9") for _ in range(8)]
    await element.holds(lambda: len(count) == 8 and not element.streams._strangers)
    assert await is_ended(newest[0])
    assert element.streams.refused == 6
    for _, writer in [*kept, one_too_many, newest, *pbx]:
        writer.close()


async def test_a_pbx_that_closes_nothing_loses_its_idlest_connection(make: Make) -> None:
    """E-08: the next call of any PBX still finds room."""
    element = await make(limits=Limits(connections=3))
    kept = []
    for number in range(4):
        kept.append(await opened(element.tcp_port))
        kept[-1][1].write(b"\r\n\r\n")
        async with asyncio.timeout(WAIT_S):
            assert await kept[-1][0].readexactly(2) == b"\r\n"
        for known, connection in element.streams._connections.items():
            connection.used_at -= 1.0 if known <= number else 0.0
    assert await is_ended(kept[0][0])
    await element.holds(lambda: len(element.streams._connections) == 3)
    for _, writer in kept:
        writer.close()


async def test_a_stranger_who_speaks_outlives_one_who_is_silent(make: Make) -> None:
    """E-04: whoever sends messages moves to the end of the line."""
    element = await make(limits=Limits(connections=4, strangers=2), is_trusted=lambda _: False)
    speaking, silent = await opened(element.tcp_port), await opened(element.tcp_port)
    await element.holds(lambda: len(element.streams._connections) == 2)
    speaking[1].write(request("OPTIONS", source=Hop("tcp", *speaking[1].get_extra_info("sockname"))))
    async with asyncio.timeout(WAIT_S):
        await speaking[0].readuntil(b"\r\n\r\n")
    third = await opened(element.tcp_port)
    assert await is_ended(silent[0])
    speaking[1].write(b"\r\n\r\n")
    async with asyncio.timeout(WAIT_S):
        assert await speaking[0].readexactly(2) == b"\r\n"
    for _, writer in (speaking, silent, third):
        writer.close()


# --- ahead of calls ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_trunks_connection_stands_before_a_call_and_is_opened_again_when_it_closes(
    tmp_path: Path, authority: trustme.CA, make: Make, peers: Callable[[StreamPeer], StreamPeer], transport: str
) -> None:
    """E-08: a 911 waits for no handshake."""
    element = await make(files_of(tmp_path, authority, "callpoint.example", server_ca=authority))
    tls = serving(tmp_path, authority, "trunk.example") if transport == "tls" else None
    carrier = peers(StreamPeer(tls))
    await carrier.listen("trunk.example" if tls else "")
    now = element.loop.time()
    element.standing.follow([carrier.hop], [])
    element.standing.tick(now)
    await element.holds(lambda: element.streams.standing(carrier.hop))
    await element.holds(lambda: carrier.connections == 1)  # over TLS it knows of the connection a moment later
    element.standing.tick(now + 1)
    carrier.writer.close()
    await element.holds(lambda: element.streams.standing(carrier.hop) is None)
    assert element.failures[-1][:3] == carrier.hop[:3]
    element.standing.tick(now + 60)
    await element.holds(lambda: element.streams.standing(carrier.hop))
    await element.holds(lambda: carrier.connections == 2)
    assert await carrier.next() == b""
    element.transports.send_all([(request("OPTIONS"), carrier.hop)])
    assert read_request(await carrier.next()).method == "OPTIONS"
    assert carrier.connections == 2


async def test_a_trunk_that_refuses_is_tried_less_and_less_often(make: Make) -> None:
    """E-08: and never given up; a call still tries at once."""
    element = await make()
    nobody = Hop("tcp", "127.0.0.1", free_port())
    element.standing.follow([nobody], [])
    tried = []
    for tenth in range(700):
        before = len(element.failures)
        element.standing.tick(tenth / 10)
        if element.streams._pending:
            await element.holds(lambda before=before: len(element.failures) > before)
            tried.append(tenth / 10)
    pauses = [round(later - earlier, 1) for earlier, later in itertools.pairwise(tried)]
    assert pauses == [0.5, 1.0, 2.0, 5.0, 10.0, 30.0]
    assert element.streams.fault_of(nobody) == "Connection refused"


async def test_an_idle_connection_is_pinged_and_one_that_no_longer_answers_is_closed(
    make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-08: RFC 5626 §4.4.1: 30 s idle, 10 s for the pong."""
    element = await make()
    carrier = peers(StreamPeer())
    await carrier.listen()
    element.standing.follow([carrier.hop], [])
    now = element.loop.time()
    element.standing.tick(now)
    await element.holds(lambda: element.streams.standing(carrier.hop))
    connection = element.streams.standing(carrier.hop)
    assert connection is not None
    element.standing.tick(now + PING_AFTER_S - 1)
    assert not connection.pinged_at
    element.standing.tick(now + PING_AFTER_S + 1)
    await element.holds(lambda: connection.is_heard)
    assert carrier.pings == 1
    connection.used_at = now + PING_AFTER_S + 2  # the pong came then, by the clock of this test
    element.standing.tick(now + PING_AFTER_S + 3)
    carrier.is_ponging = False
    element.standing.tick(now + 2 * PING_AFTER_S + 4)
    await element.holds(lambda: carrier.pings == 2)
    element.standing.tick(now + 2 * PING_AFTER_S + 4 + PONG_WITHIN_S - 1)
    assert connection.is_usable
    element.standing.tick(now + 2 * PING_AFTER_S + 4 + PONG_WITHIN_S + 1)
    await element.holds(lambda: element.failures)
    assert element.streams.fault_of(carrier.hop) == "no answer to a keep-alive ping"


async def test_a_peer_that_never_knew_pongs_is_not_cut_off_for_it(
    make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-08: many carriers take a ping for nothing; TCP itself tells whether they are there."""
    element = await make()
    carrier = peers(StreamPeer())
    carrier.is_ponging = False
    await carrier.listen()
    element.standing.follow([carrier.hop], [])
    now = element.loop.time()
    element.standing.tick(now)
    await element.holds(lambda: element.streams.standing(carrier.hop))
    for seconds in range(0, 200, 5):
        element.standing.tick(now + seconds)
    await element.holds(lambda: carrier.pings >= 3)
    assert element.streams.standing(carrier.hop) is not None
    connection = element.streams.standing(carrier.hop)
    assert connection is not None
    assert connection.transport is not None
    sock = connection.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == PONG_WITHIN_S * 1000


@pytest.mark.parametrize("length", [b"", b"Content-Length: many\r\n"])
@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_911_that_does_not_say_its_length_hears_its_carrier_on_the_same_connection(
    make: Make, peers: Callable[[StreamPeer], StreamPeer], length: bytes, *, is_whole: bool
) -> None:
    """E-03: 100, 180 and 200. Where its body tells its end the ACK comes by it too; else it ends behind the 200."""
    element = await make()
    carrier, pbx = UdpPeer(), peers(StreamPeer())
    await carrier.open()
    element.targets = (Target("a", carrier.hop),)
    await pbx.connect(element.tcp_port)
    kind = "application/sdp" if is_whole else "text/plain"
    source = Hop("tcp", *pbx.writer.get_extra_info("sockname")[:2])
    data = request(source=source).replace(b"application/sdp", kind.encode())
    head, end, body = data.partition(b"Content-Length: ")
    pbx.writer.write(head + length + body.partition(b"\r\n")[2])
    invite = await carrier.next()
    assert read_response(await pbx.next()).status == 100
    carrier.send(response(invite, 180), element.udp_port)
    assert read_response(await pbx.next()).status == 180
    carrier.send(response(invite, 200), element.udp_port)
    answer = read_response(await pbx.next())
    assert (answer.status, bool(end)) == (200, True)
    if is_whole:
        route = answer.headers("Record-Route")
        inside = {"source": source, "to_tag": "carrier", "routes": route, "branch": "z9hG4bKack"}
        pbx.writer.write(request("ACK", "sip:psap@192.0.2.30:5060", **inside))  # type: ignore[arg-type]
        pbx.writer.write(request("OPTIONS", "sip:127.0.0.1", source=source, branch="z9hG4bKping"))
        assert read_response(await pbx.next()).status == 200
    else:
        assert await pbx.next() == b""


async def test_tcp_of_a_udp_trunk_counts_once_it_has_answered(
    make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-18: §18.1.1: an open port alone is no SIP element; quietly tried again where there is none."""
    element = await make()
    carrier = peers(StreamPeer())
    await carrier.listen()
    element.standing.follow([], [Hop("udp", *carrier.hop[1:3])])
    now = element.loop.time()
    element.standing.tick(now)
    await element.holds(lambda: element.streams.standing(carrier.hop))
    element.standing.tick(now)
    assert not element.streams.tcp_is_up(*carrier.hop[1:3])
    (asked,) = element.standing.take_unheard()
    assert element.standing.take_unheard() == []
    element.transports.send_all([(request("OPTIONS"), asked)])
    carrier.writer.write(response(await carrier.next(), 200))
    await element.holds(lambda: element.streams.tcp_is_up(*carrier.hop[1:3]))
    element.standing.follow([], [])
    assert element.streams.standing(carrier.hop) is not None
    assert PROBE_PAUSES_S[1] >= 60.0


async def test_a_request_too_large_for_a_datagram_goes_by_the_tcp_that_stands(
    make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-18: §18.1.1 through real sockets."""
    element = await make()
    carrier = peers(StreamPeer())
    await carrier.listen()
    udp = Hop("udp", *carrier.hop[1:3])
    element.targets = (Target("a", udp),)
    element.standing.follow([], [udp])
    element.standing.tick(element.loop.time())
    await element.holds(lambda: element.streams.standing(carrier.hop))
    carrier.writer.write(b"\r\n")
    await element.holds(lambda: element.streams.tcp_is_up(*carrier.hop[1:3]))
    pbx = UdpPeer()
    await pbx.open()
    pbx.send(request(source=pbx.hop, body=b"v=0\r\n" + b"a=x\r\n" * 400), element.udp_port)
    invite = read_request(await carrier.next())
    assert invite.headers("Via")[0].startswith("SIP/2.0/TCP ")
    pbx.transport.close()


# --- connections of others, used again --------------------------------------------------------------------------------


@pytest.mark.parametrize("parameter", [";alias", ";rport", ";x=1;ALIAS;y"])
async def test_requests_to_a_pbx_go_by_its_own_connection_where_its_via_allows_it(
    make: Make, peers: Callable[[StreamPeer], StreamPeer], parameter: str
) -> None:
    """E-18: RFC 5923: its Contact's port may not be open to us at all."""
    element = await make()
    pbx = peers(StreamPeer(ip="127.0.0.9"))
    await pbx.connect(element.tcp_port)
    via = f"Via: SIP/2.0/TCP 127.0.0.9:{pbx.hop.port}"
    options = request("OPTIONS", source=pbx.hop, via_more=parameter).replace(
        via.encode(), b"Via: SIP/2.0/TCP 127.0.0.9:5060"
    )
    pbx.writer.write(options)
    assert read_response(await pbx.next()).status == 200
    element.transports.send_all([(request("BYE"), Hop("tcp", "127.0.0.9", 5060))])
    assert read_request(await pbx.next()).method == "BYE"
    element.transports.send_all([(request("MESSAGE"), Hop("tcp", "127.0.0.9", pbx.hop.port))])
    assert read_request(await pbx.next()).method == "MESSAGE"


async def test_without_alias_a_pbx_is_connected_to_where_it_says(
    make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-18: RFC 5923 §5: nothing is assumed."""
    element = await make()
    pbx, server = peers(StreamPeer(ip="127.0.0.9")), peers(StreamPeer(ip="127.0.0.9"))
    await server.listen()
    await pbx.connect(element.tcp_port)
    own = f"127.0.0.9:{pbx.hop.port}".encode()
    pbx.writer.write(request("OPTIONS", source=pbx.hop).replace(own, f"127.0.0.9:{server.hop.port}".encode()))
    assert read_response(await pbx.next()).status == 200
    element.transports.send_all([(request("BYE"), server.hop)])
    assert read_request(await server.next()).method == "BYE"


async def test_a_tls_connection_serves_only_the_name_that_it_proved(
    tmp_path: Path, authority: trustme.CA, make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-04: RFC 5923 §9.3: whoever connects from an address does not become everybody there."""
    element = await make(files_of(tmp_path, authority, "c.example", client_ca=authority, server_ca=authority))
    pbx = peers(
        StreamPeer(client_context(files_of(tmp_path, authority, "pbx.example", server_ca=authority)), "127.0.0.9")
    )
    await pbx.connect(element.port("tls"), name="c.example")
    pbx.writer.write(request("OPTIONS", source=pbx.hop, via_more=";alias"))
    assert read_response(await pbx.next()).status == 200
    hop = Hop("tls", "127.0.0.9", pbx.hop.port, 0, "pbx.example")
    element.transports.send_all([(request("BYE"), hop)])
    assert read_request(await pbx.next()).method == "BYE"
    assert element.streams.standing(hop._replace(host="other.example")) is None


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_a_pbx_that_cannot_be_connected_to_is_reached_by_the_connection_it_opened(
    tmp_path: Path, authority: trustme.CA, make: Make, peers: Callable[[StreamPeer], StreamPeer], transport: str
) -> None:
    """E-09: behind a firewall, or with a certificate nobody can verify, it still hears that its call has ended."""
    element = await make(files_of(tmp_path, authority, "c.example"))
    context = client_context(written(tmp_path, authority)) if transport == "tls" else None
    pbx = peers(StreamPeer(context, "127.0.0.9"))
    await pbx.connect(element.port(transport), name="c.example" if context else None)
    pbx.writer.write(request("OPTIONS", source=pbx.hop))
    assert read_response(await pbx.next()).status == 200
    said = Hop(transport, "127.0.0.9", free_port("127.0.0.9"))
    for method in ("BYE", "MESSAGE"):
        element.transports.send_all([(request(method), said)])
        assert read_request(await pbx.next()).method == method
    assert element.failures == []


async def test_a_contact_that_is_an_address_leads_to_who_was_proven_there(
    tmp_path: Path, authority: trustme.CA, make: Make, peers: Callable[[StreamPeer], StreamPeer]
) -> None:
    """E-18: at another port too; a certificate for another name is still refused."""
    element = await make(files_of(tmp_path, authority, "c.example", server_ca=authority))
    carrier, media = (peers(StreamPeer(serving(tmp_path, authority, "trunk.example"))) for _ in range(2))
    impostor = peers(StreamPeer(serving(tmp_path, authority, "other.example")))
    await carrier.listen("trunk.example")
    await media.listen()
    await impostor.listen()
    element.transports.send_all([(request("OPTIONS"), carrier.hop)])
    await carrier.next()
    element.transports.send_all([(request("BYE"), carrier.hop._replace(host="")), (request("BYE"), media.hop)])
    assert read_request(await carrier.next()).method == "BYE"
    assert read_request(await media.next()).method == "BYE"
    assert carrier.connections == 1
    element.transports.send_all([(request("BYE"), impostor.hop)])
    await element.holds(lambda: element.failures)
    assert "not valid for 'trunk.example'" in element.streams.fault_of(impostor.hop)


# --- IPv6 -------------------------------------------------------------------------------------------------------------


async def test_both_families_are_served_and_each_peer_is_told_its_own(make: Make) -> None:
    """E-18: `[::]` alone stands for both; what comes by IPv6 leaves by IPv4 where the trunk is there."""
    element = await make(listening=Listening(udp=[("::", 0)], tcp=[("::", 0)]), advertised=())
    assert [host for host, _ in element.transports.bound["udp"]] == ["::", "0.0.0.0"]
    assert len({port for _, port in element.transports.bound["udp"]}) == 1
    assert element.transports.bound_text("udp") == f"[::]:{element.udp_port}, 0.0.0.0:{element.udp_port}"
    carrier = UdpPeer()
    await carrier.open()
    element.targets = (Target("a", carrier.hop),)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as pbx:
        pbx.bind(("::1", 0))
        pbx.setblocking(False)
        port = pbx.getsockname()[1]
        invite = request(source=Hop("udp", "[::1]", port), uri="sip:911@[::1]")
        await element.loop.sock_sendto(pbx, invite, ("::1", element.udp_port))
        forwarded = read_request(await carrier.next())
        routes = forwarded.headers("Record-Route")
        assert [f"127.0.0.1:{element.udp_port}" in routes[0], f"[::1]:{element.udp_port}" in routes[1]] == [True, True]
        carrier.send(response(forwarded.raw, 486), element.udp_port)
        async with asyncio.timeout(WAIT_S):
            assert read_response(await element.loop.sock_recv(pbx, 65536)).status == 100
            assert read_response(await element.loop.sock_recv(pbx, 65536)).status == 486
    carrier.transport.close()


async def test_an_icmp_refusal_over_ipv6_fails_over_at_once(make: Make) -> None:
    """E-08: port unreachable comes back by the IPv6 error queue as well."""
    element = await make(listening=Listening(udp=[("::1", 0)]))
    nobody = Hop("udp", "::1", free_port("::1"))
    element.transports.send_all([(request("OPTIONS"), nobody)])
    await element.holds(lambda: nobody in element.failures)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("192.0.2.1", 5060), ("192.0.2.1", 5060)),
        (("2001:db8::1", 5060, 0, 0), ("2001:db8::1", 5060)),
        (("fe80::1", 5060, 0, 3), ("fe80::1%3", 5060)),
        (("fe80::1%eth0", 5060, 0, 3), ("fe80::1%eth0", 5060)),
    ],
)
def test_a_link_local_peer_keeps_its_interface(address: tuple[object, ...], expected: tuple[str, int]) -> None:
    """E-18: RFC 4007: without it the answer would not know which way to leave."""
    assert socket_address(address) == expected


async def test_what_no_socket_of_ours_can_carry_fails_over_at_once(make: Make) -> None:
    """E-08: a trunk with an IPv6 address first, a node without IPv6."""
    element = await make()
    pbx, carrier = UdpPeer(), UdpPeer()
    await pbx.open()
    await carrier.open()
    element.targets = (Target("a", Hop("udp", "::1", 5060), first_response_s=30.0), Target("b", carrier.hop))
    pbx.send(request(source=pbx.hop), element.udp_port)
    assert read_request(await carrier.next()).method == "INVITE"
    assert (await element.until(AttemptEnded)).outcome == "unreachable"
    for peer in (pbx, carrier):
        peer.transport.close()


async def test_what_is_advertised_is_told_by_family(make: Make) -> None:
    """E-18: behind NAT: a port counts for UDP and TCP, TLS keeps its own."""
    advertised = [("203.0.113.5", 5070), ("2001:db8::5", None)]
    element = await make(advertised=advertised)
    told = element.transports.address_towards
    assert told(Hop("udp", "192.0.2.1", 5060)) == ("203.0.113.5", 5070)
    assert told(Hop("tls", "192.0.2.1", 5061)) == ("203.0.113.5", element.port("tls"))
    assert told(Hop("tcp", "2001:db8::9", 5060)) == ("2001:db8::5", element.tcp_port)
    named = await make(advertised=[("sbc.example", None)], listening=Listening(udp=[("127.0.0.1", 0)]))
    assert named.transports.address_towards(Hop("udp", "2001:db8::9", 1))[0] == "sbc.example"
    plain = await make(listening=Listening(udp=[("127.0.0.1", 0)]))
    assert plain.transports.address_towards(Hop("tls", "127.0.0.3", 5061)) == ("127.0.0.1", 5061)
    assert plain.transports.address_towards(Hop("udp", "::1", 5061)) == ("::1", plain.udp_port)
