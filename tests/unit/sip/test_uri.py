"""URIs and name-addr values as a hook reads them."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sip.message import BadMessage
from engine.sip.uri import NameAddr, Uri, bracketed, parse_name_addr, parse_uri, split_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sip:911@192.0.2.1", ("sip", "911", "", "192.0.2.1", None, {})),
        (
            "SIP:Alice:secret@Host.Example:5070;transport=tcp;LR",
            ("sip", "Alice", "secret", "host.example", 5070, {"transport": "tcp", "lr": ""}),
        ),
        ("sips:[2001:DB8::1]:5061", ("sips", "", "", "2001:db8::1", 5061, {})),
        ("tel:911;phone-context=+1", ("tel", "911", "", "", None, {"phone-context": "+1"})),
        ("urn:service:sos.fire", ("urn", "service:sos.fire", "", "", None, {})),
        ("sip:+1-555;phone-context=x@h", ("sip", "+1-555;phone-context=x", "", "h", None, {})),
        ("sip:1?a;b@h;user=phone?Route=x", ("sip", "1?a;b", "", "h", None, {"user": "phone"})),
        ('sip:h;x="a;b"', ("sip", "", "", "h", None, {"x": "a;b"})),
    ],
)  # fmt: skip
def test_a_uri_is_read(text: str, expected: tuple[object, ...]) -> None:
    """E-01: any scheme; the scheme and host in lower case, the rest as written."""
    uri = parse_uri(text)
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port, uri.params) == expected
    assert uri.raw == text


def test_escapes_are_undone_for_comparing_alone() -> None:
    """E-01: RFC 3261 §19.1.4."""
    uri = parse_uri("sip:%39%31%31@h?Subject=a")
    assert (uri.user, uri.user_text, uri.headers) == ("%39%31%31", "911", "Subject=a")


@pytest.mark.parametrize("text", ["", "911", "sip:", "sip:@", "sip:a@", "sip:a@[::1", ":x", "1sip:a", "sip:a b"])
def test_what_is_no_uri_is_a_bad_message(text: str) -> None:
    """E-18: with what was expected."""
    with pytest.raises(BadMessage, match="expected"):
        parse_uri(text)


@pytest.mark.parametrize(
    ("value", "name", "user", "params"),
    [
        ('"Bell, \\"Al\\"" <sip:a@h;x=1>;tag=7', 'Bell, "Al"', "a", {"tag": "7"}),
        ("Alice B <sip:a@h>", "Alice B", "a", {}),
        ("<sip:a@h>;q=0.5;x, <sip:b@h>", "", "a", {"q": "0.5", "x": ""}),
        ("sip:a@h;tag=1", "", "a", {"tag": "1"}),
        ("sip:a@h, sip:b@h", "", "a", {}),
        ('"<x>" <tel:911>', "<x>", "911", {}),
        ("caller<sip:a@h>;tag=3", "caller", "a", {"tag": "3"}),
    ],
)
def test_a_name_addr_is_read(value: str, name: str, user: str, params: dict[str, str]) -> None:
    """E-18: §20.10: without brackets the parameters are the header's."""
    got = parse_name_addr(value)
    assert (got.display_name, got.uri.user, got.params) == (name, user, params)
    assert isinstance(got, NameAddr)
    assert isinstance(got.uri, Uri)


@pytest.mark.parametrize("value", ["", "<sip:a@h", '"Al" sip', "<>", "Alice"])
def test_what_is_no_name_addr_is_a_bad_message(value: str) -> None:
    """E-18: nothing else leaves."""
    with pytest.raises(BadMessage):
        parse_name_addr(value)


def test_a_value_longer_than_any_address_is_a_bad_message() -> None:
    """E-18: unless its first element is of a reasonable length."""
    with pytest.raises(BadMessage, match="at most"):
        parse_name_addr("<sip:a@h>;x=" + "y" * 5000)
    assert parse_name_addr("<sip:a@h>, " * 1000).uri.user == "a"


def test_commas_in_quotes_and_brackets_do_not_split() -> None:
    """E-18: §7.3.1."""
    assert split_values('"a,b" <sip:c,d@h>, x ,,y') == ['"a,b" <sip:c,d@h>', "x", "", "y"]
    assert split_values('a, "never closed, b') == ["a", '"never closed, b']
    assert bracketed("::1") == "[::1]"
    assert bracketed("h") == "h"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_either_parses_or_raises_bad_message(text: str) -> None:
    """E-18: both readers."""
    for read in (parse_uri, parse_name_addr):
        try:
            read(text)
        except BadMessage:
            continue
    split_values(text)


@pytest.mark.parametrize("piece", ["<", '"', '\\"', ";a=", ',"', "a,", "<,", "sip:", '";a="\\', "%", "@", ":"])
def test_long_hostile_values_cost_little(piece: str) -> None:
    """E-18: no pattern goes back over what it read."""
    for text in (piece * (60_000 // len(piece)), "sip:a@h" + piece * (60_000 // len(piece)), '"' + piece * 20_000):
        for read in (parse_uri, parse_name_addr, split_values):
            best = 1.0
            for _ in range(5):
                started = time.thread_time()
                with contextlib.suppress(BadMessage):
                    read(text)
                best = min(best, time.thread_time() - started)
            assert best < 0.005
