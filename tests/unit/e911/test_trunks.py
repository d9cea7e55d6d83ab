"""Which trunks are asked whether they live, and what is made of the answers."""

import pytest

from engine.e911.location import AccountTable, LocationTable, Trunk
from engine.e911.trunks import BEHIND_S, MAX_PINGS_AT_ONCE, STALLED_S, UNASKED, TrunkWatch
from engine.sip.forward import Hop
from engine.sip.names import Found
from engine.sip.resolve import Resolver

ROUTE = ("198.51.100.9", None, "udp")


@pytest.fixture
def changes():
    return []


@pytest.fixture
async def watch(changes):
    """Over two accounts that share a carrier, one trunk with a name, one switched off."""
    table = LocationTable()
    table.put(account("account_1", Trunk("a", "A", 1, "192.0.2.1"), Trunk("named", "N", 2, "sip.example.com")))
    table.put(account("account_2", Trunk("b", "B", 1, "192.0.2.1"), Trunk("off", "O", 1, "192.0.2.9", enabled=False)))

    class Zone:
        async def addresses(self, host):
            return Found({"sip.example.com": ("192.0.2.7", "192.0.2.8")}[host])

        async def services(self, _):
            return Found()

        async def pointers(self, _):
            return Found()

    resolver = Resolver(Zone())
    made = TrunkWatch(table, resolver, ping_s=20.0, on_change=lambda *change: changes.append(change))
    made.follow_table({ROUTE})
    return made, table, resolver


def account(account_id, *trunks):
    return AccountTable(account_id, trunks=trunks)


async def test_one_address_is_asked_once_for_all_its_trunks(watch, changes):
    """E-08: pings are a sign of life for every trunk behind one address."""
    made, _, _ = watch
    assert made.take_due(0.0) == [(("192.0.2.1", 5060, "udp"), Hop("udp", "192.0.2.1", 5060))]
    assert made.take_due(19.9) == []
    made.pinged(("192.0.2.1", 5060, "udp"), 405, 0.0)
    made.pinged(("192.0.2.1", 5060, "udp"), 200, 0.0)
    assert [(change[0], change[1], change[2]) for change in changes] == [
        ("account_1", "a", True),
        ("account_2", "b", True),
    ]
    assert len(made.take_due(20.0)) == 1


@pytest.mark.parametrize("status", [None, 503])
async def test_silence_and_503_mean_down_until_something_is_heard(watch, changes, status):
    """E-08: down is told once, up again too."""
    made, _, _ = watch
    for _ in range(2):
        made.pinged(("192.0.2.1", 5060, "udp"), status, 0.0)
    assert made.down == {"a", "b"}
    assert len(changes) == 2
    made.called("a", 0.0, is_up=True, detail="a call was answered (200)")
    made.called("nobody", 0.0, is_up=False, detail="")
    assert made.down == {"b"}
    assert changes[-1] == ("account_1", "a", True, "a call was answered (200)")


async def test_addresses_of_names_are_trusted_from_when_they_are_known(watch):
    """E-02: looked up beside the calls."""
    made, _, resolver = watch
    assert made.ips == {"192.0.2.1"}
    assert made.route_ips == {"198.51.100.9"}
    await resolver.refresh(0.0)
    made.refresh_ips()
    assert made.ips == {"192.0.2.1", "192.0.2.7", "192.0.2.8"}
    assert (("sip.example.com", 5060, "udp"), Hop("udp", "192.0.2.7", 5060)) in made.take_due(0.0)


async def test_what_the_table_no_longer_names_is_forgotten(watch):
    """The hook holds these very sets: they change in place."""
    made, table, _ = watch
    held = (made.down, made.ips, made.route_ips)
    made.pinged(("192.0.2.1", 5060, "udp"), None, 0.0)
    table.drop("account_1")
    table.put(account("account_2", Trunk("c", "C", 1, "192.0.2.3")))
    made.follow_table(set())
    assert held == (set(), {"192.0.2.3"}, set())
    made.pinged(("192.0.2.3", 5060, "udp"), None, 0.0)
    assert held[0] == {"c"}


