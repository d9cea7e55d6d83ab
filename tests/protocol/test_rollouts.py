"""Previews, boots and roll-outs on a whole running node, with simulated phones that boot from it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from engine.provisioning.simulate import BootResult, Memory, simulate
from tests.node import Node

pytestmark = [pytest.mark.enable_socket, pytest.mark.asyncio(loop_scope="module")]

MODELS = (("yealink", "T46U", "805ec0aabb01"), ("yealink", "T46U", "805ec0aabb02"), ("snom", "D785", "000413aabb03"))
NTP = "ntp.example.com"
# Good for every phone there is when it is tried; one that is renamed meanwhile gets no file from it.
TRAP = (
    "{% include 'base.cfg.j2' %}\n"
    "{% if config.lines[0].display_name == 'Trouble' %}{{ config.lines[99].label }}{% endif %}\n"
)


@dataclass
class Site:
    node: Node
    url: str
    phones: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    flash: dict[str, Memory] = field(default_factory=dict)

    async def boot(self, place: int) -> BootResult:
        vendor, model, mac = MODELS[place]
        memory = self.flash.setdefault(mac, Memory())
        return await simulate(vendor, model, mac, self.url, memory=memory)

    async def ntp(self, place: int) -> str:
        result = await self.boot(place)
        assert result.is_ready, result.fault
        return result.settings.get("local_time.ntp_server1") or result.settings.get("ntp_server", "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One node for all: what a test leaves behind, the ones after it do not look at."""
    async with Node(tmp_path_factory.mktemp("node")) as node:
        await node.set_up()
        await node.api("POST", "pbxs", {"name": "PBX", "sources": ["127.0.0.1/32"], "registrar_host": "127.0.0.1"})
        made = await node.api("POST", "provisioning-token/generate")
        there = Site(node, f"{node.phones}/p/{made['token']}/")
        for number, (vendor, model, mac) in enumerate(MODELS):
            line = await node.api("POST", "lines", {"extension": str(101 + number), "secret": f"s3cret-{number}"})
            there.lines.append(line["id"])
            body = {"mac": mac, "vendor": vendor, "model": model, "label": f"Desk {number}", "lines": [line["id"]]}
            there.phones.append((await node.api("POST", "phones", body))["id"])
        yield there


def states(answer: dict[str, Any]) -> set[str]:
    return {file["state"] for file in answer["data"]}


async def test_what_a_phone_was_given_its_boots_and_a_dry_run(site):
    """P-15, P-16: never fetched, then unchanged, then changed; one boot with its files; a fleet in its own process."""
    node, phone = site.node, site.phones[0]
    assert states(await node.api("GET", f"phones/{phone}/preview")) == {"never_fetched"}
    assert await site.ntp(0) == "pool.ntp.org"
    asked = {"805ec0aabb01.boot", "805ec0aabb01.cfg"}

    def is_kept(answer: dict[str, Any]) -> bool:
        return {file["name"] for file in answer["data"] if file["state"] == "unchanged"} >= asked

    kept = await node.wait_for(f"phones/{phone}/preview", is_kept)
    assert "s3cret-0" not in str(kept)
    boots = (await node.api("GET", f"phones/{phone}/boots"))["data"]
    assert len(boots) == 1
    assert asked <= {file["name"] for file in boots[0]["files"] if file["status_code"] == 200}
    await node.api("PATCH", f"lines/{site.lines[0]}", {"display_name": "Reception"}, If_Match="*")
    assert "changed" in states(await node.api("GET", f"phones/{phone}/preview"))
    await site.boot(0)
    await node.wait_for(f"phones/{phone}/preview", is_kept)
    change = {"kind": "settings", "target": "account", "after": {"ntp_server": NTP}}
    run = await node.api("POST", "rollouts/dry-run", change)
    run = await node.wait_for(f"rollouts/dry-run/{run['id']}", lambda one: one["state"] != "running", within_s=40)
    assert (run["state"], run["total"], run["changed"], run["failing"]) == ("done", 3, 3, 0), run["fault"]
    assert sorted(group["phones"] for group in run["groups"]) == [1, 2]


async def test_a_canary_that_fails_takes_the_change_back_by_itself(site):
    """P-15: a file cannot be made at its fetch; within seconds nobody has the change, and the audit log says why."""
    node = site.node
    for place in range(3):
        assert await site.ntp(place) == "pool.ntp.org"
    body = {"kind": "template", "target": "yealink/base.cfg.j2", "after": TRAP, "canary": {"phones": site.phones[:2]}}
    made = await node.api("POST", "rollouts", body)
    await node.api("PATCH", f"lines/{site.lines[1]}", {"display_name": "Trouble"}, If_Match="*")
    assert (await site.boot(0)).is_ready
    await node.wait_for(f"rollouts/{made['id']}", lambda one: one["counts"]["fetched"] == 1)
    assert (await site.boot(1)).is_ready, "the phone keeps a file that works: the last good one or the shipped one"
    ended = await node.wait_for(f"rollouts/{made['id']}", lambda one: one["state"] != "canary")
    assert (ended["state"], ended["counts"]["failed"]) == ("rolled_back", 1)
    assert ended["reason"].startswith("1 of 2 canary phones failed. Desk 1: 805ec0aabb02.cfg cannot be made: ")
    entries = (await node.api("GET", "audit-log?limit=50"))["data"]
    entry = next(one for one in entries if one["event"] == "rollout.roll_back")
    assert entry["actor"]["type"] == "system"
    assert (await node.api("GET", "templates"))["data"] == []
    assert (await site.boot(1)).is_ready


async def test_a_canary_that_goes_well_is_published_to_all_by_itself(site):
    """P-15: the canary phone alone has it, fetches it well, then every phone gets it."""
    node = site.node
    change = {"kind": "settings", "target": "account", "after": {"ntp_server": NTP}}
    made = await node.api("POST", "rollouts", change | {"canary": {"phones": site.phones[:1]}, "automatic": True})
    others = await asyncio.gather(site.ntp(1), site.ntp(2))
    assert others == ["pool.ntp.org", "pool.ntp.org"]
    assert await site.ntp(0) == NTP
    await node.wait_for(f"rollouts/{made['id']}", lambda one: one["state"] == "published")
    assert await asyncio.gather(site.ntp(1), site.ntp(2)) == [NTP, NTP]
