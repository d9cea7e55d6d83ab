"""Emergency numbers by country, and E.164: what provisioning, accounts and e911 all need to know about numbers. Pure.

A country's emergency numbers are a `NumberPack`: data. A prefix slip is an emergency number dialled behind an
outside-line digit or a country code by habit or by a dial rule (9911, 1911, +1911); people and PBXs produce them, so
they count as the number itself. A `NumberPlan` is all that an account's phones may dial: the packs of every country
it has a location in. Which of them counts for one call is told by the caller's location (`dial.settle`).
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NewType
from urllib.parse import unquote

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

E164 = NewType("E164", str)
"""A number of the form +<country code><subscriber>, at most 15 digits (ITU-T E.164 §6.2)."""

MAX_DIALED_CHARS = (
    64  # no emergency number, slip included, is longer than 9; dial patterns of phones and PBXs stay below this
)
SOS_URN = "urn:service:sos"  # RFC 5031 §4.2, and its sub-services
AMBULANCE, FIRE, MARINE, MOUNTAIN, POLICE = (
    f"{SOS_URN}.{service}" for service in ("ambulance", "fire", "marine", "mountain", "police")
)
# RFC 5031 §4.1: labels of letters, digits and hyphens; whatever else follows is none and takes nothing away.
SERVICE_URN = re.compile(r"\s*urn\s*:\s*service\s*:\s*(test\.)?sos(?![\w-])((?:\.[a-z0-9-]+)*)", re.IGNORECASE)
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SEPARATORS = str.maketrans("", "", " -.()\t")
_WRAPPING = " \t\r\n\0\"'<>[]{}/\\,"  # around a number that was pasted or written by a program: nobody dials it
_NESTED = re.compile(r"\s*(?:sips?|tel)\s*:", re.IGNORECASE)
# Show or withhold the caller's number for one call, in North America and by 3GPP TS 22.030 §6.5.5. A call for help
# behind one is a call for help (47 CFR § 64.1601(d)(4)(ii): there nobody's number is withheld).
_CALLER_ID_CODES = ("*67", "*82", "*31#", "#31#")
_UNSEEN, _DASH, _MINUS = "Cf", "Pd", "\u2212"  # categories of Unicode: marks that no reader sees, dashes
_DIGITS = frozenset("0123456789*#+")


@dataclass(frozen=True, slots=True, eq=False)
class NumberPack:
    """What one country dials in an emergency.

    `primary` is the number for a call that names none of them: a service URN, a visitor's number. `slips` are
    prefixes that count as a mistake in front of an emergency or test number. `also_reserved` are emergency numbers of
    visitors, 112 and 911 wherever they are not the country's own: they are not dialled here by its law, but no
    extension may take them, nothing else has them, and every mobile takes them for what they are (3GPP TS 22.101
    §10.1.1), so a call to one is an emergency call (docs/decisions/0037). `services`: the
    numbers that reach one service alone. `sent_as`: a number that mobiles dial and landlines do not carry, and the one
    that does. No `test`: nothing is set aside for tests there, and `urn:service:test.sos` is what to call.
    `calling_code`, `national_prefix` and `international_prefix`: how subscribers' numbers are dialled there (ITU-T
    E.164 §7.3; libphonenumber's metadata, to which a test holds them). Without a national prefix the whole national
    number is always dialled.
    """

    countries: frozenset[str]
    primary: str
    emergency: frozenset[str]
    test: frozenset[str]
    slips: tuple[str, ...]
    also_reserved: frozenset[str] = frozenset({"112"})
    services: Mapping[str, str] = field(default_factory=dict)
    sent_as: Mapping[str, str] = field(default_factory=dict)
    calling_code: str = "1"
    national_prefix: str = ""
    international_prefix: str = "00"
    # made once from the above: every dialled form that means emergency or test
    emergency_forms: frozenset[str] = field(init=False)
    test_forms: frozenset[str] = field(init=False)
    local_forms: frozenset[str] = field(init=False, default=frozenset())
    _stands_for: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "emergency_forms", _with_slips(self.emergency, self.slips))
        object.__setattr__(self, "test_forms", _with_slips(self.test, self.slips))
        numbers = sorted(self.emergency | self.test)
        # a number as it is dialled comes before the same digits behind a slip
        forms = {slip + number: number for slip in self.slips for number in numbers}
        object.__setattr__(self, "_stands_for", forms | {number: number for number in numbers})

    def number_for(self, dialed: str) -> str:
        """The number that a trunk in this country carries for something dialled: `9911` gives `911`, a service URN
        the number of that service, anything else the primary number.

        Args:
            dialed: digits without separators, or a service URN in lower case (`Dialed.digits`).
        """
        number = self._stands_for.get(dialed)
        if number is not None:
            return self.sent_as.get(number, number)
        return next((number for number, service in self.services.items() if service == dialed), self.primary)

    def service_of(self, dialed: str) -> str:
        """The service URN (RFC 5031) of something dialled: `urn:service:sos` unless the number is one service's
        alone.
        """
        return self.services.get(self._stands_for.get(dialed, dialed), SOS_URN)

    def e164_of(self, digits: str) -> str | None:
        """A subscriber's number dialled in this country, in E.164 form; None when it is in neither its international
        nor its national form. Whether anybody has it is not asked: `parse_e164` is for what people enter.
        """
        national, code = digits, self.calling_code
        if digits.startswith(self.international_prefix):
            national, code = digits.removeprefix(self.international_prefix), ""
        elif self.national_prefix:
            if not digits.startswith(self.national_prefix):
                return None
            national = digits.removeprefix(self.national_prefix)
        number = f"+{code}{national}"
        return number if is_e164(number) else None

    def reserves(self, digits: str) -> bool:
        """Whether these digits are an emergency number of visitors, and nothing else here."""
        return digits in self.also_reserved or (digits[:1] == "+" and digits[1:] in self.also_reserved)


@dataclass(frozen=True, slots=True, eq=False)
class NumberPlan:
    """The packs of an account's countries, its own country's first. Compared by identity: `plan_of` gives one object
    for the same countries.
    """

    packs: tuple[NumberPack, ...]
    emergency_forms: frozenset[str] = field(init=False)
    test_forms: frozenset[str] = field(init=False)
    local_forms: frozenset[str] = field(init=False)
    _visitors: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        emergency = frozenset().union(*(pack.emergency_forms for pack in self.packs))
        test = frozenset().union(*(pack.test_forms for pack in self.packs))
        kinds = ([pack.emergency_forms for pack in self.packs], [pack.test_forms for pack in self.packs])
        shared = frozenset().union(*(forms[0].intersection(*forms[1:]) for forms in kinds))
        object.__setattr__(self, "emergency_forms", emergency)
        object.__setattr__(self, "test_forms", test - emergency)
        object.__setattr__(self, "local_forms", (emergency | test) - shared)
        visitors = frozenset().union(*(pack.also_reserved for pack in self.packs))
        object.__setattr__(self, "_visitors", visitors | {f"+{number}" for number in visitors})

    def reserves(self, digits: str) -> bool:
        """Whether these digits are an emergency number of visitors in some of the countries."""
        return digits in self._visitors

    def pack_of(self, dialed: str, own: NumberPack) -> NumberPack:
        """Whose number was dialled, of a caller of whom no place is known: the account's own country's wherever it has
        such a number, as its own or a visitor's, else the first country's that has it.
        """
        if own.reserves(dialed) or dialed.startswith("urn:"):
            return own
        packs = (own, *self.packs)
        return next((pack for pack in packs if dialed in pack.emergency_forms or dialed in pack.test_forms), own)


Numbers = NumberPack | NumberPlan
"""What the classifier asks. `local_forms`: dialled forms that mean this in some of the countries only."""


def _with_slips(numbers: frozenset[str], slips: tuple[str, ...]) -> frozenset[str]:
    return numbers | {slip + number for slip in slips for number in numbers}


# "+911" is what a PBX makes of 911 when it puts "+" before everything; no country owns a three-digit number behind it.
NORTH_AMERICA = NumberPack(
    countries=frozenset({"US", "CA"}),
    primary="911",
    emergency=frozenset({"911"}),
    test=frozenset({"933"}),
    slips=("9", "1", "+1", "+"),
    international_prefix="011",
)
# Ofcom, General Condition A3: 999 and 112, and 18000 for text relay. 111 is medical advice and 101 the police, both
# for what is no emergency. 9 is the usual outside line.
GREAT_BRITAIN = NumberPack(
    countries=frozenset({"GB", "GG", "JE", "IM"}),
    primary="999",
    emergency=frozenset({"999", "112", "18000"}),
    test=frozenset(),
    slips=("9", "+44", "+"),
    also_reserved=frozenset({"911"}),
    calling_code="44",
    national_prefix="0",
)
# ACMA, Telecommunications (Emergency Call Service) Determination 2019: 000, 106 for text telephones, 112 from mobiles
# alone. 0 is the usual outside line.
AUSTRALIA = NumberPack(
    countries=frozenset({"AU"}),
    primary="000",
    emergency=frozenset({"000", "106", "112"}),
    test=frozenset(),
    slips=("0", "+61", "+"),
    also_reserved=frozenset({"911"}),
    calling_code="61",
    national_prefix="0",
    international_prefix="0011",
    sent_as={"112": "000"},
)
# New Zealand Police: 111; 112 and 911 are carried from some mobiles. 1 and 0 are the usual outside lines.
NEW_ZEALAND = NumberPack(
    countries=frozenset({"NZ"}),
    primary="111",
    emergency=frozenset({"111"}),
    test=frozenset(),
    slips=("1", "0", "+64", "+"),
    also_reserved=frozenset({"112", "911"}),
    calling_code="64",
    national_prefix="0",
)
# 112 is every member state's by Directive (EU) 2018/1972, art. 109; Iceland, Liechtenstein, Norway and Switzerland have
# it too. Beside it, the national numbers that reach the same services: those of libphonenumber's metadata for short
# numbers (a test compares the two), with the service each reaches from the states' own pages. Marked *: from those
# pages alone.
_EUROPE: dict[str, tuple[str, dict[str, str]]] = {
    "AT": ("43", {"122": FIRE, "133": POLICE, "144": AMBULANCE, "140": MOUNTAIN}),  # * 140
    "BE": ("32", {"100": SOS_URN, "101": POLICE}),  # 100: ambulance and fire brigade
    "BG": ("359", {"150": AMBULANCE, "160": FIRE, "166": POLICE}),
    "HR": ("385", {"192": POLICE, "193": FIRE, "194": AMBULANCE, "195": MARINE}),  # * 195
    "CY": ("357", {"199": SOS_URN}),
    "CZ": ("420", {"150": FIRE, "155": AMBULANCE, "156": POLICE, "158": POLICE}),
    "DK": ("45", {}),
    "EE": ("372", {"110": POLICE}),
    "FI": ("358", {}),
    "FR": ("33", {"15": AMBULANCE, "17": POLICE, "18": FIRE, "196": MARINE}),  # * 196
    "DE": ("49", {"110": POLICE}),
    "GR": ("30", {"100": POLICE, "108": MARINE, "166": AMBULANCE, "199": FIRE}),  # * 108
    "HU": ("36", {"104": AMBULANCE, "105": FIRE, "107": POLICE}),
    "IE": ("353", {"999": SOS_URN}),
    "IT": ("39", {"113": POLICE, "115": FIRE, "118": AMBULANCE, "1530": MARINE}),  # * 1530
    "LV": ("371", {"110": POLICE, "113": AMBULANCE}),
    "LT": ("370", {}),
    "LU": ("352", {"113": POLICE}),
    "MT": ("356", {}),
    "NL": ("31", {}),
    "PL": ("48", {"997": POLICE, "998": FIRE, "999": AMBULANCE}),
    "PT": ("351", {}),
    "RO": ("40", {}),
    "SK": ("421", {"150": FIRE, "155": AMBULANCE, "158": POLICE}),
    "SI": ("386", {"113": POLICE}),
    "ES": (
        "34",
        {"061": AMBULANCE, "062": POLICE, "080": FIRE, "085": FIRE, "088": POLICE, "091": POLICE, "092": POLICE},
    ),  # * 06x, 09x
    "SE": ("46", {}),
    "IS": ("354", {}),
    "LI": ("423", {"117": POLICE, "118": FIRE, "144": AMBULANCE}),
    "NO": ("47", {"110": FIRE, "113": AMBULANCE}),
    "CH": ("41", {"117": POLICE, "118": FIRE, "144": AMBULANCE}),
}


_WITHOUT_PREFIX = ("CY", "CZ", "DK", "EE", "GR", "IT", "LV", "LU", "MT", "PL", "PT", "ES", "IS", "NO")
_NATIONAL_PREFIXES = dict.fromkeys(_WITHOUT_PREFIX, "") | {"HU": "06"}


def _european(country: str, calling_code: str, national: Mapping[str, str]) -> NumberPack:
    """0 is the usual outside line; Ireland's PBXs use 9 as well."""
    return NumberPack(
        countries=frozenset({country}),
        primary="112",
        emergency=frozenset({"112", *national}),
        test=frozenset(),
        slips=("0", *(("9",) if country == "IE" else ()), f"+{calling_code}", "+"),
        also_reserved=frozenset({"911"}),
        services={number: urn for number, urn in national.items() if urn != SOS_URN},
        calling_code=calling_code,
        national_prefix=_NATIONAL_PREFIXES.get(country, "0"),
    )


