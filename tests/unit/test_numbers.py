"""Emergency numbers by country, what may not be an extension, and E.164."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.e911.dial import classify
from engine.numbers import (
    NORTH_AMERICA,
    PACKS,
    is_e164,
    numbers_of,
    parse_e164,
    plain_digits,
    plan_of,
    shadowed_emergency_number,
)
from engine.provisioning.phone_rules import extension_faults, sip_user_faults


@pytest.mark.parametrize("country", ["US", "us", "CA", "ZZ", ""])
def test_every_country_has_numbers_of_its_own_or_the_north_american_ones(country):
    assert numbers_of(country) is NORTH_AMERICA


@pytest.mark.parametrize(
    "extension",
    [
        "911",
        "933",
        "9911",
        "1911",
        "+1911",
        "9933",
        "112",
        "9-1-1",
        " 911 ",
        "\uff19\uff11\uff11",
        "9.1.1",
        "+911",
        "(911)",
        "+112",
    ],
)
def test_an_extension_that_is_an_emergency_number_is_refused(extension):
    """E-01: nothing can shadow an emergency number."""
    assert shadowed_emergency_number(extension) is not None


WRITTEN = [
    "911", "%3911", "9%31%31", "%39%31%31", "911;x=1", "911;phone-context=+1", "911@pbx.example", "%2B1911@x", "911#",
    "911##", "911?x", "911:secret", "9%2D1-1", "933;npdi", "9911;a@b", "urn:service:sos", "URN%3Aservice:sos.fire",
    "urn:service:test.sos", "*67911", "9,911", "911,22", "+9911", "++911", "tel:911", "911%40x", "/911/",
    "urn:service:sos/x", "101", "101@pbx.example", "101;x=911", "%39%31%31%31", "bob", "bob@911.example", "9112",
]  # fmt: skip


@pytest.mark.parametrize("user", WRITTEN)
def test_the_guard_reads_a_number_as_the_classifier_does(user):
    """E-01: what a request for it would be taken for is what it may not be; nothing else is kept from anybody."""
    is_taken = classify(f"sip:{user}@192.0.2.10").is_emergency
    assert is_taken == (WRITTEN.index(user) < WRITTEN.index("101"))
    assert (shadowed_emergency_number(user) is not None) == is_taken
    assert bool(sip_user_faults(user, ["US"])) == (is_taken or "#" in user or ":" in user)
    assert extension_faults(user, ["US"]) or not is_taken


@given(st.text("91+%3@;#?:.-sourn *67,/", max_size=12))
def test_nothing_the_classifier_takes_gets_past_the_guard(user):
    """E-01: whatever the spelling."""
    if classify(f"sip:{user}@192.0.2.10").is_emergency:
        assert shadowed_emergency_number(user) is not None


@pytest.mark.parametrize(
    ("pattern", "captured"),
    [
        ("_9XX", "911"), ("9xx", "911"), ("[1-9]11", "911"), ("_X.", "112"), ("_.", "112"), ("9.", "911"), ("_9!",
        "911"),
        ("_N11", "911"), ("_ZXX", "112"), ("_[89]33", "933"), ("_1911", "1911"), ("_9[19]1X", "9911"), ("_+X.", "+112"),
        ("_!", "112"), ("93!", "933"),
    ],
)  # fmt: skip
def test_a_pattern_that_captures_an_emergency_number_is_refused(pattern, captured):
    """E-01: nor can a dial rule."""
    assert shadowed_emergency_number(pattern) == captured


@pytest.mark.parametrize(
    "extension",
    ["101", "9112", "9110", "912", "91", "9", "0911", "_2XX", "_N12", "[1-8]00", "alex", "john.doe",
    "_1NXXNXXXXXX", "_9112", "", "1112"],
)  # fmt: skip
def test_other_extensions_and_patterns_are_free(extension):
    """E-01: the guard takes no number away that an emergency does not need."""
    assert shadowed_emergency_number(extension) is None


def test_what_is_too_long_to_be_judged_is_refused():
    assert shadowed_emergency_number("_" + "X" * 100) is not None


@given(st.text(max_size=80))
def test_no_text_makes_the_guard_raise(text):
    assert isinstance(shadowed_emergency_number(text), str | None)


@given(st.sampled_from(["911", "933", "112", "9911", "1911"]), st.data())
def test_any_pattern_made_wider_from_an_emergency_number_is_refused(number, data):
    """E-01: whichever digits are replaced by a wildcard that fits them."""
    wild = {
        "0": ["X"],
        "1": ["X", "Z", "[0-1]"],
        "2": ["X", "Z", "N", "[12]"],
        "3": ["X", "N"],
        "9": ["X", "Z", "N", "[2-9]"],
    }
    steps = [data.draw(st.sampled_from([digit, *wild[digit]])) for digit in number]
    assert shadowed_emergency_number("_" + "".join(steps)) is not None


@pytest.mark.parametrize(
    ("dialed", "digits"), [("9-1-1", "911"), ("(9)1.1", "911"), ("911x", "911x"), ("9 1\u00a01", "911")]
)
def test_separators_are_dropped_and_nothing_else(dialed, digits):
    assert plain_digits(dialed) == digits


@pytest.mark.parametrize(
    ("text", "country", "expected"),
    [
        ("+1 (518) 555-0123", "US", "+15185550123"),
        ("518-555-0123", "US", "+15185550123"),
        ("1 518 555 0123", "CA", "+15185550123"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("911", "US", None),
        ("933", "US", None),
        ("", "US", None),
        ("x" * 200, "US", None),
        ("+15185550123 ext. 4", "US", None),
        ("+1555", "US", None),
        ("hello", "US", None),
    ],
)
def test_numbers_are_read_as_they_are_dialled(text, country, expected):
    """Callback numbers are kept in E.164 form; what reaches nobody back is refused."""
    assert parse_e164(text, country) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("+15185550123", True), ("15185550123", False), ("+0123456789", False), ("+1", False)]
)
def test_the_written_form_is_told_apart(text, expected):
    assert is_e164(text) is expected


@given(st.text(max_size=100))
def test_no_text_makes_the_number_reader_raise(text):
    found = parse_e164(text)
    assert found is None or is_e164(found)


# ------------------------------------------------------------------------------------------ packs

# what libphonenumber calls an emergency number and we do not: mobile-only spellings, and numbers withdrawn since
WITHDRAWN = {
    "DK": {"114"}, "HR": {"93", "94"}, "LV": {"01", "02", "03"}, "PT": {"115"}, "NL": {"911"},
    "LT": {"01", "02", "03", "011", "022", "033", "101", "102", "103"}, "SE": {"90000"}, "US": {"112"}, "CA": {"112"},
    "CZ": {"151", "152", "153", "154", "157", "159"},
}  # fmt: skip
FROM_THE_STATES_ALONE = {"140", "195", "196", "108", "1530", "061", "062", "080", "091", "092", "18000"}


@pytest.mark.parametrize("country", sorted(country for pack in PACKS for country in pack.countries))
def test_the_packs_agree_with_libphonenumbers_list(country):
    """E-01: an independent list of every country's emergency numbers has ours and, but for known ones, no more."""
    import phonenumbers

    pack = numbers_of(country)
    ours = pack.emergency - FROM_THE_STATES_ALONE - ({"112"} if country == "IM" else set())
    assert all(phonenumbers.is_emergency_number(number, country) for number in ours)
    digits = [f"{number:0{width}}" for width in (2, 3) for number in range(10**width)]
    theirs = {number for number in digits if phonenumbers.is_emergency_number(number, country)}
    assert theirs - WITHDRAWN.get(country, set()) <= pack.emergency


