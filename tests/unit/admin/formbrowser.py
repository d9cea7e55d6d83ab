"""A browser without a script, for tests of sign-ins: it keeps cookies and sends forms. And whom it signs in."""

from dataclasses import dataclass, field
from typing import Any

from admin.context import PASSWORDS
from engine.accounts import operations
from engine.models import Role
from tests.unit.admin.adminport import CLI, PASSWORD, AdminPort, Site

POLICY = "/api/v1/security-policy"
SAM = "sam@acme.example"
CHANGE = {"If-Match": "*"}


@dataclass
class Browser:
    """Its cookies are as servers set and drop them."""

    port: AdminPort
    cookies: dict[str, str] = field(default_factory=dict)
    agent: str = "Firefox/150"

    async def ask(self, method: str, path: str, **data: str) -> tuple[int, str, str]:
        """Status, page, and where it leads."""
        self.port.client.session.cookie_jar.clear()
        headers = {"User-Agent": self.agent, "Sec-Fetch-Site": "same-origin"}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self.port.call(method, path, headers, data=data or None, allow_redirects=False)
        text = await answer.text()
        for header in answer.headers.getall("Set-Cookie", []):
            name, _, rest = header.partition("=")
            value = rest.partition(";")[0].strip('"')
            self.cookies = {one: kept for one, kept in self.cookies.items() if one != name}
            if value:
                self.cookies[name] = value
        self.port.client.session.cookie_jar.clear()
        return answer.status, text, answer.headers.get("Location", "")

    async def sign_in(self, email: str = SAM, password: str = PASSWORD) -> tuple[int, str, str]:
        return await self.ask("POST", "/login", email=email, password=password)

    @property
    def is_signed_in(self) -> bool:
        return "callpoint_session" in self.cookies


async def add_sam(port: AdminPort, site: Site, email: str = SAM, role: Role = Role.OPERATOR) -> str:
    assert port.client.app is not None
    password_hash = await port.client.app[PASSWORDS].hash(PASSWORD)
    async with port.database.sessions.begin() as session:
        wished = operations.UserFields(email, "Sam Field", role)
        user = await operations.create_user(session, CLI, site.account, wished, password_hash)
    return user.id


async def set_policy(port: AdminPort, site: Site, **changes: Any) -> None:
    answer = await port.call("PATCH", POLICY, site.auth | CHANGE, json=changes)
    assert answer.status == 200, await answer.text()


async def log_of(port: AdminPort, site: Site, **params: str) -> list[dict[str, Any]]:
    answer = await port.call("GET", "/api/v1/auth-log", site.auth, params=params)
    assert answer.status == 200, await answer.text()
    rows: list[dict[str, Any]] = (await answer.json())["data"]
    return rows
