#!/usr/bin/env python3
"""Set up once, then start: `python3 run.py`, `python3 run.py test`, `python3 run.py demo`. Standard library only.

The first start makes `.venv` and installs the pinned, hashed requirements; a stamp of what was installed makes every
later start go straight to work. Any other word is handed to the `callpoint` command: `python3 run.py doctor`.
"""

import contextlib
import difflib
import hashlib
import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
RUNTIME = ROOT / "requirements" / "runtime.txt"
TEST = ROOT / "requirements" / "test.txt"
COMPILE = ROOT / "requirements" / "compile.txt"
OLDEST_PYTHON = (3, 11)
if sys.version_info < OLDEST_PYTHON:  # before anything that an older one does not understand
    sys.exit(
        "Callpoint needs Python {}.{} or newer; this is {} ({}). Debian 12 and Ubuntu 24.04 bring it; else install it "
        "beside this one and start with it: python3.12 run.py".format(
            *OLDEST_PYTHON, sys.version.split()[0], sys.executable
        )
    )
# What the tests talk to: a SIP generator, a proxy, a phone, a packet reader, a browser, a web server and its load,
# DHCP servers that read our snippets, and a TFTP client.
TEST_COMMANDS = {
    "sipp": "sip-tester",
    "kamailio": "kamailio",
    "baresip": "baresip",
    "tshark": "tshark",
    "nginx": "nginx",
    "wrk": "wrk",
    "openssl": "openssl",
    "dnsmasq": "dnsmasq-base",
    "kea-dhcp4": "kea-dhcp4-server",
    "dhcpd": "isc-dhcp-server",
    "tftp": "tftp-hpa",
}
# Any of these shows the pages. The first has no window to draw, and needs half the time; not every release has it.
BROWSERS = ("chromium-headless-shell", "chromium")
# Parts of those programs that come in packages of their own: a file of it, looked for below /usr.
TEST_MODULES = {
    "kamailio/modules/tls.so": "kamailio-tls-modules",
    "kamailio/modules/lost.so": "kamailio-utils-modules",
}
# How pip says that it reached nobody.
NO_NETWORK = ("NewConnectionError", "Temporary failure in name resolution", "(from versions: none)", "ConnectTimeout")
FONT = "fonts-dejavu-core"  # a browser without any font measures no text
Places = tuple[str, ...]
PARTS = {
    "unit": ["tests/unit"],
    "protocol": ["tests/protocol"],
    "golden": ["tests/golden"],
    "browser": ["tests/browser"],
}
# `run.py test` runs five lanes side by side on two cores. The first has what waits for servers, phones and timers, half
# its time without a core; the others compute and draw pages, longest first, and give way to the first, whose tests look
# at the clock. A lane that is done helps another, and what is short comes last, so that all end together.
COMPUTING_PROTOCOL = tuple(
    f"tests/protocol/test_{name}.py" for name in ("admin_api_schema", "audit_complete", "rfc4475")
)
EVERY_ROUTE = tuple(  # half of what the admin port's tests take: with the others it was longer than all other lanes
    f"tests/unit/admin/test_{name}.py"
    for name in (
        "audit_histories", "audit_live", "audit_of_every_route", "audit_of_the_reference", "audit_pages", "audit_views",
        "auth", "bad_fields", "imports", "isolation", "page_addresses", "page_sizes", "phones_many", "problem_details",
        "role_matrix", "routes", "schema_unlike", "users_many",
    )
)  # fmt: skip
BROWSER = ("every_page", "api_reference", "audit_log", "access", "alerts", "branding", "boot")
LOOKED_AT = tuple(f"tests/browser/test_{name}.py" for name in BROWSER)
Pieces = tuple[tuple[str, Places, Places], ...]
WHOLE_NODES = tuple(
    f"tests/protocol/test_{name}.py"
    for name in ("whole", "whole_location", "killed_nodes", "slow_database", "storage", "phones_workers")
)
COMMANDS_AND_NODES = tuple(f"tests/protocol/test_{name}.py" for name in ("command", "canaries", "rotation", "rollouts"))
WAITING: Pieces = (
    ("protocol", ("tests/protocol",), COMPUTING_PROTOCOL + WHOLE_NODES + COMMANDS_AND_NODES),
    ("protocol, whole nodes", WHOLE_NODES, ()),
    ("protocol, commands", COMMANDS_AND_NODES, ()),
)
COMPUTING: Pieces = (
    ("random requests", COMPUTING_PROTOCOL[:1], ()),
    ("unit, admin, every route", EVERY_ROUTE, ()),
    ("unit, admin", ("tests/unit/admin",), EVERY_ROUTE),
    ("browser, work", ("tests/browser",), LOOKED_AT),
    ("browser, looks", LOOKED_AT[1:], ()),
    ("the compiled core", ("tests/unit/test_native.py",), ()),
    ("unit, provisioning", ("tests/unit/provisioning",), ()),
    ("browser, every page", LOOKED_AT[:1], ()),
    ("the log of random requests", COMPUTING_PROTOCOL[1:], ()),
    ("unit, e911", ("tests/unit/e911", "tests/unit/e911_records"), ()),
    ("unit, sip", ("tests/unit/sip",), ()),
)
SHORT = 2  # that many of them stand behind what no piece names
HELPERS = 4  # computing lanes beside the waiting one: each waits a third of its time, for a browser or for a disk
GIVING_WAY = ("nice", "-n", "5")
SLOWEST = 10  # tests of a lane that are named at the end
OWN_WORDS = ("test", "check", "bench", "soak", "golden-rewrite", "compile")
COMMANDS = (  # of `callpoint`, told apart from a slip before anything is installed
    "run", "demo", "check-config", "migrate", "doctor", "call", "snippet", "import", "export", "backup", "restore",
    "account", "api-key", "keys", "phone", "phone-settings", "audit", "user", "operator",
)  # fmt: skip
USAGE = """\
python3 run.py                 start Callpoint here (data in ./data): 8080 for phones, 127.0.0.1:8081 for the pages,
                               5060 for SIP. Others: CALLPOINT_PROVISIONING__LISTEN, CALLPOINT_ADMIN__LISTEN,
                               CALLPOINT_SIP__UDP, CALLPOINT_SIP__TCP, each HOST:PORT. A port is taken: exit code 3
python3 run.py demo            the whole story with simulated phones, PBX and carrier; nothing is kept
python3 run.py test            all checks and tests; names what is missing on the machine and brings it when it may
python3 run.py check           format, lint, types and import rules alone
python3 run.py unit | protocol | golden | browser      parts of the tests
python3 run.py bench           the benchmarks, as a table
python3 run.py soak            an hour of calls: memory, descriptors and transactions stay flat (--minutes N)
python3 run.py compile         make the SIP core machine code: a call costs less than half (gcc, Python's headers)
python3 run.py golden-rewrite  write the golden files anew, to be read as a diff
python3 run.py COMMAND ...     the callpoint command: check-config, doctor, backup, restore, account, api-key, user,
                               call, phone, import, export, snippet, audit, keys, migrate; each with --help. It is also
                               .venv/bin/callpoint
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one lane runs at a time."""

    name: str
    command: list[str]


