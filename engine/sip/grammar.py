"""The shapes of RFC 3261 §25 as patterns, and the limits of what is read at all.

Every pattern is linear in its input: repetitions are of one character class, or possessive (`++`, `*+`), so that no
hostile text makes the matcher go back. A header section reaches these patterns only after bare CR, LF and NUL were
refused; inside one, `[ \\t\\r\\n]` is therefore folding white space and nothing else.
"""

import re
from typing import Final

MAX_MESSAGE_BYTES = 65_535  # one UDP datagram; a stream that sends more in one message is answered 513 and closed
MAX_HEADERS = 256  # as aiosipua; the longest honest messages carry some forty
MAX_LINES = 1_024  # headers and their folded continuations together
MAX_READ_BYTES = 4_096  # of a header or URI this element reads itself; others may be as long as they like
MAX_ROUTES = 64  # Route elements looked at; a call through more proxies than that has lost its way
MAX_CSEQ = 2**31  # RFC 3261 §8.1.1.5: less than this
LENIENT_CSEQ = 10**20  # in an emergency call any number will do that can be read
MAX_MAX_FORWARDS = 255  # RFC 3261 §20.22
OUR_VERSION = b"SIP/2.0"  # as a sender writes it; a reader takes any case (RFC 3261 §7.1)
PRIVATE_PREFIX = b"x-callpoint-"  # what a trusted peer tells this element alone; never forwarded
OWN_REALM = "callpoint"  # an answer to a challenge of ours is for nobody behind us (RFC 3261 §22.3)
PROOF_NAMES = frozenset({b"authorization", b"proxy-authorization"})
MAGIC_COOKIE = b"z9hG4bK"  # RFC 3261 §8.1.1.7

TOKEN_CHARACTERS = rb"A-Za-z0-9\-.!%*_+`'~"
_IS_TOKEN: Final = bytes(b"a "[re.match(rb"[%b]" % TOKEN_CHARACTERS, bytes((each,))) is None] for each in range(256))
_S = rb"[ \t\r\n]*+"
_QUOTED = rb'"(?:[^"\\]++|\\.)*+"'

TOKEN = re.compile(rb"[" + TOKEN_CHARACTERS + rb"]+")
UNESCAPED_NUL = re.compile(rb"(?<!\\)\x00")
FOLD = re.compile(rb"\r\n[ \t]++")

HOST = rb"\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9_.\-]++"
_PARAMETER_VALUE = rb"(?:" + _QUOTED + rb"|\[?[" + TOKEN_CHARACTERS + rb":/&$?@]*+\]?)"
_PARAMETERS = (
    rb"(?:" + _S + rb";" + _S + rb"[" + TOKEN_CHARACTERS + rb"]++(?:" + _S + rb"=" + _S + _PARAMETER_VALUE + rb")?)*+"
)

# The Via nearly everybody sends: no spaces, rport before or after the branch.
VIA_PLAIN = re.compile(
    rb"[ \t]*+[sS][iI][pP]/2\.0/([A-Za-z]++) ("
    + HOST
    + rb")(?::(\d{1,5}))?(;rport)?;branch=(["
    + TOKEN_CHARACTERS
    + rb"]++)(;rport)?(?=,|$)"
)
VIA = re.compile(
    _S
    + rb"[sS][iI][pP]" + _S + rb"/" + _S + rb"2\.0" + _S + rb"/" + _S + rb"([" + TOKEN_CHARACTERS + rb"]++)[ \t\r\n]++("
    + rb"\[[0-9A-Fa-f:.]++\]|[0-9A-Fa-f]*+(?::[0-9A-Fa-f.]*+){2,8}|[A-Za-z0-9_.\-]++)"
    + rb"(?:" + _S + rb":" + _S + rb"(\d{1,5}))?(" + _PARAMETERS + rb")" + _S + rb"(?=,|$)"
)  # fmt: skip
PARAMETER = re.compile(
    rb";" + _S + rb"([" + TOKEN_CHARACTERS + rb"]++)(?:" + _S + rb"=" + _S + rb"(" + _PARAMETER_VALUE + rb"))?"
)

CSEQ = re.compile(_S + rb"(\d++)[ \t\r\n]++([" + TOKEN_CHARACTERS + rb"]++)" + _S + rb"$")
DIGITS = re.compile(_S + rb"(\d++)" + _S + rb"$")

ADDRESS_PLAIN = re.compile(
    rb'[ \t]*+(?:"[^"\\\r\n]*+"[ \t]*+)?<[A-Za-z][^<>\r\n \t"]*+>(?:;tag=([' + TOKEN_CHARACTERS + rb"]++))?$"
)
# name-addr or addr-spec, then parameters. The display name is read generously (RFC 4475 3.1.2.15 permits it): what
# must hold is that quotes and angle brackets close.
ADDRESS = re.compile(
    _S + rb"(?:(?:" + _QUOTED + _S + rb"|[^<>\"]*+)<" + _S + rb"[A-Za-z][^<>]*+>|[A-Za-z][^<>\"; \t\r\n,]*+)"
    rb"(" + _PARAMETERS + rb")" + _S + rb"$"
)

# A Request-URI: any scheme; sip and sips without headers (RFC 3261 §19.1.1 table 1) and with a host that can be read.
SIP_REQUEST_URI = re.compile(rb"[sS][iI][pP][sS]?:(?:[^@\s<>\"]++@)?(?:" + HOST + rb")(?::\d{1,5})?(?:;[^?<>\s\"]*+)?$")
REQUEST_URI = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*+):[^\s<>\"]++$")
STATUS_LINE = re.compile(rb"[sS][iI][pP]/2\.0 ([1-6]\d\d)(?: ([^\r\n]*+))?$")
VERSION = re.compile(rb"[sS][iI][pP]/\d++\.\d++$")

# The first element of a comma-joined value: commas inside quotes or angle brackets do not count.
ELEMENT = re.compile(rb'(?:[^",<]++|"(?:[^"\\]++|\\.)*+"|<[^<>]*+>)*+')

NAMES_OF_COMPACT_FORMS = {  # RFC 3261 §7.3.3 and the IANA registry
    b"a": b"accept-contact", b"b": b"referred-by", b"c": b"content-type", b"d": b"request-disposition",
    b"e": b"content-encoding", b"f": b"from", b"i": b"call-id", b"j": b"reject-contact", b"k": b"supported",
    b"l": b"content-length", b"m": b"contact", b"n": b"identity-info", b"o": b"event", b"r": b"refer-to",
    b"s": b"subject", b"t": b"to", b"u": b"allow-events", b"v": b"via", b"x": b"session-expires", b"y": b"identity",
}  # fmt: skip


def is_response(data: bytes) -> bool:
    """Whether a message begins as a response does: with `SIP/`, in any case (RFC 3261 §7.1)."""
    return data[3:4] == b"/" and data[:3].upper() == b"SIP"


def is_token(text: bytes) -> bool:
    """Whether it is a token: one character of it at least, and no other (`TOKEN.fullmatch` at a fifth of the cost)."""
    return text.translate(_IS_TOKEN).isalnum()
