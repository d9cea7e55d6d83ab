"""Who may be served at all: address ranges, phones' own certificates, and what happens to those who ask too much
(pure).

Theory of operation. Every request is judged after the same look-up, and whoever is turned away gets the one 404. Two
things are counted, both by network (an IPv4 address, an IPv6 /64) and only over requests that miss:

All misses, so that a flood folds into one row of the fetch log. It changes no answer.

Different MAC addresses that the account does not know, asked for with a live token: that is how somebody who found a
provisioning URL walks an address block for passwords. A phone that asks for the same missing file all day counts
once. When a network has used its share up, a phone that was never served there is turned away until the walking
stops; a phone whose last fetch came from that network, or that proves itself by certificate, is served as ever. So
one bad phone, and even a thief in the next room, takes nothing from the phones of that site.

Everything is kept in bounded memory of this process and forgotten with it. Calls are touched by none of this: a phone
that is turned away keeps its configuration.
"""

import datetime as dt
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from engine.provisioning.certificates import Authorities, DeviceCertificate
from engine.provisioning.index import Found
from engine.provisioning.policy import ClientCertificates, Policy
from engine.provisioning.vendors import Confidence, PhoneIdentity

MAX_NETWORKS = 16_384  # about 4 MB
MAX_WALKED = 65_536  # pairs of network and address remembered, about 12 MB
MISSES_AT_ONCE, MISSES_PER_S = 120.0, 2.0
# A site of 250 phones may be plugged in before they are entered here. Beyond that one address every 15 s is left: an
# address block of 2^24 takes eight years.
STRANGERS_AT_ONCE, STRANGERS_PER_S = 256.0, 1 / 15
IPV6_PREFIX = 64  # what one subscriber has at least: the rest of the address is the subscriber's own choice


class Turned(NamedTuple):
    """Turned away: `reason` for the fetch log, `is_mismatch` when the evidence contradicts itself, `is_flood` when it
    is one of too many misses to tell them apart.
    """

    reason: str
    is_mismatch: bool = False
    evidence: tuple[str, ...] = ()
    is_flood: bool = False


class Asker(NamedTuple):
    """Who asks: the address, the certificate shown (None: none), seconds of a steady clock, and the time of day."""

    ip: str
    certificate: DeviceCertificate | None
    clock: float
    now: dt.datetime


@dataclass(slots=True)
class Bucket:
    """So many at once, so many a second ever after. `left` as of `at`."""

    left: float
    at: float

    def refilled(self, most: float, per_s: float, clock: float) -> float:
        self.left = min(most, self.left + max(0.0, clock - self.at) * per_s)
        self.at = clock
        return self.left


@dataclass(slots=True)
class _Network:
    misses: Bucket
    strangers: Bucket


@dataclass(slots=True)
class Admission:
    """The judge of one phones' port. `authorities` None: certificates are not looked at."""

    authorities: Authorities | None = None
    _networks: OrderedDict[str, _Network] = field(default_factory=OrderedDict)
    _walked: OrderedDict[tuple[str, str, str], None] = field(default_factory=OrderedDict)

    def judge(
        self, asker: Asker, policy: Policy, found: Found | None, who: PhoneIdentity, *, misses: str | None
    ) -> Turned | None:
        """Whether this request is turned away, beyond what is wrong with it already.

        Args:
            found: Whose token it is, with the phone of that MAC; None: nobody's.
            misses: Why the request is refused anyway; None: it would be served.
        """
        turned = self._by_rule(asker, policy, who) if found is not None else None
        if turned is not None:
            self._is_over(network_of(asker.ip), asker.clock)
            return turned
        if misses is None:
            return self._of_a_hit(asker, policy, who, found.last_ip if found is not None else "")
        network = network_of(asker.ip)
        if found is not None and misses == "phone" and who.mac is not None:
            self._note_stranger(network, found.account_id, who.mac, asker.clock)
        return Turned("limited", is_flood=True) if self._is_over(network, asker.clock) else None

    def is_calm(self, ip: str, last_ip: str) -> bool:
        """Whether nothing was counted that could turn a phone away there which was served there last."""
        return not self._walked or last_ip == ip

    @staticmethod
    def _by_rule(asker: Asker, policy: Policy, who: PhoneIdentity) -> Turned | None:
        """What the account's policy has against the request."""
        if not policy.allows_source(asker.ip):
            return Turned("source", evidence=(f"{asker.ip} is outside the account's address ranges",))
        return _contradiction(asker, policy, who)

    def _of_a_hit(self, asker: Asker, policy: Policy, who: PhoneIdentity, last_ip: str) -> Turned | None:
        """A phone that is to be served is turned away only as a stranger in a network that walks through addresses."""
        if who.mac is None or self.is_calm(asker.ip, last_ip):
            return None
        network = network_of(asker.ip)
        is_at_home = bool(last_ip) and network_of(last_ip) == network
        if is_at_home or proves(asker, policy, who) or not self._is_walking(network, asker.clock):
            return None
        return Turned("limited", evidence=("too many unknown addresses were asked for from there; served again soon",))

    def _is_over(self, network: str, clock: float) -> bool:
        """Count a miss; whether there were too many lately."""
        bucket = self._of(network, clock).misses
        if bucket.refilled(MISSES_AT_ONCE, MISSES_PER_S, clock) < 1:
            return True
        bucket.left -= 1
        return False

    def _note_stranger(self, network: str, account_id: str, mac: str, clock: float) -> None:
        key = (network, account_id, mac)
        if key in self._walked:
            self._walked.move_to_end(key)
            return
        self._walked[key] = None
        if len(self._walked) > MAX_WALKED:
            self._walked.popitem(last=False)
        bucket = self._of(network, clock).strangers
        bucket.left = max(0.0, bucket.refilled(STRANGERS_AT_ONCE, STRANGERS_PER_S, clock) - 1)

    def _is_walking(self, network: str, clock: float) -> bool:
        known = self._networks.get(network)
        return known is not None and known.strangers.refilled(STRANGERS_AT_ONCE, STRANGERS_PER_S, clock) < 1

    def _of(self, network: str, clock: float) -> _Network:
        known = self._networks.get(network)
        if known is None:
            known = self._networks[network] = _Network(Bucket(MISSES_AT_ONCE, clock), Bucket(STRANGERS_AT_ONCE, clock))
            if len(self._networks) > MAX_NETWORKS:
                self._networks.popitem(last=False)
        else:
            self._networks.move_to_end(network)
        return known


