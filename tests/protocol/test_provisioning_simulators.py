"""The simulated phones against a scripted server: they ask as the real ones were seen to ask."""

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.provisioning import vendors
from engine.provisioning.simulate import FAMILIES, Memory, auto_dialled, simulate
from engine.provisioning.storm import storm

YEALINK_MAC, POLY_MAC = "805ec0aabb01", "64167faabb02"
NOWHERE = "#!version:1.0.0.1\naccount.1.enable = 1\naccount.1.user_name = 101\n"
YEALINK = NOWHERE + "account.1.sip_server.1.address = pbx.example.net\n"
PLAN = "phone_setting.dialnow_delay = 0\ndialplan.dialnow.rule.1 = 911\ndialplan.dialnow.rule.2 = 933\n"


class Shelf:
    """A server that holds files by name and notes what it was asked, with what User-Agent."""

    def __init__(self, **files: str) -> None:
        self.files = files
        self.asked: list[str] = []
        self.agents: set[str] = set()
        self.folders: list[str] = []
        self.down_for = 0
        self.goes_away_for = 0
        self.leaves: set[str] = set()  # files that are served once

    async def answer(self, request: web.BaseRequest) -> web.Response:
        name = request.path.rsplit("/", 1)[-1]
        self.folders.append(request.path.removesuffix(name))
        self.asked.append(name if request.method == "GET" else f"{request.method} {name}")
        self.agents.add(request.headers["User-Agent"])
        if self.goes_away_for > 0 and request.transport is not None:
            self.goes_away_for -= 1
            request.transport.abort()
        if self.down_for > 0:
            self.down_for -= 1
            return web.Response(status=503)
        if request.method == "PUT" or name not in self.files:
            return web.Response(status=404)
        text = self.files.pop(name) if name in self.leaves else self.files[name]
        return web.Response(text=text)


@pytest.fixture
async def shelf():
    shelf = Shelf()
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", shelf.answer)
    server = TestServer(application)
    await server.start_server()
    shelf.url = str(server.make_url("/p/x/"))
    yield shelf
    await server.close()


async def test_a_yealink_without_a_boot_file_asks_for_the_model_s_file_and_then_its_own(shelf):
    """P-21: the order seen in a server's log: boot, common boot, model, own."""
    shelf.files = {"y000000000108.cfg": PLAN, f"{YEALINK_MAC}.cfg": YEALINK}
    result = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url)
    assert shelf.asked == [f"{YEALINK_MAC}.boot", "y000000000000.boot", "y000000000108.cfg", f"{YEALINK_MAC}.cfg"]
    assert result.is_ready, result.fault
    assert shelf.agents == {"Yealink SIP-T46U 108.86.0.20 80:5e:c0:aa:bb:01"}


async def test_a_yealink_obeys_the_include_lines_of_the_common_boot_file_and_nothing_else(shelf):
    """P-21: include:config, with the $mac variable."""
    shelf.files = {
        "y000000000000.boot": 'include:config "all.cfg"\ninclude:config <$mac.cfg>\noverwrite_mode = 1\n',
        "all.cfg": PLAN,
        f"{YEALINK_MAC}.cfg": YEALINK,
        "y000000000108.cfg": "account.9.enable = 1\n",
    }
    result = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url)
    assert shelf.asked == [f"{YEALINK_MAC}.boot", "y000000000000.boot", "all.cfg", f"{YEALINK_MAC}.cfg"]
    assert [line.key for line in result.lines] == [1]


@pytest.mark.parametrize(
    ("setting", "called", "is_ready"),
    [
        ("features.hotline_number = 555", "555", False), ("features.hotline_number = 911", "911", True),
        ("features.hotline_number =", "", True), ("features.hotline_delay = 4", "", True),
    ],
)  # fmt: skip
async def test_a_lifted_handset_that_calls_by_itself_lets_nobody_dial_911(shelf, setting, called, is_ready):
    """P-21, P-08: the plan is good, and nobody gets to use it."""
    shelf.files = {"y000000000108.cfg": PLAN, f"{YEALINK_MAC}.cfg": f"{YEALINK}{setting}\n"}
    result = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url)
    assert (result.auto_dial, result.is_ready) == (called, is_ready)
    assert result.as_json()["auto_dial"] == (called or None)
    if not is_ready:
        assert dict(result.dials) == {"911": "never", "933": "never"}
        assert "a lifted handset calls 555 by itself, so nobody can dial 911 or 933" in result.fault


