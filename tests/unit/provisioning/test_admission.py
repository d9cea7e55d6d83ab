"""Who is turned away: address ranges, certificates, and networks that walk address blocks. Time is a number."""

import datetime as dt

import pytest

from engine.provisioning import admission, vendors
from engine.provisioning.admission import Admission, Asker, network_of
from engine.provisioning.certificates import DeviceCertificate
from engine.provisioning.index import Found
from engine.provisioning.policy import Policy
from engine.provisioning.vendors import Confidence, Mac, PhoneIdentity

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
MAC, OTHER_MAC = Mac("805ec0aabb01"), Mac("805ec0aabb02")
OFFICE, STREET = "203.0.113.7", "198.51.100.9"


def who(mac: Mac | None = MAC) -> PhoneIdentity:
    name = f"{mac}.cfg" if mac is not None else "y000000000108.cfg"
    return vendors.known().identify(name, "Yealink SIP-T46U 108.86.0.20")


def certificate(mac: Mac | None = MAC, *, ended: bool = False) -> DeviceCertificate:
    until = NOW + dt.timedelta(days=-1 if ended else 3650)
    return DeviceCertificate(mac, f"CN={mac}", NOW - dt.timedelta(days=3650), until)


def asker(ip: str = OFFICE, shown: DeviceCertificate | None = None, clock: float = 1000.0) -> Asker:
    return Asker(ip, shown, clock, NOW)


def found(*, last_ip: str = "", phone_id: str | None = "phone_1") -> Found:
    return Found("account_1", 1, phone_id, "yealink", "T46U", last_ip=last_ip)


def policy(**values: object) -> Policy:
    return Policy.of(values)


# --- Address ranges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ip", "is_served"), [(OFFICE, True), (STREET, False), ("nonsense", False)])
def test_phones_outside_the_account_s_ranges_are_turned_away(ip: str, is_served: bool) -> None:
    """P-18: the account's CIDR limits."""
    turned = Admission().judge(asker(ip), policy(sources=["203.0.113.0/24"]), found(), who(), misses=None)
    assert (turned is None) is is_served
    assert turned is None or turned.reason == "source"


def test_an_unknown_token_is_no_account_s_and_has_no_ranges() -> None:
    """P-02: nothing of any account's policy shows with a wrong token."""
    assert Admission().judge(asker(STREET), policy(), None, who(), misses="token") is None


# --- Certificates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "shown", "reason"),
    [
        ("off", None, None),
        ("off", certificate(OTHER_MAC), None),
        ("accepted", None, None),
        ("accepted", certificate(), None),
        ("accepted", certificate(OTHER_MAC), "certificate"),
        ("accepted", certificate(None), None),
        ("accepted", certificate(ended=True), None),
        ("required", None, "certificate"),
        ("required", certificate(), None),
        ("required", certificate(None), "certificate"),
        ("required", certificate(OTHER_MAC), "certificate"),
        ("required", certificate(ended=True), None),
    ],
)
def test_a_certificate_counts_as_the_account_wishes(
    mode: str, shown: DeviceCertificate | None, reason: str | None
) -> None:
    """P-18: off, accepted, required."""
    turned = Admission().judge(asker(shown=shown), policy(client_certificates=mode), found(), who(), misses=None)
    assert (turned.reason if turned is not None else None) == reason
    assert turned is None or turned.is_mismatch is (shown is not None and shown.mac == OTHER_MAC)


def test_an_expired_certificate_is_worth_nothing_where_the_account_says_so() -> None:
    """P-18: expired device certificates by policy."""
    strict = policy(client_certificates="required", expired_certificates=False)
    turned = Admission().judge(asker(shown=certificate(ended=True)), strict, found(), who(), misses=None)
    assert turned is not None
    assert "ended on 2026-11-21" in turned.evidence[0]
    lenient = policy(client_certificates="accepted", expired_certificates=False)
    assert Admission().judge(asker(shown=certificate(ended=True)), lenient, found(), who(), misses=None) is None


def test_a_certificate_tells_whose_file_for_all_phones_is_asked_for() -> None:
    """P-18: `y000000000108.cfg` names no phone; the certificate does."""
    named = admission.with_certificate(who(None), certificate())
    assert named.mac == MAC
    proven = admission.certified(named, asker(shown=certificate()), policy(), "yealink")
    assert proven.confidence is Confidence.EXACT
    assert f"proves {MAC}" in proven.evidence[0]
    assert admission.with_certificate(who(), certificate(OTHER_MAC)).mac == MAC


@pytest.mark.parametrize(
    ("values", "ended", "is_known"),
    [
        ({}, False, True),
        ({}, True, True),
        ({"client_certificates": "off"}, False, False),
        ({"expired_certificates": False}, True, False),
        ({"expired_certificates": False}, False, True),
    ],
)
def test_a_phone_that_only_a_worthless_certificate_names_is_not_named(
    values: dict[str, object], ended: bool, is_known: bool
) -> None:
    """P-18: switched off, or ended where that counts, it tells nothing of whose request it is."""
    plain, shown = who(None), certificate(ended=ended)
    named = admission.with_certificate(plain, shown)
    identity, phone = admission.settled(plain, named, found(), asker(shown=shown), policy(**values))
    assert phone is not None
    assert (identity.mac, phone.phone_id) == ((MAC, "phone_1") if is_known else (None, None))
    assert admission.settled(plain, named, None, asker(shown=shown), policy()) == (named, None)


