"""The registry of events and the names of resources, as the authentication and security parts of it are promised."""

import re
from typing import get_args

import pytest

from admin.routes import all_routes
from engine.accounts.store import is_id
from engine.audit.events import FACTS, Access, Category, Event
from engine.audit.record import PLATFORM
from engine.ids import Kind
from tests.unit.admin.adminport import AdminPort, Site
from tests.unit.admin.furnished import furnish


@pytest.mark.parametrize("event", list(Event))
def test_each_event_is_a_resource_and_a_verb(event: Event) -> None:
    """S0-33: `resource.verb` in lower case, in one class, one category and one action."""
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*\.[a-z0-9]+(_[a-z0-9]+)*", event.value)
    facts = FACTS[event]
    assert isinstance(facts.access, Access)
    assert isinstance(facts.category, Category)
    assert (facts.verb == "read") is (facts.access is Access.READ)


def test_the_registry_is_closed() -> None:
    """S0-33: every route's event is one of the registry's, and every event of the registry is known by its facts."""
    assert set(FACTS) == set(Event)
    assert {route.event for route in all_routes()} <= set(Event)
    with pytest.raises(ValueError, match=r"user\.explode"):
        Event("user.explode")


@pytest.mark.parametrize(
    ("event", "category"),
    [
        (Event.USER_RESET_2FA, Category.USERS),  # S1-14
        (Event.TWO_FACTOR_RESET, Category.SECURITY),  # S1-31
        (Event.TWO_FACTOR_ENROL, Category.SECURITY),
        (Event.TWO_FACTOR_REMOVE, Category.SECURITY),
        (Event.PASSWORD_CHANGE, Category.SECURITY),  # S1-32
        (Event.SESSION_DELETE, Category.SECURITY),  # S1-33
        (Event.SECURITY_POLICY_UPDATE, Category.SECURITY),  # S1-34
        (Event.SECURITY_SETTINGS_UPDATE, Category.SETTINGS),  # S1-23
    ],
)
def test_security_is_where_the_reference_looks_for_it(event: Event, category: Category) -> None:
    """S1-14, S1-20, S1-23, S1-31 to S1-34: each under the category that a reader filters by, as a change."""
    assert (FACTS[event].category, FACTS[event].access) == (category, Access.WRITE)


@pytest.mark.enable_socket  # a real listener on loopback
async def test_each_resource_is_named_by_its_type_and_id(port: AdminPort, site: Site) -> None:
    """S0-34: `user_…`, `phone_…`; a list, which is no row, is named by its type."""
    await furnish(port, site)
    for path in ("users", "sessions", "auth-log", "security-policy", "accounts", "phones"):
        await port.call("GET", f"/api/v1/{path}", site.auth)
    await port.call("GET", "/login", {})
    entries = await port.entries(site.account.id) + await port.entries(PLATFORM)
    kinds = set(get_args(Kind))
    strange = {
        (entry.event, entry.resource_type, entry.resource_id)
        for entry in entries
        if not (is_id(entry.resource_id) and entry.resource_id.rpartition("_")[0] in kinds)
        and entry.resource_id != entry.resource_type
    }
    assert strange == set()
    assert len({entry.resource_type for entry in entries}) > 12
