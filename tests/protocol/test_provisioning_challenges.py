"""The simulated phones before a server that asks for a user and a password, as other vendors' servers do (P-21)."""

import hashlib
import re
from base64 import b64encode

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from engine.provisioning import vendors
from engine.provisioning.challenged import BASIC, DIGEST, FAMILIES, answering, in_rule, parted, spoken
from engine.provisioning.simulate import Memory, simulate
from engine.sip.auth import Credentials

MAC = "805ec0aabb01"
BOTH = ('Basic realm="phones"', 'Digest realm="phones", nonce="n-1", opaque="o", qop="auth,auth-int", algorithm=MD5')
CONFIG = "account.1.enable = 1\naccount.1.user_name = 101\naccount.1.sip_server.1.address = pbx.example.net\n"
PLAN = "phone_setting.dialnow_delay = 0\ndialplan.dialnow.rule.1 = 911\ndialplan.dialnow.rule.2 = 933\n"


def is_digest_of(line: str, method: str, target: str, user: str, secret: str) -> bool:
    """RFC 2617 §3.2.2, written down a second time."""
    said = dict(re.findall(r'(\w+)="?([^",]*)"?', line))
    ha1 = hashlib.md5(f"{user}:{said['realm']}:{secret}".encode()).hexdigest()
    ha2 = hashlib.md5(f"{method}:{target}".encode()).hexdigest()
    middle = f":{said['nc']}:{said['cnonce']}:{said['qop']}" if "qop" in said else ""
    wanted = hashlib.md5(f"{ha1}:{said['nonce']}{middle}:{ha2}".encode()).hexdigest()
    return said["uri"] == target and said["username"] == user and said["response"] == wanted


