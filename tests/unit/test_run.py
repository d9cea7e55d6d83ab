"""The one command that runs every test: what its lanes share is everything, once."""

import importlib.util
import sys
from collections import Counter, deque
from pathlib import Path
from types import ModuleType

import pytest
import typer

from engine.__main__ import app as command_line
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_py", ROOT / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_py"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def files_of(words: list[str]) -> list[Path]:
    """The test files that pytest collects for these words, as its own documentation says."""
    places = [ROOT / word for word in words if word.startswith("tests")]
    ignored = [ROOT / word.removeprefix("--ignore=") for word in words if word.startswith("--ignore=")]
    found = [file for place in places for file in ([place] if place.is_file() else place.rglob("test_*.py"))]
    return [file for file in found if not any(file == each or each in file.parents for each in ignored)]


def test_every_test_file_is_in_exactly_one_piece_of_the_lanes(run: ModuleType) -> None:
    """A new file or folder is run, whether a piece names it or not."""
    pieces = [piece for lane in run.shared_out() for piece in lane]
    assert [piece.name for piece in pieces if "pytest" not in piece.command] == ["checks"]
    counted = Counter(file for piece in pieces for file in files_of(piece.command))
    assert counted == Counter(dict.fromkeys((ROOT / "tests").rglob("test_*.py"), 1))


def test_a_lane_that_is_done_takes_the_next_piece_of_another(run: ModuleType) -> None:
    """The first takes what waits, the others what computes; then whatever there is, and in the end nothing is left."""
    one, two, three, four = (run.Piece(name, []) for name in ("one", "two", "three", "four"))
    lanes = [deque([one, two]), deque([three, four])]
    assert [run.next_piece(lanes, lane) for lane in (2, 0, 1, 1, 0, 2)] == [three, one, four, two, None, None]


def test_a_piece_that_fails_and_its_slow_tests_are_told(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is a failure's, whatever came after it; seconds are sorted over all pieces of a lane."""
    said = "1.50s call     tests/a.py::slow[1 s]\\n12.00s setup    tests/b.py::slower\\n2 passed"
    good = run.Piece("good", [sys.executable, "-c", f"print('{said}')"])
    bad = run.Piece("bad", [sys.executable, "-c", "raise SystemExit(3)"])
    monkeypatch.setattr(run, "shared_out", lambda: [deque([bad]), deque([good])])
    assert run.in_lanes() == 1
    out = capsys.readouterr().out
    assert out.index("12.00 s  tests/b.py::slower") < out.index("1.50 s  tests/a.py::slow[1 s]")
    assert "Failed: bad\n" in out
    monkeypatch.setattr(run, "shared_out", lambda: [deque([good]), deque()])
    assert run.in_lanes() == 0


def test_a_slip_of_the_pen_is_told_before_anything_is_installed(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and what was probably meant; the words are those of the command itself."""
    app = typer.main.get_command(command_line)
    assert set(run.COMMANDS) == set(app.commands)
    monkeypatch.setattr(sys, "argv", ["run.py", "doktor"])
    assert run.main() == 2
    assert "There is no command doktor. Did you mean doctor?" in capsys.readouterr().err
