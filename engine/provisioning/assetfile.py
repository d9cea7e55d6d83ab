"""A file that phones are served as it is (a logo, a firmware, a ring tone): what it may be called and who may have it
(pure).

A firmware belongs to a vendor, and to models of it where they are named. Who asks is judged by what is known of the
phone, else by what its User-Agent says of itself; an asker that says nothing is served, since holding the account's
URL is the permission and a firmware is no secret.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.provisioning.vendors import Confidence, FileKind, PhoneIdentity, Vendors, spelled

KINDS = ("logo", "firmware", "ringtone")
MAX_BYTES: Mapping[str, int] = {
    "logo": 2 * 1024 * 1024,  # no phone takes a picture that large; a photograph by mistake is told at once
    "firmware": 300 * 1024 * 1024,  # a video phone's Android image has 250 MB
    "ringtone": 8 * 1024 * 1024,
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.()-]{0,98}[A-Za-z0-9_)]\Z")
ENDINGS: Mapping[str, tuple[str, ...]] = {
    "logo": (".bmp", ".dob", ".gif", ".jpeg", ".jpg", ".png", ".wbmp"),
    "firmware": (
        ".bin", ".eff", ".fw", ".hex", ".img", ".ld", ".loads", ".rom", ".sbn", ".sgn", ".st", ".swu", ".tar",
        ".tar.gz", ".tgz", ".ul", ".z", ".zip",
    ),
    "ringtone": (".aac", ".al", ".au", ".bin", ".g722", ".m4a", ".mp3", ".ogg", ".pcm", ".raw", ".ul", ".wav"),
}  # fmt: skip
"""What no phone reads settings from: a file of settings would be served without its proof that 911 is dialled at once.
"""
_NO_SETTINGS = frozenset({FileKind.FIRMWARE, FileKind.OTHER})
_SETTINGS_OF_SNOM = (".htm", ".html", ".xml")  # `snomD785-firmware.htm`: the phone reads any setting in it
_CONTENT_TYPES: Mapping[str, str] = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "bmp": "image/bmp", "gif": "image/gif",
    "wav": "audio/wav", "mp3": "audio/mpeg",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AssetRecord:
    """One of the account's files. `vendor` empty: for phones of any; `models` empty: for any model of that vendor.
    `firmware`: its version, where it is one.
    """

    name: str
    kind: str
    vendor: str = ""
    models: tuple[str, ...] = ()
    firmware: str = ""
    content_type: str = "application/octet-stream"
    size_bytes: int = 0
    sha256: str = ""

    def suits(self, vendor: str | None, model: str | None) -> bool:
        """Whether a phone of that vendor and model may have it; None: not known, and nothing is held against it."""
        if self.vendor and vendor is not None and vendor != self.vendor:
            return False
        return not (self.models and model) or spelled(model) in {spelled(one) for one in self.models}

    @property
    def etag(self) -> str:
        """A strong one (RFC 9110 §8.8.3): the same bytes have the same tag under every name."""
        return f'"{self.sha256[:32]}"'


def is_name(text: str) -> bool:
    """Whether a file may be called so: what a URL needs no escapes for, no folders, nothing hidden."""
    return _NAME.match(text) is not None and ".." not in text


def is_another_file(vendors: Vendors, name: str) -> str | None:
    """The title of a vendor whose phones ask for anything but a firmware by that name, or None."""
    for profile in vendors.profiles.values():
        rule = profile.file_rule(name)
        if rule is not None and rule.kind is not FileKind.FIRMWARE:
            return profile.title
    return None


def has_an_ending(kind: str, name: str, asked_as: FileKind | None) -> bool:
    """Whether a file of that kind may be called so, by its name's end. `asked_as`: what the phones it is for ask for by
    that very name, None where they ask for no such file. A firmware's description (`fanvil_x5u_hwv1.txt`, `sip.ver`) is
    a text, and taken where it is one of those names.
    """
    lowered = name.lower()
    if lowered.endswith(ENDINGS.get(kind, ())):
        return True
    return kind == "firmware" and asked_as is FileKind.FIRMWARE and not lowered.endswith(_SETTINGS_OF_SNOM)


def content_type(name: str) -> str:
    """By the name's ending; a firmware is bytes."""
    return _CONTENT_TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


def is_for(asset: AssetRecord, vendor: str, model: str, who: PhoneIdentity) -> bool:
    """Whether the asker may have the file: as the phone it is known to be (`vendor`, `model`; empty: it is none of the
    account's), else as what it says of itself. Nobody may have what could be settings, however it came to be stored.
    """
    if who.kind not in _NO_SETTINGS or not has_an_ending(asset.kind, asset.name, who.kind):
        return False
    if vendor:
        return asset.suits(vendor, model or who.model) and not _says_otherwise(who, vendor)
    return asset.suits(who.vendor if who.confidence >= Confidence.HIGH else None, who.model)


def _says_otherwise(who: PhoneIdentity, vendor: str) -> bool:
    return who.confidence >= Confidence.HIGH and who.vendor is not None and who.vendor != vendor