PACKS: tuple[NumberPack, ...] = (
    NORTH_AMERICA,
    GREAT_BRITAIN,
    AUSTRALIA,
    NEW_ZEALAND,
    *(_european(country, *facts) for country, facts in _EUROPE.items()),
)
_PACK_OF = {country: pack for pack in PACKS for country in pack.countries}


def numbers_of(country: str) -> NumberPack:
    """The country's pack (ISO 3166 alpha-2); a country without one is served by the North American pack."""
    return _PACK_OF.get(country.upper(), NORTH_AMERICA)


PRIMARIES = frozenset(pack.primary for pack in PACKS)
"""What people who are used to it dial for help wherever they are: 000, 111, 112, 911, 999."""

UNTESTABLE = frozenset(country for pack in PACKS if not pack.test for country in pack.countries)
"""Countries in which no number is set aside for test calls: 933 is an extension there, or nothing."""


def plan_of(countries: Iterable[str]) -> NumberPlan:
    """The plan of an account with places in these countries, its own first; blanks and twins are dropped."""
    packs = dict.fromkeys(numbers_of(country) for country in countries if country)
    return _plan(tuple(packs) or (NORTH_AMERICA,))


@lru_cache(maxsize=512)
def _plan(packs: tuple[NumberPack, ...]) -> NumberPlan:
    return NumberPlan(packs)


