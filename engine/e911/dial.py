"""Is this 911, 933, urn:service:sos or neither? Pure; never raises, whatever the text.

A call is an emergency call when its Request-URI names an emergency service in any written form a phone or PBX
produces: dialled digits in a sip, sips or tel URI (RFC 3966, RFC 3261 §19.1.6), a service URN (RFC 5031), escaped,
separated or prefixed by habit.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import unquote

from engine.numbers import MAX_DIALED_CHARS, NORTH_AMERICA, SERVICE_URN, SOS_URN, Numbers, numbers_of, readings

TEST_URN = "urn:service:test.sos"
_URN = re.compile(r"\s*urn\s*:", re.IGNORECASE)
_NUMBER_SCHEMES = frozenset({"", "sip", "sips", "tel", "im", "h323", "callto"})  # RFC 3860, RFC 3508, and by habit
_MAX_KEPT_CHARS = 256  # longer URIs are classified anew each time, so that the cache below stays small under a flood


class Kind(StrEnum):
    """What a dialled URI asks for. The first two are stored names."""

    EMERGENCY = "emergency"
    TEST = "test"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Dialed:
    """`digits`: as dialled, separators gone ("9911"), or the service URN in lower case; empty when `kind` is NONE.

    `is_local`: what is dialled means this in some of the account's countries only, or is a visitor's number; `settle`
    says whether it does here.
    """

    kind: Kind
    digits: str = ""
    is_local: bool = False

    @property
    def is_emergency(self) -> bool:
        """True for a real call and for a test call alike: both take the same way to the last branch."""
        return self.kind is not Kind.NONE


NOTHING = Dialed(Kind.NONE)


def classify(request_uri: str, to: str = "", numbers: Numbers = NORTH_AMERICA) -> Dialed:
    """Say whether a request is an emergency call, a test call or neither.

    Args:
        request_uri: As received. Angle brackets, missing schemes and blanks around it are forgiven.
        to: The To header. Consulted for the digits behind a service URN (RFC 6881 §7: To holds what was dialled), and
        instead of
            a Request-URI that names no user at all; never against a Request-URI that names somebody else.
        numbers: A country's numbers, or the plan of all the account's countries.
    """
    found = _classify_uri(request_uri, numbers)
    if not to:
        return found
    if found.is_emergency:
        return _with_digits_of(found, to, numbers) if found.digits.startswith("urn:") else found
    return NOTHING if names_user(request_uri) else _classify_uri(_inside_brackets(to), numbers)


def settle(dialed: Dialed, country: str | None, *, is_extension: bool) -> Dialed:
    """What a number of some of the account's countries means where the caller is.

    A number that is an emergency elsewhere takes no call from a caller who is known to be somewhere else: 999 from the
    New York office is an extension, or nothing. What visitors dial, 112 and 911, is an emergency everywhere. With no
    better knowledge than a default it is an emergency, unless one of the account's lines has that very number.

    Args:
        country: Of the caller's location (ISO 3166 alpha-2); None when only a default or nothing is known.
        is_extension: A line of the account is called by these digits, and the request can reach it.
    """
    if not dialed.is_local:
        return dialed
    if country is None:
        return NOTHING if is_extension else dialed
    pack = numbers_of(country)
    if dialed.digits in pack.emergency_forms or pack.reserves(dialed.digits):
        return Dialed(Kind.EMERGENCY, dialed.digits)
    return Dialed(Kind.TEST, dialed.digits) if dialed.digits in pack.test_forms else NOTHING


def names_user(request_uri: str) -> bool:
    """True when the URI names somebody: `sip:101@host`, `tel:…`, any URN; false for `sip:host` alone."""
    if "@" in request_uri and "<" not in request_uri and '"' not in request_uri:  # nearly every one
        return True
    text = _inside_brackets(request_uri).lower()
    return "@" in text or "%40" in text or not text.startswith(("sip:", "sips:"))


def _with_digits_of(found: Dialed, to: str, numbers: Numbers) -> Dialed:
    dialed = _classify_uri(_inside_brackets(to), numbers)
    same_kind = dialed.kind is found.kind and not dialed.digits.startswith("urn:")
    return Dialed(found.kind, dialed.digits) if same_kind else found


def _classify_uri(uri: str, numbers: Numbers) -> Dialed:
    return _kept(uri, numbers) if len(uri) <= _MAX_KEPT_CHARS else _read(uri, numbers)


def _read(uri: str, numbers: Numbers) -> Dialed:
    text = _inside_brackets(uri)
    scheme, colon, rest = text.partition(":")
    if not colon:
        scheme, rest = "", text
    scheme = scheme.strip().lower()
    if scheme == "urn":
        return _classify_urn("urn:" + rest)
    if scheme not in _NUMBER_SCHEMES:
        # "911:5060" or "911@host:5060" with the scheme forgotten: what stands before the colon is the user or host
        rest = text if scheme[:1].isdigit() or "@" in scheme else ""
    user = rest.partition("@")[0]
    return _classify_user(user, numbers)


_kept = lru_cache(maxsize=4096)(_read)


def _classify_user(user: str, numbers: Numbers) -> Dialed:
    plain = unquote(user[: MAX_DIALED_CHARS * 3], errors="replace")
    if _URN.match(plain):  # a PBX that can only dial users: sip:urn:service:sos@host
        return _classify_urn(plain)
    for digits in readings(user):
        if digits in numbers.emergency_forms:
            return Dialed(Kind.EMERGENCY, digits, digits in numbers.local_forms)
        if digits in numbers.test_forms:
            return Dialed(Kind.TEST, digits, digits in numbers.local_forms)
        if numbers.reserves(digits):  # 911 in London, 112 in Chicago; an own line of that very number is asked for
            return Dialed(Kind.EMERGENCY, digits, is_local=True)
    return NOTHING


def _classify_urn(text: str) -> Dialed:
    """RFC 5031 §4.2: labels compare without case; `sos.x` for an unknown x is still `sos`. What is no label at all is
    left out: it could not stand in a request line.
    """
    named = SERVICE_URN.match(unquote(text[: MAX_DIALED_CHARS * 3], errors="replace"))
    if named is None:
        return NOTHING
    labels = named[2].lower()
    return Dialed(Kind.TEST, TEST_URN + labels) if named[1] else Dialed(Kind.EMERGENCY, SOS_URN + labels)


def _inside_brackets(text: str) -> str:
    """The URI of a name-addr, or the text itself; a display name such as "911" <sip:101@host> does not count."""
    text = text.strip()
    if text.startswith('"'):
        text = text[text.find('"', 1) + 1 :]
    opening = text.find("<")
    if opening < 0:
        return text
    return text[opening + 1 :].partition(">")[0].strip()
