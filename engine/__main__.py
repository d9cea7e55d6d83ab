"""The `callpoint` command. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a port is taken. `--json` where a script
would want it.

Commands work on the database directly: who can read the key file has authority here; the audit log names the actor
`cli`. Imports stand inside the commands so that each starts fast.
"""

import errno
import gc
import getpass
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
from engine.commands import backup, keys, snippet
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
account_app = typer.Typer(no_args_is_help=True, help="Accounts.")
api_key_app = typer.Typer(no_args_is_help=True, help="API keys.")
phone_app = typer.Typer(no_args_is_help=True, help="Phones.")
phone_settings_app = typer.Typer(
    no_args_is_help=True, help="Phone settings of all accounts; what an account says goes before."
)
audit_app = typer.Typer(no_args_is_help=True, help="The audit log.")
user_app = typer.Typer(no_args_is_help=True, help="Users.")
operator_app = typer.Typer(no_args_is_help=True, help="Platform operators: people who may act for any account.")
for name, sub in (
    ("account", account_app),
    ("api-key", api_key_app),
    ("keys", keys.app),
    ("phone", phone_app),
    ("phone-settings", phone_settings_app),
    ("audit", audit_app),
    ("user", user_app),
    ("operator", operator_app),
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


@account_app.command("create")
def account_create(
    name: Annotated[str, typer.Option(help="The account's name.")],
    owner_email: Annotated[str, typer.Option(help="The owner's e-mail address, to sign in with.")],
    *,
    password_stdin: Annotated[bool, typer.Option(help="Read the owner's password from standard input.")] = False,
    config: ConfigOption = None,
) -> None:
    """Create an account and its owner; its id stands alone on the last line."""
    from engine.accounts import operations, passwords

    password = sys.stdin.readline().rstrip("\n") if password_stdin else _ask_password()

    async def work() -> str:
        passwords.check(password, context=(name, owner_email))
        password_hash = await passwords.hash_password(password)
        async with _opened(configuration.load(config)) as database, database.sessions.begin() as session:
            account = await operations.create_account(
                session, _cli(), name=name, owner_email=owner_email, password_hash=password_hash
            )
            return account.id

    typer.echo(_run(work()))


@account_app.command("list")
def account_list(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """List the accounts: id and name, one on a line."""
    from engine.accounts import store

    async def work() -> list[dict[str, str]]:
        async with _opened(configuration.load(config)) as database, database.sessions() as session:
            return [{"id": one.id, "name": one.name} for one in await store.accounts(session)]

    found: list[dict[str, str]] = _run(work())
    if as_json:
        typer.echo(json.dumps(found))
    for one in () if as_json else found:
        typer.echo(f"{one['id']}  {one['name']}")


@user_app.command("reset-2fa")
def user_reset_2fa(
    email: Annotated[str, typer.Argument(help="The user's e-mail address.")], config: ConfigOption = None
) -> None:
    """Take a user's second factors, who lost them; ends their sessions and remembered browsers."""
    from engine.commands.people import reset_two_factor

    async def work() -> str:
        async with _opened(configuration.load(config)) as database:
            return await reset_two_factor(database, email, _cli)

    typer.echo(_run(work()))


@operator_app.command("create")
def operator_create(
    email: Annotated[str, typer.Option(help="The operator's e-mail address, to sign in with.")],
    name: Annotated[str, typer.Option(help="The operator's name.")] = "",
    *,
    read_only: Annotated[bool, typer.Option(help="May read every account and change none.")] = False,
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
    config: ConfigOption = None,
) -> None:
    """Create a platform operator; the user's id stands alone on the last line."""
    from engine.commands.people import create_operator

    password = sys.stdin.readline().rstrip("\n") if password_stdin else _ask_password("the operator")

    async def work() -> str:
        async with _opened(configuration.load(config)) as database:
            return await create_operator(database, email, name, password, _cli, read_only=read_only)

    typer.echo(_run(work()))


@operator_app.command("list")
def operator_list(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """List the platform operators: id, e-mail address, role and state."""
    from engine.commands.people import operators

    async def work() -> list[dict[str, str]]:
        async with _opened(configuration.load(config)) as database:
            return await operators(database)

    found: list[dict[str, str]] = _run(work())
    if as_json:
        typer.echo(json.dumps(found))
    for one in () if as_json else found:
        typer.echo("  ".join(one.values()))


@api_key_app.command("create")
def api_key_create(
    account: Annotated[str, typer.Option(help="The account's id.")],
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[list[str], typer.Option(help="A scope; repeat it. `*` is every scope.")],
    config: ConfigOption = None,
) -> None:
    """Create an API key; it is printed once, alone on the last line, and only its hash is stored."""
    from engine.accounts import operations, store

    async def work() -> str:
        async with _opened(configuration.load(config)) as database, database.sessions.begin() as session:
            owner = await store.account_by_id(session, account)
            if owner is None:
                raise Invalid(f"There is no account {account}. Accounts: {await _known_accounts(session)}.")
            created = await operations.create_api_key(session, _cli(owner.id), owner, name=name, scopes=scope)
            return created.clear

    typer.echo(_run(work()))


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


@phone_app.command("simulate")
def phone_simulate(
    vendor: Annotated[str, typer.Option()],
    model: Annotated[str, typer.Option()],
    mac: Annotated[str, typer.Option()],
    url: Annotated[str, typer.Option(help="The provisioning URL, token included.")],
    count: Annotated[int, typer.Option(help="Phones with consecutive MAC addresses, from --mac on.")] = 1,
    at_once: Annotated[int, typer.Option(help="Of many, so many boot at the same moment.")] = 200,
    over_s: Annotated[float, typer.Option(help="Of many, the first to the last begin over so many seconds.")] = 0.0,
    boots: Annotated[int, typer.Option(help="Boots of each of many; the second is that after a power cut.")] = 1,
    country: Annotated[str, typer.Option(help="Whose emergency numbers are dialled, such as GB.")] = "US",
    file_key: Annotated[
        str, typer.Option(help="Key of encrypted files, as the phone's page shows it; of an OBi KEY:IV.")
    ] = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Boot a simulated phone against a provisioning URL, or many: the vendor's own order of files, headers, retries."""
    from engine.banner import show_boot, show_storm
    from engine.provisioning.boots_sealed import flash_with
    from engine.provisioning.settings import emergency_numbers
    from engine.provisioning.simulate import simulate
    from engine.provisioning.storm import storm

    numbers = emergency_numbers(country.upper())
    if count != 1 or boots != 1:
        many = storm(
            vendor, model, mac, url,
            count=count, at_once=at_once, over_s=over_s, boots=boots, numbers=numbers, file_key=file_key,
        )  # fmt: skip
        came = _run(many)
        show_storm(came, as_json=as_json)
        raise SystemExit(0 if came.is_ready else 1)
    memory = flash_with(vendor, url, file_key) if file_key else None
    result = _run(simulate(vendor, model, mac, url, numbers=numbers, memory=memory))
    show_boot(result, as_json=as_json)
    raise SystemExit(0 if result.is_ready else 1)


@phone_settings_app.command("show")
def phone_settings_show(config: ConfigOption = None) -> None:
    """Print the phone settings of all accounts as JSON."""
    typer.echo(json.dumps(_run(_global_settings(config)), indent=2, ensure_ascii=False))


@phone_settings_app.command("set")
def phone_settings_set(
    name: Annotated[str, typer.Argument(help="The setting, such as ntp_server.")],
    value: Annotated[str, typer.Argument(help='Its value: JSON, or a text, such as 20, true, ["opus", "pcmu"].')],
    config: ConfigOption = None,
) -> None:
    """Say a phone setting for all accounts. Their phones take it at their next fetch."""
    try:
        read = json.loads(value)
    except ValueError:
        read = value
    _run(_global_settings(config, {name: read}))


@phone_settings_app.command("unset")
def phone_settings_unset(
    name: Annotated[str, typer.Argument(help="The setting.")], config: ConfigOption = None
) -> None:
    """Say nothing of a phone setting any more: the default counts where no account says otherwise."""
    _run(_global_settings(config, {name: None}))


async def _global_settings(config: Path | None, changed: dict[str, Any] | None = None) -> dict[str, Any]:
    """The settings of all accounts, after the change where there is one; None takes a setting out."""
    from engine.provisioning import levels, merge, store_levels

    async with _opened(configuration.load(config)) as database, database.sessions.begin() as session:
        level = await store_levels.level_named(session, None, merge.GLOBAL_NAME)
        said = dict(level.settings) if level is not None else {}
        if changed is None:
            return said
        said = {name: value for name, value in (said | changed).items() if value is not None}
        await levels.put_global(session, _cli(), said)
        return said


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


@audit_app.command("verify")
def audit_verify(
    file: Annotated[Path, typer.Argument(help="An export of one chain, JSON Lines; - for standard input.")],
    checkpoint: Annotated[str, typer.Option(help="A hash from a notification mail that the chain must hold.")] = "",
    key: Annotated[str, typer.Option(help="The public key, in hex, that must have signed the checkpoints.")] = "",
    part: Annotated[bool, typer.Option("--part", help="A filtered export: check each entry in itself.")] = False,
) -> None:
    """Verify an exported audit chain off line."""
    from engine.audit.verify import main as verify

    asked = [str(file), f"--checkpoint={checkpoint}", f"--key={key}", *(["--part"] if part else [])]
    raise SystemExit(verify(asked))


@audit_app.command("key")
def audit_key(config: ConfigOption = None) -> None:
    """Print the public key that signs this installation's audit checkpoints: note it apart from the machine.

    The key alone goes to standard output, for scripts; its short name, by which mails call it, to standard error.
    """
    from engine import crypto
    from engine.audit.checkpoints import Signer, fingerprint

    key = Signer(crypto.load(configuration.load(config).key_file)).public_key
    typer.echo("Public key (note it; it is what --key takes):", err=True)
    typer.echo(key)
    typer.echo(f"Short name (what mails call it): {fingerprint(key)}", err=True)


@audit_app.command("export")
def audit_export(
    account: Annotated[str, typer.Option(help="The account's id, or `platform`.")],
    config: ConfigOption = None,
) -> None:
    """Print one chain as JSON Lines, checkpoints first. The export itself is an entry of that chain."""
    from engine import crypto
    from engine.accounts import store
    from engine.audit.checkpoints import export_lines, sign_head, signer_of
    from engine.audit.events import Event
    from engine.audit.record import PLATFORM, record

    settings = configuration.load(config)

    async def work() -> None:
        async with _opened(settings) as database:
            async with database.sessions.begin() as session:
                if account != PLATFORM and await store.account_by_id(session, account) is None:
                    raise Invalid(f"There is no account {account}. Accounts: {await _known_accounts(session)}.")
                record(session, _cli(None if account == PLATFORM else account), Event.AUDIT_LOG_EXPORT)
            signer = signer_of(crypto.load(settings.key_file))
            async with database.sessions.begin() as session:
                if signer is not None:
                    await sign_head(session, signer, account)
            async with database.sessions() as session:
                async for line in export_lines(session, account):
                    sys.stdout.buffer.write(line.encode("utf-8", "surrogatepass") + b"\n")

    _run(work())


app.command()(backup.backup)
app.command()(backup.restore)
app.command()(snippet.snippet)


async def _known_accounts(session: Any) -> str:
    from engine.accounts import store

    return ", ".join(f"{one.id} ({one.name})" for one in await store.accounts(session)) or "none yet"


def _ask_password(whose: str = "the owner") -> str:
    password = getpass.getpass(f"Password for {whose} (15 characters or more): ")
    if password != getpass.getpass("Once more: "):
        raise Invalid("The two passwords differ; nothing was created.")
    return password


def _complain(*lines: str) -> None:
    for line in lines:
        typer.echo(line, err=True)


if __name__ == "__main__":
    main()