async def test_a_thousand_trunks_are_asked_a_few_at_a_time_and_all_of_them(watch):
    """E-02: pings are no burst between two calls."""
    made, table, _ = watch
    table.put(account("account_3", *(Trunk(f"t{n}", "T", 1, f"10.0.{n >> 8}.{n & 255}") for n in range(1000))))
    made.follow_table(set())
    asked = []
    for tick in range(60):
        due = made.take_due(tick * 0.1)
        assert len(due) <= MAX_PINGS_AT_ONCE
        asked += [name for name, _ in due]
    assert len(asked) == len(set(asked)) == 1001


async def test_what_stands_ahead_of_calls_is_told_by_transport(watch):
    """E-08: streams are kept open; a path over UDP may have TCP beside it for what is too large."""
    made, table, _ = watch
    table.put(account("account_3", Trunk("s", "S", 1, "192.0.2.30", 5061, "tls")))
    made.follow_table({("198.51.100.9", 5060, "tcp")})
    streams, datagrams = made.hops()
    assert streams == {Hop("tls", "192.0.2.30", 5061, 0, "192.0.2.30"), Hop("tcp", "198.51.100.9", 5060)}
    assert Hop("udp", "192.0.2.1", 5060) in datagrams
    made.pinged(("192.0.2.30", 5061, "tls"), None, 0.0, "certificate has expired")


async def test_why_a_connection_does_not_stand_is_told_with_the_trunk(watch, changes):
    """E-08: the operator reads the reason, not only that it is down."""
    made, _, _ = watch
    made.pinged(("192.0.2.1", 5060, "udp"), None, 0.0, "Hostname mismatch")
    assert changes[0][3] == "OPTIONS was not answered: Hostname mismatch"


async def test_pings_can_be_left_out(changes):
    table = LocationTable()
    table.put(account("account_1", Trunk("a", "A", 1, "192.0.2.1")))
    made = TrunkWatch(table, Resolver(), ping_s=0, on_change=lambda *change: changes.append(change))
    made.follow_table(set())
    assert made.take_due(1e9) == []


async def test_a_trunk_that_answers_calls_and_no_options_is_not_told_as_down(watch, changes):
    """E-08: silence to OPTIONS puts it behind others, but says nothing to people while answered calls speak for it."""
    made, _, _ = watch
    name = ("192.0.2.1", 5060, "udp")
    made.called("a", 100.0, is_up=True, detail="a call was answered (200)")
    for now in (110.0, 1899.0):
        made.pinged(name, None, now)
        assert "a" in made.down
        made.called("a", 100.0, is_up=True, detail="a call was answered (200)")
        made.pinged(name, None, now)
    of_a = [change[2:] for change in changes if change[1] == "a"]
    assert of_a == [(True, "a call was answered (200)")]
    made.pinged(name, None, 1900.0)
    assert [change[2:] for change in changes if change[1] == "a"][1:] == [(False, "OPTIONS was not answered")]


@pytest.mark.parametrize("status", [503, None])
async def test_a_trunk_that_says_it_is_out_of_service_is_told_at_once(watch, changes, status):
    """E-08: 503, a connection that does not stand and a call that failed are more than silence."""
    made, _, _ = watch
    made.called("a", 100.0, is_up=True, detail="a call was answered (200)")
    made.pinged(("192.0.2.1", 5060, "udp"), status, 110.0, "connection refused")
    assert [change[2] for change in changes if change[1] == "a"] == [True, False]
    made.called("a", 120.0, is_up=True, detail="a call was answered (200)")
    made.called("a", 130.0, is_up=False, detail="a call was unanswered")
    made.pinged(("192.0.2.1", 5060, "udp"), 200, 140.0)
    assert [change[2] for change in changes if change[1] == "a"] == [True, False, True, False, True]


