"""What `callpoint doctor` says of numbers: can responders call back, and does an extension have one of theirs."""

from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import utc_now
from engine.e911 import callback_numbers, sites, store, store_calls
from engine.findings import Finding
from engine.models import Account

NAMED = 5  # of a kind; the pages show the rest


async def number_findings(session: AsyncSession, account: Account) -> list[Finding]:
    """Pools that will not do, lines that nobody could call back, extensions that are emergency numbers somewhere."""
    names = {location.id: location.name for location in await store.locations_of(session, account.id)}
    pools = await callback_numbers.pools_of(session, account, utc_now())
    findings = [
        Finding(f"{account.name}: callback numbers of {names.get(pool.location_id or '', 'no location')}", "warning",
                pool.warning)
        for pool in pools
        if pool.warning
    ]  # fmt: skip
    findings += await _silent_lines(session, account, has_pools=any(pool.location_id for pool in pools))
    locations = await store.locations_of(session, account.id)
    warnings = await sites.warnings_of(session, account, locations)
    withheld = [(location, text) for location in locations for text in sites.withheld_warnings(location)]
    findings += [Finding(f"{account.name}: {place.name}", "warning", text) for place, text in withheld[:NAMED]]
    told = {text for _, text in withheld}
    sentences = dict.fromkeys(text for found in warnings.values() for text in found if text not in told)
    findings += [Finding(f"{account.name}: extensions", "warning", text) for text in list(sentences)[:NAMED]]
    return findings


async def _silent_lines(session: AsyncSession, account: Account, *, has_pools: bool) -> list[Finding]:
    """Lines with no number of their own, where no location lends them one."""
    if has_pools:
        return []
    count = await store_calls.count_lines_without_number(session, account.id)
    if not count:
        return []
    who = f"{count} line{'' if count == 1 else 's'} with no number of {'its' if count == 1 else 'their'} own"
    if account.callback_number:
        detail = (
            f"{who}: responders call back {account.callback_number}. Let locations lend numbers to reach the caller."
        )
        return [Finding(f"{account.name}: callback numbers", "warning", detail)]
    detail = f"{who}, and the account has none: responders may be unable to call back. Set one under Settings."
    return [Finding(f"{account.name}: callback numbers", "warning", detail)]
