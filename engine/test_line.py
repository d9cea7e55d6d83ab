"""`callpoint call`: a real INVITE through the running node, proven by the key file, so that no PBX entry is needed."""

import time
from dataclasses import replace
from pathlib import Path

import typer
from sqlalchemy import select

from engine import crypto
from engine.accounts import store
from engine.agents import CallFailed, Heard, Placed, Placing, place_call
from engine.audit.record import open_audited
from engine.config import Config, parse_listens
from engine.data_folder import elsewhere, holder
from engine.e911.dial import Kind, classify
from engine.e911.peers import PROOF_HEADER, make_proof
from engine.errors import Invalid
from engine.models import Account, Line

SILENCE_S = 4.0  # the node is on this machine or near: whoever is there says 100 within milliseconds
_MEANINGS = {
    403: "The node does not trust this call: is it the node whose key file this is?",
    404: "The number is no emergency number there, and the account's PBX has no default route.",
    408: "No trunk answered in time. Look at the trunks under Settings.",
    500: "No trunk took the call. Look at the trunks under Settings.",
    503: "There is no trunk to send it to. Add one under Settings.",
}


async def place_through(
    config: Config,
    dialed: str,
    caller: str,
    account_id: str | None,
    via: str | None,
    *,
    confirmed: bool = False,
    quiet: bool = False,
) -> Placed:
    """Dial through the node and tell each answer as it comes.

    Raises:
        Invalid: a real emergency number without `--yes`, an unknown account or caller, a bad address.
    """
    if classify(f"sip:{dialed}@callpoint").kind is Kind.EMERGENCY and not confirmed:
        raise Invalid(
            f"{dialed} reaches a real emergency centre. Dial 933 to test; add --yes to dial {dialed} all the same."
        )
    keys = crypto.load(config.key_file)
    account, line = await _who(config, keys, account_id, caller)
    target = _target(config, via)
    placing = Placing(dialed, line.sip_user, target, display_name=line.display_name.replace('"', ""))
    proof = make_proof(keys.subkey("cli-proof"), account.id, int(time.time()), placing.call_id)
    placing = replace(placing, headers=((PROOF_HEADER, proof),), silence_s=SILENCE_S)
    placed = await place_call(placing, on_heard=None if quiet else _tell)
    if not quiet:
        _conclude(placed, dialed, target, config.core.data_dir if via is None else None)
    return placed


def _conclude(placed: Placed, dialed: str, target: tuple[str, int], folder: Path | None) -> None:
    """What it means, in a sentence. `folder`: whose node was looked for at the address of our own settings."""
    if not placed.heard:
        pid = holder(folder) if folder is not None else None
        why = "Is Callpoint running? See --via." if pid is None or folder is None else elsewhere(pid, folder)
        typer.echo(f"Nothing answers at udp {target[0]}:{target[1]}. {why}")
    elif placed.is_answered:
        typer.echo(f"{dialed} was answered. What was sent and who was told stands in the pages.")
    else:
        why = _MEANINGS.get(placed.status, "The call's page says which trunks were tried and what they said.")
        typer.echo(f"{dialed} was not answered: {placed.status}. {why}")


async def _who(config: Config, keys: crypto.KeyRing, account_id: str | None, caller: str) -> tuple[Account, Line]:
    database = open_audited(config.database_url, keys)
    try:
        async with database.sessions() as session:
            accounts = await store.accounts(session)
            account = next((one for one in accounts if one.id == account_id), None)
            if account is None and account_id is None and len(accounts) == 1:
                account = accounts[0]
            if account is None:
                known = ", ".join(one.id for one in accounts) or "none yet"
                raise Invalid(f"Say whose line it is with --account. Accounts here: {known}.")
            lines = (await session.scalars(select(Line).where(Line.account_id == account.id))).all()
            line = next((one for one in lines if caller in (one.extension, one.sip_user, one.id)), None)
            if line is None:
                raise Invalid(f"No line of {account.name} has the extension or SIP user {caller}.")
            return account, line
    finally:
        await database.close()


def _target(config: Config, via: str | None) -> tuple[str, int]:
    try:
        listens = parse_listens(via or config.sip.udp)
    except ValueError as exc:
        raise Invalid(f"--via: {exc}.") from exc
    if not listens:
        raise Invalid("The node serves no UDP, which this call is placed over. Name another with --via HOST:PORT.")
    listen = listens[0].from_here
    if not listen.port:
        raise CallFailed("The node's SIP port is not fixed in the configuration; name it with --via HOST:PORT.")
    return listen.host, listen.port


def _tell(heard: Heard) -> None:
    typer.echo(f"  {heard.after_s * 1000:8.1f} ms   {heard.status} {heard.reason}")
