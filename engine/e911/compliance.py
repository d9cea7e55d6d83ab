"""What 47 CFR § 9.16(b) asks of each telephone of an account, and what is known of it: the report's rules (pure).

Theory of operation. One station (a phone's key with its line, a phone without lines, or a line on no phone) is one row.
The row asks the location engine itself (`order.resolve`, `Lending.choose`, `route.ranked_trunks`) with the rows that a
call of this moment would be decided by, and names what it rests on: which source, how old, validated when and by whom,
the file whose dial plan was proven, the last test. Three paragraphs are then judged:

(b)(1)  911 leaves at once with no prefix: by the proof of the file that the phone was last given.
(b)(2)  somebody is told: by the recipients of the account and of the location that would be sent.
(b)(3)  a dispatchable location goes along: (i) fixed, (ii) non-fixed on the premises, (iii) off the premises.

A verdict is what these records show, no lawyer's word. What they cannot show is `unknown`, never `met`.
"""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from engine.e911.carriers import CarrierProfiles
from engine.e911.evidence import (
    DEFAULTS,
    DISAGREEMENT,
    SIGHTED,
    STALE,
    STALE_SIGHTING,
    UNPLACED_SIGHTING,
    Resolved,
    Source,
    disagree,
)
from engine.e911.lending import Lending
from engine.e911.location import AccountTable, Caller, DispatchableLocation, Pbx, resolve
from engine.e911.location import Line as LineRow
from engine.e911.route import ranked_trunks
from engine.models import Placement
from engine.numbers import NumberPack, numbers_of
from engine.places import is_dispatchable, missing_parts

# 47 U.S.C. § 153(58): the United States are the States and territories, and the possessions of the United States
UNITED_STATES = frozenset({"US", "PR", "VI", "GU", "AS", "MP"})
_INSIDE = frozenset({"BLD", "FLR", "UNIT", "ROOM", "LOC", "SEAT", "NAM", "UNIT_VALUE", "WING", "SUBSITE", "SECTION"})


class Verdict(StrEnum):
    """Of one paragraph, and of a row: the worst of its paragraphs. Stored names."""

    NOT_MET = "not_met"
    UNKNOWN = "unknown"
    MET = "met"
    NOT_APPLICABLE = "not_applicable"  # 47 CFR is no law where this device is


@dataclass(frozen=True, slots=True)
class Finding:
    """A paragraph's verdict, in words why, and what to do; `todo` is empty where nothing is."""

    paragraph: str
    verdict: Verdict
    why: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """The dial plan of the file that a phone was last given: `faults` empty when every number leaves at once."""

    file: str
    etag: str
    fetched_at: dt.datetime
    numbers: tuple[str, ...]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Test:
    """The last 933 test of a location."""

    __test__ = False  # no test of pytest's
    tried_at: dt.datetime
    outcome: str
    detail: str
    passed_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class LastCall:
    """The newest call, real or test, that was recorded of a phone or line."""

    id: str
    kind: str
    sent_at: dt.datetime
    outcome: str


@dataclass(frozen=True, slots=True)
class Station:
    """One row's subject. `phone_id` empty: a line on no phone; `line_id` empty: a phone without lines.

    `placement`: the administrator's word, of the phone, else of the line. `is_application`: a softphone.
    """

    phone_id: str = ""
    mac: str = ""
    vendor: str = ""
    model: str = ""
    label: str = ""
    status: str = ""
    last_fetch_at: dt.datetime | None = None
    key: int | None = None
    line_id: str = ""
    extension: str = ""
    line_name: str = ""
    sip_user: str = ""
    pbx_id: str | None = None
    placement: str | None = None
    is_application: bool = False