def test_a_certificate_that_proves_nothing_leaves_the_evidence_as_it_was() -> None:
    """P-18: no proof, no certainty."""
    for shown in (None, certificate(None), certificate(OTHER_MAC)):
        assert admission.certified(who(), asker(shown=shown), policy(), "yealink") == who()
    off = policy(client_certificates="off")
    assert admission.certified(who(), asker(shown=certificate()), off, "yealink") == who()
    told = admission.certified(who(), asker(shown=certificate(ended=True)), policy(), "yealink").evidence[0]
    assert "though it ended on 2026-11-21" in told


# --- Misses ---------------------------------------------------------------------------------------------------------


def walk(judge: Admission, ip: str, count: int, clock: float = 1000.0, start: int = 0) -> None:
    """Somebody there asks with a live token for that many addresses the account does not know."""
    for number in range(start, start + count):
        stranger = Mac(f"805ec1{number:06x}")
        judge.judge(asker(ip, clock=clock), policy(), found(phone_id=None), who(stranger), misses="phone")


def is_served(judge: Admission, ip: str, *, last_ip: str = "", clock: float = 1000.0, **more: object) -> bool:
    shown = more.get("shown")
    assert shown is None or isinstance(shown, DeviceCertificate)
    turned = judge.judge(asker(ip, shown, clock), policy(), found(last_ip=last_ip), who(), misses=None)
    assert turned is None or turned.reason == "limited"
    return turned is None


def test_whoever_walks_an_address_block_is_given_no_phone_s_file() -> None:
    """P-18: limits per miss: the hit among thousands of misses is refused like a miss."""
    judge = Admission()
    walk(judge, STREET, 255)
    assert is_served(judge, STREET)
    walk(judge, STREET, 2, start=1000)
    assert not is_served(judge, STREET)
    assert is_served(judge, OFFICE), "another network is nobody's hostage"


def test_a_phone_at_home_there_is_served_while_somebody_walks_beside_it() -> None:
    """P-18: a customer's NAT is never banned: who was served there before, or proves itself, is served."""
    judge = Admission()
    walk(judge, OFFICE, 5000)
    assert is_served(judge, OFFICE, last_ip=OFFICE)
    assert is_served(judge, OFFICE, shown=certificate())
    assert not is_served(judge, OFFICE, last_ip=STREET)


def test_one_bad_phone_that_asks_all_day_takes_nothing_from_the_others() -> None:
    """P-18: the same miss counts once, however often."""
    judge = Admission()
    for second in range(20_000):
        judge.judge(
            asker(OFFICE, clock=1000.0 + second / 10), policy(), found(phone_id=None), who(OTHER_MAC), misses="phone"
        )
    assert is_served(judge, OFFICE, clock=3000.0)


def test_new_phones_of_a_site_are_served_soon_after_the_walking_ends() -> None:
    """P-18: one address every 15 seconds is given back."""
    judge = Admission()
    walk(judge, OFFICE, 400)
    assert not is_served(judge, OFFICE, clock=1014.0)
    assert is_served(judge, OFFICE, clock=1016.0)


def test_wrong_tokens_are_no_walking() -> None:
    """P-18: 200 phones with a rotated URL behind one address are stragglers, no thieves."""
    judge = Admission()
    for number in range(2000):
        judge.judge(asker(OFFICE), policy(), None, who(Mac(f"805ec1{number:06x}")), misses="token")
    assert is_served(judge, OFFICE)


def test_a_flood_of_misses_is_told_as_one_and_changes_no_answer() -> None:
    """P-18: limits per IP: the 121st miss at once folds into a flood; two a second are left to be told apart."""
    judge = Admission()
    told = [judge.judge(asker(STREET), policy(), None, who(), misses="token") for _ in range(130)]
    assert [turned is None for turned in told] == [True] * 120 + [False] * 10
    assert all(turned is None or (turned.reason, turned.is_flood) == ("limited", True) for turned in told)
    assert judge.judge(asker(STREET, clock=1000.6), policy(), None, who(), misses="token") is None
    assert is_served(judge, STREET)


def test_an_ipv6_subscriber_is_counted_whole() -> None:
    """P-18: IPv6 by /64."""
    judge = Admission()
    for number in range(400):
        walk(judge, f"2001:db8:1:2::{number:x}", 1, start=number)
    assert not is_served(judge, "2001:db8:1:2:ffff::1")
    assert is_served(judge, "2001:db8:1:3::1")
    assert is_served(judge, "2001:db8:1:2::77", last_ip="2001:db8:1:2::abcd")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_a_network_is_what_one_subscriber_has(address: str, network: str) -> None:
    """P-18: what is counted together."""
    assert network_of(address) == network


def test_a_flood_from_everywhere_stays_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """P-18: networks and addresses beyond the bound are forgotten, oldest first."""
    monkeypatch.setattr(admission, "MAX_NETWORKS", 100)
    monkeypatch.setattr(admission, "MAX_WALKED", 500)
    judge = Admission()
    for number in range(3000):
        walk(judge, f"2001:db8:{number:x}::1", 1, start=number)
    assert len(judge._networks) == 100
    assert len(judge._walked) == 500
