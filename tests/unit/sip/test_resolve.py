"""Names resolved ahead of calls; the last good answer kept."""

import asyncio
import itertools
from collections import Counter

import pytest

from engine.sip.forward import Hop
from engine.sip.names import DnsAway, Found, Pointer, Service, read_hosts
from engine.sip.resolve import (
    LONGEST_S,
    MAX_MET,
    MET_FOR_S,
    RETRY_S,
    SHORTEST_S,
    Name,
    Resolver,
    by_weight,
)


class Zone:
    """What DNS says at the moment; `is_away`: nobody answers."""

    def __init__(self) -> None:
        self.a: dict[str, tuple[str, ...]] = {"trunk.example": ("192.0.2.1", "2001:db8::1")}
        self.srv: dict[str, tuple[Service, ...]] = {}
        self.naptr: dict[str, tuple[Pointer, ...]] = {}
        self.ttl_s = 60.0
        self.asked: list[str] = []
        self.is_away = False
        self.silent: set[str] = set()
        self.lost: set[str] = set()  # names of which no answer arrives

    async def _answer(self, name: str) -> None:
        self.asked.append(name)
        if name in self.silent:
            await asyncio.Event().wait()
        if self.is_away or name in self.lost:
            raise DnsAway(name)

    async def addresses(self, host: str) -> Found[str]:
        await self._answer(host)
        return Found(self.a.get(host, ()), self.ttl_s)

    async def services(self, name: str) -> Found[Service]:
        await self._answer(name)
        return Found(self.srv.get(name, ()), self.ttl_s)

    async def pointers(self, name: str) -> Found[Pointer]:
        await self._answer(f"naptr {name}")
        return Found(self.naptr.get(name, ()), self.ttl_s)


@pytest.fixture
def zone() -> Zone:
    return Zone()


@pytest.fixture
def resolver(zone: Zone) -> Resolver:
    return Resolver(zone)


async def test_an_address_is_its_own_answer(resolver: Resolver, zone: Zone) -> None:
    """E-18: no DNS for it, IPv6 with and without brackets; a sips URI means TLS at 5061."""
    resolver.watch("192.0.2.9", None, "udp")
    assert resolver.hops("192.0.2.9", None, "udp") == (Hop("udp", "192.0.2.9", 5060),)
    assert resolver.hops("192.0.2.9", None, "") == (Hop("udp", "192.0.2.9", 5060),)
    assert resolver.hops("[2001:db8::9]", 5070, "tcp") == (Hop("tcp", "2001:db8::9", 5070),)
    assert resolver.hops("192.0.2.9", None, "sips") == (Hop("tls", "192.0.2.9", 5061, 0, "192.0.2.9"),)
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


@pytest.mark.parametrize("is_away", [True, False], ids=["dns is away", "the name is gone"])
async def test_the_last_good_answer_is_kept(resolver: Resolver, zone: Zone, *, is_away: bool) -> None:
    """E-02: asked again after RETRY_S, then as ever."""
    resolver.watch("trunk.example", 5060, "udp")
    await resolver.refresh(0.0)
    before = zone.a.copy()
    zone.a.clear()
    zone.is_away = is_away
    assert await resolver.refresh(60.0) == [Name("trunk.example", 5060, "udp")]
    assert resolver.hops("trunk.example", 5060, "udp")
    zone.a = before | {"trunk.example": ("192.0.2.2",)}
    zone.is_away = False
    assert await resolver.refresh(60.0 + RETRY_S - 1) == []
    await resolver.refresh(60.0 + RETRY_S)
    assert resolver.hops("trunk.example", 5060, "udp") == (Hop("udp", "192.0.2.2", 5060),)


@pytest.mark.parametrize(("ttl_s", "kept_s"), [(0.0, SHORTEST_S), (100.0, 100.0), (86_400.0, LONGEST_S)])
async def test_a_ttl_counts_within_bounds(resolver: Resolver, zone: Zone, ttl_s: float, kept_s: float) -> None:
    """E-18: neither a flood of questions nor a day of staleness."""
    zone.ttl_s = ttl_s
    resolver.watch("trunk.example", 5060, "udp")
    await resolver.refresh(0.0)
    await resolver.refresh(kept_s - 0.1)
    assert len(zone.asked) == 1
    await resolver.refresh(kept_s)
    assert len(zone.asked) == 2


