"""The address phones are given, and when people are told that no phone reaches it."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from admin.context import CONFIG
from admin.links import provisioning_url, provisioning_warnings
from engine.config import Config, Provisioning


@pytest.mark.parametrize(
    ("listen", "public_url", "host", "expected", "is_told"),
    [
        ("0.0.0.0:8080", "", "127.0.0.1:8081", "http://127.0.0.1:8080/p/t/", True),
        ("0.0.0.0:8080", "", "localhost:8081", "http://localhost:8080/p/t/", True),
        ("[::]:8080", "", "[::1]:8081", "http://[::1]:8080/p/t/", True),
        ("0.0.0.0:8080", "", "callpoint.lan:8081", "http://callpoint.lan:8080/p/t/", False),
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
    request = make_mocked_request("GET", "/", headers={"Host": host}, app=app)
    assert provisioning_url(request, "t") == expected
    told = provisioning_warnings(request)
    assert bool(told) is is_told
    assert all("public_url" in text and "911" in text for text in told)
