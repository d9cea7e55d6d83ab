"""What an account's own template changes of what keeps a phone reachable and able to dial 911 (pure).

Theory of operation. The file of such a template and the shipped file of the same phone are compared in the settings
that a family's profile names under `overrides.watched`: every value of each, so that a second setting behind the first
counts as well. Most changes are allowed and told (`Found.sentence`): a registrar of one's own, another password. What
would keep 911 from being dialled is refused, at publishing and again for each phone, since a text can say one thing for
the samples and another for the phone on the third floor:

- the first line switched off, or without its user;
- a registrar emptied or left out;
- a lifted handset that calls a number which is no emergency number: nobody can dial on it;
- files asked for elsewhere: what another server hands out is proven by nobody.

Secrets are in no sentence: a password that changed is told without its values, and any of the phone's own is masked
wherever it stands.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from engine.errors import UnsafeValue
from engine.provisioning import tokens
from engine.provisioning.override_proof import Read, plain_value
from engine.provisioning.setting_names import Watched
from engine.provisioning.vendors import Profile

MASKED = "[secret]"
_LEAST_SECRET = 3  # characters: a shorter one would be masked in every second word
_LONGEST_SHOWN = 80
_OFF = frozenset({"", "0", "n", "no", "off", "false", "disabled", "disable"})
_ON = frozenset({"1", "y", "yes", "on", "true", "enabled", "enable"})
_WHAT = {
    Watched.PROVISIONING_URL: "where the phone asks for its files",
    Watched.PROVISIONING: "how the phone asks for its files",
    Watched.REGISTRAR: "the registrar of a line",
    Watched.OUTBOUND_PROXY: "the outbound proxy of a line",
    Watched.FIRST_LINE: "whether line 1 is there",
    Watched.ADMIN_PASSWORD: "the password of the phone's own pages",
    Watched.AUTO_DIAL: "what a lifted handset calls by itself",
    Watched.AUTO_DIAL_TERMS: "whether a lifted handset calls by itself",
    Watched.KEY_LOCK: "whether the phone can be locked",
}
_LOCKED = (
    "What a locked phone dials is its own affair and not proven here: before you publish it, lock one phone and dial "
    "the test number."
)
_NO_URL = (
    "The file no longer names the provisioning URL: phones that take it ask where they asked before, and after the "
    "next rotation nowhere. Write {{ config.provisioning_url }} where the shipped text does."
)


class Secretive(Protocol):
    """Of a line: what must be in no sentence."""

    @property
    def secret(self) -> str: ...


class Phone(Protocol):
    """Of `render.PhoneConfig`: what a file is compared by."""

    @property
    def provisioning_url(self) -> str: ...
    @property
    def emergency_numbers(self) -> tuple[str, ...]: ...
    @property
    def admin_password(self) -> str: ...
    @property
    def file_key(self) -> str: ...
    @property
    def file_iv(self) -> str: ...
    @property
    def lines(self) -> Sequence[Secretive]: ...


class UnsafeChange(UnsafeValue):
    """An account's own template that would keep a phone from 911, or from us; the file is not served."""

    title = "A template would keep phones from dialling 911"


@dataclass(frozen=True, slots=True)
class Found:
    """One setting that is not as the shipped template makes it. `before`, `after`: every value of it, in the order of
    the file and none twice; none: it is not set. `harm`: what comes of it for 911, and what to do; "": allowed.
    """

    kind: Watched
    setting: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    harm: str = ""

    @property
    def sentence(self) -> str:
        """For the person who wrote the template; secrets are masked by `concealing`."""
        what = f"{self.setting} ({_WHAT[self.kind]})"
        if self.kind is Watched.ADMIN_PASSWORD:
            told = "is no longer set" if not any(self.after) else "is another than the one in the settings"
            return f"{what} {told}."
        if self.kind in {Watched.AUTO_DIAL, Watched.AUTO_DIAL_TERMS} and not self.before:
            return f"{what} is {_shown(self.after)}." + (f" {self.harm}" if self.harm else "")
        if self.kind is Watched.KEY_LOCK:
            return f"{what} is {_shown(self.after)}. {_LOCKED}"
        told = f"{what} is {_shown(self.before)} in the shipped template and {_shown(self.after)} in this one."
        if self.kind is Watched.PROVISIONING_URL and not any(self.after):
            return f"{told} {_NO_URL}"
        return f"{told} {self.harm}" if self.harm else told


def concealing(phone: Phone) -> Callable[[str], str]:
    """Masks that phone's secrets, and any token, in a sentence."""
    known = {phone.admin_password, phone.file_key, phone.file_iv, *(line.secret for line in phone.lines)}
    secrets = sorted((one for one in known if len(one) >= _LEAST_SECRET), key=len, reverse=True)

    def conceal(sentence: str) -> str:
        for secret in secrets:
            sentence = sentence.replace(secret, MASKED)
        return tokens.redact(sentence)

    return conceal


