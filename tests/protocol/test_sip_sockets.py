"""The stack behind its shells, on real loopback sockets, over UDP and TCP."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from engine.sip.forward import Hop, Target
from engine.sip.message import Request
from engine.sip.stack import AttemptEnded, Finished, ProvisionalReceived
from engine.sip.stream import IDLE_S
from engine.sip.udp import UdpShell
from tests.ports import free_port
from tests.protocol.elements import WAIT_S, Element, TcpPeer, UdpPeer
from tests.siptest import read_request, read_response, request, response, route_set

pytestmark = pytest.mark.enable_socket


@pytest.fixture
async def element() -> AsyncIterator[Element]:
    made = Element()
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def udp_peer() -> AsyncIterator[Callable[[], Awaitable[UdpPeer]]]:
    peers: list[UdpPeer] = []

    async def make() -> UdpPeer:
        peer = UdpPeer()
        await peer.open()
        peers.append(peer)
        return peer

    yield make
    for peer in peers:
        peer.transport.close()


async def test_a_whole_call_passes_over_udp_sockets(element: Element, udp_peer) -> None:
    """E-18: INVITE to BYE on loopback, the SDP untouched."""
    pbx, carrier = await udp_peer(), await udp_peer()
    element.targets = (Target("a", carrier.hop),)
    invite = request(source=pbx.hop, uri=f"sip:911@127.0.0.1:{element.udp_port}")
    pbx.send(invite, element.udp_port)
    forwarded = await carrier.next()
    assert read_response(await pbx.next()).status == 100
    assert read_request(forwarded).body == read_request(invite).body
    contact = f"sip:psap@127.0.0.1:{carrier.hop.port}"
    carrier.send(response(forwarded, 180, contact=contact), element.udp_port)
    assert read_response(await pbx.next()).status == 180
    carrier.send(response(forwarded, 200, contact=contact), element.udp_port)
    answer = read_response(await pbx.next())
    assert answer.status == 200
    ack = request("ACK", contact, source=pbx.hop, branch="z9hG4bKa", to_tag="carrier", routes=route_set(answer))
    pbx.send(ack, element.udp_port)
    assert read_request(await carrier.next()).method == "ACK"
    bye = request("BYE", contact, source=pbx.hop, branch="z9hG4bKb", cseq=2, to_tag="carrier", routes=route_set(answer))
    pbx.send(bye, element.udp_port)
    at_carrier = await carrier.next()
    assert read_request(at_carrier).header("Route") is None
    carrier.send(response(at_carrier, 200), element.udp_port)
    assert read_response(await pbx.next()).cseq == (2, "BYE")


async def test_a_call_from_udp_to_tcp_keeps_both_sides_in_the_route(element: Element, udp_peer) -> None:
    """E-18: double Record-Route where transports differ; the ACK crosses to the connection that stands."""
    pbx, carrier = await udp_peer(), TcpPeer()
    await carrier.listen()
    element.targets = (Target("a", carrier.hop),)
    pbx.send(request(source=pbx.hop), element.udp_port)
    forwarded = await carrier.next()
    assert len(read_request(forwarded).headers("Record-Route")) == 2
    assert read_response(await pbx.next()).status == 100
    contact = f"sip:psap@127.0.0.1:{carrier.hop.port};transport=tcp"
    half = len(answer := response(forwarded, 200, contact=contact)) // 2
    carrier.writer.write(answer[:half])
    await carrier.writer.drain()
    carrier.writer.write(answer[half:])
    final = read_response(await pbx.next())
    assert final.status == 200
    ack = request("ACK", contact, source=pbx.hop, branch="z9hG4bKa", to_tag="carrier", routes=route_set(final))
    pbx.send(ack, element.udp_port)
    assert read_request(await carrier.next()).method == "ACK"
    assert carrier.connections == 1
    await carrier.close()


async def test_a_call_from_tcp_is_answered_on_its_own_connection(element: Element, udp_peer) -> None:
    """E-18: split and coalesced segments; the response goes back where the request came from."""
    pbx, carrier = TcpPeer(), await udp_peer()
    await pbx.connect(element.tcp_port)
    element.targets = (Target("a", carrier.hop),)
    options = request("OPTIONS", source=pbx.hop, branch="z9hG4bKo", call_id="other")
    stream = options + request(source=pbx.hop)
    pbx.writer.write(stream[:100])
    await pbx.writer.drain()
    pbx.writer.write(stream[100:])
    answers = {read_response(await pbx.next()).cseq[1] for _ in range(2)}
    assert answers == {"OPTIONS", "INVITE"}
    carrier.send(response(await carrier.next(), 486), element.udp_port)
    assert read_response(await pbx.next()).status == 486
    assert read_request(await carrier.next()).method == "ACK"
    await pbx.close()


async def test_a_refused_tcp_connection_fails_over_at_once(element: Element, udp_peer) -> None:
    """E-08: connection refused on the first trunk, the second has the call within the connect limit."""
    nobody = Hop("tcp", "127.0.0.1", free_port())
    pbx, carrier = await udp_peer(), await udp_peer()
    element.targets = (Target("a", nobody), Target("b", carrier.hop))
    pbx.send(request(source=pbx.hop), element.udp_port)
    assert read_request(await carrier.next()).method == "INVITE"
    ended = await element.until(AttemptEnded)
    assert (ended.target.name, ended.outcome) == ("a", "unreachable")


async def test_an_icmp_refusal_on_udp_fails_over_at_once(element: Element, udp_peer) -> None:
    """E-08: port unreachable comes back with the address it is about."""
    nobody = Hop("udp", "127.0.0.1", free_port())
    pbx, carrier = await udp_peer(), await udp_peer()
    element.targets = (Target("a", nobody, first_response_s=30.0), Target("b", carrier.hop))
    pbx.send(request(source=pbx.hop), element.udp_port)
    assert read_request(await carrier.next()).method == "INVITE"
    ended = await element.until(AttemptEnded)
    assert (ended.target.name, ended.outcome) == ("a", "unreachable")


async def test_a_silent_trunk_is_left_after_its_own_deadline(element: Element, udp_peer) -> None:
    """E-08: nothing heard for first_response_s, by the shell's clock."""
    pbx, silent, carrier = await udp_peer(), await udp_peer(), await udp_peer()
    element.targets = (Target("a", silent.hop, first_response_s=0.2), Target("b", carrier.hop))
    pbx.send(request(source=pbx.hop), element.udp_port)
    carrier.send(response(await carrier.next(), 200), element.udp_port)
    finished = await element.until(Finished)
    assert finished.target.name == "b"


