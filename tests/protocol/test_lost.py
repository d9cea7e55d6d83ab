"""The LoST client against a server of its own kind on a real socket: cache, stale answers, redirects, errors."""

import datetime as dt

import dns.rdata
import pytest
from lxml import etree

from engine.e911.civic import CivicAddress, DispatchableLocation
from engine.e911.lost import LostAway, LostClient, url_of_records
from engine.e911.lost_xml import ErrorType, LostRefused
from tests import lost_server
from tests.factories import HEADQUARTERS
from tests.lost_server import LostServer

PLACE = DispatchableLocation("location_1", "HQ", CivicAddress.of(HEADQUARTERS))
ELSEWHERE = DispatchableLocation("location_2", "Barn", CivicAddress.of(HEADQUARTERS | {"HNO": "7"}))
NOW = dt.datetime(2026, 11, 21, 20, 0, tzinfo=dt.UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> dt.datetime:
        return self.now


@pytest.fixture
async def server():
    async with LostServer({"/lost": lost_server.found()}) as running:
        yield running


@pytest.fixture
async def made():
    """Makes clients and closes them."""
    clients = []

    def make(url: str, **more) -> LostClient:
        clients.append(LostClient(url, **more))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


async def test_a_place_is_asked_for_once_until_its_answer_expires(server, made, cases):
    """E-13: RFC 5222 §5.2: kept until `expires`, by place and service."""
    clock = Clock()
    client = made(server.url, now=clock)
    first = await client.find_service(PLACE)
    assert first.mappings[0].uris == ("sip:psap@albany.example.net",)
    assert await client.find_service(PLACE) is first
    assert len(server.asked) == 1
    path, body, content_type = server.asked[0]
    assert (path, content_type) == ("/lost", "application/lost+xml;charset=utf-8")
    lost_server.schema().assertValid(etree.fromstring(body))
    await client.find_service(ELSEWHERE)
    await client.find_service(PLACE, validate=True)
    await client.find_service(PLACE, "urn:service:sos.fire")
    assert len(server.asked) == 4
    clock.now = dt.datetime(2026, 11, 22, 20, 0, tzinfo=dt.UTC)
    await client.find_service(PLACE)
    assert len(server.asked) == 5


async def test_what_must_not_be_kept_is_not_and_what_never_expires_is_asked_again_a_day_later(server, made):
    clock = Clock()
    client = made(server.url, now=clock)
    server.answers["/lost"] = lost_server.found(expires="NO-CACHE")
    await client.find_service(PLACE)
    await client.find_service(PLACE)
    assert len(server.asked) == 2
    server.answers["/lost"] = lost_server.found(expires="NO-EXPIRATION")
    await client.find_service(PLACE)
    clock.now += dt.timedelta(hours=23)
    await client.find_service(PLACE)
    assert len(server.asked) == 3
    clock.now += dt.timedelta(hours=2)
    await client.find_service(PLACE)
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "failure",
    [500, 404, 302, b"<html/>", lost_server.errors("serverTimeout"), lost_server.errors("internalError"), None],
    ids=["500", "404", "redirect over HTTP", "no LoST", "serverTimeout", "internalError", "down"],
)
async def test_an_answer_from_before_serves_when_no_server_answers(server, made, failure):
    """E-13: stale on error, and marked so."""
    clock = Clock()
    client = made(server.url, now=clock)
    await client.find_service(PLACE)
    clock.now += dt.timedelta(days=30)
    if failure is None:
        await server.stop()
    else:
        server.answers["/lost"] = failure
    again = await client.find_service(PLACE)
    assert again.is_stale
    assert again.mappings[0].display_name == "Albany County 911"
    with pytest.raises((LostAway, LostRefused)):
        await client.find_service(ELSEWHERE)


async def test_a_word_on_the_question_itself_is_never_replaced_by_an_old_answer(server, made):
    clock = Clock()
    client = made(server.url, now=clock)
    await client.find_service(PLACE)
    clock.now += dt.timedelta(days=30)
    server.answers["/lost"] = lost_server.errors("notFound", "nobody serves it any more")
    with pytest.raises(LostRefused) as caught:
        await client.find_service(PLACE)
    assert caught.value.type is ErrorType.NOT_FOUND


async def test_a_server_that_hangs_is_given_up(made):
    import asyncio

    hung = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    try:
        client = made(f"http://127.0.0.1:{hung.sockets[0].getsockname()[1]}/", within_s=0.2)
        with pytest.raises(LostAway, match="did not answer within"):
            await client.find_service(PLACE)
    finally:
        hung.close()


async def test_a_redirect_is_followed_to_the_server_that_dns_names(server, made):
    """E-13: RFC 5222 §10."""
    server.answers |= {"/lost": lost_server.redirect("albany.example.net"), "/albany": lost_server.found()}

    async def url_of(target: str) -> str | None:
        return server.url.replace("/lost", "/albany") if target == "albany.example.net" else None

    found = await made(server.url, url_of=url_of).find_service(PLACE)
    assert found.mappings
    assert [path for path, _, _ in server.asked] == ["/lost", "/albany"]


async def test_servers_that_send_the_question_round_are_a_loop(server, made):
    async def url_of(_target: str) -> str | None:
        return server.url

    server.answers["/lost"] = lost_server.redirect("albany.example.net")
    with pytest.raises(LostRefused) as caught:
        await made(server.url, url_of=url_of).find_service(PLACE)
    assert caught.value.type is ErrorType.LOOP
    assert len(server.asked) == 2


async def test_a_redirect_to_a_server_nobody_knows_ends_there(server, made):
    async def url_of(_target: str) -> str | None:
        return None

    server.answers["/lost"] = lost_server.redirect("nowhere.example.net")
    with pytest.raises(LostAway, match=r"nowhere\.example\.net"):
        await made(server.url, url_of=url_of).find_service(PLACE)


def test_the_best_u_naptr_record_of_lost_over_https_names_the_server():
    """RFC 5222 §4 and RFC 4848: order, then preference; never plain HTTP."""
    records = [
        dns.rdata.from_text("IN", "NAPTR", text)
        for text in (
            '200 10 "u" "LoST:https" "!.*!https://second.example.net/!" .',
            '100 20 "u" "LoST:https" "!.*!https://later.example.net/!" .',
            '100 10 "u" "LoST:http" "!.*!http://plain.example.net/!" .',
            '100 10 "s" "SIP+D2U" "" _sip._udp.example.net.',
            '100 5 "u" "LoST:https" "!.*!http://plain.example.net/!" .',
            '100 10 "U" "LoST:https" "!.*!https://first.example.net/lost!" .',
        )
    ]
    assert url_of_records(records) == "https://first.example.net/lost"
    assert url_of_records(records[2:4]) is None
