"""A file that phones are served as it is (a logo, a firmware, a ring tone): what it may be called and who may have it
(pure).

A firmware belongs to a vendor, and to models of it where they are named. Who asks is judged by what is known of the
phone, else by what its User-Agent says of itself; an asker that says nothing is served, since holding the account's
URL is the permission and a firmware is no secret.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.provisioning.vendors import Confidence, PhoneIdentity, Vendors, spelled

KINDS = ("logo", "firmware", "ringtone")
MAX_BYTES: Mapping[str, int] = {
    "logo": 2 * 1024 * 1024,  # no phone takes a picture that large; a photograph by mistake is told at once
    "firmware": 300 * 1024 * 1024,  # a video phone's Android image has 250 MB
    "ringtone": 8 * 1024 * 1024,
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.()-]{0,98}[A-Za-z0-9_)]\Z")
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
    """The title of a vendor whose phones ask for a configuration or a phonebook by that name, or None."""
    for profile in vendors.profiles.values():
        rule = profile.file_rule(name)
        if rule is not None and (rule.is_served or rule.upload):
            return profile.title
    return None


def content_type(name: str) -> str:
    """By the name's ending; a firmware is bytes."""
    return _CONTENT_TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


def is_for(asset: AssetRecord, vendor: str, model: str, who: PhoneIdentity) -> bool:
    """Whether the asker may have the file: as the phone it is known to be (`vendor`, `model`; empty: it is none of the
    account's), else as what it says of itself.
    """
    if vendor:
        return asset.suits(vendor, model or who.model) and not _says_otherwise(who, vendor)
    return asset.suits(who.vendor if who.confidence >= Confidence.HIGH else None, who.model)


def _says_otherwise(who: PhoneIdentity, vendor: str) -> bool:
    return who.confidence >= Confidence.HIGH and who.vendor is not None and who.vendor != vendor
