"""What the doctor says of callback numbers and extensions."""

from engine.db import Database
from engine.doctor.numbers import number_findings
from tests.factories import add_account, add_line, add_location, add_number


async def test_the_doctor_names_pools_lines_and_extensions_that_will_not_do(database: Database) -> None:
    """E-09, E-01: what would fail at the next call is told before it."""
    async with database.sessions.begin() as session:
        account = await add_account(session, callback_number="+15185550100")
        await add_line(session, account, "101")
        with_own = await add_line(session, account, "102")
        await add_number(session, account, "+15185550102", line_id=with_own.id)
        assert [finding.detail.partition(":")[0] for finding in await number_findings(session, account)] == [
            "1 line with no number of its own"
        ]
        account.callback_number = None
        assert "may be unable to call back" in (await number_findings(session, account))[0].detail
        location = await add_location(session, account, name="Wellington", civic_address={"country": "NZ"})
        await add_line(session, account, "111")
        await add_number(session, account, "+15185550150", kind="elin", location_id=location.id)
        await add_number(session, account, "+15185550151", kind="elin")
        found = {finding.what: finding.detail for finding in await number_findings(session, account)}
        account.callback_number = "+15185550100"
    assert set(found) == {
        "Acme Dental: callback numbers of Wellington",
        "Acme Dental: callback numbers of no location",
        "Acme Dental: extensions",
    }
    assert "Line 111" in found["Acme Dental: extensions"]
