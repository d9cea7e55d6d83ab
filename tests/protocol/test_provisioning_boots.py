"""Every family boots against the real port, over HTTP and HTTPS; a phone that says it is another model does not."""

import json
import socket
import ssl
from functools import partial

import aiohttp
import pytest
import trustme
from aiohttp import web
from sqlalchemy import select

from engine import config as configuration
from engine.audit.events import Event
from engine.audit.record import SYSTEM
from engine.models import Account, AuditEntry, Phone, PhoneStatus, ProvisioningEvent
from engine.provisioning import cutover, phones, quarantine, safeguards, vendors
from engine.provisioning.http import make_phones_port
from engine.provisioning.simulate import Memory, simulate
from engine.provisioning.storm import storm
from tests.factories import add_account, add_line, add_pbx, add_phone

KNOWN = vendors.known().profiles
MODELS = {
    "yealink": "T54W", "poly": "VVX 450", "grandstream": "GRP2614", "cisco_spa": "SPA504G", "cisco_mpp": "8841",
    "snom": "D785", "fanvil": "X5S", "mitel": "6940", "htek": "UC926", "panasonic": "KX-HDV230", "sangoma": "D65",
    "avaya": "J179", "gigaset": "N870 IP PRO", "algo": "8301", "obihai": "OBi202", "audiocodes": "445HD",
    "linphone": "Android", "acrobits": "Groundwire",
}  # fmt: skip


def mac_of(vendor: str) -> str:
    return min(KNOWN[vendor].ouis, default="02ab1f") + f"0b{list(MODELS).index(vendor):04x}"


class Site:
    """The phones' port behind a plain and a TLS listener, with one phone of each family."""

    def __init__(self, database, keys, port, token, plain, sealed, authority):
        self.database, self.keys, self.port, self.token = database, keys, port, token
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        self.urls = {"http": f"http://127.0.0.1:{plain}/p/{token}/", "https": f"https://127.0.0.1:{sealed}/p/{token}/"}

    async def boot(self, vendor: str, scheme: str, *, url: str | None = None, **options):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.trust)) as session:
            asked = url or self.urls[scheme]
            return await simulate(
                vendor, MODELS[vendor], mac_of(vendor), asked, session=session, retry_delay_s=0.0, **options
            )

    async def change(self, operation, *more):
        async with self.database.sessions.begin() as session:
            account = (await session.scalars(select(Account))).one()
            return await operation(session, SYSTEM, account, *more)

    async def get(self, file: str, agent: str | None):
        headers = {"User-Agent": agent} if agent is not None else {}
        async with aiohttp.ClientSession() as session, session.get(self.urls["http"] + file, headers=headers) as answer:
            headers = {name: value for name, value in answer.headers.items() if name != "Date"}
            return answer.status, headers, await answer.read()

    async def events(self) -> list[ProvisioningEvent]:
        await self.port.log.flush()
        async with self.database.sessions() as session:
            return list(await session.scalars(select(ProvisioningEvent).order_by(ProvisioningEvent.id)))

    async def phone(self, vendor: str) -> Phone:
        async with self.database.sessions() as session:
            return (await session.scalars(select(Phone).where(Phone.mac == mac_of(vendor)))).one()


@pytest.fixture
async def site(database, keys):
    async with database.sessions.begin() as session:
        account = await add_account(session, phone_admin_password="Desk-Pass-w0rd", timezone="America/Chicago")
        token = await phones.generate_token(session, SYSTEM, account, keys)
        await add_pbx(session, account, registrar_host="pbx.example.net")
        line = await add_line(session, account, "101", display_name='Zoë "Desk" & Söhne\'')
        other = await add_line(session, account, "102", display_name="Second")
        for vendor, model in MODELS.items():
            first = line if not KNOWN[vendor].refused else other
            await add_phone(session, account, first, mac=mac_of(vendor), vendor=vendor, model=model)
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    port = make_phones_port(configuration.Provisioning(), keys, database)
    runner = port.runner()
    await runner.setup()
    plain, sealed = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    await web.SockSite(runner, plain).start()
    await web.SockSite(runner, sealed, ssl_context=context).start()
    yield Site(database, keys, port, token, plain.getsockname()[1], sealed.getsockname()[1], authority)
    await runner.cleanup()
    await port.close()


def test_every_family_is_here():
    assert set(MODELS) == set(KNOWN)


