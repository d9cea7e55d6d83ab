"""`callpoint audit verify` on files that are no whole export: what it says, and what to do instead."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.audit.record import canonical, chain_hash
from engine.audit.verify import GENESIS, export_line, main


def exported(count: int) -> list[str]:
    lines, before = [], GENESIS
    for seq in range(1, count + 1):
        text = canonical({"chain": "account_x", "event": "user.create", "seq": seq, "status": 200, "verb": "create"})
        own = chain_hash(before, text)
        lines.append(export_line(SimpleNamespace(entry=text, prev_hash=before, hash=own)))
        before = own
    return lines


def judged(path: Path, text: str | bytes, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    code = main([str(path), *more])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_csv_export_is_told_from_a_broken_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """S0-45: nobody takes a spreadsheet for a log that was tampered with; the right export is named."""
    for text in ("id,at,event\naudit_1,2026,user.create\n", b"\xef\xbb\xbfid,at\r\n"):
        code, out, err = judged(tmp_path / "audit.csv", text, capsys)
        assert (code, out) == (2, "")
        assert "is no JSON Lines export" in err
        assert "callpoint audit export --account ID" in err
        assert "broken" not in err


def test_a_filtered_export_is_told_how_to_check_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """S0-45: numbers that are missing are a broken chain still, and `--part` is named; with it each entry holds."""
    whole = exported(6)
    some = "\n".join(line for at, line in enumerate(whole) if at % 2) + "\n"
    code, out, err = judged(tmp_path / "part.jsonl", some, capsys)
    assert (code, out) == (1, "")
    assert "The chain is broken: line 1: expected entry 1, got 2" in err
    assert "each entry in" in err
    assert "say --part" in err
    assert "without filters" in err
    code, out, err = judged(tmp_path / "part.jsonl", some, capsys, "--part")
    assert (code, err) == (0, "")
    assert "3 entries hold, each in itself" in out


def test_a_changed_entry_is_never_told_as_a_filter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """S0-45: where an entry does not hold in itself no word makes light of it; a whole export holds."""
    whole = exported(6)
    forged = [whole[1], whole[3].replace("user.create", "user.delete"), whole[5]]
    code, _out, err = judged(tmp_path / "forged.jsonl", "\n".join(forged) + "\n", capsys)
    assert (code, "--part" in err) == (1, False)
    moved = [whole[0], whole[1].replace("user.create", "user.delete"), *whole[2:]]
    code, _out, err = judged(tmp_path / "moved.jsonl", "\n".join(moved) + "\n", capsys)
    assert (code, "was changed after it was written" in err, "--part" in err) == (1, True, False)
    code, out, _err = judged(tmp_path / "whole.jsonl", "\n".join(whole) + "\n", capsys)
    assert (code, out.splitlines()[0].startswith("6 entries hold. The last is number 6")) == (0, True)
    assert json.loads(whole[0])["entry"]["seq"] == 1
