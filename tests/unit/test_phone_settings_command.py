"""`callpoint phone-settings`: what all accounts' phones are told, by who runs the installation."""

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.__main__ import app
from engine.errors import Invalid


def command(*words: str) -> str:
    done = CliRunner().invoke(app, ["phone-settings", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_settings_of_all_accounts_are_said_shown_and_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """P-10: the global level has no page and no API key; each change stands in the platform's audit log."""
    monkeypatch.setenv("CALLPOINT_CORE__DATA_DIR", str(tmp_path))
    assert json.loads(command("show")) == {}
    command("set", "ntp_server", "time.example.net")
    command("set", "codecs", '["opus", "pcmu"]')
    command("set", "lldp", "false")
    assert json.loads(command("show")) == {
        "ntp_server": "time.example.net", "codecs": ["opus", "pcmu"], "lldp": False,
    }  # fmt: skip
    with pytest.raises(Invalid) as caught:
        command("set", "vlan_id", "9999")
    assert caught.value.fields[0].field == "settings.vlan_id"
    for name in ("codecs", "lldp", "ntp_server"):
        command("unset", name)
    assert json.loads(command("show")) == {}
    with sqlite3.connect(tmp_path / "callpoint.db") as database:
        rows = database.execute("SELECT event, chain FROM audit_entry WHERE event LIKE 'settings.%' ORDER BY seq")
        assert [event for event, chain in rows.fetchall() if chain == "platform"] == [
            "settings.create", "settings.update", "settings.update", "settings.update", "settings.update",
            "settings.delete",
        ]  # fmt: skip