async def test_every_family_boots_over_http_and_over_https_and_is_ready_to_call_for_help(site):
    """P-21: out of the box and again, by both schemes: registered, 911 and 933 at once, the URL of the next boot under
    the same scheme, nothing asked twice in the log as a refusal of its own file.
    """
    for vendor in MODELS:
        for scheme in ("http", "https"):
            flash = Memory()
            first = await site.boot(vendor, scheme, memory=flash)
            assert first.is_ready, (vendor, scheme, first.fault)
            assert first.dials == {"911": "immediate", "933": "immediate"}, vendor
            user = "102" if KNOWN[vendor].refused else "101"
            assert [(line.sip_user, line.secret) for line in first.lines] == [(user, f"secret-of-{user}")], vendor
            assert [line.registrar.partition(":")[0] for line in first.lines] == ["pbx.example.net"], vendor
            assert first.provisioning_url is not None
            assert first.provisioning_url.rstrip("/") == site.urls[scheme].rstrip("/"), vendor
            assert first.admin_password == (None if KNOWN[vendor].is_softphone else "Desk-Pass-w0rd"), vendor
            again = await site.boot(vendor, scheme, memory=flash)
            assert again.is_ready, (vendor, scheme, again.fault)
    events = await site.events()
    assert not [event for event in events if event.kind in {"mismatch", "failed"}]
    for vendor in MODELS:
        assert (await site.phone(vendor)).status == PhoneStatus.CURRENT, vendor


@pytest.mark.parametrize(("scheme", "is_encrypted"), [("http", False), ("https", False), ("https", True)])
async def test_every_family_follows_a_pushed_url_and_is_ready_by_it_when_the_old_one_is_dead(
    site, scheme, is_encrypted
):
    """P-04, P-12: the file fetched by the old URL, encrypted or not, holds the next one, and that is where the phone
    asks after the cut.
    """
    if is_encrypted:
        await site.change(partial(safeguards.update_policy, sees_certificates=False), {"encrypt_files": True})
    before = {vendor: Memory() for vendor in MODELS}
    for vendor, flash in before.items():
        assert (await site.boot(vendor, scheme, memory=flash)).is_ready, vendor
    await site.change(cutover.begin, site.keys)
    learnt = {}
    for vendor, flash in before.items():
        told = await site.boot(vendor, scheme, memory=flash)
        assert told.is_ready, (vendor, told.fault)
        assert site.token not in (told.provisioning_url or site.token), vendor
        learnt[vendor] = told.provisioning_url
        assert told.provisioning_url.endswith("/sealed/") is (is_encrypted and KNOWN[vendor].encryption is not None)
    await site.change(cutover.cut)
    for vendor, flash in before.items():
        left = await site.boot(vendor, scheme, memory=Memory())
        assert (left.fault or "").startswith("no file was served (status 404)"), vendor
        moved = await site.boot(vendor, scheme, url=learnt[vendor], memory=flash)
        assert moved.is_ready, (vendor, moved.fault)
        assert (await storm(vendor, MODELS[vendor], mac_of(vendor), site.urls["http"], count=1, boots=2)).ready == 0


async def test_many_phones_of_every_family_boot_twice(site):
    """P-21: the second time where their files sent them, which is the same place."""
    for vendor, model in MODELS.items():
        came = await storm(vendor, model, mac_of(vendor), site.urls["http"], count=1, boots=2)
        assert came.is_ready, (vendor, came.faults)


async def test_a_boot_over_https_trusts_no_certificate_of_another_authority(site):
    """P-21: the simulated phone checks the chain as a real one does, and says that this is what stood between."""
    site.trust = ssl.create_default_context()
    result = await site.boot("audiocodes", "https")
    assert not result.is_ready
    assert (result.fault or "").startswith("the server's certificate is not trusted here (")
    assert "SSL_CERT_FILE" in (result.fault or "")


async def test_a_boot_over_https_at_a_port_that_speaks_http_says_so(site):
    """P-21: nobody looks for a server that is away."""
    site.urls["https"] = site.urls["http"].replace("http://", "https://")
    result = await site.boot("audiocodes", "https")
    assert (result.fault or "").startswith("no TLS connection comes about (")


async def test_the_event_keeps_the_confidence_and_what_people_get_wrong(site):
    """P-05: for the people of the account alone; the asker sees the one 404."""
    right = f"Yealink SIP-T54W 96.86.0.20 {mac_of('yealink')}"
    assert (await site.get(f"{mac_of('yealink')}.cfg", right))[0] == 200
    refused = [
        await site.get("%7Bmac%7D.cfg", right),
        await site.get("$mac.cfg", "Grandstream Model HW GXP2135 SW 1.0.7.97 DevId 000b828aa872"),
        await site.get("nothing-of-that-name.cfg", right),
    ]
    assert refused[0] == refused[1] == refused[2]
    assert refused[0][0] == 404
    by_file = {}
    for event in await site.events():
        by_file.setdefault(event.file, event.evidence)
    assert by_file[f"{mac_of('yealink')}.cfg"]["confidence"] == "exact"
    assert by_file["$mac.cfg"]["confidence"] == "high"
    assert any("a Yealink fills in $mac" in sentence for sentence in by_file["(malformed)"]["sentences"])
    assert any("adds its file by itself" in sentence for sentence in by_file["$mac.cfg"]["sentences"])
    assert not any(site.token in json.dumps(evidence) for evidence in by_file.values())


