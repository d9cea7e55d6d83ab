"""What is unlike an account, and what only looks like it: every rule against histories that excuse it."""

import datetime as dt
from collections.abc import Sequence
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.audit import anomalies
from engine.audit.anomalies import Act, AnomalyKind, Hint, Refusal, Seen, SignIn, device_of, network_of

NOW = dt.datetime(2026, 11, 20, 15, 0, tzinfo=dt.UTC)
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"
NEW_YORK = ZoneInfo("America/New_York")
DAY, HOUR, MINUTE = dt.timedelta(days=1), dt.timedelta(hours=1), dt.timedelta(minutes=1)


def sign_in(ago: dt.timedelta, ip: str = "10.0.7.5", agent: str = CHROME.format(120), user: str = "user_1") -> SignIn:
    return SignIn(f"session_{ago}", NOW - ago, user, "Sam Field", ip, agent)


def office(days: int = 20, **more: str) -> list[SignIn]:
    """Once a day from one network, with a browser that updates itself; oldest first."""
    return [sign_in(DAY * ago, agent=CHROME.format(120 - ago // 7), **more) for ago in range(days, 0, -1)]


def refusal(ago: dt.timedelta, who: str = "user_1", ip: str = "203.0.113.9") -> Refusal:
    return Refusal(NOW - ago, who, ip)


def act(event: str, ago: dt.timedelta = dt.timedelta(), *, kind: str = "user", ip: str = "203.0.113.9", who: str = "1"):
    return Act(NOW - ago, event, kind, f"{kind}_{who}", f"Sam {who}", ip)


def complete(hint: Hint | None) -> Hint:
    """A hint says what, when, by what it was noticed, and which entries it rests on."""
    assert hint is not None
    assert hint.headline
    assert len(hint.evidence) >= 2
    assert all(line.endswith(".") for line in hint.evidence)
    assert parse_qs(hint.query)
    assert len(hint.key) <= 200
    assert hint.key.startswith(hint.kind.value)
    return hint


@pytest.mark.parametrize(
    ("ip", "network"),
    [("203.0.113.9", "203.0.113.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("local", ""), ("", "")],
)
def test_a_place_is_a_network(ip: str, network: str) -> None:
    assert network_of(ip) == network


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (CHROME.format(120), "Chrome on Windows"),
        (CHROME.format(99), "Chrome on Windows"),
        (FIREFOX, "Firefox on Linux"),
        (CHROME.format(120) + " Edg/120.0.0.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Mobile Safari/604.1", "Safari on iOS"),
        ("Mozilla/5.0 (Linux; Android 14) Chrome/120.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.1.2", "curl"),
        ("", "an unnamed program"),
    ],
)
def test_a_device_is_browser_and_system_whatever_their_versions(agent: str, device: str) -> None:
    assert device_of(agent) == device


def test_a_sign_in_from_a_new_network_with_a_new_browser_is_told() -> None:
    """S2-12: new network and new device, where both were the same for weeks."""
    hint = complete(anomalies.unfamiliar_sign_in(sign_in(0 * DAY, "203.0.113.9", FIREFOX), office(8), []))
    assert hint.kind is AnomalyKind.UNFAMILIAR_SIGN_IN
    assert hint.headline == "Sam Field signed in from a new network and a new browser"
    assert hint.evidence[0] == "From 203.0.113.9 with Firefox on Linux."
    assert "10.0.7.0/24" in hint.evidence[1]


@pytest.mark.parametrize(
    ("ip", "agent", "new"), [("203.0.113.9", CHROME.format(121), "network"), ("10.0.7.9", FIREFOX, "browser")]
)
def test_one_new_thing_is_told_of_who_never_changes(ip: str, agent: str, new: str) -> None:
    """S2-12: a new network alone, or a new browser alone, only where there never was another."""
    fresh = sign_in(0 * DAY, ip, agent)
    hint = complete(anomalies.unfamiliar_sign_in(fresh, office(20), []))
    assert hint.headline.endswith(f"a new {new}")
    assert anomalies.unfamiliar_sign_in(fresh, office(8), []) is None  # too short a history for one thing alone


TRAVELLER = [sign_in(DAY * ago, f"198.51.{ago}.7") for ago in range(20, 0, -1)]
EXCUSED: dict[str, tuple[Sequence[SignIn], Sequence[SignIn], SignIn]] = {
    "the same network and browser": (office(20), [], sign_in(0 * DAY)),
    "another address of the same network": (office(20), [], sign_in(0 * DAY, "10.0.7.200")),
    "a newer version of the browser": (office(20), [], sign_in(0 * DAY, agent=CHROME.format(140))),
    "the first sign-ins of all": (office(3), [], sign_in(0 * DAY, "203.0.113.9", FIREFOX)),
    "an account a few days old": (office(5), [], sign_in(0 * DAY, "203.0.113.9", FIREFOX)),
    "somebody who travels": (TRAVELLER, [], sign_in(0 * DAY, "203.0.113.9")),
    "a network that colleagues use": (
        office(20), [sign_in(DAY, "203.0.113.77", user="user_2")], sign_in(0 * DAY, "203.0.113.9"),
    ),
    "no address at all": (office(20), [], sign_in(0 * DAY, "local")),
}  # fmt: skip


@pytest.mark.parametrize("why", EXCUSED)
def test_what_is_no_news_is_not_told(why: str) -> None:
    """S2-12: few false alarms: the account's own history decides."""
    before, others, fresh = EXCUSED[why]
    assert anomalies.unfamiliar_sign_in(fresh, before, others) is None


def test_a_sign_in_after_many_refusals_is_told() -> None:
    """S2-12: success after failures, with the number, the time and whether they came from the same place."""
    refusals = [refusal(MINUTE * ago) for ago in range(9, 1, -1)]
    hint = complete(anomalies.sign_in_after_failures(sign_in(0 * DAY), refusals, office(8)))
    assert hint.headline == "Sam Field signed in after 8 refused attempts"
    assert "No refused attempt came from there." in hint.evidence[1]
    assert anomalies.sign_in_after_failures(sign_in(0 * DAY), refusals[:4], office(8)) is None


def test_who_always_mistypes_is_left_alone() -> None:
    """S2-12: the threshold is twice what this user is used to; failures before an earlier success do not count."""
    before = office(8)
    clumsy = [Refusal(one.at - MINUTE * n, "user_1", "10.0.7.5") for one in before for n in range(4, 0, -1)]
    fresh = [refusal(MINUTE * ago) for ago in range(8, 0, -1)]
    assert anomalies.sign_in_after_failures(sign_in(0 * DAY), [*clumsy, *fresh], before) is None
    more = [refusal(MINUTE * ago) for ago in range(10, 0, -1)]
    assert anomalies.sign_in_after_failures(sign_in(0 * DAY), [*clumsy, *more], before) is not None
    since = [*before, sign_in(MINUTE * 3)]
    assert anomalies.sign_in_after_failures(sign_in(0 * DAY), fresh, since) is None


def test_passwords_of_many_people_tried_from_one_network_are_told_once() -> None:
    """S2-12: one network, many people, within an hour; not one person often, nor many over days."""
    spray = [refusal(MINUTE * ago, f"user_{ago}", f"203.0.113.{ago}") for ago in range(8, 0, -1)]
    (hint,) = anomalies.passwords_tried(spray, [])
    assert complete(hint).headline == "Passwords of 8 people were tried from one network"
    assert anomalies.passwords_tried([refusal(MINUTE * ago) for ago in range(50, 0, -1)], []) == []
    assert anomalies.passwords_tried([refusal(DAY * ago, f"user_{ago}") for ago in range(20, 0, -1)], []) == []
    usual = [refusal(DAY * 3 + MINUTE * ago, f"user_{ago}") for ago in range(6, 0, -1)]
    assert anomalies.passwords_tried(spray, usual) == []


def test_a_mass_deletion_is_told_with_what_was_deleted() -> None:
    """S2-12: far more in ten minutes than anybody here ever deleted."""
    acts = [act("phone.delete", MINUTE * 5 - dt.timedelta(seconds=n)) for n in range(30)]
    (hint,) = anomalies.mass_deletion([*acts, act("line.delete")], {})
    assert complete(hint).headline == "Sam 1 deleted 31 things within ten minutes"
    assert "30 of phone, 1 of line" in hint.evidence[0]
    assert anomalies.mass_deletion(acts[:9], {}) == []
    slow = [act("phone.delete", MINUTE * 11 * n) for n in range(30, 0, -1)]
    assert anomalies.mass_deletion(slow, {}) == []
    habit = {"user_2": [NOW - DAY - dt.timedelta(seconds=n) for n in range(12, 0, -1)]}
    assert anomalies.mass_deletion(acts, habit) == []
    assert anomalies.mass_deletion([act("phone.delete", kind="system") for _ in range(30)], {}) == []


def test_a_secret_shown_at_a_new_network_is_told() -> None:
    """S2-12: the acts of the last day are no history: a thief's first hour must not excuse the second."""
    reveal = act("provisioning_token.reveal")
    home = [Seen(NOW - DAY * ago, "10.0.7.5") for ago in range(30, 0, -1)]
    thief = [Seen(NOW - MINUTE * ago, "203.0.113.9") for ago in range(40, 0, -1)]
    hint = complete(anomalies.reveal_from_new_network(reveal, [*home, *thief]))
    assert hint.headline == "Sam 1 was shown a secret at a new network"
    assert "provisioning token" in hint.evidence[0]
    assert anomalies.reveal_from_new_network(reveal, [*home, Seen(NOW - DAY * 2, "203.0.113.44")]) is None
    assert anomalies.reveal_from_new_network(reveal, home[-4:]) is None  # known for four days only
    assert anomalies.reveal_from_new_network(reveal, thief) is None
    assert anomalies.reveal_from_new_network(act("provisioning_token.reveal", ip="local"), home) is None


def test_a_key_used_from_elsewhere_is_told_where_it_has_few_places() -> None:
    """S2-12: a script runs from where it runs; a key that is used from everywhere says nothing."""
    used = act("phone.list", kind="api_key")
    home = [Seen(NOW - DAY * ago, "10.0.7.5") for ago in range(30, 0, -1)]
    assert "was used from a new network" in complete(anomalies.key_from_new_network(used, home)).headline
    everywhere = [Seen(NOW - DAY * ago, f"10.0.{ago}.5") for ago in range(30, 0, -1)]
    assert anomalies.key_from_new_network(used, everywhere) is None


def test_an_export_by_night_is_told_where_nobody_is_ever_up() -> None:
    """S2-12: the account's own zone and hours; a nightly script and a night shift are left alone."""
    night = Act(
        dt.datetime(2026, 11, 20, 7, 30, tzinfo=dt.UTC), "audit_log.export", "user", "user_1", "Sam", "10.0.7.5"
    )
    days = [NOW - DAY * (n % 28 + 1) for n in range(40)]
    hint = complete(anomalies.export_by_night(night, days, [], NEW_YORK))
    assert "02:30 America/New_York" in hint.evidence[0]
    shift = [*days, *(night.at - DAY * n for n in range(1, 6))]
    script = [Seen(night.at - DAY * n, "10.0.7.5") for n in (1, 2)]
    assert anomalies.export_by_night(night, shift, [], NEW_YORK) is None
    assert anomalies.export_by_night(night, days, script, NEW_YORK) is None
    assert anomalies.export_by_night(night, days[:10], [], NEW_YORK) is None
    assert anomalies.export_by_night(night, days, [], ZoneInfo("Asia/Tokyo")) is None  # there it is afternoon


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a machine that is busy
@given(
    st.lists(st.tuples(st.integers(1, 60 * 24 * 60), st.integers(0, 3), st.booleans()), max_size=40),
    st.integers(0, 3),
    st.booleans(),
)
def test_a_place_and_browser_seen_before_are_never_told(
    history: list[tuple[int, int, bool]], place: int, is_firefox: bool
) -> None:
    """S2-12: whatever the history, what is in it is no news."""

    def made(minutes: int, where: int, firefox: bool) -> SignIn:
        return sign_in(MINUTE * minutes, f"198.51.{where}.7", FIREFOX if firefox else CHROME.format(minutes % 90))

    before = sorted((made(*one) for one in [*history, (99_999, place, is_firefox)]), key=lambda one: one.at)
    fresh = made(0, place, is_firefox)
    assert anomalies.unfamiliar_sign_in(fresh, before, []) is None
