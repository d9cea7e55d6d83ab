"""Digest access authentication both ways: the RFCs' own examples, and what peers get wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sip.auth import (
    HASHES,
    NONCE_AHEAD_S,
    NONCE_GOOD_S,
    Authenticator,
    Challenge,
    Checked,
    Credentials,
    Verdict,
    answer,
    read_challenges,
    read_parameters,
)
from engine.sip.message import parse_message
from tests.siptest import read_request, read_response, request, response

NOW = 1_795_000_000
BOB = Credentials("bob", "zanzibar")
KEY = b"k" * 32
URI = "sip:911@192.0.2.10"


def answers_to(response, credentials, method, uri, *, cnonce, body=b""):
    """A header line for each challenge of a 401 or 407."""
    return [
        answer(challenge, credentials, method, uri, cnonce=cnonce, body=body) for challenge in read_challenges(response)
    ]


def parameters(line):
    return read_parameters(line[1])


# --- the examples of the RFCs -----------------------------------------------------------------------------------------

RFC_7616 = {
    "realm": "http-auth@example.org",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "qop": "auth",
    "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
}
MUFASA = Credentials("Mufasa", "Circle of Life")
CNONCE_7616 = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc_7616_section_3_9_1(algorithm, expected):
    """E-04: the example with both algorithms."""
    line = answer(Challenge(algorithm=algorithm, **RFC_7616), MUFASA, "GET", "/dir/index.html", cnonce=CNONCE_7616)
    assert line[0] == "Authorization"
    fields = parameters(line)
    assert fields["response"] == expected
    assert (fields["username"], fields["nc"], fields["opaque"]) == ("Mufasa", "00000001", RFC_7616["opaque"])


def test_rfc_7616_section_3_9_2_with_its_erratum():
    """E-04: SHA-512-256 and a hashed user name; the values are those of erratum 4897, by FIPS 180-4."""
    challenge = Challenge(
        realm="api@example.org",
        nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
        algorithm="SHA-512-256",
        qop="auth",
        opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS",
        hashes_user=True,
    )
    fields = parameters(
        answer(
            challenge,
            Credentials("Jäsøn Doe", "Secret, or not?"),
            "GET",
            "/doe.json",
            cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
        )
    )
    assert fields["response"] == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
    assert fields["username"] == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
    assert fields["userhash"] == "true"


def test_rfc_2617_section_3_5_and_rfc_2069():
    """E-04: old peers: MD5 with qop, and without."""
    nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
    challenge = Challenge("testrealm@host.com", nonce, qop="auth", opaque="5ccc069c403ebaf9f0171e9517f40e41")
    by_2617 = answer(challenge, Credentials("Mufasa", "Circle Of Life"), "GET", "/dir/index.html", cnonce="0a4f113b")
    assert parameters(by_2617)["response"] == "6629fae49393a05397450978507c4ef1"
    plain = Challenge("testrealm@host.com", nonce)
    by_2069 = parameters(answer(plain, Credentials("Mufasa", "CircleOfLife"), "GET", "/dir/index.html", cnonce="x"))
    assert by_2069["response"] == "1949323746fe6a43ef61f9606e7febea"  # RFC 2069's erratum 749
    assert by_2069.keys().isdisjoint({"qop", "nc", "cnonce"})


def test_sip_examples_of_an_invite():
    """E-04: draft-smith-sipping-auth-examples §3.1 and §3.2, with and without qop."""
    nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
    plain = answer(Challenge("biloxi.com", nonce), BOB, "INVITE", "sip:bob@biloxi.com", cnonce="x")
    assert parameters(plain)["response"] == "bf57e4e0d0bffc0fbaedce64d59add5e"
    counted = answer(Challenge("biloxi.com", nonce, qop="auth"), BOB, "INVITE", "sip:bob@biloxi.com", cnonce="0a4f113b")
    assert parameters(counted)["response"] == "89eb0059246c02b2f6ee02c7961d5ea3"


# --- as a client ------------------------------------------------------------------------------------------------------


def challenged(*lines, status=407):
    return read_response(response(request(), status, added=lines))


def test_the_first_challenge_we_know_is_answered_one_a_realm():
    """E-04: RFC 8760 §2.4: the server lists what it prefers first; unknown algorithms are passed over."""
    got = challenged(
        'Proxy-Authenticate: Digest realm="a", nonce="1", algorithm=SHA3-256',
        'Proxy-Authenticate: Digest realm="a", nonce="2", algorithm=sha-256, qop="auth-int,auth"',
        'Proxy-Authenticate: Digest realm="a", nonce="3", algorithm=MD5',
        'WWW-Authenticate: Basic realm="b", Digest realm="b\\"q", nonce="4", stale=TRUE',
    )
    other, one = read_challenges(got)
    assert (one.nonce, one.algorithm, one.qop, one.is_proxy) == ("2", "SHA-256", "auth", True)
    assert (other.realm, other.nonce, other.is_stale, other.is_proxy) == ('b"q', "4", True, False)
    names = [name for name, _ in answers_to(got, BOB, "INVITE", URI, cnonce="c")]
    assert names == ["Authorization", "Proxy-Authorization"]


def test_auth_int_covers_the_body_when_nothing_else_is_offered():
    """E-08: RFC 7616 §3.4.3."""
    got = challenged('Proxy-Authenticate: Digest realm="a", nonce="n", qop="auth-int"')
    (_, one) = answers_to(got, BOB, "INVITE", URI, cnonce="c", body=b"v=0")[0]
    (_, other) = answers_to(got, BOB, "INVITE", URI, cnonce="c", body=b"v=1")[0]
    assert read_parameters(one)["qop"] == "auth-int"
    assert read_parameters(one)["response"] != read_parameters(other)["response"]


def test_a_challenge_nobody_can_answer_has_no_answer():
    assert read_challenges(challenged('Proxy-Authenticate: Digest realm="a"')) == ()
    assert read_challenges(challenged('Proxy-Authenticate: Digest realm="a", nonce="n", qop="auth-conf"')) == ()
    assert read_challenges(challenged("Proxy-Authenticate: Kerberos xyz")) == ()


def test_a_password_shows_in_no_log():
    assert "zanzibar" not in repr(BOB)


# --- as a server ------------------------------------------------------------------------------------------------------


def gate():
    return Authenticator("callpoint", KEY)


def proven(at=None, *, nonce=None, algorithm="MD5", qop="auth", uri=URI, nc=1, credentials=BOB, is_session=False):
    challenge = Challenge(
        "callpoint", nonce or (at or gate()).nonce(NOW), algorithm, qop=qop, is_proxy=True, is_session=is_session
    )
    name, value = answer(challenge, credentials, "INVITE", uri, cnonce="c", nc=nc)
    return f"{name}: {value}"


def secret_of(user):
    return {"bob": "zanzibar", 'o"b\\': "quoted"}.get(user)


def check(at, line, now=NOW, **fields):
    return at.check(read_request(request(added=[line], **fields)), secret_of, now)


@pytest.mark.parametrize("algorithm", list(HASHES))
@pytest.mark.parametrize("qop", ["auth", ""])
@pytest.mark.parametrize("is_session", [False, True])
def test_a_right_answer_proves_its_user(algorithm, qop, is_session):
    """E-04: RFC 8760, RFC 7616, and RFC 2069 for PBXs that know nothing newer."""
    line = proven(algorithm=algorithm, qop=qop, is_session=is_session)
    assert check(gate(), line) == Checked(Verdict.PROVEN, "bob")


def test_challenges_name_the_better_algorithm_first_and_fit_the_room():
    """E-04: RFC 8760 §2.4; a stranger's small datagram gets no large answer."""
    both = gate().challenge(NOW, is_proxy=True)
    assert [name for name, _ in both] == ["Proxy-Authenticate"] * 2
    assert [read_parameters(value)["algorithm"] for _, value in both] == ["SHA-256", "MD5"]
    assert all(read_parameters(value)["qop"] == "auth" for _, value in both)
    assert [name for name, _ in gate().challenge(NOW, is_proxy=False, max_bytes=170)] == ["WWW-Authenticate"]
    assert gate().challenge(NOW, is_proxy=True, max_bytes=50) == ()
    assert read_parameters(gate().challenge(NOW, is_proxy=True, is_stale=True)[0][1])["stale"] == "true"


