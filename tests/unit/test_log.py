"""No secret in any log line."""

import json
import logging

import pytest
import structlog
from sqlalchemy import text

from engine import log
from engine.config import Log
from engine.db import Database


def test_tokens_keys_and_set_up_links_are_taken_out() -> None:
    """P-23: a token in a path, an API key in a header and a set-up key in a query are no log's business."""
    said = log.redact("GET /p/AbCdEf123/0015.cfg cp_abcdefghijklmnopqrstuvwxyz http://x/setup?k=Qm3v-71xk&y=1")
    assert said == "GET /p/…/0015.cfg … http://x/setup?k=…&y=1"


def test_every_line_is_redacted_json_whoever_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up(Log(format="json"))
    structlog.get_logger().warning("fetch", path="/p/secret-token/x.cfg")
    logging.getLogger("anything").error("failed %s", "/p/secret-token/y.cfg")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["fetch", "failed /p/…/y.cfg"]
    assert lines[0]["path"] == "/p/…/x.cfg"
    assert lines[0]["level"] == "warning"


async def test_no_value_of_a_statement_is_in_the_log_at_debug(
    capsys: pytest.CaptureFixture[str], database: Database
) -> None:
    """S0-50: the driver's own debug lines hold every value of every statement: passwords' hashes, addresses, tokens."""
    log.set_up(Log(level="debug", format="json"))
    async with database.sessions() as session:
        await session.execute(text("SELECT :value"), {"value": "argon2id-of-somebody"})
    structlog.get_logger().debug("asked")
    said = capsys.readouterr().err
    log.set_up(Log())
    assert '"asked"' in said
    assert "argon2id-of-somebody" not in said
