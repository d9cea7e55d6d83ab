"""What each field of a phone and of a line may hold, whoever sends it: the API, a page, a table (pure)."""

import re
from collections.abc import Sequence

from engine.errors import FieldFault
from engine.models import Placement
from engine.numbers import E164, parse_e164, shadowed_emergency_number
from engine.provisioning import fitting, vendors
from engine.provisioning.vendors import Mac

MAX_TEXT_CHARACTERS = 200
_EXTENSION = re.compile(r"[0-9A-Za-z*#+._-]{1,20}\Z")
_SIP_USER = re.compile(
    r"[A-Za-z0-9_.!~*'()&=+$,;?/%@-]{1,100}\Z"
)  # RFC 3261 §25.1 `user`, and user@domain as some PBXs want it


def mac_faults(text: str, mac: Mac | None) -> list[FieldFault]:
    """`mac`: what `vendors.parse_mac` made of the text."""
    if mac is not None:
        return []
    return [FieldFault("mac", f"Expected a MAC address such as 80:5e:c0:12:34:56, got {text[:40]!r}.")]


def model_faults(vendor: str, model: str) -> list[FieldFault]:
    """What is wrong with a vendor's name, or with a model of that vendor in any spelling."""
    profiles = vendors.known().profiles
    profile = profiles.get(vendor)
    if profile is None:
        return [FieldFault("vendor", f"Expected one of {', '.join(profiles)}, got {vendor[:40]!r}.")]
    if profile.model(model) is None:
        known = ", ".join(profile.models)
        return [FieldFault("model", f"Expected a {profile.title} model ({known}), got {model[:40]!r}.")]
    return []


def text_faults(name: str, text: str) -> list[FieldFault]:
    """A line break here could become a second setting on the phone; the renderer would refuse it, so it is refused
    now.
    """
    if len(text) <= MAX_TEXT_CHARACTERS and text.isprintable():
        return []
    return [FieldFault(name, f"Expected at most {MAX_TEXT_CHARACTERS} printable characters.")]


def format_faults(name: str, vendor: str, text: str) -> list[FieldFault]:
    """What that vendor's file format cannot hold of a text; nothing for a vendor that is none."""
    profile = vendors.known().profiles.get(vendor)
    told = fitting.fault(profile.title, text, profile.refused) if profile is not None else ""
    return [FieldFault(name, told)] if told else []


def line_format_faults(at: str, vendor: str, extension: str, display_name: str, secret: str | None) -> list[FieldFault]:
    """As `format_faults`, of a stored line that is put on a phone; `at`: where the request names it."""
    return [
        FieldFault(at, f"The {what} of line {extension}: {fault.detail}")
        for what, text in (("display name", display_name), ("secret", secret or ""))
        for fault in format_faults(at, vendor, text)
    ]


def extension_faults(text: str, countries: Sequence[str]) -> list[FieldFault]:
    return _number_faults("extension", text, _EXTENSION, countries)


def sip_user_faults(text: str, countries: Sequence[str]) -> list[FieldFault]:
    """Empty is good: it is the extension then."""
    return _number_faults("sip_user", text, _SIP_USER, countries) if text else []


def _number_faults(name: str, text: str, shape: re.Pattern[str], countries: Sequence[str]) -> list[FieldFault]:
    if not shape.match(text):
        return [FieldFault(name, f"Expected letters and digits without spaces or quotes, got {text[:40]!r}.")]
    shadowed = shadowed_emergency_number(text, countries)
    if shadowed is not None:
        return [FieldFault(name, f"{text} would take calls meant for {shadowed}: choose another.")]
    return []


def placement_faults(text: str | None) -> list[FieldFault]:
    """None or empty is good: nobody has said."""
    if not text or text in set(Placement):
        return []
    return [FieldFault("placement", f"Expected one of {', '.join(Placement)}, got {text[:40]!r}.")]


def auth_user_faults(text: str) -> list[FieldFault]:
    if not text or _SIP_USER.match(text):
        return []
    return [FieldFault("auth_user", "Expected at most 100 characters without spaces or quotes.")]


def secret_faults(text: str | None) -> list[FieldFault]:
    """None is good: the secret stays as it is."""
    if text is None or (0 < len(text) <= MAX_TEXT_CHARACTERS and text.isprintable() and text == text.strip()):
        return []
    return [FieldFault("secret", "Expected 1 to 200 printable characters without spaces at either end.")]


def callback_number(text: str | None, country: str) -> tuple[E164 | None, list[FieldFault]]:
    """The number in E.164 form, None when there is none; and what is wrong with it."""
    number = parse_e164(text, country) if text else None
    if not text or number is not None:
        return number, []
    detail = "Expected a telephone number that can be called back, such as +12125550123."
    return None, [FieldFault("callback_number", detail)]
