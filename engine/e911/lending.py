"""Which number a caller is called back by: its own, one lent from its location's pool, else a general one. Pure.

A pool (ELINs, emergency location identification numbers) is for callers that have no number of their own. A number is
lent for `elin_hold_minutes`; who called before gets the same one again, else the one that rested longest, else the one
that was lent longest ago is taken from its holder, and the call says so. A test call never takes a number from a real
one. Every number a call went out with is remembered, so that a call back to it finds the caller.
"""

import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from engine.e911.caller import is_nameless
from engine.e911.location import AccountTable, Caller, Resolved
from engine.e911.rows import Number
from engine.sip.forward import Hop

TEST_HOLD = timedelta(minutes=10)  # a 933 call is not called back; whoever tries all the same finds the phone
MAX_LENT = 20_000
MAX_CHOSEN = 8  # numbers that others are about to lend, each the best of those left; then any free one
MAX_CLAIMS = 64  # tried after those: a decision must not take longer with the pool
LOW = 5  # fewer than a fifth of the pool is left
EXHAUSTED_FLAG = "elin_exhausted"
LOW_FLAG = "elin_low"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Loan:
    """A number that a call went out with, until when (UTC) a call back to it is that caller's, and who that is.

    `hop`: where the call came from. `is_elin`: the number is of a pool.
    """

    number: str
    account_id: str
    until: datetime
    call: str = ""
    pbx_id: str | None = None
    sip_user: str = ""
    extension: str = ""
    name: str = ""
    location_id: str | None = None
    hop: Hop | None = None
    is_elin: bool = False
    is_test: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"until": self.until.isoformat(), "hop": list(self.hop) if self.hop else None}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Loan":
        """From what `as_dict` made; raises TypeError, KeyError or ValueError for anything else."""
        hop = Hop(*row["hop"][:3]) if row.get("hop") else None  # the stream it came by is gone with its process
        return cls(**dict(row) | {"until": datetime.fromisoformat(row["until"]), "hop": hop})


@dataclass(frozen=True, slots=True)
class Chosen:
    """The number to send. `elin`: it is of a pool; `is_lent`: and now this caller's, `is_own`: as it was before.
    `is_asserted`: the PBX says it, and nobody has entered it. `flags` for the call's record.
    """

    number: str | None
    elin: str | None = None
    is_lent: bool = True
    is_own: bool = False
    is_asserted: bool = False
    flags: tuple[str, ...] = ()


