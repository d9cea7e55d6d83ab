"""`callpoint snippet`: what stands in front, the DHCP server of the phones' network, or systemd must be told."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from engine import config as configuration
from engine.commanding import ConfigOption, cli, opened, run_to_end
from engine.config import Config
from engine.errors import Invalid


def snippet(
    name: Annotated[
        str,
        typer.Argument(
            help="A front: kamailio, asterisk, freepbx, freeswitch or 3cx. A DHCP server: dnsmasq, kea, isc, mikrotik "
            "or windows. The service of this machine: systemd."
        ),
    ],
    account: Annotated[str | None, typer.Option(help="Whose trunks; needed when there are several accounts.")] = None,
    node: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT or HOST:PORT/tcp of a node, in order; repeat it.")
    ] = None,
    carrier: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT or HOST:PORT/tcp to fall back to; repeat it.")
    ] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT of the Kamailio itself.")] = "",
    folder: Annotated[str, typer.Option(help="Where the files will lie on its machine.")] = "/etc/kamailio",
    base: Annotated[str, typer.Option(help="DHCP: scheme, host and port as phones reach this node.")] = "",
    into: Annotated[Path | None, typer.Option(help="Write the files there instead of printing them.")] = None,
    config: ConfigOption = None,
    *,
    whole: Annotated[bool, typer.Option("--whole", help="Kamailio: a proxy that runs as it is, no include.")] = False,
    phones: Annotated[bool, typer.Option("--phones", help="Kamailio: phones register there, not at a PBX.")] = False,
) -> None:
    """Print what the PBX or proxy in front, the DHCP server of the phones' network, or systemd must be told."""
    from engine import systemd
    from engine.fronts import Wish, files_of
    from engine.provisioning.dhcp import SERVERS
    from engine.snippets import FILES

    settings = configuration.load(config)
    if name not in {"systemd", *FILES, *SERVERS}:
        raise Invalid(f"There is no snippet {name}. Snippets: {', '.join(sorted(['systemd', *FILES, *SERVERS]))}.")
    if name == "systemd":
        program = Path(sys.executable).parent / "callpoint"
        units = systemd.units(settings, config, program=program, folder=Path.cwd(), environ=os.environ)
        _write_or_print(units, into)
        return
    if name in SERVERS:
        from engine.boot_snippet import warning_of

        files = run_to_end(_boot_snippet(settings, name, account, base))
        if warning := warning_of(base or settings.provisioning.public_url):
            typer.secho(warning, err=True, fg="yellow")
        _write_or_print(files, into)
        return
    wish = Wish(name, account, tuple(node or ()), tuple(carrier or ()), listen, folder, whole, phones)

    async def work() -> tuple[dict[str, str], tuple[str, ...]]:
        async with opened(settings) as database, database.sessions() as session:
            return await files_of(session, settings, wish)

    files, warnings = run_to_end(work())
    for warning in warnings:
        typer.secho(warning, err=True, fg="yellow")
    _write_or_print(files, into)


async def _boot_snippet(settings: Config, name: str, account: str | None, base: str) -> dict[str, str]:
    from engine.boot_snippet import BootWish, account_for, files_of

    async with opened(settings) as database, database.sessions.begin() as session:
        owner = await account_for(session, account)
        return await files_of(session, cli(owner.id), owner, settings, BootWish(name, account, base))


def _write_or_print(files: dict[str, str], into: Path | None) -> None:
    from engine.fronts import write

    if into is not None:
        for path in write(files, into):
            typer.echo(path)
        return
    for file, text in files.items():
        typer.secho(f"# ==== {file} ====", err=len(files) == 1, dim=True)
        typer.echo(text, nl=False)
