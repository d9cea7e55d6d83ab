"""How phones open encrypted files: which key each family holds after its last boot, and what it makes of a file.

A phone that cannot open a file throws it away and keeps what it has; so do these.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.errors import Invalid
from engine.provisioning import envelope, sealing
from engine.provisioning.booting import Memory
from engine.provisioning.envelope import NotOpened, Scheme

_OPTION = "[--key $SA]"


@dataclass(frozen=True, slots=True)
class Held:
    """The key on the phone. `must_be_sealed`: a file in clear is thrown away too (Cisco, once its rule names a key)."""

    scheme: Scheme
    key: str
    iv: str = ""
    must_be_sealed: bool = False


def _yealink(settings: Mapping[str, str]) -> Held | None:
    key = settings.get("static.auto_provision.aes_key.mac", "")
    return Held(Scheme.YEALINK, key) if key else None


def _grandstream(settings: Mapping[str, str]) -> Held | None:
    key = settings.get("P1359") or settings.get("provisioning.config.filePassword", "")
    return Held(Scheme.OPENSSL, key) if key else None


def _cisco(settings: Mapping[str, str]) -> Held | None:
    if not settings.get("Profile_Rule", "").startswith(_OPTION):
        return None
    return Held(Scheme.OPENSSL, settings.get("GPP_SA", ""), must_be_sealed=True)


def _obihai(settings: Mapping[str, str]) -> Held | None:
    stem = "X_DeviceManagement.ITSPProvisioning."
    if "-A=aes" not in settings.get(f"{stem}ConfigURL", ""):
        return None
    return Held(Scheme.OBIHAI, settings.get(f"{stem}SPRM0", ""), settings.get(f"{stem}SPRM1", ""), must_be_sealed=True)


_KEYS: Mapping[str, Callable[[Mapping[str, str]], Held | None]] = {
    "yealink": _yealink,
    "grandstream": _grandstream,
    "cisco_spa": _cisco,
    "cisco_mpp": _cisco,
    "obihai": _obihai,
}


def opener(vendor: str, flash: Memory) -> Callable[[str, bytes], bytes | None]:
    """What the phone reads of a file that came under that name; None when it cannot open it."""
    key_of = _KEYS.get(vendor)

    def read(name: str, data: bytes) -> bytes | None:
        held = key_of(flash.settings) if key_of is not None else None
        if held is None or (held.scheme is Scheme.YEALINK and not name.endswith(".cfg")):
            return data
        if not held.must_be_sealed and not envelope.looks_sealed(held.scheme, data):
            return data
        try:
            return envelope.open_sealed(held.scheme, data, held.key, held.iv)
        except NotOpened:
            return None

    return read


def flash_with(vendor: str, url: str, key: str) -> Memory:
    """A phone on which that key was typed in, as the page of a phone's file key shows it.

    Args:
        url: Where a phone asks whose rule of provisioning says that its files are encrypted.
        key: Of OBi devices key and initial vector, with a colon between.

    Raises:
        Invalid: phones of that vendor read no encrypted file.
    """
    first, _, second = key.partition(":")
    stem = "X_DeviceManagement.ITSPProvisioning."
    base = url.rstrip("/") + "/"
    typed = {
        "yealink": {"static.auto_provision.aes_key.mac": key},
        "grandstream": {"P1359": key},
        "cisco_spa": {"Profile_Rule": f"{_OPTION} {base}spa$MA.xml", "GPP_SA": key},
        "cisco_mpp": {"Profile_Rule": f"{_OPTION} {base}$MA.xml", "GPP_SA": key},
        "obihai": {
            f"{stem}ConfigURL": f"SYNC -A=aes -K=$SPRM0 -IV=$SPRM1 {base}$MAC.xml",
            f"{stem}SPRM0": first,
            f"{stem}SPRM1": second,
        },
    }.get(vendor.lower())
    if typed is None:
        raise Invalid(f"Phones of {vendor} read no encrypted file here; those of {', '.join(_KEYS)} do.")
    return Memory(applied={"typed in": typed})


def where_it_asks(url: str, learnt: str | None) -> str:
    """The URL of the next boot: the one it was told, or the one it learnt together with its key."""
    return learnt if learnt is not None and learnt.endswith(f"/{sealing.FOLDER}") else url