@pytest.mark.parametrize("pack", PACKS, ids=lambda pack: "-".join(sorted(pack.countries)))
def test_a_pack_is_consistent(pack):
    """E-01: what is sent is a number of the country, and no slip of one number is another number."""
    assert pack.primary in pack.emergency
    assert set(pack.services) <= pack.emergency
    assert not pack.emergency & pack.test
    assert not pack.emergency_forms & pack.test_forms
    assert not pack.also_reserved & pack.emergency
    assert pack.also_reserved <= {"112", "911"}
    assert pack.also_reserved | pack.emergency >= {"112", "911"}  # 3GPP TS 22.101 §10.1.1
    for form in pack.emergency_forms | pack.test_forms:
        sent = pack.number_for(form)
        assert sent in pack.emergency | pack.test
        assert pack.number_for(sent) == sent
    for number in pack.emergency | pack.test:
        assert pack.number_for(number) == pack.sent_as.get(number, number)


@pytest.mark.parametrize(
    ("country", "dialed", "number", "service"),
    [
        ("US", "911", "911", "urn:service:sos"),
        ("US", "9911", "911", "urn:service:sos"),
        ("US", "933", "933", "urn:service:sos"),
        ("US", "112", "911", "urn:service:sos"),
        ("US", "urn:service:sos.police", "911", "urn:service:sos"),
        ("GB", "112", "112", "urn:service:sos"),
        ("GB", "9999", "999", "urn:service:sos"),
        ("GB", "911", "999", "urn:service:sos"),
        ("GB", "urn:service:sos", "999", "urn:service:sos"),
        ("FR", "15", "15", "urn:service:sos.ambulance"),
        ("FR", "015", "15", "urn:service:sos.ambulance"),
        ("FR", "+3315", "15", "urn:service:sos.ambulance"),
        ("FR", "urn:service:sos.fire", "18", "urn:service:sos"),
        ("FR", "urn:service:sos.gas", "112", "urn:service:sos"),
        ("DE", "0110", "110", "urn:service:sos.police"),
        ("AU", "0000", "000", "urn:service:sos"),
        ("AU", "112", "000", "urn:service:sos"),
        ("AU", "106", "106", "urn:service:sos"),
        ("NZ", "1111", "111", "urn:service:sos"),
        ("NZ", "112", "111", "urn:service:sos"),
    ],
)
def test_a_trunk_is_sent_the_number_its_country_knows(country, dialed, number, service):
    """E-01, E-07: slips taken off, visitors' numbers and URNs translated, a single service's number kept."""
    assert numbers_of(country).number_for(dialed) == number
    assert numbers_of(country).service_of(dialed) == service


