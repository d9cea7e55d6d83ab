"""`callpoint user` and `callpoint operator`: for whoever can read the key file."""

import json
import re
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engine.__main__ import app
from engine.accounts.store import OPERATORS
from engine.errors import Conflict, Invalid, NotFound

PASSWORD = "violet tractor hums beneath nine lakes\n"
EMAIL = "helper@platform.example"


def command(*words: str, typed: str = "") -> str:
    done = CliRunner().invoke(app, list(words), input=typed, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CALLPOINT_CORE__DATA_DIR", str(tmp_path))
    return tmp_path


def entries(folder: Path, event: str) -> list[tuple[str, dict[str, object]]]:
    with sqlite3.connect(folder / "callpoint.db") as database:
        rows = database.execute(
            "SELECT chain, entry FROM audit_entry WHERE event = ? ORDER BY seq", (event,)
        ).fetchall()
    return [(chain, json.loads(entry)) for chain, entry in rows]


def test_a_lost_second_factor_is_reset_on_the_machine(folder: Path) -> None:
    """S1-14, S1-31: by e-mail address, audited in the user's account with who typed it; an unknown one is told."""
    made = command(
        "account", "create", "--name", "Acme", "--owner-email", "o@acme.example", "--password-stdin", typed=PASSWORD
    )
    said = command("user", "reset-2fa", "O@acme.example")
    assert "o@acme.example is signed out everywhere and signs in with the password alone." in said
    ((chain, told),) = entries(folder, "user.reset_2fa")
    assert (chain, told["actor"]["type"], told["category"]) == (made.split()[-1], "cli", "Users")
    with pytest.raises(NotFound, match=r"Nobody here has the address x@y\.example"):
        command("user", "reset-2fa", "x@y.example")


def test_an_operator_is_made_once_and_listed_apart_from_accounts(folder: Path) -> None:
    """S0-35: the password's rules hold; the operators' account is in no list of accounts."""
    asked = ("operator", "create", "--email", EMAIL, "--name", "Hanna Helper", "--password-stdin")
    with pytest.raises(Invalid):
        command(*asked, typed="helper helper helper\n")
    user_id = command(*asked, typed=PASSWORD).split()[-1]
    assert re.fullmatch(r"user_[0-9a-z]{26}", user_id)
    with pytest.raises(Conflict):
        command(*asked, typed=PASSWORD)
    command("operator", "create", "--email", "look@platform.example", "--read-only", "--password-stdin", typed=PASSWORD)
    listed = json.loads(command("operator", "list", "--json"))
    assert [(one["email"], one["may"], one["status"]) for one in listed] == [
        (EMAIL, "act", "active"), ("look@platform.example", "read", "active"),
    ]  # fmt: skip
    assert EMAIL in command("operator", "list")
    assert json.loads(command("account", "list", "--json")) == []
    assert [chain for chain, _told in entries(folder, "operator.create")] == [OPERATORS, OPERATORS]
