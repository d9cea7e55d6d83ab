"""Whether an address is one that help can be sent to, by a validator's word (E-14; RFC 5222 §8.4.2).

The network is asked before the transaction that notes the answer: the database's writers take turns (0006).
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from engine.audit.changes import rfc3339
from engine.audit.events import Event
from engine.audit.record import Actor, record
from engine.e911.civic import DispatchableLocation
from engine.e911.lost import LostAway, LostClient
from engine.e911.lost_xml import ErrorType, Found, LostRefused
from engine.errors import Conflict, Stale
from engine.models import Location, LocationStatus

# 47 CFR § 9.3: a validated street address; what leads on from the street, a validator need not know
STREET_LEVEL = ("country", "A1", "A3", "RD", "HNO")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A validator's word on one version of a location. `status` None: it does not decide.

    `told` is kept with the location: by, at, verdict (validated, rejected, undecided), words, the element names
    valid, invalid and unchecked, and who would be called there (psap, psap_uris).
    """

    location_id: str
    version: int
    status: LocationStatus | None
    told: dict[str, Any] = field(default_factory=dict)


async def ask_validator(
    client: LostClient | None, location: DispatchableLocation, *, version: int, now: datetime
) -> Verdict:
    """Ask the configured LoST server of the address as it is.

    Raises:
        Conflict: no validator is configured, or there is no address to validate; the sentence says what to do.
        LostAway: the validator does not answer now.
    """
    if client is None:
        raise Conflict(
            "No validator is configured, so nobody was asked: name your region's LoST server under Settings, "
            "Integrations, or as [e911] lost_url; or dial 933 from there and say with `accepted` whether the address "
            "was read back right. 911 calls go out with this address either way."
        )
    if not location.civic_address.elements:
        raise Conflict(
            "This location has coordinates but no street address, and only an address can be validated. Add one."
        )
    try:
        found = await client.find_service(location, validate=True)
    except LostRefused as exc:
        return _verdict_of_refusal(exc, location, version, now)
    if found.is_stale:
        raise LostAway("The validator does not answer now. The location stays as it is; ask again later.")
    return _verdict_of(found, location, version, now)


async def note_verdict(session: AsyncSession, actor: Actor, location: Location, verdict: Verdict) -> Location:
    """Keep what the validator said, and the status that follows.

    Raises:
        Stale: the location was changed while the validator was asked.
    """
    if (location.id, location.version) != (verdict.location_id, verdict.version):
        raise Stale("The location was changed while its address was being validated. Ask again.")
    if verdict.status is not None:
        location.status = verdict.status
        location.validated_at = (
            datetime.fromisoformat(verdict.told["at"]) if verdict.status == LocationStatus.VALIDATED else None
        )
    location.validation = verdict.told
    record(session, actor, Event.LOCATION_VALIDATE, location, details=verdict.told)
    await session.flush()
    return location


def of_a_person(actor: Actor, status: LocationStatus, at: datetime) -> dict[str, Any]:
    """What is kept of a person's word, in the shape of a validator's."""
    who = (actor.display_name or actor.name or actor.id)[:200]
    words = f"{who} says that it is right." if status is LocationStatus.VALIDATED else f"{who} says that it is wrong."
    told: dict[str, Any] = {"by": who, "at": rfc3339(at), "verdict": status.value, "words": words}
    return told | {"valid": [], "invalid": [], "unchecked": [], "psap": "", "psap_uris": []}


def _verdict_of(found: Found, location: DispatchableLocation, version: int, now: datetime) -> Verdict:
    by = found.path[-1] if found.path else "the LoST server"
    said = found.validation
    served = _served_by(found)
    given = location.civic_address.as_dict()
    warned = "; ".join(f"{warning.type}: {warning.words}".rstrip(": ") for warning in found.warnings)
    if said is None:
        words = f"{by} did not validate the address ({warned or 'it gave no reason'})."
        return _verdict(location, version, now, None, by, words, **served)
    names = served | {"valid": list(said.valid), "invalid": list(said.invalid), "unchecked": list(said.unchecked)}
    if said.invalid:
        wrong = ", ".join(f"{name} ({given[name]})" if name in given else name for name in said.invalid)
        return _verdict(
            location, version, now, LocationStatus.REJECTED, by, f"{by} does not know {wrong} at this address.", **names
        )
    missing = [name for name in STREET_LEVEL if name in given and name not in said.valid]
    if missing or not said.valid:
        words = f"{by} found nothing wrong, but did not check {', '.join(missing) or 'any element'}."
        return _verdict(location, version, now, None, by, words, **names)
    return _verdict(location, version, now, LocationStatus.VALIDATED, by, f"{by} knows this address.", **names)


def _verdict_of_refusal(error: LostRefused, location: DispatchableLocation, version: int, now: datetime) -> Verdict:
    by = error.source or "the LoST server"
    status = LocationStatus.REJECTED if error.type is ErrorType.LOCATION_INVALID else None
    return _verdict(location, version, now, status, by, f"{by}: {error.words or error.type.value}")


def _verdict(
    location: DispatchableLocation,
    version: int,
    now: datetime,
    status: LocationStatus | None,
    by: str,
    words: str,
    **more: object,
) -> Verdict:
    told: dict[str, Any] = {"by": by, "at": rfc3339(now), "verdict": "undecided" if status is None else status.value}
    told |= {"words": words, "valid": [], "invalid": [], "unchecked": [], "psap": "", "psap_uris": []}
    return Verdict(location.id, version, status, told | more)


def _served_by(found: Found) -> dict[str, object]:
    """The PSAP that the server names for the place (RFC 5222 §5.4), as it calls itself."""
    mapping = found.mappings[0] if found.mappings else None
    return {"psap": mapping.display_name, "psap_uris": list(mapping.uris)} if mapping is not None else {}
