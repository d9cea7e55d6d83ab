"""What the INVITE to one trunk looks like: the carrier's profile and the trunk, compiled once, applied per call. Pure.

`Dialect` is made when a trunk is first used and kept as long as its row. `Outgoing` is what the INVITEs of one call
have in common; it keeps the bodies composed so far, so that three trunks that want the same location compose it once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

from engine.e911.additional import CallFacts, content_type_of, purpose_of, write_block
from engine.e911.caller import DEVICE_HEADER, SOURCE_HEADER
from engine.e911.carriers import REFERENCE, VALUE, CarrierProfile, Form, Order
from engine.e911.civic import CivicAddress, DispatchableLocation
from engine.e911.dial import TEST_URN, Dialed, Kind
from engine.e911.geolocation import GEOLOCATION, GEOLOCATION_ROUTING, cid_value, geolocation_values
from engine.e911.multipart import BODY_HEADERS, Composed, Part, compose, make_part, media_type, without
from engine.e911.pidf import CONTENT_TYPE, write_pidf
from engine.e911.rows import Trunk
from engine.numbers import NORTH_AMERICA, NumberPack
from engine.sip.forward import Edit
from engine.sip.message import Request
from engine.sip.uri import bracketed

STRIPPED_PREFIX = b"x-callpoint-"
# the caller's own claims about who it is; ours replaces them. Privacy would make the carrier hide the callback number
# (RFC 3323)
STRIPPED = ("P-Asserted-Identity", "P-Preferred-Identity", "Privacy")
BARELY_STRIPPED = ("Privacy", DEVICE_HEADER, SOURCE_HEADER)
# by these carriers and their SBCs know an emergency call (RFC 3261 §20.26, RFC 7135); a test call is none
_MARKING_EMERGENCIES = ("Priority", "Resource-Priority")
LOCATION_HEADERS = (GEOLOCATION, GEOLOCATION_ROUTING)
_DESCRIBING = tuple((name, name.lower().encode()) for name in BODY_HEADERS)
# words of a description lose their end; a number or a code with its end cut off names another place, so it is left out
MAY_BE_CUT = frozenset({"LOC", "RD", "NAM", "LMK", "LMKP", "BLD", "PLC", "PCN", "A2", "A3", "A4", "A5"})


@dataclass(slots=True)
class Outgoing:
    """What the INVITEs of one call have in common.

    Args:
        location: None: there is none to convey.
        entity: The presentity of its PIDF-LO.
        call_id: Our own identifier of the call; makes the Content-ID and the boundary.
        numbers: Of the country the caller is in.
        user, name: Who calls, for carriers that want an endpoint in place of a number.
        make_reference: The URI under which the location can be fetched, None when none is served. Asked at most once.
        domain: Ours, for identifiers that name who made them.
        is_caller_s: The location is the one that the request itself carries by value, and its header leads there.
        organization, contact_number, language: Whose PBX it is, who answers there, and in which language.
    """

    request: Request
    dialed: Dialed
    callback_number: str | None
    location: DispatchableLocation | None
    entity: str
    now: datetime
    call_id: str
    numbers: NumberPack = NORTH_AMERICA
    user: str = ""
    name: str = ""
    make_reference: Callable[[], str | None] | None = None
    domain: str = "callpoint.invalid"
    is_caller_s: bool = False
    organization: str = ""
    contact_number: str = ""
    language: str = "en"
    _composed: dict[object, Composed] = field(default_factory=dict, init=False, repr=False)
    _reference: str | None = field(default=None, init=False, repr=False)
    _values: dict[str, str] | None = field(default=None, init=False, repr=False)

    @property
    def is_test(self) -> bool:
        return self.dialed.kind is Kind.TEST

    def _service(self) -> str:
        digits = self.dialed.digits
        if digits.startswith("urn:"):
            return digits
        return TEST_URN if self.is_test else self.numbers.service_of(digits)

    def reference(self) -> str | None:
        """The location's URI, made once."""
        if self._reference is None and self.make_reference is not None:
            self._reference, self.make_reference = self.make_reference(), None
        return self._reference

    def values(self) -> dict[str, str]:
        """What forms may ask for, but the number, which is each trunk's own."""
        if self._values is None:
            self._values = {
                "callback": self.callback_number or "",
                "user": quote(self.user[:64], safe="!*'()&=+$,.~_-", errors="surrogateescape") or "anonymous",
                "name": _quotable(self.name),
                "service": self._service(),
                "call": self.call_id.rpartition("_")[2],
                "domain": self.domain,
            }
        return self._values


