"""`callpoint demo`: the whole story in the terminal, through the same doors as everybody: HTTP, SIP, files.

A throw-away node on free loopback ports, a little site made through the API, phones that boot as the vendors' do, a 933
and a 911 through the SIP process to simulated carriers (the first of which has died), the mail as staff see it, a token
rotated, the audit log of it all. At the end the pages stay open to look at.
"""

import asyncio
import datetime as dt
import secrets
import socket
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from engine import crypto, log
from engine.accounts import operations, passwords
from engine.agents import Carrier, Heard, Placed, Placing, place_call
from engine.app import App
from engine.audit.record import Actor
from engine.config import Admin, Config, Core, Log, Provisioning, Sip
from engine.edge.link import EdgeLink, stop_asked
from engine.errors import EngineError
from engine.provisioning.simulate import simulate

OWNER = "demo@example.com"
SHOWN_WITHIN_S = 30.0  # a moment on a machine that has nothing else to do
LOCATIONS = (
    ("Headquarters", {"HNO": "120", "RD": "Washington", "STS": "Ave", "FLR": "4", "ROOM": "412"}, "10.1.0.0/16"),
    ("Clinic", {"HNO": "35", "RD": "State", "STS": "St", "FLR": "1"}, "10.2.0.0/16"),
    ("Warehouse", {"HNO": "9", "RD": "Dock", "STS": "Rd", "FLR": "1"}, "10.3.0.0/16"),
)
PEOPLE = ("Ann Lee", "Bo Chen", "Cleo Diaz", "Dan Fox", "Eve Ito", "Finn Roy", "Gia Sol", "Hal Orr")
MODELS = (("yealink", "T46U", "001565"), ("poly", "VVX_450", "0004f2"), ("yealink", "T54W", "805ec0"))
_SOURCES = {
    "switch_port": "switch port", "switch": "switch", "bssid": "Wi-Fi", "subnet": "phone's network",
    "confirmed": "told by the user", "request": "in the call itself", "reference": "location server",
    "phone": "phone's own", "line": "line's own", "pbx_default": "PBX default", "account_default": "account default",
}  # fmt: skip


@dataclass(slots=True)
class Stage:
    """What the story is told on."""

    console: Console
    node: App
    carrier: Carrier
    api: "Api"
    password: str
    dead_port: int


class Api:
    """The node's own REST API, with a key of every scope."""

    def __init__(self, client: aiohttp.ClientSession, base: str) -> None:
        self._client, self._base = client, base

    async def __call__(self, method: str, path: str, body: Any = None) -> Any:
        async with self._client.request(method, f"{self._base}/api/v1/{path}", json=body) as answer:
            data = await answer.json(content_type=None)
            if answer.status >= 300:
                raise EngineError(f"{method} {path}: {answer.status} {data}")
            return data


