"""What Home tells is counted by the database, of this account alone."""

from engine.db import Database, utc_now
from engine.models import PhoneStatus
from engine.provisioning.store import PhoneCounts, count_phones
from tests.factories import add_account, add_phone


async def test_phones_are_counted_by_what_became_of_them(database: Database) -> None:
    """S0-18: how many there are, how many booted, how many are out of date, and which was the first."""
    async with database.sessions.begin() as session:
        account = await add_account(session)
        other = await add_account(session, name="Somebody else")
        assert await count_phones(session, account.id) == PhoneCounts(0, 0, 0, None)
        first = await add_phone(session, account, mac="0015654aa901")
        await add_phone(session, account, mac="0015654aa902", status=PhoneStatus.CURRENT, last_fetch_at=utc_now())
        await add_phone(session, account, mac="0015654aa903", status=PhoneStatus.STALE, last_fetch_at=utc_now())
        await add_phone(session, other, mac="0015654aa904", status=PhoneStatus.STALE, last_fetch_at=utc_now())
        assert await count_phones(session, account.id) == PhoneCounts(3, 2, 1, first.id)
