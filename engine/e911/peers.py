"""Who is asking: a PBX by the name in its certificate, then by digest, then by its address; our own command by a proof
made with the key file; a trunk; else a stranger (design decision 16). Pure.

An emergency request from within a PBX's own network goes at once, proven or not: a challenge is one more way for it to
fail, and its address is as good a proof as most PBXs ever give. Whoever calls from anywhere else is asked for a proof
first, and its emergency request goes as soon as it has given one.
"""

import hmac
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from engine.e911.caller import read_caller
from engine.e911.entries import Stranger
from engine.e911.location import AccountTable, LocationTable, Pbx
from engine.e911.table import Owners
from engine.sip.auth import Authenticator, Checked, Verdict
from engine.sip.forward import Hop
from engine.sip.grammar import OWN_REALM
from engine.sip.message import Request

PROOF_HEADER = "X-Callpoint-Proof"
PROOF_PURPOSE = "cli-proof"
PROOF_WINDOW_S = 60
AIMED_AT_US = frozenset({"OPTIONS", "REGISTER"})  # answered by us: 401; the rest would be forwarded: 407
MAX_CHALLENGES_PER_S = 100  # to strangers, and as many again to those who dial an emergency; beyond it they are refused
MAX_CHALLENGES_PER_ADDRESS = 10  # of each hundred: a flood from a few places leaves the others theirs
MAX_PROVEN = 4_096  # places from where somebody proved who they are
MAX_PLAIN = 1_024
MAX_CHALLENGED = 1_000
PROOF_WITHIN_S = 5  # a challenged caller who has not proven anything by then is on record as refused
UNPROVEN = "sender_unproven"  # it gave a wrong password; one that gave none was not asked for any
SHARED = "sender_shared"


def make_proof(subkey: bytes, account_id: str, seconds: int, call_id: str) -> str:
    """The X-Callpoint-Proof value by which `callpoint call` shows that it holds the key file.

    Args:
        subkey: `KeyRing.subkey(PROOF_PURPOSE)`.
        seconds: Unix time; good for a minute either way.
    """
    digest = hmac.digest(subkey, f"{account_id};{seconds};{call_id}".encode(), "sha256").hex()
    return f"{account_id};{seconds};{digest}"


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a request: an account and its PBX.

    `is_proven`: our own command, which has no PBX entry and no defaults. `is_doubtful`: its address fits, but it ought
    to prove itself for anything that is no emergency; `flags` say so on the record of a call.
    """

    account: AccountTable
    pbx: Pbx
    is_proven: bool = False
    is_doubtful: bool = False
    flags: tuple[str, ...] = ()
    verdict: Verdict = Verdict.ABSENT


_PROOF_NAME = PROOF_HEADER.lower().encode()


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody we know. `verdict`: what the digest it gave was worth."""

    verdict: Verdict = Verdict.ABSENT


@dataclass(frozen=True, slots=True)
class Challenged:
    """A stranger who may yet turn out to be a PBX. `until`: Unix seconds."""

    stranger: Stranger
    until: int


@dataclass(slots=True)
class _Rate:
    """Challenges of the running second, in all and by address."""

    second: int = 0
    count: int = 0
    by_address: dict[str, int] = field(default_factory=dict)

    def allows(self, second: int, ip: str) -> bool:
        if second != self.second:
            self.second, self.count = second, 0
            self.by_address.clear()
        if self.count >= MAX_CHALLENGES_PER_S:
            return False
        asked = self.by_address[ip] = self.by_address.get(ip, 0) + 1
        if asked > MAX_CHALLENGES_PER_ADDRESS:
            return False
        self.count += 1
        return True


