"""`callpoint keys`: the keys that stored secrets are sealed with, and how a new one takes the old one's place."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from engine import config as configuration
from engine.commanding import ConfigOption, JsonOption, cli, opened, run_to_end
from engine.config import Config
from engine.errors import Invalid

app = typer.Typer(no_args_is_help=True, help="The keys that stored secrets are sealed with.")
PASSES = 5  # a running node seals with the old key until it has seen the new one
BETWEEN_S = 0.5
_COPY = "Copy it to where you keep your copy, and to every other node of this database."


@app.command("list")
def list_keys(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Show each key by its name, never itself, and how many stored values are sealed with it."""
    from engine.accounts import resealing

    settings, ring = _settings_and_keys(config)

    async def work() -> Counter[str]:
        async with opened(settings) as database:
            return await resealing.counted(database)

    counted = run_to_end(work())
    if as_json:
        shown = {name: {"current": name == ring.current, "values": counted[name]} for name in ring.keys}
        typer.echo(json.dumps({"file": str(settings.key_file), "keys": shown, "missing": _missing(ring, counted)}))
        return
    typer.echo(f"{settings.key_file.absolute()}")
    for name in ring.keys:
        uses = [f"{counted[name]} stored value(s)"]
        uses += ["seals from now on"] if name == ring.current else []
        uses += ["look-ups and signatures derive from it"] if name == min(ring.keys) else []
        typer.echo(f"  {name}: {', '.join(uses)}")
    for name, count in _missing(ring, counted).items():
        typer.echo(
            f"{count} stored value(s) cannot be opened: sealed with {name!r}, which is not in this file.", err=True
        )


@app.command("add")
def add_key(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Add a key that seals nothing yet, so that the file can be copied to every node before `keys rotate`."""
    from engine.audit.events import Event

    settings, ring = _settings_and_keys(config)
    if waiting := _waiting(ring):
        raise Invalid(
            f"{settings.key_file} holds {waiting} already, which seals nothing yet. {_COPY} Then: keys rotate."
        )
    name = run_to_end(_added(settings, Event.SEALING_KEY_CREATE))
    if as_json:
        typer.echo(json.dumps({"key": name, "file": str(settings.key_file)}))
        return
    typer.echo(f"{settings.key_file.absolute()} holds the new key {name}. {_COPY} Then: keys rotate.")


@app.command()
def rotate(
    config: ConfigOption = None,
    *,
    only_node: Annotated[
        bool,
        typer.Option("--only-node", help="On PostgreSQL: no other node uses this database, so none lacks the key."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Seal with a new key from now on, and everything stored anew with it, while the node runs and without a restart.

    Takes the key that `keys add` made, or makes one. Tokens, passwords and URLs stay the same.
    """
    settings, ring = _settings_and_keys(config)
    is_shared = not settings.database_url.startswith("sqlite")
    if is_shared and not only_node and not _waiting(ring):
        raise Invalid(
            "Other nodes may use this PostgreSQL database, and could not open what is sealed with a key that they "
            "lack. Nothing was changed. Run `keys add`, copy the key file to each node, then `keys rotate`; or, with "
            "this node alone, `keys rotate --only-node`."
        )
    name, done = run_to_end(_rotated(settings, _waiting(ring), as_json=as_json))
    if as_json:
        typer.echo(json.dumps({"key": name, "was": ring.current, "values": done, "file": str(settings.key_file)}))
        return
    typer.echo(
        f"{name} seals from now on, and {done} stored value(s) were sealed anew with it. "
        f"{settings.key_file.absolute()} has changed. {_COPY} "
        f"{ring.current} stays in it: older backups and the files of running processes need it."
    )


@app.command()
def reseal(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Seal everything stored with the current key: the rest of a rotation that was broken off."""
    settings, _ring = _settings_and_keys(config)
    done = run_to_end(_resealed(settings, as_json=as_json))
    typer.echo(json.dumps({"values": done}) if as_json else f"{done} stored value(s) were sealed anew.")


def _settings_and_keys(config: Path | None) -> tuple[Config, Any]:
    from engine import crypto

    settings = configuration.load(config)
    if not settings.key_file.exists():
        raise Invalid(
            f"{settings.key_file} is not there. Run this with the node's own --config, in the folder that it was "
            "started in."
        )
    return settings, crypto.load(settings.key_file)


def _waiting(ring: Any) -> str:
    """The key that was added behind the current one and seals nothing yet; empty: there is none."""
    names = list(ring.keys)
    return "" if names[-1] == ring.current else str(names[-1])


def _missing(ring: Any, counted: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in counted.items() if name not in ring.keys}


async def _added(settings: Config, event: Any) -> str:
    """The entry names the key, so the key is there before it; a key without an entry seals nothing."""
    from engine import crypto
    from engine.audit.record import record

    async with opened(settings) as database:
        name = crypto.add(settings.key_file)
        async with database.sessions.begin() as session:
            record(session, cli(), event, resource=("sealing_key", name, ""))
    return name


async def _rotated(settings: Config, waiting: str, *, as_json: bool) -> tuple[str, int]:
    from engine import crypto
    from engine.audit.events import Event
    from engine.audit.record import record

    name = waiting or await _added(settings, Event.SEALING_KEY_CREATE)
    async with opened(settings) as database, database.sessions.begin() as session:
        was = crypto.load(settings.key_file).current
        record(session, cli(), Event.SEALING_KEY_ROTATE, resource=("sealing_key", name, ""), details={"was": was})
    crypto.use(settings.key_file, name)
    return name, await _resealed(settings, as_json=as_json)


async def _resealed(settings: Config, *, as_json: bool) -> int:
    import asyncio

    from engine import crypto
    from engine.accounts import resealing
    from engine.audit.events import Event
    from engine.audit.record import record

    ring, done = crypto.load(settings.key_file), 0

    def told(count: int) -> None:
        if not as_json and (done + count) % 10_000 < resealing.ROWS:
            typer.echo(f"{done + count} values sealed …", err=True)

    async with opened(settings) as database:
        for _ in range(PASSES):
            done += await resealing.reseal(database, ring, told)
            await asyncio.sleep(BETWEEN_S)  # for what a node was just writing
            if set(await resealing.counted(database)) <= {ring.current}:
                break
        async with database.sessions.begin() as session:
            details = {"values": done}
            record(
                session, cli(), Event.SEALING_KEY_RESEAL, resource=("sealing_key", ring.current, ""), details=details
            )
    return done
