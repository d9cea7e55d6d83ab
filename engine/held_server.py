"""HELD on the phones' port: the emergency room's server behind the provisioning room's door and in its log."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from engine.crypto import KeyRing
from engine.db import Database
from engine.e911.held import Lis
from engine.e911.held_http import HeldAsk, HeldDoor
from engine.e911.held_sightings import MeasuredSightings
from engine.e911.location import Sighting
from engine.e911.references import held_url_of
from engine.provisioning.fetches import Fetch, FetchKind
from engine.provisioning.fetchlog import FetchLog
from engine.provisioning.http import PhonesPort

NoteSighting = Callable[[str, Sighting], None]


def serve_held(
    port: PhonesPort, database: Database, keys: KeyRing, snapshots: Path, note: NoteSighting | None = None
) -> MeasuredSightings:
    """Answer `/held…` on that port; returns what writes measured sightings, to be run beside it.

    `note` takes them instead where another process writes.
    """
    sightings = MeasuredSightings(database)
    lis = Lis(database, keys, snapshots, held_url_of(port.public_url), note or sightings.note)
    port.also["held"] = HeldDoor(lis, address_of=port.address_of, note=partial(_note, port.log)).answer
    return sightings


def _note(log: FetchLog, ask: HeldAsk, duration_us: int) -> None:
    fetch = Fetch(
        kind=FetchKind.HELD_DENIED if ask.is_denied else FetchKind.HELD,
        file=ask.name,
        method=ask.method,
        status=ask.status,
        ip=ask.ip,
        user_agent=ask.user_agent,
        account_id=ask.account_id,
        phone_id=ask.phone_id,
        reason=ask.reason,
        evidence=ask.evidence,
    )
    log.note(fetch, duration_us)
