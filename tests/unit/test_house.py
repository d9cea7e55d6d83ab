"""The house keeps its own rules: rooms, documentation, sizes, names."""

import ast
import gc
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from engine.audit.events import Event
from engine.config import Config
from tests.conftest import ROOT

SOURCES = sorted([*(ROOT / "engine").rglob("*.py"), *(ROOT / "admin").rglob("*.py")])
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
CALLS_ITSELF_PURE = re.compile(r"\(pure\)|\bpure\.", re.IGNORECASE)
UNNAMED = re.compile(r"(^|_)(utils?|helpers?|common|manager|service|misc)(_|$)")


def parsed(text: str) -> ast.Module:
    """The syntax tree. Python 3.11 fails when a finalizer of what other tests left runs in the middle of it."""
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()


@pytest.mark.enable_socket
def test_rooms_import_only_what_lies_below_them() -> None:
    """The layers and the purity of the cores are import-linter's contracts in pyproject.toml."""
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_what_calls_itself_pure_stands_under_the_contract_of_purity() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (pure,) = (set(each["source_modules"]) for each in contracts if each["name"].startswith("pure"))
    said = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
        if CALLS_ITSELF_PURE.search((ast.get_docstring(parsed(path.read_text())) or "").partition("\n\n")[0])
    }
    assert not {name for name in said if not any(name == one or name.startswith(f"{one}.") for one in pure)}
    assert len(said) > 50


def test_every_configuration_key_is_documented() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for section, field in Config.model_fields.items():
        for key, value in field.annotation.model_fields.items():
            assert f"`{value.alias or key}`" in text or f"[{section}] {value.alias or key}`" in text, (
                f"[{section}] {key}"
            )


def test_every_audit_event_is_documented() -> None:
    text = (ROOT / "docs" / "audit-events.md").read_text()
    missing = [event.value for event in Event if f"`{event.value}`" not in text]
    assert not missing


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= LONGEST_FILE or "migrations" in path.parts, f"{lines} lines"
    assert not UNNAMED.search(path.stem), f"{path.name} names no idea"
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "migrations" not in path.parts:
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


def test_readme_names_the_two_commands_and_ci_runs_the_second() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "python3 run.py  " in readme
    assert "python3 run.py test" in readme
    assert "python3 run.py test" in (ROOT / ".ci" / "run").read_text()


def test_run_py_needs_the_standard_library_alone() -> None:
    tree = parsed((ROOT / "run.py").read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[0] for module in modules} <= sys.stdlib_module_names
