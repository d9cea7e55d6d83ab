"""Hands waiting SMS and chat messages to their services. The loop is `engine.e911.courier`."""

import datetime as dt
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncSession

from engine.db import Database, utc_now
from engine.e911 import chat_message
from engine.e911.chat_library import ChatLibrary
from engine.e911.courier import POLL_S, Claimed, Courier
from engine.e911.retries import Patience, Try, Verdict
from engine.e911.webhooks import Tried
from engine.models import CHATS, Account, ChatRecipient


class ChatCourier(Courier):
    """Sends what waits for chat recipients; each message at once costs a process, so there are few."""

    name, channels = "chat", CHATS
    max_at_once, max_tried, max_of_one = 6, 3, 1
    lease = dt.timedelta(seconds=90)

    def __init__(
        self,
        database: Database,
        library: ChatLibrary,
        *,
        patience: Patience | None = None,
        poll_s: float = POLL_S,
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        super().__init__(database, patience=patience, poll_s=poll_s, now=now)
        self._library = library

    async def run(self) -> None:
        """As ever, and no child outlives it."""
        try:
            await super().run()
        finally:
            await self._library.close()

    async def _send(self, claimed: Claimed) -> Try:
        async with self._database.sessions() as session:
            row = await session.get(ChatRecipient, claimed.recipient)
            if row is None:
                return Try(Verdict.NEVER, "The recipient was removed.")
            if not row.enabled:
                return Try(Verdict.NEVER, "The recipient was switched off.")
            url = row.url
        title, _, body = claimed.body.partition("\n")
        said = await self._library.send(url, title, body)
        if said.is_ok:
            return Try(Verdict.SENT)
        return Try(Verdict.NEVER if said.is_final else Verdict.LATER, said.words)

    async def _note(self, session: AsyncSession, claimed: Claimed, outcome: Try, now: dt.datetime) -> None:
        row = await session.get(ChatRecipient, claimed.recipient, with_for_update=True)
        if row is not None:
            row.tried_at, row.tried_ok = now, outcome.verdict is Verdict.SENT
            row.tried_words = (outcome.words or "Taken.")[:300]


async def send_test(library: ChatLibrary, account: Account, url: str) -> Tried:
    """Send a test once. Never raises for a service that is away."""
    message = chat_message.compose_test(account.name)
    said = await library.send(url, message.subject, message.body)
    return Tried(said.is_ok, said.words or "The service took it.", utc_now())
