"""An account with one row of everything, and for each API operation a request that succeeds."""

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any

from admin.routes import Route, all_routes
from engine.audit.events import Event
from engine.audit.record import SYSTEM, record
from engine.db import utc_now
from engine.ids import new_id
from engine.models import Anomaly, EmergencyCall, Notification, Phone, PhoneStatus, Session, Sighting, Sweep
from engine.provisioning.resync import Fleet
from tests.unit.admin.adminport import CIVIC, AdminPort, Site

API_ROUTES = tuple(route for route in all_routes() if route.path.startswith("/api/v1"))


@dataclass(slots=True)
class Furnished:
    """Identifiers by the first part of the API path, and a body for every operation that takes one."""

    ids: dict[str, str] = field(default_factory=dict)

    def path(self, route: Route) -> str:
        path = route.path.removeprefix("/api/v1/")
        parts = path.split("/")
        name = next((each for each in (path, "/".join(parts[:2]), parts[0]) if each in self.ids), "")
        named = route.path.replace("{id}", self.ids.get(name, "anything"))
        for part, filled in (("{name}", "0015654aa937.cfg"), ("{guide}", "users"), ("{kind}", "no_location")):
            named = named.replace(part, filled)
        return re.sub(r"{[^}]+}", "anything", named)

    def sent(self, route: Route) -> dict[str, Any]:
        """What the client is told to send: a body of JSON, or of the kind the operation takes."""
        if route.streams_body:
            asked = {"name": "T46U-108.86.0.20.rom", "kind": "firmware", "vendor": "yealink"}
            return {"data": b"firmware", "params": asked}
        if route.operation is not None and route.operation.body_media:
            table = b"mac,vendor,model\r\n805ec0123499,yealink,T46U\r\n"
            return {"data": table, "headers": {"Content-Type": route.operation.body_media}}
        return {"json": self.body(route)}

    def body(self, route: Route) -> dict[str, Any] | None:
        if route.operation is None or route.operation.body is None:
            return None
        return self._bodies()[route.method, route.path.removeprefix("/api/v1/")]

    def _bodies(self) -> dict[tuple[str, str], dict[str, Any]]:
        location = self.ids["locations"]
        return {
            ("PATCH", "branding"): {"accent": "#1d4ed8", "hostname": "phones.acme.example"},
            ("POST", "webhooks"): {"name": "Screen", "url": "https://hooks.acme.example/screen"},
            ("PATCH", "webhooks/{id}"): {"kinds": ["emergency"]},
            ("POST", "chat-recipients"): {"name": "Guard", "url": "jsons://localhost/guard"},
            ("PATCH", "chat-recipients/{id}"): {"kinds": ["emergency"]},
            ("PATCH", "escalation-plan"): {"steps": [{"after_s": 60, "emails": ["duty@acme.example"]}]},
            ("PATCH", "validation-settings"): {"provider": "lost", "url": "https://localhost/lost"},
            ("PATCH", "account"): {"name": "Acme Dental & Sons"},
            ("POST", "users"): {"email": "new@acme.example", "name": "New", "role": "operator"},
            ("POST", "users/bulk"): {"users": [{"email": "many@acme.example", "role": "operator"}]},
            ("PATCH", "users/{id}"): {"name": "Renamed"},
            ("POST", "api-keys"): {"name": "another", "scopes": ["phones:read"]},
            ("PATCH", "storage-settings"): {"audit_days": 400, "fetch_log_days": 30},
            ("PATCH", "security-policy"): {"password_min_length": 16, "remember": "remember"},
            ("PATCH", "mail-settings"): {"host": "127.0.0.1", "port": 2, "sender": "callpoint@acme.example"},
            ("POST", "mail-settings/test"): {"to": "frontdesk@acme.example"},
            ("POST", "phones/bulk"): {"action": "resync", "ids": [self.ids["phones"]]},
            ("POST", "locations"): {
                "name": "Annex",
                "civic_address": CIVIC,
                "geo": {"latitude": 42.6, "longitude": -73.7},
            },
            ("POST", "alarms/{kind}/dismiss"): {"until": "2026-11-22T08:00:00Z"},
            ("PATCH", "sweep-plan"): {"cadence": "weekly", "weekday": 2, "hour": 9},
            ("POST", "sweeps"): {"tells": False},
            ("POST", "drills"): {"location_id": location},
            ("POST", "emergency-calls/{id}/acknowledge"): {"note": "False alarm"},
            ("PATCH", "locations/{id}"): {"notification_recipients": ["desk@acme.example"]},
            ("POST", "locations/{id}/validate"): {"accepted": True},
            ("POST", "networks"): {"value": "10.9.0.0/16", "location_id": location},
            ("PATCH", "networks/{id}"): {"value": "10.8.0.0/16"},
            ("POST", "notification-recipients"): {"email": "security@acme.example"},
            ("POST", "phones"): {"mac": "00:04:f2:00:00:01", "vendor": "poly", "model": "VVX 450"},
            ("POST", "phones/{id}/release"): {"model": "T31P"},
            ("PATCH", "phones/{id}"): {"label": "Reception", "location_id": location},
            ("POST", "provisioning-token/rotate"): {"mode": "push"},
            ("POST", "provisioning-token/rotation/cancel"): {},
            ("POST", "phones/resync"): {"filter": {}},
            ("POST", "phones/{id}/preview"): {"kind": "settings", "target": "account", "after": {"lldp": False}},
            ("POST", "rollouts"): {
                "kind": "template",
                "target": "yealink/base.cfg.j2",
                "after": "{% extends 'shipped/base.cfg.j2' %}",
                "canary": {"random": 1},
            },
            ("POST", "rollouts/dry-run"): {"kind": "settings", "target": "account", "after": {"lldp": False}},
            ("POST", "phone-settings"): {
                "kind": "model",
                "vendor": "yealink",
                "model": "T54W",
                "settings": {"lldp": False},
            },
            ("PATCH", "phone-settings/{id}"): {"settings": {"vlan_id": 20, "lldp": None}},
            ("POST", "templates"): {"vendor": "poly", "name": "master.cfg.j2", "body": "{% extends 'master.cfg.j2' %}"},
            ("PATCH", "templates/{id}"): {"body": "{% extends 'time.cfg.j2' %}\n", "note": "as shipped"},
            ("POST", "templates/{id}/revert"): {"number": None},
            ("PATCH", "provisioning-policy"): {"sources": ["203.0.113.0/24"]},
            ("POST", "lines"): {"extension": "102", "display_name": "Hall", "secret": "s3cret-102"},
            ("PATCH", "lines/{id}"): {"display_name": "Front desk"},
            ("POST", "contacts"): {"name": "Hospital", "number": "+1 518 555 0142"},
            ("POST", "audit-views"): {"name": "Refused today", "query": "outcome=denied&range=today"},
            ("PATCH", "audit-views/{id}"): {"name": "Refused ever", "query": "outcome=denied", "is_shared": True},
            ("PATCH", "contacts/{id}"): {"name": "Hospital reception"},
            ("POST", "pbxs"): {"name": "Branch", "sources": ["192.0.2.0/24"]},
            ("PATCH", "pbxs/{id}"): {"default_location_id": location},
            ("POST", "trunks"): {"name": "Backup", "host": "203.0.113.9", "priority": 20},
            ("PATCH", "trunks/{id}"): {"enabled": False},
            ("POST", "trunk-groups"): {"name": "West", "trunk_ids": [self.ids["trunks"]]},
            ("PATCH", "trunk-groups/{id}"): {"trunk_ids": []},
            ("POST", "locations/bulk"): {"action": "tell", "emails": ["guard@acme.example"]},
            ("POST", "locations/{id}/merge"): {"merged_id": self.ids["twin"]},
            ("POST", "numbers"): {"e164": "+15185550160", "line_id": self.ids["lines"]},
            ("POST", "numbers/range"): {"range": "+15185550170..+15185550172", "location_id": location},
            ("PATCH", "numbers/{id}"): {"location_id": location},
            ("POST", "confirmed-locations"): {
                "line_id": self.ids["lines"],
                "location_id": location,
                "network": "203.0.113.0/24",
            },
            ("PATCH", "confirmed-locations/{id}"): {"network": "00:1a:2b:3c:4d:5e"},
            ("PUT", "phones/{id}/sighting"): {"chassis": "00:1A:2B:3C:4D:5E", "port": "Gi1/0/12", "ip": "10.1.0.9"},
        }


