"""The `callpoint` command. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a port is taken. `--json` where a script
would want it.

Commands work on the database directly: who can read the key file has authority here; the audit log names the actor
`cli`. Imports stand inside the commands so that each starts fast.
"""

import errno
import gc
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from engine import config as configuration
from engine import port_check
from engine.commanding import ConfigOption, JsonOption, told_in_words, version
from engine.commanding import cli as _cli
from engine.commanding import opened as _opened
from engine.commanding import run_to_end as _run
from engine.commands import audit, backup, keys, people, phones, snippet
from engine.errors import ConfigFault, EngineError, Invalid
from engine.port_check import PortsTaken

app = typer.Typer(
    name="callpoint", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help=(
        "Callpoint: phone provisioning and E911, beside your PBX.\n\n`run` listens on 8080 for phones "
        "(CALLPOINT_PROVISIONING__LISTEN), on 127.0.0.1:8081 for the pages (CALLPOINT_ADMIN__LISTEN) and on 5060 "
        "for SIP (CALLPOINT_SIP__UDP, CALLPOINT_SIP__TCP), each HOST:PORT. A file given with --config names the same; "
        "docs/configuration.md has every key."
    ),
)  # fmt: skip
for name, sub in (
    ("account", people.account_app),
    ("api-key", people.api_key_app),
    ("keys", keys.app),
    ("phone", phones.phone_app),
    ("phone-settings", phones.phone_settings_app),
    ("audit", audit.app),
    ("user", people.user_app),
    ("operator", people.operator_app),
):
    app.add_typer(sub, name=name)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"callpoint {version()}")
        raise typer.Exit


