"""Many simulated phones at once: a site whose power comes back, or a whole fleet after a rotation.

Each phone asks as `engine.provisioning.simulate` says its vendor does, over a new connection for every file. The phones
have consecutive MAC addresses; which of them are in the account is for the one who calls to know.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from engine.errors import Invalid
from engine.provisioning import sealing, tokens, vendors
from engine.provisioning.booting import TIMEOUT_S, Memory
from engine.provisioning.boots_sealed import flash_with
from engine.provisioning.simulate import BootResult, simulate

MOST_PHONES = 100_000
MOST_FAULTS = 10  # told one by one


@dataclass(frozen=True, slots=True)
class Storm:
    """What became of it. `ready`: phones that were after each of their boots. `faults`: why the others are not, each
    phone counted once, by its last boot that failed; `statuses`: of all requests, 0: no answer.

    The three times are of single requests, connection included.
    """

    phones: int
    ready: int
    faults: dict[str, int]
    requests: int
    statuses: dict[int, int]
    seconds: float
    p50_ms: float
    p99_ms: float
    longest_ms: float

    @property
    def is_ready(self) -> bool:
        return self.ready == self.phones

    def as_json(self) -> dict[str, Any]:
        return {
            "phones": self.phones, "ready": self.ready, "faults": self.faults, "requests": self.requests,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "seconds": round(self.seconds, 3), "p50_ms": round(self.p50_ms, 3), "p99_ms": round(self.p99_ms, 3),
            "longest_ms": round(self.longest_ms, 3),
        }  # fmt: skip


async def storm(
    vendor: str,
    model: str,
    first_mac: str,
    url: str,
    *,
    count: int,
    at_once: int = 200,
    over_s: float = 0.0,
    boots: int = 1,
    numbers: tuple[str, ...] = ("911", "933"),
    file_key: str = "",
    progress: Callable[[int], object] = lambda _done: None,
) -> Storm:
    """Boot `count` phones.

    Args:
        first_mac: Of the first phone; the others count up from it.
        at_once: Phones that boot at the same moment; more wait for their turn.
        over_s: The phones begin spread evenly over this long.
        boots: How often each boots, its flash kept: the second boot is that after a power cut.
        numbers: What is dialled on the plan each ends up with.
        file_key: With which all of them open encrypted files, as `boots_sealed.flash_with` reads it.
        progress: Told how many phones are done, after each.

    Raises:
        Invalid: vendor, model, MAC, URL or a number are none; before any phone has asked for anything.
    """
    macs = _macs(first_mac, count)
    if not 1 <= at_once <= 5_000 or not 1 <= boots <= 100 or not 0 <= over_s <= 86_400:
        raise Invalid("Expected 1 to 5000 phones at once, 1 to 100 boots and 0 to 86400 seconds.")
    loop, turn = asyncio.get_running_loop(), asyncio.Semaphore(at_once)
    began, results, done = loop.time(), list[BootResult](), 0
    wrong: BaseException | None = None

    async with _opened() as session:

        async def phone(number: int, mac: str) -> None:
            nonlocal done
            await asyncio.sleep(max(0.0, began + over_s * number / count - loop.time()))
            async with turn:
                flash, asked = flash_with(vendor, url, file_key) if file_key else Memory(), url
                for _ in range(boots):
                    result = await simulate(vendor, model, mac, asked, numbers=numbers, memory=flash, session=session)
                    results.append(result)
                    asked = _next(asked, result.provisioning_url)
            done += 1
            progress(done)

        try:
            async with asyncio.TaskGroup() as group:
                for number, mac in enumerate(macs):
                    group.create_task(phone(number, mac))
        except* Invalid as faults:  # a wrong model is one sentence, not ten thousand
            wrong = faults.exceptions[0]
    if wrong is not None:
        raise wrong
    return _told(results, count, boots, loop.time() - began)


def _next(asked: str, learnt: str | None) -> str:
    """Where the phone asks when it boots again: where its files told it to, as after a rotation that was pushed. A URL
    of another host stays untried: what phones reach by that name may be out of reach from here.
    """
    told = (learnt or "").removesuffix(sealing.FOLDER)
    is_ours = tokens.is_token(told.rstrip("/").rpartition("/p/")[2]) and urlsplit(told)[:2] == urlsplit(asked)[:2]
    return told if is_ours else asked


def _opened() -> aiohttp.ClientSession:
    """As phones that share nothing connect: each request anew, as many at once as there are."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        auto_decompress=True,
    )


def _macs(first: str, count: int) -> list[str]:
    mac = vendors.parse_mac(first)
    if mac is None:
        raise Invalid(f"A MAC address such as 80:5e:c0:12:34:56 was expected, got {first!r}.")
    if not 1 <= count <= MOST_PHONES or int(mac, 16) + count > 0xFFFFFFFFFFFF:
        raise Invalid(f"Expected 1 to {MOST_PHONES} phones whose addresses end before ff:ff:ff:ff:ff:ff, got {count}.")
    return [f"{int(mac, 16) + number:012x}" for number in range(count)]


def _told(results: Sequence[BootResult], count: int, boots: int, seconds: float) -> Storm:
    files = [file for result in results for file in result.files]
    times = sorted(file.duration_ms for file in files)
    unready = {result.mac: _of_many(result) for result in results if result.fault is not None}
    told = Counter(unready.values()).most_common()
    faults = dict(told[:MOST_FAULTS])
    if len(told) > MOST_FAULTS:
        faults[f"{len(told) - MOST_FAULTS} other reasons"] = sum(count for _, count in told[MOST_FAULTS:])
    return Storm(
        phones=count,
        ready=count - len(unready) if len(results) == count * boots else 0,
        faults=faults,
        requests=len(files),
        statuses=dict(Counter(file.status for file in files)),
        seconds=seconds,
        p50_ms=_share(times, 0.5),
        p99_ms=_share(times, 0.99),
        longest_ms=times[-1] if times else 0.0,
    )


def _of_many(result: BootResult) -> str:
    """Why the phone is not ready, in the words of all that are so for the same reason."""
    return re.sub(re.escape(result.mac), "MAC", result.fault or "", flags=re.IGNORECASE)


def _share(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))] if times else 0.0