async def test_a_trunk_that_shall_not_be_asked_keeps_its_place_until_a_call_fails_by_it(watch, changes):
    """E-08: a carrier that answers no OPTIONS is not put behind others for that; a call that failed puts it there for
    five minutes, or until another is answered.
    """
    made, table, _ = watch
    quiet = Trunk("q", "Q", 1, "192.0.2.40", pings=False)
    table.put(account("account_3", quiet, Trunk("beside", "B", 2, "192.0.2.41")))
    for _ in range(2):
        made.follow_table(set())
    assert ("192.0.2.40", 5060, "udp") not in {name for name, _ in made.take_due(0.0)}
    assert "192.0.2.40" in made.ips, "what it sends is the carrier's all the same"
    made.pinged(("192.0.2.40", 5060, "udp"), None, 0.0)
    assert "q" not in made.down
    for answered in (False, True):
        made.called("q", 100.0, is_up=False, detail="a call was unanswered")
        assert "q" in made.down
        made.take_due(99.9 + BEHIND_S)
        assert "q" in made.down
        if answered:
            made.called("q", 101.0, is_up=True, detail="a call was answered (200)")
        else:
            made.take_due(100.0 + BEHIND_S)
        assert "q" not in made.down
    assert [change[2:] for change in changes if change[1] == "q"] == [
        (True, UNASKED),
        (False, "a call was unanswered"),
        (True, "5 minutes have passed since a call failed"),
        (False, "a call was unanswered"),
        (True, "a call was answered (200)"),
    ]


async def test_asking_is_switched_off_and_on_again_at_once(watch, changes):
    """E-08: one that was behind others for its silence has its place back with the change; a new ping goes out when it
    shall be asked again.
    """
    made, table, _ = watch
    name = ("192.0.2.40", 5060, "udp")
    for pings in (True, False, True):
        table.put(account("account_3", Trunk("q", "Q", 1, "192.0.2.40", pings=pings)))
        made.follow_table(set())
        assert (name in {each for each, _ in made.take_due(0.0)}) is pings
        if pings:
            made.pinged(name, None, 0.0)
        assert ("q" in made.down) is pings
    assert [change[2] for change in changes if change[1] == "q"] == [False, True, False]


NAME = ("192.0.2.1", 5060, "udp")
TRIED_LAST = (False, "a call heard 100 and nothing more; it is tried last for 5 minutes")


async def test_a_trunk_that_left_a_call_at_100_is_tried_last_though_its_edge_answers_pings(watch, changes):
    """E-08, 0016: for five minutes; people read that it does not answer, once, and that it has its place again."""
    made, _, _ = watch
    made.pinged(NAME, 200, 0.0)
    made.stalls("a", 100.0)
    made.stalls("nobody", 100.0)
    for now in (110.0, 390.0):
        made.take_due(now)
        made.pinged(NAME, 200, now)
        made.called("a", now, is_up=True, detail="a call was refused (404)")
        assert (made.down, made.stalled) == ({"a"}, {"a"})
    made.take_due(100.0 + STALLED_S)
    assert (made.down, made.stalled) == (set(), set())
    of_a = [change[2:] for change in changes if change[1] == "a"]
    assert of_a == [
        (True, "OPTIONS answered 200"), TRIED_LAST, (True, "5 minutes have passed since it left a call at 100"),
    ]  # fmt: skip


async def test_a_trunk_that_left_a_call_at_100_is_believed_again_when_a_call_progresses(watch, changes):
    """E-08, 0016: what is behind its edge lives, whatever the time."""
    made, _, _ = watch
    made.progressed("a")
    made.stalls("a", 100.0)
    made.pinged(NAME, None, 110.0)
    made.progressed("a")
    assert (made.down, made.stalled) == ({"b"}, set())
    assert [change[2:] for change in changes if change[1] == "a"] == [TRIED_LAST, (True, "a call progressed")]
    made.stalls("a", 120.0)
    made.take_due(421.0)
    made.take_due(1e6)
    assert made.down == {"b"}


async def test_a_trunk_that_fell_silent_meanwhile_stays_behind_when_its_time_is_over(watch, changes):
    """E-08: its pings say where it stands then; one that has left the table is forgotten."""
    made, table, _ = watch
    made.stalls("a", 100.0)
    made.pinged(NAME, None, 110.0)
    made.take_due(400.0)
    assert (made.down, made.stalled) == ({"a", "b"}, set())
    assert [change[2:] for change in changes if change[1] == "a"] == [TRIED_LAST]
    made.stalls("a", 500.0)
    table.drop("account_1")
    made.follow_table(set())
    made.take_due(1e6)
    assert (made.down, made.stalled) == ({"b"}, set())