async def furnish(port: AdminPort, site: Site, prefix: str = "10.1") -> Furnished:
    """Make the rows through the API, and those that only the engine makes in the database."""
    made = Furnished()
    policy = {"encrypt_files": True}  # so that the phone below is given a file key
    answer = await port.call("PATCH", "/api/v1/provisioning-policy", site.auth | {"If-Match": "*"}, json=policy)
    assert answer.status == 200, await answer.text()
    mail = {"host": "127.0.0.1", "port": 1, "sender": "callpoint@acme.example"}  # where nobody listens
    answer = await port.call("PATCH", "/api/v1/mail-settings", site.auth | {"If-Match": "*"}, json=mail)
    assert answer.status in {200, 403}, await answer.text()  # 403: one account among several
    for name, body in (
        ("locations", {"name": "Headquarters", "civic_address": CIVIC}),
        ("pbxs", {"name": "PBX", "sources": [f"{prefix}.0.0/16"], "registrar_host": "pbx.acme.example"}),
        ("trunks", {"name": "Carrier", "host": "sip.carrier.example", "secret": "trunk-secret"}),
        ("trunk-groups", {"name": "East"}),
        ("webhooks", {"name": "Door", "url": "https://localhost/door"}),  # a name that is looked up and not reached
        ("chat-recipients", {"name": "Night guard", "url": "jsons://localhost/guard"}),  # likewise
        ("lines", {"extension": "101", "secret": "s3cret-101"}),
        ("contacts", {"name": "Pharmacy", "number": "102"}),
        ("audit-views", {"name": "Users", "query": "category=Users"}),
        ("phones", {"mac": "00:15:65:4a:a9:37", "vendor": "yealink", "model": "T46U"}),
        ("notification-recipients", {"email": "frontdesk@acme.example"}),
        ("users", {"email": f"{new_id('user')}@acme.example", "role": "auditor"}),
        ("api-keys", {"name": "old", "scopes": ["phones:read"]}),
    ):
        answer = await port.call("POST", f"/api/v1/{name}", site.auth, json=body)
        assert answer.status == 201, await answer.text()
        made.ids[name] = (await answer.json())["id"]
    answer = await port.call(
        "POST", "/api/v1/locations", site.auth, json={"name": "Head quarters", "civic_address": CIVIC}
    )
    made.ids["twin"] = (await answer.json())["id"]
    network = {"value": f"{prefix}.5.0/24", "location_id": made.ids["locations"]}
    answer = await port.call("POST", "/api/v1/networks", site.auth, json=network)
    made.ids["networks"] = (await answer.json())["id"]
    last = int(prefix.rpartition(".")[2])
    for name, body in (
        ("numbers", {"e164": f"+1518555{last:04}"}),
        ("phone-settings", {"kind": "location", "location_id": made.ids["locations"], "settings": {"vlan_id": 7}}),
        ("templates", {"vendor": "yealink", "name": "time.cfg.j2", "body": "{% extends 'time.cfg.j2' %}"}),
        (
            "confirmed-locations",
            {"phone_id": made.ids["phones"], "location_id": made.ids["locations"], "network": "198.51.100.0/24"},
        ),
    ):
        answer = await port.call("POST", f"/api/v1/{name}", site.auth, json=body)
        assert answer.status == 201, await answer.text()
        made.ids[name] = (await answer.json())["id"]
    asked = {"name": "logo.png", "kind": "logo"}
    answer = await port.call("POST", "/api/v1/assets", site.auth, data=b"a picture", params=asked)
    assert answer.status == 201, await answer.text()
    made.ids["assets"] = (await answer.json())["id"]
    await _rollouts(port, site, made)
    await _engine_rows(port, site, made)
    made.ids["audit-log"] = (await port.entries(site.account.id))[0].id
    return made


