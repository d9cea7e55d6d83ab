"""Location URIs that requests named (RFC 6442, RFC 6753): who may be asked, what was answered, how long it holds. Pure.

An answer is fresh until its HTTP lifetime ends and may be used when nobody answers any more until its own
`retention-expiry`, at most a day. What is asked for again and again is asked for ahead, shortly before it goes stale.
A host that failed or was late is not waited for again for some seconds: calls leave at once, and it is asked meanwhile.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from engine.e911.civic import CivicAddress, DispatchableLocation
from engine.e911.evidence import Rung, Source
from engine.e911.pidf import BadLocation, CarriedLocation, read_pidf
from engine.e911.prefixes import is_private
from engine.e911.references import open_reference
from engine.e911.rows import Pbx
from engine.e911.table import AccountTable
from engine.sip.uri import bracketed

MAX_KNOWN = 4_096
MAX_URI_CHARS = 2_048
MAX_NAME_CHARS = 100
FRESH = timedelta(minutes=5)  # an answer whose sender says nothing of its lifetime
LEAST = timedelta(seconds=10)  # the call it was fetched for may use it whatever it says
KEEP = timedelta(hours=24)  # RFC 4119 §2.2.2: what applies where a sender names no retention-expiry
NOT_WAITED_FOR = timedelta(seconds=10)  # a host that was late or failed
WORTH_REFRESHING = timedelta(minutes=1)  # shorter lives would have us ask without end
AHEAD = timedelta(seconds=20)
USED_WITHIN = timedelta(hours=24)
MAX_AT_ONCE = 8
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_PORTS = {"https": 443, "http": 80}


class Authority(NamedTuple):
    """Scheme, host in lower case, and port of a URI."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = bracketed(self.host)
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class Look(NamedTuple):
    """What is known of a reference now. `ask`: it is worth asking; `may_wait`: and worth a short wait."""

    rung: Rung
    ask: bool = False
    may_wait: bool = False


@dataclass(slots=True)
class _Known:
    authority: Authority
    used_at: datetime
    location: DispatchableLocation | None = None
    answered_at: datetime | None = None
    fresh_until: datetime | None = None
    keep_until: datetime | None = None
    detail: str = ""  # why the last try gave nothing


Key = tuple[str, str]
"""An account and a URI: what one account was told is nothing to another."""


@dataclass(slots=True)
class LocationUris:
    """What is known of location URIs. `hosts`: `host` or `host:port` of the servers that may be asked.

    References of our own HELD server (a phone fetched one and names it in its call) are opened here, nobody is asked:
    `held_url` and `reference_key` are what they were made with.
    """

    hosts: frozenset[str]
    held_url: str = ""
    reference_key: bytes = field(default=b"", repr=False)
    _known: OrderedDict[Key, _Known] = field(default_factory=OrderedDict)
    _unheard: dict[str, datetime] = field(default_factory=dict)  # hosts not worth a wait, and until when

    def look(self, account: AccountTable, pbx: Pbx, uri: str, now: datetime, *, has_waited: bool) -> Look:
        """What that URI's location is, as far as is known. `has_waited`: there is no more time for an answer."""
        if self.held_url and uri.startswith(f"{self.held_url}/"):
            return Look(self._own(account, uri[len(self.held_url) + 1 :], now))
        authority = authority_of(uri)
        refusal = refusal_of(authority, self.hosts, pbx)
        if authority is None or refusal:
            return Look(Rung(Source.REFERENCE, None, ("{} is not asked: {}", _shown(uri), refusal)))
        known = self._note(account.account_id, uri, authority, now)
        if known.location is not None and known.fresh_until is not None and now < known.fresh_until:
            return Look(Rung(Source.REFERENCE, known.location, ("{} answered", authority), known.answered_at))
        unheard_until = self._unheard.get(str(authority))
        may_wait = not has_waited and (unheard_until is None or now >= unheard_until)
        if known.location is not None and known.keep_until is not None and now < known.keep_until:
            old = ("{} answered, and has not been heard again since", authority)
            rung = Rung(Source.REFERENCE, known.location, old, known.answered_at, counts=not may_wait)
            return Look(rung, ask=True, may_wait=may_wait)
        why = ("{} was asked: {}", authority, known.detail or "it has not answered yet")
        return Look(Rung(Source.REFERENCE, None, why), ask=True, may_wait=may_wait)

    def _own(self, account: AccountTable, text: str, now: datetime) -> Rung:
        found = open_reference(self.reference_key, text, now)
        if found is None or found.account_id != account.account_id:
            return Rung(Source.REFERENCE, None, ("our own reference, expired or of another account",))
        if found.target_id:  # wherever that phone is by now; what is known of it is asked by the other sources
            return Rung(Source.REFERENCE, None, ("our own reference: it says where the phone's records say",))
        location = account.locations.get(found.location_id)
        if location is None or not location.can_be_conveyed:
            return Rung(Source.REFERENCE, None, ("our own reference, of a location that is gone",))
        return Rung(Source.REFERENCE, location, ("our own reference",))

    def answered(self, key: Key, now: datetime, pidf: bytes | None, detail: str, max_age_s: float | None) -> bool:
        """Keep an answer, or why there is none; True when a location is known from it."""
        known = self._known.get(key)
        if known is None:
            return False
        found = None
        try:
            found = next(filter(_is_usable, read_pidf(pidf)), None) if pidf is not None else None
        except BadLocation as exc:
            detail = exc.detail
        if found is None:
            known.detail = (detail or "its answer holds no location")[:200]
            self._unheard[str(known.authority)] = now + NOT_WAITED_FOR
            return False
        lives = timedelta(seconds=max_age_s) if max_age_s is not None else FRESH
        expiry = found.retention_expiry or now + KEEP
        known.location, known.answered_at, known.detail = located(found), now, ""
        known.fresh_until = max(min(now + lives, expiry), now + LEAST)
        known.keep_until = max(min(now + KEEP, expiry), known.fresh_until)
        self._unheard.pop(str(known.authority), None)
        return True

    def was_late(self, key: Key, now: datetime) -> None:
        """A call left without the answer."""
        known = self._known.get(key)
        if known is not None:
            known.detail = "it did not answer in time"
            self._unheard[str(known.authority)] = now + NOT_WAITED_FOR

    def due(self, now: datetime) -> list[Key]:
        """What is used and about to go stale, to be asked for ahead of the next call."""
        found: list[Key] = []
        for key, known in self._known.items():
            if known.fresh_until is None or known.answered_at is None or now - known.used_at > USED_WITHIN:
                continue
            is_near = known.fresh_until - AHEAD <= now < known.fresh_until
            if is_near and known.fresh_until - known.answered_at >= WORTH_REFRESHING:
                found.append(key)
                if len(found) == MAX_AT_ONCE:
                    break
        return found

    def _note(self, account_id: str, uri: str, authority: Authority, now: datetime) -> _Known:
        key = (account_id, uri)
        known = self._known.get(key)
        if known is None:
            while len(self._known) >= MAX_KNOWN:
                self._known.popitem(last=False)
            if len(self._unheard) > MAX_KNOWN:
                self._unheard.clear()
            known = self._known[key] = _Known(authority, now)
        self._known.move_to_end(key)
        known.used_at = now
        return known


