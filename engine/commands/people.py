"""`callpoint account`, `user`, `operator`, `api-key`: for whoever can read the key file, which is authority enough."""

import getpass
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from engine import config as configuration
from engine.commanding import ConfigOption, JsonOption, cli, opened, run_to_end
from engine.errors import Invalid, NotFound

account_app = typer.Typer(no_args_is_help=True, help="Accounts.")
user_app = typer.Typer(no_args_is_help=True, help="Users.")
operator_app = typer.Typer(no_args_is_help=True, help="Platform operators: people who may act for any account.")
api_key_app = typer.Typer(no_args_is_help=True, help="API keys.")


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

    password = _password("the owner", from_stdin=password_stdin)

    async def work() -> str:
        passwords.check(password, context=(name, owner_email))
        password_hash = await passwords.hash_password(password)
        async with _changing(config) as session:
            account = await operations.create_account(
                session, cli(), name=name, owner_email=owner_email, password_hash=password_hash
            )
            return account.id

    typer.echo(run_to_end(work()))


@account_app.command("list")
def account_list(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """List the accounts: id and name, one on a line."""
    from engine.accounts import store

    async def work() -> list[dict[str, str]]:
        async with opened(configuration.load(config)) as database, database.sessions() as session:
            return [{"id": one.id, "name": one.name} for one in await store.accounts(session)]

    _show_list(run_to_end(work()), as_json=as_json)


@user_app.command("reset-2fa")
def user_reset_2fa(
    email: Annotated[str, typer.Argument(help="The user's e-mail address.")], config: ConfigOption = None
) -> None:
    """Take a user's second factors, who lost them; ends their sessions and remembered browsers."""
    from engine.accounts import store, store_signin, two_factor
    from engine.models import UserStatus

    async def work() -> str:
        async with _changing(config) as session:
            user = await store.user_by_email(session, email)
            if user is None or user.status == UserStatus.REMOVED:
                raise NotFound(f"Nobody here has the address {email}.")
            await two_factor.reset(session, cli(user.account_id), user)
            policy = await store_signin.policy_of(session, user.account_id)
            must = two_factor.must_set_up(policy, await store_signin.factors_of(session, user.id))
        after = "sets up a new second factor at the next sign-in" if must else "signs in with the password alone"
        return f"{user.email} is signed out everywhere and {after}."

    typer.echo(run_to_end(work()))


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
    from engine.accounts import operators, passwords, store
    from engine.models import Role

    password = _password("the operator", from_stdin=password_stdin)

    async def work() -> str:
        passwords.check(password, context=(name, email))
        password_hash = await passwords.hash_password(password)
        role = Role.AUDITOR if read_only else Role.OWNER
        async with _changing(config) as session:
            user = await operators.create_operator(session, cli(store.OPERATORS), email, name, password_hash, role)
            return user.id

    typer.echo(run_to_end(work()))


@operator_app.command("list")
def operator_list(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """List the platform operators: id, e-mail address, role and state."""
    from engine.accounts import store
    from engine.models import Role, UserStatus

    may = {Role.OWNER.value: "act", Role.AUDITOR.value: "read"}

    async def work() -> list[dict[str, str]]:
        async with opened(configuration.load(config)) as database, database.sessions() as session:
            found = await store.users_of(session, store.OPERATORS, limit=1000)
            return [
                {"id": user.id, "email": user.email, "may": may.get(user.role, user.role), "status": user.status}
                for user in found
                if user.status != UserStatus.REMOVED
            ]

    _show_list(run_to_end(work()), as_json=as_json)


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
        async with _changing(config) as session:
            owner = await store.account_by_id(session, account)
            if owner is None:
                raise Invalid(f"There is no account {account}. Accounts: {await known_accounts(session)}.")
            created = await operations.create_api_key(session, cli(owner.id), owner, name=name, scopes=scope)
            return created.clear

    typer.echo(run_to_end(work()))


async def known_accounts(session: Any) -> str:
    """The accounts by id and name, for a sentence that says which there are."""
    from engine.accounts import store

    return ", ".join(f"{one.id} ({one.name})" for one in await store.accounts(session)) or "none yet"


@asynccontextmanager
async def _changing(config: Path | None) -> AsyncIterator[Any]:
    """A session of the configured database, committed at the end."""
    async with opened(configuration.load(config)) as database, database.sessions.begin() as session:
        yield session


def _show_list(found: list[dict[str, str]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found))
    for one in () if as_json else found:
        typer.echo("  ".join(one.values()))


def _password(whose: str, *, from_stdin: bool) -> str:
    """A new password, typed twice or read from standard input. Raises Invalid: the two differ."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"Password for {whose} (15 characters or more): ")
    if password != getpass.getpass("Once more: "):
        raise Invalid("The two passwords differ; nothing was created.")
    return password
