"""Digest access authentication for SIP, both ways (RFC 3261 §22, RFC 7616, RFC 8760). Pure.

As a server we keep no memory of challenges: a nonce is the time, a count and a keyed MAC over both, so any process with
the key knows its own. What was used is remembered to a bound, so that an answer is good once (`nc`, or the answer
itself where an old peer sends none). As a client an answer is one header line made from the challenge. Times are Unix
seconds.
"""

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2s, md5, new, sha256
from urllib.parse import unquote

from engine.sip.message import BadMessage, Message, Request
from engine.sip.uri import parse_uri

NONCE_GOOD_S = 300  # then the peer is told `stale=true` and answers again by itself
NONCE_AHEAD_S = 30  # another node's clock may be ahead of ours
MAX_USED_NONCES = 10_000  # remembered; the oldest is forgotten, and its answer could be sent once more
NC_WINDOW = 64  # requests that overtake each other on UDP are still new
MAX_ANSWERS = 4  # header lines of one request that are looked at
_MAX_FIELD_CHARS = 1_024

_PARAMETER = re.compile(r'\s*+([A-Za-z0-9*\-]++)\s*+=\s*+(?:"((?:[^"\\]++|\\.)*+)"|([^\s,"]*+))\s*+(?:,|$)', re.DOTALL)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_SCHEME = re.compile(r"\s*+([A-Za-z0-9]++)\s++")
_TIME_AND_COUNT = re.compile(r"[0-9a-f]{14}")


def _md5(data: bytes) -> str:
    return md5(data, usedforsecurity=False).hexdigest()


def _sha256(data: bytes) -> str:
    return sha256(data).hexdigest()


def _sha512_256(data: bytes) -> str:
    return new("sha512_256", data).hexdigest()


# RFC 8760 §2.1; the first is the one we would rather use
HASHES: dict[str, Callable[[bytes], str]] = {"SHA-512-256": _sha512_256, "SHA-256": _sha256, "MD5": _md5}
OFFERED = ("SHA-256", "MD5")  # RFC 8760 §2.4: the one preferred first


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and its password; the password never shows in a log or a traceback."""

    user: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One WWW-Authenticate or Proxy-Authenticate line that we can answer. `qop` is "auth", "auth-int" or "" for a peer
    of RFC 2069.
    """

    realm: str
    nonce: str
    algorithm: str = "MD5"
    is_session: bool = False
    qop: str = ""
    opaque: str | None = None
    is_stale: bool = False
    hashes_user: bool = False
    is_proxy: bool = False


def read_parameters(value: str) -> dict[str, str]:
    """The parameters of a Digest value by lower-case name, quotes and escapes undone; {} when it is no Digest.

    A name that stands twice counts as it came first: nobody may hide behind a second one.
    """
    scheme = _SCHEME.match(value) if len(value) <= 8 * _MAX_FIELD_CHARS else None
    if scheme is None or scheme.group(1).lower() != "digest":
        return {}
    found: dict[str, str] = {}
    position = scheme.end()
    while position < len(value) and (match := _PARAMETER.match(value, position)) is not None:
        quoted = match.group(2)
        text = _QUOTED_PAIR.sub(r"\1", quoted) if quoted is not None else match.group(3)
        if len(text) <= _MAX_FIELD_CHARS:
            found.setdefault(match.group(1).lower(), text)
        position = match.end()
    return found


# --- we are asked -----------------------------------------------------------------------------------------------------


def read_challenges(response: Message) -> tuple[Challenge, ...]:
    """Every challenge of a 401 or 407 that we can answer, one a realm and header, the first we know (RFC 8760 §2.4)."""
    found: dict[tuple[bool, str], Challenge] = {}
    for name, is_proxy in (("WWW-Authenticate", False), ("Proxy-Authenticate", True)):
        for value in response.headers(name):
            for text in _split_challenges(value):
                challenge = _challenge(read_parameters(text), is_proxy=is_proxy)
                if challenge is not None:
                    found.setdefault((is_proxy, challenge.realm), challenge)
    return tuple(found.values())


def _split_challenges(value: str) -> Iterator[str]:
    """Several challenges may share a line (RFC 7235 §4.1): each begins with its scheme."""
    starts = [match.start(1) for match in re.finditer(r"(?:^|,)\s*(?=Digest\s)()", value, re.IGNORECASE)]
    for start, end in zip(starts, [*starts[1:], len(value)], strict=False):
        yield value[start:end].strip(" ,\t")


def _challenge(fields: dict[str, str], *, is_proxy: bool) -> Challenge | None:
    token = fields.get("algorithm", "MD5").upper()
    algorithm = token.removesuffix("-SESS")
    offered = {word.strip().lower() for word in fields.get("qop", "").split(",")} - {""}
    qop = next((known for known in ("auth", "auth-int") if known in offered), "")
    if "nonce" not in fields or algorithm not in HASHES or (offered and not qop):
        return None
    return Challenge(
        realm=fields.get("realm", ""),
        nonce=fields["nonce"],
        algorithm=algorithm,
        is_session=token.endswith("-SESS"),
        qop=qop,
        opaque=fields.get("opaque"),
        is_stale=fields.get("stale", "").lower() == "true",
        hashes_user=fields.get("userhash", "").lower() == "true",
        is_proxy=is_proxy,
    )


