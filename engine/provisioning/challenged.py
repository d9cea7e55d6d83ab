"""How phones answer a server that asks for a user and a password (401): which schemes each family speaks, and whose
credentials it has. Pure.

No phone sends a password unasked; each request is challenged anew, as phones were seen to fetch. What was typed in
with the URL (`http://user:password@host/`, Cisco's `[--uid … --pwd …]`) wins over the settings of the last boot, and
those over the maker's own (Poly: PlcmSpIp). A phone knows MD5 alone, and gives up after one answer that is not taken.
Sources: FS PBX forces Basic upon Algo, Panasonic, Aastra and Snom; Polycom SIP 3.1 administrator guide, "Supported
Provisioning Protocols"; Cisco 6800 provisioning guide, "uid and pwd"; the others from their makers' guides. Of Avaya,
Linphone and Acrobits no such source is known, and they answer nothing. Our own phones' port never asks
(docs/decisions/0042).
"""

import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from engine.sip.auth import Challenge, Credentials, answer, read_parameters

_SCHEMES = re.compile(r"(?:^|,)\s*(?=(?:Basic|Digest)\b)", re.IGNORECASE)
_OPTION = re.compile(r"--(uid|pwd)\s+(\S+)")

BASIC, DIGEST = "basic", "digest"


@dataclass(frozen=True, slots=True)
class Answering:
    """What a family does with a challenge: the schemes it speaks, the better first; the settings (user, password) that
    hold its credentials, by firmware; what the maker put in.
    """

    schemes: tuple[str, ...]
    settings: tuple[tuple[str, str], ...] = ()
    factory: Credentials | None = None


_BOTH = (DIGEST, BASIC)
_NOTHING = Answering(())
FAMILIES: Mapping[str, Answering] = {
    "yealink": Answering(_BOTH, (("static.auto_provision.server.username", "static.auto_provision.server.password"),)),
    "poly": Answering(_BOTH, (("device.prov.user", "device.prov.password"),), Credentials("PlcmSpIp", "PlcmSpIp")),
    "grandstream": Answering(
        _BOTH, (("P1360", "P1361"), ("provisioning.config.username", "provisioning.config.password"))
    ),
    "cisco_spa": Answering((DIGEST,)),
    "cisco_mpp": Answering(_BOTH),
    "snom": Answering((BASIC,), (("http_client_user", "http_client_pass"),)),
    "fanvil": Answering(_BOTH),
    "mitel": Answering((BASIC,)),
    "htek": Answering((BASIC,), (("P1360", "P1361"),)),
    "gigaset": Answering((BASIC,)),
    "panasonic": Answering((BASIC,)),
    "algo": Answering((BASIC,), (("prov.auth.user", "prov.auth.pwd"),)),
    "sangoma": Answering((BASIC,)),
    "obihai": Answering((DIGEST,)),
    "audiocodes": Answering((BASIC,)),
}

Answers = Callable[[str, str, Sequence[str], Credentials | None], str | None]
"""Method, request target, WWW-Authenticate lines and what was typed in with the URL, to an Authorization line."""


def parted(url: str) -> tuple[str, Credentials | None]:
    """A URL without its user and password, and these; escapes undone. What is no URL comes back as it is."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, None
    userinfo, at, place = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = userinfo.partition(":")
    return urlunsplit(parts._replace(netloc=place)), Credentials(unquote(user), unquote(password))


def in_rule(options: str) -> Credentials | None:
    """The credentials among the options of a Cisco rule, `[--uid kim --pwd secret --key …]`."""
    found = dict(_OPTION.findall(options.strip().removeprefix("[").removesuffix("]")))
    return Credentials(found["uid"], found.get("pwd", "")) if "uid" in found else None


def answering(vendor: str, settings: Callable[[], Mapping[str, str]], cnonce: Callable[[], str]) -> Answers:
    """How one phone answers. `settings`: what it holds when it is asked."""
    family = FAMILIES.get(vendor, _NOTHING)

    def authorization(method: str, target: str, lines: Sequence[str], typed: Credentials | None) -> str | None:
        credentials = typed or _held(family, settings())
        if credentials is None:
            return None
        offered = [part for line in lines for part in _split(line)]
        for scheme in family.schemes:
            for part in offered:
                if not part.lower().startswith(scheme):
                    continue
                if scheme == BASIC:
                    pair = f"{credentials.user}:{credentials.secret}".encode()
                    return f"Basic {b64encode(pair).decode('ascii')}"
                challenge = _digest(part)
                if challenge is not None:
                    return answer(challenge, credentials, method, target, cnonce=cnonce())[1]
        return None

    return authorization


def spoken(vendor: str) -> str:
    """The schemes of a family as people write them: "Digest or Basic"."""
    return " or ".join(scheme.title() for scheme in FAMILIES.get(vendor, _NOTHING).schemes)


def _held(family: Answering, settings: Mapping[str, str]) -> Credentials | None:
    for user, password in family.settings:
        if settings.get(user):
            return Credentials(settings[user], settings.get(password, ""))
    return family.factory


def _split(line: str) -> list[str]:
    """Several challenges may share a line (RFC 9110 §11.6.1): each begins with its scheme."""
    starts = [found.end() for found in _SCHEMES.finditer(line)]
    return [line[start:end].strip(" ,\t") for start, end in zip(starts, [*starts[1:], len(line)], strict=False)]


def _digest(part: str) -> Challenge | None:
    """A Digest challenge that a phone understands: MD5, with qop=auth or none (RFC 2617)."""
    fields = read_parameters(part)
    qops = {word.strip().lower() for word in fields.get("qop", "").split(",")} - {""}
    if "nonce" not in fields or fields.get("algorithm", "MD5").upper() != "MD5" or (qops and "auth" not in qops):
        return None
    return Challenge(
        realm=fields.get("realm", ""),
        nonce=fields["nonce"],
        qop="auth" if qops else "",
        opaque=fields.get("opaque"),
    )
