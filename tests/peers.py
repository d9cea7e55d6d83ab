"""Foreign programs and our own edge as child processes, for tests and benchmarks, on free loopback ports.

Each is awaited by what shows that it is ready (a bound port, a line it prints), and is stopped by its own pid. Each
part of the system has its own loopback address, since an account knows a PBX or a trunk by its address.
"""

import contextlib
import heapq
import json
import os
import queue
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from engine.crypto import KeyRing
from engine.e911 import snapshot
from engine.sip.tls import TlsFiles
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
NODE_IP, PBX_IP, CARRIER_IP, OTHER_CARRIER_IP, FRONT_IP = (f"127.0.0.{last}" for last in (1, 2, 3, 4, 5))
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 8.0
_LISTENING = "0A"  # include/net/tcp_states.h


class PeerFailed(Exception):
    """A peer did not come up, or ended when it should not have; its own words are in the message."""


def until(holds: Callable[[], object], what: str, within_s: float = READY_WITHIN_S) -> None:
    """Look every 10 ms until it holds.

    Raises:
        PeerFailed: it does not within that time.
    """
    give_up = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > give_up:
            raise PeerFailed(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.01)


def is_bound(ip: str, port: int, transport: str) -> bool:
    """Whether some process has that address open, by the kernel's own table; nothing is sent there."""
    wanted = {f"{bytes(reversed(socket.inet_aton(each))).hex().upper()}:{port:04X}" for each in (ip, "0.0.0.0")}
    rows = (line.split() for line in Path("/proc/net", transport).read_text().splitlines()[1:])
    return any(row[1] in wanted and (transport != "tcp" or row[3] == _LISTENING) for row in rows)


