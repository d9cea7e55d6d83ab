"""What calls of any node went out with, as loans of callback numbers: `lent_elsewhere` reads them."""

import datetime as dt
from collections.abc import Collection

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.e911.lending import TEST_HOLD, Loan
from engine.models import Account, CallKind, EmergencyCall, Line, Location, Number
from engine.sip.forward import Hop

_OWNERS = (
    (Number.e164, Number.account_id),
    (Line.callback_number, Line.account_id),
    (Location.callback_number, Location.account_id),
    (Account.callback_number, Account.id),
)


async def lent_since(
    session: AsyncSession, changed_at: dt.datetime, received_at: dt.datetime
) -> tuple[list[Loan], dt.datetime]:
    """(loans in the order of their calls, the latest change) of calls changed and received at or after these times.

    As `Hook` lends them: of a test a pool's number alone, and none that the PBX merely said and another account has.
    """
    call = EmergencyCall
    columns = (
        call.id, call.account_id, call.pbx_id, call.caller, call.location, call.peer, call.elin, call.kind,
        call.received_at, call.changed_at, Account.elin_hold_minutes,
    )  # fmt: skip
    query = (
        select(*columns)
        .join(Account, Account.id == call.account_id)
        .where(call.changed_at >= changed_at, call.received_at >= received_at, call.kind != CallKind.DRILL)
        .order_by(call.received_at)
    )
    rows = (await session.execute(query)).mappings().all()
    latest = max((row["changed_at"] for row in rows), default=changed_at)
    loans = [loan for row in rows if (loan := _loan_of(row)) is not None]
    owners = await _owners(session, {loan.number for loan in loans if not loan.is_elin})
    return [each for each in loans if each.is_elin or each.account_id in owners.get(each.number, (each.account_id,))], (
        latest
    )


def _loan_of(row: RowMapping) -> Loan | None:
    caller, peer, is_test = row["caller"] or {}, row["peer"] or {}, row["kind"] == CallKind.TEST
    number = row["elin"] or caller.get("callback_number")
    if not number or (is_test and not row["elin"]):
        return None
    hold = dt.timedelta(minutes=row["elin_hold_minutes"])
    hop = Hop(str(peer["transport"]), str(peer["ip"]), int(peer["port"])) if peer.get("ip") else None
    return Loan(
        number=str(number),
        account_id=row["account_id"],
        until=row["received_at"] + (min(hold, TEST_HOLD) if is_test else hold),
        call=row["id"],
        pbx_id=row["pbx_id"],
        sip_user=str(caller.get("sip_user") or ""),
        extension=str(caller.get("extension") or ""),
        name=str(caller.get("name") or ""),
        location_id=(row["location"] or {}).get("id"),
        hop=hop,
        is_elin=bool(row["elin"]),
        is_test=is_test,
    )


async def _owners(session: AsyncSession, numbers: Collection[str]) -> dict[str, set[str]]:
    """Whose each number is, by any entry of anybody's; without those that nobody has entered."""
    owners: dict[str, set[str]] = {}
    for column, account_id in _OWNERS if numbers else ():
        for number, owner in await session.execute(select(column, account_id).where(column.in_(numbers))):
            owners.setdefault(str(number), set()).add(owner)
    return owners