EVERYWHERE = NumberPlan(PACKS)
"""What is an emergency number anywhere: worth a look at where its caller is."""


def plain_digits(dialed: str) -> str:
    """The digits of something dialled: digits of other scripts and compatibility forms made plain, visual separators
    (RFC 3966 §5.1.1) and the unseen marks of copied text dropped.

    Anything else stays, so that `911x` never becomes `911`.
    """
    if dialed.isascii():
        return dialed if dialed.isalnum() else dialed.translate(_SEPARATORS)
    return "".join(map(_plain, unicodedata.normalize("NFKC", dialed))).translate(_SEPARATORS)


def _plain(char: str) -> str:
    if (digit := unicodedata.decimal(char, None)) is not None:
        return str(digit)
    return "" if unicodedata.category(char) in {_UNSEEN, _DASH} or char == _MINUS else char


def dialed_digits(user: str) -> str:
    """What the user part of a URI dials: escapes undone (RFC 3261 §19.1.2), without parameters, password or port, the
    key that sends, and separators. A number is read by this and nothing else, wherever it is asked what it calls
    (docs/decisions/0050).
    """
    plain = unquote(user[: MAX_DIALED_CHARS * 3], errors="replace")
    if "%" in plain:  # escaped twice, by two who passed it on
        plain = unquote(plain, errors="replace")
    if nested := _NESTED.match(plain):  # sip:tel:911@host
        plain = plain[nested.end() :]
    # a host within the user (911%40host), parameters (";phone-context=…", ";npdi"), a password or port: not dialled
    for mark in "@;?:":
        plain = plain.partition(mark)[0]
    digits = plain_digits(plain.strip(_WRAPPING).rstrip("#").strip(_WRAPPING))
    return "+" + digits.lstrip("+") if digits.startswith("++") else digits  # a rule that puts + before all, twice


