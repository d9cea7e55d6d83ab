"""Many users invited at once, by page and API: all of them or nobody, every fault by its line."""

import html
import re

import pytest
from sqlalchemy import func, select

from engine.accounts.users_many import MAX_AT_ONCE, read_lines
from engine.models import Role, User
from tests.unit.admin.adminport import AdminPort, Site

BULK = "/api/v1/users/bulk"


@pytest.mark.parametrize(
    "text",
    [
        "ann@acme.example,Ann Ash,auditor\nbo@acme.example",
        "Name;E-Mail;Role\nAnn Ash;ann@acme.example;Auditor\n;bo@acme.example;",
        "ann@acme.example\tAnn Ash\tauditor\r\nbo@acme.example\t\t\r\n",
        '"ann@acme.example","Ann Ash","auditor"\n\n"bo@acme.example","",""\n',
    ],
)
def test_lines_are_read_as_they_are_pasted(text: str) -> None:
    """S1-15: with a header or without, in any column order, from a spreadsheet or typed; the role may be left out."""
    lines, faults = read_lines(text, Role.OPERATOR)
    assert faults == []
    assert [(line.email, line.name, line.role) for line in lines] == [
        ("ann@acme.example", "Ann Ash", Role.AUDITOR), ("bo@acme.example", "", Role.OPERATOR),
    ]  # fmt: skip


def test_bad_lines_are_told_by_the_number_an_editor_shows() -> None:
    lines, faults = read_lines(
        "ann@acme.example\n\nbo@acme.example,Bo,king\nc@acme.example,C,auditor,extra", Role.ADMIN
    )
    assert [line.number for line in lines] == [1, 3, 4]
    assert sorted(fault.number for fault in faults) == [3, 4]
    many = "\n".join(f"p{number}@acme.example" for number in range(MAX_AT_ONCE + 1))
    assert [fault.number for fault in read_lines(many, Role.ADMIN)[1]] == [0]
    assert [fault.number for fault in read_lines(" \n", Role.ADMIN)[1]] == [0]


async def count(port: AdminPort) -> int:
    async with port.database.sessions() as session:
        return await session.scalar(select(func.count()).select_from(User)) or 0


async def test_many_are_invited_with_one_entry_and_one_of_each(port: AdminPort, site: Site) -> None:
    """S1-15: a parent and a child per user in the category Users, tied by the operation's name."""
    before = await port.head(site.account.id)
    body = {"users": [{"email": f"p{number}@acme.example", "name": f"P {number}"} for number in range(5)]}
    look = await port.call("POST", BULK, site.auth, json=body | {"dry_run": True})
    assert (look.status, (await look.json())["count"], await count(port)) == (200, 5, 1)
    answer = await port.call("POST", BULK, site.auth, json=body)
    told = await answer.json()
    assert answer.status == 200, told
    assert [one["email"] for one in told["invited"]] == [one["email"] for one in body["users"]]
    assert all("/invitation?k=user_" in one["invitation"]["url"] for one in told["invited"])
    checked, parent, *children = await port.entries(site.account.id, after=before)
    assert (checked.event, parent.event, parent.category, parent.verb) == (
        "user.check", "user.create_many", "Users", "create",
    )  # fmt: skip
    assert {(child.event, child.category) for child in children} == {("user.create", "Users")}
    assert len(children) == 5
    assert all(f'"bulk_id":"{told["bulk_id"]}"' in child.entry for child in children)


async def test_one_fault_keeps_everybody_out_and_all_are_told(port: AdminPort, site: Site) -> None:
    """S1-15: no address, one twice, one that is here already; nobody is invited."""
    emails = ("fine@acme.example", "nobody", "fine@acme.example", site.owner.email)
    for more in ({}, {"dry_run": True}):
        body = {"users": [{"email": email} for email in emails], **more}
        answer = await port.call("POST", BULK, site.auth, json=body)
        problem = await answer.json()
        assert (answer.status, await count(port)) == (422, 1)
        assert {one["field"] for one in problem["errors"]} == {"users.1.email", "users.2.email", "users.3.email"}


async def test_nobody_invites_to_more_than_they_may_themselves(port: AdminPort, site: Site) -> None:
    """S1-15, S2-14: an admin makes no owner, an account manager no admin; the log says denied."""
    for role, beyond in ((Role.ADMIN, "owner"), (Role.ACCOUNT_MANAGER, "admin")):
        browser = await port.browser(site, role)
        before, people = await port.head(site.account.id), await count(port)
        form = {"lines": f"x@acme.example,X,{beyond}", "role": "auditor", "confirmed": "yes"}
        answer = await port.call("POST", "/users/bulk", browser, data=form)
        assert (answer.status, await count(port)) == (403, people)
        (entry,) = await port.entries(site.account.id, after=before)
        assert (entry.event, entry.outcome) == ("user.create_many", "denied")


async def test_the_page_tells_every_fault_keeps_the_lines_and_asks_before_it_invites(
    port: AdminPort, site: Site
) -> None:
    """S1-15: pasted, refused by line, looked at, confirmed; without mail each link is shown once."""
    browser = await port.browser(site)
    bad = {"lines": "ann@acme.example,Ann\nbo,Bo,king\nann@acme.example", "role": "operator"}
    answer = await port.call("POST", "/users/bulk", browser, data=bad)
    text = html.unescape(await answer.text())
    assert answer.status == 422
    assert "Line 2: There is no role 'king'" in text
    assert "Line 2: Expected an e-mail address" in text
    assert "Line 3: ann@acme.example is named twice." in text
    assert "bo,Bo,king" in text
    good = {"lines": "ann@acme.example,Ann\nbo@acme.example,Bo,auditor", "role": "operator"}
    shown = await (await port.call("POST", "/users/bulk", browser, data=good)).text()
    assert "2 people to invite" in shown
    assert await count(port) == 1
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', shown))
    done = await port.call("POST", "/users/bulk", browser, data={key: html.unescape(fields[key]) for key in fields})
    text = await done.text()
    assert len(set(re.findall(r"/invitation\?k=user_[^<&]+", text))) == 2
    assert await count(port) == 3
