"""`callpoint audit verify` on files that are no whole export: what it says, and what to do instead."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.audit.record import canonical, chain_hash
from engine.audit.verify import GENESIS, Verdict, export_line, main, told


def exported(count: int) -> list[str]:
    lines, before = [], GENESIS
    for seq in range(1, count + 1):
        at = f"2026-11-22T10:00:0{seq}.000Z"
        text = canonical(
            {"at": at, "chain": "account_x", "event": "user.create", "seq": seq, "status": 200, "verb": "create"}
        )
        own = chain_hash(before, text)
        lines.append(export_line(SimpleNamespace(entry=text, prev_hash=before, hash=own)))
        before = own
    return lines


def judged(path: Path, text: str | bytes, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    code = main([str(path), *more])
    said = capsys.readouterr()
    return code, said.out, said.err


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
    assert (
        code,
        out.startswith("6 entries hold: chain account_x, number 1 of ") and "The last is number 6" in out,
    ) == (0, True)
    assert json.loads(whole[0])["entry"]["seq"] == 1


def test_a_log_that_holds_is_told_with_what_was_checked_and_what_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entries from when to when; without checkpoints, key and mail it says what stays open."""
    lines = exported(3)
    texts = [json.loads(line)["entry"] for line in lines]
    whole = "\n".join(lines) + "\n"
    code, out, _err = judged(tmp_path / "whole.jsonl", whole, capsys)
    assert code == 0
    first, last = texts[0], texts[-1]
    assert f"3 entries hold: chain {first['chain']}, number 1 of {first['at']} to 3 of {last['at']}." in out
    assert "Each hash was computed anew and each entry follows the one before" in out
    assert "No checkpoint in the file vouches for what follows entry 0." in out
    assert "Not checked: any signature: the file has no checkpoint" in out
    assert "Not checked: that it passes through what was mailed" in out
    middle = json.loads(lines[1])["hash"]
    code, out, _err = judged(tmp_path / "known.jsonl", whole, capsys, "--checkpoint", middle)
    assert (code, "The chain passes through the checkpoint you gave: it is entry 2." in out) == (0, True)
    assert "what was mailed" not in out
    code, out, _err = judged(tmp_path / "one.jsonl", lines[0] + "\n", capsys)
    assert f"1 entry holds: chain {first['chain']}, number 1 of {first['at']}." in out
    code, out, _err = judged(tmp_path / "part.jsonl", f"{lines[0]}\n{lines[2]}\n", capsys, "--part")
    assert (code, "2 entries hold, each in itself, among number 1 to 3." in out) == (0, True)
    assert "Not checked: whether entries are missing between them, and any signature." in out


def test_the_key_that_was_named_is_told_as_such() -> None:
    """Compared, it is not asked for again; not compared, what prints it is."""
    verdict = Verdict(5, 5, "f" * 64, "", "account_1", 2, ("a" * 64,), 5, first_seq=1, first_at="A", last_at="B")
    named = " ".join(told(verdict, key="a" * 64, checkpoint=""))
    assert "2 signed checkpoints agree, the last at entry 5; signed with the key you named, aaaa" in named
    assert "--key" not in named
    asked = " ".join(told(verdict))
    assert "Is that the key you noted?" in asked
    assert "Not checked: that the key is this installation's: give the one you noted with --key" in asked
    assert "vouches" not in asked