def plain_edit(trunk: Trunk, outgoing: Outgoing) -> Edit:
    """The least a carrier can do with: the number, who to call back, and nothing of a profile or a location."""
    is_test, number, host = outgoing.is_test, outgoing.callback_number, bracketed(trunk.host)
    dialed = trunk.test_number or "933" if is_test else outgoing.numbers.number_for(outgoing.dialed.digits)
    remove = stripped_headers(outgoing.request) + STRIPPED + ("Priority",)
    add = (("P-Asserted-Identity", f"<sip:{number}@{host}>"),) if number else ()
    return Edit(
        f"sip:{dialed}@{host}",
        remove,
        add if is_test else (*add, ("Priority", "emergency")),
        keeps_location=b"geolocation" in outgoing.request.shape.first,
    )


def bare_edit(trunk: Trunk, dialed: Dialed, numbers: NumberPack) -> Edit:
    """The number alone, as the caller's country dials it. Whom the PBX asserts stays: nothing better is known."""
    number = trunk.test_number or "933" if dialed.kind is Kind.TEST else numbers.number_for(dialed.digits)
    is_test = dialed.kind is Kind.TEST
    return Edit(
        f"sip:{number}@{bracketed(trunk.host)}", BARELY_STRIPPED + _MARKING_EMERGENCIES if is_test else BARELY_STRIPPED
    )