@dataclass(frozen=True, slots=True)
class Ground:
    """What the rows of some stations rest on. `table`: what the edge would have of them, and no more.

    `only_pbx_id`: of lines that name none. `holders`: how many phones have each line. `recipients` of mails, `chats`
    (who is told by SMS or chat): by location id, "" for a call without one. `may_mail`: a mail server is set up.
    `down`: trunks that answer no ping. `has_last_resort`: another account's trunk takes calls of last resort.
    `validated_by`: by location id.
    """

    table: AccountTable
    now: dt.datetime
    profiles: CarrierProfiles
    only_pbx_id: str | None = None
    holders: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    recipients: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))
    chats: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))
    webhooks: Sequence[str] = ()
    may_mail: bool = True
    down: Collection[str] = ()
    has_last_resort: bool = False
    proofs: Mapping[str, Proof] = field(default_factory=lambda: MappingProxyType({}))
    tests: Mapping[str, Test] = field(default_factory=lambda: MappingProxyType({}))
    calls: Mapping[str, LastCall] = field(default_factory=lambda: MappingProxyType({}))
    validated_by: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Told:
    """What a 911 call of the station would tell now. `doubt`: why the engine may decide otherwise at the call itself.

    `trunk`: that would be tried first, `conveys`: whether it gets the location.
    """

    resolved: Resolved
    callback_number: str | None
    callback_from: str
    trunk: str
    conveys: bool
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A station's row of the report."""

    station: Station
    told: Told
    placement: Placement | None
    placement_by: str  # said | assumed | unknown
    placement_why: str
    country: str
    proof: Proof | None
    recipients: Sequence[str]
    webhooks: Sequence[str]
    test: Test | None
    call: LastCall | None
    validated_by: str
    direct_dialing: Finding
    notification: Finding
    location: Finding

    @property
    def verdict(self) -> Verdict:
        """The worst of the three."""
        found = {self.direct_dialing.verdict, self.notification.verdict, self.location.verdict}
        return next(verdict for verdict in Verdict if verdict in found)


def row_of(station: Station, ground: Ground) -> Row:
    """The report's row of one station. Never fails for what is stored."""
    told = what_is_told(station, ground)
    location = told.resolved.location
    place = location.id if location is not None else ""
    placement, by, why = placement_of(station, told.resolved, ground)
    proof = ground.proofs.get(station.phone_id)
    recipients = ground.recipients.get(place, ground.recipients.get("", ()))
    chats = ground.chats.get(place, ground.chats.get("", ()))
    country = (location.civic_address.get("country") if location is not None else "") or ground.table.country
    findings = (
        _direct_dialing(station, proof, numbers_of(country)),
        _notification(told, recipients, chats, ground),
        _location(told, placement, ground),
    )
    if country.upper() not in UNITED_STATES:
        findings = tuple(_elsewhere(finding, country) for finding in findings)  # type: ignore[assignment]
    return Row(
        station, told, placement, by, why, country.upper(), proof, [*recipients, *chats], ground.webhooks,
        ground.tests.get(place), ground.calls.get(station.line_id) or ground.calls.get(station.phone_id),
        ground.validated_by.get(place, ""), *findings,
    )  # fmt: skip


def _elsewhere(finding: Finding, country: str) -> Finding:
    """47 CFR is no law outside the United States; what was looked at stays told."""
    measure = {
        Verdict.MET: "By its measure it would be met",
        Verdict.NOT_MET: "By its measure it would not be met",
    }.get(finding.verdict, "By its measure it could not be said")
    why = (
        f"47 CFR Part 9 is no law in {country.upper()}: what applies there, ask its regulator. {measure}: {finding.why}"
    )
    return Finding(finding.paragraph, Verdict.NOT_APPLICABLE, why, finding.todo)


# --- what a call would tell -------------------------------------------------------------------------------------------


def what_is_told(station: Station, ground: Ground) -> Told:
    """What the engine would decide for a call of this moment, as the records stand."""
    table, now = ground.table, ground.now
    pbx = table.pbxs.get(station.pbx_id or ground.only_pbx_id or "")
    caller = Caller(identity=station.sip_user, name=station.line_name, device=station.mac)
    resolved = resolve(table, caller, now, pbx=pbx)
    chosen = Lending().choose(table, caller, resolved, pbx.id if pbx else None, now, is_test=True)
    trunks = ranked_trunks(table, (), ground.down, table.trunk_group_for(resolved.location))
    first = trunks[0] if trunks else None
    conveys = first is not None and first.location_mode != "none" and bool(ground.profiles.of(first.profile).takes)
    return Told(
        resolved,
        chosen.number,
        _whose_number(table, resolved, chosen.number, chosen.elin),
        first.name if first is not None else "",
        conveys,
        _doubt(station, ground, resolved, pbx),
    )


