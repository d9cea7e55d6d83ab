"""`callpoint doctor`, on what other systems do for us: the mail server, the validator of addresses, webhooks.

The configuration counts alone where it names one; else what was set in the pages does.
"""

from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store_platform
from engine.config import Config
from engine.doctor.location import validator_finding
from engine.doctor.sip import answers
from engine.e911 import validation_settings
from engine.findings import Finding
from engine.models import Account, ChatRecipient, NotificationRecipient, Webhook

NO_MAIL = Finding(
    "mail", "warning", "no server set: notifications wait in the outbox. Set [mail] host, or one under Settings."
)
NO_ADDRESS = Finding(
    "links in mails", "warning",
    "[admin] public_url is empty: mails and webhooks about 911 calls name caller and address, but no page to open, and "
    "invitations are mailed only when made at this server's own address. Set it to what people type, such as "
    "https://callpoint.example.com, and restart.",
)  # fmt: skip


async def mail_finding(host: str, port: int) -> Finding:
    """Whether the server that mails leave by answers."""
    if await answers(host, port):
        return Finding("mail", "good", f"{host}:{port} answers")
    return Finding("mail", "bad", f"{host}:{port} does not answer: notifications wait. Calls go on.")


async def stored_findings(session: AsyncSession, config: Config) -> list[Finding]:
    """What was set in the pages and counts."""
    findings: list[Finding] = []
    row = await store_platform.mail_settings(session)
    if not config.mail.host and row is not None and row.host:
        findings.append(await mail_finding(row.host, row.port))
    validator = await validation_settings.stored(session)
    if not config.e911.lost_url and validator is not None and validator.provider == "lost":
        findings.append(await validator_finding(validator.url))
    if not config.mail.host and not config.admin.public_url:
        recipients = await session.scalar(select(func.count()).select_from(NotificationRecipient))
        hooks = await session.scalar(select(func.count()).select_from(Webhook).where(Webhook.enabled.is_(True)))
        if (row is not None and row.host) or recipients or hooks:
            findings.append(NO_ADDRESS)
    return findings


async def webhook_findings(session: AsyncSession, account: Account) -> list[Finding]:
    """Those whose newest try failed."""
    query = select(Webhook.name, Webhook.host, Webhook.tried_words).where(
        Webhook.account_id == account.id, Webhook.enabled.is_(True), Webhook.tried_ok.is_(False)
    )
    found = [
        Finding(
            f"{account.name}: webhook {name}", "warning",
            f"{urlsplit(host).netloc} did not take the last message ({words}). Mails and calls go on.",
        )
        for name, host, words in await session.execute(query.order_by(Webhook.id))
    ]  # fmt: skip
    count = await session.scalar(select(func.count()).select_from(Webhook).where(Webhook.account_id == account.id))
    return found or ([Finding(f"{account.name}: webhooks", "good", f"{count} and none failed last")] if count else [])


async def chat_findings(session: AsyncSession, account: Account) -> list[Finding]:
    """Recipients of SMS and chat messages whose newest try failed."""
    query = select(ChatRecipient.name, ChatRecipient.shown, ChatRecipient.tried_words).where(
        ChatRecipient.account_id == account.id, ChatRecipient.enabled.is_(True), ChatRecipient.tried_ok.is_(False)
    )
    return [
        Finding(
            f"{account.name}: {name}", "warning",
            f"{shown} did not take the last message ({words}): who reads there is not told of 911 calls. Send a test "
            "from its page under Settings.",
        )
        for name, shown, words in await session.execute(query.order_by(ChatRecipient.id))
    ]  # fmt: skip