class Guarded:
    """A server that gives its files to one user alone, by the schemes it offers, and notes what it was shown."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.offers: tuple[str, ...] = BOTH
        self.user, self.secret = "kim", "s3cret:/"
        self.seen: list[tuple[str, str]] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        name, line = request.path.rsplit("/", 1)[-1], request.headers.get("Authorization", "")
        self.seen.append((f"{request.method} {name}", line.partition(" ")[0]))
        if not self.is_proven(request.method, request.raw_path, line):
            answer = web.Response(status=401)
            for offer in self.offers:
                answer.headers.add("WWW-Authenticate", offer)
            return answer
        if request.method == "PUT" or name not in self.files:
            return web.Response(status=404)
        return web.Response(text=self.files[name])

    def is_proven(self, method: str, target: str, line: str) -> bool:
        if line.startswith("Digest "):
            return is_digest_of(line, method, target, self.user, self.secret)
        return line == "Basic " + b64encode(f"{self.user}:{self.secret}".encode()).decode()


@pytest.fixture
async def guarded():
    guarded = Guarded()
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", guarded.answer)
    server = TestServer(application)
    await server.start_server()
    guarded.url = str(server.make_url("/phones/"))
    guarded.open_url = guarded.url.replace("http://", "http://kim:s3cret%3A%2F@")
    yield guarded
    await server.close()


async def test_a_yealink_is_challenged_for_each_file_and_answers_with_digest_where_both_are_offered(guarded):
    """P-21: never unasked, the better scheme, the credentials that stand in its URL."""
    guarded.files = {"y000000000108.cfg": PLAN, f"{MAC}.cfg": CONFIG}
    result = await simulate("yealink", "T46U", MAC, guarded.open_url)
    assert result.is_ready, result.fault
    assert guarded.seen[:2] == [(f"GET {MAC}.boot", ""), (f"GET {MAC}.boot", "Digest")]
    assert [scheme for _, scheme in guarded.seen] == ["", "Digest"] * 4


async def test_a_yealink_takes_the_user_of_its_settings_when_the_url_names_none(guarded):
    """P-21: static.auto_provision.server.username and .password, of the last boot."""
    guarded.files = {"y000000000108.cfg": PLAN, f"{MAC}.cfg": CONFIG}
    kept = {"static.auto_provision.server.username": "kim", "static.auto_provision.server.password": "s3cret:/"}
    result = await simulate("yealink", "T46U", MAC, guarded.url, memory=Memory(applied={"flash": kept}))
    assert result.is_ready, result.fault


async def test_a_poly_out_of_the_box_offers_the_maker_s_user_and_password_with_its_uploads_too(guarded):
    """P-21: PlcmSpIp, what a server for Poly phones is often set up with; PUT is challenged like GET."""
    guarded.user = guarded.secret = "PlcmSpIp"
    guarded.files = {
        f"{MAC}.cfg": '<APPLICATION CONFIG_FILES="a.cfg"/>',
        "a.cfg": '<x reg.1.address="1" reg.1.server.1.address="pbx.example.net" dialplan.digitmap="911|933"/>',
    }
    result = await simulate("poly", "VVX 450", MAC, guarded.url)
    assert result.is_ready, result.fault
    assert guarded.seen[-2:] == [(f"PUT {MAC}-app.log", ""), (f"PUT {MAC}-app.log", "Digest")]


async def test_a_snom_answers_basic_alone_and_gives_up_before_digest(guarded):
    """P-21: a server that asks Snoms for Digest leaves them without a configuration, and the result says so."""
    guarded.files = {"snomD785.htm": "<settings/>"}
    guarded.offers = BOTH[:1]
    await simulate("snom", "D785", MAC, guarded.open_url)
    assert {scheme for _, scheme in guarded.seen} == {"", "Basic"}
    guarded.seen, guarded.offers = [], BOTH[1:]
    result = await simulate("snom", "D785", MAC, guarded.open_url)
    assert {scheme for _, scheme in guarded.seen} == {""}
    assert result.fault == (
        "snomD785.htm: the server asks for a user and a password (status 401) and got none that it takes; these phones "
        "answer Basic; put both into the URL, as in https://user:password@host/"
    )


async def test_a_cisco_spa_takes_user_and_password_of_its_rule_and_knows_no_basic(guarded):
    """P-21: `[--uid … --pwd …]` before the rule's URL; those of a rule win over those typed before."""
    rule = f"[--uid kim --pwd s3cret:/] {guarded.url}spa$MA.xml"
    guarded.files = {f"spa{MAC}.xml": "<flat-profile><User_ID_1_>101</User_ID_1_></flat-profile>"}
    flash = Memory(applied={"flash": {"Profile_Rule": rule}})
    result = await simulate("cisco_spa", "SPA504G", MAC, guarded.url.replace("//", "//old:old@"), memory=flash)
    assert guarded.seen == [(f"GET spa{MAC}.xml", ""), (f"GET spa{MAC}.xml", "Digest")]
    assert [one.status for one in result.files] == [401, 200]
    guarded.offers, guarded.seen = BOTH[:1], []
    result = await simulate("cisco_spa", "SPA504G", MAC, guarded.url, memory=flash)
    assert [one.status for one in result.files] == [401]
    assert "these phones answer Digest" in result.fault


async def test_a_wrong_password_is_given_once_and_stands_in_no_result(guarded):
    """P-21, P-23: no phone hammers a server that locks accounts."""
    url = guarded.url.replace("//", "//kim:wr0ng-one@")
    result = await simulate("mitel", "6940", MAC, url)
    names = [name for name, _ in guarded.seen]
    assert all(names.count(name) == 2 for name in names)
    assert "wr0ng-one" not in f"{result} {result.as_json()}"
    assert "these phones answer Basic" in result.fault


async def test_a_family_whose_answers_nobody_knows_gives_none(guarded):
    """P-21: nothing is made up for Avaya, Linphone, Acrobits."""
    result = await simulate("linphone", "Desktop", MAC, guarded.open_url)
    assert {scheme for _, scheme in guarded.seen} == {""}
    assert result.fault.endswith("no answer of these phones to such a question is known")