def _whose_number(table: AccountTable, resolved: Resolved, number: str | None, elin: str | None) -> str:
    location = resolved.location
    if elin is not None and location is not None:
        return f"one of the {len(table.pool_of(location.id))} numbers lent to calls from {location.name}"
    if number is None:
        return ""
    if number == table.direct_number_for(resolved.phone, resolved.line):
        return "its own"
    if location is not None and number == location.callback_number:
        return f"of {location.name}"
    return "of the account"


def _doubt(station: Station, ground: Ground, resolved: Resolved, pbx: Pbx | None) -> str:
    """Why the call itself may be decided otherwise than `resolved`: the engine is asked as it would be when the PBX
    names no device, and when it takes the caller for somebody else.
    """
    line = resolved.line
    if station.line_id and line is not None and line.id != station.line_id:
        return f"calls of {station.sip_user} are taken for those of {_name_of(line)}, since both fit that name"
    if station.phone_id and ground.holders.get(station.line_id, 0) > 1:
        bare = resolve(ground.table, Caller(identity=station.sip_user), ground.now, pbx=pbx)
        if _differ(bare.location, resolved.location):
            others = ground.holders[station.line_id] - 1
            named = bare.location.name if bare.location is not None else "no location"
            return (
                f"the line is on {others} other {'phone' if others == 1 else 'phones'} too: unless the PBX names the "
                f"phone that calls (X-Callpoint-Device), {named} is sent"
            )
    return ""


def _differ(one: DispatchableLocation | None, other: DispatchableLocation | None) -> bool:
    if one is None or other is None:
        return one is not other
    return one.id != other.id or disagree(one, other)


def _name_of(line: LineRow) -> str:
    return f"line {line.extension or line.sip_user}"


# --- which paragraph --------------------------------------------------------------------------------------------------


def placement_of(station: Station, resolved: Resolved, ground: Ground) -> tuple[Placement | None, str, str]:
    """(which of the three, `said` by somebody or `assumed` or `unknown`, why): a person's word before any guess."""
    if station.placement in set(Placement):
        return Placement(str(station.placement)), "said", "entered by an administrator"
    if station.is_application:
        return Placement.NON_FIXED, "assumed", "an application moves with the computer or telephone that it runs on"
    if resolved.source is Source.CONFIRMED:
        return Placement.OFF_PREMISES, "assumed", "its user confirmed an address for the network it is on"
    seen = ground.table.sightings.get(station.phone_id)
    if seen is not None and seen.bssid and not seen.chassis:
        return Placement.NON_FIXED, "assumed", "it was last seen on Wi-Fi"
    if not station.phone_id:
        return None, "unknown", "the device that this line rings is not provisioned here"
    is_moved = UNPLACED_SIGHTING in resolved.flags
    seen_words = "though it was last seen where no location is" if is_moved else "and nothing seen of it says otherwise"
    return Placement.FIXED, "assumed", f"a telephone at a desk, {seen_words}"


# --- the three paragraphs ---------------------------------------------------------------------------------------------


def _direct_dialing(station: Station, proof: Proof | None, pack: NumberPack) -> Finding:
    paragraph, number, test = "47 CFR § 9.16(b)(1)", pack.primary, min(pack.test, default="")
    if not station.phone_id:
        why = f"No phone with this line is provisioned here, so what its dial plan does with {number} is not known."
        todo = f"Dial {test} from it and listen" if test else "Ask whoever provisions it to prove its dial plan"
        return Finding(paragraph, Verdict.UNKNOWN, why, f"{todo}, or let Callpoint provision the device.")
    if proof is None:
        if station.last_fetch_at is None:
            return Finding(
                paragraph, Verdict.UNKNOWN, "The phone has fetched no configuration yet.",
                "Point it at the provisioning URL and restart it.",
            )  # fmt: skip
        return Finding(
            paragraph, Verdict.UNKNOWN, "No proof of the file that it was last given is kept.",
            "Resync the phone: its dial plan is proven once more and the proof kept.",
        )  # fmt: skip
    at = f"{proof.file}, fetched {_day(proof.fetched_at)}, ETag {proof.etag}"
    if proof.faults:
        return Finding(
            paragraph, Verdict.NOT_MET, f"In {at}, {proof.faults[0]}.", "Correct its template and resync the phone."
        )
    if number not in proof.numbers:
        return Finding(
            paragraph, Verdict.UNKNOWN, f"{at}: {number} was not among the numbers dialled.", "Resync the phone."
        )
    named = " and ".join(sorted(proof.numbers))
    return Finding(paragraph, Verdict.MET, f"{named} leave at once and with no prefix by the dial plan of {at}.")


