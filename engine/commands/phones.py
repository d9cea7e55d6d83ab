"""`callpoint phone` and `callpoint phone-settings`: simulated boots, and what every account's phones are told."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from engine import config as configuration
from engine.commanding import ConfigOption, JsonOption, cli, opened, run_to_end

phone_app = typer.Typer(no_args_is_help=True, help="Phones.")
phone_settings_app = typer.Typer(
    no_args_is_help=True, help="Phone settings of all accounts; what an account says goes before."
)


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
        came = run_to_end(many)
        show_storm(came, as_json=as_json)
        raise SystemExit(0 if came.is_ready else 1)
    memory = flash_with(vendor, url, file_key) if file_key else None
    result = run_to_end(simulate(vendor, model, mac, url, numbers=numbers, memory=memory))
    show_boot(result, as_json=as_json)
    raise SystemExit(0 if result.is_ready else 1)


@phone_settings_app.command("show")
def phone_settings_show(config: ConfigOption = None) -> None:
    """Print the phone settings of all accounts as JSON."""
    typer.echo(json.dumps(run_to_end(_global_settings(config)), indent=2, ensure_ascii=False))


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
    run_to_end(_global_settings(config, {name: read}))


@phone_settings_app.command("unset")
def phone_settings_unset(
    name: Annotated[str, typer.Argument(help="The setting.")], config: ConfigOption = None
) -> None:
    """Say nothing of a phone setting any more: the default counts where no account says otherwise."""
    run_to_end(_global_settings(config, {name: None}))


async def _global_settings(config: Path | None, changed: dict[str, Any] | None = None) -> dict[str, Any]:
    """The settings of all accounts, after the change where there is one; None takes a setting out."""
    from engine.provisioning import levels, merge, store_levels

    async with opened(configuration.load(config)) as database, database.sessions.begin() as session:
        level = await store_levels.level_named(session, None, merge.GLOBAL_NAME)
        said = dict(level.settings) if level is not None else {}
        if changed is None:
            return said
        said = {name: value for name, value in (said | changed).items() if value is not None}
        await levels.put_global(session, cli(), said)
        return said
