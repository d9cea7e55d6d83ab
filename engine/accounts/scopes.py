"""What a session or an API key may do: scopes, and the scopes of each role (pure)."""

from collections.abc import Iterable
from enum import StrEnum

from engine.models import Role


class Scope(StrEnum):
    """Stored names `<room>:<right>`. `*` is every scope."""

    ALL = "*"
    ACCOUNT_READ = "account:read"
    ACCOUNT_WRITE = "account:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    API_KEYS_READ = "api_keys:read"
    API_KEYS_WRITE = "api_keys:write"
    LOCATIONS_READ = "locations:read"
    LOCATIONS_WRITE = "locations:write"
    PHONES_READ = "phones:read"
    PHONES_WRITE = "phones:write"
    TELEPHONY_READ = "telephony:read"
    TELEPHONY_WRITE = "telephony:write"
    PROVISIONING_READ = "provisioning:read"
    PROVISIONING_WRITE = "provisioning:write"
    PROVISIONING_REVEAL = "provisioning:reveal"
    CALLS_READ = "calls:read"
    CALLS_WRITE = "calls:write"
    AUDIT_READ = "audit:read"
    AUDIT_WRITE = "audit:write"  # views kept, hints dismissed; entries are nobody's to change


SCOPE_NAMES = frozenset(scope.value for scope in Scope)
EVERY_SCOPE = frozenset(Scope) - {Scope.ALL}
_READS = frozenset(scope for scope in EVERY_SCOPE if scope.endswith(":read"))
# what tells about people and who may do what: for those who answer for it, and for auditors
_WATCHING = frozenset({Scope.USERS_READ, Scope.API_KEYS_READ, Scope.AUDIT_READ})
_RUNNING = frozenset({Scope.PHONES_WRITE, Scope.LOCATIONS_WRITE, Scope.CALLS_WRITE})

SCOPES_OF: dict[Role, frozenset[Scope]] = {
    Role.OWNER: EVERY_SCOPE,
    Role.ADMIN: EVERY_SCOPE,
    # runs the account and its people; what carries calls, shows secrets or lets scripts in stays with admins
    Role.ACCOUNT_MANAGER: _READS
    | _RUNNING
    | {Scope.ACCOUNT_WRITE, Scope.USERS_WRITE, Scope.PROVISIONING_WRITE, Scope.AUDIT_WRITE},
    # lines belong to telephony, and so do PBXs and trunks: an operator who may edit a line may not move a trunk,
    # which is why the routes of lines ask for phones:write
    Role.OPERATOR: (_READS - _WATCHING) | _RUNNING,
    Role.AUDITOR: _READS,
}
_SCOPES_OF_NAME = {role.value: scopes for role, scopes in SCOPES_OF.items()}


def scopes_of_role(role: str) -> frozenset[Scope]:
    """The scopes of that role; an unknown role has none."""
    return _SCOPES_OF_NAME.get(role, frozenset())


def scopes_of_key(stored: Iterable[str]) -> frozenset[Scope]:
    """The scopes of a key as stored; `*` is all of them, a name no longer known is nothing."""
    names = set(stored)
    if Scope.ALL in names:
        return EVERY_SCOPE
    return frozenset(scope for scope in EVERY_SCOPE if scope in names)
