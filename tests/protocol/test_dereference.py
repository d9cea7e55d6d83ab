"""Fetching the location behind a reference: from a server that may be slow, broken or hostile."""

import asyncio
import contextlib
import ssl

import pytest
import trustme

from engine.e911.dereference import MAX_BYTES, Dereferencer
from engine.e911.pidf import read_pidf
from tests.protocol.lis import lis, pidf

pytestmark = pytest.mark.enable_socket
HELD = (
    b'<locationResponse xmlns="urn:ietf:params:xml:ns:geopriv:held">'
    + pidf().partition(b"?>")[2]
    + b"</locationResponse>"
)
BILLION = (
    b'<!DOCTYPE x [<!ENTITY a "' + b"x" * 100 + b'"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><presence '
    b'xmlns="urn:ietf:params:xml:ns:pidf">&b;</presence>'
)


@contextlib.asynccontextmanager
async def dereferencer(*hosts, ssl_context=None):
    answers = asyncio.Queue()
    made = Dereferencer(hosts, located=lambda *answer: answers.put_nowait(answer), ssl_context=ssl_context)
    made.answers = answers
    try:
        yield made
    finally:
        await made.close()


async def test_a_location_is_fetched_with_get():
    """E-05: RFC 6753."""
    async with lis() as server, dereferencer(server.host) as asks:
        server.say("/here", pidf(), Cache_Control="private, max-age=90")
        found = await asks.fetch(server.uri())
        assert read_pidf(found.pidf)[0].civic_address.get("HNO") == "42"
        assert (found.detail, found.max_age_s) == ("", 90.0)
        assert server.asked == [("GET", "/here", b"")]
        server.say("/here", pidf(), Cache_Control="no-store")
        assert (await asks.fetch(server.uri())).max_age_s == 0.0


async def test_a_server_that_wants_held_gets_held():
    """E-05: RFC 5985: POST of a locationRequest; the PIDF-LO lies inside the response."""
    async with lis() as server, dereferencer(server.host) as asks:
        server.say("GET /held", b"", 405)
        server.say("POST /held", HELD)
        found = await asks.fetch(server.uri("/held"))
        assert read_pidf(found.pidf)[0].civic_address.get("RD") == "River"
        assert [method for method, _, _ in server.asked] == ["GET", "POST"]
        assert b"locationRequest" in server.asked[1][2]


@pytest.mark.parametrize(
    ("status", "headers", "body", "detail"),
    [
        (200, {}, BILLION, "doctype"),
        (200, {}, b"<presence", "XML"),
        (200, {}, b"\x00\xff" * 50, "XML"),
        (200, {}, b"", "XML"),
        (200, {}, b"<x/>", "no location"),
        (200, {}, b'<error xmlns="urn:ietf:params:xml:ns:geopriv:held" code="locationUnknown"/>', "locationUnknown"),
        (200, {}, b" " * (MAX_BYTES + 1), "longer than"),
        (500, {}, pidf(), "500"),
        (403, {}, b"", "403"),
        (302, {"Location": "http://127.0.0.1:1/here"}, b"", "another server"),
        (302, {"Location": "https://169.254.169.254/"}, b"", "another server"),
        (302, {"Location": "file:///etc/passwd"}, b"", "another server"),
        (302, {"Location": "/loop"}, b"", "again and again"),
        (302, {}, b"", "again and again"),
    ],
)
async def test_what_is_no_location_is_told_in_a_sentence(status, headers, body, detail):
    """E-05: XML from outside: strict, no doctype, 64 kB; no redirects to other servers."""
    async with lis() as server, dereferencer(server.host) as asks:
        server.say("/here", body, status, **headers)
        server.say("/loop", b"", 302, Location="/loop")
        found = await asks.fetch(server.uri())
        assert found.pidf is None
        assert detail in found.detail


async def test_a_redirect_to_nonsense_is_an_answer_without_a_location():
    """E-05: the SIP process is told so, and stops waiting for that server."""
    async with lis() as server, dereferencer(server.host) as asks:
        server.say("/here", b"", 302, Location="http://[")
        asks.ask({"token": "d1", "uri": server.uri()})
        async with asyncio.timeout(25):
            assert await asks.answers.get() == ("d1", None, "it leads to what is no URI", None)


async def test_a_redirect_on_the_same_server_is_followed():
    async with lis() as server, dereferencer(server.host) as asks:
        server.say("/old", b"", 302, Location="/here")
        assert (await asks.fetch(server.uri("/old"))).pidf is not None


async def test_plain_http_is_for_listed_servers_alone():
    """E-05: no request makes us call just anybody."""
    async with lis() as server, dereferencer("lis.example.com") as asks:
        assert "http is used for listed servers" in (await asks.fetch(server.uri())).detail
        assert "no https URI" in (await asks.fetch("gopher://127.0.0.1/")).detail
        assert server.asked == []


async def test_a_dead_server_is_a_sentence_too():
    async with lis() as server:
        uri, host = server.uri(), server.host
    async with dereferencer(host) as asks:
        assert "cannot be reached" in (await asks.fetch(uri)).detail


async def test_a_server_s_certificate_is_checked():
    """E-05: https means it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusts = ssl.create_default_context()
    authority.configure_trust(trusts)
    async with lis(context) as server:
        async with dereferencer(ssl_context=trusts) as asks:
            assert (await asks.fetch(server.uri())).pidf is not None
        async with dereferencer() as asks:
            assert "cannot be reached" in (await asks.fetch(server.uri())).detail


async def test_many_questions_are_answered_side_by_side_to_a_bound():
    """E-05: one server that hangs holds up no other."""
    async with lis() as slow, lis() as quick, dereferencer(slow.host, quick.host) as asks:
        slow.delay_s = 30.0
        for number in range(31):
            asks.ask({"token": f"s{number}", "uri": slow.uri()})
        asks.ask({"token": "q", "uri": quick.uri()})
        asks.ask({"token": "over", "uri": quick.uri()})
        async with asyncio.timeout(25):
            token, found, detail, _ = await asks.answers.get()
            assert (token, found, detail) == ("over", None, "too many locations are being fetched")
            token, found, detail, _ = await asks.answers.get()
            assert (token, detail) == ("q", "")
            assert "River" in found


async def test_latin_letters_arrive_as_utf_8():
    """The line to the SIP process is text."""
    body = pidf().replace(b"UTF-8", b"ISO-8859-1").replace(b"River", "Rivière".encode("latin-1"))
    async with lis() as server, dereferencer(server.host) as asks:
        server.say("/here", body)
        found = await asks.fetch(server.uri())
        assert read_pidf(found.pidf)[0].civic_address.get("RD") == "Rivière"
