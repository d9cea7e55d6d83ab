"""Where requests to typed addresses may go."""

import asyncio
import ipaddress

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.outbound import GuardedResolver, Outbound, Unreachable, host_of, post, refuse_literal

LISTED = Outbound((ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("127.0.0.0/8")))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "::1", "0.0.0.0", "::", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "fe80::1",
        "fe80::1%eth0", "fc00::1", "100.64.0.1", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "192.0.2.1", "2001:db8::1", "not an address",
        "64:ff9b:1::808:808", "64:ff9b:1:fffe::a9fe:a9fe", "::8.8.8.8", "::7f00:1", "fec0::1", "192.88.99.1",
        "192.0.0.9", "192.0.0.170", "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:a83f:8110::1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_not_reached(address: str) -> None:
    """S1-28: this machine, its neighbours, a cloud's metadata, and IPv4 in the coats that IPv6 has for it."""
    assert not Outbound().may_reach(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_what_is_public_is_reached_over_https_alone(address: str) -> None:
    """S1-28."""
    assert Outbound().may_reach(address)
    assert not Outbound().may_reach(address, is_clear=True)


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0177.0.0.1", "0x7f.1", "0x7f000001", "010.8.8.8", "127.0.0.1.", "1.2.3.4.5", "0x"]
)
async def test_numbers_in_disguise_are_no_names(host: str) -> None:
    """S1-28: what a system reads as an IPv4 address is refused at the field, at the request and at the look-up."""
    fault = LISTED.url_fault("url", f"https://{host}/x")
    assert fault is not None
    assert "four decimal numbers" in fault.detail
    with pytest.raises(Unreachable, match="four decimal numbers"):
        refuse_literal(LISTED, f"https://{host}:8443/x")
    resolver = GuardedResolver(LISTED, is_clear=False)
    with pytest.raises(OSError, match="four decimal numbers"):
        await resolver.resolve(host)


@pytest.mark.parametrize("host", ["1.example.com", "0x7f.example.com", "4th.example", "beef.example"])
def test_names_with_digits_are_names(host: str) -> None:
    """S1-28: only labels that are numbers all through are taken for an address."""
    assert Outbound().url_fault("url", f"https://{host}/x") is None


def test_a_listed_network_is_reached_in_clear_too_and_no_other() -> None:
    """S1-28: what whoever runs the server wishes."""
    assert LISTED.may_reach("10.9.9.9", is_clear=True)
    assert LISTED.may_reach("::ffff:10.9.9.9")
    assert not LISTED.may_reach("192.168.1.1")


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example.com", "ftp://hooks.example.com/", "http://hooks.example.com/", "https://", "https://h:x/",
        "https://h:0/", "https://user:secret@hooks.example.com/", "https://127.0.0.1/", "https://[::1]:8443/x",
        "https://169.254.169.254/latest", "https://hooks.example.com/#x", "https://hooks.example.com/a b",
        "https://hooks.example.com/" + "a" * 1000, "javascript:alert(1)", "https://[bad/",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_is_refused_in_words(url: str) -> None:
    """S1-28: said at the field, before anything is sent."""
    fault = Outbound().url_fault("url", url)
    assert fault is not None
    assert fault.field == "url"


def test_a_url_shows_where_it_leads_without_its_secrets() -> None:
    """S1-30: a path may be a secret."""
    assert host_of("https://hooks.example.com:8443/T000/B000?key=s3cret") == "https://hooks.example.com:8443"
    assert host_of("https://[2606:4700::1111]/x") == "https://[2606:4700::1111]"
    assert Outbound().url_fault("url", "https://hooks.example.com/T000?key=1") is None


@pytest.mark.enable_socket
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_name_that_leads_here_is_not_connected_to(host: str) -> None:
    """S1-28: the check is on the address at the connection, not on the text."""
    seen = list[str]()
    async with TestServer(_app(seen)) as server:
        with pytest.raises(Unreachable, match="plain http"):
            await post(Outbound(), f"http://{host}:{server.port}/ok", b"{}", {}, within_s=30.0)
        with pytest.raises(Unreachable, match="no public address"):
            await post(Outbound(), f"https://{host}:{server.port}/ok", b"{}", {}, within_s=30.0)
        assert seen == []
        answer = await post(LISTED, f"http://{host}:{server.port}/ok", b"{}", {}, within_s=30.0)
        assert (answer.status, answer.words, seen) == (200, "very well", ["/ok"])


@pytest.mark.enable_socket
async def test_redirects_are_not_followed_and_answers_are_cut() -> None:
    """S1-28: a receiver leads nowhere else, and what it says is one short line."""
    seen = list[str]()
    async with TestServer(_app(seen)) as server:
        base = f"http://127.0.0.1:{server.port}"
        assert (await post(LISTED, f"{base}/away", b"", {}, within_s=30.0)).status == 302
        long = await post(LISTED, f"{base}/long", b"", {}, within_s=30.0)
        assert len(long.words) == 200
        assert "\x1b" not in long.words
        with pytest.raises(Unreachable, match="no answer within"):
            await post(LISTED, f"{base}/never", b"", {}, within_s=0.2)
        assert seen == ["/away", "/long", "/never"]
    with pytest.raises(Unreachable):
        await post(LISTED, base, b"", {}, within_s=30.0)


def _app(seen: list[str]) -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        seen.append(request.path)
        if request.path == "/away":
            raise web.HTTPFound("/ok")
        if request.path == "/never":
            await asyncio.Event().wait()
        text = "\x1b[31mred " * 1000 if request.path == "/long" else "very well\n"
        return web.Response(text=text)

    app = web.Application()
    app.router.add_post("/{name}", answer)
    return app