class Dialect:
    """A trunk's profile with everything filled in that stays the same from call to call."""

    __slots__ = (
        "_add", "_carrier_id", "_from", "_from_plain", "_geolocation", "_identity", "_identity_plain", "_is_simple",
        "_numbers", "_removes", "_test_number", "_uri", "profile", "trunk",
    )  # fmt: skip

    def __init__(self, trunk: Trunk, profile: CarrierProfile) -> None:
        self.trunk, self.profile = trunk, profile
        host = bracketed(trunk.host)
        self._uri = Form(profile.request_uri, host=host)
        self._from, self._from_plain = Form(profile.from_, host=host), Form(profile.from_without_number, host=host)
        self._identity = Form(profile.p_asserted_identity, host=host)
        self._identity_plain = Form(profile.p_asserted_identity_without_number, host=host)
        self._geolocation, self._carrier_id = Form(profile.geolocation), Form(profile.carrier_id, host=host)
        always, on_emergency = (
            tuple((name, Form(value, host=host)) for name, value in added)
            for added in (profile.add, profile.add_on_emergency)
        )
        self._add = {True: always, False: on_emergency + always}  # by whether it is a test
        self._numbers = dict(profile.numbers)
        self._test_number = trunk.test_number or profile.test_number
        self._removes = STRIPPED + profile.remove
        forms = [self._uri, self._from, self._from_plain, self._identity, self._identity_plain]
        asked = frozenset().union(*(form.fields for form in forms + [form for _, form in self._add[False]]))
        self._is_simple = asked <= {"number", "callback"}  # the rest of the fields need not be worked out

    def edits(self, outgoing: Outgoing) -> tuple[Edit, Edit | None]:
        """The request as this trunk wants it, with the location it takes; and what follows a 424 or 488 to that: no
        location of anybody, in no header and no part, None when there was none.
        """
        uri, remove, add, from_ = self._plain(outgoing)
        has_own = b"geolocation" in outgoing.request.shape.first
        located = self._located(outgoing, remove, add, has_own=has_own) if self.conveys(outgoing) else None
        all_remove, all_add, by_value = located or (remove, add, False)
        content_type, body = None, None
        if by_value or self.profile.additional_data:
            composed = self._composed(outgoing, by_value=by_value)
            content_type, body = composed.content_type, composed.body
            all_remove += composed.moved
            all_add += tuple(("Call-Info", _block_value(outgoing, block)) for block in self.profile.additional_data)
        edit = Edit(uri, all_remove, all_add, content_type, body, from_, has_own)
        may_matter = has_own or body is not None or located is not None
        return edit, self._bare(outgoing.request, edit, remove, add) if may_matter else None

    @staticmethod
    def _bare(request: Request, first: Edit, remove: tuple[str, ...], add: tuple[tuple[str, str], ...]) -> Edit:
        body = _body_without_locations(request)
        remove += LOCATION_HEADERS
        if body == b"":
            remove += ("Content-Type", *BODY_HEADERS)
        return Edit(first.request_uri, remove, add, None, body, first.from_)

    def conveys(self, outgoing: Outgoing) -> bool:
        """Whether anything of ours goes along: there is a location, and neither trunk nor carrier refuses all."""
        return outgoing.location is not None and self.trunk.location_mode != "none" and bool(self.profile.takes)

    def shortened(self, location: DispatchableLocation) -> tuple[str, ...]:
        """The elements of its address that this carrier gets shortened or not at all."""
        return _within(location, self.profile.civic_limits)[1] if self.profile.civic_limits else ()

    def _plain(self, outgoing: Outgoing) -> tuple[str, tuple[str, ...], tuple[tuple[str, str], ...], str | None]:
        """(Request-URI, headers that go, headers that come, From) but for the location."""
        profile, number = self.profile, outgoing.callback_number
        values = {"callback": number or "", "number": self._number(outgoing)}
        if not self._is_simple:
            values |= outgoing.values()
        identity = (self._identity if number else self._identity_plain).fill(values)
        from_ = (self._from if number else self._from_plain).fill(values)
        add: tuple[tuple[str, str], ...] = (("P-Asserted-Identity", identity),) if identity else ()
        remove = _stripped(outgoing.request.names) + self._removes
        if outgoing.is_test:
            remove += _MARKING_EMERGENCIES
        elif profile.priority:
            remove += ("Priority",)
            add += (("Priority", profile.priority),)
        if added := self._add[outgoing.is_test]:
            add += _not_there_yet(outgoing.request, [(name, form.fill(values)) for name, form in added])
        # a caller without a name has no quoted one
        return self._uri.fill(values), remove, add, from_.removeprefix('"" ') or None

    def _number(self, outgoing: Outgoing) -> str:
        if outgoing.is_test:
            return self._test_number
        number = outgoing.numbers.number_for(outgoing.dialed.digits)
        return self._numbers.get(number, number) if self._numbers else number

    # --- location -----------------------------------------------------------------------------------------------------

    def _located(
        self, outgoing: Outgoing, remove: tuple[str, ...], add: tuple[tuple[str, str], ...], *, has_own: bool
    ) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...], bool] | None:
        """(headers that go, headers that come, is there a part of ours) with the location; None when no form can be
        had.
        """
        if has_own and outgoing.is_caller_s and self._passes_on():
            return *self._routed(remove, add), False
        by_value, value = self._forms(outgoing)
        if by_value:
            part = self._geolocation.fill({"uri": cid_value(_content_id(outgoing))})
            value = f"{part}, {value}" if value else part
        if not value:
            return None
        behind, replaces = self._others(outgoing) if has_own else ((), False)
        remove = (*remove, GEOLOCATION) if replaces else remove
        add = (*add, (GEOLOCATION, value), *((GEOLOCATION, other) for other in behind))
        return *self._routed(remove, add), by_value

    def _routed(
        self, remove: tuple[str, ...], add: tuple[tuple[str, str], ...]
    ) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        """With the Geolocation-Routing that the carrier wants; only one may be there."""
        routing = self.profile.geolocation_routing
        return ((*remove, GEOLOCATION_ROUTING), (*add, (GEOLOCATION_ROUTING, routing))) if routing else (remove, add)

    def _passes_on(self) -> bool:
        """Whether the location that a caller brought goes on as it is: it is the one we would send, and a second copy
        of it would only be one more for the receiver to doubt.
        """
        profile = self.profile
        is_kept = profile.caller_location == "keep" and profile.geolocation_order is not Order.ONLY
        return is_kept and VALUE in profile.takes and self.trunk.location_mode != REFERENCE

    def _forms(self, outgoing: Outgoing) -> tuple[bool, str]:
        """(by value?, the reference's Geolocation value): as the trunk is set, within what the carrier takes.

        Where the form asked for cannot be had, the other one goes: a location in another form beats none.
        """
        mode, takes = self.trunk.location_mode, self.profile.takes
        by_value = VALUE in takes and mode != REFERENCE
        reference = self._reference_value(outgoing) if REFERENCE in takes and (mode != VALUE or not by_value) else ""
        return by_value or (VALUE in takes and not reference), reference

    def _reference_value(self, outgoing: Outgoing) -> str:
        """The carrier's own identifier of the place where it has one, else a URI of ours."""
        assert outgoing.location is not None
        if self.profile.carrier_id:
            known = next((each for name, each in outgoing.location.carrier_ids if name == self.profile.name), None)
            if known:
                return self._carrier_id.fill({"id": known})
        uri = outgoing.reference()
        return f"<{uri}>" if uri else ""

    def _others(self, outgoing: Outgoing) -> tuple[tuple[str, ...], bool]:
        """(the caller's own values to write behind ours, whether its lines go from where they are)."""
        order = self.profile.geolocation_order
        if order is Order.ONLY or self.profile.caller_location == "replace":
            return (), True
        return (geolocation_values(outgoing.request), True) if order is Order.FIRST else ((), False)

    def _composed(self, outgoing: Outgoing, *, by_value: bool) -> Composed:
        """The body with our parts: additional data, and the location by value as the last one."""
        profile = self.profile
        replaces = by_value and profile.caller_location == "replace" and _is_multipart(outgoing.request)
        key = (profile.pidf_method, profile.civic_limits, replaces, by_value, profile.additional_data)
        found = outgoing._composed.get(key)  # noqa: SLF001 - kept there for the dialects of one call
        if found is None:
            parts = [_block(outgoing, block) for block in profile.additional_data]
            location = outgoing.location
            if by_value and location is not None:
                location = _within(location, profile.civic_limits)[0] if profile.civic_limits else location
                pidf = write_pidf(location, outgoing.entity, outgoing.now, method=profile.pidf_method)
                parts.append(make_part(pidf, content_type=CONTENT_TYPE, content_id=_content_id(outgoing)))
            found = outgoing._composed[key] = _compose(outgoing, parts, replaces=replaces)  # noqa: SLF001
        return found


