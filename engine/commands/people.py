"""What `callpoint user` and `callpoint operator` do: for whoever can read the key file, which is authority enough."""

from collections.abc import Callable

from engine.accounts import operators as platform
from engine.accounts import passwords, store, store_signin, two_factor
from engine.audit.record import Actor
from engine.db import Database
from engine.errors import NotFound
from engine.models import Role, UserStatus

MakeActor = Callable[[str | None], Actor]  # who types the command, for the log of that account


_MAY = {Role.OWNER.value: "act", Role.AUDITOR.value: "read"}


async def reset_two_factor(database: Database, email: str, actor_of: MakeActor) -> str:
    """Take a user's second factors. Returns what happened, in a sentence.

    Raises:
        NotFound: nobody has that address.
    """
    async with database.sessions.begin() as session:
        user = await store.user_by_email(session, email)
        if user is None or user.status == UserStatus.REMOVED:
            raise NotFound(f"Nobody here has the address {email}.")
        await two_factor.reset(session, actor_of(user.account_id), user)
        policy = await store_signin.policy_of(session, user.account_id)
        factors = await store_signin.factors_of(session, user.id)
        must = two_factor.must_set_up(policy, factors)
    after = "sets up a new second factor at the next sign-in" if must else "signs in with the password alone"
    return f"{user.email} is signed out everywhere and {after}."


async def create_operator(
    database: Database, email: str, name: str, password: str, actor_of: MakeActor, *, read_only: bool
) -> str:
    """Make a platform operator. Returns the user's id.

    Raises:
        Invalid, Conflict
    """
    passwords.check(password, context=(name, email))
    hashed = await passwords.hash_password(password)
    role = Role.AUDITOR if read_only else Role.OWNER
    async with database.sessions.begin() as session:
        user = await platform.create_operator(session, actor_of(store.OPERATORS), email, name, hashed, role)
        return user.id


async def operators(database: Database) -> list[dict[str, str]]:
    """The platform's operators who were not removed."""
    async with database.sessions() as session:
        found = await store.users_of(session, store.OPERATORS, limit=1000)
        return [
            {"id": user.id, "email": user.email, "may": _MAY.get(user.role, user.role), "status": user.status}
            for user in found
            if user.status != UserStatus.REMOVED
        ]