async def tell(*, stay: bool) -> int:
    """Tell the story; returns the exit code: 0 when everything in it went as told."""
    console = Console(highlight=False)
    log.set_up(Log(level="error"))
    console.print(
        Panel.fit("[bold]Callpoint[/]: phone provisioning and E911, the whole story", border_style="red", title="DEMO")
    )
    ok, asked = True, stop_asked()
    story = asyncio.create_task(_story(console, stay=stay))
    stopping = asyncio.create_task(asked.wait())
    await asyncio.wait({story, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not story.done():
        story.cancel()  # the node is stopped in order, whatever the story was at
    try:
        ok = await story
    except asyncio.CancelledError:
        console.print("Stopped; nothing was kept.")
    return 0 if ok else 1


async def _story(console: Console, *, stay: bool) -> bool:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callpoint-demo-")))
        stage = await _set_the_stage(console, folder, stack)
        phones = await _make_a_site(stage)
        url = await _boot_phones(stage, phones)
        await stage.node.settled(SHOWN_WITHIN_S)
        ok = await _dial(stage, "933", "Ann Lee dials 933; the first carrier has just died", phones[0], "10.1.4.20")
        ok &= await _dial(
            stage, "911", "Cleo Diaz dials 911 from the warehouse; the dead carrier is known", phones[2], "10.3.0.7"
        )
        ok &= await _rotate(stage, url, phones[0]["mac"])
        await _show_audit(stage)
        if stay:
            await _leave_open(stage)
    return bool(ok)


async def _set_the_stage(console: Console, folder: Path, stack: AsyncExitStack) -> Stage:
    config = Config(
        core=Core(data_dir=folder),
        provisioning=Provisioning(listen="127.0.0.1:0"),
        admin=Admin(listen="127.0.0.1:0"),
        sip=Sip(udp="127.0.0.1:0", tcp="127.0.0.1:0", first_response_s=0.8),
    )
    node = App(config, crypto.load_or_create(config.key_file), EdgeLink(config))
    with console.status("Starting a node: SIP process, database, phones' port, admin port"):
        await node.start()
    stack.push_async_callback(node.stop)
    carrier = Carrier()
    await carrier.start()
    stack.push_async_callback(carrier.stop)
    silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent.bind(("127.0.0.1", 0))  # a carrier that has died: it takes datagrams and never answers
    password = f"demo-{secrets.token_urlsafe(12)}"
    password_hash = await passwords.hash_password(password)
    actor = Actor("cli", "cli:demo", "demo", "local")
    async with node.database.sessions.begin() as session:
        account = await operations.create_account(
            session, actor, "Demo Dental Group", OWNER, password_hash, "Demo Owner"
        )
    async with node.database.sessions.begin() as session:
        key = await operations.create_api_key(session, actor, account, name="demo", scopes=["*"])
    client = aiohttp.ClientSession(headers={"Authorization": f"Bearer {key.clear}"})
    stack.push_async_callback(client.close)
    console.print(
        f"[green]✓[/] A node runs: SIP {node.edge.state.udp}, phones {node.phones_address}\n"
        f"  and pages at http://{node.admin_address}/"
    )
    return Stage(console, node, carrier, Api(client, f"http://{node.admin_address}"), password, silent.getsockname()[1])


async def _make_a_site(stage: Stage) -> list[dict[str, Any]]:
    """Locations with their subnets, recipients, the PBX, two carriers, lines and phones."""
    api, places = stage.api, []
    for name, address, subnet in LOCATIONS:
        civic = {"country": "US", "A1": "NY", "A3": "Albany", "PC": "12203"} | address
        recipients = ["dock-security@example.com", "frontdesk@example.com"] if name == "Warehouse" else []
        place = await api(
            "POST", "locations", {"name": name, "civic_address": civic, "notification_recipients": recipients}
        )
        await api("POST", "networks", {"kind": "subnet", "value": subnet, "location_id": place["id"]})
        places.append(place)
    await api("POST", "notification-recipients", {"email": "frontdesk@example.com"})
    await api("POST", "pbxs", {"name": "PBX", "sources": ["127.0.0.1/32"], "registrar_host": "pbx.example.com"})
    host, port = stage.carrier.address
    await api("POST", "trunks", {"name": "Carrier A", "host": "127.0.0.1", "port": stage.dead_port, "priority": 10})
    await api("POST", "trunks", {"name": "Carrier B", "host": host, "port": port, "priority": 20})
    phones = []
    for number, person in enumerate(PEOPLE):
        vendor, model, oui = MODELS[number % len(MODELS)]
        extension = str(101 + number)
        line = await api(
            "POST",
            "lines",
            {
                "extension": extension, "sip_user": extension, "display_name": person,
                "secret": secrets.token_urlsafe(12), "callback_number": f"+1518555{extension:0>4}",
            },
        )  # fmt: skip
        body = {"vendor": vendor, "model": model, "mac": f"{oui}{secrets.token_hex(3)}", "label": person}
        phone = await api("POST", "phones", body | {"location_id": places[number % 3]["id"], "lines": [line["id"]]})
        phones.append(phone | {"extension": extension, "person": person})
    stage.console.print(
        f"[green]✓[/] A site made through the API: {len(places)} locations, {len(phones)} phones, 2 carriers"
    )
    return phones


async def _boot_phones(stage: Stage, phones: list[dict[str, Any]]) -> str:
    """Generate the token and boot every phone against its URL."""
    made = await stage.api("POST", "provisioning-token/generate")
    url = str(made["provisioning_url"])
    columns = (
        TextColumn("[bold]Phones boot"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
    )
    files = 0
    with Progress(*columns, console=stage.console) as progress:
        task = progress.add_task("boot", total=len(phones), now="")
        for phone in phones:
            result = await simulate(phone["vendor"], phone["model"], phone["mac"], url)
            if not result.is_ready:
                raise EngineError(f"{phone['vendor']} {phone['model']} did not boot: {result.fault}")
            files += len(result.files)
            progress.update(task, advance=1, now=f"{phone['vendor']} {phone['model']} {phone['mac']}")
    stage.console.print(
        f"[green]✓[/] {len(phones)} phones booted with {files} requests; each sends 911 and 933 at once\n"
    )
    return url


async def _dial(stage: Stage, number: str, title: str, phone: dict[str, Any], source: str) -> bool:
    """A real INVITE from the PBX's address; then the ladder, the location's verdict and the mails."""
    host, _, port = stage.node.edge.state.udp.rpartition(":")
    headers = (("X-Callpoint-Device", phone["mac"]), ("X-Callpoint-Source", source))
    heard: list[Heard] = []
    with stage.console.status(f"{title} ..."):
        placing = Placing(number, phone["extension"], (host, int(port)), phone["person"], headers)
        placed = await place_call(placing, on_heard=heard.append)
        call = await _recorded(stage, placed.call_id)
    stage.console.rule(f"[bold]{title}")
    stage.console.print(_ladder(placed, call))
    stage.console.print(_verdict(call))
    for notification in call["notifications"]:
        full = await stage.api("GET", f"notifications/{notification['id']}")
        mail = f"To: {full['recipient']}\nSubject: [bold]{full['subject']}[/]\n\n{full['body'].strip()}"
        stage.console.print(
            Panel(mail, title="the mail as staff see it", border_style="yellow" if number == "933" else "red")
        )
    return placed.is_answered


async def _recorded(stage: Stage, sip_call_id: str) -> dict[str, Any]:
    """The call's record, a moment after the call; the call itself never waited for it."""
    async with asyncio.timeout(SHOWN_WITHIN_S):
        while True:
            for row in (await stage.api("GET", "emergency-calls?limit=20"))["data"]:
                if row["call_id"] == sip_call_id and row["outcome"] != "in_progress":
                    return dict(await stage.api("GET", f"emergency-calls/{row['id']}"))
            await asyncio.sleep(0.05)


def _ladder(placed: Placed, call: dict[str, Any]) -> Table:
    """Who said what and when, in its order: PBX, Callpoint, carriers."""
    table = Table(box=None, pad_edge=False, title_justify="left")
    for name, style in (
        ("ms", "dim"),
        ("PBX", "cyan"),
        ("", "dim"),
        ("Callpoint", "bold"),
        (" ", "dim"),
        ("carrier", "magenta"),
    ):
        table.add_column(name, style=style, justify="right" if name == "ms" else "left")
    for after_ms, *cells in _rungs(placed, call):
        table.add_row(f"{after_ms:.1f}", *cells)
    return table


def _rungs(placed: Placed, call: dict[str, Any]) -> list[tuple[float, str, str, str, str, str]]:
    """What was sent and heard, sorted: milliseconds after the INVITE, then the five columns.

    The PBX counts from its INVITE, the record's times from when that came in: on one machine the same to a fraction of
    a millisecond.
    """
    rungs = [(0.0, f"INVITE {call['dialed']}", "──▶", "", "", "")]
    for attempt in call["attempts"]:
        location = "with location" if attempt["with_location"] else "without location"
        trunk, outcome = attempt["trunk_name"], str(attempt["status_code"] or attempt["outcome"])
        rungs.append((_after_ms(call, attempt["started_at"]), "", "", f"INVITE {location}", "──▶", trunk))
        if attempt["ended_at"] is not None:
            arrow = "◀──" if attempt["status_code"] else " ✗ "
            rungs.append((_after_ms(call, attempt["ended_at"]), "", "", "", arrow, f"{trunk}: {outcome}"))
    rungs += [(one.after_s * 1000, f"{one.status} {one.reason}", "◀──", "", "", "") for one in placed.heard]
    return sorted(rungs, key=lambda rung: rung[0])  # stable: what happened at one instant keeps its order


def _after_ms(call: dict[str, Any], at: str) -> float:
    return (dt.datetime.fromisoformat(at) - dt.datetime.fromisoformat(call["received_at"])).total_seconds() * 1000


def _verdict(call: dict[str, Any]) -> Table:
    table = Table(title="where the caller is, and why", title_justify="left", title_style="italic", box=None)
    for name in ("", "source", "said", "why"):
        table.add_column(name)
    for evidence in call["verdict"]:
        mark = "[green]✓[/]" if evidence["taken"] else ""
        source = _SOURCES.get(evidence["source"], evidence["source"])
        table.add_row(mark, source, evidence["said"] or "-", evidence["why"])
    return table


async def _rotate(stage: Stage, old_url: str, mac: str) -> bool:
    rotated = await stage.api("POST", "provisioning-token/rotate")
    statuses = []
    async with aiohttp.ClientSession() as client:
        for url in (old_url, str(rotated["provisioning_url"])):
            async with client.get(f"{url.rstrip('/')}/{mac}.cfg") as answer:
                statuses.append(answer.status)
    stage.console.rule("[bold]The token is rotated")
    stage.console.print(f"The old URL answers [red]{statuses[0]}[/], the new one [green]{statuses[1]}[/].\n")
    return statuses == [404, 200]


async def _show_audit(stage: Stage) -> None:
    table = Table(title="The newest entries of the audit log", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for name, width in (("time", 8), ("event", 25), ("what", 26), ("who", 13)):  # 80 columns hold them
        table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=width)
    for entry in (await stage.api("GET", "audit-log?limit=12"))["data"]:
        mark = "[green]✓[/]" if entry["outcome"] == "success" else "[red]✗[/]"
        what = entry["resource"]["name"] or entry["resource"]["type"].replace("_", " ")
        table.add_row(mark, entry["at"][11:19], entry["event"], what, entry["actor"]["name"])
    stage.console.print(table)


async def _leave_open(stage: Stage) -> None:
    words = (
        f"Pages: [bold]http://{stage.node.admin_address}/[/]\n"
        f"Sign in as [bold]{OWNER}[/] with [bold]{stage.password}[/]\n"
        "Everything here is thrown away at the end. Stop: Ctrl-C"
    )
    stage.console.print(Panel(words, title="look around", border_style="green"))
    await asyncio.Event().wait()  # until the signal cancels the story