async def test_after_a_stall_what_waits_in_the_socket_is_read_before_a_deadline_counts(
    element: Element, udp_peer
) -> None:
    """E-08: a busy machine must not make us leave a trunk that answered in time."""
    pbx, carrier, other = await udp_peer(), await udp_peer(), await udp_peer()
    element.targets = (Target("a", carrier.hop, first_response_s=0.3), Target("b", other.hop))
    pbx.send(request(source=pbx.hop), element.udp_port)
    carrier.send(response(await carrier.next(), 180), element.udp_port)
    element.loop.remove_reader(element.transports._udp[0]._socket.fileno())
    async with asyncio.timeout(WAIT_S):
        while not any(isinstance(event, ProvisionalReceived) for event in element.events):
            element.changed.clear()
            await element.changed.wait()
    assert not any(isinstance(event, AttemptEnded) for event in element.events)


async def test_garbage_on_a_stream_is_refused_and_the_connection_closed(element: Element) -> None:
    """E-18: two Content-Length, a body without an end of its own: 400, then nothing more is believed of that stream."""
    pbx = TcpPeer()
    await pbx.connect(element.tcp_port)
    unclear = ["Content-Length: 5", "Content-Type: text/plain"]
    pbx.writer.write(request("OPTIONS", "sip:192.0.2.10", source=pbx.hop, added=unclear))
    assert read_response(await pbx.next()).status == 400
    assert await pbx.next() == b""
    await pbx.close()


async def test_a_keep_alive_ping_is_answered_with_a_pong(element: Element) -> None:
    """E-18: RFC 5626 §3.5.1."""
    reader, writer = await asyncio.open_connection("127.0.0.1", element.tcp_port)
    writer.write(b"\r\n\r\n")
    async with asyncio.timeout(WAIT_S):
        assert await reader.readexactly(2) == b"\r\n"
    writer.close()


async def test_a_flood_is_drained_in_few_wake_ups(element: Element, udp_peer) -> None:
    """E-18: two hundred requests at once are all answered; what is no SIP at all is dropped in silence."""
    pbx = await udp_peer()
    answers: set[int] = set()
    for number in range(200):
        pbx.send(b"\x00\x01garbage" + bytes([number]), element.udp_port)
        pbx.send(request("OPTIONS", source=pbx.hop, branch=f"z9hG4bKo{number}", cseq=number), element.udp_port)
        if number % 10 == 9:
            answers |= {read_response(await pbx.next()).cseq[0] for _ in range(10)}  # small kernel buffers hold ten
    assert answers == set(range(200))


async def test_what_udp_cannot_carry_is_reported(element: Element) -> None:
    """E-08: too large for a datagram: that hop will not get it, the next one may."""
    failed: list[Hop] = []
    told = asyncio.Event()

    def note(hop: Hop) -> None:
        failed.append(hop)
        told.set()

    shell = UdpShell(receive=lambda *_: None, drained=lambda: None, failed=note)
    shell.open("127.0.0.1", 0)
    assert shell.receive_buffer_bytes > 0
    shell.send(b"x" * 70_000, Hop("udp", "127.0.0.1", element.udp_port))
    async with asyncio.timeout(WAIT_S):
        await told.wait()
    assert failed == [Hop("udp", "127.0.0.1", element.udp_port)]
    shell.close()
    shell.close()
    shell.send(b"x", failed[0])


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_port_that_cannot_be_fails_over_at_once(element: Element, udp_peer, transport: str) -> None:
    """E-08: five digits are a port to the grammar; neither the process nor the call must stumble over 99999."""
    pbx, carrier = await udp_peer(), await udp_peer()
    element.targets = (Target("a", Hop(transport, "127.0.0.1", 99_999), first_response_s=30.0, connect_s=30.0),
                       Target("b", carrier.hop))  # fmt: skip
    pbx.send(request(source=pbx.hop), element.udp_port)
    assert read_request(await carrier.next()).method == "INVITE"
    ended = await element.until(AttemptEnded)
    assert (ended.target.name, ended.outcome) == ("a", "unreachable")
    assert not element.streams._pending


