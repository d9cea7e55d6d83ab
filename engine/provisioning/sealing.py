"""Which files leave encrypted, and how a phone comes to hold the key that opens them (pure).

Theory of operation. A phone that was given its key asks at another URL: below the provisioning URL, in the folder
`sealed/`. The configuration that writes the key into the phone writes that URL beside it, so a phone asks there
exactly when it holds the key, and a phone that was reset to its factory settings is back at the plain URL and without
the key. Nothing about it is remembered here that a power cut could make untrue.

In `sealed/` a phone's own files leave encrypted. At the plain URL they leave in clear, with the key in them, over TLS
alone; over plain HTTP a phone whose family can decrypt gets the one 404 there and keeps what it has, until it fetches
once over TLS or somebody types its key and the `sealed/` URL in.
"""

from dataclasses import replace
from typing import NamedTuple

from engine.provisioning import envelope
from engine.provisioning.envelope import Scheme
from engine.provisioning.policy import Policy
from engine.provisioning.render import PhoneConfig
from engine.provisioning.vendors import FileKind, FileRule, Profile

FOLDER = "sealed/"
CONTENT_TYPE = "application/octet-stream"
_HOLDS_SECRETS = frozenset({FileKind.DEVICE, FileKind.SETTINGS})


class Manner(NamedTuple):
    """How a file leaves: asked for in `sealed/` or not, and in which format (None: in clear)."""

    is_sealed: bool
    scheme: Scheme | None = None

    @property
    def folder(self) -> str:
        """What follows the token in the URLs of that file."""
        return FOLDER if self.is_sealed else ""

    @property
    def mark(self) -> str:
        """Tells this form of the file from its others."""
        return f"{self.folder}{self.scheme or ''}"

    @property
    def headers(self) -> dict[str, str]:
        """Those that differ from the same file in clear."""
        if self.scheme is None:
            return {}
        told = {"Content-Type": CONTENT_TYPE}
        if self.scheme is Scheme.AES128GCM:
            told |= {"Content-Encoding": Scheme.AES128GCM.value, "Vary": "Accept-Encoding"}
        return told

    def seal(self, body: bytes, file_key: str) -> bytes | None:
        """The file as it leaves; None when it should be encrypted and the phone was never given a key."""
        if self.scheme is None:
            return body
        return envelope.seal(self.scheme, body, file_key) if file_key else None


def manner(profile: Profile, rule: FileRule, accept_encoding: str, *, is_sealed: bool) -> Manner:
    """How the file asked for shall leave."""
    is_closed = is_sealed and is_sealable(profile, rule)
    return Manner(is_sealed, scheme_for(profile, accept_encoding) if is_closed else None)


def is_sealable(profile: Profile, rule: FileRule) -> bool:
    """Whether that file is one phone's own and its family can decrypt it."""
    is_own = "mac" in rule.pattern.groupindex
    return profile.encryption is not None and is_own and rule.kind in _HOLDS_SECRETS and rule.template is not None


def is_too_open(policy: Policy, profile: Profile, rule: FileRule, *, is_sealed: bool, is_tls: bool) -> bool:
    """Whether the file would leave in clear over plain HTTP although the account wants files encrypted."""
    return policy.encrypt_files and not is_sealed and not is_tls and is_sealable(profile, rule)


def scheme_for(profile: Profile, accept_encoding: str) -> Scheme | None:
    """The format for this request: the family's own, or RFC 8188 for a phone that says it reads it."""
    if profile.encryption is None:
        return None
    codings = {coding.partition(";")[0].strip().lower() for coding in accept_encoding.split(",")}
    if Scheme.AES128GCM.value in codings and Scheme.AES128GCM in profile.encodings:
        return Scheme.AES128GCM
    return profile.encryption


def keyed(config: PhoneConfig, profile: Profile, file_key: str, *, mask: str) -> PhoneConfig:
    """The configuration that hands the phone its key, and the URL that goes with it. A key that is only the mask stays
    one, for a page that shows the file.
    """
    if not file_key or profile.encryption is None:
        return config
    is_masked = file_key == mask
    return replace(
        config,
        file_key=mask if is_masked else envelope.phone_key(profile.encryption, file_key),
        file_iv=mask if is_masked else envelope.phone_iv(profile.encryption, file_key),
        provisioning_url=config.provisioning_url + FOLDER,
    )