async def test_without_a_port_srv_is_asked(resolver: Resolver, zone: Zone) -> None:
    """E-18: by priority, each with its own port; without SRV the host at the transport's own port."""
    zone.srv["_sip._tcp.trunk.example"] = (
        Service(20, 1, 5080, "backup.example"),
        Service(10, 1, 5070, "main.example"),
        Service(10, 0, 5070, "gone.example"),
    )
    zone.a |= {"main.example": ("192.0.2.5",), "backup.example": ("192.0.2.6",)}
    for transport, port in (("tcp", 0), ("udp", None), ("tls", None)):
        resolver.watch("trunk.example", port, transport)
    await resolver.refresh(0.0)
    assert resolver.hops("trunk.example", None, "tcp") == (
        Hop("tcp", "192.0.2.5", 5070),
        Hop("tcp", "192.0.2.6", 5080),
    )
    assert resolver.hops("trunk.example", None, "udp")[0] == Hop("udp", "192.0.2.1", 5060)
    assert resolver.hops("trunk.example", None, "tls")[0] == Hop("tls", "192.0.2.1", 5061, 0, "trunk.example")


async def test_over_tls_the_name_that_was_asked_for_must_be_proven(resolver: Resolver, zone: Zone) -> None:
    """E-04: not the server's that unsigned DNS names (RFC 5922 §4)."""
    zone.srv["_sips._tcp.trunk.example"] = (Service(1, 1, 5062, "sbc-17.hoster.example"),)
    zone.a["sbc-17.hoster.example"] = ("192.0.2.17",)
    resolver.watch("trunk.example", None, "tls")
    await resolver.refresh(0.0)
    assert resolver.hops("trunk.example", None, "tls") == (Hop("tls", "192.0.2.17", 5062, 0, "trunk.example"),)


async def test_naptr_says_the_transport_where_the_uri_leaves_it_open(resolver: Resolver, zone: Zone) -> None:
    """E-18: RFC 3263 §4.1: order, then preference; what we do not speak is passed over; all the rest follows."""
    zone.naptr["trunk.example"] = (
        Pointer(20, 10, "SIP+D2U", "_sip._udp.trunk.example"),
        Pointer(10, 20, "SIP+D2T", "_sip._tcp.trunk.example"),
        Pointer(10, 10, "SIPS+D2T", "_sips._tcp.trunk.example"),
        Pointer(5, 10, "SIP+D2S", "_sip._sctp.trunk.example"),
    )
    for place, port in (("_sips._tcp.", 5061), ("_sip._tcp.", 5070), ("_sip._udp.", 5080)):
        zone.srv[f"{place}trunk.example"] = (Service(1, 1, port, "one.example"),)
    zone.a["one.example"] = ("192.0.2.5",)
    resolver.watch("trunk.example", None, "")
    resolver.watch("trunk.example", None, "sips")
    resolver.watch("trunk.example", None, "udp")
    await resolver.refresh(0.0)
    secure = Hop("tls", "192.0.2.5", 5061, 0, "trunk.example")
    plain = (Hop("tcp", "192.0.2.5", 5070), Hop("udp", "192.0.2.5", 5080))
    assert resolver.hops("trunk.example", None, "") == (secure, *plain)
    assert resolver.hops("trunk.example", None, "sips") == (secure,)
    assert resolver.hops("trunk.example", None, "udp") == plain[1:]


