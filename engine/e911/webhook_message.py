"""What a webhook is sent, and how it is signed (pure).

The signature is that of the Standard Webhooks specification, so that its libraries verify it: HMAC-SHA256 over
`id.timestamp.body` under the decoded secret, in base64 with the version before it. The time stands in what is
signed, so that an old message cannot be sent again; the id stays the same over every retry, so that a receiver knows a
second one.
"""

import base64
import datetime as dt
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from engine.audit.changes import rfc3339
from engine.e911.mail import Told
from engine.models import EmergencyCall

PREFIX = "whsec_"
SECRET_BYTES = 32
SENT = "emergency_call.sent"
# the carrier took the call without the address that the first named, or none took it, or one did after all
CORRECTED = "emergency_call.corrected"
TEST = "webhook.test"


def mint_secret() -> str:
    """A fresh secret, as the receiver's library takes it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the signature of one message. `timestamp`: Unix seconds."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def headers_of(keys: Sequence[str], message_id: str, now: dt.datetime, body: bytes) -> Mapping[str, str]:
    """The headers of one try. `keys`: the secret, and the one before it while that still counts."""
    timestamp = int(now.timestamp())
    return {
        "Content-Type": "application/json",
        "User-Agent": "Callpoint-Webhook/1",
        "Webhook-Id": message_id,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": " ".join(signature(key, message_id, timestamp, body) for key in keys),
    }


def call_body(message_id: str, event: str, at: dt.datetime, call: EmergencyCall, told: Told) -> str:
    """The JSON that tells of a call: the same facts as the mail of it. `event`: `SENT` or `CORRECTED`."""
    location: dict[str, Any] | None = None
    if told.location_name is not None:
        location = {"name": told.location_name, "civic_address": told.civic_address, "geo": told.geo}
    facts = {
        "id": call.id, "kind": call.kind, "dialed": call.dialed, "outcome": call.outcome,
        "sent_at": rfc3339(call.sent_at),
        "caller": {
            "name": told.caller_name, "extension": told.extension, "callback_number": told.callback_number,
        },
        "location": location, "location_source": told.location_source, "flags": list(told.flags),
        "onsite_number": told.onsite_number, "instructions": [line for line in told.instructions if line],
        "url": told.page_url,
    }  # fmt: skip
    return _message(message_id, event, at, {"account": _account(call.account_id, told), "call": facts})


def body_of_test(message_id: str, account_id: str, account_name: str, now: dt.datetime) -> str:
    """The JSON of a test: nobody called."""
    return _message(message_id, TEST, now, {"account": {"id": account_id, "name": account_name}})


def _account(account_id: str, told: Told) -> dict[str, str]:
    return {"id": account_id, "name": told.account_name}


def _message(message_id: str, kind: str, at: dt.datetime, data: Mapping[str, Any]) -> str:
    message = {"id": message_id, "type": kind, "timestamp": rfc3339(at), "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