@dataclass(slots=True)
class Peer:
    """A running child process; what it prints goes to `log`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def words(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def wait(self, within_s: float) -> int:
        """Its exit code. Raises PeerFailed, and ends it, when it runs longer."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise PeerFailed(f"{self.name} still runs after {within_s:.0f} s\n{self.words()}") from None

    def ready(self, holds: Callable[[], object], within_s: float = READY_WITHIN_S) -> None:
        """Until it holds. Raises PeerFailed when the process ends before that."""
        until(lambda: self.process.poll() is not None or holds(), f"{self.name} ready", within_s)
        if self.process.poll() is not None:
            raise PeerFailed(f"{self.name} ended with {self.process.returncode}\n{self.words()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; killed when it does not listen."""
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def spawn(
    name: str, command: Sequence[str], folder: Path, *, core: int | None = None, pipes: bool = False, **kept: str
) -> Peer:
    """Start a program in that folder; `core` pins it and all its children; `kept` joins its environment."""
    pinned = ["taskset", "-c", str(core), *command] if core is not None else list(command)
    log = folder / f"{name}.log"
    pipe = subprocess.PIPE if pipes else None
    with log.open("wb") as out:
        process = subprocess.Popen(
            pinned,
            cwd=folder,
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or out,
            stderr=out,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | kept,
        )
    return Peer(name, process, log)


def command(name: str) -> str:
    """The path of a program. Raises PeerFailed where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise PeerFailed(f"{name} is not installed")
    return found


# --- our edge ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Edge:
    """The SIP process, started as the main process starts it. `udp`, `tcp` and `tls` are the addresses it bound."""

    peer: Peer
    udp: tuple[str, int] = ("", 0)
    tcp: tuple[str, int] = ("", 0)
    tls: tuple[str, int] = ("", 0)
    messages: "queue.Queue[dict[str, Any]]" = field(default_factory=queue.Queue)

    def say(self, message: Mapping[str, Any]) -> None:
        assert self.peer.process.stdin is not None
        self.peer.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.peer.process.stdin.flush()

    def hear(self, what: str, within_s: float = READY_WITHIN_S) -> dict[str, Any]:
        """The next message of that kind; others before it are passed over."""
        give_up = time.monotonic() + within_s
        while (left := give_up - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                message = self.messages.get(timeout=min(left, 0.2))
                if message.get("is") == what:
                    return message
            if self.peer.process.poll() is not None and self.messages.empty():
                break
        raise PeerFailed(f"the edge did not say {what!r}\n{self.peer.words()}")

    def stop(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # a killed one hears nothing
            self.say({"do": "stop"})
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.peer.process.wait(STOP_WITHIN_S)
        self.peer.stop()

    def _read(self) -> None:
        assert self.peer.process.stdout is not None
        with contextlib.suppress(ValueError):  # closed while reading: it was stopped
            for line in self.peer.process.stdout:
                self.messages.put(json.loads(line))


@contextlib.contextmanager
def edge(
    folder: Path,
    keys: KeyRing,
    key_file: Path,
    *snapshots: Mapping[str, Any],
    core: int | None = None,
    first_response_s: float = 2.0,
    ping_s: float = 20.0,
    tls: TlsFiles | None = None,
) -> Iterator[Edge]:
    """The edge on free ports of `NODE_IP` with these accounts, stopped afterwards. It serves TLS with those files."""
    for each in snapshots:
        snapshot.save(folder / "snapshot", each, keys)
    peer = spawn("edge", [sys.executable, "-m", "engine.edge"], folder, core=core, pipes=True)
    running = Edge(peer)
    threading.Thread(target=running._read, daemon=True).start()
    try:
        address = f"{NODE_IP}:{free_port()}"
        running.say(
            {
                "do": "start",
                "data_dir": str(folder),
                "key_file": str(key_file),
                "udp": address,
                "tcp": address,
                "advertise": "",
                "first_response_s": first_response_s,
                "connect_s": 1.0,
                "ping_s": ping_s,
                "tls": f"{NODE_IP}:{free_port()}" if tls else "",
                "tls_cert": str(tls.certificate or "") if tls else "",
                "tls_key": str(tls.key or "") if tls else "",
                "client_ca": str(tls.client_ca or "") if tls else "",
                "tls_ca": str(tls.server_ca or "") if tls else "",
            }
        )
        ready = running.hear("ready")
        running.udp, running.tcp = _address(ready["udp"]), _address(ready["tcp"])
        if tls:
            running.tls = _address(ready["tls"])
        yield running
    finally:
        running.stop()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def one_account(*trunks: Mapping[str, Any], default_route: str | None = None, pbx_ip: str = PBX_IP) -> dict[str, Any]:
    """A snapshot: one PBX at `pbx_ip`, one office where every phone is, one line with a callback number, and trunks."""
    civic = {
        "country": "US", "A1": "NY", "A3": "Albany", "HNO": "120", "RD": "Washington", "STS": "Ave", "PC": "12203",
        "FLR": "4", "ROOM": "412",
    }  # fmt: skip
    location = {
        "id": "location_hq", "name": "Headquarters", "civic_address": civic, "geo": None, "timezone": None,
        "callback_number": "+15185550100", "onsite_number": None, "status": "validated",
        "validated_at": "2026-11-01T00:00:00+00:00",
    }  # fmt: skip
    line = {
        "id": "line_101", "extension": "101", "display_name": "Front desk", "sip_user": "101",
        "callback_number": "+15185550101", "location_id": "location_hq", "pbx_id": "pbx_1",
    }  # fmt: skip
    pbx = {
        "id": "pbx_1", "name": "PBX", "sources": [f"{pbx_ip}/32"], "default_location_id": "location_hq",
        "default_route": default_route,
    }  # fmt: skip
    return {
        "account_id": "account_acme", "revision": 1, "name": "Acme Dental", "country": "US",
        "timezone": "America/New_York", "language": "en", "default_location_id": "location_hq",
        "callback_number": "+15185550199", "locations": [location], "networks": [], "phones": [], "lines": [line],
        "pbxs": [pbx], "trunks": list(trunks),
    }  # fmt: skip


def trunk(
    ip: str, port: int, *, name: str = "trunk_first", priority: int = 10, transport: str = "udp"
) -> dict[str, Any]:
    """A carrier's entry in a snapshot."""
    return {
        "id": name, "name": name, "priority": priority, "host": ip, "port": port, "transport": transport,
        "profile": "generic", "location_mode": "value", "test_number": None, "last_resort": False, "enabled": True,
    }  # fmt: skip


# --- foreign programs -------------------------------------------------------------------------------------------------

KAMAILIO_ON_UDP = """\
debug=1
log_stderror=yes
children=1
auto_aliases=no
disable_tcp=yes
listen=udp:{ip}:{port}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib64/kamailio/modules/:/usr/lib/aarch64-linux-gnu/kamailio/modules/"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
"""

KAMAILIO = """\
debug=1
log_stderror=yes
children=1
auto_aliases=no
{listens}
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib64/kamailio/modules/:/usr/lib/aarch64-linux-gnu/kamailio/modules/"
{tls}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if (has_totag()) {{
    if (loose_route()) {{ t_relay(); exit; }}
    if (method == "ACK") {{ if (t_check_trans()) t_relay(); exit; }}
    sl_send_reply("404", "Not Here");
    exit;
  }}
  if (method == "CANCEL") {{ if (t_check_trans()) t_relay(); exit; }}
  t_check_trans();
  record_route();
  $du = "sip:{to_ip}:{to_port};transport={onward}";
  if (!t_relay()) sl_reply_error();
}}
"""

KAMAILIO_TLS = """\
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "private_key", "{key}")
modparam("tls", "certificate", "{certificate}")
modparam("tls", "ca_list", "{ca}")
modparam("tls", "verify_certificate", 1)
modparam("tls", "require_certificate", 1)
"""


@contextlib.contextmanager
def kamailio(
    folder: Path,
    to: tuple[str, int],
    *,
    ip: str = NODE_IP,
    core: int | None = None,
    shared_mb: int = 64,
    name: str = "kamailio",
    also: str = "",
    onward: str = "udp",
    tls: TlsFiles | None = None,
) -> Iterator[tuple[Peer, tuple[str, int]]]:
    """Kamailio as a plain stateful, record-routing relay with one worker, everything to `to` by the transport `onward`.

    It listens on UDP and, at the same port, on the transport `also`. With `tls` both sides of TLS are mutual.
    `-x fm`: its packaged default allocator fails far below its real rate.
    """
    port = free_port(ip)
    (folder / name).mkdir(exist_ok=True)
    config = folder / name / "kamailio.cfg"
    listens = [f"listen={each}:{ip}:{port}" for each in ("udp", also) if each]
    has_tls = "yes" if tls else "no"
    listens += [f"tcp_children=1\ntcp_source_ipv4={ip}\nenable_tls={has_tls}" if also else "disable_tcp=yes"]
    more = KAMAILIO_TLS.format(key=tls.key, certificate=tls.certificate, ca=tls.server_ca) if tls else ""
    config.write_text(KAMAILIO.format(listens="\n".join(listens), tls=more, to_ip=to[0], to_port=to[1], onward=onward))
    words = [command("kamailio"), "-f", str(config), "-DD", "-E", "-x", "fm", "-m", str(shared_mb), "-M", "16"]
    words += ["-Y", str(folder / name), "-P", str(folder / name / "kamailio.pid")]
    peer = spawn(name, words, folder, core=core)
    try:
        peer.ready(lambda: is_bound(ip, port, "udp") and (not also or is_bound(ip, port, "tcp")))
        yield peer, (ip, port)
    finally:
        peer.stop()


def sipp(folder: Path, name: str, *words: str, scenario: Path, ip: str, port: int) -> Peer:
    """Start SIPp with a scenario; the messages it sees are kept in `<name>.messages`."""
    kept = ["-trace_msg", "-message_file", str(folder / f"{name}.messages"), "-message_overwrite", "true"]
    errors = ["-trace_err", "-error_file", str(folder / f"{name}.errors"), "-error_overwrite", "true"]
    return spawn(
        name,
        [command("sipp"), *words, "-sf", str(scenario), "-i", ip, "-p", str(port), "-nostdin", *kept, *errors],
        folder,
        TERM="dumb",
    )


# On a path that reorders, a 100 may come behind the 200: SIPp would end the call there, a phone does not.
LENIENT = ["-default_behaviors", "all,-abortunexp"]


@contextlib.contextmanager
def sipp_carrier(
    folder: Path,
    scenario: Path,
    *,
    transport: str = "udp",
    ip: str = CARRIER_IP,
    name: str = "carrier",
    is_lenient: bool = False,
) -> Iterator[int]:
    """SIPp as a carrier that serves calls until the end of the block; yields its port."""
    port = free_port(ip)
    words = ["-t", f"{transport[0]}1", *(LENIENT if is_lenient else ())]
    peer = sipp(folder, name, *words, scenario=scenario, ip=ip, port=port)
    try:
        peer.ready(lambda: is_bound(ip, port, transport))
        yield port
    finally:
        peer.stop(signal.SIGKILL)  # asked politely, it would wait for calls that have ended to be forgotten


def sipp_calls(
    folder: Path,
    scenario: Path,
    to: tuple[str, int],
    *,
    number: str = "911",
    transport: str = "udp",
    calls: int = 1,
    rate: int = 20,
    within_s: float = 30.0,
    is_lenient: bool = False,
) -> None:
    """SIPp as a PBX that places calls and ends.

    Raises:
        PeerFailed: not every call went as the scenario says; SIPp's own words are in it.
    """
    port = free_port(PBX_IP)
    words = ["-t", f"{transport[0]}1", "-s", number, "-m", str(calls), "-r", str(rate), "{}:{}".format(*to)]
    words += LENIENT if is_lenient else []
    peer = sipp(folder, "pbx", *words, "-timeout", f"{int(within_s)}s", scenario=scenario, ip=PBX_IP, port=port)
    code = peer.wait(within_s + 5.0)
    if code:
        errors = folder / "pbx.errors"
        said = errors.read_text(errors="replace")[:3000] if errors.exists() else peer.words()
        raise PeerFailed(f"{scenario.name}: SIPp ended with {code}\n{said}")


_MESSAGE = re.compile(rb"(?:UDP|TCP) message (received|sent) [\[(](\d+)[\])]? bytes\)? ?:\n\n")


def sipp_messages(folder: Path, name: str, way: str = "received") -> list[bytes]:
    """The SIP messages a SIPp that has ended (or goes on) wrote down, in order; `way`: received or sent."""
    text, found = (folder / f"{name}.messages").read_bytes(), []
    for match in _MESSAGE.finditer(text):
        message = text[match.end() : match.end() + int(match.group(2))]
        found += [message] if match.group(1).decode() == way else []
    return found


class LossyRelay:
    """A UDP path between two sides that loses and reorders, the same way each time for the same seed.

    What comes from anyone but `far` goes to `far`; what `far` answers goes back to whoever came last through the same
    door. Every sender has a door of its own towards `far`, so that answers find their way.
    """

    def __init__(self, ip: str, far: tuple[str, int], *, seed: int, lost: float, delayed: float) -> None:
        self._random = random.Random(seed)
        self._far, self._lost, self._delayed = far, lost, delayed
        self._front = self._socket(ip)
        self._ip, self.address = ip, self._front.getsockname()
        self._doors: dict[tuple[str, int], socket.socket] = {}
        self._late: list[tuple[float, int, bytes, socket.socket, tuple[str, int]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lossy", daemon=True)
        self.passed = self.dropped = self.reordered = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5.0)
        for sock in (self._front, *self._doors.values()):
            sock.close()

    @staticmethod
    def _socket(ip: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((ip, 0))
        sock.setblocking(False)
        return sock

    def _run(self) -> None:
        while not self._stop.is_set():
            readable, _, _ = select.select([self._front, *self._doors.values()], [], [], 0.005)
            for sock in readable:
                with contextlib.suppress(OSError):
                    data, source = sock.recvfrom(65_535)
                    self._pass(data, sock, source)
            while self._late and self._late[0][0] <= time.monotonic():
                self._send(*heapq.heappop(self._late)[2:])

    def _pass(self, data: bytes, sock: socket.socket, source: tuple[str, int]) -> None:
        if sock is self._front:
            if source not in self._doors:
                self._doors[source] = self._socket(self._ip)
            out, to = self._doors[source], self._far
        else:
            out, to = self._front, next(near for near, door in self._doors.items() if door is sock)
        fate = self._random.random()
        if fate < self._lost:
            self.dropped += 1
        elif fate < self._lost + self._delayed:
            self.reordered += 1
            late_s = self._random.uniform(0.02, 0.12)  # long enough for what follows to overtake it
            heapq.heappush(self._late, (time.monotonic() + late_s, self.reordered, data, out, to))
        else:
            self._send(data, out, to)

    def _send(self, data: bytes, out: socket.socket, to: tuple[str, int]) -> None:
        self.passed += 1
        with contextlib.suppress(OSError):
            out.sendto(data, to)


def seconds_between(earlier: str, later: str) -> float:
    """Between two RFC 3339 instants."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
