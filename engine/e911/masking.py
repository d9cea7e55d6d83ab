"""SIP messages fit for a record: what proves an identity, or opens a call's sound, is masked (pure).

A call's INVITE is evidence, and who reads it need not be who may call as the PBX or as us at the carrier. Credentials
(RFC 3261 §20.7, §20.28), our own proof, a password in a URI (§19.1.1) and keys of the sound (RFC 4568 §9.1, RFC 4566
§5.12, RFC 8839 §5.4) are masked once, before a record is stored: no page, export or webhook ever has them.
"""

import re

MASK = "(masked)"
# the header with its continuation lines; the record may hold any line end
_CREDENTIALS = re.compile(r"(?im)^((?:proxy-)?authorization|x-callpoint-proof)(\s*:\s*).*$(?:\r?\n[ \t].*$)*")
_URI_PASSWORD = re.compile(r"(?i)\b(sips?:[^\s:@<>\"]+):[^\s@<>\"]+@")
_SOUND_KEY = re.compile(r"(?im)^(k=|a=ice-pwd:|a=crypto:.*?inline:)[^\s|]+")


def without_credentials(message: str) -> str:
    """The message with everything secret in it replaced by `(masked)`; a masked one stays as it is."""
    message = _CREDENTIALS.sub(rf"\1\2{MASK}", message)
    return _SOUND_KEY.sub(rf"\1{MASK}", _URI_PASSWORD.sub(rf"\1:{MASK}@", message))
