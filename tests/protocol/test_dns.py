"""RFC 3263 against a real DNS server on loopback."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.sip.forward import Hop
from engine.sip.names import DnsAway, Found, Names, Pointer, Service
from engine.sip.resolve import RETRY_S, Resolver
from tests.protocol.dns_server import DnsServer

pytestmark = pytest.mark.enable_socket
ZONE = (
    'carrier.example. 40 IN NAPTR 10 10 "s" "SIPS+D2T" "" _sips._tcp.carrier.example.',
    'carrier.example. 40 IN NAPTR 20 10 "S" "SIP+D2U" "" _sip._udp.carrier.example.',
    'carrier.example. 40 IN NAPTR 5 10 "u" "E2U+sip" "!^.*$!sip:info@carrier.example!" .',
    "_sips._tcp.carrier.example. 90 IN SRV 1 0 5061 sbc1.carrier.example.",
    "_sip._udp.carrier.example. 90 IN SRV 1 10 5080 sbc1.carrier.example.",
    "_sip._udp.carrier.example. 90 IN SRV 2 10 5080 SBC2.carrier.example.",
    "_sip._tcp.carrier.example. 90 IN SRV 0 0 0 .",
    "sbc1.carrier.example. 300 IN A 127.0.0.3",
    "sbc1.carrier.example. 20 IN AAAA 2001:db8::3",
    "sbc2.carrier.example. 300 IN A 127.0.0.4",
)


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    made = DnsServer(*ZONE)
    made.port = await made.open()  # type: ignore[attr-defined]
    yield made
    made.close()


@pytest.fixture
def names(server: DnsServer) -> Names:
    return Names(("127.0.0.1",), server.port, hosts_file=None)  # type: ignore[attr-defined]


async def test_records_are_read_with_their_ttl(names: Names) -> None:
    """E-18: A, AAAA, SRV, NAPTR; a target of "." means that there is no such service."""
    assert await names.addresses("sbc1.carrier.example") == Found(("127.0.0.3", "2001:db8::3"), 20.0)
    assert await names.addresses("sbc2.carrier.example") == Found(("127.0.0.4",), 300.0)
    services = await names.services("_sip._udp.carrier.example")
    assert set(services.records) == {
        Service(1, 10, 5080, "sbc1.carrier.example"),
        Service(2, 10, 5080, "sbc2.carrier.example"),
    }
    assert (await names.services("_sip._tcp.carrier.example")).records == ()
    pointers = await names.pointers("carrier.example")
    assert set(pointers.records) == {
        Pointer(10, 10, "SIPS+D2T", "_sips._tcp.carrier.example"),
        Pointer(20, 10, "SIP+D2U", "_sip._udp.carrier.example"),
    }
    assert pointers.ttl_s == 40.0


async def test_what_does_not_exist_is_told_from_nobody_answering(names: Names, server: DnsServer) -> None:
    """E-02: only the first says anything about the name."""
    assert (await names.services("_sip._udp.nowhere.example")).records == ()
    assert (await names.addresses("nowhere.example")).records == ()
    server.fails = True
    with pytest.raises(DnsAway):
        await names.services("_sip._udp.carrier.example")
    with pytest.raises(DnsAway):
        await names.addresses("sbc1.carrier.example")


async def test_one_family_is_enough(names: Names, server: DnsServer) -> None:
    """E-02: an AAAA question that fails costs no IPv4 address; it is asked again soon."""
    server.say("odd.example. 300 IN A 127.0.0.9")
    taken = server.datagram_received

    def deaf(data: bytes, addr: tuple[str, int]) -> None:
        server.fails = b"\x00\x1c\x00\x01" in data  # AAAA, IN
        taken(data, addr)

    server.datagram_received = deaf  # type: ignore[method-assign]
    assert await names.addresses("odd.example") == Found(("127.0.0.9",), 0.0)


async def test_a_default_route_that_names_no_transport_follows_naptr_and_srv(names: Names, server: DnsServer) -> None:
    """E-18: TLS first, with the name asked for to be proven, then UDP by SRV priority; all of them known ahead."""
    resolver = Resolver(names)
    resolver.watch("carrier.example", None, "")
    resolver.watch("carrier.example", None, "udp")
    await resolver.refresh(0.0)
    udp = (
        Hop("udp", "127.0.0.3", 5080),
        Hop("udp", "2001:db8::3", 5080),
        Hop("udp", "127.0.0.4", 5080),
    )
    assert resolver.hops("carrier.example", None, "") == (
        Hop("tls", "127.0.0.3", 5061, 0, "carrier.example"),
        Hop("tls", "2001:db8::3", 5061, 0, "carrier.example"),
        *udp,
    )
    assert resolver.hops("carrier.example", None, "udp") == udp
    server.fails = True
    assert len(await resolver.refresh(50.0)) == 2  # the TTL of the AAAA was the shortest
    assert resolver.hops("carrier.example", None, "udp") == udp
    server.fails = False
    server.say("sbc1.carrier.example. 300 IN A 127.0.0.7")
    await resolver.refresh(50.0 + RETRY_S)
    assert resolver.hops("carrier.example", None, "udp")[0] == Hop("udp", "127.0.0.7", 5080)


async def test_the_hosts_file_comes_before_dns_and_is_read_again(tmp_path: Path, server: DnsServer) -> None:
    """E-18: what an operator wrote there wins, as it does for every other program."""
    file = tmp_path / "hosts"
    file.write_text("127.0.0.99 sbc1.carrier.example\n")
    names = Names(("127.0.0.1",), server.port, hosts_file=file)  # type: ignore[attr-defined]
    assert (await names.addresses("SBC1.carrier.example")).records == ("127.0.0.99",)
    assert server.asked == []
    file.write_text("# nothing any more\n")
    assert (await names.addresses("sbc1.carrier.example")).records[0] == "127.0.0.3"
    file.unlink()
    assert (await names.addresses("sbc1.carrier.example")).records[0] == "127.0.0.3"


async def test_the_systems_resolver_is_asked_last() -> None:
    """E-18: localhost is in no DNS zone, and a machine may know names in other ways."""
    found = await Names().by_system("localhost")
    assert found
    assert set(found) <= {"127.0.0.1", "::1"}
    assert await Names().by_system("no such host") == ()