def _notification(told: Told, recipients: Sequence[str], chats: Sequence[str], ground: Ground) -> Finding:
    paragraph = "47 CFR § 9.16(b)(2)"
    hooks = ", ".join(ground.webhooks)
    if not recipients and not chats and not hooks:
        return Finding(
            paragraph, Verdict.NOT_MET, "Nobody is told of a call: neither account nor location has recipients.",
            "Add a recipient to the account or to the location.",
        )  # fmt: skip
    people = len(recipients if ground.may_mail else ()) + len(chats)
    if not people and not hooks:
        return Finding(
            paragraph, Verdict.NOT_MET, "There are recipients, but no mail server is set up: nobody is mailed.",
            "Set up the mail server.",
        )  # fmt: skip
    if not people:
        return Finding(
            paragraph, Verdict.UNKNOWN, f"Only webhooks are told ({hooks}): whether a person sees it is not known.",
            "Add a recipient who reads mail, and see that a mail server is set up.",
        )  # fmt: skip
    if told.callback_number is None:
        return Finding(
            paragraph, Verdict.UNKNOWN,
            "Recipients are told as the call leaves, but no callback number of this caller is known: unless the PBX "
            "gives one, the message has none (§ 9.3).",
            "Give the line, its location or the account a callback number.",
        )  # fmt: skip
    count = "1 recipient is" if people == 1 else f"{people} recipients are"
    how = "told by mail, SMS or chat" if chats else "mailed"
    more = f"; webhooks too: {hooks}" if hooks else ""
    return Finding(
        paragraph, Verdict.MET,
        f"{count} {how} as the call leaves, which does not wait for it{more}. That they are likely to see or hear it "
        "(ii and iii) is the account's to arrange.",
    )  # fmt: skip


_NUMERALS = {Placement.FIXED: "(i)", Placement.NON_FIXED: "(ii)", Placement.OFF_PREMISES: "(iii)"}


def _location(told: Told, placement: Placement | None, ground: Ground) -> Finding:
    paragraph = f"47 CFR § 9.16(b)(3){_NUMERALS[placement] if placement is not None else ''}"
    for look in (_missing, _unsent, _unsure, _by_placement):
        found = look(told, placement, ground)
        if found is not None:
            return Finding(paragraph, *found)
    return Finding(paragraph, Verdict.MET, _good_words(told))


_Found = tuple[Verdict, str, str]


def _missing(told: Told, _placement: Placement | None, _ground: Ground) -> _Found | None:
    """No location, none that somebody can be sent to, or none that was validated (§ 9.3)."""
    location = told.resolved.location
    if location is None:
        todo = "Give the phone, its line, its network or its PBX a location."
        return Verdict.NOT_MET, "No location would go with a call: no source knows one.", todo
    civic, geo = location.civic_address.as_dict(), location.geo
    if not is_dispatchable(civic, geo):
        return Verdict.NOT_MET, f"{location.name} names an area, no place that help can be sent to.", "Complete it."
    if missing := missing_parts(civic, geo):
        return Verdict.NOT_MET, f"{location.name} lacks its {' and its '.join(missing)}.", "Complete the address."
    if location.status == "rejected":
        return Verdict.NOT_MET, f"The address of {location.name} was rejected by its validator.", "Correct the address."
    if location.validated_at is None or location.status != "validated":
        todo = "Have it validated; where no validator knows it, let a test call read it back, and accept what is right."
        why = f"The address of {location.name} was never validated as it stands, and § 9.3 asks for a validated one."
        return Verdict.NOT_MET, why, todo
    return None


