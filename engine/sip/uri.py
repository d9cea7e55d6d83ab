"""URIs and name-addr values (RFC 3261 §19.1, §20.10) as those who decide about a call want to read them.

Nothing here is written back: a message is forwarded in the bytes it came in. Any scheme is read (`sip sips tel urn …`),
escapes are left as they are (`raw` is the text itself) except in `user_text`.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from engine.sip.grammar import MAX_HEADERS, MAX_READ_BYTES
from engine.sip.message import BadMessage

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*+):")
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]++\]|[^\s:;?\[\]<>@\"]++)(?::(\d{1,5}))?$")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_PARAMETER = re.compile(r';\s*+([^\s;=,"]++)(?:\s*+=\s*+("(?:[^"\\]++|\\.)*+"|[^;,"]*+))?', re.DOTALL)
_ELEMENT = re.compile(r'(?:[^",<]++|"(?:[^"\\]++|\\.)*+"|<[^<>]*+>)*+', re.DOTALL)
_HIERARCHICAL = frozenset({"sip", "sips"})


@dataclass(frozen=True, slots=True)
class Uri:
    """`scheme` and `host` in lower case; `host` without the brackets of IPv6; `port` None when not named.

    For `tel:` the number is `user`, for `urn:` the whole name is `user`; both have an empty host. `params` maps lower
    case names to values as written (`""` for a parameter without a value); `headers` is what follows `?`.
    """

    scheme: str
    user: str
    password: str
    host: str
    port: int | None
    params: dict[str, str] = field(default_factory=dict)
    headers: str = ""
    raw: str = ""

    @property
    def user_text(self) -> str:
        """The user part with `%HH` escapes undone, for comparing (RFC 3261 §19.1.4)."""
        return unquote(self.user, errors="surrogateescape") if "%" in self.user else self.user


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A From, To, Contact or P-Asserted-Identity value. `display_name` is "" when there is none."""

    display_name: str
    uri: Uri
    params: dict[str, str] = field(default_factory=dict)


def parse_uri(text: str) -> Uri:
    """Read a URI of any scheme; raises `BadMessage` (400) when there is no scheme or a sip host cannot be read."""
    match = _SCHEME.match(text := text.strip()) if len(text) <= MAX_READ_BYTES else None
    if match is None:
        raise BadMessage(f"expected a URI with a scheme, got {text[:60]!r}")
    scheme = match.group(1).lower()
    rest = text[match.end() :]
    if scheme in _HIERARCHICAL:
        return _parse_sip_uri(scheme, rest, text)
    user, semicolon, parameters = rest.partition(";")
    return Uri(scheme, user, "", "", None, _parse_parameters(semicolon + parameters), "", text)


def _parse_sip_uri(scheme: str, rest: str, text: str) -> Uri:
    userinfo, at, host_part = rest.partition("@")
    if not at:
        userinfo, host_part = "", rest
    host_part, _, headers = host_part.partition("?")
    host_port, semicolon, parameters = host_part.partition(";")
    match = _HOST_PORT.match(host_port.strip())
    if match is None:
        raise BadMessage(f"expected a host in the URI, got {text[:60]!r}")
    user, _, password = userinfo.partition(":")
    host = match.group(1).lower().strip("[]")
    port = int(match.group(2)) if match.group(2) else None
    return Uri(scheme, user, password, host, port, _parse_parameters(semicolon + parameters), headers, text)


def _parse_parameters(text: str) -> dict[str, str]:
    if not text:
        return {}
    return {match.group(1).lower(): _unquote((match.group(2) or "").strip()) for match in _PARAMETER.finditer(text)}


def parse_name_addr(value: str) -> NameAddr:
    """Read `"Name" <uri>;params` or `uri;params` (there the parameters are the header's, §20.10).

    Only the first of a comma-joined list is read. Raises `BadMessage` (400).
    """
    value = value.strip()
    if len(value) > MAX_READ_BYTES:
        value = split_values(value)[0]
    if len(value) > MAX_READ_BYTES:
        raise BadMessage(f"expected an address of at most {MAX_READ_BYTES} characters, got {len(value)}")
    quoted = _QUOTED.match(value)
    after_name = quoted.end() if quoted else 0
    opening = value.find("<", after_name)
    if opening < 0:
        addr_spec, semicolon, parameters = value.partition(",")[0].partition(";")
        return NameAddr("", parse_uri(addr_spec), _parse_parameters(semicolon + parameters))
    closing = value.find(">", opening)
    if closing < 0:
        raise BadMessage(f"expected > after the URI, got {value[:60]!r}")
    name = _unquote(quoted.group()) if quoted else value[:opening].strip()
    parameters = _first_element(value[closing + 1 :])
    return NameAddr(name, parse_uri(value[opening + 1 : closing]), _parse_parameters(parameters))


def _first_element(text: str) -> str:
    return split_values(text)[0] if "," in text else text


def split_values(text: str) -> list[str]:
    """Split a comma-joined header value (RFC 3261 §7.3.1); commas in quotes or angle brackets do not count."""
    values: list[str] = []
    position = 0
    while True:
        match = _ELEMENT.match(text, position)
        end = match.end() if match else position
        is_last = end >= len(text) or text[end] != ","  # or a quote or bracket that never closes
        if is_last or len(values) >= MAX_HEADERS:
            values.append(text[position:].strip())
            return values
        values.append(text[position:end].strip())
        position = end + 1


def _unquote(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return _QUOTED_PAIR.sub(r"\1", text[1:-1]) if "\\" in text else text[1:-1]
    return text


def bracketed(host: str) -> str:
    """A host as it stands in a URI or Via: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def transport_parameter(transport: str) -> str:
    """What a sip URI says of the transport by which it is reached; UDP goes without saying (RFC 3261 §19.1.1)."""
    return "" if transport == "udp" else f";transport={transport}"
