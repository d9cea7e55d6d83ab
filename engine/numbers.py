"""Emergency numbers by country, and E.164: what provisioning, accounts and e911 all need to know about numbers. Pure.

A country's emergency numbers are a `NumberPack`: data. A prefix slip is an emergency number dialled behind an
outside-line digit or a country code by habit or by a dial rule (9911, 1911, +1911); people and PBXs produce them, so
they count as the number itself.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from typing import NewType

E164 = NewType("E164", str)
"""A number of the form +<country code><subscriber>, at most 15 digits (ITU-T E.164 §6.2)."""

MAX_DIALED_CHARS = (
    64  # no emergency number, slip included, is longer than 9; dial patterns of phones and PBXs stay below this
)
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SEPARATORS = str.maketrans("", "", " -.()\u00a0\u2010\u2011\u2012\u2013")
_DIGITS = frozenset("0123456789*#+")


@dataclass(frozen=True, slots=True)
class NumberPack:
    """What one country dials in an emergency.

    `slips` are prefixes that count as a mistake in front of an emergency or test number. `also_reserved` are
    emergency numbers of visitors: no extension may take them, but they are not dialled here by the law of this country.
    """

    countries: frozenset[str]
    emergency: frozenset[str]
    test: frozenset[str]
    slips: tuple[str, ...]
    also_reserved: frozenset[str] = frozenset({"112"})
    # made once from the above: every dialled form that means emergency or test
    emergency_forms: frozenset[str] = field(init=False)
    test_forms: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "emergency_forms", _with_slips(self.emergency, self.slips))
        object.__setattr__(self, "test_forms", _with_slips(self.test, self.slips))


def _with_slips(numbers: frozenset[str], slips: tuple[str, ...]) -> frozenset[str]:
    return numbers | {slip + number for slip in slips for number in numbers}


# "+911" is what a PBX makes of 911 when it puts "+" before everything; no country owns a three-digit number behind it.
NORTH_AMERICA = NumberPack(
    countries=frozenset({"US", "CA"}),
    emergency=frozenset({"911"}),
    test=frozenset({"933"}),
    slips=("9", "1", "+1", "+"),
)
PACKS: tuple[NumberPack, ...] = (NORTH_AMERICA,)
_PACK_OF = {country: pack for pack in PACKS for country in pack.countries}


def numbers_of(country: str) -> NumberPack:
    """The country's pack (ISO 3166 alpha-2); a country without one is served by the North American pack."""
    return _PACK_OF.get(country.upper(), NORTH_AMERICA)


def plain_digits(dialed: str) -> str:
    """The digits of something dialled: compatibility forms of digits made plain, visual separators (RFC 3966 §5.1.1)
    dropped.

    Anything else stays, so that `911x` never becomes `911`.
    """
    if dialed.isascii():
        return dialed if dialed.isalnum() else dialed.translate(_SEPARATORS)
    return unicodedata.normalize("NFKC", dialed).translate(_SEPARATORS)


def shadowed_emergency_number(extension: str, country: str = "US") -> str | None:
    """The emergency number that this extension or dial pattern equals or captures, or None.

    Patterns are read as PBXs and phones write them: `X` 0-9, `Z` 1-9, `N` 2-9, `[2-9]` a set, `.` one or more, `!`
    none or more of anything, a leading `_` as in Asterisk. A guard for provisioning and accounts: what it names must
    be refused.
    """
    pattern = plain_pattern(extension)
    if pattern is None:
        return next(iter(sorted(numbers_of(country).emergency)))
    pack = numbers_of(country)
    reserved = pack.emergency_forms | pack.test_forms | pack.also_reserved | {f"+{n}" for n in pack.also_reserved}
    for number in sorted(reserved, key=lambda n: (len(n), n)):
        if _captures(pattern, number):
            return number
    return None


def could_shadow_emergency(extension: str, country: str = "US") -> bool:
    """True when this extension or dial pattern would take calls meant for an emergency or test number."""
    return shadowed_emergency_number(extension, country) is not None


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
    # read here: the table of all countries takes 70 ms to load, and the SIP process needs none of it
    import phonenumbers

    if not text or len(text) > MAX_DIALED_CHARS:
        return None
    try:
        parsed = phonenumbers.parse(text, country.upper())
    except phonenumbers.NumberParseException:
        return None
    if parsed.extension or not phonenumbers.is_possible_number(parsed) or not phonenumbers.is_valid_number(parsed):
        return None
    return E164(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))
