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
    SECURITY_READ = "security:read"
    SECURITY_WRITE = "security:write"
    TWO_FACTOR_READ = "two_factor:read"
    TWO_FACTOR_WRITE = "two_factor:write"
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
_WATCHING = frozenset(
    {Scope.USERS_READ, Scope.API_KEYS_READ, Scope.AUDIT_READ, Scope.SECURITY_READ, Scope.TWO_FACTOR_READ}
)
_RUNNING = frozenset({Scope.PHONES_WRITE, Scope.LOCATIONS_WRITE, Scope.CALLS_WRITE})

SCOPES_OF: dict[Role, frozenset[Scope]] = {
    Role.OWNER: EVERY_SCOPE,
    Role.ADMIN: EVERY_SCOPE,
    # runs the account and its people; what carries calls, shows secrets or lets scripts in stays with admins
    Role.ACCOUNT_MANAGER: _READS
    | _RUNNING
    | {
        Scope.ACCOUNT_WRITE,
        Scope.USERS_WRITE,
        Scope.TWO_FACTOR_WRITE,
        Scope.PROVISIONING_WRITE,
        Scope.AUDIT_WRITE,
    },
    # lines belong to telephony, and so do PBXs and trunks: an operator who may edit a line may not move a trunk,
    # which is why the routes of lines ask for phones:write
    Role.OPERATOR: (_READS - _WATCHING) | _RUNNING,
    Role.AUDITOR: _READS,
}
_SCOPES_OF_NAME = {role.value: scopes for role, scopes in SCOPES_OF.items()}


class Preset(StrEnum):
    """Sets of scopes that an API key is made with in one choice; choosing one excludes the others."""

    FULL_ACCESS = "full_access"
    TWO_FACTOR = "two_factor"
    WEB_SDK = "web_sdk"


# What a page in a browser may hold: anybody can read a key there, so it changes nothing and shows no secret.
PRESETS: dict[Preset, frozenset[Scope]] = {
    Preset.FULL_ACCESS: frozenset({Scope.ALL}),
    Preset.TWO_FACTOR: frozenset({Scope.TWO_FACTOR_READ, Scope.TWO_FACTOR_WRITE}),
    Preset.WEB_SDK: frozenset({Scope.PHONES_READ, Scope.LOCATIONS_READ}),
}


def scopes_of_role(role: str) -> frozenset[Scope]:
    """The scopes of that role; an unknown role has none."""
    return _SCOPES_OF_NAME.get(role, frozenset())


def scopes_of_key(stored: Iterable[str]) -> frozenset[Scope]:
    """The scopes of a key as stored; `*` is all of them, a name no longer known is nothing."""
    names = set(stored)
    if Scope.ALL in names:
        return EVERY_SCOPE
    return frozenset(scope for scope in EVERY_SCOPE if scope in names)
