"""P-20: which file a phone without a URL is given, to whom, and that nothing but the URL is in it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Invalid
from engine.provisioning import bootstrap, vendors
from engine.provisioning.bootstrap import Holder, Pace, asked_for, holder_for, render
from engine.provisioning.policy import Policy

URL = "https://phones.example.com/p/" + "T" * 43 + "/"
PROFILES = vendors.load().profiles


@pytest.mark.parametrize(
    ("path", "vendor"),
    [
        ("y000000000108.cfg", "yealink"),
        ("/y000000000108.cfg", "yealink"),
        ("805ec0123456.cfg", "yealink"),
        ("805EC0123456.cfg", "yealink"),
        ("000000000000.cfg", "poly"),
        ("64167f123456.cfg", "poly"),
        ("callpoint-poly.cfg", "poly"),
        ("0c383e123456.cfg", "fanvil"),
        ("1400E9123456.cfg", "mitel"),
        ("startup.cfg", "mitel"),
        ("aastra.cfg", "mitel"),
        ("cfg000b82123456.xml", "grandstream"),
        ("cfg001fc1123456.xml", "htek"),
        ("cfg.xml", "grandstream"),
        ("cfggxp2135.xml", "grandstream"),
        ("cfg0041.xml", "htek"),
        ("spa504G.cfg", "cisco_spa"),
        ("init.cfg", "cisco_spa"),
        ("8851-3PCC.xml", "cisco_mpp"),
        ("CP-8841-3PCC.xml", "cisco_mpp"),
        ("snomD785.htm", "snom"),
        ("snomD785-000413123456.htm", "snom"),
        ("KX-HDV130.cfg", "panasonic"),
        ("Config0080F0123456.cfg", "panasonic"),
        ("algop8301.conf", "algo"),
    ],
)
def test_a_familys_first_file_is_its_bootstrap_and_holds_the_url(path, vendor):
    asked = asked_for(path, PROFILES)
    assert asked is not None
    assert asked.vendor == vendor
    text = render(asked, URL).decode()
    if path == "000000000000.cfg" or asked.template == "poly.master.cfg.j2":
        assert "callpoint-poly.cfg" in text  # the second file has it
    elif vendor in {"mitel", "algo"}:  # the URL in its parts
        assert "phones.example.com" in text
        assert "p/" + "T" * 43 in text
    else:
        assert "phones.example.com/p/" + "T" * 43 in text


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "//spa504G.cfg", "../../etc/passwd", "p/y000000000108.cfg", "y000000000108.cfg\x00",
        "805ec0123456.boot", "805ec0123456-local.cfg", "deadbeef1234.cfg", "SEP0011223344.cnf.xml", "pxelinux.0",
        "phonebook.xml",
        "y000000000108.cfg?x", "a" * 400, "spa504G.cfg/",
    ],
)  # fmt: skip
def test_nothing_else_is_there(path):
    assert asked_for(path, PROFILES) is None


@given(st.text(max_size=120))
def test_any_name_is_a_file_of_ours_or_none(path):
    asked = asked_for(path, PROFILES)
    assert asked is None or re.fullmatch(r"[A-Za-z0-9._-]{1,100}", asked.name)


@pytest.mark.parametrize("rule", bootstrap.rules(), ids=lambda rule: rule.template)
def test_a_bootstrap_says_nothing_but_the_url(rule):
    """P-20: no secret, no line, no address of anybody: two accounts' files differ in the URL alone."""
    asked = bootstrap.Asked("x", rule.vendor, rule.template, "0c383e123456", "text/plain")
    one = render(asked, URL).decode()
    other = render(asked, "https://phones.example.com/p/" + "U" * 43 + "/").decode()
    assert other == one.replace("T" * 43, "U" * 43)
    assert len(one) < 1400  # one frame
    assert not re.search(r"secret|passw|user_name|auth|P34|P2>|911", one, re.IGNORECASE)


@pytest.mark.parametrize("url", ["https://a.example/p/x\n/", "https://a.example/p/<x>/", "nonsense"])
def test_a_url_that_could_end_a_setting_is_in_no_file(url):
    asked = asked_for("y000000000108.cfg", PROFILES)
    with pytest.raises(Invalid):
        render(asked, url)


def holder(name, *sources):
    return Holder(name, Policy.of({"sources": list(sources)}), "T" * 43)


def test_only_the_account_whose_ranges_hold_the_address_answers():
    """P-20: an address that is nobody's, or two accounts', gets nothing; an account without ranges never answers."""
    holders = [holder("open"), holder("one", "10.1.0.0/16", "2001:db8:1::/48"), holder("two", "10.2.0.0/16")]
    assert holder_for("10.1.2.3", holders).account_id == "one"
    assert holder_for("::ffff:10.1.2.3", holders).account_id == "one"
    assert holder_for("2001:db8:1::7", holders).account_id == "one"
    assert holder_for("10.3.0.1", holders) is None
    assert holder_for("nonsense", holders) is None
    assert holder_for("10.2.0.1", [*holders, holder("three", "10.0.0.0/8")]) is None
    assert "TTT" not in repr(holders[1])


def test_one_address_is_answered_at_its_pace_and_all_together_at_theirs():
    pace = Pace(per_s=1, burst=3, all_per_s=10, all_burst=5)
    assert [pace.takes("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [pace.takes("b", 0.0) for _ in range(5)] == [True, True, False, False, False]
    assert pace.takes("a", 1.0)
    assert not pace.takes("a", 1.0)


def test_the_pace_remembers_a_bounded_number_of_addresses():
    pace = Pace(most=100, all_burst=1e9)
    for number in range(1000):
        pace.takes(f"10.0.{number // 250}.{number % 250}", number / 1000)
    assert len(pace._left) == 100
