"""What a webhook is sent and how it is signed."""

import base64
import datetime as dt
import hashlib
import hmac

from engine.e911.retries import Verdict
from engine.e911.webhook_courier import verdict_on
from engine.e911.webhook_message import SECRET_BYTES, body_of_test, headers_of, mint_secret, signature

NOW = dt.datetime(2026, 11, 22, 7, 0, tzinfo=dt.UTC)


def test_the_signature_is_that_of_the_specification() -> None:
    """S1-30: the example that the Standard Webhooks specification gives, byte for byte."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_is_signed_with_every_secret_that_counts() -> None:
    """S1-30: the one before too, while a receiver changes over; the time stands in what is signed."""
    first, second = mint_secret(), mint_secret()
    assert first != second
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == SECRET_BYTES
    headers = headers_of((first, second), "notification_1", NOW, b"{}")
    given = headers["Webhook-Signature"].split(" ")
    for secret, each in zip((first, second), given, strict=True):
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"notification_1.{headers['Webhook-Timestamp']}.".encode() + b"{}"
        assert each == "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert int(headers["Webhook-Timestamp"]) == int(NOW.timestamp())


def test_a_test_names_no_call() -> None:
    """S1-28: nobody is sent anywhere by a test."""
    body = body_of_test("notification_1", "account_1", "Käfer & Co", NOW)
    assert '"type":"webhook.test"' in body
    assert "call" not in body.removeprefix('{"id"').replace("webhook", "")
    assert "Käfer & Co" in body


def test_what_an_answer_means() -> None:
    """S1-28: taken, no for ever, or again."""
    assert [verdict_on(status, "").verdict for status in (200, 204, 299)] == [Verdict.SENT] * 3
    assert [verdict_on(status, "").verdict for status in (301, 400, 404, 429, 500, 503)] == [Verdict.LATER] * 6
    assert verdict_on(410, "gone fishing").verdict is Verdict.NEVER
    assert verdict_on(410, "gone fishing").words == "It answered 410 gone fishing"
