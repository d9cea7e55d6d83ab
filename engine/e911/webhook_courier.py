"""POSTs waiting messages to webhooks, signed. The loop is `engine.e911.courier`."""

import datetime as dt
import ssl
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import Database, utc_now
from engine.e911 import webhook_message
from engine.e911.courier import POLL_S, Claimed, Courier
from engine.e911.retries import Patience, Try, Verdict
from engine.e911.webhooks import Tried, keys_of
from engine.ids import new_id
from engine.models import WEBHOOKS, Account, Webhook
from engine.outbound import Outbound, Unreachable, post

WITHIN_S = 15.0
GONE = 410  # the receiver wants no more of it, as Standard Webhooks has it


class WebhookCourier(Courier):
    """Sends what waits for webhooks.

    Args:
        tls: What certificates are checked against; None: the system's authorities.
    """

    name, channels = "webhook", WEBHOOKS
    max_at_once, max_tried, max_of_one = 30, 20, 4
    lease = dt.timedelta(seconds=90)

    def __init__(
        self,
        database: Database,
        outbound: Outbound,
        *,
        patience: Patience | None = None,
        tls: ssl.SSLContext | None = None,
        poll_s: float = POLL_S,
        within_s: float = WITHIN_S,
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        super().__init__(database, patience=patience, poll_s=poll_s, now=now)
        self._outbound, self._tls, self._within_s = outbound, tls, within_s

    async def _send(self, claimed: Claimed) -> Try:
        async with self._database.sessions() as session:
            webhook = await session.get(Webhook, claimed.recipient)
            if webhook is None:
                return Try(Verdict.NEVER, "The webhook was removed.")
            if not webhook.enabled:
                return Try(Verdict.NEVER, "The webhook was switched off.")
            url, keys = webhook.url, keys_of(webhook, self._now())
        body = claimed.body.encode()
        headers = webhook_message.headers_of(keys, claimed.id, self._now(), body)
        try:
            said = await post(self._outbound, url, body, headers, within_s=self._within_s, tls=self._tls)
        except Unreachable as exc:
            return Try(Verdict.LATER, exc.detail)
        return verdict_on(said.status, said.words)

    async def _note(self, session: AsyncSession, claimed: Claimed, outcome: Try, now: dt.datetime) -> None:
        webhook = await session.get(Webhook, claimed.recipient, with_for_update=True)
        if webhook is not None:
            webhook.tried_at, webhook.tried_ok = now, outcome.verdict is Verdict.SENT
            webhook.tried_words = (outcome.words or "Taken.")[:300]


def verdict_on(status: int, words: str) -> Try:
    """What an answer's status means: 2xx is taken, 410 is no for ever, all else is tried again."""
    said = f"{status}{f' {words}' if words else ''}"
    if 200 <= status < 300:
        return Try(Verdict.SENT, said)
    return Try(Verdict.NEVER if status == GONE else Verdict.LATER, f"It answered {said}")


async def send_test(
    outbound: Outbound, account: Account, url: str, keys: tuple[str, ...], *, tls: ssl.SSLContext | None = None
) -> Tried:
    """POST a signed test once. Never raises for an endpoint that is away."""
    now, identity = utc_now(), new_id("notification")
    body = webhook_message.body_of_test(identity, account.id, account.name, now).encode()
    try:
        said = await post(
            outbound, url, body, webhook_message.headers_of(keys, identity, now, body), within_s=WITHIN_S, tls=tls
        )
    except Unreachable as exc:
        return Tried(False, exc.detail, utc_now())
    outcome = verdict_on(said.status, said.words)
    return Tried(outcome.verdict is Verdict.SENT, outcome.words, utc_now())
