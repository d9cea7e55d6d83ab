"""Journal entries as the edge writes them, each with the least a test needs to say."""

import datetime as dt
from typing import Any

from engine.ids import new_id
from engine.models import Account, Location

AT = dt.datetime(2026, 11, 21, 20, 0, 12, 345678, tzinfo=dt.UTC)


def at(seconds: float = 0) -> str:
    """That many seconds after the calls' time, as the journal writes it."""
    return (AT + dt.timedelta(seconds=seconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def call_entry(account: Account, location: Location | None = None, **fields: Any) -> dict[str, Any]:
    """A 911 call of extension 101 that has left."""
    conveyed = (
        {"id": location.id, "name": location.name, "civic_address": location.civic_address, "geo": None}
        if location
        else None
    )
    caller = {
        "name": "Dana Reyes",
        "extension": "101",
        "sip_user": "101",
        "callback_number": "+15185550101",
        "phone_id": None,
        "line_id": "line_1",
        "mac": "0015654aa937",
        "source_ip": "10.1.2.3",
        "uri": "sip:101@192.0.2.10",
    }
    entry = {
        "type": "call",
        "id": new_id("call"),
        "account_id": account.id,
        "pbx_id": None,
        "call_id": "a84b4c76e66710@192.0.2.10",
        "dialed": "911",
        "kind": "emergency",
        "received_at": at(),
        "sent_at": at(0.001),
        "caller": caller,
        "location": conveyed,
        "location_source": "subnet" if location else "none",
        "verdict": [
            {
                "source": "subnet",
                "said": location.name if location else None,
                "age_s": None,
                "taken": bool(location),
                "why": "10.1.2.3",
            }
        ],
        "flags": [] if location else ["location_unknown"],
        "peer": {"transport": "udp", "ip": "192.0.2.10", "port": 5060},
        "trunk_id": "trunk_1",
        "invite": "INVITE sip:911@192.0.2.1 SIP/2.0\r\n\r\n",
    }
    return entry | fields


def read_back_entry(account: Account, location: Location | None = None, **fields: Any) -> dict[str, Any]:
    """The same by way of 933."""
    return call_entry(account, location, **{"dialed": "933", "kind": "test"} | fields)


def attempt_entry(call: dict[str, Any], number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "type": "attempt",
        "call": call["id"],
        "number": number,
        "trunk_id": "trunk_1",
        "trunk_name": "Carrier",
        "hop": "udp:192.0.2.1:5060",
        "with_location": True,
        "started_at": at(0.001),
        "ended_at": at(2.5),
        "status": 200,
        "outcome": "answered",
    } | fields


def outcome_entry(call: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "type": "outcome",
        "call": call["id"],
        "outcome": "answered",
        "status": 200,
        "trunk_id": "trunk_1",
        "at": at(2.5),
    } | fields


def ended_entry(call: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
    return {"type": "ended", "call": call["id"], "at": at(seconds)}


def stranger_entry(ip: str = "203.0.113.9", seconds: float = 0, **fields: Any) -> dict[str, Any]:
    return {
        "type": "stranger",
        "source": {"transport": "udp", "ip": ip, "port": 5060},
        "method": "INVITE",
        "request_uri": "sip:100@192.0.2.5",
        "user_agent": "friendly-scanner",
        "emergency": False,
        "at": at(seconds),
    } | fields
