"""What Settings leads to."""

import re

import pytest

from tests.unit.admin.adminport import AdminPort, Site

pytestmark = pytest.mark.enable_socket  # a real listener on loopback


@pytest.mark.parametrize(
    "path", ["/audit", "/settings/branding", "/settings/security", "/settings/mail", "/settings/integrations"]
)
async def test_settings_is_one_click_away_from_every_room_of_it(port: AdminPort, site: Site, path: str) -> None:
    """S2-01, S2-20: audit log, branding and security are linked from Settings, and each link opens its page."""
    headers = await port.browser(site)
    async with port.client.get("/settings", headers=headers) as response:
        links = set(re.findall(r'href="([^"#?]+)', await response.text()))
    assert path in links
    async with port.client.get(path, headers=headers) as response:
        assert response.status == 200
        assert "<h1" in await response.text()