def authority_of(uri: str) -> Authority | None:
    """Whom an https or http URI asks; None for any other URI, and for one that names a user or an odd host."""
    if len(uri) > MAX_URI_CHARS or not uri.isascii() or any(char <= " " or char == "\\" for char in uri):
        return None
    try:
        parts = urlsplit(uri)
        scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    if scheme not in _PORTS or "@" in parts.netloc or not _HOST.fullmatch(host):
        return None
    return Authority(scheme, host, port or _PORTS[scheme])


def refusal_of(authority: Authority | None, hosts: Iterable[str], pbx: Pbx | None = None) -> str:
    """Why that server is not asked, empty when it may be: a request must not make us call just anybody (SSRF).

    Asked are the servers listed in the configuration, and over https the PBX that sent the request, by its own name or
    address. Plain http is for listed servers on loopback or private addresses.
    """
    if authority is None:
        return "it is no https URI of a plain host"
    is_listed = str(authority) in hosts
    if authority.scheme == "http":
        if not is_listed or not _is_inside(authority.host):
            return "http is used for listed servers on private addresses alone; use https"
        return ""
    if is_listed or (pbx is not None and authority.port == _PORTS["https"] and authority.host in _names_of(pbx)):
        return ""
    return "its host is not listed in [sip] location_hosts"


def located(carried: CarriedLocation) -> DispatchableLocation:
    """A location that came from outside, as the table's own are; it has no identifier and nobody validated it."""
    return DispatchableLocation("", _name(carried), carried.civic_address, carried.geo)


def _is_usable(carried: CarriedLocation) -> bool:
    return bool(carried.civic_address.elements) or carried.geo is not None


def _name(carried: CarriedLocation) -> str:
    civic: CivicAddress = carried.civic_address
    street = " ".join(filter(None, (civic.get(name) for name in ("HNO", "PRD", "RD", "STS", "POD"))))
    inside = [f"{word} {civic.get(name)}" for name, word in (("FLR", "floor"), ("ROOM", "room")) if civic.get(name)]
    words = [part for part in (civic.get("NAM"), street, *inside, civic.get("A3")) if part]
    if not words and carried.geo is not None:
        words = [f"{carried.geo.latitude:.5f}", f"{carried.geo.longitude:.5f}"]
    return ", ".join(words or (value for _, value in civic.elements))[:MAX_NAME_CHARS]


def _is_inside(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return is_private(ip_address(host))
    except ValueError:
        return False


def _names_of(pbx: Pbx) -> set[str]:
    addresses = {str(network.network_address) for network in pbx.sources if network.num_addresses == 1}
    return (addresses | {pbx.tls_name.lower(), pbx.registrar_host.lower()}) - {""}


def _shown(uri: str) -> str:
    """A URI for the record: a reference is a secret of its own (RFC 6753 §3.1), so its path is left out."""
    authority = authority_of(uri)
    return str(authority) if authority is not None else uri.partition(":")[0][:20] + ":"