async def test_a_password_is_not_handed_to_the_host_a_server_redirects_to(guarded):
    """P-21: what was typed in belongs to the server it was typed in for."""

    async def elsewhere(_request: web.BaseRequest) -> web.Response:
        raise web.HTTPFound(guarded.url + f"{MAC}.cfg")

    application = web.Application()
    application.router.add_get("/{tail:.*}", elsewhere)
    server = TestServer(application)
    await server.start_server()
    try:
        await simulate("sangoma", "P325", MAC, str(server.make_url("/")).replace("//", "//kim:s3cret%3A%2F@"))
    finally:
        await server.close()
    assert {scheme for _, scheme in guarded.seen} == {""}


@pytest.mark.parametrize(
    ("vendor", "offers", "scheme"),
    [
        ("grandstream", BOTH, "Digest"), ("grandstream", (", ".join(BOTH),), "Digest"),
        ("grandstream", BOTH[:1], "Basic"), ("htek", BOTH, "Basic"), ("algo", BOTH, "Basic"),
        ("grandstream", ('Digest realm="r", nonce="n", algorithm=SHA-256', BOTH[0]), "Basic"),
        ("yealink", ('Digest realm="r", nonce="n", qop="auth-int"',), None), ("yealink", ("Negotiate abc",), None),
        ("yealink", ('Digest realm="r", nonce="n"',), "Digest"), ("yealink", ("Digest",), None), ("yealink", (), None),
    ],
)  # fmt: skip
def test_the_scheme_is_the_best_that_both_sides_speak(vendor, offers, scheme):
    """P-21: phones know MD5, with qop=auth or none; several challenges may share a line."""
    line = answering(vendor, dict, lambda: "c")("GET", "/x.cfg", offers, Credentials("kim", "pass"))
    assert (line.partition(" ")[0] if line else None) == scheme
    if scheme == "Digest":
        assert is_digest_of(line, "GET", "/x.cfg", "kim", "pass")


@pytest.mark.parametrize(
    ("vendor", "settings"),
    [
        ("grandstream", {"P1360": "kim", "P1361": "pass"}),
        ("grandstream", {"provisioning.config.username": "kim", "provisioning.config.password": "pass"}),
        ("snom", {"http_client_user": "kim", "http_client_pass": "pass"}),
        ("poly", {"device.prov.user": "kim", "device.prov.password": "pass"}),
        ("htek", {"P1360": "kim", "P1361": "pass"}), ("algo", {"prov.auth.user": "kim", "prov.auth.pwd": "pass"}),
    ],
)  # fmt: skip
def test_each_family_keeps_its_credentials_in_settings_of_its_own(vendor, settings):
    """P-21: the names of vendor_keys.json."""
    said = answering(vendor, lambda: settings, lambda: "c")("GET", "/x", BOTH[:1], None)
    assert said == "Basic " + b64encode(b"kim:pass").decode()


def test_credentials_are_read_out_of_urls_and_rules_and_out_of_nothing_else():
    """P-21."""
    assert parted("https://a%40b:c%2F@[::1]:8443/p/x") == ("https://[::1]:8443/p/x", Credentials("a@b", "c/"))
    assert parted("http://host/p@q") == ("http://host/p@q", None)
    assert parted("http://[broken") == ("http://[broken", None)
    assert in_rule("[--key $SA --uid kim --pwd pass] ") == Credentials("kim", "pass")
    assert in_rule("[--key $SA] ") is None


def test_every_family_s_answers_are_known_or_known_to_be_unknown():
    """P-21: a new family is looked up first."""
    assert set(vendors.known().profiles) - set(FAMILIES) == {"avaya", "linphone", "acrobits"}
    assert all(set(one.schemes) <= {BASIC, DIGEST} and one.schemes for one in FAMILIES.values())
    assert spoken("yealink") == "Digest or Basic"