async def test_an_answer_to_a_port_that_cannot_be_keeps_nothing_else_from_being_sent() -> None:
    """E-04: anybody may write such a port into a Via; what leaves in the same turn is another's 911."""
    shell = UdpShell(receive=lambda *_: None, drained=lambda: None, failed=lambda _: None)
    shell.open("127.0.0.1", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(WAIT_S)
        for hop in (Hop("udp", "127.0.0.1", 99_999), Hop("udp", "127.0.0.1", 0), Hop("udp", *peer.getsockname())):
            shell.send(b"SIP/2.0 400 Bad Request", hop)
        assert peer.recv(100) == b"SIP/2.0 400 Bad Request"
    shell.close()


async def test_an_address_in_use_elsewhere_is_an_error_at_once() -> None:
    """E-18: start-up says so; IPv6 binds too."""
    shell = UdpShell(receive=lambda *_: None, drained=lambda: None, failed=lambda _: None)
    with pytest.raises(OSError, match="assign"):
        shell.open("192.0.2.1", 0)
    host, port = shell.open("::1", 0)
    assert (host, port > 0) == ("::1", True)
    shell.close()


async def test_a_response_finds_a_new_connection_when_its_own_has_gone(element: Element, udp_peer) -> None:
    """E-18: §18.2.2: to the sent-by port."""
    server, carrier = TcpPeer(), await udp_peer()
    await server.listen()
    element.targets = (Target("a", carrier.hop),)
    reader, writer = await asyncio.open_connection("127.0.0.1", element.tcp_port)
    writer.write(request(source=server.hop))
    forwarded = await carrier.next()
    async with asyncio.timeout(WAIT_S):
        assert (await reader.read(65536)).startswith(b"SIP/2.0 100")
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(WAIT_S):
        while element.streams._connections:
            await asyncio.sleep(0)
    carrier.send(response(forwarded, 486), element.udp_port)
    assert read_response(await server.next()).status == 486
    await server.close()


async def test_a_connection_nobody_uses_is_closed(element: Element) -> None:
    """E-18: by the sweep, after IDLE_S."""
    reader, writer = await asyncio.open_connection("127.0.0.1", element.tcp_port)
    writer.write(b"\r\n\r\n")
    async with asyncio.timeout(WAIT_S):
        await reader.readexactly(2)
    (connection,) = element.streams._connections.values()
    element.streams._close_idle()
    assert not connection.transport.is_closing()
    connection.used_at -= IDLE_S
    element.streams._close_idle()
    async with asyncio.timeout(WAIT_S):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    ("everywhere", "peer", "asked"),
    [
        ("0.0.0.0", "127.0.0.2", ("127.0.0.9", "127.0.0.10")),
        ("::", "::1", ("::1", "::1")),
    ],
)
async def test_an_answer_leaves_from_the_address_that_was_asked(
    everywhere: str, peer: str, asked: tuple[str, str]
) -> None:
    """E-18: RFC 3581 §4: a PBX or firewall hears nobody but whom it sent to, a shared address among ours for one."""
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[Hop] = asyncio.Queue()
    shell = UdpShell(receive=lambda _data, hop: came.put_nowait(hop), drained=lambda: None, failed=lambda _hop: None)
    _, port = shell.open(everywhere, 0)
    with socket.socket(socket.AF_INET6 if ":" in peer else socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind((peer, 0))
        for ours in asked:
            client.connect((ours, port))  # from now on nobody else is heard
            await loop.sock_sendall(client, b"ping")
            async with asyncio.timeout(WAIT_S):
                hop = await came.get()
                assert shell.asked_at(hop) == ours
                shell.send(b"pong", hop)
                assert await loop.sock_recv(client, 100) == b"pong"
    assert shell.asked_at(Hop("udp", peer, 1)) == ""
    shell.close()


async def test_a_peer_is_answered_when_the_address_it_asked_has_moved_away() -> None:
    """E-18: from whichever address there is: an answer from another is better than none."""
    loop = asyncio.get_running_loop()
    shell = UdpShell(receive=lambda _data, _hop: None, drained=lambda: None, failed=lambda _hop: None)
    shell.open("0.0.0.0", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind(("127.0.0.2", 0))
        address = client.getsockname()
        shell._note_asked(address, struct.pack("=i4s4s", 1, socket.inet_aton("192.0.2.77"), b""))
        shell.send(b"pong", Hop("udp", *address))
        async with asyncio.timeout(WAIT_S):
            assert await loop.sock_recv(client, 100) == b"pong"
        assert shell.asked_at(Hop("udp", *address)) == ""
    shell.close()


def test_a_request_is_a_request() -> None:
    """E-18: the helper reads what it writes."""
    assert isinstance(read_request(request()), Request)