def test_a_nonce_is_good_for_five_minutes_on_every_node_with_the_key():
    """E-04: no memory: another process checks it, a restart forgets nothing."""
    line = proven(nonce=gate().nonce(NOW))
    assert check(Authenticator("callpoint", KEY), line, NOW + NONCE_GOOD_S).verdict is Verdict.PROVEN
    assert check(gate(), line, NOW + NONCE_GOOD_S + 1) == Checked(Verdict.STALE, "bob")
    assert check(gate(), line, NOW - NONCE_AHEAD_S - 1).verdict is Verdict.STALE
    assert check(Authenticator("callpoint", b"another"), line).verdict is Verdict.STALE
    assert check(gate(), proven(nonce="made up")).verdict is Verdict.STALE


def test_an_answer_is_good_once():
    """E-04: what was overheard places no second call; requests may overtake each other on the way."""
    at = gate()
    nonce = at.nonce(NOW)
    verdicts = [check(at, proven(nonce=nonce, nc=nc)).verdict for nc in (1, 1, 3, 2, 2, 3, 200, 4, 150, 150)]
    new, old = Verdict.PROVEN, Verdict.STALE
    assert verdicts == [new, old, new, new, old, old, new, old, new, old]
    uncounted = [check(at, proven(nonce=nonce, qop="")).verdict for _ in range(2)]
    assert uncounted == [new, old]
    assert check(at, proven(nonce=nonce, qop="", uri="sip:911@other")).verdict is new