@dataclass(frozen=True, slots=True)
class Running:
    """A piece under way; `said` holds its words."""

    piece: Piece
    process: subprocess.Popen[bytes]
    said: IO[str]
    started: float


@dataclass(frozen=True, slots=True)
class Done:
    """A piece that ended, and its slowest tests: seconds and name."""

    name: str
    lane: int
    took_s: float
    code: int
    slow: list[tuple[float, str]]


def main() -> int:
    """Dispatch on the first word. Returns the exit code: 0 done, 1 failed, 2 wrong usage."""
    word, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("run", [])
    if word in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if word not in {*OWN_WORDS, *PARTS, *COMMANDS, "--version"}:
        near = difflib.get_close_matches(word, [*OWN_WORDS, *PARTS, *COMMANDS], 1)
        meant = f" Did you mean {near[0]}?" if near else ""
        print(f"There is no command {word}.{meant} `python3 run.py help` lists them.", file=sys.stderr)
        return 2
    if word == "test" and not rest:
        with core_compiled_beside():
            install(TEST)
            return tests(word, rest)
    if word in {*OWN_WORDS, *PARTS} - {"compile"}:
        install(TEST)
        return tests(word, rest)
    install(RUNTIME)
    if word == "compile":
        return compile_core()
    environment = os.environ | {"CALLPOINT_STARTED_AS": "python3 run.py"}  # pages print commands as they are typed here
    return os.execve(PYTHON, [str(PYTHON), "-m", "engine", word, *rest], environment)  # noqa: S606  # no shell


