"""What the terminal shows: where the node answers, and how a simulated phone booted."""

import json
from typing import TYPE_CHECKING

import typer

from engine.edge.link import EdgeState
from engine.own_command import own_command

if TYPE_CHECKING:
    from engine.app import App
    from engine.provisioning.simulate import BootResult
    from engine.provisioning.storm import Storm

SETUP_LINK_MINUTES = 30


def show_start(node: "App") -> None:
    """Print the addresses, the files worth a backup, the set-up link and the mail's state."""
    config = node.config
    admin = config.admin.public_url.rstrip("/") or f"{_scheme(config.admin.tls_cert)}://{node.admin_address.from_here}"
    phones = config.provisioning.public_url.rstrip("/") or (
        f"{_scheme(config.provisioning.tls_cert)}://{node.phones_address.from_here}"
    )
    typer.secho("\n  Callpoint is running", bold=True)
    _line("Data", f"{config.core.data_dir.absolute()}   keys {config.key_file} (back this file up)")
    if not node.is_database_ready.is_set():
        _line("Database", "away: pages say so; 911 calls go on from the last location table")
    if node.setup_key:
        _line(
            "Set up", f"{admin}/setup?k={node.setup_key}   <- open once, makes your account ({SETUP_LINK_MINUTES} min)"
        )
    _line("Admin", admin)
    _line("Phones", f"{phones}/p/<token>/")
    _line("SIP", _sip(node.edge.state))
    _line("Mail", _mail(node))
    demo, doctor = own_command("demo", takes_config=False), own_command("doctor")
    _line("Stop", f"Ctrl-C      No phone at hand? {demo}      Something odd? {doctor}\n")


def show_boot(result: "BootResult", *, as_json: bool) -> None:
    """Print each file the phone asked for and what it made of it."""
    if as_json:
        typer.echo(json.dumps(result.as_json()))
        return
    for file in result.files:
        typer.echo(
            f"  {file.method:<4} {file.name:<34} {file.status}  {file.size_bytes:>6} B  {file.duration_ms:6.1f} ms"
        )
    for line in result.lines:
        typer.echo(f"  line {line.key}: {line.sip_user} at {line.registrar}  ({line.display_name})")
    if result.auto_dial:
        typer.echo(f"  a lifted handset calls {result.auto_dial} by itself")
    for number, verdict in result.dials.items():
        typer.echo(f"  dials {number}: {verdict.replace('_', ' ')}")
    typer.secho(
        "  ready" if result.is_ready else f"  not ready: {result.fault}", fg="green" if result.is_ready else "red"
    )


def show_storm(storm: "Storm", *, as_json: bool) -> None:
    """Print how many phones came up, what they were answered, and how long that took."""
    if as_json:
        typer.echo(json.dumps(storm.as_json()))
        return
    answers = ", ".join(f"{count} times {status or 'no answer'}" for status, count in sorted(storm.statuses.items()))
    typer.echo(f"  {storm.requests} requests in {storm.seconds:.1f} s: {answers}")
    typer.echo(
        f"  a request: half within {storm.p50_ms:.1f} ms, 99 % within {storm.p99_ms:.1f} ms, "
        f"the longest {storm.longest_ms:.0f} ms"
    )
    for fault, count in storm.faults.items():
        typer.secho(f"  {count} not ready: {fault}", fg="red")
    typer.secho(f"  {storm.ready} of {storm.phones} phones ready", fg="green" if storm.is_ready else "red")


def _line(name: str, text: str) -> None:
    typer.echo(f"    {name:<9} {text}")


def _mail(node: "App") -> str:
    """The server in force, the file's or the pages'."""
    server = node.mail_server.settings
    if server.host:
        return f"{server.host}:{server.port}"
    if not node.is_database_ready.is_set():
        return "set in the pages, if at all: known when the database answers"
    return "not set: messages wait, nothing is lost (Settings, Mail server)"


def _scheme(certificate: object) -> str:
    return "https" if certificate else "http"


def _sip(state: EdgeState) -> str:
    places = [
        f"{name} {address}" for name, address in (("udp", state.udp), ("tcp", state.tcp), ("tls", state.tls)) if address
    ]
    return "   ".join(places) or "not listening"