def answer(
    challenge: Challenge,
    credentials: Credentials,
    method: str,
    uri: str,
    *,
    cnonce: str,
    body: bytes = b"",
    nc: int = 1,
) -> tuple[str, str]:
    """The header line (name, value) that answers a challenge for one request (RFC 7616 §3.4, RFC 3261 §22.4)."""
    digest = HASHES[challenge.algorithm]
    response = _response(
        digest, credentials.user, challenge.realm, credentials.secret, challenge.nonce, method, uri,
        qop=challenge.qop, nc=f"{nc:08x}", cnonce=cnonce, body=body, is_session=challenge.is_session,
    )  # fmt: skip
    user = digest(f"{credentials.user}:{challenge.realm}".encode()) if challenge.hashes_user else credentials.user
    algorithm = challenge.algorithm + ("-sess" if challenge.is_session else "")
    parts = [
        f"username={_quoted(user)}", f"realm={_quoted(challenge.realm)}", f"nonce={_quoted(challenge.nonce)}",
        f"uri={_quoted(uri)}", f'response="{response}"', f"algorithm={algorithm}",
    ]  # fmt: skip
    if challenge.qop:
        parts += [f"qop={challenge.qop}", f"nc={nc:08x}"]
    if challenge.qop or challenge.is_session:
        parts.append(f"cnonce={_quoted(cnonce)}")
    if challenge.opaque is not None:
        parts.append(f"opaque={_quoted(challenge.opaque)}")
    if challenge.hashes_user:
        parts.append("userhash=true")
    return "Proxy-Authorization" if challenge.is_proxy else "Authorization", "Digest " + ", ".join(parts)


# --- we ask -----------------------------------------------------------------------------------------------------------


class Verdict(Enum):
    """What a request's own proof is worth."""

    ABSENT = "absent"  # nothing was said to us
    STALE = "stale"  # right, but for a nonce that is too old or was used: the peer is asked once more
    WRONG = "wrong"
    PROVEN = "proven"


@dataclass(frozen=True, slots=True)
class Checked:
    """`user` is the known name the request claims, "" for none."""

    verdict: Verdict
    user: str = ""


ABSENT = Checked(Verdict.ABSENT)
SecretOf = Callable[[str], str | None]
"""The password of a user name, None when nobody has it."""


class Authenticator:
    """Challenges and checks for one realm.

    Args:
        key: of the nonces; the same on every process that may see the answer to another's challenge.
    """

    def __init__(self, realm: str, key: bytes) -> None:
        self.realm = realm
        self._key = blake2s(key, person=b"nonce").digest()
        self._minted = 0
        self._used: OrderedDict[str, _Used] = OrderedDict()

    def challenge(
        self, now: int, *, is_proxy: bool, is_stale: bool = False, is_plain: bool = False, max_bytes: int = 1_000
    ) -> tuple[tuple[str, str], ...]:
        """Header lines that ask for a proof, the better algorithm first; as many as fit into `max_bytes`, () for
        none. A proxy asks with 407, whoever is meant itself with 401 (RFC 3261 §22.2, §22.3).

        `is_plain`: MD5 first, for peers that read one challenge and know one algorithm (Kamailio 5.6, SIPp 3.6).
        """
        name = "Proxy-Authenticate" if is_proxy else "WWW-Authenticate"
        nonce, stale = self.nonce(now), ", stale=true" if is_stale else ""
        lines: list[tuple[str, str]] = []
        for algorithm in reversed(OFFERED) if is_plain else OFFERED:
            value = f'Digest realm={_quoted(self.realm)}, nonce="{nonce}", algorithm={algorithm}, qop="auth"{stale}'
            max_bytes -= len(name) + len(value) + 4
            if max_bytes < 0:
                break
            lines.append((name, value))
        return tuple(lines)

    def nonce(self, now: int) -> str:
        """A new one: two calls challenged in the same second must not take each other's answers for their own."""
        self._minted += 1
        return self._sealed(f"{now & 0xFFFFFFFF:08x}{self._minted & 0xFFFFFF:06x}")

    def _sealed(self, text: str) -> str:
        return text + blake2s(text.encode(), key=self._key, digest_size=12).hexdigest()

    def check(self, request: Request, secret_of: SecretOf, now: int) -> Checked:
        """What the Authorization and Proxy-Authorization lines of a request prove. Never raises."""
        best = ABSENT
        lines = [*request.headers("Proxy-Authorization"), *request.headers("Authorization")]
        for value in lines[:MAX_ANSWERS]:
            checked = self._check_one(request, read_parameters(value), secret_of, now)
            if checked.verdict is Verdict.PROVEN:
                return checked
            if checked.verdict is Verdict.STALE or best is ABSENT:
                best = checked
        return best

    def _check_one(self, request: Request, fields: dict[str, str], secret_of: SecretOf, now: int) -> Checked:
        if fields.get("realm") != self.realm:
            return ABSENT
        name, user, secret = _claimed(fields, secret_of)
        wrong = Checked(Verdict.WRONG, user)  # nobody may learn which names there are, so all are worked out alike
        token = fields.get("algorithm", "MD5").upper()
        digest, qop = HASHES.get(token.removesuffix("-SESS")), fields.get("qop", "").lower()
        if digest is None or qop not in {"", "auth", "auth-int"} or not names_same(fields.get("uri", ""), request):
            return wrong
        expected = _response(
            digest, name, self.realm, secret or "", fields.get("nonce", ""), request.method, fields["uri"], qop=qop,
            nc=fields.get("nc", ""), cnonce=fields.get("cnonce", ""), body=request.body,
            is_session=token.endswith("-SESS"),
        )  # fmt: skip
        given = fields.get("response", "").lower().encode("utf-8", "replace")
        if not hmac.compare_digest(expected.encode(), given) or secret is None:
            return wrong
        is_new = self._is_current(fields.get("nonce", ""), now) and self._is_first(fields, qop)
        return Checked(Verdict.PROVEN if is_new else Verdict.STALE, user)

    def _is_current(self, nonce: str, now: int) -> bool:
        text = nonce[:14]
        if _TIME_AND_COUNT.fullmatch(text) is None:
            return False
        minted = int(text[:8], 16)
        is_ours = hmac.compare_digest(nonce.encode("utf-8", "replace"), self._sealed(text).encode())
        return is_ours and -NONCE_AHEAD_S <= (now & 0xFFFFFFFF) - minted <= NONCE_GOOD_S

    def _is_first(self, fields: dict[str, str], qop: str) -> bool:
        """Has this answer not been taken before? With qop by its count, without by the answer itself."""
        nonce = fields["nonce"]
        used = self._used.get(nonce)
        if used is None:
            used = self._used[nonce] = _Used()
            if len(self._used) > MAX_USED_NONCES:
                self._used.popitem(last=False)
        if not qop:
            return used.take_answer(fields["response"])
        try:
            return used.take_count(int(fields.get("nc", ""), 16))
        except ValueError:
            return False