def install(requirements: Path) -> None:
    """Make the virtual environment hold these requirements; done in a moment when it does already."""
    stamp = VENV / "callpoint-stamp"
    wanted = fingerprint(requirements)
    before = stamp.read_text().split() if PYTHON.exists() and stamp.exists() else []
    if wanted in before:
        return
    started = time.monotonic()
    print("Installing (once) ...", flush=True)
    make_venv()
    install_counted([*pip(), "--progress-bar", "off", "--require-hashes", "-r", str(requirements)], requirements)
    own = [*pip(), "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    run(own, "Callpoint itself could not be installed.")
    held = set(before) & {fingerprint(each) for each in (RUNTIME, TEST, COMPILE)}
    marks = {wanted, *(fingerprint(each) for each in (RUNTIME, COMPILE))} if requirements == TEST else {wanted}
    stamp.write_text("\n".join(sorted(marks | held)))
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def pip() -> list[str]:
    return [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--no-warn-script-location"]


def install_counted(command: list[str], requirements: Path) -> None:
    """Run pip and show how far it is; its own words are shown only when it fails."""
    wanted = sum("==" in line for line in requirements.read_text().splitlines() if line[:1].isalnum())
    said: list[str] = []
    collected = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            said.append(line)
            if line.startswith("Collecting "):
                collected += 1
                show_progress(collected, wanted, line.split()[1].partition("==")[0])
            elif line.startswith("Installing collected packages"):
                show_progress(wanted, wanted, "unpacking")
    show_progress(wanted, wanted, "", is_last=True)
    if running.returncode:
        words = "".join(said[-40:])
        print(words)
        if any(sign in words for sign in NO_NETWORK):
            sys.exit(
                "The packages could not be fetched: the package index is not reached from here. Check the network, or "
                "name your proxy (HTTPS_PROXY) or mirror (PIP_INDEX_URL), and start again. What is there stays."
            )
        sys.exit("The packages could not be installed. What went wrong stands above; mend it and start again.")


def show_progress(done: int, wanted: int, what: str, *, is_last: bool = False) -> None:
    """A bar on a terminal; nothing where nobody watches."""
    if sys.stdout.isatty():
        filled = 30 * min(done, wanted) // max(wanted, 1)
        bar = "█" * filled + "░" * (30 - filled)
        print(f"\r  {bar} {min(done, wanted):>3}/{wanted} {what:<30.30}", end="\n" if is_last else "", flush=True)


def fingerprint(requirements: Path) -> str:
    """What an installation is made of: the pinned list, the project's own facts, the interpreter and the place."""
    facts = (
        requirements.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + sys.version.encode() + str(ROOT).encode()
    )
    return hashlib.sha256(facts).hexdigest()


def make_venv() -> None:
    """`python3 -m venv`; on a bare Debian that lacks it, bring python3-venv when allowed to."""
    if PYTHON.exists() and runs([str(PYTHON), "-m", "pip", "--version"]):
        return
    if VENV.exists():
        shutil.rmtree(VENV)
    if not runs([sys.executable, "-c", "import ensurepip"]) and not apt_install(["python3-venv"]):
        sys.exit("Python's venv is missing. Run: sudo apt-get install python3-venv   and start again.")
    run([sys.executable, "-m", "venv", str(VENV)], "The virtual environment could not be made.")


def apt_install(packages: list[str]) -> bool:
    """Install Debian packages when we are root and apt is here; says what it does."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    print("Installing Debian packages:", " ".join(packages), flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    with no_services():
        return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0


@contextlib.contextmanager
def no_services() -> Iterator[None]:
    """Keep what is installed from starting: nobody wants a DHCP server on the office network for our tests.

    Debian asks `/usr/sbin/policy-rc.d` before it starts a service; one that is there already decides by itself.
    """
    policy = Path("/usr/sbin/policy-rc.d")
    is_ours = not policy.exists()
    if is_ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        yield
    finally:
        if is_ours:
            policy.unlink(missing_ok=True)


def bring_test_commands() -> None:
    """Every foreign program the tests talk to is here, or the run ends saying which is not."""
    if missing_for_compiling():
        apt_install(missing_for_compiling())  # without it the test of the compiled core says that it is skipped
    if shutil.which(BROWSERS[0]) is None:
        apt_install([BROWSERS[0], FONT])  # without it another one serves
    missing = missing_for_tests()
    packages = sorted({*missing.values(), *([FONT] if BROWSERS[-1] in missing else [])})
    if missing and not apt_install(packages):
        print("The tests talk to these programs, which are not here:", ", ".join(sorted(missing)))
        sys.exit(f"Run: sudo apt-get install {' '.join(packages)}   and start again.")
    still = sorted(missing_for_tests())
    if still:
        sys.exit(f"Installed, but not found on PATH or below /usr: {', '.join(still)}.")


def missing_for_tests() -> dict[str, str]:
    """What is not here -> the Debian package that brings it."""
    missing = {command: package for command, package in TEST_COMMANDS.items() if shutil.which(command) is None}
    if not any(shutil.which(browser) for browser in BROWSERS):
        missing[BROWSERS[-1]] = BROWSERS[-1]
    places = [place for pattern in ("lib/*", "lib64", "lib") for place in Path("/usr").glob(pattern)]
    return missing | {
        file: package for file, package in TEST_MODULES.items() if not any((place / file).exists() for place in places)
    }


def compile_core() -> int:
    """Compile the SIP core for this interpreter. Returns the exit code."""
    missing = missing_for_compiling()
    if missing and not apt_install(missing):
        sys.exit(
            f"Compiling needs what is not here. Run: sudo apt-get install {' '.join(missing)}   and start again. "
            "Callpoint runs without; nothing was changed."
        )
    install(COMPILE)
    print("Compiling the SIP core (about a minute) ...", flush=True)
    return subprocess.run([str(PYTHON), "-m", "engine.native"], cwd=ROOT, check=False).returncode


@contextlib.contextmanager
def core_compiled_beside() -> Iterator[None]:
    """Compile the SIP core while all other packages are brought, which takes half of two cores at most.

    The tests of the compiled core look for it where it lies. What comes of it is no matter here: without it they
    compile it themselves, and say what is wrong.
    """
    make_venv()
    quietly = ["--quiet", "--require-hashes", "-r", str(COMPILE)]
    if missing_for_compiling() or not runs([*pip(), *quietly]):
        yield
        return
    command = [*GIVING_WAY, str(PYTHON), "-m", "engine.native"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        yield


def missing_for_compiling() -> list[str]:
    """The Debian packages of a C compiler and of Python's headers, where they are not here."""
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return [*([] if shutil.which("gcc") else ["gcc", "libc6-dev"]), *([] if headers.exists() else ["python3-dev"])]


def tests(word: str, rest: list[str]) -> int:
    """Run the checks, the tests, or both. Returns 0 only when all of it passed."""
    os.chdir(ROOT)
    if word == "golden-rewrite":
        return subprocess.run([str(PYTHON), "-m", "tests.golden.rewrite", *rest], check=False).returncode
    if word in {"bench", "soak"}:
        bring_test_commands()
        if not missing_for_compiling():
            subprocess.run([str(PYTHON), "-m", "engine.native"], cwd=ROOT, check=False)
        return subprocess.run([str(PYTHON), "-m", f"tests.{word}", *rest], check=False).returncode
    if word == "check":
        return 1 if checks() else 0
    bring_test_commands()
    if word in PARTS or rest:
        failed = [] if word in PARTS else checks()
        places = PARTS.get(word, [place for listed in PARTS.values() for place in listed])
        return 1 if pytest(places, rest) or failed else 0
    return in_lanes()


def in_lanes() -> int:
    """The checks and all tests, in several lanes at once; what a piece says is shown when it is done."""
    started = time.monotonic()
    lanes = shared_out()
    running: dict[int, Running] = {}
    done: list[Done] = []
    while running or any(lanes):
        try:
            for lane in range(1 + HELPERS):
                if lane not in running and (following := next_piece(lanes, lane)):
                    running[lane] = begin(following)
            time.sleep(0.1)
            for lane in list(running):
                before = cpu_of_children()
                if running[lane].process.poll() is not None:  # from here on its CPU counts as its own
                    done.append(finish(running.pop(lane), lane, cpu_of_children() - before))
        except KeyboardInterrupt:  # what runs has had the signal too and ends by itself
            for each in lanes:
                each.clear()
    for lane in range(1 + HELPERS):
        show_slowest(lane, [one for one in done if one.lane == lane])
    print(f"-- all in {time.monotonic() - started:.0f} s; {cpu_of_children():.0f} s of CPU")
    if failed := [one.name for one in done if one.code]:
        print("Failed:", ", ".join(failed))
    return 1 if failed or not done else 0


def cpu_of_children() -> float:
    """Seconds that the processes took that have ended and were waited for, with their own children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def shared_out() -> list[deque[Piece]]:
    """What waits and what computes, each in its order. What no piece names is one more; the checks come first."""
    named = [place for _, places, _ in (*WAITING, *COMPUTING) for place in places]
    waiting = deque(Piece(name, test_piece(places, without)) for name, places, without in WAITING)
    computing = deque(Piece(name, [*GIVING_WAY, *test_piece(*rest)]) for name, *rest in COMPUTING)
    computing.appendleft(Piece("checks", [*GIVING_WAY, sys.executable, str(ROOT / "run.py"), "check"]))
    rest = Piece("the rest", [*GIVING_WAY, *test_piece(("tests",), tuple(named))])
    computing.insert(len(computing) - SHORT, rest)
    return [waiting, computing]


def test_piece(places: Places, without: Places) -> list[str]:
    """Examples of properties are the same each time, so that a run tells of the change; a part alone makes new ones.

    Only the random requests need Schemathesis, whose import takes a second.
    """
    others = [f"--ignore={each}" for each in without]
    if COMPUTING_PROTOCOL[0] not in places:
        others += ["-p", "no:schemathesis"]
    return pytest_command([*places, *others, f"--durations={SLOWEST}", "--hypothesis-profile=ci"])


def next_piece(lanes: list[deque[Piece]], lane: int) -> Piece | None:
    """The next one of its kind: the first lane's wait, all others' compute; with none left, the other kind's next."""
    own, other = lanes if lane == 0 else reversed(lanes)
    kind = own or other
    return kind.popleft() if kind else None


def begin(piece: Piece) -> Running:
    print(f"-- {piece.name} ...", flush=True)
    said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - `finish` reads it and closes it
    process = subprocess.Popen(piece.command, env=test_environment(), stdout=said, stderr=said)
    return Running(piece, process, said, time.monotonic())


def finish(one: Running, lane: int, cpu_s: float) -> Done:
    """Show what it said; note what was slow."""
    took_s = time.monotonic() - one.started
    with one.said:
        one.said.seek(0)
        text = one.said.read()
    print(f"-- {one.piece.name}, {took_s:.0f} s in lane {lane + 1}, {cpu_s:.0f} s of CPU\n{text}", flush=True)
    slow = [(float(seconds), name) for seconds, name in re.findall(r"(?m)^([\d.]+)s \w+ +(\S.*)$", text)]
    return Done(one.piece.name, lane, took_s, one.process.returncode, slow)


def show_slowest(lane: int, done: list[Done]) -> None:
    """The slowest tests of a lane, in all its pieces."""
    print(f"-- lane {lane + 1}: {', '.join(f'{one.name} {one.took_s:.0f} s' for one in done)}; its slowest tests")
    for seconds, name in sorted((each for one in done for each in one.slow), reverse=True)[:SLOWEST]:
        print(f"{seconds:8.2f} s  {name}")


def pytest_command(words: Sequence[str]) -> list[str]:
    return [str(PYTHON), "-m", "pytest", *words]


def test_environment() -> dict[str, str]:
    """Event loops that check; and the processes that tests start find what the first of them has compiled."""
    return os.environ | {"PYTHONASYNCIODEBUG": "1", "PYTHONDONTWRITEBYTECODE": ""}


def pytest(places: list[str], more: Sequence[str] = ()) -> int:
    """Run pytest on those folders; its words go to the terminal. Returns its exit code."""
    return ended(subprocess.Popen(pytest_command([*places, *more]), env=test_environment()))


def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for it; on Ctrl-C it has had the signal too and ends by itself."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def checks() -> list[str]:
    """Format, lint, types, import rules. Returns the names of those that failed."""
    binaries = VENV / "bin"
    commands = {
        "ruff format": [str(binaries / "ruff"), "format", "--check", "--quiet", "."],
        "ruff check": [str(binaries / "ruff"), "check", "--quiet", "."],
        "mypy": [str(binaries / "mypy")],
        "import rules": [str(binaries / "lint-imports")],
    }
    failed = []
    for name, command in commands.items():
        print(f"-- {name}", flush=True)
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    return failed


def runs(command: list[str]) -> bool:
    """Whether the command ends well; its words are not shown."""
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def run(command: list[str], complaint: str) -> None:
    """Run it; on failure end with the complaint, its own words having been shown."""
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{complaint} What went wrong stands above; mend it and start again.")


if __name__ == "__main__":
    sys.exit(main())