def changes(profile: Profile, own: Read, shipped: Read, phone: Phone) -> list[Found]:
    """What the account's text changes in that phone's file, in the order of the file."""
    mine, usual = _watched(profile, own), _watched(profile, shipped)
    if mine == usual:
        return []
    found = []
    for key in mine | usual:
        kind, setting, after = mine.get(key) or (usual[key][0], usual[key][1], ())
        before = usual[key][2] if key in usual else ()
        if kind is Watched.KEY_LOCK and all(value.casefold() in _OFF for value in after):
            continue
        if before != after and (any(before) or any(after)):
            found.append(Found(kind, setting, before, after, _harm(kind, before, after, phone)))
    conceal = concealing(phone)
    return [
        replace(one, before=tuple(map(conceal, one.before)), after=tuple(map(conceal, one.after)))
        for one in _with_auto_dial(found, mine, phone)
    ]


def refuse_harmful(found: Sequence[Found], templates: Iterable[str]) -> None:
    """Raise `UnsafeChange` for what would keep 911 from being dialled. `templates`: the account's own."""
    harmful = [one.sentence for one in found if one.harm]
    if harmful:
        raise UnsafeChange(
            f"The file is not served as the account's own {', '.join(sorted(templates))} makes it. "
            f"{' '.join(harmful[:3])}"
        )


Values = Mapping[str, tuple[Watched, str, tuple[str, ...]]]


def _watched(profile: Profile, file: Read) -> dict[str, tuple[Watched, str, tuple[str, ...]]]:
    """The watched settings of a file by their names in small letters: kind, name, values."""
    found: dict[str, tuple[Watched, str, dict[str, None]]] = {}
    for known, value in file.notable:
        if known.watched is not None:
            plain = plain_value(profile, value).strip()
            found.setdefault(known.own.casefold(), (known.watched, known.own, {}))[2][plain] = None
    return {key: (kind, name, tuple(values)) for key, (kind, name, values) in found.items()}


def _harm(kind: Watched, before: tuple[str, ...], after: tuple[str, ...], phone: Phone) -> str:
    """What comes of it for 911, and what to do; "" when it is allowed."""
    is_gone = any(before) and (not after or ("" in after and "" not in before))
    if kind is Watched.REGISTRAR and is_gone:
        return "Without a registrar the line calls nobody, 911 included. Write {{ line.registrar_host }} there."
    if kind is Watched.FIRST_LINE and _is_on(before) and (is_gone or _is_off(before, after)):
        return "With its first line off the phone dials nothing, 911 included. Leave this setting to the shipped text."
    if kind is Watched.PROVISIONING_URL and any(_is_elsewhere(value, before, phone) for value in after):
        return (
            "What another server hands out is proven by nobody: 911 could wait there, and a new token would not reach "
            "the phone. Write {{ config.provisioning_url }} there."
        )
    return ""


def _is_on(values: tuple[str, ...]) -> bool:
    return any(value.casefold() not in _OFF for value in values)


def _is_off(before: tuple[str, ...], after: tuple[str, ...]) -> bool:
    """Whether any of the values that may count is one for `off`, or no longer the one for `on`."""
    is_switch = all(value.casefold() in _ON | _OFF for value in before)
    kept = {value.casefold() for value in before}
    return any(value.casefold() in _OFF or is_switch for value in after if value.casefold() not in kept)


def _is_elsewhere(value: str, before: tuple[str, ...], phone: Phone) -> bool:
    """Whether a place to ask is neither as shipped nor below the account's own URL."""
    if not value or value in before:
        return False
    ours = phone.provisioning_url.partition("://")[2].rstrip("/")
    _, mark, rest = value.partition("://")
    path = rest if mark else value
    return not (path + "/").startswith(ours + "/") or "://" in rest


def _with_auto_dial(found: list[Found], mine: Values, phone: Phone) -> list[Found]:
    """What a lifted handset calls is one thing in several settings: it is judged by its number."""
    kinds = {Watched.AUTO_DIAL, Watched.AUTO_DIAL_TERMS}
    numbers = [value for kind, _, values in mine.values() if kind is Watched.AUTO_DIAL for value in values if value]
    is_emergency = bool(numbers) and all(dialled_user(number) in phone.emergency_numbers for number in numbers)
    emergency = phone.emergency_numbers[0] if phone.emergency_numbers else "911"
    harm = f"Nobody could dial {emergency} on such a phone. Take it out, or let it call {emergency}."
    told = []
    for one in found:
        if one.kind not in kinds:
            told.append(one)
        elif any(value.casefold() not in _OFF for value in one.after):
            told.append(Found(one.kind, one.setting, one.before, one.after, "" if is_emergency else harm))
    return told


def dialled_user(number: str) -> str:
    """The number in `911`, `sip:911@pbx.example.net`, `911@pbx.example.net`."""
    return number.strip().removeprefix("sips:").removeprefix("sip:").partition("@")[0].partition(";")[0]


def _shown(values: tuple[str, ...]) -> str:
    if not values:
        return "not set"
    return " and ".join(repr(value[:_LONGEST_SHOWN]) if value else "empty" for value in values[:3])
