"""Phone configurations over HTTP, beside nginx serving the same bytes as a static file; both on one core.

Keep-alive load is wrk's. New TLS connections are made by `openssl s_time -new`, which never resumes a session (wrk
does); what counts there is the server's CPU time for one request, since the client is the slower side of nginx.
"""

import asyncio
import contextlib
import json
import re
import socket
import ssl
import statistics
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests import peers, ports
from tests.bench import machine
from tests.bench.plan import Plan
from tests.bench.site import MODEL_AGENT, USER_AGENT, Site, add_phones, running_site

CONNECTIONS = 64
TLS_CLIENTS = 4
LUA = Path(__file__).parent / "report.lua"
NGINX = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile off;
  keepalive_requests 1000000000;
  default_type text/plain;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen {ip}:{port} backlog=4096;
    listen {ip}:{tls_port} ssl backlog=4096;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    root {folder}/files;
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Served:
    """What a server did under a load. `wrong`: answers that were no 200, and broken connections."""

    name: str
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    peak_mb: float
    body_bytes: int
    wrong: int = 0

    @property
    def per_core(self) -> float:
        """What one core could do by the CPU time used, whoever was the slower side."""
        return 1e6 / self.cpu_us if self.cpu_us else 0.0


@dataclass(frozen=True, slots=True)
class Pages:
    """The rows of this part."""

    unchanged: Served
    static: Served
    fresh: Served
    tls: Served
    static_tls: Served


async def measure(plan: Plan, say: Callable[[str], None]) -> Pages:
    """Unchanged phone and nginx in turn, then phones nobody has asked for, then TLS."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate, key = make_certificate(folder)
        async with running_site(_made(folder / "plain")) as site:
            site.pin(machine.SUT_CORE)
            body = await fetch(site, site.path, "http")
            with nginx(folder, body, site.path, certificate, key) as (peer, port, tls_port):
                unchanged, static = await _rounds(
                    plan,
                    lambda: keep_alive("Callpoint, unchanged phone", site.pid, site.phones, site.path, plan, body),
                    lambda: keep_alive("nginx, the same bytes", peer.pid, (peers.NODE_IP, port), site.path, plan, body),
                )
                say(f"keep-alive: {unchanged.per_s:.0f}/s, nginx {static.per_s:.0f}/s")
                fresh = await _fresh(site, plan, body, folder)
                say(f"rendered afresh: {fresh.per_s:.0f}/s")
                tls, static_tls = await _with_tls(plan, folder, certificate, key, peer, tls_port)
                say(f"new TLS connections: {tls.per_s:.0f}/s, nginx {static_tls.per_s:.0f}/s")
    return Pages(unchanged, static, fresh, tls, static_tls)


async def _rounds(
    plan: Plan, one: Callable[[], Awaitable[Served]], other: Callable[[], Awaitable[Served]]
) -> tuple[Served, Served]:
    """Both in turn, so that a neighbour's work falls on both; the round of the median rate of each."""
    pairs = [(await one(), await other()) for _ in range(plan.http_rounds)]

    def middle(served: list[Served]) -> Served:
        rate = statistics.median_low([each.per_s for each in served])
        return next(each for each in served if each.per_s == rate)

    return middle([pair[0] for pair in pairs]), middle([pair[1] for pair in pairs])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def fetch(site: Site, path: str, scheme: str) -> bytes:
    """The phone's file, as wrk and openssl will get it."""
    host, port = site.phones
    async with (
        aiohttp.ClientSession(headers={"User-Agent": USER_AGENT}) as client,
        client.get(f"{scheme}://{host}:{port}{path}", ssl=False) as answer,
    ):
        if answer.status != 200:
            raise peers.PeerFailed(f"the phone's file was answered with {answer.status}")
        return await answer.read()


@contextlib.contextmanager
def nginx(folder: Path, body: bytes, path: str, certificate: Path, key: Path) -> Iterator[tuple[peers.Peer, int, int]]:
    """nginx with one worker serving those bytes at that path, plain and over TLS."""
    file = folder / "files" / path.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(body)
    folder.chmod(0o755)  # its worker runs as another user
    port, tls_port = ports.free_port(), ports.free_port()
    config = folder / "nginx.conf"
    places = {"folder": folder, "ip": peers.NODE_IP, "port": port, "tls_port": tls_port}
    config.write_text(NGINX.format(**places, certificate=certificate, key=key))
    words = [peers.command("nginx"), "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]
    peer = peers.spawn("nginx", words, folder, core=machine.SUT_CORE)
    try:
        peer.ready(lambda: peers.is_bound(peers.NODE_IP, tls_port, "tcp"))
        yield peer, port, tls_port
    finally:
        peer.stop()


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed ECDSA P-256 certificate for the loopback address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(peers.NODE_IP))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return paths


# --- keep-alive -------------------------------------------------------------------------------------------------------


async def keep_alive(name: str, pid: int, at: tuple[str, int], path: str, plan: Plan, body: bytes) -> Served:
    """wrk with one thread and 64 connections, the same file again and again."""
    await wrk(at, path, 1.0, core=machine.LOAD_CORE)
    return await _measured(name, pid, body, wrk(at, path, plan.http_s, core=machine.LOAD_CORE))


