import asyncio

import pytest

from engine.errors import Conflict
from engine.provisioning import resync, vendors
from engine.provisioning.resync import Destination, Resyncer

YEALINK, POLY = vendors.known().profiles["yealink"], vendors.known().profiles["poly"]
VIA_PBX = Destination("101", "pbx.example.net", 5070, "tcp", "pbx", "192.0.2.7")


def test_each_vendor_gets_the_event_it_honours():
    """P-14: resync by NOTIFY with the event each vendor honours."""
    assert resync.plan(YEALINK, VIA_PBX).event == "check-sync;reboot=false"
    assert resync.plan(YEALINK, VIA_PBX, reboot=True).event == "check-sync;reboot=true"
    assert resync.plan(POLY, VIA_PBX).headers == [
        ("Event", "check-sync"), ("Subscription-State", "terminated;reason=noresource"),
    ]  # fmt: skip


def test_it_goes_through_the_pbx_or_straight_to_the_phone():
    """Decision 20."""
    through = resync.plan(YEALINK, VIA_PBX)
    assert (through.host, through.port, through.transport) == ("pbx.example.net", 5070, "tcp")
    assert through.request_uri == "sip:101@pbx.example.net:5070;transport=tcp"
    straight = resync.plan(YEALINK, Destination("101", "pbx.example.net", 5070, "tcp", "direct", "2001:db8::7"))
    assert (straight.host, straight.request_uri) == ("2001:db8::7", "sip:101@[2001:db8::7]:5060")


def test_without_a_way_to_the_phone_the_reason_is_said():
    with pytest.raises(Conflict, match="has not fetched anything yet"):
        resync.plan(YEALINK, Destination("101", "pbx", 5060, "udp", "direct", None))
    with pytest.raises(Conflict, match="no PBX"):
        resync.plan(YEALINK, Destination("101", "", 5060, "udp", "pbx", "192.0.2.7"))


@pytest.mark.parametrize(
    ("status", "words"),
    [(200, "accepted"), (481, "the PBX does not pass it on"), (408, "no answer"), (500, "refused with 500")],
)
def test_a_status_is_told_in_words(status, words):
    assert resync.meaning(status) == words


async def test_notifies_to_one_destination_are_paced_and_others_do_not_wait_for_it():
    """P-14: paced overall and for each destination."""
    sent: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()

    async def notify(target, request_uri, headers, within_s):
        sent.append((target["ip"], loop.time()))
        return 200

    resyncer = Resyncer(notify)
    one = resync.plan(YEALINK, Destination("101", "127.0.0.1", 5060, "udp", "pbx", None))
    other = resync.plan(YEALINK, Destination("102", "127.0.0.2", 5060, "udp", "pbx", None))
    assert await asyncio.gather(*(resyncer.send(each) for each in (one, one, other))) == [200, 200, 200]
    first, second = [at for ip, at in sent if ip == "127.0.0.1"]
    assert second - first >= resync.PER_DESTINATION_S - 0.02
    assert next(at for ip, at in sent if ip == "127.0.0.2") < second


async def test_a_registrar_that_does_not_resolve_is_no_answer():
    async def notify(target, request_uri, headers, within_s):
        raise AssertionError(target)

    nowhere = resync.plan(YEALINK, Destination("101", "no..host", 5060, "udp", "pbx", None))
    assert await Resyncer(notify).send(nowhere) == resync.NO_ANSWER


def test_a_fleet_is_told_how_long_it_takes_and_keeps_every_phone():
    fleet = [f"phone_{number}" for number in range(100)]
    assert sorted(resync.shuffled(fleet)) == sorted(fleet)
    assert resync.spread_s(100) == 100 / resync.PER_SECOND