def test_a_plan_is_one_object_for_the_same_countries_and_knows_what_is_local():
    """E-01: an account with offices abroad has all their numbers; what they share means the same everywhere."""
    plan = plan_of(["US", "GB", "US", "CA", ""])
    assert plan is plan_of(["us", "gb"])
    assert [pack.primary for pack in plan.packs] == ["911", "999"]
    assert {"911", "999", "112", "9112"} <= plan.emergency_forms
    assert {"911", "999", "933"} <= plan.local_forms
    assert plan_of(["FR", "DE"]).local_forms.isdisjoint({"112", "0112", "+112"})
    assert plan_of(["US"]).local_forms == frozenset()
    assert plan_of([]).packs == (NORTH_AMERICA,)


@pytest.mark.parametrize(
    ("extension", "countries", "taken"),
    [
        ("111", ["US"], None),
        ("111", ["US", "NZ"], "111"),
        ("999", ["US"], None),
        ("999", ["US", "GB"], "999"),
        ("9999", ["GB"], "9999"),
        ("15", ["US", "FR"], "15"),
        ("0112", ["DE"], "0112"),
        ("911", ["GB"], "911"),
        ("_1XX", ["GB"], "112"),
        ("_1XX", ["US", "NZ"], "111"),
        ("101", ["GB", "NZ", "AU"], None),
        ("106", ["AU"], "106"),
    ],
)
def test_the_guard_keeps_the_numbers_of_every_country_of_the_account(extension, countries, taken):
    """E-01: an extension is refused that any office's phones would dial in an emergency."""
    assert shadowed_emergency_number(extension, countries) == taken


@pytest.mark.parametrize("country", sorted(country for pack in PACKS for country in pack.countries))
def test_numbers_are_dialled_as_libphonenumber_says(country):
    """E-09: calling code, national and international prefix of each country."""
    from phonenumbers import PhoneMetadata

    pack, theirs = numbers_of(country), PhoneMetadata.metadata_for_region(country)
    assert pack.calling_code == str(theirs.country_code)
    assert pack.national_prefix == ("" if country in {"US", "CA"} else theirs.national_prefix or "")
    assert re.fullmatch(theirs.international_prefix, pack.international_prefix)
    assert theirs.preferred_international_prefix in {None, pack.international_prefix}


@given(st.text("0123456789", max_size=20))
def test_what_is_dialled_is_read_as_e164_or_as_nothing(digits):
    for pack in PACKS:
        found = pack.e164_of(digits)
        assert found is None or is_e164(found)
