"""The address phones are given, and when people are told that no phone reaches it."""

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from admin.context import CONFIG
from admin.links import provisioning_url, provisioning_warnings
from engine.config import Admin, Config, Provisioning


def asked(app: web.Application, host: str) -> web.Request:
    """A request under that name that came in on 192.0.2.7."""
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info = {"sockname": ("192.0.2.7", 8081)}.get
    return make_mocked_request("GET", "/", headers={"Host": host}, app=app, transport=transport)


@pytest.mark.parametrize(
    ("listen", "public_url", "host", "expected", "is_told"),
    [
        ("0.0.0.0:8080", "", "127.0.0.1:8081", "http://127.0.0.1:8080/p/t/", True),
        ("0.0.0.0:8080", "", "localhost:8081", "http://localhost:8080/p/t/", True),
        ("[::]:8080", "", "[::1]:8081", "http://[::1]:8080/p/t/", True),
        ("0.0.0.0:8080", "", "callpoint.lan:8081", "http://callpoint.lan:8080/p/t/", True),
        ("0.0.0.0:8080", "", "192.0.2.7:8081", "http://192.0.2.7:8080/p/t/", False),
        ("0.0.0.0:8080", "", "192.0.2.8:8081", "http://192.0.2.8:8080/p/t/", True),
        ("[::1]:18923", "", "127.0.0.1:8081", "http://[::1]:18923/p/t/", True),
        ("192.0.2.7:8080", "", "evil.example", "http://192.0.2.7:8080/p/t/", False),
        ("[2001:db8::7]:8080", "", "127.0.0.1:8081", "http://[2001:db8::7]:8080/p/t/", False),
        ("127.0.0.1:8080", "https://phones.example.com/", "127.0.0.1:8081", "https://phones.example.com/p/t/", False),
    ],
)
def test_the_url_names_where_phones_listener_is_and_a_loopback_one_is_told(
    listen: str, public_url: str, host: str, expected: str, *, is_told: bool
) -> None:
    """P-20: a tunnel to the pages is no way for phones, and a listener of one address is at no other."""
    app = web.Application()
    app[CONFIG] = Config(provisioning=Provisioning(listen=listen, public_url=public_url))
    request = asked(app, host)
    assert provisioning_url(request, "t") == expected
    told = provisioning_warnings(request)
    assert bool(told) is is_told
    assert all("public_url" in text and "911" in text for text in told)


def test_a_configured_name_wins_over_whatever_a_request_was_made_to() -> None:
    """P-20: nobody's Host header decides which URL an administrator copies, once the pages' own name is known."""
    app = web.Application()
    app[CONFIG] = Config(
        admin=Admin(public_url="https://callpoint.example.com/"), provisioning=Provisioning(listen="0.0.0.0:8080")
    )
    request = asked(app, "evil.example")
    assert provisioning_url(request, "t") == "http://callpoint.example.com:8080/p/t/"
    assert provisioning_warnings(request) == []
