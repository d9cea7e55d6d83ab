"""The SIP core compiled to machine code, where somebody made it: `python3 run.py compile`.

The sans-IO core is plain typed Python and runs as such. Compiled by mypyc the same source costs a call less than half
the CPU. What is compiled lies outside the source, in a folder named for the hash of exactly the files it was made of
and of the interpreter that made it: a change to either and the folder is not found, so that compiled code is never
older than its source.

`CALLPOINT_NATIVE` in the environment: `off` runs the Python source; a path looks there instead.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

VARIABLE = "CALLPOINT_NATIVE"
MAKING_S = 3_600.0  # a folder half made for longer than that was left behind
_MAKING = "making-"
PACKAGE = Path(__file__).parent / "sip"
# What a datagram passes through. The shells of streams wait for sockets, and the resolver for DNS: nothing is gained.
MODULES = (
    "attempt", "auth", "cancel", "context", "crowd", "dialog", "disguise", "edit", "events", "failover", "forward",
    "framer", "grammar", "headers", "inside", "message", "own", "passage", "proxy", "refusals", "remembered", "repair",
    "reply", "stack", "stream_crowd", "timers", "transaction", "udp", "uri", "validation",
)  # fmt: skip


def place() -> Path | None:
    """Where compiled cores are kept; None when they are not wanted."""
    said = os.environ.get(VARIABLE, "")
    if said.lower() in {"off", "0", "no", "false"}:
        return None
    return Path(said) if said else Path(sys.prefix) / "native"


def fingerprint(sources: Path = PACKAGE) -> str:
    """What a compiled core is made of, in 24 hexadecimal digits."""
    made_of = hashlib.sha256(f"{sys.version}\n{' '.join(MODULES)}\n".encode())
    for path in sorted(sources.glob("*.py")):
        made_of.update(f"{path.name}\n".encode() + path.read_bytes())
    return made_of.hexdigest()[:24]


def compiled() -> Path | None:
    """The folder of this source's compiled core; None when there is none, or none is wanted."""
    kept = place()
    if kept is None or not kept.is_dir():
        return None
    folder = kept / fingerprint()
    return folder if folder.is_dir() else None


def with_compiled(search: Iterable[str]) -> list[str]:
    """Where the modules of `engine.sip` are looked for: the compiled ones first."""
    folder = compiled()
    if folder is None:
        return list(search)
    sys.path.append(str(folder))  # the modules share one library, which lies there by itself
    return [str(folder / "engine" / "sip"), *search]


def build(into: Path) -> Path:
    """Compile the core into a folder of its own below `into` and return that folder. Takes about a minute.

    Raises:
        RuntimeError: there is no C compiler, no Python headers or no mypyc; the last lines say which.
    """
    folder = into / fingerprint()
    if folder.is_dir():
        return folder
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into, prefix=_MAKING) as name:
        work, made = Path(name), Path(name) / "made"
        (work / "engine").mkdir()
        shutil.copytree(PACKAGE, work / "engine" / "sip", ignore=shutil.ignore_patterns("__pycache__"))
        (work / "engine" / "sip" / "__init__.py").write_text("")
        for each in ("__init__.py", "errors.py"):
            shutil.copy(PACKAGE.parent / each, work / "engine" / each)
        (work / "setup.py").write_text(_SETUP)
        (work / "mypy.ini").write_text("[mypy]\n")  # else it reads the project's, with a plugin that need not be here
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", str(made)]
        ended = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if ended.returncode != 0:
            last = "\n".join((ended.stdout + ended.stderr).strip().splitlines()[-12:])
            raise RuntimeError(f"The SIP core could not be compiled; it goes on as Python. The compiler said:\n{last}")
        try:
            made.rename(folder)
        except OSError:  # somebody else was faster
            if not folder.is_dir():
                raise
    return folder


_SETUP = f"""\
from mypyc.build import mypycify
from setuptools import setup

files = [f"engine/sip/{{name}}.py" for name in {MODULES!r}]
setup(name="callpoint-sip", ext_modules=mypycify(["--strict", *files], opt_level="3"))
"""


def _is_being_made(folder: Path) -> bool:
    """Is somebody else compiling there at this moment?"""
    try:
        return folder.name.startswith(_MAKING) and time.time() - folder.stat().st_mtime < MAKING_S
    except FileNotFoundError:  # just done
        return False


def main() -> int:
    """`python -m engine.native`: compile the core of this installation. Returns the exit code."""
    kept = place()
    if kept is None:
        print(f"{VARIABLE} is off: nothing is compiled.")  # noqa: T201
        return 1
    try:
        folder = build(kept)
    except RuntimeError as exc:
        print(exc)  # noqa: T201
        return 1
    for other in kept.iterdir():
        if other != folder and not _is_being_made(other):
            shutil.rmtree(other, ignore_errors=True)
    print("The SIP core is compiled; the next start uses it.")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