def _unsent(told: Told, _placement: Placement | None, ground: Ground) -> _Found | None:
    """There is a location, and a call does not take it along."""
    if not told.trunk and not ground.has_last_resort:
        return Verdict.NOT_MET, "No trunk is switched on, so no call could leave.", "Add a trunk, or switch one on."
    if not told.trunk:
        why = "Calls leave by another account's trunk of last resort alone; what that conveys is not known here."
        return Verdict.UNKNOWN, why, "Add a trunk of this account."
    if not told.conveys:
        number = told.callback_number or "the number it calls with"
        why = (
            f"The trunk {told.trunk} takes no location with the call: responders get the address that its carrier has "
            f"on file for {number}, which is not known here."
        )
        return Verdict.UNKNOWN, why, "Let the trunk take the location, or check the carrier's record by dialling 933."
    return None


def _unsure(told: Told, placement: Placement | None, _ground: Ground) -> _Found | None:
    """The engine may decide otherwise when the call comes."""
    resolved = told.resolved
    if told.doubt:
        todo = "Let the PBX name the phone with each call, or give each phone a line of its own."
        return Verdict.UNKNOWN, f"It depends: {told.doubt}.", todo
    if DISAGREEMENT in resolved.flags:
        others = [each for each in resolved.verdict if each.said and not each.taken]
        named = ", ".join(sorted({f"{each.source.value.replace('_', ' ')}: {each.said}" for each in others}))
        why = f"Sources name different places: {_name(resolved)} would be sent, and others say {named}."
        return Verdict.UNKNOWN, why, "See which is right and correct the other."
    if UNPLACED_SIGHTING in resolved.flags and placement is not Placement.NON_FIXED:
        why = f"A record places it at {_name(resolved)}, but it was seen at a switch or access point of none."
        return Verdict.UNKNOWN, why, "Add that switch or access point, which the phone's page names, to its location."
    return None


def _by_placement(told: Told, placement: Placement | None, _ground: Ground) -> _Found | None:
    """What each of the three needs beyond an address that is good."""
    resolved = told.resolved
    source, name = resolved.source, _name(resolved)
    if placement is None:
        todo = "Say on the line what kind of device it is."
        return Verdict.UNKNOWN, f"{name} would be sent; whether the device is there, nobody has said.", todo
    if source in DEFAULTS:
        todo = "Give the phone or its line this location, or enter the subnets of the site."
        return Verdict.UNKNOWN, f"Only a default would be sent ({name}): nothing says that this device is there.", todo
    if STALE_SIGHTING in resolved.flags:
        why = f"It was last seen at {name} more than a day ago; where it is now is not known."
        return Verdict.UNKNOWN, why, "Have switches, access points or the phone itself report it more often."
    if placement is Placement.FIXED or source in SIGHTED or source is Source.CONFIRMED:
        return None
    if placement is Placement.NON_FIXED:
        todo = "Enter the access points, switches or subnets of the premises, or let its user confirm where it is."
        why = f"A record places it at {name}, and stays behind when the device is carried elsewhere."
        return Verdict.NOT_MET, why, todo
    todo = "Let its user confirm the address on the network that it is used on."
    return Verdict.UNKNOWN, f"A record places it at {name}; nobody has confirmed that on its network.", todo


def _good_words(told: Told) -> str:
    resolved = told.resolved
    location = resolved.location
    assert location is not None
    taken = next(each for each in resolved.verdict if each.taken)
    words = f"{location.name} goes with the call by way of {told.trunk}: {taken.why}."
    if STALE in resolved.flags:
        words += " Nobody has confirmed it for more than a year: look whether it is still right."
    named = {name for name, _value in location.civic_address.elements}
    if location.geo is None and not named & _INSIDE:
        words += " It names no floor, suite or room: add one where responders need it (§ 9.3)."
    return words


def _name(resolved: Resolved) -> str:
    return resolved.location.name if resolved.location is not None else "no location"


