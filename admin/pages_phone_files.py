"""What a phone is handed now, rendered by the phones' own renderer with every secret masked."""

from functools import cache

from sqlalchemy.ext.asyncio import AsyncSession

from engine.accounts import store as accounts
from engine.errors import EngineError
from engine.models import Account, Line, Location, Pbx, Phone
from engine.provisioning import settings, store, vendors
from engine.provisioning.render import Renderer, served_names
from engine.provisioning.settings import AccountRecord, LineRecord, PhoneRecord
from engine.provisioning.vendors import Mac

HIDDEN = "(hidden)"


async def preview(session: AsyncSession, account: Account, phone: Phone, url: str) -> list[tuple[str, str]]:
    """The phone's files by name, in the order it asks for them; a file that cannot be served says why instead.

    Args:
        url: The provisioning URL as it may be shown: without the token.
    """
    profile = vendors.known().profiles.get(phone.vendor)
    if profile is None:
        return []
    record = await _record(session, account, phone)
    files = []
    for name in served_names(profile, Mac(phone.mac), phone.model):
        rule = profile.file_rule(name)
        if rule is None or rule.template is None:
            continue
        is_own = "mac" in rule.pattern.groupindex
        try:
            config = (
                settings.phone_config(record, profile, url)
                if is_own
                else settings.site_config(record.account, profile, url)
            )
            text = _renderer().render(profile, rule, config).decode()
        except (EngineError, ValueError) as exc:
            text = f"This file cannot be served: {exc}"
        files.append((name, text))
    return files


@cache
def _renderer() -> Renderer:
    return Renderer(vendors.known())


async def _record(session: AsyncSession, account: Account, phone: Phone) -> PhoneRecord:
    location = await session.get(Location, phone.location_id) if phone.location_id else None
    pbxs = {pbx.id: pbx for pbx in await accounts.pbxs_of(session, account.id)}
    lines = [
        _line(key, line, pbxs.get(line.pbx_id or "")) for key, line in enumerate(await lines_on(session, phone), 1)
    ]
    return PhoneRecord(
        account=AccountRecord(account.id, account.timezone, account.country, HIDDEN),
        phone_id=phone.id,
        mac=phone.mac,
        vendor=phone.vendor,
        model=phone.model,
        label=phone.label,
        timezone=(location.timezone if location else None) or "",
        settings=phone.settings,
        lines=tuple(lines),
    )


def _line(key: int, line: Line, pbx: Pbx | None) -> LineRecord:
    return LineRecord(
        key, line.extension, line.display_name, line.sip_user, line.auth_user, HIDDEN if line.secret else "",
        pbx.registrar_host if pbx else "", pbx.registrar_port if pbx else 5060, pbx.transport if pbx else "udp",
        pbx.resync_via if pbx else "pbx",
    )  # fmt: skip


async def lines_on(session: AsyncSession, phone: Phone) -> list[Line]:
    """The lines on the phone's keys, first key first."""
    return [await store.line_of(session, phone.account_id, key.line_id) for key in await store.keys_of(session, phone.id)]
