"""`callpoint audit`: the log taken out of the database, and proven without it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from engine import config as configuration
from engine.commanding import ConfigOption, cli, opened, run_to_end

app = typer.Typer(no_args_is_help=True, help="The audit log.")


@app.command("verify")
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


@app.command("key")
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


@app.command("export")
def audit_export(
    account: Annotated[str, typer.Option(help="The account's id, or `platform`; may be left out with one alone.")] = "",
    config: ConfigOption = None,
) -> None:
    """Print one chain as JSON Lines, checkpoints first. The export itself is an entry of that chain."""
    from engine import crypto
    from engine.audit.checkpoints import export_lines, sign_head, signer_of
    from engine.audit.events import Event
    from engine.audit.record import PLATFORM, record
    from engine.boot_snippet import account_for

    settings = configuration.load(config)

    async def work() -> None:
        async with opened(settings) as database:
            async with database.sessions.begin() as session:
                chain = account if account == PLATFORM else (await account_for(session, account or None)).id
                record(session, cli(None if chain == PLATFORM else chain), Event.AUDIT_LOG_EXPORT)
            signer = signer_of(crypto.load(settings.key_file))
            async with database.sessions.begin() as session:
                if signer is not None:
                    await sign_head(session, signer, chain)
            async with database.sessions() as session:
                async for line in export_lines(session, chain):
                    sys.stdout.buffer.write(line.encode("utf-8", "surrogatepass") + b"\n")

    run_to_end(work())