def _content_id(outgoing: Outgoing, block: str = "") -> str:
    return f"{outgoing.call_id}{f'.{block}' if block else ''}@callpoint.invalid"


def _block_value(outgoing: Outgoing, block: str) -> str:
    return f"<{cid_value(_content_id(outgoing, block))}>;purpose={purpose_of(block)}"


def _block(outgoing: Outgoing, block: str) -> bytes:
    facts = CallFacts(
        reference=f"{outgoing.call_id}@{outgoing.domain}",
        organization=outgoing.organization,
        domain=outgoing.domain,
        contact=f"tel:{outgoing.contact_number}" if outgoing.contact_number else "",
        language=outgoing.language,
        name=outgoing.name,
        callback_number=outgoing.callback_number or "",
    )
    content_type, content_id = content_type_of(block), _content_id(outgoing, block)
    return make_part(write_block(block, facts), content_type=content_type, content_id=content_id)


def _compose(outgoing: Outgoing, parts: list[bytes], *, replaces: bool) -> Composed:
    request = outgoing.request
    first = request.shape.first
    content_type = request.header("Content-Type") if b"content-type" in first else None
    body = request.body
    if replaces and content_type is not None:
        body = without(body, content_type, _is_location)
        content_type = content_type if body else None
    described = [name for name, key in _DESCRIBING if key in first]
    return compose(
        body,
        parts,
        content_type=content_type,
        token=outgoing.call_id,
        part_headers=[(name, request.header(name) or "") for name in described],
    )


def _not_there_yet(request: Request, added: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Less those whose `purpose` the caller's own header has: an identifier given further up stays the only one."""
    return tuple(
        (name, value)
        for name, value in added
        if not (purpose := value.rpartition(";purpose=")[2] if ";purpose=" in value else "")
        or not any(f"purpose={purpose}".lower() in own.lower() for own in request.headers(name))
    )


def _is_location(part: Part) -> bool:
    return part.media_type == CONTENT_TYPE


def _is_multipart(request: Request) -> bool:
    at = request.shape.first.get(b"content-type")
    return at is not None and b"multipart/" in request.lines[at].lower()


def _body_without_locations(request: Request) -> bytes | None:
    """The caller's own body less the locations in it; None where there are none."""
    at = request.shape.first.get(b"content-type")
    if at is None or (b"multipart/" not in (line := request.lines[at].lower()) and b"pidf+xml" not in line):
        return None
    content_type = request.header("Content-Type") or ""
    if media_type(content_type) == CONTENT_TYPE:
        return b""
    body = without(request.body, content_type, _is_location)
    return None if body == request.body else body


@lru_cache(maxsize=1024)
def _stripped(names: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(sorted({name.decode("latin-1") for name in names if name.startswith(STRIPPED_PREFIX)}))


def stripped_headers(request: Request) -> tuple[str, ...]:
    """Headers between the PBX and us that nobody behind us may see."""
    return _stripped(request.names)


@lru_cache(maxsize=2048)
def _within(
    location: DispatchableLocation, limits: tuple[tuple[str, int], ...]
) -> tuple[DispatchableLocation, tuple[str, ...]]:
    """The location with no element longer than the carrier takes, and the elements that were."""
    most = dict(limits)
    kept: list[tuple[str, str]] = []
    over: list[str] = []
    for name, value in location.civic_address.elements:
        limit = most.get(name, len(value))
        if len(value) <= limit:
            kept.append((name, value))
            continue
        over.append(name)
        if name in MAY_BE_CUT and limit:
            kept.append((name, value[:limit].rstrip()))
    civic = CivicAddress(tuple(kept), location.civic_address.language)
    return (replace(location, civic_address=civic), tuple(over)) if over else (location, ())


def _quotable(name: str) -> str:
    """A display name fit for a quoted string: printable, without quotes and backslashes."""
    return "".join(char for char in name if char.isprintable() and char not in '"\\')[:80]