@app.callback()
def callpoint(
    *, _: Annotated[bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print it.")] = False
) -> None:
    """What stands before a command."""


def main() -> None:
    """Run the command; every fault ends as a sentence on standard error and an exit code."""
    os.umask(0o077)  # what is made in the data folder is its owner's alone
    try:
        app(prog_name="callpoint")
    except ConfigFault as fault:
        _complain("Callpoint cannot start with this configuration:", *(f"  {line}" for line in fault.faults))
        raise SystemExit(1) from None
    except PortsTaken as fault:
        _complain(f"{fault.title}:{fault.detail}")
        raise SystemExit(port_check.EXIT_CODE) from None
    except Invalid as fault:
        told = (f"  {field.field}: {field.detail}" for field in fault.fields if field.detail not in fault.detail)
        _complain(fault.detail, *told)
        raise SystemExit(1) from None
    except EngineError as fault:
        _complain(f"{fault.title}: {fault.detail}")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as exc:
        if (words := told_in_words(exc)) is None:
            raise
        _complain(words)
        raise SystemExit(1) from None


@app.command()
def run(config: ConfigOption = None) -> None:
    """Start the node: SIP, the phones' port and the admin pages. Exit code 3 when a port is taken."""
    from engine import crypto, data_folder, log
    from engine.edge.link import EdgeLink, stop_asked

    settings = configuration.load(config)
    log.set_up(settings.log)

    async def serve() -> None:
        asked = stop_asked()  # before anything runs, so that no signal finds a half-started node
        data_folder.take(settings.core.data_dir)
        port_check.check(settings)
        keys = crypto.load_or_create(settings.key_file)
        edge = EdgeLink(settings)
        await edge.begin()  # 911 is carried while the rest is still being imported
        gc.disable()  # what is imported stays: to look it through time and again is a seventh of a start
        from engine import systemd
        from engine.app import App
        from engine.banner import show_start

        node = App(settings, keys, edge)
        await node.start()  # which sets it aside
        show_start(node)
        systemd.tell("READY=1")
        await asked.wait()
        systemd.tell("STOPPING=1")
        await node.stop()

    try:
        _run(serve())
    except OSError as exc:
        if exc.filename is not None:  # no port
            raise
        _complain(f"A port cannot be opened: {exc}. Change it with [sip], [provisioning] or [admin] listen.")
        raise SystemExit(port_check.EXIT_CODE if exc.errno == errno.EADDRINUSE else 1) from None


@app.command()
def demo(
    *,
    stay: Annotated[
        bool | None,
        typer.Option("--stay/--no-stay", help="Leave the pages open at the end; unless told, on a terminal alone."),
    ] = None,
) -> None:
    """Show the whole story with simulated phones, PBX and carrier, on a throw-away database."""
    from engine.demo import tell

    raise SystemExit(_run(tell(stay=sys.stdout.isatty() if stay is None else stay)))


@app.command("check-config")
def check_config(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Read the configuration as a start would, and list every fault."""
    from engine.e911.carriers import load_profiles

    settings = configuration.load(config)
    if faults := load_profiles().faults:
        raise ConfigFault(faults)
    if as_json:
        typer.echo(settings.model_dump_json(exclude={"mail": {"password"}}, by_alias=True))
    else:
        typer.echo("The configuration is good.")


@app.command()
def migrate(config: ConfigOption = None) -> None:
    """Bring the database to this version's schema; `run` does this by itself."""
    from engine import migrations

    async def work() -> str:
        async with _opened(configuration.load(config), is_migrated=False) as database:
            return await migrations.migrate(database)

    typer.echo(f"The database is at revision {_run(work())}.")


@app.command()
def doctor(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Look at everything a 911 call rests on and say what is wrong. Exit code 1 when something is."""
    from engine.doctor.checks import examine

    findings = _run(examine(configuration.load(config)))
    if as_json:
        typer.echo(json.dumps([finding.as_json() for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.secho(f"{finding.mark} {finding.what}: {finding.detail}", fg=finding.colour)
    raise SystemExit(1 if any(finding.is_bad for finding in findings) else 0)


@app.command()
def call(
    dialed: Annotated[str, typer.Argument(help="933 for the carrier's test line.")],
    caller: Annotated[str, typer.Option("--from", help="The extension or SIP user that calls.")],
    account: Annotated[
        str | None, typer.Option(help="Whose line it is; needed when there are several accounts.")
    ] = None,
    via: Annotated[str | None, typer.Option(help="HOST:PORT of the node's SIP socket.")] = None,
    config: ConfigOption = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Really dial an emergency number.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Place a test call through the running node, as a PBX would, and show each answer."""
    from engine.test_line import place_through

    settings = configuration.load(config)
    placed = _run(place_through(settings, dialed, caller, account, via, confirmed=yes, quiet=as_json))
    if as_json:
        heard = [{"status": one.status, "reason": one.reason, "after_s": round(one.after_s, 4)} for one in placed.heard]
        typer.echo(json.dumps({"call_id": placed.call_id, "answered": placed.is_answered, "heard": heard}))
    raise SystemExit(0 if placed.is_answered else 1)


@app.command("import")
def import_table(
    kind: Annotated[str, typer.Argument(help="phones or locations.")],
    file: Annotated[Path, typer.Argument(help="The CSV file; - for standard input.")],
    account: Annotated[str | None, typer.Option(help="Whose; needed when there are several accounts.")] = None,
    config: ConfigOption = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Import phones or locations from a CSV table: every row, or none. Exit code 1 when a row has a fault."""
    from engine.commands.tables import read_table, show_report, take_in

    body = read_table(file)

    async def work() -> Any:
        async with _opened(configuration.load(config)) as database:
            return await take_in(database, kind, body, account, _cli, dry_run=dry_run)

    if not show_report(_run(work()), dry_run=dry_run, as_json=as_json):
        raise SystemExit(1)


@app.command("export")
def export_table(
    kind: Annotated[str, typer.Argument(help="phones or locations.")],
    account: Annotated[str | None, typer.Option(help="Whose; needed when there are several accounts.")] = None,
    config: ConfigOption = None,
) -> None:
    """Print every phone or location as a CSV table that `import` reads back; secrets are left out."""
    from engine.commands.tables import give_out

    async def work() -> bytes:
        async with _opened(configuration.load(config)) as database:
            return await give_out(database, kind, account, _cli)

    sys.stdout.buffer.write(_run(work()))


app.command()(backup.backup)
app.command()(backup.restore)
app.command()(snippet.snippet)


def _complain(*lines: str) -> None:
    for line in lines:
        typer.echo(line, err=True)


if __name__ == "__main__":
    main()