class Peers:
    """Tells who is asking. Remembers, to a bound, who proved themselves from where, and who was asked to.

    Args:
        trunk_ips: Addresses of all trunks, as sockets name them.
        names_of: The verified names in the certificate at the other end of a TLS connection, by its number.
        proof_key: `KeyRing.subkey(PROOF_PURPOSE)`; the nonces' key is made of it.
    """

    def __init__(
        self,
        table: LocationTable,
        *,
        trunk_ips: Collection[str],
        names_of: Callable[[int], tuple[str, ...]],
        proof_key: bytes,
    ) -> None:
        self._table, self._trunk_ips, self._names_of = table, trunk_ips, names_of
        self._proof_key = proof_key
        self._authenticator = Authenticator(OWN_REALM, proof_key)
        self._proven: OrderedDict[Hop, tuple[str, str]] = OrderedDict()
        self._challenged: OrderedDict[str, Challenged] = OrderedDict()
        self._crowded_out: list[Stranger] = []
        self._unanswered: OrderedDict[str, None] = OrderedDict()  # addresses whose last challenge had no right answer
        self._rate, self._emergency_rate = _Rate(), _Rate()
        self._seen_at: dict[str, Hop] = {}  # by PBX, of those that proved themselves
        self._plain: dict[str, Peer] = {}  # by address, of those it is proof enough for

    def is_trusted(self, hop: Hop) -> bool:
        """True for a PBX or a trunk, as far as an address or a connection tells. What it may do is `who`'s to say."""
        return bool(self._table.owners_of(hop.ip)) or hop.ip in self._trunk_ips or self._stands_for(hop) is not None

    def is_trunk(self, hop: Hop) -> bool:
        """An address of a trunk, or a connection whose certificate names one."""
        if hop.ip in self._trunk_ips:
            return True
        names = self._names_of(hop.connection) if hop.transport == "tls" else ()
        return bool(names) and any(
            trunk.transport == "tls" and trunk.host.lower() in names
            for account in self._table.accounts.values()
            for trunk in account.trunks
        )

    def at(self, hop: Hop) -> tuple[AccountTable, Pbx] | None:
        """The PBX a message from there most likely is of; enough to go on with an emergency, and for nothing else."""
        return self._stands_for(hop) or self._table.peer_of(hop.ip)

    def seen_at(self, pbx_id: str) -> Hop | None:
        """Where a PBX that proves itself was last: its connection, or its address behind a NAT."""
        return self._seen_at.get(pbx_id)

    def who(self, request: Request, source: Hop, now: datetime) -> Peer | Unknown:
        """Who sent this request. Never raises for what a peer sent."""
        proof = request.header(PROOF_HEADER) if _PROOF_NAME in request.shape.first else None
        proven = self._proven_account(proof, request.call_id, now) if proof else None
        if proven is not None:
            return Peer(proven, Pbx("", "callpoint call"), is_proven=True)
        if source.transport == "tls" and (named := self._named(source)) is not None:
            self._seen_at[named[1].id] = source
            return Peer(*named)
        owners = self._table.owners_of(source.ip)
        if len(owners) == 1 and not owners[0][1].auth_user:  # nearly every request
            known = self._plain.get(source.ip)
            if known is None or known.account is not owners[0][0] or known.pbx is not owners[0][1]:
                if len(self._plain) >= MAX_PLAIN:
                    self._plain.clear()
                known = self._plain[source.ip] = Peer(*owners[0])
            return known
        checked = self._check(request, now)
        if checked.verdict is Verdict.PROVEN:
            return self._welcome(self._table.user(checked.user)[0], request, source)
        if not owners:
            return Unknown(checked.verdict)
        flags = (UNPROVEN,) if checked.verdict is Verdict.WRONG else ()
        owner = owners[0] if len(owners) == 1 else self._stands_for(source)
        if owner not in owners:
            owner, flags = self._likeliest(owners, request, source), (*flags, SHARED)
        return Peer(*owner, is_doubtful=True, flags=flags, verdict=checked.verdict)

    # --- challenges ---------------------------------------------------------------------------------------------------

    def challenge(
        self,
        request: Request,
        source: Hop,
        verdict: Verdict,
        now: datetime,
        stranger: Stranger | None = None,
    ) -> tuple[int, tuple[tuple[str, str], ...]]:
        """(status, header lines) that ask for a proof; (403, ()) for who will not be asked again.

        A `stranger` is asked only while some PBX could prove itself, a bounded number of times a second (who has proven
        itself from there before is not counted, and ordinary strangers take nothing from one who dials an emergency),
        and with an answer of no more than about twice what it sent. It is on record unless it proves itself soon. A
        peer that reads nothing but the first challenge and knows MD5 alone must get through to 911 at its first try,
        and to anything else at its second.
        """
        seconds, room = int(now.timestamp()), 1_000
        if verdict is Verdict.WRONG:
            return 403, ()
        if stranger is not None:
            rate = self._emergency_rate if stranger.is_emergency else self._rate
            is_asked = self._stands_for(source) is not None or rate.allows(seconds, source.ip)
            if not self._table.has_users or not is_asked:
                return 403, ()
            room = 2 * len(request.raw) - _size_of_answer(request)
        is_proxy = request.method not in AIMED_AT_US
        headers = self._authenticator.challenge(
            seconds,
            is_proxy=is_proxy,
            is_stale=verdict is Verdict.STALE,
            is_plain=source.ip in self._unanswered or (stranger is not None and stranger.is_emergency),
            max_bytes=room,
        )
        if not headers:
            return 403, ()
        self._unanswered[source.ip] = None
        if len(self._unanswered) > MAX_CHALLENGED:
            self._unanswered.popitem(last=False)
        if stranger is not None:
            self._await_proof(request.call_id, Challenged(stranger, seconds + PROOF_WITHIN_S))
        return (407 if is_proxy else 401), headers

    def take_unproven(self, now: datetime) -> list[Stranger]:
        """Strangers who were asked and did not answer rightly in time, for the record."""
        taken, self._crowded_out = self._crowded_out, []
        while self._challenged:
            call_id, first = next(iter(self._challenged.items()))
            if first.until > now.timestamp():
                break
            del self._challenged[call_id]
            taken.append(first.stranger)
        return taken

    def _await_proof(self, call_id: str, challenged: Challenged) -> None:
        if call_id in self._challenged:
            return
        self._challenged[call_id] = challenged
        if len(self._challenged) > MAX_CHALLENGED:
            _, first = self._challenged.popitem(last=False)
            self._crowded_out = [*self._crowded_out[-MAX_CHALLENGED:], first.stranger]

    def _check(self, request: Request, now: datetime) -> Checked:
        if not self._table.has_users:
            return Checked(Verdict.ABSENT)
        return self._authenticator.check(request, self._secret_of, int(now.timestamp()))

    def _secret_of(self, user: str) -> str | None:
        owners = self._table.user(user)
        return owners[0][1].secret if owners else None

    def _welcome(self, owner: tuple[AccountTable, Pbx], request: Request, source: Hop) -> Peer:
        self._challenged.pop(request.call_id, None)
        self._unanswered.pop(source.ip, None)
        self._seen_at[owner[1].id] = source
        self._proven[source] = owner[0].account_id, owner[1].id
        self._proven.move_to_end(source)
        if len(self._proven) > MAX_PROVEN:
            self._proven.popitem(last=False)
        return Peer(*owner)

    # --- other proofs -------------------------------------------------------------------------------------------------

    def _stands_for(self, hop: Hop) -> tuple[AccountTable, Pbx] | None:
        """Whose TLS connection this is, or who last proved itself from exactly there."""
        if hop.transport == "tls" and (named := self._named(hop)) is not None:
            return named
        account_id, pbx_id = self._proven.get(hop, ("", ""))
        account = self._table.accounts.get(account_id)
        pbx = account.pbxs.get(pbx_id) if account is not None else None
        return (account, pbx) if account is not None and pbx is not None else None

    def _named(self, hop: Hop) -> tuple[AccountTable, Pbx] | None:
        for name in self._names_of(hop.connection):
            owners = self._table.named(name)
            if owners:
                return owners[0]
        return None

    def _proven_account(self, proof: str, call_id: str, now: datetime) -> AccountTable | None:
        account_id, _, rest = proof.partition(";")
        seconds = rest.partition(";")[0]
        if not seconds.isascii() or not seconds.isdigit() or len(seconds) > 12:
            return None
        try:
            expected = make_proof(self._proof_key, account_id, int(seconds), call_id)
            is_ours = hmac.compare_digest(expected, proof.strip())
        except (UnicodeEncodeError, TypeError):  # octets that are no text
            return None
        is_fresh = abs(now.timestamp() - int(seconds)) <= PROOF_WINDOW_S
        return self._table.accounts.get(account_id) if is_ours and is_fresh else None

    @staticmethod
    def _likeliest(owners: Owners, request: Request, source: Hop) -> tuple[AccountTable, Pbx]:
        """Of those who share a network: the one who has the phone, line or number that calls, else the oldest."""
        for account, pbx in owners:
            caller = read_caller(request, source, account, pbx, is_proven=False)
            number = caller.asserted_number
            if any(account.who(caller, pbx.id)) or (number is not None and account.number_of(number) is not None):
                return account, pbx
        return owners[0]


def _size_of_answer(request: Request) -> int:
    """Of our own response to it, before any challenge: what it copies (RFC 3261 §8.2.6), and some 120 octets."""
    copied: Iterable[bytes] = (request.lines_of(name) for name in (b"via", b"from", b"to", b"call-id", b"cseq"))
    return sum(map(len, copied)) + 120
