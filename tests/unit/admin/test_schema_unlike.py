"""A database of another build is told apart from one that is away."""

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from admin.problems import SchemaUnlike, meant
from engine import crypto, migrations
from engine.audit.record import open_audited
from engine.config import Config, Core
from engine.doctor import checks
from engine.errors import DatabaseAway
from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket


async def test_a_missing_table_or_column_is_a_500_that_is_logged_and_doctor_names_it(
    port: AdminPort, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """AD-11: it was told as a database that is away, and stood in no log."""
    assert await migrations.missing(port.database) == ()
    async with port.database.engine.begin() as connection:
        await connection.execute(text("ALTER TABLE location RENAME COLUMN onsite_number TO onsite"))
        await connection.execute(text("ALTER TABLE webhook RENAME TO webhook_of_another_build"))
    assert await migrations.missing(port.database) == ("location.onsite_number", "webhook")
    for path in ("locations", "webhooks"):
        answer = await port.call("GET", f"/api/v1/{path}", site.auth)
        told = await answer.json()
        assert (answer.status, told["code"]) == (500, "schema_unlike"), path
        assert "of another build" in told["detail"]
        assert "location" not in told["detail"]
        assert answer.headers["X-Request-Id"] in capsys.readouterr().out
    assert (await port.call("GET", "/api/v1/account", site.auth)).status == 200


@pytest.mark.parametrize(("state", "is_unlike"), [("42P01", True), ("42703", True), ("57P01", False)])
def test_postgresql_says_it_by_its_state(state: str, *, is_unlike: bool) -> None:
    """AD-11: undefined_table and undefined_column; a server that shuts down is away."""
    driver = Exception("words of the driver")
    vars(driver)["sqlstate"] = state
    kind = ProgrammingError if is_unlike else OperationalError
    assert type(meant(kind("SELECT", {}, driver))) is (SchemaUnlike if is_unlike else DatabaseAway)


async def test_doctor_names_what_the_database_lacks(tmp_path: Path) -> None:
    """AD-11: the revision is right and a column is not there."""
    config = Config(core=Core(data_dir=tmp_path))
    database = open_audited(config.database_url, crypto.create(config.key_file))
    try:
        await migrations.migrate(database)
        async with database.engine.begin() as connection:
            await connection.execute(text("ALTER TABLE location DROP COLUMN onsite_number"))
    finally:
        await database.close()
    (found,) = [one for one in await checks.examine(config) if one.what == "database"]
    assert found.level == "bad"
    assert "has no location.onsite_number" in found.detail