class Lending:
    """Chooses numbers and remembers who has them. `fresh` are the loans made here that nobody has taken to the disk.

    Args:
        claim: Whether a number of a pool is ours to lend at this moment; no when another process is about to lend it.
    """

    def __init__(self, claim: Callable[[str], bool] = lambda _: True) -> None:
        self.claim = claim
        self._loans: OrderedDict[str, Loan] = OrderedDict()
        self.fresh: list[Loan] = []

    def choose(
        self,
        account: AccountTable,
        caller: Caller,
        resolved: Resolved,
        pbx_id: str | None,
        now: datetime,
        *,
        is_test: bool,
        call_id: str = "",
    ) -> Chosen:
        """The number for one call; nothing is lent yet. Never fails: with nothing at all it is None."""
        direct = account.direct_number_for(resolved.phone, resolved.line)
        if direct:
            return Chosen(direct)
        location = resolved.location
        pool = account.pool_of(location.id) if location is not None else ()
        if pool:
            who = (pbx_id, holder_name(caller, resolved, call_id))
            return self._claimed_from(pool, who, now, is_test=is_test)
        general = account.callback_number_for(resolved.phone, resolved.line, location)
        return Chosen(general) if general else Chosen(caller.asserted_number, is_asserted=True)

    def lend(self, loan: Loan) -> None:
        """Remember who a number was sent for. A test does not take it from a real caller."""
        known = self._loans.get(loan.number)
        if known is not None and loan.is_test and not known.is_test and known.until > loan.until - TEST_HOLD:
            return
        self._keep(loan)
        self.fresh.append(loan)

    def take_fresh(self) -> list[Loan]:
        taken, self.fresh = self.fresh[-MAX_LENT:], []
        return taken

    def learn(self, loans: Iterable[Loan]) -> None:
        """Loans of before a restart, or made by another process: of two for one number the later counts."""
        for loan in loans:
            known = self._loans.get(loan.number)
            if known is None or known.until < loan.until:
                self._keep(loan)

    def loan_of(self, number: str, now: datetime) -> Loan | None:
        """Whose number it is at this moment."""
        loan = self._loans.get(number)
        return loan if loan is not None and loan.until > now else None

    def holder_of(self, account: AccountTable, number: Number) -> Loan | None:
        """The latest loan of a number, as remembered here or as the database has it, still good or not."""
        known, stored = self._loans.get(number.e164), stored_loan(account, number)
        if known is None or (stored is not None and stored.until > known.until and stored.call != known.call):
            return stored
        return known

    def loans(self, now: datetime) -> list[Loan]:
        """All that are good still; those that are not are forgotten."""
        for number in [number for number, loan in self._loans.items() if loan.until <= now - timedelta(days=1)]:
            del self._loans[number]
        return [loan for loan in self._loans.values() if loan.until > now]

    def shift(self, step: timedelta) -> None:
        """The clock was set by that much, and no caller waited: every loan goes on as long as it would have."""
        for number, loan in self._loans.items():
            self._loans[number] = replace(loan, until=loan.until + step)
        self.fresh = [replace(loan, until=loan.until + step) for loan in self.fresh]

    def _keep(self, loan: Loan) -> None:
        self._loans[loan.number] = loan
        self._loans.move_to_end(loan.number)
        if len(self._loans) > MAX_LENT:
            self._loans.popitem(last=False)

    def _claimed_from(
        self, pool: Sequence[Number], who: tuple[str | None, str], now: datetime, *, is_test: bool
    ) -> Chosen:
        """The best number that no other process is about to lend; when they lend them all, the best one all the same:
        a call is not sent without a number for that. Who calls again has theirs already, whichever process lent it.
        """
        first = chosen = self._from_pool(pool, who, now, is_test=is_test)
        left = pool
        for _ in range(MAX_CHOSEN):
            if not chosen.is_lent or chosen.is_own or chosen.number is None or self.claim(chosen.number):
                return chosen
            left = [number for number in left if number.e164 != chosen.number]
            if not left:
                return replace(first, flags=(EXHAUSTED_FLAG,))
            chosen = self._from_pool(left, who, now, is_test=is_test)
        for number in left[:MAX_CLAIMS]:
            chosen = self._from_pool((number,), who, now, is_test=is_test)
            if EXHAUSTED_FLAG not in chosen.flags and self.claim(number.e164):
                return replace(chosen, flags=first.flags)
        return replace(first, flags=(EXHAUSTED_FLAG,))

    def _from_pool(
        self,
        pool: Sequence[Number],
        who: tuple[str | None, str],
        now: datetime,
        *,
        is_test: bool,
    ) -> Chosen:
        loans, size = self._loans, len(pool)
        rested = tested = oldest = None  # (since, number): the best of each kind
        own, free = "", 0
        for number in pool:  # once, and nothing made for it: a pool may have hundreds
            e164, loan, holder = number.e164, loans.get(number.e164), number.held_by
            if loan is not None and (holder is None or holder.call == loan.call or loan.until >= _until(number)):
                until, holds, is_tested = loan.until, (loan.pbx_id, loan.sip_user), loan.is_test
            elif holder is not None:
                until, holds, is_tested = _until(number), (holder.pbx_id, holder.sip_user), False
            else:
                until, holds, is_tested = _LONG_AGO, None, False
            since = (until, e164)
            if until <= now:
                free += 1
                rested = since if rested is None or since < rested else rested
                continue
            own = e164 if holds == who else own
            oldest = since if oldest is None or since < oldest else oldest
            if is_tested:
                tested = since if tested is None or since < tested else tested
        if own:
            return Chosen(own, own, is_own=True, flags=_low(free, size))
        if rested is not None:
            return Chosen(rested[1], rested[1], flags=_low(free - 1, size))
        if tested is not None and not is_test:
            return Chosen(tested[1], tested[1], flags=(LOW_FLAG,))
        assert oldest is not None
        return Chosen(oldest[1], oldest[1], is_lent=not is_test, flags=(EXHAUSTED_FLAG,))


def holder_name(caller: Caller, resolved: Resolved, call_id: str) -> str:
    """What tells this caller from others of the PBX: the line's user or the identity; of one who gives none the phone
    or its address, else the Call-ID alone: then the next call is somebody else's.
    """
    if resolved.line is not None:
        return resolved.line.sip_user
    if not is_nameless(caller.identity):
        return caller.identity
    phone = resolved.phone.id if resolved.phone is not None else caller.device
    key = phone or (str(caller.source_ip) if caller.source_ip is not None else call_id)
    return f"anonymous@{zlib.crc32(key.encode('utf-8', 'surrogateescape')):08x}"


def _until(number: Number) -> datetime:
    return number.held_until or _LONG_AGO


def stored_loan(account: AccountTable, number: Number) -> Loan | None:
    """What the database knows of a number's last holder."""
    if number.held_until is None or number.held_by is None:
        return None
    holder = number.held_by
    return Loan(
        number.e164, account.account_id, number.held_until, holder.call, holder.pbx_id, holder.sip_user,
        holder.extension, holder.name, number.location_id, None, number.kind == "elin",
    )  # fmt: skip


def hold_of(account: AccountTable, *, is_test: bool) -> timedelta:
    """How long a number stays with its caller."""
    hold = timedelta(minutes=account.elin_hold_minutes)
    return min(hold, TEST_HOLD) if is_test else hold


def without_stream(loan: Loan) -> Loan:
    """The loan as another process can use it."""
    return replace(loan, hop=loan.hop._replace(connection=0)) if loan.hop is not None else loan


def _low(left: int, size: int) -> tuple[str, ...]:
    return (LOW_FLAG,) if left * LOW < size else ()