def _day(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


# --- as a file and the API tell it ------------------------------------------------------------------------------------


_FINDINGS = ("direct_dialing", "notification", "dispatchable_location")
COLUMNS = (
    "device_id", "mac", "vendor", "model", "label", "key", "line_id", "extension", "line_name", "sip_user",
    "placement", "placement_by", "placement_why", "verdict", "country", "location_id", "location_name",
    "civic_address", "location_source", "location_why", "location_age_s", "location_flags", "evidence",
    "location_status", "validated_at", "validated_by", "trunk", "callback_number", "callback_from", "dial_proof",
    "dial_numbers", "dial_file", "dial_etag", "dial_fetched_at", "recipients", "webhooks", "test_tried_at",
    "test_outcome", "test_detail", "test_passed_at", "call_at", "call_kind", "call_outcome", "last_fetch_at",
    "phone_status", *(f"{name}{ending}" for name in _FINDINGS for ending in ("", "_paragraph", "_why", "_todo")),
)  # fmt: skip


def told_whole(row: Row) -> dict[str, Any]:
    """The row as flat columns, the same in CSV, JSON Lines and the API; times are UTC datetimes."""
    return _of_device(row) | _of_place(row) | _of_proofs(row) | _of_findings(row)


def _of_device(row: Row) -> dict[str, Any]:
    station = row.station
    return {
        "device_id": station.phone_id or station.line_id,
        "mac": station.mac,
        "vendor": station.vendor,
        "model": station.model,
        "label": station.label,
        "key": station.key,
        "line_id": station.line_id,
        "extension": station.extension,
        "line_name": station.line_name,
        "sip_user": station.sip_user,
        "placement": row.placement.value if row.placement is not None else "",
        "placement_by": row.placement_by,
        "placement_why": row.placement_why,
        "verdict": row.verdict.value,
        "country": row.country,
    }


def _of_place(row: Row) -> dict[str, Any]:
    resolved = row.told.resolved
    location = resolved.location
    taken = next((each for each in resolved.verdict if each.taken), None)
    return {
        "location_id": location.id if location is not None else "",
        "location_name": location.name if location is not None else "",
        "civic_address": location.civic_address.as_dict() if location is not None else {},
        "location_source": resolved.source.value,
        "location_why": taken.why if taken is not None else "",
        "location_age_s": taken.age_s if taken is not None else None,
        "location_flags": list(resolved.flags),
        "evidence": [
            f"{each.source.value}: {each.said or '-'} ({each.why}){'; taken' if each.taken else ''}"
            for each in resolved.verdict
        ],
        "location_status": location.status if location is not None else "",
        "validated_at": location.validated_at if location is not None else None,
        "validated_by": row.validated_by,
        "trunk": row.told.trunk,
        "callback_number": row.told.callback_number or "",
        "callback_from": row.told.callback_from,
    }


def _of_proofs(row: Row) -> dict[str, Any]:
    proof, test, call = row.proof, row.test, row.call
    return {
        "dial_proof": "" if proof is None else "faulty" if proof.faults else "proven",
        "dial_numbers": list(proof.numbers) if proof is not None else [],
        "dial_file": proof.file if proof is not None else "",
        "dial_etag": proof.etag if proof is not None else "",
        "dial_fetched_at": proof.fetched_at if proof is not None else None,
        "recipients": list(row.recipients),
        "webhooks": list(row.webhooks),
        "test_tried_at": test.tried_at if test is not None else None,
        "test_outcome": test.outcome if test is not None else "",
        "test_detail": test.detail if test is not None else "",
        "test_passed_at": test.passed_at if test is not None else None,
        "call_at": call.sent_at if call is not None else None,
        "call_kind": call.kind if call is not None else "",
        "call_outcome": call.outcome if call is not None else "",
        "last_fetch_at": row.station.last_fetch_at,
        "phone_status": row.station.status,
    }


def _of_findings(row: Row) -> dict[str, Any]:
    found = zip(_FINDINGS, (row.direct_dialing, row.notification, row.location), strict=True)
    told: dict[str, Any] = {}
    for name, finding in found:
        told |= {name: finding.verdict.value, f"{name}_paragraph": finding.paragraph}
        told |= {f"{name}_why": finding.why, f"{name}_todo": finding.todo}
    return told
