"""The compiled SIP core is the same element as its Python source."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from engine import native
from tests.conftest import ROOT

# The tables and models of the element, the torture messages, and races between real processes.
SAME = (
    "tests/unit/sip", "tests/protocol/test_rfc4475.py", "tests/protocol/test_sipp_races.py",
    "tests/protocol/test_edge_calls.py",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this source's compiled core: the one of this installation if `run.py` made it, or a new one."""
    if shutil.which("gcc") is None or not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        pytest.skip("there is no C compiler, or no Python headers, to compile the SIP core with")
    kept = Path(sys.prefix) / "native" / native.fingerprint()
    return kept if kept.is_dir() else native.build(tmp_path_factory.mktemp("native"))


def python(*command: str, kept: Path | str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {native.VARIABLE: str(kept)}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(1_500)  # compiles first; a shared machine takes three times as long
def test_the_compiled_core_passes_every_test_of_the_element(made: Path) -> None:
    """E-18: conformance, models, fuzz and races hold for the machine code as they do for the source."""
    found = python("-c", "import engine.sip.stack as s; print(s.__file__)", kept=made.parent)
    assert found.stdout.strip().startswith(str(made)), found.stderr
    ended = python("-m", "pytest", *SAME, "-q", "-p", "no:cacheprovider", kept=made.parent)
    assert ended.returncode == 0, ended.stdout[-4000:]


def test_what_was_compiled_of_other_source_is_never_used(made: Path, tmp_path: Path) -> None:
    """E-18: after an upgrade the Python source runs until it is compiled again."""
    other = tmp_path / ("0" * 24)
    shutil.copytree(made, other)
    found = python("-c", "import engine.sip.stack as s; print(s.__file__)", kept=tmp_path)
    assert found.stdout.strip() == str(ROOT / "engine" / "sip" / "stack.py"), found.stderr
    found = python("-c", "import engine.sip.stack as s; print(s.__file__)", kept="off")
    assert found.stdout.strip() == str(ROOT / "engine" / "sip" / "stack.py"), found.stderr
    sources = tmp_path / "sip"
    shutil.copytree(native.PACKAGE, sources, ignore=shutil.ignore_patterns("__pycache__"))
    before = native.fingerprint(sources)
    (sources / "stack.py").write_text((sources / "stack.py").read_text() + "\n# one more line\n")
    assert native.fingerprint(sources) != before == native.fingerprint()


def test_a_source_that_does_not_compile_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Path
) -> None:
    """E-18: the words of the compiler, and no half-made folder that a start could find."""
    assert made.is_dir()
    broken = tmp_path / "engine" / "sip"
    shutil.copytree(native.PACKAGE, broken, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "errors.py"):
        shutil.copy(native.PACKAGE.parent / name, tmp_path / "engine" / name)
    (broken / "uri.py").write_text('"""Broken."""\n\nport: int = "5060"\n')
    monkeypatch.setattr(native, "PACKAGE", broken)
    with pytest.raises(RuntimeError, match="goes on as Python"):
        native.build(tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_what_somebody_else_is_compiling_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Path
) -> None:
    """E-18: two who compile at once do not take each other's work away; what was left half made goes one day."""
    kept = tmp_path / "native"
    shutil.copytree(made, kept / made.name)
    for name in ("making-now", "making-once", "0" * 24):
        (kept / name).mkdir(parents=True)
    long_ago = time.time() - 2 * native.MAKING_S
    os.utime(kept / "making-once", (long_ago, long_ago))
    monkeypatch.setenv(native.VARIABLE, str(kept))
    assert native.main() == 0
    assert {each.name for each in kept.iterdir()} == {made.name, "making-now"}
