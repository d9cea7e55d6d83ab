"""What a 911 call meets while 500 other calls a second go through: delay to the carrier, delay to the mail server."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests import peers
from tests.bench import machine
from tests.bench.generator import Generator, Load, Outcome, caller_name
from tests.bench.plan import Plan
from tests.bench.sip import edge
from tests.bench.site import running_site

OTHER_RATE = 500
EVERY = 26  # 20 emergency calls beside 500 others each second
MAIL_EVERY = 101  # 5 beside 500: every one of them is a mail
MAIL_GRACE_S = 15.0


@dataclass(frozen=True, slots=True)
class Delay:
    """Milliseconds from the caller's socket to the carrier's, and beyond what the direct path takes."""

    calls: int
    p50_ms: float
    p99_ms: float
    added_p50_ms: float
    added_p99_ms: float
    with_location: int
    fault: str


@dataclass(frozen=True, slots=True)
class Told:
    """Milliseconds from INVITE to mail server through a whole node. `missing`: calls whose mail did not come."""

    calls: int
    missing: int
    p50_ms: float
    p99_ms: float
    fault: str


def measure_delay(plan: Plan, say: Callable[[str], None]) -> Delay:
    """The edge alone on its core: 500 ordinary calls a second and 20 to 911, whose INVITE gains a PIDF-LO."""
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
    try:
        load = Load(OTHER_RATE * EVERY / (EVERY - 1), plan.emergency_s, emergency_every=EVERY)
        direct = generator.run(load, None)
        with edge(generator.callee_address) as (_pid, address):
            generator.run(Load(200, 1.0, emergency_every=10), address)
            outcome = generator.run(load, address)
    finally:
        generator.close()
    delay = _delay(outcome, direct)
    say(f"911 beside {OTHER_RATE}/s: p50 {delay.p50_ms:.2f} ms, p99 {delay.p99_ms:.2f} ms")
    return delay


def _delay(outcome: Outcome, direct: Outcome) -> Delay:
    p50, p99 = (machine.percentile(outcome.emergency_delays_ms, share) for share in (0.5, 0.99))
    near50, near99 = (machine.percentile(direct.emergency_delays_ms, share) for share in (0.5, 0.99))
    calls = len(outcome.emergency_delays_ms)
    return Delay(calls, p50, p99, p50 - near50, p99 - near99, outcome.with_location, outcome.fault)


@dataclass(slots=True)
class _Mails:
    """A mail server that notes when each message came, by the caller it names."""

    arrived: dict[str, float] = field(default_factory=dict)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        now = time.perf_counter()
        text = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        at = text.find(b"Bench ")
        self.arrived.setdefault(text[at : at + len(caller_name(0))].decode("ascii", "replace"), now)
        return "250 kept"


async def measure_mail(plan: Plan, say: Callable[[str], None]) -> Told:
    """A whole node on its core, 500 ordinary calls a second and 5 to 911, each of which is a mail to on-call staff."""
    mails, loop = _Mails(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(mails, loop=loop), peers.NODE_IP, 0)
    mail_port = server.sockets[0].getsockname()[1]
    environment = {
        "CALLPOINT_MAIL__HOST": peers.NODE_IP,
        "CALLPOINT_MAIL__PORT": str(mail_port),
        "CALLPOINT_MAIL__SECURITY": "none",
    }
    words = [sys.executable, "-m", "tests.bench.emergency", str(plan.mails * MAIL_EVERY)]
    caller = await asyncio.create_subprocess_exec(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=peers.ROOT)
    try:
        assert caller.stdin is not None
        assert caller.stdout is not None
        callee = json.loads(await caller.stdout.readline())
        with tempfile.TemporaryDirectory() as name:
            async with running_site(Path(name), environment, callee=(callee[0], callee[1])) as site:
                await _until_carried(site.node.udp)
                site.pin(machine.SUT_CORE)
                caller.stdin.write(json.dumps(site.node.udp).encode() + b"\n")
                found = json.loads(await caller.stdout.readline())
                sent_at: dict[str, float] = found["sent_at"]
                give_up = time.perf_counter() + MAIL_GRACE_S
                while not sent_at.keys() <= mails.arrived.keys() and time.perf_counter() < give_up:
                    await asyncio.sleep(0.05)
    finally:
        server.close()
        if caller.returncode is None:
            caller.kill()
            await caller.wait()
    took = [(mails.arrived[who] - at) * 1000 for who, at in sent_at.items() if who in mails.arrived]
    told = Told(
        calls=len(sent_at),
        missing=len(sent_at) - len(took),
        p50_ms=machine.percentile(took, 0.5),
        p99_ms=machine.percentile(took, 0.99),
        fault=found["fault"],
    )
    say(f"mail: {told.calls} calls, {told.missing} missing, p50 {told.p50_ms:.0f} ms, p99 {told.p99_ms:.0f} ms")
    return told


async def _until_carried(address: tuple[str, int]) -> None:
    """The table with the PBX has reached the SIP process: an OPTIONS from the PBX is answered with 200."""
    give_up = time.perf_counter() + peers.READY_WITHIN_S
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
    try:
        while not generator.is_known(address):
            if time.perf_counter() > give_up:
                raise peers.PeerFailed("the SIP process does not know the PBX")
            await asyncio.sleep(0.05)
    finally:
        generator.close()


def _serve_load(total: int) -> None:
    """In a process of its own, so that the mail server here cannot hold it up: callee out, element in, outcome out."""
    machine.pin_self(machine.LOAD_CORE)
    generator = Generator(peers.PBX_IP, peers.CARRIER_IP)
    print(json.dumps(generator.callee_address), flush=True)
    host, port = json.loads(sys.stdin.readline())
    rate = OTHER_RATE * MAIL_EVERY / (MAIL_EVERY - 1)
    outcome = generator.run(Load(rate, total / rate, emergency_every=MAIL_EVERY), (host, port))
    print(json.dumps({"sent_at": generator.emergencies_sent_at(), "fault": outcome.fault}), flush=True)
    generator.close()


if __name__ == "__main__":
    _serve_load(int(sys.argv[1]))
