"""What every test may ask for: where the cases are, a fresh database, keys."""

import asyncio
import asyncio.constants
import gc
import os
import threading
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

if "PYTEST_VERSION" in os.environ:  # benchmarks import this file too, and measure what is there
    os.environ.setdefault("CALLPOINT_NATIVE", "off")  # the Python source is tested here, the other in test_native.py
    # asyncio's debug mode notes ten frames of the stack at each callback and all of them at each future, which costs
    # more than the callback. One frame still says where a coroutine was made that nobody awaited; what the mode checks,
    # it checks as before.
    asyncio.constants.DEBUG_STACK_DEPTH = 1
    traceback.extract_stack.__defaults__ = (None, 1)  # futures, written in C, call it without a word
    # Where no test has set logging up, structlog would draw each traceback in colours, which takes a tenth of a second.
    structlog.configure(
        processors=[
            *structlog.get_config()["processors"][:-1],
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
    )

from engine import crypto
from engine.crypto import KeyRing
from engine.db import Database
from tests.factories import fresh_database

# Hypothesis fails an example of over 200 ms by the clock on the wall, and a test whose examples are slow to make:
# several lanes on few cores cannot promise either.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

ROOT = Path(__file__).parent.parent
CASES = Path(os.environ.get("CALLPOINT_CASES", ROOT.parent / "shared" / "cases"))


def pytest_collection() -> None:
    """Nothing that is made before the first test is ever garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is there before the first test stays to the end: thousands of tests, which the collector need not walk.

    It comes less often than of its own accord: a test lives for a moment, and a tenth of its time went into looking for
    what it had dropped.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def pytest_sessionfinish() -> None:
    """The process ends with all it has: pytest would walk it twice more, a second each, for what nobody hears of."""
    gc.freeze()


@pytest.fixture
def cases() -> Path:
    """The folder of real requests, dial plans, SIP and XML messages; the test is skipped where it is absent."""
    if not CASES.is_dir():
        pytest.skip(f"the cases folder is not at {CASES}: set CALLPOINT_CASES to it")
    return CASES


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    return crypto.create(tmp_path / "keys.toml")


@pytest.fixture
async def database(tmp_path: Path, keys: KeyRing) -> AsyncIterator[Database]:
    """An empty audited SQLite database in a file of this test's own."""
    before = set(threading.enumerate())
    opened = await fresh_database(tmp_path / "callpoint.db", keys)
    yield opened
    await opened.close()
    for thread in set(threading.enumerate()) - before:
        if "_connection_worker" in thread.name:  # whose user was cancelled: its last word is for this loop
            await asyncio.to_thread(thread.join, 1.0)