class _Used:
    """What has been taken under one nonce: the highest count, which of the 64 below it, and answers without count."""

    __slots__ = ("answers", "highest", "seen")

    def __init__(self) -> None:
        self.highest, self.seen = 0, 0
        self.answers: tuple[str, ...] = ()

    def take_count(self, count: int) -> bool:
        ahead = count - self.highest
        if count <= 0 or ahead <= -NC_WINDOW:
            return False
        if ahead > 0:
            self.seen = ((self.seen << ahead) | 1) & ((1 << NC_WINDOW) - 1) if ahead < NC_WINDOW else 1
            self.highest = count
            return True
        is_first = not self.seen >> -ahead & 1
        self.seen |= 1 << -ahead
        return is_first

    def take_answer(self, response: str) -> bool:
        if response in self.answers or len(self.answers) >= NC_WINDOW:
            return False
        self.answers = (*self.answers, response)
        return True


def _claimed(fields: dict[str, str], secret_of: SecretOf) -> tuple[str, str, str | None]:
    """(name as it went into the digest, the known user, its password). `user@realm` counts as `user` too."""
    name = fields.get("username", "")
    extended = fields.get("username*", "")  # RFC 5987: UTF-8''J%C3%A4s
    if not name and extended[:7].upper() == "UTF-8''":
        name = unquote(extended[7:], errors="replace")
    for user in (name, name.partition("@")[0]):
        secret = secret_of(user) if user else None
        if secret is not None:
            return name, user, secret
    return name, "", None


def names_same(uri: str, request: Request) -> bool:
    """Does a digest's uri name what the Request-URI names? Host, port and parameters may have been rewritten on the
    way (RFC 3261 §22.4 item 5 permits the check to be the server's own); the user may not.
    """
    actual = request.request_uri
    if uri == actual:
        return True
    try:
        ours, theirs = parse_uri(actual), parse_uri(uri)
    except BadMessage:
        return False
    if ours.user or theirs.user:
        return ours.user_text.lower() == theirs.user_text.lower()
    return ours.host == theirs.host


def _response(
    digest: Callable[[bytes], str],
    user: str,
    realm: str,
    secret: str,
    nonce: str,
    method: str,
    uri: str,
    *,
    qop: str,
    nc: str,
    cnonce: str,
    body: bytes,
    is_session: bool,
) -> str:
    """RFC 7616 §3.4.1 to §3.4.3; without qop RFC 2069 §2.1.2."""
    first = digest(_bytes(f"{user}:{realm}:{secret}"))
    if is_session:
        first = digest(_bytes(f"{first}:{nonce}:{cnonce}"))
    second = digest(_bytes(f"{method}:{uri}" + (f":{digest(body)}" if qop == "auth-int" else "")))
    middle = f"{nonce}:{nc}:{cnonce}:{qop}" if qop else nonce
    return digest(_bytes(f"{first}:{middle}:{second}"))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