def test_calls_challenged_in_the_same_second_do_not_take_each_other_s_proofs():
    """E-04: each begins to count at 1; both go through."""
    at = gate()
    assert [check(at, proven(at)).verdict for _ in range(50)] == [Verdict.PROVEN] * 50


@pytest.mark.parametrize("nc", ["", "zz", "0", "-1"])
def test_a_count_that_is_none_proves_nothing_new(nc):
    line = proven().replace("nc=00000001", f"nc={nc}")
    assert check(gate(), line).verdict is not Verdict.PROVEN


@pytest.mark.parametrize(
    ("uri", "verdict"),
    [
        ("sip:911@192.0.2.10:5060;transport=udp", Verdict.PROVEN),
        ("sip:%39%31%31@pbx.example", Verdict.PROVEN),
        ("sip:102@192.0.2.10", Verdict.WRONG),
        ("sip:192.0.2.10", Verdict.WRONG),
        ("tel:911", Verdict.PROVEN),
        ("nonsense", Verdict.WRONG),
        ("", Verdict.WRONG),
    ],
)
def test_the_uri_may_be_spelled_another_way_and_must_name_the_same_user(uri, verdict):
    """E-04: an answer made for a call to 102 does not place one to 911."""
    assert check(gate(), proven(uri=uri)).verdict is verdict


def test_who_is_not_known_or_lies_is_told_apart():
    assert check(gate(), proven(credentials=Credentials("eve", "zanzibar"))) == Checked(Verdict.WRONG)
    assert check(gate(), proven(credentials=Credentials("eve", ""))) == Checked(Verdict.WRONG)
    assert check(gate(), proven(credentials=Credentials("bob", "guess"))) == Checked(Verdict.WRONG, "bob")
    assert check(gate(), proven().replace('realm="callpoint"', 'realm="other"')).verdict is Verdict.ABSENT
    assert check(gate(), "Authorization: Basic Ym9iOnphbnppYmFy").verdict is Verdict.ABSENT
    assert check(gate(), proven().replace("algorithm=MD5", "algorithm=SHA3")).verdict is Verdict.WRONG


def test_a_user_name_may_hold_quotes_and_its_realm():
    """E-04: RFC 3261 §25.1 quoted-pair; some PBXs say user@realm."""
    assert check(gate(), proven(credentials=Credentials('o"b\\', "quoted"))) == Checked(Verdict.PROVEN, 'o"b\\')
    at_realm = proven(credentials=Credentials("bob@callpoint", "zanzibar"))
    assert check(gate(), at_realm) == Checked(Verdict.PROVEN, "bob")
    extended = proven().replace('username="bob"', "username*=UTF-8''b%6Fb")
    assert check(gate(), extended) == Checked(Verdict.PROVEN, "bob")


def test_one_right_answer_among_wrong_ones_is_enough():
    """A PBX that answers another proxy too sends several lines."""
    other = 'Proxy-Authorization: Digest username="bob", realm="elsewhere", nonce="n", uri="sip:x", response="r"'
    wrong = proven(credentials=Credentials("bob", "guess"))
    got = read_request(request(added=[other, wrong, proven()]))
    assert gate().check(got, secret_of, NOW).verdict is Verdict.PROVEN


@given(st.text(alphabet=st.characters(blacklist_characters="\r\n\0"), max_size=200))
def test_any_answer_is_read_or_refused(text):
    data = request(added=["Authorization: x"]).replace(
        b"Authorization: x", b"Authorization: Digest " + text.encode("utf-8", "replace")
    )
    assert gate().check(parse_message(data), secret_of, NOW).verdict is Verdict.ABSENT


@given(st.binary(max_size=80))
def test_octets_in_an_answer_that_are_no_text_are_refused(octets):
    octets = octets.replace(b"\r", b"").replace(b"\n", b"").replace(b'"', b"").replace(b"\0", b"").replace(b"\\", b"")
    line = proven().encode().replace(b'response="', b'response="' + octets + b"z")
    data = request(added=["Authorization: x"]).replace(b"Authorization: x", line)
    assert gate().check(parse_message(data), secret_of, NOW).verdict is Verdict.WRONG