@pytest.mark.parametrize(
    ("vendor", "settings", "called"),
    [
        ("grandstream", {"P71": "555"}, "555"), ("grandstream", {"call.dial.offhook.autoDial.number": "555"}, "555"),
        ("poly", {"call.autoOffHook.1.enabled": "1", "call.autoOffHook.1.contact": "911@pbx"}, "911@pbx"),
        ("poly", {"call.autoOffHook.1.enabled": "0", "call.autoOffHook.1.contact": "555"}, ""),
        ("fanvil", {"line.1.EnableHotline": "1", "line.1.HotlineNum": "555"}, "555"),
        ("mitel", {"sip autodial number": "555"}, "555"), ("snom", {"auto_dial": "off"}, ""),
    ],
)  # fmt: skip
def test_each_family_names_its_hotline_in_its_profile(vendor, settings, called):
    """P-21: what the files are compared by is what the simulators read."""
    assert auto_dialled(vendors.known().profiles[vendor], settings, ("911", "933")) == called


@pytest.mark.parametrize(("overwrite", "lines"), [(1, ["102"]), (0, ["101", "102"])])
async def test_a_yealink_takes_back_what_a_file_no_longer_sets_only_in_overwrite_mode(shelf, overwrite, lines):
    """P-21: overwrite_mode = 1 is why a removed line disappears."""
    shelf.files = {
        f"{YEALINK_MAC}.boot": f'include:config "{YEALINK_MAC}.cfg"\noverwrite_mode = {overwrite}\n',
        f"{YEALINK_MAC}.cfg": YEALINK,
    }
    flash = Memory()
    await simulate("yealink", "T46U", YEALINK_MAC, shelf.url, memory=flash)
    shelf.files[f"{YEALINK_MAC}.cfg"] = "account.2.enable = 1\naccount.2.user_name = 102\n"
    result = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url, memory=flash)
    assert [line.sip_user for line in result.lines] == lines


async def test_a_poly_falls_back_to_the_master_of_all_phones_and_reads_its_files_in_order(shelf):
    """P-21: 404, master, CONFIG_FILES in order, firmware where one is named."""
    shelf.files = {
        "000000000000.cfg": '<APPLICATION APP_FILE_PATH="sip.ld" CONFIG_FILES="a.cfg, [PHONE_MAC_ADDRESS]-b.cfg"/>',
        "a.cfg": '<x reg.1.address="1" reg.1.server.1.address="pbx.example.net" dialplan.digitmap="911|933"/>',
        f"{POLY_MAC}-b.cfg": '<x reg.1.address="2"/>',
        f"{POLY_MAC}-web.cfg": "<broken",
    }
    result = await simulate("poly", "VVX 450", POLY_MAC, shelf.url)
    assert shelf.asked[:5] == [f"{POLY_MAC}.cfg", "000000000000.cfg", "sip.ld", "a.cfg", f"{POLY_MAC}-b.cfg"]
    assert shelf.asked[-2:] == [f"PUT {POLY_MAC}-boot.log", f"PUT {POLY_MAC}-app.log"]
    assert [line.sip_user for line in result.lines] == ["2"]
    assert result.is_ready, result.fault


async def test_a_plan_that_waits_makes_the_phone_not_ready(shelf):
    """P-08: the simulator dials on what the phone holds, whoever served it."""
    shelf.files = {f"{YEALINK_MAC}.cfg": YEALINK}
    result = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url)
    assert result.dials == {"911": "after_timer", "933": "after_timer"}
    assert result.fault == "emergency numbers are held up: 911 after timer, 933 after timer"


@pytest.mark.parametrize("shared", [{}, {"y000000000108.cfg": PLAN}])
async def test_a_phone_that_was_refused_says_so_and_nothing_of_911(shelf, shared):
    """P-21: no verdict on a plan that the phone does not have; one phone and many are told what to check."""
    shelf.files = shared
    result = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url)
    assert dict(result.dials) == {"911": "not known", "933": "not known"}
    assert "(status 404)" in result.fault
    assert "token" in result.fault
    assert not result.is_ready
    came = await storm("yealink", "T46U", YEALINK_MAC, shelf.url, count=2)
    assert not came.is_ready
    assert came.faults == {result.fault: 2}


async def test_a_busy_server_is_asked_again(shelf):
    shelf.files = {f"{YEALINK_MAC}.cfg": YEALINK + PLAN}
    shelf.down_for = 2
    result = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url, retry_delay_s=0.001)
    assert shelf.asked[:3] == [f"{YEALINK_MAC}.boot"] * 3
    assert result.is_ready, result.fault


