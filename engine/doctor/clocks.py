"""`callpoint doctor` on the nodes' clocks: what the audit log says of those that were set back, or are apart."""

import datetime as dt
from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.record import PLATFORM
from engine.audit.store_times import steps_since
from engine.findings import Finding

LATELY = dt.timedelta(days=7)
_WHAT = "clocks"
_MEANING = (
    "911 calls go on, but their records, mails and the audit log may tell wrong times. See that every node's time is "
    "set and kept right (timedatectl, chronyc tracking). The audit log has each of them as clock.set_back."
)


async def clock_finding(session: AsyncSession, account_ids: Iterable[str], now: dt.datetime) -> Finding:
    """Whose clock was more than five minutes behind what another had written, in the last seven days: once a node."""
    newest: dict[str, tuple[dt.datetime, float]] = {}
    for chain in (PLATFORM, *account_ids):
        for node, at, behind_s in await steps_since(session, chain, now - LATELY):
            newest[node] = max(newest.get(node, (at, behind_s)), (at, behind_s))
    if not newest:
        return Finding(_WHAT, "good", "none was set back, and no two were apart, in the last seven days")
    told = [
        f"the clock of {node} was {_in_words(behind_s)} behind an entry that was written before it "
        f"({at:%Y-%m-%d %H:%M} UTC by that clock)"
        for node, (at, behind_s) in sorted(newest.items())
    ]
    more = f", and {len(told) - 3} more nodes like it" if len(told) > 3 else ""
    return Finding(
        _WHAT, "warning", f"In the last seven days {'; '.join(told[:3])}{more}: it was set back, or another node's "
        f"clock is ahead. {_MEANING}",
    )  # fmt: skip


def _in_words(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 60:.0f} minutes"