def readings(user: str) -> Iterator[str]:
    """What the user part of a URI may dial, the likeliest first: `dialed_digits` behind a code that shows or withholds
    the caller's number, up to a pause, and without a + that stands before everything.

    A comma is a pause: behind the digit for a line (9,911), or before what is dialled when somebody answers (911,22).
    """
    digits = dialed_digits(user)
    for code in _CALLER_ID_CODES:
        digits = digits.removeprefix(code)
    parts = digits.split(",")
    for length in range(len(parts), 0, -1):
        reading = "".join(parts[:length])
        yield reading
        if reading.startswith("+"):  # +9911
            yield reading[1:]


def shadowed_emergency_number(extension: str, countries: str | Iterable[str] = "US") -> str | None:
    """The emergency number that this extension, SIP user or dial pattern equals or captures, or None. It is read as it
    stands and as the classifier reads a request for it.

    Patterns are read as PBXs and phones write them: `X` 0-9, `Z` 1-9, `N` 2-9, `[2-9]` a set, `.` one or more, `!`
    none or more of anything, a leading `_` as in Asterisk. A guard for provisioning and accounts: what it names must
    be refused. It keeps the numbers of every country given: a phone may be carried from one office to the next.
    """
    packs = plan_of([countries] if isinstance(countries, str) else countries).packs
    user = extension.partition("@")[0]
    pattern, dialed = plain_pattern(extension), plain_pattern(dialed_digits(user))
    if pattern is None or dialed is None or SERVICE_URN.match(unquote(extension)):
        return packs[0].primary
    called = set(readings(user))
    reserved: set[str] = set()
    for pack in packs:
        reserved |= pack.emergency_forms | pack.test_forms | pack.also_reserved | {f"+{n}" for n in pack.also_reserved}
    for number in sorted(reserved, key=lambda n: (len(n), n)):
        if number in called or _captures(pattern, number) or _captures(dialed, number):
            return number
    return None