def test_every_model_s_own_user_agent_is_one_the_server_identifies():
    """P-21 against P-05: each simulator speaks as its phone."""
    known = vendors.known()
    for profile in known.profiles.values():
        for model in profile.models.values():
            mac = vendors.Mac("805ec0aabb01")
            found = known.identify(f"/{mac}.cfg", FAMILIES[profile.name].agent(model, mac))
            assert (found.vendor, found.model) == (profile.name, model.name)


async def test_a_line_without_a_registrar_makes_the_phone_not_ready(shelf):
    """P-08: a phone whose plan dials 911 at once and that registers nowhere dials it in vain."""
    shelf.files = {f"{YEALINK_MAC}.cfg": NOWHERE + PLAN}
    result = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url)
    assert not result.is_ready
    assert result.fault == "line 101 registers nowhere: its PBX has no registrar host"
    two = "account.2.enable = 1\naccount.2.user_name = 102\n"
    shelf.files = {f"{YEALINK_MAC}.cfg": NOWHERE + two + PLAN}
    result = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url)
    assert result.fault == "lines 101 and 102 register nowhere: their PBX has no registrar host"


async def test_a_phone_that_is_refused_a_file_it_had_before_is_not_called_ready(shelf):
    """P-21: a rotation in the middle of a boot: the boot file came, the settings did not."""
    shelf.files = {"y000000000108.cfg": PLAN, f"{YEALINK_MAC}.cfg": YEALINK}
    flash = Memory()
    assert (await simulate("yealink", "T46U", YEALINK_MAC, shelf.url, memory=flash)).is_ready
    del shelf.files[f"{YEALINK_MAC}.cfg"]
    again = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url, memory=flash)
    told = f"{YEALINK_MAC}.cfg was not served this time (status 404): the phone goes on with what it fetched before"
    assert (again.fault, len(again.lines)) == (told, 1)


async def test_of_many_phones_each_is_told_once_however_often_it_boots(shelf):
    """P-21: three phones that fail at each of two boots are three that are not ready."""
    came = await storm("yealink", "T46U", YEALINK_MAC, shelf.url, count=3, boots=2)
    assert (came.ready, sum(came.faults.values())) == (0, 3)


async def test_many_phones_with_one_trouble_are_told_as_one_number(shelf):
    """P-21: whatever address stands in the name of the file, and however many reasons there are."""
    macs = [f"{int(YEALINK_MAC, 16) + number:012x}" for number in range(24)]
    shelf.files = {f"{mac}.cfg": YEALINK + PLAN for mac in macs}
    shelf.leaves = {f"{mac}.cfg" for mac in macs[:12]}
    shelf.files |= {f"{mac}.cfg": NOWHERE.replace("101", mac[-2:]) + PLAN for mac in macs[12:]}
    shelf.files["y000000000108.cfg"] = PLAN
    came = await storm("yealink", "T46U", macs[0], shelf.url, count=24, boots=2)
    assert (
        came.faults["MAC.cfg was not served this time (status 404): the phone goes on with what it fetched before"]
        == 12
    )
    assert (len(came.faults), sum(came.faults.values()), came.ready) == (11, 24, 0)
    assert came.faults["3 other reasons"] == 3


async def test_a_server_that_answers_late_is_told_by_what_it_answered(shelf):
    """P-21: a request without an answer is no status."""
    shelf.goes_away_for = 3
    result = await simulate("yealink", "T46U", YEALINK_MAC, shelf.url, retry_delay_s=0.0)
    assert result.files[0].status == 0
    assert (result.fault or "").startswith("no file was served (status 404): ")


async def test_many_phones_boot_again_where_their_files_sent_them(shelf):
    """P-04, P-21: a URL that was pushed is the one a phone asks next, and the old one may be gone by then."""
    old, new = (shelf.url.replace("/p/x/", f"/p/{letter * 43}/") for letter in "on")
    moved = f"static.auto_provision.server.url = {new}\n"
    shelf.files = {"y000000000108.cfg": PLAN, f"{YEALINK_MAC}.cfg": YEALINK + moved}
    came = await storm("yealink", "T46U", YEALINK_MAC, old, count=1, boots=2)
    assert came.is_ready, came
    assert shelf.folders == [f"/p/{'o' * 43}/"] * 4 + [f"/p/{'n' * 43}/"] * 4
    elsewhere = f"static.auto_provision.server.url = http://phones.example.net/p/{'n' * 43}/\n"
    shelf.files[f"{YEALINK_MAC}.cfg"] = YEALINK + elsewhere
    assert (await storm("yealink", "T46U", YEALINK_MAC, old, count=1, boots=2)).is_ready