async def test_without_naptr_the_usual_services_are_asked(resolver: Resolver, zone: Zone) -> None:
    """E-18: RFC 3263 §4.1: SRV for what we speak; none at all: UDP for sip, TLS for sips."""
    zone.srv["_sip._tcp.trunk.example"] = (Service(1, 1, 5070, "trunk.example"),)
    for name in (("trunk.example", None, ""), ("trunk.example", None, "sips"), ("trunk.example", 5090, "")):
        resolver.watch(*name)
    await resolver.refresh(0.0)
    assert resolver.hops("trunk.example", None, "")[0] == Hop("tcp", "192.0.2.1", 5070)
    assert resolver.hops("trunk.example", None, "sips")[0] == Hop("tls", "192.0.2.1", 5061, 0, "trunk.example")
    assert resolver.hops("trunk.example", 5090, "")[0] == Hop("udp", "192.0.2.1", 5090)
    assert "naptr trunk.example" in zone.asked


async def test_a_look_up_that_breaks_ends_no_other(resolver: Resolver, zone: Zone) -> None:
    """E-02: one name's odd records, or no thread to be had: that name is asked for again, all others as ever."""

    async def odd(name: str) -> Found[Service]:
        if name.endswith("odd.example"):
            raise RuntimeError("can't start new thread")
        return Found()

    zone.services = odd  # type: ignore[method-assign]
    for host in ("odd.example", "trunk.example"):
        resolver.watch(host, None, "udp")
    running = asyncio.create_task(resolver.run())
    async with asyncio.timeout(30):
        while not resolver.hops("trunk.example", None, "udp"):
            await asyncio.sleep(0)
        zone.a["second.example"] = ("192.0.2.9",)
        resolver.watch("second.example", None, "udp")
        while not resolver.hops("second.example", None, "udp"):
            await asyncio.sleep(0)
    running.cancel()
    assert resolver.hops("odd.example", None, "udp") == ()


async def test_when_only_srv_is_away_a_first_answer_is_still_found(resolver: Resolver, zone: Zone) -> None:
    """E-02: the host itself is a better guess than nothing, for a start."""

    async def nobody(_: str) -> Found[Service]:
        raise DnsAway("timeout")

    zone.services = nobody  # type: ignore[method-assign]
    resolver.watch("trunk.example", None, "udp")
    await resolver.refresh(0.0)
    assert resolver.hops("trunk.example", None, "udp")[0] == Hop("udp", "192.0.2.1", 5060)


def test_weights_share_the_load() -> None:
    """E-18: RFC 2782: by running sums; a weight of 0 nearly never, another priority never before."""
    services = (Service(1, 60, 1, "a"), Service(1, 20, 1, "b"), Service(1, 20, 1, "c"), Service(2, 9, 1, "later"))
    numbers = itertools.cycle(range(101))
    firsts = Counter(by_weight(services, lambda most: next(numbers) % (most + 1))[0].host for _ in range(101 * 60))
    assert set(firsts) == {"a", "b", "c"}
    assert firsts["a"] > 2 * max(firsts["b"], firsts["c"]) > 2 * 0.9 * min(firsts["b"], firsts["c"])
    for drawn in (0, 1, 59, 60, 61, 100):
        ordered = by_weight(services, lambda most, drawn=drawn: min(drawn, most))  # type: ignore[misc]
        assert {each.host for each in ordered} == {"a", "b", "c", "later"}
        assert ordered[-1].host == "later"
    assert [each.host for each in by_weight((Service(1, 0, 1, "z"), Service(1, 5, 1, "y")), lambda _: 0)] == ["z", "y"]
    assert [each.host for each in by_weight((Service(1, 0, 1, "z"), Service(1, 5, 1, "y")), lambda n: n)] == ["y", "z"]


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


async def test_names_met_in_dialogs_are_known_later_and_are_bounded(resolver: Resolver, zone: Zone) -> None:
    """E-18: a BYE to a host name finds its way; a flood of names pushes out only such names."""
    resolver.watch("trunk.example", 5060, "udp")
    zone.a["pbx.example"] = ("192.0.2.20",)
    resolver.meet("PBX.example", 5070, "tcp", 0.0)
    resolver.meet("192.0.2.9", 5070, "tcp", 0.0)
    resolver.meet("no host/at all", None, "", 0.0)
    await resolver.refresh(0.0)
    assert resolver.hops("pbx.example", 5070, "tcp") == (Hop("tcp", "192.0.2.20", 5070),)
    assert sorted(zone.asked) == ["pbx.example", "trunk.example"]
    for number in range(MAX_MET):
        resolver.meet(f"host-{number}.example", 5060, "udp", 1.0 + number)
    assert resolver.hops("pbx.example", 5070, "tcp") == ()
    assert resolver.hops("trunk.example", 5060, "udp")
    resolver.meet("host-0.example", 5060, "udp", MET_FOR_S)
    zone.asked.clear()
    await resolver.refresh(MET_FOR_S + 100.0)
    asked = set(zone.asked)
    assert "host-0.example" in asked
    assert "host-5.example" not in asked