async def _fresh(site: Site, plan: Plan, body: bytes, folder: Path) -> Served:
    """Every file asked for once at most, so that every answer is rendered."""
    paths = add_phones(site, plan.fresh_phones)
    listed = folder / "paths.txt"
    listed.write_text("\n".join(paths))
    work = wrk(site.phones, site.path, plan.fresh_s, str(listed), agent=MODEL_AGENT, core=machine.LOAD_CORE)
    served = await _measured("Callpoint, rendered afresh", site.pid, body, work)
    if served.per_s * plan.fresh_s > plan.fresh_phones:
        raise peers.PeerFailed(f"{plan.fresh_phones} phones are too few: some were asked for twice")
    return served


async def _measured(name: str, pid: int, body: bytes, work: Awaitable[dict[str, float]]) -> Served:
    before = machine.cpu_s(pid)
    said = await work
    cpu_s = machine.cpu_s(pid) - before
    requests = said["requests"]
    return Served(
        name=name,
        per_s=requests / said["duration_us"] * 1e6,
        p50_ms=said["p50_us"] / 1000,
        p99_ms=said["p99_us"] / 1000,
        cpu_us=cpu_s / max(requests, 1) * 1e6,
        peak_mb=machine.memory(pid).peak,
        body_bytes=len(body),
        wrong=int(said["errors"] + said["refused"]),
    )


async def wrk(
    at: tuple[str, int], path: str, seconds: float, *more: str, agent: str = USER_AGENT, core: int | None = None
) -> dict[str, float]:
    """What `report.lua` says of that load. `more`: its arguments; `core`: where it runs (None: where it likes)."""
    pinned = ["taskset", "-c", str(core)] if core is not None else []
    words = [*pinned, peers.command("wrk"), "-t1", f"-c{CONNECTIONS}"]
    words += [f"-d{max(1, round(seconds))}s", "-s", str(LUA), "-H", f"User-Agent: {agent}"]
    words += ["http://{}:{}{}".format(*at, path), *more]
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = await asyncio.wait_for(process.communicate(), seconds + 30)
    line = next((line for line in out.decode().splitlines() if line.startswith("{")), None)
    if line is None:
        raise peers.PeerFailed(f"wrk said nothing to read:\n{out.decode()}")
    found: dict[str, float] = json.loads(line)
    return found


# --- new TLS connections ----------------------------------------------------------------------------------------------


async def _with_tls(
    plan: Plan, folder: Path, certificate: Path, key: Path, peer: peers.Peer, tls_port: int
) -> tuple[Served, Served]:
    """A second node with the certificate; its file lies at another path, so nginx gets it as well."""
    environment = {
        "CALLPOINT_PROVISIONING__TLS_CERT": str(certificate),
        "CALLPOINT_PROVISIONING__TLS_KEY": str(key),
    }
    async with running_site(_made(folder / "tls"), environment) as site:
        site.pin(machine.SUT_CORE)
        body = await fetch(site, site.path, "https")
        file = folder / "files" / site.path.lstrip("/")
        file.parent.mkdir(parents=True)
        file.write_bytes(body)
        return await _rounds(
            plan,
            lambda: new_connections("Callpoint", site.pid, site.phones, site.path, plan, body),
            lambda: new_connections("nginx", peer.pid, (peers.NODE_IP, tls_port), site.path, plan, body),
        )


async def new_connections(name: str, pid: int, at: tuple[str, int], path: str, plan: Plan, body: bytes) -> Served:
    """One request on each new connection, every one with a full TLS 1.3 handshake."""
    expected = await asyncio.to_thread(_answer_bytes, at, path)
    before = machine.cpu_s(pid)
    seconds = max(1, round(plan.http_s))
    done = await asyncio.gather(*(_s_time(at, path, seconds) for _ in range(TLS_CLIENTS)))
    cpu_s = machine.cpu_s(pid) - before
    connections = sum(each.connections for each in done)
    rate = connections / seconds
    return Served(
        name=name,
        per_s=rate,
        p50_ms=TLS_CLIENTS / rate * 1000 if rate else 0.0,
        p99_ms=0.0,
        cpu_us=cpu_s / max(connections, 1) * 1e6,
        peak_mb=machine.memory(pid).peak,
        body_bytes=len(body),
        wrong=sum(each.wrong(expected) for each in done),
    )


@dataclass(frozen=True, slots=True)
class _Clients:
    """What one `s_time` did. It prints a star for each full handshake, an r for a resumed one."""

    connections: int
    bytes_each: int
    full: int

    def wrong(self, expected: int) -> int:
        """Connections that resumed a session, or did not bring the whole answer."""
        short = 0 if self.bytes_each == expected else self.connections
        return max(short, self.connections - self.full, 0)


def _answer_bytes(at: tuple[str, int], path: str) -> int:
    """The size of a whole answer, head and body, to the request that `s_time` makes."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    size = 0
    with socket.create_connection(at, 5.0) as sock, context.wrap_socket(sock) as stream:
        stream.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        while data := stream.recv(65_536):
            size += len(data)
    return size


_CONNECTIONS = re.compile(r"(\d+) connections in \d+ real seconds, (\d+) bytes read per connection")


async def _s_time(at: tuple[str, int], path: str, seconds: int) -> _Clients:
    words = ["taskset", "-c", str(machine.LOAD_CORE), peers.command("openssl"), "s_time", "-new", "-tls1_3"]
    words += ["-connect", "{}:{}".format(*at), "-www", path, "-time", str(seconds)]
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = await asyncio.wait_for(process.communicate(), seconds + 30)
    found = _CONNECTIONS.search(out.decode())
    if found is None:
        raise peers.PeerFailed(f"openssl s_time said nothing to read:\n{out.decode()}")
    return _Clients(int(found[1]), int(found[2]), out.count(b"*"))