def network_of(address: str) -> str:
    """What is counted together: an IPv4 address, the /64 of an IPv6 one, the text itself where it is neither."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))


def with_certificate(who: PhoneIdentity, certificate: DeviceCertificate | None) -> PhoneIdentity:
    """The identity with the certificate's address, where nothing else in the request names one. What it is worth is
    judged once the account is known.
    """
    if certificate is None or certificate.mac is None:
        return who
    return replace(who, mac=certificate.mac) if who.mac is None else who


def settled(
    who: PhoneIdentity, named: PhoneIdentity, found: Found | None, asker: Asker, policy: Policy
) -> tuple[PhoneIdentity, Found | None]:
    """The identity and the phone, once it is known what the certificate that named them is worth: where it counts for
    nothing, the request is one that names no phone.
    """
    if found is None or _counts(asker, policy):
        return named, found
    return who, found._replace(phone_id=None, vendor="", model="", last_ip="")


def certified(who: PhoneIdentity, asker: Asker, policy: Policy, vendor: str) -> PhoneIdentity:
    """The identity with its proof: a certificate that names the phone's address leaves no doubt whose phone asks."""
    certificate = asker.certificate
    if certificate is None or not proves(asker, policy, who):
        return who
    told = f"the certificate of {certificate.subject} proves {who.mac}"
    if not certificate.is_in_time(asker.now):
        told += f", though it ended on {certificate.not_after:%Y-%m-%d}"
    is_agreed = who.vendor in {None, vendor}
    return replace(
        who,
        vendor=vendor if is_agreed else who.vendor,
        confidence=Confidence.EXACT if is_agreed else who.confidence,
        evidence=(told, *who.evidence),
    )


def _counts(asker: Asker, policy: Policy) -> bool:
    """Whether the certificate is worth anything under this policy."""
    if asker.certificate is None or policy.client_certificates is ClientCertificates.OFF:
        return False
    return policy.expired_certificates or asker.certificate.is_in_time(asker.now)


def proves(asker: Asker, policy: Policy, who: PhoneIdentity) -> bool:
    """Whether a certificate that counts names the phone's address."""
    if asker.certificate is None or asker.certificate.mac is None:
        return False
    return asker.certificate.mac == who.mac and _counts(asker, policy)


def _contradiction(asker: Asker, policy: Policy, who: PhoneIdentity) -> Turned | None:
    """What the certificate, or the lack of one, has against the request."""
    if policy.client_certificates is ClientCertificates.OFF:
        return None
    certificate = asker.certificate
    if certificate is not None and certificate.mac is not None and who.mac not in {None, certificate.mac}:
        told = f"the certificate is {certificate.mac}'s ({certificate.subject}), the request names {who.mac}"
        return Turned("certificate", is_mismatch=True, evidence=(told,))
    if policy.client_certificates is not ClientCertificates.REQUIRED or proves(asker, policy, who):
        return None
    if certificate is None:
        told = "no certificate was shown"
    elif certificate.mac is None:
        told = f"the certificate of {certificate.subject} names no address"
    else:
        told = f"the certificate of {certificate.subject} ended on {certificate.not_after:%Y-%m-%d}"
    return Turned("certificate", evidence=(told,))