async def test_run_looks_up_what_is_newly_watched_though_another_name_is_silent(resolver: Resolver, zone: Zone) -> None:
    """E-02: at once, without waiting for the next round or for a server that never answers."""
    zone.silent.add("dead.example")
    resolver.watch("dead.example", 5060, "udp")
    running = asyncio.create_task(resolver.run())
    for _ in range(5):
        await asyncio.sleep(0)
    resolver.watch("trunk.example", 5060, "udp")
    async with asyncio.timeout(30):
        while not resolver.hops("trunk.example", 5060, "udp"):
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_the_hosts_file_is_read_as_hosts_5_says() -> None:
    """E-18: comments, several names, both families, IPv4 first."""
    text = "# none\n127.0.0.1 localhost\n::1 Trunk.Example six # 1.2.3.4 no\n192.0.2.1\ttrunk.example\nnonsense here\n"
    assert read_hosts(text) == {
        "localhost": ("127.0.0.1",),
        "trunk.example": ("192.0.2.1", "::1"),
        "six": ("::1",),
    }


async def test_after_a_restart_without_dns_a_name_leads_where_it_last_led(zone: Zone) -> None:
    """E-03: what was known is recalled for names that are watched from then on, and gives way to the first answer."""
    before = Resolver(zone)
    before.watch("trunk.example", 5060, "udp")
    await before.refresh(0.0)
    before.meet("met.example", 5060, "udp", 0.0)
    known = before.known()
    assert list(known) == [Name("trunk.example", 5060, "udp")]
    zone.is_away = True
    after = Resolver(zone)
    after.recall(known)
    assert after.hops("trunk.example", 5060, "udp") == ()
    after.watch("trunk.example", 5060, "udp")
    after.watch("other.example", 5060, "udp")
    assert after.hops("trunk.example", 5060, "udp") == before.hops("trunk.example", 5060, "udp")
    assert after.version == 1
    assert await after.refresh(0.0) == [Name("trunk.example", 5060, "udp"), Name("other.example", 5060, "udp")]
    assert after.hops("trunk.example", 5060, "udp")
    zone.is_away, zone.a["trunk.example"] = False, ("192.0.2.9",)
    await after.refresh(RETRY_S)
    assert after.hops("trunk.example", 5060, "udp") == (Hop("udp", "192.0.2.9", 5060),)


async def test_a_server_that_nobody_could_say_the_address_of_stays_where_it_was(resolver: Resolver, zone: Zone) -> None:
    """E-02: one lost answer among several takes no carrier's server away; it is asked for again soon."""
    zone.srv["_sip._udp.trunk.example"] = (Service(1, 1, 5060, "a.example"), Service(2, 1, 5060, "b.example"))
    zone.a |= {"a.example": ("192.0.2.11",), "b.example": ("192.0.2.12",)}
    zone.ttl_s = 200.0
    resolver.watch("trunk.example", None, "udp")
    await resolver.refresh(0.0)
    first, second = Hop("udp", "192.0.2.11", 5060), Hop("udp", "192.0.2.12", 5060)
    assert resolver.hops("trunk.example", None, "udp") == (first, second)
    zone.lost = {"a.example"}
    await resolver.refresh(200.0)
    assert resolver.hops("trunk.example", None, "udp") == (second, first)
    zone.lost = set()
    await resolver.refresh(200.0 + SHORTEST_S)
    assert resolver.hops("trunk.example", None, "udp") == (first, second)