async def _rollouts(port: AdminPort, site: Site, made: Furnished) -> None:
    """Two under way, one to publish and one to cancel, and a dry run."""
    for name, target in (("rollouts", "account"), ("rollouts/{id}/cancel", "yealink/T46U")):
        body = {"kind": "settings", "target": target, "after": {"lldp": False}, "canary": {"random": 1}}
        answer = await port.call("POST", "/api/v1/rollouts", site.auth, json=body)
        assert answer.status == 201, await answer.text()
        made.ids[name] = (await answer.json())["id"]
    body = {"kind": "settings", "target": "account", "after": {"lldp": False}}
    answer = await port.call("POST", "/api/v1/rollouts/dry-run", site.auth, json=body)
    assert answer.status == 202, await answer.text()
    made.ids["rollouts/dry-run"] = run = (await answer.json())["id"]
    await port.ended(site, run)


async def _engine_rows(port: AdminPort, site: Site, made: Furnished) -> None:
    now = utc_now()
    caller = {
        "name": "Desk", "extension": "101", "sip_user": "101", "callback_number": "+15185550100", "phone_id": None,
        "line_id": None, "mac": None, "source_ip": "10.1.0.2", "uri": "sip:101@10.1.0.2",
    }  # fmt: skip
    verdict = {"source": "phone", "said": "Headquarters", "age_s": None, "taken": True, "why": "the phone's location"}
    sighting = Sighting(
        phone_id=made.ids["phones"], account_id=site.account.id, bssid="001a2b3c4d5e", source="api", seen_at=now
    )
    call = EmergencyCall(
        id=new_id("call"), account_id=site.account.id, call_id="a84b4c76e66710@10.1.0.2", dialed="933", kind="test",
        caller=caller, verdict=[verdict], location_source="phone", invite="INVITE sip:933@trunk SIP/2.0",
        location={"id": made.ids["locations"], "name": "Headquarters", "civic_address": CIVIC, "geo": None},
        peer={"transport": "udp", "ip": "10.1.0.2", "port": 5060}, received_at=now, sent_at=now, recorded_at=now,
    )  # fmt: skip
    notification = Notification(
        id=new_id("notification"), account_id=site.account.id, emergency_call_id=call.id,
        recipient="frontdesk@acme.example", because="account", subject="TEST: 933 was dialled", body="…",
        created_at=now, next_try_at=now,
    )  # fmt: skip
    browser = Session(
        id=new_id("session"), user_id=site.owner.id, account_id=site.account.id, cookie_hash=new_id("session"),
        method="password", ip="127.0.0.1", created_at=now, seen_at=now, proven_at=now,
    )  # fmt: skip
    async with port.database.sessions.begin() as session:
        session.add(call)
        record(session, SYSTEM, Event.EMERGENCY_CALL_CREATE, call)
        await session.flush()
        session.add_all([notification, browser, sighting])
        round_ = Sweep(
            id=new_id("sweep"), account_id=site.account.id, started_by="Olga Owner", locations=1, started_at=now
        )
        session.add(round_)
        record(session, SYSTEM, Event.SWEEP_CREATE, round_)
        made.ids["sweeps"] = round_.id
        phone = await session.get(Phone, made.ids["phones"])
        assert phone is not None
        made.ids["phones/{id}/release"] = held = new_id("phone")
        session.add(
            Phone(
                id=held, account_id=site.account.id, mac="805ec0aabb77", vendor="yealink",
                model="T46U", label="Held back", status=PhoneStatus.QUARANTINED, seen_vendor="yealink",
                seen_model="T31P",
            )
        )  # fmt: skip
        await session.flush()
        record(session, SYSTEM, Event.PHONE_CREATE, await session.get(Phone, held))
        phone.last_fetch_at = now + dt.timedelta(hours=1)  # whatever is begun in a test, this phone has heard of it
        hint = Anomaly(
            id=new_id("anomaly"), account_id=site.account.id, kind="mass_deletion", key="mass_deletion:user_x",
            at=now, actor_name="Olga Owner", ip="10.1.0.9", headline="Olga Owner deleted 40 things",
            evidence=["40 of phone."], query="action=delete",
        )  # fmt: skip
        session.add(hint)
        record(session, SYSTEM, Event.ANOMALY_CREATE, hint)
        made.ids["anomalies"] = hint.id
    fleet = Fleet(new_id("resync"), site.account.id, ())
    port.edge.fleets.append(fleet)
    made.ids |= {"emergency-calls": call.id, "notifications": notification.id, "sessions": browser.id}
    made.ids["phone-resyncs"] = fleet.id
