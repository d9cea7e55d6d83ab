"""A fleet that boots at once, against a whole node."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from engine.errors import Invalid
from engine.provisioning.storm import storm
from tests.bench.site import MODEL, OUI, Site, add_phones, running_site

PHONES = 120
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with running_site(tmp_path_factory.mktemp("site")) as running:
        add_phones(running, PHONES)
        yield running


def url_of(site: Site) -> str:
    host, port = site.phones
    return f"http://{host}:{port}{site.folder}/"


async def test_a_fleet_boots_at_once_and_again_after_a_power_cut(site: Site) -> None:
    """P-21: every phone is ready after both boots, and every request was answered."""
    told: list[int] = []
    came = await storm(
        "yealink", MODEL, f"{OUI}000000", url_of(site), count=PHONES, at_once=60, boots=2, progress=told.append
    )
    assert came.is_ready, came
    assert told == list(range(1, PHONES + 1))
    assert came.requests >= PHONES * 2 * 2
    assert set(came.statuses) <= {200, 404}
    assert came.statuses[200] >= PHONES * 2
    assert 0 < came.p50_ms <= came.p99_ms <= came.longest_ms


async def test_the_command_boots_many_and_says_which_are_not_there(site: Site) -> None:
    """P-21: `phone simulate --count`: three phones more than the account has are three that are not ready."""
    words = ("phone", "simulate", "--vendor", "yealink", "--model", MODEL, "--url", url_of(site), "--count", "8")
    said = await site.node.command(*words, "--mac", f"{OUI}000000")
    assert "8 of 8 phones ready" in said
    with pytest.raises(AssertionError) as failed:
        await site.node.command(*words, "--mac", f"{OUI}{PHONES - 5:06x}", "--json")
    _, said, _ = failed.value.args[0]
    answer = json.loads(said)
    assert (answer["phones"], answer["ready"]) == (8, 5)
    assert list(answer["faults"].values()) == [3]
    assert site.folder.rpartition("/")[2] not in said


async def test_the_command_dials_the_numbers_of_the_country_it_is_told(site: Site) -> None:
    """P-21: 911 and 933 unless told otherwise; a British phone is judged by 112 and 999, this one dials them late."""
    words = ("phone", "simulate", "--vendor", "yealink", "--model", MODEL, "--url", url_of(site), "--json")
    said = json.loads(await site.node.command(*words, "--mac", f"{OUI}000000"))
    assert set(said["dials"]) == {"911", "933"}
    with pytest.raises(AssertionError) as failed:
        await site.node.command(*words, "--mac", f"{OUI}000000", "--country", "gb")
    _, late, _ = failed.value.args[0]
    dials = json.loads(late)["dials"]
    assert {"112", "999"} <= set(dials)
    assert "911" not in dials


@pytest.mark.parametrize(
    ("model", "mac", "count", "says"),
    [
        ("T46U", "00:15:65:00:00:00", 0, "1 to 100000"),
        ("T46U", "ff:ff:ff:ff:ff:f0", 20, "ff:ff"),
        ("T46U", "no address", 3, "MAC address"),
        ("T999", "00:15:65:00:00:00", 3, "model"),
    ],
)
async def test_a_wrong_word_is_one_sentence_and_no_request(model: str, mac: str, count: int, says: str) -> None:
    """P-21: nothing is asked of a server for phones that do not exist."""
    with pytest.raises(Invalid, match=says):
        await storm("yealink", model, mac, "http://127.0.0.1:9/p/x/", count=count)


async def test_a_server_that_is_away_is_told_as_that() -> None:
    """P-21: no answer at all is no 404."""
    came = await storm("fanvil", "X4U", "0c383e000000", "http://127.0.0.1:9/p/x/", count=2)
    assert (came.ready, set(came.statuses)) == (0, {0})
    assert list(came.faults) == ["the server does not answer"]
