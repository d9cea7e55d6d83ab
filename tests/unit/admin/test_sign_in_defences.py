"""What a known password must not open: an old half-open sign-in, a password that was reset, a factor switched off."""

import json
import re

import pyotp
import pytest

from tests.unit.admin.adminport import PASSWORD, AdminPort, Site
from tests.unit.admin.formbrowser import SAM, Browser, add_sam, set_policy

pytestmark = pytest.mark.enable_socket  # a real listener on loopback

NEW = "quiet harbour pencils over seven bridges"
CHANGE = {"If-Match": "*"}


async def _shown_seed(browser: Browser) -> str:
    _status, page, _address = await browser.ask("GET", "/login/enrol")
    found = re.search(r'id="value-seed"[^>]*>([A-Z2-7 ]+)<', page)
    assert found is not None, page
    return found[1].replace(" ", "")


async def _enrols(browser: Browser, seed: str) -> int:
    return (await browser.ask("POST", "/login/enrol", code=pyotp.TOTP(seed).now()))[0]


async def test_an_old_enrolment_replaces_no_second_factor(port: AdminPort, site: Site) -> None:
    """S2-33, S2-34: two began to set one up with the same password; the first that finishes ends the other's chance."""
    await add_sam(port, site)
    await set_policy(port, site, two_factor="required")
    thief, sam = Browser(port), Browser(port)
    assert (await thief.sign_in())[2] == "/login/enrol?next=/"
    stolen = await _shown_seed(thief)
    await sam.sign_in()
    assert await _enrols(sam, await _shown_seed(sam)) == 200
    assert sam.is_signed_in
    assert await _enrols(thief, stolen) == 401
    assert not thief.is_signed_in
    assert (await Browser(port).sign_in())[2] == "/login/code?next=/", "the factor that was set up is asked for"


async def test_an_enrolment_is_no_use_once_nothing_has_to_be_set_up(port: AdminPort, site: Site) -> None:
    """S2-33: looked at again when it finishes: a policy that asks for nothing any more ends it."""
    await add_sam(port, site)
    await set_policy(port, site, two_factor="required")
    browser = Browser(port)
    await browser.sign_in()
    seed = await _shown_seed(browser)
    await set_policy(port, site, two_factor="off")
    assert (await _enrols(browser, seed), browser.is_signed_in) == (401, False)


@pytest.mark.parametrize("act", ["password", "disable", "reset", "accept"])
async def test_a_half_open_sign_in_ends_with_what_opened_it(port: AdminPort, site: Site, act: str) -> None:
    """S2-34: a new password, a disabled user, a reset and an accepted link end what the old password began."""
    user_id = await add_sam(port, site)
    own = Browser(port)
    await own.sign_in()
    await set_policy(port, site, two_factor="required")
    thief = Browser(port)
    await thief.sign_in()
    seed = await _shown_seed(thief)
    path = f"/api/v1/users/{user_id}"
    if act == "password":
        await set_policy(port, site, two_factor="optional")
        await own.sign_in()
        assert (await own.ask("POST", "/profile/password", password=PASSWORD, new_password=NEW))[0] == 303
        await set_policy(port, site, two_factor="required")
    elif act == "disable":
        for status in ("disabled", "active"):
            answer = await port.call("PATCH", path, site.auth | CHANGE, json={"status": status})
            assert (await answer.json())["status"] == status
    else:
        made = await (await port.call("POST", f"{path}/reset-password", site.auth)).json()
        key = str(made["url"]).partition("?k=")[2]
        if act == "accept":
            assert (await Browser(port).ask("POST", "/invitation", k=key, name="Sam", password=NEW))[0] == 303
    assert (await _enrols(thief, seed), thief.is_signed_in) == (401, False)


async def test_a_reset_password_never_comes_back(port: AdminPort, site: Site) -> None:
    """S1-12: neither by switching the user active, nor by disabling and enabling: only the link makes a new one."""
    user_id = await add_sam(port, site)
    path, owner = f"/api/v1/users/{user_id}", await port.browser(site)
    await set_policy(port, site, password_reuse=5)
    made = await (await port.call("POST", f"{path}/reset-password", site.auth)).json()
    answer = await port.call("POST", f"/users/{user_id}/status", owner, data={"status": "active"})
    assert answer.status < 400
    for status in ("active", "disabled", "active"):
        answer = await port.call("PATCH", path, site.auth | CHANGE, json={"status": status})
        assert (await answer.json())["status"] == ("disabled" if status == "disabled" else "invited")
        assert (await Browser(port).sign_in())[0] == 401, status
    made = await (await port.call("POST", f"{path}/reset-password", site.auth)).json()
    key = str(made["url"]).partition("?k=")[2]
    same = await Browser(port).ask("POST", "/invitation", k=key, name="Sam", password=PASSWORD)
    assert (same[0], "one of your last 5" in same[1]) == (422, True)
    assert (await Browser(port).ask("POST", "/invitation", k=key, name="Sam", password=NEW))[0] == 303
    fresh = Browser(port)
    await fresh.sign_in(password=NEW)
    assert fresh.is_signed_in


async def test_a_removed_user_is_told_as_a_deletion(port: AdminPort, site: Site) -> None:
    """S1-04: each field before, and null after, though the row stays for the logs' sake."""
    user_id = await add_sam(port, site)
    assert (await port.call("DELETE", f"/api/v1/users/{user_id}", site.auth | CHANGE)).status == 204
    (entry,) = [one for one in await port.entries(site.account.id) if one.event == "user.delete"]
    changes = json.loads(entry.entry)["changes"]
    assert changes["email"] == {"before": SAM, "after": None}
    assert changes["status"] == {"before": "active", "after": None}
    assert {change["after"] if isinstance(change, dict) else change for change in changes.values()} == {None}
