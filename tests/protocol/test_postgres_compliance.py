"""E-16 on a real PostgreSQL: the report's rows, its order page by page, filters with a count and without."""

from engine.db import Database, utc_now
from engine.e911 import compliance_list, store_compliance
from engine.e911.compliance_list import Counts, Filters
from engine.e911.store_compliance import Place
from engine.models import FetchedFile
from tests.factories import (
    add_account,
    add_emergency_call,
    add_line,
    add_location,
    add_network,
    add_number,
    add_phone,
    add_sighting,
    add_trunk,
)


async def test_the_report_on_postgresql(postgres: Database) -> None:
    async with postgres.sessions.begin() as session:
        account = await add_account(session)
        await add_trunk(session, account)
        place = await add_location(session, account, status="validated", validated_at=utc_now())
        await add_network(session, place, "10.4.2.0/24")
        await add_number(session, account, "+15185550171", kind="elin", location_id=place.id)
        lines = [await add_line(session, account, name) for name in ("101", "102", "Zed", "alpha", "10+1")]
        phone = await add_phone(session, account, *lines[:2], id="phone_1")
        await add_phone(session, account, mac="001565000002", id="phone_2")
        await add_sighting(session, phone, ip="10.4.2.9")
        await add_emergency_call(session, account, kind="test", outcome="answered", caller={"phone_id": phone.id})
        proof = {"numbers": ["911", "933"], "faults": []}
        session.add(
            FetchedFile(
                phone_id=phone.id, name="a.cfg", account_id=account.id, etag='"e"', body=b"", fetched_at=utc_now(),
                proof=proof,
            )
        )  # fmt: skip
    async with postgres.sessions() as session:
        basis = await store_compliance.basis_of(session, account, may_mail=True)
        whole = (await compliance_list.page(session, basis, Filters(), after=None, limit=50)).rows
    first, stations = whole[0], [row.station for row in whole]
    assert (first.told.resolved.source, first.location.verdict, first.direct_dialing.verdict) == (
        "subnet",
        "met",
        "met",
    )
    assert first.told.callback_number == "+15185550171"
    assert first.call is not None
    counts = Counts(postgres)
    counts.want(account, 0, may_mail=True)
    count = await counts.whole(account.id)
    assert count is not None
    assert count.devices == len(stations) == 6
    lost = [row.station for row in whole if row.told.resolved.location is None]
    async with postgres.sessions() as session:
        for filters, known, expected in (
            (Filters(), None, stations), (Filters(location="none"), None, lost),
            (Filters(location="none"), count, lost),
        ):  # fmt: skip
            found, after = [], None
            while True:
                page = await compliance_list.page(session, basis, filters, after=after, limit=2, count=known)
                found += [row.station for row in page.rows]
                if page.following is None:
                    break
                after = Place.read(str(page.following))
            assert found == expected
    await counts.close()