async def test_a_phone_that_asks_in_a_folder_is_refused_and_its_people_are_told_what_to_take_out(site):
    """P-05: a URL as another server had it; the phone is known by the address, whoever asks sees the one 404."""
    mac = mac_of("yealink")
    folder = await site.get(f"yealink/T54W/{mac}.cfg", "curl/8.5.0")
    assert folder == await site.get("nothing-of-that-name.cfg", "curl/8.5.0")
    event = next(event for event in await site.events() if event.file == "(malformed)")
    assert (event.kind, event.reason, event.phone_id) == ("denied", "path", (await site.phone("yealink")).id)
    assert any("in a folder below the provisioning URL" in sentence for sentence in event.evidence["sentences"])
    assert (await site.phone("yealink")).status == PhoneStatus.NEVER_BOOTED


async def test_a_forged_user_agent_from_elsewhere_is_refused_and_holds_no_phone(site):
    """P-05, P-18: from outside the account's ranges, and from another network inside none: the phone at home is served
    at once and later, with any User-Agent.
    """
    mac, file = mac_of("yealink"), f"{mac_of('yealink')}.cfg"
    forged = f"Yealink SIP-T31P 124.86.0.20 {mac}"
    networks = configuration.Provisioning(trusted_proxies=("127.0.0.0/8",)).trusted_proxies
    object.__setattr__(site.port, "trusted_proxies", networks)

    async def get(agent, ip):
        headers = {"X-Forwarded-For": ip} | ({"User-Agent": agent} if agent else {})
        async with (
            aiohttp.ClientSession(skip_auto_headers=("User-Agent",)) as session,
            session.get(site.urls["http"] + file, headers=headers) as answer,
        ):
            return answer.status, dict(answer.headers), await answer.read()

    home = "192.0.2.7"
    unknown = await site.get("805ec0999999.cfg", None)
    assert (await get(None, home))[0] == 200
    await site.events()
    assert (await get(forged, "198.51.100.7"))[::2] == unknown[::2]
    assert (await get(None, home))[0] == 200
    async with site.database.sessions.begin() as session:
        account = await session.get(Account, (await site.phone("yealink")).account_id)
        await safeguards.update_policy(session, SYSTEM, account, {"sources": ["192.0.2.0/24"]}, sees_certificates=True)
    assert (await get(forged, "198.51.100.7"))[::2] == unknown[::2]
    assert (await get(None, home))[0] == 200
    reasons = [event.reason for event in await site.events() if event.reason in {quarantine.ELSEWHERE, "source"}]
    assert reasons == [quarantine.ELSEWHERE, "source"]
    assert (await site.phone("yealink")).status == PhoneStatus.CURRENT


async def test_a_phone_that_says_it_is_another_model_gets_the_one_404_until_somebody_releases_it(site):
    """P-05: quarantined with what was seen, an event, an audit entry; then served again."""
    mac, file = mac_of("yealink"), f"{mac_of('yealink')}.cfg"
    assert (await site.get(file, None))[0] == 200
    unknown = await site.get("805ec0999999.cfg", None)
    intruder = await site.get(file, f"Yealink SIP-T31P 124.86.0.20 {mac}")
    assert intruder == unknown
    assert await site.get(file, None) == unknown  # at once, and with no User-Agent at all
    told = [event for event in await site.events() if event.kind == "mismatch"]
    assert [event.reason for event in told] == [quarantine.REASON, quarantine.HELD]
    kept = (await site.phone("yealink")).model
    assert f"kept as yealink {kept}, says it is yealink T31P" in str(told[0].evidence)
    assert "says it is" not in str(told[1].evidence)  # it said nothing
    assert await site.get(f"{mac}.boot", None) == unknown  # out of the database now
    assert (await site.get(f"{mac}.boot", f"Yealink SIP-T54W 96.86.0.20 {mac}"))[0] == 200  # the kept one, at home
    phone = await site.phone("yealink")
    assert (phone.status, phone.seen_vendor, phone.seen_model) == ("quarantined", "yealink", "T31P")
    async with site.database.sessions.begin() as session:
        events = {entry.event for entry in await session.scalars(select(AuditEntry))}
        assert {Event.PHONE_QUARANTINE.value, Event.PHONE_MISMATCH.value} <= events
        await quarantine.release_phone(session, SYSTEM, await session.get(Phone, phone.id), model="T31P")
    status, _, body = await site.get(file, f"Yealink SIP-T31P 124.86.0.20 {mac}")
    assert status == 200
    assert b"T31P" in body
