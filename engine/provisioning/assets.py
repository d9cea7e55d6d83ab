"""Operations on the account's files: each changes a row and records itself once; nobody here commits.

The bytes come first (`AssetStore.receive`, outside any transaction), then the row; bytes that no row came to name are
swept away. `Sweeping` does that, and takes the bytes of deleted rows with it.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.db import Database
from engine.errors import Conflict, EngineError, FieldFault, Invalid
from engine.ids import new_id
from engine.models import Account, Asset
from engine.provisioning import assetfile, store_assets, vendors
from engine.provisioning.assetstore import AssetStore, Received

MAX_FILES = 200
MAX_TOTAL_BYTES = 8 * 1024**3  # of one account: 26 of the largest firmware files
SWEEP_EVERY_S = 900.0
_VERSION = re.compile(r"[0-9A-Za-z._()+-]{0,40}\Z")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AssetFields:
    """A file as it shall be known. `vendor` empty: for any phone; `models` empty: for any of that vendor; `firmware`:
    its version.
    """

    name: str
    kind: str
    vendor: str = ""
    models: tuple[str, ...] = ()
    firmware: str = ""


def field_faults(wished: AssetFields) -> tuple[FieldFault, ...]:
    """Every bad field. Asked before the bytes are taken, so that nobody sends 300 MB for a misspelt vendor."""
    faults = []
    if not assetfile.is_name(wished.name):
        detail = "Expected 2 to 100 letters, digits, dots, dashes and brackets, no spaces and no folders."
        faults.append(FieldFault("name", f"{detail} Got {wished.name[:60]!r}."))
    elif (title := assetfile.is_another_file(vendors.known(), wished.name)) is not None:
        faults.append(FieldFault("name", f"{title} phones ask for their configuration by this name. Choose another."))
    elif wished.kind in assetfile.KINDS and not _is_called_well(wished):
        listed = ", ".join(assetfile.ENDINGS[wished.kind])
        detail = f"Expected a {wished.kind}'s name, with one of these endings: {listed}. Got {wished.name[:60]!r}."
        faults.append(FieldFault("name", f"{detail} Settings belong in the phone's settings or a template."))
    if wished.kind not in assetfile.KINDS:
        faults.append(FieldFault("kind", f"Expected {', '.join(assetfile.KINDS)}, got {wished.kind[:40]!r}."))
    if not _VERSION.match(wished.firmware):
        faults.append(FieldFault("firmware", "Expected a version of at most 40 letters, digits, dots and dashes."))
    return (*faults, *_vendor_faults(wished))


def _is_called_well(wished: AssetFields) -> bool:
    profile = vendors.known().profiles.get(wished.vendor)
    rule = profile.file_rule(wished.name) if profile is not None else None
    return assetfile.has_an_ending(wished.kind, wished.name, rule.kind if rule is not None else None)


def _vendor_faults(wished: AssetFields) -> Sequence[FieldFault]:
    profiles = vendors.known().profiles
    profile = profiles.get(wished.vendor)
    if profile is None:
        known = f"Expected one of {', '.join(profiles)}"
        if wished.vendor:
            return [FieldFault("vendor", f"{known}, got {wished.vendor[:40]!r}.")]
        if wished.kind == "firmware":
            return [FieldFault("vendor", f"{known}: a firmware is served to phones of its vendor alone.")]
        return [FieldFault("models", "Models need their vendor beside them.")] if wished.models else []
    return [
        FieldFault(f"models.{at}", f"Expected a {profile.title} model, got {model[:40]!r}.")
        for at, model in enumerate(wished.models)
        if profile.model(model) is None
    ]


async def create_asset(
    session: AsyncSession, actor: Actor, account: Account, wished: AssetFields, received: Received, *, store: AssetStore
) -> Asset:
    """Name the bytes that were received: from the commit on phones are served them.

    Raises:
        Invalid: every bad field. Conflict: the name is taken, or the account has no room for it.
    """
    faults = field_faults(wished)
    if faults:
        raise Invalid("The file cannot be stored like this.", fields=faults)
    if await store_assets.asset_by_name(session, account.id, wished.name) is not None:
        raise Conflict(
            f"This account has a file called {wished.name} already. Delete it first, or choose another name."
        )
    stock = await store_assets.stock_of(session, account.id)
    if stock.files >= MAX_FILES or stock.size_bytes + received.size_bytes > MAX_TOTAL_BYTES:
        room = f"{MAX_FILES} files and {MAX_TOTAL_BYTES // 1024**3} GiB"
        raise Conflict(f"An account has room for {room}; this one has none for the file. Delete some first.")
    profile = vendors.known().profiles.get(wished.vendor)
    models = [] if profile is None else [found.name for one in wished.models if (found := profile.model(one))]
    asset = Asset(
        id=new_id("asset"), account_id=account.id, name=wished.name, kind=wished.kind, vendor=wished.vendor,
        models=models, firmware=wished.firmware, content_type=assetfile.content_type(wished.name),
        size_bytes=received.size_bytes, sha256=received.sha256,
    )  # fmt: skip
    store.keep(received)
    session.add(asset)
    record(session, actor, Event.ASSET_CREATE, asset)
    return asset


async def delete_asset(session: AsyncSession, actor: Actor, asset: Asset) -> None:
    """Remove a file: phones that ask for it get a 404 from the commit on.

    Raises:
        Conflict: a phone or a level of settings names it.
    """
    phones = await store_assets.phones_that_name(session, asset.account_id, asset.name)
    named = [f"the phone {phone.label or phone.mac}" for phone in phones]
    levels = await store_assets.levels_that_name(session, asset.account_id, asset.name)
    named += [f"the settings of {level.name}" for level in levels]
    if named:
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        raise Conflict(f"{asset.name} is named by {', '.join(named[:3])}{more}. Change that first.")
    await session.delete(asset)
    record(session, actor, Event.ASSET_DELETE, asset)


@dataclass(frozen=True, slots=True)
class Sweeping:
    """`run` as a background task of every node: the folder is the node's own."""

    database: Database
    store: AssetStore
    every_s: float = SWEEP_EVERY_S

    async def run(self) -> None:
        """Until cancelled. Never raises for a database that is away."""
        while True:
            try:
                gone = await self.sweep(time.time())
                if gone:
                    _log.info("assets.swept", files=gone)
            except (SQLAlchemyError, EngineError, OSError) as exc:
                _log.warning("assets.not_swept", error=type(exc).__name__)
            await asyncio.sleep(self.every_s)

    async def sweep(self, now: float) -> int:
        """Remove the files that no row names. Returns how many went."""
        async with self.database.sessions() as session:
            named = await store_assets.digests_named(session)
        return await asyncio.to_thread(self.store.sweep, named, now)