@dataclass(frozen=True, slots=True)
class _Step:
    """One position of a dial pattern: which characters fit, whether it repeats, whether it may be absent."""

    fits: frozenset[str]
    repeats: bool = False
    optional: bool = False


_CLASSES = {
    "X": _Step(frozenset("0123456789")),
    "Z": _Step(frozenset("123456789")),
    "N": _Step(frozenset("23456789")),
    ".": _Step(_DIGITS, repeats=True),
    "!": _Step(_DIGITS, repeats=True, optional=True),
}


def plain_pattern(text: str) -> tuple[_Step, ...] | None:
    """Read an extension or dial pattern; None when it is too long to be either (and so cannot be shown to be
    harmless).
    """
    if len(text) > MAX_DIALED_CHARS:
        return None
    text = unicodedata.normalize("NFKC", text).strip()
    is_pattern = text.startswith("_") or any(char in "XxZzNn[!" for char in text) or text.endswith(".")
    if not is_pattern:
        return tuple(_Step(frozenset(char)) for char in plain_digits(text))
    return _pattern_steps(text.removeprefix("_").translate(str.maketrans("", "", " -()")))


def _pattern_steps(text: str) -> tuple[_Step, ...]:
    steps: list[_Step] = []
    at = 0
    while at < len(text):
        end = text.find("]", at) if text[at] == "[" else -1
        if end > at:
            steps.append(_Step(_set_of(text[at + 1 : end])))
            at = end + 1
            continue
        steps.append(_CLASSES.get(text[at].upper(), _Step(frozenset(text[at]))))
        at += 1
    return tuple(steps)


def _set_of(inside: str) -> frozenset[str]:
    """Members of `[2-46]`: a range by character order, anything else as itself."""
    members: set[str] = set()
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            members.update(chr(code) for code in range(ord(inside[at]), ord(inside[at + 2]) + 1))
            at += 3
        else:
            members.add(inside[at])
            at += 1
    return frozenset(members)


def _captures(pattern: tuple[_Step, ...], number: str) -> bool:
    """True when the whole number fits the pattern. All states at once, so that no pattern takes more than length x
    length.
    """
    states = _skip_optional(pattern, {0})
    for digit in number:
        after: set[int] = set()
        for state in states:
            if state < len(pattern) and digit in pattern[state].fits:
                after.add(state + 1)
                if pattern[state].repeats:
                    after.add(state)
        states = _skip_optional(pattern, after)
    return len(pattern) in states


def _skip_optional(pattern: tuple[_Step, ...], states: set[int]) -> set[int]:
    reached = set(states)
    for state in sorted(states):
        step = state
        while step < len(pattern) and pattern[step].optional:
            step += 1
            reached.add(step)
    return reached


def is_e164(text: str) -> bool:
    """True for the written form +<digits>; says nothing of whether the number is in use."""
    return _E164.fullmatch(text) is not None


def parse_e164(text: str, country: str = "US") -> E164 | None:
    """The number in E.164 form, read as it would be dialled in that country; None when it cannot be a subscriber's
    number.

    Emergency and other short numbers are None: they call nobody back.
    """
    import phonenumbers

    parsed = _subscriber(text, country)
    if parsed is None or parsed.extension:
        return None
    return E164(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


def is_telephone(text: str, country: str = "US") -> bool:
    """Whether people could dial it: a subscriber's number as read in that country, or with one's extension."""
    return _subscriber(text, country) is not None


def _subscriber(text: str, country: str) -> "PhoneNumber | None":
    # read here: the table of all countries takes 70 ms to load, and the SIP process needs none of it
    import phonenumbers

    if not text or len(text) > MAX_DIALED_CHARS:
        return None
    try:
        parsed = phonenumbers.parse(text, country.upper())
    except phonenumbers.NumberParseException:
        return None
    return parsed if phonenumbers.is_possible_number(parsed) and phonenumbers.is_valid_number(parsed) else None
