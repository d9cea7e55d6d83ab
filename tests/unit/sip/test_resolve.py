"""Names resolved ahead of calls; the last good answer kept."""

import asyncio

import pytest

from engine.sip.forward import Hop
from engine.sip.resolve import REFRESH_S, RETRY_S, Name, Resolver, Service, look_up_addresses


class Zone:
    """What DNS says at the moment."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {"trunk.example": ["192.0.2.1", "2001:db8::1"]}
        self.services: dict[str, list[Service]] = {}
        self.asked: list[str] = []

    async def look_up(self, host: str) -> list[str]:
        self.asked.append(host)
        if host not in self.addresses:
            raise OSError(f"no address for {host}")
        return self.addresses[host]

    async def serve(self, name: str) -> list[Service]:
        self.asked.append(name)
        return self.services.get(name, [])


@pytest.fixture
def zone() -> Zone:
    return Zone()


@pytest.fixture
def resolver(zone: Zone) -> Resolver:
    return Resolver(addresses=zone.look_up, services=zone.serve)


async def test_an_address_is_its_own_answer(resolver: Resolver, zone: Zone) -> None:
    """E-18: no DNS for it, IPv6 with and without brackets."""
    resolver.watch("192.0.2.9", None, "udp")
    assert resolver.hops("192.0.2.9", None, "udp") == (Hop("udp", "192.0.2.9", 5060),)
    assert resolver.hops("[2001:db8::9]", 5070, "tcp") == (Hop("tcp", "2001:db8::9", 5070),)
    assert resolver.address("2001:db8::9") == "2001:db8::9"
    await resolver.refresh(0.0)
    assert zone.asked == []


async def test_a_name_answers_at_once_after_a_refresh(resolver: Resolver) -> None:
    """E-02: a call never waits for DNS."""
    assert resolver.hops("trunk.example", 5060, "udp") == ()
    resolver.watch("Trunk.Example", 5060, "udp")
    assert await resolver.refresh(0.0) == []
    expected = (Hop("udp", "192.0.2.1", 5060), Hop("udp", "2001:db8::1", 5060))
    assert resolver.hops("trunk.example", 5060, "udp") == expected
    assert resolver.address("TRUNK.example") == "192.0.2.1"
    assert resolver.address("other.example") is None


async def test_the_last_good_answer_is_kept_when_dns_is_away(resolver: Resolver, zone: Zone) -> None:
    """E-02: asked again after RETRY_S, then as ever."""
    resolver.watch("trunk.example", 5060, "udp")
    await resolver.refresh(0.0)
    zone.addresses.clear()
    assert await resolver.refresh(REFRESH_S) == [Name("trunk.example", 5060, "udp")]
    assert resolver.hops("trunk.example", 5060, "udp")
    zone.addresses["trunk.example"] = ["192.0.2.2"]
    assert await resolver.refresh(REFRESH_S + RETRY_S - 1) == []
    await resolver.refresh(REFRESH_S + RETRY_S)
    assert resolver.hops("trunk.example", 5060, "udp") == (Hop("udp", "192.0.2.2", 5060),)


async def test_without_a_port_srv_is_asked(resolver: Resolver, zone: Zone) -> None:
    """E-18: by priority, each with its own port; without SRV the host at 5060."""
    zone.services["_sip._tcp.trunk.example"] = [
        Service(20, 1, 5080, "backup.example"),
        Service(10, 1, 5070, "main.example"),
        Service(10, 0, 5070, "gone.example"),
    ]
    zone.addresses |= {"main.example": ["192.0.2.5"], "backup.example": ["192.0.2.6"]}
    resolver.watch("trunk.example", None, "tcp")
    resolver.watch("trunk.example", None, "udp")
    await resolver.refresh(0.0)
    assert resolver.hops("trunk.example", None, "tcp") == (
        Hop("tcp", "192.0.2.5", 5070),
        Hop("tcp", "192.0.2.6", 5080),
    )
    assert resolver.hops("trunk.example", None, "udp")[0] == Hop("udp", "192.0.2.1", 5060)


async def test_a_forgotten_name_is_asked_no_more(resolver: Resolver, zone: Zone) -> None:
    """E-18: also when it is forgotten while it is being looked up."""
    resolver.watch("trunk.example", 5060, "udp")
    looking = asyncio.create_task(resolver.refresh(0.0))
    await asyncio.sleep(0)
    resolver.forget("trunk.example", 5060, "udp")
    await looking
    assert resolver.hops("trunk.example", 5060, "udp") == ()
    await resolver.refresh(1000.0)
    assert zone.asked == ["trunk.example"]


async def test_run_looks_up_what_is_newly_watched(resolver: Resolver) -> None:
    """E-18: at once, without waiting for the next round."""
    running = asyncio.create_task(resolver.run())
    await asyncio.sleep(0)
    resolver.watch("trunk.example", 5060, "udp")
    async with asyncio.timeout(5.0):
        while not resolver.hops("trunk.example", 5060, "udp"):
            await asyncio.sleep(0)
    running.cancel()


async def test_the_systems_resolver_knows_localhost() -> None:
    """E-18: /etc/hosts counts."""
    assert set(await look_up_addresses("localhost")) <= {"127.0.0.1", "::1"}
